"""What each wait was for: as the recorder noted it where that fits, else as it can be inferred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array
from analyzers.whatif.columns import functions_with, latest_ended, process_of
from analyzers.whatif.submissions import Submissions
from analyzers.whatif.tables import GROUP, LANE, NONE, OP_END, Calls, Operations

SOONER_NS = 1_000  # tolerance of clocks: what ended so shortly after may have been waited for


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredWaits:
    """The waits whose target is known or can be inferred, in the order of the calls.

    Attributes:
        call: The call that waited.
        target: What it waited for, as ``analyzers.whatif.tables`` numbers them.
        place: Which stream, device or operation that is.
        done: When that had ended; never after the call did.
    """

    call: Array
    target: Array
    place: Array
    done: Array

    def where(self, chosen: Array) -> MeasuredWaits:
        """Return some of the waits."""
        return MeasuredWaits(
            call=self.call[chosen],
            target=self.target[chosen],
            place=self.place[chosen],
            done=self.done[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _NotedPlaces:
    """Where the recorder noted that each wait was, -1 where it noted nothing.

    Attributes:
        process_index: Place in ``Facts.process_keys``.
        stream: CUDA's number of the stream.
        group: The graph's number of the device: the noted one, or the only one of the process.
    """

    process_index: Array
    stream: Array
    group: Array


def measured_waits(facts: Facts, submissions: Submissions) -> MeasuredWaits:
    """Return what each wait, loop of polls and freeing of memory was for."""
    calls, operations = submissions.calls, submissions.operations
    waits = np.flatnonzero(np.isin(calls.kind, (Call.WAIT, Call.POLL, Call.FREE)))
    if not len(waits):
        return _joined([])
    function = facts.api["name"].to_numpy()[calls.api_row[waits]]
    on_stream = functions_with(facts, "StreamSync")[function]
    on_device = ~on_stream & ~functions_with(facts, "Event")[function]
    on_device &= calls.kind[waits] != Call.POLL
    noted = _noted_places(facts, submissions, waits)
    lane = _noted_lanes(facts, operations, noted.process_index[on_stream], noted.stream[on_stream])
    settled = _joined(
        [
            _settled(submissions, waits[on_device], GROUP, noted.group[on_device]),
            _settled(submissions, waits[on_stream], LANE, lane),
        ]
    )
    is_open = ~np.isin(waits, settled.call) & (calls.kind[waits] != Call.FREE)
    inferred = _inferred(facts, submissions, waits[is_open], noted.process_index[is_open])
    return _joined([settled, *inferred])


def _joined(parts: list[MeasuredWaits]) -> MeasuredWaits:
    """Return all waits in the order of their calls."""
    none = np.empty(0, np.int64)
    together = MeasuredWaits(
        call=np.concatenate([none, *(p.call for p in parts)]),
        target=np.concatenate([none, *(p.target for p in parts)]),
        place=np.concatenate([none, *(p.place for p in parts)]),
        done=np.concatenate([none, *(p.done for p in parts)]),
    )
    return together.where(np.argsort(together.call, kind="stable"))


def _noted_places(facts: Facts, submissions: Submissions, waits: Array) -> _NotedPlaces:
    """Return process, stream and device that the recorder noted for each wait."""
    api_row = submissions.calls.api_row[waits]
    process = process_of(facts, api_row)
    noted = pd.DataFrame({"process_index": process, "stream": NONE, "device": NONE}, dtype=np.int64)
    if facts.trace.count("syncs"):
        columns = ["process_key", "correlation_id", "stream", "device"]
        syncs = trace_table(facts.trace, "syncs", columns)
        syncs = syncs[(syncs["correlation_id"] > 0).to_numpy()]
        syncs = syncs.drop_duplicates(["process_key", "correlation_id"])
        ids = facts.trace.columns("api_calls", ["correlation_id"])["correlation_id"][api_row]
        key = np.where(process >= 0, facts.process_keys[np.maximum(process, 0)], NONE)
        keys = pd.DataFrame({"process_key": key, "correlation_id": ids})
        matches = keys.merge(syncs, how="left", on=["process_key", "correlation_id"])
        noted["stream"] = matches["stream"].fillna(NONE).to_numpy().astype(np.int64)
        noted["device"] = matches["device"].fillna(NONE).to_numpy().astype(np.int64)
    operations = submissions.operations
    launches = facts.launches.iloc[operations.row]
    places = launches[["process_index", "device"]].assign(group=operations.group).drop_duplicates()
    places = places.astype(np.int64)
    only = places[~places.duplicated("process_index", keep=False)].set_index("process_index")[
        "group"
    ]
    number = facts.devices["device"].to_numpy()[places["device"]]
    by_number = places.assign(device=number).drop_duplicates(["process_index", "device"])
    group = noted.merge(by_number, how="left", on=["process_index", "device"])["group"]
    group = noted["process_index"].map(only).fillna(group).fillna(NONE).astype(np.int64)
    return _NotedPlaces(
        process_index=noted["process_index"].to_numpy(),
        stream=noted["stream"].to_numpy(),
        group=group.to_numpy(),
    )


def _noted_lanes(facts: Facts, operations: Operations, process: Array, stream: Array) -> Array:
    """Return the graph's number of each stream; CUDA's numbers are unique within a process."""
    launches = facts.launches.iloc[operations.row]
    lanes = launches[["process_index", "stream"]].assign(lane=operations.lane)
    lanes = lanes.drop_duplicates().astype(np.int64)
    lanes = lanes[~lanes.duplicated(["process_index", "stream"], keep=False)]
    waits = pd.DataFrame({"process_index": process, "stream": stream})
    matches = waits.merge(lanes, how="left", on=["process_index", "stream"])
    lane: Array = matches["lane"].fillna(NONE).to_numpy().astype(np.int64)
    return lane


def _settled(submissions: Submissions, waits: Array, target: int, place: Array) -> MeasuredWaits:
    """Return the waits that agree with the recording: their target was done when they returned.

    Args:
        submissions: What was submitted.
        waits: The calls.
        target: ``GROUP`` or ``LANE``.
        place: Which device or stream each waited for, -1 where nothing is noted.
    """
    operations = submissions.operations
    is_noted = place >= 0
    waits, place = waits[is_noted], place[is_noted]
    ends = submissions.calls.end[waits]
    key = operations.group if target == GROUP else operations.lane
    done = _done(key, operations, place, waits)
    settled = MeasuredWaits(
        call=waits,
        target=np.full(len(waits), target, np.int64),
        place=place,
        done=np.minimum(done, ends),
    )
    return settled.where(done <= ends + SOONER_NS)


def _done(key: Array, operations: Operations, place: Array, call: Array) -> Array:
    """Return when all that was submitted somewhere before a call had ended.

    Args:
        key: Stream or device of each operation.
        operations: All operations.
        place: Stream or device that is asked for, one for each call.
        call: The calls.
    """
    order = np.argsort(key, kind="stable")
    count = int(operations.call.max()) + 2
    code = key[order] * count + operations.call[order]
    stop = operations.stop[order]
    level = key[order] * (int(stop.max()) + 2)  # restarts the running maximum at each key
    reach = np.maximum.accumulate(stop + level) - level
    last = np.searchsorted(code, place * count + np.minimum(call, count - 1)) - 1
    valid = (last >= 0) & (key[order][np.maximum(last, 0)] == place)
    return np.where(valid, reach[np.maximum(last, 0)], 0)


def _inferred(
    facts: Facts, submissions: Submissions, waits: Array, process: Array
) -> list[MeasuredWaits]:
    """Let other waits wait for what ended last in their process before they returned."""
    calls, operations = submissions.calls, submissions.operations
    owner = facts.launches["process_index"].to_numpy()[operations.row]
    return [
        _latest_of(calls, operations, waits[process == one], np.flatnonzero(owner == one))
        for one in np.unique(process)
    ]


def _latest_of(
    calls: Calls, operations: Operations, waits: Array, candidates: Array
) -> MeasuredWaits:
    """Return the waits before whose end one of these operations ended, with the last of them."""
    if not len(candidates):
        return _joined([])
    ends = calls.end[waits]
    place = latest_ended(candidates, operations, ends + SOONER_NS, waits)
    inferred = MeasuredWaits(
        call=waits,
        target=np.full(len(waits), OP_END, np.int64),
        place=place,
        done=np.minimum(operations.stop[place], ends),
    )
    return inferred.where(place >= 0)
