"""The statistics of comparisons keep what they state: rates of alarms, intervals, adjustments."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.compare.samples import periods, warm_up
from analyzers.compare.statistics import (
    LEVEL,
    MAX_SPREADS,
    Columns,
    adjusted,
    agreeing,
    between_accounts,
    between_iterations,
    between_runs,
    correlation_time,
    is_sure,
    median_resamples,
    rank_sum_test,
    ranks,
    typical_weights,
    welch,
)
from analyzers.facts.spans import Iteration
from tests.compare_scenarios import noisy

TRIALS = 120
# What chance allows on top of 5 % in 120 trials, exceeded once in a thousand times.
ALLOWED = LEVEL * TRIALS + 3.1 * math.sqrt(LEVEL * (1 - LEVEL) * TRIALS)


def calls_a_difference(estimate):
    return estimate.p_value <= LEVEL and not estimate.low <= 0 <= estimate.high


@pytest.mark.parametrize("noise", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize(("count", "correlation"), [(6, 0.0), (20, 0.5), (60, 0.8), (200, 0.8)])
def test_runs_that_do_not_differ_are_told_apart_no_more_often_than_stated(
    noise, count, correlation
):
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(TRIALS):
        pair = [noisy(rng, count, noise=noise, correlation=correlation) for _ in range(2)]
        alarms += calls_a_difference(between_iterations(*pair))
    assert alarms <= ALLOWED


@pytest.mark.parametrize(("correlation", "counts"), [(0.8, (5, 6, 8)), (0.9, (8, 12, 20))])
def test_few_iterations_that_resemble_each_other_give_no_more_false_alarms(correlation, counts):
    rng = np.random.default_rng(8)
    trials, alarms = 400, 0
    for count in counts:
        for _ in range(trials):
            pair = [noisy(rng, count, correlation=correlation) for _ in range(2)]
            alarms += calls_a_difference(between_iterations(*pair))
    pairs = trials * len(counts)
    assert alarms <= LEVEL * pairs + 3.1 * math.sqrt(LEVEL * (1 - LEVEL) * pairs)


def test_a_gain_of_5_percent_in_thirty_quiet_iterations_is_found():
    rng = np.random.default_rng(9)
    pairs = [(noisy(rng, 30, spread=0.02), noisy(rng, 30, 950.0, spread=0.02)) for _ in range(60)]
    assert all(calls_a_difference(between_iterations(*pair)) for pair in pairs)


def test_shuffled_labels_are_told_apart_no_more_often_than_stated():
    rng = np.random.default_rng(11)
    pooled = np.concatenate((noisy(rng, 30, noise="heavy"), noisy(rng, 30, level=1_300)))
    alarms = 0
    for _ in range(TRIALS):
        shuffled = rng.permutation(pooled)
        alarms += calls_a_difference(between_iterations(shuffled[:30], shuffled[30:]))
    assert alarms <= ALLOWED


def test_runs_are_told_apart_no_more_often_than_stated_when_they_are_the_units():
    rng = np.random.default_rng(13)
    alarms = 0
    for _ in range(TRIALS):
        alarms += calls_a_difference(between_runs(rng.normal(size=3), rng.normal(size=4)))
    assert alarms <= ALLOWED


@pytest.mark.parametrize("counts", [(1, 3), (2, 2), (2, 5), (2, 8), (3, 3), (3, 10), (5, 5)])
def test_any_number_of_runs_keeps_the_rate_and_the_interval(counts):
    rng = np.random.default_rng(14)
    trials, alarms, held = 1_000, 0, 0
    for _ in range(trials):
        estimate = between_runs(*(rng.normal(size=count) for count in counts))
        alarms += calls_a_difference(estimate)
        held += estimate.low <= 0 <= estimate.high
    allowed = LEVEL * trials + 3.1 * math.sqrt(LEVEL * (1 - LEVEL) * trials)
    assert alarms <= allowed
    assert held >= trials - allowed


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_interval_holds_the_true_change_as_often_as_stated(correlation):
    rng = np.random.default_rng(17)
    held = 0
    for _ in range(TRIALS):
        base = noisy(rng, 40, correlation=correlation)
        new = noisy(rng, 40, level=900.0, correlation=correlation)
        estimate = between_iterations(base, new)
        held += estimate.low <= -100.0 <= estimate.high
    assert held >= TRIALS - ALLOWED


def test_a_change_as_large_as_the_detectable_one_is_usually_found():
    rng = np.random.default_rng(19)
    detectable = between_iterations(noisy(rng, 50), noisy(rng, 50)).detectable
    found = sum(
        calls_a_difference(
            between_iterations(noisy(rng, 50), noisy(rng, 50, level=1_000 - detectable))
        )
        for _ in range(60)
    )
    assert found >= 40


def test_runs_that_differ_from_run_to_run_are_not_told_apart_by_their_many_iterations():
    # Each run has a level of its own; 1,000 iterations know it well and the next run not at all.
    rng = np.random.default_rng(23)
    base, new = rng.normal(1_000, 20, 3), rng.normal(1_000, 20, 3)
    estimate = between_runs(base, new)
    assert estimate.high - estimate.low > 2 * np.std(np.concatenate((base, new)))


def test_a_single_run_on_one_side_borrows_the_spread_of_the_other():
    estimate = between_runs(np.array([100.0]), np.array([101.0, 103.0, 102.0]))
    assert estimate.low < 2.0 < estimate.high
    assert "assumed to vary equally" in " ".join(estimate.how)


def test_all_divisions_are_tried_where_they_are_few():
    base, new = np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0, 7.0, 8.0])
    assert rank_sum_test(base, new, 1.0, np.random.default_rng(0)) == pytest.approx(2 / 70)


def test_correlated_iterations_count_for_fewer():
    rng = np.random.default_rng(29)
    alone = correlation_time(noisy(rng, 400))
    alike = correlation_time(noisy(rng, 400, correlation=0.8))
    assert alone < 1.6
    assert 5 < alike < 16  # (1 + 0.8) / (1 - 0.8) is 9


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_ranks_sum_to_what_they_must_with_ties(values):
    assert ranks(np.array(values)).sum() == pytest.approx(len(values) * (len(values) + 1) / 2)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=40))
def test_the_weights_of_a_typical_iteration_sum_to_one_and_leave_the_ends_out(values):
    durations = np.array(values)
    weights = typical_weights(durations)
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ durations == pytest.approx(np.median(durations))
    assert (weights >= 0).all()
    mean = weights @ durations
    assert np.quantile(durations, 0.0) <= mean * (1 + 1e-12)
    assert mean <= np.quantile(durations, 1.0) * (1 + 1e-12)
    if len(values) % 4 == 0 and len(values) > 4:
        assert (weights[np.argsort(durations, kind="stable")[[0, -1]]] == 0).all()


@pytest.mark.parametrize("count", [5, 8, 51])
def test_resampled_medians_spread_as_those_of_real_resamples(count):
    rng = np.random.default_rng(31)
    samples = noisy(rng, count)
    drawn = rng.integers(0, count, (4_000, count))
    real = np.median(samples[drawn], axis=1)
    quick = median_resamples(samples, rng)
    assert quick.mean() == pytest.approx(real.mean(), rel=0.002)
    assert quick.std() == pytest.approx(real.std(), rel=0.08)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusting_keeps_the_order_and_never_lowers_a_p_value(values):
    p = np.array(values)
    q = adjusted(p)
    assert (q >= p - 1e-12).all()
    assert (q <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(q[order]) >= -1e-12).all()


def test_adjusting_agrees_with_an_example_by_hand():
    q = adjusted(np.array([0.01, 0.04, 0.03, np.nan, 0.5]))
    assert q[:3] == pytest.approx([0.04, 0.16 / 3, 0.16 / 3])
    assert np.isnan(q[3])
    assert q[4] == pytest.approx(0.5)


def test_no_more_rows_are_called_changed_than_stated_when_none_did():
    rng = np.random.default_rng(37)
    tables = [welch(rng.normal(size=(12, 200)), rng.normal(size=(12, 200))) for _ in range(40)]
    with_alarm = sum((adjusted(t.p_value) <= LEVEL).any() for t in tables)
    assert with_alarm <= 0.05 * 40 + 3.1 * math.sqrt(0.05 * 0.95 * 40)


def test_of_what_tables_call_changed_no_more_than_stated_is_not():
    rng = np.random.default_rng(38)
    false_share = []
    for _ in range(60):
        base, new = rng.normal(100, 3, (15, 100)), rng.normal(100, 3, (15, 100))
        new[:, :20] -= 6  # the first twenty did change
        called = adjusted(welch(base, new).p_value) <= LEVEL
        assert called[:20].sum() >= 15
        false_share.append(called[20:].sum() / called.sum())
    assert np.mean(false_share) <= LEVEL + 3.1 * np.std(false_share) / math.sqrt(60)


def test_the_parts_of_a_typical_iteration_sum_to_the_change_of_medians():
    rng = np.random.default_rng(41)
    sides = []
    for level in (1_000.0, 800.0):
        durations = noisy(rng, 30, level=level)
        kernel = durations * 0.6
        sides.append((durations, np.column_stack((kernel, durations - kernel))))
    columns = between_accounts(*sides)
    change = np.median(sides[1][0]) - np.median(sides[0][0])
    assert columns.change.sum() == pytest.approx(change)
    assert (columns.low < columns.change).all()
    assert (columns.change < columns.high).all()


def test_an_interval_of_few_iterations_is_no_wider_than_eight_of_their_spreads():
    """A row that falls steadily by 0.4 ms in five iterations of 99 ms says something of itself."""
    durations = np.array([126.2, 127.2, 123.1, 163.5, 124.2])
    falling = np.array([99.2, 99.1, 99.0, 98.8, 98.7])
    sides = [(d, np.column_stack((f, d - f))) for d, f in ((durations, falling + 0.5),) * 2]
    columns = between_accounts(sides[0], sides[1])
    spread = math.sqrt(2) * falling.std(ddof=1)
    assert columns.high[0] == pytest.approx(MAX_SPREADS * spread)
    assert columns.p_value[0] == 1.0


@given(st.floats(-10, 10), st.floats(0.1, 5), st.floats(0, 1))
def test_no_interval_contradicts_the_word_of_its_test(change, reach, p_value):
    one = [np.array([x]) for x in (change, change - reach, change + reach, p_value, 0.0)]
    agreed = agreeing(Columns(*one), np.array([p_value]))
    holds_nothing = bool(agreed.low[0] <= 0 <= agreed.high[0])
    assert bool(is_sure(agreed, np.array([p_value]))[0]) == (not holds_nothing)
    assert agreed.high[0] - agreed.low[0] <= max(2 * reach, 4 * abs(change)) + 1e-9


# --- which iterations ---------------------------------------------------------------------


def test_warm_up_ends_where_the_durations_settle():
    rng = np.random.default_rng(43)
    settling = np.concatenate(([9_000, 3_000], noisy(rng, 20, 1_200), noisy(rng, 80)))
    assert warm_up(settling).dropped == 22


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_a_run_without_warm_up_keeps_nearly_all_iterations(correlation):
    rng = np.random.default_rng(47)
    kept = [40 - warm_up(noisy(rng, 40, correlation=correlation)).dropped for _ in range(100)]
    assert np.mean(kept) > 38


def shapes_of_good_runs(rng):
    """Series of 60 iterations that have no warm-up, whatever else they have."""
    quiet, at = noisy(rng, 60), np.arange(60)
    return {
        "falling clocks": quiet * (1 + 0.3 * at / 60),
        "faster and faster": quiet * (1 - 0.1 * at / 60),
        "slower from the middle on": quiet * np.where(at < 28, 0.9, 1.0),
        "faster from the middle on": quiet * np.where(at < 33, 1.1, 1.0),
        "long and short in turn": quiet * (1 + at % 2),
        "a checkpoint every tenth": quiet * np.where(at % 10 == 9, 4.0, 1.0),
        "one outlier": quiet * np.where(at == 20, 6.0, 1.0),
        "blocks": quiet * (1 + at // 8 % 2),
        "alike neighbours": noisy(rng, 60, correlation=0.9),
        "heavy tails": noisy(rng, 60, noise="heavy"),
    }


@pytest.mark.parametrize("shape", shapes_of_good_runs(np.random.default_rng(0)))
def test_a_good_run_is_not_thrown_away(shape):
    rng = np.random.default_rng(53)
    dropped = [warm_up(shapes_of_good_runs(rng)[shape]).dropped for _ in range(60)]
    assert max(dropped) <= 20
    assert np.mean(dropped) <= 5


def test_an_iteration_that_compiles_is_warm_up_even_where_the_others_still_drift():
    times = [48_068, 5_422, 4_708, 4_904, 2_839, 4_216, 2_841, 2_732, 2_899, 4_048, 2_206, 2_306]
    assert warm_up(np.array(times)).dropped >= 1


def test_warm_up_before_a_later_change_is_still_found():
    rng = np.random.default_rng(59)
    run = np.concatenate(([5_000, 4_000], noisy(rng, 58), noisy(rng, 60, 1_300.0)))
    assert warm_up(run).dropped == 2


def test_warm_up_never_takes_so_much_that_nothing_can_be_said():
    assert warm_up(np.array([900.0, 500.0, 400.0, 100.0, 101.0, 100.0])).dropped <= 1


def spans(*times):
    return [Iteration(name="step", start_ns=a, end_ns=b) for a, b in times]


def test_an_iteration_reaches_to_the_next_so_that_no_work_is_lost_between_them():
    found, kept = periods(spans((0, 80), (100, 180), (200, 280)), until_next=True)
    assert found.start.tolist() == [0, 100]
    assert found.end.tolist() == [100, 200]
    assert kept.tolist() == [0, 1]  # nobody knows when the iteration after the last would begin


def test_the_last_iteration_counts_when_they_follow_each_other_at_once():
    found, _ = periods(spans((0, 100), (100, 200), (200, 300)), until_next=True)
    assert found.end.tolist() == [100, 200, 300]


def test_ranges_that_were_asked_for_keep_their_own_ends():
    found, _ = periods(spans((100, 180), (0, 80)), until_next=False)
    assert found.start.tolist() == [0, 100]
    assert found.end.tolist() == [80, 180]


def test_ranges_inside_a_range_of_the_same_name_do_not_count_its_time_twice():
    found, kept = periods(spans((0, 100), (10, 40), (50, 120), (130, 200)), until_next=False)
    assert found.start.tolist() == [0, 130]
    assert found.end.tolist() == [100, 200]
    assert kept.tolist() == [0, 3]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 90)), min_size=1, max_size=30))
def test_no_two_iterations_share_any_time(stretches):
    asked = spans(*((begin, begin + length) for begin, length in stretches))
    for until_next in (False, True):
        found, kept = periods(asked, until_next=until_next)
        assert (found.start[1:] >= found.end[:-1]).all()
        assert len(found.start) == len(kept) >= 1
