"""A server of the product on a free port, for whoever looks at it from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_S = 60


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
