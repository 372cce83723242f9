"""Predictions: ranges hold what a change really wins, and say what they assume."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzers.facts.facts import build_facts
from analyzers.facts.loops import find_iterations
from analyzers.facts.spans import Window
from analyzers.facts.windows import choose_window
from analyzers.whatif.build import build_graph
from analyzers.whatif.changes import make_changes
from analyzers.whatif.changes.change import Reach
from analyzers.whatif.uncertainty import MIN_UNCERTAINTY
from analyzers.whatif.whatif import WhatIf, explore, what_if
from benchmarks import change_experiments, whatif
from benchmarks.simulated import families
from benchmarks.simulated.cases import COLLECTIVE, Maker, loop, one_thread
from benchmarks.simulated.program import (
    Collective,
    Copy,
    Kernel,
    Manage,
    Program,
    Range,
    Stream,
    Thread,
    Wait,
    Work,
)
from collectors import open_trace
from tests.traces_in_memory import account
from tests.whatif_helpers import MS, OPERATIONS, US, about, explored, facts_of, whole, why_not

SAMPLES = Path(__file__).parents[1] / "traces" / "synthetic"


@pytest.mark.parametrize("experiment", change_experiments.EXPERIMENTS, ids=lambda e: e.change)
def test_ranges_hold_what_a_change_really_wins(experiment):
    results = [
        r for seed in range(6) if (r := change_experiments.outcome(experiment, 1_000 + seed))
    ]
    told = [r for r in results if r.low_ns >= 0]
    assert len(told) >= len(results) // 2
    assert whatif.coverage(told) >= whatif.MIN_COVERAGE
    assert sorted(r.width for r in told)[len(told) // 2] < experiment.max_width


def test_predictions_are_ranked_by_gain_and_unique(tmp_path):
    known = explored(tmp_path, families.tangled_steps(Maker(4)).program, [("gemm", 2.0)])
    gains = [p.gain_ns for p in known.predictions]
    assert gains == sorted(gains, reverse=True)
    names = [p.change for p in known.predictions]
    assert len(set(names)) == len(names)


def test_what_if_answers_for_the_window_of_the_ledger(tmp_path):
    facts = facts_of(tmp_path, families.sync_every_kernel(Maker(2)).program)
    ledger = account(facts)
    assert about_all(what_if(facts, ledger)) == about_all(explore(facts, ledger.window).predictions)


def about_all(found):
    return [p.to_dict() for p in found]


def test_waits_that_cost_nothing_win_nothing(tmp_path):
    known = explored(tmp_path, families.healthy_busy_wait(Maker(5)).program)
    waits = about(known, "sync")
    assert not waits.wins
    assert waits.sentence.endswith("no faster")


def test_the_launches_of_a_step_are_captured_together(tmp_path):
    steps = [[Work(20 * US, is_dispatch=True), Kernel(3 * US)] * 30 for _ in range(10)]
    known = explored(tmp_path, one_thread(loop(steps)))
    graph = about(known, "graph")
    assert graph.title == "capturing the 300 launches in 10 CUDA graph launches"
    # 30 times 24 µs of host bind a step; in a graph, 30 times 3 µs and 1 µs of the device do.
    assert graph.low_ns < 10 * 120 * US < graph.high_ns


@pytest.mark.parametrize(
    ("change", "program", "reason"),
    [
        ("sync", families.launch_small_kernels, "no call of a thread that launches work waited"),
        ("copies.pinned", families.launch_small_kernels, "no large copy"),
        ("copies.overlapped", families.launch_small_kernels, "no large copy"),
        ("host", families.launch_small_kernels, "no thread that launches work paused"),
        ("memory", families.launch_small_kernels, "no thread that launches work allocates"),
        ("communication", families.launch_small_kernels, "no collective ran"),
        ("graph", families.sync_every_kernel, "no 5 launches"),
    ],
)
def test_what_does_not_apply_says_why(change, program, reason, tmp_path):
    assert reason in why_not(explored(tmp_path, program(Maker(1)).program), change)


def test_an_unknown_kernel_is_named(tmp_path):
    known = explored(tmp_path, families.launch_late_host(Maker(1)).program, [("nope", 2.0)])
    assert why_not(known, "kernel:nope") == "no kernel of the window has 'nope' in its name"


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=st.lists(OPERATIONS, min_size=20, max_size=120))
def test_no_prediction_is_slower_than_nothing_or_faster_than_the_device(operations, tmp_path):
    program = one_thread([Kernel(50_000), *operations, Kernel(50_000), Wait()])
    facts = facts_of(tmp_path, program)
    known = explore(facts, whole(facts))
    ns = facts.launches["end_ns"] - facts.launches["start_ns"]
    busiest = int(ns.groupby([facts.launches["stream"]]).sum().max())
    unsure = max(MIN_UNCERTAINTY, abs(known.replay.error))
    for told in known.predictions:
        assert told.low_ns <= told.high_ns <= told.measured_ns
        if told.change in {"sync", "host", "graph", "memory"}:  # operations take as long as ever
            assert told.low_ns >= (1 - unsure) * busiest - 1


@pytest.mark.parametrize("sample", ["memory", "sync", "host", "launch"])
@pytest.mark.parametrize("number", [3, 20])
def test_an_iteration_never_gets_shorter_than_its_kernels(sample, number, tmp_path):
    """A host that runs ahead leaves the device's work of the iteration where it is."""
    facts = build_facts(open_trace(SAMPLES / f"synthetic_{sample}.sqlite", tmp_path))
    iterations, _ = find_iterations(facts)
    known = explore(facts, choose_window(facts, f"iteration:{number}", iterations))
    busy = max(device.measured_busy_ns for device in known.replay.devices)
    unsure = max(MIN_UNCERTAINTY, abs(known.replay.error))
    kept = [p for p in known.predictions if not p.change.startswith(("kernel", "copies"))]
    assert kept
    assert min(told.low_ns for told in kept) >= (1 - 2 * unsure) * busy


def test_a_kernel_that_hides_behind_launching_wins_nothing(tmp_path):
    """Every kernel of 5 µs waits for 40 µs of dispatching: a machine's latency is no gain."""
    steps = [[Work(40 * US, is_dispatch=True), Kernel(5 * US, "attention")]] * 200
    known = explored(tmp_path, one_thread(loop(steps)), [("attention", 2.0)])
    told = about(known, "kernel:attention:2")
    assert told.measured_ns - told.low_ns < 0.01 * told.measured_ns
    assert not told.wins


def test_never_starving_leaves_room_for_a_slower_host(tmp_path):
    """Input prepared beside the launching thread: at best free, at worst it slows the thread."""
    step = [Work(2 * MS), *[Work(30 * US, is_dispatch=True), Kernel(10 * US)] * 50]
    known = explored(tmp_path, one_thread(loop([step] * 20)))
    host = about(known, "host")
    launching = 20 * 50 * 34 * US  # 30 µs of dispatching and a call of 4 µs
    assert host.low_ns < launching
    assert host.high_ns > 1.2 * launching
    assert any("25 % longer" in a for a in host.assumptions)


def test_the_range_that_holds_most_pauses_is_predicted_alone(tmp_path):
    step = [
        *[Range("load"), Work(2 * MS), Range()],
        *[Kernel(100 * US)] * 10,
        Wait(),
        Range("log"),
        Work(MS),
        Range(),
    ]
    known = explored(tmp_path, one_thread(step * 20))
    alone, every = about(known, "host:load"), about(known, "host")
    # The first pause lies before the window: 19 times 2 ms, and 19 of 1 ms besides.
    assert alone.measured_ns - alone.low_ns == pytest.approx(38 * MS, rel=0.05)
    assert alone.title.startswith("preparing what load does ahead (19 host pauses")
    assert every.gain_ns > alone.gain_ns


def test_a_wait_for_a_result_that_the_host_reads_may_stay(tmp_path):
    known = explored(tmp_path, families.sync_read_back(Maker(2)).program)
    waits = about(known, "sync")
    assert waits.high_ns == waits.measured_ns
    assert any("whose result is probably read" in a for a in waits.assumptions)


@pytest.mark.parametrize("count", [2, 3])
def test_launches_that_never_recur_may_not_be_captured(count, tmp_path):
    """Shapes that change from step to step show as kernels of other names."""
    steps = [
        [
            op
            for k in range(10)
            for op in (Work(20 * US, is_dispatch=True), Kernel(3 * US, f"kernel_{step}_{k}"))
        ]
        for step in range(count)
    ]
    known = explored(tmp_path, one_thread(loop(steps)))
    if count > 2:  # steps enough to see that none is like another
        assert why_not(known, "graph").startswith("no 5 launches come again in the same order")
        return
    graph = about(known, "graph")
    assert graph.high_ns == graph.measured_ns
    assert (
        "At worst only sequences that this recording holds more than once are captured: 0 of"
        in (" ".join(graph.assumptions))
    )


def test_only_what_comes_again_is_captured_where_steps_show_it(tmp_path):
    same = [o for _ in range(8) for o in (Work(20 * US, is_dispatch=True), Kernel(3 * US))]
    steps = [
        [*same, Wait(), *[Kernel(3 * US, f"only_{n}_{k}") for k in range(6)]] for n in range(4)
    ]
    graph = about(explored(tmp_path, one_thread(loop(steps))), "graph")
    assert graph.title == "capturing the 32 launches in 4 CUDA graph launches"
    assert "(1 sequence by the names of kernels, each a graph)" in graph.assumptions[0]


@pytest.mark.parametrize("inside", [Manage("cudaMalloc", 50 * US), Copy(4, 2, pageable=True)])
def test_no_graph_holds_what_cannot_be_captured(inside, tmp_path):
    half = [Kernel(3 * US)] * 5
    known = explored(tmp_path, one_thread(loop([[*half, inside, *half]] * 10)))
    # Ten steps, each cut in two by what allocates or waits.
    assert about(known, "graph").title == "capturing the 100 launches in 20 CUDA graph launches"


@pytest.mark.parametrize(("launches", "is_worth_it"), [(4, False), (5, True)])
def test_nobody_builds_graphs_of_a_few_launches(launches, is_worth_it, tmp_path):
    steps = [[*[Kernel(3 * US)] * launches, Wait()] for _ in range(10)]
    known = explored(tmp_path, one_thread(loop(steps)))
    assert any(p.change == "graph" for p in known.predictions) is is_worth_it
    if not is_worth_it:
        assert why_not(known, "graph").startswith("no 5 launches stand between waits")


def test_a_launch_that_loads_its_kernel_is_not_captured(tmp_path):
    """The first launch of a kernel takes 5 ms: a graph's kernels have to be loaded, too."""
    step = [Work(20 * US, is_dispatch=True), Kernel(3 * US)] * 30
    first = [Kernel(3 * US, "warm"), Kernel(3 * US, call_ns=5 * MS)]
    graph = about(explored(tmp_path, one_thread([*first, *loop([step] * 10)])), "graph")
    assert graph.low_ns > 5 * MS


def test_one_wait_is_not_counted(tmp_path):
    known = explored(tmp_path, one_thread([Kernel(50 * US), Wait(), Kernel(50 * US)]))
    assert about(known, "sync").title == "removing the wait"


def test_functions_are_told_apart_only_where_several_wait(tmp_path):
    one = [Kernel(50 * US), Wait()] * 20
    other = [Kernel(50 * US), Wait("cudaDeviceSynchronize")] * 20
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    alone = explored(tmp_path / "one", one_thread(one))
    both = explored(tmp_path / "two", one_thread([*one, *other]))
    assert [p.change for p in alone.predictions if p.change.startswith("sync")] == ["sync"]
    named = {p.change for p in both.predictions if p.change.startswith("sync")}
    assert named == {"sync", "sync:cudaStreamSynchronize", "sync:cudaDeviceSynchronize"}


def test_what_is_pinned_already_is_not_pinned_again(tmp_path):
    steps = [[Copy(8_000_000), *[Kernel(100 * US)] * 4]] * 10
    known = explored(tmp_path, one_thread(loop(steps)))
    assert "no large copy" in why_not(known, "copies.pinned")


def test_copies_that_run_beside_kernels_already_are_left_alone(tmp_path):
    known = explored(tmp_path, families.healthy_overlapped_copies(Maker(1)).program)
    assert "no large copy shares a stream" in why_not(known, "copies.overlapped")


def test_waiting_for_other_ranks_may_stay_exposed(tmp_path):
    """Every other collective takes 10 times as long: the others were not there yet."""
    steps = [
        [*[Kernel(100 * US)] * 10, Kernel(us * US, COLLECTIVE, is_collective=True)]
        for us in (100, 1_000) * 10
    ]
    told = about(explored(tmp_path, one_thread(loop(steps))), "communication")
    # 10 times 900 µs of waiting at worst, and nothing but kernels at best.
    assert told.high_ns > 20 * MS + 9 * MS
    assert told.low_ns < 21 * MS


def two_ranks(collectives):
    """Return two processes on a GPU each; the second computes 300 µs longer in each of 5 steps.

    Every collective is written as one of both ranks, or as a kernel without a partner.
    """

    def rank(index):
        stream = Stream(7, index)
        steps = [
            [
                Kernel((400 + 300 * index) * US, stream=stream),
                Collective(100 * US, number, ranks=2, stream=stream),
                *(
                    Kernel(us * US, "ncclDevKernel_Other", is_collective=True, stream=stream)
                    for us in collectives[number : number + 1]
                    if index == 0
                ),
            ]
            for number in range(5)
        ]
        return Thread(loop(steps), process=index + 1)

    return Program([rank(0), rank(1)], devices=2)


def test_measured_waiting_of_matched_ranks_is_named_and_no_guess(tmp_path):
    told = about(explored(tmp_path, two_ranks([])), "communication")
    waits = next(a for a in told.assumptions if "waiting" in a)
    assert waits.startswith("Of their time, 1.50 ms is")
    assert "measured waiting for ranks that come later" in waits
    assert not any("not recorded" in a for a in told.assumptions)


def test_collectives_without_partners_are_guessed_beside_measured_ones(tmp_path):
    told = about(explored(tmp_path, two_ranks([100, 300])), "communication")
    waits = next(a for a in told.assumptions if "waiting" in a)
    assert waits.startswith("10 of them waited 1.10 ms for")
    assert "How much of the other 2 is waiting is not recorded" in waits
    assert "(200 µs in all)" in waits


@pytest.mark.parametrize(
    "program",
    [
        change_experiments.copies_both_ways,
        change_experiments.collectives_between,
        change_experiments.two_kernels,
        families.tangled_steps,
        families.memory_in_the_loop,
    ],
    ids=lambda p: p.__name__,
)
def test_a_change_leaves_the_recorded_graph_as_it_is(program, tmp_path):
    facts = facts_of(tmp_path, program(Maker(1)).program)
    graph = build_graph(facts)
    tables = (getattr(graph, field.name) for field in fields(graph))
    columns = [
        column
        for table in tables
        if is_dataclass(table)
        for column in (getattr(table, field.name) for field in fields(table))
        if isinstance(column, np.ndarray)
    ]
    for column in columns:
        column.flags.writeable = False  # writing to one now raises
    last = int(graph.operations.stop.max())
    reach = Reach(
        calls=graph.calls.thread >= 0,
        operations=np.ones(len(graph.operations), dtype=bool),
        window=Window(start_ns=graph.origin_ns, end_ns=graph.origin_ns + last),
    )
    results = [result for _, result in make_changes(facts, graph, reach)]
    changes = [change for result in results if isinstance(result, list) for change in result]
    assert changes
    assert all(change.best is not graph and change.worst is not graph for change in changes)


def test_predictions_survive_json(tmp_path):
    known = explored(tmp_path, families.sync_every_step(Maker(1)).program)
    stored = json.loads(json.dumps(known.to_dict()))
    assert stored["replay"]["error"] == known.replay.error
    assert WhatIf.from_dict(stored) == known
    assert all(p["speedup_low"] <= p["speedup_high"] for p in stored["predictions"])
