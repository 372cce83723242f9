"""A small model of a host thread, CUDA streams and copy engines, for synthetic recordings.

The host runs in program order. A call that launches takes about 4 µs; what it launched can begin
about 2 µs after the call wrote it to the queue, and not before its stream's last operation plus a
device-side gap. Blocking calls return when the GPU is done, plus the time to wake the thread.
Every length is varied by a few percent from a seeded generator, so a program always gives the
same recording.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from traces.nsys_writer import Recording

HOST_TO_DEVICE, DEVICE_TO_HOST, PEER_TO_PEER = 1, 2, 10
PAGEABLE, PINNED, DEVICE = 0, 1, 2

JITTER = 0.04  # each length varies by up to this part, so that no two rows look copied
START_NS = 1_500_000_000  # a real program imports and allocates first

METRICS = (
    *("GR Active", "SM Active", "SM Issue", "Tensor Active"),
    *("DRAM Read Throughput", "DRAM Write Throughput"),
)
METRIC_PERIOD_NS = 100_000  # nsys samples at 10 kHz unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the machine's own steps cost, as measured on machines with a recent GPU."""

    launch_call_ns: int = 4_000
    launch_latency_ns: int = 2_000
    device_gap_ns: int = 1_200
    wake_up_ns: int = 3_000
    small_call_ns: int = 900
    other_stream_ns: int = 2_500
    pageable_bytes_per_s: int = 6_000_000_000
    pinned_bytes_per_s: int = 25_000_000_000
    peer_bytes_per_s: int = 200_000_000_000
    copy_setup_ns: int = 1_300


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel that a program launches, and how the GPU looks while it runs."""

    name: str
    duration_ns: int
    blocks: int = 4224
    threads: int = 256
    registers: int = 32
    shared_bytes: int = 0
    sm_active_pct: int = 97
    sm_issue_pct: int = 55
    dram_read_pct: int = 22
    dram_write_pct: int = 11


@dataclass(frozen=True)
class Stream:
    """A CUDA stream: its number and its device."""

    number: int
    device: int = 0

    @property
    def context(self) -> int:
        """Number of the device's context."""
        return self.device + 1


@dataclass(frozen=True)
class _Copy:
    kind: int
    size_bytes: int
    bytes_per_s: int
    host_kind: int


MAIN = Stream(7)  # nsys shows the default stream of the first context as 7


@dataclass
class Machine:
    """Runs one program and writes down what a profiler would have seen.

    Attributes:
        recording: Where the rows go.
        seed: Of the variation in lengths.
        costs: What the machine's own steps cost.
        now_ns: Time of the host thread.
    """

    recording: Recording
    seed: int = 0
    costs: Costs = field(default_factory=Costs)
    now_ns: int = START_NS
    _free_ns: dict[Stream, int] = field(default_factory=dict)
    _engine_free_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    _ran: list[tuple[int, int, Kernel]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare the counters."""
        self._random = random.Random(self.seed)
        self._correlation = itertools.count(1_001)

    def launch(self, kernel: Kernel, stream: Stream = MAIN) -> None:
        """Launch ``kernel``; returns when the call does, as CUDA does."""
        begin, number = self._call("cudaLaunchKernel_v7000", self.costs.launch_call_ns)
        start = max(self._arrival(begin), self._free_ns.get(stream, 0))
        end = start + self._about(kernel.duration_ns)
        self._free_ns[stream] = end + self._about(self.costs.device_gap_ns)
        self._ran.append((start, end, kernel))
        size = {"gridX": kernel.blocks, "blockX": kernel.threads, "gridId": number}
        size |= {"registersPerThread": kernel.registers, "staticSharedMemory": kernel.shared_bytes}
        self.recording.kernel(kernel.name, start, end, **self._place(stream, number), **size)

    def work(self, length_ns: int) -> None:
        """Run host code that calls nothing that is recorded."""
        self.now_ns += self._about(length_ns)

    def os_call(self, name: str, length_ns: int) -> None:
        """Block the host thread in a call of the operating system."""
        begin = self.now_ns
        self.work(length_ns)
        self.recording.os_call(name, begin, self.now_ns)

    def synchronize(self, stream: Stream = MAIN) -> None:
        """Block until ``stream`` is done."""
        self._block_until(
            "cudaStreamSynchronize_v3020", "stream", stream, self._free_ns.get(stream, 0)
        )

    def synchronize_device(self) -> None:
        """Block until every stream is done."""
        done = max(self._free_ns.values(), default=0)
        self._block_until("cudaDeviceSynchronize_v3020", "device", MAIN, done)

    def record_event(self, stream: Stream = MAIN) -> int:
        """Record an event; returns the moment at which ``stream`` will reach it."""
        self._call("cudaEventRecord_v3020", self.costs.small_call_ns)
        return self._free_ns.get(stream, 0)

    def wait_for_event(self, event_ns: int, stream: Stream) -> None:
        """Let ``stream``, not the host, wait for an event of another stream."""
        begin, number = self._call("cudaStreamWaitEvent_v3020", self.costs.small_call_ns)
        place = self._place(stream, number)
        self.recording.sync("wait", begin, begin + 400, **place, eventId=number)
        ready = event_ns + self._about(self.costs.other_stream_ns)
        self._free_ns[stream] = max(self._free_ns.get(stream, 0), ready)

    def synchronize_event(self, event_ns: int) -> None:
        """Block the host until an event is reached."""
        self._block_until("cudaEventSynchronize_v3020", "event", MAIN, event_ns)

    def copy(self, kind: int, size_bytes: int, *, pageable: bool, stream: Stream = MAIN) -> None:
        """Copy between host and device; from pageable memory the call blocks, as CUDA's does."""
        if not pageable:
            speed = self.costs.pinned_bytes_per_s
            self._copy_async(_Copy(kind, size_bytes, speed, PINNED), stream)
            return
        begin, number = self.now_ns, next(self._correlation)
        arrival = begin + self._about(self.costs.launch_call_ns)
        copy = _Copy(kind, size_bytes, self.costs.pageable_bytes_per_s, PAGEABLE)
        end = self._transfer(copy, stream, arrival, number)
        self.now_ns = end + self._about(self.costs.wake_up_ns)
        self._write_call("cudaMemcpy_v3020", begin, number)

    def copy_to_peer(self, size_bytes: int, stream: Stream) -> None:
        """Copy to another device without the host."""
        self._copy_async(
            _Copy(PEER_TO_PEER, size_bytes, self.costs.peer_bytes_per_s, DEVICE), stream
        )

    def read_scalar(self) -> None:
        """Fetch four bytes as ``tensor.item()`` does: a copy, then a wait for it."""
        self._copy_async(_Copy(DEVICE_TO_HOST, 4, self.costs.pinned_bytes_per_s, PAGEABLE), MAIN)
        self.synchronize()

    def malloc(self, length_ns: int) -> None:
        """Allocate device memory; the driver takes ``length_ns``."""
        self._call("cudaMalloc_v3020", length_ns)

    def free(self, length_ns: int) -> None:
        """Free device memory, which waits for the whole device first."""
        begin, number = self.now_ns, next(self._correlation)
        done = max(self._free_ns.values(), default=0)
        self.now_ns = max(begin, done) + self._about(length_ns)
        self._write_call("cudaFree_v3020", begin, number)

    @contextlib.contextmanager
    def range(self, text: str) -> Iterator[None]:
        """Mark what happens inside as an NVTX range."""
        begin = self.now_ns
        self.now_ns += self._about(400)
        yield
        self.now_ns += self._about(400)
        self.recording.nvtx("", begin, self.now_ns, textId=self.recording.string(text))

    def sample_metrics(self) -> None:
        """Write what sampling the GPU's metrics would have shown."""
        starts = np.array([start for start, _, _ in self._ran])
        times = range(START_NS - METRIC_PERIOD_NS, self.now_ns, METRIC_PERIOD_NS)
        values = [self._metrics_at(starts, time) for time in times]
        self.recording.metrics(METRICS, list(times), np.array(values))

    def _metrics_at(
        self, starts: np.ndarray[tuple[int], np.dtype[np.int64]], time_ns: int
    ) -> Sequence[int]:
        last = int(np.searchsorted(starts, time_ns, side="right")) - 1
        if last < 0 or self._ran[last][1] <= time_ns:
            return (0,) * len(METRICS)
        kernel = self._ran[last][2]
        active = (100, kernel.sm_active_pct, kernel.sm_issue_pct, 0)
        memory = (kernel.dram_read_pct, kernel.dram_write_pct)
        return (*active, *(max(0, p - self._random.randrange(3)) for p in memory))

    def _copy_async(self, copy: _Copy, stream: Stream) -> None:
        peer = copy.kind == PEER_TO_PEER
        name = "cudaMemcpyPeerAsync_v4000" if peer else "cudaMemcpyAsync_v3020"
        begin, number = self._call(name, self.costs.launch_call_ns)
        self._transfer(copy, stream, self._arrival(begin), number)

    def _transfer(self, copy: _Copy, stream: Stream, arrival_ns: int, number: int) -> int:
        engine = (stream.device, copy.kind)
        free = max(self._free_ns.get(stream, 0), self._engine_free_ns.get(engine, 0))
        start = max(arrival_ns, free)
        moving_ns = copy.size_bytes * 1_000_000_000 // copy.bytes_per_s
        end = start + self._about(self.costs.copy_setup_ns + moving_ns)
        self._engine_free_ns[engine] = end
        self._free_ns[stream] = end + self._about(self.costs.device_gap_ns)
        ends = {
            HOST_TO_DEVICE: {"srcKind": copy.host_kind, "dstKind": DEVICE},
            DEVICE_TO_HOST: {"srcKind": DEVICE, "dstKind": copy.host_kind},
            PEER_TO_PEER: {"srcKind": DEVICE, "dstKind": DEVICE},
        }[copy.kind]
        place = self._place(stream, number)
        self.recording.copy(copy.kind, copy.size_bytes, start, end, **place, **ends)
        return end

    def _block_until(self, name: str, kind: str, stream: Stream, done_ns: int) -> None:
        begin, number = self.now_ns, next(self._correlation)
        self.now_ns = max(begin + self._about(self.costs.small_call_ns), done_ns)
        self.now_ns += self._about(self.costs.wake_up_ns)
        self._write_call(name, begin, number)
        place = self._place(stream, number)
        if kind == "device":
            del place["streamId"]  # a wait for the device has no stream
        self.recording.sync(kind, begin + 300, self.now_ns - 300, **place)

    def _call(self, name: str, length_ns: int) -> tuple[int, int]:
        """Make a call that does not block; returns when it began, and its correlation id."""
        begin, number = self.now_ns, next(self._correlation)
        self.now_ns += self._about(length_ns)
        self._write_call(name, begin, number)
        return begin, number

    def _write_call(self, name: str, begin_ns: int, number: int) -> None:
        self.recording.api(name, begin_ns, self.now_ns, correlationId=number)

    def _arrival(self, begin_ns: int) -> int:
        # The call writes to the GPU's queue shortly before it returns.
        written = begin_ns + (self.now_ns - begin_ns) * 3 // 4
        return written + self._about(self.costs.launch_latency_ns)

    def _place(self, stream: Stream, number: int) -> dict[str, object]:
        place = {"deviceId": stream.device, "contextId": stream.context}
        return {**place, "streamId": stream.number, "correlationId": number}

    def _about(self, length_ns: int) -> int:
        return round(length_ns * (1 + JITTER * (2 * self._random.random() - 1)))
