"""From facts and ledger to the answer: run every rule, rank what they found, give the verdict."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from analyzers import rules
from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.facts.spans import Iteration
from analyzers.finding import (
    CAUSE_OF_ROW,
    Cause,
    Clear,
    Failed,
    Finding,
    Outcome,
    Row,
    Skipped,
)
from analyzers.kernels.verdict import (
    LOSSES_INSIDE,
    ROW_INSIDE,
    examined_by_counters,
    per_iteration,
    verdict_of_counters,
)
from analyzers.ledger.ledger import Ledger
from analyzers.losses.ncu_command import MOST_OF_THE_TIME, why_no_counters
from analyzers.losses.parallelism import why_unknown
from analyzers.recorder import recorder_of
from analyzers.report import QualityNote, Verdict
from analyzers.words import share_text, time_text

THREADS = 2  # rules at a time; each may hold some columns of a large recording

NO_TIMELINE = (
    "the recording holds counters for individual launches but no timeline; record one with "
    "`nsys profile -t cuda,nvtx,osrt`"
)

LOG = logging.getLogger(__name__)

HEALTHY_BELOW = 0.10  # of the time in use; a reader would not act on a smaller loss

# What each cause needs to be answered from a timeline. Divergence, and bandwidth inside kernels,
# need hardware counters of Nsight Compute.
_NEEDS_CALLS = (Cause.LAUNCH, Cause.SYNC, Cause.HOST, Cause.MEMORY, Cause.DEPENDENCY)

_TITLES = {
    Cause.LAUNCH: "Launch-bound",
    Cause.SYNC: "Sync-bound",
    Cause.BANDWIDTH: "Bandwidth-bound",
    Cause.DIVERGENCE: "Divergence-bound",
    Cause.HOST: "Host-bound",
    Cause.COMMUNICATION: "Communication-bound",
    Cause.MEMORY: "Held up by memory management and set-up",
    Cause.DEPENDENCY: "Held up by dependencies",
    Cause.PARALLELISM: "Too little parallel work",
    Cause.COMPUTE: "Compute-bound on a slow unit",
}
_LOSSES = {
    Cause.LAUNCH: "the GPU is idle while work is being launched",
    Cause.SYNC: "the GPU is idle because the host had been waiting for it",
    Cause.BANDWIDTH: "only copies and memsets run",
    Cause.DIVERGENCE: "lanes of running warps are idle",
    Cause.HOST: "the GPU is idle while the host is busy outside CUDA",
    Cause.COMMUNICATION: "only collectives run",
    Cause.MEMORY: "the GPU is idle while memory is allocated or modules and graphs are set up",
    Cause.DEPENDENCY: "submitted work waits for another stream, an event or the queue",
}
_NOUNS = {
    Cause.LAUNCH: "launching",
    Cause.SYNC: "synchronisation",
    Cause.BANDWIDTH: "exposed copies",
    Cause.DIVERGENCE: "divergence",
    Cause.HOST: "the host",
    Cause.COMMUNICATION: "exposed communication",
    Cause.MEMORY: "memory management and set-up",
    Cause.DEPENDENCY: "dependencies",
    Cause.PARALLELISM: "too little parallel work",
    Cause.COMPUTE: "arithmetic on slow units",
}


def all_rules() -> list[ModuleType]:
    """Return every rule, found by being in the folder, in alphabetical order."""
    # Not pkgutil: it takes a folder that cannot be listed, for want of memory, for an empty one.
    files = sorted(os.listdir(rules.__path__[0]))  # noqa: PTH208 - glob hides errors, too
    names = [f.removesuffix(".py") for f in files if f.endswith(".py") and f != "__init__.py"]
    return [importlib.import_module(f"{rules.__name__}.{n}") for n in names]


def rule_id(rule: ModuleType) -> str:
    """Return ``<cause>.<pattern>`` of a rule, from its file name."""
    cause, _, pattern = rule.__name__.rpartition(".")[2].partition("_")
    return f"{cause}.{pattern}"


def run_rules(facts: Facts, ledger: Ledger) -> list[Outcome]:
    """Ask every rule; one that raises becomes ``Failed`` and the others go on.

    Rules only read, and most of their time is in numpy, which lets other threads run.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda rule: _ask(rule, facts, ledger), all_rules()))


def _ask(rule: ModuleType, facts: Facts, ledger: Ledger) -> Outcome:
    name = rule_id(rule)
    try:
        outcome = _without_its_tables(rule, facts, ledger) or rule.check(facts, ledger)
    except Exception as error:  # a defect in one rule must not hide what the others found
        LOG.exception("rule %s failed", name)
        return Failed(f"{type(error).__name__} in this rule; the others are not affected", id=name)
    if isinstance(outcome, Finding):
        return dataclasses.replace(outcome, id=name, cause=Cause(name.partition(".")[0]))
    if isinstance(outcome, Skipped | Failed):
        return dataclasses.replace(outcome, id=name)
    return outcome


def _without_its_tables(rule: ModuleType, facts: Facts, ledger: Ledger) -> Outcome | None:
    """Return the answer for a recording that lacks what the rule needs; None when it does not."""
    needs = getattr(rule, "NEEDS", ())
    missing = [t for t in needs if not facts.trace.count(t)]
    if ledger.examined is not None and ledger.inside is not None:
        missing = [t for t in missing if t != "counters"]
    if not len(facts.launches):
        return Skipped("no GPU work was recorded")
    if facts.counters_only and "counters" not in needs:
        return Skipped(NO_TIMELINE)
    if "counters" in missing:
        return Skipped(why_no_counters(facts, ledger))
    if "api_calls" in missing:
        recorder = recorder_of(facts.trace)
        return Skipped(f"no {recorder.api} API calls were recorded; {recorder.calls}")
    return Clear() if missing else None  # CUDA was traced, and nothing of this kind happened


def rank(outcomes: Iterable[Outcome], ledger: Ledger) -> tuple[Finding, ...]:
    """Return the findings, largest loss first, none of which claims time that another claims.

    Rules divide their row among themselves; should two ever overlap, the smaller one gives way,
    so that the sum of claims on a row never exceeds the row.
    """
    left = {row: ledger.total_ns(row) for row in Row}
    findings = []
    for finding in sorted(
        (o for o in outcomes if isinstance(o, Finding)), key=lambda f: (-f.lost_ns, f.id)
    ):
        claimed = min(finding.lost_ns, left[finding.row])
        left[finding.row] -= claimed
        findings.append(dataclasses.replace(finding, lost_ns=claimed))
    return tuple(findings)


def booked_by_cause(ledger: Ledger) -> dict[Cause, int]:
    """Return the nanoseconds that each cause costs, over all devices."""
    booked = dict.fromkeys(_NOUNS, 0)
    for row, cause in CAUSE_OF_ROW.items():
        booked[cause] += ledger.total_ns(row)
    booked[Cause.HOST] -= ledger.duration_ns - ledger.in_use_ns
    return booked


def examined_causes(facts: Facts, ledger: Ledger) -> tuple[tuple[Cause, ...], tuple[Cause, ...]]:
    """Return the causes that the recording could answer, and the others."""
    if facts.counters_only:
        inside = examined_by_counters(ledger)
        return tuple(c for c in _NOUNS if c in inside), tuple(c for c in _NOUNS if c not in inside)
    examined: list[Cause] = []
    if len(facts.launches):
        examined += [Cause.BANDWIDTH, Cause.COMMUNICATION]
        if len(facts.api):
            examined += _NEEDS_CALLS
        if not why_unknown(facts):
            examined.append(Cause.PARALLELISM)
        if ledger.examined is not None and ledger.examined.covered_share >= MOST_OF_THE_TIME:
            examined += examined_by_counters(ledger)
    return tuple(c for c in _NOUNS if c in examined), tuple(c for c in _NOUNS if c not in examined)


def give_verdict(
    facts: Facts,
    ledger: Ledger,
    quality: tuple[QualityNote, ...],
    findings: tuple[Finding, ...],
    iterations: tuple[Iteration, ...] = (),
) -> Verdict:
    """Return the sentence that matters."""
    examined, not_examined = examined_causes(facts, ledger)
    parts: dict[str, Any] = {"examined": examined, "not_examined": not_examined}
    blocker = next((n for n in quality if n.level == "error"), None)
    if blocker:
        sentence = f"Could not tell: {blocker.message}"
        return Verdict(cause="unknown", share=0.0, sentence=sentence, **parts)
    if facts.counters_only:
        return verdict_of_counters(facts, ledger, findings, examined, not_examined)
    booked = booked_by_cause(ledger)
    cause = max(booked, key=lambda c: booked[c])
    share = booked[cause] / max(ledger.in_use_ns, 1)
    unexplained = ledger.total_ns(Row.UNEXPLAINED)
    if unexplained >= max(HEALTHY_BELOW * ledger.in_use_ns, booked[cause]):
        return _cannot_tell(ledger, quality, unexplained, parts)
    kernels = _inside_kernels(facts, ledger)
    worst = _largest_inside(ledger, findings)
    if share >= HEALTHY_BELOW:
        sentence = _what_costs(cause, booked[cause], ledger, findings, iterations)
        if worst is not None and worst.lost_ns > booked[cause]:
            sentence += f" There is more to gain inside kernels: {worst.title}."
        sentence = f"{sentence} {kernels}".strip()
        return Verdict(cause=cause.value, share=share, sentence=sentence, **parts)
    limit = share_text(HEALTHY_BELOW, 1)
    if worst is not None:
        sentence = (
            f"{_TITLES[worst.cause]} inside kernels: {worst.title}. Up to "
            f"{time_text(worst.lost_ns)}, {ledger.share(worst.lost_ns)}, can be won back there; "
            f"outside kernels, no cause costs {limit} or more."
        )
        share = worst.lost_ns / max(ledger.in_use_ns, 1)
        return Verdict(cause=worst.cause.value, share=share, sentence=sentence.strip(), **parts)
    largest = share_text(booked[cause], ledger.in_use_ns)
    most = f"; the largest is {_NOUNS[cause]}, at {largest}" if booked[cause] else ""
    saw_inside = examined_by_counters(ledger) and not kernels
    where = "on the timeline and inside kernels" if saw_inside else "on the timeline"
    sentence = f"Healthy {where}: no cause costs {limit} or more of {ledger.whole}{most}. {kernels}"
    return Verdict(cause="healthy", share=share, sentence=sentence.strip(), **parts)


def _what_costs(
    cause: Cause,
    ns: int,
    ledger: Ledger,
    findings: tuple[Finding, ...],
    iterations: tuple[Iteration, ...],
) -> str:
    """Say what the cause of the verdict costs; inside kernels, also where and how often."""
    row = ROW_INSIDE.get(cause)
    if row is None or 2 * ledger.total_ns(row) < ns:
        named = (f for f in findings if f.cause is cause and 2 * f.lost_ns >= ns)
        culprit = next((f", {f.culprit}" for f in named if f.culprit), "")
        return f"{_TITLES[cause]}: for {ledger.share(ns)}, {_loss(cause, ledger)}{culprit}."
    inside_ns = ledger.total_ns(row)
    sentences = [f"{_TITLES[cause]}: {ledger.share(inside_ns)} {LOSSES_INSIDE[cause]}."]
    if ns > inside_ns:
        sentences.append(
            f"For another {share_text(ns - inside_ns, ledger.in_use_ns)}, only copies run."
        )
    first = next((f for f in findings if f.cause is cause and f.row is row), None)
    sentences += [f"{first.title}."] if first is not None else []
    each = per_iteration(ledger, iterations, cause)
    return " ".join([*sentences, each] if each else sentences)


def _cannot_tell(
    ledger: Ledger, quality: tuple[QualityNote, ...], unexplained: int, parts: dict[str, Any]
) -> Verdict:
    why = next((n.message for n in quality if n.code == "unexplained"), "")
    share = unexplained / max(ledger.in_use_ns, 1)
    sentence = f"Could not tell: {why}" if why else "Could not tell why the GPU was idle."
    return Verdict(cause="unknown", share=share, sentence=sentence, **parts)


def _loss(cause: Cause, ledger: Ledger) -> str:
    several = len(ledger.devices) > 1
    return (
        _LOSSES[cause].replace("the GPU is idle", "the GPUs are idle")
        if several
        else _LOSSES[cause]
    )


def _largest_inside(ledger: Ledger, findings: tuple[Finding, ...]) -> Finding | None:
    """Return the largest finding about kernels themselves, if it is worth a verdict."""
    inside = (f for f in findings if f.row is Row.KERNEL and f.cause is not Cause.COMPUTE)
    largest = max(inside, key=lambda f: f.lost_ns, default=None)
    if largest is None or largest.lost_ns < HEALTHY_BELOW * ledger.in_use_ns:
        return None
    return largest


def _inside_kernels(facts: Facts, ledger: Ledger) -> str:
    """Say how much of the time is inside kernels, where nobody has looked."""
    examined = ledger.examined
    ns = ledger.kernel_ns if examined is None else examined.kernel_ns - examined.covered_ns
    kinds = set(facts.launches["kind"].to_numpy()[facts.inside(*ledger.window.span)].tolist())
    if not ns or not kinds & {KERNEL, GRAPH}:
        return ""
    share = share_text(ns, ledger.in_use_ns)
    if ns < HEALTHY_BELOW * ledger.in_use_ns:
        kernels = "kernels that" if ledger.inside is not None else "kernels, which"
        return f"{share} of the time is spent in {kernels} were not examined."
    if ledger.inside is not None:
        return (
            f"{share} of the time is spent in kernels that the counters do not cover (listed "
            "under capture quality)."
        )
    if KERNEL not in kinds:
        return (
            f"{share} of the time is spent in CUDA graphs that were recorded as a whole, so "
            "nothing is known about their kernels: record with --cuda-graph-trace=node."
        )
    graphs = " and in whole CUDA graphs" if GRAPH in kinds else ""
    return (
        f"{share} of the time is spent in kernels{graphs} that were not examined: run "
        f'{recorder_of(facts.trace).counters} (the command is under "Could not tell").'
    )
