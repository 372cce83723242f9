"""The pages say what the analysis says, in every state a library can be in."""

import errno
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analyzers.words import share_text, time_text
from library import analyses
from reports.commands import spoken
from reports.diagnosis import first_step, gain_text, short_gain, title_parts
from tests.timeline_helpers import decoded
from tests.view_fakes import ROOT, draw, library, open_sample, words
from timeline.colors import OPERATIONS, SEGMENTS
from views.charts.ledger import ledger_figure
from views.parts.home import CARDS
from views.server.routes import timeline_answer
from views.shared import session
from views.shared.choices import window_label
from views.shared.session import finding_places, timeline, zero_ns

PAGES = ("overview", "timeline", "kernels", "open")
PICKERS = ["pick_recording", "pick_window"]
WITH_ITERATIONS = [*PICKERS, "pick_iterations"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def launch(data):
    return open_sample("synthetic/synthetic_launch.sqlite", data)


@pytest.fixture(scope="module")
def sync(data):
    return open_sample("synthetic/synthetic_sync.sqlite", data)


@pytest.fixture(scope="module")
def two_gpus(data):
    return open_sample("synthetic/synthetic_dependency.sqlite", data)


@pytest.fixture(scope="module")
def host(data):
    return open_sample("synthetic/synthetic_host.sqlite", data)


@pytest.fixture(scope="module")
def no_gpu(data):
    return open_sample("cpu_training.sqlite", data)


@pytest.fixture
def pages(data):
    with library(data):
        yield


# --- every page, every state ----------------------------------------------------------------


def test_every_page_file_is_a_page_of_the_tests():
    assert {f.stem for f in (ROOT / "views").glob("[!_]*.py")} - {"main"} >= set(PAGES)


@pytest.mark.parametrize("page", ["timeline", "kernels"])
def test_without_a_recording_each_page_says_what_to_run(page, tmp_path):
    with library(tmp_path):
        app = draw(page)
    assert not app.exception
    assert "No recording yet" in words(app)
    assert "samples in `traces/`" in words(app)
    assert app.get("page_link")[0].proto.page == "open"
    assert "nsys profile" in words(app)


def test_without_a_recording_the_first_page_shows_what_to_open(tmp_path):
    with library(tmp_path):
        app = draw()
    assert not app.exception
    text = words(app)
    assert all(card.verdict in text for card in CARDS)
    assert text.index("synthetic_healthy.sqlite") < text.index("cpu_training.sqlite")


@pytest.mark.parametrize("page", PAGES)
def test_each_page_draws_a_recording(page, pages, launch):
    app = draw(page, trace=launch.trace.id)
    assert not app.exception
    assert not app.error


def test_the_verdict_comes_first_and_is_the_report_s(pages, launch):
    app = draw(trace=launch.trace.id)
    sentence = launch.stored.report.verdict.sentence.replace("`", "")
    shown = words(app).replace("`", "")
    first, _, rest = sentence.partition(". ")
    assert app.header[0].value.replace("\\", "") == f"{first}."
    assert rest.partition(": run ")[0] in shown  # how to examine them stands beside


def test_the_overview_shows_every_finding_with_its_loss_and_advice(pages, launch):
    text = words(draw(trace=launch.trace.id)).replace("`", "")
    report = launch.stored.report
    assert report.findings
    for finding in report.findings:
        for part in (*title_parts(finding.title), first_step(finding.advice)):
            assert part.replace("`", "") in text
        assert f"{short_gain(finding)}** · costs {time_text(finding.lost_ns)}" in text
        assert gain_text(finding).replace("`", "") in text


def test_the_overview_says_what_it_could_not_tell_and_why(pages, launch):
    app = draw(trace=launch.trace.id)
    text, verdict = words(app).replace("`", ""), launch.stored.report.verdict.sentence
    assert re.search(r'under "([^"]+)"', verdict)[1] in [s.value for s in app.subheader]
    assert launch.stored.report.skipped
    for skipped in launch.stored.report.skipped:
        reason = spoken(skipped.reason)
        assert all(t.replace("`", "") in text for t in (reason.text, *reason.commands))


def test_each_quality_note_is_shown_with_its_level(pages, two_gpus):
    text = words(draw(trace=two_gpus.trace.id)).replace("`", "")
    for note in two_gpus.stored.report.quality:
        assert f"[{note.level}]" in text
        assert spoken(note.message).text.replace("`", "") in text


def test_no_gpu_work_is_never_healthy_and_names_the_command(pages, no_gpu):
    app = draw(trace=no_gpu.trace.id)
    assert not app.exception
    text = words(app)
    assert "no GPU work" in text or "Nothing ran on a GPU" in text
    assert "ealthy" not in text
    assert "nsys profile -t cuda" in text


def test_without_kernels_the_kernels_page_names_the_command(pages, no_gpu):
    app = draw("kernels", trace=no_gpu.trace.id)
    assert app.header[0].value == "No kernels"
    assert "nsys profile -t cuda" in words(app)


def test_the_timeline_of_a_cpu_recording_still_shows_its_ranges(pages, no_gpu):
    app = draw("timeline", trace=no_gpu.trace.id)
    assert not app.exception
    assert not app.error
    assert "The longest ranges that the program marked" in words(app)
    listed = app.dataframe[0].value
    assert listed["name"].iloc[0] == "step"
    assert listed["where"].iloc[0].startswith("NVTX · ")
    assert listed["duration"].is_monotonic_decreasing


def test_a_finding_leads_from_place_to_place(pages, launch):
    finding = launch.stored.report.findings[0]
    places = finding_places(finding)
    marks = [f"{p.start_ns}-{p.end_ns}" for p in places]
    assert len(marks) == len(set(marks)) > 1
    app = draw("timeline", trace=launch.trace.id, mark=marks[0], finding=finding.id, view="1-2")
    assert f"1 of {len(marks)}" in words(app)
    app.button(key="place_next").click().run()
    assert not app.exception
    assert app.query_params["mark"] == marks[1]
    assert "view" not in app.query_params
    assert f"2 of {len(marks)}" in words(app)
    app.button(key="place_back").click().run()
    app.button(key="place_back").click().run()
    assert app.query_params["mark"] == marks[-1]


def picked(opened, event):
    """Return what the timeline's dock tells of an event of the address: facts, and its chain."""
    table, _, row = event.partition(":")
    number = timeline(opened.trace.id, "", -1).event_at(table, int(row))
    query = {"trace": opened.trace.id, "window": "", "what": "event", "event": str(number)}
    head, _ = decoded(timeline_answer(query))
    return dict(head["facts"]), head["chain"]


def test_the_details_tell_a_late_launch_from_a_queued_one(pages, sync):
    launches = sync.stored.launches()
    before = launches["start_ns"] - launches["api_start_ns"]
    for place in (int(np.argmax(launches["queue_ns"] == 0)), int(launches["queue_ns"].argmax())):
        details, chain = picked(sync, f"{OPERATIONS}:{place}")
        assert details["launch call began"] == f"{time_text(int(before[place]))} before it"
        assert ("waited in queue" in details) == (launches["queue_ns"][place] > 0)
        assert [link["role"] for link in chain][:3] == ["NVTX range", "API call", "operation"]
        assert chain[0]["name"] == "step"


def test_a_block_of_the_ledger_tells_what_ended_it_and_what_blocked(pages, sync):
    segments, launches = sync.stored.segments(), sync.stored.launches()
    place = int(np.flatnonzero((segments["wait"] >= 0) & (segments["launch"] >= 0))[5])
    details, chain = picked(sync, f"{SEGMENTS}:{place}")
    wait = {
        k: v[segments["wait"][place]]
        for k, v in sync.trace.columns("api_calls", ["start_ns", "end_ns", "name_id"]).items()
    }
    name = sync.trace.names(np.array([wait["name_id"]]))[0]
    assert details["blocked in"] == f"{name}, {time_text(int(wait['end_ns'] - wait['start_ns']))}"
    launch = launches.loc[segments["launch"][place]]
    assert details["ended by"][:12] in sync.trace.names(np.array([launch["name_id"]]))[0]
    assert details["launched by"] == "synthetic_sync 4242"
    assert chain[0]["name"] == "step"


def test_one_operation_reads_the_same_alone_as_among_all(sync):
    launches = sync.stored.launches()
    for row in (0, 17, len(launches) - 1):
        alone = sync.stored.launch(row)
        among = launches.loc[row].to_dict()
        assert alone == {k: among[k] for k in alone if k in among} | {
            "source_row": alone["source_row"]
        }


def test_counters_have_no_timeline_and_the_page_says_why(pages, data):
    opened = open_sample("synthetic/synthetic_counters_divergence.ncu-rep", data)
    app = draw("timeline", trace=opened.trace.id)
    assert not app.exception
    assert app.header[0].value == "No timeline"
    assert "nsys profile" in words(app)


def test_a_timeline_that_cannot_be_stored_is_one_line(pages, sync, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(session, "_timeline", full)
    app = draw("timeline", trace=sync.trace.id)
    assert not app.exception
    assert "no disk space left" in app.error[0].value


def test_a_second_recording_is_shown_below_or_named_as_missing(pages, launch, sync):
    app = draw("timeline", trace=launch.trace.id, below=sync.trace.id, align="2")
    assert not app.exception
    assert app.selectbox(key="pick_below").value == sync.trace.id
    app = draw("timeline", trace=launch.trace.id, below="gone", align="x")
    assert not app.exception
    assert "The second recording cannot be shown: gone: not in the library" in words(app)


@pytest.mark.parametrize("event", ["nonsense", "operations:", "operations:99999999", "below:x:1"])
def test_an_event_that_is_not_there_is_no_trouble(pages, sync, event):
    app = draw("timeline", trace=sync.trace.id, event=event)
    assert not app.exception
    assert not app.error


def test_a_window_without_kernels_leads_to_those_of_the_recording(pages, launch):
    first = launch.stored.launches().iloc[0]
    window = f"span:{first['api_start_ns']}-{first['start_ns']}"
    app = draw("kernels", trace=launch.trace.id, window=window)
    assert "No kernel ran in this window" in words(app)
    assert "nsys profile" not in words(app)
    app.button(key="all_kernels").click().run()
    assert "window" not in app.query_params
    assert app.dataframe[0].value["count"].sum() == 2_000


def test_an_unknown_recording_is_one_line_without_a_path(pages, launch):
    app = draw(trace="0123456789abcdef")
    assert not app.exception
    assert len(app.error) == 1
    assert "not in the library" in app.error[0].value.replace("\\", "")
    assert str(ROOT) not in app.error[0].value


def test_an_unknown_window_is_one_line(pages, launch):
    app = draw(trace=launch.trace.id, window="nvtx:no such range#1")
    assert not app.exception
    assert "no such range" in app.error[0].value.replace("\\", "")


def test_the_share_beside_a_finding_is_the_one_in_its_title(pages, launch):
    # Half of this window comes before any GPU work, which is nobody's loss.
    window = launch.stored.report.window
    span = f"span:{window.start_ns - window.duration_ns}-{window.end_ns}"
    app = draw(trace=launch.trace.id, window=span)
    report = analyses.load(launch.trace, span).report
    assert report.devices[0].unused_ns > 0
    accounted = sum(d.in_use_ns for d in report.devices)
    for finding in report.findings:
        share = share_text(finding.lost_ns, accounted, exact=True)
        assert f"costs {time_text(finding.lost_ns)}, {share}" in words(app)


def test_the_window_of_the_address_is_the_window_that_is_shown(pages, launch):
    whole = launch.stored.report.window
    half = f"span:{whole.start_ns}-{(whole.start_ns + whole.end_ns) // 2}"
    app = draw(trace=launch.trace.id, window=half)
    assert not app.error
    assert time_text(whole.duration_ns // 2) in words(app)


def test_picking_a_recording_changes_the_address(pages, launch, two_gpus):
    app = draw(trace=launch.trace.id)
    app.selectbox(key="pick_recording").select(two_gpus.trace.id).run()
    assert app.query_params["trace"] == two_gpus.trace.id
    head = app.header[0].value.replace("\\", "").rstrip(".")
    assert two_gpus.stored.report.verdict.sentence.startswith(head)


def test_picking_an_iteration_analyses_it(pages, launch):
    app = draw(trace=launch.trace.id)
    app.selectbox(key="pick_window").select("iteration:2").run()
    assert app.query_params["window"] == "iteration:2"
    assert "iteration 2" in words(app)


def test_a_device_picker_appears_for_several_devices_only(pages, launch, two_gpus):
    for page in ("timeline", "kernels"):
        one, two = draw(page, trace=launch.trace.id), draw(page, trace=two_gpus.trace.id)
        others = ("pick_below", "pick_counters")
        pickers = WITH_ITERATIONS if page == "timeline" else PICKERS
        assert [s.key for s in one.selectbox if s.key not in others] == pickers
        assert [s.key for s in two.selectbox][: len(pickers) + 1] == [*pickers, "pick_device"]


def test_the_overview_is_always_about_all_devices(pages, two_gpus):
    app = draw(trace=two_gpus.trace.id, device="1")
    assert [s.key for s in app.selectbox if s.key != "pick_counters"] == WITH_ITERATIONS
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert {len(trace["y"]) for trace in spec["data"]} == {2}


def test_choosing_a_device_keeps_the_view_of_the_address(pages, two_gpus):
    app = draw("timeline", trace=two_gpus.trace.id, view="1000-2000", kernel="0123")
    app.selectbox(key="pick_device").select(1).run()
    assert app.query_params["device"] == "1"
    assert app.query_params["view"] == "1000-2000"
    assert app.query_params["kernel"] == "0123"
    app.selectbox(key="pick_window").select("iteration:2").run()
    assert "view" not in app.query_params


def test_the_header_counts_what_ran_in_the_window(pages, launch):
    app = draw(trace=launch.trace.id, window="iteration:2")
    inside = analyses.load(launch.trace, "iteration:2").report.operations["kernels"]
    assert 0 < inside < 2_000
    assert f"{inside} kernel launches" in words(app)
    assert "2,000 kernel launches" not in words(app)


def test_a_span_is_called_by_its_times_on_the_timeline(pages, launch):
    zero = zero_ns(launch.trace.id)
    window = f"span:{zero + 1_100_000}-{zero + 12_800_000}"
    app = draw(trace=launch.trace.id, window=window)
    assert "1.10 ms \N{EN DASH} 12.8 ms (11.7 ms)" in app.selectbox(key="pick_window").options
    assert "All GPU work" in app.selectbox(key="pick_window").options


def test_begin_and_end_of_a_short_span_read_differently(pages, launch):
    zero = zero_ns(launch.trace.id)
    label = window_label(launch.trace.id, f"span:{zero + 20_000_000}-{zero + 20_000_100}")
    assert label == "20 ms \N{EN DASH} 20.000100 ms (100 ns)"


def test_rules_with_one_reason_share_a_line_without_their_ids(pages, no_gpu):
    skipped = no_gpu.stored.report.skipped
    reasons = {s.reason for s in skipped}
    lines = [m.value.replace("\\", "") for m in draw(trace=no_gpu.trace.id).markdown]
    lines = [x for x in lines if any(x.endswith(reason) for reason in reasons)]
    assert len(lines) == len(reasons) < len(skipped)
    assert any(x.startswith("Atomics, bank conflicts, conversions and ") for x in lines)
    assert not any(s.id in x for s in skipped for x in lines)


def test_the_choice_survives_a_change_of_page(pages, launch, two_gpus):
    app = draw(trace=launch.trace.id)
    app.query_params.clear()
    app.switch_page("kernels.py").run()
    assert app.selectbox(key="pick_recording").value == launch.trace.id


def test_a_path_that_is_no_file_is_one_line(pages):
    app = draw("open")
    app.text_input(key="path").set_value("/no/such/recording.sqlite")
    app.button[0].click().run()
    assert not app.exception
    error = app.error[0].value.replace("\\", "")
    assert error.startswith("recording.sqlite: no such file")


def test_the_newest_answer_replaces_an_older_one(pages):
    app = draw("open")
    for name in ("first", "second"):
        app.text_input(key="path").set_value(f"/no/such/{name}.sqlite")
        app.button[0].click().run()
        assert [e.value.split(":")[0].replace("\\", "") for e in app.error] == [f"{name}.sqlite"]
    assert draw("open", job=app.query_params["job"]).error[0].value == app.error[0].value  # reload


def test_opening_a_sample_ends_on_its_overview(pages, launch):
    app = draw("open")
    assert f"** {CARDS[0].verdict}  \n" in words(app)  # opened before
    sample = ROOT / "traces" / "synthetic" / "synthetic_launch.sqlite"
    key = hashlib.sha256(str(sample).encode()).hexdigest()[:12]  # a browser sees no path
    app.button(key=f"open {key}").click().run()
    assert not app.exception
    assert app.query_params == {"trace": launch.trace.id}
    assert app.header[0].value.replace("\\", "") in launch.stored.report.verdict.sentence


def test_the_kernels_table_holds_the_stored_numbers(pages, launch):
    app = draw("kernels", trace=launch.trace.id)
    shown, stored = app.dataframe[0].value, launch.stored.kernels()
    assert len(shown) == len(stored)
    assert shown["count"].sum() == stored["count"].sum() == 2_000
    assert shown["total"].sum() == pytest.approx(stored["total_ns"].sum() / 1e6)


def test_the_filter_keeps_matching_kernels_and_says_when_none_match(pages, launch):
    app = draw("kernels", trace=launch.trace.id)
    name = str(launch.stored.kernels()["short_name"][0])
    app.text_input(key="kernel_filter").set_value(name[:6]).run()
    assert len(app.dataframe[0].value) >= 1
    app.text_input(key="kernel_filter").set_value("[no such").run()
    assert "No kernel name contains" in words(app)


def test_the_filter_of_the_address_is_applied_and_kept(pages, launch):
    app = draw("kernels", trace=launch.trace.id, filter="no such kernel")
    assert "No kernel name contains" in words(app)
    app.text_input(key="kernel_filter").set_value("kernel").run()
    assert app.query_params["filter"] == "kernel"
    app.text_input(key="kernel_filter").set_value("").run()
    assert "filter" not in app.query_params


def test_what_a_kernel_has_not_is_empty(pages, launch):
    assert draw("kernels", trace=launch.trace.id).dataframe[0].proto.placeholder == ""


def test_kernels_of_a_window_count_that_window_only(pages, launch):
    app = draw("kernels", trace=launch.trace.id, window="iteration:2")
    assert 0 < app.dataframe[0].value["count"].sum() < 2_000


# --- charts ---------------------------------------------------------------------------------


def test_the_ledger_of_a_recording_is_drawn_to_the_nanosecond(launch):
    devices = launch.stored.report.devices
    figure = ledger_figure(devices)
    assert sum(sum(bar.x) for bar in figure.data) == sum(d.duration_ns for d in devices)


# --- colours --------------------------------------------------------------------------------


# --- text of a recording --------------------------------------------------------------------


def test_markup_is_written_in_one_place_only():
    writers = [
        f.name
        for f in (ROOT / "views").rglob("*.py")
        if re.search(r"st\.html\(|unsafe_allow|components\.v1", f.read_text(encoding="utf-8"))
    ]
    assert writers == ["style.py"]


def test_nothing_is_fetched_from_elsewhere():
    for file in (ROOT / "views").rglob("*"):
        if file.suffix in (".py", ".js", ".css"):
            text = file.read_text(encoding="utf-8")
            text = text.replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
            assert "http://" not in text
            assert "https://" not in text
            assert ":material/" not in text


# --- where recordings come from -------------------------------------------------------------


def test_no_page_hides_the_package_of_its_name():
    code = (
        "from streamlit.testing.v1 import AppTest; import sys;"
        "app = AppTest.from_file('views/main.py', default_timeout=60).run();"
        "assert not app.exception; import timeline.view; print(timeline.__file__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert Path(ran.stdout.strip()) == ROOT / "timeline" / "__init__.py"
