"""The upload field for recordings of any size: its Python face."""

from __future__ import annotations

import streamlit as st

from views._routes import SLICE_BYTES, api_path, mint_token
from views.components import source

HTML = """<div class="upload">
  <button type="button">Choose a file</button>
  <span class="line">or drop a .nsys-rep or .sqlite here; any size, it goes straight to disk</span>
  <progress max="1" value="0"></progress>
  <input type="file" accept=".nsys-rep,.qdrep,.sqlite,.db" hidden>
</div>"""

LABEL = "00"  # begins the browser's name of every upload, so that keys of other kinds can follow

_component = st.components.v2.component(
    "whyslow.upload", html=HTML, css=source("upload.css"), js=source("upload.js")
)


def upload(key: str) -> str:
    """Show the field; return the key of an upload that has just ended, else an empty text."""
    result = _component(
        key=key,
        data={
            "url": api_path("upload"),
            "token": mint_token("upload"),
            "slice": SLICE_BYTES,
            "label": LABEL,
        },
        on_uploaded_change=lambda: None,
    )
    uploaded = result.get("uploaded")
    return uploaded if isinstance(uploaded, str) else ""
