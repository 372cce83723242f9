"""What GPUs, processor and a program's processes do meanwhile, sampled beside any profiler.

``start`` makes the file, with the tables of ``collectors.telemetry.schema``, and starts a process
that fills it; ``Telemetry.stop`` ends that. The file can be read all the time, from any process
(``collectors.telemetry.file``). It is not a recording of its own: it lies beside one, under
the name that ``beside`` returns, and its samples become lanes of that recording's timeline.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from collectors.errors import EnvironmentFailedError, RefusedError
from collectors.telemetry.file import SamplingSession, TelemetryError, TelemetryFile
from collectors.telemetry.schema import SCHEMA, SUFFIX, TABLES

RATE_HZ = 10.0
MAX_RATE_HZ = 100.0  # NVML itself averages over 1/6 to 1 s; more only costs
STOP_S = 5.0

_SAMPLER = Path(__file__).with_name("sampler.py")


def beside(recording: Path) -> Path:
    """Return where the telemetry of a recording lies: ``report.sqlite.telemetry.sqlite``."""
    return recording.with_name(recording.name + SUFFIX)


def no_recording(path: Path) -> str:
    """Return the line that says why ``path`` cannot be opened alone; empty for other files."""
    if not path.name.endswith(SUFFIX):
        return ""
    return (
        f"{path.name}: telemetry, which appears under the timeline of the recording that it "
        f"lies beside. Open {path.name.removesuffix(SUFFIX)}"
    )


def start(path: Path, pid: int = 0, *, rate_hz: float = RATE_HZ) -> Telemetry:
    """Sample into a new file at ``path`` until `Telemetry.stop`, or until this process ends.

    Args:
        path: File to make; see ``beside``.
        pid: Process whose tree is looked at, too; 0 for none yet, see ``Telemetry.watch``.
        rate_hz: Samples a second. Fewer are taken where that would use more than 2 % of a core.

    Raises:
        RefusedError: There is such a file already, or the rate makes no sense.
        EnvironmentFailedError: The file or the process cannot be made.
    """
    if not 0 < rate_hz <= MAX_RATE_HZ:
        raise RefusedError(f"telemetry: {rate_hz:g} samples a second; give 0.1 to {MAX_RATE_HZ:g}")
    if path.exists():
        raise RefusedError(f"{path.name}: is there already. Choose another name, or delete it")
    import sqlite3

    try:
        _create(path, rate_hz)
        process = subprocess.Popen(
            # -P: the folder of the file holds a trace.py, which is not Python's own
            [sys.executable, "-P", str(_SAMPLER), str(path), str(rate_hz)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the program that is looked at
        )
    except (OSError, sqlite3.Error) as error:
        raise EnvironmentFailedError(f"{path}: telemetry cannot be stored ({error})") from error
    telemetry = Telemetry(path, process)
    if pid:
        telemetry.watch(pid)
    return telemetry


def _create(path: Path, rate_hz: float) -> None:
    # Here, not in the process that samples: this library loads pandas, 0.3 s and 60 MB.
    import sqlite_utils

    path.touch(mode=0o600)  # it names processes; what SQLite adds beside it gets the same mode
    database = sqlite_utils.Database(path, execute_plugins=False)
    database.enable_wal()  # so that readers never wait, and a killed writer tears nothing
    for name, columns in TABLES.items():
        database.table(name).create({column.name: column.type for column in columns})
    meanings = [
        {"table": name, "column": column.name, "meaning": column.meaning}
        for name, columns in TABLES.items()
        for column in columns
    ]
    database.table("columns").insert_all(meanings)
    session = {
        "schema": SCHEMA,
        "state": "starting",
        "rate_hz": rate_hz,
        "started_realtime_ns": time.time_ns(),
        "started_monotonic_ns": time.monotonic_ns(),
    }
    database.table("session").insert(session)
    database.close()


@dataclass(frozen=True)
class Ended:
    """How the sampling ended.

    Attributes:
        session: What the file says about itself.
        notes: What could not be asked, each once.
        error: Why it ended early; empty when it did not.
    """

    session: SamplingSession | None
    notes: tuple[str, ...] = ()
    error: str = ""


class Telemetry:
    """A process that samples.

    Attributes:
        path: The file that it fills.
    """

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.path = path
        self._process = process

    @property
    def pid(self) -> int:
        """The process that samples."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether it still samples; it may have ended, for example on a full disk."""
        return self._process.poll() is None

    def watch(self, pid: int) -> None:
        """Look at the tree of this process from now on."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it has ended, which stop() reports
                self._process.stdin.write(f"watch {pid}\n".encode())
                self._process.stdin.flush()

    def stop(self) -> Ended:
        """End the sampling and say how it went; never raises, and may be called twice."""
        error = ""
        try:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            error = "the sampler did not end by itself"
        last_line = self._last_line()
        if self._process.returncode and not error:
            error = last_line or f"the sampler ended with status {self._process.returncode}"
        try:
            with TelemetryFile(self.path) as file:
                return Ended(file.session(), file.notes(), error)
        except TelemetryError as trouble:
            return Ended(None, (), error or str(trouble))

    def _last_line(self) -> str:
        stream = self._process.stderr
        if stream is None or stream.closed:
            return ""
        with stream:
            lines = stream.read(8_192).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
