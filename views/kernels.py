"""Which kernels take the time, how long they run, and what holds each back."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.kernels.words import NOTABLE_SHARE, counted_sentence, timeline_sentence
from analyzers.recorder import recorder_of
from analyzers.words import count_text, split_sentence, time_text
from collectors.schema import Array
from reports.busy_time import classes_are_telling, kernel_time_sentence, summed_classes
from views.charts.kernels import (
    LEVEL_WORDS,
    cause_of,
    lost_by_configuration,
    lost_figure,
    on_roofline,
    roofline_figure,
)
from views.charts.ledger import duration_histogram
from views.parts.kernel_card import (
    basis_words,
    covered_words,
    draw_computed,
    draw_counted,
    draw_tool_rules,
)
from views.parts.kernel_table import (
    PICKED,
    SHOWN_NAME,
    draw_filter,
    draw_table,
    kernel_launches,
    matching,
    picked_kernel,
    selected_kernels,
)
from views.parts.program_tree import draw_program_tree
from views.parts.regions import draw_regions
from views.parts.work import (
    device_work,
    draw_work_charts,
    draw_work_table,
    operators_are_telling,
)
from views.shared.markdown import Escaped, md_escape, md_prose
from views.shared.session import Session, current, digest, draw_prose
from views.shared.style import write_verdict_color
from views.shared.units import NOT_RECORDED_TEXT, visible

INSIDE_RULE = "divergence.idle_lanes"  # says, as any rule about kernels would, how to look inside
CODE_LINES = 90  # characters of a name that need no scrolling
VIEW = "kernels_view"
OPERATORS, KERNELS, PARTS = "Operators and shapes", "Kernels", "Parts of the program"
SHOWN_KERNELS = 5_000  # a longer table helps nobody; filter it


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
    work = device_work(session)
    classes = summed_classes(session.report, session.device)
    _draw_verdict(kernels, counted, "" if len(counted) else kernel_time_sentence(classes))
    st.caption(md_escape(_kernel_time(session, kernels)))
    if covered := covered_words(session.report):
        st.caption(md_prose(covered))
    if len(counted):
        _draw_counted_charts(session, counted)
    if len(work) and classes_are_telling(classes):
        draw_work_charts(session, work)
    _draw_view(session, kernels, work)
    if session.report.operations.get("kernels") and not counted_only(session):
        draw_regions(session)


def _draw_view(session: Session, kernels: pd.DataFrame, work: pd.DataFrame) -> None:
    """Draw the table that the reader asks for: operators, kernels, or parts of the program."""
    has_operators = bool(len(work)) and operators_are_telling(work)
    views = [OPERATORS, KERNELS] if has_operators else [KERNELS]
    if len(work) and any(session.trace.count(table) for table in ("ranges", "operators")):
        views.append(PARTS)
    view = views[0] if not len(session.counted()) else KERNELS
    if len(views) > 1:
        st.session_state.setdefault(VIEW, view)
        if st.session_state[VIEW] not in views:
            st.session_state[VIEW] = view
        view = st.segmented_control("Table", views, key=VIEW, label_visibility="collapsed") or view
    if view == OPERATORS:
        draw_work_table(session, work)
    elif view == PARTS:
        draw_program_tree(session)
    else:
        _draw_kernels(session, kernels)


def _draw_kernels(session: Session, kernels: pd.DataFrame) -> None:
    """Draw the kernels by name, and the one that was picked."""
    if not len(session.counted()):
        _draw_computed_chart(session, kernels)
    text = draw_filter()
    listed = matching(kernels, text).head(SHOWN_KERNELS)
    if not len(listed):
        st.text(f"No kernel name contains “{visible(text, 80)}”.")
        return
    draw_table(listed, session)
    _draw_kernel(session, picked_kernel(listed))


def _kernel_time(session: Session, kernels: pd.DataFrame) -> str:
    """Say what the percentages of this page are parts of."""
    total = time_text(int(kernels["total_ns"].sum()))
    of = count_text(int(kernels["count"].sum()), "launch")
    if counted_only(session):
        return f"Percentages are of the profiled time: {total} in {of}."
    window = session.report.window
    return (
        f"A kernel's percentage is of the time of all launches, collectives too: {total} in {of}, "
        f"{window.label} ({time_text(window.duration_ns)}); those at the same time each count in "
        "full. A class's is of the time in which any kernel but a collective ran."
    )


def counted_only(session: Session) -> bool:
    """Tell whether the recording holds counters of launches and no timeline."""
    return not session.trace.count("kernels") and session.trace.count("profiled_kernels") > 0


def _draw_verdict(kernels: pd.DataFrame, counted: pd.DataFrame, of_classes: str) -> None:
    sentence = counted_sentence(counted) if len(counted) else timeline_sentence(kernels)
    sentence = f"{of_classes} {sentence}".strip()
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
        st.markdown("**Roofline**")
        _draw_roofline(counted, summary.get("roofs", []))
        if summary.get("lacks"):
            lacks = str(summary["lacks"])
            title = re.split("[,;] run `", lacks)[0]
            _draw_missing_counters(title[:1].upper() + title[1:], lacks)
    with right:
        st.markdown("**Share of time and what could be won back**")
        _draw_lost_chart(counted)


def _draw_roofline(counted: pd.DataFrame, roofs: list[dict[str, object]]) -> None:
    levels = [one for one in LEVEL_WORDS if len(on_roofline(counted, one))]
    if not levels:
        st.caption("No kernel has counters for both its arithmetic and its memory traffic.")
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
            "cannot be shown here."
        )


def _draw_missing_counters(title: str, sentence: str) -> None:
    """Show what is missing, and the command that collects it, ready to be copied."""
    with st.expander(md_escape(title)):
        draw_prose(sentence[:1].upper() + sentence[1:])


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
        _draw_missing_counters("How to see what happens inside kernels", reason)


def _pick_point(chart: str) -> None:
    """Pick the kernel whose point was clicked."""
    points = st.session_state[chart]["selection"]["points"]
    if points:
        st.session_state[PICKED] = str(points[0]["customdata"][0])
        st.session_state[VIEW] = KERNELS


def _draw_no_kernels(session: Session) -> None:
    st.header("No kernels", anchor=False)
    if len(session.kernels()):
        where = " on this GPU" if session.device >= 0 else ""
        when = "in this window" if session.window else "in this recording"
        st.write(f"No kernel ran {when}{where}, but the recording has others.")
        # A link to the page that is shown would leave the window in the address.
        st.button("Kernels of the whole recording", key="all_kernels", on_click=_show_all)
    elif session.trace.count("profiled_kernels"):
        st.write(
            "The profiled launches have no durations, so they cannot be ranked. Collect them with:"
        )
        st.code("ncu --section SpeedOfLight -o counters your_program", language=None)
    elif session.trace.has("kernels") or session.trace.count("graph_launches"):
        st.write(
            "CUDA was traced, but no individual kernel was recorded. If the program uses "
            "CUDA graphs, record with:"
        )
        st.code("nsys profile -t cuda,nvtx --cuda-graph-trace=node your_program", language=None)
    else:
        recorder = recorder_of(session.trace)
        st.write(md_escape(f"{recorder.api} was not traced. Record with:"))
        st.code(recorder.again, language=None)


def _show_all() -> None:
    for key in ("window", "device"):
        st.query_params.pop(key, None)


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
        st.markdown("**Selected kernel**")
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
        draw_tool_rules(counted_kernel.iloc[0], session.report)
        if session.counters:
            st.caption(
                md_prose(basis_words(counted_kernel.iloc[0], session.report, session.device))
            )
    if not len(counted_kernel) or np.isnan(counted_kernel["theoretical"].iloc[0]):
        draw_computed(kernel)


def _shape(kernel: pd.Series) -> Escaped:
    columns = (
        ("grid_blocks", "blocks"),
        ("block_threads", "threads per block"),
        ("registers", "registers per thread"),
    )
    sizes = [(unit, int(kernel.get(column, -1))) for column, unit in columns]
    parts = [
        f"{unit}: {size:,}" if size >= 0 else f"{unit}: {NOT_RECORDED_TEXT}" for unit, size in sizes
    ]
    return Escaped(" · ".join(parts))


def _durations(session: Session, name: str) -> Array:
    launches = kernel_launches(session)
    ids = pd.unique(launches["name_id"].to_numpy())
    name_ids = ids[session.trace.names(ids) == name]
    chosen = np.isin(launches["name_id"].to_numpy(), name_ids)
    rows = launches[chosen]
    result: Array = (rows["end_ns"] - rows["start_ns"]).to_numpy()
    return result


page()
