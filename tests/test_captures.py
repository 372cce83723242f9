"""The folder of a capture: whoever reads it knows what became of the capture."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captures import progress, store
from captures.store import Capture, Run, RunState, State
from library import cache


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(tmp_path))


def a_capture(**known):
    return Capture(id=store.new_id(), **known)


def test_what_was_saved_is_read_back():
    run = Run(tool="nsys", role="baseline", number=2, state=RunState.DONE, notes=("a", "b"))
    saved = a_capture(
        workload="launch", tools=("nsys", "torch"), runs=(run,), **store.own_process()
    )
    store.save(saved)
    assert store.read(saved.id) == saved


def test_a_running_capture_whose_process_was_killed_is_lost():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    import psutil

    known = {"pid": child.pid, "created": psutil.Process(child.pid).create_time()}
    saved = a_capture(runs=(Run(tool="nsys", role="program", number=1),), **known)
    store.save(saved)
    assert store.read(saved.id).state is State.RUNNING
    child.kill()
    child.communicate()
    lost = store.read(saved.id)
    assert lost.state is State.LOST
    assert "gone" in lost.error


def test_a_run_of_a_lost_capture_has_failed_and_one_before_it_stays_done():
    runs = (
        Run(tool="nsys", role="program", number=1, state=RunState.DONE),
        Run(tool="nsys", role="program", number=2, state=RunState.RUNNING),
        Run(tool="nsys", role="program", number=3),
    )
    store.save(lost := a_capture(runs=runs, pid=os.getpid(), created=1.0))
    states = [run.state for run in store.read(lost.id).runs]
    assert states == [RunState.DONE, RunState.FAILED, RunState.WAITING]


def test_a_number_that_another_process_got_since_does_not_count_as_alive():
    own = store.own_process()
    store.save(saved := a_capture(pid=own["pid"], created=own["created"] - 60))
    assert store.read(saved.id).state is State.LOST


def test_a_capture_that_never_began_is_lost_after_a_while():
    store.save(fresh := a_capture())
    assert store.read(fresh.id).state is State.RUNNING
    old = replace(fresh, started=time.time() - store.START_WAIT_S - 1)
    store.save(old)
    assert store.read(fresh.id).state is State.LOST


def test_captures_are_listed_the_newest_first_and_damaged_ones_are_left_out():
    done = [a_capture(state=State.DONE, started=float(s)) for s in (2, 3, 1)]
    for capture in done:
        store.save(capture)
    (store.root() / "0123456789ab").mkdir()
    (store.root() / "0123456789ab" / store.STATE).write_text('{"state": "done"')
    assert [c.started for c in store.captures()] == [3, 2, 1]


@pytest.mark.parametrize("name", ["", "..", "../jobs", "0123456789AB", "0123456789ab/x"])
def test_an_id_cannot_leave_the_folder(name):
    assert store.read(name) is None


def test_a_field_of_a_newer_version_does_not_hide_a_capture():
    store.save(saved := a_capture(state=State.DONE))
    path = saved.folder / store.STATE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "green"}))
    assert store.read(saved.id) == saved


def test_cancelling_asks_the_capturing_process_to_stop():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    import psutil

    created = psutil.Process(child.pid).create_time()
    store.save(saved := a_capture(pid=child.pid, created=created))
    assert store.cancel(saved.id)
    child.communicate()
    assert child.returncode == -signal.SIGTERM
    assert not store.cancel(saved.id)


def test_cancelling_what_has_not_begun_is_not_forgotten():
    store.save(asked := a_capture())
    assert not store.is_cancel_asked(asked)
    assert store.cancel(asked.id)
    assert store.is_cancel_asked(asked)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("train --api-key=s3cret x", "train --api-key=*** x"),
        ("train --hf-token s3cret --lr 1", "train --hf-token *** --lr 1"),
        ("train --token --lr 1", "train --token --lr 1"),
        ("env HF_TOKEN=s3cret train", "env HF_TOKEN=*** train"),
        ("get https://me:s3cret@host/data", "get https://***@host/data"),
        ("serve --max-tokens=512 --tokenizer gpt2", "serve --max-tokens=512 --tokenizer gpt2"),
        ("train --password= s3cret.py", "train --password=*** s3cret.py"),
        ("token secret", "token secret"),
    ],
)
def test_a_command_is_kept_without_its_secrets(command, shown):
    assert " ".join(store.shown_command(command.split())) == shown


@given(st.lists(st.text(max_size=300), max_size=40))
def test_whatever_a_command_is_its_first_words_can_be_kept(command):
    kept = store.shown_command(command)
    assert len(kept) <= store.SHOWN_WORDS + 1
    assert all(len(word) <= store.SHOWN_WORD for word in kept)


def test_the_part_done_grows_with_the_time_that_a_run_usually_takes():
    done = Run(tool="nsys", role="program", number=1, state=RunState.DONE, seconds=10.0)
    now = Run(tool="nsys", role="program", number=2, state=RunState.RUNNING)
    same = a_capture(command=("a",), runs=(done, now))
    assert progress.usual_seconds(now, same, ()) == 10.0
    fresh = a_capture(command=("a",), runs=(replace(now, number=1),))
    assert progress.usual_seconds(now, fresh, [same]) == 10.0
    for other in (replace(fresh, command=("b",)), replace(fresh, options=("--steps", "9"))):
        assert progress.usual_seconds(now, other, [same]) == 0.0
    assert progress.usual_seconds(replace(now, tool="torch"), same, ()) == 0.0


@given(
    st.integers(1, 9),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.one_of(st.just(0.0), st.floats(1e-3, 1e6)),
)
def test_progress_only_grows_and_a_run_never_reaches_the_next(runs, first, later, usual_s):
    first, later = sorted((first, later))
    for place in range(runs):
        one, other = (progress.part_done(place, runs, s, usual_s) for s in (first, later))
        assert place / runs <= one <= other < (place + 1) / runs


def test_only_a_capture_that_is_over_can_be_removed():
    store.save(running := a_capture(**store.own_process()))
    assert not store.remove(running.id)
    store.save(replace(running, state=State.DONE))
    assert store.remove(running.id)
    assert store.captures() == []


def test_of_a_long_command_only_its_first_words_are_kept():
    assert store.shown_command(["python", "x.py"]) == ("python", "x.py")
    kept = store.shown_command(["word"] * 1000)
    assert len(kept) == store.SHOWN_WORDS + 1
