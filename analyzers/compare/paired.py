"""Paired evidence inside one run a side: the same launch, or the same stretch of work, on both.

Pairs differ among each other for two reasons. Work differs along a run (a solver's matrix shrinks,
layers have their sizes), alike on both sides: that is no uncertainty. What is left is noise, and
neighbours share it. So the logarithm of each pair's ratio is taken, a smooth trend is removed from
it, and what remains is the noise of both sides together, whose correlation time says how many
pairs in a row count as one. The noise of a sum of pairs follows from it (delta method). Noise as
slow as the trend, clocks that fall as the chip heats, is taken for work here: it belongs to what
runs differ by (``run_to_run``).

Two tests must both agree: Student's on the sum, which large pairs decide, and, from 8 independent
pairs on, Wilcoxon's signed ranks (1945) of the logarithms, which no single outlier decides; each
with its statistic shrunk by the root of the correlation time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analyzers.compare.statistics import LEVEL, correlation_time, ranks
from analyzers.intervals import Array

MIN_PAIRS = 8  # with fewer, noise that neighbours share cannot be told from a change
TREND_PAIRS = 24  # for each degree of the trend, so that it follows work and not noise
MAX_DEGREE = 6
# A level or trend that is removed takes some of the noise's correlation with it. Found by
# simulation: with this, false alarms of 8 and more pairs whose neighbours are correlated by 0.6
# stay at the stated level.
TREND_DOUBT = 1.0  # for each coefficient, divided by the root of the number of pairs
MIN_RANKED = 8.0  # independent pairs; of fewer, ranks cannot tell even when all agree


@dataclass(frozen=True, kw_only=True)
class PairedChange:
    """What pairs of measurements say about the sum of what they measured.

    Attributes:
        pairs: How many there are.
        faster: Pairs in which the new side took less.
        slower: Pairs in which it took more.
        base: Sum of the base side.
        new: Sum of the new side.
        reach: Half the 95 % interval of ``new - base``, by how much pairs vary.
        p_value: Of the test that agrees less.
        independent: How many independent pairs these count as.
    """

    pairs: int
    faster: int
    slower: int
    base: float
    new: float
    reach: float
    p_value: float
    independent: float


def paired_change(base: Array, new: Array) -> PairedChange | None:
    """Return what changed between pairs, in their order; None when they are too few.

    Args:
        base: One number above 0 for each pair.
        new: The same of the new side.
    """
    from scipy.special import ndtr, stdtr, stdtrit  # slow to load; only comparisons need it

    usable = (base > 0) & (new > 0)
    before, after = base[usable].astype(float), new[usable].astype(float)
    count = len(before)
    if count < MIN_PAIRS:
        return None
    ratios = np.log(after / before)
    noise, coefficients = _without_trend(ratios)
    time = _time_of_noise(noise, coefficients)
    variance = float(noise @ noise) / (count - coefficients)
    # The noise of a ratio is that of both sides, half of it each.
    error = float(np.sqrt(variance * time / 2 * ((before**2).sum() + (after**2).sum())))
    freedom = max((count - coefficients) / time, 0.5)
    change = float(after.sum() - before.sum())
    by_sum = 2 * stdtr(freedom, -abs(change) / error) if error else float(not change)
    by_rank = 0.0
    if count / time >= MIN_RANKED:
        ranked = ranks(np.abs(ratios))
        spread = np.sqrt(float(ranked @ ranked) * time)
        by_rank = 2 * ndtr(-abs(float(ranked @ np.sign(ratios))) / spread)
    return PairedChange(
        pairs=count,
        faster=int(np.count_nonzero(ratios < 0)),
        slower=int(np.count_nonzero(ratios > 0)),
        base=float(before.sum()),
        new=float(after.sum()),
        reach=float(stdtrit(freedom, 1 - LEVEL / 2)) * error,
        p_value=float(max(by_sum, by_rank)),
        independent=count / time,
    )


def _without_trend(ratios: Array) -> tuple[Array, int]:
    """Return what a smooth trend leaves, and how many coefficients it took."""
    count = len(ratios)
    degree = min(MAX_DEGREE, count // TREND_PAIRS)
    smooth = np.polynomial.legendre.legvander(np.linspace(-1, 1, count), degree)
    fitted, *_ = np.linalg.lstsq(smooth, ratios, rcond=None)
    left: Array = ratios - smooth @ fitted
    return left, degree + 1


class PairedRows(NamedTuple):
    """Half the 95 % interval and the p value of the sum of differences, one place a column."""

    reach: Array
    p_value: Array


def paired_rows(base: Array, new: Array) -> PairedRows:
    """Return how sure the sums of differences are, of quantities that may be 0 in a pair.

    Args:
        base: One row a pair, one column a quantity.
        new: The same of the new side.
    """
    from scipy.special import stdtr, stdtrit  # slow to load; only comparisons need it

    differences = (new - base).astype(float)
    count, columns = differences.shape
    reach, p_value = np.zeros(columns), np.ones(columns)
    for place in np.flatnonzero(differences.any(axis=0)).tolist():
        noise, coefficients = _without_trend(differences[:, place])
        time = _time_of_noise(noise, coefficients)
        error = np.sqrt(float(noise @ noise) / (count - coefficients) * time * count)
        freedom = max((count - coefficients) / time, 0.5)
        reach[place] = stdtrit(freedom, 1 - LEVEL / 2) * error
        total = abs(float(differences[:, place].sum()))
        p_value[place] = 2 * stdtr(freedom, -total / error) if error else float(not total)
    return PairedRows(reach, p_value)


def _time_of_noise(noise: Array, coefficients: int) -> float:
    """Return how many pairs in a row count as one, from what a trend left."""
    time = correlation_time(noise) * (1 + TREND_DOUBT * coefficients / np.sqrt(len(noise)))
    return float(min(time, len(noise)))
