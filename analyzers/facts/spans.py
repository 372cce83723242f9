"""Spans of time that are spoken of: the analysed window, and the repetitions in it."""

from __future__ import annotations

from dataclasses import dataclass

PROFILED = "profiled launches, end to end"
"""Label of the window of a recording that holds counters and no timeline."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The analysed time: ``[start_ns, end_ns)`` and how it was chosen."""

    start_ns: int
    end_ns: int
    label: str = "whole recording"

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
    """One repetition of the program's loop."""

    name: str
    start_ns: int
    end_ns: int
