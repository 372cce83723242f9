"""Several recordings at once: a line each, and one exit status for all."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import cli.main as cli
from analyzers.verdict_words import (
    command_below,
    steps_preamble,
    without_command,
    without_preamble,
)
from cli import diagnoses as several
from cli.watching import Arrivals
from collectors.errors import RefusedError
from library import cache
from reports.diagnoses import DiagnosedFile, diagnoses
from reports.terminal import Screen, terminal_text
from tests import scenarios


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv(cache.DATA_DIR_VARIABLE, str(tmp_path_factory.mktemp("library")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def junk(tmp_path_factory):
    path = tmp_path_factory.mktemp("junk") / "junk.sqlite"
    path.write_bytes(b"junk")
    return path


def run(capsys, *arguments):
    status = cli.main(["diagnose", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_each_of_several_recordings_has_one_line(junk, capsys):
    healthy, sync = scenarios.scenario("healthy"), scenarios.sync()
    status, out, err = run(capsys, sync, junk, healthy)
    assert (status, err) == (2, "")
    head, first, second, third = out.splitlines()
    assert head.split() == ["File", "GPU", "busy", "Cause", "Verdict"]
    report = json.loads(run(capsys, sync, "--json")[1])
    assert first.startswith(Path(sync).name)
    assert f"sync {report['verdict']['share']:.0%}".replace("%", " %") in first
    assert first.endswith(without_command(without_preamble(report["verdict"]["sentence"])))
    assert "within them" not in first
    assert "refused" in second
    assert second.endswith(run(capsys, junk)[2].strip().partition(f"{junk.name}: ")[2])
    assert " healthy " in third
    assert run(capsys, sync, healthy)[0] == 0


def test_a_line_names_no_section_that_stands_in_other_answers():
    said = f"{steps_preamble(0.099)}transfer-bound: copies. Not examined{command_below('ncu')}."
    assert without_command(without_preamble(said)) == "Transfer-bound: copies. Not examined."
    damaged = f"Of a damaged file: {steps_preamble(0.099)}transfer-bound."
    assert without_preamble(damaged) == "Of a damaged file: transfer-bound."
    verdict = SimpleNamespace(cause="bandwidth", share=0.4, sentence=said)
    report = SimpleNamespace(verdict=verdict, devices=())
    document = diagnoses([DiagnosedFile(path="a.sqlite", report=report)])
    assert terminal_text(document, Screen(width=200)).rstrip().endswith("Not examined.")


def test_reasons_in_full_are_refused_for_several_recordings(tmp_path, capsys):
    for arguments in (("a", "b"), ("a", "--watch", tmp_path)):
        status, out, err = run(capsys, "--verbose", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "--verbose is for one recording" in err


def test_several_recordings_as_json_are_one_object_on_each_line(junk, capsys):
    sync = str(scenarios.sync())
    status, out, err = run(capsys, sync, junk, "--json")
    assert (status, err) == (2, "")
    answered, refused = map(json.loads, out.splitlines())
    assert (answered["path"], answered["status"]) == (sync, 0)
    assert answered["report"] == json.loads(run(capsys, sync, "--json")[1])
    assert (refused["path"], refused["status"]) == (str(junk), 2)
    assert refused["error"].startswith("not a recording")


def test_one_exit_status_tells_the_worst(monkeypatch, junk, capsys):
    def failing(path, **_):
        raise {"a": RefusedError("a: no"), "b": ZeroDivisionError(), "c": OSError(28, "")}[
            path.name
        ]

    monkeypatch.setattr(several.api, "begin_opening", failing)
    assert run(capsys, "a", "a")[0] == 2
    assert run(capsys, "a", "c", "a")[0] == 3
    status, out, _ = run(capsys, "b", "c")
    assert status == 70
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["defect", "not"]


def test_nothing_to_diagnose_is_a_wrong_argument(tmp_path, capsys):
    status, out, err = run(capsys)
    assert (status, out, err.count("\n")) == (2, "", 1)
    status, out, err = run(capsys, "--watch", tmp_path / "absent")
    assert (status, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_line_is_as_long_as_the_terminal_and_ends_between_words(width):
    reason = " ".join(["damaged"] * 60)
    files = [DiagnosedFile(path=f"{n}/run.sqlite", status=2, trouble=reason) for n in range(2)]
    _, *lines = terminal_text(diagnoses(files), Screen(width=width)).splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines):
        assert len(line) <= width
        assert line.startswith(f"{number}/run.sqlite")  # the same name twice: with the folder
        assert line.endswith("damaged…")


def test_a_watched_folder_gives_each_recording_when_it_has_settled(tmp_path):
    (tmp_path / "old.sqlite").write_bytes(b"x")
    arrivals = Arrivals(tmp_path)
    assert arrivals.look() == []
    new, below = tmp_path / "new.nsys-rep", tmp_path / "run" / "new.sqlite"
    below.parent.mkdir()
    new.write_bytes(b"x")
    (tmp_path / "empty.sqlite").touch()
    for name in (".new.sqlite", "notes.txt", "other.json", "table.csv", "telemetry.sqlite"):
        (tmp_path / name).write_bytes(b"x")
    assert arrivals.look() == []
    new.write_bytes(b"xy")  # still being written
    below.write_bytes(b"x")
    os.utime(below, ns=(1, 1))
    assert arrivals.look() == []
    assert arrivals.look() == [below, new]
    assert arrivals.look() == []
    new.write_bytes(b"xyz")  # recorded again
    assert arrivals.look() == []
    assert arrivals.look() == [new]


def test_what_arrives_is_diagnosed_until_ctrl_c(tmp_path, monkeypatch, junk, capsys):
    sync = Path(scenarios.sync())

    def steps():
        shutil.copy(sync, tmp_path / "first.sqlite")
        yield
        yield
        shutil.copy(junk, tmp_path / "second.sqlite")
        yield
        yield
        raise KeyboardInterrupt

    step = steps()
    monkeypatch.setattr(several, "time", SimpleNamespace(sleep=lambda _s: next(step)))
    status, out, err = run(capsys, "--watch", tmp_path)
    assert (status, err) == (2, "")
    head, first, second = out.splitlines()
    assert first.startswith("first.sqlite ")
    assert first.index("sync ") == second.index("refused") == head.index("Cause")
