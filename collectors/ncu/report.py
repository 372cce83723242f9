"""``.ncu-rep`` reports, read without any software of NVIDIA.

The container is documented (Nsight Compute, Customization Guide, "Report File Format"), and the
message definitions are shipped with the tool. A file is four bytes of magic, a header, then
blocks. Each block has a header, which tells how many results follow it, and adds to a table of
strings that holds for the whole file; a metric names itself by its place in that table.

Messages are decoded by field number, and only those that are asked for: sections, source code and
stored rule results are stepped over. A number that leads out of its message ends the reading;
what came before it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from collectors.ncu.launches import Profiled
from collectors.schema import NOT_RECORDED, ProfiledKind

MAGIC = b"NVR\0"
MAX_HEADER_BYTES = 64 << 20  # strings and session details of one block; 0.2 MB were seen
MAX_INSTANCES = 1 << 18  # of one metric of one launch; 13,000 were seen
MAX_TIME_S = 1 << 33  # the year 2242
MAX_TEXT_BYTES = 1 << 20
MAX_PLACE = 1 << 62

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_DOUBLE, _FLOAT, _SIZE = struct.Struct("<d"), struct.Struct("<f"), struct.Struct("<I")

_TARGET = "Nsight Compute Target"

Note = Callable[[str, str, str], None]
View = memoryview  # of a block: nothing is copied


class WireError(ValueError):
    """Bytes that are no message."""


class NcuSession(NamedTuple):
    """What a report says about its own making."""

    tool_version: str = ""
    created_s: int = NOT_RECORDED


class _Block(NamedTuple):
    """One block: how many entries of each kind follow, and where."""

    sources: int
    results: int
    ranges: int
    others: int
    process: int
    process_name: str
    payload: View
    is_cut: bool


class NcuReport:
    """One report; iterate over it for its launches, in the order in which they were profiled.

    Args:
        path: The file.
        note: Called with code, effect and message of everything that is odd.
    """

    def __init__(self, path: Path, note: Note) -> None:
        self._path, self._note = path, note
        self._strings: list[str] = []
        self.session = NcuSession()
        self.rows = self.used = 0
        self.done = 0.0

    def __iter__(self) -> Iterator[Profiled]:
        with self._path.open("rb") as file:
            size = self._path.stat().st_size
            try:
                file.seek(len(MAGIC))
                _header(file)
                while file.tell() < size:
                    block = self._block(file, size)
                    self.done = file.tell() / size
                    yield from self._results(block)
                    if block.is_cut:
                        self._cut(WireError("before the end of a block"))
            except WireError as error:
                self._cut(error)

    def _cut(self, error: WireError) -> None:
        message = f"the report is cut off or damaged, {error}; what comes before was read"
        self._note("report_damaged", "excluded", message)

    def _block(self, file: BinaryIO, file_bytes: int) -> _Block:
        header = _header(file)
        counts = {1: 0, 2: 0, 7: 0, 8: 0, 9: 0}
        size, process, process_name = 0, NOT_RECORDED, ""
        for number, value in _fields(header):
            if number in counts and isinstance(value, int):
                counts[number] = value
            elif number == 3 and isinstance(value, View):
                self._read_session(value)
            elif number == 4 and isinstance(value, View):
                self._strings += [_text(v) for n, v in _fields(value) if n == 1]
            elif number == 5 and isinstance(value, int):
                size = value
            elif number == 6 and isinstance(value, View):
                process, process_name = _process(value)
        # A block that was cut off still holds the entries that are whole. Nothing is reserved for
        # what a damaged size promises.
        payload = memoryview(file.read(min(size, file_bytes - file.tell())))
        return _Block(
            sources=counts[1],
            results=counts[2],
            ranges=counts[7],
            others=counts[8] + counts[9],
            process=process,
            process_name=process_name,
            payload=payload,
            is_cut=len(payload) < size,
        )

    def _read_session(self, message: View) -> None:
        version, created = self.session
        for number, value in _fields(message):
            if number == 2 and isinstance(value, int):
                created = value if value <= MAX_TIME_S else NOT_RECORDED
            elif number == 8 and isinstance(value, View):
                told = {n: _text(v) for n, v in _fields(value)}
                version = told.get(2, "")[:40] if told.get(1) == _TARGET else version
        self.session = NcuSession(version, created)

    def _results(self, block: _Block) -> Iterator[Profiled]:
        """Yield the launches of one block; the entries come by kind, in a fixed order."""
        place = 0
        kinds = (
            *((None, "source", block.sources), (ProfiledKind.KERNEL, "result", block.results)),
            *((ProfiledKind.RANGE, "range", block.ranges), (None, "graph", block.others)),
        )
        for kind, what, count in kinds:
            for _ in range(count):
                entry, place = _sized(block.payload, place, f"a {what}")
                if kind is not None:
                    self.rows += 1
                    yield self._launch(entry, kind, block)
                    self.used += 1
            if what == "graph" and count:
                message = "results of whole graphs or command lists, which are not read"
                self._note("profiled_graphs", "noted", message)

    def _launch(self, message: View, kind: ProfiledKind, block: _Block) -> Profiled:
        launch = Profiled(
            name="", kind=kind, process=block.process, process_name=block.process_name
        )
        launch.number = self.used
        metrics = 13 if kind is ProfiledKind.KERNEL else 4
        names: dict[int, str] = {}
        for number, value in _fields(message):
            if number == metrics and isinstance(value, View):
                self._read_metric(launch, value)
            elif kind is ProfiledKind.RANGE:
                if number == 11 and isinstance(value, int):
                    launch.context = _small(value)
            elif number in (5, 6, 7) and isinstance(value, View):
                names[number] = _text(value)
            elif number in (10, 11) and isinstance(value, View):
                axes = dict(zip((1, 2, 3), "xyz", strict=True))
                side = "grid" if number == 10 else "block"
                for axis, size in _fields(value):
                    if axis in axes and isinstance(size, int):
                        launch.shape[f"{side}_{axes[axis]}"] = size
            elif number == 22 and isinstance(value, int):
                launch.context = _small(value)
            elif number == 23 and isinstance(value, int):
                launch.stream = _small(value)
        range_name = f"range {self.used}"
        launch.name = next((names[n] for n in (7, 6, 5) if names.get(n)), range_name)
        return launch

    def _read_metric(self, launch: Profiled, message: View) -> None:
        name, value = "", None
        parts: list[tuple[int | str, float]] = []
        for number, field in _fields(message):
            if number == 1 and isinstance(field, int):
                name = self._metric_name(field)
            elif number == 2 and isinstance(field, View):
                value = _value(field)
            elif number == 3 and isinstance(field, View):
                of, part = _part(field)
                if part is not None:
                    parts.append((len(parts) if of is None else of, part))
                if len(parts) > MAX_INSTANCES:
                    raise WireError("a metric with too many parts")
        if name in launch.numbers or name in launch.texts:
            if value not in (launch.numbers.get(name), launch.texts.get(name)):
                text = "metrics with two values for one launch; the first counts"
                self._note("metric_ambiguous", "noted", text)
            return
        _store(launch, name, value)
        if parts:
            launch.instances[name] = parts

    def _metric_name(self, place: int) -> str:
        if place >= len(self._strings):
            raise WireError("a metric without a name")
        return self._strings[place]


def _store(launch: Profiled, name: str, value: float | int | str | None) -> None:
    if isinstance(value, str):
        if value:
            launch.texts[name] = value
    elif value is not None:
        launch.numbers[name] = float(value)


def _part(message: View) -> tuple[int | str | None, float | None]:
    """Return what one part of a metric stands for, and its value; None for what is not told."""
    found: dict[int, float | int | str | None] = {}
    for number, field in _fields(message):
        if number in (1, 2) and isinstance(field, View):
            found[number] = _value(field)
    of, value = found.get(1), found.get(2)
    if isinstance(of, float):
        of = int(of) if abs(of) < MAX_PLACE else None  # also None for not-a-number
    return of, None if isinstance(value, str) or value is None else float(value)


def _value(message: View) -> float | int | str | None:
    """Return what a value holds: a text, a number of one of four kinds, or nothing."""
    result: float | int | str | None = None
    for number, field in _fields(message):
        if number == 1:
            result = _text(field)
        elif number in (2, 3, 4, 5) and not isinstance(field, View):
            result = field
    return result


def _process(message: View) -> tuple[int, str]:
    pid, name = NOT_RECORDED, ""
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            pid = _small(value)
        elif number == 3:
            name = _text(value).replace("\\", "/").rpartition("/")[2]
    return pid, name


def _header(file: BinaryIO) -> View:
    """Read the header of the file or of a block, which begins with its own size."""
    place = file.tell()
    head = file.read(_SIZE.size)
    size = int(_SIZE.unpack(head)[0]) if len(head) == _SIZE.size else -1
    message = file.read(size) if 0 <= size <= MAX_HEADER_BYTES else b""
    if len(message) != size:
        raise WireError(f"within a header at byte {place:,}")
    return memoryview(message)


def _sized(view: View, place: int, what: str) -> tuple[View, int]:
    """Return the message at ``place``, which begins with its own size, and where it ends."""
    start = place + _SIZE.size
    if start > len(view):
        raise WireError(f"within {what}")
    size = int(_SIZE.unpack_from(view, place)[0])
    if start + size > len(view):
        raise WireError(f"within {what}")
    return view[start : start + size], start + size


def _fields(message: View) -> Iterator[tuple[int, int | float | View]]:
    """Yield number and value of each field of a message, in the order of the wire."""
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        size, place = _size_of(message, kind, place)
        if place + size > end:
            raise WireError("a field that is longer than its message")
        if kind == _BYTES:
            yield key >> 3, message[place : place + size]
        elif kind == _FIXED_64:
            yield key >> 3, float(_DOUBLE.unpack_from(message, place)[0])
        else:
            yield key >> 3, float(_FLOAT.unpack_from(message, place)[0])
        place += size


def _size_of(message: View, kind: int, place: int) -> tuple[int, int]:
    """Return the size of a field that is no varint, and where it begins."""
    if kind == _BYTES:
        return _varint(message, place)
    if kind in (_FIXED_64, _FIXED_32):
        return (8 if kind == _FIXED_64 else 4), place
    raise WireError("a field of an unknown kind")


def _varint(message: View, place: int) -> tuple[int, int]:
    """Return a number of one to ten bytes, and where it ends."""
    result = shift = 0
    try:
        byte = message[place]
        if byte < 0x80:  # as most are: names of fields, sizes, small numbers
            return byte, place + 1
        while True:
            byte = message[place]
            place += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result & 0xFFFF_FFFF_FFFF_FFFF, place
            shift += 7
            if shift > 63:
                raise WireError("a number that does not end")
    except IndexError:
        raise WireError("a number that does not end") from None


def _text(value: int | float | View) -> str:
    if not isinstance(value, View):
        raise WireError("a text that is a number")
    return bytes(value[:MAX_TEXT_BYTES]).decode("utf-8", "replace")


def _small(value: int) -> int:
    return value if value < 1 << 62 else NOT_RECORDED
