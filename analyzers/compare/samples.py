"""Which repetitions of a run are compared: what follows what, and which are warm-up.

The time of an iteration reaches to the begin of the next one, so that work between iterations
(fetching the next batch, say) is not lost from the comparison when it moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analyzers.compare.statistics import MIN_SAMPLES, correlation_time
from analyzers.facts.spans import Iteration
from analyzers.intervals import Array, Spans
from analyzers.words import share_text

MAX_GAP_SHARE = 0.01  # between iterations that follow each other at once, of their length
MAX_WARM_UP_SHARE = 1 / 3  # of the iterations; what is longer is no warm-up
MIN_STEP_SHARE = 0.02  # by which a warm-up differs at least from what follows
MAX_PHASES = 3  # compiling, then caches, then clocks
FAR_LONGER = 2.0  # times as long as any later one: compiling, loading; no statistics are needed
TRIED_BORDERS = 200
PENALTY = 2.0  # parameters that a step adds: its place and its height


class WarmUp(NamedTuple):
    """The iterations at the beginning that are left out, and how that was decided."""

    dropped: int
    how: str


def periods(iterations: Sequence[Iteration], *, until_next: bool) -> tuple[Spans, Array]:
    """Return the stretch of each iteration, by begin, and which iterations these are.

    Args:
        iterations: As found.
        until_next: Whether each reaches to the begin of the next one. The last one then has no
            known end, and is left out unless iterations follow each other at once. Otherwise
            those that overlap an earlier one are left out.
    """
    start = np.array([i.start_ns for i in iterations], np.int64)
    end = np.array([i.end_ns for i in iterations], np.int64)
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    if not until_next or len(start) < 2:
        kept = _without_overlaps(start, end)
        return Spans(start[kept], end[kept]), order[kept]
    distinct = np.append(start[1:] > start[:-1], True)
    start, end, order = start[distinct], end[distinct], order[distinct]
    gaps = np.maximum(start[1:] - end[:-1], 0)
    reach = np.append(start[1:], max(int(end[-1]), int(start[-1]) + 1))
    at_once = np.median(gaps) <= MAX_GAP_SHARE * np.median(reach - start) if len(gaps) else True
    ended = slice(None) if at_once or len(start) <= 2 else slice(-1)
    return Spans(start[ended], reach[ended]), order[ended]


def _without_overlaps(start: Array, end: Array) -> Array:
    """Return the places of stretches, sorted by begin, that overlap none that was kept before.

    Nested ones and those of several threads would count the same time twice.
    """
    order = np.lexsort((-end, start))  # of those that begin together the longest
    kept, reached = [], None
    for place in order.tolist():  # which are kept depends on which were
        if reached is None or start[place] >= reached:
            kept.append(place)
            reached = end[place]
    return np.array(kept, dtype=np.int64)


def warm_up(samples: Array) -> WarmUp:
    """Return how many iterations at the beginning differ from those that follow.

    Iterations far longer than any later one are. Then a step is placed where two medians fit the
    durations best, and believed when the sum of absolute deviations falls by more than chance
    would make it (Schwarz's criterion for double-exponential noise, 1978, over as many iterations
    as are independent); what follows it is looked at again. A step later than a warm-up can be is
    none: clocks that fall or another part of the program change a run in its midst, and both parts
    of it are the run. Then what is before the step is looked at by itself.
    """
    count = until = len(samples)
    most = min(int(MAX_WARM_UP_SHARE * count), count - MIN_SAMPLES)
    dropped = _far_longer(samples, most)
    for _ in range(MAX_PHASES):
        step = _step(samples[dropped:until])
        if not step:
            break
        if dropped + step > most:
            until = dropped + step
        else:
            dropped += step
    if not dropped:
        return WarmUp(0, "no warm-up was found")
    before, after = np.median(samples[:dropped]), np.median(samples[dropped:])
    slower = "longer" if before > after else "shorter"
    many = "iteration" if dropped == 1 else f"{dropped} iterations"
    part = share_text(abs(before / after - 1), 1)
    how = f"the first {many} took {part} {slower} than those that follow"
    return WarmUp(dropped, how)


def _far_longer(samples: Array, most: int) -> int:
    """Return how many iterations at the beginning are each far longer than any that follows."""
    if most < 1:
        return 0
    shortest = np.minimum.accumulate(samples)[:most]
    longest = np.maximum.accumulate(samples[::-1])[::-1][1 : most + 1]
    last = np.flatnonzero(shortest >= FAR_LONGER * longest)
    return int(last[-1]) + 1 if len(last) else 0


def shift_within(samples: Array) -> int:
    """Return after how many of these iterations their level changes for good; 0 for never."""
    return _step(samples)


def _step(samples: Array) -> int:
    """Return where the level of ``samples`` changes; 0 for nowhere."""
    count = len(samples)
    if count <= MIN_SAMPLES:
        return 0
    level = float(np.median(samples))
    floor = 1e-4 * level * count  # so that a series without noise has no infinite evidence
    plain = _spread(samples) + floor
    borders = np.arange(1, count)
    if count > TRIED_BORDERS:
        borders = np.unique(np.geomspace(1, count - 1, TRIED_BORDERS).astype(np.int64))
    costs = [_spread(samples[:b]) + _spread(samples[b:]) + floor for b in borders.tolist()]
    best = int(np.argmin(costs))
    border = int(borders[best])
    # Iterations that resemble each other drift without any warm-up, so they say less.
    steady = samples[max(border, count // 2) :]
    if len(steady) < 2 * MIN_SAMPLES:
        steady = samples[border:]
    independent = count / correlation_time(steady)
    if independent * math.log(plain / costs[best]) <= PENALTY * math.log(count):
        return 0
    rest = float(np.median(samples[border:]))
    return border if abs(float(np.median(samples[:border])) - rest) > MIN_STEP_SHARE * rest else 0


def _spread(samples: Array) -> float:
    return float(np.abs(samples - np.median(samples)).sum())
