"""Whether predictions come true: programs are simulated, changed, and simulated again.

``benchmarks/change_experiments.py`` does that for each change and seed; here stand the tables of
what came of it. No prediction about any of them may be faster than what must still run.
``--check`` also measures how long replaying a million operations takes, beside a
loop over as many numbers in Python.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from analyzers.facts.facts import Facts, build_facts
from analyzers.facts.windows import choose_window
from analyzers.whatif.whatif import explore
from benchmarks.change_experiments import EXPERIMENTS, HELD_OUT, ChangeOutcome, Experiment, outcome
from benchmarks.ingest_export import KERNELS, make_export
from collectors import open_trace
from collectors.errors import RefusedError
from collectors.trace import Trace

SEEDS = 200
MIN_COVERAGE = 0.90
MAX_REPLAY_S = 2.0
OPERATIONS = 1_000_000
WORKERS = 2


# --- tables ---------------------------------------------------------------------------------


def outcomes(
    experiments: Sequence[Experiment], seeds: int, workers: int, first: int = 0
) -> Iterator[ChangeOutcome]:
    """Try every change on as many programs as there are seeds, from ``first`` on."""
    cases = [(e.change, seed) for e in experiments for seed in range(first, first + seeds)]
    changes, seeds_of_cases = zip(*cases, strict=True) if cases else ((), ())
    with ProcessPoolExecutor(workers) as pool:
        results = pool.map(_one, changes, seeds_of_cases, chunksize=20)
        yield from (result for result in results if result is not None)


def _one(change: str, seed: int) -> ChangeOutcome | None:
    experiment = next(e for e in EXPERIMENTS if e.change == change)
    return outcome(experiment, seed)


def table(results: Sequence[ChangeOutcome]) -> str:
    """Return one line for each change: how often the range held, how far off, how wide."""
    lines = [
        f"{'change':<19}{'cases':>6}{'withheld':>9}{'covered':>9}{'same day':>9}{'median miss':>12}"
        f"{'95 % miss':>11}{'median ±':>10}{'95 % ±':>9}{'of gain':>9}{'median speed-up':>17}"
    ]
    for change in dict.fromkeys(r.change for r in results):
        cases = [r for r in results if r.change == change]
        predicted = [r for r in cases if r.low_ns >= 0]
        if not predicted:
            lines.append(f"{change:<19}{len(cases):>6}{len(cases):>9}")
            continue
        misses = sorted(r.miss for r in predicted)
        gains = statistics.median(r.measured_ns / r.truth_ns for r in predicted)
        same_day = sum(r.holds_same_day for r in predicted) / len(predicted)
        lines.append(
            f"{change:<19}{len(cases):>6}{len(cases) - len(predicted):>9}"
            f"{coverage(predicted):>9.1%}{same_day:>9.1%}"
            f"{statistics.median(misses):>12.2%}"
            f"{misses[int(0.95 * (len(misses) - 1))]:>11.2%}"
            f"{statistics.median(r.width for r in predicted):>10.2%}"
            f"{statistics.quantiles([r.width for r in predicted], n=20)[-1]:>9.2%}"
            f"{statistics.median(r.width_of_gain for r in predicted):>9.0%}{gains:>15.2f} x"
        )
    return "\n".join(lines)


def coverage(results: Sequence[ChangeOutcome]) -> float:
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
            answer = explore(facts, choose_window(facts, "", ()))
            replay = answer.replay
            first = answer.predictions[0].sentence if answer.predictions else replay.reason
            error = f"{replay.error:+.2%}" if replay.devices else "-"
            lines.append(
                f"{path.name[-50:]:<52}{replay.operations:>11,}{replay.measured_ns / 1e6:>9,.2f} ms"
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
        f"{r.change} seed {r.seed}: {', '.join(r.below_floor)} below what must still run"
        for r in results
        if r.below_floor
    ]
    print(f"{len(results)} cases, {len(misses)} with a prediction below what must still run")
    misses += [
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
