"""Traces of every kind of device, and what the analysis says of them."""

import json

import pytest

from analyzers import analyze
from analyzers.cuda_names import Call
from tests.torch_traces import GPU, PID, TID, balanced, call, kernel, launches, opener, x


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


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
    assert [t for t in titles if t.endswith(", mostly before `gemm`, in aten::add")] == titles != []


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
