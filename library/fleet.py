"""Answers about whole jobs, kept by the file that they are about."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from library import kept_answers
from library.cache import data_dir, fingerprint

if TYPE_CHECKING:
    from analyzers.fleet.answer import JobAnswer

FOLDER = "fleet"
MAX_KEPT = 64


def load(path: Path) -> JobAnswer | None:
    """Return the answer about the job at ``path`` that was kept; None when it has to be made."""
    return kept_answers.load(_place_of(path), _decoded)


def made(path: Path) -> JobAnswer:
    """Read the operations of a job, and answer; or return what was kept.

    Raises:
        RefusedError: The file is no table of operations, or none that can be replayed.
        OSError: The disk is full or cannot be written.
    """
    if (kept := load(path)) is not None:
        return kept
    from analyzers.fleet.answer import answer_of
    from analyzers.fleet.job_ledger import TooLongJobError
    from analyzers.fleet.operations import JobOperations
    from analyzers.fleet.replay import StuckStepError
    from analyzers.fleet.stragglers import EmptyJobError
    from collectors.errors import RefusedError
    from collectors.input_file import shown_name
    from collectors.operation_table import read_operations
    from library.predictions import keep_compiled

    keep_compiled()
    place = _place_of(path)
    read = read_operations(path)
    try:
        answer = answer_of(JobOperations(read.table, read.kinds), shown_name(path), read.notes)
    except (StuckStepError, EmptyJobError, TooLongJobError) as error:
        raise RefusedError(
            f"{shown_name(path)}: {error}. Export whole steps of all ranks"
        ) from error
    place.parent.parent.mkdir(parents=True, exist_ok=True)
    kept_answers.save(place, msgspec.to_builtins(answer), MAX_KEPT)
    return answer


def _decoded(answer: Any) -> JobAnswer:
    from analyzers.fleet.answer import JobAnswer

    return msgspec.convert(answer, JobAnswer)


def _place_of(path: Path) -> Path:
    """Return where the answer about the file that lies at ``path`` now is kept."""
    try:
        status = path.stat()
        identity = f"{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
    except (OSError, ValueError):
        identity = ""
    version = fingerprint("analyzers.fleet", "collectors.operation_table", "library.fleet")
    text = f"{version}\0{path.absolute()}\0{identity}"
    key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return data_dir() / FOLDER / f"{key[:24]}.json"
