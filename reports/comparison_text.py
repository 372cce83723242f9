"""A comparison in words: for a terminal, as Markdown for a pull request, as JUnit XML for CI."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from analyzers.compare.types import (
    Comparison,
    ComparisonVerdict,
    Delta,
    KernelChange,
    Level,
    MetricChange,
    SideSummary,
    WaterfallRow,
)
from analyzers.words import size_text, time_text
from common.text import printable

MAX_KERNELS = 8  # in words; the JSON has all
MAX_NAME = 60
_TOLD = (Level.BLOCKING, Level.WARNING, Level.INFO)
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$])")
_MENTION = re.compile(r"([@#])(?=\w)")  # of a person or an issue
_TITLES = {
    ComparisonVerdict.IMPROVED: "Improved",
    ComparisonVerdict.REGRESSED: "Regressed",
    ComparisonVerdict.NO_DIFFERENCE: "No difference",
    ComparisonVerdict.INCONCLUSIVE: "Inconclusive",
    ComparisonVerdict.NOT_COMPARABLE: "Not comparable",
}


def to_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal; the answer comes first."""
    lines = [comparison.sentence, ""]
    lines += _block("Where the change comes from", list(_waterfall(comparison)))
    lines += _block("Kernels, largest significant change first", list(_kernels(comparison)))
    lines += _block("Other quantities", list(_metrics(comparison)))
    told = [f"{d.level.value}: {d.sentence}" for d in comparison.comparability if d.level in _TOLD]
    lines += _block("What else differs", told)
    unknown = [d.sentence for d in comparison.comparability if d.level is Level.UNKNOWN]
    lines += _block("Could not be compared", unknown)
    lines += _block("How", [*comparison.how, *comparison.notes])
    lines.append(f"base: {_names(comparison.base)}")
    lines.append(f"new:  {_names(comparison.new)}")
    return "\n".join(printable(line) for line in lines) + "\n"


def _block(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines), ""] if lines else []


def _names(side: SideSummary) -> str:
    names = [f"{r.name} ({r.iterations:,} iterations)" for r in side.recordings]
    return ", ".join(names)


def signed(value: float, unit: str = "ns") -> str:
    """Write a change with its sign."""
    sign = "+" if value > 0 else "-" if value < 0 else ""
    return f"{sign}{quantity(abs(value), unit)}"


def quantity(value: float, unit: str) -> str:
    """Write a quantity with its unit."""
    if unit == "ns":
        return time_text(value)
    if unit == "bytes":
        return size_text(value)
    number = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return number if unit == "count" else f"{number} {unit}".rstrip()


def _interval(low: float | None, high: float | None, unit: str = "ns") -> str:
    if low is None or high is None:
        return ""
    return f"{signed(low, unit)} to {signed(high, unit)}"


def _rows(comparison: Comparison) -> Iterator[WaterfallRow]:
    for row in comparison.waterfall:
        if row.base_ns or row.new_ns:
            yield row


def _waterfall(comparison: Comparison) -> Iterator[str]:
    delta = comparison.delta
    if delta is None:
        return
    yield f"{'base':<14}{time_text(delta.base):>12} per iteration"
    for row in _rows(comparison):
        noise = "" if row.significant else "  within the noise"
        interval = _interval(row.low_ns, row.high_ns)
        shown = f" ({interval})" if interval else ""
        yield f"{row.row:<14}{signed(row.change_ns):>12}{shown}{noise}"
        if row.note and row.significant:
            yield f"{'':<14}{row.note}"
    yield f"{'new':<14}{time_text(delta.new):>12} per iteration"


def _significant(comparison: Comparison) -> list[KernelChange]:
    return [k for k in comparison.kernels if k.time.significant][:MAX_KERNELS]


def _kernels(comparison: Comparison) -> Iterator[str]:
    for kernel in _significant(comparison):
        before, after = time_text(kernel.time.base), time_text(kernel.time.new)
        times = f"{before} → {after}, {kernel.base_launches:,.4g} → {kernel.new_launches:,.4g} x"
        yield f"{signed(kernel.time.change):>12}  {_short(kernel)} ({kernel.kind.value}: {times})"


def _short(kernel: KernelChange) -> str:
    name = kernel.short_name or kernel.name
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _metrics(comparison: Comparison) -> Iterator[str]:
    for metric in _notable(comparison):
        yield f"{metric.name}: {_metric(metric)}"


def _notable(comparison: Comparison) -> list[MetricChange]:
    """Return the workload's own numbers, and of the others what changed beyond the noise."""
    return [
        m
        for m in comparison.metrics
        if m.group != "roles" and (m.group == "workload" or m.value.significant)
    ]


def _metric(metric: MetricChange) -> str:
    value = metric.value
    change = f"{quantity(value.base, value.unit)} → {quantity(value.new, value.unit)}"
    if metric.verdict:
        return f"{change} ({metric.verdict})"
    return change if value.low is not None else f"{change} (measured once)"


# --- Markdown -----------------------------------------------------------------------------


def escape(text: str) -> str:
    """Return text of a recording as Markdown that reads the same, on one line."""
    plain = _MARKDOWN.sub(r"\\\1", printable(" ".join(text.split())))
    return _MENTION.sub("\\1\u200b", plain)


def to_markdown(comparison: Comparison) -> str:
    """Return a summary for a pull request."""
    lines = [f"### whyslow: {_TITLES[comparison.verdict]}", "", escape(comparison.sentence), ""]
    if comparison.delta is not None:
        lines += _table(("", "base", "new", "change", "95 % interval"), _headline(comparison))
        rows = [
            (
                row.row,
                time_text(row.base_ns),
                time_text(row.new_ns),
                _strong(signed(row.change_ns), strong=row.significant),
                _interval(row.low_ns, row.high_ns),
            )
            for row in _rows(comparison)
        ]
        lines += ["Where it comes from (bold: beyond the noise)", ""]
        lines += _table(("row", "base", "new", "change", "95 % interval"), rows)
    kernels = [
        (
            escape(_short(k)),
            k.kind.value,
            time_text(k.time.base),
            time_text(k.time.new),
            signed(k.time.change),
        )
        for k in _significant(comparison)
    ]
    if kernels:
        lines += _table(("kernel", "", "base", "new", "change per iteration"), kernels)
    metrics = [(escape(m.name), escape(_metric(m))) for m in _notable(comparison)]
    if metrics:
        lines += _table(("other quantity", "base → new"), metrics)
    told = [d.sentence for d in comparison.comparability if d.level in _TOLD]
    told += [*comparison.how, *comparison.notes]
    lines += [f"* {escape(sentence)}" for sentence in told]
    return "\n".join(lines).rstrip() + "\n"


def _headline(comparison: Comparison) -> list[tuple[str, ...]]:
    named = (("median", comparison.delta), ("mean", comparison.mean_delta))
    return [
        (
            f"{name} per iteration",
            time_text(delta.base),
            time_text(delta.new),
            _strong(_change(delta), strong=delta.significant),
            _interval(delta.low, delta.high),
        )
        for name, delta in named
        if delta is not None
    ]


def _change(delta: Delta) -> str:
    ratio = "" if delta.ratio is None else f" ({100 * delta.ratio:+.1f} %)"
    return f"{signed(delta.change)}{ratio}"


def _strong(text: str, *, strong: bool) -> str:
    return f"**{text}**" if strong else text


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


# --- JUnit --------------------------------------------------------------------------------


def to_junit(comparison: Comparison, *, failure: str, inconclusive: str) -> str:
    """Return JUnit XML with one case for comparability and one for the time per iteration.

    Args:
        comparison: What to tell.
        failure: Why the time is a regression; empty when it is none.
        inconclusive: Why it cannot be told; empty when it can.
    """
    blocking = [d.sentence for d in comparison.comparability if d.blocking]
    cases = [("comparable", " ".join(blocking), ""), ("time per iteration", failure, inconclusive)]
    suite = ET.Element(
        "testsuite",
        name="whyslow compare",
        tests=str(len(cases)),
        failures=str(sum(bool(failed) for _, failed, _ in cases)),
        errors="0",
        skipped=str(sum(bool(skipped and not failed) for _, failed, skipped in cases)),
    )
    for name, failed, skipped in cases:
        case = ET.SubElement(suite, "testcase", classname="whyslow.compare", name=name)
        if failed:
            ET.SubElement(case, "failure", message=printable(failed))
        elif skipped:
            ET.SubElement(case, "skipped", message=printable(skipped))
    said = "".join(f"{printable(line)}\n" for line in to_text(comparison).splitlines())
    ET.SubElement(suite, "system-out").text = said
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
