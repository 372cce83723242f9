"""Iterations that take far longer than the others of their run, and what they weigh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analyzers.compare.accounts import kept_durations
from analyzers.compare.side import Side, Sides
from analyzers.compare.statistics import MIN_SAMPLES
from analyzers.compare.types import Outliers
from analyzers.intervals import Array
from analyzers.words import count_text, share_text, signed_percent, time_text

OUTLIER_SPREADS = 5  # robust standard deviations above the median
OUTLIER_SHARE = 0.25  # of the median, at least
NORMAL_SPREAD = 1.4826  # standard deviations in a median absolute deviation
MAX_OUTLIERS = 0.2  # of the iterations; more are no outliers
MAX_NUMBERS = 5  # iterations that are named


def outliers(base: Sides, new: Sides) -> tuple[Outliers, ...]:
    """Return the iterations of each recording that take far longer than the others."""
    all_outliers = []
    for words, sides in (("base", base), ("new", new)):
        for number, side in enumerate(sides):
            samples, far = kept_durations(side), _far(side)
            if far.any():
                all_outliers.append(
                    Outliers(
                        side=words,
                        recording=number,
                        name=side.source["name"],
                        iterations=tuple((side.warm_up + 1 + np.flatnonzero(far)).tolist()),
                        of=len(side.start_ns),
                        longest_ns=round(float(samples[far].max())),
                        median_ns=round(float(np.median(samples))),
                        mean_ns=round(float(samples.mean())),
                        mean_without_ns=round(float(samples[~far].mean())),
                    )
                )
    return tuple(all_outliers)


def outlier_sentences(base: Sides, new: Sides) -> list[str]:
    """Name the outliers and their weight, and give the change with them and without."""
    of_sides = outliers(base, new)
    if not of_sides:
        return []
    with_them, without = _changes(base, new, leave_out=False), _changes(base, new, leave_out=True)
    count = sum(len(o.iterations) for o in of_sides)
    pronoun = "it" if count == 1 else "them"
    changes = (
        f"The median changes by {with_them.median} with {pronoun} and {without.median} without, "
        f"the mean by {with_them.mean} and {without.mean}."
    )
    return [*(_sentence(o) for o in of_sides), changes]


class _Changes(NamedTuple):
    """Changes of the median and of the mean, as they are read."""

    median: str
    mean: str


def _changes(base: Sides, new: Sides, *, leave_out: bool) -> _Changes:
    texts = []
    for measure in (np.median, np.mean):
        levels = [
            np.mean(
                [
                    measure(kept_durations(s)[~_far(s)] if leave_out else kept_durations(s))
                    for s in sides
                ]
            )
            for sides in (base, new)
        ]
        texts.append(signed_percent(float(levels[1] / max(levels[0], 1.0)) - 1, 1))
    return _Changes(*texts)


def _far(side: Side) -> Array:
    """Tell which of the iterations that are compared take far longer than the others."""
    samples = kept_durations(side)
    median = float(np.median(samples))
    spread = float(np.median(np.abs(samples - median)))
    far: Array = samples > median + max(
        OUTLIER_SPREADS * NORMAL_SPREAD * spread, OUTLIER_SHARE * median
    )
    is_told = side.loop and len(samples) >= MIN_SAMPLES and far.mean() <= MAX_OUTLIERS
    return far if is_told else np.zeros(len(samples), dtype=bool)


def _sentence(run: Outliers) -> str:
    longest, median = time_text(run.longest_ns), time_text(run.median_ns)
    weight = share_text(run.mean_ns - run.mean_without_ns, run.mean_without_ns)
    if len(run.iterations) == 1:
        which = f"iteration {run.iterations[0]:,} of {run.of:,} took {longest}"
        return f"{run.name}: {which}, the median is {median}; it adds {weight} to the mean."
    numbers = ", ".join(f"{n:,}" for n in run.iterations[:MAX_NUMBERS])
    more = ", …" if len(run.iterations) > MAX_NUMBERS else ""
    which = f"{count_text(len(run.iterations), 'iteration')} of {run.of:,} ({numbers}{more})"
    return (
        f"{run.name}: {which} took up to {longest}, the median is {median}; they add {weight} "
        "to the mean."
    )
