"""What is left out or cut of impossible times, against loops over single operations."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts.impossible import Impossible, without_impossible

MS, S = 1_000_000, 1_000_000_000
EARLY, GRAPH_CALL, CALL, NO_CALL = "early", "graph", "call", "none"


@st.composite
def recordings(draw):
    """Operations of two processes, devices and streams; a few of them begin before their calls."""
    one = st.tuples(
        st.integers(0, 40),  # begin in ms
        st.sampled_from([0, 1, 2, 3, 10, 100_000, 7_000_000]),  # length in ms
        st.sampled_from([CALL] * 8 + [EARLY, GRAPH_CALL, NO_CALL]),
        st.integers(0, 1),  # process
        st.integers(0, 1),  # device
        st.integers(0, 1),  # stream
        st.integers(0, 2),  # kernel's name
    )
    rows = sorted(draw(st.lists(one, min_size=1, max_size=14)))
    far_begin = draw(st.sampled_from([None, 0, 100_000, 10_000_000]))
    if far_begin is not None:
        rows.append((far_begin, 1, CALL, 0, 0, 1, 0))
    return sorted(rows)


def tables(rows):
    calls, api_row, graphs = [], [], []
    for begin, _, how, *_ in rows:
        api_row.append(-1 if how == NO_CALL else len(calls))
        if how != NO_CALL:
            calls.append(begin * MS + (2 * MS if how == EARLY else -MS))
            graphs.append(how == GRAPH_CALL)
    begin, length, _, process, device, stream, name = (list(c) for c in zip(*rows, strict=True))
    start = np.array(begin, np.int64) * MS
    launches = pd.DataFrame(
        {
            "start_ns": start,
            "end_ns": start + np.array(length, np.int64) * MS,
            "stream": np.array(stream, np.int64) + 7,
            "device": np.array(device, np.int16),
            "process_index": np.array(process, np.int32),
            "kind": np.int8(0),
            "name_id": np.array(name, np.int64),
            "api_row": np.array(api_row, np.int64),
        }
    )
    api = pd.DataFrame({"start_ns": np.array(calls, np.int64)})
    api["end_ns"] = api["start_ns"] + MS
    return launches, api, np.array(graphs, dtype=bool)


def nearest_rank(values, share):
    """Return the value at a share of the way through, to the nearer place; ties to the even."""
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def by_hand(launches, api, graphs):
    """Return places that stay, their ends, and what was found odd, one by one."""
    rows = launches.to_dict("records")
    early_ns = [
        api["start_ns"][row["api_row"]] - row["start_ns"] if row["api_row"] >= 0 else 0
        for row in rows
    ]
    early = [ns > MS for ns in early_ns]
    if sum(early) > len(rows) / 4:
        early = [False] * len(rows)
    usual = [
        row
        for row, is_early in zip(rows, early, strict=True)
        if not is_early and row["end_ns"] - row["start_ns"] < 60 * S
    ]
    moments = [row[border] for row in usual for border in ("start_ns", "end_ns")]
    moments += [*api["start_ns"], *api["end_ns"]]
    far = [False] * len(rows)
    if moments:
        low, high = nearest_rank(moments, 0.05), nearest_rank(moments, 0.95)
        reach = max(60 * S, 100 * (high - low))
        for place, row in enumerate(rows):
            outside = row["start_ns"] < low - reach or row["end_ns"] > high + reach
            vouched = len(api) and (
                row["start_ns"] >= api["start_ns"].min() and row["end_ns"] <= api["end_ns"].max()
            )
            far[place] = outside and not vouched and not early[place]
    kept = [n for n in range(len(rows)) if not early[n] and not far[n]]
    is_graph = [bool(r["api_row"] < 0 or graphs[r["api_row"]]) if len(api) else False for r in rows]
    ends = {}
    for n in kept:
        ends[n] = rows[n]["end_ns"]
        lane = [rows[n][name] for name in ("process_index", "device", "stream")]
        later = [
            m
            for m in kept
            if m > n and [rows[m][c] for c in ("process_index", "device", "stream")] == lane
        ]
        if later and not is_graph[n] and not is_graph[later[0]]:
            after = rows[later[0]]
            overrun = rows[n]["end_ns"] - after["start_ns"]
            if rows[n]["end_ns"] > after["end_ns"] and overrun > MS:
                ends[n] = after["start_ns"] if after["start_ns"] > rows[n]["start_ns"] else ends[n]
    length = {n: ends.get(n, rows[n]["end_ns"]) - rows[n]["start_ns"] for n in range(len(rows))}
    left_out = [n for n in range(len(rows)) if n not in kept]
    lacking = 0.0
    for n in left_out:
        alike = [length[m] for m in kept if rows[m]["name_id"] == rows[n]["name_id"]]
        every = [length[m] for m in kept]
        lacking += float(np.median(alike or every)) if every else min(length[n], 60 * S)
    odd = Impossible(
        early=sum(early),
        early_ns=max((ns for ns, e in zip(early_ns, early, strict=True) if e), default=0),
        cut=sum(1 for n in kept if ends[n] < rows[n]["end_ns"]),
        cut_ns=sum(rows[n]["end_ns"] - ends[n] for n in kept),
        far=sum(far),
        usual_ns=int(lacking),
        recorded=len(rows),
    )
    return kept, [ends[n] for n in kept], odd


@settings(max_examples=120, deadline=None)
@given(recordings())
def test_what_is_impossible_is_found_one_by_one_too(rows):
    launches, api, graphs = tables(rows)
    possible, odd = without_impossible(launches, api, graphs)
    kept, ends, expected = by_hand(launches, api, graphs)
    assert possible["start_ns"].tolist() == launches["start_ns"].iloc[kept].tolist()
    assert possible["end_ns"].tolist() == ends
    assert odd == expected
    assert odd.left_out == len(rows) - len(kept)
