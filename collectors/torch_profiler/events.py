"""Events of a torch profiler trace, decoded into typed objects; numbers of them as columns.

Times are decimal microseconds. As floating-point numbers they would lose nanoseconds from 2^43
microseconds on, and traces that count from 1970 lie beyond that, so their digits are kept as text
until whole columns of them become integer nanoseconds.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collectors.schema import NOT_RECORDED, Array

MAX_TIME_NS = 1 << 61  # the year 2043 on a clock that counts from 1970; sums stay within 64 bits
NO_TIME = -(1 << 63)  # stands where a time is absent or no number
_MAX_DIGITS = 22  # before the decimal point; more is no time, and would only take time
_MAX_EXACT = 60  # characters of a number; of one with hundreds Arrow returns a wrong one
_NS_PER_US = 1_000
_NOTHING = msgspec.Raw(b"")


_NAMES = {
    "registers": "registers per thread",
    "shared_memory": "shared memory",
    "graph_node": "graph node id",
    "external_id": "External id",
    "sequence": "Sequence number",
    "forward_thread": "Fwd thread id",
    "shapes": "Input Dims",
    "shapes_2021": "Input dims",
    "types": "Input type",
    "strides": "Input Strides",
    "values": "Concrete Inputs",
    "options": "kernel_kwargs",
    "sync_kind": "cuda_sync_kind",
    "device_type": "Device Type",
    "device_id": "Device Id",
    "address": "Addr",
    "size_bytes": "Bytes",
    "allocated": "Total Allocated",
    "reserved": "Total Reserved",
    "collective": "Collective name",
    "data_type": "dtype",
    "elements_in": "In msg nelems",
    "elements_out": "Out msg nelems",
    "group_size": "Group size",
    "group": "Process Group Name",
    "group_ranks": "Process Group Ranks",
    "group_sequence": "Seq",
}


class Arguments(msgspec.Struct, gc=False, rename=_NAMES):
    """What an event says about itself, as far as anything here reads it."""

    correlation: Any = None
    device: Any = None
    stream: Any = None
    bytes: Any = None
    kind: Any = None
    grid: Any = None
    block: Any = None
    registers: Any = None
    shared_memory: Any = None
    graph_node: Any = None
    external_id: Any = None
    sequence: Any = None
    forward_thread: Any = None
    shapes: msgspec.Raw = _NOTHING
    shapes_2021: msgspec.Raw = _NOTHING
    types: msgspec.Raw = _NOTHING
    strides: msgspec.Raw = _NOTHING
    values: msgspec.Raw = _NOTHING
    options: Any = None
    sync_kind: Any = None
    device_type: Any = None
    device_id: Any = None
    address: Any = None
    size_bytes: Any = None
    allocated: Any = None
    reserved: Any = None
    collective: Any = None
    data_type: Any = None
    elements_in: Any = None
    elements_out: Any = None
    group_size: Any = None
    group: Any = None
    group_ranks: Any = None
    group_sequence: Any = None
    name: Any = None
    labels: Any = None


class Event(msgspec.Struct, gc=False):
    """One event; what is not there is None. Times are kept as they were written."""

    ph: Any = None
    cat: Any = None
    name: Any = None
    pid: Any = None
    tid: Any = None
    ts: msgspec.Raw = _NOTHING
    dur: msgspec.Raw = _NOTHING
    id: Any = None
    args: Arguments | None = None


class CounterRange(msgspec.Struct, gc=False):
    """An event whose arguments are hardware counters under their own names."""

    args: msgspec.Raw = _NOTHING


NO_ARGUMENTS = Arguments()

_DECODER = msgspec.json.Decoder(list[Event])
_COUNTERS = msgspec.json.Decoder(list[CounterRange])
_SLOW_DECODER = json.JSONDecoder(strict=False, parse_float=Decimal)
_AS_WRITTEN = {f.name for f in msgspec.structs.fields(Arguments) if f.type is msgspec.Raw}
_FIELDS = {field.encode_name: field.name for field in msgspec.structs.fields(Arguments)}


def decode(text: bytes) -> list[Event] | None:
    """Decode a JSON array of events; None when anything in it is not as expected."""
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_counters(texts: bytes | list[bytes], places: Iterable[int]) -> list[dict[str, float]]:
    """Decode the arguments of some events once more: all that are finite numbers.

    Args:
        texts: The array that the events were decoded from, or the text of each.
        places: Of the events in it.
    """
    if isinstance(texts, bytes):
        ranges = _COUNTERS.decode(texts)
        raw = (_leniently(bytes(ranges[place].args)) for place in places)
    else:
        events = (_leniently(texts[place]) for place in places)
        raw = (e.get("args") if isinstance(e, dict) else None for e in events)
    return [_numbers(arguments) for arguments in raw]


def _numbers(arguments: object) -> dict[str, float]:
    numbers = {}
    for name, value in arguments.items() if isinstance(arguments, dict) else ():
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # more digits than any counter has
                numbers[name] = float(value)
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _leniently(text: bytes) -> object:
    """Return what a text that is not quite JSON holds; None when it holds nothing."""
    try:
        return _SLOW_DECODER.decode(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError, InvalidOperation):
        return None


def decode_leniently(text: bytes) -> Event | None:
    """Decode one event that is not quite JSON; None when it is no event at all.

    Bytes that are not UTF-8 become U+FFFD, control characters and NaN are let through, the last
    of several equal keys counts.
    """
    raw = _leniently(text)
    if not isinstance(raw, dict):
        return None
    raw_arguments = raw.get("args")
    arguments = None
    if isinstance(raw_arguments, dict):
        values = {_FIELDS[k]: v for k, v in raw_arguments.items() if k in _FIELDS}
        for name in _AS_WRITTEN & values.keys():
            values[name] = msgspec.Raw(json.dumps(values[name], default=str).encode())
        arguments = Arguments(**values)
    plain = {k: raw.get(k) for k in ("ph", "cat", "name", "pid", "tid", "id")}
    return Event(**plain, ts=_as_raw(raw.get("ts")), dur=_as_raw(raw.get("dur")), args=arguments)


def _as_raw(value: object) -> msgspec.Raw:
    return _NOTHING if value is None else msgspec.Raw(str(value).encode("utf-8", "replace"))


def joined(begin: Event, first: int, last: int) -> Event:
    """Return one event for the one that marks its begin.

    Args:
        begin: That event.
        first: Its time in ns, ``NO_TIME`` when it has no usable one.
        last: The time of its end, likewise.
    """
    if NO_TIME in (first, last):
        return msgspec.structs.replace(begin, ph="X", dur=_NOTHING)
    length = abs(last - first)
    sign = "-" if last < first else ""
    text = f"{sign}{length // _NS_PER_US}.{length % _NS_PER_US:03}"
    return msgspec.structs.replace(begin, ph="X", dur=msgspec.Raw(text.encode()))


def kept(event: Event) -> Event:
    """Return an event that may outlive its batch: its texts are parts of the batch otherwise."""
    arguments = event.args
    if arguments is not None:
        copies = {name: getattr(arguments, name).copy() for name in _AS_WRITTEN}
        arguments = msgspec.structs.replace(arguments, **copies)
    return msgspec.structs.replace(event, ts=event.ts.copy(), dur=event.dur.copy(), args=arguments)


def nanoseconds(texts: Iterable[msgspec.Raw]) -> Array:
    """Return decimal microseconds as whole nanoseconds; ``NO_TIME`` for what is no number."""
    return times(texts)[0]


def times(texts: Iterable[msgspec.Raw]) -> tuple[Array, int]:
    """Return the same, and how many of the numbers stand in quotes."""
    raw = list(map(bytes, texts))
    rounded = _exact(raw) if max(map(len, raw), default=0) <= _MAX_EXACT else None
    if rounded is None:
        quoted = sum(text.startswith(b'"') for text in raw)
        return np.array([_nanoseconds(text) for text in raw], dtype=np.int64), quoted
    return np.where(np.abs(rounded) <= MAX_TIME_NS, rounded, NO_TIME), 0


def _exact(raw: list[bytes]) -> Array | None:
    """Return decimal microseconds as nanoseconds; None when one of them is no plain number."""
    try:
        exact = pc.cast(pa.array(raw, pa.string()), pa.decimal128(30, 9))
        rounded = pc.round(pc.multiply(exact, _THOUSAND)).cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    whole: Array = rounded.to_numpy(zero_copy_only=False)
    return whole


_THOUSAND = pa.scalar(Decimal(_NS_PER_US), pa.decimal128(4, 0))


def _nanoseconds(text: bytes) -> int:
    try:
        number = Decimal(text.strip(b' "').decode("ascii"))
    except (InvalidOperation, UnicodeDecodeError):
        return NO_TIME
    if not number.is_finite() or number.adjusted() > _MAX_DIGITS:
        return NO_TIME
    value = round(number * _NS_PER_US)
    return value if abs(value) <= MAX_TIME_NS else NO_TIME


def integers(values: Sequence[Any]) -> tuple[Array, int]:
    """Return a column of whole numbers, -1 where there is none, and how many were unusable.

    Numbers in quotes are numbers; what is absent is not unusable. Ids of 64 bits without a sign
    keep their bits: they only have to be equal where they were equal.
    """
    kinds = set(map(type, values))
    if kinds <= {int}:
        try:
            return np.array(values, dtype=np.int64), 0
        except OverflowError:
            pass
    if kinds <= {type(None)}:
        return np.full(len(values), NOT_RECORDED, np.int64), 0
    numbers = [whole_number(v) for v in values]
    odd = sum(n is None for n, v in zip(numbers, values, strict=True) if v is not None)
    return np.array([NOT_RECORDED if n is None else n for n in numbers], dtype=np.int64), odd


def whole_number(value: object) -> int | None:
    """Return a whole number of 64 bits, which may stand as text; None for everything else."""
    if isinstance(value, str):
        value = int(value) if _DIGITS.fullmatch(value) else None
    elif isinstance(value, (float, Decimal)):
        value = int(value) if -(2.0**64) < value < 2.0**64 else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    if -(1 << 63) <= value < 1 << 63:
        return value
    return value - (1 << 64) if 0 < value < 1 << 64 else None


_DIGITS = re.compile(r"\s*-?[0-9]{1,20}\s*")
