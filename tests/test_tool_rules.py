"""What Nsight Compute's own rules said stands beside what whyslow says, and where they differ."""

import json

import pytest

import cli.main as cli
from analyzers.report import Report
from reports.tool_rules import estimate_text
from tests.counter_answers import of
from tests.counter_scenarios import DURATION_NS, launch, written
from tests.view_fakes import draw, library, open_sample, words
from traces.ncu_writer import Launch, Rule, details_page

UNCOALESCED = Rule("UncoalescedGlobalAccess", "It has uncoalesced accesses. See more.", 4, 2, 17.0)


def ruled(*rules, **changes):
    plain = launch("matmul(float *)", **changes)
    return Launch(
        name=plain.name, grid=plain.grid, block=plain.block, metrics=plain.metrics, rules=rules
    )


def answer(tmp_path, *launches):
    return of(written("ruled", *launches), tmp_path).report


def test_an_estimate_is_told_with_its_kernel_and_what_whyslow_finds(tmp_path):
    rule = answer(tmp_path, ruled(UNCOALESCED, ideal_sectors=250, compute=15, memory=70, l2=70))
    (said,) = rule.tool_rules
    assert (said.kernel, said.rule, said.text) == ("matmul(float *)", *UNCOALESCED[:2])
    assert (said.scope, said.estimate, said.launches, said.total_ns) == (
        *("global", 0.17, 1),
        DURATION_NS,
    )
    assert said.ours == "bandwidth.uncoalesced_access"
    assert (said.low, said.booked, said.high) == pytest.approx((0.439852, 0.594926, 0.75), abs=1e-5)
    assert said.comparison == (
        "whyslow finds 59 % of its time, at most 75 % (bandwidth.uncoalesced_access): Nsight "
        "Compute says less"
    )


@pytest.mark.parametrize(
    ("estimate", "words_of_it"),
    [
        (39.0, "whyslow finds 59 % of its time, at most 75 % (bandwidth.uncoalesced_access): both"),
        (38.9, "says less"),
        (80.0, "both agree"),
        (80.1, "says more"),
    ],
)
def test_estimates_agree_within_five_points_of_the_range(estimate, words_of_it, tmp_path):
    rule = UNCOALESCED._replace(speedup_pct=estimate)
    told = answer(tmp_path, ruled(rule, ideal_sectors=250, compute=15, memory=70, l2=70))
    assert words_of_it in told.tool_rules[0].comparison


def test_a_gain_that_only_ncu_estimates_is_told_in_the_verdict(tmp_path):
    report = answer(tmp_path, ruled(UNCOALESCED))
    assert report.verdict.cause == "healthy"
    assert (
        "Nsight Compute's own rule Uncoalesced Global Access estimates that 17 % of the time of "
        "matmul can be saved; whyslow finds nothing to win there: Nsight Compute says more."
    ) in report.verdict.sentence


@pytest.mark.parametrize(("estimate", "told"), [(10.0, True), (9.9, False)])
def test_the_verdict_tells_estimates_from_a_tenth_of_the_profiled_time_on(estimate, told, tmp_path):
    report = answer(tmp_path, ruled(UNCOALESCED._replace(speedup_pct=estimate)))
    assert ("own rule" in report.verdict.sentence) == told


def test_a_local_estimate_is_no_part_of_the_time(tmp_path):
    local = Rule("IssueSlotUtilization", "every 29.5 cycles", 4, 1, 96.6)
    report = answer(tmp_path, ruled(local))
    (said,) = report.tool_rules
    assert estimate_text(said) == "97 % (local)"
    assert said.comparison == "whyslow finds nothing to win there"
    assert "own rule" not in report.verdict.sentence


def test_what_is_fine_and_what_whyslow_does_not_judge_is_told_as_that(tmp_path):
    fine = Rule("SOLBottleneck", "all is well", 1)
    other = Rule("MemoryL2Compression", "compresses little", 2)
    (said,) = answer(tmp_path, ruled(fine, other)).tool_rules
    assert (said.rule, said.scope, estimate_text(said)) == ("MemoryL2Compression", "", "")
    assert said.comparison == "whyslow does not judge that"


def test_launches_of_a_kernel_are_weighed_with_their_time_and_kernels_are_ordered_by_it(tmp_path):
    short = ruled(UNCOALESCED._replace(speedup_pct=50.0), duration=1_000.0)
    long = ruled(UNCOALESCED._replace(speedup_pct=10.0, text="long"), duration=3_000.0)
    other = launch("other(int)", duration=9_000.0)
    first = Launch(name=other.name, metrics=other.metrics, rules=(UNCOALESCED,))
    said = answer(tmp_path, short, long, first).tool_rules
    assert [(r.kernel, r.launches, r.total_ns, r.text) for r in said] == [
        ("other(int)", 1, 9_000, UNCOALESCED.text),
        ("matmul(float *)", 2, 4_000, "long"),
    ]
    assert said[1].estimate == pytest.approx(0.2)


def test_a_details_page_tells_the_same_rules_as_the_report(tmp_path):
    kernel = ruled(UNCOALESCED, Rule("Occupancy", "limited by registers", 2))
    path = tmp_path / "page.csv"
    path.write_text(details_page([kernel]))
    assert of(path, tmp_path).report.tool_rules == answer(tmp_path, kernel).tool_rules


def test_rules_are_in_the_terminal_the_json_and_the_reports(tmp_path, capsys):
    path = written("everywhere", ruled(UNCOALESCED))
    data = ["--data-dir", str(tmp_path / "data")]
    assert cli.main(["diagnose", str(path), *data]) == 0
    text = capsys.readouterr().out
    assert "Nsight Compute's own rules" in text
    assert "It has uncoalesced accesses." in text
    assert "See more." not in text, "the summary has a rule's first sentence"
    assert cli.main(["diagnose", str(path), "--json", *data]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [r["rule"] for r in told["tool_rules"]] == ["UncoalescedGlobalAccess"]
    assert Report.from_dict(told).tool_rules[0].estimate == 0.17
    report = tmp_path / "report.md"
    assert cli.main(["report", str(path), "--markdown", str(report), *data]) == 0
    assert "It has uncoalesced accesses. See more." in report.read_text()


def test_the_page_shows_the_rules_of_the_picked_kernel(tmp_path):
    opened = open_sample(str(written("page", ruled(UNCOALESCED))), tmp_path)
    with library(tmp_path):
        app = draw("kernels", trace=opened.trace.id)
    assert not app.exception
    assert "Nsight Compute's own rules" in words(app)
    frames = [frame.value for frame in app.dataframe if "it says" in frame.value.columns]
    assert frames[0]["it says"].tolist() == [UNCOALESCED.text]
