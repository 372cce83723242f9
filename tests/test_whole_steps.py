"""Steps that the program marked are analysed whole: from where to where, and whose idle it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers import analyze
from analyzers.analysis import investigate
from analyzers.compare.measure import measure
from analyzers.compare.recording_analysis import RecordingAnalysis
from analyzers.finding import Row
from analyzers.ledger.booking import ROWS, Detail
from collectors.schema import CopyKind
from tests.traces_in_memory import make_trace

US, MS = 1_000, 1_000_000
FIRST_TO_LAST = "first to last GPU operation"


def steps_of(
    begins_ms, length_ms=100, name="ProfilerStep", first=0, process=1, thread=11, **columns
):
    """Ranges of steps, numbered from ``first`` on."""
    begins = list(begins_ms)
    return {
        "start_us": [1_000 * b for b in begins],
        "duration_us": length_ms * 1_000,
        "name": [f"{name}#{first + i}" for i in range(len(begins))],
        "process": process,
        "thread": thread,
        **columns,
    }


def kernels(begins_ms, duration_ms=20, first_id=0, calls=True, **columns):
    """Kernels that begin as soon as their calls return, and the calls."""
    ids = np.arange(len(begins_ms)) + first_id
    begin_us = 1_000 * np.array(begins_ms)
    launched = {k: v for k, v in columns.items() if k in ("process", "device", "stream")}
    thread = {k: v for k, v in columns.items() if k in ("process", "thread")}
    return (
        {
            "start_us": begin_us,
            "duration_us": 1_000 * np.array(duration_ms),
            "correlation_id": ids,
            **launched,
        },
        {"start_us": begin_us - 5, "duration_us": 5, "correlation_id": ids, **thread},
    )


def both(one, other):
    """Two tables as one."""
    joined = {}
    for name in one:
        sizes = [max(np.size(t["start_us"]), 1) for t in (one, other)]
        values = [np.broadcast_to(t[name], n) for t, n in zip((one, other), sizes, strict=True)]
        joined[name] = np.concatenate(values).tolist()
    return joined


def spans(report):
    return report.window.start_ns, report.window.end_ns


@pytest.mark.parametrize("count", [1, 2, 5])
def test_steps_of_the_profiler_are_whole_however_few(tmp_path, count):
    begins = [100 * i for i in range(count)]
    work, calls = kernels([b + 30 for b in begins] + [b + 60 for b in begins])
    report = analyze(make_trace(tmp_path, kernels=work, api_calls=calls, ranges=steps_of(begins)))
    assert report.window.label == "whole steps"
    assert spans(report) == (0, 100 * count * MS)
    (device,) = report.devices
    assert device.unused_ns == 0
    assert device.rows[Row.KERNEL] == 40 * count * MS
    assert device.rows[Row.HOST] == pytest.approx(60 * count * MS, abs=20 * count * US)
    assert report.verdict.cause == "host"


@pytest.mark.parametrize(("count", "label"), [(2, FIRST_TO_LAST), (3, "whole steps")])
def test_other_ranges_have_to_repeat_to_be_steps(tmp_path, count, label):
    begins = [100 * i for i in range(count)]
    work, calls = kernels([b + 30 for b in begins])
    ranges = steps_of(begins, name="step")
    report = analyze(make_trace(tmp_path, kernels=work, api_calls=calls, ranges=ranges))
    assert report.window.label == label


@pytest.mark.parametrize(("outside_ms", "is_whole"), [(20, True), (21, False)])
def test_steps_hold_nine_tenths_of_the_gpu_work_or_are_a_part_of_the_program(
    tmp_path, outside_ms, is_whole
):
    """Nine kernels of 20 ms in steps, and one before them."""
    begins = [100 * i for i in range(9)]
    work, calls = kernels([-50, *[b + 30 for b in begins]], [outside_ms, *[20] * 9])
    report = analyze(make_trace(tmp_path, kernels=work, api_calls=calls, ranges=steps_of(begins)))
    assert spans(report) == ((0, 900 * MS) if is_whole else (-50 * MS, 850 * MS))
    notes = [n.message for n in report.quality if n.code == "whole_steps"]
    assert len(notes) == is_whole
    if is_whole:
        assert notes == [
            "The window is 9 whole steps (ProfilerStep): 900 ms, busy for 180 ms (80.0 % idle). "
            "1 GPU operation before and after them is not part of it. From the first to the last "
            "GPU operation (--window all): 900 ms, busy for 200 ms (77.8 % idle)."
        ]


@pytest.mark.parametrize(("first_ms", "is_told"), [(1, False), (2, True)])
def test_both_lengths_are_told_when_they_differ_by_a_hundredth(tmp_path, first_ms, is_told):
    work, calls = kernels([first_ms, 90], [10, 10])
    trace = make_trace(tmp_path, kernels=work, api_calls=calls, ranges=steps_of([0]))
    notes = [n.message for n in analyze(trace).quality if n.code == "whole_steps"]
    assert len(notes) == is_told
    if is_told:
        assert "100 ms, busy for 20 ms (80.0 % idle)" in notes[0]
        assert "98 ms, busy for 20 ms (79.6 % idle)" in notes[0]


def test_all_gpu_work_can_still_be_asked_for(tmp_path):
    work, calls = kernels([30, 60, 130])
    trace = make_trace(tmp_path, kernels=work, api_calls=calls, ranges=steps_of([0, 100]))
    report = analyze(trace, "all")
    assert spans(report) == (30 * MS, 150 * MS)
    assert report.window.label == "first to last GPU operation"
    assert not report.window.is_chosen


def test_steps_that_used_no_gpu_at_the_begin_and_end_are_left_out(tmp_path):
    """Warm-up before the GPU was recorded; in the midst a step without GPU work is host time."""
    begins = [100 * i for i in range(7)]
    work, calls = kernels([230, 430, 520])
    report = analyze(make_trace(tmp_path, kernels=work, api_calls=calls, ranges=steps_of(begins)))
    assert spans(report) == (200 * MS, 600 * MS)
    assert report.window.steps[0].count == 3
    assert report.devices[0].rows[Row.HOST] == pytest.approx(340 * MS, abs=US * 50)


def test_work_that_outlasts_the_last_step_belongs_to_it(tmp_path):
    ids = [0, 1, 2]
    trace = make_trace(
        tmp_path,
        kernels={
            "start_us": [30_000, 130_000, 150_000],
            "duration_us": [20_000, 20_000, 300_000],
            "correlation_id": ids,
            "stream": [7, 7, 9],
        },
        api_calls={"start_us": [29_990, 129_990, 140_000], "duration_us": 5, "correlation_id": ids},
        ranges=steps_of([0, 100]),
    )
    report = analyze(trace)
    assert spans(report) == (0, 450 * MS)
    assert report.devices[0].rows[Row.KERNEL] == 340 * MS


def test_work_of_no_step_does_not_stretch_the_last_one(tmp_path):
    work, calls = kernels([*[30 + 100 * i for i in range(10)], 1_500], [*[20] * 10, 10])
    ranges = steps_of([100 * i for i in range(10)])
    report = analyze(make_trace(tmp_path, kernels=work, api_calls=calls, ranges=ranges))
    assert spans(report) == (0, 1_000 * MS)


def test_idle_time_at_both_ends_is_named_and_its_evidence_is_placed(tmp_path):
    work, calls = kernels([250, 270], 20)
    ranges = both(
        steps_of([0], 400),
        {
            "start_us": [10_000, 300_000],
            "duration_us": [220_000, 90_000],
            "name": ["decode images", "write metrics"],
            "process": 1,
            "thread": 11,
        },
    )
    report = analyze(make_trace(tmp_path, kernels=work, api_calls=calls, ranges=ranges))
    assert report.verdict.cause == "host"
    assert "mostly during decode images (220 ms)" in report.verdict.sentence
    (finding,) = [f for f in report.findings if f.cause == "host"]
    assert finding.lost_ns == report.devices[0].rows[Row.HOST]
    gaps = {e.name: (e.value, e.start_ns, e.end_ns) for e in finding.evidence}
    assert gaps["in range write metrics"][0] == 90 * MS
    assert not any("ProfilerStep" in name for name in gaps)
    assert gaps["idle after kernel"] == (110 * MS, 290 * MS, 400 * MS)


def test_the_python_function_that_kept_the_host_busy_is_named(tmp_path):
    """Leaves are short; the function that calls them holds the time, and main holds everything."""
    work, calls = kernels([250, 270], 20)
    leaf = np.arange(20) * 10_000 + 10_000
    operators = {
        "start_us": [0, 5_000, *leaf],
        "duration_us": [400_000, 235_000, *[8_000] * 20],
        "name": ["train.py(9): main", "data.py(3): augment", *[f"leaf {i}" for i in range(20)]],
        "kind": 1,
    }
    trace = make_trace(
        tmp_path, kernels=work, api_calls=calls, ranges=steps_of([0], 400), operators=operators
    )
    assert "mostly during augment (data.py:3) (235 ms)" in analyze(trace).verdict.sentence


def test_freeing_memory_at_the_end_of_a_step_is_no_work_outside_cuda(tmp_path):
    work, calls = kernels([30, 60], 20)
    calls = {**calls, "name": "cudaLaunchKernel"}
    free = {"start_us": [85_000], "duration_us": 10_000, "correlation_id": 90, "name": "cudaFree"}
    trace = make_trace(
        tmp_path, kernels=work, api_calls=both(calls, free), ranges=steps_of([0], 100)
    )
    rows = analyze(trace).devices[0].rows
    assert rows[Row.MEMORY] == 10 * MS
    assert sum(rows.values()) == 100 * MS


def test_an_operation_without_a_call_does_not_hide_whose_idle_time_it_ends(tmp_path):
    trace = make_trace(
        tmp_path,
        kernels={
            "start_us": [40_000, 60_000],
            "duration_us": [100, 30_000],
            "correlation_id": [5, 6],
        },
        api_calls={"start_us": [59_990], "duration_us": 5, "correlation_id": 6},
        ranges=steps_of([0], 100),
    )
    analysis = investigate(trace)
    rows = analysis.report.devices[0].rows
    assert analysis.report.window.steps
    assert rows[Row.UNEXPLAINED] == 0
    assert rows[Row.HOST] == pytest.approx(70 * MS, abs=200 * US)


def two_ranks(folder, begins=(0, 300), counts=(6, 3)):
    """Rank 1 joins later; each step of 100 ms has a kernel of 80 ms, 10 ms after its begin."""
    tables = []
    for rank, (begin, count) in enumerate(zip(begins, counts, strict=True)):
        at = [begin + 100 * i for i in range(count)]
        where = {"process": rank + 1, "thread": 10 * (rank + 1), "device": rank, "stream": 7}
        work, calls = kernels([b + 10 for b in at], 80, first_id=100 * rank, **where)
        ranges = steps_of(at, process=rank + 1, thread=10 * (rank + 1))
        tables.append((work, calls, ranges))
    joined = [both(*pair) for pair in zip(*tables, strict=True)]
    return make_trace(folder, kernels=joined[0], api_calls=joined[1], ranges=joined[2])


def test_a_rank_without_steps_yet_is_not_idle_for_its_host(tmp_path):
    report = analyze(two_ranks(tmp_path))
    assert spans(report) == (0, 600 * MS)
    first, second = report.devices
    assert (first.unused_ns, second.unused_ns) == (0, 300 * MS)
    assert (first.rows[Row.KERNEL], second.rows[Row.KERNEL]) == (480 * MS, 240 * MS)
    assert second.rows[Row.HOST] + second.rows[Row.LAUNCH] == 360 * MS
    for device in report.devices:
        assert sum(device.rows.values()) == 600 * MS
    assert report.verdict.share == pytest.approx(0.2, abs=0.01)


def test_a_rank_that_leaves_early_is_not_idle_for_its_host(tmp_path):
    report = analyze(two_ranks(tmp_path, begins=(0, 0), counts=(6, 3)))
    assert [d.unused_ns for d in report.devices] == [0, 300 * MS]


def test_a_process_without_steps_that_does_most_of_the_work_forbids_whole_steps(tmp_path):
    work, calls = kernels([30, 60], 20, process=1, thread=11, device=0, stream=7)
    more, others = kernels([10, 50], 40, 50, process=2, thread=21, device=1, stream=7)
    trace = make_trace(
        tmp_path, kernels=both(work, more), api_calls=both(calls, others), ranges=steps_of([0])
    )
    assert analyze(trace).window.label == "first to last GPU operation"


def test_nested_loops_are_whole_by_the_outer_one(tmp_path):
    outer = steps_of([0, 100, 200], 100, name="epoch")
    inner = steps_of([20, 50, 120, 150, 220, 250], 30, name="batch")
    work, calls = kernels([25, 55, 125, 155, 225, 255], 20)
    trace = make_trace(tmp_path, kernels=work, api_calls=calls, ranges=both(outer, inner))
    report = analyze(trace)
    assert spans(report) == (0, 300 * MS)
    assert report.window.steps[0].name == "epoch"


def paged_out(folder, ranges=None):
    """A kernel of 114 ms; the host then touches its results for 604 ms, page by page."""
    moved = 120_000 + 6_040 * np.arange(100)
    tables = {
        "kernels": {
            "start_us": [1_000, 6_000],
            "duration_us": [5_000, 109_000],
            "correlation_id": [1, 2],
        },
        "copies": {
            "start_us": moved,
            "duration_us": 20,
            "kind": CopyKind.MANAGED_DEVICE_TO_HOST,
            "correlation_id": 0,
        },
        "api_calls": {"start_us": [990, 995], "duration_us": 4, "correlation_id": [1, 2]},
    }
    return make_trace(folder, **tables, **({"ranges": ranges} if ranges else {}))


def test_page_out_after_the_last_kernel_is_not_part_of_the_window(tmp_path):
    report = analyze(paged_out(tmp_path))
    assert spans(report) == (1 * MS, 115 * MS)
    assert report.devices[0].rows[Row.TRANSFER] == 0
    (note,) = [n.message for n in report.quality if n.code == "page_out"]
    assert "100 migrations of unified memory followed for 598 ms" in note


def test_page_out_after_the_last_step_is_not_part_of_it(tmp_path):
    report = analyze(paged_out(tmp_path, steps_of([0], 118)))
    assert spans(report) == (0, 118 * MS)
    assert any(n.code == "page_out" for n in report.quality)


def test_results_that_a_step_reads_are_part_of_the_step(tmp_path):
    report = analyze(paged_out(tmp_path, steps_of([0], 800)))
    assert spans(report) == (0, 800 * MS)
    assert report.devices[0].rows[Row.TRANSFER] == 100 * 20 * US
    assert not any(n.code == "page_out" for n in report.quality)


@pytest.mark.parametrize(("length_ms", "is_said"), [(99, True), (100, False)])
def test_steps_in_less_than_a_tenth_of_the_recording_are_said_to_be_so(
    tmp_path, length_ms, is_said
):
    work, calls = kernels([910, 930], 20)
    start_up = {"start_us": [0], "duration_us": 1_000_000, "correlation_id": 77, "thread": 12}
    start_up |= {"name": "cudaFree"}
    calls = both({**calls, "thread": 11, "name": "cudaLaunchKernel"}, start_up)
    trace = make_trace(tmp_path, kernels=work, api_calls=calls, ranges=steps_of([900], length_ms))
    sentence = analyze(trace).verdict.sentence
    assert sentence.startswith("The steps are 9.9 % of the recording; within them, ") == is_said


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_account_of_whole_steps_closes(tmp_path_factory, data):
    ranks = data.draw(st.integers(1, 2))
    tables = []
    for rank in range(ranks):
        begin = data.draw(st.integers(0, 200))
        at = [begin + 50 * i for i in range(data.draw(st.integers(1, 4)))]
        where = {"process": rank + 1, "thread": 10 * (rank + 1), "device": rank, "stream": 7}
        offsets = [data.draw(st.integers(1, 49)) for _ in at]
        work, calls = kernels(
            [b + o for b, o in zip(at, offsets, strict=True)],
            [data.draw(st.integers(1, 80)) for _ in at],
            first_id=100 * rank,
            **where,
        )
        tables.append((work, calls, steps_of(at, 50, process=rank + 1, thread=10 * (rank + 1))))
    joined = [both(*p) for p in zip(*tables, strict=True)] if ranks > 1 else tables[0]
    trace = make_trace(
        tmp_path_factory.mktemp("h"), kernels=joined[0], api_calls=joined[1], ranges=joined[2]
    )
    analysis = investigate(trace)
    window = analysis.report.window
    assert window.steps
    for device in analysis.report.devices:
        assert sum(device.rows.values()) == window.duration_ns
    segments = analysis.ledger.segments
    for key, of_device in segments.groupby("device"):
        start, end = of_device["start_ns"].to_numpy(), of_device["end_ns"].to_numpy()
        assert (start[0], end[-1]) == (window.start_ns, window.end_ns), key
        assert np.all(start[1:] == end[:-1])
        tail = (of_device["detail"] == Detail.OUTSIDE_CUDA).to_numpy()
        assert np.all(of_device["launch"].to_numpy()[tail] >= 0)


@pytest.mark.parametrize("request_text", ["", "nvtx:ProfilerStep#6", "nvtx:ProfilerStep"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_comparison_books_the_ends_of_a_step_as_the_diagnosis_does(tmp_path, request_text, kept):
    """218 ms before the first kernel; memory is freed for 10 ms after the last one."""
    work, calls = kernels([218, 290], 70)
    free = {"start_us": [362_000], "duration_us": 10_000, "correlation_id": 9, "name": "cudaFree"}
    trace = make_trace(
        tmp_path,
        kernels=work,
        api_calls=both({**calls, "name": "cudaLaunchKernel"}, free),
        ranges=steps_of([0], 382, first=6),
    )
    analysis = investigate(trace)
    report = analysis.report
    stored = RecordingAnalysis(
        window=report.window,
        devices=report.devices,
        segments=analysis.ledger.segments,
        iterations=report.iterations,
        iterations_note=report.iterations_note,
        quality=report.quality,
    )
    side = measure(analysis.facts, request_text, analysis=stored if kept else None)
    (device,) = report.devices
    assert side.ledger_ns.tolist() == [[device.rows[row] for row in ROWS]]
    assert device.rows[Row.MEMORY] == 10 * MS
