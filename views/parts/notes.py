"""Marks and notes of the reader on the timeline; the page's address holds them, and nothing else.

One parameter ``note`` each: ``BEGIN-END`` on the recording's clock in ns, then the text. They are
bounded in number and length, hold one line of printable text, and reach the page as data only.
"""

from __future__ import annotations

from collections.abc import Iterable

from views.components.timeline import MAX_NOTE, MAX_NOTES, Note
from views.shared.session import parse_span

PARAMETER = "note"


def parse_notes(values: Iterable[str]) -> list[Note]:
    """Return the notes of an address, on the recording's clock; what makes no sense is left out."""
    notes: list[Note] = []
    for value in values:
        span_text, _, text = value.partition(" ")
        span = parse_span(span_text)
        if span is not None and len(notes) < MAX_NOTES:
            notes.append(Note(*span, one_line(text)))
    return notes


def note_value(note: Note) -> str:
    """Return how the address writes a note that is on the recording's clock."""
    return f"{note.start}-{note.end} {one_line(note.text)}".rstrip()


def one_line(text: str) -> str:
    """Return a text as one short line of printable characters."""
    printable = (c if c.isprintable() else " " for c in text[: 4 * MAX_NOTE])
    return " ".join("".join(printable).split())[:MAX_NOTE]
