"""What is asked of a recording in one text: a window, and after ``;iterations=`` what repeats.

An iteration is one of

* ``auto``: what the program marks, else the period of what it launches;
* ``nvtx:NAME``: every range of that name;
* ``kernel:NAME``: each launch of that kernel begins one;
* ``period:N``: every N launches, from where launches N apart begin to be the same;
* ``none``.
"""

from __future__ import annotations

from typing import NamedTuple

AUTO, NONE = "auto", "none"
FORMS = "auto, nvtx:NAME, kernel:NAME, period:N or none"
CHOICE = ";iterations="


class WindowRequest(NamedTuple):
    """The two parts of what is asked for: a window, and what an iteration is (empty: auto)."""

    window: str
    iterations: str


def parse_request(request: str) -> WindowRequest:
    """Return the window and the choice of iterations that a request names."""
    window, separator, choice = request.rpartition(CHOICE)
    if not separator:
        return WindowRequest(request, "")
    return WindowRequest(window, "" if choice == AUTO else choice)


def request_text(window: str, iterations: str) -> str:
    """Return the request for a window with a choice of iterations; see ``parse_request``."""
    if iterations in ("", AUTO):
        return window
    return f"{parse_request(window).window}{CHOICE}{iterations}"
