"""Which kernels take the time, how long they run, and what holds each back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.facts import COMMUNICATION, KERNEL
from analyzers.words import count_text, function_first, time_text
from collectors.trace import NOT_RECORDED, Array
from views._charts import duration_histogram
from views._session import Session, current, digest
from views._units import (
    NOT_RECORDED_TEXT,
    apart,
    csv_text,
    md_escape,
    ns_to_ms,
    ns_to_us,
    visible,
)

TABLE_HEIGHT_PX = 318
ROWS_THAT_FIT = 8
SHOWN_NAME = 600  # characters; template arguments can fill pages
SHOWN_KERNELS = 5_000  # a longer table helps nobody; filter it

COLUMNS = {
    "kernel": st.column_config.TextColumn("kernel", width=486),
    "count": st.column_config.NumberColumn("launches", format="localized", width="small"),
    "share": st.column_config.NumberColumn(
        "share",
        format="%.1f %%",
        width="small",
        help="Of the time of all kernels in the window, each counted in full.",
    ),
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
    kernels = selected_kernels(session)
    if not len(kernels):
        _no_kernels(session)
        return
    text = _filter()
    shown = matching(kernels, text).head(SHOWN_KERNELS)
    if not len(shown):
        st.text(f"No kernel's name contains “{visible(text, 80)}”.")
        return
    row = _table(shown, session)
    _kernel(session, shown.iloc[row])


def _filter() -> str:
    """Ask for a part of the names; the address keeps it, so that a reload does too."""
    st.session_state.setdefault("kernel_filter", st.query_params.get("filter", ""))
    text = st.text_input(
        "Filter", placeholder="Filter by name", key="kernel_filter", label_visibility="collapsed"
    )
    if text:
        st.query_params["filter"] = text
    else:
        st.query_params.pop("filter", None)
    return text or ""


def _no_kernels(session: Session) -> None:
    st.header("No kernels", anchor=False)
    if len(session.kernels()):
        where = " on this GPU" if session.device >= 0 else ""
        when = "in this window" if session.window else "in this recording"
        st.write(f"No kernel ran {when}{where}; the recording has others.")
        # A link to the page that is shown would leave the window in the address.
        st.button("Kernels of the whole recording", key="all_kernels", on_click=_show_all)
    elif session.trace.count("profiled_kernels"):
        st.write("The profiled launches have no duration, so nothing can be weighed. Collect it:")
        st.code("ncu --section SpeedOfLight -o counters your_program", language=None)
    elif session.trace.has("kernels") or session.trace.count("graph_launches"):
        st.write(
            "CUDA was traced, but no single kernel was recorded. For CUDA graphs, record with:"
        )
        st.code("nsys profile -t cuda,nvtx --cuda-graph-trace=node your_program", language=None)
    else:
        st.write("CUDA was not traced. Record with:")
        st.code("nsys profile -t cuda,nvtx,osrt -o report your_program", language=None)


def _show_all() -> None:
    for key in ("window", "device"):
        st.query_params.pop(key, None)


def selected_kernels(session: Session) -> pd.DataFrame:
    """Return one row per kernel, counting the chosen window and device only."""
    kernels = session.kernels()
    if (not session.window and session.device < 0) or not len(kernels):
        return kernels
    launches = _kernel_launches(session)
    duration = (launches["end_ns"] - launches["start_ns"]).groupby(launches["name_id"])
    stats = duration.agg(["size", "sum", "min", "median", "max"])
    queue = launches["queue_ns"].where(launches["queue_ns"] >= 0).groupby(launches["name_id"])
    counted = pd.DataFrame(
        {
            "name": session.trace.names(stats.index.to_numpy()),
            "count": stats["size"].to_numpy(),
            "total_ns": stats["sum"].to_numpy(),
            "share": (stats["sum"] / max(int(stats["sum"].sum()), 1)).to_numpy(),
            "min_ns": stats["min"].to_numpy(),
            "median_ns": stats["median"].to_numpy(),
            "max_ns": stats["max"].to_numpy(),
            "queue_median_ns": queue.median().fillna(NOT_RECORDED).to_numpy(),
        }
    )
    described = kernels.drop(columns=[c for c in counted.columns if c != "name"])
    return counted.merge(described, on="name", how="inner")


def _kernel_launches(session: Session) -> pd.DataFrame:
    """Return the kernels' launches that ran in the chosen window, on the chosen device."""
    launches, window = session.launches(), session.report.window
    chosen = np.isin(launches["kind"].to_numpy(), (KERNEL, COMMUNICATION))
    if session.window:
        inside = (launches["end_ns"] > window.start_ns) & (launches["start_ns"] < window.end_ns)
        chosen &= inside.to_numpy()
    return launches[chosen]


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
            "kernel": telling_names(kernels),
            "share": kernels["share"].to_numpy() * 100,
            "count": kernels["count"].to_numpy(),
            "total": ns_to_ms(kernels["total_ns"]),
            "min": ns_to_us(kernels["min_ns"]),
            "median": ns_to_us(kernels["median_ns"]),
            "max": ns_to_us(kernels["max_ns"]),
            "queue": _known(ns_to_us(kernels["queue_median_ns"])),
            "occupancy": _known(kernels["occupancy_pct"].to_numpy(dtype=float)),
            "limiter": kernels["limiter"].to_numpy(),
        }
    )


def telling_names(kernels: pd.DataFrame) -> list[str]:
    """Return short names; where several kernels share one, with what tells them apart."""
    repeated = kernels["short_name"].duplicated(keep=False).to_numpy()
    names = [
        visible(function_first(full) if again else short, SHOWN_NAME)
        for full, short, again in zip(kernels["name"], kernels["short_name"], repeated, strict=True)
    ]
    return apart(names)


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
        placeholder="",
        key="kernel_table",
        on_select="rerun",
        selection_mode="single-row",
        height=TABLE_HEIGHT_PX if len(shown) > ROWS_THAT_FIT else "content",
        alt="Kernels by total time",
    )
    rows = event["selection"]["rows"]
    # Below the table: above it, the table's own tools cover the button when the mouse is near.
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{count_text(len(kernels), 'kernel')}, {md_escape(session.report.window.label)}. "
            "Click a heading to sort, the box before a row to pick it."
        )
        st.download_button(
            "Download CSV",
            lambda: csv(kernels),
            "kernels.csv",
            "text/csv",
            key="kernel_csv",
            on_click="ignore",  # a run of the page would forget the file that is being made
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
    durations = _durations(session, name)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**How long each launch ran**")
        if len(durations):
            st.plotly_chart(
                duration_histogram(durations, name),
                key="kernel_histogram",
                config={"displayModeBar": False},
                alt=f"{len(durations)} durations, median {time_text(float(np.median(durations)))}",
            )
    with right:
        st.markdown("**Picked kernel**")
        st.code(visible(name, SHOWN_NAME), language=None, wrap_lines=True, height=110)
        st.caption(_shape(kernel))
        st.page_link(
            "timeline.py",
            label="Highlight on the timeline",
            query_params=session.address | {"kernel": digest(name)},
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


def _durations(session: Session, name: str) -> Array:
    launches = _kernel_launches(session)
    ids = pd.unique(launches["name_id"].to_numpy())
    wanted = ids[session.trace.names(ids) == name]
    chosen = np.isin(launches["name_id"].to_numpy(), wanted)
    rows = launches[chosen]
    result: Array = (rows["end_ns"] - rows["start_ns"]).to_numpy()
    return result


page()
