"""What could not be told is one line and one command; the reasons are folded, and none is lost."""

import dataclasses
import json
import re

import pytest

from analyzers import analyze
from analyzers.finding import Cause, Skipped
from collectors import open_trace
from reports.diagnosis import REASONS, diagnosis_summary
from reports.html import to_html
from reports.markdown import to_markdown
from reports.terminal import terminal_text
from reports.undetermined import undetermined
from tests import scenarios

NCU = "ncu --set full -o counters PROGRAM"
INSIDE = f"a timeline does not show what happens inside kernels; run `{NCU}`"
SAMPLES = "the GPU's metrics were not sampled; record with `nsys profile --gpu-metrics-devices=all`"
PLAIN = "the recording has no multiprocessor count"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return analyze(open_trace(scenarios.sync(), tmp_path_factory.mktemp("cache")))


def skipping(report, reasons, causes=(Cause.DIVERGENCE, Cause.COMPUTE)):
    """The report with these reasons, each for so many rules."""
    skipped = tuple(
        Skipped(reason, f"rule.{n}_{i}")
        for n, (reason, count) in enumerate(reasons)
        for i in range(count)
    )
    verdict = dataclasses.replace(report.verdict, not_examined=tuple(causes))
    return dataclasses.replace(report, skipped=skipped, verdict=verdict, failed=())


@pytest.mark.parametrize(
    ("reasons", "causes", "sentence", "command"),
    [
        (
            [(INSIDE, 15), (SAMPLES, 1)],
            (Cause.DIVERGENCE, Cause.COMPUTE),
            "The recording says nothing about divergence and compute, and 16 rules have nothing to "
            "go by. This records what 15 of them need:",
            NCU,
        ),
        (
            [(INSIDE, 1), (SAMPLES, 2)],
            (Cause.DIVERGENCE,),
            "The recording says nothing about divergence, and 3 rules have nothing to go by. This "
            "records what 2 of them need:",
            "nsys profile --gpu-metrics-devices=all",
        ),
        (
            [("the device has no name", 2), (SAMPLES, 1)],
            (Cause.DIVERGENCE,),
            "The recording says nothing about divergence, and 3 rules have nothing to go by. This "
            "records what 1 of them needs:",
            "nsys profile --gpu-metrics-devices=all",
        ),
        (
            [(INSIDE, 3)],
            (),
            "The recording covers every cause, but 3 rules have nothing to go by. This records "
            "what all of them need:",
            NCU,
        ),
        (
            [(SAMPLES, 1)],
            (),
            "The recording covers every cause, but 1 rule has nothing to go by. This records what "
            "it needs:",
            "nsys profile --gpu-metrics-devices=all",
        ),
        (
            [(PLAIN, 2)],
            (),
            f"The recording covers every cause, but 2 rules have nothing to go by: {PLAIN}.",
            "",
        ),
        ([], (), "The recording covers every cause.", ""),
    ],
)
def test_one_line_names_what_is_open_and_one_command_records_most(
    report, reasons, causes, sentence, command
):
    answer = undetermined(skipping(report, reasons, causes))
    assert (answer.sentence, answer.command) == (sentence, command)
    assert len(answer.reasons) == len(reasons)


def test_metrics_that_are_missing_are_collected_by_one_command(report):
    lines = [
        f"these metrics were not collected; run `ncu --section {s} --launch-count 5 -o c PROGRAM`"
        for s in ("SpeedOfLight", "Occupancy")
    ]
    answer = undetermined(skipping(report, [(line, 1) for line in lines]))
    assert "--section SpeedOfLight --section Occupancy" in answer.command
    assert "what all of them need" in answer.sentence


def test_a_terminal_shows_the_reasons_when_asked(report):
    brief = terminal_text(diagnosis_summary(skipping(report, [(INSIDE, 15), (SAMPLES, 1)])))
    section = brief.partition("\nCould not tell\n")[2].splitlines()
    assert section[1] == f"  {NCU}"
    assert section[2] == "  2 reasons in full: whyslow diagnose --verbose"
    assert SAMPLES not in brief
    full = terminal_text(
        diagnosis_summary(skipping(report, [(INSIDE, 15), (SAMPLES, 1)]), is_verbose=True)
    )
    assert REASONS in full
    sentence, command = SAMPLES.split(" with `")
    assert f"{sentence} with the command below.\n  {command.rstrip('`')}\n" in full
    assert "0 14" in full
    assert "rule.0_14" not in full


def test_reports_fold_the_reasons_and_keep_them(report):
    document = diagnosis_summary(skipping(report, [(INSIDE, 2), (PLAIN, 1)]), is_verbose=True)
    document = document.mapped(lambda text: text)
    markdown = to_markdown(document)
    folded = re.search(r"<details><summary>(.+?)</summary>(.+?)</details>", markdown, re.DOTALL)
    assert folded is not None
    assert folded[1] == REASONS
    assert PLAIN in folded[2]
    assert f"    {NCU}" in markdown.partition("<details>")[0]
    html = to_html(document)
    inside = html.partition("<details>")[2].partition("</details>")[0]
    assert PLAIN in inside.replace("&#39;", "'")
    assert '<p class="command">' in html.partition("<details>")[0]


def test_the_contract_keeps_every_reason(report):
    data = json.loads(report.to_json())
    assert len(data["skipped"]) == len(report.skipped) > 1
    assert all(s["reason"] for s in data["skipped"])


def test_the_command_for_another_maker_s_gpu_is_shown_as_well(report):
    run = "rocprof-compute profile -n counters -- PROGRAM"
    skipped = skipping(report, [(f"the GPU's metrics were not sampled; run `{run}`", 2)])
    assert undetermined(skipped).command == run
