"""Exports of nsys and tables of ncu that are unusual, or damaged in one place."""

import hashlib
import os
import sqlite3

import pytest

from analyzers import analyze
from analyzers.analysis import investigate
from collectors import open_trace, sqlite_file
from collectors.errors import RefusedError
from tests.torch_traces import note_by_code
from traces.nsys_writer import Recording

MS = 1_000_000


def recording(count=40, *, with_ranges=True):
    """Return launches, waits and ranges: kernels of 1 ms, one every 6 ms."""
    made = Recording()
    for n in range(count):
        begin = 6 * MS * n
        made.api("cudaLaunchKernel", begin, begin + 5_000, correlationId=n + 1)
        made.kernel("gemm", begin + 10_000, begin + MS, correlationId=n + 1)
        made.api("cudaDeviceSynchronize", begin + 6_000, begin + MS + 5_000)
        if with_ranges:
            made.nvtx(f"step {n}", begin, begin + 6 * MS - 1_000)
    return made


@pytest.fixture
def changed(tmp_path):
    """Return a function that writes a recording, runs SQL on it, and opens it."""

    def open_it(made, *statements, name="report.sqlite"):
        path = made.write(tmp_path / name)
        base = sqlite3.connect(path)
        for statement in statements:
            base.execute(statement)
        base.commit()
        base.close()
        return open_trace(path, tmp_path / "cache")

    return open_it


# --- tables of another name ---------------------------------------------------------------


@pytest.mark.parametrize("ending", ["_V2", "2", "_v10", "_EXT"])
def test_tables_with_another_ending_are_read_by_their_columns(changed, ending):
    plain = changed(recording(), name="plain.sqlite")
    tables = ("CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS")
    renamed = changed(recording(), *(f"ALTER TABLE {t} RENAME TO {t}{ending}" for t in tables))
    assert note_by_code(renamed)["table_renamed"].severity == "info"
    assert "schema_unknown_tables" not in note_by_code(renamed)
    for table in ("kernels", "api_calls", "ranges"):
        assert renamed.count(table) == plain.count(table) == plain.counts[table]
    before, after = investigate(plain).report, investigate(renamed).report
    assert after.verdict.cause == before.verdict.cause
    assert [d.rows for d in after.devices] == [d.rows for d in before.devices]
    assert len(after.iterations) == len(before.iterations) == 40


def test_an_empty_table_gives_way_to_one_of_another_ending(changed):
    table = "CUPTI_ACTIVITY_KIND_KERNEL"
    copy = f"CREATE TABLE {table}_V2 AS SELECT * FROM {table}"
    trace = changed(recording(), copy, f"DELETE FROM {table}")
    assert trace.count("kernels") == 40


def test_a_table_that_is_there_is_never_replaced(changed):
    table = "CUPTI_ACTIVITY_KIND_KERNEL"
    copy = f"CREATE TABLE {table}_V2 AS SELECT * FROM {table} LIMIT 3"
    trace = changed(recording(), copy)
    assert trace.count("kernels") == 40
    assert "table_renamed" not in note_by_code(trace)


def test_a_table_of_kernels_is_told_by_its_columns_whatever_its_name(changed):
    trace = changed(recording(), "ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL RENAME TO GPU_KERNELS")
    assert trace.count("kernels") == 40
    assert "GPU_KERNELS" in note_by_code(trace)["table_renamed"].message


@pytest.mark.parametrize("name", ["a b", 'x" --', "k;k"])
def test_a_table_of_a_name_that_could_change_a_query_is_not_read(changed, name):
    quoted = name.replace('"', '""')
    trace = changed(recording(), f'ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL RENAME TO "{quoted}"')
    assert trace.count("kernels") == 0
    assert analyze(trace).verdict.cause == "unknown"


def test_gpu_work_in_a_table_of_unknown_layout_is_refused_by_name(changed):
    statements = (
        "ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL RENAME TO CUPTI_ACTIVITY_KIND_KERNEL_V9",
        "ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL_V9 RENAME COLUMN deviceId TO dev",
    )
    with pytest.raises(RefusedError, match="CUPTI_ACTIVITY_KIND_KERNEL_V9") as refused:
        changed(recording(), *statements)
    assert "nsys export" in str(refused.value)


# --- the file -----------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_names_are_right_in_whatever_encoding_the_database_is(tmp_path, encoding):
    plain = recording().write(tmp_path / "plain.sqlite")
    source, path = sqlite3.connect(plain), tmp_path / "wide.sqlite"
    target = sqlite3.connect(path)
    target.execute(f"PRAGMA encoding = '{encoding}'")
    target.executescript("\n".join(source.iterdump()).replace("step 7", "Schritt \N{BULLET} 7"))
    target.close()
    source.close()
    trace = open_trace(path, tmp_path / "cache")
    texts = trace.names(trace.columns("ranges", ["name_id"])["name_id"]).tolist()
    assert texts[6:9] == ["step 6", "Schritt \N{BULLET} 7", "step 8"]
    assert not {"text_not_utf8", "text_control_chars"} & set(note_by_code(trace))


def test_what_stands_behind_the_last_page_is_noted(tmp_path):
    path = recording().write(tmp_path / "long.sqlite")
    assert "sqlite_trailing" not in note_by_code(open_trace(path, tmp_path / "cache"))
    with path.open("ab") as file:
        file.write(b"x" * 5_000)
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == 40
    assert "5,000 bytes" in note_by_code(trace)["sqlite_trailing"].message
    assert note_by_code(trace)["sqlite_trailing"].severity == "info"


@pytest.mark.parametrize(("behind", "is_read"), [(64 << 20, True), ((64 << 20) + 1, False)])
def test_a_database_is_read_from_a_file_that_was_grown_ahead(tmp_path, behind, is_read):
    path = recording().write(tmp_path / "grown.sqlite")
    os.truncate(path, path.stat().st_size + behind)
    if is_read:
        assert open_trace(path, tmp_path / "cache").count("kernels") == 40
    else:
        with pytest.raises(RefusedError, match="bytes, of which the database in it is"):
            open_trace(path, tmp_path / "cache")


def test_a_small_database_in_a_file_of_64_gb_is_refused_by_its_header(tmp_path, monkeypatch):
    path = recording().write(tmp_path / "sparse.sqlite")
    os.truncate(path, 64 << 30)
    monkeypatch.setattr(hashlib, "file_digest", None)  # would read all of it
    with pytest.raises(RefusedError, match="68,719,476,736 bytes, of which the database"):
        open_trace(path, tmp_path / "cache")


def _with_page_count(path, count, *, is_valid):
    """Change the header of a database; a count is valid when two counters in it agree."""
    with path.open("r+b") as file:
        file.seek(24)
        file.write((7).to_bytes(4, "big") + count.to_bytes(4, "big"))
        file.seek(92)
        file.write((7 if is_valid else 6).to_bytes(4, "big"))


@pytest.mark.parametrize("count", [0, 2])
def test_a_page_count_that_is_not_valid_is_ignored(tmp_path, monkeypatch, count):
    monkeypatch.setattr(sqlite_file, "MAX_TRAILING_BYTES", 0)
    path = recording().write(tmp_path / "old.sqlite")
    assert path.stat().st_size > 2 * 2 * 4_096
    _with_page_count(path, count, is_valid=False)
    assert open_trace(path, tmp_path / "cache").count("kernels") == 40
    _with_page_count(path, count, is_valid=True)
    if count:
        with pytest.raises(RefusedError, match="of which the database in it is 8,192"):
            open_trace(path, tmp_path / "cache")
    else:  # no database has no page
        assert open_trace(path, tmp_path / "cache").count("kernels") == 40


def test_a_file_of_holes_is_refused_where_no_page_count_tells(tmp_path, monkeypatch):
    path = recording().write(tmp_path / "sparse.sqlite")
    _with_page_count(path, 0, is_valid=False)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    on_disk = 512 * path.stat().st_blocks
    os.truncate(path, 64 << 30)
    monkeypatch.setattr(hashlib, "file_digest", None)  # would read all of it
    with pytest.raises(RefusedError, match=f"68,719,476,736 bytes, of which {on_disk:,} are on"):
        open_trace(path, tmp_path / "cache")
    monkeypatch.setattr(sqlite_file, "MAX_TRAILING_BYTES", 0)
    os.truncate(path, sqlite_file.MAX_HOLES * on_disk)
    sqlite_file.check_header(path, path.name)
    os.truncate(path, sqlite_file.MAX_HOLES * on_disk + 1)
    with pytest.raises(RefusedError, match="are on the disk"):
        sqlite_file.check_header(path, path.name)


def test_what_is_no_number_is_counted_in_every_column_that_is_read(tmp_path):
    connection = sqlite3.connect(tmp_path / "a.sqlite")
    connection.execute("CREATE TABLE t (a, b)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(1, 2), ("x", 1.5), (3, "y")])
    connection.commit()
    connection.close()
    with sqlite_file.SqliteFile(tmp_path / "a.sqlite") as file:
        for columns in (["a"], ["b"], ["a"]):
            list(file.batches("t", columns))
        assert file.unusable == {"t": {"a": 1, "b": 2}}


# --- ranges -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "crossing"),
    [
        ([(0, 100), (10, 90), (20, 30), (30, 40)], False),
        ([(0, 100), (0, 100), (0, 50), (50, 100)], False),
        ([(0, 10), (10, 20), (20, 30), (5, 5)], False),
        ([(0, 100), (50, 150)], True),
        ([(0, 100), (10, 20), (90, 101)], True),
        ([(0, 200), (10, 60), (50, 70), (80, 90)], True),
    ],
)
def test_pushed_ranges_that_cross_are_noted(changed, spans, crossing):
    made = recording(with_ranges=False)
    for number, (begin, end) in enumerate(spans):
        made.nvtx(f"r{number}", 1_000 * begin, 1_000 * end)
    trace = changed(made)
    assert ("nvtx_crossing" in note_by_code(trace)) == crossing
    if crossing:
        assert note_by_code(trace)["nvtx_crossing"].severity == "info"


@pytest.mark.parametrize(
    "other", [{"eventType": 60}, {"globalTid": (4_242 << 24) + 9}, {"domainId": 5}]
)
def test_ranges_of_other_kinds_threads_and_domains_may_cross(changed, other):
    made = recording(with_ranges=False)
    made.nvtx("a", 0, 100_000)
    made.nvtx("b", 50_000, 150_000, **other)
    assert "nvtx_crossing" not in note_by_code(changed(made))


_LIBRARY = "start INTEGER, end INTEGER, globalTid INTEGER"


@pytest.mark.parametrize(
    ("table", "column", "domain", "name"),
    [
        ("MPI_COLLECTIVES_EVENTS", "textId", "MPI", "MPI_Allreduce"),
        ("MPI_P2P_EVENTS", "textId", "MPI", "MPI_Send"),
        ("MPI_START_WAIT_EVENTS", "textId", "MPI", "MPI_Wait"),
        ("MPI_OTHER_EVENTS", "textId", "MPI", "MPI_Comm_dup"),
        ("UCP_EVENTS", "textId", "UCX", "ucp_worker_progress"),
        ("UCP_PROGRESS_EVENTS", "textId", "UCX", "ucp_tag_recv_nbx"),
        ("CUPTI_ACTIVITY_KIND_OPENACC_OTHER", "nameId", "OpenACC", "Wait"),
        ("OPENMP_EVENT_KIND_PARALLEL", "nameId", "OpenMP", "Parallel"),
        ("OPENMP_EVENT_KIND_TARGET", "nameId", "OpenMP", "Target"),
    ],
)
def test_calls_of_libraries_are_ranges_that_name_the_cause(changed, table, column, domain, name):
    made = recording(with_ranges=False)
    spans = [(6 * MS * n + MS + 100_000, 6 * MS * n + 6 * MS - 50_000) for n in range(39)]
    number = made.string(name)
    rows = ", ".join(f"({a}, {b}, {made.tid}, {number})" for a, b in spans)
    trace = changed(
        made,
        f"CREATE TABLE {table} ({_LIBRARY}, {column} INTEGER)",
        f"INSERT INTO {table} VALUES {rows}",
    )
    ranges = trace.frame("ranges", ["start_ns", "end_ns", "name_id", "domain_id"])
    assert list(zip(ranges["start_ns"], ranges["end_ns"], strict=True)) == spans
    assert set(trace.names(ranges["name_id"].to_numpy())) == {name}
    assert set(trace.names(ranges["domain_id"].to_numpy())) == {domain}
    report = analyze(trace)
    assert report.verdict.cause == "host"
    assert name in report.verdict.sentence
    assert "schema_unknown_tables" not in note_by_code(trace)


def test_calls_of_a_library_that_launch_the_work_are_no_iterations(changed):
    made = recording(with_ranges=False)
    table, number = "CUPTI_ACTIVITY_KIND_OPENACC_LAUNCH", made.string("Enqueue Launch")
    rows = ", ".join(
        f"({6 * MS * n}, {6 * MS * n + 9_000}, {made.tid}, {number})" for n in range(40)
    )
    create = f"CREATE TABLE {table} ({_LIBRARY}, nameId INTEGER)"
    report = analyze(changed(made, create, f"INSERT INTO {table} VALUES {rows}"))
    assert not any(i.is_marked for i in report.iterations)


def test_a_call_of_a_library_without_an_end_or_a_thread_is_counted(changed):
    made = recording()
    create = f"CREATE TABLE MPI_P2P_EVENTS ({_LIBRARY}, textId INTEGER)"
    rows = f"(1000, NULL, {made.tid}, 1), (1000, 2000, NULL, 1), (3000, 4000, {made.tid}, 1)"
    trace = changed(made, create, f"INSERT INTO MPI_P2P_EVENTS VALUES {rows}")
    (count,) = [c for c in trace.row_counts if c.table == "MPI_P2P_EVENTS"]
    assert (count.rows, count.used, count.excluded) == (3, 1, 2)


@pytest.mark.parametrize(("lost", "is_withheld"), [(3, False), (4, True), (20, True)])
def test_kernels_whose_times_were_not_collected_are_left_out_by_form(changed, lost, is_withheld):
    table = "CUPTI_ACTIVITY_KIND_KERNEL"
    trace = changed(recording(), f"UPDATE {table} SET start = 0, end = 0 WHERE rowid <= {lost}")
    assert trace.count("kernels") == 40 - lost
    assert note_by_code(trace)["kernel_no_time"].count == lost
    report = analyze(trace)
    assert (report.verdict.cause == "unknown") == is_withheld
    if is_withheld:
        assert "Record a shorter stretch" in report.verdict.sentence


# --- the recorder's own words -------------------------------------------------------------

DRIVER = (
    "Installed CUDA driver version (13.3) is not supported by this build of Nsight Systems. CUDA "
    "trace will be collected using libraries for driver version 12.8"
)
NOT_STARTED = "CUDA profiling might have not been started correctly."
NOT_ALL = "Not all CUDA events might have been collected."
NO_EVENTS = "No CUDA events collected. Does the process use CUDA?"


def _silent(*texts, severity=2, launched=0):
    made = Recording()
    made.nvtx("step", 0, 5 * MS)
    for n in range(launched):
        made.api("cudaLaunchKernel", 10_000 * n, 10_000 * n + 5_000)
    made.diagnostic("Profiling has started.", 1, severity=1)
    for text in texts:
        made.diagnostic(text, 2, severity=severity)
    return made


@pytest.mark.parametrize(
    ("texts", "quoted", "remedy"),
    [
        ([DRIVER], "13.3", "as new as the driver"),
        ([NOT_ALL, NO_EVENTS, NOT_STARTED], "might have not been started", "Stop other profilers"),
        ([NO_EVENTS, NOT_STARTED, DRIVER], "13.3", "as new as the driver"),
        ([NOT_ALL, NO_EVENTS], "Does the process use CUDA", "not only its parent"),
    ],
)
def test_the_message_of_the_recorder_that_explains_is_passed_on(changed, texts, quoted, remedy):
    sentence = analyze(changed(_silent(*texts))).verdict.sentence
    assert quoted in sentence
    assert remedy in sentence
    assert "Record with: nsys profile -t cuda" not in sentence


def test_a_message_that_only_reports_progress_explains_nothing(changed):
    sentence = analyze(changed(_silent(DRIVER, severity=1))).verdict.sentence
    assert "13.3" not in sentence


@pytest.mark.parametrize("moment", [1_790_000_000_000_000_000, -(1 << 60)])
def test_a_message_counts_whatever_its_clock_says(changed, moment):
    made = _silent()
    made.diagnostic(DRIVER, moment)
    trace = changed(made)
    assert "13.3" in analyze(trace).verdict.sentence
    assert not [n for n in trace.notes if n.code.startswith("diagnostic")]


def test_a_message_on_lost_events_is_told_with_its_reason(changed):
    made = recording()
    made.diagnostic(NOT_ALL, 1)
    made.diagnostic(DRIVER, 2)
    (note,) = [n for n in analyze(changed(made)).quality if n.code == "recorder_reported_loss"]
    assert "Not all CUDA events" in note.message
    assert "13.3" in note.message
    assert "as new as the driver" in note.message


def test_calls_that_launch_without_any_gpu_work_never_advise_what_was_done(changed):
    sentence = analyze(changed(_silent(launched=5))).verdict.sentence
    assert "5 calls launched work" in sentence
    assert "-t cuda" not in sentence


def test_graphs_without_kernels_say_how_to_trace_what_they_replay(changed):
    made = _silent()
    for n in range(32):
        made.api("cudaGraphLaunch", 10_000 * n, 10_000 * n + 5_000)
    sentence = analyze(changed(made)).verdict.sentence
    assert "32 calls launched CUDA graphs" in sentence
    assert "--cuda-graph-trace=node" in sentence


# --- tables of ncu ------------------------------------------------------------------------

HEADER = '"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"'


def _launch(number, *metrics):
    section = "GPU Speed Of Light Throughput"
    return [
        f'"{number}","7","gemm","{section}","{n}","{unit}","{value}"' for n, unit, value in metrics
    ]


@pytest.fixture
def table(tmp_path):
    def open_it(*lines):
        path = tmp_path / "counters.csv"
        path.write_text("\n".join(lines) + "\n")
        return open_trace(path, tmp_path / "cache")

    return open_it


def test_two_runs_in_one_table_are_both_read_and_noted(table):
    run = [
        HEADER,
        *_launch(0, ("Duration", "nsecond", "1,000")),
        *_launch(1, ("Duration", "nsecond", "2,000")),
    ]
    trace = table(*run, "==PROF== Disconnected", *run)
    durations = trace.columns("profiled_kernels", ["duration_ns"])["duration_ns"]
    assert durations.tolist() == [1_000, 2_000, 1_000, 2_000]
    assert note_by_code(trace)["header_repeated"].count == 1
    assert note_by_code(trace)["header_repeated"].severity == "info"


def test_one_run_has_no_note_on_headers(table):
    trace = table(HEADER, *_launch(0, ("Duration", "nsecond", "1,000")))
    assert "header_repeated" not in note_by_code(trace)


@pytest.mark.parametrize(
    ("unit", "value", "is_usable"),
    [
        ("%", "-5", False),
        ("%", "1e308", False),
        ("%", "0", True),
        ("%", "104.5", True),
        ("nsecond", "-1", False),
        ("nsecond", "1e308", False),
        ("byte", "-8", False),
        ("", "-1", True),
        ("%", "1000000", True),
        ("%", "1000001", False),
    ],
)
def test_a_value_that_cannot_be_is_not_used(table, unit, value, is_usable):
    odd = ("DRAM Throughput", unit, value)
    trace = table(HEADER, *_launch(0, ("Duration", "nsecond", "1,000"), odd))
    assert trace.count("counters") == (2 if is_usable else 1)
    assert ("metric_impossible" in note_by_code(trace)) != is_usable
