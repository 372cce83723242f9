"""Markdown that holds no text of a recording unescaped, as a type."""

from __future__ import annotations

import re
from typing import NewType

from common.text import visible

Escaped = NewType("Escaped", str)
"""Markdown whose every word is ours or escaped. Functions that draw what they are given, or make
what is drawn, are declared with it: mypy sees to the types, and ``tests/markdown_calls.py`` that
nothing else is called so."""

# Punctuation to which Markdown or Streamlit's additions (:red[…], $…$) give a meaning.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~$:&^=@/\"'])")


def md_escape(text: str) -> Escaped:
    """Return ``text`` so that Markdown shows exactly its characters."""
    return Escaped(_MARKDOWN.sub(r"\\\1", visible(text)))


def md_prose(text: str) -> Escaped:
    """Return a sentence of ours that may quote a recording; only `` `code` `` keeps its meaning."""
    parts = visible(text).split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick is only a character
        return md_escape(text)
    pieces = (
        (f"`{part}`" if part.strip() else part) if place % 2 else md_escape(part)
        for place, part in enumerate(parts)
    )
    return Escaped("".join(pieces))
