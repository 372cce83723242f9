"""Connections that lead nowhere are closed, and the server ends soon after it is asked to.

uvicorn closes a connection that is idle between two requests. It waits without end for the rest of
a request that was begun, for a handshake that failed, and for a reader that does not read; each of
them holds a descriptor. At its end it waits for all of them.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn

HEAD_S = 10.0  # from the first byte of a request, or the connection, to the end of its headers
BODY_S = 30.0  # between two pieces of an upload
READ_S = 60.0  # until a reader has taken some of what lies ready
GRACE_S = 0.5  # for answers that are under way when the server is asked to end


def running_server() -> uvicorn.Server | None:
    """Return the server that runs this application, which waits for Ctrl-C; None without one."""
    import uvicorn

    owner = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    return owner if isinstance(owner, uvicorn.Server) else None


def set_timeouts(server: uvicorn.Server) -> None:
    """Let ``server``, which accepts no connection yet, give up on those that lead nowhere."""
    server.config.timeout_graceful_shutdown = GRACE_S  # type: ignore[assignment]
    server.config.http_protocol_class = with_timeouts(server.config.http_protocol_class)


def with_timeouts(protocol: Any) -> Any:
    """Return a subclass of one of uvicorn's HTTP protocols that gives up after a while."""
    return type("TimedProtocol", (Timeouts, protocol), {})


class Timeouts(asyncio.Protocol):
    """Ends a connection whose request, or whose reader, does not come to an end.

    Goes before one of uvicorn's HTTP protocols, whose attributes it reads.
    """

    transport: Any
    cycle: Any
    flow: Any
    loop: asyncio.AbstractEventLoop
    _request_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._begin(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Wait for what is still to come of a request."""
        super().data_received(data)
        if self._is_upgraded():
            return  # the timer stays, for the handshake
        if not self._is_answering():
            if self._request_timer is None:  # a byte now and then is no progress
                self._begin(HEAD_S)
        elif self.cycle.more_body:
            self._begin(BODY_S)
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end()
        self._end_reading()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the reader."""
        super().pause_writing()
        self._end_reading()
        self._await_reader()

    def resume_writing(self) -> None:
        """Wait for the reader no longer."""
        self._end_reading()
        super().resume_writing()

    def _is_upgraded(self) -> bool:
        return self.transport.get_protocol() is not self

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _begin(self, seconds: float) -> None:
        self._end()
        self._request_timer = self.loop.call_later(seconds, self._give_up, seconds)

    def _give_up(self, seconds: float) -> None:
        self._request_timer = None
        if self._is_upgraded():
            if not getattr(self.transport.get_protocol(), "handshake_complete", True):
                self.transport.abort()
        elif self.flow.read_paused:  # it is we who are slow
            self._begin(seconds)
        else:
            self.transport.abort()

    def _end(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _await_reader(self) -> None:
        left = _unsent_bytes(self.transport)
        self._reader_timer = self.loop.call_later(READ_S, self._look_at_reader, left)

    def _look_at_reader(self, left_before: int) -> None:
        self._reader_timer = None
        if _unsent_bytes(self.transport) < left_before:  # slow, but it goes on
            self._await_reader()
        else:
            self.transport.abort()

    def _end_reading(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None


def _unsent_bytes(transport: Any) -> int:
    """Return how much a reader has yet to take; with TLS most of it lies one layer below."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    layers = (transport, below) if below is not None else (transport,)
    return sum(int(layer.get_write_buffer_size()) for layer in layers)


class ClosingConnections:
    """Ends connections that were closed and whose other side does not take the rest."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        self._closing: set[asyncio.Transport] = set()

    def end_stuck(self) -> None:
        """End those that were closing at the last call, too."""
        transports = [c.transport for c in self._server.server_state.connections]
        closing = {t for t in transports if t.is_closing()}
        for transport in closing & self._closing:
            transport.abort()
        self._closing = closing
