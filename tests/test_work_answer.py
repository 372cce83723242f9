"""What the report says of the busy time: JSON rows that sum, one sentence, peaks from the user."""

import json

import pytest

from analyzers.analysis import investigate
from analyzers.facts.facts import build_facts
from analyzers.finding import Row
from analyzers.report import Report
from analyzers.work import answer
from analyzers.work.roofs import parse_peaks
from tests.test_work_account import ADD, GEMM, GPU, PRODUCT, PRODUCT_NS, SUM, launched, op
from tests.torch_traces import opener


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


def busy_program(opened, steps=10, device=GPU, inputs=(PRODUCT, SUM)):
    """A GPU that always has work: products of 200 µs, sums of 100 µs."""
    events = []
    for step in range(steps):
        at = 20 * step
        events += [op("aten::mm", at, 9, inputs[0]), op("aten::add", at + 10, 9, inputs[1])]
        events += launched(2 * step + 1, at + 1, 1_000 + 300 * step, 200, GEMM)
        events += launched(2 * step + 2, at + 11, 1_200 + 300 * step, 100, ADD)
    return opened(events, deviceProperties=[device])


def test_rows_of_the_json_sum_to_the_kernel_row_of_the_ledger(opened):
    report = investigate(busy_program(opened)).report
    data = json.loads(report.to_json())
    ledger = data["devices"][0]["ledger"]["kernel"]
    for key in ("work", "classes"):
        parts = [
            sum(row[name] for row in data[key])
            for name in ("busy_ns", "roof_ns", "below_roof_ns", "not_modelled_ns")
        ]
        assert parts[0] == ledger == sum(parts[1:]) == report.devices[0].rows[Row.KERNEL]
    assert Report.from_dict(data) == report


def test_a_row_has_operations_and_bytes_of_one_call_and_times_of_all(opened):
    row = investigate(busy_program(opened)).report.work[0]
    assert (row["operator"], row["class"], row["bound"]) == ("aten::mm", "matmul", "compute")
    assert (row["calls"], row["launches"], row["busy_ns"]) == (10, 10, 2_000_000)
    assert (row["flop"], row["bytes"]) == (2 * 4096**3, 3 * 2 * 4096**2)
    assert row["roof_ns"] == pytest.approx(10 * PRODUCT_NS, abs=10)
    assert row["shapes"] == PRODUCT["Input Dims"]
    assert (row["device"], row["device_key"]) == (0, 0)


def test_rows_beyond_the_limit_are_summed_up_by_class(opened, monkeypatch):
    monkeypatch.setattr(answer, "MAX_ROWS", 1)
    report = investigate(busy_program(opened)).report
    assert [row["operator"] for row in report.work] == ["aten::mm", answer.OTHERS]
    assert sum(r["busy_ns"] for r in report.work) == report.devices[0].rows[Row.KERNEL]


def test_a_healthy_verdict_goes_on_with_the_busy_time(opened):
    verdict = investigate(busy_program(opened)).report.verdict
    assert verdict.cause == "healthy"
    assert (
        "67 % of the time is spent in matrix multiplies at 69 % of the peak, 33 % in element-wise "
        "kernels at 60 % of the memory bandwidth (estimated from the shapes of operators)."
    ) in verdict.sentence


def test_what_the_sentence_does_not_know_it_says_how_to_record(opened):
    unknown = {"id": 0, "name": "Some GPU"}
    sentence = investigate(busy_program(opened, device=unknown)).report.verdict.sentence
    assert "this GPU is in no table here, and its peaks were not given" in sentence
    without = busy_program(opened, inputs=((), ()))
    assert "(record_shapes=True)" in investigate(without).report.verdict.sentence


def replayed(opened, product, other_us=10.0):
    """A step that a graph replays, which shows no operators: products and what lies between."""
    events = [op("aten::add", 0, 5, SUM)]
    for n in range(40):
        events += launched(2 * n + 1, 10 + n, 1_000 + n * (30 + other_us), 30, product)
        events += launched(2 * n + 2, 10.5 + n, 1_030 + n * (30 + other_us), other_us, ADD)
    return investigate(opened(events, deviceProperties=[GPU])).report.busy_sentence


@pytest.mark.parametrize(
    ("product", "other_us", "tiles"),
    [
        ("nvjet_hsh_64x8_64x16_4x1_v_bz_TNT", 10.0, "8"),
        ("_matmul_ogs_NNT_bf16xbf16xmxfp4_16x128x256x1", 10.0, "16"),
        ("_matmul_ogs_NNT_bf16xbf16xmxfp4_16x128x256x1", 71.0, ""),  # 29.7 % of the time
        ("Cijk_Alik_Bljk_BBS_BH_MT256x32x64_MI16x16x1", 69.0, "32"),  # 30.3 % of it
        ("Cijk_Alik_Bljk_BBS_BH_MT256x48x64_MI16x16x1", 10.0, ""),
        (GEMM, 10.0, ""),
    ],
)
def test_narrow_tiles_of_replayed_products_tell_of_few_rows(opened, product, other_us, tiles):
    sentence = replayed(opened, product, other_us)
    assert (f"in products whose tiles have {tiles} rows" in sentence) == bool(tiles)
    assert ("whose tiles" in sentence) == bool(tiles)


def test_peaks_that_the_user_gives_are_used(opened):
    trace = busy_program(opened, device={"id": 0, "name": "Some GPU"})
    peaks = parse_peaks("fp16=1978.8e12,hbm=3.35e12")
    report = investigate(trace, device_peaks=peaks).report
    assert report.work[0]["roof_ns"] == pytest.approx(5 * PRODUCT_NS, abs=10)
    assert report.mfu["devices"][0]["peak_flop_per_s"] == 1978.8e12


def test_a_defect_in_the_account_costs_no_answer(opened, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(answer, "ledger_work", fail)
    report = investigate(busy_program(opened)).report
    assert [f.id for f in report.failed] == ["work.account"]
    assert report.verdict.cause == "healthy"
    assert (report.work, report.mfu) == ((), None)


def test_no_work_is_claimed_of_an_empty_recording(opened):
    trace = opened([op("aten::mm", 0, 9, PRODUCT)])
    assert build_facts(trace).launches.empty
    assert investigate(trace).report.work == ()
