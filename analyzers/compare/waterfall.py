"""The waterfall of a comparison: what each row of the ledger contributes to the change, and why."""

from __future__ import annotations

from dataclasses import replace

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
    between_accounts,
    welch,
)
from analyzers.compare.types import (
    REMAINDER,
    EvidencePlace,
    RegionChange,
    WaterfallRow,
)
from analyzers.facts.steps import ROLES
from analyzers.finding import Row
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
    columns = _row_columns(base, new, accounts, same=same)
    names = [*(row.value for row in ROWS), REMAINDER]
    values = [[*a.rows_ns.tolist(), a.remainder_ns] for a in accounts]
    nonzero = np.array([b or n for b, n in zip(*values, strict=True)], dtype=bool)
    p_adjusted = np.full(len(names), np.nan)
    if columns is not None:
        p_adjusted[nonzero] = adjusted(columns.p_value[nonzero])
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


def _row_columns(base: Sides, new: Sides, accounts: list[Account], *, same: bool) -> Columns | None:
    """Return the uncertainty of each row's change; None when there is none to be had."""
    if same:
        nothing = np.zeros(len(ROWS) + 1)
        return Columns(nothing, nothing, nothing, np.ones(len(ROWS) + 1), nothing)
    if len(base) + len(new) > 2:
        return welch(accounts[0].parts, accounts[1].parts)
    sides = [(kept_durations(s), s.ledger_ns[s.kept].astype(float)) for s in (base[0], new[0])]
    levels = [np.append(a.rows_ns, abs(a.remainder_ns)).astype(float) for a in accounts]
    if min(len(samples) for samples, _ in sides) >= MIN_SAMPLES:
        return in_general(between_accounts(sides[0], sides[1]), levels[0], levels[1])
    remainders = [account.remainder_ns for account in accounts]
    change = np.append(accounts[1].rows_ns - accounts[0].rows_ns, remainders[1] - remainders[0])
    within = row_columns(base[0], new[0], change.astype(float))
    return None if within is None else in_general(within, levels[0], levels[1])


def _with_interval(
    row: WaterfallRow, columns: Columns, p_adjusted: Array, place: int
) -> WaterfallRow:
    low, high = float(columns.low[place]), float(columns.high[place])
    return replace(
        row,
        low_ns=round(low if row.row == REMAINDER else max(low, -row.base_ns)),
        high_ns=round(high),
        p_adjusted=float(p_adjusted[place]),
        significant=bool(p_adjusted[place] <= LEVEL and not low <= 0 <= high),
    )


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
