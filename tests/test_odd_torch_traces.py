"""Torch profiler traces that are unusual, damaged in one place, or of other devices."""

import gzip
import json

import numpy as np
import pytest

from analyzers import analyze
from analyzers.cuda_names import Call, classify
from analyzers.facts.facts import build_facts
from collectors import open_trace
from collectors.torch_profiler.devices import owners_of
from collectors.torch_profiler.events import NO_TIME, nanoseconds
from collectors.torch_profiler.names import rank_of
from tests.torch_traces import call, kernel, launches, note_by_code, trace_bytes, x


@pytest.fixture
def opened(tmp_path):
    def open_it(content, name="trace.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else trace_bytes(content))
        return open_trace(path, tmp_path / "cache")

    return open_it


def levels(trace):
    return {n.code: n.level for n in analyze(trace).quality}


# --- numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [23, 38, 64, 77, 128, 200, 308])
@pytest.mark.parametrize("field", ["ts", "dur"])
def test_a_time_of_many_digits_costs_one_event_and_is_never_another_time(opened, digits, field):
    odd = json.dumps(kernel(910, 9) | {field: 7}).replace(
        f'"{field}": 7', f'"{field}": {"9" * digits}'
    )
    text = trace_bytes([*launches(), call(900, 9), "ODD"]).replace(b'"ODD"', odd.encode())
    trace = opened(text)
    assert trace.count("kernels") == 3
    assert note_by_code(trace)["kernel_bad_type"].count == 1
    assert trace.columns("kernels", ["start_ns"])["start_ns"].min() == 110_000


def test_a_number_is_read_alike_whatever_its_length():
    for digits in range(1, 400):
        (time,) = nanoseconds([b"9" * digits])
        value = int("9" * digits) * 1_000
        assert time == (value if value <= 1 << 61 else NO_TIME)


def test_numbers_that_are_written_as_text_are_used_and_noted(opened):
    events = [{**e, "ts": str(e["ts"]), "dur": str(e["dur"])} for e in launches()]
    trace = opened(events)
    plain = opened(launches(), "plain.json")
    for column in ("start_ns", "end_ns"):
        assert (
            trace.columns("kernels", [column])[column] == plain.columns("kernels", [column])[column]
        ).all()
    assert note_by_code(trace)["number_as_text"].severity == "info"
    assert "number_as_text" not in note_by_code(plain)


@pytest.mark.parametrize("text", ["[5556, 1, 1]", "(5556, 1, 1)", "5556x1x1", "5556,1,1"])
def test_a_shape_that_is_written_as_text_is_read(opened, text):
    trace = opened([call(100, 1), kernel(110, 1, grid=text)])
    assert trace.columns("kernels", ["grid_x"])["grid_x"].tolist() == [5556]
    assert "launch_geometry_invalid" not in note_by_code(trace)
    assert note_by_code(trace)["number_as_text"].count == 1


@pytest.mark.parametrize("text", ["many", "[0, 1, 1]", "[1, 2]", "[99999999999, 1, 1]"])
def test_a_shape_that_is_none_stays_impossible(opened, text):
    trace = opened([call(100, 1), kernel(110, 1, grid=text)])
    assert trace.columns("kernels", ["grid_x"])["grid_x"].tolist() == [-1]
    assert note_by_code(trace)["launch_geometry_invalid"].count == 1


# --- lost times ---------------------------------------------------------------------------


def _without_times(count, of):
    events = launches(of)
    kernels = [e for e in events if e["cat"] == "kernel"]
    for lost in kernels[:count]:
        lost |= {"ts": 0, "dur": 0}
    return [{**e, "ts": e["ts"] + 10**15} if e["ts"] else e for e in events]


def test_operations_without_times_are_left_out_by_form(opened):
    trace = opened(_without_times(10, 20))
    assert trace.count("kernels") == 10
    assert note_by_code(trace)["kernel_no_time"].count == 10
    start = trace.columns("kernels", ["start_ns"])["start_ns"]
    assert np.ptp(start) < 10_000_000


@pytest.mark.parametrize(
    ("lost", "is_withheld"), [(1, False), (19, False), (20, True), (100, True)]
)
def test_the_verdict_is_withheld_from_a_tenth_of_lost_operations_on(opened, lost, is_withheld):
    report = analyze(opened(_without_times(lost, 200)))
    assert (report.verdict.cause == "unknown") == is_withheld
    assert (levels_of(report).get("operations_left_out") == "error") == is_withheld


def levels_of(report):
    return {n.code: n.level for n in report.quality}


def test_an_operator_at_the_zero_of_the_clock_is_no_loss(opened):
    trace = opened([x("cpu_op", "aten::add", 0, 0), *launches()])
    assert trace.count("operators") == 1
    assert "operator_no_time" not in note_by_code(trace)


# --- begins and ends ----------------------------------------------------------------------


def test_begins_and_ends_are_counted_once(opened):
    pairs = [
        {"ph": phase, "cat": "cpu_op", "name": "aten::add", "pid": 1, "tid": 1, "ts": 10 * n + at}
        for n in range(28)
        for phase, at in (("B", 0), ("E", 5))
    ]
    trace = opened(pairs)
    assert sum(c.rows for c in trace.row_counts) == 56
    assert all(c.used == c.rows for c in trace.row_counts)
    assert trace.count("operators") == 28


def test_begins_without_an_end_and_ends_without_a_begin_are_counted_once(opened):
    halves = [{"ph": "E", "cat": "cpu_op", "name": "a", "pid": 1, "tid": 1, "ts": 1}]
    halves += [{**halves[0], "ph": "B", "ts": 2}]
    trace = opened([*halves, *launches(1)])
    (count,) = [c for c in trace.row_counts if c.table == "begins and ends"]
    assert (count.rows, count.used, count.excluded) == (2, 0, 2)


# --- arrays and packing -------------------------------------------------------------------


@pytest.mark.parametrize("ending", [b"", b"\n", b",", b",\n"])
def test_an_array_without_its_end_is_allowed(opened, ending):
    whole = json.dumps(launches()).encode()
    trace = opened(whole[:-1] + ending)
    assert trace.count("kernels") == 3
    assert not note_by_code(trace)


def test_an_array_that_ends_inside_an_event_is_cut_off(opened):
    whole = json.dumps(launches()).encode()
    trace = opened(whole[:-5])
    assert trace.count("kernels") == 2
    assert note_by_code(trace)["json_truncated"].severity == "data_loss"


def test_an_open_array_whose_packed_data_is_cut_off_is_cut_off(opened):
    events = json.dumps(launches(500)).encode()[:-1]
    trace = opened(gzip.compress(events)[:-400], "trace.json.gz")
    assert 0 < trace.count("kernels") < 500
    assert "json_truncated" in note_by_code(trace)
    assert analyze(trace).verdict.sentence.startswith(DAMAGED)


def test_what_is_packed_twice_is_read(opened):
    twice = gzip.compress(gzip.compress(trace_bytes(launches())))
    trace = opened(twice, "trace.json.gz")
    assert trace.count("kernels") == 3
    assert {code: n.severity for code, n in note_by_code(trace).items()} == {"gzip_twice": "info"}


def test_what_is_packed_twice_and_cut_off_is_told(opened):
    inner = gzip.compress(trace_bytes(launches(300)))
    trace = opened(gzip.compress(inner[: len(inner) // 2]), "trace.json.gz")
    assert 0 < trace.count("kernels") < 300
    assert note_by_code(trace)["json_truncated"].severity == "data_loss"


DAMAGED = "Of a damaged file, as far as it could be read: "


@pytest.mark.parametrize("layer", ["outer", "inner"])
def test_a_wrong_checksum_is_a_warning(opened, layer):
    packed = gzip.compress(trace_bytes(launches()))
    wrong = packed[:-8] + b"12345678"
    content = gzip.compress(wrong) if layer == "inner" else wrong
    trace = opened(content, "trace.json.gz")
    assert trace.count("kernels") == 3
    assert levels(trace)["gzip_damaged"] == "warning"
    assert analyze(trace).verdict.sentence.startswith(DAMAGED)
    whole = opened(gzip.compress(trace_bytes(launches())), "trace.json.gz")
    assert "damaged" not in analyze(whole).verdict.sentence


# --- other devices ------------------------------------------------------------------------


def _xpu(wait="urQueueFinish", cat="xpu_runtime"):
    events = []
    for n in range(1, 21):
        at = 1_000 * n
        launch = call(at, n, "urEnqueueKernelLaunchWithArgsExp", cat=cat)
        events += [launch, kernel(at + 10, n, 400)]
        events += [call(at + 5, 100 + n, wait, dur=700, cat=cat)]
    return events


@pytest.mark.parametrize("wait", ["urQueueFinish", "zeEventHostSynchronize", "piEventsWait"])
def test_waits_of_intels_runtime_are_sync(opened, wait):
    trace = opened(_xpu(wait))
    report = analyze(trace)
    assert report.verdict.cause == "sync"
    assert wait in report.findings[0].title
    assert "api_unknown" not in note_by_code(trace)
    assert trace.source.tool_version == "XPU"


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("urQueueFinish", Call.WAIT),
        ("urEventWait", Call.WAIT),
        ("zeCommandQueueSynchronize", Call.WAIT),
        ("zeCommandListHostSynchronize", Call.WAIT),
        ("zeFenceHostSynchronize", Call.WAIT),
        ("zeEventQueryStatus", Call.POLL),
        ("urEnqueueKernelLaunch", Call.LAUNCH),
        ("zeCommandListAppendLaunchKernel", Call.LAUNCH),
        ("urEnqueueUSMMemcpy", Call.ENQUEUE),
        ("zeCommandListAppendMemoryCopy", Call.ENQUEUE),
        ("urUSMDeviceAlloc", Call.ALLOCATE),
        ("zeMemAllocDevice", Call.ALLOCATE),
        ("urProgramBuild", Call.SET_UP),
        ("zeModuleCreate", Call.SET_UP),
        ("urKernelSetArgPointer", Call.OTHER),
    ],
)
def test_functions_of_intels_runtime_are_told_by_their_names(function, kind):
    assert classify(function) == kind


@pytest.mark.parametrize("category", ["privateuse1_runtime", "musa_runtime", "xpu_driver"])
def test_calls_of_a_runtime_that_is_not_understood_are_a_warning(opened, category):
    trace = opened(_xpu("someFinish", category))
    assert trace.count("api_calls") == 40
    note = note_by_code(trace)["api_unknown"]
    assert note.count == (20 if category == "xpu_driver" else 40)
    assert category in note.message
    assert levels(trace)["api_unknown"] == "warning"


# --- ranks in one file --------------------------------------------------------------------


def _rank(number, mark):
    host, device = f"{mark} 4242", f"{mark} {number}"
    shift = 3 * number
    events = []
    for n in range(1, 31):
        at = 1_000 * n + shift
        events += [
            call(at, n, pid=host, tid=4242),
            kernel(at + 10, n, 400, pid=device, device=number),
            call(at + 20, 100 + n, "cudaDeviceSynchronize", 500, pid=host, tid=4242),
            x("cuda_sync", "Context Sync", at + 20, 480, pid=device, tid=7, device=number,
                  correlation=100 + n, cuda_sync_kind="Context Sync"),
        ]  # fmt: skip
    return events


@pytest.mark.parametrize(
    "marks", [("[TP00]", "[TP01]"), ("rank0", "rank1"), ("node-a:", "node-b:")]
)
def test_ranks_that_were_merged_into_one_file_keep_their_operations(opened, marks):
    # The ids of calls are the same on both ranks, and their calls alternate.
    trace = opened([*_rank(0, marks[0]), *_rank(1, marks[1])])
    kernels = trace.frame("kernels", ["process", "device"])
    assert kernels.groupby("device")["process"].nunique().tolist() == [1, 1]
    assert kernels.groupby("device").size().tolist() == [30, 30]
    syncs = trace.frame("syncs", ["process", "device"])
    assert syncs.groupby("device")["process"].nunique().tolist() == [1, 1]
    facts = build_facts(trace)
    assert (facts.launches["api_row"] >= 0).all()
    report = analyze(trace)
    assert [d.device for d in report.devices] == [0, 1]
    assert "launch_no_kernel" not in {n.code for n in report.quality}


def _plain_rank(number):
    """Return launches of a rank that only its numbers mark; every third kernel waits in a queue."""
    events = []
    for n in range(1, 31):
        at = 1_000 * n + 300 * number
        delay = 500 if n % 3 == 0 else 10
        events += [
            call(at, n, pid=4_000 + number),
            kernel(at + delay, n, 100, pid=number, device=number),
        ]
    return events


def test_ranks_without_a_mark_keep_the_operations_of_their_own_devices(opened):
    # By time alone, a third of the kernels of rank 0 would seem to be of rank 1.
    trace = opened([*_plain_rank(0), *_plain_rank(1)])
    kernels = trace.frame("kernels", ["process", "device"])
    assert kernels.groupby("device")["process"].unique().str[0].tolist() == [4000, 4001]
    assert kernels.groupby("device")["process"].nunique().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("device", "process", "certain", "owners"),
    [
        ([0, 0, 0, 1, 1], [7, 7, 8, 8, 8], [0, 0, 0, 0, 0], {0: 7, 1: 8}),
        ([0, 0, 0, 1, 1], [7, 7, 8, 8, 8], [0, 0, 1, 0, 0], {}),  # both use device 0
        ([0, 0, 0, 0], [7, 7, 7, 8], [0, 0, 0, 0], {}),  # they share the only one
        ([0, 0, 1, 1], [7, 7, 7, 7], [0, 0, 0, 0], {}),  # one process uses both
        ([0, 1, 2], [7, 8, 8], [0, 0, 0], {}),
    ],
)
def test_a_device_has_an_owner_only_where_each_process_has_a_device_of_its_own(
    device, process, certain, owners
):
    columns = (np.array(device), np.array(process), np.array(certain, dtype=bool))
    assert owners_of(*columns) == owners


def test_processes_of_merged_ranks_carry_their_rank_and_number(opened):
    named = {"ph": "M", "name": "process_name", "tid": 0, "ts": 0, "args": {"name": "python"}}
    marks = [{**named, "pid": f"[TP0{n}] 4242"} for n in (0, 1)]
    trace = opened([*marks, *_rank(0, "[TP00]"), *_rank(1, "[TP01]")])
    processes = trace.frame("processes", ["pid", "name"])
    assert processes["pid"].tolist() == [4242, 4242]
    assert processes["name"].tolist() == ["TP00 python", "TP01 python"]


@pytest.mark.parametrize(
    ("pid", "rank"),
    [
        ("[TP00] 4242", ("TP00", 4242)),
        ("rank 3: 17", ("rank 3", 17)),
        ("Spans", None),
        ("4242", None),
        (4242, None),
        (None, None),
        ("stream 7 (compute)", None),
    ],
)
def test_the_rank_of_a_process_is_what_stands_before_its_number(pid, rank):
    assert rank_of(pid) == rank


# --- no work on a device ------------------------------------------------------------------


def test_calls_that_launch_without_a_kernel_never_advise_what_was_done(opened):
    sentence = analyze(opened([call(100 * n, n) for n in range(1, 6)])).verdict.sentence
    assert "5 calls launched work" in sentence
    assert "ProfilerActivity.CUDA" not in sentence


def test_calls_that_launch_nothing_say_so(opened):
    sentence = analyze(opened([call(100, 1, "cudaGetDevice")])).verdict.sentence
    assert "no call in the recording launches anything" in sentence


def test_hip_graphs_without_kernels_are_not_sent_to_another_vendor_s_tool(opened):
    calls = [call(100 * n, n, "hipGraphLaunch", cat="hip_runtime") for n in range(1, 6)]
    trace = opened(trace_bytes(calls, hip_runtime_version=60_200_000))
    sentence = analyze(trace).verdict.sentence
    assert "5 calls launched HIP graphs" in sentence
    assert "nsys" not in sentence


def test_a_recording_of_counters_says_that_it_holds_no_kernels(opened):
    counted = x("cuda_profiler_range", "gemm", 100, 50, pid=0, tid=0, device=0, sm__cycles=5)
    sentence = analyze(opened([call(90, 1), counted])).verdict.sentence
    assert "profiler_metrics" in sentence
