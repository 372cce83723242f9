"""The same work in another amount: what both sides took for as much of it.

A capture of fixed length holds as many steps as fit into it, and ends after the same time however
long a step takes. Where both sides launch the same kernels in the same proportions, but more or
fewer of them, the time for the new side's amount of work is compared: what base would have taken
for it, and what the new side took. Windows without iterations are cut at launches that belong to
each other, the k-th of a kernel on both sides, so that the stretches hold the same work; the time
of iterations is scaled by their launches, or by the bytes they copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analyzers.compare.accounts import Account, kept_durations, whole_parts
from analyzers.compare.paired import paired_change
from analyzers.compare.run_to_run import estimate_in_general
from analyzers.compare.same_work import (
    MIN_SAME_LAUNCHES,
    launches_by_name,
    measured_once,
    of_pairs,
    stretches_between,
    work_match,
)
from analyzers.compare.side import (
    OPERATOR_BYTES,
    OPERATOR_FLOP,
    OTHERS,
    WORK_AMOUNTS,
    Side,
    Sides,
)
from analyzers.compare.statistics import MIN_SAMPLES, Estimate, between_iterations
from analyzers.compare.types import WORK, WaterfallRow
from analyzers.intervals import Array
from analyzers.words import count_text, flop_text, signed_percent, size_text

MIN_CHANGE = 0.01  # of the work; less is the same amount
# Iterations whose launches may be lost or doubled at the borders of a loop: what was submitted
# before the first one, or ran after the last. Means over n iterations differ by so many n-ths.
BORDER_ITERATIONS = 1.5
LAUNCHES = "kernel launches"
_BYTES = " bytes"  # how the names of copied amounts end


@dataclass(frozen=True, kw_only=True)
class AmountOfWork:
    """How much of the same work both sides did.

    Attributes:
        scale: The new side's work as a part of base's.
        estimate: The time for the new side's amount of work.
        is_judged: Whether that is what a verdict is about: of whole windows. What an iteration
            takes is asked for whatever it does.
    """

    scale: float
    estimate: Estimate
    is_judged: bool


def amount_of_work(base: Sides, new: Sides) -> AmountOfWork | None:
    """Return how much of the same work both sides did; None for as much, or for other work."""
    if len(base) + len(new) > 2:
        return None
    ratio = work_ratio(base[0], new[0])
    if ratio is None or bool(base[0].loop) != bool(new[0].loop):
        return None
    if not base[0].loop:
        is_same = work_match(base[0], new[0]).is_same
        return None if is_same else _of_windows(base[0], new[0], ratio)
    samples = kept_durations(base[0]) * ratio, kept_durations(new[0])
    fewest = min(map(len, samples))
    if fewest < MIN_SAMPLES or abs(ratio - 1) < max(MIN_CHANGE, BORDER_ITERATIONS / fewest):
        return None
    estimate = estimate_in_general(between_iterations(*samples))
    return AmountOfWork(scale=ratio, estimate=estimate, is_judged=False)


def work_ratio(base: Side, new: Side) -> float | None:
    """Return how much of base's work the new side did; None where it did something else.

    By launches: the ratio of half of them, which all kernels must have changed by, up to a tenth;
    what a library adds beside its kernels is no further work. Without launches by the bytes that
    were copied, in each direction.
    """
    amounts = [{n: c for n, c in launches_by_name(s).items() if n != OTHERS} for s in (base, new)]
    if not any(amounts):
        amounts = [
            {n: float(v[s.kept].mean()) for n, v in s.counts.items() if n.endswith(_BYTES)}
            for s in (base, new)
        ]
    names = amounts[0].keys() | amounts[1].keys()
    shared = [n for n in amounts[0].keys() & amounts[1].keys() if amounts[0][n] and amounts[1][n]]
    if not shared:
        return None
    ratio = _weighted_median(
        np.array([amounts[1][n] / amounts[0][n] for n in shared]),
        np.array([amounts[0][n] for n in shared]),
    )
    pairs = [(ratio * amounts[0].get(n, 0.0), amounts[1].get(n, 0.0)) for n in names]
    alike = sum(map(min, pairs)) / sum(map(max, pairs))
    return ratio if alike >= MIN_SAME_LAUNCHES else None


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values, kind="stable")
    reach = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reach, reach[-1] / 2)])


def _of_windows(base: Side, new: Side, ratio: float) -> AmountOfWork:
    lengths = [float(np.median(kept_durations(side))) for side in (base, new)]
    stretches = stretches_between(base, new, is_same_amount=False)
    paired = paired_change(*stretches.durations()) if stretches else None
    if paired is None:
        estimate = measured_once(lengths[0] * ratio, lengths[1], 1)
    else:
        expected = lengths[1] * paired.base / paired.new
        estimate = estimate_in_general(of_pairs(paired, (expected, lengths[1])))
    scale = estimate.base / lengths[0]
    how = (
        f"The windows hold other amounts of the same work: base's times are scaled by {scale:.3g}."
    )
    return AmountOfWork(
        scale=scale, estimate=replace(estimate, how=(how, *estimate.how)), is_judged=True
    )


def scaled_account(account: Account, amount: AmountOfWork) -> Account:
    """Return what base would have taken for the new side's amount of work."""
    total = round(account.median_ns * amount.scale)
    return replace(
        account,
        median_ns=total,
        rows_ns=whole_parts(account.rows_ns * amount.scale, total),
        parts=account.parts * amount.scale,
        scale=amount.scale,
    )


def work_row(account: Account, scaled: Account) -> WaterfallRow:
    """Return the row of the waterfall for more or less work, at base's speed."""
    return WaterfallRow(
        row=WORK,
        base_ns=account.median_ns,
        new_ns=scaled.median_ns,
        change_ns=scaled.median_ns - account.median_ns,
        significant=True,
        note=(
            "the new side's amount of work at base's speed; the rows below compare what both take "
            "for it."
        ),
    )


def amount_sentence(base: Sides, new: Sides, amount: AmountOfWork | None) -> str:
    """Say how much work both sides did: launches, FLOP, bytes; empty for as much.

    Args:
        base: Runs before.
        new: Runs after.
        amount: How much of the same work; None where launches may be fewer for as much work.
    """
    names = list(WORK_AMOUNTS)
    if amount is not None:
        counted = dict.fromkeys(n for s in (*base, *new) for n in s.counts)
        names = [LAUNCHES, *names, *(n for n in counted if n.endswith(_BYTES))]
    changes = [(name, _mean(base, name), _mean(new, name)) for name in names]
    changes = [c for c in changes if c[1] and c[2] and abs(c[2] / c[1] - 1) >= MIN_CHANGE]
    if not changes:
        return ""
    texts = [
        f"{_amount(now, name)} instead of {_number(before, name)} "
        f"({signed_percent(now / before - 1, 1)})"
        for name, before, now in changes
    ]
    word = "More" if changes[0][2] > changes[0][1] else "Less"
    where = "an iteration" if new[0].loop else "the window"
    return f"{word} work in {where} of the new side: {', '.join(texts)}."


def same_work_words(new: Sides) -> str:
    """Name the work that is compared: as much as the new side did."""
    launches = round(_mean(new, LAUNCHES))
    return f"the same work ({count_text(launches, 'kernel launch')})"


def _mean(sides: Sides, name: str) -> float:
    values = [float(s.counts[name][s.kept].mean()) for s in sides if name in s.counts]
    return float(np.mean(values)) if values else 0.0


def _amount(value: float, name: str) -> str:
    if name == LAUNCHES:
        return count_text(round(value), "kernel launch")
    if name == OPERATOR_FLOP:
        return f"{flop_text(value)} of operators"
    what = "moved by operators" if name == OPERATOR_BYTES else f"copied {name.removesuffix(_BYTES)}"
    return f"{size_text(value)} {what}"


def _number(value: float, name: str) -> str:
    if name == LAUNCHES:
        return f"{round(value):,}"
    return flop_text(value) if name == OPERATOR_FLOP else size_text(value)
