"""Files that are no recording whyslow reads: each is named for what it is, with a way out."""

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import tarfile

import pytest

from collectors import open_trace
from collectors.errors import RefusedError
from tests.torch_traces import launches, trace_bytes, x


@pytest.fixture
def refusal(tmp_path):
    def refuse(content, name="file.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(RefusedError) as refused:
            open_trace(path, tmp_path / "cache")
        line = str(refused.value)
        assert "\n" not in line
        assert line.startswith(f"{name}: ")
        return line

    return refuse


# --- what was not fetched, or is packed ---------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.sqlite", "a.nsys-rep", "a.ncu-rep", "a.json", "a.json.gz", "a.csv"]
)
def test_a_pointer_of_git_lfs_names_the_command_that_fetches_the_file(refusal, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    assert "git lfs pull" in refusal(pointer, name)


def _tar(*names):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"12345"))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"), [("a.tar", bytes), ("a.tar.gz", gzip.compress), ("a.tgz", gzip.compress)]
)
def test_a_tar_says_what_is_inside(refusal, name, pack):
    line = refusal(pack(_tar("x/trace.json", "x/log.txt")), name)
    assert "tar archive with trace.json, log.txt inside" in line
    assert "tar xf" in line


@pytest.mark.parametrize("cut", [30, 200, 1_000])
def test_an_archive_that_is_cut_off_is_still_named(refusal, cut):
    names = [f"{n}.sqlite" for n in range(40)]
    assert "tar archive" in refusal(_tar(*names)[: -10 * cut], "a.tar")


def test_names_inside_an_archive_are_made_printable(refusal):
    line = refusal(_tar("a\x1b[31m\n.json"), "a.tar")
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("pack", "program"),
    [
        (lzma.compress, "unxz"),
        (bz2.compress, "bunzip2"),
        (lambda b: b"\x28\xb5\x2f\xfd" + b, "unzstd"),
    ],
)
def test_other_packings_name_the_program_that_unpacks(refusal, pack, program):
    assert program in refusal(pack(trace_bytes(launches())), "a.json.packed")


def test_what_is_packed_three_times_is_not_unpacked_for_ever(refusal):
    packed = gzip.compress(gzip.compress(gzip.compress(trace_bytes(launches()))))
    assert "gunzip" in refusal(packed, "a.json.gz")


# --- other exports of the same tools ------------------------------------------------------


@pytest.mark.parametrize(
    "magic", [b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff\x10\0\0\0", b"\x89HDF\r\n\x1a\n"]
)
def test_an_export_of_nsys_in_another_format_names_the_right_one(refusal, magic):
    line = refusal(magic + bytes(64), "report.parquet")
    assert "nsys export --type sqlite" in line


def test_a_folder_of_parquet_files_names_the_right_export(tmp_path):
    folder = tmp_path / "report_pqtdir"
    folder.mkdir()
    (folder / "CUPTI_ACTIVITY_KIND_KERNEL.parquet").write_bytes(b"PAR1")
    with pytest.raises(RefusedError, match="nsys export --type sqlite"):
        open_trace(folder, tmp_path / "cache")


def test_json_lines_of_nsys_name_the_right_export(refusal):
    lines = (
        '{"Type":48,"TraceProcessEvent":{"startNs":"1"}}\n{"Type":80,"CudaEvent":{"startNs":"2"}}\n'
    )
    assert "nsys export --type sqlite" in refusal(lines)


def test_json_lines_of_anybody_are_named(refusal):
    assert "lines of JSON" in refusal('{"a": 1}\n{"a": 2}\n')


@pytest.mark.parametrize(
    "text",
    [
        "Time (%),Total Time (ns),Instances,Avg (ns),Name\n50.0,10,1,10.0,k\n",
        "Generating SQLite file\n\n ** CUDA API Summary:\n\n Time (%)  Total Time (ns)\n",
        '"Time(%)","Total Time","Calls"\n',
        "Start (ns),Duration (ns),CorrId,GrdX\n1,2,3,4\n",
        "Row#,In-Use (%),Duration (ns),Start (ns),PID,Device ID\n",
        "PID,TID,DevId,Count,QCount,TAvg (ns),TMed (ns)\n",
        "Range,Style,Total Proj Time (ns),Range Instances,Proj Avg (ns)\n",
        "Total (MB),Count,Avg (MB),Med (MB),Operation\n",
    ],
)
def test_a_table_of_nsys_stats_leads_to_its_report(refusal, text):
    line = refusal(text, "stats.csv")
    assert "nsys stats" in line
    assert ".nsys-rep" in line


def test_a_text_of_nvprof_leads_to_nsys(refusal):
    text = "==1234== NVPROF is profiling process 1234, command: ./a\n==1234== Profiling result:\n"
    assert "nvprof" in refusal(text, "log.csv")


@pytest.mark.parametrize(
    "tables",
    [
        ("CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL", "StringTable", "Version"),
        ("CUPTI_ACTIVITY_KIND_RUNTIME", "StringTable", "CUPTI_ACTIVITY_KIND_DRIVER"),
    ],
)
def test_a_database_of_nvprof_is_named(refusal, tmp_path, tables):
    path = tmp_path / "made.db"
    base = sqlite3.connect(path)
    for table in tables:
        base.execute(
            f"CREATE TABLE {table} (_id_ INTEGER PRIMARY KEY, start INT, end INT, value TEXT)"
        )
    base.commit()
    base.close()
    line = refusal(path.read_bytes(), "old.nvvp")
    assert "nvprof" in line
    assert "nsys profile" in line


def test_a_database_of_rocprof_is_named(refusal, tmp_path):
    path = tmp_path / "made.db"
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE rocpd_api (id INTEGER, start INT, end INT)")
    base.commit()
    base.close()
    assert "rocprof" in refusal(path.read_bytes(), "results.db")


# --- JSON of other tools ------------------------------------------------------------------


def _meta(name, pid=1):
    return {
        "ph": "M",
        "name": "process_name",
        "pid": pid,
        "tid": 0,
        "ts": 0,
        "args": {"name": name},
    }


def _plain(name, pid=1, cat=None):
    return {"ph": "X", "name": name, "pid": pid, "tid": 1, "ts": 1, "dur": 2} | (
        {"cat": cat} if cat else {}
    )


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([_plain("mm", "CPU functions"), _plain("mm", "CUDA functions")], "torch.autograd"),
        ([_meta("Ascend Hardware"), x("cpu_op", "mm", 1, 2), _plain("MatMulV2")], "Ascend"),
        ([_meta("Gaudi Device 0"), x("cpu_op", "aten::mm", 1, 2), _plain("gemm")], "Gaudi"),
        ([_meta("/device:GPU:0 (pid 1)"), _plain("fusion.1")], "JAX"),
        ([_meta("CPU HIP API"), _plain("hipLaunchKernel")], "rocprof"),
        ([_plain("RunTask", cat="toplevel")], "Chrome"),
        ([_plain("x")], "another tool"),
    ],
)  # fmt: skip
def test_a_timeline_of_another_tool_is_named(refusal, events, words):
    assert words in refusal(json.dumps(events))


def test_a_torch_trace_with_gpu_work_is_read_whatever_its_processes_are_called(tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(trace_bytes([_meta("Ascend Hardware", 99), *launches()]))
    assert open_trace(path, tmp_path / "cache").count("kernels") == 3


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"nodes": [], "samples": [], "startTime": 0}, "V8"),
        ({"schema": "1.0", "nodes": []}, "execution trace of PyTorch"),
        ({"$schema": "x", "shared": {}, "profiles": []}, "speedscope"),
        ({"viztracer_metadata": {}, "traceEvents": [_plain("f")]}, "VizTracer"),
        ({"name": "package"}, "without a list of events"),
    ],
)
def test_json_of_another_tool_is_named(refusal, head, words):
    assert words in refusal(json.dumps(head))


def test_begins_and_ends_of_another_tool_are_counted_once(refusal):
    halves = [
        {"ph": phase, "name": "x", "pid": 1, "tid": 1, "ts": 10 * n + at}
        for n in range(5)
        for phase, at in (("B", 0), ("E", 5))
    ]
    assert "none of its 10 events" in refusal(json.dumps(halves))
