"""What the profiler's own rules said about kernels, beside what whyslow says."""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.report import Report, ToolRule
from analyzers.words import name_text, share_text, split_sentence, time_text
from reports.document import Block, Cell, DocumentTable, TableColumn

MAX_BRIEF = 8  # rows of a summary
MAX_WORDS = 600  # characters of a rule's words; a report has room for all that were seen


def tool_rules(report: Report, *, is_brief: bool) -> Iterator[Block]:
    """Tell what Nsight Compute's own rules said, and where whyslow differs.

    Args:
        report: The analysis.
        is_brief: Leave out what follows a rule's first sentence, and all but a few rules.
    """
    rules = report.tool_rules[: MAX_BRIEF if is_brief else None]
    if not rules:
        return
    hidden = len(report.tool_rules) - len(rules)
    more = f", {len(rules)} of {len(report.tool_rules)}" if hidden else ""
    yield DocumentTable(
        name=f"Most time first{more}",
        columns=(
            TableColumn(name="Time", unit="ns", is_number=True),
            TableColumn(name="Estimate", unit="pct", is_number=True),
            TableColumn(name="Kernel"),
            TableColumn(name="Rule"),
            TableColumn(name="It says"),
            TableColumn(name="whyslow"),
        ),
        rows=tuple(_row(rule, is_brief=is_brief) for rule in rules),
    )


def estimate_text(rule: ToolRule) -> str:
    """Return a rule's estimate in words; empty without one."""
    if not rule.scope:
        return ""
    return share_text(rule.estimate, 1) + ("" if rule.scope == "global" else " (local)")


def _row(rule: ToolRule, *, is_brief: bool) -> tuple[Cell, ...]:
    words = split_sentence(rule.text)[0] if is_brief else rule.text
    estimate = 100 * rule.estimate if rule.scope else None
    return (
        Cell(text=time_text(rule.total_ns), value=rule.total_ns),
        Cell(text=estimate_text(rule), value=estimate),
        Cell(text=name_text(rule.kernel)),
        Cell(text=rule.title),
        Cell(text=words[:MAX_WORDS]),
        Cell(text=rule.comparison),
    )
