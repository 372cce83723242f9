"""The verdict of a comparison in one sentence, and the notes that a reader needs beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analyzers.compare.accounts import kept_durations
from analyzers.compare.hardware import MachineChange
from analyzers.compare.programs import common_kernel_shares
from analyzers.compare.run_to_run import recordings_needed
from analyzers.compare.samples import shift_within
from analyzers.compare.side import GRAPH_NAME, OTHERS, Side, Sides
from analyzers.compare.statistics import LEVEL, Estimate
from analyzers.compare.types import (
    OTHER_DRIVER,
    OTHER_MACHINE,
    ComparisonVerdict,
    Delta,
    Difference,
)
from analyzers.words import TIMES, count_text, share_text, signed_percent, time_text

FEW_COMMON_KERNELS = 0.25  # of a side's kernel time: fewer stand in the first sentence


def identity_sentence(delta: Delta, quantity: str) -> str:
    """Say that both sides are one measurement."""
    took = f"{quantity} took {time_text(delta.base)}"
    return f"No difference: both sides are the same measurement, {took}."


def verdict_sentence(
    verdict: ComparisonVerdict,
    delta: Delta,
    smallest_ns: int,
    quantity: str,
    estimate: Estimate,
) -> str:
    """Return the answer in words, with its number.

    Args:
        verdict: The answer.
        delta: Change of the time.
        smallest_ns: The smallest change that matters.
        quantity: What took the time.
        estimate: How the numbers were made.
    """
    went = f"{quantity} took {time_text(delta.base)} and now takes {time_text(delta.new)}"
    if delta.low is None or delta.high is None:
        return f"{estimate.how[0]} Inconclusive: {went}."  # other work is said first
    is_one_each = delta.low_in_runs is not None
    interval = _interval(delta.low, delta.high, delta)
    if verdict is ComparisonVerdict.NO_DIFFERENCE:
        limit = share_text(smallest_ns, delta.base)
        where = " in these two runs" if is_one_each else ""
        if delta.low_in_runs is not None and delta.high_in_runs is not None:
            interval = _interval(delta.low_in_runs, delta.high_in_runs, delta)
        return f"No difference that matters{where}: {went} ({interval}), within ± {limit}."
    if verdict is ComparisonVerdict.INCONCLUSIVE:
        return _inconclusive(delta, went, interval)
    ratio = delta.base / delta.new if delta.change < 0 else delta.new / delta.base
    word, times = ("Improved", "faster") if delta.change < 0 else ("Regressed", "slower")
    if is_one_each:
        word += ", measured in one run each"
    elif estimate.is_assumed:
        word += ", measured once"
    speed = f"{ratio:.2f} {TIMES} {times}"
    return f"{word}: {went}, {speed} ({_percent(delta.change, delta)}, {interval})."


def sentence_with_reach(
    sentence: str,
    differences: Sequence[Difference],
    sides: tuple[Sides, Sides],
    machines: MachineChange | None,
) -> str:
    """Return the answer with what limits it most: other machines, precision, or other kernels.

    Args:
        sentence: The answer.
        differences: What differs besides the change that is judged.
        sides: The recordings before and after.
        machines: How much of the change lies below the program, where something there differs.
    """
    shares = common_kernel_shares(*sides, frozenset((GRAPH_NAME, OTHERS)))
    if shares is not None and min(shares) < FEW_COMMON_KERNELS:
        verdict, _, rest = sentence.partition(": ")
        side = "base's" if shares[0] <= shares[1] else "new's"
        share = f"{share_text(min(shares), 1)} of {side} kernel time in kernels"
        common = share if min(shares) else "no kernel"
        sentence = f"{verdict}, with {common} that both sides have: {rest}"
    if machines is not None and (precision := machines.precision_words):
        sentence = f"{sentence} {precision}"
    stated = {d.what: (d.base, d.new) for d in differences if d.base and d.new and d.base != d.new}
    if OTHER_MACHINE in stated:
        gpus = " and ".join(stated[OTHER_MACHINE])
        return (
            f"Different machines, {gpus}: the change is that of hardware and software together. "
            f"{sentence}"
        )
    if OTHER_DRIVER in stated:
        drivers = " and ".join(stated[OTHER_DRIVER])
        return (
            f"Different drivers, {drivers}: the change is that of driver and program together. "
            f"{sentence}"
        )
    return sentence


def _inconclusive(delta: Delta, went: str, interval: str) -> str:
    """Say what cannot be told, and what is sure of the two runs alone."""
    low, high, p_value = delta.low_in_runs, delta.high_in_runs, delta.p_in_runs
    change = _percent(delta.change, delta)
    is_sure = p_value is not None and p_value <= LEVEL
    if low is None or high is None or not is_sure or low <= 0 <= high:
        detectable = share_text(delta.detectable or 0.0, delta.base)
        return (
            f"Inconclusive: {went} ({change}, but anything from {interval} is possible); "
            f"a change of {detectable} would have been detected."
        )
    direction = "faster" if delta.change < 0 else "slower"
    needed = recordings_needed(delta.base, delta.new)
    return (
        f"Inconclusive in general, {direction} in these two runs: {went} ({change}, "
        f"{_interval(low, high, delta)} in these runs). Two runs of one program may differ as much "
        f"({interval} in general); {needed} recordings of each side would tell."
    )


def _interval(low: float, high: float, delta: Delta) -> str:
    return f"{_percent(low, delta)} to {_percent(high, delta)}"


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


def reader_notes(base: Sides, new: Sides) -> list[str]:
    """Return what limits this comparison: warm-up, shifts, and what was not recorded."""
    notes = []
    for side in (*base, *new):
        if side.warm_up:
            omission = f"{count_text(side.warm_up, 'iteration')} at the beginning left out"
            notes.append(f"{side.source['name']}: {omission}: {side.warm_up_how}.")
        if side.loop and (note := _shift_note(side)):
            notes.append(note)
    if any(not side.regions.keys for side in (*base, *new)):
        notes.append(
            "Regions are not compared: a recording has no ranges and no operators, or too many "
            "stretches; choose a shorter window."
        )
    if not all(len(side.operators) for side in (*base, *new)):
        notes.append("Input shapes were not recorded, so equal inputs are assumed.")
    return notes
