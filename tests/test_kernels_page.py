"""The Kernels page: roofline, losses, the picked kernel, regions, and every state without them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyzers.counters.inside import account_of
from analyzers.facts.facts import build_facts
from analyzers.finding import Row
from analyzers.kernels.counted import counted_kernels
from analyzers.kernels.words import counted_sentence, timeline_sentence
from analyzers.ledger.booking import ROWS
from analyzers.ledger.regions import OUTSIDE
from analyzers.words import share_text, time_text
from collectors import open_trace
from jobs import api
from tests import counter_scenarios, scenarios
from tests.test_roofline import CLOCKS, FP32, PEAK, launch
from tests.view_fakes import draw, library, words
from traces.ncu_writer import write_report
from views.charts.kernels import (
    CAUSE_COLORS,
    CAUSE_SYMBOLS,
    CAUSE_WORDS,
    lost_by_configuration,
    lost_figure,
    on_roofline,
    roofline_figure,
)
from views.parts.kernel_card import computed_facts, counted_facts
from views.parts.regions import (
    OUTSIDE_WORDS,
    REST_WORDS,
    SHOWN_REGIONS,
    heat_table,
    place_of,
    styled,
)
from views.shared.session import load
from views.shared.units import rate_text

SYNTHETIC = Path(__file__).parents[1] / "traces" / "synthetic"
HOSTILE = "<b>evil</b>$x$ [y](z) `q` %{x}(int)"
WORK = (
    FP32
    | CLOCKS
    | {
        "dram__bytes.sum": 500.0,
        "dram__bytes.sum.peak_sustained": 96.0,
        PEAK.format("f"): 10_240.0,
    }
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture
def opened(data):
    """Open recordings into a library that the pages use."""
    with library(data):
        yield api.open_recording


@pytest.fixture(scope="module")
def rooted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    return write_report(
        folder / "rooted.ncu-rep",
        [launch(WORK, name=HOSTILE), launch(WORK, name="other(int)", duration_ns=3_000.0)],
    )


def inside_of(facts):
    return account_of(facts.counters) if facts.counters_only else None


def charts(app):
    return [json.loads(c.proto.spec) for c in app.get("plotly_chart")]


def titles(app):
    return {
        spec["layout"].get("yaxis", {}).get("title", {}).get("text", "") for spec in charts(app)
    }


# --- with counters --------------------------------------------------------------------------


def test_the_sentence_that_matters_comes_first(opened):
    app = draw("kernels", trace=opened(counter_scenarios.idle_lanes()).trace.id)
    assert not app.exception
    told = app.header[0].value.replace("\\", "")
    assert told.startswith("march_rays takes 50 % of the profiled time")
    assert "mostly from idle lanes" in told


def test_counters_show_a_roofline_and_the_losses(opened, rooted):
    app = draw("kernels", trace=opened(rooted).trace.id)
    assert not app.exception
    assert not app.error
    assert titles(app) >= {"FLOP/s", "could be won back (ms)"}


def test_what_the_roofline_lacks_comes_with_the_command(opened):
    app = draw("kernels", trace=opened(counter_scenarios.dram_bound()).trace.id)
    assert "FLOP/s" not in titles(app)
    assert "No kernel has counters for both its arithmetic and its memory traffic" in words(app)
    assert any("--section SpeedOfLight_RooflineChart" in code.value for code in app.code)
    assert "memory traffic" in app.expander[0].label.lower()


def test_the_picked_kernel_tells_its_limiter_its_losses_and_what_to_try(opened):
    trace = opened(counter_scenarios.idle_lanes())
    app = draw("kernels", trace=trace.trace.id)
    app.session_state["picked_kernel"] = "void march_rays<float>(float *)"
    app.run()
    text = words(app)
    assert "Limited by compute: compute at 90 %" in text
    assert "to idle lanes" in text
    finding = next(f for f in trace.stored.report.findings if f.id == "divergence.idle_lanes")
    assert finding.advice in text


def test_counters_stand_beside_what_is_possible(opened):
    trace = opened(counter_scenarios.idle_lanes())
    counted = trace.stored.counted()
    march = counted[counted["name"].str.contains("march")].iloc[0]
    facts = counted_facts(march, trace.stored.report).set_index("")
    assert facts.loc["active lanes"].tolist() == ["15.5", "32"]
    assert facts.loc["occupancy"].tolist() == ["48 %", "50 % possible (registers)"]
    assert "sectors per request" not in facts.index  # not counted, so not shown


def test_counters_have_no_regions(opened, rooted):
    assert "Where in the program" not in words(draw("kernels", trace=opened(rooted).trace.id))


@pytest.fixture
def joined(opened):
    """Open a timeline and its counters, and return both ids."""
    timeline = opened(SYNTHETIC / "synthetic_divergence.sqlite")
    counters = opened(SYNTHETIC / "synthetic_counters_divergence.ncu-rep")
    return {"trace": timeline.trace.id, "counters": counters.trace.id}


def test_table_and_card_speak_of_the_same_window(joined):
    start, end = load(joined["trace"], "").report.window.span
    window = f"span:{start + 1_000_000}-{end - 25_000_000}"  # cuts launches at both ends
    session = load(joined["trace"], window, joined["counters"])
    counted = session.counted().iloc[0]
    app = draw("kernels", window=window, **joined)
    assert not app.exception
    table, told = app.dataframe[0].value, words(app)
    assert table["total"].tolist() == [counted["ns"] / 1e6]
    assert counted["ns"] == session.report.counters["kernel_ns"]
    assert f"Its counters account for {time_text(int(counted['ns']))} (selected span)" in told
    assert f"{share_text(counted['lost_idle_lanes_ns'], counted['ns'])} of " in told


def test_the_share_that_counters_cover_is_told(joined):
    assert "cover 100 % of kernel time" in words(draw("kernels", **joined))
    assert "The counters of" not in words(draw("kernels", trace=joined["trace"]))


def test_regions_say_that_counters_split_them(joined):
    told = words(draw("kernels", **joined))
    assert "Counters split each launch's own time" in told
    matrix = load(joined["trace"], "", joined["counters"]).regions()
    assert Row.DIVERGENCE in {ROWS[code] for code in matrix["row"]}


# --- without counters -----------------------------------------------------------------------


def test_launch_configurations_are_computed_not_measured(opened):
    app = draw("kernels", trace=opened(scenarios.parallelism()).trace.id)
    assert not app.exception
    text = words(app)
    assert "computed, not measured" in text
    assert "Computed, not measured: it has fewer blocks than multiprocessors" in text
    assert "theoretical occupancy" in app.dataframe[1].value[""].tolist()
    assert any(code.value.startswith("ncu ") for code in app.code)


def test_what_fills_the_gpu_has_no_chart_of_losses(opened):
    app = draw("kernels", trace=opened(scenarios.healthy()).trace.id)
    assert not app.exception
    assert "could be won back (ms)" not in titles(app)


def test_waves_and_the_last_one_are_told(opened):
    kernel = opened(scenarios.tail_wave()).stored.kernels().iloc[0]
    facts = computed_facts(kernel).set_index("")
    waves = float(kernel["waves"])
    assert facts.loc["waves", "is"] == f"{waves:,.2f}"
    assert 1 < waves < 2
    assert kernel["unfilled_why"] == "a nearly empty last wave"


def test_a_kernel_without_a_known_configuration_says_nothing():
    silent = pd.Series({"occupancy_pct": -1.0, "limiter": "", "waves": -1.0})
    assert computed_facts(silent).empty


def test_the_losses_by_configuration_are_parts_of_the_time(opened):
    kernels = opened(scenarios.parallelism()).stored.kernels()
    lost = lost_by_configuration(kernels)
    assert (lost["lost_ns"] <= lost["ns"]).all()
    assert lost["lost_ns"].max() > 0
    assert time_text(int(lost["lost_ns"].max())) in timeline_sentence(kernels)


# --- regions --------------------------------------------------------------------------------


def test_regions_are_shown_with_the_time_of_an_iteration(opened):
    app = draw("kernels", trace=opened(scenarios.sync()).trace.id)
    assert not app.exception
    assert "Where in the program" in words(app)
    assert "ms per iteration, of 6" in words(app)
    assert "step" in app.dataframe[-1].value["region"].tolist()


def test_a_cell_leads_to_its_place_on_the_timeline(opened):
    trace = opened(scenarios.sync())
    matrix = trace.stored.regions()
    matrix = matrix[matrix["level"] == "ranges"]
    table = heat_table(matrix)
    place = place_of(matrix, table, "step", "sync")
    segments = trace.stored.segments()
    assert place["start_ns"] in segments["start_ns"].tolist()
    assert place_of(matrix, table, REST_WORDS, "sync") is None


def test_without_ranges_the_page_says_how_to_mark_them(opened):
    app = draw("kernels", trace=opened(scenarios.device_gaps()).trace.id)
    assert not app.exception
    app = draw("kernels", trace=opened(scenarios.managed_memory()).trace.id)
    assert "neither ranges nor operators" in words(app)
    assert "nvtx.annotate" in words(app)


def matrix_of(names):
    rows = [("ranges", name, 0, 0, (n + 1) * 1_000_000, n, n + 5) for n, name in enumerate(names)]
    columns = ["level", "name", "device", "row", "ns", "start_ns", "end_ns"]
    return pd.DataFrame(rows, columns=columns)


def test_many_regions_are_summed_in_one_row():
    matrix = matrix_of([OUTSIDE, *(f"r{n}" for n in range(30))])
    table = heat_table(matrix)
    assert len(table) == SHOWN_REGIONS + 2
    assert table.index[-2:].tolist() == [REST_WORDS, OUTSIDE_WORDS]
    assert table["total"].sum() == matrix["ns"].sum()
    assert place_of(matrix, table, REST_WORDS, "kernel")["name"] not in table.index


def test_names_that_look_alike_still_make_a_table():
    long = "x" * 300
    shown = styled(heat_table(matrix_of([f"{long}1{long}", f"{long}2{long}"])), 2.0)
    assert len(shown.data) == 2
    assert shown.data["total"].tolist() == [1.0, 0.5]
    assert "background-color" in shown.to_html()


# --- figures --------------------------------------------------------------------------------


def counted_of(path, folder):
    facts = build_facts(open_trace(path, folder))
    return counted_kernels(inside_of(facts))


ROOFS = [
    {"of": "dram", "per_s": 192e9, "source": "measured"},
    {"of": "fp32", "per_s": 20e12, "source": "a table"},
]


def test_a_kernel_is_where_its_numbers_put_it(rooted, tmp_path):
    counted = counted_of(rooted, tmp_path)
    figure = roofline_figure(counted, ROOFS, "dram")
    markers = [t for t in figure.data if t.mode == "markers"]
    assert sorted(x for t in markers for x in t.x) == pytest.approx([2.0, 2.0])
    assert sorted(y for t in markers for y in t.y) == pytest.approx([1_000 / 3e-6, 1_000 / 1e-6])


def test_a_roof_bends_where_memory_and_arithmetic_meet(rooted, tmp_path):
    figure = roofline_figure(counted_of(rooted, tmp_path), ROOFS, "dram")
    slope, flat = (t for t in figure.data if t.mode == "lines")
    ridge = 20e12 / 192e9
    assert slope.x[1] == pytest.approx(ridge)
    assert slope.y[1] == pytest.approx(20e12)
    assert flat.x[0] == pytest.approx(ridge)
    assert all(y == x * 192e9 for x, y in zip(slope.x, slope.y, strict=True))


def test_a_roof_that_was_not_measured_says_so(rooted, tmp_path):
    figure = roofline_figure(counted_of(rooted, tmp_path), ROOFS, "dram")
    labels = [a.text for a in figure.layout.annotations]
    assert "device memory 192 GB/s" in labels
    assert "single precision 20 TFLOP/s (not measured)" in labels


def test_kernels_are_shown_without_any_roof(rooted, tmp_path):
    figure = roofline_figure(counted_of(rooted, tmp_path), [], "dram")
    assert [t.mode for t in figure.data] == ["markers"]


def test_names_reach_the_charts_escaped(rooted, tmp_path):
    counted = counted_of(rooted, tmp_path)
    for figure in (roofline_figure(counted, ROOFS, "dram"), lost_figure(counted)):
        shown = [row[1] for t in figure.data if t.mode == "markers" for row in t.customdata]
        assert any("&lt;b&gt;evil" in name for name in shown)
        assert not any("<b>" in name or "%{" in name or "$x$" in name for name in shown)
        assert not any("<b>" in (a.text or "") for a in figure.layout.annotations)


def test_kernels_without_arithmetic_have_no_place(rooted, tmp_path):
    counted = counted_of(rooted, tmp_path)
    assert len(on_roofline(counted.assign(flop_per_s=0.0), "dram")) == 0
    assert len(on_roofline(counted.assign(flop_per_s=np.nan), "dram")) == 0


def test_causes_differ_in_colour_and_shape():
    assert set(CAUSE_COLORS) == set(CAUSE_SYMBOLS) == set(CAUSE_WORDS)
    assert len(set(CAUSE_COLORS.values())) == len(set(CAUSE_SYMBOLS.values())) == len(CAUSE_COLORS)


def test_a_sentence_about_kernels_without_losses_claims_none(tmp_path):
    table = counted_of(counter_scenarios.good(), tmp_path)
    assert counted_sentence(table).endswith("no kernel loses much of it.")


@pytest.mark.parametrize(
    ("per_s", "text"),
    [
        (4.9750807e12, "4.98 TFLOP/s"),
        (5.98e11, "598 GFLOP/s"),
        (999.9e9, "1 TFLOP/s"),
        (0, "0 FLOP/s"),
    ],
)
def test_rates_have_a_decimal_prefix(per_s, text):
    assert rate_text(per_s, "FLOP/s") == text
