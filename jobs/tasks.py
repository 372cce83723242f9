"""What a child process can be asked to do: one type for each task, with its fields and ``run``.

JobOrder and answer travel as the JSON of these types. Everything about a recording is computed by
one of them; a new task is a class here, a member of ``AnyTask``, and a function in ``jobs.api``.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec

from jobs import steps
from jobs.limits import Limits
from jobs.steps import READING_SHARE, ReportProgress
from library import cache, sampled_clocks
from library.predictions import Question


class Analysed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer of a task that makes an analysis: where the library keeps it.

    Attributes:
        trace_id: The recording.
        analysis: Folder name of the analysis under the recording.
    """

    trace_id: str
    analysis: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The answer of a task whose result is kept under a name that its fields determine."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Why there is no answer.

    Attributes:
        error: Class name of the exception, or ``OutOfMemory``.
        message: Its line; empty when the parent knows more than the child.
        choices: Names of the recordings in an archive, one of which has to be chosen.
    """

    error: str
    message: str = ""
    choices: tuple[str, ...] = ()


class LibraryTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task about a recording of the library.

    Attributes:
        trace_id: The recording.
    """

    trace_id: str

    # The C library gives freed memory back at once, which halves the peak and costs time.
    gives_memory_back: ClassVar[bool] = True

    @property
    def place(self) -> Path:
        """The file or folder that no other job may work on meanwhile."""
        return cache.cache_root() / self.trace_id


class OpenRecording(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read a recording, unless the library has it, and analyse a window of it.

    Attributes:
        path: The recording; never changed.
        window: Part to analyse, as ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.
        timeline: Whether somebody is going to look at the timeline, so that its index is made.
    """

    path: str
    window: str = ""
    counters: str = ""
    timeline: bool = True

    gives_memory_back: ClassVar[bool] = True

    @property
    def place(self) -> Path:
        """The file or folder that no other job may work on meanwhile."""
        return Path(self.path)

    def run(self, report: ReportProgress) -> Analysed:
        """Do it; a copy in the library that turns out to be damaged is read anew, once.

        Raises:
            TraceError: The recording cannot be read.
            WindowError: It has no such window.
            OSError: The disk cannot be read or written.
        """
        trace = cache.find(self.place)
        if trace is None:
            trace = steps.read(self.place, report)
        sampled_clocks.keep(self.place, trace)
        try:
            stored = steps.analyse(trace, self.window, self.counters, report, self.timeline)
        except Exception as error:
            if not steps.is_damage(error):
                raise
            cache.remove(trace.id)
            if self.counters:  # whose table it is does not show: both are read anew next time
                cache.remove(self.counters)
                raise
            trace = steps.read(self.place, report)
            sampled_clocks.keep(self.place, trace)
            stored = steps.analyse(trace, self.window, "", report, self.timeline)
        if self.timeline:
            steps.add_telemetry(self.place, stored)
        return Analysed(trace_id=stored.trace_id, analysis=stored.folder.name)


class Analyse(LibraryTask, frozen=True, kw_only=True, tag=True):
    """Analyse a further window of a recording of the library.

    Attributes:
        window: As ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.
    """

    window: str = ""
    counters: str = ""

    def run(self, report: ReportProgress) -> Analysed:
        """Do it; raises what `OpenRecording.run` raises."""
        return _analyse_window(self, report, timeline=False)


class MakeTimeline(LibraryTask, frozen=True, kw_only=True, tag=True):
    """Make what the canvas draws of a window, and its analysis unless there is one.

    Attributes:
        window: As ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.
    """

    window: str = ""
    counters: str = ""

    def run(self, report: ReportProgress) -> Analysed:
        """Do it; raises what `OpenRecording.run` raises."""
        return _analyse_window(self, report, timeline=True)


def _analyse_window(
    task: Analyse | MakeTimeline, report: ReportProgress, *, timeline: bool
) -> Analysed:
    trace = cache.get(task.trace_id)
    try:
        stored = steps.analyse(trace, task.window, task.counters, report, timeline)
    except Exception as error:
        if task.counters and steps.is_damage(error):  # it may be theirs: read anew next time
            cache.remove(task.counters)
        raise
    return Analysed(trace_id=stored.trace_id, analysis=stored.folder.name)


class MeasureSide(LibraryTask, frozen=True, kw_only=True, tag=True):
    """Measure what a recording brings to a comparison, and keep it beside the recording.

    Attributes:
        window: As ``library.comparisons.compare_recordings`` takes it.
        device: Key of the device to compare; -1 for the one that is busy longest.
    """

    window: str = ""
    device: int = -1

    # Needs little memory: there the pages that are given back cost more than they save.
    gives_memory_back: ClassVar[bool] = False

    def run(self, report: ReportProgress) -> Done:
        """Do it; raises what `OpenRecording.run` raises."""
        from library import comparisons

        report(READING_SHARE, "measuring iterations")
        comparisons.measure_side(cache.get(self.trace_id), self.window, self.device)
        return Done()


class MakeProgramTrees(LibraryTask, frozen=True, kw_only=True, tag=True):
    """Divide the kernel time of a window by place in the program, and keep it.

    Attributes:
        window: As ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.
    """

    window: str = ""
    counters: str = ""

    def run(self, report: ReportProgress) -> Done:
        """Do it; raises what `OpenRecording.run` raises."""
        from library import program_trees

        trace = cache.get(self.trace_id)
        stored = steps.analyse(trace, self.window, self.counters, report, timeline=False)
        report(READING_SHARE, "looking for modules and ranges")
        program_trees.made(trace, stored)
        return Done()


class Predict(LibraryTask, frozen=True, kw_only=True, tag=True):
    """Predict what changes to a program would gain, and keep it beside the recording.

    Attributes:
        question: The window and the changes.
    """

    question: Question

    def run(self, report: ReportProgress) -> Done:
        """Do it; raises what `OpenRecording.run` raises."""
        from library import predictions

        report(READING_SHARE, "replaying the recording")
        predictions.predicted(cache.get(self.trace_id), self.question)
        return Done()


class AnswerJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say who makes the ranks of a whole job wait, and keep the answer.

    Attributes:
        path: The table of its operations; never changed.
    """

    path: str

    gives_memory_back: ClassVar[bool] = True

    @property
    def place(self) -> Path:
        """The file that no other job may work on meanwhile."""
        return Path(self.path)

    def run(self, report: ReportProgress) -> Done:
        """Do it.

        Raises:
            RefusedError: The file is no table of operations, or none that can be replayed.
            OSError: The disk cannot be read or written.
        """
        from library import fleet

        report(0.0, "reading operations")
        fleet.made(self.place)
        return Done()


AnyTask = (
    AnswerJob | OpenRecording | Analyse | MakeTimeline | MeasureSide | MakeProgramTrees | Predict
)
AnyAnswer = Analysed | Done | Failure


class JobOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a child process is started for.

    Attributes:
        task: What to do.
        limits: What it may cost.
    """

    task: AnyTask
    limits: Limits
