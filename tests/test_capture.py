"""What is recorded of a program is what it did."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from captures import files, opening
from captures.store import RunState, State
from library import cache
from tests.capture_runs import (
    ANNOTATED,
    has_module,
    isolated_data,
    needs_nsys,
    needs_nvtx,
    only_capture,
    run,
    script,
)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    yield from isolated_data(tmp_path, monkeypatch)


needs_torch = pytest.mark.skipif(not has_module("torch"), reason="torch is not installed")


@needs_nsys
@needs_nvtx
def test_the_ranges_of_a_program_are_recorded_and_open(tmp_path):
    done = run("--repeat", 2, "--out", tmp_path / "out", "--", sys.executable,
               script(tmp_path, ANNOTATED), 20)  # fmt: skip
    assert done.returncode == 0, done.stderr
    capture = only_capture()
    assert capture.state is State.DONE
    assert [run.number for run in capture.runs] == [1, 2]
    for recorded in capture.runs:
        assert Path(recorded.recording).parent == tmp_path / "out"
        trace = cache.get(recorded.trace)
        assert opening.range_counts(trace) == {"step": 20, "inner": 20}
        ranges = trace.frame("ranges")
        lasted = (ranges["end_ns"] - ranges["start_ns"]) / 1e6
        outer = lasted[trace.names(ranges["name_id"].to_numpy()) == "step"]
        assert outer.min() >= 12.0  # both sleeps; how much longer is the machine's affair
        assert outer.sum() <= 1e3 * recorded.seconds
    assert [run.recording in done.stdout for run in capture.runs] == [True, True]


def test_nothing_is_overwritten_in_a_folder_that_is_used_again(tmp_path):
    first = files.free_path(tmp_path, "program-nsys-1", ".nsys-rep")
    assert first.name == "program-nsys-1.nsys-rep"
    first.touch()
    second = files.free_path(tmp_path, "program-nsys-1", ".nsys-rep")
    assert second.name == "program-nsys-1_2.nsys-rep"
    # What lies beside a recording belongs to it, even where the recording is missing.
    second.with_name(second.name + ".telemetry.sqlite").touch()
    third = files.free_path(tmp_path, "program-nsys-1", ".nsys-rep")
    assert third.name == "program-nsys-1_3.nsys-rep"


@needs_torch
def test_a_program_that_knows_nothing_of_whyslow_is_recorded_by_torch(tmp_path):
    program = script(
        tmp_path,
        """
        import torch
        for _ in range(7):
            with torch.profiler.record_function("my step"):
                torch.ones(3).sum()
        """,
    )
    done = run("--with", "torch", "--", sys.executable, program)
    assert done.returncode == 0, done.stderr
    trace = cache.get(only_capture().runs[0].trace)
    assert opening.range_counts(trace)["my step"] == 7


@needs_torch
def test_a_program_with_a_profiler_of_its_own_keeps_it(tmp_path):
    program = script(
        tmp_path,
        """
        import sys, torch
        torch.ones(3).sum()
        with torch.profiler.profile() as own:
            torch.ones(3).sum()
        names = {event.key for event in own.key_averages()}
        sys.exit(0 if "aten::sum" in names else 1)
        """,
    )
    done = run("--with", "torch", "--", sys.executable, program)
    assert done.returncode == 0, done.stderr
    (recorded,) = only_capture().runs
    assert any("profiler of its own" in note for note in recorded.notes)
    assert not any("exit status" in note for note in recorded.notes)


def test_a_program_without_torch_says_why_there_is_no_trace(tmp_path):
    done = run("--with", "torch", "--", sys.executable, script(tmp_path, "print(1)"))
    assert done.returncode == 2
    assert "imported torch" in done.stderr
    assert only_capture().state is State.FAILED


@needs_nsys
def test_all_tools_means_all_that_can_record_the_program(tmp_path):
    done = run("--with", "all", "--", sys.executable, script(tmp_path, "print(1)"))
    assert done.returncode == 0, done.stderr
    states = {run.tool: run.state for run in only_capture().runs}
    assert (states["nsys"], states["torch"]) == (RunState.DONE, RunState.SKIPPED)
    assert "imported torch" in only_capture().runs[1].error
    failing = script(tmp_path, "raise SystemExit(5)", "failing.py")
    failed = run("--with", "all", "--", sys.executable, failing)
    assert failed.returncode == 5
    assert "exit status 5" in failed.stderr


@needs_torch
@needs_nvtx
@pytest.mark.parametrize("tool", [pytest.param("nsys", marks=needs_nsys), "torch"])
def test_a_workload_is_recorded_with_every_range_that_it_counted(tmp_path, tool):
    done = run(
        "launch_baseline", "--with", tool, "--steps", 4, "--device", "cpu", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    (recorded,) = only_capture().runs
    assert recorded.recording == str(tmp_path / f"launch_baseline-{tool}-1{files.SUFFIXES[tool]}")
    assert recorded.summary == recorded.recording + ".workload.json"
    summary = json.loads(Path(recorded.summary).read_text())
    assert summary["workload"] == "launch_baseline"
    assert summary["ranges"]["step"] == summary["warmup"] + 4
    trace = cache.get(recorded.trace)
    counts = opening.range_counts(trace)
    assert {name: counts[name] for name in summary["ranges"]} == summary["ranges"]
    ranges = trace.frame("ranges")
    lasted = (ranges["end_ns"] - ranges["start_ns"])[
        trace.names(ranges["name_id"].to_numpy()) == "step"
    ].to_numpy()[-4:]
    # The workload timed its steps from just outside the ranges.
    assert (lasted <= np.array(summary["step_ns"]) * 1.001 + 100_000).all()
    assert lasted.sum() >= 0.5 * sum(summary["step_ns"])


@needs_torch
def test_telemetry_is_sampled_beside_a_recording(tmp_path):
    from collectors.telemetry.file import TelemetryFile

    done = run("sync", "--with", "telemetry", "--steps", 2, "--device", "cpu", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    capture = only_capture()
    assert [run.role for run in capture.runs] == ["baseline", "optimized"]
    for recorded in capture.runs:
        for written in (recorded.summary, recorded.telemetry):
            assert Path(written).stat().st_mode & 0o777 == 0o600
        with TelemetryFile(Path(recorded.telemetry)) as file:
            assert file.session() is not None
