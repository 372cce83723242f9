"""What cannot be captured is said in one line, and nsys fails in ways of its own."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import nullcontext

import pytest

import cli.main as cli
from captures import capturing, outcomes, store
from captures import order as capture_order
from captures.store import RunState, State
from collectors.capture import nsys as nsys_run
from collectors.capture import recorded as run_files
from collectors.capture import run as guarded_run
from collectors.capture import tools
from collectors.errors import ProgramFailedError, RefusedError
from tests.capture_runs import (
    PATIENCE_S,
    ROOT,
    fake,
    isolated_data,
    needs_nsys,
    only_capture,
    opened_by_hand,
    recorded_by_hand,
    run,
    script,
    wait_for,
)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    yield from isolated_data(tmp_path, monkeypatch)


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
        (("--out", "/nosuch/place", "--", "true"), "the folder /nosuch does not exist"),
        (("--", "python3", "/nosuch/train.py"), "/nosuch/train.py: no such script"),
        (("--python", "/nosuch/python", "launch"), "/nosuch/python: no such program"),
    ],
)
def test_a_wrong_order_is_refused_in_one_line_before_anything_is_written(
    capsys, data, arguments, said
):
    assert cli.main(["capture", *arguments]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert not data.exists()


def test_a_mistyped_option_is_refused_before_anything_is_written(capsys, data):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["capture", "--repaet", "3", "launch"])
    assert "--repaet" in capsys.readouterr().err
    assert not data.exists()


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


@pytest.mark.parametrize("tool", [pytest.param("nsys", marks=needs_nsys), "telemetry"])
def test_a_program_that_fails_is_told_with_its_last_words_and_place(tmp_path, tool):
    failing = script(tmp_path, "print('step 1')\n\nraise ValueError('bad luck')", "train.py")
    done = run("--with", tool, "--", sys.executable, failing)
    assert done.returncode == 5
    assert "exit status 1: ValueError: bad luck at train.py:3" in done.stderr
    capture = only_capture()
    assert capture.state is State.FAILED
    assert "ValueError: bad luck at train.py:3" in capture.runs[0].failure
    # What nsys recorded until then opens, whatever became of the program.
    assert (capture.runs[0].state is RunState.DONE) is (tool == "nsys")


def test_a_program_that_failed_before_torch_could_record_it_failed_by_itself(data):
    ending = guarded_run.Ending(status=1, late=False, printed=b"boom", began=1.0, ended=2.0)
    data.mkdir()
    assert run_files.no_recording("the torch profiler", ending, data).exit_code == 5
    assert run_files.no_recording("nsys", ending, data).exit_code == 2  # may be its own


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


# Ctrl-C, and what it finds.


def plain_capture(monkeypatch, endings, stop_asked, repeat=2):
    """Carry out runs under no profiler, which end in these ways."""
    left = iter(endings)
    monkeypatch.setattr(
        capturing,
        "run_plain",
        lambda _: run_files.Recorded(path=None, ending=next(left)),
    )
    monkeypatch.setattr(capturing._CaptureInProgress, "_sampled", lambda *_: nullcontext())
    order = capture_order.Order(command=("true",), tools=("telemetry",), repeat=repeat)
    return capturing.capture(order, lambda *_: None, stop_asked=stop_asked)


def ending(status=0, *, stopped=False):
    return guarded_run.Ending(
        status=status, late=False, printed=b"", began=1.0, ended=2.0, stopped=stopped
    )


def test_ctrl_c_while_the_last_recording_is_opened_cancels_nothing(monkeypatch, tmp_path):
    stops = []

    def opened(*_):
        stops.append(True)
        return opened_by_hand()

    monkeypatch.setattr(capturing, "run_torch_hook", lambda *_: recorded_by_hand(tmp_path))
    order = capture_order.Order(command=(sys.executable, "-c", "1"), tools=("torch",))
    capture = capturing.capture(order, opened, stop_asked=lambda: bool(stops))
    assert stops
    assert (capture.state, capture.error) == (State.DONE, "")
    assert [run.state for run in capture.runs] == [RunState.DONE]
    outcomes.check(capture)


def test_a_recording_that_does_not_open_failed_whenever_ctrl_c_comes(monkeypatch, tmp_path):
    def unreadable(*_):
        raise RefusedError("damaged")

    monkeypatch.setattr(capturing, "run_torch_hook", lambda *_: recorded_by_hand(tmp_path))
    order = capture_order.Order(command=(sys.executable, "-c", "1"), tools=("torch",))
    asked = iter([False])  # before the run, and from then on
    capture = capturing.capture(order, unreadable, stop_asked=lambda: next(asked, True))
    assert (capture.state, capture.runs[0].state) == (State.FAILED, RunState.FAILED)
    assert "damaged" in capture.error


def test_what_ctrl_c_kept_from_beginning_is_told_apart_from_the_capture(monkeypatch):
    asked = iter([False])
    capture = plain_capture(monkeypatch, [ending()], lambda: next(asked, True))
    assert (capture.state, capture.error) == (State.CANCELLED, "stopped by Ctrl-C")
    assert [run.state for run in capture.runs] == [RunState.DONE, RunState.CANCELLED]
    assert capture.runs[1].error == "stopped before it was begun"
    outcomes.check(capture)


def test_a_run_that_had_failed_before_ctrl_c_is_told(monkeypatch):
    asked = iter([False])
    capture = plain_capture(monkeypatch, [ending(1)], lambda: next(asked, True))
    assert capture.state is State.CANCELLED
    said = "1 of 2 runs: the program ended with exit status 1; stopped by Ctrl-C"
    assert capture.error == said
    with pytest.raises(ProgramFailedError, match=said):
        outcomes.check(capture)


def test_a_tool_that_was_stopped_before_it_had_a_recording_did_not_fail(data):
    data.mkdir()
    stopped = run_files.no_recording("nsys", ending(-2, stopped=True), data)
    assert isinstance(stopped, run_files.StoppedError)
    assert not isinstance(run_files.no_recording("nsys", ending(1), data), run_files.StoppedError)
