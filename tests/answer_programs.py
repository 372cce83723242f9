"""Small programs with several of everything, for the numbers in ``tests/answers/``.

Lengths rise from step to step, so that no smallest, middle and largest one are equal.
"""

from dataclasses import replace

import numpy as np

from benchmarks.simulated.program import (
    TO_DEVICE,
    TO_HOST,
    Copy,
    Graph,
    Kernel,
    Manage,
    Memset,
    Poll,
    Program,
    Range,
    Record,
    Stream,
    StreamWait,
    Thread,
    Wait,
    Work,
)
from collectors.schema import CopyKind
from tests.compare_scenarios import noisy, side

US = 1_000
SIDE, SECOND = Stream(13), Stream(7, device=1)


def looped(step, count=8):
    """Return a thread that goes through ``step(number)`` in a range."""
    operations = []
    for number in range(count):
        operations += [Range(f"step {number}"), *step(number), Range()]
    return operations


def own_graphs(number):
    """Graphs of the program's own beside single launches, some of which load or allocate."""
    graphs = [Graph([2 * US + 100 * k for k in range(12)], call_ns=6 * US + 300 * number)]
    launches = [Kernel(3 * US + 200 * k + 50 * number, f"single_{k}") for k in range(7)]
    return [*graphs * 2, Wait(), *launches, Wait()]


def pause_across_a_range(number):
    """The host pauses before, in and behind a range, between two launches."""
    return [
        *(Kernel(9 * US, "before"), Work((300 + 7 * number) * US), Range("load")),
        *(Work((500 + 13 * number) * US), Range(), Work(40 * US), Kernel(20 * US, "after")),
        *(Range("save"), Work(90 * US), Range(), Wait("cudaDeviceSynchronize")),
    ]


def slow_calls(number):
    """Launch calls so slow that their work begins inside of them, and full queues."""
    slow = [Kernel(8 * US, "early", call_ns=(30 + number) * US)] * 3
    return [*slow, *[Kernel(60 * US, "deep", call_ns=3 * US)] * 10, Wait()]


def events_between_streams(number):
    """Two streams that wait for each other, one wait that costs and one that does not."""
    return [
        *(Kernel((50 + number) * US, "first"), Record(1), StreamWait(1, SIDE)),
        *(Kernel(30 * US, "second", SIDE), Record(2, SIDE), StreamWait(2)),
        *(Kernel(15 * US, "third"), Wait("cudaEventSynchronize", event=2), Work(12 * US)),
    ]


def two_gpus(number):
    """One thread that feeds two GPUs, the second of them longer."""
    return [
        *(Kernel((20 + number) * US, "left"), Kernel((70 + number) * US, "right", SECOND)),
        *(Copy(600_000, TO_HOST, SECOND), Memset(4 * US), Work(60 * US)),
        *(Wait("cudaStreamSynchronize", SECOND), Kernel(11 * US, "left_again"), Wait()),
    ]


def copies(number):
    """Copies of every kind before, behind and beside kernels."""
    return [
        *(Copy(3_000_000 + 100_000 * number, TO_DEVICE, pageable=True), Kernel(150 * US, "use")),
        *(Copy(2_000_000, TO_DEVICE), Copy(1_500_000, TO_HOST, SIDE), Kernel(40 * US, "use")),
        *(Copy(64, TO_HOST, blocking=True), Copy(900_000, TO_HOST, pageable=True, blocking=True)),
        Work(25 * US),
    ]


def polls_and_memory(number):
    """Polls, allocations and frees that wait, between short kernels."""
    return [
        *(Manage("cudaMalloc", (80 + number) * US), Kernel(25 * US, "fill"), Memset(6 * US)),
        *(Poll(), Work(15 * US), Kernel(35 * US, "work"), Poll(until_done=False)),
        *(Manage("cudaFree", 30 * US, waits=True), Manage("cudaEventCreate", 5 * US), Wait()),
    ]


def _alone(step):
    return lambda: Program((Thread(looped(step)),))


def _both_gpus():
    return Program((Thread(looped(two_gpus)),), devices=2)


def _two_threads():
    """A process of two threads on two streams, and a process beside it."""
    other = [replace(k, stream=SIDE) for k in (Kernel(18 * US, "other"), Kernel(27 * US, "last"))]
    own = looped(lambda n: [Kernel((12 + n) * US, "own"), Work((100 + n) * US), Wait()])
    beside = looped(lambda _: [Work(55 * US), *other, Wait("cudaStreamSynchronize", SIDE)])
    return Program((Thread(own, 1, 1), Thread(beside, 1, 2), Thread(own, 2, 3)))


PROGRAMS = {
    "own graphs": _alone(own_graphs),
    "a pause across a range": _alone(pause_across_a_range),
    "slow calls": _alone(slow_calls),
    "events between streams": _alone(events_between_streams),
    "a thread for two GPUs": _both_gpus,
    "copies of every kind": _alone(copies),
    "polls and memory": _alone(polls_and_memory),
    "two threads and a process": _two_threads,
}


def _one(name, seed, level, **changes):
    return side(noisy(np.random.default_rng(seed), 20, level), name=name, **changes)


def _workload(*values):
    metrics = [
        {"name": "throughput", "value": values[0], "unit": "items/s", "better": "higher"},
        {"name": "error", "value": values[1], "unit": "pct", "better": "lower"},
        {"name": "note", "value": "none"},
    ]
    return {"metrics": metrics, "step_ns": [1_000 * (v % 7 + values[0]) for v in range(12)]}


def _operators(*counts):
    keys = [("aten::mm", "[[64, 64], [64, 64]]"), ("aten::add", "[[8]]"), ("aten::mul", "[[9]]")]
    return {key: count for key, count in zip(keys, counts, strict=True) if count}


PAIRS = {
    "peaks, clocks and throttling": (
        {"peak_bytes": {"allocated": 1_000, "reserved": 4_000}, "sm_clock_mhz": 1_700.0}
        | {"telemetry": {"throttled_share": 0.021, "driver": "550.54"}},
        {"peak_bytes": {"allocated": 1_500, "other": 7}, "sm_clock_mhz": 1_650.0}
        | {"telemetry": {"throttled_share": 0.004, "sm_clock_mhz": 1_410.0}},
    ),
    "equal clocks": ({"sm_clock_mhz": 1_700.0}, {"sm_clock_mhz": 1_690.0}),
    "what workloads state": ({"summary": _workload(100, 0.5)}, {"summary": _workload(140, 0.75)}),
    "equal shapes": ({"operators": _operators(30.0, 20.0, 1.0)},) * 2,
    "one other shape": (
        {"operators": _operators(30.0, 20.0, 1.0)},
        {"operators": {("aten::mm", "[[32,64],[64,64]]"): 30.0} | _operators(0, 20.0, 1.0)},
    ),
    "other shapes": (
        {"operators": _operators(30.0, 2.0, 1.0)},
        {"operators": {("aten::mm", "[[32, 64]]"): 30.0, ("aten::add", "[[9]]"): 3.0}},
    ),
    "shapes of one side": ({"operators": _operators(30.0, 2.0, 1.0)}, {}),
    "another GPU": ({"gpu": "H100"}, {"gpu": "A100"}),
    "another loop": ({"loop": "step"}, {"loop": "batch"}),
}


def pair(title):
    """Return the two sides of one of ``PAIRS``."""
    base, new = PAIRS[title]
    return _one("base.sqlite", 1, 1_000.0, **base), _one("new.sqlite", 2, 900.0, **new)


def late_shift():
    """Return a run that gets slower in its midst, and one that warms up."""
    rng = np.random.default_rng(7)
    shifting = np.append(noisy(rng, 20, 500.0, 0.01), noisy(rng, 12, 620.0, 0.01))
    warming = np.append([4_000.0, 900.0], noisy(rng, 24, 500.0, 0.01))
    return (
        side(shifting, name="shifting.sqlite", keep_warm_up=False),
        side(warming, name="warming.sqlite", keep_warm_up=False),
    )


# Lengths at thresholds of the analysis and a nanosecond to both sides.


def _around(*thresholds):
    return [t + d for t in thresholds for d in (-1, 0, 1)]


class _Timeline:
    """Calls, kernels and copies of one thread, each call behind the one before."""

    def __init__(self):
        self.calls, self.kernels, self.copies = [], [], []
        self.now = 1_000_000

    def call(self, name, length_ns, pause_ns=0):
        begin = self.now + pause_ns
        self.now = begin + length_ns
        self.calls.append((begin, self.now, name, len(self.calls) + 1))
        return begin

    def tables(self):
        start, end, name, number = (list(c) for c in zip(*self.calls, strict=True))
        tables = {
            "api_calls": {"start_ns": start, "end_ns": end, "name": name, "correlation_id": number}
        }
        start, end, name, number = (list(c) for c in zip(*self.kernels, strict=True))
        tables["kernels"] = {"start_ns": start, "end_ns": end, "name": name}
        tables["kernels"] |= {"correlation_id": number}
        if self.copies:
            start, end, size, number = (list(c) for c in zip(*self.copies, strict=True))
            tables["copies"] = {"start_ns": start, "end_ns": end, "bytes": size}
            tables["copies"] |= {"correlation_id": number, "kind": CopyKind.DEVICE_TO_HOST}
        return tables


def device_pauses():
    """Kernels that were queued long before, with pauses around the ordinary ones' limits."""
    line = _Timeline()
    pauses = [*_around(10_000, 20_000, 50_000), *[1_500] * 12]
    for _ in range(len(pauses) + 1):
        line.call("cudaLaunchKernel", 2_000)
    begin = line.now
    for number, pause in enumerate([0, *pauses], 1):
        line.kernels.append((begin + pause, begin + pause + 30_000, "queued", number))
        begin += pause + 30_000
    return line.tables()


def host_pauses():
    """Launches behind pauses of the host around its limits, calls of a first use among them."""
    line = _Timeline()
    for number, pause in enumerate(_around(100_000, 1_000_000)):
        line.call("cudaLaunchKernel", 4_000, pause)
        begin = line.now + 3_000
        line.kernels.append((begin, begin + 20_000 + number, "paused", len(line.calls)))
    for length in _around(1_000_000):
        line.call("cudaLaunchKernel", length)
        begin = line.now + 3_000
        line.kernels.append((begin, begin + 25_000, f"first_{length}", len(line.calls)))
    return line.tables()


def read_backs():
    """Copies that keep the host waiting, of sizes around the limits of small ones."""
    line = _Timeline()
    for size in _around(1_024, 65_536):
        for _ in range(3):
            line.call("cudaLaunchKernel", 4_000, 5_000)
            begin = line.now + 2_000
            line.kernels.append((begin, begin + 40_000, "before", len(line.calls)))
            called = line.call("cudaMemcpy", 60_000)
            line.copies.append((called + 50_000, called + 55_000, size, len(line.calls)))
    return line.tables()


def short_kernels():
    """Kernels of lengths around the longest small one, each after as long a wait and a bit."""
    line = _Timeline()
    for length in [*_around(100_000), *[3_000] * 9]:
        line.call("cudaLaunchKernel", 4_000, max(length - 2_000, 0))
        begin = max(line.now + 2_000, line.kernels[-1][1] + length + 1 if line.kernels else 0)
        line.kernels.append((begin, begin + length, "short", len(line.calls)))
        line.now = begin
    return line.tables()


EDGES = {
    "pauses of the device": device_pauses,
    "pauses of the host": host_pauses,
    "read-backs": read_backs,
    "short kernels": short_kernels,
}
