"""The kernel time by class, operator and shape: charts, and a table to sort and download."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.words import count_text, name_text, share_text, time_text
from analyzers.work.account import TIMES_NS
from reports.busy_time import shapes_text, unknown_reason, utilisation_sentences
from views.charts.work import (
    EFFICIENCY_LEGEND,
    class_title,
    efficiency_words,
    icicle_figure,
    operator_roofline,
    placed_operators,
    tile_of,
)
from views.parts.kernel_table import csv
from views.shared.markdown import md_escape, md_prose
from views.shared.session import Session
from views.shared.style import draw_legend
from views.shared.units import ns_to_ms, visible

PICKED_WORK = "picked_work"
SUBJECT = ["class", "operator", "shapes", "types", "strides", "values", "kernel"]
"""What tells one row of the work from another, on whatever device."""

_SUMMED = ["calls", "launches", *TIMES_NS, "least_ns", "flop", "bytes"]
LONGEST = "kernel"  # has no room on the page; a picked row tells it, and so does the file
TABLE_HEIGHT_PX = 420
ROWS_THAT_FIT = 11
FEW_TILES = 3  # of one colour: a sentence says as much
MIN_PLACED_SHARE = 0.05  # of kernel time; a roofline of less would mislead
MIN_OPERATOR_SHARE = 0.05  # the same of tiles for operators, and of their table
SHOWN_ROWS = 5_000  # a longer table helps nobody; filter it
SHAPE_ROOM, NAME_ROOM = 160, 120
COLUMNS = {
    "operator": st.column_config.TextColumn("operator", width=190),
    "shapes": st.column_config.TextColumn(
        "shapes", width=165, help="Of the inputs, as recorded; scalars are left out."
    ),
    "type": st.column_config.TextColumn("type", width=50, help="Of what it computes in."),
    "launches": st.column_config.NumberColumn("launches", format="localized", width=68),
    "time": st.column_config.NumberColumn("time (ms)", format="%.3f", width=74),
    "share": st.column_config.NumberColumn(
        "share", format="%.1f %%", width=58, help="Of the kernel time."
    ),
    "roof": st.column_config.NumberColumn(
        "of its roof",
        format="%.0f %%",
        width=76,
        help="The least time that operations, bytes and the GPU's limits allow, as a share of the "
        "time it took. Work that a cache served counts as 100 %.",
    ),
    "below": st.column_config.NumberColumn("below (ms)", format="%.3f", width=80),
    "bound": st.column_config.TextColumn("bound by", width=70),
    "gflop": st.column_config.NumberColumn(
        "GFLOP", format="%.3g", width=60, help="Operations of one call."
    ),
    "mb": st.column_config.NumberColumn(
        "MB", format="%.3g", width=56, help="The least that one call must move, in 10⁶ bytes."
    ),
    "tflops": st.column_config.NumberColumn("TFLOP/s", format="%.3g", width=64),
    "tbs": st.column_config.NumberColumn("TB/s", format="%.3g", width=54),
}


def device_work(session: Session) -> pd.DataFrame:
    """Return the work by operator and inputs on the chosen device, or on all together.

    Columns are those of ``analyzers.work.account.work_rows``; the place is the longest launch's.
    """
    work = session.work()
    if not len(work) or "operator" not in work.columns:
        return pd.DataFrame()
    if session.device >= 0:
        return work[(work["device"] == session.device).to_numpy()].reset_index(drop=True)
    if work["device"].nunique() < 2:
        return work
    # An operator's longest kernel may be another one on each device.
    subject = work.assign(kernel=work["kernel"].where(work["operator"] == "", ""))[SUBJECT]
    code, _ = pd.factorize(pd.MultiIndex.from_frame(subject))
    first = np.unique(code, return_index=True)[1]  # of equals the longest: they are sorted
    result = work.iloc[first].reset_index(drop=True)
    for name in _SUMMED:
        sums = np.bincount(code, work[name])
        result[name] = sums.astype(np.int64) if name not in ("flop", "bytes") else sums
    return result.sort_values("busy_ns", ascending=False, kind="stable", ignore_index=True)


def device_kernels(session: Session) -> pd.DataFrame:
    """Return what each kernel has of each row of the work, with class and operator."""
    kernels, work = session.work_kernels(), session.work()
    if not len(kernels):
        return kernels
    of_row = work[["device", "class", "operator"]].iloc[kernels["row"].to_numpy()]
    table = pd.concat([kernels.reset_index(drop=True), of_row.reset_index(drop=True)], axis=1)
    if session.device >= 0:
        table = table[(table["device"] == session.device).to_numpy()]
    table = table.reset_index(drop=True)
    return table if operators_are_telling(table) else table.assign(operator="")


def operators_are_telling(work: pd.DataFrame) -> bool:
    """Tell whether enough of the kernel time is in operators to show them."""
    in_operators = work["busy_ns"].to_numpy()[(work["operator"] != "").to_numpy()].sum()
    return bool(in_operators > MIN_OPERATOR_SHARE * work["busy_ns"].sum())


# --- charts --------------------------------------------------------------------------------------


def draw_work_charts(session: Session, work: pd.DataFrame) -> None:
    """Draw classes, operators and kernels as tiles, and beside them the operators' roofline."""
    kernels = device_kernels(session)
    placed = placed_operators(work)
    if placed["busy_ns"].sum() < MIN_PLACED_SHARE * work["busy_ns"].sum():
        placed = placed.iloc[:0]
    roofs = _roofs(session)
    reason, code = unknown_reason(session.report)
    if reason:
        _draw_unknown(reason, code)
    has_roofline = bool(len(placed)) and roofs is not None
    is_modelled = bool((work["not_modelled_ns"] < work["busy_ns"]).any())
    if is_modelled or len(kernels) > FEW_TILES:
        with st.container(key="work_legend"):
            draw_legend(EFFICIENCY_LEGEND if has_roofline else EFFICIENCY_LEGEND[-1:])
        left, right = st.columns([3, 2], gap="medium") if has_roofline else (st.container(), None)
        with left:
            _draw_tiles(session, kernels, is_modelled)
        if right is not None and roofs is not None:
            with right:
                _draw_roofline(session, work, placed, roofs)
    for sentence in utilisation_sentences(session.report):
        st.caption(md_prose(sentence))
    _draw_picked(session, int(work["busy_ns"].sum()))


def _draw_tiles(session: Session, kernels: pd.DataFrame, is_modelled: bool) -> None:
    inner = "operator, kernel" if (kernels["operator"] != "").any() else "kernel"
    color = "colour is nearness to the roof" if is_modelled else "nearness to the roof unknown"
    st.markdown(f"**Class, {inner}: height is time, {color}**")
    st.plotly_chart(
        icicle_figure(kernels),
        key="work_icicle",
        config={"displayModeBar": False},
        on_select=lambda: _pick_tile(session, kernels),
        selection_mode="points",
        alt="Kernel time by class: " + _class_words(kernels),
    )


def _class_words(kernels: pd.DataFrame) -> str:
    """Tell in words what the tiles of classes show."""
    times = kernels.groupby("class")["busy_ns"].sum().sort_values(ascending=False)
    whole = int(times.sum())
    return ", ".join(f"{class_title(str(c))} {share_text(int(n), whole)}" for c, n in times.items())


def _draw_roofline(
    session: Session, work: pd.DataFrame, placed: pd.DataFrame, roofs: Mapping[str, Any]
) -> None:
    st.markdown("**Roofline of operators, from their shapes** :gray-badge[estimated]")
    st.plotly_chart(
        operator_roofline(placed, roofs, placed.index.tolist()),
        key="work_roofline",
        config={"displayModeBar": False},
        on_select=lambda: _pick_point(session, work),
        selection_mode="points",
        alt=f"Roofline of {count_text(len(placed), 'operator')}; the table below has their numbers",
    )


def _roofs(session: Session) -> dict[str, Any] | None:
    """Return the limits of the chosen device, else of the first that has some."""
    roofs = [r for r in session.report.work_roofs if session.device in (-1, r["device_key"])]
    return roofs[0] if roofs else None


def _draw_unknown(reason: str, code: str) -> None:
    st.caption(md_prose(reason))
    if code:
        st.code(code, language=None, wrap_lines=True)


def _pick_tile(session: Session, kernels: pd.DataFrame) -> None:
    """Pick the class, operator or kernel whose tile was clicked."""
    points = st.session_state["work_icicle"]["selection"]["points"]
    if not points or not points[0].get("id"):
        return
    work_class, operator, kernel = tile_of(str(points[0]["id"]))
    chosen = kernels["class"] == work_class
    parts = [class_title(work_class)]
    for column, value in (("operator", operator), ("kernel", kernel)):
        if value is not None and (kernels[column] == value).any():
            chosen &= kernels[column] == value
            parts += [name_text(value)] if value else []
    _pick(session, " · ".join(parts), kernels[chosen.to_numpy()])


def _pick_point(session: Session, work: pd.DataFrame) -> None:
    """Pick the operator whose point was clicked."""
    points = st.session_state["work_roofline"]["selection"]["points"]
    if points:
        _pick_row(session, work, int(points[0]["customdata"][0]))


def _pick_row(session: Session, work: pd.DataFrame, place: int) -> None:
    row = work.iloc[[place]]
    words = str(row["operator"].iloc[0]) or name_text(str(row["kernel"].iloc[0]))
    shapes = shapes_text(str(row["shapes"].iloc[0]))
    _pick(session, f"{words} {shapes}".strip(), row)


def _pick(session: Session, words: str, rows: pd.DataFrame) -> None:
    """Remember what was clicked: its words, its sums, and its longest launch."""
    if not len(rows):
        return
    longest = rows.iloc[int((rows["end_ns"] - rows["start_ns"]).to_numpy().argmax())]
    st.session_state[PICKED_WORK] = {
        "words": words,
        **{name: int(rows[name].sum()) for name in (*TIMES_NS, "launches")},
        "kernel": name_text(str(longest["kernel"])),
        "start_ns": int(longest["start_ns"]),
        "end_ns": int(longest["end_ns"]),
        "subject": _subject(session),
    }


def _subject(session: Session) -> str:
    """Return what a pick is of: one of another recording or window must not be taken for it."""
    return json.dumps([session.address, session.device])


def _draw_picked(session: Session, whole_ns: int) -> None:
    """Tell about what was clicked, and lead to its longest launch."""
    picked = st.session_state.get(PICKED_WORK)
    if not isinstance(picked, dict) or picked["subject"] != _subject(session):
        st.caption(
            "Click a tile, a point or the box beside a row to see its numbers and its longest "
            "launch on the timeline."
        )
        return
    with st.container(horizontal=True, vertical_alignment="center", key="work_picked"):
        st.markdown(
            f"**{md_escape(visible(picked['words'], NAME_ROOM))}** · "
            f"{time_text(picked['busy_ns'])}, {share_text(picked['busy_ns'], whole_ns)} of the "
            f"kernel time, {count_text(picked['launches'], 'launch')} · "
            f"{md_prose(efficiency_words(picked))} · longest launch: "
            f"{md_escape(visible(picked['kernel'], NAME_ROOM))}"
        )
        mark = f"{picked['start_ns']}-{picked['end_ns']}"
        st.page_link(
            "timeline.py",
            label="Show its longest launch on the timeline",
            query_params=session.address | {"mark": mark},
        )


# --- the table -----------------------------------------------------------------------------------


def draw_work_table(session: Session, work: pd.DataFrame) -> None:
    """Draw operators with their shapes, whose rows can be picked."""
    text = st.text_input(
        "Filter",
        placeholder="Filter by operator, shape, class or kernel",
        key="work_filter",
        label_visibility="collapsed",
    )
    listed = matching_work(work, text or "")
    if not len(listed):
        st.text(f"No operator, shape, class or kernel contains “{visible(text or '', 80)}”.")
        return
    rows = work_table(listed.head(SHOWN_ROWS), int(work["busy_ns"].sum()))
    st.dataframe(
        rows.drop(columns=[c for c in rows.columns if c == LONGEST or _is_empty(rows[c])]),
        hide_index=True,
        column_config=COLUMNS,
        placeholder="",
        key="work_table",
        on_select=lambda: _pick_table_row(session, listed),
        selection_mode="single-row",
        height=TABLE_HEIGHT_PX if len(rows) > ROWS_THAT_FIT else "content",
        alt="Operators with their shapes by kernel time",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{count_text(len(listed), 'row')}, {md_escape(session.report.window.label)}; "
            "in parentheses: kernels outside of operators. Operations and bytes are those of one "
            "call, the least that its shapes allow."
        )
        st.download_button(
            "Download CSV",
            lambda: csv(listed.drop(columns=["is_above_roof"])),
            "operators.csv",
            "text/csv",
            key="work_csv",
            on_click="ignore",  # a run of the page would forget the file that is being made
        )


def _is_empty(column: pd.Series) -> bool:
    """Tell whether a column says nothing in any row, as shapes that were not recorded."""
    return bool((column.isna() | (column == "")).all())


def _pick_table_row(session: Session, listed: pd.DataFrame) -> None:
    rows = st.session_state["work_table"]["selection"]["rows"]
    if rows and rows[0] < len(listed):
        _pick_row(session, listed, rows[0])


def matching_work(work: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return the rows whose operator, shapes, class or kernel contain ``text``, most time first."""
    if not text:
        return work
    shapes = work["shapes"].map(lambda one: shapes_text(one, 99))
    titles = work["class"].map(class_title)
    hit = np.zeros(len(work), dtype=bool)
    for column in (work["operator"], work["kernel"], work["class"], titles, shapes):
        hit |= column.str.contains(text, case=False, regex=False).to_numpy()
    return work[hit].reset_index(drop=True)


def work_table(work: pd.DataFrame, whole_ns: int) -> pd.DataFrame:
    """Return the work in the units of the page; what is not known is empty.

    Args:
        work: As ``device_work``.
        whole_ns: The kernel time that shares are parts of.
    """
    modelled = (work["roof_ns"] + work["below_roof_ns"]).to_numpy()
    is_modelled = modelled > 0
    seconds = np.maximum(work["busy_ns"].to_numpy() * 1e-9, 1e-9)

    def where_modelled(values: Any) -> Any:
        return np.where(is_modelled, values, np.nan)

    return pd.DataFrame(
        {
            "operator": [_operator_name(r) for r in work.to_dict("records")],
            "shapes": [visible(shapes_text(text), SHAPE_ROOM) for text in work["shapes"]],
            "type": work["type"].to_numpy(),
            "launches": work["launches"].to_numpy(),
            "time": ns_to_ms(work["busy_ns"]),
            "share": work["busy_ns"].to_numpy() * 100 / max(whole_ns, 1),
            "roof": where_modelled(work["roof_ns"].to_numpy() * 100 / np.maximum(modelled, 1)),
            "below": where_modelled(ns_to_ms(work["below_roof_ns"])),
            "bound": work["bound"].replace("none", "").to_numpy(),
            "tflops": where_modelled(_or_nothing(work["flop"]) / seconds / 1e12),
            "tbs": where_modelled(work["bytes"].to_numpy() / seconds / 1e12),
            "gflop": _or_nothing(work["flop_each"]) / 1e9,
            "mb": work["bytes_each"].to_numpy(float) / 1e6,
            "kernel": [visible(name_text(str(k)), NAME_ROOM) for k in work["kernel"]],
        }
    )


def _or_nothing(flop: pd.Series) -> Any:
    """Return operations; those of a kernel whose operations nobody counts are unknown, not 0."""
    values = flop.to_numpy(float)
    return np.where(values > 0, values, np.nan)


def _operator_name(row: Mapping[Any, Any]) -> str:
    if row["operator"]:
        return visible(str(row["operator"]), NAME_ROOM)
    return f"({visible(name_text(str(row['kernel'])), NAME_ROOM)})"
