"""Chains that one kernel could carry out: what they lose, where, and what fusing them wins."""

import pytest

from analyzers.analysis import investigate
from analyzers.finding import Cause, Confidence
from analyzers.losses.kernel_work import WorkPattern, work_losses
from analyzers.verdict import VerdictBasis, _culprit
from reports.diagnosis import _loss
from tests.test_work_account import ADD, FULL_GRID, GEMM, GPU, launched, op
from tests.torch_traces import call, kernel, opener, x

RULE = "bandwidth.unfused_chains"
WHOLE = {"Input Dims": [[4096, 4096], [4096, 4096]], "Input type": ["float", "float"]}
HALF = {"Input Dims": [[4096, 2048], [4096, 2048]], "Input type": ["float", "float"]}
THIRD_US = 100 / 3  # of a sum of 100 µs: one of the three tensors that it reads and writes


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


def eager(opened, product_us, second=WHOLE, steps=10, late_us=0, devices=(GPU,)):
    """Steps of a product, and of a multiplication and a sum of 100 µs each."""
    events, length = [], product_us + 200 + late_us
    rows = 4096 * product_us // 200  # at 69 % of the peak, however long
    factors = {"Input Dims": [[rows, 4096], [4096, 4096]], "Input type": ["c10::Half"] * 2}
    for step in range(steps):
        at, begin = 30 * step, 1_000 + step * length
        if late_us:  # the host submits a step when it is through with something else
            at, begin = step * length, 40 + step * length
        events += [op("aten::mm", at, 9, factors), op("aten::mul", at + 10, 9, WHOLE)]
        events += [x("python_function", "train.py(7): block", at + 9.5, 20)]
        events += [op("aten::add", at + 20, 9, second)]
        events += launched(3 * step + 1, at + 1, begin, product_us, GEMM)
        events += launched(3 * step + 2, at + 11, begin + product_us, 100, ADD)
        events += launched(3 * step + 3, at + 21, begin + product_us + 100, 100, ADD)
    return opened(events, deviceProperties=list(devices))


def finding_of(report):
    return next((f for f in report.findings if f.id == RULE), None)


def test_a_chain_need_not_write_and_read_what_lies_between(opened):
    report = investigate(eager(opened, 700)).report
    finding = finding_of(report)
    assert finding.confidence is Confidence.ESTIMATED
    assert finding.low_ns == pytest.approx(10_000 * THIRD_US, abs=100)
    assert finding.high_ns == pytest.approx(2 * 10_000 * THIRD_US, abs=100)
    assert finding.lost_ns == pytest.approx(500_000, abs=100)
    assert finding.title == (
        "20 kernels of element-wise operations, norms and copies pass up to 1.34 GB of "
        "intermediate results through device memory, most in chains such as mul → add, mostly "
        "called from block (train.py:7); they take 2 ms, 22 % of the window"
    )


def test_a_chain_that_costs_less_than_a_twentieth_is_no_finding(opened):
    assert finding_of(investigate(eager(opened, 790)).report) is not None  # 50 of 990 µs
    assert finding_of(investigate(eager(opened, 810)).report) is None  # 50 of 1,010 µs


def test_operations_on_other_sizes_are_no_chain(opened):
    assert finding_of(investigate(eager(opened, 300, second=HALF)).report) is None


def test_replayed_it_wins_what_it_saves_while_the_gpu_is_behind(opened):
    report = investigate(eager(opened, 200)).report
    finding = finding_of(report)
    assert finding.predicted_gain.low_ns == pytest.approx(finding.low_ns, abs=80_000)
    assert finding.predicted_gain.high_ns == pytest.approx(finding.high_ns, abs=80_000)
    assert report.verdict.cause == "bandwidth"
    assert report.verdict.share == pytest.approx(0.125, abs=0.01)
    assert report.verdict.sentence.startswith("Bandwidth-bound inside kernels (estimated): 20 ")
    assert "Fusing such chains of kernels would win an estimated " in report.verdict.sentence
    assert _loss(finding, 4_000_000, 1).startswith(
        "Fixing this saves an estimated 500 µs, 333 µs to 667 µs, 12.5 % of the time in use "
        "(row kernel, estimated). Estimate: "
    )


def test_replayed_it_wins_next_to_nothing_where_the_host_is_behind(opened):
    report = investigate(eager(opened, 300, late_us=200)).report
    finding = finding_of(report)
    assert finding.lost_ns >= 490_000
    assert not finding.predicted_gain.is_sure
    assert report.verdict.cause != "bandwidth"


def test_a_smaller_loss_ends_the_sentence_of_a_healthy_program(opened):
    verdict = investigate(eager(opened, 600)).report.verdict
    assert verdict.cause == "healthy"
    assert verdict.sentence.startswith(
        "Healthy on the timeline and, as estimated from shapes, inside kernels: no cause costs 10 %"
    )
    busy_time, _, wins = verdict.sentence.partition(" Fusing such chains of kernels would win ")
    assert busy_time.endswith("(estimated from the shapes of operators).")
    assert wins.startswith("an estimated ")


def test_no_nanosecond_is_claimed_of_kernels_that_fill_too_little_of_the_gpu(opened):
    """Whoever claims the grid first leaves the rest; both together fit into the kernels' time."""
    events = []
    for step in range(10):
        at, begin = 30 * step, 1_000 + 400 * step
        for n, name in enumerate(("aten::mul", "aten::add")):
            events.append(op(name, at + 10 * n, 9, WHOLE))
            events += [call(at + 10 * n + 1, 2 * step + n + 1, dur=1)]
            small = FULL_GRID | {"grid": [13, 1, 1]}
            events.append(kernel(begin + 200 * n, 2 * step + n + 1, dur=200, name=ADD, **small))
    analysis = investigate(opened(events, deviceProperties=[GPU]))
    claims = {f.id: f.lost_ns for f in analysis.report.findings}
    assert claims["parallelism.small_grid"] >= 3_500_000
    assert sum(claims.values()) <= 4_000_000
    assert WorkPattern.CHAINS not in work_losses(analysis.facts, analysis.ledger)


def test_devices_lose_each_for_themselves(opened):
    two = [dict(GPU), {**GPU, "id": 1}]
    alone = finding_of(investigate(eager(opened, 300, devices=two)).report)
    assert alone.lost_ns == pytest.approx(500_000, abs=100)


def test_what_fusing_wins_does_not_end_a_sentence_about_copies(opened):
    analysis = investigate(eager(opened, 200))
    basis = VerdictBasis(
        facts=analysis.facts,
        ledger=analysis.ledger,
        quality=(),
        findings=analysis.report.findings,
    )
    assert _culprit(basis, Cause.BANDWIDTH, 1) == ""
