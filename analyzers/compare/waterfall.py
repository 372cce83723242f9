"""The waterfall of a comparison: what each row of the ledger contributes to the change, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from analyzers.compare.accounts import Account, kept_durations
from analyzers.compare.run_to_run import in_general
from analyzers.compare.same_work import row_columns
from analyzers.compare.side import Side, Sides
from analyzers.compare.statistics import (
    LEVEL,
    MIN_SAMPLES,
    Columns,
    adjusted,
    agreeing,
    between_accounts,
    welch,
)
from analyzers.compare.types import (
    REMAINDER,
    Delta,
    EvidencePlace,
    RegionChange,
    WaterfallRow,
)
from analyzers.facts.steps import ROLES
from analyzers.finding import BUSY_ROWS, Row
from analyzers.intervals import Array
from analyzers.ledger.booking import ROWS
from analyzers.ledger.regions import OUTSIDE
from analyzers.words import share_text, time_text

_KIND_OF_ROLE = {Row.HOST.value: "dataloader"}


def waterfall_rows(
    base: Sides,
    new: Sides,
    accounts: list[Account],
    regions: tuple[RegionChange, ...],
    *,
    same: bool,
) -> tuple[WaterfallRow, ...]:
    """Return the rows of the ledger in its order, then the remainder, each with its change."""
    values = [[*a.rows_ns.tolist(), a.remainder_ns] for a in accounts]
    uncertainty = _uncertainty(base, new, accounts, _ROWS_ALONE, same=same)
    rows = []
    for place, name in enumerate([*(row.value for row in ROWS), REMAINDER]):
        before, after = values[0][place], values[1][place]
        row = WaterfallRow(row=name, base_ns=before, new_ns=after, change_ns=after - before)
        if name != REMAINDER:
            if uncertainty is not None and np.isfinite(uncertainty.p_adjusted[place]):
                row = _with_interval(row, uncertainty, place)
            row = _with_evidence(row, base, new, accounts, regions)
        rows.append(row)
    return tuple(rows)


def busy_change(base: Sides, new: Sides, accounts: list[Account], *, same: bool) -> Delta:
    """Return by how much the time changed in which the GPU is busy, in a typical iteration."""
    before, after = (int(account.rows_ns @ _BUSY) for account in accounts)
    row = WaterfallRow(row="", base_ns=before, new_ns=after, change_ns=after - before)
    uncertainty = _uncertainty(base, new, accounts, _BUSY[:, None], same=same)
    if uncertainty is not None and np.isfinite(uncertainty.p_adjusted[0]):
        row = _with_interval(row, uncertainty, 0)
    return row.delta


_ROWS_ALONE = np.eye(len(ROWS), dtype=np.int64)
_BUSY = np.array([row in BUSY_ROWS for row in ROWS], dtype=np.int64)


class _Uncertainty(NamedTuple):
    """How sure the change of each sum of rows is, in general and within the two runs."""

    columns: Columns
    p_adjusted: Array
    in_runs: Columns | None
    p_in_runs: Array


def _uncertainty(
    base: Sides, new: Sides, accounts: list[Account], sums: Array, *, same: bool
) -> _Uncertainty | None:
    """Return how sure changes of sums of rows are; None when there is nothing to be had.

    Args:
        base: Runs before.
        new: Runs after.
        accounts: Of both sides.
        sums: A row for each row of the ledger, a column for each sum: 1 where it counts.
        same: Whether both sides are the same measurement.
    """
    levels = [(a.rows_ns @ sums).astype(float) for a in accounts]
    changed = (levels[0] != 0) | (levels[1] != 0)
    if same:
        nothing = np.zeros(sums.shape[1])
        columns = Columns(nothing, nothing, nothing, np.ones(sums.shape[1]), nothing)
        return _Uncertainty(columns, _of_changed(columns, changed), None, columns.p_value)
    if len(base) + len(new) > 2:
        columns = welch(accounts[0].parts @ sums, accounts[1].parts @ sums)
        p_adjusted = _of_changed(columns, changed)
        return _Uncertainty(agreeing(columns, p_adjusted), p_adjusted, None, p_adjusted)
    pairs = list(zip((base[0], new[0]), accounts, strict=True))
    samples = [kept_durations(side) * account.scale for side, account in pairs]
    if min(map(len, samples)) >= MIN_SAMPLES:
        tables = [(s.ledger_ns[s.kept] @ sums) * account.scale for s, account in pairs]
        within = between_accounts((samples[0], tables[0]), (samples[1], tables[1]))
    else:
        of_pairs = row_columns(base[0], new[0], levels[1] - levels[0], sums, accounts[0].scale)
        if of_pairs is None:
            return None
        within = of_pairs
    columns = in_general(within, levels[0], levels[1])
    p_adjusted, p_in_runs = _of_changed(columns, changed), _of_changed(within, changed)
    return _Uncertainty(
        agreeing(columns, p_adjusted), p_adjusted, agreeing(within, p_in_runs), p_in_runs
    )


def _of_changed(columns: Columns, changed: Array) -> Array:
    """Return p values adjusted for the number of sums that are anything; NaN for the others."""
    p_adjusted = np.full(len(changed), np.nan)
    p_adjusted[changed] = adjusted(columns.p_value[changed])
    return p_adjusted


def _with_interval(row: WaterfallRow, uncertainty: _Uncertainty, place: int) -> WaterfallRow:
    low, high = _ends(uncertainty.columns, place)
    row = replace(
        row,
        low_ns=max(low, -row.base_ns),  # nothing takes less than no time
        high_ns=high,
        p_adjusted=float(uncertainty.p_adjusted[place]),
        significant=bool(uncertainty.p_adjusted[place] <= LEVEL and not low <= 0 <= high),
    )
    if uncertainty.in_runs is None:
        return row
    low, high = _ends(uncertainty.in_runs, place)
    return replace(
        row,
        low_in_runs_ns=max(low, -row.base_ns),
        high_in_runs_ns=high,
        significant_in_runs=bool(uncertainty.p_in_runs[place] <= LEVEL and not low <= 0 <= high),
    )


def _ends(columns: Columns, place: int) -> tuple[int, int]:
    return round(float(columns.low[place])), round(float(columns.high[place]))


def _with_evidence(
    row: WaterfallRow,
    base: Sides,
    new: Sides,
    accounts: list[Account],
    regions: tuple[RegionChange, ...],
) -> WaterfallRow:
    """Add where to look on both sides, and what is behind the change."""
    whole = {OUTSIDE, *(side.loop for side in (*base, *new))}  # says no more than the row
    row_regions = [r for r in regions if r.row.value == row.row and r.time.change]
    most = max(row_regions, key=lambda r: (r.name not in whole, abs(r.time.change)), default=None)
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


def _role_note(row: str, base: Sides, new: Sides) -> str:
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
    sentence = (
        f"Fetching data (DataLoader) takes {shares[0]} of an iteration on base, {shares[1]} on new"
    )
    if not any(s.warm_up for s in (*base, *new)):
        return f"{sentence}."
    return f"{sentence} (including the warm-up that was left out: {shares[2]} and {shares[3]})."


def _region_note(most: RegionChange | None) -> str:
    if most is None or not most.time.significant:
        return ""
    where = f"In {most.name[:80]}" if most.name != OUTSIDE else "Outside any range or operator"
    before, after = time_text(most.time.base), time_text(most.time.new)
    return f"{where}: {before} on base, {after} on new."
