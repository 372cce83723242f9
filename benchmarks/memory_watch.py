"""How much memory a command took at its peak, each of its processes by itself."""

from __future__ import annotations

import threading
from pathlib import Path


class MemoryWatch:
    """Follows a process and its children; each one's own peak is kept by the kernel (VmHWM).

    The usual ``ru_maxrss`` would not do: a child inherits its parent's.
    """

    EVERY_S = 0.02

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """Return the peak of every process that was seen, in bytes."""
        self._ended.set()
        self._thread.join()
        return list(self._peaks.values())

    def _run(self) -> None:
        while not self._ended.wait(self.EVERY_S):
            for pid in _with_children(self._pid):
                peak = _peak_bytes(pid)
                self._peaks[pid] = max(self._peaks.get(pid, 0), peak)


def _with_children(pid: int) -> list[int]:
    pids = [pid]
    for parent in pids:  # grows while it is walked
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += [int(child) for child in file.read_text().split()]
            except OSError:
                continue  # ended while we looked
    return pids


def _peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines() if line.startswith("VmHWM:"))
    return next((int(words[1]) * 1024 for words in lines), 0)
