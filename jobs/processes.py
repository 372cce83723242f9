"""The child process of a job: how it is started, and how it is ended with all it started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from common import platform
from jobs.tasks import JobOrder
from library import cache

PATIENCE_S = 1.0  # until what was killed is gone; an answer does not wait longer for it
JOB_VARIABLE = "WHYSLOW_JOB"  # marks every process that is started for a job
ORDER, RESULT, LOG = "order.json", "result.json", "log.txt"

_COMMAND = (sys.executable, "-P", "-m", "jobs.child")  # -P: the job's folder holds no code
_ROOT = str(Path(__file__).resolve().parents[1])

# One arena and one helper thread each reserve address space, which is what the limit counts; on
# a machine with many cores the defaults alone would use it up. Nothing here is linear algebra.
_CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "4",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "PYTHONWARNINGS": "default",
    "PYTHONFAULTHANDLER": "1",  # a crash leaves its place in the log
}
# Left alone, malloc keeps freed columns of up to 32 MB for later: a third of the peak.
_GIVE_MEMORY_BACK = {"MALLOC_MMAP_THRESHOLD_": "4194304"}
# Code is found as in the parent; tokens and preloaded libraries stay behind.
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TZ")
_KEPT_PREFIXES = ("LC_", "WHYSLOW_", "XDG_", "COV_")


def start_child(folder: Path, order: JobOrder) -> subprocess.Popen[bytes]:
    """Start a child that carries out ``order`` in the job's ``folder``, which is made.

    Raises:
        OSError: The folder cannot be written, or no process can be started.
    """
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    # Not encoded by msgspec: a path may hold bytes that are no text, which JSON escapes.
    cache.write_json(folder / ORDER, msgspec.to_builtins(order))
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            [*_COMMAND, str(folder)],
            stdin=subprocess.PIPE,  # closes when we die for any reason: then so does the child
            stdout=log,
            stderr=log,
            cwd=folder,
            env=_environment(folder, temporary, gives_memory_back=order.task.gives_memory_back),
            start_new_session=True,
        )


def _environment(folder: Path, temporary: Path, *, gives_memory_back: bool) -> dict[str, str]:
    kept = {
        k: v
        for k, v in os.environ.items()
        if k in (*_KEPT_VARIABLES, *platform.SYSTEM_VARIABLES) or k.startswith(_KEPT_PREFIXES)
    }
    # An entry that is empty or relative would mean the job's own folder.
    places = filter(os.path.isabs, kept.pop("PYTHONPATH", "").split(os.pathsep))
    return {
        **kept,
        **_CHILD_ENVIRONMENT,
        **(_GIVE_MEMORY_BACK if gives_memory_back else {}),
        "PYTHONPATH": os.pathsep.join((_ROOT, *places)),
        "TMPDIR": str(temporary),
        JOB_VARIABLE: str(folder),
        cache.DATA_DIR_VARIABLE: str(cache.data_dir()),
    }


def kill_session(session: int, folder: Path) -> None:
    """End every process of ``session``, and what left it but was started for ``folder``."""
    from collectors.processes import in_session, kill, with_variable  # the package loads Arrow

    kill(in_session(session), with_variable(JOB_VARIABLE, str(folder)), patience_s=PATIENCE_S)
