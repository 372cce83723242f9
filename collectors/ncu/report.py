"""``.ncu-rep`` reports, read without any software of NVIDIA.

The container is documented (Nsight Compute, Customization Guide, "Report File Format"), and the
message definitions are shipped with the tool. A file is four bytes of magic, a header, then
blocks. Each block has a header, which tells how many results follow it, and adds to a table of
strings that holds for the whole file; a metric names itself by its place in that table. A block
may name metrics that only a later block adds, so all tables are read before the first result.

Messages are decoded as ``report.proto`` says: sections and source code are stepped over. A metric
whose name is in no table is left out alone. What leads out of a message ends the reading; what
came before it is kept.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from google.protobuf.message import DecodeError

from collectors.ncu import report_pb2 as messages
from collectors.ncu.launches import MAX_RULES, Profiled, RuleResult
from collectors.schema import NOT_RECORDED, ProfiledKind, RuleKind, SpeedupScope

MAGIC = b"NVR\0"
MAX_HEADER_BYTES = 64 << 20  # strings and session details of one block; 0.2 MB were seen
MAX_PARTS = 1 << 20  # of all metrics of one launch; 200,000 were seen
MAX_STRINGS = 1 << 20  # of all tables; 3,000 were seen
# A decoded field takes 16 bytes or more, however short it is written: a few megabytes of empty ones
# would fill the memory. Shorter messages cannot, and are not counted through.
MAX_FIELDS = 1 << 18  # of one message, the parts of a metric included; 2,500 were seen beside those
UNCOUNTED_BYTES = 1 << 18
MAX_TIME_S = 1 << 33  # the year 2242
MAX_TEXT_BYTES = 1 << 20
MAX_PLACE = 1 << 62
MAX_VARINT_BITS = 70

_SIZE = struct.Struct("<I")
_TARGET = "Nsight Compute Target"
_STRINGS, _SESSION, _BODY = 4, 3, 3  # fields that hold any number of fields themselves
_FIXED_BYTES = {1: 8, 5: 4}  # by wire type
_LINK = re.compile(r"@(?:section|source):[^:@]*:([^@]*)@|@url:([^:@]*):[^@]*@")

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
        self._parts = 0
        self.session = NcuSession()
        self.rows = self.used = 0
        self.done = 0.0

    def __iter__(self) -> Iterator[Profiled]:
        with self._path.open("rb") as file:
            size = self._path.stat().st_size
            try:
                file.seek(len(MAGIC))
                _header(file)
                self._strings = list(itertools.islice(_all_strings(file, size), MAX_STRINGS))
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
        header = _block_header(file)
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
            self._read_rules(launch, result.rules[:MAX_RULES])
        self._parts = 0
        for metric in result.metrics:
            self._read_metric(launch, _parsed(messages.Metric, metric))
        return launch

    def _read_rules(self, launch: Profiled, results: Sequence[bytes]) -> None:
        try:
            launch.rules = list(_rules(results))
        except WireError:
            message = "launches of which results of Nsight Compute's own rules are damaged"
            self._note("rule_damaged", "excluded", message)

    def _read_metric(self, launch: Profiled, metric: Any) -> None:
        name = self._metric_name(metric)
        if not name:
            message = "metrics whose name is in no table of the report"
            self._note("metric_unnamed", "excluded", message)
            return
        value = _value(metric.value)
        if name in launch.numbers or name in launch.texts:
            if value not in (launch.numbers.get(name), launch.texts.get(name)):
                text = "metrics with two values for one launch; the first counts"
                self._note("metric_ambiguous", "noted", text)
            return
        _store(launch, name, value)
        self._parts += len(metric.parts)
        if self._parts > MAX_PARTS:
            raise WireError("a launch with too many parts")
        if parts := _parts(metric.parts):
            launch.instances[name] = parts

    def _metric_name(self, metric: Any) -> str:
        """Return the name of a metric, empty when no block has it."""
        place = metric.name_place if metric.HasField("name_place") else len(self._strings)
        return self._strings[place] if place < len(self._strings) else ""


def _all_strings(file: BinaryIO, file_bytes: int) -> Iterator[str]:
    """Yield the names that all blocks of a report tell, and go back to where the file was."""
    begin = file.tell()
    try:
        while file.tell() < file_bytes:
            header = _block_header(file)
            yield from map(_text, header.strings.texts)
            file.seek(min(header.payload_bytes, file_bytes - file.tell()), io.SEEK_CUR)
    except WireError:
        pass  # the end of what can be read; it is told when the results before it were
    finally:
        file.seek(begin)


def _block_header(file: BinaryIO) -> Any:
    return _parsed(messages.BlockHeader, _header(file), nested=(_STRINGS, _SESSION))


def _rules(results: Sequence[bytes]) -> Iterator[RuleResult]:
    """Yield what the tool's own rules said about a launch; a rule without a word said nothing."""
    for result in results:
        rule = _parsed(messages.Rule, result, nested=(_BODY,))
        for entry in rule.body.items:
            item = _parsed(messages.RuleItem, entry)
            text = " ".join(_LINK.sub(_link_words, _text(item.message.text)).split())
            if not text:
                continue
            is_kind = item.message.kind in RuleKind.__members__.values()
            has_speedup = item.HasField("speedup") and math.isfinite(item.speedup.pct)
            scope = item.speedup.scope
            yield RuleResult(
                rule=_text(rule.name),
                kind=RuleKind(item.message.kind) if is_kind else RuleKind.NOTHING,
                text=text,
                scope=(SpeedupScope(scope) if scope in (1, 2) else SpeedupScope.UNKNOWN)
                if has_speedup
                else None,
                speedup_pct=item.speedup.pct if has_speedup else math.nan,
            )


def _link_words(link: re.Match[str]) -> str:
    return str(link[1] or link[2] or "")


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


def _check_fields(message: View | bytes, nested: Sequence[int] = ()) -> None:
    """Refuse a message of more fields than any report has, before they are decoded.

    Args:
        message: The message.
        nested: Numbers of its fields whose own fields are counted, too.

    Raises:
        WireError: It has more, or cannot be counted through.
    """
    for number, value in _fields(memoryview(message)):
        if number in nested:
            _check_fields(value)


def _fields(view: View) -> Iterator[tuple[int, View]]:
    """Yield number and bytes of the fields of a message; those of numbers have no bytes.

    Raises:
        WireError: There are more than ``MAX_FIELDS``, or one leads out of the message.
    """
    place = count = 0
    while place < len(view):
        key, place = _varint(view, place)
        kind, size = key & 7, _FIXED_BYTES.get(key & 7, 0)
        if kind == 0:
            _, place = _varint(view, place)
        elif kind == 2:
            size, place = _varint(view, place)
        count += 1
        if count > MAX_FIELDS or place + size > len(view) or kind not in (0, 1, 2, 5):
            raise WireError("within a message" if count <= MAX_FIELDS else "too many fields")
        yield key >> 3, view[place : place + size]
        place += size


def _varint(view: View, place: int) -> tuple[int, int]:
    """Return a number that is written in pieces of seven bits, and where it ends."""
    number = shift = 0
    while place < len(view) and shift < MAX_VARINT_BITS:
        byte = view[place]
        place, number, shift = place + 1, number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return number, place
    raise WireError("within a message")


def _parsed(kind: Any, message: View | bytes, nested: Sequence[int] = ()) -> Any:
    if len(message) > UNCOUNTED_BYTES:
        _check_fields(message, nested)
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
