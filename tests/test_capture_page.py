"""The page Capture: what it offers, what it refuses, and how it shows what became of a capture."""

import time
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from captures import store
from captures.store import Capture, Run, RunState, State
from collectors.telemetry.file import TelemetryFile
from tests.telemetry_files import SECOND, written
from tests.view_fakes import MAIN, TIMEOUT_S, draw, library, open_sample, words
from views.parts import capture_choices, capture_live
from views.parts.capture_choices import COMMANDS_VARIABLE, pairs, parsed
from views.shared import access


@pytest.fixture
def data(tmp_path):
    with library(tmp_path):
        yield tmp_path


@pytest.fixture
def started(monkeypatch):
    """What the page asked to be started; nothing is."""
    asked = []

    def start(arguments, **known):
        asked.append(list(arguments))
        capture = Capture(id=store.new_id(), **known)
        store.save(replace(capture, **store.own_process()))
        return capture.id

    monkeypatch.setattr(store, "start", start)
    return asked


def kept(**changes):
    """Keep a capture of this process, as one that was started does."""
    known = {"workload": "launch", "tools": ("torch",)} | store.own_process()
    capture = Capture(id=store.new_id(), **known | changes)
    store.save(capture)
    return capture


def run(role, **changes):
    return Run(tool="torch", role=role, number=1, **changes)


def buttons(app):
    return {button.key: button for button in app.button}


def named(app):
    """Return the capture that the address names."""
    value = app.query_params["capture"]
    return value if isinstance(value, str) else value[0]


# --- before anything was captured -------------------------------------------------------------


def test_an_empty_page_offers_every_pair_and_says_what_each_is_slow_for(data):
    app = draw("capture")
    assert not app.exception
    offered = app.selectbox(key="pair").options
    assert len(offered) == len(pairs()) > 5
    assert app.selectbox(key="pair").value == "launch"
    assert any(pair.why and pair.why.split()[0] in words(app) for pair in pairs())
    assert "None yet" in words(app)
    assert not buttons(app)["start"].disabled


def test_every_pair_has_a_title_and_a_reason():
    for pair in pairs():
        assert pair.title
        assert len(pair.why) > 40, pair.name


def test_what_is_not_possible_here_is_said_before_anything_starts(data, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("views.capture.has_gpu", lambda: False, raising=False)
    monkeypatch.setattr(capture_choices, "has_gpu", lambda: False)
    app = draw("capture")
    assert "nsys is not installed here" in words(app)
    assert "There is no NVIDIA GPU here" in words(app)
    assert app.multiselect(key="tools").options == ["torch profiler", "telemetry"]


def test_without_torch_the_page_says_how_to_get_it(data, monkeypatch):
    monkeypatch.setattr(capture_choices, "has_torch", lambda: False)
    app = draw("capture")
    assert "pip install" in words(app)
    assert "start" not in buttons(app)


# --- starting ---------------------------------------------------------------------------------


def test_a_pair_is_started_as_the_command_line_would(data, started):
    app = draw("capture")
    app.selectbox(key="pair").set_value("sync")
    app.multiselect(key="tools").set_value(["torch", "telemetry"])
    app.number_input(key="repeat").set_value(3)
    app.number_input(key="steps").set_value(5)
    app.run()
    app.button(key="start").click().run()
    assert started == [["--with", "torch,telemetry", "--repeat", "3", "--steps", "5", "sync"]]
    assert named(app) == store.captures()[0].id
    assert "cancel" in buttons(app)


def test_commands_are_not_run_unless_the_server_was_told_to(data, started, monkeypatch):
    monkeypatch.delenv(COMMANDS_VARIABLE, raising=False)
    app = draw("capture")
    assert not app.radio
    assert COMMANDS_VARIABLE in words(app)
    app.session_state["what"] = "A command"
    app.session_state["command"] = "touch /tmp/never"
    app.run()
    app.button(key="start").click().run()
    assert started
    assert "--" not in started[0]


def test_a_command_is_run_where_the_server_was_told_to(data, started, monkeypatch):
    monkeypatch.setenv(COMMANDS_VARIABLE, "1")
    app = draw("capture")
    app.radio(key="what").set_value("A command").run()
    assert buttons(app)["start"].disabled
    app.text_input(key="command").set_value("python 'my train.py' --lr 1").run()
    app.multiselect(key="tools").set_value(["torch"]).run()
    app.button(key="start").click().run()
    wanted = ["--with", "torch", "--repeat", "1", "--", "python", "my train.py", "--lr", "1"]
    assert started == [wanted]


def test_a_command_whose_quotes_do_not_match_is_not_started():
    assert parsed("python 'x") == ()
    assert parsed("") == ()


def test_a_second_capture_waits_for_the_first(data, started):
    running = kept()
    app = draw("capture")
    assert "start" not in buttons(app)
    app.button(key="watch").click().run()
    assert named(app) == running.id
    assert "cancel" in buttons(app)


# --- what is shown of one ---------------------------------------------------------------------


def test_a_running_capture_shows_how_far_it_is_and_its_newest_numbers(data):
    path = data / "t.sqlite"
    process = [
        {"at": n * SECOND, "cpu_pct": 100 + n, "rss_bytes": 5 << 20, "threads": 4}
        for n in range(1, 9)
    ]
    gpu = [
        {"at": n * SECOND, "gpu": 0, "utilization_pct": 97, "throttle_bits": 4} for n in range(1, 9)
    ]
    written(path, host=[{"at": SECOND, "cpu_pct": 50}], process=process, gpu=gpu, state="sampling")
    runs = (run("baseline", state=RunState.RUNNING, telemetry=str(path)),)
    capture = kept(stage="torch: launch_baseline", progress=0.25, runs=runs)
    app = draw("capture", capture=capture.id)
    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Program CPU"].replace("\\", "") == "108 %"
    assert shown["GPU in use"].replace("\\", "") == "97 %"
    assert shown["GPU power"].replace("\\", "") == "n/a"
    assert "power cap" in words(app)
    (bar,) = app.get("progress")
    assert "torch: launch_baseline" in bar.proto.text.replace("\\", "")
    assert bar.proto.value == 25


def test_cancel_asks_the_capture_to_stop(data, monkeypatch):
    asked = []
    monkeypatch.setattr(store, "cancel", asked.append)
    capture = kept()
    app = draw("capture", capture=capture.id)
    app.button(key="cancel").click().run()
    assert asked == [capture.id]


@pytest.mark.parametrize(
    ("summary", "caption"),
    [("", "so Compare has no numbers to show"), ("/x", "the steps that the programs timed")],
)
def test_a_done_capture_leads_to_its_recordings_and_to_the_comparison(data, summary, caption):
    trace = open_sample("cpu_training.sqlite", data).trace.id
    runs = tuple(
        run(
            role,
            state=RunState.DONE,
            trace=trace,
            sentence="Launch-bound: 65 %",
            seconds=2.0,
            summary=summary,
        )
        for role in ("baseline", "optimized")
    )
    capture = kept(state=State.DONE, runs=runs, ended=time.time())
    app = draw("capture", capture=capture.id)
    assert not app.exception
    assert words(app).count("Launch-bound: 65 %") == 2
    links = [str(link.proto.query_string) for link in app.get("page_link")]
    assert sum(f"trace={trace}" in link for link in links) == 2
    if (capture_choices.WORKLOADS.parent / "views" / "compare.py").exists():
        assert any(f"base={trace}" in link and f"new={trace}" in link for link in links)
    assert caption in words(app)
    assert "start" in buttons(app)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.FAILED, "no space left"),
        (State.CANCELLED, "The capture was cancelled"),
        (State.LOST, "no space left"),
    ],
)
def test_how_a_capture_ended_is_said(data, state, said):
    capture = kept(state=state, error="no space left *on* device", runs=(run("baseline"),))
    (capture.folder / store.LOG).write_text("printed <b>last</b>\n")
    app = draw("capture", capture=capture.id)
    assert not app.exception
    shown = words(app) + "".join(str(i.value) for i in app.info)
    assert said in shown
    assert ("printed <b>last</b>" in shown) == (state is not State.CANCELLED)


def test_a_capture_whose_process_is_gone_is_called_lost(data):
    capture = kept(pid=2**22 - 3, created=1.0)
    app = draw("capture", capture=capture.id)
    assert "Lost" in words(app)
    assert "start" in buttons(app)


@pytest.mark.parametrize("asked", ["0123456789ab", "../../etc", "x" * 500])
def test_an_address_without_a_capture_is_one_line(data, asked):
    app = draw("capture", capture=asked)
    assert not app.exception
    assert "This capture is not here" in words(app)
    assert "start" in buttons(app)


def test_who_may_only_read_is_shown_no_capture(data, monkeypatch):
    capture = kept(state=State.FAILED, error="cannot run /home/me/secret.sh")
    monkeypatch.setattr(access, "role", lambda: access.Role.VIEWER)
    app = AppTest.from_file(str(MAIN.with_name("capture.py")), default_timeout=TIMEOUT_S)
    app.query_params["capture"] = capture.id
    app.run()
    assert [line.value for line in app.info] == [access.EDITORS_ONLY]
    assert "secret" not in words(app)
    assert not app.button


def test_earlier_captures_can_be_shown_again(data):
    capture = kept(state=State.DONE)
    app = draw("capture")
    app.button(key=f"show {capture.id}").click().run()
    assert named(app) == capture.id
    assert "Done" in words(app)


def test_a_command_in_the_state_is_shown_as_its_characters(data):
    capture = kept(workload="", command=("python", "**bold** :red[x]"), state=State.DONE)
    app = draw("capture", capture=capture.id)
    assert "**bold** :red[x]" in words(app)
    assert "**bold**" not in "".join(str(m.value) for m in app.markdown)


def test_a_file_that_cannot_be_read_yet_is_waited_for(data):
    path = data / "absent.sqlite"
    runs = (run("baseline", state=RunState.RUNNING, telemetry=str(path)),)
    app = draw("capture", capture=kept(runs=runs).id)
    assert "Waiting for the first sample" in words(app)


def test_a_line_starts_at_zero_so_that_a_steady_value_looks_steady(data):
    rows = [{"at": n * SECOND, "cpu_pct": 99 + n % 2} for n in range(1, 20)]
    with TelemetryFile(written(data / "t.sqlite", host=rows)) as file:
        chart = capture_live.figure(file.series("host_samples", "cpu_pct", last_s=20, points=10))
    low, high = chart.layout.yaxis.range
    assert low == 0
    assert high > 100
