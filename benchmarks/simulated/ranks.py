"""Families of programs on several GPUs, whose collectives wait for a rank or do not."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.simulated.cases import STRAGGLERS, Case, Maker, loop
from benchmarks.simulated.program import (
    Collective,
    Kernel,
    Operation,
    Program,
    Stream,
    Thread,
    Work,
)

SLOW_LINK, SMALL_MESSAGES = "communication.slow_link", "communication.small_messages"
KERNELS = 6  # of a step, before its collective
STEPS = 40
JITTER = 0.02  # by what part launches of one kernel with the same work differ, at most


def communication_straggler(make: Maker) -> Case:
    """One rank computes longer in every step; the others wait for it in the all-reduce."""
    ranks = make.random.randrange(2, 5)
    late, ns = make.random.randrange(ranks), make.between(60_000, 200_000)
    longer = make.between(1.4, 2.5)
    program = _ranks(
        make,
        ranks,
        lambda rank: make.launches(KERNELS, ns * (longer if rank == late else 1), stream=_of(rank)),
        moving_ns=KERNELS * ns * make.between(0.1, 0.5),
    )
    words = f"waited for GPU {late}"
    has = ((STRAGGLERS, words), (STRAGGLERS, "kernels run"))
    return Case(program, "communication", has=has, never=(SLOW_LINK, SMALL_MESSAGES))


def communication_in_turn(make: Maker) -> Case:
    """Batches differ in length: now one rank is late and now another."""
    ranks, ns = make.random.randrange(2, 5), make.between(60_000, 200_000)
    program = _ranks(
        make,
        ranks,
        lambda rank: make.launches(KERNELS, ns * make.between(0.5, 2.5), stream=_of(rank)),
        moving_ns=KERNELS * ns * make.between(0.1, 0.5),
    )
    has = ((STRAGGLERS, "now one came last and now another"),)
    return Case(program, "communication", has=has, never=(SLOW_LINK, SMALL_MESSAGES))


def communication_balanced(make: Maker) -> Case:
    """Ranks come together, and the all-reduce takes its time: what it moves is what costs."""
    ranks, ns = make.random.randrange(2, 5), make.between(60_000, 200_000)
    program = _ranks(
        make,
        ranks,
        _even_steps(make, ns),
        moving_ns=KERNELS * ns * make.between(0.4, 1.5),
        spread=0.01,
    )
    return Case(program, "communication", never=(STRAGGLERS, SLOW_LINK, SMALL_MESSAGES))


def communication_slow_link(make: Maker) -> Case:
    """Ranks come together, and the link carries a small part of what it could."""
    ranks, ns = make.random.randrange(2, 5), make.between(120_000, 200_000)
    moving_ns, share = KERNELS * ns * make.between(0.8, 1.5), make.between(0.04, 0.15)
    program = _ranks(
        make,
        ranks,
        _even_steps(make, ns),
        moving_ns=moving_ns,
        spread=0.01,
        link_share=share,
    )
    usual = make.random.uniform(0.35, 0.55)  # of the link, as good set-ups reach
    usual_ns = _latency_ns(ranks) + moving_ns * share / usual
    saved = round(ranks * STEPS * (moving_ns - usual_ns))
    return Case(
        program,
        "communication",
        never=(STRAGGLERS, SMALL_MESSAGES),
        has_with_operators=((SLOW_LINK, " of bus bandwidth, "),),
        saves_with_operators=((SLOW_LINK, saved),),
    )


def communication_small_messages(make: Maker) -> Case:
    """A dozen all-reduces of little in each step: their steps take the time, not their bytes."""
    ranks, ns = make.random.randrange(2, 5), make.between(20_000, 40_000)
    program = _ranks(
        make,
        ranks,
        _even_steps(make, ns),
        moving_ns=_latency_ns(ranks) * make.between(1, 1.8),
        spread=0.01,
        link_share=0.02,
        collectives=12,
    )
    return Case(
        program,
        "communication",
        never=(STRAGGLERS, SLOW_LINK),
        has_with_operators=((SMALL_MESSAGES, " small collectives, mostly allreduce of "),),
    )


def host_of_one_rank(make: Maker) -> Case:
    """One rank's host pauses before it submits a step; the other ranks wait for it."""
    ranks, ns = make.random.randrange(2, 5), make.between(60_000, 200_000)
    late, pause = make.random.randrange(ranks), KERNELS * ns * make.between(0.5, 1.2)

    def step(rank: int) -> list[Operation]:
        # The queue is a step deep, and the pause outlasts it.
        work = make.launches(KERNELS, ns, stream=_of(rank))
        if rank != late:
            return work
        return [Work(make.about(KERNELS * ns * 1.1 + pause), "read"), *work]

    program = _ranks(make, ranks, step, moving_ns=KERNELS * ns * make.between(0.1, 0.3))
    words = f"waited for GPU {late}"
    has = ((STRAGGLERS, words), (STRAGGLERS, f"GPU {late} idles"))
    return Case(program, "communication", also_right=("host",), has=has)


def host_of_all_ranks(make: Maker) -> Case:
    """The hosts of all ranks pause alike: nobody waits for anybody."""
    ranks, ns = make.random.randrange(2, 5), make.between(60_000, 200_000)
    pause = KERNELS * ns * make.between(0.6, 2)
    length = round(KERNELS * ns * 1.1 + pause)
    program = _ranks(
        make,
        ranks,
        lambda rank: [Work(length, "read"), *make.launches(KERNELS, ns, stream=_of(rank))],
        moving_ns=KERNELS * ns * 0.1,
        spread=0.01,
    )
    return Case(program, "host", never=(STRAGGLERS,))


def _latency_ns(ranks: int) -> int:
    """Return how long a ring of so many ranks takes for next to nothing, as NCCL reckons."""
    return 8_400 + 2 * (ranks - 1) * 3_400


def _even_steps(make: Maker, ns: float) -> Callable[[int], list[Operation]]:
    """Return steps of the same kernels, whose times differ as those of equal GPUs do."""
    lengths = [make.about(ns) for _ in range(KERNELS)]
    return lambda rank: [
        operation
        for length in lengths
        for operation in (
            make.dispatch(),
            Kernel(make.about(length, JITTER), call_ns=make.about(4_000), stream=_of(rank)),
        )
    ]


def _of(rank: int) -> Stream:
    return Stream(7, rank)


def _ranks(
    make: Maker,
    ranks: int,
    step: Callable[[int], list[Operation]],
    moving_ns: float,
    spread: float = 0.1,
    link_share: float = 0.7,
    collectives: int = 1,
) -> Program:
    """Return a program of one process a GPU; each step ends in a collective of all of them.

    Args:
        make: Draws what is not given.
        ranks: Processes.
        step: What a rank does in a step before the collective.
        moving_ns: How long a collective takes when every rank has come.
        spread: By what part of their length collectives differ.
        link_share: Part of what the link carries that they move.
        collectives: How many a step has.
    """
    moving = [make.about(moving_ns, spread) for _ in range(STEPS * collectives)]
    threads = [
        Thread(
            loop(
                [
                    [
                        *step(rank),
                        *(
                            operation
                            for n in range(
                                step_number * collectives, (step_number + 1) * collectives
                            )
                            for operation in (
                                make.dispatch(),
                                Collective(
                                    moving[n], n, ranks, stream=_of(rank), link_share=link_share
                                ),
                            )
                        ),
                    ]
                    for step_number in range(STEPS)
                ]
            ),
            process=rank + 1,
        )
        for rank in range(ranks)
    ]
    return Program(threads, devices=ranks)
