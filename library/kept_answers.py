"""Answers that are kept beside a trace as JSON with its checksum, so that damage shows."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from common.files import write_file

DAMAGED = ".damaged"
Answer = TypeVar("Answer")


def load(path: Path, decode: Callable[[Any], Answer], *, is_remade: bool = True) -> Answer | None:
    """Return the answer that was kept, or None when it has to be made.

    Args:
        path: Where it is kept; what is damaged is taken away, what cannot be read now is not.
        decode: Makes the answer of its JSON.
        is_remade: Whether the answer can be made again. What is damaged is deleted then; else it is
            renamed to end in ``.damaged``.
    """
    try:
        content = path.read_bytes()
    except OSError:  # not there; or no right, no file handle left, a disk that fails: no damage
        return None
    # msgspec's own error is a ValueError; brackets in brackets without end are a RecursionError.
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        kept = json.loads(content)
        if kept["sha256"] == _checksum(kept["answer"]):
            return decode(json.loads(kept["answer"]))
    with contextlib.suppress(OSError):  # another process took it away, or the folder is read-only
        if is_remade:
            path.unlink()
        else:
            path.replace(path.with_suffix(DAMAGED))
    return None


def save(path: Path, answer: Any, most: int, *, is_private: bool = False) -> None:
    """Keep an answer, and of all in its folder the newest.

    Args:
        path: Where.
        answer: JSON data.
        most: How many are kept.
        is_private: Nobody but the user may read it.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(answer)
    content = json.dumps({"sha256": _checksum(text), "answer": text})
    write_file(path, content, is_private=is_private)
    with contextlib.suppress(FileNotFoundError):  # another process deletes the same ones
        others = path.parent.glob("*.json")
        for old in sorted(others, key=lambda p: p.stat().st_mtime_ns, reverse=True)[most:]:
            old.unlink(missing_ok=True)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
