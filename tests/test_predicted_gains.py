"""Findings say what their advice wins, by replaying the recording with that change."""

import dataclasses

import pytest

from analyzers import analyze
from analyzers.diagnose import all_rules, rule_id
from analyzers.finding import NOTABLE_SHARE, Cause, Confidence, Finding, PredictedGain, Row
from analyzers.report import Report
from analyzers.whatif import gains
from analyzers.whatif.changes import all_changes
from analyzers.whatif.gains import CHANGES, with_predicted_gains
from analyzers.whatif.whatif import explore
from benchmarks.simulated import families
from benchmarks.simulated.cases import Maker, loop, one_thread
from benchmarks.simulated.program import TO_HOST, Copy, Kernel, Wait, Work
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.rules import BUS_BYTES_PER_NS
from benchmarks.simulated.simulator import execute
from collectors import open_trace
from reports.diagnosis import earlier_with_the_same_change, gain_text, short_gain
from tests.whatif_helpers import MS, US, facts_of, whole


def reported(folder, program):
    recorder = Recorder(devices=program.devices)
    execute(program, recorder=recorder)
    return analyze(open_trace(recorder.write(folder / "program.sqlite"), folder / "cache"))


def finding(gain=None, **more):
    return dataclasses.replace(
        Finding(
            title="10 waits left the GPU idle",
            row=Row.SYNC,
            lost_ns=4 * MS,
            confidence=Confidence.MEASURED,
            advice="Remove them.",
            does_not_apply_when="",
            id="sync.host_waits",
            cause=Cause.SYNC,
            predicted_gain=gain,
        ),
        **more,
    )


def gain(low_ns, high_ns, change="sync"):
    return PredictedGain(
        change=change,
        title="removing the 10 waits",
        low_ns=low_ns,
        high_ns=high_ns,
        window_ns=10 * MS,
    )


@pytest.mark.parametrize(
    ("family", "rule", "change"),
    [
        ("sync_every_step", "sync.host_waits", "sync"),
        ("host_input", "host.starvation", "host"),
        ("memory_in_the_loop", "memory.allocation", "memory"),
        ("communication_exposed", "communication.exposed", "communication"),
        ("bandwidth_pageable", "bandwidth.pageable_copies", "copies.overlapped"),
        ("bandwidth_pinned", "bandwidth.transfer_bound", "copies.overlapped"),
    ],
)
def test_a_finding_wins_what_the_whatif_says(family, rule, change, tmp_path):
    program = getattr(families, family)(Maker(1)).program
    report = reported(tmp_path, program)
    found = next(f for f in report.findings if f.id == rule)
    facts = facts_of(tmp_path, program)
    predicted = {p.change: p for p in explore(facts, report.window).predictions}[change]
    assert found.predicted_gain.change == change
    assert found.predicted_gain.window_ns == report.window.duration_ns
    most = found.gain_ns if found.gain_ns >= 0 else report.window.duration_ns
    assert found.predicted_gain.low_ns == min(predicted.measured_ns - predicted.high_ns, most)
    assert found.predicted_gain.high_ns == min(predicted.measured_ns - predicted.low_ns, most)


def test_what_must_still_run_is_left_of_the_window(tmp_path):
    size = 10 * MS * BUS_BYTES_PER_NS
    steps = [[Copy(size), Kernel(MS), Copy(size, TO_HOST), Wait()] for _ in range(20)]
    report = reported(tmp_path, one_thread(loop(steps)))
    trips = next(f for f in report.findings if f.id == "bandwidth.round_trips")
    won = trips.predicted_gain
    assert won.change == "copies.resident"
    # 20 kernels of 1 ms, one copy down and one up are left.
    assert 0.9 * 380 * MS < won.low_ns <= won.high_ns <= won.window_ns - 40 * MS


def test_overlap_never_wins_more_than_the_shorter_side(tmp_path):
    steps = [[Copy(10 * MS * BUS_BYTES_PER_NS), Kernel(500 * US)] for _ in range(10)]
    report = reported(tmp_path, one_thread(loop(steps)))
    copies = next(f for f in report.findings if f.id == "bandwidth.transfer_bound")
    assert copies.gain_ns == pytest.approx(5 * MS, rel=0.01)
    assert copies.predicted_gain.high_ns <= copies.gain_ns


def test_hidden_launches_win_nothing_in_a_graph(tmp_path):
    """The host is ahead all the time: what its launches cost, the GPU never waits for."""
    steps = [[Kernel(100 * US)] * 20] * 20
    facts = facts_of(tmp_path, one_thread(loop(steps)))
    graph = next(p for p in explore(facts, whole(facts)).predictions if p.change == "graph")
    assert not graph.wins
    assert graph.low_ns >= 400 * 100 * US


def test_every_named_change_and_rule_exists():
    rules = {rule_id(rule) for rule in all_rules()}
    changes = {change.NAME for change in all_changes()}
    assert set(CHANGES) <= rules
    assert {name for names in CHANGES.values() for name in names} <= changes


@pytest.mark.parametrize(("spare", "is_replayed"), [(0, True), (-1, False)])
def test_recordings_that_are_too_long_say_up_to(spare, is_replayed, tmp_path, monkeypatch):
    facts = facts_of(tmp_path, families.sync_every_step(Maker(1)).program)
    monkeypatch.setattr(gains, "MAX_STEPS", len(facts.launches) + len(facts.api) + spare)
    (after,) = with_predicted_gains(facts, whole(facts), (finding(),))
    assert (after.predicted_gain is not None) is is_replayed


def test_a_defect_in_a_prediction_hides_no_finding(tmp_path, monkeypatch):
    facts = facts_of(tmp_path, families.sync_every_step(Maker(1)).program)
    monkeypatch.setattr(gains, "explore_changes", lambda *_, **__: 1 / 0)
    assert with_predicted_gains(facts, whole(facts), (finding(),)) == (finding(),)


def test_nothing_is_replayed_for_advice_that_no_replay_can_follow(tmp_path, monkeypatch):
    facts = facts_of(tmp_path, families.sync_every_step(Maker(1)).program)
    monkeypatch.setattr(gains, "explore_changes", lambda *_, **__: pytest.fail("replayed"))
    other = finding(id="parallelism.small_grid")
    assert with_predicted_gains(facts, whole(facts), (other,)) == (other,)


def test_gains_survive_being_stored(tmp_path):
    report = reported(tmp_path, families.sync_every_step(Maker(1)).program)
    first = report.findings[0].predicted_gain
    assert first is not None
    assert report.to_dict()["findings"][0]["predicted_gain"] == {
        "change": first.change,
        "title": first.title,
        "low_ns": first.low_ns,
        "high_ns": first.high_ns,
        "window_ns": first.window_ns,
    }
    assert Report.from_dict(report.to_dict()) == report


LIMIT = round(NOTABLE_SHARE * 10 * MS)


@pytest.mark.parametrize(
    ("low_ns", "high_ns", "saved"),
    [
        (3 * MS, 4 * MS, "saves 3 ms to 4 ms of 10 ms"),
        (LIMIT, 4 * MS, "saves 200 µs to 4 ms of 10 ms"),
        (LIMIT - 1, 4 * MS, "saves up to 4 ms of 10 ms"),
        (3 * MS, 3 * MS, "saves 3 ms of 10 ms"),
        (0, LIMIT, "saves up to 200 µs of 10 ms"),
        (0, LIMIT - 1, "saves next to nothing of 10 ms: other work takes as long"),
        (
            5 * MS,
            6 * MS,
            "saves 5 ms to 6 ms of 10 ms, more than this costs, since what follows comes "
            "earlier, too",
        ),
    ],
)
def test_a_gain_in_words(low_ns, high_ns, saved):
    assert gain_text(finding(gain(low_ns, high_ns))) == f"Replayed, removing the 10 waits {saved}"


@pytest.mark.parametrize(
    ("high_ms", "words"),
    [(4, "saves 2 ms to 4 ms of 10 ms"), (5, "removing the 10 waits saves 2 ms to 5 ms of 10 ms")],
)
def test_a_card_names_the_change_that_wins_more_than_its_finding_costs(high_ms, words):
    assert short_gain(finding(gain(2 * MS, high_ms * MS))) == words


def test_one_change_is_not_added_up_over_findings():
    ranked = [
        finding(gain(0, MS, "graph")),
        finding(),
        finding(gain(0, MS, "sync")),
        finding(gain(0, MS, "graph")),
        finding(),
    ]
    assert earlier_with_the_same_change(ranked) == [0, 0, 0, 1, 0]
    assert gain_text(ranked[3], 1).endswith("(the same change as for 1)")


@pytest.mark.parametrize(("between", "is_advised"), [((), True), ((Wait(),), False)])
def test_a_graph_is_not_advised_where_it_would_win_nothing(between, is_advised, tmp_path):
    """Waits between the launches leave graphs of one or two, which nobody builds."""
    kernel = (Work(30 * US, is_dispatch=True), Kernel(3 * US))
    steps = [[*kernel, *kernel, *between, *kernel, *kernel, *between] * 3 for _ in range(12)]
    report = reported(tmp_path, one_thread(loop(steps)))
    advised = [f for f in report.findings if f.id in gains.WITHOUT_GRAPH]
    assert advised
    for found in advised:
        if is_advised:
            assert "CUDA graph" in found.advice
        else:
            assert found.advice == gains.WITHOUT_GRAPH[found.id]
        assert (found.predicted_gain is not None) is is_advised
