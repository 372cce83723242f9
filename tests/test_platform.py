"""Reading, analysing, comparing and the pages need nothing that only Linux has.

What other systems lack is hidden in a child interpreter and in the children that it starts: this
shows that nothing asks for it, not how those systems behave.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common import platform
from jobs import processes
from jobs.limits import Limits
from jobs.tasks import JobOrder, OpenRecording
from tests import scenarios

ROOT = Path(__file__).parents[1]
OWN = ROOT / "common" / "platform.py"
# What only Linux can, and is told so before it runs.
LINUX = ("collectors/capture", "collectors/telemetry", "benchmarks", "tests", "workloads", "traces")
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix"}
FUNCTIONS = {
    *("fork", "forkpty", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "geteuid"),
    *("killpg", "mkfifo", "nice", "pidfd_open", "sched_getaffinity", "setsid", "statvfs"),
    *("sysconf", "uname", "waitid", "fchmod", "posix_fadvise"),
}
SIGNALS = {"SIGKILL", "SIGHUP", "SIGXCPU", "SIGXFSZ", "SIGBUS", "SIGPIPE", "SIGQUIT", "SIGALRM"}

WORDS = re.compile(rf"\b({'|'.join(MODULES | FUNCTIONS | SIGNALS)})\b|/proc")

# Python runs this first in the child and in all that it starts. Libraries that were built for this
# system go on finding what they ask for; so does Python's own subprocess, so signals stay.
HIDDEN = f"""
import importlib, os
find = importlib.import_module
def import_module(name, package=None):
    if name in {MODULES}:
        raise ImportError(name)
    return find(name, package)
importlib.import_module = import_module
for name in {sorted(FUNCTIONS - {"sched_getaffinity", "statvfs", "sysconf", "uname"})}:
    if hasattr(os, name):
        delattr(os, name)
"""
CHILD = """
import contextlib, io, os, sys
import cli.main as cli
from common import platform

assert not (platform.HAS_SESSIONS or platform.HAS_GROUPS or platform.CAN_CAPTURE)
assert platform.fcntl is None and platform.resource is None
first, second = sys.argv[1:]
for arguments in (["diagnose", first], ["compare", first, second, "--json"], ["diagnose", "x"]):
    print(cli.main(arguments), flush=True)
print(cli.main(["capture", "--", "true"]), flush=True)
from streamlit.testing.v1 import AppTest
page = AppTest.from_file(os.environ["PAGES"], default_timeout=60).run()
assert not page.exception, page.exception
assert not page.error, page.error
print("page", len(page.main) > 0)
"""


def sources():
    for folder in sorted({path.parent for path in ROOT.glob("*/*.py")}):
        for path in sorted(folder.rglob("*.py")):
            if path != OWN and not path.relative_to(ROOT).as_posix().startswith(LINUX):
                yield path


def platform_words(path):
    """Return what a file names that not every system has, with the line."""
    text = path.read_text(encoding="utf-8")
    if not WORDS.search(text):
        return []
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {a.name for a in node.names} | {getattr(node, "module", None)}
            found += [(node.lineno, name) for name in names & MODULES]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            known = {"os": FUNCTIONS, "signal": SIGNALS}.get(node.value.id, set())
            found += [(node.lineno, node.attr)] if node.attr in known else []
        elif isinstance(node, ast.Constant) and str(node.value).startswith("/proc"):
            found.append((node.lineno, node.value))
    return found


def test_what_only_some_systems_have_is_named_in_one_file():
    assert platform_words(OWN)
    found = {str(p.relative_to(ROOT)): words for p in sources() if (words := platform_words(p))}
    assert found == {}


def test_recordings_are_read_compared_and_shown_without_it(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT))),
        "WHYSLOW_DATA_DIR": str(tmp_path / "data"),
        "PAGES": str(ROOT / "views" / "main.py"),
    }
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, scenarios.sync(), scenarios.scenario("healthy")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "ync-bound: for 43 % of the window" in ran.stdout
    statuses = [line for line in ran.stdout.splitlines() if line.isdecimal()]
    assert statuses == ["0", "0", "2", "2"], ran.stderr[-3000:]
    assert "programs are recorded on Linux only" in ran.stderr
    assert ran.stdout.splitlines()[-1] == "page True"


def test_without_locks_of_files_nothing_is_swept_and_all_else_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "fcntl", None)
    path = tmp_path / "lock"
    with platform.file_lock(path, is_shared=True), platform.file_lock(path) as handle:
        platform.lock_byte(handle, 3)
    with pytest.raises(BlockingIOError), platform.file_lock(path, waits=False):
        pass


def test_a_limit_that_the_system_refuses_to_set_is_no_failure(monkeypatch):
    def refusing(*_):
        raise ValueError("current limit exceeds maximum limit")  # macOS, of RLIMIT_AS

    monkeypatch.setattr(platform.resource, "setrlimit", refusing)
    platform.limit_memory(1 << 40)
    monkeypatch.setattr(platform, "resource", None)
    platform.limit_memory(1 << 40)
    assert platform.file_size_limit() is None
    assert platform.address_space() is None


def test_children_of_jobs_get_what_the_system_needs_to_start_them(tmp_path, monkeypatch):
    """On Windows no Python starts without ``SYSTEMROOT``; nothing else of ours comes along."""
    monkeypatch.setattr(platform, "SYSTEM_VARIABLES", ("SYSTEMROOT",))
    monkeypatch.setenv("SYSTEMROOT", "C:/Windows")
    monkeypatch.setenv("OWN_SECRET", "x")
    started = {}
    monkeypatch.setattr(processes.subprocess, "Popen", lambda _command, **how: started.update(how))
    order = JobOrder(task=OpenRecording(path="a.sqlite"), limits=Limits())
    processes.start_child(tmp_path / "job", order)
    assert started["env"]["SYSTEMROOT"] == "C:/Windows"
    assert "OWN_SECRET" not in started["env"]
