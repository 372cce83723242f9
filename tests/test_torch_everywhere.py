"""Traces of the torch profiler on pages and in exports; those of the simulator, and real ones."""

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from analyzers import analyze
from analyzers.analysis import investigate
from benchmarks.simulated.cases import Maker
from benchmarks.simulated.groups import FAMILIES
from benchmarks.simulated.program import Graph, Poll
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from benchmarks.simulated.torch_recorder import TorchRecorder
from collectors import open_trace
from collectors.errors import RefusedError
from exports import perfetto
from exports.tables import export_csv
from jobs import api
from library import analyses
from tests import real_traces
from tests.torch_traces import GPU, TID, balanced, launches, opener, trace_text, x
from tests.view_fakes import draw, library
from timeline.store import recording_index
from views.shared import places


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


REAL = Path(__file__).parents[2] / "shared" / "real" / "torch_trace"
REAL = REAL if REAL.is_dir() else Path("/work/shared/real/torch_trace")
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not here")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    path = tmp_path_factory.mktemp("traces") / "trace.pt.trace.json.gz"
    steps = [x("user_annotation", f"ProfilerStep#{n}", 100 * n - 5, 90) for n in (1, 2, 3)]
    text = trace_text([*steps, *launches()], {"deviceProperties": [GPU]})
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
    path.write_text(trace_text([*launches(), *events], {}))
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
    has_shapes = case.has_shapes or case.planted_with_operators
    if case.tweaks or case.spoil or has_shapes or not comparable(case.program):
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
def report_of():
    reports = {}

    def get(part, window=""):
        if (part, window) not in reports:
            (path,) = [p for p in REAL.iterdir() if part in p.name]
            reports[part, window] = analyze(real_traces.opened(path), window)
        return reports[part, window]

    return get


@real
@pytest.mark.parametrize("part", BUSY)
def test_busy_times_are_those_of_the_reference(report_of, part):
    """They count from the first to the last operation; ours counts whole steps, if there are."""
    (device,) = report_of(part, "all").devices
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
    assert "loaded its batches itself (DataLoader with num_workers=0)" in slow.findings[0].title
    assert "num_workers=4, pin_memory=True" in slow.findings[0].advice
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
def test_every_real_trace_is_read_or_refused(path):
    try:
        trace = real_traces.opened(path)
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
