"""Where the parts of a figure lie in its drawing, which scales with the page."""

from __future__ import annotations

from dataclasses import dataclass, field

from reports.document import Bar, DocumentPart, Figure, Place
from reports.palette import ink_on

# In units of the drawing.
WIDTH, BAR, GAP, HEAD = 960, 30, 12, 18
WATERFALL_GAP = 4
CHAR = 7.2  # width of a letter at the size that names of parts are set in
PAD = 10
BASELINE = 4.5  # from the middle of a bar down to the line that letters stand on
LABEL_WIDTH = 150  # left of a waterfall, for the names of its bars
VALUE_WIDTH = 130  # right of it, for the numbers
LEAST = 0.5  # width of a part that would otherwise not be seen


@dataclass(frozen=True, kw_only=True)
class DrawnPart:
    """A rectangle and what stands over it.

    Attributes:
        x: Its left edge.
        y: Its upper edge.
        width: Its width.
        color: ``#RRGGBB``, ours.
        opacity: 0 to 1.
        title: What it is, in words.
        place: Where it was measured.
    """

    x: str
    y: str
    width: str
    color: str
    opacity: str
    title: str
    place: Place | None


@dataclass(frozen=True, kw_only=True)
class DrawnText:
    """A text, the point where it begins or has its middle, and its colour; empty is the page's."""

    x: str
    y: str
    text: str
    color: str = ""


@dataclass(frozen=True, kw_only=True)
class DrawnLine:
    """An upright line; ``is_axis`` says whether it is that of zero."""

    x: str
    top: str
    bottom: str
    is_axis: bool = False


@dataclass(kw_only=True)
class Drawing:
    """Everything that a figure consists of, in the order in which it is drawn."""

    height: str
    bar: int = BAR
    width: int = WIDTH
    lines: list[DrawnLine] = field(default_factory=list)
    parts: list[DrawnPart] = field(default_factory=list)
    texts: list[DrawnText] = field(default_factory=list)


def drawing(figure: Figure) -> Drawing:
    """Return where everything of a figure lies."""
    return _waterfall(figure) if figure.is_waterfall else _stacks(figure)


def _stacks(figure: Figure) -> Drawing:
    longest = max((p.end for b in figure.bars for p in b.parts), default=0) or 1
    step = HEAD + BAR + GAP
    drawn = Drawing(height=f"{step * len(figure.bars):g}")
    for number, bar in enumerate(figure.bars):
        top = number * step
        drawn.texts.append(DrawnText(x="0", y=f"{top + HEAD - 5:g}", text=bar.name))
        _stack(drawn, bar, top + HEAD, WIDTH / longest)
    return drawn


def _stack(drawn: Drawing, bar: Bar, top: float, scale: float) -> None:
    for part in bar.parts:
        x, width = part.start * scale, (part.end - part.start) * scale
        drawn.parts.append(_part(part, x, top, width))
        if len(part.text) * CHAR + PAD <= width:  # a narrow stretch has no room for its name
            middle, y = f"{x + width / 2:.2f}", f"{top + BAR / 2 + BASELINE:g}"
            ink = ink_on(part.color)
            drawn.texts.append(DrawnText(x=middle, y=y, text=part.text, color=ink))


def _part(part: DocumentPart, x: float, y: float, width: float) -> DrawnPart:
    return DrawnPart(
        x=f"{x:.2f}",
        y=f"{y:g}",
        width=f"{max(width, LEAST):.2f}",
        color=part.color,
        opacity="0.5" if part.faint else "1",
        title=f"{part.name}: {part.text}",
        place=part.place,
    )


def _waterfall(figure: Figure) -> Drawing:
    ends = [x for b in figure.bars for p in b.parts for x in (p.start, p.end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / ((high - low) or 1)
    step = BAR + WATERFALL_GAP

    def at(value: float) -> float:
        return LABEL_WIDTH + (value - low) * scale

    bottom = step * len(figure.bars)
    drawn = Drawing(height=f"{bottom + WATERFALL_GAP:g}")
    drawn.lines.append(DrawnLine(x=f"{at(0):.2f}", top="0", bottom=f"{bottom:g}", is_axis=True))
    for number, bar in enumerate(figure.bars):
        top = number * step + WATERFALL_GAP / 2
        y = f"{top + BAR / 2 + BASELINE:g}"
        drawn.texts.append(DrawnText(x="0", y=y, text=bar.name))
        for part in bar.parts:
            left, right = sorted((at(part.start), at(part.end)))
            drawn.parts.append(_part(part, left, top, right - left))
            drawn.texts.append(DrawnText(x=f"{right + 6:.2f}", y=y, text=part.text))
            if number + 1 < len(figure.bars):
                x = f"{at(part.end):.2f}"
                drawn.lines.append(DrawnLine(x=x, top=f"{top + BAR:g}", bottom=f"{top + step:g}"))
    return drawn
