"""What changes to a program would gain, as a document and beside a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analyzers.compare.outcomes import NO_END, measured_speedup, prediction_outcomes
from analyzers.compare.prediction_outcomes import PredictedSpeedup
from analyzers.compare.types import Comparison, ComparisonVerdict
from analyzers.speedups import range_text, times_text
from analyzers.words import TIMES, signed_percent, time_text
from reports.comparison_words import listed
from reports.document import (
    Block,
    Cell,
    Document,
    DocumentTable,
    Section,
    Sentence,
    TableColumn,
)

if TYPE_CHECKING:
    from analyzers.whatif.whatif import Prediction, Replay, WhatIf


def whatif_summary(what_if: WhatIf, name: str) -> Document:
    """Return predictions for a terminal; how far to trust them comes first.

    Args:
        what_if: The answer.
        name: Name of the recording.
    """
    sections = [Section(title="Replay", blocks=tuple(_replay(what_if, name)))]
    if what_if.replay.is_trusted:
        gains = [p for p in what_if.predictions if p.wins]
        title = "What if, the largest gain first" if gains else "No change would gain much"
        others = [p for p in what_if.predictions if not p.wins]
        lists = (
            ("Would not make it notably faster", [p.title for p in others]),
            (
                "Could not tell, or nothing to change",
                [f"{w.change}: {w.reason}" for w in what_if.withheld],
            ),
            ("The replay assumes", what_if.replay.assumptions),
        )
        sections += [
            Section(title=title, blocks=tuple(_predictions(gains))),
            *(
                Section(title=heading, blocks=tuple(Sentence(text=t, kind="item") for t in texts))
                for heading, texts in lists
                if texts
            ),
        ]
    return Document(kind="whatif", title=f"What would make {name} faster", sections=tuple(sections))


def _replay(what_if: WhatIf, name: str) -> Iterator[Block]:
    replay = what_if.replay
    if replay.devices:
        yield Sentence(
            text=f"Replayed {replay.operations:,} GPU operations and {replay.calls:,} API calls: "
            f"{time_text(replay.end_to_end_ns)}, measured {time_text(replay.measured_ns)} "
            f"({signed_percent(replay.error, 1)})",
            kind="lead",
        )
        yield _devices(replay)
    if not replay.is_trusted:
        yield Sentence(text=f"Nothing is predicted. {replay.reason}")
        return
    window = f"{replay.window.label}, {time_text(replay.measured_ns)}"
    yield Sentence(text=f"{name} · {window}", kind="note")


def _devices(replay: Replay) -> DocumentTable:
    names = ("Busy, replayed", "Busy, measured", "Idle, replayed", "Idle, measured")
    return DocumentTable(
        columns=(
            TableColumn(name="GPU"),
            *(TableColumn(name=n, unit="ns", is_number=True) for n in names),
        ),
        rows=tuple(
            (
                Cell(text=f"{d.key}"),
                *(
                    Cell(text=time_text(ns), value=ns)
                    for ns in (
                        *(d.replayed_busy_ns, d.measured_busy_ns),
                        *(d.replayed_idle_ns, d.measured_idle_ns),
                    )
                ),
            )
            for d in replay.devices
        ),
    )


def _predictions(gains: list[Prediction]) -> Iterator[Block]:
    """Yield each prediction and what it assumes, each assumption in full only where it is new."""
    first_with: dict[str, int] = {}  # which prediction said each assumption first
    for number, prediction in enumerate(gains, 1):
        low, high = time_text(prediction.low_ns), time_text(prediction.high_ns)
        yield Sentence(text=f"{number}. {prediction.sentence} ({low} to {high})", kind="lead")
        before = sorted({first_with[a] for a in prediction.assumptions if a in first_with})
        if before:
            numbers = listed(str(n) for n in before)
            yield Sentence(text=f"Assumes the same as {numbers}", kind="note")
        for assumption in prediction.assumptions:
            if first_with.setdefault(assumption, number) == number:
                yield Sentence(text=f"Assumes: {assumption}", kind="note")


def compared_predictions(comparison: Comparison, what_if: WhatIf | None) -> Iterator[Block]:
    """Tell what was predicted from the baseline, and what was measured."""
    if what_if is None or comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
        return
    yield Sentence(text=replay_sentence(what_if))
    if what_if.replay.reason:
        yield Sentence(text=f"Nothing is predicted: {what_if.replay.reason}")
    gains = [p for p in what_if.predictions if p.wins]
    if gains:
        yield DocumentTable(
            columns=tuple(TableColumn(name=n) for n in ("Predicted", "If", "Measured")),
            rows=tuple(
                (
                    Cell(text=range_text(*p.speedup)),
                    Cell(text=p.title[:1].upper() + p.title[1:]),
                    Cell(text=measured),
                )
                for p, measured in zip(gains, measured_texts(comparison, gains), strict=True)
            ),
        )
    for text in (measured_sentence(comparison), no_gain_sentence(what_if)):
        if text:
            yield Sentence(text=text)
    for text in assumptions(what_if):
        yield Sentence(text=text, kind="note")


def measured_texts(comparison: Comparison, predictions: Sequence[Prediction]) -> list[str]:
    """Say of each prediction from the base what was measured: only where its change was made."""
    speedups = [
        PredictedSpeedup(change=p.change, title=p.title, low=p.speedup[0], high=p.speedup[1])
        for p in predictions
    ]
    outcomes = {o.predicted.change: o for o in prediction_outcomes(comparison, speedups)}
    return [outcomes[p.change].measured_text if outcomes else "" for p in predictions]


def measured_sentence(comparison: Comparison) -> str:
    """Say how fast the new side is, to stand beside what each change alone was predicted to win."""
    measured = measured_speedup(comparison)
    if measured is None:
        return ""
    speedup, low, high = measured
    interval = f" (at least {times_text(low)} {TIMES})" if low else ""
    if high < NO_END:
        interval = "" if times_text(low) == times_text(high) else f" ({range_text(low, high)})"
    return (
        f"Speeds are relative to the baseline. Measured: {times_text(speedup)} {TIMES}{interval}, "
        "with everything that was changed; each prediction is for one change alone."
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
    sentences = [f"{text}." for text in dict.fromkeys((*what_if.replay.assumptions,))]
    sentences += [
        f"{text}." if len(titles) == len(what_if.predictions) else f"{titles[0]}: {text}."
        for text, titles in rests.items()
    ]
    return sentences + [f"Not predicted, {w.change}: {w.reason}." for w in what_if.withheld]
