"""Notices in the browser that a watched folder changed: its Python face.

A timer of Streamlit's would run the page again and again, and one that fires while the reader
leaves for another page takes away what that page shows.
"""

from __future__ import annotations

import streamlit as st

from views.components import source
from views.server.tokens import api_path, mint_token

LOOK_AGAIN_MS = 3_000

_component = st.components.v2.component(
    "whyslow.watched", html="<span></span>", js=source("watched.js")
)


def draw_watch(key: str, listing: str) -> None:
    """Have the page drawn anew once the folders no longer look as ``listing`` says; shows nothing.

    Args:
        key: Of the component.
        listing: What ``views.shared.places.listing_digest`` returned for this page.
    """
    _component(
        key=key,
        data={
            "url": api_path("watched"),
            "token": mint_token("watched"),
            "listing": listing,
            "every_ms": LOOK_AGAIN_MS,
        },
        on_changed_change=lambda: None,
        height=1,
    )
