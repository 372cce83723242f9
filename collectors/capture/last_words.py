"""The end of what a program printed, in one line: what it died of, and where in its own code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from common.text import printable

MAX_REASON = 120

_PROGRESS_BAR = re.compile(r"\[\d+/\d+\] \[[^\r\n]*")
# What nsys prints after the last line of the program.
_NSYS_SAYS = re.compile(r"Generating '.*\.qdstrm'|Generated:|/.*\.(?:nsys-rep|qdstrm)")
_RANK = re.compile(r"^\[rank\d+\]: ?")  # torch writes it before each line of a traceback
_FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)')
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?::|$)")
_NOT_OWN = re.compile(r"^<frozen |/(?:site|dist)-packages/|/lib/python\d[\d.]*/")
# The launcher's own end, which only says that a process of the job failed before it.
_LAUNCHER = "torch.distributed.elastic."


def last_line(printed: bytes) -> str:
    """Return the last line of what a program printed, without control characters."""
    lines = [line.strip() for line in _lines(printed)]
    return printable(lines[-1])[:MAX_REASON] if lines else ""


def failure_words(printed: bytes) -> str:
    """Return why a program failed, by what it printed.

    Of a Python traceback that is the exception and the innermost line of the program's own code:
    ``ValueError: bad shape at train.py:12``. A library's frames are passed over, unless there are
    only those. Without a traceback it is the last line.
    """
    lines = [_RANK.sub("", line) for line in _lines(printed)]
    ends = [end for end in _tracebacks(lines) if not end[0].startswith(_LAUNCHER)]
    if not ends:
        return last_line(printed)
    exception, frames = ends[-1]
    own = [frame for frame in frames if not _NOT_OWN.search(frame[0])]
    file, line = (own or frames)[-1]
    place = printable(f"{file.rpartition('/')[2]}:{line}")
    return f"{printable(exception)[:MAX_REASON]} at {place[:MAX_REASON]}"


def _lines(printed: bytes) -> list[str]:
    """Return what was printed by line, without what a profiler adds."""
    text = _PROGRESS_BAR.sub("", printed.decode("utf-8", "replace").replace("\r", "\n"))
    return [
        line
        for line in text.splitlines()
        if line.strip() and not _NSYS_SAYS.fullmatch(line.strip())
    ]


def _tracebacks(lines: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each exception that was printed with the frames above it, file and line."""
    ends: list[tuple[str, list[tuple[str, str]]]] = []
    frames: list[tuple[str, str]] = []
    for line in lines:
        if frame := _FRAME.match(line):
            frames.append((frame["file"], frame["line"]))
        elif frames and not line[0].isspace():  # source lines and marks below them are indented
            if _EXCEPTION.match(line):
                ends.append((line.strip(), frames))
            frames = []
    return ends
