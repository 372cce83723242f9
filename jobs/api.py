"""What the rest of whyslow asks for: a recording opened, analysed, measured, predicted.

Each function takes the answer from the library, or has it made by a child process, under limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from analyzers.facts.window_request import parse_request
from common.text import file_name_text
from jobs.job import Job
from jobs.limits import Limits
from jobs.progress import Progress
from jobs.tasks import (
    Analyse,
    Analysed,
    AnswerJob,
    Done,
    MakeProgramTrees,
    MakeTimeline,
    MeasureSide,
    OpenRecording,
    Predict,
)
from library import analyses, cache, sidecars
from timeline.places import has_timeline

if TYPE_CHECKING:
    from analyzers.compare.side import Side
    from analyzers.facts.spans import Window
    from analyzers.fleet.answer import JobAnswer
    from analyzers.whatif.whatif import WhatIf
    from analyzers.work.program_tree import ProgramTree
    from collectors.trace import Trace
    from library.analyses import StoredAnalysis

Outcome = TypeVar("Outcome")
OnProgress = Callable[[Progress], None]


class LibraryRecording(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that is ready to be looked at.

    Attributes:
        trace: Its tables.
        stored: The analysis of one window.
    """

    trace: Trace
    stored: StoredAnalysis


def open_recording(
    path: Path,
    *,
    window: str = "",
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> LibraryRecording:
    """Read and analyse the recording at ``path``, or take both from the library.

    Args:
        path: The recording; never changed.
        window: Part to analyse, as ``analyzers.analyze`` takes it.
        limits: What it may cost.
        on_progress: Called about ten times a second.

    Raises:
        RefusedError: The file is not something whyslow can answer for.
        EnvironmentFailedError: Disk full, tool missing, out of time.
        WindowError: The recording has no such window.
        TraceError: A defect of ours; the job's log tells more.
    """
    stored = stored_analysis(begin_opening(path, window=window, limits=limits), on_progress)
    return LibraryRecording(
        trace=cache.named(cache.get(stored.trace_id), stored.name), stored=stored
    )


def use_recording(
    path: Path,
    use: Callable[[LibraryRecording], Outcome],
    *,
    window: str = "",
    limits: Limits | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Open the recording at ``path`` and return what ``use`` makes of it.

    What was stored may turn out to be damaged only while it is read. Then the recording is opened
    anew, and ``use`` is called a second time.

    Raises:
        DamagedError: What was stored anew is damaged again.
        TraceError: As ``open_recording``.
    """
    from collectors.errors import DamagedError

    recording = open_recording(path, window=window, limits=limits, on_progress=on_progress)
    try:
        return use(recording)
    except DamagedError:
        cache.remove(recording.trace.id)
    return use(open_recording(path, window=window, limits=limits, on_progress=on_progress))


def begin_opening(
    path: Path,
    *,
    window: str = "",
    counters: str = "",
    timeline: bool = True,
    limits: Limits | None = None,
) -> Job[Analysed]:
    """Begin to open the recording at ``path`` and return at once; see ``open_recording``.

    Args:
        path: The recording; never changed.
        window: Part to analyse, as ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.
        timeline: Whether somebody is going to look at the timeline, so that its index is made.
        limits: What it may cost.

    Raises:
        EnvironmentFailedError: The data folder cannot be written, or a limit is no number.
    """
    folder = cache.find_folder(path)
    stored = None
    if folder is not None:
        stored = analyses.find(folder, window, file_name_text(path.name), counters)
    ready = stored is not None and (not timeline or has_timeline(stored))
    if ready and timeline and folder is not None:
        ready = not sidecars.telemetry_is_missing(path, folder)
    if ready and stored is not None:
        answer = Analysed(trace_id=stored.trace_id, analysis=stored.folder.name)
        return Job(name=path.name, answer=answer)
    try:
        path = path.absolute()  # not resolved: a link keeps its own name
    except OSError as error:
        from collectors.errors import RefusedError

        raise RefusedError(f"{path.name}: the current folder is gone") from error
    task = OpenRecording(path=str(path), window=window, counters=counters, timeline=timeline)
    job: Job[Analysed] = Job(name=path.name)
    job.begin(task, limits or Limits())
    return job


def stored_analysis(job: Job[Analysed], on_progress: OnProgress | None = None) -> StoredAnalysis:
    """Wait for a job and return the analysis that it made or found; raises what it failed with."""
    answer = job.wait(on_progress)
    return analyses.at(answer.trace_id, answer.analysis, file_name_text(job.name))


def analyse(trace: Trace, window: str, counters: str = "") -> StoredAnalysis:
    """Analyse a further window of a recording of the library; its timeline is not made.

    Args:
        trace: The recording.
        window: As ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.

    Raises:
        WindowError: The recording has no such window.
        TraceError: As ``open_recording``.
    """
    job: Job[Analysed] = Job(name=trace.source.name)
    job.begin(Analyse(trace_id=trace.id, window=window, counters=counters), Limits())
    return stored_analysis(job)


def begin_timeline(trace: Trace, window: str, counters: str = "") -> Job[Analysed]:
    """Begin to make the timeline of a window, with its analysis unless there is one.

    Arguments are those of ``analyse``; ``stored_analysis`` waits for the answer.
    """
    job: Job[Analysed] = Job(name=trace.source.name)
    job.begin(MakeTimeline(trace_id=trace.id, window=window, counters=counters), Limits())
    return job


def measure(trace: Trace, window: str = "", device: int = -1) -> Side:
    """Return what a recording of the library brings to a comparison.

    Args:
        trace: The recording.
        window: As ``library.comparisons.compare_recordings`` takes it.
        device: Key of the device to compare; -1 for the one that is busy longest.

    Raises:
        WindowError: The recording has no such window or device.
        TraceError: As ``open_recording``.
    """
    from library import comparisons

    if (side := comparisons.load_side(trace, window, device)) is not None:
        return side
    job: Job[Done] = Job(name=trace.source.name)
    job.begin(MeasureSide(trace_id=trace.id, window=window, device=device), Limits())
    job.wait()
    if (side := comparisons.load_side(trace, window, device)) is None:
        raise _vanished(trace.source.name)
    return side


def program_trees(
    trace: Trace, stored: StoredAnalysis, window: str, counters: str = ""
) -> tuple[ProgramTree, ...]:
    """Return the kernel time of an analysed window by place in the program.

    Args:
        trace: The recording.
        stored: The analysis of the window.
        window: As ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.

    Raises:
        TraceError: As ``open_recording``.
    """
    from library import program_trees as kept

    if (trees := kept.load(stored)) is not None:
        return trees
    job: Job[Done] = Job(name=trace.source.name)
    task = MakeProgramTrees(trace_id=trace.id, window=window, counters=counters)
    job.begin(task, Limits())
    job.wait()
    if (trees := kept.load(stored)) is None:
        raise _vanished(trace.source.name)
    return trees


def predict(
    trace: Trace,
    window: Window,
    speed_ups: Sequence[tuple[str, float]] = (),
    on_progress: OnProgress | None = None,
    *,
    is_whole: bool = True,
) -> WhatIf:
    """Return what changes to a recording of the library would gain.

    Args:
        trace: The recording.
        window: The part to predict for.
        speed_ups: Parts of kernel names, and how many times as fast those kernels become.
        on_progress: Called about ten times a second.
        is_whole: Whether that part is not one that somebody chose; see ``predictions.Question``.

    Raises:
        TraceError: As ``open_recording``.
    """
    from library import predictions

    question = predictions.Question(window=window, speed_ups=tuple(speed_ups), is_whole=is_whole)
    if (what_if := predictions.load(trace, question)) is not None:
        return what_if
    job: Job[Done] = Job(name=trace.source.name)
    job.begin(Predict(trace_id=trace.id, question=question), Limits())
    job.wait(on_progress)
    if (what_if := predictions.load(trace, question)) is None:
        raise _vanished(trace.source.name)
    return what_if


def answer_job(path: Path, on_progress: OnProgress | None = None) -> JobAnswer:
    """Return who makes the ranks of a whole job wait.

    Args:
        path: The table of its operations; never changed.
        on_progress: Called about ten times a second.

    Raises:
        RefusedError: The file is no table of operations, or none that can be replayed.
        TraceError: As ``open_recording``.
    """
    from library import fleet

    if (answer := fleet.load(path)) is not None:
        return answer
    job: Job[Done] = Job(name=path.name)
    job.begin(AnswerJob(path=str(path.absolute())), Limits())
    job.wait(on_progress)
    if (answer := fleet.load(path)) is None:
        raise _vanished(path.name)
    return answer


def _vanished(name: str) -> Exception:
    """Return the error for an answer that somebody deleted between its making and its reading."""
    from collectors.errors import EnvironmentFailedError

    return EnvironmentFailedError(f"{name}: its answer vanished from the data folder. Ask again")


def predict_compared(trace: Trace, window: str, warm_up: int) -> WhatIf:
    """Return what changes would gain in the part of a recording that a comparison measured.

    Args:
        trace: A recording of the baseline.
        window: As ``library.comparisons.compare_recordings`` takes it.
        warm_up: Iterations at the beginning that were left out.

    Raises:
        WindowError: The recording has no such window.
        TraceError: As ``open_recording``.
    """
    from library import predictions

    whole = predictions.analysed_window(window)
    stored = analyses.load(trace, whole) or analyse(trace, whole)
    return predict(
        trace,
        predictions.compared_window(stored.report, window, warm_up),
        is_whole=not parse_request(window).window,
    )
