"""What went wrong, as an exit status and one line."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

from common.text import short_path
from jobs.progress import one_line
from library import cache

ENVIRONMENT, DEFECT = 3, 70
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def is_output_full(error: BaseException) -> bool:
    """Tell whether what the answer is written to has no room, or has gone."""
    return isinstance(error, OSError) and error.errno in _FULL


def failure_of(error: Exception, path: Path | None = None) -> tuple[int, str]:
    """Return the exit status that an error stands for, and its line.

    Args:
        error: What went wrong.
        path: The recording that was asked about, where there is only one.
    """
    from analyzers.facts.facts import WindowError
    from collectors.errors import TraceError
    from library.predictions import SpeedUpError

    if isinstance(error, TraceError):
        return error.exit_code, one_line(error)
    if isinstance(error, WindowError):
        file = f"{short_path(path.name)}: " if path is not None else ""
        return 2, f"{file}{one_line(error)}"
    if isinstance(error, SpeedUpError):
        return 2, one_line(error)
    if is_output_full(error):
        return ENVIRONMENT, f"the answer cannot be written ({os.strerror(_number(error))})"
    return DEFECT, f"a bug in whyslow ({type(error).__name__}){_log(error)}"


def _number(error: BaseException) -> int:
    return (error.errno or 0) if isinstance(error, OSError) else 0


def _log(error: Exception) -> str:
    """Keep the traceback for a bug report; say where it is."""
    path = cache.jobs_root() / f"cli-{os.getpid()}" / "log.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.writelines(traceback.format_exception(error))
        (path.parent / "defect").touch()
    except OSError:
        return ""
    return f"; log: {path}"
