"""Timelines that a child process is making for the canvas; the server itself computes none."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from jobs.api import begin_timeline
from jobs.job import Job
from jobs.tasks import Analysed
from library import cache
from views.shared import session

_lock = threading.Lock()
_jobs: dict[tuple[str, str, str], Job[Analysed]] = {}
_made: set[tuple[str, str, str]] = set()  # asked for with every tile, so the disk is not
MOST_MADE = 10_000
MOST_JOBS = 64  # that have ended and whose canvas did not come back for the answer


class TimelineNotMadeError(Exception):
    """There is nothing to answer from yet; the message says what is being done meanwhile."""


def begin_if_not_made(query: Mapping[str, str]) -> None:
    """Start the job that makes the timeline a question is about, unless it is made or under way.

    Args:
        query: ``trace``, ``window`` and ``counters``.

    Raises:
        TimelineNotMadeError: It is being made; ask again.
        TraceError: The recording is gone or damaged, or the job failed.
        WindowError: The recording has no such window.
    """
    key = query.get("trace", ""), query.get("window", ""), query.get("counters", "")
    if key in _made and cache.is_known(key[0]):
        return
    if session.timeline_is_made(*key):
        if len(_made) >= MOST_MADE:
            _made.clear()
        _made.add(key)
        return
    with _lock:
        job = _jobs.get(key)
        if job is None:
            _drop_ended()
            job = _jobs[key] = begin_timeline(cache.get(key[0]), *key[1:])
    progress = job.progress()
    if not progress.done:
        raise TimelineNotMadeError(f"{progress.stage}, {progress.fraction:.0%}")
    with _lock:
        _jobs.pop(key, None)
    job.wait()  # it has ended: raises what went wrong


def _drop_ended() -> None:
    """Forget the oldest jobs that have ended, beyond those that may still be asked about."""
    ended = [key for key, job in _jobs.items() if job.progress().done]
    for key in ended[: max(len(ended) - MOST_JOBS, 0)]:
        del _jobs[key]
