"""What a case of known trouble is, and how its program is drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.simulated.program import (
    Kernel,
    Operation,
    Program,
    Range,
    Stream,
    Thread,
    Work,
)
from benchmarks.simulated.recorder import Recorder
from traces.nsys_writer import SYNTHETIC_H100, Gpu

MB = 1_000_000
HEALTHY, UNKNOWN = "healthy", "unknown"
COLLECTIVE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
SIDE = Stream(13)
PAGEABLE_COPIES, MISSING_GRAPH = "bandwidth.pageable_copies", "launch.missing_graph"

STRAGGLERS = "communication.stragglers"

Tweak = Callable[[Recorder], None]


@dataclass(frozen=True)
class Case:
    """A program with known trouble.

    Attributes:
        program: What runs.
        planted: The cause, ``healthy``, or ``unknown`` where the recording cannot tell; empty
            when several were planted and the largest true loss decides.
        also_right: Other causes that an expert would accept as the verdict.
        tweaks: Changes to the recording, such as leaving tables out.
        never: Findings that would be wrong.
        has: Findings that there must be, and words of their titles.
        has_with_operators: The same where the recording holds operators and Python's stack.
        planted_with_operators: The cause where the recording holds operators and their shapes, if
            those alone show it.
        saves_with_operators: What following a finding wins of the kernels' time, in nanoseconds:
            it has to lie within the finding's range.
        has_shapes: Shapes of operators tell more than a recording without them.
        spoil: Damages the file.
        impossible: Kernels whose times cannot be true, which a reader has to leave out.
        gpu: What the devices are.
    """

    program: Program
    planted: str = ""
    also_right: tuple[str, ...] = ()
    tweaks: tuple[Tweak, ...] = field(default=())
    never: tuple[str, ...] = ()
    has: tuple[tuple[str, str], ...] = ()
    has_with_operators: tuple[tuple[str, str], ...] = ()
    planted_with_operators: str = ""
    saves_with_operators: tuple[tuple[str, int], ...] = ()
    has_shapes: bool = False
    spoil: Callable[[Path], None] | None = None
    impossible: int = 0
    gpu: Gpu = SYNTHETIC_H100

    def misjudged(self, ranges: Mapping[str, tuple[int, int]]) -> Iterator[str]:
        """Say which findings' ranges, in nanoseconds, do not hold what they really win."""
        for name, ns in self.saves_with_operators:
            low, high = ranges.get(name, (ns, ns))
            if not low <= ns <= high:
                yield f"{name} wins {ns} ns, not {low} to {high}"


class Maker:
    """Draws the lengths of a program's operations."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def about(self, ns: float, spread: float = 0.15) -> int:
        """Return ``ns``, more or less."""
        return max(1, round(ns * (1 + spread * (2 * self.random.random() - 1))))

    def between(self, low: float, high: float) -> float:
        """Return a number, small ones as likely as large ones in proportion."""
        return float(low * (high / low) ** self.random.random())

    def dispatch(self, ns: float = 8_000) -> Work:
        """Return the host's work from one launch to the next."""
        return Work(self.about(ns), is_dispatch=True)

    def kernel(self, ns: float, **more: object) -> Kernel:
        """Return a kernel of about this length."""
        return Kernel(self.about(ns), call_ns=self.about(4_000), **more)  # type: ignore[arg-type]

    def launches(
        self, count: int, ns: float, dispatch_ns: float = 8_000, stream: Stream | None = None
    ) -> list[Operation]:
        """Return launches with the dispatching between them."""
        more = {"stream": stream} if stream else {}
        return [
            o for _ in range(count) for o in (self.dispatch(dispatch_ns), self.kernel(ns, **more))
        ]


def loop(steps: Sequence[Sequence[Operation]], name: str = "step") -> list[Operation]:
    """Put each step into a range."""
    return [o for step in steps for o in (Range(name), *step, Range())]


def one_thread(operations: Sequence[Operation]) -> Program:
    """Return a program with a single thread."""
    return Program([Thread(operations)])


def step_count(make: Maker, total: int = 1_500, per_step: int = 30) -> int:
    """Return how many steps of so many kernels make up a program of about ``total`` kernels."""
    return max(4, total // per_step + make.random.randrange(5))
