"""The part of the row ``communication`` in which collectives wait, by the rank that came last."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import Facts
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, overlaps
from analyzers.ledger.ledger import Detail, Ledger
from common.memo import memo

NO_ONE = -1
MOST_OF_WAITING = 0.5  # by one rank, to call it the one that is late
FACTOR = 1.5  # … and so many times its part if ranks came last by chance
DEVIATIONS = 3  # … and so many standard deviations above it: 17 of 40 are chance among three
NEARLY_ALL = 0.9  # … or this much, however few collectives there are


@dataclass(frozen=True, kw_only=True)
class RankWaits:
    """Waiting for late ranks that nothing overlapped.

    Attributes:
        parts: One row per collective and waiting rank: ``device`` (key), ``last_device`` (key of
            the device that came last), ``collective``, ``start_ns``, ``end_ns`` and ``ns`` (inside
            the row), ``late_ns`` (from the first rank's begin to the last one's), ``gain_ns`` (how
            much of it after the last rank but one had come) and ``is_pair``.
        devices: Keys of the devices that take part in collectives of several ranks.
    """

    parts: pd.DataFrame
    devices: tuple[int, ...]

    @property
    def ns(self) -> int:
        """Time of devices that only waited."""
        return int(self.parts["ns"].sum())

    @property
    def count(self) -> int:
        """Collectives in which a device only waited for a while."""
        return int(self.parts["collective"].nunique())

    @property
    def last_device(self) -> int:
        """Key of the device that most waiting is for; ``NO_ONE`` when they are late in turn."""
        if not len(self.parts):
            return NO_ONE
        by_device = self.parts.groupby("last_device")["ns"].sum()
        share = by_device.max() / max(self.ns, 1)
        most: int = by_device.index.tolist()[int(by_device.to_numpy().argmax())]
        return most if share >= self._least_share else NO_ONE

    @property
    def _least_share(self) -> float:
        """The part of the waiting from which on one device is late not only by chance.

        Collectives wait for different times, so that fewer than there are decide: as many as
        Kish's effective size of a weighted sample says (Survey Sampling, 1965).
        """
        by_collective = self.parts.groupby("collective")["ns"].sum().to_numpy(dtype=float)
        size = by_collective.sum() ** 2 / max(float((by_collective**2).sum()), 1.0)
        by_chance = 1 / len(self.devices)
        deviation = math.sqrt(by_chance * (1 - by_chance) / max(size, 1.0))
        beyond_chance = max(FACTOR * by_chance, by_chance + DEVIATIONS * deviation)
        return max(MOST_OF_WAITING, min(beyond_chance, NEARLY_ALL))

    @property
    def last_counts(self) -> dict[int, int]:
        """In how many collectives each device came last, the most frequent first."""
        counts = self.parts.groupby("last_device")["collective"].nunique()
        pairs = zip(counts.index.tolist(), counts.tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def of(self, last_device: int) -> RankWaits:
        """Return the waiting for one device."""
        chosen = (self.parts["last_device"] == last_device).to_numpy()
        return RankWaits(parts=self.parts[chosen], devices=self.devices)

    def waiting_ns(self, device: int) -> int:
        """Return how long one device only waited."""
        return int(self.parts["ns"][(self.parts["device"] == device).to_numpy()].sum())

    @property
    def median_late_ns(self) -> int:
        """How much later than the first rank the last one began, by collective."""
        late = self.parts.groupby("collective")["late_ns"].first()
        return int(late.median()) if len(late) else 0

    @property
    def is_between_pairs(self) -> bool:
        """Whether most of it is waiting for what one rank sends to one other."""
        pairs = self.parts["ns"][self.parts["is_pair"].to_numpy(dtype=bool)].sum()
        return bool(2 * pairs > self.ns)

    @property
    def shortest_gain_ns(self) -> int:
        """How much sooner everything ends at most, if this rank came with the last but one."""
        return int(self.parts.groupby("device")["gain_ns"].sum().max()) if len(self.parts) else 0


@memo()
def rank_waits(facts: Facts, ledger: Ledger) -> RankWaits:
    """Return the waiting for late ranks; its sum is that of the detail in the ledger."""
    segments = ledger.of(Row.COMMUNICATION, Detail.WAITING_FOR_RANK)
    collectives = collectives_of(facts)
    devices = tuple(np.unique(collectives.members["device"].to_numpy()).tolist())
    waits = collectives.waits
    first = collectives.members.groupby("collective")["start_ns"].min()
    parts = []
    for key in devices:
        of_device = waits[(waits["device"] == key).to_numpy()]
        own = _disjoint(of_device)
        spans = segments[(segments["device"] == key).to_numpy()]
        queries = Spans(spans["start_ns"].to_numpy(), spans["end_ns"].to_numpy())
        _, place, start, end = overlaps(queries, own.spans)
        rows = of_device.iloc[own.rows[place]]
        number = rows["collective"].to_numpy()
        parts.append(
            pd.DataFrame(
                {
                    "device": key,
                    "last_device": rows["last_device"].to_numpy(),
                    "collective": number,
                    "start_ns": start,
                    "end_ns": end,
                    "ns": end - start,
                    "late_ns": rows["last_ns"].to_numpy() - first.loc[number].to_numpy(),
                    "gain_ns": np.maximum(end - np.maximum(start, rows["next_ns"].to_numpy()), 0),
                    "is_pair": rows["is_pair"].to_numpy(),
                }
            )
        )
    empty = {name: np.empty(0, np.int64) for name in _COLUMNS}
    return RankWaits(
        parts=pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(empty),
        devices=devices,
    )


_COLUMNS = (
    *("device", "last_device", "collective", "start_ns", "end_ns"),
    *("ns", "late_ns", "gain_ns", "is_pair"),
)


@dataclass(frozen=True)
class _Disjoint:
    spans: Spans
    rows: Array


def _disjoint(waits: pd.DataFrame) -> _Disjoint:
    """Return when each wait is the one that counts: what an earlier one covers is not its own."""
    start, end = waits["start_ns"].to_numpy(), waits["until_ns"].to_numpy()
    order = np.argsort(start, kind="stable")
    reach = np.maximum.accumulate(end[order])
    before = np.concatenate(([np.iinfo(np.int64).min], reach[:-1]))[: len(order)]
    begin = np.maximum(start[order], before)
    solid = end[order] > begin
    return _Disjoint(Spans(begin[solid], end[order][solid]), order[solid])
