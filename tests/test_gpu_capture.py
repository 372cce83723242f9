"""The capture on a GPU machine, as far as it can be tried without one."""

import dataclasses
import gzip
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu_bench, gpu_capture, gpu_outcomes, gpu_recording
from benchmarks.gpu_bench import Bench, Clock, OverError
from benchmarks.gpu_outcomes import JudgedRecording, PairOutcome
from workloads import harness

ROOT = Path(__file__).parents[1]


def outcome(name="launch", cause="launch", **more):
    fields = {"also": (), "seen_by": "timeline", "step_ns": {"baseline": [], "optimized": []}}
    return PairOutcome(name=name, cause=cause, **(fields | more))


def recording(role, cause="", lost_ns=0, tool="torch", **more):
    fields = {"steps": 5, "file": f"{role}.{tool}"}
    return JudgedRecording(role=role, tool=tool, cause=cause, lost_ns=lost_ns, **(fields | more))


def both(slow, fast, **more):
    """Return an outcome of two verdicts, each a cause and a loss."""
    recordings = (recording("baseline", *slow), recording("optimized", *fast))
    return outcome(recordings=recordings, **more)


@pytest.fixture
def bench(tmp_path):
    return Bench("cuda", 2, tmp_path, Clock(600))


# Numbers


def test_a_speed_up_is_the_ratio_of_runs_beside_each_other():
    found = gpu_outcomes.speed_up({"baseline": [200.0, 400.0], "optimized": [100.0, 200.0]})
    assert found == {
        "times": pytest.approx(2),
        "low": pytest.approx(2),
        "high": pytest.approx(2),
        "runs": 2,
    }


def test_one_run_has_no_interval():
    assert gpu_outcomes.speed_up({"baseline": [2.0], "optimized": [1.0]}) is None
    assert gpu_outcomes.speed_up({"baseline": [2.0, 2.0], "optimized": []}) is None


def test_the_interval_mostly_holds_the_truth():
    """Of 200 captures of 20 noisy runs, about 95 % of the intervals hold the true ratio of 3."""
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        noise = random.normal(0, 0.1, size=(2, 20))
        runs = {"baseline": list(3 * np.exp(noise[0])), "optimized": list(np.exp(noise[1]))}
        found = gpu_outcomes.speed_up(runs)
        inside += found["low"] <= 3 <= found["high"]
    assert 176 <= inside <= 199


@pytest.mark.parametrize(
    ("slow", "fast", "right"),
    [
        (("launch", 900), ("healthy", 0), True),
        (("launch", 900), ("sync", 100), True),
        (("launch", 900), ("launch", 450), True),
        (("launch", 900), ("launch", 451), False),
        (("sync", 900), ("healthy", 0), False),
        (("healthy", 0), ("healthy", 0), False),
        (("unknown", 0), ("healthy", 0), None),
        (("launch", 900), ("", 0), None),
    ],
)
def test_whyslow_is_right_when_it_names_the_cause_and_sees_it_go(slow, fast, right):
    assert gpu_outcomes.holds(both(slow, fast)) is right


def test_another_name_of_the_same_trouble_is_right():
    assert gpu_outcomes.holds(both(("sync", 9), ("healthy", 0), cause="memory", also=("sync",)))


def test_a_cause_inside_kernels_is_judged_by_counters_alone():
    timeline = both(("healthy", 0), ("healthy", 0), cause="divergence", seen_by="counters")
    assert gpu_outcomes.holds(timeline) is None
    counters = (
        recording("baseline", "divergence", 800, tool="ncu"),
        recording("optimized", "healthy", tool="ncu"),
    )
    found = dataclasses.replace(timeline, recordings=(*timeline.recordings, *counters))
    assert gpu_outcomes.holds(found) is True


def test_losses_are_compared_per_step():
    slow = recording("baseline", "bandwidth", 1000, steps=10)
    fast = recording("optimized", "bandwidth", 200, steps=1)
    assert gpu_outcomes.holds(outcome(cause="bandwidth", recordings=(slow, fast))) is False


def test_nsys_answers_where_the_torch_trace_could_not():
    silent = recording("baseline", file="", note="no trace")
    heard = recording("baseline", "launch", 5, tool="nsys")
    assert gpu_outcomes.deciding(outcome(recordings=(silent, heard)), "baseline") is heard


def test_a_trace_of_short_steps_holds_more_of_them():
    assert gpu_capture.traced_steps([150e3, 150e3, 9e9]) == 200  # 30 ms of 0.15 ms
    assert gpu_capture.traced_steps([1e6]) == 30
    assert gpu_capture.traced_steps([30e6]) == gpu_capture.TRACED_STEPS
    assert gpu_capture.traced_steps([1]) == gpu_capture.MOST_TRACED_STEPS
    assert gpu_capture.traced_steps([]) == gpu_capture.TRACED_STEPS


# Kernels and counters

EAGER = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::Add<float>, array<char*, 2> >"
)


@pytest.mark.parametrize(
    ("kernel", "base"),
    [
        (f"{EAGER}(int, Add<float>)", "vectorized_elementwise_kernel"),
        ("void (anonymous namespace)::softmax<float>(float*)", "softmax"),
        ("ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn"),
        ("advance_1(Array<int, 1, C>)", "advance_1"),
    ],
)
def test_a_kernel_is_named_as_ncu_compares(kernel, base):
    assert gpu_recording.base_name(kernel) == base


def trace_of(path, kernels, calls=(), measured=(1000, 1000)):
    """Write a torch trace with a measured part, kernels (name, start, length) and calls."""
    pid, tid = 700, 701
    start, length = measured
    events = [
        {"ph": "X", "cat": "user_annotation", "name": "measure", "ts": start, "dur": length}
        | {"pid": pid, "tid": tid, "args": {}}
    ]
    for number, (name, ts, dur) in enumerate(kernels, start=1):
        shape = {"grid": [4096, 1, 1], "block": [128, 1, 1], "device": 0, "stream": 7}
        events.append(
            {"ph": "X", "cat": "kernel", "name": name, "ts": ts, "dur": dur, "pid": 0, "tid": 7}
            | {"args": shape | {"correlation": number}}
        )
    for number, (ts, dur) in enumerate(calls, start=1):
        events.append(
            {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": ts, "dur": dur}
            | {"pid": pid, "tid": tid, "args": {"correlation": number}}
        )
    gpu = {"id": 0, "name": "NVIDIA H100", "numSms": 132, "computeMajor": 9, "computeMinor": 0}
    text = json.dumps({"schemaVersion": 1, "deviceProperties": [gpu], "traceEvents": events})
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_only_kernels_that_hold_the_measured_time_are_profiled(tmp_path):
    kernels = [
        ("setup_kernel", 10, 900),  # before the measured part
        ("void a::big<float>(int)", 1000, 500),
        ("middle", 1500, 400),
        ("small", 1900, 100),
        ("odd[abi:v1](int)", 1950, 1),
    ]
    trace = trace_of(tmp_path / "trace.json.gz", kernels)
    assert gpu_recording.kernels_that_hold_the_time(trace) == ["big", "middle"]
    odd = trace_of(tmp_path / "odd.json.gz", [("advance[abi:v1](int)", 1000, 9), ("a", 1010, 1)])
    assert (
        gpu_recording.kernels_that_hold_the_time(odd) == []
    )  # no filter is better than a wrong one


class Child:
    """Stands for the programs that are run: takes notes, writes what it was told to."""

    def __init__(self, monkeypatch, answer):
        self.commands = []
        self.answer = answer
        monkeypatch.setattr(gpu_bench, "run_command", self)
        monkeypatch.setattr(gpu_capture.shutil, "which", lambda name: f"/bin/{name}")

    def __call__(self, command, limit_s):
        assert limit_s > 0
        self.commands.append([str(part) for part in command])
        return self.answer(self.commands[-1])


def test_ncu_leaves_the_clocks_alone_and_profiles_few_launches(bench, monkeypatch):
    def answer(command):
        Path(command[command.index("-o") + 1]).write_bytes(b"NVR")
        return 0, ""

    trace_of(bench.folder / "divergence_baseline.torch.json.gz", [("advance", 1100, 50)])
    child = Child(monkeypatch, answer)
    report = gpu_recording.record_ncu(bench, "divergence_baseline", 2)
    assert report.name == "divergence_baseline.ncu-rep"
    (command,) = child.commands
    text = " ".join(command)
    assert "--clock-control none" in text
    assert "--kernel-name regex:^(advance)$" in text
    assert f"--launch-count {gpu_recording.LAUNCHES}" in text
    assert "--nvtx --nvtx-include step/" in text
    assert "-m workloads.divergence_baseline --device cuda" in text


def test_ncu_is_tried_without_ranges_when_it_saw_no_kernel_in_one(bench, monkeypatch):
    def answer(command):
        if "--nvtx" not in command:
            Path(command[command.index("-o") + 1]).write_bytes(b"NVR")
        return 0, "==WARNING== No kernels were profiled."

    child = Child(monkeypatch, answer)
    assert gpu_recording.record_ncu(bench, "divergence_baseline", 2).is_file()
    assert len(child.commands) == 2


def test_counters_that_may_not_be_read_are_told_with_the_way_out(bench, monkeypatch):
    Child(monkeypatch, lambda _: (1, "==ERROR== ERR_NVGPUCTRPERM - no permission\nbye\n"))
    with pytest.raises(RuntimeError, match="NVreg_RestrictProfilingToAdminUsers"):
        gpu_recording.record_ncu(bench, "divergence_baseline", 2)


def test_success_of_nsys_is_a_report_and_not_its_exit_status(bench, monkeypatch):
    def failing_but_writing(command):
        if command[1] == "profile":
            Path(command[command.index("-o") + 1]).write_bytes(b"report")
            return 143, "killed"
        target = next(part for part in command if part.startswith("--output="))
        Path(target.removeprefix("--output=")).write_bytes(b"SQLite")
        return 0, ""

    Child(monkeypatch, failing_but_writing)
    assert gpu_recording.record_nsys(bench, "sync_baseline", 5).name == "sync_baseline.nsys.sqlite"
    Child(monkeypatch, lambda _: (0, "Importer error status\n"))
    with pytest.raises(RuntimeError, match="no report"):
        gpu_recording.record_nsys(bench, "sync_optimized", 5)


# What goes wrong


def test_one_pair_that_fails_does_not_stop_the_others(bench, monkeypatch):
    def answer(command):
        if "sync" in command:
            return 3, "Traceback\ngpu_capture: needs numba\n"
        Path(command[-1]).write_text(
            json.dumps(
                {
                    "runs": {
                        role: [summary(ns)] * 2 for role, ns in (("baseline", 9), ("optimized", 3))
                    },
                    "traced": {},
                }
            )
        )
        return 0, ""

    Child(monkeypatch, answer)
    monkeypatch.setattr(gpu_capture.shutil, "which", lambda _: None)
    pairs = [p for p in harness.pairs() if p.name in ("launch", "sync")]
    (launch, sync), environment = gpu_capture.capture(bench, pairs)
    assert sync.note == "gpu_capture: needs numba"
    assert launch.note == ""
    assert launch.agree is True
    assert gpu_outcomes.speed_up(launch.step_ns)["times"] == pytest.approx(3)
    assert environment == {"gpu": "H100"}
    text = gpu_outcomes.table([launch, sync], environment, "cuda")
    assert "| launch | launch | not recorded | not recorded | cannot tell | 3.00 times" in text
    assert "- sync: gpu_capture: needs numba" in text


def summary(step_ns):
    return {
        "total_ns": [step_ns * 4],
        "steps": 4,
        "repeat": 1,
        "result": {"values": [1.0], "rtol": 1e-4},
        "environment": {"gpu": "H100"},
    }


def test_a_spent_budget_ends_the_capture_and_not_the_table(tmp_path, monkeypatch):
    child = Child(monkeypatch, lambda _: (0, ""))
    monkeypatch.setattr(gpu_capture, "_has_gpu", lambda: True)
    assert gpu_capture.main(["--out", str(tmp_path), "--budget-s", "0"]) == 0
    assert child.commands == []
    text = (tmp_path / gpu_outcomes.TABLE).read_text(encoding="utf-8")
    assert text.count("the budget is spent") >= len(harness.pairs())


def test_a_child_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    marker = tmp_path / "still here"
    script = f"(sleep 2; touch '{marker}') & sleep 60"
    start = time.monotonic()
    status, _ = gpu_bench.run_command(["sh", "-c", script], 0.3)
    assert status is None
    assert time.monotonic() - start < 30
    time.sleep(2.5)
    assert not marker.exists()


def test_the_message_of_a_failure_is_its_last_line(bench):
    with pytest.raises(RuntimeError, match=r"^ValueError: deep down$"):
        bench.child([sys.executable, "-c", "raise ValueError('deep down')"])
    with pytest.raises(OverError):
        dataclasses.replace(bench, clock=Clock(0)).child(["true"])
    log = (bench.folder / gpu_outcomes.LOG).read_text(encoding="utf-8")
    assert str(bench.folder) not in log
    assert sys.executable not in log


def test_what_cannot_be_done_is_refused_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_capture, "_has_gpu", lambda: False)
    assert gpu_capture.main(["--out", str(tmp_path / "new")]) == 3
    assert gpu_capture.main(["--pairs", "nothing"]) == 2
    assert gpu_capture.main(["--judge", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "no NVIDIA GPU" in lines[0]
    assert "no pair 'nothing'; there are" in lines[1]
    assert not (tmp_path / "new").exists()


# Packing


def test_recordings_fit_into_few_archives_and_the_rest_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_outcomes, "ARCHIVE_BYTES", 10_000)
    folder, out = tmp_path / "made", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    sizes = [3000, 100, 4000, 5000, 7000, 7000, 7000, 7000, 20_000]
    recordings = []
    for number, size in enumerate(sizes):
        (folder / f"r{number}").write_bytes(b"x" * size)
        (folder / f"r{number}.workload.json").write_text("{}")
        recordings.append(recording("baseline", file=f"r{number}"))
    left_out = gpu_outcomes.pack(folder, out, [outcome(recordings=tuple(recordings))])
    archives = sorted(out.glob("*.tar"))
    assert 1 < len(archives) <= gpu_outcomes.ARCHIVES
    packed = []
    for archive in archives:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
        assert sum(m.size for m in members) <= 10_000
        assert {(m.uid, m.uname) for m in members} == {(0, "")}
        packed += [m.name for m in members if not m.name.endswith(".workload.json")]
    assert sorted([*packed, *left_out]) == [f"r{n}" for n in range(len(sizes))]
    assert "r8" in left_out


# From recordings to the table


def test_recordings_of_another_machine_are_judged(tmp_path):
    """A program that launches too late and one that does not, as a GPU machine would leave them."""
    late = [(f"void ns::tiny<{n % 2}>(int)", 1000 + 20 * n + 12, 2) for n in range(40)]
    trace_of(tmp_path / "slow.json.gz", late, [(1000 + 20 * n, 10) for n in range(40)])
    early = [("void ns::large<1>(int)", 1010 + 100 * n, 100) for n in range(9)]
    trace_of(tmp_path / "fast.json.gz", early, [(1000 + 10 * n, 5) for n in range(9)])
    with tarfile.open(tmp_path / "recordings_1.tar", "w") as tar:
        for name in ("slow.json.gz", "fast.json.gz"):
            tar.add(tmp_path / name, name)
    recordings = (
        recording("baseline", file="slow.json.gz", note="not judged: no module named msgspec"),
        recording("optimized", file="fast.json.gz"),
        recording("baseline", tool="nsys", file="lost.sqlite"),
    )
    times = {"baseline": [800.0, 808.0], "optimized": [100.0, 101.0]}
    before = outcome(recordings=recordings, step_ns=times)
    gpu_outcomes.write(tmp_path, [before], {"gpu": "NVIDIA H100"}, "cuda")
    assert gpu_capture.main(["--judge", str(tmp_path)]) == 0
    found = json.loads((tmp_path / gpu_outcomes.RESULTS).read_text(encoding="utf-8"))
    (pair,) = found["pairs"]
    assert pair["holds"] is True
    slow, fast, lost = pair["recordings"]
    assert (slow["cause"], fast["cause"], lost["note"]) == ("launch", "healthy", "in no archive")
    # Each kernel of 2 µs begins 20 µs after the one before: 39 gaps of 18 µs, and the first.
    assert slow["lost_ns"] == pytest.approx(39 * 18_000, rel=0.05)
    text = (tmp_path / gpu_outcomes.TABLE).read_text(encoding="utf-8")
    assert "| launch | launch | launch (torch) | healthy (torch) | yes | 8.00 times" in text
    assert "lost.sqlite" not in text


def test_a_machine_without_whyslows_libraries_is_told_once_what_is_missing(bench, monkeypatch):
    child = Child(monkeypatch, lambda _: (1, "ModuleNotFoundError: No module named 'msgspec'\n"))
    pair = outcome(recordings=(recording("baseline"), recording("optimized", file="", note="no")))
    first, second = gpu_capture.judge(bench, [pair, pair])
    assert len(child.commands) == 1
    assert "No module named 'msgspec'; try --judge" in first.recordings[0].note
    assert second.recordings[1].note == "no"
    for name in gpu_capture.READERS:
        __import__(name)


@pytest.mark.soak
def test_without_a_gpu_the_same_machinery_runs_on_the_cpu(tmp_path):
    pytest.importorskip("torch", reason="the workloads need torch")
    command = [sys.executable, "-m", "benchmarks.gpu_capture", "--device", "cpu", "--runs", "2"]
    done = subprocess.run(
        [*command, "--pairs", "launch", "--out", str(tmp_path)],
        cwd=ROOT,
        env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT)},  # without nsys, which takes its time
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "no GPU: a smoke test" in done.stdout
    assert "| launch | launch | unknown (torch) | unknown (torch) | cannot tell |" in done.stdout
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"results.json", "table.md", "log.txt", "recordings_1.tar"}
    (pair,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["pairs"]
    assert pair["agree"] is True
    assert [len(pair["step_ns"][role]) for role in harness.ROLES] == [2, 2]
    assert min(pair["step_ns"]["baseline"]) > max(pair["step_ns"]["optimized"])  # 100 times less
    assert [r["note"] for r in pair["recordings"]] == ["", ""]
