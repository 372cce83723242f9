"""What one recording a side leaves open: how much two runs of the same program differ.

Iterations, launches and stretches of one run share its clocks, its memory layout and its
neighbours, so no number of them says what the next run would do. With one recording a side that
is assumed: the level of a run varies by ``RUN_TO_RUN``, as a standard deviation, and a quantity
that was measured once varies by ``MEASURED_ONCE``. With repeated recordings it is measured, and
nothing is assumed.

With the change c, the reach r of its interval within the two runs, levels b and n and the
assumption s, the interval in general reaches sqrt(r^2 + (1.96 s)^2 (b^2 + n^2)).
"""

from __future__ import annotations

import math

import numpy as np

from analyzers.compare.statistics import LEVEL, POWER, Columns, Estimate
from analyzers.intervals import Array

RUN_TO_RUN = 0.03  # of a run's level: what clocks, heat and neighbours do to runs that are alike
MEASURED_ONCE = 0.10  # of a single window, in which nothing tells how much it varies
ASSUMPTION = (
    "One recording a side: the interval in general assumes that the level of a run varies by "
    f"{RUN_TO_RUN:.0%} (standard deviation). A second recording of each side would measure that."
)
ASSUMED_RUNS = 4  # that the assumption counts like, beside two runs that measure it
MAX_OF_ASSUMED = 1.96  # times the assumption; two runs that differ by more do not bear it out
NORMAL, NORMAL_POWER = 1.959964, 0.841621  # quantiles of the normal distribution: 97.5 %, 80 %


def general_reach(reach: Array, base: Array, new: Array, share: float) -> Array:
    """Return half the width of intervals in general, from that within two runs.

    Args:
        reach: Half the width of the intervals within the two runs.
        base: Levels on the base side.
        new: Levels on the new side.
        share: Standard deviation of a run's level, as a part of it.
    """
    total: Array = np.sqrt(reach**2 + (NORMAL * share) ** 2 * (base**2 + new**2))
    return total


def in_general(columns: Columns, base: Array, new: Array, share: float = RUN_TO_RUN) -> Columns:
    """Return the same differences with what runs may differ by; NaN stays NaN.

    Args:
        columns: Differences within two runs.
        base: Levels on the base side.
        new: Levels on the new side.
        share: Standard deviation of a run's level, as a part of it.
    """
    from scipy.special import ndtr  # slow to load, and only comparisons need it

    within = (columns.high - columns.low) / 2
    reach = general_reach(within, base, new, share)
    middle = (columns.high + columns.low) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(reach > 0, np.abs(columns.change) * NORMAL / reach, np.inf)
    p_value = np.fmax(columns.p_value, 2 * ndtr(-ratio))
    p_value = np.where(np.isfinite(columns.p_value), p_value, np.nan)
    p_value = np.where(columns.change == 0, 1.0 + 0 * columns.p_value, p_value)
    detectable = np.maximum(columns.detectable, reach * (1 + NORMAL_POWER / NORMAL))
    return Columns(columns.change, middle - reach, middle + reach, p_value, detectable)


def estimate_in_general(estimate: Estimate, share: float = RUN_TO_RUN) -> Estimate:
    """Return an estimate of two runs with what runs may differ by; see ``in_general``."""
    if estimate.low is None or estimate.high is None or estimate.p_value is None:
        return estimate
    numbers = (estimate.change, estimate.low, estimate.high, estimate.p_value)
    columns = Columns(*(np.array([n]) for n in (*numbers, estimate.detectable or 0.0)))
    levels = np.array([estimate.base]), np.array([estimate.new])
    wide = in_general(columns, *levels, share)
    return Estimate(
        base=estimate.base,
        new=estimate.new,
        low=float(wide.low[0]),
        high=float(wide.high[0]),
        p_value=float(wide.p_value[0]),
        detectable=float(wide.detectable[0]),
        low_in_runs=estimate.low,
        high_in_runs=estimate.high,
        p_in_runs=estimate.p_value,
        how=(*estimate.how, ASSUMPTION),
    )


def recordings_needed(base: float, new: float, share: float = RUN_TO_RUN) -> int:
    """Return how many recordings a side would tell such a difference in four of five cases.

    Args:
        base: Level on the base side.
        new: Level on the new side.
        share: Standard deviation of a run's level, as a part of it.
    """
    spread = share * math.hypot(base, new)
    count = ((NORMAL + NORMAL_POWER) * spread / max(abs(new - base), 1e-9)) ** 2
    # What Student's factor costs where the spread is estimated too (Guenther, 1981).
    return max(2, math.ceil(count + NORMAL**2 / 4))


def between_three_runs(base: Array, new: Array) -> Estimate:
    """Return the difference of one run on one side and two on the other.

    Two runs alone hardly measure how much runs differ: Student's factor for them is 12.7, so that
    a further recording would make an answer less sure than one of each side. So what is assumed of
    runs counts like ``ASSUMED_RUNS`` further ones, unless the two differ by more than it allows.

    Args:
        base: One number for each recording.
        new: The same; three in all.
    """
    from scipy.special import stdtr, stdtrit  # slow to load, and only comparisons need it

    means = float(base.mean()), float(new.mean())
    pair, level = (base, means[0]) if len(base) == 2 else (new, means[1])
    measured = float(((pair - level) ** 2).sum()) / level**2
    variance, freedom = (ASSUMED_RUNS * RUN_TO_RUN**2 + measured) / (ASSUMED_RUNS + 1), 1.0
    is_assumed = measured <= MAX_OF_ASSUMED**2 * RUN_TO_RUN**2
    if is_assumed:
        freedom = ASSUMED_RUNS + 1.0
    else:
        variance = measured
    error = math.sqrt(variance * (means[0] ** 2 / len(base) + means[1] ** 2 / len(new)))
    change = means[1] - means[0]
    reach = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    assumption = (
        f"Two of them alone hardly tell how much runs differ: assumed are {RUN_TO_RUN:.0%}, which "
        f"count like {ASSUMED_RUNS} further runs."
        if is_assumed
        else f"The two of one side differ by more than the {RUN_TO_RUN:.0%} that are assumed."
    )
    return Estimate(
        base=means[0],
        new=means[1],
        low=change - reach,
        high=change + reach,
        p_value=float(2 * stdtr(freedom, -abs(change) / error)) if error else float(not change),
        detectable=reach + float(stdtrit(freedom, POWER)) * error,
        how=(
            f"Recordings are the units: {len(base)} and {len(new)}, each with its median.",
            assumption,
            "Interval and test: Student's, both sides are assumed to vary equally.",
        ),
    )
