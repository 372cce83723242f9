"""One recording a side: what pairs inside the runs say, and what runs may differ by."""

import argparse
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.compare.accounts import Account
from analyzers.compare.compare import compare
from analyzers.compare.measure import measure
from analyzers.compare.paired import paired_change
from analyzers.compare.run_to_run import (
    between_three_runs,
    general_reach,
    recordings_needed,
)
from analyzers.compare.statistics import Estimate
from analyzers.compare.types import Certainty, ComparisonVerdict, Difference, Level
from analyzers.compare.work_amount import AmountOfWork, scaled_account, work_row
from analyzers.facts.facts import build_facts
from analyzers.ledger.booking import ROWS
from analyzers.words import MINUS
from benchmarks.compare import recorded
from cli.gate import (
    ANSWERED,
    INCONCLUSIVE,
    REGRESSED,
    GateLimits,
    cause_limit,
    decisions,
    gate,
    status_of,
)
from collectors import open_trace
from reports.comparison import comparison_summary
from reports.terminal import terminal_text
from tests.compare_scenarios import noisy, side

PAIR = Path(os.environ.get("WHYSLOW_REAL", "/work/shared/real")) / "pairs"


# --- pairs --------------------------------------------------------------------------------


def test_eight_pairs_are_needed_and_seven_say_nothing():
    base, new = np.full(8, 100.0), np.array([60.0, 61, 59, 60, 62, 60, 58, 60])
    assert paired_change(base[:7], new[:7]) is None
    change = paired_change(base, new)
    assert (change.pairs, change.faster, change.slower) == (8, 8, 0)
    assert (change.base, change.new) == (800, 480)
    assert change.p_value < 0.05


def test_work_that_shrinks_alike_on_both_sides_is_no_uncertainty():
    rng = np.random.default_rng(1)
    work = np.linspace(1_000, 10, 600)  # a solver's matrix, and a kernel that gains more when large
    gain = np.linspace(0.4, 0.8, 600)
    change = paired_change(work, work * gain * np.exp(0.02 * rng.standard_normal(600)))
    truth = float((work * gain - work).sum())
    assert change.new - change.base == pytest.approx(truth, rel=0.01)
    assert change.reach < 0.02 * abs(truth)
    assert change.faster == 600


def test_pairs_of_the_same_program_are_called_different_no_more_often_than_stated():
    rng = np.random.default_rng(2)
    alarms = sum(
        paired_change(noisy(rng, 96, correlation=0.6), noisy(rng, 96, correlation=0.6)).p_value
        <= 0.05
        for _ in range(100)
    )
    assert alarms <= 8  # of 100 at 5 %, more in 6 of 100 cases


def test_one_slow_pair_decides_nothing():
    rng = np.random.default_rng(3)
    base = noisy(rng, 40)
    new = noisy(rng, 40)
    new[7] *= 100  # the driver loaded something
    assert paired_change(base, new).p_value > 0.05


# --- run to run ---------------------------------------------------------------------------


def test_the_interval_in_general_holds_what_runs_differ_by():
    reach = general_reach(np.array([4.0]), np.array([100.0]), np.array([80.0]), 0.03)
    assert reach[0] == pytest.approx(np.sqrt(16 + (1.959964 * 0.03) ** 2 * (100**2 + 80**2)))


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (1.002, ComparisonVerdict.NO_DIFFERENCE, "No difference that matters in these two runs"),
        (1.05, ComparisonVerdict.INCONCLUSIVE, "Inconclusive in general, slower in these two runs"),
        (1.12, ComparisonVerdict.REGRESSED, "Regressed, measured in one run each"),
        (0.88, ComparisonVerdict.IMPROVED, "Improved, measured in one run each"),
    ],
)
def test_how_far_a_claim_reaches_is_said(change, verdict, words):
    rng = np.random.default_rng(4)
    base = side(noisy(rng, 200, spread=0.002))
    answer = compare([base], [side(noisy(rng, 200, 1_000 * change, 0.002), name="new")])
    assert answer.verdict is verdict
    assert answer.sentence.startswith(words)
    assert answer.in_general.low_ns < answer.in_these_runs.low_ns
    assert answer.in_these_runs.verdict is not ComparisonVerdict.INCONCLUSIVE


def test_as_many_recordings_as_are_said_to_be_needed_tell_the_difference():
    assert recordings_needed(1_000, 1_050) == 7
    rng = np.random.default_rng(5)
    verdicts = []
    for _ in range(40):
        levels = [t * np.exp(0.03 * rng.standard_normal(7)) for t in (1_000, 1_050)]
        sides = [[side([t] * 5, name=f"{t}") for t in of_side] for of_side in levels]
        verdicts.append(compare(*sides).verdict)
    assert (
        verdicts.count(ComparisonVerdict.REGRESSED) >= 28
    )  # four of five, less what 40 draws vary by


@pytest.mark.parametrize(("more_base", "more_new"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_further_recording_takes_no_sure_answer_away(more_base, more_new):
    base = [side([t] * 9, name=f"b{t}") for t in (1_000.0, 1_010.0)[: 1 + more_base]]
    new = [side([t] * 9, name=f"n{t}") for t in (800.0, 807.0)[: 1 + more_new]]
    assert compare(base, new).verdict is ComparisonVerdict.IMPROVED


def test_two_runs_that_differ_much_are_believed_more_than_the_assumption():
    sides = [[side([t] * 9, name=f"{t}") for t in of] for of in ((900.0, 1_100.0), (800.0,))]
    answer = compare(*sides)
    assert answer.verdict is ComparisonVerdict.INCONCLUSIVE
    assert answer.how[1] == "The two of one side differ by more than the 3% that are assumed."


def test_three_runs_of_one_program_are_called_different_in_one_of_twenty_at_most():
    rng = np.random.default_rng(11)
    levels = 1_000 * np.exp(0.03 * rng.standard_normal((2_000, 3)))
    alarms = sum(between_three_runs(row[:2], row[2:]).p_value <= 0.05 for row in levels)
    assert alarms <= 0.055 * len(levels)


def test_runs_of_one_program_are_called_different_in_one_of_twenty_at_most():
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(60):
        runs = [noisy(rng, 30, 1_000 * np.exp(0.03 * rng.standard_normal()), 0.01) for _ in "ab"]
        verdict = compare([side(runs[0])], [side(runs[1], name="new")]).verdict
        alarms += verdict in (ComparisonVerdict.IMPROVED, ComparisonVerdict.REGRESSED)
    assert alarms <= 5


# --- windows without iterations -----------------------------------------------------------


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Windows of one program without marks: as it is, with a twin, slower, and with less work."""
    folder = tmp_path_factory.mktemp("windows")
    (folder / "traces").mkdir()
    rng = np.random.default_rng(7)

    def window(count, level):
        factors = level * np.exp(0.01 * rng.standard_normal(count))
        return recorded(folder, factors, is_marked=False)

    sides = {"base": window(40, 1.0), "twin": window(40, 1.0), "doubled": window(40, 2.0)}
    sides |= {
        "slower": window(35, 1.13),
        "fewer": window(30, 1.0),
        "few": window(4, 1.0),
        "few_doubled": window(4, 2.0),
    }
    return {
        name: dataclasses.replace(s, source={**s.source, "sha256": name})
        for name, s in sides.items()
    }


def test_a_window_is_compared_stretch_by_stretch(windows):
    answer = compare([windows["base"]], [windows["doubled"]])
    assert answer.verdict is ComparisonVerdict.REGRESSED
    assert answer.in_these_runs.verdict is ComparisonVerdict.REGRESSED
    assert answer.how[0].startswith("Stretches of the same work are the units: 39 pairs")
    assert sum(row.change_ns for row in answer.waterfall) == answer.delta.change
    rows = {row.row: row for row in answer.waterfall}
    assert rows["kernel"].significant
    assert rows["kernel"].low_ns < rows["kernel"].change_ns < rows["kernel"].high_ns
    layers = [k for k in answer.kernels if k.name.startswith("layer")]
    assert {(k.pairs, k.faster, k.time.significant) for k in layers} == {(40, 0, True)}


def test_a_window_and_its_twin_do_not_differ(windows):
    answer = compare([windows["base"]], [windows["twin"]])
    assert answer.verdict is ComparisonVerdict.NO_DIFFERENCE
    assert not any(k.time.significant for k in answer.kernels)


def test_less_work_is_no_gain(windows):
    answer = compare([windows["base"]], [windows["fewer"]])
    assert answer.verdict in (ComparisonVerdict.INCONCLUSIVE, ComparisonVerdict.NO_DIFFERENCE)
    assert answer.sentence.startswith(
        "Less work in the window of the new side: 180 kernel launches instead of 240 "
        f"({MINUS}25.0 %), "
    )
    by_question = {r.question: r for r in answer.sub_results}
    assert by_question["wall"].certainty is Certainty.NOT_TESTED
    assert by_question["same work"].certainty in (Certainty.NOISE, Certainty.SMALL)


def test_windows_of_a_fixed_length_are_compared_for_the_same_work(windows):
    """A step takes 13 % longer, so fewer of them fit into the window."""
    answer = compare([windows["base"]], [windows["slower"]])
    assert answer.verdict is ComparisonVerdict.REGRESSED
    assert answer.same_work.is_judged
    assert answer.same_work.time.ratio == pytest.approx(0.117, abs=0.01)  # the copies as before
    assert abs(answer.delta.ratio) < 0.03  # both windows are as long
    first, *causes = answer.waterfall
    assert (first.row, first.delta.certainty(0)) == ("work", Certainty.COUNTED)
    assert first.change_ns + sum(r.change_ns for r in causes) == answer.delta.change
    assert sum(r.change_ns for r in causes) == answer.same_work.time.change
    assert {r.row for r in causes if r.significant} == {"kernel", "sync"}
    layers = [k for k in answer.kernels if k.name.startswith("layer")]
    assert {(k.pairs, k.faster) for k in layers} == {(35, 0)}
    assert [k.time.ratio for k in layers] == pytest.approx([0.13] * len(layers), abs=0.02)
    assert gate(answer, 0.01).status == REGRESSED
    assert gate(compare([windows["slower"]], [windows["base"]]), 0.03).status == ANSWERED


def test_windows_that_launch_other_kernels_are_not_compared(windows):
    kernels = windows["slower"].kernels
    names = tuple("other" if n in {"layer_0", "layer_1"} else n for n in kernels.names)
    other = dataclasses.replace(
        windows["slower"], kernels=dataclasses.replace(kernels, names=names, short_names=names)
    )
    answer = compare([windows["base"]], [other])
    assert answer.verdict is ComparisonVerdict.INCONCLUSIVE
    assert answer.same_work is None
    assert "Not the same work: 240 kernel launches on base, 210 on new" in answer.sentence
    assert "not tested" in terminal_text(comparison_summary(answer))
    assert "within the noise" not in terminal_text(comparison_summary(answer))


@given(
    st.lists(st.integers(0, 10**9), min_size=len(ROWS), max_size=len(ROWS)).filter(any),
    st.floats(0.01, 100),
)
def test_more_or_less_work_and_what_it_takes_sum_to_the_nanosecond(rows, scale):
    total = sum(rows)
    account = Account(median_ns=total, rows_ns=np.array(rows), parts=np.array([rows]), recording=0)
    amount = AmountOfWork(scale=scale, estimate=Estimate(base=1, new=1), is_judged=True)
    scaled = scaled_account(account, amount)
    assert scaled.median_ns == round(total * scale)
    assert scaled.rows_ns.sum() == scaled.median_ns
    assert (scaled.rows_ns >= 0).all()
    assert (scaled.rows_ns[np.array(rows) == 0] == 0).all()
    row = work_row(account, scaled)
    assert row.base_ns + row.change_ns == scaled.median_ns


def test_helpers_that_a_library_adds_are_no_more_work():
    names = [(f"layer_{n}", (n + 1, 1, 1, 64, 1, 1)) for n in range(20)]
    sides = []
    for name, helpers in (("base", 1), ("new", 3)):
        one = side([1_000.0] * 9, name=name, kernels=dict.fromkeys(names, 40_000))
        table = one.kernels.by_iteration
        count = np.where(table.column == 0, helpers, table.count)
        kernels = dataclasses.replace(
            one.kernels, by_iteration=dataclasses.replace(table, count=count)
        )
        sides.append(dataclasses.replace(one, kernels=kernels))
    answer = compare([sides[0]], [sides[1]])
    assert answer.same_work is None
    assert answer.amount_sentence == ""


def test_iterations_that_do_more_are_told_what_the_same_work_takes():
    rng = np.random.default_rng(12)
    sides = []
    for name, level, launches in (("base", 1_000.0, 4), ("new", 2_200.0, 8)):
        one = side(noisy(rng, 30, level, 0.002), name=name)
        table = one.kernels.by_iteration
        many = dataclasses.replace(table, count=table.count * launches)
        sides.append(
            dataclasses.replace(
                one,
                kernels=dataclasses.replace(one.kernels, by_iteration=many),
                counts={"kernel launches": np.full(30, float(launches))},
            )
        )
    answer = compare([sides[0]], [sides[1]])
    assert answer.verdict is ComparisonVerdict.REGRESSED  # an iteration does take longer
    assert not answer.same_work.is_judged
    assert answer.same_work.time.ratio == pytest.approx(0.10, abs=0.005)
    assert answer.amount_sentence == (
        "More work in an iteration of the new side: 8 kernel launches instead of 4 (+100.0 %)."
    )
    text = terminal_text(comparison_summary(answer))
    assert "For as much work as the new side does, base takes 2" in text
    assert sum(row.change_ns for row in answer.waterfall) == answer.delta.change


# --- parts that are sure -------------------------------------------------------------------


def test_a_kernel_that_is_surely_faster_is_told_when_noise_decides_the_whole():
    rng = np.random.default_rng(9)
    loaded = [noisy(rng, 30, 1_000.0, 0.3) for _ in "ab"]  # a data loader decides
    gemm = ("gemm", (64, 1, 1, 256, 1, 1))
    kernels = [rng.normal(ns, 500, 30) for ns in (176_000, 85_000)]
    sides = [
        side(t, name=n, kernels={gemm: k})
        for t, n, k in zip(loaded, ("base", "new"), kernels, strict=True)
    ]
    answer = compare([sides[0]], [sides[1]])
    assert answer.verdict is ComparisonVerdict.INCONCLUSIVE
    by_question = {r.question: r for r in answer.sub_results}
    assert by_question["kernel"].name == "gemm"
    assert by_question["kernel"].certainty is Certainty.IN_GENERAL
    assert by_question["wall"].certainty is Certainty.NOISE
    text = terminal_text(comparison_summary(answer))
    assert "Sure nevertheless: kernel gemm 176 µs → 85" in text


def test_an_iteration_that_takes_far_longer_is_named_with_its_weight():
    base = side([100.0, 101, 99, 100, 102, 98, 100, 202])
    answer = compare([base], [side([90.0, 91, 89, 90, 92, 88, 90, 91], name="new")])
    assert answer.outlier_sentences == (
        "run.sqlite: iteration 8 of 8 took 202 µs, the median is 100 µs; it adds 13 % to the mean.",
        f"The median changes by {MINUS}10.0 % with it and {MINUS}10.0 % without, "
        f"the mean by {MINUS}20.1 % and {MINUS}9.9 %.",
    )
    (found,) = answer.outliers
    assert (found.side, found.iterations, found.longest_ns) == ("base", (8,), 202_000)


# --- the gate -----------------------------------------------------------------------------


def test_a_gate_fails_a_doubled_time_in_one_run_each_and_passes_a_twin(windows):
    doubled = compare([windows["base"]], [windows["doubled"]])
    assert gate(doubled, 0.03).status == REGRESSED
    assert gate(doubled, 0.03, repeats=2).status == INCONCLUSIVE
    assert gate(doubled, 2.0).status == ANSWERED
    assert gate(compare([windows["base"]], [windows["twin"]]), 0.03).status == ANSWERED
    few = compare([windows["few"]], [windows["few_doubled"]])
    assert gate(few, 0.03).status == REGRESSED


def test_a_gate_that_cannot_decide_says_what_it_would_have_shown():
    rng = np.random.default_rng(8)
    sides = [side(noisy(rng, 200, t, 0.002), name=f"{t}") for t in (1_000, 1_050)]
    answer = gate(compare([sides[0]], [sides[1]]), 0.03)
    assert answer.status == INCONCLUSIVE
    assert "A regression of more than 3.0% can neither be shown nor ruled out" in (
        answer.inconclusive
    )


def test_a_gate_asks_for_memory_and_causes_too():
    rng = np.random.default_rng(10)
    peaks = ({"peak memory in use": 1_000}, {"peak memory in use": 1_101})
    base = side(noisy(rng, 60, spread=0.01), kernel_share=0.5, peak_bytes=peaks[0])
    new = side(noisy(rng, 60, 1_500, 0.01), kernel_share=1 / 3, name="new", peak_bytes=peaks[1])
    answer = compare([base], [new])  # 500 µs more, all of it the host's
    limits = GateLimits(memory=0.10, causes={"host": 0.3, "kernel": 0.1, "sync": 0.05})
    status = {name: gate.status for name, gate in decisions(answer, limits).items()}
    assert status == {
        "time per iteration": ANSWERED,  # nobody asked
        "peak memory": REGRESSED,
        "time by host": REGRESSED,
        "time by kernel": ANSWERED,
        "time by sync": ANSWERED,
    }
    larger = decisions(answer, GateLimits(memory=0.102, causes={"host": 0.55}))
    assert larger["peak memory"].status == ANSWERED
    assert larger["time by host"].status == INCONCLUSIVE
    assert status_of(larger) == INCONCLUSIVE
    driver = Difference(
        what="driver", base="535", new="550", level=Level.WARNING, sentence="Drivers differ."
    )
    other = dataclasses.replace(answer, comparability=(driver,))
    uncharged = decisions(other, limits)["time by host"]
    assert uncharged.status == INCONCLUSIVE
    assert uncharged.inconclusive.startswith("The drivers differ, so no regression is charged")
    few = decisions(answer, GateLimits(memory=0.1, repeats=2))
    assert few["peak memory"].status == INCONCLUSIVE
    assert cause_limit("sync=5%") == ("sync", 0.05)
    with pytest.raises(argparse.ArgumentTypeError, match="no cause; there are kernel"):
        cause_limit("sink=5%")


# --- real recordings ----------------------------------------------------------------------


@pytest.mark.skipif(not PAIR.is_dir(), reason="the real recordings are not here")
def test_a_solver_that_became_faster_in_every_launch_is_improved_in_one_run_each(tmp_path):
    names = (f"rodinia_gaussian_{name}.sqlite" for name in ("baseline", "optimized"))
    base, new = (measure(build_facts(open_trace(PAIR / n, tmp_path))) for n in names)
    answer = compare([base], [new])
    assert answer.verdict is ComparisonVerdict.IMPROVED
    assert answer.sentence.startswith("Improved, measured in one run each: the whole window took")
    fan2 = next(k for k in answer.kernels if k.short_name == "Fan2")
    assert (fan2.pairs, fan2.faster) == (4_095, 4_095)
    assert gate(compare([new], [base]), 0.03).status == REGRESSED
