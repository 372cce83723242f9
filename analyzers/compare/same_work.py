"""Two runs without iterations to compare: whether they did the same work, and what pairs say.

Windows of one recording a side are compared stretch by stretch: a kernel that both sides launched
equally often cuts both windows at the same launches, and between two cuts both did the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analyzers.compare.paired import MIN_PAIRS, PairedChange, paired_change, paired_rows
from analyzers.compare.run_to_run import MEASURED_ONCE, NORMAL, NORMAL_POWER
from analyzers.compare.side import OTHERS, LaunchTimes, Side, Sides
from analyzers.compare.statistics import Columns, Estimate
from analyzers.intervals import Array
from analyzers.words import count_text, share_text

MIN_SAME_LAUNCHES = 0.9  # of either side's, in kernels launched equally often, to be the same work
# Of launches by name, for two loops to repeat the same thing: half as many layers in a step is 0.5.
MIN_LOOP_LIKENESS = 0.6
MIN_REACH = 0.5  # of either window, between the first and the last cut
MAX_STRETCHES = 256  # of a window; more win little
MAX_ORDINAL = 1 << 40  # above any ordinal: makes one number of a name and an ordinal


@dataclass(frozen=True, kw_only=True)
class WorkMatch:
    """How far two sides launched the same.

    Attributes:
        same_share: Of the launches, the part in kernels that both launched equally often; of the
            side where it is less.
        base_launches: Kernel launches on the base side, per iteration or in the window.
        new_launches: On the new side.
        is_same: Whether they did the same work.
    """

    same_share: float
    base_launches: float
    new_launches: float
    is_same: bool


class MatchedLaunches(NamedTuple):
    """Places in ``Side.launch_times`` of both sides that belong to each other."""

    base: Array
    new: Array


def work_match(base: Side, new: Side) -> WorkMatch:
    """Return how far two sides launched the same kernels equally often."""
    counts = [launches_by_name(side) for side in (base, new)]
    totals = [sum(c.values()) for c in counts]
    equal = {name for name, n in counts[0].items() if counts[1].get(name) == n}
    same = sum(counts[0][name] for name in equal)
    share = same / max(*totals, 1)
    moved = [
        {
            name: float(values[side.kept].mean())
            for name, values in side.counts.items()
            if name.endswith((" copies", " bytes"))
        }
        for side in (base, new)
    ]
    swapped = totals[0] == totals[1] and moved[0] == moved[1]  # each kernel by another one
    return WorkMatch(
        same_share=share if any(totals) else float(moved[0] == moved[1]),
        base_launches=totals[0],
        new_launches=totals[1],
        is_same=share >= MIN_SAME_LAUNCHES or swapped,
    )


def loop_likeness(base: Side, new: Side) -> float:
    """Return how alike an iteration of one side is to one of the other, by what is launched.

    The weighted Jaccard similarity (Ruzicka, 1958) of launches by name; launch configurations may
    be what was changed.
    """
    counts = [launches_by_name(side) for side in (base, new)]
    names = counts[0].keys() | counts[1].keys()
    pairs = [(counts[0].get(n, 0.0), counts[1].get(n, 0.0)) for n in names]
    return sum(map(min, pairs)) / max(sum(map(max, pairs)), 1e-9)


def repeat_the_same(base: Sides, new: Sides) -> bool:
    """Tell whether the iterations of all recordings are the same thing: a step, or a layer."""
    first, *others = (*base, *new)
    return all(
        bool(first.loop and other.loop) and loop_likeness(first, other) >= MIN_LOOP_LIKENESS
        for other in others
    )


def launches_by_name(side: Side) -> dict[str, float]:
    """Return how often each kernel name is launched in an iteration, or in the window."""
    table = side.kernels.by_iteration
    kept = table.iteration >= side.warm_up
    sums = np.bincount(table.column[kept], table.count[kept], minlength=len(side.kernels.names))
    each = sums / (len(side.start_ns) - side.warm_up)
    counts: dict[str, float] = {}
    for name, launches in zip(side.kernels.names, each.tolist(), strict=True):
        counts[name] = counts.get(name, 0.0) + launches
    return counts


def matched_launches(base: Side, new: Side, *, is_same_amount: bool = True) -> MatchedLaunches:
    """Return the launches that belong to each other: the k-th of each name, of the run's order.

    Args:
        base: The run before.
        new: The run after.
        is_same_amount: Whether only names count that both launched equally often; else what one
            side launched more often is left over at the end.
    """
    counts = [launches_by_name(side) for side in (base, new)]
    equal = [
        name
        for name, count in counts[0].items()
        if name in counts[1] and name != OTHERS and (not is_same_amount or counts[1][name] == count)
    ]
    if len(base.start_ns) - base.warm_up != len(new.start_ns) - new.warm_up:
        equal = []
    number = {name: place for place, name in enumerate(equal)}
    keys = []
    for side in (base, new):
        of_column = np.array([number.get(n, -1) for n in side.kernels.names] or [-1])
        name = of_column[side.launch_times.column]
        place = np.arange(len(name))
        key = name * MAX_ORDINAL + side.launch_times.ordinal
        keys.append(pd.Series(place, index=key)[name >= 0])
    common = keys[0].index.intersection(keys[1].index, sort=False)
    return MatchedLaunches(keys[0][common].to_numpy(), keys[1][common].to_numpy())


def between_windows(base: Side, new: Side) -> Estimate:
    """Return the difference of two runs with too few iterations, by what both did alike."""
    levels = [float(np.median(s.durations_ns[s.kept])) for s in (base, new)]
    match = work_match(base, new)
    if not match.is_same:
        return Estimate(base=levels[0], new=levels[1], how=_other_work(match))
    stretches = stretches_between(base, new)
    paired = paired_change(*stretches.durations()) if stretches else None
    if paired is None:
        fewest = min(len(s.start_ns) - s.warm_up for s in (base, new))
        return measured_once(levels[0], levels[1], fewest)
    return of_pairs(paired, (levels[0], levels[1]))


def of_pairs(paired: PairedChange, levels: tuple[float, float]) -> Estimate:
    """Return the difference of two levels, as sure as pairs of stretches are.

    Args:
        paired: What the pairs say.
        levels: Time on the base side and on the new one.
    """
    scale = math.hypot(*levels) / math.hypot(paired.base, paired.new)
    reach, change = paired.reach * scale, levels[1] - levels[0]
    return Estimate(
        base=levels[0],
        new=levels[1],
        low=change - reach,
        high=change + reach,
        p_value=paired.p_value,
        detectable=reach * (1 + NORMAL_POWER / NORMAL),
        how=(
            f"Stretches of the same work are the units: {paired.pairs} pairs between the same "
            f"launches on both sides, which count as {paired.independent:,.0f} independent ones; "
            f"the new side is faster in {paired.faster} and slower in {paired.slower}.",
            "Interval: the noise of the pairs' ratios about a smooth trend, widened for "
            "correlated neighbours. Test: Student's on the sum and Wilcoxon's signed ranks; "
            "both must agree.",
        ),
    )


def row_columns(
    base: Side, new: Side, change: Array, sums: Array, scale: float = 1.0
) -> Columns | None:
    """Return the uncertainty within the two runs of what sums of rows of the ledger changed by.

    Args:
        base: The run before.
        new: The run after.
        change: Change of each sum of rows.
        sums: A row for each row of the ledger, a column for each sum: 1 where it counts.
        scale: The new side's work as a part of base's, where that is compared.
    """
    if scale == 1.0 and not work_match(base, new).is_same:
        return None
    stretches = stretches_between(base, new, is_same_amount=scale == 1.0)
    if stretches is None:
        return None
    tables = stretches.accounts()
    if len(tables[0]) < MIN_PAIRS:
        return None
    columns = paired_rows(tables[0] @ sums, tables[1] @ sums)
    kept = base.durations_ns[base.kept].sum() / (len(base.start_ns) - base.warm_up)
    reach = columns.reach * scale * kept / max(float(tables[0].sum()), 1.0)
    detectable = reach * (1 + NORMAL_POWER / NORMAL)
    return Columns(change, change - reach, change + reach, columns.p_value, detectable)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretches:
    """Two windows cut at the same launches.

    Attributes:
        cuts: Begins of the launches that cut each window.
        places: The same launches, as places in ``LaunchTimes.cut`` where the ledger was cut too.
        times: The launches of both sides.
    """

    cuts: tuple[Array, Array]
    places: tuple[Array, Array]
    times: tuple[LaunchTimes, LaunchTimes]

    def durations(self) -> tuple[Array, Array]:
        """Return how long each stretch took, on both sides."""
        return np.diff(self.cuts[0]), np.diff(self.cuts[1])

    def accounts(self) -> tuple[Array, Array]:
        """Return the rows of the ledger of each stretch, a line a stretch, on both sides."""
        base, new = (
            np.diff(t.ledger_before_ns[p], axis=0)
            for t, p in zip(self.times, self.places, strict=True)
        )
        return base, new


def stretches_between(base: Side, new: Side, *, is_same_amount: bool = True) -> Stretches | None:
    """Cut both windows at launches of the kernel that reaches furthest through both.

    Args:
        base: The run before.
        new: The run after.
        is_same_amount: As in ``matched_launches``.
    """
    pairs = matched_launches(base, new, is_same_amount=is_same_amount)
    times = base.launch_times, new.launch_times
    names: Array = pd.factorize(np.array(base.kernels.names, dtype=object))[0]
    name = names[times[0].column[pairs.base]] if len(pairs.base) else np.empty(0, np.int64)
    best: tuple[float, int, Array] | None = None
    lengths = [float(s.end_ns[-1] - s.start_ns[s.warm_up]) for s in (base, new)]
    for code in np.unique(name).tolist():
        rows = np.flatnonzero(name == code)
        if len(rows) <= MIN_PAIRS:
            continue
        rows = rows[np.argsort(times[0].ordinal[pairs.base[rows]], kind="stable")]
        begins = [t.start_ns[p[rows]] for t, p in zip(times, pairs, strict=True)]
        reach = min(float(np.ptp(b)) / n for b, n in zip(begins, lengths, strict=True))
        if best is None or (round(reach, 2), len(rows)) > (round(best[0], 2), best[1]):
            best = reach, len(rows), rows
    if best is None or best[0] < MIN_REACH:
        return None
    rows = best[2]
    few = rows[_evenly(len(rows))]
    cuts = times[0].start_ns[pairs.base[few]], times[1].start_ns[pairs.new[few]]
    return Stretches(cuts=cuts, places=_cut_places(pairs, rows, times), times=times)


def _evenly(count: int) -> Array:
    places: Array = np.unique(np.linspace(0, count - 1, min(count, MAX_STRETCHES + 1)).round())
    return places.astype(np.int64)


def _cut_places(
    pairs: MatchedLaunches, rows: Array, times: tuple[LaunchTimes, LaunchTimes]
) -> tuple[Array, Array]:
    """Return where both ledgers were cut at the same of these launches."""
    where = []
    for side, chosen in zip(times, (pairs.base[rows], pairs.new[rows]), strict=True):
        cut_of = np.full(len(side.column), -1)
        cut_of[side.cut] = np.arange(len(side.cut))
        where.append(cut_of[chosen])
    both = np.flatnonzero((where[0] >= 0) & (where[1] >= 0))
    few = both[_evenly(len(both))] if len(both) else both
    return where[0][few], where[1][few]


def measured_once(base: float, new: float, samples: int, noun: str = "iteration") -> Estimate:
    """Return what a difference of two runs allows to say that were each measured once.

    Args:
        base: Time on the base side, in ns.
        new: On the new side.
        samples: How many the side with fewer has: too few to tell how much they vary.
        noun: What one of them is.
    """
    from scipy.special import ndtr  # slow to load, and only comparisons need it

    reach = NORMAL * MEASURED_ONCE * math.hypot(base, new)
    what = "A single window" if samples == 1 else f"Only {count_text(samples, noun)}"
    return Estimate(
        base=base,
        new=new,
        low=new - base - reach,
        high=new - base + reach,
        p_value=float(2 * ndtr(-abs(new - base) * NORMAL / reach)) if reach else 1.0,
        detectable=reach * (1 + NORMAL_POWER / NORMAL),
        is_assumed=True,
        how=(
            f"{what} of one recording on each side: how much it varies was not measured. Assumed: "
            f"{share_text(MEASURED_ONCE, 1)} from run to run (standard deviation).",
            f"Record several {noun}s, or give several recordings of each side.",
        ),
    )


def _other_work(match: WorkMatch) -> tuple[str, str]:
    counts = f"{match.base_launches:,.0f} kernel launches on base, {match.new_launches:,.0f} on new"
    share = share_text(match.same_share, 1)
    return (
        f"Not the same work: {counts}; {share} of them in kernels that both launch equally "
        "often. A time is compared only for the same work.",
        "Record the same number of steps on both sides, or name what is one iteration with "
        "--iterations.",
    )


def paired_kernel(
    base: Side, new: Side, pairs: MatchedLaunches, chosen: Array
) -> PairedChange | None:
    """Return what some of the matched launches say.

    Args:
        base: The run before.
        new: The run after.
        pairs: Launches that belong to each other.
        chosen: Which of the pairs, in any order.
    """
    order = chosen[np.argsort(base.launch_times.start_ns[pairs.base[chosen]], kind="stable")]
    return paired_change(
        base.launch_times.ns[pairs.base[order]], new.launch_times.ns[pairs.new[order]]
    )
