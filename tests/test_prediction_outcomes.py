"""A prediction is judged only where the comparison shows that its change was made, and alone."""

import dataclasses

import pytest

from analyzers.compare.comparability import ANYWAY
from analyzers.compare.compare import compare
from analyzers.compare.measure import measure
from analyzers.compare.outcomes import measured_speedup, prediction_outcomes, whole_speedup
from analyzers.compare.prediction_outcomes import OutcomeKind, PredictedSpeedup
from analyzers.compare.types import (
    ComparisonVerdict,
    Difference,
    KernelMatch,
    Level,
    SameWork,
    WorkChange,
)
from benchmarks.change_experiments import EXPERIMENTS, second_run
from benchmarks.simulated import known_work
from benchmarks.simulated.cases import Maker
from benchmarks.simulated.program import Kernel
from reports.predictions import prediction_sentences, untried_sentences
from tests.comparisons_in_memory import comparison, delta
from tests.whatif_helpers import facts_of, typeset

MS = 1_000_000
CHANGES = (
    *(e.change for e in EXPERIMENTS if e.change not in ("kernel", "kernels.roof")),
    *("kernels.roof:matmul", "bandwidth.unfused_chains", "sync.unheard_of"),
)
ALIKE = {"fusion": ["fusion", "bandwidth.unfused_chains"], "kernels.roof": ["kernels.roof:matmul"]}
SEEDS = {"copies.overlapped": 1}  # without pageable copies, which pinning would change as well
UNTOUCHED = ("copies.pinned", "host", "fusion")  # whose programs are run again unchanged
IN_16_BITS = {known_work.PRODUCTS[k]: known_work.PRODUCTS["bf16"] for k in ("fp32", "tf32")}


def predicted(change, low=1.3, high=1.5):
    return PredictedSpeedup(change=change, title=f"changing {change}", low=low, high=high)


def renamed(operations, names):
    """Give kernels the names that they have where they are recorded."""
    return [
        dataclasses.replace(o, name=names.get(o.name, o.name)) if isinstance(o, Kernel) else o
        for o in operations
    ]


@pytest.mark.parametrize("change", [e.change for e in EXPERIMENTS if e.change != "kernel"])
def test_of_all_changes_only_the_one_that_was_made_is_seen(change, tmp_path):
    experiment = next(e for e in EXPERIMENTS if e.change == change)
    seed = SEEDS.get(change, 0)
    program = experiment.programs[seed % len(experiment.programs)](Maker(seed)).program
    runs = [[], [], []]
    for thread in program.threads:
        before = thread.operations
        if change == "graph":
            before = renamed(before, {"gemm_kernel": "graph_node"})  # as nodes are recorded
        after = second_run(experiment.rewrite(before), "after")
        if change == "precision":
            after = renamed(after, IN_16_BITS)
        for run, operations in zip(runs, (before, after, second_run(before, "again")), strict=True):
            run.append(dataclasses.replace(thread, operations=operations))
    runs = runs if change in UNTOUCHED else runs[:2]
    base, new, *again = (
        measure(facts_of(tmp_path, dataclasses.replace(program, threads=t))) for t in runs
    )
    predictions = [predicted(name) for name in CHANGES]
    tried = [o for o in prediction_outcomes(compare([base], [new]), predictions) if o.is_tried]
    assert sorted(o.predicted.change for o in tried) == sorted(ALIKE.get(change, [change]))
    for other in again:
        untouched = prediction_outcomes(compare([base], [other]), predictions)
        assert len(untouched) == len(CHANGES)
        assert not any(o.is_tried for o in untouched)


def with_metric(answer, name, base, new):
    metric = dataclasses.replace(answer.metrics[0], name=name, value=delta(base, new, unit="count"))
    return dataclasses.replace(answer, metrics=(*answer.metrics, metric))


def with_graphs(**changes):
    """Return a comparison from 4 ms to 2 ms in which graphs are launched that were not."""
    return dataclasses.replace(with_metric(comparison(), "graph launches", 0.0, 2.0), **changes)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1.5, 2.0, OutcomeKind.AS_PREDICTED),
        (2.0, 2.5, OutcomeKind.AS_PREDICTED),
        (1.5, 1.97, OutcomeKind.AS_PREDICTED),  # within rounding of it
        (1.5, 1.95, OutcomeKind.UNCERTAIN),  # within the interval of what was measured
        (1.1, 1.7, OutcomeKind.MORE),
        (2.5, 3.0, OutcomeKind.LESS),
    ],
)
def test_a_change_that_was_made_alone_is_judged_by_what_was_measured(low, high, outcome):
    answer = with_graphs()
    assert measured_speedup(answer) == pytest.approx((2.0, 4 / 2.2, 4 / 1.8))
    (judged,) = prediction_outcomes(answer, [predicted("graph", low, high)])
    assert judged.outcome is outcome
    assert judged.evidence == "graph launches 0 to 2"


def test_what_is_said_has_both_numbers_and_what_shows_the_change():
    answer = with_graphs()
    outcomes = prediction_outcomes(answer, [predicted("graph", 1.8, 2.1), predicted("host")])
    answer = dataclasses.replace(answer, predictions=outcomes)
    assert prediction_sentences(answer) == [
        typeset(
            "Predicted before: Changing graph: predicted 1.8-2.1 x, measured 2.0 x (1.8-2.2 x), "
            "as predicted; graph launches 0 to 2."
        )
    ]
    assert untried_sentences(answer) == [
        typeset("Predicted before and not tried (yet): changing host (1.30-1.50 x).")
    ]
    told = answer.to_dict()["predictions"]
    assert [p["outcome"] for p in told] == ["as_predicted", "not_tried"]
    assert told[0]["predicted"] == {
        "change": "graph", "title": "changing graph", "low": 1.8, "high": 2.1
    }  # fmt: skip
    assert "measured 2.0" in told[0]["sentence"]


def test_changes_that_were_made_together_are_judged_together_and_none_alone():
    answer = with_metric(with_graphs(), "allocation calls", 8.0, 4.0)
    outcomes = prediction_outcomes(answer, [predicted("graph"), predicted("memory")])
    assert {o.outcome for o in outcomes} == {OutcomeKind.TOGETHER}
    (sentence,) = prediction_sentences(dataclasses.replace(answer, predictions=outcomes))
    assert "made here together: changing graph" in sentence
    assert "none of them can be judged alone" in sentence
    halfway = with_metric(with_graphs(), "allocation calls", 8.0, 4.1)
    judged = prediction_outcomes(halfway, [predicted("graph"), predicted("memory")])
    assert [o.outcome for o in judged] == [OutcomeKind.MORE, OutcomeKind.NOT_TRIED]


@pytest.mark.parametrize(("kernel_ns", "is_alone"), [(400_000, True), (401_000, False)])
def test_time_that_changed_elsewhere_belongs_to_another_change(kernel_ns, is_alone):
    answer = with_graphs()
    rows = [
        dataclasses.replace(row, change_ns=-kernel_ns if row.row == "kernel" else 0)
        for row in answer.waterfall
    ]
    rows[-1] = dataclasses.replace(rows[-1], change_ns=kernel_ns - 2 * MS)
    answer = dataclasses.replace(answer, waterfall=tuple(rows))
    (outcome,) = prediction_outcomes(answer, [predicted("graph")])
    assert (outcome.outcome is not OutcomeKind.TOGETHER) is is_alone
    assert ("kernel time changed as well" in outcome.evidence) is not is_alone


def test_first_iterations_that_decide_leave_the_judgement_open():
    answer = with_graphs()
    recording = answer.base.recordings[0]
    start = dataclasses.replace(recording, warm_up_ns=(40 * MS, 40 * MS))
    slow_start = dataclasses.replace(answer.base, recordings=(start,))
    new = dataclasses.replace(
        answer.new, recordings=(dataclasses.replace(answer.new.recordings[0], warm_up_ns=()),)
    )
    answer = dataclasses.replace(answer, base=slow_start, new=new)
    assert whole_speedup(answer) == pytest.approx((20 * 4 + 80) / 22 / 2)
    (outcome,) = prediction_outcomes(answer, [predicted("graph", 3.0, 4.0)])
    assert outcome.outcome is OutcomeKind.UNCERTAIN


@pytest.mark.parametrize(
    ("new_ms", "is_made"), [(4.61, False), (4.5, True), (3.5, True), (3.4, False)]
)
def test_a_kernel_has_to_become_about_as_fast_as_was_asked(new_ms, is_made):
    answer = comparison()
    kernel = dataclasses.replace(answer.kernels[0], time=delta(8.0 * MS, new_ms * MS))
    answer = dataclasses.replace(answer, kernels=(kernel,))
    (outcome,) = prediction_outcomes(answer, [predicted("kernel:KERNEL<float>:2")])
    assert outcome.is_tried is is_made


def work(operator, base, new, types='["float","float"]', base_calls=4.0, new_calls=4.0):
    return WorkChange(
        work_class="matmul",
        operator=operator,
        shapes="[[8,8],[8,8]]",
        types=types,
        kernel="",
        time=delta(base * MS, new * MS),
        base_calls=base_calls,
        new_calls=new_calls,
        amount_ns=0,
        speed_ns=round((new - base) * MS),
    )


@pytest.mark.parametrize(("new_ms", "is_made"), [(0.8, True), (0.81, False)])
def test_kernels_have_to_be_faster_at_the_same_work(new_ms, is_made):
    answer = dataclasses.replace(comparison(), work=(work("aten::mm", 1.0, new_ms),))
    for change in ("kernels.roof", "kernels.roof:matmul", "kernels.roof:attention"):
        (outcome,) = prediction_outcomes(answer, [predicted(change)])
        assert outcome.is_tried is (is_made and change != "kernels.roof:attention")


def test_types_of_products_tell_that_they_are_computed_in_16_bits():
    half = '["c10::Half","c10::Half"]'
    gone = work("aten::mm", 1.0, 0.0, new_calls=0.0)
    come = work("aten::mm", 0.0, 0.5, half, base_calls=0.0)
    answer = dataclasses.replace(comparison(), work=(gone, come))
    (outcome,) = prediction_outcomes(answer, [predicted("precision")])
    assert outcome.is_tried
    assert outcome.evidence.startswith("products in 32 bits 100 % to 0.0 % of all")
    kept = dataclasses.replace(answer, work=(work("aten::mm", 1.0, 0.5), come))
    (outcome,) = prediction_outcomes(kept, [predicted("precision")])
    assert outcome.is_tried  # half of the products are in 16 bits
    most = dataclasses.replace(kept, work=(work("aten::mm", 1.0, 0.5, new_calls=4.1), come))
    assert not prediction_outcomes(most, [predicted("precision")])[0].is_tried


@pytest.mark.parametrize(("change", "name"), [("precision:tf32", "s1688gemm_tf32"),
                                              ("precision", "h16816gemm"),
                                              ("precision", "gemm_bf16bf16")])  # fmt: skip
def test_names_of_kernels_tell_it_where_types_were_not_recorded(change, name):
    answer = comparison()
    kernel = dataclasses.replace(
        answer.kernels[1], kind=KernelMatch.NEW, name=name, new_name=name, time=delta(0.0, MS)
    )
    answer = dataclasses.replace(answer, kernels=(kernel,))
    assert prediction_outcomes(answer, [predicted(change)])[0].is_tried
    other = dataclasses.replace(kernel, name="sgemm_f16000", new_name="sgemm_f16000")
    answer = dataclasses.replace(answer, kernels=(other,))
    assert not prediction_outcomes(answer, [predicted(change)])[0].is_tried


def test_what_was_not_compared_or_only_since_somebody_asked_judges_nothing():
    refused = comparison(ComparisonVerdict.NOT_COMPARABLE)
    assert prediction_outcomes(refused, [predicted("graph")]) == ()
    machine = Difference(
        what="gpu", base="A", new="B", level=Level.WARNING, sentence=f"The GPU differs. {ANYWAY}"
    )
    assert prediction_outcomes(with_graphs(comparability=(machine,)), [predicted("graph")]) == ()


def test_predictions_are_not_judged_by_other_amounts_of_work():
    """Fewer waits may be fewer steps."""
    same = SameWork(scale=0.5, name="the same work", time=delta(2.0e6, 2.0e6), is_judged=True)
    answer = dataclasses.replace(with_graphs(), same_work=same)
    assert prediction_outcomes(answer, [predicted("graph", 1.5, 2.5)]) == ()


@pytest.mark.parametrize(("low", "end"), [(-4e6, 1_000.0), (-3.9e6, 40.0), (None, 1_000.0)])
def test_an_interval_down_to_no_time_has_no_upper_end(low, end):
    answer = with_graphs()
    high = None if low is None else -1e6
    change = dataclasses.replace(answer.delta, low=low, high=high)
    answer = dataclasses.replace(answer, delta=change)
    assert measured_speedup(answer) == pytest.approx((2.0, 0.0 if low is None else 4 / 3, end))
    (judged,) = prediction_outcomes(answer, [predicted("graph", 1.1, 1.3)])
    assert judged.outcome is (OutcomeKind.UNCERTAIN if end == 1_000 else OutcomeKind.MORE)


def test_under_another_driver_no_change_was_made_alone():
    answer = with_graphs()
    driver = Difference(
        what="driver", base="535", new="550", level=Level.WARNING, sentence="Drivers differ."
    )
    answer = dataclasses.replace(answer, comparability=(driver,))
    (judged,) = prediction_outcomes(answer, [predicted("graph", 1.5, 2.5)])
    assert judged.outcome is OutcomeKind.TOGETHER
    assert "the driver changed as well" in judged.evidence
