"""Whether a program got faster, where the time went, and whether that can be trusted.

The quantity is the time of an iteration. What decides, in this order:

1. A difference that blocks (``analyzers.compare.comparability``): ``not_comparable``, no number.
2. The 95 % interval lies within the smallest change that matters: ``no_difference``. Not finding a
   difference is not enough.
3. The interval is without 0, the test agrees (5 %), and both point the same way: ``improved`` or
   ``regressed``.
4. Else ``inconclusive``, with the change that would have been found.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzers.compare.accounts import (
    Account,
    kept_durations,
    median_durations,
    recordings_only,
    side_summary,
    typical_account,
)
from analyzers.compare.comparability import comparability
from analyzers.compare.deltas import deltas, moments
from analyzers.compare.kernel_changes import kernel_changes
from analyzers.compare.metric_changes import metric_changes
from analyzers.compare.region_changes import region_changes
from analyzers.compare.sentences import reader_notes, verdict_sentence
from analyzers.compare.side import Side, Sides
from analyzers.compare.statistics import (
    LEVEL,
    MIN_SAMPLES,
    Estimate,
    between_iterations,
    between_runs,
)
from analyzers.compare.types import (
    Comparison,
    ComparisonVerdict,
    Delta,
)
from analyzers.compare.waterfall import waterfall_rows
from analyzers.words import count_text

SMALLEST_SHARE = 0.01  # of base's time; smaller changes come and go with the room's temperature


def compare(
    base: Sides,
    new: Sides,
    *,
    smallest: float = SMALLEST_SHARE,
    anyway: bool = False,
) -> Comparison:
    """Compare the recordings of a run before a change with those after it.

    Args:
        base: Recordings before, at least one.
        new: Recordings after, at least one.
        smallest: The smallest change that matters, as a share of base's time.
        anyway: Whether two programs that look different are known to do the same work.
    """
    differences = comparability(base, new, anyway=anyway)
    device, devices = _devices(base, new)
    blocking = [d for d in differences if d.blocking]
    if blocking:
        summaries = [recordings_only(sides) for sides in (base, new)]
        return Comparison(
            verdict=ComparisonVerdict.NOT_COMPARABLE,
            sentence=f"Not comparable: {blocking[0].sentence}",
            how=(),
            base=summaries[0],
            new=summaries[1],
            comparability=differences,
            device=device,
            devices=devices,
        )
    same = _are_identical(base, new)
    estimate = _exact(base) if same else _estimate(base, new)
    accounts = [typical_account(sides) for sides in (base, new)]
    delta = _delta(estimate, accounts)
    smallest_ns = round(smallest * accounts[0].median_ns)
    verdict = decide(delta, smallest_ns)
    quantity = "an iteration" if any(side.loop for side in (*base, *new)) else "the whole window"
    regions = region_changes(base, new)
    return Comparison(
        verdict=verdict,
        sentence=verdict_sentence(verdict, delta, smallest_ns, quantity, same=same),
        how=estimate.how,
        base=side_summary(base, accounts[0]),
        new=side_summary(new, accounts[1]),
        comparability=differences,
        delta=delta,
        mean_delta=_mean_delta(base, new),
        smallest_ns=smallest_ns,
        waterfall=waterfall_rows(base, new, accounts, regions, same=same),
        kernels=kernel_changes(base, new),
        regions=regions,
        metrics=metric_changes(base, new),
        notes=tuple(reader_notes(base, new, delta)),
        device=device,
        devices=devices,
    )


def decide(delta: Delta, smallest_ns: float) -> ComparisonVerdict:
    """Return the answer that a change and its uncertainty allow; see the rule above.

    Args:
        delta: Change of the time per iteration.
        smallest_ns: The smallest change that matters.
    """
    if delta.low is None or delta.high is None or delta.p_value is None:
        return ComparisonVerdict.INCONCLUSIVE
    if -smallest_ns <= delta.low and delta.high <= smallest_ns:
        return ComparisonVerdict.NO_DIFFERENCE
    if delta.p_value > LEVEL or delta.low <= 0 <= delta.high:
        return ComparisonVerdict.INCONCLUSIVE
    return ComparisonVerdict.IMPROVED if delta.change < 0 else ComparisonVerdict.REGRESSED


def _devices(base: Sides, new: Sides) -> tuple[str, tuple[str, ...]]:
    sides = (*base, *new)
    shared = min(len(side.devices) for side in sides)
    names = base[0].devices[:shared]
    chosen = base[0].device
    return (base[0].devices[chosen] if 0 <= chosen < len(base[0].devices) else ""), names


def _are_identical(base: Sides, new: Sides) -> bool:
    """Tell whether both sides are the same recordings, under whatever names."""
    if len(base) != len(new):
        return False
    unmatched = list(new)
    for side in base:
        twin = next((other for other in unmatched if _is_same(side, other)), None)
        if twin is None:
            return False
        unmatched.remove(twin)
    return True


def _is_same(one: Side, other: Side) -> bool:
    return (
        one.start_ns.shape == other.start_ns.shape
        and one.device == other.device
        and one.warm_up == other.warm_up
        and np.array_equal(one.ledger_ns, other.ledger_ns)
        and np.array_equal(one.durations_ns, other.durations_ns)
        and one.kernels.names == other.kernels.names
        and np.array_equal(one.kernels.by_iteration.ns, other.kernels.by_iteration.ns)
    )


def _exact(base: Sides) -> Estimate:
    median = float(median_durations(base).mean())
    how = ("Both sides are the same measurement, nanosecond for nanosecond.",)
    return Estimate(
        base=median, new=median, low=0.0, high=0.0, p_value=1.0, detectable=0.0, how=how
    )


def _estimate(base: Sides, new: Sides) -> Estimate:
    if len(base) + len(new) > 2:
        return between_runs(median_durations(base), median_durations(new))
    samples = kept_durations(base[0]), kept_durations(new[0])
    if min(map(len, samples)) >= MIN_SAMPLES:
        return between_iterations(*samples)
    medians = [float(np.median(s)) for s in samples]
    fewest = min(map(len, samples))
    if fewest == 1 and not (base[0].loop and new[0].loop):
        why = "The difference was measured once: a single window of one recording on each side."
    else:
        many = count_text(fewest, "iteration")
        why = f"Only {many} of one recording: too few to tell noise from change."
    way_out = "Record several iterations, or give several recordings of each side."
    return Estimate(base=medians[0], new=medians[1], how=(why, way_out))


def _delta(estimate: Estimate, accounts: list[Account]) -> Delta:
    base, new = (account.median_ns for account in accounts)
    delta = Delta(
        base=base,
        new=new,
        change=new - base,
        low=None if estimate.low is None else round(estimate.low),
        high=None if estimate.high is None else round(estimate.high),
        p_value=estimate.p_value,
        p_adjusted=estimate.p_value,
        detectable=None if estimate.detectable is None else round(estimate.detectable),
    )
    return replace(
        delta,
        significant=decide(delta, 0) in (ComparisonVerdict.IMPROVED, ComparisonVerdict.REGRESSED),
    )


def _mean_delta(base: Sides, new: Sides) -> Delta:
    runs = [[moments(kept_durations(s)[:, None], 1.0) for s in sides] for sides in (base, new)]
    return deltas(runs[0], runs[1], "ns")[0]
