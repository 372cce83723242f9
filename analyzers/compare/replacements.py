"""Kernels of one side only that do what other kernels do on the other side.

Another version of a library, a compiler that fuses, another algorithm for the same convolution:
kernels disappear and others appear. They belong together where they ran for the same operator with
inputs of the same shapes (the one that replaces may have been used elsewhere before), else where
they stand between the same launches of both sides: launches of kernels that both sides have divide
an iteration into gaps, the k-th launch of a kernel standing for the k-th on the other side, in the
longest order that both share.

A kernel that was replaced at several places has a part of its time in each: in proportion to what
its launches there take in a typical iteration.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analyzers.compare.side import OTHERS, Side
from analyzers.intervals import Array

MAX_REPLACEMENTS = 500  # those that take most time; the kernels of others stay new or gone
MAX_MEMBERS = 16  # kernels of a side in a gap; a larger one says no more than that much changed


@dataclass(frozen=True, kw_only=True, eq=False)
class Replacement:
    """Launches of one side that those of the other side replace.

    Attributes:
        operator: What they ran for; empty where they were found by their place.
        shapes: Of its inputs, a JSON list.
        neighbours: Names of the kernels that both sides launch before and after, empty at an end
            of the iteration; of several places those of the first.
        ranges: Names of the ranges around base's launches, most launches first.
        launches: For each side the places in its ``Kernels.sequence``.
        gap_ns: For each side the summed durations in each gap that has launches of both.
    """

    operator: str
    shapes: str
    neighbours: tuple[str, str]
    ranges: tuple[str, ...]
    launches: tuple[Array, Array]
    gap_ns: tuple[Array, Array]


def replacements(base: Side, new: Side, rows: tuple[Array, Array]) -> list[Replacement]:
    """Return what was replaced, found by operator first, then by place.

    Args:
        base: The first run before.
        new: The first run after.
        rows: For each side the row of the table of each of its kernels; equal where both have it.
    """
    sides = (base, new)
    row = [r[s.kernels.sequence] for r, s in zip(rows, sides, strict=True)]
    named = [_has_name(s) for s in sides]
    launches = _by_operator(row, named, operators(sides))
    shared = np.intersect1d(row[0], row[1])
    anchors = _anchors(row[0], row[1], shared)
    gaps = [
        np.searchsorted(a, np.arange(len(r)), side="right")
        for a, r in zip(anchors, row, strict=True)
    ]
    if len(anchors[0]):
        left = [n & ~np.isin(r, shared) for n, r in zip(named, row, strict=True)]
        for _, of_both in launches:
            for mask, places in zip(left, of_both, strict=True):
                mask[places] = False
        launches += [(NO_SUBJECT, of_both) for of_both in _by_gap(sides, left, gaps)]
    most = sorted(launches, key=lambda group: -_ns(sides, group[1]))[:MAX_REPLACEMENTS]
    return [_replacement(sides, of_both, gaps, anchors, what) for what, of_both in most]


def _ns(sides: tuple[Side, Side], launches: _Launches) -> int:
    """Return what the launches of both sides take together."""
    return sum(
        int(side.kernels.sequence_ns[places].sum())
        for side, places in zip(sides, launches, strict=True)
    )


def _has_name(side: Side) -> Array:
    """Tell which launches of a typical iteration are of one kernel, not of all others."""
    others = np.array([name == OTHERS for name in side.kernels.names], dtype=bool)
    named: Array = ~others[side.kernels.sequence]
    return named


Subject = tuple[str, str]
"""An operator and the shapes of its inputs."""
NO_SUBJECT: Subject = ("", "")
_Launches = tuple[Array, Array]


class Operators(NamedTuple):
    """What launches of both sides ran for: numbers into ``subjects``, -1 where not known."""

    subjects: list[Subject]
    of_launch: tuple[Array, Array]


def operators(sides: tuple[Side, Side]) -> Operators:
    """Return the operator and shapes of each launch of the typical iterations."""
    number: dict[Subject, int] = {}
    of_launch = []
    for side in sides:
        of_key = [
            number.setdefault((key.operator, key.shapes), len(number)) if key.operator else -1
            for key in side.work.keys
        ]
        of_launch.append(np.array([*of_key, -1])[side.kernels.sequence_work])
    return Operators(list(number), (of_launch[0], of_launch[1]))


def _anchors(base: Array, new: Array, shared: Array) -> tuple[Array, Array]:
    """Return the places on both sides of launches that belong to each other, in common order."""
    if not len(shared):
        return shared, shared
    tables = []
    for row in (base, new):
        place = np.flatnonzero(np.isin(row, shared))
        ordinal = pd.Series(row[place]).groupby(row[place]).cumcount().to_numpy()
        tables.append(pd.DataFrame({"row": row[place], "ordinal": ordinal, "place": place}))
    counts = [
        np.bincount(row[np.isin(row, shared)], minlength=shared.max() + 1) for row in (base, new)
    ]
    equal = np.flatnonzero(counts[0] == counts[1])
    if len(np.intersect1d(equal, shared)) and counts[0][equal].any():
        tables = [t[np.isin(t["row"], equal)] for t in tables]
    pairs = tables[0].merge(tables[1], on=["row", "ordinal"], suffixes=("", "_new"))
    pairs = pairs.sort_values("place")
    chosen = _longest_increasing(pairs["place_new"].tolist())
    return pairs["place"].to_numpy()[chosen], pairs["place_new"].to_numpy()[chosen]


def _longest_increasing(values: Sequence[int]) -> Array:
    """Return the places of a longest increasing subsequence (Schensted, 1961)."""
    tails: list[int] = []  # the least last value of an increasing subsequence of each length
    tail_places: list[int] = []
    before = np.full(len(values), -1, np.int64)
    for place, value in enumerate(values):
        length = bisect_left(tails, value)
        if length:
            before[place] = tail_places[length - 1]
        tails[length : length + 1] = [value]
        tail_places[length : length + 1] = [place]
    chosen = []
    place = tail_places[-1] if tail_places else -1
    while place >= 0:
        chosen.append(place)
        place = int(before[place])
    return np.array(chosen[::-1], dtype=np.int64)


def _by_operator(
    row: list[Array], named: list[Array], ran_for: Operators
) -> list[tuple[Subject, _Launches]]:
    """Return the launches of kernels that only one side uses for an operator with its shapes.

    A kernel that both sides have may be what replaces another one: it was used elsewhere before.
    """
    size = max(int(r.max(initial=0)) for r in row) + 1
    key = [s * size + r for s, r in zip(ran_for.of_launch, row, strict=True)]
    only = [
        (subject >= 0) & is_named & ~np.isin(one, other)
        for subject, is_named, one, other in zip(
            ran_for.of_launch, named, key, key[::-1], strict=True
        )
    ]
    places = [np.flatnonzero(mask) for mask in only]
    subjects = [s[p] for s, p in zip(ran_for.of_launch, places, strict=True)]
    return [
        (ran_for.subjects[code], (places[0][subjects[0] == code], places[1][subjects[1] == code]))
        for code in np.intersect1d(subjects[0], subjects[1]).tolist()
    ]


def _by_gap(sides: tuple[Side, Side], left: list[Array], gaps: list[Array]) -> list[_Launches]:
    """Return the launches of one side only in gaps that hold the same kernels of each side."""
    held: list[dict[int, list[int]]] = []
    for mask, gap_of_launch in zip(left, gaps, strict=True):
        of_side: dict[int, list[int]] = defaultdict(list)
        for place in np.flatnonzero(mask).tolist():
            of_side[int(gap_of_launch[place])].append(place)
        held.append(of_side)
    alike: dict[tuple[frozenset[int], ...], list[int]] = defaultdict(list)
    for gap in sorted(held[0].keys() & held[1].keys()):
        kernels = tuple(
            frozenset(side.kernels.sequence[of_side[gap]].tolist())
            for side, of_side in zip(sides, held, strict=True)
        )
        if max(map(len, kernels)) <= MAX_MEMBERS:
            alike[kernels].append(gap)
    return [
        (
            np.array([place for gap in same for place in held[0][gap]]),
            np.array([place for gap in same for place in held[1][gap]]),
        )
        for same in alike.values()
    ]


def _replacement(
    sides: tuple[Side, Side],
    launches: _Launches,
    gaps: list[Array],
    anchors: tuple[Array, Array],
    subject: Subject,
) -> Replacement:
    size = len(anchors[0]) + 1
    gap_ns = [
        np.bincount(gap[places], side.kernels.sequence_ns[places], minlength=size)
        for gap, places, side in zip(gaps, launches, sides, strict=True)
    ]
    both = (gap_ns[0] > 0) & (gap_ns[1] > 0)
    gap = int(gaps[0][launches[0][0]])
    sequence = sides[0].kernels.sequence
    before = anchors[0][gap - 1] if gap else -1
    after = anchors[0][gap] if gap < len(anchors[0]) else -1
    names = [sides[0].kernels.short_names[sequence[p]] if p >= 0 else "" for p in (before, after)]
    return Replacement(
        operator=subject[0],
        shapes=subject[1],
        neighbours=(names[0], names[1]),
        ranges=_ranges(sides[0], launches[0]),
        launches=launches,
        gap_ns=(gap_ns[0][both], gap_ns[1][both]),
    )


def _ranges(side: Side, launches: Array) -> tuple[str, ...]:
    """Return the names of the ranges around launches, most launches first."""
    counts = np.bincount(side.kernels.sequence_range[launches])
    order = np.argsort(-counts, kind="stable")
    names = [side.kernels.ranges[place] for place in order.tolist() if counts[place]]
    return tuple(name for name in names if name)
