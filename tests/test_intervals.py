"""Interval arithmetic, against a model that looks at every nanosecond."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.facts.nesting import innermost, nesting_depth
from analyzers.intervals import (
    Spans,
    by_key,
    clip,
    covered,
    divided,
    empty,
    gaps,
    intersect,
    overlaps,
    subtract,
    union,
)

END = 40  # the model looks at nanoseconds 0 to 39


def spans(pairs):
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return Spans(array[:, 0].copy(), array[:, 1].copy())


def pairs(result):
    return list(zip(result.start.tolist(), result.end.tolist(), strict=True))


def seconds_of(intervals):
    return {t for low, high in intervals for t in range(low, high)}


def is_flat(result):
    return all(low < high for low, high in pairs(result)) and all(
        end < start for end, start in zip(result.end[:-1], result.start[1:], strict=True)
    )


some = st.lists(
    st.tuples(st.integers(0, END), st.integers(0, END)).map(lambda p: (min(p), max(p))), max_size=8
)
flat = some.map(lambda p: union(*spans(p)))
touching = st.lists(st.integers(0, END), unique=True, max_size=8).map(
    lambda cuts: spans([(a, b) for a, b in zip(sorted(cuts), sorted(cuts)[1:], strict=False)])
)


@given(some)
def test_union_is_flat_and_covers_the_same(given_pairs):
    result = union(*spans(given_pairs))
    assert is_flat(result)
    assert seconds_of(pairs(result)) == seconds_of(given_pairs)
    assert result.total == len(seconds_of(given_pairs))


@given(some)
def test_union_leaves_its_input_alone(given_pairs):
    before = spans(given_pairs)
    union(*before)
    assert pairs(before) == given_pairs


@given(flat, st.integers(0, END), st.integers(0, END))
def test_gaps_and_busy_are_the_window(busy, a, b):
    low, high = min(a, b), max(a, b)
    free = gaps(busy, low, high)
    assert is_flat(free)
    assert seconds_of(pairs(free)) == set(range(low, high)) - seconds_of(pairs(busy))


@given(some, st.integers(0, END), st.integers(0, END))
def test_clip_keeps_what_is_inside(given_pairs, a, b):
    low, high = min(a, b), max(a, b)
    result = clip(spans(given_pairs), low, high)
    assert seconds_of(pairs(result)) == seconds_of(given_pairs) & set(range(low, high))


@given(flat, flat)
def test_intersect_is_what_both_cover(a, b):
    result = intersect(a, b)
    assert is_flat(result) or not len(result.start)
    assert seconds_of(pairs(result)) == seconds_of(pairs(a)) & seconds_of(pairs(b))


@given(flat, flat)
def test_subtract_is_what_only_the_first_covers(a, b):
    result = subtract(a, b)
    assert is_flat(result) or not len(result.start)
    assert seconds_of(pairs(result)) == seconds_of(pairs(a)) - seconds_of(pairs(b))


@given(some, st.one_of(flat, touching))
def test_overlaps_cuts_each_query_at_the_borders_of_the_parts(given_pairs, parts):
    query, part, start, end = overlaps(spans(given_pairs), parts)
    found = list(zip(query, part, start, end, strict=True))
    expected = [
        (q, p, max(low, start), min(high, end))
        for q, (low, high) in enumerate(given_pairs)
        for p, (start, end) in enumerate(pairs(parts))
        if max(low, start) < min(high, end)
    ]
    assert found == expected


@given(some, flat)
def test_covered_counts_the_nanoseconds_of_each_query(given_pairs, busy):
    inside = seconds_of(pairs(busy))
    result = covered(spans(given_pairs), busy)
    assert result.tolist() == [len(set(range(a, b)) & inside) for a, b in given_pairs]


def test_nothing_is_covered_by_nothing():
    assert covered(spans([(0, 5)]), empty()).tolist() == [0]
    assert subtract(empty(), spans([(0, 5)])).total == 0
    assert pairs(gaps(empty(), 3, 7)) == [(3, 7)]


def nest(tree, start):
    """Lay out a tree of (lead, children, tail) as nested intervals, parents first."""
    lead, children, tail = tree
    laid, now = [], start + lead
    for child in children:
        inner, now = nest(child, now)
        laid += inner
    return [(start, now + tail), *laid], now + tail


trees = st.recursive(
    st.tuples(st.integers(1, 3), st.just([]), st.integers(0, 3)),
    lambda inner: st.tuples(st.integers(0, 3), st.lists(inner, max_size=3), st.integers(0, 3)),
    max_leaves=12,
)


@given(st.lists(trees, max_size=4), st.randoms())
def test_innermost_is_the_shortest_open_interval_of_a_nest(forest, random):
    laid, now = [], 0
    for tree in forest:
        inner, now = nest(tree, now)
        laid += inner
    random.shuffle(laid)
    moments = np.arange(now + 2)
    starts, ends = spans(laid)
    for moment, found in zip(moments, innermost(starts, ends, moments), strict=True):
        around = [(end - start) for start, end in laid if start <= moment < end]
        assert (found >= 0) == bool(around)
        if around:
            assert starts[found] <= moment < ends[found]
            assert ends[found] - starts[found] == min(around)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8)), max_size=12))
def test_innermost_is_the_last_to_begin_when_intervals_cross(laid):
    starts = np.array([start for start, _ in laid], np.int64)
    ends = starts + np.array([length for _, length in laid], np.int64)
    moments = np.arange(22)
    for moment, found in zip(moments, innermost(starts, ends, moments), strict=True):
        begins = [start for start, length in laid if start <= moment < start + length]
        assert (found >= 0) == bool(begins)
        if begins:
            assert starts[found] == max(begins)
            assert starts[found] <= moment < ends[found]


@given(st.lists(trees, max_size=4))
def test_a_nest_deeper_than_any_stack_gives_the_same_answers(forest):
    laid, now = [], 0
    for tree in forest:
        inner, now = nest(tree, now)
        laid += inner
    moments = np.arange(now + 2)
    starts, ends = spans(laid)
    with mock.patch("analyzers.facts.nesting.MAX_LEVELS", 0):
        found = innermost(starts, ends, moments)
    expected = innermost(starts, ends, moments)
    lengths = np.append(ends - starts, -1)  # the last: none
    assert lengths[found].tolist() == lengths[expected].tolist()


@pytest.mark.parametrize("moment", [5, 7])
def test_an_empty_range_does_not_hide_the_range_around_it(moment):
    starts, ends = spans([(0, 10), (5, 5)])
    assert innermost(starts, ends, np.array([moment])).tolist() == [0]


def test_a_range_that_outlives_its_neighbours_is_found_again():
    # NVTX start/end ranges need not nest: the second is still open after the third ended.
    starts, ends = spans([(0, 10), (2, 30), (12, 20)])
    assert innermost(starts, ends, np.array([25])).tolist() == [1]


def test_depth_counts_the_open_ranges():
    starts, ends = spans([(0, 10), (0, 4), (1, 3), (4, 10), (10, 12)])
    assert nesting_depth(starts, ends).tolist() == [0, 1, 2, 1, 0]


@given(st.lists(st.integers(-3, 3)))
def test_values_are_parted_by_key_in_their_order(keys):
    parted = dict(by_key(np.array(keys, np.int64), np.arange(len(keys))))
    expected = {k: [i for i, other in enumerate(keys) if other == k] for k in sorted(set(keys))}
    assert {k: v.tolist() for k, v in parted.items()} == expected


@given(
    members=st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 9), st.integers(0, 10**16))),
        max_size=30,
    ),
    parts=st.lists(st.fractions(0, 1), min_size=4, max_size=4),
)
def test_an_amount_is_divided_exactly_and_nobody_gets_more_than_their_weight(members, parts):
    group = np.array([g for g, _ in members], np.int64)
    weights = np.array([w for _, w in members], np.int64)
    sums = [int(weights[group == g].sum()) for g in range(4)]
    amounts = np.array([int(s * p) for s, p in zip(sums, parts, strict=True)], np.int64)
    shares = divided(amounts, weights, group)
    assert (shares >= 0).all()
    assert (shares <= weights).all()
    assert [int(shares[group == g].sum()) for g in range(4)] == amounts.tolist()
