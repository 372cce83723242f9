"""What would happen if: predictions from replaying the recording under a change.

The idea is Daydream's (Zhu, Phanishayee, Pekhimenko, "Daydream: Accurately Estimating the Efficacy
of Optimizations for DNN Training", USENIX ATC 2020): keep the dependency graph of what was
recorded, change the lengths of some nodes or take edges away, and replay it. Unlike there, a
prediction is a range, and it is withheld where the unchanged replay does not hit the measured time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from analyzers.report import Window

CLOSE = 0.02  # a measured speed-up this near to a predicted range is within rounding of it


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """How long the window would take under one change.

    Attributes:
        change: What is changed: ``graph``, ``sync``, ``copies``, ``host``, ``memory``,
            ``communication``, ``kernel:NAME`` … Unique among predictions of one recording.
        cause: ``Cause`` that the change is an answer to.
        title: The change in words: "removing the 100 waits".
        measured_ns: Length of the window as recorded.
        low_ns: Shortest time that the assumptions allow.
        high_ns: Longest one.
        assumptions: What the range rests on, a sentence each.
        count: How many waits, launches, copies … the change touches.
    """

    change: str
    cause: str
    title: str
    measured_ns: int
    low_ns: int
    high_ns: int
    assumptions: tuple[str, ...]
    count: int = 0

    @property
    def speedup(self) -> tuple[float, float]:
        """Least and most times that the program becomes as fast; 1 is no change."""
        return (
            self.measured_ns / max(self.high_ns, 1),
            self.measured_ns / max(self.low_ns, 1),
        )

    @property
    def gain_ns(self) -> int:
        """Time that is won in the middle of the range; predictions are ranked by it."""
        return self.measured_ns - (self.low_ns + self.high_ns) // 2

    @property
    def sentence(self) -> str:
        """The prediction in words: "Removing the 100 waits: 1.9–2.3 × faster"."""
        low, high = self.speedup
        what = f"{self.title[:1].upper()}{self.title[1:]}"
        if high < 1 + CLOSE:
            return f"{what}: no faster"
        return f"{what}: {range_text(low, high)} faster"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        low, high = self.speedup
        return {
            **asdict(self),
            "speedup_low": low,
            "speedup_high": high,
            "gain_ns": self.gain_ns,
            "sentence": self.sentence,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Prediction:
        """Return what ``to_dict`` wrote."""
        known = {name: data[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "assumptions": tuple(data["assumptions"])})


@dataclass(frozen=True, kw_only=True)
class DeviceReplay:
    """One device, measured and replayed.

    Attributes:
        key: Number of the device, as in the report.
        measured_busy_ns: Time in which anything ran on it.
        replayed_busy_ns: The same in the replay.
        measured_idle_ns: Rest of the window.
        replayed_idle_ns: Rest of the replay.
    """

    key: int
    measured_busy_ns: int
    replayed_busy_ns: int
    measured_idle_ns: int
    replayed_idle_ns: int


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The unchanged replay: how well the dependency graph tells the measured time.

    Attributes:
        window: The part of the recording that was replayed.
        measured_ns: Its length as recorded.
        end_to_end_ns: Its length in the replay.
        devices: Busy and idle time of each.
        operations: GPU operations that were replayed.
        calls: API calls that were replayed.
        unlinked: Operations whose launch call is unknown; they keep their distance in time.
        reason: Why predictions are withheld; empty when the replay can be trusted.
        assumptions: What the replay rests on, a sentence each.
    """

    window: Window
    measured_ns: int
    end_to_end_ns: int
    devices: tuple[DeviceReplay, ...]
    operations: int
    calls: int
    unlinked: int
    reason: str = ""
    assumptions: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """How much longer (above 0) or shorter the replay is, as a part of the measured time."""
        return (self.end_to_end_ns - self.measured_ns) / max(self.measured_ns, 1)

    @property
    def is_trusted(self) -> bool:
        """Whether predictions are made from it."""
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {**asdict(self), "error": self.error, "is_trusted": self.is_trusted}


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """A change about which nothing is predicted, and why."""

    change: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """The replay and everything predicted from it, the largest gain first."""

    replay: Replay
    predictions: tuple[Prediction, ...] = ()
    withheld: tuple[Withheld, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "schema": 1,
            "replay": self.replay.to_dict(),
            "predictions": [p.to_dict() for p in self.predictions],
            "withheld": [asdict(w) for w in self.withheld],
        }


def times_text(speedup: float) -> str:
    """Write how many times as fast something is: ``1.04``, ``2.1``, ``14``."""
    if speedup >= 9.95:
        return f"{speedup:.0f}"
    return f"{speedup:.2f}" if speedup < 1.495 else f"{speedup:.1f}"


def range_text(low: float, high: float) -> str:
    """Write a range of speed-ups: ``1.9–2.3 ×``, or ``2.1 ×`` where both ends read the same."""
    ends = dict.fromkeys((times_text(low), times_text(high)))
    return f"{'–'.join(ends)} ×"


def agrees(prediction: Prediction, low: float, high: float) -> bool:
    """Tell whether a measured speed-up (with its interval) overlaps what was predicted."""
    least, most = prediction.speedup
    return low <= most * (1 + CLOSE) and high >= least * (1 - CLOSE)


def beside(prediction: Prediction, measured: float, low: float, high: float) -> str:
    """Say prediction and reality in one sentence: "predicted 1.9–2.3 ×, measured 2.1 ×".

    Args:
        prediction: What was predicted from the baseline's recording.
        measured: Speed-up of the optimized run, baseline over optimized time.
        low: Lower end of its interval.
        high: Upper end of it.
    """
    interval = "" if times_text(low) == times_text(high) else f" ({range_text(low, high)})"
    said = (
        f"predicted {range_text(*prediction.speedup)}, measured {times_text(measured)} ×{interval}"
    )
    if agrees(prediction, low, high):
        return said
    least, _ = prediction.speedup
    return f"{said}: {'less' if high < least else 'more'} than predicted"
