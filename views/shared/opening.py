"""The way of a recording from asked to verdict: one state machine, which knows no Streamlit.

``asked → reading n % → analysing n % → verdict | refused``. Whatever a way begins with (a path, an
upload, a sample, a link), it is an entry here, under an id that the address of the page carries; so
a reload, a second tab and a slow browser find it again. A refusal is a way that has ended, too.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from analyzers.facts.facts import WindowError
from collectors.errors import TraceError
from collectors.trace import Trace
from jobs.api import begin_opening, begin_timeline
from jobs.job import Job
from jobs.progress import Progress
from jobs.steps import READING_SHARE
from jobs.tasks import Analysed
from library import cache

KEPT_WAYS = 64  # that have ended; those under way are all kept
LOST = "This recording is no longer being opened, because the server was restarted. Open it again."


class Stage(Enum):
    """How far a recording is; the order is the way."""

    ASKED = "asked"
    READING = "reading"
    ANALYSING = "analysing"
    VERDICT = "verdict"
    REFUSED = "refused"

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return self in (Stage.VERDICT, Stage.REFUSED)


@dataclass(frozen=True, kw_only=True)
class OpeningState:
    """Where one recording is on its way.

    Attributes:
        stage: How far it is.
        name: Its file name; empty when nobody knows it any more.
        fraction: The share of the whole way that is done, 0 to 1.
        words: What is being done; of a refusal, why.
        trace_id: The recording in the library, once there is a verdict.
        other_window: Whether another window of the recording would be answered.
    """

    stage: Stage
    name: str = ""
    fraction: float = 0.0
    words: str = ""
    trace_id: str = ""
    other_window: bool = False


def state_of(name: str, progress: Progress) -> OpeningState:
    """Return where a recording is whose job has come as far as ``progress`` says."""
    if progress.done:
        stage = Stage.VERDICT if progress.trace_id else Stage.REFUSED
        words = progress.error if stage is Stage.REFUSED else progress.stage
        return OpeningState(
            stage=stage, name=name, fraction=1.0, words=words, trace_id=progress.trace_id
        )
    fraction = min(max(progress.fraction, 0.0), 1.0)
    if fraction >= READING_SHARE:
        stage = Stage.ANALYSING
    else:
        stage = Stage.READING if fraction > 0 else Stage.ASKED
    return OpeningState(stage=stage, name=name, fraction=fraction, words=progress.stage)


class Ways:
    """Every way of this server, under its id; all readers share them, from any thread.

    One recording is opened once, and one window of it analysed once, however many readers ask
    meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job[Analysed]] = {}
        self._refusals: dict[str, OpeningState] = {}
        self._ids: dict[Hashable, str] = {}  # of what is asked for: a path, or a window
        self._requests: dict[str, Hashable] = {}  # of each way, its key in ``_ids``
        self._readers: dict[str, str] = {}  # of each way, whose session began it

    def open(self, path: Path) -> str:
        """Begin to open the recording at ``path``, and return the id of its way at once."""
        try:
            way = self._begin(path, lambda: begin_opening(path))
        except TraceError as error:  # the data folder cannot be written, say
            return self.refuse(str(error), path.name)
        if self.state(way).stage is Stage.VERDICT:  # of a file that was opened before
            cache.note_reopening(path)
        return way

    def analyse(self, trace: Trace, window: str, counters: str, *, reader: str = "") -> str:
        """Begin to analyse a window for the pages, and return the id of its way at once.

        Args:
            trace: The recording.
            window: As ``analyzers.analyze`` takes it.
            counters: The recording whose counters are joined; empty for none.
            reader: Whose session asks; the way is theirs unless it is under way already.
        """
        key = trace.id, window, counters
        try:
            return self._begin(key, lambda: begin_timeline(trace, window, counters), reader)
        except TraceError as error:
            return self.refuse(str(error), trace.source.name)

    def refuse(self, line: str, name: str = "") -> str:
        """Return the id of a way that ends with ``line`` before it began."""
        way = uuid.uuid4().hex[:12]
        with self._lock:
            while len(self._refusals) >= KEPT_WAYS:
                self._refusals.pop(next(iter(self._refusals)))
            self._refusals[way] = OpeningState(
                stage=Stage.REFUSED, name=name, fraction=1.0, words=line
            )
        return way

    def state(self, way: str) -> OpeningState:
        """Return how far a way is; of one that nobody knows, that it was lost."""
        with self._lock:
            job, refusal = self._jobs.get(way), self._refusals.get(way)
        if refusal is not None:
            return refusal
        if job is None:
            return OpeningState(stage=Stage.REFUSED, fraction=1.0, words=LOST)
        state = state_of(job.name, job.progress())
        if state.stage is Stage.REFUSED:
            with contextlib.suppress(TraceError):
                try:
                    job.wait()
                except WindowError:
                    return replace(state, other_window=True)
        return state

    def members_to_choose(self, way: str) -> tuple[Path, ...]:
        """Return the recordings in an archive of which one has to be named; mostly none."""
        with self._lock:
            job = self._jobs.get(way)
            path = self._requests.get(way)
        if job is None or not isinstance(path, Path):
            return ()
        return tuple(path / choice for choice in job.progress().choices)

    def is_begun_by(self, way: str, reader: str) -> bool:
        """Tell whether it was ``reader`` whose session began to analyse."""
        with self._lock:
            return bool(reader) and self._readers.get(way) == reader

    def stop(self, way: str) -> None:
        """End a way; it is refused as cancelled, unless it had ended before."""
        with self._lock:
            job = self._jobs.get(way)
        if job is not None:
            job.cancel()

    def _begin(self, key: Hashable, begin: Callable[[], Job[Analysed]], reader: str = "") -> str:
        """Return the way of the job for ``key``, begun now unless one is under way."""
        with self._lock:
            running = self._jobs.get(self._ids.get(key, ""))
            if running is not None and not running.progress().done:
                return running.id
            job = begin()
            self._drop_ended()
            self._jobs[job.id] = job
            self._ids[key], self._requests[job.id] = job.id, key
            self._readers[job.id] = reader
            return job.id

    def _drop_ended(self) -> None:
        ended = [way for way, job in self._jobs.items() if job.progress().done]
        for way in ended[: max(len(ended) - KEPT_WAYS + 1, 0)]:
            del self._jobs[way], self._requests[way], self._readers[way]
        self._ids = {key: way for key, way in self._ids.items() if way in self._jobs}
