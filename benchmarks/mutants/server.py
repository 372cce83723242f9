"""Runs tests on changed code, a forked child for each trial, in a copy of the checkout.

The libraries named as arguments are imported once, before the first fork; the code of the checkout
is imported by the child, so that it finds the change. Jobs come as lines of JSON on standard
input: the test files, the tests in the order wanted, and how long they may take; an answer is one
line. See ``trial.py``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# What pytest answers with: a test failed, it was stopped, it broke, no test was there.
PASSED, NO_TESTS, BROKEN = 0, 5, 99
QUIET = 0.02  # seconds between looks at the child
PATIENCE = 20  # times the limit on the clock: other programs may hold the processors


class TestSelection:
    """A plugin of pytest that keeps the tests wanted, in their order, and remembers a failure."""

    def __init__(self, tests: list[str], answer: Path) -> None:
        self.order = {test: place for place, test in enumerate(tests)}
        self.answer = answer

    def pytest_configure(self) -> None:
        """Take what hypothesis finds first: a smaller example would cost time."""
        from hypothesis import HealthCheck, Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile(
            "mutants",
            deadline=None,
            phases=phases,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep what is wanted."""
        chosen = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(chosen, key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write which test failed."""
        if report.outcome == "failed":
            self.answer.write_text(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        """Write which file could not even be imported."""
        if report.outcome == "failed":
            self.answer.write_text(f"{report.nodeid} (import)")


def _child(job: dict[str, Any], answer: Path) -> int:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    out = os.open(answer.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, target in ((0, null), (1, out), (2, out)):
        os.dup2(target, stream)
    import pytest

    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options.append(f"--basetemp={answer.parent / 'tests'}")
    return int(
        pytest.main([*options, *job["files"]], plugins=[TestSelection(job["tests"], answer)])
    )


def _waited(child: int, limit_s: float) -> int | None:
    """Return a child's exit status, or nothing when its time was over.

    Its time is that of the processors: on a busy machine, a slow test is no endless loop.
    """
    end = time.monotonic() + PATIENCE * limit_s
    while time.monotonic() < end and _processor_s(child) < limit_s:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(QUIET)
    return None


def _processor_s(child: int) -> float:
    """Return the processor time of a child and of its ended children; 0 where it is not known."""
    try:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _answer(job: dict[str, Any], place: Path) -> dict[str, Any]:
    place.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        code = BROKEN
        try:
            code = _child(job, place)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = _waited(child, job["limit_s"])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return {"outcome": "too long", "by": ""}
    by = place.read_text() if place.exists() else ""
    outcome = "passed" if status in (PASSED, NO_TESTS) else "noticed"
    if outcome == "noticed" and not by and status >= 0:  # neither a test nor an import failed
        outcome = "broken"
        by = place.with_suffix(".txt").read_text() if status != BROKEN else "see above"
    return {"outcome": outcome, "by": by, "status": status}


def main() -> None:
    """Answer jobs until there are no more."""
    for library in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    place = Path(os.environ["TMPDIR"]) / "answer"
    for line in sys.stdin:
        # What is there is the copy; nothing of it may have been imported before the fork.
        sys.stdout.write(json.dumps(_answer(json.loads(line), place)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
