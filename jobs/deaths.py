"""Every way in which a child can end without a result, put into one line with its exception."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import msgspec

from common.platform import ended_by
from jobs.limits import FILE_TOO_LARGE, OUT_OF_MEMORY, OUT_OF_SPACE, TIGHT, Limits, names_memory
from jobs.processes import LOG, RESULT
from jobs.tasks import AnyAnswer, Failure
from library import cache

MAX_ANSWER_BYTES = 1 << 20
LOG_END_BYTES = 8_192

_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS")


def read_answer(folder: Path, status: int) -> AnyAnswer | None:
    """Return the child's answer; None when it left none that makes sense."""
    if status != 0:
        return None
    try:
        with (folder / RESULT).open("rb") as file:
            answer: AnyAnswer = msgspec.convert(json.loads(file.read(MAX_ANSWER_BYTES)), AnyAnswer)
    except (OSError, ValueError):
        return None
    return answer


def explain_failure(failure: Failure, name: str, limits: Limits) -> Failure:
    """Return a child's own failure with its line, which names the limit that was reached."""
    if failure.error != "OutOfMemory":
        return failure
    limit = f"{limits.memory_gb:g} GB (WHYSLOW_LIMIT_MEMORY_GB)"
    line = f"{name}: needs more memory than the limit of {limit}"
    return Failure(error="RefusedError", message=line)


def explain_lateness(name: str, limits: Limits) -> Failure:
    """Return the failure of a child that was ended because its time was up."""
    limit = f"{limits.wall_s:g} s (WHYSLOW_LIMIT_WALL_S)"
    line = f"{name}: no answer within the limit of {limit}"
    return Failure(error="EnvironmentFailedError", message=line)


def explain_death(status: int, folder: Path, name: str, limits: Limits) -> Failure:
    """Return the failure of a child that ended with ``status`` and left no answer.

    Args:
        status: Exit status; negative for the signal that ended it.
        folder: Of its job.
        name: What the recording is called in the line.
        limits: What it was allowed.
    """
    tight = (folder / TIGHT).exists() and ended_by(status, *_CRASHES)
    if tight or status == OUT_OF_MEMORY or names_memory(_end_of_log(folder)):
        return explain_failure(Failure(error="OutOfMemory"), name, limits)
    environment = _environment_line(status, name, limits)
    if environment:
        return Failure(error="EnvironmentFailedError", message=environment)
    from collectors.processes import signal_name  # the package loads Arrow

    how = f"crashed ({signal_name(-status)})" if status < 0 else f"stopped (exit status {status})"
    line = f"{name}: a bug in whyslow: the reader {how} without an answer"
    return Failure(error="TraceError", message=line)


def _environment_line(status: int, name: str, limits: Limits) -> str:
    """Return the line for a limit or the system that ended the child; empty for another cause."""
    if status == OUT_OF_SPACE:
        return str(cache.storage_error(OSError(errno.ENOSPC, "")))
    if status == FILE_TOO_LARGE:
        limit = f"{limits.file_gb:g} GB (WHYSLOW_LIMIT_FILE_GB)"
        return f"{name}: a file on disk reached the size limit of {limit}"
    if ended_by(status, "SIGXCPU"):
        limit = f"{limits.cpu_s:g} s (WHYSLOW_LIMIT_CPU_S)"
        return f"{name}: needs more processor time than the limit of {limit}"
    if ended_by(status, "SIGKILL"):
        return (
            f"{name}: the system stopped the reader, probably for lack of memory. Close other "
            "programs, or set WHYSLOW_LIMIT_MEMORY_GB below what is free"
        )
    return ""


def _end_of_log(folder: Path) -> str:
    try:
        with (folder / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END_BYTES))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""


def exception_of(failure: Failure) -> Exception:
    """Return the exception that a failure names."""
    from analyzers.facts.facts import WindowError
    from collectors import errors

    if failure.choices:
        return errors.SeveralRecordingsError(failure.message, failure.choices)
    classes: dict[str, type[Exception]] = {
        c.__name__: c
        for c in (
            errors.RefusedError,
            errors.EnvironmentFailedError,
            errors.TraceError,
            WindowError,
        )
    }
    return classes.get(failure.error, errors.TraceError)(failure.message)
