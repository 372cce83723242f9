"""Lines of trouble for a browser: what is wrong, without where anything lies on the server."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from library import cache
from views.shared.places import SAMPLES, roots
from views.shared.units import visible

DATA_FOLDER = "the data folder"
# Two parts or more after a slash that begins a word; an address of the web is none.
_PATH = re.compile(r"(?<![\w:/.…])/(?:[^/\s'\"]+/)+([^/\s'\",;:)]*)")
# Folders of Windows may have spaces in their names; these characters they cannot have.
_WINDOWS_PATH = re.compile(r"(?<![\w\\])[A-Za-z]:\\(?:[^\\/:*?\"<>|'\n]*\\)*([^\\/\s'\",;:)]*)")
_BEFORE_FOLDER = r"(?<![\w.…])"
MAX_FOLDERS = 40  # below a known one that are looked for


def without_server_paths(line: str) -> str:
    """Return ``line`` with ``…/name`` for every absolute path, and the data folder by its word."""
    text = _without_known_folders(line.replace(str(cache.data_dir()), DATA_FOLDER))
    text = _WINDOWS_PATH.sub(r"…\\\1", _PATH.sub(r"…/\1", text))
    return text[:1].upper() + text[1:] if text.startswith(DATA_FOLDER) else text


def _without_known_folders(line: str) -> str:
    """Return ``line`` with ``/…/`` for each folder in or below those of whoever runs the server.

    The names of folders may have spaces, so that a line does not tell where they end; the disk
    does.
    """
    for folder in _known_folders():
        pieces = re.split(_BEFORE_FOLDER + re.escape(folder) + "/", line)
        rests = [piece[_folders_length(folder, piece) :] for piece in pieces[1:]]
        line = "/…/".join([pieces[0], *rests])
    return line


def _folders_length(folder: str, text: str) -> int:
    """Return how many characters at the beginning of ``text`` name folders below ``folder``."""
    ends = [match.end() for match in re.finditer("/", text)][:MAX_FOLDERS]
    for end in reversed(ends):
        if os.path.isdir(f"{folder}/{text[:end]}"):  # noqa: PTH112 (Path.is_dir may raise)
            return end
    return 0


def _known_folders() -> list[str]:
    """Return where recordings mostly lie, the longest path first; never the whole disk."""
    places = [SAMPLES, *roots()]
    with contextlib.suppress(RuntimeError):  # a user without a home
        places.append(Path.home())
    named = {str(path) for place in places for path in (place, Path(os.path.realpath(place)))}
    return sorted((n for n in named if n.startswith("/") and n != "/"), key=len, reverse=True)


def trouble(error: Exception) -> str:
    """Return one line about what keeps an answer from being shown; no path of the server in it."""
    if isinstance(error, OSError):
        line = str(cache.storage_error(error) or "What is stored about this cannot be read.")
        return without_server_paths(visible(line))
    return without_server_paths(visible(str(error)))
