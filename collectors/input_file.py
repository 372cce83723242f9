"""The file that was asked for: looked at before anything reads it, and again before it counts.

A recording can be replaced while it is read, for example by the next run of a script. What was
read then belongs to neither file, so it is refused instead of kept.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from collectors import foreign_files
from collectors.errors import EnvironmentFailedError, RefusedError
from common.files import file_holding
from common.text import file_name_text, one_line

MAX_SHOWN = 80  # characters of a name in a message; the trouble and the way out need the rest

_TROUBLES = {
    errno.ENOENT: "no such file. Give the path of a recording",
    errno.ENOTDIR: "no such file. Give the path of a recording",
    errno.EACCES: "no permission to read it. Ask its owner, or give the path of a copy",
    errno.EPERM: "no permission to read it. Ask its owner, or give the path of a copy",
    errno.ELOOP: "a link that leads back to itself. Give the path of the recording",
    errno.ENAMETOOLONG: "the name is too long for a file. Give the path of a recording",
}


def shown_name(path: Path) -> str:
    """Return the file's name for a message: printable and of bounded length."""
    return one_line(file_name_text(path.name), MAX_SHOWN)


def look_at(path: Path) -> os.stat_result:
    """Return what the file at ``path``, or the archive that holds it, is now; it can be read.

    Raises:
        RefusedError: It is absent, unreadable, empty, or not a plain file.
    """
    name, is_pointer = shown_name(path), False
    held_by = file_holding(path)
    try:
        if held_by != path and foreign_files.is_zip(held_by):
            path = held_by
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            is_pointer = foreign_files.is_lfs_pointer(path)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise RefusedError(f"{name}: {_trouble(path, error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise RefusedError(f"{name}: {foreign_files.folder_trouble(path)}")
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(f"{name}: a pipe or device, not a file. Save the recording to a file")
    if not status.st_size:
        raise RefusedError(f"{name}: an empty file. Copy or export the recording again")
    if is_pointer:
        raise RefusedError(f"{name}: {foreign_files.NOT_FETCHED}")
    return status


def check_unchanged(path: Path, before: os.stat_result) -> None:
    """Make sure that the file at ``path`` is still the one that ``before`` describes.

    Raises:
        RefusedError: It was replaced, written to or removed.
    """
    try:
        now: os.stat_result | None = file_holding(path).stat()
    except OSError:
        now = None
    if now is None or _identity(now) != _identity(before):
        raise RefusedError(
            f"{shown_name(path)}: changed while it was read. Wait until nothing writes to it, "
            "then open it again"
        )


def check_space(need_bytes: int, folder: Path) -> None:
    """Make sure that so many bytes fit onto the disk of ``folder``, which is made if absent.

    Raises:
        EnvironmentFailedError: They do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    have = shutil.disk_usage(folder).free
    if have < need_bytes:
        raise EnvironmentFailedError(
            f"{folder}: {have:,} bytes free, {need_bytes:,} wanted. Free disk space or choose "
            "another folder with WHYSLOW_DATA_DIR"
        )


def unknown(path: Path, known_as: str) -> str:
    """Return the line for a file that no collector recognizes."""
    trouble = foreign_files.file_trouble(path) or (
        f"not a recording that whyslow reads. Give one of what it reads: {known_as}"
    )
    return f"{shown_name(path)}: {trouble}"


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _trouble(path: Path, error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number == errno.ENOENT and isinstance(error, OSError) and path.is_symlink():
        return "a link to a file that is not there. Give the path of the recording"
    fallback = f"cannot be read ({os.strerror(number or errno.EIO)}). Give the path of a copy"
    return _TROUBLES.get(number or 0, fallback)
