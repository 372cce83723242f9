"""The only place that writes style sheets; they hold constants of ours and no other text."""

from __future__ import annotations

import streamlit as st

from analyzers.finding import CAUSE_OF_ROW, Row
from views._charts import ROW_COLORS

_PAGE = """
[data-testid="stMainBlockContainer"] { padding-top: 4.4rem; padding-bottom: 3rem; max-width: 1400px; }
[data-testid="stToolbarActions"], [data-testid="stAppDeployButton"] { display: none; }
.st-key-verdict h2 { padding: 0 0 .15rem 0; line-height: 1.25; font-size: 1.75rem; font-weight: 600; }
.st-key-verdict { border-left: 5px solid var(--cause, #747C86); padding-left: 1rem; }
[class*="st-key-finding-"] { border-left-width: 4px !important; }
[class*="st-key-finding-"] p { margin-bottom: .15rem; }
.st-key-facts p { margin: 0; }
.st-key-lost p { text-align: right; }
"""


def apply_style() -> None:
    """Tighten the layout and give each cause its colour wherever it appears."""
    rules = [
        f'[class*="st-key-finding-{row.value}-"] {{ border-left-color: {color} !important; }}'
        for row, color in ROW_COLORS.items()
    ]
    st.html(f"<style>{_PAGE}{''.join(rules)}</style>")


def tint_verdict(cause: str) -> None:
    """Colour the verdict like its cause; a cause without a row keeps grey."""
    rows = [row for row, its_cause in CAUSE_OF_ROW.items() if its_cause == cause]
    # Bandwidth can mean copies or kernels; its first row is the one a timeline shows.
    color = ROW_COLORS[Row.KERNEL] if cause == "healthy" else ROW_COLORS[rows[0]] if rows else None
    if color:
        st.html(f"<style>.st-key-verdict {{ --cause: {color}; }}</style>")
