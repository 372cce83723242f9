"""What whoever looks at the pages may do: read; open, upload, delete and capture; open anything.

The server decides it when a page connects and says it in a header of that connection, in place of
whatever the browser sent under its name (``views.server.admission``). A secret of this process in
the header proves that the server wrote it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from enum import StrEnum

import streamlit as st

ROLE_HEADER = "x-whyslow-role"
VIEWERS_VARIABLE, EDITORS_VARIABLE = "WHYSLOW_VIEWERS", "WHYSLOW_EDITORS"
# At 1, an address counts of which the provider, such as Entra ID, does not say that it is verified.
UNVERIFIED_VARIABLE = "WHYSLOW_ALLOW_UNVERIFIED_MAIL"
EDITORS_ONLY = "Only editors of this server may do that; you may read what is open."
_SECRET = secrets.token_urlsafe(32)  # of this process


class Role(StrEnum):
    """What somebody may do here.

    Attributes:
        VIEWER: Read what is in the library.
        EDITOR: Also open what lies in a watched folder, upload, delete and capture.
        OWNER: Also open any file that the server can read; whoever sits at its machine.
        SIGN_IN: Nothing yet: OpenID Connect says who it is, and that is asked on the page.
    """

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"
    SIGN_IN = "sign in"


def role_header(admitted: Role) -> str:
    """Return the header that tells the pages of this process what whoever asks may do."""
    return f"{admitted.value}.{_SECRET}"


def role() -> Role | None:
    """Return what the reader of this page may do; None for nothing at all.

    Without a header the page was not served by ``app.py``: a test, or Streamlit started on this
    very script, which then has to be one that only this machine reaches. A header that the server
    did not write is worth nothing there, either.
    """
    header = st.context.headers.get(ROLE_HEADER, "")
    if not header:
        address = str(st.get_option("server.address") or "")
        return Role.OWNER if address in ("127.0.0.1", "localhost", "::1") else None
    named, _, secret = header.rpartition(".")
    if not hmac.compare_digest(secret.encode(errors="replace"), _SECRET.encode()):
        return None
    return role_of_user() if named == Role.SIGN_IN else Role(named)


def role_of_user() -> Role | None:
    """Return what whoever signed in may do, by verified address of mail; None for a stranger."""
    user = st.user.to_dict()
    mail = str(user.get("email") or "").lower()
    if not user.get("is_logged_in") or not mail or not _is_verified(user.get("email_verified")):
        return None
    if _is_listed(mail, EDITORS_VARIABLE):
        return Role.EDITOR
    return Role.VIEWER if _is_listed(mail, VIEWERS_VARIABLE) else None


def may_edit() -> bool:
    """Tell whether the reader of this page may open, upload, delete and capture."""
    return role() in (Role.EDITOR, Role.OWNER)


def _is_verified(claim: object) -> bool:
    """Tell whether the claim ``email_verified`` holds; some providers send it as a word."""
    if claim is None:
        return os.environ.get(UNVERIFIED_VARIABLE) == "1"
    return claim is True or claim == "true"


def _is_listed(mail: str, variable: str) -> bool:
    """Tell whether a variable names ``mail``, or all of its domain as ``*@domain``."""
    named = {n.strip().lower() for n in os.environ.get(variable, "").split(",")}
    return mail in named or f"*@{mail.rpartition('@')[2]}" in named
