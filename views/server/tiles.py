"""Answers to what the timeline's canvas asks, as bytes that a browser reads without parsing.

An answer is the length of a JSON head (four bytes), the head, and the columns that the head names,
each at a multiple of eight bytes. Times are nanoseconds since the recording's first event, because
a browser cannot hold those of a calendar date. Texts of a recording leave here escaped and short.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from analyzers.finding import BUSY_ROWS
from analyzers.ledger.ledger import ROWS
from analyzers.words import share_text, time_text
from collectors.schema import Array
from timeline.colors import COLORS
from timeline.lane import Lane
from timeline.marks import bin_edges
from timeline.query import FORMS, QuerySyntaxError, likely_key
from timeline.search import Hits
from timeline.span_table import span_rows
from timeline.view import Link, Timeline
from views.shared.units import visible

BINS = 700  # of a full view: about two pixels each on a common screen
MIN_BINS, MAX_BINS = 50, 4_000
MIN_VIEW_NS = 100
MAX_MARKS = 400_000  # bins of all lanes of one request: 9 MB
MAX_LANES = 400  # of one request; more do not fit on any screen
MAX_NAME = 300  # characters sent to the browser
MAX_TITLE = 640  # of the event that was picked
MAX_LABEL = 60
MAX_ROWS = 500  # names of one stretch
MAX_FIND = 2_000
MINIMAP_LANES = 4
OUTSIDE = "outside the analysed window"
COLUMN_ALIGNMENT = 8
_FARTHEST_NS = 1 << 61

_KINDS: dict[str, np.dtype[Any]] = {
    "f8": np.dtype("<f8"),
    "f4": np.dtype("<f4"),
    "i4": np.dtype("<i4"),
    "u4": np.dtype("<u4"),
    "u1": np.dtype("u1"),
}
_MARK_COLUMNS = {
    "start": "f8",
    "end": "f8",
    "name": "u4",
    "color": "u1",
    "fill": "u1",
    "event": "i4",
    "hit": "u1",
}
_SAMPLE_COLUMNS = {"time": "f8", "until": "f8", "low": "f4", "high": "f4"}

Head = dict[str, Any]
Columns = dict[str, tuple[str, Array]]


class QueryError(ValueError):
    """A question makes no sense; the message is one line."""


class Details(Protocol):
    """What is known of events beyond their lanes."""

    def facts(self, event: int) -> list[tuple[str, str]]:
        """Return what is known of an event, in words."""

    def chain(self, event: int) -> list[Link]:
        """Return what led to an event, and what it ended."""


def answer(timeline: Timeline, query: Mapping[str, str], details: Details | None = None) -> bytes:
    """Return the answer to one question about a timeline.

    Args:
        timeline: What is looked at.
        query: ``what`` is one of ``layout``, ``tile``, ``find``, ``event``, ``measure`` and
            ``names``; the rest depends on that.
        details: Tells of events; without it their lanes do.

    Raises:
        QueryError: The question makes no sense.
    """
    respond = _ANSWERS.get(query.get("what", ""))
    if respond is None:
        raise QueryError("Unknown kind of timeline request.")
    try:
        if respond is _event:
            return _packed(*_event(timeline, query, details))
        return _packed(*respond(timeline, query))
    except (KeyError, ValueError, OverflowError) as error:
        raise QueryError("The timeline request names something that does not exist.") from error


def _packed(head: Head, columns: Columns) -> bytes:
    """Put a head and its columns together."""
    arrays = {n: np.ascontiguousarray(v, _KINDS[kind]) for n, (kind, v) in columns.items()}
    head = {**head, "columns": [[n, columns[n][0], len(a)] for n, a in arrays.items()]}
    text = json.dumps(head, separators=(",", ":")).encode()
    pieces = [struct.pack("<I", 0), text]
    pieces.append(b" " * (-(len(text) + 4) % COLUMN_ALIGNMENT))
    pieces[0] = struct.pack("<I", len(text) + len(pieces[2]))
    for array in arrays.values():
        data = array.tobytes()
        pieces += [data, b"\0" * (-len(data) % COLUMN_ALIGNMENT)]
    return b"".join(pieces)


def short(text: str, limit: int = MAX_NAME) -> str:
    """Return ``text`` escaped and short, at a cost that does not grow with it."""
    if len(text) > 3 * limit:  # what is cut out here would be cut out below
        text = text[: 2 * limit] + text[-limit:]
    return visible(text, limit)


def _layout(timeline: Timeline, _query: Mapping[str, str]) -> tuple[Head, Columns]:
    groups = [
        {
            "id": group.id,
            "title": short(timeline.title(group), MAX_LABEL * 2),
            "open": group.open,
            "lanes": timeline.lanes_by_group[group.id],
        }
        for group in timeline.groups
    ]
    used = {c for placed in timeline.lanes for c in placed.lane.colors}
    head = {
        "duration": timeline.duration_ns,
        "groups": groups,
        "lanes": [_described(placed.lane) for placed in timeline.lanes],
        "minimap": _minimap(timeline),
        "colors_used": sorted(used),
        "notes": [visible(note) for note in timeline.notes],
    }
    return head, {}


def _described(lane: Lane) -> Head:
    described: Head = {
        "label": short(lane.label, MAX_LABEL),
        "kind": lane.kind,
        "level": lane.level,
        "count": lane.count,
    }
    if lane.mirror:
        described["mirror"] = True
    if lane.kind == "counter":
        described |= {"unit": short(lane.unit, 12), "low": lane.low, "high": lane.high}
    return described


def _minimap(timeline: Timeline) -> list[int]:
    """Return the lanes that stand for the whole recording: ledgers, else the outermost events."""
    if timeline.ledger_lanes:
        return list(timeline.ledger_lanes[:MINIMAP_LANES])
    outer = [
        n for n, p in enumerate(timeline.lanes) if p.lane.kind == "events" and not p.lane.level
    ]
    return outer[:1]


def _tile(timeline: Timeline, query: Mapping[str, str]) -> tuple[Head, Columns]:
    start, end = _span(query)
    numbers = _lane_numbers(query["lanes"], len(timeline.lanes))
    most = min(MAX_BINS, MAX_MARKS // max(len(numbers), 1))
    bins = max(min(_integer(query.get("bins", str(BINS))), most), MIN_BINS)
    find = query.get("find", "")[:MAX_FIND]
    hits = _hits(timeline, find)
    drawn, bands, places, counters = [], [], [], []
    firsts = {"marks": 0, "samples": 0}
    for number in numbers:
        if timeline.lanes[number].lane.kind == "counter":
            band = timeline.samples(number, start, end, bins)
            counters.append(_place(number, firsts, "samples", len(band.time), band.exact))
            bands.append(band)
        else:
            marks = timeline.marks(number, start, end, bins, hits)
            places.append(_place(number, firsts, "marks", len(marks.start), marks.exact))
            drawn.append(marks)
    columns: Columns = {
        name: (kind, _joined([getattr(m, name) for m in drawn]))
        for name, kind in _MARK_COLUMNS.items()
    }
    for name, kind in _SAMPLE_COLUMNS.items():
        columns[name] = kind, _joined([getattr(b, name) for b in bands])
    names = np.unique(columns["name"][1]).astype(np.int64).tolist()
    head: Head = {
        "start": start,
        "end": end,
        "lanes": places,
        "counters": counters,
        "names": {n: short(timeline.text(n)) for n in names},
        "hits_known": bool(find),
    }
    if hits is not None:
        searched_window = hits.index is timeline.window
        head["searched"] = ["ledger", "findings", "iterations"] if searched_window else ["events"]
        edges = bin_edges(start, end, bins)
        counts = hits.ticks(edges)
        head["ticks"] = {"start": int(edges[0]), "width": int(edges[1] - edges[0])}
        columns["ticks"] = "u1", _as_density(counts)
    return head, columns


def _hits(timeline: Timeline, find: str) -> Hits | None:
    """Return what a search finds; nothing for a wrong query, whose ``find`` tells what is wrong."""
    with contextlib.suppress(QuerySyntaxError):
        return timeline.hits(find) if find else None
    return None


def _place(number: int, firsts: dict[str, int], kind: str, count: int, exact: bool) -> Head:
    place = {"id": number, "first": firsts[kind], "count": count, "exact": exact}
    firsts[kind] += count
    return place


def _joined(columns: list[Array]) -> Array:
    return np.concatenate(columns) if columns else np.empty(0)


def _as_density(counts: Array) -> Array:
    """Return counts as 0 for none, up to 255 for the most; few among many stay visible."""
    if not counts.any():
        return counts
    share = np.log1p(counts) / np.log1p(counts.max())
    return np.where(counts > 0, np.maximum(np.round(share * 255), 60), 0)


def _find(timeline: Timeline, query: Mapping[str, str]) -> tuple[Head, Columns]:
    text, moment = query["text"][:MAX_FIND], _bounded(query.get("from", "0"))
    direction = min(max(_integer(query.get("direction", "0")), -1), 1)
    try:
        hit = timeline.step(text, moment, _integer(query.get("event", "-1")), direction)
    except QuerySyntaxError as error:
        return {"count": 0, "place": 0, "wrong": str(error), "forms": FORMS}, {}
    head: Head = {"count": hit.count, "place": hit.place}
    if not hit.count and (key := likely_key(text)):
        head["hint"] = f"Nothing is called that. Did you mean the key {key}:?"
    if hit.event >= 0:
        head |= _event_facts(timeline, hit.event)
    return head, {}


def _event(
    timeline: Timeline, query: Mapping[str, str], details: Details | None = None
) -> tuple[Head, Columns]:
    event = _integer(query["event"])
    chain = details.chain(event) if details else timeline.chain(event)
    links = [{"role": link.role, **_event_facts(timeline, link.event)} for link in chain]
    head = _event_facts(timeline, event) | {
        "title": short(timeline.name_of(event), MAX_TITLE),
        "facts": [[w, short(t, MAX_TITLE)] for w, t in details.facts(event)] if details else [],
        "chain": links,
        "arrows": [[a["event"], b["event"]] for a, b in itertools.pairwise(links)],
    }
    return head, {}


def _event_facts(timeline: Timeline, event: int) -> Head:
    start, end = timeline.span(event)
    return {
        "event": event,
        "lane": timeline.lane_of(event),
        "start": start,
        "end": end,
        "name": short(timeline.name_of(event)),
        "where": _place_words(timeline, event),
        "color": timeline.color_of(event),
    }


def _place_words(timeline: Timeline, event: int) -> str:
    """Return group and track of an event."""
    placed = timeline.lanes[timeline.lane_of(event)]
    group = timeline.title(placed.index.groups[placed.lane.group])
    return short(f"{group} · {placed.track}" if placed.track else group, MAX_LABEL * 2)


def _names(timeline: Timeline, query: Mapping[str, str]) -> tuple[Head, Columns]:
    start, end = _span(query)
    rows, count = span_rows(timeline, start, end, MAX_ROWS)
    head: Head = {
        "start": start,
        "end": end,
        "count": count,
        "rows": [[short(cell) if isinstance(cell, str) else cell for cell in row] for row in rows],
    }
    return head, {}


def _measure(timeline: Timeline, query: Mapping[str, str]) -> tuple[Head, Columns]:
    start, end = _span(query)
    devices = []
    for number in timeline.ledger_lanes:
        placed = timeline.lanes[number]
        sums = timeline.ledger(number, start, end)
        total = max(end - start, 1)
        device = placed.index.groups[placed.lane.group].device
        rows = [_row(color, COLORS[color], ns, total) for color, ns in sums.items() if ns]
        if outside := end - start - sum(sums.values()):
            rows.append(_row(-1, OUTSIDE, outside, total))
        devices.append(
            {
                "label": short(timeline.devices.get(device, ""), MAX_LABEL),
                "lane": number,
                "busy": sum(ns for color, ns in sums.items() if ROWS[color] in BUSY_ROWS),
                "rows": rows,
            }
        )
    duration = time_text(end - start)
    return {"start": start, "end": end, "duration": duration, "devices": devices}, {}


def _row(color: int, word: str, ns: int, total: int) -> Head:
    return {
        "color": color,
        "word": word,
        "ns": ns,
        "share": ns / total,
        "text": time_text(ns),
        "percent": share_text(ns, total, exact=True),
    }


_ANSWERS: dict[str, Callable[[Timeline, Mapping[str, str]], tuple[Head, Columns]]] = {
    "layout": _layout,
    "tile": _tile,
    "find": _find,
    "event": _event,
    "measure": _measure,
    "names": _names,
}


def _span(query: Mapping[str, str]) -> tuple[int, int]:
    start, end = _bounded(query["start"]), _bounded(query["end"])
    return start, max(end, start + 1)


def _bounded(text: str) -> int:
    """Return a time; one that no recording has is cut off."""
    return min(max(_integer(text), -_FARTHEST_NS), _FARTHEST_NS)


def _integer(text: str) -> int:
    # A browser writes large numbers as 1e+21.
    if not re.fullmatch(r"-?\d{1,25}(\.\d*)?(e\+?\d{1,2})?", text):
        raise ValueError(text)
    return int(text) if text.lstrip("-").isdecimal() else int(float(text))


def _lane_numbers(text: str, count: int) -> list[int]:
    """Return the lanes of ``0-5,9,12-14``; those that do not exist are left out."""
    numbers: dict[int, None] = {}
    for piece in text.split(",") if text else ():
        first, _, last = piece.partition("-")
        high = min(_integer(last or first), count - 1)
        numbers |= dict.fromkeys(range(_integer(first), high + 1))
        if len(numbers) > MAX_LANES:
            raise ValueError(text)
    return list(numbers)
