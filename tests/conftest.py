"""What holds for every test: its own data folder, and a reason when something is missing."""

import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from collectors.capture.tools import has_gpu
from jobs import processes
from library import cache
from tests import real_traces

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")

# A slow example on a busy machine is no failure; the time limits that matter have tests of their
# own.
settings.register_profile("whyslow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("whyslow")


def pytest_configure(config):
    """Keep the reader's own cache out of the tests; child processes inherit the variable."""
    os.environ["WHYSLOW_DATA_DIR"] = _folder_of_session(config)
    if real_traces.FOLDER not in os.environ:  # workers share that of the process that starts them
        os.environ[real_traces.FOLDER] = _folder_of_session(config)
    # Tests cut no power: that a file is on the disk when it is said to be costs 5 ms, and a trace
    # has seven of them. The children of jobs still wait for it.
    os.fsync = lambda _handle: None


def _folder_of_session(config):
    folder = tempfile.mkdtemp(prefix="whyslow-tests-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let each worker go through a half of the tests in order: what a file shares is made once.

    The default deals tests out by turns, so that every worker makes all that modules share.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_collection_modifyitems(items):
    missing = {
        "browser": "" if find_chromium() else "no Chromium on PATH",
        "gpu": "" if has_gpu() else "no GPU",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def find_chromium():
    return next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)


@pytest.fixture
def fake_child(tmp_path, monkeypatch):
    """Let a shell script play the child; ``$1`` is the job's folder."""

    def install(script):
        path = tmp_path / "child.sh"
        path.write_text(script + "\n")
        monkeypatch.setattr(processes, "_COMMAND", ("/bin/sh", str(path)))

    return install


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Return a data folder of the test's own."""
    folder = tmp_path / "data"
    monkeypatch.setenv(cache.DATA_DIR_VARIABLE, str(folder))
    return folder


@pytest.fixture
def recording(tmp_path):
    """Return a small recording that the test may change."""
    from tests import scenarios

    path = tmp_path / "run.sqlite"
    path.write_bytes(scenarios.sync().read_bytes())
    return path
