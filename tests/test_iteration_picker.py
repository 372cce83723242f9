"""What an iteration is can be picked, overruled and read on the page, and is in its address."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from jobs import api
from tests.traces_in_memory import make_trace
from tests.view_fakes import SAMPLES, draw, library, open_sample, words
from views.shared.iteration_choices import repeated_ranges


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def launch(data):
    return open_sample("synthetic/synthetic_launch.sqlite", data)


@pytest.fixture
def pages(data):
    with library(data):
        yield


def test_what_an_iteration_is_can_be_picked_and_is_in_the_address(pages, launch):
    app = draw(trace=launch.trace.id, window="iteration:2")
    picker = app.selectbox(key="pick_iterations")
    assert picker.options[0] == "20 iterations, as marked"
    assert "Each NVTX step \N{MIDDLE DOT} 20" in picker.options
    assert picker.options[-1] == "No iterations"
    (kernel,) = [o for o in picker.options if o.startswith("From each ")][:1]
    assert kernel.endswith("launches")
    picker.select("nvtx:step").run()
    assert app.query_params["window"] == ";iterations=nvtx:step"  # iteration 2 was another's
    assert "20 repetitions of the NVTX range 'step'" in words(app)
    assert any("Iteration 3 of 20" in o for o in app.selectbox(key="pick_window").options)
    app.selectbox(key="pick_window").select("iteration:3;iterations=nvtx:step").run()
    assert app.query_params["window"] == "iteration:3;iterations=nvtx:step"
    app.selectbox(key="pick_iterations").select("").run()
    assert "window" not in app.query_params


def test_a_choice_that_does_not_fit_is_said_and_can_be_taken_back(pages, launch):
    app = draw(trace=launch.trace.id, window=";iterations=kernel:nosuch")
    assert "no such kernel" in words(app)
    assert app.selectbox(key="pick_iterations").value == "kernel:nosuch"
    app.selectbox(key="pick_iterations").select("none").run()
    assert app.query_params["window"] == ";iterations=none"
    assert "No iterations, as requested." in words(app)


def test_how_sure_found_iterations_are_stands_in_the_picker_and_on_the_page(data, tmp_path):
    path = Path(shutil.copy(SAMPLES / "synthetic" / "synthetic_host.sqlite", tmp_path / "a.sqlite"))
    path.chmod(0o600)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM NVTX_EVENTS")
    with library(data):
        trace = api.open_recording(path).trace
        app = draw(trace=trace.id)
    choice = "20 iterations of 6 launches, found (high confidence)"
    assert app.selectbox(key="pick_iterations").options[0] == choice
    assert "high confidence" in words(app)


def test_an_iteration_without_a_gpu_shows_what_the_host_did_in_it(data):
    trace = open_sample("cpu_training.sqlite", data).trace
    with library(data):
        app = draw(trace=trace.id, window="iteration:2")
    assert not app.exception
    assert app.selectbox(key="pick_iterations").options[0] == "12 iterations, as marked"
    assert "spent 5.61 ms in operators and ranges" in words(app)


@pytest.mark.parametrize("domain", ["GIL Trace", "MPI"])
def test_ranges_that_a_tracer_wrote_are_no_choice(tmp_path, domain):
    ranges = {
        "start_us": range(0, 60, 10),
        "duration_us": 9,
        "name": ["step", "Holding GIL"] * 3,
        "domain": ["mine", domain] * 3,
    }
    assert list(repeated_ranges(make_trace(tmp_path, ranges=ranges))) == ["nvtx:step"]
