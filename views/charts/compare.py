"""Figures of a comparison; nothing here knows the page they appear on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from analyzers.compare.types import Comparison, SideRecording, SideSummary, WaterfallRow
from analyzers.words import count_text, time_text
from collectors.schema import Array
from reports.comparison_words import (
    END_COLOR,
    FAINT,
    change_interval,
    each_text,
    p_text,
    row_color,
    row_meaning,
    shown_rows,
    waterfall_steps,
)
from reports.numbers import signed_text
from views.charts.ledger import time_ticks
from views.shared.units import plotly_escape, visible

BASE, NEW = "baseline", "new"
BASE_COLOR, NEW_COLOR = "#7F8892", "#9C5BD6"  # no cause has them; grey and violet for every eye
MARKS = {BASE: "circle-open", NEW: "diamond"}

BAR_PX = 31  # so that all rows fit above the fold of a laptop's screen
CROPPED_FROM = 0.7  # of the axis; when no bar changes below it, that part shows nothing
CROP_ROOM = 0.25  # of what is shown, left of the lowest change
LEAST_SHOWN = 0.05  # of the time: five times the change that matters, so that noise looks small
NUMBERS_PX = 78  # right of the bars
MAX_SAMPLES = 1_500  # points of one recording; Plotly gets slow at 5,000
SAMPLES_PX = 300
BOXES = 0.2  # of the width
FEW_ITERATIONS = 15  # each gets a number on the axis
SHOWN_WARM_UP = 200
WARM_UP_ROOM = 0.6  # above and below the iterations, of what these take
WARM_UP_MARK = "x-thin-open"
WARM_UP_WORDS = "warm-up, excluded"

Steps = list[tuple[str, float, float]]  # name, where its bar begins and ends, in ns


def waterfall_figure(comparison: Comparison) -> go.Figure:
    """Return the way from the baseline to the new side, a bar for each row of the ledger.

    The points' ``customdata`` begins with the name of the row. What may be chance is faint.
    """
    steps = _shown_steps(comparison)
    rows = {row.row: row for row in comparison.waterfall}
    names = [name for name, _, _ in steps]
    low, high = _range(steps)
    opacity = [FAINT if n in rows and not rows[n].significant else 1.0 for n in names]
    each = each_text(comparison)
    figure = go.Figure()
    figure.add_bar(
        orientation="h",
        y=names,
        base=[max(start, low) if name in (BASE, NEW) else start for name, start, _ in steps],
        x=[end - max(start, low) if n in (BASE, NEW) else end - start for n, start, end in steps],
        marker={
            "color": [_color(rows.get(name)) for name in names],
            "opacity": opacity,
            "line": {"width": 0},
        },
        customdata=[
            _hover_words(name, rows.get(name), end, each, comparison.smallest_ns)
            for name, _, end in steps
        ],
        hovertemplate="<b>%{customdata[0]}</b> %{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    )
    _add_numbers(figure, steps, rows)
    _add_links(figure, steps)
    ticks = time_ticks(low, high, 6)
    digits = 3 + int(np.log10(high / max(high - low, 1)))  # or all ticks would read the same
    figure.update_layout(
        height=BAR_PX * len(steps) + 46,
        bargap=0.3,
        margin={"l": 0, "r": NUMBERS_PX, "t": 4, "b": 30},
        showlegend=False,
        dragmode=False,
        xaxis={
            "range": [low, high],
            "tickvals": ticks,
            "ticktext": [time_text(t, digits) for t in ticks],
            "fixedrange": True,
            "zeroline": low <= 0,
        },
        yaxis={
            "autorange": "reversed",
            "fixedrange": True,
            "automargin": True,
            "showgrid": False,
            "type": "category",
        },
    )
    return figure


def _add_numbers(figure: go.Figure, steps: Steps, rows: dict[str, WaterfallRow]) -> None:
    """Write the numbers in a column of their own: beside the bars a phone would cut them."""
    for name, _, end in steps:
        figure.add_annotation(
            xref="paper",
            x=1,
            y=name,
            text=_number(rows.get(name), end),
            showarrow=False,
            xanchor="right",
            xshift=NUMBERS_PX,
            font={"size": 13},
        )


def _add_links(figure: go.Figure, steps: Steps) -> None:
    """Lead from the end of each bar to the begin of the next."""
    for (upper, _, at), (lower, _, _) in itertools.pairwise(steps):
        figure.add_scatter(
            x=[at, at],
            y=[upper, lower],
            mode="lines",
            line={"color": END_COLOR, "width": 1, "dash": "dot"},
            hoverinfo="skip",
        )


def waterfall_is_cropped(comparison: Comparison) -> bool:
    """Tell whether the waterfall's axis begins above zero."""
    return _range(_shown_steps(comparison))[0] > 0


def _shown_steps(comparison: Comparison) -> Steps:
    rows = {comparison.waterfall[n].row for n in shown_rows(comparison)}
    return [step for step in waterfall_steps(comparison) if step[0] in {*rows, BASE, NEW}]


def _range(steps: Steps) -> tuple[float, float]:
    """Return where the axis begins and ends, without the part in which nothing changes."""
    ends = [end for _, start, end in steps] + [start for n, start, _ in steps if n != NEW]
    changes = [x for n, start, end in steps for x in ((end,) if n in (BASE, NEW) else (start, end))]
    low, high = min(changes, default=0.0), max([*ends, 1.0])
    if low < CROPPED_FROM * high or low == max(changes, default=0.0):
        return min(low, 0.0), high
    part = max(high - low, LEAST_SHOWN * high)
    return max(high - (1 + CROP_ROOM) * part, 0.0), high


def _number(row: WaterfallRow | None, end: float) -> str:
    """Return what stands beside a bar; bold, unless it may be chance."""
    if row is None:
        return f"<b>{time_text(end)}</b>"
    text = signed_text(row.change_ns)
    return f"<b>{text}</b>" if row.significant else text


def _color(row: WaterfallRow | None) -> str:
    return END_COLOR if row is None else row_color(row.row, significant=row.significant)


def _hover_words(
    name: str, row: WaterfallRow | None, end: float, each: str, smallest_ns: int
) -> list[str]:
    if row is None:
        return [name, time_text(end), each]
    meaning = row_meaning(name)
    before, after = time_text(row.base_ns), time_text(row.new_ns)
    sure = row.delta.certainty(smallest_ns).value
    return [
        name,
        f"{signed_text(row.change_ns)} ({before} to {after})",
        f"95 % interval {change_interval(row.delta)}, "
        f"p {p_text(row.p_adjusted)} · {sure}<br>{meaning}",
    ]


def samples_figure(comparison: Comparison) -> go.Figure:
    """Return every iteration that was measured, and the two sides as boxes beside them.

    What was left out as warm-up is marked; it takes no part in any number.
    """
    figure = go.Figure()
    sides = ((BASE, comparison.base, BASE_COLOR), (NEW, comparison.new, NEW_COLOR))
    for name, side, color in sides:
        _add_points(figure, name, side, color)
        everything = np.concatenate([np.asarray(s) for s in side.samples_ns] or [np.empty(0)])
        figure.add_box(
            y=thinned(everything)[1],
            name=name,
            xaxis="x2",
            marker={"color": color, "size": 3},
            boxpoints=False,
            hoverinfo="skip",
            showlegend=False,
        )
        if side.median_ns is not None:
            figure.add_hline(
                y=side.median_ns, line={"color": color, "width": 1, "dash": "dash"}, layer="below"
            )
    heights = _heights(comparison)
    low, high = heights.low, heights.high
    for _, side, color in sides:
        _add_warm_up(figure, side, color, heights)
    longest = max((r.warm_up + len(s) for _, x, _ in sides for r, s in _runs(x)), default=1)
    ticks = time_ticks(low, high, 5)
    figure.update_layout(
        height=SAMPLES_PX,
        margin={"l": 0, "r": 0, "t": 8, "b": 36},
        showlegend=True,
        # Above the points: on a phone it takes several lines, and the plot makes room for them.
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        dragmode=False,
        xaxis={
            "domain": [0, 1 - BOXES],
            "title": {"text": "iteration"},
            "fixedrange": True,
            "range": [0.4, longest + 0.6],
            "dtick": 1 if longest <= FEW_ITERATIONS else None,
            "nticks": 12,
            "tickformat": ",d",
            "showgrid": False,
        },
        xaxis2={"domain": [1 - BOXES + 0.02, 1], "fixedrange": True},
        yaxis={
            "range": [low, high],
            "tickvals": ticks,
            "ticktext": [time_text(t) for t in ticks],
            "fixedrange": True,
            "automargin": True,
        },
    )
    return figure


def _runs(side: SideSummary) -> Iterator[tuple[SideRecording, tuple[int, ...]]]:
    return zip(side.recordings, side.samples_ns, strict=False)  # no samples when not comparable


class _Heights(NamedTuple):
    """The axis of the samples, and the room beside them that warm-up may take."""

    low: float
    high: float
    floor: float
    ceiling: float


def _heights(comparison: Comparison) -> _Heights:
    sides = (comparison.base, comparison.new)
    samples = [x for side in sides for kept in side.samples_ns for x in kept] or [0, 1]
    left_out = [x for side in sides for r in side.recordings for x in r.warm_up_ns]
    low, high = float(min(samples)), float(max(samples))
    room = max(high - low, 0.02 * high)
    floor, ceiling = max(low - WARM_UP_ROOM * room, 0.0), high + WARM_UP_ROOM * room
    beside = [min(max(x, floor), ceiling) for x in left_out]
    edge = 0.1 * room
    return _Heights(min([low, *beside]) - edge, max([high, *beside]) + edge, floor, ceiling)


def _add_points(figure: go.Figure, name: str, side: SideSummary, color: str) -> None:
    several = len(side.samples_ns) > 1
    for number, (recording, kept) in enumerate(_runs(side)):
        place, values = thinned(np.asarray(kept, np.int64))
        of = f"<br>{plotly_escape(visible(recording.name, 60))}" if several else ""
        figure.add_scatter(
            x=place + recording.warm_up + 1,
            y=values,
            mode="markers",
            name=name,
            legendgroup=name,
            showlegend=not number,
            marker={"color": color, "symbol": MARKS[name], "size": 6, "opacity": 0.75},
            customdata=[time_text(v) for v in values.tolist()],
            hovertemplate=f"iteration %{{x}}: %{{customdata}}{of}<extra></extra>",
        )


def _add_warm_up(figure: go.Figure, side: SideSummary, color: str, heights: _Heights) -> None:
    """Mark the iterations that were left out, each at its duration or at the edge."""
    kept = [r.warm_up_ns[:SHOWN_WARM_UP] for r in side.recordings]
    if not any(kept):
        return
    durations = np.concatenate([np.asarray(k, np.int64) for k in kept])
    if not any(trace.name == WARM_UP_WORDS for trace in figure.data):
        marker = {"color": END_COLOR, "symbol": WARM_UP_MARK, "line": {"width": 2}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=WARM_UP_WORDS, marker=marker)
    figure.add_scatter(
        x=np.concatenate([np.arange(1, len(k) + 1) for k in kept]),
        y=np.clip(durations, heights.floor, heights.ceiling),
        mode="markers",
        name=WARM_UP_WORDS,
        showlegend=False,
        marker={
            "color": color,
            "symbol": [_mark(d, heights) for d in durations.tolist()],
            "size": 8,
            "line": {"width": 2},
        },
        customdata=[time_text(d) for d in durations.tolist()],
        hovertemplate="iteration %{x}: %{customdata}, excluded as warm-up<extra></extra>",
    )


def warm_up_is_cut(comparison: Comparison) -> bool:
    """Tell whether warm-up is drawn at the edge because the axis does not reach it."""
    heights = _heights(comparison)
    left_out = [
        x
        for side in (comparison.base, comparison.new)
        for recording in side.recordings
        for x in recording.warm_up_ns[:SHOWN_WARM_UP]
    ]
    return any(_mark(x, heights) != WARM_UP_MARK for x in left_out)


def _mark(duration: int, heights: _Heights) -> str:
    if duration > heights.ceiling:
        return "triangle-up-open"
    return "triangle-down-open" if duration < heights.floor else WARM_UP_MARK


def thinned(samples: Array) -> tuple[Array, Array]:
    """Return places and values of so many samples as a chart can show, evenly spread."""
    if len(samples) <= MAX_SAMPLES:
        return np.arange(len(samples)), samples
    place = np.linspace(0, len(samples) - 1, MAX_SAMPLES).round().astype(np.int64)
    return place, samples[place]


def samples_words(comparison: Comparison) -> str:
    """Say what the figure of samples shows, for those who cannot see it."""
    parts = []
    for name, side in ((BASE, comparison.base), (NEW, comparison.new)):
        count = sum(len(s) for s in side.samples_ns)
        median = "" if side.median_ns is None else f", median {time_text(side.median_ns)}"
        parts.append(f"{name}: {count_text(count, 'iteration')}{median}")
    return "; ".join(parts)


def waterfall_words(comparison: Comparison) -> str:
    """Say what the waterfall shows, for those who cannot see it."""
    steps = _shown_steps(comparison)
    rows = {row.row: row for row in comparison.waterfall}
    return ", ".join(
        f"{name} {time_text(end) if name not in rows else signed_text(rows[name].change_ns)}"
        for name, _, end in steps
    )
