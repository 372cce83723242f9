"""The pages say what the analysis says, in every state a library can be in."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.finding import Row
from analyzers.report import DeviceLedger
from analyzers.words import time_text
from tests.view_fakes import ROOT, draw, library, open_sample, words
from views import _places, _units
from views._charts import ROW_COLORS, ROW_MEANINGS, duration_histogram, ledger_figure, log_ticks
from views._lanes import Lane, Lanes, Spans, build_lanes, marks, pack

PAGES = ("overview", "timeline", "kernels", "open")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def launch(data):
    return open_sample("synthetic/synthetic_launch.sqlite", data)


@pytest.fixture(scope="module")
def two_gpus(data):
    return open_sample("synthetic/synthetic_dependency.sqlite", data)


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


@pytest.mark.parametrize("page", ["overview", "timeline", "kernels"])
def test_without_a_recording_each_page_says_what_to_run(page, tmp_path):
    with library(tmp_path):
        app = draw(page)
    assert not app.exception
    assert "No recording yet" in words(app)
    assert "nsys profile" in words(app)


def test_without_a_recording_the_open_page_offers_samples(tmp_path):
    with library(tmp_path):
        app = draw("open")
    assert not app.exception
    assert "synthetic_launch.sqlite" in words(app)
    assert "Nothing yet" in words(app)


@pytest.mark.parametrize("page", PAGES)
def test_each_page_draws_a_recording(page, pages, launch):
    app = draw(page, trace=launch.trace.id)
    assert not app.exception
    assert not app.error


def test_the_verdict_comes_first_and_is_the_report_s(pages, launch):
    app = draw(trace=launch.trace.id)
    sentence = launch.stored.report.verdict.sentence
    assert app.header[0].value.replace("\\", "") == sentence.partition(". ")[0] + "."
    assert sentence.partition(". ")[2] in words(app)


def test_the_overview_shows_every_finding_with_its_loss_and_advice(pages, launch):
    text = words(draw(trace=launch.trace.id)).replace("`", "")
    report = launch.stored.report
    assert report.findings
    for finding in report.findings:
        assert finding.title.replace("`", "") in text
        assert finding.advice.replace("`", "") in text
        assert f"up to {time_text(finding.lost_ns)}" in text


def test_the_overview_says_what_it_could_not_tell_and_why(pages, launch):
    text = words(draw(trace=launch.trace.id)).replace("`", "")
    assert launch.stored.report.skipped
    for skipped in launch.stored.report.skipped:
        assert skipped.id in text
        assert skipped.reason.replace("`", "") in text


def test_each_quality_note_is_shown_with_its_level(pages, two_gpus):
    text = words(draw(trace=two_gpus.trace.id)).replace("`", "")
    for note in two_gpus.stored.report.quality:
        assert f"[{note.level}] {note.message.replace('`', '')}" in text


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
    assert app.header[0].value.replace("\\", "") in two_gpus.stored.report.verdict.sentence


def test_picking_an_iteration_analyses_it(pages, launch):
    app = draw(trace=launch.trace.id)
    app.selectbox(key="pick_window").select("iteration:2").run()
    assert app.query_params["window"] == "iteration:2"
    assert "iteration 2" in words(app)


def test_a_device_picker_appears_for_several_devices_only(pages, launch, two_gpus):
    one, two = draw(trace=launch.trace.id), draw(trace=two_gpus.trace.id)
    assert [s.key for s in one.selectbox] == ["pick_recording", "pick_window"]
    assert "pick_device" in [s.key for s in two.selectbox]
    two.selectbox(key="pick_device").select(1).run()
    spec = json.loads(two.get("plotly_chart")[0].proto.spec)
    assert [len(trace["y"]) for trace in spec["data"]] == [1] * len(spec["data"])


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


def test_opening_a_sample_ends_on_its_overview(pages, launch):
    app = draw("open")
    sample = ROOT / "traces" / "synthetic" / "synthetic_launch.sqlite"
    app.button(key=f"open {sample}").click().run()
    assert not app.exception
    assert app.query_params["trace"] == launch.trace.id


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
    assert "No kernel's name contains" in words(app)


def test_kernels_of_a_window_count_that_window_only(pages, launch):
    app = draw("kernels", trace=launch.trace.id, window="iteration:2")
    assert 0 < app.dataframe[0].value["count"].sum() < 2_000


# --- charts ---------------------------------------------------------------------------------


def ledger(**rows):
    duration = sum(rows.values())
    named = {Row(k): v for k, v in rows.items()}
    return DeviceLedger(
        key=0, device=0, process=7, name="<b>x", duration_ns=duration, busy_ns=0, rows=named
    )


@given(st.lists(st.integers(0, 10**12), min_size=13, max_size=13))
def test_a_ledger_bar_sums_to_the_ledger(values):
    rows = dict(zip((r.value for r in Row), values, strict=True))
    figure = ledger_figure([ledger(**rows)])
    assert sum(sum(bar.x) for bar in figure.data) == sum(values)
    assert all(bar.marker.color == ROW_COLORS[Row(bar.name.split()[0])] for bar in figure.data)


def test_every_row_has_a_colour_of_its_own_and_a_meaning():
    assert set(ROW_COLORS) == set(ROW_MEANINGS) == set(Row)
    assert len(set(ROW_COLORS.values())) == len(Row)


def test_the_ledger_of_a_recording_is_drawn_to_the_nanosecond(launch):
    devices = launch.stored.report.devices
    figure = ledger_figure(devices)
    assert sum(sum(bar.x) for bar in figure.data) == sum(d.duration_ns for d in devices)


def test_names_reach_a_chart_escaped():
    devices = [ledger(kernel=10), ledger(kernel=10)]
    assert "<b>" not in json.dumps(ledger_figure(devices).to_dict()["data"][0]["y"])
    assert "&lt;b&gt;" in ledger_figure(devices).data[0].y[0]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_a_histogram_counts_every_launch_once(values):
    figure = duration_histogram(np.array(values), "kernel")
    assert sum(figure.data[0].y) == len(values)


def test_logarithmic_ticks_are_round_and_inside():
    assert log_ticks(900, 120_000) == [1_000, 10_000, 100_000]


# --- the timeline's lanes -------------------------------------------------------------------


def lane(start, end, *, stacked=False, color=0):
    size = len(start)
    return Lane(
        group="g",
        label="l",
        spans=Spans(np.array(start), np.array(end)),
        name=np.arange(size, dtype=np.int32),
        color=np.full(size, color, np.uint8) if np.isscalar(color) else np.array(color, np.uint8),
        row=np.arange(size),
        stacked=stacked,
    )


spans = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(1, 10**5)), min_size=1, max_size=300
).map(sorted)


@given(spans, st.integers(0, 10**6), st.integers(1, 10**6))
def test_busy_time_of_a_stretch_is_that_of_the_union(events, start, length):
    flags = np.zeros(12 * 10**5, bool)
    for begin, duration in events:
        flags[begin : begin + duration] = True
    both = Spans(np.array([b for b, _ in events]), np.array([b + d for b, d in events]))
    edges = np.array([start, min(start + length, len(flags))])
    assert int(np.diff(both.busy_until(edges))[0]) == int(flags[edges[0] : edges[1]].sum())


def test_few_events_are_drawn_exactly():
    drawn = marks(lane([0, 10, 30], [5, 20, 40]), 8, 35)
    assert drawn.exact
    assert drawn.start.tolist() == [10, 30]
    assert drawn.end.tolist() == [20, 40]


def test_many_events_become_shares_that_keep_the_busy_time():
    start = np.arange(0, 1_000_000, 100)
    drawn = marks(lane(start, start + 50), 0, 1_000_000, bins=100)
    assert not drawn.exact
    assert len(drawn.start) <= 101
    assert np.all(np.abs(drawn.fill.astype(int) - 127)[:-1] <= 2)  # the last bin is half empty


def test_a_rare_long_event_names_its_bin_among_many_short_ones():
    start = np.arange(0, 1_000_000, 100)
    end = start + 10
    end[5_000] = start[5_000] + 95
    drawn = marks(lane(start, end), 0, 1_000_000, bins=100)
    shown = drawn.name[(drawn.start <= 500_000) & (drawn.end > 500_000)]
    assert shown.tolist() == [5_000]


def test_an_event_longer_than_a_bin_is_one_rectangle():
    start = np.concatenate([np.arange(0, 400_000, 100), [400_000], np.arange(900_000, 10**6, 100)])
    end = np.concatenate([start[:4_000] + 50, [900_000], start[4_001:] + 50])
    drawn = marks(lane(start, end), 0, 1_000_000, bins=100)
    widest = int(np.argmax(drawn.end - drawn.start))
    assert drawn.name[widest] == 4_000
    assert drawn.end[widest] - drawn.start[widest] > 470_000  # but the bins it shares


def test_the_shares_of_a_ledger_fill_every_bin():
    start = np.arange(0, 1_000_000, 100)
    colors = np.arange(len(start)) % 3
    drawn = marks(lane(start, start + 100, stacked=True, color=colors), 0, 10**6, bins=64)
    full = pd.Series(drawn.fill.astype(int)).groupby(drawn.start).sum()
    assert ((full >= 252) & (full <= 258)).iloc[:-1].all()


def test_packed_marks_read_back(launch):
    lanes = build_lanes(launch.trace, launch.stored, [0])
    packed = pack(lanes, 0, lanes.duration_ns, bins=700)
    size = int.from_bytes(packed[:4], "little")
    head = json.loads(packed[4 : 4 + size])
    count = head["count"]
    start = np.frombuffer(packed, "<f8", count, 4 + size)
    end = np.frombuffer(packed, "<f8", count, 4 + size + 8 * count)
    assert len(packed) == 4 + size + count * (8 + 8 + 4 + 1 + 1)
    assert (4 + size) % 8 == 0
    assert np.all(end > start)
    assert len(head["lanes"]) == len(lanes.lanes)


def test_the_lanes_hold_every_operation_of_the_recording(launch):
    lanes = build_lanes(launch.trace, launch.stored, [0])
    on_device = [x for x in lanes.lanes if x.on_device]
    assert sum(len(x.spans.start) for x in on_device) == launch.trace.count("kernels")
    groups = [x.group for x in lanes.lanes]
    assert groups[0] == "Ledger"
    assert "CUDA calls" in groups
    assert "NVTX" in groups


def test_a_selected_kernel_gets_a_lane_with_all_its_launches(launch):
    lanes = build_lanes(launch.trace, launch.stored, [0])
    kernel = launch.stored.kernels().iloc[0]
    chosen = lanes.with_selected(kernel["name"])
    assert chosen.lanes[1].group == "Selected kernel"
    assert len(chosen.lanes[1].spans.start) == kernel["count"]
    assert lanes.with_selected("no such kernel") is lanes


def test_a_recording_without_lanes_packs_to_nothing():
    empty = Lanes(origin_ns=0, duration_ns=100, lanes=(), names=())
    assert pack(empty, 0, 100)[4:].startswith(b'{"start": 0')


# --- text of a recording --------------------------------------------------------------------

HOSTILE = "![x](https://evil.example/a.png) <b>k</b> $x$ :red[y] `z` =1+1 \u202e\x00\n|"


def test_escaped_text_has_no_markdown_left():
    escaped = _units.md_escape(HOSTILE)
    assert not re.search(r"(?<!\\)[\[\]<>$`*_|:]", escaped)
    assert "\u202e" not in escaped
    assert "\n" not in escaped


def test_prose_keeps_code_and_nothing_else():
    assert _units.md_prose("run `ncu *x*` [now]") == r"run `ncu *x*` \[now\]"
    assert _units.md_prose("odd ` tick") == r"odd \` tick"


@given(st.text())
def test_visible_text_is_printable_and_one_line(text):
    assert _units.visible(text).isprintable()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\0x"])
def test_a_cell_never_starts_a_formula(text):
    assert _units.csv_text(text) == f"'{text}"


def test_a_small_share_never_reads_as_nothing():
    assert _units.format_share(0.0001) == "< 0.1 %"
    assert _units.format_share(0.99999) == "> 99.9 %"
    assert _units.format_share(0) == "0.0 %"


def test_markup_is_written_in_one_place_only():
    writers = [
        f.name
        for f in (ROOT / "views").rglob("*.py")
        if re.search(r"st\.html\(|unsafe_allow|components\.v1", f.read_text(encoding="utf-8"))
    ]
    assert writers == ["_style.py"]


def test_nothing_is_fetched_from_elsewhere():
    for file in (ROOT / "views").rglob("*"):
        if file.suffix in (".py", ".js", ".css"):
            text = file.read_text(encoding="utf-8")
            assert "http://" not in text
            assert "https://" not in text
            assert ":material/" not in text


# --- where recordings come from -------------------------------------------------------------


def test_a_watched_folder_lists_recordings_newest_first(tmp_path):
    for age, name in enumerate(["new.sqlite", "old.nsys-rep", "note.txt", ".hidden/x.sqlite"]):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 10)
        import os

        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    found = _places.recordings(tmp_path)
    assert [p.shown for p in found] == ["new.sqlite", "old.nsys-rep"]
    assert found[0].size_bytes == 10


def test_a_server_others_can_reach_opens_watched_folders_only(tmp_path, monkeypatch):
    inside, outside = tmp_path / "in" / "a.sqlite", tmp_path / "b.sqlite"
    for file in (inside, outside):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    link = tmp_path / "in" / "link.sqlite"
    link.symlink_to(outside)
    monkeypatch.setenv("WHYSLOW_TRACE_ROOTS", str(tmp_path / "in"))
    assert _places.check_path(str(inside), "0.0.0.0") == inside
    assert _places.check_path(str(outside), "127.0.0.1") == outside
    for refused in (outside, link, tmp_path / "in" / ".." / "b.sqlite"):
        with pytest.raises(_places.RefusedError, match="watched folders"):
            _places.check_path(str(refused), "0.0.0.0")


def test_a_folder_is_not_a_recording(tmp_path):
    with pytest.raises(_places.RefusedError, match="not a file"):
        _places.check_path(str(tmp_path), "localhost")


def test_every_sample_is_described():
    shown = {p.shown for p in _places.recordings(_places.SAMPLES)}
    assert shown <= set(_places.sample_words())
