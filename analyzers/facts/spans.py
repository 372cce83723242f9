"""Spans of time that are spoken of: the analysed window, and the repetitions in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PROFILED = "profiled launches, end to end"
"""Label of the window of a recording that holds counters and no timeline."""


@dataclass(frozen=True, kw_only=True)
class StepSpan:
    """The steps of one process, which the program marked, as one stretch of time.

    Attributes:
        process_key: As the trace numbers the process.
        name: What all steps are called, without a number.
        count: How many there are.
        start_ns: Begin of the first one.
        end_ns: End of the last one, or of the GPU work that was submitted in it.
    """

    process_key: int
    name: str
    count: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """The analysed time: ``[start_ns, end_ns)`` and how it was chosen.

    Attributes:
        start_ns: Begin.
        end_ns: End.
        label: How it was chosen, in words.
        is_chosen: Whether the program marked this very stretch, as a step or a range: idle time at
            its begin and its end is then time of the step, and not time in which nothing was asked
            of the GPU.
        steps: Where each process had its steps, when the window is that of whole steps.
    """

    start_ns: int
    end_ns: int
    label: str = "whole recording"
    is_chosen: bool = False
    steps: tuple[StepSpan, ...] = ()

    @property
    def duration_ns(self) -> int:
        """Length of the window."""
        return self.end_ns - self.start_ns

    @property
    def span(self) -> tuple[int, int]:
        """Begin and end."""
        return self.start_ns, self.end_ns


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """One repetition of the program's loop.

    Attributes:
        name: What the program calls it, or its number among what was found.
        start_ns: When the device's work on it begins.
        end_ns: When that is done.
        is_marked: Whether the program marked it; else it was found in what is launched.
    """

    name: str
    start_ns: int
    end_ns: int
    is_marked: bool = True


@dataclass(frozen=True, kw_only=True)
class LoopEvidence:
    """What iterations rest on.

    Attributes:
        how: ``ranges`` (the program marks them), ``request`` (somebody said what an iteration is),
            ``launches`` (what the program launches repeats) or ``host`` (what its host does
            repeats, where graphs hide what is launched or nothing ran on a GPU).
        length: Launches, calls, operators or ranges in a typical one; 0 where the program marks it.
        similarity: Of the iterations to a typical one, median, 0 to 1; None where not measured.
        covered: Share that they hold of the GPU's work, or of the time without such; None where
            not measured.
        confidence: ``stated`` by the program or by whoever asks, ``high`` or ``medium``; what is
            less sure is not called an iteration. Rates: ``python -m benchmarks.periods``.
    """

    how: str
    length: int = 0
    similarity: float | None = None
    covered: float | None = None
    confidence: str = "stated"


class Iterations(NamedTuple):
    """The iterations of a recording.

    Attributes:
        spans: Each of them, in time.
        note: How they were found, or why there are none, in words.
        evidence: What they rest on; None when there are none.
    """

    spans: tuple[Iteration, ...]
    note: str
    evidence: LoopEvidence | None = None
