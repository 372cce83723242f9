"""Columns that a replay is made of, against plain loops; and what forbids a replay."""

from types import SimpleNamespace

import numpy as np
import pytest

from analyzers.whatif.columns import LOOK_BACK, latest_ended, places_of, previous_of, with_values
from analyzers.whatif.floors import _longest_queue, _longest_union
from analyzers.whatif.moments import busy_ns
from analyzers.whatif.wait_targets import _done
from analyzers.whatif.whatif import explore, replay
from tests.traces_in_memory import build
from tests.whatif_helpers import whole


def operations_of(seed, count=30):
    """Return operations in the order of their calls, on three streams."""
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.integers(0, 5, count))
    return SimpleNamespace(
        lane=rng.integers(0, 3, count),
        call=np.sort(rng.integers(0, 20, count)),
        start=start,
        stop=start + rng.integers(0, 12, count),
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_wait_ends_with_the_last_that_was_submitted_before_it(seed):
    operations = operations_of(seed)
    place, call = (a.ravel() for a in np.meshgrid([-1, 0, 1, 2, 3], np.arange(25)))
    found = _done(operations.lane, operations, place, call)
    expected = [
        max(
            (int(s) for s in operations.stop[(operations.lane == p) & (operations.call < c)]),
            default=0,
        )
        for p, c in zip(place, call, strict=True)
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_what_ended_last_before_a_moment_is_looked_for_a_few_places_back(seed):
    operations = operations_of(seed)
    candidates = np.flatnonzero(operations.lane != 1)
    moment, call = (a.ravel() for a in np.meshgrid(np.arange(0, 90, 3), np.arange(0, 22, 3)))
    found = latest_ended(candidates, operations, moment, call)
    by_stop = sorted(candidates.tolist(), key=lambda n: (operations.stop[n], n))
    for one, until, before in zip(found.tolist(), moment, call, strict=True):
        ended = [n for n in by_stop if operations.stop[n] <= until][::-1][:LOOK_BACK]
        assert one == next((n for n in ended if operations.call[n] < before), -1)


def test_places_and_those_before_them():
    assert previous_of(np.array([5, 7, 5, 5, 7])).tolist() == [-1, -1, 0, 2, 1]
    assert places_of(np.array([2, 0, 1])).tolist() == [1, 2, 0]
    column = np.array([1, 2, 3])
    assert with_values(column, np.array([0, 2]), np.array([7, 9])).tolist() == [7, 2, 9]
    assert column.tolist() == [1, 2, 3]


def test_a_queue_takes_the_time_of_all_but_what_overlapped_when_recorded():
    lane = np.array([0, 0, 0, 1, 1])
    start = np.array([0, 8, 30, 0, 20])
    stop = np.array([10, 20, 45, 15, 33])
    # 10, then 12 of which 2 overlapped, then 15; the other stream 15 and 13.
    assert _longest_queue(lane, start, stop, stop) == 35
    shorter = np.array([5, 14, 30, 15, 33])  # the third does not count any more
    assert _longest_queue(lane, start, shorter, stop) == 28
    assert _longest_queue(lane, start, start, stop) == 0


def test_a_union_is_of_each_key_and_none_is_no_key():
    key = np.array([0, 0, 1, -1, 1])
    start, stop = np.array([0, 5, 0, 0, 40]), np.array([10, 12, 9, 99, 40])
    assert _longest_union(key, start, stop) == 12
    assert _longest_union(np.full(5, -1), start, stop) == 0


def test_busy_time_of_each_device_is_cut_to_the_window():
    device = np.array([0, 1, 0, 1])
    start, stop = np.array([0, 5, 8, 30]), np.array([10, 20, 15, 50])
    assert busy_ns(device, start, stop, (2, 40)) == [13, 25]
    assert busy_ns(np.empty(0, np.int64), start[:0], stop[:0], (0, 1)) == []


@pytest.mark.parametrize(("without", "share"), [(2, ""), (3, "15 %"), (5, "25 %")])
def test_more_than_a_tenth_without_calls_forbids_a_replay(tmp_path, without, share):
    ids = np.arange(1, 21)
    facts = build(
        tmp_path,
        kernels={"start_us": 100 * ids, "duration_us": 50, "correlation_id": ids},
        api_calls={"start_us": 100 * ids[without:] - 8, "duration_us": 3}
        | {"correlation_id": ids[without:]},
    )
    known = replay(facts, whole(facts))
    assert known.reason.startswith(f"{share} of the GPU operations have no API call") == bool(share)
    if share:
        assert (known.operations, known.calls, known.unlinked) == (20, 0, 20)
        assert explore(facts, whole(facts)).replay.reason == known.reason
    else:
        assert (known.operations, known.calls, known.unlinked) == (20, 18, 2)
