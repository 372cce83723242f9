"""What tests about jobs look for: leftovers, processes, moments."""

import os
import subprocess
import sys
import time
from pathlib import Path

from library import cache


def leftovers(data_dir):
    jobs = [p for p in (data_dir / "jobs").glob("*") if not (p / "defect").exists()]
    return jobs + list((data_dir / "cache" / "tmp").glob("*"))


def processes_about(text):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if text in command and state != "Z" and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def eventually(condition, seconds=5.0, every=0.02):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every)
    return False


def start_cli(path, data_dir, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "diagnose", "--json", str(path)],
        env={**os.environ, cache.DATA_DIR_VARIABLE: str(data_dir), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
