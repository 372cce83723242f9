"""Who may come in: whoever is on this machine, holds a token, or signs in.

Bound to this machine only, nothing is asked. Otherwise every request needs a cookie that a link
with a token has set; or, where the secrets of Streamlit configure OpenID Connect, the pages ask who
it is. There are two tokens, for viewers and for editors. The cookie is signed with the token
itself: it outlives the server and ends when the token is changed, and it does not reveal it.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

import streamlit as st
from itsdangerous import TimestampSigner

from common.files import write_file
from library import cache
from views.server.hosts import has_further_names, is_loopback_name
from views.shared.access import Role

TOKENS_VARIABLE = "WHYSLOW_TOKENS_FILE"
TOKENS_FILE = "access-tokens"
MIN_TOKEN = 24  # characters; what is shorter can be guessed
COOKIE_LASTS_S = 30 * 86_400
_LINE = re.compile(r"(viewer|editor)\s+(\S+)")
_SALT = "whyslow access"


class TokensError(Exception):
    """The file of tokens is no use; the message is one line."""


def asks_for_access(
    bound: str, local_address: str, host: str, *, is_forwarded: bool = False
) -> bool:
    """Tell whether a request must prove that it may come in.

    Args:
        bound: The address that the server was told to listen on.
        local_address: The address of this machine that the connection came to.
        host: The name that the request used. One that means other machines says that a proxy is in
            front, whatever the server is bound to; a loopback name says nothing, since whoever asks
            a proxy chooses it.
        is_forwarded: Whether the request says itself that it came through a proxy.
    """
    if is_forwarded or has_further_names() or os.environ.get(TOKENS_VARIABLE):
        return True
    return not all(is_loopback_name(a.strip("[]")) for a in (bound, local_address, host))


@functools.cache
def signs_in() -> bool:
    """Tell whether OpenID Connect is configured, so that the pages ask who somebody is."""
    try:
        section = st.secrets.get("auth")
    except FileNotFoundError:
        return False
    return bool(section) and not os.environ.get(TOKENS_VARIABLE)


def tokens() -> dict[Role, str]:
    """Return the token of each role, made and kept in the data folder when none were given.

    Raises:
        TokensError: The file cannot be read or written, a token in it is too short, or a role or a
            token has two lines.
    """
    own_file = os.environ.get(TOKENS_VARIABLE)
    path = Path(own_file) if own_file else cache.data_dir() / TOKENS_FILE
    try:
        if not own_file and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (f"{role} {secrets.token_urlsafe(32)}\n" for role in (Role.VIEWER, Role.EDITOR))
            write_file(path, "".join(lines), is_private=True)
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise TokensError(f"{path}: cannot be read ({error.strerror})") from error


@functools.lru_cache(maxsize=2)
def _read(path: Path, _changed_ns: int) -> dict[Role, str]:
    token_of: dict[Role, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := _LINE.fullmatch(line.strip()):
            if len(match[2]) < MIN_TOKEN:
                raise TokensError(f"{path}: a token of fewer than {MIN_TOKEN} characters")
            if match[1] in token_of:
                raise TokensError(f"{path}: two lines for {match[1]}s; a role has one token")
            if match[2] in token_of.values():
                raise TokensError(f"{path}: viewers and editors have the same token")
            token_of[Role(match[1])] = match[2]
    if not token_of:
        raise TokensError(f"{path}: has no line of the form 'viewer TOKEN' or 'editor TOKEN'")
    return token_of


def role_of_token(text: str) -> Role | None:
    """Return the role that a token stands for."""
    match = None
    for role, token in tokens().items():  # all of them, so that time tells nothing
        if hmac.compare_digest(text.encode(), token.encode()):
            match = role
    return match


def cookie_name(port: int) -> str:
    """Return the name of our cookie; browsers keep one jar for all ports of a machine."""
    return f"whyslow_access_{port}"


def cookie_of(role: Role) -> str:
    """Return the value of the cookie that proves ``role``."""
    return _signer(tokens()[role]).sign(role.value).decode()


def role_of_cookie(value: str) -> Role | None:
    """Return the role that a cookie proves; None for one that is old, changed or made up."""
    for role, token in tokens().items():
        signer = _signer(token)
        if signer.validate(value, max_age=COOKIE_LASTS_S):
            return role if signer.unsign(value) == role.value.encode() else None
    return None


def _signer(token: str) -> TimestampSigner:
    return TimestampSigner(token, salt=_SALT, digest_method=hashlib.sha256)
