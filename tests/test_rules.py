"""What every rule promises, and what each finds on a recording whose cause is known."""

import inspect
import types

import numpy as np
import pytest

from analyzers import analyze, diagnose
from analyzers.analysis import investigate
from analyzers.finding import CAUSE_OF_ROW, Cause, Confidence, Finding, Row, Skipped
from analyzers.verdict import HEALTHY_BELOW
from collectors import open_trace
from collectors.schema import CopyKind, MemoryKind, MigrationCause
from tests import scenarios
from tests.traces_in_memory import make_trace

SCENARIOS = [
    name
    for name, function in vars(scenarios).items()
    if isinstance(function, types.FunctionType)
    and function.__module__ == scenarios.__name__
    and not name.startswith("_")
    and not [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
]
HEADINGS = ("What it looks for:", "Why it is slow:", "What to try:", "When it does not apply:")


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """Return a function that analyses a scenario once."""
    root, known = tmp_path_factory.mktemp("cache"), {}

    def get(name):
        if name not in known:
            known[name] = investigate(open_trace(getattr(scenarios, name)(), root))
        return known[name]

    return get


def ids(report):
    return {f.id for f in report.findings}


@pytest.mark.parametrize("rule", diagnose.all_rules(), ids=diagnose.rule_id)
def test_a_rule_says_what_why_and_when_not(rule):
    for heading in HEADINGS:
        assert f"\n{heading}\n" in rule.__doc__, heading
    assert diagnose.rule_id(rule).split(".")[0] == rule.CAUSE.value


def test_every_cause_has_a_rule():
    assert {rule.CAUSE for rule in diagnose.all_rules()} == set(Cause)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_rule_fails(analysis, name):
    assert analysis(name).report.failed == ()


@pytest.mark.parametrize("name", SCENARIOS)
def test_findings_never_claim_more_than_their_row(analysis, name):
    result = analysis(name)
    for row in Row:
        claimed = sum(f.lost_ns for f in result.report.findings if f.row is row)
        assert claimed <= result.ledger.total_ns(row)


@pytest.mark.parametrize("name", SCENARIOS)
def test_rules_divide_a_row_without_help(analysis, name):
    """Ranking caps overlapping claims; no rule may rely on it."""
    result = analysis(name)
    outcomes = diagnose.run_rules(result.facts, result.ledger)
    found = [o for o in outcomes if isinstance(o, Finding)]
    for row in Row:
        assert sum(f.lost_ns for f in found if f.row is row) <= result.ledger.total_ns(row)


@pytest.mark.parametrize("name", SCENARIOS)
def test_evidence_points_into_the_recording(analysis, name):
    result = analysis(name)
    for finding in result.report.findings:
        assert finding.evidence
        assert finding.title
        assert finding.advice.endswith(".")
        for item in finding.evidence:
            if item.start_ns >= 0:
                assert item.start_ns < item.end_ns
                assert 0 <= item.device < len(result.report.devices)


@pytest.mark.parametrize(
    "cause",
    ["launch", "sync", "bandwidth", "host", "communication", "memory", "dependency"],
)
def test_the_verdict_is_the_planted_cause(analysis, cause):
    verdict = analysis(cause).report.verdict
    assert verdict.cause == cause
    assert verdict.share >= HEALTHY_BELOW
    assert Cause(cause) in verdict.examined


@pytest.mark.parametrize(
    ("cause", "culprit"),
    [
        ("host", "mostly during "),
        ("memory", ", mostly in cudaMalloc ("),
        ("sync", "calls to cudaStreamSynchronize."),
    ],
)
def test_the_verdict_names_what_did_it(analysis, cause, culprit):
    assert culprit in analysis(cause).report.verdict.sentence


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("sync", "sync.host_waits"),
        ("sync", "sync.small_readbacks"),
        ("bandwidth", "bandwidth.pageable_copies"),
        ("host", "host.starvation"),
        ("communication", "communication.exposed"),
        ("memory", "memory.allocation"),
        ("memory", "sync.implicit"),
        ("dependency", "dependency.stream_waits"),
        ("pinned_copies", "bandwidth.transfer_bound"),
        ("round_trips", "bandwidth.round_trips"),
        ("parallelism", "parallelism.small_grid"),
        ("dram", "bandwidth.dram_saturation"),
        ("device_gaps", "launch.device_gaps"),
        ("managed_memory", "bandwidth.migrations_in_kernels"),
        ("prefetched_memory", "bandwidth.managed_memory"),
        ("results_read_page_by_page", "host.page_reads"),
    ],
)
def test_the_pattern_is_named(analysis, name, finding):
    assert finding in ids(analysis(name).report)


def test_a_launch_bound_loop_is_named_by_its_pattern(analysis):
    assert ids(analysis("launch").report) & {"launch.small_kernels", "launch.missing_graph"}


def test_migrations_inside_a_kernel_are_part_of_the_kernel(analysis):
    report = analysis("managed_memory").report
    assert report.devices[0].rows[Row.TRANSFER] == 0
    assert "bandwidth.managed_memory" not in ids(report)


def test_faulted_migrations_inside_a_kernel_are_named_prefetched_ones_are_not(tmp_path):
    tables = {
        "kernels": {"start_us": [0], "duration_us": 1_000},
        "copies": {"start_us": [100], "duration_us": 300, "kind": 11, "correlation_id": 9},
    }
    calls = {"start_us": [50], "duration_us": 5}
    prefetch = {"name": "cudaMemPrefetchAsync", "correlation_id": 9}
    asked = make_trace(tmp_path / "a", **tables, api_calls={**calls, **prefetch})
    faulted = make_trace(tmp_path / "b", **tables, api_calls={**calls, "correlation_id": 8})
    assert "bandwidth.migrations_in_kernels" not in ids(analyze(asked))
    assert "bandwidth.migrations_in_kernels" in ids(analyze(faulted))


@pytest.mark.parametrize(
    ("cause", "named"),
    [(MigrationCause.PAGE_FAULT, True), (MigrationCause.USER_PREFETCH, False)],
    ids=["page fault", "prefetch"],
)
def test_a_recording_that_says_why_pages_moved_is_believed(tmp_path, cause, named):
    # Neither has an API call, and the program prefetches now and then.
    trace = make_trace(
        tmp_path,
        kernels={
            "start_us": [0, 1_100],
            "duration_us": 1_000,
            "name": ["first", "second"],
            "correlation_id": [1, 2],
        },
        copies={
            "start_us": 100 * np.arange(10),
            "duration_us": 80,
            "kind": CopyKind.MANAGED_HOST_TO_DEVICE,
            "source_kind": MemoryKind.MANAGED,
            "destination_kind": MemoryKind.MANAGED,
            "migration_cause": cause,
            "stream": 16,
        },
        api_calls={
            "name": ["cudaLaunchKernel", "cudaLaunchKernel", "cudaMemPrefetchAsync"],
            "start_us": [-20, -10, -40],
            "duration_us": 5,
            "correlation_id": [1, 2, 77],
        },
    )
    assert ("bandwidth.migrations_in_kernels" in ids(analyze(trace))) == named


def test_migrations_between_kernels_are_named(tmp_path):
    trace = make_trace(
        tmp_path,
        kernels={"start_us": [0, 500], "duration_us": 100},
        copies={"start_us": [150], "duration_us": 300, "kind": 11},
    )
    assert "bandwidth.managed_memory" in ids(analyze(trace))


def test_pinned_copies_are_never_called_pageable(analysis):
    assert "bandwidth.pageable_copies" not in ids(analysis("pinned_copies").report)


@pytest.mark.parametrize("name", ["healthy", "divergence"])
def test_a_healthy_timeline_has_no_findings_and_says_what_was_not_seen(analysis, name):
    report = analysis(name).report
    assert report.verdict.cause == "healthy"
    assert Cause.DIVERGENCE in report.verdict.not_examined
    assert "What happens inside was not examined: run ncu" in report.verdict.sentence
    assert not [f for f in report.findings if f.row in CAUSE_OF_ROW]


def test_divergence_is_never_inferred_from_a_timeline(analysis):
    for name in SCENARIOS:
        report = analysis(name).report
        assert not [f for f in report.findings if f.cause is Cause.DIVERGENCE]
        assert "divergence.idle_lanes" in {s.id for s in report.skipped}


def test_the_ncu_command_is_given(analysis):
    skipped = {s.id: s.reason for s in analysis("divergence").report.skipped}
    assert "ncu " in skipped["divergence.idle_lanes"]
    assert "--kernel-name" in skipped["divergence.idle_lanes"]


def test_no_gpu_work_is_unknown(analysis):
    report = analysis("no_gpu_work").report
    assert report.verdict.cause == "unknown"
    assert report.devices == ()
    assert not report.findings


def test_a_rule_that_raises_does_not_stop_the_others(analysis, monkeypatch):
    broken = next(r for r in diagnose.all_rules() if diagnose.rule_id(r) == "host.starvation")
    monkeypatch.setattr(broken, "check", lambda *_: 1 / 0)
    result = analysis("sync")
    outcomes = diagnose.run_rules(result.facts, result.ledger)
    failed = [o for o in outcomes if getattr(o, "error", "")]
    assert [f.id for f in failed] == ["host.starvation"]
    assert any(isinstance(o, Finding) for o in outcomes)


def test_overlapping_claims_are_cut_to_the_row(analysis):
    ledger = analysis("sync").ledger
    row = ledger.total_ns(Row.SYNC)
    greedy = Finding(
        title="t",
        row=Row.SYNC,
        lost_ns=row,
        confidence=Confidence.MEASURED,
        advice="a.",
        does_not_apply_when="never.",
        id="sync.a",
    )
    both = diagnose.rank([greedy, greedy], ledger)
    assert [f.lost_ns for f in both] == [row, 0]


def test_without_api_calls_the_cause_of_idle_time_is_unknown(tmp_path):
    trace = make_trace(tmp_path, kernels={"start_us": [0, 100, 200], "duration_us": 10})
    report = analyze(trace)
    assert report.verdict.cause == "unknown"
    assert "No CUDA API calls" in " ".join(q.message for q in report.quality)
    assert {s.id for s in report.skipped} >= {"launch.small_kernels", "sync.host_waits"}
    assert Cause.SYNC in report.verdict.not_examined


def test_a_report_survives_being_written_and_read(analysis):
    report = analysis("sync").report
    assert type(report).from_dict(report.to_dict()) == report


def test_the_contract_s_keys_are_there(analysis):
    data = analysis("sync").report.to_dict()
    assert data["schema"] == 1
    assert set(data) >= {
        *("source", "window", "devices", "verdict", "findings", "skipped", "failed", "quality")
    }
    assert set(data["devices"][0]["ledger"]) == {row.value for row in Row}
    assert sum(data["devices"][0]["ledger"].values()) == data["devices"][0]["duration_ns"]
    assert all(isinstance(v, int) for v in data["devices"][0]["ledger"].values())
    assert set(data["findings"][0]) >= {
        *("id", "cause", "title", "lost_ns", "confidence", "evidence", "advice")
    }
    assert all(isinstance(s, Skipped) for s in analysis("sync").report.skipped)
