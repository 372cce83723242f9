"""How fast collectives move their data, against the links between the devices.

What is compared is the moving part: from the moment at which the last rank has begun, where every
rank of a collective was recorded. Else it is not known how long a rank waits for others, and only
the least time that the link needs is. A message so small that the link carries it sooner than its
steps follow each other is bound by latency, and its bandwidth says nothing about the link.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import Facts
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, covered
from analyzers.ledger.ledger import Detail, Ledger
from analyzers.losses.kernel_memory import is_notable
from analyzers.words import share_text, size_text
from analyzers.work.links import link_of
from analyzers.work.traffic import collective_traffic
from common.memo import memo

# NCCL's own model of a ring over NVLink with its protocol for large messages: 8.4 µs, and 3.4 µs
# for each step (src/graph/tuning.cc, ``baseLat`` and ``hwLat``).
BASE_NS, STEP_NS = 8_400, 3_400
FAR_BELOW = 0.5  # of what the link's reachable rate allows, with latency; from there on it is told
SMALL = 0.5  # of the latency; a message that takes less of the link is bound by its steps
NOT_WAITING = 3  # times the latency that a small message may take; a longer one waits for a rank


@dataclass(frozen=True, eq=False)
class CollectiveSpeeds:
    """The collectives of a window whose size is known.

    Attributes:
        rows: One row a rank's part: ``launch`` (row of ``Facts.launches``), ``operation``,
            ``size_bytes``, ``moved_bytes``, ``moving_ns`` (from the last rank's begin where all
            are recorded, else from its own), ``is_complete`` (all are), ``exposed_ns`` (of it,
            booked to communication besides waiting), ``link`` (its name, empty where only the
            user said its rate, or nobody), ``rate`` (bytes a second of the link in one direction,
            among so many devices; NaN where that is not known), ``link_ns`` (least time of the
            link, NaN like its rate), ``expected_ns`` (at the reachable share of the link, with
            latency), ``latency_ns``.
    """

    rows: pd.DataFrame

    @property
    def rate(self) -> float:
        """Return bytes a second of their links, at which all need the links' time; NaN unknown."""
        moved, rate = (self.rows[name].to_numpy() for name in ("moved_bytes", "rate"))
        return float(np.round(moved.sum() / (moved / rate).sum())) if len(moved) else np.nan

    @property
    def link_names(self) -> list[str]:
        """Return what connects their devices; no names where nobody knows or only the user."""
        return sorted(set(self.rows["link"]) - {""})

    @property
    def bus_bytes_per_s(self) -> float:
        """Return the bus bandwidth of all of them together, as nccl-tests counts it."""
        ns = int(self.rows["moving_ns"].sum())
        return float(self.rows["moved_bytes"].sum()) / max(ns * 1e-9, 1e-12)

    @property
    def link_ns(self) -> int:
        """Return the least time that the link needs; 0 where it is not known."""
        return int(np.nan_to_num(self.rows["link_ns"].to_numpy()).sum())

    @property
    def is_link_known(self) -> bool:
        """Whether the link of all of them is known."""
        return bool(len(self.rows)) and bool(np.isfinite(self.rows["link_ns"].to_numpy()).all())

    def chosen(self, rows: Array) -> CollectiveSpeeds:
        """Return some of them."""
        return CollectiveSpeeds(self.rows[rows].reset_index(drop=True))


@dataclass(frozen=True, eq=False)
class LinkLoss:
    """What collectives lose against their link.

    Attributes:
        speeds: The collectives that lose.
        launches: ``launch``, ``low_ns``, ``lost_ns``, ``high_ns`` and ``is_absorbed``, as of
            ``analyzers.losses.kernel_work.WorkLoss``.
    """

    speeds: CollectiveSpeeds
    launches: pd.DataFrame

    @property
    def lost_ns(self) -> int:
        """What is claimed: the middle of the range."""
        return int(self.launches["lost_ns"].sum())

    @property
    def range_ns(self) -> tuple[int, int]:
        """The least and the most that can be won."""
        return int(self.launches["low_ns"].sum()), int(self.launches["high_ns"].sum())


@memo()
def collective_speeds(facts: Facts, ledger: Ledger) -> CollectiveSpeeds:
    """Return how fast each collective of the window moves its data."""
    traffic = collective_traffic(facts)
    inside = np.isin(traffic["launch"].to_numpy(), facts.inside(*ledger.window.span))
    traffic = traffic[inside].reset_index(drop=True)
    launch, ranks = traffic["launch"].to_numpy(), traffic["ranks"].to_numpy()
    device = facts.launches["device"].to_numpy()[launch]
    begin, is_complete = _moving_since(facts, launch, ranks)
    end = facts.launches["end_ns"].to_numpy()[launch]
    links = _links(facts, ledger, traffic, device)
    rate = links["rate"].to_numpy()
    moved = traffic["moved_bytes"].to_numpy()
    latency = (BASE_NS + STEP_NS * traffic["steps"].to_numpy()).astype(float)
    rows = traffic.assign(
        moving_ns=np.maximum(end - begin, 0),
        is_complete=is_complete,
        exposed_ns=_exposed_ns(ledger, device, begin, end),
        link=links["link"].to_numpy(),
        rate=rate,
        link_ns=moved / rate * 1e9,
        expected_ns=latency + moved / links["expected_rate"].to_numpy() * 1e9,
        latency_ns=latency,
    )
    return CollectiveSpeeds(rows)


def _moving_since(facts: Facts, launch: Array, ranks: Array) -> tuple[Array, Array]:
    """Return when each part has begun to move data, and whether all of its ranks are recorded."""
    members = collectives_of(facts).members
    size = members.groupby("collective")["launch"].transform("size").to_numpy()
    last, count = np.full(len(facts.launches), -1), np.zeros(len(facts.launches), np.int64)
    last[members["launch"].to_numpy()] = members["last_ns"].to_numpy()
    count[members["launch"].to_numpy()] = size
    begin = np.maximum(facts.launches["start_ns"].to_numpy()[launch], last[launch])
    return begin, count[launch] == ranks


def _links(facts: Facts, ledger: Ledger, traffic: pd.DataFrame, device: Array) -> pd.DataFrame:
    """Return the link of each collective: its name, its rate and what to expect of it.

    What a data sheet says is of one machine; groups of several need what the user says.

    Returns:
        Columns ``link``, ``rate`` and ``expected_rate`` (bytes a second that large messages reach
        at least, whatever the board), NaN unknown.
    """
    rate, expected = (np.full(len(traffic), np.nan) for _ in range(2))
    name_of = np.full(len(traffic), "", dtype=object)
    ranks = traffic["ranks"].to_numpy()
    local = traffic["is_one_machine"].to_numpy(bool)
    for key, (name, visible) in enumerate(
        facts.devices[["name", "visible_devices"]].itertuples(index=False)
    ):
        link = link_of(str(name), ledger.device_peaks)
        if link is None:
            continue
        for count in np.unique(ranks[device == key]):
            own = (device == key) & (ranks == count) & (local | (not link.name))
            name_of[own], rate[own] = link.name, link.rate(int(count))
            expected[own] = link.reachable * link.least_rate(int(count), int(visible))
    return pd.DataFrame({"link": name_of, "rate": rate, "expected_rate": expected})


def _exposed_ns(ledger: Ledger, device: Array, begin: Array, end: Array) -> Array:
    """Return how much of each stretch is booked to communication besides waiting, none twice."""
    segments = ledger.of(Row.COMMUNICATION)
    segments = segments[(segments["detail"] != Detail.WAITING_FOR_RANK).to_numpy()]
    exposed = np.zeros(len(begin), np.int64)
    for key in np.unique(device):
        own = np.flatnonzero(device == key)
        own = own[np.argsort(begin[own], kind="stable")]
        reach = np.maximum.accumulate(end[own])
        before = np.concatenate(([np.iinfo(np.int64).min], reach[:-1]))
        first = np.minimum(np.maximum(begin[own], before), end[own])
        of_device = segments[(segments["device"] == key).to_numpy()]
        flat = Spans(of_device["start_ns"].to_numpy(), of_device["end_ns"].to_numpy())
        exposed[own] = covered(Spans(first, end[own]), flat)
    return exposed


@memo()
def slow_links(facts: Facts, ledger: Ledger) -> LinkLoss | None:
    """Return the collectives of large messages far below their link; None without notable loss."""
    speeds = collective_speeds(facts, ledger)
    rows = speeds.rows
    allowed = rows["expected_ns"] - rows["latency_ns"]
    chosen = rows["is_complete"] & (allowed >= rows["latency_ns"])
    chosen &= rows["expected_ns"] < FAR_BELOW * rows["moving_ns"]
    slow = speeds.chosen((chosen & (rows["exposed_ns"] > 0)).to_numpy())
    part = slow.rows["expected_ns"] / slow.rows["moving_ns"]
    high = (slow.rows["exposed_ns"] * (1 - part)).to_numpy()
    low = (slow.rows["exposed_ns"] * (1 - part / FAR_BELOW)).to_numpy()
    return _notable(ledger, slow, low, high)


@memo()
def small_messages(facts: Facts, ledger: Ledger) -> LinkLoss | None:
    """Return the collectives that latency binds; None without notable loss."""
    speeds = collective_speeds(facts, ledger)
    rows = speeds.rows
    chosen = rows["expected_ns"] - rows["latency_ns"] < SMALL * rows["latency_ns"]
    chosen &= rows["moving_ns"] <= NOT_WAITING * rows["latency_ns"]
    small = speeds.chosen((chosen & (rows["exposed_ns"] > 0)).to_numpy())
    # Together they would still need the link's time.
    high = np.maximum((small.rows["exposed_ns"] - small.rows["link_ns"]).to_numpy(), 0)
    return _notable(ledger, small, np.zeros(len(high)), high)


def _notable(ledger: Ledger, speeds: CollectiveSpeeds, low: Array, high: Array) -> LinkLoss | None:
    low, high = (np.asarray(ns).astype(np.int64) for ns in (low, high))
    launches = pd.DataFrame(
        {
            "launch": speeds.rows["launch"].to_numpy(),
            "low_ns": low,
            "lost_ns": (low + high) // 2,
            "high_ns": high,
            "is_absorbed": np.zeros(len(high), dtype=bool),
        }
    )
    loss = LinkLoss(speeds, launches)
    return loss if is_notable(ledger, loss.lost_ns) else None


# --- in words ---------------------------------------------------------------------------------


def collective_count(facts: Facts, launches: Array) -> int:
    """Return how many collectives these launches are: those of several ranks are one."""
    members = collectives_of(facts).members
    members = members[members["launch"].isin(launches).to_numpy()]
    return len(launches) - len(members) + int(members["collective"].nunique())


def main_operation(speeds: CollectiveSpeeds) -> str:
    """Return what takes most of the time, as ``allreduce of 26.5 MB``."""
    rows = speeds.rows
    kind = rows.groupby(["operation", "size_bytes"]).ngroup().to_numpy()
    most = int(np.bincount(kind, rows["moving_ns"]).argmax())
    first = rows.iloc[int((kind == most).argmax())]
    return f"{first['operation']} of {size_text(float(first['size_bytes']))}"


def link_text(speeds: CollectiveSpeeds) -> str:
    """Return how that compares with the link: ``2.2 % of NVLink's 450 GB/s in one direction``."""
    names = speeds.link_names
    name = " and ".join(f"{name}'s" for name in names) if names else "the link's"
    share = share_text(speeds.bus_bytes_per_s, speeds.rate)
    return f"{share} of {name} {size_text(speeds.rate)}/s in one direction"


SHORTENINGS = {
    "communication.slow_link": (slow_links, "moving collectives at the usual speed of the link"),
    "communication.small_messages": (small_messages, "putting small collectives into one"),
}
"""The loss of each rule about links, and what following its advice is called."""


def claimed_by_links(facts: Facts, ledger: Ledger) -> int:
    """Return how much of the row ``communication`` findings about links claim."""
    losses = (loss_of(facts, ledger) for loss_of, _ in SHORTENINGS.values())
    return sum(loss.lost_ns for loss in losses if loss is not None)
