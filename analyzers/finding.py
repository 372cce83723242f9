"""What a rule may answer, and the words for it: causes, ledger rows, evidence, outcomes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

NOTABLE_SHARE = 0.02
"""Part of the window a loss must reach to be worth a finding; a healthy program idles for 1 %."""


class Cause(enum.StrEnum):
    """Why time is lost. A rule's file name begins with its cause."""

    LAUNCH = "launch"
    DIVERGENCE = "divergence"
    BANDWIDTH = "bandwidth"
    SYNC = "sync"
    HOST = "host"
    COMMUNICATION = "communication"
    MEMORY = "memory"
    DEPENDENCY = "dependency"
    PARALLELISM = "parallelism"  # time inside kernels that fill too little of the GPU
    COMPUTE = "compute"  # arithmetic that a faster unit of the GPU could do


class Row(enum.StrEnum):
    """A row of the time ledger; every nanosecond of the window is booked to exactly one."""

    KERNEL = "kernel"
    COMMUNICATION = "communication"
    TRANSFER = "transfer"
    LAUNCH = "launch"
    SYNC = "sync"
    HOST = "host"
    DEPENDENCY = "dependency"
    MEMORY = "memory"
    SETUP = "setup"
    PROFILER = "profiler"
    DIVERGENCE = "divergence"
    BANDWIDTH = "bandwidth"
    UNEXPLAINED = "unexplained"


KERNEL_ROWS = (Row.KERNEL, Row.DIVERGENCE, Row.BANDWIDTH)
"""Rows in which a kernel runs."""

BUSY_ROWS = (*KERNEL_ROWS, Row.COMMUNICATION, Row.TRANSFER)
"""Rows in which something runs on the device."""

CAUSE_OF_ROW = {
    Row.COMMUNICATION: Cause.COMMUNICATION,
    Row.TRANSFER: Cause.BANDWIDTH,
    Row.BANDWIDTH: Cause.BANDWIDTH,
    Row.DIVERGENCE: Cause.DIVERGENCE,
    Row.LAUNCH: Cause.LAUNCH,
    Row.SYNC: Cause.SYNC,
    Row.HOST: Cause.HOST,
    Row.DEPENDENCY: Cause.DEPENDENCY,
    Row.MEMORY: Cause.MEMORY,
    Row.SETUP: Cause.MEMORY,
}
"""The cause that a row's time counts for; the other rows are no loss, or not explained."""


class Confidence(enum.StrEnum):
    """How a finding's loss is known."""

    MEASURED = "measured"
    INFERRED = "inferred"
    ESTIMATED = "estimated"  # computed from the shapes of operators and what the device can do


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One observation behind a finding.

    Attributes:
        name: What was observed.
        value: The number, in ``unit``.
        unit: ``ns``, ``bytes``, ``pct``, ``count`` …
        start_ns: Begin of the window to show, -1 when it has no place on the timeline.
        end_ns: End of that window.
        device: Key of the ledger device it concerns, -1 when it is the whole recording.
    """

    name: str
    value: int | float  # which of the two stays, so that a report is stored as it was made
    unit: str
    start_ns: int = -1
    end_ns: int = -1
    device: int = -1


@dataclass(frozen=True, kw_only=True)
class PredictedGain:
    """What following an advice wins, by replaying the recording with that change.

    Attributes:
        change: Name of the what-if, as ``whyslow whatif --json`` has it; the finding's own id where
            the replay makes kernels shorter by what the finding estimates.
        title: The change in words: "removing the 100 waits".
        low_ns: By how much shorter the window becomes at least.
        high_ns: By how much at most; what must still run is left of it.
        window_ns: Length of the window as recorded.
    """

    change: str
    title: str
    low_ns: int
    high_ns: int
    window_ns: int

    @property
    def wins(self) -> bool:
        """Whether the program may become notably faster."""
        return self.high_ns >= NOTABLE_SHARE * self.window_ns

    @property
    def share_range(self) -> tuple[float, float]:
        """The least and the most that is won, as parts of the window."""
        whole = max(self.window_ns, 1)
        return max(self.low_ns, 0) / whole, self.high_ns / whole

    @property
    def is_sure(self) -> bool:
        """Whether it becomes notably faster in any case."""
        return self.low_ns >= NOTABLE_SHARE * self.window_ns


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that costs time.

    Attributes:
        title: A sentence with numbers.
        row: Ledger row that the loss is drawn from.
        lost_ns: Device time of its row that fixing it wins back at most, summed over devices: two
            GPUs that idle together for 1 ms lose 2 ms. Disjoint from every other finding.
        confidence: Measured, inferred, or estimated.
        advice: The first thing to try, in the imperative.
        does_not_apply_when: When to ignore this finding.
        evidence: Observations, the most telling first.
        low_ns: The least it may cost, where the loss is an estimate with a range; else -1.
        high_ns: The most it may cost, by the same estimate.
        gain_ns: The most that the advice can win, where that is less than what is lost; else -1.
        predicted_gain: What the advice wins of the window's length, where it could be replayed.
        formula: How the estimate was made, in words; empty where the loss was measured.
        culprit: What most of the loss came with, to end the verdict's sentence; empty for nothing
            in particular. Of an estimated one, what would win it back, to begin a sentence.
        id: ``<cause>.<pattern>``; filled in from the rule's file name.
        cause: Filled in from the rule's file name.
    """

    title: str
    row: Row
    lost_ns: int
    confidence: Confidence
    advice: str
    does_not_apply_when: str
    evidence: tuple[Evidence, ...] = ()
    low_ns: int = -1
    high_ns: int = -1
    gain_ns: int = -1
    predicted_gain: PredictedGain | None = None
    formula: str = ""
    culprit: str = ""
    id: str = ""
    cause: Cause = Cause.HOST


@dataclass(frozen=True)
class Clear:
    """The rule looked and found nothing worth a reader's time."""


@dataclass(frozen=True)
class Skipped:
    """The rule could not tell; the reason says what to record to know."""

    reason: str
    id: str = ""


@dataclass(frozen=True)
class Failed:
    """The rule raised; the others went on."""

    error: str
    id: str = ""


Outcome = Finding | Clear | Skipped | Failed
