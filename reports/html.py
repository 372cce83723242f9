"""A document as one HTML file that opens anywhere: no script, no request, no other file.

The policy in its head forbids everything but its own style sheet, named by its digest; so not even
a mistake of ours could fetch or run anything. The template ``report.html`` holds every tag;
whatever is put into it becomes one visible line and is escaped, except for the style sheet.
Colours and numbers of the figures are ours.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from analyzers.words import count_text
from common.text import visible
from reports.document import Document, DocumentTable, Figure, Place, Sentence
from reports.drawing import drawing
from reports.numbers import pieces

FOLDER = Path(__file__).parent
STYLE = (FOLDER / "report.css").read_text(encoding="utf-8")
POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


def to_html(document: Document) -> str:
    """Return the document as HTML."""
    places = document.places()
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return _template().render(
        document=document,
        places=places,
        policy=POLICY.format(digest),
        style=Markup(STYLE),
        has_recordings=any(place.recording for place in places),
        windows_sentence=_windows_sentence(len(places)),
    )


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        finalize=_visible_value,
        keep_trailing_newline=True,
        loader=FileSystemLoader(FOLDER),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"drawing": drawing, "pieces": _pieces, "span": _span}
    environment.tests |= {
        "figure": lambda block: isinstance(block, Figure),
        "sentence": lambda block: isinstance(block, Sentence),
        "table": lambda block: isinstance(block, DocumentTable),
    }
    return environment.get_template("report.html")


def _visible_value(value: object) -> object:
    """Return what an expression of the template gives, on one line that hides nothing."""
    return value if isinstance(value, Markup) else visible(str(value))


def _pieces(text: str) -> list[tuple[str, bool]]:
    return pieces(visible(text))


def _span(place: Place) -> str:
    of = f"{place.recording}: " if place.recording else ""
    return f"{of}{place.start_ns:d} ns to {place.end_ns:d} ns"


def _windows_sentence(count: int) -> str:
    return (
        f"Every number above was measured in one of {count_text(count, 'window')}, on the clock of "
        "its recording. The last column is the address that shows the window in a whyslow "
        "dashboard where the recording is open."
    )
