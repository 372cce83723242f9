"""What is said of predictions: beside reality, on the command line, and kept beside a recording."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli.main as cli
from analyzers.speedups import range_text, times_text
from analyzers.whatif.whatif import agrees, beside
from benchmarks.simulated import families
from benchmarks.simulated.cases import Maker, one_thread
from benchmarks.simulated.program import Kernel, Work
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from collectors.errors import RefusedError
from jobs import api
from library import cache, predictions
from reports.terminal import terminal_text
from reports.whatif import whatif_summary
from tests.whatif_helpers import US, about, explored, some, typeset

# --- prediction beside reality ----------------------------------------------------------------


def test_prediction_and_reality_stand_in_one_sentence():
    assert beside(some(), 2.1, 2.1, 2.1) == typeset("predicted 1.9-2.3 x, measured 2.1 x")
    assert beside(some(), 2.1, 2.0, 2.2) == typeset(
        "predicted 1.9-2.3 x, measured 2.1 x (2.0-2.2 x)"
    )
    assert beside(some(), 1.2, 1.1, 1.3).endswith(": less than predicted")
    assert beside(some(), 3.0, 2.9, 3.1).endswith(": more than predicted")


def test_reality_agrees_when_the_intervals_meet():
    assert agrees(some(), 2.2, 2.6)
    assert agrees(some(), 1.0, 1.9)
    assert not agrees(some(), 1.0, 1.5)
    assert not agrees(some(), 2.6, 3.0)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1.9, 2.3, typeset("1.9-2.3 x")),
        (1.041, 1.063, typeset("1.04-1.06 x")),
        (1.19, 1.54, typeset("1.19-1.54 x")),
        (2.11, 2.09, typeset("2.1 x")),
        (14.2, 25.9, typeset("14-26 x")),
    ],
)
def test_both_ends_of_a_range_have_the_same_digits(low, high, text):
    assert range_text(low, high) == text


@given(st.floats(0.01, 1e4))
def test_a_speed_up_is_written_short(speedup):
    assert float(times_text(speedup)) == pytest.approx(speedup, rel=0.1, abs=0.01)


def test_sentences_say_what_may_be_won():
    assert some().sentence == typeset("Removing the 100 waits: 1.9-2.3 x faster")
    assert some(low=0.5, high=1.0).sentence == typeset("Removing the 100 waits: up to 2.0 x faster")
    assert some(low=0.99, high=1.01).sentence == "Removing the 100 waits: no faster"


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(tmp_path / "data"))
    recorder = Recorder()
    execute(families.sync_every_kernel(Maker(2)).program, recorder=recorder)
    return recorder.write(tmp_path / "program.sqlite")


def test_the_command_says_first_how_far_to_trust_it(recording, capsys):
    assert cli.main(["whatif", str(recording)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Replayed 1,0")
    assert lines[0].endswith("%)")
    waits = next(line for line in lines if "Removing the 1,0" in line)
    assert typeset(" x faster") in waits


def test_an_assumption_is_said_once(tmp_path):
    known = explored(tmp_path, families.tangled_steps(Maker(4)).program, [("gemm", 2.0)])
    text = terminal_text(whatif_summary(known, "program.sqlite"))
    told = [line for line in text.splitlines() if line.startswith("     Assumes: ")]
    assert told
    assert len(set(told)) == len(told)


def test_a_pause_that_is_not_recorded_is_told_and_widens_the_range(tmp_path):
    """The host is never ahead, so nothing tells how long the device pauses between kernels."""
    late = explored(tmp_path, one_thread([Work(20 * US, is_dispatch=True), Kernel(3 * US)] * 200))
    graph = about(late, "graph")
    # 200 kernels of 3 µs, which 0.3 to 3 µs may keep apart.
    assert graph.low_ns < 200 * 3.4 * US
    assert graph.high_ns > 200 * 5.9 * US
    assert any("is not recorded" in a for a in late.replay.assumptions)


def test_the_command_gives_json_and_takes_kernels(recording, capsys):
    assert cli.main(["whatif", str(recording), "--json", "--speed-up", "gemm=4"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    assert abs(answer["replay"]["error"]) < 0.01
    assert any(p["change"].endswith(":4") for p in answer["predictions"])


@pytest.mark.parametrize("text", ["gemm", "=2", "gemm=0", "gemm=-1", "gemm=fast", "gemm=nan"])
def test_what_is_no_speed_up_is_one_line(recording, capsys, text):
    assert cli.main(["whatif", str(recording), "--speed-up", text]) == 2
    assert capsys.readouterr().err.startswith(f"whyslow: {text!r} is no speed-up")


def test_a_kernel_that_is_not_there_is_a_wrong_argument(recording, capsys):
    for options in ([], ["--json"]):
        asked = ["--speed-up", "gemm=2", "--speed-up", "nope=2"]
        assert cli.main(["whatif", str(recording), *asked, *options]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        line = (
            "whyslow: --speed-up: no kernel of the window has 'nope' in its name; most time is in "
        )
        (told,) = printed.err.splitlines()
        assert told.startswith(line)
        assert len(told) > len(line)


COMPILE = """
import sys
from pathlib import Path
from analyzers.facts.facts import build_facts
from analyzers.facts.windows import choose_window
from analyzers.whatif import run
from collectors import open_trace
from library import predictions
run.INTERPRETED_STEPS = 0
trace = open_trace(Path(sys.argv[1]), Path(sys.argv[2]))
window = choose_window(build_facts(trace), "", ())
predictions.predicted(trace, predictions.Question(window=window))
"""


def test_compiled_code_is_kept_in_the_data_folder(recording, tmp_path):
    command = [sys.executable, "-c", COMPILE, str(recording), str(tmp_path / "cache")]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(cli.__file__).parents[1]
    )
    assert ran.returncode == 0, ran.stderr
    assert list((tmp_path / "data" / "compiled").rglob("*.nbi"))


@pytest.fixture
def opened(recording):
    return api.open_recording(recording)


def test_predictions_are_made_in_a_child_and_kept(opened, monkeypatch):
    window = opened.stored.report.window
    first = api.predict(opened.trace, window)
    monkeypatch.setattr(api.Job, "begin", None)  # asked again, nothing is started
    assert api.predict(opened.trace, window) == first
    assert first.predictions


def test_damaged_predictions_are_made_anew(opened):
    question = predictions.Question(window=opened.stored.report.window)
    known = api.predict(opened.trace, question.window)
    path = predictions.place_of(opened.trace, question)
    path.write_text(path.read_text().replace("removing the", "removing 1,000 of the"))
    assert predictions.load(opened.trace, question) is None
    assert not path.exists()
    assert api.predict(opened.trace, question.window) == known


def test_other_windows_and_kernels_are_other_questions(opened):
    window = opened.stored.report.window
    asked = [
        predictions.Question(window=window),
        predictions.Question(window=replace(window, start_ns=window.start_ns + 1)),
        predictions.Question(window=window, speed_ups=(("gemm", 2.0),)),
    ]
    assert len({predictions.place_of(opened.trace, q) for q in asked}) == 3


def test_a_prediction_that_needs_too_much_memory_is_one_line(opened, monkeypatch):
    monkeypatch.setenv("WHYSLOW_LIMIT_MEMORY_GB", "0.4")
    with pytest.raises(RefusedError, match="WHYSLOW_LIMIT_MEMORY_GB"):
        api.predict(opened.trace, opened.stored.report.window)


def test_compiled_code_that_others_could_change_is_not_used(recording, monkeypatch):
    import numba

    folder = cache.data_dir() / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "before")
    predictions.keep_compiled()
    assert numba.config.CACHE_DIR == "before"
    folder.chmod(0o700)
    predictions.keep_compiled()
    assert str(folder) == numba.config.CACHE_DIR


def test_nobody_else_pays_for_the_compiler():
    code = (
        "import cli.main, analyzers.whatif.whatif, library.predictions, sys; "
        "print('numba' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(cli.__file__).parent,
        env=dict(os.environ),
    )
    assert ran.stdout.strip() == "False"
