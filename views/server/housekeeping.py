"""What the server does beside answering: it says who comes in, deletes leftovers, ends soon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time

import anyio
import streamlit as st

from common.platform import allow_descriptors
from jobs.job import stop_running
from library import cache, inbox
from views.server import access
from views.server.connections import ClosingConnections, running_server, set_timeouts
from views.server.hosts import is_loopback_name, is_wildcard
from views.shared.access import EDITORS_VARIABLE, VIEWERS_VARIABLE, Role

LOOK_EVERY_S = 15.0
SWEEP_EVERY_S = 3_600.0
DESCRIPTORS = 65_536  # a shell often allows 1,024, and a page needs five
END_S = 1.0  # for what Python does at its end; the data folder survives any death

_MAY = {Role.VIEWER: "to read", Role.EDITOR: "to open, upload and capture, too"}


def prepare() -> None:
    """Set what has to be set before the first connection is accepted."""
    if (server := running_server()) is not None:
        set_timeouts(server)
    allow_descriptors(DESCRIPTORS)


async def keep_house() -> None:
    """End stuck connections and delete leftovers, until cancelled."""
    server = running_server()
    closing = ClosingConnections(server) if server is not None else None
    sweep_at = 0.0
    while True:
        if time.monotonic() >= sweep_at:
            sweep_at = time.monotonic() + SWEEP_EVERY_S
            await anyio.to_thread.run_sync(_sweep)
        if closing is not None:
            closing.end_stuck()
        await asyncio.sleep(LOOK_EVERY_S)


def _sweep() -> None:
    """Delete what killed jobs and interrupted uploads left behind."""
    cache.sweep()
    with contextlib.suppress(OSError):
        inbox.sweep(time.time())


def end_soon() -> None:
    """Stop what runs for readers who are gone, and end the process even if something holds on."""
    stop_running()
    last = threading.Timer(END_S, os._exit, (130,))
    last.daemon = True
    last.start()


def announce() -> None:
    """Say on the terminal where the pages are, and how others come in where that is asked."""
    bound = str(st.get_option("server.address") or "")
    near = "localhost" if is_wildcard(bound) else bound
    sys.stdout.write(f"whyslow is at {_address(near)} (stop it with Ctrl-C)\n")
    sys.stdout.flush()
    if not access.asks_for_access(bound, bound or "0.0.0.0", bound or "0.0.0.0"):
        return
    for line in _access_lines(bound):
        sys.stderr.write(f"whyslow: {line}\n")
    sys.stderr.flush()


def _address(host: str) -> str:
    scheme = "https" if st.get_option("server.sslCertFile") else "http"
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{st.get_option('server.port')}"


def _access_lines(bound: str) -> list[str]:
    if access.signs_in():
        if any(os.environ.get(v) for v in (VIEWERS_VARIABLE, EDITORS_VARIABLE)):
            return ["people sign in, and come in if they are listed"]
        return [f"nobody can come in: {VIEWERS_VARIABLE} and {EDITORS_VARIABLE} list nobody"]
    is_encrypted = bool(st.get_option("server.sslCertFile"))
    lines = []
    if file := os.environ.get(access.TOKENS_VARIABLE):
        lines.append(f"who comes in needs a token of {file}")
    else:
        address = _address(socket.gethostname() if is_wildcard(bound) else bound)
        try:
            lines += [
                f"link {_MAY[role]}: {address}/?token={token}"
                for role, token in access.tokens().items()
            ]
        except access.TokensError as error:
            return [f"nobody can come in: {error}"]
    if not is_encrypted and not is_loopback_name(bound):
        lines.append(
            "the connection is not encrypted; where others can listen, set server.sslCertFile and "
            "server.sslKeyFile, or put a proxy with TLS in front"
        )
    return lines
