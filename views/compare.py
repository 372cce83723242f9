"""Is it really faster, where did the time go, and can that be trusted: two sides, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from analyzers.compare.compare import Comparison, KernelChange, Level, Outcome, WaterfallRow
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
from views.comparison.evidence import Evidence, show_evidence
from views.comparison.session import (
    Asked,
    adopt,
    answer,
    choices,
    forecast,
    forecast_in_the_end,
    known_devices,
    put,
    windows_of,
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
from views.shared.report_download import BESIDE_REPORT, offer_comparison
from views.shared.session import show_prose
from views.shared.style import tint_verdict
from views.shared.units import md_escape, md_prose, visible

PICKERS = (3, 3, 2)  # widths
BASE_KEY, NEW_KEY = "compare_base", "compare_new"
PART_KEY, DEVICE_KEY = "compare_window", "compare_device"
SHOWN_KERNELS = 200
NAME_ROOM = 60
TINTS = {Outcome.IMPROVED: "healthy", Outcome.REGRESSED: Row.SYNC.value}
EVIDENCE, SEEN, OF = "compare_evidence", "compare_seen", "compare_evidence_of"
LEVEL_LABELS = {
    "ranges": "Ranges",
    "innermost ranges": "Innermost ranges",
    "operators": "Operators",
}


def page() -> None:
    """Draw the page."""
    recordings = choices()
    if len(recordings) < 2:
        _too_few(recordings)
        return
    asked = adopt(recordings)
    _pickers(recordings, asked)
    put(asked)
    if not asked.is_complete:
        st.header("Which two are compared?", anchor=False)
        st.write(
            "Choose the recordings of the program before the change as baseline, and those after "
            "it as new. Several of one side make the answer surer: they show how much runs differ."
        )
        return
    st.fragment(_compared)(asked)


def _too_few(recordings: Sequence[Trace]) -> None:
    st.header("Nothing to compare yet", anchor=False)
    opened = "one is" if recordings else "none is"
    st.write(
        f"A comparison takes two recordings with a timeline, and {opened} open: one of the program "
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


def _pickers(recordings: Sequence[Trace], asked: Asked) -> None:
    names = _labels(recordings)
    left, right, part = st.columns(PICKERS, gap="small")
    with left:
        _side("Baseline", BASE_KEY, names, asked.base)
    with right:
        _side("New", NEW_KEY, names, asked.new)
    windows = {"": "Iterations as found", **windows_of(asked)}
    if asked.window:
        windows.setdefault(asked.window, visible(asked.window, NAME_ROOM))
    st.session_state[PART_KEY] = asked.window
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
        _device(asked)


def _picked() -> None:
    """Write what the reader picked to the address, from which the page is then drawn."""
    chosen = st.session_state
    put(
        Asked(
            base=tuple(chosen[BASE_KEY]),
            new=tuple(chosen[NEW_KEY]),
            window=str(chosen[PART_KEY] or ""),
            device=int(chosen.get(DEVICE_KEY, -1)),
        )
    )


def _side(label: str, key: str, names: dict[str, str], chosen: tuple[str, ...]) -> None:
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


def _device(asked: Asked) -> None:
    devices = known_devices(asked)
    if len(devices) < 2:
        return
    st.session_state[DEVICE_KEY] = min(max(asked.device, 0), len(devices) - 1)
    st.selectbox(
        "Device",
        range(len(devices)),
        format_func=lambda number: visible(devices[number], NAME_ROOM),
        key=DEVICE_KEY,
        on_change=_picked,
        label_visibility="collapsed",
    )


def _compared(asked: Asked) -> None:
    """Show the answer, or how far it is."""
    comparison = answer(asked)
    if comparison is None:
        return
    if st.session_state.get(OF) != asked:  # what was clicked belongs to other recordings
        st.session_state[OF] = asked
        st.session_state[EVIDENCE], st.session_state[SEEN] = None, {}
    left, right = st.columns(BESIDE_REPORT, gap="small")
    with right:
        offer_comparison(
            asked.base, asked.new, comparison, lambda: forecast_in_the_end(asked, comparison)
        )
    with left:
        _verdict(comparison)
    if comparison.verdict is Outcome.NOT_COMPARABLE:
        _not_comparable(comparison)
        return
    _waterfall(comparison)
    _evidence(comparison)
    _tables(comparison)
    _samples(comparison)
    _forecast(asked, comparison)
    _comparability(comparison)
    _notes(comparison)


def _verdict(comparison: Comparison) -> None:
    tint_verdict(TINTS.get(comparison.verdict, ""))
    with st.container(key="verdict"):
        first, rest = split_sentence(comparison.sentence)
        st.header(md_prose(first), anchor=False)
        if rest:
            show_prose(rest)
        if comparison.verdict is Outcome.NOT_COMPARABLE:
            return
        if told := tools(comparison):
            st.markdown(f":orange-badge[different tools] {md_prose(told)}")
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


def _not_comparable(comparison: Comparison) -> None:
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


def _waterfall(comparison: Comparison) -> None:
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
    _pick("bar", next((_of_row(r) for r in comparison.waterfall if r.row == name), None))


def _clicked_bar(event: object) -> str:
    points = _selected(event, "points")
    told = points[0].get("customdata") if points else None
    return str(told[0]) if told else ""


def _selected(event: object, what: str) -> list[Any]:
    """Return what is selected in a chart or a table."""
    return list(event["selection"].get(what, ())) if isinstance(event, dict) else []


def _of_row(row: WaterfallRow) -> Evidence:
    words = f"{row.row}: {time_text(row.base_ns)} before, {time_text(row.new_ns)} now"
    return Evidence(words=words, base=row.base_place, new=row.new_place)


def _pick(source: str, evidence: Evidence | None) -> bool:
    """Show this evidence from now on, and tell whether it is another one.

    A selection stays selected while the reader clicks elsewhere; only its change counts.
    """
    seen = st.session_state.setdefault(SEEN, {})
    if evidence == seen.get(source):
        return False
    seen[source] = evidence
    if evidence is None or evidence == st.session_state.get(EVIDENCE):
        return False
    st.session_state[EVIDENCE] = evidence
    return True


def _evidence(comparison: Comparison) -> None:
    rows = [comparison.waterfall[n] for n in shown_rows(comparison)]
    places = [r for r in rows if r.base_place or r.new_place]
    if not places and comparison.base.typical is None:
        return
    largest = max(places, key=lambda r: abs(r.change_ns), default=None)
    picked = st.session_state.get(EVIDENCE)
    evidence = picked if isinstance(picked, Evidence) else None
    if evidence is None and largest is not None:
        evidence = _of_row(largest)
    if evidence is None:
        evidence = Evidence(
            words="a typical iteration", base=comparison.base.typical, new=comparison.new.typical
        )
    st.subheader("Both recordings at the evidence", anchor=False)
    with st.container(key="compare_evidence_words"):
        st.caption(md_prose(f"{evidence.words}; both begin at the same place of the axis."))
    show_evidence(comparison, evidence)


def _samples(comparison: Comparison) -> None:
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
        told = dict.fromkeys(r.warm_up_how for r in side.recordings if r.warm_up_how)
        if told:
            st.caption(md_prose(f"Warm-up, {words}: {'; '.join(told)}."))
    if warm_up_is_cut(comparison):
        st.caption("Triangles: warm-up beyond the axis.")


def _forecast(asked: Asked, comparison: Comparison) -> None:
    st.subheader("What if, predicted from the baseline alone", anchor=False)
    what_if = forecast(asked, comparison)
    if what_if is None:
        return
    st.caption(md_prose(replay_sentence(what_if)))
    if what_if.replay.reason:
        show_prose(f"Nothing is predicted: {what_if.replay.reason}")
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
    if told := no_gain_sentence(what_if):
        st.caption(md_escape(visible(told, 500)))
    with st.expander("What the predictions rest on"):
        for sentence in assumptions(what_if):
            show_prose(sentence)


def _tables(comparison: Comparison) -> None:
    labels = {"Kernels": bool(comparison.kernels), "Regions": bool(comparison.regions)}
    labels |= {
        words: any(m.group == group for m in comparison.metrics) for group, words in GROUPS.items()
    }
    shown = [label for label, has in labels.items() if has]
    if not shown:
        return
    st.subheader("What changed", anchor=False)
    tabs = st.tabs([md_escape(label) for label in shown], key="compare_tabs")
    for label, tab in zip(shown, tabs, strict=True):
        with tab:
            if label == "Kernels":
                _kernels(comparison.kernels)
            elif label == "Regions":
                _regions(comparison)
            else:
                _metrics(comparison, label)


def _kernels(kernels: Sequence[KernelChange]) -> None:
    changed = changed_only(kernels)
    only = False
    if 0 < len(changed) < len(kernels):
        only = st.toggle("Only what changed", value=True, key="compare_changed_only")
    shown = (changed if only else list(kernels))[:SHOWN_KERNELS]
    event = st.dataframe(
        kernels_table(shown),
        hide_index=True,
        key="compare_kernels",
        on_select="rerun",
        selection_mode="single-row",
        column_config={"kernel": st.column_config.TextColumn("kernel", width="large")},
    )
    more = len(changed if only else kernels) - len(shown)
    st.caption(
        f"{count_text(len(kernels), 'kernel')}, {len(changed)} with a change above the noise, "
        "which alone is coloured. Microseconds per iteration; p is adjusted for the number of rows "
        "(Benjamini-Hochberg)."
        + (f" {count_text(more, 'smaller change')} not shown." if more > 0 else "")
        + " Click a row to see both recordings at its longest launch."
    )
    rows = _selected(event, "rows")
    if rows and rows[0] < len(shown):
        kernel = shown[rows[0]]
        before, now = time_text(kernel.time.base), time_text(kernel.time.new)
        words = f"{visible(kernel.short_name, NAME_ROOM)}: {before} before, {now} now"
        evidence = Evidence(words=words, base=kernel.base_place, new=kernel.new_place)
        if _pick("kernel", evidence):
            st.rerun(scope="fragment")  # the canvas stands above


def _regions(comparison: Comparison) -> None:
    told = {r.level for r in comparison.regions}
    levels = [one for one in LEVEL_LABELS if one in told]
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
    mine = [r for r in comparison.regions if r.level == level]
    changes, certain = region_matrix(mine)
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
    found = next((r for r in mine if r.name == name and r.row.value == row), None)
    if found is not None:
        where = OUTSIDE_WORDS if name == OUTSIDE else visible(name, NAME_ROOM)
        words = f"{where}, {row}: {signed_text(found.time.change)}"
        evidence = Evidence(words=words, base=found.base_place, new=found.new_place)
        if _pick("region", evidence):
            st.rerun(scope="fragment")


def _metrics(comparison: Comparison, label: str) -> None:
    group = next(g for g, words in GROUPS.items() if words == label)
    st.dataframe(
        metrics_table([m for m in comparison.metrics if m.group == group]),
        hide_index=True,
        key=f"compare_metrics_{group}",
    )


def _comparability(comparison: Comparison) -> None:
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


def _notes(comparison: Comparison) -> None:
    sides = (comparison.base, comparison.new)
    told = {r.warm_up_how for side in sides for r in side.recordings if r.warm_up}  # at the chart
    notes = [n for n in comparison.notes if not any(how in n for how in told if how)]
    if notes:
        st.subheader("Could not tell", anchor=False)
        for note in notes:
            show_prose(note)
    if comparison.how:
        with st.expander("How the numbers were made"):
            for sentence in comparison.how:
                show_prose(sentence)


page()
