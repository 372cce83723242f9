"""A page's session ends with its tab, and does not hear where the program lies on the server.

Streamlit keeps the session of a connection that ended, in case it comes back, with an event loop of
three descriptors. A browser that closes or reloads a tab says so, and then it never comes back.
"""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime import exists, get_instance

LEFT = (1000, 1001)  # what a browser says when a page is left (RFC 6455, 7.4.1)
_MAIN = Path(__file__).resolve().parents[1] / "main.py"


class PageSessions:
    """Passes the messages of every page on to ``app`` and back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a connection, as ASGI has it."""
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        connection = _PageConnection(receive, send)
        try:
            await self.app(scope, connection.receive, connection.send)
        finally:
            connection.end_if_left()


class _PageConnection:
    """One connection of a page."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._main = str(_MAIN).encode()
        self._id = ""
        self._is_left = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._is_left = message.get("code") in LEFT
        return message

    async def send(self, message: Message) -> None:
        data = message.get("bytes")
        if data and self._main in data:
            message = {**message, "bytes": self._without_place(data)}
        await self._send(message)

    def _without_place(self, data: bytes) -> bytes:
        """Return a message that begins a run, which names the script, with its mere name."""
        beginning = ForwardMsg.FromString(data)
        if beginning.WhichOneof("type") != "new_session":
            return data
        self._id = beginning.new_session.initialize.session_id or self._id
        beginning.new_session.main_script_path = _MAIN.name
        return bytes(beginning.SerializeToString())

    def end_if_left(self) -> None:
        """Free what the session holds when its page was left; what was only lost may come back."""
        if self._is_left and self._id and exists():
            get_instance().close_session(self._id)
