"""What whyslow says about programs whose trouble is known, recorded on a real GPU.

Every pair of ``workloads/`` is run several times, baseline and twin in turn, and recorded: with the
torch profiler, with Nsight Compute where only counters show the cause, and with Nsight Systems
where it is installed. Then whyslow reads the recordings, and a table is printed: the expected
cause, both verdicts, the measured speed-up with its 95 % interval, and the loss that whyslow
booked to the cause in each step of both.

All runs of a pair share a process, so that the interval tells nothing about what differs from
start to start. A pair that fails is told and the others go on; when the time is over, so is what
is left. At most eight files are written: results, table, log, and recordings in archives.

Where whyslow cannot be installed, it need not be: the recordings are judged elsewhere, with
``--judge DIR``. Without a GPU, ``--device cpu`` tries the same machinery; its verdicts are
"unknown", because nothing ran on a GPU.

Run ``python -m benchmarks.gpu_capture --out DIR [--runs 7] [--budget-s 450] [--pairs a,b]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import math
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_bench import CHILD_S, Bench, Clock, OverError, run_command
from benchmarks.gpu_outcomes import (
    RESULTS,
    TABLE,
    JudgedRecording,
    PairOutcome,
    outcome_from,
    pack,
    write,
)
from benchmarks.gpu_recording import record_ncu, record_nsys
from common.files import write_file
from workloads import harness

RUNS, BUDGET_S = 7, 450
TRACED_STEPS, COUNTED_STEPS = 5, 2  # traced at least
MOST_TRACED_STEPS = 200
TRACED_NS = 30_000_000  # so much is traced, where a step is short: begin and end count for little
REFUSED, ENVIRONMENT_FAILED = 2, 3

READERS = (
    "cli.main",
    "jobs.api",
    "jobs.child",
    "collectors.torch_profiler.torch_profiler",
    "collectors.nsys.nsys",
    "analyzers.diagnose",
)
ROWS = {"bandwidth": ("transfer", "bandwidth")}  # of the ledger, where not named like the cause


def main(argv: Sequence[str] | None = None) -> int:
    """Capture, judge and print; see the module's docstring."""
    arguments = _arguments(argv)
    if arguments.measure:
        return measure(arguments.measure, arguments.device, arguments.runs, arguments.out)
    if arguments.judge:
        return judge_again(arguments.judge)
    pairs = {pair.name: pair for pair in harness.pairs()}
    names = arguments.pairs.split(",") if arguments.pairs else list(pairs)
    if unknown := [name for name in names if name not in pairs]:
        return _refuse(f"no pair {unknown[0]!r}; there are {', '.join(pairs)}", REFUSED)
    clock = Clock(arguments.budget_s)
    if arguments.device != "cpu" and not _has_gpu():
        return _refuse(
            "no NVIDIA GPU that torch can use; --device cpu tries the same machinery without",
            ENVIRONMENT_FAILED,
        )
    device = "cpu" if arguments.device == "cpu" else "cuda"
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu_capture_") as folder:
        bench = Bench(device, arguments.runs, Path(folder), clock)
        outcomes, environment = capture(bench, [pairs[name] for name in names])
        # Before they are judged: whoever is ended meanwhile keeps what was recorded.
        write(arguments.out, outcomes, environment, device)
        pack(bench.folder, arguments.out, outcomes)
        outcomes = judge(bench, outcomes)
        write(arguments.out, outcomes, environment, device)
        left_out = pack(bench.folder, arguments.out, outcomes)
    print((arguments.out / TABLE).read_text(encoding="utf-8"))
    for name in left_out:
        print(f"left out, because the archives are full: {name}")
    return 0


def capture(
    bench: Bench, pairs: Sequence[harness.Pair]
) -> tuple[list[PairOutcome], dict[str, Any]]:
    """Run and record all pairs: first what all of them need, then what is dear.

    Returns:
        One outcome for each pair, and what the numbers depend on.
    """
    measured = [_measured(bench, pair) for pair in pairs]
    outcomes = [outcome for outcome, _ in measured]
    environment: dict[str, Any] = next((e for _, e in measured if e), {})
    for pair_number, pair in enumerate(pairs):
        if pair.seen_by == "counters":
            outcomes[pair_number] = _with(outcomes[pair_number], bench, pair, record_ncu)
    if shutil.which("nsys"):
        for pair_number, pair in enumerate(pairs):
            outcomes[pair_number] = _with(outcomes[pair_number], bench, pair, record_nsys)
    else:
        print("nsys is not installed: no recordings with it", file=sys.stderr)
    return outcomes, environment


def _measured(bench: Bench, pair: harness.Pair) -> tuple[PairOutcome, dict[str, Any]]:
    """Let a child run and trace one pair; what it had done when it failed still counts."""
    target = bench.folder / f"{pair.name}.json"
    note = ""
    command = [sys.executable, "-m", "benchmarks.gpu_capture", "--measure", pair.name]
    command += ["--device", bench.device, "--runs", str(bench.runs), "--out", str(target)]
    print(f"{pair.name}: {bench.runs} runs of each twin …", file=sys.stderr)
    try:
        bench.child(command)
    except (OverError, RuntimeError) as error:
        note = str(error)
    results: dict[str, Any] = {"runs": {role: [] for role in harness.ROLES}, "traced": {}}
    if target.is_file():
        results = json.loads(target.read_text(encoding="utf-8"))
    runs = results["runs"]
    everything = [summary for role in harness.ROLES for summary in runs[role]]
    traces = tuple(
        JudgedRecording(role=role, tool="torch", **results["traced"][role])
        if role in results["traced"]
        else JudgedRecording(role=role, tool="torch", steps=0, note=note or "not recorded")
        for role in harness.ROLES
    )
    outcome = PairOutcome(
        name=pair.name,
        cause=pair.cause,
        also=pair.also,
        seen_by=pair.seen_by,
        step_ns={role: [_step_ns(summary) for summary in runs[role]] for role in harness.ROLES},
        agree=_all_agree(everything),
        note=note,
        recordings=traces,
    )
    return outcome, everything[0]["environment"] if everything else {}


def _step_ns(summary: dict[str, Any]) -> float:
    return float(sum(summary["total_ns"]) / (summary["steps"] * summary["repeat"]))


def _all_agree(summaries: Sequence[dict[str, Any]]) -> bool | None:
    if not summaries:
        return None
    return all(harness.agree(summaries[0], other) for other in summaries[1:])


def measure(name: str, device: str, runs: int, target: Path) -> int:
    """Run both twins of a pair in turn, then trace each; ``target`` grows with every run.

    Traces of fewer steps lie beside ``target``. The first trace is written only after all runs,
    because a profiler that once ran leaves traces of itself.
    """
    results: dict[str, Any] = {"runs": {role: [] for role in harness.ROLES}, "traced": {}}
    try:
        modules = {r: importlib.import_module(f"workloads.{name}_{r}") for r in harness.ROLES}
        for number in range(runs):
            for role in harness.ROLES[:: 1 if number % 2 == 0 else -1]:
                summary = harness.run(modules[role], harness.Options(device=device))
                results["runs"][role].append(summary)
                write_file(target, json.dumps(results))
        for role, module in modules.items():
            trace = target.with_name(f"{name}_{role}.torch.json.gz")
            steps = traced_steps([_step_ns(summary) for summary in results["runs"][role]])
            options = harness.Options(device=device, steps=steps, torch_trace=trace)
            traced = json.dumps(harness.run(module, options))
            write_file(trace.with_name(f"{trace.name}.workload.json"), traced)
            results["traced"][role] = {"file": trace.name, "steps": steps}
            write_file(target, json.dumps(results))
    except (harness.RefusedError, ModuleNotFoundError) as error:
        return _refuse(str(error), ENVIRONMENT_FAILED)
    return 0


def traced_steps(step_ns: Sequence[float]) -> int:
    """Return how many steps a trace holds, from the mean step of each run; 5 without any."""
    if not step_ns:
        return TRACED_STEPS
    return max(TRACED_STEPS, min(MOST_TRACED_STEPS, math.ceil(TRACED_NS / np.median(step_ns))))


def _with(
    outcome: PairOutcome,
    bench: Bench,
    pair: harness.Pair,
    record: Callable[[Bench, str, int], Path],
) -> PairOutcome:
    """Return ``outcome`` with a recording of each twin, or why there is none."""
    tool = record.__name__.removeprefix("record_")
    made = []
    for role in harness.ROLES:
        steps = COUNTED_STEPS if tool == "ncu" else traced_steps(outcome.step_ns[role])
        print(f"{pair.name}_{role}: {tool} …", file=sys.stderr)
        try:
            file, note = record(bench, f"{pair.name}_{role}", steps).name, ""
        except (OverError, RuntimeError, OSError, EOFError, LookupError, ValueError) as error:
            file, note = "", f"{error}"
        made.append(JudgedRecording(role=role, tool=tool, steps=steps, file=file, note=note))
    return dataclasses.replace(outcome, recordings=(*outcome.recordings, *made))


def judge(bench: Bench, outcomes: Sequence[PairOutcome]) -> list[PairOutcome]:
    """Let whyslow read every recording of every pair; without whyslow, say once what it needs."""
    trouble = ""
    try:
        bench.child([sys.executable, "-c", f"import {', '.join(READERS)}"])
    except (OverError, RuntimeError) as error:
        trouble = f"not judged: {error}; try --judge"
    result = []
    for outcome in outcomes:
        judged = tuple(
            r
            if not r.file
            else dataclasses.replace(r, note=trouble)
            if trouble
            else _judged(bench, outcome, r)
            for r in outcome.recordings
        )
        result.append(dataclasses.replace(outcome, recordings=judged))
    return result


def _judged(bench: Bench, outcome: PairOutcome, recording: JudgedRecording) -> JudgedRecording:
    window = [] if recording.tool == "ncu" else ["--window", harness.WINDOW]
    path = bench.folder / recording.file
    library = bench.folder / "opened"
    command = [sys.executable, "-m", "cli", "diagnose", str(path), "--json", *window]
    try:
        output = bench.child([*command, "--data-dir", str(library)])
        answer, _ = json.JSONDecoder().raw_decode(output[output.index("{") :])
    except (OverError, RuntimeError, ValueError) as error:
        return dataclasses.replace(recording, note=f"not judged: {error}; try --judge")
    causes = (outcome.cause, *outcome.also)
    rows = {row for cause in causes for row in ROWS.get(cause, (cause,))}
    return dataclasses.replace(
        recording,
        note="",
        cause=answer["verdict"]["cause"],
        sentence=answer["verdict"]["sentence"],
        lost_ns=sum(device["ledger"][row] for device in answer["devices"] for row in rows),
    )


def judge_again(folder: Path) -> int:
    """Judge the recordings of an earlier capture, for instance one from another machine."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        outcomes = [outcome_from(pair) for pair in results["pairs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _refuse(f"{folder}: no results of an earlier capture ({error})", REFUSED)
    with tempfile.TemporaryDirectory(prefix="gpu_capture_") as temporary:
        bench = Bench(results["device"], 0, Path(temporary), Clock(float("inf")))
        for archive in sorted(folder.glob("recordings_*.tar")):
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        outcomes = judge(bench, [_with_files(bench, outcome) for outcome in outcomes])
        write(folder, outcomes, results["environment"], results["device"])
    print((folder / TABLE).read_text(encoding="utf-8"))
    return 0


def _with_files(bench: Bench, outcome: PairOutcome) -> PairOutcome:
    """Say of recordings which no archive holds that they are not there."""
    there = tuple(
        r
        if not r.file or (bench.folder / r.file).is_file()
        else dataclasses.replace(r, file="", note=r.note or "in no archive")
        for r in outcome.recordings
    )
    return dataclasses.replace(outcome, recordings=there)


def _has_gpu() -> bool:
    status, _ = run_command(
        [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"],
        CHILD_S,
    )
    return status == 0


def _refuse(message: str, status: int) -> int:
    print(f"gpu_capture: {message}", file=sys.stderr)
    return status


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    text = __doc__ or ""
    parser = argparse.ArgumentParser(
        prog="gpu_capture",
        description=text.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(text.splitlines()[1:]),
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_capture"), help="where files go")
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="of each twin (default: %(default)s)"
    )
    parser.add_argument(
        "--budget-s", type=float, default=BUDGET_S, help="seconds in all (default: %(default)s)"
    )
    parser.add_argument("--pairs", help="only these, with commas between")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="judge an earlier capture again")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a child's work
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
