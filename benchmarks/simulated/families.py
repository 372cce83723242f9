"""Families of programs whose trouble is known, because it was planted.

A family is a function from a random generator to a ``Case``. Strengths, kernel lengths and counts
are drawn anew for every seed. What is expected is a judgement about the program as written, never
about what whyslow says of it.
"""

from __future__ import annotations

from benchmarks.simulated.cases import (
    COLLECTIVE,
    HEALTHY,
    MB,
    MISSING_GRAPH,
    PAGEABLE_COPIES,
    SIDE,
    Case,
    Maker,
    loop,
    one_thread,
    step_count,
)
from benchmarks.simulated.program import (
    MAIN,
    TO_HOST,
    Copy,
    Graph,
    Kernel,
    Manage,
    Operation,
    Poll,
    Program,
    Record,
    Stream,
    StreamWait,
    Thread,
    Wait,
    Work,
)

PARTS = ("launch", "sync", "bandwidth", "host", "communication")


# --- one cause each -------------------------------------------------------------------------


def launch_small_kernels(make: Maker) -> Case:
    """Kernels shorter than the host needs to launch the next."""
    ns, dispatch = make.between(1_500, 8_000), make.between(6_000, 40_000)
    steps = [make.launches(30, ns, dispatch) for _ in range(step_count(make))]
    return Case(one_thread(loop(steps)), "launch")


def launch_late_host(make: Maker) -> Case:
    """Kernels longer than the pause before them, launched too late all the same."""
    ns = make.between(20_000, 40_000)
    steps = [make.launches(20, ns, ns * make.between(1.1, 1.8)) for _ in range(step_count(make))]
    return Case(one_thread(loop(steps)), "launch")


def sync_every_kernel(make: Maker) -> Case:
    """A wait after each kernel."""
    ns = make.between(8_000, 40_000)
    wait = make.random.choice(["cudaStreamSynchronize", "cudaDeviceSynchronize"])
    steps = [
        [o for _ in range(20) for o in (make.dispatch(), make.kernel(ns), Wait(wait))]
        for _ in range(step_count(make))
    ]
    return Case(one_thread(loop(steps)), "sync")


def sync_every_step(make: Maker) -> Case:
    """A wait at the end of short steps, after which the queue is empty."""
    kernels, ns = make.random.randrange(3, 6), make.between(12_000, 25_000)
    steps = [
        [*make.launches(kernels, ns, 4_000), Wait(), make.dispatch(make.between(15_000, 60_000))]
        for _ in range(step_count(make) * 4)
    ]
    return Case(one_thread(loop(steps)), "sync")


def sync_read_back(make: Maker) -> Case:
    """``.item()`` after a few kernels: a copy of four bytes, and a wait for it."""
    ns = make.between(10_000, 30_000)
    read: list[Operation] = [Copy(4, TO_HOST, pageable=True), Wait()]
    steps = [
        [o for _ in range(8) for o in (*make.launches(2, ns), *read)]
        for _ in range(step_count(make))
    ]
    return Case(one_thread(loop(steps)), "sync")


def sync_polling(make: Maker) -> Case:
    """A loop of event queries after each kernel."""
    ns = make.between(10_000, 40_000)
    each: list[Operation] = [make.dispatch(12_000), make.kernel(ns), Poll()]
    return Case(one_thread(loop([each * 10] * step_count(make))), "sync")


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


def bandwidth_round_trips(make: Maker) -> Case:
    """The same bytes go down before the kernels of each step and up behind them."""
    size, ns = round(make.between(20, 200) * MB), make.between(100_000, 300_000)
    steps: list[list[Operation]] = [
        [make.dispatch(), Copy(size), *make.launches(2, ns), Copy(size, TO_HOST), Wait()]
        for _ in range(40)
    ]
    return Case(one_thread(loop(steps)), "bandwidth", never=(PAGEABLE_COPIES,))


def launch_dispatch_latency(make: Maker) -> Case:
    """The host is ahead, and the device still needs 15 to 25 µs to begin the next kernel."""
    ns = make.between(20_000, 60_000)
    steps = [make.launches(20, ns, 3_000) for _ in range(60)]
    threads = one_thread(loop(steps)).threads
    return Case(Program(threads, dispatch_ns=round(make.between(15_000, 25_000))), "launch")


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


def healthy_streamed_chunks(make: Maker) -> Case:
    """As many bytes go up as come down, of other data each time, and long kernels hide both."""
    size, ns = round(make.between(4, 20) * MB), make.between(400_000, 800_000)
    steps: list[list[Operation]] = [
        [
            make.dispatch(),
            Copy(size, stream=SIDE),
            *make.launches(3, ns),
            Copy(size, TO_HOST, stream=Stream(21)),
        ]
        for _ in range(60)
    ]
    return Case(one_thread(loop(steps)), HEALTHY, never=("bandwidth.round_trips",))


def healthy_dispatch_latency(make: Maker) -> Case:
    """Each launch takes 15 to 25 µs to begin, before kernels so long that it does not matter."""
    steps = [make.launches(20, make.between(600_000, 900_000), 3_000) for _ in range(30)]
    threads = one_thread(loop(steps)).threads
    return Case(Program(threads, dispatch_ns=round(make.between(15_000, 25_000))), HEALTHY)
