"""Whoever reads: contrast, names of controls and charts, the keyboard, narrow and wide windows."""

import re
from pathlib import Path

import pytest

from tests.browser.conftest import WAIT_MS

pytestmark = pytest.mark.browser

AUDIT = Path(__file__).with_name("page_audit.js").read_text(encoding="utf-8")
# The first page of each visit is loaded, the others are reached by links: loading takes longest.
VISITS = {"light": ("Overview", "Timeline"), "dark": ("Compare", "Kernels", "Capture", "Open")}
DRAWN = {
    "Overview": ".st-key-verdict h2",
    "Timeline": ".st-key-timeline canvas",
    "Compare": ".st-key-compare_tabs",
    "Kernels": ".st-key-kernel_filter, h3",
    "Capture": "h2:has-text('Capture')",
    "Open": ".st-key-upload",
}
SETTLED_MS = 500  # charts and links come after the text
WIDE = "() => document.documentElement.scrollWidth > innerWidth + 1"
TABS = 30
FOCUSED = """() => {
  const e = document.activeElement, style = getComputedStyle(e);
  const name = e.getAttribute("aria-label") || e.textContent || e.tagName;
  return [name.trim(), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
}"""
BRIGHTNESS = """() => getComputedStyle(document.querySelector("[data-testid=stApp]"))
  .backgroundColor.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3"""


@pytest.mark.parametrize("scheme", VISITS)
def test_every_page_suits_weak_eyes_the_keyboard_and_any_width(
    chromium, server, sync, memory, scheme
):
    context = chromium.new_context(color_scheme=scheme, base_url=server)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    first, *others = VISITS[scheme]
    compared = f"/compare?base={sync.trace.id}&new={memory.trace.id}"
    page.goto(f"/?trace={sync.trace.id}" if first == "Overview" else compared)
    for name in (first, *others):
        page.set_viewport_size({"width": 1280, "height": 800})
        if name != first:
            page.get_by_role("link", name=name, exact=True).first.click()
        page.locator(DRAWN[name]).first.wait_for()
        page.wait_for_timeout(SETTLED_MS)
        assert page.evaluate(AUDIT) == {"faint": [], "nameless": [], "wide": []}, name
        if name == "Overview":
            assert_keyboard_reaches_all_of_overview(page)
        for width in (390, 2560):
            page.set_viewport_size({"width": width, "height": 800})
            assert not page.evaluate(WIDE), (name, width)
    assert (page.evaluate(BRIGHTNESS) > 200) == (scheme == "light")
    context.close()


def assert_keyboard_reaches_all_of_overview(page):
    page.get_by_role("link", name="Show on timeline").first.wait_for()
    names = []
    while len(names) < TABS and not (names and re.match(r"\d+ reasons?", names[-1])):
        page.keyboard.press("Tab")
        name, is_visible = page.evaluate(FOCUSED)
        assert is_visible, f"nothing shows that {name[:80]} has the focus"
        names.append(name)
    wanted = ["Timeline", "Recording", "Report", "Show on timeline", "How was this measured?"]
    places = [next(n for n, name in enumerate(names) if name.startswith(w)) for w in wanted]
    assert places == sorted(places)
    assert len(names) < TABS
