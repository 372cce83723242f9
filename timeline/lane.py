"""The lanes of a timeline and the groups that fold them together, without their events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NOTHING = -1


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One line of the timeline, without its events.

    Attributes:
        group: Place of the group that it stands in.
        label: What it shows; empty for the deeper levels of a track.
        kind: ``events``, ``ledger``, ``findings``, ``iterations`` or ``counter``.
        table: What ``row`` of its events counts in.
        level: Depth in its track, from 0.
        mirror: True when every event also stands in another lane.
        parts: First event, number of events and colour of each part. Only a ledger has several:
            one for each of its rows, so that the share of each is exact.
        colors: Colours of its events.
        low: Smallest value of a counter.
        high: Largest value of a counter.
        unit: Unit of a counter.
        until: When the last sample of a counter holds no longer, ns; -1 holds to the end.
    """

    group: int
    label: str
    kind: str = "events"
    table: str = ""
    level: int = 0
    mirror: bool = False
    parts: tuple[tuple[int, int, int], ...] = ()
    colors: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 0.0
    unit: str = ""
    until: int = NOTHING

    @property
    def count(self) -> int:
        """Number of its events."""
        return sum(count for _, count, _ in self.parts)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Lanes that are folded together.

    Attributes:
        id: Name that stays the same from recording to recording, such as ``gpu:0``.
        kind: ``device``, ``thread``, ``metrics`` or ``program``.
        title: Heading; a device's is completed by what the report calls it.
        device: Key of the ledger device, -1 for none.
        open: Whether its lanes are shown at first.
    """

    id: str
    kind: str
    title: str
    device: int = NOTHING
    open: bool = True


def track_labels(lanes: Iterable[Lane]) -> list[str]:
    """Return the label of each lane's track; the deeper levels of a track have none themselves."""
    labels: list[str] = []
    for lane in lanes:
        labels.append(labels[-1] if lane.level and labels else lane.label)
    return labels
