"""Page Kernels in a browser: a tile that is clicked leads to its longest launch."""

import pytest

from jobs import api
from tests.test_work_account import GPU
from tests.test_work_page import busy_events
from tests.torch_traces import trace_bytes
from tests.view_fakes import library

pytestmark = pytest.mark.browser


def test_a_tile_leads_to_its_longest_launch_on_the_timeline(page, data):
    path = data / "busy.json"
    path.write_bytes(trace_bytes(busy_events(), deviceProperties=[GPU]))
    with library(data):
        recording = api.open_recording(path)
    page.goto(f"/kernels?trace={recording.trace.id}")
    page.locator(".st-key-work_icicle .slice").filter(has_text="mm").first.click()
    picked = page.locator(".st-key-work_picked")
    picked.wait_for()
    assert "69 % of its roof" in picked.inner_text()
    picked.get_by_role("link").click()
    page.wait_for_url("**/timeline**")
    start = recording.stored.work()["start_ns"].iloc[0]
    assert f"mark={start}-{start + 200_000}" in page.url
    assert page.defects == []
