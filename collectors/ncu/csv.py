"""CSV that Nsight Compute prints: ``--page raw``, and ``--page details`` (also the default page).

The raw page has one row per launch, one column per metric, and a row of units below its header.
The details page has one row per metric, with a label instead of most names; its rows are of
several lengths. Both are often redirected from a terminal, so that messages of the tool and
output of the program stand before, and between, the rows. A row is told by its first cell, which
is a number in quotes, and may go on over several lines where a text holds line breaks.
"""

from __future__ import annotations

import csv
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from collectors.ncu.labels import metric_of
from collectors.ncu.launches import MAX_RULES, MAX_TEXT, Profiled, RuleResult
from collectors.ncu.numbers import (
    ABSENT,
    MAX_CELL,
    NumberMarks,
    is_impossible,
    marks,
    number,
    scale,
)
from collectors.schema import NOT_RECORDED, RuleKind, SpeedupScope

SNIFFED_BYTES = 1 << 20  # a program may have printed this much before the first row
MAX_LINES = 200  # of one row; a rule's text has a few
MAX_ROW = 64 << 20  # characters
MAX_SHAPE = 200  # characters of a grid, such as "(1024, 1, 1)"
MAX_COLUMNS = 100_000
MAX_OPEN = 1_000  # launches whose rows may still go on; they stand together as a rule
DELIMITERS = ",;\t"

_ID, _KERNEL, _METRIC, _VALUE, _UNIT = (
    "ID",
    "Kernel Name",
    "Metric Name",
    "Metric Value",
    "Metric Unit",
)
_SECTION, _RULE = "Section Name", "Rule Name"
_DESCRIBING = frozenset(
    (
        *(_ID, "Process ID", "Process Name", "Host Name", _KERNEL, "Kernel Time", "Context"),
        *("Stream", "Block Size", "Grid Size", "Device", "CC", _SECTION, "Body Item Label"),
        *(_METRIC, _UNIT, _VALUE, _RULE, "Rule Type", "Rule Description"),
        *(
            "Estimated Speedup Type",
            "Estimated Speedup",
            "Range Name",
            "thread Domain:Push/Pop_Range",
        ),
    )
)
_NVTX = re.compile(r"(?:Push/Pop|Start/End)", re.IGNORECASE)
_LINK = re.compile(r" ?\(https?://[^)\s]*\)")  # behind the words that it explains
_PERMISSION = "ERR_NVGPUCTRPERM"
_KINDS = {
    **dict.fromkeys(("OK", "INF", "INFO"), RuleKind.FINE),
    **dict.fromkeys(("WRN", "WARNING"), RuleKind.WARNING),
    **dict.fromkeys(("ERR", "ERROR"), RuleKind.ERROR),
    "OPT": RuleKind.OPTIMIZATION,
}
_SCOPES = {"local": SpeedupScope.LOCAL, "global": SpeedupScope.GLOBAL}

Note = Callable[[str, str, str], None]


@dataclass(eq=False)  # the same header twice begins a new table
class Header:
    """The names of a table's columns, and how its rows are written."""

    columns: list[str]
    delimiter: str

    @property
    def is_details(self) -> bool:
        """Tell whether each row holds one metric, not all of them."""
        return _METRIC in self.columns and _VALUE in self.columns


class CsvTable:
    """One CSV file; iterate over it for its launches, in the order of their first rows.

    Args:
        path: The file.
        note: Called with code, effect and message of everything that is odd.
    """

    def __init__(self, path: Path, note: Note) -> None:
        self._path, self._note = path, note
        self._encoding = encoding(path)
        self.surroundings = Surroundings()
        self.rows = self.used = 0
        self.done = 0.0
        self._passes = 0
        self._marks = NumberMarks()

    def __iter__(self) -> Iterator[Profiled]:
        self._marks = marks(self._cells())
        self._passes = 1
        self.rows = self.used = 0
        self.surroundings = Surroundings()
        rows = self._rows(self._note)
        for header, group in itertools.groupby(rows, key=lambda row: row[0]):
            cells = (row for _, row in group)
            yield from (self._details if header.is_details else self._raw)(header, cells)

    def _cells(self) -> Iterator[str]:
        """Yield every cell that may be a number, to see how numbers are written."""
        for header, cells in self._rows(_nobody):
            if header.is_details:
                place = header.columns.index(_VALUE)
                yield from cells[place : place + 1]
            else:
                named = zip(header.columns, cells, strict=False)
                yield from (cell for name, cell in named if name not in _DESCRIBING)

    def _rows(self, note: Note) -> Iterator[tuple[Header, list[str]]]:
        """Yield each row with the header above it; the row of units is one of them."""
        header: Header | None = None
        for line in self._records(note):
            if (new_header := header_of(line)) is not None:
                if header is not None and header.columns == new_header.columns:
                    message = "headers that stand there again, as of another run; all were read"
                    note("header_repeated", "noted", message)
                header = new_header
            elif header is not None and is_row(line, header.delimiter):
                self.rows += 1
                cells = cells_of(line, header.delimiter)
                if not 0 < len(cells) <= len(header.columns) + 1:
                    note("row_ragged", "excluded", "rows that do not fit their header")
                else:
                    yield header, cells
            else:
                self.surroundings.add(line)

    def _records(self, note: Note) -> Iterator[str]:
        """Yield lines; one with an open quote together with those that close it."""
        with self._path.open(encoding=self._encoding, errors="replace", newline="") as file:
            open_lines: list[str] = []
            size = quotes = 0
            for line in self._followed(iter(functools.partial(file.readline, MAX_ROW), "")):
                if not open_lines and not line.lstrip("\ufeff ").startswith('"'):
                    yield line  # a message, or a table without quotes
                    continue
                open_lines.append(line)
                size += len(line)
                quotes += line.count('"')
                if quotes % 2 == 0:
                    yield "\n".join(open_lines)
                elif len(open_lines) < MAX_LINES and size < MAX_ROW:
                    continue
                else:
                    note("row_unclosed", "excluded", "rows with a quote that is never closed")
                open_lines, size, quotes = [], 0, 0
            if open_lines:
                note("row_unclosed", "excluded", "rows with a quote that is never closed")

    def _followed(self, lines: Iterable[str]) -> Iterator[str]:
        total, read = max(self._path.stat().st_size, 1), 0
        for line in lines:
            read += len(line)
            self.done = (self._passes + min(read / total, 1.0)) / 2
            yield line.rstrip("\r\n").replace("\0", "").replace("\r", " ")

    def _raw(self, header: Header, rows: Iterator[list[str]]) -> Iterator[Profiled]:
        """Yield the launches of a raw page; the row without an ID holds the units."""
        factors: dict[int, float | None] = {}
        units: list[str] = []
        unknown: set[str] = set()
        for cells in rows:
            if not cells[0].strip():
                self.rows -= 1
                if factors:  # the units were told: this is something that the program printed
                    continue
                units = [unit.strip() for unit in cells]
                factors = {i: scale(unit) for i, unit in enumerate(units) if unit}
                unknown = {u for i, u in enumerate(cells) if u.strip() and factors[i] is None}
                continue
            for _ in unknown:
                self._note("unit_unknown", "excluded", "metrics in a unit that is not known")
            launch = self._launch_of(header, cells)
            for place, (name, cell) in enumerate(zip(header.columns, cells, strict=False)):
                if name not in _DESCRIBING and not _NVTX.search(name):
                    unit = units[place] if place < len(units) else ""
                    self._add(launch, name, cell, factors.get(place, 1.0), unit)
            self.used += 1
            yield launch

    def _details(self, header: Header, rows: Iterator[list[str]]) -> Iterator[Profiled]:
        """Yield the launches of a details page: all rows that describe the same one."""
        launches: dict[tuple[str, ...], Profiled] = {}
        told_by = [i for i, name in enumerate(header.columns) if name in _KEY or _NVTX.search(name)]
        for cells in rows:
            row = dict(zip(header.columns, cells, strict=False))
            key = tuple(cells[i] for i in told_by if i < len(cells))
            launch = launches.get(key)
            if launch is None:
                launch = launches[key] = self._launch_of(header, cells)
                if len(launches) > MAX_OPEN:
                    yield launches.pop(next(iter(launches)))
            self.used += 1
            if label := row.get(_METRIC, "").strip():
                self._add_labelled(launch, row, label)
            elif row.get(_RULE) and len(launch.rules) < MAX_RULES:
                launch.rules.append(self._rule(row))
        yield from launches.values()

    def _rule(self, row: Mapping[str, str]) -> RuleResult:
        """Return what a row says that one of the tool's own rules found."""
        scope = _SCOPES.get(row.get("Estimated Speedup Type", "").strip().lower())
        estimate = number(row.get("Estimated Speedup", ""), self._marks)
        return RuleResult(
            rule=row[_RULE][:MAX_TEXT],
            kind=_KINDS.get(row.get("Rule Type", "").strip().upper(), RuleKind.NOTHING),
            text=" ".join(_LINK.sub("", row.get("Rule Description", "")[:MAX_TEXT]).split()),
            scope=scope,
            speedup_pct=math.nan if scope is None or estimate is None else estimate,
        )

    def _add_labelled(self, launch: Profiled, row: Mapping[str, str], label: str) -> None:
        section = row.get(_SECTION, "")
        name = metric_of(section, label)
        if not name:
            name = f"{section}: {label}"
            message = "metrics whose label is not known; they keep section and label as their name"
            self._note("label_unknown", "noted", message)
        unit = row.get(_UNIT, "").strip()
        factor = scale(unit)
        if factor is None:
            self._note("unit_unknown", "excluded", "metrics in a unit that is not known")
        self._add(launch, name, row.get(_VALUE, ""), factor, unit)

    def _launch_of(self, header: Header, cells: list[str]) -> Profiled:
        """Return a launch without metrics, and count numbers of it that no 64 bits hold."""
        columns = zip(header.columns, cells, strict=False)
        counted = (cell for name, cell in columns if name in _COUNTED)
        if any(_is_beyond_64_bits(n) for cell in counted for n in _LONG_NUMBER.findall(cell)):
            message = "launches with a number that does not fit into 64 bits; it is not recorded"
            self._note("number_out_of_range", "repaired", message)
        return _described(header, cells)

    def _add(self, launch: Profiled, name: str, cell: str, factor: float | None, unit: str) -> None:
        """Add one metric in base units; what was not collected or cannot be is left out."""
        text = cell.strip()
        if text.lower() in ABSENT:
            if text:
                message = "metrics that were asked for but not collected (n/a)"
                self._note("metric_absent", "noted", message)
            return
        value = number(text, self._marks)
        if value is None and _LONG_NUMBER.match(text[:MAX_CELL]) and len(text) > MAX_CELL:
            self._note("metric_impossible", "excluded", "metrics of more digits than any has")
        elif value is None:
            launch.texts.setdefault(name, text[:MAX_TEXT])
        elif is_impossible(value, unit):
            message = "metrics with a value that cannot be, such as a negative share"
            self._note("metric_impossible", "excluded", message)
        elif factor is not None:
            value *= factor
            first = launch.numbers.setdefault(name, value)
            if abs(first - value) > 0.005 * abs(first):  # pages round, and round differently
                message = "metrics with two values for one launch; the first counts"
                self._note("metric_ambiguous", "noted", message)


_KEY = frozenset(
    (
        _ID,
        "Process ID",
        _KERNEL,
        "Kernel Time",
        "Context",
        "Stream",
        "Block Size",
        "Grid Size",
        "Device",
    )
)
_COUNTED = ("ID", "Process ID", "Context", "Stream", "Device", "Grid Size", "Block Size")
_LONG_NUMBER = re.compile(r"[0-9]{19,}")  # one of fewer digits fits into 64 bits


class Surroundings:
    """What stands around the rows: messages of the tool, output of the program."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.no_permission = False

    def add(self, line: str) -> None:
        """Look at one line that is no row."""
        self.no_permission |= _PERMISSION in line
        if line.startswith(("==ERROR==", "==WARNING==")) and len(self.errors) < 20:
            self.errors.append(" ".join(line.split())[:200])


def encoding(path: Path) -> str:
    """Return how the file's text is written: PowerShell redirects as UTF-16."""
    with path.open("rb") as file:
        head = file.read(4_096)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    for place, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = head[place::2].count(0)
        if zeros > 0.4 * len(head[place::2]) and zeros > 8:
            return name
    return "utf-8"


def header_of(line: str) -> Header | None:
    """Return the header that a line holds, None when it holds none."""
    text = line.lstrip("\ufeff ")
    if not text.startswith(('"ID"', "ID,", "ID;", "ID\t")):
        return None
    delimiter = text.strip('"').removeprefix("ID").lstrip('"')[:1]
    if not delimiter or delimiter not in DELIMITERS:
        return None
    columns = [c.strip() for c in cells_of(text, delimiter)]
    if _KERNEL not in columns or len(columns) > MAX_COLUMNS:
        return None
    return Header(columns, delimiter)


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a row; none when its quotes are damaged."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def is_row(line: str, delimiter: str) -> bool:
    """Tell whether a line may be a row: its first cell is a whole number, or empty."""
    first, separator, _ = line.lstrip("\ufeff ").partition(delimiter)
    return bool(separator) and (first in ('""', "") or first.strip('"').isdecimal())


def looks_like(path: Path) -> bool:
    """Tell whether the beginning of the file holds a header of Nsight Compute, or its messages."""
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    written = encoding(path)
    if written == "utf-8" and (0 in head[:4_096] or head.lstrip()[:1] in (b"{", b"[")):
        return False  # a binary file, or JSON: cheaper than to look for a table in it
    text = head.decode(written, "replace")
    lines = text.replace("\r", "\n").split("\n")
    return any(header_of(line) is not None for line in lines) or any(
        line.startswith(("==PROF== ", "==ERROR== ")) for line in lines
    )


def may_be_text(head: bytes) -> bool:
    """Tell whether the first bytes of a file are free of control characters, or UTF-16."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell writes
        return True
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in head)


def _described(header: Header, cells: list[str]) -> Profiled:
    """Return a launch with what its columns say of it, but without metrics."""
    row = dict(zip(header.columns, cells, strict=False))
    launch = Profiled(
        name=row.get(_KERNEL, ""),
        number=_whole(row.get(_ID)),
        process=_whole(row.get("Process ID")),
        process_name=row.get("Process Name", "").replace("\\", "/").rpartition("/")[2],
        context=_whole(row.get("Context")),
        stream=_whole(row.get("Stream")),
        device=_whole(row.get("Device")),
    )
    for side, column in (("grid", "Grid Size"), ("block", "Block Size")):
        sizes = [
            _whole(s)
            for s in re.split(r",\s+|[()]|\s+x\s+", row.get(column, "")[:MAX_SHAPE])
            if s.strip()
        ]
        if len(sizes) == 3:
            launch.shape |= dict(zip((f"{side}_{a}" for a in "xyz"), sizes, strict=True))
    major, _, minor = row.get("CC", "").replace(",", ".").partition(".")
    for part, text in (("major", major), ("minor", minor)):
        if text.isdecimal() and len(text) < 4:
            launch.numbers[f"device__attribute_compute_capability_{part}"] = float(text)
    return launch


def _whole(text: str | None) -> int:
    digits = (text or "").strip()
    is_number = digits.isdecimal() and not _is_beyond_64_bits(digits)
    return int(digits) if is_number else NOT_RECORDED


def _is_beyond_64_bits(digits: str) -> bool:
    """Tell whether no column of 64 bits, one of them the sign, holds a number."""
    significant = digits.lstrip("0")
    return len(significant) > 19 or int(significant or "0") >= 1 << 63


def _nobody(_code: str, _effect: str, _message: str) -> None:
    """Note nothing: the rows are only looked at."""
