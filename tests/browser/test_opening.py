"""From "open" to the verdict on a slow machine: there is always something that says what is."""

import shutil

import pytest

from tests.view_fakes import SAMPLES

pytestmark = pytest.mark.browser

SLOWER = 6  # times, the browser's processor
CAUSES = ("launch", "sync", "host")
# Runs before the page's own scripts, and looks at every frame: a list of those in which nothing
# says what is, between what said so before and what says so later.
WATCH = """
window.blank = [];
const SAYS = '.st-key-verdict h2, .whyslow-progress, [role=alert], [data-testid=stForm]';
let began = false;
(function look() {
  const says = [...document.querySelectorAll(SAYS)].some((e) => e.getClientRects().length);
  if (!says && began) window.blank.push(location.href + document.body.innerText);
  began ||= says;
  requestAnimationFrame(look);
})();
"""


@pytest.fixture
def slow_page(page):
    page.set_default_timeout(60_000)
    page.add_init_script(WATCH)
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    return page


def blank_frames(page):
    """Return the frames without a word until there is the verdict of what was opened."""
    page.wait_for_url("**/?trace=*")
    page.locator(".st-key-verdict h2").wait_for()
    return page.evaluate("blank")


def back_to_open(page):
    page.get_by_role("link", name="Open").click()
    page.locator("[data-testid=stForm]").wait_for()
    page.evaluate("blank.length = 0")


@pytest.mark.parametrize(
    "rounds",
    [pytest.param(n, marks=pytest.mark.soak) for n in (1, 7)],
    ids=["4 recordings", "30 recordings"],
)
def test_recordings_opened_in_a_row_are_never_a_blank_page(rounds, slow_page, tmp_path):
    page = slow_page
    page.goto("/open")
    for number in range(rounds):
        cause = CAUSES[number % len(CAUSES)]
        name = f"{cause}_{number}.sqlite"
        shutil.copy(SAMPLES / "synthetic" / f"synthetic_{cause}.sqlite", tmp_path / name)
        page.get_by_label("Path on the machine that runs whyslow").fill(str(tmp_path / name))
        page.get_by_role("button", name="Open", exact=True).first.click()
        assert blank_frames(page) == []
        if number < 2:
            page.goto(page.url)
            assert blank_frames(page) == []
        for sample in CAUSES:
            back_to_open(page)
            row = page.locator("[class*=st-key-listing]").filter(has=page.get_by_role("button"))
            row = row.filter(has_text=f"synthetic_{sample}.sqlite")
            row.get_by_role("button", name="Open").click()
            assert blank_frames(page) == []
        back_to_open(page)
    assert page.defects == []
