"""The kernels of a window: a row each, to filter, sort, pick and download."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.facts.facts import COMMUNICATION, KERNEL
from analyzers.words import count_text, function_first
from collectors.schema import NOT_RECORDED, Array
from views.shared.markdown import md_escape
from views.shared.session import Session
from views.shared.units import csv_text, distinct_names, ns_to_ms, ns_to_us, visible

TABLE_HEIGHT_PX = 318
ROWS_THAT_FIT = 8
SHOWN_NAME = 600  # characters; template arguments can fill pages
PICKED = "picked_kernel"
COLUMNS = {
    "kernel": st.column_config.TextColumn("kernel", width=300),
    "count": st.column_config.NumberColumn("launches", format="localized", width=72),
    "share": st.column_config.NumberColumn(
        "share",
        format="%.1f %%",
        width=64,
        help="Of the total kernel time in the window; concurrent kernels each count in full.",
    ),
    "total": st.column_config.NumberColumn(
        "total (ms)",
        format="%.3f",
        width=84,
        help="Time of its launches that lies in the window.",
    ),
    "min": st.column_config.NumberColumn("min (µs)", format="%.1f", width=72),
    "median": st.column_config.NumberColumn("median (µs)", format="%.1f", width=90),
    "max": st.column_config.NumberColumn("max (µs)", format="%.1f", width=76),
    "queue": st.column_config.NumberColumn(
        "queue (µs)",
        format="%.1f",
        width=84,
        help="Median time from the return of the launch call to the start of the kernel. Longer "
        "is better for throughput: the host runs ahead of the device.",
    ),
    "occupancy": st.column_config.NumberColumn(
        "occupancy",
        format="%.0f %%",
        width=84,
        help="Theoretical: what registers, shared memory and block size allow.",
    ),
    "limiter": st.column_config.TextColumn("limited by", width=92),
    "waves": st.column_config.NumberColumn(
        "waves",
        format="%.1f",
        width=62,
        help="Computed: how many times its blocks would fill the GPU's multiprocessors.",
    ),
}


def _pick_row(names: list[str]) -> None:
    """Pick the kernel whose row was clicked."""
    rows = st.session_state["kernel_table"]["selection"]["rows"]
    if rows and rows[0] < len(names):
        st.session_state[PICKED] = names[rows[0]]


def picked_kernel(listed: pd.DataFrame) -> pd.Series:
    """Return the kernel that was picked last, the first one unless it is shown."""
    positions = np.flatnonzero((listed["name"] == st.session_state.get(PICKED, "")).to_numpy())
    return listed.iloc[int(positions[0]) if len(positions) else 0]


def draw_filter() -> str:
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


def selected_kernels(session: Session) -> pd.DataFrame:
    """Return one row per kernel, counting the chosen window and device only.

    Totals count the part of each launch that lies in the window, as the ledger and counters do;
    the shortest, median and longest duration are those of whole launches.
    """
    kernels = session.kernels()
    if not len(kernels) or _is_whole(session):
        return kernels
    launches, (start, end) = kernel_launches(session), session.report.window.span
    duration = (launches["end_ns"] - launches["start_ns"]).groupby(launches["name_id"])
    part = launches["end_ns"].clip(upper=end) - launches["start_ns"].clip(lower=start)
    stats = duration.agg(["size", "min", "median", "max"])
    stats["sum"] = part.groupby(launches["name_id"]).sum()
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


def _is_whole(session: Session) -> bool:
    """Tell whether the window leaves out no operation of any device."""
    launches, (start, end) = session.launches(), session.report.window.span
    within = not len(launches) or (
        launches["start_ns"].min() >= start and launches["end_ns"].max() <= end
    )
    return session.device < 0 and bool(within)


def kernel_launches(session: Session) -> pd.DataFrame:
    """Return the kernels' launches that ran in the window, on the chosen device."""
    launches, (start, end) = session.launches(), session.report.window.span
    chosen = np.isin(launches["kind"].to_numpy(), (KERNEL, COMMUNICATION))
    chosen &= ((launches["end_ns"] > start) & (launches["start_ns"] < end)).to_numpy()
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
            "queue": _known_values(ns_to_us(kernels["queue_median_ns"])),
            "occupancy": _known_values(kernels["occupancy_pct"].to_numpy(dtype=float)),
            "limiter": kernels["limiter"].to_numpy(),
            "waves": _known_values(kernels["waves"].to_numpy(dtype=float)),
        }
    )


def telling_names(kernels: pd.DataFrame) -> list[str]:
    """Return short names; where several kernels share one, with what tells them apart."""
    repeated = kernels["short_name"].duplicated(keep=False).to_numpy()
    names = [
        visible(function_first(full) if again else short, SHOWN_NAME)
        for full, short, again in zip(kernels["name"], kernels["short_name"], repeated, strict=True)
    ]
    return distinct_names(names)


def _known_values(values: Array) -> Array:
    result: Array = np.where(values >= 0, values, np.nan)
    return result


def draw_table(kernels: pd.DataFrame, session: Session) -> None:
    """Draw the table, whose rows can be picked."""
    rows = table(kernels)
    names = [str(name) for name in kernels["name"]]
    st.dataframe(
        rows,
        hide_index=True,
        column_config=COLUMNS,
        placeholder="",
        key="kernel_table",
        on_select=lambda: _pick_row(names),
        selection_mode="single-row",
        height=TABLE_HEIGHT_PX if len(rows) > ROWS_THAT_FIT else "content",
        alt="Kernels by total time",
    )
    # Below the table: above it, the table's own tools cover the button when the mouse is near.
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{count_text(len(kernels), 'kernel')}, {md_escape(session.report.window.label)}. "
            "Click a heading to sort, the box beside a row to select it."
        )
        st.download_button(
            "Download CSV",
            lambda: csv(kernels),
            "kernels.csv",
            "text/csv",
            key="kernel_csv",
            on_click="ignore",  # a run of the page would forget the file that is being made
        )


def csv(kernels: pd.DataFrame) -> bytes:
    """Return ``kernels`` as CSV with full names; no cell starts a formula in a spreadsheet."""
    safe = kernels.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = [csv_text(str(v)) for v in safe[column]]
    return safe.to_csv(index=False).encode("utf-8", "replace")
