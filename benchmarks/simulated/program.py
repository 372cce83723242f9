"""Small programs, in the words of CUDA: threads that launch, copy, wait and compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TO_DEVICE, TO_HOST, PEER = 1, 2, 10  # directions, as CUPTI numbers them


@dataclass(frozen=True)
class Stream:
    """A stream of a device."""

    number: int = 7
    device: int = 0


MAIN = Stream()


@dataclass(frozen=True)
class Work:
    """Host code between CUDA calls; ``os_call`` names the call of the system that it sits in."""

    ns: int
    os_call: str = ""
    is_dispatch: bool = False


@dataclass(frozen=True)
class Kernel:
    """A kernel and its launch call."""

    ns: int
    name: str = "gemm_kernel"
    stream: Stream = MAIN
    call_ns: int = 4_000
    is_collective: bool = False
    absent_bytes: int = 0  # managed memory that it touches and that is not on the GPU
    evicted_bytes: int = 0  # … that must leave for it


@dataclass(frozen=True)
class Collective:
    """One rank's part in a collective: it waits on the device until every rank has begun.

    Attributes:
        ns: How long it takes from then on.
        number: Which collective it is; parts of one number meet.
        ranks: How many ranks take part, each on a thread of its own.
        name: Of the kernel.
        operation: What a framework calls it.
        stream: Where it runs.
        call_ns: Length of the launch call.
        link_share: Part of what the link carries in that time that it moves.
    """

    ns: int
    number: int
    ranks: int
    name: str = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
    operation: str = "allreduce"
    stream: Stream = MAIN
    call_ns: int = 4_000
    link_share: float = 0.7


@dataclass(frozen=True)
class Graph:
    """A CUDA graph of kernels, launched by one call."""

    kernels: Sequence[int]
    stream: Stream = MAIN
    call_ns: int = 9_000
    as_a_whole: bool = False


@dataclass(frozen=True)
class Copy:
    """A copy between host and device, or between devices."""

    size_bytes: int
    direction: int = TO_DEVICE
    stream: Stream = MAIN
    pageable: bool = False
    blocking: bool = False
    call_ns: int = 4_000


@dataclass(frozen=True)
class Memset:
    """A memset."""

    ns: int
    stream: Stream = MAIN
    call_ns: int = 3_500


@dataclass(frozen=True)
class Prefetch:
    """Asks for managed memory before a kernel needs it, or before the host does."""

    size_bytes: int
    direction: int = TO_DEVICE
    stream: Stream = MAIN
    call_ns: int = 20_000


@dataclass(frozen=True)
class HostRead:
    """Reads managed memory that the GPU wrote, a page at a time, and works on each page."""

    size_bytes: int
    ns: int


@dataclass(frozen=True)
class Wait:
    """A blocking call: for a stream, for an event by number, or for the whole device."""

    function: str = "cudaStreamSynchronize"
    stream: Stream = MAIN
    event: int = -1
    call_ns: int = 1_000


@dataclass(frozen=True)
class Poll:
    """Event queries, until the stream is done (``until_done``) or just one."""

    stream: Stream = MAIN
    until_done: bool = True
    every_ns: int = 3_000
    call_ns: int = 800


@dataclass(frozen=True)
class Record:
    """Records an event on a stream."""

    event: int
    stream: Stream = MAIN
    call_ns: int = 900


@dataclass(frozen=True)
class StreamWait:
    """Lets a stream wait for an event."""

    event: int
    stream: Stream = MAIN
    call_ns: int = 900


@dataclass(frozen=True)
class Manage:
    """Allocates, frees (which waits for the device) or loads a module."""

    function: str
    ns: int
    waits: bool = False


@dataclass(frozen=True)
class Range:
    """Begins a range, or ends the innermost one when it has no name.

    Attributes:
        name: Its name.
        kind: ``range`` for what a program marks; ``cpu_op`` for an operator of PyTorch and
            ``python_function`` for a function on Python's stack, which only PyTorch records.
        sizes: Shapes of what an operator reads, which PyTorch writes into ranges, too.
        types: Their types, which only its own profiler records.
    """

    name: str = ""
    kind: str = "range"
    sizes: tuple[tuple[int, ...], ...] = ()
    types: tuple[str, ...] = ()


Operation = (
    Work
    | Kernel
    | Collective
    | Graph
    | Copy
    | Memset
    | Prefetch
    | HostRead
    | Wait
    | Poll
    | Record
    | StreamWait
    | Manage
    | Range
)


@dataclass(frozen=True)
class Thread:
    """What one host thread does, in order."""

    operations: Sequence[Operation]
    process: int = 1
    number: int = 1


@dataclass(frozen=True)
class Program:
    """Threads that run at the same time.

    Attributes:
        threads: What each of them does.
        devices: How many GPUs there are.
        dispatch_ns: What the device needs between two operations of a stream beyond the usual.
    """

    threads: Sequence[Thread]
    devices: int = 1
    dispatch_ns: int = 0
