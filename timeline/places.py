"""Where the timeline's indexes lie; cheap to ask, since a page asks before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from library.cache import fingerprint

if TYPE_CHECKING:
    from library.analyses import StoredAnalysis


def recording_index_folder(trace_folder: Path) -> Path:
    """Return where the timeline's index of a recording lies, in this version."""
    return trace_folder / "timeline" / _timeline_version()


def window_index_folder(analysis_folder: Path) -> Path:
    """Return where the timeline's index of an analysis lies, in this version."""
    return analysis_folder / f"timeline-{_timeline_version()}"


def has_timeline(stored: StoredAnalysis) -> bool:
    """Tell whether both indexes were made."""
    recording = recording_index_folder(stored.folder.parent.parent)
    return recording.is_dir() and window_index_folder(stored.folder).is_dir()


def _timeline_version() -> str:
    return fingerprint("analyzers", "collectors.schema", "collectors.trace", "timeline")[:24]
