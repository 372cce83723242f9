"""One run of a program under one tool: the flags, the watch over it, and whether it worked.

Whether it worked is decided by what lies there afterwards, never by an exit status: nsys passes on
that of the program, says 0 when it could not import what it recorded, and 143 when all is well.
Each run has a private folder, which is gone afterwards; a recording is moved out of it when whole.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from collectors.capture import guard as capture_guard
from collectors.errors import EnvironmentFailedError, RefusedError, TraceError
from collectors.processes import kill, signal_name, with_variable

POLL_S = 0.1
NSYS_TRIES = 3
GRACE_S = 120.0  # for nsys to write a report, or torch a trace, after the program was ended
IMPORT_S = 600.0  # nsys imports about half a million events a second
QUICK_S = 30.0  # for a question to a program that answers in a second on an idle machine
MAX_LOG_BYTES = 8 << 20  # of what a program prints
TAIL_BYTES = 4096
MAX_REASON = 120
MIN_FREE_BYTES = 32 << 20  # below it, a report would not fit, and neither would its analysis
FIRST_SILENT_NVTX = (0, 2, 12)
LAST_DEAF_NSYS = (2023, 4)  # the newest of which it is known

NSYS_WAY_OUT = (
    "Install Nsight Systems (https://developer.nvidia.com/nsight-systems), or capture with "
    "--with torch"
)
NO_TORCH_SEEN = (
    "no Python that it started imported torch with PYTHONPATH in effect (python -I and -E "
    "ignore it); call the torch profiler in the program itself, and open what it exports"
)
NVTX_WAY_OUT = "install nvtx<=0.2.11 in the program's environment, or a newer Nsight Systems"

# Processes of nsys that miss each other while it starts, before there is a program.
_NSYS_STUMBLED = (b"= sem_open", b"= shm_open", b"Local Endpoint is not available")
_DISK_FULL = (b"No space left", b"disk is full", b"disk full", b"Disk quota exceeded")
_PROGRESS_BAR = re.compile(r"\[\d+/\d+\] \[[^\r\n]*")
_NSYS_WRITES = re.compile(rb"Generating '[^'\n]*\.qdstrm'")
# What nsys adds to what the program said last.
_NSYS_SAYS = re.compile(r"Generating '.*\.qdstrm'|Generated:|/.*\.(?:nsys-rep|qdstrm)")
_PYTHON = re.compile(r"python[0-9.]*")
_GUARD = str(Path(capture_guard.__file__).resolve())
_HOOK = Path(__file__).with_name("torch_hook.py")

Tick = Callable[[], None]


class NotForThisError(RefusedError):
    """The tool has nothing to record in this program."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is run.

    Attributes:
        command: The program and its arguments.
        environment: Variables that it gets beside those of our own process.
        folder: The capture's folder: the mark of every process that is started, and where
            private files lie.
        log: File that what the program prints is added to.
        timeout_s: After this long it is asked to end, so that what was recorded is kept.
        tick: Called about ten times a second.
        started: Called with the number of the guarding process once the program runs.
        reporting: Called once when the program has ended and nsys makes its report.
    """

    command: Sequence[str]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600.0
    tick: Tick = lambda: None
    started: Callable[[int], None] = lambda _pid: None
    reporting: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a guarded program ended.

    Attributes:
        status: Its exit status, negative for a signal; None when its guard was killed.
        late: Whether its time was up.
        printed: The end of what it printed.
        began: When it began, in seconds since 1970.
        ended: When it ended, likewise.
    """

    status: int | None
    late: bool
    printed: bytes
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.ended - self.began

    def trouble(self, tool: str = "") -> str:
        """Say what went wrong with the program; empty when nothing did.

        Args:
            tool: What ran it and passed on its exit status; empty without.
        """
        if self.status is None:
            return "its guarding process was killed, and with it the program"
        if self.late:
            return "its time was up (--timeout), so it was ended"
        if not self.status:
            return ""
        number = -self.status if self.status < 0 else self.status - 128
        if self.status < 0 and tool:
            return f"{tool} was ended by {signal_name(number)}"
        if number in set(signal.Signals):
            return f"the program was ended by {signal_name(number)}"
        said = last_line(self.printed)
        return f"the program ended with exit status {self.status}" + (f": {said}" if said else "")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A run that left a recording.

    Attributes:
        path: The recording; None for a tool that writes none.
        ending: How the program ended.
        notes: What a reader should know about it.
        more: Further recordings of the same run, of other processes.
    """

    path: Path | None
    ending: Ending
    notes: tuple[str, ...] = ()
    more: tuple[Path, ...] = ()


def run_plain(program: Program) -> Recorded:
    """Run the program under no profiler.

    Raises:
        RefusedError: The program cannot be run.
    """
    with private_folder(program) as private:
        ending = run_guarded(program.command, program, private)
    return Recorded(path=None, ending=ending)


def run_nsys(program: Program, target: Path, *, whole_graphs: bool = False) -> Recorded:
    """Record the program with Nsight Systems.

    Args:
        program: What is run.
        target: Where the report is put; ends with ``.nsys-rep``.
        whole_graphs: Record CUDA graphs as one block each; costs less than their kernels.

    Raises:
        EnvironmentFailedError: nsys is missing, or the disk is full.
        RefusedError: There is no report afterwards.
    """
    nsys = find_nsys()
    with private_folder(program) as private:
        report = private / "recorded.nsys-rep"
        command = nsys_command(nsys, program, report, whole_graphs=whole_graphs)
        told = {"TMPDIR": str(private)} if "," not in _temporary() else {}
        ending = run_guarded(command, program, private, told)
        for _ in range(NSYS_TRIES - 1):
            if _has_content(report) or not any(text in ending.printed for text in _NSYS_STUMBLED):
                break
            ending = run_guarded(command, program, private, told)
        notes: tuple[str, ...] = ()
        if not report.is_file() and (raw := next(private.glob("**/*.qdstrm"), None)):
            _import_again(nsys, raw, report, program, private)
            notes = ("nsys did not import what it recorded, so it was imported afterwards",)
        if not _has_content(report):
            raise _no_recording("nsys", ending, target.parent)
        _keep(report, target)
    return Recorded(path=target, ending=ending, notes=notes)


def nsys_command(
    nsys: str, program: Program, report: Path, *, whole_graphs: bool = False
) -> list[str]:
    """Return the command that records ``program`` with Nsight Systems into ``report``.

    CUDA calls, NVTX ranges and what the host waited for answer why a GPU idles. Samples of the
    processor and thread switches would not, cost time, and need rights.
    """
    command = [nsys, "profile", "--trace=cuda,nvtx,osrt", "--sample=none", "--cpuctxsw=none"]
    command += [f"--cuda-graph-trace={'graph' if whole_graphs else 'node'}"]
    # Containers that share /tmp fight for the names that nsys makes up by itself.
    command += [f"--session-new=whyslow-{uuid.uuid4().hex[:16]}", "--force-overwrite=true"]
    command += ["--output=" + str(report).replace("%", "%%")]
    if "," not in _temporary():  # nsys splits its list of variables there
        command += [f"--env-var=TMPDIR={_temporary()}"]  # ours is for the files of nsys alone
    return [*command, *program.command]


def run_torch(program: Program, target: Path) -> Recorded:
    """Record a program that writes a torch profiler trace when asked with ``--torch-trace``.

    Args:
        program: What is run, without that option.
        target: Where the trace is put; ends with ``.json.gz``.

    Raises:
        RefusedError: There is no trace afterwards.
        EnvironmentFailedError: The disk is full.
    """
    with private_folder(program) as private:
        trace = private / "trace.json.gz"
        command = [*program.command, "--torch-trace", str(trace)]
        ending = run_guarded(command, program, private)
        if not _has_content(trace):
            raise _no_recording("the torch profiler", ending, target.parent)
        _keep(trace, target)
    return Recorded(path=target, ending=ending)


def run_torch_hook(program: Program, target: Path) -> Recorded:
    """Record any program that imports torch, by starting its profiler from within.

    The hook is a ``sitecustomize`` module, which Python imports when it starts. It waits until
    torch was imported, records from there on, and writes the trace when the program exits.

    Raises:
        NotForThisError: The program ended well and never imported torch.
        RefusedError: There is no trace afterwards.
        EnvironmentFailedError: The disk is full.
    """
    with private_folder(program) as private:
        hook, traces = private / "hook", private / "traces"
        hook.mkdir()
        traces.mkdir()
        shutil.copy(_HOOK, hook / "sitecustomize.py")
        paths = [str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]
        told = {"PYTHONPATH": os.pathsep.join(paths), "WHYSLOW_TORCH_TRACES": str(traces)}
        ending = run_guarded(program.command, program, private, told)
        written = sorted(traces.glob("*.json.gz"), key=lambda p: p.stat().st_size, reverse=True)
        if not written:
            if not ending.trouble() and not any(traces.iterdir()):
                raise NotForThisError(f"the torch profiler left no recording: {NO_TORCH_SEEN}")
            raise _no_recording("the torch profiler", ending, target.parent, _why_no_trace(traces))
        notes = [
            f"process {path.stem}: {path.read_text(encoding='utf-8', errors='replace')}"
            for path in sorted(traces.glob("*.note"))
        ]
        more = [_further(target, number) for number in range(2, len(written) + 1)]
        for source, place in zip(written, [target, *more], strict=True):
            _keep(source, place)
        if more:
            notes.append(f"{len(written)} processes used torch; the largest trace is shown")
    return Recorded(path=target, ending=ending, notes=tuple(notes), more=tuple(more))


def _why_no_trace(traces: Path) -> str:
    notes = sorted(traces.glob("*.note"))
    if notes:
        return notes[0].read_text(encoding="utf-8", errors="replace")
    if any(traces.glob("*.began")):
        return "the program was ended before the profiler could write"
    return NO_TORCH_SEEN


def run_ncu(program: Program, target: Path, options: Sequence[str]) -> Recorded:
    """Record counters of chosen kernels with Nsight Compute.

    Args:
        program: What is run.
        target: Where the report is put; ends with ``.ncu-rep``.
        options: Which kernels, launches and counters.

    Raises:
        EnvironmentFailedError: ncu or a GPU is missing, its counters may not be read, or the disk
            is full.
        RefusedError: There is no report afterwards.
    """
    ncu = find_ncu()
    with private_folder(program) as private:
        report = private / "counters.ncu-rep"
        command = [ncu, *options, "--force-overwrite", "--target-processes", "all"]
        command += ["--export", str(report).replace("%", "%%"), *program.command]
        ending = run_guarded(command, program, private)
        if not _has_content(report):
            if b"ERR_NVGPUCTRPERM" in ending.printed:
                raise EnvironmentFailedError(
                    "ncu: this user may not read the GPU's counters (ERR_NVGPUCTRPERM). Run as "
                    "root, or see https://developer.nvidia.com/ERR_NVGPUCTRPERM"
                )
            raise _no_recording("ncu", ending, target.parent)
        _keep(report, target)
    return Recorded(path=target, ending=ending)


def find_nsys() -> str:
    """Return the path of nsys.

    Raises:
        EnvironmentFailedError: It is not installed.
    """
    if (nsys := shutil.which("nsys")) is None:
        raise EnvironmentFailedError(f"nsys is not installed here. {NSYS_WAY_OUT}")
    return nsys


def find_ncu() -> str:
    """Return the path of ncu, when there is a GPU that it could examine.

    Raises:
        EnvironmentFailedError: One of both is missing.
    """
    if not has_gpu():
        raise EnvironmentFailedError("ncu examines kernels, and there is no NVIDIA GPU here")
    if (ncu := shutil.which("ncu")) is None:
        raise EnvironmentFailedError(
            "ncu is not installed here. Install Nsight Compute "
            "(https://developer.nvidia.com/nsight-compute)"
        )
    return ncu


def has_gpu() -> bool:
    """Tell whether an NVIDIA driver shows a GPU here."""
    # /dev/nvidiactl is there in containers without a GPU, too; in WSL, dxg is the only one.
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


def nvtx_trap(command: Sequence[str]) -> str:
    """Say whether nsys is going to miss the ranges of a Python program; empty when not, or unknown.

    The package nvtx asks nsys for something that older ones do not know, takes the answer for "not
    profiled", and stays silent. Asked is the interpreter that the command names.
    """
    if not command or not _PYTHON.fullmatch(Path(command[0]).name):
        return ""
    ask = "import importlib.metadata as m; print(m.version('nvtx'))"
    package = _version(_answer([command[0], "-c", ask]))
    if package < FIRST_SILENT_NVTX:
        return ""
    nsys = _version(_answer([find_nsys(), "--version"]).rpartition(" version ")[2])
    if not nsys or nsys[:2] > LAST_DEAF_NSYS:
        return ""
    shown = ".".join(map(str, package)), ".".join(map(str, nsys[:2]))
    return f"nvtx {shown[0]} records nothing under nsys {shown[1]}: {NVTX_WAY_OUT}"


def _answer(command: list[str]) -> str:
    try:
        asked = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=QUICK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode("utf-8", "replace").strip()


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def run_guarded(
    command: Sequence[str], program: Program, private: Path, told: Mapping[str, str] | None = None
) -> Ending:
    """Run ``command`` under guard until it ends, or until its time is up.

    Args:
        command: What is run: the program, or a tool that runs it.
        program: Where it is run, how long, and who wants to know.
        private: Folder of this run.
        told: Variables that the command gets beside those of the program.

    Raises:
        RefusedError: It cannot be started.
    """
    listening, output = os.pipe()
    pump = _Pump(listening, program.log)
    environment = os.environ | dict(program.environment) | dict(told or {})
    environment[capture_guard.MARK] = str(program.folder)
    began = time.time()
    with contextlib.ExitStack() as stack:
        stack.callback(pump.finish)
        try:
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, str(private), "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(output)
        stack.callback(_release, guard, program.folder)
        told_by_guard, late = _listen(guard, program, pump)
    if "error" in told_by_guard:
        raise RefusedError(f"{_shown(command[0])}: cannot be run ({told_by_guard['error']})")
    status = told_by_guard.get("status")
    return Ending(
        status=status if isinstance(status, int) else None,
        late=late,
        printed=pump.tail(),
        began=began,
        ended=time.time(),
    )


def _listen(
    guard: subprocess.Popen[bytes], program: Program, pump: _Pump
) -> tuple[dict[str, object], bool]:
    """Return what the guard tells, and whether the program's time was up."""
    assert guard.stdin is not None
    assert guard.stdout is not None
    deadline, late = time.monotonic() + program.timeout_s, False
    told: dict[str, object] = {}
    text, reports = b"", False
    while True:
        if select.select([guard.stdout], [], [], POLL_S)[0]:
            chunk = os.read(guard.stdout.fileno(), 4096)
            if not chunk:
                return told, late
            text += chunk
            *lines, text = text.split(b"\n")
            for line in lines:
                told |= json.loads(line)
                if "pid" in told and "status" not in told:
                    program.started(guard.pid)
        if not reports and _NSYS_WRITES.search(pump.tail()):
            reports = True
            program.reporting()
        program.tick()
        if time.monotonic() > deadline:
            if late:  # it did not end when it was asked to
                return told | {"status": -signal.SIGKILL}, late
            late, deadline = True, time.monotonic() + GRACE_S
            with contextlib.suppress(BrokenPipeError):
                guard.stdin.write(b"t")
                guard.stdin.flush()


def _release(guard: subprocess.Popen[bytes], folder: Path) -> None:
    """Let go of the guard, which then ends what is left; see to it when the guard is gone."""
    assert guard.stdin is not None
    assert guard.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        guard.stdin.close()
    try:
        guard.wait(capture_guard.PATIENCE_S + capture_guard.LINGER_S)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    guard.stdout.close()
    if guard.returncode not in (0, capture_guard.REFUSED):
        kill(with_variable(capture_guard.MARK, str(folder)))


class _Pump:
    """Takes what a program prints, keeps the first part in a file and the end in memory.

    A program that prints without end must neither fill the disk nor wait for us.
    """

    def __init__(self, source: int, log: Path) -> None:
        self._source, self._tail = source, b""
        self._thread = threading.Thread(target=self._run, args=(log,), daemon=True)
        self._thread.start()

    def _run(self, log: Path) -> None:
        with contextlib.ExitStack() as stack:
            file: IO[bytes] | None = None
            with contextlib.suppress(OSError):
                file = stack.enter_context(log.open("ab", buffering=0))
            room = MAX_LOG_BYTES
            while chunk := os.read(self._source, 65_536):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                if file is not None and room > 0:
                    with contextlib.suppress(OSError):  # a full disk is noticed elsewhere
                        file.write(chunk[:room])
                    room -= len(chunk)

    def finish(self) -> None:
        self._thread.join(timeout=QUICK_S)
        if not self._thread.is_alive():  # else someone still holds the other end
            os.close(self._source)

    def tail(self) -> bytes:
        return self._tail


@contextlib.contextmanager
def private_folder(program: Program) -> Iterator[Path]:
    """Give a folder for one run, and delete it afterwards.

    Raises:
        EnvironmentFailedError: The disk is full, or cannot be written.
    """
    with _on_disk(program.folder):
        program.folder.mkdir(parents=True, exist_ok=True)
        check_space(program.folder)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=program.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Make the folder that recordings are put into.

    Raises:
        RefusedError: There is something else of this name.
        EnvironmentFailedError: It cannot be made or written.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise RefusedError(f"{folder}: is no folder. Choose another one with --out")
    with _on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_space(folder: Path) -> None:
    """Refuse to begin when there is no room for a recording.

    Raises:
        EnvironmentFailedError: There is not.
    """
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise EnvironmentFailedError(
            f"{folder}: only {free >> 20} MB of disk space are free. Free some, or choose another "
            "folder with --out and --data-dir"
        )


@contextlib.contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            told = "no disk space left. Free some, or choose another folder with --out"
        else:
            trouble = os.strerror(error.errno or 0)
            told = f"cannot be written ({trouble}). Choose another folder with --out"
        raise EnvironmentFailedError(f"{folder}: {told}") from error


def _keep(recording: Path, target: Path) -> None:
    """Move a whole recording to its place; nobody else may read it, reports hold environments."""
    with _on_disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        recording.chmod(0o600)
        try:
            recording.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            try:
                shutil.copy2(recording, beside)
                beside.rename(target)
            finally:
                beside.unlink(missing_ok=True)


def _import_again(nsys: str, raw: Path, report: Path, program: Program, private: Path) -> None:
    """Import what nsys recorded but left as it was; nothing is there when that fails, too."""
    importer = find_importer(nsys)
    if importer is None:
        raise EnvironmentFailedError(
            "nsys recorded, but could not import it, and its QdstrmImporter was not found. "
            "Install the whole of Nsight Systems"
        )
    command = [importer, "--input-file", str(raw), "--output-file", str(report)]
    waiting = Program(
        command=command,
        folder=program.folder,
        log=program.log,
        timeout_s=IMPORT_S,
        tick=program.tick,
    )
    for _ in range(2):
        run_guarded(command, waiting, private)
        if _has_content(report):
            return


def find_importer(nsys: str) -> str | None:
    """Return the importer that belongs to this nsys; Debian puts it into another folder."""
    target = Path(nsys).resolve().parent
    for place in (target.parent, Path("/usr/lib/nsight-systems"), target):
        for found in sorted(place.glob("host-*/QdstrmImporter")):
            return str(found)
    return None


def _no_recording(tool: str, ending: Ending, folder: Path, why: str = "") -> TraceError:
    """Put into one line why there is no recording."""
    full = any(text in ending.printed for text in _DISK_FULL)
    if full or shutil.disk_usage(folder).free < 1 << 20:
        return EnvironmentFailedError(
            f"{folder}: no disk space left for what {tool} records. Free some, or choose another "
            "folder with --out and --data-dir"
        )
    trouble = ending.trouble(tool if tool != "the torch profiler" else "")
    reason = why or last_line(ending.printed).rstrip(".")
    if trouble and reason and reason not in trouble:
        trouble += f"; {reason}"
    return RefusedError(f"{tool} left no recording: {trouble or reason or 'it says nothing'}")


def last_line(printed: bytes) -> str:
    """Return the last line of what a program printed, without control characters."""
    text = _PROGRESS_BAR.sub("", printed.decode("utf-8", "replace").replace("\r", "\n"))
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not _NSYS_SAYS.fullmatch(line)]
    return _shown(lines[-1]) if lines else ""


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:MAX_REASON]


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _further(target: Path, number: int) -> Path:
    stem = target.name.removesuffix(".json.gz")
    return target.with_name(f"{stem}.{number}.json.gz")


def _temporary() -> str:
    return os.environ.get("TMPDIR") or "/tmp"
