"""Families of programs whose trouble is known, because it was planted: the cases of ``accuracy``.

A family is a function from a random generator to a ``Case``. Strengths, kernel lengths and counts
are drawn anew for every seed. What is expected is a judgement about the program as written, never
about what whyslow says of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.simulated.program import (
    MAIN,
    TO_HOST,
    Copy,
    Graph,
    Kernel,
    Manage,
    Memset,
    Operation,
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
from benchmarks.simulated.recorder import PREFIX, Recorder

MB = 1_000_000
HEALTHY, UNKNOWN = "healthy", "unknown"
COLLECTIVE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
UNIFIED_TO_DEVICE, MANAGED = 11, 3  # as CUPTI numbers unified memory
SIDE = Stream(13)
PAGEABLE_COPIES, MISSING_GRAPH = "bandwidth.pageable_copies", "launch.missing_graph"
PARTS = ("launch", "sync", "bandwidth", "host", "communication")

Tweak = Callable[[Recorder], None]


@dataclass(frozen=True)
class Case:
    """A program with known trouble.

    Attributes:
        program: What runs.
        planted: The cause, ``healthy``, or ``unknown`` where the recording cannot tell; empty
            when several were planted and the largest true loss decides.
        also_right: Other causes that an expert would accept as the verdict.
        tweaks: Changes to the recording, such as leaving tables out.
        never: Findings that would be wrong.
        spoil: Damages the file.
    """

    program: Program
    planted: str = ""
    also_right: tuple[str, ...] = ()
    tweaks: tuple[Tweak, ...] = field(default=())
    never: tuple[str, ...] = ()
    spoil: Callable[[Path], None] | None = None


class Maker:
    """Draws the lengths of a program's operations."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def about(self, ns: float, spread: float = 0.15) -> int:
        """Return ``ns``, more or less."""
        return max(1, round(ns * (1 + spread * (2 * self.random.random() - 1))))

    def between(self, low: float, high: float) -> float:
        """Return a number, small ones as likely as large ones in proportion."""
        return float(low * (high / low) ** self.random.random())

    def dispatch(self, ns: float = 8_000) -> Work:
        """Return the host's work from one launch to the next."""
        return Work(self.about(ns), is_dispatch=True)

    def kernel(self, ns: float, **more: object) -> Kernel:
        """Return a kernel of about this length."""
        return Kernel(self.about(ns), call_ns=self.about(4_000), **more)  # type: ignore[arg-type]

    def launches(
        self, count: int, ns: float, dispatch_ns: float = 8_000, stream: Stream | None = None
    ) -> list[Operation]:
        """Return launches with the dispatching between them."""
        more = {"stream": stream} if stream else {}
        return [
            o for _ in range(count) for o in (self.dispatch(dispatch_ns), self.kernel(ns, **more))
        ]


def loop(steps: Sequence[Sequence[Operation]], name: str = "step") -> list[Operation]:
    """Put each step into a range."""
    return [o for step in steps for o in (Range(name), *step, Range())]


def one_thread(operations: Sequence[Operation]) -> Program:
    """Return a program with a single thread."""
    return Program([Thread(operations)])


def _steps(make: Maker, total: int = 1_500, per_step: int = 30) -> int:
    return max(4, total // per_step + make.random.randrange(5))


# --- one cause each -------------------------------------------------------------------------


def launch_small_kernels(make: Maker) -> Case:
    """Kernels shorter than the host needs to launch the next."""
    ns, dispatch = make.between(1_500, 8_000), make.between(6_000, 40_000)
    steps = [make.launches(30, ns, dispatch) for _ in range(_steps(make))]
    return Case(one_thread(loop(steps)), "launch")


def launch_late_host(make: Maker) -> Case:
    """Kernels longer than the pause before them, launched too late all the same."""
    ns = make.between(20_000, 40_000)
    steps = [make.launches(20, ns, ns * make.between(1.1, 1.8)) for _ in range(_steps(make))]
    return Case(one_thread(loop(steps)), "launch")


def sync_every_kernel(make: Maker) -> Case:
    """A wait after each kernel."""
    ns = make.between(8_000, 40_000)
    wait = make.random.choice(["cudaStreamSynchronize", "cudaDeviceSynchronize"])
    steps = [
        [o for _ in range(20) for o in (make.dispatch(), make.kernel(ns), Wait(wait))]
        for _ in range(_steps(make))
    ]
    return Case(one_thread(loop(steps)), "sync")


def sync_every_step(make: Maker) -> Case:
    """A wait at the end of short steps, after which the queue is empty."""
    kernels, ns = make.random.randrange(3, 6), make.between(12_000, 25_000)
    steps = [
        [*make.launches(kernels, ns, 4_000), Wait(), make.dispatch(make.between(15_000, 60_000))]
        for _ in range(_steps(make) * 4)
    ]
    return Case(one_thread(loop(steps)), "sync")


def sync_read_back(make: Maker) -> Case:
    """``.item()`` after a few kernels: a copy of four bytes, and a wait for it."""
    ns = make.between(10_000, 30_000)
    read: list[Operation] = [Copy(4, TO_HOST, pageable=True), Wait()]
    steps = [
        [o for _ in range(8) for o in (*make.launches(2, ns), *read)] for _ in range(_steps(make))
    ]
    return Case(one_thread(loop(steps)), "sync")


def sync_polling(make: Maker) -> Case:
    """A loop of event queries after each kernel."""
    ns = make.between(10_000, 40_000)
    each: list[Operation] = [make.dispatch(12_000), make.kernel(ns), Poll()]
    return Case(one_thread(loop([each * 10] * _steps(make))), "sync")


def bandwidth_pageable(make: Maker) -> Case:
    """Input copied from pageable memory before each step."""
    size, ns = round(make.between(4, 60) * MB), make.between(100_000, 400_000)
    blocking = make.random.random() < 0.5
    steps = [
        [Copy(size, pageable=True, blocking=blocking), *make.launches(4, ns)] for _ in range(40)
    ]
    # Staging holds the host and the copy holds the device: either is a fair name for it.
    return Case(one_thread(loop(steps)), "bandwidth", also_right=("sync",))


def bandwidth_pinned(make: Maker) -> Case:
    """Pinned copies on the compute stream, which nothing hides."""
    size, ns = round(make.between(10, 100) * MB), make.between(100_000, 400_000)
    steps = [
        [make.dispatch(), Copy(size), *make.launches(4, ns), Copy(size // 2, TO_HOST)]
        for _ in range(60)
    ]
    return Case(one_thread(loop(steps)), "bandwidth", never=(PAGEABLE_COPIES,))


def host_input(make: Maker) -> Case:
    """The next batch is not ready: the loop waits for its loader."""
    ns, wait = make.between(50_000, 200_000), make.between(500_000, 8_000_000)
    os_call = make.random.choice(["pthread_cond_wait", "read", ""])
    steps = [[Work(make.about(wait), os_call), *make.launches(6, ns)] for _ in range(60)]
    return Case(one_thread(loop(steps)), "host")


def host_pauses(make: Maker) -> Case:
    """Garbage collection or a lock now and then, longer than the queue is deep."""
    ns = make.between(30_000, 60_000)
    steps = []
    for _ in range(80):
        step = make.launches(6, ns, 6_000)
        step.insert(make.random.randrange(len(step)), Work(make.about(6 * ns + 900_000)))
        steps.append(step)
    return Case(one_thread(loop(steps)), "host")


def communication_exposed(make: Maker) -> Case:
    """An all-reduce on the compute stream at the end of each step."""
    ns, share = make.between(100_000, 300_000), make.between(0.2, 2)
    reduce = [Kernel(make.about(8 * ns * share), COLLECTIVE, is_collective=True) for _ in range(40)]
    steps = [[*make.launches(8, ns), make.dispatch(), r] for r in reduce]
    return Case(one_thread(loop(steps)), "communication")


def memory_in_the_loop(make: Maker) -> Case:
    """Buffers allocated and freed in every step."""
    ns, length = make.between(20_000, 60_000), make.between(60_000, 300_000)
    steps = [
        [
            Manage("cudaMalloc", make.about(length)),
            *make.launches(3, ns),
            Manage("cudaFree", make.about(length), waits=True),
        ]
        for _ in range(120)
    ]
    # Giving memory back waits for the device: that is an implicit synchronisation, too.
    return Case(one_thread(loop(steps)), "memory", also_right=("sync",))


def dependency_between_gpus(make: Maker) -> Case:
    """Two GPUs take turns: each waits for an event of the other."""
    ns = make.between(100_000, 600_000)
    far = Stream(7, 1)
    steps = [
        [
            *make.launches(2, ns),
            Record(2 * n),
            StreamWait(2 * n, far),
            *make.launches(2, ns, stream=far),
            Record(2 * n + 1, far),
            StreamWait(2 * n + 1),
        ]
        for n in range(60)
    ]
    return Case(Program([Thread(loop(steps))], devices=2), "dependency")


# --- several causes -------------------------------------------------------------------------


def mixed_phases(make: Maker) -> Case:
    """Phases with a trouble each, one after the other; the truth decides which costs most."""
    operations: list[Operation] = []
    for kind in make.random.sample(PARTS, 3):
        lost, steps = make.between(60_000, 600_000), 14
        ns = make.between(20_000, 60_000)
        phase = [[*make.launches(6, ns, 5_000), *_part(make, kind, lost)] for _ in range(steps)]
        operations += [*loop(phase, kind), Wait()]
    return Case(one_thread(operations))


def tangled_steps(make: Maker) -> Case:
    """Several troubles in every step, which hide each other: no single one is to blame."""
    parts = [
        o
        for kind in make.random.sample(PARTS, 3)
        for o in _part(make, kind, make.between(60_000, 700_000))
    ]
    filler = make.launches(6, make.between(50_000, 150_000), 5_000)
    return Case(one_thread(loop([[*filler, *parts] for _ in range(40)])))


def _part(make: Maker, kind: str, lost_ns: float) -> list[Operation]:
    if kind == "launch":
        return make.launches(max(4, round(lost_ns / 16_000)), 3_000, 14_000)
    if kind == "sync":
        count = max(1, round(lost_ns / 24_000))
        return [
            o for _ in range(count) for o in (make.dispatch(12_000), make.kernel(9_000), Wait())
        ]
    if kind == "bandwidth":
        return [make.dispatch(), Copy(round(lost_ns * 24))]
    if kind == "host":
        return [Work(make.about(lost_ns + 900_000), "pthread_cond_wait")]
    return [make.dispatch(), Kernel(make.about(lost_ns), COLLECTIVE, is_collective=True)]


# --- nothing is wrong -----------------------------------------------------------------------


def healthy_deep_queue(make: Maker) -> Case:
    """The host is far ahead; waits come only at the very end."""
    ns = make.between(60_000, 400_000)
    return Case(one_thread([*loop([make.launches(10, ns) for _ in range(60)]), Wait()]), HEALTHY)


def healthy_busy_wait(make: Maker) -> Case:
    """Waits for work that is followed by more in the queue."""
    ns = make.between(80_000, 300_000)
    step = [
        *make.launches(4, ns),
        Record(1),
        *make.launches(4, ns),
        Wait("cudaEventSynchronize", event=1),
    ]
    return Case(one_thread([*make.launches(8, ns), *loop([step] * 50)]), HEALTHY)


def healthy_overlapped_copies(make: Maker) -> Case:
    """Pinned copies on a stream of their own, hidden behind kernels."""
    ns = make.between(200_000, 600_000)
    size = round(ns * make.between(4, 15))
    steps = [[Copy(size, stream=SIDE), *make.launches(4, ns)] for _ in range(60)]
    return Case(one_thread([*make.launches(4, ns), *loop(steps)]), HEALTHY)


def healthy_graphs(make: Maker) -> Case:
    """CUDA graphs of many kernels, launched ahead."""
    ns = make.between(30_000, 90_000)
    graph = Graph([make.about(ns) for _ in range(40)])
    program = one_thread(loop([[make.dispatch(), graph] for _ in range(40)]))
    return Case(program, HEALTHY, never=(MISSING_GRAPH,))


def healthy_two_streams(make: Maker) -> Case:
    """Two streams of kernels that run beside each other."""
    ns = make.between(80_000, 300_000)
    step = [o for stream in (MAIN, SIDE) for o in make.launches(3, ns, stream=stream)]
    return Case(one_thread(loop([step] * 60)), HEALTHY)


# --- what fools others ----------------------------------------------------------------------


def confounder_idle_waiter(make: Maker) -> Case:
    """A second thread that launches nothing waits all the time."""
    ns = make.between(80_000, 300_000)
    main = Thread(loop([make.launches(10, ns) for _ in range(50)]))
    waiter = Thread([Wait("cudaDeviceSynchronize") for _ in range(200)], number=2)
    return Case(Program([main, waiter]), HEALTHY)


def confounder_single_queries(make: Maker) -> Case:
    """Events are queried once in a while, as caching allocators do; the host is late."""
    ns, wait = make.between(50_000, 150_000), make.between(900_000, 3_000_000)
    ask = Poll(until_done=False)
    steps = [[ask, Work(make.about(wait)), ask, *make.launches(4, ns)] for _ in range(60)]
    return Case(one_thread(loop(steps)), "host")


def confounder_harmless_stream_wait(make: Maker) -> Case:
    """Streams wait for events that are long past."""
    ns = make.between(80_000, 300_000)
    steps = [[Record(n, SIDE), *make.launches(6, ns), StreamWait(n)] for n in range(50)]
    return Case(one_thread(loop(steps)), HEALTHY)


def confounder_equal_ids(make: Maker) -> Case:
    """Two processes on a GPU each, whose correlation ids are the same; one waits all the time."""
    ns = make.between(15_000, 30_000)
    busy = loop([make.launches(10, 8 * ns, stream=Stream(7, 1)) for _ in range(40)])
    slow = loop(
        [
            [o for _ in range(20) for o in (make.dispatch(), make.kernel(ns), Wait())]
            for _ in range(60)
        ]
    )
    threads = [Thread(slow), Thread(busy, process=2)]
    return Case(Program(threads, devices=2), "sync")


def confounder_orphans(make: Maker) -> Case:
    """The first kernels were launched before the recording began."""
    case = healthy_deep_queue(make)
    return Case(case.program, HEALTHY, tweaks=(_forget_first_calls,))


def confounder_open_range(make: Maker) -> Case:
    """A range that never ends."""
    case = healthy_deep_queue(make)
    return Case(case.program, HEALTHY, tweaks=(_open_last_range,))


def confounder_call_stacks(make: Maker) -> Case:
    """Every API call is recorded twice."""
    case = sync_every_kernel(make)
    return Case(case.program, "sync", tweaks=(Recorder.repeat_calls,))


def confounder_copy_waits_for_kernel(make: Maker) -> Case:
    """``cudaMemcpy`` of a few bytes only waits for a kernel, while others keep the GPU busy."""
    ns = make.between(200_000, 500_000)
    copy = Copy(64, TO_HOST, blocking=True)
    steps = [[*make.launches(4, ns, stream=SIDE), make.kernel(ns), copy] for _ in range(60)]
    ahead = make.launches(6, ns, stream=SIDE)
    return Case(one_thread([*ahead, *loop(steps)]), HEALTHY)


def confounder_pinned_memcpy(make: Maker) -> Case:
    """``cudaMemcpy``, but of pinned memory: synchronous, and not pageable."""
    size, ns = round(make.between(10, 100) * MB), make.between(100_000, 400_000)
    steps = [[Copy(size, blocking=True), *make.launches(4, ns)] for _ in range(60)]
    return Case(one_thread(loop(steps)), "bandwidth", never=(PAGEABLE_COPIES,))


def confounder_migrations(make: Maker) -> Case:
    """Pages of unified memory that move while a kernel runs: rows of copies without a call."""
    case = healthy_deep_queue(make)
    return Case(case.program, HEALTHY, tweaks=(_migrate_inside_kernels,))


def confounder_one_iteration(make: Maker) -> Case:
    """A single pass through the loop."""
    return Case(one_thread(loop([make.launches(200, make.between(60_000, 200_000))])), HEALTHY)


def confounder_warm_up(make: Maker) -> Case:
    """Modules are loaded in the first step; the rest is fine and much longer."""
    ns = make.between(200_000, 500_000)
    first = [Manage("cuModuleLoadData", 3_000_000), *make.launches(10, ns)]
    steps = [first, *(make.launches(10, ns) for _ in range(59))]
    return Case(one_thread(loop(steps)), HEALTHY)


def confounder_whole_graphs(make: Maker) -> Case:
    """Graphs that were recorded as one block each."""
    ns = make.between(30_000, 90_000)
    graph = Graph([make.about(ns) for _ in range(40)], as_a_whole=True)
    return Case(one_thread(loop([[make.dispatch(), graph] for _ in range(60)])), HEALTHY)


def confounder_memsets(make: Maker) -> Case:
    """Memsets beside kernels, on another stream."""
    ns = make.between(80_000, 300_000)
    steps = [[Memset(make.about(ns / 2), SIDE), *make.launches(6, ns)] for _ in range(60)]
    return Case(one_thread([*make.launches(3, ns), *loop(steps)]), HEALTHY)


# --- what cannot be told --------------------------------------------------------------------


def untold_no_gpu(make: Maker) -> Case:
    """CUDA was not traced."""
    case = host_input(make)
    return Case(case.program, UNKNOWN, tweaks=(_only_the_host,))


def untold_no_calls(make: Maker) -> Case:
    """The API calls were not recorded, and the GPU idles."""
    case = make.random.choice([sync_every_kernel, launch_small_kernels, host_input])(make)
    return Case(case.program, UNKNOWN, tweaks=(_without_calls,))


def untold_no_correlation(make: Maker) -> Case:
    """The correlation ids are lost."""
    case = make.random.choice([sync_every_kernel, launch_small_kernels])(make)
    return Case(case.program, UNKNOWN, tweaks=(_without_correlation,))


def untold_lost_kernels(make: Maker) -> Case:
    """A third of the kernels was dropped."""
    case = sync_every_kernel(make)
    return Case(case.program, UNKNOWN, tweaks=(_drop_kernels,))


def untold_truncated(make: Maker) -> Case:
    """The file ends in the middle."""
    return Case(sync_every_kernel(make).program, UNKNOWN, spoil=_cut_in_half)


def _cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _migrate_inside_kernels(recorder: Recorder) -> None:
    for kernel in recorder.rows(PREFIX + "KERNEL")[::10]:
        place = {k: kernel[k] for k in ("deviceId", "contextId", "globalPid")}
        middle = (kernel["start"] + kernel["end"]) // 2
        recorder.rows(PREFIX + "MEMCPY").append(
            {
                **place,
                "start": middle,
                "end": middle + 2_000,
                "correlationId": 0,
                "streamId": 0,
                "bytes": 65_536,
                "copyKind": UNIFIED_TO_DEVICE,
                "srcKind": MANAGED,
                "dstKind": MANAGED,
            }
        )


def _forget_first_calls(recorder: Recorder) -> None:
    del recorder.rows(PREFIX + "RUNTIME")[:40]


def _open_last_range(recorder: Recorder) -> None:
    recorder.rows("NVTX_EVENTS")[-1]["end"] = None


def _only_the_host(recorder: Recorder) -> None:
    for table in ("KERNEL", "MEMCPY", "MEMSET", "RUNTIME", "SYNCHRONIZATION"):
        recorder.forget(PREFIX + table)


def _without_calls(recorder: Recorder) -> None:
    recorder.forget(PREFIX + "RUNTIME")


def _without_correlation(recorder: Recorder) -> None:
    for row in recorder.rows(PREFIX + "KERNEL"):
        row["correlationId"] = 0


def _drop_kernels(recorder: Recorder) -> None:
    rows = recorder.rows(PREFIX + "KERNEL")
    rows[:] = [row for place, row in enumerate(rows) if place % 3]


SINGLE = (
    launch_small_kernels,
    launch_late_host,
    sync_every_kernel,
    sync_every_step,
    sync_read_back,
    sync_polling,
    bandwidth_pageable,
    bandwidth_pinned,
    host_input,
    host_pauses,
    communication_exposed,
    memory_in_the_loop,
    dependency_between_gpus,
)
MIXED = (mixed_phases,)
TANGLED = (tangled_steps,)
FINE = (
    healthy_deep_queue,
    healthy_busy_wait,
    healthy_overlapped_copies,
    healthy_graphs,
    healthy_two_streams,
)
CONFOUNDERS = (
    confounder_idle_waiter,
    confounder_single_queries,
    confounder_harmless_stream_wait,
    confounder_equal_ids,
    confounder_orphans,
    confounder_open_range,
    confounder_call_stacks,
    confounder_copy_waits_for_kernel,
    confounder_pinned_memcpy,
    confounder_migrations,
    confounder_one_iteration,
    confounder_warm_up,
    confounder_whole_graphs,
    confounder_memsets,
)
UNTOLD = (
    untold_no_gpu,
    untold_no_calls,
    untold_no_correlation,
    untold_lost_kernels,
    untold_truncated,
)

FAMILIES: tuple[Callable[[Maker], Case], ...] = (
    *SINGLE,
    *MIXED * 4,
    *TANGLED,
    *FINE,
    *CONFOUNDERS,
    *UNTOLD,
)
