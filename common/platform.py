"""What an operating system offers beyond Python's common ground, each with what is done without it.

Everything that differs between Linux, macOS and Windows is here. Nothing else of what reads,
analyses, compares and shows recordings names ``resource``, ``fcntl``, ``/proc``, process groups or
a signal that only some systems have (``tests/test_platform.py``). Without them an answer is the
same, and less is guarded: no limit on memory, no lock between two processes.

Programs are recorded on Linux alone (``collectors/capture``), which is told before anything runs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


def _module(name: str) -> Any:
    """Return a module of the standard library that not every system has; None without it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl, resource = _module("fcntl"), _module("resource")
HAS_SESSIONS = hasattr(os, "getsid")
HAS_GROUPS = hasattr(os, "killpg")
HAS_PROC = Path("/proc/self/statm").exists()
CAN_CAPTURE = HAS_PROC and HAS_SESSIONS and HAS_GROUPS and hasattr(os, "pidfd_open")
WAITS_FOR_PIPES = os.name != "nt"  # there, only sockets can be waited for
OWN_GROUP: dict[str, Any] = {"process_group": 0} if HAS_GROUPS else {}
"""What ``subprocess.Popen`` takes to start a process in a group of its own, where there are any."""


SYSTEM_VARIABLES = (
    (
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP"),
        *("USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA"),
    )
    if os.name == "nt"
    else ()
)
"""Variables without which no program starts, or finds its user's folders, on this system."""


def limit_memory(size_bytes: int) -> None:
    """Let this process reserve no more address space, where the system can hold it to that."""
    _lower("RLIMIT_AS", size_bytes)


def limit_processor_time(seconds: int) -> None:
    """Let this process use no more processor time, over all threads."""
    _lower("RLIMIT_CPU", seconds)


def limit_files(size_bytes: int) -> None:
    """Let this process write no larger file."""
    _lower("RLIMIT_FSIZE", size_bytes)


def leave_no_core() -> None:
    """Let a crash of this process write no image of its memory."""
    _lower("RLIMIT_CORE", 0)


def _lower(name: str, value: int) -> None:
    """Set a limit, but never above one that is already there."""
    what = getattr(resource, name, None)
    if what is None:
        return
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS knows RLIMIT_AS and refuses to set it
        resource.setrlimit(what, (value, hard))


def allow_descriptors(count: int) -> None:
    """Let this process have so many open files, or as many as the system lets it have."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(hard, count)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def file_size_limit() -> int | None:
    """Return how many bytes a file of this process may have; None for any number."""
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else int(limit)


def address_space() -> int | None:
    """Return the bytes of address space of this process; None where that cannot be read.

    Raises:
        OSError: It cannot be read now.
    """
    if resource is None or not HAS_PROC:
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * int(resource.getpagesize())


@contextlib.contextmanager
def file_lock(path: Path, *, is_shared: bool = False, waits: bool = True) -> Iterator[IO[bytes]]:
    """Hold a lock on a file, which a killed process lets go of; made where it is not there.

    Without locks of files a lock that does not wait is never had, so that nobody deletes what
    another process works on; any other is had at once.

    Args:
        path: The file.
        is_shared: Whether others may share it.
        waits: Whether to wait for those who hold it.

    Raises:
        BlockingIOError: Somebody else holds it, and ``waits`` is false.
    """
    with path.open("ab") as handle:
        if fcntl is not None:
            how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            fcntl.flock(handle, how if waits else how | fcntl.LOCK_NB)
        elif not waits:
            raise BlockingIOError
        yield handle


def lock_byte(handle: IO[bytes], byte: int) -> None:
    """Take one byte of a file until it is closed; at once without locks of files.

    Raises:
        BlockingIOError: Another process has it.
    """
    if fcntl is not None:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)


def has_closed(descriptor: int, seconds: float) -> bool:
    """Wait up to ``seconds`` for the other end of a pipe to close; for ever where one has to."""
    if WAITS_FOR_PIPES and not select.select([descriptor], [], [], seconds)[0]:
        return False
    return not os.read(descriptor, 1)


def session_of(pid: int) -> int:
    """Return the session of a process; -1 where there are none.

    Raises:
        OSError: There is no such process.
    """
    return os.getsid(pid) if HAS_SESSIONS else -1


def leads_session() -> bool:
    """Tell whether this process was started in a session of its own, and not from a shell's."""
    return not HAS_SESSIONS or os.getsid(0) == os.getpid()


def is_private(status: os.stat_result) -> bool:
    """Tell whether a file or folder is of this user, and nobody else may write to it."""
    if not hasattr(os, "getuid"):
        return True  # who may write there is told by lists that Python does not read
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def ended_by(status: int, *names: str) -> bool:
    """Tell whether an exit status of ``subprocess`` is that of one of these signals."""
    return status < 0 and any(-status == getattr(signal, name, None) for name in names)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, without taking note of it where that is possible.

    Until somebody does, the number of its group cannot be given to anyone else.
    """
    if process.returncode is not None or not hasattr(os, "waitid"):  # macOS
        return process.poll() is not None
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, flags) is not None


def end_group(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """End a process that was started with ``OWN_GROUP``, and its group with it.

    Args:
        process: It may have ended; its group may be gone.
        at_once: Whether it is not given the time to tidy up.
    """
    with contextlib.suppress(ProcessLookupError):
        if HAS_GROUPS:
            os.killpg(process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
        elif at_once:
            process.kill()
        else:
            process.terminate()


def kill(pid: int) -> None:
    """End a process at once, if it is there and ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows that ends it, too


def processes_with(is_wanted: Callable[[Path], bool]) -> list[int]:
    """Return the other processes whose folder in ``/proc`` fulfils a condition; none without it."""
    if not HAS_PROC:
        return []
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # of someone else, or gone
                if is_wanted(entry):
                    pids.append(int(entry.name))
    return pids


def ending_signals() -> list[signal.Signals]:
    """Return the signals by which a user or the system ends a program from outside."""
    names = ("SIGTERM", "SIGHUP")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def flush(path: Path) -> None:
    """Return when a file's content, or a folder's list of files, has reached the disk."""
    if os.name == "nt":  # where only a file that is open for writing can be flushed
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
