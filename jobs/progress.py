"""How far a job is: told by the child in a small file, read by the parent."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from common.files import write_file
from common.text import one_line as printable_line

POLL_S = 0.05
PROGRESS_EVERY_S = 0.1
MAX_LINE = 300  # characters; longer ones are names that someone made up
_FILE = "progress.json"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is.

    Attributes:
        fraction: 0 to 1.
        stage: What is being done.
        done: True when there is an answer.
        error: The line that says why there is none; empty when all is well.
        trace_id: The recording in the library, once it is ready; empty for other tasks.
        choices: Names of the recordings in an archive, when none was chosen; ``ARCHIVE/NAME`` is
            the path of one.
    """

    fraction: float
    stage: str
    done: bool = False
    error: str = ""
    trace_id: str = ""
    choices: tuple[str, ...] = ()


@dataclass
class ProgressFile:
    """Writes the progress of a task into its job's folder, not more often than anyone looks."""

    folder: Path
    _last: float = -1.0
    _reached: float = 0.0

    def __call__(self, fraction: float, stage: str) -> None:
        """Write the share that is done, 0 to 1, and what is being done."""
        self._reached = min(1.0, max(self._reached, fraction))
        if time.monotonic() - self._last < PROGRESS_EVERY_S:
            return
        self._last = time.monotonic()
        text = json.dumps({"fraction": self._reached, "stage": stage})
        write_file(self.folder / _FILE, text)


def read_progress(folder: Path) -> Progress | None:
    """Return what the child wrote last; None when it is not there or makes no sense."""
    try:
        written = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return Progress(fraction=float(written["fraction"]), stage=str(written["stage"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def one_line(error: BaseException | str) -> str:
    """Return an error's text as one printable line of bounded length."""
    return printable_line(str(error), MAX_LINE)
