"""A comparison as a document without a form yet: the whole report, and a summary of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzers.compare.types import (
    Comparison,
    ComparisonVerdict,
    Level,
    SideRecording,
    SideSummary,
)
from analyzers.words import count_text, time_text
from reports.about import ReportOptions, about, without_private
from reports.changes import ChangeTables
from reports.comparison_words import LEVELS, differences, said_first
from reports.document import (
    Block,
    Cell,
    Document,
    DocumentTable,
    Section,
    Sentence,
    TableColumn,
)
from reports.largest_changes import caution, largest_changes, next_step
from reports.machines import MACHINES, machine_blocks, machine_title
from reports.predictions import prediction_sentences, untried_sentences
from reports.whatif import compared_predictions

if TYPE_CHECKING:
    from analyzers.whatif.whatif import WhatIf
    from collectors.trace import Source, Trace

WORK = "What the kernels do"
MAX_WORK, MAX_SUMMARY_WORK = 20, 5  # rows
MAX_WARM_UP = 5  # durations in words
_SUMMARY_LEVELS = (Level.BLOCKING, Level.WARNING, Level.INFO)
_TITLES = {
    ComparisonVerdict.IMPROVED: "Improved",
    ComparisonVerdict.REGRESSED: "Regressed",
    ComparisonVerdict.NO_DIFFERENCE: "No difference",
    ComparisonVerdict.INCONCLUSIVE: "Inconclusive",
    ComparisonVerdict.NOT_COMPARABLE: "Not comparable",
}


@dataclass(frozen=True, kw_only=True)
class Sides:
    """What a comparison was made of, beyond what it says itself.

    Attributes:
        sources: The recordings of both sides, with the words for each.
        what_if: Predictions from the baseline; None when there are none.
    """

    sources: list[tuple[str, Source]]
    what_if: WhatIf | None = None


def comparison_report(comparison: Comparison, sides: Sides, options: ReportOptions) -> Document:
    """Return the whole report about ``comparison``, without what is private.

    Args:
        comparison: The answer.
        sides: Where it comes from.
        options: How the report is to be made.
    """
    tables = ChangeTables(comparison)
    sections = [
        Section(title="Verdict", blocks=tuple(_verdict(comparison, tables))),
        Section(title="Largest changes", blocks=tuple(_largest(comparison, tables))),
        Section(title="Where the change comes from", blocks=tuple(tables.waterfall())),
        Section(title=_machine_title(comparison), blocks=tuple(machine_blocks(comparison))),
        Section(title=WORK, blocks=tuple(tables.work(MAX_WORK))),
        Section(title="Kernels", blocks=tuple(tables.kernels())),
        Section(title="Regions of the program", blocks=tuple(tables.regions())),
        Section(title="Other quantities", blocks=tuple(tables.metrics())),
        Section(
            title="Predicted and measured",
            blocks=tuple(compared_predictions(comparison, sides.what_if)),
        ),
        Section(title="Can they be compared?", blocks=tuple(_comparability(comparison))),
        Section(title="Samples", blocks=tuple(_samples(comparison, tables))),
        Section(title="How it was measured", blocks=tuple(_item(s) for s in comparison.how)),
        Section(title="Could not tell", blocks=tuple(Sentence(text=n) for n in comparison.notes)),
        Section(title="About this report", blocks=about(sides.sources, options)),
    ]
    document = Document(
        kind="comparison",
        title=f"{_names(comparison.new)} against {_names(comparison.base)}",
        sections=tuple(s for s in sections if s.blocks),
        data=comparison.to_dict(),
        base_url=options.base_url,
    )
    return without_private(document, options.privacy, [s.name for _, s in sides.sources])


def comparison_summary(comparison: Comparison) -> Document:
    """Return what a terminal, or a comment on a pull request, says: what changed significantly."""
    tables = ChangeTables(comparison, has_places=False)
    unknown = [d for d in comparison.comparability if d.level is Level.UNKNOWN]
    telling = [d for d in comparison.comparability if d.level in _SUMMARY_LEVELS]
    sections = [
        Section(title="", blocks=tuple(_headline(comparison, tables))),
        Section(title="Where the change comes from", blocks=tuple(tables.waterfall_summary())),
        Section(title=_machine_title(comparison), blocks=tuple(machine_blocks(comparison))),
        Section(title=WORK, blocks=tuple(tables.work(MAX_SUMMARY_WORK))),
        Section(
            title="Kernels, largest change first",
            blocks=tuple(tables.kernels_summary()),
        ),
        Section(title="Other quantities", blocks=tuple(tables.metrics_summary())),
        Section(
            title="What else differs",
            blocks=tuple(_item(f"{d.level.value}: {d.sentence}") for d in telling),
        ),
        Section(title="Could not be compared", blocks=tuple(_item(d.sentence) for d in unknown)),
        Section(
            title="How it was measured",
            blocks=tuple(_item(s) for s in (*comparison.how, *comparison.notes)),
        ),
        Section(title="Recordings", blocks=tuple(_recordings(comparison))),
    ]
    return Document(
        kind="comparison",
        title=f"whyslow: {_title(comparison)}",
        sections=tuple(s for s in sections if s.blocks),
    )


def _title(comparison: Comparison) -> str:
    is_refused = comparison.verdict is ComparisonVerdict.NOT_COMPARABLE
    return MACHINES if is_refused and comparison.machines else _TITLES[comparison.verdict]


def _machine_title(comparison: Comparison) -> str:
    return machine_title(comparison.machines) if comparison.machines else MACHINES


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


def _item(text: str) -> Sentence:
    return Sentence(text=text, kind="item")


def _headline(comparison: Comparison, tables: ChangeTables) -> Iterator[Block]:
    yield Sentence(text=comparison.sentence, place=tables.new, kind="lead")
    yield from _nevertheless(comparison)
    yield from _predicted(comparison)
    yield from tables.questions()


def _verdict(comparison: Comparison, tables: ChangeTables) -> Iterator[Block]:
    yield Sentence(text=comparison.sentence, place=tables.new, kind="lead")
    yield from _nevertheless(comparison)
    yield from _predicted(comparison)
    levels = {"blocking": "error", "warning": "warning"}
    for difference in differences(comparison):
        if difference.level.value in levels and difference.sentence:
            yield Sentence(text=difference.sentence, kind=levels[difference.level.value])
    if comparison.delta is not None:
        yield from tables.questions()
        detectable = comparison.delta.detectable
        if detectable is not None:
            yield Sentence(
                text=f"A change of {time_text(detectable)} would have been detected "
                "in four of five cases.",
                place=tables.base,
                kind="note",
            )
    if comparison.device:
        yield Sentence(text=f"The ledger is for {comparison.device}.", kind="note")


def _largest(comparison: Comparison, tables: ChangeTables) -> Iterator[Block]:
    """Tell the largest changes above the noise, and what to look at next."""
    for change in largest_changes(comparison):
        yield Sentence(
            text=f"{change.words}: {change.numbers}", place=tables.of_change(change), kind="item"
        )
    if words := caution(comparison):
        yield Sentence(text=words, kind="note")
    if sentence := next_step(comparison):
        yield Sentence(text=sentence, place=tables.new)


def _nevertheless(comparison: Comparison) -> Iterator[Block]:
    """Tell what is sure where the whole is not, and which iterations weigh more than others."""
    for sentence in said_first(comparison):
        yield Sentence(text=sentence, kind="item")


def _predicted(comparison: Comparison) -> Iterator[Block]:
    """Tell what had been predicted, beside what was measured."""
    for sentence in (*prediction_sentences(comparison), *untried_sentences(comparison)):
        yield Sentence(text=sentence, kind="item")


def _comparability(comparison: Comparison) -> Iterator[Block]:
    if comparison.comparability:
        yield DocumentTable(
            columns=tuple(TableColumn(name=n) for n in ("What", "Baseline", "New", "Result")),
            rows=tuple(
                (
                    Cell(text=d.what),
                    Cell(text=d.base),
                    Cell(text=d.new),
                    Cell(text=LEVELS[d.level], strong=d.blocking),
                )
                for d in differences(comparison)
            ),
        )


def _samples(comparison: Comparison, tables: ChangeTables) -> Iterator[Block]:
    rows = []
    for words, side, place in (
        ("baseline", comparison.base, tables.base),
        ("new", comparison.new, tables.new),
    ):
        for number, recording in enumerate(side.recordings):
            kept = side.samples_ns[number] if number < len(side.samples_ns) else ()
            median = Cell(
                text=time_text(recording.median_ns), value=recording.median_ns, place=place
            )
            rows.append(
                (
                    Cell(text=words),
                    Cell(text=recording.name),
                    Cell(text=recording.window),
                    Cell(text=f"{len(kept)}", value=len(kept), place=place),
                    Cell(text=_warm_up_text(recording)),
                    median if kept else Cell(text=""),
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
    took = [time_text(x) for x in recording.warm_up_ns[:MAX_WARM_UP]]
    more = ", …" if len(recording.warm_up_ns) > MAX_WARM_UP else ""
    durations = f" ({', '.join(took)}{more})" if took else ""
    how = f": {recording.warm_up_how}" if recording.warm_up_how else ""
    return f"{recording.warm_up}{durations}{how}"


def _recordings(comparison: Comparison) -> Iterator[Block]:
    for words, side in (("Baseline", comparison.base), ("New", comparison.new)):
        names = [f"{r.name} ({_samples_text(r.iterations)})" for r in side.recordings]
        yield _item(f"{words}: {', '.join(names)}")


def _samples_text(iterations: int) -> str:
    return count_text(iterations, "iteration") if iterations else "one window"
