"""The kernel time by place in the program, made when somebody looks at it and kept.

``<trace>/trees/<analysis>.json`` holds the trees of the window that ``analysis`` is of.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from library import analyses, kept_answers

if TYPE_CHECKING:
    from pathlib import Path

    from analyzers.work.program_tree import ProgramTree
    from collectors.trace import Trace
    from library.analyses import StoredAnalysis


def place_of(stored: StoredAnalysis) -> Path:
    """Return where the trees of an analysed window are kept."""
    return stored.folder.parent.parent / "trees" / f"{stored.folder.name}.json"


def load(stored: StoredAnalysis) -> tuple[ProgramTree, ...] | None:
    """Return the trees that were kept, or None when they have to be made."""
    from analyzers.work.program_tree import ProgramTree

    return kept_answers.load(
        place_of(stored), lambda data: tuple(ProgramTree.from_data(tree) for tree in data)
    )


def made(trace: Trace, stored: StoredAnalysis) -> tuple[ProgramTree, ...]:
    """Return the trees of an analysed window: as kept, or made now and kept.

    Args:
        trace: The recording.
        stored: The analysis of the window.

    Raises:
        TraceError: A table is damaged.
        OSError: The disk is full or cannot be written.
    """
    if (kept := load(stored)) is not None:
        return kept
    from analyzers.facts.facts import build_facts
    from analyzers.work.account import work_of_launches
    from analyzers.work.program_tree import program_trees

    facts = build_facts(trace)
    work = work_of_launches(facts, stored.report.window, analyses.device_peaks(trace.folder))
    trees = program_trees(facts, work)
    kept_answers.save(
        place_of(stored), [dataclasses.asdict(tree) for tree in trees], analyses.MAX_KEPT
    )
    return trees
