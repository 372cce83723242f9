"""A plugin of pytest that writes how much processor time every test took."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

_time_s: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know where the times go."""
    parser.addoption("--times-to", default="")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Add up setting up, running and tearing down, with processes that ended in it."""
    begun = sum(os.times()[:4])
    try:
        return (yield)
    finally:
        _time_s[item.nodeid] += sum(os.times()[:4]) - begun  # type: ignore[assignment]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the times, each process its own."""
    if place := session.config.getoption("--times-to"):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        Path(f"{place}{worker}").write_text(json.dumps(_time_s))
