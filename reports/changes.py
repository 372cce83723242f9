"""The changes of a comparison as tables and as a waterfall, each number with its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzers.compare.types import (
    Comparison,
    Delta,
    KernelChange,
    MetricChange,
    SideSummary,
    WaterfallRow,
    WorkChange,
)
from analyzers.compare.types import EvidencePlace as Stretch
from analyzers.words import count_text, time_text
from reports.about import ReportedWindow
from reports.comparison_words import (
    END_COLOR,
    certainty_text,
    change_interval,
    each_text,
    group_titles,
    is_notable,
    mean_text,
    p_text,
    question_name,
    ratio_text,
    row_color,
    row_meaning,
    shown_rows,
    waterfall_steps,
)
from reports.document import (
    Bar,
    Block,
    Cell,
    DocumentPart,
    DocumentTable,
    Figure,
    Place,
    Sentence,
    TableColumn,
)
from reports.kernel_changes import CHANGES, kernel_title, match_text
from reports.largest_changes import LargestChange
from reports.numbers import format_value, signed_text
from reports.work_changes import change_reason, class_words, work_change_name, work_sentence

MAX_KERNELS = 25
MAX_REGIONS = 25
MAX_SUMMARY_KERNELS = 8
# Questions that have no table of their own.
SUMMED_UP = ("same work", "wall", "mean", "busy", "memory", "metric")
CERTAINTY = TableColumn(name="How sure")
CHANGE_COLUMNS = (
    TableColumn(name="Baseline", is_number=True),
    TableColumn(name="New", is_number=True),
    TableColumn(name="Change", is_number=True),
    TableColumn(name="95 % interval", is_number=True),
    TableColumn(name="p, adjusted", is_number=True),
)


class ChangeTables:
    """Tells the changes of one comparison.

    Attributes:
        comparison: The answer.
        base: Where the baseline shows a typical iteration; None without places.
        new: The same for the new side.
    """

    def __init__(self, comparison: Comparison, *, has_places: bool = True) -> None:
        self.comparison = comparison
        self._has_places = has_places
        self.base = self._place(comparison.base, comparison.base.typical, "baseline")
        self.new = self._place(comparison.new, comparison.new.typical, "new")

    def _place(self, side: SideSummary, stretch: Stretch | None, words: str) -> Place | None:
        if not self._has_places or stretch is None or stretch.recording >= len(side.recordings):
            return None
        recording = side.recordings[stretch.recording]
        name = f"{words} {stretch.recording + 1}" if len(side.recordings) > 1 else words
        if not recording.trace_id:
            return Place(start_ns=stretch.start_ns, end_ns=stretch.end_ns, recording=name)
        where = ReportedWindow(trace_id=recording.trace_id, recording=name)
        return where.place(stretch.start_ns, stretch.end_ns)

    def _of_base(self, stretch: Stretch | None) -> Place | None:
        return self._place(self.comparison.base, stretch, "baseline") or self.base

    def _of_new(self, stretch: Stretch | None) -> Place | None:
        return self._place(self.comparison.new, stretch, "new") or self.new

    def of_change(self, change: LargestChange) -> Place | None:
        """Return where a change costs most: on the side that spends more on it."""
        if change.time.change < 0:
            return self._of_base(change.base_place)
        return self._of_new(change.new_place)

    def change(
        self, delta: Delta, base: Stretch | None = None, new: Stretch | None = None
    ) -> tuple[Cell, ...]:
        """Return the cells under ``CHANGE_COLUMNS`` for one quantity."""
        before, after = self._of_base(base), self._of_new(new)
        unit, strong = delta.unit, delta.significant
        share = f" ({ratio_text(delta)})" if ratio_text(delta) else ""
        return (
            Cell(text=format_value(delta.base, unit), value=delta.base, place=before),
            Cell(text=format_value(delta.new, unit), value=delta.new, place=after),
            Cell(
                text=f"{signed_text(delta.change, unit)}{share}",
                value=delta.change,
                place=after,
                strong=strong,
            ),
            Cell(text=change_interval(delta)),
            Cell(text=p_text(delta.p_adjusted)),
        )

    def certainty(self, delta: Delta) -> Cell:
        """Return the cell under ``CERTAINTY``."""
        return Cell(text=certainty_text(delta, self.comparison))

    def questions(self) -> Iterator[Block]:
        """Tell a line for each question: what changed, and how sure that is."""
        chosen = [r for r in self.comparison.sub_results if r.question in SUMMED_UP]
        if chosen:
            yield DocumentTable(
                columns=(
                    TableColumn(name=f"What, {each_text(self.comparison)}"),
                    *CHANGE_COLUMNS[:-1],
                    CERTAINTY,
                ),
                rows=tuple(
                    (
                        Cell(text=question_name(result)),
                        *self.change(result.change)[:-1],
                        Cell(text=result.certainty.value),
                    )
                    for result in chosen
                ),
            )

    def _row_change(self, row: WaterfallRow) -> tuple[Cell, ...]:
        before, after = self._of_base(row.base_place), self._of_new(row.new_place)
        return (
            Cell(text=time_text(row.base_ns), value=row.base_ns, place=before),
            Cell(text=time_text(row.new_ns), value=row.new_ns, place=after),
            Cell(
                text=signed_text(row.change_ns),
                value=row.change_ns,
                place=after,
                strong=row.significant,
            ),
            Cell(text=change_interval(row.delta)),
            Cell(text=p_text(row.p_adjusted)),
        )

    def waterfall(self) -> Iterator[Block]:
        """Tell what each row of the ledger contributes to the change."""
        comparison = self.comparison
        delta = comparison.delta
        if delta is None or not comparison.waterfall:
            return
        yield self._bars(delta)
        yield DocumentTable(
            columns=(
                *(TableColumn(name="Row"), TableColumn(name="What happens")),
                *CHANGE_COLUMNS,
                CERTAINTY,
            ),
            rows=tuple(
                (
                    _row_cell(row),
                    Cell(text=_meaning(row)),
                    *self._row_change(row),
                    self.certainty(row.delta),
                )
                for row in (comparison.waterfall[n] for n in shown_rows(comparison))
            ),
        )
        yield Sentence(
            text=f"The rows sum to {signed_text(delta.change)}. Changes in bold are sure in "
            "general; of the others the last column says how sure they are.",
            place=self.new,
            kind="note",
        )
        for row in comparison.waterfall:
            if row.note:
                yield Sentence(text=f"{row.row}: {row.note}", place=self._of_new(row.new_place))

    def waterfall_summary(self) -> Iterator[Block]:
        """Tell the same on fewer columns, with notes only about what is above the noise."""
        comparison = self.comparison
        if comparison.delta is None or not comparison.waterfall:
            return
        rows = [row for row in comparison.waterfall if row.base_ns or row.new_ns]
        yield self._bars(comparison.delta)
        yield DocumentTable(
            columns=(TableColumn(name="Row"), *CHANGE_COLUMNS[:-1], CERTAINTY),
            rows=tuple(
                (_row_cell(row), *self._row_change(row)[:-1], self.certainty(row.delta))
                for row in rows
            ),
        )
        for row in rows:
            if row.note and row.significant:
                yield Sentence(text=f"{row.row}: {row.note}", kind="item")

    def _bars(self, delta: Delta) -> Figure:
        comparison = self.comparison
        drawn = {comparison.waterfall[n].row for n in shown_rows(comparison)}
        rows = {row.row: row for row in comparison.waterfall}
        bars = []
        for name, start, end in waterfall_steps(comparison):
            if name in rows and name not in drawn:
                continue
            row = rows.get(name)
            color = END_COLOR if row is None else row_color(name, significant=row.significant)
            place = self.base if name == "baseline" else self.new
            text = time_text(end) if row is None else signed_text(row.change_ns)
            if row is not None:
                place = self._of_new(row.new_place)
            faint = row is not None and not row.significant
            span = {"start": start, "end": end}
            part = DocumentPart(name=name, **span, color=color, text=text, place=place, faint=faint)
            bars.append(Bar(name=name, parts=(part,)))
        changes = ", ".join(
            f"{rows[n].row} {signed_text(rows[n].change_ns)}" for n in rows if n in drawn
        )
        each = each_text(comparison)
        alt = f"From {time_text(delta.base)} to {time_text(delta.new)} {each}: {changes}"
        return Figure(alt=alt, bars=tuple(bars), is_waterfall=True)

    def work(self, most: int) -> Iterator[Block]:
        """Tell what kernel time is spent on, by class and shape: slower work from more work.

        Args:
            most: How many rows the table has.
        """
        changes = self.comparison.work
        if sentence := work_sentence(changes, each_text(self.comparison)):
            yield Sentence(text=sentence, place=self.new)
        few = [c for c in changes if c.time.change][:most]
        if few:
            yield DocumentTable(
                name=f"{_some(few, changes)}largest change first, {mean_text(self.comparison)}",
                columns=(
                    TableColumn(name="Class"),
                    TableColumn(name="Why"),
                    TableColumn(name="Calls", is_number=True),
                    *CHANGE_COLUMNS[:3],
                    CERTAINTY,
                    TableColumn(name="Operator, shapes"),
                ),
                rows=tuple(self._work(change) for change in few),
            )

    def _work(self, work: WorkChange) -> tuple[Cell, ...]:
        calls = Cell(
            text=f"{_count(work.base_calls)} → {_count(work.new_calls)}",
            value=work.new_calls,
            place=self._of_new(work.new_place),
        )
        change = self.change(work.time, work.base_place, work.new_place)[:3]
        name = Cell(text=work_change_name(work))
        words = (Cell(text=class_words(work)), Cell(text=change_reason(work)))
        return (*words, calls, *change, self.certainty(work.time), name)

    def kernels(self) -> Iterator[Block]:
        """Tell the kernels of both sides, matched."""
        kernels = self.comparison.kernels
        if not kernels:
            return
        counted = ", ".join(
            f"{sum(k.kind is kind for k in kernels)} {words}"
            for kind, words in CHANGES.items()
            if any(k.kind is kind for k in kernels)
        )
        yield Sentence(text=f"{count_text(len(kernels), 'kernel')}: {counted}.", place=self.new)
        few = kernels[:MAX_KERNELS]
        yield DocumentTable(
            name=f"{_some(few, kernels)}largest change first, {each_text(self.comparison)}",
            columns=(
                TableColumn(name="Kernel"),
                TableColumn(name="Match"),
                TableColumn(name="Launches", is_number=True),
                *CHANGE_COLUMNS,
                CERTAINTY,
            ),
            rows=tuple(self._kernel(k) for k in few),
        )

    def kernels_summary(self) -> Iterator[Block]:
        """Tell the largest changes of kernels, the longest text last; the JSON has all."""
        few = [k for k in self.comparison.kernels if is_notable(k.time, self.comparison)]
        few = few[:MAX_SUMMARY_KERNELS]
        if few:
            rows = [self._kernel(k) for k in few]
            yield DocumentTable(
                columns=(
                    TableColumn(name="Kernel"),
                    TableColumn(name="Launches", is_number=True),
                    *CHANGE_COLUMNS[:-1],
                    CERTAINTY,
                    TableColumn(name="Match"),
                ),
                rows=tuple((row[0], *row[2:7], row[8], row[1]) for row in rows),
            )

    def _kernel(self, kernel: KernelChange) -> tuple[Cell, ...]:
        launches = Cell(
            text=f"{_count(kernel.base_launches)} → {_count(kernel.new_launches)}",
            value=kernel.new_launches,
            place=self._of_new(kernel.new_place),
        )
        change = self.change(kernel.time, kernel.base_place, kernel.new_place)
        words = (Cell(text=kernel_title(kernel)), Cell(text=match_text(kernel)))
        return (*words, launches, *change, self.certainty(kernel.time))

    def regions(self) -> Iterator[Block]:
        """Tell what each row of the ledger costs in each region of the program."""
        for level in dict.fromkeys(r.level for r in self.comparison.regions):
            regions = [r for r in self.comparison.regions if r.level == level]
            few = regions[:MAX_REGIONS]
            each = each_text(self.comparison)
            yield DocumentTable(
                name=f"{level}: {_some(few, regions)}largest change first, {each}",
                columns=(
                    *(TableColumn(name="Region"), TableColumn(name="Row")),
                    *CHANGE_COLUMNS,
                    CERTAINTY,
                ),
                rows=tuple(
                    (
                        Cell(text=r.name or "outside any region"),
                        Cell(text=r.row.value),
                        *self.change(r.time, r.base_place, r.new_place),
                        self.certainty(r.time),
                    )
                    for r in few
                ),
            )

    def metrics(self) -> Iterator[Block]:
        """Tell every other quantity, by group."""
        for group, words in group_titles(self.comparison).items():
            metrics = [m for m in self.comparison.metrics if m.group == group]
            if metrics:
                yield DocumentTable(
                    name=words,
                    columns=(
                        TableColumn(name="Quantity"),
                        *CHANGE_COLUMNS,
                        CERTAINTY,
                        TableColumn(name="Result"),
                    ),
                    rows=tuple(self._metric(m) for m in metrics),
                )

    def metrics_summary(self) -> Iterator[Block]:
        """Tell the workload's own numbers, and of the others what changed beyond the noise."""
        metrics = [
            m
            for m in self.comparison.metrics
            if m.group != "roles"
            and (m.group == "workload" or m.value.significant or m.value.significant_in_runs)
        ]
        if metrics:
            yield DocumentTable(
                columns=(
                    *(TableColumn(name="Quantity"), *CHANGE_COLUMNS[:3]),
                    CERTAINTY,
                    TableColumn(name="Result"),
                ),
                rows=tuple(
                    (*self._metric(m)[:4], self.certainty(m.value), Cell(text=m.verdict))
                    for m in metrics
                ),
            )

    def _metric(self, metric: MetricChange) -> tuple[Cell, ...]:
        result = Cell(text=metric.verdict, strong=bool(metric.verdict))
        change = self.change(metric.value)
        return (Cell(text=metric.name), *change, self.certainty(metric.value), result)


def _row_cell(row: WaterfallRow) -> Cell:
    return Cell(text=row.row, color=row_color(row.row, significant=row.significant))


def _meaning(row: WaterfallRow) -> str:
    return row_meaning(row.row)


def _some(few: Sequence[object], every: Sequence[object]) -> str:
    return f"{len(few)} of {len(every)}, " if len(few) < len(every) else ""


def _count(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
