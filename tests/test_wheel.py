"""What is installed without a checkout: code, samples, pictures, the launcher and its settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.app_path import app_path

ROOT = Path(__file__).parents[1]
PRODUCT = {
    *("analyzers", "captures", "cli", "collectors", "common", "exports", "jobs", "library"),
    *("reports", "timeline", "traces", "views", "workloads"),
}
# Pictures of the documents, and what a module was generated from.
LEFT_OUT = ("views/screenshots/", "collectors/ncu/report.proto")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return what a build puts into a wheel, by path."""
    folder = tmp_path_factory.mktemp("build")
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "egg_info", "--egg-base", folder]
    command += ["build_py", "--build-lib", folder / "lib"]
    subprocess.run([str(c) for c in command], cwd=ROOT, check=True, capture_output=True)
    lib = folder / "lib"
    return {p.relative_to(lib).as_posix() for p in lib.rglob("*") if p.is_file()}


def test_a_wheel_holds_every_file_of_the_product_and_nothing_else(installed):
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    files = tracked or [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.*")]
    ours = {
        name
        for name in files
        if name.split("/")[0] in PRODUCT
        and not name.startswith(LEFT_OUT)
        and "__pycache__" not in name
        and (ROOT / name).is_file()
    }
    launcher = {"views/launcher/app.py", "views/launcher/.streamlit/config.toml"}
    assert installed == ours | launcher


def test_in_a_checkout_the_launcher_is_that_of_the_checkout():
    assert app_path() == ROOT / "app.py"
    assert (app_path().parent / ".streamlit" / "config.toml").is_file()
