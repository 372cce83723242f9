"""Where an export may write: never over a recording, and only where a plain file can be."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path

from collectors.errors import RefusedError
from collectors.trace import Source
from common.text import short_path

_RECORDINGS = {  # how files begin that may be the only copy of a recording
    b"SQLite format 3\x00": "an SQLite database",
    b"NVIDIA Tegra Profiler Report": "an Nsight Systems report",
}


def check_files(targets: Iterable[Path], source: Source) -> None:
    """Refuse to replace anything that is not a plain file, and any recording.

    A link is judged by what it leads to.

    Args:
        targets: Files that will be written; they need not exist.
        source: The recording that is exported.

    Raises:
        RefusedError: One of them must not be replaced; nothing was written.
        OSError: One of them cannot be looked at.
    """
    for target in targets:
        try:
            status = target.stat()
        except FileNotFoundError:
            continue
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a plain file"
        if stat.S_ISREG(status.st_mode):
            kind = _recording(target, status.st_size, source)
        if kind:
            raise RefusedError(
                f"{short_path(str(target))}: is {kind}. Choose another name for the export"
            )


def check_folder(folder: Path) -> None:
    """Refuse to use something else than a folder as one.

    Raises:
        RefusedError: There is a file of this name.
        OSError: It cannot be looked at.
    """
    try:
        status = folder.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        raise RefusedError(
            f"{short_path(str(folder))}: is not a folder. Choose another one for the export"
        )


def _recording(path: Path, size: int, source: Source) -> str:
    """Return what recording lies at ``path``; empty for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            for magic, kind in _RECORDINGS.items():
                if head.startswith(magic):
                    return kind
            if size == source.size_bytes:
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() == source.sha256:
                    return "the recording itself"
    except PermissionError:
        return "a file that cannot be read"
    return ""
