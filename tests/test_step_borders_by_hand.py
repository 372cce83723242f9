"""Where the work of steps ran, against loops over single ranges and launches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts.loops import find_iterations, where_work_ran, whole_steps
from analyzers.facts.unmarked import find_launch_loop
from tests.traces_in_memory import build, forget

US = 1_000


@st.composite
def programs(draw):
    """Steps of one or two processes that follow each other, and launches on two streams."""
    ranges, launches = [], []
    for process in range(1, draw(st.integers(1, 2)) + 1):
        at = draw(st.integers(0, 20))
        for _ in range(draw(st.integers(1, 5))):
            length = draw(st.integers(1, 30))
            ranges.append((process, at, at + length))
            at += length + draw(st.sampled_from([0, 0, 7]))
        free = {}
        for _ in range(draw(st.integers(1, 8))):
            called, stream = draw(st.integers(0, at + 10)), draw(st.integers(7, 8))
            launches.append([process, process - 1, stream, called, draw(st.integers(1, 40))])
        for launch in sorted((one for one in launches if one[0] == process), key=lambda x: x[3]):
            begin = max(launch[3] + 1, free.get(launch[2], 0))
            launch.append(begin)
            free[launch[2]] = begin + launch[4]
    return ranges, launches


def facts_of(folder, ranges, launches):
    process, device, stream, called, length, begin = zip(*launches, strict=True)
    ids = np.arange(1, len(launches) + 1)
    kernels = {"start_us": list(begin), "duration_us": list(length), "correlation_id": ids}
    kernels |= {"process": list(process), "device": list(device), "stream": list(stream)}
    calls = {"start_us": list(called), "duration_us": 1, "correlation_id": ids}
    calls |= {"process": list(process), "thread": [10 * p for p in process]}
    owner, start, end = zip(*ranges, strict=True)
    spans = {"start_us": list(start), "end_us": list(end), "process": list(owner)}
    spans |= {"thread": [10 * p for p in owner]}
    names = [f"ProfilerStep#{n}" for n in range(len(ranges))]
    return build(folder, kernels=kernels, api_calls=calls, ranges={**spans, "name": names})


def main_stream(ranges, launches):
    """Return the stream that most ranges use, of equal ones the one that is busy longer."""
    used = {}
    for _, _, stream, called, length, _ in launches:
        inside = [n for n, (_, start, end) in enumerate(ranges) if start <= called < end]
        if inside:
            places, busy = used.get(stream, (set(), 0))
            used[stream] = (places | set(inside), busy + length)
    ranked = {stream: (len(places), busy) for stream, (places, busy) in used.items()}
    best = max(ranked.values(), default=None)
    return [stream for stream, rank in ranked.items() if rank == best]


def borders(ranges, launches, stream):
    """Return from where to where the work of each range ran, in µs."""
    own = sorted((x for x in launches if x[2] == stream), key=lambda x: x[3])
    result = []
    for _, start, end in ranges:
        inside = [x for x in own if start <= x[3] < end]
        before = [x[5] + x[4] for x in own if x[3] < start]
        begin, stop = start, end
        if inside:
            begin = max([start, *before])
            stop = max([end, *before, *(x[5] + x[4] for x in inside)])
        result.append((begin * US, max(stop * US, begin * US + 1)))
    return result


@settings(max_examples=30, deadline=None)
@given(programs())
def test_steps_begin_when_earlier_work_is_done_and_end_when_their_own_is(tmp_path_factory, drawn):
    ranges, launches = drawn
    facts = facts_of(tmp_path_factory.mktemp("t"), ranges, launches)
    table = facts.ranges
    found = list(zip(*(part.tolist() for part in where_work_ran(facts, table)), strict=True))
    for place, process in enumerate(facts.process_keys):
        own_ranges = [r for r in ranges if r[0] == place + 1]
        own_launches = [x for x in launches if x[0] == place + 1]
        rows = np.flatnonzero((table["process_key"] == process).to_numpy())
        streams = main_stream(own_ranges, own_launches)
        if len(streams) > 1:
            continue  # two streams are as good as each other
        expected = borders(own_ranges, own_launches, streams[0] if streams else None)
        assert [found[row] for row in rows] == expected
    spans = {s.process_key: s for s in whole_steps(facts)}
    work = sum(x[4] for x in launches)
    in_steps = sum(
        x[4] for x in launches if any(r[1] <= x[3] < r[2] for r in ranges if r[0] == x[0])
    )
    assert bool(spans) == (10 * in_steps >= 9 * work)
    for process, span in spans.items():
        place = facts.process_keys.tolist().index(process)
        own = [r for r in ranges if r[0] == place + 1]
        mine = [x for x in launches if x[0] == place + 1]
        used = [any(r[1] <= x[3] < r[2] for x in mine) for r in own]
        first, last = used.index(True), len(own) - 1 - used[::-1].index(True)
        ends = [x[5] + x[4] for x in mine if own[first][1] <= x[3] < own[last][2]]
        rows = np.flatnonzero((table["process_key"] == process).to_numpy())
        assert span.count == sum(used)
        assert span.end_ns == max(own[last][2], *ends) * US
        assert span.start_ns == min(
            found[row][0] for row, is_used in zip(rows, used, strict=True) if is_used
        )
    forget(facts.trace)


@pytest.mark.parametrize(("count", "found"), [(3, 3), (2, 0)])
def test_three_equal_ranges_are_a_loop_and_two_are_not(tmp_path, count, found):
    ranges = [(1, 100 * n, 100 * n + 90) for n in range(count)]
    launches = [[1, 0, 7, 100 * n + 5, 20, 100 * n + 10] for n in range(count)]
    facts = facts_of(tmp_path, ranges, launches)
    assert len(find_iterations(facts)[0]) == found


@pytest.mark.parametrize(("outside", "found"), [(4, 4), (5, 0)])
def test_a_loop_submits_at_least_half_of_the_launches(tmp_path, outside, found):
    ranges = [(1, 100 * n, 100 * n + 90) for n in range(4)]
    launches = [[1, 0, 7, 100 * n + 5, 20, 100 * n + 10] for n in range(4)]
    launches += [[1, 0, 7, 500 + 30 * n, 20, 505 + 30 * n] for n in range(outside)]
    assert len(find_iterations(facts_of(tmp_path, ranges, launches))[0]) == found


def words(letters, pause=5, length=10):
    """Launch one kernel a letter, one behind the other; a space is a pause on the device."""
    at, rows = 0, []
    for letter in letters:
        if letter == " ":
            at += pause
            continue
        rows.append((letter, at, at + length))
        at += length
    return rows


def unmarked(folder, rows, **more):
    names, start, end = zip(*rows, strict=True)
    ids = np.arange(1, len(rows) + 1)
    kernels = {"name": list(names), "start_us": list(start), "end_us": list(end)}
    calls = {"start_us": [10 * n for n in range(len(rows))], "duration_us": 1}
    return build(
        folder,
        kernels={**kernels, "correlation_id": ids, **more},
        api_calls={**calls, "correlation_id": ids},
    )


def test_found_repetitions_begin_when_the_one_before_is_done(tmp_path):
    rows = words("xy " + "abc " * 8)
    loop = find_launch_loop(unmarked(tmp_path, rows))
    begins = [one.start_ns for one in loop.iterations]
    ends = [one.end_ns for one in loop.iterations]
    assert len(begins) == 8
    assert begins[0] == 25 * US  # behind other work it begins with itself
    assert begins[1:] == ends[:-1]
    assert ends == [(25 + 30 + 35 * n) * US for n in range(8)]
    assert loop.period.launches == 3
    assert [one.name for one in loop.iterations[:2]] == ["repetition 1", "repetition 2"]
    assert not any(one.is_marked for one in loop.iterations)
    assert "8 iterations" in loop.note
    assert (
        "the same 3 launches again and again (92 % of the GPU's work; high confidence)" in loop.note
    )


def test_of_two_devices_the_one_with_more_repeated_work_tells(tmp_path):
    for longer in (0, 1):
        parts = [words("abc" * 8, length=20 if device == longer else 10) for device in (0, 1)]
        if longer == 0:
            parts = [words("abc" * 8, length=20), words("ab" * 12, length=10)]
        rows = [(n, s, e, device) for device, part in enumerate(parts) for n, s, e in part]
        rows = sorted(rows, key=lambda x: x[1])
        folder = tmp_path / str(longer)
        folder.mkdir()
        facts = unmarked(folder, [r[:3] for r in rows], device=[r[3] for r in rows])
        loop = find_launch_loop(facts)
        devices = facts.launches["device"].to_numpy()[loop.rows]
        assert set(devices.tolist()) == {longer}
        assert loop.period.launches == 3


@pytest.mark.parametrize(("known", "order"), [(29, "cba" * 9 + "bac"), (28, "abc" * 10)])
def test_the_order_of_calls_tells_unless_a_twentieth_is_unknown(tmp_path, known, order):
    # Of each three launches the device runs first what was called last.
    names, start, end = zip(*words("abc" * 10), strict=True)
    ids = np.arange(1, 31)
    called = [10 * (3 * (n // 3) + 2 - n % 3) for n in range(30)]
    kernels = {"name": list(names), "start_us": list(start), "end_us": list(end)}
    calls = {"start_us": called[:known], "duration_us": 1, "correlation_id": ids[:known]}
    facts = build(tmp_path, kernels={**kernels, "correlation_id": ids}, api_calls=calls)
    rows = find_launch_loop(facts).rows
    name_id = facts.launches["name_id"].to_numpy()[rows]
    assert "".join(facts.trace.names(name_id).tolist()) == order
