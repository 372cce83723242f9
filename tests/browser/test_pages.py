"""What only a browser shows: the canvas, the upload, the address, the fold, the network."""

import shutil

import pytest

from tests.view_fakes import SAMPLES

pytestmark = pytest.mark.browser

FOLD_PX = 800


def test_overview_fits_one_screen(page, launch):
    page.set_viewport_size({"width": 1280, "height": FOLD_PX})
    page.goto(f"/?trace={launch.trace.id}")
    verdict = page.locator(".st-key-verdict h2")
    verdict.wait_for()
    bar = page.locator(".st-key-ledger .js-plotly-plot")
    bar.wait_for()
    finding = page.locator("[class*=st-key-finding-]").first
    tops = [x.bounding_box()["y"] for x in (verdict, bar, finding)]
    assert tops == sorted(tops)
    for last in (finding, page.locator("[data-testid=stCode]").last):
        box = last.bounding_box()
        assert box["y"] + box["height"] <= FOLD_PX
    assert verdict.inner_text() in launch.stored.report.verdict.sentence


def test_every_page_works_without_the_network(page, launch):
    for path in ("/", "/timeline", "/kernels", "/open"):
        page.goto(f"{path}?trace={launch.trace.id}")
        page.locator("canvas, .st-key-verdict, .st-key-upload").first.wait_for()
    assert page.foreign == []
    assert page.defects == []


def test_an_upload_is_opened(page, tmp_path):
    recording = tmp_path / "mine.sqlite"
    shutil.copy(SAMPLES / "synthetic" / "synthetic_sync.sqlite", recording)
    page.goto("/open")
    page.locator(".upload input").set_input_files(recording)
    page.locator(".st-key-verdict h2").wait_for()
    assert "ync-bound" in page.locator(".st-key-verdict").inner_text()
    assert "trace=" in page.url


def test_junk_is_refused_in_one_line(page, tmp_path):
    junk = tmp_path / "report.sqlite"
    junk.write_bytes(b"<html>" * 100)
    page.goto("/open")
    page.locator(".upload input").set_input_files(junk)
    page.get_by_text("report.sqlite: not a recording that whyslow reads").wait_for()


def test_a_new_file_in_a_watched_folder_appears_by_itself(page, watched):
    page.goto("/open")
    page.get_by_text("new files appear automatically").wait_for()
    shutil.copy(SAMPLES / "synthetic" / "synthetic_host.sqlite", watched / "fresh.sqlite")
    page.get_by_text("fresh.sqlite").wait_for()


def test_a_broken_recording_is_one_line_without_a_traceback(page, tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes((SAMPLES / "synthetic" / "synthetic_host.sqlite").read_bytes()[:9_000])
    page.goto("/open")
    page.get_by_label("Path on the machine that runs whyslow").fill(str(broken))
    page.get_by_role("button", name="Open", exact=True).first.click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text().startswith("broken.sqlite: ")
    assert "Traceback" not in page.content()


def test_the_newest_answer_replaces_an_older_refusal(page, tmp_path):
    broken, junk = tmp_path / "broken.sqlite", tmp_path / "junk.sqlite"
    broken.write_bytes((SAMPLES / "synthetic" / "synthetic_host.sqlite").read_bytes()[:9_000])
    junk.write_bytes(b"<html>" * 100)
    page.goto("/open")
    page.get_by_label("Path on the machine that runs whyslow").fill(str(broken))
    page.get_by_role("button", name="Open", exact=True).first.click()
    page.get_by_role("alert").filter(has_text="broken.sqlite: ").wait_for()
    page.locator(".upload input").set_input_files(junk)
    page.get_by_role("alert").filter(has_text="junk.sqlite: not a recording").wait_for()
    assert page.get_by_role("alert").count() == 1
    page.reload()
    page.get_by_role("alert").filter(has_text="junk.sqlite: not a recording").wait_for()


def test_the_table_s_own_tools_do_not_cover_the_download(page, launch):
    page.goto(f"/kernels?trace={launch.trace.id}")
    page.locator(".st-key-kernel_histogram .js-plotly-plot").wait_for()  # nothing moves any more
    page.locator(".st-key-kernel_table").hover()
    page.locator("[data-testid=stElementToolbar]").first.wait_for(state="attached")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "kernels.csv"


def test_the_kernel_filter_survives_a_reload(page, launch):
    page.goto(f"/kernels?trace={launch.trace.id}")
    page.get_by_label("Filter").fill("no such kernel")
    page.get_by_label("Filter").press("Enter")
    page.wait_for_url("**filter=no**")
    page.reload()
    page.get_by_text("No kernel name contains").wait_for()
    page.wait_for_function(
        "() => document.querySelector('.st-key-kernel_filter input')?.value === 'no such kernel'"
    )


def test_kernels_of_the_whole_recording_are_one_click_from_an_empty_window(page, launch):
    first = launch.stored.launches().iloc[0]
    window = f"span:{first['api_start_ns']}-{first['start_ns']}"
    page.goto(f"/kernels?trace={launch.trace.id}&window={window}")
    page.get_by_role("button", name="Kernels of the whole recording").click()
    page.locator(".st-key-kernel_table").wait_for()
    page.wait_for_url(lambda address: "window=" not in address)


def test_the_legend_covers_no_bar_on_a_narrow_screen(page, launch):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/?trace={launch.trace.id}")
    bar = page.locator(".st-key-ledger .js-plotly-plot .barlayer")
    bar.wait_for(state="attached")
    legend = page.locator(".whyslow-legend").first.bounding_box()
    assert legend["y"] + legend["height"] <= bar.bounding_box()["y"] + 1
    assert legend["x"] + legend["width"] <= 390
