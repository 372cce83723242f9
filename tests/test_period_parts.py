"""The steps by which a period is found, each against a slow way to say the same."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts import periods

WORDS = st.lists(st.integers(0, 3), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(WORDS, st.sampled_from([1, 2, 4, 8]))
def test_runs_have_one_number_exactly_where_they_are_equal(words, run):
    codes = periods._codes_of_runs(np.array(words), run).tolist()
    width = run
    while width > 1 and len(words) < width:
        width //= 2
    runs = [tuple(words[i : i + width]) for i in range(len(words) - width + 1)]
    assert len(codes) == len(runs)
    assert len(set(zip(codes, runs, strict=True))) == len(set(codes)) == len(set(runs))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=9), min_size=1, max_size=4))
def test_distances_are_regular_within_a_third_of_the_typical_one(distances):
    places = [np.cumsum([k, *gaps]) for k, gaps in enumerate(distances)]
    count = np.array([len(p) for p in places])
    found = periods._regularity(np.concatenate(places), np.cumsum(count) - count, count)
    for share, gaps in zip(found, distances, strict=True):
        typical = sorted(gaps)[(len(gaps) - 1) // 2]
        close = [g for g in gaps if abs(g - typical) <= 0.35 * typical]
        assert share == pytest.approx(len(close) / len(gaps))


def stretches(drawn):
    first, stop, at = [], [], 0
    for pause, length in drawn:
        first.append(at + pause)
        stop.append(at + pause + length)
        at = stop[-1]
    return np.array(first), np.array(stop)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=7),
    st.randoms(use_true_random=False),
)
def test_letters_of_repetitions_are_counted_and_compared_with_the_median_one(drawn, random):
    first, stop = stretches(drawn)
    codes = np.array([random.randint(0, 3) for _ in range(stop[-1])])
    table, letters = periods._counts(codes, first, stop)
    counters = [Counter(codes[a:b].tolist()) for a, b in zip(first, stop, strict=True)]
    rows = [dict(zip(letters.tolist(), row, strict=True)) for row in table.tolist()]
    assert [+Counter(row) for row in rows] == counters
    typical = {k: np.median([c[k] for c in counters]) for k in letters.tolist()}
    expected = [
        sum(min(c[k], typical[k]) for k in typical)
        / max(sum(max(c[k], typical[k]) for k in typical), 1)
        for c in counters
    ]
    assert periods._similarity(table) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gaps", "launches", "borders"),
    [
        ([10, 10, 10], 40, [(0, 10), (10, 20), (20, 30), (30, 40)]),
        ([10, 10, 10], 39, [(0, 10), (10, 20), (20, 30), (30, 39)]),  # nine tenths are enough
        ([10, 10, 10], 38, [(0, 10), (10, 20), (20, 30)]),
        ([10, 20, 10, 10], 60, [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50), (50, 60)]),
        ([10, 22, 10, 10], 62, [(0, 10), (10, 21), (21, 32), (32, 42), (42, 52), (52, 62)]),
        # Not a multiple, and too long: something else lies behind it.
        ([10, 23, 10, 10], 63, [(0, 10), (10, 20), (33, 43), (43, 53), (53, 63)]),
        ([10, 15, 10, 10], 55, [(0, 10), (10, 25), (25, 35), (35, 45), (45, 55)]),
        ([10, 16, 10, 10], 56, [(0, 10), (10, 20), (26, 36), (36, 46), (46, 56)]),
        ([10, 5, 10, 10], 45, [(0, 10), (10, 15), (15, 25), (25, 35), (35, 45)]),
        ([10, 4, 10, 10], 44, [(0, 10), (14, 24), (24, 34), (34, 44)]),  # less than half
        (
            [10, 31, 10, 10],
            71,
            [(0, 10), (10, 20), (20, 30), (30, 41), (41, 51), (51, 61), (61, 71)],
        ),
    ],
)
def test_repetitions_reach_to_the_next_marker_unless_that_is_far(gaps, launches, borders):
    first, stop = periods._repetitions(np.cumsum([0, *gaps]), launches)
    assert list(zip(first.tolist(), stop.tolist(), strict=True)) == borders


@pytest.mark.parametrize(
    ("busy", "alike"),
    [
        ([10] * 8, True),
        ([10] * 6 + [25, 25], True),  # three quarters are alike, and 2.5 times is alike
        ([10] * 6 + [26, 26], True),
        ([10] * 5 + [26] * 3, False),
        ([10] * 6 + [4, 4], True),
        ([10] * 5 + [3] * 3, False),
        ([10, 11, 12, 13, 14, 15, 16, 17], False),  # a trend of more than half as long
        ([10, 11, 12, 13, 14, 14, 14, 14], True),
        ([17, 16, 15, 14, 13, 12, 11, 10], False),
        ([17, 10, 15, 12, 16, 11, 13, 14], True),  # as uneven, in no order
        ([90, 10, 10, 10, 10, 10], True),  # the first warms up
        ([10, 12, 16], False),  # of three, the first counts
        ([10, 16, 12], True),
    ],
)
def test_repetitions_work_about_as_long_and_do_not_shrink_step_by_step(busy, alike):
    assert periods.has_similar_work(np.array(busy) * 1_000) is alike


@pytest.mark.parametrize(("pause", "begins"), [(21, 3), (20, 0)])
def test_a_repetition_begins_behind_a_pause_of_a_fiftieth_that_stands_out(pause, begins):
    # Ten launches of 100 ns follow each other 1 ns apart; before the fourth of each is a pause.
    gap = np.where(np.arange(100) % 10 == 3, pause, 1)
    start = np.cumsum(gap + 100) - 100
    length = int(start[10] - start[0])
    assert (pause > periods.MIN_PAUSE * length) == (begins == 3)
    sequence = periods._Sequence(np.arange(100) % 10, np.zeros(100, int), start, start + 100)
    first = np.arange(0, 100, 10)
    cut = periods._Cut(first=first, stop=first + 10, alike=np.ones(10), explained=np.ones((2, 2)))
    moved = periods._begun_at_pause(sequence, cut)
    assert set((moved % 10).tolist()) == {begins}
    assert (moved >= 0).all()
