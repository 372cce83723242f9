"""The command of Nsight Compute that would answer what a recording cannot."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

import numpy as np
import pandas as pd

from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.ledger.ledger import Ledger
from analyzers.recorder import recorder_of
from analyzers.words import count_text, enumerated, share_text
from common.memo import memo

MOST_OF_THE_TIME = 0.80  # of kernel time; the next kernels add little and profiling is slow
MAX_KERNELS = 8  # the command should stay one line
LAUNCHES_OF_EACH = 3  # one could be an exception
MAX_LAUNCHES = 200  # each is run several times over

# What all rules about the inside of kernels need together.
SECTIONS = (
    *("SpeedOfLight", "WarpStateStats", "SourceCounters", "MemoryWorkloadAnalysis_Tables"),
    *("ComputeWorkloadAnalysis", "SpeedOfLight_RooflineChart", "SchedulerStats", "Occupancy"),
    "LaunchStats",
)
# What no section of every version collects: the longest of the multiprocessors, and bytes.
METRICS = (
    *("sm__cycles_active.avg", "sm__cycles_active.max", "sm__cycles_elapsed.max"),
    *("dram__bytes_read.sum", "dram__bytes_write.sum"),
)

DURATION_SECTION = "SpeedOfLight"  # how long a launch takes: without it nothing can be weighed

_TEMPLATE = re.compile(r"<[^<>]*>")
_PLAIN_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


@memo()  # every rule about the inside of kernels asks
def why_no_counters(facts: Facts, ledger: Ledger) -> str:
    """Say why a timeline does not answer what happens inside kernels, and which command would."""
    if ledger.examined is not None:
        name = ledger.examined.joined.source["name"]
        return f"the counters in {name} match no kernel in the window; {_why_alone(facts, ledger)}"
    return _why_alone(facts, ledger)


def _why_alone(facts: Facts, ledger: Ledger) -> str:
    kinds, recorder = facts.launches["kind"].to_numpy(), recorder_of(facts.trace)
    if not (kinds == KERNEL).any():
        hidden = (kinds == GRAPH).any()
        how = "--cuda-graph-trace=node" if hidden else "-t cuda"
        what = "the kernels inside CUDA graphs" if hidden else "no kernels"
        verb = "were not recorded" if hidden else "were recorded"
        if not hidden:
            return f"{what} {verb}; {recorder.calls}"
        return f"{what} {verb}; record with `nsys profile {how}`"
    if recorder.counters != "ncu":
        return f"a timeline does not show what happens inside kernels; {recorder.metrics}"
    times = _time_by_base_name(facts, ledger)
    chosen = _chosen(times) if len(times) else times
    if chosen.empty:
        return (
            "a timeline does not show what happens inside kernels, and no kernel that a command "
            f"could name ran in the window; record counters with `{command((), LAUNCHES_OF_EACH)}`"
        )
    covered = share_text(float(chosen["ns"].sum()), float(times["ns"].sum()))
    skip = _before(facts, ledger, chosen)
    run = command(list(chosen.index), _launches_to_count(chosen), skip=skip)
    return (
        "a timeline does not show what happens inside kernels; to examine "
        f"{count_text(len(chosen), 'kernel')} with {covered} of kernel time, run `{run}`"
    )


def to_cover(kernels: pd.DataFrame) -> str:
    """Return the command that profiles most of these kernels; empty when it could name none.

    Args:
        kernels: ``name`` (full), ``ns`` and ``launches`` of each.
    """
    bases = pd.Index([base_name(str(name)) for name in kernels["name"]])
    times = pd.DataFrame(
        {"ns": kernels["ns"].to_numpy(), "count": kernels["launches"].to_numpy(), "variants": 1}
    )
    chosen = _chosen(times.groupby(bases).sum().sort_values("ns", ascending=False))
    return command(list(chosen.index), _launches_to_count(chosen)) if len(chosen) else ""


def why_missing(
    facts: Facts, ledger: Ledger, metrics: Iterable[str], sections: Iterable[str]
) -> str:
    """Say which metrics the counters lack, and which command would collect them.

    Args:
        facts: The recording.
        ledger: Its account.
        metrics: What is missing, by exact names.
        sections: Sections of Nsight Compute that collect it; without any, the metrics themselves
            are asked for.
    """
    names = list(metrics)
    times = _time_by_base_name(facts, ledger)
    chosen = _chosen(times) if len(times) else times
    count = _launches_to_count(chosen) if len(chosen) else LAUNCHES_OF_EACH
    by_section = tuple(sections)
    skip = _before(facts, ledger, chosen) if len(chosen) else 0
    by_name = () if by_section else names
    run = command(list(chosen.index), count, by_section, by_name, skip=skip)
    verb = "was" if len(names) == 1 else "were"
    return f"{enumerated(names)} {verb} not collected; run `{run}`"


def command(
    names: Iterable[str],
    launches: int,
    sections: tuple[str, ...] = SECTIONS,
    metrics: Iterable[str] = METRICS,
    *,
    skip: int = 0,
) -> str:
    """Return the command that collects sections and metrics of kernels of these names.

    How long each launch takes, and how busy it keeps compute and memory, is always collected: a
    recording of something else alone could not be judged.

    Args:
        names: Base names of the kernels; without any, of all kernels.
        launches: How many launches to profile.
        sections: Sections of Nsight Compute.
        metrics: Metrics under their exact names.
        skip: How many launches to let pass first.
    """
    parts = ["ncu", "--clock-control", "none"]
    for section in dict.fromkeys((DURATION_SECTION, *sections)):
        parts += ["--section", section]
    if metric_list := ",".join(metrics):
        parts += ["--metrics", metric_list]
    named = list(names)
    if named:
        parts += ["--kernel-name", f"regex:^({'|'.join(re.escape(n) for n in named)})$"]
    if skip:
        parts += ["--launch-skip", str(skip)]
    parts += ["--launch-count", str(launches), "-o", "counters", "PROGRAM"]
    return shlex.join(parts)


def base_name(kernel: str) -> str:
    """Return a kernel's name without return type, namespaces, template arguments and parameters.

    That is the name which ncu compares with unless told otherwise.
    """
    name = kernel.replace("(anonymous namespace)::", "")
    while (shorter := _TEMPLATE.sub("", name)) != name:
        name = shorter
    return name.partition("(")[0].strip().rpartition(" ")[2].rpartition("::")[2]


def _launches_to_count(chosen: pd.DataFrame) -> int:
    """Return how many launches of these kernels to profile, so that each has its turn."""
    turns = int(np.ceil(chosen["count"].sum() / chosen["count"].min()))
    return min(LAUNCHES_OF_EACH * max(turns, int(chosen["variants"].sum())), MAX_LAUNCHES)


def _before(facts: Facts, ledger: Ledger, chosen: pd.DataFrame) -> int:
    """Return how many launches of these kernels ended before the window: ncu skips them."""
    ended = facts.launches["end_ns"].to_numpy() <= ledger.window.start_ns
    rows = np.flatnonzero(ended & (facts.launches["kind"].to_numpy() == KERNEL))
    code, ids = pd.factorize(facts.launches["name_id"].to_numpy()[rows])
    is_chosen = [base_name(str(n)) in chosen.index for n in facts.trace.names(ids)]
    return int(np.array(is_chosen, dtype=bool)[code].sum())


@memo()
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
