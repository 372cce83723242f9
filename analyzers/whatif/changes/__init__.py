"""What could be changed about a program: one change a file, found by being there.

A file defines

* ``NAME``: what the change is called where it could not be predicted;
* ``ORDER``: its place among the others, which decides between equal gains;
* ``make(facts, graph, reach)``: the changed graph as one ``Change`` or several, or a sentence that
  says why there is nothing to change.

``change.py`` holds what they share.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from analyzers.facts.facts import Facts
from analyzers.whatif.changes.change import Reach, Result
from analyzers.whatif.graph import Graph


def all_changes() -> list[ModuleType]:
    """Return every change, found by being in the folder, in their order."""
    # Not pkgutil: it takes a folder that cannot be listed, for want of memory, for an empty one.
    files = sorted(os.listdir(__path__[0]))  # noqa: PTH208 - glob hides errors, too
    names = [f.removesuffix(".py") for f in files if f.endswith(".py")]
    modules = [importlib.import_module(f"{__name__}.{n}") for n in names if n != "__init__"]
    return sorted((m for m in modules if hasattr(m, "make")), key=lambda m: int(m.ORDER))


def make_changes(
    facts: Facts, graph: Graph, reach: Reach, only: frozenset[str] = frozenset()
) -> list[tuple[str, Result]]:
    """Return every change that the recording can answer for, and why not for the others.

    Args:
        facts: The recording.
        graph: Its dependencies.
        reach: The window.
        only: Names of the changes to make; all of them where none is named.
    """
    modules = [m for m in all_changes() if not only or m.NAME in only]
    return [(str(m.NAME), m.make(facts, graph, reach)) for m in modules]
