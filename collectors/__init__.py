"""Collectors: each reads the recordings of one tool.

A collector is a file here, or the file of the same name in a folder (``nsys/nsys.py``); it is
found by being there. It offers

* ``KNOWN_AS``, the words for what it reads, for messages;
* ``SUFFIXES``, the endings of files that are worth listing without a look inside, and perhaps
  ``SHARED_SUFFIXES``, those of files that are listed only if ``recognizes`` says so;
* ``recognizes(path)``, which tells by name and content whether a file is one of its own;
* ``may_begin(path)``, which tells whether the first bytes of an upload can become one;
* ``read(path, root, on_progress)``, which turns it into a trace.

What writes a file that lies beside a recording offers ``no_recording(path)`` instead: the line that
says why such a file cannot be opened alone, empty for every other file.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from collectors import input_file
from collectors.errors import RefusedError
from collectors.trace import Trace, storing_in

Progress = Callable[[float, str], None]


def collectors() -> list[ModuleType]:
    """Return every collector, found by being in this folder."""
    return [m for m in _modules() if hasattr(m, "recognizes") and hasattr(m, "read")]


def companions() -> list[ModuleType]:
    """Return what writes files that lie beside recordings, found by being in this folder."""
    return [m for m in _modules() if hasattr(m, "no_recording")]


def _modules() -> list[ModuleType]:
    # Not pkgutil: it takes a folder that cannot be listed, for want of memory, for an empty one.
    here = Path(__file__).parent
    entries = sorted(os.listdir(here))  # noqa: PTH208 - glob hides errors, too
    names = [e.removesuffix(".py") for e in entries if e.endswith(".py") and e != "__init__.py"]
    names += [f"{e}.{e}" for e in entries if (here / e / f"{e}.py").is_file()]
    return [importlib.import_module(f"collectors.{n}") for n in sorted(names)]


def open_trace(path: Path, root: Path, *, on_progress: Progress | None = None) -> Trace:
    """Read the recording at ``path`` into the cache folder ``root``.

    Args:
        path: File to read; never changed. ``ARCHIVE.zip/NAME`` is one in an archive.
        root: Cache folder.
        on_progress: Called with the part done, 0 to 1, and what is being done.

    Raises:
        RefusedError: The file is none of the formats that are known, it is damaged, or it
            changed while it was read.
        EnvironmentFailedError: The machine failed: disk full, nsys missing.
    """
    input_file.look_at(path)
    for companion in companions():
        if line := companion.no_recording(path):
            raise RefusedError(line)
    for collector in collectors():
        if collector.recognizes(path):
            with storing_in(root):
                trace: Trace = collector.read(path, root, on_progress or _silent)
            return trace
    raise RefusedError(input_file.unknown(path, known_as()))


def is_recording(path: Path) -> bool:
    """Tell whether any collector reads the file at ``path``, by its name and content."""
    return any(collector.recognizes(path) for collector in collectors())


def may_become_recording(path: Path) -> bool:
    """Tell whether what has arrived at ``path`` so far can be the beginning of a recording."""
    return any(collector.may_begin(path) for collector in collectors())


@functools.cache  # asked for every file of a folder
def suffixes() -> tuple[str, ...]:
    """Return the endings of files that are worth listing without a look inside."""
    return tuple(suffix for c in collectors() for suffix in c.SUFFIXES)


@functools.cache
def shared_suffixes() -> tuple[str, ...]:
    """Return the endings of files that are recordings only if ``is_recording`` says so."""
    return tuple(suffix for c in collectors() for suffix in getattr(c, "SHARED_SUFFIXES", ()))


def all_suffixes() -> tuple[str, ...]:
    """Return every ending that a recording may have, each once, in the order of the alphabet."""
    return tuple(sorted({*suffixes(), *shared_suffixes()}))


def known_as() -> str:
    """Return the words for everything that is read, for a message."""
    return "; ".join(str(c.KNOWN_AS) for c in collectors())


def _silent(_done: float, _doing: str) -> None:
    """Report to nobody."""
