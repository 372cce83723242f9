"""From facts and ledger to findings: every rule is asked, and what they answer is ranked."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from analyzers import rules
from analyzers.facts.facts import Facts
from analyzers.finding import (
    Cause,
    Clear,
    Failed,
    Finding,
    Outcome,
    Row,
    Skipped,
)
from analyzers.ledger.ledger import Ledger
from analyzers.losses.ncu_command import why_no_counters
from analyzers.recorder import Recorder, recorder_of

THREADS = 2  # rules at a time; each may hold some columns of a large recording

NO_TIMELINE = (
    "the recording holds counters for individual launches but no timeline; record one with "
    "`nsys profile -t cuda,nvtx,osrt`"
)

LOG = logging.getLogger(__name__)


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
    """Ask every rule; one that raises becomes ``Failed`` and the others go on."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(ask_rules(facts, ledger, threads))


def ask_rules(facts: Facts, ledger: Ledger, threads: ThreadPoolExecutor) -> Iterator[Outcome]:
    """Let ``threads`` ask every rule, as ``run_rules`` does; yields as answers come in, in order.

    Rules only read, and most of their time is in numpy, which lets other threads run.
    """
    return threads.map(lambda rule: _ask(rule, facts, ledger), all_rules())


def _ask(rule: ModuleType, facts: Facts, ledger: Ledger) -> Outcome:
    name = rule_id(rule)
    try:
        outcome = _without_its_tables(rule, facts, ledger) or rule.check(facts, ledger)
    except Exception as error:  # a defect in one rule must not hide what the others found
        LOG.exception("rule %s failed", name)
        return Failed(f"{type(error).__name__} in this rule; the others are not affected", id=name)
    recorder = recorder_of(facts.trace)
    if isinstance(outcome, Finding):
        named = dataclasses.replace(outcome, id=name, cause=Cause(name.partition(".")[0]))
        return _in_words_of(recorder, named) if recorder.vocabulary else named
    if isinstance(outcome, Skipped):
        return dataclasses.replace(outcome, id=name, reason=recorder.wording(outcome.reason))
    return dataclasses.replace(outcome, id=name) if isinstance(outcome, Failed) else outcome


def _in_words_of(recorder: Recorder, finding: Finding) -> Finding:
    """Return a finding whose sentences speak of the GPU as its maker does."""
    wording = recorder.wording
    return dataclasses.replace(
        finding,
        title=wording(finding.title),
        advice=wording(finding.advice),
        does_not_apply_when=wording(finding.does_not_apply_when),
        formula=wording(finding.formula),
        culprit=wording(finding.culprit),
        evidence=tuple(dataclasses.replace(e, name=wording(e.name)) for e in finding.evidence),
    )


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
