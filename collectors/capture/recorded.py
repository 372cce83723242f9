"""What a run leaves: a private folder while it runs, and a recording when it worked.

Whether it worked is decided by the recording, never by an exit status: nsys passes on that of the
program, says 0 when it could not import what it recorded, and 143 when all is well. Each run has a
private folder, which is deleted afterwards; a complete recording is moved out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collectors.capture.last_words import last_line
from collectors.capture.run import Ending, GuardedProgram, run_guarded
from collectors.errors import (
    EnvironmentFailedError,
    ProgramFailedError,
    RefusedError,
    TraceError,
)

MIN_FREE_BYTES = 32 << 20  # below it, a report would not fit, and neither would its analysis
_DISK_FULL = (b"No space left", b"disk is full", b"disk full", b"Disk quota exceeded")


class NotForThisError(RefusedError):
    """The tool has nothing to record in this program."""


class StoppedError(RefusedError):
    """Somebody stopped the program before the tool had a recording."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A run that left a recording.

    Attributes:
        path: The recording; None for a tool that writes none.
        ending: How the program ended.
        notes: What a reader should know about it.
        more: Further recordings of the same run, of other processes.
    """

    path: Path | None
    ending: Ending
    notes: tuple[str, ...] = ()
    more: tuple[Path, ...] = ()


def run_plain(program: GuardedProgram) -> Recorded:
    """Run the program under no profiler.

    Raises:
        RefusedError: The program cannot be run.
    """
    with private_folder(program) as private:
        ending = run_guarded(program.command, program, private)
    return Recorded(path=None, ending=ending)


@contextlib.contextmanager
def private_folder(program: GuardedProgram) -> Iterator[Path]:
    """Give a folder for one run, and delete it afterwards.

    Raises:
        EnvironmentFailedError: The disk is full, or cannot be written.
    """
    with _on_disk(program.folder):
        program.folder.mkdir(parents=True, exist_ok=True)
        check_space(program.folder)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=program.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Make the folder that recordings are put into, in a folder that is there.

    Raises:
        RefusedError: There is something else of this name, or not the folder around it.
        EnvironmentFailedError: It cannot be made or written.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise RefusedError(f"{folder}: is not a folder. Choose another one with --out")
    around = folder.absolute().parent
    if not around.is_dir():
        raise RefusedError(
            f"{folder}: the folder {around} does not exist. Create it, or choose another place "
            "with --out"
        )
    with _on_disk(folder):
        folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_space(folder: Path) -> None:
    """Refuse to begin when there is no room for a recording.

    Raises:
        EnvironmentFailedError: There is not.
    """
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise EnvironmentFailedError(
            f"{folder}: only {free >> 20} MB of disk space are free. Free some, or choose another "
            "folder with --out and --data-dir"
        )


@contextlib.contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            trouble = "no disk space left. Free some, or choose another folder with --out"
        else:
            reason = os.strerror(error.errno or 0)
            trouble = f"cannot be written ({reason}). Choose another folder with --out"
        raise EnvironmentFailedError(f"{folder}: {trouble}") from error


def keep(recording: Path, target: Path) -> None:
    """Move a whole recording to its place; nobody else may read it, reports hold environments."""
    with _on_disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        recording.chmod(0o600)
        try:
            recording.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            try:
                shutil.copy2(recording, beside)
                beside.rename(target)
            finally:
                beside.unlink(missing_ok=True)


def no_recording(tool: str, ending: Ending, folder: Path, why: str = "") -> TraceError:
    """Put into one line why there is no recording."""
    full = any(text in ending.printed for text in _DISK_FULL)
    if full or shutil.disk_usage(folder).free < 1 << 20:
        return EnvironmentFailedError(
            f"{folder}: no disk space left for what {tool} records. Free some, or choose another "
            "folder with --out and --data-dir"
        )
    # nsys and ncu pass the program's status on, but may have failed themselves.
    is_around = tool != "the torch profiler"
    trouble = ending.trouble(tool if is_around else "")
    reason = why or last_line(ending.printed).rstrip(".")
    if trouble and reason and reason not in trouble and not ending.has_failed:
        trouble += f"; {reason}"
    line = f"{tool} left no recording: {trouble or reason or 'it says nothing'}"
    if ending.has_failed and not is_around:
        return ProgramFailedError(line)
    return StoppedError(line) if ending.stopped else RefusedError(line)


def has_content(path: Path) -> bool:
    """Tell whether there is a file that is not empty."""
    return path.is_file() and path.stat().st_size > 0
