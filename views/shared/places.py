"""Where recordings may be opened from: any path on this machine, or watched folders, or samples."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from collectors import input_file, is_recording, shared_suffixes, suffixes
from collectors.errors import RefusedError
from collectors.telemetry.schema import SUFFIX as TELEMETRY_SUFFIX
from common.files import file_holding
from library import inbox
from library.sidecars import OF_CAPTURE

ROOTS_VARIABLE = "WHYSLOW_TRACE_ROOTS"
WORKLOAD_SUFFIX = ".workload.json"  # what a workload wrote about itself
MAX_TABLES = 200  # looked into, at up to 1 MB each
MAX_DEPTH = 3  # folders below a watched folder; a whole disk would take minutes to walk
MAX_ENTRIES = 20_000  # looked at in all, for the same reason
SHOWN_FILES = 40
MIN_DIGEST_LIFE_S = 2.0  # shorter than the time between two looks of one tab
DIGEST_LIFE_PER_LOOK = 4.0  # so that looking takes a fifth of a core at most
SAMPLES = Path(__file__).resolve().parents[2] / "traces"


@dataclass(frozen=True, kw_only=True)
class RecordingFile:
    """A recording on disk.

    Attributes:
        path: Where it is.
        relative_name: Its path below the folder it was found in.
        size_bytes: Its size.
        changed_s: When it changed, seconds since 1970.
    """

    path: Path
    relative_name: str
    size_bytes: int
    changed_s: float


def roots() -> list[Path]:
    """Return the watched folders, of the variable ``WHYSLOW_TRACE_ROOTS``."""
    named = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    return [_with_home(Path(n)) for n in named if n.strip()]


def _with_home(path: Path) -> Path:
    """Return ``path`` with the folder that its ``~`` stands for; as it is where nobody knows."""
    try:
        return path.expanduser()
    except RuntimeError:  # ~somebody, of no such user, or without any home
        return path


def recordings(root: Path, *, anywhere: bool = True) -> list[RecordingFile]:
    """Return the recordings in and below ``root``, the newest first.

    Args:
        root: A folder.
        anywhere: Whether links to files outside of the watched folders are listed, too.
    """
    listing: list[RecordingFile] = []
    entries = tables = 0
    for folder, folders, names in os.walk(root):
        below = len(Path(folder).relative_to(root).parts)
        hidden_or_deep = below >= MAX_DEPTH
        folders[:] = [] if hidden_or_deep else [f for f in folders if not f.startswith(".")]
        entries += len(names)
        paths = [Path(folder) / name for name in names if _is_recording(name)]
        listing.extend(file for path in paths if (file := _recording_file(path, root)))
        for name in names:
            if name.endswith(shared_suffixes()) and tables < MAX_TABLES:
                tables += 1
                file = _recording_file(Path(folder) / name, root)
                if file is not None and _holds_counters(file):
                    listing.append(file)
        if entries > MAX_ENTRIES:
            break
    if not anywhere:
        listing = [f for f in listing if (real := _real_path(f.path)) and _is_watched(real)]
    return sorted(listing, key=lambda p: -p.changed_s)


def listing_digest() -> str:
    """Return what changes whenever a recording in the watched folders comes, goes or changes.

    Every tab asks every few seconds, so that all share one answer for ``MIN_DIGEST_LIFE_S`` or for
    ``DIGEST_LIFE_PER_LOOK`` as long as it took, whichever is longer.
    """
    return _SHARED_DIGEST.current(tuple(roots()))


class _SharedDigest:
    """What the watched folders held a moment ago; one thread at a time looks at them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[tuple[Path, ...], str, float] = ((), "", 0.0)

    def current(self, folders: tuple[Path, ...]) -> str:
        """Return the digest of ``folders``; the last one while another thread looks at them."""
        last_folders, digest, until_s = self._last
        if last_folders == folders and time.monotonic() < until_s:
            return digest
        if not self._lock.acquire(blocking=last_folders != folders):
            return digest
        try:
            last_folders, digest, until_s = self._last
            if last_folders == folders and time.monotonic() < until_s:
                return digest  # made while this thread waited
            begin_s = time.monotonic()
            digest = _digest(folders)
            end_s = time.monotonic()
            life_s = max(MIN_DIGEST_LIFE_S, DIGEST_LIFE_PER_LOOK * (end_s - begin_s))
            self._last = folders, digest, end_s + life_s
            return digest
        finally:
            self._lock.release()


_SHARED_DIGEST = _SharedDigest()


def _digest(folders: tuple[Path, ...]) -> str:
    listing = [
        (str(file.path), file.size_bytes, file.changed_s)
        for folder in folders
        for file in recordings(folder)
    ]
    return hashlib.sha256(repr(listing).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _is_recording(name: str) -> bool:
    """Tell by its name whether a file is worth listing; what lies beside one is none."""
    beside = (TELEMETRY_SUFFIX, WORKLOAD_SUFFIX)
    return name.endswith(suffixes()) and not name.endswith(beside) and name != OF_CAPTURE


def _holds_counters(file: RecordingFile) -> bool:
    return _is_counter_table(file.path, file.size_bytes, file.changed_s)


@functools.lru_cache(maxsize=1_024)
def _is_counter_table(path: Path, _size_bytes: int, _changed_s: float) -> bool:
    """Tell whether a table is one of counters; looked into again only when it changed."""
    try:
        return path.is_file() and is_recording(path)
    except OSError:  # unreadable, or gone
        return False


def _recording_file(path: Path, root: Path) -> RecordingFile | None:
    try:
        status = path.stat()
    except OSError:  # vanished, or a link to nothing
        return None
    return RecordingFile(
        path=path,
        relative_name=str(path.relative_to(root)),
        size_bytes=status.st_size,
        changed_s=status.st_mtime,
    )


def typed_path(text: str) -> Path:
    """Return the path that a reader typed, or pasted with its quotation marks."""
    return _with_home(Path(text.strip().strip("'\"")))


def openable(path: Path, *, anywhere: bool) -> Path:
    """Return the file to open, after the one check that every opening from a page passes.

    Args:
        path: A path on the machine of the server.
        anywhere: Whether whoever asks may open any file that the server can read; else only what
            lies in a watched folder, is a sample or was uploaded, wherever links lead.

    Returns:
        ``path``; where the place matters the file that it leads to, so that a link which is
        changed afterwards changes nothing.

    Raises:
        RefusedError: No such file, or not allowed, in the words of the command line.
    """
    if not anywhere:
        real = _real_path(path)
        if real is None or not _is_watched(real):
            raise RefusedError(
                f"{input_file.shown_name(path)}: this server opens only files in its watched "
                f"folders ({ROOTS_VARIABLE})"
            )
        path = real
    input_file.look_at(path)
    return path


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach ``address``."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _real_path(path: Path) -> Path | None:
    """Return where ``path`` leads, of a recording in an archive too; None when that is nowhere."""
    held_by = file_holding(path)
    member = path.relative_to(held_by)
    if ".." in member.parts:
        return None
    try:
        return held_by.resolve(strict=True) / member
    except (OSError, ValueError, RuntimeError):
        return None


def _is_watched(real: Path) -> bool:
    folders = (*roots(), SAMPLES, inbox.inbox())
    return any(real.is_relative_to(folder.resolve()) for folder in folders)


def sample_words() -> dict[str, str]:
    """Return what each sample shows, from the table in ``traces/README.md``."""
    words = {}
    try:
        lines = (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if (name := re.fullmatch(r"`([^`]+)`", cells[0])) and len(cells) > 2:
            words[name[1]] = cells[-1]
    return words
