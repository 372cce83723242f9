"""What is known about one event of the timeline, and what led to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.words import TIMES, function_first, size_text, time_text
from timeline.colors import FINDINGS, OPERATIONS, SEGMENTS
from timeline.labels import operation_words, thread_labels
from timeline.view import Timeline
from views.parts.recording_view import RecordingView
from views.server.tiles import short
from views.shared.units import moment_text, visible

SHOWN_NAME = 160
SHOWN_FACT = 60


def draw_details(recording: RecordingView, event: int) -> None:
    """Draw the name, the facts and the chain of an event."""
    lanes = recording.timeline
    table, row = lanes.row_of(event)
    start, end = lanes.span(event)
    facts = {"duration": time_text(end - start), "begins at": moment_text(start)}
    chain = lanes.chain(event)
    if table == OPERATIONS:
        facts |= _operation_facts(recording, row)
    elif table == SEGMENTS:
        facts |= _segment_facts(recording, row)
        ended_by = recording.session.stored.segment(row)["launch"]
        chain = lanes.chain(lanes.event_at(OPERATIONS, ended_by)) if ended_by >= 0 else []
    elif table == FINDINGS:
        finding = recording.session.report.findings[row]
        facts |= {"costs": time_text(finding.lost_ns), "advice": visible(finding.advice)}
    with st.container(key="event_details"):
        st.code(short(lanes.name_of(event), SHOWN_NAME * 4), language=None, wrap_lines=True)
        st.dataframe(pd.DataFrame([facts]), hide_index=True)
        if len(chain) > 1:
            st.dataframe(
                pd.DataFrame([_link(lanes, link.role, link.event) for link in chain]),
                hide_index=True,
                key="event_chain",
            )


def _link(lanes: Timeline, role: str, event: int) -> dict[str, str]:
    start, end = lanes.span(event)
    placed = lanes.lanes[lanes.lane_of(event)]
    where = lanes.title(placed.index.groups[placed.lane.group])
    return {
        "": role,
        "name": short(function_first(lanes.name_of(event)), SHOWN_NAME),
        "where": short(
            f"{where} · {placed.lane.label}" if placed.lane.label else where, SHOWN_FACT
        ),
        "begins at": moment_text(start),
        "duration": time_text(end - start),
    }


def _operation_facts(recording: RecordingView, row: int) -> dict[str, str]:
    """Return what is known about one GPU operation, in words."""
    launch = recording.session.stored.launch(row)
    facts = {"stream": str(launch["stream"]), **_launch_call(recording, launch)}
    if launch["queue_ns"] > 0:  # 0 too when the call had not returned: nothing was queued
        facts["waited in queue"] = time_text(launch["queue_ns"])
    facts["device idle before"] = time_text(launch["idle_before_ns"])
    if launch.get("bytes", -1) >= 0:
        facts["moved"] = size_text(launch["bytes"])
        if (length_ns := launch["end_ns"] - launch["start_ns"]) > 0:
            facts["rate"] = f"{size_text(launch['bytes'] / length_ns * 1e9)}/s"
    if launch.get("grid_x", -1) > 0:
        facts["grid"] = f" {TIMES} ".join(str(launch[f"grid_{a}"]) for a in "xyz")
        facts["block"] = f" {TIMES} ".join(str(launch[f"block_{a}"]) for a in "xyz")
    if launch.get("registers_per_thread", -1) >= 0:
        facts["registers"] = str(launch["registers_per_thread"])
    return facts


def _segment_facts(recording: RecordingView, row: int) -> dict[str, str]:
    """Return what the ledger knows about one of its stretches, in words."""
    segment = recording.session.stored.segment(row)
    trace, facts = recording.session.trace, {}
    if segment["wait"] >= 0:
        call = trace.row("api_calls", segment["wait"], ["start_ns", "end_ns", "name_id"])
        length = time_text(int(call["end_ns"] - call["start_ns"]))
        facts["blocked in"] = f"{_name(recording, call['name_id'])}, {length}"
    if segment["launch"] >= 0:
        launch = recording.session.stored.launch(segment["launch"])
        name = _name(recording, launch["name_id"], 0) if launch.get("name_id", -1) >= 0 else ""
        words = operation_words(launch["kind"], launch.get("copy_kind", -1), name)
        facts["ended by"] = short(function_first(words), SHOWN_FACT)
        facts |= _launch_call(recording, launch)
    return facts


def _launch_call(recording: RecordingView, launch: Mapping[str, int]) -> dict[str, str]:
    """Return what is known about the call that launched an operation, in words."""
    facts = {}
    if launch["api_row"] >= 0:
        before = launch["start_ns"] - launch["api_start_ns"]
        if before >= 0:
            facts["launch call began"] = f"{time_text(before)} before it"
        label = thread_labels(recording.session.trace).get(launch["thread_key"], "thread")
        facts["launched by"] = visible(label, SHOWN_FACT)
    return facts


def _name(recording: RecordingView, name_id: int, limit: int = SHOWN_FACT) -> str:
    text = str(recording.session.trace.names(np.array([name_id]))[0])
    return short(text, limit) if limit else text
