"""``whyslow app-path``: print what Streamlit runs, to serve the pages with options of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# In an installed wheel the launcher lies with its settings in a folder of its own (setup.py), in a
# checkout at the root.
_PLACES = (_ROOT / "views" / "launcher" / "app.py", _ROOT / "app.py")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add nothing but an example."""
    command.epilog = "For example: streamlit run $(whyslow app-path) --server.port=8600"


def run(_chosen: argparse.Namespace) -> None:
    """Print the path."""
    print(app_path())


def app_path() -> Path:
    """Return the file that ``streamlit run`` takes; its settings lie beside it."""
    return next(place for place in _PLACES if place.is_file())
