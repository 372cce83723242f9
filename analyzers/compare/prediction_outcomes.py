"""What was predicted of a change, beside what a comparison measured."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Any

from analyzers.speedups import range_text, times_text
from analyzers.words import TIMES


class OutcomeKind(enum.StrEnum):
    """What became of a prediction."""

    AS_PREDICTED = "as_predicted"  # the measured speed-up lies in the predicted range
    UNCERTAIN = "uncertain"  # it lies outside, and its interval reaches into the range
    LESS = "less"
    MORE = "more"
    TOGETHER = "together"  # made together with something else, so that nobody knows its part
    NOT_TRIED = "not_tried"  # the comparison does not show that the change was made


JUDGED = (OutcomeKind.AS_PREDICTED, OutcomeKind.LESS, OutcomeKind.MORE)
"""Outcomes of changes that were made alone and measured well enough to say right or wrong."""


def family_of(change: str) -> str:
    """Return what a change is one way to say: a kernel that is faster is nearer to its roof."""
    kind = change.partition(":")[0]
    return "kernels.roof" if kind == "kernel" else kind


@dataclass(frozen=True, kw_only=True)
class PredictedSpeedup:
    """A prediction from one recording.

    Attributes:
        change: Name of the change, as ``analyzers.whatif.whatif.Prediction`` has it.
        title: The change in words: "removing the 100 waits".
        low: Least times that the program becomes as fast.
        high: Most.
    """

    change: str
    title: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PredictionOutcome:
    """A prediction beside what was measured.

    Attributes:
        predicted: What was predicted of the base.
        outcome: What became of it.
        evidence: What shows that the change was made, or what would have shown it.
        speedup: Measured, base by new; 0 where the change was not made.
        low: Lower end of its interval.
        high: Upper end.
    """

    predicted: PredictedSpeedup
    outcome: OutcomeKind
    evidence: str
    speedup: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def is_tried(self) -> bool:
        """Whether the comparison shows that the change was made."""
        return self.outcome is not OutcomeKind.NOT_TRIED

    @property
    def range_text(self) -> str:
        """The predicted range: "1.3–1.5 ×"."""
        return range_text(self.predicted.low, self.predicted.high)

    @property
    def measured_text(self) -> str:
        """What was measured, and how that agrees: "1.4 ×, as predicted"."""
        if not self.is_tried:
            return "not tried (yet)"
        words = {
            OutcomeKind.AS_PREDICTED: "as predicted",
            OutcomeKind.UNCERTAIN: "too uncertain to tell",
            OutcomeKind.LESS: "less than predicted",
            OutcomeKind.MORE: "more than predicted",
            OutcomeKind.TOGETHER: "together with other changes",
        }
        interval = "" if times_text(self.low) == times_text(self.high) else (
            f" ({range_text(self.low, self.high)})"
        )  # fmt: skip
        return f"{times_text(self.speedup)} {TIMES}{interval}, {words[self.outcome]}"

    @property
    def sentence(self) -> str:
        """Prediction and reality: "Removing 100 waits: predicted 1.3–1.5 ×, measured 1.4 ×"."""
        title = f"{self.predicted.title[:1].upper()}{self.predicted.title[1:]}"
        measured = f"measured {self.measured_text}" if self.is_tried else self.measured_text
        return f"{title}: predicted {self.range_text}, {measured}; {self.evidence}."

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**asdict(self), "sentence": self.sentence}
