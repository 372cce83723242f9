"""Is it really faster, where did the time go, and can that be trusted: two sides, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from analyzers.compare.types import Comparison, ComparisonVerdict, KernelChange, Level, WaterfallRow
from analyzers.finding import Row
from analyzers.ledger.regions import OUTSIDE
from analyzers.words import count_text, split_sentence, time_text
from collectors.errors import TraceError
from collectors.trace import Trace
from library import cache
from reports.comparison import assumptions, measured_sentence, no_gain_sentence, replay_sentence
from reports.comparison_words import GROUPS, blocking, differences, shown_rows, signed_text, tools
from views.charts.compare import (
    samples_figure,
    samples_words,
    warm_up_is_cut,
    waterfall_figure,
    waterfall_is_cropped,
    waterfall_words,
)
from views.comparison.evidence import PickedChange, draw_evidence
from views.comparison.session import (
    ComparisonSelection,
    adopt,
    answer,
    choices,
    forecast,
    forecast_in_the_end,
    known_devices,
    windows_of,
    write_address,
)
from views.comparison.tables import (
    OUTSIDE_WORDS,
    changed_only,
    comparability_table,
    kernels_table,
    metrics_table,
    predictions_table,
    region_matrix,
    region_table,
)
from views.shared.report_download import BESIDE_REPORT, draw_comparison_download
from views.shared.session import draw_prose
from views.shared.style import write_verdict_color
from views.shared.units import md_escape, md_prose, visible

PICKERS = (3, 3, 2)  # widths
BASE_KEY, NEW_KEY = "compare_base", "compare_new"
PART_KEY, DEVICE_KEY = "compare_window", "compare_device"
SHOWN_KERNELS = 200
NAME_ROOM = 60
TINTS = {ComparisonVerdict.IMPROVED: "healthy", ComparisonVerdict.REGRESSED: Row.SYNC.value}
PICKED, PICKS, PICKED_OF = "compare_evidence", "compare_seen", "compare_evidence_of"
LEVEL_LABELS = {
    "ranges": "Ranges",
    "innermost ranges": "Innermost ranges",
    "operators": "Operators",
}


def page() -> None:
    """Draw the page."""
    recordings = choices()
    if len(recordings) < 2:
        _draw_too_few(recordings)
        return
    selection = adopt(recordings)
    _draw_pickers(recordings, selection)
    write_address(selection)
    if not selection.is_complete:
        st.header("Which two are compared?", anchor=False)
        st.write(
            "Choose the recordings of the program before the change as baseline, and those after "
            "it as new. Several of one side make the answer surer: they show how much runs differ."
        )
        return
    st.fragment(_draw_comparison)(selection)


def _draw_too_few(recordings: Sequence[Trace]) -> None:
    st.header("Nothing to compare yet", anchor=False)
    count = "one is" if recordings else "none is"
    st.write(
        f"A comparison takes two recordings with a timeline, and {count} open: one of the program "
        "before a change, one after it. Mark the iteration, so that both are cut alike:"
    )
    st.code('with nvtx.annotate("step"): ...', language="python")
    st.write("and record both in the same way, more than once each if you can:")
    st.code(
        "nsys profile -t cuda,nvtx,osrt -o baseline your_program\n"
        "nsys profile -t cuda,nvtx,osrt -o optimized your_changed_program",
        language=None,
    )
    st.page_link("open.py", label="Open recordings")
    st.write(
        "To try it at once, open the samples `synthetic_pair_baseline.sqlite` and, after it, "
        "`synthetic_pair_optimized.sqlite`: one training step before and after a change."
    )


def _draw_pickers(recordings: Sequence[Trace], selection: ComparisonSelection) -> None:
    names = _labels(recordings)
    left, right, part = st.columns(PICKERS, gap="small")
    with left:
        _draw_side_picker("Baseline", BASE_KEY, names, selection.base)
    with right:
        _draw_side_picker("New", NEW_KEY, names, selection.new)
    windows = {"": "Iterations as found", **windows_of(selection)}
    if selection.window:
        windows.setdefault(selection.window, visible(selection.window, NAME_ROOM))
    st.session_state[PART_KEY] = selection.window
    with part:
        st.selectbox(
            "Compared part",
            list(windows),
            format_func=lambda w: windows.get(w, w),
            key=PART_KEY,
            on_change=_picked,
            accept_new_options=True,
            help="Type nvtx:NAME for every range of that name, or a window as of diagnose.",
        )
        _draw_device_picker(selection)


def _picked() -> None:
    """Write what the reader picked to the address, from which the page is then drawn."""
    chosen = st.session_state
    write_address(
        ComparisonSelection(
            base=tuple(chosen[BASE_KEY]),
            new=tuple(chosen[NEW_KEY]),
            window=str(chosen[PART_KEY] or ""),
            device=int(chosen.get(DEVICE_KEY, -1)),
        )
    )


def _draw_side_picker(label: str, key: str, names: dict[str, str], chosen: tuple[str, ...]) -> None:
    options = [*names, *(i for i in chosen if i not in names)]
    st.session_state[key] = list(chosen)
    st.multiselect(
        label,
        options,
        format_func=lambda i: names.get(i) or _stranger(i),
        key=key,
        on_change=_picked,
        placeholder=f"{label}: choose recordings",
    )


def _stranger(trace_id: str) -> str:
    """Return what to call a recording that the address names and that is not offered."""
    try:
        name = cache.get(trace_id).source.name
    except (TraceError, OSError):
        return f"{visible(trace_id, 20)} (not in the library)"
    return f"{visible(name, NAME_ROOM)} (without a timeline)"


def _labels(recordings: Sequence[Trace]) -> dict[str, str]:
    names = [visible(t.source.name, NAME_ROOM) for t in recordings]
    return {
        t.id: name if names.count(name) == 1 else f"{name} · {t.id[:6]}"
        for t, name in zip(recordings, names, strict=True)
    }


def _draw_device_picker(selection: ComparisonSelection) -> None:
    devices = known_devices(selection)
    if len(devices) < 2:
        return
    st.session_state[DEVICE_KEY] = min(max(selection.device, 0), len(devices) - 1)
    st.selectbox(
        "Device",
        range(len(devices)),
        format_func=lambda number: visible(devices[number], NAME_ROOM),
        key=DEVICE_KEY,
        on_change=_picked,
        label_visibility="collapsed",
    )


def _draw_comparison(selection: ComparisonSelection) -> None:
    """Show the answer, or how far it is."""
    comparison = answer(selection)
    if comparison is None:
        return
    if st.session_state.get(PICKED_OF) != selection:  # what was clicked belongs to other recordings
        st.session_state[PICKED_OF] = selection
        st.session_state[PICKED], st.session_state[PICKS] = None, {}
    left, right = st.columns(BESIDE_REPORT, gap="small")
    with right:
        draw_comparison_download(
            selection.base,
            selection.new,
            comparison,
            lambda: forecast_in_the_end(selection, comparison),
        )
    with left:
        _draw_verdict(comparison)
    if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
        _draw_obstacles(comparison)
        return
    _draw_waterfall(comparison)
    _draw_picked_change(comparison)
    _draw_tables(comparison)
    _draw_samples(comparison)
    _draw_forecast(selection, comparison)
    _draw_comparability(comparison)
    _draw_notes(comparison)


def _draw_verdict(comparison: Comparison) -> None:
    write_verdict_color(TINTS.get(comparison.verdict, ""))
    with st.container(key="verdict"):
        first, rest = split_sentence(comparison.sentence)
        st.header(md_prose(first), anchor=False)
        if rest:
            draw_prose(rest)
        if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
            return
        if tool_names := tools(comparison):
            st.markdown(f":orange-badge[different tools] {md_prose(tool_names)}")
        for difference in differences(comparison):
            if difference.level is Level.WARNING and difference.what != "tool":
                st.markdown(f":orange-badge[with care] {md_prose(difference.sentence)}")
        st.caption(md_escape(" · ".join(_facts(comparison))))


def _facts(comparison: Comparison) -> list[str]:
    facts = []
    for words, side in (("baseline", comparison.base), ("new", comparison.new)):
        count = sum(len(samples) for samples in side.samples_ns)
        of = count_text(len(side.recordings), "recording")
        median = "" if side.median_ns is None else f", {time_text(side.median_ns)} each"
        facts.append(f"{words}: {count_text(count, 'iteration')} of {of}{median}")
    detectable = comparison.delta.detectable if comparison.delta else None
    if detectable is not None:
        facts.append(f"would have found {time_text(detectable)} or more")
    if comparison.device:
        facts.append(visible(comparison.device, NAME_ROOM))
    return facts


def _draw_obstacles(comparison: Comparison) -> None:
    """Say only what forbids an answer: any number would mislead."""
    st.subheader("Why they cannot be compared", anchor=False)
    for difference in blocking(comparison):
        st.markdown(f":red-badge[forbids it] {md_prose(difference.sentence)}")
        if (
            difference.base and difference.new
        ):  # else it is about one side, and the sentence says so
            st.caption(
                f"baseline: {md_escape(visible(difference.base, 200))} · "
                f"new: {md_escape(visible(difference.new, 200))}"
            )


def _draw_waterfall(comparison: Comparison) -> None:
    if comparison.delta is None or not comparison.waterfall:
        return
    st.subheader("Where the change comes from, per iteration", anchor=False)
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
        f"{cropped}The bars sum exactly to {md_escape(total)}; a pale one may "
        "be chance. Click a bar to see both recordings where it costs most."
    )
    name = _clicked_bar(event)
    _pick("bar", next((_change_of_row(r) for r in comparison.waterfall if r.row == name), None))


def _clicked_bar(event: object) -> str:
    points = _selected(event, "points")
    row = points[0].get("customdata") if points else None
    return str(row[0]) if row else ""


def _selected(event: object, what: str) -> list[Any]:
    """Return what is selected in a chart or a table."""
    return list(event["selection"].get(what, ())) if isinstance(event, dict) else []


def _change_of_row(row: WaterfallRow) -> PickedChange:
    words = f"{row.row}: {time_text(row.base_ns)} before, {time_text(row.new_ns)} now"
    return PickedChange(words=words, base=row.base_place, new=row.new_place)


def _pick(source: str, evidence: PickedChange | None) -> bool:
    """Show this evidence from now on, and tell whether it is another one.

    A selection stays selected while the reader clicks elsewhere; only its change counts.
    """
    picks = st.session_state.setdefault(PICKS, {})
    if evidence == picks.get(source):
        return False
    picks[source] = evidence
    if evidence is None or evidence == st.session_state.get(PICKED):
        return False
    st.session_state[PICKED] = evidence
    return True


def _draw_picked_change(comparison: Comparison) -> None:
    rows = [comparison.waterfall[n] for n in shown_rows(comparison)]
    places = [r for r in rows if r.base_place or r.new_place]
    if not places and comparison.base.typical is None:
        return
    largest = max(places, key=lambda r: abs(r.change_ns), default=None)
    picked = st.session_state.get(PICKED)
    evidence = picked if isinstance(picked, PickedChange) else None
    if evidence is None and largest is not None:
        evidence = _change_of_row(largest)
    if evidence is None:
        evidence = PickedChange(
            words="a typical iteration", base=comparison.base.typical, new=comparison.new.typical
        )
    st.subheader("Both recordings at the evidence", anchor=False)
    with st.container(key="compare_evidence_words"):
        st.caption(md_prose(f"{evidence.words}; both begin at the same place of the axis."))
    draw_evidence(comparison, evidence)


def _draw_samples(comparison: Comparison) -> None:
    if not any(comparison.base.samples_ns) or not any(comparison.new.samples_ns):
        return
    st.subheader("Every iteration", anchor=False)
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
        st.caption("Triangles: warm-up beyond the axis.")


def _draw_forecast(selection: ComparisonSelection, comparison: Comparison) -> None:
    st.subheader("What if, predicted from the baseline alone", anchor=False)
    what_if = forecast(selection, comparison)
    if what_if is None:
        return
    st.caption(md_prose(replay_sentence(what_if)))
    if what_if.replay.reason:
        draw_prose(f"Nothing is predicted: {what_if.replay.reason}")
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
    with st.expander("What the predictions rest on"):
        for sentence in assumptions(what_if):
            draw_prose(sentence)


def _draw_tables(comparison: Comparison) -> None:
    labels = {"Kernels": bool(comparison.kernels), "Regions": bool(comparison.regions)}
    labels |= {
        words: any(m.group == group for m in comparison.metrics) for group, words in GROUPS.items()
    }
    titles = [label for label, has in labels.items() if has]
    if not titles:
        return
    st.subheader("What changed", anchor=False)
    tabs = st.tabs([md_escape(label) for label in titles], key="compare_tabs")
    for label, tab in zip(titles, tabs, strict=True):
        with tab:
            if label == "Kernels":
                _draw_kernels(comparison.kernels)
            elif label == "Regions":
                _draw_regions(comparison)
            else:
                _draw_metrics(comparison, label)


def _draw_kernels(kernels: Sequence[KernelChange]) -> None:
    changed = changed_only(kernels)
    only = False
    if 0 < len(changed) < len(kernels):
        only = st.toggle("Only what changed", value=True, key="compare_changed_only")
    listed = (changed if only else list(kernels))[:SHOWN_KERNELS]
    event = st.dataframe(
        kernels_table(listed),
        hide_index=True,
        key="compare_kernels",
        on_select="rerun",
        selection_mode="single-row",
        column_config={"kernel": st.column_config.TextColumn("kernel", width="large")},
    )
    more = len(changed if only else kernels) - len(listed)
    st.caption(
        f"{count_text(len(kernels), 'kernel')}, {len(changed)} with a change above the noise, "
        "which alone is coloured. Microseconds per iteration; p is adjusted for the number of rows "
        "(Benjamini-Hochberg)."
        + (f" {count_text(more, 'smaller change')} not shown." if more > 0 else "")
        + " Click a row to see both recordings at its longest launch."
    )
    rows = _selected(event, "rows")
    if rows and rows[0] < len(listed):
        kernel = listed[rows[0]]
        before, now = time_text(kernel.time.base), time_text(kernel.time.new)
        words = f"{visible(kernel.short_name, NAME_ROOM)}: {before} before, {now} now"
        evidence = PickedChange(words=words, base=kernel.base_place, new=kernel.new_place)
        if _pick("kernel", evidence):
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
        "Change in ms per iteration by region and by row of the ledger: blue is less, orange is "
        "more, grey may be chance. Click a cell to see both recordings there."
    )
    cells = _selected(event, "cells")
    if not cells or int(cells[0][0]) >= len(changes):
        return
    name, row = str(changes.index[int(cells[0][0])]), str(cells[0][1])
    change = next((r for r in of_level if r.name == name and r.row.value == row), None)
    if change is not None:
        where = OUTSIDE_WORDS if name == OUTSIDE else visible(name, NAME_ROOM)
        words = f"{where}, {row}: {signed_text(change.time.change)}"
        evidence = PickedChange(words=words, base=change.base_place, new=change.new_place)
        if _pick("region", evidence):
            st.rerun(scope="fragment")


def _draw_metrics(comparison: Comparison, label: str) -> None:
    group = next(g for g, words in GROUPS.items() if words == label)
    st.dataframe(
        metrics_table([m for m in comparison.metrics if m.group == group]),
        hide_index=True,
        key=f"compare_metrics_{group}",
    )


def _draw_comparability(comparison: Comparison) -> None:
    if not comparison.comparability:
        return
    st.subheader("Can they be compared", anchor=False)
    unlike = sum(d.level is not Level.SAME for d in comparison.comparability)
    unknown = sum(d.level is Level.UNKNOWN for d in comparison.comparability)
    st.caption(
        f"{len(comparison.comparability)} properties looked at: {unlike - unknown:d} not the same, "
        f"{unknown:d} not recorded."
    )
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
        st.subheader("Could not tell", anchor=False)
        for note in notes:
            draw_prose(note)
    if comparison.how:
        with st.expander("How the numbers were made"):
            for sentence in comparison.how:
                draw_prose(sentence)


page()
