"""A server on a free port, a library of its own, and the system's Chromium."""

import shutil

import pytest

from benchmarks.served import serve
from tests.view_fakes import open_sample

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
WAIT_MS = 30_000  # two shared cores
POLICY = "Content Security Policy"  # in what the console says about what a page may not load


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("browser-library")


@pytest.fixture(scope="session")
def watched(tmp_path_factory):
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="session")
def launch(data):
    return open_sample("synthetic/synthetic_launch.sqlite", data)


@pytest.fixture(scope="session")
def sync(data):
    return open_sample("synthetic/synthetic_sync.sqlite", data)


@pytest.fixture(scope="session")
def memory(data):
    """Return a recording that has kernels in common with ``sync``."""
    return open_sample("synthetic/synthetic_memory.sqlite", data)


@pytest.fixture(scope="session")
def server(data, watched, launch):
    with serve(data, {"WHYSLOW_TRACE_ROOTS": str(watched)}) as running:
        yield running.address


@pytest.fixture(scope="session")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, server):
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme="light", base_url=server
    )
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.foreign, page.defects = [], []
    page.on("request", lambda r: page.foreign.append(r.url) if is_foreign(r.url, server) else None)
    page.on("pageerror", lambda e: page.defects.append(str(e)))
    page.on("console", lambda m: page.defects.append(m.text) if POLICY in m.text else None)
    yield page
    context.close()


def is_foreign(url, server):
    return not url.startswith((server, server.replace("http", "ws"), "data:", "blob:"))
