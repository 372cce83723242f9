"""A document as text for a terminal: wrapped and coloured for a reader, plain for a pipe."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from common.text import printable
from reports.document import Bar, Block, Cell, Document, DocumentTable, Figure, Section, Sentence
from reports.numbers import pieces

UNLIMITED = 100_000  # columns; a pipe gets each sentence and each row on one line
MAX_PROSE = 110  # columns of a sentence; longer lines are hard to read
MAX_BAR = 100  # columns of a figure
INDENT, LEAD_INDENT = 2, 3  # of what stands below a heading; of what belongs to a lead
HANG = 2  # further columns of a sentence's other lines
COLUMN_GAP = 2  # columns between those of a table
MIN_WORDS = 8  # columns that words of a table keep while its numbers stay on one line
NAME_GAP = 2  # columns between the name of a bar, the bar, and its number
ROW_BAR = 24  # columns of the bar beside a row that takes all of the whole
EIGHTHS = "▏▎▍▌▋▊▉█"  # a cell filled from the left
MIN_CROPPED = 20  # columns that a cropped column keeps
MIN_COMMAND = 40  # characters from which a quoted command stands on a line of its own
STYLES = {
    "lead": Style(bold=True),
    "note": Style(dim=True),
    "warning": Style(color="yellow"),
    "error": Style(color="red", bold=True),
}
_HEADING, _TABLE_NAME, _CODE = Style(bold=True), Style(italic=True), Style(color="cyan")
_COMMAND = re.compile(r"(?:ncu|nsys|rocprof-compute|whyslow|python3?|nvidia-smi) ")


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What text is shown on.

    Attributes:
        width: Columns.
        colors: How colours are written, as rich names it; empty for plain text.
        has_blocks: Whether its character set has the blocks that bars are made of.
    """

    width: int = UNLIMITED
    colors: str = ""
    has_blocks: bool = True


def print_document(document: Document) -> None:
    """Print the document in the form that suits where standard output goes."""
    sys.stdout.write(terminal_text(document, _screen()))


def _screen() -> Screen:
    """Return what standard output is; colours are left out where ``NO_COLOR`` is set."""
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        return Screen()
    return Screen(
        width=console.width,
        colors="" if console.no_color else console.color_system or "",
        has_blocks=_can_show(EIGHTHS, sys.stdout.encoding or "ascii"),
    )


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal_text(document: Document, screen: Screen | None = None) -> str:
    """Return the document as text; the first section, its answer, has no heading.

    Args:
        document: What to write.
        screen: What it is for; by default a pipe.
    """
    return _TerminalWriter(screen or Screen()).text(document)


class _TerminalWriter:
    """Writes one document for one screen."""

    def __init__(self, screen: Screen) -> None:
        self._buffer = io.StringIO()
        self._has_color = bool(screen.colors)
        self._has_bars = self._has_color and screen.has_blocks
        self._console = Console(
            file=self._buffer,
            width=screen.width,
            color_system=screen.colors or None,  # type: ignore[arg-type]
            force_terminal=self._has_color,
            no_color=False,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def text(self, document: Document) -> str:
        for number, section in enumerate(document.sections):
            if number:
                self._console.line()
                self._line(Text(printable(section.title), _HEADING))
            self._section(section, INDENT if number else 0)
        lines = self._buffer.getvalue().rstrip("\n").split("\n")
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def _section(self, section: Section, outer: int) -> None:
        indent = outer
        for before, block in zip((None, *section.blocks), section.blocks, strict=False):
            if _are_apart(before, block):
                self._console.line()
            if isinstance(block, Sentence):
                is_lead = block.kind == "lead"
                self._sentence(block, outer if is_lead else indent)
                if is_lead and outer:
                    indent = outer + LEAD_INDENT
            elif isinstance(block, DocumentTable):
                self._table(block, indent)
            elif self._has_bars:  # its numbers stand in a table, too
                self._figure(block, indent)

    def _line(self, line: Text) -> None:
        segments = Segments(Segment.simplify(line.render(self._console)))
        self._console.print(segments, soft_wrap=True)
        self._console.line()

    def _sentence(self, sentence: Sentence, indent: int) -> None:
        style = STYLES.get(sentence.kind, Style.null())
        width = min(self._console.width, MAX_PROSE) if self._is_narrow else UNLIMITED
        hang = LEAD_INDENT if sentence.kind == "lead" and indent else HANG if indent else 0
        number = 0
        for text, is_command in _with_commands_apart(printable(sentence.text)):
            if is_command or sentence.kind == "command":
                # What is copied must not hold the begin of a line.
                lines = iter([Text(text, _CODE)])
            else:
                lines = _lines(_words(text, style), width - indent - hang, 0 if number else hang)
            for line in lines:
                self._line(Text(" " * (indent + (hang if number else 0))) + line)
                number += 1

    @property
    def _is_narrow(self) -> bool:
        return self._console.width < UNLIMITED

    def _table(self, table: DocumentTable, indent: int) -> None:
        if table.name:
            self._line(Text(" " * indent) + Text(printable(table.name), _TABLE_NAME))
        numbers_fit = _numbers_fit(table, self._console.width - indent)
        grid = Table(
            box=None,
            pad_edge=False,
            padding=(0, COLUMN_GAP, 0, 0),
            header_style=Style(dim=True),
            show_header=any(column.name for column in table.columns),
        )
        for column in table.columns:
            grid.add_column(
                Text(printable(column.name)),
                justify="right" if column.is_number else "left",
                no_wrap=column.is_number and numbers_fit,
                overflow="fold",
            )
        shares = [next((c for c in row if c.share is not None), None) for row in table.rows]
        has_bars = self._has_bars and any(shares)
        if has_bars := has_bars and _widest(table) + ROW_BAR <= self._console.width - indent:
            grid.add_column(no_wrap=True)
        rows = _cropped_rows(table, self._console.width - indent)
        for row, share in zip(rows, shares, strict=True):
            cells = [
                Text(printable(c.text), Style(color=c.color or None, bold=c.strong)) for c in row
            ]
            grid.add_row(*cells, *([_share_bar(share)] if has_bars else []))
        self._console.print(Padding.indent(grid, indent))

    def _figure(self, figure: Figure, indent: int) -> None:
        names = max((len(bar.name) for bar in figure.bars), default=0) + NAME_GAP
        numbers = max((len(p.text) for b in figure.bars for p in b.parts), default=0) + NAME_GAP
        room = min(self._console.width - indent, MAX_BAR)
        if figure.is_waterfall:
            room -= names + numbers
        if room < 10:
            return
        ends = [x for bar in figure.bars for part in bar.parts for x in (part.start, part.end)]
        low, high = min([0.0, *ends]), max([0.0, *ends])
        scale = room / ((high - low) or 1)
        for bar in figure.bars:
            line = Text(" " * indent)
            if figure.is_waterfall:
                line.append(f"{printable(bar.name):<{names}}", Style(dim=True))
            elif len(figure.bars) > 1:
                self._line(line + Text(printable(bar.name), _TABLE_NAME))
            line.append_text(_bar_text(bar, low, scale, room))
            if figure.is_waterfall:
                line.append(f"{'':<{NAME_GAP}}{printable(bar.parts[-1].text)}")
            self._line(line)


def _are_apart(before: Block | None, block: Block) -> bool:
    """Return whether a line is left free between two blocks: around a table, but for its bars."""
    if before is None or isinstance(before, Figure):
        return before is not None and before.is_waterfall
    return isinstance(before, DocumentTable) or isinstance(block, DocumentTable)


def _numbers_fit(table: DocumentTable, width: int) -> bool:
    """Return whether all numbers can stay on one line, so that only words are wrapped."""
    needed = [
        taken if column.is_number else min(taken, MIN_WORDS)
        for column, taken in zip(table.columns, _widths(table), strict=True)
    ]
    return sum(needed) + COLUMN_GAP * len(needed) <= width


def _widths(table: DocumentTable) -> list[int]:
    """Return the columns of the screen that each column of the table takes unwrapped."""
    rows = (tuple(Cell(text=c.name) for c in table.columns), *table.rows)
    return [max(cell_len(row[n].text) for row in rows) for n in range(len(table.columns))]


def _widest(table: DocumentTable) -> int:
    return sum(_widths(table)) + COLUMN_GAP * len(table.columns)


def _cropped_rows(table: DocumentTable, width: int) -> list[tuple[Cell, ...]]:
    """Return the rows with the cells of cropped columns cut between words, where room is short."""
    over = _widest(table) - COLUMN_GAP - width
    if over <= 0 or not any(column.is_cropped for column in table.columns):
        return list(table.rows)
    rooms = [
        max(taken - over, MIN_CROPPED) if column.is_cropped else taken
        for column, taken in zip(table.columns, _widths(table), strict=True)
    ]
    return [
        tuple(
            replace(cell, text=_cropped(cell.text, room)) if column.is_cropped else cell
            for cell, column, room in zip(row, table.columns, rooms, strict=True)
        )
        for row in table.rows
    ]


def _cropped(text: str, width: int) -> str:
    """Return the first words of ``text`` that fit, and an ellipsis where some do not."""
    if cell_len(text) <= width:
        return text
    first, *_ = _lines(_words(text, Style.null()), width - 1)
    return f"{first.plain.rstrip(' ,;:')}…"


def _share_bar(cell: Cell | None) -> Text:
    """Return the bar of a share, to the eighth of a column; what is not nothing can be seen."""
    if cell is None or not cell.share:
        return Text()
    eighths = min(max(round(cell.share * ROW_BAR * 8), 1), ROW_BAR * 8)
    rest = EIGHTHS[eighths % 8 - 1] if eighths % 8 else ""
    return Text(EIGHTHS[-1] * (eighths // 8) + rest, Style(color=cell.color or None))


def _bar_text(bar: Bar, low: float, scale: float, room: int) -> Text:
    """Return the coloured cells of a bar; a part that is not nothing has one, where it fits."""
    drawn, at = Text(), 0
    for part in bar.parts:
        left, right = sorted((part.start, part.end))
        begin = round((left - low) * scale)
        end = min(max(round((right - low) * scale), begin + (right > left)), room)
        drawn.append(" " * (begin - at))
        drawn.append("█" * (end - max(begin, at)), Style(color=part.color, dim=part.faint))
        at = max(at, end)
    return drawn


def _with_commands_apart(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a sentence around long commands that it quotes, and whether each is one.

    >>> list(_with_commands_apart("Run `ncu --set full --kernel-name gemm -o counters PROGRAM`."))
    [('Run:', False), ('ncu --set full --kernel-name gemm -o counters PROGRAM', True)]
    """
    before, follows = "", False
    for piece, is_code in pieces(text):
        if is_code and len(piece) >= MIN_COMMAND and _COMMAND.match(piece):
            if before := before.rstrip(" (:"):
                yield f"{before}:", False
            yield piece, True
            before, follows = "", True
        elif follows and not before and not is_code:
            before = piece.lstrip(" ,.;:)")
        else:
            before += f"`{piece}`" if is_code else piece
    if before or not follows:
        yield before, False


def _words(text: str, style: Style) -> list[Text]:
    """Return the words of a sentence; what it quotes as code is one word, to be copied whole."""
    words = [Text()]
    for piece, is_code in pieces(text):
        parts = [f"`{piece}`"] if is_code else piece.split(" ")
        if len(words) == 1 and not words[0] and not is_code:
            words[0] = Text(style=style)
        words[-1].append(parts[0], _CODE if is_code else "")
        words += [Text(part, style) for part in parts[1:]]
    return words


def _lines(words: list[Text], width: int, further: int = 0) -> Iterator[Text]:
    """Yield lines of words; the first is ``further`` columns longer than the others."""
    line, room, taken = Text(), width + further, 0
    for number, word in enumerate(words):
        length = word.cell_len
        if number and taken + 1 + length > room:
            yield line
            line, room, taken = Text(), width, 0
        elif number:
            line.append(" ", word.style if word.style == words[number - 1].style else "")
            taken += 1
        line.append_text(word)
        taken += length
    yield line
