"""Traces of the torch profiler: what they hold, and their times."""

import json

import msgspec
import pytest

from analyzers import analyze
from collectors.schema import CopyKind, MemoryKind, OperatorKind
from collectors.torch_profiler.events import nanoseconds
from collectors.torch_profiler.names import short_name
from tests.torch_traces import (
    GPU,
    PID,
    TID,
    balanced,
    call,
    kernel,
    launches,
    names,
    notes,
    opener,
    x,
)


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


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


def inputs_of(trace):
    """Return shapes, types, strides and values of the inputs of each operator."""
    rows = trace.frame("operators")
    columns = ("shapes_id", "types_id", "strides_id", "values_id")
    return [tuple(trace.names(rows[c].to_numpy())[n] for c in columns) for n in range(len(rows))]


def test_operators_keep_types_strides_and_numbers_of_their_inputs(opened):
    inputs = {"Input Dims": [[2, 3], [], []], "Input type": ["float", "Scalar", "ScalarList"]}
    inputs |= {"Input Strides": [[3, 1], [], []], "Concrete Inputs": ["", "-1.5e-06", "[1, 2]"]}
    trace = opened([x("cpu_op", "aten::add", 0, 9, **inputs), *launches()])
    kept = [[json.loads(text) for text in texts] for texts in inputs_of(trace)]
    assert kept == [[inputs[name] for name in inputs]]


def test_inputs_of_2021_are_read_under_their_old_name(opened):
    inputs = {"Input dims": [[32, 64], []], "Input type": ["float", "Int"]}
    trace = opened([x("Operator", "aten::add", 0, 9, **inputs), *launches()])
    shapes, types, strides, values = inputs_of(trace)[0]
    assert (json.loads(shapes), json.loads(types)) == ([[32, 64], []], ["float", "Int"])
    assert (strides, values) == ("", "")


def test_values_of_inputs_that_are_words_are_not_kept(opened):
    inputs = {"Input Dims": [[2]], "Concrete Inputs": ["/home/me/secret", "True", 7]}
    trace = opened([x("cpu_op", "custom::load", 0, 9, **inputs), *launches()])
    assert json.loads(inputs_of(trace)[0][3]) == ["", "True", ""]
    assert not any("secret" in text for text in trace.frame("strings")["value"])


def test_long_lists_of_shapes_stay_whole(opened):
    shapes = [[[4096, 4096]] * 600, []]
    trace = opened(
        [x("cpu_op", "aten::_foreach_add_", 0, 9, **{"Input Dims": shapes}), *launches()]
    )
    assert json.loads(inputs_of(trace)[0][0]) == shapes


def test_options_of_generated_kernels_are_kept(opened):
    options = {"kernel_kwargs": "XBLOCK=2,R0_BLOCK=2048"}
    trace = opened([x("cpu_op", "triton_poi_fused_add_0", 0, 9, **options), *launches()])
    ids = trace.frame("operators")["options_id"].to_numpy()
    assert trace.names(ids).tolist() == ["XBLOCK=2,R0_BLOCK=2048"]


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
