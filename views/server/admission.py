"""What every request passes first, those of Streamlit's own routes and WebSockets too.

The name that it was asked by, the site that it comes from, what whoever asks may do; and the
headers of the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import parse_qs, parse_qsl, urlencode

import streamlit as st
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from views.server import access
from views.server.headers import FORM_POLICY, with_security_headers
from views.server.hosts import (
    HOSTS_VARIABLE,
    SHOWN_HOST,
    host_name,
    is_allowed,
    is_forwarded,
    is_own_origin,
)
from views.server.tokens import NEVER_STORE, api_path, base_path, refusal
from views.shared.access import ROLE_HEADER, Role, role_header
from views.shared.units import visible

LOG = logging.getLogger(__name__)
TOKEN = "token"
MAX_FORM = 4_096  # bytes of the form that takes a token
READ_METHODS = ("GET", "HEAD")
# Of Streamlit's routes: files in memory, commands of programs and counts of sessions are no use
# here. Whoever is asked for access first may ask whether the server lives.
_CLOSED = ("_stcore/upload_file/", "_stcore/agent/", "_stcore/metrics")
_OPEN = ("api/health", "_stcore/health")

_FORM = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>whyslow</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 30rem; margin: 15vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .5rem; box-sizing: border-box }}
input {{ width: 100%; margin-bottom: .75rem }}
</style></head><body><h1>whyslow</h1><p>{line}</p>
<form method="post" action="{action}"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Enter</button></form></body></html>"""
_ASKED = (
    "This server asks who comes in. Open the link that it printed when it was started, or enter "
    "the token that its owner gave you."
)
_WRONG = "This is not a token of this server. Ask its owner for the present one."


class Admission:
    """Lets a request through to ``app``, or answers it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        answer = _refused(connection) or await self._refused_stranger(connection, receive)
        if scope["type"] == "http":
            send = _with_headers(send, connection.headers.get("host", ""))
        if answer is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})  # before it opened: 403

    async def _refused_stranger(
        self, connection: HTTPConnection, receive: Receive
    ) -> Response | None:
        """Return the answer to who may not come in; None after saying what the others may do."""
        scope = connection.scope
        name = host_name(connection.headers.get("host", "")) or ""
        local_address = str((scope.get("server") or ("",))[0])
        by_proxy = is_forwarded(connection.headers)
        if not access.asks_for_access(_bound(), local_address, name, is_forwarded=by_proxy):
            _admit(scope, Role.OWNER)
            return None
        if access.signs_in():
            _admit(scope, Role.SIGN_IN)
            return None
        try:
            return await self._by_token(connection, _inner_path(scope), receive)
        except access.TokensError:
            LOG.exception("nobody can come in")
            return refusal(503, "This server's tokens cannot be read; its log says why.")

    async def _by_token(
        self, connection: HTTPConnection, inner: str, receive: Receive
    ) -> Response | None:
        """Return None for who holds a token's cookie; else what sets it, or asks for a token."""
        scope = connection.scope
        is_http = scope["type"] == "http"
        if is_http and inner in _OPEN:
            return None
        if is_http and inner == "api/enter" and scope["method"] == "POST":
            return _entered(connection, await _posted_token(Request(scope, receive)), {})
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if is_http and scope["method"] in READ_METHODS and TOKEN in query:
            return _entered(connection, query.pop(TOKEN), query)
        role = access.role_of_cookie(connection.cookies.get(_cookie_name(scope), ""))
        if role is None:
            return _token_form(connection, _ASKED)
        if inner == "api/upload" and role is not Role.EDITOR:
            return refusal(403, "Only editors of this server may upload.")
        _admit(scope, role)
        return None


def _refused(connection: HTTPConnection) -> Response | None:
    """Return the answer to a request for another name, from another site, or for what is closed."""
    host = connection.headers.get("host", "")
    name = host_name(host)
    if name is None or not is_allowed(name, _bound()):
        LOG.warning(
            "refused a request for the host %r; names go into %s",
            visible(host, SHOWN_HOST),
            HOSTS_VARIABLE,
        )
        return refusal(403, "This server does not answer to that name.")
    origin = connection.headers.get("origin")
    if origin is not None and not is_own_origin(origin, host):
        return refusal(403, "The request comes from another site.")
    if _inner_path(connection.scope).startswith(_CLOSED):
        return refusal(404, "There is nothing here.")
    return None


def _bound() -> str:
    """Return the address that the server was told to listen on; empty for all."""
    return str(st.get_option("server.address") or "")


def _admit(scope: Scope, role: Role) -> None:
    """Write into the request what whoever asks may do, in place of what the request claims."""
    name = ROLE_HEADER.encode()
    kept = [(n, v) for n, v in scope["headers"] if n.lower() != name]
    scope["headers"] = [*kept, (name, role_header(role).encode())]


def _inner_path(scope: Scope) -> str:
    """Return the path below the one that the server is mounted at, without a slash before it."""
    return str(scope["path"]).removeprefix(base_path()).lstrip("/")


def _cookie_name(scope: Scope) -> str:
    return access.cookie_name(int((scope.get("server") or ("", 0))[1] or 0))


def _entered(connection: HTTPConnection, token: str, query: Mapping[str, str]) -> Response:
    """Return the answer that makes a token a cookie and its link one without it."""
    role = access.role_of_token(token)
    if role is None:
        return _token_form(connection, _WRONG)
    scope = connection.scope
    is_form = _inner_path(scope) == "api/enter"
    # Below our own path, so that no address of a link leads to another site.
    path = f"{base_path()}/" if is_form else "/" + str(scope["path"]).lstrip("/\\")
    answer = RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)
    answer.headers.update(NEVER_STORE)
    answer.set_cookie(
        _cookie_name(scope),
        access.cookie_of(role),
        max_age=access.COOKIE_LASTS_S,
        path=f"{base_path()}/",
        secure=scope.get("scheme") in ("https", "wss"),
        httponly=True,
        samesite="lax",
    )
    return answer


def _token_form(connection: HTTPConnection, line: str) -> Response:
    """Return the form that takes a token to who reads pages, one line to a program."""
    if "text/html" not in connection.headers.get("accept", ""):
        return refusal(401, line)
    page = _FORM.format(line=line, action=api_path("enter"))
    headers = {**NEVER_STORE, "Content-Security-Policy": FORM_POLICY}
    return HTMLResponse(page, 401, headers=headers)


async def _posted_token(request: Request) -> str:
    """Return the token of the form; empty when there is none, or more than a form holds."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM:
            return ""
    return parse_qs(body.decode("latin-1")).get(TOKEN, [""])[0]


def _with_headers(send: Send, host: str) -> Send:
    """Return ``send`` with the headers of every answer added."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = with_security_headers(message.get("headers", ()), host)
            message = {**message, "headers": headers}
        await send(message)

    return send_with_headers
