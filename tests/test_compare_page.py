"""The page Compare: what it says about two sides, and that it never says more than it knows."""

import itertools
import json
from concurrent.futures import Future
from dataclasses import replace
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.compare.compare import compare
from analyzers.compare.outcomes import measured_speedup
from analyzers.compare.prediction_outcomes import (
    OutcomeKind,
    PredictedSpeedup,
    PredictionOutcome,
)
from analyzers.compare.types import ComparisonVerdict, Difference, Level
from analyzers.finding import Row
from reports.comparison_words import (
    GREY,
    interval_text,
    p_text,
    row_color,
    waterfall_steps,
)
from reports.numbers import signed_text
from reports.palette import ROW_COLORS
from tests.comparisons_in_memory import comparison, delta, leave_out_forecast
from tests.test_compare_machines import pair as two_machines
from tests.view_fakes import TIMEOUT_S, draw, library, open_sample, words
from views.charts.compare import (
    FAINT,
    MAX_SAMPLES,
    WARM_UP_WORDS,
    samples_figure,
    thinned,
    waterfall_figure,
    waterfall_is_cropped,
)
from views.comparison import session
from views.comparison.tables import (
    QUIET,
    changed_only,
    kernels_table,
    metrics_table,
    region_matrix,
    region_table,
)

MINUS = "\N{MINUS SIGN}"
HOSTILE = "</style><script>alert(1)</script>[x](javascript:1) <b>%{x}$"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def sync(data):
    return open_sample("synthetic/synthetic_sync.sqlite", data).trace


@pytest.fixture(scope="module")
def launch(data):
    return open_sample("synthetic/synthetic_launch.sqlite", data).trace


@pytest.fixture(scope="module")
def memory(data):
    """Return a recording that has kernels in common with ``sync``; ``launch`` has none."""
    return open_sample("synthetic/synthetic_memory.sqlite", data).trace


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait for answers, however busy the machine is; and let no test see another's."""
    monkeypatch.setattr(session, "PATIENCE_S", TIMEOUT_S)
    yield
    session._jobs.clear()


def page(data, **address):
    with library(data):
        app = draw("compare", **address)
    assert not app.exception
    return app


def shown(data, monkeypatch, answer, sync, launch):
    """Return the page with this answer for the two recordings."""
    monkeypatch.setattr(session, "_compare", lambda _: answer)
    leave_out_forecast(monkeypatch)
    return page(data, base=sync.id, new=launch.id)


def charts(app):
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_without_two_recordings_the_page_says_what_to_record(tmp_path):
    told = words(page(tmp_path))
    assert "Nothing to compare yet" in told
    assert "nsys profile -t cuda,nvtx,osrt -o baseline" in told


def test_two_recordings_are_compared_and_the_verdict_comes_first(data, sync, memory):
    app = page(data, base=sync.id, new=memory.id)
    told = words(app)
    assert (
        "Regressed, measured in one run each: an iteration took 952 µs and now takes 2.19 ms"
        in told
    )
    assert app.header[0].value.startswith("Regressed")
    assert "Where the change comes from" in told
    assert "+1.23 ms" in told
    assert app.query_params["base"] == sync.id
    assert app.query_params["new"] == memory.id


def test_a_recording_compared_with_itself_has_no_difference(data, sync):
    told = words(page(data, base=sync.id, new=sync.id))
    assert "No difference" in told
    assert "Regressed" not in told


def test_what_is_picked_stays_picked(data, sync, launch, memory):
    with library(data):
        app = draw("compare")  # three recordings: nothing is chosen by itself
        assert "What should be compared?" in words(app)
        app.multiselect(key="compare_base").set_value([sync.id]).run()
        assert app.multiselect(key="compare_base").value == [sync.id]
        app.multiselect(key="compare_new").set_value([memory.id]).run()
        assert "each: an iteration took 952 µs and now takes 2.19 ms" in words(app)
        app.multiselect(key="compare_new").set_value([sync.id]).run()
        assert app.multiselect(key="compare_new").value == [sync.id]
        assert app.query_params["new"] == sync.id
        assert "No difference" in words(app)


def test_picks_replace_what_the_address_said(data, sync, memory):
    with library(data):
        app = draw("compare", base=memory.id, new=memory.id)
        app.multiselect(key="compare_base").set_value([sync.id]).run()
        assert app.multiselect(key="compare_base").value == [sync.id]
        app.selectbox(key="compare_window").set_value("nvtx:step").run()
        assert app.selectbox(key="compare_window").value == "nvtx:step"
        assert app.query_params["part"] == "nvtx:step"


def test_several_recordings_of_a_side_come_from_the_address(data, sync, launch):
    app = page(data, base=f"{sync.id},{launch.id}", new=launch.id)
    assert app.multiselect(key="compare_base").value == [sync.id, launch.id]
    assert "of 2 recordings" in words(app)


def test_a_recording_that_is_gone_is_told_in_one_line(data, sync, launch):
    app = page(data, base="0123456789abcdef-5", new=sync.id)
    assert len(app.error) == 1
    assert "plotly_chart" not in str(app)


def test_a_part_that_does_not_exist_is_told_in_one_line(data, sync, launch):
    app = page(data, base=sync.id, new=launch.id, part="nvtx:nowhere")
    assert len(app.error) == 1
    assert "nowhere" in app.error[0].value


def test_a_blocking_difference_is_all_that_is_shown(data, monkeypatch, sync, launch):
    app = shown(data, monkeypatch, comparison(ComparisonVerdict.NOT_COMPARABLE), sync, launch)
    told = words(app)
    assert "Not comparable: the GPUs differ." in told
    assert "The baseline ran on an H100, the new side on an A100." in told
    assert not app.get("plotly_chart")
    assert not app.dataframe
    assert " ms" not in told
    assert "iteration" not in told


def test_an_inconclusive_answer_colours_nothing(data, monkeypatch, sync, launch):
    app = shown(data, monkeypatch, comparison(ComparisonVerdict.INCONCLUSIVE), sync, launch)
    assert "Inconclusive" in app.header[0].value
    colors = charts(app)[0]["data"][0]["marker"]["color"]
    assert not set(colors) & set(ROW_COLORS.values())


def test_what_was_predicted_before_stands_below_the_verdict(data, monkeypatch, sync, launch):
    predicted = PredictedSpeedup(change="graph", title="capturing 9 launches", low=1.8, high=2.1)
    outcome = PredictionOutcome(
        predicted=predicted, outcome=OutcomeKind.AS_PREDICTED, evidence="graph launches 0 to 2",
        speedup=2.0, low=1.9, high=2.1,
    )  # fmt: skip
    answer = replace(comparison(), predictions=(outcome,))
    told = words(shown(data, monkeypatch, answer, sync, launch))
    assert "Predicted before: Capturing 9 launches: predicted 1.8" in told
    assert "as predicted; graph launches 0 to 2." in told


def test_another_machine_is_shown_by_its_parts(data, monkeypatch, sync, launch):
    base, new = two_machines()
    told = words(app := shown(data, monkeypatch, compare([base], [new]), sync, launch))
    assert "hardware (what the limits of the GPUs explain)" in told
    classes, limits = (table.value for table in app.dataframe[:2])
    assert list(classes["Kernels"])[:2] == ["matrix multiplies", "element-wise kernels"]
    assert "memory bandwidth" in list(limits["Limit by data sheet"])


def test_sides_from_different_tools_are_said_so(data, monkeypatch, sync, launch):
    told = "Base was recorded by nsys, new by torch."
    tool = Difference(what="tool", base="nsys", new="torch", level=Level.WARNING, sentence=told)
    app = shown(data, monkeypatch, comparison(differences=(tool,)), sync, launch)
    assert words(app).count(told) == 1


def test_a_long_comparison_shows_that_it_runs_and_then_its_answer(data, monkeypatch, sync, launch):
    job, draw_progress = Future(), session._draw_progress
    drawn = Mock(side_effect=lambda *how: draw_progress(*how) or job.set_result(comparison()))
    monkeypatch.setattr(session, "PATIENCE_S", 0)
    monkeypatch.setattr(session, "_job", lambda _: job)
    monkeypatch.setattr(session, "_draw_progress", drawn)
    app = shown(data, monkeypatch, None, sync, launch)
    assert drawn.call_args.args[1] == "Comparing 2 recordings"
    assert app.header[0].value


def test_the_largest_changes_stand_beside_the_waterfall_and_lead_to_their_place(
    data, monkeypatch, sync, launch
):
    answer = comparison(ids=(sync.id, launch.id), starts=(1_500_013_518, 1_500_013_518))
    app = shown(data, monkeypatch, answer, sync, launch)
    assert [b.label for b in app.button if str(b.key).startswith("compare_largest")] == [
        "launch in `forward`",
        "`fused_kernel`",
    ]
    told = words(app)
    assert "2 ms → 200 µs" in told
    assert "The new side still spends 300 µs of 2 ms (15 %) in launch" in told
    with library(data):
        app.button(key="compare_largest_1").click().run()
    assert "`fused_kernel`: 0 ns → 300 µs" in words(app)


def test_the_sample_pair_is_one_click_away(tmp_path):
    with library(tmp_path):
        app = draw("compare")
        app.button(key="compare_sample_pair").click().run()
        assert not app.exception
        assert app.header[0].value.startswith("Improved, measured in one run each")
        assert "transfer in `data`" in [b.label for b in app.button]


def test_the_largest_change_is_shown_in_both_recordings_before_any_click(
    data, monkeypatch, sync, launch
):
    answer = comparison(ids=(sync.id, launch.id), starts=(1_500_013_518, 1_500_013_518))
    app = shown(data, monkeypatch, answer, sync, launch)
    assert "launch: 2.30 ms before, 300 µs now" in words(app)  # the largest change, at first
    links = [link.proto.query_string for link in app.get("page_link")]
    assert any(sync.id in x and f"below={launch.id}" in x for x in links)


def test_a_hostile_name_stays_text_on_the_page(data, monkeypatch, sync, launch):
    answer = comparison(names=(HOSTILE, HOSTILE), kernel=HOSTILE, note=HOSTILE)
    app = shown(data, monkeypatch, answer, sync, launch)
    for element in (*app.markdown, *app.caption, *app.header):
        assert "<script>" not in element.value.replace("\\<", "")
        assert "](javascript" not in element.value
    for chart in charts(app):
        assert "<script>" not in json.dumps(chart)


def test_the_comparison_survives_the_walk_to_another_page(data, sync, memory):
    with library(data):
        app = draw("compare", base=sync.id, new=memory.id)
        app.switch_page("overview.py").run()
        app.switch_page("compare.py").run()
    assert app.multiselect(key="compare_base").value == [sync.id]
    assert "Regressed" in words(app)


def test_overview_and_compare_offer_the_report(data, sync, launch):
    with library(data):
        overview = draw("overview", trace=sync.id)
    labels = [b.label for b in overview.get("download_button")]
    assert {"HTML", "Markdown", "JSON"} <= set(labels)
    app = page(data, base=sync.id, new=launch.id)
    assert {"HTML", "Markdown", "JSON"} <= {b.label for b in app.get("download_button")}


# --- figures ------------------------------------------------------------------------------


def test_the_waterfall_goes_from_the_baseline_to_the_new_side_without_a_gap():
    answer = comparison()
    steps = waterfall_steps(answer)
    assert steps[0] == ("baseline", 0.0, answer.delta.base)
    for (_, _, before), (_, begin, _) in itertools.pairwise(steps[:-1]):
        assert begin == before
    assert steps[-2][2] == steps[-1][2] == answer.delta.new
    assert sum(row.change_ns for row in answer.waterfall) == answer.delta.change


def test_bars_of_the_waterfall_are_as_long_as_their_changes():
    answer = comparison()
    bar = waterfall_figure(answer).data[0]
    changes = {row.row: row.change_ns for row in answer.waterfall}
    length = dict(zip(bar.y, bar.x, strict=True))
    for row in ("kernel", "launch", "host", "remainder"):
        assert length[row] == changes[row]
    assert [told[0] for told in bar.customdata] == list(bar.y)


def test_only_changes_above_the_noise_have_the_colour_of_their_row():
    bar = waterfall_figure(comparison()).data[0]
    color = dict(zip(bar.y, bar.marker.color, strict=True))
    opacity = dict(zip(bar.y, bar.marker.opacity, strict=True))
    assert (color["launch"], opacity["launch"]) == (ROW_COLORS[Row.LAUNCH], 1.0)
    assert (color["kernel"], opacity["kernel"]) == (GREY, FAINT)


def test_an_axis_that_does_not_begin_at_zero_is_told():
    assert not waterfall_is_cropped(comparison())
    small = comparison()
    rows = tuple(
        replace(r, new_ns=r.base_ns, change_ns=-10_000 if r.row == "launch" else 0)
        for r in small.waterfall
    )
    small = replace(small, delta=delta(4.0e6, 3.99e6), waterfall=rows)
    axis = waterfall_figure(small).layout.xaxis
    assert waterfall_is_cropped(small)
    assert axis.range[0] > 3.7e6
    assert len(set(axis.ticktext)) == len(axis.ticktext) > 1


def test_without_any_change_the_axis_begins_at_zero():
    same = comparison()
    rows = tuple(replace(r, new_ns=r.base_ns, change_ns=0) for r in same.waterfall)
    same = replace(same, delta=delta(4.0e6, 4.0e6), waterfall=rows)
    assert not waterfall_is_cropped(same)


def test_every_sample_is_drawn_after_the_warm_up():
    answer = comparison()
    base = trace_named(samples_figure(answer), "baseline")
    assert list(base.x) == list(range(3, 23))
    assert tuple(base.y) == answer.base.samples_ns[0]


def test_warm_up_stands_at_its_duration_and_what_is_far_off_at_the_edge():
    answer = comparison()
    figure = samples_figure(answer)
    base = next(t for t in figure.data if t.name == WARM_UP_WORDS and len(t.x) == 2)
    assert list(base.x) == [1, 2]
    assert base.y[1] == 5_000_000  # a quarter above the median of 4 ms
    assert base.customdata[0] == "200 ms"  # 50 times
    assert base.y[1] < base.y[0] < figure.layout.yaxis.range[1] < 12_000_000
    assert base.marker.symbol[0] != base.marker.symbol[1]


def test_a_legend_names_each_side_once_however_many_recordings_it_has():
    answer = comparison()
    several = replace(
        answer.base,
        recordings=answer.base.recordings * 3,
        samples_ns=answer.base.samples_ns * 3,
    )
    figure = samples_figure(replace(answer, base=several))
    named = [t.name for t in figure.data if t.type == "scatter" and t.showlegend is not False]
    assert named == ["baseline", "new", WARM_UP_WORDS]


def test_a_change_that_is_small_beside_the_time_looks_small():
    answer = comparison()
    rows = tuple(replace(r, new_ns=r.base_ns, change_ns=0) for r in answer.waterfall)
    rows = (replace(rows[0], change_ns=400), *rows[1:])
    tiny = replace(answer, delta=delta(4.0e6, 4.0004e6), waterfall=rows)
    low, high = waterfall_figure(tiny).layout.xaxis.range
    assert high - low > 0.04 * high


def trace_named(figure, name):
    return next(t for t in figure.data if t.name == name)


@given(count=st.integers(0, 5 * MAX_SAMPLES))
def test_a_long_run_is_thinned_evenly_and_keeps_both_ends(count):
    import numpy as np

    place, values = thinned(np.arange(count))
    assert len(place) == len(values) == min(count, MAX_SAMPLES)
    assert list(place) == list(values)
    if count:
        assert (place[0], place[-1]) == (0, count - 1)


# --- tables -------------------------------------------------------------------------------


def colored(styler):
    """Return the rows of a table whose change has a background."""
    styler._compute()
    columns = list(styler.data.columns)
    place = columns.index("change")
    return [
        any(name == "background-color" for name, _ in styler.ctx[row, place])
        for row in range(len(styler.data))
    ]


def test_a_change_below_the_noise_is_not_coloured_in_any_table():
    answer = comparison()
    assert colored(kernels_table(answer.kernels, answer)) == [False, True]
    assert colored(metrics_table(answer.metrics)) == [True, False, True]
    unsure = comparison(ComparisonVerdict.INCONCLUSIVE)
    assert not any(colored(kernels_table(unsure.kernels, unsure)))
    changes, certain = region_matrix(unsure.regions)
    assert not certain.to_numpy().any()
    styler = region_table(changes, certain)
    styler._compute()
    assert {v for style in styler.ctx.values() for v in style} <= {tuple(QUIET.split(": "))}


def test_the_matrix_holds_every_region_s_change():
    answer = comparison()
    changes, certain = region_matrix(answer.regions)
    assert changes.loc["forward", "launch"] == -1.8e6
    assert bool(certain.loc["forward", "launch"])
    assert not bool(certain.loc["forward", "kernel"])
    assert changes.to_numpy().sum() == pytest.approx(sum(r.time.change for r in answer.regions))


def test_new_and_gone_kernels_count_as_changed():
    kinds = [k.kind.value for k in changed_only(comparison(ComparisonVerdict.INCONCLUSIVE).kernels)]
    assert kinds == ["new"]


def test_a_change_in_these_two_runs_counts_as_changed():
    kernel = comparison(ComparisonVerdict.INCONCLUSIVE).kernels[0]
    time = replace(kernel.time, low_in_runs=-30_000, high_in_runs=-10_000, p_in_runs=0.001)
    assert not kernel.time.significant
    assert changed_only([kernel]) == []
    sure = replace(kernel, time=replace(time, significant_in_runs=True))
    assert changed_only([sure]) == [sure]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (-51_300_000, "ns", f"{MINUS}51.3 ms"),
        (0, "ns", "0 ns"),
        (4096, "bytes", "+4.10 kB"),
        (-3, "count", f"{MINUS}3"),
    ],
)
def test_a_change_has_its_sign(value, unit, text):
    assert signed_text(value, unit) == text


def test_what_is_not_known_is_said_so():
    assert interval_text(None, None) == "not known"
    assert p_text(None) == "not known"
    assert p_text(0.0002) == "< 0.001"
    assert p_text(0.034) == "0.034"
    assert row_color("remainder", significant=False) == GREY


def test_the_measured_speed_up_has_the_interval_of_the_change():
    answer = comparison()
    speedup, low, high = measured_speedup(answer)
    assert speedup == pytest.approx(2.0)
    assert low == pytest.approx(4 / (4 - 1.8))
    assert high == pytest.approx(4 / (4 - 2.2))
    assert measured_speedup(comparison(ComparisonVerdict.NOT_COMPARABLE)) is None


def test_the_interval_of_a_change_holds_the_change():
    change = delta(4.0, 2.0)
    assert change.low <= change.change <= change.high


def test_the_sides_can_be_swapped_and_whole_windows_compared(data, sync, memory):
    with library(data):
        app = draw("compare", base=sync.id, new=memory.id)
        app.button(key="compare_swap").click().run()
        assert app.multiselect(key="compare_base").value == [memory.id]
        assert app.multiselect(key="compare_new").value == [sync.id]
        assert "Improved, measured in one run each" in words(app)
        app.selectbox(key="compare_window").set_value(";iterations=none").run()
        assert "the whole window took" in words(app)


def test_the_recording_that_is_looked_at_is_the_new_one(data, sync, launch, memory):
    with library(data):
        app = draw("compare", trace=launch.id)
        assert app.multiselect(key="compare_base").value == []
        assert app.multiselect(key="compare_new").value == [launch.id]
        assert "What should be compared?" in words(app)
