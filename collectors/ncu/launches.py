"""Profiled launches on their way into a trace, whatever Nsight Compute wrote them to.

A reader yields one ``Profiled`` at a time; here its metrics become rows of ``counters``, its
launch configuration a row of ``profiled_kernels``, and its GPU a row of ``devices``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from collectors.schema import LAUNCH_SHAPE, NOT_RECORDED, ProfiledKind, RuleKind, SpeedupScope
from collectors.trace import DataNote, RowCount, TraceWriter

ROWS_AT_A_TIME = 65_536
MAX_TEXT = 65_536  # characters of one name; template arguments fill pages
MAX_RULES = 1_000  # results of the tool's own rules, of one launch; 30 were seen
MAX_DEVICE = 1_023
MAX_DURATION_NS = 1e17  # three years; a longer kernel is a damaged number
MAX_WHOLE = 1 << 62  # what a 64-bit column can hold, with room for sums

DURATIONS = ("gpu__time_duration.sum", "gpu__time_duration.max", "gpu__time_duration.avg")
_CYCLES = (  # a duration can be had from a count of cycles and their rate
    ("gpc__cycles_elapsed.max", "gpc__cycles_elapsed.avg.per_second"),
    ("sm__cycles_elapsed.max", "sm__cycles_elapsed.avg.per_second"),
    ("sm__cycles_elapsed.avg", "sm__cycles_elapsed.avg.per_second"),
    ("smsp__cycles_elapsed.avg", "smsp__cycles_elapsed.avg.per_second"),
)
_GRID_SIZE = "launch__grid_size"
_SHAPE_METRICS = {
    "grid_x": "launch__grid_dim_x",
    "grid_y": "launch__grid_dim_y",
    "grid_z": "launch__grid_dim_z",
    "block_x": "launch__block_dim_x",
    "block_y": "launch__block_dim_y",
    "block_z": "launch__block_dim_z",
    "registers_per_thread": "launch__registers_per_thread",
    "static_shared_bytes": "launch__shared_mem_per_block_static",
    "dynamic_shared_bytes": "launch__shared_mem_per_block_dynamic",
}
_ATTRIBUTE = "device__attribute_"
_DEVICE_FACTS = {
    "sm_count": ("multiprocessor_count",),
    "compute_major": ("compute_capability_major",),
    "compute_minor": ("compute_capability_minor",),
    "max_warps_per_sm": ("max_warps_per_multiprocessor",),
    "max_blocks_per_sm": ("limits_max_cta_per_sm", "max_blocks_per_multiprocessor"),
    "max_registers_per_sm": ("max_registers_per_multiprocessor",),
    "max_shared_bytes_per_sm": ("max_shared_memory_per_multiprocessor",),
    "memory_bytes": ("total_memory", "global_memory_size"),
}
_SMALL = (1 << 31) - 1
_PEAK_BYTES, _PEAK_RATE = "dram__bytes.sum.peak_sustained", "dram__cycles_elapsed.avg.per_second"
_BUS_BITS, _BUS_KHZ = f"{_ATTRIBUTE}fb_bus_width", f"{_ATTRIBUTE}max_mem_frequency_khz"
_TRANSFERS_PER_CYCLE = 2  # double data rate: on both edges of the memory clock


class RuleResult(NamedTuple):
    """What one of the tool's own rules said about a launch.

    Attributes:
        rule: Its identifier.
        kind: What it is.
        text: Its words, without markup.
        scope: What the estimated speed-up is a part of; None without an estimate.
        speedup_pct: Time that it estimates can be saved; not-a-number without an estimate.
    """

    rule: str
    kind: RuleKind
    text: str
    scope: SpeedupScope | None = None
    speedup_pct: float = math.nan


@dataclass
class Profiled:
    """One launch that was profiled, or one range of launches.

    Attributes:
        name: Demangled name.
        number: The tool's own number of it, -1 when it gives none.
        kind: Kernel or range.
        process: Pid.
        process_name: Executable, without folders.
        context: CUDA context number.
        stream: CUDA stream number.
        device: CUDA device number.
        shape: Launch configuration, by column of ``LAUNCH_SHAPE``.
        numbers: Metrics in base units; not-a-number means that the tool wrote that.
        texts: Metrics that are no numbers.
        instances: What a metric is made of: pairs of what each part stands for, and its value.
        rules: What the tool's own rules said about it.
    """

    name: str
    number: int = NOT_RECORDED
    kind: ProfiledKind = ProfiledKind.KERNEL
    process: int = NOT_RECORDED
    process_name: str = ""
    context: int = NOT_RECORDED
    stream: int = NOT_RECORDED
    device: int = NOT_RECORDED
    shape: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    instances: dict[str, list[tuple[int | str, float]]] = field(default_factory=dict)
    rules: list[RuleResult] = field(default_factory=list)


class Launches:
    """Writes profiled launches into a trace, and counts what was odd about them."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self._strings: dict[str, int] = {}
        self._rows: list[dict[str, int]] = []
        self._counters: list[tuple[int, int, float, int]] = []
        self._instances: list[tuple[int, int, int, int, float]] = []
        self._rules: list[tuple[int, int, int, int, int, float]] = []
        self._devices: dict[tuple[int, int], dict[str, int | str]] = {}
        self._processes: dict[int, str] = {}
        self._notes: dict[tuple[str, str, str, str], int] = {}
        self.count = 0
        for table in ("profiled_kernels", "counters"):
            writer.declare(table)

    def add(self, launch: Profiled) -> None:
        """Append a launch."""
        device = launch.device
        if device == NOT_RECORDED:
            device = _whole(launch.numbers.get("launch__device_id"), MAX_DEVICE)
        device = device if 0 <= device <= MAX_DEVICE else 0  # the tool's own default
        self._describe_device(launch, device)
        self._processes.setdefault(launch.process, launch.process_name)
        self._rows.append(
            {
                "number": launch.number,
                "kind": launch.kind,
                "process": launch.process,
                "device": device,
                "context": launch.context,
                "stream": launch.stream,
                "duration_ns": self._duration_ns(launch),
                "name_id": self._text(launch.name),
                "short_name_id": self._text(short_name(launch.name)),
                **self._shape(launch),
            }
        )
        for name, value in launch.numbers.items():
            if math.isnan(value):
                self.note("metric_not_a_number", "noted", "metrics that are not a number")
            self._counters.append((self.count, self._text(name), value, NOT_RECORDED))
        for name, text in launch.texts.items():
            self._counters.append((self.count, self._text(name), math.nan, self._text(text)))
        for name, parts in launch.instances.items():
            self._add_instances(self._text(name), parts)
        for result in launch.rules:
            scope = NOT_RECORDED if result.scope is None else result.scope
            ids = (self._text(result.rule), int(result.kind), self._text(result.text), int(scope))
            self._rules.append((self.count, *ids, result.speedup_pct))
        self.count += 1
        if len(self._counters) + len(self._instances) + len(self._rules) > ROWS_AT_A_TIME:
            self._flush()

    def note(self, code: str, effect: str, message: str, count: int = 1, table: str = "") -> None:
        """Count something odd; a line of the data-quality ledger is made of it at the end."""
        key = (code, effect, message, table)
        self._notes[key] = self._notes.get(key, 0) + count

    def finish(self, counts: RowCount) -> None:
        """Write what is left, and what is known only at the end."""
        self._flush()
        self._write_devices()
        pids = list(self._processes)
        self._writer.write(
            "processes",
            {
                "process": np.array(pids, np.int64),
                "pid": np.array(pids, np.int64),
                "name": pa.array([self._processes[p][:200] for p in pids], pa.string()),
            },
        )
        self._writer.write(
            "strings",
            {
                "id": np.arange(len(self._strings), dtype=np.int64),
                "value": pa.array(list(self._strings), pa.string()),
            },
        )
        self._writer.row_counts.append(counts)
        for (code, effect, message, table), count in self._notes.items():
            severity = "info" if effect == "noted" else "import_error"
            self._writer.notes.append(
                DataNote(
                    code=code,
                    severity=severity,
                    table=table,
                    count=count,
                    effect=effect,
                    message=message,
                )
            )

    def _text(self, text: str) -> int:
        return self._strings.setdefault(text[:MAX_TEXT], len(self._strings))

    def _add_instances(self, name: int, parts: list[tuple[int | str, float]]) -> None:
        for of, value in parts:
            if isinstance(of, int):
                place = of if of <= MAX_WHOLE else NOT_RECORDED
                row = (self.count, name, place, NOT_RECORDED, value)
            else:
                row = (self.count, name, NOT_RECORDED, self._text(of), value)
            self._instances.append(row)

    def _duration_ns(self, launch: Profiled) -> int:
        for name in DURATIONS:
            value = launch.numbers.get(name, math.nan)
            if 0 < value < MAX_DURATION_NS:
                return max(1, round(value))
        for cycles, rate in _CYCLES:
            count, per_s = (launch.numbers.get(n, math.nan) for n in (cycles, rate))
            if count > 0 and per_s > 0 and count / per_s * 1e9 < MAX_DURATION_NS:
                message = "launches whose duration was computed from their cycles"
                self.note("profiled_duration_computed", "noted", message)
                return max(1, round(count / per_s * 1e9))
        message = (
            "launches without a duration, which count for nothing (gpu__time_duration.sum was not "
            "collected, or the launch was not profiled to its end)"
        )
        self.note("profiled_no_duration", "noted", message)
        return NOT_RECORDED

    def _shape(self, launch: Profiled) -> dict[str, int]:
        shape = _shape(launch)
        in_blocks = _grid_of_threads(shape, _whole(launch.numbers.get(_GRID_SIZE), MAX_WHOLE))
        if in_blocks:
            message = "launches whose grid is given in threads, as by ncu 2020; read as blocks"
            self.note("grid_in_threads", "noted", message)
        return shape | in_blocks

    def _describe_device(self, launch: Profiled, device: int) -> None:
        facts = self._devices.setdefault((launch.process, device), {})
        name = launch.texts.get(f"{_ATTRIBUTE}display_name", "")
        if name and not facts.get("name"):
            facts["name"] = name[:200]
        for fact, attributes in _DEVICE_FACTS.items():
            for attribute in attributes:
                value = _whole(launch.numbers.get(_ATTRIBUTE + attribute), MAX_WHOLE)
                if value > 0 or (value == 0 and fact == "compute_minor"):
                    facts.setdefault(fact, value)
        if (peak := _memory_bytes_per_s(launch.numbers)) > 0:
            facts.setdefault("memory_bytes_per_s", peak)

    def _write_devices(self) -> None:
        keys = list(self._devices)
        rows = [self._devices[k] for k in keys]
        columns = {
            fact: np.array([_fact(r, fact) for r in rows], np.int64)
            for fact in (*_DEVICE_FACTS, "memory_bytes_per_s")
        }
        self._writer.write(
            "devices",
            {
                **columns,
                "process": np.array([k[0] for k in keys], np.int64),
                "device": np.array([k[1] for k in keys], np.int64),
                "name": pa.array([str(r.get("name", "")) for r in rows], pa.string()),
            },
        )

    def _flush(self) -> None:
        if self._rows:
            names = self._rows[0]
            columns = {c: np.array([r[c] for r in self._rows], np.int64) for c in names}
            self._writer.write("profiled_kernels", columns)
        _write_tuples(
            self._writer, "counters", ("profiled", "name_id", "value", "text_id"), self._counters
        )
        names_of_parts = ("profiled", "name_id", "place", "place_text_id", "value")
        _write_tuples(self._writer, "counter_instances", names_of_parts, self._instances)
        names_of_rules = ("profiled", "rule_id", "kind", "text_id", "scope", "speedup_pct")
        _write_tuples(self._writer, "rule_results", names_of_rules, self._rules)
        self._rows, self._counters, self._instances, self._rules = [], [], [], []


def short_name(name: str) -> str:
    """Return a demangled name without return type, template arguments and parameters."""
    plain = name.replace("(anonymous namespace)", "").replace("<unnamed>", "")
    plain = plain.removeprefix("void ")
    for mark in "<(":
        head = plain.partition(mark)[0].strip()
        plain = head or plain
    return plain.rpartition("::")[2].rpartition(" ")[2] or name


def _write_tuples(
    writer: TraceWriter, table: str, names: tuple[str, ...], rows: Sequence[tuple[float, ...]]
) -> None:
    if not rows:
        return
    columns = list(zip(*rows, strict=True))
    kinds = [np.float64 if n in ("value", "speedup_pct") else np.int64 for n in names]
    writer.write(
        table,
        {n: np.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)},
    )


def _shape(launch: Profiled) -> dict[str, int]:
    """Return the launch configuration; what it is told twice about, the launch itself tells."""
    shape = {}
    for column in LAUNCH_SHAPE:
        value = launch.shape.get(column, NOT_RECORDED)
        if value < 0:
            value = _whole(launch.numbers.get(_SHAPE_METRICS[column]), _SMALL)
        shape[column] = value if value <= _SMALL else NOT_RECORDED
    if 0 in (shape[c] for c in LAUNCH_SHAPE[:6]):  # the tool writes zeros when it does not know
        shape |= dict.fromkeys(LAUNCH_SHAPE[:6], NOT_RECORDED)
    return shape


def _grid_of_threads(shape: Mapping[str, int], blocks: int) -> dict[str, int]:
    """Return the grid in blocks where a recording gives it in threads; empty where it does not.

    ncu 2020 writes how many threads the grid has in each direction. How many blocks there are, a
    metric tells.

    Args:
        shape: The launch configuration as it was read.
        blocks: Blocks of the grid by ``launch__grid_size``, -1 where that was not collected.
    """
    grid, block = ([shape[f"{side}_{a}"] for a in "xyz"] for side in ("grid", "block"))
    if blocks <= 0 or min(*grid, *block) <= 0 or math.prod(grid) == blocks:
        return {}
    sizes = [of_grid // of_block for of_grid, of_block in zip(grid, block, strict=True)]
    if math.prod(grid) != blocks * math.prod(block) or math.prod(sizes) != blocks:
        return {}
    return dict(zip((f"grid_{a}" for a in "xyz"), sizes, strict=True))


def _memory_bytes_per_s(numbers: Mapping[str, float]) -> int:
    """Return the peak bandwidth of device memory, as the roofline's counters give it."""
    per_cycle, rate = numbers.get(_PEAK_BYTES, math.nan), numbers.get(_PEAK_RATE, math.nan)
    if per_cycle > 0 and rate > 0:
        return _whole(per_cycle * rate, MAX_WHOLE)
    bits, khz = numbers.get(_BUS_BITS, math.nan), numbers.get(_BUS_KHZ, math.nan)
    return _whole(bits / 8 * khz * 1_000 * _TRANSFERS_PER_CYCLE, MAX_WHOLE)


def _fact(row: Mapping[str, int | str], fact: str) -> int:
    value = row.get(fact, NOT_RECORDED)
    small = fact.endswith("_sm") or fact in ("sm_count", "compute_major", "compute_minor")
    if not isinstance(value, int) or (small and value > _SMALL):
        return NOT_RECORDED
    return value


def _whole(value: float | None, at_most: int) -> int:
    """Return ``value`` as a whole number, -1 when it is none or too large."""
    if value is None or not 0 <= value <= at_most:  # also false for not-a-number
        return NOT_RECORDED
    return round(value)
