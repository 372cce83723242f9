"""Figures from a report and its tables; nothing here knows the page they appear on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analyzers.finding import Row
from analyzers.ledger.device import DeviceLedger
from analyzers.words import count_text, share_text, time_text
from collectors.schema import Array
from reports.palette import ROW_COLORS as ROW_COLORS
from reports.palette import ROW_MEANINGS as ROW_MEANINGS
from reports.palette import ink_on as ink_on
from views.shared.devices import device_labels
from views.shared.units import plotly_escape, visible

# Of the timeline, by number as ``timeline.colors.COLORS`` counts: the rows, so that a call
# that waits has the colour of waiting, then what is no cause.
PALETTE = (
    *(ROW_COLORS[row] for row in Row),
    *("#4E5C6A", "#8A92DE", "#792FA6", "#66908A", "#A5ADBD", "#616BA9"),
)

# In the order of design.md's ledger: what runs first, then what the device waits for.
ROW_ORDER = tuple(ROW_COLORS)

BAR_HEIGHT_PX, LINE_HEIGHT_PX = 40, 24  # of one device alone, of each of several
FEWEST_BINS, MOST_BINS = 12, 60
LOG_FROM_RATIO = 8  # longest to shortest; below, equal bins show the shape better
MIN_COUNT_FOR_TICKS = 5  # fewer would get ticks between whole numbers
HISTOGRAM_HEIGHT_PX = 210


def ledger_figure(
    devices: Sequence[DeviceLedger], names: Mapping[int, str] | None = None
) -> go.Figure:
    """Return one stacked bar a device; the parts of a bar sum to its window.

    It has no axis: the parts stand in the order of the ledger, not of time.

    Args:
        devices: From top to bottom.
        names: What each is called, by its key; by default its number and product.
    """
    names = names or device_labels(devices)
    labels = [names[d.key] for d in devices]
    figure = go.Figure()
    for row in _shown_rows(devices):
        row_ns = [d.rows.get(row, 0) for d in devices]
        shares = [ns / max(d.duration_ns, 1) for ns, d in zip(row_ns, devices, strict=True)]
        figure.add_bar(
            y=[plotly_escape(label) for label in labels],
            x=row_ns,
            orientation="h",
            name=row.value,
            marker={"color": ROW_COLORS[row], "line": {"width": 0}},
            text=[f"{row.value} {share_text(s, 1, exact=True)}" if s else "" for s in shares],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": ink_on(ROW_COLORS[row]), "size": 14},
            customdata=[
                [time_text(ns), share_text(s, 1, exact=True), ROW_MEANINGS[row]]
                for ns, s in zip(row_ns, shares, strict=True)
            ],
            hovertemplate=(
                f"<b>{row.value}</b> %{{customdata[0]}} · %{{customdata[1]}}"
                "<br>%{customdata[2]}<extra></extra>"
            ),
        )
    longest_ns = max((d.duration_ns for d in devices), default=0)
    height_px = BAR_HEIGHT_PX if len(devices) == 1 else LINE_HEIGHT_PX
    figure.update_layout(**bars_layout(len(devices), longest_ns, height_px))
    return figure


def bars_layout(bars: int, reach: float, height_px: int) -> dict[str, Any]:
    """Return the layout of stacked bars beneath each other, without axes.

    Args:
        bars: How many there are; one alone needs no label.
        reach: Where the longest ends.
        height_px: Of each.
    """
    return {
        "barmode": "stack",
        "height": height_px * bars + 8,
        "bargap": 0.14,
        "margin": {"l": 0, "r": 0, "t": 4, "b": 4},
        "uniformtext": {"mode": "hide", "minsize": 12},  # a narrow stretch has no room for its name
        "xaxis": {"range": [0, reach], "visible": False, "fixedrange": True},
        "yaxis": {
            "autorange": "reversed",
            "fixedrange": True,
            "showticklabels": bars > 1,
            "automargin": True,
        },
        "showlegend": False,
    }


def legend_entries(devices: Sequence[DeviceLedger]) -> list[tuple[str, str]]:
    """Return the colour of each row that occurs, and the row with its share of all devices."""
    total_ns = max(sum(d.duration_ns for d in devices), 1)
    return [
        (
            ROW_COLORS[row],
            f"{row.value} {share_text(_row_ns(devices, row), total_ns, exact=True)}",
        )
        for row in _shown_rows(devices)
    ]


def _row_ns(devices: Sequence[DeviceLedger], row: Row) -> int:
    return sum(d.rows.get(row, 0) for d in devices)


def _shown_rows(devices: Sequence[DeviceLedger]) -> list[Row]:
    return [row for row in ROW_ORDER if any(d.rows.get(row, 0) for d in devices)]


def duration_histogram(durations_ns: Array, name: str) -> go.Figure:
    """Return how often each duration occurred; the bins grow with the duration."""
    edges, is_log = _histogram_edges(durations_ns)
    counts, edges = np.histogram(np.maximum(durations_ns, 1), edges)
    centers = np.sqrt(edges[:-1] * edges[1:]) if is_log else (edges[:-1] + edges[1:]) / 2
    figure = go.Figure()
    figure.add_bar(
        x=centers,
        y=counts,
        width=np.diff(edges),
        marker={"color": ROW_COLORS[Row.KERNEL], "line": {"width": 0}},
        customdata=[
            [time_text(a), time_text(b), count_text(int(c), "launch")]
            for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)
        ],
        hovertemplate="%{customdata[0]} to %{customdata[1]}: %{customdata[2]}<extra></extra>",
        name=plotly_escape(visible(name, 60)),
    )
    ticks = (log_ticks if is_log else time_ticks)(edges[0], edges[-1])
    figure.update_layout(
        height=HISTOGRAM_HEIGHT_PX,
        margin={"l": 0, "r": 0, "t": 8, "b": 26},
        bargap=0.05,
        showlegend=False,
        xaxis={
            "type": "log" if is_log else "linear",
            "tickvals": ticks,
            "ticktext": [time_text(t, 4) for t in ticks],
            "showgrid": False,
            "fixedrange": True,
        },
        yaxis={
            "title": {"text": "launches"},
            "fixedrange": True,
            "automargin": True,
            "rangemode": "tozero",
            "tickformat": ",d",
            "dtick": 1 if counts.max() < MIN_COUNT_FOR_TICKS else None,
            "nticks": 5,
        },
    )
    return figure


def _histogram_edges(durations_ns: Array) -> tuple[Array, bool]:
    """Return the bins' edges, and whether they grow with the duration."""
    low, high = max(int(durations_ns.min()), 1), max(int(durations_ns.max()), 1)
    bins = int(np.clip(3 * np.sqrt(len(durations_ns)), FEWEST_BINS, MOST_BINS))
    if high - low < bins:  # whole nanoseconds: a bin each
        return np.arange(low, high + 2) - 0.5, False
    if high < LOG_FROM_RATIO * low:
        return np.linspace(low - 0.5, high + 0.5, bins + 1), False
    return np.geomspace(low - 0.5, high + 0.5, bins + 1), True


def time_ticks(start_ns: float, end_ns: float, about: int = 8) -> list[float]:
    """Return round moments between ``start_ns`` and ``end_ns``."""
    if end_ns <= start_ns:
        return []
    rough = (end_ns - start_ns) / about
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(float(f * power) for f in (1, 2, 5, 10) if f * power >= rough)
    first = np.ceil(start_ns / step) * step
    return [float(t) for t in np.arange(first, end_ns, step)]


def log_ticks(low: float, high: float, fewest: int = 3) -> list[float]:
    """Return round durations between ``low`` and ``high`` on a logarithmic axis."""
    powers = 10.0 ** np.arange(np.floor(np.log10(max(low, 0.5))), np.ceil(np.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        ticks = [float(p * f) for p in powers for f in factors if low <= p * f <= high]
        if len(ticks) >= fewest:
            return ticks
    return [float(t) for t in np.linspace(low, high, fewest)]
