"""A plugin of pytest that writes how long every test took."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

_time_s: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know where the times go."""
    parser.addoption("--times-to", default="")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up setting up, running and tearing down."""
    _time_s[report.nodeid] += report.duration  # type: ignore[assignment]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the times, from the one process that heard of all tests."""
    place = session.config.getoption("--times-to")
    if place and "PYTEST_XDIST_WORKER" not in os.environ:
        Path(place).write_text(json.dumps(_time_s))
