"""Whether a change may pass: what a pipeline asks of a comparison, and the status it is told."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from analyzers.compare.types import Comparison, WaterfallRow

ANSWERED, REGRESSED, INCONCLUSIVE = 0, 1, 4
TIME, MEMORY = "time per iteration", "peak memory"


class Gate(NamedTuple):
    """What the caller is told: an exit status, and why it is not 0."""

    status: int
    failure: str = ""
    inconclusive: str = ""


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """What a pipeline allows; None and nothing where it does not ask.

    Attributes:
        time: Share by which the time may grow.
        memory: Share by which the peak memory may grow.
        causes: Of rows of the ledger the share of base's time by which each may grow.
        repeats: Recordings that each side must have.
    """

    time: float | None = None
    memory: float | None = None
    causes: dict[str, float] = field(default_factory=dict)
    repeats: int = 1


def add_limits(command: argparse.ArgumentParser) -> None:
    """Add what a pipeline allows."""
    command.add_argument(
        "--fail-on-regression",
        type=percent,
        default=None,
        metavar="PERCENT",
        help="exit 1 when an iteration takes this much longer, 4 when that cannot be determined",
    )
    command.add_argument(
        "--fail-on-memory",
        type=percent,
        default=None,
        metavar="PERCENT",
        help="exit 1 when the peak memory grows by more, 4 when it was not recorded",
    )
    command.add_argument(
        "--fail-on-cause",
        type=cause_limit,
        action="append",
        default=[],
        metavar="CAUSE=PERCENT",
        help="exit 1 when a cause (launch, sync, host …) costs this much more of base's time",
    )
    command.add_argument(
        "--require-repeats",
        type=int,
        default=1,
        metavar="N",
        help="exit 4 unless each side has this many recordings (with a --fail-on option)",
    )


def limits_of(chosen: argparse.Namespace) -> GateLimits:
    """Return the limits that the command line names."""
    return GateLimits(
        time=chosen.fail_on_regression,
        memory=chosen.fail_on_memory,
        causes=dict(chosen.fail_on_cause),
        repeats=chosen.require_repeats,
    )


def percent(text: str) -> float:
    """Read ``3%`` or ``3`` as 0.03.

    Raises:
        argparse.ArgumentTypeError: It is no percentage of 0 or more.
    """
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage such as 3%")
    return value


def cause_limit(text: str) -> tuple[str, float]:
    """Read ``sync=5%`` as a row of the ledger and 0.05.

    Raises:
        argparse.ArgumentTypeError: There is no such row, or it is no percentage.
    """
    from analyzers.finding import Row

    name, _, share = text.partition("=")
    rows = [row.value for row in Row]
    if name not in rows:
        raise argparse.ArgumentTypeError(f"{name[:40]!r} is no cause; there are {', '.join(rows)}")
    return name, percent(share)


def decisions(comparison: Comparison, limits: GateLimits) -> dict[str, Gate]:
    """Return what is decided about each question that the pipeline asks, by name."""
    answers = {TIME: gate(comparison, limits.time, limits.repeats)}
    if limits.memory is not None:
        answers[MEMORY] = _memory_gate(comparison, limits.memory)
    rows = {row.row: row for row in comparison.waterfall}
    base_ns = comparison.judged.base if comparison.judged else 0.0
    for cause, allowed in limits.causes.items():
        answer = _cause_gate(rows.get(cause), cause, allowed, base_ns)
        why = _other_machine(comparison) or _other_driver(comparison)
        if why and answer.status == REGRESSED:
            answer = Gate(INCONCLUSIVE, inconclusive=f"{why} {answer.failure}")
        answers[f"time by {cause}"] = answer
    if fewest := _missing_repeats(comparison, limits.repeats):
        answers |= {
            name: Gate(INCONCLUSIVE, inconclusive=fewest) for name in answers if name != TIME
        }
    return answers


def status_of(answers: dict[str, Gate]) -> int:
    """Return the exit status: 1 if any question failed, else 4 if any is open, else 0."""
    statuses = {answer.status for answer in answers.values()}
    return next((s for s in (REGRESSED, INCONCLUSIVE) if s in statuses), ANSWERED)


def gate(comparison: Comparison, allowed: float | None, repeats: int = 1) -> Gate:
    """Decide whether a change may pass.

    It fails when the lower end of the interval in general lies above ``allowed``: two runs of one
    program do not fail more often than stated. It passes when the upper end lies below it, with
    one recording a side the upper end within these two runs. Between them it is inconclusive: a
    gate that lets through what it cannot see is none.

    Args:
        comparison: The answer.
        allowed: Share of base's time; None when nobody asked for a gate: then the status is 0.
        repeats: Recordings that each side must have at least to fail or pass.
    """
    from analyzers.compare.types import ComparisonVerdict
    from analyzers.words import share_text

    verdict, delta = comparison.verdict, comparison.judged
    if allowed is None:
        failure = comparison.sentence if verdict is ComparisonVerdict.REGRESSED else ""
        open_answers = (ComparisonVerdict.INCONCLUSIVE, ComparisonVerdict.NOT_COMPARABLE)
        undecided = comparison.sentence if verdict in open_answers else ""
        return Gate(ANSWERED, failure, undecided)
    if delta is None or delta.low is None or delta.high is None:
        return Gate(INCONCLUSIVE, inconclusive=comparison.sentence)
    limit_ns = allowed * delta.base
    is_worse = verdict is ComparisonVerdict.REGRESSED and delta.low > limit_ns
    why = _missing_repeats(comparison, repeats) or _other_machine(comparison)
    if why := why or (_other_driver(comparison) if is_worse else ""):
        return Gate(INCONCLUSIVE, inconclusive=f"{why} {comparison.sentence}")
    if is_worse:
        return Gate(REGRESSED, failure=comparison.sentence)
    highest = delta.high if delta.high_in_runs is None else delta.high_in_runs
    if highest <= limit_ns or verdict is ComparisonVerdict.IMPROVED:
        return Gate(ANSWERED)
    detectable = share_text(
        max(delta.detectable or 0.0, delta.high - delta.change) + limit_ns, delta.base
    )
    why = (
        f"A regression of more than {allowed:.1%} can neither be shown nor ruled out; one of "
        f"{detectable} would have been shown."
    )
    return Gate(INCONCLUSIVE, inconclusive=f"{why} {comparison.sentence}")


def _missing_repeats(comparison: Comparison, repeats: int) -> str:
    """Say that a side has too few recordings; empty when both have enough."""
    fewest = min(len(side.recordings) for side in (comparison.base, comparison.new))
    if fewest >= repeats:
        return ""
    return f"{repeats} recordings of each side are required, {fewest} given."


def _other_machine(comparison: Comparison) -> str:
    """Say that the sides ran on different GPUs; empty when they did not."""
    from analyzers.compare.types import OTHER_MACHINE

    is_other = _differs(comparison, OTHER_MACHINE)
    return "The machines differ, so no change is charged to the program." if is_other else ""


def _other_driver(comparison: Comparison) -> str:
    """Say that the sides ran under different drivers; empty when they did not."""
    from analyzers.compare.types import OTHER_DRIVER

    is_other = _differs(comparison, OTHER_DRIVER)
    return "The drivers differ, so no regression is charged to the program." if is_other else ""


def _differs(comparison: Comparison, what: str) -> bool:
    from analyzers.compare.types import Level

    return any(d.what == what and d.level is Level.WARNING for d in comparison.comparability)


def _memory_gate(comparison: Comparison, allowed: float) -> Gate:
    """Decide about the peak of the memory: it is counted, so it has no interval to speak of."""
    from analyzers.words import share_text, size_text

    peaks = [m for m in comparison.metrics if m.group == "memory"]
    if not peaks:
        return Gate(INCONCLUSIVE, inconclusive="The peak memory was not recorded on both sides.")
    worst = max(peaks, key=lambda m: m.value.ratio or 0.0)
    value = worst.value
    if value.change <= allowed * value.base:
        return Gate(ANSWERED)
    grown = share_text(value.change, value.base) if value.base else "all of it"
    sizes = f"{size_text(value.base)} to {size_text(value.new)}"
    return Gate(REGRESSED, failure=f"{worst.name.capitalize()} grew from {sizes} (+{grown}).")


def _cause_gate(row: WaterfallRow | None, cause: str, allowed: float, base_ns: float) -> Gate:
    """Decide about the time that one cause costs."""
    from analyzers.words import share_text, time_text

    if row is None:
        return Gate(INCONCLUSIVE, inconclusive=f"The time by {cause} cannot be compared.")
    times = f"{time_text(row.base_ns)} before, {time_text(row.new_ns)} now"
    share = share_text(max(row.change_ns, 0), base_ns)
    if row.low_ns is None or row.high_ns is None:
        if not row.base_ns and not row.new_ns:
            return Gate(ANSWERED)
        why = f"How much the time by {cause} varies was not measured ({times})."
        return Gate(INCONCLUSIVE, inconclusive=why)
    if row.low_ns > allowed * base_ns and row.significant:
        return Gate(REGRESSED, failure=f"{cause} costs {times}: +{share} of base's time.")
    if row.high_ns <= allowed * base_ns:
        return Gate(ANSWERED)
    why = f"{cause} costs {times}; more than {allowed:.1%} of base's time cannot be ruled out."
    return Gate(INCONCLUSIVE, inconclusive=why)
