"""Keeps one program and everything it starts from outliving the capture that it belongs to.

Profilers leave daemons in sessions of their own, and whoever captures can be killed at any moment.
So the program runs under this process, which the kernel makes the parent of every orphan among
its descendants. It holds one end of a pipe; when the other end is closed, for whatever reason, it
ends every descendant.

It runs isolated (``python -I -S``), so that nothing in the program's environment can stop it: only
the standard library can be imported, and processes are read from ``/proc`` instead of ``psutil``.

Run as ``python -I -S guard.py PRIVATE -- COMMAND…``. It reads ``t`` or ``i`` (ask the program to
end by SIGTERM, or its group by SIGINT as Ctrl-C does) from its standard input, writes JSON lines
(``pid``, then ``status`` or ``error``) to its standard output, and gives its standard error to the
program as output. ``PRIVATE`` is a folder of the run, which it deletes when the capturing process
is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

TERMINATE, INTERRUPT = b"t", b"i"  # what is read from standard input
MARK = "WHYSLOW_CAPTURE"  # in the environment of everything that a capture starts
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LINGER_S = 2.0  # daemons of a profiler end by themselves a moment after it
POLL_S = 0.05
PATIENCE_S = 10.0  # a killed process that waits for a disk goes when the disk answers
REFUSED = 127  # exit status when the program could not be started


def main(arguments: list[str]) -> int:
    """Run the command under guard; return 0 once nothing of it is left."""
    private, command = Path(arguments[0]), arguments[2:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
        )
    except OSError as error:
        _send(error=os.strerror(error.errno or 0))
        return REFUSED
    _send(pid=child.pid)
    abandoned = _outlast(child)
    if not abandoned:
        _send(status=child.returncode)  # at once: who asks for its end from now on comes too late
        _linger()
    kill_descendants(os.getpid())
    _reap()
    if abandoned:
        shutil.rmtree(private, ignore_errors=True)
    return 0


def _outlast(child: subprocess.Popen[bytes]) -> bool:
    """Wait until the program ends; return True when whoever captures went first."""
    ended = os.pidfd_open(child.pid)
    while True:
        ready = select.select([0, ended], [], [])[0]
        if ended in ready:
            child.wait()
            return False
        order = os.read(0, 1)
        if not order:
            return True
        if order == INTERRUPT and os.getpgrp() == os.getpid():
            _interrupt_group()
        else:
            child.send_signal(signal.SIGINT if order == INTERRUPT else signal.SIGTERM)


def _interrupt_group() -> None:
    """Interrupt all that a terminal's Ctrl-C would: a shell alone waits for what it runs.

    This process leads the group. What the program put into groups of their own is left to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program has begun, so inherits it no more
    os.killpg(os.getpgrp(), signal.SIGINT)


def _linger() -> None:
    """Give what the program left behind a moment to end by itself."""
    deadline = time.monotonic() + LINGER_S
    while time.monotonic() < deadline and descendants(os.getpid()):
        if select.select([0], [], [], POLL_S)[0]:
            return  # nobody waits any more


def _send(**message: object) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(1, json.dumps(message).encode() + b"\n")


def descendants(root: int) -> set[int]:
    """Return all living processes below ``root``."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    below: set[int] = set()
    waiting = [root]
    while waiting:
        children_of_next = children.get(waiting.pop(), [])
        below.update(children_of_next)
        waiting += children_of_next
    return below


def kill_descendants(root: int) -> None:
    """End all processes below ``root``, and those that they start meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while (alive := descendants(root)) and time.monotonic() < deadline:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S / 5)


def _reap() -> None:
    """Take note of the end of every child: not every container's first process does."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _parents() -> list[tuple[int, int]]:
    """Return number and parent of every process that has not ended."""
    parents = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name in brackets may hold anything; state and parent follow it.
                after_name = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if after_name[0] not in "ZX":
                    parents.append((int(entry.name), int(after_name[1])))
    return parents


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
