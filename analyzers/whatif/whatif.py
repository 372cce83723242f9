"""What would happen if: predictions from replaying the recording under a change.

The idea is Daydream's (Zhu, Phanishayee, Pekhimenko, "Daydream: Accurately Estimating the Efficacy
of Optimizations for DNN Training", USENIX ATC 2020): keep the dependency graph of what was
recorded, change the lengths of some nodes or take edges away, and replay it. Unlike there, a
prediction is a range, and it is withheld where the unchanged replay does not hit the measured time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.migrations import moves_nobody_submitted
from analyzers.facts.spans import Window
from analyzers.ledger.ledger import Ledger
from analyzers.recorder import recorder_of
from analyzers.speedups import CLOSE, range_text, ranges_meet, times_text
from analyzers.whatif.moments import Moments, busy_ns, device_of
from analyzers.whatif.uncertainty import MIN_UNCERTAINTY, VARIES
from analyzers.words import TIMES, share_text

if TYPE_CHECKING:
    from analyzers.whatif.changes.change import Change
    from analyzers.whatif.changes.shorter import Shortening
    from analyzers.whatif.graph import Graph
    from analyzers.whatif.ranges import Ranges

MAX_ERROR = 0.10  # beyond, the recording lacks what decides when work runs
MAX_UNLINKED = 0.10  # of the operations; when more have no call, nobody knows why they came


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """How long the window would take under one change.

    Attributes:
        change: What is changed: ``graph``, ``sync``, ``copies``, ``host``, ``memory``,
            ``communication``, ``kernel:NAME:TIMES`` … Unique among predictions of one recording.
        cause: ``Cause`` that the change is an answer to.
        title: The change in words: "removing the 100 waits".
        measured_ns: Length of the window as recorded.
        low_ns: Shortest time that the assumptions allow.
        high_ns: Longest one.
        assumptions: What the range rests on, a sentence each.
        count: How many waits, launches, copies … the change touches.
        floor_ns: What must still run takes as long, one after the other: a stream, the copies of
            one direction, the kernels of a device, or a thread. No time predicted is below.
    """

    change: str
    cause: str
    title: str
    measured_ns: int
    low_ns: int
    high_ns: int
    assumptions: tuple[str, ...]
    count: int = 0
    floor_ns: int = 0

    def __post_init__(self) -> None:
        if not self.floor_ns <= self.low_ns <= self.high_ns:
            raise ValueError(
                f"{self.change}: {self.low_ns} to {self.high_ns} ns is no range above the floor "
                f"of {self.floor_ns} ns"
            )

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
    def wins(self) -> bool:
        """Whether the program may become notably faster."""
        return self.speedup[1] >= 1 + CLOSE

    @property
    def sentence(self) -> str:
        """The prediction in words: "Removing the 100 waits: 1.9–2.3 × faster"."""
        low, high = self.speedup
        what = f"{self.title[:1].upper()}{self.title[1:]}"
        if not self.wins:
            return f"{what}: no faster"
        if low < 1 + MIN_UNCERTAINTY:
            return f"{what}: up to {times_text(high)} {TIMES} faster"
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

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> WhatIf:
        """Return what ``to_dict`` wrote."""
        return msgspec.convert(data, cls)


class ChangeRequest(NamedTuple):
    """Which changes are wanted.

    Attributes:
        speed_ups: Parts of kernel names, and how many times as fast those kernels become.
        only: Names of the changes to predict, each as a whole; all, and their parts, where none
            is named.
        shortenings: Kernels that become shorter, each set a change of its own.
        device_peaks: What the user says about the GPUs; ``analyzers.work.roofs.parse_peaks``.
    """

    speed_ups: Sequence[tuple[str, float]] = ()
    only: frozenset[str] = frozenset()
    shortenings: Sequence[Shortening] = ()
    device_peaks: Mapping[str, float] = MappingProxyType({})


def explore(
    facts: Facts,
    window: Window,
    speed_ups: Sequence[tuple[str, float]] = (),
    device_peaks: Mapping[str, float] | None = None,
) -> WhatIf:
    """Replay the recording as it is, then under every change.

    Args:
        facts: The recording.
        window: The part to predict for.
        speed_ups: As in ``ChangeRequest``.
        device_peaks: As there.
    """
    request = ChangeRequest(speed_ups=speed_ups, device_peaks=device_peaks or {})
    return explore_changes(facts, window, request)


def explore_changes(facts: Facts, window: Window, request: ChangeRequest) -> WhatIf:
    """Replay the recording as it is, then under the changes that are wanted."""
    if reason := _unfit(facts, window):
        unchanged = Replay(
            window=window,
            measured_ns=window.duration_ns,
            end_to_end_ns=window.duration_ns,
            devices=(),
            operations=len(facts.launches),
            calls=0,
            unlinked=len(facts.launches),
            reason=reason,
        )
        return WhatIf(replay=unchanged)
    # Compiling takes a second; whoever asks for something else should not pay for it.
    from analyzers.whatif.build import build_graph

    graph = build_graph(facts, window.start_ns)
    unchanged = _replayed(facts, graph, window)
    if not unchanged.is_trusted:
        return WhatIf(replay=unchanged)
    return _predicted(facts, graph, unchanged, request)


def replay(facts: Facts, window: Window) -> Replay:
    """Replay the recording as it is: the error tells how far predictions can be trusted."""
    if _unfit(facts, window):
        return explore(facts, window).replay
    from analyzers.whatif.build import build_graph

    return _replayed(facts, build_graph(facts, window.start_ns), window)


def what_if(
    facts: Facts, ledger: Ledger, speed_ups: Sequence[tuple[str, float]] = ()
) -> tuple[Prediction, ...]:
    """Return what would happen in the ledger's window under every change, largest gain first."""
    return explore(facts, ledger.window, speed_ups, device_peaks=ledger.device_peaks).predictions


def _unfit(facts: Facts, window: Window) -> str:
    """Return why a recording cannot be replayed at all, empty when it can."""
    if facts.counters_only:
        return "The recording holds counters of single launches and no timeline to replay."
    inside = facts.inside(*window.span)
    inside = inside[~moves_nobody_submitted(facts)[inside]]
    if not len(inside):
        return "The window holds no GPU operation."
    if not len(facts.api):
        return (
            "The recording holds no API calls, so nothing tells what the GPU waited for. Record "
            "them: nsys profile -t cuda,nvtx …"
        )
    # torch.profiler begins with what others submitted; that part is outside of the window.
    unlinked = int(np.count_nonzero(facts.launches["api_row"].to_numpy()[inside] < 0))
    if unlinked > MAX_UNLINKED * len(inside):
        return (
            f"{share_text(unlinked, len(inside))} of the GPU operations have no API call, so "
            "nothing tells what they waited for."
        )
    return ""


def _replayed(facts: Facts, graph: Graph, window: Window) -> Replay:
    from analyzers.whatif.run import run

    moments, calls, operations = Moments(graph, window), graph.calls, graph.operations
    times = run(graph)
    low, high = moments.span(times)
    spans = [(low, high)]
    if graph.has_threads:
        spans.append(moments.span(run(graph.without_handovers())))
    measured = (window.start_ns - graph.origin_ns, window.end_ns - graph.origin_ns)
    device = device_of(facts, operations)
    was = busy_ns(device, operations.start, operations.stop, measured)
    now = busy_ns(device, times.start, times.stop, (low, high))
    length = max((b - a for a, b in spans), key=lambda ns: abs(ns - window.duration_ns))
    inside = (operations.start < measured[1]) & (operations.stop > measured[0])
    replayed_calls = (calls.begin < measured[1]) & (calls.end > measured[0])
    # What ran in the window may have been submitted before it.
    replayed_calls[operations.call[inside]] = True
    replayed_calls &= calls.thread >= 0
    error = abs(length - window.duration_ns) / max(window.duration_ns, 1)
    reason = ""
    if error > MAX_ERROR:
        reason = (
            f"The replay misses the measured time by {share_text(error, 1)}: the recording lacks "
            "what decides when the GPU runs, so nothing is predicted."
        )
    return Replay(
        window=window,
        measured_ns=window.duration_ns,
        end_to_end_ns=length,
        devices=tuple(
            DeviceReplay(
                key=key,
                measured_busy_ns=a,
                replayed_busy_ns=b,
                measured_idle_ns=window.duration_ns - a,
                replayed_idle_ns=high - low - b,
            )
            for key, (a, b) in enumerate(zip(was, now, strict=True))
        ),
        operations=int(inside.sum()),
        calls=int(replayed_calls.sum()),
        unlinked=int((inside & ~operations.linked).sum()),
        reason=reason,
        assumptions=_replay_assumptions(graph),
    )


def _replay_assumptions(graph: Graph) -> tuple[str, ...]:
    """Return what the replay rests on, a sentence each."""
    unknown = () if graph.typical.gap_is_known else (
        "No two kernels of a stream followed each other at once, so their pause is not recorded: "
        "a prediction's range allows for a third and for three times as much",
    )  # fmt: skip
    return (
        f"A launch reaches an idle GPU {abs(graph.typical.latency_ns) / 1e3:.1f} µs "
        f"{'before' if graph.typical.latency_ns < 0 else 'after'} its call returns, kernels "
        f"of a stream follow each other after {graph.typical.device_gap_ns / 1e3:.1f} µs",
        "Host work, calls and GPU operations take as long as recorded; streams keep the order "
        "in which work was submitted",
        *unknown,
        f"A prediction's range allows launch latency, device gap and wake-up to be "
        f"{100 * VARIES:.0f} % shorter or longer, and adds {100 * MIN_UNCERTAINTY:.1f} % or "
        "the replay's error, never more than the gain itself",
        "At worst nothing overlaps on a GPU that did not when it was recorded, unless the change "
        "is to overlap it: what needs another's results is seen only where a wait was recorded",
    )


def _predicted(
    facts: Facts,
    graph: Graph,
    unchanged: Replay,
    request: ChangeRequest,
) -> WhatIf:
    from analyzers.whatif.changes import make_changes
    from analyzers.whatif.changes.change import Reach
    from analyzers.whatif.changes.kernels import speed_up
    from analyzers.whatif.changes.shorter import shorten
    from analyzers.whatif.ranges import Ranges

    window, calls, operations = unchanged.window, graph.calls, graph.operations
    low, high = (t - graph.origin_ns for t in window.span)
    reach = Reach(
        calls=(calls.begin < high) & (calls.end > low) & (calls.thread >= 0),
        operations=(operations.start < high) & (operations.stop > low),
        window=window,
        device_peaks=request.device_peaks,
    )
    ranges = Ranges(graph, Moments(graph, window), unchanged.measured_ns, unchanged.error)
    results = make_changes(facts, graph, reach, request.only)
    results += [
        (f"kernel:{part}", speed_up(facts, graph, reach, part, times))
        for part, times in request.speed_ups
    ]
    results += [(s.name, shorten(graph, reach, s)) for s in request.shortenings]
    predictions, withheld = [], []
    wording = recorder_of(facts.trace).wording
    for name, result in results:
        if isinstance(result, str):
            withheld.append(Withheld(change=name, reason=wording(result)))
            continue
        chosen = [c for c in result if not request.only or c.id in request.only]
        chosen = [replace(c, title=wording(c.title)) for c in chosen]
        predictions += [_prediction(c, ranges, unchanged.measured_ns) for c in chosen]
    once = {p.change: p for p in predictions}
    ranked = sorted(once.values(), key=lambda p: -p.gain_ns)
    return WhatIf(replay=unchanged, predictions=tuple(ranked), withheld=tuple(withheld))


def _prediction(change: Change, ranges: Ranges, measured_ns: int) -> Prediction:
    time = ranges.of(change)
    more = (
        ("Threads hand over to each other, or do not: the range holds both",)
        if ranges.has_threads
        else ()
    )
    return Prediction(
        change=change.id,
        cause=str(change.cause),
        title=change.title,
        measured_ns=measured_ns,
        low_ns=time.low_ns,
        high_ns=time.high_ns,
        assumptions=(*change.assumptions, *more),
        count=change.count,
        floor_ns=time.floor_ns,
    )


def agrees(prediction: Prediction, low: float, high: float) -> bool:
    """Tell whether a measured speed-up (with its interval) overlaps what was predicted."""
    return ranges_meet(prediction.speedup, low, high)


def beside(prediction: Prediction, measured: float, low: float, high: float) -> str:
    """Say prediction and reality in one sentence: "predicted 1.9–2.3 ×, measured 2.1 ×".

    Args:
        prediction: What was predicted from the baseline's recording.
        measured: Speed-up of the optimized run, baseline over optimized time.
        low: Lower end of its interval.
        high: Upper end of it.
    """
    interval = "" if times_text(low) == times_text(high) else f" ({range_text(low, high)})"
    real = f"{times_text(measured)} {TIMES}{interval}"
    sentence = f"predicted {range_text(*prediction.speedup)}, measured {real}"
    if agrees(prediction, low, high):
        return sentence
    least, _ = prediction.speedup
    return f"{sentence}: {'less' if high < least else 'more'} than predicted"
