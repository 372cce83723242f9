"""Whether both sides look like the same program: their input shapes and kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from analyzers.compare.differences import stated_difference
from analyzers.compare.side import GRAPH_NAME, OTHERS, Sides
from analyzers.compare.types import Difference, Level
from analyzers.words import share_text

MIN_COMMON_KERNELS = 0.5  # of the kernel time; below, most of the work runs in other kernels
MIN_SAME_OPERATORS = 0.5  # of the calls are of operators that both have: the same program …
MAX_OTHER_SHAPES = 0.1  # … but at most these with inputs of a shape that both have


def shape_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Compare the shapes of the operators' inputs."""
    calls = [_operators(sides) for sides in (base, new)]
    if not calls[0] or not calls[1]:
        if calls[0] or calls[1] or any(s.source["format"] == "torch-json" for s in base):
            yield stated_difference("shapes", "Input shapes", [[""], [""]], Level.UNKNOWN)
        return
    names = [{name for name, _ in side} for side in calls]
    same_names = _share(calls, lambda key: key[0] in names[0] & names[1])
    common = set(calls[0]) & set(calls[1])
    same = _share(calls, lambda key: key in common)
    texts = [share_text(s, 1) for s in same]
    fields: dict[str, Any] = {"what": "shapes", "base": texts[0], "new": texts[1]}
    if min(same_names) >= MIN_SAME_OPERATORS and max(same) <= MAX_OTHER_SHAPES:
        example = _example(calls)
        yield Difference(
            **fields,
            level=Level.BLOCKING,
            sentence=f"The same operators get inputs of different shapes{example}: a different "
            "problem.",
        )
        return
    sentence = f"{texts[0]} of base's and {texts[1]} of new's operator calls have inputs of a shape"
    level = Level.SAME if min(same) >= 1 - MAX_OTHER_SHAPES else Level.WARNING
    example = "" if level is Level.SAME else _example(calls)
    yield Difference(
        **fields, level=level, sentence=f"{sentence} that the other side has{example}."
    )


def _operators(sides: Sides) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = {}
    for side in sides:
        for (name, shape), calls in side.operators.items():
            key = name, "".join(shape.split())  # versions of torch write other blanks
            sums[key] = sums.get(key, 0.0) + calls / len(sides)
    return sums


def _share(
    counted: list[dict[tuple[str, str], float]], chosen: Callable[[tuple[str, str]], bool]
) -> list[float]:
    return [
        sum(calls for key, calls in side.items() if chosen(key)) / sum(side.values())
        for side in counted
    ]


def _example(counted: list[dict[tuple[str, str], float]]) -> str:
    """Name the operator with most calls that has no shape in common."""
    by_name: list[dict[str, dict[str, float]]] = [{}, {}]
    for side, grouped in zip(counted, by_name, strict=True):
        for (name, shape), calls in side.items():
            grouped.setdefault(name, {})[shape] = calls
    for name, shapes in by_name[0].items():
        others = by_name[1].get(name, {})
        if others and not set(shapes) & set(others):
            first = [max(s, key=lambda k: s[k])[:60] for s in (shapes, others)]
            return f" ({name[:60]}: {first[0]} on base, {first[1]} on new)"
    return ""


def common_kernel_shares(
    base: Sides, new: Sides, hidden: frozenset[str] = frozenset()
) -> tuple[float, float] | None:
    """Return the part of each side's kernel time that is in kernels of both; None without any.

    Args:
        base: Recordings before the change.
        new: Recordings after it.
        hidden: Names that stand for kernels which are not known, and do not count.
    """
    times = [
        {name: ns for name, ns in _kernel_times(sides).items() if name not in hidden}
        for sides in (base, new)
    ]
    if not times[0] or not times[1]:
        return None
    common = set(times[0]) & set(times[1])
    of_base, of_new = (
        sum(ns for name, ns in side.items() if name in common) / max(sum(side.values()), 1)
        for side in times
    )
    return of_base, of_new


def kernel_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Compare which kernels take the time."""
    shares = common_kernel_shares(base, new)
    if shares is None:
        return
    if common_kernel_shares(base, new, frozenset((GRAPH_NAME,))) is None:
        yield Difference(
            what="kernels",
            base="",
            new="",
            level=Level.UNKNOWN,
            sentence=(
                "Kernels could not be compared: a side launches graphs that were recorded as a "
                "whole. nsys profile --cuda-graph-trace=node records what is in them."
            ),
        )
        return
    texts = [share_text(s, 1) for s in shares]
    fields: dict[str, Any] = {"what": "kernels", "base": texts[0], "new": texts[1]}
    sentence = (
        f"Kernels common to both sides take {texts[0]} of base's kernel time, {texts[1]} of new's"
    )
    if max(shares) > 0 or _looks_the_same(base, new):
        level = Level.SAME if min(shares) >= MIN_COMMON_KERNELS else Level.WARNING
        more = "" if level is Level.SAME else "; most of the work runs in other kernels"
        yield Difference(**fields, level=level, sentence=f"{sentence}{more}.")
        return
    yield Difference(
        **fields,
        level=Level.BLOCKING,
        sentence=(
            "These look like different programs: they have no kernel and no operator in common, "
            "and no range except perhaps one around each iteration. If both do the same work, "
            "compare them with: whyslow compare --anyway."
        ),
    )


def _kernel_times(sides: Sides) -> dict[str, int]:
    sums: dict[str, int] = {}
    for side in sides:
        kernels = side.kernels
        ns = np.bincount(
            kernels.by_iteration.column, kernels.by_iteration.ns, minlength=len(kernels.names)
        )
        for name, spent in zip(kernels.names, ns.tolist(), strict=True):
            sums[name] = sums.get(name, 0) + int(spent)
    return sums


def _looks_the_same(base: Sides, new: Sides) -> bool:
    """Tell whether the sides share a workload, an operator, a range, or a kernel's short name.

    A range around each iteration says nothing: every program has a ``step``.
    """
    loops = {side.loop for side in (*base, *new)}
    names = []
    for sides in (base, new):
        side_names = {side.summary.get("pair") for side in sides}
        side_names |= {name for side in sides for name, _ in side.operators}
        side_names |= {name for side in sides for _, name, _ in side.regions.keys} - loops
        side_names |= {name for side in sides for name in side.kernels.short_names}
        names.append(side_names - {"", None, OTHERS, GRAPH_NAME})
    return bool(names[0] & names[1])
