"""Figures about kernels; nothing here knows the page they appear on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyzers.counters.roofline import MEASURED
from analyzers.finding import Cause, Row
from analyzers.kernels.counted import CAUSE_OF_PART, WORDS_OF_PART
from analyzers.losses.parallelism import WORDS as UNFILLED
from analyzers.losses.parallelism import Parallelism
from analyzers.metric_names import Part
from analyzers.words import name_text, share_text, time_text
from collectors.schema import Array
from views.charts.ledger import PALETTE, ROW_COLORS
from views.charts.rooflines import (
    FAINT,
    MARGIN,
    ROOM_FOR_NAMES,
    add_label,
    add_line,
    frame,
    log_axis,
)
from views.shared.units import plotly_escape, rate_text, visible

MAX_POINTS = 300  # the others have next to no time, and would only hide those that have
SMALLEST_PX, LARGEST_PX = 9.0, 44.0
NAMED_POINTS = 4
NAME_ROOM = 24
LINE = 0.07  # of the chart's height that a name takes

LEVEL_WORDS = {"dram": "device memory", "l2": "L2", "l1": "L1"}
PRECISION_WORDS = {
    "fp16": "half precision",
    "fp32": "single precision",
    "fp64": "double precision",
    "tensor": "tensor cores",
}

CAUSE_COLORS: dict[Cause | None, str] = {
    Cause.DIVERGENCE: ROW_COLORS[Row.DIVERGENCE],
    Cause.BANDWIDTH: ROW_COLORS[Row.BANDWIDTH],
    Cause.PARALLELISM: PALETTE[len(Row) + 2],
    Cause.COMPUTE: PALETTE[len(Row)],
    None: ROW_COLORS[Row.KERNEL],
}
CAUSE_SYMBOLS: dict[Cause | None, str] = {
    Cause.DIVERGENCE: "diamond",
    Cause.BANDWIDTH: "square",
    Cause.PARALLELISM: "triangle-up",
    Cause.COMPUTE: "pentagon",
    None: "circle",
}
CAUSE_WORDS: dict[Cause | None, str] = {
    Cause.DIVERGENCE: "divergence",
    Cause.BANDWIDTH: "bandwidth",
    Cause.PARALLELISM: "too little parallel work",
    Cause.COMPUTE: "slow arithmetic",
    None: "no loss",
}


PART_OF_WORDS = {
    UNFILLED[Parallelism.SMALL_GRID]: int(Part.SMALL_GRID),
    UNFILLED[Parallelism.TAIL_WAVE]: int(Part.TAIL),
    UNFILLED[Parallelism.LOW_OCCUPANCY]: int(Part.OCCUPANCY),
}


def cause_of(part: int) -> Cause | None:
    """Return the cause of a kernel's largest loss; None when it has none worth a colour."""
    return CAUSE_OF_PART[Part(part)] if part >= 0 else None


def on_roofline(counted: pd.DataFrame, level: str) -> pd.DataFrame:
    """Return the kernels that have a place on the chart, the ones with most time first."""
    work = counted["flop_per_s"].to_numpy() > 0
    placed: pd.DataFrame = counted[work & (counted[f"{level}_flop_per_byte"].to_numpy() > 0)]
    return placed.head(MAX_POINTS)


@dataclass(frozen=True)
class _Roofs:
    """The roofs of one chart: bytes or operations in a second, and which were not measured."""

    memory: Mapping[str, float]
    compute: Mapping[str, float]
    stated: frozenset[str]

    @property
    def top(self) -> float:
        """The highest speed of arithmetic."""
        return max(self.compute.values(), default=np.inf)

    def words(self, of: str) -> str:
        """Return name and height of a roof."""
        if of in self.memory:
            words = f"{LEVEL_WORDS[of]} {rate_text(self.memory[of], 'B/s')}"
        else:
            words = f"{PRECISION_WORDS[of]} {rate_text(self.compute[of], 'FLOP/s')}"
        return f"{words} (not measured)" if of in self.stated else words


def roofline_figure(
    counted: pd.DataFrame, roofs: Sequence[Mapping[str, object]], level: str
) -> go.Figure:
    """Return the roofline of one level of memory.

    Args:
        counted: As ``analyzers.kernels.counted``; those without a place are left out.
        roofs: ``of``, ``per_s`` and ``source`` of each roof.
        level: Whose bytes count: ``dram``, ``l2`` or ``l1``.
    """
    points = on_roofline(counted, level)
    speed = {str(r["of"]): float(str(r["per_s"])) for r in roofs}
    chart_roofs = _Roofs(
        {m: speed[m] for m in LEVEL_WORDS if m in speed},
        {p: speed[p] for p in _precisions(points) if p in speed},
        frozenset(str(r["of"]) for r in roofs if r["source"] != MEASURED),
    )
    intensity, flop_per_s = (points[c].to_numpy() for c in (f"{level}_flop_per_byte", "flop_per_s"))
    span = _span(intensity, chart_roofs, level)
    bottom = float(flop_per_s.min()) / MARGIN
    top = max([*chart_roofs.compute.values(), float(flop_per_s.max())]) * MARGIN
    figure = go.Figure()
    _add_roofs(figure, span, chart_roofs, level, bottom)
    for trace in _by_cause(points, intensity, flop_per_s, _roofline_words(points, level, speed)):
        figure.add_trace(trace)
    log_axis(figure.layout.xaxis, span, f"FLOP per byte of {LEVEL_WORDS[level]}")
    log_axis(figure.layout.yaxis, (bottom, top), "FLOP/s")
    frame(figure, "loses most to  ")
    return figure


def _precisions(points: pd.DataFrame) -> list[str]:
    """Return the precisions that kernels used; single precision if none can be told."""
    used = [p for p in PRECISION_WORDS if (points[f"{p}_flop_per_s"].to_numpy() > 0).any()]
    return used or ["fp32"]


def _span(intensity: Array, roofs: _Roofs, level: str) -> tuple[float, float]:
    ridges = [c / roofs.memory[level] for c in roofs.compute.values() if level in roofs.memory]
    edges = [*intensity.tolist(), *ridges]
    return min(edges) / MARGIN, max(edges) * ROOM_FOR_NAMES


def _add_roofs(
    figure: go.Figure, span: tuple[float, float], roofs: _Roofs, level: str, bottom: float
) -> None:
    """Draw the roofs and their names; those of other memories only faintly."""
    low, high = span
    for of, per_s in roofs.memory.items():
        begin, end = max(low, bottom / per_s), min(high, roofs.top / per_s)
        if end <= begin:
            continue
        add_line(figure, (begin, end), (begin * per_s, end * per_s), strong=of == level)
        third = begin ** (2 / 3) * end ** (1 / 3)
        if of == level:
            add_label(figure, roofs.words(of), (third, third * per_s), ("left", "top"))
        else:
            add_label(figure, roofs.words(of), (end, end * per_s), ("right", "bottom"))
    for of, per_s in roofs.compute.items():
        begin = max(per_s / roofs.memory[level], low) if level in roofs.memory else low
        add_line(figure, (begin, high), (per_s, per_s), strong=True)
        add_label(figure, roofs.words(of), (high, per_s), ("right", "bottom"))


def _roofline_words(
    points: pd.DataFrame, level: str, speed: Mapping[str, float]
) -> list[list[str]]:
    """Return what the hover says of each kernel, after its name."""
    hover = []
    for _, kernel in points.iterrows():
        achieved = float(kernel["flop_per_s"])
        moved = float(kernel[f"{level}_bytes_per_s"])
        lines = [f"{rate_text(achieved, 'FLOP/s')} over {rate_text(moved, 'B/s')}"]
        for precision, words in PRECISION_WORDS.items():
            rate = float(kernel[f"{precision}_flop_per_s"])
            if rate > 0 and precision in speed:
                lines.append(f"{share_text(rate, speed[precision])} of the {words} roof")
        if level in speed:
            lines.append(f"{share_text(moved, speed[level])} of the {LEVEL_WORDS[level]} roof")
        if kernel["tensor_uncounted"]:
            lines.append("tensor cores were also used; their work was not counted")
        hover.append(lines)
    return hover


def _by_cause(
    kernels: pd.DataFrame, x: Array, y: Array, lines_by_kernel: list[list[str]]
) -> Iterator[go.Scatter]:
    causes = [cause_of(int(part)) for part in kernels["part"]]
    share = kernels["share"].to_numpy()
    size = np.clip(LARGEST_PX * np.sqrt(share), SMALLEST_PX, LARGEST_PX)
    names = [name_text(str(name)) for name in kernels["name"]]
    hover = [
        [plotly_escape(visible(name, 70)), "<br>".join([_loss_words(kernel), *lines])]
        for name, lines, (_, kernel) in zip(names, lines_by_kernel, kernels.iterrows(), strict=True)
    ]
    for cause, color in CAUSE_COLORS.items():
        places = [n for n, kernel_cause in enumerate(causes) if kernel_cause is cause]
        if not places:
            continue
        yield go.Scatter(
            x=x[places],
            y=y[places],
            mode="markers",
            name=CAUSE_WORDS[cause],
            marker={
                "size": size[places],
                "color": color,
                "symbol": CAUSE_SYMBOLS[cause],
                "opacity": 0.9,
                "line": {"width": 1, "color": "rgba(255,255,255,0.75)"},
            },
            customdata=[[str(kernels["name"].iloc[n]), *hover[n]] for n in places],
            hovertemplate="<b>%{customdata[1]}</b><br>%{customdata[2]}<extra></extra>",
        )


def _loss_words(kernel: pd.Series) -> str:
    text = f"{share_text(float(kernel['share']), 1)} of the time"
    if kernel["part"] < 0:
        return text
    why = WORDS_OF_PART[Part(int(kernel["part"]))]
    return f"{text}; up to {time_text(int(kernel['lost_ns']))} lost, mostly to {why}"


def lost_by_configuration(kernels: pd.DataFrame) -> pd.DataFrame:
    """Return what ``lost_figure`` needs, from launch configurations alone."""
    lost = (kernels["unfilled_share"] * kernels["total_ns"]).astype(np.int64)
    table = pd.DataFrame(
        {
            "name": kernels["name"],
            "share": kernels["share"],
            "ns": kernels["total_ns"],
            "lost_ns": lost,
            "part": [PART_OF_WORDS.get(why, -1) for why in kernels["unfilled_why"]],
        }
    )
    return table.sort_values("ns", ascending=False, kind="stable", ignore_index=True)


def lost_figure(kernels: pd.DataFrame) -> go.Figure:
    """Return each kernel's share of time against what it loses.

    Args:
        kernels: ``name``, ``share``, ``ns``, ``lost_ns`` and ``part``: the place in ``Part`` of the
            largest loss, -1 for none.
    """
    points = kernels.head(MAX_POINTS)
    share, lost_ms = points["share"].to_numpy() * 100, points["lost_ns"].to_numpy() / 1e6
    total_ms = float(kernels["ns"].sum()) / 1e6
    figure = go.Figure()
    end = float(share.max()) * 1.12
    figure.add_scatter(
        x=[0, end],
        y=[0, end / 100 * total_ms],
        mode="lines",
        line={"color": FAINT, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    for trace in _by_cause(points, share, lost_ms, [[] for _ in range(len(points))]):
        figure.add_trace(trace)
    highest = max(float(lost_ms.max()) * 1.2, total_ms * 0.02)
    named: list[float] = []
    for n in np.argsort(-lost_ms, kind="stable")[:NAMED_POINTS]:
        if lost_ms[n] > 0 and all(abs(lost_ms[n] - y) > LINE * highest for y in named):
            named.append(float(lost_ms[n]))
            figure.add_annotation(
                x=share[n],
                y=lost_ms[n],
                text=plotly_escape(_short(str(points["name"].iloc[n]))),
                showarrow=False,
                xanchor="right" if share[n] > end / 2 else "left",
                xshift=-16 if share[n] > end / 2 else 16,
                font={"size": 12},
            )
    figure.update_xaxes(
        title={"text": "share of kernel time (%)"}, range=[-end * 0.03, end], showgrid=False
    )
    figure.update_yaxes(
        title={"text": "could be won back (ms)"}, range=[-highest * 0.06, highest], nticks=6
    )
    frame(figure, "loses most to  ")
    return figure


def _short(name: str) -> str:
    words = name_text(name)
    plain = words.partition("<")[0].partition("(")[0] or words
    return visible(plain, NAME_ROOM)
