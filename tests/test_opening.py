"""The way from asked to verdict, without pages: what is said when, and who shares a way."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from analyzers.facts.facts import WindowError
from collectors.errors import EnvironmentFailedError, RefusedError, SeveralRecordingsError
from jobs.progress import Progress
from jobs.steps import READING_SHARE
from views.shared import opening
from views.shared.opening import KEPT_WAYS, LOST, Stage, Ways, state_of

FILE = Path("/recordings/run.sqlite")


class FakeJob:
    """A job whose progress a test sets."""

    made = 0

    def __init__(self, name=FILE.name):
        FakeJob.made += 1
        self.id, self.name = f"job{FakeJob.made}", name
        self.now, self.error = Progress(fraction=0.0, stage="starting"), None

    def progress(self):
        return self.now

    def end(self, error=None):
        self.error = error
        ready = {"trace_id": "t"} if error is None else {"error": str(error)}
        self.now = Progress(fraction=1.0, stage="ready", done=True, **ready)

    def wait(self):
        raise self.error

    def cancel(self):
        self.end(EnvironmentFailedError(f"{self.name}: cancelled"))


@pytest.fixture
def jobs(monkeypatch):
    begun = []

    def begin(path):
        begun.append(FakeJob(path.name))
        return begun[-1]

    monkeypatch.setattr(opening, "begin_opening", begin)
    monkeypatch.setattr(opening.cache, "note_reopening", lambda _path: None)
    return begun


@pytest.mark.parametrize(
    ("fraction", "stage"),
    [
        (0.0, Stage.ASKED),
        (0.001, Stage.READING),
        (READING_SHARE - 0.001, Stage.READING),
        (READING_SHARE, Stage.ANALYSING),
        (1.5, Stage.ANALYSING),
    ],
)
def test_the_share_that_is_done_says_which_step_it_is(fraction, stage):
    state = state_of("run.sqlite", Progress(fraction=fraction, stage="words"))
    assert (state.stage, state.words, state.stage.is_last) == (stage, "words", False)
    assert 0 <= state.fraction <= 1


def test_a_way_ends_with_a_verdict_or_with_why_there_is_none():
    ready = Progress(fraction=1.0, stage="ready", done=True, trace_id="t")
    failed = Progress(fraction=1.0, stage="failed", done=True, error="run.sqlite: too short")
    assert state_of("run.sqlite", ready).trace_id == "t"
    assert state_of("run.sqlite", ready).stage is Stage.VERDICT
    refused = state_of("run.sqlite", failed)
    assert (refused.stage, refused.words) == (Stage.REFUSED, "run.sqlite: too short")
    assert refused.stage.is_last


def test_readers_who_ask_for_one_file_share_its_way_until_it_ends(jobs):
    ways = Ways()
    first = ways.open(FILE)
    assert ways.open(FILE) == first
    assert ways.open(Path("/recordings/other.sqlite")) != first
    jobs[0].end()
    assert ways.state(first).stage is Stage.VERDICT
    assert ways.open(FILE) != first  # the file may have changed since
    assert len(jobs) == 3


def test_what_cannot_begin_is_refused_at_once(monkeypatch):
    def full(_path):
        raise EnvironmentFailedError("no disk space left")

    monkeypatch.setattr(opening, "begin_opening", full)
    ways = Ways()
    state = ways.state(ways.open(FILE))
    assert (state.stage, state.words) == (Stage.REFUSED, "no disk space left")


def test_a_way_that_nobody_knows_says_so():
    assert Ways().state("gone").words == LOST


def test_a_stopped_way_is_refused_and_a_wrong_window_offers_another(jobs):
    ways = Ways()
    way = ways.open(FILE)
    ways.stop(way)
    assert ways.state(way).words == "run.sqlite: cancelled"
    assert not ways.state(way).other_window
    jobs[0].end(WindowError("no such iteration"))
    assert ways.state(way).other_window
    jobs[0].end(RefusedError("too short"))
    assert not ways.state(way).other_window


def test_a_way_is_its_readers_own_only_if_nobody_else_began_it(jobs, monkeypatch):
    ways, trace = Ways(), SimpleNamespace(id="t")
    monkeypatch.setattr(opening, "begin_timeline", lambda *_: FakeJob())
    way = ways.analyse(trace, "iteration:1", "", reader="first")
    assert ways.analyse(trace, "iteration:1", "", reader="second") == way
    assert ways.is_begun_by(way, "first")
    assert not ways.is_begun_by(way, "second")
    opened = ways.open(FILE)  # whoever may open may stop anything
    assert not ways.is_begun_by(opened, "first")
    assert not ways.is_begun_by(opened, "")


def test_of_those_that_ended_the_oldest_are_forgotten_and_of_others_none(jobs):
    ways = Ways()
    running = ways.open(Path("/running.sqlite"))
    ended = []
    for number in range(KEPT_WAYS + 2):
        ended.append(ways.open(Path(f"/{number}.sqlite")))
        jobs[-1].end()
    assert ways.state(running).stage is Stage.ASKED
    assert ways.state(ended[0]).words == LOST
    assert ways.state(ended[2]).stage is Stage.VERDICT
    lines = [ways.refuse(str(number)) for number in range(KEPT_WAYS + 1)]
    assert ways.state(lines[0]).words == LOST
    assert ways.state(lines[1]).words == "1"


def test_an_archive_asks_which_of_its_recordings_is_meant(jobs):
    ways = Ways()
    archive = Path("/recordings/runs.zip")
    way = ways.open(archive)
    assert ways.members_to_choose(way) == ()
    (job,) = jobs
    job.end(SeveralRecordingsError("runs.zip: 2 recordings", ("a.json", "b/c.json")))
    job.now = Progress(
        fraction=1.0, stage="failed", done=True, error="2", choices=("a.json", "b/c.json")
    )
    assert ways.members_to_choose(way) == (archive / "a.json", archive / "b" / "c.json")
    assert ways.state(way).stage is Stage.REFUSED
    assert ways.members_to_choose("nobody's") == ()
    second = ways.open(archive)  # by somebody else, who takes nothing away from the first
    assert ways.members_to_choose(second) == ()
    assert ways.members_to_choose(way) == (archive / "a.json", archive / "b" / "c.json")
