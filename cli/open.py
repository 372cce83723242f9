"""``whyslow open``: open recordings in the browser, served until the command is stopped."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cli.app_path import app_path
from cli.recordings import open_with_progress
from cli.terminal import exit_on_signal

QUIET_S = 5.0  # a cold start takes 2 s; a busy disk may need a lot longer
REMINDER_S = 30.0
ANSWER_S = 2.0  # for one answer; the server works on nothing yet
HOST = "127.0.0.1"
HOSTS_VARIABLE = "WHYSLOW_ALLOWED_HOSTS"  # as in views.server.hosts, which loads Streamlit


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the recordings and the server's options."""
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    command.add_argument(
        "--host",
        default=HOST,
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s); at any other but this machine's own, "
        "the server asks for a token, which it prints",
    )
    command.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that the server answers to, such as that of a proxy; "
        "everybody is then asked for a token",
    )
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    command.add_argument(
        "--port", type=int, default=0, help="port of the server (default: any free one)"
    )


def run(chosen: argparse.Namespace) -> None:
    """Open the recordings and serve the pages."""
    import webbrowser

    port = _free_port(chosen.host, chosen.port)
    if chosen.allowed_host:
        names = [os.environ.get(HOSTS_VARIABLE, ""), *chosen.allowed_host]
        os.environ[HOSTS_VARIABLE] = ",".join(filter(None, names))
    trace_id = ""
    for path in chosen.paths:
        trace_id = open_with_progress(path).trace.id
    signal.signal(signal.SIGTERM, exit_on_signal)  # or the server would go on without us
    with _server(chosen.host, port) as process:
        url = _address(chosen.host, port)
        _wait_until_healthy(process, url)
        url += f"/?trace={trace_id}"
        print(f"whyslow is at {url} (stop it with Ctrl-C)", flush=True)
        if not chosen.no_browser:
            webbrowser.open(url)
        status = process.wait()
        if status:
            _server_failed(f"stopped with exit status {status}")


def _address(host: str, port: int) -> str:
    """Return where this machine reaches a server that listens on ``host``."""
    near = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def _free_port(host: str, requested: int) -> int:
    """Return ``requested``, or any free port for 0."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, requested))
        except (OSError, OverflowError):
            _server_failed(f"cannot listen on port {requested}")
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _server(host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the pages; they end with us."""
    app = app_path()
    command = [sys.executable, "-m", "streamlit", "run", str(app), "--server.headless=true"]
    command += [f"--server.address={host}", f"--server.port={port}"]
    command += ["--browser.gatherUsageStats=false", "--client.showErrorDetails=none"]
    process = subprocess.Popen(command, cwd=app.parent, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(process: subprocess.Popen[bytes], address: str) -> None:
    """Wait until the server answers, as long as it lives, and say so when that takes long."""
    import urllib.error  # slow to import, and no other command needs it
    import urllib.request

    # A proxy of the environment has no business with our own machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    begun = time.monotonic()
    said_s = QUIET_S
    while process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            direct.open(f"{address}/_stcore/health", timeout=ANSWER_S).close()
            return
        waited_s = time.monotonic() - begun
        if waited_s >= said_s:
            said_s += REMINDER_S
            print(
                f"whyslow: waiting for the dashboard's server to answer at {address}, for "
                f"{waited_s:.0f} s so far (process {process.pid}; Ctrl-C gives up)",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.1)
    _server_failed(f"stopped with exit status {process.returncode}")


def _server_failed(trouble: str) -> None:
    from collectors.errors import EnvironmentFailedError

    raise EnvironmentFailedError(
        f"the dashboard's server {trouble}. Is the port taken? Choose another --port"
    )
