"""Captures: one folder for each, in which the capturing process reports what it does.

``captures/<id>`` holds ``state.json``, the log, and, unless they were wanted elsewhere, the
recordings with what their workloads wrote about themselves and what telemetry sampled. The process
that captures is the only one that writes there; pages and the command line read. So a reload finds
a capture again, and so does another browser. Whether the process still lives is looked up by its
number and the time of its creation: a number alone is given out again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import msgspec

from common.text import file_name_text
from library import cache

SCHEMA = 1
STATE, LOG = "state.json", "log.txt"
NO_GPU = "Could not tell: this machine has no NVIDIA GPU, so there was no GPU work to record."
CANCEL = "cancel"  # a file: somebody asked for the end before there was a process to ask
START_WAIT_S = 30.0  # a busy machine needs seconds to start Python; longer means it never will
SAME_PROCESS_S = 0.02  # creation times are multiples of a clock tick, 10 ms
SHOWN_WORDS, SHOWN_WORD = 32, 200  # of a command line; the rest is not kept
HIDDEN = "***"

_ID = re.compile(r"[0-9a-f]{12}")
_ROOT = Path(__file__).resolve().parents[1]
# Names that end so hold secrets; --max-tokens and --tokenizer do not.
_SECRET = re.compile(
    r"-{0,2}(?:[\w.-]*[-_.])?"
    r"(?:token|secret|password|passwd|pwd|passphrase|credentials?|(?:api|access|private|secret)[-_]?key)",
    re.IGNORECASE,
)
_URL_USER = re.compile(r"(://)[^/@\s]+@")


class State(StrEnum):
    """What became of a capture."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # the capturing process is gone and stored no outcome


class RunState(StrEnum):
    """What became of one run of a capture."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"  # there is a recording, and it opens
    FAILED = "failed"
    SKIPPED = "skipped"  # its tool cannot be used here; the others went on
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the program under one tool.

    Attributes:
        tool: ``nsys``, ``torch``, ``ncu`` or ``telemetry`` (sampled without a profiler).
        role: ``baseline``, ``optimized``, or ``program`` for a command of the user's.
        number: Counts the repetitions from 1.
        state: What became of it.
        recording: Absolute path of the recording, empty while there is none.
        telemetry: Absolute path of what is sampled meanwhile, empty without.
        summary: Absolute path of what the workload wrote about itself, empty without.
        trace: Id of the opened recording in the library, empty while there is none.
        sentence: The verdict's sentence, empty while there is none.
        error: One line that says why there is no (whole) recording; empty when all is well.
        failure: How the program itself failed, with its last words; empty when it ended well, or
            was ended. Its recording may open all the same.
        notes: What the reader should know about a recording that is there.
        seconds: How long the program ran under the tool, 0 before.
        started: When it began, in seconds since 1970, 0 before; places it in the telemetry.
        ended: When it ended, likewise.
    """

    tool: str
    role: str
    number: int
    state: RunState = RunState.WAITING
    recording: str = ""
    telemetry: str = ""
    summary: str = ""
    trace: str = ""
    sentence: str = ""
    error: str = ""
    failure: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    started: float = 0.0
    ended: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether there is no recording that opens, or the program itself failed."""
        return self.state is RunState.FAILED or bool(self.failure)


@dataclass(frozen=True, kw_only=True)
class Capture:
    """The state of one capture.

    Attributes:
        id: Names it, and its folder.
        state: What became of it.
        workload: Name of the workload or pair; empty for a command of the user's.
        command: The user's command, its first words; empty for a workload.
        options: Options of a workload, such as ``--steps 20``.
        tools: What records.
        repeat: How many times each run is repeated.
        runs: All runs, in the order in which they happen.
        stage: What is being done, in words.
        progress: 0 to 1.
        error: One line that says why it failed; empty when it did not.
        started: When it began, in seconds since 1970.
        ended: When it ended, likewise; 0 before.
        pid: The capturing process; 0 until it has begun.
        created: When that process was created, as ``psutil`` tells it.
    """

    id: str
    state: State = State.RUNNING
    workload: str = ""
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    repeat: int = 1
    runs: tuple[Run, ...] = ()
    stage: str = "starting"
    progress: float = 0.0
    error: str = ""
    started: float = field(default_factory=time.time)
    ended: float = 0.0
    pid: int = 0
    created: float = 0.0

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return root() / self.id

    @property
    def title(self) -> str:
        """What it captures, in a few words."""
        return self.workload or " ".join(self.command)

    @property
    def telemetry(self) -> Path | None:
        """Where the samples of the run that is going on lie, or else those of the last one."""
        sampled = [run for run in self.runs if run.telemetry]
        going_on = [run for run in sampled if run.state is RunState.RUNNING]
        return Path((going_on or sampled)[-1].telemetry) if sampled else None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state is not State.RUNNING


def root() -> Path:
    """Return the folder that holds all captures."""
    return cache.data_dir() / "captures"


def new_id() -> str:
    """Return a name for a further capture."""
    return uuid.uuid4().hex[:12]


def save(capture: Capture) -> None:
    """Store the state of ``capture``, atomically.

    Raises:
        EnvironmentFailedError: The data folder cannot be written.
    """
    document = asdict(capture) | {"schema": SCHEMA}
    with cache.writing():
        cache.write_json(capture.folder / STATE, document)


def read(capture_id: str) -> Capture | None:
    """Return the state of a capture; None when there is none of this name, or it is damaged.

    One whose process is gone without a word comes back as lost.
    """
    if not _ID.fullmatch(capture_id):
        return None
    try:
        document = json.loads((root() / capture_id / STATE).read_text(encoding="utf-8"))
        capture = msgspec.convert(document, Capture)
    except (OSError, ValueError):
        return None
    if capture.id != capture_id:
        return None
    return capture if capture.is_over or is_alive(capture) else _as_lost(capture)


def captures() -> list[Capture]:
    """Return all captures, the newest first."""
    try:
        names = [entry.name for entry in root().iterdir()]
    except OSError:
        return []
    readable = [capture for name in names if (capture := read(name)) is not None]
    return sorted(readable, key=lambda c: (c.started, c.id), reverse=True)


def is_alive(capture: Capture) -> bool:
    """Tell whether the process that captures is still there."""
    import psutil

    if not capture.pid:  # asked for, and not begun yet
        return 0 <= time.time() - capture.started < START_WAIT_S
    try:
        process = psutil.Process(capture.pid)
        same = abs(process.create_time() - capture.created) <= SAME_PROCESS_S
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def own_process() -> dict[str, Any]:
    """Return ``pid`` and ``created`` of the process that asks."""
    import psutil

    return {"pid": os.getpid(), "created": psutil.Process().create_time()}


def cancel(capture_id: str) -> bool:
    """Ask a capture to stop; tell whether it was running.

    It ends its programs and then says ``cancelled``; until then it says ``running``.

    Raises:
        EnvironmentFailedError: The data folder cannot be written.
    """
    capture = read(capture_id)
    if capture is None or capture.is_over:
        return False
    if not capture.pid:
        with cache.writing():
            (capture.folder / CANCEL).touch()
        capture = read(capture_id)  # it may have begun meanwhile, without a look at our file
    if capture is None or capture.is_over:
        return False
    if capture.pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(capture.pid, signal.SIGTERM)
            return True
        return False
    return True


def is_cancel_asked(capture: Capture) -> bool:
    """Tell whether somebody asked ``capture`` to stop before it had begun."""
    return (capture.folder / CANCEL).exists()


def remove(capture_id: str) -> bool:
    """Delete a capture that is over, with its recordings; tell whether it was."""
    capture = read(capture_id)
    if capture is None or not capture.is_over:
        return False
    with cache.writing():
        shutil.rmtree(capture.folder)
    return True


def start(arguments: Sequence[str], **values: Any) -> str:
    """Begin a capture in a process of its own, which outlives us, and return its id at once.

    Args:
        arguments: What follows ``whyslow capture`` on the command line.
        values: Fields of ``Capture`` that a reader should see before the process has begun.

    Raises:
        EnvironmentFailedError: The data folder cannot be written.
    """
    capture = Capture(id=new_id(), **values)
    save(capture)
    command = [sys.executable, "-m", "cli", "capture", "--job", capture.id, *arguments]
    with cache.writing(), (capture.folder / LOG).open("ab") as log:
        _begin(command, log)
    return capture.id


def _begin(command: list[str], log: IO[bytes]) -> None:
    environment = os.environ | {cache.DATA_DIR_VARIABLE: str(cache.data_dir())}
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # a Ctrl-C in our terminal is not meant for it
    )
    # Somebody has to take note of its end, or it stays in the table of processes.
    threading.Thread(target=process.wait, daemon=True).start()


def shown_command(command: Sequence[str]) -> tuple[str, ...]:
    """Return what is kept of a user's command: enough to know it again, and no secrets.

    What follows an option such as ``--api-key``, and the user in an address, is left out.
    """
    words, hides = [], False
    for word in command[:SHOWN_WORDS]:
        name, equals, _ = word.partition("=")
        is_secret = _SECRET.fullmatch(name) is not None
        if hides and not word.startswith("-"):
            visible = HIDDEN
        elif is_secret and equals:
            visible = f"{name}={HIDDEN}"
        else:
            visible = _URL_USER.sub(rf"\1{HIDDEN}@", word)
        hides = is_secret and not equals and name.startswith("-")
        words.append(file_name_text(visible)[:SHOWN_WORD])
    return (*words, "…") if len(command) > SHOWN_WORDS else tuple(words)


def _as_lost(capture: Capture) -> Capture:
    """Return ``capture`` as one whose process was killed."""
    runs = tuple(
        replace(run, state=RunState.FAILED, error="the capturing process was killed")
        if run.state is RunState.RUNNING
        else run
        for run in capture.runs
    )
    error = f"the capturing process is gone (killed?) while {capture.stage}"
    return replace(capture, state=State.LOST, runs=runs, error=error)
