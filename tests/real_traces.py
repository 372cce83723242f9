"""Recordings that are no part of the project, each read once a run whichever test asks for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from collectors import open_trace
from collectors.trace import Trace

FOLDER = "WHYSLOW_TESTS_TRACES"  # the variable that names where all workers keep what they read


def opened(path: Path) -> Trace:
    """Return the trace of a recording that no test changes.

    Raises:
        RefusedError: As ``open_trace``; what is refused is read anew each time.
    """
    folder = Path(os.environ[FOLDER])
    place = folder / f"{hashlib.sha256(str(path).encode()).hexdigest()}.name"
    if place.exists():
        return Trace.load(folder / place.read_text(encoding="utf-8"))
    trace = open_trace(path, folder)
    complete = place.with_suffix(f".{os.getpid()}")
    complete.write_text(trace.folder.name, encoding="utf-8")
    complete.replace(place)  # two workers that read it at once leave the same name
    return trace
