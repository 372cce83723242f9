"""Uploads on their way to the library: where they lie, how large they may get, what they may be.

An upload arrives in slices and grows as ``<hash of its key>.part``; when it is whole, it becomes
``<hash of its key>/<name>``. Nothing that the browser sends names a place on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analyzers.words import size_text
from collectors import input_file, is_recording, known_as, may_become_recording
from library import cache

QUOTA_VARIABLE, QUOTA_GB = "WHYSLOW_LIMIT_UPLOADS_GB", 64.0
MIN_FREE_BYTES = 1 << 30  # on the disk, after the upload: ingest needs room too
MAX_NAME = 80
KEPT_PART_S = 86_400  # an upload that was interrupted can go on the next morning
MIN_BYTES = 16  # no recording is shorter

_KEY = re.compile(r"[0-9a-f]{16,64}")
_busy: set[str] = set()  # keys of uploads of which a slice is being written


class UploadError(Exception):
    """An upload was refused; the message is one line, ``status`` its HTTP status.

    Attributes:
        status: The HTTP status of the answer.
        details: What the answer says beside the line, such as ``off``, where the upload continues.
    """

    def __init__(self, status: int, line: str, **details: int) -> None:
        super().__init__(line)
        self.status = status
        self.details = details


def inbox() -> Path:
    """Return the folder that holds uploads."""
    return cache.data_dir() / "inbox"


def uploaded_file(key: str) -> Path | None:
    """Return the finished upload named ``key``, None when there is none."""
    if not _KEY.fullmatch(key):
        return None
    folder = _folder(key)
    files = [f for f in folder.iterdir() if f.is_file()] if folder.is_dir() else []
    return files[0] if len(files) == 1 else None


def _folder(key: str) -> Path:
    # The name on disk is ours; what the browser calls the upload only selects it.
    return inbox() / hashlib.sha256(key.encode()).hexdigest()[:32]


@contextmanager
def slice_lock(key: str, name: str) -> Iterator[None]:
    """Hold the upload ``key`` while one of its slices is written.

    Raises:
        UploadError: The key is malformed, or another slice is being written.
    """
    if not _KEY.fullmatch(key):
        raise UploadError(400, "The upload has no valid key.")
    if key in _busy:
        raise UploadError(409, f"{name}: is being uploaded already", off=received_bytes(key))
    _busy.add(key)
    try:
        yield
    finally:
        _busy.discard(key)


def safe_name(name: str) -> str:
    """Return a file name of letters, digits, dots, dashes and underscores; never hidden or long."""
    plain = re.sub(r"[^0-9A-Za-z._-]+", "_", name.replace("\\", "/").rpartition("/")[2])
    stem, dot, suffix = plain.strip("._-").rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    return (stem[: MAX_NAME - len(suffix) - 1] or "recording") + dot + suffix[: MAX_NAME // 2]


def received_bytes(key: str) -> int:
    """Return how much of the unfinished upload ``key`` has arrived."""
    part = _folder(key).with_suffix(".part")
    return part.stat().st_size if part.is_file() else 0


def part_file(key: str, name: str, size: int, offset: int) -> Path:
    """Return the file to which the slice at ``offset`` is appended.

    Args:
        key: The browser's name of the upload.
        name: Its file name, for messages.
        size: Bytes of the whole upload.
        offset: Where the slice begins.

    Raises:
        UploadError: The slice is not the next one, or there is no room for the whole upload.
    """
    if size < MIN_BYTES:
        raise UploadError(415, f"{name}: too short to be a recording. Known are {known_as()}.")
    inbox().mkdir(parents=True, exist_ok=True)
    received = received_bytes(key)
    if offset != received:
        raise UploadError(409, f"{name}: the upload continues at another byte", off=received)
    quota = int(float(os.environ.get(QUOTA_VARIABLE) or QUOTA_GB) * 1e9)
    stored = sum(f.stat().st_size for f in inbox().rglob("*") if f.is_file()) - received
    if stored + size > quota:
        raise UploadError(
            413,
            f"{name}: uploads may use {quota / 1e9:g} GB ({QUOTA_VARIABLE}), and "
            f"{size_text(stored)} are in use. Delete some in {inbox()}, or open it by path.",
        )
    if shutil.disk_usage(inbox()).free < size - received + MIN_FREE_BYTES:
        raise UploadError(507, f"{name}: not enough disk space in {inbox()}. Free some.")
    return _folder(key).with_suffix(".part")


def check_content(part: Path, name: str, *, whole: bool) -> None:
    """Delete what cannot become a recording, as soon as its content shows it.

    Args:
        part: What has arrived.
        name: Its file name, for the message.
        whole: Whether all has arrived; a text can be recognized only then.

    Raises:
        UploadError: No collector reads such a file.
    """
    if not (is_recording(part) if whole else may_become_recording(part)):
        line = input_file.unknown(part, known_as()).partition(": ")[2]  # the command's words
        part.unlink()
        raise UploadError(415, f"{name}: {line}")


def sweep(now_s: float) -> None:
    """Delete uploads that nobody has continued for a day, and the empty folder of a refused one.

    Args:
        now_s: Seconds since 1970, as files count them.
    """
    folder = inbox()
    for entry in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # gone meanwhile, or not empty
            if now_s - entry.stat().st_mtime <= KEPT_PART_S:
                continue
            if entry.is_dir():
                entry.rmdir()
            elif entry.suffix == ".part":
                entry.unlink()


def finish(key: str, part: Path, name: str) -> None:
    """Make a whole upload a file that can be opened, in place of an older one of the same key."""
    folder = _folder(key)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    part.replace(folder / name)
