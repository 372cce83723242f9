"""Rules about kernels that use too little of the GPU, and the one that needs counters."""

import itertools
import shlex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.finding import Clear, Confidence, Finding, Row, Skipped
from analyzers.losses.ncu_command import base_name
from analyzers.losses.parallelism import _alone
from analyzers.rules import (
    bandwidth_dram_saturation,
    bandwidth_migrations_in_kernels,
    divergence_idle_lanes,
    parallelism_low_occupancy,
    parallelism_small_grid,
    parallelism_tail_wave,
)
from collectors.schema import CopyKind
from tests.traces_in_memory import account, build

RULES = (
    bandwidth_dram_saturation,
    divergence_idle_lanes,
    parallelism_low_occupancy,
    parallelism_small_grid,
    parallelism_tail_wave,
)
FULL_BLOCK = {"block_x": 1024, "registers_per_thread": 64}  # one block on a multiprocessor
MIGRATION = {"kind": CopyKind.MANAGED_HOST_TO_DEVICE, "stream": 16, "bytes": 65_536}
FAT = {"registers_per_thread": 255}  # 8 of 64 warps


def kernels(count=10, duration_us=100, **more):
    """Kernels that run back to back."""
    start = np.arange(count) * duration_us
    return {"start_us": start, "duration_us": duration_us, **more}


def ask(rule, facts):
    return rule.check(facts, account(facts))


def samples(read, write, until_us=1_000, period_us=100, gpu=0):
    """One sample of reading and one of writing device memory at the end of each period."""
    times = np.arange(0, until_us + 1, period_us)
    return {
        "time_ns": np.repeat(times * 1_000, 2),
        "name": ["DRAM Read Throughput", "DRAM Write Throughput"] * len(times),
        "value": np.tile([float(read), float(write)], len(times)),
        "gpu": gpu,
    }


# --- small grids ----------------------------------------------------------------------------


def test_a_grid_smaller_than_the_gpu_loses_the_idle_multiprocessors(tmp_path):
    # 33 blocks on 132 multiprocessors: three quarters of 1 ms could be won.
    finding = ask(parallelism_small_grid, build(tmp_path, kernels=kernels(grid_x=33)))
    assert isinstance(finding, Finding)
    assert finding.lost_ns == 750_000
    assert finding.row is Row.KERNEL
    assert "33 blocks for 132" in finding.title
    assert finding.evidence[-1].end_ns - finding.evidence[-1].start_ns == 100_000


def test_a_grid_that_covers_the_gpu_is_clear(tmp_path):
    assert ask(parallelism_small_grid, build(tmp_path, kernels=kernels(grid_x=132))) == Clear()


def test_small_kernels_that_run_together_are_not_counted(tmp_path):
    two = {"start_us": [0, 0, 100, 100], "duration_us": 100, "stream": [1, 2, 1, 2], "grid_x": 8}
    assert ask(parallelism_small_grid, build(tmp_path, kernels=two)) == Clear()


def test_kernels_as_short_as_kernels_get_cannot_be_made_shorter(tmp_path):
    tiny = kernels(count=100, duration_us=2, grid_x=1)
    assert ask(parallelism_small_grid, build(tmp_path, kernels=tiny)) == Clear()


def test_a_loss_below_a_twentieth_of_the_window_is_clear(tmp_path):
    # One small kernel of 40 µs in a window of 1 ms.
    mixed = {
        "start_us": [0, 40],
        "duration_us": [40, 960],
        "grid_x": [1, 4_224],
    }
    assert ask(parallelism_small_grid, build(tmp_path, kernels=mixed)) == Clear()


def test_collectives_have_few_blocks_by_design(tmp_path):
    facts = build(tmp_path, kernels=kernels(grid_x=8, name="ncclDevKernel_AllReduce"))
    assert ask(parallelism_small_grid, facts) == Clear()


# --- tail waves -----------------------------------------------------------------------------


def test_a_nearly_empty_last_wave_loses_nearly_a_wave(tmp_path):
    # 165 blocks where 132 fit: 1.25 waves take 2, so 3/8 of 1 ms is lost.
    facts = build(tmp_path, kernels=kernels(grid_x=165, **FULL_BLOCK))
    finding = ask(parallelism_tail_wave, facts)
    assert isinstance(finding, Finding)
    assert finding.lost_ns == 375_000
    assert ask(parallelism_small_grid, facts) == Clear()
    assert ask(parallelism_low_occupancy, facts) == Clear()


@pytest.mark.parametrize("blocks", [132, 264, 132 * 5 + 1, 13_200])
def test_whole_waves_and_many_waves_are_clear(tmp_path, blocks):
    facts = build(tmp_path, kernels=kernels(grid_x=blocks, **FULL_BLOCK))
    assert ask(parallelism_tail_wave, facts) == Clear()


def test_a_last_wave_with_blocks_for_every_multiprocessor_leaves_none_idle(tmp_path):
    # Eight blocks of 256 threads fit on each: 1.5 waves end with four on each.
    facts = build(tmp_path, kernels=kernels(grid_x=1_056 + 528))
    assert ask(parallelism_tail_wave, facts) == Clear()


def test_the_last_wave_is_described_by_its_blocks(tmp_path):
    facts = build(tmp_path, kernels=kernels(grid_x=2 * 1_056 + 33))
    finding = ask(parallelism_tail_wave, facts)
    assert "on average 33 blocks for 132 after 2.0 full waves" in finding.title
    assert finding.lost_ns == 250_000  # three quarters of the last of three waves


# --- low occupancy --------------------------------------------------------------------------


def test_few_warps_lose_at_most_what_half_occupancy_could_win(tmp_path):
    # 12.5 % of the warps: 1 - 12.5 / 50 of 1 ms.
    finding = ask(parallelism_low_occupancy, build(tmp_path, kernels=kernels(**FAT)))
    assert isinstance(finding, Finding)
    assert finding.lost_ns == 750_000
    assert "limited by registers" in finding.title
    assert "registers" in finding.advice


def test_a_quarter_of_the_warps_is_not_low(tmp_path):
    quarter = kernels(registers_per_thread=128)
    assert ask(parallelism_low_occupancy, build(tmp_path, kernels=quarter)) == Clear()


def test_matrix_multiplications_have_few_warps_by_design(tmp_path):
    facts = build(tmp_path, kernels=kernels(name="sm90_xmma_gemm_f16f16", **FAT))
    assert ask(parallelism_low_occupancy, facts) == Clear()


def test_a_small_grid_of_fat_kernels_is_claimed_once(tmp_path):
    facts = build(tmp_path, kernels=kernels(grid_x=8, **FAT))
    assert isinstance(ask(parallelism_small_grid, facts), Finding)
    assert ask(parallelism_low_occupancy, facts) == Clear()


# --- device memory --------------------------------------------------------------------------


def test_samples_at_the_roof_count_the_kernel_time_in_them(tmp_path):
    # Kernels until 1,000 µs; samples every 100 µs, all at 54 + 27 %.
    facts = build(tmp_path, kernels=kernels(), gpu_metrics=samples(54, 27))
    finding = ask(bandwidth_dram_saturation, facts)
    assert isinstance(finding, Finding)
    assert finding.lost_ns == 1_000_000
    assert finding.evidence[0].value == 81.0


def test_idle_time_in_saturated_samples_is_not_kernel_time(tmp_path):
    gappy = {"start_us": [0, 900], "duration_us": 100}
    facts = build(tmp_path, kernels=gappy, gpu_metrics=samples(60, 30))
    assert ask(bandwidth_dram_saturation, facts).lost_ns == 200_000


def test_memory_below_the_roof_is_clear(tmp_path):
    facts = build(tmp_path, kernels=kernels(), gpu_metrics=samples(50, 29))
    assert ask(bandwidth_dram_saturation, facts) == Clear()


def test_a_hole_in_the_sampling_is_not_filled(tmp_path):
    metrics = samples(60, 30, until_us=400)
    metrics["time_ns"] = metrics["time_ns"].copy()
    metrics["time_ns"][-2:] = 1_000_000  # the last sample comes 700 µs after the one before
    facts = build(tmp_path, kernels=kernels(), gpu_metrics=metrics)
    assert ask(bandwidth_dram_saturation, facts).lost_ns == 300_000 + 200_000


def test_samples_of_another_gpu_do_not_count(tmp_path):
    facts = build(
        tmp_path,
        kernels=kernels(count=2, device=[0, 1], duration_us=500),
        devices={"process": [1, 1], "device": [0, 1], "physical": [0, 1]},
        gpu_metrics=samples(60, 30, gpu=1),
    )
    assert ask(bandwidth_dram_saturation, facts).lost_ns == 500_000


@pytest.mark.parametrize(
    ("large", "fast_us", "is_said"),
    [(330, 10, True), (329, 10, False), (330, 11, False)],
    ids=["ten times apart", "fewer blocks", "not so fast"],
)
def test_the_same_kernel_with_ten_times_the_blocks_in_a_tenth_of_the_time_is_said(
    tmp_path, large, fast_us, is_said
):
    columns = kernels(grid_x=[33] * 9 + [large])
    columns["duration_us"] = [100] * 9 + [fast_us]
    title = ask(parallelism_small_grid, build(tmp_path, kernels=columns)).title
    said = f"; the same kernel took 100 µs with 33 blocks and {fast_us} µs with {large}"
    assert (said in title) == is_said


@pytest.mark.parametrize(("others", "is_named"), [(4, True), (6, False)])
def test_the_kernel_that_loses_half_is_named(tmp_path, others, is_named):
    names = ["main(int)"] * (10 - others) + [f"other{i}(int)" for i in range(others)]
    columns = kernels(grid_x=33, name=names)
    title = ask(parallelism_small_grid, build(tmp_path, kernels=columns)).title
    assert title.endswith(", mostly in `main`") == is_named


def test_metrics_that_are_not_in_percent_are_not_misread(tmp_path):
    facts = build(tmp_path, kernels=kernels(), gpu_metrics=samples(2e9, 1e9))
    assert isinstance(ask(bandwidth_dram_saturation, facts), Skipped)


def test_more_blocks_do_not_help_while_device_memory_is_at_its_limit(tmp_path):
    # Ten kernels of 100 µs with 66 of 132 blocks, the first four at the limit.
    metrics = samples(60, 30, until_us=400)
    facts = build(tmp_path, kernels=kernels(grid_x=66), gpu_metrics=metrics)
    assert ask(bandwidth_dram_saturation, facts).lost_ns == 400_000
    assert ask(parallelism_small_grid, facts).lost_ns == 300_000
    assert "for 600 µs" in ask(parallelism_small_grid, facts).title


def test_memory_that_is_rarely_at_its_limit_takes_nothing_from_other_rules(tmp_path):
    # 40 of 1,000 µs at the limit are no finding.
    metrics = samples(60, 30, until_us=40, period_us=20)
    facts = build(tmp_path, kernels=kernels(grid_x=66), gpu_metrics=metrics)
    assert ask(bandwidth_dram_saturation, facts) == Clear()
    assert ask(parallelism_small_grid, facts).lost_ns == 500_000


def test_the_highest_traffic_is_one_of_the_window(tmp_path):
    metrics = samples(54, 27)
    metrics["value"] = metrics["value"].copy()
    metrics["value"][-2:] = 50.0
    facts = build(tmp_path, kernels=kernels(), gpu_metrics=metrics)
    finding = bandwidth_dram_saturation.check(facts, account(facts, 0, 500))
    assert finding.evidence[0].value == 81.0


# --- unified memory -------------------------------------------------------------------------


def test_migrations_inside_kernels_count_with_what_lies_in_the_window(tmp_path):
    # One inside the kernel, ten between kernels, one inside a kernel after the window.
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 5_000], "duration_us": 1_000},
        copies={
            "start_us": [*[500], *range(2_000, 3_000, 100), 5_500],
            "duration_us": [400, *[50] * 10, 400],
            **MIGRATION,
        },
    )
    finding = bandwidth_migrations_in_kernels.check(facts, account(facts, 0, 700))
    # Half of its 400 µs, so half of its 64 KiB; as a copy it takes as long, beside other work.
    assert finding.lost_ns == 200_000
    assert finding.title == (
        "`kernel` may have waited for pages of unified memory for 200 µs of the 1 ms that 1 launch "
        "took, 29 % of the window: 1 migration (32.8 kB) came meanwhile"
    )
    assert [e.value for e in finding.evidence] == [32_768, 200_000, 200_000, 200_000]


def test_pages_that_leave_the_gpu_keep_no_kernel_waiting(tmp_path):
    away = {**MIGRATION, "kind": CopyKind.MANAGED_DEVICE_TO_HOST}
    copies = {"start_us": [100], "duration_us": 500, **away}
    facts = build(tmp_path, kernels=kernels(), copies=copies)
    assert ask(bandwidth_migrations_in_kernels, facts) == Clear()


def test_nothing_is_said_of_page_faults_in_a_program_that_prefetches(tmp_path):
    facts = build(
        tmp_path,
        kernels=kernels(grid_x=66),
        copies={"start_us": [100], "duration_us": 500, **MIGRATION},
        api_calls={"start_us": [0], "duration_us": 5, "name": "cudaMemPrefetchAsync"},
    )
    assert "prefetches" in ask(bandwidth_migrations_in_kernels, facts).reason
    assert ask(parallelism_small_grid, facts).lost_ns == 500_000


def test_that_migrations_may_be_prefetches_is_said(tmp_path):
    copies = {"start_us": [100], "duration_us": 500, **MIGRATION}
    facts = build(tmp_path, kernels=kernels(1, 1_000), copies=copies)
    finding = ask(bandwidth_migrations_in_kernels, facts)
    assert finding.confidence is Confidence.INFERRED
    assert "prefetches" in finding.does_not_apply_when


def test_time_that_waits_for_pages_is_claimed_by_no_other_rule(tmp_path):
    facts = build(
        tmp_path,
        kernels=kernels(grid_x=66, name=[f"kernel_{number}" for number in range(10)]),
        copies={"start_us": [0], "duration_us": 500, **MIGRATION},
        gpu_metrics=samples(60, 30, until_us=600),
    )
    assert ask(bandwidth_migrations_in_kernels, facts).lost_ns == 500_000
    assert ask(bandwidth_dram_saturation, facts).lost_ns == 100_000
    assert ask(parallelism_small_grid, facts).lost_ns == 200_000  # half of what is left


# --- divergence -----------------------------------------------------------------------------


def command_in(skipped):
    return shlex.split(skipped.reason.split("`")[1])


def test_divergence_is_never_guessed_but_the_command_is_named(tmp_path):
    names = ["void at::native::(anonymous namespace)::add<4, foo<int>>(int)", "sgemm_128"] * 5
    facts = build(tmp_path, kernels=kernels(name=names))
    skipped = ask(divergence_idle_lanes, facts)
    assert isinstance(skipped, Skipped)
    command = command_in(skipped)
    assert command[:3] == ["ncu", "--clock-control", "none"]
    assert command[command.index("--kernel-name") + 1] == "regex:^(add|sgemm_128)$"
    assert "100 % of kernel time" in skipped.reason


def test_only_kernel_time_in_the_window_decides_what_to_examine(tmp_path):
    # The long kernel has 10 µs in the window, the short one 90.
    two = {"start_us": [0, 1_000], "duration_us": [1_000, 90], "name": ["long", "short"]}
    facts = build(tmp_path, kernels=two)
    skipped = divergence_idle_lanes.check(facts, account(facts, 990, 1_090))
    assert "regex:^(short)$" in command_in(skipped)
    assert "90 % of kernel time" in skipped.reason


def test_kernels_that_add_little_are_left_out_of_the_command(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 900], "duration_us": [900, 100], "name": ["large", "little"]},
    )
    skipped = ask(divergence_idle_lanes, facts)
    assert "regex:^(large)$" in command_in(skipped)
    assert "90 % of kernel time" in skipped.reason


def test_a_name_no_compiler_makes_is_not_put_into_a_command(tmp_path):
    facts = build(tmp_path, kernels=kernels(name=["good", "x`; rm -rf ~ '\n"] * 5))
    skipped = ask(divergence_idle_lanes, facts)
    assert "rm" not in skipped.reason
    assert "regex:^(good)$" in command_in(skipped)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("void scale<float, 4>(float *, int)", "scale"),
        ("ns::inner::scale", "scale"),
        ("void (anonymous namespace)::f<a<b>, {lambda(int)#1}>(int)", "f"),
        ("ampere_sgemm_128x64_nn", "ampere_sgemm_128x64_nn"),
    ],
)
def test_the_base_name_is_the_function_alone(name, base):
    assert base_name(name) == base


# --- all of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_what_is_not_recorded_is_said_with_what_to_record(tmp_path, rule):
    facts = build(tmp_path, graph_launches={"start_us": [0], "duration_us": 500})
    skipped = ask(rule, facts)
    assert isinstance(skipped, Skipped)
    assert "record with `nsys profile" in skipped.reason


@pytest.mark.parametrize("rule", RULES[2:])
def test_a_gpu_of_unknown_size_gives_no_answer(tmp_path, rule):
    facts = build(tmp_path, kernels=kernels(grid_x=8), devices={"process": [1], "sm_count": -1})
    assert isinstance(ask(rule, facts), Skipped)


@pytest.mark.parametrize("rule", RULES[:1] + RULES[2:])
def test_a_window_claims_only_what_is_in_it(tmp_path, rule):
    facts = build(
        tmp_path,
        kernels=kernels(grid_x=[8] * 4 + [165] * 3 + [4_224] * 3, **FULL_BLOCK),
        gpu_metrics=samples(60, 30),
    )
    whole, part = account(facts), account(facts, 150, 850)
    for ledger in (whole, part):
        outcome = rule.check(facts, ledger)
        assert getattr(outcome, "lost_ns", 0) <= ledger.total_ns(Row.KERNEL)
    assert getattr(rule.check(facts, part), "lost_ns", 0) <= whole.total_ns(Row.KERNEL) * 0.7


def test_all_claims_together_never_exceed_the_kernel_time(tmp_path):
    facts = build(
        tmp_path,
        kernels=kernels(
            count=12,
            name=[f"kernel_{number}" for number in range(12)],
            grid_x=[8, 165, 4_224, 4_224] * 3,
            block_x=[256, 1_024, 256, 256] * 3,
            registers_per_thread=[32, 64, 255, 32] * 3,
            stream=[1, 2] * 6,
        ),
        gpu_metrics=samples(60, 30, until_us=400),
        copies={"start_us": [300], "duration_us": 200, **MIGRATION},
    )
    ledger = account(facts)
    outcomes = [rule.check(facts, ledger) for rule in (*RULES, bandwidth_migrations_in_kernels)]
    found = [o for o in outcomes if isinstance(o, Finding)]
    assert len(found) == 5
    assert sum(f.lost_ns for f in found) <= ledger.total_ns(Row.KERNEL)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=8))
def test_time_alone_is_what_no_other_interval_covers(pairs):
    pairs = sorted((a, a + length) for a, length in pairs)
    start, end = np.array(pairs, np.int64).reshape(-1, 2).T
    moments = {t: [i for i, (a, b) in enumerate(pairs) if a <= t < b] for t in range(40)}
    expected = [sum(at == [i] for at in moments.values()) for i in range(len(pairs))]
    assert _alone(start, end).tolist() == expected


def test_every_docstring_has_the_four_headings():
    headings = (
        "What it looks for:",
        "Why it is slow:",
        "What to try:",
        "When it does not apply:",
    )
    for rule, heading in itertools.product(RULES, headings):
        assert heading in rule.__doc__
