"""Which requests the routes answer: those of a page that this very server has made.

Streamlit protects its own routes only. Ours ask for a token of such a page, and for a request that
comes from the same site.
"""

from __future__ import annotations

import hashlib
import secrets

import streamlit as st
from itsdangerous import TimestampSigner
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from views.server.hosts import is_own_origin
from views.shared.server_paths import without_server_paths

TOKEN_HEADER = "x-whyslow-token"
TOKEN_LASTS_S = 12 * 3600  # a working day without touching the page
NEVER_STORE = {"Cache-Control": "no-store"}

_SECRET = secrets.token_bytes(32)


def mint_token(purpose: str) -> str:
    """Return a token for ``purpose`` (``upload`` or ``timeline``), for the script of a page."""
    return _signer(purpose).sign(purpose).decode()


def is_token(token: str, purpose: str) -> bool:
    """Tell whether ``token`` was made for ``purpose`` by this server and is not too old."""
    return _signer(purpose).validate(token, max_age=TOKEN_LASTS_S)


def _signer(purpose: str) -> TimestampSigner:
    return TimestampSigner(_SECRET, salt=purpose, digest_method=hashlib.sha256)


def api_path(name: str) -> str:
    """Return the address of a route, below the path that the server is mounted at."""
    return f"{base_path()}/api/{name}"


def base_path() -> str:
    """Return the path that the server is mounted at, without a slash at its end; often empty."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


def forbidden(request: Request, purpose: str) -> Response | None:
    """Return the answer to a request that no page of this server made; None for one that did."""
    if not is_token(request.headers.get(TOKEN_HEADER, ""), purpose):
        return refusal(403, "The page has expired; reload it.")
    origin = request.headers.get("origin")
    if origin is not None and not is_own_origin(origin, request.headers.get("host", "")):
        return refusal(403, "The request comes from another site.")
    if origin is None and request.method not in ("GET", "HEAD"):
        return refusal(403, "The request does not state its origin.")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return refusal(403, "The request comes from another site.")
    return None


def refusal(status: int, line: str, **details: int) -> Response:
    """Return an answer that says in one line why there is no other."""
    content = {"error": without_server_paths(line), **details}
    return JSONResponse(content, status, headers=NEVER_STORE)
