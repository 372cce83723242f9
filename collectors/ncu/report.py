"""``.ncu-rep`` reports, read without any software of NVIDIA.

The container is documented (Nsight Compute, Customization Guide, "Report File Format"), and the
message definitions are shipped with the tool. A file is four bytes of magic, a header, then
blocks. Each block has a header, which tells how many results follow it, and adds to a table of
strings that holds for the whole file; a metric names itself by its place in that table.

Messages are decoded as ``report.proto`` says: sections, source code and stored rule results are
stepped over. What leads out of a message ends the reading; what came before it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from google.protobuf.message import DecodeError

from collectors.ncu import report_pb2 as messages
from collectors.ncu.launches import Profiled
from collectors.schema import NOT_RECORDED, ProfiledKind

MAGIC = b"NVR\0"
MAX_HEADER_BYTES = 64 << 20  # strings and session details of one block; 0.2 MB were seen
MAX_INSTANCES = 1 << 18  # of one metric of one launch; 13,000 were seen
MAX_TIME_S = 1 << 33  # the year 2242
MAX_TEXT_BYTES = 1 << 20
MAX_PLACE = 1 << 62

_SIZE = struct.Struct("<I")
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
    """One block: its header, the process that it is about, and the entries that follow."""

    header: Any
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
        header = _parsed(messages.BlockHeader, _header(file))
        self._strings += map(_text, header.strings.texts)
        self._read_session(header.session)
        # A block that was cut off still holds the entries that are whole. Nothing is reserved for
        # what a damaged size promises.
        payload = memoryview(file.read(min(header.payload_bytes, file_bytes - file.tell())))
        return _Block(
            header=header,
            process=_small(header.process, "pid"),
            process_name=_text(header.process.path).replace("\\", "/").rpartition("/")[2],
            payload=payload,
            is_cut=len(payload) < header.payload_bytes,
        )

    def _read_session(self, session: Any) -> None:
        version, created = self.session
        if session.HasField("created_s"):
            created = session.created_s if session.created_s <= MAX_TIME_S else NOT_RECORDED
        for tool in session.tools:
            version = _text(tool.version)[:40] if _text(tool.name) == _TARGET else version
        self.session = NcuSession(version, created)

    def _results(self, block: _Block) -> Iterator[Profiled]:
        """Yield the launches of one block; the entries come by kind, in a fixed order."""
        place, header = 0, block.header
        kinds = (
            (None, "source", header.sources),
            (ProfiledKind.KERNEL, "result", header.results),
            (ProfiledKind.RANGE, "range", header.ranges),
            (None, "graph", header.graphs + header.command_lists),
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

    def _launch(self, entry: View, kind: ProfiledKind, block: _Block) -> Profiled:
        is_kernel = kind is ProfiledKind.KERNEL
        result = _parsed(messages.KernelResult if is_kernel else messages.RangeResult, entry)
        launch = Profiled(
            name=f"range {self.used}",
            number=self.used,
            kind=kind,
            process=block.process,
            process_name=block.process_name,
            context=_small(result, "context"),
        )
        if is_kernel:
            name = result.demangled or result.function or result.mangled
            launch.name = _text(name) or launch.name
            launch.stream = _small(result, "stream")
            for side, axes in (("grid", result.grid), ("block", result.block)):
                launch.shape |= {f"{side}_{axis.name}": size for axis, size in axes.ListFields()}
        for metric in result.metrics:
            self._read_metric(launch, _parsed(messages.Metric, metric))
        return launch

    def _read_metric(self, launch: Profiled, metric: Any) -> None:
        name = self._metric_name(metric.name_place) if metric.HasField("name_place") else ""
        value = _value(metric.value)
        if len(metric.parts) > MAX_INSTANCES:
            raise WireError("a metric with too many parts")
        if name in launch.numbers or name in launch.texts:
            if value not in (launch.numbers.get(name), launch.texts.get(name)):
                text = "metrics with two values for one launch; the first counts"
                self._note("metric_ambiguous", "noted", text)
            return
        _store(launch, name, value)
        if parts := _parts(metric.parts):
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


def _parts(entries: Sequence[bytes]) -> list[tuple[int | str, float]]:
    """Return what each part of a metric stands for, and its value, if that is a number."""
    parts: list[tuple[int | str, float]] = []
    for entry in entries:
        part = _parsed(messages.Part, entry)
        of, value = _value(part.of), _value(part.value)
        if isinstance(of, float):
            of = int(of) if abs(of) < MAX_PLACE else None  # also None for not-a-number
        if isinstance(value, float | int):
            parts.append((len(parts) if of is None else of, float(value)))
    return parts


def _value(message: Any) -> float | int | str | None:
    """Return what a value holds: a text, a number of one of four kinds, or nothing."""
    kind = message.WhichOneof("kind")
    value: float | int | bytes | None = getattr(message, kind) if kind else None
    return _text(value) if isinstance(value, bytes) else value


def _parsed(kind: Any, message: View | bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise WireError("within a message") from None


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


def _text(value: bytes) -> str:
    return value[:MAX_TEXT_BYTES].decode("utf-8", "replace")


def _small(message: Any, field: str) -> int:
    """Return a number that a column can hold; ``NOT_RECORDED`` for others and for none."""
    value: int = getattr(message, field)
    return value if message.HasField(field) and value < MAX_PLACE else NOT_RECORDED
