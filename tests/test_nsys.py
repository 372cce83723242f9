"""What the reader promises about Nsight Systems exports, odd and damaged ones included."""

import functools
import gzip
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from analyzers import analyze
from collectors import open_trace
from collectors.sqlite_file import BATCH_ROWS
from collectors.trace import CopyKind, MemoryKind, RefusedError
from traces.nsys_writer import GENERATIONS, Recording

US = 1_000


def recording(generation="3.13", kernels=3):
    """Kernels of 10 µs every 20 µs, each launched 5 µs before it begins."""
    made = Recording(generation=generation)
    for i in range(kernels):
        begin = 20 * US * i
        call = {"correlationId": 100 + i}
        made.api("cudaLaunchKernel_v7000", begin - 5 * US, begin - 2 * US, **call)
        made.kernel("void add<float>(float*)", begin, begin + 10 * US, **call)
    return made


def change(path, *statements):
    with sqlite3.connect(path) as file:
        for statement in statements:
            file.execute(statement)
    file.close()
    return path


def excluded(trace, table):
    return next(r.excluded for r in trace.row_counts if r.table == table)


def codes(trace):
    return {n.code: n.count for n in trace.notes}


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("lazy", [True, False])
def test_every_generation_reads_the_same(tmp_path, generation, lazy):
    made = recording(generation)
    made.lazy = lazy
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    kernels = trace.frame("kernels")
    assert kernels["start_ns"].tolist() == [0, 20_000, 40_000]
    assert set(trace.names(kernels["name_id"].to_numpy())) == {"void add<float>(float*)"}
    assert trace.frame("devices")["sm_count"].tolist() == [132]
    report = analyze(trace)
    assert report.devices[0].busy_ns == 30_000
    assert report.devices[0].duration_ns == 50_000


def test_version_suffixes_name_one_function(tmp_path):
    made = recording()
    for name in ("cudaMemcpyAsync_v3020", "cudaMemcpyAsync_ptsz_v7000", "cudaMemcpyAsync"):
        made.api(name, 0, 10, correlationId=1)
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    names = trace.names(trace.frame("api_calls")["name_id"].to_numpy())
    assert set(names) == {"cudaLaunchKernel", "cudaMemcpyAsync"}
    assert trace.frame("api_calls")["name_id"].nunique() == 2


def test_second_rows_of_calls_with_backtraces_are_left_out(tmp_path):
    made = recording()
    made.api("cudaLaunchKernel", -5_010, -1_990, correlationId=100, eventClass=67)
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    assert trace.count("api_calls") == 3
    assert codes(trace) == {"api_backtrace_duplicate": 1}


def test_an_absent_table_is_not_an_empty_one(tmp_path):
    lazy = open_trace(recording().write(tmp_path / "a.sqlite"), tmp_path / "cache")
    full = recording()
    full.lazy = False
    other = open_trace(full.write(tmp_path / "b.sqlite"), tmp_path / "cache")
    assert not lazy.has("copies")
    assert other.has("copies")
    assert other.count("copies") == 0


@pytest.mark.parametrize(
    ("change_sql", "code"),
    [
        ("SET end = start - 1", "kernel_negative_duration"),
        ("SET start = 4611686018427387904, end = 4611686018427387905", "kernel_out_of_range"),
        ("SET start = 'soon'", "kernel_bad_type"),
        ("SET start = 0, end = 0", "kernel_no_time"),
    ],
)
def test_unusable_rows_are_left_out_and_counted(tmp_path, change_sql, code):
    path = recording().write(tmp_path / "a.sqlite")
    change(path, f"UPDATE CUPTI_ACTIVITY_KIND_KERNEL {change_sql} WHERE correlationId = 101")
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == 2
    assert codes(trace) == {code: 1}
    assert excluded(trace, "CUPTI_ACTIVITY_KIND_KERNEL") == 1
    report = analyze(trace)
    assert report.totals["kernels"] == {
        "count": 2,
        "duration_ns": 20_000,
        "min_ns": 10_000,
        "max_ns": 10_000,
    }
    assert any(code == q.code and q.level == "warning" for q in report.quality)


def test_a_text_among_integers_far_into_the_table_loses_one_row(tmp_path):
    made = Recording()
    count = 2 * BATCH_ROWS + 100
    start = np.arange(count) * 100
    made.bulk(
        "CUPTI_ACTIVITY_KIND_KERNEL",
        {
            "start": start,
            "end": start + 50,
            "deviceId": 0,
            "contextId": 1,
            "streamId": 7,
            "correlationId": np.arange(count),
            "globalPid": made.pid,
            "shortName": made.string("k"),
            "demangledName": made.string("k"),
        },
    )
    path = made.write(tmp_path / "a.sqlite")
    row = BATCH_ROWS + 50
    change(path, f"UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = 'x' WHERE start = {row * 100}")
    trace = open_trace(path, tmp_path / "cache")
    left = np.delete(start, row)
    assert trace.frame("kernels")["start_ns"].tolist() == left.tolist()


def test_nvtx_texts_inline_and_by_number_are_both_read(tmp_path):
    made = recording()
    made.nvtx("inline", 0, 10, eventType=59)
    made.nvtx("", 10, 20, eventType=59, textId=made.string("by number"))
    made.nvtx("the domain", 0, None, eventType=75, domainId=3)
    made.nvtx("inside", 20, 30, eventType=60, domainId=3)
    made.nvtx("a mark", 25, None, eventType=34)
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    ranges = trace.frame("ranges")
    assert trace.names(ranges["name_id"].to_numpy()).tolist() == ["inline", "by number", "inside"]
    assert trace.names(ranges["domain_id"].to_numpy()).tolist() == ["", "", "the domain"]
    assert trace.names(trace.frame("marks")["name_id"].to_numpy()).tolist() == ["a mark"]


def test_a_range_that_was_never_closed_ends_with_the_capture(tmp_path):
    made = recording()
    made.nvtx("open", 5, None, eventType=59)
    path = made.write(tmp_path / "a.sqlite")
    change(path, "UPDATE ANALYSIS_DETAILS SET duration = 70000")
    trace = open_trace(path, tmp_path / "cache")
    row = trace.frame("ranges").iloc[0]
    assert (row["start_ns"], row["end_ns"], row["closed"]) == (5, 70_000, False)
    assert codes(trace) == {"nvtx_unclosed": 1}


def test_names_that_are_not_utf_8_keep_their_rows(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    change(path, "UPDATE StringIds SET value = CAST(x'6B80FF' AS TEXT) WHERE value LIKE 'void%'")
    trace = open_trace(path, tmp_path / "cache")
    names = trace.names(trace.frame("kernels")["name_id"].to_numpy())
    assert set(names) == {"k\ufffd\ufffd"}


def test_a_missing_name_is_said(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    change(path, "DELETE FROM StringIds WHERE value LIKE 'void add%'")
    trace = open_trace(path, tmp_path / "cache")
    names = trace.names(trace.frame("kernels")["name_id"].to_numpy())
    assert all("is missing" in n for n in names)
    assert codes(trace)["string_missing"] >= 1


def test_a_name_given_twice_does_not_multiply_rows(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    change(
        path,
        "CREATE TABLE copy AS SELECT * FROM StringIds",
        "DROP TABLE StringIds",
        "CREATE TABLE StringIds (id INTEGER, value TEXT)",
        "INSERT INTO StringIds SELECT * FROM copy",
        "INSERT INTO StringIds SELECT id, value || ' again' FROM copy",
        "DROP TABLE copy",
    )
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == 3
    assert set(trace.names(trace.frame("kernels")["name_id"].to_numpy())) == {
        "void add<float>(float*)"
    }
    assert "string_duplicate" in codes(trace)


def test_kinds_of_memory_are_read_from_the_recording_s_own_table(tmp_path):
    made = recording()
    made.copy(1, 4_096, 100_000, 101_000, srcKind=8, dstKind=2, correlationId=999)
    path = made.write(tmp_path / "a.sqlite")
    change(
        path,
        "UPDATE ENUM_CUDA_MEM_KIND SET id = 8 WHERE name = 'CUDA_MEMOPR_MEMORY_KIND_PINNED'",
    )
    copies = open_trace(path, tmp_path / "cache").frame("copies")
    assert copies["kind"].tolist() == [CopyKind.HOST_TO_DEVICE]
    assert copies["source_kind"].tolist() == [MemoryKind.PINNED]


def test_equal_correlation_ids_of_two_processes_are_kept_apart(tmp_path):
    made = recording(kernels=1)
    other = made.process(777, "other")
    made.kernel("other", 50 * US, 60 * US, globalPid=other, correlationId=100)
    made.kernel("other", 110 * US, 120 * US, globalPid=other, correlationId=101)
    report = analyze(open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache"))
    assert len(report.devices) == 2
    mine = next(d for d in report.devices if d.process == 777)
    assert sum(mine.unexplained.values()) == 50 * US


def refused(path, tmp_path):
    with pytest.raises(RefusedError) as caught:
        open_trace(path, tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) <= 300
    assert path.name in message
    assert str(tmp_path) not in message
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    return message


def test_half_an_export_is_refused_not_called_idle(tmp_path):
    path = change(
        tmp_path / "half.sqlite",
        "CREATE TABLE StringIds (id INTEGER, value TEXT)",
        "CREATE TABLE ENUM_NSYS_EVENT_TYPE (id INTEGER, name TEXT)",
    )
    assert "half an export" in refused(path, tmp_path)


def test_a_cut_off_file_is_refused(tmp_path):
    path = recording(kernels=2_000).write(tmp_path / "a.sqlite")
    path.write_bytes(path.read_bytes()[:-5_000])
    assert "cut off" in refused(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\x00", b"\x00" * 4_096])
def test_what_is_no_database_is_refused(tmp_path, content):
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    refused(path, tmp_path)


def test_damaged_pages_are_refused(tmp_path):
    path = recording(kernels=2_000).write(tmp_path / "a.sqlite")
    content = bytearray(path.read_bytes())
    content[8_192:12_288] = b"\xff" * 4_096
    path.write_bytes(content)
    assert "cannot be read" in refused(path, tmp_path)


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE VIEW CUPTI_ACTIVITY_KIND_MEMCPY AS SELECT 1 AS start, 2 AS end",
        "CREATE TRIGGER t AFTER INSERT ON StringIds BEGIN SELECT 1; END",
        "CREATE TABLE bomb (a INTEGER, b TEXT AS (hex(zeroblob(1000000))))",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
    ],
)
def test_a_database_that_could_run_something_is_refused(tmp_path, trap):
    path = change(recording().write(tmp_path / "a.sqlite"), trap)
    refused(path, tmp_path)


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_database_that_is_being_written_is_refused(tmp_path, ending):
    path = recording().write(tmp_path / "a.sqlite")
    path.with_name(path.name + ending).write_bytes(b"unfinished")
    assert "half written" in refused(path, tmp_path)


def test_reading_leaves_nothing_beside_the_file(tmp_path):
    folder = tmp_path / "input"
    folder.mkdir()
    path = recording().write(folder / "a.sqlite")
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA journal_mode=WAL")
    file.close()
    before = path.read_bytes()
    open_trace(path, tmp_path / "cache")
    assert [p.name for p in folder.iterdir()] == ["a.sqlite"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_what_lies_beside_the_target_of_a_link_counts_too(tmp_path, ending):
    (tmp_path / "there").mkdir()
    path = recording().write(tmp_path / "there" / "a.sqlite")
    path.with_name(path.name + ending).write_bytes(b"unfinished")
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    assert "half written" in refused(link, tmp_path)


def replaced_while_read(path, tmp_path, change):
    """Open ``path`` and have ``change`` called in the middle of it."""
    calls = []

    def on_progress(_done, _doing):
        if not calls:
            change()
        calls.append(1)

    with pytest.raises(RefusedError) as caught:
        open_trace(path, tmp_path / "cache", on_progress=on_progress)
    assert calls
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    return str(caught.value)


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    other = recording(kernels=7).write(tmp_path / "b.sqlite")
    message = replaced_while_read(path, tmp_path, lambda: other.replace(path))
    assert message.startswith("a.sqlite: changed while it was read")
    assert open_trace(path, tmp_path / "cache").count("kernels") == 7


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    times = path.stat()

    def change_back_dated():
        change(path, "UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = end + 1")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert "changed while it was read" in replaced_while_read(path, tmp_path, change_back_dated)


def test_a_file_that_vanishes_or_is_cut_while_it_is_read_is_refused(tmp_path):
    for change_it in (Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:8_192])):
        path = recording(kernels=2_000).write(tmp_path / "a.sqlite")
        message = replaced_while_read(path, tmp_path, functools.partial(change_it, path))
        assert "changed while it was read" in message


ODD_FILES = {
    "folder": (Path.mkdir, "a folder, not a recording"),
    "pipe": (os.mkfifo, "a pipe or device"),
    "empty": (Path.touch, "an empty file"),
    "loop": (lambda p: p.symlink_to(p.name), "a link that leads back to itself"),
    "dangling": (lambda p: p.symlink_to("nowhere"), "a link to a file that is not there"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"x")), "gzip. Unpack it first: gunzip FILE"),
    "zip": (lambda p: p.write_bytes(b"PK\x03\x04rest"), "Unpack it first: unzip FILE"),
}


@pytest.mark.parametrize(("make", "words"), ODD_FILES.values(), ids=ODD_FILES.keys())
def test_what_cannot_be_a_recording_is_named_with_the_way_out(tmp_path, make, words):
    path = tmp_path / "a.sqlite"
    make(path)
    assert words in refused(path, tmp_path)


def test_names_that_no_file_can_have_are_refused(tmp_path):
    for name, words in (("n" * 300, "too long"), ("a\0b", "no such file"), ("a", "no such file")):
        with pytest.raises(RefusedError, match=words) as caught:
            open_trace(tmp_path / name, tmp_path / "cache")
        assert len(str(caught.value)) < 200
    with pytest.raises(RefusedError, match="no such file"):
        open_trace(Path(__file__) / "a", tmp_path / "cache")


def test_a_long_name_leaves_room_for_the_trouble(tmp_path):
    path = tmp_path / ("n" * 250)
    path.write_bytes(b"no recording")
    with pytest.raises(RefusedError) as caught:
        open_trace(path, tmp_path / "cache")
    assert str(caught.value).startswith("n" * 79 + "…: not a recording")


def test_a_name_that_is_not_utf_8_is_shown_with_replacements(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 %20?#.sqlite"))
    path.write_bytes(recording().write(tmp_path / "a.sqlite").read_bytes())
    assert open_trace(path, tmp_path / "cache").source.name == "caf\ufffd %20?#.sqlite"


def test_the_same_content_is_kept_once(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    again = tmp_path / "b.sqlite"
    again.write_bytes(path.read_bytes())
    first, second = (open_trace(p, tmp_path / "cache") for p in (path, again))
    assert first.id == second.id
    assert len([p for p in (tmp_path / "cache").iterdir() if p.name != "tmp"]) == 1


def test_unknown_files_name_the_formats_that_are_known(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert "Nsight Systems reports" in refused(path, tmp_path)
