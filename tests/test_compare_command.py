"""``whyslow compare``: what it takes, prints, writes, and answers to a pipeline."""

import argparse
import json
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import cli.main as cli
from analyzers.compare.compare import compare
from analyzers.compare.measure import measure
from analyzers.facts.facts import WindowError, build_facts
from cli import compare as compare_command
from cli import gate as compare_gate
from jobs import api
from library import analyses, cache, comparisons
from reports.comparison import comparison_summary
from reports.junit import to_junit
from reports.markdown import to_markdown
from reports.terminal import terminal_text
from tests.compare_scenarios import noisy, side

SAMPLES = Path("traces/synthetic").absolute()
LAUNCH, HEALTHY = SAMPLES / "synthetic_launch.sqlite", SAMPLES / "synthetic_healthy.sqlite"
COUNTERS = SAMPLES / "synthetic_counters_divergence.ncu-rep"


def run(capsys, *arguments):
    status = cli.main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_two_recordings_are_compared_and_the_answer_comes_first(capsys):
    status, out, _ = run(capsys, "compare", LAUNCH, HEALTHY, "--anyway")
    assert status == 0
    assert out.startswith(
        "Improved, measured in one run each, with no kernel that both sides have: an iteration "
        "took 2.40 ms and now takes 1.99 ms"
    )
    assert "launch" in out


def test_the_json_keeps_its_contract(capsys):
    _, out, _ = run(capsys, "compare", LAUNCH, "--", HEALTHY, "--json", "--anyway")
    answer = json.loads(out)
    assert answer["schema"] == 1
    assert answer["verdict"] == "improved"
    assert sum(answer["waterfall"].values()) == answer["delta_ns_per_iteration"]
    low, high = answer["ci95_ns"]
    assert low <= answer["delta_ns_per_iteration"] <= high
    assert {"kernels", "regions", "comparability"} <= set(answer)


def test_programs_that_share_no_more_than_a_step_are_compared_only_when_asked(capsys):
    _, out, _ = run(capsys, "compare", LAUNCH, HEALTHY)
    assert out.startswith("Not comparable: These look like different programs")
    assert "--anyway" in out
    assert run(capsys, "compare", LAUNCH, HEALTHY, "--fail-on-regression", "3%")[0] == 4


def test_a_recording_and_its_copy_do_not_differ(capsys, tmp_path):
    copy = Path(shutil.copy(LAUNCH, tmp_path / "another_name.sqlite"))
    _, out, _ = run(capsys, "compare", LAUNCH, copy, "--json", "--fail-on-regression", "0%")
    assert json.loads(out)["verdict"] == "no_difference"


def test_a_gate_fails_on_a_regression_and_passes_an_improvement(capsys):
    gate = ("--anyway", "--fail-on-regression", "3%")
    assert run(capsys, "compare", HEALTHY, LAUNCH, *gate)[0] == 1
    assert run(capsys, "compare", LAUNCH, HEALTHY, *gate)[0] == 0
    assert run(capsys, "compare", HEALTHY, LAUNCH, "--anyway", *gate[1:2], "50")[0] == 0


def test_a_gate_that_cannot_tell_says_so(capsys):
    window = ("--window", "nvtx:step#2", "--anyway")
    assert run(capsys, "compare", LAUNCH, HEALTHY, *window, "--fail-on-regression", "3%")[0] == 4
    assert run(capsys, "compare", LAUNCH, HEALTHY, *window)[0] == 0  # nobody asked for a gate
    assert run(capsys, "compare", LAUNCH, COUNTERS, "--fail-on-regression", "3%")[0] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", LAUNCH),
        ("compare", LAUNCH, LAUNCH, HEALTHY),
        ("compare", LAUNCH, HEALTHY, "--window", "nvtx:nothing"),
        ("compare", LAUNCH, HEALTHY, "--device", "9"),
        ("compare", LAUNCH, SAMPLES / "missing.sqlite"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("whyslow: ")
    assert err.count("\n") == 1
    if "--window" in arguments or "--device" in arguments:
        assert "synthetic_" in err  # which of the two it is


@pytest.mark.parametrize("text", ["three", "-1%", "nan", ""])
def test_a_gate_that_is_no_percentage_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        compare_gate.percent(text)


def test_a_percentage_is_read_with_and_without_its_sign():
    assert compare_gate.percent("3%") == compare_gate.percent("3") == 0.03


def test_options_may_follow_the_new_recordings():
    given = ["compare", "a", "b", "--", "c", "--json"]
    assert compare_command.with_separator(given) == ["compare", "a", "b", "--new", "c", "--json"]
    assert compare_command.with_separator(["export", "--", "x"]) == ["export", "--", "x"]


def test_markdown_and_junit_say_the_verdict(capsys, tmp_path):
    files = tmp_path / "summary.md", tmp_path / "junit.xml"
    options = ("--markdown", files[0], "--junit", files[1], "--anyway")
    options += ("--fail-on-regression", "3%")
    assert run(capsys, "compare", HEALTHY, LAUNCH, *options)[0] == 1
    assert files[0].read_text().startswith("### whyslow: Regressed\n")
    suite = ET.parse(files[1]).getroot()
    assert suite.get("failures") == "1"
    failure = suite.find("testcase[@name='time per iteration']/failure")
    assert failure.get("message").startswith(
        "Regressed, measured in one run each, with no kernel that both sides have: an iteration "
        "took 1.99 ms"
    )


def test_a_file_that_cannot_be_written_is_the_environments_fault(capsys):
    target = "/proc/comparison.md"  # nobody may make files there
    status, _, err = run(capsys, "compare", LAUNCH, HEALTHY, "--markdown", target)
    assert status == 3
    assert "cannot be written" in err


def test_names_of_a_recording_are_no_markup():
    rng = np.random.default_rng(1)
    kernel = ("<img src=x>|`**\x1b[31m@someone", (1, 1, 1, 32, 1, 1))
    sides = [
        side(noisy(rng, 9, level), name=f"<b>{level}|", kernels={kernel: level * 1_000})
        for level in (500.0, 900.0)
    ]
    answer = compare([sides[0]], [sides[1]])
    summary = comparison_summary(answer)
    markdown = to_markdown(summary)
    assert "<img" not in markdown.replace("\\<", "")
    assert "@someone" not in markdown
    assert "\x1b" not in markdown
    assert "\x1b" not in terminal_text(summary)
    assert ET.fromstring(to_junit(answer, {"time": ("\x1b<", "")})) is not None


def test_a_gate_passes_only_what_its_interval_rules_out():
    rng = np.random.default_rng(2)
    base = side(noisy(rng, 12, spread=0.05))
    noise = compare([base], [side(noisy(rng, 12, spread=0.05), name="new")])
    assert compare_gate.gate(noise, 0.001).status == compare_gate.INCONCLUSIVE
    assert compare_gate.gate(noise, 0.5).status == compare_gate.ANSWERED
    assert compare_gate.gate(noise, None).status == compare_gate.ANSWERED


# --- what is kept -------------------------------------------------------------------------


def trace_of(path):
    opened = api.open_recording(path)
    return opened.trace


def test_what_was_measured_is_kept_and_reads_back_the_same():
    trace = trace_of(LAUNCH)
    measured = comparisons.measure_side(trace)
    kept = comparisons.load_side(trace)
    assert kept is not None
    assert compare([measured], [kept]).verdict == "no_difference"
    assert kept.kernels.names == measured.kernels.names
    assert kept.regions.keys == measured.regions.keys
    assert kept.counts.keys() == measured.counts.keys()
    assert replace(kept, counts={}).source == measured.source


def test_what_was_kept_and_is_damaged_is_measured_anew():
    trace = trace_of(LAUNCH)
    comparisons.measure_side(trace)
    path = comparisons.side_path(trace, "", comparisons.BUSIEST)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert comparisons.load_side(trace) is None
    assert comparisons.measure_side(trace).operations > 0


def test_a_child_process_measures_the_same():
    trace = trace_of(HEALTHY)
    assert (api.measure(trace).ledger_ns == comparisons.measure_side(trace).ledger_ns).all()


def same(one, other):
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    return one == other


@pytest.mark.parametrize("name", sorted(p.name for p in SAMPLES.glob("*.sqlite")))
@pytest.mark.parametrize("window", ["", "nvtx:step", "span"])
def test_what_an_analysis_left_gives_the_same_as_measuring_everything_anew(name, window):
    trace = trace_of(SAMPLES / name)
    facts = build_facts(trace)
    if window == "span":  # begins before the first operation and ends behind the last
        begin, end = facts.launches["start_ns"].min(), facts.launches["end_ns"].max()
        window = f"span:{begin - 5_000}-{end + 7_000}"
    kept, analysis = comparisons.load_analysis(trace)
    try:
        anew = measure(facts, window)
    except WindowError:
        with pytest.raises(WindowError):
            measure(kept, window, analysis=analysis)
        return
    again = measure(kept, window, analysis=analysis)
    assert (again.ledger_ns.sum(axis=1) == again.durations_ns).all()
    assert same(replace(again, quality=()), replace(anew, quality=()))


def test_a_recording_with_a_damaged_analysis_is_measured_anew():
    trace = trace_of(LAUNCH)
    comparisons.side_path(trace, "", comparisons.BUSIEST).unlink(missing_ok=True)
    stored = analyses.load(trace)
    table = stored.folder / "segments.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:500] + bytes(600) + whole[1_100:])
    assert comparisons.load_analysis(trace) is None
    assert comparisons.measure_side(trace).operations > 0


def summary(**changes):
    return {"schema": 1, "pair": "p", "device": "cuda", "warmup": 2, "steps": 3, **changes}


def test_what_a_workload_wrote_is_found_beside_its_recording(tmp_path):
    paths = [Path(shutil.copy(p, tmp_path / p.name)) for p in (LAUNCH, HEALTHY)]
    for path, values in zip(paths, ([1.0], [2.0]), strict=True):
        told = summary(result={"values": values, "rtol": 1e-4})
        path.with_name(path.name + comparisons.WORKLOAD).write_text(json.dumps(told))
    traces = [trace_of(p) for p in paths]
    answer = comparisons.compare_recordings(traces[:1], traces[1:])
    assert answer.verdict == "not_comparable"
    assert "different results" in answer.sentence


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', "[" * 100_000])
def test_a_summary_that_is_none_is_told_and_not_used(tmp_path, text):
    path = tmp_path / "x.workload.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not used"):
        comparisons.read_summary(path)


def test_numbers_of_a_summary_that_no_number_can_hold_are_left_out(tmp_path):
    path, huge = tmp_path / "x.workload.json", 10**400
    metrics = [{"name": "throughput", "value": huge}, {"name": "latency", "value": 2}]
    result = {"values": [huge], "rtol": huge}
    path.write_text(json.dumps(summary(step_ns=[huge], metrics=metrics, result=result)))
    found = comparisons.read_summary(path)
    assert [m["name"] for m in found["metrics"]] == ["latency"]
    assert "result" not in found
    assert "step_ns" not in found


def test_parts_of_a_summary_that_are_not_what_they_should_be_are_left_out(tmp_path):
    path = tmp_path / "x.workload.json"
    path.write_text(json.dumps(summary(step_ns=["a"], metrics={}, result={"values": "x"})))
    found = comparisons.read_summary(path)
    assert found == {"pair": "p", "device": "cuda", "warmup": 2, "steps": 3}


def test_telemetry_beside_a_recording_tells_clock_and_throttling(tmp_path):
    path = tmp_path / "x.telemetry.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE gpus (gpu, name, driver)")
        database.execute("INSERT INTO gpus VALUES (0, 'H100', '560.1')")
        database.execute(
            "CREATE TABLE gpu_samples (sm_clock_mhz REAL, throttle_bits INT, utilization_pct REAL)"
        )
        rows = [(1_900.0, 0, 90.0), (1_500.0, 0x40, 95.0), (300.0, 1, 0.0)]
        database.executemany("INSERT INTO gpu_samples VALUES (?, ?, ?)", rows)
    database.close()
    assert comparisons.read_telemetry(path) == {
        "driver": "560.1",
        "sm_clock_mhz": 1_700.0,
        "throttled_share": 0.5,
    }
    assert comparisons.read_telemetry(tmp_path / "none") == {}
    (tmp_path / "broken").write_text("no database")
    assert comparisons.read_telemetry(tmp_path / "broken") == {}


def test_a_recording_is_found_where_it_lies():
    trace = trace_of(LAUNCH)
    assert LAUNCH in cache.paths_of(trace.id)
