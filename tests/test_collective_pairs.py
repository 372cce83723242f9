"""Pairs of collectives of two ranks, against slow searches and at the limits of their rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts.collective_pairs import RankLane, paired, same_group

US = 1_000


def lane(*spans, labels=None, sequence=None, rank=0, rooted=False, first_launch=0):
    """Return a lane of (begin, end) in µs; launches are numbered from ``first_launch``."""
    start, end = (np.array(column, np.int64) * US for column in zip(*spans, strict=True))
    count = len(spans)
    return RankLane(
        rank=rank,
        launch=np.arange(first_launch, first_launch + count),
        start_ns=start,
        end_ns=end,
        label=np.array(labels if labels is not None else [0] * count),
        sequence=np.array(sequence if sequence is not None else [-1] * count),
        is_rooted=np.full(count, rooted),
    )


def places(pairs):
    return list(zip(pairs.first_places.tolist(), pairs.other_places.tolist(), strict=True))


def regular(count, length=90, late=0, **more):
    return lane(*((100 * n, 100 * n + length + late) for n in range(count)), **more)


def nearest(lane_, end, label):
    """Return the place of the collective with a label that ends nearest, the earlier of two."""
    alike = [n for n in range(len(lane_)) if lane_.label[n] == label]
    by_distance = [(abs(int(lane_.end_ns[n]) - end), int(lane_.end_ns[n]), n) for n in alike]
    return min(by_distance)[2] if alike else -1


@st.composite
def lanes(draw):
    """Two lanes with other counts, names and ends, of which no two are equal."""
    both = []
    for _ in range(2):
        ends = draw(st.lists(st.integers(1, 300), min_size=1, max_size=8, unique=True))
        spans = sorted((end - draw(st.integers(1, 60)), end) for end in ends)
        labels = draw(st.lists(st.integers(0, 2), min_size=len(spans), max_size=len(spans)))
        both.append(lane(*spans, labels=labels))
    return both


@settings(max_examples=200, deadline=None)
@given(lanes())
def test_what_lacks_a_part_is_paired_with_what_ends_nearest_for_both(two):
    first, other = two
    expected = []
    for n in range(len(other)):
        place = nearest(first, int(other.end_ns[n]), other.label[n])
        if place < 0 or nearest(other, int(first.end_ns[place]), first.label[place]) != n:
            continue
        begin = max(first.start_ns[place], other.start_ns[n])
        if min(first.end_ns[place], other.end_ns[n]) >= begin - 2 * US:
            expected.append((place, n))
    if np.array_equal(first.label, other.label):
        expected = [(n, n) for n in range(len(first))]
    assert places(paired(first, other)) == expected


def test_sequence_numbers_pair_what_has_them_and_the_same_operation():
    first = regular(4, sequence=[3, 4, 5, 6], labels=[0, 1, 0, 0])
    other = regular(4, sequence=[4, 5, 6, 7], labels=[1, 0, 2, 0])
    assert places(paired(first, other)) == [(1, 0), (2, 1)]


@pytest.mark.parametrize("sequence", [[0, 0, 1], [-1, 0, 1]])
def test_numbers_that_repeat_or_lack_pair_nothing(sequence):
    first, other = regular(3, sequence=[0, 1, 2]), regular(3, sequence=sequence)
    assert places(paired(first, other)) == [(0, 0), (1, 1), (2, 2)]


def test_a_collective_that_is_numbered_zero_is_numbered():
    first, other = regular(2, sequence=[0, 1]), regular(2, sequence=[1, 0])
    assert sorted(places(paired(first, other))) == [(0, 1), (1, 0)]


@pytest.mark.parametrize(("gap_us", "possible"), [(2, 1), (3, 0)])
def test_two_ranks_meet_but_for_two_microseconds(gap_us, possible):
    first, other = lane((0, 50)), lane((50 + gap_us, 90))
    assert len(paired(first, other).possible()) == possible
    assert len(paired(other, first).possible()) == possible


@pytest.mark.parametrize(
    ("length", "late", "close"),
    [(90, 50, True), (90, 51, False), (1000, 100, True), (1000, 101, False)],
)
def test_ends_of_one_collective_differ_by_50_us_or_a_tenth(length, late, close):
    first = lane((0, length))
    other = lane((0, length + late), rank=1)
    assert same_group(paired(first, other)) is close
    assert same_group(paired(other, first)) is close
    pairs = paired(first, other)
    assert pairs.tolerance_ns == max(50_000, 100 * length)
    assert pairs.late_ns.tolist() == [late * US]


def test_the_tolerance_is_of_the_shorter_kernel_in_the_median():
    first = lane((0, 1000), (2000, 4000), (5000, 9000))
    other = lane((100, 1000), (2000, 4000), (8900, 9000))
    assert paired(first, other).tolerance_ns == 90_000


@pytest.mark.parametrize(("close", "grouped"), [(18, True), (17, False)])
def test_nine_tenths_of_the_ends_make_a_group(close, grouped):
    first = regular(20)
    spans = [(100 * n, 100 * n + (90 if n < close else 150)) for n in range(20)]
    assert same_group(paired(first, lane(*spans, rank=1))) is grouped


def test_only_what_both_recorded_counts_for_a_group():
    # The other rank's recording begins after five collectives and ends before five.
    first, other = regular(20), lane(*((100 * n, 100 * n + 90) for n in range(5, 15)), rank=1)
    assert places(paired(first, other)) == [(n + 5, n) for n in range(10)]
    assert same_group(paired(first, other))
    assert same_group(paired(other, first))


def test_lanes_without_pairs_are_no_group():
    assert not same_group(paired(lane((0, 90), labels=[1]), lane((0, 90), labels=[2])))


@pytest.mark.parametrize(
    ("late", "count"),
    [
        ([51] * 10, 10),
        ([-51] * 10, 10),
        ([50] * 10, None),
        ([51] * 9 + [-51], None),
        ([51] * 9 + [1], None),
        ([51] * 19 + [1], 19),
    ],
)
def test_clocks_disagree_when_all_but_a_tenth_end_apart_in_one_direction(late, count):
    first = regular(len(late), first_launch=10)
    spans = [(100 * n, 100 * n + 90 + late[n]) for n in range(len(late))]
    difference = paired(first, lane(*spans, first_launch=50)).clock_difference()
    if count is None:
        assert difference is None
        return
    assert (difference.count, difference.offset_ns) == (count, late[0] * US)
    assert difference.launches == (10, 50)


@pytest.mark.parametrize(("impossible", "is_told"), [(1, False), (2, True)])
def test_clocks_disagree_when_more_than_a_tenth_cannot_have_happened(impossible, is_told):
    first = regular(10, length=30)
    apart = [45 if n < impossible else 0 for n in range(10)]
    other = lane(*((100 * n + apart[n], 100 * n + apart[n] + 30) for n in range(10)))
    difference = paired(first, other).clock_difference()
    assert (difference is not None) == is_told
    if is_told:
        assert (difference.count, difference.offset_ns) == (impossible, 0)


def test_roots_that_end_earlier_say_nothing_about_clocks():
    first, other = regular(10, late=60, rooted=True), regular(10)
    assert paired(first, other).clock_difference() is None
    # … but a kernel that ends before the other begins does.
    apart = lane(*((100 * n + 40, 100 * n + 60) for n in range(10)))
    difference = paired(regular(10, length=30, rooted=True), apart).clock_difference()
    assert (difference.count, difference.offset_ns) == (10, 30 * US)


@pytest.mark.parametrize(
    ("count", "offset", "is_told"),
    [(8, 300, True), (7, 300, False), (8, 51, True), (8, 50, False), (8, -300, True)],
)
def test_a_constant_offset_needs_eight_collectives_and_more_than_the_tolerance(
    count, offset, is_told
):
    first = regular(count, first_launch=10)
    other = lane(
        *((100 * n + offset + 10, 100 * n + 90 + offset) for n in range(count)), first_launch=50
    )
    difference = paired(first, other).constant_offset()
    assert (difference is not None) == is_told
    if is_told:
        assert difference.offset_ns == offset * US
        assert (difference.count, difference.launches) == (count, (10, 50))


def test_other_names_or_ends_that_scatter_are_no_constant_offset():
    first = regular(10)
    spans = [(100 * n + 310, 100 * n + 390) for n in range(10)]
    assert paired(first, lane(*spans, labels=[0] * 9 + [1])).constant_offset() is None
    spans[:2] = [(10, 90), (110, 190)]  # two of ten do not agree
    assert paired(first, lane(*sorted(spans))).constant_offset() is None


def test_begins_that_do_not_fit_an_offset_deny_it():
    # Ends are 300 µs apart, but moved by that every second kernel begins when the first has ended.
    first = lane(*((200 * n, 200 * n + 90) for n in range(10)))
    fitting = lane(*((200 * n + 350, 200 * n + 390) for n in range(10)))
    assert paired(first, fitting).constant_offset().offset_ns == 300 * US
    odd = lane(*((200 * n + 350 + 85 * (n % 2), 200 * n + 390 + 50 * (n % 2)) for n in range(10)))
    assert paired(first, odd).constant_offset() is None
