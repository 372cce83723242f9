"""Collectives of several ranks in one recording: which kernels of different GPUs belong together.

No rank can finish a collective before the last rank has begun it. Until then the kernel of an
early rank runs, and only waits: how long is known as soon as the kernels of all ranks are. Which
belong together is taken from what the framework recorded (group, sequence number, operation). Else
two streams of different GPUs are one group if their collectives have the same names and end
together, one by one; what is k-th of its group on every rank is one collective then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.collective_pairs import ClockDifference, Pairs, RankLane, paired, same_group
from analyzers.facts.facts import COMMUNICATION, Facts
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array
from analyzers.recorder import TORCH_FORMAT
from collectors.schema import NOT_RECORDED
from common.memo import memo

MOST_LANES = 256  # streams that are compared, those with most collectives
SEND_RECV = "sendrecv"
_COLUMNS = (
    *("launch", "device", "rank", "collective", "start_ns", "end_ns"),
    *("last_ns", "next_ns", "last_device", "is_pair"),
)


@dataclass(frozen=True, eq=False)
class Collectives:
    """The collectives in which several ranks of the recording took part.

    Attributes:
        members: One row per kernel that takes part in one, by begin: ``launch`` (row in
            ``Facts.launches``), ``device`` (key), ``rank`` (number of process and device),
            ``collective`` (its number), ``start_ns``, ``end_ns``, ``last_ns`` (begin on the last
            rank), ``next_ns`` (begin on the last but one), ``last_device`` (key of the last rank's
            device) and ``is_pair`` (data goes from one rank to one other).
        count: Communication kernels in the recording, with partners or without.
        clocks: Ranks whose clocks disagree, so that nothing can be said about who waits.
        missing_ranks: Ranks of the largest group that are not in this recording; 0 when all are,
            or when it is not known how many there are.
    """

    members: pd.DataFrame
    count: int = 0
    clocks: tuple[ClockDifference, ...] = ()
    missing_ranks: int = 0

    @property
    def waits(self) -> pd.DataFrame:
        """The members that waited, with ``until_ns``, the end of their wait."""
        last, end = self.members["last_ns"].to_numpy(), self.members["end_ns"].to_numpy()
        members = self.members.assign(until_ns=np.minimum(last, end))
        waiting: pd.DataFrame = members[(members["until_ns"] > members["start_ns"]).to_numpy()]
        return waiting


@memo()
def collectives_of(facts: Facts) -> Collectives:
    """Return the collectives of a recording, matched between its ranks."""
    rows = np.flatnonzero(facts.launches["kind"].to_numpy() == COMMUNICATION)
    ranks = _ranks(facts, rows)
    if not len(rows) or facts.counters_only or ranks.max() == 0:
        return Collectives(_no_members(), len(rows))
    kernels = _with_metadata(facts, rows).assign(rank=ranks)
    groups: list[list[Pairs]] = []
    clocks: list[ClockDifference] = []
    for first, *others in _recorded_groups(kernels):
        pairs = [paired(first, other) for other in others]
        differences = [p.clock_difference() if len(p) else None for p in pairs]
        clocks += [d for d in differences if d is not None]
        groups.append([p for p, d in zip(pairs, differences, strict=True) if d is None])
    more_groups, offsets = _found_groups(_lanes(facts, kernels[(kernels["group"] < 0).to_numpy()]))
    groups += more_groups
    if facts.trace.source.format == TORCH_FORMAT:  # nsys records a machine, which has one clock
        clocks += offsets
    return Collectives(
        members=_members(facts, kernels, groups),
        count=len(rows),
        clocks=tuple(clocks),
        missing_ranks=_missing_ranks(kernels),
    )


def _ranks(facts: Facts, rows: Array) -> Array:
    """Return the number of process and device of each of these launches."""
    process = facts.launches["process_index"].to_numpy()[rows].astype(np.int64)
    device = facts.launches["device"].to_numpy()[rows].astype(np.int64)
    numbers: Array = np.unique(process * len(facts.devices) + device, return_inverse=True)[1]
    return numbers


def _with_metadata(facts: Facts, rows: Array) -> pd.DataFrame:
    """Return the kernels with what the framework said about them, -1 where it said nothing.

    The columns are ``launch``, ``start_ns``, ``end_ns``, ``group``, ``size``, ``sequence``,
    ``label`` (number of the operation, or of the kernel's name) and ``is_pair``.
    """
    columns = ("name_id", "group_id", "group_size", "ranks_id", "sequence")
    kernels = recorded_collectives(facts, rows, columns)
    kernels["end_ns"] = facts.launches["end_ns"].to_numpy()[rows]
    kernels["kernel_id"] = facts.launches["name_id"].to_numpy()[rows]
    has_name = (kernels["name_id"] >= 0).to_numpy()
    text_id = np.where(has_name, kernels["name_id"], kernels["kernel_id"])
    codes, unique = pd.factorize(text_id)
    texts = [_operation(str(name)) for name in facts.trace.names(unique)]
    label = pd.factorize(np.array(texts, dtype=object))[0][codes]
    in_group = has_name & (kernels["group_id"] >= 0).to_numpy()
    group = kernels.groupby(["group_id", "group_size", "ranks_id"]).ngroup().to_numpy()
    return pd.DataFrame(
        {
            "launch": kernels["launch"].to_numpy(),
            "start_ns": kernels["start_ns"].to_numpy(),
            "end_ns": kernels["end_ns"].to_numpy(),
            "group": np.where(in_group, group, NOT_RECORDED),
            "size": kernels["group_size"].to_numpy(),
            "sequence": np.where(in_group, kernels["sequence"].to_numpy(), NOT_RECORDED),
            "label": label,
            "is_pair": np.array([text == SEND_RECV for text in texts], dtype=bool)[codes],
            "is_rooted": np.array([_is_rooted(text) for text in texts], dtype=bool)[codes],
        }
    )


def recorded_collectives(facts: Facts, rows: Array, columns: Sequence[str]) -> pd.DataFrame:
    """Return what the framework recorded of communication kernels, -1 where it recorded nothing.

    Args:
        facts: The recording.
        rows: Kernels among ``Facts.launches``.
        columns: Of the trace's table of collectives.

    Returns:
        A row for each of ``rows``: ``launch``, ``process_key``, ``device``, ``stream``,
        ``start_ns``, ``correlation_id`` (as in the trace) and these columns.
    """
    place = ["process_key", "device", "stream", "start_ns", "correlation_id"]
    kernels = trace_table(facts.trace, "kernels", place)
    kernels = kernels.take(facts.launches["source_row"].to_numpy()[rows]).assign(launch=rows)
    names = list(columns)
    if facts.trace.count("collectives"):
        about = trace_table(facts.trace, "collectives", [*place, *names]).drop_duplicates(place)
        kernels = kernels.merge(about, how="left", on=place).fillna(NOT_RECORDED)
    else:
        kernels[names] = NOT_RECORDED
    kernels[names] = kernels[names].astype(np.int64)
    return kernels


def _operation(name: str) -> str:
    """Return what both ends of an exchange are called, from an operation or a kernel's name."""
    plain = name.lower().replace("_", "")
    return SEND_RECV if plain in ("send", "recv") or SEND_RECV in plain else name


def _is_rooted(operation: str) -> bool:
    """Tell whether one rank has a part of its own, so that ranks need not end together."""
    plain = operation.lower().replace("_", "")
    rooted = ("broadcast", "gather", "scatter", "reduce", SEND_RECV)
    all_ranks = ("allgather", "allreduce", "reducescatter")
    return any(r in plain for r in rooted) and not any(a in plain for a in all_ranks)


def _recorded_groups(kernels: pd.DataFrame) -> list[list[RankLane]]:
    """Return the lanes of each group that the framework named, one for each rank."""
    groups = []
    for _, of_group in kernels[(kernels["group"] >= 0).to_numpy()].groupby("group"):
        ranks = of_group["rank"].nunique()
        # Between more than two ranks, who sends to whom is not recorded.
        chosen = of_group if ranks == 2 else of_group[~of_group["is_pair"].to_numpy()]
        lanes = [RankLane.of(of_rank) for _, of_rank in chosen.groupby("rank")]
        if len(lanes) > 1:
            groups.append(sorted(lanes, key=len, reverse=True))
    return groups


def _lanes(facts: Facts, unknown: pd.DataFrame) -> list[RankLane]:
    """Return one lane for each rank and stream, those with most collectives first."""
    stream = facts.launches["stream"].to_numpy()[unknown["launch"].to_numpy()]
    lanes = [RankLane.of(part) for _, part in unknown.groupby([unknown["rank"].to_numpy(), stream])]
    return sorted(lanes, key=len, reverse=True)[:MOST_LANES]


def _found_groups(lanes: list[RankLane]) -> tuple[list[list[Pairs]], list[ClockDifference]]:
    """Put lanes together whose collectives end together: each with the first of its group.

    Lanes that find no group may have found one but for their clocks.
    """
    groups: list[tuple[RankLane, list[Pairs]]] = []
    clocks: list[ClockDifference] = []
    for lane in lanes:
        near = [first for first, others in groups if _lacks(lane, first, others)]
        pairs = [paired(first, lane) for first in near]
        own = next((p for p in pairs if same_group(p)), None)
        if own is not None:
            next(others for first, others in groups if first is own.first).append(own)
            continue
        groups.append((lane, []))
        clocks += [d for p in pairs if (d := p.constant_offset()) is not None][:1]
    return [others for _, others in groups], clocks


def _lacks(lane: RankLane, first: RankLane, others: list[Pairs]) -> bool:
    """Tell whether a group has no lane of this one's rank."""
    return lane.rank not in (first.rank, *(pairs.other.rank for pairs in others))


def _members(facts: Facts, kernels: pd.DataFrame, groups: list[list[Pairs]]) -> pd.DataFrame:
    """Return the kernels that take part in a collective of several ranks."""
    parts, number = [], 0
    for group in groups:
        possible = [pairs.possible() for pairs in group]
        possible = [pairs for pairs in possible if len(pairs)]
        if not possible:
            continue
        first = possible[0].first
        met = np.unique(np.concatenate([pairs.first_places for pairs in possible]))
        parts.append((first.launch[met], number + met))
        parts += [(p.other.launch[p.other_places], number + p.first_places) for p in possible]
        number += len(first)
    if not parts:
        return _no_members()
    launch = np.concatenate([launch for launch, _ in parts])
    members = kernels.set_index("launch").loc[launch].reset_index()
    members = members.assign(
        collective=np.concatenate([numbers for _, numbers in parts]),
        device=facts.launches["device"].to_numpy()[launch],
    )
    members = members.sort_values("start_ns", kind="stable", ignore_index=True)
    size = members.groupby("collective")["launch"].transform("size").to_numpy()
    members = members.assign(**_last_begins(members), is_pair=members["is_pair"] & (size == 2))
    return members[list(_COLUMNS)]


def _last_begins(members: pd.DataFrame) -> dict[str, Array]:
    """Return when the last rank of each collective began, and the last but one, and which it is."""
    number = members["collective"].to_numpy()
    start = members["start_ns"].to_numpy()
    order = np.lexsort((start, number))
    is_last = np.append(number[order][1:] != number[order][:-1], True)
    last = order[is_last]
    last_but_one = order[np.flatnonzero(is_last) - 1]  # a collective has two members at least
    place = np.searchsorted(number[last], number)
    return {
        "last_ns": start[last][place],
        "next_ns": start[last_but_one][place],
        "last_device": members["device"].to_numpy()[last][place],
    }


def _missing_ranks(kernels: pd.DataFrame) -> int:
    """Return how many ranks of the largest group are not in this recording."""
    largest = int(kernels["size"].max())
    recorded = int(kernels["rank"][(kernels["size"] == largest).to_numpy()].nunique())
    return max(largest - recorded, 0) if largest > 0 else 0


def _no_members() -> pd.DataFrame:
    return pd.DataFrame({name: np.empty(0, np.int64) for name in _COLUMNS})
