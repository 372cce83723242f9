"""What rooflines are drawn of, whether their points were counted or come from shapes."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from views.charts.ledger import log_ticks
from views.shared.units import rate_text

CHART_HEIGHT_PX = 380
GREY = "rgba(128,136,146,0.95)"  # of roofs; reads on a light and on a dark page
FAINT = "rgba(128,136,146,0.55)"
MARGIN = 3.0  # factor around the points, so that roofs show beside them
ROOM_FOR_NAMES = 30.0  # the same to the right, where the names of roofs stand


def add_label(
    figure: go.Figure, words: str, at: tuple[float, float], anchor: tuple[str, str]
) -> None:
    """Write words at a point of a chart whose axes are logarithmic."""
    figure.add_annotation(
        x=np.log10(at[0]),
        y=np.log10(at[1]),
        text=words,
        showarrow=False,
        xanchor=anchor[0],
        yanchor=anchor[1],
        font={"size": 12, "color": GREY},
    )


def add_line(
    figure: go.Figure, x: tuple[float, float], y: tuple[float, float], *, strong: bool
) -> None:
    """Draw a roof."""
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": GREY if strong else FAINT, "width": 2 if strong else 1, "dash": "solid"},
        hoverinfo="skip",
        showlegend=False,
    )


def log_axis(axis: go.layout.XAxis, span: tuple[float, float], title: str) -> None:
    """Make an axis logarithmic, over this span, with ticks that have a decimal prefix."""
    ticks = log_ticks(*span)
    axis.update(
        type="log",
        range=np.log10(span).tolist(),
        title={"text": title},
        tickvals=ticks,
        ticktext=[rate_text(t, "") for t in ticks],
        zeroline=False,
    )


def frame(figure: go.Figure, legend: str) -> None:
    """Give a chart of points its size and its legend, begun by these words."""
    figure.update_layout(
        height=CHART_HEIGHT_PX,
        margin={"l": 0, "r": 4, "t": 8, "b": 0},
        legend={
            "orientation": "h",
            "y": -0.2,
            "x": 0,
            "itemsizing": "constant",
            "title": {"text": legend, "side": "left"},
        },
        hoverlabel={"align": "left"},
        clickmode="event+select",
        dragmode=False,
    )
    figure.update_xaxes(fixedrange=True, automargin=True)
    figure.update_yaxes(fixedrange=True, automargin=True)
