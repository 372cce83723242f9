"""Runs of kernels that take hardly longer than one that does nothing, and what only looks alike."""

import numpy as np
import pytest

from analyzers.finding import Clear, Confidence, Row
from analyzers.losses.short_kernels import short_limit_ns
from analyzers.rules import parallelism_short_kernels
from analyzers.rules.parallelism_short_kernels import main_run
from tests.traces_in_memory import account, build

NORM, ROPE, STORE, GEMM = "rms_norm_kernel", "rotary_kernel", "store_cache_kernel", "gemm_kernel"


def program(tmp_path, durations_us, names, pause_us=0.0, **more):
    """Kernels of a stream that follow each other with the same pause."""
    starts = np.cumsum([0, *(np.array(durations_us[:-1]) + pause_us)])
    return build(
        tmp_path,
        kernels={"start_us": starts, "duration_us": durations_us, "name": names, **more},
    )


def layers(tmp_path, short_us=(2.0, 2.5, 3.0), product_us=20.0, count=20, **more):
    """Layers of a decoding step: a norm, a rotary embedding, an update of the cache, a product."""
    names = [NORM, ROPE, STORE, GEMM] * count
    return program(tmp_path, [*short_us, product_us] * count, names, **more)


def test_all_but_the_longest_of_a_run_can_be_saved_and_every_second_one_is(tmp_path):
    facts = layers(tmp_path)
    finding = parallelism_short_kernels.check(facts, account(facts))
    assert finding.row is Row.KERNEL
    assert finding.confidence is Confidence.ESTIMATED
    assert (finding.low_ns, finding.high_ns) == (20 * 2_000, 20 * 4_500)
    assert finding.lost_ns == (finding.low_ns + finding.high_ns) // 2
    assert finding.title == (
        "60 kernels of at most 3.50 µs follow each other in 20 runs, where the shortest take "
        "2 µs for next to nothing: 150 µs, 27 % of the window, most in runs such as "
        "rms_norm_kernel → rotary_kernel → store_cache_kernel"
    )


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        ([1, 2, 2, 1, 1, 2, 3], slice(0, 2)),  # 1 2 twice: 4 µs; 2 1 once: 2 µs
        ([1, 2, 1, 2, 3, 3, 3], slice(4, 7)),  # 3 3 3 takes 9 µs
    ],
)
def test_the_main_run_takes_most_time_with_those_of_the_same_order(names, rows):
    run, ns = np.array([0, 0, 3, 3, 5, 5, 5][: len(names)]), np.full(len(names), 1_000)
    if rows.start:
        ns[rows] = 3_000
    else:
        run = np.array([0, 0, 3, 3, 5, 5, 6])
    assert main_run(run, np.array(names), ns) == rows


@pytest.mark.parametrize(("third_us", "is_in_run"), [(3.5, True), (3.6, False)])
def test_short_is_up_to_seven_quarters_of_the_shortest(tmp_path, third_us, is_in_run):
    facts = layers(tmp_path, (2.0, 2.0, third_us), product_us=8.0)
    finding = parallelism_short_kernels.check(facts, account(facts))
    assert finding.title.startswith(f"{60 if is_in_run else 40} kernels ")
    assert finding.high_ns == 20 * (4_000 if is_in_run else 2_000)


def test_where_all_kernels_take_longer_none_is_short(tmp_path):
    """An NVIDIA GPU needs no more than 2 µs for nothing; 5 µs may well be work."""
    facts = layers(tmp_path, (5.0, 5.0, 5.0))
    assert short_limit_ns(facts, account(facts)) == 3_500
    assert isinstance(parallelism_short_kernels.check(facts, account(facts)), Clear)


@pytest.mark.parametrize(("pause_us", "is_run"), [(9.9, True), (10.0, False)])
def test_kernels_with_idle_time_between_are_no_run(tmp_path, pause_us, is_run):
    facts = layers(tmp_path, product_us=5.0, pause_us=pause_us)
    found = parallelism_short_kernels.check(facts, account(facts))
    assert isinstance(found, Clear) is not is_run


@pytest.mark.parametrize(("count", "is_said"), [(12, False), (13, True)])
def test_few_kernels_do_not_tell_how_short_kernels_are(tmp_path, count, is_said):
    facts = layers(tmp_path, count=count)  # 48, 52 kernels
    found = parallelism_short_kernels.check(facts, account(facts))
    assert isinstance(found, Clear) is not is_said


def test_one_short_kernel_between_products_is_no_run(tmp_path):
    facts = program(tmp_path, [2.0, 8.0] * 40, [NORM, GEMM] * 40)
    assert isinstance(parallelism_short_kernels.check(facts, account(facts)), Clear)


def test_two_streams_have_runs_of_their_own(tmp_path):
    facts = program(tmp_path, [2.0] * 60, [NORM] * 60, stream=[7, 8] * 30)
    assert " in 2 runs, " in parallelism_short_kernels.check(facts, account(facts)).title


def test_passes_of_a_sort_need_each_other(tmp_path):
    name = "void cub::DeviceRadixSortOnesweepKernel<int>(int)"
    facts = program(tmp_path, [2.0] * 60, [name] * 60)
    assert isinstance(parallelism_short_kernels.check(facts, account(facts)), Clear)
