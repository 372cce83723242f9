"""One run of a program under guard: what is run, for how long, and how it ended.

A run ends when the program and everything it started have ended, or when its time is up; then the
program is asked to end, and killed after a period of grace.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from collectors.capture import guard as capture_guard
from collectors.capture.last_words import MAX_REASON, failure_words, last_line
from collectors.capture.tools import QUICK_S
from collectors.errors import RefusedError
from collectors.processes import kill, signal_name, with_variable
from common.text import printable

POLL_S = 0.1
GRACE_S = 120.0  # for nsys to write a report, or torch a trace, after the program was ended
MAX_LOG_BYTES = 8 << 20  # of what a program prints
TAIL_BYTES = 16_384  # a traceback through a framework is long
_NSYS_WRITES = re.compile(rb"Generating '[^'\n]*\.qdstrm'")
# Signals by which a program ends itself; the others are sent by somebody, whatever it printed.
_CRASHES = ("SIGABRT", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL")
_GUARD = str(Path(capture_guard.__file__).resolve())
Tick = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class GuardedProgram:
    """What is run.

    Attributes:
        command: The program and its arguments.
        environment: Variables that it gets in addition to those of this process.
        folder: The capture's folder: the mark of every process that is started, and where
            private files lie.
        log: File that what the program prints is added to.
        timeout_s: After this time it is asked to end, so that what was recorded is kept.
        tick: Called about ten times a second.
        started: Called with the id of the guarding process once the program runs.
        reporting: Called once when the program has ended and nsys makes its report.
        stop_asked: Whether somebody wants it to end now, with what was recorded kept.
    """

    command: Sequence[str]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600.0
    tick: Tick = lambda: None
    started: Callable[[int], None] = lambda _pid: None
    reporting: Callable[[], None] = lambda: None
    stop_asked: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a guarded program ended.

    Attributes:
        status: Its exit status, negative for a signal; None when its guard was killed.
        late: Whether its time was up.
        stopped: Whether somebody stopped it while it lived.
        printed: The end of what it printed.
        began: When it began, in seconds since 1970.
        ended: When it ended, likewise.
    """

    status: int | None
    late: bool
    printed: bytes
    began: float
    ended: float
    stopped: bool = False

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.ended - self.began

    @property
    def has_failed(self) -> bool:
        """Whether the program failed by itself: nobody ended it, and its status is not 0."""
        return bool(self.status) and not self.late and not self.stopped

    def trouble(self, tool: str = "") -> str:
        """Say what went wrong with the program; empty when nothing did.

        Args:
            tool: What ran it and passed on its exit status; empty without.
        """
        if self.status is None:
            return "its guarding process was killed, and with it the program"
        if self.stopped:
            return f"it was stopped after {self.seconds:.1f} s"
        if self.late:
            return "its time was up (--timeout), so it was ended"
        return self._failure(tool) if self.status else ""

    def _failure(self, tool: str) -> str:
        """Say how the program, or the tool around it, ended with another status than 0."""
        assert self.status is not None
        number = -self.status if self.status < 0 else self.status - 128
        if self.status < 0 and tool:
            return f"{tool} was ended by {signal_name(number)}"
        if number not in set(signal.Signals):
            how, words = f"exit status {self.status}", failure_words(self.printed)
            return f"the program ended with {how}" + (f": {words}" if words else "")
        last = last_line(self.printed) if signal_name(number) in _CRASHES else ""
        printed = f" after it printed {last!r}" if last else ""
        return f"the program was ended by {signal_name(number)}{printed}"


def run_guarded(
    command: Sequence[str],
    program: GuardedProgram,
    private: Path,
    variables: Mapping[str, str] | None = None,
) -> Ending:
    """Run ``command`` under guard until it ends, or until its time is up.

    Args:
        command: What is run: the program, or a tool that runs it.
        program: Where it is run, for how long, and what is called meanwhile.
        private: Folder of this run.
        variables: Environment variables that the command gets beside those of the program.

    Raises:
        RefusedError: It cannot be started.
    """
    listening, output = os.pipe()
    pump = _OutputPump(listening, program.log)
    environment = os.environ | dict(program.environment) | dict(variables or {})
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
        messages, late, stopped = _listen(guard, program, pump)
    if "error" in messages:
        raise RefusedError(
            f"{printable(command[0])[:MAX_REASON]}: cannot be run ({messages['error']})"
        )
    status = messages.get("status")
    return Ending(
        status=status if isinstance(status, int) else None,
        late=late,
        stopped=stopped,
        printed=pump.tail(),
        began=began,
        ended=time.time(),
    )


def _listen(
    guard: subprocess.Popen[bytes], program: GuardedProgram, pump: _OutputPump
) -> tuple[dict[str, object], bool, bool]:
    """Return what the guard reports, whether the program's time was up, and whether it was stopped.

    Either way it is asked to end, once, and then has time to leave its recording. One that has
    ended, or whose report nsys makes already, is not stopped: how it ended is its own doing.
    """
    assert guard.stdin is not None
    assert guard.stdout is not None
    deadline, late, stopped = time.monotonic() + program.timeout_s, False, False
    messages: dict[str, object] = {}
    text, is_reporting = b"", False
    while True:
        if select.select([guard.stdout], [], [], POLL_S)[0]:
            chunk = os.read(guard.stdout.fileno(), 4096)
            if not chunk:
                return messages, late, stopped
            text += chunk
            *lines, text = text.split(b"\n")
            for line in lines:
                messages |= json.loads(line)
                if "pid" in messages and "status" not in messages:
                    program.started(guard.pid)
        if not is_reporting and _NSYS_WRITES.search(pump.tail()):
            is_reporting = True
            program.reporting()
        program.tick()
        is_up = time.monotonic() > deadline
        if is_up and (late or stopped):  # it did not end when it was asked to
            return {"status": -signal.SIGKILL} | messages, late, stopped
        has_ended = "status" in messages
        is_stop = not has_ended and not is_reporting and program.stop_asked()
        if not (late or stopped) and ((is_up and not has_ended) or is_stop):
            late, stopped = is_up, not is_up
            deadline = time.monotonic() + GRACE_S
            _ask_to_end(guard, capture_guard.TERMINATE if is_up else capture_guard.INTERRUPT)


def _ask_to_end(guard: subprocess.Popen[bytes], how: bytes) -> None:
    assert guard.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        guard.stdin.write(how)
        guard.stdin.flush()


def _release(guard: subprocess.Popen[bytes], folder: Path) -> None:
    """Release the guard, which then ends what is left; end it from here when the guard is gone."""
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


class _OutputPump:
    """Takes what a program prints, keeps the first part in a file and the end in memory.

    A program that prints without end must neither fill the disk nor be blocked by a full pipe.
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
