"""What a capture brought, in the words of the command line."""

from __future__ import annotations

import shlex

from analyzers.words import by_reason, count_text
from captures.order import ROLES
from captures.store import NO_GPU, Capture, Run, RunState

SHOWN_PATHS = 4  # in the command that opens them; the others are listed above it


def in_words(capture: Capture) -> list[str]:
    """Return what a capture brought, line by line, for a terminal."""
    lines = [f"capture {capture.id}: {capture.title}"]
    for run in capture.runs:
        lines += _run_lines(run)
    return [*lines, *_note_lines(capture), *_next_lines(capture)]


def _run_lines(run: Run) -> list[str]:
    head = f"  {run.role:<9}  {run.tool:<9}  {run.number:>3}  {run.state:<9}"
    if run.state not in (RunState.WAITING, RunState.SKIPPED):
        head += f"  {run.seconds:7.1f} s  {run.recording or run.telemetry}"
    return [head.rstrip(), *(f"             {text}" for text in (run.sentence, run.error) if text)]


def _note_lines(capture: Capture) -> list[str]:
    """Say each note once, with the number of runs that it is about."""
    notes = [(note, str(place)) for place, run in enumerate(capture.runs) for note in run.notes]
    among = len(capture.runs) > 1
    lines = [
        f"  {note} ({count_text(len(at), 'run')})" if among else f"  {note}"
        for note, at in by_reason(notes).items()
    ]
    if {"nsys", "torch"} <= {run.tool for run in capture.runs}:
        lines.append("  nsys and torch need CUDA's one profiler interface, so each had runs alone")
    return ["Notes", *lines] if lines else []


def _next_lines(capture: Capture) -> list[str]:
    """Say how to go on."""
    done = [run for run in capture.runs if run.recording and run.trace]
    if not done:
        sampled = any(run.telemetry for run in capture.runs)
        alone = "Telemetry appears under a timeline: add --with nsys or --with torch"
        return [alone] if sampled and not any(run.recording for run in capture.runs) else []
    lines = [f"Open:    whyslow open {shlex.join(run.recording for run in done[:SHOWN_PATHS])}"]
    for tool in dict.fromkeys(run.tool for run in done if run.tool != "ncu"):
        sides = [[r.recording for r in done if r.tool == tool and r.role == k] for k in ROLES]
        if all(sides) and any(run.sentence != NO_GPU for run in done if run.tool == tool):
            base, new = map(shlex.join, sides)
            lines.append(f"Compare: whyslow compare {base} --new {new}")
    return lines
