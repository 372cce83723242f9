"""Names of signals, and processes that are found by what they belong to and ended together.

``psutil`` is imported when it is first needed: a cached diagnosis never looks at a process. A
process that is going to lower its own memory limit imports it beforehand.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import platform

POLL_S = 0.01
PATIENCE_S = 10.0  # a killed process that waits for a disk ends when the disk answers


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGKILL``; ``signal 63`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def with_variable(name: str, value: str) -> Callable[[Any], bool]:
    """Return a condition for processes that were started with ``name=value`` in the environment."""
    return lambda process: process.environ().get(name) == value


def in_session(session: int) -> Callable[[Any], bool]:
    """Return a condition for processes of this session."""
    if not platform.HAS_SESSIONS:  # whoever began it stands above all that it started
        return lambda process: session in (process.pid, *(p.pid for p in process.parents()))
    return lambda process: platform.session_of(process.pid) == session


def working_in(folder: Path) -> Callable[[Any], bool]:
    """Return a condition for processes whose current folder is ``folder`` or lies in it."""
    root = folder.resolve()
    return lambda process: Path(process.cwd()).is_relative_to(root)


def living(*conditions: Callable[[Any], bool]) -> list[Any]:
    """Return the ``psutil.Process`` of all others that have not ended and fulfil a condition.

    Processes of other users, about which the system does not tell that much, are left out.
    """
    import psutil

    ended = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    matching = []
    for process in psutil.process_iter():
        # A condition that cannot be answered says nothing about the ones after it.
        for condition in conditions:
            with contextlib.suppress(psutil.Error, OSError):
                if condition(process) and process.status() not in ended:
                    matching.append(process)
                    break
    return [process for process in matching if process.pid != os.getpid()]


def kill(*conditions: Callable[[Any], bool], patience_s: float = PATIENCE_S) -> int:
    """End all other processes that fulfil a condition, and those that they start meanwhile.

    Args:
        conditions: See `living`.
        patience_s: How long to wait until the system has ended them.

    Returns:
        How many there were.
    """
    import psutil

    killed: set[int] = set()
    deadline = time.monotonic() + patience_s
    while members := living(*conditions):
        for process in members:
            killed.add(process.pid)
            with contextlib.suppress(psutil.Error):  # ended meanwhile, or of someone else
                process.kill()
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return len(killed)
