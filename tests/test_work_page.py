"""The kernel time by class, operator and shape on pages and in reports, where it is and is not."""

# ruff: noqa: RUF001 - sizes are written with the sign of multiplication

import json

import pytest

from analyzers.finding import Row
from jobs import api
from reports.about import ReportedWindow
from reports.busy_time import (
    busy_time,
    busy_time_summary,
    kernel_time_sentence,
    shapes_text,
    summed_classes,
    unknown_reason,
    utilisation_sentences,
)
from reports.document import DocumentTable
from reports.palette import CLASS_COLORS, EFFICIENCY_STEPS, NOT_MODELLED_COLOR, efficiency_color
from tests.test_program_tree import layered
from tests.test_work_account import ADD, GEMM, GPU, PRODUCT, SUM, launched, op
from tests.torch_traces import trace_bytes
from tests.view_fakes import SAMPLES, draw, library, words
from views.charts.work import (
    MAX_KERNELS,
    OTHERS,
    ROOT,
    classes_figure,
    icicle_figure,
    operator_roofline,
    placed_operators,
    tile_of,
)
from views.parts.program_tree import class_mix, listed_nodes, tree_table
from views.parts.work import device_kernels, device_work, matching_work, work_table
from views.shared.session import load

HOSTILE = "evil<b>$x$</b>%{x}"


def busy_events():
    """Return ten products of 200 µs, ten sums of 100 µs, and a kernel that nobody knows."""
    events = []
    for step in range(10):
        at = 20 * step
        events += [op("aten::mm", at, 9, PRODUCT), op("aten::add", at + 10, 9, SUM)]
        events += launched(2 * step + 1, at + 1, 1_000 + 300 * step, 200, GEMM)
        events += launched(2 * step + 2, at + 11, 1_200 + 300 * step, 100, ADD)
    return events + launched(90, 500, 4_000, 50, HOSTILE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def busy(data):
    path = data / "busy.json"
    path.write_bytes(trace_bytes(busy_events(), deviceProperties=[GPU]))
    with library(data):
        return api.open_recording(path)


@pytest.fixture(scope="module")
def named_only(data):
    with library(data):
        return api.open_recording(SAMPLES / "synthetic" / "synthetic_healthy.sqlite")


@pytest.fixture
def session(data, busy):
    with library(data):
        yield load(busy.trace.id, "")


def specs(app):
    return {c.key: json.loads(c.proto.spec) for c in app.get("plotly_chart")}


# --- page Kernels --------------------------------------------------------------------------------


def test_the_page_begins_with_classes_and_their_limits(data, busy):
    with library(data):
        app = draw("kernels", trace=busy.trace.id)
    assert not app.exception
    title = app.header[0].value.replace("\\", "")
    assert title == (
        "66 % of the kernel time is spent in matrix multiplies at 69 % of the peak and 33 % in "
        "element-wise kernels at 60 % of the memory bandwidth."
    )
    assert "Model FLOP utilisation: 46 % of 989 TFLOP/s fp16" in words(app)
    table = app.dataframe[0].value
    assert table["operator"].tolist() == ["aten::mm", "aten::add", "(evil$x$%{x})"]
    assert table["shapes"].tolist() == ["4096×4096, 4096×4096", "4096×4096, 4096×4096", ""]
    assert table["tflops"].iloc[0] == pytest.approx(2 * 4096**3 / 200e-6 / 1e12)
    assert table["roof"].iloc[0] == pytest.approx(69.45, abs=0.01)
    with library(data):
        app.segmented_control(key="kernels_view").set_value("Kernels").run()
    assert not app.exception
    assert app.dataframe[0].value["count"].tolist() == [10, 10, 1]


def test_what_is_clicked_leads_to_its_longest_launch(data, busy):
    with library(data):
        app = draw("kernels", trace=busy.trace.id)
        mark = {"start_ns": 1_200_000, "end_ns": 1_300_000}
        sums = {"busy_ns": 9, "roof_ns": 3, "below_roof_ns": 6, "not_modelled_ns": 0}
        start = busy.stored.report.window.start_ns
        mark = {name: start + ns for name, ns in mark.items()}
        subject = json.dumps([{"trace": busy.trace.id}, -1])
        picked = {"words": HOSTILE, **sums, "launches": 3, **mark, "subject": subject}
        picked["kernel"] = "gemm"
        app.session_state["picked_work"] = picked
        app.run()
    assert not app.exception
    assert "33 % of its roof, 6 ns below it" in words(app)
    links = [link.proto.query_string for link in app.get("page_link")]
    assert any(f"mark={mark['start_ns']}-{mark['end_ns']}" in link for link in links)
    with library(data):
        app.session_state["picked_work"] = {**picked, "subject": "of another recording"}
        app.run()
    assert "6 ns below it" not in words(app)


def test_without_operators_the_page_says_what_to_record(data, named_only):
    with library(data):
        app = draw("kernels", trace=named_only.trace.id)
    assert not app.exception
    assert "work_roofline" not in specs(app)
    classes = summed_classes(named_only.stored.report)
    if classes and classes[0]["class"] != "other":
        assert "emit_nvtx(record_shapes=True)" in words(app)


def test_parts_of_the_program_are_made_when_somebody_looks(data):
    path = data / "layers.json"
    path.write_bytes(trace_bytes(layered(), deviceProperties=[GPU]))
    with library(data):
        recording = api.open_recording(path)
        app = draw("kernels", trace=recording.trace.id)
        assert "Parts of the program" in app.segmented_control(key="kernels_view").options
        app.segmented_control(key="kernels_view").set_value("Parts of the program").run()
        tree = api.program_trees(recording.trace, recording.stored, "")[0]
    assert not app.exception
    parts = [part.replace("\u00a0", "") for part in app.dataframe[0].value["part"]]
    assert parts[:3] == ["Model", "Layer 2", "Linear 2"]
    table = tree_table(listed_nodes(tree, 0), 0)
    assert table["share"].iloc[0] + table["share"].iloc[-1] == pytest.approx(100)
    assert class_mix(tree.nodes[0], 0) == "matrix multiplies 100 %"
    assert listed_nodes(tree, 5) == []


# --- figures and tables --------------------------------------------------------------------------


def test_tiles_sum_to_what_is_around_them(session):
    figure = icicle_figure(device_kernels(session)).data[0]
    values = dict(zip(figure.ids, figure.values, strict=True))
    for tile, value in values.items():
        inside = [v for i, v in values.items() if figure.parents[figure.ids.index(i)] == tile]
        assert not inside or sum(inside) == value
    assert values[ROOT] == session.report.devices[0].rows[Row.KERNEL]
    assert tile_of("matmul\0aten::mm\0gemm") == ("matmul", "aten::mm", "gemm")
    assert tile_of("matmul") == ("matmul", None, None)
    assert not any("<b>" in label or "$x$" in label for label in figure.labels)
    colors = dict(zip(figure.ids, figure.marker.colors, strict=True))
    assert colors["matmul"] == EFFICIENCY_STEPS[2][1]
    assert colors["other"] == NOT_MODELLED_COLOR


def test_tiles_beyond_a_number_are_one(session):
    kernels = device_kernels(session).head(1)
    many = kernels.loc[kernels.index.repeat(30)].reset_index(drop=True)
    figure = icicle_figure(many.assign(kernel=[f"k{n}" for n in range(30)])).data[0]
    leaves = [i for i in figure.ids if i.count("\0") == 2]
    assert len(leaves) == MAX_KERNELS + 1
    assert leaves[-1].endswith(OTHERS)
    assert figure.values[0] == many["busy_ns"].sum()


@pytest.mark.parametrize(
    ("sums", "color"),
    [
        ((100, 24, 0), EFFICIENCY_STEPS[0][1]),
        ((100, 25, 0), EFFICIENCY_STEPS[1][1]),
        ((100, 74, 0), EFFICIENCY_STEPS[2][1]),
        ((100, 75, 0), EFFICIENCY_STEPS[3][1]),
        ((100, 50, 50), EFFICIENCY_STEPS[3][1]),
        ((100, 49, 51), NOT_MODELLED_COLOR),
    ],
)
def test_the_colour_tells_the_part_at_the_roof(sums, color):
    assert efficiency_color(*sums) == color


def test_an_operator_stands_where_its_shapes_put_it(session):
    placed = placed_operators(device_work(session))
    figure = operator_roofline(placed, session.report.work_roofs[0], placed.index.tolist())
    points = figure.data[-1]
    assert points.x[0] == pytest.approx(2 * 4096**3 / (3 * 2 * 4096**2))
    assert points.y[0] == pytest.approx(2 * 4096**3 / 200e-6)
    assert [a.text for a in figure.layout.annotations] == [
        "memory 3.35 TB/s",
        "fp16 matrix units 989 TFLOP/s",
        "fp32 67 TFLOP/s",
    ]
    assert points.customdata[0][0] == 0


def test_the_table_filters_by_operator_shape_and_class(session):
    work = device_work(session)
    for text, rows in (("MM", 1), ("4096×4096", 2), ("matrix", 1), ("nothing", 0), ("", 3)):
        assert len(matching_work(work, text)) == rows
    table = work_table(work, int(work["busy_ns"].sum()))
    assert table["share"].sum() == pytest.approx(100)
    assert table["roof"].isna().tolist() == [False, False, True]


def test_devices_are_summed_where_the_work_is_the_same(session, monkeypatch):
    work = session.work()
    twice = work.loc[work.index.repeat(2)].assign(device=[0, 1] * len(work))
    monkeypatch.setattr(type(session), "work", lambda _: twice.reset_index(drop=True))
    both = device_work(session)
    assert both["busy_ns"].tolist() == (2 * work["busy_ns"]).tolist()
    assert both["operator"].tolist() == work["operator"].tolist()


def test_the_second_bar_is_the_kernel_time(data, busy):
    with library(data):
        app = draw(trace=busy.trace.id)
    assert not app.exception
    spec = specs(app)["classes"]
    assert sum(part["x"][0] for part in spec["data"]) == pytest.approx(1)
    assert [part["name"] for part in spec["data"]] == [
        "matmul at the roof",
        "matmul below the roof",
        "elementwise at the roof",
        "elementwise below the roof",
        "other not modelled",
    ]
    legends = "".join(str(legend.proto) for legend in app.get("html"))
    assert "full colour: at the roof, pale: below it, hatched: not modelled" in legends


def test_every_class_has_a_colour(busy):
    from analyzers.work.classes import CLASSES

    assert set(CLASS_COLORS) == {one.value for one in CLASSES}
    assert len(classes_figure({"GPU 0": busy.stored.report.classes}).data) == 5


# --- words ---------------------------------------------------------------------------------------


def test_a_report_tells_classes_and_operators_with_places(busy):
    report = busy.stored.report
    blocks = list(busy_time(report, ReportedWindow(trace_id=busy.trace.id)))
    assert blocks[0].text == kernel_time_sentence(summed_classes(report))
    of_classes, operators = (b for b in blocks if isinstance(b, DocumentTable))
    times = [cell.value for row in of_classes.rows for cell in row[1:2]]
    assert sum(times) == report.devices[0].rows[Row.KERNEL]
    for row in of_classes.rows:
        assert row[1].value == sum(cell.value for cell in row[2:5])
    longest = operators.rows[0][3].place
    assert longest.end_ns - longest.start_ns == 200_000
    assert [cell.text for cell in operators.rows[0][:3]] == [
        "aten::mm",
        "4096×4096, 4096×4096",
        "10",
    ]
    summary = list(busy_time_summary(report))
    assert any(isinstance(block, DocumentTable) for block in summary)
    assert next(utilisation_sentences(report)).startswith("Model FLOP utilisation: 46 %")


@pytest.mark.parametrize(
    ("work", "roofs", "words_of_reason", "code"),
    [
        ([], [{}], "has no operators", "emit_nvtx(record_shapes=True)"),
        ([("aten::mm", "")], [{}], "were not recorded", "emit_nvtx(record_shapes=True)"),
        ([("aten::mm", [[2, 2]])], [], "in no table here", "--device-peak bf16="),
        ([("aten::mm", [[2, 2]])], [{}], "no model", ""),
    ],
)
def test_what_is_not_known_comes_with_what_to_record(busy, work, roofs, words_of_reason, code):
    from dataclasses import replace

    rows = [{"operator": name, "shapes": shapes, "busy_ns": 90} for name, shapes in work]
    rows.append({"operator": "", "shapes": "", "busy_ns": 10 if work else 100})
    report = replace(
        busy.stored.report,
        source={**busy.stored.report.source, "format": "nsys-sqlite"},
        classes=({"class": "matmul", "busy_ns": 100, "not_modelled_ns": 51},),
        work=tuple(rows),
        work_roofs=tuple(roofs),
    )
    reason, help_ = unknown_reason(report)
    assert words_of_reason in reason
    assert code in help_
    known = replace(report, classes=({"class": "x", "busy_ns": 100, "not_modelled_ns": 50},))
    assert unknown_reason(known) == ("", "")


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ("[[4,8],[8],[]]", "4×8, 8"),
        ([[[1], [2]], [3]], "2 tensors, 3"),
        ("", ""),
        ("no JSON", ""),
        ([[n] for n in range(1, 7)], "1, 2, 3, 4, 2 more"),
    ],
)
def test_shapes_are_written_as_people_do(shapes, text):
    assert shapes_text(shapes) == text
