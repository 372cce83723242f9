"""A recording as a dependency graph: what each call and each GPU operation had to wait for.

Lengths of host work, of calls and of operations are taken from the recording. Moments are not:
how long an operation takes to reach an idle device, the device's pause between two operations and
the host's wake-up after a wait are one typical figure each, so that the replay's error is a test
of the graph. What a recording does not say is inferred: which event a stream waited for (from the
operation that ended just before), and which operation an event wait was for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import COPY, GRAPH, Facts
from analyzers.intervals import Array, Spans, intersect, overlaps, union
from analyzers.ledger.gaps import DEVICE_GAP_MAX_NS
from analyzers.ledger.host_timeline import DISPATCH_MAX_NS, Doing, host_timeline, join_polls

# What a call waits for; the second number of a target says which.
NOTHING = 0
LANE = 1  # everything on a stream
GROUP = 2  # everything on a device that the process uses
OP_END = 3  # one operation
OP_START = 4  # that one operation has begun
OWN_END = 5  # the call's own operation
OWN_START = 6  # that the call's own operation has begun
NONE = -1

LATENCY_NS = 2_000  # used where no operation met an idle device; launches take 2 to 10 µs
DEVICE_GAP_NS = 1_000  # used where no operation was queued behind another
UNKNOWN_TIMES = 3.0  # what is used instead may be so many times too short or too long
LEAST = 4  # values from which a typical one is taken
WAKE_UP_NS = 5_000  # used where no wait blocked
MAX_LAG_NS = 50_000  # a longer latency or wake-up has a reason of its own
UNEXPLAINED_NS = 5_000  # an operation that comes so much later than it could waited for another
NEAR_NS = 25_000  # … which ended no longer before; another stream needs 2 to 20 µs to notice
FULL_QUEUE = 500  # operations; CUDA's queues take about a thousand before a launch call blocks
FULL_SHARE = 0.95  # of the deepest: a queue that blocks calls has the same depth each time
BLOCKED_TIMES = 1.5  # … and the call then takes so many times as long as others
SLOW_CALL_NS = 50_000  # launch calls take 2 to 20 µs; a longer one does more than launch
MAX_TOGETHER = 0.05  # of the time of threads that work in turns; they overlap where one begins
MAX_THREADS = 32  # of a process; more are hardly in turns, and each is compared with each
HAND_OVER_NS = 20_000  # pause of a thread after which another one may have handed over to it
LONG_AGO_NS = -(1 << 60)
_SOONER = 1_000  # tolerance of clocks: what ended so shortly after may have been waited for


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Calls in the order in which they were made, and the operations that each submitted.

    All times are ns after ``origin_ns``. A call is a place in the first group of columns, an
    operation a place in the second.

    Attributes:
        origin_ns: First moment.
        thread: Place of the thread; -1 for what stands for an operation without a call.
        begin: Measured begin of the call.
        end: Measured end.
        api_row: Row in ``Facts.api``, else -1.
        call: ``Call``.
        gap: Host time since the thread's previous call ended.
        outside: Part of ``gap`` in which the thread submitted nothing and was not dispatching.
        hand: Call of another thread that handed over to this one, else -1.
        hand_lag: Time since that call ended.
        own: Time in the call that is spent whatever it waits for.
        lead: From the begin of ``own`` until the device sees what was submitted.
        tail: From the end of what was waited for to the end of the call.
        before: What the call waits for before ``own``, as numbered above.
        before_of: Which one.
        after: What it waits for after ``own``.
        after_of: Which one.
        is_inferred: Where the target of a wait was inferred.
        blocked: Where the wait was for something that ended after the call began.
        first_op: First operation of each call; one place more than there are calls.
        row: Row in ``Facts.launches`` of each operation.
        kind: Its kind, as ``analyzers.facts.facts`` numbers them.
        item: Its call.
        lane: Its stream.
        group: Its process and device.
        engine: Copy engine that it needs alone, else -1.
        start: Measured begin.
        stop: Measured end.
        duration: Its length.
        lane_lag: Least pause after the stream's previous operation.
        dep: Another operation that it waits for, else -1.
        dep_lag: Least pause after that.
        held_until: A further operation it waits for, else -1.
        linked: Whether its call is known.
        counts: Threads, streams, groups and engines.
        latency_ns: Typical time from a call's end to its operation on an idle device.
        device_gap_ns: Typical pause between kernels of a stream.
        wake_up_ns: Typical time from the end of what was waited for to the end of the wait.
        gap_is_known: Whether operations of a stream were seen to follow each other at once; where
            the host is never ahead, nothing tells how long the device pauses between them.
        takes_turns: Whether the threads of each process worked in turns, so that each surely
            waited for the one before, as backward passes do for forward ones.
    """

    origin_ns: int
    thread: Array
    begin: Array
    end: Array
    api_row: Array
    call: Array
    gap: Array
    outside: Array
    hand: Array
    hand_lag: Array
    own: Array
    lead: Array
    tail: Array
    before: Array
    before_of: Array
    after: Array
    after_of: Array
    is_inferred: Array
    blocked: Array
    first_op: Array
    row: Array
    kind: Array
    item: Array
    lane: Array
    group: Array
    engine: Array
    start: Array
    stop: Array
    duration: Array
    lane_lag: Array
    dep: Array
    dep_lag: Array
    held_until: Array
    linked: Array
    counts: Array
    latency_ns: int
    device_gap_ns: int
    wake_up_ns: int
    gap_is_known: bool
    takes_turns: bool

    @property
    def has_threads(self) -> bool:
        """Whether one thread may have handed over to another, or not."""
        return not self.takes_turns and bool((self.hand >= 0).any())

    def apart(self) -> Graph:
        """Return the graph in which no thread hands over to another."""
        return replace(self, hand=np.full_like(self.hand, NONE))

    def varied(self, times: float) -> Graph:
        """Return the graph with the machine's own pauses so many times as long.

        A pause that is unknown may differ more.
        """
        latency = round(abs(self.latency_ns) * (times - 1))
        gap = times if self.gap_is_known else UNKNOWN_TIMES if times > 1 else 1 / UNKNOWN_TIMES
        return replace(
            self,
            lead=np.where(self.thread >= 0, np.maximum(self.lead + latency, 0), self.lead),
            tail=np.rint(self.tail * times).astype(np.int64),
            lane_lag=np.where(
                (self.lane_lag > 0) & (self.lane_lag <= DEVICE_GAP_MAX_NS),
                np.rint(self.lane_lag * gap).astype(np.int64),
                self.lane_lag,
            ),
        )


def build_graph(facts: Facts, from_ns: int | None = None) -> Graph:
    """Return the dependency graph of a recording with at least one operation.

    Args:
        facts: The recording.
        from_ns: When what is asked about begins. A window may begin before the first call, with
            host work that then counts as a pause before that call.
    """
    calls = _calls(facts)
    columns, op = _ordered(facts, calls)
    first = int(min(columns["begin"].min(), op["start"].min()))
    origin = first if from_ns is None else min(first, from_ns)
    for name in ("begin", "end"):
        columns[name] = columns[name] - origin
    for name in ("start", "stop"):
        op[name] = op[name] - origin
    op |= _lanes(facts, op)
    typical = _typical(columns, op)
    columns |= _work(columns, op, typical)
    columns |= _waits(facts, columns, op, typical)
    columns |= _full_queues(columns, op)
    columns |= _pauses(facts, columns, origin)
    op |= _dependencies(facts, columns, op, typical)
    columns.pop("outer", None)
    counts = [
        columns["thread"].max(initial=-1),
        *(op[n].max() for n in ("lane", "group", "engine")),
    ]
    del op["previous"], op["previous_stop"], op["stream"]
    return Graph(
        origin_ns=origin,
        counts=np.array(counts, np.int64) + 2,
        latency_ns=int(typical.latency_of_kernels),
        device_gap_ns=int(typical.gap_of_kernels),
        wake_up_ns=int(typical.wake_up),
        gap_is_known=typical.gap_is_known,
        takes_turns=_take_turns(facts, columns),
        **columns,
        **op,
    )


# --- calls and operations in order ----------------------------------------------------------


def _calls(facts: Facts) -> dict[str, Array]:
    """Return the outermost calls of the threads that submit work, by begin.

    A loop of polls is one call. ``outer`` tells the place of the call around each row of
    ``facts.api``, -1 for other threads.
    """
    order, bounds = facts.call_order
    begin, end = (facts.api[c].to_numpy() for c in ("start_ns", "end_ns"))
    kept_rows, kept_end, holders = [], [], np.full(len(begin), NONE, np.int64)
    for thread in np.unique(facts.thread[facts.thread >= 0]):
        rows = order[bounds[thread] : bounds[thread + 1]]
        spans, _, _ = join_polls(facts, rows, Spans(begin[rows], end[rows]))
        reach = np.maximum.accumulate(spans.end)
        outermost = np.concatenate(([True], spans.start[1:] >= reach[:-1]))
        place = np.cumsum(outermost) - 1
        holders[rows] = rows[outermost][place]
        kept_rows.append(rows[outermost])
        kept_end.append(np.maximum.reduceat(spans.end, np.flatnonzero(outermost)))
    if not kept_rows:
        none = np.empty(0, np.int64)
        return {"api_row": none, "begin": none, "end": none, "outer": holders}
    rows, stops = np.concatenate(kept_rows), np.concatenate(kept_end)
    by_begin = np.argsort(begin[rows], kind="stable")
    rows = rows[by_begin]
    place_of = np.full(len(begin), NONE, np.int64)
    place_of[rows] = np.arange(len(rows))
    outer = np.where(holders >= 0, place_of[holders], NONE)
    return {"api_row": rows, "begin": begin[rows], "end": stops[by_begin], "outer": outer}


def _ordered(facts: Facts, calls: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Put operations behind their calls; one without a call gets a place of its own."""
    launches = facts.launches
    start, stop = launches["start_ns"].to_numpy(), launches["end_ns"].to_numpy()
    api_row = launches["api_row"].to_numpy()
    call = np.full(len(launches), NONE, np.int64)
    known = api_row >= 0
    call[known] = calls["outer"][api_row[known]]
    alone = np.flatnonzero(call < 0)
    count = len(calls["begin"])
    begin = np.concatenate((calls["begin"], start[alone]))
    if len(alone):
        begin[count:] = _submitted_at_latest(launches, calls["begin"], call, start)[alone]
    # What has no call stands before the call that submitted what its stream ran next.
    order = np.lexsort((np.arange(len(begin)) < count, begin))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    call[alone] = count + np.arange(len(alone))
    item = place[call]
    rows = np.lexsort((start, item))
    row = np.concatenate((calls["api_row"], np.full(len(alone), NONE)))[order]
    thread = np.full(len(order), NONE, np.int64)
    of_call = facts.api["thread"].to_numpy()[row[row >= 0]] if len(facts.api) else row[row >= 0]
    thread[row >= 0] = np.unique(of_call, return_inverse=True)[1]
    kinds = np.full(len(order), int(Call.OTHER), np.int64)
    kinds[row >= 0] = facts.api_call[row[row >= 0]]
    columns = {
        "api_row": row,
        "begin": begin[order],
        "end": np.concatenate((calls["end"], start[alone]))[order],
        "thread": thread,
        "call": kinds,
        "first_op": np.searchsorted(item[rows], np.arange(len(order) + 1)),
        "outer": np.where(calls["outer"] >= 0, place[calls["outer"]], NONE),
    }
    op = {
        "row": rows,
        "item": item[rows],
        "start": start[rows],
        "stop": stop[rows],
        "kind": launches["kind"].to_numpy()[rows].astype(np.int64),
        "linked": (item[rows] >= 0) & (row[item[rows]] >= 0),
    }
    return columns, op


def _submitted_at_latest(launches: pd.DataFrame, begin: Array, call: Array, start: Array) -> Array:
    """Return a moment by which each operation was submitted: streams run in order."""
    by_lane = launches.groupby(["process", "device", "stream"], sort=False).ngroup().to_numpy()
    own = np.where(call >= 0, begin[np.maximum(call, 0)] if len(begin) else start, start)
    # What ran before anything that was submitted in the recording was submitted before it.
    linked, earliest = call >= 0, int(start.min())
    if linked.any():
        own[start < start[linked].min()] = min(int(begin.min()), earliest)
    order = np.lexsort((start, by_lane))[::-1]
    base = min(int(own.min()), earliest)
    # Restarts the running minimum at each stream.
    level = -by_lane[order] * (int(start.max()) - base + 1)
    latest = np.empty(len(start), np.int64)
    key = np.minimum(own, start)[order] - base - level
    latest[order] = np.minimum.accumulate(key) + level + base
    return latest


def _lanes(facts: Facts, op: dict[str, Array]) -> dict[str, Array]:
    """Return each operation's stream, device and copy engine, and the one before it."""
    places = facts.launches[["process", "device", "stream"]].iloc[op["row"]]
    lane = places.groupby(["process", "device", "stream"], sort=False).ngroup().to_numpy()
    group = places.groupby(["process", "device"], sort=False).ngroup().to_numpy()
    previous = _previous(lane)
    before = np.where(previous >= 0, op["stop"][previous], LONG_AGO_NS)
    return {
        "lane": lane.astype(np.int64),
        "group": group.astype(np.int64),
        "stream": places["stream"].to_numpy(),
        "engine": _engines(facts, op),
        "previous": previous,
        "previous_stop": before,
        "duration": op["stop"] - op["start"],
    }


def _previous(key: Array) -> Array:
    """Return the place of the last one before with the same key, -1 for none."""
    order = np.argsort(key, kind="stable")
    same = np.concatenate(([False], key[order][1:] == key[order][:-1]))
    result = np.full(len(key), NONE, np.int64)
    result[order[1:]] = np.where(same[1:], order[:-1], NONE)
    return result


def _engines(facts: Facts, op: dict[str, Array]) -> Array:
    """Return the copy engine of each operation: copies of one direction follow each other.

    A device whose copies of one direction were seen to overlap has several engines for it.
    """
    engine = np.full(len(op["row"]), NONE, np.int64)
    copies = np.flatnonzero(op["kind"] == COPY)
    if not len(copies):
        return engine
    direction = facts.of_table("copies", ["kind"])["kind"].loc[op["row"][copies]].to_numpy()
    device = facts.launches["device"].to_numpy()[op["row"][copies]]
    key = device.astype(np.int64) * 64 + direction
    by_time = np.lexsort((op["start"][copies], key))
    same = key[by_time][1:] == key[by_time][:-1]
    crosses = same & (op["start"][copies][by_time][1:] < op["stop"][copies][by_time][:-1])
    several = np.unique(key[by_time][1:][crosses])
    alone = ~np.isin(key, several) & (direction > 0)
    if alone.any():
        engine[copies[alone]] = np.unique(key[alone], return_inverse=True)[1]
    return engine


# --- typical figures ------------------------------------------------------------------------


class _Parts(NamedTuple):
    """What is being put together: the recording, columns of calls, columns of operations."""

    facts: Facts
    call: dict[str, Array]
    op: dict[str, Array]


@dataclass(frozen=True)
class _Typical:
    """Figures of this recording; ``latency`` and ``gap`` have one entry for each kind."""

    latency: Array
    gap: Array
    in_graph: float
    wake_up: float
    gap_is_known: bool

    @property
    def latency_of_kernels(self) -> float:
        return float(self.latency[0])

    @property
    def gap_of_kernels(self) -> float:
        return float(self.gap[0])


def _typical(call: dict[str, Array], op: dict[str, Array]) -> _Typical:
    item = op["item"]
    first = np.concatenate(([True], item[1:] != item[:-1]))
    returns = ~np.isin(call["call"][item], (Call.COPY, Call.WAIT, Call.FREE)) & op["linked"]
    idle = op["previous_stop"] + DEVICE_GAP_MAX_NS < call["begin"][item]
    latency = op["start"] - call["end"][item]
    met_idle = (
        first & returns & idle & (latency < MAX_LAG_NS) & (op["start"] >= call["begin"][item])
    )
    pause = op["start"] - op["previous_stop"]
    queued = call["end"][item] + MAX_LAG_NS // 10 <= op["previous_stop"]
    queued &= op["linked"] & (pause >= 0) & (pause <= DEVICE_GAP_MAX_NS)
    inner = ~first & (pause >= 0) & (pause <= DEVICE_GAP_MAX_NS) & op["linked"]
    kinds = op["kind"]
    return _Typical(
        latency=_by_kind(latency, met_idle, kinds, LATENCY_NS),
        gap=_by_kind(pause, queued & first, kinds, DEVICE_GAP_NS),
        in_graph=_mean(pause[inner], DEVICE_GAP_NS),
        wake_up=WAKE_UP_NS,
        gap_is_known=int(np.count_nonzero(queued & first)) >= LEAST,
    )


def _by_kind(value: Array, chosen: Array, kind: Array, otherwise: float) -> Array:
    every = _mean(value[chosen], otherwise)
    return np.array([_mean(value[chosen & (kind == k)], every) for k in range(GRAPH + 1)])


def _mean(values: Array, otherwise: float, least: int = LEAST) -> float:
    """Return the mean of most values: sums, not single values, have to come out right."""
    if len(values) < least:
        return otherwise
    low, high = np.quantile(values, (0.02, 0.98), method="nearest")
    return float(values[(values >= low) & (values <= high)].mean())


# --- what calls do --------------------------------------------------------------------------


def _work(call: dict[str, Array], op: dict[str, Array], typical: _Typical) -> dict[str, Array]:
    """Return the time that each call takes by itself, and when the device sees its work."""
    length = call["end"] - call["begin"]
    has_op = call["first_op"][1:] > call["first_op"][:-1]
    first = np.minimum(call["first_op"][:-1], len(op["row"]) - 1)
    kind = np.where(has_op, op["kind"][first], 0)
    lead = np.maximum(length + np.rint(typical.latency[kind]).astype(np.int64), 0)
    start, before = op["start"][first], op["previous_stop"][first]
    inside = has_op & (length > SLOW_CALL_NS) & (start >= call["begin"]) & (start < call["end"])
    inside &= before < start - DEVICE_GAP_MAX_NS  # a slow call submitted it early on
    lead[inside] = (start - call["begin"])[inside]
    lead[call["thread"] < 0] = LONG_AGO_NS  # without a call, only other operations matter
    none = np.zeros(len(length), np.int64)
    return {
        "own": length,
        "lead": lead,
        "tail": none,
        "before": none,
        "before_of": none - 1,
        "after": none,
        "after_of": none - 1,
        "is_inferred": none.astype(bool),
        "blocked": none.astype(bool),
    }


def _waits(
    facts: Facts, call: dict[str, Array], op: dict[str, Array], typical: _Typical
) -> dict[str, Array]:
    columns = {name: call[name].copy() for name in _WAIT_COLUMNS}
    _copies_that_block(call, op, columns)
    target = _targets(_Parts(facts, call, op))
    found = target["kind"] != NOTHING
    for kind in (Call.WAIT, Call.POLL):
        rows = np.flatnonzero((call["call"] == kind) & found)
        _let_wait(rows, call, target, columns, typical)
    _let_free(np.flatnonzero((call["call"] == Call.FREE) & found), call, target, columns)
    return columns


_WAIT_COLUMNS = (
    *("own", "lead", "tail", "before", "before_of", "after", "after_of"),
    *("is_inferred", "blocked"),
)


def _let_wait(
    rows: Array,
    call: dict[str, Array],
    target: dict[str, Array],
    columns: dict[str, Array],
    typical: _Typical,
) -> None:
    """Let calls return a typical time after what they wait for."""
    begin, end, done = call["begin"][rows], call["end"][rows], target["stop"][rows]
    blocked = done > begin
    columns["blocked"][rows], columns["is_inferred"][rows] = blocked, target["inferred"][rows]
    columns["after"][rows], columns["after_of"][rows] = target["kind"][rows], target["of"][rows]
    late = (end - done)[blocked]
    tail = round(_mean(late[late <= MAX_LAG_NS], typical.wake_up, 1))
    length = end - begin
    columns["tail"][rows] = np.minimum(tail, length)
    columns["own"][rows] = np.where(blocked, 0, np.maximum(length - tail, 0))


def _let_free(
    rows: Array, call: dict[str, Array], target: dict[str, Array], columns: dict[str, Array]
) -> None:
    """Let memory be given back once the device is done; what remains of the call is work."""
    begin, end, done = call["begin"][rows], call["end"][rows], target["stop"][rows]
    columns["blocked"][rows] = done > begin
    columns["before"][rows], columns["before_of"][rows] = target["kind"][rows], target["of"][rows]
    columns["own"][rows] = np.maximum(end - np.maximum(begin, done), 0)


def _copies_that_block(
    call: dict[str, Array], op: dict[str, Array], columns: dict[str, Array]
) -> None:
    """Say what a copy's call waits for: its copy's end, or its begin once staged."""
    has_op = call["first_op"][1:] > call["first_op"][:-1]
    rows = np.flatnonzero((call["call"] == Call.COPY) & has_op)
    if not len(rows):
        return
    first, last = call["first_op"][:-1][rows], call["first_op"][1:][rows] - 1
    begin, end = call["begin"][rows], call["end"][rows]
    start, stop = op["start"][first], op["stop"][last]
    at_once = op["previous_stop"][first] + DEVICE_GAP_MAX_NS < start  # nothing held it up
    lead = np.maximum(start - begin, 0)
    usual = _mean(lead[at_once & (lead < MAX_LAG_NS)], LATENCY_NS, 1)
    columns["lead"][rows] = np.where(at_once, lead, np.minimum(lead, round(usual)))
    until_end, until_start = end >= stop, (end >= start) & (end < stop)
    blocks = until_end | until_start
    chosen = rows[blocks]
    columns["after"][chosen] = np.where(until_end, OWN_END, OWN_START)[blocks]
    columns["tail"][chosen] = np.where(until_end, end - stop, end - start)[blocks]
    columns["own"][chosen] = 0
    columns["blocked"][chosen] = True


def _targets(parts: _Parts) -> dict[str, Array]:
    """Return what each wait was for: kind, number, measured end, and whether it was inferred."""
    facts, call, _ = parts
    count = len(call["begin"])
    result = {
        "kind": np.zeros(count, np.int64),
        "of": np.full(count, NONE, np.int64),
        "stop": np.zeros(count, np.int64),
        "inferred": np.zeros(count, dtype=bool),
    }
    waits = np.flatnonzero(np.isin(call["call"], (Call.WAIT, Call.POLL, Call.FREE)))
    if not len(waits):
        return result
    function = facts.api["name"].to_numpy()[call["api_row"][waits]]
    on_stream = _named(facts, "StreamSync")[function]
    on_device = ~on_stream & ~_named(facts, "Event")[function]
    on_device &= call["call"][waits] != Call.POLL
    noted = _noted(parts, waits)
    _settle(waits[on_device], _group_of(noted[on_device]), GROUP, parts, result)
    _settle(waits[on_stream], _lane_of(parts, noted[on_stream]), LANE, parts, result)
    asked = (result["kind"][waits] == NOTHING) & (call["call"][waits] != Call.FREE)
    _infer(waits[asked], noted["process"].to_numpy()[asked], parts, result)
    return result


def _named(facts: Facts, part: str) -> Array:
    """Return which of the recording's functions have this in their name."""
    return np.array([part in str(name) for name in facts.functions], dtype=bool)


def _process_of(facts: Facts, api_row: Array) -> Array:
    """Return the place in ``facts.processes`` of the process of each call."""
    of_thread = np.full(len(facts.threads), NONE, np.int64)
    seen = facts.thread >= 0
    of_thread[facts.thread[seen]] = facts.launches["process"].to_numpy()[seen]
    process: Array = of_thread[facts.api["thread"].to_numpy()[api_row]]
    return process


def _noted(parts: _Parts, waits: Array) -> pd.DataFrame:
    """Return process, stream and device number that the recorder noted for each wait, else -1.

    ``group`` is the device's number in the graph: the noted one, or the only one of the process.
    """
    facts, call, op = parts
    api_row = call["api_row"][waits]
    process = _process_of(facts, api_row)
    told = pd.DataFrame({"process": process, "stream": NONE, "device": NONE}, dtype=np.int64)
    if facts.trace.count("syncs"):
        columns = ["process", "correlation_id", "stream", "device"]
        syncs = facts.trace.frame("syncs", columns)
        syncs = syncs[(syncs["correlation_id"] > 0).to_numpy()]
        syncs = syncs.drop_duplicates(["process", "correlation_id"])
        ids = facts.trace.columns("api_calls", ["correlation_id"])["correlation_id"][api_row]
        key = np.where(process >= 0, facts.processes[np.maximum(process, 0)], NONE)
        keys = pd.DataFrame({"process": key, "correlation_id": ids})
        found = keys.merge(syncs, how="left", on=["process", "correlation_id"])
        told["stream"] = found["stream"].fillna(NONE).to_numpy().astype(np.int64)
        told["device"] = found["device"].fillna(NONE).to_numpy().astype(np.int64)
    launches = facts.launches.iloc[op["row"]]
    places = launches[["process", "device"]].assign(group=op["group"]).drop_duplicates()
    places = places.astype(np.int64)
    only = places[~places.duplicated("process", keep=False)].set_index("process")["group"]
    number = facts.devices["device"].to_numpy()[places["device"]]
    by_number = places.assign(device=number).drop_duplicates(["process", "device"])
    group = told.merge(by_number, how="left", on=["process", "device"])["group"]
    return told.assign(group=told["process"].map(only).fillna(group).fillna(NONE).astype(np.int64))


def _group_of(noted: pd.DataFrame) -> Array:
    group: Array = noted["group"].to_numpy()
    return group


def _lane_of(parts: _Parts, noted: pd.DataFrame) -> Array:
    """Return the stream that each wait names; CUDA's numbers are unique within a process."""
    facts, _, op = parts
    process = facts.launches["process"].to_numpy()[op["row"]]
    lanes = pd.DataFrame({"process": process, "stream": op["stream"], "lane": op["lane"]})
    lanes = lanes.drop_duplicates().astype(np.int64)
    lanes = lanes[~lanes.duplicated(["process", "stream"], keep=False)]
    found = noted[["process", "stream"]].merge(lanes, how="left", on=["process", "stream"])
    lane: Array = found["lane"].fillna(NONE).to_numpy().astype(np.int64)
    return lane


def _settle(rows: Array, of: Array, kind: int, parts: _Parts, result: dict[str, Array]) -> None:
    """Accept a target where the recording agrees: what it waited for was done when it returned."""
    known = of >= 0
    rows, of = rows[known], of[known]
    ends = parts.call["end"][rows]
    done = _done(parts.op["group" if kind == GROUP else "lane"], parts.op, of, rows)
    agrees = done <= ends + _SOONER
    result["kind"][rows[agrees]], result["of"][rows[agrees]] = kind, of[agrees]
    result["stop"][rows[agrees]] = np.minimum(done, ends)[agrees]


def _done(key: Array, op: dict[str, Array], wanted: Array, before: Array) -> Array:
    """Return when everything with the wanted key that was submitted before a call had ended."""
    order = np.argsort(key, kind="stable")
    items = int(op["item"].max()) + 2
    code = key[order] * items + op["item"][order]
    stop = op["stop"][order]
    level = key[order] * (int(stop.max()) + 2)  # restarts the running maximum at each key
    reach = np.maximum.accumulate(stop + level) - level
    last = np.searchsorted(code, wanted * items + np.minimum(before, items - 1)) - 1
    valid = (last >= 0) & (key[order][np.maximum(last, 0)] == wanted)
    return np.where(valid, reach[np.maximum(last, 0)], 0)


def _infer(rows: Array, process: Array, parts: _Parts, result: dict[str, Array]) -> None:
    """Let other waits wait for what ended last before they returned."""
    facts, call, op = parts
    owner = facts.launches["process"].to_numpy()[op["row"]]
    for one in np.unique(process):
        mine = rows[process == one]
        ops = np.flatnonzero(owner == one)
        if not len(ops):
            continue
        ends = call["end"][mine]
        place = _ended_before(ops, op, ends + _SOONER, mine)
        found = place >= 0
        result["kind"][mine[found]], result["of"][mine[found]] = OP_END, place[found]
        result["stop"][mine[found]] = np.minimum(op["stop"][place], ends)[found]
        result["inferred"][mine[found]] = True


_LOOK_BACK = 8  # operations that ended earlier still, when the latest was submitted too late


def _ended_before(ops: Array, op: dict[str, Array], moment: Array, item: Array) -> Array:
    """Return which of ``ops`` ended last before each moment and was submitted before a call."""
    by_stop = ops[np.argsort(op["stop"][ops], kind="stable")]
    place = np.searchsorted(op["stop"][by_stop], moment, side="right") - 1
    found = np.full(len(moment), NONE, np.int64)
    for back in range(_LOOK_BACK):
        at = place - back
        candidate = by_stop[np.maximum(at, 0)]
        fits = (found < 0) & (at >= 0) & (op["item"][candidate] < item)
        found[fits] = candidate[fits]
    return found


def _full_queues(call: dict[str, Array], op: dict[str, Array]) -> dict[str, Array]:
    """Let launch calls that met a full queue wait until the queue has a place again."""
    own, before, before_of, lead = (call[n].copy() for n in ("own", "before", "before_of", "lead"))
    first = call["first_op"][:-1]
    plain = np.isin(call["call"], (Call.LAUNCH, Call.ENQUEUE)) & (call["after"] == NOTHING)
    plain &= call["first_op"][1:] > first
    for lane in np.flatnonzero(np.bincount(op["lane"]) > FULL_QUEUE):
        mine = np.flatnonzero(op["lane"] == lane)
        rows = np.flatnonzero(plain & (op["lane"][np.minimum(first, len(op["lane"]) - 1)] == lane))
        started = np.maximum.accumulate(op["start"][mine])
        begun = np.searchsorted(started, call["end"][rows], side="right")
        depth = np.searchsorted(mine, first[rows]) - begun  # operations before it in the queue
        full = depth >= max(FULL_QUEUE, FULL_SHARE * depth.max(initial=0))
        length = call["end"][rows] - call["begin"][rows]
        if not full.any() or full.all():
            continue
        blocker = mine[np.maximum(begun, 1) - 1]
        full &= (length > BLOCKED_TIMES * np.median(length[~full])) & (begun > 0)
        full &= op["start"][blocker] > call["begin"][rows]
        rows, blocker = rows[full], blocker[full]
        rest = call["end"][rows] - op["start"][blocker]
        before[rows], before_of[rows] = OP_START, blocker
        lead[rows] -= own[rows] - rest
        own[rows] = rest
    return {"own": own, "before": before, "before_of": before_of, "lead": lead}


# --- what threads do between calls ----------------------------------------------------------


def _pauses(facts: Facts, call: dict[str, Array], origin: int) -> dict[str, Array]:
    """Return the host's time before each call, and which thread may have handed over to it."""
    thread = call["thread"]
    previous = _previous(np.where(thread >= 0, thread, -1 - np.arange(len(thread))))
    ended = np.where(previous >= 0, call["end"][previous], 0)
    gap = np.where(thread >= 0, np.maximum(call["begin"] - ended, 0), 0)
    hand, hand_lag = _hand_overs(facts, call, ended, gap, previous)
    since = np.where(hand >= 0, call["begin"] - hand_lag, ended)
    told = (previous >= 0) | (hand >= 0)
    real = np.flatnonzero(thread >= 0)
    if len(real) and call["begin"].min() > 0:  # the window begins with what its host did first
        told[real[0]] = True
    outside = _outside(facts, call, since, origin, told)
    return {"gap": gap, "hand": hand, "hand_lag": hand_lag, "outside": outside}


def _hand_overs(
    facts: Facts, call: dict[str, Array], ended: Array, gap: Array, previous: Array
) -> tuple[Array, Array]:
    """Return the call of another thread after which each thread went on, and the time since."""
    hand = np.full(len(gap), NONE, np.int64)
    lag = np.zeros(len(gap), np.int64)
    real = np.flatnonzero(call["thread"] >= 0)
    if call["thread"].max(initial=-1) < 1:
        return hand, lag
    process = _process_of(facts, call["api_row"][real])
    for one in np.unique(process):
        mine = real[process == one]
        if len(np.unique(call["thread"][mine])) < 2:
            continue
        asks = mine[(gap[mine] > HAND_OVER_NS) | (previous[mine] < 0)]
        by_end = mine[np.argsort(call["end"][mine], kind="stable")]
        place = np.searchsorted(call["end"][by_end], call["begin"][asks], side="right") - 1
        source = by_end[np.maximum(place, 0)]
        other = (place >= 0) & (call["thread"][source] != call["thread"][asks])
        other &= (call["end"][source] > ended[asks]) & (source < asks)
        hand[asks[other]] = source[other]
        lag[asks[other]] = (call["begin"][asks] - call["end"][source])[other]
    return hand, lag


def _take_turns(facts: Facts, call: dict[str, Array]) -> bool:
    """Tell whether the threads of each process submitted work one after the other."""
    real = np.flatnonzero(call["thread"] >= 0)
    process, thread = _process_of(facts, call["api_row"][real]), call["thread"][real]
    for one in np.unique(process):
        mine = np.unique(thread[process == one])
        if len(mine) > MAX_THREADS:
            return False
        active = [_active(call, real[thread == t]) for t in mine]
        for place, spans in enumerate(active):
            for other in active[:place]:
                both = intersect(spans, other).total
                if both > MAX_TOGETHER * min(spans.total, other.total):
                    return False
    return True


def _active(call: dict[str, Array], rows: Array) -> Spans:
    """Return when a thread was submitting: in its calls, and in the short pauses between."""
    begin, end = call["begin"][rows], call["end"][rows]
    following = np.concatenate((begin[1:], end[-1:]))
    return union(begin, np.where(following - end <= DISPATCH_MAX_NS, following, end))


def _outside(
    facts: Facts, call: dict[str, Array], since: Array, origin: int, counts: Array
) -> Array:
    """Return how much of the pause before each call the thread spent outside of submitting."""
    result = np.zeros(len(since), np.int64)
    long = np.flatnonzero(
        counts & (call["thread"] >= 0) & (call["begin"] - since > DISPATCH_MAX_NS)
    )
    if not len(long):
        return result
    place = facts.api["thread"].to_numpy()[call["api_row"][long]]
    for thread in np.unique(place):
        mine = long[place == thread]
        asked = Spans(since[mine] + origin, call["begin"][mine] + origin)
        line = host_timeline(facts, int(thread), asked)
        query, part, start, end = overlaps(asked, line.parts)
        away = line.doing[part] == Doing.OUTSIDE
        result[mine] = np.bincount(
            query[away], (end - start)[away].astype(float), minlength=len(mine)
        ).astype(np.int64)
    return result


# --- what operations wait for ---------------------------------------------------------------


def _dependencies(
    facts: Facts, call: dict[str, Array], op: dict[str, Array], typical: _Typical
) -> dict[str, Array]:
    """Return each operation's pause after its stream's previous one, and what else holds it."""
    item = op["item"]
    first = np.concatenate(([True], item[1:] != item[:-1]))
    pause = op["start"] - op["previous_stop"]
    usual = np.where(first, np.rint(typical.gap[op["kind"]]), round(typical.in_graph))
    usual = usual.astype(np.int64)
    overlapping = (pause < 0) & (op["previous"] >= 0)
    lag = np.where(overlapping, pause, usual)
    dep, dep_lag = _after_anything(op, lag, usual)
    possible = np.maximum(
        op["previous_stop"] + lag, (call["begin"] + call["lead"])[item] + _back_pressure(call, item)
    )
    late = op["linked"] & (op["start"] - possible > UNEXPLAINED_NS)
    _after_others(op, late, dep, dep_lag)
    # What runs first on a device, and yet late, follows work from before the recording.
    first = late & (_previous(op["group"]) < 0) & (dep < 0)
    lag[first] = op["start"][first] - LONG_AGO_NS
    _after_events(_Parts(facts, call, op), dep, dep_lag)
    none = np.full(len(item), NONE, np.int64)
    return {"lane_lag": lag, "dep": dep, "dep_lag": dep_lag, "held_until": none}


def _back_pressure(call: dict[str, Array], item: Array) -> Array:
    held = call["before"] != NOTHING
    wait = np.where(held, call["end"] - call["begin"] - call["own"], 0)
    result: Array = wait[item]
    return result


def _after_anything(op: dict[str, Array], lag: Array, usual: Array) -> tuple[Array, Array]:
    """Let operations without a call keep their distance to what ran before them."""
    count = len(op["row"])
    dep, dep_lag = np.full(count, NONE, np.int64), usual.copy()
    alone = np.flatnonzero(~op["linked"])
    if not len(alone):
        return dep, dep_lag
    place = op["previous"][alone]
    others = np.flatnonzero(place < 0)
    place[others] = _ended_before(
        np.arange(count), op, op["start"][alone[others]], op["item"][alone[others]]
    )
    dep[alone] = place
    dep_lag[alone] = np.where(place >= 0, op["start"][alone] - op["stop"][place], 0)
    # The first of all has nothing before it: it keeps its distance to the origin instead.
    first = alone[place < 0]
    lag[first] = op["start"][first] - LONG_AGO_NS
    return dep, dep_lag


def _after_others(op: dict[str, Array], late: Array, dep: Array, dep_lag: Array) -> None:
    """Let an operation that came later than it could wait for the one that ended just before."""
    rows = np.flatnonzero(late)
    if not len(rows):
        return
    place = _ended_before(np.arange(len(late)), op, op["start"][rows], op["item"][rows])
    near = (place >= 0) & (op["start"][rows] - op["stop"][place] <= NEAR_NS)
    near &= op["lane"][np.maximum(place, 0)] != op["lane"][rows]
    rows, place = rows[near], place[near]
    noticed = op["start"][rows] - op["stop"][place]
    dep[rows] = place
    dep_lag[rows] = round(_mean(noticed, float(noticed.mean()))) if len(rows) else 0


def _after_events(parts: _Parts, dep: Array, dep_lag: Array) -> None:
    """Let the work behind a stream's wait follow what was submitted before the last event.

    Which event was meant is not recorded. The latest is taken, and only where the recording does
    not contradict: what it stands for had ended when the work began.
    """
    facts, call, op = parts
    if not len(facts.functions):
        return
    known = np.flatnonzero(call["api_row"] >= 0)
    name = facts.api["name"].to_numpy()[call["api_row"][known]]
    waits = known[_named(facts, "StreamWaitEvent")[name]]
    records = known[_named(facts, "EventRecord")[name]]
    if not len(waits) or not len(records):
        return
    record = records[np.maximum(np.searchsorted(records, waits) - 1, 0)]
    source = call["first_op"][record] - 1  # the last operation submitted before it
    target = _next_of_thread(call, waits)
    fits = (record < waits) & (source >= 0) & (target >= 0) & (target < len(op["row"]))
    source, target = source[fits], target[fits]
    fits = (op["lane"][source] != op["lane"][target]) & (dep[target] < 0)
    fits &= (op["stop"][source] <= op["start"][target]) & (source < target)
    dep[target[fits]] = source[fits]
    dep_lag[target[fits]] = 0


def _next_of_thread(call: dict[str, Array], waits: Array) -> Array:
    """Return the first operation that a thread submits after each of its calls, -1 for none."""
    has_op = np.flatnonzero((call["first_op"][1:] > call["first_op"][:-1]) & (call["thread"] >= 0))
    big = len(call["begin"]) + 1
    order = np.lexsort((has_op, call["thread"][has_op]))
    code = call["thread"][has_op][order] * big + has_op[order]
    place = np.searchsorted(code, call["thread"][waits] * big + waits)
    place = np.minimum(place, len(code) - 1) if len(code) else np.zeros(len(waits), np.int64) - 1
    if not len(code):
        return np.full(len(waits), NONE, np.int64)
    found = has_op[order][place]
    same = (call["thread"][found] == call["thread"][waits]) & (found > waits)
    return np.where(same, call["first_op"][found], NONE)
