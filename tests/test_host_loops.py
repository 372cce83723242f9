"""Where graphs hide what is launched, the host's calls tell the steps apart."""

import itertools

import numpy as np
import pytest

from analyzers.facts.host_loops import graphs_hide_launches
from analyzers.facts.loop_choice import chosen_iterations
from collectors.schema import OperatorKind
from tests.traces_in_memory import build

US = 1_000
LENGTH = {"g": 10, "h": 10, "G": 100}  # µs that a graph runs
LAUNCH, POLL, WAIT = "cudaGraphLaunch", "cudaEventQuery", "cudaStreamSynchronize"


def facts_of(folder, steps, scales=None, **more):
    """Graphs traced as wholes: a step is letters (a graph each), ``w`` (a wait) and ``?`` (polls).

    Args:
        folder: Where the trace is put.
        steps: What each step calls.
        scales: How many times as long its graphs run; as long by default.
        more: Further tables.
    """
    graphs = {"start_us": [], "duration_us": [], "graph": [], "correlation_id": []}
    calls = {"start_us": [], "duration_us": [], "name": [], "correlation_id": []}
    at_us = done_us = 0.0
    rng = np.random.default_rng(1)
    for step, scale in zip(steps, scales or [1] * len(steps), strict=True):
        for letter in step:
            names = {"w": [WAIT], "?": [POLL] * int(rng.integers(0, 5))}.get(letter, [LAUNCH])
            for name in names:
                took = max(done_us - at_us, 1) if name == WAIT else 1
                for column, value in zip(
                    calls.values(), (at_us, took, name, len(calls["name"]) + 1), strict=True
                ):
                    column.append(value)
                at_us += took + 1
            if letter in LENGTH:
                begin = max(at_us, done_us)
                done_us = begin + LENGTH[letter] * scale
                row = (begin, LENGTH[letter] * scale, ord(letter), len(calls["name"]))
                for column, value in zip(graphs.values(), row, strict=True):
                    column.append(value)
    return build(folder, graph_launches=graphs, api_calls=calls, **more)


def test_a_graph_launched_eight_times_and_a_wait_are_one_step(tmp_path):
    facts = facts_of(tmp_path, ["gggggggg?w"] * 6)
    assert graphs_hide_launches(facts)
    iterations, note, evidence = chosen_iterations(facts, "")
    assert len(iterations) == 6
    assert not any(one.is_marked for one in iterations)
    ends = facts.launches["end_ns"].to_numpy()[7::8]
    # A step reaches to the next one; its GPU work lies in it.
    for one, end in zip(iterations, ends, strict=True):
        assert one.start_ns < end <= one.end_ns
    for before, after in itertools.pairwise(iterations):
        assert before.end_ns == after.start_ns
    assert (evidence.how, evidence.length, evidence.confidence) == ("host", 9, "high")
    assert note == (
        "6 iterations, found in what the host calls, for graphs hide what they launch: the same 9 "
        "calls again and again (100 % of the GPU's work; high confidence)."
    )


@pytest.mark.parametrize(("steps", "count"), [(["gw"] * 3, 3), (["gw"] * 2, 0)])
def test_three_graphs_are_three_steps_and_two_are_none(tmp_path, steps, count):
    assert len(chosen_iterations(facts_of(tmp_path, steps), "").spans) == count


def test_graphs_that_differ_tell_steps_apart_by_themselves(tmp_path):
    iterations, _, evidence = chosen_iterations(facts_of(tmp_path, ["ggghw"] * 6), "")
    assert (len(iterations), evidence.how, evidence.length) == (6, "launches", 4)


def test_stages_of_one_solve_in_graphs_are_no_steps(tmp_path):
    shorter = [0.7**level * 20 for level in range(18)]  # the levels of a multigrid
    iterations, note, evidence = chosen_iterations(facts_of(tmp_path, ["ggggw"] * 18, shorter), "")
    assert (iterations, evidence) == ((), None)
    assert "what is launched repeats no pattern" in note


@pytest.mark.parametrize(("kernel_us", "hidden"), [(480, True), (481, False)])
def test_calls_are_asked_only_where_graphs_hold_half_of_the_work(tmp_path, kernel_us, hidden):
    kernels = {"start_us": [10_000], "duration_us": [kernel_us], "name": ["once"]}
    facts = facts_of(tmp_path, ["gggggggg?w"] * 6, kernels=kernels)
    assert graphs_hide_launches(facts) is hidden


# --- nothing ran on a GPU ------------------------------------------------------------------


def spans_of(lengths_us, names, gap_us=1):
    """Spans of these lengths and names, one behind the other."""
    ends = np.cumsum(np.asarray(lengths_us) + gap_us)
    return {"start_us": (ends - lengths_us).tolist(), "end_us": ends.tolist(), "name": names}


@pytest.mark.parametrize("table", ["ranges", "operators", "api_calls"])
def test_without_gpu_work_what_the_host_repeats_are_iterations(tmp_path, table):
    noun = {"ranges": "ranges", "operators": "operators", "api_calls": "calls"}[table]
    spans = spans_of([10, 30, 20] * 6, ["load", "forward", "store"] * 6)
    iterations, note, evidence = chosen_iterations(build(tmp_path, **{table: spans}), "")
    assert [(one.start_ns, one.end_ns) for one in iterations[:2]] == [
        (1 * US, 64 * US),
        (64 * US, 127 * US),
    ]
    assert len(iterations) == 6
    assert (evidence.length, evidence.similarity, evidence.confidence) == (3, 1.0, "high")
    assert note == (
        "6 iterations, found in what the host does, for nothing ran on a GPU: the same 3 "
        f"{noun} again and again (100 % of the time; high confidence)."
    )


def test_without_gpu_work_stages_that_shrink_are_no_iterations(tmp_path):
    lengths = [round(1_000 * 0.7**level) + 3 for level in range(18) for _ in range(3)]
    ranges = spans_of(lengths, ["smooth", "restrict", "solve"] * 18)
    assert chosen_iterations(build(tmp_path, ranges=ranges), "").spans == ()


@pytest.mark.parametrize(("other_us", "count"), [(594, 6), (606, 0)])
def test_without_gpu_work_marked_steps_hold_half_of_the_time(tmp_path, other_us, count):
    names = ["set-up", *["step 1", "step 2", "step 3", "step 4", "step 5", "step 6"]]
    ranges = spans_of([other_us, *[100] * 6], names, gap_us=0)
    iterations, note, evidence = chosen_iterations(build(tmp_path, ranges=ranges), "")
    assert len(iterations) == count
    if count:
        assert evidence.how == "ranges"
        assert [one.name for one in iterations] == names[1:]
    else:
        assert note.endswith("repeats at least 3 times and holds most of the time.")


@pytest.mark.parametrize(("domain", "count"), [("GIL Trace", 0), ("mine", 40)])
def test_holding_the_lock_of_python_is_no_iteration(tmp_path, domain, count):
    ranges = {**spans_of([100] * 40, ["Holding GIL"] * 40, gap_us=0), "domain": domain}
    assert len(chosen_iterations(build(tmp_path, ranges=ranges), "").spans) == count


def steps_in_an_outer_range(outer_us, count=30):
    """Steps of three ranges, 0.8 ms of each 1.1 ms, in a range that encloses them."""
    begins = [1_000 + 1_100 * step for step in range(count)]
    parts = [(0, 300, "load"), (300, 600, "forward"), (600, 800, "store")]
    rows = [(0, outer_us, "main")]
    rows += [(at + begin, at + end, name) for at in begins for begin, end, name in parts]
    return {
        "start_us": [row[0] for row in rows],
        "end_us": [row[1] for row in rows],
        "name": [row[2] for row in rows],
    }


@pytest.mark.parametrize("table", ["ranges", "operators", "api_calls"])
def test_without_gpu_work_the_last_repetition_ends_with_its_own_events(tmp_path, table):
    events = steps_in_an_outer_range(35_000)
    iterations, note, _ = chosen_iterations(build(tmp_path, **{table: events}), "")
    assert len(iterations) == 30
    assert (iterations[-1].start_ns, iterations[-1].end_ns) == (32_900 * US, 33_700 * US)
    assert "(93 % of the time; " in note  # 32.7 of 35 ms


@pytest.mark.parametrize("table", ["ranges", "operators", "api_calls"])
def test_without_gpu_work_a_sixth_of_an_enclosing_range_is_no_main_loop(tmp_path, table):
    events = steps_in_an_outer_range(200_000)
    assert chosen_iterations(build(tmp_path, **{table: events}), "").spans == ()


@pytest.mark.parametrize(("kind", "count"), [(OperatorKind.FRAMEWORK, 6), (OperatorKind.PYTHON, 0)])
def test_without_gpu_work_frames_of_python_are_no_operators(tmp_path, kind, count):
    spans = spans_of([10, 30, 20] * 6, ["load", "forward", "store"] * 6)
    operators = {**spans, "kind": int(kind)}
    assert len(chosen_iterations(build(tmp_path, operators=operators), "").spans) == count
