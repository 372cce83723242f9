"""Timelines built by hand, examples of events, and answers read as a browser reads them."""

import json
import struct

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from timeline.index import Index
from timeline.index_writer import IndexWriter
from timeline.lane import Group, Lane
from timeline.view import Timeline


def write_index(folder, *lanes, names=("a", "b", "c")):
    """Write an index whose lanes are lists of ``(start, end)``, names in turn, and map it."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = IndexWriter(folder)
    group = writer.group(Group(id="g", kind="thread", title="thread"))
    for events in lanes:
        start, end = np.array(events, np.int64).reshape(-1, 2).T
        columns = {
            "start": start,
            "end": end,
            "name": np.arange(len(start)) % len(names),
            "row": np.arange(len(start)),
        }
        writer.lane(Lane(group=group, label="lane", table="ranges"), (1, columns))
    writer.names(pa.array(list(names), pa.string()))
    writer.finish(origin_ns=0, duration_ns=1_000_000)
    return Index.open(folder)


def make_timeline(folder, *lanes, **more):
    index = write_index(folder / "recording", *lanes, **more)
    return Timeline(index, write_index(folder / "window"), {})


def in_sequence(gaps_and_lengths, start=0):
    """Return intervals that follow each other, from pairs of pause and length."""
    events, at = [], start
    for pause, length in gaps_and_lengths:
        events.append((at + pause, at + pause + length))
        at += pause + length
    return events


pauses = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 400)), min_size=1, max_size=400).map(
    in_sequence
)
any_spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 40)).map(lambda p: (p[0], p[0] + p[1])),
    min_size=1,
    max_size=60,
).map(sorted)


def decoded(data):
    """Read an answer as the browser does."""
    size = struct.unpack_from("<I", data)[0]
    head = json.loads(data[4 : 4 + size])
    at = 4 + size
    assert at % 8 == 0
    columns = {}
    for name, kind, count in head["columns"]:
        columns[name] = np.frombuffer(data, kind, count, at)
        at += -(-columns[name].nbytes // 8) * 8
    assert at == len(data)
    return head, columns
