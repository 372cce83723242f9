"""The timeline as a tool for the keyboard: keys, queries, marks in the address; one visit each."""

import pytest

from tests.browser.test_timeline import T, ask, canvas, look, settle, view
from tests.view_fakes import open_sample

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def sync(data):
    return open_sample("synthetic/synthetic_sync.sqlite", data)


def test_the_timeline_is_worked_by_keys_alone_as_perfetto_is(page, sync):
    kernel = sync.stored.launches().iloc[560]
    middle = int(kernel["start_ns"] + kernel["end_ns"]) // 2
    look(page, sync.trace, view=f"{middle - 10**6}-{middle + 10**6}")
    scroller = page.locator("[data-testid=stMain]")
    stage = page.locator(".timeline .stage")
    box = stage.bounding_box()
    assert box["x"] < 16  # from edge to edge
    assert box["x"] + box["width"] > 1440 - 16
    assert box["y"] + box["height"] > 900 - 40
    whole, press = view(page), page.keyboard.press
    page.locator(".timeline canvas").focus()
    for _ in range(8):
        press("w")
    zoomed = view(page)
    assert zoomed[1] - zoomed[0] < (whole[1] - whole[0]) / 40
    press("d")
    assert view(page)[0] > zoomed[0]
    press("a")
    settle(page)
    press(".")  # nothing is selected yet: what lies in the middle is
    page.wait_for_function(f"() => {T}.picked?.facts?.length")
    first, lanes = ask(page, "t.picked"), ask(page, "t.rows.map((r) => r.y)")
    assert page.locator(".timeline .dock").is_visible()
    assert page.locator(".timeline .spoken").inner_text().startswith(first["name"][:20])
    press(".")
    page.wait_for_function(f"(e) => {T}.picked.event !== e && {T}.picked.facts", arg=first["event"])
    assert ask(page, "t.picked.lane") == first["lane"]
    assert ask(page, "t.picked.start") >= first["end"]
    press(",")
    page.wait_for_function(f"(e) => {T}.picked.event === e && {T}.picked.chain", arg=first["event"])
    settle(page)
    assert stage.bounding_box() == box  # details push nothing
    assert ask(page, "t.rows.map((r) => r.y)")[:3] == lanes[:3]
    assert scroller.evaluate("(e) => e.scrollTop") == 0
    chain = ask(page, "t.picked.chain")
    assert [link["role"] for link in chain][-1] == "wait that it ends"
    place = [link["event"] for link in chain].index(first["event"])
    press("]")
    page.wait_for_function(f"(e) => {T}.picked.event === e", arg=chain[place + 1]["event"])
    press("[")
    page.wait_for_function(f"(e) => {T}.picked.event === e", arg=first["event"])
    settle(page)
    press("f")
    press("f")
    near = view(page)
    assert near[1] - near[0] == pytest.approx(1.5 * (first["end"] - first["start"]), abs=4)
    press("m")
    page.wait_for_function(f"() => {T}.measured?.answers?.[0]?.devices")
    assert ask(page, "t.measured.span") == [first["start"], first["end"]]
    page.get_by_role("button", name="Download CSV").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    rows = download.value.path().read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("kind,name,count,total_ns")
    assert any(f",{first['end'] - first['start']}," in row for row in rows[1:])
    names = page.locator(".timeline .names tbody tr td:first-child")
    page.get_by_role("button", name="kind", exact=True).click()
    assert names.all_inner_texts() == sorted(names.all_inner_texts())
    page.locator(".timeline canvas").focus()
    press("q")
    page.locator(".timeline .dock").wait_for(state="hidden")
    press("Escape")  # the measure first, then the event
    assert ask(page, "!t.measured && !!t.picked")
    press("Shift+F")
    assert page.locator(".timeline.focused").bounding_box() == {
        **{"x": 0, "y": 0},
        **{"width": 1440, "height": 900},
    }
    press("?")
    page.get_by_role("dialog", name="Keys and gestures").wait_for()
    press("Escape")
    press("Shift+F")
    press("0")
    settle(page)
    assert view(page)[1] - view(page)[0] >= whole[1] - whole[0]
    assert page.locator(".timeline .pin").first.is_visible()
    find = page.locator(".timeline .find")
    ask(page, "t.dock.toggle(true)")
    find.focus()
    ask(page, "t.picking.clear()")  # as the server does
    page.locator(".timeline .dock").wait_for(state="hidden")
    assert find.evaluate("(e) => e.getRootNode().activeElement === e")  # the reader stays there
    twice = "(t.notes.add(10.4, 20.6), t.notes.add(10.4, 20.6), t.notes.list)"
    assert ask(page, twice) == [{"start": 10, "end": 21, "text": ""}]
    assert page.defects == []


def test_a_query_finds_selects_and_tells_what_is_wrong_and_marks_live_in_the_address(page, sync):
    look(page, sync.trace)
    find, canvas_ = page.locator(".timeline .find"), page.locator(".timeline canvas")
    find.focus()
    page.get_by_text("Or ask:").wait_for()
    find.fill("strem:7 > 1us")
    page.get_by_text("did you mean stream:?").wait_for()
    assert find.get_attribute("aria-invalid") == "true"
    assert not page.locator(".timeline .next").is_enabled()
    page.get_by_role("button", name="cause:sync").click()
    page.wait_for_function(f"() => {T}.found?.count > 0")
    settle(page)
    page.keyboard.press("Enter")
    page.wait_for_url("**event=segments**")
    page.wait_for_function(f"() => {T}.picked?.facts?.length")
    assert ask(page, "t.picked.name").startswith("sync")
    assert page.locator(".timeline .event-title b").inner_text().startswith("sync")
    find.fill("kernel > 20us")
    page.wait_for_url("**find=kernel**")
    page.keyboard.press("Enter")
    page.wait_for_url("**event=operations**")  # the address follows the match
    page.wait_for_function(f"() => {T}.picked?.facts?.length && {T}.picked.name.includes('kernel')")
    assert ask(page, "t.picked.end - t.picked.start") > 20_000
    page.keyboard.press("Escape")
    assert canvas_.evaluate("(e) => e.getRootNode().activeElement === e")  # it left the box
    assert ask(page, "t.find") == "kernel > 20us"
    page.keyboard.press("Shift+M")
    page.keyboard.type("<b>slow</b> & late" + "x" * 100)
    page.keyboard.press("Enter")
    page.wait_for_url("**note=**slow**")
    box = canvas(page)
    page.mouse.click(box["x"] + 800, box["y"] + 55)  # on the axis
    page.locator(".timeline .note input").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("() => new URL(location).searchParams.getAll('note').length === 2")
    kept = ask(page, "t.notes.list")
    assert sorted(len(n["text"]) for n in kept) == [0, 80]
    page.wait_for_timeout(400)  # the address follows the view after a pause
    settle(page)
    before = (view(page), ask(page, "t.picked.event"), ask(page, "t.find"), kept)
    page.reload()
    settle(page)
    page.wait_for_function(f"() => {T}.picked?.facts?.length")
    after = (view(page), ask(page, "t.picked.event"), ask(page, "t.find"))
    assert (*after, ask(page, "t.notes.list")) == before
    flags = page.locator(".timeline .flag")
    assert flags.count() == 2
    assert any("<b>slow</b>" in text for text in flags.all_inner_texts())
    page.get_by_role("button", name="Remove <b>slow").click()
    page.wait_for_function("() => new URL(location).searchParams.getAll('note').length === 1")
    assert page.defects == []
