"""Where the host's threads spent their time, for recordings in which nothing ran on a GPU.

Operators and marked ranges lie in each other. What one takes *itself* is the time in which it is
the innermost one of its thread, so that the times of all of them sum, to the nanosecond, to the
time that threads spent in any. A moment in which two threads work counts for both.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.host_work import HostOperator, HostProfile, HostThread
from analyzers.facts.loops import GIL_DOMAIN, written_by_tracers
from analyzers.facts.nesting import around, nest
from analyzers.facts.python_frames import Owner, frame_owners, frame_text
from analyzers.facts.range_texts import range_name
from analyzers.facts.spans import Window
from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array, by_key
from analyzers.words import count_text, share_text, shortened, time_text
from collectors.schema import NOT_RECORDED, OperatorKind

MOST_OPERATORS = 10
MOST_THREADS = 5
MOST_NAMED = 3  # in the sentence
MAINLY = 0.5  # of an operator's own time: from here on one caller is named
_COLUMNS = ("start_ns", "end_ns", "thread_key", "name_id")


def host_profile(facts: Facts, window: Window | None = None) -> HostProfile | None:
    """Return what the host did while nothing ran on a GPU; None with GPU work, or without names.

    Args:
        facts: The recording.
        window: The part of it that was asked for; None, or one without length, for all.
    """
    if len(facts.launches):
        return None
    spans, names = _spans(facts)
    if window is not None and window.duration_ns > 0:
        spans = _within(spans, window)
    if not len(spans):
        return None
    own_ns, length = _own_ns(spans), (spans["end_ns"] - spans["start_ns"]).to_numpy()
    spans["self_ns"] = own_ns
    name, size = spans["name"].to_numpy(), len(names)
    self_ns, total_ns = (_summed(name, ns, size) for ns in (own_ns, length))
    count = np.bincount(name, minlength=size)
    present = int(np.count_nonzero(count))  # of a window not every name
    largest = np.lexsort((-self_ns, count == 0))[: min(MOST_OPERATORS, present)].tolist()
    busy_ns = int(own_ns.sum())
    callers = _callers(facts, spans[np.isin(name, largest)])
    threads, span_ns = _threads(facts, spans)
    return HostProfile(
        span_ns=span_ns,
        busy_ns=busy_ns,
        threads=threads[:MOST_THREADS],
        thread_count=len(threads),
        operators=tuple(
            HostOperator(
                name=names[place],
                count=int(count[place]),
                self_ns=int(self_ns[place]),
                total_ns=int(total_ns[place]),
                share=int(self_ns[place]) / max(busy_ns, 1),
                caller=callers.get(place, ""),
            )
            for place in largest
        ),
        operator_count=present,
    )


def _within(spans: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return what lies in the window of each interval."""
    cut = spans.assign(
        start_ns=spans["start_ns"].clip(lower=window.start_ns),
        end_ns=spans["end_ns"].clip(upper=window.end_ns),
    )
    return cut[(cut["end_ns"] > cut["start_ns"]).to_numpy()].reset_index(drop=True)


def _summed(group: Array, ns: Array, size: int) -> Array:
    sums = np.zeros(size, np.int64)
    np.add.at(sums, group, ns)
    return sums


def _threads(facts: Facts, spans: pd.DataFrame) -> tuple[tuple[HostThread, ...], int]:
    """Return the threads, busiest first, and the time from the first interval to the last."""
    recorded = trace_table(facts.trace, "threads", ("thread_key", "tid", "name"))
    thread_names = {
        key: str(name or f"thread {tid}")
        for key, tid, name in zip(
            *(recorded[c].tolist() for c in ("thread_key", "tid", "name")), strict=True
        )
    }
    span_ns = int(spans["end_ns"].max() - spans["start_ns"].min())
    code, keys = pd.factorize(spans["thread_key"].to_numpy())
    busy = _summed(code, spans["self_ns"].to_numpy(), len(keys))
    return tuple(
        HostThread(
            name=thread_names.get(int(keys[place]), "an unknown thread"),
            busy_ns=int(busy[place]),
            share=int(busy[place]) / max(span_ns, 1),
        )
        for place in np.argsort(-busy, kind="stable").tolist()
    ), span_ns


def _spans(facts: Facts) -> tuple[pd.DataFrame, list[str]]:
    """Return operators and ranges by thread and begin, the longest first, and their names."""
    rows = trace_table(facts.trace, "operators", (*_COLUMNS, "kind"))
    rows = rows[(rows["kind"] == OperatorKind.FRAMEWORK).to_numpy()]
    holds_lock = written_by_tracers(facts.trace, [GIL_DOMAIN])  # whatever it does meanwhile
    marked = facts.ranges.loc[~holds_lock, list(_COLUMNS)]
    spans = pd.concat([rows[list(_COLUMNS)], marked], ignore_index=True)
    spans = spans[(spans["end_ns"] > spans["start_ns"]).to_numpy()]
    codes, ids = pd.factorize(spans["name_id"].to_numpy())
    short = [range_name(str(n))[0] for n in facts.trace.names(ids)]
    of_id, unique = pd.factorize(np.array(short, dtype=object))
    spans = spans.assign(name=of_id[codes] if len(codes) else codes)
    order = np.lexsort((-spans["end_ns"], spans["start_ns"], spans["thread_key"]))
    return spans.iloc[order].reset_index(drop=True), [str(n) for n in unique]


def _own_ns(spans: pd.DataFrame) -> Array:
    """Return the time in which each interval is the innermost of its thread: the last that began.

    Between two borders of a thread's intervals nothing changes, so each such piece goes to one.
    """
    own = np.zeros(len(spans), np.int64)
    starts, ends = spans["start_ns"].to_numpy(), spans["end_ns"].to_numpy()
    for _, rows in by_key(spans["thread_key"].to_numpy(), np.arange(len(spans))):
        nested = nest(starts[rows], ends[rows])
        borders = np.unique(np.concatenate((nested.starts, nested.ends)))
        place = around(nested, borders[:-1])
        length, busy = np.diff(borders), place >= 0
        innermost = rows[nested.order[place[busy]]]
        np.add.at(own, innermost, length[busy])
    return own


def _callers(facts: Facts, spans: pd.DataFrame) -> dict[int, str]:
    """Return, for each name in ``spans``, the function of the user that called most of it."""
    frames = trace_table(facts.trace, "operators", (*_COLUMNS, "kind"))
    frames = frames[(frames["kind"] == OperatorKind.PYTHON).to_numpy()]
    codes, ids = pd.factorize(frames["name_id"].to_numpy())
    texts = np.array([str(n) for n in facts.trace.names(ids)], dtype=object)
    owner = frame_owners(texts)
    callers: dict[int, str] = {}
    for author in (Owner.LIBRARY, Owner.USER):  # the user's own code says more
        of_owner = owner[codes] == author if len(codes) else np.zeros(0, dtype=bool)
        callers |= _main_frames(spans, frames[of_owner], codes[of_owner], texts)
    return callers


def _main_frames(
    spans: pd.DataFrame, frames: pd.DataFrame, names: Array, texts: Array
) -> dict[int, str]:
    thread = frames["thread_key"].to_numpy()
    begins, ends = frames["start_ns"].to_numpy(), frames["end_ns"].to_numpy()
    called_from = np.full(len(spans), NOT_RECORDED, np.int64)
    for key, rows in by_key(spans["thread_key"].to_numpy(), np.arange(len(spans))):
        own = np.flatnonzero(thread == key)
        if len(own):
            nested = nest(begins[own], ends[own])
            place = around(nested, spans["start_ns"].to_numpy()[rows])
            frame = own[nested.order[np.maximum(place, 0)]]
            called_from[rows] = np.where(place >= 0, names[frame], NOT_RECORDED)
    weighed = spans.assign(frame=called_from).groupby(["name", "frame"])["self_ns"].sum()
    whole = weighed.groupby("name").sum()
    main = weighed[weighed >= MAINLY * whole.reindex(weighed.index, level="name")]
    return {
        int(name): frame_text(str(texts[frame]))
        for name, frame in main.index
        if frame != NOT_RECORDED
    }


def host_sentence(profile: HostProfile) -> str:
    """Say what the host did in one sentence: the operators with most time of their own."""
    parts = []
    for place, operator in enumerate(profile.operators[:MOST_NAMED]):
        by = f" (called from {operator.caller})" if operator.caller else ""
        itself = "" if place else " itself"
        parts.append(f"{share_text(operator.share, 1)} in `{shortened(operator.name)}`{itself}{by}")
    busiest = share_text(profile.threads[0].share, 1)
    is_alone = profile.thread_count == 1
    inside = f"that is {busiest}" if is_alone else f"the busiest was inside one for {busiest}"
    return (
        f"{count_text(profile.thread_count, 'host thread')} spent "
        f"{time_text(profile.busy_ns)} in operators and ranges: {', '.join(parts)}; {inside} of "
        f"the {time_text(profile.span_ns)} from the first to the last."
    )
