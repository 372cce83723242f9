"""Text of files, programs and recordings, made fit to be stored and to be printed.

A name in a recording may hold an escape sequence of the terminal, a mark that turns the direction
of the text around it, or half of a pair of surrogates, which no file can hold.
"""

from __future__ import annotations

import os
import re

# What acts instead of being seen, tab and line breaks apart: they may stand in a name.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
REPLACEMENT = "\ufffd"
MAX_PATH = 120  # characters of a path in a message; its end says most


def printable(text: str, instead: str = REPLACEMENT) -> str:
    """Return ``text`` with ``instead`` in the place of every character that cannot be seen."""
    return text if text.isprintable() else "".join(c if c.isprintable() else instead for c in text)


def one_line(text: str, limit: int) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters."""
    line = printable(text.replace("\n", " "))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def short_path(path: str) -> str:
    """Return a path that fits into a message."""
    return path if len(path) <= MAX_PATH else f"…{path[-MAX_PATH + 1 :]}"


def visible(text: str, limit: int = 0) -> str:
    r"""Return ``text`` on one line with controls, bidi marks and zero-width characters written out.

    Args:
        text: Text of a recording.
        limit: Longest result; the middle is left out. 0 is no limit.
    """
    line = text if text.isprintable() else "".join(map(_visible_character, text))
    if limit and len(line) > limit:
        head = (limit - 1) * 2 // 3
        line = f"{line[:head]}…{line[len(line) - (limit - 1 - head) :]}"
    return line


def escaped_character(char: str) -> str:
    r"""Return a character as it stands in a program's text: ``\x1b``, ``\u202e``."""
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def storable(text: str) -> str:
    """Return ``text`` without halves of pairs of surrogates, which JSON can write but no file."""
    return text.encode("utf-8", "replace").decode()


def file_name_text(name: str) -> str:
    """Return a file's name or path as text that can be stored, the same in every locale."""
    return os.fsencode(name).decode("utf-8", "replace")


def _visible_character(char: str) -> str:
    if char == "\n":
        return "⏎"
    return char if char.isprintable() else escaped_character(char)
