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
from collectors.errors import RefusedError
from collectors.schema import CopyKind, MemoryKind
from collectors.sqlite_file import BATCH_ROWS
from traces.nsys_layout import GENERATIONS
from traces.nsys_writer import Recording

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
    made.kernel("other", 50 * US, 60 * US, globalPid=other, correlationId=100)
    made.kernel("other", 110 * US, 120 * US, globalPid=other, correlationId=101)
    report = analyze(open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache"))
    assert len(report.devices) == 2
    mine = next(d for d in report.devices if d.process == 777)
    assert sum(mine.unexplained.values()) == 50 * US


def changed(tmp_path, *statements, made=None):
    """Read a recording after ``statements`` had their way with it; every row is accounted for."""
    words = [s.split() for s in statements]
    changed_tables = sorted({w[1] for w in words if w[0] == "UPDATE"})
    path = (made or recording()).write(tmp_path / "a.sqlite")
    change(path, *(s for table in changed_tables for s in loosened(table)), *statements)
    trace = open_trace(path, tmp_path / "cache")
    assert all(r.used + r.excluded == r.rows for r in trace.row_counts)
    return trace


def loosened(table):
    """Return statements after which the table takes a value of any type in any column."""
    return (
        f"CREATE TABLE loose AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE loose RENAME TO {table}",
    )


def only_note(trace):
    (note,) = trace.notes
    return note.code, note.effect, note.count


KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"


@pytest.mark.parametrize("value", ["NULL", "''", "X'6162'", "'(7)'"])
def test_names_of_calls_that_are_no_text_are_counted_or_decoded(tmp_path, value):
    trace = changed(tmp_path, f"UPDATE StringIds SET value = {value} WHERE value LIKE 'cuda%'")
    names = set(trace.names(trace.frame("api_calls")["name_id"].to_numpy()))
    assert names == {{"NULL": "", "''": "", "X'6162'": "ab", "'(7)'": "(7)"}[value]}
    assert codes(trace) == ({"string_missing": 1} if value == "NULL" else {})


def test_a_missing_name_of_calls_is_counted(tmp_path):
    trace = changed(tmp_path, "DELETE FROM StringIds WHERE value LIKE 'cuda%'")
    assert all("is missing" in n for n in trace.names(trace.frame("api_calls")["name_id"]))
    assert only_note(trace) == ("string_missing", "repaired", 1)


def test_calls_without_a_name_are_counted(tmp_path):
    trace = changed(tmp_path, f"ALTER TABLE {RUNTIME} DROP COLUMN nameId")
    assert trace.frame("api_calls")["name_id"].tolist() == [-1] * 3
    assert only_note(trace) == ("string_missing", "repaired", 3)


def test_names_are_texts_whatever_they_are_stored_as(tmp_path):
    made = recording()
    made.nvtx("domain", 0, None, eventType=75, domainId=3)
    made.nvtx("inside", 20, 30, eventType=59, domainId=3)
    made.metrics(["metric"], [0, 10], np.zeros((2, 1)))
    trace = changed(
        tmp_path,
        *(
            f"UPDATE {table} SET {column} = CAST({column} AS BLOB)"
            for table, column in (
                *(("StringIds", "value"), ("NVTX_EVENTS", "text"), ("PROCESSES", "name")),
                *(("TARGET_INFO_GPU", "name"), ("TARGET_INFO_GPU_METRICS", "metricName")),
            )
        ),
        made=made,
    )
    plain = open_trace(made.write(tmp_path / "b.sqlite"), tmp_path / "cache")
    for table in ("processes", "threads", "devices", "strings"):
        assert trace.frame(table).equals(plain.frame(table))
        assert not any("b'" in str(v) for v in trace.frame(table).to_numpy().ravel())


def test_long_names_are_cut_and_control_characters_counted(tmp_path):
    made = recording(kernels=1)
    made.nvtx("n" * 70_000, 0, 10, eventType=59)
    made.nvtx("a\x1b[31m", 0, 10, eventType=59)
    trace = changed(tmp_path, made=made)
    assert codes(trace) == {"text_truncated": 1, "text_control_chars": 1}
    assert len(trace.names(trace.frame("ranges")["name_id"].to_numpy())[0]) == 65_536


@pytest.mark.parametrize("value", ["NULL", "-1", "65536", "70000", "'zero'", "99999999999"])
def test_a_device_that_cannot_be_becomes_the_only_one_of_its_process(tmp_path, value):
    trace = changed(tmp_path, odd_device(value))
    assert trace.frame("kernels")["device"].tolist() == [0, 0, 0]
    assert trace.frame("devices")["device"].tolist() == [0]
    assert only_note(trace) == ("kernel_device_unknown", "repaired", 1)


def odd_device(value):
    return f"UPDATE {KERNEL} SET deviceId = {value} WHERE correlationId = 101"


def test_a_device_that_cannot_be_is_left_out_when_the_process_has_several(tmp_path):
    made = recording()
    made.kernel("other", 200 * US, 210 * US, deviceId=1, correlationId=500)
    trace = changed(tmp_path, odd_device("NULL"), made=made)
    assert trace.frame("devices")["device"].tolist() == [0, 1]
    assert only_note(trace) == ("kernel_device_unknown", "excluded", 1)
    assert trace.count("kernels") == 3


def test_recordings_that_name_no_device_have_the_one_that_is_described(tmp_path):
    for generation in GENERATIONS:
        trace = changed(
            tmp_path, f"ALTER TABLE {KERNEL} DROP COLUMN deviceId", made=recording(generation)
        )
        assert trace.frame("devices")["device"].tolist() == [0]
        assert trace.frame("devices")["sm_count"].tolist() == [132]
        assert only_note(trace) == ("kernel_device_unknown", "repaired", 3)


@pytest.mark.parametrize(
    "change_sql",
    [
        "start = -9223372036854775808",
        "end = 9223372036854775807",
        "end = end + 1000000000000000",
        "start = -1000000000000000",
    ],
)
@pytest.mark.parametrize("stated", [True, False])
def test_a_time_far_outside_the_recording_is_left_out(tmp_path, change_sql, stated):
    statements = [f"UPDATE {KERNEL} SET {change_sql} WHERE correlationId = 111"]
    if not stated:
        statements.append("DROP TABLE ANALYSIS_DETAILS")
    trace = changed(tmp_path, *statements, made=recording(kernels=20))
    assert only_note(trace) == ("kernel_out_of_range", "excluded", 1)
    assert analyze(trace).window.duration_ns == 390 * US


def test_what_happened_somewhat_outside_the_stated_capture_is_kept(tmp_path):
    made = recording()
    made.nvtx("early", -11 * 1_000_000 * US, 0, eventType=59)
    trace = changed(tmp_path, "UPDATE ANALYSIS_DETAILS SET duration = 20000", made=made)
    assert trace.count("ranges") == 1
    assert trace.notes == ()


def test_a_recording_whose_clock_counts_from_1970_is_read(tmp_path):
    shift = 1_795_132_800_000_000_000
    trace = changed(
        tmp_path,
        *(
            f"UPDATE {t} SET start = start + {shift}, end = end + {shift}"
            for t in (KERNEL, RUNTIME)
        ),
    )
    assert trace.frame("kernels")["start_ns"].tolist() == [shift, shift + 20_000, shift + 40_000]
    assert trace.notes == ()
    assert trace.source.duration_ns == -1
    assert analyze(trace).devices[0].busy_ns == 30_000


def test_a_duration_that_cannot_be_true_is_not_believed(tmp_path):
    made = recording()
    made.nvtx("open", 5, None, eventType=59)
    trace = changed(
        tmp_path, "UPDATE ANALYSIS_DETAILS SET duration = 9223372036854775807", made=made
    )
    assert trace.source.duration_ns == -1
    assert trace.frame("ranges")["end_ns"].tolist() == [50 * US]


def test_calls_that_name_no_thread_are_left_out_not_put_on_an_invented_one(tmp_path):
    made = recording()
    made.nvtx("range", 0, 10, eventType=59)
    trace = changed(
        tmp_path,
        f"UPDATE {RUNTIME} SET globalTid = NULL WHERE correlationId = 101",
        "UPDATE NVTX_EVENTS SET globalTid = NULL",
        made=made,
    )
    assert codes(trace) == {"api_no_thread": 1, "nvtx_no_thread": 1}
    assert len(trace.frame("threads")) == len(trace.frame("processes")) == 1


def test_overheads_without_a_thread_stay_and_invent_none(tmp_path):
    made = recording()
    made.overhead("Flush", 0, 10, globalTid=None)
    trace = changed(tmp_path, made=made)
    assert trace.frame("overheads")["thread"].tolist() == [-1]
    assert trace.notes == ()
    assert len(trace.frame("threads")) == len(trace.frame("processes")) == 1


@pytest.mark.parametrize("size", [-500, -1, (1 << 42) + 1, (1 << 63) - 1])
def test_copies_of_an_impossible_size_are_left_out(tmp_path, size):
    made = recording()
    for i in range(3):
        made.copy(1, 100, 100_000 + i * 10, 100_005 + i * 10, correlationId=900 + i)
    made.memset(size, 100_100, 100_101, correlationId=990)
    made.copy(1, size, 100_200, 100_201, correlationId=991)
    trace = changed(tmp_path, made=made)
    assert codes(trace) == {"memcpy_invalid": 1, "memset_invalid": 1}
    assert trace.frame("copies")["bytes"].sum() == 300


def test_numbers_beyond_32_bits_count_as_not_recorded(tmp_path):
    trace = changed(
        tmp_path,
        f"UPDATE {RUNTIME} SET returnValue = 4294967295 WHERE correlationId = 101",
        f"UPDATE {KERNEL} SET gridX = 0, staticSharedMemory = -9223372036854775808",
        "UPDATE TARGET_INFO_GPU SET smCount = 99999999999, maxWarpsPerSm = 'many'",
        "CREATE TABLE TARGET_INFO_CUDA_DEVICE (gpuId, cudaId, pid)",
        "INSERT INTO TARGET_INFO_CUDA_DEVICE VALUES ('a', 0, 4242), (9999999999, 0, 4242)",
    )
    assert codes(trace) == {
        "number_out_of_range": 1,
        "launch_geometry_invalid": 3,
        "gpu_info_invalid": 2,
    }
    assert trace.frame("api_calls")["status"].tolist() == [0, -1, 0]
    kernels, devices = trace.frame("kernels"), trace.frame("devices")
    assert set(kernels["grid_x"]) == set(kernels["static_shared_bytes"]) == {-1}
    assert devices[["sm_count", "max_warps_per_sm", "physical"]].to_numpy().tolist() == [[-1] * 3]


def test_an_open_range_of_an_old_export_ends_with_the_last_event_of_any_table(tmp_path):
    made = recording("2020.5")
    made.nvtx("open", 5, None, eventType=59)
    made.nvtx("closed last", 5, 80 * US, eventType=59)
    made.os_call("read", 60 * US, 90 * US)
    trace = changed(tmp_path, made=made)
    ranges = trace.frame("ranges").sort_values("end_ns")
    assert ranges["end_ns"].tolist() == [80 * US, 90 * US]
    assert ranges["closed"].tolist() == [True, False]


def test_a_range_that_is_left_out_is_not_repaired_as_well(tmp_path):
    made = recording()
    made.nvtx("open", 5, None, eventType=59)
    trace = changed(tmp_path, "UPDATE NVTX_EVENTS SET start = 'soon'", made=made)
    assert only_note(trace) == ("nvtx_bad_type", "excluded", 1)


@pytest.mark.parametrize("kind", ["NULL", "'x'", "70", "35"])
def test_nvtx_rows_of_an_unknown_kind_are_warned_about(tmp_path, kind):
    made = recording()
    made.nvtx("range", 5, 10, eventType=59)
    made.nvtx("name of a stream", 5, 10, eventType=99)
    trace = changed(
        tmp_path,
        f"UPDATE NVTX_EVENTS SET eventType = {kind} WHERE eventType = 59",
        made=made,
    )
    found = {n.code: n.severity for n in trace.notes}
    assert found == {"nvtx_other_event": "info", "nvtx_unknown_kind": "import_error"}


@pytest.mark.parametrize("suffix", ["_v2_ptsz", "_ptds", "_v2", "_ptsz_v7000", "_v2_ptds_v9000"])
def test_every_suffix_of_a_version_is_stripped(tmp_path, suffix):
    made = Recording()
    made.api("cuMemcpyHtoDAsync" + suffix, 0, 10, correlationId=1)
    trace = changed(tmp_path, made=made)
    assert trace.names(trace.frame("api_calls")["name_id"]).tolist() == ["cuMemcpyHtoDAsync"]


def test_calls_recorded_only_with_a_backtrace_are_kept(tmp_path):
    made = recording()
    other = made.thread(made.process(777, "other"), 778, "other")
    made.api("cudaLaunchKernel", 0, 10, correlationId=100, eventClass=67)
    made.api("cudaFree", 20, 30, correlationId=555, eventClass=67)
    made.api("cudaFree", 20, 30, correlationId=100, eventClass=67, globalTid=other)
    trace = changed(tmp_path, made=made)
    assert only_note(trace) == ("api_backtrace_duplicate", "excluded", 1)
    assert trace.count("api_calls") == 5
    trace = changed(tmp_path, f"UPDATE {RUNTIME} SET eventClass = 67")
    assert trace.count("api_calls") == 3


def test_kernels_without_duration_metrics_without_meaning_and_unread_tables_are_noted(tmp_path):
    made = recording()
    made.metrics(["metric"], [0, 10, 20], np.zeros((3, 1)))
    trace = changed(
        tmp_path,
        f"UPDATE {KERNEL} SET end = start WHERE correlationId = 101",
        "UPDATE GPU_METRICS SET value = 'high' WHERE timestamp = 0",
        "UPDATE GPU_METRICS SET metricId = 77 WHERE timestamp = 10",
        "CREATE TABLE MPI_P2P_EVENTS (start INTEGER, end INTEGER)",
        "INSERT INTO MPI_P2P_EVENTS VALUES (1, 2), (3, 4)",
        made=made,
    )
    found = {(n.code, n.effect): n.count for n in trace.notes}
    assert found == {
        ("kernel_zero_duration", "noted"): 1,
        ("metric_not_numeric", "excluded"): 1,
        ("metric_unknown", "excluded"): 1,
        ("schema_unknown_tables", "noted"): 2,
    }
    assert trace.count("gpu_metrics") == 1
    assert any("MPI_P2P_EVENTS" in n.message for n in trace.notes)


def test_process_numbers_use_all_64_bits(tmp_path):
    made = recording()
    high = (200 << 56) - (1 << 64)
    trace = changed(
        tmp_path,
        f"UPDATE {KERNEL} SET globalPid = globalPid | {high}",
        f"UPDATE {RUNTIME} SET globalTid = globalTid | {high}",
        f"UPDATE PROCESSES SET globalPid = globalPid | {high}",
        made=made,
    )
    (process,) = trace.frame("processes").to_dict("records")
    assert (process["process"] > 0, process["pid"], process["name"]) == (True, 4242, "python3")
    assert set(trace.frame("kernels")["process"]) == {process["process"]}


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


@pytest.mark.parametrize("table", ["SCHED_EVENTS", "GPU_METRICS", "CUDA_GRAPH_NODE_EVENTS"])
def test_an_export_of_one_kind_of_event_is_a_whole_one(tmp_path, table):
    path = change(
        tmp_path / "a.sqlite",
        "CREATE TABLE StringIds (id INTEGER, value TEXT)",
        f"CREATE TABLE {table} (start INTEGER, timestamp INTEGER)",
    )
    assert analyze(open_trace(path, tmp_path / "cache")).verdict.cause == "unknown"


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
