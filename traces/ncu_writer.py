"""Writes counters in the layouts of Nsight Compute, without Nsight Compute.

Nothing here ran on a GPU: what is written is what the caller says. A report (``.ncu-rep``) has the
blocks and messages that the tool's Customization Guide documents; the two CSV pages have the
columns of ncu 2024.1.
"""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

Value = float | int | str
FORMAT_VERSION = 7
PID = 4_242
_KINDS = {1: "INF", 2: "WRN", 3: "ERR", 4: "OPT"}
_SCOPES = {0: "", 1: "local", 2: "global"}


class Rule(NamedTuple):
    """What one of the tool's own rules says about a launch.

    Attributes:
        name: Its identifier.
        text: Its words.
        kind: Number of the kind of message: 1 fine, 2 warning, 4 optimization.
        scope: Number of what its estimate is a part of: 1 local, 2 global; 0 without an estimate.
        speedup_pct: Time that it estimates can be saved.
        section: Section that it belongs to.
    """

    name: str
    text: str
    kind: int = 4
    scope: int = 0
    speedup_pct: float = 0.0
    section: str = "SpeedOfLight"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch that was profiled, as the recording tells it.

    Attributes:
        name: Demangled name.
        grid: Blocks in each direction.
        block: Threads in each direction.
        metrics: Values under their exact names, in base units.
        instances: What a metric is made of: pairs of what each part stands for, and its value.
        stream: CUDA stream number.
        is_range: Write it as the result of a range of launches.
        rules: What the tool's own rules say about it.
    """

    name: str = "kernel(float *)"
    grid: tuple[int, int, int] = (1_024, 1, 1)
    block: tuple[int, int, int] = (256, 1, 1)
    metrics: Mapping[str, Value] = field(default_factory=dict)
    instances: Mapping[str, Sequence[tuple[Value, Value]]] = field(default_factory=dict)
    stream: int = 7
    is_range: bool = False
    rules: Sequence[Rule] = ()


def report(launches: Sequence[Launch], *, tool: str = "SYNTHETIC", pid: int = PID) -> bytes:
    """Return a report of these launches: one block for each, strings in the first."""
    names = sorted({n for launch in launches for n in (*launch.metrics, *launch.instances)})
    place = {name: i for i, name in enumerate(names)}
    process = _number(1, pid) + _bytes(2, b"127.0.0.1") + _bytes(3, b"/home/user/bin/program")
    session = _number(2, 1_700_000_000)
    session += _bytes(8, _bytes(1, b"Nsight Compute Target") + _bytes(2, tool.encode()))
    table = b"".join(_bytes(1, name.encode()) for name in names)
    data = b"NVR\0" + _sized(_number(1, FORMAT_VERSION))
    data += _sized(_bytes(3, session) + _bytes(4, table) + _number(5, 0) + _bytes(6, process))
    for launch in launches:
        entry = _sized(_result(launch, place))
        counts = _number(7, 1) if launch.is_range else _number(2, 1)
        data += _sized(counts + _number(5, len(entry)) + _bytes(6, process)) + entry
    return data


def write_report(path: Path, launches: Sequence[Launch]) -> Path:
    """Write a report of these launches to ``path``."""
    path.write_bytes(report(launches))
    return path


def raw_page(launches: Sequence[Launch], units: Mapping[str, str] | None = None) -> str:
    """Return ``ncu --csv --page raw`` of these launches; values stand as they are given."""
    names = sorted({n for launch in launches for n in launch.metrics})
    header = ["ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream"]
    header += ["Block Size", "Grid Size", "Device", "CC", *names]
    rows = [header, [""] * 11 + [(units or {}).get(n, "") for n in names]]
    for number, launch in enumerate(launches):
        row = _described(number, launch) + [str(launch.metrics.get(n, "")) for n in names]
        rows.append(row)
    return _csv(rows)


def details_page(launches: Sequence[Launch], units: Mapping[str, str] | None = None) -> str:
    """Return ``ncu --csv --metrics …``: one row per metric, under its own name."""
    header = ["ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream"]
    header += ["Block Size", "Grid Size", "Device", "CC", "Section Name"]
    header += ["Metric Name", "Metric Unit", "Metric Value"]
    if any(launch.rules for launch in launches):
        header += ["Rule Name", "Rule Type", "Rule Description"]
        header += ["Estimated Speedup Type", "Estimated Speedup"]
    rows = [header]
    for number, launch in enumerate(launches):
        for name, value in launch.metrics.items():
            metric = ["Command line profiler metrics", name, (units or {}).get(name, "")]
            rows.append([*_described(number, launch), *metric, str(value)])
        for rule in launch.rules:
            words = [rule.section, "", "", "", rule.name, _KINDS[rule.kind], rule.text]
            estimate = str(rule.speedup_pct) if rule.scope else ""
            rows.append([*_described(number, launch), *words, _SCOPES[rule.scope], estimate])
    return _csv(rows)


def _described(number: int, launch: Launch) -> list[str]:
    sizes = [f"({', '.join(map(str, size))})" for size in (launch.block, launch.grid)]
    described = [str(number), str(PID), "program", "127.0.0.1", launch.name, "1"]
    return [*described, str(launch.stream), *sizes, "0", "9.0"]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _result(launch: Launch, place: Mapping[str, int]) -> bytes:
    metrics = [_metric(launch, name, place) for name in {**launch.metrics, **launch.instances}]
    if launch.is_range:
        return _number(1, 1) + b"".join(_bytes(4, m) for m in metrics) + _number(11, 1)
    message = _number(1, 1) + _bytes(6, launch.name.partition("(")[0].encode())
    message += _bytes(7, launch.name.encode())
    message += _bytes(10, _axes(launch.grid)) + _bytes(11, _axes(launch.block))
    message += b"".join(_bytes(13, m) for m in metrics)
    message += b"".join(_bytes(19, _rule(rule)) for rule in launch.rules)
    return message + _number(22, 1) + _number(23, launch.stream)


def _rule(rule: Rule) -> bytes:
    item = _bytes(1, _bytes(1, rule.text.encode()) + _number(2, rule.kind))
    if rule.scope:
        item += _bytes(10, _number(1, rule.scope) + _value(rule.speedup_pct, number_field=2))
    body = _bytes(1, item)
    return _bytes(1, rule.name.encode()) + _bytes(3, body) + _bytes(4, rule.section.encode())


def _metric(launch: Launch, name: str, place: Mapping[str, int]) -> bytes:
    message = _number(1, place[name])
    if name in launch.metrics:
        message += _bytes(2, _value(launch.metrics[name]))
    for of, value in launch.instances.get(name, ()):
        message += _bytes(3, _bytes(1, _value(of)) + _bytes(2, _value(value)))
    return message


def _axes(size: tuple[int, int, int]) -> bytes:
    return b"".join(_number(axis, n) for axis, n in enumerate(size, start=1))


def _value(value: Value, number_field: int = 3) -> bytes:
    if isinstance(value, str):
        return _bytes(1, value.encode())
    if isinstance(value, int):
        return _number(5, value)
    return bytes([number_field << 3 | 1]) + struct.pack("<d", value)


def _number(field_number: int, value: int) -> bytes:
    return _varint(field_number << 3) + _varint(value)


def _bytes(field_number: int, value: bytes) -> bytes:
    return _varint(field_number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message
