"""Records a workload with Nsight Compute or Nsight Systems, for a capture on a GPU machine."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

from benchmarks.gpu_bench import Bench, last_line
from benchmarks.gpu_outcomes import (
    LOG,
)

MOST_OF_THE_TIME = 0.8  # of kernel time: the kernels that hold it are worth counters
LAUNCHES = 16  # profiled at most: Nsight Compute runs each of them dozens of times over
_TEMPLATE = re.compile(r"<[^<>]*>")
_WORD = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


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
    raise RuntimeError(f"ncu wrote no report: {last_line(output)}")


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
        raise RuntimeError(f"nsys wrote no report: {last_line(trouble)}")
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


def _log_end(bench: Bench) -> str:
    return (bench.folder / LOG).read_text(encoding="utf-8")[-4000:]
