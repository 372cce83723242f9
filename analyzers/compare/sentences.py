"""The verdict of a comparison in one sentence, and the notes that a reader needs beside it."""

from __future__ import annotations

import math

import numpy as np

from analyzers.compare.accounts import kept_durations
from analyzers.compare.samples import shift_within
from analyzers.compare.side import Side, Sides
from analyzers.compare.types import (
    ComparisonVerdict,
    Delta,
)
from analyzers.words import TIMES, count_text, share_text, signed_percent, time_text


def verdict_sentence(
    verdict: ComparisonVerdict, delta: Delta, smallest_ns: int, quantity: str, *, same: bool
) -> str:
    """Return the answer in words, with its number."""
    base, new = time_text(delta.base), time_text(delta.new)
    went = f"{quantity} took {base} and now takes {new}"
    if same:
        return f"No difference: both sides are the same measurement, {quantity} took {base}."
    if delta.low is None or delta.high is None:
        return f"Inconclusive: {went}, but its uncertainty is unknown, so it may be noise."
    interval = f"{_percent(delta.low, delta)} to {_percent(delta.high, delta)}"
    if verdict is ComparisonVerdict.NO_DIFFERENCE:
        limit = share_text(smallest_ns, delta.base)
        return f"No difference that matters: {went} ({interval}), within ± {limit}."
    if verdict is ComparisonVerdict.INCONCLUSIVE:
        detectable = share_text(delta.detectable or 0.0, delta.base)
        return (
            f"Inconclusive: {went} ({_percent(delta.change, delta)}, but anything from "
            f"{interval} is possible); "
            f"a change of {detectable} would have been detected."
        )
    ratio = delta.base / delta.new if delta.change < 0 else delta.new / delta.base
    word, times = ("Improved", "faster") if delta.change < 0 else ("Regressed", "slower")
    speed = f"{ratio:.2f} {TIMES} {times}"
    return f"{word}: {went}, {speed} ({_percent(delta.change, delta)}, {interval})."


def _percent(ns: float, delta: Delta) -> str:
    """Return a change as a part of what was before; what is small with one digit that tells."""
    share = ns / delta.base if delta.base else 0.0
    is_small = 0 < abs(share) < 0.0005
    return signed_percent(share, -math.floor(math.log10(100 * abs(share))) if is_small else 1)


def _shift_note(side: Side) -> str:
    """Say that a run changed in its midst, which is no warm-up and no noise either."""
    samples = kept_durations(side)
    at = shift_within(samples)
    if not at:
        return ""
    ratio = float(np.median(samples[at:]) / np.median(samples[:at])) - 1
    how = f"{share_text(abs(ratio), 1)} {'longer' if ratio > 0 else 'less time'}"
    return (
        f"{side.source['name']}: iterations take {how} "
        f"after the first {at:,} of {len(samples):,} that are compared, too late for a warm-up: "
        "clocks, other jobs on the machine, or another part of the program. All are compared as "
        "one run."
    )


def reader_notes(base: Sides, new: Sides, delta: Delta) -> list[str]:
    """Return what limits this comparison: warm-up, shifts, and what was not recorded."""
    notes = []
    for side in (*base, *new):
        if side.warm_up:
            omission = f"{count_text(side.warm_up, 'iteration')} at the beginning left out"
            notes.append(f"{side.source['name']}: {omission}: {side.warm_up_how}.")
        if side.loop and (note := _shift_note(side)):
            notes.append(note)
    if delta.low is not None and len(base) == len(new) == 1:
        notes.append(
            "One recording on each side: the interval does not include what varies from run to run "
            "(clocks, memory layout, other jobs on the machine). Record each side several times to "
            "include it."
        )
    if any(not side.regions.keys for side in (*base, *new)):
        notes.append(
            "Regions are not compared: a recording has no ranges and no operators, or too many "
            "stretches; choose a shorter window."
        )
    if not all(len(side.operators) for side in (*base, *new)):
        notes.append("Input shapes were not recorded, so equal inputs are assumed.")
    return notes
