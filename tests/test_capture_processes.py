"""Processes of a capture end, whoever is killed; time and print are limited."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from captures import capturing, opening, store
from captures import order as capture_order
from captures.store import RunState, State
from collectors.capture import guard as capture_guard
from collectors.capture import recorded as run_files
from collectors.capture import run as guarded_run
from collectors.capture.last_words import last_line
from library import cache
from tests.capture_runs import (
    ANNOTATED,
    PATIENCE_S,
    begin,
    isolated_data,
    leftovers,
    needs_nsys,
    needs_nvtx,
    only_capture,
    opened_by_hand,
    run,
    script,
    wait_for,
)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    yield from isolated_data(tmp_path, monkeypatch)


def pid_in(path):
    """Return the number that a program wrote into ``path``, once it is there."""
    return int(wait_for(lambda: path.exists() and path.read_text()))


# Tells its number, then works until it is ended.
ENDLESS = """
    import os, sys, time
    open(sys.argv[1] + ".part", "w").write(str(os.getpid()))
    os.rename(sys.argv[1] + ".part", sys.argv[1])
    while True:
        time.sleep(0.01)
"""


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
    assert "SIGKILL" in recorded.failure
    assert asked.returncode == 5
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


@pytest.mark.parametrize("tool", [pytest.param("nsys", marks=needs_nsys), "telemetry"])
def test_ctrl_c_keeps_what_was_recorded_and_says_how_to_go_on(tmp_path, data, tool):
    pid = tmp_path / "pid"
    asked = begin("--with", tool, "--repeat", 2, "--", sys.executable,
                  script(tmp_path, ENDLESS), pid)  # fmt: skip
    pid_in(pid)
    asked.send_signal(signal.SIGINT)
    out, said = asked.communicate(timeout=PATIENCE_S)
    assert asked.returncode == 128 + signal.SIGINT
    assert leftovers(data) == []
    assert "Ctrl-C again gives up" in said
    first, second = only_capture().runs
    assert only_capture().state is State.CANCELLED
    assert second.state is RunState.CANCELLED
    assert second.started == 0
    if tool == "nsys":
        assert first.state is RunState.DONE
        assert "it was stopped after" in first.notes[0]
        assert f"whyslow open {first.recording}" in out
        assert "what was recorded until then opens; 1 of 2 runs left no recording" in out
    else:
        assert first.state is RunState.CANCELLED
        assert "Stopped before anything was recorded that opens." in out


def test_a_program_that_had_ended_before_ctrl_c_was_not_stopped(tmp_path, data):
    """What it left in the background is waited for a moment, in which Ctrl-C may come."""
    pid, seen = tmp_path / "pid", []

    def look():
        if pid.exists() and (number := pid.read_text()) and not Path(f"/proc/{number}").exists():
            seen.append(number)

    leaving = "import os, subprocess, sys\nsubprocess.Popen(['sleep', '9'])\n"
    leaving += f"open({str(pid)!r}, 'w').write(str(os.getpid()))\nsys.exit(3)"
    ending = guarded(
        data, [sys.executable, "-c", leaving], tick=look, stop_asked=lambda: len(seen) > 1
    )
    assert len(seen) > 1
    assert (ending.status, ending.stopped, ending.has_failed) == (3, False, True)


def test_a_program_whose_report_nsys_makes_is_stopped_no_more(data):
    reporting = []
    making = "echo \"Generating '/tmp/made.qdstrm'\"; sleep 0.5; exit 1"
    ending = guarded(
        data,
        ["sh", "-c", making],
        reporting=lambda: reporting.append(True),
        stop_asked=lambda: bool(reporting),
    )
    assert reporting == [True]
    assert (ending.status, ending.stopped) == (1, False)
    assert "exit status 1" in ending.trouble("nsys")


def test_ctrl_c_reaches_what_a_shell_waits_for(tmp_path, data):
    begun, saved = tmp_path / "begun", tmp_path / "saved"
    saving = f"""
        import time
        try:
            open({str(begun)!r}, "w").close()
            time.sleep({PATIENCE_S})
        except KeyboardInterrupt:
            open({str(saved)!r}, "a").write("once ")
    """
    # With a command behind it, the shell stays and waits.
    shell = f"{sys.executable} {script(tmp_path, saving)}; exit 4"
    ending = guarded(data, ["bash", "-c", shell], stop_asked=begun.exists)
    assert saved.read_text() == "once "
    assert (ending.stopped, ending.status) == (True, 4)


def test_a_second_ctrl_c_gives_up(tmp_path, data):
    pid = tmp_path / "pid"
    unwilling = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    program = script(tmp_path, unwilling + textwrap.dedent(ENDLESS))
    asked = begin("--with", "telemetry", "--", sys.executable, program, pid)
    pid_in(pid)
    asked.send_signal(signal.SIGINT)
    while b"gives up" not in (line := asked.stderr.buffer.readline()):
        assert line
    asked.send_signal(signal.SIGINT)
    asked.communicate(timeout=PATIENCE_S)
    assert asked.returncode == 128 + signal.SIGINT
    assert leftovers(data) == []
    assert only_capture().state is State.CANCELLED


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
    assert "its report is being written" in stages[1]
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
    assert last_line(ending.printed).endswith("x")  # cut to a line's length
    assert ending.printed.endswith(b"the end\n")


def test_a_program_cannot_wait_for_an_answer(data):
    assert guarded(data, [sys.executable, "-c", "input()"], timeout_s=30).status == 1


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []
