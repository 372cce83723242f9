"""Journeys over the timeline's canvas, on its test hook: no pixels are compared, nothing sleeps."""

import json
import os

import numpy as np
import pytest

from jobs import api
from library.cache import DATA_DIR_VARIABLE
from tests.view_fakes import open_sample
from traces.nsys_writer import Recording

pytestmark = pytest.mark.browser

T = "window.__whyslow_timeline"
SETTLED = f"() => !!{T}?.ready && {T}.stats.pending === 0"
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "a\u202eb\u0001c",
    "x" * 100_000,
    "<script>document.title='owned'</script>",
)
FAR_NS = 1 << 60


@pytest.fixture(scope="module")
def sync(data):
    return open_sample("synthetic/synthetic_sync.sqlite", data)


def opened(recording, path, data):
    recording.write(path)
    before = os.environ.get(DATA_DIR_VARIABLE)
    os.environ[DATA_DIR_VARIABLE] = str(data)
    try:
        return api.open_recording(path)
    finally:
        os.environ.pop(DATA_DIR_VARIABLE)
        if before is not None:
            os.environ[DATA_DIR_VARIABLE] = before


@pytest.fixture(scope="module")
def hostile(data, tmp_path_factory):
    """Hostile names, an event without length, and times no browser can count."""
    recording = Recording()
    for number, name in enumerate(HOSTILE):
        begin = FAR_NS + 10_000 * number
        recording.api("cudaLaunchKernel", begin, begin + 900, correlationId=number + 1)
        recording.kernel(name, begin + 2_000, begin + 8_000, correlationId=number + 1)
        recording.nvtx(name[:500], begin, begin if number == 1 else begin + 9_000)
    return opened(recording, tmp_path_factory.mktemp("hostile") / "hostile.sqlite", data)


@pytest.fixture(scope="module")
def crowded(data, tmp_path_factory):
    """Ten thousand threads with a range each."""
    recording = Recording()
    count = 10_000
    threads = recording.pid + 10_000 + np.arange(count)
    recording.bulk(
        "NVTX_EVENTS",
        {
            "start": np.arange(count) * 100,
            "end": np.arange(count) * 100 + 5_000,
            "globalTid": threads,
            "text": "range",
        },
    )
    return opened(recording, tmp_path_factory.mktemp("crowded") / "crowded.sqlite", data)


def look(page, trace, **address):
    more = "".join(f"&{key}={value}" for key, value in address.items())
    page.goto(f"/timeline?trace={trace.id}{more}")
    settle(page)


def settle(page):
    page.wait_for_function(SETTLED)


def ask(page, expression):
    return page.evaluate(f"(() => {{ const t = {T}; return {expression}; }})()")


def view(page):
    return ask(page, "t.view.map(Math.round)")


def canvas(page):
    return page.locator(".timeline canvas").bounding_box()


def row_of(page, label):
    return ask(page, f"t.rows.find((r) => r.label === {json.dumps(label)} && r.lane !== null)")


def click_at(page, label, moment):
    """Click a moment (ns since the first event) in the row with this label."""
    row, box = row_of(page, label), canvas(page)
    x = ask(page, f"t.x({moment})")
    page.mouse.click(box["x"] + x, box["y"] + row["y"] + row["h"] / 2)


def drag(page, start, end, *, keys=()):
    box = canvas(page)
    for key in keys:
        page.keyboard.down(key)
    page.mouse.move(box["x"] + start[0], box["y"] + start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=4)
    page.mouse.up()
    for key in keys:
        page.keyboard.up(key)


def test_the_timeline_shows_every_kind_of_lane(page, launch):
    look(page, launch.trace)
    labels = ask(page, "t.rows.map((r) => r.label).filter(Boolean)")
    for label in ("ledger", "findings", "NVTX", "CUDA API"):
        assert label in labels
    assert any(label.startswith("stream") for label in labels)
    assert ask(page, "t.stats.marks") > 100
    assert ask(page, "t.stats.error") == ""
    assert page.defects == []


def test_the_wheel_zooms_where_the_mouse_is_and_fetches_new_pixels(page, launch):
    look(page, launch.trace)
    box, before = canvas(page), view(page)
    page.mouse.move(box["x"] + 700, box["y"] + 200)
    pinned = ask(page, "t.time(700)")
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"() => {T}.stats.lastPixels > {T}.stats.lastInput")
    after = view(page)
    assert after[1] - after[0] < 0.8 * (before[1] - before[0])
    assert abs(ask(page, "t.time(700)") - pinned) < 0.01 * (after[1] - after[0])


def test_a_search_counts_walks_and_marks_at_any_zoom(page, launch):
    look(page, launch.trace)
    kernels = launch.trace.count("kernels")
    page.locator(".timeline canvas").focus()
    page.keyboard.press("/")
    page.keyboard.type("KERNEL")
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => {T}.found?.place > 0")
    assert ask(page, "t.found.count") >= kernels
    place = ask(page, "t.found.place")
    page.keyboard.press("Enter")
    page.wait_for_function(f"(p) => {T}.found?.place === p + 1", arg=place)
    settle(page)
    picked = ask(page, "t.picked")
    assert "kernel" in picked["name"].lower()
    assert view(page)[0] <= picked["start"] <= picked["end"] <= view(page)[1]
    assert page.locator(".timeline .count").inner_text().startswith(f"{place + 1} of ")


def test_shift_and_drag_measures_the_ledger_of_exactly_that_span(page, launch):
    look(page, launch.trace)
    row = row_of(page, "ledger")
    drag(page, (500, row["y"] + 5), (800, row["y"] + 5), keys=["Shift"])
    page.wait_for_function(f"() => {T}.measured?.answers?.[0]?.devices")
    answer = ask(page, "t.measured.answers[0]")
    rows = answer["devices"][0]["rows"]
    assert sum(r["ns"] for r in rows) == answer["end"] - answer["start"]
    panel = page.locator(".timeline .panel")
    assert answer["duration"] in panel.inner_text()
    panel.get_by_role("button", name="Analyse this window").click()
    page.wait_for_url("**window=span**")
    span = [answer["start"], answer["end"]]
    page.wait_for_function(f"(s) => {T}.given.recordings[0].window[0] === s", arg=span[0])
    assert ask(page, "t.given.recordings[0].window") == span


def test_a_click_leads_from_the_range_over_the_call_to_the_kernel(page, launch):
    first = launch.stored.launches().iloc[100]
    around = 20_000
    look(page, launch.trace, view=f"{first['start_ns'] - around}-{first['end_ns'] + around}")
    label = next(
        x for x in ask(page, "t.rows.map((r) => r.label)") if (x or "").startswith("stream")
    )
    middle = sum(view(page)) // 2
    click_at(page, label, middle)
    page.wait_for_function(f"() => {T}.picked?.chain?.length >= 3")
    roles = [link["role"] for link in ask(page, "t.picked.chain")]
    assert roles[:3] == ["NVTX range", "API call", "operation"]
    assert len(ask(page, "t.picked.arrows")) == len(roles) - 1
    assert page.locator(".timeline .dock .event").get_by_text("launched by").is_visible()
    page.wait_for_url("**event=operations**")


def test_a_block_of_the_ledger_is_explained(page, launch):
    segments = launch.stored.segments()
    gap = segments[(segments["launch"] >= 0).to_numpy()].iloc[50]
    around = int(gap["end_ns"] - gap["start_ns"])  # the block is a third of the view
    look(page, launch.trace, view=f"{gap['start_ns'] - around}-{gap['end_ns'] + around}")
    click_at(page, "ledger", sum(view(page)) // 2)
    page.wait_for_function(f"() => {T}.picked?.facts?.length")
    picked = ask(page, "t.picked")
    assert picked["end"] - picked["start"] == gap["end_ns"] - gap["start_ns"]


def test_hovering_names_what_is_there(page, launch):
    look(page, launch.trace)
    row, box = row_of(page, "NVTX"), canvas(page)
    page.mouse.move(box["x"] + 700, box["y"] + row["y"] + row["h"] - 2)
    page.locator(".timeline .tip").wait_for()
    assert page.locator(".timeline .tip").inner_text().strip()


def test_folding_and_pinning_outlive_a_reload(page, launch):
    look(page, launch.trace)
    heading = page.locator(".timeline .group .toggle").nth(1)
    title = heading.inner_text()
    assert heading.get_attribute("aria-expanded") == "true"
    page.get_by_role("button", name="Pin CUDA API on top").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => {T}.rows.some((r) => r.pinned && r.label === 'CUDA API')")
    heading.click()
    page.wait_for_function(f"() => !{T}.rows.some((r) => r.label === 'ledger')")
    page.reload()
    settle(page)
    assert ask(page, "t.rows.filter((r) => r.pinned).map((r) => r.label)") == ["CUDA API"]
    folded = page.locator(".timeline .group .toggle", has_text=title).first
    assert folded.get_attribute("aria-expanded") == "false"


def test_the_minimap_moves_the_view(page, launch):
    look(page, launch.trace)
    for _ in range(3):
        page.get_by_role("button", name="Zoom in").click()
    settle(page)
    before, box = view(page), canvas(page)
    page.mouse.click(box["x"] + box["width"] - 60, box["y"] + 15)
    settle(page)
    assert view(page)[0] > before[0]
    assert view(page)[1] - view(page)[0] == pytest.approx(before[1] - before[0], rel=0.01)


def test_a_finding_leads_to_its_places(page, launch):
    page.goto(f"/?trace={launch.trace.id}")
    page.get_by_role("link", name="Show on timeline").first.click()
    page.wait_for_url("**/timeline?**mark=**")
    settle(page)
    mark = ask(page, "t.given.recordings[0].mark")
    assert view(page)[0] < mark[0] < mark[1] < view(page)[1]
    assert page.get_by_role("button", name="Finding", exact=True).is_visible()
    page.get_by_role("button", name="Next place").click()
    page.wait_for_function(f"(m) => {T}.given.recordings[0].mark[0] !== m", arg=mark[0])
    settle(page)
    mark = ask(page, "t.given.recordings[0].mark")
    assert view(page)[0] < mark[0] < mark[1] < view(page)[1]


def test_a_kernel_of_the_table_is_found_on_the_timeline(page, launch):
    page.goto(f"/kernels?trace={launch.trace.id}")
    page.get_by_role("link", name="Highlight on the timeline").click()
    page.wait_for_url("**/timeline?**")
    settle(page)
    kernel = launch.stored.kernels().sort_values("total_ns", ascending=False).iloc[0]
    page.wait_for_function(f"() => {T}.found?.count > 0")
    assert ask(page, "t.find") == f'"{kernel["name"]}"'
    assert ask(page, "t.found.count") == kernel["count"]


def test_two_recordings_share_one_axis_and_are_aligned_by_iteration(page, launch, sync):
    look(page, launch.trace, below=sync.trace.id)
    assert ask(page, "t.panes.length") == 2
    assert ask(page, "t.rows.filter((r) => r.label === 'ledger').map((r) => r.recording)") == [0, 1]
    starts = [[i.start_ns for i in x.stored.report.iterations][:2] for x in (launch, sync)]
    offset = ask(page, "t.given.recordings[1].offset")
    page.get_by_role("button", name="Align by the next iteration").click()
    page.wait_for_function(f"(o) => {T}.given.recordings[1].offset !== o", arg=offset)
    settle(page)
    moved = ask(page, "t.given.recordings[1].offset") - offset
    assert moved == (starts[1][1] - starts[0][1]) - (starts[1][0] - starts[0][0])
    before = view(page)
    page.get_by_role("button", name="Zoom in").click()
    settle(page)
    assert view(page)[1] - view(page)[0] < before[1] - before[0]
    assert page.defects == []


def test_what_is_measured_follows_the_alignment(page, launch, sync):
    look(page, launch.trace, below=sync.trace.id)
    page.locator(".timeline canvas").focus()
    page.keyboard.press("m")
    answers = f"{T}.measured?.answers"
    page.wait_for_function(f"() => {answers}?.length === 2 && {answers}.every((a) => a?.devices)")
    first = ask(page, "t.measured.answers[1].start - t.given.recordings[1].offset")
    offset = ask(page, "t.given.recordings[1].offset")
    page.get_by_role("button", name="Align by the next iteration").click()
    page.wait_for_function(f"(o) => {T}.given.recordings[1].offset !== o", arg=offset)
    page.wait_for_function(
        f"(f) => {T}.measured.answers?.[1]?.start - {T}.given.recordings[1].offset === f", arg=first
    )


def test_a_double_click_zooms_to_the_event(page, launch):
    look(page, launch.trace)
    label = next(
        x for x in ask(page, "t.rows.map((r) => r.label)") if (x or "").startswith("stream")
    )
    row, box = row_of(page, label), canvas(page)
    page.mouse.dblclick(box["x"] + 700, box["y"] + row["y"] + row["h"] - 2)
    page.wait_for_function(f"() => {T}.picked?.end && {T}.view[1] - {T}.view[0] < 1e6")
    picked = ask(page, "t.picked")
    assert view(page)[0] <= picked["start"] < picked["end"] <= view(page)[1]


def test_the_search_stays_when_another_window_is_picked(page, launch):
    look(page, launch.trace, find="kernel")
    page.locator(".st-key-pick_window").get_by_role("combobox").click()
    page.get_by_role("option", name="Iteration 2 of").first.click()
    page.wait_for_url("**window=iteration**")
    settle(page)
    assert "find=kernel" in page.url
    assert ask(page, "t.find") == "kernel"


@pytest.mark.parametrize("trouble", ["nothing answers", "a proxy answers with the page"])
def test_where_the_route_cannot_be_reached_the_page_brings_the_tiles(page, launch, trouble):
    def answer(route):
        if trouble == "nothing answers":
            route.abort()
        else:
            route.fulfill(status=200, content_type="text/html", body="<html></html>")

    page.route("**/api/timeline*", answer)
    look(page, launch.trace)
    assert ask(page, "t.stats.transport") == "bytes"
    assert ask(page, "t.stats.marks") > 100
    page.get_by_role("button", name="Zoom in").click()
    settle(page)
    assert ask(page, "t.stats.error") == ""


def test_a_refusal_of_the_route_is_told(page, launch):
    refused = {"status": 403, "content_type": "application/json"}
    body = json.dumps({"error": "The page has expired; reload it."})
    page.route("**/api/timeline*", lambda route: route.fulfill(body=body, **refused))
    page.goto(f"/timeline?trace={launch.trace.id}")
    page.get_by_text("The page has expired; reload it.").first.wait_for()


def test_hostile_names_and_far_times_are_drawn_and_never_run(page, hostile):
    look(page, hostile.trace)
    labels = ask(page, "t.rows.map((r) => r.label).filter(Boolean)")
    row, box = row_of(page, next(x for x in labels if x.startswith("stream"))), canvas(page)
    seen = set()
    for number in range(len(HOSTILE)):
        moment = number * 10_000 + 5_000
        page.mouse.move(box["x"] + ask(page, f"t.x({moment})"), box["y"] + row["y"] + row["h"] / 2)
        page.locator(".timeline .tip").wait_for()
        seen.add(page.locator(".timeline .tip").inner_text())
    assert len(seen) == len(HOSTILE)
    assert any("<script>" in text for text in seen)
    assert any("\\u202e" in text for text in seen)
    assert page.title() != "owned"
    assert page.defects == []
    click_at(page, row["label"], 5_000)
    page.wait_for_function(f"() => {T}.picked?.facts?.length")
    assert "<img" in page.locator(".timeline .dock .event").inner_text()
    assert ask(page, "t.picked.end - t.picked.start") == 6_000
    assert page.title() != "owned"


def test_a_link_holds_times_of_a_clock_that_counts_from_1970(page, hostile):
    look(page, hostile.trace)
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_url("**view=1152921504**")
    kept = view(page)
    page.reload()
    settle(page)
    assert view(page) == kept


def test_ten_thousand_lanes_scroll_to_their_end(page, crowded):
    look(page, crowded.trace)
    assert ask(page, "t.panes[0].layout.lanes.length") == 10_000
    assert len(ask(page, "t.rows")) < 200
    box = canvas(page)
    page.mouse.move(box["x"] + 60, box["y"] + box["height"] - 60)
    for _ in range(6):
        page.mouse.wheel(0, 10**6)
    page.wait_for_function(f"() => {T}.panes[0].scroll >= {T}.panes[0].furthest - 1")
    settle(page)
    assert ask(page, "t.stats.error") == ""
    assert page.defects == []


def test_the_table_beside_the_canvas_lists_the_longest_in_view(page, launch):
    look(page, launch.trace)
    page.get_by_text("The longest GPU operations.").wait_for()
    assert page.locator("[data-testid=stDataFrame]").count() >= 1
    assert page.locator(".timeline canvas").get_attribute("aria-label").startswith("Timeline of ")
