"""Kernel time at the limit of device memory, microsecond by microsecond."""

from itertools import pairwise

import numpy as np
import pytest

from analyzers.losses.kernel_memory import held_by_memory, highest_pct, saturated, traffic
from tests.traces_in_memory import account, build

US = 1_000
READ, WRITE = "DRAM Read Bandwidth [Throughput %]", "DRAM Write Bandwidth [Throughput %]"


def sampled(folder, kernels, samples, **devices):
    """Kernels as (device, begin, end), samples as (GPU, moment, percent read, percent written)."""
    device, start, end = (list(c) for c in zip(*kernels, strict=True))
    gpu, at, read, written = (list(c) for c in zip(*samples, strict=True))
    return build(
        folder,
        kernels={
            "device": device,
            "start_us": start,
            "end_us": end,
            "stream": list(range(len(start))),
        },
        gpu_metrics={
            "gpu": gpu * 2,
            "time_us": at * 2,
            "name": [READ] * len(at) + [WRITE] * len(at),
            "value": [float(v) for v in read + written],
        },
        **devices,
    )


def microseconds(spans):
    return {us for b, e in zip(*spans, strict=True) for us in range(b // US, e // US)}


@pytest.mark.parametrize("seed", range(6))
def test_saturated_time_is_that_of_kernels_under_samples_at_the_limit(tmp_path, seed):
    rng = np.random.default_rng(seed)
    kernels, samples = [], []
    for device in (0, 1):
        at = 0
        for _ in range(6):
            at += int(rng.integers(0, 40))
            kernels.append((device, at, at + int(rng.integers(20, 90))))
            at = kernels[-1][2]
        moment = int(rng.integers(0, 10))
        while moment < 500:
            read = int(rng.choice([10, 40, 50, 79]))
            samples.append((device, moment, read, int(rng.choice([1, 29, 30, 39, 40]))))
            moment += int(rng.choice([10, 10, 10, 10, 45]))
    two = {"devices": {"process": 1, "device": [0, 1], "physical": [0, 1], "name": "GPU"}}
    facts = sampled(tmp_path, kernels, samples, **two)
    ledger = account(facts)
    found = saturated(facts, ledger)
    assert set(found) == {0, 1}
    for device in (0, 1):
        own = [s for s in samples if s[0] == device]
        periods = [b[1] - a[1] for a, b in pairwise(own)]
        usual = sorted(periods)[len(periods) // 2]
        limit = set()
        for before, sample in pairwise(own):
            if sample[2] + sample[3] >= 80:
                limit |= set(range(sample[1] - min(sample[1] - before[1], 2 * usual), sample[1]))
        busy = {us for d, b, e in kernels if d == device for us in range(b, e)}
        assert microseconds(found[device]) == limit & busy
        assert microseconds(held_by_memory(facts, ledger, device)) == limit & busy
    begin, end = (min(k[1] for k in kernels), max(k[2] for k in kernels))
    assert highest_pct(facts, ledger) == max(s[2] + s[3] for s in samples if begin <= s[1] <= end)


@pytest.mark.parametrize(("highest", "is_told"), [(120.0, True), (120.5, False)])
def test_what_is_no_percentage_is_not_taken_for_one(tmp_path, highest, is_told):
    facts = sampled(tmp_path, [(0, 0, 100)], [(0, 10, 50, 1), (0, 20, highest, 1)])
    assert (len(traffic(facts)) > 0) == is_told


@pytest.mark.parametrize(("number", "is_told"), [(0, True), (3, True)])
def test_the_only_gpu_has_the_samples_of_the_only_gpu(tmp_path, number, is_told):
    facts = sampled(tmp_path, [(0, 0, 100)], [(number, 10, 50, 40), (number, 20, 50, 40)])
    found = saturated(facts, account(facts))
    assert (microseconds(found[0]) == set(range(10, 20))) == is_told


def test_one_of_two_gpus_has_only_its_own_samples(tmp_path):
    two = {"devices": {"process": 1, "device": [0, 1], "physical": [0, 1], "name": "GPU"}}
    kernels, samples = [(0, 0, 100), (1, 0, 100)], [(3, 10, 50, 40), (3, 20, 50, 40)]
    facts = sampled(tmp_path, kernels, samples, **two)
    assert saturated(facts, account(facts)) == {}


@pytest.mark.parametrize(("at_limit", "is_claimed"), [(5, True), (4, False)])
def test_a_twentieth_of_the_time_is_worth_a_claim(tmp_path, at_limit, is_claimed):
    samples = [(0, 0, 10, 10), (0, at_limit, 50, 40), (0, 2 * at_limit, 10, 10)]
    facts = sampled(tmp_path, [(0, 0, 100)], samples)
    ledger = account(facts)
    assert microseconds(saturated(facts, ledger)[0]) == set(range(at_limit))
    assert bool(microseconds(held_by_memory(facts, ledger, 0))) == is_claimed
