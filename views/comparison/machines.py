"""What lies below the program: its parts of the change, by class of work, and both GPUs' limits."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analyzers.compare.types import Comparison
from reports.comparison_words import mean_text
from reports.document import DocumentTable
from reports.machines import class_table, limit_table, machine_title, parts_sentence
from views.shared.markdown import md_escape
from views.shared.session import draw_prose
from views.shared.units import visible

NAME_ROOM = 60


def draw_machines(comparison: Comparison) -> None:
    """Draw what differs below the program; nothing where nothing does."""
    machines = comparison.machines
    if machines is None:
        return
    st.subheader(md_escape(machine_title(machines)), anchor=False)
    draw_prose(parts_sentence(machines, mean_text(comparison)))
    for name, table in (("classes", class_table(machines)), ("limits", limit_table(machines))):
        if table.rows:
            st.dataframe(_frame(table), hide_index=True, key=f"compare_machines_{name}")


def _frame(table: DocumentTable) -> pd.DataFrame:
    names = [visible(column.name, NAME_ROOM) for column in table.columns]
    cells = [[visible(cell.text, NAME_ROOM) for cell in row] for row in table.rows]
    frame = pd.DataFrame(cells, columns=range(len(names)))
    return frame.set_axis(names, axis=1)
