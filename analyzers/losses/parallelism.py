"""Kernel time that too little parallel work wastes, split so that no two rules claim the same.

Every launch belongs to exactly one pattern, the first that fits: blocks that fill no whole warps,
unless fewer blocks than multiprocessors waste more; fewer blocks than multiprocessors; a last wave
that is nearly empty; too few warps on each multiprocessor. Only time
in which a kernel runs alone counts, because kernels that run together fill the GPU together, and
none that a finding about memory claims; so all claims together never exceed the kernel time of the
ledger.
"""

from __future__ import annotations

import enum
import re

import numpy as np
import pandas as pd

from analyzers.facts.facts import COMMUNICATION, GRAPH, KERNEL, Facts
from analyzers.facts.occupancy import THREADS_PER_WARP, launch_shapes
from analyzers.finding import Evidence
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.culprits import of_operations
from analyzers.losses.kernel_memory import held_by_memory, is_notable
from analyzers.losses.ncu_command import base_name
from analyzers.metric_names import SHORTEST_KERNEL_NS
from analyzers.recorder import recorder_of
from analyzers.words import count_text, name_text, time_text
from common.memo import memo

MAX_FULL_WAVES = 4  # after five, a last wave costs less than a fifth; Nsight Compute agrees
LOW_OCCUPANCY_PCT = 25.0  # below a quarter of the warps, waiting for memory is rarely hidden
ENOUGH_OCCUPANCY_PCT = 50.0  # from half of them on, more warps rarely help
NOTABLE_IDLE_LANES = 0.1  # of the lanes of all warps of a block
EVIDENCE_KERNELS = 3
MANY_TIMES = 10  # so many times the blocks, and so many times as fast: worth a sentence

# Kernels that keep tiles in registers and shared memory have few warps by design.
_TILED = re.compile(r"gemm|cutlass|cudnn|conv|xmma|wgmma|nvjet|flash|fmha|attention", re.IGNORECASE)


class Parallelism(enum.IntEnum):
    """How a launch fills the GPU."""

    ENOUGH = 0
    SMALL_GRID = 1
    TAIL_WAVE = 2
    LOW_OCCUPANCY = 3
    PARTIAL_WARPS = 4


WORDS = (
    "",
    "fewer blocks than multiprocessors",
    "a nearly empty last wave",
    "few warps",
    "blocks that do not fill their warps",
)
"""Each ``Parallelism`` in words; nothing when there is enough."""


def why_unknown(facts: Facts) -> str:
    """Return why the recording can't say how kernels fill the GPU; empty when it can."""
    kinds = facts.launches["kind"].to_numpy()
    recorder = recorder_of(facts.trace)
    if not np.isin(kinds, (KERNEL, COMMUNICATION)).any():
        if (kinds == GRAPH).any():
            return (
                "the kernels inside CUDA graphs were not recorded; record with "
                "`nsys profile --cuda-graph-trace=node`"
            )
        return f"no kernels were recorded; {recorder.calls}"
    table = launch_shapes(facts).table
    if not (table["grid_blocks"] > 0).any():
        return f"the recording has no grid sizes; {recorder.details}"
    if not (facts.devices["sm_count"] > 0).any():
        return (
            f"the recording does not say how many multiprocessors the GPU has; {recorder.details}"
        )
    return ""


def occupancy_is_known(facts: Facts) -> bool:
    """Tell whether the occupancy of any launch is known."""
    return bool((launch_shapes(facts).table["occupancy_pct"] >= 0).any())


def kernel_losses(facts: Facts, ledger: Ledger, pattern: Parallelism) -> pd.DataFrame:
    """Return the launches of ``pattern`` that ran alone in the window.

    Columns: ``launch`` (row in ``Facts.launches``), ``shape`` (row in ``launch_shapes``'s
    table), ``alone_ns`` and ``lost_ns``: the part of it that full parallelism could win back.
    A pattern that can't be notable even if every launch ran alone has no rows.
    """
    losses = _all_losses(facts, ledger)
    chosen: pd.DataFrame = losses[losses["pattern"] == pattern]
    return chosen


@memo()
def _all_losses(facts: Facts, ledger: Ledger) -> pd.DataFrame:
    shapes = launch_shapes(facts)
    pattern, share = patterns(shapes.table, facts)
    chosen = (pattern != Parallelism.ENOUGH)[shapes.code]
    chosen &= facts.launches["kind"].to_numpy()[shapes.rows] == KERNEL
    if ledger.examined is not None:  # counters tell about these, and are asked by other rules
        chosen &= ledger.examined.joined.row[shapes.rows] < 0
    launch, shape = shapes.rows[chosen], shapes.code[chosen]
    keep = ~((pattern[shape] == Parallelism.LOW_OCCUPANCY) & _is_tiled(facts, launch))
    launch, shape = launch[keep], shape[keep]
    at_most = np.bincount(
        pattern[shape], facts.duration_ns[launch] * share[shape], len(Parallelism)
    )
    worth = np.array([is_notable(ledger, int(ns)) for ns in at_most])[pattern[shape]]
    launch, shape = launch[worth], shape[worth]  # the rest can't become findings: save the work
    alone = alone_ns(facts, ledger)[launch] if len(launch) else np.zeros(0, np.int64)
    could_win = np.maximum(alone - SHORTEST_KERNEL_NS, 0)
    lost = np.minimum((alone * share[shape]).astype(np.int64), could_win)
    columns = {"launch": launch, "shape": shape, "alone_ns": alone, "lost_ns": lost}
    losses = pd.DataFrame({**columns, "pattern": pattern[shape]})
    losing: pd.DataFrame = losses[lost > 0]
    return losing


@memo()
def claimed_ns(facts: Facts, ledger: Ledger) -> Array:
    """Return how much of each launch's time alone findings about parallelism may claim."""
    claimed = np.zeros(len(facts.launches), np.int64)
    losses = _all_losses(facts, ledger)
    claimed[losses["launch"].to_numpy()] = losses["lost_ns"].to_numpy()
    return claimed


def patterns(table: pd.DataFrame, facts: Facts) -> tuple[Array, Array]:
    """Return the pattern of each launch configuration, and the part of its time that it wastes."""
    sms = multiprocessors(table, facts).astype(np.float64)
    grid, occupancy = table["grid_blocks"].to_numpy(), table["occupancy_pct"].to_numpy()
    full, last = np.floor(table["waves"].to_numpy()), last_wave_blocks(table)
    small = (grid > 0) & (grid < sms)
    # A last wave with a block for every multiprocessor leaves none of them idle.
    tail = ~small & (full >= 1) & (full <= MAX_FULL_WAVES) & (last > 0) & (last < sms)
    low = ~small & ~tail & (occupancy > 0) & (occupancy < LOW_OCCUPANCY_PCT)
    of_lanes = wasted_by_lanes(table)
    partial = (idle_lanes(table) >= NOTABLE_IDLE_LANES) & (
        ~small | (of_lanes > 1 - grid / np.maximum(sms, 1))
    )
    pattern = np.select(
        [partial, small, tail, low],
        [
            Parallelism.PARTIAL_WARPS,
            Parallelism.SMALL_GRID,
            Parallelism.TAIL_WAVE,
            Parallelism.LOW_OCCUPANCY,
        ],
        Parallelism.ENOUGH,
    )
    wasted = np.select(
        [partial, small, tail, low],
        [
            of_lanes,
            1 - grid / np.maximum(sms, 1),
            (1 - last / np.maximum(sms, 1)) / (np.maximum(full, 0) + 1),  # -1 is not known
            1 - occupancy / ENOUGH_OCCUPANCY_PCT,
        ],
        0.0,
    )
    return pattern, wasted


def idle_lanes(table: pd.DataFrame) -> Array:
    """Return the share of each configuration's lanes that no thread uses; 0 when not known.

    A warp has 32 lanes whatever the block's size: a block of 4 × 4 threads leaves half of them
    idle, one of 33 threads nearly as many.
    """
    threads = table["block_threads"].to_numpy()
    lanes = -(-threads // THREADS_PER_WARP) * THREADS_PER_WARP
    idle: Array = np.where(threads > 0, 1 - threads / np.maximum(lanes, 1), 0.0)
    return idle


def wasted_by_lanes(table: pd.DataFrame) -> Array:
    """Return the share of time that whole warps, and as many as fit, could win back at most.

    Small blocks also use up the multiprocessor's slots for blocks before those for warps. On
    recordings with a known answer a block of 4 × 4 took 3.65 times as long as one of 16 × 16;
    half of the lanes on half of the warps is a bound of 4.
    """
    occupancy = table["occupancy_pct"].to_numpy()
    filled = np.where(occupancy > 0, np.minimum(occupancy, 100.0) / 100.0, 1.0)
    wasted: Array = 1 - (1 - idle_lanes(table)) * filled
    return wasted


def last_wave_blocks(table: pd.DataFrame) -> Array:
    """Return how many blocks of each configuration run after its whole waves; 0 when not known."""
    grid, per_wave = table["grid_blocks"].to_numpy(), table["blocks_per_wave"].to_numpy()
    left: Array = np.where((grid > 0) & (per_wave > 0), grid % np.maximum(per_wave, 1), 0)
    return left


def multiprocessors(table: pd.DataFrame, facts: Facts) -> Array:
    """Return the multiprocessors of the device of each configuration."""
    sms: Array = facts.devices["sm_count"].to_numpy()[table["device"].to_numpy()]
    return sms


def _is_tiled(facts: Facts, launches: Array) -> Array:
    codes, names = pd.factorize(facts.launches["name_id"].to_numpy()[launches])
    tiled: Array = is_tiled(facts.trace.names(names))[codes]
    return tiled


def is_tiled(names: Array) -> Array:
    """Tell which kernels, by their names, have few warps by design."""
    return np.array([_TILED.search(str(n)) is not None for n in names], dtype=bool)


@memo()
def alone_ns(facts: Facts, ledger: Ledger) -> Array:
    """Return how long each launch was the only compute kernel on its device, in the window.

    Time that a finding about memory claims is left out.
    """
    result = np.zeros(len(facts.launches), np.int64)
    inside = facts.inside(ledger.window.start_ns, ledger.window.end_ns)
    rows = inside[np.isin(facts.launches["kind"].to_numpy()[inside], (KERNEL, GRAPH))]
    device = facts.launches["device"].to_numpy()[rows]
    for key in range(len(facts.devices)):
        on_device = rows[device == key]
        start = np.maximum(facts.launches["start_ns"].to_numpy()[on_device], ledger.window.start_ns)
        end = np.minimum(facts.launches["end_ns"].to_numpy()[on_device], ledger.window.end_ns)
        held = held_by_memory(facts, ledger, key)  # counts as one more thing that runs
        start, end = np.concatenate((start, held.start)), np.concatenate((end, held.end))
        order = np.argsort(start, kind="stable")
        alone = np.zeros(len(order), np.int64)
        alone[order] = _alone(start[order], end[order])
        result[on_device] = alone[: len(on_device)]
    return result


def _alone(start: Array, end: Array) -> Array:
    """Return how much of each interval no other covers; sorted by begin."""
    if not len(start):
        return end
    meets = start[1:] < np.maximum.accumulate(end)[:-1]  # what came before
    shared = np.concatenate((meets, [False])) | np.concatenate(([False], meets))
    result = end - start
    result[shared] = _swept_alone(start[shared], end[shared])
    return result


def _swept_alone(start: Array, end: Array) -> Array:
    """Do the same, going through all begins and ends in order of time."""
    number = np.arange(len(start))
    time = np.concatenate((start, end))
    order = np.argsort(time, kind="stable")
    time = time[order]
    running = np.cumsum(np.repeat((1, -1), len(start))[order])
    # While one runs, the sum of the numbers of those that run is its number.
    which = np.cumsum(np.concatenate((number, -number))[order])
    single = np.flatnonzero(running[:-1] == 1)
    result = np.zeros(len(start), np.int64)
    np.add.at(result, which[single], (time[1:] - time[:-1])[single])
    return result


def mean_weighted(losses: pd.DataFrame, values: Array) -> float:
    """Return the mean of one value per launch configuration, weighted with the time lost."""
    return float(np.average(values[losses["shape"]], weights=losses["lost_ns"]))


def main_kernel(facts: Facts, losses: pd.DataFrame) -> str:
    """Return the kernel that loses at least half of the time, by its short name; else nothing.

    Args:
        facts: The recording.
        losses: Columns ``launch`` and ``lost_ns``; not empty.
    """
    name_id = facts.launches["name_id"].to_numpy()[losses["launch"]]
    lost = losses["lost_ns"].groupby(name_id).sum()
    if 2 * int(lost.max()) < int(lost.sum()):
        return ""
    text = str(facts.trace.names(np.array([int(str(lost.idxmax()))]))[0])
    return name_text(base_name(text) or text)


def in_kernel(facts: Facts, losses: pd.DataFrame) -> str:
    """Return ``, mostly in `kernel``` for the end of a sentence, where one loses half."""
    kernel = main_kernel(facts, losses)
    return f", mostly in `{kernel}`" if kernel else ""


def mostly_in(facts: Facts, ledger: Ledger, losses: pd.DataFrame) -> str:
    """Return ``, mostly in `kernel`, in aten::mm, called from …`` for the end of a sentence.

    Kernel, operator, line and range are named where one of them loses half of the time.
    """
    launch, lost_ns = losses["launch"].to_numpy(), losses["lost_ns"].to_numpy()
    return of_operations(facts, ledger, launch, lost_ns).words("in")


def larger_grid(facts: Facts, losses: pd.DataFrame) -> str:
    """Say what the kernel that loses most took with ten times the blocks, if a tenth of the time.

    Launches of one kernel may do different amounts of work, but hardly less with more blocks.
    """
    shapes = launch_shapes(facts)
    worst = losses.iloc[int(losses["lost_ns"].to_numpy().argmax())]
    launch, shape = int(worst["launch"]), int(worst["shape"])
    blocks = shapes.table["grid_blocks"].to_numpy()[shapes.code]
    name_id = facts.launches["name_id"].to_numpy()
    duration = facts.duration_ns[shapes.rows]
    few = int(shapes.table["grid_blocks"].iloc[shape])
    better = (name_id[shapes.rows] == name_id[launch]) & (blocks >= MANY_TIMES * few)
    better &= duration * MANY_TIMES <= int(facts.duration_ns[launch])
    if not better.any():
        return ""
    place = np.flatnonzero(better)[int(blocks[better].argmax())]
    return (
        f"; the same kernel took {time_text(int(facts.duration_ns[launch]))} with "
        f"{count_text(few, 'block')} and {time_text(int(duration[place]))} with {blocks[place]:,}"
    )


def largest_kernels(
    facts: Facts, losses: pd.DataFrame, what: str = "time to win back in"
) -> tuple[Evidence, ...]:
    """Return the kernels that lose most as evidence, each showing the launch that loses most.

    Args:
        facts: The recording.
        losses: Columns ``launch`` and ``lost_ns``.
        what: Words for the time; the kernel's name follows.
    """
    name_id = facts.launches["name_id"].to_numpy()[losses["launch"]]
    sums = losses["lost_ns"].groupby(name_id).sum().nlargest(EVIDENCE_KERNELS)
    texts = facts.trace.names(sums.index.to_numpy())
    evidence = []
    for name, text, lost in zip(sums.index, texts, sums, strict=True):
        of_kernel = losses[name_id == name]
        worst = int(of_kernel["launch"].iloc[int(of_kernel["lost_ns"].to_numpy().argmax())])
        launch = facts.launches.iloc[worst]
        evidence.append(
            Evidence(
                name=f"{what} {name_text(str(text))}",
                value=float(lost),
                unit="ns",
                start_ns=int(launch["start_ns"]),
                end_ns=int(launch["end_ns"]),
                device=int(launch["device"]),
            )
        )
    return tuple(evidence)
