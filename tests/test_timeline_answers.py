"""The lanes of a window, and the answers that the canvas gets."""

import numpy as np
import pytest

from analyzers.facts.extent import first_event_ns
from analyzers.facts.facts import build_facts
from analyzers.finding import Row
from analyzers.ledger.ledger import ROWS
from tests.timeline_helpers import decoded, make_timeline
from tests.view_fakes import draw, library, open_sample
from timeline import store
from timeline.colors import COLORS, OPERATIONS
from timeline.store import recording_index, window_index
from timeline.view import Timeline
from views.charts.ledger import PALETTE
from views.components import timeline as canvas
from views.server.tiles import MAX_NAME, QueryError, answer

# --- the lanes of a window -------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    data = tmp_path_factory.mktemp("library")
    opened = open_sample("synthetic/synthetic_sync.sqlite", data)
    with library(data):
        yield opened


@pytest.fixture(scope="module")
def shown(opened):
    recording = recording_index(opened.trace)
    window = window_index(opened.stored, recording.meta["origin_ns"])
    devices = {d.key: f"GPU {d.device}" for d in opened.stored.report.devices}
    return Timeline(recording, window, devices)


def test_the_ledger_lane_holds_every_nanosecond_of_the_window(shown, opened):
    report = opened.stored.report
    start, end = (moment - shown.origin_ns for moment in report.window.span)
    for device, lane in zip(report.devices, shown.ledger_lanes, strict=True):
        sums = shown.ledger(lane, start, end)
        assert {ROWS[c]: ns for c, ns in sums.items()} == {
            r: n for r, n in device.rows.items() if n
        }
        assert sum(sums.values()) == end - start


def test_the_ledger_of_a_span_is_the_sum_of_its_segments(shown, opened):
    segments = opened.stored.segments()
    low = int(segments["start_ns"].iloc[100]) + 7
    high = int(segments["end_ns"].iloc[400]) - 3
    for key, lane in enumerate(shown.ledger_lanes):
        mine = segments[segments["device"] == key]
        length = np.minimum(mine["end_ns"], high) - np.maximum(mine["start_ns"], low)
        expected = length.clip(lower=0).groupby(mine["row"]).sum()
        sums = shown.ledger(lane, low - shown.origin_ns, high - shown.origin_ns)
        assert {c: n for c, n in sums.items() if n} == {int(r): n for r, n in expected.items() if n}


def test_the_shares_of_a_ledger_fill_every_bin(shown, opened):
    start, end = (moment - shown.origin_ns for moment in opened.stored.report.window.span)
    drawn = shown.marks(shown.ledger_lanes[0], start, end, 64)
    assert not drawn.exact
    full = np.bincount(np.searchsorted(np.unique(drawn.start), drawn.start), drawn.fill.astype(int))
    assert np.all((full[1:-1] >= 248) & (full[1:-1] <= 262))  # rounded, and never nothing


def test_findings_and_iterations_have_lanes(shown, opened):
    kinds = {p.lane.kind for p in shown.lanes}
    assert {"findings", "iterations", "ledger", "events"} <= kinds
    report = opened.stored.report
    lane = next(n for n, p in enumerate(shown.lanes) if p.lane.kind == "iterations")
    assert shown.lanes[lane].lane.count == len(report.iterations)


def test_every_window_counts_time_from_the_same_moment(opened):
    zero = first_event_ns(build_facts(opened.trace))
    assert recording_index(opened.trace).meta["origin_ns"] == zero
    assert window_index(opened.stored, zero).meta["origin_ns"] == zero


def test_a_window_index_of_another_zero_is_made_again(opened):
    zero = first_event_ns(build_facts(opened.trace))
    assert window_index(opened.stored, zero - 500).meta["origin_ns"] == zero - 500
    assert window_index(opened.stored, zero).meta["origin_ns"] == zero


# --- what the canvas gets --------------------------------------------------------------------


def test_ten_thousand_lanes_open_and_draw(tmp_path):
    shown = make_timeline(tmp_path, *[[(t, t + 5), (t + 10, t + 20)] for t in range(10_000)])
    assert len(shown.lanes) == 10_000
    head, _ = decoded(answer(shown, {"what": "layout"}))
    assert len(head["lanes"]) == 10_000
    tile = {"what": "tile", "start": "0", "end": "20000", "lanes": "9990-9999"}
    head, columns = decoded(answer(shown, tile))
    assert [x["id"] for x in head["lanes"]] == list(range(9_990, 10_000))
    assert len(columns["start"]) == 20


def test_the_layout_names_every_lane_once_in_a_group(shown):
    head, _ = decoded(answer(shown, {"what": "layout"}))
    listed = [n for group in head["groups"] for n in group["lanes"]]
    assert sorted(listed) == list(range(len(head["lanes"])))
    assert head["duration"] == shown.duration_ns
    assert head["groups"][1]["title"].startswith("GPU 0")
    first = head["lanes"][head["groups"][1]["lanes"][0]]
    assert first["kind"] in ("findings", "ledger")
    assert set(head["colors_used"]) <= set(range(len(PALETTE)))


def test_a_tile_holds_the_marks_of_the_lanes_that_were_asked_for(shown):
    query = {"what": "tile", "start": "0", "end": str(shown.duration_ns), "lanes": "0,2-3"}
    head, columns = decoded(answer(shown, query))
    assert [x["id"] for x in head["lanes"]] == [0, 2, 3]
    assert sum(x["count"] for x in head["lanes"]) == len(columns["start"])
    assert np.all(columns["end"] >= columns["start"])
    assert {str(n) for n in columns["name"]} <= set(head["names"])


def test_a_search_answers_with_count_place_and_event(shown):
    name = shown.recording.text(int(shown.recording.name[0]))
    query = {"what": "find", "text": name[:12].upper(), "from": "0", "direction": "1"}
    head, _ = decoded(answer(shown, query))
    assert head["count"] >= head["place"] >= 1
    assert name[:12].lower() in head["name"].lower()
    tile = {"what": "tile", "start": "0", "end": str(shown.duration_ns), "lanes": "0-9"}
    with_ticks, columns = decoded(answer(shown, tile | {"find": name[:12]}))
    assert with_ticks["hits_known"]
    assert columns["ticks"].max() == 255
    _, columns = decoded(answer(shown, tile | {"find": "nothing is called this"}))
    assert not columns["ticks"].any()
    assert not columns["hit"].any()


def test_measuring_tells_the_ledger_of_exactly_that_span(shown):
    query = {"what": "measure", "start": "1000000", "end": "3000000"}
    head, _ = decoded(answer(shown, query))
    device = head["devices"][0]
    assert sum(r["ns"] for r in device["rows"]) == 2_000_000
    busy = {Row.KERNEL, Row.TRANSFER, Row.COMMUNICATION}
    assert device["busy"] == sum(r["ns"] for r in device["rows"] if r["word"] in busy)
    assert head["duration"] == "2 ms"


def test_what_lies_outside_the_window_is_a_row_of_its_own(shown):
    query = {"what": "measure", "start": "-5000", "end": str(shown.duration_ns + 5_000)}
    head, _ = decoded(answer(shown, query))
    rows = {r["word"]: r["ns"] for r in head["devices"][0]["rows"]}
    assert rows["outside the analysed window"] >= 10_000
    assert sum(rows.values()) == head["end"] - head["start"]


def test_an_event_leads_to_its_chain_and_arrows_along_it(shown):
    operation = shown.event_at(OPERATIONS, 3)
    head, _ = decoded(answer(shown, {"what": "event", "event": str(operation)}))
    roles = {link["role"]: link["event"] for link in head["chain"]}
    assert list(roles) == ["NVTX range", "API call", "operation"]
    assert head["arrows"] == [
        [roles["NVTX range"], roles["API call"]],
        [roles["API call"], operation],
    ]


def test_the_names_of_a_stretch_are_summed_inside_it(shown):
    query = {"what": "names", "start": "1000000", "end": "3000000"}
    head, _ = decoded(answer(shown, query))
    assert head["count"] == len(head["rows"])
    rows = {(kind, name): (n, total, longest) for kind, name, n, total, longest, _ in head["rows"]}
    assert {kind for kind, _ in rows} == {"GPU", "range", "API call"}
    lanes = [x for x in shown.lanes if x.lane.table == OPERATIONS and not x.lane.mirror]
    covered = sum(
        int(np.diff(x.index.covered(part, edges, x.index.before(part, edges)))[0])
        for x in lanes
        for part in x.lane.parts
        for edges in [np.array([1_000_000, 3_000_000])]
    )
    assert sum(total for (kind, _), (_, total, _) in rows.items() if kind == "GPU") == covered
    assert all(longest * n >= total >= longest for n, total, longest in rows.values())
    assert max(longest for _, _, longest in rows.values()) <= 2_000_000  # cut at the stretch's ends


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"what": "everything"},
        {"what": "tile", "start": "x", "end": "1", "lanes": "0"},
        {"what": "tile", "start": "0", "end": "inf", "lanes": "0"},
        {"what": "tile", "start": "0", "end": "1", "lanes": "0-x"},
        {"what": "tile", "start": "0", "end": "1"},
        {"what": "event", "event": "99999999"},
        {"what": "event", "event": "-5"},
        {"what": "find"},
        {"what": "names", "start": "0"},
    ],
)
def test_a_question_that_makes_no_sense_is_one_line(shown, wrong):
    with pytest.raises(QueryError):
        answer(shown, wrong)


def test_no_question_can_ask_for_more_than_a_screen(tmp_path):
    shown = make_timeline(tmp_path, *[[(t, t + 5)] for t in range(600)])
    with pytest.raises(QueryError):
        answer(shown, {"what": "tile", "start": "0", "end": "9", "lanes": "0-599"})
    tile = {"what": "tile", "start": "0", "end": "1e21", "bins": "999999999", "lanes": "0-9"}
    head, _ = decoded(answer(shown, tile))
    assert len(head["lanes"]) == 10


HOSTILE = [
    "<script>alert(1)</script>",
    "a\u202eb\u0000c\nd",
    "x" * 100_000,
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "",
    "{{7*7}} $\\LaTeX$ `code`",
]


def test_hostile_names_leave_escaped_and_short(tmp_path):
    events = [(10 * t, 10 * t + 5) for t in range(len(HOSTILE))]
    shown = make_timeline(tmp_path, events, names=HOSTILE)
    query = {"what": "tile", "start": "0", "end": "100", "lanes": "0"}
    head, _ = decoded(answer(shown, query))
    texts = list(head["names"].values())
    assert len(texts) == len(HOSTILE)
    assert all(len(t) <= MAX_NAME and (t.isprintable() or not t) for t in texts)
    assert any("\\u202e" in t for t in texts)
    for text in HOSTILE:
        answer(shown, {"what": "find", "text": text, "from": "0", "direction": "1"})


def test_every_colour_of_the_timeline_has_a_word():
    assert len(COLORS) == len(PALETTE) == len(set(PALETTE))
    assert COLORS[: len(ROWS)] == tuple(row.value for row in Row)


def test_an_index_is_not_made_twice(opened, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(store, "write_recording", never)
    monkeypatch.setattr(store, "write_window", never)
    origin = recording_index(opened.trace).meta["origin_ns"]
    window_index(opened.stored, origin)


@pytest.mark.parametrize("number", [0, 1])
def test_a_stretch_of_the_lower_recording_is_analysed_without_what_is_about_the_upper(
    opened, monkeypatch, number
):
    inputs = iter([canvas.CanvasInput(analyse=(number, (1_000, 2_000)))])
    monkeypatch.setattr(
        canvas, "draw_timeline", lambda *_, **_also: next(inputs, canvas.CanvasInput())
    )
    kept = {"device": "0", "kernel": "0123", "note": "1-2 mine", "find": "x"}
    trace = {"trace": opened.trace.id}
    app = draw("timeline", below=opened.trace.id, view="1-2", **trace, **kept)
    assert not app.exception
    left = dict(app.query_params)
    assert left.pop("window").startswith("span:")
    assert left == trace | ({} if number else kept)
