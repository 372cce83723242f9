"""What is asked of a recording in one text: a window, and after ``;iterations=`` what repeats.

An iteration is one of

* ``auto``: what the program marks, else the period of what it launches;
* ``nvtx:NAME``: every range of that name;
* ``kernel:NAME``: each launch of that kernel begins one;
* ``period:N``: every N launches, from where launches N apart begin to be the same;
* ``none``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

AUTO, NONE = "auto", "none"
FORMS = "auto, nvtx:NAME, kernel:NAME, period:N or none"
CHOICE = ";iterations="
_NUMBER = re.compile(r"-?[0-9]{1,19}")
MAX_NUMBER = (1 << 62) - 1  # the year 2116 in ns; differences of such numbers stay within 64 bits


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


def number_in(text: str) -> int | None:
    """Return the whole number that a part of a request writes; None when it is none, or too large.

    Requests come from addresses and command lines. No recording has anything at a number beyond
    ``MAX_NUMBER``; Python refuses to convert one of 4,300 digits, and columns hold 64 bits.
    """
    number = int(text) if _NUMBER.fullmatch(text) else MAX_NUMBER + 1
    return number if abs(number) <= MAX_NUMBER else None
