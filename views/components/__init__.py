"""The two pieces of the pages that run in the browser: the timeline and the upload."""

from __future__ import annotations

from pathlib import Path


def source(name: str) -> str:
    """Return the text of a script or a style sheet beside this file."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
