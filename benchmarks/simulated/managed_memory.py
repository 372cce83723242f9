"""Families of programs with unified memory: in trouble, and healthy ones that look alike."""

from __future__ import annotations

from benchmarks.simulated.cases import HEALTHY, MB, SIDE, Case, Maker, loop, one_thread
from benchmarks.simulated.program import (
    HostRead,
    Operation,
    Prefetch,
    Record,
    StreamWait,
    Wait,
)
from benchmarks.simulated.recorder import Recorder

IN_KERNELS, READS = "bandwidth.migrations_in_kernels", "host.page_reads"
BUS = 24  # bytes a nanosecond, at best


def managed_page_faults(make: Maker) -> Case:
    """Each step's input is in managed memory that the host wrote: kernels fault for it."""
    size, ns = round(make.between(4, 40) * MB), make.between(40_000, 150_000)
    steps = [
        [
            make.dispatch(),
            make.kernel(ns, absent_bytes=size, name="stencil"),
            *make.launches(4, max(ns, size / BUS / 2)),
        ]
        for _ in range(24)
    ]
    return Case(one_thread(loop(steps)), "bandwidth", tweaks=(_only_nsys,), never=(READS,))


def managed_thrashing(make: Maker) -> Case:
    """The data does not fit: pages leave for others while the kernel runs."""
    size, ns = round(make.between(8, 40) * MB), make.between(40_000, 150_000)
    share = make.between(0.4, 1.0)
    steps: list[list[Operation]] = [
        [make.dispatch(), make.kernel(ns, absent_bytes=size, evicted_bytes=round(size * share))]
        for _ in range(24)
    ]
    return Case(one_thread(loop(steps)), "bandwidth", tweaks=(_only_nsys,), never=(READS,))


def managed_page_reads(make: Maker) -> Case:
    """The host reads each step's result where the GPU wrote it, page by page."""
    size, ns = round(make.between(2, 10) * MB), make.between(50_000, 200_000)
    pages = size / 65_536
    steps: list[list[Operation]] = [
        [
            *make.launches(3, ns),
            Wait("cudaDeviceSynchronize"),
            HostRead(size, make.about(pages * make.between(5_000, 60_000))),
        ]
        for _ in range(12)
    ]
    return Case(
        one_thread([*loop(steps), make.kernel(ns)]),
        "host",
        tweaks=(_only_nsys,),
        never=(IN_KERNELS,),
    )


def healthy_prefetched(make: Maker) -> Case:
    """The next step's pages are prefetched on a stream of their own, beside kernels."""
    ns = make.between(200_000, 600_000)
    size = round(ns * make.between(4, 15))
    steps: list[list[Operation]] = [
        [Prefetch(size, stream=SIDE), Record(n, SIDE), *make.launches(4, ns), StreamWait(n)]
        for n in range(40)
    ]
    program = one_thread([*make.launches(4, ns), *loop(steps)])
    return Case(program, HEALTHY, tweaks=(_only_nsys,), never=(IN_KERNELS, READS))


def healthy_resident(make: Maker) -> Case:
    """The first kernel faults for its pages, and all others find them on the GPU."""
    ns = make.between(200_000, 500_000)
    first = make.kernel(ns, absent_bytes=round(ns * 4))
    steps = [[first, *make.launches(9, ns)], *(make.launches(10, ns) for _ in range(59))]
    program = one_thread([*loop(steps), Wait("cudaDeviceSynchronize")])
    return Case(program, HEALTHY, tweaks=(_only_nsys,), never=(IN_KERNELS, READS))


def _only_nsys(_: Recorder) -> None:
    """Change nothing: the torch profiler records no moves of unified memory."""
