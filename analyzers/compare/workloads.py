"""Whether both sides measured the same work: their iterations, workloads, results and ranks."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np

from analyzers.compare.differences import stated_difference
from analyzers.compare.same_work import launches_by_name, loop_likeness, repeat_the_same, work_match
from analyzers.compare.side import Side, Sides
from analyzers.compare.types import Difference, Level
from analyzers.compare.work_amount import work_ratio
from analyzers.words import share_text

MIN_REPEATED = 2  # times, for a range to be an iteration
MAX_RANGE_NAME = 80  # characters; a longer one is no name that somebody types
MAX_COUNT_RATIO = 1.5  # of iterations, before it is worth a warning


def window_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Compare the ranges that are iterations, and how many were recorded."""
    loops = [sorted({side.loop for side in sides}) for sides in (base, new)]
    has_loop = [bool(side.loop) for side in (*base, *new)]
    if any(has_loop) and not all(has_loop):
        missing = next(s for s in (*base, *new) if not s.loop)
        yield Difference(
            what="window",
            base=", ".join(loops[0]),
            new=", ".join(loops[1]),
            level=Level.BLOCKING,
            sentence=(
                "Iterations were found in only some of the recordings; "
                f"{missing.source['name']} has none. {_way_to_iterations(base, new)}"
            ),
        )
        return
    if all(has_loop):
        yield from _found_loops(base, new)
        why = "Make sure that both are one iteration of the same work."
        yield stated_difference(
            "window", "The range that marks an iteration", loops, Level.WARNING, why
        )
        counts = [[len(side.start_ns) for side in sides] for sides in (base, new)]
        yield _counts(counts)
        return
    level, why = Level.WARNING, "that is right only if both did the same work."
    if len(base) == len(new) == 1 and (match := work_match(base[0], new[0])).is_same:
        share = share_text(match.same_share, 1)
        level = Level.INFO
        why = f"both did the same work, {share} of the launches are of kernels launched as often."
    elif len(base) == len(new) == 1 and work_ratio(base[0], new[0]) is not None:
        level = Level.INFO
        why = "both did the same work, in another amount."
    elif command := _shared_range_command(base, new):
        why = f"{why} {command}"
    yield Difference(
        what="window",
        base=base[0].window,
        new=new[0].window,
        level=level,
        sentence=(f"No iterations were found on either side, so whole windows are compared: {why}"),
    )


def _way_to_iterations(base: Sides, new: Sides) -> str:
    """Say how to name what an iteration is: by a range that both sides have, if there is one."""
    return _shared_range_command(base, new) or (
        "Name what one iteration is on both sides with --iterations nvtx:NAME or kernel:NAME, or "
        "compare whole windows with --iterations none."
    )


def _shared_range_command(base: Sides, new: Sides) -> str:
    """Name the range that repeats in every recording and holds most time, and how to compare it.

    Empty when no range repeats in all of them.
    """
    first, *others = (side.ranges for side in (*base, *new))
    shares: dict[str, float] = {}
    for name in first:
        every = [ranges.get(name, (0, 0)) for ranges in (first, *others)]
        if min(count for count, _ in every) >= MIN_REPEATED and len(name) <= MAX_RANGE_NAME:
            totals = [max(ns for _, ns in ranges.values()) for ranges in (first, *others)]
            shares[name] = min(ns / max(t, 1) for (_, ns), t in zip(every, totals, strict=True))
    if not shares:
        return ""
    name = max(shares, key=lambda n: (shares[n], n))
    counts = [", ".join(f"{side.ranges[name][0]:,}" for side in sides) for sides in (base, new)]
    files = [" ".join(shlex.quote(side.source["name"]) for side in sides) for sides in (base, new)]
    between = " " if len(base) == len(new) == 1 else " -- "
    return (
        f"Both sides have the range {name!r} ({counts[0]} and {counts[1]} times); to compare one "
        f"of it with another: whyslow compare {between.join(files)} --iterations "
        f"{shlex.quote(f'nvtx:{name}')}."
    )


def _found_loops(base: Sides, new: Sides) -> Iterator[Difference]:
    """Say what tells that both sides repeat the same, where no program marks it."""
    if not any(side.is_loop_found for side in (*base, *new)):
        return
    likeness = share_text(loop_likeness(base[0], new[0]), 1)
    launches = [f"{sum(launches_by_name(sides[0]).values()):,.0f}" for sides in (base, new)]
    is_same = repeat_the_same(base, new)
    what = f"{launches[0]} kernel launches on base, {launches[1]} on new, {likeness} of them alike"
    yield Difference(
        what="loop",
        base=f"{launches[0]} launches",
        new=f"{launches[1]} launches",
        level=Level.INFO if is_same else Level.BLOCKING,
        sentence=(
            f"Iterations were found in what is launched: {what}."
            if is_same
            else f"What is launched repeats different things on both sides: {what}. "
            f"{_way_to_iterations(base, new)}"
        ),
    )


def _counts(counts: list[list[int]]) -> Difference:
    texts = [", ".join(f"{c:,}" for c in side) for side in counts]
    fields: dict[str, Any] = {"what": "iterations", "base": texts[0], "new": texts[1]}
    sizes = [float(np.mean(side)) for side in counts]
    if sizes[0] == sizes[1]:
        sentence = f"Iterations: {texts[0]} on both sides."
        if counts[0] != counts[1]:
            sentence = f"Iterations: {texts[0]} on base, {texts[1]} on new."
        return Difference(**fields, level=Level.SAME, sentence=sentence)
    much = max(sizes) > MAX_COUNT_RATIO * min(sizes)
    return Difference(
        **fields,
        level=Level.WARNING if much else Level.INFO,
        sentence=(
            f"The number of iterations differs: {texts[0]} on base, {texts[1]} on new; "
            "times are given per iteration."
        ),
    )


def workload_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Compare what the workloads state about themselves, and what they computed."""
    stated = [[str(s.summary.get("pair") or "") for s in sides] for sides in (base, new)]
    if not any(any(s) for s in stated):
        return
    why = "They do different work."
    yield stated_difference("workload", "The workload", stated, Level.BLOCKING, why)
    devices = [[str(s.summary.get("device") or "") for s in sides] for sides in (base, new)]
    yield stated_difference("workload device", "The kind of device", devices, Level.BLOCKING)
    seeds = [[str(s.summary.get("seed", "")) for s in sides] for sides in (base, new)]
    yield stated_difference("seed", "The seed", seeds, Level.WARNING)
    yield _results(base, new)


def _results(base: Sides, new: Sides) -> Difference:
    """Compare what the programs computed; a faster wrong result is worth nothing."""
    results = [
        [side.summary.get("result") or {} for side in sides if side.summary.get("result")]
        for sides in (base, new)
    ]
    if not results[0] or not results[1]:
        return stated_difference("result", "The result", [[""], [""]], Level.UNKNOWN)
    first, distance = results[0][0], 0.0
    for other in (*results[0][1:], *results[1]):
        distance = max(distance, _distance(first, other))
    agrees = distance <= 1.0
    sentence = "Both sides compute the same result, within the workload's own tolerance."
    if not agrees:
        sentence = (
            "The two sides compute different results: they are further apart than the "
            "workload's own tolerance, so neither is an optimization of the other."
        )
    level = Level.SAME if agrees else Level.BLOCKING
    return Difference(what="result", base="", new="", level=level, sentence=sentence)


def _distance(first: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference between two results, in units of what is tolerated."""
    values = first.get("values") or [], other.get("values") or []
    if len(values[0]) != len(values[1]):
        return math.inf
    tolerance = max(float(first.get("rtol") or 0.0), float(other.get("rtol") or 0.0))
    worst = 0.0
    for a, b in zip(*values, strict=True):
        allowed = max(tolerance * max(abs(a), abs(b)), 1e-6)
        worst = max(worst, abs(a - b) / allowed) if math.isfinite(a - b) else math.inf
    return worst


def rank_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Tell processes of one distributed job from repeated runs."""
    ranks = [[side.source.get("rank") or "" for side in sides] for sides in (base, new)]
    distinct = [sorted({rank for rank in side if rank}, key=int) for side in ranks]
    if not all(distinct):
        return
    texts = [", ".join(side) for side in distinct]
    if max(map(len, distinct)) > 1:
        label, several = next(
            (n, t) for n, t, k in zip(("base", "new"), texts, distinct, strict=True) if len(k) > 1
        )
        yield Difference(
            what="ranks as runs",
            base=texts[0],
            new=texts[1],
            level=Level.BLOCKING,
            sentence=(
                f"The recordings of {label} are of ranks {several} of a distributed job. Ranks are "
                "not repeated runs: compare the same rank of each run."
            ),
        )
        return
    if texts[0] != texts[1] and _are_of_one_job(base, new):
        yield Difference(
            what="ranks",
            base=texts[0],
            new=texts[1],
            level=Level.BLOCKING,
            sentence=(
                f"These are ranks {texts[0]} and {texts[1]} of one job, not a program before and "
                "after a change. Open them as that job to see which rank waits for which: both in "
                "one file (the traceEvents of all ranks in one torch trace, or all processes in "
                "one nsys report)."
            ),
        )
        return
    why = "Ranks may do different work."
    yield stated_difference("ranks", "The rank", ranks, Level.WARNING, why)


def _are_of_one_job(base: Sides, new: Sides) -> bool:
    """Tell whether two ranks ran in one job: at the same time, or in jobs of one size."""
    times = [_wall_clock(side) for side in (*base, *new)]
    if all(times):
        spans = [time for time in times if time]
        return max(start for start, _ in spans) <= min(end for _, end in spans)
    sizes = {side.source.get("world_size") or "" for side in (*base, *new)}
    return len(sizes) == 1 and "" not in sizes


def _wall_clock(side: Side) -> tuple[int, int] | None:
    """Return from when to when a recording's work ran, in ns since 1970; None when not known."""
    zero = side.source.get("start_utc_ns")
    if not zero:
        return None
    return int(zero) + int(side.start_ns.min()), int(zero) + int(side.end_ns.max())
