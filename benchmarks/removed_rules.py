"""Takes one rule of the analysis away at a time: each time, a case of known cause must go wrong.

A proof is worth what it would notice. ``python -m benchmarks.removed_rules`` prints the table;
``benchmarks/mutations.py`` asks the same of the tests, with changes that nobody chose.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

import analyzers.facts.call_matches
import analyzers.facts.facts
import analyzers.ledger.gaps
import analyzers.ledger.ledger
from analyzers.cuda_names import Call, classify
from analyzers.facts.facts import COPY, MEMSET
from analyzers.intervals import Spans
from benchmarks.accuracy import Result, judge
from collectors.schema import MemoryKind

FAR_OFF = 0.3  # of the window, between what is booked to the planted cause and the truth


@dataclass(frozen=True)
class Mutation:
    """A rule that is taken away.

    Attributes:
        name: What is removed.
        target: Function or value in the analysis.
        replacement: What stands there instead.
        shown_by: Cases, as family and seed, that must go wrong.
    """

    name: str
    target: str
    replacement: Any
    shown_by: tuple[tuple[str, int], ...]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Run the analysis without the rule."""
        with mock.patch(self.target, self.replacement):
            yield


def is_far_off(result: Result) -> bool:
    """Tell whether a result is wrong in numbers, even where its verdict is right."""
    missed = abs(result.errors.get(result.expected, 0.0)) > FAR_OFF
    return bool(result.defects) or result.over_row or missed


def _join_without_process() -> Callable[..., Any]:
    join = analyzers.facts.call_matches.matching_calls

    def mutant(launches: Any, trace: Any, process_of_thread: Any, thread: Any) -> Any:
        return join(
            launches.assign(process_index=0), trace, np.zeros_like(process_of_thread), thread
        )

    return mutant


def _busy_without_copies() -> Callable[..., Any]:
    busy = analyzers.ledger.ledger._busy

    def mutant(facts: Any, rows: Any) -> Any:
        return busy(facts, rows[~np.isin(facts.launches["kind"].to_numpy()[rows], (COPY, MEMSET))])

    return mutant


def _no_refill(walk: Any, ended: Any) -> Any:
    return analyzers.ledger.gaps._by_doing(walk, ended)


def _waits_unknown(function: str) -> Call:
    call = classify(function)
    return Call.OTHER if call in (Call.WAIT, Call.POLL) else call


def _all_intervals(start: Any, end: Any) -> Any:
    order = np.argsort(start, kind="stable")
    return Spans(start[order], end[order])


def _pinned_is_pageable(_file: Any) -> Any:
    return dict.fromkeys((0, 1), MemoryKind.PAGEABLE)


MUTATIONS = (
    Mutation(
        "the process in the correlation join",
        "analyzers.facts.facts.matching_calls",
        _join_without_process(),
        (("confounder_equal_ids", 1), ("confounder_equal_ids", 2)),
    ),
    Mutation(
        "the refill after a wait",
        "analyzers.ledger.gaps._unhidden",
        _no_refill,
        (("sync_every_step", 1), ("sync_every_step", 2), ("sync_every_kernel", 3)),
    ),
    Mutation(
        "copies in the busy union",
        "analyzers.ledger.ledger._busy",
        _busy_without_copies(),
        (("bandwidth_pinned", 1), ("bandwidth_pinned", 2)),
    ),
    Mutation(
        "the names of synchronising calls",
        "analyzers.facts.facts.classify",
        _waits_unknown,
        (("sync_every_kernel", 1), ("sync_polling", 2)),
    ),
    Mutation(
        "the union over streams",
        "analyzers.ledger.ledger.union",
        _all_intervals,
        (("healthy_two_streams", 1), ("healthy_two_streams", 2)),
    ),
    Mutation(
        "the filter of calls recorded twice",
        "collectors.nsys.activity.BACKTRACE_CLASS",
        -1_000,
        (("confounder_call_stacks", 1), ("confounder_call_stacks", 2)),
    ),
    Mutation(
        "the look-up of pinned and pageable memory",
        "collectors.nsys.activity.memory_kinds",
        _pinned_is_pageable,
        (("bandwidth_pinned", 1), ("bandwidth_pinned", 2)),
    ),
)


def main() -> int:
    """Print which cases notice each removal; 1 when one goes unnoticed."""
    unnoticed = 0
    for mutation in MUTATIONS:
        with mutation.applied():
            results = [judge(family, seed) for family, seed in mutation.shown_by]
        noticed = [r for r in results if not r.is_right or is_far_off(r)]
        unnoticed += not noticed
        effects = "; ".join(_effect(r) for r in noticed) or "NOT NOTICED"
        print(f"without {mutation.name}: {effects}")
    return int(bool(unnoticed))


def _effect(result: Result) -> str:
    case = f"{result.family} {result.seed}"
    if not result.is_right:
        return f"{case} says {result.verdict} instead of {result.expected}"
    if result.defects:
        return f"{case}: {result.defects[0]}"
    return f"{case} is {abs(result.errors.get(result.expected, 0)):.0%} of the window off"


if __name__ == "__main__":
    sys.exit(main())
