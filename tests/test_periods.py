"""Repetitions are found in what is launched, whatever disturbs them, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts.periods import Period, find_period
from benchmarks import periods as simulated

ONE_US = 1000


def period_of(names: list[int], durations: list[int] | None = None) -> Period | None:
    """Return the period of launches one behind the other, each 10 µs long unless told."""
    duration = np.array(durations or [10 * ONE_US] * len(names))
    end = np.cumsum(duration + ONE_US)
    return find_period([np.array(names)], np.zeros(len(names), int), end - duration, end)


@given(length=st.integers(1, 12), repeats=st.integers(6, 40))
@settings(max_examples=150, deadline=None)
def test_a_repeated_word_is_cut_into_equal_pieces(length: int, repeats: int) -> None:
    word = list(range(length))
    period = period_of(word * repeats)
    assert period is not None
    assert (period.similarity, period.launches) == (1, length)
    assert period.first.tolist() == list(range(0, length * repeats, length))
    assert period.stop.tolist() == list(range(length, length * repeats + 1, length))


@given(words=st.lists(st.integers(0, 5), min_size=1, max_size=12), repeats=st.integers(3, 40))
@settings(max_examples=150, deadline=None)
def test_repetitions_lie_one_behind_the_other(words: list[int], repeats: int) -> None:
    period = period_of(words * repeats)
    if period is None:
        return
    assert (period.stop > period.first).all()
    assert (period.first[1:] >= period.stop[:-1]).all()
    assert period.first[0] >= 0
    assert period.stop[-1] <= len(words) * repeats


def test_a_step_is_found_and_not_its_layers() -> None:
    step = [90, 91, *[1, 2, 3, 4] * 12, 92, 93]
    period = period_of(step * 10)
    assert period is not None
    assert period.launches == len(step)
    assert np.diff(period.first).tolist() == [len(step)] * (len(period.first) - 1)
    assert len(period.first) in (9, 10)


def test_a_step_is_found_and_not_ten_of_them_with_a_logged_number() -> None:
    step = list(range(250))
    launches = [n for i in range(60) for n in (*step, *([999] if i % 10 == 9 else []))]
    period = period_of(launches)
    assert period is not None
    assert period.launches == 250
    assert len(period.first) == 60


def test_an_evaluation_between_steps_is_no_part_of_a_step() -> None:
    step, evaluation = list(range(40)), [*range(100, 120)] * 5
    period = period_of([*step * 6, *evaluation, *step * 6])
    assert period is not None
    assert period.launches == 40
    assert len(period.first) == 12
    assert set((period.stop - period.first).tolist()) == {40}


@pytest.mark.parametrize("evaluated", [(), (4, 11)])
def test_an_evaluation_of_a_steps_own_kernels_leaves_the_step_the_loop(evaluated) -> None:
    forward, back = [*range(10), *range(20, 32)] * 3, list(range(40, 64)) * 3
    step = [*forward, *back] * 3 + list(range(80, 90))  # three passes and an optimizer
    launches, begins = [], []
    for i in range(16):
        launches += forward * 5 * (i in evaluated)
        begins.append(len(launches))
        launches += step
    period = period_of(launches)
    assert period is not None
    assert period.launches == len(step)
    phase = period.first - np.array(begins)[np.searchsorted(begins, period.first, "right") - 1]
    assert len(set(phase.tolist())) == 1


def test_a_lost_marker_does_not_lose_two_steps() -> None:
    step = list(range(30))
    launches = step * 20
    del launches[30 * 7]
    period = period_of(launches)
    assert period is not None
    assert len(period.first) == 20


def test_one_kernel_again_and_again_repeats_with_each_launch() -> None:
    period = period_of([7] * 100)
    assert period is not None
    assert (len(period.first), period.launches) == (100, 1)


@pytest.mark.parametrize(("launches", "found"), [(5, False), (6, True)])
def test_a_handful_of_launches_is_no_loop(launches: int, found: bool) -> None:
    assert (period_of([7] * launches) is not None) is found


@pytest.mark.parametrize(("repeats", "found"), [(2, False), (3, True)])
def test_two_equal_stretches_are_no_loop(repeats: int, found: bool) -> None:
    assert (period_of(list(range(20)) * repeats) is not None) is found


@pytest.mark.parametrize(("others", "found"), [(59, True), (62, False)])
def test_a_loop_that_is_less_than_half_of_the_program_is_not_its_loop(
    others: int, found: bool
) -> None:
    launches = [*range(100, 100 + others), *list(range(10)) * 6]
    assert (period_of(launches) is not None) is found


def test_stages_of_one_solve_are_no_iterations() -> None:
    stages = [round(1_000_000 * 0.7**i) + 1000 for i in range(18)]
    assert period_of([1, 2, 3] * 18, [d for d in stages for _ in range(3)]) is None
    assert period_of([1, 2, 3] * 18, [1_000_000] * 54) is not None


def test_launches_that_come_in_no_order_are_no_loop() -> None:
    rng = np.random.default_rng(7)
    for _ in range(30):
        assert period_of(rng.integers(0, 10, 400).tolist()) is None


def test_a_coarser_alphabet_counts_only_when_the_finer_shows_nothing() -> None:
    names, shapes = np.tile(np.arange(20), 10), np.arange(200)
    end = np.cumsum(np.full(200, 11 * ONE_US))
    lane = np.zeros(200, int)
    coarse = find_period([names * 1000 + shapes, names], lane, end - 10 * ONE_US, end)
    assert coarse is not None
    assert (coarse.alphabet, coarse.launches) == (1, 20)
    fine = find_period([names, names // 2], lane, end - 10 * ONE_US, end)
    assert fine is not None
    assert fine.alphabet == 0


def test_a_repetition_begins_behind_the_pause() -> None:
    names = list(range(20)) * 12
    duration = np.full(240, 10 * ONE_US)
    pause = np.where(np.arange(240) % 20 == 13, 500 * ONE_US, ONE_US)
    end = np.cumsum(duration + pause)
    period = find_period([np.array(names)], np.zeros(240, int), end - duration, end)
    assert period is not None
    assert set((period.first % 20).tolist()) == {13}


@pytest.mark.parametrize("kind", simulated.WITH_LOOP, ids=lambda k: k.__name__)
def test_the_loop_of_a_simulated_program_is_found(kind: simulated.Kind) -> None:
    right = found = true = 0
    for seed in range(5):
        program = kind(np.random.default_rng([seed, 20]))
        r, f, t = simulated.hits(program, simulated.found_in(program))
        right, found, true = right + min(r, t), found + min(f, t), true + t
    assert right >= 0.9 * true
    assert right >= 0.9 * found


@pytest.mark.parametrize("kind", simulated.WITHOUT_LOOP, ids=lambda k: k.__name__)
def test_no_loop_is_invented_in_a_simulated_program(kind: simulated.Kind) -> None:
    for seed in range(5):
        assert simulated.found_in(kind(np.random.default_rng([seed, 20]))) is None
