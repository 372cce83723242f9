"""Experiments on simulated programs: predict from a recording, make the change, and run again.

Each case is recorded once as it is; whyslow predicts from that recording how long it would take
under a change. The program is then really changed, its lengths drawn anew as a second run would
have them, and executed. A range that holds the time it took is right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzers.facts.facts import build_facts
from analyzers.facts.windows import ALL, choose_window
from analyzers.whatif.uncertainty import MIN_UNCERTAINTY
from analyzers.whatif.whatif import WhatIf, explore
from benchmarks.program_changes import (
    Rewrite,
    faster,
    hidden_collectives,
    in_graphs,
    overlapped,
    pinned,
    prefetched,
    prefetched_at_best,
    resident,
    without_allocation,
    without_pauses,
    without_waits,
)
from benchmarks.program_floors import floor_ns
from benchmarks.simulated import families, known_work, managed_memory, simulator
from benchmarks.simulated.cases import COLLECTIVE, Case, Maker, loop, one_thread
from benchmarks.simulated.program import (
    TO_HOST,
    Copy,
    Graph,
    Kernel,
    Operation,
    Program,
    Wait,
    Work,
)
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from collectors import open_trace

HELD_OUT = 2_000_000  # first seed of those that ranges were never tuned on
CROWDED = 0.2  # the host's work takes up to so much longer when others prepare its input
JITTER = 0.05  # a second run's lengths differ by so much, each for itself
FACTOR = 3.0  # between machines: launch latency 0.7 to 6 µs, device gap 0.3 to 3, wake-up 1 to 9
DAY = 0.2  # … and its launch latency, device gap and wake-up, each for all of the run
SHORTER_KERNELS = ("kernel", "kernels.roof", "fusion", "precision")
TIMES = (1.25, 1.5, 2.0, 3.0, 5.0)


def two_kernels(make: Maker) -> Case:
    """Two kinds of kernels in turn; the host is now ahead and now behind."""
    ns, share = make.between(8_000, 80_000), make.between(0.3, 4)
    dispatch = make.between(4_000, 40_000)
    steps: list[list[Operation]] = []
    for _ in range(60):
        step: list[Operation] = []
        for _ in range(8):
            step += [make.dispatch(dispatch), make.kernel(ns)]
            step += [make.dispatch(dispatch), make.kernel(ns * share, name="attention")]
        steps.append([*step, Wait()] if make.random.random() < 0.3 else step)
    return Case(one_thread(loop(steps)))


def copies_both_ways(make: Maker) -> Case:
    """Pinned or pageable input, kernels, and a result that goes back."""
    size = round(make.between(2, 40) * 1_000_000)
    ns, pageable = make.between(100_000, 600_000), make.random.random() < 0.5
    steps: list[list[Operation]] = [
        [
            make.dispatch(),
            Copy(size, pageable=pageable),
            *make.launches(4, ns),
            Copy(size // 4, TO_HOST),
        ]
        for _ in range(40)
    ]
    return Case(one_thread(loop(steps)))


def collectives_between(make: Maker) -> Case:
    """Kernels, then an all-reduce, on one stream."""
    ns, share = make.between(60_000, 300_000), make.between(0.2, 1.6)
    steps: list[list[Operation]] = [
        [
            *make.launches(8, ns),
            make.dispatch(),
            Kernel(make.about(8 * ns * share), COLLECTIVE, is_collective=True),
        ]
        for _ in range(40)
    ]
    return Case(one_thread(loop(steps)))


def input_before_late_launches(make: Maker) -> Case:
    """Input that nothing prepares, then kernels too short to hide their launching."""
    pause, dispatch = make.between(1_000_000, 8_000_000), make.between(15_000, 40_000)
    ns = make.between(4_000, 30_000)
    steps: list[list[Operation]] = [
        [
            Work(make.about(pause)),
            *[o for _ in range(60) for o in (make.dispatch(dispatch), make.kernel(ns))],
        ]
        for _ in range(20)
    ]
    return Case(one_thread(loop(steps)))


def faults_alone(make: Maker) -> Case:
    """Nothing but kernels that fault, so that no other work hides a prefetch."""
    size, ns = round(make.between(4, 40) * 1_000_000), make.between(40_000, 1_000_000)
    steps: list[list[Operation]] = [
        [make.dispatch(), make.kernel(ns, absent_bytes=size)] for _ in range(30)
    ]
    return Case(one_thread(loop(steps)))


@dataclass(frozen=True)
class Experiment:
    """A change, the programs it is tried on, and how it is made to a program.

    Attributes:
        change: Its name.
        programs: Families of programs.
        rewrite: Makes it.
        max_width: How wide the middle range may be, as ``ChangeOutcome.width``: a useless one is
            no answer.
        at_best: Makes it in the friendliest way, where it depends on what is not recorded: no
            prediction may be faster than that.
    """

    change: str
    programs: Sequence[Callable[[Maker], Case]]
    rewrite: Rewrite
    max_width: float = 0.1
    at_best: Rewrite | None = None


EXPERIMENTS = (
    Experiment(
        "graph", (families.launch_small_kernels, families.launch_late_host, two_kernels), in_graphs
    ),
    Experiment(
        "sync",
        (
            families.sync_every_kernel,
            families.sync_every_step,
            families.sync_read_back,
            families.sync_polling,
            families.tangled_steps,
            families.mixed_phases,
            families.healthy_busy_wait,
        ),
        without_waits,
    ),
    Experiment("copies.pinned", (families.bandwidth_pageable, copies_both_ways), pinned),
    Experiment(
        "copies.overlapped",
        (families.bandwidth_pageable, families.bandwidth_pinned, copies_both_ways),
        overlapped,
    ),
    Experiment("copies.resident", (families.bandwidth_round_trips,), resident),
    Experiment(
        "host",
        (
            families.host_input,
            families.host_pauses,
            input_before_late_launches,
            families.tangled_steps,
            families.mixed_phases,
        ),
        without_pauses,
    ),
    Experiment(
        "prefetch",
        (managed_memory.managed_page_faults, faults_alone),
        prefetched,
        at_best=prefetched_at_best,
        max_width=0.4,  # what a kernel computes between two faults is not recorded
    ),
    Experiment("memory", (families.memory_in_the_loop,), without_allocation),
    Experiment(
        "communication",
        (families.communication_exposed, collectives_between),
        hidden_collectives,
    ),
    Experiment("kernel", (two_kernels,), without_pauses),  # made anew for each seed
    Experiment("kernels.roof", (known_work.products_below_the_roof,), known_work.near_the_roof),
    Experiment(
        "fusion",
        (known_work.chains_to_fuse,),
        known_work.fused,
        at_best=known_work.fused_at_best,
        max_width=0.2,  # whether what lies between is still written is not recorded
    ),
    Experiment(
        "precision",
        (known_work.products_in_32_bits,),
        known_work.in_16_bits,
        at_best=known_work.in_16_bits_at_best,
        max_width=0.4,  # how near other kernels come to a higher roof is not recorded
    ),
)


@dataclass(frozen=True, kw_only=True)
class ChangeOutcome:
    """One prediction and what came of it.

    Attributes:
        change: What was changed.
        program: The program's family.
        seed: Of the case.
        error: Of the unchanged replay, as a part of the measured time.
        measured_ns: Time before the change.
        low_ns: Shortest time predicted; -1 when nothing was.
        high_ns: Longest one.
        truth_ns: Time after the change, on another day.
        same_day_ns: The same in proportion to the unchanged program's time on that day.
        floor_ns: What the changed program takes at least; see ``benchmarks.program_floors``.
        below_floor: Predictions about this recording that are faster than what must still run.
        reason: Why nothing was predicted.
    """

    change: str
    program: str
    seed: int
    error: float
    measured_ns: int
    low_ns: int
    high_ns: int
    truth_ns: int
    same_day_ns: int
    floor_ns: int
    below_floor: tuple[str, ...] = ()
    reason: str = ""

    @property
    def is_covered(self) -> bool:
        """Whether the truth lies in the range, on a day that is not the recording's."""
        return self._holds(self.truth_ns)

    @property
    def holds_same_day(self) -> bool:
        """Whether it does when the unchanged program ran on that day, too."""
        return self._holds(self.same_day_ns)

    def _holds(self, truth_ns: int) -> bool:
        """Tell whether a time is in the range; two runs without a change are no miss.

        A range says nothing about how much two runs of one program differ, so where it ends at
        "no gain", a time within that difference is no contradiction.
        """
        differs = MIN_UNCERTAINTY * self.measured_ns
        high = self.high_ns + differs if self.high_ns >= self.measured_ns else self.high_ns
        low = self.low_ns - differs if self.low_ns >= self.measured_ns - differs else self.low_ns
        return low <= truth_ns <= high

    @property
    def miss(self) -> float:
        """Distance of the truth from the middle of the range, as a part of the truth."""
        return abs((self.low_ns + self.high_ns) / 2 - self.truth_ns) / max(self.truth_ns, 1)

    @property
    def width(self) -> float:
        """Half of the range's width, as a part of its middle."""
        return (self.high_ns - self.low_ns) / max(self.high_ns + self.low_ns, 1)

    @property
    def width_of_gain(self) -> float:
        """The range's width as a part of the most that is predicted to be won."""
        return (self.high_ns - self.low_ns) / max(self.measured_ns - self.low_ns, 1)


def outcome(experiment: Experiment, seed: int) -> ChangeOutcome | None:
    """Try one change on one program; None when the program has nothing to change.

    Held-out seeds run on machines of their own, which are up to three times as slow or as fast.
    """
    with machine(f"machine {seed}", FACTOR) if seed >= HELD_OUT else contextlib.nullcontext():
        return _outcome(experiment, seed)


def _outcome(experiment: Experiment, seed: int) -> ChangeOutcome | None:
    make = Maker(seed)
    family = experiment.programs[seed % len(experiment.programs)]
    program = family(make).program
    rewrite = experiment.rewrite
    speed_ups: tuple[tuple[str, float], ...] = ()
    times = 1.0
    if experiment.change == "kernel":
        times = make.random.choice(TIMES)
        rewrite, speed_ups = faster(times), (("attention", times),)
    changed = [rewrite(t.operations) for t in program.threads]
    if all(list(t.operations) == c for t, c in zip(program.threads, changed, strict=True)):
        return None
    answer, measured = recorded(program, speed_ups)
    change = f"kernel:attention:{times:g}" if experiment.change == "kernel" else experiment.change
    predictions = [p for p in answer.predictions if p.change == change]
    reason = (
        "; ".join(w.reason for w in answer.withheld if w.change == experiment.change)
        or answer.replay.reason
    )
    at_best = experiment.at_best or rewrite
    floor = floor_ns(program, [at_best(t.operations) for t in program.threads])
    with machine(f"day {seed}", 1 + DAY):
        after = execute(_run_again(program, changed, f"second {seed}", _crowding(experiment, seed)))
        before = execute(
            _run_again(program, [t.operations for t in program.threads], f"base {seed}")
        )
    return ChangeOutcome(
        change=experiment.change,
        program=family.__name__,
        seed=seed,
        error=answer.replay.error,
        measured_ns=measured,
        low_ns=predictions[0].low_ns if predictions else -1,
        high_ns=predictions[0].high_ns if predictions else -1,
        truth_ns=after,
        same_day_ns=round(measured * after / before),
        floor_ns=floor,
        below_floor=_below_floor(answer, program, {change: floor}),
        reason="" if predictions else reason,
    )


def _below_floor(answer: WhatIf, program: Program, floors: dict[str, int]) -> tuple[str, ...]:
    """Return the predictions that are faster than what must still run.

    Args:
        answer: Every prediction.
        program: As it was recorded.
        floors: Of changes that were made; of the others only those of ``SHORTER_KERNELS`` shorten
            kernels. Collectives may run beside them.
    """
    kernels = [
        [o for o in t.operations if isinstance(o, Kernel) and not o.is_collective]
        for t in program.threads
    ]
    in_any_case = floor_ns(program, kernels)
    return tuple(
        p.change
        for p in answer.predictions
        if p.low_ns < floors.get(p.change, 0 if _shortens(p.change) else in_any_case)
    )


def _shortens(change: str) -> bool:
    return change.partition(":")[0] in SHORTER_KERNELS


def _crowding(experiment: Experiment, seed: int) -> float:
    """Return how much longer the host's work takes beside what prepares its input."""
    share = random.Random(f"crowd {seed}").random()
    return 1 + CROWDED * share if experiment.change == "host" else 1.0


def _run_again(
    program: Program, operations: Sequence[Sequence[Operation]], chance: str, slower: float = 1.0
) -> Program:
    """Return another run of a program whose threads do ``operations``."""
    threads = [
        dataclasses.replace(t, operations=second_run(o, chance, slower))
        for t, o in zip(program.threads, operations, strict=True)
    ]
    return Program(threads, program.devices)


@contextlib.contextmanager
def machine(draw: str, factor: float) -> Iterator[None]:
    """Let the machine's own pauses differ: a little from run to run, a lot between machines.

    Args:
        draw: Names the machine.
        factor: Up to how many times as long or as short each of them is.
    """
    chance = random.Random(draw)
    names = ("LAUNCH_LATENCY_NS", "DEVICE_GAP_NS", "WAKE_UP_NS")
    usual = {name: getattr(simulator, name) for name in names}
    try:
        for name, ns in usual.items():
            setattr(simulator, name, round(ns * factor ** (2 * chance.random() - 1)))
        yield
    finally:
        for name, ns in usual.items():
            setattr(simulator, name, ns)


def second_run(operations: Sequence[Operation], draw: str, slower: float = 1.0) -> list[Operation]:
    """Draw every length anew, as another run of the same program would have them.

    Args:
        operations: What a thread does.
        draw: Names the run.
        slower: How many times as long the host's own work takes.
    """
    chance = random.Random(draw)

    def about(ns: int) -> int:
        return round(ns * (1 + JITTER * (2 * chance.random() - 1)))

    result: list[Operation] = []
    for o in operations:
        lengths: dict[str, Any] = {
            n: about(getattr(o, n)) for n in ("ns", "call_ns") if hasattr(o, n)
        }
        for name in ("call_ns", "ns") if isinstance(o, Work) else ("call_ns",):
            if name in lengths:
                lengths[name] = round(lengths[name] * slower)
        if isinstance(o, Graph):
            lengths["kernels"] = [about(k) for k in o.kernels]
        result.append(dataclasses.replace(o, **lengths))
    return result


def recorded(program: Program, speed_ups: Sequence[tuple[str, float]] = ()) -> tuple[WhatIf, int]:
    """Record a program and predict from the recording; also return its measured time."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(devices=program.devices)
        execute(program, recorder=recorder)
        path = recorder.write(Path(folder) / "program.sqlite")
        facts = build_facts(open_trace(path, Path(folder) / "cache"))
        window = choose_window(facts, ALL, ())  # as the simulator measures its programs
        return explore(facts, window, speed_ups), window.duration_ns
