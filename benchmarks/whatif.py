"""Whether predictions come true: programs are simulated, changed, and simulated again.

Each case is recorded once as it is; whyslow predicts from that recording how long it would take
under a change. The program is then really changed, its lengths drawn anew as a second run would
have them, and executed. A range that holds the time it took is right. ``--check`` also measures
how long replaying a million operations takes, beside a loop over as many numbers in Python.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analyzers.facts.facts import Facts, build_facts
from analyzers.facts.windows import choose_window
from analyzers.whatif.whatif import MIN_UNCERTAINTY, WhatIf, explore
from benchmarks.ingest_export import KERNELS, make_export
from benchmarks.simulated import families, simulator
from benchmarks.simulated.cases import COLLECTIVE, SIDE, Case, Maker, loop, one_thread
from benchmarks.simulated.program import (
    TO_DEVICE,
    TO_HOST,
    Copy,
    Graph,
    Kernel,
    Manage,
    Operation,
    Poll,
    Program,
    Range,
    Record,
    Stream,
    StreamWait,
    Wait,
    Work,
)
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from collectors import open_trace
from collectors.errors import RefusedError
from collectors.trace import Trace

SEEDS = 200
HELD_OUT = 2_000_000  # first seed of those that ranges were never tuned on
CROWDED = 0.2  # the host's work takes up to so much longer when others prepare its input
JITTER = 0.05  # a second run's lengths differ by so much, each for itself
FACTOR = 3.0  # between machines: launch latency 0.7 to 6 µs, device gap 0.3 to 3, wake-up 1 to 9
DAY = 0.2  # … and its launch latency, device gap and wake-up, each for all of the run
MIN_COVERAGE = 0.90
MAX_REPLAY_S = 2.0
OPERATIONS = 1_000_000
WORKERS = 2
TIMES = (1.25, 1.5, 2.0, 3.0, 5.0)

Rewrite = Callable[[Sequence[Operation]], list[Operation]]


# --- the changes, made to programs ----------------------------------------------------------


def without_waits(operations: Sequence[Operation]) -> list[Operation]:
    """Drop waits and loops of polls; small read-backs no longer block."""
    kept = [o for o in operations if not isinstance(o, Wait | Poll)]
    return [_asynchronous(o) if _reads_little(o) else o for o in kept]


def _reads_little(operation: Operation) -> bool:
    return isinstance(operation, Copy) and operation.size_bytes <= 65_536


def _asynchronous(operation: Operation) -> Operation:
    assert isinstance(operation, Copy)
    return dataclasses.replace(operation, pageable=False, blocking=False)


def in_graphs(operations: Sequence[Operation]) -> list[Operation]:
    """Launch all kernels between two waits or ranges as one graph."""
    result: list[Operation] = []
    run: list[Operation] = []
    for operation in [*operations, Range()]:
        is_launch = isinstance(operation, Kernel) or (
            isinstance(operation, Work) and operation.is_dispatch
        )
        if is_launch:
            run.append(operation)
            continue
        result += _as_graph(run)
        run = []
        result.append(operation)
    return result[:-1]


def _as_graph(run: Sequence[Operation]) -> list[Operation]:
    kernels = [o for o in run if isinstance(o, Kernel)]
    if len(kernels) < 2:
        return list(run)
    before = run[: run.index(kernels[0])]
    after = run[run.index(kernels[-1]) + 1 :]
    return [*before, Graph([k.ns for k in kernels], kernels[0].stream), *after]


def pinned(operations: Sequence[Operation]) -> list[Operation]:
    """Copy from pinned memory, asynchronously."""
    return [_asynchronous(o) if isinstance(o, Copy) else o for o in operations]


def overlapped(operations: Sequence[Operation]) -> list[Operation]:
    """Copy on another stream, a step ahead; kernels wait for the copy of their own step."""
    into = [
        dataclasses.replace(o, stream=SIDE, pageable=False, blocking=False)
        for o in operations
        if isinstance(o, Copy) and o.direction == TO_DEVICE
    ]
    result: list[Operation] = []
    number = 0
    for operation in operations:
        if isinstance(operation, Copy) and operation.direction == TO_DEVICE:
            if number == 0:
                result += [into[0], Record(0, SIDE)]
            result.append(StreamWait(number))
            number += 1
            if number < len(into):
                result += [into[number], Record(number, SIDE)]
        elif isinstance(operation, Copy):
            event = 100_000 + number
            out = dataclasses.replace(operation, stream=Stream(21), pageable=False)
            result += [Record(event), StreamWait(event, out.stream), out]
        else:
            result.append(operation)
    return result


def without_pauses(operations: Sequence[Operation]) -> list[Operation]:
    """Drop host work that is not dispatching."""
    return [o for o in operations if not isinstance(o, Work) or o.is_dispatch]


def without_allocation(operations: Sequence[Operation]) -> list[Operation]:
    """Drop allocating and freeing."""
    return [o for o in operations if not isinstance(o, Manage)]


def hidden_collectives(operations: Sequence[Operation]) -> list[Operation]:
    """Run collectives on another stream; what follows the next one waits for them."""
    result: list[Operation] = []
    number = 0
    for operation in operations:
        if not (isinstance(operation, Kernel) and operation.is_collective):
            result.append(operation)
            continue
        result += [Record(2 * number), StreamWait(2 * number, SIDE)]
        result += [dataclasses.replace(operation, stream=SIDE), Record(2 * number + 1, SIDE)]
        result += [StreamWait(2 * number - 1)] if number else []
        number += 1
    return result


def faster(times: float) -> Rewrite:
    """Return what makes every kernel named ``attention`` so many times as fast."""

    def rewrite(operations: Sequence[Operation]) -> list[Operation]:
        return [
            dataclasses.replace(o, ns=round(o.ns / times))
            if isinstance(o, Kernel) and o.name == "attention"
            else o
            for o in operations
        ]

    return rewrite


# --- programs -------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Experiment:
    """A change, the programs it is tried on, and how it is made to a program."""

    change: str
    programs: Sequence[Callable[[Maker], Case]]
    rewrite: Rewrite


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
    Experiment("memory", (families.memory_in_the_loop,), without_allocation),
    Experiment(
        "communication",
        (families.communication_exposed, collectives_between),
        hidden_collectives,
    ),
    Experiment("kernel", (two_kernels,), without_pauses),  # made anew for each seed
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
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


def outcome(experiment: Experiment, seed: int) -> Outcome | None:
    """Try one change on one program; None when the program has nothing to change.

    Held-out seeds run on machines of their own, which are up to three times as slow or as fast.
    """
    with machine(f"machine {seed}", FACTOR) if seed >= HELD_OUT else contextlib.nullcontext():
        return _outcome(experiment, seed)


def _outcome(experiment: Experiment, seed: int) -> Outcome | None:
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
    known, measured = recorded(program, speed_ups)
    wanted = f"kernel:attention:{times:g}" if experiment.change == "kernel" else experiment.change
    told = [p for p in known.predictions if p.change == wanted]
    reason = (
        "; ".join(w.reason for w in known.withheld if w.change == experiment.change)
        or known.replay.reason
    )
    with machine(f"day {seed}", 1 + DAY):
        after = execute(_run_again(program, changed, f"second {seed}", _crowding(experiment, seed)))
        before = execute(
            _run_again(program, [t.operations for t in program.threads], f"base {seed}")
        )
    return Outcome(
        change=experiment.change,
        program=family.__name__,
        seed=seed,
        error=known.replay.error,
        measured_ns=measured,
        low_ns=told[0].low_ns if told else -1,
        high_ns=told[0].high_ns if told else -1,
        truth_ns=after,
        same_day_ns=round(measured * after / before),
        reason="" if told else reason,
    )


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
        window = choose_window(facts, "", ())
        return explore(facts, window, speed_ups), window.duration_ns


# --- tables ---------------------------------------------------------------------------------


def outcomes(
    experiments: Sequence[Experiment], seeds: int, workers: int, first: int = 0
) -> Iterator[Outcome]:
    """Try every change on as many programs as there are seeds, from ``first`` on."""
    asked = [(p, seed) for p in range(len(experiments)) for seed in range(first, first + seeds)]
    with ProcessPoolExecutor(workers) as pool:
        chosen = [experiments[place].change for place, _ in asked]
        yield from (
            o for o in pool.map(_one, chosen, [s for _, s in asked], chunksize=20) if o is not None
        )


def _one(change: str, seed: int) -> Outcome | None:
    experiment = next(e for e in EXPERIMENTS if e.change == change)
    return outcome(experiment, seed)


def table(results: Sequence[Outcome]) -> str:
    """Return one line for each change: how often the range held, how far off, how wide."""
    lines = [
        f"{'change':<19}{'cases':>6}{'withheld':>9}{'covered':>9}{'same day':>9}{'median miss':>12}"
        f"{'95 % miss':>11}{'median ±':>10}{'95 % ±':>9}{'of gain':>9}{'median speed-up':>17}"
    ]
    for change in dict.fromkeys(r.change for r in results):
        mine = [r for r in results if r.change == change]
        told = [r for r in mine if r.low_ns >= 0]
        if not told:
            lines.append(f"{change:<19}{len(mine):>6}{len(mine):>9}")
            continue
        misses = sorted(r.miss for r in told)
        gains = statistics.median(r.measured_ns / r.truth_ns for r in told)
        lines.append(
            f"{change:<19}{len(mine):>6}{len(mine) - len(told):>9}"
            f"{coverage(told):>9.1%}{sum(r.holds_same_day for r in told) / len(told):>9.1%}"
            f"{statistics.median(misses):>12.2%}"
            f"{misses[int(0.95 * (len(misses) - 1))]:>11.2%}"
            f"{statistics.median(r.width for r in told):>10.2%}"
            f"{statistics.quantiles([r.width for r in told], n=20)[-1]:>9.2%}"
            f"{statistics.median(r.width_of_gain for r in told):>9.0%}{gains:>15.2f} x"
        )
    return "\n".join(lines)


def coverage(results: Sequence[Outcome]) -> float:
    """Return how often the truth lay in the predicted range."""
    return sum(r.is_covered for r in results) / max(len(results), 1)


# --- real recordings ------------------------------------------------------------------------


def real_table(folder: Path) -> str:
    """Return one line for each recording below ``folder``: replay error and first prediction."""
    lines = [f"{'recording':<52}{'operations':>11}{'measured':>12}{'replay':>9}  first prediction"]
    paths = [p for p in sorted(folder.rglob("*")) if p.name.endswith((".sqlite", ".json.gz"))]
    with tempfile.TemporaryDirectory() as cache:
        for path in paths:
            try:
                facts = build_facts(open_trace(path, Path(cache)))
            except RefusedError:
                continue
            if facts.counters_only or not len(facts.launches):
                continue
            known = explore(facts, choose_window(facts, "", ()))
            told = known.replay
            first = known.predictions[0].sentence if known.predictions else told.reason
            error = f"{told.error:+.2%}" if told.devices else "-"
            lines.append(
                f"{path.name[-50:]:<52}{told.operations:>11,}{told.measured_ns / 1e6:>9,.2f} ms"
                f"{error:>9}  {first}"
            )
    return "\n".join(lines)


# --- speed ----------------------------------------------------------------------------------


def measure_speed(operations: int = OPERATIONS) -> dict[str, float]:
    """Return seconds of building and replaying so many operations, and of a loop as reference."""
    facts = _large(operations)
    begin = time.perf_counter()
    from analyzers.whatif.build import build_graph
    from analyzers.whatif.run import run

    imported = time.perf_counter()
    graph = build_graph(facts)
    built = time.perf_counter()
    run(graph)
    compiled = time.perf_counter()
    run(graph)
    done = time.perf_counter()
    explore(facts, choose_window(facts, "", ()))
    explored = time.perf_counter()
    moment = 0
    for length in graph.operations.duration.tolist():
        moment = max(moment + 1_000, 0) + length
    end = time.perf_counter()
    return {
        "operations": float(len(graph.operations)),
        "calls": float(np.count_nonzero(graph.calls.thread >= 0)),
        "import_s": imported - begin,
        "build_s": built - imported,
        "compile_s": (compiled - built) - (done - compiled),
        "replay_s": done - compiled,
        "every_prediction_s": explored - done,
        "python_loop_s": end - explored,
    }


def _large(operations: int) -> Facts:
    """Return facts of a recording with two threads, four streams and twice as many calls."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_export(Path(folder) / "large.sqlite", scale=operations / KERNELS)
        facts = build_facts(open_trace(path, Path(folder) / "cache"))
        _ = facts.api_call, facts.call_order
        cached = Path(tempfile.mkdtemp(prefix="whyslow-whatif-"))
        shutil.copytree(facts.trace.folder, cached / "trace")
    atexit.register(shutil.rmtree, cached, ignore_errors=True)
    return build_facts(Trace.load(cached / "trace"))


def main() -> int:
    """Print the tables; 1 when ``--check`` was given and a limit was not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit is not kept")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="cases of each change")
    parser.add_argument(
        "--first-seed",
        type=int,
        default=HELD_OUT,
        help="first of the seeds; ranges were tuned on those from 0 on, so that they prove nothing",
    )
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--real", type=Path, metavar="DIR", help="replay the recordings there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every outcome")
    parser.add_argument("--no-speed", action="store_true", help="leave the timing out")
    options = parser.parse_args()
    results = list(outcomes(EXPERIMENTS, options.seeds, options.workers, options.first_seed))
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(r) for r in results]))
    if options.real:
        print(real_table(options.real))
    misses = [
        f"{change}: coverage below {MIN_COVERAGE:.0%}"
        for change in dict.fromkeys(r.change for r in results)
        if coverage([r for r in results if r.change == change and r.low_ns >= 0]) < MIN_COVERAGE
    ]
    if not options.no_speed:
        figures = measure_speed()
        print("\n".join(f"{name:<20}{value:>12,.2f}" for name, value in figures.items()))
        if figures["replay_s"] > MAX_REPLAY_S:
            misses.append(
                f"replay of {figures['operations']:,.0f} operations over {MAX_REPLAY_S} s"
            )
    for miss in misses:
        print(f"not kept: {miss}")
    return int(options.check and bool(misses))


if __name__ == "__main__":
    sys.exit(main())
