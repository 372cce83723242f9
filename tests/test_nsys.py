"""Exports of nsys of every generation are read the same, and every row is used or counted."""

import sqlite3

import numpy as np
import pytest

from analyzers import analyze
from collectors import open_trace
from collectors.schema import CopyKind, MemoryKind
from collectors.sqlite_file import BATCH_ROWS
from tests.nsys_exports import US, change, codes, recording
from traces.nsys_layout import GENERATIONS
from traces.nsys_writer import Recording


def excluded(trace, table):
    return next(r.excluded for r in trace.row_counts if r.table == table)


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


@pytest.mark.parametrize("numbers", ["dense", "sparse"])
def test_a_first_text_far_into_the_table_is_read(tmp_path, numbers):
    made = Recording()
    start = np.arange(2 * BATCH_ROWS) * 10
    row = {"start": start, "end": start + 5, "eventType": 59, "globalTid": made.tid}
    made.bulk("NVTX_EVENTS", {**row, "textId": made.string("by number")})
    path = made.write(tmp_path / "a.sqlite")
    late = f"UPDATE NVTX_EVENTS SET text = 'inline', textId = NULL WHERE rowid > {len(start) - 5}"
    far = f"UPDATE NVTX_EVENTS SET rowid = 1 << 60 WHERE rowid = {len(start)}"
    change(path, late, *([far] if numbers == "sparse" else []))
    trace = open_trace(path, tmp_path / "cache")
    names = trace.names(trace.frame("ranges")["name_id"].to_numpy())
    assert names.tolist() == ["by number"] * (len(start) - 5) + ["inline"] * 5


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("CUPTI_ACTIVITY_KIND_KERNEL", "start, correlationId"),
        ("CUPTI_ACTIVITY_KIND_RUNTIME", "start, correlationId"),
        ("NVTX_EVENTS", "start, globalTid"),
        ("StringIds", "id"),
        ("ThreadNames", "globalTid"),
        ("PROCESSES", "globalPid"),
    ],
)
def test_tables_without_row_numbers_read_the_same(tmp_path, table, key):
    made = recording()
    made.nvtx("range", 5, 10, eventType=59)
    path = made.write(tmp_path / "a.sqlite")
    golden = open_trace(path, tmp_path / "golden")
    with sqlite3.connect(path) as file:
        names = [str(row[1]) for row in file.execute(f"PRAGMA table_info({table})")]
    file.close()
    kept = ", ".join(n for n in names if n != "priority")
    change(
        path,
        f"ALTER TABLE {table} RENAME TO old",
        f"CREATE TABLE {table} ({kept}, PRIMARY KEY ({key})) WITHOUT ROWID",
        f"INSERT INTO {table} SELECT {kept} FROM old",
        "DROP TABLE old",
    )
    trace = open_trace(path, tmp_path / "cache")
    assert trace.counts == golden.counts
    for name in ("kernels", "api_calls", "ranges", "threads", "processes"):
        assert trace.frame(name).equals(golden.frame(name))


def test_a_column_named_like_the_row_number_hides_no_rows(tmp_path):
    path = recording().write(tmp_path / "a.sqlite")
    change(path, "ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL ADD COLUMN rowid INTEGER DEFAULT 5")
    assert open_trace(path, tmp_path / "cache").count("kernels") == 3


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
    made.kernel("other", 50 * US, 60 * US, globalPid=other, deviceId=1, correlationId=100)
    made.kernel("other", 110 * US, 120 * US, globalPid=other, deviceId=1, correlationId=101)
    report = analyze(open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache"))
    assert len(report.devices) == 2
    mine = next(d for d in report.devices if d.process == 777)
    assert sum(mine.unexplained.values()) == 50 * US
