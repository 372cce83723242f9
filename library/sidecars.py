"""Files that lie beside a recording, and what was made of them; cheap to ask."""

from __future__ import annotations

from pathlib import Path

from library.cache import fingerprint

OF_CAPTURE = "telemetry.sqlite"  # one for all recordings of a capture, which lie in its folder


def telemetry_beside(path: Path) -> Path | None:
    """Return the telemetry that was sampled while ``path`` was recorded; None without."""
    from collectors.telemetry.schema import SUFFIX  # the package loads Arrow

    for file in (path.with_name(path.name + SUFFIX), path.with_name(OF_CAPTURE)):
        # A link beside a recording must not make another folder's file a part of it.
        if file.is_file() and file != path and file.resolve().parent == path.resolve().parent:
            return file
    return None


def telemetry_folder(trace_folder: Path) -> Path:
    """Return where the lanes of a recording's telemetry lie, in this version."""
    version = fingerprint(
        "collectors.telemetry.file",
        "collectors.telemetry.schema",
        "timeline.index",
        "timeline.telemetry",
    )
    return trace_folder / f"telemetry-{version[:24]}"


def telemetry_is_missing(path: Path, trace_folder: Path) -> bool:
    """Tell whether there is telemetry that was not made into lanes yet."""
    return telemetry_beside(path) is not None and not telemetry_folder(trace_folder).is_dir()
