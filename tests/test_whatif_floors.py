"""No prediction is faster than what must still run, one operation after the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzers.facts.facts import COMMUNICATION, COPY, KERNEL, build_facts
from analyzers.facts.windows import choose_window
from analyzers.whatif import ranges
from analyzers.whatif.build import build_graph
from analyzers.whatif.floors import (
    BelowFloorError,
    device_floor_ns,
    require_floors,
    thread_floor_ns,
)
from analyzers.whatif.moments import Moments
from analyzers.whatif.run import run
from analyzers.whatif.tables import ReplayedTimes
from analyzers.whatif.whatif import explore
from benchmarks.simulated import families, known_work
from benchmarks.simulated.cases import Maker, one_thread
from benchmarks.simulated.program import Copy, Kernel, Program, Thread, Wait, Work
from collectors import open_trace
from tests.whatif_helpers import (
    MS,
    OPERATIONS,
    SEVEN,
    SIDE,
    US,
    about,
    explored,
    facts_of,
    some,
    whole,
)

SAMPLES = sorted((Path(__file__).parents[1] / "traces" / "synthetic").glob("*.sqlite"))
# How changes begin that make kernels themselves faster, or fewer.
SHORTENS_KERNELS = ("kernel", "fusion", "precision")
SHORTENS_COPIES = "copies"
HIDES_COLLECTIVES = "communication"


def covered_ns(spans):
    """Add up moments that any of the spans holds, one span after the other."""
    total, reach = 0, 0
    for start, end in sorted(spans):
        total += max(end - max(start, reach), 0)
        reach = max(reach, end)
    return total


def longest_ns(facts, window, kinds, key):
    """Return the most time that the operations of one key cover within the window."""
    spans = {}
    for launch in facts.launches.itertuples():
        start, end = max(launch.start_ns, window.start_ns), min(launch.end_ns, window.end_ns)
        if launch.kind in kinds and end > start:
            spans.setdefault(key(launch), []).append((start, end))
    return max(map(covered_ns, spans.values()), default=0)


def stream_of(launch):
    return launch.process_index, launch.device, launch.stream


def device_of(launch):
    return launch.process_index, launch.device


def floors_of(facts, window, change):
    """Return what the change leaves alone: the kernels of a device, everything of a stream."""
    if change.startswith(SHORTENS_KERNELS):
        return (longest_ns(facts, window, (COPY,), stream_of),)
    kinds = [KERNEL]
    if not change.startswith(SHORTENS_COPIES):
        kinds.append(COPY)
    if not change.startswith(HIDES_COLLECTIVES):
        kinds.append(COMMUNICATION)
    return (
        longest_ns(facts, window, (KERNEL,), device_of),
        longest_ns(facts, window, kinds, stream_of),
    )


def assert_above_floor(facts, window):
    answer = explore(facts, window)
    for p in answer.predictions:
        for floor in floors_of(facts, window, p.change):
            assert p.low_ns >= floor, p.change
        assert p.floor_ns <= p.low_ns <= p.high_ns <= p.measured_ns
    return answer.predictions


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_no_prediction_of_a_sample_beats_what_must_still_run(path, tmp_path):
    facts = build_facts(open_trace(path, tmp_path))
    assert_above_floor(facts, choose_window(facts, "", ()))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "family",
    ["sync_every_step", "launch_late_host", "host_input", "host_pauses", "memory_in_the_loop"],
)
def test_no_prediction_of_a_program_beats_what_must_still_run(family, seed, tmp_path):
    facts = facts_of(tmp_path, getattr(families, family)(Maker(seed)).program)
    assert assert_above_floor(facts, whole(facts))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(threads=st.lists(st.lists(OPERATIONS, min_size=2, max_size=20), min_size=1, max_size=2))
def test_no_prediction_of_any_program_beats_what_must_still_run(threads, tmp_path):
    operations = [[Kernel(5 * US), *thread] for thread in threads]
    facts = facts_of(
        tmp_path, Program([Thread(o, number=n) for n, o in enumerate(operations, start=1)])
    )
    assert_above_floor(facts, whole(facts))


@pytest.mark.parametrize("times", [0.5, 1, 2])
def test_the_floor_is_that_of_the_changed_program(times, tmp_path):
    facts = facts_of(tmp_path, families.host_pauses(Maker(3)).program)
    window = whole(facts)
    graph = build_graph(facts, window.start_ns)
    operations = graph.operations
    slower = replace(operations, duration=(operations.duration * times).astype("int64"))
    changed = replace(graph, operations=slower)
    floor = device_floor_ns(changed, window)
    assert floor == pytest.approx(times * device_floor_ns(graph, window), rel=1e-3)


def test_kernels_of_two_streams_that_did_not_overlap_add_up(tmp_path):
    turns = [
        o for _ in range(10)
        for o in (Kernel(MS, stream=SEVEN), Wait(stream=SEVEN), Kernel(MS, stream=SIDE),
                  Wait(stream=SIDE), Work(200 * US))
    ]  # fmt: skip
    facts = facts_of(tmp_path, one_thread(turns))
    window = whole(facts)
    assert device_floor_ns(build_graph(facts), window) == 20 * MS
    assert about(explore(facts, window), "host").floor_ns == 20 * MS


def test_kernels_of_two_streams_that_overlap_count_once(tmp_path):
    together = [o for _ in range(10) for o in (Kernel(MS, stream=SEVEN), Kernel(MS, stream=SIDE))]
    facts = facts_of(tmp_path, one_thread(together))
    floor = device_floor_ns(build_graph(facts), whole(facts))
    assert 10 * MS <= floor < 10.5 * MS


def test_copies_of_one_direction_add_up_over_streams(tmp_path):
    copies = [o for _ in range(5) for o in (Copy(25 * 1_000_000, stream=SEVEN), Kernel(US),
                                            Copy(25 * 1_000_000, stream=SIDE), Kernel(US, stream=SIDE))]  # fmt: skip  # noqa: E501
    facts = facts_of(tmp_path, one_thread(copies))
    window = whole(facts)
    of_copies = facts.launches[facts.launches["kind"] == COPY]
    summed = int((of_copies["end_ns"] - of_copies["start_ns"]).sum())
    assert device_floor_ns(build_graph(facts), window) == summed


def test_a_thread_that_launches_late_is_the_floor(tmp_path):
    """The host's dispatching takes longer than its kernels: no wait less makes it faster."""
    steps = [
        o
        for _ in range(40)
        for o in (Work(60 * US, is_dispatch=True), Kernel(10 * US, call_ns=5 * US), Wait())
    ]
    facts = facts_of(tmp_path, one_thread(steps))
    window = whole(facts)
    found = about(explore(facts, window), "sync")
    # From the first to the last kernel the thread dispatches 39 times and launches as often.
    assert found.floor_ns == pytest.approx(39 * 65 * US, rel=0.01)
    assert found.low_ns >= found.floor_ns > device_floor_ns(build_graph(facts), window)


def test_waits_are_no_work_of_a_thread(tmp_path):
    steps = [o for _ in range(20) for o in (Kernel(MS, call_ns=5 * US), Wait())]
    facts = facts_of(tmp_path, one_thread(steps))
    graph, window = build_graph(facts), whole(facts)
    times = run(graph)
    assert thread_floor_ns(graph, times, Moments(graph, window).span(times)) < MS


def test_a_thread_works_no_longer_than_the_window_is(tmp_path):
    facts = facts_of(tmp_path, families.host_pauses(Maker(3)).program)
    graph, window = build_graph(facts), whole(facts)
    times = run(graph)
    low, high = Moments(graph, window).span(times)
    assert 0 < thread_floor_ns(graph, times, (low, high)) <= high - low
    assert thread_floor_ns(graph, times, (high, high)) == 0


def test_a_time_below_the_floor_is_no_prediction():
    fits = some(low=0.4, high=0.6)
    assert replace(fits, floor_ns=400 * US).floor_ns == 400 * US
    with pytest.raises(ValueError, match="floor"):
        replace(fits, floor_ns=400 * US + 1)
    with pytest.raises(ValueError, match="no range"):
        replace(fits, low_ns=600 * US + 1)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("duration", "does not take its time"),
        ("stream", "a stream works longer"),
        ("engine", "a copy engine works longer"),
        ("thread", "a host thread works longer"),
    ],
)
def test_a_replay_that_no_machine_could_run_is_no_answer(column, words, tmp_path):
    steps = [o for _ in range(5) for o in (Kernel(MS), Copy(25_000_000, stream=SIDE), Wait())]
    graph = build_graph(facts_of(tmp_path, one_thread(steps)))
    times = run(graph)
    require_floors(graph, times)
    last = {c: getattr(times, c).copy() for c in ("begin", "end", "start", "stop")}
    if column == "duration":
        last["stop"][0] += 1
    elif column == "thread":
        last["end"][-1] = last["begin"][0]
    else:
        kept = graph.operations.engine >= 0 if column == "engine" else graph.operations.engine < 0
        end = np.flatnonzero(kept)[-1]
        last["start"][end], last["stop"][end] = (last[c][end] - 20 * MS for c in ("start", "stop"))
        if column == "engine":  # on a stream of its own, so that only the engine is asked
            lane = np.arange(len(graph.operations)) + 9
            graph = replace(graph, operations=replace(graph.operations, lane=lane))
    with pytest.raises(BelowFloorError, match=words):
        require_floors(graph, ReplayedTimes(**last))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "family", ["products_below_the_roof", "chains_to_fuse", "products_in_32_bits"]
)
def test_changes_of_kernels_keep_the_floor_of_what_they_leave(family, number, tmp_path):
    facts = facts_of(tmp_path, getattr(known_work, family)(Maker(number)).program)
    changes = {p.change for p in assert_above_floor(facts, whole(facts))}
    expected = {"products_below_the_roof": "kernels.roof", "chains_to_fuse": "fusion"}
    assert number == 1 or expected.get(family, "precision") in changes


def test_every_change_is_asked_whether_a_machine_could_run_it(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(ranges, "require_floors", lambda graph, _: asked.append(graph))
    facts = facts_of(tmp_path, known_work.products_in_32_bits(Maker(0)).program)
    answer = explore(facts, whole(facts))
    assert len(asked) >= 1 + len(answer.predictions) >= 4


def test_at_worst_two_streams_take_turns_as_they_did(tmp_path):
    """The host held them apart; whether one needs the other's results is not recorded."""
    copy = Copy(96_000_000, stream=SIDE)
    both = (Kernel(3 * MS), Wait(), Work(2 * MS), copy, Wait(stream=SIDE))
    facts = facts_of(tmp_path, Program([Thread((*both, Work(2 * MS)) * 12)]))
    in_turns_ns = longest_ns(facts, whole(facts), (KERNEL, COPY), device_of)
    told = about(explore(facts, whole(facts)), "sync")
    assert in_turns_ns > 12 * 3 * MS + told.floor_ns // 2
    assert told.low_ns < 0.9 * in_turns_ns
    assert told.high_ns == in_turns_ns < told.measured_ns


def test_a_change_that_overlaps_is_not_held_to_taking_turns(tmp_path):
    copies = [(Copy(240_000_000), Kernel(9 * MS), Wait())] * 10
    told = about(
        explored(tmp_path, Program([Thread(tuple(o for s in copies for o in s))])),
        "copies.overlapped",
    )
    assert told.high_ns < 0.9 * told.measured_ns
