"""Statistics of comparisons beside scipy, numpy and sums that are written out, number by number."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from analyzers.compare.deltas import RunMoments, deltas, moments, sparse_moments
from analyzers.compare.samples import FAR_LONGER, shift_within, warm_up
from analyzers.compare.side import SparseTable
from analyzers.compare.statistics import (
    SEED,
    adjusted,
    between_iterations,
    between_runs,
    correlation_time,
    from_moments,
    median_resamples,
    rank_sum_test,
    ranks,
    times_from_first,
    typical_weights,
    welch,
)
from tests.compare_scenarios import side

SAMPLES = st.lists(st.integers(1, 50), min_size=2, max_size=60)


# How many iterations say as much as one.


def time_by_hand(samples):
    count = len(samples)
    if count < 5 or len(set(samples)) == 1:
        return 1.0
    centred = stats.rankdata(samples) - (count + 1) / 2

    def correlation(lag):
        return (centred[: count - lag] * centred[lag:]).sum() / (centred**2).sum()

    first, second = correlation(1), correlation(2)
    unbiased = min(max(first + (1 + 4 * first + 1.5) / count, 0.0), 0.99)
    times = [1.0, min((1 + unbiased) / (1 - unbiased), count)]
    if count >= 30 and first > 2 / math.sqrt(count):
        times.append(1 + 2 * first / (1 - min(max(second / first, 0.0), 0.95)))
    sums = list(itertools.accumulate((2 * correlation(lag) for lag in range(1, count)), initial=1))
    enough = [s for lag, s in enumerate(sums[1:], 1) if lag >= 5 * s]
    times.append(enough[0] if enough else max(sums[1:]))
    return min(max(times), count)


@settings(max_examples=80)
@given(steps=st.lists(st.integers(-3, 4), min_size=2, max_size=60), drift=st.booleans())
def test_the_correlation_time_is_the_largest_of_its_three_estimates(steps, drift):
    samples = np.cumsum(steps).astype(float) if drift else np.array(steps, float)
    assert correlation_time(samples) == pytest.approx(time_by_hand(samples), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("count", "time"), [(4, 1.0), (5, 1.0)])
def test_five_iterations_are_the_fewest_whose_correlation_is_asked(count, time):
    rising = np.arange(count, dtype=float)
    assert (correlation_time(rising) > time) is (count == 5)


@given(samples=SAMPLES)
def test_ranks_are_those_of_scipy(samples):
    assert ranks(np.array(samples)) == pytest.approx(stats.rankdata(samples))


# Differences of means.


@given(base=SAMPLES, new=SAMPLES)
@settings(max_examples=60)
def test_means_of_equally_many_runs_differ_as_welch_says(base, new):
    size = min(len(base), len(new))
    base, new = np.array(base[:size], float), np.array(new[:size], float)
    assume(np.ptp(base) > 0 and np.ptp(new) > 0)  # else scipy warns
    found = welch(base[:, None], new[:, None])
    expected = stats.ttest_ind(new, base, equal_var=False)
    interval = expected.confidence_interval()
    assert found.change[0] == pytest.approx(new.mean() - base.mean())
    assert (found.low[0], found.high[0]) == pytest.approx((interval.low, interval.high))
    assert found.p_value[0] == pytest.approx(expected.pvalue, abs=1e-9)
    error = math.sqrt(base.var(ddof=1) / size + new.var(ddof=1) / size)
    quantiles = stats.t.ppf(0.975, expected.df) + stats.t.ppf(0.80, expected.df)
    assert found.detectable[0] == pytest.approx(quantiles * error)


@pytest.mark.parametrize(("few", "many"), [([1.0, 1.1], [5, 9, 2, 7]), ([1.0, 9.0], [5, 5.1, 5.2])])
def test_of_unequally_many_runs_the_wider_of_two_intervals_counts(few, many):
    base, new = np.array(few), np.array(many, float)
    found = welch(base[:, None], new[:, None])
    both = [
        stats.ttest_ind(new, base, equal_var=equal).confidence_interval() for equal in (True, False)
    ]
    widest = max(both, key=lambda interval: interval.high - interval.low)
    assert (found.low[0], found.high[0]) == pytest.approx((widest.low, widest.high))


def test_a_single_run_borrows_the_spread_of_the_others():
    found = welch(np.array([[5.0]]), np.array([[7.0], [8.0], [9.0]]))
    expected = stats.ttest_ind([7.0, 8.0, 9.0], [5.0], equal_var=True).confidence_interval()
    assert (found.low[0], found.high[0]) == pytest.approx((expected.low, expected.high))


def test_equal_constant_sides_differ_by_nothing_and_others_for_sure():
    found = from_moments(
        (np.array([1.0, 1.0]), np.array([1.0, 2.0])), (np.zeros(2),) * 2, (np.full(2, 5.0),) * 2
    )
    assert found.p_value.tolist() == [1.0, 0.0]
    assert found.low.tolist() == found.high.tolist() == [0.0, 1.0]


@given(
    p_values=st.lists(
        st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.05, 1.0, math.nan])), max_size=30
    )
)
def test_p_values_are_adjusted_as_benjamini_and_hochberg_do(p_values):
    found = adjusted(np.array(p_values, float))
    finite = [p for p in p_values if not math.isnan(p)]
    expected = iter(stats.false_discovery_control(finite) if finite else ())
    for one, p in zip(found, p_values, strict=True):
        assert math.isnan(one) if math.isnan(p) else one == pytest.approx(next(expected))


# Iterations as units.


@given(
    base=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    new=st.lists(st.integers(1, 9), min_size=1, max_size=6),
)
@settings(max_examples=60)
def test_few_samples_are_divided_in_every_way(base, new):
    rng = np.random.default_rng(1)
    found = rank_sum_test(np.array(base), np.array(new), 1.0, rng)
    pooled = stats.rankdata(base + new)
    middle = len(base) * (len(pooled) + 1) / 2
    observed = abs(pooled[: len(base)].sum() - middle)
    ways = list(itertools.combinations(pooled, len(base)))
    further = sum(abs(sum(way) - middle) >= observed - 1e-9 for way in ways)
    assert found == pytest.approx(further / len(ways))


@pytest.mark.parametrize("size", [39, 40, 60])
def test_many_samples_are_tested_as_scipy_does_without_correction(size):
    rng = np.random.default_rng(size)
    base, new = rng.normal(size=size), rng.normal(0.4, size=size)
    found = rank_sum_test(base, new, 1.0, np.random.default_rng(SEED))
    expected = stats.mannwhitneyu(base, new, use_continuity=False, method="asymptotic").pvalue
    assert found == pytest.approx(expected, abs=0.02 if size < 40 else 1e-9)


def test_correlated_samples_move_the_sum_of_ranks_less():
    rng = np.random.default_rng(3)
    base, new = rng.normal(size=60), rng.normal(0.5, size=60)
    one, four = (rank_sum_test(base, new, time, rng) for time in (1.0, 4.0))
    deviations = [stats.norm.isf(p / 2) for p in (one, four)]
    assert deviations[0] == pytest.approx(2 * deviations[1])


@given(durations=st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_a_typical_iteration_leaves_out_a_quarter_at_each_end_and_takes_the_median(durations):
    count = len(durations)
    found = typical_weights(np.array(durations))
    order = sorted(range(count), key=lambda place: durations[place])
    quarters = []  # the one below the median, and the one above it
    for low, high in ((0.25 * count, 0.5 * count), (0.5 * count, 0.75 * count)):
        inside = [max(min(p + 1, high) - max(p, low), 0) / (0.25 * count) for p in range(count)]
        quarters.append(np.array(inside))
    levels = [quarter @ np.sort(durations) for quarter in quarters]
    room = levels[1] - levels[0]
    lower = (levels[1] - np.median(durations)) / room if room else 0.5
    expected = lower * quarters[0] + (1 - lower) * quarters[1]
    assert found[order] == pytest.approx(expected, abs=1e-9)
    assert found @ np.array(durations) == pytest.approx(np.median(durations))


@pytest.mark.parametrize(("base_count", "new_count"), [(5, 5), (12, 31), (40, 6)])
def test_the_interval_of_medians_is_the_bootstrap_s_widened_for_few_samples(base_count, new_count):
    rng = np.random.default_rng(base_count)
    sides = [rng.normal(100, 5, base_count), rng.normal(110, 2, new_count)]
    found = between_iterations(*sides)
    again = np.random.default_rng(SEED)
    times = [correlation_time(s) for s in sides]
    variances = [
        float((median_resamples(s, again) - np.median(s)).var()) * t
        for s, t in zip(sides, times, strict=True)
    ]
    independent = [len(s) / t for s, t in zip(sides, times, strict=True)]
    freedom = sum(variances) ** 2 / sum(
        v**2 / max(n - 1, 0.5) for v, n in zip(variances, independent, strict=True)
    )
    error = math.sqrt(sum(variances) * (freedom + 1) / max(freedom, 0.5))
    reach = stats.t.ppf(0.975, freedom) * error
    change = np.median(sides[1]) - np.median(sides[0])
    assert (found.base, found.new) == pytest.approx([np.median(s) for s in sides])
    assert (found.low, found.high) == pytest.approx((change - reach, change + reach))
    assert found.detectable == pytest.approx(reach + stats.t.ppf(0.80, freedom) * error)
    counts = " and ".join(f"{n:,.0f}" for n in independent)
    assert f"{base_count} and {new_count}, which count as {counts} independent" in found.how[0]


@pytest.mark.parametrize(
    ("counts", "test"),
    [
        ((3, 3), "the t test"),  # of 20 divisions one is 5 %: no two of them can be
        ((3, 4), "the t test"),  # of 35 only one
        ((3, 5), "rank sums over all 56 ways"),
        ((1, 4), "the t test"),
        ((7, 8), "the t test"),  # 6,435 ways are too many
        ((7, 7), "rank sums over all 3,432 ways"),
    ],
)
def test_runs_are_divided_in_every_way_where_these_are_enough_and_not_too_many(counts, test):
    rng = np.random.default_rng(1)
    base, new = (rng.normal(100, 5, n) for n in counts)
    found = between_runs(base, new)
    assert test in found.how[2]
    assert f"{counts[0]} and {counts[1]}" in found.how[0]
    assert ("Student" in found.how[1]) is (min(counts) < 2)
    assert (found.base, found.new) == pytest.approx((base.mean(), new.mean()))


# What a table's rows are made of.


def moments_by_hand(samples, time):
    """Return mean, variance and independent iterations of one quantity."""
    count, mean = len(samples), sum(samples) / len(samples)
    variance = float(np.var(samples, ddof=1))
    if count < 5:
        return mean, 0.0, math.nan
    if variance <= 1e-9 * mean**2:
        return mean, 0.0, float(count)
    deviations = [s - mean for s in samples]
    first = sum(a * b for a, b in itertools.pairwise(deviations)) / (variance * (count - 1))
    return mean, variance, count / max(float(times_from_first(np.array(first), count)), time)


@given(
    samples=st.lists(st.integers(0, 9), min_size=2, max_size=30), time=st.sampled_from([1.0, 3.0])
)
def test_moments_of_a_quantity_are_those_of_numpy(samples, time):
    found = moments(np.array(samples, float)[:, None], time)
    expected = moments_by_hand(samples, time)
    assert (found.mean[0], found.variance[0], found.size[0]) == pytest.approx(
        expected, nan_ok=True, abs=1e-9
    )


@settings(max_examples=60)
@given(
    table=st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=4, max_size=20),
    skipped=st.integers(0, 2),
)
def test_a_sparse_table_has_the_moments_of_the_full_one(table, skipped):
    full = np.array(table, float)
    iteration, column = np.nonzero(full)
    values = full[iteration, column]
    sparse = SparseTable(iteration=iteration, column=column, ns=values, count=values)
    durations = np.linspace(90, 110, len(full))[::-1]
    of = side(durations, warm_up=skipped)
    found = sparse_moments(sparse, values, of, 2)
    time = correlation_time(of.durations_ns[skipped:])
    for place in range(2):
        expected = moments_by_hand(full[skipped:, place].tolist(), time)
        numbers = (found.mean[place], found.variance[place], found.size[place])
        assert numbers == pytest.approx(expected, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize(("unit", "rounded"), [("ns", True), ("count", False)])
def test_rows_hold_whole_nanoseconds_and_are_significant_only_without_zero(unit, rounded):
    def run(*means):
        size = len(means)
        return [RunMoments(np.array(means), np.full(size, 4.0), np.full(size, 20.0))]

    far, near, silent = deltas(run(10.4, 10.4, 10.4), run(14.8, 10.6, 10.4), unit)
    error = math.sqrt(2 * 4.0 / 20)
    reach = stats.t.ppf(0.975, 38) * error
    expected = [10.4, 14.8, 4.4 - reach, 4.4 + reach, reach + stats.t.ppf(0.80, 38) * error]
    numbers = [far.base, far.new, far.low, far.high, far.detectable]
    assert numbers == pytest.approx([round(n) for n in expected] if rounded else expected)
    assert far.change == pytest.approx(5 if rounded else 4.4)
    assert [d.significant for d in (far, near, silent)] == [True, False, False]
    assert far.p_adjusted == pytest.approx(3 * far.p_value)
    assert silent.change == 0


# Warm-up.


@given(samples=st.lists(st.integers(1, 20), min_size=6, max_size=18))
def test_what_is_twice_as_long_as_everything_after_it_is_warm_up(samples):
    durations = np.array(samples, float)
    most = min(len(samples) // 3, len(samples) - 5)
    far = [
        place
        for place in range(1, most + 1)
        if min(samples[:place]) >= FAR_LONGER * max(samples[place:])
    ]
    assert warm_up(durations).dropped >= max(far, default=0)
    assert warm_up(durations).dropped <= max(most, 0)


def step_by_hand(samples):
    """Return where two medians fit best, if they fit better than chance would make them."""
    count, level = len(samples), np.median(samples)
    if count <= 5:
        return 0

    def spread(part):
        return sum(abs(s - np.median(part)) for s in part) if len(part) else 0.0

    floor = 1e-4 * level * count
    costs = {b: spread(samples[:b]) + spread(samples[b:]) + floor for b in range(1, count)}
    border = min(costs, key=lambda b: (costs[b], b))
    steady = samples[max(border, count // 2) :]
    steady = steady if len(steady) >= 10 else samples[border:]
    evidence = (
        count
        / correlation_time(np.array(steady))
        * math.log((spread(samples) + floor) / costs[border])
    )
    before, after = np.median(samples[:border]), np.median(samples[border:])
    is_step = evidence > 2 * math.log(count) and abs(before - after) > 0.02 * after
    return border if is_step else 0


@settings(max_examples=80)
@given(
    first=st.integers(0, 12),
    rest=st.integers(0, 24),
    height=st.sampled_from([1.0, 1.015, 1.025, 1.3, 0.7]),
    noise=st.sampled_from([0.0, 0.004, 0.05]),
)
def test_a_step_is_where_two_medians_fit_best(first, rest, height, noise):
    rng = np.random.default_rng(first * 100 + rest)
    samples = np.append(np.full(first, 100 * height), np.full(rest, 100.0))
    assume(len(samples) > 1)
    samples = samples * (1 + noise * rng.standard_normal(len(samples)))
    assert shift_within(samples) == step_by_hand(samples.tolist())


@pytest.mark.parametrize(
    ("first", "text"),
    [
        ([200.0], "the first iteration took 100 % longer than those that follow"),
        ([150.0] * 3, "the first 3 iterations took 50 % longer than those that follow"),
        ([50.0] * 4, "the first 4 iterations took 50 % shorter than those that follow"),
    ],
)
def test_warm_up_is_told_in_numbers(first, text):
    found = warm_up(np.array(first + [100.0] * 20))
    assert found.dropped == len(first)
    assert found.how == text
