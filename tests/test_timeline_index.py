"""The timeline's index: peaks, rows without overlap, and what is kept on disk."""

import errno
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.timeline_helpers import any_spans, write_index
from tests.traces_in_memory import build
from timeline import index as timeline_index
from timeline import store
from timeline.index import COLUMNS, Index, IndexDamagedError
from timeline.packing import packed, without_overlap
from timeline.peaks import Peaks
from timeline.store import recording_index

# --- peaks -----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=1, max_size=700), st.data())
def test_the_largest_of_any_stretch_is_found_without_looking_at_all(values, data):
    array = np.array(values)
    peaks = Peaks(Peaks.build(len(array), lambda at: array[at]), lambda at: array[at])
    borders = st.integers(0, len(values))
    asked = data.draw(st.lists(st.tuples(borders, borders), min_size=1, max_size=20))
    first, last = np.array(asked).T
    found = peaks.largest(first, last)
    for place, (low, high) in zip(found.tolist(), asked, strict=True):
        if low >= high:
            assert place == -1
        else:
            assert low <= place < high
            assert values[place] == max(values[low:high])


@given(st.integers(0, 10**6), st.data())
@settings(max_examples=30)
def test_the_longest_of_a_stretch_are_those_that_sorting_would_give(seed, data):
    values = np.random.default_rng(seed).integers(0, 10**6, 200_000)
    peaks = Peaks(Peaks.build(len(values), lambda at: values[at]), lambda at: values[at])
    low = data.draw(st.integers(0, len(values)))
    high = data.draw(st.integers(low, len(values)))
    best = peaks.top(low, high, 25)
    assert np.all((best >= low) & (best < high))
    assert values[best].tolist() == sorted(values[low:high].tolist(), reverse=True)[:25]


# --- lanes without overlap -------------------------------------------------------------------


@given(any_spans)
def test_events_of_a_row_never_overlap_and_none_is_lost(spans):
    start, end = np.array(spans).T
    rows = list(without_overlap(start, end))
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(spans)))
    for row in rows:
        assert np.all(start[row][1:] >= end[row][:-1])


@given(any_spans)
def test_packing_needs_no_more_rows_than_events_that_run_at_once(spans):
    start, end = np.array(spans).T
    rows = packed(start, end)
    for row in np.unique(rows):
        mine = np.flatnonzero(rows == row)
        assert np.all(start[mine][1:] >= end[mine][:-1])
    solid = np.maximum(end, start + 1)
    at_once = max(int(((start <= t) & (solid > t)).sum()) for t in start)
    assert rows.max() + 1 == at_once


def test_events_that_overlap_nothing_stay_in_the_first_row():
    start = np.array([0, 10, 12, 30, 50])
    end = np.array([5, 20, 22, 40, 60])
    assert packed(start, end).tolist() == [0, 0, 1, 0, 0]


def test_nested_events_stand_by_depth():
    start, end = np.array([0, 10, 12, 40, 200]), np.array([100, 30, 14, 60, 210])
    assert [r.tolist() for r in without_overlap(start, end)] == [[0, 4], [1, 3], [2]]


def test_an_empty_range_moves_no_other_out_of_its_depth():
    start = np.array([0, 100, 110, 210, 310, 500, 510, 530, 5_000, 5_100])
    end = np.array([900, 800, 200, 300, 400, 700, 520, 540, 6_000, 5_100])
    rows = without_overlap(start, end)
    depth = {place: n for n, row in enumerate(rows) for place in row.tolist()}
    assert [depth[n] for n in range(10)] == [0, 1, 2, 2, 2, 2, 3, 3, 0, 1]


def test_ranges_that_cross_move_only_what_they_touch():
    start = np.array([0, 10, 12, 1_000, 1_050, 1_120])
    end = np.array([100, 30, 14, 1_100, 1_150, 1_200])
    rows = without_overlap(start, end)
    depth = {place: n for n, row in enumerate(rows) for place in row.tolist()}
    assert [depth[n] for n in range(3)] == [0, 1, 2]
    assert max(depth[n] for n in (3, 4, 5)) == 1


# --- what is kept on disk --------------------------------------------------------------------


def test_two_makers_of_one_index_do_not_disturb_each_other(tmp_path):
    facts = build(tmp_path, kernels={"start_us": np.arange(5_000) * 10, "duration_us": 5})
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: store.add_recording_index(facts), range(8)))
    assert len(recording_index(facts.trace).start) == 5_000
    assert [f.name[0] for f in (facts.trace.folder / "timeline").iterdir()] != ["."]


def test_the_index_of_an_older_version_goes_when_there_is_a_new_one(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [10], "duration_us": 5})
    older = facts.trace.folder / "timeline" / "older"
    being_made = facts.trace.folder / "timeline" / ".being-made"
    for folder in (older, being_made):
        folder.mkdir(parents=True)
    recording_index(facts.trace)
    assert not older.exists()
    assert being_made.exists()


def test_an_index_that_cannot_be_read_now_is_not_thrown_away(tmp_path, monkeypatch):
    facts = build(tmp_path, kernels={"start_us": [10], "duration_us": 5})
    folder = recording_index(facts.trace).folder

    def too_many(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(timeline_index, "checksum", too_many)
    with pytest.raises(OSError, match="Too many"):
        recording_index(facts.trace)
    assert folder.exists()


def test_a_damaged_index_is_made_again(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [10, 30], "duration_us": 10})
    index = recording_index(facts.trace)
    for name in ("start", "sums", "color"):
        damaged = bytearray((index.folder / name).read_bytes())
        damaged[-1] ^= 4
        (index.folder / name).write_bytes(damaged)
        with pytest.raises(IndexDamagedError):
            Index.open(index.folder)
        index = recording_index(facts.trace)
        assert index.start.tolist() == [0, 20_000]


@pytest.mark.parametrize("name", ["meta.json", *COLUMNS])
def test_an_index_that_is_not_whole_is_not_opened(tmp_path, name):
    index = write_index(tmp_path / "i", [(0, 5), (10, 20)])
    (index.folder / name).unlink()
    with pytest.raises(IndexDamagedError):
        Index.open(index.folder)
