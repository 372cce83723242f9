"""Events of a torch profiler trace on their way into tables: checked, counted, translated.

Every event ends up used or excluded, and each exclusion has a cause; the counts become the
data-quality ledger of the trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from collectors.schema import NOT_RECORDED, Array
from collectors.torch_profiler import names
from collectors.torch_profiler.events import (
    MAX_TIME_NS,
    NO_ARGUMENTS,
    NO_TIME,
    Arguments,
    Event,
    integers,
    nanoseconds,
    times,
    whole_number,
)
from collectors.trace import DataNote, RowCount, TraceWriter
from common.text import CONTROLS, storable

MAX_TEXT = 65_536  # characters of one name; 5,000 were seen
MAX_PID = 1 << 40  # systems stop at 2^22
_NAMELESS = -(1 << 30)  # keys of processes without a number begin here
MAX_DEVICE = 1_023  # no machine has as many
MAX_BYTES = 1 << 42  # no device holds more; 2 million copies of that size still have a sum
SLACK_NS = 86_400_000_000_000  # a day around what the first events tell
SLACK_FACTOR = 100
EXCLUDED, REPAIRED, NOTED = "excluded", "repaired", "noted"
_HARMLESS = ("unknown_category", "json_unknown_phase", "device_annotation")
_DOUBTFUL = ("gzip_damaged", "api_unknown")  # excluded nothing, yet the answer may be wrong
_LONGEST_PLACE = 40  # characters of "stream 7" that are looked at
_TRIPLE = re.compile(r"\s*[\[(]?\s*(\d{1,10})\s*[,x]\s*(\d{1,10})\s*[,x]\s*(\d{1,10})\s*[\])]?\s*")
_BY_CUPTI = ("kernel", "memcpy", "memset", "api", "sync")  # both times zero: they are unknown
_NUMBER_AT_END = re.compile(r"(\d+)\s*$")


@dataclass
class Tally:
    """Use of the events of one kind, and what was odd about them."""

    rows: int = 0
    used: int = 0
    oddities: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def note(self, code: str, effect: str, message: str, count: int) -> None:
        """Count ``count`` events more under a code."""
        if count:
            key = (code, effect, message)
            self.oddities[key] = self.oddities.get(key, 0) + count

    @property
    def excluded(self) -> int:
        """Events that are in no table."""
        return sum(n for (_, effect, _), n in self.oddities.items() if effect == EXCLUDED)


class Strings:
    """Names, numbered in the order in which they were first seen."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._cut = 0

    def ids(self, texts: Iterable[Any]) -> Array:
        """Return the number of each text; what is no text counts as the text that it prints as."""
        ids = self._ids
        return np.array(
            [ids[t] if t in ids else self._add(t) for t in map(_text, texts)], dtype=np.int64
        )

    def optional(self, texts: Sequence[Any]) -> Array:
        """Do the same, -1 where there is none."""
        return np.array([NOT_RECORDED if t is None else self.id(t) for t in texts], dtype=np.int64)

    def id(self, text: Any) -> int:
        """Return the number of one text."""
        plain = _text(text)
        return self._ids[plain] if plain in self._ids else self._add(plain)

    def _add(self, text: str) -> int:
        if len(text) > MAX_TEXT:
            self._cut += 1
            text = text[:MAX_TEXT]
        return self._ids.setdefault(text, len(self._ids))

    def write(self, writer: TraceWriter, tally: Tally) -> None:
        """Write every name, and count the odd ones."""
        texts = list(self._ids)
        broken = sum("\ufffd" in t for t in texts)
        odd = sum(CONTROLS.search(t) is not None for t in texts)
        message = "names with bytes that are not UTF-8, now U+FFFD"
        tally.note("text_not_utf8", REPAIRED, message, broken)
        tally.note("text_truncated", REPAIRED, f"names cut to {MAX_TEXT:,} characters", self._cut)
        tally.note("text_control_chars", NOTED, "names that hold control characters", odd)
        plain = pa.array(list(map(storable, texts)), pa.string())
        columns = {"id": np.arange(len(texts)), "value": plain}
        writer.write("strings", columns)


def _text(value: Any) -> str:
    return value if type(value) is str else "" if value is None else str(value)


class Places:
    """Processes and threads by the numbers or names that the trace gives them.

    A number may stand there as text, a place may have no number at all.
    """

    def __init__(self) -> None:
        self._processes: dict[Any, int] = {}
        self._threads: dict[tuple[Any, Any], int] = {}  # as written
        self._keys: dict[tuple[int, Any], int] = {}  # as meant
        self._process_of: list[int] = []
        self.process_names: dict[int, str] = {}
        self.process_labels: dict[int, str] = {}
        self.thread_names: dict[int, str] = {}
        self.host_processes: set[int] = set()
        self._ranks: dict[int, tuple[str, int]] = {}
        self._used: set[int] = set()

    def process(self, pid: Any) -> int:
        """Return the key of a process: its number, else one below -1, in the order of the file."""
        key = _plain(pid)
        if key not in self._processes:
            number = whole_number(key)
            if number is None or not 0 <= number < MAX_PID:
                number = _NAMELESS + len(self._processes)
            self._processes[key] = number
            if (rank := names.rank_of(key)) is not None:
                self._ranks[number] = rank
        return self._processes[key]

    def hosts_of(self, rank: str) -> list[int]:
        """Return the processes on the host that a merged trace marks with ``rank``."""
        return [p for p in self.host_processes if self._ranks.get(p, ("",))[0] == rank]

    def threads(self, events: Sequence[Event]) -> tuple[Array, Array]:
        """Return the process and thread keys of events on the host."""
        keys_of = self._threads
        pairs = [(e.pid, e.tid) for e in events]
        try:
            keys = [keys_of[p] if p in keys_of else self._add(p) for p in pairs]
        except TypeError:  # a list or an object where a number should be
            pairs = [(_plain(p), _plain(t)) for p, t in pairs]
            keys = [keys_of[p] if p in keys_of else self._add(p) for p in pairs]
        thread = np.array(keys, dtype=np.int64)
        process = np.array(self._process_of, dtype=np.int64)[thread] if keys else thread
        self._used.update(np.unique(thread).tolist())
        self.host_processes.update(np.unique(process).tolist())
        return process, thread

    def _add(self, pair: tuple[Any, Any]) -> int:
        number = whole_number(pair[1])
        process = self.process(pair[0])
        plain = (process, pair[1] if number is None else number)
        if plain not in self._keys:
            self._keys[plain] = len(self._keys)
            self._process_of.append(process)
        self._threads[pair] = self._keys[plain]
        return self._threads[pair]

    def describe(self, event: Event) -> None:
        """Take over what a metadata event says about its process or thread."""
        arguments = event.args or NO_ARGUMENTS
        if event.name == "process_name" and isinstance(arguments.name, str):
            name = storable(arguments.name[:200])
            self.process_names.setdefault(self.process(event.pid), name)
        elif event.name == "process_labels" and isinstance(arguments.labels, str):
            self.process_labels.setdefault(self.process(event.pid), arguments.labels[:200])
        elif event.name == "thread_name" and isinstance(arguments.name, str):
            pair = (_plain(event.pid), _plain(event.tid))
            key = self._threads[pair] if pair in self._threads else self._add(pair)
            self.thread_names[key] = storable(arguments.name[:200])

    def write(self, writer: TraceWriter, processes: Iterable[int]) -> None:
        """Write the processes in use, and the threads that something happened on."""
        keys = sorted({*processes, *self.host_processes})
        pids = [self._ranks[k][1] if k in self._ranks else max(k, NOT_RECORDED) for k in keys]
        writer.write(
            "processes",
            {
                "process": np.array(keys, dtype=np.int64),
                "pid": np.array(pids, dtype=np.int64),
                "name": pa.array([self._process_name(k) for k in keys], pa.string()),
            },
        )
        plain = list(self._keys)
        used = sorted(self._used)
        tids = [whole_number(plain[k][1]) for k in used]
        columns: dict[str, Array | pa.Array] = {
            "thread": np.array(used, dtype=np.int64),
            "process": np.array([plain[k][0] for k in used], dtype=np.int64),
            "tid": np.array([NOT_RECORDED if t is None else t for t in tids], dtype=np.int64),
            "name": pa.array([self._name(k) for k in used], pa.string()),
        }
        writer.write("threads", columns)

    def _process_name(self, key: int) -> str:
        name = self.process_names.get(key, "")
        return f"{storable(self._ranks[key][0])} {name}".strip() if key in self._ranks else name

    def _name(self, key: int) -> str:
        """Return a thread's own name: "thread 1262 (pt_autograd_0)" says only the last word."""
        name = self.thread_names.get(key, "")
        inner = re.fullmatch(r"thread -?\d+ \((.*)\)", name)
        return inner[1] if inner else name


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, str, type(None))) else str(value)[:80]


class Bounds:
    """When the recording took place, as its first events tell.

    One damaged time would otherwise become the end of the window and make all else look idle.
    """

    def __init__(self) -> None:
        self._low, self._high = -MAX_TIME_NS, MAX_TIME_NS
        self._is_known = False

    def learn(self, events: Sequence[Event]) -> None:
        """Learn from the first batch that has any times."""
        if self._is_known:
            return
        begins = nanoseconds(e.ts for e in events if e.ph == "X")
        begins = begins[(begins != NO_TIME) & (begins != 0)]  # zero stands for unknown, too
        if not len(begins):
            return
        low, high = (int(t) for t in np.quantile(begins, (0.1, 0.9), method="nearest"))
        slack = max(SLACK_FACTOR * (high - low), SLACK_NS)
        self._low, self._high = max(low - slack, -MAX_TIME_NS), min(high + slack, MAX_TIME_NS)
        self._is_known = True

    def outside(self, moments: Array) -> Array:
        """Return which times cannot be right."""
        far: Array = (moments < self._low) | (moments > self._high)
        return far


class Rows:
    """Events of one kind; columns are of those that are still in use."""

    def __init__(self, prefix: str, tally: Tally, events: list[Event], bounds: Bounds) -> None:
        self.tally, self.events = tally, events
        self._prefix = prefix
        self._arguments: list[Arguments] | None = None  # of each event; None: look again
        self._bounds = bounds
        self.start_ns = self.end_ns = np.empty(0, np.int64)
        tally.rows += len(events)

    def __len__(self) -> int:
        return len(self.events)

    def take_spans(self) -> None:
        """Read begins and ends; exclude events without usable ones."""
        start = self._times("ts")
        length = self._times("dur")
        bad = (start == NO_TIME) | (length == NO_TIME)
        untimed = (start == 0) & (length == 0) & (self._prefix in _BY_CUPTI)
        end = np.where(bad, 0, start) + np.where(bad, 0, length)
        far = ~(bad | untimed) & (
            self._bounds.outside(start) | self._bounds.outside(end) | (length < -(1 << 60))
        )
        backwards = ~bad & ~far & (length < 0)
        self.start_ns, self.end_ns = start, end
        self.drop(
            (bad, "bad_type", "events whose begin or duration is no number"),
            (untimed, "no_time", "events for which no time could be collected (both are zero)"),
            (far, "out_of_range", "events whose time is far outside the recording"),
            (backwards, "negative_duration", "events that end before they begin"),
        )

    def take_moments(self) -> None:
        """Read moments; exclude events without a usable one."""
        start = self._times("ts")
        bad = start == NO_TIME
        self.start_ns = self.end_ns = start
        self.drop(
            (bad, "bad_type", "events whose time is no number"),
            (
                ~bad & self._bounds.outside(start),
                "out_of_range",
                "events whose time is far outside the recording",
            ),
        )

    def _times(self, name: str) -> Array:
        """Return begins or durations in ns, and note those that are written as text."""
        column, quoted = times(map(attrgetter(name), self.events))
        self._note_text(quoted)
        return column

    def _note_text(self, count: int) -> None:
        message = "numbers that are written as text; they were used"
        self.tally.note("number_as_text", NOTED, message, count)

    def drop(self, *reasons: tuple[Array, str, str]) -> None:
        """Exclude events: each reason is where, a code and a message; they do not overlap."""
        gone = np.zeros(len(self.events), dtype=bool)
        for where, code, message in reasons:
            count = int(np.count_nonzero(where))
            self.tally.note(f"{self._prefix}_{code}", EXCLUDED, message, count)
            gone |= where
        if gone.any():
            self._arguments = None
            self.events = [e for e, out in zip(self.events, gone.tolist(), strict=True) if not out]
            self.start_ns, self.end_ns = self.start_ns[~gone], self.end_ns[~gone]

    def note(self, count: int, code: str, message: str) -> None:
        """Count events that stay in use although something about them was repaired."""
        self.tally.note(code, REPAIRED, message, count)

    def argument(self, name: str) -> list[Any]:
        """Return one argument of every event, None where it is absent."""
        if self._arguments is None:
            self._arguments = [e.args or NO_ARGUMENTS for e in self.events]
        return list(map(attrgetter(name), self._arguments))

    def number(self, name: str, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> Array:
        """Return an argument as a column of whole numbers; what is none, or not within, is -1."""
        raw = self.argument(name)
        values, odd = integers(raw)
        if str in set(map(type, raw)):
            self._note_text(sum(type(v) is str and whole_number(v) is not None for v in raw))
        outside = (values != NOT_RECORDED) & ((values < low) | (values > high))
        message = "numbers that are none, or impossible; they count as not recorded"
        self.note(odd + int(np.count_nonzero(outside)), "number_out_of_range", message)
        return np.where(outside, NOT_RECORDED, values)

    def triple(self, name: str, limits: Sequence[int]) -> list[Array]:
        """Return an argument of three numbers, such as a grid, as three columns."""
        values = self.argument(name)
        triples = [_triple(v) for v in values]
        self._note_text(
            sum(type(v) is str and t[0] is not None for v, t in zip(values, triples, strict=True))
        )
        has_value = np.array([v is not None for v in values], dtype=bool)
        columns, odd = [], np.zeros(len(values), dtype=bool)
        for place, limit in enumerate(limits):
            column, _ = integers([v[place] for v in triples])
            odd |= has_value & ((column < 1) | (column > limit))
            columns.append(column)
        message = "launches of an impossible shape"
        self.note(int(np.count_nonzero(odd)), "launch_geometry_invalid", message)
        return [np.where(odd, NOT_RECORDED, c) for c in columns]

    def length_of(self, event: Event) -> int:
        """Return the duration of one event in ns, -1 when it has no usable one."""
        length = int(nanoseconds((event.dur,))[0])
        return length if length >= 0 else NOT_RECORDED

    def span(self) -> dict[str, Array]:
        """Return the columns begin and end."""
        return {"start_ns": self.start_ns, "end_ns": self.end_ns}


def _triple(value: Any) -> Sequence[Any]:
    """Return the three numbers of a shape, which may stand in one text; None for each if none."""
    if isinstance(value, list) and len(value) == 3:
        return value
    match = _TRIPLE.fullmatch(value) if isinstance(value, str) else None
    return match.groups() if match else (None, None, None)


def stream_number(stream: Any, tid: Any) -> int:
    """Return the number of a stream, which old traces write as "stream 7"."""
    for value in (stream, tid):
        number = whole_number(value)
        if number is None and isinstance(value, str):
            match = _NUMBER_AT_END.search(value[-_LONGEST_PLACE:])
            number = int(match[1][-18:]) if match else None
        if number is not None:
            return number
    return NOT_RECORDED


def device_number(device: Any, pid: Any) -> int:
    """Return the number of a device, from the argument or the place of the event; -1 unknown."""
    for value in (device, pid):
        number = whole_number(value)
        if number is not None and 0 <= number <= MAX_DEVICE:
            return number
    return NOT_RECORDED


def write_ledger(writer: TraceWriter, tallies: dict[str, Tally]) -> None:
    """Write how the events of each kind were used, and what was odd about them."""
    for table, tally in tallies.items():
        if tally.rows:
            writer.row_counts.append(
                RowCount(table=table, rows=tally.rows, used=tally.used, excluded=tally.excluded)
            )
        for (code, effect, message), count in tally.oddities.items():
            harmless = code in _HARMLESS or (effect == NOTED and code not in _DOUBTFUL)
            severity = "info" if harmless else "import_error"
            writer.notes.append(
                DataNote(
                    code=code,
                    severity="data_loss" if code == "json_truncated" else severity,
                    table=table,
                    count=count,
                    effect=effect,
                    message=message,
                )
            )
