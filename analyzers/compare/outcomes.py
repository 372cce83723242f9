"""What became of predictions: which changes a comparison shows, and whether they won as much.

A prediction is about one change alone. It is judged only where the comparison shows that its change
was made, that no other predicted one was, and that the time changed where that change works; what
nobody can see was not tried. The measured value has to lie in the predicted range; where only its
interval reaches into it, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence

from analyzers.compare.comparability import ANYWAY
from analyzers.compare.made_changes import evidence_of, foreign_change
from analyzers.compare.prediction_outcomes import (
    OutcomeKind,
    PredictedSpeedup,
    PredictionOutcome,
    family_of,
)
from analyzers.compare.types import OTHER_DRIVER, Comparison, Level
from analyzers.speedups import ranges_meet

NO_END = 1_000.0  # times as fast: nothing that is measured is as much


def prediction_outcomes(
    comparison: Comparison, predictions: Sequence[PredictedSpeedup]
) -> tuple[PredictionOutcome, ...]:
    """Return each prediction of the base beside what was measured, tried ones first.

    Empty when the sides were not compared, or only since somebody asked for it: another machine or
    another program is no change that was made. Empty, too, when they did another amount of work:
    fewer copies or waits may be fewer steps.

    Args:
        comparison: The answer.
        predictions: From a recording of its base, the largest gain first.
    """
    measured = measured_speedup(comparison)
    is_forced = any(d.sentence.endswith(ANYWAY) for d in comparison.comparability)
    if measured is None or is_forced or comparison.same_work is not None:
        return ()
    other_driver = _other_driver(comparison)
    evidence = [evidence_of(comparison, p.change) for p in predictions]
    made = {family_of(p.change) for p, e in zip(predictions, evidence, strict=True) if e.is_made}
    outcomes = []
    for prediction, (is_made, text) in zip(predictions, evidence, strict=True):
        if not is_made:
            outcomes.append(
                PredictionOutcome(
                    predicted=prediction, outcome=OutcomeKind.NOT_TRIED, evidence=text
                )
            )
            continue
        foreign = foreign_change(comparison, prediction.change) or other_driver
        is_alone = len(made) == 1 and not foreign
        outcomes.append(
            PredictionOutcome(
                predicted=prediction,
                outcome=(
                    _judged(prediction, measured, whole_speedup(comparison))
                    if is_alone
                    else OutcomeKind.TOGETHER
                ),
                evidence="; ".join(filter(None, (text, foreign))),
                speedup=measured[0],
                low=measured[1],
                high=measured[2],
            )
        )
    return tuple(sorted(outcomes, key=lambda o: not o.is_tried))


def _other_driver(comparison: Comparison) -> str:
    """Say that the sides ran under different drivers; empty when they did not."""
    differ = any(
        d.what == OTHER_DRIVER and d.level is Level.WARNING for d in comparison.comparability
    )
    return "the driver changed as well" if differ else ""


def _judged(
    prediction: PredictedSpeedup, measured: tuple[float, float, float], whole: float
) -> OutcomeKind:
    """Return how a prediction that was tried alone came out.

    Args:
        prediction: What was predicted.
        measured: Speed-up of a typical iteration, with its interval.
        whole: The same of all iterations together, the first ones too: predictions are about a
            window that may hold them.
    """
    speedup, low, high = measured
    predicted = prediction.low, prediction.high
    if high >= NO_END:
        return OutcomeKind.UNCERTAIN
    if ranges_meet(predicted, speedup, speedup):
        return OutcomeKind.AS_PREDICTED
    if ranges_meet(predicted, min(low, whole), max(high, whole)):
        return OutcomeKind.UNCERTAIN
    return OutcomeKind.LESS if speedup < prediction.low else OutcomeKind.MORE


def whole_speedup(comparison: Comparison) -> float:
    """Return how many times as fast the new side is over all its iterations, warm-up included."""
    means = []
    for side in (comparison.base, comparison.new):
        warm_up = [ns for recording in side.recordings for ns in recording.warm_up_ns]
        every = [*warm_up, *(ns for samples in side.samples_ns for ns in samples)]
        means.append(sum(every) / max(len(every), 1))
    return means[0] / max(means[1], 1.0)


def measured_speedup(comparison: Comparison) -> tuple[float, float, float] | None:
    """Return how many times as fast the new side is, and its interval; None if not measured.

    With one recording a side it is the interval in these two runs, since it is these that are set
    beside the prediction. An interval that reaches down to no time at all has no upper end, for
    which ``NO_END`` stands; so it is, with 0 as the lower end, where nothing gives an interval.
    """
    delta = comparison.judged
    if delta is None or delta.base <= 0 or delta.new <= 0:
        return None
    low = delta.low if delta.low_in_runs is None else delta.low_in_runs
    high = delta.high if delta.high_in_runs is None else delta.high_in_runs
    speedup = delta.base / delta.new
    if low is None or high is None:
        return speedup, 0.0, NO_END
    slowest, fastest = delta.base + high, delta.base + low
    return (
        speedup,
        delta.base / max(slowest, delta.base / NO_END),
        delta.base / max(fastest, delta.base / NO_END),
    )
