"""Torch profiler traces: every trap is a small file that the test writes."""

import dataclasses
import gzip
import json
import os
import random
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from analyzers import analyze
from analyzers.analysis import investigate
from analyzers.cuda_names import Call
from benchmarks.simulated.cases import Maker
from benchmarks.simulated.groups import FAMILIES
from benchmarks.simulated.program import Graph, Poll
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from benchmarks.simulated.torch_recorder import TorchRecorder
from collectors import open_trace
from collectors.errors import RefusedError
from collectors.schema import CopyKind, MemoryKind, OperatorKind
from collectors.torch_profiler import torch_profiler
from collectors.torch_profiler.events import nanoseconds
from collectors.torch_profiler.names import short_name
from exports import perfetto
from exports.tables import export_csv
from jobs import api
from library import analyses
from tests.view_fakes import draw, library
from timeline.store import recording_index
from views.shared import places

REAL = Path(__file__).parents[2] / "shared" / "real" / "torch_trace"
REAL = REAL if REAL.is_dir() else Path("/work/shared/real/torch_trace")
PID, TID = 700, 701
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")


def x(cat, name, ts, dur, *, pid=PID, tid=TID, **args):
    event = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur}
    return {**event, "args": args}


def call(ts, correlation, name="cudaLaunchKernel", dur=4, **more):
    return x("cuda_runtime", name, ts, dur, correlation=correlation, **more)


def kernel(ts, correlation, dur=50, name="void ns::gemm<float, 4>(int)", cat="kernel", **args):
    shape = {"grid": [8, 2, 1], "block": [128, 1, 1], "registers per thread": 40}
    shape |= {"shared memory": 1024, "device": 0, "stream": 7, "correlation": correlation}
    return x(cat, name, ts, dur, pid=0, tid=7, **(shape | args))


def launches(count=3):
    return [e for n in range(1, count + 1) for e in (call(100 * n, n), kernel(100 * n + 10, n))]


GPU = {"id": 0, "name": "NVIDIA A100", "numSms": 108, "computeMajor": 8, "computeMinor": 0}
GPU |= {"warpSize": 32, "maxThreadsPerMultiprocessor": 2048, "regsPerMultiprocessor": 65536}
GPU |= {"sharedMemPerMultiprocessor": 167936, "totalGlobalMem": 1 << 35}


@pytest.fixture
def opened(tmp_path):
    def open_it(events, name="trace.json", **head):
        text = events if isinstance(events, (str, bytes)) else _text(events, head)
        raw = text if isinstance(text, bytes) else text.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return open_trace(path, tmp_path / "cache")

    return open_it


def _text(events, head):
    return json.dumps({"schemaVersion": 1, **head, "traceEvents": events}, indent=1)


def notes(trace):
    return {n.code: n.count for n in trace.notes}


def names(trace, table, column="name_id"):
    return trace.names(trace.columns(table, [column])[column]).tolist()


def balanced(trace):
    return all(c.used + c.excluded == c.rows for c in trace.row_counts)


# --- what a trace holds -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_kernels_and_calls_are_joined(opened, name):
    report = analyze(opened(launches(), name, deviceProperties=[GPU]))
    (device,) = report.devices
    assert (device.name, device.duration_ns, device.busy_ns) == ("NVIDIA A100", 250_000, 150_000)
    assert sum(device.rows.values()) == device.duration_ns
    assert report.source["format"] == "torch-json"


def test_a_kernel_keeps_its_launch_shape(opened):
    trace = opened(launches(1), deviceProperties=[GPU])
    row = trace.frame("kernels").iloc[0]
    assert (row.grid_x, row.grid_y, row.block_x, row.registers_per_thread) == (8, 2, 128, 40)
    assert (row.static_shared_bytes, row.dynamic_shared_bytes) == (0, 1024)
    assert names(trace, "kernels") == ["void ns::gemm<float, 4>(int)"]
    assert names(trace, "kernels", "short_name_id") == ["gemm"]
    device = trace.frame("devices").iloc[0]
    assert (device.sm_count, device.max_warps_per_sm, device.max_blocks_per_sm) == (108, 64, 32)


@pytest.mark.parametrize(
    ("kernel_name", "short"),
    [
        ("void at::native::add<int, a::b<c> >(int, at::D<char*, 1> )", "add"),
        ("void (anonymous namespace)::softmax<float>(float*)", "softmax"),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int>(int)", "kernel"),
        ("_ZN5aiter24add_rmsnorm_quant_kernelIfEEvPT_", "add_rmsnorm_quant_kernel"),
        ("triton_poi_fused_add_0", "triton_poi_fused_add_0"),
        ("ncclKernel_AllReduce(int) [clone .kd]", "ncclKernel_AllReduce"),
        ("", ""),
    ],
)
def test_short_names_are_functions(kernel_name, short):
    assert short_name(kernel_name) == short


def test_operators_keep_shapes_and_sequence_numbers(opened):
    shapes = {"Input Dims": [[2, 3], []], "Sequence number": 9, "Fwd thread id": 1}
    events = [x("cpu_op", "aten::mm", 0, 9, **shapes), x("python_function", "a.py(1): f", 0, 9)]
    trace = opened([*events, *launches()])
    rows = trace.frame("operators").sort_values("kind")
    assert rows["kind"].tolist() == [OperatorKind.FRAMEWORK, OperatorKind.PYTHON]
    assert (rows["sequence"].iloc[0], rows["forward_thread"].iloc[0]) == (9, 1)
    assert trace.names(rows["shapes_id"].to_numpy())[0].replace("\n", "").replace(" ", "") == (
        "[[2,3],[]]"
    )


def test_annotations_become_ranges_and_those_of_the_device_are_no_work(opened):
    twice = x("gpu_user_annotation", "step", 0, 900, pid=0, tid=7)
    trace = opened([x("user_annotation", "step", 0, 900), twice, *launches()])
    assert names(trace, "ranges") == ["step"]
    assert trace.count("kernels") == 3
    assert analyze(trace).devices[0].busy_ns == 150_000


def test_steps_of_2021_are_ranges_although_they_are_marked_as_operators(opened):
    names_of_2021 = [
        "ProfilerStep#5",
        "enumerate(DataLoader)#X.__next__",
        "Optimizer.step#SGD.step",
    ]
    events = [x("Operator", n, 0, 5) for n in [*names_of_2021, "aten::add"]]
    trace = opened([*events, *launches()])
    assert names(trace, "ranges") == names_of_2021
    assert names(trace, "operators") == ["aten::add"]


def test_profiler_steps_are_iterations(opened):
    steps = [x("user_annotation", f"ProfilerStep#{n}", 100 * n - 5, 90) for n in (1, 2, 3)]
    report = analyze(opened([*steps, *launches()]))
    assert [i.name for i in report.iterations] == [
        "ProfilerStep#1",
        "ProfilerStep#2",
        "ProfilerStep#3",
    ]
    assert "annotation" in report.iterations_note


@pytest.mark.parametrize(
    ("name", "kind", "ends"),
    [
        ("Memcpy HtoD (Pageable -> Device)", CopyKind.HOST_TO_DEVICE, (0, 2)),
        ("Memcpy DtoH (Device -> Pinned)", CopyKind.DEVICE_TO_HOST, (2, 1)),
        ("Memcpy DtoD (Device -> Device)", CopyKind.DEVICE_TO_DEVICE, (2, 2)),
        ("Memcpy PtoP", CopyKind.PEER_TO_PEER, (-1, -1)),
        ("CopyDeviceToHost", CopyKind.DEVICE_TO_HOST, (-1, -1)),
    ],
)
def test_copies_say_where_from_and_where_to(opened, name, kind, ends):
    copied = kernel(50, 9, name=name, cat="gpu_memcpy", bytes=4096, kind="DtoH")
    row = opened([*launches(), copied]).frame("copies").iloc[0]
    assert (row.kind, row.bytes, (row.source_kind, row.destination_kind)) == (kind, 4096, ends)


def test_memsets_waits_overheads_memory_and_collectives_are_kept(opened):
    memory = {"Device Type": 1, "Device Id": 0, "Addr": 1 << 46, "Bytes": -512}
    events = [
        kernel(50, 9, name="Memset (Device)", cat="gpu_memset", bytes=64),
        x(
            "cuda_sync",
            "Stream Sync",
            0,
            5,
            pid=0,
            cuda_sync_kind="Stream Sync",
            stream=7,
            device=0,
        ),
        x("overhead", "Buffer Flush", 0, 5, tid=0),
        {**x("cpu_instant_event", "[memory]", 8, 0, **memory), "ph": "i", "s": "t"},
        kernel(900, 4, name="ncclDevKernel", **{"Collective name": "allreduce", "Group size": 2}),
    ]
    trace = opened([*launches(), *events])
    assert trace.frame("memsets")["memory_kind"].tolist() == [MemoryKind.DEVICE]
    assert trace.frame("syncs")["sync_type"].tolist() == [3]
    assert names(trace, "overheads") == ["Buffer Flush"]
    held = trace.frame("memory_events").iloc[0]
    assert (held.bytes, held.device, held.address, held.time_ns) == (-512, 0, 1 << 46, 8_000)
    assert names(trace, "collectives") == ["allreduce"]
    assert balanced(trace)


def test_hardware_counters_stand_under_their_own_names(opened):
    counters = {"smsp__inst.sum": 12.5, "dram__bytes.sum": 4, "note": "no number"}
    trace = opened([x("cuda_profiler_range", "gemm", 5, 9, pid=0, tid=0, **counters), call(0, 1)])
    rows = trace.frame("range_counters")
    assert dict(zip(names(trace, "range_counters"), rows["value"], strict=True)) == {
        "smsp__inst.sum": 12.5,
        "dram__bytes.sum": 4.0,
    }
    assert names(trace, "range_counters", "range_id") == ["gemm", "gemm"]


COUNTED = x("cuda_profiler_range", "gemm", 5, 9, pid=0, tid=0, **{"inst.sum": 1.5})


@pytest.mark.parametrize(
    "neighbour",
    [
        kernel(900, 9, name="\ud800"),
        {**call(9, 9), "args": [1]},
        {**COUNTED, "args": {"inst.sum": 10**400, "other": True}},
        {**COUNTED, "args": {"inst.sum": float("nan"), "other": float("inf")}},
        {**COUNTED, "args": [5]},
    ],
)
def test_hardware_counters_survive_odd_neighbours(opened, neighbour):
    trace = opened([neighbour, COUNTED, *launches()])
    assert trace.frame("range_counters")["value"].tolist() == [1.5]
    assert balanced(trace)


def test_counters_and_waits_belong_to_the_process_wherever_they_stand(opened):
    wait = x("cuda_sync", "Stream Sync", 9, 5, pid=0, cuda_sync_kind="Stream Sync", stream=7)
    for events in ([COUNTED, wait, *launches()], [*launches(), wait, COUNTED]):
        trace = opened(events)
        assert trace.frame("range_counters")["process"].tolist() == [PID]
        assert trace.frame("syncs")["process"].tolist() == [PID]


def test_processes_and_threads_get_their_names(opened):
    about = {"ph": "M", "pid": PID, "tid": TID, "ts": 0}
    meta = [
        {**about, "name": "process_name", "args": {"name": "python3"}},
        {**about, "name": "thread_name", "args": {"name": f"thread {TID} (pt_main)"}},
    ]
    trace = opened([*launches(), *meta])
    assert trace.frame("processes")[["pid", "name"]].to_numpy().tolist() == [[PID, "python3"]]
    assert trace.frame("threads")[["tid", "name"]].to_numpy().tolist() == [[TID, "pt_main"]]


# --- times --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1712195495681393.499", 1_712_195_495_681_393_499),
        ("1428625731896.179", 1_428_625_731_896_179),
        ("1712195495681393", 1_712_195_495_681_393_000),
        ("0.0005", 0),
        ("1.5e3", 1_500_000),
        ('"12.25"', 12_250),
    ],
)
def test_no_nanosecond_is_lost(opened, text, ns):
    event = json.dumps(call(0, 1)).replace('"ts": 0', f'"ts": {text}')
    trace = opened(f'{{"traceEvents": [{event}]}}')
    assert trace.frame("api_calls")["start_ns"].tolist() == [ns]


def test_plain_times_are_read_by_the_column(monkeypatch):
    monkeypatch.setattr(
        "collectors.torch_profiler.events._nanoseconds", None
    )  # would read them one by one
    texts = [b"1712195495681393.499", b"100", b"-3.25", b"0.000000001", b"1e3"]
    found = nanoseconds([msgspec.Raw(t) for t in texts]).tolist()
    assert found == [1_712_195_495_681_393_499, 100_000, -3_250, 0, 1_000_000]


@pytest.mark.parametrize("unit", ["ms", "ns"])
def test_the_display_unit_does_not_change_times(opened, unit):
    trace = opened(launches(), displayTimeUnit=unit, baseTimeNanoseconds=1_711_964_646_000_000_000)
    assert trace.frame("kernels")["start_ns"].tolist()[0] == 110_000
    assert trace.source.start_utc_ns == 1_711_964_646_000_000_000


def test_events_without_usable_times_are_left_out_and_counted(opened):
    odd = [kernel("soon", 1), kernel(None, 2), kernel(300, 3, dur=-5), kernel(9e14, 4)]
    trace = opened([*launches(), *odd])
    assert trace.count("kernels") == 3
    found = notes(trace)
    assert found["kernel_bad_type"] == 2
    assert found["kernel_negative_duration"] == found["kernel_out_of_range"] == 1
    assert balanced(trace)


def test_many_lost_kernels_forbid_a_verdict(opened):
    report = analyze(opened([*launches(), *[kernel(300, n, dur=-5) for n in range(9)]]))
    assert report.verdict.cause == "unknown"


def test_begins_and_ends_are_paired(opened):
    halves = [
        {**call(400, 4), "ph": "B"},
        {"ph": "E", "pid": PID, "tid": TID, "ts": 409.25},
        {"ph": "E", "pid": PID, "tid": TID, "ts": 500},
        {**call(600, 5), "ph": "B"},
    ]
    trace = opened([*launches(), *halves])
    calls = trace.frame("api_calls")
    assert calls.loc[calls["correlation_id"] == 4, "end_ns"].tolist() == [409_250]
    unbalanced = [n.count for n in trace.notes if n.code == "json_unbalanced_begin_end"]
    assert sum(unbalanced) == 2
    assert balanced(trace)


def test_many_begins_and_ends_are_paired_by_the_column(opened, monkeypatch):
    monkeypatch.setattr(
        "collectors.torch_profiler.events._nanoseconds", None
    )  # would read them one by one
    halves = []
    for n in range(200):
        halves += [{**call(10 * n, n + 1, dur=0), "ph": "B"}]
        halves += [{"ph": "E", "pid": PID, "tid": TID, "ts": 10 * n + 3.25}]
    trace = opened([*launches(0), *halves])
    calls = trace.frame("api_calls")
    assert (calls["end_ns"] - calls["start_ns"]).tolist() == [3_250] * 200


def test_begins_without_ends_do_not_fill_the_memory(opened, monkeypatch):
    monkeypatch.setattr("collectors.torch_profiler.job.MAX_OPEN", 3)
    halves = [{**call(10 * n, n + 1), "ph": "B"} for n in range(5)]
    halves += [{"ph": "E", "pid": PID, "tid": TID, "ts": 700 + n} for n in range(5)]
    trace = opened([*launches(), *halves])
    calls = trace.frame("api_calls")
    assert calls.loc[calls["start_ns"] < 30_000, "end_ns"].tolist() == [702_000, 703_000, 704_000]
    assert trace.count("api_calls") == 3 + 3
    assert notes(trace)["json_nested_deep"] == 4
    assert balanced(trace)


def test_begins_and_ends_are_paired_across_batches(opened, monkeypatch):
    monkeypatch.setattr("collectors.torch_profiler.stream.BATCH_BYTES", 300)
    monkeypatch.setattr("collectors.torch_profiler.file.CHUNK_BYTES", 97)
    outer = {**call(0, 77), "ph": "B"}
    end = {"ph": "E", "pid": PID, "tid": TID, "ts": 5_000.5}
    trace = opened([outer, *launches(20), end])
    calls = trace.frame("api_calls").set_index("correlation_id")
    assert calls.loc[77, ["start_ns", "end_ns"]].tolist() == [0, 5_000_500]


# --- files --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
@pytest.mark.parametrize("lost", [1, 40, 300])
def test_what_is_whole_of_a_file_that_is_cut_off_is_kept(opened, tmp_path, name, lost):
    text = _text(launches(20), {}).encode()
    whole = gzip.compress(text) if name.endswith(".gz") else text
    path = tmp_path / name
    if name.endswith(".gz"):
        lost //= 8
    path.write_bytes(whole[: len(whole) - max(lost, 1)])
    trace = open_trace(path, tmp_path / "cache")
    assert 1 <= trace.count("kernels") <= 20
    assert {"json_truncated", "json_unclosed", "gzip_damaged"} & set(notes(trace))


def test_a_cut_list_says_how_much_is_lost(opened):
    text = _text(launches(3), {})
    place = text.rindex('"stream"')
    trace = opened(text[:place])
    assert trace.count("kernels") == 2
    (note,) = [n for n in trace.notes if n.code == "json_truncated"]
    assert note.severity == "data_loss"
    begin = text.rindex("{", 0, text.rindex('"ph"'))
    assert f"{place - begin:,} bytes" in note.message


def test_a_list_cut_before_its_gpu_work_is_cut_off_and_not_untraced(opened):
    text = _text(launches(3), {})
    trace = opened(text[: text.index('"cat": "kernel"')])
    assert not trace.count("kernels")
    assert "The file is truncated" in analyze(trace).verdict.sentence


def test_a_bare_list_needs_no_end(opened):
    assert opened(json.dumps(launches())).count("kernels") == 3
    assert opened(json.dumps(launches(2))[:-1], "open.json").count("kernels") == 2


def test_bytes_that_are_not_utf8_lose_only_themselves(opened):
    text = _text(launches(), {}).encode().replace(b"gemm", b"ge\xff", 1)
    trace = opened(text)
    assert trace.count("kernels") == 3
    assert any("ge\ufffd" in n for n in names(trace, "kernels"))
    assert notes(trace)["text_not_utf8"] == 2  # the name, and the short name


def test_control_characters_nan_and_equal_keys_are_survived(opened):
    odd = '{"ph":"X","cat":"kernel","name":"a\x01b","pid":0,"tid":7,"ts":1,"ts":400,"dur":9,'
    odd += '"args":{"device":0,"stream":7,"correlation":3,"x":NaN}}'
    text = _text(launches(2), {}).replace('"traceEvents": [', f'"traceEvents": [{odd},')
    trace = opened(text)
    assert 400_000 in trace.frame("kernels")["start_ns"].tolist()
    assert "a\x01b" in names(trace, "kernels")


ABOUT = {"ph": "M", "pid": PID, "tid": TID, "ts": 0}


def test_halves_of_characters_are_no_trouble_anywhere(opened):
    """JSON can write half of a pair of surrogates, which no encoding of text can."""
    half = {"name": "\ud800x", "labels": "\ud800x"}
    meta = [
        {**ABOUT, "name": n, "args": half}
        for n in ("thread_name", "process_name", "process_labels")
    ]
    odd = [kernel(900, 9, name="\ud800x"), x("cpu_op", "\ud800x", 0, 5)]
    gpu = {**GPU, "name": "\ud800x"}
    trace = opened([*launches(), *meta, *odd], deviceProperties=[gpu], schemaVersion="\ud800")
    assert trace.count("kernels") == 4
    analyze(trace)


@pytest.mark.parametrize(
    "odd",
    [
        lambda n: kernel(900, 9, name="(" + " " * n, cat="gpu_memcpy"),
        lambda n: kernel(900, 9, name=".kd" * n + "x"),
        lambda n: kernel(900, 9, name=" [clone " * n + "x"),
        lambda n: kernel(900, 9, name="<" * n),
        lambda n: kernel(900, 9, stream="1" * n + "x"),
        lambda n: call(900, 9, name="_v1" * n),
        lambda n: call(900, 9, name="a", tid="1" * n + "x"),
    ],
)
def test_no_long_text_takes_the_square_of_its_length(opened, odd):
    begin = time.process_time()
    opened([*launches(), odd(200_000)])
    assert time.process_time() - begin < 5


def test_members_that_are_no_events_are_counted(opened):
    text = _text(launches(), {}).replace('"traceEvents": [', '"traceEvents": [null, 5, [1], {x}, ')
    trace = opened(text)
    assert trace.count("kernels") == 3
    assert notes(trace)["json_member_skipped"] == 4
    assert balanced(trace)


def test_text_that_looks_like_the_border_of_two_events_is_text(opened):
    names_ = ['}, {"ph": "X"', "}]}, {", '\\"}, {\\"', "]"]
    events = [
        e for n, text in enumerate(names_) for e in (call(n * 9, n), kernel(n * 9, n, name=text))
    ]
    assert sorted(names(opened(events), "kernels")) == sorted(names_)


def test_batches_end_anywhere(opened, monkeypatch):
    monkeypatch.setattr("collectors.torch_profiler.stream.BATCH_BYTES", 700)
    monkeypatch.setattr("collectors.torch_profiler.stream.TAIL_BYTES", 300)
    monkeypatch.setattr("collectors.torch_profiler.file.CHUNK_BYTES", 97)
    events = [{**e, "args": {**e["args"], "deep": [{"a": 1}, {"b": 2}]}} for e in launches(60)]
    text = json.dumps({"deviceProperties": [GPU, GPU], "traceEvents": events, "end": [{}, {}]})
    trace = opened(text)
    assert trace.count("kernels") == trace.count("api_calls") == 60
    assert not trace.notes


def test_values_behind_the_events_count(opened):
    text = json.dumps({"traceEvents": launches(), "deviceProperties": [GPU], "x": {"y": [[]]}})
    assert opened(text).frame("devices")["name"].tolist() == ["NVIDIA A100"]


def test_what_stands_behind_the_end_belongs_to_the_file(opened, monkeypatch):
    monkeypatch.setattr("collectors.torch_profiler.file.CHUNK_BYTES", 1_000)
    text = _text(launches(), {})
    one, two = opened(text + " " * 9_000 + "junk"), opened(text + " " * 9_000 + "other", "b.json")
    assert one.source.sha256 != two.source.sha256
    assert notes(one) == {"json_trailing": 1}


def test_two_lists_of_events_are_both_read(opened):
    first, second = json.dumps(launches(2)), json.dumps([call(900, 9), kernel(910, 9)])
    trace = opened(f'{{"traceEvents": {first}, "traceEvents": {second}}}')
    assert trace.count("kernels") == 3
    assert notes(trace)["json_duplicate_key"] == 1


def test_several_compressed_parts_are_one_file(opened, tmp_path):
    raw = _text(launches(), {}).encode()
    path = tmp_path / "parts.json.gz"
    path.write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    assert open_trace(path, tmp_path / "cache").count("kernels") == 3


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ('{"schema": "1.0.1", "nodes": []}', "execution trace"),
        ('{"rocprofiler-sdk-tool": [{}]}', "rocprof"),
        ('{"a": {"b": [1]}}', "without a list of events"),
        ("[[1, 2], [3]]", "without a list of events"),
        ('{"traceEvents": [{"ph": "X", "cat": "blink", "ts": 1, "dur": 1}]}', "another tool"),
        ('{"traceEvents": [{"ph": "X", "ca', "ends before its first event"),
        ('{"traceEvents": ' + "[" * 300 + "]" * 300 + "}", "more than 200 deep"),
        ('{"a": ' + "[" * 100_000, "more than 200 deep"),
        ("{", "without a list of events"),
        ('{"otherData": {"origin_ns": "0"}, "traceEvents": []}', "an export of whyslow"),
    ],
)
def test_other_json_is_refused_in_one_line(opened, text, trouble):
    with pytest.raises(RefusedError, match=trouble) as refused:
        opened(text)
    line = str(refused.value)
    assert line.startswith("trace.json: ")
    assert len(line) < 300


def test_an_empty_list_of_events_is_an_answer(opened):
    assert analyze(opened('{"traceEvents": []}')).verdict.cause == "unknown"


def test_a_bomb_is_refused_while_it_unpacks(tmp_path):
    path = tmp_path / "bomb.json.gz"
    event = json.dumps(call(1, 1)).encode()
    path.write_bytes(gzip.compress(b"[" + (event + b" " * 4_000_000 + b",") * 60, 9))
    with pytest.raises(RefusedError, match=r"200 times its size \(WHYSLOW_LIMIT_GZIP_RATIO\)"):
        open_trace(path, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "tmp").iterdir())


def test_the_size_of_what_is_unpacked_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYSLOW_LIMIT_JSON_GB", "0.07")
    monkeypatch.setenv("WHYSLOW_LIMIT_GZIP_RATIO", "1e9")
    path = tmp_path / "large.json.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * 80_000_000 + b"]"))
    with pytest.raises(RefusedError, match=r"0\.07 GB \(WHYSLOW_LIMIT_JSON_GB\)"):
        open_trace(path, tmp_path / "cache")


@pytest.mark.parametrize("behind", [b"\0" * 1_000, b"junk" * 50])
def test_what_stands_behind_compressed_data_is_no_loss(tmp_path, behind):
    path = tmp_path / "padded.json.gz"
    path.write_bytes(gzip.compress(_text(launches(), {}).encode()) + behind)
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == 3
    assert set(notes(trace)) <= {"json_trailing"}
    assert ("json_trailing" in notes(trace)) == (behind[0] != 0)


@pytest.mark.parametrize("damaged", ["checksum", "absent checksum"])
def test_a_wrong_checksum_costs_no_event_and_is_told(tmp_path, damaged):
    packed = gzip.compress(_text(launches(), {}).encode())
    packed = packed[:-8] + (b"12345678" if damaged == "checksum" else b"")
    path = tmp_path / "sum.json.gz"
    path.write_bytes(packed)
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == 3
    assert set(notes(trace)) == {"gzip_damaged"}


def test_damage_in_compressed_data_keeps_what_comes_before_it(tmp_path):
    rng = random.Random(5)
    events = [{**e, "args": {**e["args"], "x": rng.random()}} for e in launches(4_000)]
    packed = bytearray(gzip.compress(_text(events, {}).encode()))
    place = len(packed) * 3 // 4
    packed[place : place + 400] = bytes(400)
    path = tmp_path / "damaged.json.gz"
    path.write_bytes(packed)
    trace = open_trace(path, tmp_path / "cache")
    assert 2_900 <= trace.count("kernels") < 3_100
    assert "json_truncated" in notes(trace)


def test_thousands_of_small_compressed_parts_take_no_longer_than_their_number(tmp_path):
    raw = _text(launches(400), {}).encode()
    path = tmp_path / "parts.json.gz"
    path.write_bytes(b"".join(gzip.compress(raw[n : n + 8]) for n in range(0, len(raw), 8)))
    begin = time.process_time()
    assert open_trace(path, tmp_path / "cache").count("kernels") == 400
    assert time.process_time() - begin < 5  # 0.5 s; once it grew with the square


def test_a_long_value_beside_the_events_is_stepped_over(tmp_path):
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write('{"numbers": [')
        file.write("1," * 40_000_000)
        file.write(f'1], "traceEvents": {json.dumps(launches())}}}')
    assert open_trace(path, tmp_path / "cache").count("kernels") == 3


def test_a_file_that_only_looks_compressed_is_not_recognised(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(b"\x1f\x8b" + os.urandom(200))
    assert not torch_profiler.recognizes(path)


def test_damage_anywhere_is_refused_or_read(tmp_path):
    """No byte of a trace can make the reader fail in any other way."""
    rng = random.Random(7)
    events = [*launches(4), x("cpu_op", "aten::add", 1, 2, **{"Input Dims": [[1]]})]
    whole = _text(events, {"deviceProperties": [GPU]}).encode()
    for number in range(400):
        raw = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(raw))
            raw[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        path = tmp_path / "mutant.json"
        path.write_bytes(raw)
        try:
            trace = open_trace(path, tmp_path / f"cache{number}")
        except RefusedError:
            continue
        assert balanced(trace)


# --- devices of every kind ----------------------------------------------------------------


def test_ids_beyond_63_bits_still_join(opened):
    large = 10_159_970_886_766_084_423
    trace = opened([call(0, large), kernel(9, large), kernel(90, 1), call(80, 1)])
    assert (trace.frame("kernels")["correlation_id"] < 0).any()
    assert (build(trace).launches["api_row"] >= 0).all()


def build(trace):
    from analyzers.facts.facts import build_facts

    return build_facts(trace)


@pytest.mark.parametrize("name", ["cuLaunchKernelEx_v2_ptsz", "hipExtModuleLaunchKernel"])
def test_launches_of_every_interface_are_launches(opened, name):
    facts = build(opened([call(0, 1, name), kernel(9, 1), *launches()]))
    assert set(facts.calls) == {Call.LAUNCH}


def test_arrows_join_what_has_no_id_of_its_own(opened):
    bare = kernel(510, None)
    del bare["args"]["correlation"]
    arrow = {"ph": "f", "id": 44, "cat": "ac2g", "name": "ac2g", "pid": 0, "tid": 7, "ts": 510}
    trace = opened([*launches(), call(500, 44), bare, arrow])
    assert (build(trace).launches["api_row"] >= 0).all()


def test_capitalised_categories_and_places_in_words(opened):
    events = [{**call(1, 1), "cat": "Runtime", "tid": str(TID)}, kernel(9, 1, cat="Kernel")]
    events[1] |= {"tid": "stream 7"}
    del events[1]["args"]["stream"]
    trace = opened([*events, {**call(90, 2), "cat": "Runtime"}, kernel(99, 2, cat="Kernel")])
    assert trace.frame("kernels")["stream"].tolist() == [7, 7]
    assert trace.count("threads") == 1


def test_amd_is_told_to_use_its_own_tools(opened):
    gpu = {**GPU, "name": "AMD Instinct MI300X", "computeMajor": 9, "warpSize": 64}
    events = [
        {**e, "name": "hipExtModuleLaunchKernel"} if e["cat"] != "kernel" else e for e in launches()
    ]
    report = analyze(opened(events, deviceProperties=[gpu], hip_runtime_version=60443483))
    said = json.dumps(report.to_dict())
    assert report.source["tool_version"] == "HIP 6.4"
    assert "rocprof-compute" in said
    assert "ncu" not in said.replace("truncu", "")
    assert "nsys" not in said


def test_mtia_work_is_work(opened):
    events = [x("mtia_runtime", "mtiaLaunchKernel", 1, 2, correlation=5)]
    events += [kernel(9, 5, cat="mtia_ccp_events"), kernel(90, 6, cat="mtia_ccp_events")]
    assert opened(events).count("kernels") == 2


def test_a_trace_of_the_host_alone_says_what_was_recorded(opened):
    report = analyze(opened([x("cpu_op", "aten::add", 0, 9)]))
    assert report.verdict.cause == "unknown"
    assert "only 1 operator." in report.verdict.sentence
    assert "torch.profiler" in report.verdict.sentence


def test_a_trace_of_the_device_alone_has_its_busy_time(opened):
    report = analyze(opened([e for e in launches() if e["cat"] == "kernel"]))
    assert report.devices[0].busy_ns == 150_000
    assert "no_api_calls" in {q.code for q in report.quality}


@pytest.mark.parametrize(
    "info", [{"backend": "nccl", "rank": None}, {"rank": 3}, None, [], "?", {"rank": 1 << 70}]
)
def test_the_rank_may_be_anything(opened, info):
    assert opened(launches(), distributedInfo=info).count("kernels") == 3


@pytest.mark.parametrize("listed", [None, 7, [None], [{}], [{"id": "a", "numSms": "x"}], {"id": 0}])
def test_devices_may_be_described_by_anything(opened, listed):
    trace = opened(launches(), deviceProperties=listed)
    assert trace.frame("devices")["sm_count"].tolist() == [-1]


def test_places_and_names_may_be_anything(opened):
    odd = [
        {**call(1, 1), "pid": p, "tid": t}
        for p in (None, 1.5, [1], {}, 1 << 61)
        for t in ("--5", True, {})
    ]
    odd += [{**kernel(5, 1), "name": n} for n in (None, 5, ["a"], {})]
    odd += [{**call(7, 2), "name": 5}, {**call(7, 2), "ph": []}, {**call(7, 2), "cat": {}}]
    odd += [{**call(8, 3), "args": [1]}, {**call(8, 3), "args": "x"}]
    trace = opened([*launches(), *odd])
    analyze(trace)
    assert balanced(trace)


def test_two_processes_with_equal_ids_are_told_apart_by_time(opened):
    other = {"pid": 900, "tid": 901}
    events = [call(100, 1), kernel(110, 1), call(1_000, 1, **other), kernel(1_010, 1)]
    trace = opened(events)
    assert trace.frame("kernels")["process"].tolist() == [PID, 900]


# --- the analysis -------------------------------------------------------------------------


def test_work_queued_before_the_recording_is_left_out_and_told(opened):
    early = [kernel(-1_000 + 100 * n, 90 + n) for n in range(5)]
    report = analyze(opened([*early, *launches()]))
    assert report.window.duration_ns == 250_000
    assert report.devices[0].busy_ns == 150_000
    (note,) = [q for q in report.quality if q.code == "left_over"]
    assert note.level == "warning"
    assert "250 µs, busy for 150 µs (40.0 % idle)" in note.message
    assert "1.360 ms, busy for 400 µs (70.6 % idle)" in note.message


def test_launches_get_the_names_of_their_operators(opened):
    small = []
    for n in range(40):
        small += [x("cpu_op", "aten::add", 60 * n, 20), call(60 * n + 5, n + 1)]
        small += [kernel(60 * n + 12, n + 1, dur=2)]
    report = analyze(opened(small, deviceProperties=[GPU]))
    titles = [f.title for f in report.findings if f.id.startswith("launch")]
    assert any("aten::add, " in t and "calls" in t for t in titles)


def test_time_inside_an_operator_that_launches_is_launching(opened):
    events = []
    for n in range(10):
        events += [x("cpu_op", "aten::conv2d", 900 * n, 800), call(900 * n + 400, n + 1)]
        events += [kernel(900 * n + 410, n + 1, dur=20)]
    busy_host = [e for e in events if e["cat"] != "cpu_op"]
    assert analyze(opened(events)).verdict.cause == "launch"
    assert analyze(opened(busy_host, "b.json")).verdict.cause == "host"


def test_an_operator_that_launches_nothing_is_host_work(opened):
    events = []
    for n in range(10):
        events += [x("cpu_op", "aten::stack", 900 * n, 700), call(900 * n + 800, n + 1)]
        events += [kernel(900 * n + 810, n + 1, dur=20)]
    report = analyze(opened(events))
    assert report.verdict.cause == "host"
    assert "aten::stack" in next(f.title for f in report.findings if f.id == "host.starvation")


def test_steps_are_divided_by_what_runs(opened):
    steps = [x("user_annotation", f"ProfilerStep#{n}", 100 * n, 95) for n in (1, 2, 3)]
    steps += [
        x("user_annotation", "enumerate(DataLoader)#X.__next__", 100 * n, 5) for n in (1, 2, 3)
    ]
    ops = [x("cpu_op", "aten::mm", 100 * n + 6, 10) for n in (1, 2, 3)]
    work = [e for n in (1, 2, 3) for e in (call(100 * n + 8, n), kernel(100 * n + 30, n))]
    report = analyze(opened([*steps, *ops, *work]))
    for step in report.totals["steps"]:
        parts = {k: v for k, v in step.items() if k.endswith("_ns") and k not in _NOT_PARTS}
        assert sum(parts.values()) == step["duration_ns"] == 95_000
        assert parts["kernel_ns"] == 50_000
        assert parts["runtime_ns"] == 4_000
        assert parts["dataloader_ns"] == 5_000
        assert parts["cpu_exec_ns"] == 6_000


_NOT_PARTS = ("start_ns", "duration_ns")


# --- everywhere else ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    path = tmp_path_factory.mktemp("traces") / "trace.pt.trace.json.gz"
    steps = [x("user_annotation", f"ProfilerStep#{n}", 100 * n - 5, 90) for n in (1, 2, 3)]
    text = _text([*steps, *launches()], {"deviceProperties": [GPU]})
    path.write_bytes(gzip.compress(text.encode()))
    with library(data):
        return data, path, api.open_recording(path)


@pytest.mark.parametrize("page", ["overview", "timeline", "kernels", "open"])
def test_each_page_draws_a_torch_trace(page, shown):
    data, _, opened_trace = shown
    with library(data):
        app = draw(page, trace=opened_trace.trace.id)
    assert not app.exception


def test_a_torch_trace_is_found_in_a_watched_folder(shown):
    _, path, _ = shown
    assert [p.path for p in places.recordings(path.parent)] == [path]


def test_a_torch_trace_can_be_exported(tmp_path, shown):
    data, _, opened_trace = shown
    with library(data):
        export_csv(opened_trace.trace, opened_trace.stored, tmp_path / "csv")
    written = {p.stem for p in (tmp_path / "csv").iterdir()}
    assert {"kernels", "ranges", "launches"} <= written


def test_the_timeline_has_the_memory_of_each_device(opened):
    taken = [(50, 0, 4_096), (450, 0, 1_024), (60, 1, 77)]
    events = [
        {**x("cpu_instant_event", "[memory]", at, 0), "ph": "i", "args": about}
        for at, device, held in taken
        for about in [{"Device Type": 1, "Device Id": device, "Addr": 5, "Bytes": 512}]
        for about in [{**about, "Total Allocated": held, "Total Reserved": 8_192}]
    ]
    host = {"Device Type": 0, "Device Id": -1, "Bytes": 5, "Total Allocated": 5}
    events += [{**events[0], "args": host}]
    index = recording_index(opened([*launches(), *events]))
    groups = [g.title for g in index.groups if g.kind == "metrics"]
    assert groups == ["GPU 0 memory", "GPU 1 memory"]
    lanes = [(lane.label, lane.unit) for lane in index.lanes if lane.unit]
    assert lanes == [("allocated", "bytes"), ("reserved", "bytes")] * 2


def test_an_export_for_perfetto_has_operators_and_memory(tmp_path):
    memory = {"Device Type": 1, "Device Id": 0, "Addr": 5, "Bytes": 512}
    memory |= {"Total Allocated": 4_096, "Total Reserved": 8_192}
    events = [
        {**x("cpu_instant_event", "[memory]", 150, 0, **memory), "ph": "i", "s": "t"},
        x("cpu_op", "aten::mm", 95, 40, **{"Input Dims": [[2, 2]]}),
        x("cpu_op", "aten::add", 99, 10),
        x("python_function", "model.py(3): forward", 90, 60),
    ]
    path = tmp_path / "in.json"
    path.write_text(_text([*launches(), *events], {}))
    trace = open_trace(path, tmp_path / "cache")
    stored = analyses.save(investigate(trace, ""), trace, "")
    perfetto.export(trace, stored, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())["traceEvents"]
    rows = {e["tid"]: e["args"]["name"] for e in written if e["name"] == "thread_name"}
    spans = {e["name"]: (rows[e["tid"]], e["ts"], e["dur"]) for e in written if e["ph"] == "X"}
    assert spans["aten::mm"] == (f"thread {TID} operators", 95, 40)
    assert spans["aten::add"] == (f"thread {TID} operators", 99, 10)
    assert spans["model.py(3): forward"] == (f"thread {TID} Python", 90, 60)
    (counter,) = [e for e in written if e["ph"] == "C"]
    assert (counter["ts"], counter["args"]) == (150, {"allocated": 4_096, "reserved": 8_192})


# --- the simulator writes both formats ----------------------------------------------------


def comparable(program):
    """Tell whether both recorders can say all that happens in ``program``."""
    operations = [o for t in program.threads for o in t.operations]
    alone = len({t.process for t in program.threads}) == 1
    return alone and not any(
        isinstance(o, Poll) or (isinstance(o, Graph) and o.as_a_whole) for o in operations
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("start_us", [0, 1_712_195_495_000_000])
def test_both_formats_of_one_program_give_one_ledger(family, start_us, tmp_path):
    case = family(Maker(3))
    if case.tweaks or case.spoil or not comparable(case.program):
        pytest.skip("one of the formats cannot say what happens here")
    nsys, torch = Recorder("3.13", case.program.devices), TorchRecorder(case.program.devices)
    execute(case.program, recorder=nsys)
    execute(case.program, recorder=torch)
    path = _later(torch.write(tmp_path / "a.json"), start_us)
    one = analyze(open_trace(nsys.write(tmp_path / "a.sqlite"), tmp_path / "cache"))
    two = analyze(open_trace(path, tmp_path / "cache"))
    assert one.verdict.cause == two.verdict.cause
    assert [d.rows for d in one.devices] == [d.rows for d in two.devices]
    assert two.window.start_ns - one.window.start_ns == start_us * 1_000
    assert {f.id: f.lost_ns for f in one.findings} == {f.id: f.lost_ns for f in two.findings}


def _later(path, start_us):
    """Let a trace begin later, as decimal text: a float would lose nanoseconds."""
    data = json.loads(path.read_text(), parse_float=str)
    for event in data["traceEvents"]:
        whole, _, part = str(event["ts"]).partition(".")
        event["ts"] = f"{int(whole) + start_us}.{part or 0}"
    path.write_text(json.dumps(data))
    return path


# --- real recordings ----------------------------------------------------------------------

BUSY = {  # total ms, busy ms
    "Falconsai": (7.5598, 1.2253),
    "Qwen1.5": (34.8924, 31.9055),
    "bert-small": (3.9078, 0.3094),
    "gpu_only": (5.9795, 5.3434),
    "sglang": (473.7499, 9.7729),
    "graph_execution": (10.7432, 10.7177),
    "torch_compile_triton": (12.5490, 12.5490),
}


@pytest.fixture(scope="module")
def report_of(tmp_path_factory):
    reports = {}

    def get(part):
        if part not in reports:
            (path,) = [p for p in REAL.iterdir() if part in p.name]
            reports[part] = analyze(open_trace(path, tmp_path_factory.mktemp("cache")))
        return reports[part]

    return get


@real
@pytest.mark.parametrize("part", BUSY)
def test_busy_times_are_those_of_the_reference(report_of, part):
    (device,) = report_of(part).devices
    found = device.duration_ns / 1e6, device.busy_ns / 1e6
    assert found == pytest.approx(BUSY[part], rel=1e-4, abs=5e-5)


@real
def test_exposed_communication_is_that_of_the_reference(report_of):
    """Its project published these figures for this trace, computed in floating point."""
    (device,) = report_of("resnet_act_checkpoint").devices
    assert device.rows["kernel"] / 1e6 == pytest.approx(19.2341318, rel=1e-5)
    assert device.rows["communication"] / 1e6 == pytest.approx(35.2831064, rel=1e-5)
    # Copies 1.5836 ms of it; the reference forgets 81 memsets, which no arrow joins to their call.
    assert device.rows["transfer"] / 1e6 == pytest.approx(1.5836319 + 0.133196, abs=1e-4)


@real
def test_a_warmed_up_window_has_the_length_of_the_reference(report_of):
    report = report_of("resnet_act_checkpoint")
    assert report.window.duration_ns / 1e6 == pytest.approx(56.5176, abs=1e-4)
    assert "left_over" in {q.code for q in report.quality}


STEPS = {  # mean over six steps, µs: step, kernel, data loader
    "num_workers_0": (177_592, 98_589, 59_262),
    "num_workers_4": (141_068, 99_145, 1_186),
}


@real
@pytest.mark.parametrize("part", STEPS)
def test_steps_are_divided_as_the_reference_divides_them(report_of, part):
    steps = report_of(part).totals["steps"]
    columns = ("duration_ns", "kernel_ns", "dataloader_ns")
    means = [np.mean([s[c] for s in steps]) / 1e3 for c in columns]
    assert means == pytest.approx(STEPS[part], abs=1)


@real
def test_a_slow_data_loader_is_told_from_a_fast_one(report_of):
    slow, fast = report_of("num_workers_0"), report_of("num_workers_4")
    assert slow.verdict.cause == "host"
    assert "enumerate(DataLoader)" in slow.findings[0].title
    assert fast.verdict.cause != "host"
    assert fast.devices[0].rows["host"] < 0.05 * fast.devices[0].duration_ns


@real
def test_counts_of_the_references_are_met(report_of):
    assert report_of("nccl_data").counts["collectives"] == 21
    assert report_of("cupti_profiler").counts["range_counters"] == 77 * 9
    assert report_of("large_integer").counts["kernels"] == 1


@real
@pytest.mark.parametrize(
    "path", sorted(REAL.iterdir()) if REAL.is_dir() else [], ids=lambda p: p.name
)
def test_every_real_trace_is_read_or_refused(path, tmp_path):
    try:
        trace = open_trace(path, tmp_path)
    except RefusedError as error:
        assert any(part in path.name for part in ("_et.json", "memory_timeline", "rocprof")), error
        return
    report = analyze(trace)
    assert balanced(trace)
    assert not report.failed
    assert not [n for n in trace.notes if n.severity != "info"]
    for device in report.devices:
        assert sum(device.rows.values()) == device.duration_ns == report.window.duration_ns
    assert dataclasses.asdict(trace.source)["sha256"]
