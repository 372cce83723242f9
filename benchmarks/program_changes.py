"""Changes made to simulated programs: what whyslow predicts, done by rewriting the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks.simulated.cases import SIDE
from benchmarks.simulated.program import (
    TO_DEVICE,
    TO_HOST,
    Copy,
    Graph,
    Kernel,
    Manage,
    Operation,
    Poll,
    Prefetch,
    Range,
    Record,
    Stream,
    StreamWait,
    Wait,
    Work,
)

MIN_KERNELS = 5  # of a graph that is worth building

Rewrite = Callable[[Sequence[Operation]], list[Operation]]


def without_waits(operations: Sequence[Operation]) -> list[Operation]:
    """Drop waits and loops of polls; small read-backs no longer block."""
    kept = [o for o in operations if not isinstance(o, Wait | Poll)]
    return [_asynchronous(o) if _reads_little(o) else o for o in kept]


def _reads_little(operation: Operation) -> bool:
    return isinstance(operation, Copy) and operation.size_bytes <= 65_536


def _asynchronous(operation: Operation) -> Operation:
    assert isinstance(operation, Copy)
    return dataclasses.replace(operation, pageable=False, blocking=False)


def in_graphs(operations: Sequence[Operation]) -> list[Operation]:
    """Launch all kernels between two waits or ranges as one graph, if they are several."""
    result: list[Operation] = []
    run: list[Operation] = []
    for operation in [*operations, Range()]:
        is_launch = isinstance(operation, Kernel) or (
            isinstance(operation, Work) and operation.is_dispatch
        )
        if is_launch:
            run.append(operation)
            continue
        result += _as_graph(run)
        run = []
        result.append(operation)
    return result[:-1]


def _as_graph(run: Sequence[Operation]) -> list[Operation]:
    kernels = [o for o in run if isinstance(o, Kernel)]
    if len(kernels) < MIN_KERNELS:
        return list(run)
    before = run[: run.index(kernels[0])]
    after = run[run.index(kernels[-1]) + 1 :]
    return [*before, Graph([k.ns for k in kernels], kernels[0].stream), *after]


def pinned(operations: Sequence[Operation]) -> list[Operation]:
    """Copy from pinned memory, asynchronously."""
    return [_asynchronous(o) if isinstance(o, Copy) else o for o in operations]


def overlapped(operations: Sequence[Operation]) -> list[Operation]:
    """Copy on another stream, a step ahead; kernels wait for the copy of their own step."""
    into = [
        dataclasses.replace(o, stream=SIDE, pageable=False, blocking=False)
        for o in operations
        if isinstance(o, Copy) and o.direction == TO_DEVICE
    ]
    result: list[Operation] = []
    number = 0
    for operation in operations:
        if isinstance(operation, Copy) and operation.direction == TO_DEVICE:
            if number == 0:
                result += [into[0], Record(0, SIDE)]
            result.append(StreamWait(number))
            number += 1
            if number < len(into):
                result += [into[number], Record(number, SIDE)]
        elif isinstance(operation, Copy):
            event = 100_000 + number
            out = dataclasses.replace(operation, stream=Stream(21), pageable=False)
            result += [Record(event), StreamWait(event, out.stream), out]
        else:
            result.append(operation)
    return result


def resident(operations: Sequence[Operation]) -> list[Operation]:
    """Keep data on the device: only the first copy there and the last one back are made."""
    copies = [o for o in operations if isinstance(o, Copy)]
    there = [o for o in copies if o.direction == TO_DEVICE]
    back = [o for o in copies if o.direction == TO_HOST]
    kept = {id(o) for o in (*there[:1], *back[-1:])}
    return [o for o in operations if not isinstance(o, Copy) or id(o) in kept]


def without_pauses(operations: Sequence[Operation]) -> list[Operation]:
    """Drop host work that is not dispatching."""
    return [o for o in operations if not isinstance(o, Work) or o.is_dispatch]


def without_allocation(operations: Sequence[Operation]) -> list[Operation]:
    """Drop allocating and freeing."""
    return [o for o in operations if not isinstance(o, Manage)]


def hidden_collectives(operations: Sequence[Operation]) -> list[Operation]:
    """Run collectives on another stream; what follows the next one waits for them."""
    result: list[Operation] = []
    number = 0
    for operation in operations:
        if not (isinstance(operation, Kernel) and operation.is_collective):
            result.append(operation)
            continue
        result += [Record(2 * number), StreamWait(2 * number, SIDE)]
        result += [dataclasses.replace(operation, stream=SIDE), Record(2 * number + 1, SIDE)]
        result += [StreamWait(2 * number - 1)] if number else []
        number += 1
    return result


def faster(times: float) -> Rewrite:
    """Return what makes every kernel named ``attention`` so many times as fast."""

    def rewrite(operations: Sequence[Operation]) -> list[Operation]:
        return [
            dataclasses.replace(o, ns=round(o.ns / times))
            if isinstance(o, Kernel) and o.name == "attention"
            else o
            for o in operations
        ]

    return rewrite


def prefetched(operations: Sequence[Operation]) -> list[Operation]:
    """Prefetch what kernels would fault for, on their stream, right before each."""
    result: list[Operation] = []
    for operation in operations:
        if isinstance(operation, Kernel) and operation.absent_bytes:
            result.append(Prefetch(operation.absent_bytes, stream=operation.stream))
            operation = dataclasses.replace(operation, absent_bytes=0)
        result.append(operation)
    return result


def prefetched_at_best(operations: Sequence[Operation]) -> list[Operation]:
    """Do the same as if a kernel computed only while it waited for pages.

    No recording tells what it computes in the pauses between two faults; at best it is nothing
    that would be left.
    """
    faulting = {id(o) for o in operations if isinstance(o, Kernel) and o.absent_bytes}
    idle = [
        dataclasses.replace(o, ns=1) if isinstance(o, Kernel) and id(o) in faulting else o
        for o in operations
    ]
    return prefetched(idle)
