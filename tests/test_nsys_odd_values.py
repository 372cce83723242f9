"""Values that cannot be true lose their rows, or are repaired; each is counted."""

import numpy as np
import pytest

from analyzers import analyze
from collectors import open_trace
from tests.nsys_exports import US, change, codes, recording
from traces.nsys_layout import GENERATIONS
from traces.nsys_writer import Recording


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
