"""Is it really faster, where did the time go, and can that be trusted: two sides, side by side."""

from __future__ import annotations

import streamlit as st

from analyzers.compare.types import Comparison, ComparisonVerdict, Level
from analyzers.words import count_text
from reports.comparison_words import each_text, has_iterations
from reports.numbers import signed_text
from reports.whatif import assumptions, measured_sentence, no_gain_sentence, replay_sentence
from views.charts.compare import (
    samples_figure,
    samples_words,
    warm_up_is_cut,
    waterfall_figure,
    waterfall_is_cropped,
    waterfall_words,
)
from views.comparison.changes import draw_tables
from views.comparison.empty import draw_no_choice, draw_too_few
from views.comparison.largest import draw_largest
from views.comparison.machines import draw_machines
from views.comparison.pickers import draw_pickers
from views.comparison.picks import (
    change_of_row,
    draw_picked_change,
    forget_picks_of_others,
    pick,
    selected,
)
from views.comparison.session import (
    ComparisonSelection,
    adopt,
    answer,
    answer_place,
    choices,
    forecast,
    forecast_in_the_end,
    forecast_place,
    write_address,
)
from views.comparison.tables import (
    comparability_table,
    predictions_table,
)
from views.comparison.verdict import draw_obstacles, draw_verdict
from views.shared.markdown import md_escape, md_prose
from views.shared.report_download import BESIDE_REPORT, draw_comparison_download
from views.shared.session import draw_prose
from views.shared.units import visible

BESIDE_WATERFALL = (7, 4)  # widths of the waterfall and of the largest changes


def page() -> None:
    """Draw the page."""
    recordings = choices()
    if len(recordings) < 2:
        draw_too_few(recordings)
        return
    selection = adopt(recordings)
    draw_pickers(recordings, selection)
    write_address(selection)
    if not selection.is_complete:
        draw_no_choice()
        return
    st.fragment(_draw_comparison)(selection)


def _draw_comparison(selection: ComparisonSelection) -> None:
    """Show the answer once it is there."""
    with answer_place(selection):
        comparison = answer(selection)
        if comparison is not None:
            _draw_answer(selection, comparison)


def _draw_answer(selection: ComparisonSelection, comparison: Comparison) -> None:
    forget_picks_of_others(selection)
    left, right = st.columns(BESIDE_REPORT, gap="small")
    with right:
        draw_comparison_download(
            selection.base,
            selection.new,
            comparison,
            lambda: forecast_in_the_end(selection, comparison),
        )
    with left:
        draw_verdict(comparison)
    if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
        draw_obstacles(comparison)
        return
    waterfall, largest = st.columns(BESIDE_WATERFALL, gap="large")
    with waterfall:
        _draw_waterfall(comparison)
    with largest:
        draw_largest(comparison)
    draw_picked_change(comparison)
    draw_machines(comparison)
    draw_tables(comparison)
    _draw_samples(comparison)
    predictions = st.container()  # which may take longer than all the rest
    _draw_comparability(comparison)
    _draw_notes(comparison)
    with predictions:
        st.subheader("What if: predicted from the baseline alone", anchor=False)
        with forecast_place(selection, comparison):
            _draw_forecast(selection, comparison)


def _draw_waterfall(comparison: Comparison) -> None:
    if comparison.delta is None or not comparison.waterfall:
        return
    st.subheader(f"Where the change comes from, {md_escape(each_text(comparison))}", anchor=False)
    event = st.plotly_chart(
        waterfall_figure(comparison),
        key="compare_waterfall",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt=waterfall_words(comparison),
    )
    total = signed_text(comparison.delta.change)
    cropped = "The axis does not begin at zero. " if waterfall_is_cropped(comparison) else ""
    st.caption(
        f"{cropped}The bars sum exactly to {md_escape(total)}; a pale bar is not sure in general. "
        "Click a bar to see both recordings where it costs most."
    )
    name = _clicked_bar(event)
    pick("bar", next((change_of_row(r) for r in comparison.waterfall if r.row == name), None))


def _clicked_bar(event: object) -> str:
    points = selected(event, "points")
    row = points[0].get("customdata") if points else None
    return str(row[0]) if row else ""


def _draw_samples(comparison: Comparison) -> None:
    if not any(comparison.base.samples_ns) or not any(comparison.new.samples_ns):
        return
    st.subheader("Every iteration" if has_iterations(comparison) else "Every window", anchor=False)
    st.plotly_chart(
        samples_figure(comparison),
        key="compare_samples",
        config={"displayModeBar": False},
        alt=samples_words(comparison),
    )
    for words, side in (("baseline", comparison.base), ("new", comparison.new)):
        reasons = dict.fromkeys(r.warm_up_how for r in side.recordings if r.warm_up_how)
        if reasons:
            st.caption(md_prose(f"Warm-up, {words}: {'; '.join(reasons)}."))
    if warm_up_is_cut(comparison):
        st.caption("Triangles mark warm-up iterations beyond the axis.")


def _draw_forecast(selection: ComparisonSelection, comparison: Comparison) -> None:
    what_if = forecast(selection, comparison)
    if what_if is None:
        return
    st.caption(md_prose(replay_sentence(what_if)))
    if what_if.replay.reason:
        draw_prose(f"No prediction: {what_if.replay.reason}")
    winning = [p for p in what_if.predictions if p.wins]
    if winning:
        st.dataframe(
            predictions_table(winning, comparison),
            hide_index=True,
            key="compare_predictions",
            column_config={"if": st.column_config.TextColumn("if", width="large")},
        )
    if measured := measured_sentence(comparison):
        st.caption(md_escape(measured))
    if no_gain := no_gain_sentence(what_if):
        st.caption(md_escape(visible(no_gain, 500)))
    with st.expander("Assumptions behind the predictions"):
        for sentence in assumptions(what_if):
            draw_prose(sentence)


def _draw_comparability(comparison: Comparison) -> None:
    if not comparison.comparability:
        return
    unlike = sum(d.level is not Level.SAME for d in comparison.comparability)
    unknown = sum(d.level is Level.UNKNOWN for d in comparison.comparability)
    with st.expander(
        f"Can they be compared? {len(comparison.comparability)} properties checked: "
        f"{unlike - unknown:d} differ, {unknown:d} not recorded"
    ):
        st.dataframe(
            comparability_table(comparison),
            hide_index=True,
            height="content",
            key="compare_comparability",
        )


def _draw_notes(comparison: Comparison) -> None:
    sides = (comparison.base, comparison.new)
    warm_ups = {
        r.warm_up_how for side in sides for r in side.recordings if r.warm_up
    }  # at the chart
    notes = [n for n in comparison.notes if not any(how in n for how in warm_ups if how)]
    if notes:
        with st.expander(f"Could not tell, or only with care: {count_text(len(notes), 'note')}"):
            for note in notes:
                draw_prose(note)
    if comparison.how:
        with st.expander("How the numbers were calculated"):
            for sentence in comparison.how:
                draw_prose(sentence)


page()
