"""Which call submitted each launch, and what follows from it, one launch after the other."""

from itertools import pairwise

import numpy as np
import pytest

from analyzers import intervals
from analyzers.facts.facts import UNKNOWN
from tests.traces_in_memory import build

US = 1_000


def recording(folder, seed):
    """Two processes with two threads and GPUs each; ids repeat, lack, or lie far apart."""
    rng = np.random.default_rng(seed)
    sparse = seed % 2
    calls, kernels = [], []
    for number in range(30):
        process = int(rng.integers(1, 3))
        # The same ids in both processes; one of ten calls repeats an earlier id.
        known = [c[2] for c in calls]
        ident = int(rng.integers(1, 40)) * (10**12 if sparse else 1)
        ident = int(rng.choice(known)) if known and rng.random() < 0.1 else ident
        calls.append((process, 10 * process + int(rng.integers(0, 2)), ident, 10 * number))
    order = rng.permutation(30) if seed % 3 == 0 else np.arange(30)
    calls = [calls[n] for n in order]
    for number in range(40):
        process, _, ident, begin = calls[int(rng.integers(0, 30))]
        ident = [ident, -1, 77 * 10**12 if sparse else 900][int(rng.choice(3, p=(0.8, 0.1, 0.1)))]
        start = begin + int(rng.integers(1, 200))
        place = (process, int(rng.integers(0, 2)), int(rng.integers(7, 9)))
        kernels.append((*place, ident, start, start + int(rng.integers(1, 30)), f"k{number % 4}"))
    process, thread, ident, begin = (list(c) for c in zip(*calls, strict=True))
    api = {"process": process, "thread": thread, "correlation_id": ident}
    api |= {"start_us": begin, "duration_us": 5}
    process, device, stream, ident, start, end, name = (list(c) for c in zip(*kernels, strict=True))
    work = {"process": process, "device": device, "stream": stream, "correlation_id": ident}
    work |= {"start_us": start, "end_us": end, "name": name}
    return build(folder, api_calls=api, kernels=work), calls, kernels


@pytest.mark.parametrize("seed", range(8))
def test_each_launch_has_the_first_call_of_its_id_and_process(tmp_path, seed):
    facts, calls, kernels = recording(tmp_path, seed)
    ordered = sorted(range(40), key=lambda n: kernels[n][4])  # ties stay in recorded order
    keys = facts.thread_keys.tolist()
    used, reach = set(), {}
    by_begin = []
    for row, number in enumerate(ordered):
        process, _, _, ident, start, end, name = kernels[number]
        alike = [n for n, c in enumerate(calls) if c[0] == process and c[2] == ident >= 0]
        match = alike[0] if alike else UNKNOWN
        launch = facts.launches.iloc[row]
        assert (launch["start_ns"], launch["end_ns"]) == (start * US, end * US)
        assert launch["api_row"] == match
        called = calls[match] if alike else None
        assert facts.api_start_ns[row] == (called[3] if called else start) * US
        assert facts.api_end_ns[row] == (called[3] + 5 if called else start) * US
        thread = keys.index(called[1]) if called else UNKNOWN
        assert facts.thread_index[row] == thread
        assert facts.queue_ns[row] == (max(start - called[3] - 5, 0) * US if called else UNKNOWN)
        assert facts.duration_ns[row] == (end - start) * US
        device = launch["device"]
        idle = max(start - reach[device], 0) if device in reach else 0
        assert facts.idle_before_ns[row] == idle * US
        reach[device] = max(reach.get(device, 0), end)
        if called:
            by_begin.append((called[3], row, (process, device, name), match))
    first = np.zeros(30, dtype=bool)
    for _, _, key, match in sorted(by_begin):
        first[match] |= key not in used
        used.add(key)
    assert facts.is_first_use.tolist() == first.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_calls_are_ordered_by_thread_and_begin(tmp_path, seed):
    facts, calls, _ = recording(tmp_path, seed)
    order, bounds = facts.call_order
    threads = facts.thread_keys.tolist()
    expected = [
        sorted((n for n, c in enumerate(calls) if c[1] == key), key=lambda n: calls[n][3])
        for key in threads
    ]
    parts = [order[low:high].tolist() for low, high in pairwise(bounds)]
    assert parts == expected


@pytest.mark.parametrize("rows", [1, 2, 3, 1 << 16])
@pytest.mark.parametrize("seed", range(3))
def test_time_that_is_shared_is_the_same_in_parts(monkeypatch, seed, rows):
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, 60, 25)) * 12
    end = start + rng.integers(0, 8, 25) * 12
    monkeypatch.setattr(intervals, "PART_ROWS", rows)
    shares = intervals.shares_of_union(start, end)
    expected = np.zeros(25)
    for moment in range(int(end.max())):
        running = np.flatnonzero((start <= moment) & (moment < end))
        expected[running] += 1 / max(len(running), 1)
    assert np.abs(shares - expected).max() <= 1
    assert shares.sum() == intervals.union(start, end).total
    alone = np.isclose(expected, end - start)
    assert shares[alone].tolist() == (end - start)[alone].tolist()
    shuffled = rng.permutation(25)
    other = intervals.shares_of_union(start[shuffled], end[shuffled])
    assert np.abs(other - expected[shuffled]).max() <= 1


def test_of_no_intervals_nothing_is_shared():
    assert intervals.shares_of_union(np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize(
    ("at_most", "text"), [(2, "b, a and 2 more"), (3, "b, a, c and 1 more"), (4, "b, a, c, d")]
)
def test_functions_of_calls_are_named_the_most_frequent_first(tmp_path, at_most, text):
    names = ["a"] * 2 + ["b"] * 3 + ["c"] + ["d"]
    facts = build(tmp_path, api_calls={"start_us": list(range(7)), "duration_us": 1, "name": names})
    assert facts.call_names(np.arange(7), at_most) == text
