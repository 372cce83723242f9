"""The roofline: against arithmetic by hand, and never with a number that was not recorded."""

from pathlib import Path

import numpy as np
import pytest

from analyzers.analysis import investigate
from analyzers.counters import roofline
from analyzers.counters.by_kernel import ByKernel
from analyzers.counters.inside import account_of
from analyzers.counters.roofline import GUIDE, GUIDE_AT_MOST, MEASURED, STATED
from analyzers.diagnose import all_rules, rule_id
from analyzers.facts.facts import build_facts
from analyzers.kernels.counted import (
    LOST,
    RULE_OF_PART,
    counted_kernels,
    limiter_words,
    roofline_summary,
)
from analyzers.metric_names import Part
from collectors import open_trace
from jobs import api
from tests import counter_scenarios
from tests.traces_in_memory import build
from traces.ncu_writer import Launch, write_report

REAL = Path(__file__).parents[2] / "shared" / "real"
OP = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum"
PEAK = "sm__sass_thread_inst_executed_op_{}fma_pred_on.sum.peak_sustained"
MICROSECOND = 1_000.0  # ns
CLOCKS = {
    "smsp__cycles_elapsed.avg.per_second": 1e9,
    "sm__cycles_elapsed.avg.per_second": 1e9,
    "dram__cycles_elapsed.avg.per_second": 2e9,
    "lts__cycles_elapsed.avg.per_second": 1.5e9,
}
FP32 = {OP.format("fadd"): 100.0, OP.format("fmul"): 200.0, OP.format("ffma"): 350.0}


def inside_of(facts):
    return account_of(facts.counters) if facts.counters_only else None


def facts_of(tmp_path, *launches):
    path = write_report(tmp_path / "made.ncu-rep", launches)
    return build_facts(open_trace(path, tmp_path / "cache"))


def counted(facts):
    return counted_kernels(inside_of(facts))


def roofline_of(facts):
    inside = inside_of(facts)
    return roofline.roofline(inside, ByKernel.of(inside))


def launch(metrics, name="kernel(float *)", duration_ns=MICROSECOND):
    return Launch(name=name, metrics={"gpu__time_duration.sum": duration_ns, **metrics})


def only(facts):
    table = counted(facts)
    assert len(table) == 1
    return table.iloc[0]


def roofs(facts):
    return {r.of: (r.per_s, r.source) for r in roofline_of(facts).roofs}


def test_a_fused_operation_counts_twice(tmp_path):
    kernel = only(facts_of(tmp_path, launch(FP32)))
    assert kernel["fp32_flop_per_s"] == pytest.approx((100 + 200 + 2 * 350) / 1e-6)
    assert kernel["flop_per_s"] == kernel["fp32_flop_per_s"]
    assert np.isnan(kernel["fp64_flop_per_s"])


def test_rates_per_cycle_say_the_same_as_counts(tmp_path):
    # 1,000 cycles in a microsecond at 1 GHz.
    per_cycle = {f"{name}.per_cycle_elapsed": value / 1_000 for name, value in FP32.items()}
    kernel = only(facts_of(tmp_path, launch(per_cycle | CLOCKS)))
    assert kernel["fp32_flop_per_s"] == pytest.approx(1_000 / 1e-6)


def test_without_one_kind_of_operation_nothing_is_told(tmp_path):
    part = {k: v for k, v in FP32.items() if "fadd" not in k}
    facts = facts_of(tmp_path, launch(part))
    assert np.isnan(only(facts)["flop_per_s"])
    assert "floating-point arithmetic" in roofline_of(facts).missing


def test_an_instruction_in_half_precision_works_on_a_pair(tmp_path):
    half = {OP.format("hadd"): 10.0, OP.format("hmul"): 0.0, OP.format("hfma"): 20.0}
    peak = {PEAK.format("h"): 64.0}
    facts = facts_of(tmp_path, launch(half | peak | CLOCKS))
    assert only(facts)["fp16_flop_per_s"] == pytest.approx((2 * 10 + 4 * 20) / 1e-6)
    assert roofs(facts)["fp16"] == (pytest.approx(64 * 4 * 1e9), MEASURED)


def test_intensity_is_operations_by_bytes_of_each_memory(tmp_path):
    moved = {"dram__bytes.sum": 500.0, "lts__t_bytes.sum": 2_000.0, "l1tex__t_bytes.sum": 4_000.0}
    kernel = only(facts_of(tmp_path, launch(FP32 | moved)))
    assert kernel["dram_flop_per_byte"] == pytest.approx(2.0)
    assert kernel["l2_flop_per_byte"] == pytest.approx(0.5)
    assert kernel["l1_flop_per_byte"] == pytest.approx(0.25)
    assert kernel["dram_bytes_per_s"] == pytest.approx(500 / 1e-6)


def test_reads_and_writes_of_device_memory_are_added(tmp_path):
    moved = {"dram__bytes_read.sum": 300.0, "dram__bytes_write.sum": 200.0}
    assert only(facts_of(tmp_path, launch(FP32 | moved)))["dram_flop_per_byte"] == pytest.approx(2)


def test_roofs_are_peaks_at_the_measured_clock(tmp_path):
    peaks = {
        "dram__bytes.sum.peak_sustained": 96.0,
        "lts__t_bytes.sum.peak_sustained": 1_024.0,
        PEAK.format("f"): 10_240.0,
        PEAK.format("d"): 160.0,
        "lts__t_bytes.sum": 1.0,
    }
    found = roofs(facts_of(tmp_path, launch(FP32 | CLOCKS | peaks)))
    assert found["dram"] == (pytest.approx(96 * 2e9), MEASURED)
    assert found["l2"] == (pytest.approx(1_024 * 1.5e9), MEASURED)
    assert found["fp32"] == (pytest.approx(2 * 10_240 * 1e9), MEASURED)
    assert found["fp64"] == (pytest.approx(2 * 160 * 1e9), MEASURED)
    assert set(found) == {"dram", "l2", "fp32", "fp64"}


def test_bytes_and_roof_of_a_cache_are_of_one_kind(tmp_path):
    both = {
        "lts__t_bytes.sum": 9_000.0,
        "derived__lts__lts2xbar_bytes.sum.per_second": 4e9,
        "derived__lts__lts2xbar_bytes.sum.peak_sustained": 12_032.0,
    }
    facts = facts_of(tmp_path, launch(FP32 | CLOCKS | both))
    assert only(facts)["l2_bytes_per_s"] == pytest.approx(4e9)
    assert roofs(facts)["l2"][0] == pytest.approx(12_032 * 1.5e9)


@pytest.mark.parametrize(
    ("clock", "source", "hertz"),
    [
        ({"sm__cycles_elapsed.avg.per_second": 1.3e9}, GUIDE, 1.3e9),
        ({"device__attribute_clock_rate": 1_710_000.0}, GUIDE_AT_MOST, 1.71e9),
    ],
)
def test_a_roof_from_a_table_says_so(tmp_path, clock, source, hertz):
    gpu = {
        "device__attribute_compute_capability_major": 8.0,
        "device__attribute_compute_capability_minor": 6.0,
        "device__attribute_multiprocessor_count": 80.0,
    }
    found = roofs(facts_of(tmp_path, launch(FP32 | gpu | clock)))
    assert found["fp32"] == (pytest.approx(2 * 128 * 80 * hertz), source)
    assert found["fp64"] == (pytest.approx(2 * 2 * 80 * hertz), source)


def test_an_unknown_gpu_gets_no_roof(tmp_path):
    gpu = {
        "device__attribute_compute_capability_major": 99.0,
        "device__attribute_compute_capability_minor": 0.0,
        "device__attribute_multiprocessor_count": 80.0,
    }
    assert roofs(facts_of(tmp_path, launch(FP32 | gpu | CLOCKS))) == {}


def test_tensor_operations_are_those_that_were_counted_without_integers(tmp_path):
    ops = {
        "sm__ops_path_tensor_src_bf16_dst_fp32.sum": 5_000.0,
        "sm__ops_path_tensor_src_fp64.sum": 1_000.0,
        "sm__ops_path_tensor_src_int8.sum": 9_000.0,
        "sm__ops_path_tensor_src_bf16_dst_fp32.sum.peak_sustained": 8_192.0,
        "sm__ops_path_tensor_src_fp4_dst_fp32.sum": 0.0,
        "sm__ops_path_tensor_src_fp4_dst_fp32.sum.peak_sustained": 99_999.0,
    }
    facts = facts_of(tmp_path, launch(FP32 | CLOCKS | ops))
    kernel = only(facts)
    assert kernel["tensor_flop_per_s"] == pytest.approx(6_000 / 1e-6)
    assert kernel["flop_per_s"] == pytest.approx(7_000 / 1e-6)
    assert roofs(facts)["tensor"] == (pytest.approx(8_192e9), MEASURED)


def test_instructions_of_tensor_cores_are_no_operations(tmp_path):
    ran = {"sm__inst_executed_pipe_tensor.sum": 7.0}
    facts = facts_of(tmp_path, launch(FP32 | ran))
    assert np.isnan(only(facts)["tensor_flop_per_s"])
    assert only(facts)["tensor_uncounted"]
    assert "tensor-core work" in roofline_of(facts).missing


def test_launches_of_a_kernel_are_weighed_with_their_time(tmp_path):
    twice = {name: 2 * value for name, value in FP32.items()}
    slow = launch(FP32 | {"dram__bytes.sum": 100.0}, duration_ns=3 * MICROSECOND)
    kernel = only(facts_of(tmp_path, slow, launch(twice | {"dram__bytes.sum": 700.0})))
    assert kernel["flop_per_s"] == pytest.approx((1_000 + 2_000) / 4e-6)
    assert kernel["dram_flop_per_byte"] == pytest.approx(3_000 / 800)
    assert (kernel["launches"], kernel["ns"]) == (2, 4_000)


def test_traffic_without_a_peak_lacks_the_peak_only(tmp_path):
    moved = {"dram__bytes.sum": 500.0, "lts__t_bytes.sum": 2_000.0}
    missing = set(roofline_of(facts_of(tmp_path, launch(FP32 | moved))).missing)
    assert missing >= {
        "peak device-memory bandwidth",
        "peak L2-cache bandwidth",
        "peak arithmetic throughput",
    }
    assert not any(what.startswith("traffic") for what in missing)


def test_what_the_chart_lacks_names_the_command(tmp_path):
    facts = facts_of(tmp_path, launch({}))
    analysis = investigate(facts.trace, facts=facts)
    lacks = roofline_summary(inside_of(facts), facts, analysis.ledger)["lacks"]
    assert "--section SpeedOfLight_RooflineChart" in lacks
    assert "regex:^(kernel)$" in lacks
    assert analysis.report.totals["roofline"]["lacks"] == lacks


def test_a_timeline_has_no_roofline(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0], "duration_us": 5})
    assert roofline_summary(inside_of(facts), facts, None) == {}
    assert counted(facts).empty


def test_the_losses_of_kernels_are_those_of_the_account(tmp_path):
    facts = build_facts(open_trace(counter_scenarios.idle_lanes(), tmp_path))
    table = counted(facts)
    assert table["ns"].sum() == facts.duration_ns.sum()
    assert (
        table[[LOST.format(p.name.lower()) for p in Part]].sum(axis=1) == table["lost_ns"]
    ).all()
    assert (table["lost_ns"] <= table["ns"]).all()
    march = table[table["name"].str.contains("march_rays")].iloc[0]
    assert Part(march["part"]) is Part.IDLE_LANES
    assert march["lanes"] == pytest.approx(15.5)


def test_every_part_of_a_loss_has_a_rule_that_tells_more():
    assert set(RULE_OF_PART) == set(Part)
    assert set(RULE_OF_PART.values()) <= {rule_id(rule) for rule in all_rules()}


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (counter_scenarios.dram_bound, "Limited by device memory"),
        (counter_scenarios.l2_bound, "Limited by the L2 cache"),
        (counter_scenarios.latency_bound, "Limited by latency"),
        (counter_scenarios.fp64, "Limited by compute"),
    ],
)
def test_the_limiter_is_told_in_words(tmp_path, scenario, words):
    table = counted(build_facts(open_trace(scenario(), tmp_path)))
    assert limiter_words(table.iloc[0]).startswith(words)


def real(name, tmp_path):
    path = REAL / name
    if not path.exists():
        pytest.skip("no real recordings here")
    return build_facts(open_trace(path, tmp_path))


def test_a_real_report_of_an_a10g_by_hand(tmp_path):
    facts = real("ncu_rep/AveryClapp__ESMM-Research__profile_output.ncu-rep", tmp_path)
    first = counted(facts).iloc[0]
    assert "one_blocktiling" in first["name"]
    # 1,891.54877582 fused operations a cycle, at 1.31508127 GHz; no others.
    assert first["fp32_flop_per_s"] == pytest.approx(2 * 1_891.54877582 * 1.31508127e9, rel=1e-8)
    assert first["dram_flop_per_byte"] == pytest.approx(4.9750807e12 / 4.79116317e10, rel=1e-7)
    found = roofs(facts)
    # 96 bytes a cycle at 6.2 GHz, of 600 GB/s that the data sheet states; 80 * 128 units.
    assert found["dram"][0] == pytest.approx(5.987e11, rel=1e-3)
    assert found["fp32"][0] == pytest.approx(2 * 80 * 128 * 1.3126e9, rel=1e-3)
    assert found["fp64"][0] == pytest.approx(found["fp32"][0] / 64)
    assert {source for _, source in found.values()} == {MEASURED}
    assert list(roofline_of(facts).missing) == ["L2-cache traffic"]


def test_a_real_report_without_peaks_has_roofs_of_the_table(tmp_path):
    facts = real("ncu_rep/AveryClapp__ESMM-Research__profile.8fce663.ncu-rep", tmp_path)
    found = roofs(facts)
    assert found["dram"] == (pytest.approx(6_251e6 * 2 * 384 / 8), STATED)
    assert found["fp32"][1] == GUIDE
    assert np.isnan(counted(facts)["flop_per_s"]).all()


def test_a_real_report_of_a_blackwell_has_every_roof(tmp_path):
    name = "NVIDIA__JAX-Toolbox__cuda-examples__ncu_report_cuda_graph_pdl_stream_capture.ncu-rep"
    facts = real(f"ncu_rep/{name}", tmp_path)
    found = roofs(facts)
    assert set(found) == {"dram", "l2", "l1", "fp16", "fp32", "fp64"}
    assert found["dram"][0] == pytest.approx(7.87e12, rel=1e-2)  # 8 TB/s by the data sheet
    assert roofline_of(facts).missing == {}


def test_an_opened_recording_stores_its_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYSLOW_DATA_DIR", str(tmp_path))
    opened = api.open_recording(counter_scenarios.dram_bound())
    stored = opened.stored.counted()
    assert stored["name"].tolist() == ["add(float *)"]
    assert opened.stored.report.totals["roofline"]["gpu"] == "SYNTHETIC (no GPU ran)"


def test_the_table_of_the_guide_agrees_with_the_real_peaks(tmp_path):
    facts = real("ncu_rep/AveryClapp__ESMM-Research__profile_output.ncu-rep", tmp_path)
    half, single, double = (
        facts.counters.metric(PEAK.format(letter))[0] / 80 for letter in ("h", "f", "d")
    )
    # An instruction in half precision has two results.
    assert (2 * half, single, double) == roofline.RESULTS_PER_CLOCK[8, 6]
