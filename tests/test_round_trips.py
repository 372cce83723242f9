"""Data that leaves the GPU and comes back around kernels is a finding of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.finding import Clear, Finding
from analyzers.ledger.ledger import build_ledger
from analyzers.losses.round_trips import _return_pairs
from analyzers.rules import (
    bandwidth_pageable_copies,
    bandwidth_round_trips,
    bandwidth_transfer_bound,
)
from benchmarks.simulated.cases import loop, one_thread
from benchmarks.simulated.program import TO_HOST, Copy, Kernel, Wait
from benchmarks.simulated.rules import BUS_BYTES_PER_NS
from collectors.schema import CopyKind, MemoryKind
from tests.traces_in_memory import account, build
from tests.whatif_helpers import MS, about, explored, facts_of, whole, why_not

DOWN, UP = CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST
SIZE = 512_000_000


def traffic(tmp_path, kinds, *, kernels=True, size=SIZE, memory=MemoryKind.PINNED, device=0):
    """Copies of 100 µs, one every 200 µs, with a kernel in each pause."""
    begin = 200 * np.arange(len(kinds))
    shape = begin if kernels else begin[:1] - 200
    return build(
        tmp_path,
        kernels={"start_us": shape + 110, "duration_us": 80, "device": 0},
        copies={
            "start_us": begin,
            "duration_us": 100,
            "kind": kinds,
            "bytes": size,
            "source_kind": memory,
            "destination_kind": memory,
            "device": device,
        },
    )


def found(facts):
    ledger = account(facts)
    return tuple(
        rule.check(facts, ledger)
        for rule in (bandwidth_round_trips, bandwidth_transfer_bound, bandwidth_pageable_copies)
    )


def test_the_first_copy_down_and_the_last_one_up_are_needed(tmp_path):
    trips, rest, pageable = found(traffic(tmp_path, [DOWN, UP] * 3))
    assert trips.lost_ns == 4 * 100_000
    assert rest.lost_ns == 2 * 100_000
    assert pageable == Clear()
    assert trips.title.startswith(
        "512 MB leave the GPU and as much comes back, twice: 4 copies of 2.05 GB in all ran alone "
        "for 400 µs, "
    )
    assert trips.advice.startswith("Keep the data on the GPU between kernels")
    assert "other data" in trips.does_not_apply_when


def test_one_return_is_no_pattern(tmp_path):
    trips, rest, _ = found(traffic(tmp_path, [DOWN, UP] * 2))
    assert trips == Clear()
    assert rest.lost_ns == 4 * 100_000


def test_pageable_round_trips_are_round_trips_first(tmp_path):
    trips, _, pageable = found(traffic(tmp_path, [DOWN, UP] * 5, memory=MemoryKind.PAGEABLE))
    assert trips.lost_ns == 8 * 100_000
    assert pageable.lost_ns == 2 * 100_000


@pytest.mark.parametrize(
    "kinds",
    [
        [DOWN] * 6,
        [DOWN] * 6 + [UP] * 6,  # all there, then all back
        [DOWN, DOWN, UP] * 6,  # two inputs and an output of one size
        [UP, UP, DOWN] * 6,
    ],
    ids=["one way", "there, then back", "two inputs", "two outputs"],
)
def test_traffic_that_does_not_come_back_is_no_round_trip(kinds, tmp_path):
    assert found(traffic(tmp_path, kinds))[0] == Clear()


def test_two_buffers_of_one_size_come_back_both(tmp_path):
    trips, *_ = found(traffic(tmp_path, [DOWN, DOWN, UP, UP] * 5))
    assert trips.lost_ns == 16 * 100_000


def test_results_smaller_than_the_input_are_no_round_trip(tmp_path):
    size = [SIZE, SIZE // 2] * 6
    assert found(traffic(tmp_path, [DOWN, UP] * 6, size=size))[0] == Clear()


def test_a_program_without_kernels_between_tests_the_link(tmp_path):
    assert found(traffic(tmp_path, [DOWN, UP] * 6, kernels=False))[0] == Clear()


def test_what_one_gpu_sends_is_not_what_another_gets(tmp_path):
    assert found(traffic(tmp_path, [DOWN, UP] * 6, device=[0, 1] * 6))[0] == Clear()


@given(st.lists(st.booleans(), max_size=40))
def test_pairs_are_matched_as_a_loop_over_the_copies_would(to_device):
    waiting, in_pair = [], [False] * len(to_device)
    for place, down in enumerate(to_device):
        if not down:
            waiting.append(place)
        elif waiting:
            in_pair[place] = in_pair[waiting.pop(0)] = True
    assert _return_pairs(np.array(to_device, dtype=bool)).tolist() == in_pair


def steps(count, size, ns):
    return loop([[Copy(size), Kernel(ns), Copy(size, TO_HOST), Wait()] for _ in range(count)])


def test_keeping_data_on_the_gpu_is_predicted_and_never_below_the_kernels(tmp_path):
    size = 10 * MS * BUS_BYTES_PER_NS  # 10 ms a copy
    known = explored(tmp_path, one_thread(steps(20, size, MS)))
    kept = about(known, "copies.resident")
    assert kept.title.startswith("keeping on the GPU what 38 copies move out and in (9.12 GB)")
    # Two copies and 20 kernels are left of 420 ms.
    assert 40 * MS <= kept.low_ns <= kept.high_ns < 42 * MS
    overlap = about(known, "copies.overlapped")
    assert kept.high_ns < overlap.low_ns


def test_nothing_is_kept_where_nothing_comes_back(tmp_path):
    known = explored(tmp_path, one_thread(loop([[Copy(MS), Kernel(MS), Wait()]] * 5)))
    assert why_not(known, "copies.resident") == "nothing leaves the GPU and comes back"


def test_half_the_bytes_and_what_is_sent_again_are_named_with_what_they_win(tmp_path):
    facts = traffic(tmp_path, [DOWN] * 6, kernels=False)
    finding = bandwidth_transfer_bound.check(facts, account(facts))
    assert isinstance(finding, Finding)
    assert finding.advice.startswith(
        "Move less: keep on the GPU what is sent again (6 copies of 512 MB), send half the bytes, "
        "such as 16 bits for 32 (saves 300 µs), or compress."
    )
    assert finding.gain_ns == 80_000  # the one kernel


def test_what_two_gpus_save_together_is_saved_once(tmp_path):
    facts = traffic(tmp_path, [DOWN] * 6, kernels=False, device=[0, 1] * 3)
    advice = bandwidth_transfer_bound.check(facts, account(facts)).advice
    assert "16 bits for 32 (saves 150 µs on each GPU)" in advice
    assert "saves at most 80 µs, because" in advice  # only one of them runs a kernel


def test_different_sizes_are_not_sent_again(tmp_path):
    facts = traffic(tmp_path, [DOWN] * 3, kernels=False, size=[SIZE, SIZE + 1, SIZE + 2])
    advice = bandwidth_transfer_bound.check(facts, account(facts)).advice
    assert advice.startswith("Move less: send half the bytes")


def test_simulated_round_trips_win_what_they_cost(tmp_path):
    size = 10 * MS * BUS_BYTES_PER_NS
    facts = facts_of(tmp_path, one_thread(steps(20, size, MS)))
    finding = bandwidth_round_trips.check(facts, build_ledger(facts, whole(facts)))
    assert finding.lost_ns == pytest.approx(38 * 10 * MS, rel=1e-3)


def test_copies_without_a_size_are_none(tmp_path):
    facts = traffic(tmp_path, [DOWN, UP] * 6, size=-1)
    assert found(facts)[0] == Clear()
