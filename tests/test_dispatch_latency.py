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


@pytest.mark.parametrize("pause_us", [9, 11, 20, 49])
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
