"""Kernel time that goes by while pages of unified memory come to the GPU.

A kernel that touches a page which is not there stops its warps until the driver has brought the
page. Three things tell how long, from the surest to the least sure:

* another launch of the same kernel and configuration, anywhere in the recording, that found its
  pages on the GPU: what is longer than that was waiting;
* the migrations themselves, and groups of page faults where they were recorded;
* the pauses between them. The driver works on faults there: from a fault to its page takes 20 to
  50 µs (Zheng, Nellans, Zulfiqar, Stephenson, Keckler, "Towards High Performance Paged Memory for
  GPUs", HPCA 2016), and in a kernel that only streams through 134 MB, migrations make up 11 of
  27 ms that become 0.4 ms when the pages are there. A longer pause is the kernel's own work.

All of these are the most that waiting cost. At least it cost the migrations, and of each pause what
answering a fault takes at least, less a tenth for the kernel's own work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.facts.migrations import fault_groups, migrations, prefetching
from analyzers.finding import Row
from analyzers.intervals import Array, Spans, covered, empty, intersect, overlaps, union
from analyzers.ledger.ledger import Ledger, spans_of
from analyzers.losses.transfers import TransferLoss, ran_in
from collectors.schema import CopyKind, MemoryKind, MigrationCause
from common.memo import memo

LONGEST_PAUSE_NS = 100_000  # twice what answering a fault was measured to take
SHORTEST_ANSWER_NS = 20_000
OWN_WORK_SHARE = 0.1
THRASHING_SHARE = 0.10  # of what comes; when as much must leave for it, the data does not fit
# A prefetch moves 2 MiB at a time, without a fault before each: at best so much faster than the
# recording's largest pieces. Published pairs of runs say 2 and 4 %.
FASTER_AT_BEST = 0.10
_SHAPE = ["grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "dynamic_shared_bytes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PageService:
    """Kernel time with pages under way, in a window.

    Attributes:
        spans: The most that it may be, by device: migrations, faults, and the pauses between; or
            what a kernel took longer than with its pages there.
        least: The least that it may be, inside of ``spans``; the same where a kernel ran without
            moves, too.
        arrivals: Migrations to the GPU in kernel time, as in ``TransferLoss``.
        kernels: One row a launch that waited: ``launch``, ``lost_ns`` (of ``spans``), and
            ``resident_ns``, the time of a launch with its pages there, -1 when there is none.
        evicted_bytes: What had to leave the GPU in kernel time to make room.
        returned_bytes: What the host touched in kernel time, and took back.
        taken_back_bytes: What the host took back at any time of the window.
        bytes_per_ns: What the link carries, by the recording's largest pieces; 0 unknown.
        in_use_ns: Time of the window in which devices were in use.
        causes_are_known: Whether the recording says of every migration why it came.
        program_prefetches: Whether a process of these kernels asks for pages in advance.
    """

    spans: dict[int, Spans]
    least: dict[int, Spans]
    arrivals: TransferLoss
    kernels: pd.DataFrame
    evicted_bytes: int
    returned_bytes: int
    taken_back_bytes: int
    bytes_per_ns: float
    in_use_ns: int
    causes_are_known: bool
    program_prefetches: bool

    @property
    def ns(self) -> int:
        """The most that waiting cost, over all devices."""
        return sum(spans.total for spans in self.spans.values())

    @property
    def least_ns(self) -> int:
        """The least that it cost."""
        return sum(spans.total for spans in self.least.values())

    @property
    def moving_ns(self) -> int:
        """Kernel time in which pages came."""
        return self.arrivals.ns

    @property
    def resident_ns(self) -> int:
        """What the launch that lost most takes with its pages there; -1 when none ran so."""
        if not len(self.kernels):
            return -1
        residents = self.kernels[(self.kernels["resident_ns"] >= 0).to_numpy()]
        if not len(residents):
            return -1
        return int(residents["resident_ns"].to_numpy()[residents["lost_ns"].to_numpy().argmax()])

    @property
    def is_measured(self) -> bool:
        """Whether most of the waiting is known from launches that found their pages there."""
        measured = (self.kernels["resident_ns"] >= 0).to_numpy()
        lost = self.kernels["lost_ns"].to_numpy()
        return bool(2 * lost[measured].sum() >= lost.sum() > 0)

    @property
    def is_thrashing(self) -> bool:
        """Whether pages leave for others to come: the data does not fit into the GPU's memory."""
        return self.evicted_bytes >= THRASHING_SHARE * max(self.arrivals.size_bytes, 1)

    @property
    def copy_ns(self) -> int:
        """How long what came, and stayed, takes as copies at the speed of the link; 0 unknown."""
        size = self.arrivals.size_bytes - (self.evicted_bytes if self.is_thrashing else 0)
        return round(max(size, 0) / self.bytes_per_ns) if self.bytes_per_ns else 0

    @property
    def gain_ns(self) -> tuple[int, int]:
        """The least and the most that pages which are there in time win back.

        They must come all the same. At best their copies run while the GPU does something else;
        at worst nothing does, and the pauses between migrations are the kernels' own work. What
        memory that is too small for the data costs at least, nobody can tell.
        """
        copy_ns = round(self.copy_ns / (1 + FASTER_AT_BEST))
        most = max(min(self.ns, self.in_use_ns - copy_ns), 0)
        least = 0 if self.is_thrashing else max(self.least_ns - self.copy_ns, 0)
        return min(least, most), most


@memo()
def page_service(facts: Facts, ledger: Ledger) -> PageService:
    """Return the kernel time of the window in which kernels may have waited for pages."""
    kernel = spans_of(ledger, Row.KERNEL)
    moves = migrations(facts)
    low, high = ledger.window.span
    moves = moves[((moves["end_ns"] > low) & (moves["start_ns"] < high)).to_numpy()]
    waits = service_by_kernel(facts)
    spans, least = (
        {
            key: intersect(kernel[key], _of_device(waits.parts(chosen), key))
            for key in kernel
        }
        for chosen in (waits.most, waits.least)
    )  # fmt: skip
    evicts = (moves["cause"] == MigrationCause.EVICTION).to_numpy()
    answers, to_host = moves["is_answer"].to_numpy(), moves["to_host"].to_numpy()
    arrivals = ran_in(kernel, moves[answers & moves["to_device"].to_numpy()])
    taken_back = moves[answers & to_host & ~evicts]
    processes = moves["process_index"].loc[arrivals.operations.index].unique()
    return PageService(
        spans=spans,
        least=least,
        arrivals=arrivals,
        kernels=_kernels(facts, waits, spans),
        evicted_bytes=ran_in(kernel, moves[to_host & evicts]).size_bytes,
        returned_bytes=ran_in(kernel, taken_back).size_bytes,
        taken_back_bytes=int(taken_back["bytes"].clip(lower=0).sum()),
        bytes_per_ns=link_bytes_per_ns(facts),
        in_use_ns=ledger.in_use_ns,
        causes_are_known=bool((arrivals.operations["cause"] > MigrationCause.UNKNOWN).all()),
        program_prefetches=bool(prefetching(facts)[processes].any()),
    )


def unclear_ns(facts: Facts, ledger: Ledger) -> int:
    """Return the kernel time in which pages came that the program may have asked for, or not."""
    moves = migrations(facts)
    unclear = moves[(moves["is_unclear"] & moves["to_device"]).to_numpy()]
    return ran_in(spans_of(ledger, Row.KERNEL), unclear).ns


def claims_pages(facts: Facts, ledger: Ledger) -> bool:
    """Tell whether time with pages under way is reported, and so is nobody else's."""
    return ledger.is_notable(page_service(facts, ledger).ns)


def link_bytes_per_ns(facts: Facts) -> float:
    """Return how fast data comes to the GPU in this recording; 0 without any.

    Pieces of at least half the size of the largest one tell: of migrations, or, if that is faster,
    of copies of pinned memory. The driver prefetches 2 MiB at a time, which is never slower.
    """
    moves = migrations(facts)
    arrivals = moves[moves["to_device"].to_numpy()]
    copies = facts.of_table("copies", ["kind", "source_kind", "bytes"])
    copies = copies[
        ((copies["kind"] == CopyKind.HOST_TO_DEVICE) & (copies["source_kind"] == MemoryKind.PINNED))
        .to_numpy()
    ]  # fmt: skip
    length = pd.Series(facts.duration_ns)
    rates = [0.0]
    for pieces in (arrivals, copies):
        size = pieces["bytes"].to_numpy()
        large = (size > 0) & (2 * size >= size.max(initial=0))
        if large.any():
            taken = np.maximum(length[pieces.index[large]].to_numpy(), 1)
            rates.append(float(np.median(size[large] / taken)))
    return max(rates)


# --- by kernel, for all of the recording ----------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class ServiceParts:
    """Stretches in which launches of kernels may have waited, for all of the recording.

    Attributes:
        frame: ``launch``, ``device``, ``start_ns``, ``end_ns``: inside the launch.
        most: Which of them together are the most that waiting cost.
        least: Which are the least.
        is_held: Which are migrations and groups of faults as recorded.
        resident_ns: By launch, what others with their pages there take.
    """

    frame: pd.DataFrame
    most: Array
    least: Array
    is_held: Array
    resident_ns: dict[int, int]

    def parts(self, chosen: Array) -> pd.DataFrame:
        """Return the stretches chosen."""
        return self.frame[chosen]


@memo()
def service_by_kernel(facts: Facts) -> ServiceParts:
    """Return when launches of kernels may have waited for pages, in all of the recording."""
    held = _held(facts)
    resident_ns = _resident_ns(facts, held)
    measured = held["launch"].isin(list(resident_ns)).to_numpy()
    pauses = _pauses(held[~measured])
    parts = [
        held,
        pauses,
        _sure_part(pauses),
        _longer_than_resident(facts, held[measured], resident_ns),
    ]
    kind = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    frame = pd.concat(parts, ignore_index=True)
    unknown = (kind == 0) & ~np.concatenate([measured, np.zeros(len(frame) - len(held), bool)])
    moving = unknown & (frame["is_move"] > 0).to_numpy()
    return ServiceParts(
        frame=frame,
        most=unknown | (kind == 1) | (kind == 3),
        least=moving | (kind == 2) | (kind == 3),
        is_held=kind == 0,
        resident_ns=resident_ns,
    )


def _sure_part(pauses: pd.DataFrame) -> pd.DataFrame:
    """Return what of pauses went by with answering a fault even if that is quick."""
    length = np.minimum(pauses["end_ns"] - pauses["start_ns"], SHORTEST_ANSWER_NS)
    sure = np.rint(length * (1 - OWN_WORK_SHARE)).astype(np.int64)
    return pauses.assign(end_ns=pauses["start_ns"] + sure)


def waited_by_launch(facts: Facts) -> pd.DataFrame:
    """Return what each launch of a kernel may have waited for pages, in all of the recording.

    Columns: ``launch``; ``most_ns`` and ``least_ns`` of waiting; bytes that ``arrived`` and were
    ``evicted`` meanwhile.
    """
    waits = service_by_kernel(facts)
    launches = np.sort(waits.frame["launch"].unique()).astype(np.int64)
    lengths = {
        name: _length_by_launch(waits.parts(chosen)).reindex(launches, fill_value=0).to_numpy()
        for name, chosen in (("most_ns", waits.most), ("least_ns", waits.least))
    }
    held = waits.parts(waits.is_held)
    sizes = held.groupby("launch")[["arrived", "evicted"]].sum().reindex(launches, fill_value=0)
    columns: dict[str, Array] = {"launch": launches, **lengths}
    columns |= {name: sizes[name].to_numpy() for name in ("arrived", "evicted")}
    return pd.DataFrame(columns)


def _length_by_launch(parts: pd.DataFrame) -> pd.Series[int]:
    """Return the time that each launch's stretches cover together."""
    parts = parts.sort_values(["launch", "start_ns"], kind="stable")
    reach = parts.groupby("launch")["end_ns"].cummax()
    before = reach.groupby(parts["launch"]).shift().fillna(-1).astype(np.int64)
    new = (parts["end_ns"] - np.maximum(parts["start_ns"], before)).clip(lower=0)
    total: pd.Series[int] = new.groupby(parts["launch"]).sum()
    return total


def _held(facts: Facts) -> pd.DataFrame:
    """Return migrations that make kernels wait, and groups of faults, inside launches of kernels.

    Columns: ``launch``, ``device``, ``start_ns``, ``end_ns``, ``is_move``, and bytes that
    ``arrived`` and were ``evicted``, in proportion; by launch, then begin.
    """
    moves = migrations(facts)
    evicts = (moves["cause"] == MigrationCause.EVICTION).to_numpy()
    waited = moves[(moves["is_answer"] & (moves["to_device"] | evicts)).to_numpy()]
    size = waited["bytes"].clip(lower=0)
    columns = ["device", "start_ns", "end_ns"]
    moved = waited[columns].assign(
        is_move=1,
        arrived=np.where(waited["to_device"], size, 0),
        evicted=np.where(waited["to_device"], 0, size),
    )
    faults = fault_groups(facts)[columns].assign(is_move=0, arrived=0, evicted=0)
    rows = pd.concat([moved, faults], ignore_index=True)
    rows = _inside_kernels(facts, rows.assign(whole_ns=rows["end_ns"] - rows["start_ns"]))
    part = (rows["end_ns"] - rows["start_ns"]) / rows["whole_ns"].clip(lower=1)
    rows = rows.assign(arrived=rows["arrived"] * part, evicted=rows["evicted"] * part)
    held: pd.DataFrame = rows.sort_values(["launch", "start_ns"], kind="stable", ignore_index=True)
    return held


def _inside_kernels(facts: Facts, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the parts of stretches that lie in launches of kernels, with ``launch``.

    Where several kernels run, a part belongs to the one that began last.
    """
    device = rows["device"].to_numpy()
    parts = [rows.iloc[:0].assign(launch=np.empty(0, np.int64))]
    for key in np.unique(device):
        running, launch = _kernel_stretches(facts, int(key))
        here = np.flatnonzero(device == key)
        queries = Spans(*(rows[c].to_numpy()[here] for c in ("start_ns", "end_ns")))
        query, part, start, end = overlaps(queries, running)
        cut = rows.iloc[here[query]]
        parts.append(cut.assign(start_ns=start, end_ns=end, launch=launch[part]))
    return pd.concat(parts, ignore_index=True)


def _kernel_stretches(facts: Facts, key: int) -> tuple[Spans, Array]:
    """Return a device's kernel time, cut where another kernel is the one that began last."""
    kernels = np.isin(facts.launches["kind"].to_numpy(), (KERNEL, GRAPH))
    rows = np.flatnonzero(kernels & (facts.launches["device"].to_numpy() == key))
    if not len(rows):
        return empty(), rows
    start, end = (facts.launches[c].to_numpy()[rows] for c in ("start_ns", "end_ns"))
    reach = np.maximum.accumulate(end)
    holder = np.maximum.accumulate(np.where(end == reach, np.arange(len(end)), 0))
    borders = np.unique(np.concatenate((start, end)))
    begin, stop = borders[:-1], borders[1:]
    last = np.searchsorted(start, begin, side="right") - 1
    place = np.where(end[last] > begin, last, holder[last])
    runs = end[place] > begin
    return Spans(begin[runs], stop[runs]), rows[place[runs]]


def _pauses(held: pd.DataFrame) -> pd.DataFrame:
    """Return the short pauses between what held one launch."""
    launch, start = held["launch"].to_numpy(), held["start_ns"].to_numpy()
    reach = held.groupby("launch")["end_ns"].cummax().to_numpy()
    same = launch[1:] == launch[:-1]
    length = start[1:] - reach[:-1]
    short = same & (length > 0) & (length <= LONGEST_PAUSE_NS)
    rows: pd.DataFrame = held.iloc[1:][short]
    return rows.assign(start_ns=reach[:-1][short], end_ns=start[1:][short], is_move=0)


def _resident_ns(facts: Facts, held: pd.DataFrame) -> dict[int, int]:
    """Return, for launches that waited, what others of kernel and configuration take without."""
    waited = held["launch"].unique()
    if not len(waited):
        return {}
    shape = facts.of_table("kernels", _SHAPE)
    moving = _inside_kernels(facts, migrations(facts))["launch"].unique()
    keys = shape.assign(name_id=facts.launches["name_id"].to_numpy()[shape.index])
    code = pd.Series(keys.groupby(list(keys.columns), sort=False).ngroup(), index=shape.index)
    alone = ~np.isin(shape.index, np.concatenate([waited, moving]))
    length = pd.Series(facts.duration_ns[shape.index[alone]])
    usual = length.groupby(code.to_numpy()[alone]).median()
    of_waited = code.reindex(waited).map(usual).dropna()
    return {int(launch): int(ns) for launch, ns in of_waited.items()}  # type: ignore[call-overload]


def _longer_than_resident(
    facts: Facts, held: pd.DataFrame, resident_ns: dict[int, int]
) -> pd.DataFrame:
    """Return what launches took longer than with their pages there.

    It begins with the first page and ends with the last one, at the latest: what is longer for
    another reason did not wait for pages.
    """
    first = held.drop_duplicates("launch")
    launch = first["launch"].to_numpy()
    last = held.groupby("launch")["end_ns"].max().reindex(launch).to_numpy()
    usual = np.array([resident_ns[int(row)] for row in launch], np.int64)
    begin = first["start_ns"].to_numpy()
    longer = np.maximum(facts.duration_ns[launch] - usual, 0)
    return first.assign(end_ns=np.minimum(begin + longer, last).astype(np.int64), is_move=0)


def _of_device(parts: pd.DataFrame, key: int) -> Spans:
    here = parts[(parts["device"] == key).to_numpy()]
    return union(here["start_ns"].to_numpy(), here["end_ns"].to_numpy()) if len(here) else empty()


def _kernels(facts: Facts, waits: ServiceParts, spans: dict[int, Spans]) -> pd.DataFrame:
    """Return the launches that waited in the window, and for how long at most."""
    launch = waits.frame["launch"].unique().astype(np.int64)
    start, end = (facts.launches[c].to_numpy()[launch] for c in ("start_ns", "end_ns"))
    device = facts.launches["device"].to_numpy()[launch]
    lost = np.zeros(len(launch), np.int64)
    for key, of_device in spans.items():
        here = device == key
        lost[here] = covered(Spans(start[here], end[here]), of_device)
    resident = [waits.resident_ns.get(int(row), -1) for row in launch]
    kernels = pd.DataFrame({"launch": launch, "lost_ns": lost, "resident_ns": resident})
    return kernels[lost > 0].reset_index(drop=True)
