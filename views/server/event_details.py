"""What is known about one event of the timeline, and what led to it, for the canvas's dock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analyzers.words import TIMES, function_first, size_text, time_text
from timeline.colors import FINDINGS, OPERATIONS, SEGMENTS
from timeline.labels import operation_words, thread_labels
from timeline.view import Link, Timeline
from timeline.waits import ended_wait, operation_awaited
from views.server.tiles import short
from views.shared.session import Session
from views.shared.units import moment_text, visible

SHOWN_NAME = 160
SHOWN_FACT = 60
WAIT_ROLE = "wait that it ends"


@dataclass(frozen=True)
class EventDetails:
    """Answers about the events of one window.

    Attributes:
        session: The window.
        timeline: Its lanes.
    """

    session: Session
    timeline: Timeline

    def facts(self, event: int) -> list[tuple[str, str]]:
        """Return what is known of an event, as words for a table of two columns."""
        table, row = self.timeline.row_of(event)
        start, end = self.timeline.span(event)
        facts = {"duration": time_text(end - start), "begins at": moment_text(start)}
        if table == OPERATIONS:
            facts |= _operation_facts(self.session, row)
        elif table == SEGMENTS:
            facts |= _segment_facts(self.session, row)
        elif table == FINDINGS:
            finding = self.session.report.findings[row]
            facts |= {"costs": time_text(finding.lost_ns), "advice": visible(finding.advice)}
        return list(facts.items())

    def chain(self, event: int) -> list[Link]:
        """Return range, operator, call and operation of an event, and the wait that it ends.

        A stretch of the ledger has the chain of the operation that ended it.
        """
        table, row = self.timeline.row_of(event)
        if table == SEGMENTS:
            ended_by = self.session.stored.segment(row)["launch"]
            event = self.timeline.event_at(OPERATIONS, ended_by) if ended_by >= 0 else -1
            if event < 0:
                return []
        trace = self.session.trace
        chain = self.timeline.chain(event)
        at = {link.role: link.event for link in chain}
        if table == "api_calls" and "operation" not in at:
            awaited = operation_awaited(self.timeline, trace, event)
            if awaited < 0:
                return chain
            return [*self.timeline.chain(awaited), Link(WAIT_ROLE, event)]
        wait = ended_wait(self.timeline, trace, at["operation"]) if "operation" in at else -1
        return [*chain, Link(WAIT_ROLE, wait)] if wait >= 0 else chain


def _operation_facts(session: Session, row: int) -> dict[str, str]:
    """Return what is known about one GPU operation, in words."""
    launch = session.stored.launch(row)
    facts = {"stream": str(launch["stream"]), **_launch_call(session, launch)}
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


def _segment_facts(session: Session, row: int) -> dict[str, str]:
    """Return what the ledger knows about one of its stretches, in words."""
    segment = session.stored.segment(row)
    trace, facts = session.trace, {}
    if segment["wait"] >= 0:
        call = trace.row("api_calls", segment["wait"], ["start_ns", "end_ns", "name_id"])
        length = time_text(int(call["end_ns"] - call["start_ns"]))
        facts["blocked in"] = f"{_name(session, call['name_id'])}, {length}"
    if segment["launch"] >= 0:
        launch = session.stored.launch(segment["launch"])
        name = _name(session, launch["name_id"], 0) if launch.get("name_id", -1) >= 0 else ""
        words = operation_words(launch["kind"], launch.get("copy_kind", -1), name)
        facts["ended by"] = short(function_first(words), SHOWN_FACT)
        facts |= _launch_call(session, launch)
    return facts


def _launch_call(session: Session, launch: Mapping[str, int]) -> dict[str, str]:
    """Return what is known about the call that launched an operation, in words."""
    facts = {}
    if launch["api_row"] >= 0:
        before = launch["start_ns"] - launch["api_start_ns"]
        if before >= 0:
            facts["launch call began"] = f"{time_text(before)} before it"
        label = thread_labels(session.trace).get(launch["thread_key"], "thread")
        facts["launched by"] = visible(label, SHOWN_FACT)
    return facts


def _name(session: Session, name_id: int, limit: int = SHOWN_FACT) -> str:
    text = str(session.trace.names(np.array([name_id]))[0])
    return short(text, limit) if limit else text
