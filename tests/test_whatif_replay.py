"""The unchanged replay tells the measured time, or why nothing is predicted from it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzers.facts.facts import build_facts
from analyzers.facts.loops import find_iterations
from analyzers.facts.spans import Window
from analyzers.facts.windows import ALL, choose_window
from analyzers.whatif.build import build_graph
from analyzers.whatif.run import is_interpreted, run
from analyzers.whatif.whatif import explore, replay
from benchmarks.simulated import confounders, families, groups
from benchmarks.simulated.cases import Maker, loop, one_thread
from benchmarks.simulated.program import (
    Kernel,
    Program,
    Range,
    Record,
    StreamWait,
    Thread,
    Wait,
    Work,
)
from benchmarks.simulated.rules import QUEUE_PLACES
from collectors.errors import RefusedError
from tests.real_traces import opened
from tests.traces_in_memory import build
from tests.whatif_helpers import MS, OPERATIONS, SIDE, US, about, explored, facts_of, whole

REAL = Path(__file__).parents[2] / "shared" / "real"
ANSWERABLE = [family for family in dict.fromkeys(groups.FAMILIES) if family not in groups.UNTOLD]


@pytest.mark.parametrize("family", ANSWERABLE, ids=lambda f: f.__name__)
def test_the_replay_tells_the_time_of_every_family(family, tmp_path):
    case = family(Maker(3))
    facts = facts_of(tmp_path, case.program, case.tweaks)
    told = replay(facts, whole(facts))
    assert told.is_trusted
    assert abs(told.error) < 0.005


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=st.lists(OPERATIONS, min_size=20, max_size=120))
def test_the_replay_tells_the_time_of_any_program(operations, tmp_path):
    program = one_thread([Kernel(50_000), *operations, Kernel(50_000), Wait()])
    facts = facts_of(tmp_path, program)
    told = replay(facts, whole(facts))
    # Latencies are one typical figure each: with few operations, single ones weigh more.
    assert abs(told.end_to_end_ns - told.measured_ns) < 0.02 * told.measured_ns + 20 * US


def test_busy_and_idle_time_of_each_device_are_told(tmp_path):
    case = families.dependency_between_gpus(Maker(1))
    facts = facts_of(tmp_path, case.program)
    told = replay(facts, whole(facts))
    assert [d.key for d in told.devices] == [0, 1]
    for device in told.devices:
        assert device.measured_busy_ns + device.measured_idle_ns == told.measured_ns
        assert device.replayed_busy_ns == pytest.approx(device.measured_busy_ns, rel=0.01)


def test_work_on_a_stream_that_waits_for_an_event_comes_after_it(tmp_path):
    steps = [
        [Kernel(300 * US), Record(n), StreamWait(n, SIDE), Kernel(200 * US, "attention", SIDE)]
        for n in range(20)
    ]
    known = explored(tmp_path, one_thread([*loop(steps), Wait("cudaDeviceSynchronize")]))
    assert abs(known.replay.error) < 0.01


def test_a_window_is_replayed_by_itself(tmp_path):
    facts = facts_of(tmp_path, families.sync_every_kernel(Maker(2)).program)
    iterations, _ = find_iterations(facts)
    window = choose_window(facts, "iteration:5", iterations)
    known = explore(facts, window)
    assert known.replay.measured_ns == window.duration_ns
    assert abs(known.replay.error) < 0.02
    assert about(known, "sync").count == 20  # waits of this step, not of all


def test_a_window_that_begins_with_host_work_is_replayed_with_it(tmp_path):
    """An iteration begins when its host does: fetching input, long before its first call."""
    step = [Range("step"), Work(3 * MS), *[Kernel(100 * US)] * 10, Wait(), Range()]
    facts = facts_of(tmp_path, one_thread(step * 5))
    iterations, _ = find_iterations(facts)
    span = {"start_ns": iterations[0].start_ns, "end_ns": iterations[-1].end_ns}
    known = explore(facts, Window(**span, label="five iterations"))
    assert abs(known.replay.error) < 0.002
    assert about(known, "host").count == 5  # the first pause lies before the first call


def test_threads_in_turns_wait_for_each_other(tmp_path):
    """A forward thread and a backward thread, each idle while the other launches."""
    launch = {"duration_us": 5}
    turns = range(20)
    forward = [t * 2_000 + k * 50 for t in turns for k in range(8)]
    backward = [t * 2_000 + 500 + k * 50 for t in turns for k in range(8)]
    calls = sorted(
        (us, thread) for us, thread in [(u, 11) for u in forward] + [(u, 12) for u in backward]
    )
    begins = [us for us, _ in calls]
    ids = list(range(1, len(calls) + 1))
    facts = build(
        tmp_path,
        api_calls={
            "start_us": begins, **launch, "thread": [t for _, t in calls], "correlation_id": ids,
        },
        kernels={"start_us": [us + 7 for us in begins], **launch, "correlation_id": ids},
    )  # fmt: skip
    known = explore(facts, whole(facts))
    assert abs(known.replay.error) < 0.001
    # 19 times, nothing is launched from 855 µs to 2,000 µs: without that pause on the one thread,
    # the other one comes sooner as well.
    host = about(known, "host")
    assert host.high_ns < 21_000 * US < known.replay.measured_ns


def test_threads_beside_each_other_are_replayed_both_ways(tmp_path):
    one = Thread(loop([Maker(1).launches(10, 40_000) for _ in range(20)]))
    two = replace(
        one,
        number=2,
        operations=loop([Maker(2).launches(10, 40_000, stream=SIDE) for _ in range(20)]),
    )
    known = explored(tmp_path, Program([one, two]))
    assert abs(known.replay.error) < 0.02


def test_a_full_queue_holds_the_host_only_as_long_as_it_is_full(tmp_path):
    operations = [Kernel(20 * US, "attention") for _ in range(3 * QUEUE_PLACES)]
    known = explored(tmp_path, one_thread(operations), [("attention", 2.0)])
    faster = about(known, "kernel:attention:2")
    # 3,000 kernels of 20 µs and a pause of 1 µs: 63 ms, and 33 ms when each takes 10 µs.
    assert faster.measured_ns == pytest.approx(63 * MS, rel=0.01)
    assert faster.low_ns < 33 * MS < faster.high_ns


# --- when nothing is predicted ----------------------------------------------------------------


def test_without_api_calls_nothing_is_predicted(tmp_path):
    case = confounders.untold_no_calls(Maker(1))
    facts = facts_of(tmp_path, case.program, case.tweaks)
    known = explore(facts, whole(facts))
    assert not known.predictions
    assert "no API calls" in known.replay.reason


def test_operations_without_a_call_forbid_predictions(tmp_path):
    case = confounders.untold_no_correlation(Maker(1))
    facts = facts_of(tmp_path, case.program, case.tweaks)
    known = explore(facts, whole(facts))
    assert not known.predictions
    assert "100 % of the GPU operations have no API call" in known.replay.reason


def test_a_replay_that_misses_the_measured_time_forbids_predictions(tmp_path):
    # 10 kernels of 10 µs whose launch calls return at once, yet each begins 5 ms after the one
    # before, for a reason that is not in the recording.
    facts = build(
        tmp_path,
        api_calls={"start_us": list(range(10)), "duration_us": 1, "correlation_id": range(1, 11)},
        kernels={
            "start_us": [10 + 5_000 * n for n in range(10)],
            "duration_us": 10,
            "correlation_id": range(1, 11),
        },
    )
    known = explore(facts, whole(facts))
    assert not known.predictions
    assert known.replay.error < -0.9
    assert "misses the measured time" in known.replay.reason


def test_work_from_before_the_recording_delays_the_first_operation_only(tmp_path):
    # The first kernel is launched at once and begins after 8 ms, for a reason that lies before
    # the recording; 99 others of 100 µs follow it without a pause.
    begins = [8_000 + 101 * n for n in range(100)]
    facts = build(
        tmp_path,
        api_calls={
            "start_us": [5 * n for n in range(100)],
            "duration_us": 4,
            "correlation_id": range(1, 101),
        },
        kernels={"start_us": begins, "duration_us": 100, "correlation_id": range(1, 101)},
    )
    known = explore(facts, whole(facts), [("kernel", 2.0)])
    assert abs(known.replay.error) < 0.001
    faster = about(known, "kernel:kernel:2")
    assert faster.low_ns < (99 * 51 + 50) * US < faster.high_ns


def test_a_window_without_gpu_work_is_told(tmp_path):
    facts = facts_of(tmp_path, families.launch_late_host(Maker(1)).program)
    window = replace(whole(facts), start_ns=0, end_ns=10)
    assert explore(facts, window).replay.reason == "The window holds no GPU operation."


# --- real recordings --------------------------------------------------------------------------


MISSES = {
    "sglang_Qwen3-8B_decode"
}  # the device idles for 463 ms, for a reason that is not recorded


@pytest.mark.skipif(not REAL.exists(), reason="the real recordings are not here")
def test_real_recordings_are_replayed_or_the_reason_is_told():
    errors = []
    for path in sorted(REAL.glob("torch_trace/*.gz")) + sorted(REAL.glob("nsys_sqlite/*.sqlite")):
        try:
            facts = build_facts(opened(path))
        except RefusedError:
            continue
        told = replay(facts, whole(facts)) if len(facts.launches) else None
        if told is None or not told.devices:
            continue
        missed = any(part in path.name for part in MISSES)
        assert told.is_trusted != missed, path.name
        errors += [] if missed else [abs(told.error)]
    assert len(errors) >= 15
    assert sorted(errors)[len(errors) * 9 // 10] < 0.02


@given(program=st.lists(OPERATIONS, min_size=2, max_size=20))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_compiled_and_interpreted_replays_are_one(program, tmp_path, monkeypatch):
    graph = build_graph(facts_of(tmp_path, one_thread([Kernel(5 * US), *program])))
    times = []
    for interpreted in (True, False):
        monkeypatch.setattr(
            "analyzers.whatif.run.is_interpreted", lambda _, is_so=interpreted: is_so
        )
        times.append(run(graph))
    for name in ("begin", "end", "start", "stop"):
        assert np.array_equal(getattr(times[0], name), getattr(times[1], name))


@pytest.mark.parametrize(("steps", "loads_numba"), [(2, True), (3, False)])
def test_only_long_replays_are_compiled(steps, loads_numba, tmp_path, monkeypatch):
    graph = build_graph(facts_of(tmp_path, one_thread([Kernel(US), Wait()])))
    assert len(graph.calls) + len(graph.operations) == 3
    monkeypatch.setattr("analyzers.whatif.run.INTERPRETED_STEPS", steps)
    monkeypatch.delitem(sys.modules, "analyzers.whatif.compiled", raising=False)
    assert is_interpreted(graph) is not loads_numba
    run(graph)
    assert ("analyzers.whatif.compiled" in sys.modules) is loads_numba


@pytest.mark.parametrize(
    "family",
    [families.host_input, families.sync_every_step, families.communication_exposed],
    ids=lambda f: f.__name__,
)
def test_whole_steps_are_replayed_with_what_precedes_their_first_operation(family, tmp_path):
    facts = facts_of(tmp_path, family(Maker(3)).program)
    steps, work = choose_window(facts, "", ()), choose_window(facts, ALL, ())
    assert steps.start_ns < work.start_ns
    known = explore(facts, steps)
    assert abs(known.replay.error) < 0.001
    assert all(p.high_ns <= steps.duration_ns for p in known.predictions)


def test_a_prediction_about_the_host_holds_the_begin_of_the_first_step(tmp_path):
    facts = facts_of(tmp_path, families.host_input(Maker(3)).program)
    steps, work = choose_window(facts, "", ()), choose_window(facts, ALL, ())
    gains = [
        next(p.gain_ns for p in explore(facts, w).predictions if p.change == "host")
        for w in (steps, work)
    ]
    longer = steps.duration_ns - work.duration_ns
    assert longer > 2_000_000
    assert gains[0] - gains[1] == pytest.approx(longer, rel=0.05)
