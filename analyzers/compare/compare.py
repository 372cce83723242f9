"""Whether a program got faster, where the time went, and whether that can be trusted.

The quantity is the time of an iteration, or of the window where none are found. What decides, in
this order:

1. A difference that blocks (``analyzers.compare.comparability``): ``not_comparable``, no number.
2. The 95 % interval lies within the smallest change that matters: ``no_difference``. Not finding a
   difference is not enough. With one recording a side it is the interval within the two runs.
3. The interval is without 0, the test agrees (5 %), and both point the same way: ``improved`` or
   ``regressed``. With one recording a side the interval holds what runs may differ by
   (``analyzers.compare.run_to_run``), so that two runs of one program are called different in at
   most 5 %, however many iterations each has.
4. Else ``inconclusive``, with the change that would have been found, and with what is sure of the
   two runs alone.

docs/compare.md gives formulas, assumptions and measured error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from analyzers.compare.comparability import WAY_OUT, can_be_lifted, comparability
from analyzers.compare.deltas import deltas, moments
from analyzers.compare.kernel_changes import kernel_changes
from analyzers.compare.machine_change import machine_change
from analyzers.compare.metric_changes import metric_changes
from analyzers.compare.outliers import outlier_sentences, outliers
from analyzers.compare.region_changes import region_changes
from analyzers.compare.run_to_run import between_three_runs, estimate_in_general
from analyzers.compare.same_work import between_windows, launches_by_name, work_match
from analyzers.compare.sentences import (
    identity_sentence,
    reader_notes,
    sentence_with_reach,
    verdict_sentence,
)
from analyzers.compare.side import Side, Sides
from analyzers.compare.statistics import (
    LEVEL,
    MIN_SAMPLES,
    Columns,
    Estimate,
    agreeing,
    between_iterations,
    between_runs,
)
from analyzers.compare.sub_results import BUSY, sub_results
from analyzers.compare.types import (
    OTHER_MACHINE,
    Claim,
    Comparison,
    ComparisonVerdict,
    Delta,
    Difference,
    SameWork,
)
from analyzers.compare.waterfall import busy_change, waterfall_rows
from analyzers.compare.work_amount import (
    AmountOfWork,
    amount_of_work,
    amount_sentence,
    same_work_words,
    scaled_account,
    work_row,
)
from analyzers.compare.work_changes import work_changes
from analyzers.intervals import Array
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
        anyway: Whether to compare what differs in more than the change that is judged.
    """
    differences = comparability(base, new, anyway=anyway)
    if any(difference.blocking for difference in differences):
        return refusal(base, new, differences)
    device, devices = _devices(base, new)
    same = _are_identical(base, new)
    estimate = _exact(base) if same else _estimate(base, new)
    accounts = [typical_account(sides) for sides in (base, new)]
    delta = delta_of(estimate, accounts[0].median_ns, accounts[1].median_ns)
    amount = None if same else amount_of_work(base, new)
    scaled = [scaled_account(accounts[0], amount) if amount else accounts[0], accounts[1]]
    same_work = _same_work(amount, scaled, new) if amount else None
    judged, how = delta, estimate
    if amount and amount.is_judged and same_work:
        judged, how = same_work.time, amount.estimate
    smallest_ns = round(smallest * judged.base)
    verdict = decide(judged, smallest_ns)
    quantity, mean_delta = _quantity(base, new), _mean_delta(base, new)
    regions = region_changes(base, new)
    # Regions are not scaled: beside rows that are, their numbers would contradict them.
    waterfall = waterfall_rows(base, new, scaled, () if amount else regions, same=same)
    if amount:
        waterfall = (work_row(accounts[0], scaled[0]), *waterfall)
    work_scale = amount.scale if amount and amount.is_judged else None
    kernels = kernel_changes(base, new, work=work_scale)
    metrics = metric_changes(base, new)
    subject = same_work.name if same_work and same_work.is_judged else quantity
    amount_words = amount_sentence(base, new, amount)
    work = work_changes(base, new, kernels)
    machines = machine_change(base, new, work, differences)
    sentence = (
        identity_sentence(delta, quantity)
        if same
        else sentence_with_reach(
            verdict_sentence(verdict, judged, smallest_ns, subject, how),
            differences,
            (base, new),
            machines,
        )
    )
    if same_work and same_work.is_judged and amount_words:
        sentence = f"{amount_words} {sentence}"
    return Comparison(
        verdict=verdict,
        sentence=sentence,
        how=how.how,
        base=side_summary(base, accounts[0]),
        new=side_summary(new, accounts[1]),
        comparability=differences,
        delta=delta,
        mean_delta=mean_delta,
        in_these_runs=claim_in_runs(judged, smallest_ns),
        in_general=claim_in_general(judged, smallest_ns),
        smallest_ns=smallest_ns,
        waterfall=waterfall,
        kernels=kernels,
        regions=regions,
        metrics=metrics,
        work=work,
        machines=machines,
        sub_results=sub_results(
            _of_all_time(
                quantity, (delta, mean_delta), same_work, busy_change(base, new, scaled, same=same)
            ),
            waterfall,
            kernels,
            metrics,
            smallest_ns,
        ),
        same_work=same_work,
        amount_sentence=amount_words,
        outliers=outliers(base, new),
        outlier_sentences=tuple(outlier_sentences(base, new)),
        notes=tuple(reader_notes(base, new)),
        device=device,
        devices=devices,
    )


def refusal(base: Sides, new: Sides, differences: tuple[Difference, ...]) -> Comparison:
    """Return the answer without numbers, where at least one difference blocks."""
    device, devices = _devices(base, new)
    blocking = [difference for difference in differences if difference.blocking]
    machines = None
    sentence = f"Not comparable: {_with_way_out(blocking)}"
    is_same_work = all(side.loop for side in (*base, *new)) or work_match(base[0], new[0]).is_same
    only_machines = {difference.what for difference in blocking} == {OTHER_MACHINE}
    if only_machines and is_same_work:  # an answer in itself
        machines = machine_change(base, new, work_changes(base, new), differences)
    if machines is not None:
        sentence = f"{machines.sentence(_quantity(base, new))}{WAY_OUT}"
    return Comparison(
        verdict=ComparisonVerdict.NOT_COMPARABLE,
        sentence=sentence,
        how=(),
        base=recordings_only(base),
        new=recordings_only(new),
        comparability=differences,
        machines=machines,
        device=device,
        devices=devices,
    )


def decide(delta: Delta, smallest_ns: float) -> ComparisonVerdict:
    """Return the answer that a change and its uncertainty allow; see the rule above.

    Args:
        delta: Change of the time per iteration.
        smallest_ns: The smallest change that matters.
    """
    in_runs, in_general = claim_in_runs(delta, smallest_ns), claim_in_general(delta, smallest_ns)
    if in_general is None:
        return ComparisonVerdict.INCONCLUSIVE
    if in_runs is not None and in_runs.verdict is ComparisonVerdict.NO_DIFFERENCE:
        return ComparisonVerdict.NO_DIFFERENCE
    return in_general.verdict


def claim_in_runs(delta: Delta, smallest_ns: float) -> Claim | None:
    """Return what holds within two runs; None when that was not measured."""
    return _claim(delta.low_in_runs, delta.high_in_runs, delta.p_in_runs, smallest_ns)


def claim_in_general(delta: Delta, smallest_ns: float) -> Claim | None:
    """Return what holds for further runs too; None without an interval."""
    return _claim(delta.low, delta.high, delta.p_value, smallest_ns)


def _claim(
    low: float | None, high: float | None, p_value: float | None, smallest_ns: float
) -> Claim | None:
    if low is None or high is None or p_value is None:
        return None
    verdict = ComparisonVerdict.INCONCLUSIVE
    if -smallest_ns <= low and high <= smallest_ns:
        verdict = ComparisonVerdict.NO_DIFFERENCE
    elif p_value <= LEVEL and not low <= 0 <= high:
        verdict = ComparisonVerdict.IMPROVED if high < 0 else ComparisonVerdict.REGRESSED
    return Claim(verdict=verdict, low_ns=low, high_ns=high)


def _with_way_out(blocking: list[Difference]) -> str:
    """Return why two sides are not compared, and how they could be."""
    sentence = blocking[0].sentence
    can_be = all(can_be_lifted(difference) for difference in blocking)
    return f"{sentence}{WAY_OUT}" if can_be and "--anyway" not in sentence else sentence


def _quantity(base: Sides, new: Sides) -> str:
    """Return what takes the time that is compared, in words."""
    if not any(side.loop for side in (*base, *new)):
        return "the whole window"
    if not any(side.is_loop_found for side in (*base, *new)):
        return "an iteration"
    launches = round(sum(launches_by_name(base[0]).values()))
    return f"a repetition of {count_text(launches, 'kernel launch')}"


def _same_work(amount: AmountOfWork, accounts: list[Account], new: Sides) -> SameWork:
    return SameWork(
        scale=amount.scale,
        name=same_work_words(new),
        time=delta_of(amount.estimate, accounts[0].median_ns, accounts[1].median_ns),
        is_judged=amount.is_judged,
    )


def _of_all_time(
    quantity: str, deltas: tuple[Delta, Delta], same_work: SameWork | None, busy: Delta
) -> list[tuple[str, str, Delta]]:
    """Return question, name and change of what is asked of all the time.

    Args:
        quantity: What takes it, in words.
        deltas: Change of the median and of the mean.
        same_work: For the same amount of work, where that differs.
        busy: Change of the time in which the GPU is busy.
    """
    median, mean = deltas
    if (median.base, median.new) == (mean.base, mean.new):
        answers = [("wall", quantity, median)]
    else:
        answers = [("wall", f"{quantity}, median", median), ("mean", f"{quantity}, mean", mean)]
    if same_work is None:
        return [*answers, ("busy", BUSY, busy)]
    first = ("same work", same_work.name, same_work.time)
    return [first, *answers, ("busy", f"{BUSY}, the same work", busy)]


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
    estimate = estimate_of([kept_durations(s) for s in base], [kept_durations(s) for s in new])
    if estimate is None:
        estimate = between_windows(base[0], new[0])
        return estimate if estimate.is_assumed else estimate_in_general(estimate)
    return estimate


def estimate_of(base: Sequence[Array], new: Sequence[Array]) -> Estimate | None:
    """Return the change between samples of recordings; None where one a side has too few.

    Args:
        base: Durations of each recording of the base side, in ns and in their order.
        new: Of the new side.
    """
    if len(base) + len(new) == 2:
        if min(len(base[0]), len(new[0])) < MIN_SAMPLES:
            return None
        return estimate_in_general(between_iterations(base[0], new[0]))
    medians = [np.array([np.median(samples) for samples in side]) for side in (base, new)]
    if len(base) + len(new) == 3:
        return between_three_runs(*medians)
    return between_runs(*medians)


def delta_of(estimate: Estimate, base: int, new: int) -> Delta:
    """Return a change of time with its uncertainty, in whole nanoseconds.

    Args:
        estimate: The change, as it was measured.
        base: Time on the base side.
        new: On the new side.
    """
    ends = (
        *_agreeing_ends(estimate.low, estimate.high, estimate.p_value),
        *_agreeing_ends(estimate.low_in_runs, estimate.high_in_runs, estimate.p_in_runs),
    )
    low, high, low_in_runs, high_in_runs, detectable = (
        None if value is None else round(value) for value in (*ends, estimate.detectable)
    )
    delta = Delta(
        base=base,
        new=new,
        change=new - base,
        low=None if low is None else max(low, -base),  # nothing takes less than no time
        high=high,
        p_value=estimate.p_value,
        p_adjusted=estimate.p_value,
        detectable=detectable,
        low_in_runs=None if low_in_runs is None else max(low_in_runs, -base),
        high_in_runs=high_in_runs,
        p_in_runs=estimate.p_in_runs,
        is_assumed=estimate.is_assumed,
    )
    sure, sure_in_runs = (
        claim is not None and claim.verdict in _DIFFERENT
        for claim in (claim_in_general(delta, 0), claim_in_runs(delta, 0))
    )
    return replace(delta, significant=sure, significant_in_runs=sure_in_runs)


_DIFFERENT = (ComparisonVerdict.IMPROVED, ComparisonVerdict.REGRESSED)


def _agreeing_ends(
    low: float | None, high: float | None, p_value: float | None
) -> tuple[float | None, float | None]:
    """Return an interval that holds 0 where the test leaves that open."""
    if low is None or high is None or p_value is None:
        return low, high
    one = (np.array([x]) for x in ((low + high) / 2, low, high, p_value, 0.0))
    wide = agreeing(Columns(*one), np.array([p_value]))
    return float(wide.low[0]), float(wide.high[0])


def _mean_delta(base: Sides, new: Sides) -> Delta:
    runs = [[moments(kept_durations(s)[:, None], 1.0) for s in sides] for sides in (base, new)]
    return deltas(runs[0], runs[1], "ns")[0]
