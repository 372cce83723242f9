"""The button that hands a report over as a file."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from analyzers.compare.types import Comparison
from analyzers.whatif.whatif import WhatIf
from library import cache
from reports.about import ReportedWindow, ReportOptions
from reports.comparison import Sides, comparison_report, named_sources
from reports.diagnosis import diagnosis_report
from reports.document import Document
from reports.files import FORMS
from reports.privacy import KINDS, privacy_of
from views.shared.session import Session

BESIDE_REPORT = (8, 1)  # widths of the verdict and of the button that hands it over
_LABELS = {"html": "HTML", "markdown": "Markdown", "json": "JSON"}
_SUFFIXES = {"html": "html", "markdown": "md", "json": "json"}
_TYPES = {"html": "text/html", "markdown": "text/markdown", "json": "application/json"}


def draw_diagnosis_download(session: Session) -> None:
    """Offer the report about what the reader looks at."""
    where = ReportedWindow(
        trace_id=session.trace.id, window=session.window, counters=session.counters
    )
    _draw_download(
        "diagnosis",
        lambda options: diagnosis_report(session.trace, session.stored, where, options),
    )


def draw_comparison_download(
    base: tuple[str, ...],
    new: tuple[str, ...],
    comparison: Comparison,
    predicted: Callable[[], WhatIf | None],
) -> None:
    """Offer the report about a comparison of these recordings.

    Args:
        base: Ids of the recordings before the change.
        new: Ids of those after it.
        comparison: The answer.
        predicted: Gives what was predicted by the time that the report is written.
    """

    def made(options: ReportOptions) -> Document:
        named = named_sources([cache.get(i) for i in base], [cache.get(i) for i in new])
        return comparison_report(comparison, Sides(sources=named, what_if=predicted()), options)

    _draw_download("comparison", made)


def _draw_download(name: str, made: Callable[[ReportOptions], Document]) -> None:
    with st.popover("Report", key=f"report_{name}", width="stretch"):
        st.caption("One file that opens anywhere, without a network.")
        private = st.checkbox(
            "Include host names, user names, paths, command lines and environment",
            key=f"report_{name}_private",
        )
        for form, label in _LABELS.items():
            st.download_button(
                label,
                data=_writer(form, made, private=private),
                file_name=f"whyslow-{name}.{_SUFFIXES[form]}",
                mime=_TYPES[form],
                key=f"report_{name}_{form}",
                on_click="ignore",
                width="stretch",
            )


def _writer(
    form: str, made: Callable[[ReportOptions], Document], *, private: bool
) -> Callable[[], bytes]:
    """Return what writes the file when it is asked for, and not before."""

    def write() -> bytes:
        options = ReportOptions(privacy=privacy_of(KINDS if private else ()))
        return FORMS[form](made(options)).encode("utf-8", "backslashreplace")

    return write
