"""Pairs of recordings of one program: which were compared, and whose outcomes are kept."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from library.prediction_history import KeptOutcome, PredictedProgram, PredictedRecording

MAX_OUTCOMES = 1_024  # of a program: those of each recording and the next one always fit


def pair_of(outcome: KeptOutcome) -> tuple[str, str]:
    """Return the digests of base and new."""
    return outcome.base_sha256, outcome.new_sha256


def pairs_with(program: PredictedProgram, pair: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs that were compared with one more, without those of recordings gone."""
    present = {r.sha256 for r in program.recordings}
    pairs = dict.fromkeys((*program.compared, pair))
    return tuple(p for p in pairs if present.issuperset(p))


def bounded(
    outcomes: Sequence[KeptOutcome], recordings: Sequence[PredictedRecording]
) -> tuple[KeptOutcome, ...]:
    """Return as many outcomes as are kept, of each pair all or none.

    The oldest go first: of recordings that are gone, then of pairs that somebody compared by hand.
    """
    consecutive = {(base.sha256, new.sha256) for base, new in neighbours_of(recordings)}
    present = {r.sha256 for r in recordings}
    counts = Counter(map(pair_of, outcomes))  # in their order
    excess, dropped = len(outcomes) - MAX_OUTCOMES, set()
    for pair in sorted(counts, key=lambda p: (p in consecutive, present.issuperset(p))):
        if excess <= 0:
            break
        dropped.add(pair)
        excess -= counts[pair]
    return tuple(o for o in outcomes if pair_of(o) not in dropped)


def neighbours_of(
    recordings: Sequence[PredictedRecording],
) -> Iterator[tuple[PredictedRecording, PredictedRecording]]:
    """Return each recording and the one that was made next."""
    return itertools.pairwise(sorted(recordings, key=lambda r: r.order))
