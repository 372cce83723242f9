"""One task in a child process, seen from the parent: its progress, its answer, its end.

Parent and child share a folder: ``order.json`` (the task and its limits), ``progress.json`` (how
far it is), ``result.json`` (the answer) and ``log.txt`` (what the child printed). The parent turns
every way to die into one line.

Nothing heavy is imported here, so that a second look at a recording stays instant.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from jobs.deaths import (
    exception_of,
    explain_death,
    explain_failure,
    explain_lateness,
    read_answer,
)
from jobs.limits import Limits
from jobs.processes import kill_session, start_child
from jobs.progress import POLL_S, PROGRESS_EVERY_S, Progress, one_line, read_progress
from jobs.tasks import Analysed, AnyTask, Done, Failure, JobOrder
from library import cache

MAX_NAME = 80  # characters of a recording's name in a line of trouble

Answer = TypeVar("Answer", bound=Analysed | Done)

_running: weakref.WeakSet[Job[Any]] = weakref.WeakSet()


def stop_running() -> None:
    """Ask every job of this process to stop; what it had started is ended soon after."""
    for job in list(_running):
        job.ask_to_stop()


class Job(Generic[Answer]):
    """A task that a child process carries out, or whose answer was there already.

    Attributes:
        id: Names the job, and its folder as long as there is one.
        name: File name of the recording.
    """

    def __init__(self, *, name: str, answer: Answer | None = None) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.name = name
        self._answer: Answer | None = answer
        self._error: Exception = RuntimeError("no task was begun")
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._folder = cache.jobs_root() / self.id
        self._reached = Progress(fraction=0.0, stage="starting")
        if answer is not None:
            self._done.set()

    def progress(self) -> Progress:
        """Return how far the job is; never raises and never waits."""
        if not self._done.is_set():
            # Between two writes there is none, and its folder goes before the answer is there.
            self._reached = read_progress(self._folder) or self._reached
            return self._reached
        if self._answer is None:
            error, choices = one_line(self._error), getattr(self._error, "choices", ())
            return Progress(fraction=1.0, stage="failed", done=True, error=error, choices=choices)
        trace_id = self._answer.trace_id if isinstance(self._answer, Analysed) else ""
        return Progress(fraction=1.0, stage="ready", done=True, trace_id=trace_id)

    def wait(self, on_progress: Callable[[Progress], None] | None = None) -> Answer:
        """Wait for the answer and return it; raises what ``open_recording`` raises."""
        try:
            while not self._done.wait(PROGRESS_EVERY_S):
                if on_progress is not None:
                    on_progress(self.progress())
        except BaseException:  # interrupted, or nobody is left to look at the progress
            self.cancel()
            raise
        if self._answer is None:
            raise self._error
        return self._answer

    def ask_to_stop(self) -> None:
        """Stop the job as ``cancel`` does, without waiting for its end."""
        self._cancelled.set()

    def cancel(self) -> None:
        """Stop the job; does nothing when it has ended."""
        self.ask_to_stop()
        self._done.wait(timeout=5.0)

    def begin(self, task: AnyTask, limits: Limits) -> None:
        """Start the child process and return at once.

        Raises:
            EnvironmentFailedError: The data folder cannot be written.
        """
        cache.sweep()
        running = contextlib.ExitStack()
        running.enter_context(cache.job_running())
        try:
            with cache.writing():
                process = start_child(self._folder, JobOrder(task=task, limits=limits))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            running.close()
            raise
        _running.add(self)
        watcher = threading.Thread(target=self._watch, args=(process, limits, running), daemon=True)
        watcher.start()

    def _watch(
        self, process: subprocess.Popen[bytes], limits: Limits, running: contextlib.ExitStack
    ) -> None:
        """Wait for the child, stop it when its time is up, and keep its answer."""
        try:
            with running, process:
                stopped = self._outlast(process, limits)
                if process.returncode:  # it died, and could not stop what it had started
                    kill_session(process.pid, self._folder)
                self._conclude(stopped, process.returncode, limits)
        except Exception as error:
            self._error = error
        finally:
            self._done.set()
            _running.discard(self)

    def _outlast(self, process: subprocess.Popen[bytes], limits: Limits) -> Failure | None:
        """Return once the child has ended; the failure when it had to be stopped."""
        deadline = time.monotonic() + limits.wall_s
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
                return None
            if self._cancelled.is_set():
                line = f"{self.name}: cancelled"
                stopped = Failure(error="EnvironmentFailedError", message=line)
            elif time.monotonic() > deadline:
                stopped = explain_lateness(self._short_name(), limits)
            else:
                continue
            kill_session(process.pid, self._folder)
            process.wait()
            return stopped

    def _short_name(self) -> str:
        return one_line(self.name)[:MAX_NAME]

    def _conclude(self, stopped: Failure | None, status: int, limits: Limits) -> None:
        """Turn the child's answer, or its death, into the job's; keep the log of a defect."""
        answer = read_answer(self._folder, status)
        if isinstance(answer, Analysed | Done):
            self._answer = cast("Answer", answer)  # that of the task that was begun
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        name = self._short_name()
        if stopped is not None:
            failure = stopped
        elif answer is not None:
            failure = explain_failure(answer, name, limits)
        else:
            failure = explain_death(status, self._folder, name, limits)
        self._fail(failure)

    def _fail(self, failure: Failure) -> None:
        if failure.error != "TraceError":
            self._error = exception_of(failure)
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        line = f"{failure.message}; log: jobs/{self.id}/log.txt in the data folder"
        self._error = exception_of(Failure(error=failure.error, message=line))
        with contextlib.suppress(OSError):
            (self._folder / "defect").touch()
