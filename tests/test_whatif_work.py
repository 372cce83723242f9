"""What-ifs about the work of kernels: nearer to the roof, fused, in narrower types."""

import pytest

from analyzers.facts.facts import build_facts
from analyzers.whatif.whatif import explore
from analyzers.work.account import work_of_launches, work_rows
from benchmarks.change_experiments import EXPERIMENTS, HELD_OUT, outcome
from benchmarks.simulated.cases import Maker, one_thread
from benchmarks.simulated.known_work import Call
from benchmarks.simulated.program import Kernel, Work
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from benchmarks.simulated.torch_recorder import TorchRecorder
from collectors import open_trace
from tests.whatif_helpers import about, facts_of, whole, why_not

US = 1_000
PRODUCT = Call("mm", 4_096, 4_096, "bf16", 4_096)  # 138.9 µs on an H100
GELU = Call("gelu", 4_096, 4_096, "bf16")  # 20.03 µs


def predicted(tmp_path, *calls, times=30, device_peaks=None):
    """Predict for operators (call, share of the roof) that the host is far ahead of."""
    make = Maker(1)
    make.about = lambda ns, *_: max(1, round(ns))  # all lengths as they are said
    operations = [
        o for _ in range(times) for call, share in calls for o in call.operations(make, share)
    ]
    facts = facts_of(tmp_path, one_thread(operations))
    return explore(facts, whole(facts), device_peaks=device_peaks)


def test_both_profilers_record_the_same_work(tmp_path):
    make = Maker(1)
    operations = [*PRODUCT.operations(make, 0.5), *GELU.operations(make, 0.9)]
    tables = []
    for recorder, name in ((Recorder(), "a.sqlite"), (TorchRecorder(), "b.json.gz")):
        execute(one_thread(operations), recorder=recorder)
        facts = build_facts(open_trace(recorder.write(tmp_path / name), tmp_path / "cache"))
        window = whole(facts)
        rows = work_rows(facts, work_of_launches(facts, window))[0]
        tables.append(rows[["operator", "shapes", "type", "flop_each", "bytes_each"]])
    assert tables[0].equals(tables[1])
    assert tables[0]["bytes_each"].tolist() == [PRODUCT.bytes, GELU.bytes]


def test_kernels_come_to_eighty_percent_of_their_roof(tmp_path):
    known = predicted(tmp_path, (PRODUCT, 0.4), (GELU, 0.9))
    roof = about(known, "kernels.roof")
    assert (roof.count, roof.cause) == (30, "compute")  # the other kernels are nearer
    window = 30 * (PRODUCT.least_ns / 0.4 + GELU.least_ns / 0.9)
    after = 30 * (PRODUCT.least_ns / 0.8 + GELU.least_ns / 0.9)
    # Kernels follow each other after 1.3 µs on this device.
    assert roof.measured_ns == pytest.approx(window, rel=0.02)
    assert roof.low_ns <= after * 1.02
    assert roof.high_ns >= after
    assert (
        roof.title == "bringing all kernels whose work is known to 80 % of the roof (30 launches)"
    )


def test_what_the_user_says_about_the_gpu_counts_in_predictions_too(tmp_path):
    half = {"bf16": 989.4e12 / 2}
    known = predicted(tmp_path, (PRODUCT, 0.4), device_peaks=half)
    assert "at 80 % of the roof" in why_not(known, "kernels.roof")  # 0.4 of twice the peak


def test_each_class_has_its_own_prediction(tmp_path):
    known = predicted(tmp_path, (PRODUCT, 0.5), (GELU, 0.2))
    gains = {p.change: p.gain_ns for p in known.predictions if p.change.startswith("kernels.roof")}
    assert set(gains) == {f"kernels.roof{c}" for c in ("", ":matmul", ":elementwise")}
    assert max(gains, key=gains.get) == "kernels.roof"
    assert about(known, "kernels.roof:elementwise").cause == "bandwidth"


@pytest.mark.parametrize(("share", "wins"), [(0.79, True), (0.794, False), (0.9, False)])
def test_a_gain_of_a_hundredth_of_the_window_is_said(tmp_path, share, wins):
    known = predicted(tmp_path, (PRODUCT, share))
    assert wins == any(p.change == "kernels.roof" for p in known.predictions)
    if not wins:
        assert "at 80 % of the roof" in why_not(known, "kernels.roof")


def test_a_chain_is_launched_once_and_moves_less(tmp_path):
    known = predicted(tmp_path, (PRODUCT, 0.7), (GELU, 0.5), (GELU, 0.5), (GELU, 0.5))
    fusion = about(known, "fusion")
    assert (fusion.count, fusion.cause) == (90, "bandwidth")
    chain = 30 * GELU.least_ns / 0.5
    kept = 30 * PRODUCT.least_ns / 0.7
    assert fusion.low_ns >= kept + chain  # of six tensors, two are left
    assert fusion.low_ns <= (kept + chain) * 1.03
    assert fusion.high_ns >= kept + 2 * chain  # or the two in between are written, too
    assert "fusing 30 chains of 90 memory-bound kernels" in fusion.title


def test_a_lone_memory_bound_kernel_cannot_be_fused(tmp_path):
    known = predicted(tmp_path, (PRODUCT, 0.7), (GELU, 0.5))
    assert "no chain" in why_not(known, "fusion")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("fp32", {"precision", "precision:tf32"}), ("tf32", {"precision"}), ("bf16", ())],
)
def test_products_in_32_bits_have_narrower_types(tmp_path, kind, changes):
    call = Call("mm", 4_096, 4_096, kind, 4_096)
    known = predicted(tmp_path, (call, 0.6), times=10)
    predictions = {p.change: p for p in known.predictions if p.change.startswith("precision")}
    assert set(predictions) == set(changes)
    for name, one in predictions.items():
        narrow = Call("mm", 4_096, 4_096, "tf32" if ":" in name else "bf16", 4_096)
        at_best = int(10 * narrow.least_ns / 0.6)
        assert at_best <= one.low_ns <= at_best * 1.15
        assert one.high_ns == pytest.approx(2 * at_best, rel=0.1)


def test_without_shapes_nothing_is_predicted(tmp_path):
    kernels = [o for _ in range(30) for o in (Work(2 * US, is_dispatch=True), Kernel(50 * US))]
    facts = facts_of(tmp_path, one_thread(kernels))
    known = explore(facts, whole(facts))
    for change in ("kernels.roof", "fusion", "precision"):
        assert "needs the shapes of operators" in why_not(known, change)


def test_no_kernel_becomes_shorter_than_an_empty_one(tmp_path):
    small = Call("gelu", 64, 64, "bf16")  # 5 ns
    known = predicted(tmp_path, (small, small.least_ns / (4 * US)), times=100)
    assert about(known, "kernels.roof").low_ns >= 100 * 1_600
    assert about(known, "fusion").low_ns >= 1_600
    product = Call("mm", 64, 64, "fp32", 64)
    precision = about(predicted(tmp_path, (product, product.least_ns / (5 * US))), "precision")
    assert precision.low_ns >= 30 * 1_600
    assert precision.speedup[0] < 1.01  # at 0.2 % of the roof something else holds it up


def test_what_the_host_holds_up_afterwards_is_in_the_range():
    """A faster machine would have been held up before: there the change wins next to nothing."""
    experiment = next(e for e in EXPERIMENTS if e.change == "kernels.roof")
    assert outcome(experiment, HELD_OUT + 13).is_covered
