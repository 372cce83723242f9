"""The progress of a capture: runs that are over, and how long similar runs took before.

The first run of a program has no time to compare with; until it makes its report, only its stage
is shown. No time is made up.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from captures.store import Capture, Run, RunState

RECORDED, OPENING = 0.7, 0.8  # of a run: the program has ended, and its recording is opened


def usual_seconds(run: Run, capture: Capture, earlier: Iterable[Capture]) -> float:
    """Return how long the program ran before under the same tool; 0 when it never did.

    Args:
        run: The run that is going on.
        capture: The capture that it belongs to; its own runs count first.
        earlier: Other captures, the newest first.
    """
    for similar in (capture, *(c for c in earlier if _is_alike(c, capture))):
        seconds = [
            r.seconds
            for r in similar.runs
            if (r.tool, r.role, r.state) == (run.tool, run.role, RunState.DONE)
        ]
        if seconds:
            return statistics.median(seconds)
    return 0.0


def _is_alike(one: Capture, other: Capture) -> bool:
    return one.id != other.id and all(
        getattr(one, name) == getattr(other, name) for name in ("workload", "command", "options")
    )


def part_done(place: int, runs: int, elapsed_s: float, usual_s: float) -> float:
    """Return the part of a capture that is done, 0 to 1, while a program runs.

    Args:
        place: How many runs are over.
        runs: How many there are.
        elapsed_s: How long this one runs.
        usual_s: How long it took before; 0 when that is not known.
    """
    of_run = RECORDED * min(elapsed_s / usual_s, 1.0) if usual_s else 0.0
    return (place + of_run) / runs
