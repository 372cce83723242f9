"""How pages of unified memory come while a kernel runs, and go home while the host reads."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.simulated.program import TO_DEVICE, TO_HOST, Kernel, Stream, Thread
from benchmarks.simulated.recorder import Recorder, Span
from benchmarks.simulated.rules import BUS_BYTES_PER_NS, FAULT_BYTES, FAULT_NS
from benchmarks.simulated.torch_recorder import TorchRecorder

READ_BYTES = 65_536  # what comes back when the host touches a page
# Why a page moved, as CUPTI numbers it.
BY_PROGRAM, FAULT, SPECULATIVE, EVICTION = 1, 2, 3, 4
FAULTS_OF = 5  # one migration in so many is called a fault, the others the driver's prefetches


def pieces_of(size_bytes: int, each: int) -> Iterator[int]:
    """Cut a size into pieces of at most ``each`` bytes."""
    for begin in range(0, size_bytes, each):
        yield min(each, size_bytes - begin)


def record_move(
    recorder: Recorder | TorchRecorder,
    thread: Thread,
    stream: Stream,
    span: Span,
    size_bytes: int,
    why: tuple[int, int],
) -> None:
    """Write a move down; the torch profiler does not record any."""
    if isinstance(recorder, Recorder):
        recorder.migration(thread, stream, span, size_bytes, why)


class PageTraffic:
    """What a kernel waits for that touches pages which are not on its GPU.

    Every piece costs a fault, then its way over the link; what must leave goes before. The
    kernel's own work is spread between them.
    """

    def __init__(
        self, thread: Thread, kernel: Kernel, recorder: Recorder | TorchRecorder | None
    ) -> None:
        self._thread, self._kernel, self._recorder = thread, kernel, recorder
        self._out = list(pieces_of(kernel.evicted_bytes, FAULT_BYTES))
        self._into = list(pieces_of(kernel.absent_bytes, FAULT_BYTES))

    @property
    def service_ns(self) -> int:
        """How long the kernel takes with it."""
        moves = [*self._out, *self._into]
        return self._kernel.ns + FAULT_NS * len(self._into) + sum(map(_length, moves))

    def record(self, start: int) -> None:
        """Write the moves of a kernel down that begins at ``start``."""
        if self._recorder is None or not self._into:
            return
        work, now, out = self._kernel.ns // len(self._into), start, list(self._out)
        for number, size in enumerate(self._into):
            now += FAULT_NS
            if out:
                now = self._move(now, out.pop(0), (TO_HOST, EVICTION))
            cause = SPECULATIVE if number % FAULTS_OF else FAULT
            now = self._move(now, size, (TO_DEVICE, cause)) + work
        for size in out:
            now = self._move(now, size, (TO_HOST, EVICTION))

    def _move(self, start: int, size: int, why: tuple[int, int]) -> int:
        end = start + _length(size)
        if self._recorder is not None:
            record_move(self._recorder, self._thread, self._kernel.stream, (start, end), size, why)
        return end


def _length(size: int) -> int:
    return size // BUS_BYTES_PER_NS + 1_200
