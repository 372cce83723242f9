"""Exports: valid Chrome traces, safe CSV, and nothing that no event refers to."""

import csv
import gzip
import hashlib
import json
import os
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.analysis import investigate
from analyzers.facts.facts import COPY
from collectors import open_trace
from collectors.errors import RefusedError
from exports import perfetto, tables
from exports.perfetto_events import MAX_ROWS_OF_TRACK, decimal_us, nesting_rows
from library import analyses
from tests import scenarios

REAL = Path(__file__).parents[2] / "shared" / "real"
CANARIES = ("redaction-canary", "canary-host", "/home/canary")
SCENARIOS = ("sync", "communication", "dependency", "dram")


def opened(path, root, window=""):
    trace = open_trace(path, root)
    return trace, analyses.save(investigate(trace, window), trace, window)


def exported(path, tmp_path, window="", only_window=False):
    trace, stored = opened(path, tmp_path / "root", window)
    target = tmp_path / "out.json"
    count = perfetto.export(trace, stored, target, only_window=only_window)
    events = check_chrome_trace(target.read_text())
    assert len(events) == count
    return trace, stored, events


def check_chrome_trace(text):
    """Check the rules of the Trace Event Format that readers rely on; return the events."""
    document = json.loads(text, parse_float=Decimal)
    events = document["traceEvents"]
    needed = {
        "X": {"name", "pid", "tid", "ts", "dur"},
        "M": {"name", "pid", "tid", "args"},
        "i": {"name", "pid", "tid", "ts", "s"},
        "C": {"name", "pid", "ts", "args"},
        "s": {"name", "pid", "tid", "ts", "id", "cat"},
        "f": {"name", "pid", "tid", "ts", "id", "cat", "bp"},
        "b": {"name", "pid", "tid", "ts", "id", "cat"},
        "e": {"name", "pid", "tid", "ts", "id", "cat"},
    }
    named_processes, named_tracks = set(), set()
    tracks, pairs = defaultdict(list), defaultdict(list)
    for event in events:
        phase = event["ph"]
        assert needed[phase] <= set(event), event
        assert isinstance(event["pid"], int)
        if phase == "M":
            if event["name"] == "process_name":
                assert event["pid"] not in named_processes
                named_processes.add(event["pid"])
            if event["name"] == "thread_name":
                named_tracks.add((event["pid"], event["tid"]))
            continue
        assert isinstance(event["name"], str)
        assert event["ts"] >= 0
        assert event["pid"] in named_processes
        if phase != "C":
            assert (event["pid"], event["tid"]) in named_tracks
        if phase == "X":
            assert event["dur"] >= 0
            tracks[event["pid"], event["tid"]].append(event)
        if phase in "sfbe":
            pairs[event["cat"], event["id"]].append(event)
    for track in tracks.values():
        check_nesting(track)
    for pair in pairs.values():
        check_pair(pair, tracks)
    return events


def check_nesting(track):
    stack = []
    for event in sorted(track, key=lambda e: (e["ts"], -e["dur"])):
        end = event["ts"] + event["dur"]
        while stack and stack[-1] <= event["ts"]:
            stack.pop()
        assert not stack or stack[-1] >= end, event
        stack.append(end)


def check_pair(pair, tracks):
    assert len(pair) == 2
    begin, end = pair
    assert (begin["ph"], end["ph"]) in {("s", "f"), ("b", "e")}
    if begin["ph"] == "b":
        assert begin["ts"] <= end["ts"]
        return
    for side in pair:  # an arrow needs a slice at either end to hold on to
        assert any(
            e["ts"] <= side["ts"] <= e["ts"] + e["dur"] for e in tracks[side["pid"], side["tid"]]
        )


def slices(events, category):
    return [e for e in events if e["ph"] == "X" and e.get("cat") == category]


def total_ns(events):
    return sum(int(e["dur"] * 1000) for e in events)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_perfetto_export_is_a_valid_chrome_trace_with_every_event(tmp_path, name):
    trace, stored, events = exported(scenarios.scenario(name), tmp_path)
    report = stored.report
    work = [*slices(events, "kernel"), *slices(events, "communication")]
    kernels = trace.frame("kernels")
    assert len(work) == len(kernels)
    assert total_ns(work) == int((kernels["end_ns"] - kernels["start_ns"]).sum())
    assert len(slices(events, "copy")) == trace.count("copies")
    assert len(slices(events, "CUDA calls")) == trace.count("api_calls")
    assert len(slices(events, "NVTX")) == trace.count("ranges")
    assert len(slices(events, "OS calls")) == trace.count("os_calls")
    assert total_ns(slices(events, "ledger")) == sum(d.duration_ns for d in report.devices)
    titles = {e["name"] for e in slices(events, "finding")}
    assert {f.title for f in report.findings} <= titles
    arrows = [e for e in events if e["ph"] == "s"]
    assert len(arrows) == int((stored.launches()["api_row"] >= 0).sum())
    counters = [e for e in events if e["ph"] == "C"]
    assert len(counters) == trace.count("gpu_metrics")


def test_kernels_are_named_and_described(tmp_path):
    trace, _, events = exported(scenarios.sync(), tmp_path)
    full = trace.names(trace.columns("kernels", ["name_id"])["name_id"])
    short = trace.names(trace.columns("kernels", ["short_name_id"])["short_name_id"])
    kernels = slices(events, "kernel")
    assert {e["name"] for e in kernels} == set(short)
    assert {e["args"]["name"] for e in kernels} == set(full)
    assert all(e["args"]["grid_x"] > 0 for e in kernels)
    assert any(e["name"].startswith("copy ") for e in slices(events, "copy"))


def test_an_export_of_a_window_leaves_out_what_does_not_touch_it(tmp_path):
    trace, stored = opened(scenarios.sync(), tmp_path / "root")
    window = stored.report.window
    middle = (window.start_ns + window.end_ns) // 2
    text = f"span:{window.start_ns}-{middle}"
    _, _, events = exported(scenarios.sync(), tmp_path, text, only_window=True)
    kernels = slices(events, "kernel")
    assert 0 < len(kernels) < trace.count("kernels")
    assert all(e["ts"] * 1000 <= middle for e in kernels)
    assert total_ns(slices(events, "ledger")) == middle - window.start_ns


def test_a_name_that_ends_in_gz_is_compressed(tmp_path):
    trace, stored = opened(scenarios.sync(), tmp_path / "root")
    perfetto.export(trace, stored, tmp_path / "a.json")
    perfetto.export(trace, stored, tmp_path / "a.json.gz")
    plain = (tmp_path / "a.json").read_bytes()
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == plain
    assert sorted(p.name for p in tmp_path.glob("*.*")) == ["a.json", "a.json.gz"]


def test_a_failed_export_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    trace, stored = opened(scenarios.sync(), tmp_path / "root")
    target = tmp_path / "out" / "a.json"
    target.parent.mkdir()
    target.write_text("older")
    monkeypatch.setattr(perfetto, "write_host", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        perfetto.export(trace, stored, target)
    assert target.read_text() == "older"
    assert list(target.parent.iterdir()) == [target]


@given(st.integers(-(2**62), 2**62))
def test_times_are_written_without_losing_a_nanosecond(ns):
    assert Decimal(decimal_us(ns)) * 1000 == ns


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=60).map(
        lambda spans: [(start, start + length) for start, length in spans]
    )
)
def test_events_of_one_row_nest_whatever_overlaps(spans):
    starts = np.array([s for s, _ in spans], dtype=np.int64)
    ends = np.array([e for _, e in spans], dtype=np.int64)
    order, rows = nesting_rows(starts, ends)
    assert sorted(order.tolist()) == list(range(len(spans)))
    by_row = defaultdict(list)
    for index, row in zip(order.tolist(), rows.tolist(), strict=True):
        by_row[row].append({"ts": spans[index][0], "dur": spans[index][1] - spans[index][0]})
    for row, track in by_row.items():
        if row >= 0:
            check_nesting(track)


def test_nested_events_need_one_row_and_crossing_ones_a_bounded_number():
    assert nesting_rows(np.array([0, 1, 5]), np.array([10, 4, 9]))[1].tolist() == [0, 0, 0]
    order, rows = nesting_rows(np.array([0, 0]), np.array([5, 10]))
    assert (order.tolist(), rows.tolist()) == ([1, 0], [0, 0])
    count = MAX_ROWS_OF_TRACK + 5
    starts = np.arange(count)
    _, rows = nesting_rows(starts, starts + 1_000)
    assert rows.tolist() == [*range(MAX_ROWS_OF_TRACK), *([-1] * 5)]


def test_a_clock_of_the_calendar_keeps_its_nanoseconds(tmp_path, monkeypatch):
    monkeypatch.setattr(perfetto, "MAX_UNSHIFTED_NS", 1)
    trace, stored = opened(scenarios.sync(), tmp_path / "root")
    perfetto.export(trace, stored, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text(), parse_float=Decimal)
    origin = int(document["otherData"]["origin_ns"])
    assert origin > 0
    check_chrome_trace((tmp_path / "a.json").read_text())
    firsts = {int(e["ts"] * 1000) + origin for e in slices(document["traceEvents"], "kernel")}
    assert firsts == set(trace.columns("kernels", ["start_ns"])["start_ns"].tolist())


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_and_parquet_hold_every_row_of_every_table(tmp_path):
    trace, stored = opened(scenarios.scenario("dram"), tmp_path / "root")
    written = {
        "csv": tables.export_csv(trace, stored, tmp_path / "csv"),
        "parquet": tables.export_parquet(trace, stored, tmp_path / "parquet"),
    }
    names = set(trace.counts) - {"strings"} | {
        "launches",
        "ledger",
        "kernel_summary",
        "findings",
        "evidence",
        "quality",
        "data_notes",
    }
    for kind, paths in written.items():
        assert {p.stem for p in paths} == names
        assert {p.name for p in (tmp_path / kind).iterdir()} == {p.name for p in paths}
    for table in sorted(set(trace.counts) - {"strings"}):
        assert len(read_csv(tmp_path / "csv" / f"{table}.csv")) == trace.count(table)
        assert pq.read_metadata(tmp_path / "parquet" / f"{table}.parquet").num_rows == (
            trace.count(table)
        )
    kernels = pd.read_parquet(tmp_path / "parquet" / "kernels.parquet")
    assert kernels["start_ns"].to_list() == trace.frame("kernels")["start_ns"].to_list()
    ids = trace.columns("kernels", ["name_id"])["name_id"]
    assert kernels["name"].to_list() == trace.names(ids).tolist()
    findings = read_csv(tmp_path / "csv" / "findings.csv")
    assert len(findings) == len(stored.report.findings)
    for row, finding in zip(findings, stored.report.findings, strict=True):
        gain = finding.predicted_gain
        assert row["predicted_change"] == (gain.change if gain else "")
        assert row["predicted_low_ns"] == (str(gain.low_ns) if gain else "")
        assert row["predicted_high_ns"] == (str(gain.high_ns) if gain else "")


def test_the_ledger_in_csv_sums_to_the_window_in_words(tmp_path):
    trace, stored = opened(scenarios.sync(), tmp_path / "root")
    tables.export_csv(trace, stored, tmp_path / "csv")
    sums = defaultdict(int)
    for row in read_csv(tmp_path / "csv" / "ledger.csv"):
        sums[row["row"]] += int(row["end_ns"]) - int(row["start_ns"])
    (device,) = stored.report.devices
    assert dict(sums) == {r.value: ns for r, ns in device.rows.items() if ns}


def test_numbers_of_a_kind_are_words_and_what_is_not_recorded_is_empty(tmp_path):
    trace, stored = opened(scenarios.bandwidth(), tmp_path / "root")
    tables.export_csv(trace, stored, tmp_path / "csv")
    copies = read_csv(tmp_path / "csv" / "copies.csv")
    assert {c["kind"] for c in copies} <= {"host to device", "device to host", "device to device"}
    assert "pageable" in {c["source_kind"] for c in copies}
    launches = read_csv(tmp_path / "csv" / "launches.csv")
    assert {row["kind"] for row in launches} >= {"kernel", "copy"}
    assert all(row["grid_x"] == "" for row in launches if row["kind"] == "copy")
    assert all(row["name"] == "" for row in launches if row["kind"] == "copy")


def safe_for_csv(texts):
    import pyarrow as pa

    batch = pa.RecordBatch.from_pydict({"text": texts, "number": range(len(texts))})
    safe = tables._safe_for_csv(batch).to_pydict()
    assert safe["number"] == list(range(len(texts)))
    return safe["text"]


def test_cells_that_a_spreadsheet_would_run_are_disarmed():
    risky = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1", "\n=1", "\u00a0 =1", "\uff1d1+1"]
    harmless = ["a=b", "1-1", "", "'x", 'quote"d', "line\nbreak", None]
    assert safe_for_csv([*risky, *harmless]) == [*("'" + text for text in risky), *harmless]


def test_control_characters_in_cells_are_shown_not_obeyed():
    texts = ["\x1b[31mred", "a\x00b", "\x00=1", "left\u202eright", "\ufeff=1", None, "plain"]
    shown = ["\\x1b[31mred", "a\\x00b", "\\x00=1", "left\\u202eright", "\\ufeff=1", None, "plain"]
    assert safe_for_csv(texts) == shown


@pytest.fixture
def own_recording(tmp_path):
    """Return a recording of our own to lose, its trace and its analysis."""
    path = tmp_path / "run.sqlite"
    path.write_bytes(scenarios.sync().read_bytes())
    return path, *opened(path, tmp_path / "root")


@pytest.mark.parametrize("by", ["itself", "link", "copy"])
def test_an_export_never_replaces_a_recording(own_recording, tmp_path, by):
    path, trace, stored = own_recording
    target = path if by == "itself" else tmp_path / "other.sqlite"
    if by == "link":
        target.symlink_to(path)
    elif by == "copy":
        target.write_bytes(path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(RefusedError, match=r"is an SQLite database\. Choose another name"):
        perfetto.export(trace, stored, target)
    assert path.read_bytes() == before
    assert target.is_symlink() == (by == "link")
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "quality.csv").symlink_to(path)
    with pytest.raises(RefusedError, match=r"quality\.csv: is an SQLite database"):
        tables.export_csv(trace, stored, folder)
    assert [p.name for p in folder.iterdir()] == ["quality.csv"]


def test_an_export_never_replaces_a_report_or_the_recording_in_any_format(own_recording, tmp_path):
    path, trace, stored = own_recording
    report = tmp_path / "run.nsys-rep"
    report.write_bytes(b"NVIDIA Tegra Profiler Report")
    with pytest.raises(RefusedError, match="is an Nsight Systems report"):
        perfetto.export(trace, stored, report)
    text = tmp_path / "run.json"
    text.write_text("{}")
    source = replace(
        trace.source, size_bytes=2, sha256=hashlib.sha256(text.read_bytes()).hexdigest()
    )
    with pytest.raises(RefusedError, match="is the recording itself"):
        perfetto.export(replace(trace, source=source), stored, text)
    assert text.read_text() == "{}"
    perfetto.export(trace, stored, text)
    assert path.exists()
    check_chrome_trace(text.read_text())


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_an_export_replaces_plain_files_only(own_recording, tmp_path, make):
    _, trace, stored = own_recording
    target = tmp_path / "out.json"
    make(target)
    before = target.lstat()
    with pytest.raises(RefusedError, match=r"is (a folder|not a plain file)"):
        perfetto.export(trace, stored, target)
    assert target.lstat() == before
    with pytest.raises(RefusedError, match="is not a plain file"):
        perfetto.export(trace, stored, Path("/dev/null"))


def test_tables_go_into_a_folder_only(own_recording, tmp_path):
    _, trace, stored = own_recording
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RefusedError, match="is not a folder"):
        tables.export_parquet(trace, stored, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_chrome_trace_says_what_it_leaves_out(own_recording, tmp_path):
    _, trace, stored = own_recording
    perfetto.export(trace, stored, tmp_path / "a.json")
    said = json.loads((tmp_path / "a.json").read_text())["otherData"]["not_exported"]
    waits = trace.count("syncs")
    assert said == f"{waits} waits as CUPTI records them, 1 messages of the profiler"


def test_only_rows_of_the_window_are_exported(tmp_path):
    trace, stored = opened(scenarios.sync(), tmp_path / "root")
    window = stored.report.window
    text = f"span:{window.start_ns}-{window.start_ns + window.duration_ns // 2}"
    stored = analyses.save(investigate(trace, text), trace, text)
    tables.export_csv(trace, stored, tmp_path / "csv", only_window=True)
    kernels = read_csv(tmp_path / "csv" / "kernels.csv")
    assert 0 < len(kernels) < trace.count("kernels")
    assert all(int(k["start_ns"]) <= stored.report.window.end_ns for k in kernels)


def test_strings_that_no_event_refers_to_are_never_exported(tmp_path):
    from collectors.trace import Source, TraceWriter
    from tests.traces_in_memory import PROCESS, THREAD

    writer = TraceWriter(tmp_path / "root")
    span = {"start_ns": np.array([0]), "end_ns": np.array([9]), "process": np.array([PROCESS])}
    writer.write(
        "ranges",
        {
            **span,
            "thread": np.array([THREAD]),
            "name_id": np.array([1]),
            "closed": np.array([True]),
        },
    )
    import pyarrow as pa

    writer.write("strings", {"id": np.array([1, 2]), "value": pa.array(["step", CANARIES[0]])})
    for table in ("kernels", "devices", "processes", "threads"):
        writer.declare(table)
    trace = writer.finish("tiny-1", Source(name="tiny", format="nsys-sqlite"))
    stored = analyses.save(investigate(trace), trace, "")
    everything = everything_exported(trace, stored, tmp_path)
    assert b"step" in everything
    assert CANARIES[0].encode() not in everything


def everything_exported(trace, stored, tmp_path):
    perfetto.export(trace, stored, tmp_path / "canary.json")
    files = tables.export_csv(trace, stored, tmp_path / "csv")
    content = (tmp_path / "canary.json").read_bytes() + b"".join(f.read_bytes() for f in files)
    for file in tables.export_parquet(trace, stored, tmp_path / "parquet"):
        content += repr(pq.read_table(file).to_pydict()).encode() + file.read_bytes()
    return content


def real_files():
    return sorted((REAL / "nsys_sqlite").glob("*.sqlite")) + sorted(
        (REAL / "nsys_cpu").glob("cpu_20*.sqlite")
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real recordings")
@pytest.mark.parametrize("path", real_files(), ids=lambda p: p.name[-40:])
def test_private_text_of_real_recordings_never_leaves(path, tmp_path):
    try:
        trace, stored = opened(path, tmp_path / "root")
    except RefusedError:
        pytest.skip("not a recording")
    content = everything_exported(trace, stored, tmp_path)
    for canary in CANARIES:
        assert canary.encode() not in content
    check_chrome_trace((tmp_path / "canary.json").read_text())
    launches = stored.launches()
    assert int((launches["kind"] == COPY).sum()) == trace.count("copies")
