"""What a capture brought, as a document: its runs, what they show, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from analyzers.words import by_reason, count_text
from captures.order import ROLES
from captures.store import NO_GPU, Capture, Run, RunState, State
from reports.document import (
    Block,
    Cell,
    Document,
    DocumentTable,
    Section,
    Sentence,
    TableColumn,
)

MAX_PATHS = 4  # in the command that opens them; the others are listed above it


def capture_summary(capture: Capture) -> Document:
    """Return what a capture brought, for a terminal."""
    title = f"capture {capture.id}: {capture.title}"
    sections = [
        Section(title="Runs", blocks=(Sentence(text=title, kind="lead"), _runs(capture))),
        Section(title="What they show", blocks=tuple(_results(capture))),
        Section(title="Notes", blocks=tuple(_notes(capture))),
        Section(title="How to go on", blocks=tuple(_next_steps(capture))),
    ]
    return Document(kind="capture", title=title, sections=tuple(s for s in sections if s.blocks))


def _runs(capture: Capture) -> DocumentTable:
    return DocumentTable(
        columns=(
            *(TableColumn(name=n) for n in ("Role", "Tool")),
            TableColumn(name="Run", is_number=True),
            TableColumn(name="State"),
            TableColumn(name="Time", unit="s", is_number=True),
            TableColumn(name="Recording"),
        ),
        rows=tuple(_run(run) for run in capture.runs),
    )


def _run(run: Run) -> tuple[Cell, ...]:
    has_run = run.state not in (RunState.WAITING, RunState.SKIPPED)
    has_run = has_run and (run.started > 0 or run.state is not RunState.CANCELLED)
    return (
        Cell(text=run.role),
        Cell(text=run.tool),
        Cell(text=f"{run.number}", value=run.number),
        Cell(text=run.state.value, strong=run.state is RunState.FAILED),
        Cell(text=f"{run.seconds:.1f} s", value=run.seconds) if has_run else Cell(text=""),
        Cell(text=(run.recording or run.telemetry) if has_run else ""),
    )


def _results(capture: Capture) -> Iterator[Block]:
    for run in capture.runs:
        name = f"{run.role}, {run.tool}, run {run.number}"
        for text, kind in ((run.sentence, "item"), (run.error or run.failure, "error")):
            if text:
                yield Sentence(text=f"{name}: {text}", kind=kind)


def _notes(capture: Capture) -> Iterator[Block]:
    """Say each note once, with the number of runs that it is about."""
    notes = [(note, str(place)) for place, run in enumerate(capture.runs) for note in run.notes]
    among = len(capture.runs) > 1
    for note, places in by_reason(notes).items():
        text = f"{note} ({count_text(len(places), 'run')})" if among else note
        yield Sentence(text=text, kind="item")
    if {"nsys", "torch"} <= {run.tool for run in capture.runs}:
        yield Sentence(
            text="nsys and torch both need CUDA's profiler interface, so each gets its own runs",
            kind="item",
        )


def _after_stop(capture: Capture) -> str:
    """Say what a capture that was stopped kept, and what a whole one takes."""
    kept = [run for run in capture.runs if run.recording and run.trace]
    timed = "A run that has a time (--timeout SECONDS) ends by itself and keeps its recording."
    if not kept:
        return f"Stopped before anything was recorded that opens. {timed}"
    missing = len(capture.runs) - len(kept)
    rest = f"; {missing} of {count_text(len(capture.runs), 'run')} left no recording"
    return f"Stopped: what was recorded until then opens{rest if missing else ''}. {timed}"


def _next_steps(capture: Capture) -> Iterator[Block]:
    """Say how to go on."""
    if capture.state is State.CANCELLED:
        yield Sentence(text=_after_stop(capture))
    done = [run for run in capture.runs if run.recording and run.trace]
    if not done:
        sampled = any(run.telemetry for run in capture.runs)
        if sampled and not any(run.recording for run in capture.runs):
            yield Sentence(
                text="Telemetry is shown below a timeline: add --with nsys or --with torch"
            )
        return
    paths = shlex.join(run.recording for run in done[:MAX_PATHS])
    yield Sentence(text=f"Open:    whyslow open {paths}", kind="command")
    for tool in dict.fromkeys(run.tool for run in done if run.tool != "ncu"):
        sides = [[r.recording for r in done if r.tool == tool and r.role == k] for k in ROLES]
        of_tool = [run for run in done if run.tool == tool]
        has_numbers = any(r.sentence != NO_GPU for r in of_tool) or all(r.summary for r in of_tool)
        if all(sides) and has_numbers:
            base, new = map(shlex.join, sides)
            yield Sentence(text=f"Compare: whyslow compare {base} --new {new}", kind="command")
