"""What changed, as tables: kernels, regions of the program, metrics."""

from __future__ import annotations

import streamlit as st

from analyzers.compare.types import Comparison
from analyzers.ledger.regions import OUTSIDE
from analyzers.words import count_text, time_text
from reports.comparison_words import each_text, group_titles, mean_text
from reports.numbers import signed_text
from reports.work_changes import hidden_words, work_change_name, work_sentence
from views.comparison.evidence import PickedChange
from views.comparison.pickers import NAME_ROOM
from views.comparison.picks import pick, selected
from views.comparison.tables import (
    changed_only,
    kernels_table,
    metrics_table,
    questions_table,
    region_matrix,
    region_table,
    work_change_table,
)
from views.parts.regions import LEVEL_LABELS, OUTSIDE_WORDS
from views.shared.markdown import md_escape
from views.shared.session import draw_prose
from views.shared.units import visible

SHOWN_KERNELS = 200
QUESTIONS, WORK = "In short", "Work"


def draw_tables(comparison: Comparison) -> None:
    """Draw a tab for each kind of thing that can change."""
    labels = {QUESTIONS: bool(comparison.sub_results)}
    labels |= {WORK: any(c.time.base or c.time.new for c in comparison.work)}
    labels |= {"Kernels": bool(comparison.kernels), "Regions": bool(comparison.regions)}
    labels |= {
        words: any(m.group == group for m in comparison.metrics)
        for group, words in group_titles(comparison).items()
    }
    titles = [label for label, has in labels.items() if has]
    if not titles:
        return
    st.subheader("What changed", anchor=False)
    tabs = st.tabs([md_escape(label) for label in titles], key="compare_tabs")
    for label, tab in zip(titles, tabs, strict=True):
        with tab:
            if label == QUESTIONS:
                _draw_questions(comparison)
            elif label == WORK:
                _draw_work(comparison)
            elif label == "Kernels":
                _draw_kernels(comparison)
            elif label == "Regions":
                _draw_regions(comparison)
            else:
                _draw_metrics(comparison, label)


def _draw_questions(comparison: Comparison) -> None:
    """Draw a line for each question that a reader asks."""
    st.dataframe(
        questions_table(comparison), hide_index=True, height="content", key="compare_questions"
    )
    st.caption(
        f"Times {md_escape(each_text(comparison))}. *In these two runs* is sure of them alone; "
        "runs may differ by as much. *Not tested*: nothing measured how much it varies."
    )


def _draw_work(comparison: Comparison) -> None:
    """Draw the kernel time by class and shape: what is slower, and what is more."""
    draw_prose(work_sentence(comparison.work, each_text(comparison)))
    changes = [c for c in comparison.work if c.time.change or c.time.base]
    listed = changes[:SHOWN_KERNELS]
    event = st.dataframe(
        work_change_table(listed),
        hide_index=True,
        key="compare_work",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "operator": st.column_config.TextColumn("operator", width="medium"),
            "shapes": st.column_config.TextColumn("shapes", width="medium"),
            "from speed": st.column_config.NumberColumn(
                "from speed", help="Calls of the same work take longer or shorter."
            ),
            "from amount": st.column_config.NumberColumn(
                "from amount", help="More or fewer calls, at the baseline's time for each."
            ),
        },
    )
    st.caption(
        f"Microseconds, {md_escape(mean_text(comparison))}; all rows sum to the kernel time of "
        "each side, and both parts of a change to the change."
        + md_escape(hidden_words(changes, SHOWN_KERNELS))
        + " Click a row to see both recordings at its longest launch."
    )
    rows = selected(event, "rows")
    if rows and rows[0] < len(listed):
        change = listed[rows[0]]
        before, now = time_text(change.time.base), time_text(change.time.new)
        name = visible(work_change_name(change), NAME_ROOM)
        words = f"{name}: {before} before, {now} now"
        evidence = PickedChange(words=words, base=change.base_place, new=change.new_place)
        if pick("work", evidence):
            st.rerun(scope="fragment")  # the canvas stands above


def _draw_kernels(comparison: Comparison) -> None:
    kernels, each = comparison.kernels, each_text(comparison)
    changed = changed_only(kernels)
    only = False
    if 0 < len(changed) < len(kernels):
        only = st.toggle("Only what changed", value=True, key="compare_changed_only")
    listed = (changed if only else list(kernels))[:SHOWN_KERNELS]
    event = st.dataframe(
        kernels_table(listed, comparison),
        hide_index=True,
        key="compare_kernels",
        on_select="rerun",
        selection_mode="single-row",
        column_config={"kernel": st.column_config.TextColumn("kernel", width="large")},
    )
    more = len(changed if only else kernels) - len(listed)
    st.caption(
        f"{count_text(len(kernels), 'kernel')}, {len(changed)} with a change above the "
        f"noise; only those are coloured. Microseconds {md_escape(each)}; p is adjusted for the "
        "number of rows (Benjamini-Hochberg)."
        + (f" {count_text(more, 'smaller change')} not shown." if more > 0 else "")
        + " Click a row to see both recordings at its longest launch."
    )
    rows = selected(event, "rows")
    if rows and rows[0] < len(listed):
        kernel = listed[rows[0]]
        before, now = time_text(kernel.time.base), time_text(kernel.time.new)
        words = f"{visible(kernel.short_name, NAME_ROOM)}: {before} before, {now} now"
        evidence = PickedChange(words=words, base=kernel.base_place, new=kernel.new_place)
        if pick("kernel", evidence):
            st.rerun(scope="fragment")  # the canvas stands above


def _draw_regions(comparison: Comparison) -> None:
    present = {r.level for r in comparison.regions}
    levels = [one for one in LEVEL_LABELS if one in present]
    level = levels[0]
    if len(levels) > 1:
        level = str(
            st.segmented_control(
                "Regions",
                levels,
                default=levels[0],
                format_func=lambda one: LEVEL_LABELS[one],
                key="compare_level",
                label_visibility="collapsed",
            )
            or levels[0]
        )
    of_level = [r for r in comparison.regions if r.level == level]
    changes, certain = region_matrix(of_level)
    event = st.dataframe(
        region_table(changes, certain),
        hide_index=True,
        height="content",
        key="compare_regions",
        on_select="rerun",
        selection_mode="single-cell",
        alt="Change in milliseconds by region of the program and by cause",
    )
    st.caption(
        f"Change in ms {md_escape(each_text(comparison))} by region and by row of the ledger: blue "
        "is less, "
        "orange is more; grey is within the noise, or was not tested. "
        "Click a cell to see both recordings there."
    )
    cells = selected(event, "cells")
    if not cells or int(cells[0][0]) >= len(changes):
        return
    name, row = str(changes.index[int(cells[0][0])]), str(cells[0][1])
    change = next((r for r in of_level if r.name == name and r.row.value == row), None)
    if change is not None:
        where = OUTSIDE_WORDS if name == OUTSIDE else visible(name, NAME_ROOM)
        words = f"{where}, {row}: {signed_text(change.time.change)}"
        evidence = PickedChange(words=words, base=change.base_place, new=change.new_place)
        if pick("region", evidence):
            st.rerun(scope="fragment")


def _draw_metrics(comparison: Comparison, label: str) -> None:
    group = next(g for g, words in group_titles(comparison).items() if words == label)
    st.dataframe(
        metrics_table([m for m in comparison.metrics if m.group == group]),
        hide_index=True,
        key=f"compare_metrics_{group}",
    )
