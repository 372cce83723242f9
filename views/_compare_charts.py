"""Figures of a comparison; nothing here knows the page they appear on."""

from __future__ import annotations

import itertools

import numpy as np
import plotly.graph_objects as go

from analyzers.compare import REMAINDER, Comparison, SideSummary, WaterfallRow
from analyzers.finding import Row
from analyzers.words import count_text, time_text
from collectors.trace import Array
from library.compare_words import (
    END_COLOR,
    FAINT,
    REMAINDER_MEANING,
    interval_text,
    p_text,
    row_color,
    shown_rows,
    signed_text,
    waterfall_steps,
)
from library.palette import ROW_MEANINGS
from views._charts import time_ticks
from views._units import plotly_escape, visible

BASE, NEW = "baseline", "new"
BASE_COLOR, NEW_COLOR = "#7F8892", "#9C5BD6"  # no cause has them; grey and violet for every eye
MARKS = {BASE: "circle-open", NEW: "diamond"}

BAR_PX = 40
CROPPED_FROM = 0.5  # of the axis; when no bar changes below it, that part shows nothing
CROP_ROOM = 0.25  # of what is shown, left of the lowest change
NUMBERS_PX = 78  # right of the bars
MAX_SAMPLES = 1_500  # points of one recording; Plotly gets slow at 5,000
SAMPLES_PX = 300
BOXES = 0.2  # of the width
FEW_ITERATIONS = 15  # each gets a number on the axis
SHOWN_WARM_UP = 200


def waterfall_figure(comparison: Comparison) -> go.Figure:
    """Return the way from the baseline to the new side, a bar for each row of the ledger.

    The points' ``customdata`` begins with the name of the row. What may be chance is faint.
    """
    steps = _shown_steps(comparison)
    rows = {row.row: row for row in comparison.waterfall}
    names = [name for name, _, _ in steps]
    low, high = _range(steps)
    opacity = [FAINT if n in rows and not rows[n].significant else 1.0 for n in names]
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
        customdata=[_told(name, rows.get(name), end) for name, _, end in steps],
        hovertemplate="<b>%{customdata[0]}</b> %{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    )
    for name, _, end in steps:
        row = rows.get(name)
        figure.add_annotation(  # a column of their own: beside the bars a phone would cut them
            xref="paper",
            x=1,
            y=name,
            text=time_text(end) if row is None else signed_text(row.change_ns),
            showarrow=False,
            xanchor="right",
            xshift=NUMBERS_PX,
            font={"size": 13},
        )
    for (upper, _, at), (lower, _, _) in itertools.pairwise(steps):
        figure.add_scatter(
            x=[at, at],
            y=[upper, lower],
            mode="lines",
            line={"color": END_COLOR, "width": 1, "dash": "dot"},
            hoverinfo="skip",
        )
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


def waterfall_is_cropped(comparison: Comparison) -> bool:
    """Tell whether the waterfall's axis begins above zero."""
    return _range(_shown_steps(comparison))[0] > 0


def _shown_steps(comparison: Comparison) -> list[tuple[str, float, float]]:
    shown = {comparison.waterfall[n].row for n in shown_rows(comparison)}
    return [step for step in waterfall_steps(comparison) if step[0] in {*shown, BASE, NEW}]


def _range(steps: list[tuple[str, float, float]]) -> tuple[float, float]:
    """Return where the axis begins and ends, without the part in which nothing changes."""
    ends = [end for _, start, end in steps] + [start for n, start, _ in steps if n != NEW]
    changes = [x for n, start, end in steps for x in ((end,) if n in (BASE, NEW) else (start, end))]
    low, high = min(changes, default=0.0), max([*ends, 1.0])
    if low < CROPPED_FROM * high or low == max(changes, default=0.0):
        return min(low, 0.0), high
    return max(low - CROP_ROOM * max(high - low, 0.02 * high), 0.0), high


def _color(row: WaterfallRow | None) -> str:
    return END_COLOR if row is None else row_color(row.row, significant=row.significant)


def _told(name: str, row: WaterfallRow | None, end: float) -> list[str]:
    if row is None:
        return [name, time_text(end), "per iteration"]
    meaning = REMAINDER_MEANING if name == REMAINDER else ROW_MEANINGS[Row(name)]
    before, after = time_text(row.base_ns), time_text(row.new_ns)
    noise = "" if row.significant else " · may be chance"
    return [
        name,
        f"{signed_text(row.change_ns)} ({before} to {after})",
        f"95 % interval {interval_text(row.low_ns, row.high_ns)}, "
        f"p {p_text(row.p_adjusted)}{noise}<br>{meaning}",
    ]


def samples_figure(comparison: Comparison) -> go.Figure:
    """Return every iteration that was measured, and the two sides as boxes beside them.

    What was left out as warm-up is marked: its durations take no part in any number.
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
    samples = [x for _, s, _ in sides for kept in s.samples_ns for x in kept]
    low, high = (min(samples), max(samples)) if samples else (0, 1)
    room = max(0.08 * (high - low), 0.01 * high)
    for name, side, color in sides:
        _add_warm_up(figure, name, side, color, low - 0.7 * room)
    longest = max(
        (
            r.warm_up + len(s)
            for _, x, _ in sides
            for r, s in zip(x.recordings, x.samples_ns, strict=False)
        ),
        default=1,
    )
    ticks = time_ticks(low - room, high + room, 5)
    figure.update_layout(
        height=SAMPLES_PX,
        margin={"l": 0, "r": 0, "t": 8, "b": 36},
        showlegend=True,
        legend={"orientation": "h", "y": 1.12, "x": 0},
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
            "range": [low - room, high + room],
            "tickvals": ticks,
            "ticktext": [time_text(t) for t in ticks],
            "fixedrange": True,
            "automargin": True,
        },
    )
    return figure


def _add_points(figure: go.Figure, name: str, side: SideSummary, color: str) -> None:
    several = len(side.samples_ns) > 1
    for number, kept in enumerate(side.samples_ns):
        recording = side.recordings[number]
        place, values = thinned(np.asarray(kept, np.int64))
        of = f" · {visible(recording.name, 30)} ({number + 1})" if several else ""
        figure.add_scatter(
            x=place + recording.warm_up + 1,
            y=values,
            mode="markers",
            name=plotly_escape(f"{name}{of}"),
            marker={"color": color, "symbol": MARKS[name], "size": 6, "opacity": 0.75},
            customdata=[time_text(v) for v in values.tolist()],
            hovertemplate="iteration %{x}: %{customdata}<extra></extra>",
        )


def _add_warm_up(
    figure: go.Figure, name: str, side: SideSummary, color: str, height_ns: float
) -> None:
    """Mark the iterations that were left out; how long they took is in no number here."""
    left_out = max((r.warm_up for r in side.recordings), default=0)
    if left_out:
        shown = np.arange(1, min(left_out, SHOWN_WARM_UP) + 1)
        figure.add_scatter(
            x=shown,
            y=np.full(len(shown), height_ns),
            mode="markers",
            name=f"{name}: warm-up, left out",
            marker={"color": color, "symbol": "x-thin", "size": 7, "line": {"width": 2}},
            hovertemplate="iteration %{x}: left out as warm-up<extra></extra>",
        )
        figure.data[-1].marker.line.color = color  # the thin cross is drawn by its line


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
