"""Comparisons answer what their numbers allow, and give no number where none is right."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.compare.compare import compare, decide
from analyzers.compare.measure import measure
from analyzers.compare.types import ComparisonVerdict, Delta, KernelMatch, Level
from analyzers.facts.facts import WindowError, build_facts
from analyzers.words import TIMES
from benchmarks.compare import CHANGES, LONG_RUN, recorded
from cli.gate import INCONCLUSIVE, gate
from collectors import open_trace
from tests.compare_scenarios import GEMM, kernels_of, noisy, side
from traces.generate import FOLDER

REAL = Path(os.environ.get("WHYSLOW_REAL", "/work/shared/real")) / "torch_trace"
WORKERS = "kineto__resnet50_num_workers_{}__worker0.{}.pt.trace.json.gz"


def delta(low, high, *, change=None, p_value=0.001):
    middle = (low + high) / 2 if change is None else change
    return Delta(base=1_000, new=1_000 + middle, change=middle, low=low, high=high, p_value=p_value)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (delta(-200, -100), ComparisonVerdict.IMPROVED),
        (delta(100, 200), ComparisonVerdict.REGRESSED),
        (delta(-5, 5), ComparisonVerdict.NO_DIFFERENCE),
        (delta(1, 9), ComparisonVerdict.NO_DIFFERENCE),  # surely there, and too small to matter
        (delta(-50, 50, p_value=0.5), ComparisonVerdict.INCONCLUSIVE),  # not found is not absent
        (
            delta(-200, -100, p_value=0.2),
            ComparisonVerdict.INCONCLUSIVE,
        ),  # they disagree
        (delta(-5, 11, p_value=0.3), ComparisonVerdict.INCONCLUSIVE),
        (Delta(base=1_000, new=500, change=-500), ComparisonVerdict.INCONCLUSIVE),  # measured once
    ],
)
def test_the_answer_follows_the_written_rule(change, answer):
    assert decide(change, smallest_ns=10) is answer


def test_a_faster_program_is_called_improved_with_its_interval():
    rng = np.random.default_rng(1)
    answer = compare([side(noisy(rng, 30))], [side(noisy(rng, 30, 700.0), name="new")])
    assert answer.verdict is ComparisonVerdict.IMPROVED
    assert answer.delta.low < -300_000 < answer.delta.high < 0
    assert "1.4" in answer.sentence


def test_the_same_recording_is_no_difference_whatever_it_is_called():
    rng = np.random.default_rng(2)
    durations = noisy(rng, 6, spread=0.3)  # so noisy that nothing could be told otherwise
    answer = compare([side(durations)], [side(durations, name="renamed", sha256="run.sqlite")])
    assert answer.verdict is ComparisonVerdict.NO_DIFFERENCE
    assert (answer.delta.low, answer.delta.change, answer.delta.high) == (0, 0, 0)
    assert not any(k.time.significant for k in answer.kernels)


def test_few_iterations_of_one_recording_tell_only_what_runs_never_differ_by():
    answer = compare([side([100.0] * 4)], [side([80.0, 81.0, 82.0, 80.0], name="new")])
    assert answer.verdict is ComparisonVerdict.INCONCLUSIVE
    assert "Only 4 iterations" in answer.how[0]
    halved = compare([side([100.0] * 4)], [side([50.0, 51.0, 52.0, 50.0], name="new")])
    assert halved.verdict is ComparisonVerdict.IMPROVED
    assert halved.in_these_runs is None


@pytest.mark.parametrize(
    ("new_us", "verdict"),
    # 1.96 x 10 % of 900 and of the new time, as the root of the sum of squares
    [(500.0, ComparisonVerdict.IMPROVED), (690.0, ComparisonVerdict.INCONCLUSIVE)],
)
def test_a_single_window_on_each_side_is_measured_once(new_us, verdict):
    answer = compare([side([900.0], loop="")], [side([new_us], loop="", name="new")])
    reach = 1.959964 * 0.1 * np.hypot(900_000, new_us * 1_000)
    assert answer.verdict is verdict
    assert answer.delta.high == round(new_us * 1_000 - 900_000 + reach)
    assert "how much it varies was not measured" in answer.how[0]
    assert "the whole window took 900" in answer.sentence
    assert not answer.waterfall[0].significant


def test_several_recordings_tell_even_without_iterations():
    base = [side([t], loop="", name=f"b{t}") for t in (1_000, 1_010, 990, 1_005)]
    new = [side([t], loop="", name=f"n{t}") for t in (700, 712, 695, 705)]
    answer = compare(base, new)
    assert answer.verdict is ComparisonVerdict.IMPROVED
    assert "all 70 ways" in " ".join(answer.how)


def test_a_run_that_changes_in_its_midst_is_kept_whole_and_said_to_have_changed():
    rng = np.random.default_rng(4)
    throttled = np.concatenate((noisy(rng, 40), noisy(rng, 40, 1_200.0)))
    answer = compare(
        [side(noisy(rng, 80), keep_warm_up=False)],
        [side(throttled, name="hot", keep_warm_up=False)],
    )
    assert answer.new.recordings[0].warm_up == 0
    (note,) = [n for n in answer.notes if "too late for a warm-up" in n]
    assert note.startswith("hot: iterations take 2")
    assert "after the first 40 of 80" in note


def test_runs_that_differ_more_than_the_sides_are_inconclusive():
    rng = np.random.default_rng(3)
    base = [side(noisy(rng, 100, t, 0.001), name=f"b{t}") for t in (1_000, 1_100, 1_050)]
    new = [side(noisy(rng, 100, t, 0.001), name=f"n{t}") for t in (1_020, 1_080, 990)]
    assert compare(base, new).verdict is ComparisonVerdict.INCONCLUSIVE


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1_000, 10**7), min_size=1, max_size=25),
    st.lists(st.integers(1_000, 10**7), min_size=1, max_size=25),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 3),
)
def test_the_waterfall_sums_to_the_change_to_the_nanosecond(base, new, a, b, runs):
    sides = [
        [side(np.roll(t, n), kernel_share=s, name=f"{s}{n}") for n in range(runs)]
        for t, s in ((base, a), (new, b))
    ]
    answer = compare(*sides)
    assert sum(row.change_ns for row in answer.waterfall) == answer.delta.change
    for told in (answer.base, answer.new):
        assert sum(told.ledger_ns.values()) + told.remainder_ns == told.median_ns
    contract = json.loads(answer.to_json())
    assert sum(contract["waterfall"].values()) == contract["delta_ns_per_iteration"]


def test_the_row_that_changed_is_the_one_that_is_called_significant():
    rng = np.random.default_rng(5)
    durations = noisy(rng, 40)
    base = side(durations, kernel_share=0.5)
    faster = side(durations * 0.8, kernel_share=0.5 / 0.8, name="new")  # host time alone
    rows = {r.row: r for r in compare([base], [faster]).waterfall}
    assert rows["host"].significant
    assert rows["host"].change_ns == pytest.approx(-200_000, rel=0.05)
    assert not rows["kernel"].significant
    assert not rows["remainder"].significant


# --- comparability ------------------------------------------------------------------------


def blocked(base, new):
    answer = compare([base], [new])
    assert answer.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert answer.delta is None
    assert answer.waterfall == ()
    contract = json.loads(answer.to_json())
    assert contract["delta_ns_per_iteration"] is None
    assert contract["ci95_ns"] is None
    assert contract["waterfall"] == {}
    assert contract["base"]["median_ns"] is None
    return next(d.what for d in answer.comparability if d.blocking)


def result(*values, rtol=1e-4, **more):
    return {"pair": "p", "device": "cuda", "result": {"values": list(values), "rtol": rtol}, **more}


TORCH = {
    "name": "t",
    "format": "torch-json",
    "tool_version": "",
    "schema_version": "1",
    "sha256": "t",
}


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("gpu", {"gpu": "A100"}),
        ("tool", {"source": TORCH}),
        ("window", {"loop": ""}),
        ("timeline", {"counters_only": True}),
        ("gpu work", {"operations": 0}),
        ("workload", {"summary": {**result(1.0), "pair": "other"}}),
        ("result", {"summary": result(1.1)}),
        ("shapes", {"operators": {("conv", "[64]"): 5.0, ("relu", "[64]"): 5.0}}),
        ("kernels", {"kernels": {("other", GEMM[1]): 1_000}, "loop": "epoch"}),
        ("kernels", {"kernels": {("other", GEMM[1]): 1_000}}),  # every program has a step
    ],
)
def test_what_forbids_a_number_is_named_and_no_number_is_given(what, changes):
    base = side(
        [100.0] * 9,
        summary=result(1.0),
        operators={("conv", "[32]"): 5.0, ("relu", "[32]"): 5.0},
    )
    given_up = {"operators": {}} if what == "kernels" else {}
    if what == "kernels":
        base = side([100.0] * 9)
    same = {"summary": result(1.0), "operators": base.operators} if what != "kernels" else given_up
    assert blocked(base, side([50.0] * 9, name="new", **{**same, **changes})) == what


def test_who_knows_that_two_programs_do_the_same_work_may_compare_them():
    base = side([100.0] * 9)
    other = side([50.0] * 9, name="new", kernels={("other", GEMM[1]): 1_000})
    answer = compare([base], [other], anyway=True)
    assert answer.verdict is ComparisonVerdict.IMPROVED
    (told,) = [d for d in answer.comparability if d.what == "kernels"]
    assert told.level is Level.WARNING
    assert "as requested" in told.sentence


def test_another_machine_is_an_answer_that_is_not_charged_to_the_program():
    base, faster_gpu = side([100.0] * 9), side([50.0] * 9, name="new", gpu="B200")
    refused = compare([base], [faster_gpu])
    assert refused.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert refused.sentence.endswith("To compare them all the same: whyslow compare --anyway.")
    answer = compare([base], [faster_gpu], anyway=True)
    assert answer.sentence.startswith(
        "Different machines, H100 and B200: the change is that of hardware and software together. "
        "Improved, measured in one run each: an iteration took 100"
    )
    slower = compare([faster_gpu], [base], anyway=True)
    assert gate(slower, 0.03).status == INCONCLUSIVE
    assert "no change is charged to the program" in gate(slower, 0.03).inconclusive


def test_what_has_no_meaning_is_refused_whoever_asks():
    base = side([100.0] * 9)
    for changes in ({"counters_only": True}, {"operations": 0}, {"loop": ""}):
        other = side([50.0] * 9, name="new", **changes)
        answer = compare([base], [other], anyway=True)
        assert answer.verdict is ComparisonVerdict.NOT_COMPARABLE
        assert "--anyway" not in answer.sentence


def ranked(rank, name, level=100.0):
    source = {**side([1.0]).source, "name": name, "sha256": name, "rank": rank}
    return side([level] * 9, source=source)


def test_ranks_of_a_job_are_no_repeated_runs():
    base = [ranked("0", "a0"), ranked("1", "a1")]
    answer = compare(base, [ranked("0", "b0", 90.0), ranked("1", "b1", 90.0)])
    assert answer.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert "ranks 0, 1 of a distributed job" in answer.sentence


@pytest.mark.parametrize(
    ("told", "rank", "world_size"),
    [
        ({"backend": "nccl", "rank": 3, "world_size": 8}, 3, 8),
        ({"rank": 0}, 0, -1),
        ({"rank": True, "world_size": "8"}, -1, -1),
        ([], -1, -1),
    ],
)
def test_a_torch_recording_tells_its_rank(tmp_path, told, rank, world_size):
    arguments = {"device": 0, "stream": 7, "correlation": 1}
    kernel = {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 5, "dur": 9}
    events = [{**kernel, "args": arguments}]
    path = tmp_path / "rank.json"
    path.write_text(
        json.dumps({"schemaVersion": 1, "distributedInfo": told, "traceEvents": events})
    )
    source = open_trace(path, tmp_path).source
    assert (source.rank, source.world_size) == (rank, world_size)


def test_the_same_rank_of_several_runs_is_compared_and_another_one_is_warned_of():
    base = [ranked("0", "a"), ranked("0", "b")]
    assert compare(base, [ranked("0", "c", 90.0)]).delta is not None
    differences = {d.what: d for d in compare(base, [ranked("1", "c", 90.0)]).comparability}
    assert differences["ranks"].level is Level.WARNING


def test_what_was_not_recorded_is_said_to_be_unknown():
    answer = compare([side([100.0] * 9)], [side([50.0] * 9, name="new")])
    unknown = {d.what for d in answer.comparability if d.level is Level.UNKNOWN}
    assert {"driver", "clocks", "throttling"} <= unknown


def test_shapes_that_differ_in_blanks_only_are_the_same_shapes():
    times = noisy(np.random.default_rng(3), 30)
    plain = {("conv", "[[64, 3], []]"): 5.0, ("relu", "[[]]"): 5.0}
    spread = {("conv", "[\n  [\n   64, 3],\n []\n]"): 5.0, ("relu", "[[ ]]"): 5.0}
    one, new = side(times, operators=plain), side(times, operators=spread)
    told = next(d for d in compare([one], [new]).comparability if d.what == "shapes")
    assert told.level is Level.SAME


def test_iterations_left_out_as_warm_up_are_told_with_their_durations():
    slow = side([9_000, 5_000, *noisy(np.random.default_rng(4), 40)], keep_warm_up=False)
    told = compare([slow], [slow]).base
    assert told.recordings[0].warm_up_ns == (9_000_000, 5_000_000)
    assert len(told.samples_ns[0]) == 40


def test_other_clocks_are_a_warning_with_both_numbers():
    base = side([100.0] * 9, telemetry={"sm_clock_mhz": 1_980.0, "throttled_share": 0.0})
    new = side([90.0] * 9, name="new", telemetry={"sm_clock_mhz": 1_410.0, "throttled_share": 0.3})
    told = {d.what: d for d in compare([base], [new]).comparability}
    assert told["clocks"].level is Level.WARNING
    assert "1,980 MHz" in told["clocks"].sentence
    assert told["throttling"].level is Level.WARNING


def test_the_same_recording_twice_on_a_side_is_no_further_measurement():
    once = side([100.0] * 9)
    answer = compare([once, once], [side([50.0] * 9, name="new")])
    assert answer.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert "twice" in answer.sentence


# --- tables -------------------------------------------------------------------------------


def kinds(base, new, sequences=(None, None)):
    sides = [
        side([1_000.0] * 9, name=name, kernels=by_kernel)
        for name, by_kernel in (("base", base), ("new", new))
    ]
    for number, sequence in enumerate(sequences):
        if sequence is not None:
            by_kernel = (base, new)[number]
            kernels = kernels_of(by_kernel, 9, sequence)
            sides[number] = side([1_000.0] * 9, name=f"s{number}")
            object.__setattr__(sides[number], "kernels", kernels)
    answer = compare([sides[0]], [sides[1]])
    return {(k.name, k.new_name): k for k in answer.kernels}


ONE, TWO = (64, 1, 1, 256, 1, 1), (32, 1, 1, 256, 1, 1)


def test_a_kernel_of_the_same_name_and_shape_is_the_same():
    found = kinds({("gemm", ONE): 500}, {("gemm", ONE): 300})
    kernel = found["gemm", "gemm"]
    assert kernel.kind is KernelMatch.SAME
    assert (kernel.time.base, kernel.time.new) == (500, 300)
    assert kernel.time.significant


def test_a_kernel_of_another_shape_is_the_same_kernel_reshaped():
    found = kinds({("gemm", ONE): 500}, {("gemm", TWO): 300})
    assert found["gemm", "gemm"].kind is KernelMatch.RESHAPED
    assert found["gemm", "gemm"].new_shape.startswith("32 x 1 x 1".replace("x", TIMES))


def test_a_renamed_kernel_is_found_by_its_place_and_shape():
    base = {("first", ONE): 10, ("cublas_v1", TWO): 500, ("last", ONE): 10}
    new = {("first", ONE): 10, ("cublas_v2", TWO): 300, ("last", ONE): 10}
    assert kinds(base, new)["cublas_v1", "cublas_v2"].kind is KernelMatch.RENAMED


def test_another_kernel_at_another_place_is_new_and_the_old_one_gone():
    base = {("first", ONE): 10, ("slow", TWO): 500, ("last", ONE): 10}
    new = {("first", ONE): 10, ("last", ONE): 10, ("fused", TWO): 300}
    found = kinds(base, new)
    assert found["slow", "slow"].kind is KernelMatch.GONE
    assert found["fused", "fused"].kind is KernelMatch.NEW


def test_noise_in_many_kernels_is_not_called_a_change():
    rng = np.random.default_rng(6)
    names = [(f"k{n}", ONE) for n in range(200)]
    tables = [{k: rng.normal(10_000, 1_000, 30) for k in names} for _ in range(2)]
    sides = [side(noisy(rng, 30), name=n, kernels=t) for n, t in zip("ab", tables, strict=True)]
    answer = compare([sides[0]], [sides[1]])
    assert sum(k.time.significant for k in answer.kernels) <= 3


def test_the_workloads_own_metrics_are_compared_in_their_direction():
    def metric(value):
        listed = [{"name": "throughput", "value": value, "unit": "items/s", "better": "higher"}]
        return result(1.0, metrics=listed)

    base = [side([100.0] * 9, name=f"b{v}", summary=metric(v)) for v in (99.0, 100.0, 101.0)]
    new = [side([50.0] * 9, name=f"n{v}", summary=metric(v)) for v in (198.0, 200.0, 202.0)]
    found = {m.name: m for m in compare(base, new).metrics}
    assert found["throughput"].verdict == "better"
    assert found["throughput"].value.unit == "items/s"


# --- whole recordings ---------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 3])
def test_the_true_gain_of_a_simulated_pair_lies_in_the_interval(tmp_path, number):
    change, rng = CHANGES[number], np.random.default_rng(8 + number)
    (tmp_path / "traces").mkdir()
    factors = np.exp(0.05 * rng.standard_normal(LONG_RUN // 5))
    truth = np.median(recorded(tmp_path, factors, change).durations_ns) - np.median(
        recorded(tmp_path, factors).durations_ns
    )
    runs = [np.exp(0.05 * rng.standard_normal(40)) for _ in range(2)]
    answer = compare([recorded(tmp_path, runs[0])], [recorded(tmp_path, runs[1], change)])
    assert answer.verdict is ComparisonVerdict.IMPROVED
    assert answer.delta.low <= truth <= answer.delta.high
    assert sum(row.change_ns for row in answer.waterfall) == answer.delta.change


def test_the_row_without_which_the_program_runs_is_the_row_that_shrinks(tmp_path):
    (tmp_path / "traces").mkdir()
    rng = np.random.default_rng(9)
    runs = [np.exp(0.02 * rng.standard_normal(30)) for _ in range(2)]
    starving = [
        CHANGES[0]._replace(arguments={"waits": False, "host_ns": ns}) for ns in (700_000, 550_000)
    ]
    base, new = (recorded(tmp_path, r, s) for r, s in zip(runs, starving, strict=True))
    answer = compare([base], [new])
    smallest = min(answer.waterfall, key=lambda row: row.change_ns)
    assert smallest.row == "host"
    assert smallest.base_place.end_ns > smallest.base_place.start_ns


def test_every_iteration_is_accounted_for_to_the_nanosecond(tmp_path):
    (tmp_path / "traces").mkdir()
    found = recorded(tmp_path, np.ones(12))
    assert (found.ledger_ns.sum(axis=1) == found.durations_ns).all()
    assert found.counts["kernel launches"].tolist() == [6.0] * len(found.start_ns)


def test_evidence_is_never_shown_in_the_warm_up(tmp_path):
    path = FOLDER / "synthetic_pair_optimized.sqlite"
    found = measure(build_facts(open_trace(path, tmp_path)))
    begins, ends = found.regions.longest.T
    typical = found.start_ns[found.typical], found.end_ns[found.typical]
    table = found.regions.by_iteration.dense(
        found.regions.by_iteration.ns, len(found.start_ns), len(found.regions.keys)
    )
    shown = begins >= 0
    assert found.warm_up > 0
    assert (begins[shown] >= found.start_ns[found.warm_up]).all()
    assert (shown == table[found.kept].any(axis=0)).all()
    there = table[found.typical] > 0
    assert there.any()
    assert (begins[there] >= typical[0]).all()
    assert (ends[there] <= typical[1]).all()


def test_a_range_or_a_device_that_is_not_there_is_refused(tmp_path):
    facts = build_facts(open_trace(Path("traces/synthetic/synthetic_launch.sqlite"), tmp_path))
    with pytest.raises(WindowError, match="has none"):
        measure(facts, "nvtx:nothing")
    with pytest.raises(WindowError, match="device 7"):
        measure(facts, "", 7)


def test_a_range_by_name_gives_each_of_its_repetitions(tmp_path):
    facts = build_facts(open_trace(Path("traces/synthetic/synthetic_launch.sqlite"), tmp_path))
    found = measure(facts, "nvtx:step")
    assert found.loop == "step"
    assert len(found.start_ns) == len(measure(facts).start_ns)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")
def test_loading_data_beforehand_improves_a_real_training_and_the_host_row_says_so(tmp_path):
    names = [WORKERS.format(0, 1623143089861), WORKERS.format(4, 1623212756351)]
    sides = [measure(build_facts(open_trace(REAL / n, tmp_path))) for n in names]
    answer = compare([sides[0]], [sides[1]])
    rows = {r.row: r for r in answer.waterfall}
    assert answer.verdict is ComparisonVerdict.IMPROVED
    assert rows["host"].significant
    assert rows["host"].note == (
        "Fetching data (DataLoader) takes 33.4 % of an iteration on base, 0.4 % on new "
        "(including the warm-up that was left out: 33.4 % and 0.8 %)."
    )
    assert min(rows.values(), key=lambda r: r.change_ns).row == "host"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")
def test_two_real_recordings_without_repetition_give_no_answer_in_disguise(tmp_path):
    names = ["HTA__trace_compare__base__base.json.gz", "HTA__trace_compare__test__test.json.gz"]
    sides = [measure(build_facts(open_trace(REAL / n, tmp_path))) for n in names]
    answer = compare([sides[0]], [sides[1]])
    assert answer.verdict is ComparisonVerdict.INCONCLUSIVE
    assert answer.delta.change == sum(r.change_ns for r in answer.waterfall)
    add = next(k for k in answer.kernels if k.time.base == 8_000)
    assert (add.base_launches, add.new_launches) == (2, 1)
