"""The child process in which every recording is parsed and analysed, under limits.

Whatever a hostile or huge file does, it does it there: crash, hang, eat memory, fill the disk.
The parent sees an exit status and a small JSON answer, and turns every way to die into one line.
Parent and child share a folder: ``order.json`` (what to do), ``progress.json`` (how far it is),
``result.json`` (the answer) and ``log.txt`` (what the child printed).

Nothing heavy is imported here, so that a second look at a recording stays instant.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from common.text import file_name_text
from library import analyses, cache, sidecars
from timeline.places import has_timeline

if TYPE_CHECKING:
    from analyzers.compare.side import Side
    from analyzers.facts.spans import Window
    from analyzers.whatif.whatif import WhatIf
    from collectors.trace import Trace
    from library.analyses import Stored

GIB = 1 << 30
MAX_LIMIT = 1e9  # GB or seconds; more does not fit into what the system counts with
POLL_S = 0.05
PATIENCE_S = 1.0  # until what was killed is gone; an answer does not wait longer for it
PROGRESS_EVERY_S = 0.1
READING_SHARE = 0.75  # of the time from file to verdict; the rest is the analysis
MAX_ANSWER_BYTES = 1 << 20
TIGHT, TIGHT_SHARE = "memory-is-tight", 0.85  # of the address space; the rest goes in one piece
JOB_VARIABLE = "WHYSLOW_JOB"  # marks every process that is started for a job
MAX_LINE = 300  # characters; longer ones are names that someone made up
OUT_OF_MEMORY, OUT_OF_SPACE, FILE_TOO_LARGE = (
    86,
    87,
    88,
)  # exit status when not even the answer could be written

_CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
_COMMAND = (sys.executable, "-P", "-m", "jobs.job")  # -P: the job's folder holds no code
_ROOT = str(Path(__file__).resolve().parents[1])

# Threads and libraries report a refused reservation in their own words.
_MEMORY_WORDS = (
    "bad_alloc",
    "MemoryError",
    "can't start new thread",
    "annot allocate memory",
    "failed to map segment",
)

# One arena and one helper thread each reserve address space, which is what the limit counts; on
# a machine with many cores the defaults alone would use it up. Nothing here is linear algebra.
_CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "4",
    # Left alone, malloc keeps freed columns of up to 32 MB for later: a third of the peak.
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "PYTHONWARNINGS": "default",
    "PYTHONFAULTHANDLER": "1",  # a crash leaves its place in the log
}
# Code is found as in the parent; tokens and preloaded libraries stay behind.
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TZ")
_KEPT_PREFIXES = ("LC_", "WHYSLOW_", "XDG_", "COV_")


Answer = TypeVar("Answer")


def _limit(name: str, default: float) -> float:
    variable = f"WHYSLOW_LIMIT_{name}"
    try:
        value = float(os.environ.get(variable) or default)
    except ValueError:
        value = -1.0
    if not 0 < value <= MAX_LIMIT:
        from collectors.errors import EnvironmentFailedError

        raise EnvironmentFailedError(f"{variable}: not a number above 0, at most {MAX_LIMIT:g}")
    return value


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one recording may cost; each is set by the environment variable in brackets.

    Attributes:
        memory_gb: Address space (``WHYSLOW_LIMIT_MEMORY_GB``, 8). Libraries reserve two to three
            times what they use, so this allows about 3 GB; 8 million rows need 1.5 GB.
        cpu_s: Processor seconds over all threads (``WHYSLOW_LIMIT_CPU_S``, 7,200).
        file_gb: Size of any file that is written (``WHYSLOW_LIMIT_FILE_GB``, 64).
        wall_s: Seconds until an answer (``WHYSLOW_LIMIT_WALL_S``, 3,600); twice what nsys gets.
    """

    memory_gb: float = field(default_factory=lambda: _limit("MEMORY_GB", 8.0))
    cpu_s: float = field(default_factory=lambda: _limit("CPU_S", 7_200.0))
    file_gb: float = field(default_factory=lambda: _limit("FILE_GB", 64.0))
    wall_s: float = field(default_factory=lambda: _limit("WALL_S", 3_600.0))


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        fraction: 0 to 1.
        stage: What is being done.
        done: True when there is an answer.
        error: The line that says why there is no trace; empty when all is well.
        trace_id: The trace, once it is ready.
    """

    fraction: float
    stage: str
    done: bool = False
    error: str = ""
    trace_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A recording that is ready to be looked at."""

    trace: Trace
    stored: Stored


def open_recording(
    path: Path,
    *,
    window: str = "",
    limits: Limits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Opened:
    """Read and analyse the recording at ``path``, or take both from the cache.

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
    job = start(path, window=window, limits=limits)
    stored = job.wait(on_progress)
    return Opened(trace=cache.named(cache.get(stored.trace_id), stored.name), stored=stored)


def use_recording(
    path: Path,
    use: Callable[[Opened], Answer],
    *,
    window: str = "",
    limits: Limits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Answer:
    """Open the recording at ``path`` and return what ``use`` makes of it.

    What was stored may turn out to be damaged only while it is read. Then the recording is opened
    anew, and ``use`` is called a second time.

    Raises:
        DamagedError: What was stored anew is damaged again.
        TraceError: As ``open_recording``.
    """
    from collectors.errors import DamagedError

    opened = open_recording(path, window=window, limits=limits, on_progress=on_progress)
    try:
        return use(opened)
    except DamagedError:
        cache.remove(opened.trace.id)
    return use(open_recording(path, window=window, limits=limits, on_progress=on_progress))


def start(
    path: Path,
    *,
    window: str = "",
    counters: str = "",
    timeline: bool = True,
    limits: Limits | None = None,
) -> Job:
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
    name = file_name_text(path.name)
    stored = analyses.find(folder, window, name, counters) if folder is not None else None
    ready = stored is not None and (not timeline or has_timeline(stored))
    if ready and timeline and folder is not None:
        ready = not sidecars.telemetry_is_missing(path, folder)
    if ready:
        return Job(name=path.name, stored=stored)
    try:
        path = path.absolute()  # not resolved: a link keeps its own name
    except OSError as error:
        raise _failure("RefusedError", f"{path.name}: the current folder is gone") from error
    job = Job(name=path.name)
    job._launch(path, window, counters, limits or Limits(), timeline=timeline)
    return job


def analyse(trace: Trace, window: str, counters: str = "") -> Stored:
    """Analyse a further window of a recording that the library has, in a child process.

    Args:
        trace: The recording.
        window: As ``analyzers.analyze`` takes it.
        counters: Id of a recording of the library whose counters are joined; empty for none.

    Raises:
        WindowError: The recording has no such window.
        TraceError: As ``open_recording``.
    """
    return begin_analysis(trace, window, counters).wait()


def begin_analysis(trace: Trace, window: str, counters: str = "") -> Job:
    """Begin to analyse a further window, with its timeline, and return at once; see ``analyse``."""
    job = Job(name=trace.source.name)
    job._launch(trace.folder, window, counters, Limits())
    return job


def measure(trace: Trace, window: str = "", device: int = -1) -> Side:
    """Return what a recording of the library brings to a comparison, from a child process.

    Args:
        trace: The recording.
        window: As ``library.comparisons.compare_recordings`` takes it.
        device: Key of the device to compare; -1 for the one that is busy longest.

    Raises:
        WindowError: The recording has no such window or device.
        TraceError: As ``open_recording``.
    """
    from library import comparisons

    if (kept := comparisons.load_side(trace, window, device)) is not None:
        return kept
    job = Job(name=trace.source.name)
    job._launch(trace.folder, window, "", Limits(), timeline=False, side=str(device))
    job.wait()
    return comparisons.measure_side(trace, window, device)


def predict(
    trace: Trace,
    window: Window,
    speed_ups: Sequence[tuple[str, float]] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> WhatIf:
    """Return what changes to a recording of the library would win, from a child process.

    Args:
        trace: The recording.
        window: The part to predict for.
        speed_ups: Parts of kernel names, and how many times as fast those kernels become.
        on_progress: Called about ten times a second.

    Raises:
        TraceError: As ``open_recording``.
    """
    from library import predictions

    question = predictions.Question(window=window, speed_ups=tuple(speed_ups))
    if (kept := predictions.load(trace, question)) is not None:
        return kept
    job = Job(name=trace.source.name)
    job._launch(trace.folder, "", "", Limits(), timeline=False, what_if=question.text())
    job.wait(on_progress)
    return predictions.predicted(trace, question)


def predict_compared(trace: Trace, window: str, warm_up: int) -> WhatIf:
    """Return what changes would win in the part of a recording that a comparison measured.

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
    return predict(trace, predictions.compared_window(stored.report, window, warm_up))


class Job:
    """A recording that is being opened by a child process.

    Attributes:
        id: Names the job, and its folder as long as there is one.
        name: File name of the recording.
    """

    def __init__(self, *, name: str, stored: Stored | None = None) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.name = name
        self._stored = stored
        self._error: Exception = RuntimeError("not asked to do anything")
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._folder = cache.jobs_root() / self.id
        self._reached = Progress(fraction=0.0, stage="starting")
        if stored is not None:
            self._done.set()

    def progress(self) -> Progress:
        """Return how far the job is; never raises and never waits."""
        if not self._done.is_set():
            return self._last_words()
        if self._stored is None:
            return Progress(fraction=1.0, stage="failed", done=True, error=one_line(self._error))
        return Progress(fraction=1.0, stage="ready", done=True, trace_id=self._stored.trace_id)

    def wait(self, on_progress: Callable[[Progress], None] | None = None) -> Stored:
        """Wait for the analysis and return it; raises what ``open_recording`` raises."""
        try:
            while not self._done.wait(PROGRESS_EVERY_S):
                if on_progress is not None:
                    on_progress(self.progress())
        except BaseException:  # interrupted, or nobody is left to look at the progress
            self.cancel()
            raise
        if self._stored is None:
            raise self._error
        return self._stored

    def cancel(self) -> None:
        """Stop the job; does nothing when it has ended."""
        self._cancelled.set()
        self._done.wait(timeout=5.0)

    def _launch(  # noqa: PLR0913 - what the child is told to do
        self,
        path: Path,
        window: str,
        counters: str,
        limits: Limits,
        *,
        timeline: bool = True,
        side: str = "",
        what_if: str = "",
    ) -> None:
        cache.sweep()
        running = contextlib.ExitStack()
        running.enter_context(cache.job_running())
        try:
            with cache.writing():
                order = {"path": str(path), "window": window, "counters": counters}
                order["timeline"] = "made" if timeline else ""
                order |= {"side": side, "what_if": what_if}
                process = _start_child(self._folder, order, limits)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            running.close()
            raise
        watcher = threading.Thread(target=self._watch, args=(process, limits, running), daemon=True)
        watcher.start()

    def _watch(
        self, process: subprocess.Popen[bytes], limits: Limits, running: contextlib.ExitStack
    ) -> None:
        """Wait for the child, stop it when its time is up, and keep its answer."""
        try:
            with running, process:
                late = self._outlast(process, time.monotonic() + limits.wall_s)
                if process.returncode:  # it died, and could not stop what it had started
                    kill_session(process.pid, self._folder)
                answer = _read_answer(self._folder, process.returncode)
                if late and not answer.get("trace"):
                    answer = late
            self._conclude(answer, process.returncode, limits)
        except Exception as error:
            self._error = error
        finally:
            self._done.set()

    def _outlast(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, str] | None:
        """Return once the child has ended; the answer when it had to be stopped."""
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
                return None
            if self._cancelled.is_set():
                stopped = {"error": "EnvironmentFailedError", "message": f"{self.name}: cancelled"}
            elif time.monotonic() > deadline:
                stopped = {"error": "Late"}
            else:
                continue
            kill_session(process.pid, self._folder)
            process.wait()
            return stopped

    def _conclude(self, answer: dict[str, str], status: int, limits: Limits) -> None:
        """Turn the child's answer, or its death, into the job's; keep the log of a defect."""
        kind = ""
        if "trace" in answer:
            name = file_name_text(self.name)
            self._stored = analyses.at(answer["trace"], answer["analysis"], name)
        else:
            shown = one_line(self.name)[:80]
            if answer:
                kind, text = _explain(answer, shown, limits)
            else:
                log = (
                    "MemoryError" if (self._folder / TIGHT).exists() and status in _CRASHES else ""
                )
                log += _end_of_log(self._folder)
                kind, text = _explain_death(status, log, shown, limits)
            if kind == "TraceError":
                text += f"; log: jobs/{self.id}/log.txt in the data folder"
            self._error = _failure(kind, text)
        if kind == "TraceError":
            with contextlib.suppress(OSError):
                (self._folder / "defect").touch()
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _last_words(self) -> Progress:
        try:
            said = json.loads((self._folder / "progress.json").read_text(encoding="utf-8"))
            self._reached = Progress(fraction=float(said["fraction"]), stage=str(said["stage"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there yet, or not any more: its folder goes before the answer is there
        return self._reached


def one_line(error: BaseException | str) -> str:
    """Return an error's text as one printable line of bounded length."""
    text = " ".join(str(error).split("\n"))
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…"


def kill_session(session: int, folder: Path) -> None:
    """Stop every process of ``session``, and what left it but was started for ``folder``."""
    from collectors.processes import in_session, kill, with_variable  # the package loads Arrow

    kill(in_session(session), with_variable(JOB_VARIABLE, str(folder)), patience_s=PATIENCE_S)


def _start_child(folder: Path, order: dict[str, str], limits: Limits) -> subprocess.Popen[bytes]:
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    cache.write_json(folder / "order.json", {**order, "limits": asdict(limits)})
    kept = {
        k: v for k, v in os.environ.items() if k in _KEPT_VARIABLES or k.startswith(_KEPT_PREFIXES)
    }
    chosen = {
        "TMPDIR": str(temporary),
        JOB_VARIABLE: str(folder),
        cache.DATA_DIR_VARIABLE: str(cache.data_dir()),
    }
    environment = dict(_CHILD_ENVIRONMENT)
    # An entry that is empty or relative would mean the job's own folder.
    places = filter(os.path.isabs, kept.pop("PYTHONPATH", "").split(os.pathsep))
    environment["PYTHONPATH"] = os.pathsep.join((_ROOT, *places))
    if order.get("side"):  # needs little memory: there the pages that are given back cost more
        del environment["MALLOC_MMAP_THRESHOLD_"]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [*_COMMAND, str(folder)],
            stdin=subprocess.PIPE,  # closes when we die for any reason: then so does the child
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**kept, **environment, **chosen},
            start_new_session=True,
        )


def _read_answer(folder: Path, status: int) -> dict[str, str]:
    """Return the child's answer; empty when it left none that makes sense."""
    try:
        with (folder / "result.json").open("rb") as file:
            answer = dict(json.loads(file.read(MAX_ANSWER_BYTES)))
    except (OSError, ValueError, TypeError):
        return {}
    complete = {"trace", "analysis"} <= set(answer) or {"error", "message"} <= set(answer)
    if status != 0 or not complete or not all(isinstance(v, str) for v in answer.values()):
        return {}
    return answer


def _explain(answer: dict[str, str], name: str, limits: Limits) -> tuple[str, str]:
    """Return the class and the line for a child that answered or was stopped by us."""
    kind = answer["error"]
    if kind == "Late":
        limit = f"{limits.wall_s:g} s (WHYSLOW_LIMIT_WALL_S)"
        return "EnvironmentFailedError", f"{name}: no answer within the limit of {limit}"
    if kind == "OutOfMemory":
        limit = f"{limits.memory_gb:g} GB (WHYSLOW_LIMIT_MEMORY_GB)"
        return "RefusedError", f"{name}: needs more memory than the limit of {limit}"
    return kind, answer["message"]


def _explain_death(status: int, log: str, name: str, limits: Limits) -> tuple[str, str]:
    """Return the class and the line for a child that died without an answer."""
    if status == OUT_OF_MEMORY or any(word in log for word in _MEMORY_WORDS):
        return _explain({"error": "OutOfMemory"}, name, limits)
    if status == OUT_OF_SPACE:
        return "EnvironmentFailedError", str(cache.storage_error(OSError(errno.ENOSPC, "")))
    if status == FILE_TOO_LARGE:
        limit = f"{limits.file_gb:g} GB (WHYSLOW_LIMIT_FILE_GB)"
        return "EnvironmentFailedError", f"{name}: a file on disk reached the size limit of {limit}"
    if status == -signal.SIGXCPU:
        return "EnvironmentFailedError", (
            f"{name}: needs more processor time than the limit of {limits.cpu_s:g} s "
            "(WHYSLOW_LIMIT_CPU_S)"
        )
    if status == -signal.SIGKILL:
        return "EnvironmentFailedError", (
            f"{name}: the system stopped the reader, probably for lack of memory. Close other "
            "programs, or set WHYSLOW_LIMIT_MEMORY_GB below what is free"
        )
    from collectors.processes import signal_name  # the package loads Arrow

    how = f"crashed ({signal_name(-status)})" if status < 0 else f"stopped (exit status {status})"
    return "TraceError", f"{name}: a defect of whyslow: the reader {how} without an answer"


def _end_of_log(folder: Path) -> str:
    try:
        with (folder / "log.txt").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8_192))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _failure(kind: str, message: str) -> Exception:
    """Build the exception that the child named."""
    from analyzers.facts.facts import WindowError
    from collectors import errors

    classes: dict[str, type[Exception]] = {
        c.__name__: c
        for c in (
            errors.RefusedError,
            errors.EnvironmentFailedError,
            errors.TraceError,
            WindowError,
        )
    }
    return classes.get(kind, errors.TraceError)(message)


# What follows runs in the child.


def main() -> int:
    """Do what ``order.json`` in the folder named on the command line says."""
    folder = Path(sys.argv[1])
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    limits = Limits(**order["limits"])
    threading.Thread(target=_keep_watch, args=(folder, limits), daemon=True).start()
    # A library that runs out of memory while it is loaded crashes, so load them before there is
    # a limit; no recording was touched yet.
    importlib.import_module("analyzers")
    importlib.import_module("psutil")  # the watch needs it, most of all when memory is out
    importlib.import_module("collectors").collectors()
    try:
        _set_limits(limits)
        asked = (order["window"], order["counters"])
        timeline = bool(order.get("timeline", True))
        work = {"timeline": timeline, "side": order.get("side", "")}
        work["what_if"] = order.get("what_if", "")
        answer = _answer(Path(order["path"]), *asked, _Reporter(folder), **work)
        cache.write_json(folder / "result.json", answer)
    except MemoryError:
        return OUT_OF_MEMORY
    except OSError as error:  # no room for the answer itself
        if _is_memory(error):
            return OUT_OF_MEMORY
        return FILE_TOO_LARGE if error.errno == errno.EFBIG else OUT_OF_SPACE
    return 0


def _keep_watch(folder: Path, limits: Limits) -> NoReturn:
    """End with the parent; leave word when memory runs out, since libraries may crash then."""
    tight_pages = TIGHT_SHARE * limits.memory_gb * GIB / resource.getpagesize()
    while True:
        if select.select([0], [], [], POLL_S)[0] and not os.read(0, 1):
            break
        with contextlib.suppress(OSError):  # a full disk must not end the watch
            if int(Path("/proc/self/statm").read_text().split()[0]) > tight_pages:
                (folder / TIGHT).touch()
    if os.getsid(0) == os.getpid():  # not when started by hand, in the session of a shell
        kill_session(os.getpid(), folder)
    os._exit(1)


def _set_limits(limits: Limits) -> None:
    _lower(resource.RLIMIT_AS, int(limits.memory_gb * GIB))
    _lower(resource.RLIMIT_CPU, max(1, int(limits.cpu_s)))
    _lower(resource.RLIMIT_FSIZE, int(limits.file_gb * GIB))
    _lower(resource.RLIMIT_CORE, 0)


def _lower(what: int, value: int) -> None:
    """Set a limit, but never above one that is already there."""
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, hard))


@dataclass
class _Reporter:
    """Writes the progress down, not more often than anyone looks."""

    folder: Path
    _last: float = -1.0
    _reached: float = 0.0

    def __call__(self, fraction: float, stage: str) -> None:
        self._reached = min(1.0, max(self._reached, fraction))
        if time.monotonic() - self._last < PROGRESS_EVERY_S:
            return
        self._last = time.monotonic()
        path = self.folder / "progress.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"fraction": self._reached, "stage": stage}), encoding="utf-8")
        fresh.replace(path)


def _answer(
    path: Path, window: str, counters: str, report: _Reporter, **work: Any
) -> dict[str, str]:
    """Open the recording; put whatever goes wrong into words."""
    from analyzers.facts.facts import WindowError
    from collectors.errors import TraceError

    try:
        with cache.job_running(), cache.file_taken(path) as turns:
            for _ in turns:
                report(0.0, "waiting: the same file is being opened elsewhere")
                time.sleep(PROGRESS_EVERY_S)
            stored = _open(path, window, counters, report, **work)
            if work.get("timeline", True):
                _add_telemetry(path, stored)
            return {"trace": stored.trace_id, "analysis": stored.folder.name}
    except (TraceError, WindowError) as error:
        return {"error": type(error).__name__, "message": one_line(error)}
    except MemoryError:
        return {"error": "OutOfMemory", "message": ""}
    except OSError as error:
        if (full := cache.storage_error(error)) is not None:
            return {"error": type(full).__name__, "message": one_line(full)}
        return _unforeseen(error, path)
    except Exception as error:
        return _unforeseen(error, path)


def _unforeseen(error: Exception, path: Path) -> dict[str, str]:
    if _is_memory(error):
        return {"error": "OutOfMemory", "message": ""}
    with contextlib.suppress(OSError):
        traceback.print_exc()
    line = f"{path.name}: a defect of whyslow stopped the analysis ({type(error).__name__})"
    return {"error": "TraceError", "message": one_line(line)}


def _is_memory(error: Exception) -> bool:
    return any(word in str(error) for word in _MEMORY_WORDS)


def _open(path: Path, window: str, counters: str, report: _Reporter, **work: Any) -> Stored:
    """Read and analyse, and read once more when the cached copy turns out to be damaged."""
    in_library = path.parent == cache.cache_root()
    trace = cache.get(path.name) if in_library else cache.find(path)
    for last_try in (in_library, True):  # the library does not know where its recordings lie
        if trace is None:
            trace = _read(path, report)
        try:
            return _analyse(trace, window, counters, report, **work)
        except Exception as error:
            damaged = _is_damage(error)
            if damaged and counters:  # whose table it is does not show: both are read anew
                cache.remove(counters)
            if damaged and not last_try:
                cache.remove(trace.id)
            if last_try or counters or not damaged:
                raise
            trace = None
    raise AssertionError


def _add_telemetry(path: Path, stored: Stored) -> None:
    """Make lanes of what was sampled beside the recording; a defect in it costs no answer."""
    if not sidecars.telemetry_is_missing(path, cache.cache_root() / stored.trace_id):
        return
    from timeline.store import recording_index
    from timeline.telemetry import add_telemetry_index

    try:
        trace = cache.get(stored.trace_id)
        known = recording_index(trace).meta
        span = known["origin_ns"], known["origin_ns"] + known["duration_ns"]
        add_telemetry_index(path, trace, span)
    except (OSError, MemoryError):
        raise
    except Exception:
        traceback.print_exc()


def _is_damage(error: Exception) -> bool:
    """Tell whether a table of the cache could not be read back."""
    from collectors.trace import is_damage

    return is_damage(error)


def _read(path: Path, report: _Reporter) -> Trace:
    from collectors import input_file, open_trace

    root = cache.cache_root()
    root.mkdir(parents=True, exist_ok=True)
    before = input_file.look_at(path)
    trace = open_trace(path, root, on_progress=lambda f, s: report(f * READING_SHARE, s))
    cache.remember(path, trace, before)
    return trace


def _analyse(  # noqa: PLR0913 - what the child is told to do
    trace: Trace,
    window: str,
    counters: str,
    report: _Reporter,
    *,
    timeline: bool = True,
    side: str = "",
    what_if: str = "",
) -> Stored:
    if side:
        return _measured(trace, window, int(side), report)
    if what_if:
        return _predicted(trace, what_if, report)
    from analyzers.analysis import investigate
    from analyzers.facts.facts import build_facts
    from timeline.store import add_recording_index, make_indexes, write_window_index

    if (stored := analyses.load(trace, window, counters)) is not None:
        if timeline and not has_timeline(stored):  # of an older version, or not asked for
            report(READING_SHARE, "sorting the timeline")
            make_indexes(trace, stored)
        return stored
    joined = cache.get(counters) if counters else None
    report(READING_SHARE, "analysing")
    facts = build_facts(trace)
    with ThreadPoolExecutor(1) as thread:  # whole columns at a time, so both cores work
        index = thread.submit(add_recording_index, facts) if timeline else None
        analysis = investigate(trace, window, facts, joined)
        report(0.95, "storing the analysis")
        write_beside = partial(write_window_index, analysis) if timeline else None
        stored = analyses.save(analysis, trace, window, counters, write_beside)
        if index is not None:
            analyses.without_defects(index)
        return stored


def _measured(trace: Trace, window: str, device: int, report: _Reporter) -> Stored:
    """Measure what the recording brings to a comparison, and keep it beside the trace."""
    from library import comparisons

    report(READING_SHARE, "measuring iterations")
    comparisons.measure_side(trace, window, device)
    return analyses.Stored(comparisons.side_path(trace, window, device))


def _predicted(trace: Trace, asked: str, report: _Reporter) -> Stored:
    """Predict what changes would win, and keep it beside the trace."""
    from library import predictions

    report(READING_SHARE, "replaying the recording")
    question = predictions.Question.from_text(asked)
    predictions.predicted(trace, question)
    return analyses.Stored(predictions.place_of(trace, question))


if __name__ == "__main__":
    status = main()
    with contextlib.suppress(OSError):  # the disk may be full
        sys.stderr.flush()
    os._exit(status)  # at once: libraries have threads, and nothing is left to tidy up
