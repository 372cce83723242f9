"""A real capture from the page: started, reloaded, looked at, cancelled; no orphan is left."""

import re
import time

import psutil
import pytest

pytestmark = pytest.mark.browser

T = "window.__whyslow_timeline"
CAPTURE_MS = 180_000  # a capture imports torch twice, on two shared cores


@pytest.fixture
def capture_page(page):
    pytest.importorskip("torch", reason="torch is not installed")
    page.goto("/capture")
    page.get_by_role("button", name="Start", exact=True).wait_for()
    return page


def start(page, steps):
    field = page.get_by_role("spinbutton", name="Steps")
    field.fill(str(steps))
    field.press("Enter")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("button", name="Cancel", exact=True).wait_for()
    page.wait_for_url(re.compile(r"capture=[0-9a-f]{12}"))


def test_a_capture_is_found_again_by_a_reload_and_opens_both_recordings(capture_page):
    start(capture_page, 2)
    capture_page.reload()
    shown = capture_page.locator(".st-key-capture_shown")
    shown.get_by_text("Program CPU").wait_for(timeout=CAPTURE_MS)
    shown.get_by_text("no GPU is watched").or_(shown.get_by_text("GPU in use")).first.wait_for()
    shown.get_by_text("Done", exact=True).wait_for(timeout=CAPTURE_MS)
    links = shown.get_by_role("link", name="Show", exact=True)
    links.nth(1).wait_for()
    links.first.click()
    capture_page.wait_for_url(re.compile("trace="))
    capture_page.locator(".st-key-verdict h2").wait_for()
    capture_page.goto(f"/timeline?{capture_page.url.partition('?')[2]}")
    capture_page.wait_for_function(f"() => !!{T}?.ready && {T}.stats.pending === 0")
    groups = capture_page.evaluate(f"{T}.panes[0].layout.groups.map(group => group.title)")
    assert "Host telemetry" in groups
    assert capture_page.defects == []


def test_a_cancelled_capture_leaves_no_process(capture_page, data):
    start(capture_page, 100_000)
    shown = capture_page.locator(".st-key-capture_shown")
    shown.get_by_text("Program CPU").wait_for(timeout=CAPTURE_MS)
    capture_page.get_by_role("button", name="Cancel", exact=True).click()
    shown.get_by_text("The capture was cancelled").wait_for(timeout=CAPTURE_MS)
    folder = re.search("capture=([0-9a-f]{12})", capture_page.url)[1]
    until = time.monotonic() + 20
    while (left := of_capture(folder)) and time.monotonic() < until:
        time.sleep(0.2)
    assert left == []


def of_capture(folder):
    """Return the command lines of processes that name the capture, but not this test's own."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if folder in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found
