"""A whole capture: which runs there are, one after the other, and what became of each.

Baseline and optimized runs alternate, so that a machine that warms up or slows down does so for
both. nsys and the torch profiler share CUDA's one interface for profilers and cannot record the
same run; each gets runs of its own. Nsight Compute comes last: which kernels it examines is taken
from a timeline of the same capture.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captures import progress, store
from captures.order import (
    ALL,
    WORKLOADS,
    Order,
    check_runnable,
    check_torch,
    commands,
    order_of,
    runs_of,
    stem_of,
)
from captures.store import NO_GPU, Capture, Run, RunState, State
from collectors.capture import guard
from collectors.capture import run as tools
from collectors.errors import EnvironmentFailedError, RefusedError, TraceError
from collectors.processes import kill, with_variable
from collectors.trace import Trace

if TYPE_CHECKING:
    from collectors.telemetry.telemetry import Telemetry
    from library.analyses import Stored

MEASURED = "nvtx:measure"  # the part of a workload's run that is not set-up
SUFFIXES = {"nsys": ".nsys-rep", "torch": ".json.gz", "ncu": ".ncu-rep", "telemetry": ""}
SUMMARY_SUFFIX = ".workload.json"
SAVE_EVERY_S = 1.0  # how far it is; pages look as often

Show = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What opening a recording gave."""

    trace: Trace
    stored: Stored


Opener = Callable[[Path, str], Opened]
"""Opens a recording as the pages do, with a window, and raises what they would show."""


def capture(
    order: Order, open_recording: Opener, show: Show | None = None, job: str = ""
) -> Capture:
    """Carry out ``order`` and return what became of it.

    Args:
        order: What is to be captured.
        open_recording: Opens a recording.
        show: Called about ten times a second with the part done and what is being done.
        job: Name of a capture that was begun by ``captures.store.start``; empty for a new one.

    Raises:
        RefusedError: There is no such workload or program.
        EnvironmentFailedError: The tool is missing, or the disk cannot be written.
    """
    before = store.read(job) if job else None
    known = {"id": job or store.new_id()} | store.own_process()
    if before is not None:
        known["started"] = before.started
    begun = Capture(
        workload=order.workload,
        command=store.shown_command(order.command),
        options=order.options,
        tools=order.wanted,
        repeat=order.repeat,
        **known,
    )
    work = _Work(order, begun, open_recording, show or (lambda _done, _doing: None))
    try:
        _reap_lost()
        work.do()
    except (KeyboardInterrupt, SystemExit):
        work.conclude(State.CANCELLED, "cancelled")
        raise
    except TraceError as error:
        work.conclude(State.FAILED, str(error))
        raise
    except BaseException as error:
        work.conclude(State.FAILED, f"a defect of whyslow ({type(error).__name__})")
        raise
    return work.capture


def _reap_lost() -> None:
    """End what captures left behind whose process and guard were both killed."""
    for old in store.captures():
        if old.state is State.LOST:
            kill(with_variable(guard.MARK, str(old.folder)))


@dataclass
class _Work:
    """A capture while it is carried out."""

    order: Order
    capture: Capture
    open_recording: Opener
    show: Show
    _commands: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _environment: dict[str, str] = field(default_factory=dict)
    _timelines: dict[str, Stored] = field(default_factory=dict)
    _earlier: Sequence[Capture] = ()
    _traps: dict[str, str] = field(default_factory=dict)
    _saved: float = 0.0

    def do(self) -> None:
        """Run everything."""
        self._tell(stage="looking for the tools")
        if store.is_cancel_asked(self.capture):  # after our number can be read, so none is lost
            raise SystemExit(128 + signal.SIGTERM)
        self._earlier = [c for c in store.captures() if c.state is State.DONE]
        self._commands = commands(self.order)
        check_runnable(self._commands.values())
        check_torch(self.order)
        self._check_tools()
        self._tell(runs=runs_of(self.order))
        with self._workloads_to_import():
            for place, run in enumerate(self.capture.runs):
                self._run(place, run)
        runs = self.capture.runs
        failed = [run for run in runs if run.state is RunState.FAILED]
        if failed:
            self.conclude(State.FAILED, f"{len(failed)} of {len(runs)} runs: {failed[0].error}")
        else:
            self.conclude(State.DONE)

    def conclude(self, state: State, error: str = "") -> None:
        """Write down how it ended; a disk that is full now must not hide the reason."""
        cancelled = state is State.CANCELLED
        runs = tuple(
            replace(run, state=RunState.CANCELLED if cancelled else RunState.FAILED, error=error)
            if run.state is RunState.RUNNING or (cancelled and run.state is RunState.WAITING)
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

    def _tell(self, **changes: Any) -> None:
        self.capture = replace(self.capture, **changes)
        store.save(self.capture)

    def _change(self, place: int, **changes: Any) -> Run:
        runs = list(self.capture.runs)
        runs[place] = replace(runs[place], **changes)
        self._tell(runs=tuple(runs))
        return runs[place]

    def _check_tools(self) -> None:
        """Refuse when nothing that was asked for can be had."""
        self.capture.folder.chmod(0o700)  # reports hold environments, logs what programs print
        if self.order.recorders == ("nsys",):
            tools.find_nsys()
        if "ncu" in self.order.wanted and len(self.order.wanted) == 1:
            tools.find_ncu()
        if self.order.out is not None:
            tools.check_folder(self.order.out)

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
            self._environment = {"PYTHONPATH": _before_own_path(code)}
            yield
        finally:
            shutil.rmtree(code, ignore_errors=True)

    def _run(self, place: int, run: Run) -> None:
        """Carry out one run, and note down what became of it."""
        stem = self._stem(run)
        stage = f"{run.tool}: {stem}, run {run.number} of {self._numbers(run)}"
        if run.tool == "nsys" and (trap := self._trap(run.role)):
            stage += f" ({trap})"
        part = place / len(self.capture.runs)
        self._tell(stage=stage, progress=part)
        self.show(part, stage)
        folder = self.order.out or self.capture.folder
        target = _free(folder, f"{stem}-{run.tool}-{run.number}", SUFFIXES[run.tool])
        run = self._change(place, state=RunState.RUNNING, started=time.time())
        summary = self.capture.folder / f"summary-{place}.json"
        try:
            recorded = self._record(place, run, target, summary)
            self._note_recording(place, recorded, target, summary)
            if recorded.path is not None:
                self._reach(place, progress.OPENING, f"opening {target.name}")
                self._open(place, recorded)
            self._judge(place, recorded)
        except _SkippedError as error:
            self._change(place, state=RunState.SKIPPED, error=str(error), ended=time.time())
        except EnvironmentFailedError as error:
            if _is_only_this_tool(error, run.tool) and len(self.order.recorders) > 1:
                self._change(place, state=RunState.SKIPPED, error=str(error), ended=time.time())
            else:
                raise
        except tools.NotForThisError as error:
            state = RunState.SKIPPED if ALL in self.order.tools else RunState.FAILED
            self._change(place, state=state, error=str(error), ended=time.time())
        except RefusedError as error:
            self._change(place, state=RunState.FAILED, error=str(error), ended=time.time())
        finally:
            summary.unlink(missing_ok=True)

    def _stem(self, run: Run) -> str:
        return stem_of(self.order, run.role)

    def _numbers(self, run: Run) -> int:
        return max(r.number for r in self.capture.runs if r.tool == run.tool)

    def _reach(self, place: int, of_run: float, stage: str) -> None:
        """Tell that a run has come to a further stage."""
        part = (place + of_run) / len(self.capture.runs)
        self._tell(stage=stage, progress=part)
        self.show(part, stage)

    def _tick(self, place: int, usual_s: float) -> None:
        """Show how far it is, and write that down now and then."""
        run, now = self.capture.runs[place], time.time()
        part = progress.part_done(
            place, len(self.capture.runs), max(now - run.started, 0.0), usual_s
        )
        part = max(part, self.capture.progress)
        self.show(part, self.capture.stage)
        if part > self.capture.progress and now - self._saved >= SAVE_EVERY_S:
            self._saved = now
            self._tell(progress=part)

    def _record(self, place: int, run: Run, target: Path, summary: Path) -> tools.Recorded:
        """Run the program under the run's tool."""
        options = self._counters_of(run) if run.tool == "ncu" else ()
        usual_s = progress.usual_seconds(run, self.capture, self._earlier)
        reporting = f"nsys: {self._stem(run)} has ended, its report is made"
        with self._sampled(place, target) as telemetry:
            program = tools.Program(
                command=self._commands[run.role],
                folder=self.capture.folder,
                log=self.capture.folder / store.LOG,
                environment=self._environment | {"WHYSLOW_SUMMARY": str(summary)},
                timeout_s=self.order.timeout_s,
                tick=lambda: self._tick(place, usual_s),
                reporting=lambda: self._reach(place, progress.RECORDED, reporting),
                started=telemetry.watch if telemetry is not None else lambda _pid: None,
            )
            if run.tool == "nsys":
                return tools.run_nsys(program, target, whole_graphs=self.order.whole_graphs)
            if run.tool == "ncu":
                return tools.run_ncu(program, target, options)
            if run.tool == "telemetry":
                return tools.run_plain(program)
            if self.order.workload:
                return tools.run_torch(program, target)
            return tools.run_torch_hook(program, target)

    @contextlib.contextmanager
    def _sampled(self, place: int, target: Path) -> Iterator[Telemetry | None]:
        """Sample beside the run, when that was asked for; trouble with it costs no recording."""
        if "telemetry" not in self.order.wanted:
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
        known = self.capture.runs[place].notes
        if fresh := [note for note in notes if note not in known]:
            self._change(place, notes=(*known, *fresh))

    def _counters_of(self, run: Run) -> tuple[str, ...]:
        """Return what to tell ncu: the kernels that hold the time, by this capture's timeline.

        Raises:
            _SkippedError: There is no ncu, no GPU, or no kernel.
        """
        try:
            tools.find_ncu()
        except EnvironmentFailedError as error:
            raise _SkippedError(str(error)) from error
        timeline = self._timelines.get(run.role)
        if timeline is None:
            raise _SkippedError("ncu: no timeline of this capture tells which kernels matter")
        options = ncu_options(timeline)
        if not options:
            raise _SkippedError("ncu: the timeline holds no kernel that could be examined")
        return options

    def _note_recording(
        self, place: int, recorded: tools.Recorded, target: Path, summary: Path
    ) -> None:
        ending = recorded.ending
        kept = target.with_name(target.name + SUMMARY_SUFFIX)
        has_summary = summary.is_file()
        if has_summary:
            shutil.copy2(summary, kept)
        self._change(
            place,
            recording=str(recorded.path.absolute()) if recorded.path is not None else "",
            summary=str(kept.absolute()) if has_summary else "",
            seconds=round(ending.seconds, 3),
            started=ending.began,
            ended=ending.ended,
        )
        self._add_notes(place, recorded.notes)

    def _open(self, place: int, recorded: tools.Recorded) -> None:
        """Open a recording as the pages do; whether that works is what a capture is judged by."""
        run, path = self.capture.runs[place], recorded.path
        assert path is not None
        opened = self._opened(path, run)
        if run.tool in ("nsys", "torch"):
            self._timelines.setdefault(run.role, opened.stored)
        notes = [_counted(opened.trace, Path(run.summary))] if run.summary else []
        if run.tool == "nsys":
            notes.append(self._why_silent(opened.trace, run))
        sentence = opened.stored.report.verdict.sentence
        if not opened.stored.report.devices and not tools.has_gpu():
            sentence = NO_GPU
        self._change(place, trace=opened.trace.id, sentence=sentence)
        self._add_notes(place, [note for note in notes if note])

    def _trap(self, role: str) -> str:
        """Say before a run that nsys is going to miss its ranges; empty when not, or unknown."""
        if role not in self._traps:
            self._traps[role] = ""
            with contextlib.suppress(EnvironmentFailedError):  # no nsys: the run says so
                self._traps[role] = tools.nvtx_trap(self._commands[role])
        return self._traps[role]

    def _why_silent(self, trace: Trace, run: Run) -> str:
        """Say why a recording lacks the ranges that the program opened; empty when it does not."""
        silent = any(note.code == "nvtx_silent" for note in trace.notes)
        if not silent and (range_counts(trace) or not run.summary):
            return ""
        way_out = f"no NVTX range was recorded: {tools.NVTX_WAY_OUT}"
        return self._trap(run.role) or (way_out if silent else "")

    def _opened(self, path: Path, run: Run) -> Opened:
        from analyzers.facts.facts import WindowError

        try:
            try:
                opened = self.open_recording(path, "")
            except RefusedError:  # an export by nsys fails now and then, and works the next time
                if run.tool != "nsys":
                    raise
                opened = self.open_recording(path, "")
            if self.order.workload and run.tool != "ncu":
                with contextlib.suppress(WindowError):
                    return self.open_recording(path, MEASURED)
        except TraceError as error:
            raise type(error)(f"recorded, but cannot be opened: {error}") from error
        return opened

    def _judge(self, place: int, recorded: tools.Recorded) -> None:
        """Say what became of a run whose recording opens, or that needed none."""
        run, trouble = self.capture.runs[place], recorded.ending.trouble()
        if not trouble:
            self._change(place, state=RunState.DONE)
        elif recorded.path is None or (self.order.workload and not run.summary):
            kept = "; what was recorded until then is kept" if recorded.path else ""
            self._change(place, state=RunState.FAILED, error=trouble + kept)
        else:
            self._add_notes(place, [f"{trouble}; what was recorded until then opens"])
            self._change(place, state=RunState.DONE)


def carry_out(chosen: Any, open_recording: Opener, show: Show | None) -> Capture:
    """Carry out what was asked for on the command line; see ``capture``.

    Args:
        chosen: ``workload`` (names), ``command``, ``tools`` (text), ``repeat``, ``out``,
            ``timeout``, ``steps``, ``warmup``, ``seed``, ``device``, ``python``,
            ``whole_graphs``, ``rate`` and ``job``.
        open_recording: Opens a recording.
        show: Called with the progress.
    """
    try:
        order = order_of(chosen)
    except RefusedError as error:
        if chosen.job and (before := store.read(chosen.job)) is not None:
            store.save(replace(before, state=State.FAILED, error=str(error), stage="failed"))
        raise
    return capture(order, open_recording, show, chosen.job)


def check(capture: Capture) -> None:
    """Raise what a capture that did not bring everything amounts to, for the exit status.

    Raises:
        RefusedError: A run failed.
        EnvironmentFailedError: No run was possible.
    """
    if capture.state is State.FAILED:
        raise RefusedError(f"{capture.error}. Log: {capture.folder / store.LOG}")
    if not any(run.state is RunState.DONE for run in capture.runs):
        raise EnvironmentFailedError(capture.runs[0].error)


class _SkippedError(Exception):
    """A tool cannot be used here; the others go on."""


def _free(folder: Path, stem: str, suffix: str) -> Path:
    """Return a name that nothing in ``folder`` begins with; recordings are never overwritten."""
    taken = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    name, number = stem, 1
    while any(t == f"{name}{suffix}" or t.startswith(f"{name}.") for t in taken):
        number += 1
        name = f"{stem}_{number}"
    return (folder / f"{name}{suffix}").absolute()


def _before_own_path(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def _is_only_this_tool(error: EnvironmentFailedError, tool: str) -> bool:
    """Tell whether the tool is missing, rather than the disk full."""
    return str(error).startswith(f"{tool}")


def ncu_options(stored: Stored) -> tuple[str, ...]:
    """Return the options of ncu for the kernels that hold the time; empty when there are none."""
    from analyzers.losses.ncu_command import to_cover

    kernels = stored.kernels()
    if not len(kernels):
        return ()
    given = kernels.rename(columns={"total_ns": "ns", "count": "launches"})
    words = shlex.split(to_cover(given[["name", "ns", "launches"]]))
    return tuple(words[1 : words.index("-o")]) if words else ()


def _counted(trace: Trace, summary: Path) -> str:
    """Compare how often each range was recorded with how often the workload opened it."""
    try:
        opened: Mapping[str, int] = json.loads(summary.read_text(encoding="utf-8"))["ranges"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if trace.source.format.startswith("ncu"):
        return ""
    recorded = range_counts(trace)
    found = sum(min(recorded[name], count) for name, count in opened.items())
    told = f"{found:,} of the {sum(opened.values()):,} ranges that it opened were recorded"
    wrong = [f"{n}: {recorded[n]:,} of {c:,}" for n, c in opened.items() if recorded[n] != c]
    return f"{told} ({', '.join(wrong[:4])})" if wrong else told


def range_counts(trace: Trace) -> Counter[str]:
    """Return how often each range, in a torch trace each annotation, was recorded."""
    import numpy as np

    counts: Counter[str] = Counter()
    if trace.has("ranges"):
        ids, numbers = np.unique(
            trace.columns("ranges", ["name_id"])["name_id"], return_counts=True
        )
        texts = map(str, trace.names(ids))
        for text, number in zip(texts, numbers.tolist(), strict=True):
            counts[text] += number
    return counts
