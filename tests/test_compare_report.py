"""The report of a comparison: the same words in every form, and nothing that is private."""

import json

import pytest

from analyzers.compare.types import ComparisonVerdict
from reports.about import ReportOptions
from reports.comparison import Sides, comparison_report
from reports.html import to_html
from reports.json import to_json
from reports.markdown import to_markdown
from reports.privacy import privacy_of
from tests.comparisons_in_memory import comparison
from tests.test_report import Page, attributes, without_signs, words_of

HOSTILE = "</style><script>alert(1)</script>[x](javascript:1) <b>%{x}$"


def report(answer):
    return comparison_report(answer, Sides(sources=[]), ReportOptions(privacy=privacy_of()))


@pytest.mark.parametrize("outcome", list(ComparisonVerdict))
def test_the_report_says_the_same_words_in_every_form(outcome):
    document = report(comparison(outcome))
    answer = json.loads(to_json(document))
    page_ = Page(to_html(document))
    text = page_.text + "".join(attributes(page_, "aria-label"))
    markdown = without_signs(to_markdown(document))
    for said in words_of(answer):
        assert said.replace("`", "") in text
        assert said in markdown
    assert answer["comparison"]["verdict"] == outcome.value


def test_every_number_of_a_compared_report_leads_to_a_window_of_its_side():
    answer = json.loads(to_json(report(comparison())))
    cells = [
        cell
        for section in answer["sections"]
        for block in section["blocks"]
        if "table" in block
        for row in block["rows"]
        for cell in row
        if cell["value"] is not None
    ]
    assert len(cells) > 20
    assert {answer["windows"][c["window"]]["recording"] for c in cells} == {"baseline", "new"}


def test_the_report_of_what_cannot_be_compared_holds_no_number():
    answer = json.loads(to_json(report(comparison(ComparisonVerdict.NOT_COMPARABLE))))
    titles = [section["title"] for section in answer["sections"]]
    assert "Where the change comes from" not in titles
    assert "Kernels" not in titles
    assert answer["windows"] == {}


def test_hostile_names_are_only_shown_in_a_compared_report():
    document = report(comparison(names=(HOSTILE, HOSTILE), kernel=HOSTILE, note=HOSTILE))
    tags = {tag for tag, _ in Page(to_html(document)).elements}
    assert not tags & {"script", "b", "img"}


def test_private_texts_stay_out_of_a_compared_report():
    secret = "/home/canary/secret/train.py"
    document = report(comparison(kernel=secret, note=f"canary ran {secret}"))
    for form in (to_html, to_markdown, to_json):
        assert "canary" not in form(document)
