"""Programs that ran without a GPU, compared by the steps that they timed themselves.

A workload writes how long each of its measured steps took (``step_ns`` in ``.workload.json``).
Without GPU work there is no ledger, so that is all that can be compared, and nothing tells where
the time went. The rules are those of iterations; see ``analyzers.compare.compare``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from analyzers.compare.accounts import recordings_only
from analyzers.compare.comparability import comparability
from analyzers.compare.compare import (
    SMALLEST_SHARE,
    claim_in_general,
    claim_in_runs,
    decide,
    delta_of,
    estimate_of,
    refusal,
)
from analyzers.compare.metric_changes import workload_metrics
from analyzers.compare.same_work import measured_once
from analyzers.compare.sentences import verdict_sentence
from analyzers.compare.side import Side, Sides
from analyzers.compare.statistics import MIN_SAMPLES, Estimate, correlation_time
from analyzers.compare.sub_results import sub_results
from analyzers.compare.types import OTHER_MACHINE, Comparison, Difference, Level, SideSummary
from analyzers.intervals import Array

QUANTITY = "a step, as the programs timed it themselves,"
NO_GPU_WORK = (
    "Neither side has GPU work, so the steps that the programs timed themselves are compared, and "
    "nothing tells where their time went."
)
# What says that there is nothing to compare, or what instead, and on which GPU nothing ran.
_OF_GPUS = ("gpu work", "window", OTHER_MACHINE)


def compare_own_steps(
    base: Sides, new: Sides, *, smallest: float = SMALLEST_SHARE, anyway: bool = False
) -> Comparison | None:
    """Compare programs without GPU work by the steps that they timed; None where that cannot be.

    It cannot where a recording has GPU work, and where no steps were timed.

    Args:
        base: Recordings before the change, at least one.
        new: Recordings after it.
        smallest: The smallest change that matters, as a share of base's time.
        anyway: Whether to compare what differs in more than the change that is judged.
    """
    steps = [[_steps(side) for side in sides] for sides in (base, new)]
    has_gpu_work = any(side.operations for side in (*base, *new))
    if has_gpu_work or not all(len(samples) for side in steps for samples in side):
        return None
    differences = tuple(
        d for d in comparability(base, new, anyway=anyway) if d.what not in _OF_GPUS
    )
    if any(difference.blocking for difference in differences):
        return refusal(base, new, differences)
    estimate = _estimate(*steps)
    sides = [_summary(s, samples) for s, samples in zip((base, new), steps, strict=True)]
    medians = [side.median_ns or 0 for side in sides]
    delta = delta_of(estimate, *medians)
    smallest_ns = round(smallest * medians[0])
    verdict = decide(delta, smallest_ns)
    metrics = tuple(workload_metrics(base, new))
    basis = Difference(
        what="gpu work", base="none", new="none", level=Level.WARNING, sentence=NO_GPU_WORK
    )
    return Comparison(
        verdict=verdict,
        sentence=verdict_sentence(verdict, delta, smallest_ns, QUANTITY, estimate),
        how=estimate.how,
        base=sides[0],
        new=sides[1],
        comparability=(basis, *differences),
        delta=delta,
        in_these_runs=claim_in_runs(delta, smallest_ns),
        in_general=claim_in_general(delta, smallest_ns),
        smallest_ns=smallest_ns,
        metrics=metrics,
        sub_results=sub_results([("wall", QUANTITY, delta)], (), (), metrics, smallest_ns),
    )


def _estimate(base: Sequence[Array], new: Sequence[Array]) -> Estimate:
    """Return the change between steps, of which workloads without a GPU run only a few.

    A few steps that depend on each other, as where the first ones still warm up, measure a run
    once, however regular they are.
    """
    estimate = estimate_of(base, new)
    if estimate is not None and len(base) + len(new) > 2:
        return estimate
    independent = min(len(samples) / correlation_time(samples) for samples in (*base, *new))
    if estimate is None or independent < MIN_SAMPLES:
        one, other = base[0], new[0]
        fewest = min(len(one), len(other))
        return measured_once(float(np.median(one)), float(np.median(other)), fewest, "step")
    return estimate


def _steps(side: Side) -> Array:
    """Return how long each measured step took, in ns; none where the program timed none."""
    return np.array(side.summary.get("step_ns") or [], dtype=float)


def _summary(sides: Sides, steps: Sequence[Array]) -> SideSummary:
    recordings = tuple(
        dataclasses.replace(
            recording,
            window="steps that the workload timed",
            iterations=len(samples),
            warm_up=0,
            warm_up_how="",
            warm_up_ns=(),
            median_ns=round(float(np.median(samples))),
        )
        for recording, samples in zip(recordings_only(sides).recordings, steps, strict=True)
    )
    return SideSummary(
        recordings=recordings,
        samples_ns=tuple(tuple(samples.astype(np.int64).tolist()) for samples in steps),
        median_ns=round(float(np.mean([np.median(samples) for samples in steps]))),
    )
