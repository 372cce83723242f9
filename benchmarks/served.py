"""A server of the product on a free port, and how long its pages take in a browser.

``python -m benchmarks.served`` prints what a reader waits for, with the browser's processor as it
is and slowed down four times; ``--check`` fails when a limit is broken. On a busy machine the
figures are those of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
START_S = 60
SAMPLE = ROOT / "traces" / "synthetic" / "synthetic_launch.sqlite"
SLOWER = (1, 4)  # times, the browser's processor
LARGE_BYTES = 300_000_000
LIMITS_S = {
    "first paint": 1.5,
    "verdict of a recording opened before": 1.0,
    "Overview to Kernels": 0.5,
    "Kernels to Open": 0.5,
    "progress of 300 MB": 0.5,
}


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        address: Where it answers.
        pid: Its process.
    """

    address: str
    pid: int


@contextlib.contextmanager
def serve(data: Path, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run ``streamlit run app.py`` over the library in ``data`` until the block is left.

    Args:
        data: The library.
        variables: Further environment variables.

    Raises:
        RuntimeError: It did not come up; the message is its log.
    """
    port = _free_port()
    data.mkdir(parents=True, exist_ok=True)
    with (data / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"],
            cwd=ROOT,
            env={**os.environ, "WHYSLOW_DATA_DIR": str(data), **(variables or {})},
            stdout=log,
            stderr=log,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            if not _is_up(process, address):
                raise RuntimeError((data / "server.log").read_text(errors="replace"))
            yield Server(address, process.pid)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()
            process.wait()


def _is_up(process: subprocess.Popen[bytes], address: str) -> bool:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api/health", timeout=2).close()
            return True
        time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def page_times(address: str, large: Path, slower: int) -> dict[str, float]:
    """Return what a reader waits for, in seconds, in a browser that is so many times slower.

    Args:
        address: Of a server whose library holds ``SAMPLE``.
        large: A recording that was never opened.
        slower: What the browser's processor is divided by.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(base_url=address)
        page.set_default_timeout(60_000)
        page.goto("/")  # the second load of a page has its scripts in the browser's cache
        page.locator(".st-key-verdict h2").wait_for()
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": slower})
        page.goto("/")
        page.locator(".st-key-verdict h2").wait_for()
        paint = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
        )
        times = {"first paint": float(paint)}
        times["Overview to Kernels"] = _wait(page, "link", "Kernels", ".st-key-kernel_table")
        times["Kernels to Open"] = _wait(page, "link", "Open", "[data-testid=stForm]")
        times["verdict of a recording opened before"] = _wait(
            page, "link", "Show", ".st-key-verdict h2"
        )
        _wait(page, "link", "Open", "[data-testid=stForm]")
        page.locator("[data-testid=stForm] input").fill(str(large))
        form = "[data-testid=stForm] button"
        began = time.monotonic()
        page.locator(form).last.click()
        page.locator(".whyslow-progress").wait_for()
        times["progress of 300 MB"] = time.monotonic() - began
        browser.close()
    return times


def _wait(page: Page, role: Literal["link", "button"], name: str, selector: str) -> float:
    """Return the seconds from a click until ``selector`` is there."""
    began = time.monotonic()
    page.get_by_role(role, name=name, exact=True).first.click()
    page.locator(selector).wait_for()
    return time.monotonic() - began


def large_recording(folder: Path, number: int) -> Path:
    """Write a recording of 300 MB: the sample, and a table of zeros that nothing asks for."""
    path = folder / f"large_{number}.sqlite"
    shutil.copy(SAMPLE, path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE filling AS SELECT zeroblob(?) AS zeros", (LARGE_BYTES,))
    return path


def main() -> int:
    """Print the times; return 1 with ``--check`` when one is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a limit is broken")
    is_checked = parser.parse_args().check
    over = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        order = [sys.executable, "-m", "cli", "diagnose", str(SAMPLE), "--data-dir", str(data)]
        subprocess.run(order, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        with serve(data) as server:
            for number, slower in enumerate(SLOWER):
                large = large_recording(folder, number)
                for what, seconds in page_times(server.address, large, slower).items():
                    limit = LIMITS_S[what]
                    over += seconds > limit
                    print(f"CPU / {slower}  {what:38} {seconds:6.2f} s  (limit {limit} s)")
    return int(bool(over) and is_checked)


if __name__ == "__main__":
    sys.exit(main())
