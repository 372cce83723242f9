"""How well repetitions are found in launches that nothing marks: precision, recall and time.

    python -m benchmarks.periods [--seeds 100] [--check] [--time]

``--check`` exits 1 when precision or recall is below 0.97, and with ``--time`` also when two
million launches take longer than 3 s and than ``MAX_SORTS`` sorts of as many numbers (a slow
machine decides nothing), or each takes more than ``MAX_GROWTH`` times as long as among an eighth.

Programs are simulated as sequences of launches whose loop is known: plain steps, layers within
steps, gradient accumulation, variable lengths (other launch configurations in every step),
validation phases, all of these at once, launches inserted and lost, warm-up, several streams, one
kernel repeated, and programs without a loop: set-up code, the levels of one solve (down, or down
and up), a random mix. A found begin is right
when it lies at the same place of its step as the others do, within a tenth of a step; the last
step may be missing, because nobody knows where it ends.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from analyzers.facts.periods import Period, find_period

MIN_PRECISION = MIN_RECALL = 0.97
MAX_SECONDS = 3.0
MAX_SORTS = 15  # of as many random numbers, in the same run
MAX_GROWTH = 1.5  # of the time of one launch, among eight times as many
LAUNCHES = 2_000_000
TOLERANCE = 0.1  # of a step


@dataclass
class Program:
    """A simulated sequence of launches.

    Attributes:
        name: Kernel of each launch.
        shape: Launch configuration, a number.
        duration_ns: How long each ran.
        pause_ns: Idle time before each.
        steps: Place where each true repetition begins; empty without a loop.
        lane: Stream of each launch; empty when there is one.
    """

    name: list[int]
    shape: list[int]
    duration_ns: list[float]
    pause_ns: list[float]
    steps: list[int]
    lane: list[int]

    @classmethod
    def empty(cls) -> Program:
        """Return a program that launches nothing."""
        return cls([], [], [], [], [], [])

    def add(self, block: LaunchBlock, rng: Generator, scale: float = 1.0, shape: int = 0) -> None:
        """Append a block of launches, with noise of 5 % on every duration."""
        noise = rng.lognormal(0, 0.05, len(block.name))
        self.name += block.name
        self.shape += [s * 1000 + shape for s in block.shape]
        self.duration_ns += (np.array(block.duration_ns) * noise * scale).tolist()
        self.pause_ns += rng.exponential(800, len(block.name)).tolist()

    def step(self) -> None:
        """Note that a repetition begins here."""
        self.steps.append(len(self.name))


@dataclass(frozen=True)
class LaunchBlock:
    """Launches that come together."""

    name: list[int]
    shape: list[int]
    duration_ns: list[float]


def _block(rng: Generator, launches: int, kernels: int = 12, first: int = 0) -> LaunchBlock:
    name = rng.integers(first, first + kernels, launches)
    return LaunchBlock(
        name.tolist(),
        (name % 7 + rng.integers(0, 2, launches)).tolist(),
        rng.lognormal(9.5, 1.0, launches).tolist(),
    )


def _steps(rng: Generator) -> int:
    return int(rng.integers(3, 60))


def plain(rng: Generator) -> Program:
    """A loop of equal steps after some set-up."""
    program, step = Program.empty(), _block(rng, int(rng.integers(2, 200)))
    program.add(_block(rng, int(rng.integers(0, 30)), first=100), rng)
    for _ in range(_steps(rng)):
        program.step()
        program.add(step, rng)
    return program


def layers(rng: Generator) -> Program:
    """Steps of embedding, equal layers and a head."""
    program = Program.empty()
    head = _block(rng, int(rng.integers(4, 20)), first=20)
    layer, tail = _block(rng, int(rng.integers(5, 25))), _block(rng, int(rng.integers(4, 30)))
    depth = int(rng.integers(4, 40))
    for _ in range(_steps(rng)):
        program.step()
        program.add(head, rng)
        for _ in range(depth):
            program.add(layer, rng)
        program.add(tail, rng)
    return program


def accumulation(rng: Generator) -> Program:
    """Steps of several forward and backward passes and one optimizer."""
    program = Program.empty()
    micro = _block(rng, int(rng.integers(20, 120)))
    optimizer = _block(rng, int(rng.integers(10, 60)), kernels=4, first=40)
    passes = int(rng.integers(2, 8))
    for _ in range(_steps(rng)):
        program.step()
        for _ in range(passes):
            program.add(micro, rng)
        program.add(optimizer, rng)
    return program


def variable(rng: Generator) -> Program:
    """Steps whose launch configurations and durations follow a length that varies."""
    program = Program.empty()
    step = _block(rng, int(rng.integers(20, 150)))
    for _ in range(_steps(rng)):
        length = int(rng.integers(60, 100))
        program.step()
        program.add(step, rng, scale=length / 80, shape=length)
    return program


def validation(rng: Generator) -> Program:
    """Steps interrupted once or twice by an evaluation of other length."""
    program = Program.empty()
    train, check = _block(rng, int(rng.integers(40, 150))), _block(rng, int(rng.integers(15, 40)))
    steps = int(rng.integers(12, 60))
    at = set(rng.integers(3, steps - 2, int(rng.integers(1, 3))).tolist())
    for i in range(steps):
        if i in at:
            for _ in range(int(rng.integers(3, 10))):
                program.add(check, rng)
        program.step()
        program.add(train, rng)
    return program


def training(rng: Generator) -> Program:
    """All at once: passes forward and back of layers of varying length, and evaluations."""
    program = Program.empty()
    head, layer = _block(rng, int(rng.integers(4, 12)), first=20), _block(rng, 12)
    back = _block(rng, 24, first=60)
    optimizer = _block(rng, int(rng.integers(10, 40)), kernels=4, first=40)
    depth, passes, steps = (int(rng.integers(*limits)) for limits in ((3, 8), (2, 5), (12, 40)))
    evaluated = set(rng.integers(3, steps - 2, 2).tolist())

    def forward(length: int) -> None:
        program.add(head, rng, shape=length)
        for _ in range(depth):
            program.add(layer, rng, scale=length / 80, shape=length)

    for i in range(steps):
        for _ in range(int(rng.integers(3, 8)) if i in evaluated else 0):
            forward(40)
        program.step()
        for _ in range(passes):
            length = int(rng.integers(60, 100))
            forward(length)
            for _ in range(depth):
                program.add(back, rng, scale=length / 80, shape=length)
        program.add(optimizer, rng)
    return program


def disturbed(rng: Generator) -> Program:
    """Steps with launches lost and inserted, one in a hundred each."""
    whole = plain(rng) if rng.random() < 0.5 else layers(rng)
    program, steps = Program.empty(), set(whole.steps)
    for i in range(len(whole.name)):
        if i in steps:
            program.step()
        fate = rng.random()
        if fate < 0.01:
            continue
        program.name.append(whole.name[i])
        program.shape.append(whole.shape[i])
        program.duration_ns.append(whole.duration_ns[i])
        program.pause_ns.append(whole.pause_ns[i])
        if fate > 0.99:
            program.add(_block(rng, 1, first=int(rng.integers(60, 70))), rng)
    return program


def warm_up(rng: Generator) -> Program:
    """A first step that is five times as long and launches more, then equal ones."""
    program, step = Program.empty(), _block(rng, int(rng.integers(20, 150)))
    program.step()
    program.add(_block(rng, 20, first=80), rng)
    program.add(step, rng, scale=5)
    for _ in range(_steps(rng)):
        program.step()
        program.add(step, rng)
    return program


def logging(rng: Generator) -> Program:
    """Equal steps, and every tenth one launch more."""
    program, step = Program.empty(), _block(rng, int(rng.integers(60, 200)))
    extra = _block(rng, 1, first=90)
    for i in range(int(rng.integers(30, 80))):
        program.step()
        program.add(step, rng)
        if i % 10 == 9:
            program.add(extra, rng)
    return program


def one_kernel(rng: Generator) -> Program:
    """One kernel launched again and again."""
    program, step = Program.empty(), _block(rng, 1)
    for _ in range(int(rng.integers(10, 500))):
        program.step()
        program.add(step, rng)
    return program


def paused(rng: Generator) -> Program:
    """Steps of kernels that come several times each, with a pause of the host between steps."""
    program, step = Program.empty(), _block(rng, int(rng.integers(20, 80)), kernels=4)
    for _ in range(_steps(rng)):
        program.step()
        program.add(step, rng)
        program.pause_ns[program.steps[-1]] += 500_000
    return program


def growing(rng: Generator) -> Program:
    """Steps of a decoder whose attention gets longer with every step, by a third in all."""
    program, step = Program.empty(), _block(rng, int(rng.integers(20, 80)))
    steps = _steps(rng)
    for i in range(steps):
        program.step()
        program.add(step, rng, scale=1 + i / steps / 3)
    return program


def prefill(rng: Generator) -> Program:
    """A long first phase of other kernels, then a loop."""
    program, step = Program.empty(), _block(rng, int(rng.integers(20, 80)))
    steps = int(rng.integers(10, 60))
    program.add(_block(rng, int(len(step.name) * steps * rng.uniform(0.1, 0.5)), first=30), rng)
    for _ in range(steps):
        program.step()
        program.add(step, rng)
    return program


def interleaved(rng: Generator) -> Program:
    """Steps of two streams whose launches overtake each other."""
    program, parts = (
        Program.empty(),
        [_block(rng, int(rng.integers(20, 60)), first=f) for f in (0, 30)],
    )
    total = sum(len(p.name) for p in parts)
    for _ in range(_steps(rng)):
        program.step()
        lane = np.repeat([0, 1], [len(p.name) for p in parts])
        planned = np.concatenate([np.linspace(0, total, len(p.name)) for p in parts])
        lane = lane[np.argsort(planned + rng.normal(0, 3, total))]  # overtaking, but by little
        place = np.where(lane == 0, np.cumsum(lane == 0), np.cumsum(lane)) - 1
        whole = [(parts[k], int(i)) for k, i in zip(lane, place, strict=True)]
        program.add(
            LaunchBlock(
                [b.name[i] for b, i in whole],
                [b.shape[i] for b, i in whole],
                [b.duration_ns[i] for b, i in whole],
            ),
            rng,
        )
        program.lane += lane.tolist()
    assert len(program.lane) == len(program.steps) * total
    return program


def chain(rng: Generator) -> Program:
    """Kernels that often follow each other, without a loop around them."""
    program, kernels = Program.empty(), int(rng.integers(8, 30))
    likely = rng.dirichlet(np.full(kernels, 0.15), kernels)
    name, names = 0, []
    for _ in range(int(rng.integers(50, 1500))):
        name = int(rng.choice(kernels, p=likely[name]))
        names.append(name)
    program.add(
        LaunchBlock(names, [0] * len(names), rng.lognormal(9.5, 1, len(names)).tolist()), rng
    )
    return program


def levels(rng: Generator) -> Program:
    """The levels of one solve: the same kernels on ever smaller grids."""
    program, level = Program.empty(), _block(rng, int(rng.integers(2, 12)))
    for i in range(int(rng.integers(8, 20))):
        program.add(level, rng, scale=0.6**i, shape=i)
    return program


def cycle(rng: Generator) -> Program:
    """One multigrid cycle: 18 levels down, each on a quarter of the grid, and up again."""
    program = Program.empty()
    smooth, down = _block(rng, int(rng.integers(2, 8))), _block(rng, 2, first=20)
    up, levels_below = _block(rng, 2, first=30), 18
    for level in range(levels_below):
        program.add(smooth, rng, scale=0.7**level, shape=level)
        program.add(down, rng, scale=0.7**level, shape=level)
    for level in reversed(range(levels_below)):
        program.add(up, rng, scale=0.7**level, shape=level)
        program.add(smooth, rng, scale=0.7**level, shape=level)
    return program


def mixture(rng: Generator) -> Program:
    """Kernels in an order without a pattern."""
    program = Program.empty()
    program.add(_block(rng, int(rng.integers(20, 1000)), kernels=int(rng.integers(10, 60))), rng)
    return program


def set_up(rng: Generator) -> Program:
    """Kernels of a program that runs once: each comes once or twice."""
    program = Program.empty()
    block = _block(rng, int(rng.integers(5, 60)), kernels=500)
    program.add(block, rng)
    return program


Kind = Callable[[Generator], Program]
WITH_LOOP: tuple[Kind, ...] = (
    *(plain, layers, accumulation, variable, validation, training, disturbed, warm_up, logging),
    *(one_kernel, paused, growing, prefill, interleaved),
)
WITHOUT_LOOP: tuple[Kind, ...] = (levels, cycle, mixture, chain, set_up)


def found_in(program: Program) -> Period | None:
    """Return the repetitions that are found in a simulated program."""
    name, shape = np.array(program.name), np.array(program.shape)
    start = np.cumsum(np.array(program.pause_ns) + np.array(program.duration_ns))
    end = start.astype(np.int64)
    begin = (start - np.array(program.duration_ns)).astype(np.int64)
    lane = np.array(program.lane or [0] * len(name))
    return find_period([name * 1_000_000 + shape, name], lane, begin, end)


def hits(program: Program, period: Period | None) -> tuple[int, int, int]:
    """Return how many begins are right, how many were found, and how many there are."""
    begins = np.empty(0, np.int64) if period is None else period.first
    true = np.array(program.steps, np.int64)
    if not len(begins) or not len(true):
        return 0, len(begins), max(len(true) - 1, 0)
    length = float(np.median(np.diff(true)))
    where = np.searchsorted(true, begins, side="right") - 1
    phase = begins - true[np.maximum(where, 0)]
    typical = np.median(phase)
    right = (where >= 0) & (np.abs(phase - typical) <= TOLERANCE * length + 1)
    return len(np.unique(where[right])), len(begins), len(true) - 1


def main(arguments: list[str] | None = None) -> int:
    """Print precision and recall for each kind of program, and the time for many launches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--time", action="store_true", help="also time two million launches")
    parser.add_argument("--check", action="store_true", help="exit 1 when a reach is missed")
    options = parser.parse_args(arguments)
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    by_confidence: dict[bool, list[int]] = defaultdict(lambda: [0, 0])
    for kind in (*WITH_LOOP, *WITHOUT_LOOP):
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            program = kind(np.random.default_rng([seed, len(kind.__name__)]))
            period = found_in(program)
            right, begins, true = hits(program, period)
            begins = min(begins, true) if begins <= true + 1 else begins  # the last may be there
            row = sums[kind.__name__]
            for place, number in enumerate((min(right, true), begins, true)):
                row[place] += number
            if period is not None:
                by_confidence[period.is_sure][0] += right >= 0.9 * max(begins, 1)
                by_confidence[period.is_sure][1] += 1
    for name, (right, begins, true) in sums.items():
        print(f"{name:14s} right {right:6d} of {begins:6d} found, {true:6d} true")
    for is_sure, (right, programs) in sorted(by_confidence.items(), reverse=True):
        confidence = "high" if is_sure else "medium"
        print(f"{confidence} confidence: right in {right} of {programs} programs")
    precision, recall = _rates(sums, options.seeds)
    print(f"precision {precision:.4f} recall {recall:.4f}")
    missed = precision < MIN_PRECISION or recall < MIN_RECALL
    if options.time:
        missed |= _is_slow()
    return int(options.check and missed)


def _rates(sums: dict[str, list[int]], seeds: int) -> tuple[float, float]:
    """Return precision and recall; each kind counts the same, however many steps it has."""
    with_loop = [row for row in sums.values() if row[2]]
    invented = [row[1] / seeds for row in sums.values() if not row[2]]  # begins a program
    recall = float(np.mean([right / true for right, _, true in with_loop]))
    precisions = [right / max(begins, 1) for right, begins, _ in with_loop]
    return float(np.mean(precisions + [1 - min(f, 1.0) for f in invented])), recall


def _is_slow() -> bool:
    """Print the time of many launches, beside that of a sort; tell whether it is too long."""
    few, many = (_seconds(launches) for launches in (LAUNCHES // 8, LAUNCHES))
    rows = np.random.default_rng(0).integers(0, LAUNCHES, LAUNCHES)
    begun = time.perf_counter()
    np.sort(rows, kind="stable")
    sorts = many / (time.perf_counter() - begun)
    growth = many / 8 / few
    print(
        f"{LAUNCHES:,} launches: {many:.2f} s, {sorts:.1f} sorts of as many numbers; each takes "
        f"{growth:.2f} times as long as among an eighth of them"
    )
    return (many > MAX_SECONDS and sorts > MAX_SORTS) or growth > MAX_GROWTH


def _seconds(launches: int) -> float:
    """Return how long the repetitions of this many launches take to find."""
    rng = np.random.default_rng(0)
    layer, head = _block(rng, 40), _block(rng, 60, first=50)
    step = Program.empty()
    step.add(head, rng)
    for _ in range(48):
        step.add(layer, rng)
    repeats = launches // len(step.name)
    name, shape = np.tile(step.name, repeats), np.tile(step.shape, repeats)
    duration = np.tile(step.duration_ns, repeats) * rng.lognormal(0, 0.05, repeats * len(step.name))
    end = np.cumsum(duration + 800).astype(np.int64)
    begun = time.perf_counter()
    period = find_period(
        [name * 1_000_000 + shape, name],
        np.zeros(len(name), int),
        (end - duration).astype(np.int64),
        end,
    )
    seconds = time.perf_counter() - begun
    if period is None or len(period.first) not in (repeats, repeats - 1):
        print("the repetitions of the long program were not found")
        return float("inf")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
