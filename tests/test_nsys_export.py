"""Calling nsys: every way it can fail ends in one line and leaves nothing behind."""

import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from collectors.errors import EnvironmentFailedError, RefusedError
from collectors.nsys import export

REAL = Path(__file__).parents[2] / "shared" / "real" / "nsys_cpu"
real_nsys = pytest.mark.skipif(
    not REAL.is_dir() or shutil.which("nsys") is None, reason="needs nsys and real reports"
)

OUTPUT = 'for a in "$@"; do case "$a" in --output=*) o="${a#--output=}";; esac; done\n'
IN_FULL = OUTPUT + "printf 'SQLite format 3\\0rest' > \"$o\"\n"


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "run.nsys-rep"
    path.write_bytes(b"a report")
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.fixture
def fake_nsys(tmp_path, monkeypatch):
    def install(script):
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        program = programs / "nsys"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    return install


def one_line(caught):
    text = str(caught.value)
    assert text.startswith("run.nsys-rep: ")
    assert "\n" not in text
    assert len(text) <= 300
    return text


def test_the_export_is_returned_and_nothing_else_is_left(fake_nsys, report, folder):
    fake_nsys(IN_FULL + 'touch "$TMPDIR/lock" "$HOME/telemetry"\n')
    exported = export.export(report, folder)
    assert exported.read_bytes().startswith(b"SQLite format 3")
    assert list(folder.iterdir()) == [exported]
    assert report.read_bytes() == b"a report"


def test_the_name_of_the_report_never_reaches_the_command_line(fake_nsys, tmp_path, folder):
    fake_nsys(f'printf "%s\\n" "$@" > {tmp_path}/argv\n' + IN_FULL)
    hostile = tmp_path / "--help;$(touch x)\n.nsys-rep"
    hostile.write_bytes(b"a report")
    export.export(hostile, folder)
    arguments = (tmp_path / "argv").read_text().splitlines()
    assert len(arguments) == 7
    assert not any("touch" in a for a in arguments)
    assert arguments[-1].startswith(str(folder))


def test_secrets_of_the_environment_are_not_handed_on(
    fake_nsys, tmp_path, report, folder, monkeypatch
):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    monkeypatch.setenv("LD_PRELOAD", "")
    fake_nsys(f"env > {tmp_path}/env\n" + IN_FULL)
    export.export(report, folder)
    assert "hidden" not in (tmp_path / "env").read_text()
    assert "LD_PRELOAD" not in (tmp_path / "env").read_text()


def test_a_missing_nsys_is_named_with_the_command_to_run(report, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailedError) as caught:
        export.export(report, folder)
    assert export.WAY_OUT in one_line(caught)


def test_an_nsys_that_hangs_and_ignores_sigterm_is_stopped(
    fake_nsys, tmp_path, report, folder, monkeypatch
):
    fake_nsys(f'trap "" TERM\nsleep 1000 &\necho $! > {tmp_path}/pid\nsleep 1000\nsleep 1000\n')
    monkeypatch.setenv(export.TIMEOUT_VARIABLE, "0.5")
    monkeypatch.setattr(export, "GRACE_S", 0.3)
    began = time.monotonic()
    with pytest.raises(EnvironmentFailedError) as caught:
        export.export(report, folder)
    assert time.monotonic() - began < 5
    assert "did not finish in 0.5 s" in one_line(caught)
    assert not is_running(int((tmp_path / "pid").read_text()))
    assert list(folder.iterdir()) == []


def is_running(pid):
    """Tell whether a process lives; one that was killed gets a moment to die."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.01)
    return True


def test_a_helper_that_outlives_nsys_is_stopped_too(fake_nsys, tmp_path, report, folder):
    fake_nsys(f"sleep 1000 &\necho $! > {tmp_path}/pid\n" + IN_FULL)
    export.export(report, folder)
    assert not is_running(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("leave", ["setsid sleep", "setsid env -i sleep", "cd /; setsid sleep"])
def test_a_helper_that_leaves_the_session_is_stopped_too(
    fake_nsys, tmp_path, report, folder, leave
):
    helper = f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000'"
    fake_nsys(f"({leave.replace('sleep', helper)} &)\nsleep 0.3\n" + IN_FULL)
    export.export(report, folder)
    assert not is_running(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("kill -SEGV $$", RefusedError, "crashed while exporting it (SIGSEGV)"),
        ("kill -XFSZ $$", EnvironmentFailedError, "(WHYSLOW_LIMIT_FILE_GB)"),
        ("exit 1", RefusedError, "cannot read it (exit status 1)"),
        (IN_FULL + "exit 1", RefusedError, "cannot read it (exit status 1)"),
        ("exit 0", RefusedError, "wrote nothing"),
        (OUTPUT + 'printf junk > "$o"', RefusedError, "not an SQLite database"),
        (
            'echo "Exportation error: Report was created in version (9), newer than your current '
            'version (1)"; exit 1',
            EnvironmentFailedError,
            "newer nsys than the installed one. Run where it was recorded: nsys export",
        ),
        (
            'echo noise; echo "Exportation error: /build/a/b.cpp(12): odd."; exit 1',
            RefusedError,
            "cannot read it (…: odd)",
        ),
        ("head -c 20000000 /dev/zero | tr '\\0' x; exit 1", RefusedError, "cannot read it (xxx"),
        ("read answer && exit 0; exit 1", RefusedError, "exit status 1"),
    ],
    ids=[
        "crash",
        "file-limit",
        "exit-1",
        "partial",
        "silent",
        "junk",
        "newer",
        "error-line",
        "chatty",
        "asks",
    ],
)
def test_each_failure_of_nsys_is_one_line_and_leaves_nothing(
    fake_nsys, report, folder, script, error, words
):
    fake_nsys(script + "\n")
    with pytest.raises(error) as caught:
        export.export(report, folder)
    assert words in one_line(caught)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "1e300"])
def test_a_time_limit_that_is_no_number_is_named(fake_nsys, report, folder, monkeypatch, value):
    fake_nsys(IN_FULL)
    monkeypatch.setenv(export.TIMEOUT_VARIABLE, value)
    with pytest.raises(EnvironmentFailedError, match=export.TIMEOUT_VARIABLE):
        export.export(report, folder)


@real_nsys
def test_a_real_report_becomes_the_database_that_nsys_itself_makes(folder):
    exported = export.export(REAL / "cpu_2022.nsys-rep", folder)
    query = "SELECT count(*) FROM NVTX_EVENTS"
    rows = []
    for path in (exported, REAL / "cpu_2022.sqlite"):
        connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        rows.append(connection.execute(query).fetchone())
        connection.close()
    assert rows[0] == rows[1]


@real_nsys
def test_a_report_of_a_newer_nsys_is_told_apart(folder):
    version = subprocess.run(["nsys", "--version"], capture_output=True, text=True, check=False)
    if " 2022." not in version.stdout:
        pytest.skip("the installed nsys reads it")
    with pytest.raises(EnvironmentFailedError, match="newer nsys than the installed one"):
        export.export(REAL / "cpu_2023.nsys-rep", folder)
    assert list(folder.iterdir()) == []


@real_nsys
@pytest.mark.parametrize("content", [b"", b"junk" * 1000])
def test_junk_named_like_a_report_is_refused(report, folder, content):
    report.write_bytes(content)
    with pytest.raises(RefusedError, match="nsys cannot read it"):
        export.export(report, folder)
    assert list(folder.iterdir()) == []
