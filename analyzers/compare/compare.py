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

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analyzers.compare.comparability import comparability
from analyzers.compare.samples import shift_within
from analyzers.compare.side import Side
from analyzers.compare.statistics import (
    LEVEL,
    MIN_SAMPLES,
    Columns,
    Estimate,
    adjusted,
    between_accounts,
    between_iterations,
    between_runs,
    middle_half,
    welch,
)
from analyzers.compare.tables import (
    P95_FROM,
    deltas,
    kernel_changes,
    metric_changes,
    moments,
    region_changes,
)
from analyzers.compare.types import (
    REMAINDER,
    Comparison,
    ComparisonVerdict,
    Delta,
    EvidencePlace,
    RegionChange,
    SideRecording,
    SideSummary,
    WaterfallRow,
)
from analyzers.facts.steps import ROLES
from analyzers.finding import Row
from analyzers.intervals import Array
from analyzers.ledger.booking import ROWS
from analyzers.ledger.regions import OUTSIDE
from analyzers.words import count_text, share_text, time_text

SMALLEST_SHARE = 0.01  # of base's time; smaller changes come and go with the room's temperature
_KIND_OF_ROLE = {Row.HOST.value: "dataloader"}


def compare(
    base: Sequence[Side],
    new: Sequence[Side],
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
        told = [_without_numbers(sides) for sides in (base, new)]
        return Comparison(
            verdict=ComparisonVerdict.NOT_COMPARABLE,
            sentence=f"Not comparable: {blocking[0].sentence}",
            how=(),
            base=told[0],
            new=told[1],
            comparability=differences,
            device=device,
            devices=devices,
        )
    same = _are_identical(base, new)
    estimate = _exact(base) if same else _estimate(base, new)
    accounts = [_account(sides) for sides in (base, new)]
    delta = _delta(estimate, accounts)
    smallest_ns = round(smallest * accounts[0].median_ns)
    verdict = decide(delta, smallest_ns)
    what = "an iteration" if any(side.loop for side in (*base, *new)) else "the whole window"
    regions = region_changes(base, new)
    return Comparison(
        verdict=verdict,
        sentence=_sentence(verdict, delta, smallest_ns, what, same=same),
        how=estimate.how,
        base=_summary(base, accounts[0]),
        new=_summary(new, accounts[1]),
        comparability=differences,
        delta=delta,
        mean_delta=_mean_delta(base, new),
        smallest_ns=smallest_ns,
        waterfall=_waterfall(base, new, accounts, regions, same=same),
        kernels=kernel_changes(base, new),
        regions=regions,
        metrics=metric_changes(base, new),
        notes=tuple(_notes(base, new, delta)),
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


def _devices(base: Sequence[Side], new: Sequence[Side]) -> tuple[str, tuple[str, ...]]:
    sides = (*base, *new)
    shared = min(len(side.devices) for side in sides)
    names = base[0].devices[:shared]
    chosen = base[0].device
    return (base[0].devices[chosen] if 0 <= chosen < len(base[0].devices) else ""), names


# --- the change ---------------------------------------------------------------------------


def _are_identical(base: Sequence[Side], new: Sequence[Side]) -> bool:
    """Tell whether both sides are the same recordings, under whatever names."""
    if len(base) != len(new):
        return False
    left = list(new)
    for side in base:
        twin = next((other for other in left if _is_same(side, other)), None)
        if twin is None:
            return False
        left.remove(twin)
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


def _samples(side: Side) -> Array:
    kept: Array = side.durations_ns[side.kept].astype(float)
    return kept


def _medians(sides: Sequence[Side]) -> Array:
    return np.array([np.median(_samples(side)) for side in sides])


def _exact(base: Sequence[Side]) -> Estimate:
    median = float(_medians(base).mean())
    how = ("Both sides are the same measurement, nanosecond for nanosecond.",)
    return Estimate(
        base=median, new=median, low=0.0, high=0.0, p_value=1.0, detectable=0.0, how=how
    )


def _estimate(base: Sequence[Side], new: Sequence[Side]) -> Estimate:
    if len(base) + len(new) > 2:
        return between_runs(_medians(base), _medians(new))
    samples = _samples(base[0]), _samples(new[0])
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


@dataclass(frozen=True, kw_only=True)
class _Account:
    """What a typical iteration of a side consists of, in whole nanoseconds.

    Attributes:
        median_ns: Its time.
        rows_ns: By row of the ledger.
        parts: For each recording its rows and what they leave of its median.
        recording: Number of the recording that stands for the side.
    """

    median_ns: int
    rows_ns: Array
    parts: Array
    recording: int

    @property
    def remainder_ns(self) -> int:
        """What the rows leave of the median."""
        return self.median_ns - int(self.rows_ns.sum())


def _account(sides: Sequence[Side]) -> _Account:
    medians = _medians(sides)
    rows = np.array([middle_half(_samples(s)) @ s.ledger_ns[s.kept] for s in sides])
    median_ns = round(float(medians.mean()))
    return _Account(
        median_ns=median_ns,
        rows_ns=np.rint(rows.mean(axis=0)).astype(np.int64),
        parts=np.column_stack((rows, medians - rows.sum(axis=1))),
        recording=int(np.argmin(np.abs(medians - median_ns))),
    )


def _delta(estimate: Estimate, accounts: list[_Account]) -> Delta:
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


def _mean_delta(base: Sequence[Side], new: Sequence[Side]) -> Delta:
    runs = [[moments(_samples(s)[:, None], 1.0) for s in sides] for sides in (base, new)]
    return deltas(runs[0], runs[1], "ns")[0]


# --- the waterfall ------------------------------------------------------------------------


def _waterfall(
    base: Sequence[Side],
    new: Sequence[Side],
    accounts: list[_Account],
    regions: tuple[RegionChange, ...],
    *,
    same: bool,
) -> tuple[WaterfallRow, ...]:
    columns = _row_columns(base, new, accounts, same=same)
    names = [*(row.value for row in ROWS), REMAINDER]
    values = [[*a.rows_ns.tolist(), a.remainder_ns] for a in accounts]
    moved = np.array([b or n for b, n in zip(*values, strict=True)], dtype=bool)
    p_adjusted = np.full(len(names), np.nan)
    if columns is not None:
        p_adjusted[moved] = adjusted(columns.p_value[moved])
    rows = []
    for place, name in enumerate(names):
        before, after = values[0][place], values[1][place]
        row = WaterfallRow(row=name, base_ns=before, new_ns=after, change_ns=after - before)
        if columns is not None and np.isfinite(p_adjusted[place]):
            row = _with_interval(row, columns, p_adjusted, place)
        if name != REMAINDER:
            row = _with_evidence(row, base, new, accounts, regions)
        rows.append(row)
    return tuple(rows)


def _row_columns(
    base: Sequence[Side], new: Sequence[Side], accounts: list[_Account], *, same: bool
) -> Columns | None:
    """Return the uncertainty of each row's change; None when there is none to be had."""
    if same:
        nothing = np.zeros(len(ROWS) + 1)
        return Columns(nothing, nothing, nothing, np.ones(len(ROWS) + 1), nothing)
    if len(base) + len(new) > 2:
        return welch(accounts[0].parts, accounts[1].parts)
    sides = [(_samples(s), s.ledger_ns[s.kept].astype(float)) for s in (base[0], new[0])]
    if min(len(samples) for samples, _ in sides) < MIN_SAMPLES:
        return None
    return between_accounts(sides[0], sides[1])


def _with_interval(
    row: WaterfallRow, columns: Columns, p_adjusted: Array, place: int
) -> WaterfallRow:
    low, high = float(columns.low[place]), float(columns.high[place])
    return replace(
        row,
        low_ns=round(low),
        high_ns=round(high),
        p_adjusted=float(p_adjusted[place]),
        significant=bool(p_adjusted[place] <= LEVEL and not low <= 0 <= high),
    )


def _with_evidence(
    row: WaterfallRow,
    base: Sequence[Side],
    new: Sequence[Side],
    accounts: list[_Account],
    regions: tuple[RegionChange, ...],
) -> WaterfallRow:
    """Add where to look on both sides, and what is behind the change."""
    whole = {OUTSIDE, *(side.loop for side in (*base, *new))}  # says no more than the row
    mine = [r for r in regions if r.row.value == row.row and r.time.change]
    most = max(mine, key=lambda r: (r.name not in whole, abs(r.time.change)), default=None)
    places = [
        _place(sides[account.recording], account.recording, row.row)
        for sides, account in zip((base, new), accounts, strict=True)
    ]
    if most is not None:
        places = [most.base_place or places[0], most.new_place or places[1]]
    note = _role_note(row.row, base, new) or _region_note(most)
    return replace(row, note=note, base_place=places[0], new_place=places[1])


def _place(side: Side, recording: int, row: str) -> EvidencePlace:
    """Return where a row costs most in a typical iteration; the iteration, if it costs nothing."""
    start, end = side.row_places[[r.value for r in ROWS].index(row)].tolist()
    if end <= start:
        start, end = int(side.start_ns[side.typical]), int(side.end_ns[side.typical])
    return EvidencePlace(recording=recording, start_ns=start, end_ns=end, device=side.device)


def _role_note(row: str, base: Sequence[Side], new: Sequence[Side]) -> str:
    """Say what fetching data took, where the recording tells it."""
    role = _KIND_OF_ROLE.get(row)
    if role is None or not all(len(side.roles_ns) for side in (*base, *new)):
        return ""
    place = ROLES.index(role)
    shares = []
    for first in (False, True):
        for sides in (base, new):
            kept = [slice(None) if first else s.kept for s in sides]
            spent = sum(int(s.roles_ns[k, place].sum()) for s, k in zip(sides, kept, strict=True))
            whole = sum(int(s.durations_ns[k].sum()) for s, k in zip(sides, kept, strict=True))
            shares.append(share_text(spent / whole, 1, exact=True))
    if not any(int(s.roles_ns[:, place].sum()) for s in (*base, *new)):
        return ""
    told = (
        f"Fetching data (DataLoader) takes {shares[0]} of an iteration on base, {shares[1]} on new"
    )
    if not any(s.warm_up for s in (*base, *new)):
        return f"{told}."
    return f"{told} (with the warm-up that was left out: {shares[2]} and {shares[3]})."


def _region_note(most: RegionChange | None) -> str:
    if most is None or not most.time.significant:
        return ""
    where = f"In {most.name[:80]}" if most.name != OUTSIDE else "In no range or operator"
    before, after = time_text(most.time.base), time_text(most.time.new)
    return f"{where}: {before} on base, {after} on new."


# --- words --------------------------------------------------------------------------------


def _without_numbers(sides: Sequence[Side]) -> SideSummary:
    return SideSummary(recordings=tuple(_recording(side) for side in sides))


def _recording(side: Side) -> SideRecording:
    return SideRecording(
        name=side.source["name"],
        sha256=side.source["sha256"],
        trace_id=side.trace_id,
        window=side.window,
        iterations=len(side.start_ns) if side.loop else 0,
        warm_up=side.warm_up,
        warm_up_how=side.warm_up_how,
        warm_up_ns=tuple(side.durations_ns[: side.warm_up].tolist()),
        median_ns=round(float(np.median(_samples(side)))),
    )


def _summary(sides: Sequence[Side], account: _Account) -> SideSummary:
    pooled = np.concatenate([_samples(side) for side in sides])
    typical = sides[account.recording]
    return SideSummary(
        recordings=tuple(_recording(side) for side in sides),
        samples_ns=tuple(tuple(side.durations_ns[side.kept].tolist()) for side in sides),
        median_ns=account.median_ns,
        p95_ns=round(float(np.percentile(pooled, 95))) if len(pooled) >= P95_FROM else None,
        ledger_ns={r.value: ns for r, ns in zip(ROWS, account.rows_ns.tolist(), strict=True)},
        remainder_ns=account.remainder_ns,
        typical=EvidencePlace(
            recording=account.recording,
            start_ns=int(typical.start_ns[typical.typical]),
            end_ns=int(typical.end_ns[typical.typical]),
            device=typical.device,
        ),
    )


def _sentence(
    verdict: ComparisonVerdict, delta: Delta, smallest_ns: int, what: str, *, same: bool
) -> str:
    base, new = time_text(delta.base), time_text(delta.new)
    went = f"{what} took {base} and takes {new}"
    if same:
        return f"No difference: both sides are the same measurement, {what} took {base}."
    if delta.low is None or delta.high is None:
        return f"Inconclusive: {went}, but no uncertainty can be given, so it may be noise."
    interval = f"{_percent(delta.low, delta)} to {_percent(delta.high, delta)}"
    if verdict is ComparisonVerdict.NO_DIFFERENCE:
        limit = share_text(smallest_ns, delta.base)
        return f"No difference that matters: {went} ({interval}), within ± {limit}."
    if verdict is ComparisonVerdict.INCONCLUSIVE:
        found = share_text(delta.detectable or 0.0, delta.base)
        return (
            f"Inconclusive: {went} ({_percent(delta.change, delta)}, but {interval} fits as well); "
            f"a change of {found} would have been found."
        )
    ratio = delta.base / delta.new if delta.change < 0 else delta.new / delta.base
    word, times = ("Improved", "faster") if delta.change < 0 else ("Regressed", "slower")
    return f"{word}: {went}, {ratio:.2f} x {times} ({_percent(delta.change, delta)}, {interval})."


def _percent(ns: float, delta: Delta) -> str:
    share = 100 * ns / delta.base if delta.base else 0.0
    return f"{share:+.1f} %" if abs(share) >= 0.05 or not share else f"{share:+.1g} %"


def _shift_note(side: Side) -> str:
    """Say that a run changed in its midst, which is no warm-up and no noise either."""
    samples = _samples(side)
    at = shift_within(samples)
    if not at:
        return ""
    ratio = float(np.median(samples[at:]) / np.median(samples[:at])) - 1
    how = f"{share_text(abs(ratio), 1)} {'longer' if ratio > 0 else 'less'}"
    return (
        f"{side.source['name']}: iterations take {how} "
        f"after the first {at:,} of {len(samples):,} that are compared, too late for a warm-up: "
        "clocks, neighbours, or another part of the program. All are compared as one run."
    )


def _notes(base: Sequence[Side], new: Sequence[Side], delta: Delta) -> list[str]:
    notes = []
    for side in (*base, *new):
        if side.warm_up:
            left = f"{count_text(side.warm_up, 'iteration')} at the beginning left out"
            notes.append(f"{side.source['name']}: {left}: {side.warm_up_how}.")
        if side.loop and (note := _shift_note(side)):
            notes.append(note)
    if delta.low is not None and len(base) == len(new) == 1:
        notes.append(
            "One recording on each side: what differs from run to run (clocks, memory layout, "
            "neighbours) is not in the interval. Record each side several times to have it there."
        )
    if any(not side.regions.keys for side in (*base, *new)):
        notes.append(
            "Regions are not compared: a recording has no ranges and no operators, or too many "
            "stretches; choose a shorter window."
        )
    if not all(len(side.operators) for side in (*base, *new)):
        notes.append("Input shapes were not recorded, so equal inputs are assumed.")
    return notes
