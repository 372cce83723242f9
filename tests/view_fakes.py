"""A library with opened recordings, and the pages run over it, for tests of the pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from streamlit.testing.v1 import AppTest

from jobs import api
from library.cache import DATA_DIR_VARIABLE

ROOT = Path(__file__).parents[1]
MAIN = ROOT / "views" / "main.py"
SAMPLES = ROOT / "traces"
TIMEOUT_S = 60  # two shared cores; an idle machine needs less than one


def open_sample(name: str, data: Path) -> api.LibraryRecording:
    """Open ``traces/<name>`` into the library in ``data``, by the real pipeline."""
    with library(data):
        return api.open_recording(SAMPLES / name)


@contextmanager
def library(data: Path) -> Iterator[None]:
    """Let everything inside use the library in ``data``."""
    with mock.patch.dict(os.environ, {DATA_DIR_VARIABLE: str(data)}):
        yield


def draw(page: str = "overview", **address: str) -> AppTest:
    """Run one page with this address (``trace``, ``window`` …) and return what it shows."""
    app = AppTest.from_file(str(MAIN), default_timeout=TIMEOUT_S)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    if page == "overview":
        return app
    app.switch_page(f"{page}.py")
    for key, value in address.items():  # gone where nothing is open and Overview leads to Open
        app.query_params[key] = value
    return app.run()


def words(app: AppTest) -> str:
    """Return every text on the page, as Markdown, in one string."""
    parts = []
    for kind in ("header", "subheader", "markdown", "caption", "text", "code", "error", "warning"):
        parts += [str(element.value) for element in getattr(app, kind)]
    return "\n".join(parts).replace("\\", "")
