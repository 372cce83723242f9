"""What is answered about timelines with counters: the samples, the command line, the pages."""

import itertools
import json
import shlex
from pathlib import Path

import pytest

import cli.main as cli
from analyzers import analyze
from analyzers.analysis import investigate
from analyzers.counters.joining import (
    join,
)
from analyzers.facts.facts import build_facts
from analyzers.finding import KERNEL_ROWS, Cause, Row
from analyzers.report import Report
from collectors import open_trace
from collectors.errors import RefusedError
from jobs import api
from library import cache
from tests.counter_scenarios import SHORT
from tests.joining_helpers import profiled
from tests.traces_in_memory import PROCESS, build, make_trace
from tests.view_fakes import draw, library, open_sample, words

SYNTHETIC = Path(__file__).parents[1] / "traces" / "synthetic"


# The samples.


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Return a function that joins a sample of counters to a sample of a timeline."""
    root = tmp_path_factory.mktemp("cache")

    def get(timeline, counters, window=""):
        trace = open_trace(SYNTHETIC / f"synthetic_{timeline}.sqlite", root)
        return investigate(
            trace,
            window,
            counters=open_trace(SYNTHETIC / f"synthetic_counters_{counters}.ncu-rep", root),
        )

    return get


def test_divergence_is_named_with_its_time_in_the_window(sample):
    result = sample("divergence", "divergence")
    report = result.report
    kernel_ns = sum(result.facts.duration_ns)  # one stream, nothing overlaps
    lost = kernel_ns * (1 - 10.4 / 32) * (0.72 + 1.0) / 2
    assert report.verdict.cause == "divergence"
    assert report.devices[0].rows[Row.DIVERGENCE] == pytest.approx(lost, abs=1)
    assert report.findings[0].id == "divergence.idle_lanes"
    assert report.findings[0].lost_ns == report.devices[0].rows[Row.DIVERGENCE]
    assert report.verdict.share == pytest.approx(lost / report.window.duration_ns)
    assert Cause.DIVERGENCE in report.verdict.examined
    steps = len(report.iterations)
    each = lost / steps / 1e6
    assert f"Divergence in `collatz_steps` costs {each:.3g} ms of each" in report.verdict.sentence
    assert report.verdict.sentence.endswith(" step.")
    assert report.counters["covered_share"] == 1
    assert report.counters["duration_ratio"] == pytest.approx(1, abs=0.01)


def test_the_same_holds_for_one_iteration(sample):
    report = sample("divergence", "divergence", "iteration:3").report
    assert report.verdict.cause == "divergence"
    assert sum(report.devices[0].rows.values()) == report.window.duration_ns


def test_a_finding_inside_kernels_shows_a_launch_on_the_timeline(sample):
    result = sample("divergence", "divergence")
    places = [e for e in result.report.findings[0].evidence if e.start_ns >= 0]
    starts = result.facts.launches["start_ns"].tolist()
    assert places
    assert all(e.start_ns in starts for e in places)


def test_memory_is_named_where_it_holds_kernels_up(sample):
    report = sample("dram", "uncoalesced").report
    assert report.verdict.cause == "bandwidth"
    ids = [f.id for f in report.findings]
    assert ids[0] == "bandwidth.uncoalesced_access"
    assert "bandwidth.dram_saturation" not in ids, "counters tell more than samples"
    rows = report.devices[0].rows
    bandwidth, kernel_ns = rows[Row.BANDWIDTH], sum(rows[row] for row in KERNEL_ROWS)
    # Sectors in vain, and half of what device memory needs beyond compute without them.
    fixed = 3 / 350  # 3 µs of any launch; what else is left reaches 85 % of the peak
    low = 1 - fixed - (1 - fixed) * (1 - 0.75 * 0.55) / 0.85
    share = (low + 0.75) / 2 + (0.91 / 4 - 0.12) / 2
    assert bandwidth == pytest.approx(share * kernel_ns, rel=1e-6)
    assert sum(f.lost_ns for f in report.findings if f.row is Row.BANDWIDTH) == bandwidth


def test_counters_of_another_program_join_nothing_and_say_so(sample):
    report = sample("divergence", "uncoalesced").report
    assert report.verdict.cause == "healthy"
    assert report.counters["covered_ns"] == 0
    assert report.devices[0].rows[Row.BANDWIDTH] == 0
    note = next(n for n in report.quality if n.code == "counters_fit_nothing")
    assert note.level == "warning"
    assert "vectorized_elementwise_kernel" in note.message
    skipped = {s.id: s.reason for s in report.skipped}
    assert "match no kernel in the window" in skipped["divergence.idle_lanes"]
    assert "`ncu " in skipped["divergence.idle_lanes"]


@pytest.mark.parametrize("timeline", [p.stem.partition("_")[2] for p in SYNTHETIC.glob("*.sqlite")])
def test_every_sample_stays_closed_and_survives_being_written(sample, timeline):
    for counters in ("divergence", "uncoalesced"):
        report = sample(timeline, counters).report
        assert report.failed == ()
        for device in report.devices:
            assert sum(device.rows.values()) == device.duration_ns
        text = json.dumps(report.to_dict(), allow_nan=False)
        assert Report.from_dict(json.loads(text)) == report


def test_what_clocks_do_is_said(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20], "duration_us": 10})
    slow = profiled(tmp_path / "c", {"duration_ns": 15_000})
    note = next(n for n in analyze(facts.trace, counters=slow).quality if "clock" in n.code)
    assert note.level == "warning"
    assert "1.50 times as long" in note.message
    assert "--clock-control none" in note.message


def test_without_counters_nothing_changes(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20], "duration_us": 10})
    assert analyze(facts.trace).counters == {}


def test_only_counters_are_joined_and_only_to_a_timeline(tmp_path):
    timeline = make_trace(tmp_path / "t", kernels={"start_us": [0], "duration_us": 10})
    counters = profiled(tmp_path / "c", {})
    with pytest.raises(RefusedError, match="holds no counters"):
        analyze(timeline, counters=timeline)
    with pytest.raises(RefusedError, match="no timeline"):
        analyze(counters, counters=counters)


def test_a_missing_metric_is_asked_for_in_the_launches_of_the_window(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20, 40, 60], "duration_us": 10})
    lacking = profiled(tmp_path / "c", {"active": float("nan"), "live": float("nan")})
    report = analyze(facts.trace, "span:35000-90000", counters=lacking)
    reason = next(s.reason for s in report.skipped if s.id == "divergence.idle_lanes")
    command = shlex.split(reason.split("`")[1])
    assert command[command.index("--launch-skip") + 1] == "2"


def test_a_healthy_timeline_says_that_kernels_were_examined(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 10], "duration_us": 10})
    good = {"waves": 20.0, "compute": 90.0}
    verdict = analyze(facts.trace, counters=profiled(tmp_path / "c", good)).verdict
    assert verdict.sentence.startswith("Healthy on the timeline and inside kernels")
    assert Cause.DIVERGENCE in verdict.examined


def test_little_coverage_does_not_make_a_cause_examined(tmp_path):
    kernels = {"start_us": [0, 10], "duration_us": [1, 99], "name": ["a", "b"]}
    facts = build(tmp_path, kernels=kernels)
    verdict = analyze(facts.trace, counters=profiled(tmp_path / "c", {"name": "a"})).verdict
    assert Cause.DIVERGENCE in verdict.not_examined
    assert "in kernels that the counters do not cover" in verdict.sentence


def test_launches_of_several_processes_have_no_common_order(tmp_path):
    kernels = {"start_us": [0, 20], "duration_us": 10, "process": [PROCESS, PROCESS + 1]}
    facts = build_facts(make_trace(tmp_path, kernels=kernels))
    joined = join(facts, profiled(tmp_path / "c", {"live": 4.0}, {"live": 12.0}))
    values = joined.counters.metric(SHORT["live"])[joined.row]
    assert list(itertools.chain(values)) == [8.0, 8.0]


# Around the analysis.

TIMELINE = SYNTHETIC / "synthetic_divergence.sqlite"
COUNTERS = SYNTHETIC / "synthetic_counters_divergence.ncu-rep"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return a library that holds a timeline and its counters, and their ids."""
    data = tmp_path_factory.mktemp("data")
    ids = [open_sample(str(path), data).trace.id for path in (COUNTERS, TIMELINE)]
    return data, ids[1], ids[0]


def diagnosed(capsys, data, *arguments):
    status = cli.main(["diagnose", *map(str, arguments), "--data-dir", str(data)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_line_joins_counters(both, capsys):
    status, said, _ = diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS)
    assert status == 0
    assert "within them, divergence-bound" in said
    assert "in `collatz_steps` costs" in said
    status, said, _ = diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS, "--json")
    report = json.loads(said)
    assert report["counters"]["name"] == COUNTERS.name
    assert sum(report["devices"][0]["ledger"].values()) == report["devices"][0]["duration_ns"]


def test_an_answer_with_counters_is_kept_apart_from_one_without(both, capsys):
    with_counters = diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS)[1]
    without = diagnosed(capsys, both[0], TIMELINE)[1]
    assert "within them, healthy on the timeline" in without
    assert diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS)[1] == with_counters


@pytest.mark.parametrize(
    ("path", "counters", "trouble"),
    [
        (TIMELINE, TIMELINE, "holds no counters to join"),
        (COUNTERS, COUNTERS, "no timeline to join"),
        (TIMELINE, "missing.ncu-rep", "missing.ncu-rep"),
    ],
)
def test_what_cannot_be_joined_is_refused_in_one_line(both, capsys, path, counters, trouble):
    status, said, error = diagnosed(capsys, both[0], path, "--counters", counters)
    assert (status, said) == (2, "")
    assert trouble in error
    assert error.count("\n") == 1


def test_the_overview_offers_counters_and_the_address_keeps_them(both):
    data, timeline, counters = both
    with library(data):
        app = draw(trace=timeline)
        assert "healthy on the timeline" in words(app)
        app.selectbox(key="pick_counters").set_value(counters).run()
        assert "divergence-bound" in words(app)
        assert app.query_params["counters"] == counters
        app.selectbox(key="pick_counters").set_value("").run()
        assert "counters" not in app.query_params
        assert "healthy on the timeline" in words(app)
    assert not app.exception


@pytest.mark.parametrize("page", ["overview", "kernels"])
def test_pages_show_the_counters_that_the_address_names(both, page):
    data, timeline, counters = both
    with library(data):
        app = draw(page, trace=timeline, counters=counters)
    assert not app.exception
    assert not app.error
    assert app.selectbox(key="pick_counters").value == counters


def test_other_pages_open_with_counters_in_the_address(both):
    data, timeline, counters = both
    with library(data):
        app = draw("timeline", trace=timeline, counters=counters)
    assert not app.exception
    assert not app.error


def test_counters_that_are_gone_are_said_and_can_be_left(both):
    data, timeline, _ = both
    with library(data):
        app = draw(trace=timeline, counters="0123456789abcdef-5")
        assert "not in the library" in app.error[0].value.replace("\\", "")
        app.selectbox(key="pick_counters").set_value("").run()
    assert not app.error


def test_a_recording_of_counters_is_offered_none(both):
    data, _, counters = both
    with library(data):
        app = draw(trace=counters)
    assert [s.key for s in app.selectbox] == ["pick_recording", "pick_window"]


def test_the_key_of_an_analysis_covers_the_counters(both):
    data, timeline, counters = both
    with library(data):
        trace = cache.get(timeline)
        first = api.analyse(trace, "", counters)
        second = api.analyse(trace, "")
    assert first.folder != second.folder
    assert (first.report.verdict.cause, second.report.verdict.cause) == ("divergence", "healthy")
