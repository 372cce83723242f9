"""Headers of every answer: what a page may load, and who may show it inside of another."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

Header = tuple[bytes, bytes]

# Streamlit's page writes style elements into itself and imports the scripts of our components from
# memory; of scripts in the page only its own, by their digests. Nothing is loaded from elsewhere.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' {scripts} blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' ws://{host} wss://{host} blob: data:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-src 'none'; "
    "frame-ancestors 'none'"
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"  # of an answer that is no page
FORM_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_FIXED = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, a form would not say where it comes from
    "Cross-Origin-Resource-Policy": "same-origin",
}


def with_security_headers(headers: Iterable[Header], host: str) -> list[Header]:
    """Return the headers of an answer with those that every answer has.

    Args:
        headers: Of the answer; a policy that it states itself stays.
        host: The checked ``Host`` header of the request, which WebSockets are opened to.
    """
    own = {name.lower() for name, _ in headers}
    further = dict(_FIXED)
    # An answer without content, as 304, states no policy: it would become that of the page which
    # the browser has kept, and forbid all its scripts.
    if b"content-security-policy" not in own and b"content-type" in own:
        is_page = any(n.lower() == b"content-type" and b"text/html" in v for n, v in headers)
        page_policy = _PAGE_POLICY.format(host=host, scripts=_inline_scripts())
        policy = page_policy if is_page else DATA_POLICY
        further["Content-Security-Policy"] = policy
    kept = [(n, v) for n, v in headers if n.lower() not in {k.lower().encode() for k in _FIXED}]
    return kept + [(n.lower().encode(), v.encode()) for n, v in further.items()]


@functools.cache
def _inline_scripts() -> str:
    """Return what allows the scripts inside of Streamlit's own page, by their digests."""
    page = Path(st.__file__).with_name("static") / "index.html"
    texts = re.findall(r"<script>(.*?)</script>", page.read_text(encoding="utf-8"), re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
