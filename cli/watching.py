"""A folder in which recordings arrive, looked at again and again.

Not a watcher of the system (inotify, FSEvents): none of them sees what another machine writes to
a shared disk, which is where recordings of a cluster arrive.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from collectors import is_recording, shared_suffixes, suffixes
from collectors.errors import RefusedError
from collectors.telemetry.schema import SUFFIX as TELEMETRY_SUFFIX
from common.text import short_path
from library.sidecars import OF_CAPTURE

MAX_DEPTH = 3  # folders below the watched one
MAX_ENTRIES = 20_000  # looked at in one look; a whole disk would take minutes to walk
BESIDE = (TELEMETRY_SUFFIX, OF_CAPTURE, ".workload.json")  # of files that lie beside a recording
JSON = (".json", ".json.gz")


class FileState(NamedTuple):
    """What tells that a file was written to: its number, size and time of change."""

    inode: int
    size_bytes: int
    changed_ns: int


class Arrivals:
    """Finds recordings that came, or changed, since it was made; each once it has settled."""

    def __init__(self, folder: Path) -> None:
        """Take what is there already as known.

        Raises:
            RefusedError: There is no such folder.
        """
        if not folder.is_dir():
            raise RefusedError(f"{short_path(str(folder))}: not a folder that can be watched")
        self._folder = folder
        self._known = dict(self._states())
        self._last: dict[Path, FileState] = {}

    def look(self) -> list[Path]:
        """Return recordings that are new and did not change since the last look, oldest first."""
        now = {p: s for p, s in self._states() if self._known.get(p) != s and s.size_bytes}
        settled = [p for p, state in now.items() if self._last.get(p) == state]
        self._last = now
        self._known |= {path: now[path] for path in settled}
        settled.sort(key=lambda path: now[path].changed_ns)
        return [path for path in settled if _is_recording(path)]

    def _states(self) -> Iterator[tuple[Path, FileState]]:
        entries = 0
        for folder, folders, names in os.walk(self._folder):
            is_deepest = len(Path(folder).relative_to(self._folder).parts) >= MAX_DEPTH
            folders[:] = [] if is_deepest else [f for f in folders if not f.startswith(".")]
            entries += len(names)
            for name in names:
                if _may_be_recording(name):
                    path = Path(folder) / name
                    try:
                        status = path.stat()
                    except OSError:  # gone, or a link to nothing
                        continue
                    yield path, FileState(status.st_ino, status.st_size, status.st_mtime_ns)
            if entries > MAX_ENTRIES:
                return


def _may_be_recording(name: str) -> bool:
    """Tell by its name whether a file may be a recording; hidden ones are still being written."""
    if name.startswith(".") or name.endswith(BESIDE):
        return False
    return name.endswith((*suffixes(), *shared_suffixes()))


def _is_recording(path: Path) -> bool:
    """Tell whether a file is worth a line: JSON and tables may be of anything, so by content."""
    if not path.name.endswith((*JSON, *shared_suffixes())):
        return True
    try:
        return is_recording(path)
    except OSError:  # unreadable, or gone
        return False
