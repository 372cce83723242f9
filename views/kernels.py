"""Which kernels take the time, how long they run, and what holds each back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.facts.facts import COMMUNICATION, KERNEL
from analyzers.kernels.words import NOTABLE_SHARE, counted_sentence, timeline_sentence
from analyzers.words import count_text, function_first, split_sentence, time_text
from collectors.schema import NOT_RECORDED, Array
from views.charts.kernels import (
    LEVEL_WORDS,
    cause_of,
    lost_by_configuration,
    lost_figure,
    on_roofline,
    roofline_figure,
)
from views.charts.ledger import duration_histogram
from views.parts.kernel_card import basis_words, covered_words, draw_computed, draw_counted
from views.parts.regions import draw_regions
from views.shared.session import Session, current, digest, draw_prose
from views.shared.style import write_verdict_color
from views.shared.units import (
    NOT_RECORDED_TEXT,
    csv_text,
    distinct_names,
    md_escape,
    md_prose,
    ns_to_ms,
    ns_to_us,
    visible,
)

TABLE_HEIGHT_PX = 318
ROWS_THAT_FIT = 8
SHOWN_NAME = 600  # characters; template arguments can fill pages
PICKED = "picked_kernel"
INSIDE_RULE = "divergence.idle_lanes"  # says, as any rule about kernels would, how to look inside
NAME_HEIGHT_PX = 84
CODE_LINES = 90  # characters of a name that need no scrolling
SHOWN_KERNELS = 5_000  # a longer table helps nobody; filter it

COLUMNS = {
    "kernel": st.column_config.TextColumn("kernel", width=410),
    "count": st.column_config.NumberColumn("launches", format="localized", width="small"),
    "share": st.column_config.NumberColumn(
        "share",
        format="%.1f %%",
        width="small",
        help="Of the time of all kernels in the window; those that run at once count each.",
    ),
    "total": st.column_config.NumberColumn(
        "total (ms)", format="%.3f", width="small", help="The part of its launches in the window."
    ),
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
    "waves": st.column_config.NumberColumn(
        "waves",
        format="%.1f",
        width="small",
        help="Computed: how many times the GPU's multiprocessors are filled with its blocks.",
    ),
}


def page() -> None:
    """Draw the page."""
    session = current()
    if session is None:
        return
    kernels = selected_kernels(session)
    if not len(kernels):
        _draw_no_kernels(session)
        return
    counted = session.counted()
    _draw_verdict(kernels, counted)
    if covered := covered_words(session.report):
        st.caption(md_prose(covered))
    if len(counted):
        _draw_counted_charts(session, counted)
    else:
        _draw_computed_chart(session, kernels)
    text = _draw_filter()
    listed = matching(kernels, text).head(SHOWN_KERNELS)
    if not len(listed):
        st.text(f"No kernel's name contains “{visible(text, 80)}”.")
        return
    _draw_table(listed, session)
    _draw_kernel(session, _picked_kernel(listed))
    if session.report.operations.get("kernels") and not counted_only(session):
        draw_regions(session)


def counted_only(session: Session) -> bool:
    """Tell whether the recording holds counters of launches and no timeline."""
    return not session.trace.count("kernels") and session.trace.count("profiled_kernels") > 0


def _draw_verdict(kernels: pd.DataFrame, counted: pd.DataFrame) -> None:
    sentence = counted_sentence(counted) if len(counted) else timeline_sentence(kernels)
    worst = counted["lost_ns"].to_numpy().argmax() if len(counted) else -1
    cause = cause_of(int(counted["part"].iloc[worst])) if worst >= 0 else None
    write_verdict_color(cause.value if cause else "healthy")
    first, rest = split_sentence(sentence)
    with st.container(key="verdict"):
        st.header(md_prose(first), anchor=False)
        if rest:
            draw_prose(rest)


def _draw_counted_charts(session: Session, counted: pd.DataFrame) -> None:
    """Draw the roofline, and what kernels lose beside their share of time."""
    summary = session.report.totals.get("roofline", {})
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**How fast, beneath the roofs**")
        _draw_roofline(counted, summary.get("roofs", []))
        if summary.get("lacks"):
            _draw_missing_counters(str(summary["lacks"]))
    with right:
        st.markdown("**Share of time and what could be won back**")
        _draw_lost_chart(counted)


def _draw_roofline(counted: pd.DataFrame, roofs: list[dict[str, object]]) -> None:
    levels = [one for one in LEVEL_WORDS if len(on_roofline(counted, one))]
    if not levels:
        st.caption("No kernel's arithmetic and memory traffic were both counted.")
        return
    level = levels[0]
    if len(levels) > 1:
        level = str(
            st.segmented_control(
                "Bytes of",
                levels,
                default=levels[0],
                format_func=lambda name: LEVEL_WORDS[name],
                key="roofline_level",
                label_visibility="collapsed",
            )
            or level
        )
    st.plotly_chart(
        roofline_figure(counted, roofs, level),
        key="roofline",
        config={"displayModeBar": False},
        on_select=lambda: _pick_point("roofline"),
        selection_mode="points",
        alt=f"Roofline of {len(on_roofline(counted, level))} kernels",
    )
    hidden = len(counted) - len(on_roofline(counted, level))
    if hidden:
        st.caption(
            f"{count_text(hidden, 'kernel')} without counted floating-point operations "
            "cannot be placed here."
        )


def _draw_missing_counters(sentence: str) -> None:
    """Show what a chart lacks, and the command that collects it, ready to be copied."""
    reason, _, command = sentence.replace("; run `", ", run `").partition(", run `")
    with st.expander(f"{md_prose(reason[:1].upper() + reason[1:])}"):
        st.code(command.rstrip("`"), language=None, wrap_lines=True)


def _draw_lost_chart(lost: pd.DataFrame) -> None:
    st.plotly_chart(
        lost_figure(lost),
        key="lost",
        config={"displayModeBar": False},
        on_select=lambda: _pick_point("lost"),
        selection_mode="points",
        alt=f"Share of time and possible gain of {len(lost)} kernels",
    )


def _draw_computed_chart(session: Session, kernels: pd.DataFrame) -> None:
    """Draw what launch configurations tell, and name the command that would tell more."""
    lost = lost_by_configuration(kernels)
    if lost["lost_ns"].max() >= NOTABLE_SHARE * lost["ns"].sum():
        st.markdown(
            "**Share of time and what fuller launches could win back** "
            ":gray-badge[computed, not measured]"
        )
        _draw_lost_chart(lost)
    reasons = (s.reason for s in session.report.skipped if s.id == INSIDE_RULE)
    if reason := next(reasons, ""):
        _draw_missing_counters(reason)


def _pick_point(chart: str) -> None:
    """Pick the kernel whose point was clicked."""
    points = st.session_state[chart]["selection"]["points"]
    if points:
        st.session_state[PICKED] = str(points[0]["customdata"][0])


def _pick_row(names: list[str]) -> None:
    """Pick the kernel whose row was clicked."""
    rows = st.session_state["kernel_table"]["selection"]["rows"]
    if rows and rows[0] < len(names):
        st.session_state[PICKED] = names[rows[0]]


def _picked_kernel(listed: pd.DataFrame) -> pd.Series:
    """Return the kernel that was picked last, the first one unless it is shown."""
    positions = np.flatnonzero((listed["name"] == st.session_state.get(PICKED, "")).to_numpy())
    return listed.iloc[int(positions[0]) if len(positions) else 0]


def _draw_filter() -> str:
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


def _draw_no_kernels(session: Session) -> None:
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
    """Return one row per kernel, counting the chosen window and device only.

    Totals count the part of each launch that lies in the window, as the ledger and counters do;
    the shortest, median and longest duration are those of whole launches.
    """
    kernels = session.kernels()
    if not len(kernels) or _is_whole(session):
        return kernels
    launches, (start, end) = _kernel_launches(session), session.report.window.span
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


def _kernel_launches(session: Session) -> pd.DataFrame:
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


def _draw_table(kernels: pd.DataFrame, session: Session) -> None:
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


def csv(kernels: pd.DataFrame) -> bytes:
    """Return ``kernels`` as CSV with full names; no cell starts a formula in a spreadsheet."""
    safe = kernels.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = [csv_text(str(v)) for v in safe[column]]
    return safe.to_csv(index=False).encode("utf-8", "replace")


def _draw_kernel(session: Session, kernel: pd.Series) -> None:
    name = str(kernel["name"])
    durations = _durations(session, name)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**How long each launch ran**")
        if len(durations) == 1:
            st.write(f"It ran once, for {time_text(int(durations[0]))}.")
        elif len(durations):
            st.plotly_chart(
                duration_histogram(durations, name),
                key="kernel_histogram",
                config={"displayModeBar": False},
                alt=f"{len(durations)} durations, median {time_text(float(np.median(durations)))}",
            )
    with right:
        st.markdown("**Picked kernel**")
        st.code(
            visible(name, SHOWN_NAME),
            language=None,
            wrap_lines=True,
            height=84 if len(name) > CODE_LINES else "content",
        )
        _draw_card(session, kernel)
        st.caption(_shape(kernel))
        if not counted_only(session):
            st.page_link(
                "timeline.py",
                label="Highlight on the timeline",
                query_params=session.address | {"kernel": digest(name)},
            )


def _draw_card(session: Session, kernel: pd.Series) -> None:
    """Show what limits the kernel: from counters, else from its launch configuration."""
    counted = session.counted()
    counted_kernel = counted[(counted["name"] == kernel["name"]).to_numpy()]
    if len(counted_kernel):
        draw_counted(counted_kernel.iloc[0], session.report)
        if session.counters:
            st.caption(
                md_prose(basis_words(counted_kernel.iloc[0], session.report, session.device))
            )
    if not len(counted_kernel) or np.isnan(counted_kernel["theoretical"].iloc[0]):
        draw_computed(kernel)


def _shape(kernel: pd.Series) -> str:
    def part(column: str, unit: str) -> str:
        value = int(kernel.get(column, -1))
        return f"{unit}: {value:,}" if value >= 0 else f"{unit}: {NOT_RECORDED_TEXT}"

    parts = (
        part("grid_blocks", "blocks"),
        part("block_threads", "threads a block"),
        part("registers", "registers a thread"),
    )
    return " · ".join(parts)


def _durations(session: Session, name: str) -> Array:
    launches = _kernel_launches(session)
    ids = pd.unique(launches["name_id"].to_numpy())
    name_ids = ids[session.trace.names(ids) == name]
    chosen = np.isin(launches["name_id"].to_numpy(), name_ids)
    rows = launches[chosen]
    result: Array = (rows["end_ns"] - rows["start_ns"]).to_numpy()
    return result


page()
