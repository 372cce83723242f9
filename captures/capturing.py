"""A whole capture: which runs there are, one after the other, and what became of each.

Baseline and optimized runs alternate, so that a machine that warms up or slows down does so for
both. nsys and the torch profiler share CUDA's one interface for profilers and cannot record the
same run; each gets runs of its own. Nsight Compute comes last: which kernels it examines is taken
from a timeline of the same capture.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captures import progress, store
from captures.files import SUFFIXES, SUMMARY_SUFFIX, before_own_path, free_path
from captures.opening import AnalysedRecording, Opener, ncu_options, range_counts, range_sentence
from captures.order import (
    ALL,
    WORKLOADS,
    Order,
    check_torch,
    checked_commands,
    order_of,
    runs_of,
    stem_of,
)
from captures.outcomes import NOT_BEGUN, ending_of, outcome_of
from captures.store import NO_GPU, Capture, Run, RunState, State
from collectors.capture import guard
from collectors.capture.ncu import run_ncu
from collectors.capture.nsys import run_nsys
from collectors.capture.recorded import (
    NotForThisError,
    Recorded,
    StoppedError,
    check_folder,
    keep,
    run_plain,
)
from collectors.capture.run import GuardedProgram
from collectors.capture.tools import NVTX_WAY_OUT, find_ncu, find_nsys, has_gpu, nvtx_trap
from collectors.capture.torch import run_torch, run_torch_hook
from collectors.errors import (
    EnvironmentFailedError,
    ProgramFailedError,
    RefusedError,
    TraceError,
)
from collectors.processes import kill, with_variable
from collectors.trace import Trace
from common.platform import CAN_CAPTURE

if TYPE_CHECKING:
    from collectors.telemetry.telemetry import Telemetry
    from library.analyses import StoredAnalysis

MEASURED = "nvtx:measure"  # the part of a workload's run that is not set-up
SAVE_EVERY_S = 1.0  # the progress; pages read it as often
Show = Callable[[float, str], None]
StopAsked = Callable[[], bool]


def capture(
    order: Order,
    open_recording: Opener,
    show: Show | None = None,
    job: str = "",
    stop_asked: StopAsked = lambda: False,
) -> Capture:
    """Carry out ``order`` and return what became of it.

    What cannot be run is refused before anything is written.

    Args:
        order: What is to be captured.
        open_recording: Opens a recording.
        show: Called about ten times a second with the part done and what is being done.
        job: Name of a capture that was begun by ``captures.store.start``; empty for a new one.
        stop_asked: Whether to end the program that runs, keep what was recorded, and begin no
            other run.

    Raises:
        RefusedError: There is no such workload, program or place.
        EnvironmentFailedError: The tool is missing, or the disk cannot be written.
    """
    if not CAN_CAPTURE:
        raise RefusedError(
            "capture: programs are recorded on Linux only. Record there, and open the file here"
        )
    runnable = checked_commands(order)
    if order.out is not None:
        check_folder(order.out)
    before = store.read(job) if job else None
    identity = {"id": job or store.new_id()} | store.own_process()
    if before is not None:
        identity["started"] = before.started
    begun = Capture(
        workload=order.workload,
        command=store.shown_command(order.command),
        options=order.options,
        tools=order.chosen_tools,
        repeat=order.repeat,
        **identity,
    )
    running = _CaptureInProgress(
        order=order,
        capture=begun,
        commands=runnable,
        open_recording=open_recording,
        show=show or (lambda _done, _doing: None),
        stop_asked=stop_asked,
    )
    try:
        _reap_lost()
        running.do()
    except (KeyboardInterrupt, SystemExit):
        running.conclude(State.CANCELLED, "cancelled")
        raise
    except TraceError as error:
        running.conclude(State.FAILED, str(error))
        raise
    except BaseException as error:
        running.conclude(State.FAILED, f"a bug in whyslow ({type(error).__name__})")
        raise
    return running.capture


def _reap_lost() -> None:
    """End processes of captures whose own process and guard were both killed."""
    for old in store.captures():
        if old.state is State.LOST:
            kill(with_variable(guard.MARK, str(old.folder)))


@dataclass
class _CaptureInProgress:
    """A capture while it is carried out."""

    order: Order
    capture: Capture
    commands: dict[str, tuple[str, ...]]
    open_recording: Opener
    show: Show
    stop_asked: StopAsked
    _environment: dict[str, str] = field(default_factory=dict)
    _timelines: dict[str, StoredAnalysis] = field(default_factory=dict)
    _earlier: Sequence[Capture] = ()
    _traps: dict[str, str] = field(default_factory=dict)
    _saved: float = 0.0

    def do(self) -> None:
        """Run everything."""
        self._save(stage="looking for the tools")
        if store.is_cancel_asked(self.capture):  # read after our pid was stored
            raise SystemExit(128 + signal.SIGTERM)
        self._earlier = [c for c in store.captures() if c.state is State.DONE]
        check_torch(self.order)
        self._check_tools()
        self._save(runs=runs_of(self.order))
        with self._workloads_to_import():
            for place, run in enumerate(self.capture.runs):
                if not self.stop_asked():
                    self._run(place, run)
        self.conclude(*ending_of(self.capture.runs))

    def conclude(self, state: State, error: str = "") -> None:
        """Store how it ended; a disk that is full now must not hide the reason."""
        cancelled = state is State.CANCELLED
        over = {RunState.RUNNING: (RunState.CANCELLED if cancelled else RunState.FAILED, error)}
        if cancelled:
            over[RunState.WAITING] = (RunState.CANCELLED, NOT_BEGUN)
        runs = tuple(
            replace(run, state=over[run.state][0], error=over[run.state][1])
            if run.state in over
            else run
            for run in self.capture.runs
        )
        self.capture = replace(
            self.capture,
            state=state,
            runs=runs,
            error=error,
            stage=str(state),
            progress=1.0,
            ended=time.time(),
        )
        with contextlib.suppress(TraceError):
            store.save(self.capture)

    def _save(self, **changes: Any) -> None:
        self.capture = replace(self.capture, **changes)
        store.save(self.capture)

    def _change(self, place: int, **changes: Any) -> Run:
        runs = list(self.capture.runs)
        runs[place] = replace(runs[place], **changes)
        self._save(runs=tuple(runs))
        return runs[place]

    def _check_tools(self) -> None:
        """Refuse when none of the requested tools is there."""
        self.capture.folder.chmod(0o700)  # reports hold environments, logs what programs print
        if self.order.recorders == ("nsys",):
            find_nsys()
        if "ncu" in self.order.chosen_tools and len(self.order.chosen_tools) == 1:
            find_ncu()

    @contextlib.contextmanager
    def _workloads_to_import(self) -> Iterator[None]:
        """Let another interpreter import the workloads, and nothing else of this installation."""
        if not self.order.workload:
            yield
            return
        code = self.capture.folder / "code"
        try:
            with contextlib.suppress(FileExistsError):
                code.mkdir(parents=True, exist_ok=True)
                (code / WORKLOADS.name).symlink_to(WORKLOADS)
            self._environment = {"PYTHONPATH": before_own_path(code)}
            yield
        finally:
            shutil.rmtree(code, ignore_errors=True)

    def _run(self, place: int, run: Run) -> None:
        """Carry out one run, and record its outcome."""
        stem = self._stem(run)
        stage = f"{run.tool}: {stem}, run {run.number} of {self._numbers(run)}"
        if run.tool == "nsys" and (trap := self._trap(run.role)):
            stage += f" ({trap})"
        part = place / len(self.capture.runs)
        self._save(stage=stage, progress=part)
        self.show(part, stage)
        folder = self.order.out or self.capture.folder
        target = free_path(folder, f"{stem}-{run.tool}-{run.number}", SUFFIXES[run.tool])
        run = self._change(place, state=RunState.RUNNING, started=time.time())
        summary = self.capture.folder / f"summary-{place}.json"
        was_cut = False
        try:
            recorded = self._record(place, run, target, summary)
            was_cut = recorded.ending.stopped
            self._note_recording(place, recorded, target, summary)
            if recorded.path is not None:
                self._enter_stage(place, progress.OPENING, f"opening {target.name}")
                self._open(place, recorded)
            self._judge(place, recorded)
        except _SkippedError as error:
            self._change(place, state=RunState.SKIPPED, error=str(error), ended=time.time())
        except EnvironmentFailedError as error:
            if _is_only_this_tool(error, run.tool) and len(self.order.recorders) > 1:
                self._change(place, state=RunState.SKIPPED, error=str(error), ended=time.time())
            else:
                raise
        except NotForThisError as error:
            state = RunState.SKIPPED if ALL in self.order.tools else RunState.FAILED
            self._change(place, state=state, error=str(error), ended=time.time())
        except ProgramFailedError as error:
            failed = {"state": RunState.FAILED, "error": str(error), "failure": str(error)}
            self._change(place, **failed, ended=time.time())
        except RefusedError as error:
            was_cut |= isinstance(error, StoppedError)
            state = RunState.CANCELLED if was_cut else RunState.FAILED
            self._change(place, state=state, error=str(error), ended=time.time())
        finally:
            summary.unlink(missing_ok=True)

    def _stem(self, run: Run) -> str:
        return stem_of(self.order, run.role)

    def _numbers(self, run: Run) -> int:
        return max(r.number for r in self.capture.runs if r.tool == run.tool)

    def _enter_stage(self, place: int, of_run: float, stage: str) -> None:
        """Record that a run has entered a further stage."""
        part = (place + of_run) / len(self.capture.runs)
        self._save(stage=stage, progress=part)
        self.show(part, stage)

    def _tick(self, place: int, usual_s: float) -> None:
        """Show the progress, and store it now and then."""
        run, now = self.capture.runs[place], time.time()
        part = progress.part_done(
            place, len(self.capture.runs), max(now - run.started, 0.0), usual_s
        )
        part = max(part, self.capture.progress)
        self.show(part, self.capture.stage)
        if part > self.capture.progress and now - self._saved >= SAVE_EVERY_S:
            self._saved = now
            self._save(progress=part)

    def _record(self, place: int, run: Run, target: Path, summary: Path) -> Recorded:
        """Run the program under the run's tool."""
        options = self._counters_of(run) if run.tool == "ncu" else ()
        usual_s = progress.usual_seconds(run, self.capture, self._earlier)
        reporting = f"nsys: {self._stem(run)} has ended, its report is being written"
        with self._sampled(place, target) as telemetry:
            program = GuardedProgram(
                command=self.commands[run.role],
                folder=self.capture.folder,
                log=self.capture.folder / store.LOG,
                environment=self._environment | {"WHYSLOW_SUMMARY": str(summary)},
                timeout_s=self.order.timeout_s,
                tick=lambda: self._tick(place, usual_s),
                reporting=lambda: self._enter_stage(place, progress.RECORDED, reporting),
                stop_asked=self.stop_asked,
                started=telemetry.watch if telemetry is not None else lambda _pid: None,
            )
            if run.tool == "nsys":
                return run_nsys(program, target, whole_graphs=self.order.whole_graphs)
            if run.tool == "ncu":
                return run_ncu(program, target, options)
            if run.tool == "telemetry":
                return run_plain(program)
            if self.order.workload:
                return run_torch(program, target)
            return run_torch_hook(program, target)

    @contextlib.contextmanager
    def _sampled(self, place: int, target: Path) -> Iterator[Telemetry | None]:
        """Sample beside the run, when that was asked for; an error in it costs no recording."""
        if "telemetry" not in self.order.chosen_tools:
            yield None
            return
        from collectors.telemetry import telemetry

        path = telemetry.beside(target)
        rate_hz = self.order.rate_hz or telemetry.RATE_HZ
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sampling = telemetry.start(path, rate_hz=rate_hz)
        except (EnvironmentFailedError, OSError) as error:
            if self.order.recorders == ("telemetry",):
                raise EnvironmentFailedError(str(error)) from error
            self._add_notes(place, [f"no telemetry: {error}"])
            yield None
            return
        try:
            self._change(place, telemetry=str(path))
            yield sampling
        finally:
            ended = sampling.stop()
            trouble = [f"telemetry ended early: {ended.error}"] if ended.error else []
            self._add_notes(place, [*trouble, *ended.notes])

    def _add_notes(self, place: int, notes: Sequence[str]) -> None:
        earlier = self.capture.runs[place].notes
        if fresh := [note for note in notes if note not in earlier]:
            self._change(place, notes=(*earlier, *fresh))

    def _counters_of(self, run: Run) -> tuple[str, ...]:
        """Return the options of ncu for the kernels that take the time, by this capture's timeline.

        Raises:
            _SkippedError: There is no ncu, no GPU, or no kernel.
        """
        try:
            find_ncu()
        except EnvironmentFailedError as error:
            raise _SkippedError(str(error)) from error
        timeline = self._timelines.get(run.role)
        if timeline is None:
            raise _SkippedError("ncu: no timeline of this capture shows which kernels matter")
        options = ncu_options(timeline)
        if not options:
            raise _SkippedError("ncu: the timeline has no kernel to examine")
        return options

    def _note_recording(self, place: int, recorded: Recorded, target: Path, summary: Path) -> None:
        ending = recorded.ending
        kept = target.with_name(target.name + SUMMARY_SUFFIX)
        has_summary = summary.is_file()
        if has_summary:
            keep(summary, kept)
        self._change(
            place,
            recording=str(recorded.path.absolute()) if recorded.path is not None else "",
            summary=str(kept.absolute()) if has_summary else "",
            seconds=round(ending.seconds, 3),
            started=ending.began,
            ended=ending.ended,
        )
        self._add_notes(place, recorded.notes)

    def _open(self, place: int, recorded: Recorded) -> None:
        """Open a recording as the pages do; whether that works is what a capture is judged by."""
        run, path = self.capture.runs[place], recorded.path
        assert path is not None
        recording = self._analysed(path, run)
        if run.tool in ("nsys", "torch"):
            self._timelines.setdefault(run.role, recording.stored)
        notes = [range_sentence(recording.trace, Path(run.summary))] if run.summary else []
        if run.tool == "nsys":
            notes.append(self._why_silent(recording.trace, run))
        sentence = recording.stored.report.verdict.sentence
        if not recording.stored.report.devices and not has_gpu():
            sentence = NO_GPU
        self._change(place, trace=recording.trace.id, sentence=sentence)
        self._add_notes(place, [note for note in notes if note])

    def _trap(self, role: str) -> str:
        """Say before a run that nsys is going to miss its ranges; empty when not, or unknown."""
        if role not in self._traps:
            self._traps[role] = ""
            with contextlib.suppress(EnvironmentFailedError):  # no nsys: the run says so
                self._traps[role] = nvtx_trap(self.commands[role])
        return self._traps[role]

    def _why_silent(self, trace: Trace, run: Run) -> str:
        """Say why a recording lacks the ranges that the program opened; empty when it does not."""
        silent = any(note.code == "nvtx_silent" for note in trace.notes)
        if not silent and (range_counts(trace) or not run.summary):
            return ""
        way_out = f"no NVTX range was recorded: {NVTX_WAY_OUT}"
        return self._trap(run.role) or (way_out if silent else "")

    def _analysed(self, path: Path, run: Run) -> AnalysedRecording:
        from analyzers.facts.facts import WindowError

        try:
            try:
                recording = self.open_recording(path, "")
            except RefusedError:  # an export by nsys fails now and then, and works the next time
                if run.tool != "nsys":
                    raise
                recording = self.open_recording(path, "")
            if self.order.workload and run.tool != "ncu":
                with contextlib.suppress(WindowError):
                    return self.open_recording(path, MEASURED)
        except TraceError as error:
            raise type(error)(f"recorded, but cannot be opened: {error}") from error
        return recording

    def _judge(self, place: int, recorded: Recorded) -> None:
        """Record the outcome of a run whose recording opens, or that needed none."""
        run = self.capture.runs[place]
        is_whole = not self.order.workload or bool(run.summary)
        outcome = outcome_of(recorded, is_whole=is_whole)
        self._change(place, state=outcome.state, error=outcome.error, failure=outcome.failure)
        self._add_notes(place, outcome.notes)


def carry_out(
    chosen: Any,
    open_recording: Opener,
    show: Show | None,
    stop_asked: StopAsked = lambda: False,
) -> Capture:
    """Carry out what the command line asks for; see ``capture``.

    Args:
        chosen: ``workload`` (names), ``command``, ``tools`` (text), ``repeat``, ``out``,
            ``timeout``, ``steps``, ``warmup``, ``seed``, ``device``, ``python``,
            ``whole_graphs``, ``rate`` and ``job``.
        open_recording: Opens a recording.
        show: Called with the progress.
        stop_asked: As ``capture`` takes it.
    """
    try:
        return capture(order_of(chosen), open_recording, show, chosen.job, stop_asked)
    except RefusedError as error:
        before = store.read(chosen.job) if chosen.job else None
        if before is not None and not before.is_over:
            store.save(replace(before, state=State.FAILED, error=str(error), stage="failed"))
        raise


class _SkippedError(Exception):
    """A tool cannot be used here; the others continue."""


def _is_only_this_tool(error: EnvironmentFailedError, tool: str) -> bool:
    """Tell whether the tool is missing, rather than the disk full."""
    return str(error).startswith(f"{tool}")
