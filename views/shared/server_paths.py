"""Lines of trouble for a browser: what is wrong, without where anything lies on the server."""

from __future__ import annotations

import re

from library import cache
from views.shared.units import visible

DATA_FOLDER = "the data folder"
# Two parts or more after a slash that begins a word; an address of the web is none.
_PATH = re.compile(r"(?<![\w:/.…])/(?:[^/\s'\"]+/)+([^/\s'\",;:)]*)")


def without_server_paths(line: str) -> str:
    """Return ``line`` with ``…/name`` for every absolute path, and the data folder by its word."""
    text = _PATH.sub(r"…/\1", line.replace(str(cache.data_dir()), DATA_FOLDER))
    return text[:1].upper() + text[1:] if text.startswith(DATA_FOLDER) else text


def trouble(error: Exception) -> str:
    """Return one line about what keeps an answer from being shown; no path of the server in it."""
    if isinstance(error, OSError):
        line = str(cache.storage_error(error) or "What is stored about this cannot be read.")
        return without_server_paths(visible(line))
    return without_server_paths(visible(str(error)))
