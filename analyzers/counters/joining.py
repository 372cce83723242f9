"""Counters of profiled launches, joined to the launches of a timeline.

A timeline says when each kernel ran, and counters say what happened inside launches that were
profiled in another run of the program. Both are joined where name and launch configuration are
the same, and nowhere else: kernels that several profiled ones could stand for are not examined.

Where as many launches of a configuration were profiled as the timeline has, on the same devices,
they are paired in the order in which they were launched. Else each launch of the timeline takes
the median of every counter over the profiled launches.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzers.counters.inside import Inside, account
from analyzers.counters.kernel_names import same_kernels
from analyzers.facts.counters import Counters
from analyzers.facts.facts import GRAPH, KERNEL, UNKNOWN, Facts, holds_counters_only
from analyzers.facts.spans import Window
from analyzers.facts.trace_table import trace_table
from analyzers.finding import Row
from analyzers.intervals import Array, divided, shares_of_union
from collectors.errors import RefusedError
from collectors.schema import ProfiledKind
from collectors.trace import Trace

_GRID = tuple(f"{of}_{axis}" for of in ("grid", "block") for axis in "xyz")
_SHARED = ("static_shared_bytes", "dynamic_shared_bytes")
_RECORDED = ("registers_per_thread", "shared_bytes", "model")
"""What must agree where both recordings have it."""
_SAME = 0.01  # Nsight Compute's pages print three digits of shared memory

NOT_PROFILED = "not profiled"
NOT_ON_TIMELINE = "not on the timeline"
OTHER_CONFIGURATION = "same name, different launch configuration"
NO_CONFIGURATION = "the launch configuration was not recorded"
OTHER_GPU = "same launch, on a different GPU model"
AMBIGUOUS = "several launch configurations match"
WHOLE_GRAPH = "a CUDA graph that was recorded as a whole"
NO_KERNEL = "counters for a range, not for a kernel"
JOINED = ""

ON_TIMELINE, PROFILED_SIDE = "timeline", "counters"
MAX_LISTED = 200  # kernels without a partner; those with most time


@dataclass(frozen=True, eq=False)
class JoinedCounters(Counters):
    """Counters by what they were joined to; one row is one launch, or launches that are alike.

    Attributes:
        row: For each profiled launch that is used, the row that it speaks for; sorted.
        source: That profiled launch.
        subjects: What each row is: the columns of ``Counters.profiled``.
    """

    row: Array
    source: Array
    subjects: pd.DataFrame

    def __len__(self) -> int:
        return len(self.subjects)

    @functools.cached_property
    def profiled(self) -> pd.DataFrame:
        """Launch configuration and ``name`` of each row; the name is the timeline's."""
        return self.subjects

    def metric(self, *names: str) -> Array:
        """Return a metric of each row: the median over its profiled launches that have it."""
        taken = self._recorded(names)[self.source]
        if len(self.source) == len(self):
            return taken
        medians: Array = pd.Series(taken).groupby(self.row).median().to_numpy()
        return medians


@dataclass(frozen=True, eq=False)
class Joined:
    """What a recording of counters says about a timeline.

    Attributes:
        counters: The counters that were joined.
        source: ``name``, ``format`` and ``trace`` (its id) of the recording they come from.
        row: Row of ``counters`` for each launch of the timeline, -1 for none.
        device: Device (key) of each row of ``counters``.
        why: For each launch of the timeline why it has none, ``JOINED`` when it has.
        unused: Profiled launches that stand for nothing on the timeline: ``name``, ``reason``,
            ``ns``, ``launches``.
        duration_ratio: Time of the launches under the profiler over that on the timeline; not a
            number when nothing was joined.
    """

    counters: JoinedCounters
    source: dict[str, str]
    row: Array
    device: Array
    why: Array
    unused: pd.DataFrame
    duration_ratio: float


@dataclass(frozen=True, eq=False)
class Examined:
    """The kernel time of a window, by launch, and what counters say about it.

    Attributes:
        joined: The counters and what they were joined to.
        inside: The account of the time that they cover.
        launches: Rows of ``Facts.launches`` that book kernel time in the window.
        start_ns: Their begins.
        ns: How much of it each books. Time in which several run is divided among them, so that
            the sum is the kernel time of the ledger.
    """

    joined: Joined
    inside: Inside
    launches: Array
    start_ns: Array
    ns: Array

    @property
    def kernel_ns(self) -> int:
        """Kernel time of the window, over all devices."""
        return int(self.ns.sum())

    @property
    def covered_ns(self) -> int:
        """The part of it in launches whose counters are known."""
        return int(self.inside.ns.sum())

    @functools.cached_property
    def counts(self) -> Array:
        """Launches of the window that each row of the counters stands for."""
        row = self.joined.row[self.launches]
        return np.bincount(row[row >= 0], minlength=len(self.joined.counters))

    @property
    def covered_share(self) -> float:
        """That part, 0 to 1."""
        return self.covered_ns / self.kernel_ns if self.kernel_ns else 0.0

    @functools.cached_property
    def rows_ns(self) -> dict[Row, Array]:
        """What each launch books to each row of the ledger that kernel time is split into.

        Whole nanoseconds; the rows of a launch sum to what it books, and each row over the
        launches of a device to the ledger.
        """
        row = self.joined.row[self.launches]
        covered = np.flatnonzero(row >= 0)
        split = {of: self.inside.row_ns(of) for of in (Row.DIVERGENCE, Row.BANDWIDTH)}
        lost, diverged = (np.zeros(len(self.ns), np.int64) for _ in range(2))
        lost[covered] = divided(
            split[Row.DIVERGENCE] + split[Row.BANDWIDTH], self.ns[covered], row[covered]
        )
        diverged[covered] = divided(split[Row.DIVERGENCE], lost[covered], row[covered])
        return {
            Row.KERNEL: self.ns - lost,
            Row.DIVERGENCE: diverged,
            Row.BANDWIDTH: lost - diverged,
        }

    def unmatched(self, facts: Facts) -> pd.DataFrame:
        """Return kernels without a partner: ``name``, ``side``, ``reason``, ``ns``, ``launches``.

        Those of the timeline count their part of the window's kernel time, those of the counters
        their time under the profiler. The side with the longer list does not hide the other.
        """
        why = self.joined.why[self.launches]
        alone = why != JOINED
        names = facts.launches["name_id"].to_numpy()[self.launches[alone]]
        code, ids = pd.factorize(names)
        on_timeline = pd.DataFrame(
            {
                "name": facts.trace.names(ids)[code] if len(ids) else np.empty(0, object),
                "reason": why[alone],
                "ns": self.ns[alone],
                "launches": np.ones(int(alone.sum()), np.int64),
            }
        )
        sides = [_listed(on_timeline).assign(side=ON_TIMELINE)]
        sides.append(self.joined.unused.assign(side=PROFILED_SIDE))
        return pd.concat(sides, ignore_index=True)

    def to_dict(self, facts: Facts) -> dict[str, Any]:
        """Return what a report says about the join."""
        unmatched = self.unmatched(facts)
        listed = unmatched.groupby("side", sort=False).head(MAX_LISTED)
        ratio = self.joined.duration_ratio
        return {
            **self.joined.source,
            "covered_ns": self.covered_ns,
            "kernel_ns": self.kernel_ns,
            "covered_share": self.covered_share,
            "duration_ratio": ratio if np.isfinite(ratio) else None,
            "unmatched": listed.to_dict("records"),
            "unmatched_more": len(unmatched) - len(listed),
        }


def join(facts: Facts, trace: Trace) -> Joined:
    """Join the counters of ``trace`` to the launches of a timeline.

    Raises:
        RefusedError: ``trace`` holds no counters, or ``facts`` no timeline.
    """
    if not holds_counters_only(trace):
        raise RefusedError(
            f"{trace.source.name}: holds no counters to join; record some with ncu and pass the "
            ".ncu-rep"
        )
    if facts.counters_only:
        raise RefusedError(
            f"{facts.trace.source.name}: holds counters but no timeline to join them to; pass "
            "the recording of nsys or the torch profiler first"
        )
    timeline, profiled = _launched(facts), _profiled(trace)
    timeline, profiled = _with_kernels(timeline, profiled)
    pairs, timeline_why, profiled_why = _paired(timeline, profiled)
    timeline = timeline.assign(
        pair=pairs[0][timeline["configuration"]], why=timeline_why[timeline["configuration"]]
    )
    pair = pairs[1][profiled["configuration"]]
    profiled = profiled.assign(pair=pair, why=profiled_why[profiled["configuration"]])
    return _joined(facts, trace, timeline, profiled)


def _launched(facts: Facts) -> pd.DataFrame:
    """Return the timeline's kernels in the order of their launch calls, by row of launches."""
    frame = facts.of_table("kernels", [*_GRID, "registers_per_thread", *_SHARED])
    kinds = facts.launches["kind"].to_numpy()[frame.index]
    frame = frame[kinds == KERNEL]
    rows = frame.index.to_numpy()
    launches = facts.launches.iloc[rows]
    key = launches["device"].to_numpy()
    frame = frame.assign(
        name_id=launches["name_id"].to_numpy(),
        process_key=facts.process_keys[launches["process_index"].to_numpy()],
        key=key,
        device=facts.devices["device"].to_numpy()[key],
        gpu=facts.devices["name"].to_numpy()[key],
        launched_ns=facts.api_start_ns[rows],
        name=facts.trace.names(launches["name_id"].to_numpy()),
    )
    ordered: pd.DataFrame = frame.sort_values("launched_ns", kind="stable")
    return ordered


def _profiled(trace: Trace) -> pd.DataFrame:
    """Return the profiled launches in their order."""
    frame = Counters(trace).profiled
    devices = trace_table(trace, "devices")
    of = {
        (p, d): n
        for p, d, n in zip(devices["process_key"], devices["device"], devices["name"], strict=True)
    }
    places = zip(frame["process_key"], frame["device"], strict=True)
    return frame.assign(gpu=[str(of.get(place, "")) for place in places])


def _with_kernels(
    timeline: pd.DataFrame, profiled: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Number kernels, models and launch configurations alike on both sides."""
    coded = [pd.factorize(frame["name"]) for frame in (timeline, profiled)]
    numbers = same_kernels(*([str(name) for name in names] for _, names in coded))
    models = {"": UNKNOWN}
    result = []
    for frame, (code, _), number in zip((timeline, profiled), coded, numbers, strict=True):
        gpus, names = pd.factorize(frame["gpu"])
        for name in names:
            models.setdefault(name, len(models))
        model = np.array([models[name] for name in names], np.int64)[gpus]
        kernel = number[code] if len(number) else np.empty(0, np.int64)
        frame = frame.assign(kernel=kernel, model=model, shared_bytes=_shared_bytes(frame))
        result.append(frame.assign(configuration=_numbered(frame, ("kernel", *_GRID, *_RECORDED))))
    return result[0], result[1]


def _shared_bytes(frame: pd.DataFrame) -> Array:
    """Return the shared memory of a block; some recorders know only the sum of both kinds."""
    static, dynamic = (frame[column].to_numpy().astype(np.int64) for column in _SHARED)
    return np.where((static >= 0) & (dynamic >= 0), static + dynamic, UNKNOWN)


def _numbered(frame: pd.DataFrame, columns: Sequence[str]) -> Array:
    """Return a number for each row; equal where all columns are."""
    code = np.zeros(len(frame), np.int64)
    for column in columns:
        values, unique = pd.factorize(frame[column])
        code = pd.factorize(code * max(len(unique), 1) + values)[0]
    return code


def _paired(
    timeline: pd.DataFrame, profiled: pd.DataFrame
) -> tuple[tuple[Array, Array], Array, Array]:
    """Return, for the configurations of each side, the number of their pair, and why none.

    A configuration that two of the other side fit belongs to neither.
    """
    sides = [_configurations(frame) for frame in (timeline, profiled)]
    both = _can_pair(sides[0]).merge(
        _can_pair(sides[1]), on=["kernel", *_GRID], suffixes=("", "_profiled")
    )
    fits = np.ones(len(both), dtype=bool)
    for column in _RECORDED[:-1]:
        fits &= _agree(both[column].to_numpy(), both[f"{column}_profiled"].to_numpy())
    both = both[fits]
    model, other = both["model"].to_numpy(), both["model_profiled"].to_numpy()
    same_gpu = (model == other) | (model == UNKNOWN) | (other == UNKNOWN)
    candidates = both[same_gpu]
    sizes = [
        np.bincount(candidates[f"configuration{suffix}"], minlength=len(side))
        for suffix, side in zip(("", "_profiled"), sides, strict=True)
    ]
    timeline_number, profiled_number = (
        candidates[f"configuration{s}"].to_numpy() for s in ("", "_profiled")
    )
    single = (sizes[0][timeline_number] == 1) & (sizes[1][profiled_number] == 1)
    pairs, reasons = [], []
    for number, (suffix, side) in enumerate(zip(("", "_profiled"), sides, strict=True)):
        pair = np.full(len(side), UNKNOWN, np.int64)
        chosen = candidates[f"configuration{suffix}"].to_numpy()[single]
        pair[chosen] = np.arange(len(chosen))
        pairs.append(pair)
        elsewhere = np.isin(side.index, both[f"configuration{suffix}"])
        on_both_sides = np.isin(side["kernel"], sides[1 - number]["kernel"])
        reason = np.select(
            [
                pair >= 0,
                sizes[number] > 0,
                elsewhere,
                on_both_sides & (side["grid_x"] > 0).to_numpy(),
                on_both_sides,
            ],
            [JOINED, AMBIGUOUS, OTHER_GPU, OTHER_CONFIGURATION, NO_CONFIGURATION],
            NOT_ON_TIMELINE if number else NOT_PROFILED,
        ).astype(object)
        if number:
            reason[(side["kind"] != ProfiledKind.KERNEL).to_numpy()] = NO_KERNEL
        reasons.append(reason)
    return (pairs[0], pairs[1]), reasons[0], reasons[1]


def _configurations(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each launch configuration, by its number."""
    columns = ["configuration", "kernel", *_GRID, *_RECORDED]
    if "kind" in frame:
        columns.append("kind")
    first = frame[columns].drop_duplicates("configuration").sort_values("configuration")
    numbered: pd.DataFrame = first.reset_index(drop=True)
    return numbered


def _can_pair(side: pd.DataFrame) -> pd.DataFrame:
    """Return the configurations that are complete enough to compare, and of kernels."""
    complete = (side[list(_GRID)].to_numpy() > 0).all(axis=1)
    if "kind" in side:
        complete &= (side["kind"] == ProfiledKind.KERNEL).to_numpy()
    return side.iloc[np.flatnonzero(complete)]


def _agree(one: Array, other: Array) -> Array:
    """Tell where two recorded sizes are the same; one that was not recorded contradicts nothing."""
    unknown = (one < 0) | (other < 0)
    close = np.abs(one - other) <= _SAME * np.maximum(one, other)
    agree: Array = unknown | close
    return agree


def _joined(facts: Facts, trace: Trace, timeline: pd.DataFrame, profiled: pd.DataFrame) -> Joined:
    """Number the rows of the joined counters: launches one to one first, then alike ones."""
    unused = _listed(
        pd.DataFrame(
            {
                "name": profiled["name"],
                "reason": profiled["why"],
                "ns": np.maximum(profiled["duration_ns"], 0),
                "launches": 1,
            }
        )[(profiled["pair"] < 0).to_numpy()]
    )
    why = np.full(len(facts.launches), NOT_PROFILED, object)
    kinds = facts.launches["kind"].to_numpy()
    why[kinds == GRAPH] = WHOLE_GRAPH
    why[timeline.index] = timeline["why"]
    timeline, profiled = timeline[(timeline["pair"] >= 0)], profiled[(profiled["pair"] >= 0)]
    # In each pair in the order of the launches.
    timeline = timeline.sort_values("pair", kind="stable")
    profiled = profiled.sort_values("pair", kind="stable")
    count = int(timeline["pair"].max()) + 1 if len(timeline) else 0
    in_order = _in_order(timeline, profiled, count)
    one = in_order[timeline["pair"].to_numpy()] if count else np.zeros(0, bool)
    other = in_order[profiled["pair"].to_numpy()] if count else np.zeros(0, bool)
    alike = _numbered(timeline[~one], ("pair", "key")) + int(one.sum())
    row = np.full(len(facts.launches), UNKNOWN, np.int64)
    row[timeline.index[one]] = np.arange(int(one.sum()))
    row[timeline.index[~one]] = alike
    subjects = pd.concat([timeline[one], timeline[~one].assign(row=alike).drop_duplicates("row")])
    rest = pd.DataFrame({"pair": profiled["pair"][~other], "source": profiled.index[~other]})
    speaks = subjects.iloc[int(one.sum()) :].merge(rest, on="pair")[["row", "source"]]
    speaks = speaks.sort_values("row", kind="stable").astype(np.int64)
    counters = JoinedCounters(
        trace=trace,
        row=np.concatenate((np.arange(int(one.sum())), speaks["row"])),
        source=np.concatenate((profiled.index[other], speaks["source"])).astype(np.int64),
        subjects=subjects.reset_index(drop=True),
    )
    source = trace.source
    return Joined(
        counters=counters,
        source={"name": source.name, "format": source.format, "trace": trace.id},
        row=row,
        device=subjects["key"].to_numpy(),
        why=why,
        unused=unused,
        duration_ratio=_duration_ratio(facts, counters, profiled["duration_ns"], row),
    )


def _in_order(timeline: pd.DataFrame, profiled: pd.DataFrame, count: int) -> Array:
    """Tell for each pair of configurations whether its launches can be paired one to one.

    Launches of several processes have no common order.
    """
    result = np.ones(count, dtype=bool)
    if not count:
        return result
    sizes = [np.bincount(side["pair"], minlength=count) for side in (timeline, profiled)]
    result &= sizes[0] == sizes[1]
    for side in (timeline, profiled):
        processes = side.groupby("pair")["process_key"].nunique()
        result[processes.index[processes > 1]] = False
    timeline_launches, profiled_launches = (
        side[result[side["pair"].to_numpy()]] for side in (timeline, profiled)
    )
    elsewhere = timeline_launches["device"].to_numpy() != profiled_launches["device"].to_numpy()
    result[timeline_launches["pair"].to_numpy()[elsewhere]] = False
    return result


def _duration_ratio(
    facts: Facts, counters: JoinedCounters, duration_ns: pd.Series, row: Array
) -> float:
    """Return how long launches took under the profiler, over how long they took on the timeline."""
    profiled = duration_ns.where(duration_ns > 0).loc[counters.source].astype(float)
    median = profiled.groupby(counters.row).median().reindex(range(len(counters))).to_numpy()
    launches = np.flatnonzero(row >= 0)
    if not len(launches):
        return float("nan")
    profiled_ns = median[row[launches]]
    measured = ~np.isnan(profiled_ns)
    took = int(facts.duration_ns[launches][measured].sum())
    return float(profiled_ns[measured].sum() / took) if took else float("nan")


def _listed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each name and reason, most time first."""
    sums = frame.groupby(["name", "reason"], sort=True)[["ns", "launches"]].sum().reset_index()
    return sums.sort_values("ns", ascending=False, kind="stable", ignore_index=True)


def examine(facts: Facts, joined: Joined, window: Window) -> Examined:
    """Return the kernel time of a window, and what the joined counters say about it."""
    launches, ns = kernel_shares(facts, window)
    row = joined.row[launches]
    covered = row >= 0
    of_row = np.zeros(len(joined.counters), np.int64)
    np.add.at(of_row, row[covered], ns[covered])
    begins = facts.launches["start_ns"].to_numpy()[launches]
    return Examined(joined, account(joined.counters, of_row), launches, begins, ns)


def kernel_shares(facts: Facts, window: Window) -> tuple[Array, Array]:
    """Return the launches that book kernel time in a window, and how much each books.

    Time in which several run on a device is divided among them, so that the sum is the kernel time
    of the ledger.
    """
    inside = facts.inside(*window.span)
    launches = inside[np.isin(facts.launches["kind"].to_numpy()[inside], (KERNEL, GRAPH))]
    start = np.maximum(facts.launches["start_ns"].to_numpy()[launches], window.start_ns)
    end = np.minimum(facts.launches["end_ns"].to_numpy()[launches], window.end_ns)
    device = facts.launches["device"].to_numpy()[launches]
    ns = np.zeros(len(launches), np.int64)
    for key in range(len(facts.devices)):
        on_device = device == key
        ns[on_device] = shares_of_union(start[on_device], end[on_device])
    return launches, ns
