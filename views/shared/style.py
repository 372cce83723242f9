"""The only place that writes style sheets; they hold constants of ours and no other text."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from analyzers.finding import CAUSE_OF_ROW, Row
from reports.palette import ROW_COLORS

_PAGE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def write_style_sheet() -> None:
    """Tighten the layout and give each cause its colour wherever it appears."""
    rules = [
        f'[class*="st-key-finding-{row.value}-"] {{ border-left-color: {color} !important; }}'
        for row, color in ROW_COLORS.items()
    ]
    link = f":root {{ --link: {st.get_option('theme.light.linkColor')}; }}"
    if st.context.theme.type == "dark":
        link = f":root {{ --link: {st.get_option('theme.dark.linkColor')}; }}"
    st.html(f"<style>{link}{_PAGE}{''.join(rules)}</style>")


def draw_legend(entries: Sequence[tuple[str, str]]) -> None:
    """Show what each colour means, on as many lines as the page's width asks for.

    Args:
        entries: ``#RRGGBB`` and words, both ours.
    """
    spans = "".join(
        f'<span><i style="background:{html.escape(color)}"></i>{html.escape(words)}</span>'
        for color, words in entries
    )
    st.html(f'<div class="whyslow-legend">{spans}</div>')


def write_verdict_color(cause: str) -> None:
    """Colour the verdict like its cause; a cause without a row keeps grey."""
    rows = [row for row, its_cause in CAUSE_OF_ROW.items() if its_cause == cause]
    # Bandwidth can mean copies or kernels; its first row is the one a timeline shows.
    color = ROW_COLORS[Row.KERNEL] if cause == "healthy" else ROW_COLORS[rows[0]] if rows else None
    if color:
        st.html(f"<style>.st-key-verdict {{ --cause: {color}; }}</style>")
