"""A program with its recordings and what was predicted, and which pairs of them were compared."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

MAX_OUTCOMES = 1_024  # of a program: those of each recording and the next one always fit


class KeptPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """What was predicted of a change; see ``analyzers.compare.prediction_outcomes``."""

    change: str
    title: str
    low: float
    high: float


class PredictedRecording(msgspec.Struct, frozen=True, kw_only=True):
    """A recording of a program.

    Attributes:
        sha256: Digest of the file.
        trace_id: What it became in the library.
        name: File name.
        made_utc_ns: When the program ran, -1 when the recording is silent.
        opened_utc_ns: When it was opened first.
        predictions: From it, the largest gain first.
    """

    sha256: str
    trace_id: str
    name: str
    made_utc_ns: int
    opened_utc_ns: int
    predictions: tuple[KeptPrediction, ...] = ()

    @property
    def order(self) -> tuple[int, int]:
        """Which of two recordings of a program is the later one."""
        return max(self.made_utc_ns, 0), self.opened_utc_ns


class KeptOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction beside what was measured; see ``PredictionOutcome``."""

    base_sha256: str
    new_sha256: str
    base_name: str
    new_name: str
    prediction: KeptPrediction
    outcome: str
    evidence: str
    speedup: float
    low: float
    high: float


class PredictedProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A program and what was predicted of it.

    Attributes:
        schema: Of the file; fields are added with defaults, never renamed: a newer whyslow reads
            what an older one kept.
        key: Names its file.
        name: What it is called in a table.
        executables: Names of what ran, sorted.
        names: What it is known by, as numbers; those of its latest recording.
        kernels: Numbers of the names of kernels, those of its latest recording; empty in files of
            versions that had them only in ``names``.
        recordings: Its recordings, in the order in which they were opened.
        outcomes: What became of predictions, in the order in which that was found.
        compared: Digests of base and new of the pairs of these recordings that were compared,
            whether or not anything could be said about them.
    """

    key: str
    name: str
    executables: tuple[str, ...]
    names: tuple[int, ...]
    schema: int = 1
    recordings: tuple[PredictedRecording, ...] = ()
    outcomes: tuple[KeptOutcome, ...] = ()
    kernels: tuple[int, ...] = ()
    compared: tuple[tuple[str, str], ...] = ()


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
