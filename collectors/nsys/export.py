"""A ``.nsys-rep`` report, turned into SQLite by the installed ``nsys export``.

Only NVIDIA's program reads this format. It is started as a stranger: fixed arguments, a private
folder, a cleaned environment, a time limit, no terminal. What it leaves behind counts only when
it said that it succeeded, because a failed export can leave a readable database with two tables.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from collectors.errors import EnvironmentFailedError, RefusedError
from collectors.input_file import shown_name
from collectors.processes import signal_name
from collectors.sqlite_file import is_sqlite
from collectors.trace import file_size_limit
from common import platform
from common.text import printable

TIMEOUT_VARIABLE = "WHYSLOW_LIMIT_NSYS_S"
TIMEOUT_S = 1_800.0  # nsys writes about half a million rows a second: 30 minutes are 900 M rows
MAX_TIMEOUT_S = 1e9  # 30 years
GRACE_S = 3.0  # between asking nsys to stop and stopping it
POLL_S = 0.05
MAX_OUTPUT_BYTES = 65_536  # of what nsys prints; the sentence that matters comes first
MAX_REASON = 75  # characters of that sentence; the way out must fit on the same line
EXPORTED = "report.sqlite"
WAY_OUT = "nsys export --type sqlite --output report.sqlite report.nsys-rep"

_KEPT_VARIABLES = (
    "PATH",
    "LD_LIBRARY_PATH",
    "TZ",
    "WHYSLOW_JOB",
)  # no tokens, nothing that loads code
_NEWER = ("newer than your current version", "Version number is invalid", "missing required fields")
_DISK_FULL = ("No space left", "disk is full", "disk full")
_PATH = re.compile(r"(?:/[^\s:\"']+)+")


def export(report: Path, folder: Path) -> Path:
    """Turn ``report`` into an SQLite file in ``folder`` and return its path.

    Args:
        report: The ``.nsys-rep`` file; only read.
        folder: An existing folder of ours; it also holds what nsys writes meanwhile.

    Raises:
        EnvironmentFailedError: nsys is missing, older than the report, out of time or of space.
        RefusedError: nsys cannot read the report.
    """
    name = shown_name(report)
    nsys = shutil.which("nsys")
    if nsys is None:
        raise EnvironmentFailedError(
            f"{name}: nsys is not installed here, and only nsys reads this format. "
            f"Run where it was recorded: {WAY_OUT}"
        )
    if not platform.WAITS_FOR_PIPES:
        raise EnvironmentFailedError(
            f"{name}: whyslow runs nsys on Linux and macOS only. Run it yourself: {WAY_OUT}"
        )
    with tempfile.TemporaryDirectory(prefix="nsys-", dir=folder) as private:
        exported = _run(nsys, report, Path(private))
        target = folder / EXPORTED
        exported.replace(target)
    return target


def _run(nsys: str, report: Path, private: Path) -> Path:
    """Run nsys inside ``private`` and return what it wrote, checked."""
    # The report's own name never reaches the command line: it could look like an option.
    name = shown_name(report)
    source, output = private / "input.nsys-rep", private / EXPORTED
    source.symlink_to(report.resolve())
    command = [nsys, "export", "--type=sqlite", "--force-overwrite=true", "--lazy=true"]
    command += ["--quiet=true", f"--output={output}", str(source)]
    timeout_s = _timeout_s()
    try:
        code, printed = _finish(command, private, timeout_s)
    except OSError as error:
        raise EnvironmentFailedError(
            f"{name}: nsys could not be started ({error.strerror}). "
            f"Run where it was recorded: {WAY_OUT}"
        ) from error
    if code is None:
        raise EnvironmentFailedError(
            f"{name}: nsys did not finish in {timeout_s:g} s "
            f"({TIMEOUT_VARIABLE}). Run where it was recorded: {WAY_OUT}"
        )
    if code:
        raise _failure(name, code, printed)
    _check_output(name, output)
    return output


def _timeout_s() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text or TIMEOUT_S)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise EnvironmentFailedError(
            f"{TIMEOUT_VARIABLE}: not a number of seconds above 0, at most {MAX_TIMEOUT_S:g}"
        )
    return seconds


def _finish(command: list[str], private: Path, timeout_s: float) -> tuple[int | None, str]:
    """Run ``command`` to its end; the exit status is None when it had to be stopped."""
    environment = {k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ}
    environment |= {"HOME": str(private), "TMPDIR": str(private), "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=private,
        env=environment,
        **platform.OWN_GROUP,  # yet in the worker's session, which is stopped as a whole
    )
    try:
        printed = _listen(process, time.monotonic() + timeout_s)
        late = not platform.has_ended(process)
    finally:
        _stop(process, private)
    return (None if late else process.returncode), printed


def _listen(process: subprocess.Popen[bytes], deadline: float) -> str:
    """Read what ``process`` prints until it ends or ``deadline``; keep the first part."""
    assert process.stdout is not None
    kept = bytearray()
    pipe: int | None = process.stdout.fileno()
    while time.monotonic() < deadline:
        ended = platform.has_ended(process)
        ready = pipe is not None and bool(select.select([pipe], [], [], 0)[0])
        if pipe is not None and ready:
            chunk = os.read(pipe, 65_536)
            kept += chunk[: MAX_OUTPUT_BYTES - len(kept)]
            pipe = pipe if chunk else None
        elif ended:  # a grandchild may hold the pipe open for ever
            break
        elif pipe is not None:
            select.select([pipe], [], [], POLL_S)
        else:
            time.sleep(POLL_S)
    return kept.decode("utf-8", "replace")


def _stop(process: subprocess.Popen[bytes], private: Path) -> None:
    """End ``process`` and whatever it started, in whatever session that is now."""
    if not platform.has_ended(process):
        platform.end_group(process, at_once=False)
        patience = time.monotonic() + GRACE_S
        while time.monotonic() < patience and not platform.has_ended(process):
            time.sleep(POLL_S)
    platform.end_group(process, at_once=True)
    for _ in range(3):  # one that was being born while we looked is found the next time
        for pid in _started_in(private):
            platform.kill(pid)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _started_in(private: Path) -> list[int]:
    """Return the processes that work in ``private``, or were told to keep their files there."""
    variable = os.fsencode(f"TMPDIR={private}")

    def is_started(entry: Path) -> bool:
        works_there = (entry / "cwd").readlink().is_relative_to(private.resolve())
        return works_there or variable in (entry / "environ").read_bytes().split(b"\0")

    return platform.processes_with(is_started)


def _failure(name: str, code: int, printed: str) -> EnvironmentFailedError | RefusedError:
    """Put the failure of nsys into one line."""
    if platform.ended_by(code, "SIGXFSZ"):
        return EnvironmentFailedError(
            f"{name}: what nsys exports does not fit: {file_size_limit()}"
        )
    if any(text in printed for text in _DISK_FULL):
        return EnvironmentFailedError(
            f"{name}: no disk space left for what nsys exports. Free some, or choose another "
            "folder with --data-dir"
        )
    if any(text in printed for text in _NEWER):
        return EnvironmentFailedError(
            f"{name}: recorded with a newer nsys than the installed one. "
            f"Run where it was recorded: {WAY_OUT}"
        )
    if code < 0:
        return RefusedError(
            f"{name}: nsys crashed while exporting it ({signal_name(-code)}). "
            f"Run where it was recorded: {WAY_OUT}"
        )
    return RefusedError(
        f"{name}: nsys cannot read it ({_reason(printed, code)}). If it is complete, "
        f"run where it was recorded: {WAY_OUT}"
    )


def _reason(printed: str, code: int) -> str:
    """Return what nsys says went wrong, without paths."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("Exportation error:")]
    reason = (marked or lines or [f"exit status {code}"])[0].removeprefix("Exportation error:")
    reason = printable(_PATH.sub("…", reason))
    return reason.strip().rstrip(".")[:MAX_REASON] or f"exit status {code}"


def _check_output(name: str, output: Path) -> None:
    if not output.is_file() or not output.stat().st_size:
        raise RefusedError(
            f"{name}: nsys reported success but wrote nothing. Run it yourself: {WAY_OUT}"
        )
    if not is_sqlite(output):
        raise RefusedError(
            f"{name}: nsys wrote something that is not an SQLite database. "
            f"Run it yourself: {WAY_OUT}"
        )
