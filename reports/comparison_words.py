"""The numbers of a comparison in words: the same on the page and in the report."""

from __future__ import annotations

from collections.abc import Iterable

from analyzers.compare.types import (
    REMAINDER,
    WORK,
    Certainty,
    Comparison,
    ComparisonVerdict,
    Delta,
    Difference,
    Level,
    SubResult,
)
from analyzers.finding import Row
from analyzers.words import signed_percent
from reports.numbers import format_value, signed_text
from reports.palette import ROW_COLORS, ROW_MEANINGS

GREY = "#8E959D"  # of a change that may be chance, drawn faintly
FAINT = 0.5  # its opacity: it must not stand out, whatever the page's colour
END_COLOR = "#6C7681"  # of the two sides themselves
REMAINDER_COLOR = "#4E5C6A"
MEANINGS = {
    REMAINDER: "what the rows do not explain",
    WORK: "more or less of the same work, at the baseline's speed",
}
LEVELS = {
    Level.SAME: "same",
    Level.INFO: "differs",
    Level.WARNING: "differs: read with care",
    Level.BLOCKING: "rules out a comparison",
    Level.UNKNOWN: "not recorded",
}
_GROUPS = {
    "iteration": "Counts and times, {each}",
    "transfers": "Transfers, {each}",
    "memory": "Memory",
    "workload": "Measured by the program itself",
    "roles": "What ran, {each}",
}
TRACE_SHARE = 0.001  # of the time; a row that is less and did not change is not worth a line
MAX_SURE_PARTS = 4
WHOLE = ("same work", "wall", "mean")  # questions that are no parts
ABOVE_NOISE = (Certainty.IN_GENERAL, Certainty.IN_RUNS)
NOT_KNOWN = "not known"
_WORST_FIRST = (Level.BLOCKING, Level.WARNING, Level.UNKNOWN, Level.INFO, Level.SAME)


def each_text(comparison: Comparison) -> str:
    """Say what quantities are given for: an iteration, or the window where none were found."""
    return "per iteration" if has_iterations(comparison) else "in the window"


def mean_text(comparison: Comparison) -> str:
    """Say the same of quantities that are means."""
    return "mean per iteration" if has_iterations(comparison) else "in the window"


def has_iterations(comparison: Comparison) -> bool:
    """Tell whether iterations are compared, not whole windows."""
    sides = comparison.base, comparison.new
    return any(recording.iterations for side in sides for recording in side.recordings)


def said_first(comparison: Comparison) -> list[str]:
    """Return what stands right below the answer: work, sure parts, outliers with their weight."""
    amount = comparison.amount_sentence
    sentences = [amount] if amount and amount not in comparison.sentence else []
    if comparison.same_work is not None and not comparison.same_work.is_judged:
        same_work = comparison.same_work
        before, now = (format_value(v, "ns") for v in (same_work.time.base, same_work.time.new))
        share = f"{ratio_text(same_work.time)}, " if ratio_text(same_work.time) else ""
        sure = certainty_text(same_work.time, comparison)
        sentences.append(
            f"For as much work as the new side does, base takes {before} and new {now} "
            f"({share}{change_interval(same_work.time)}), {sure}."
        )
    return [*sentences, *sure_parts(comparison), *comparison.outlier_sentences]


def sure_parts(comparison: Comparison) -> list[str]:
    """Return a sentence for each part that is sure, where the whole is not."""
    if comparison.verdict not in (ComparisonVerdict.INCONCLUSIVE, ComparisonVerdict.NO_DIFFERENCE):
        return []
    parts = [
        r for r in comparison.sub_results if r.question not in WHOLE and r.certainty in ABOVE_NOISE
    ]
    return [f"Sure nevertheless: {_part_text(part)}" for part in parts[:MAX_SURE_PARTS]]


def _part_text(result: SubResult) -> str:
    change = result.change
    share = f"{ratio_text(change)}, " if ratio_text(change) else ""
    interval = change_interval(change)
    before, after = (format_value(v, change.unit) for v in (change.base, change.new))
    return (
        f"{question_name(result)} {before} → {after} ({share}{interval}), {result.certainty.value}."
    )


def question_name(result: SubResult) -> str:
    """Return what a line is about: ``kernel time``, ``kernel gemm``, ``GPU busy``."""
    words = {"cause": f"{result.name} time", "kernel": f"kernel {result.name}"}
    return words.get(result.question, result.name)


def change_interval(delta: Delta) -> str:
    """Return the interval that the word for a change rests on: that in these runs, if it does."""
    if delta.significant_in_runs and not delta.significant:
        return interval_text(delta.low_in_runs, delta.high_in_runs, delta.unit)
    return interval_text(delta.low, delta.high, delta.unit)


def is_notable(delta: Delta, comparison: Comparison) -> bool:
    """Tell whether a change is worth a line in a summary: sure, or more than a trace of time."""
    least = TRACE_SHARE * comparison.delta.base if comparison.delta else 0
    is_sure = delta.significant or delta.significant_in_runs
    return bool(delta.change) and (is_sure or abs(delta.change) >= least)


def certainty_text(delta: Delta, comparison: Comparison) -> str:
    """Return in a word how sure a change is."""
    return delta.certainty(comparison.smallest_ns).value


def group_titles(comparison: Comparison) -> dict[str, str]:
    """Return what each group of quantities is called."""
    each = each_text(comparison)
    return {group: words.format(each=each) for group, words in _GROUPS.items()}


def interval_text(low: float | None, high: float | None, unit: str = "ns") -> str:
    """Return an interval: ``−3.10 ms to −2.80 ms``."""
    if low is None or high is None:
        return NOT_KNOWN
    return f"{signed_text(low, unit)} to {signed_text(high, unit)}"


def p_text(p_value: float | None) -> str:
    """Return a probability as it is read: ``0.03``, ``< 0.001``."""
    if p_value is None:
        return NOT_KNOWN
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}" if p_value < 0.1 else f"{p_value:.2f}"


def ratio_text(delta: Delta) -> str:
    """Return a change as a part of what was before: ``−52 %``; empty when there was nothing."""
    return "" if delta.ratio is None else signed_percent(delta.ratio)


def row_color(row: str, *, significant: bool) -> str:
    """Return the colour of a row of the waterfall; a change that may be noise is grey."""
    if not significant:
        return GREY
    return REMAINDER_COLOR if row in MEANINGS else ROW_COLORS[Row(row)]


def row_meaning(row: str) -> str:
    """Return what a row of the waterfall stands for."""
    return MEANINGS.get(row) or ROW_MEANINGS[Row(row)]


def differences(comparison: Comparison) -> list[Difference]:
    """Return what was compared before any number, the worst first."""
    return sorted(comparison.comparability, key=lambda d: _WORST_FIRST.index(d.level))


def blocking(comparison: Comparison) -> list[Difference]:
    """Return the differences that forbid an answer."""
    return [d for d in comparison.comparability if d.blocking]


def tools(comparison: Comparison) -> str:
    """Say that the sides come from different tools; empty when they do not."""
    differing = (
        d for d in comparison.comparability if d.what == "tool" and d.level is not Level.SAME
    )
    return next((d.sentence for d in differing), "")


def waterfall_steps(comparison: Comparison) -> list[tuple[str, float, float]]:
    """Return each bar of the waterfall: its row, where it begins and where it ends, in ns.

    The first is the baseline, the last the new side; every bar begins where the one before it
    ended, and the last but one ends exactly at the new side's time.
    """
    delta = comparison.delta
    if delta is None:
        return []
    steps, at = [("baseline", 0.0, float(delta.base))], float(delta.base)
    for row in comparison.waterfall:
        steps.append((row.row, at, at + row.change_ns))
        at += row.change_ns
    return [*steps, ("new", 0.0, at)]


def shown_rows(comparison: Comparison) -> list[int]:
    """Return the numbers of the waterfall's rows that changed, or are more than a trace of time."""
    least = TRACE_SHARE * comparison.delta.base if comparison.delta else 0
    return [
        number
        for number, row in enumerate(comparison.waterfall)
        if row.change_ns or max(row.base_ns, row.new_ns) > least
    ]


def listed(names: Iterable[str]) -> str:
    """Return names as a list in a sentence."""
    *most, last = [*names] or [""]
    return f"{', '.join(most)} and {last}" if most else last
