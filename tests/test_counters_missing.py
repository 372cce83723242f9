"""Counters that are incomplete, real ones, and the ways in which an answer about them leaves."""

import csv
import itertools
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import cli.main as cli
from analyzers import analyze, diagnose
from analyzers.facts.facts import WindowError
from analyzers.finding import Cause
from analyzers.losses import ncu_command
from analyzers.metric_names import Part
from analyzers.report import Report
from collectors import open_trace
from collectors.errors import TraceError
from reports.ncu_commands import collected_by, together
from tests import counter_scenarios as scenes
from tests.counter_answers import INSIDE, SCENARIOS, SECTORS, UNCOALESCED, each_once, found, ids, of
from tests.counter_scenarios import DURATION_NS, GOOD, SHORT, launch, written
from tests.ncu_traces import metrics_of
from tests.traces_in_memory import make_trace
from tests.view_fakes import draw, library, open_sample, words
from traces.ncu_writer import Launch, details_page, raw_page

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
FILES = sorted([*(REAL / "ncu_rep").glob("*.ncu-rep"), *(REAL / "ncu_csv").glob("*.csv")])


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """Return a function that analyses a scenario once."""
    return each_once(tmp_path_factory.mktemp("cache"))


# What was not collected.


def test_launches_before_the_window_are_skipped_by_the_command(tmp_path):
    kernels = {"start_us": [0, 100, 200, 300], "duration_us": 50, "name": "k(int)"}
    trace = make_trace(tmp_path, kernels=kernels, api_calls={"start_us": [0], "duration_us": 1})
    reasons = {s.id: s.reason for s in analyze(trace, "span:190000-400000").skipped}
    command = shlex.split(reasons["divergence.idle_lanes"].split("`")[1])
    assert command[command.index("--launch-skip") + 1] == "2"
    assert reasons["bandwidth.uncoalesced_access"] == reasons["divergence.idle_lanes"]


@pytest.mark.parametrize("rule", INSIDE, ids=diagnose.rule_id)
def test_a_missing_metric_gives_the_command_that_collects_it(rule, tmp_path):
    path = written("bare", Launch(metrics={"gpu__time_duration.sum": 5.0}, grid=(0, 0, 0)))
    skipped = {s.id: s.reason for s in of(path, tmp_path).report.skipped}
    reason = skipped[diagnose.rule_id(rule)]
    command = shlex.split(reason.split("`")[1])
    assert command[0] == "ncu"
    sections = [command[i + 1] for i, word in enumerate(command) if word == "--section"]
    assert sections[0] == "SpeedOfLight", "what it records must have durations"
    assert len(sections) == len(set(sections))
    assert command[command.index("--kernel-name") + 1] == "regex:^(kernel)$"
    assert int(command[command.index("--launch-count") + 1]) > 0
    assert "not collected" in reason


@pytest.mark.skipif(not shutil.which("ncu"), reason="ncu is not installed here")
def test_ncu_knows_each_section_and_metric_of_the_printed_commands(tmp_path):
    path = written("bare", Launch(metrics={"gpu__time_duration.sum": 5.0}, grid=(0, 0, 0)))
    result = of(path, tmp_path)
    commands = [s.reason.split("`")[1] for s in result.report.skipped if "`" in s.reason]
    lines = {*commands, ncu_command.command(["k"], 3)}
    options = [option for line in lines for option in itertools.pairwise(shlex.split(line))]
    sections = {value for option, value in options if option == "--section"}
    metrics = {m for option, value in options if option == "--metrics" for m in value.split(",")}
    listed = _printed("--list-sections")
    assert {line.split()[0] for line in listed if line.strip()} >= sections
    names = {line.split()[0] for line in _printed("--query-metrics", "--chip", "ga100") if line[:1]}
    assert {m.partition(".")[0] for m in metrics if not m.startswith("device__")} <= names


def _printed(*options):
    done = subprocess.run(["ncu", *options], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_one_command_collects_all_that_rules_miss(tmp_path):
    path = written("bare", Launch(metrics={"gpu__time_duration.sum": 5.0}, grid=(0, 0, 0)))
    reasons = [s.reason for s in of(path, tmp_path).report.skipped]
    commands = [run for reason in reasons if (run := collected_by(reason))]
    assert len(commands) == len(INSIDE)
    words_of_it = shlex.split(together(commands))
    for run in commands:
        options = [o for o in itertools.pairwise(shlex.split(run)) if o[0].startswith("--")]
        for option, value in options:
            where = words_of_it.index(option) if option != "--section" else 0
            if option == "--metrics":
                assert set(value.split(",")) <= set(words_of_it[where + 1].split(","))
            elif option == "--section":
                assert (option, value) in itertools.pairwise(words_of_it)
    assert words_of_it[-2:] == ["counters", "PROGRAM"]
    sections = [v for o, v in itertools.pairwise(words_of_it) if o == "--section"]
    assert len(sections) == len(set(sections))


def test_what_one_short_launch_tells_is_not_told_of_all(tmp_path):
    silent = launch("long(int)", without=(SHORT["active"], SHORT["live"]), duration=9_000_000)
    report = of(written("mostly_silent", silent, launch("short(int)")), tmp_path).report
    assert Cause.DIVERGENCE in report.verdict.not_examined
    reason = next(s.reason for s in report.skipped if s.id == "divergence.idle_lanes")
    assert reason.startswith("for 90 % of the profiled time, smsp__thread_inst_executed_per_inst")
    assert "run `ncu " in reason


def test_a_loss_that_few_launches_tell_is_told_all_the_same(tmp_path):
    silent = launch("long(int)", without=(SHORT["active"], SHORT["live"]), duration=3_000_000)
    idle = launch("march(int)", active=4, live=4, uniform=50)
    result = of(written("partly_silent", silent, idle), tmp_path)
    assert "divergence.idle_lanes" in ids(result)


def test_a_kernel_without_global_accesses_moves_no_sectors_in_vain(tmp_path):
    none = {
        f"l1tex__t_{what}_pipe_lsu_mem_global_op_ld.sum": 0.0 for what in ("sectors", "requests")
    }
    metrics = dict(launch(without=SECTORS).metrics) | none
    result = of(written("no_accesses", Launch(metrics=metrics)), tmp_path)
    assert UNCOALESCED not in {s.id for s in result.report.skipped} | ids(result)


def test_the_low_estimate_of_idle_lanes_is_what_nsight_compute_estimates(tmp_path):
    # A public recording: 14.91 lanes, compute at 45.88 %; its rule estimates 24.5 %.
    values = {"active": 16.04, "live": 14.91, "compute": 45.88, "memory": 45.88}
    values |= {"dram": 0.14, "l2": 1.19, "l1": 45.88, "achieved": 37.13, "possible": 66.67}
    result = of(written("attention", launch("fa_kernel(float *)", **values)), tmp_path)
    finding = found(result, "divergence.idle_lanes")
    assert finding.low_ns / DURATION_NS == pytest.approx(0.245, abs=0.0005)


def test_of_a_divergent_kernel_and_its_uniform_twin_only_the_first_is_named(tmp_path):
    # Lanes as published for such a pair (even and odd threads apart, then whole warps apart); how
    # long each took was not, so both count alike here.
    apart = launch("divergentKernel(float *)", active=16.0, live=14.15, uniform=50)
    alike = launch("sortedKernel(float *)", active=32.0, live=28.30)
    result = of(written("twins", alike, apart), tmp_path)
    finding = found(result, "divergence.idle_lanes")
    assert finding.title.startswith("Launches of divergentKernel keep 14.2 of a warp's 32 lanes")
    assert result.report.verdict.cause == "divergence"
    assert result.ledger.inside.booked_ns[Part.IDLE_LANES].tolist()[0] == 0


def test_with_nothing_but_durations_the_verdict_is_unknown(tmp_path):
    path = written("bare", Launch(metrics={"gpu__time_duration.sum": 5.0}))
    verdict = of(path, tmp_path).report.verdict
    assert verdict.cause == "unknown"
    assert "run `ncu" in verdict.sentence
    assert Cause.DIVERGENCE in verdict.not_examined


def test_without_a_duration_nothing_is_weighed_and_the_way_out_is_told(tmp_path):
    metrics = {k: v for k, v in GOOD.items() if k != SHORT["duration"]}
    del metrics["sm__cycles_elapsed.max"]
    report = of(written("timeless", Launch(metrics=metrics)), tmp_path).report
    assert report.verdict.cause == "unknown"
    assert "`ncu --section SpeedOfLight " in report.verdict.sentence  # it has durations
    assert report.window.duration_ns == 0
    assert report.failed == ()


def test_there_is_no_window_to_choose(tmp_path):
    trace = open_trace(scenes.good(), tmp_path)
    for request in ("span:0-100", "nvtx:step", "iteration:1"):
        with pytest.raises(WindowError, match="no timeline"):
            analyze(trace, request)


def test_a_report_of_counters_survives_being_written_and_read(analysis):
    report = analysis("idle_lanes").report
    assert Report.from_dict(json.loads(report.to_json())) == report


@pytest.mark.parametrize("page", [raw_page, details_page], ids=["raw", "details"])
def test_a_page_gives_the_same_answer_as_the_report(page, analysis, tmp_path):
    path = tmp_path / "page.csv"
    march = launch("void march_rays<float>(float *)", active=16, live=15.5, uniform=60)
    path.write_text(page([launch(), march]))
    ours, theirs = of(path, tmp_path).report, analysis("idle_lanes").report
    assert ours.verdict == theirs.verdict
    assert [d.rows for d in ours.devices] == [d.rows for d in theirs.devices]


@pytest.mark.parametrize("name", [n for n in SCENARIOS if n != "good"])
def test_whatever_else_is_missing_no_number_is_made_up(name, tmp_path):
    chance = np.random.default_rng(11)
    trace = open_trace(getattr(scenes, name)(), tmp_path)
    metrics = metrics_of(trace)[-1]
    table = trace.frame("profiled_kernels").iloc[-1]
    grid, block = (tuple(int(table[f"{s}_{a}"]) for a in "xyz") for s in ("grid", "block"))
    for number in range(12):
        kept = {n: v for n, v in metrics.items() if chance.random() < 0.5 or n == SHORT["duration"]}
        part = Launch(name="part(int)", metrics=kept, grid=grid, block=block)
        report = of(written(f"{name}{number}", part), tmp_path).report
        assert report.failed == ()
        text = json.dumps(report.to_dict(), allow_nan=False)
        assert " nan" not in text
        assert sum(report.devices[0].rows.values()) == DURATION_NS


def test_all_parts_of_a_launch_together_are_never_more_than_the_launch(tmp_path):
    chance = np.random.default_rng(7)
    keys = [k for k in SHORT if k != "duration"]
    launches = [
        launch(
            f"k{i}(int)",
            grid=(int(chance.integers(1, 400)), 1, 1),
            block=(int(chance.integers(1, 1_025)), 1, 1),
            **{k: float(chance.uniform(0, 100)) for k in chance.choice(keys, 8, replace=False)},
        )
        for i in range(200)
    ]
    result = of(written("random", *launches), tmp_path)
    from analyzers.counters.inside import account_of

    inside = account_of(result.facts.counters)
    assert (inside.booked_ns.sum(axis=0) <= inside.ns).all()
    assert (inside.low_ns <= inside.high_ns).all()
    assert (inside.booked_ns <= inside.high_ns).all()
    assert (inside.booked_ns >= 0).all()
    assert inside.counted.shape == (len(Part), 200)


# Real recordings.


@pytest.mark.skipif(not FILES, reason="the real recordings are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name[-44:])
def test_every_real_file_is_answered_and_its_account_sums(path, tmp_path):
    try:
        result = of(path, tmp_path)
    except TraceError:
        assert "pooling" in path.name
        return
    report = result.report
    assert report.failed == ()
    for device in report.devices:
        assert sum(device.rows.values()) == device.duration_ns
    assert sum(d.duration_ns for d in report.devices) == report.window.duration_ns


@pytest.mark.skipif(not FILES, reason="the real recordings are not here")
@pytest.mark.parametrize(
    ("part", "cause"),
    [("be34af6", "bandwidth"), ("8fce663", "bandwidth"), ("JAX", "parallelism")],
)
def test_real_reports_of_known_trouble_are_called_by_it(part, cause, tmp_path):
    path = next(p for p in FILES if part in p.name)
    assert of(path, tmp_path).report.verdict.cause == cause


# Around the analysis.


def test_the_command_line_answers_with_the_verdict_and_the_range(tmp_path, capsys):
    path = scenes.idle_lanes()
    assert cli.main(["diagnose", str(path), "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Divergence-bound")
    assert "an estimated 490 µs, 464 µs to 516 µs" in said


def test_there_is_nothing_for_perfetto_but_tables_can_be_written(tmp_path, capsys):
    path, data = scenes.idle_lanes(), ["--data-dir", str(tmp_path / "data")]
    assert cli.main(["export", str(path), "--perfetto", str(tmp_path / "o.json"), *data]) == 2
    assert "without a timeline" in capsys.readouterr().err
    assert cli.main(["export", str(path), "--csv", str(tmp_path / "tables"), *data]) == 0
    with (tmp_path / "tables" / "counters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"profiled": "0", "name": SHORT["active"], "value": "32", "text": ""} in rows


def test_a_stored_launch_is_the_profiled_one(tmp_path):
    opened = open_sample(str(scenes.idle_lanes()), tmp_path)
    with library(tmp_path):
        all_of_them, second = opened.stored.launches(), opened.stored.launch(1)
    assert all_of_them["end_ns"].tolist() == [DURATION_NS, 2 * DURATION_NS]
    assert (second["grid_x"], second["block_x"]) == (8_000, 256)
    names = opened.trace.names(np.array([second["short_name_id"]]))
    assert names.tolist() == ["march_rays"]


@pytest.mark.parametrize("page", ["overview", "kernels", "timeline", "open"])
def test_each_page_draws_counters(page, tmp_path):
    opened = open_sample(str(scenes.idle_lanes()), tmp_path)
    with library(tmp_path):
        app = draw(page, trace=opened.trace.id)
    assert not app.exception
    assert not app.error
    if page == "overview":
        assert "Divergence-bound: 24 % of the profiled time" in words(app)
        assert "between 464 µs and 516 µs" in words(app)
    if page == "open":
        assert "**idle_lanes.ncu-rep** Divergence-bound" in words(app)
