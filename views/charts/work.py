"""Figures of the kernel time by class, operator and kernel; nothing here knows their page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyzers.words import count_text, name_text, share_text, time_text
from analyzers.work.account import TIMES_NS
from analyzers.work.classes import TITLES, WorkClass
from reports.busy_time import shapes_text
from reports.palette import (
    CLASS_COLORS,
    EFFICIENCY_STEPS,
    NOT_MODELLED_COLOR,
    NOT_MODELLED_WORDS,
    efficiency_color,
    ink_on,
)
from views.charts.ledger import LINE_HEIGHT_PX, bars_layout
from views.charts.rooflines import (
    CHART_HEIGHT_PX,
    MARGIN,
    ROOM_FOR_NAMES,
    add_label,
    add_line,
    frame,
    log_axis,
)
from views.shared.units import plotly_escape, rate_text, visible

MAX_OPERATORS, MAX_KERNELS = 12, 8  # tiles inside the one around them; the others are one
ROOT, OTHERS, NO_OPERATOR = "all", "others", "no operator"
LABEL_ROOM, HOVER_ROOM = 26, 70
SHORT_TITLES = {  # of tiles, which are narrow; what stands at the pointer is the whole title
    "layout": "Casts, copies",
    "gather": "Gathers",
    "sort": "Sorts, sampling",
    "graph": "Whole graphs",
    "other": "No known class",
}
MAX_POINTS = 300  # the others have next to no time
SMALLEST_PX, LARGEST_PX = 8.0, 40.0
BAR_HEIGHT_PX = 30
MIN_LEGEND_SHARE = 0.01  # of kernel time
PALE = 0.42  # opacity of what is below the roof
EFFICIENCY_LEGEND = [
    *((color, words) for _, color, words in EFFICIENCY_STEPS),
    (NOT_MODELLED_COLOR, NOT_MODELLED_WORDS),
]


def class_title(work_class: str) -> str:
    """Return what a class is called, to begin with."""
    title = TITLES[WorkClass(work_class)]
    return title[:1].upper() + title[1:]


# --- class, operator, kernel ---------------------------------------------------------------------


def icicle_figure(kernels: pd.DataFrame) -> go.Figure:
    """Return the kernel time as tiles: class, operator, kernel; as wide as their time.

    Args:
        kernels: ``class``, ``operator``, ``kernel`` and the sums of ``TIMES_NS``, one row a tile of
            the innermost kind; the id of each tile is what ``tile_of`` takes apart.
    """
    tiles = list(_tiles(kernels))
    colors = [
        efficiency_color(*(t[n] for n in ("busy_ns", "roof_ns", "not_modelled_ns"))) for t in tiles
    ]
    whole = int(kernels["busy_ns"].sum())
    figure = go.Figure(
        go.Icicle(
            ids=[t["id"] for t in tiles],
            parents=[t["parent"] for t in tiles],
            labels=[plotly_escape(visible(t["label"], LABEL_ROOM)) for t in tiles],
            values=[t["busy_ns"] for t in tiles],
            branchvalues="total",
            marker={"colors": colors, "line": {"width": 1, "color": "rgba(255,255,255,0.55)"}},
            textfont={"color": [ink_on(color) for color in colors], "size": 13},
            text=[share_text(t["busy_ns"], whole) for t in tiles],
            texttemplate="%{label} %{text}",
            textposition="middle left",
            customdata=[
                [plotly_escape(visible(t["name"], HOVER_ROOM)), _tile_words(t, whole)]
                for t in tiles
            ],
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
            tiling={"orientation": "h", "pad": 1},
            leaf={"opacity": 1},  # else paler than what the legend says
            pathbar={"visible": False},
            sort=True,
        )
    )
    figure.update_layout(
        height=CHART_HEIGHT_PX,
        margin={"l": 0, "r": 0, "t": 4, "b": 4},
        uniformtext={"mode": "hide", "minsize": 11},
        hoverlabel={"align": "left"},
    )
    return figure


def tile_of(tile_id: str) -> tuple[str, str | None, str | None]:
    """Return class, operator and kernel of a tile; None for what it is not about."""
    parts = tile_id.split("\0")
    operator = parts[1] if len(parts) > 1 else None
    kernel = parts[2] if len(parts) > 2 else None
    return parts[0], operator, kernel


def _tiles(kernels: pd.DataFrame) -> Iterator[dict[str, Any]]:
    # Without one of ours around all, there would be an empty one, and no way back to the whole.
    yield _tile(ROOT, "", "Kernel time", "Kernel time", kernels)
    has_operators = bool((kernels["operator"] != "").any())
    for work_class, of_class in _largest(kernels, "class"):
        title = class_title(work_class)
        yield _tile(work_class, ROOT, SHORT_TITLES.get(work_class, title), title, of_class)
        operators = _largest(of_class, "operator")
        for operator, rows in _few(operators, MAX_OPERATORS):
            outer = work_class
            if has_operators:
                outer = f"{work_class}\0{operator}"
                name = operator or NO_OPERATOR
                yield _tile(outer, work_class, _plain(name), name, rows)
            for kernel, own in _few(_largest(rows, "kernel"), MAX_KERNELS):
                tile_id = f"{work_class}\0{operator}\0{kernel}"
                yield _tile(tile_id, outer, name_text(kernel), name_text(kernel), own)


def _plain(operator: str) -> str:
    return operator.removeprefix("aten::")


def _largest(table: pd.DataFrame, column: str) -> list[tuple[str, pd.DataFrame]]:
    parts = [(str(name), part) for name, part in table.groupby(column, sort=False)]
    return sorted(parts, key=lambda pair: -int(pair[1]["busy_ns"].sum()))


def _few(parts: list[tuple[str, pd.DataFrame]], most: int) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from parts[:most]
    if len(parts) > most:
        yield OTHERS, pd.concat([part for _, part in parts[most:]])


def _tile(tile_id: str, parent: str, label: str, name: str, rows: pd.DataFrame) -> dict[str, Any]:
    sums = {column: int(rows[column].sum()) for column in (*TIMES_NS, "launches")}
    return {"id": tile_id, "parent": parent, "label": label, "name": name, **sums}


def _tile_words(tile: Mapping[str, Any], whole: int) -> str:
    launches = count_text(tile["launches"], "launch")
    return (
        f"{time_text(tile['busy_ns'])}, {share_text(tile['busy_ns'], whole)} of the kernel time, "
        f"{launches}<br>{efficiency_words(tile)}"
    )


def efficiency_words(sums: Mapping[str, Any]) -> str:
    """Say how much of a time is at the roof, and how much has no model."""
    busy, unknown = int(sums["busy_ns"]), int(sums["not_modelled_ns"])
    if unknown == busy:
        return "no model of its work, or no shapes"
    words = (
        f"{share_text(int(sums['roof_ns']), busy - unknown)} of its roof, "
        f"{time_text(int(sums['below_roof_ns']))} below it"
    )
    return words + (f"; {time_text(unknown)} not modelled" if unknown else "")


# --- roofline of operators -----------------------------------------------------------------------


def placed_operators(work: pd.DataFrame) -> pd.DataFrame:
    """Return the operators with a place on the roofline: both operations and bytes are known."""
    modelled = (work["roof_ns"] + work["below_roof_ns"]).to_numpy() > 0
    with_work = (work["flop"].to_numpy() > 0) & (work["bytes"].to_numpy() > 0)
    return work[modelled & with_work].head(MAX_POINTS)


def operator_roofline(
    work: pd.DataFrame, roofs: Mapping[str, Any], places: Sequence[int]
) -> go.Figure:
    """Return the roofline of operators, from the work that their shapes tell.

    Args:
        work: As ``placed_operators``.
        roofs: One of ``Report.work_roofs``.
        places: What a click on each point gives: the place of the row in a longer table.
    """
    seconds = work["busy_ns"].to_numpy() * 1e-9
    intensity = work["flop"].to_numpy() / work["bytes"].to_numpy()
    achieved = work["flop"].to_numpy() / seconds
    memory = float(roofs["memory_bytes_per_s"])
    peaks = _peaks(roofs["peaks"])
    top_roof = max(peaks.values(), default=float(achieved.max()))
    edges = [*intensity.tolist(), *(peak / memory for peak in peaks.values())]
    span = min(edges) / MARGIN, max(edges) * ROOM_FOR_NAMES
    bottom = float(achieved.min()) / MARGIN
    figure = go.Figure()
    begin, end = max(span[0], bottom / memory), min(span[1], top_roof / memory)
    if end > begin:
        add_line(figure, (begin, end), (begin * memory, end * memory), strong=True)
        third = begin ** (2 / 3) * end ** (1 / 3)
        words = f"memory {rate_text(memory, 'B/s')}"
        add_label(figure, words, (third, third * memory), ("right", "bottom"))
    for words, peak in peaks.items():
        add_line(figure, (max(peak / memory, span[0]), span[1]), (peak, peak), strong=True)
        label = f"{words} {rate_text(peak, 'FLOP/s')}"
        add_label(figure, label, (span[1], peak), ("right", "bottom"))
    figure.add_trace(_points(work, intensity, achieved, places))
    log_axis(figure.layout.xaxis, span, "FLOP per byte that must move")
    top = max(top_roof, float(achieved.max())) * MARGIN
    log_axis(figure.layout.yaxis, (bottom, top), "FLOP/s")
    frame(figure, "")
    figure.update_layout(showlegend=False)
    return figure


def _peaks(peaks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the roofs for operations by what they are called; equal ones are one line."""
    only_on_units: dict[float, dict[str, bool]] = {}
    for peak in peaks:
        types = only_on_units.setdefault(float(peak["flop_per_s"]), {})
        types[peak["type"]] = types.get(peak["type"], True) and peak["on_matrix_units"]
    return {
        ", ".join(f"{t} matrix units" if units else t for t, units in types.items()): per_s
        for per_s, types in only_on_units.items()
    }


def _points(work: pd.DataFrame, x: Any, y: Any, places: Sequence[int]) -> go.Scatter:
    share = work["busy_ns"].to_numpy() / max(int(work["busy_ns"].sum()), 1)
    rows = work.to_dict("records")
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={
            "size": np.clip(LARGEST_PX * np.sqrt(share), SMALLEST_PX, LARGEST_PX),
            "color": [
                efficiency_color(r["busy_ns"], r["roof_ns"], r["not_modelled_ns"]) for r in rows
            ],
            "opacity": 0.9,
            "line": {"width": 1, "color": "rgba(255,255,255,0.75)"},
        },
        customdata=[
            [int(place), plotly_escape(visible(r["operator"], HOVER_ROOM)), _point_words(r)]
            for place, r in zip(places, rows, strict=True)
        ],
        hovertemplate="<b>%{customdata[1]}</b><br>%{customdata[2]}<extra></extra>",
    )


def _point_words(row: Mapping[Any, Any]) -> str:
    seconds = row["busy_ns"] * 1e-9
    rates = (
        f"{rate_text(row['flop'] / seconds, 'FLOP/s')}, {rate_text(row['bytes'] / seconds, 'B/s')}"
    )
    launches = count_text(int(row["launches"]), "launch")
    return "<br>".join(
        plotly_escape(line)
        for line in (
            visible(shapes_text(row["shapes"]), HOVER_ROOM),
            f"{launches}, {time_text(row['busy_ns'])}",
            rates,
            efficiency_words(row),
        )
        if line
    )


# --- the second bar of the overview --------------------------------------------------------------


def class_legend(classes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the colour of each class with a share worth a name, and the class with that share.

    Args:
        classes: One row a class, as ``reports.busy_time.summed_classes``.
    """
    whole = sum(row["busy_ns"] for row in classes)
    return [
        (CLASS_COLORS[row["class"]], f"{row['title']} {share_text(row['busy_ns'], whole)}")
        for row in classes
        if row["busy_ns"] >= MIN_LEGEND_SHARE * whole
    ]


def classes_figure(classes: Mapping[str, Sequence[Mapping[str, Any]]]) -> go.Figure:
    """Return one stacked bar a device: classes of its kernel time, split by the roof.

    Args:
        classes: Rows of ``Report.classes`` for each device, by its name.
    """
    figure = go.Figure()
    labels = [plotly_escape(label) for label in classes]
    order: dict[str, int] = {}
    for rows in classes.values():
        for row in rows:
            order[row["class"]] = order.get(row["class"], 0) + row["busy_ns"]
    totals = [max(sum(row["busy_ns"] for row in rows), 1) for rows in classes.values()]
    for name in sorted(order, key=lambda one: -order[one]):
        by_device = [next((r for r in rows if r["class"] == name), {}) for rows in classes.values()]
        for part, words in ROOF_PARTS.items():
            times = [int(row.get(part, 0)) for row in by_device]
            if any(times):
                figure.add_trace(_class_part(name, (part, words), by_device, (labels, totals)))
    height_px = BAR_HEIGHT_PX if len(classes) == 1 else LINE_HEIGHT_PX
    figure.update_layout(**bars_layout(len(classes), 1, height_px))
    return figure


ROOF_PARTS = {
    "roof_ns": "at the roof",
    "below_roof_ns": "below the roof",
    "not_modelled_ns": NOT_MODELLED_WORDS,
}
_PATTERNS = {"roof_ns": "", "below_roof_ns": "", "not_modelled_ns": "/"}


def _class_part(
    name: str,
    part: tuple[str, str],
    by_device: Sequence[Mapping[str, Any]],
    axis: tuple[list[str], list[int]],
) -> go.Bar:
    (column, words), (labels, totals) = part, axis
    color = CLASS_COLORS[name]
    is_solid = column == "roof_ns"
    texts, hover = [], []
    for row, total in zip(by_device, totals, strict=True):
        busy = int(row.get("busy_ns", 0))
        largest = max(ROOF_PARTS, key=lambda one: row.get(one, 0))
        title = class_title(name)
        # Pale and hatched parts let the page shine through: no ink is read in both themes, and the
        # legend above says the same.
        is_labelled = busy and largest == column and is_solid
        texts.append(f"{title} {share_text(busy, total)}" if is_labelled else "")
        time = int(row.get(column, 0))
        hover.append(
            [time_text(time), share_text(time, total), efficiency_words(row) if busy else ""]
        )
    return go.Bar(
        y=labels,
        x=[int(row.get(column, 0)) / total for row, total in zip(by_device, totals, strict=True)],
        orientation="h",
        name=f"{name} {words}",
        marker={
            "color": color if is_solid else _pale(color),
            "line": {"width": 0},
            "pattern": {"shape": _PATTERNS[column], "fgcolor": color, "size": 6, "solidity": 0.25},
        },
        text=texts,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"size": 13, "color": ink_on(color)},
        customdata=hover,
        hovertemplate=(
            f"<b>{class_title(name)}</b>, {words}: %{{customdata[0]}} · %{{customdata[1]}}"
            "<br>in all %{customdata[2]}<extra></extra>"
        ),
    )


def _pale(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{PALE})"
