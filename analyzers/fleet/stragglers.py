"""How much of a job's time slow ranks and stages cost: the job replayed without what is slow.

The definitions are those of StragglerAnalysis (OSDI 2025), so that figures can be compared:

* an operation's ideal duration is the mean of its kind in the whole job where it computes, and the
  median where it moves data;
* the slowdown is the time of a step without launch delay by that of the ideal step;
* a part of the job *explains* the share of the slowdown that goes when only this part becomes
  ideal. It may exceed 1, or be negative: a stage that has less work than the mean becomes slower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analyzers.fleet.operations import BACKWARD, FORWARD, JobOperations
from analyzers.fleet.replay import StepReplay
from analyzers.intervals import Array

MAX_RANKS = 64  # that are replayed one by one: those that compute longest against the ideal
MIN_PASSES = 3  # fewer tell nothing of how both directions vary together
WORST_RANKS = 0.03  # of all ranks, at least one: those that M_W is about
NO_STRAGGLER = 1.03  # a smaller slowdown is not explained by anything


class EmptyJobError(Exception):
    """There is nothing to replay; the message says why."""


@dataclass(frozen=True, kw_only=True)
class PartOfJob:
    """A rank, a stage, a data-parallel rank or a kind of operations.

    Attributes:
        name: Number of the rank or stage, or name of the kind.
        slowdown: Step time by the ideal one when only this part is as recorded.
        explains: Share of the job's slowdown that goes when only this part becomes ideal; None
            where nothing is lost.
    """

    name: str
    slowdown: float
    explains: float | None


@dataclass(frozen=True, kw_only=True)
class Stragglers:
    """What slow parts cost.

    Attributes:
        slowdown: Mean step time without launch delay by that of the ideal step; S as published.
        launch_slowdown: Mean recorded step time by that without launch delay.
        m_w: Share of the slowdown that the worst 3 % of ranks explain; None where nothing is lost.
        m_s: Share that the last stage explains; None with one stage.
        worst_ranks: Ranks that ``m_w`` is about, the worst first.
        recorded_ns: Mean time of a step, from the first begin to the last end.
        no_delay_ns: The same replayed without launch delay.
        ideal_ns: The same with ideal durations.
        without_worst_ns: With the durations of the worst ranks ideal.
        without_last_stage_ns: With those of the last stage ideal; None with one stage.
        step_slowdown: Slowdown of each step.
        ranks: Every rank, most slowdown first.
        stages: Every stage, likewise.
        dp_ranks: Every data-parallel rank, likewise.
        kinds: Every kind of operations, likewise.
        pass_correlation: How forward and backward passes of the same micro-batch vary together
            on a rank: near 1 where lengths of sequences differ; None where it is not known.
    """

    slowdown: float
    launch_slowdown: float
    m_w: float | None
    m_s: float | None
    worst_ranks: tuple[int, ...]
    recorded_ns: float
    no_delay_ns: float
    ideal_ns: float
    without_worst_ns: float
    without_last_stage_ns: float | None
    step_slowdown: tuple[tuple[int, float], ...]
    ranks: tuple[PartOfJob, ...]
    stages: tuple[PartOfJob, ...]
    dp_ranks: tuple[PartOfJob, ...]
    kinds: tuple[PartOfJob, ...]
    pass_correlation: float | None


def stragglers(operations: JobOperations) -> Stragglers:
    """Replay a job without its slow parts.

    Args:
        operations: All operations; at least one.

    Raises:
        StuckStepError: Operations of a step wait for each other in a circle.
        EmptyJobError: No operation takes any time.
    """
    replays = _Replays(operations)
    recorded, ideal = replays.times_ns([replays.real, replays.ideal])
    if not ideal.all():
        raise EmptyJobError("a step in which no operation takes any time")
    names = ("rank", "stage", "dp_rank", "kind")
    parts = {name: replays.parts(name, recorded.mean(), ideal.mean()) for name in names}
    count = max(math.ceil(WORST_RANKS * len(operations.ranks)), 1)
    worst = tuple(int(part.name) for part in parts["rank"][:count])
    rank, stage = (operations.table[name].to_numpy() for name in ("rank", "stage"))
    has_stages = stage.max() > 0
    without_worst, without_last = replays.times_ns(
        [
            np.where(np.isin(rank, worst), replays.ideal, replays.real),
            np.where(stage == stage.max(), replays.ideal, replays.real),
        ]
    ).mean(axis=1)
    lost = recorded.mean() - ideal.mean()
    by_step = operations.table.groupby("step")
    recorded_ns = (by_step["end_ns"].max() - by_step["start_ns"].min()).to_numpy()
    return Stragglers(
        slowdown=float(recorded.mean() / ideal.mean()),
        launch_slowdown=float(recorded_ns.mean() / recorded.mean()),
        m_w=_share(recorded.mean() - without_worst, lost),
        m_s=_share(recorded.mean() - without_last, lost) if has_stages else None,
        worst_ranks=worst,
        recorded_ns=float(recorded_ns.mean()),
        no_delay_ns=float(recorded.mean()),
        ideal_ns=float(ideal.mean()),
        without_worst_ns=float(without_worst),
        without_last_stage_ns=float(without_last) if has_stages else None,
        step_slowdown=tuple(
            zip(operations.steps.tolist(), (recorded / ideal).tolist(), strict=True)
        ),
        ranks=parts["rank"],
        stages=parts["stage"],
        dp_ranks=parts["dp_rank"],
        kinds=parts["kind"],
        pass_correlation=_pass_correlation(operations),
    )


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


class _Replays:
    """The steps of a job, replayed with recorded and with ideal durations."""

    def __init__(self, operations: JobOperations) -> None:
        self._operations = operations
        self._steps = [StepReplay(operations, int(step)) for step in operations.steps]
        self.real = operations.transfer_ns.astype(float)
        self.ideal = _ideal_ns(operations)

    def times_ns(self, durations_ns: Sequence[Array]) -> Array:
        """Return the time of each step (column) for each set of durations (row)."""
        table = np.array(durations_ns)
        return np.column_stack([step.durations_ns(table[:, step.rows]) for step in self._steps])

    def parts(self, name: str, recorded_ns: float, ideal_ns: float) -> tuple[PartOfJob, ...]:
        """Return what each value of a column of the operations explains, most slowdown first."""
        column = self._operations.table[name].to_numpy()
        values = self._slowest(column)
        only = self.times_ns([np.where(column == v, self.real, self.ideal) for v in values])
        without = self.times_ns([np.where(column == v, self.ideal, self.real) for v in values])
        kinds = self._operations.kinds
        made = [
            PartOfJob(
                name=kinds[value] if name == "kind" else str(value),
                slowdown=float(slow / ideal_ns),
                explains=_share(recorded_ns - fast, recorded_ns - ideal_ns),
            )
            for value, slow, fast in zip(
                values.tolist(), only.mean(axis=1), without.mean(axis=1), strict=True
            )
        ]
        return tuple(sorted(made, key=lambda part: -part.slowdown))

    def _slowest(self, column: Array) -> Array:
        """Return the values of a column, of many those whose operations lose most time."""
        values, place = np.unique(column, return_inverse=True)
        lost = np.bincount(place, self.real - self.ideal, minlength=len(values))
        result: Array = np.sort(values[np.argsort(-lost, kind="stable")[:MAX_RANKS]])
        return result


def _ideal_ns(operations: JobOperations) -> Array:
    """Return each operation's ideal duration: the mean of its kind, or the median of messages."""
    kind, moved = operations.table["kind"].to_numpy(), operations.transfer_ns
    ideal = np.zeros(len(kind))
    for code in np.unique(kind).tolist():
        own = kind == code
        is_message = operations.communicates[own][0]
        ideal[own] = np.median(moved[own]) if is_message else moved[own].mean()
    return ideal


def _pass_correlation(operations: JobOperations) -> float | None:
    """Correlate both passes of a micro-batch, each against the mean of its rank and step."""
    table = operations.table
    spent = (table["end_ns"] - table["start_ns"]).to_numpy(float)
    keys = ["step", "rank", "chunk", "sequence"]
    sides = []
    for name in (FORWARD, BACKWARD):
        code = operations.kinds.index(name) if name in operations.kinds else -1
        own = (table["kind"] == code).to_numpy()
        side = table.loc[own, keys].assign(spent=spent[own])
        usual = side.groupby("rank")["spent"].transform("mean")
        sides.append(side.assign(spent=side["spent"] / usual))
    pairs = sides[0].merge(sides[1], on=keys, suffixes=("", "_back"))
    both = pairs[["spent", "spent_back"]].to_numpy()
    both = both[np.isfinite(both).all(axis=1)]  # a rank whose passes take no time has no usual one
    if len(both) < MIN_PASSES or not both.std(axis=0).all():
        return None
    return float(np.corrcoef(both.T)[0, 1])
