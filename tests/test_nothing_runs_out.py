"""Descriptors come back, half-open connections end, leftovers go, and the end comes soon."""

import asyncio
import os
import signal
import socket
import time
from types import SimpleNamespace
from unittest import mock
from urllib.parse import urlsplit

import psutil
import pytest
import uvicorn

from benchmarks.served import serve
from benchmarks.tabs import open_tab
from jobs.api import begin_opening
from jobs.job import stop_running
from library import cache, inbox
from tests.view_fakes import SAMPLES, library, open_sample
from views.server import connections
from views.server.connections import ClosingConnections, with_timeouts

TABS = 6
END_S = 2.0


def wait_until(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_closed_tabs_give_everything_back_and_ctrl_c_ends_the_server(tmp_path):
    trace = open_sample("synthetic/synthetic_launch.sqlite", tmp_path).trace.id
    with serve(tmp_path) as running:
        server = psutil.Process(running.pid)
        soft, hard = server.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == min(hard, 65_536)  # a shell's 1,024 are soon used up
        for page in ("", "timeline", "open"):
            with open_tab(running.address) as tab:
                tab.run(page, f"trace={trace}")
        wait_until(lambda: not server.children() and server.num_fds() < 12)
        before = server.num_fds()
        for number in range(TABS):
            with open_tab(running.address) as tab:
                tab.run(("", "timeline")[number % 2], f"trace={trace}")
        wait_until(lambda: server.num_fds() <= before)
        # Whatever is open: a page, a connection that says nothing, half a request, half an upload.
        parts = urlsplit(running.address)
        strangers = [socket.create_connection((parts.hostname, parts.port)) for _ in range(3)]
        strangers[1].sendall(b"GET / HTTP/1.1\r\nHost: local")
        strangers[2].sendall(
            b"POST /api/enter HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nto"
        )
        with open_tab(running.address) as tab:
            tab.run("", f"trace={trace}")
            begun = time.monotonic()
            server.send_signal(signal.SIGINT)
            server.wait(timeout=20)
            assert time.monotonic() - begun < END_S
        for stranger in strangers:
            stranger.close()


class Clocked:
    """A server of one tiny application in this loop, with uvicorn's protocol and short timeouts."""

    def __init__(self, app):
        config = uvicorn.Config(app, lifespan="off", log_level="critical", ws="websockets-sansio")
        config.load()
        config.http_protocol_class = with_timeouts(config.http_protocol_class)
        self.server = uvicorn.Server(config)

    async def __aenter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.task = asyncio.create_task(self.server.serve([self.socket]))
        while not self.server.started:
            await asyncio.sleep(0.01)
        return self.socket.getsockname()[1]

    async def __aexit__(self, *_):
        self.server.should_exit = self.server.force_exit = True
        await self.task


async def hello(scope, receive, send):
    """Read the whole request, then answer."""
    if scope["type"] != "http":
        return
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass
    if message["type"] == "http.request":
        body = b"x" * int(scope["query_string"] or b"2")
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def said_until_the_end(port, *pieces, pause_s=0.0):
    """Send pieces with pauses between them, and return what came until the server hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(pause_s)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([b""], b""),
        ([b"GET"], b""),
        ([GET, b"A: b\r\n", b"C: d\r\n", b"E: f\r\n", b"G: h\r\n"], b""),  # a line now and then
        ([PUT, b"x"], b""),
        ([UPGRADE + b"Origin: " + b"x" * 9_000 + b"\r\n\r\n"], b""),  # websockets never answers it
        ([GET + b"Connection: close\r\n\r\n"], b"xx"),
        ([PUT, b"x", b"x", b"x", b"x"], b"xx"),  # slow, but it goes on
    ],
    ids=["nothing", "a word", "drops", "half a body", "handshake", "whole", "slow body"],
)
def test_a_request_that_does_not_end_is_given_up(monkeypatch, pieces, answer):
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    monkeypatch.setattr(connections, "BODY_S", 0.2)

    async def ask():
        async with Clocked(hello) as port:
            return await said_until_the_end(port, *pieces, pause_s=0.08)

    assert asyncio.run(ask())[-2:] == answer


def test_a_reader_who_does_not_read_is_given_up(monkeypatch):
    monkeypatch.setattr(connections, "READ_S", 0.2)

    async def ask():
        async with Clocked(hello) as port:
            lazy = socket.create_connection(("127.0.0.1", port))
            lazy.sendall(b"GET /?50000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(0.8)
            lazy.settimeout(5)
            count = 0
            with lazy:
                try:
                    while piece := lazy.recv(1 << 20):
                        count += len(piece)
                except ConnectionError:
                    pass
            return count

    assert asyncio.run(ask()) < 50_000_000


def test_a_reader_who_reads_slowly_gets_all_of_it(monkeypatch):
    monkeypatch.setattr(connections, "READ_S", 0.3)
    size = 20_000_000

    async def ask():
        loop, count = asyncio.get_running_loop(), 0
        async with Clocked(hello) as port:
            with socket.create_connection(("127.0.0.1", port)) as slow:
                slow.sendall(b"GET /?%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
                slow.setblocking(False)
                while piece := await loop.sock_recv(slow, 1 << 20):
                    count += len(piece)
                    await asyncio.sleep(0.05)
        return count

    assert asyncio.run(ask()) > size


def test_a_connection_that_stays_closing_is_ended_at_the_second_look():
    stuck, open_one = mock.Mock(), mock.Mock()
    stuck.is_closing.return_value, open_one.is_closing.return_value = True, False
    held = [SimpleNamespace(transport=stuck), SimpleNamespace(transport=open_one)]
    closing = ClosingConnections(SimpleNamespace(server_state=SimpleNamespace(connections=held)))
    closing.end_stuck()
    stuck.abort.assert_not_called()  # it may still be sending
    closing.end_stuck()
    stuck.abort.assert_called_once_with()
    open_one.abort.assert_not_called()


def test_what_was_left_behind_is_swept(tmp_path):
    with library(tmp_path):
        folder = inbox.inbox()
        fresh, old, upload = folder / "a.part", folder / "b.part", folder / "c" / "x.sqlite"
        empty = folder / "d"
        empty.mkdir(parents=True)
        upload.parent.mkdir()
        for file in (fresh, old, upload):
            file.write_bytes(b"x")
        now = time.time()
        for stale in (old, upload, upload.parent, empty):
            os.utime(stale, (now - 90_000, now - 90_000))
        left = cache.jobs_root() / "killed" / "tmp"
        left.mkdir(parents=True)
        inbox.sweep(now)
        cache.sweep()
        assert sorted(p.name for p in folder.rglob("*")) == ["a.part", "c", "x.sqlite"]
        assert not left.parent.exists()


def test_jobs_are_stopped_when_the_server_ends(tmp_path):
    with library(tmp_path):
        job = begin_opening(SAMPLES / "synthetic" / "synthetic_launch.sqlite")
        stop_running()
        wait_until(lambda: job.progress().done)
        assert job.progress().error == "synthetic_launch.sqlite: cancelled"
