"""Runs programs for a capture on a GPU machine, each with its limit, within one budget."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_outcomes import (
    LOG,
)

ROOT = Path(__file__).parents[1]
PACKING_S = 15  # kept back for the end
CHILD_S = 120  # the most that one child process may take
LOGGED_LINES = 20  # of each command


class Clock:
    """How much of the budget is left."""

    def __init__(self, budget_s: float) -> None:
        self._end = time.monotonic() + budget_s - PACKING_S

    def left_s(self) -> float:
        """Return the seconds until packing has to begin."""
        return self._end - time.monotonic()


class OverError(Exception):
    """The budget is spent."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where and how everything is run.

    Attributes:
        device: ``cuda`` or ``cpu``.
        runs: Of each twin.
        folder: Where recordings are kept until they are packed.
        clock: The budget.
    """

    device: str
    runs: int
    folder: Path
    clock: Clock

    def child(self, command: Sequence[str | Path]) -> str:
        """Run a command, with all that it starts, and return what it printed.

        Raises:
            OverError: If the budget is spent before.
            RuntimeError: If it fails or takes too long; the message is its last line.
        """
        limit_s = min(CHILD_S, self.clock.left_s())
        if limit_s <= 0:
            raise OverError("the budget is spent")
        start = time.monotonic()
        status, output = run_command(command, limit_s)
        self._log(command, output, time.monotonic() - start)
        if status is None:
            raise RuntimeError(f"took longer than {limit_s:.0f} s")
        if status:
            raise RuntimeError(last_line(output) or f"exit {status}")
        return output

    def _log(self, command: Sequence[str | Path], output: str, seconds: float) -> None:
        """Note a command, how long it took and the end of what it printed; no folders' names."""
        lines = output.replace("\r", "\n").splitlines()[-LOGGED_LINES:]
        text = "\n".join([f"$ {' '.join(map(str, command))}  # {seconds:.1f} s", *lines, ""])
        for name, short in ((sys.executable, "python"), (self.folder, "."), (ROOT, ".")):
            text = text.replace(str(name), short)
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(text)


def run_command(command: Sequence[str | Path], limit_s: float) -> tuple[int | None, str]:
    """Run a command in a group of its own; ``None`` as status when it had to be ended."""
    environment = {**os.environ, "PYTHONPATH": _import_path()}
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return 1, str(error)
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return None, _end(process)
    except BaseException:
        _end(process)
        raise
    return process.returncode, output


def _end(process: subprocess.Popen[str]) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def _import_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def last_line(text: str) -> str:
    """Return the last line with anything in it, shortened; empty when there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
