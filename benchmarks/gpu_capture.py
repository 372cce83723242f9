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
import contextlib
import dataclasses
import gzip
import importlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_outcomes import (
    LOG,
    RESULTS,
    TABLE,
    JudgedRecording,
    PairOutcome,
    outcome_from,
    pack,
    write,
)
from common.files import write_file
from workloads import harness

ROOT = Path(__file__).parents[1]
RUNS, BUDGET_S = 7, 450
PACKING_S = 15  # kept back for the end
CHILD_S = 120  # the most that one child process may take
TRACED_STEPS, COUNTED_STEPS = 5, 2  # traced at least
MOST_TRACED_STEPS = 200
TRACED_NS = 30_000_000  # so much is traced, where a step is short: begin and end count for little
MOST_OF_THE_TIME = 0.8  # of kernel time: the kernels that hold it are worth counters
LAUNCHES = 16  # profiled at most: Nsight Compute runs each of them dozens of times over
LOGGED_LINES = 20  # of each command
REFUSED, ENVIRONMENT_FAILED = 2, 3

READERS = (
    "cli.main",
    "jobs.job",
    "collectors.torch_profiler.torch_profiler",
    "collectors.nsys.nsys",
    "analyzers.diagnose",
)
ROWS = {"bandwidth": ("transfer", "bandwidth")}  # of the ledger, where not named like the cause
_TEMPLATE = re.compile(r"<[^<>]*>")
_WORD = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


class Clock:
    """How much of the budget is left."""

    def __init__(self, budget_s: float) -> None:
        self._end = time.monotonic() + budget_s - PACKING_S

    def left_s(self) -> float:
        """Return the seconds until packing has to begin."""
        return self._end - time.monotonic()


class OverError(Exception):
    """The budget is spent."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where and how everything is run.

    Attributes:
        device: ``cuda`` or ``cpu``.
        runs: Of each twin.
        folder: Where recordings are kept until they are packed.
        clock: The budget.
    """

    device: str
    runs: int
    folder: Path
    clock: Clock

    def child(self, command: Sequence[str | Path]) -> str:
        """Run a command, with all that it starts, and return what it printed.

        Raises:
            OverError: If the budget is spent before.
            RuntimeError: If it fails or takes too long; the message is its last line.
        """
        limit_s = min(CHILD_S, self.clock.left_s())
        if limit_s <= 0:
            raise OverError("the budget is spent")
        start = time.monotonic()
        status, output = _run(command, limit_s)
        self._log(command, output, time.monotonic() - start)
        if status is None:
            raise RuntimeError(f"took longer than {limit_s:.0f} s")
        if status:
            raise RuntimeError(_last_line(output) or f"exit {status}")
        return output

    def _log(self, command: Sequence[str | Path], output: str, seconds: float) -> None:
        """Note a command, how long it took and the end of what it printed; no folders' names."""
        lines = output.replace("\r", "\n").splitlines()[-LOGGED_LINES:]
        text = "\n".join([f"$ {' '.join(map(str, command))}  # {seconds:.1f} s", *lines, ""])
        for name, short in ((sys.executable, "python"), (self.folder, "."), (ROOT, ".")):
            text = text.replace(str(name), short)
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(text)


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


def record_ncu(bench: Bench, workload: str, steps: int) -> Path:
    """Record counters of the kernels that hold a workload's time, as its torch trace tells.

    Raises:
        RuntimeError: If there is no report; the message says why.
        OverError: If the budget is spent.
    """
    if bench.device == "cpu":
        raise RuntimeError("counters need a GPU")
    if shutil.which("ncu") is None:
        raise RuntimeError("ncu is not installed")
    trace = bench.folder / f"{workload}.torch.json.gz"
    names = kernels_that_hold_the_time(trace) if trace.is_file() else []
    report = bench.folder / f"{workload}.ncu-rep"
    # The ranges keep set-up and result out. Where this ncu and this nvtx do not understand each
    # other, nothing is inside a range, and the second try goes without.
    for ranges in (["--nvtx", "--nvtx-include", "step/"], []):
        command = [
            *("ncu", "--set", "full", "--clock-control", "none", "--target-processes", "all"),
            *("--launch-count", str(LAUNCHES), "--force-overwrite", "-o", str(report), *ranges),
            *(["--kernel-name", f"regex:^({'|'.join(names)})$"] if names else []),
            *_workload_command(bench, workload, steps, report, "--warmup", "0"),
        ]
        try:
            output = bench.child(command)
        except RuntimeError as error:
            output = str(error)
        if "ERR_NVGPUCTRPERM" in output or "ERR_NVGPUCTRPERM" in _log_end(bench):
            raise RuntimeError(
                "this user may not read the GPU's counters (ERR_NVGPUCTRPERM): run as root, or "
                "load the driver with NVreg_RestrictProfilingToAdminUsers=0"
            )
        if report.is_file() and report.stat().st_size:
            return report
    raise RuntimeError(f"ncu wrote no report: {_last_line(output)}")


def record_nsys(bench: Bench, workload: str, steps: int) -> Path:
    """Record a workload with Nsight Systems and export it to SQLite.

    Beware: the recording holds names, and as root the environments, of all processes.

    Raises:
        RuntimeError: If there is no recording; the message says why.
        OverError: If the budget is spent.
    """
    report = bench.folder / f"{workload}.nsys-rep"
    database = bench.folder / f"{workload}.nsys.sqlite"
    command = [
        *("nsys", "profile", "-t", "cuda,nvtx,osrt", "--sample=none", "--cpuctxsw=none"),
        *(f"--session-new=w{os.getpid()}{workload.replace('_', '')}", "--force-overwrite=true"),
        *("-o", str(report), *_workload_command(bench, workload, steps, database)),
    ]
    try:
        trouble = bench.child(command)
    except RuntimeError as error:  # nsys passes on the program's status; only a report counts
        trouble = str(error)
    if not report.is_file():
        raise RuntimeError(f"nsys wrote no report: {_last_line(trouble)}")
    bench.child(
        [
            "nsys",
            "export",
            "--type=sqlite",
            "--force-overwrite=true",
            f"--output={database}",
            report,
        ]
    )
    if not database.is_file():
        raise RuntimeError("nsys could not export its report")
    report.unlink()
    return database


def _workload_command(
    bench: Bench, workload: str, steps: int, recording: Path, *more: str
) -> list[str]:
    summary = recording.with_name(f"{recording.name}.workload.json")
    return [
        *(sys.executable, "-m", f"workloads.{workload}", "--device", bench.device),
        *("--steps", str(steps), "--summary", str(summary), *more),
    ]


def kernels_that_hold_the_time(trace: Path) -> list[str]:
    """Return base names of the kernels with most of the time of a torch trace's measured part.

    Empty when one of them has a name that no filter could hold, or when there is no such part.
    """
    with gzip.open(trace) as file:
        events = json.load(file)["traceEvents"]
    ranges = (
        e["ts"] for e in events if e.get("cat") == "user_annotation" and e["name"] == "measure"
    )
    start = next(ranges, float("inf"))
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "kernel" and event["ts"] >= start:
            times[base_name(event["name"])] += event["dur"]
    names, covered = [], 0.0
    for name, us in times.most_common():
        if covered >= MOST_OF_THE_TIME * times.total():
            break
        names.append(name)
        covered += us
    return names if all(map(_WORD.fullmatch, names)) else []


def base_name(kernel: str) -> str:
    """Return a kernel's name as ncu compares it: no namespaces, template arguments, parameters."""
    name = kernel.replace("(anonymous namespace)::", "")
    while (shorter := _TEMPLATE.sub("", name)) != name:
        name = shorter
    return name.partition("(")[0].strip().rpartition(" ")[2].rpartition("::")[2]


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


def _run(command: Sequence[str | Path], limit_s: float) -> tuple[int | None, str]:
    """Run a command in a group of its own; ``None`` as status when it had to be ended."""
    environment = {**os.environ, "PYTHONPATH": _import_path()}
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return 1, str(error)
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return None, _end(process)
    except BaseException:
        _end(process)
        raise
    return process.returncode, output


def _end(process: subprocess.Popen[str]) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def _import_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _log_end(bench: Bench) -> str:
    return (bench.folder / LOG).read_text(encoding="utf-8")[-4000:]


def _has_gpu() -> bool:
    status, _ = _run(
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
