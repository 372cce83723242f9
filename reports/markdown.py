"""A document as Markdown, for a pull request or a wiki; its words are those of the HTML."""

from __future__ import annotations

import re

from common.text import visible
from reports.document import Block, Cell, Document, DocumentTable, Figure, Place, Section, Sentence
from reports.numbers import pieces

# What Markdown, or GitHub's additions (~~…~~, $…$), could take for more than a letter.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#!|~$&@])")
_AT_BEGIN = re.compile(r"^(\s*\d*)([.)=+-])(?=\s|$|[-=])")  # would be a list or a heading
# A person or an issue is mentioned even where a backslash stands before the sign.
_MENTION = re.compile(r"([@#])(?=\w)")
_ZERO_WIDTH_SPACE = "\u200b"
_FORMS = {"lead": "**{}**", "error": "**{}**", "item": "* {}", "command": "    {}"}


def to_markdown(document: Document, level: int = 1) -> str:
    """Return the document as Markdown.

    Args:
        document: What to write.
        level: Of the title; headings of sections are one below.
    """
    places = document.places()
    parts = [f"{'#' * level} {escape(document.title)}"]
    for section in document.sections:
        if section.is_folded:
            # GitHub and GitLab fold it; others show a line and what it is about.
            parts.append(f"<details><summary>{escape(section.title)}</summary>")
        elif section.title:
            parts.append(f"{'#' * (level + 1)} {escape(section.title)}")
        parts += _blocks(section, places)
        parts += ["</details>"] * section.is_folded
    parts.append(_windows(places, document.base_url, level + 1))
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Return ``text`` so that Markdown shows exactly its characters, and mentions nobody."""
    return _MENTION.sub(rf"\1{_ZERO_WIDTH_SPACE}", _SPECIAL.sub(r"\\\1", visible(text)))


def _begin(text: str) -> str:
    """Return ``text`` for the begin of a line."""
    return _AT_BEGIN.sub(r"\1\\\2", escape(text))


def _prose(text: str) -> str:
    """Return a sentence; what it quotes as code stays code."""
    return "".join(
        f"`{piece}`" if is_code else escape(piece) if n else _begin(piece)
        for n, (piece, is_code) in enumerate(pieces(visible(text)))
    )


def _blocks(section: Section, places: dict[Place, str]) -> list[str]:
    """Return the blocks of a section; the items of a list follow each other without a gap."""
    parts: list[str] = []
    was_item = False
    for block in section.blocks:
        text = _block(block, places)
        is_item = isinstance(block, Sentence) and block.kind == "item"
        if is_item and was_item:
            parts[-1] += f"\n{text}"
        else:
            parts.append(text)
        was_item = is_item
    return parts


def _block(block: Block, places: dict[Place, str]) -> str:
    if isinstance(block, Sentence):
        text = visible(block.text) if block.kind == "command" else _prose(block.text)
        words = _FORMS.get(block.kind, "{}").format(text)
        return words if block.place is None else f"{words} [{places[block.place]}]"
    return _figure(block) if isinstance(block, Figure) else _table(block, places)


def _figure(figure: Figure) -> str:
    return _begin(figure.alt)


def _table(table: DocumentTable, places: dict[Place, str]) -> str:
    lines = [
        _row([escape(c.name) for c in table.columns]),
        _row(["---:" if c.is_number else "---" for c in table.columns]),
        *(_row([_cell(cell, places) for cell in row]) for row in table.rows),
    ]
    head = f"{escape(table.name)}\n\n" if table.name else ""
    return head + "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell, places: dict[Place, str]) -> str:
    text = escape(cell.text)
    text = f"**{text}**" if cell.strong and text else text
    return text if cell.place is None or not text else f"{text} [{places[cell.place]}]"


def _windows(places: dict[Place, str], base_url: str, level: int) -> str:
    if not places:
        return ""
    # Reference links: each [w1] above leads to its window where a dashboard is known.
    if base_url:
        links = [f"[{name}]: <{place.address(base_url)}>" for place, name in places.items()]
    else:
        links = []
    rows = [
        _row(
            [
                name,
                escape(place.recording),
                f"{place.start_ns:d}",
                f"{place.end_ns:d}",
                escape(place.address(base_url)),
            ]
        )
        for place, name in places.items()
    ]
    head = _row(["Window", "Recording", "Begins (ns)", "Ends (ns)", "In the dashboard"])
    table = "\n".join([head, _row(["---", "---", "---:", "---:", "---"]), *rows])
    lines = [f"{'#' * level} Windows", table, "\n".join(links)]
    return "\n\n".join(line for line in lines if line)
