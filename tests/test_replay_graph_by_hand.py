"""The graph that a replay walks, call by call: pauses, hand-overs, costs and typical times."""

from dataclasses import dataclass

import numpy as np
import pytest

from analyzers.facts.facts import KERNEL
from analyzers.whatif.build import build_graph
from analyzers.whatif.changes.host import HOST_SLOWER, _slower_host
from analyzers.whatif.tables import NOTHING
from tests.traces_in_memory import build

US = 1_000


@dataclass(frozen=True)
class Called:
    """A launch call and its kernel, in µs."""

    thread: int
    begin: int
    end: int
    stream: int
    start: int
    stop: int


def program(seed):
    """Two threads that launch on two streams; some calls are slow, some come after long pauses."""
    rng = np.random.default_rng(seed)
    made, at, free = [], {11: 100, 12: 103}, {7: 0, 8: 0}
    for _ in range(60):
        thread = int(rng.choice(list(at)))
        if rng.random() < 0.2:  # goes on after the other one has ended
            at[thread] = max(*at.values()) + int(rng.integers(0, 4))
        begin = at[thread] + int(rng.choice([1, 3, 19, 20, 21, 60]))
        if any(one.begin == begin for one in made):
            begin += 1
        length = int(rng.choice([3, 4, 5, 49, 50, 51, 90]))
        stream = int(rng.integers(7, 9))
        offset = int(rng.choice([length + 1, length + 6, length, length // 2, 0]))
        start = max(begin + offset, free[stream] + int(rng.choice([0, 1, 2, 3])))
        stop = start + int(rng.integers(1, 30))
        made.append(Called(thread, begin, begin + length, stream, start, stop))
        at[thread], free[stream] = begin + length, stop
    return sorted(made, key=lambda one: one.begin)


def graph_of(folder, made, **more):
    ids = list(range(1, len(made) + 1))
    api = {"start_us": [c.begin for c in made], "end_us": [c.end for c in made]}
    kernels = {"start_us": [c.start for c in made], "end_us": [c.stop for c in made]}
    facts = build(
        folder,
        api_calls={**api, "correlation_id": ids, "thread": [c.thread for c in made], **more},
        kernels={**kernels, "correlation_id": ids, "stream": [c.stream for c in made]},
    )
    return build_graph(facts)


def previous(made, number, of):
    """Return the call before one, on its thread or stream; None for the first."""
    return next((c for c in reversed(made[:number]) if of(c) == of(made[number])), None)


@pytest.mark.parametrize("seed", range(6))
def test_pauses_and_hand_overs_call_by_call(tmp_path, seed):
    made = program(seed)
    graph = graph_of(tmp_path, made)
    origin = graph.origin_ns // US
    for number, call in enumerate(made):
        before = previous(made, number, lambda c: c.thread)
        ended = before.end if before else origin
        gap = call.begin - ended
        assert graph.pauses.gap[number] == max(gap, 0) * US
        source = -1
        if before is None or gap > 20:
            done = [n for n, c in enumerate(made) if c.end <= call.begin]
            last = max(done, key=lambda n: (made[n].end, n), default=-1)
            if last >= 0 and made[last].thread != call.thread and last < number:
                source = last if made[last].end > ended else -1
        assert graph.pauses.handover[number] == source
        lag = call.begin - made[source].end if source >= 0 else 0
        assert graph.pauses.handover_lag[number] == lag * US


def mean_of_most(values, otherwise):
    """Return the mean without what lies beyond the 2nd and 98th of a hundred, by nearest rank."""
    if len(values) < 4:
        return otherwise
    ordered = sorted(values)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.02, 0.98))
    return float(np.mean([v for v in values if low <= v <= high]))


@pytest.mark.parametrize("seed", range(6))
def test_typical_times_and_what_calls_take_call_by_call(tmp_path, seed):
    made = program(seed)
    graph = graph_of(tmp_path, made)
    latencies, pauses, stops = [], [], []
    for number, call in enumerate(made):
        before = previous(made, number, lambda c: c.stream)
        stop = before.stop if before else -(10**9)
        stops.append(stop)
        if stop + 10 < call.begin and call.start >= call.begin and call.start - call.end < 50:
            latencies.append((call.start - call.end) * US)
        if call.end + 5 <= stop and 0 <= call.start - stop <= 10:
            pauses.append((call.start - stop) * US)
    latency = mean_of_most(latencies, 2_000)
    assert graph.typical.latency[KERNEL] == pytest.approx(latency)
    assert graph.typical.gap[KERNEL] == pytest.approx(mean_of_most(pauses, 1_000))
    assert graph.typical.gap_is_known == (len(pauses) >= 4)
    for number, (call, stop) in enumerate(zip(made, stops, strict=True)):
        length = call.end - call.begin
        lead = max(length * US + round(latency), 0)
        # A slow call submitted its work early on, if that began in it on an idle stream.
        if length > 50 and call.begin <= call.start < call.end and stop < call.start - 10:
            lead = (call.start - call.begin) * US
        assert graph.costs.lead[number] == lead, number
        assert graph.costs.own[number] == length * US
        assert graph.targets.before[number] == graph.targets.after[number] == NOTHING


@pytest.mark.parametrize(
    ("length", "start", "stop_before", "lead"),
    [
        (51, 30, 19, 30),  # from more than 50 µs on
        (50, 30, 19, 50),
        (90, 0, -11, 0),
        (90, 89, 0, 89),
        (90, 90, 0, 90),  # behind the call
        (90, 30, 20, 90),  # the stream was not idle for more than 10 µs
        (90, 31, 20, 31),
    ],
)
def test_a_slow_call_submits_its_work_early(tmp_path, length, start, stop_before, lead):
    begin = 1_000
    made = [
        Called(11, 900, 904, 7, 905, begin + stop_before),
        Called(11, begin, begin + length, 7, begin + start, begin + start + 50),
    ]
    graph = graph_of(tmp_path, made)
    latency = 0 if lead != length else int(graph.typical.latency[KERNEL])
    assert graph.costs.lead[1] == lead * US + latency


def test_a_slower_host_takes_longer_for_its_own_work_and_waits_as_long(tmp_path):
    made = [Called(11, 100 * n, 100 * n + 8, 7, 100 * n + 10, 100 * n + 60) for n in range(20)]
    names = ["cudaLaunchKernel", "cudaMemcpy", "cudaFree", "cudaLaunchKernel"] * 5
    graph = graph_of(tmp_path, made, name=names)
    held = (graph.targets.after != NOTHING) | (graph.targets.before != NOTHING)
    slower = _slower_host(graph)
    own = graph.costs.own + np.where(held, 0, np.rint(graph.costs.own * HOST_SLOWER))
    assert 0 < held.sum() <= 10  # of copies and of frees
    assert slower.costs.own.tolist() == own.tolist()
    assert (slower.costs.lead - graph.costs.lead).tolist() == (own - graph.costs.own).tolist()
    assert slower.pauses.gap.tolist() == np.rint(graph.pauses.gap * 1.25).tolist()
    assert slower.costs.tail.tolist() == graph.costs.tail.tolist()


def test_hand_overs_take_longer_on_a_slower_host(tmp_path):
    graph = graph_of(tmp_path, program(1))
    assert (graph.pauses.handover_lag > 0).any()
    slower = _slower_host(graph).pauses.handover_lag
    assert slower.tolist() == np.rint(graph.pauses.handover_lag * 1.25).tolist()
