"""What the reader is told about the capture before any verdict."""

import numpy as np
import pytest

from analyzers import analyze
from analyzers.finding import Row
from tests.traces_in_memory import make_trace


def launched(count=4, **tables):
    """Kernels of 10 µs every 20 µs, launched 5 µs before; further tables on top."""
    ids = list(range(1, count + 1))
    return {
        "kernels": {
            "start_us": [20 * i for i in range(count)],
            "duration_us": 10,
            "correlation_id": ids,
        },
        "api_calls": {
            "start_us": [20 * i - 5 for i in range(count)],
            "duration_us": 3,
            "correlation_id": ids,
        },
        **tables,
    }


def notes(folder, **tables):
    return {q.code: q for q in analyze(make_trace(folder, **tables)).quality}


def test_a_clean_capture_has_no_notes(tmp_path):
    assert notes(tmp_path, **launched()) == {}


def test_no_cuda_at_all_forbids_a_verdict(tmp_path):
    report = analyze(make_trace(tmp_path, ranges={"start_us": [0], "duration_us": 5}))
    assert report.verdict.cause == "unknown"
    assert report.quality[0].level == "error"
    assert "only 1 NVTX range." in report.quality[0].message
    assert "nsys profile" in report.quality[0].message


def test_calls_without_gpu_rows_are_told_apart_from_no_cuda(tmp_path):
    only_calls = {"api_calls": {"start_us": [0], "duration_us": 5, "correlation_id": 1}}
    message = notes(tmp_path, **only_calls)["no_gpu_work"].message
    assert "CUDA was traced" in message


def test_a_single_operation_forbids_a_verdict(tmp_path):
    report = analyze(make_trace(tmp_path, **launched(1)))
    assert report.verdict.cause == "unknown"
    assert report.quality[0].code == "one_operation"


def test_kernels_without_calls_are_counted(tmp_path):
    tables = launched(10)
    tables["api_calls"]["correlation_id"] = [*range(1, 9), 98, 99]
    assert notes(tmp_path, **tables)["orphan_kernels"].message.startswith("2 of 10 kernels")


def test_mostly_unexplained_idle_time_is_unknown_not_a_guess(tmp_path):
    tables = launched(10)
    tables["api_calls"]["correlation_id"] = [*range(101, 111)]
    report = analyze(make_trace(tmp_path, **tables))
    assert report.verdict.cause == "unknown"
    assert "cannot be explained" in report.verdict.sentence


def test_whole_graphs_hide_kernels(tmp_path):
    tables = launched()
    tables["graph_launches"] = {"start_us": [200, 300], "duration_us": 50}
    message = notes(tmp_path, **tables)["graph_level"].message
    assert "2 CUDA graph launches" in message
    assert "--cuda-graph-trace=node" in message


@pytest.mark.parametrize(
    ("text", "is_loss"),
    [
        ("Not all CUDA events might have been collected.", True),
        ("12 events were dropped", True),
        ("CUDA trace data loss: 1,204 events could not be recorded", True),
        ("The CUPTI buffers overflowed", True),
        ("0 events were lost", False),
        ("Number of dropped samples: 0", False),
        ("Number of CUDA events collected: 4639.", False),
        ("No NVTX events collected. Does the process use NVTX?", False),
    ],
)
def test_only_messages_about_loss_are_taken_for_loss(tmp_path, text, is_loss):
    diagnostics = {"time_us": [0], "severity": 2, "text": [text]}
    found = notes(tmp_path, **launched(), diagnostics=diagnostics)
    assert ("recorder_reported_loss" in found) == is_loss


def test_a_slow_first_iteration_is_warm_up(tmp_path):
    """Steps of 50, 20, 20 and 20 µs, each with one kernel."""
    starts = [0, 50, 70, 90]
    found = notes(
        tmp_path,
        kernels={
            "start_us": [s + 5 for s in starts],
            "duration_us": 5,
            "correlation_id": [1, 2, 3, 4],
        },
        api_calls={
            "start_us": [s + 1 for s in starts],
            "duration_us": 2,
            "correlation_id": [1, 2, 3, 4],
        },
        ranges={"start_us": starts, "duration_us": [49, 19, 19, 19], "name": "step"},
    )
    assert "2.6 times as long" in found["warm_up"].message


def _warm_up_loop():
    """The same with a kernel that fills each step, so that every step is inside the window."""
    starts, lengths = [0, 50, 70, 90, 110], [50, 20, 20, 20, 20]
    ids = [1, 2, 3, 4, 5]
    return {
        "kernels": {"start_us": starts, "duration_us": lengths, "correlation_id": ids},
        "api_calls": {"start_us": starts, "duration_us": 0.001, "correlation_id": ids},
        "ranges": {"start_us": starts, "duration_us": lengths, "name": "step"},
    }


def test_loading_modules_inside_the_window_is_said(tmp_path):
    tables = launched()
    calls = tables["api_calls"]
    tables["api_calls"] = {
        "start_us": [*calls["start_us"], 11],
        "duration_us": [3, 3, 3, 3, 3],
        "correlation_id": [*calls["correlation_id"], 50],
        "name": ["cudaLaunchKernel"] * 4 + ["cuModuleLoadData"],
    }
    assert "setup_inside" in notes(tmp_path, **tables)


def test_the_profiler_s_own_time_is_said(tmp_path):
    overheads = {"start_us": [10, 30], "duration_us": 5, "name": "CUDA profiling data flush"}
    found = notes(tmp_path, **launched(), overheads=overheads)
    assert "profiler_overhead" in found


def test_clocks_that_disagree_are_said(tmp_path):
    tables = launched()
    tables["api_calls"]["start_us"] = [20 * i + 2 for i in range(4)]
    assert "clock_skew" in notes(tmp_path, **tables)


def test_one_iteration_as_the_window_is_said(tmp_path):
    report = analyze(make_trace(tmp_path, **_warm_up_loop()), "iteration:2")
    assert "one_iteration" in {q.code for q in report.quality}


def test_programmatic_overlap_on_a_stream_is_no_double_count(tmp_path):
    tables = launched()
    tables["kernels"]["duration_us"] = 25
    report = analyze(make_trace(tmp_path, **tables))
    assert "stream_overlap" in {q.code for q in report.quality}
    assert report.devices[0].rows["kernel"] == report.window.duration_ns


def test_gpus_that_were_hardly_used_are_named_and_left_out_of_the_verdict(tmp_path):
    # GPU 0 is busy for 1 s; the others get one memset, as libraries do when they start.
    tables = {
        "kernels": {
            "start_us": 100 + 1_000 * np.arange(1_000),
            "duration_us": 999,
            "correlation_id": np.arange(1_000),
        },
        "memsets": {
            "start_us": [10, 20, 30],
            "duration_us": 2,
            "device": [1, 2, 3],
            "correlation_id": [2_001, 2_002, 2_003],
        },
        "api_calls": {
            "start_us": [5, 15, 25, *(50 + 10 * np.arange(1_000))],
            "duration_us": 4,
            "correlation_id": [2_001, 2_002, 2_003, *range(1_000)],
        },
    }
    report = analyze(make_trace(tmp_path, **tables))
    assert report.verdict.cause == "healthy"
    note = next(n for n in report.quality if n.code == "unused_devices")
    assert all(f"GPU {device}" in note.message for device in (1, 2, 3))
    assert "GPU 0" not in note.message


def test_a_window_after_the_last_operation_has_no_verdict(tmp_path):
    # The last kernel ends at 30 µs; one more call follows at 900.
    tables = launched(2)
    tables["api_calls"] = {
        "start_us": [-5, 15, 900],
        "duration_us": 3,
        "correlation_id": [1, 2, 3],
    }
    report = analyze(make_trace(tmp_path, **tables), "span:100000-500000")
    assert report.verdict.cause == "unknown"
    assert report.quality[0].code == "nothing_wanted"


def test_time_in_whole_graphs_is_never_called_examined(tmp_path):
    step = 1_000 * np.arange(10)
    report = analyze(
        make_trace(
            tmp_path,
            graph_launches={"start_us": step, "duration_us": 990, "correlation_id": np.arange(10)},
            api_calls={
                "name": "cudaGraphLaunch",
                "start_us": 3 * np.arange(10) - 100,
                "duration_us": 2,
                "correlation_id": np.arange(10),
            },
        )
    )
    assert "--cuda-graph-trace=node" in report.verdict.sentence
    assert "ncu" not in report.verdict.sentence


def lossy(lost, *, late=0, status=0):
    """Twenty launches of which these have no kernel, then ``late`` more that had no time to run."""
    ids = np.arange(20 + late)
    ran = np.array([i for i in range(20) if i not in lost])
    return {
        "kernels": {"start_us": 20 * ran + 5, "duration_us": 10, "correlation_id": ran},
        "api_calls": {
            "start_us": 20 * ids,
            "duration_us": 3,
            "correlation_id": ids,
            "status": status,
        },
    }


def test_launches_whose_kernels_were_lost_are_said_and_many_forbid_a_verdict(tmp_path):
    few = analyze(make_trace(tmp_path / "few", **lossy({5})))
    assert next(n.level for n in few.quality if n.code == "launch_no_kernel") == "warning"
    many = analyze(make_trace(tmp_path / "many", **lossy({5, 6, 7})))
    assert many.verdict.cause == "unknown"
    assert "3 of 20 launch calls" in many.verdict.sentence


def test_launches_still_queued_at_the_end_and_failed_ones_are_not_lost_kernels(tmp_path):
    assert "launch_no_kernel" not in notes(tmp_path / "queued", **lossy(set(), late=10))
    failed = [1 if i in (5, 6, 7) else 0 for i in range(20)]
    assert "launch_no_kernel" not in notes(tmp_path / "failed", **lossy({5, 6, 7}, status=failed))


def test_launches_that_were_captured_into_a_graph_are_not_lost_kernels(tmp_path):
    tables = lossy({5, 6, 7})
    calls = tables["api_calls"]
    names = ["cudaLaunchKernel"] * 20 + ["cudaStreamBeginCapture", "cudaStreamEndCapture"]
    tables["api_calls"] = {
        "name": names,
        "start_us": [*calls["start_us"], 98, 158],
        "duration_us": 1,
        "correlation_id": np.arange(22),
    }
    assert "launch_no_kernel" not in notes(tmp_path, **tables)


def test_kernels_that_share_a_call_which_launches_only_one_are_said(tmp_path):
    tables = launched(10)
    tables["kernels"]["correlation_id"] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    assert "2 of 10 kernels" in notes(tmp_path, **tables)["correlation_ambiguous"].message
    tables["api_calls"]["name"] = "cudaGraphLaunch"  # one call, many kernels
    assert "correlation_ambiguous" not in notes(tmp_path / "graph", **tables)


@pytest.mark.parametrize(("unnamed", "level"), [(1, "warning"), (3, "error")])
def test_calls_without_names_are_said_and_many_forbid_a_verdict(tmp_path, unnamed, level):
    tables = launched(20)
    tables["api_calls"]["name"] = ["(name 7 is missing)"] * unnamed + ["cudaLaunchKernel"] * (
        20 - unnamed
    )
    assert notes(tmp_path, **tables)["unnamed_calls"].level == level


def test_launches_that_another_thread_captures_are_not_lost_kernels(tmp_path):
    tables = lossy({5, 6, 7})
    calls = tables["api_calls"]
    tables["api_calls"] = {
        "name": ["cudaLaunchKernel"] * 20 + ["cudaStreamBeginCapture", "cudaStreamEndCapture"],
        "start_us": [*calls["start_us"], 98, 158],
        "duration_us": 1,
        "thread": [11] * 20 + [12] * 2,
        "correlation_id": np.arange(22),
    }
    assert "launch_no_kernel" not in notes(tmp_path, **tables)


def test_a_driver_call_inside_a_runtime_call_is_the_same_launch(tmp_path):
    ids = np.arange(20)
    tables = {
        "kernels": {"start_us": 20 * ids + 9, "duration_us": 10, "correlation_id": ids},
        "api_calls": {
            "name": ["cudaLaunchKernel"] * 20 + ["cuLaunchKernel"] * 20,
            "start_us": [*(20 * ids), *(20 * ids + 1)],
            "duration_us": [6] * 20 + [3] * 20,
            "correlation_id": [*ids, *(100 + ids)],
        },
    }
    assert "launch_no_kernel" not in notes(tmp_path, **tables)


@pytest.mark.parametrize(("unfinished", "level"), [(1, "warning"), (2, "error")])
def test_launches_at_the_end_without_kernels_are_said_and_a_tenth_forbids_a_verdict(
    tmp_path, unfinished, level
):
    report = analyze(make_trace(tmp_path, **lossy(set(range(20 - unfinished, 20)))))
    note = next(n for n in report.quality if n.code == "launch_unfinished")
    assert note.level == level
    assert note.message.startswith(
        f"{unfinished} of 20 launch calls, the last ones, have no kernel"
    )
    assert (report.verdict.cause == "unknown") == (level == "error")


def test_kernels_that_lost_their_calls_may_belong_to_the_last_launches(tmp_path):
    tables = lossy({18, 19})
    tables["kernels"]["correlation_id"][:2] = [501, 502]
    assert "launch_unfinished" not in notes(tmp_path, **tables)


def test_kernels_that_share_a_call_may_belong_to_the_last_launches(tmp_path):
    tables = lossy(set())
    ids = list(tables["kernels"]["correlation_id"])
    tables["kernels"]["correlation_id"] = [*ids[:-2], *ids[:2]]  # of another process, by its ids
    assert "launch_unfinished" not in notes(tmp_path, **tables)


@pytest.mark.parametrize("silent", [1, 2])
def test_graphs_that_ran_without_a_trace_forbid_a_verdict(tmp_path, silent):
    tables = launched(20)
    calls = tables["api_calls"]
    tables["api_calls"] = {
        "name": ["cudaLaunchKernel"] * 20 + ["cudaGraphLaunch"] * silent,
        "start_us": [*calls["start_us"], *(7 + 20 * i for i in range(silent))],
        "duration_us": 1,
        "correlation_id": [*calls["correlation_id"], *range(900, 900 + silent)],
    }
    report = analyze(make_trace(tmp_path, **tables))
    assert (report.verdict.cause == "unknown") == (silent == 2)
    if silent == 2:
        assert report.verdict.sentence.startswith(
            "Could not tell: 2 of 2 CUDA graph launches have no work in the recording"
        )


def queued(folder, pauses_us, *more_calls):
    """Kernels of 100 µs that were submitted long before, with these pauses between them."""
    starts = 1_000 + np.concatenate(([0], np.cumsum(100 + np.array(pauses_us))))
    count = len(starts)
    return analyze(
        make_trace(
            folder,
            kernels={
                "start_us": starts,
                "duration_us": 100,
                "correlation_id": np.arange(1, count + 1),
            },
            api_calls={
                "name": ["cudaLaunchKernel"] * count + [c[0] for c in more_calls],
                "start_us": [*range(count), *(c[1] for c in more_calls)],
                "duration_us": 0.5,
                "correlation_id": np.arange(1, count + len(more_calls) + 1),
            },
        )
    )


def test_pauses_of_one_length_in_a_full_queue_point_to_another_process(tmp_path):
    report = queued(tmp_path, [1, 2_670] * 6)
    assert report.verdict.cause == "unknown"
    assert "it was queued, and no wait was recorded" in report.verdict.sentence
    assert "6 of 6 long pauses last 2.66 ms, as turns on a shared GPU do" in report.verdict.sentence
    assert "Check nvidia-smi." in report.verdict.sentence
    assert report.devices[0].rows[Row.DEPENDENCY] == 0


def test_pauses_of_any_length_in_a_full_queue_are_not_called_turns(tmp_path):
    message = queued(tmp_path, [1, 300, 1, 900, 1, 2_700, 1, 8_100, 1]).verdict.sentence
    assert "long pauses last" not in message
    assert "no calls about events" in message


def test_a_recording_with_events_may_not_have_lost_waits(tmp_path):
    pauses = [1, 300, 1, 900, 1, 2_700, 1, 8_100, 1]
    message = queued(tmp_path, pauses, ("cudaEventRecord", 900)).verdict.sentence
    assert "no calls about events" not in message
    assert "Does another process use this GPU? Check nvidia-smi." in message


@pytest.mark.parametrize(
    ("lost", "words"), [(1, "1 of 4 kernels has no"), (2, "2 of 4 kernels have no")]
)
def test_one_kernel_without_a_call_is_written_of_in_the_singular(tmp_path, lost, words):
    tables = launched()
    calls = {
        name: column[lost:] for name, column in tables["api_calls"].items() if name != "duration_us"
    }
    note = notes(tmp_path, **{**tables, "api_calls": {**calls, "duration_us": 3}})["orphan_kernels"]
    assert words in note.message
