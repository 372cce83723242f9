"""Answers that are kept beside a trace as JSON with its checksum, so that damage shows."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from common.files import write_file

Answer = TypeVar("Answer")


def load(path: Path, decode: Callable[[Any], Answer]) -> Answer | None:
    """Return the answer that was kept, or None when it has to be made.

    Args:
        path: Where it is kept; what is damaged is removed.
        decode: Makes the answer of its JSON.
    """
    # msgspec's own error is a ValueError.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads(path.read_bytes())
        if kept["sha256"] == _checksum(kept["answer"]):
            return decode(json.loads(kept["answer"]))
    with contextlib.suppress(OSError):  # not there, or damaged: made anew
        path.unlink()
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
