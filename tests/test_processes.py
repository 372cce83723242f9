"""Processes are found by what they belong to, and are ended together with what they start."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid

import pytest

from collectors.processes import (
    in_session,
    kill,
    living,
    signal_name,
    with_variable,
    working_in,
)

PARENT = (
    "import subprocess, sys, time\n"
    "child = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
    "print(subprocess.Popen(child, start_new_session=True).pid, flush=True)\n"
    "time.sleep(600)"
)


@pytest.fixture
def family(tmp_path):
    """Start a process with a child in a session of its own; give both, and their mark."""
    mark = uuid.uuid4().hex
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        env={**os.environ, "WHYSLOW_TEST": mark},
        start_new_session=True,
        cwd=tmp_path,
    )
    with parent.stdout:
        child = int(parent.stdout.readline())
    yield parent, child, mark
    parent.kill()
    parent.wait()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def numbers(*conditions):
    return {process.pid for process in living(*conditions)}


def test_the_signal_names_are_those_of_this_machine():
    assert signal_name(signal.SIGABRT) == "SIGABRT"
    assert signal_name(63) in {"signal 63", "SIGRTMAX-1"}


def test_a_mark_finds_what_left_the_session_and_a_session_does_not(family):
    parent, child, mark = family
    assert numbers(with_variable("WHYSLOW_TEST", mark)) == {parent.pid, child}
    assert numbers(in_session(parent.pid)) == {parent.pid}
    assert numbers(in_session(parent.pid), in_session(child)) == {parent.pid, child}


def test_a_folder_finds_what_works_in_it(family, tmp_path):
    parent, child, _ = family
    assert numbers(working_in(tmp_path)) == {parent.pid, child}
    assert numbers(working_in(tmp_path / "elsewhere")) == set()


def test_whole_families_are_killed_and_the_dead_are_not_counted(family):
    parent, child, mark = family
    family_mark = with_variable("WHYSLOW_TEST", mark)
    assert kill(family_mark) == 2
    assert parent.poll() is None or parent.returncode == -signal.SIGKILL
    assert numbers(family_mark) == set()  # the parent is a zombie until it is waited for
    assert kill(family_mark) == 0
    assert parent.wait() == -signal.SIGKILL
    assert child not in numbers(lambda _: True)


def test_whoever_looks_is_never_among_them():
    assert os.getpid() not in numbers(in_session(os.getsid(0)))
