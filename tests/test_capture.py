"""A capture leaves a recording that opens, or says why not; it never leaves a process."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli.main as cli
from captures import capturing, files, opening, store
from captures import order as capture_order
from captures.store import RunState, State
from collectors.capture import guard as capture_guard
from collectors.capture import nsys as nsys_run
from collectors.capture import recorded as run_files
from collectors.capture import run as guarded_run
from collectors.capture import tools
from collectors.errors import RefusedError
from library import cache
from reports.capture import capture_summary
from reports.terminal import terminal_text

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0  # for what takes seconds on an idle machine

needs_nsys = pytest.mark.skipif(shutil.which("nsys") is None, reason="nsys is not installed")


def has_module(name):
    ask = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


needs_nvtx = pytest.mark.skipif(not has_module("nvtx"), reason="nvtx is not installed")
needs_torch = pytest.mark.skipif(not has_module("torch"), reason="torch is not installed")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield folder
    left = leftovers(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def leftovers(folder):
    """Return the processes that were started for a capture in ``folder``, samplers included."""
    mark = os.fsencode(f"{capture_guard.MARK}={folder}")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                is_sampler = os.fsencode(folder) in (entry / "cmdline").read_bytes()
                is_sampler &= b"telemetry/sampler.py" in (entry / "cmdline").read_bytes()
                if not is_zombie and (is_sampler or mark in (entry / "environ").read_bytes()):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def script(tmp_path, text, name="program.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "cli", "capture", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def begin(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "capture", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def only_capture():
    (capture,) = store.captures()
    return capture


def pid_in(path):
    """Return the number that a program wrote into ``path``, once it is there."""
    return int(wait_for(lambda: path.exists() and path.read_text()))


ANNOTATED = """
    import nvtx, sys, time
    for step in range(int(sys.argv[1])):
        with nvtx.annotate("step"):
            time.sleep(0.01)
            with nvtx.annotate("inner"):
                time.sleep(0.002)
"""
# Tells its number, then works until it is ended.
ENDLESS = """
    import os, sys, time
    open(sys.argv[1] + ".part", "w").write(str(os.getpid()))
    os.rename(sys.argv[1] + ".part", sys.argv[1])
    while True:
        time.sleep(0.01)
"""


# What was recorded is what the program did.


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
    assert failed.returncode == 2
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
        assert Path(recorded.summary).is_file()
        with TelemetryFile(Path(recorded.telemetry)) as file:
            assert file.session() is not None


# Processes end, whoever is killed.


@needs_nsys
def test_a_killed_program_leaves_no_process_and_its_recording_opens(tmp_path, data):
    told = tmp_path / "pid"
    asked = begin("--", sys.executable, script(tmp_path, ENDLESS), told)
    os.kill(pid_in(told), signal.SIGKILL)
    out, _ = asked.communicate(timeout=PATIENCE_S)
    assert leftovers(data) == []
    (recorded,) = only_capture().runs
    assert recorded.state is RunState.DONE
    assert "SIGKILL" in recorded.notes[0]
    assert recorded.recording in out


@needs_nsys
def test_a_killed_nsys_leaves_no_process_and_a_sentence(tmp_path, data):
    told = tmp_path / "pid"
    asked = begin("--", sys.executable, script(tmp_path, ENDLESS), told)
    pid_in(told)
    nsys = wait_for(lambda: [p for p in leftovers(data) if "profile" in command_of(p)[1:2]])
    os.kill(nsys[0], signal.SIGKILL)
    _, said = asked.communicate(timeout=PATIENCE_S)
    assert leftovers(data) == []
    assert asked.returncode == 2
    assert "nsys was ended by SIGKILL" in said
    capture = only_capture()
    assert (capture.state, capture.runs[0].state) == (State.FAILED, RunState.FAILED)


@needs_nsys
def test_a_killed_capture_leaves_no_process_and_is_lost(tmp_path, data):
    told = tmp_path / "pid"
    asked = begin("--with", "nsys,telemetry", "--", sys.executable, script(tmp_path, ENDLESS), told)
    pid_in(told)
    assert only_capture().state is State.RUNNING
    asked.kill()
    asked.communicate()
    wait_for(lambda: not leftovers(data))
    assert only_capture().state is State.LOST
    assert not list(only_capture().folder.glob("run-*"))


@needs_nsys
def test_a_killed_guard_leaves_no_process_and_a_sentence(tmp_path, data):
    told = tmp_path / "pid"
    asked = begin("--", sys.executable, script(tmp_path, ENDLESS), told)
    pid_in(told)
    (guard,) = [p for p in leftovers(data) if capture_guard.__file__ in command_of(p)]
    os.kill(guard, signal.SIGKILL)
    _, said = asked.communicate(timeout=PATIENCE_S)
    assert leftovers(data) == []
    assert "guarding process was killed" in said


@needs_nsys
def test_a_capture_killed_with_its_guard_is_tidied_up_by_the_next_one(tmp_path, data):
    told = tmp_path / "pid"
    asked = begin("--", sys.executable, script(tmp_path, ENDLESS), told)
    pid_in(told)
    (guard,) = [p for p in leftovers(data) if capture_guard.__file__ in command_of(p)]
    asked.send_signal(signal.SIGSTOP)  # or it would tidy up at once
    os.kill(guard, signal.SIGKILL)
    asked.kill()
    asked.communicate()
    assert leftovers(data) != []
    run("--with", "torch", "--", sys.executable, script(tmp_path, "", "empty.py"))
    assert leftovers(data) == []


@pytest.mark.parametrize("tool", [pytest.param("nsys", marks=needs_nsys), "torch"])
def test_a_cancelled_capture_ends_everything_and_says_so(tmp_path, data, tool):
    told = tmp_path / "pid"
    asked = begin("--with", tool, "--repeat", 2, "--", sys.executable,
                  script(tmp_path, ENDLESS), told)  # fmt: skip
    pid_in(told)
    assert store.cancel(only_capture().id)
    asked.communicate(timeout=PATIENCE_S)
    assert asked.returncode == 128 + signal.SIGTERM
    assert leftovers(data) == []
    capture = only_capture()
    assert capture.state is State.CANCELLED
    assert {run.state for run in capture.runs} == {RunState.CANCELLED}


def test_a_capture_that_is_cancelled_before_it_began_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_begin", lambda *_: None)
    ran = tmp_path / "ran"
    job = store.start(["--", "touch", str(ran)], command=("touch", str(ran)))
    assert store.cancel(job)
    assert store.read(job).state is State.RUNNING
    asked = begin("--job", job, "--with", "telemetry", "--", "touch", ran)
    asked.communicate(timeout=PATIENCE_S)
    assert store.read(job).state is State.CANCELLED
    assert not ran.exists()


@needs_nsys
def test_progress_is_told_while_the_first_report_is_made(tmp_path, monkeypatch):
    """A first run has no time to go by, but its stages are known."""
    told = []
    order = capture_order.Order(command=(sys.executable, script(tmp_path, "")), repeat=2)
    monkeypatch.setattr(capturing, "nvtx_trap", lambda _: "nvtx 9 records nothing")
    capturing.capture(order, lambda *_: opened_by_hand(), lambda *known: told.append(known))
    parts = [part for part, _ in told]
    assert parts == sorted(parts)
    stages = list(dict.fromkeys(stage for _, stage in told))
    assert stages[0] == "nsys: program, run 1 of 2 (nvtx 9 records nothing)"
    assert "its report is made" in stages[1]
    assert stages[2].startswith("opening ")
    of_second = [part for part, stage in told if stage.startswith("nsys: program, run 2")]
    assert len(set(of_second)) > 2  # it goes by the time that the first one took


def test_what_a_program_leaves_in_the_background_is_ended(tmp_path, data):
    told = tmp_path / "pid"
    program = script(
        tmp_path,
        f"""
        import subprocess, sys
        subprocess.Popen([sys.executable, {script(tmp_path, ENDLESS, "endless.py")!r},
                          sys.argv[1]], start_new_session=True, env={{}})
        """,
    )
    ending = guarded(data, [sys.executable, program, str(told)])
    assert ending.status == 0
    assert not Path(f"/proc/{pid_in(told)}").exists()


# Time is limited, and so is what is printed.


@needs_nsys
@needs_nvtx
def test_a_program_whose_time_is_up_is_ended_and_its_recording_kept(tmp_path):
    done = run("--timeout", 2, "--", sys.executable, script(tmp_path, ANNOTATED), 100_000)
    assert done.returncode == 0, done.stderr
    (recorded,) = only_capture().runs
    assert "--timeout" in recorded.notes[0]
    assert opening.range_counts(cache.get(recorded.trace))["step"] > 5


def guarded(data, command, **options):
    data.mkdir(exist_ok=True)
    program = guarded_run.GuardedProgram(
        command=command, folder=data, log=data / "log.txt", **options
    )
    with run_files.private_folder(program) as private:
        return guarded_run.run_guarded(command, program, private)


def test_a_program_that_will_not_end_is_killed(tmp_path, data, monkeypatch):
    monkeypatch.setattr(guarded_run, "GRACE_S", 0.5)
    stubborn = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    """
    ending = guarded(data, [sys.executable, script(tmp_path, stubborn)], timeout_s=1.0)
    assert ending.late
    assert ending.seconds < 15
    assert leftovers(data) == []


def test_a_program_that_prints_without_end_fills_no_disk(data, monkeypatch):
    monkeypatch.setattr(guarded_run, "MAX_LOG_BYTES", 100_000)
    ending = guarded(data, [sys.executable, "-c", "print('x' * 5_000_000 + 'the end')"])
    assert ending.status == 0
    assert (data / "log.txt").stat().st_size == 100_000
    assert guarded_run.last_line(ending.printed).endswith("x")  # cut to a line's length
    assert ending.printed.endswith(b"the end\n")


def test_a_program_cannot_wait_for_an_answer(data):
    assert guarded(data, [sys.executable, "-c", "input()"], timeout_s=30).status == 1


# What cannot be is said in one line.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one workload"),
        (("nosuch",), "nosuch: no such workload. Known: "),
        (("a", "b"), "give one workload"),
        (("--with", "vtune", "--", "true"), "vtune: no such tool. Known: nsys, torch"),
        (("--", "/nosuch/program"), "/nosuch/program: no such program"),
        (("--repeat", "0", "--", "true"), "--repeat 0"),
        (("--timeout", "nan", "--", "true"), "--timeout nan"),
        (("--steps", "3", "--", "true"), "--steps: is for workloads"),
        (("--out", "/etc/passwd", "--with", "torch", "--", "true"), "is not a folder"),
    ],
)
def test_a_wrong_order_is_refused_in_one_line(capsys, arguments, said):
    assert cli.main(["capture", *arguments]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("tool", ["telemetry", "torch"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(capsys, tmp_path, tool):
    ran = tmp_path / "ran"
    assert cli.main(["capture", "--with", tool, "--out", "/proc/no", "--", "touch", str(ran)]) == 3
    assert "/proc/no: cannot be written" in capsys.readouterr().err
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "gone")
    command = ["capture", "--with", tool, "--out", str(dangling), "--", "touch", str(ran)]
    assert cli.main(command) == 2
    assert "dangling: is not a folder" in capsys.readouterr().err
    assert not ran.exists()


def test_a_missing_nsys_is_told_with_the_way_out(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["capture", "--", sys.executable, "-c", "1"]) == 3
    assert "Install Nsight Systems" in capsys.readouterr().err
    assert only_capture().state is State.FAILED


def test_a_missing_gpu_skips_ncu_and_the_other_tools_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "has_gpu", lambda: False)
    monkeypatch.setattr(capturing, "run_torch_hook", lambda *_: recorded_by_hand(tmp_path))
    order = capture_order.Order(command=(sys.executable, "-c", "1"), tools=("torch", "ncu"))
    capture = capturing.capture(order, lambda *_: opened_by_hand())
    assert [run.state for run in capture.runs] == [RunState.DONE, RunState.SKIPPED]
    assert "no NVIDIA GPU" in capture.runs[1].error
    assert capture.state is State.DONE


def recorded_by_hand(tmp_path):
    ending = guarded_run.Ending(status=0, late=False, printed=b"", began=1.0, ended=2.0)
    return run_files.Recorded(path=tmp_path / "trace.json.gz", ending=ending)


def opened_by_hand():
    from jobs import api

    return api.open_recording(ROOT / "traces" / "synthetic" / "synthetic_launch.sqlite")


def test_a_disk_without_room_is_told_before_anything_runs(capsys, monkeypatch):
    monkeypatch.setattr(run_files, "MIN_FREE_BYTES", 1 << 62)
    assert cli.main(["capture", "--with", "torch", "--", sys.executable, "-c", "1"]) == 3
    assert "disk space" in capsys.readouterr().err


def test_a_disk_that_fills_up_is_told(data):
    ending = guarded_run.Ending(
        status=1, late=False, printed=b"No space left on device", began=1.0, ended=2.0
    )
    data.mkdir()
    error = run_files.no_recording("nsys", ending, data)
    assert error.exit_code == 3
    assert "no disk space left" in str(error)


@needs_nsys
def test_a_recording_that_does_not_fit_is_told_with_the_folder(tmp_path, data):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=64k tmpfs {disk}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("needs user and mount namespaces")
    ask = f"{sys.executable} -m cli capture --out {disk}/out -- {sys.executable} -c 1"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && {ask}; echo $?; ls -A {disk}/out"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout.split() == ["3"], done
    assert "no disk space left" in done.stderr
    assert str(disk) in done.stderr
    assert only_capture().state is State.FAILED


def test_a_program_that_fails_is_told_with_its_last_words(tmp_path):
    done = run("--with", "torch", "--", sys.executable, "-c", "raise ValueError('bad luck')")
    assert done.returncode == 2
    assert "exit status 1: ValueError: bad luck" in done.stderr


def test_a_refused_job_of_the_page_is_failed_not_running():
    job = store.start(["nosuch"], workload="nosuch")
    capture = wait_for(lambda: (c := store.read(job)).is_over and c)
    assert capture.state is State.FAILED
    assert "no such workload" in capture.error


# nsys fails in ways of its own.

FAKE_NSYS = """#!/bin/sh
# Records, exits with 0, and leaves what it could not import.
for word; do case $word in --output=*) out=${word#--output=};; esac; done
echo raw > "${out%.nsys-rep}.qdstrm"
echo "Importer error status: The importer binary was not found"
"""
FAKE_IMPORTER = """#!/bin/sh
echo call >> "$0.calls"
[ "$(wc -l < "$0.calls")" -gt 1 ] || exit 1
cp "$2" "$4"
"""


def fake(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_what_nsys_could_not_import_is_imported_afterwards(tmp_path, data, monkeypatch):
    fake(tmp_path / "target-x" / "nsys", FAKE_NSYS)
    fake(tmp_path / "host-x" / "QdstrmImporter", FAKE_IMPORTER)
    monkeypatch.setenv("PATH", f"{tmp_path / 'target-x'}:{os.environ['PATH']}")
    program = guarded_run.GuardedProgram(command=["true"], folder=data, log=tmp_path / "log.txt")
    recorded = nsys_run.run_nsys(program, tmp_path / "out" / "report.nsys-rep")
    assert recorded.path.read_text() == "raw\n"
    assert "imported afterwards" in recorded.notes[0]
    assert recorded.path.stat().st_mode & 0o077 == 0
    assert [p for p in data.iterdir() if p.is_dir()] == []


def test_an_nsys_that_records_nothing_is_quoted(tmp_path, data, monkeypatch):
    fake(tmp_path / "nsys", "#!/bin/sh\necho 'Session name is already in use.'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = guarded_run.GuardedProgram(command=["true"], folder=data, log=tmp_path / "log.txt")
    with pytest.raises(RefusedError, match="already in use"):
        nsys_run.run_nsys(program, tmp_path / "report.nsys-rep")


@pytest.mark.parametrize(
    "words",
    [
        "[boost::errinfo_api_function_*] = sem_open",
        "[QuadDCommon::tag_message*] = Local Endpoint is not available.",
    ],
)
def test_an_nsys_that_stumbles_while_it_starts_is_started_again(tmp_path, data, monkeypatch, words):
    stumbling = f"""#!/bin/sh
        echo call >> "$0.calls"
        if [ "$(wc -l < "$0.calls")" = 1 ]; then
          echo '{words}'; exit 1
        fi
        for word; do case $word in --output=*) echo ok > "${{word#--output=}}";; esac; done
    """
    fake(tmp_path / "nsys", stumbling)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = guarded_run.GuardedProgram(command=["true"], folder=data, log=tmp_path / "log.txt")
    recorded = nsys_run.run_nsys(program, tmp_path / "report.nsys-rep")
    assert recorded.path.read_text() == "ok\n"


@pytest.mark.parametrize(
    ("package", "nsys", "is_trap"),
    [
        ("0.2.11", "2022.4.2.1-df9881f", False),
        ("0.2.12", "2022.4.2.1-df9881f", True),
        ("0.2.17", "2023.4.4.54-234433681190v0", True),
        ("0.2.17", "2025.5.1.121-255136380782v0", False),
        ("", "2022.4.2.1-df9881f", False),
    ],
)
def test_an_nvtx_that_stays_silent_under_this_nsys_is_known(monkeypatch, package, nsys, is_trap):
    answers = {"-c": package, "--version": f"NVIDIA Nsight Systems version {nsys}"}
    monkeypatch.setattr(tools, "_answer", lambda command: answers[command[1]])
    monkeypatch.setattr(tools, "find_nsys", lambda: "nsys")
    assert ("nvtx<=0.2.11" in tools.nvtx_trap(["/usr/bin/python3", "x.py"])) is is_trap
    assert tools.nvtx_trap(["./simulate"]) == ""


@pytest.mark.parametrize("left", [(75, 76), (76,)])
def test_a_recording_in_which_nvtx_stayed_silent_says_so(tmp_path, left):
    from jobs import api

    silent = tmp_path / "silent.sqlite"
    shutil.copy(ROOT / "traces" / "cpu_training.sqlite", silent)
    silent.chmod(0o600)
    file = sqlite3.connect(silent)
    with file:
        assert file.execute("SELECT 1 FROM NVTX_EVENTS WHERE eventType = 59").fetchone()
        assert file.execute("SELECT 1 FROM NVTX_EVENTS WHERE eventType = 75").fetchone()
        file.execute(
            f"DELETE FROM NVTX_EVENTS WHERE eventType NOT IN ({', '.join(map(str, left))})"
        )
    file.close()
    for path, is_silent in ((silent, True), (ROOT / "traces" / "cpu_training.sqlite", False)):
        report = api.open_recording(path).stored.report
        told = [note.message for note in report.quality if note.code == "nvtx_silent"]
        assert bool(told) is is_silent
        assert all("nvtx<=0.2.11" in text for text in told)


# What is private stays in the recording.

CANARY = "canary-7f3a-of-another-process"


@needs_nsys
@needs_nvtx
def test_environment_and_command_line_of_other_processes_stay_out_of_the_library(tmp_path, data):
    waiting = "import sys; sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", waiting, f"--token={CANARY}"],
        env={"SECRET": CANARY, f"{CANARY}_NAME": "1"},
        stdin=subprocess.PIPE,
    )
    try:
        environment = os.environ | {"OWN_SECRET": CANARY}
        done = run("--", sys.executable, script(tmp_path, ANNOTATED), 3, env=environment)
    finally:
        other.communicate()
    assert done.returncode == 0, done.stderr
    recording = Path(only_capture().runs[0].recording)
    exported = tmp_path / "exported.sqlite"
    export = ["nsys", "export", "--type=sqlite", f"--output={exported}", str(recording)]
    subprocess.run(export, check=True, capture_output=True, timeout=PATIENCE_S)
    held = sum(CANARY in line for line in sqlite3.connect(exported).iterdump())
    assert held, "nsys stored no environment here, so this test shows nothing"
    trace = cache.get(only_capture().runs[0].trace)
    for kind in ("--perfetto", "--csv", "--parquet"):
        target = tmp_path / "exports" / kind.strip("-")
        target.parent.mkdir(exist_ok=True)
        name = f"{target}.json" if kind == "--perfetto" else str(target)
        assert cli.main(["export", str(recording), kind, name]) == 0
    shown = [p for folder in (data, tmp_path / "exports") for p in folder.rglob("*")]
    holding = [p for p in shown if p.is_file() and p != recording and CANARY.encode() in read(p)]
    assert holding == []
    for table in ("strings", "processes", "threads", "diagnostics"):
        assert CANARY not in str(trace.arrow(table).to_pydict())


def read(path):
    return path.read_bytes()


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


# What is told is one line, whatever a program prints and however it ends.


@given(st.binary(max_size=400))
def test_a_programs_last_words_are_one_printable_line(printed):
    line = guarded_run.last_line(printed)
    assert len(line) <= guarded_run.MAX_REASON
    assert line.isprintable()


def test_what_nsys_adds_is_not_taken_for_the_programs_last_words():
    said = b"boom\nGenerating '/data/run-1/nsys-report-2438.qdstrm'\n"
    bar = b"\r[1/1] [0%      ] a.nsys-rep\r[1/1] [=====100%] a.nsys-rep"
    assert (
        guarded_run.last_line(said + bar + b"\nGenerated:\n    /data/run-1/a.nsys-rep\n") == "boom"
    )
    assert guarded_run.last_line(b"Generated:\n    /data/run-1/a.nsys-rep\n") == ""


@given(st.integers(-64, 255), st.booleans())
def test_every_ending_but_a_good_one_has_a_sentence(status, late):
    ending = guarded_run.Ending(status=status, late=late, printed=b"", began=1.0, ended=2.0)
    assert bool(ending.trouble()) is (late or status != 0)


def test_the_answer_lists_each_run_and_how_to_go_on():
    def done(tool, role, number):
        return store.Run(
            tool=tool,
            role=role,
            number=number,
            state=RunState.DONE,
            recording=f"/r/{role}-{tool}-{number}",
            trace="t",
            sentence=f"Verdict of {role}.",
            notes=("9 of the 9 ranges",),
        )

    order = capture_order.Order(workload="launch", tools=("nsys",), repeat=2)
    runs = tuple(done(r.tool, r.role, r.number) for r in capture_order.runs_of(order))
    skipped = store.Run(
        tool="ncu", role="baseline", number=1, state=RunState.SKIPPED, error="no GPU"
    )
    capture = store.Capture(id="0" * 12, workload="launch", runs=(*runs, skipped))
    lines = terminal_text(capture_summary(capture)).splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("base")] == [
        ["baseline", "nsys", "1"],
        ["baseline", "nsys", "2"],
        ["baseline", "ncu", "1"],
    ]
    assert "  9 of the 9 ranges (4 runs)" in lines
    assert lines[-1] == (
        "  Compare: whyslow compare /r/baseline-nsys-1 /r/baseline-nsys-2 "
        "--new /r/optimized-nsys-1 /r/optimized-nsys-2"
    )


# What is asked of ncu comes from a timeline.


def test_without_a_gpu_no_comparison_is_offered():
    runs = tuple(
        store.Run(
            tool="torch",
            role=role,
            number=1,
            state=RunState.DONE,
            recording=f"/r/{role}",
            trace="1",
            sentence=store.NO_GPU,
        )
        for role in capture_order.ROLES
    )
    lines = terminal_text(capture_summary(store.Capture(id="1", runs=runs))).splitlines()
    assert any(line.startswith("  Open: ") for line in lines)
    assert not any(line.startswith("  Compare: ") for line in lines)


def test_ncu_examines_the_kernels_that_hold_the_time():
    options = opening.ncu_options(opened_by_hand().stored)
    assert options[:2] == ("--clock-control", "none")
    assert "--launch-count" in options
    assert "-o" not in options


def test_runs_of_baseline_and_twin_alternate_and_ncu_comes_last():
    order = capture_order.Order(workload="launch", tools=("all",), repeat=2)
    runs = [(run.tool, run.role, run.number) for run in capture_order.runs_of(order)]
    assert [r[1:] for r in runs if r[0] == "nsys"] == [
        ("baseline", 1),
        ("optimized", 1),
        ("baseline", 2),
        ("optimized", 2),
    ]
    assert [r for r in runs if r[0] == "ncu"] == [("ncu", r, 1) for r in capture_order.ROLES]
    assert runs[-1][0] == "ncu"


def test_the_state_is_whole_json_at_every_moment(tmp_path, data):
    asked = begin("--with", "torch", "--", sys.executable, script(tmp_path, "import time"))
    while asked.poll() is None:
        for path in data.glob("captures/*/state.json"):
            assert json.loads(path.read_text())["schema"] == store.SCHEMA
    asked.communicate()


FAKE_NCU = """#!/bin/sh
# Keeps its own command line, and writes a report where it is told to.
printf '%s\\n' "$@" > "$0.arguments"
while [ $# -gt 1 ]; do [ "$1" = --export ] && out=$2; shift; done
cp "$(cat "$0.report")" "$out"
"""


def test_counters_are_recorded_of_the_kernels_of_the_timeline(tmp_path, data, monkeypatch):
    fake(tmp_path / "ncu", FAKE_NCU)
    report = ROOT / "traces" / "synthetic" / "synthetic_counters_uncoalesced.ncu-rep"
    (tmp_path / "ncu.report").write_text(str(report))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(tools, "has_gpu", lambda: True)
    monkeypatch.setattr(capturing, "run_torch_hook", lambda *_: recorded_by_hand(tmp_path))

    def opened(path, window):
        from jobs import api

        is_counters = path.suffix == ".ncu-rep"
        return api.open_recording(path, window=window) if is_counters else opened_by_hand()

    order = capture_order.Order(command=("/bin/true", "--its own"), tools=("torch", "ncu"))
    capture = capturing.capture(order, opened)
    assert [run.state for run in capture.runs] == [RunState.DONE, RunState.DONE]
    assert Path(capture.runs[1].recording).read_bytes() == report.read_bytes()
    told = (tmp_path / "ncu.arguments").read_text().splitlines()
    assert told[:2] == ["--clock-control", "none"]
    assert told[-2:] == ["/bin/true", "--its own"]
    assert "--launch-count" in told
    assert any(word.startswith("regex:^(") for word in told)
