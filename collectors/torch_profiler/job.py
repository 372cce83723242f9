"""One torch profiler trace on its way into tables: what was seen so far, and where it goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from collectors.schema import NOT_RECORDED, Array
from collectors.torch_profiler import names
from collectors.torch_profiler.devices import Arrows, Callers, devices_in, owners_of, write_devices
from collectors.torch_profiler.events import Event, joined, kept, nanoseconds
from collectors.torch_profiler.rows import (
    EXCLUDED,
    REPAIRED,
    Bounds,
    Places,
    Rows,
    Strings,
    Tally,
    device_number,
    stream_number,
    write_ledger,
)
from collectors.trace import TraceWriter

MAX_OPEN = 100_000  # events that have begun and not ended; a program of 10 threads has 1,000
_BEYOND_64_BITS = 1 << 63  # with a sign, as columns are
MAX_SIGNS = 1_000
_ON_DEVICE = (names.KERNEL, names.COPY, names.MEMSET)
HOST_TABLES = ("syncs", "range_counters")  # what does not say which process it is of
DEVICE_TABLES = ("kernels", "copies", "memsets", "collectives")
_PREFIXES = {
    names.KERNEL: "kernel",
    names.COPY: "memcpy",
    names.MEMSET: "memset",
    names.API: "api",
    names.OPERATOR: "operator",
    names.PYTHON: "python",
    names.ANNOTATION: "range",
    names.SYNC: "sync",
    names.OVERHEAD: "overhead",
    names.COUNTERS: "counter",
    names.MEMORY: "memory_event",
    names.ARROW: "arrow",
}
"""How the codes of oddities begin, by kind of event."""


class DistributedJob:
    """The trace being written.

    Attributes:
        writer: The trace.
        strings: Names, written at the end.
        places: Processes and threads, written at the end.
        callers: Calls, by which operations find their process.
        arrows: Flows, by which operations without an id find their call.
        needs_arrows: Set once there is such an operation.
        duration_ns: Length of the recording as it says itself, -1 when it does not.
        is_xpu: Set once there is a call of Intel's runtime.
        signs: Texts that other tools write: their processes and categories.
    """

    def __init__(self, writer: TraceWriter) -> None:
        self.writer = writer
        self.strings, self.places = Strings(), Places()
        self.callers, self.arrows = Callers(), Arrows()
        self.needs_arrows = False
        self.duration_ns = NOT_RECORDED
        self.is_xpu = False
        self.signs: set[str] = set()
        self._bounds = Bounds()
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self._held: dict[str, list[dict[str, Array]]] = defaultdict(list)
        self._open = 0
        self._too_deep: dict[tuple[str, str], int] = defaultdict(int)
        self._begun: dict[tuple[str, str], list[tuple[Event, int]]] = defaultdict(list)

    def tally(self, kind: str) -> Tally:
        """Return the tally of a kind of event."""
        return self._tallies[kind]

    @property
    def seen(self) -> int:
        """Events of every kind, but metadata."""
        return sum(t.rows for kind, t in self._tallies.items() if kind != names.METADATA)

    @property
    def has_device_work(self) -> bool:
        """Whether any event occupies a device."""
        return any(self._tallies[k].rows for k in _ON_DEVICE if k in self._tallies)

    def learn_signs(self, texts: Iterable[object]) -> None:
        """Remember what may tell which other tool wrote the file."""
        if len(self.signs) < MAX_SIGNS:
            self.signs.update(t[:80] for t in texts if isinstance(t, str))

    @property
    def is_known(self) -> bool:
        """Whether any event is of a kind that the torch profiler writes."""
        return any(self._tallies[k].rows for k in _PREFIXES if k in self._tallies)

    def learn_bounds(self, events: list[Event]) -> None:
        """Learn from the first events when the recording took place."""
        self._bounds.learn(events)

    def rows(self, kind: str, events: list[Event]) -> Rows:
        """Return events of a kind, to be checked; they are counted."""
        return Rows(_PREFIXES.get(kind, "event"), self._tallies[kind], events, self._bounds)

    def paired(self, events: list[Event]) -> list[Event]:
        """Return whole events for those that only begin and only end, in order of the file.

        Of each pair one event is counted here, the other as what the whole one is.
        """
        whole, tally = [], self._tallies["begins and ends"]
        deep = f"begins and ends while {MAX_OPEN:,} other events had begun and not ended"
        moments = nanoseconds(e.ts for e in events).tolist()
        for event, at in zip(events, moments, strict=True):
            lane = str(event.pid), str(event.tid)
            begun = self._begun[lane]
            if event.ph == "B" and self._open >= MAX_OPEN:
                self._too_deep[lane] += 1
                tally.rows += 1
                tally.note("json_nested_deep", EXCLUDED, deep, 1)
            elif event.ph == "B":
                self._open += 1
                begun.append((kept(event), at))
            elif self._too_deep[lane]:
                self._too_deep[lane] -= 1
                tally.rows += 1
                tally.note("json_nested_deep", EXCLUDED, deep, 1)
            elif begun:
                self._open -= 1
                whole.append(joined(*begun.pop(), at))
                tally.rows += 1
                tally.used += 1
            else:
                tally.rows += 1
                message = "ends of events whose begin is not there"
                tally.note("json_unbalanced_begin_end", EXCLUDED, message, 1)
        return whole

    # --- writing --------------------------------------------------------------------------

    def on_thread(self, rows: Rows) -> dict[str, Array]:
        """Read where on the host, and when, something happened; drops what does not tell when."""
        rows.take_spans()
        process, thread = self.places.threads(rows.events)
        return {**rows.span(), "process": process, "thread": thread}

    def on_device(self, rows: Rows) -> dict[str, Array]:
        """Read where on a device, and when, operations ran; drops those that do not tell."""
        rows.take_spans()
        self._count_unusable_places(rows)
        pairs = zip(rows.argument("device"), rows.events, strict=True)
        device = np.array([device_number(d, e.pid) for d, e in pairs], dtype=np.int64)
        unknown = device == NOT_RECORDED
        rows.drop((unknown, "device_unknown", "events that name no usable device"))
        pairs = zip(rows.argument("stream"), rows.events, strict=True)
        stream = np.array([stream_number(s, e.tid) for s, e in pairs], dtype=np.int64)
        number = rows.number("correlation")
        number = np.where(number == 0, NOT_RECORDED, number)  # ids begin with 1
        place = {
            **rows.span(),
            "device": device[~unknown],
            "stream": stream,
            "correlation_id": number,
        }
        if (ranks := _ranks_of(rows.events)) is not None:
            place["_rank"] = ranks
        if (number == NOT_RECORDED).any():
            self.needs_arrows = True
            lanes = np.empty((len(rows), 2), dtype=object)
            lanes[:, 0], lanes[:, 1] = [e.pid for e in rows.events], [e.tid for e in rows.events]
            place["_lane"] = lanes
        return place

    def _count_unusable_places(self, rows: Rows) -> None:
        """Count numbers of devices and streams that no 64 bits hold."""
        places = (
            *(rows.argument("device"), rows.argument("stream")),
            *([e.pid for e in rows.events], [e.tid for e in rows.events]),
        )
        count = sum(
            type(n) in (int, float) and not -_BEYOND_64_BITS <= n < _BEYOND_64_BITS
            for numbers in places
            for n in numbers
        )
        rows.note(count, "place_out_of_range", "numbers of devices or streams beyond 64 bits")

    def write(self, table: str, rows: Rows, columns: Mapping[str, Any]) -> None:
        """Append the rows in use to ``table``."""
        rows.tally.used += len(rows)
        self.writer.write(table, columns)

    def hold(
        self, table: str, columns: dict[str, Array], events: list[Event] | None = None
    ) -> None:
        """Keep what does not say which process it is of, until that is known.

        Args:
            table: Where it goes.
            columns: What is known of it.
            events: That it was read from, where ``columns`` were not made by ``on_device``.
        """
        if events is not None and (ranks := _ranks_of(events)) is not None:
            columns = {**columns, "_rank": ranks}
        self._held[table].append(columns)

    # --- the end --------------------------------------------------------------------------

    def finish(self, head: Mapping[str, Any]) -> None:
        """Write what is known only at the end.

        Args:
            head: The values that stand beside the events.
        """
        used = self._write_held()
        self.places.write(self.writer, {process for process, _ in used})
        odd = write_devices(self.writer, used, head)
        message = "facts about a GPU that are no plausible number; they count as not recorded"
        self._tallies["deviceProperties"].note("gpu_info_invalid", REPAIRED, message, odd)
        left = sum(map(len, self._begun.values()))
        message = "begins of events whose end is not there"
        tally = self._tallies["begins and ends"]
        tally.rows += left
        tally.note("json_unbalanced_begin_end", EXCLUDED, message, left)
        self.strings.write(self.writer, self._tallies["names"])
        write_ledger(self.writer, self._tallies)

    def _main_process(self) -> int:
        """Return the process of what does not say its own; -1 when none is known yet."""
        if hosts := self.places.host_processes:
            return min((p for p in hosts if p >= 0), default=min(hosts))
        labels = self.places.process_labels
        return next((key for key, label in labels.items() if label == "CPU"), NOT_RECORDED)

    def _write_held(self) -> set[tuple[int, int]]:
        used: set[tuple[int, int]] = set()
        otherwise = self._main_process()
        for table in HOST_TABLES:
            for columns in self._held.pop(table, []):
                process = np.full(len(columns["start_ns"]), otherwise, np.int64)
                process = self._of_rank(process, columns.pop("_rank", None))
                self.writer.write(table, {**columns, "process": process})
        pieces = [
            self._with_process(table, columns, otherwise)
            for table in DEVICE_TABLES
            for columns in self._held.pop(table, [])
        ]
        if self.callers.several:
            self._give_devices_to_owners([columns for _, columns in pieces])
        for table, columns in pieces:
            columns.pop("_has_rank", None)
            used |= devices_in(columns["process"], columns["device"])
            self.writer.write(table, columns)
        return used

    def _with_process(
        self, table: str, columns: dict[str, Array], otherwise: int
    ) -> tuple[str, dict[str, Array]]:
        """Return operations with their processes, as their calls or ranks tell."""
        lane, ranks = columns.pop("_lane", None), columns.pop("_rank", None)
        number = columns["correlation_id"]
        if lane is not None:
            number = self.arrows.joined(number, lane, columns["start_ns"])
        process = self.callers.of(number, columns["start_ns"], otherwise)
        process = self._of_rank(process, ranks)
        if ranks is not None:
            columns["_has_rank"] = ranks != ""
        return table, {**columns, "correlation_id": number, "process": process}

    def _give_devices_to_owners(self, pieces: list[dict[str, Array]]) -> None:
        """Where ranks share ids of calls, give what is uncertain to the owner of its device."""
        free = [p for p in pieces if "_has_rank" not in p and len(p["process"])]
        if not free:
            return
        device, process, number = (
            np.concatenate([p[name] for p in free])
            for name in ("device", "process", "correlation_id")
        )
        for key, owner in owners_of(device, process, self.callers.certainty(number)).items():
            for piece in free:
                strays = (piece["device"] == key) & (piece["process"] != owner)
                strays &= self.callers.uses(owner, piece["correlation_id"])
                piece["process"] = np.where(strays, owner, piece["process"])

    def _of_rank(self, process: Array, ranks: Array | None) -> Array:
        """Return processes, of a merged trace those of the rank that each operation is of.

        There the ids of calls repeat from rank to rank, so that they cannot tell.
        """
        if ranks is None:
            return process
        result = process.copy()
        for rank in set(ranks.tolist()):
            hosts = self.places.hosts_of(rank) if rank else []
            if len(hosts) == 1:
                result[ranks == rank] = hosts[0]
        return result


def _ranks_of(events: list[Event]) -> Array | None:
    """Return the rank that each event is marked with, empty for none; None when none is."""
    rank_by_pid = {
        pid: rank[0]
        for pid in {e.pid for e in events if type(e.pid) is str}
        if (rank := names.rank_of(pid)) is not None
    }
    if not rank_by_pid:
        return None
    ranks = [rank_by_pid.get(e.pid, "") if type(e.pid) is str else "" for e in events]
    return np.array(ranks, dtype=object)
