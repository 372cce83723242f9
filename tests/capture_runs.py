"""Programs that are run under a profiler, and what they leave behind."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from captures import store
from collectors.capture import guard as capture_guard
from collectors.capture import recorded as run_files
from collectors.capture import run as guarded_run
from library import cache

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0  # for what takes seconds on an idle machine
needs_nsys = pytest.mark.skipif(shutil.which("nsys") is None, reason="nsys is not installed")


def has_module(name):
    ask = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


needs_nvtx = pytest.mark.skipif(not has_module("nvtx"), reason="nvtx is not installed")


def isolated_data(tmp_path, monkeypatch):
    """Yield a data folder of its own; no process that was started for it may be left."""
    folder = tmp_path / "data"
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield folder
    left = leftovers(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def leftovers(folder):
    """Return the processes that were started for a capture in ``folder``, samplers included."""
    mark = os.fsencode(f"{capture_guard.MARK}={folder}")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                is_sampler = os.fsencode(folder) in (entry / "cmdline").read_bytes()
                is_sampler &= b"telemetry/sampler.py" in (entry / "cmdline").read_bytes()
                if not is_zombie and (is_sampler or mark in (entry / "environ").read_bytes()):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def script(tmp_path, text, name="program.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "cli", "capture", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def begin(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "capture", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=obey_interrupts,
    )


def obey_interrupts():
    """Undo what a shell does to a command in the background: let it be interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def only_capture():
    (capture,) = store.captures()
    return capture


ANNOTATED = """
    import nvtx, sys, time
    for step in range(int(sys.argv[1])):
        with nvtx.annotate("step"):
            time.sleep(0.01)
            with nvtx.annotate("inner"):
                time.sleep(0.002)
"""


def recorded_by_hand(tmp_path):
    ending = guarded_run.Ending(status=0, late=False, printed=b"", began=1.0, ended=2.0)
    return run_files.Recorded(path=tmp_path / "trace.json.gz", ending=ending)


def opened_by_hand():
    from jobs import api

    return api.open_recording(ROOT / "traces" / "synthetic" / "synthetic_launch.sqlite")


def fake(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
