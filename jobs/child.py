"""The program of the child process in which every recording is parsed and analysed, under limits.

Whatever a hostile or huge file does, it does it here: crash, hang, eat memory, fill the disk.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec

from common import platform
from jobs import limits
from jobs.limits import FILE_TOO_LARGE, OUT_OF_MEMORY, OUT_OF_SPACE, Limits
from jobs.processes import ORDER, RESULT, kill_session
from jobs.progress import POLL_S, PROGRESS_EVERY_S, ProgressFile, one_line
from jobs.steps import ReportProgress
from jobs.tasks import AnyAnswer, AnyTask, Failure, JobOrder
from library import cache


def main() -> int:
    """Carry out ``order.json`` in the folder named on the command line; return the exit status."""
    folder = Path(sys.argv[1])
    order = msgspec.convert(json.loads((folder / ORDER).read_text(encoding="utf-8")), JobOrder)
    threading.Thread(target=_keep_watch, args=(folder, order.limits), daemon=True).start()
    # A library that runs out of memory while it is loaded crashes, so load them before there is
    # a limit; no recording was touched yet.
    importlib.import_module("analyzers")
    importlib.import_module("psutil")  # the watch needs it, most of all when memory is out
    importlib.import_module("collectors").collectors()
    try:
        limits.set_limits(order.limits)
        answer = answer_of(order.task, ProgressFile(folder))
        cache.write_json(folder / RESULT, msgspec.to_builtins(answer))
    except MemoryError:
        return OUT_OF_MEMORY
    except OSError as error:  # no room for the answer itself
        if limits.names_memory(str(error)):
            return OUT_OF_MEMORY
        return FILE_TOO_LARGE if error.errno == errno.EFBIG else OUT_OF_SPACE
    return 0


def _keep_watch(folder: Path, allowed: Limits) -> NoReturn:
    """End with the parent; leave word when memory runs out, since libraries may crash then."""
    while not platform.has_closed(0, POLL_S):
        with contextlib.suppress(OSError):  # a full disk must not end the watch
            if limits.is_tight(allowed):
                (folder / limits.TIGHT).touch()
    if platform.leads_session():  # not when started by hand, in the session of a shell
        kill_session(os.getpid(), folder)
    os._exit(1)


def answer_of(task: AnyTask, report: ReportProgress) -> AnyAnswer:
    """Run the task once nobody else works on its recording; put whatever goes wrong into words."""
    from analyzers.facts.facts import WindowError
    from collectors.errors import TraceError

    try:
        with cache.job_running(), cache.file_taken(task.place) as turns:
            for _ in turns:
                report(0.0, "waiting: the same file is being opened elsewhere")
                time.sleep(PROGRESS_EVERY_S)
            return task.run(report)
    except (TraceError, WindowError) as error:
        choices = getattr(error, "choices", ())
        return Failure(error=type(error).__name__, message=one_line(error), choices=choices)
    except MemoryError:
        return Failure(error="OutOfMemory")
    except OSError as error:
        if (full := cache.storage_error(error)) is not None:
            return Failure(error=type(full).__name__, message=one_line(full))
        return _unforeseen(error, task.place)
    except Exception as error:
        return _unforeseen(error, task.place)


def _unforeseen(error: Exception, place: Path) -> Failure:
    if limits.names_memory(str(error)):
        return Failure(error="OutOfMemory")
    with contextlib.suppress(OSError):
        traceback.print_exc()
    line = f"{place.name}: a bug in whyslow stopped the analysis ({type(error).__name__})"
    return Failure(error="TraceError", message=one_line(line))


if __name__ == "__main__":
    status = main()
    with contextlib.suppress(OSError):  # the disk may be full
        sys.stderr.flush()
    os._exit(status)  # at once: libraries have threads, and nothing is left to tidy up
