"""From a trace to the answer: facts, the time ledger, rules, the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from analyzers.counters.joining import join
from analyzers.diagnose import THREADS, ask_rules, rank
from analyzers.facts.facts import Facts, build_facts
from analyzers.facts.host_profile import host_profile
from analyzers.facts.loop_choice import chosen_iterations
from analyzers.facts.loops import find_iterations
from analyzers.facts.spans import Iteration, Iterations
from analyzers.facts.start_up import is_start_up
from analyzers.facts.steps import step_breakdown
from analyzers.facts.surroundings import ranges_of
from analyzers.facts.totals import operations, origin, totals
from analyzers.facts.window_request import parse_request
from analyzers.facts.windows import choose_window
from analyzers.finding import Cause, Confidence, Failed, Finding, Skipped
from analyzers.kernels.counted import roofline_summary
from analyzers.kernels.tool_rules import tool_rules
from analyzers.kernels.top import top_kernels
from analyzers.ledger.ledger import Ledger, build_ledger
from analyzers.losses import collective_links, fp64_kernels
from analyzers.losses.kernel_work import CHANGES_IN_WORDS, work_losses
from analyzers.quality.quality import check_quality
from analyzers.report import Report
from analyzers.verdict import VerdictBasis, give_verdict
from analyzers.whatif.changes.shorter import Shortening
from analyzers.whatif.gains import with_predicted_gains
from analyzers.work.account import WorkAccount, window_work
from analyzers.work.answer import WorkAnswer, answer_of_work
from collectors.trace import Trace

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Analysis:
    """A report and what it was made from; the account of the busy time if there is one."""

    report: Report
    facts: Facts
    ledger: Ledger
    account: WorkAccount | None = None


def investigate(
    trace: Trace,
    window: str = "",
    facts: Facts | None = None,
    counters: Trace | None = None,
    device_peaks: Mapping[str, float] | None = None,
) -> Analysis:
    """Like ``analyzers.analyze``, and keep the facts and the ledger for further questions.

    Args:
        trace: The recording.
        window: Part of it, as ``analyzers.analyze`` takes it.
        facts: What is known about the recording, if the caller has that already.
        counters: Counters of its kernels, as ``analyzers.analyze`` takes them.
        device_peaks: What the user says about the GPUs; ``analyzers.work.roofs.parse_peaks``.
    """
    facts = facts or build_facts(trace)
    request = parse_request(window)
    joined = join(facts, counters) if counters is not None else None
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_prepare, facts)
        marked = find_iterations(facts)  # whole steps are looked for among the same ranges
        # The ledger needs the iterations only to look one of them up.
        pending = thread.submit(chosen_iterations, facts, request.iterations, marked)
        candidates = pending.result().spans if request.window.startswith("iteration") else ()
        chosen = choose_window(facts, request.window, candidates)
        if not facts.counters_only:
            thread.submit(window_work, facts, chosen, device_peaks)  # kept until it is asked for
        ledger = build_ledger(facts, chosen, joined)
        ledger = replace(ledger, device_peaks=device_peaks or {})
        iterations = pending.result()
    return _answered(facts, ledger, iterations)


def _prepare(facts: Facts) -> None:
    """Make what ledger and rules ask for whatever the window is, on a core that is idle.

    Whoever asks earlier makes it himself; nothing depends on this but time.
    """
    if facts.counters_only:
        return
    for name in ("call_order", "api_call", "is_first_use"):
        getattr(facts, name)
    is_start_up(facts)
    ranges_of(facts)


def _answered(facts: Facts, ledger: Ledger, loop: Iterations) -> Analysis:
    """Account for the busy time, ask the rules, check the capture, give the verdict."""
    iterations = loop.spans
    with ThreadPoolExecutor(THREADS) as threads:
        account = threads.submit(_work, facts, ledger, iterations)
        checks = threads.submit(check_quality, facts, ledger, iterations)
        outcomes = list(ask_rules(facts, ledger, threads))
        (work, work_failures), quality = account.result(), checks.result()
    findings = rank(outcomes, ledger)
    shortenings = _shortenings(facts, ledger, findings)
    findings = with_predicted_gains(facts, ledger.window, findings, shortenings)
    top = top_kernels(facts, ledger.window)
    host = host_profile(facts, ledger.window)
    report = Report(
        source={**origin(facts), "gpus": sorted({n for n in facts.devices["name"] if n})},
        window=ledger.window,
        devices=ledger.devices,
        verdict=give_verdict(
            VerdictBasis(
                facts=facts,
                ledger=ledger,
                quality=quality,
                findings=findings,
                iterations=iterations,
                top_kernels=top,
                busy_time=work.sentence,
                knows_work=work.knows_work,
                host_profile=host,
            )
        ),
        findings=findings,
        skipped=tuple(o for o in outcomes if isinstance(o, Skipped)),
        failed=(*(o for o in outcomes if isinstance(o, Failed)), *work_failures),
        quality=quality,
        counts=facts.trace.counts,
        operations=operations(facts, ledger.window),
        totals={
            **totals(facts),
            "steps": step_breakdown(facts, iterations),
            "roofline": roofline_summary(ledger.inside, facts, ledger),
        },
        iterations=iterations,
        iterations_note=loop.note,
        iterations_evidence=loop.evidence,
        counters=ledger.examined.to_dict(facts) if ledger.examined is not None else {},
        top_kernels=top,
        tool_rules=tool_rules(ledger.inside),
        work=work.work,
        classes=work.classes,
        mfu=work.mfu,
        work_roofs=work.roofs,
        busy_sentence=work.sentence,
        host_profile=host,
    )
    return Analysis(report, facts, ledger, work.account)


def _shortenings(facts: Facts, ledger: Ledger, findings: Sequence[Finding]) -> list[Shortening]:
    """Return what findings from the account of the busy time would win of each launch."""
    if not any(f.confidence is Confidence.ESTIMATED for f in findings):
        return []
    losses = [
        (pattern.value, CHANGES_IN_WORDS[pattern], loss.launches)
        for pattern, loss in work_losses(facts, ledger).items()
    ]
    for name, (loss_of, title) in (collective_links.SHORTENINGS | fp64_kernels.SHORTENINGS).items():
        if (loss := loss_of(facts, ledger)) is not None:
            losses.append((name, title, loss.launches))
    return [
        Shortening(
            name=name,
            cause=Cause(name.partition(".")[0]),
            title=title,
            launches=launches["launch"].to_numpy(),
            low_ns=launches["low_ns"].to_numpy(),
            high_ns=launches["high_ns"].to_numpy(),
            is_absorbed=launches["is_absorbed"].to_numpy(),
        )
        for name, title, launches in losses
    ]


def _work(
    facts: Facts,
    ledger: Ledger,
    iterations: Sequence[Iteration],
) -> tuple[WorkAnswer, tuple[Failed, ...]]:
    """Return the account of the busy time; a defect in it must not hide what else is known."""
    try:
        return answer_of_work(facts, ledger, iterations), ()
    except Exception as error:
        LOG.exception("the account of the busy time failed")
        text = f"{type(error).__name__} in the account of the busy time; the rest is not affected"
        return WorkAnswer(), (Failed(text, id="work.account"),)
