"""What is private stays in the recording, what is said is one line, and ncu is told what to do."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli.main as cli
from captures import capturing, opening, store
from captures import order as capture_order
from captures.store import RunState
from collectors.capture import last_words, tools
from collectors.capture import run as guarded_run
from library import cache
from reports.capture import capture_summary
from reports.terminal import terminal_text
from tests.capture_runs import (
    ANNOTATED,
    PATIENCE_S,
    ROOT,
    begin,
    fake,
    isolated_data,
    needs_nsys,
    needs_nvtx,
    only_capture,
    opened_by_hand,
    recorded_by_hand,
    run,
    script,
)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    yield from isolated_data(tmp_path, monkeypatch)


CANARY = "canary-7f3a-of-another-process"


@needs_nsys
@needs_nvtx
def test_environment_and_command_line_of_other_processes_stay_out_of_the_library(tmp_path, data):
    waiting = "import sys; sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", waiting, f"--token={CANARY}"],
        env={"SECRET": CANARY, f"{CANARY}_NAME": "1"},
        stdin=subprocess.PIPE,
    )
    try:
        environment = os.environ | {"OWN_SECRET": CANARY}
        done = run("--", sys.executable, script(tmp_path, ANNOTATED), 3, env=environment)
    finally:
        other.communicate()
    assert done.returncode == 0, done.stderr
    recording = Path(only_capture().runs[0].recording)
    exported = tmp_path / "exported.sqlite"
    export = ["nsys", "export", "--type=sqlite", f"--output={exported}", str(recording)]
    subprocess.run(export, check=True, capture_output=True, timeout=PATIENCE_S)
    held = sum(CANARY in line for line in sqlite3.connect(exported).iterdump())
    assert held, "nsys stored no environment here, so this test shows nothing"
    trace = cache.get(only_capture().runs[0].trace)
    for kind in ("--perfetto", "--csv", "--parquet"):
        target = tmp_path / "exports" / kind.strip("-")
        target.parent.mkdir(exist_ok=True)
        name = f"{target}.json" if kind == "--perfetto" else str(target)
        assert cli.main(["export", str(recording), kind, name]) == 0
    shown = [p for folder in (data, tmp_path / "exports") for p in folder.rglob("*")]
    holding = [p for p in shown if p.is_file() and p != recording and CANARY.encode() in read(p)]
    assert holding == []
    for table in ("strings", "processes", "threads", "diagnostics"):
        assert CANARY not in str(trace.arrow(table).to_pydict())


def read(path):
    return path.read_bytes()


# What is told is one line, whatever a program prints and however it ends.


@given(st.binary(max_size=400))
def test_a_programs_last_words_are_one_printable_line(printed):
    line = last_words.last_line(printed)
    assert len(line) <= last_words.MAX_REASON
    assert line.isprintable()


def test_what_nsys_adds_is_not_taken_for_the_programs_last_words():
    said = b"boom\nGenerating '/data/run-1/nsys-report-2438.qdstrm'\n"
    bar = b"\r[1/1] [0%      ] a.nsys-rep\r[1/1] [=====100%] a.nsys-rep"
    assert (
        last_words.last_line(said + bar + b"\nGenerated:\n    /data/run-1/a.nsys-rep\n") == "boom"
    )
    assert last_words.last_line(b"Generated:\n    /data/run-1/a.nsys-rep\n") == ""


FRAMES = """Traceback (most recent call last):
  File "/home/me/job/train.py", line 31, in <module>
    main()
  File "/home/me/job/train.py", line 12, in main
    loss(x)
    ^^^^^^^
  File "/opt/env/lib/python3.11/site-packages/torch/nn/functional.py", line 3104, in loss
    return torch._C._nn.loss(x)
"""


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (f"step 1\n{FRAMES}ValueError: bad shape\n", "ValueError: bad shape at train.py:12"),
        (f"{FRAMES}KeyError: 3\nwandb: run ended\n", "KeyError: 3 at train.py:12"),
        (f"{FRAMES}AssertionError\n", "AssertionError at train.py:12"),
        (
            "".join(
                f"[rank1]: {line}\n" for line in f"{FRAMES}a.b.OutOfMemoryError: no".split("\n")
            ),
            "a.b.OutOfMemoryError: no at train.py:12",
        ),
        (
            f"{FRAMES}ValueError: first\n\nDuring handling of the above exception, another "
            f"exception occurred:\n\n{FRAMES}RuntimeError: last\n",
            "RuntimeError: last at train.py:12",
        ),
        (
            f"{FRAMES}ValueError: bad\n{FRAMES}torch.distributed.elastic.multiprocessing.errors."
            "ChildFailedError:\n====\ntrain.py FAILED\n====\n",
            "ValueError: bad at train.py:12",
        ),
        # No frame of its own: the innermost there is.
        (
            'Traceback (most recent call last):\n  File "<frozen runpy>", line 88, in _run\n'
            "ImportError: x\n",
            "ImportError: x at <frozen runpy>:88",
        ),
        (
            '  File "/job/train.py", line 3\n    def\n       ^\nSyntaxError: invalid syntax\n',
            "SyntaxError: invalid syntax at train.py:3",
        ),
        ("CUDA error at main.cu:33\n", "CUDA error at main.cu:33"),
        ("", ""),
    ],
)
def test_a_program_that_fails_is_quoted_with_its_own_line(printed, words):
    nsys = b"Generating '/data/run-1/nsys-report-2438.qdstrm'\n"
    assert last_words.failure_words(printed.encode() + nsys) == words


@given(st.binary(max_size=400))
def test_whatever_a_program_prints_its_failure_is_one_printable_line(printed):
    words = last_words.failure_words(FRAMES.encode() + printed)
    assert words.isprintable()
    assert len(words) <= 2 * last_words.MAX_REASON + 4


def test_a_crash_is_told_with_what_was_printed_last_and_a_kill_without():
    def trouble(number):
        ending = guarded_run.Ending(
            status=-number, late=False, printed=b"what(): bad\n", began=1.0, ended=2.0
        )
        return ending.trouble()

    assert trouble(6) == "the program was ended by SIGABRT after it printed 'what(): bad'"
    assert trouble(9) == "the program was ended by SIGKILL"


@given(st.integers(-64, 255), st.booleans())
def test_every_ending_but_a_good_one_has_a_sentence(status, late):
    ending = guarded_run.Ending(status=status, late=late, printed=b"", began=1.0, ended=2.0)
    assert bool(ending.trouble()) is (late or status != 0)


def test_the_answer_lists_each_run_and_how_to_go_on():
    def done(tool, role, number):
        return store.Run(
            tool=tool,
            role=role,
            number=number,
            state=RunState.DONE,
            recording=f"/r/{role}-{tool}-{number}",
            trace="t",
            sentence=f"Verdict of {role}.",
            notes=("9 of the 9 ranges",),
        )

    order = capture_order.Order(workload="launch", tools=("nsys",), repeat=2)
    runs = tuple(done(r.tool, r.role, r.number) for r in capture_order.runs_of(order))
    skipped = store.Run(
        tool="ncu", role="baseline", number=1, state=RunState.SKIPPED, error="no GPU"
    )
    capture = store.Capture(id="0" * 12, workload="launch", runs=(*runs, skipped))
    lines = terminal_text(capture_summary(capture)).splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("base")] == [
        ["baseline", "nsys", "1"],
        ["baseline", "nsys", "2"],
        ["baseline", "ncu", "1"],
    ]
    assert "  9 of the 9 ranges (4 runs)" in lines
    assert lines[-1] == (
        "  Compare: whyslow compare /r/baseline-nsys-1 /r/baseline-nsys-2 "
        "--new /r/optimized-nsys-1 /r/optimized-nsys-2"
    )


# What is asked of ncu comes from a timeline.


def test_without_a_gpu_no_comparison_is_offered():
    runs = tuple(
        store.Run(
            tool="torch",
            role=role,
            number=1,
            state=RunState.DONE,
            recording=f"/r/{role}",
            trace="1",
            sentence=store.NO_GPU,
        )
        for role in capture_order.ROLES
    )
    lines = terminal_text(capture_summary(store.Capture(id="1", runs=runs))).splitlines()
    assert any(line.startswith("  Open: ") for line in lines)
    assert not any(line.startswith("  Compare: ") for line in lines)


def test_ncu_examines_the_kernels_that_hold_the_time():
    options = opening.ncu_options(opened_by_hand().stored)
    assert options[:2] == ("--clock-control", "none")
    assert "--launch-count" in options
    assert "-o" not in options


def test_runs_of_baseline_and_twin_alternate_and_ncu_comes_last():
    order = capture_order.Order(workload="launch", tools=("all",), repeat=2)
    runs = [(run.tool, run.role, run.number) for run in capture_order.runs_of(order)]
    assert [r[1:] for r in runs if r[0] == "nsys"] == [
        ("baseline", 1),
        ("optimized", 1),
        ("baseline", 2),
        ("optimized", 2),
    ]
    assert [r for r in runs if r[0] == "ncu"] == [("ncu", r, 1) for r in capture_order.ROLES]
    assert runs[-1][0] == "ncu"


def test_the_state_is_whole_json_at_every_moment(tmp_path, data):
    asked = begin("--with", "torch", "--", sys.executable, script(tmp_path, "import time"))
    while asked.poll() is None:
        for path in data.glob("captures/*/state.json"):
            assert json.loads(path.read_text())["schema"] == store.SCHEMA
    asked.communicate()


FAKE_NCU = """#!/bin/sh
# Keeps its own command line, and writes a report where it is told to.
printf '%s\\n' "$@" > "$0.arguments"
while [ $# -gt 1 ]; do [ "$1" = --export ] && out=$2; shift; done
cp "$(cat "$0.report")" "$out"
"""


def test_counters_are_recorded_of_the_kernels_of_the_timeline(tmp_path, data, monkeypatch):
    fake(tmp_path / "ncu", FAKE_NCU)
    report = ROOT / "traces" / "synthetic" / "synthetic_counters_uncoalesced.ncu-rep"
    (tmp_path / "ncu.report").write_text(str(report))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(tools, "has_gpu", lambda: True)
    monkeypatch.setattr(capturing, "run_torch_hook", lambda *_: recorded_by_hand(tmp_path))

    def opened(path, window):
        from jobs import api

        is_counters = path.suffix == ".ncu-rep"
        return api.open_recording(path, window=window) if is_counters else opened_by_hand()

    order = capture_order.Order(command=("/bin/true", "--its own"), tools=("torch", "ncu"))
    capture = capturing.capture(order, opened)
    assert [run.state for run in capture.runs] == [RunState.DONE, RunState.DONE]
    assert Path(capture.runs[1].recording).read_bytes() == report.read_bytes()
    told = (tmp_path / "ncu.arguments").read_text().splitlines()
    assert told[:2] == ["--clock-control", "none"]
    assert told[-2:] == ["/bin/true", "--its own"]
    assert "--launch-count" in told
    assert any(word.startswith("regex:^(") for word in told)
