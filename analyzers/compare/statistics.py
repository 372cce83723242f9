"""Differences with their uncertainty: intervals, tests, and what one could have found.

Which numbers vary independently decides everything, so it comes first. With several recordings on
a side, a recording is the unit: iterations of one run share its clocks, its memory layout and its
neighbours. With one recording on each side iterations are the units, and because one iteration
resembles the one before it, they count for fewer than they are (effective sample size).

* Interval of a difference of medians: the bootstrap's standard error, widened by the root of the
  correlation time, times Student's factor for the effective number; percentiles of the bootstrap
  are too narrow for few (Hesterberg, 2015).
* Test: permutation of rank sums between the sides (Wilcoxon, 1945; Pitman, 1937), all divisions
  where they can be counted; the observed sum is shrunk by the root of the correlation time.
* Several recordings: Welch's interval over recordings, since a bootstrap of two or three would
  know only two or three values.
* Many rows at once: Benjamini and Hochberg (1995).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analyzers.intervals import Array

# Ranks, Welch's test, permutations and the control of false discoveries are our own although
# scipy.stats has them: importing it alone takes 0.55 to 0.86 s. The distributions come from
# scipy.special, loaded where they are needed. What no library has is why this file exists: all of
# it for samples that are correlated with their neighbours.

LEVEL = 0.05  # of false alarms: of intervals, tests and tables
POWER = 0.80  # with which the smallest detectable change would be found
MIN_SAMPLES = 5  # fewer iterations say next to nothing about how much they vary
# What few iterations cannot rule out is added to their lag-one correlation, as so much divided by
# their number. Found by simulation: with it, 5 and more iterations whose neighbours are correlated
# by up to 0.9 are told apart no more often than stated; without it up to three times as often.
DOUBT = 1.5
# Of few iterations that resemble each other next to nothing is known, and Student's factor grows
# without bound: a row of 99 ms that varied by 0.4 ms had an interval of ± 44 ms. Found by
# simulation: with this bound, 5 and more whose neighbours are correlated by 0.9 stay at the level.
MAX_SPREADS = 8
MIN_CORRELATED = 30  # from here on the correlation's decay can be told from its size
RESAMPLES = 4_000
ROW_RESAMPLES = 400
PERMUTATIONS = 4_000
MAX_EXACT = 5_000  # so many divisions of the samples are tried one by one
NORMAL_FROM = 80  # samples from which the permutations' normal limit is as good
MAX_DRAWN = 4_000_000  # numbers in the hand at a time: 32 MB
SEED = 20_261_121  # the same recordings get the same answer


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A difference, and how sure it is.

    Attributes:
        base: The quantity on the base side.
        new: The same of the new side.
        low: Lower end of the 95 % interval of ``new - base``; ``None`` when there is none.
        high: Upper end.
        p_value: Of the test that ``how`` names.
        detectable: The smallest change found in four of five cases.
        low_in_runs: Lower end of the interval within two runs, one a side; ``low`` then holds
            what runs may differ by as well. ``None`` for repeated runs.
        high_in_runs: Upper end.
        p_in_runs: Of the test within the two runs.
        is_assumed: Whether nothing measured stands behind the interval.
        how: Units, interval and test in words, one sentence each.
    """

    base: float
    new: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    detectable: float | None = None
    low_in_runs: float | None = None
    high_in_runs: float | None = None
    p_in_runs: float | None = None
    is_assumed: bool = False
    how: tuple[str, ...] = ()

    @property
    def change(self) -> float:
        """``new - base``."""
        return self.new - self.base


class Columns(NamedTuple):
    """Differences of many quantities at once, one place each; NaN where there is no uncertainty."""

    change: Array
    low: Array
    high: Array
    p_value: Array
    detectable: Array

    def at(self, place: int) -> Columns:
        """Return one quantity."""
        return Columns(*(part[place] for part in self))


def correlation_time(samples: Array) -> float:
    """Return how many iterations in a row say as much as one independent one; 1 or more.

    Three estimates from the correlation of ranks (so that a single slow iteration does not
    decide), the largest of which counts: that of an autoregressive series, its lag-one correlation
    made good for its known bias in short series (Marriott and Pope, 1954) and for what few
    iterations leave open (``DOUBT``); the same beneath independent noise, for longer series; the
    sum of all correlations in a growing window (Sokal, 1997).
    """
    count = len(samples)
    if count < MIN_SAMPLES or np.ptp(samples) == 0:
        return 1.0
    centred = ranks(samples) - (count + 1) / 2
    spectrum = np.abs(np.fft.rfft(centred, 2 * count)) ** 2
    correlation = np.fft.irfft(spectrum)[:count]
    correlation /= correlation[0]
    first, second = float(correlation[1]), float(correlation[2])
    times = [float(times_from_first(np.array(first), count))]
    if count >= MIN_CORRELATED and first > 2 / math.sqrt(count):
        decay = min(max(second / first, 0.0), 0.95)
        times.append(1 + 2 * first / (1 - decay))
    sums = 1 + 2 * np.cumsum(correlation[1:])
    enough = np.flatnonzero(np.arange(1, count) >= 5 * sums)
    times.append(float(sums[enough[0]]) if len(enough) else float(sums.max()))
    return min(max(1.0, *times), float(count))


def ranks(values: Array) -> Array:
    """Return the rank of each value, from 1; equal ones share theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Array = (last - (counts - 1) / 2)[place]
    return shared


def between_iterations(base: Array, new: Array) -> Estimate:
    """Return the difference of medians between one run and another.

    Args:
        base: Samples of the base run, in their order, at least ``MIN_SAMPLES``.
        new: Samples of the new run.
    """
    rng = np.random.default_rng(SEED)
    sides = (base, new)
    times = [correlation_time(s) for s in sides]
    medians = [float(np.median(s)) for s in sides]
    resamples = [
        (median_resamples(s, rng) - m) * math.sqrt(t)
        for s, m, t in zip(sides, medians, times, strict=True)
    ]
    sizes = [len(s) / t for s, t in zip(sides, times, strict=True)]
    freedom = _freedom([float(d.var()) for d in resamples], sizes)
    error = math.sqrt(float(resamples[0].var() + resamples[1].var())) * _small(freedom)
    change = medians[1] - medians[0]
    reach = _quantile(freedom, 1 - LEVEL / 2) * error
    time = sum(t * len(s) for s, t in zip(sides, times, strict=True)) / (len(base) + len(new))
    return Estimate(
        base=medians[0],
        new=medians[1],
        low=change - reach,
        high=change + reach,
        p_value=rank_sum_test(base, new, time, rng),
        detectable=reach + _quantile(freedom, POWER) * error,
        how=(
            f"Iterations are the units: {len(base):,} and {len(new):,}, which count as "
            f"{sizes[0]:,.0f} and {sizes[1]:,.0f} independent ones.",
            "Interval: bootstrap of the difference of medians, widened for small samples and "
            "for correlated iterations.",
            "Test: permutation test on rank sums.",
            "The interval covers how much iterations vary within a run, not how much runs differ.",
        ),
    )


def between_runs(base: Array, new: Array) -> Estimate:
    """Return the difference of the means of what each run measured once.

    Args:
        base: One number for each recording.
        new: The same; together at least three, so that there is a spread.
    """
    columns = welch(base[:, None], new[:, None])
    units = f"Recordings are the units: {len(base)} and {len(new)}, each with its median."
    interval = "Interval: Welch's, over recordings."
    if min(len(base), len(new)) < 2:
        interval = "Interval: Student's, over recordings; both sides are assumed to vary equally."
    p_value, test = float(columns.p_value[0]), "Test: the t test that belongs to the interval."
    divisions = math.comb(len(base) + len(new), len(base))
    if divisions * LEVEL >= 2 and divisions <= MAX_EXACT:
        p_value = rank_sum_test(base, new, 1.0, np.random.default_rng(SEED))
        test = f"Test: rank sums over all {divisions:,} ways to divide the recordings."
    return Estimate(
        base=float(base.mean()),
        new=float(new.mean()),
        low=float(columns.low[0]),
        high=float(columns.high[0]),
        p_value=p_value,
        detectable=float(columns.detectable[0]),
        how=(units, interval, test),
    )


def median_resamples(samples: Array, rng: np.random.Generator) -> Array:
    """Return medians of ``RESAMPLES`` resamples, drawn without making the resamples.

    The k-th smallest of n draws lies where the k-th smallest of n uniform numbers does, and that
    one has a beta distribution; so each costs the same however many samples there are.
    """
    count = len(samples)
    ordered = np.sort(samples)
    lower = (count + 1) // 2
    place = rng.beta(lower, count + 1 - lower, RESAMPLES)
    below = ordered[np.minimum((place * count).astype(np.int64), count - 1)]
    if count % 2:
        return below.astype(float)
    # The next of the uniform numbers, given this one: the least of those that are left above.
    after = 1 - (1 - place) * rng.random(RESAMPLES) ** (1 / (count - lower))
    above = ordered[np.minimum((after * count).astype(np.int64), count - 1)]
    middles: Array = (below + above) / 2
    return middles


def rank_sum_test(base: Array, new: Array, time: float, rng: np.random.Generator) -> float:
    """Return the probability of rank sums at least as far apart if the labels meant nothing.

    Args:
        base: Samples of one side.
        new: Samples of the other.
        time: Their correlation time.
        rng: Draws permutations where there are too many to try all.
    """
    from scipy.special import ndtr  # slow to load, and only comparisons need it

    count, all_of = len(base), len(base) + len(new)
    ranked = ranks(np.concatenate((base, new)))
    expected = count * (all_of + 1) / 2
    observed = abs(float(ranked[:count].sum()) - expected) / math.sqrt(time)
    if math.comb(all_of, count) <= MAX_EXACT:
        chosen = np.array(list(itertools.combinations(range(all_of), count)))
        sums = ranked[chosen].sum(axis=1)
        return float(np.mean(np.abs(sums - expected) >= observed - 1e-9))
    if all_of >= NORMAL_FROM:
        spread = math.sqrt(count * len(new) / (all_of - 1) * float(ranked.var()))
        return float(2 * ndtr(-observed / spread)) if spread else 1.0
    order = rng.random((PERMUTATIONS, all_of)).argsort(axis=1)[:, :count]
    further = np.abs(ranked[order].sum(axis=1) - expected) >= observed - 1e-9
    return float((1 + further.sum()) / (1 + PERMUTATIONS))


def typical_weights(durations: Array) -> Array:
    """Return the weight of each iteration in a typical one; they sum to 1, none is below 0.

    Iterations are ordered by their duration; a quarter at each end counts nothing, and one that
    lies across a border counts in part. The quarter below the median and the one above it weigh so
    much that the durations average to the median: parts that sum to each duration sum to it.
    """
    order = np.argsort(durations, kind="stable")
    weights = np.empty(len(durations))
    weights[order] = _typical(np.ones((1, len(durations))), durations[order].astype(float))[0]
    return weights


def _typical(counts: Array, ordered: Array) -> Array:
    """Return weights for iterations that are sorted and count several times, a row a resample."""
    reach = np.cumsum(counts, axis=1)
    whole = reach[:, -1:]
    below = ordered[np.argmax(2 * reach >= whole, axis=1)]
    above = ordered[np.argmax(2 * reach > whole, axis=1)]
    median = (below + above) / 2
    quarters = [
        np.maximum(np.minimum(reach, end * whole) - np.maximum(reach - counts, begin * whole), 0.0)
        / (0.25 * whole)
        for begin, end in ((0.25, 0.5), (0.5, 0.75))
    ]
    low, high = (quarter @ ordered for quarter in quarters)
    room = high - low
    share = np.where(room > 0, (high - median) / np.where(room > 0, room, 1.0), 0.5)
    lower = np.clip(share, 0.0, 1.0)[:, None]
    weights: Array = lower * quarters[0] + (1 - lower) * quarters[1]
    return weights


def between_accounts(base: tuple[Array, Array], new: tuple[Array, Array]) -> Columns:
    """Return the differences of what a typical iteration consists of, between two runs.

    Args:
        base: Durations of the iterations, and their parts, one column each.
        new: The same of the new run.

    Returns:
        A place for each part; those of parts that sum to the durations sum to the difference of
        medians.
    """
    rng = np.random.default_rng(SEED)
    means, spreads, sizes, variances = [], [], [], []
    for durations, parts in (base, new):
        order = np.argsort(durations, kind="stable")
        means.append(typical_weights(durations) @ parts)
        time = correlation_time(durations)
        times = np.array([max(time, correlation_time(c)) for c in parts.T])
        resamples = _account_resamples(durations[order], parts[order], rng)
        variances.append(parts.var(axis=0, ddof=1))
        centred = (resamples - resamples.mean(axis=0)) * np.sqrt(times)
        spreads.append(centred.var(axis=0))
        sizes.append(len(durations) / times)
    freedom = _freedom_of(spreads, sizes)
    error = np.sqrt(spreads[0] + spreads[1]) * _small_of(freedom)
    spread = np.sqrt(variances[0] + variances[1])
    return _columns(means[1] - means[0], error, freedom, spread)


def _account_resamples(durations: Array, parts: Array, rng: np.random.Generator) -> Array:
    """Return the parts of a typical iteration, sorted by duration, a row a resample."""
    count = len(durations)
    at_a_time = max(1, MAX_DRAWN // count)
    batches = []
    for begin in range(0, ROW_RESAMPLES, at_a_time):
        size = min(at_a_time, ROW_RESAMPLES - begin)
        counts = rng.multinomial(count, np.full(count, 1 / count), size)
        batches.append(_typical(counts, durations) @ parts)
    return np.concatenate(batches)


def welch(base: Array, new: Array) -> Columns:
    """Return the differences of means of many quantities, with Welch's intervals and tests.

    Where one side has fewer units, two of them may agree by chance, and Welch's interval is as
    narrow as they are. Then the one for sides that vary alike counts, if it is wider.

    Args:
        base: One row for each unit, one column for each quantity.
        new: The same. With a single unit on one side both are taken to vary alike.
    """
    sides = (base, new)
    if min(len(base), len(new)) >= 2:
        sizes = [np.full(base.shape[1], float(len(s))) for s in sides]
        means, variances = ([s.mean(axis=0) for s in sides], [s.var(axis=0, ddof=1) for s in sides])
        columns = from_moments(
            (means[0], means[1]),
            (variances[0], variances[1]),
            (sizes[0], sizes[1]),
            are_correlated=False,
        )
        return columns if len(base) == len(new) else _wider(columns, _alike(base, new))
    return _alike(base, new)


def _wider(one: Columns, other: Columns) -> Columns:
    """Return of two answers the more careful one, quantity by quantity."""
    chosen = one.high - one.low >= other.high - other.low
    return Columns(*(np.where(chosen, a, b) for a, b in zip(one, other, strict=True)))


def _alike(base: Array, new: Array) -> Columns:
    """Return the differences of means of two sides that are taken to vary alike."""
    sides = (base, new)
    change = new.mean(axis=0) - base.mean(axis=0)
    squares = sum(((s - s.mean(axis=0)) ** 2).sum(axis=0) for s in sides)
    freedom = len(base) + len(new) - 2
    error = np.sqrt(squares / max(freedom, 1) * (1 / len(base) + 1 / len(new)))
    return _columns(change, error, np.full(base.shape[1], float(freedom)))


def from_moments(
    means: tuple[Array, Array],
    variances: tuple[Array, Array],
    sizes: tuple[Array, Array],
    *,
    are_correlated: bool = True,
) -> Columns:
    """Return the differences of means, with Welch's intervals and tests.

    Args:
        means: Of each side, one place a quantity.
        variances: Of single units.
        sizes: How many independent units there are.
        are_correlated: Whether units resemble their neighbours, so that ``sizes`` are estimated.
    """
    spreads = [v / np.maximum(n, 1.0) for v, n in zip(variances, sizes, strict=True)]
    freedom = _freedom_of(spreads, list(sizes))
    error, spread = np.sqrt(spreads[0] + spreads[1]), np.sqrt(variances[0] + variances[1])
    spread = spread if are_correlated else None
    return _columns(means[1] - means[0], error, freedom, spread)


def times_from_first(first: Array, count: int) -> Array:
    """Return correlation times from lag-one correlations of series of ``count`` iterations."""
    unbiased = np.clip(first + (1 + 4 * first + DOUBT) / count, 0.0, 0.99)
    times: Array = np.minimum((1 + unbiased) / (1 - unbiased), float(count))
    return times


def adjusted(p_values: Array) -> Array:
    """Return p values adjusted for their number, so that 5 % of what is called a change is none.

    Benjamini and Hochberg (1995); NaN stays NaN and does not count.
    """
    result = np.full(len(p_values), np.nan)
    finite = np.flatnonzero(np.isfinite(p_values))
    if not len(finite):
        return result
    order = finite[np.argsort(p_values[finite], kind="stable")]
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result


def agreeing(columns: Columns, p_values: Array) -> Columns:
    """Return intervals that hold 0 wherever a test, or the number of tests, leaves that open.

    An interval is widened to 0 and beyond, the further the less the test found, at most to twice
    its middle: no word is contradicted by the numbers beside it.

    Args:
        columns: Differences.
        p_values: Of each, adjusted for their number.
    """
    from scipy.special import ndtri  # slow to load, and only comparisons need it

    middle, reach = (columns.high + columns.low) / 2, (columns.high - columns.low) / 2
    is_open = (p_values > LEVEL) & ((columns.low > 0) | (columns.high < 0))
    quantile = np.maximum(ndtri(1 - np.where(is_open, p_values, LEVEL) / 2), 1.0)
    reach = np.where(is_open, np.abs(middle) * ndtri(1 - LEVEL / 2) / quantile, reach)
    return columns._replace(low=middle - reach, high=middle + reach)


def is_sure(columns: Columns, p_values: Array) -> Array:
    """Tell which differences are above the noise: interval without 0, and the test agrees."""
    sure: Array = (p_values <= LEVEL) & ((columns.low > 0) | (columns.high < 0))
    return sure


def _columns(change: Array, error: Array, freedom: Array, spread: Array | None = None) -> Columns:
    """Return intervals and tests from standard errors and degrees of freedom.

    Args:
        change: Of each quantity.
        error: Standard error of each change.
        freedom: Degrees of freedom; 0 or NaN for none.
        spread: Standard deviation of single units, of both sides together: no interval reaches
            beyond ``MAX_SPREADS`` of them. None for no bound.
    """
    from scipy.special import stdtr, stdtrit  # slow to load, and only comparisons need it

    has_freedom = freedom > 0
    usable = np.where(has_freedom, freedom, 1.0)
    if spread is not None:
        reach = stdtrit(usable, 1 - LEVEL / 2) * error
        is_beyond = reach > MAX_SPREADS * spread
        usable = np.where(is_beyond, np.maximum(usable, 1.0), usable)
        bound = MAX_SPREADS * spread / stdtrit(usable, 1 - LEVEL / 2)
        error = np.where(is_beyond, bound, error)
    reach = stdtrit(usable, 1 - LEVEL / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error > 0, np.abs(change) / error, np.where(change != 0, np.inf, 0.0))
    p_value = 2 * stdtr(usable, -ratio)
    detectable = reach + stdtrit(usable, POWER) * error
    silent = np.where(has_freedom, 0.0, np.nan)
    parts = (change - reach, change + reach, p_value, detectable)
    return Columns(change, *(part + silent for part in parts))


def _freedom(spreads: list[float], sizes: list[float]) -> float:
    one = [np.array([s]) for s in spreads], [np.array([n]) for n in sizes]
    return float(_freedom_of(*one)[0])


def _freedom_of(spreads: list[Array], sizes: list[Array]) -> Array:
    """Return Welch's degrees of freedom for squared errors from so many independent units."""
    freedoms = [np.maximum(n - 1, 0.5) for n in sizes]
    below = sum(s**2 / n for s, n in zip(spreads, freedoms, strict=True))
    plain = np.asarray(freedoms[0] + freedoms[1])
    total = (spreads[0] + spreads[1]) ** 2
    freedom: Array = np.where(below > 0, total / np.where(below > 0, below, 1.0), plain)
    return freedom


def _small(freedom: float) -> float:
    return float(_small_of(np.array(freedom)))


def _small_of(freedom: Array) -> Array:
    """Return what a bootstrap's spread is too small by: it divides by n, not by n - 1."""
    result: Array = np.sqrt((freedom + 1) / np.maximum(freedom, 0.5))
    return result


def _quantile(freedom: float, share: float) -> float:
    from scipy.special import stdtrit  # slow to load, and only comparisons need it

    return float(stdtrit(freedom, share))
