"""Which kernels take the time, how long they run, and what holds each back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.words import count_text
from collectors.trace import Array
from views._charts import duration_histogram
from views._session import Session, current, digest
from views._units import NOT_RECORDED_TEXT, csv_text, format_ns, ns_to_us, visible

TABLE_HEIGHT_PX = 388
ROWS_THAT_FIT = 10
SHOWN_KERNELS = 5_000  # a longer table helps nobody; filter it

COLUMNS = {
    "kernel": st.column_config.TextColumn("kernel", width="large"),
    "share": st.column_config.ProgressColumn(
        "share of kernel time", format="%.1f %%", min_value=0, max_value=100, width="small"
    ),
    "count": st.column_config.NumberColumn("launches", format="localized", width="small"),
    "total": st.column_config.NumberColumn("total (ms)", format="%.3f", width="small"),
    "min": st.column_config.NumberColumn("min (µs)", format="%.1f", width="small"),
    "median": st.column_config.NumberColumn("median (µs)", format="%.1f", width="small"),
    "max": st.column_config.NumberColumn("max (µs)", format="%.1f", width="small"),
    "queue": st.column_config.NumberColumn(
        "queue (µs)",
        format="%.1f",
        width="small",
        help="Median time from the launch call's return to the kernel's begin. Long is good "
        "for throughput: the device is behind, not the host.",
    ),
    "occupancy": st.column_config.NumberColumn(
        "occupancy",
        format="%.0f %%",
        width="small",
        help="Theoretical: what registers, shared memory and block size allow.",
    ),
    "limiter": st.column_config.TextColumn("limited by", width="small"),
}


def page() -> None:
    """Draw the page."""
    session = current()
    if session is None:
        return
    kernels = session.kernels()
    if not len(kernels):
        _no_kernels(session)
        return
    text = st.text_input(
        "Filter", placeholder="Filter by name", key="kernel_filter", label_visibility="collapsed"
    )
    shown = matching(kernels, text or "").head(SHOWN_KERNELS)
    if not len(shown):
        st.text(f"No kernel's name contains “{visible(text or '', 80)}”.")
        return
    row = _table(shown, session)
    _kernel(session, shown.iloc[row])


def _no_kernels(session: Session) -> None:
    st.header("No kernels", anchor=False)
    if session.trace.has("kernels") or session.trace.count("graph_launches"):
        st.write("CUDA was traced, but no single kernel was recorded. For CUDA graphs, record with:")
        st.code("nsys profile -t cuda,nvtx --cuda-graph-trace=node your_program", language=None)
    else:
        st.write("CUDA was not traced. Record with:")
        st.code("nsys profile -t cuda,nvtx,osrt -o report your_program", language=None)


def matching(kernels: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return the kernels whose name contains ``text``, most time first."""
    ordered = kernels.sort_values("total_ns", ascending=False, kind="stable", ignore_index=True)
    if not text:
        return ordered
    hit = ordered["name"].str.contains(text, case=False, regex=False)
    return ordered[hit.to_numpy()].reset_index(drop=True)


def table(kernels: pd.DataFrame) -> pd.DataFrame:
    """Return ``kernels`` in the units of the page; what is not recorded is empty."""
    return pd.DataFrame(
        {
            "kernel": [visible(n) for n in kernels["short_name"]],
            "share": kernels["share"].to_numpy() * 100,
            "count": kernels["count"].to_numpy(),
            "total": kernels["total_ns"].to_numpy() / 1e6,
            "min": ns_to_us(kernels["min_ns"].to_numpy()),
            "median": ns_to_us(kernels["median_ns"].to_numpy()),
            "max": ns_to_us(kernels["max_ns"].to_numpy()),
            "queue": _known(ns_to_us(kernels["queue_median_ns"].to_numpy())),
            "occupancy": _known(kernels["occupancy_pct"].to_numpy(dtype=float)),
            "limiter": kernels["limiter"].to_numpy(),
        }
    )


def _known(values: Array) -> Array:
    result: Array = np.where(values >= 0, values, np.nan)
    return result


def _table(kernels: pd.DataFrame, session: Session) -> int:
    """Draw the table and return the row that is picked; the first unless another was."""
    shown = table(kernels)
    event = st.dataframe(
        shown,
        hide_index=True,
        column_config=COLUMNS,
        key="kernel_table",
        on_select="rerun",
        selection_mode="single-row",
        height=TABLE_HEIGHT_PX if len(shown) > ROWS_THAT_FIT else "content",
        alt="Kernels by total time",
    )
    rows = event["selection"]["rows"]
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.caption(
            f"{count_text(len(kernels), 'kernel')} of {session.report.window.label}. "
            "Click a heading to sort, the box before a row to pick it."
        )
        st.download_button(
            "Download CSV", lambda: csv(kernels), "kernels.csv", "text/csv", key="kernel_csv"
        )
    return int(rows[0]) if rows and rows[0] < len(kernels) else 0


def csv(kernels: pd.DataFrame) -> bytes:
    """Return ``kernels`` as CSV with full names; no cell starts a formula in a spreadsheet."""
    safe = kernels.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = [csv_text(str(v)) for v in safe[column]]
    return safe.to_csv(index=False).encode("utf-8", "replace")


def _kernel(session: Session, kernel: pd.Series) -> None:
    name = str(kernel["name"])
    durations = _durations(session, name, int(kernel.get("device", -1)))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**How long each launch ran**")
        if len(durations):
            st.plotly_chart(
                duration_histogram(durations, name),
                key="kernel_histogram",
                config={"displayModeBar": False},
                alt=f"{len(durations)} durations, median {format_ns(float(np.median(durations)))}",
            )
    with right:
        st.markdown("**Picked kernel**")
        st.code(visible(name, 600), language=None, wrap_lines=True)
        st.caption(_shape(kernel))
        st.page_link(
            "timeline.py",
            label="Highlight on the timeline",
            query_params={"trace": session.trace.id, "kernel": digest(name)}
            | ({"window": session.window} if session.window else {}),
        )


def _shape(kernel: pd.Series) -> str:
    def known(column: str, unit: str) -> str:
        value = int(kernel.get(column, -1))
        return f"{unit}: {value:,}" if value >= 0 else f"{unit}: {NOT_RECORDED_TEXT}"

    parts = (
        known("grid_blocks", "blocks"),
        known("block_threads", "threads a block"),
        known("registers", "registers a thread"),
    )
    return " · ".join(parts)


def _durations(session: Session, name: str, device: int) -> Array:
    launches = session.launches()
    ids = pd.unique(launches["name_id"].to_numpy())
    wanted = ids[session.trace.names(ids) == name]
    chosen = np.isin(launches["name_id"].to_numpy(), wanted)
    if device >= 0:
        chosen &= launches["device"].to_numpy() == device
    rows = launches[chosen]
    result: Array = (rows["end_ns"] - rows["start_ns"]).to_numpy()
    return result


page()
