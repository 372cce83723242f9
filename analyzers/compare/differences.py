"""Differences between two sides in words, from what recordings, workloads or samples state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzers.compare.side import Sides
from analyzers.compare.types import Difference, Level


def stated_difference(
    what: str, noun: str, values: Sequence[Sequence[str]], level: Level, why: str = ""
) -> Difference:
    """Compare what both sides state in words.

    Args:
        what: Short name.
        noun: What it is, to begin a sentence with.
        values: Of the base recordings and of the new ones; empty where not recorded.
        level: What a difference means.
        why: A sentence that follows.
    """
    distinct = [sorted({v for v in side if v}) for side in values]
    texts = [", ".join(side) for side in distinct]
    fields: dict[str, Any] = {"what": what, "base": texts[0], "new": texts[1]}
    if not all(distinct):
        silent = "either side" if not any(distinct) else ("base" if not distinct[0] else "new")
        sentence = f"{noun} could not be compared: not recorded on {silent}."
        return Difference(**fields, level=Level.UNKNOWN, sentence=sentence)
    if distinct[0] == distinct[1] and len(distinct[0]) == 1:
        sentence = f"{noun} is the same on both sides: {texts[0]}."
        return Difference(**fields, level=Level.SAME, sentence=sentence)
    sentence = f"{noun} differs: {texts[0]} on base, {texts[1]} on new."
    return Difference(**fields, level=level, sentence=f"{sentence} {why}".strip())


def source_texts(sides: Sides, key: str) -> list[str]:
    """Return one property of each recording's file."""
    return [str(side.source.get(key) or "") for side in sides]


def environment_texts(sides: Sides, key: str) -> list[str]:
    """Return one property of each workload's environment; empty where not stated."""
    values = ((side.summary.get("environment") or {}).get(key) for side in sides)
    return [str(v) if v is not None else "" for v in values]


def telemetry_values(sides: Sides, key: str) -> list[float | None]:
    """Return one quantity sampled beside each recording; None where it was not sampled."""
    values = [side.telemetry.get(key) for side in sides]
    return [float(v) if isinstance(v, int | float) else None for v in values]
