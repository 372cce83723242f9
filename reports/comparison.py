"""The report about a comparison, as a document without a form yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzers.compare.types import (
    REMAINDER,
    Comparison,
    ComparisonVerdict,
    Delta,
    MetricChange,
    SideRecording,
    SideSummary,
)
from analyzers.compare.types import EvidencePlace as Stretch
from analyzers.finding import Row
from analyzers.words import count_text, time_text
from reports.comparison_words import (
    CHANGES,
    END_COLOR,
    GROUPS,
    LEVELS,
    REMAINDER_MEANING,
    differences,
    interval_text,
    p_text,
    ratio_text,
    row_color,
    shown_rows,
    signed_text,
    waterfall_steps,
)
from reports.diagnosis import Asked, Where, about, without_private
from reports.document import (
    Bar,
    Block,
    Cell,
    Document,
    DocumentPart,
    DocumentTable,
    Figure,
    Place,
    Section,
    Sentence,
    TableColumn,
)
from reports.numbers import format_value
from reports.palette import ROW_MEANINGS

if TYPE_CHECKING:
    from analyzers.whatif.whatif import WhatIf
    from collectors.trace import Source, Trace

SHOWN_KERNELS = 25
SHOWN_REGIONS = 25
SHOWN_WARM_UP = 5  # durations in words
_CHANGE_COLUMNS = (
    TableColumn(name="Baseline", is_number=True),
    TableColumn(name="New", is_number=True),
    TableColumn(name="Change", is_number=True),
    TableColumn(name="95 % interval", is_number=True),
    TableColumn(name="p, adjusted", is_number=True),
)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What a comparison was made of, beyond what it says itself.

    Attributes:
        sources: The recordings of both sides, with the words for each.
        what_if: Predictions from the baseline; None when there are none.
    """

    sources: list[tuple[str, Source]]
    what_if: WhatIf | None = None


def comparison_report(comparison: Comparison, sides: Sides, asked: Asked) -> Document:
    """Return the report about ``comparison``, without what is private.

    Args:
        comparison: The answer.
        sides: Where it comes from.
        asked: How the report was asked for.
    """
    writer = _Writer(comparison)
    sections = [
        Section(title="Verdict", blocks=tuple(writer.verdict())),
        Section(title="Where the change comes from", blocks=tuple(writer.waterfall())),
        Section(title="Predicted and measured", blocks=tuple(_predictions(comparison, sides))),
        Section(title="Kernels", blocks=tuple(writer.kernels())),
        Section(title="Regions of the program", blocks=tuple(writer.regions())),
        Section(title="Other quantities", blocks=tuple(writer.metrics())),
        Section(title="Can they be compared", blocks=tuple(writer.comparability())),
        Section(title="Samples", blocks=tuple(writer.samples())),
        Section(title="Could not tell", blocks=tuple(Sentence(text=n) for n in comparison.notes)),
        Section(title="About this report", blocks=about(sides.sources, asked)),
    ]
    document = Document(
        kind="comparison",
        title=f"{_names(comparison.new)} against {_names(comparison.base)}",
        sections=tuple(s for s in sections if s.blocks),
        data=comparison.to_dict(),
        base_url=asked.base_url,
    )
    return without_private(document, asked.privacy, [s.name for _, s in sides.sources])


def named_sources(base: Sequence[Trace], new: Sequence[Trace]) -> list[tuple[str, Source]]:
    """Return the recordings of both sides, with what to call each."""
    return [
        (f"{words} {n}" if len(traces) > 1 else words, trace.source)
        for words, traces in (("Baseline", base), ("New", new))
        for n, trace in enumerate(traces, 1)
    ]


def _names(side: SideSummary) -> str:
    names = list(dict.fromkeys(r.name for r in side.recordings))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "nothing"


class _Writer:
    """Writes the sections of one comparison."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.base = self._place(comparison.base, comparison.base.typical, "baseline")
        self.new = self._place(comparison.new, comparison.new.typical, "new")

    @staticmethod
    def _place(side: SideSummary, stretch: Stretch | None, words: str) -> Place | None:
        if stretch is None or stretch.recording >= len(side.recordings):
            return None
        recording = side.recordings[stretch.recording]
        named = f"{words} {stretch.recording + 1}" if len(side.recordings) > 1 else words
        where = Where(trace_id=recording.trace_id, recording=named)
        place = where.place(stretch.start_ns, stretch.end_ns)
        return (
            place
            if recording.trace_id
            else Place(start_ns=place.start_ns, end_ns=place.end_ns, recording=place.recording)
        )

    def _of_base(self, stretch: Stretch | None) -> Place | None:
        return self._place(self.comparison.base, stretch, "baseline") or self.base

    def _of_new(self, stretch: Stretch | None) -> Place | None:
        return self._place(self.comparison.new, stretch, "new") or self.new

    def _change(
        self, delta: Delta, base: Stretch | None = None, new: Stretch | None = None
    ) -> tuple[Cell, ...]:
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
            Cell(text=interval_text(delta.low, delta.high, unit)),
            Cell(text=p_text(delta.p_adjusted)),
        )

    def verdict(self) -> Iterator[Block]:
        comparison = self.comparison
        yield Sentence(text=comparison.sentence, place=self.new, kind="lead")
        levels = {"blocking": "error", "warning": "warning"}
        for difference in differences(comparison):
            if difference.level.value in levels and difference.sentence:
                yield Sentence(text=difference.sentence, kind=levels[difference.level.value])
        if comparison.delta is not None:
            yield DocumentTable(
                columns=(TableColumn(name="Time per iteration"), *_CHANGE_COLUMNS),
                rows=tuple(
                    (Cell(text=name), *self._change(delta))
                    for name, delta in (
                        ("median", comparison.delta),
                        ("mean", comparison.mean_delta),
                    )
                    if delta is not None
                ),
            )
            detectable = comparison.delta.detectable
            if detectable is not None:
                yield Sentence(
                    text=f"A change of {time_text(detectable)} per iteration would have been found "
                    "in four of five cases.",
                    place=self.base,
                    kind="note",
                )
        if comparison.device:
            yield Sentence(text=f"The ledger is that of {comparison.device}.", kind="note")
        for sentence in comparison.how:
            yield Sentence(text=sentence, kind="note")

    def comparability(self) -> Iterator[Block]:
        if self.comparison.comparability:
            yield DocumentTable(
                columns=tuple(TableColumn(name=n) for n in ("What", "Baseline", "New", "Result")),
                rows=tuple(
                    (
                        Cell(text=d.what),
                        Cell(text=d.base),
                        Cell(text=d.new),
                        Cell(text=LEVELS[d.level], strong=d.blocking),
                    )
                    for d in differences(self.comparison)
                ),
            )

    def waterfall(self) -> Iterator[Block]:
        comparison = self.comparison
        delta = comparison.delta
        if delta is None or not comparison.waterfall:
            return
        yield self._bars(delta)
        yield DocumentTable(
            columns=(TableColumn(name="Row"), TableColumn(name="What happens"), *_CHANGE_COLUMNS),
            rows=tuple(
                (
                    Cell(text=row.row),
                    Cell(
                        text=REMAINDER_MEANING
                        if row.row == REMAINDER
                        else ROW_MEANINGS[Row(row.row)]
                    ),
                    Cell(
                        text=time_text(row.base_ns),
                        value=row.base_ns,
                        place=self._of_base(row.base_place),
                    ),
                    Cell(
                        text=time_text(row.new_ns),
                        value=row.new_ns,
                        place=self._of_new(row.new_place),
                    ),
                    Cell(
                        text=signed_text(row.change_ns),
                        value=row.change_ns,
                        place=self._of_new(row.new_place),
                        strong=row.significant,
                    ),
                    Cell(text=interval_text(row.low_ns, row.high_ns)),
                    Cell(text=p_text(row.p_adjusted)),
                )
                for row in (comparison.waterfall[n] for n in shown_rows(comparison))
            ),
        )
        yield Sentence(
            text=f"The rows sum to {signed_text(delta.change)}. Bold changes are above the noise; "
            "the others may be chance.",
            place=self.new,
            kind="note",
        )
        for row in comparison.waterfall:
            if row.note:
                yield Sentence(text=f"{row.row}: {row.note}", place=self._of_new(row.new_place))

    def _bars(self, delta: Delta) -> Figure:
        comparison = self.comparison
        shown = {comparison.waterfall[n].row for n in shown_rows(comparison)}
        rows = {row.row: row for row in comparison.waterfall}
        bars = []
        for name, start, end in waterfall_steps(comparison):
            if name in rows and name not in shown:
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
        told = ", ".join(
            f"{rows[n].row} {signed_text(rows[n].change_ns)}" for n in rows if n in shown
        )
        alt = f"From {time_text(delta.base)} to {time_text(delta.new)} per iteration: {told}"
        return Figure(alt=alt, bars=tuple(bars), is_waterfall=True)

    def kernels(self) -> Iterator[Block]:
        kernels = self.comparison.kernels
        if not kernels:
            return
        counted = ", ".join(
            f"{sum(k.kind is kind for k in kernels)} {words}"
            for kind, words in CHANGES.items()
            if any(k.kind is kind for k in kernels)
        )
        yield Sentence(text=f"{count_text(len(kernels), 'kernel')}: {counted}.", place=self.new)
        few = kernels[:SHOWN_KERNELS]
        some = f"{len(few)} of {len(kernels)}, " if len(few) < len(kernels) else ""
        yield DocumentTable(
            name=f"{some}largest change first, per iteration",
            columns=(
                TableColumn(name="Kernel"),
                TableColumn(name="Match"),
                TableColumn(name="Launches", is_number=True),
                *_CHANGE_COLUMNS,
            ),
            rows=tuple(
                (
                    Cell(text=_renamed(k.short_name, k.name, k.new_name)),
                    Cell(text=CHANGES[k.kind]),
                    Cell(
                        text=f"{_count(k.base_launches)} → {_count(k.new_launches)}",
                        value=k.new_launches,
                        place=self._of_new(k.new_place),
                    ),
                    *self._change(k.time, k.base_place, k.new_place),
                )
                for k in few
            ),
        )

    def regions(self) -> Iterator[Block]:
        for level in dict.fromkeys(r.level for r in self.comparison.regions):
            mine = [r for r in self.comparison.regions if r.level == level]
            few = mine[:SHOWN_REGIONS]
            some = f"{len(few)} of {len(mine)}, " if len(few) < len(mine) else ""
            yield DocumentTable(
                name=f"{level}: {some}largest change first, per iteration",
                columns=(TableColumn(name="Region"), TableColumn(name="Row"), *_CHANGE_COLUMNS),
                rows=tuple(
                    (
                        Cell(text=r.name or "outside any region"),
                        Cell(text=r.row.value),
                        *self._change(r.time, r.base_place, r.new_place),
                    )
                    for r in few
                ),
            )

    def metrics(self) -> Iterator[Block]:
        for group, words in GROUPS.items():
            mine = [m for m in self.comparison.metrics if m.group == group]
            if mine:
                yield DocumentTable(
                    name=words,
                    columns=(
                        TableColumn(name="Quantity"),
                        *_CHANGE_COLUMNS,
                        TableColumn(name="Result"),
                    ),
                    rows=tuple(self._metric(m) for m in mine),
                )

    def _metric(self, metric: MetricChange) -> tuple[Cell, ...]:
        result = Cell(text=metric.verdict, strong=bool(metric.verdict))
        return (Cell(text=metric.name), *self._change(metric.value), result)

    def samples(self) -> Iterator[Block]:
        rows = []
        for words, side, place in (
            ("baseline", self.comparison.base, self.base),
            ("new", self.comparison.new, self.new),
        ):
            for number, recording in enumerate(side.recordings):
                kept = side.samples_ns[number] if number < len(side.samples_ns) else ()
                rows.append(
                    (
                        Cell(text=words),
                        Cell(text=recording.name),
                        Cell(text=recording.window),
                        Cell(text=f"{len(kept)}", value=len(kept), place=place),
                        Cell(text=_warm_up_text(recording)),
                        Cell(
                            text=time_text(recording.median_ns),
                            value=recording.median_ns,
                            place=place,
                        )
                        if kept
                        else Cell(text=""),
                    )
                )
        yield DocumentTable(
            columns=(
                *(TableColumn(name=n) for n in ("Side", "Recording", "Window")),
                TableColumn(name="Samples", is_number=True),
                TableColumn(name="Left out as warm-up"),
                TableColumn(name="Median", unit="ns", is_number=True),
            ),
            rows=tuple(rows),
        )


def _warm_up_text(recording: SideRecording) -> str:
    """Say how many iterations were left out, how long they took, and why."""
    took = [time_text(x) for x in recording.warm_up_ns[:SHOWN_WARM_UP]]
    more = ", …" if len(recording.warm_up_ns) > SHOWN_WARM_UP else ""
    durations = f" ({', '.join(took)}{more})" if took else ""
    how = f": {recording.warm_up_how}" if recording.warm_up_how else ""
    return f"{recording.warm_up}{durations}{how}"


def _renamed(short_name: str, name: str, new_name: str) -> str:
    from analyzers.words import name_text

    return short_name if name == new_name else f"{short_name} → {name_text(new_name)}"


def _count(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _predictions(comparison: Comparison, sides: Sides) -> Iterator[Block]:
    """Tell what was predicted from the baseline, and what was measured."""
    what_if = sides.what_if
    if what_if is None or comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
        return
    from analyzers.whatif.whatif import agrees, range_text

    yield Sentence(text=replay_sentence(what_if))
    if what_if.replay.reason:
        yield Sentence(text=f"Nothing is predicted: {what_if.replay.reason}")
    measured = measured_speedup(comparison)
    winning = [p for p in what_if.predictions if p.wins]
    if winning:
        yield DocumentTable(
            columns=tuple(TableColumn(name=n) for n in ("Predicted", "If", "Measured")),
            rows=tuple(
                (
                    Cell(text=range_text(*p.speedup)),
                    Cell(text=p.title[:1].upper() + p.title[1:]),
                    Cell(text="fits" if measured and agrees(p, *measured[1:]) else ""),
                )
                for p in winning
            ),
        )
    if told := measured_sentence(comparison):
        yield Sentence(text=told)
    if told := no_gain_sentence(what_if):
        yield Sentence(text=told)
    for text in assumptions(what_if):
        yield Sentence(text=text, kind="note")


def measured_sentence(comparison: Comparison) -> str:
    """Say how fast the new side is, to stand beside what each change alone was predicted to win."""
    measured = measured_speedup(comparison)
    if measured is None:
        return ""
    from analyzers.whatif.whatif import TIMES, range_text, times_text

    speedup, low, high = measured
    interval = "" if times_text(low) == times_text(high) else f" ({range_text(low, high)})"
    return (
        f"Times as fast as the baseline. Measured: {times_text(speedup)} {TIMES}{interval}, of all "
        "that was changed together; each prediction is of one change alone."
    )


def no_gain_sentence(what_if: WhatIf) -> str:
    """Say which changes would win little or nothing; empty when there are none."""
    titles = [p.title for p in what_if.predictions if not p.wins]
    return f"Would not make it notably faster: {'; '.join(titles)}." if titles else ""


def replay_sentence(what_if: WhatIf) -> str:
    """Say how well the recording's dependencies tell the time that was measured."""
    replay = what_if.replay
    error = 100 * abs(replay.error)
    longer = "longer" if replay.error > 0 else "shorter"
    return (
        f"Replayed from its dependencies alone, the baseline takes "
        f"{time_text(replay.end_to_end_ns)}, {error:.1f} % {longer} than measured."
    )


def assumptions(what_if: WhatIf) -> list[str]:
    """Return what the predictions rest on, each once, and why others were withheld."""
    rests: dict[str, list[str]] = {}
    for prediction in what_if.predictions:
        for text in prediction.assumptions:
            rests.setdefault(text.rstrip("."), []).append(prediction.title)
    told = [f"{text}." for text in dict.fromkeys((*what_if.replay.assumptions,))]
    told += [
        f"{text}." if len(titles) == len(what_if.predictions) else f"{titles[0]}: {text}."
        for text, titles in rests.items()
    ]
    return told + [f"Not predicted, {w.change}: {w.reason}." for w in what_if.withheld]


def measured_speedup(comparison: Comparison | None) -> tuple[float, float, float] | None:
    """Return how many times as fast the new side is, with its interval; None if not measured."""
    delta = comparison.delta if comparison is not None else None
    if delta is None or delta.base <= 0 or delta.new <= 0:
        return None
    low = delta.base if delta.low is None else delta.base + delta.low
    high = delta.base if delta.high is None else delta.base + delta.high
    if delta.low is None or delta.high is None or min(low, high) <= 0:
        same = delta.base / delta.new
        return same, same, same
    return delta.base / delta.new, delta.base / high, delta.base / low
