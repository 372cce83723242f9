"""Which kinds of events have a colour of their own on the timeline."""

from __future__ import annotations

from analyzers.ledger.ledger import ROWS
from timeline.lane import Group

# Colours by number: the ledger's rows first, so that a call that waits has the colour of waiting.
COLORS = (
    *(row.value for row in ROWS),
    *("other call", "marked range", "OS runtime call", "thread on a core", "iteration", "operator"),
)


OTHER_CALL, RANGE, OS_CALL, RUNNING, ITERATION, OPERATOR = range(len(ROWS), len(COLORS))


OPERATIONS, SEGMENTS, FINDINGS, ITERATIONS = "operations", "segments", "findings", "iterations"


PROGRAM = Group(id="program", kind="program", title="Program")


COLOR_CODE = {row: place for place, row in enumerate(ROWS)}
