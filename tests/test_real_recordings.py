"""Real recordings of public programs: the numbers are NVIDIA's own, to the nanosecond."""

import csv
import hashlib
import re
from pathlib import Path

import pytest

from analyzers import analyze
from analyzers.finding import BUSY_ROWS, Row
from collectors import open_trace
from collectors.errors import RefusedError
from tests.real_traces import opened

REAL = Path(__file__).parents[2] / "shared" / "real"
NSYS = REAL / "nsys_sqlite"
pytestmark = pytest.mark.skipif(not NSYS.is_dir(), reason="the real recordings are not here")

EXPORTS = sorted([*NSYS.glob("*.sqlite"), *(REAL / "nsys_cpu").glob("*.sqlite")])
IDLE_ROWS = [row for row in Row if row not in BUSY_ROWS]
EXPECTED = REAL / "expected" / "nsys_stats"
COPY_NAMES = {
    "[CUDA memcpy Host-to-Device]": "host_to_device",
    "[CUDA memcpy Device-to-Host]": "device_to_host",
    "[CUDA memcpy Device-to-Device]": "device_to_device",
}


def file_of(part):
    return next(f for f in EXPORTS if part in f.name)


@pytest.fixture(scope="module")
def report():
    """Return a function that analyses a recording once, by a part of its name."""
    known = {}

    def get(part):
        if part not in known:
            known[part] = analyze(opened(file_of(part)))
        return known[part]

    return get


def rows_of(name, table):
    path = EXPECTED / name / table
    if not path.exists():
        pytest.skip(f"{name} has no {table}")
    with path.open(newline="") as file:
        return [r for r in csv.DictReader(file) if r.get("Instances") or r.get("Total Time (ns)")]


@pytest.mark.parametrize("name", ["cloverleaf", "h100_2gpu_1s", "healthy_1pct", "saxpy"])
def test_kernels_equal_nsys_stats(report, name):
    rows = rows_of(name, "stats.cuda_gpu_kern_sum.csv")
    ours = report(name).totals["kernels"]
    assert ours["count"] == sum(int(r["Instances"]) for r in rows)
    assert ours["duration_ns"] == sum(int(r["Total Time (ns)"]) for r in rows)
    assert ours["min_ns"] == min(int(r["Min (ns)"]) for r in rows)
    assert ours["max_ns"] == max(int(r["Max (ns)"]) for r in rows)


@pytest.mark.parametrize("name", ["cloverleaf", "h100_2gpu_1s"])
def test_copies_equal_nsys_stats(report, name):
    with (EXPECTED / name / "stats.cuda_gpu_mem_time_sum.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["Operation"] in COPY_NAMES]
    assert rows
    for row in rows:
        ours = report(name).totals["copies"][COPY_NAMES[row["Operation"]]]
        assert ours["count"] == int(row["Count"])
        assert ours["duration_ns"] == int(row["Total Time (ns)"])


def test_copied_bytes_are_exact(report):
    copies = report("cloverleaf").totals["copies"]
    assert copies["host_to_device"]["bytes"] == 225_065_752
    assert copies["device_to_host"]["bytes"] == 51_200


@pytest.mark.parametrize("name", ["cloverleaf", "h100_2gpu_1s", "healthy_1pct"])
def test_api_calls_equal_nsys_stats(report, name):
    with (EXPECTED / name / "stats.cuda_api_sum.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["Name"]]
    ours = report(name).totals["api_calls"]
    assert ours["count"] == sum(int(r["Num Calls"]) for r in rows)
    assert ours["duration_ns"] == sum(int(r["Total Time (ns)"]) for r in rows)
    for row in rows:
        function = ours["by_function"][re.sub(r"_v\d+$", "", row["Name"])]
        assert function["max_ns"] >= int(row["Max (ns)"])


def test_calls_recorded_twice_count_once(report):
    """nsys stats lists each call of this recording twice; only the second rows are left out."""
    functions = report("saxpy").totals["api_calls"]["by_function"]
    assert functions["cudaMemcpy"] == {
        "count": 15,
        "duration_ns": 374_336_827,
        "min_ns": 18_148_726,
        "max_ns": 37_625_798,
    }
    assert report("saxpy").totals["api_calls"]["count"] == 57


@pytest.mark.parametrize("path", EXPORTS, ids=lambda p: p.name[-40:])
def test_every_ledger_sums_to_the_window(path):
    try:
        trace = opened(path)
    except RefusedError:
        assert path.name.endswith("test.sqlite")
        return
    report = analyze(trace)
    for device in report.devices:
        assert sum(device.rows.values()) == device.duration_ns == report.window.duration_ns
        assert device.busy_ns == sum(device.rows[r] for r in BUSY_ROWS)
    for count in trace.row_counts:
        assert count.used + count.excluded == count.rows
    assert not report.failed


@pytest.mark.parametrize("path", EXPORTS, ids=lambda p: p.name[-40:])
def test_the_input_is_not_touched(path, tmp_path):
    before = hashlib.sha256(path.read_bytes()).hexdigest(), sorted(path.parent.iterdir())
    try:
        trace = open_trace(path, tmp_path)
        assert trace.source.sha256 == before[0]
    except RefusedError:
        pass
    assert (hashlib.sha256(path.read_bytes()).hexdigest(), sorted(path.parent.iterdir())) == before


def test_cloverleaf_waits_after_every_kernel(report):
    rows = report("cloverleaf").devices[0].rows
    assert max(IDLE_ROWS, key=lambda r: rows[r]) is Row.SYNC
    finding = next(f for f in report("cloverleaf").findings if f.id == "sync.host_waits")
    assert "1,312 waits in cudaDeviceSynchronize" in finding.title


def test_h100_is_bound_by_pinned_copies(report):
    answer = report("h100_2gpu_1s")
    assert answer.verdict.cause == "bandwidth"
    assert 0.96 < answer.verdict.share < 0.98
    ids = {f.id for f in answer.findings}
    assert "bandwidth.transfer_bound" in ids
    assert not any("pageable" in i or i.startswith("launch") for i in ids)


def test_kernels_of_two_processes_are_not_joined_by_number_alone(report):
    """11 kernels share their correlation id with a call of the other process only."""
    note = next(q for q in report("h100_2gpu_1s").quality if q.code == "orphan_kernels")
    assert note.message.startswith("1,810 of 3,442 kernels")


@pytest.mark.parametrize("name", ["healthy_1pct", "healthy_judged_1pct"])
def test_healthy_recordings_have_nothing_to_report(report, name):
    answer = report(name)
    assert answer.verdict.cause == "healthy"
    assert "not examined" in answer.verdict.sentence
    assert not [f for f in answer.findings if f.row in IDLE_ROWS]
    idle = sum(answer.devices[0].rows[r] for r in IDLE_ROWS)
    assert 0.0094 <= idle / answer.window.duration_ns < 0.00995


@pytest.mark.parametrize("name", ["baseline", "poolformer", "DynamicViT", "cpu_2022", "s23_gil"])
def test_no_gpu_work_is_said_and_never_called_healthy(report, name):
    answer = report(name)
    assert answer.verdict.cause == "unknown"
    assert "no gpu work was recorded" in answer.verdict.sentence.casefold()
    assert "nsys profile" in answer.verdict.sentence


def test_another_product_s_database_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="not an Nsight Systems export"):
        open_trace(file_of("test.sqlite"), tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_ranges_keep_domains_unicode_and_openness():
    trace = opened(file_of("cpu_2023"))
    ranges = trace.frame("ranges")
    texts = trace.names(ranges["name_id"].to_numpy())
    assert {"never_popped", "never_ended"} <= set(texts[~ranges["closed"].to_numpy()])
    domains = set(trace.names(ranges["domain_id"].to_numpy()))
    assert {"train", "mp"} & domains or len(domains) > 1
    assert any(not text.isascii() for text in texts)


def test_nothing_private_is_kept():
    """Environment, host and home were replaced by canaries in these recordings."""
    for path in EXPORTS:
        try:
            trace = opened(path)
        except RefusedError:
            continue
        for file in trace.folder.iterdir():
            if file.suffix == ".parquet":
                continue
            assert b"canary" not in file.read_bytes()
        for table in ("strings", "processes", "threads", "diagnostics"):
            assert "canary" not in str(trace.arrow(table).to_pydict())
