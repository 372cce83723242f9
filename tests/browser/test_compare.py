"""The page Compare in a browser: clicks on bars, links that reopen, a report that opens safely."""

import re

import pytest

from tests.view_fakes import open_sample

pytestmark = pytest.mark.browser

ROW_PX, CHECKBOX_PX = 35, 16  # of Streamlit's tables


@pytest.fixture
def compared(page, sync, memory):
    page.goto(f"/compare?base={sync.trace.id}&new={memory.trace.id}")
    page.locator(".st-key-compare_waterfall .js-plotly-plot .barlayer").wait_for(state="attached")
    return page


@pytest.fixture(scope="session")
def pair(data):
    names = ("pair_baseline", "pair_optimized")
    return [open_sample(f"synthetic/synthetic_{name}.sqlite", data).trace for name in names]


@pytest.fixture
def improved(page, pair):
    page.goto(f"/compare?base={pair[0].id}&new={pair[1].id}")
    page.locator(".st-key-compare_waterfall .js-plotly-plot .barlayer").wait_for(state="attached")
    page.locator(".st-key-compare_timeline canvas").first.wait_for()
    return page


def cell(page, table, row, column):
    """Click into a table, which is a canvas: rows and columns are found by where they stand."""
    shown = page.locator(f".st-key-{table} .dvn-scroller").first
    shown.wait_for()
    x = column * shown.bounding_box()["width"] if column < 1 else column
    shown.click(position={"x": x, "y": (row + 1.5) * ROW_PX})


def evidence(page):
    return page.locator(".st-key-compare_evidence_words")


def bar(page, number):
    return page.locator(".st-key-compare_waterfall .barlayer .point path").nth(number)


def names_of_bars(page):
    """Return the names from the top; the axis counts from the bottom."""
    return page.locator(".st-key-compare_waterfall .ytick text").all_text_contents()[::-1]


def test_the_verdict_and_the_waterfall_are_above_the_fold(compared):
    verdict = compared.locator(".st-key-verdict h2")
    assert verdict.inner_text().startswith("Regressed")
    chart = compared.locator(".st-key-compare_waterfall .js-plotly-plot").bounding_box()
    assert verdict.bounding_box()["y"] < chart["y"] < 500


def test_recordings_that_are_picked_are_compared(page, sync, memory, launch):
    page.goto(f"/compare?trace={memory.trace.id}")  # which is the new side until another is picked
    page.get_by_role("combobox", name="Baseline").click()
    page.get_by_role("option", name="synthetic_sync").click()
    page.keyboard.press("Escape")
    page.locator(".st-key-verdict h2").get_by_text(re.compile("^Regressed")).wait_for()
    assert f"base={sync.trace.id}" in page.url
    assert f"new={memory.trace.id}" in page.url


def test_a_click_on_a_bar_shows_both_recordings_where_that_row_costs_most(compared):
    canvas = compared.locator(".st-key-compare_timeline canvas").first
    canvas.wait_for()
    compared.get_by_text(re.compile(r"^memory: .* before, .* now")).wait_for()
    number = names_of_bars(compared).index("sync")
    bar(compared, number).click(force=True)
    compared.get_by_text(re.compile(r"^sync: .* before, .* now")).wait_for()
    canvas.wait_for()
    link = compared.get_by_role("link", name="Baseline on the timeline")
    assert "below=" in link.get_attribute("href")
    assert "mark=" in link.get_attribute("href")


def test_the_link_of_the_evidence_opens_the_timeline_with_both(compared, sync, memory):
    compared.get_by_role("link", name="Baseline on the timeline").click()
    compared.wait_for_url("**/timeline?**")
    compared.locator(".st-key-timeline canvas").first.wait_for()
    assert f"trace={sync.trace.id}" in compared.url
    assert f"below={memory.trace.id}" in compared.url


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
    opened.set_viewport_size({"width": 718, "height": 1_000})  # A4 between its margins
    opened.emulate_media(media="print")
    tables = "[...document.querySelectorAll('table')]"
    wide = f"{tables}.map(t => t.scrollWidth - t.parentElement.clientWidth)"
    assert max(opened.evaluate(wide)) <= 0
    opened.emulate_media(media="screen")
    opened.locator("td a").first.click()
    assert opened.url.startswith(f"{path.as_uri()}#w")
    opened.close()


def test_a_click_on_a_kernel_shows_both_recordings_at_its_launch(improved):
    evidence(improved).get_by_text(re.compile("^transfer: ")).wait_for()
    improved.get_by_role("tab", name="Kernels").click()
    cell(improved, "compare_kernels", row=0, column=CHECKBOX_PX)
    evidence(improved).get_by_text(re.compile("^vectorized_elementwise_kernel: 180 µs")).wait_for()
    improved.get_by_role("link", name="New on the timeline").wait_for()


def test_a_click_on_a_cell_of_the_regions_shows_both_recordings_there(improved):
    improved.get_by_role("tab", name="Regions").click()
    cell(improved, "compare_regions", row=0, column=0.45)
    words = re.compile(r"^(step|data|forward|backward|optimizer|outside any region), \w+: ")
    evidence(improved).get_by_text(words).wait_for()
    improved.get_by_role("tab", name="Regions", selected=True).wait_for()


def test_the_back_button_leads_from_the_timeline_to_the_comparison(improved):
    verdict = improved.locator(".st-key-verdict h2").inner_text()
    improved.get_by_role("link", name="New on the timeline").click()
    improved.wait_for_url("**/timeline?**")
    improved.locator(".st-key-timeline canvas").first.wait_for()
    improved.go_back()
    improved.wait_for_url("**/compare?**")
    improved.locator(".st-key-verdict h2").get_by_text(verdict).wait_for()


def test_nothing_reaches_out_of_a_narrow_screen(compared):
    compared.set_viewport_size({"width": 390, "height": 844})
    compared.reload()
    compared.locator(".st-key-compare_waterfall .barlayer").wait_for(state="attached")
    numbers = compared.locator(".st-key-compare_waterfall .annotation-text")
    numbers.first.wait_for()
    for box in (numbers.nth(n).bounding_box() for n in range(numbers.count())):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
