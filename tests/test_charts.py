"""Charts show the ledger to the nanosecond, in colours that all tell apart; text stays text."""

import json
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.finding import Row
from analyzers.ledger.device import DeviceLedger
from timeline.colors import COLORS
from views.charts.ledger import (
    PALETTE,
    ROW_COLORS,
    ROW_MEANINGS,
    duration_histogram,
    ledger_figure,
    legend_entries,
    log_ticks,
)
from views.shared import markdown, units


def ledger(**rows):
    duration = sum(rows.values())
    named = {Row(k): v for k, v in rows.items()}
    return DeviceLedger(
        key=0, device=0, process=7, name="<b>x", duration_ns=duration, busy_ns=0, rows=named
    )


@given(st.lists(st.integers(0, 10**12), min_size=13, max_size=13))
def test_a_ledger_bar_sums_to_the_ledger(values):
    rows = dict(zip((r.value for r in Row), values, strict=True))
    figure = ledger_figure([ledger(**rows)])
    assert sum(sum(bar.x) for bar in figure.data) == sum(values)
    assert all(bar.marker.color == ROW_COLORS[Row(bar.name)] for bar in figure.data)


def test_every_row_has_a_colour_of_its_own_and_a_meaning():
    assert set(ROW_COLORS) == set(ROW_MEANINGS) == set(Row)
    assert len(set(ROW_COLORS.values())) == len(Row)


def test_the_bar_has_no_axis_that_reads_like_time():
    figure = ledger_figure([ledger(kernel=10, sync=5)])
    assert figure.layout.xaxis.visible is False
    assert figure.layout.showlegend is False


def test_the_legend_names_what_the_bars_show():
    devices = [ledger(kernel=30, sync=10), ledger(kernel=40)]
    assert legend_entries(devices) == [
        (ROW_COLORS[Row.KERNEL], "kernel 87.5 %"),
        (ROW_COLORS[Row.SYNC], "sync 12.5 %"),
    ]


def test_names_reach_a_chart_escaped():
    devices = [ledger(kernel=10), ledger(kernel=10)]
    assert "<b>" not in json.dumps(ledger_figure(devices).to_dict()["data"][0]["y"])
    assert "&lt;b&gt;" in ledger_figure(devices).data[0].y[0]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_a_histogram_counts_every_launch_once(values):
    figure = duration_histogram(np.array(values), "kernel")
    assert sum(figure.data[0].y) == len(values)


def test_logarithmic_ticks_are_round_and_inside():
    assert log_ticks(900, 120_000) == [1_000, 10_000, 100_000]


# What each kind of colour vision makes of linear red, green and blue (Machado et al., 2009).
VISION = {
    "full": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


# From linear red, green and blue to OKLab (Ottosson, 2020), whose distances are those we see.
TO_CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]


TO_OKLAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


SIDE_BY_SIDE = {
    *("kernel", "communication", "transfer", "launch", "sync", "host", "dependency", "memory"),
    "unexplained",
}


def seen(colors, vision):
    values = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colors]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(vision).T, 0, 1)
    return np.cbrt(np.clip(linear @ np.array(TO_CONES).T, 0, None)) @ np.array(TO_OKLAB).T


def closest(names, vision):
    colors = [PALETTE[COLORS.index(n)] for n in names]
    places = seen(colors, VISION[vision])
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    return distance[np.triu_indices(len(names), 1)].min()


@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_whatever_colours_a_reader_sees(vision):
    assert closest(sorted(SIDE_BY_SIDE), vision) > 0.09
    assert closest(COLORS[: len(Row)], vision) > 0.06
    assert closest(COLORS, vision) > 0.045


def test_one_palette_serves_light_and_dark_pages():
    lightness = seen(PALETTE, VISION["full"])[:, 0]
    assert lightness.min() > 0.45
    assert lightness.max() < 0.88


HOSTILE = "![x](https://evil.example/a.png) <b>k</b> $x$ :red[y] `z` =1+1 \u202e\x00\n|"


def test_escaped_text_has_no_markdown_left():
    escaped = markdown.md_escape(HOSTILE)
    assert not re.search(r"(?<!\\)[\[\]<>$`*_|:]", escaped)
    assert "\u202e" not in escaped
    assert "\n" not in escaped


def test_prose_keeps_code_and_nothing_else():
    assert markdown.md_prose("run `ncu *x*` [now]") == r"run `ncu *x*` \[now\]"
    assert markdown.md_prose("odd ` tick") == r"odd \` tick"


@given(st.text())
def test_visible_text_is_printable_and_one_line(text):
    assert units.visible(text).isprintable()


@given(st.integers(-(1 << 62), 1 << 62))
def test_a_moment_is_told_to_the_nanosecond(ns):
    number, unit = units.moment_text(ns).replace(",", "").replace("\N{MINUS SIGN}", "-").split(" ")
    scale = {"s": 9, "ms": 6, "µs": 3, "ns": 0}[unit]
    assert Decimal(number).scaleb(scale) == ns


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\0x"])
def test_a_cell_never_starts_a_formula(text):
    assert units.csv_text(text) == f"'{text}"


def test_similar_names_show_where_they_differ():
    arguments = ", ".join(["Buffer<double> &"] * 20)
    names = [f"ranged<advance({arguments})::[lambda {n}]>(Range)" for n in (1, 12)]
    short = units.distinct_names([*names, "other"])
    assert short[0].startswith("ranged<advance(")
    assert short[0].endswith("[lambda 1]>(Range)")
    assert short[1].endswith("[lambda 12]>(Range)")
    assert short[2] == "other"
    assert all(len(name) < 80 for name in short)


@given(st.lists(st.text(max_size=120), unique=True, max_size=8))
def test_telling_names_apart_keeps_their_number_and_never_fails(names):
    assert len(units.distinct_names(names)) == len(names)
