"""What changed most, of kernels and of ranges, and what to look at next: lines for page one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analyzers.compare.types import (
    Comparison,
    ComparisonVerdict,
    Delta,
    EvidencePlace,
)
from analyzers.finding import Row
from analyzers.ledger.regions import LEVELS
from analyzers.words import share_text, shortened, time_text
from reports.comparison_words import ratio_text
from reports.kernel_changes import kernel_title
from reports.numbers import signed_text
from reports.palette import ROW_MEANINGS

SHOWN = 3
NOTABLE = 0.05  # of the new side's time: what is lost below it is not the next thing to look at


@dataclass(frozen=True, kw_only=True)
class LargestChange:
    """A kernel, or what a range of the program spends in a row of the ledger.

    Attributes:
        name: Of the kernel or range.
        kind: ``kernel``, or the row of the ledger.
        time: Its change, per iteration where there are iterations.
        base_place: Where it costs most on the base side.
        new_place: The same for the new side.
    """

    name: str
    kind: str
    time: Delta
    base_place: EvidencePlace | None
    new_place: EvidencePlace | None

    @property
    def words(self) -> str:
        """What it is: a kernel's name, or the row and the range: ``host`` in ``data``."""
        name = f"`{shortened(self.name)}`"
        return name if self.kind == "kernel" else f"{self.kind} in {name}"

    @property
    def numbers(self) -> str:
        """Before, after and the change: ``873 µs → 0 ns (−873 µs, −100 %)``."""
        ratio = f", {ratio_text(self.time)}" if ratio_text(self.time) else ""
        before, now = time_text(self.time.base), time_text(self.time.new)
        return f"{before} → {now} ({signed_text(self.time.change)}{ratio})"


def largest_changes(comparison: Comparison, count: int = SHOWN) -> list[LargestChange]:
    """Return the largest changes above the noise, the largest first.

    Kernels stand for the row ``kernel``, ranges for the other rows, so that no time is counted
    twice; a change smaller than what matters of the whole time is left out.
    """
    both = [*_kernels(comparison), *_ranges(comparison)]
    sure = [c for c in both if c.time.significant and abs(c.time.change) >= comparison.smallest_ns]
    return sorted(sure, key=lambda c: -abs(c.time.change))[:count]


def _kernels(comparison: Comparison) -> Iterator[LargestChange]:
    for kernel in comparison.kernels:
        yield LargestChange(
            name=kernel_title(kernel),
            kind="kernel",
            time=kernel.time,
            base_place=kernel.base_place,
            new_place=kernel.new_place,
        )


def _ranges(comparison: Comparison) -> Iterator[LargestChange]:
    """Yield what each region costs in the other rows, at the coarsest level with two regions."""
    by_level = {level: [r for r in comparison.regions if r.level == level] for level in LEVELS}
    divided = (rows for rows in by_level.values() if len({r.name for r in rows}) > 1)
    for region in next(divided, []):
        if region.name and region.row is not Row.KERNEL:
            yield LargestChange(
                name=region.name,
                kind=region.row.value,
                time=region.time,
                base_place=region.base_place,
                new_place=region.new_place,
            )


def caution(comparison: Comparison) -> str:
    """Say that the changes are not for the same work, where they are not; empty otherwise."""
    if comparison.same_work is None or comparison.same_work.is_judged:
        return ""
    return "An iteration does another amount of work on the new side; these are not scaled to it."


def next_step(comparison: Comparison) -> str:
    """Say what to look at next; empty when nothing was compared."""
    side, delta = comparison.new, comparison.delta
    if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE or delta is None or delta.new <= 0:
        return ""
    if comparison.verdict is ComparisonVerdict.REGRESSED and largest_changes(comparison):
        return "Begin with the largest change: both recordings are shown at it below."
    lost = {row: ns for row, ns in side.ledger_ns.items() if row != Row.KERNEL.value}
    row = max(lost, key=lambda r: lost[r], default="")
    if not row or lost[row] < NOTABLE * delta.new:
        busy = share_text(side.ledger_ns.get(Row.KERNEL.value, 0), delta.new)
        return f"The new side spends {busy} of its time in kernels: see what they do."
    return (
        f"The new side still spends {time_text(lost[row])} of {time_text(delta.new)} "
        f"({share_text(lost[row], delta.new)}) in {row}: {ROW_MEANINGS[Row(row)]}."
    )
