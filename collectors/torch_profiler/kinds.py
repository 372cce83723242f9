"""How each kind of event of a torch profiler trace becomes rows of a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from collectors.schema import NOT_RECORDED, Array, OperatorKind, RangeKind
from collectors.torch_profiler import names
from collectors.torch_profiler.events import Event, decode_counters
from collectors.torch_profiler.job import DistributedJob
from collectors.torch_profiler.rows import (
    EXCLUDED,
    MAX_BYTES,
    MAX_DEVICE,
    NOTED,
    Rows,
    stream_number,
)
from common.text import printable

MAX_INPUTS = 65_536  # characters of the shapes of one operator's inputs; an optimizer has 25,000
_MAX_VALUE = 2_000  # characters of one value that was passed
_NUMBERS = re.compile(r"(?:[\[\]0-9eE+\-., ]|True|False|None|inf|nan)*")
_GRID_LIMITS = ((1 << 31) - 1, 1 << 16, 1 << 16)
_BLOCK_LIMITS = (1 << 12, 1 << 12, 1 << 12)
_MAX_REGISTERS, _MAX_SHARED_BYTES = 1 << 12, 1 << 26
_DEVICE_MEMORY = 1  # "Device Type" of a GPU, as PyTorch numbers kinds of devices; 0 is the host


def take(job: DistributedJob, kind: str, events: list[Event]) -> None:
    """Read events of one kind."""
    _READERS[kind](job, events)


def _read_kernels(job: DistributedJob, events: list[Event]) -> None:
    rows = job.rows(names.KERNEL, events)
    place = job.on_device(rows)
    texts = [e.name if isinstance(e.name, str) else "" for e in rows.events]
    short = {text: names.short_name(text) for text in set(texts)}
    shared = rows.number("shared_memory", 0, _MAX_SHARED_BYTES)
    grid, block = rows.triple("grid", _GRID_LIMITS), rows.triple("block", _BLOCK_LIMITS)
    instant = int(np.count_nonzero(rows.start_ns == rows.end_ns))
    rows.tally.note("kernel_zero_duration", "noted", "kernels that took no time", instant)
    _hold(
        job,
        "kernels",
        rows,
        place,
        name_id=job.strings.ids(texts),
        short_name_id=job.strings.ids([short[t] for t in texts]),
        **dict(zip(("grid_x", "grid_y", "grid_z"), grid, strict=True)),
        **dict(zip(("block_x", "block_y", "block_z"), block, strict=True)),
        registers_per_thread=rows.number("registers", 0, _MAX_REGISTERS),
        # Only the sum of both is recorded.
        static_shared_bytes=np.where(shared < 0, NOT_RECORDED, 0),
        dynamic_shared_bytes=shared,
        graph_node=_positive(rows.number("graph_node")),
    )
    _hold_collectives(job, rows, place)


def _hold_collectives(job: DistributedJob, rows: Rows, place: dict[str, Array]) -> None:
    called = rows.argument("collective")
    has_name = np.array([name is not None for name in called], dtype=bool)
    if not has_name.any():
        return
    columns = {
        "name_id": job.strings.optional(called),
        "type_id": job.strings.optional(rows.argument("data_type")),
        "group_id": job.strings.optional(rows.argument("group")),
        "group_size": rows.number("group_size", 0),
        "ranks_id": job.strings.optional(rows.argument("group_ranks")),
        "sequence": rows.number("group_sequence", 0),
        "elements_in": rows.number("elements_in", 0),
        "elements_out": rows.number("elements_out", 0),
    }
    job.hold("collectives", {c: v[has_name] for c, v in {**place, **columns}.items()})


def _read_copies(job: DistributedJob, events: list[Event]) -> None:
    rows = job.rows(names.COPY, events)
    place = job.on_device(rows)
    texts = [str(e.name) for e in rows.events]
    ends = np.array([names.ends_of(t) for t in texts], dtype=np.int8).reshape(-1, 2)
    pairs = zip(texts, rows.argument("kind"), strict=True)
    _hold(
        job,
        "copies",
        rows,
        place,
        kind=np.array([names.direction(text, kind) for text, kind in pairs], dtype=np.int8),
        source_kind=ends[:, 0],
        destination_kind=ends[:, 1],
        bytes=rows.number("bytes", 0, MAX_BYTES),
        graph_node=_positive(rows.number("graph_node")),
    )


def _read_memsets(job: DistributedJob, events: list[Event]) -> None:
    rows = job.rows(names.MEMSET, events)
    place = job.on_device(rows)
    kinds = [names.memory_of(str(e.name)) for e in rows.events]
    _hold(
        job,
        "memsets",
        rows,
        place,
        bytes=rows.number("bytes", 0, MAX_BYTES),
        memory_kind=np.array(kinds, dtype=np.int8),
        graph_node=_positive(rows.number("graph_node")),
    )


def _hold(
    job: DistributedJob, table: str, rows: Rows, place: dict[str, Array], **columns: Array
) -> None:
    rows.tally.used += len(rows)
    job.hold(table, {**place, **columns})


def _read_api_calls(job: DistributedJob, events: list[Event]) -> None:
    for table in ("api_calls", "kernels", "copies", "memsets"):  # who records calls records these
        job.writer.declare(table)
    rows = job.rows(names.API, events)
    place = job.on_thread(rows)
    _note_unknown_runtime(job, rows)
    number = rows.number("correlation")
    job.callers.add(place["process"], number, place["start_ns"])
    functions = {e.name: names.function_name(e.name) for e in rows.events if type(e.name) is str}
    name_id = job.strings.ids(functions.get(str(e.name), "") for e in rows.events)
    job.write("api_calls", rows, {**place, "correlation_id": number, "name_id": name_id})


def _note_unknown_runtime(job: DistributedJob, rows: Rows) -> None:
    """Say which calls have a meaning that is not known: a wait among them looks like other work."""
    categories = {str(e.cat) for e in rows.events}
    job.is_xpu |= any(map(names.is_xpu, categories))
    if all(names.is_understood(category, None) for category in categories):
        return
    odd = [e for e in rows.events if not names.is_understood(e.cat, e.name)]
    if odd:
        runtimes = ", ".join(sorted({printable(str(e.cat), "")[:40] for e in odd})[:4])
        message = (
            f"calls of a runtime that is not understood ({runtimes}): which of them wait for the "
            "device is not known, so such time may be booked to the host"
        )
        rows.tally.note("api_unknown", NOTED, message, len(odd))


def _read_operators(job: DistributedJob, events: list[Event]) -> None:
    marks = [isinstance(e.name, str) and names.is_annotation(e.name) for e in events]
    if any(marks):
        _read_ranges(job, [e for e, mark in zip(events, marks, strict=True) if mark])
        events = [e for e, mark in zip(events, marks, strict=True) if not mark]
    _write_operators(job, job.rows(names.OPERATOR, events), OperatorKind.FRAMEWORK)


def _read_python(job: DistributedJob, events: list[Event]) -> None:
    _write_operators(job, job.rows(names.PYTHON, events), OperatorKind.PYTHON)


def _write_operators(job: DistributedJob, rows: Rows, kind: OperatorKind) -> None:
    columns = {
        **job.on_thread(rows),
        "name_id": job.strings.ids(e.name for e in rows.events),
        "kind": np.full(len(rows), kind, np.int8),
    }
    if kind is OperatorKind.FRAMEWORK:
        shapes = [
            new if len(bytes(new)) else old
            for new, old in zip(rows.argument("shapes"), rows.argument("shapes_2021"), strict=True)
        ]
        columns |= {
            "sequence": rows.number("sequence"),
            "forward_thread": rows.number("forward_thread"),
            "external_id": rows.number("external_id"),
            "shapes_id": _text_ids(job, shapes, _list_text),
            "types_id": _text_ids(job, rows.argument("types"), _list_text),
            "strides_id": _text_ids(job, rows.argument("strides"), _list_text),
            "values_id": _text_ids(job, rows.argument("values"), _numbers_text),
            "options_id": job.strings.optional(rows.argument("options")),
        }
    job.write("operators", rows, columns)


def _text_ids(
    job: DistributedJob, column: Iterable[Any], text_of: Callable[[bytes], str | None]
) -> Array:
    """Return the number of each text that ``text_of`` makes; each different one is made once."""
    number_of: dict[bytes, int] = {}
    ids = []
    for raw in map(bytes, column):
        if raw not in number_of:
            text = text_of(raw)
            number_of[raw] = NOT_RECORDED if text is None else job.strings.id(text)
        ids.append(number_of[raw])
    return np.array(ids, dtype=np.int64)


def _list_text(raw: bytes) -> str | None:
    """Return a list as text; None when it was not recorded or is empty."""
    return raw.decode("utf-8", "replace")[:MAX_INPUTS] if len(raw) > len("[]") else None


def _numbers_text(raw: bytes) -> str | None:
    """Return the values of inputs as text, without what is no number: it may be private."""
    if len(raw) <= len("[]"):
        return None
    try:
        values = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(values, list):
        return None
    plain = [v if isinstance(v, str) and _is_number(v) else "" for v in values]
    return msgspec.json.encode(plain).decode() if any(plain) else None


def _is_number(value: str) -> bool:
    """Tell whether a value is a number, a truth value, or a list of them."""
    return len(value) <= _MAX_VALUE and _NUMBERS.fullmatch(value) is not None


def _read_ranges(job: DistributedJob, events: list[Event]) -> None:
    rows = job.rows(names.ANNOTATION, events)
    place = job.on_thread(rows)
    columns = {
        "name_id": job.strings.ids(e.name for e in rows.events),
        "kind": np.full(len(rows), RangeKind.PUSH_POP, np.int8),
        "closed": np.ones(len(rows), dtype=bool),
    }
    job.write("ranges", rows, {**place, **columns})


def _read_overheads(job: DistributedJob, events: list[Event]) -> None:
    rows = job.rows(names.OVERHEAD, events)
    place = job.on_thread(rows)
    name_id = job.strings.ids(e.name for e in rows.events)
    job.write("overheads", rows, {**place, "name_id": name_id})


def _read_syncs(job: DistributedJob, events: list[Event]) -> None:
    rows = job.rows(names.SYNC, events)
    rows.take_spans()
    kinds = [names.SYNC_TYPES.get(str(k).lower(), -1) for k in rows.argument("sync_kind")]
    streams = [stream_number(s, None) for s in rows.argument("stream")]
    columns = {
        **rows.span(),
        "device": rows.number("device", 0, MAX_DEVICE),
        "stream": np.array(streams, dtype=np.int64),
        "correlation_id": rows.number("correlation"),
        "sync_type": np.array(kinds, dtype=np.int64),
    }
    rows.tally.used += len(rows)
    job.hold("syncs", columns, rows.events)


def _read_moments(job: DistributedJob, events: list[Event]) -> None:
    memory = [e for e in events if e.name == names.MEMORY_EVENT]
    tally = job.tally(names.INSTANT)  # the others say when the recording began and ended
    tally.rows += len(events) - len(memory)
    tally.used += len(events) - len(memory)
    if not memory:
        return
    rows = job.rows(names.MEMORY, memory)
    rows.take_moments()
    process, thread = job.places.threads(rows.events)
    is_device = rows.number("device_type", 0) == _DEVICE_MEMORY
    device = rows.number("device_id", NOT_RECORDED, MAX_DEVICE)
    columns = {
        "time_ns": rows.start_ns,
        "process": process,
        "thread": thread,
        "device": np.where(is_device, device, NOT_RECORDED),
        "address": rows.number("address"),
        "bytes": rows.number("size_bytes"),
        "allocated_bytes": rows.number("allocated"),
        "reserved_bytes": rows.number("reserved"),
    }
    job.write("memory_events", rows, columns)


def read_counters(job: DistributedJob, events: list[Event], texts: bytes | list[bytes]) -> None:
    """Read hardware counters of kernels, which stand under their own names.

    Args:
        job: The trace being written.
        events: Events of any kind.
        texts: What they were decoded from: an array, or the text of each.
    """
    places = [i for i, e in enumerate(events) if names.kind_of(e.ph, e.cat) == names.COUNTERS]
    values = decode_counters(texts, places)
    arguments = {id(events[place]): more for place, more in zip(places, values, strict=True)}
    rows = job.rows(names.COUNTERS, [events[place] for place in places])
    place = job.on_device(rows)
    samples = [
        (row, job.strings.id(counter), value)
        for row, event in enumerate(rows.events)
        for counter, value in arguments[id(event)].items()
    ]
    row = np.array([place for place, _, _ in samples], dtype=np.int64)
    columns = {
        "start_ns": rows.start_ns[row],
        "end_ns": rows.end_ns[row],
        "device": place["device"][row],
        "range_id": job.strings.ids(e.name for e in rows.events)[row],
        "name_id": np.array([name for _, name, _ in samples], dtype=np.int64),
        "value": np.array([value for _, _, value in samples], dtype=np.float64),
    }
    rows.tally.used += len(rows)
    job.hold("range_counters", columns, [rows.events[place] for place in row.tolist()])


# --- what describes other events ----------------------------------------------------------


def _read_arrows(job: DistributedJob, events: list[Event]) -> None:
    ends = [e for e in events if e.ph == "f"] if job.needs_arrows else []
    tally = job.tally(names.ARROW)
    tally.rows += len(events) - len(ends)
    tally.used += len(events) - len(ends)
    if ends:
        rows = job.rows(names.ARROW, ends)
        rows.take_moments()
        job.arrows.add(rows)
        tally.used += len(rows)


def _read_metadata(job: DistributedJob, events: list[Event]) -> None:
    tally = job.tally(names.METADATA)
    tally.rows += len(events)
    tally.used += len(events)
    for event in events:
        job.places.describe(event)
    job.learn_signs(e.args.name for e in events if e.args and e.name == "process_name")


def _read_said_twice(job: DistributedJob, events: list[Event]) -> None:
    rows = job.rows(names.SAID_TWICE, events)
    rows.tally.used += len(events)
    whole = [e for e in events if e.ph == "X" and str(e.cat).lower() == "trace"]
    if whole:
        job.duration_ns = max(job.duration_ns, *(rows.length_of(e) for e in whole))


def _count_other(job: DistributedJob, kind: str, code: str, examples: set[str], count: int) -> None:
    words = ", ".join(printable(s, "")[:40] for s in sorted(examples)[:4])
    tally = job.tally(kind)
    tally.rows += count
    tally.note(code, EXCLUDED, f"events of a kind that is not analysed ({words})", count)


def _count_other_phases(job: DistributedJob, events: list[Event]) -> None:
    phases = {f"phase {e.ph}" for e in events}
    _count_other(job, names.OTHER_PHASE, "json_unknown_phase", phases, len(events))


def _count_other_categories(job: DistributedJob, events: list[Event]) -> None:
    categories = {str(e.cat) if e.cat is not None else "without a category" for e in events}
    job.learn_signs(categories)
    job.learn_signs(e.pid for e in events)
    _count_other(job, names.OTHER_CATEGORY, "unknown_category", categories, len(events))


def _positive(ids: Array) -> Array:
    return np.where(ids > 0, ids, NOT_RECORDED)


_READERS: dict[str, Callable[[DistributedJob, list[Event]], None]] = {
    names.KERNEL: _read_kernels,
    names.COPY: _read_copies,
    names.MEMSET: _read_memsets,
    names.API: _read_api_calls,
    names.OPERATOR: _read_operators,
    names.PYTHON: _read_python,
    names.ANNOTATION: _read_ranges,
    names.SYNC: _read_syncs,
    names.OVERHEAD: _read_overheads,
    names.INSTANT: _read_moments,
    names.ARROW: _read_arrows,
    names.METADATA: _read_metadata,
    names.SAID_TWICE: _read_said_twice,
    names.OTHER_PHASE: _count_other_phases,
    names.OTHER_CATEGORY: _count_other_categories,
}
