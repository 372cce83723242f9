"""Under which names this server answers, and which requests come from its own pages.

A page of a stranger can make its own name point at this machine while it is open (DNS rebinding).
Its requests then carry that name as ``Host`` and a matching ``Origin``, so comparing both with each
other proves nothing: the name itself must be one of ours. An address in figures cannot be made to
point elsewhere, so it is no such name.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from views.shared.places import is_loopback

HOSTS_VARIABLE = "WHYSLOW_ALLOWED_HOSTS"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SHOWN_HOST = 100  # characters of a name in the log
# What proxies add to a request (RFC 7239 and 9110, and the names in use before).
_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip"})
_PROXY_PREFIX = "x-forwarded-"


def host_name(header: str) -> str | None:
    """Return the name in a ``Host`` header, in lower case and without its port; None if malformed.

    An IPv6 address is returned without its brackets, a name without its trailing dot.
    """
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    name = parts.hostname
    if not name or parts.netloc != header or "@" in header or not name.isascii():
        return None
    return name.rstrip(".") or None


def is_own_origin(origin: str, host: str) -> bool:
    """Tell whether an ``Origin`` header names the very site that the ``Host`` header names."""
    try:
        parts = urlsplit(origin)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == host


def is_allowed(name: str, bound: str) -> bool:
    """Tell whether this server answers to ``name``.

    Args:
        name: As ``host_name`` returns it.
        bound: The address it is bound to; empty or a wildcard for all of this machine's.
    """
    if name in LOOPBACK_NAMES or any(_fits(name, pattern) for pattern in _further_names()):
        return True
    if not is_wildcard(bound):
        return name == bound.strip("[]").lower()
    return _is_address(name) or name in _machine_names()


def is_wildcard(bound: str) -> bool:
    """Tell whether ``bound`` stands for every address of this machine."""
    return bound.strip("[]") in ("", "0.0.0.0", "::")


def is_loopback_name(name: str) -> bool:
    """Tell whether ``name`` can only mean the machine of whoever says it."""
    return name in LOOPBACK_NAMES or is_loopback(name)


def has_further_names() -> bool:
    """Tell whether ``WHYSLOW_ALLOWED_HOSTS`` names any: then others come in through a proxy."""
    return bool(_further_names())


def is_forwarded(headers: Iterable[str]) -> bool:
    """Tell whether the names of the headers of a request say that it came through a proxy."""
    names = {header.lower() for header in headers}
    return bool(names & _PROXY_HEADERS) or any(n.startswith(_PROXY_PREFIX) for n in names)


def _further_names() -> list[str]:
    """Return the names in ``WHYSLOW_ALLOWED_HOSTS``, a list with commas; ``*.x`` is all below."""
    named = os.environ.get(HOSTS_VARIABLE, "").split(",")
    return [n.strip().strip("[]").rstrip(".").lower() for n in named if n.strip()]


def _fits(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@functools.cache
def _machine_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower(), socket.getfqdn().lower()})
