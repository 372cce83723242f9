"""What a simulated program takes at least, from what it is made of: nothing overlaps in a queue."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from benchmarks.simulated.program import (
    PEER,
    Copy,
    Graph,
    Kernel,
    Memset,
    Operation,
    Poll,
    Program,
    StreamWait,
    Thread,
    Wait,
    Work,
)
from benchmarks.simulated.rules import BUS_BYTES_PER_NS

SUBMIT_NS = 5_000  # the device sees a launch before its call ends, or some µs later


def floor_ns(program: Program, changed: Sequence[Sequence[Operation]]) -> int:
    """Return what the changed program takes at least, from its first to its last GPU operation.

    That is the longest of what one stream runs, what one copy engine copies, and what one thread
    does between its first and its last submission. Of a thread counts only what the change left
    alone: what comes in the place of a call may take less.

    Args:
        program: As it was recorded.
        changed: What each of its threads does under the change.
    """
    queues: Counter[tuple[object, ...]] = Counter()
    for thread, operations in zip(program.threads, changed, strict=True):
        for operation in operations:
            length = _device_ns(operation)
            if not length:
                continue
            stream = getattr(operation, "stream")  # noqa: B009 - whatever runs on a device has one
            queues["stream", thread.process, stream] += length
            if isinstance(operation, Copy) and operation.direction != PEER:
                queues["engine", stream.device, operation.direction] += length
    threads = (_thread_ns(t, c) for t, c in zip(program.threads, changed, strict=True))
    return max(max(queues.values(), default=0), max(threads, default=0) - SUBMIT_NS)


def _device_ns(operation: Operation) -> int:
    """Return how long an operation runs on the device, 0 for what does not."""
    if isinstance(operation, Graph):
        return sum(operation.kernels)
    if isinstance(operation, Copy):
        return operation.size_bytes // BUS_BYTES_PER_NS
    return operation.ns if isinstance(operation, Kernel | Memset) else 0


def _thread_ns(thread: Thread, operations: Sequence[Operation]) -> int:
    """Return how long a thread works between its first and last submission, waits left out."""
    submits = [place for place, o in enumerate(operations) if _device_ns(o)]
    if not submits:
        return 0
    kept = _kept(thread.operations, operations)
    between = operations[submits[0] + 1 : submits[-1]]
    return sum(_host_ns(o) for o in between if id(o) in kept)


def _kept(recorded: Sequence[Operation], changed: Sequence[Operation]) -> set[int]:
    """Return what the change left alone; a pause is one with what was taken away beside it."""
    stays = {id(o) for o in changed}
    pairs = itertools.pairwise(recorded)
    alone = {id(b) for a, b in pairs if isinstance(b, Work) and id(a) not in stays}
    return (stays & {id(o) for o in recorded}) - alone


def _host_ns(operation: Operation) -> int:
    """Return how long an operation keeps its thread, whatever the device does."""
    if isinstance(operation, Wait | Poll | StreamWait | Copy):
        return 0
    on_device = isinstance(operation, Kernel | Graph | Memset)
    own = 0 if on_device else getattr(operation, "ns", 0)
    return int(own + getattr(operation, "call_ns", 0))
