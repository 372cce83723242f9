"""What devices did, as lanes: operations by stream, each linked with the call that submitted it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from analyzers.facts.facts import COMMUNICATION, COPY, GRAPH, KERNEL, MEMSET, Facts
from analyzers.finding import Row
from analyzers.intervals import by_key
from collectors.schema import Array
from timeline.colors import COLOR_CODE, OPERATIONS
from timeline.labels import GRAPH_WORDS, MEMSET_WORDS, copy_words
from timeline.lane import NOTHING, Group, Lane
from timeline.recording_tables import RecordingTables, narrow

_KIND_COLOR = {
    KERNEL: COLOR_CODE[Row.KERNEL],
    GRAPH: COLOR_CODE[Row.KERNEL],
    COMMUNICATION: COLOR_CODE[Row.COMMUNICATION],
    COPY: COLOR_CODE[Row.TRANSFER],
    MEMSET: COLOR_CODE[Row.TRANSFER],
}
_COLOR_OF_KIND = np.array([_KIND_COLOR[kind] for kind in range(len(_KIND_COLOR))], np.uint8)


def write_devices(tables: RecordingTables) -> None:
    """Write a lane for each stream, then repeat copies by direction and collectives."""
    launches = tables.facts.launches
    name = _operation_names(tables)
    columns = {
        "start": launches["start_ns"].to_numpy(),
        "end": launches["end_ns"].to_numpy(),
        "name": name,
        "color": _COLOR_OF_KIND[launches["kind"].to_numpy()],
        "link": launches["api_row"].to_numpy(),  # of the table; becomes the event's number
    }
    for device, rows in by_key(narrow(launches["device"].to_numpy()), np.arange(len(launches))):
        processes = launches["process_index"].to_numpy()[rows]
        several = len(np.unique(processes)) > 1
        for process, of_process in by_key(narrow(processes), rows):
            group = tables.writer.group(
                _device_group(tables.facts, device, process if several else -1)
            )
            streams = launches["stream"].to_numpy()[of_process]
            for stream, of_stream in by_key(narrow(streams), of_process):
                label = f"stream {stream}" if stream >= 0 else "stream not recorded"
                lane = Lane(group=group, label=label, table=OPERATIONS)
                _write_operations(tables, lane, columns, of_stream)
            _write_mirrors(tables, group, columns, of_process)


def _device_group(facts: Facts, device: int, process_index: int) -> Group:
    """Return the group of a device, or of what one of its processes does on it."""
    if device < 0:
        return Group(id="gpu:unknown", kind="device", title="GPU not named in the recording")
    if process_index < 0:
        return Group(id=f"gpu:{device}", kind="device", title="", device=device)
    processes = facts.trace.columns("processes", ["process", "pid"])
    pids = dict(zip(processes["process"].tolist(), processes["pid"].tolist(), strict=True))
    key = int(facts.process_keys[process_index])
    title = f" · process {pids.get(key, key)}"
    return Group(id=f"gpu:{device}:{process_index}", kind="device", title=title, device=device)


def _write_operations(
    tables: RecordingTables, lane: Lane, columns: Mapping[str, Array], rows: Array
) -> None:
    tables.track(lane, 0, {**{k: v[rows] for k, v in columns.items()}, "row": rows})


def _write_mirrors(
    tables: RecordingTables, group: int, columns: Mapping[str, Array], rows: Array
) -> None:
    kind = tables.facts.launches["kind"].to_numpy()[rows]
    lane = Lane(group=group, label="", table=OPERATIONS, mirror=True)
    copies = rows[kind == COPY]
    # The names of copies are words of ours: one for each direction.
    for name, of_direction in by_key(columns["name"][copies], copies):
        label = next(text for text, code in tables.names.own.items() if code == name)
        _write_operations(tables, replace(lane, label=label), columns, of_direction)
    if (collectives := rows[kind == COMMUNICATION]).size:
        _write_operations(tables, replace(lane, label="communication"), columns, collectives)


def _operation_names(tables: RecordingTables) -> Array:
    """Return the number of each operation's name: the kernel's, or what was copied where."""
    launches = tables.facts.launches
    kind = launches["kind"].to_numpy()
    names = np.full(len(launches), tables.names.words(MEMSET_WORDS), np.uint32)
    names[kind == GRAPH] = tables.names.words(GRAPH_WORDS)
    kernels = np.isin(kind, (KERNEL, COMMUNICATION))
    names[kernels] = tables.names.codes(launches["name_id"].to_numpy()[kernels])
    copies = tables.facts.of_table("copies", ["kind"]) if tables.trace.count("copies") else None
    if copies is not None:
        for number, rows in by_key(copies["kind"].to_numpy(), copies.index.to_numpy()):
            names[rows] = tables.names.words(copy_words(number))
    return names


def link_calls(lanes: Sequence[Lane], facts: Facts, link: Array, row: Array) -> None:
    """Put the call's event for the API row in each operation's link, and link the call back."""
    event_of_call = np.full(len(facts.api), NOTHING, np.int32)
    calls = [part for lane in lanes if lane.table == "api_calls" for part in lane.parts]
    for first, count, _ in calls:
        event_of_call[row[first : first + count]] = np.arange(first, first + count)
    event_of_launch = np.full(len(facts.launches), NOTHING, np.int32)
    for lane in lanes:
        for first, count, _ in lane.parts if lane.table == OPERATIONS else ():
            here = slice(first, first + count)
            target = link[here]
            if len(event_of_call):
                link[here] = np.where(target >= 0, event_of_call[np.maximum(target, 0)], NOTHING)
            if not lane.mirror:
                event_of_launch[row[here]] = np.arange(first, first + count)
    api_row = facts.launches["api_row"].to_numpy()
    called = np.flatnonzero(api_row >= 0)[::-1]  # of several operations the first stays
    first_launch = np.full(len(facts.api), NOTHING, np.int32)
    first_launch[api_row[called]] = called
    for first, count, _ in calls:
        launched = first_launch[row[first : first + count]]
        events = event_of_launch[np.maximum(launched, 0)] if len(event_of_launch) else launched
        link[first : first + count] = np.where(launched >= 0, events, NOTHING)
