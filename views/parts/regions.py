"""The ledger by region of the program, as a table whose colours are the amounts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from analyzers.finding import Row
from analyzers.ledger.booking import ROWS
from analyzers.ledger.regions import OUTSIDE
from analyzers.report import Report
from analyzers.words import share_text, time_text
from views.charts.ledger import ROW_COLORS, ROW_MEANINGS, ROW_ORDER
from views.shared.markdown import md_escape
from views.shared.session import Session
from views.shared.units import visible

SHOWN_REGIONS = 12
NAME_ROOM = 90
MIN_COLUMN_SHARE = 0.0005  # of all; a column of zeros tells nothing
STRONGEST = 0.62  # opacity of the largest cell; text must stay readable
FEW_REGIONS = 3  # a level with no more says less than a finer one
OUTSIDE_WORDS = "outside any region"
REST_WORDS = "all other regions"
REGION, TOTAL = "region", "total"
LEVEL_LABELS = {
    "ranges": "Ranges",
    "innermost ranges": "Innermost ranges",
    "operators": "Operators",
}


def draw_regions(session: Session) -> None:
    """Show where in the program each cause costs time, and a way to the place."""
    matrix = session.regions()
    if session.device >= 0:
        matrix = matrix[(matrix["device"] == session.device).to_numpy()]
    st.subheader("Where in the program", anchor=False)
    has_regions = any(session.trace.count(table) for table in ("ranges", "operators"))
    if not len(matrix) and has_regions and session.report.devices:
        st.write(
            "This window is too long to split by region: choose an iteration or a range above."
        )
        return
    if not len(matrix):
        st.write("The recording has neither ranges nor operators. To see regions, mark them:")
        st.code('with nvtx.annotate("forward"): ...', language="python")
        return
    level = _draw_level_picker(matrix)
    table = heat_table(matrix[(matrix["level"] == level).to_numpy()])
    iterations = iterations_in(session.report)
    per = iterations or 1.0
    event = st.dataframe(
        styled(table, per),
        hide_index=True,
        height="content",
        key="regions",
        on_select="rerun",
        selection_mode="single-cell",
        column_config=_columns(table),
        alt="Milliseconds by region of the program and by cause",
    )
    count = f"{iterations:,.1f}".removesuffix(".0")
    each = f"ms per iteration, of {count}" if iterations else "ms in all"
    split = " Counters split each launch's own time." if session.counters else ""
    st.caption(
        f"{each}; rows and columns sum to the ledger. Idle time counts towards the region "
        f"that submitted the work that ended it.{split} Click a cell to see its longest "
        "stretch."
    )
    _draw_picked_cell(session, matrix[(matrix["level"] == level).to_numpy()], table, event)


def _draw_level_picker(matrix: pd.DataFrame) -> str:
    """Ask for the kind of region; first the coarsest that tells several apart."""
    count = matrix.groupby("level")["name"].nunique()
    levels = [one for one in LEVEL_LABELS if one in count.index]
    first = next((level for level in levels if count[level] > FEW_REGIONS), levels[0])
    if len(levels) < 2:
        return levels[0]
    chosen = st.segmented_control(
        "Regions",
        levels,
        default=first,
        format_func=lambda level: LEVEL_LABELS[level],
        key="region_level",
        label_visibility="collapsed",
    )
    return str(chosen or first)


def iterations_in(report: Report) -> float:
    """Return how many iterations lie in the window; of one that reaches out, the part inside."""
    start, end = report.window.span
    return sum(
        max(min(i.end_ns, end) - max(i.start_ns, start), 0) / max(i.end_ns - i.start_ns, 1)
        for i in report.iterations
    )


def heat_table(matrix: pd.DataFrame) -> pd.DataFrame:
    """Return nanoseconds by region and cause: the largest regions, then the rest as one row.

    The index is the region's name as the recording has it; ``OUTSIDE_WORDS`` and ``REST_WORDS``
    stand for what has none. The columns are rows of the ledger, ``total`` last.
    """
    table = matrix.pivot_table(
        index="name", columns="row", values="ns", aggfunc="sum", fill_value=0
    ).rename(columns=lambda code: ROWS[int(code)].value)
    order = [row.value for row in ROW_ORDER if row.value in table.columns]
    whole = int(table.to_numpy().sum())
    kept = [c for c in order if int(table[c].sum()) >= MIN_COLUMN_SHARE * whole]
    table = table[order].assign(total=table.sum(axis=1))
    table = table.sort_values([TOTAL], ascending=False, kind="stable")
    named = table[table.index != OUTSIDE]
    parts = [named.head(SHOWN_REGIONS)]
    if len(named) > SHOWN_REGIONS:
        rest = named.iloc[SHOWN_REGIONS:].sum()
        parts.append(pd.DataFrame([rest], index=[REST_WORDS]))
    if OUTSIDE in table.index:
        parts.append(table.loc[[OUTSIDE]].rename(index={OUTSIDE: OUTSIDE_WORDS}))
    return pd.concat(parts)[[*kept, TOTAL]]


def styled(table: pd.DataFrame, per: float) -> Styler:
    """Return ``table`` in milliseconds of one iteration, each cell as strong as it is large."""
    causes = [c for c in table.columns if c != TOTAL]
    largest = max(int(table[causes].to_numpy().max()), 1)
    in_ms = (table / per / 1e6).reset_index(drop=True)
    in_ms.insert(0, REGION, [visible(str(name), NAME_ROOM) for name in table.index])
    shades = pd.DataFrame("", index=in_ms.index, columns=in_ms.columns)
    for cause in causes:
        shades[cause] = [_shade(cause, int(ns) / largest) for ns in table[cause]]
    return in_ms.style.format(dict.fromkeys([*causes, TOTAL], _ms_text)).apply(
        lambda _: shades.to_numpy(), axis=None
    )


def _shade(column: str, part: float) -> str:
    if part < 0.005:
        return "color: rgba(128,136,146,0.9)"
    red, green, blue = (int(ROW_COLORS[Row(column)][i : i + 2], 16) for i in (1, 3, 5))
    opacity = 0.08 + (STRONGEST - 0.08) * part**0.5
    return f"background-color: rgba({red},{green},{blue},{opacity:.2f})"


def _ms_text(cell: object) -> str:
    value = float(str(cell))
    if value == 0:
        return "·"
    return "< 0.01" if value < 0.01 else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    columns: dict[str, Any] = {REGION: st.column_config.TextColumn(REGION, width="medium")}
    columns |= {
        name: st.column_config.NumberColumn(name, width="small", help=ROW_MEANINGS[Row(name)])
        for name in table.columns
        if name != TOTAL
    }
    return columns


def _draw_picked_cell(
    session: Session, matrix: pd.DataFrame, table: pd.DataFrame, event: object
) -> None:
    """Tell about the cell that was clicked, and lead to its place."""
    cells = event["selection"].get("cells", ()) if isinstance(event, dict) else ()
    if not cells:
        return
    row, column = int(cells[0][0]), str(cells[0][1]).replace(REGION, TOTAL)
    if row >= len(table) or column not in table.columns:
        return
    region = str(table.index[row])
    place = place_of(matrix, table, region, column)
    if place is None:
        return
    ns = int(table[column].iloc[row])
    share = share_text(ns, int(table[TOTAL].sum()))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{md_escape(visible(region, NAME_ROOM))}** · {md_escape(column)}: "
            f"{time_text(ns)} in all, {share}"
        )
        mark = f"{int(place['start_ns'])}-{int(place['end_ns'])}"
        address = session.address | {"mark": mark}
        st.page_link(
            "timeline.py",
            label="Show its longest stretch on the timeline",
            query_params={key: value for key, value in address.items() if value},
        )


def place_of(
    matrix: pd.DataFrame, table: pd.DataFrame, region: str, column: str
) -> pd.Series | None:
    """Return the longest stretch of a cell of the table; None when there is nothing in it."""
    if region == REST_WORDS:
        in_cell = ~matrix["name"].isin([*table.index, OUTSIDE])
    else:
        in_cell = matrix["name"] == (OUTSIDE if region == OUTSIDE_WORDS else region)
    if column != TOTAL:
        in_cell &= matrix["row"] == ROWS.index(Row(column))
    rows = matrix[in_cell.to_numpy()]
    if not len(rows):
        return None
    return rows.iloc[int((rows["end_ns"] - rows["start_ns"]).to_numpy().argmax())]
