"""What an answer says, once: terminal text, HTML, Markdown and JSON are written from it.

A document is a title, sentences, tables and bars in sections. Whatever was measured in some
stretch of a recording carries that ``Place``, so that every number leads to its window. The other
modules either compose a document from an answer, or write one in a form.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Place:
    """A stretch of a recording.

    Attributes:
        start_ns: Begin, on the recording's own clock.
        end_ns: End.
        recording: Which recording, in words; empty when the report is about one alone.
        query: What the address of the timeline names to show it; empty when there is none.
    """

    start_ns: int
    end_ns: int
    recording: str = ""
    query: tuple[tuple[str, str], ...] = ()

    @property
    def span(self) -> str:
        """Begin and end as the command line takes them."""
        return f"span:{self.start_ns}-{self.end_ns}"

    def address(self, base_url: str) -> str:
        """Return the address of the timeline that shows it, below ``base_url``."""
        if not self.query:
            return ""
        query = urllib.parse.urlencode(self.query)
        return f"{base_url.rstrip('/')}/timeline?{query}" if base_url else f"timeline?{query}"


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One or more sentences that belong together.

    Attributes:
        text: The words.
        place: Where its numbers were measured.
        kind: How it is set: ``lead`` (what follows in its section belongs to it), ``text``,
            ``item`` of a list, ``note``, ``command`` (to be copied as a whole), or the level of a
            note about quality (``info``, ``warning``, ``error``).
    """

    text: str
    place: Place | None = None
    kind: str = "text"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: The words, or the number in its unit.
        value: The number itself, in the unit that the column states; None for words.
        place: Where it was measured.
        strong: Whether it stands out; what may be noise does not.
        color: ``#RRGGBB``, ours, of the part of a figure that it tells about; empty for none.
        share: Part of a whole, 0 to 1, that a form with room for it draws as a bar; None for none.
    """

    text: str
    value: float | None = None
    place: Place | None = None
    strong: bool = False
    color: str = ""
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """Head of a table's column.

    Attributes:
        name: What stands above it.
        unit: That of the cells' values.
        is_number: Whether its cells are numbers.
        is_cropped: Whether a terminal ends its cells with an ellipsis rather than wrap them.
    """

    name: str
    unit: str = ""
    is_number: bool = False
    is_cropped: bool = False


@dataclass(frozen=True, kw_only=True)
class DocumentTable:
    """Rows of cells under their columns."""

    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class DocumentPart:
    """A coloured stretch of a bar.

    Attributes:
        name: Its words.
        start: Where it begins, in the unit of the figure.
        end: Where it ends; may lie before ``start``.
        color: ``#RRGGBB``, ours.
        text: What stands at it.
        place: Where it was measured.
        faint: Whether it may be chance.
    """

    name: str
    start: float
    end: float
    color: str
    text: str = ""
    place: Place | None = None
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a figure, with its name and its parts."""

    name: str
    parts: tuple[DocumentPart, ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Horizontal bars over one axis; their numbers stand in a table, too.

    Attributes:
        alt: What it shows, for those who cannot see it.
        bars: From top to bottom.
        is_waterfall: Whether each bar begins where the one above it ended.
    """

    alt: str
    bars: tuple[Bar, ...]
    is_waterfall: bool = False


Block = Sentence | DocumentTable | Figure


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, or none above the answer itself, and what stands below it.

    Attributes:
        title: The heading.
        blocks: From top to bottom.
        is_folded: Whether a form that can hides the blocks until someone asks for them.
    """

    title: str
    blocks: tuple[Block, ...]
    is_folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Document:
    """A whole answer.

    Attributes:
        kind: ``diagnosis``, ``comparison``, ``whatif`` or ``capture``.
        title: Its title.
        sections: From top to bottom.
        data: The answer as ``--json`` of the command gives it, for programs; empty in a summary,
            which people read.
        base_url: Address of the dashboard that links lead to; empty leaves them relative.
    """

    kind: str
    title: str
    sections: tuple[Section, ...]
    data: dict[str, Any] = field(default_factory=dict)
    base_url: str = ""

    def sentences(self) -> Iterator[Sentence]:
        """Yield every sentence, from top to bottom."""
        for block in self._blocks():
            if isinstance(block, Sentence):
                yield block

    def places(self) -> dict[Place, str]:
        """Return the short name of every place that something was measured in, ``w1`` onwards."""
        names: dict[Place, str] = {}
        for block in self._blocks():
            for place in _places_of(block):
                names.setdefault(place, f"w{len(names) + 1}")
        return names

    def _blocks(self) -> Iterator[Block]:
        for section in self.sections:
            yield from section.blocks

    def mapped(self, change: Callable[[str], str]) -> Document:
        """Return the same document with every text changed by ``change``."""

        def sentence(block: Sentence) -> Sentence:
            return replace(block, text=change(block.text), place=place(block.place))

        def table(block: DocumentTable) -> DocumentTable:
            rows = tuple(
                tuple(replace(c, text=change(c.text), place=place(c.place)) for c in row)
                for row in block.rows
            )
            columns = tuple(replace(c, name=change(c.name)) for c in block.columns)
            return replace(block, name=change(block.name), columns=columns, rows=rows)

        def part(of: DocumentPart) -> DocumentPart:
            return replace(of, name=change(of.name), text=change(of.text), place=place(of.place))

        def figure(block: Figure) -> Figure:
            bars = tuple(
                replace(b, name=change(b.name), parts=tuple(part(p) for p in b.parts))
                for b in block.bars
            )
            return replace(block, alt=change(block.alt), bars=bars)

        def place(of: Place | None) -> Place | None:
            if of is None:
                return None
            query = tuple((key, change(value)) for key, value in of.query)
            return replace(of, recording=change(of.recording), query=query)

        def block_(block: Block) -> Block:
            if isinstance(block, Sentence):
                return sentence(block)
            return table(block) if isinstance(block, DocumentTable) else figure(block)

        sections = tuple(
            replace(s, title=change(s.title), blocks=tuple(block_(b) for b in s.blocks))
            for s in self.sections
        )
        data = mapped_json(self.data, change)
        return replace(self, title=change(self.title), sections=sections, data=data)


def mapped_json(value: Any, change: Callable[[str], str]) -> Any:
    """Return JSON data with every text in it, keys too, changed by ``change``."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(k): mapped_json(v, change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [mapped_json(v, change) for v in value]
    return value


def _places_of(block: Block) -> Iterator[Place]:
    if isinstance(block, Sentence):
        places = [block.place]
    elif isinstance(block, DocumentTable):
        places = [cell.place for row in block.rows for cell in row]
    else:
        places = [part.place for bar in block.bars for part in bar.parts]
    yield from (place for place in places if place is not None)
