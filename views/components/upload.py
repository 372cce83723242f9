"""The upload field for recordings of any size: its Python face."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from collectors import all_suffixes
from views.components import source
from views.server.tokens import api_path, mint_token
from views.server.uploads import SLICE_BYTES

# A browser knows the last part of an ending only.
_ACCEPTED = sorted({f".{ending.rpartition('.')[2]}" for ending in all_suffixes()} | {".db"})

HTML = f"""<div class="upload">
  <button type="button">Choose a file</button>
  <span class="line">or drop a recording here, of any size: {" ".join(all_suffixes())}</span>
  <progress max="1" value="0"></progress>
  <input type="file" accept="{",".join(_ACCEPTED)}" hidden>
</div>"""

MAX_LINE = 500
LABEL = "00"  # begins the browser's name of every upload, so that keys of other kinds can follow

_component = st.components.v2.component(
    "whyslow.upload", html=HTML, css=source("upload.css"), js=source("upload.js")
)


class UploadOutcome(NamedTuple):
    """What has just happened; texts are empty when it has not.

    Attributes:
        key: Of an upload that is complete.
        refused: Why one was refused, or lost.
    """

    key: str
    refused: str


def draw_upload(key: str, *, on_begin: Callable[[], None]) -> UploadOutcome:
    """Show the field and return what just happened; ``on_begin`` is called when one begins."""
    result = _component(
        key=key,
        data={
            "url": api_path("upload"),
            "token": mint_token("upload"),
            "slice": SLICE_BYTES,
            "label": LABEL,
        },
        on_uploaded_change=lambda: None,
        on_refused_change=lambda: None,
        on_began_change=on_begin,
    )
    return UploadOutcome(
        str(result.get("uploaded") or ""),
        str(result.get("refused") or "")[:MAX_LINE],
    )
