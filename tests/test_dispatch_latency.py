"""What a device needs for each launch is measured, however long, where it is always the same."""

import numpy as np
import pytest

from analyzers.finding import Row
from benchmarks import accuracy
from tests.losses_helpers import numbers
from tests.traces_in_memory import account, build


def queued(tmp_path, pause_us):
    """Kernels of 50 µs on one stream, all launched long before, with these pauses between."""
    pause = np.asarray(pause_us, float)
    begin = 2_000 + np.concatenate(([0], np.cumsum(50 + pause)))
    count = len(begin)
    facts = build(
        tmp_path,
        kernels={"start_us": begin, "duration_us": 50, "correlation_id": numbers(count)},
        api_calls={
            "start_us": 5.0 * np.arange(count),
            "duration_us": 3,
            "correlation_id": numbers(count),
            "name": ["cudaLaunchKernel"] * count,
        },
    )
    return account(facts, 2_000, float(begin[-1]) + 50)


@pytest.mark.parametrize("pause_us", [9, 10, 11, 20, 49, 50])
def test_a_constant_pause_is_the_device_s_own(pause_us, tmp_path):
    ledger = queued(tmp_path, [pause_us] * 100)
    assert ledger.device_gap_ns == (1_000 * pause_us,)
    assert ledger.total_ns(Row.LAUNCH) == 100 * 1_000 * pause_us


def test_a_pause_that_no_driver_needs_is_not_the_device_s_own(tmp_path):
    ledger = queued(tmp_path, [51] * 100)
    assert ledger.device_gap_ns == (10_000,)
    assert ledger.total_ns(Row.UNEXPLAINED) >= 100 * 41_000


def test_pauses_that_differ_have_another_reason(tmp_path):
    ledger = queued(tmp_path, np.random.default_rng(0).uniform(11, 49, 100))
    assert ledger.device_gap_ns == (10_000,)


@pytest.mark.parametrize(("longer", "gap_us"), [(10, 20), (11, 10)])
def test_nine_of_ten_pauses_have_to_be_alike(longer, gap_us, tmp_path):
    ledger = queued(tmp_path, [40] * longer + [20] * (100 - longer))
    assert (ledger.device_gap_ns == (10_000,)) is (gap_us == 10)


def test_few_long_pauses_among_brief_ones_leave_the_brief_ones(tmp_path):
    ledger = queued(tmp_path, [2] * 60 + [20] * 40)
    assert ledger.device_gap_ns == (2_000,)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_slow_dispatch_costs_what_it_takes(seed):
    result = accuracy.judge("launch_dispatch_latency", seed)
    assert result.verdict == "launch"
    assert result.claims["launch"] == pytest.approx(result.truth["launch"], rel=0.05)


def gap_by_hand(launches):
    """Return the ordinary pause of a device in ns, gap by gap; launches are (call, stream, begin,
    end) in µs, and every call takes 3 µs."""
    pauses = []
    for call, stream, begin, _ in launches:
        earlier = [one for one in launches if one[2] < begin]
        if not earlier:
            continue
        # Of those that end together, the one that began last was running.
        last = max(earlier, key=lambda one: (one[3], one[2]))
        length = begin - last[3]
        if length > 0 and call + 3 <= last[3] and stream == last[1] and length <= 50:
            pauses.append(length)
    brief = [length for length in pauses if length <= 10]
    middle = np.median(pauses) if pauses else 0
    alike = [length for length in pauses if abs(length - middle) <= middle / 4]
    if 2 * len(brief) < len(pauses) and len(pauses) >= 8 and len(alike) >= 0.9 * len(pauses):
        return int(1_000 * np.quantile(pauses, 0.9))
    return int(1_000 * np.quantile(brief, 0.9)) if len(brief) >= 8 else 10_000


@pytest.mark.parametrize("seed", range(10))
def test_the_ordinary_pause_is_that_of_each_stream_whatever_runs_beside_it(tmp_path, seed):
    rng = np.random.default_rng(seed)
    launches, at = [], 2_000
    usual = int(rng.integers(2, 30))
    for number in range(60):
        stream = 7 if rng.random() < 0.7 else 8
        # Many are queued long before, some in the last moment or while the device is idle.
        begin = at + usual + int(rng.integers(-1, 2)) + 5 * int(rng.random() < 0.05)
        call = [5 * number, begin - 4, at - 3, at - 2][int(rng.choice(4, p=(0.5, 0.2, 0.2, 0.1)))]
        length = int(rng.integers(20, 60))
        launches.append((call, stream, begin, begin + length))
        # What begins before the end of this one runs beside it, and may end before it.
        at = begin + (length if rng.random() < 0.7 else -usual + int(rng.integers(5, 15)))
    call, stream, begin, end = (list(column) for column in zip(*launches, strict=True))
    ids = numbers(len(launches))
    facts = build(
        tmp_path,
        kernels={"start_us": begin, "end_us": end, "stream": stream, "correlation_id": ids},
        api_calls={"start_us": call, "duration_us": 3, "correlation_id": ids},
    )
    assert account(facts).device_gap_ns == (gap_by_hand(launches),)
