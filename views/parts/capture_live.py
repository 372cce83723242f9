"""The current numbers of a program that is being captured, and their last two minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
import streamlit as st

from analyzers.words import size_text
from collectors.telemetry.file import Latest, Series, TelemetryError, TelemetryFile
from views.shared.markdown import md_escape
from views.shared.units import visible

LAST_S = 120.0
POINTS = 120
HEIGHT_PX = 74
SHOWN_GPUS = 4
IN_A_ROW = 4
LINE = "#2D7CC4"
UNKNOWN = "n/a"


class Gauge(NamedTuple):
    """One number that is shown, and where its past stands."""

    key: str
    label: str
    value: str
    table: str
    column: str
    gpu: int = -1


def draw_telemetry(path: Path) -> None:
    """Show the numbers of the telemetry file at ``path``; nothing while there are none."""
    try:
        with TelemetryFile(path) as file:
            latest = file.latest()
            numbers = list(_gauges(latest))
            gauges = [(gauge, _series(file, gauge)) for gauge in numbers]
    except TelemetryError:
        st.caption("Waiting for the first sample …")
        return
    for first in range(0, len(gauges), IN_A_ROW):
        row = gauges[first : first + IN_A_ROW]
        for (gauge, series), column in zip(row, st.columns(IN_A_ROW), strict=False):
            with column:
                _draw_gauge(gauge, series)
    for gpu in latest.gpus[:SHOWN_GPUS]:
        if held := latest.throttled(gpu["gpu"]):
            st.warning(
                f"GPU {int(gpu['gpu'])}: clocks are throttled ({md_escape(', '.join(held))})"
            )
    for note in latest.notes:
        st.caption(md_escape(visible(note, 200)))


def _draw_gauge(gauge: Gauge, series: Series) -> None:
    st.metric(md_escape(gauge.label), md_escape(gauge.value))
    if len(series.seconds) > 1:
        st.plotly_chart(
            figure(series),
            key=f"live_{gauge.key}",
            config={"displayModeBar": False, "staticPlot": True},
        )


def figure(series: Series) -> go.Figure:
    """Return a small line of the mean, with the range of each stretch around it."""
    seconds = series.seconds.tolist()
    chart = go.Figure()
    chart.add_scatter(
        x=[*seconds, *reversed(seconds)],
        y=[*series.high.tolist(), *reversed(series.low.tolist())],
        mode="lines",
        fill="toself",
        fillcolor="rgba(45, 124, 196, 0.18)",
        line={"width": 0},
        hoverinfo="skip",
    )
    chart.add_scatter(x=seconds, y=series.mean.tolist(), mode="lines", line={"color": LINE})
    top = float(series.high.max()) or 1.0
    chart.update_layout(
        height=HEIGHT_PX,
        margin={"l": 0, "r": 0, "t": 2, "b": 2},
        showlegend=False,
        xaxis={"visible": False, "fixedrange": True},
        # From zero, or a steady value would look like a storm.
        yaxis={"visible": False, "fixedrange": True, "range": [0, top * 1.1]},
    )
    return chart


def _series(file: TelemetryFile, gauge: Gauge) -> Series:
    return file.series(gauge.table, gauge.column, gpu=gauge.gpu, last_s=LAST_S, points=POINTS)


def _gauges(latest: Latest) -> Iterator[Gauge]:
    """Yield what is worth a look, the GPUs first."""
    several = len(latest.gpus) > 1
    for gpu in latest.gpus[:SHOWN_GPUS]:
        name = f"GPU {int(gpu['gpu'])} " if several else "GPU "
        for column, label, value in (
            ("utilization_pct", "in use", _percent(gpu.get("utilization_pct"))),
            ("memory_used_bytes", "memory", _used_of(gpu, "memory_used_bytes", "memory_bytes")),
            ("power_w", "power", _plain(gpu.get("power_w"), "W")),
            ("sm_clock_mhz", "SM clock", _plain(gpu.get("sm_clock_mhz"), "MHz")),
        ):
            number = int(gpu["gpu"])
            yield Gauge(f"{number}_{column}", name + label, value, "gpu_samples", column, number)
    process = latest.process
    if process:
        cpu, memory = _percent(process.get("cpu_pct")), _size(process.get("rss_bytes"))
        yield Gauge("cpu", "Program CPU", cpu, "process_samples", "cpu_pct")
        yield Gauge("rss", "Program memory", memory, "process_samples", "rss_bytes")
        threads = _plain(process.get("threads"), "")
        yield Gauge("threads", "Threads", threads, "process_samples", "threads")
    host = _percent(latest.host.get("cpu_pct"))
    yield Gauge("host", "All cores", host, "host_samples", "cpu_pct")


def _percent(value: Any) -> str:
    return _plain(value, "%")


def _plain(value: Any, unit: str) -> str:
    return UNKNOWN if value is None else f"{float(value):,.0f} {unit}".strip()


def _size(value: Any) -> str:
    return UNKNOWN if value is None else size_text(int(value))


def _used_of(row: dict[str, Any], used: str, total: str) -> str:
    if row.get(used) is None or not row.get(total):
        return _size(row.get(used))
    return f"{_size(row[used])} of {_size(row[total])}"
