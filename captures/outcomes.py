"""What became of a run, and what a capture that did not bring everything amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captures.store import LOG, Capture, Run, RunState, State
from collectors.capture.recorded import Recorded
from collectors.errors import EnvironmentFailedError, ProgramFailedError, RefusedError

STOPPED = "stopped by Ctrl-C"  # of a capture
NOT_BEGUN = "stopped before it was begun"  # of a run


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run; fields as of ``captures.store.Run``."""

    state: RunState
    error: str = ""
    failure: str = ""
    notes: tuple[str, ...] = ()


def outcome_of(recorded: Recorded, *, is_whole: bool) -> Outcome:
    """Return what became of a run whose recording opens, or that needed none.

    Args:
        recorded: What the run left.
        is_whole: Whether the program came to its end, by what it wrote about itself.
    """
    ending = recorded.ending
    trouble = ending.trouble()
    failure = trouble if ending.has_failed else ""
    if not trouble:
        return Outcome(state=RunState.DONE)
    if recorded.path is None:
        state = RunState.CANCELLED if ending.stopped else RunState.FAILED
        return Outcome(state=state, error=trouble, failure=failure)
    if not is_whole and not ending.stopped:
        error = f"{trouble}; what was recorded until then is kept"
        return Outcome(state=RunState.FAILED, error=error, failure=failure)
    if failure:
        return Outcome(
            state=RunState.DONE, failure=f"{failure}; what was recorded until then opens"
        )
    return Outcome(state=RunState.DONE, notes=(f"{trouble}; what was recorded until then opens",))


def ending_of(runs: Sequence[Run]) -> tuple[State, str]:
    """Return what a capture amounts to whose runs are over or were not begun, and why.

    One that was stopped in its last run, whose recording opens, is done: nothing is missing.
    """
    failed = [run.error or run.failure for run in runs if run.has_failed]
    why = [f"{len(failed)} of {len(runs)} runs: {failed[0]}"] if failed else []
    if any(run.state in (RunState.WAITING, RunState.CANCELLED) for run in runs):
        return State.CANCELLED, "; ".join((*why, STOPPED))
    return (State.FAILED, why[0]) if why else (State.DONE, "")


def check(capture: Capture) -> None:
    """Raise what a capture that did not bring everything amounts to, for the exit status.

    One that was stopped raises nothing unless a run had failed before: what it brought is what was
    asked for.

    Raises:
        ProgramFailedError: The program failed, and nothing else did.
        RefusedError: A run failed.
        EnvironmentFailedError: No run was possible.
    """
    failed = [run for run in capture.runs if run.has_failed]
    if failed:
        kind = ProgramFailedError if all(run.failure for run in failed) else RefusedError
        raise kind(f"{capture.error}. Log: {capture.folder / LOG}")
    if capture.state is State.CANCELLED:
        return
    if not any(run.state is RunState.DONE for run in capture.runs):
        raise EnvironmentFailedError(capture.runs[0].error)
