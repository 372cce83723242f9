"""Writes what the simulator did as a trace of the torch profiler (Kineto's JSON)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.simulated.recorder import PAGEABLE, PINNED, Span
from traces.nsys_writer import SYNTHETIC_H100, Gpu

if TYPE_CHECKING:
    from benchmarks.simulated.program import Collective, Copy, Range, Stream, Thread, Wait

FIRST_PID, FIRST_TID = 4_242, 5_000
CATEGORIES = {"KERNEL": "kernel", "MEMCPY": "gpu_memcpy", "RUNTIME": "cuda_runtime"}
HOST_MEMORY = {PAGEABLE: "Pageable", PINNED: "Pinned"}
# Between GPUs of a board of four, in one direction: each has 6 of its 18 links of 25 GB/s for each
# other one (NVIDIA, "HGX H100", four GPUs).
LINK_BYTES_PER_NS = 150
BYTES_OF_BFLOAT16 = 2
DIRECTIONS = {1: ("HtoD", "{host} -> Device"), 2: ("DtoH", "Device -> {host}")}


class TorchRecorder:
    """Collects events while a program runs; has the methods of ``simulated.recorder.Recorder``.

    Calls of the operating system and the records of waits are left out, as the profiler does.

    Args:
        devices: GPUs.
        gpu: What they are.
    """

    def __init__(self, devices: int = 1, gpu: Gpu = SYNTHETIC_H100) -> None:
        self._devices, self._gpu = devices, gpu
        self._events: list[dict[str, Any]] = []
        self._processes: set[int] = set()

    def kernel(
        self, thread: Thread, stream: Stream, name: str, span: Span, number: int, node: int
    ) -> None:
        """Add a kernel; ``node`` numbers it within a graph, 0 for none."""
        shape: dict[str, Any] = {"grid": [4_224, 1, 1], "block": [256, 1, 1]}
        shape |= {"registers per thread": 32, "shared memory": 0}
        graph = {"graph node id": node} if node else {}
        self._on_device(thread, "kernel", name, stream, span, number, shape | graph)

    def collective(self, thread: Thread, part: Collective, span: Span, number: int) -> None:
        """Add one rank's part in a collective, with what PyTorch says about it."""
        # A ring sends 2 (n - 1) / n of the bytes through the links of each of n ranks.
        moved = part.link_share * LINK_BYTES_PER_NS * (part.ranks - 1) * part.ns
        size = round(moved * part.ranks / (2 * (part.ranks - 1)) / BYTES_OF_BFLOAT16)
        about = {"Collective name": part.operation, "dtype": "BFloat16", "Group size": part.ranks}
        about |= {"In msg nelems": size, "Out msg nelems": size, "Process Group Name": "0"}
        about["Process Group Ranks"] = str(list(range(part.ranks)))
        shape = {"grid": [24, 1, 1], "block": [544, 1, 1], "registers per thread": 96}
        self._on_device(thread, "kernel", part.name, part.stream, span, number, shape | about)

    def graph(self, thread: Thread, stream: Stream, span: Span, number: int) -> None:
        """Add a graph as one kernel: the profiler has no row for a whole graph."""
        self._on_device(thread, "kernel", "graph", stream, span, number, {})

    def memset(self, thread: Thread, stream: Stream, span: Span, number: int) -> None:
        """Add a memset."""
        size = {"bytes": (span[1] - span[0]) * 2_000}
        self._on_device(thread, "gpu_memset", "Memset (Device)", stream, span, number, size)

    def copy(self, thread: Thread, copy: Copy, span: Span, number: int) -> None:
        """Add a copy."""
        host = HOST_MEMORY[PAGEABLE if copy.pageable else PINNED]
        short, ends = DIRECTIONS.get(copy.direction, ("PtoP", "Device -> Device"))
        name = f"Memcpy {short} ({ends.format(host=host)})"
        size = {"bytes": copy.size_bytes}
        self._on_device(thread, "gpu_memcpy", name, copy.stream, span, number, size)

    def sync(self, thread: Thread, wait: Wait, span: Span, number: int) -> None:
        """Do nothing: the call itself is recorded."""

    def os_call(self, thread: Thread, function: str, begin: int, end: int) -> None:
        """Do nothing."""

    def api(self, thread: Thread, function: str, begin: int, end: int, number: int, _: int) -> None:
        """Add an API call, and the arrow to what it launched."""
        self._on_host("cuda_runtime", thread, function, (begin, end), {"correlation": number})
        place = self._host(thread)
        self._events.append(
            {"ph": "s", "id": number, "cat": "ac2g", "name": "ac2g", "ts": begin / 1e3, **place}
        )

    def nvtx(self, thread: Thread, name: str, begin: int, end: int) -> None:
        """Add a user annotation."""
        self._on_host("user_annotation", thread, name, (begin, end), {})

    def operator(self, thread: Thread, kind: str, name: str, span: Span) -> None:
        """Add an operator, or a function on Python's stack."""
        self._on_host(kind, thread, name, span, {})

    def sized_operator(self, thread: Thread, mark: Range, span: Span) -> None:
        """Add an operator with what ``record_shapes=True`` records of its inputs."""
        inputs = {"Input Dims": [list(s) for s in mark.sizes], "Input type": list(mark.types)}
        self._on_host("cpu_op", thread, mark.name, span, inputs)

    def count(self, kind: str) -> int:
        """Return how many events of a CUPTI activity a reader has to find."""
        return sum(e.get("cat") == CATEGORIES[kind] for e in self._events)

    def write(self, path: Path) -> Path:
        """Write the file, compressed if its name ends in ``.gz``, and return ``path``."""
        gpu: dict[str, Any] = {"name": self._gpu.name, "numSms": self._gpu.sm_count}
        gpu |= {"totalGlobalMem": self._gpu.memory_bytes}
        major, minor = self._gpu.compute
        trace = {
            "schemaVersion": 1,
            "deviceProperties": [
                {"id": n, **gpu, "computeMajor": major, "computeMinor": minor, "warpSize": 32}
                for n in range(self._devices)
            ],
            "displayTimeUnit": "ms",
            "traceEvents": sorted(map(self._marked, self._events), key=lambda e: float(e["ts"])),
        }
        text = json.dumps(trace).encode()
        path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
        return path

    def _on_device(
        self,
        thread: Thread,
        category: str,
        name: str,
        stream: Stream,
        span: Span,
        number: int,
        more: dict[str, Any],
    ) -> None:
        self._processes.add(thread.process)
        place: dict[str, Any] = {"pid": stream.device, "tid": stream.number}
        place["_process"] = thread.process
        ids = {"device": stream.device, "context": stream.device + 1, "stream": stream.number}
        self._complete(category, name, span, place, ids | {"correlation": number} | more)
        arrow = {"ph": "f", "id": number, "cat": "ac2g", "name": "ac2g", "bp": "e"}
        self._events.append({**arrow, "ts": span[0] / 1e3, **place})

    def _on_host(
        self, category: str, thread: Thread, name: str, span: Span, more: dict[str, Any]
    ) -> None:
        self._complete(category, name, span, self._host(thread), more)

    def _complete(
        self, category: str, name: str, span: Span, place: dict[str, Any], more: dict[str, Any]
    ) -> None:
        times = {"ts": span[0] / 1e3, "dur": (span[1] - span[0]) / 1e3}
        self._events.append(
            {"ph": "X", "cat": category, "name": name, **place, **times, "args": more}
        )

    def _host(self, thread: Thread) -> dict[str, Any]:
        pid = FIRST_PID + thread.process - 1
        tid = FIRST_TID + 100 * thread.process + thread.number
        return {"pid": pid, "tid": tid, "_process": thread.process}

    def _marked(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event as merging traces of several ranks marks it, if there are several."""
        process, marked = event["_process"], {k: v for k, v in event.items() if k != "_process"}
        if len(self._processes) > 1:
            marked["pid"] = f"[TP{process - 1:02d}] {event['pid']}"
        return marked
