"""Predictions beside what was measured: with a comparison, and how often whyslow was right here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analyzers.compare.prediction_outcomes import (
    JUDGED,
    OutcomeKind,
    PredictedSpeedup,
    PredictionOutcome,
    family_of,
)
from analyzers.speedups import times_text
from analyzers.words import TIMES, count_text, enumerated
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
    from analyzers.compare.types import Comparison
    from library.predicted_programs import KeptOutcome, PredictedProgram

MAX_TRIED, MAX_UNTRIED = 3, 2  # sentences beside a verdict
_COLUMNS = {
    "tried alone": (*JUDGED, OutcomeKind.UNCERTAIN),
    "as predicted": (OutcomeKind.AS_PREDICTED,),
    "too uncertain": (OutcomeKind.UNCERTAIN,),
    "less": (OutcomeKind.LESS,),
    "more": (OutcomeKind.MORE,),
    "with others": (OutcomeKind.TOGETHER,),
    "not tried": (OutcomeKind.NOT_TRIED,),
}


def prediction_sentences(comparison: Comparison) -> list[str]:
    """Return what had been predicted of the base and was tried, beside what was measured."""
    tried = [o for o in comparison.predictions if o.is_tried]
    if len(tried) < 2:
        return [f"Predicted before: {o.sentence}" for o in tried]
    named = [f"{o.predicted.title} ({o.range_text} alone)" for o in tried]
    listed = named if len(named) <= MAX_TRIED else [*named[:MAX_TRIED], "others"]
    first = tried[0]
    # One change that was predicted in several ways, such as for all kernels and for a class.
    if any(o.outcome is not OutcomeKind.TOGETHER for o in tried):
        return [f"Predicted before: {o.sentence}" for o in tried[:MAX_TRIED]]
    return [
        f"Predicted before and made here together: {enumerated(listed)}; measured "
        f"{times_text(first.speedup)} {TIMES} in all, so that none of them can be judged alone."
    ]


def untried_sentences(comparison: Comparison) -> list[str]:
    """Return what had been predicted of the base, and was not done as far as can be seen."""
    sentences = []
    untried = [o for o in comparison.predictions if not o.is_tried and o.predicted.high > 1]
    if untried:
        words = [f"{o.predicted.title} ({o.range_text})" for o in untried[:MAX_UNTRIED]]
        more = len(untried) - len(words)
        others = f", and {more:,} more" if more > 0 else ""
        sentences.append(f"Predicted before and not tried (yet): {'; '.join(words)}{others}.")
    return sentences


def history_document(programs: Sequence[PredictedProgram]) -> Document:
    """Return what was predicted of programs and what became of it, for a terminal."""
    predicted = [p for p in programs if any(r.predictions for r in p.recordings)]
    if not predicted:
        text = (
            "Nothing was predicted yet. whyslow diagnose RECORDING and whyslow whatif RECORDING "
            "predict; a later recording of the same program shows what came of it."
        )
        sections = [Section(title="", blocks=(Sentence(text=text),))]
        return Document(kind="predictions", title="Predictions", sections=tuple(sections))
    outcomes = [(p, latest_outcomes(p)) for p in predicted]
    everything = [o for _, of_program in outcomes for o in family_outcomes(of_program)]
    sections = [
        Section(
            title="How often whyslow was right here",
            blocks=(Sentence(text=score_sentence(everything), kind="lead"), _table(outcomes)),
        ),
        *(
            Section(title=p.name, blocks=tuple(_program(p, of_program)))
            for p, of_program in outcomes
        ),
    ]
    return Document(kind="predictions", title="Predictions", sections=tuple(sections))


def history_data(programs: Sequence[PredictedProgram]) -> dict[str, Any]:
    """Return the same as JSON data."""
    every = [o for p in programs for o in family_outcomes(latest_outcomes(p))]
    counts = Counter(o.outcome for o in every)
    return {
        "schema": 1,
        "judged": sum(counts[o.value] for o in JUDGED),
        "right": counts[OutcomeKind.AS_PREDICTED.value],
        "outcomes": {outcome.value: counts[outcome.value] for outcome in OutcomeKind},
        "programs": [
            {
                "name": p.name,
                "recordings": [
                    {
                        "name": r.name,
                        "sha256": r.sha256,
                        "predictions": [
                            {"change": k.change, "title": k.title, "low": k.low, "high": k.high}
                            for k in r.predictions
                        ],
                    }
                    for r in p.recordings
                ],
                "outcomes": [
                    {
                        "base": o.base_name,
                        "new": o.new_name,
                        "base_sha256": o.base_sha256,
                        "new_sha256": o.new_sha256,
                        **outcome_of(o).to_dict(),
                    }
                    for o in latest_outcomes(p)
                ],
            }
            for p in programs
        ],
    }


def latest_outcomes(program: PredictedProgram) -> list[KeptOutcome]:
    """Return the outcome of each prediction once: of several comparisons a tried one, the last."""
    latest: dict[tuple[str, str], KeptOutcome] = {}
    for outcome in program.outcomes:
        key = outcome.base_sha256, outcome.prediction.change
        if outcome.outcome != OutcomeKind.NOT_TRIED.value or key not in latest:
            latest[key] = outcome
    return list(latest.values())


def family_outcomes(outcomes: Sequence[KeptOutcome]) -> list[KeptOutcome]:
    """Return one outcome for each family of changes and pair of recordings, to be counted.

    A faster kernel, its class nearer to the roof and all kernels nearer to theirs are one change
    that was measured once. Of these the tried one counts that promised most, so that whyslow is
    not right more often because it predicted in more ways.

    Args:
        outcomes: Of one program, each prediction once.
    """
    counted: dict[tuple[str, str, str], KeptOutcome] = {}
    for outcome in outcomes:
        key = outcome.base_sha256, outcome.new_sha256, family_of(outcome.prediction.change)
        if key not in counted or _rank(outcome) > _rank(counted[key]):
            counted[key] = outcome
    return list(counted.values())


def _rank(outcome: KeptOutcome) -> tuple[bool, float]:
    prediction = outcome.prediction
    is_tried = outcome.outcome != OutcomeKind.NOT_TRIED.value
    return is_tried, prediction.low + prediction.high


def outcome_of(kept: KeptOutcome) -> PredictionOutcome:
    """Return an outcome as it was before it was kept."""
    prediction = kept.prediction
    return PredictionOutcome(
        predicted=PredictedSpeedup(
            change=prediction.change,
            title=prediction.title,
            low=prediction.low,
            high=prediction.high,
        ),
        outcome=OutcomeKind(kept.outcome),
        evidence=kept.evidence,
        speedup=kept.speedup,
        low=kept.low,
        high=kept.high,
    )


def score_sentence(outcomes: Sequence[KeptOutcome]) -> str:
    """Say how many predictions came true of those that can be judged.

    Args:
        outcomes: As ``family_outcomes`` returns them.
    """
    counts = Counter(o.outcome for o in outcomes)
    judged, unclear = sum(counts[k.value] for k in JUDGED), counts[OutcomeKind.UNCERTAIN.value]
    are = "is" if unclear == 1 else "are"
    if not judged and not unclear:
        return (
            "No prediction can be judged yet: none of the predicted changes was made alone in a "
            "later recording of its program."
        )
    if not judged:
        changes = count_text(unclear, "predicted change")
        return f"No prediction can be judged yet: {changes} made alone {are} too uncertain to tell."
    right = counts[OutcomeKind.AS_PREDICTED.value]
    changes = count_text(judged, "predicted change")
    were = "was" if judged == 1 else "were"
    more = f"; {unclear:,} more {are} too uncertain to tell" if unclear else ""
    return f"Of {changes} that {were} made alone, {right:,} won as much as predicted{more}."


def _table(outcomes: Sequence[tuple[PredictedProgram, list[KeptOutcome]]]) -> DocumentTable:
    numbers = ("recordings", "predictions", *_COLUMNS)
    rows = []
    for program, of_program in outcomes:
        counts = Counter(o.outcome for o in family_outcomes(of_program))
        values = [
            len(program.recordings),
            sum(len(r.predictions) for r in program.recordings),
            *(sum(counts[k.value] for k in kinds) for kinds in _COLUMNS.values()),
        ]
        cells = (Cell(text=f"{value:,}", value=value) for value in values)
        rows.append((Cell(text=program.name), *cells))
    return DocumentTable(
        columns=(
            TableColumn(name="Program"),
            *(TableColumn(name=name.capitalize(), is_number=True) for name in numbers),
        ),
        rows=tuple(rows),
    )


def _program(program: PredictedProgram, outcomes: Sequence[KeptOutcome]) -> Iterator[Block]:
    for kept in outcomes:
        outcome = outcome_of(kept)
        if outcome.is_tried:
            yield Sentence(
                text=f"{kept.base_name} → {kept.new_name}: {outcome.sentence}", kind="item"
            )
    tried = {
        (o.base_sha256, o.prediction.change)
        for o in outcomes
        if o.outcome != OutcomeKind.NOT_TRIED.value
    }
    latest = next((r for r in reversed(program.recordings) if r.predictions), None)
    if latest is None:
        return
    waiting = [p for p in latest.predictions if (latest.sha256, p.change) not in tried]
    for p in waiting[:MAX_TRIED]:
        predicted = PredictedSpeedup(change=p.change, title=p.title, low=p.low, high=p.high)
        outcome = PredictionOutcome(predicted=predicted, outcome=OutcomeKind.NOT_TRIED, evidence="")
        text = f"{latest.name}: {p.title}, predicted {outcome.range_text}, {outcome.measured_text}"
        yield Sentence(text=text, kind="item")
