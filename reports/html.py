"""A document as one HTML file that opens anywhere: no script, no request, no other file.

The policy in its head forbids everything but its own style sheet, named by its digest; so not even
a mistake of ours could fetch or run anything. Every text is escaped; colours and numbers of the
figures are ours.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator
from pathlib import Path

from analyzers.words import count_text
from common.text import visible
from reports.document import (
    Bar,
    Block,
    Document,
    DocumentPart,
    DocumentTable,
    Figure,
    Place,
    Sentence,
)
from reports.numbers import pieces
from reports.palette import ink_on

STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"

# In units of the drawing, which scales with the page.
WIDTH, BAR, GAP, HEAD = 960, 30, 12, 18
CHAR = 7.2  # width of a letter at the size that names of parts are set in
PAD = 10
FAINT = ' fill-opacity="0.5"'
LABEL_WIDTH = 150  # left of a waterfall, for the names of its bars
VALUE_WIDTH = 130  # right of it, for the numbers


def to_html(document: Document) -> str:
    """Return the document as HTML."""
    places = document.places()
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    body = "".join(_section(s.title, s.blocks, places) for s in document.sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_text(POLICY.format(digest))}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_text(document.title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{_text(document.title)}</h1>{body}"
        f"{_windows(places, document.base_url)}</main></body></html>\n"
    )


def _text(text: str) -> str:
    return html.escape(visible(text))


def _prose(text: str) -> str:
    """Return a sentence; what it quotes as code is set as code."""
    return "".join(
        f"<code>{_text(piece)}</code>" if is_code else _text(piece)
        for piece, is_code in pieces(visible(text))
    )


def _section(title: str, blocks: tuple[Block, ...], places: dict[Place, str]) -> str:
    inside = "".join(_block(b, places) for b in blocks)
    return f"<section><h2>{_text(title)}</h2>{inside}</section>\n"


def _block(block: Block, places: dict[Place, str]) -> str:
    if isinstance(block, Sentence):
        where = "" if block.place is None else f" {_link(places[block.place], block.place)}"
        return f'<p class="{block.kind}">{_prose(block.text)}{where}</p>\n'
    return _table(block, places) if isinstance(block, DocumentTable) else _figure(block, places)


def _link(name: str, place: Place) -> str:
    return f'<a class="w" href="#{name}" title="{_text(_span(place))}">{name}</a>'


def _span(place: Place) -> str:
    of = f"{place.recording}: " if place.recording else ""
    return f"{of}{place.start_ns:d} ns to {place.end_ns:d} ns"


def _table(table: DocumentTable, places: dict[Place, str]) -> str:
    kinds = ["n" if c.is_number else "t" for c in table.columns]
    head = "".join(
        f'<th class="{kind}" scope="col">{_text(c.name)}</th>'
        for c, kind in zip(table.columns, kinds, strict=True)
    )
    rows = []
    for row in table.rows:
        cells = []
        for cell, kind in zip(row, kinds, strict=True):
            text = _text(cell.text)
            if cell.place is not None and cell.text:
                name = places[cell.place]
                text = f'<a href="#{name}" title="{_text(_span(cell.place))}">{text}</a>'
            cells.append(f'<td class="{kind}{" s" if cell.strong else ""}">{text}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    caption = f"<caption>{_text(table.name)}</caption>" if table.name else ""
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _windows(places: dict[Place, str], base_url: str) -> str:
    if not places:
        return ""
    several = any(place.recording for place in places)
    rows = []
    for place, name in places.items():
        address = place.address(base_url)
        shown = f"<code>{_text(address)}</code>"
        # A relative address would lead to a file beside this one.
        if base_url and address:
            shown = f'<a href="{_text(address)}">{_text(address)}</a>'
        of = f'<td class="t">{_text(place.recording)}</td>' if several else ""
        rows.append(
            f'<tr id="{name}"><td>{name}</td>{of}<td class="n">{place.start_ns:d}</td>'
            f'<td class="n">{place.end_ns:d}</td><td class="t">{shown}</td></tr>\n'
        )
    of = '<th scope="col">Recording</th>' if several else ""
    return (
        f"<section><h2>Windows</h2><p>{_text(_windows_told(len(places)))}</p>"
        f'<div class="scroll"><table><thead><tr><th scope="col">Window</th>{of}'
        '<th class="n" scope="col">Begins (ns)</th><th class="n" scope="col">Ends (ns)</th>'
        f'<th scope="col">In the dashboard</th></tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div></section>\n"
    )


def _windows_told(count: int) -> str:
    return (
        f"Every number above was measured in one of {count_text(count, 'window')}, on the clock of "
        "its recording; the last column is the address that shows it in a dashboard of whyslow "
        "that has opened the recording."
    )


def _figure(figure: Figure, places: dict[Place, str]) -> str:
    drawn = _waterfall(figure, places) if figure.is_waterfall else _stacks(figure, places)
    return f'<div class="figure">{drawn}</div>\n'


def _svg(alt: str, height: float, inside: Iterator[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{_text(alt)}">'
        f"<title>{_text(alt)}</title>{''.join(inside)}</svg>"
    )


def _stacks(figure: Figure, places: dict[Place, str]) -> str:
    longest = max((p.end for b in figure.bars for p in b.parts), default=0) or 1
    step = HEAD + BAR + GAP
    return _svg(
        figure.alt,
        step * len(figure.bars),
        (_stack(bar, n * step, longest, places) for n, bar in enumerate(figure.bars)),
    )


def _stack(bar: Bar, top: float, longest: float, places: dict[Place, str]) -> str:
    drawn = [f'<text class="k" x="0" y="{top + HEAD - 5:g}">{_text(bar.name)}</text>']
    for part in bar.parts:
        x, width = WIDTH * part.start / longest, WIDTH * (part.end - part.start) / longest
        drawn.append(_rect(part, x, top + HEAD, width, places))
        if len(part.text) * CHAR + PAD <= width:  # a narrow stretch has no room for its name
            drawn.append(
                f'<text class="i" x="{x + width / 2:.2f}" y="{top + HEAD + BAR / 2 + 4.5:g}" '
                f'text-anchor="middle" fill="{ink_on(part.color)}">{_text(part.text)}</text>'
            )
    return "".join(drawn)


def _rect(part: DocumentPart, x: float, y: float, width: float, places: dict[Place, str]) -> str:
    about = f"<title>{_text(f'{part.name}: {part.text}')}</title>"
    rect = (
        f'<rect x="{x:.2f}" y="{y:g}" width="{max(width, 0.5):.2f}" height="{BAR}" '
        f'fill="{part.color}"{FAINT if part.faint else ""}>{about}</rect>'
    )
    return rect if part.place is None else f'<a href="#{places[part.place]}">{rect}</a>'


def _waterfall(figure: Figure, places: dict[Place, str]) -> str:
    ends = [x for b in figure.bars for p in b.parts for x in (p.start, p.end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / ((high - low) or 1)
    step = BAR + 4

    def at(value: float) -> float:
        return LABEL_WIDTH + (value - low) * scale

    def drawn() -> Iterator[str]:
        yield (
            f'<line class="axis" x1="{at(0):.2f}" y1="0" x2="{at(0):.2f}" '
            f'y2="{step * len(figure.bars):g}"/>'
        )
        for n, bar in enumerate(figure.bars):
            top = n * step + 2
            middle = top + BAR / 2 + 4.5
            yield f'<text class="k" x="0" y="{middle:g}">{_text(bar.name)}</text>'
            for part in bar.parts:
                left, right = sorted((at(part.start), at(part.end)))
                yield _rect(part, left, top, right - left, places)
                beside = f'x="{right + 6:.2f}" y="{middle:g}"'
                yield f'<text class="k" {beside}>{_text(part.text)}</text>'
                if n + 1 < len(figure.bars):
                    x = at(part.end)
                    yield (
                        f'<line class="step" x1="{x:.2f}" y1="{top + BAR:g}" x2="{x:.2f}" '
                        f'y2="{top + step:g}"/>'
                    )

    return _svg(figure.alt, step * len(figure.bars) + 4, drawn())
