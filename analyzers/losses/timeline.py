"""The ledger's rows ``launch`` and ``sync``, split into the patterns that the rules report.

Two rules of one cause must never claim the same time, so the split is made here, once, and each
rule takes its part: launch gaps by what ended them, waits by the call that blocked.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import KERNEL, Facts
from analyzers.finding import Evidence, Row
from analyzers.intervals import Array, by_key
from analyzers.ledger.booking import DEVICE_GAP_MAX_NS
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS
from analyzers.ledger.ledger import Detail, Ledger
from analyzers.losses.culprits import Culprits, of_waits
from analyzers.losses.evidence import gpus, largest_gaps
from analyzers.losses.optimizer import MIN_LAUNCHES, UPDATE, ZERO_GRAD, optimizer_launches
from analyzers.losses.tensor_reads import TensorReads, main_read, tensor_reads
from analyzers.words import count_text, time_text
from collectors.schema import CopyKind
from common.memo import memo

SEQUENCE_LAUNCHES = 8  # this many equal names in a row are no coincidence
SMALL_KERNEL_NS = DISPATCH_MAX_NS  # what takes longer is not too small for any ordinary launch
MIN_PERIOD = 5  # a shorter cycle is one operation repeated: fusing it beats a graph of it
MIN_REPETITIONS = 3
READBACK_MAX_BYTES = 1_024  # a few numbers for the host to look at, not data to work on
READBACK_LOOK_BACK = 3  # API calls between the copy and the wait; frameworks query in between
_WORK = (Call.LAUNCH, Call.WAIT, Call.POLL, Call.COPY, Call.FREE)  # a read-back is over before


class LaunchPattern(enum.IntEnum):
    """Why the device waited for a launch."""

    LATE_HOST = 0  # the host came late, for a kernel that ran longer, a copy, a memset or a graph
    SMALL_KERNEL = 1  # a small kernel ran shorter than the device had waited for its launch
    REPEATED_SEQUENCE = 2  # it ran shorter, and belongs to a sequence that repeats
    DEVICE_GAP = 3  # the host was in time: the device itself pauses between operations
    ZERO_GRAD = 4  # PyTorch's optimizers fill gradients one by one
    OPTIMIZER = 5  # they update tensors one by one


_OF_OPTIMIZERS = {ZERO_GRAD: LaunchPattern.ZERO_GRAD, UPDATE: LaunchPattern.OPTIMIZER}


class WaitPattern(enum.IntEnum):
    """What kept the host from working."""

    SYNCHRONISE = 0
    BLOCKING_COPY = 1
    READBACK = 2
    IMPLICIT = 3  # a call that does not say so in its name


def launch_losses(facts: Facts, ledger: Ledger, pattern: LaunchPattern) -> pd.DataFrame:
    """Return the segments of the row ``launch`` that follow ``pattern``.

    The column ``period`` tells after how many launches the surroundings repeat, 0 for never;
    ``waited_ns`` how long the device waited for this launch inside the window, under the patterns
    of the host and under that of the device each on its own; ``inside_graph`` whether the launch
    is a node of a CUDA graph, but not its first.
    """
    segments = _launch_segments(facts, ledger)
    return segments[segments["pattern"] == pattern]


@memo()
def _launch_segments(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    segments = ledger.of(Row.LAUNCH)
    launch, ns = segments["launch"].to_numpy(), segments["ns"].to_numpy()
    graph, later_node = _graph_nodes(facts)
    ran_dry_ns = facts.launches["start_ns"].to_numpy() - facts.idle_before_ns
    queued = (facts.api_end_ns <= ran_dry_ns)[launch]
    by_device = (segments["detail"].to_numpy() == Detail.DEVICE_GAP) & queued
    # The call may still run while its nodes begin; a long pause between them is the call's.
    by_device |= later_node[launch] & (facts.idle_before_ns[launch] <= DEVICE_GAP_MAX_NS)
    waited_ns = np.zeros(len(segments), np.int64)
    for part in (by_device, ~by_device):
        waited_ns[part] = np.bincount(launch[part], ns[part])[launch[part]]
    kernel = (facts.launches["kind"].to_numpy() == KERNEL) & ~graph
    short = kernel[launch] & (facts.duration_ns[launch] < np.minimum(waited_ns, SMALL_KERNEL_NS))
    period = _periods(facts, kernel)[launch]
    pattern = np.full(len(segments), LaunchPattern.LATE_HOST, np.int8)
    pattern[short] = LaunchPattern.SMALL_KERNEL
    pattern[short & (period >= MIN_PERIOD)] = LaunchPattern.REPEATED_SEQUENCE
    pattern[by_device] = LaunchPattern.DEVICE_GAP
    inside_graph = later_node[launch]
    for method, of_method in _OF_OPTIMIZERS.items():
        launched = optimizer_launches(facts, ledger, method)
        own = launched.inside[launch] & ~graph[launch]
        if launched.each_step >= MIN_LAUNCHES[method] and ledger.is_notable(int(ns[own].sum())):
            pattern[own] = of_method
    return segments.assign(
        pattern=pattern, period=period, waited_ns=waited_ns, inside_graph=inside_graph
    )


def _graph_nodes(facts: Facts) -> tuple[Array, Array]:
    """Return which launches a CUDA graph made, and which of them are not the first of theirs."""
    by_graph = np.array(["GraphLaunch" in str(name) for name in facts.functions], dtype=bool)
    graph = np.zeros(len(facts.launches), dtype=bool)
    api_row = facts.launches["api_row"].to_numpy()
    if by_graph.any():
        called = api_row >= 0
        graph[called] = by_graph[facts.api["name"].to_numpy()[api_row[called]]]
    for table in ("kernels", "copies", "memsets"):
        node = facts.of_table(table, ["graph_node"])
        graph[node.index[(node["graph_node"] >= 0).to_numpy()]] = True
    later = np.zeros(len(graph), dtype=bool)
    nodes = np.flatnonzero(graph & (api_row >= 0))
    later[nodes] = facts.launches.loc[nodes, ["device", "api_row"]].duplicated()
    return graph, later


def _periods(facts: Facts, kernels: Array) -> Array:
    """Return, for each launch, after how many launches its surroundings repeat; 0 for never.

    Args:
        facts: The recording.
        kernels: Which launches may belong to a sequence.
    """
    period = np.zeros(len(facts.launches), np.int32)
    for key in range(len(facts.devices)):
        rows = np.flatnonzero(kernels & (facts.launches["device"] == key).to_numpy())
        if len(rows) >= SEQUENCE_LAUNCHES * MIN_REPETITIONS:
            period[rows] = _sequence_periods(facts.launches["name_id"].to_numpy()[rows])
    return period


def _sequence_periods(names: Array) -> Array:
    """Return the period at each place of a sequence of numbers."""
    size = len(names) - SEQUENCE_LAUNCHES + 1
    numbers = names.astype(np.uint64)
    window = np.zeros(size, np.uint64)
    for step in range(SEQUENCE_LAUNCHES):  # a polynomial hash; 64 bits of wrapping are meant
        window *= np.uint64(0x9E3779B97F4A7C15)
        window += numbers[step : step + size]
    codes, _ = pd.factorize(window)
    count = np.bincount(codes)[codes]
    order = np.argsort(codes, kind="stable")
    distance = np.zeros(size, np.int32)
    same = codes[order][1:] == codes[order][:-1]
    distance[order[1:][same]] = np.diff(order)[same]
    # The first occurrence has nothing before it: it takes its distance from the second.
    first = np.flatnonzero(np.concatenate(([True], ~same)) & np.concatenate((same, [False])))
    distance[order[first]] = distance[order[first + 1]]
    distance[count < MIN_REPETITIONS] = 0
    period = np.zeros(len(names), np.int32)
    for step in range(SEQUENCE_LAUNCHES):
        part = period[step : step + size]
        np.maximum(part, distance, out=part)
    return period


@dataclass(frozen=True, kw_only=True)
class WaitLoss:
    """Idle time booked to waits of one pattern.

    Attributes:
        lost_ns: The time, over all devices.
        refill_ns: The part of it in which the host was filling the queue again.
        count: Blocking calls concerned.
        functions: Their names, for a sentence.
        evidence: What to look at.
        culprits: What the waits came with.
        reads: Kinds of reads of tensors among them.
    """

    lost_ns: int
    refill_ns: int
    count: int
    functions: str
    evidence: tuple[Evidence, ...]
    culprits: Culprits
    reads: tuple[TensorReads, ...]

    @property
    def source(self) -> str:
        """The same after a word that says "mostly" already."""
        return self.words.replace(", mostly ", ", ", 1)

    @property
    def words(self) -> str:
        """The end of a title: what made the program wait, and where; with a comma before."""
        read = main_read(self.reads, self.lost_ns)
        origin = self.culprits.origin
        if read is None:
            return f", {origin}" if origin else ""
        operator = self.culprits.main(self.culprits.operators)
        by = f", mostly by {read.kind.noun}" + (f" ({operator})" if operator else "")
        elsewhere = origin.removeprefix(f"mostly in {operator}" if operator else "mostly ")
        return by + (elsewhere if not elsewhere or elsewhere[0] == "," else f", {elsewhere}")


def left_idle(loss: WaitLoss, ledger: Ledger, whom: str = "") -> str:
    """Say what waits cost, after "the host waited and": ``left the GPU idle for …``.

    Args:
        loss: The loss.
        ledger: The account.
        whom: Word for the GPUs, when the sentence has named them before.
    """
    refill = f", {time_text(loss.refill_ns)} of it after the call, until the next work began"
    return (
        f"left {whom or f'the {gpus(ledger)}'} idle for {time_text(loss.lost_ns)} "
        f"({ledger.share(loss.lost_ns)}){refill if loss.refill_ns else ''}"
    )


def wait_losses(facts: Facts, ledger: Ledger, pattern: WaitPattern) -> WaitLoss:
    """Return the part of the row ``sync`` that follows ``pattern``."""
    segments = _wait_segments(facts, ledger)
    segments = segments[segments["pattern"] == pattern]
    waits = np.unique(segments["wait"])
    lost_ns = int(segments["ns"].sum())
    refill = segments["detail"] == Detail.REFILL
    refill_ns = int(segments["ns"][refill].sum())
    culprits, reads = of_waits(facts, ledger, segments), tensor_reads(facts, segments)
    evidence = (
        Evidence(name="calls affected", value=len(waits), unit="count"),
        Evidence(name="idle inside the calls", value=lost_ns - refill_ns, unit="ns"),
        Evidence(name="idle after the calls, before the next work", value=refill_ns, unit="ns"),
        *_kinds_of_reads(reads),
        *culprits.evidence(),
        *largest_gaps(facts, segments, "idle before"),
    )
    return WaitLoss(
        lost_ns=lost_ns,
        refill_ns=refill_ns,
        count=len(waits),
        functions=facts.call_names(waits),
        evidence=evidence,
        culprits=culprits,
        reads=reads,
    )


def _kinds_of_reads(reads: tuple[TensorReads, ...]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(name=f"{count_text(r.count, 'wait')} by {r.kind.noun}", value=r.ns, unit="ns")
        for r in reads
    )


@memo()
def _wait_segments(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    segments = ledger.of(Row.SYNC)
    waits, places = np.unique(segments["wait"].to_numpy(), return_inverse=True)
    call = facts.api_call[waits] if len(waits) else np.empty(0, np.int8)
    pattern = np.full(len(waits), WaitPattern.IMPLICIT)
    pattern[np.isin(call, (Call.WAIT, Call.POLL))] = WaitPattern.SYNCHRONISE
    pattern[call == Call.COPY] = WaitPattern.BLOCKING_COPY
    pattern[_reads_back(facts, waits)] = WaitPattern.READBACK
    return segments.assign(pattern=pattern[places])


def _reads_back(facts: Facts, waits: Array) -> Array:
    """Return which waits fetch a few bytes: a small copy to the host, or a wait right after one.

    Only calls that ask or set something may stand between the copy and its wait.
    """
    copies = facts.of_table("copies", ["kind", "bytes"])
    small = copies["kind"] == CopyKind.DEVICE_TO_HOST
    small &= copies["bytes"].between(0, READBACK_MAX_BYTES)  # -1 is an unknown size
    calls = facts.launches["api_row"].to_numpy()[copies.index[small.to_numpy()]]
    small_calls = np.unique(calls[calls >= 0])
    result = np.isin(waits, small_calls)
    if not len(waits) or not len(small_calls):
        return result
    order, bounds = facts.call_order
    start = facts.api["start_ns"].to_numpy()
    thread = facts.api["thread_index"].to_numpy()[waits]
    for place, of_thread in by_key(thread, np.arange(len(waits))):
        rows = order[bounds[place] : bounds[place + 1]]
        is_small = np.isin(rows, small_calls)
        is_other_work = ~is_small & np.isin(facts.api_call[rows], _WORK)
        position = np.searchsorted(start[rows], start[waits[of_thread]], side="left")
        near = np.ones(len(of_thread), dtype=bool)
        for back in range(1, READBACK_LOOK_BACK + 1):
            before = np.maximum(position - back, 0)
            near &= (position >= back) & ~is_other_work[before]
            result[of_thread] |= near & is_small[before]
            near &= ~is_small[before]
    return result
