"""What counters of profiled launches are made of: the account, the findings, the verdict."""

import re

import numpy as np
import pytest

from analyzers import diagnose
from analyzers.analysis import investigate
from analyzers.finding import Cause, Finding, Row
from collectors import open_trace
from tests.counter_answers import INSIDE, SCENARIOS, SECTORS, UNCOALESCED, each_once, found, ids, of
from tests.counter_scenarios import DURATION_NS, SHORT, launch, written
from traces.ncu_writer import Launch, details_page


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """Return a function that analyses a scenario once."""
    return each_once(tmp_path_factory.mktemp("cache"))


# The account.


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_account_sums_to_the_time_of_the_profiled_launches(analysis, name):
    result = analysis(name)
    report = result.report
    total = int(result.facts.counters.profiled["duration_ns"].sum())
    assert report.window.duration_ns == total
    assert report.window.span == (0, total)
    for device in report.devices:
        rows = {row for row, ns in device.rows.items() if ns}
        assert rows <= {Row.KERNEL, Row.DIVERGENCE, Row.BANDWIDTH}
        assert sum(device.rows.values()) == device.duration_ns == device.busy_ns
    assert sum(d.duration_ns for d in report.devices) == total


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_rule_fails_and_none_about_a_timeline_answers(analysis, name):
    report = analysis(name).report
    assert report.failed == ()
    skipped = {s.id: s.reason for s in report.skipped}
    for rule in diagnose.all_rules():
        if rule not in INSIDE:
            assert "no timeline" in skipped[diagnose.rule_id(rule)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_findings_divide_their_rows_without_help(analysis, name):
    result = analysis(name)
    outcomes = diagnose.run_rules(result.facts, result.ledger)
    findings = [o for o in outcomes if isinstance(o, Finding)]
    for row in Row:
        claimed = sum(f.lost_ns for f in findings if f.row is row)
        assert claimed <= result.ledger.total_ns(row)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_estimate_has_a_range_and_a_formula(analysis, name):
    for finding in analysis(name).report.findings:
        assert 0 <= finding.low_ns <= finding.high_ns
        assert finding.lost_ns <= finding.high_ns
        assert finding.formula
        assert finding.advice.endswith(".")
        assert all(e.start_ns == -1 for e in finding.evidence), "there is no timeline to show"


def test_each_letter_of_a_formula_is_explained(analysis):
    formulas = {f.formula for name in SCENARIOS for f in analysis(name).report.findings}
    assert len(formulas) >= len(INSIDE) - 1
    for formula in formulas:
        body = formula.partition(";")[0]
        letters = set(re.findall(r"(?<![\w'])([a-z]\d?)(?!\w)", body)) - {"a"}
        for letter in letters | ({"a"} if re.search(r"- a\b", body) else set()):
            assert f"{letter}: " in formula, formula


def test_segments_follow_each_other_without_hole_or_overlap(analysis):
    segments = analysis("idle_lanes").ledger.segments
    start, end = segments["start_ns"].to_numpy(), segments["end_ns"].to_numpy()
    assert start[0] == 0
    assert np.array_equal(start[1:], end[:-1])
    assert end[-1] == 2 * DURATION_NS


def test_launches_of_several_processes_are_accounted_apart(tmp_path):
    page = details_page([Launch(metrics={"gpu__time_duration.sum": 700})])
    header, row = page.splitlines()
    path = tmp_path / "two.csv"
    path.write_text("\n".join([header, row, row.replace('"4242"', '"77"')]))
    report = of(path, tmp_path).report
    assert [(d.process, d.duration_ns) for d in report.devices] == [(4_242, 700), (77, 700)]
    assert report.window.duration_ns == 1_400


# Each scenario is named by what was changed.


@pytest.mark.parametrize(
    ("name", "rule", "cause"),
    [
        ("idle_lanes", "divergence.idle_lanes", "divergence"),
        ("predicated", "divergence.idle_lanes", "divergence"),
        ("partial_warps", "divergence.idle_lanes", "divergence"),
        ("early_exit", "divergence.idle_lanes", "divergence"),
        ("uncoalesced", "bandwidth.uncoalesced_access", "bandwidth"),
        ("bank_conflicts", "bandwidth.bank_conflicts", "bandwidth"),
        ("dram_bound", "bandwidth.dram_roof", "bandwidth"),
        ("l2_bound", "bandwidth.l2_roof", "bandwidth"),
        ("l1_bound", "bandwidth.l1_roof", "bandwidth"),
        ("load_store_bound", "bandwidth.load_store", "bandwidth"),
        ("atomics_on_one_address", "bandwidth.atomics", "bandwidth"),
        ("blocks_of_one_thread", "divergence.idle_lanes", "divergence"),
        ("few_blocks", "parallelism.few_blocks", "parallelism"),
        ("tail", "parallelism.tail_effect", "parallelism"),
        ("imbalance", "parallelism.imbalance", "parallelism"),
        ("achieved_occupancy", "parallelism.achieved_occupancy", "parallelism"),
        ("latency_bound", "parallelism.latency_bound", "parallelism"),
        ("fp64", "compute.fp64", "healthy"),
        ("idle_tensor_cores", "compute.idle_tensor_cores", "healthy"),
        ("idle_lanes_behind_memory", "bandwidth.dram_roof", "bandwidth"),
    ],
)
def test_trouble_is_found_by_its_rule_and_gives_the_verdict(analysis, name, rule, cause):
    report = analysis(name).report
    assert rule in ids(analysis(name))
    assert report.findings[0].id == rule
    assert report.verdict.cause == cause


@pytest.mark.parametrize(
    ("compute", "cause", "words"),
    [
        (9.0, "unknown", "keep compute 9.0 % busy, and information on what kernels wait for"),
        (59.4, "unknown", "keep compute 59 % busy, and information on what kernels wait for"),
        (60.0, "healthy", "The kernels keep compute 60 % busy."),
    ],
)
def test_idle_compute_alone_is_not_healthy(tmp_path, compute, cause, words):
    """Memory at 8 % of one level and nothing about waiting: it may be bound by latency."""
    left_out = ("memory", "l1", "l2", "waves", "achieved", "possible", "stalled", "mean_cycles")
    kernel = launch(compute=compute, without=tuple(SHORT[key] for key in left_out))
    verdict = investigate(open_trace(written("idle_compute", kernel), tmp_path)).report.verdict
    assert verdict.cause == cause
    assert words in verdict.sentence


def test_a_good_kernel_has_no_findings_and_is_healthy(analysis):
    report = analysis("good").report
    assert report.findings == ()
    assert report.verdict.cause == "healthy"
    assert Cause.DIVERGENCE in report.verdict.examined
    assert "between kernels was not recorded" in report.verdict.sentence


def test_divergence_costs_idle_lanes_times_the_weight_of_compute(analysis):
    result = analysis("idle_lanes")
    finding = found(result, "divergence.idle_lanes")
    idle = 1 - 15.5 / 32  # of one launch of two; compute at 90 %, memory below it
    assert finding.low_ns == pytest.approx(idle * 0.9 * DURATION_NS, abs=1)
    assert finding.high_ns == pytest.approx(idle * DURATION_NS, abs=1)
    assert finding.lost_ns == pytest.approx(idle * 0.95 * DURATION_NS, abs=1)
    assert result.ledger.total_ns(Row.DIVERGENCE) == finding.lost_ns
    assert "Launches of march_rays keep 15.5 of a warp's 32 lanes busy" in finding.title
    assert result.report.verdict.share == pytest.approx(finding.lost_ns / (2 * DURATION_NS))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("idle_lanes", "threads of a warp take different branches"),
        ("predicated", "instructions are predicated off"),
        ("partial_warps", "blocks do not fill their warps (blocks of 16 threads)"),
        ("early_exit", "some threads exit early or have less work than others"),
    ],
)
def test_why_lanes_idle_is_checked_against_other_counters(analysis, name, why):
    assert why in found(analysis(name), "divergence.idle_lanes").title


def test_idle_lanes_cost_little_where_memory_holds_the_kernel_up(analysis):
    result = analysis("idle_lanes_behind_memory")
    assert result.ledger.total_ns(Row.DIVERGENCE) < 0.1 * DURATION_NS
    booked = (0.92 - 0.10) / 2 * DURATION_NS  # memory beyond compute; half of it may be needed
    assert result.ledger.total_ns(Row.BANDWIDTH) == pytest.approx(booked, abs=1)


@pytest.mark.parametrize(("lanes", "named"), [(24.0, False), (23.9, True)])
def test_fewer_than_24_lanes_are_few(tmp_path, lanes, named):
    result = of(written(f"lanes{lanes}", launch(active=lanes, live=lanes, uniform=50)), tmp_path)
    assert ("divergence.idle_lanes" in ids(result)) == named
    assert bool(result.ledger.total_ns(Row.DIVERGENCE)) == named


def test_a_branch_efficiency_of_zero_branches_is_no_divergence(tmp_path):
    path = written("no_branches", launch(active=16, live=16, uniform=0))
    title = found(of(path, tmp_path), "divergence.idle_lanes").title
    assert "because of something that was not counted" in title


def test_uncoalesced_access_costs_sectors_in_vain_times_the_weight_of_memory(analysis):
    finding = found(analysis("uncoalesced"), "bandwidth.uncoalesced_access")
    low = 1 - 0.003 - 0.997 * (1 - 0.75 * 0.70) / 0.85  # 3 µs of 1 ms, 85 % of the peak
    assert finding.low_ns == pytest.approx(low * DURATION_NS, abs=1)
    assert finding.high_ns == pytest.approx(0.75 * DURATION_NS, abs=1)
    assert "75 % of their global-memory sectors" in finding.title


def test_sectors_that_the_cache_serves_again_are_not_won_back_from_device_memory(tmp_path):
    # Three reads of one sector: L2 moves it three times, device memory once. That stays.
    metrics = dict(launch(compute=37, memory=73, dram=73, l2=56, ideal_sectors=333).metrics)
    metrics |= {"dram__bytes_read.sum": 32.0 * 333, "dram__bytes_write.sum": 0.0}
    finding = found(of(written("cached", Launch(metrics=metrics)), tmp_path), UNCOALESCED)
    assert finding.high_ns == pytest.approx((1 - 0.73) * DURATION_NS, abs=1)


def test_a_64_bit_pipe_in_a_kernel_at_the_limit_of_memory_costs_little(tmp_path):
    both = launch(compute=50, memory=92, dram=92, fp64=50, fma=1)
    assert "compute.fp64" not in {
        f.id for f in of(written("both64", both), tmp_path).report.findings if f.lost_ns > 80_000
    }


def test_without_ideal_sectors_the_bytes_used_of_each_tell(tmp_path):
    metrics = dict(launch(without=SECTORS, compute=15, memory=70, l2=70).metrics)
    metrics |= {
        "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.ratio": 8.0,
        "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum": 4_000.0,
    }
    finding = found(of(written("used", Launch(metrics=metrics)), tmp_path), UNCOALESCED)
    assert "75 % of their global-memory sectors" in finding.title


@pytest.mark.parametrize(("per_request", "low", "high"), [(32, 0.5, 0.875), (16, 0, 0.75)])
def test_sectors_per_request_leave_open_how_much_a_thread_reads(tmp_path, per_request, low, high):
    metrics = dict(launch(without=SECTORS, compute=10, memory=100, l2=100).metrics)
    metrics |= {
        "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum": per_request * 100.0,
        "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum": 100.0,
    }
    path = written(f"requests{per_request}", Launch(metrics=metrics))
    finding = found(of(path, tmp_path), UNCOALESCED)
    reached = max(1 - 0.003 - 0.997 * (1 - low) / 0.85, 0)  # 3 µs of 1 ms, 85 % of the peak
    assert finding.low_ns == pytest.approx(reached * DURATION_NS, abs=1)
    assert finding.high_ns == pytest.approx(high * DURATION_NS, abs=1)


def test_a_roof_costs_between_nothing_and_what_memory_is_busy_beyond_compute(analysis):
    finding = found(analysis("dram_bound"), "bandwidth.dram_roof")
    assert finding.low_ns == 0, "each byte may be needed"
    assert finding.high_ns == pytest.approx((0.92 - 0.20) * DURATION_NS, abs=1)
    assert finding.lost_ns == pytest.approx((0.92 - 0.20) / 2 * DURATION_NS, abs=1)


def test_multiprocessors_that_take_in_instructions_are_not_memory(tmp_path):
    # A tuned matrix product: both throughputs at 97 % because of one pipe, no data stage full.
    both = launch("gemm(float *)", compute=97, memory=97, l1=50)
    result = of(written("both", both), tmp_path)
    assert result.report.verdict.cause == "healthy"
    assert result.ledger.total_ns(Row.BANDWIDTH) == 0


def test_a_tail_costs_what_the_last_wave_leaves_empty(analysis):
    finding = found(analysis("tail"), "parallelism.tail_effect")
    assert finding.lost_ns == pytest.approx((1 - 2.25 / 3) * DURATION_NS, abs=1)


def test_a_tail_that_occupancy_does_not_show_is_none(tmp_path):
    waves = launch(waves=2.25, achieved=48, possible=50, compute=65, memory=40)
    assert "parallelism.tail_effect" not in ids(of(written("full", waves), tmp_path))


def test_what_warps_wait_for_is_named(analysis):
    title = found(analysis("latency_bound"), "parallelism.latency_bound").title
    assert "warps wait for data from global, local or texture memory 80 % of the time" in title
    assert "(long scoreboard)" in title


def test_a_small_grid_is_not_called_imbalance_or_low_occupancy_as_well(tmp_path):
    small = launch(grid=(25, 1, 1), waves=0.05, mean_cycles=250_000, achieved=10, compute=5)
    result = of(written("small", small), tmp_path)
    assert {"parallelism.imbalance", "parallelism.achieved_occupancy"}.isdisjoint(ids(result))


def test_fp64_costs_by_how_slow_it_is_on_this_gpu(analysis):
    finding = found(analysis("fp64"), "compute.fp64")
    assert finding.lost_ns == pytest.approx(0.90 * (1 - 1 / 64) * DURATION_NS, abs=1)


def test_time_decides_which_launch_matters(tmp_path):
    short = launch("short(int)", duration=20_000, active=4, live=4, uniform=50)
    result = of(written("weights", launch(), short), tmp_path)
    assert "divergence.idle_lanes" not in ids(result)
    assert result.ledger.total_ns(Row.DIVERGENCE) > 0
