"""The account of the busy time: exact sums, whose work each kernel is, how far below its roof."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzers.facts.facts import build_facts
from analyzers.facts.spans import Iteration, Window
from analyzers.finding import Row
from analyzers.ledger.ledger import build_ledger
from analyzers.work.account import account_of_work, utilisation, work_of_launches
from analyzers.work.calls import operator_calls
from analyzers.work.classes import CLASSES
from analyzers.work.roofs import parse_peaks
from tests.test_ledger_properties import recordings
from tests.torch_traces import call, kernel, opener, x
from tests.traces_in_memory import build

GPU = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "numSms": 132, "computeMajor": 9}
PRODUCT = {"Input Dims": [[4096, 4096], [4096, 4096]], "Input type": ["c10::Half"] * 2}
SUM = {"Input Dims": [[4096, 4096], [4096, 4096], []], "Input type": ["float", "float", "Scalar"]}
PRODUCT_NS = 2 * 4096**3 / 989.4e12 * 1e9  # 138.9 µs
SUM_NS = 3 * 4 * 4096**2 / 3.35e12 * 1e9  # 60.1 µs
FULL_GRID = {"grid": [8_448, 1, 1], "block": [256, 1, 1], "shared memory": 0}
GEMM, ADD = "ampere_h16816gemm_128x128", "void at::native::vectorized_elementwise_kernel<4, Add>"


def op(name, start, duration, inputs=(), tid=701):
    return x("cpu_op", name, start, duration, tid=tid, **dict(inputs))


def launched(number, host, device, duration, name, tid=701, stream=7):
    return [
        call(host, number, dur=1, tid=tid),
        kernel(device, number, dur=duration, name=name, stream=stream, tid=stream, **FULL_GRID),
    ]


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


def facts_of(opened, *events):
    flat = [one for event in events for one in (event if isinstance(event, list) else [event])]
    return build_facts(opened(flat, deviceProperties=[GPU]))


def work_of(facts, window=None, peaks=None):
    start, end = facts.launches["start_ns"].min(), facts.launches["end_ns"].max()
    window = window or Window(start_ns=int(start), end_ns=int(end))
    return work_of_launches(facts, window, peaks)


def account(facts, window=None, peaks=None):
    return account_of_work(facts, work_of(facts, window, peaks))


def test_a_product_and_a_sum_are_measured_against_their_roofs(opened):
    facts = facts_of(
        opened,
        op("aten::mm", 0, 10, PRODUCT),
        launched(1, 2, 100, 200, GEMM),
        op("aten::add", 20, 10, SUM),
        launched(2, 22, 300, 50, ADD),
    )
    rows = account(facts).rows.set_index("operator")
    product, add = rows.loc["aten::mm"], rows.loc["aten::add"]
    assert (product["class"], product["bound"], product["type"]) == ("matmul", "compute", "fp16")
    assert product["roof_ns"] == round(PRODUCT_NS)
    assert product["below_roof_ns"] == 200_000 - round(PRODUCT_NS)
    assert not product["is_above_roof"]
    # Faster than device memory could be: a cache served it, and it counts as being at the roof.
    assert (add["busy_ns"], add["roof_ns"], add["below_roof_ns"]) == (50_000, 50_000, 0)
    assert add["is_above_roof"]
    assert add["least_ns"] == round(SUM_NS)
    assert (add["flop_each"], add["bytes_each"]) == (4096**2, 12 * 4096**2)


def test_the_kernels_of_one_call_share_its_least_time(opened):
    events = [op("aten::mm", 0, 10, PRODUCT)]
    events += [launched(1, 2, 100, 300, GEMM), launched(2, 4, 400, 100, "splitKreduce_kernel")]
    work = work_of(facts_of(opened, *events))
    assert work.launches["least_ns"].tolist() == pytest.approx(
        [0.75 * PRODUCT_NS, 0.25 * PRODUCT_NS]
    )
    rows = account(facts_of(opened, *events)).rows
    assert (rows["calls"].tolist(), rows["launches"].tolist()) == ([1], [2])


def test_the_innermost_operator_with_a_model_is_counted_once(opened):
    linear = {"Input Dims": [[64, 32], [16, 32], []], "Input type": ["float", "float", ""]}
    inner = {"Input Dims": [[64, 32], [32, 16]], "Input type": ["float", "float"]}
    facts = facts_of(
        opened,
        op("aten::linear", 0, 20, linear),
        op("aten::mm", 2, 6, inner),
        launched(1, 3, 100, 50, GEMM),
        launched(2, 12, 200, 10, "my_epilogue"),
    )
    calls = operator_calls(facts)
    assert calls.is_modelled.tolist() == [True, False]  # what is left of linear is not linear
    assert calls.keys["operator"].iloc[calls.key[0]] == "aten::mm"


def test_a_bias_that_is_added_inside_a_convolution_is_a_sum_of_its_own(opened):
    conv = {"Input Dims": [[2, 4, 8, 8], [8, 4, 3, 3], [8], [], [], [], [], [], []]}
    conv |= {"Input type": ["float"] * 3 + ["ScalarList"] * 3 + ["Scalar", "ScalarList", "Scalar"]}
    values = ["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "False", "[0, 0]", "1"]
    conv |= {"Concrete Inputs": values}
    cudnn = {
        "Input Dims": conv["Input Dims"][:2] + [[]] * 7,
        "Input type": ["float"] * 2 + [""] * 7,
    }
    cudnn |= {"Concrete Inputs": ["", "", "[1, 1]", "[1, 1]", "[1, 1]", "1", "", "", ""]}
    bias = {
        "Input Dims": [[2, 8, 8, 8], [1, 8, 1, 1], []],
        "Input type": ["float"] * 2 + ["Scalar"],
    }
    facts = facts_of(
        opened,
        op("aten::convolution", 0, 30, conv),
        op("aten::cudnn_convolution", 2, 10, cudnn),
        launched(1, 3, 100, 50, "implicit_convolve_sgemm"),
        op("aten::add_", 15, 10, bias),
        launched(2, 16, 200, 10, ADD),
    )
    rows = account(facts).rows
    assert rows["operator"].tolist() == ["aten::convolution", "aten::add_"]
    assert (rows["not_modelled_ns"] == 0).all()


def test_an_old_convolution_takes_the_shape_of_its_output_from_the_gradient(opened):
    x_, w, g = [2, 4, 8, 8], [8, 4, 3, 3], [2, 8, 4, 4]
    forward = {"Input dims": [x_, w, [], []], "Input type": ["float", "float", "Int", "Int"]}
    backward = {"Input dims": [x_, g, w], "Input type": ["float"] * 3}
    events = [
        x("Operator", "aten::cudnn_convolution", 0, 10, **forward),
        launched(1, 2, 100, 50, "volta_scudnn_128x64"),
    ]
    alone = account(facts_of(opened, *events)).rows
    events += [x("Operator", "aten::cudnn_convolution_backward", 20, 10, **backward)]
    events += [launched(2, 22, 200, 90, "volta_scudnn_128x64")]
    both = account(facts_of(opened, *events)).rows.set_index("operator")
    assert alone["not_modelled_ns"].tolist() == [50_000]
    assert both.loc["aten::cudnn_convolution", "flop_each"] == 2 * 2 * 8 * 16 * 36


def test_replayed_graphs_are_classed_by_their_kernels_and_not_modelled(opened):
    facts = facts_of(
        opened,
        op("aten::mm", 0, 10, PRODUCT),
        [call(2, 1, "cudaGraphLaunch", dur=1), kernel(100, 1, name=GEMM)],
        [kernel(200, 1, name=ADD)],
    )
    table = account(facts).classes
    assert sorted(table["class"]) == ["elementwise", "matmul"]
    assert (table["not_modelled_ns"] == table["busy_ns"]).all()


def test_kernels_side_by_side_share_the_time(opened):
    facts = facts_of(
        opened,
        op("aten::mm", 0, 10, PRODUCT),
        launched(1, 2, 100, 400, GEMM),
        op("aten::add", 20, 10, SUM),
        launched(2, 22, 200, 200, ADD, stream=8),
    )
    rows = account(facts).rows.set_index("operator")
    assert rows.loc["aten::mm", "busy_ns"] == 300_000
    assert rows.loc["aten::add", "busy_ns"] == 100_000
    assert rows.loc["aten::add", "roof_ns"] == round(SUM_NS)


def test_half_a_call_has_half_its_least_time(opened):
    facts = facts_of(opened, op("aten::mm", 0, 10, PRODUCT), launched(1, 2, 100, 400, GEMM))
    row = account(facts, Window(start_ns=300_000, end_ns=600_000)).rows.iloc[0]
    assert (row["busy_ns"], row["roof_ns"]) == (200_000, round(PRODUCT_NS / 2))


def test_unknown_devices_have_shares_and_no_roof_until_one_is_given(opened):
    events = [op("aten::mm", 0, 10, PRODUCT), *launched(1, 2, 100, 400, GEMM)]
    facts = build_facts(opened(events, deviceProperties=[{"id": 0, "name": "Some GPU"}]))
    row = account(facts).classes.iloc[0]
    assert (row["class"], row["not_modelled_ns"]) == ("matmul", 400_000)
    row = account(facts, peaks=parse_peaks("fp16=989.4e12,hbm=3.35e12")).classes.iloc[0]
    assert row["roof_ns"] == round(PRODUCT_NS)


def test_utilisation_counts_what_is_recomputed_apart(opened):
    backward = "autograd::engine::evaluate_function: CheckpointFunctionBackward"
    linear = {"Input Dims": [[4096, 4096], [4096, 4096], []]}
    linear |= {"Input type": ["c10::Half", "c10::Half", ""]}
    facts = facts_of(
        opened,
        op("aten::mm", 0, 10, PRODUCT),
        launched(1, 2, 100, 200, GEMM),
        op(backward, 20, 30),
        op("aten::linear", 22, 10, linear),
        op("aten::mm", 23, 6, PRODUCT),
        launched(2, 24, 300, 200, GEMM),
        op("aten::mm", 40, 6, PRODUCT),
        launched(3, 42, 500, 200, GEMM),
    )
    window = Window(start_ns=100_000, end_ns=700_000)
    steps = [
        Iteration(name="a", start_ns=100_000, end_ns=300_000),
        Iteration(name="b", start_ns=300_000, end_ns=700_000),
    ]
    device = utilisation(facts, work_of(facts, window), window, steps)["devices"][0]
    assert device["model_flop"] == 4 * 4096**3
    assert device["recomputed_flop"] == 2 * 4096**3
    assert device["share"] == pytest.approx(2 * PRODUCT_NS / 600_000)
    assert device["iterations"] == pytest.approx([PRODUCT_NS / 200_000, PRODUCT_NS / 400_000])


def test_tensor_cores_in_tf32_are_told_by_the_kernel(opened):
    full = {**PRODUCT, "Input type": ["float", "float"]}
    name = "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4>"
    facts = facts_of(opened, op("aten::mm", 0, 9, full), launched(1, 2, 100, 900, name))
    assert account(facts).rows["type"].tolist() == ["tf32"]
    facts = facts_of(opened, op("aten::mm", 0, 9, full), launched(1, 2, 100, 9000, "sgemm_nn"))
    row = account(facts).rows.iloc[0]
    assert row["roof_ns"] == pytest.approx(2 * 4096**3 / 67e12 * 1e9, abs=1)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(recordings())
def test_the_account_sums_to_the_kernel_time_of_each_device(recording):
    tables, window = recording
    with tempfile.TemporaryDirectory() as folder:
        facts = build(Path(folder), **tables)
        ledger, result = build_ledger(facts, window), account(facts, window)
    for device in ledger.devices:
        for table in (result.classes, result.rows):
            rows = table[table["device"] == device.key] if len(table) else table
            parts = [
                int(rows[name].sum()) if len(rows) else 0
                for name in ("busy_ns", "roof_ns", "below_roof_ns", "not_modelled_ns")
            ]
            assert parts[0] == device.rows[Row.KERNEL] == sum(parts[1:])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(1, 200), st.sampled_from([0, 1, 2])), min_size=1
    ),
    st.integers(0, 400),
    st.integers(1, 400),
)
def test_modelled_and_other_kernels_sum_to_the_ledger(tmp_path_factory, spans, begin, length):
    events = []
    for n, (start, duration, kind) in enumerate(spans):
        name, inputs = [("aten::mm", PRODUCT), ("aten::add", SUM), ("odd::one", ())][kind]
        events += [op(name, 10 * n, 9, inputs)]
        device = 10_000 + start
        events += launched(n + 1, 10 * n + 1, device, duration, GEMM, stream=7 + n)
    facts = build_facts(opener(tmp_path_factory.mktemp("t"))(events, deviceProperties=[GPU]))
    first = int(facts.launches["start_ns"].min())
    window = Window(start_ns=first + begin * 1000, end_ns=first + (begin + length) * 1000)
    table = account(facts, window).classes
    total = table[["roof_ns", "below_roof_ns", "not_modelled_ns"]].to_numpy().sum()
    assert total == table["busy_ns"].sum() == build_ledger(facts, window).total_ns(Row.KERNEL)
    assert (table[["roof_ns", "below_roof_ns", "not_modelled_ns"]] >= 0).all(axis=None)
    assert set(table["class"]) <= {c.value for c in CLASSES}
    assert np.isfinite(table["flop"]).all()
