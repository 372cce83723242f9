"""What following a finding's advice wins, by replaying the recording with that change."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Window
from analyzers.finding import Finding, PredictedGain
from analyzers.recorder import recorder_of
from analyzers.whatif.changes.shorter import Shortening
from analyzers.whatif.whatif import ChangeRequest, Prediction, explore_changes

MAX_STEPS = 200_000
"""Calls and operations of a recording that is replayed for its findings. A longer one is replayed
when somebody asks for it (``whyslow whatif``): building its graph takes seconds."""

CHANGES = {
    "launch.missing_graph": ("graph",),
    "launch.small_kernels": ("graph",),
    "launch.device_gaps": ("graph",),
    "sync.host_waits": ("sync",),
    "sync.small_readbacks": ("sync",),
    "sync.blocking_copies": ("copies.overlapped", "copies.pinned"),
    "sync.implicit": ("memory",),
    "bandwidth.pageable_copies": ("copies.overlapped", "copies.pinned"),
    "bandwidth.transfer_bound": ("copies.overlapped",),
    "bandwidth.round_trips": ("copies.resident",),
    "bandwidth.migrations_in_kernels": ("prefetch",),
    "host.data_loader": ("host",),
    "host.starvation": ("host",),
    "memory.allocation": ("memory",),
    "communication.exposed": ("communication",),
}
"""The what-if that is a finding's advice, by the rule's id; the first that can be made counts."""

WITHOUT_GRAPH = {
    "launch.missing_graph": (
        "A CUDA graph of these launches would win little: too few of them stand between waits, "
        "pauses and allocations. Remove those first, or fuse kernels."
    ),
    "launch.small_kernels": "Fuse neighbouring operations, or give each kernel more work.",
    "launch.device_gaps": "Run fewer, larger kernels: fuse or batch them.",
}
"""What is advised by the rule's id where the replay shows that graphs win nothing notable."""

LOG = logging.getLogger(__name__)


def with_predicted_gains(
    facts: Facts,
    window: Window,
    findings: tuple[Finding, ...],
    shortenings: Sequence[Shortening] = (),
) -> tuple[Finding, ...]:
    """Return the findings, each with what its advice wins where that can be replayed.

    A finding stays as it is where the recording is too long, where its replay cannot be trusted,
    and where the advice is nothing that a replay can do.

    Args:
        facts: The recording.
        window: What the findings are about.
        findings: Ranked.
        shortenings: By how much kernels become shorter, for findings of these names.
    """
    shortenings = [s for s in shortenings if s.name in {f.id for f in findings}]
    changes = frozenset(name for f in findings for name in CHANGES.get(f.id, ()))
    changes |= {s.name for s in shortenings}
    if not changes or len(facts.launches) + len(facts.api) > MAX_STEPS:
        return findings
    try:
        request = ChangeRequest(only=changes, shortenings=shortenings)
        answer = explore_changes(facts, window, request)
    except Exception:  # a defect in a prediction must not hide what was found
        LOG.exception("gains were not predicted")
        return findings
    wins = {p.change for p in answer.predictions if p.wins}
    if answer.replay.is_trusted and "graph" in changes - wins:
        wording = recorder_of(facts.trace).wording
        findings = tuple(_without_graph(f, wording) for f in findings)
    return tuple(_with_gain(f, answer.predictions) for f in findings)


def _without_graph(finding: Finding, wording: Callable[[str], str]) -> Finding:
    """Return a finding that does not advise a graph which would win nothing notable."""
    advice = WITHOUT_GRAPH.get(finding.id, "")
    if not advice or wording("CUDA graph") not in finding.advice:
        return finding
    return dataclasses.replace(finding, advice=wording(advice))


def _with_gain(finding: Finding, predictions: Iterable[Prediction]) -> Finding:
    by_change = {p.change: p for p in predictions}
    for change in (*CHANGES.get(finding.id, ()), finding.id):
        if (prediction := by_change.get(change)) is not None:
            # Kernels that become shorter win no more than that; a replay that is off might say so.
            most_ns = finding.high_ns if change == finding.id else finding.gain_ns
            return dataclasses.replace(finding, predicted_gain=_gain(prediction, most_ns))
    return finding


def _gain(prediction: Prediction, most_ns: int) -> PredictedGain:
    """Return what a prediction wins, and no more than a rule knows it can; -1 where it does not."""
    low, high = (prediction.measured_ns - ns for ns in (prediction.high_ns, prediction.low_ns))
    if most_ns >= 0:
        low, high = min(low, most_ns), min(high, most_ns)
    return PredictedGain(
        change=prediction.change,
        title=prediction.title,
        low_ns=low,
        high_ns=high,
        window_ns=prediction.measured_ns,
    )
