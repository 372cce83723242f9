"""The page Compare in a browser: clicks on bars, links that reopen, a report that opens safely."""

import re

import pytest

from tests.view_fakes import open_sample

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def sync(data):
    return open_sample("synthetic/synthetic_sync.sqlite", data)


@pytest.fixture
def compared(page, sync, launch):
    page.goto(f"/compare?base={sync.trace.id}&new={launch.trace.id}")
    page.locator(".st-key-compare_waterfall .js-plotly-plot .barlayer").wait_for(state="attached")
    return page


def bar(page, number):
    return page.locator(".st-key-compare_waterfall .barlayer .point path").nth(number)


def names_of_bars(page):
    return page.locator(".st-key-compare_waterfall .ytick text").all_text_contents()


def test_the_verdict_and_the_waterfall_are_above_the_fold(compared):
    verdict = compared.locator(".st-key-verdict h2")
    assert verdict.inner_text().startswith("Regressed")
    chart = compared.locator(".st-key-compare_waterfall .js-plotly-plot").bounding_box()
    assert verdict.bounding_box()["y"] < chart["y"] < 500


def test_a_click_on_a_bar_shows_both_recordings_where_that_row_costs_most(compared):
    canvas = compared.locator(".st-key-compare_timeline canvas").first
    canvas.wait_for()
    compared.get_by_text(re.compile(r"^launch: .* before, .* now")).wait_for()
    number = names_of_bars(compared).index("sync")
    bar(compared, number).click(force=True)
    compared.get_by_text(re.compile(r"^sync: .* before, .* now")).wait_for()
    canvas.wait_for()
    link = compared.get_by_role("link", name="Baseline on the timeline")
    assert "below=" in link.get_attribute("href")
    assert "mark=" in link.get_attribute("href")


def test_the_link_of_the_evidence_opens_the_timeline_with_both(compared, sync, launch):
    compared.get_by_role("link", name="Baseline on the timeline").click()
    compared.wait_for_url("**/timeline?**")
    compared.locator(".st-key-timeline canvas").first.wait_for()
    assert f"trace={sync.trace.id}" in compared.url
    assert f"below={launch.trace.id}" in compared.url


def test_a_link_reopens_the_comparison(compared):
    verdict = compared.locator(".st-key-verdict h2").inner_text()
    compared.reload()
    compared.locator(".st-key-verdict h2").wait_for()
    assert compared.locator(".st-key-verdict h2").inner_text() == verdict
    assert compared.foreign == []
    assert compared.defects == []


def test_the_downloaded_report_opens_without_a_request_or_an_error(compared, chromium, tmp_path):
    compared.get_by_role("button", name="Report").click()
    with compared.expect_download() as download:
        compared.get_by_role("button", name="HTML", exact=True).click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "whyslow-comparison.html"
    opened = chromium.new_page()
    asked, errors = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: errors.append(message.text))
    opened.goto(path.as_uri())
    opened.locator("h1").wait_for()
    assert asked == [path.as_uri()]
    assert errors == []  # a policy that forbids what the file needs would say so
    size = opened.evaluate("getComputedStyle(document.querySelector('h1')).fontSize")
    assert size != "32px"  # the style sheet is applied
    opened.locator("td a").first.click()
    assert opened.url.startswith(f"{path.as_uri()}#w")
    opened.close()


def test_nothing_reaches_out_of_a_narrow_screen(compared):
    compared.set_viewport_size({"width": 390, "height": 844})
    compared.reload()
    compared.locator(".st-key-compare_waterfall .barlayer").wait_for(state="attached")
    numbers = compared.locator(".st-key-compare_waterfall .annotation-text")
    numbers.first.wait_for()
    for box in (numbers.nth(n).bounding_box() for n in range(numbers.count())):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
