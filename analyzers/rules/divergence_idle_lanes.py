"""Lanes of running warps that do nothing, because threads of a warp take different paths.

What it looks for:
    Nothing, in a timeline: neither Nsight Systems nor torch.profiler records which lanes were
    active, so this rule never guesses. It names the Nsight Compute command that would tell, for
    the kernels that hold most of the time.

Why it is slow:
    A warp's 32 threads share one instruction. Where they branch apart, the paths run one after
    the other, and lanes that are not on the path do nothing.

What to try:
    Let neighbouring threads take the same path: sort or bucket the work by kind, replace short
    branches by selects, make loop counts equal within a warp.

When it does not apply:
    When the kernel waits for memory anyway: idle lanes then cost little. That is why the command
    also collects how busy memory and multiprocessors are.

Shown by:
    traces/synthetic/synthetic_divergence.sqlite
"""

from __future__ import annotations

import re
import shlex

import numpy as np
import pandas as pd

from analyzers.facts import GRAPH, KERNEL, Facts
from analyzers.finding import Cause, Outcome, Skipped
from analyzers.ledger import Ledger
from analyzers.recorder import recorder_of
from analyzers.words import count_text, share_text

CAUSE = Cause.DIVERGENCE

MOST_OF_THE_TIME = 0.80  # of kernel time; the next kernels add little and profiling is slow
MAX_KERNELS = 8  # the command should stay one line
LAUNCHES_OF_EACH = 3  # one could be an exception
MAX_LAUNCHES = 200  # each is run several times over
SECTIONS = ("WarpStateStats", "SourceCounters", "SpeedOfLight")

_TEMPLATE = re.compile(r"<[^<>]*>")
_PLAIN_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Name the command that examines the kernels of the window."""
    kinds = facts.launches["kind"].to_numpy()
    recorder = recorder_of(facts.trace)
    if (kinds == GRAPH).any() and not (kinds == KERNEL).any():
        return Skipped(
            "the kernels of whole CUDA graphs were not recorded; record with "
            "`nsys profile --cuda-graph-trace=node`"
        )
    if not (kinds == KERNEL).any():
        return Skipped(f"no kernels were recorded; {recorder.calls}")
    if recorder.counters != "ncu":
        return Skipped(
            f"a timeline does not show which lanes of a wavefront were active; {recorder.metrics}"
        )
    times = _time_by_base_name(facts, ledger)
    chosen = _chosen(times) if len(times) else times
    if chosen.empty:
        return Skipped(
            "a timeline does not show which lanes of a warp were active, and no kernel that a "
            "command could name ran in the window; record counters with "
            f"`{_command([], LAUNCHES_OF_EACH)}`"
        )
    covered = share_text(float(chosen["ns"].sum()), float(times["ns"].sum()))
    return Skipped(
        "a timeline does not show which lanes of a warp were active; to examine "
        f"{count_text(len(chosen), 'kernel')} with {covered} of kernel time, run "
        f"`{_command(list(chosen.index), _launches_to_count(chosen))}`"
    )


def _launches_to_count(chosen: pd.DataFrame) -> int:
    """Return how many launches of these kernels to profile, so that each has its turn."""
    turns = int(np.ceil(chosen["count"].sum() / chosen["count"].min()))
    return min(LAUNCHES_OF_EACH * max(turns, int(chosen["variants"].sum())), MAX_LAUNCHES)


def base_name(kernel: str) -> str:
    """Return a kernel's name without return type, namespaces, template arguments and parameters.

    That is the name which ncu compares with unless told otherwise.
    """
    name = kernel.replace("(anonymous namespace)::", "")
    while (shorter := _TEMPLATE.sub("", name)) != name:
        name = shorter
    return name.partition("(")[0].strip().rpartition(" ")[2].rpartition("::")[2]


def _time_by_base_name(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    """Return the window's kernels by base name, most time first.

    Columns: ``ns`` (summed time in the window), ``count`` (launches) and ``variants`` (full names).
    """
    rows = facts.inside(ledger.window.start_ns, ledger.window.end_ns)
    rows = rows[facts.launches["kind"].to_numpy()[rows] == KERNEL]
    start = np.maximum(facts.launches["start_ns"].to_numpy()[rows], ledger.window.start_ns)
    end = np.minimum(facts.launches["end_ns"].to_numpy()[rows], ledger.window.end_ns)
    code, ids = pd.factorize(facts.launches["name_id"].to_numpy()[rows])
    frame = pd.DataFrame({"ns": end - start, "count": 1}).groupby(code).sum()
    names = pd.Index([base_name(str(n)) for n in facts.trace.names(ids)])
    named: pd.DataFrame = frame.assign(variants=1).set_axis(names).groupby(level=0).sum()
    return named.sort_values("ns", ascending=False)


def _chosen(times: pd.DataFrame) -> pd.DataFrame:
    """Return the kernels to examine; a name that no compiler makes is not put into a command."""
    plain = np.array([_PLAIN_NAME.fullmatch(str(name)) is not None for name in times.index])
    time = times["ns"].to_numpy()
    needed = np.cumsum(time) - time < MOST_OF_THE_TIME * time.sum()
    chosen: pd.DataFrame = times[needed & plain]
    return chosen.head(MAX_KERNELS)


def _command(names: list[str], launches: int) -> str:
    parts = ["ncu", "--clock-control", "none"]
    for section in SECTIONS:
        parts += ["--section", section]
    if names:
        parts += ["--kernel-name", f"regex:^({'|'.join(re.escape(n) for n in names)})$"]
    parts += ["--launch-count", str(launches), "-o", "counters", "PROGRAM"]
    return shlex.join(parts)
