"""A tab of a browser without the browser: it speaks the WebSocket of the pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: TID251 (its language; nothing is drawn)
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: TID251
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

LEFT = 1001  # what a browser says when its tab is closed
DRAWN_S = 60.0


class Tab:
    """A page that is open.

    Attributes:
        socket: The connection.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def run(self, page: str = "", query: str = "") -> bytes:
        """Run a page with this query of its address and return all that it sends until drawn.

        Raises:
            TimeoutError: It was not drawn in a minute.
        """
        rerun = BackMsg()
        rerun.rerun_script.query_string = query
        rerun.rerun_script.page_name = page
        return self._frames(rerun)

    def press(self, widget: str, page: str) -> bytes:
        """Press the button whose id is ``widget`` and return all that the page then sends."""
        rerun = BackMsg()
        rerun.rerun_script.page_name = page
        rerun.rerun_script.widget_states.widgets.add(id=widget, trigger_value=True)
        return self._frames(rerun)

    def _frames(self, rerun: BackMsg) -> bytes:
        self.socket.send(rerun.SerializeToString())
        frames = []
        while True:
            frame = self.socket.recv(timeout=DRAWN_S, decode=False)
            frames.append(frame)
            if ForwardMsg.FromString(frame).WhichOneof("type") == "script_finished":
                return b"\n".join(frames)


@contextlib.contextmanager
def open_tab(address: str, headers: Mapping[str, str] | None = None) -> Iterator[Tab]:
    """Open a tab of the server at ``address`` and close it as a browser does.

    Args:
        address: Of the server, without a slash at its end.
        headers: Further ones, such as a cookie.
    """
    with connect(
        f"ws://{urlsplit(address).netloc}/_stcore/stream",
        origin=Origin(address),
        subprotocols=[Subprotocol("streamlit")],
        additional_headers=dict(headers or {}),
        max_size=None,
        open_timeout=DRAWN_S,
    ) as socket:
        yield Tab(socket)
        socket.close(code=LEFT)
