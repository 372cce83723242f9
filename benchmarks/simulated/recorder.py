"""Writes what the simulator did in the layout of an Nsight Systems export."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traces.nsys_writer import SYNTHETIC_H100, Gpu, Recording, short_name

if TYPE_CHECKING:
    from benchmarks.simulated.program import Collective, Copy, Range, Stream, Thread, Wait

Span = tuple[int, int]

PREFIX = "CUPTI_ACTIVITY_KIND_"
WAITS = PREFIX + "SYNCHRONIZATION"
PAGEABLE, PINNED, DEVICE, MANAGED = 0, 1, 2, 4
UNIFIED = 10  # added to a direction: the same of unified memory
UNIFIED_STREAM = 1_000  # a number that no stream of a program has
RUNTIME_API, OS_RUNTIME, PUSH_POP, BACKTRACE = 0, 27, 59, 67
WAIT_KINDS = {"cudaDeviceSynchronize": "device", "cudaEventSynchronize": "event"}


class Recorder:
    """Collects rows while a program runs; ``write`` makes the file.

    Args:
        generation: Layout, one of ``traces.nsys_layout.GENERATIONS``.
        devices: GPUs.
        gpu: What they are.
    """

    def __init__(
        self, generation: str = "3.13", devices: int = 1, gpu: Gpu = SYNTHETIC_H100
    ) -> None:
        self.recording = Recording(generation=generation, gpus=[gpu] * devices, program="simulated")
        self._devices = devices
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._waits: list[tuple[str, Span, dict[str, Any]]] = []
        self._pids = {1: self.recording.pid}
        self._tids: dict[tuple[int, int], int] = {(1, 1): self.recording.tid}

    def kernel(
        self, thread: Thread, stream: Stream, name: str, span: Span, number: int, node: int
    ) -> None:
        """Add a kernel; ``node`` numbers it within a graph, 0 for none."""
        short, full = self.recording.string(short_name(name)), self.recording.string(name)
        row = {"demangledName": full, "shortName": short, "mangledName": full}
        shape = {"gridX": 4_224, "gridY": 1, "gridZ": 1, "blockX": 256, "blockY": 1, "blockZ": 1}
        shape |= {"registersPerThread": 32, "staticSharedMemory": 0, "dynamicSharedMemory": 0}
        graph = {"graphNodeId": node} if node else {}
        self._on_device("KERNEL", thread, stream, span, number, row | shape | graph)

    def collective(self, thread: Thread, part: Collective, span: Span, number: int) -> None:
        """Add one rank's part in a collective."""
        self.kernel(thread, part.stream, part.name, span, number, 0)

    def graph(self, thread: Thread, stream: Stream, span: Span, number: int) -> None:
        """Add a graph that was recorded as a whole."""
        row = {"graphId": 1, "graphExecId": 1}
        self._on_device("GRAPH_TRACE", thread, stream, span, number, row)

    def memset(self, thread: Thread, stream: Stream, span: Span, number: int) -> None:
        """Add a memset."""
        row = {"bytes": (span[1] - span[0]) * 2_000, "value": 0}
        self._on_device("MEMSET", thread, stream, span, number, row)

    def copy(self, thread: Thread, copy: Copy, span: Span, number: int) -> None:
        """Add a copy."""
        host = PAGEABLE if copy.pageable else PINNED
        ends = {1: (host, DEVICE), 2: (DEVICE, host)}.get(copy.direction, (DEVICE, DEVICE))
        row = {"copyKind": copy.direction, "bytes": copy.size_bytes}
        row |= {"srcKind": ends[0], "dstKind": ends[1]}
        self._on_device("MEMCPY", thread, copy.stream, span, number, row)

    def migration(
        self, thread: Thread, place: Stream, span: Span, size_bytes: int, why: tuple[int, int]
    ) -> None:
        """Add a move of unified memory; ``why`` is its direction and cause, as CUPTI has them."""
        direction, cause = why
        row = {"copyKind": UNIFIED + direction, "bytes": size_bytes, "migrationCause": cause}
        row |= {"srcKind": MANAGED, "dstKind": MANAGED}
        lane = dataclasses.replace(place, number=UNIFIED_STREAM)
        self._on_device("MEMCPY", thread, lane, span, 0, row)

    def sync(self, thread: Thread, wait: Wait, span: Span, number: int) -> None:
        """Add the record of a wait."""
        kind = WAIT_KINDS.get(wait.function, "stream")
        place = {"deviceId": wait.stream.device, "contextId": wait.stream.device + 1}
        if kind != "device":
            place["streamId"] = wait.stream.number
        row = {"globalPid": self._process(thread), "correlationId": number, **place}
        self._waits.append((kind, span, row))

    def api(
        self, thread: Thread, function: str, begin: int, end: int, number: int, status: int
    ) -> None:
        """Add an API call."""
        row = {"nameId": self.recording.string(f"{function}_v3020"), "eventClass": RUNTIME_API}
        row |= {"correlationId": number, "returnValue": status}
        self._on_host(PREFIX + "RUNTIME", thread, (begin, end), row)

    def os_call(self, thread: Thread, function: str, begin: int, end: int) -> None:
        """Add a call of the operating system."""
        row = {"nameId": self.recording.string(function), "eventClass": OS_RUNTIME}
        self._on_host("OSRT_API", thread, (begin, end), row)

    def nvtx(self, thread: Thread, name: str, begin: int, end: int | None) -> None:
        """Add a range."""
        row = {"textId": self.recording.string(name), "eventType": PUSH_POP, "domainId": 0}
        self._on_host("NVTX_EVENTS", thread, (begin, end), row)

    def operator(self, thread: Thread, kind: str, name: str, span: Span) -> None:
        """Do nothing: Nsight Systems knows no operators."""

    def sized_operator(self, thread: Thread, mark: Range, span: Span) -> None:
        """Add a range as PyTorch writes it with ``emit_nvtx(record_shapes=True)``."""
        number = len(self.rows("NVTX_EVENTS")) + 1
        sizes = [list(shape) for shape in mark.sizes]
        self.nvtx(thread, f"{mark.name}, op_id = {number}, sizes = {sizes}", *span)

    def forget(self, table: str) -> None:
        """Leave a table out, as if it had not been recorded."""
        self._rows.pop(table, None)
        if table == WAITS:
            self._waits.clear()

    def count(self, kind: str) -> int:
        """Return how many rows of a CUPTI activity a reader has to find."""
        return sum(row.get("eventClass") != BACKTRACE for row in self.rows(PREFIX + kind))

    def repeat_calls(self) -> None:
        """Write each API call twice, as recording call stacks makes nsys do."""
        calls = self.rows(PREFIX + "RUNTIME")
        calls += [row | {"eventClass": BACKTRACE} for row in calls]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table, to be changed in place."""
        return self._rows.setdefault(table, [])

    def write(self, path: Path) -> Path:
        """Write the file and return ``path``."""
        for table, rows in self._rows.items():
            names = dict.fromkeys(name for row in rows for name in row)
            columns: Mapping[str, object] = {n: [row.get(n) for row in rows] for n in names}
            if rows:
                self.recording.bulk(table, columns)
        for kind, span, row in self._waits:
            self.recording.sync(kind, *span, **row)
        return self.recording.write(path)

    def _on_device(
        self,
        kind: str,
        thread: Thread,
        stream: Stream,
        span: Span,
        number: int,
        row: dict[str, Any],
    ) -> None:
        place = {"deviceId": stream.device, "contextId": stream.device + 1}
        place |= {"streamId": stream.number, "globalPid": self._process(thread)}
        place |= {"start": span[0], "end": span[1], "correlationId": number}
        self.rows(PREFIX + kind).append(row | place)

    def _on_host(
        self, table: str, thread: Thread, span: tuple[int, int | None], row: dict[str, Any]
    ) -> None:
        place = {"start": span[0], "end": span[1], "globalTid": self._thread(thread)}
        self.rows(table).append(row | place)

    def _process(self, thread: Thread) -> int:
        if thread.process not in self._pids:
            pid = 4_242 + thread.process
            self._pids[thread.process] = self.recording.process(pid, "simulated")
            for number in range(self._devices):
                ids = {"gpuId": number, "cudaId": number, "pid": pid, "uuid": ""}
                self.recording.add("TARGET_INFO_CUDA_DEVICE", **ids)
        return self._pids[thread.process]

    def _thread(self, thread: Thread) -> int:
        key = (thread.process, thread.number)
        if key not in self._tids:
            tid = 5_000 + 100 * thread.process + thread.number
            self._tids[key] = self.recording.thread(self._process(thread), tid, "worker")
        return self._tids[key]
