"""The only place that writes style sheets; they hold constants of ours and no other text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analyzers.finding import CAUSE_OF_ROW, Row
from analyzers.words import share_text
from reports.palette import ROW_COLORS

# Of captions and notes: the quietest grey with a contrast above 4.5 on page, card and code.
_QUIET = {"light": "#57606A", "dark": "#9BA6B1"}
_PAGE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


def write_style_sheet() -> None:
    """Tighten the layout and give each cause its colour wherever it appears."""
    rules = [
        f'[class*="st-key-finding-{row.value}-"] {{ border-left-color: {color} !important; }}'
        for row, color in ROW_COLORS.items()
    ]
    theme = "dark" if st.context.theme.type == "dark" else "light"
    link = st.get_option(f"theme.{theme}.linkColor")
    colors = f":root {{ --link: {link}; --quiet: {_QUIET[theme]}; }}"
    st.html(f"<style>{colors}{_PAGE}{''.join(rules)}</style>")


def draw_legend(entries: Sequence[tuple[str, str]]) -> None:
    """Show what each colour means, on as many lines as the page's width asks for.

    Args:
        entries: ``#RRGGBB`` and words, both ours; words without a colour explain the others.
    """
    spans = "".join(
        (f'<span><i style="background:{html.escape(color)}"></i>' if color else "<span>")
        + f"{html.escape(words)}</span>"
        for color, words in entries
    )
    st.html(f'<div class="whyslow-legend">{spans}</div>')


def draw_progress(
    place: DeltaGenerator,
    *,
    title: str,
    way: Sequence[tuple[str, bool]],
    fraction: float,
    doing: str,
) -> DeltaGenerator:
    """Show how far something is that the reader waits for.

    One element without a part that the browser would have to load first, so that it is there at
    once on a slow machine, too.

    Args:
        place: Where; a container, or what this function returned, which is drawn over then.
        title: What is being done, of which file; may quote anything.
        way: The steps, in order, and whether each is the one that is being done; ours.
        fraction: The share of the whole way that is done, 0 to 1.
        doing: What is being done now; may quote anything.
    """
    percent = round(100 * fraction)
    steps = " → ".join(
        f"<b>{html.escape(step)}</b>" if is_present else html.escape(step)
        for step, is_present in way
    )
    words = html.escape(doing)
    return place.html(
        f'<div class="whyslow-progress"><p>{html.escape(title)}</p>'
        f'<div role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100"'
        f' aria-label="{words}"><i style="width:{percent}%"></i></div>'
        f"<p><span>{words} · {percent}\N{NO-BREAK SPACE}%</span><span>{steps}</span></p></div>"
    )


def draw_waiting(place: DeltaGenerator, words: str) -> DeltaGenerator:
    """Show ``words`` in ``place`` unless the page is there within the blink of an eye."""
    return place.html(f'<div class="whyslow-waiting" role="status">{html.escape(words)}</div>')


def draw_shares(
    head: tuple[str, str, str, str], rows: Sequence[tuple[str, str, float, str, str]]
) -> None:
    """Show names with their shares as a table with bars; a name that is cut is whole on hover.

    Args:
        head: What the columns are called.
        rows: Whole name, short name, share (0 to 1), time and count.
    """
    names = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row" title="{html.escape(whole)}"><b>{_breakable(short)}</b></th>'
        f"<td>{html.escape(share_text(share, 1))}</td>"
        f"<td>{html.escape(time)}</td><td>{html.escape(count)}</td></tr>"
        f'<tr aria-hidden="true"><td colspan="4"><i style="width:{100 * share:.1f}%"></i></td></tr>'
        for whole, short, share, time, count in rows
    )
    table = f"<thead><tr>{names}</tr></thead><tbody>{lines}</tbody>"
    st.html(f'<table class="whyslow-shares">{table}</table>')


def _breakable(name: str) -> str:
    """Return a name as HTML that a line may break, or end, between its words only."""
    return re.sub(r"([_,:<(]+)(?=\w)", r"\1<wbr>", html.escape(name, quote=False))


def write_verdict_color(cause: str) -> None:
    """Colour the verdict like its cause; a cause without a row keeps grey."""
    rows = [row for row, its_cause in CAUSE_OF_ROW.items() if its_cause == cause]
    # Bandwidth can mean copies or kernels; its first row is the one a timeline shows.
    color = ROW_COLORS[Row.KERNEL] if cause == "healthy" else ROW_COLORS[rows[0]] if rows else None
    if color:
        st.html(f"<style>.st-key-verdict {{ --cause: {color}; }}</style>")
