"""How often a comparison is wrong, and how long one of two large recordings takes.

* ``--rates``: programs whose iterations vary, simulated and recorded. Pairs of runs of the same
  program show how often a difference is called that is none (stated: at most 5 %); pairs of a
  baseline and a program without one of its causes, how often the true gain lies in the interval
  (stated: 95 %) and how often it is found. The truth is the difference of medians of long runs.
  ``runs`` are levels of runs that differ by 3 %, ``drift`` is a clock that falls by as much. The
  same programs without marks are compared as one window a side, stretch by stretch. Iterations of
  whole recordings (``traces/``, and others with ``--recordings FOLDER``) are drawn into pairs as
  well, which differ by nothing but the draw.
* ``--power``: the smallest change that is found in four of five cases, for so many pairs of
  launches, in these two runs and in general.
* ``--time``: ``whyslow compare`` of two recordings of 1,000,000 kernels that were opened before,
  from the start of the process to the printed answer; first when what they bring has to be
  measured, then when that was kept. Beside it what Python takes to load the libraries alone.

Run ``python -m benchmarks.compare [--rates] [--power] [--time] [--pairs 100] [--recordings FOLDER]
[--check]``; without any of the three, all are done.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analyzers.compare.compare import compare
from analyzers.compare.measure import measure
from analyzers.compare.paired import paired_change
from analyzers.compare.run_to_run import in_general
from analyzers.compare.side import Side, SparseTable
from analyzers.compare.statistics import LEVEL, MIN_SAMPLES, POWER, Columns
from analyzers.compare.types import Comparison, ComparisonVerdict
from analyzers.facts.facts import WindowError, build_facts
from benchmarks.ingest_export import make_export
from benchmarks.simulated.program import Copy, Kernel, Operation, Program, Range, Thread, Wait, Work
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.rules import Rules
from benchmarks.simulated.simulator import execute
from collectors import open_trace
from collectors.errors import TraceError

ROOT = Path(__file__).resolve().parents[1]
PAIRS = 100
ITERATIONS = 40
LONG_RUN = 1_500  # iterations from which the truth is taken
MAX_FALSE_ALARMS = 0.05
RUN_EFFECT = 0.03  # standard deviation of a run's level, as a comparison of two runs assumes it
POWER_PAIRS = (8, 24, 96, 384)
POWER_NOISE = 0.05  # of a launch's duration
TRIALS = 400
MAX_SECONDS = 3.0  # from the start of the process to the printed answer
RUNS = 3
BIG_SCALE = 0.5  # of benchmarks.ingest: 1,000,000 kernels
ALARMS = (ComparisonVerdict.IMPROVED, ComparisonVerdict.REGRESSED)

Array = np.ndarray[Any, Any]
Noise = Callable[[np.random.Generator, int], Array]


def _independent(rng: np.random.Generator, count: int) -> Array:
    return np.exp(0.05 * rng.standard_normal(count))


def _correlated(rng: np.random.Generator, count: int) -> Array:
    level, levels = 0.0, np.empty(count)
    for place in range(count):  # each resembles the one before, so the order matters
        level = 0.6 * level + 0.8 * rng.standard_normal()
        levels[place] = level
    return np.exp(0.05 * levels)


def _heavy_tailed(rng: np.random.Generator, count: int) -> Array:
    return 1 + 0.05 * np.abs(rng.standard_t(2, count))


def _of_runs(rng: np.random.Generator, count: int) -> Array:
    level = np.exp(RUN_EFFECT * rng.standard_normal())  # clocks, memory layout, neighbours
    factors: Array = level * np.exp(0.01 * rng.standard_normal(count))
    return factors


def _drifting(rng: np.random.Generator, count: int) -> Array:
    fall = RUN_EFFECT * abs(rng.standard_normal())  # the chip heats, and its clock falls
    factors: Array = np.exp(0.01 * rng.standard_normal(count)) * np.linspace(1, 1 + fall, count)
    return factors


NOISES: dict[str, Noise] = {
    "runs": _of_runs,
    "drift": _drifting,
    "independent": _independent,
    "correlated": _correlated,
    "heavy-tailed": _heavy_tailed,
}


def program(
    factors: Array, *, host_ns: int = 300_000, waits: bool = True, is_marked: bool = True
) -> Program:
    """Return a loop whose kernels and host work vary by ``factors``, one an iteration."""
    operations: list[Operation] = []
    for factor in factors.tolist():
        operations += [Range("step")] if is_marked else []
        operations += [Work(round(host_ns * factor)), Copy(2_000_000)]
        operations += [Kernel(round(60_000 * factor), name=f"layer_{n}") for n in range(6)]
        operations += [Wait()] if waits else []
        operations += [Range()] if is_marked else []
    return Program((Thread(tuple(operations)),))


class _PlantedChange(NamedTuple):
    """What the optimized program does without: by its arguments or by a rule of the simulator."""

    name: str
    arguments: dict[str, Any]
    rules: Rules


CHANGES = (
    _PlantedChange("half the host work", {"host_ns": 150_000}, Rules()),
    _PlantedChange("2 % less host work", {"host_ns": 294_000}, Rules()),
    _PlantedChange("launching for nothing", {}, Rules().without("launch")),
    _PlantedChange("copies for nothing", {}, Rules().without("bandwidth")),
)


def recorded(
    folder: Path, factors: Array, change: _PlantedChange | None = None, *, is_marked: bool = True
) -> Side:
    """Simulate, record, open and measure one run; without marks as one window."""
    recorder = Recorder()
    loop = program(factors, is_marked=is_marked, **(change.arguments if change else {}))
    execute(loop, change.rules if change else None, recorder)
    number = len(list(folder.glob("*.sqlite")))
    path = recorder.write(folder / f"{number}.sqlite")
    return measure(build_facts(open_trace(path, folder / "traces")), "" if is_marked else "all")


def rates(pairs: int) -> dict[str, Any]:
    """Return how often comparisons of simulated runs are right."""
    answers: dict[str, Any] = {}
    for name, noise in NOISES.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "traces").mkdir()
            answers[name] = _rates(Path(folder), noise, pairs)
        print(f"{name}: {json.dumps(answers[name])}", flush=True)
    return answers


def window_rates(pairs: int) -> dict[str, Any]:
    """Return how often windows of simulated runs without marks are called different."""
    answers: dict[str, Any] = {}
    for name, noise in NOISES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "traces").mkdir()
            rng = np.random.default_rng(len(name))
            sides = [
                recorded(folder, noise(rng, ITERATIONS), is_marked=False) for _ in range(2 * pairs)
            ]
            alarms = sum(
                _compared(a, b).verdict in ALARMS
                for a, b in zip(sides[::2], sides[1::2], strict=True)
            )
            answers[name] = {"pairs": pairs, "false_alarms": alarms}
            few = sides[: max(pairs // 4, 1)]
            for change in CHANGES:
                new = (
                    recorded(folder, noise(rng, ITERATIONS), change, is_marked=False) for _ in few
                )
                improved = sum(
                    _compared(a, b).verdict is ComparisonVerdict.IMPROVED
                    for a, b in zip(few, new, strict=True)
                )
                answers[name][change.name] = {"improved": round(improved / len(few), 3)}
        print(f"{name}, one window a side: {json.dumps(answers[name])}", flush=True)
    return answers


def power(trials: int = TRIALS) -> dict[int, Any]:
    """Return which change of a kernel is found in four of five cases, by number of pairs.

    Launches vary by ``POWER_NOISE``, neighbours correlated by 0.6; runs differ by ``RUN_EFFECT``.
    """
    answers: dict[int, Any] = {}
    for count in POWER_PAIRS:
        smallest: dict[str, float | None] = {"in these runs": None, "in general": None}
        for change in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3):
            hits = _hit_rates(count, change, trials)
            if not change:
                answers[count] = {"false alarms": hits}
            for where, share in hits.items():
                if smallest[where] is None and share >= POWER:
                    smallest[where] = change
        answers[count] |= {"smallest change found": smallest}
        print(f"{count} pairs: {json.dumps(answers[count])}", flush=True)
    return answers


def _hit_rates(count: int, change: float, trials: int) -> dict[str, float]:
    """Return how often a kernel that became this much slower is called slower or faster."""
    rng = np.random.default_rng(count)
    hits = {"in these runs": 0, "in general": 0}
    for _ in range(trials):
        noises = (POWER_NOISE / 0.05 * np.log(_correlated(rng, count)) for _ in range(2))
        base, new = (1_000 * np.exp(noise) for noise in noises)
        new = new * (1 + change)
        paired = paired_change(base, new)
        hits["in these runs"] += paired is not None and paired.p_value <= LEVEL
        levels = np.exp(RUN_EFFECT * rng.standard_normal(2))
        paired = paired_change(base * levels[0], new * levels[1])
        if paired is not None:
            sums = np.array([paired.base]), np.array([paired.new])
            moved = sums[1] - sums[0]
            parts = (moved, moved - paired.reach, moved + paired.reach)
            within = Columns(*parts, np.array([paired.p_value]), np.array([0.0]))
            hits["in general"] += bool(in_general(within, *sums).p_value[0] <= LEVEL)
    return {where: round(count / trials, 3) for where, count in hits.items()}


def _rates(folder: Path, noise: Noise, pairs: int) -> dict[str, Any]:
    rng = np.random.default_rng(sum(map(ord, noise.__name__)))
    sides = [recorded(folder, noise(rng, ITERATIONS)) for _ in range(2 * pairs)]
    alarms = sum(
        _compared(a, b).verdict in ALARMS for a, b in zip(sides[::2], sides[1::2], strict=True)
    )
    low, high = _wilson(alarms, pairs)
    result: dict[str, Any] = {
        "pairs": pairs,
        "false_alarms": alarms,
        "rate": round(alarms / pairs, 3),
        "rate_95": [round(low, 3), round(high, 3)],
    }
    factors = noise(rng, LONG_RUN)
    long_run = float(np.median(recorded(folder, factors).durations_ns))
    for change in CHANGES:
        truth = float(np.median(recorded(folder, factors, change).durations_ns)) - long_run
        result[change.name] = _coverage(
            folder, noise, change, truth, sides[: max(pairs // 4, 1)], rng
        )
    return result


def _coverage(
    folder: Path,
    noise: Noise,
    change: _PlantedChange,
    truth: float,
    sides: list[Side],
    rng: np.random.Generator,
) -> dict[str, Any]:
    covered = improved = 0
    for base in sides:
        answer = _compared(base, recorded(folder, noise(rng, ITERATIONS), change))
        delta = answer.delta
        if delta is None or delta.low is None or delta.high is None:
            continue
        covered += delta.low <= truth <= delta.high
        improved += answer.verdict is ComparisonVerdict.IMPROVED
    share = {"covered": round(covered / len(sides), 3), "improved": round(improved / len(sides), 3)}
    return {"truth_us": round(truth / 1e3, 1), "pairs": len(sides), **share}


def _compared(base: Side, new: Side) -> Comparison:
    answer = compare([base], [new])
    change = 0 if answer.delta is None else answer.delta.change
    if sum(row.change_ns for row in answer.waterfall) != change:
        raise AssertionError("the waterfall does not sum to the change")
    return answer


def resampled_rates(folders: Sequence[Path], pairs: int) -> dict[str, Any]:
    """Return how often pairs drawn from the iterations of one recording are called different."""
    by_recording: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        for path in sorted(p for f in folders for p in f.rglob("*") if p.is_file()):
            try:
                side = measure(build_facts(open_trace(path, Path(cache))))
            except (TraceError, WindowError):
                continue  # no recording, or none that can be compared
            if not side.operations or len(side.start_ns) - side.warm_up < MIN_SAMPLES:
                continue
            rng = np.random.default_rng(len(by_recording))
            answers = [_compared(drawn(side, rng), drawn(side, rng)).verdict for _ in range(pairs)]
            alarms = sum(answer in ALARMS for answer in answers)
            by_recording[path.name] = {
                "iterations": len(side.start_ns) - side.warm_up,
                "pairs": pairs,
                "false_alarms": alarms,
            }
            print(f"{path.name}: {json.dumps(by_recording[path.name])}", flush=True)
    return by_recording


def drawn(side: Side, rng: np.random.Generator) -> Side:
    """Return a side of as many iterations, drawn from those of ``side`` that are compared."""
    count = len(side.start_ns) - side.warm_up
    chosen = side.warm_up + rng.integers(0, count, count)
    end = np.cumsum(side.durations_ns[chosen])
    return replace(
        side,
        start_ns=end - side.durations_ns[chosen],
        end_ns=end,
        warm_up=0,
        typical=int(np.argsort(side.durations_ns[chosen], kind="stable")[count // 2]),
        ledger_ns=side.ledger_ns[chosen],
        counts={name: values[chosen] for name, values in side.counts.items()},
        roles_ns=side.roles_ns[chosen] if len(side.roles_ns) else side.roles_ns,
        kernels=replace(side.kernels, by_iteration=_drawn(side.kernels.by_iteration, chosen)),
        regions=replace(side.regions, by_iteration=_drawn(side.regions.by_iteration, chosen)),
    )


def _drawn(table: SparseTable, chosen: Array) -> SparseTable:
    rows = [np.flatnonzero(table.iteration == iteration) for iteration in chosen.tolist()]
    places = np.concatenate(rows)
    return SparseTable(
        iteration=np.repeat(np.arange(len(chosen)), list(map(len, rows))),
        column=table.column[places],
        ns=table.ns[places],
        count=table.count[places],
    )


def _wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson, 1927)."""
    z = 1.96
    middle = (hits + z * z / 2) / (trials + z * z)
    reach = z * math.sqrt(hits * (trials - hits) / trials + z * z / 4) / (trials + z * z)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def timing(keep: Path | None = None) -> dict[str, Any]:
    """Return how long two large recordings take to compare."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"run_{n}.sqlite" for n in (1, 2)]
        for number, path in enumerate(paths):
            if not path.exists():
                make_export(path, scale=BIG_SCALE, seed=20_261_120 + number)
        environment = {**os.environ, "WHYSLOW_DATA_DIR": str(folder / "data")}
        for path in paths:
            _run(["-m", "cli", "diagnose", str(path), "--json"], environment)
        return _timed(paths, environment)


def _timed(paths: list[Path], environment: dict[str, str]) -> dict[str, Any]:
    libraries = "import pandas, pyarrow.parquet, scipy.special"
    command = ["-m", "cli", "compare", *map(str, paths), "--json"]
    data = Path(environment["WHYSLOW_DATA_DIR"])
    first, again, imports = [], [], []
    verdict = ""
    for _ in range(RUNS):
        for kept in (data / "cache").glob("*/compare"):
            shutil.rmtree(kept)
        imports.append(_run(["-c", libraries], environment)[0])
        first.append(_run(command, environment)[0])
        seconds, text = _run(command, environment)
        again.append(seconds)
        verdict = json.loads(text)["verdict"]
    return {
        "measured_s": round(statistics.median(first), 2),
        "kept_s": round(statistics.median(again), 2),
        "libraries_alone_s": round(statistics.median(imports), 2),
        "best_measured_s": round(min(first), 2),
        "best_kept_s": round(min(again), 2),
        "load_average": round(os.getloadavg()[0], 1),
        "verdict": verdict,
    }


def _run(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    return time.perf_counter() - begin, done.stdout.decode()


def main() -> int:
    """Measure, print, and with ``--check`` fail when a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--power", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--recordings", type=Path, action="append", default=[ROOT / "traces"])
    parser.add_argument("--keep", type=Path, help="folder for the large recordings")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    everything = not chosen.rates and not chosen.time and not chosen.power
    passed = True
    if chosen.rates or everything:
        by_noise = rates(chosen.pairs)
        alarms = sum(t["false_alarms"] for t in by_noise.values())
        pairs = sum(t["pairs"] for t in by_noise.values())
        print(f"false alarms: {alarms} of {pairs}, {alarms / pairs:.1%}")
        passed &= alarms <= MAX_FALSE_ALARMS * pairs
        windows = window_rates(chosen.pairs)
        alarms = sum(t["false_alarms"] for t in windows.values())
        print(f"false alarms, one window a side: {alarms} of {len(windows) * chosen.pairs}")
        passed &= alarms <= MAX_FALSE_ALARMS * len(windows) * chosen.pairs
        drawn_pairs = resampled_rates(chosen.recordings, chosen.pairs)
        alarms = sum(t["false_alarms"] for t in drawn_pairs.values())
        pairs = sum(t["pairs"] for t in drawn_pairs.values())
        print(f"false alarms, drawn from {len(drawn_pairs)} recordings: {alarms} of {pairs}")
        passed &= alarms <= MAX_FALSE_ALARMS * pairs
    if chosen.power or everything:
        answers = power()
        rates_in_general = [a["false alarms"]["in general"] for a in answers.values()]
        low, _ = _wilson(round(max(rates_in_general) * TRIALS), TRIALS)
        passed &= low <= MAX_FALSE_ALARMS  # what so many trials can tell
    if chosen.time or everything:
        seconds = timing(chosen.keep)
        print(json.dumps(seconds))
        passed &= seconds["best_measured_s"] <= MAX_SECONDS
    return 0 if passed or not chosen.check else 1


if __name__ == "__main__":
    sys.exit(main())
