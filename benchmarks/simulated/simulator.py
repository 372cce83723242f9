"""Executes small GPU programs under CUDA's rules, and tells what each cause really costs them.

A program is what host threads do, one operation after the other. ``execute`` runs it on a model of
driver, streams and copy engines, and can write down what a profiler would have seen. Run again
under rules that take one cause away (waits that do not block, launches that cost nothing …), the
same program ends earlier: by how much is the truth that a diagnosis has to find.

Every length stands in the program, so that two runs differ by the rule alone. Nothing here is
shared with the analyzers: where both agree, they agree about CUDA.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.simulated.page_traffic import (
    BY_PROGRAM,
    FAULT,
    READ_BYTES,
    PageTraffic,
    pieces_of,
    record_move,
)
from benchmarks.simulated.program import (
    MAIN,
    PEER,
    TO_DEVICE,
    TO_HOST,
    Collective,
    Copy,
    Graph,
    HostRead,
    Kernel,
    Manage,
    Memset,
    Poll,
    Prefetch,
    Program,
    Range,
    Record,
    Stream,
    StreamWait,
    Thread,
    Wait,
    Work,
)
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.rules import (
    BUS_BYTES_PER_NS,
    DEVICE_GAP_NS,
    FAULT_NS,
    LAUNCH_LATENCY_NS,
    PREFETCH_BYTES,
    QUEUE_PLACES,
    STAGING_BYTES_PER_NS,
    START_NS,
    WAKE_UP_NS,
    Rules,
)
from benchmarks.simulated.torch_recorder import TorchRecorder

CAUSES = tuple(f.name for f in dataclasses.fields(Rules))


@dataclass
class _Lane:
    free_ns: int = 0
    starts: deque[int] = field(default_factory=deque)


class _Part(NamedTuple):
    """A rank that has come to a collective."""

    runner: _Runner
    collective: Collective
    start_ns: int
    number: int


class _Machine:
    """The state of every device while a program runs."""

    def __init__(
        self, rules: Rules, recorder: Recorder | TorchRecorder | None, dispatch_ns: int
    ) -> None:
        self.rules = rules
        self.dispatch_ns = dispatch_ns
        self.recorder = recorder
        self.first_ns, self.last_ns = 1 << 62, 0
        self.steps_from_ns, self.steps_until_ns = 1 << 62, 0  # outermost ranges, on the host
        self._streams: dict[tuple[int, Stream], _Lane] = {}
        self._engines: dict[tuple[int, int], int] = {}
        self._events: dict[tuple[int, int], int] = {}
        self.collectives_ns = 0  # of all ranks, with waiting for those that came later
        self.meetings: dict[int, list[_Part]] = {}
        self.woken: list[_Runner] = []

    def lane(self, process: int, stream: Stream) -> _Lane:
        return self._streams.setdefault((process, stream), _Lane())

    def device_free_ns(self, process: int, device: int) -> int:
        lanes = (
            lane.free_ns
            for (its_process, stream), lane in self._streams.items()
            if its_process == process and stream.device == device
        )
        return max(lanes, default=0)

    def ran(self, start_ns: int, end_ns: int) -> None:
        self.first_ns = min(self.first_ns, start_ns)
        self.last_ns = max(self.last_ns, end_ns)


class _Runner:
    """One host thread on the machine."""

    def __init__(self, machine: _Machine, thread: Thread) -> None:
        self.machine = machine
        self.rules = machine.rules
        self.thread = thread
        self.now_ns = START_NS
        self.is_parked = False  # until the other ranks of a collective have come to it
        self._next = iter(thread.operations)
        self._number = 1_000 * thread.number
        self._ranges: list[tuple[Range, int]] = []

    def step(self) -> bool:
        """Do the next operation; False when there is none."""
        operation = next(self._next, None)
        if operation is None:
            return False
        getattr(self, f"_{type(operation).__name__.lower()}")(operation)
        return True

    # --- host -----------------------------------------------------------------------------

    def _work(self, work: Work) -> None:
        counts = self.rules.launch if work.is_dispatch else self.rules.host
        begin = self.now_ns
        self.now_ns += work.ns if counts else 0
        if work.os_call and self.machine.recorder and counts:
            self.machine.recorder.os_call(self.thread, work.os_call, begin, self.now_ns)

    def _range(self, mark: Range) -> None:
        machine = self.machine
        if mark.name:
            if not self._ranges:
                machine.steps_from_ns = min(machine.steps_from_ns, self.now_ns)
            self._ranges.append((mark, self.now_ns))
            return
        mark, begin = self._ranges.pop()
        if not self._ranges:
            machine.steps_until_ns = max(machine.steps_until_ns, self.now_ns)
        recorder, span = machine.recorder, (begin, self.now_ns)
        if recorder and mark.types:
            recorder.sized_operator(self.thread, mark, span)
        elif recorder and mark.kind == "range":
            recorder.nvtx(self.thread, mark.name, *span)
        elif recorder:
            recorder.operator(self.thread, mark.kind, mark.name, span)

    def _manage(self, call: Manage) -> None:
        if not self.rules.memory:
            return
        begin, number = self._begin()
        if call.waits and self.rules.sync:
            self.now_ns = max(self.now_ns, self.machine.device_free_ns(self.thread.process, 0))
        self.now_ns += call.ns
        self._called(call.function, begin, number)

    # --- work for the device --------------------------------------------------------------

    def _kernel(self, kernel: Kernel) -> None:
        number, arrival = self._submit("cudaLaunchKernel", kernel.call_ns, kernel.stream)
        if kernel.is_collective and not self.rules.communication:
            return
        pages = PageTraffic(self.thread, kernel, self.machine.recorder)
        length = pages.service_ns if self.rules.bandwidth else kernel.ns
        start, _ = self._occupy(kernel.stream, arrival, length, number, kernel.name)
        if self.rules.bandwidth:
            pages.record(start)

    def _collective(self, collective: Collective) -> None:
        stream = collective.stream
        number, arrival = self._submit("cudaLaunchKernelExC", collective.call_ns, stream)
        if not self.rules.communication:
            return
        lane = self.machine.lane(self.thread.process, stream)
        start = max(arrival, lane.free_ns + self._gap())
        parts = self.machine.meetings.setdefault(collective.number, [])
        parts.append(_Part(self, collective, start, number))
        self.is_parked = True
        if len(parts) == collective.ranks:
            last = max(part.start_ns for part in parts)
            end = last + collective.ns
            self.machine.collectives_ns += sum(end - part.start_ns for part in parts)
            for part in parts:
                part.runner._meet(part, end)

    def _meet(self, part: _Part, end: int) -> None:
        """Run a part of a collective to its end, which all parts share."""
        self.is_parked = False
        self.machine.woken.append(self)
        stream = part.collective.stream
        lane = self.machine.lane(self.thread.process, stream)
        lane.free_ns = end
        lane.starts.append(part.start_ns)
        self.machine.ran(part.start_ns, end)
        if self.machine.recorder:
            span = part.start_ns, end
            self.machine.recorder.collective(self.thread, part.collective, span, part.number)

    def _graph(self, graph: Graph) -> None:
        number, arrival = self._submit("cudaGraphLaunch", graph.call_ns, graph.stream)
        recorder, self.machine.recorder = self.machine.recorder, None
        spans = [
            self._occupy(graph.stream, arrival, ns, number, "graph_node") for ns in graph.kernels
        ]
        self.machine.recorder = recorder
        if recorder and graph.as_a_whole:
            whole = spans[0][0], spans[-1][1]
            recorder.graph(self.thread, graph.stream, whole, number)
        elif recorder:
            for node, span in enumerate(spans):
                recorder.kernel(self.thread, graph.stream, "graph_node", span, number, node + 1)

    def _memset(self, memset: Memset) -> None:
        number, arrival = self._submit("cudaMemsetAsync", memset.call_ns, memset.stream)
        length = memset.ns if self.rules.bandwidth else 0
        lane = self.machine.lane(self.thread.process, memset.stream)
        start = max(arrival, lane.free_ns + self._gap())
        lane.free_ns = start + length
        if length:
            self.machine.ran(start, lane.free_ns)
            if self.machine.recorder:
                span = start, lane.free_ns
                self.machine.recorder.memset(self.thread, memset.stream, span, number)

    def _copy(self, copy: Copy) -> None:
        blocks = self.rules.sync and (copy.blocking or copy.pageable)
        blocks = blocks and copy.direction != PEER
        staging = copy.size_bytes // STAGING_BYTES_PER_NS
        staging = staging if blocks and copy.pageable and self.rules.bandwidth else 0
        begin, number = self._begin()
        self.now_ns += copy.call_ns if self.rules.launch else 0
        to_device = copy.direction == TO_DEVICE
        self.now_ns += staging if to_device else 0
        lane = self.machine.lane(self.thread.process, copy.stream)
        engine = (copy.stream.device, copy.direction)
        free = max(lane.free_ns + self._gap(), self.machine._engines.get(engine, 0))
        start = max(self.now_ns + self._latency(), free)
        length = copy.size_bytes // BUS_BYTES_PER_NS + 1_200 if self.rules.bandwidth else 0
        end = start + length
        lane.free_ns = self.machine._engines[engine] = end
        if blocks:
            done = start if to_device and copy.pageable else end
            self.now_ns = max(self.now_ns, done) + WAKE_UP_NS + (0 if to_device else staging)
        name = "cudaMemcpy" if copy.blocking else "cudaMemcpyAsync"
        self._called(name, begin, number)
        if length:
            self.machine.ran(start, end)
            if self.machine.recorder:
                self.machine.recorder.copy(self.thread, copy, (start, end), number)

    def _prefetch(self, prefetch: Prefetch) -> None:
        _, arrival = self._submit("cudaMemPrefetchAsync", prefetch.call_ns, prefetch.stream)
        lane = self.machine.lane(self.thread.process, prefetch.stream)
        engine = (prefetch.stream.device, prefetch.direction)
        start = max(arrival, lane.free_ns + self._gap(), self.machine._engines.get(engine, 0))
        if not self.rules.bandwidth:
            return
        for size in pieces_of(prefetch.size_bytes, PREFETCH_BYTES):
            end = start + size // BUS_BYTES_PER_NS + 1_200
            self.machine.ran(start, end)
            if self.machine.recorder:
                why = prefetch.direction, BY_PROGRAM
                record_move(
                    self.machine.recorder, self.thread, prefetch.stream, (start, end), size, why
                )
            start = end
        lane.free_ns = self.machine._engines[engine] = start

    def _hostread(self, read: HostRead) -> None:
        sizes = list(pieces_of(read.size_bytes, READ_BYTES))
        for size in sizes:
            self.now_ns += FAULT_NS + read.ns // len(sizes) if self.rules.host else 0
            length = size // BUS_BYTES_PER_NS + 1_200 if self.rules.bandwidth else 0
            span = self.now_ns, self.now_ns + length
            self.now_ns += length
            if not length:
                continue
            self.machine.ran(*span)
            if self.machine.recorder:
                record_move(self.machine.recorder, self.thread, MAIN, span, size, (TO_HOST, FAULT))

    def _occupy(
        self, stream: Stream, arrival: int, length: int, number: int, name: str
    ) -> tuple[int, int]:
        lane = self.machine.lane(self.thread.process, stream)
        start = max(arrival, lane.free_ns + self._gap())
        lane.free_ns = start + length
        lane.starts.append(start)
        self.machine.ran(start, lane.free_ns)
        if self.machine.recorder:
            self.machine.recorder.kernel(
                self.thread, stream, name, (start, lane.free_ns), number, 0
            )
        return start, lane.free_ns

    def _submit(self, function: str, call_ns: int, stream: Stream) -> tuple[int, int]:
        """Make a call that enqueues; return its number and when the device sees it."""
        begin, number = self._begin()
        starts = self.machine.lane(self.thread.process, stream).starts
        while starts and starts[0] <= self.now_ns:
            starts.popleft()
        if len(starts) >= QUEUE_PLACES:  # the queue is full
            self.now_ns = starts[len(starts) - QUEUE_PLACES]
        self.now_ns += call_ns if self.rules.launch else 0
        self._called(function, begin, number)
        written = self.now_ns - (call_ns // 4 if self.rules.launch else 0)
        return number, written + self._latency()

    def _latency(self) -> int:
        return LAUNCH_LATENCY_NS if self.rules.launch else 0

    def _gap(self) -> int:
        return DEVICE_GAP_NS + self.machine.dispatch_ns if self.rules.launch else 0

    # --- waits ----------------------------------------------------------------------------

    def _wait(self, wait: Wait) -> None:
        begin, number = self._begin()
        process = self.thread.process
        if wait.event >= 0:
            done = self.machine._events.get((process, wait.event), 0)
        elif wait.function == "cudaDeviceSynchronize":
            done = self.machine.device_free_ns(process, wait.stream.device)
        else:
            done = self.machine.lane(process, wait.stream).free_ns
        if self.rules.sync:
            self.now_ns = max(self.now_ns + wait.call_ns, done) + WAKE_UP_NS
        self._called(wait.function, begin, number)
        if self.machine.recorder:
            self.machine.recorder.sync(self.thread, wait, (begin, self.now_ns), number)

    def _poll(self, poll: Poll) -> None:
        lane = self.machine.lane(self.thread.process, poll.stream)
        while True:
            begin, number = self._begin()
            self.now_ns += poll.call_ns if self.rules.sync else 0
            ready = lane.free_ns <= self.now_ns or not self.rules.sync
            self._called("cudaEventQuery", begin, number, 0 if ready else 600)
            if ready or not poll.until_done:
                return
            self.now_ns += poll.every_ns

    def _record(self, record: Record) -> None:
        _, arrival = self._submit("cudaEventRecord", record.call_ns, record.stream)
        process = self.thread.process
        free = self.machine.lane(process, record.stream).free_ns
        self.machine._events[process, record.event] = max(free, arrival)

    def _streamwait(self, wait: StreamWait) -> None:
        self._submit("cudaStreamWaitEvent", wait.call_ns, wait.stream)
        if self.rules.dependency:
            process = self.thread.process
            lane = self.machine.lane(process, wait.stream)
            lane.free_ns = max(lane.free_ns, self.machine._events.get((process, wait.event), 0))

    # --- bookkeeping ----------------------------------------------------------------------

    def _begin(self) -> tuple[int, int]:
        self._number += 1
        return self.now_ns, self._number

    def _called(self, function: str, begin: int, number: int, status: int = 0) -> None:
        if self.machine.recorder:
            self.machine.recorder.api(self.thread, function, begin, self.now_ns, number, status)


def execute(
    program: Program,
    rules: Rules | None = None,
    recorder: Recorder | TorchRecorder | None = None,
    *,
    of_steps: bool = False,
) -> int:
    """Run ``program`` and return the ns from its first to its last GPU operation.

    Args:
        program: What to run.
        rules: What costs time; everything, unless given.
        recorder: Writes down what a profiler would have seen.
        of_steps: Count from where a host enters its first range instead, until all work is done
            and all ranges are left: what was before the steps is no part of them.
    """
    machine = _run(program, rules or Rules(), recorder)
    if of_steps:
        return max(machine.last_ns, machine.steps_until_ns) - machine.steps_from_ns
    return max(machine.last_ns - machine.first_ns, 0)


def collectives_ns(program: Program) -> int:
    """Return how long collectives of several ranks run on all GPUs, with waiting for late ranks."""
    return _run(program, Rules(), None).collectives_ns


def _run(program: Program, rules: Rules, recorder: Recorder | TorchRecorder | None) -> _Machine:
    machine = _Machine(rules, recorder, program.dispatch_ns)
    runners = [_Runner(machine, thread) for thread in program.threads]
    ready = [(runner.now_ns, place) for place, runner in enumerate(runners)]
    while ready:  # the thread that is furthest behind goes on
        _, place = heapq.heappop(ready)
        if runners[place].step() and not runners[place].is_parked:
            machine.woken.append(runners[place])
        for runner in dict.fromkeys(machine.woken):
            heapq.heappush(ready, (runner.now_ns, runners.index(runner)))
        machine.woken.clear()
    return machine


def true_losses(program: Program, *, of_steps: bool = False) -> dict[str, int]:
    """Return how many ns shorter the program is without each cause, counted as by ``execute``."""
    whole = execute(program, of_steps=of_steps)
    return {c: whole - execute(program, Rules().without(c), of_steps=of_steps) for c in CAUSES}
