"""The timeline's index, what a view of it shows, and the answers the canvas gets."""

import errno
import json
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts.extent import first_event_ns
from analyzers.facts.facts import build_facts
from analyzers.finding import Row
from analyzers.ledger.ledger import ROWS
from tests.traces_in_memory import build
from tests.view_fakes import library, open_sample
from timeline import index as timeline_index
from timeline import store, view
from timeline.colors import COLORS, OPERATIONS
from timeline.index import (
    COLUMNS,
    Group,
    Index,
    IndexDamagedError,
    IndexWriter,
    Lane,
    Peaks,
    packed,
    without_overlap,
)
from timeline.store import recording_index, window_index
from timeline.view import Timeline, bin_edges
from views.charts.ledger import PALETTE
from views.server.tiles import MAX_NAME, QueryError, answer

# --- building one by hand -------------------------------------------------------------------


def write(folder, *lanes, names=("a", "b", "c")):
    """Write an index whose lanes are lists of ``(start, end)``, names in turn, and map it."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = IndexWriter(folder)
    group = writer.group(Group(id="g", kind="thread", title="thread"))
    for events in lanes:
        start, end = np.array(events, np.int64).reshape(-1, 2).T
        columns = {
            "start": start,
            "end": end,
            "name": np.arange(len(start)) % len(names),
            "row": np.arange(len(start)),
        }
        writer.lane(Lane(group=group, label="lane", table="ranges"), (1, columns))
    writer.names(pa.array(list(names), pa.string()))
    writer.finish(origin_ns=0, duration_ns=1_000_000)
    return Index.open(folder)


def timeline(folder, *lanes, **more):
    index = write(folder / "recording", *lanes, **more)
    return Timeline(index, write(folder / "window"), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders for the examples of property tests, which share one fixture."""
    root, count = tmp_path_factory.mktemp("indexes"), iter(range(10**6))
    return lambda: root / str(next(count))


def apart(gaps_and_lengths, start=0):
    """Return intervals that follow each other, from pairs of pause and length."""
    events, at = [], start
    for pause, length in gaps_and_lengths:
        events.append((at + pause, at + pause + length))
        at += pause + length
    return events


pauses = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 400)), min_size=1, max_size=400).map(
    apart
)
any_spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 40)).map(lambda p: (p[0], p[0] + p[1])),
    min_size=1,
    max_size=60,
).map(sorted)


# --- peaks ----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=1, max_size=700), st.data())
def test_the_largest_of_any_stretch_is_found_without_looking_at_all(values, data):
    array = np.array(values)
    peaks = Peaks(Peaks.build(len(array), lambda at: array[at]), lambda at: array[at])
    borders = st.integers(0, len(values))
    asked = data.draw(st.lists(st.tuples(borders, borders), min_size=1, max_size=20))
    first, last = np.array(asked).T
    found = peaks.largest(first, last)
    for place, (low, high) in zip(found.tolist(), asked, strict=True):
        if low >= high:
            assert place == -1
        else:
            assert low <= place < high
            assert values[place] == max(values[low:high])


@given(st.integers(0, 10**6), st.data())
@settings(max_examples=30)
def test_the_longest_of_a_stretch_are_those_that_sorting_would_give(seed, data):
    values = np.random.default_rng(seed).integers(0, 10**6, 200_000)
    peaks = Peaks(Peaks.build(len(values), lambda at: values[at]), lambda at: values[at])
    low = data.draw(st.integers(0, len(values)))
    high = data.draw(st.integers(low, len(values)))
    best = peaks.top(low, high, 25)
    assert np.all((best >= low) & (best < high))
    assert values[best].tolist() == sorted(values[low:high].tolist(), reverse=True)[:25]


# --- lanes without overlap ------------------------------------------------------------------


@given(any_spans)
def test_events_of_a_row_never_overlap_and_none_is_lost(spans):
    start, end = np.array(spans).T
    rows = list(without_overlap(start, end))
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(spans)))
    for row in rows:
        assert np.all(start[row][1:] >= end[row][:-1])


@given(any_spans)
def test_packing_needs_no_more_rows_than_events_that_run_at_once(spans):
    start, end = np.array(spans).T
    rows = packed(start, end)
    for row in np.unique(rows):
        mine = np.flatnonzero(rows == row)
        assert np.all(start[mine][1:] >= end[mine][:-1])
    solid = np.maximum(end, start + 1)
    at_once = max(int(((start <= t) & (solid > t)).sum()) for t in start)
    assert rows.max() + 1 == at_once


def test_events_that_overlap_nothing_stay_in_the_first_row():
    start = np.array([0, 10, 12, 30, 50])
    end = np.array([5, 20, 22, 40, 60])
    assert packed(start, end).tolist() == [0, 0, 1, 0, 0]


def test_nested_events_stand_by_depth():
    start, end = np.array([0, 10, 12, 40, 200]), np.array([100, 30, 14, 60, 210])
    assert [r.tolist() for r in without_overlap(start, end)] == [[0, 4], [1, 3], [2]]


def test_an_empty_range_moves_no_other_out_of_its_depth():
    start = np.array([0, 100, 110, 210, 310, 500, 510, 530, 5_000, 5_100])
    end = np.array([900, 800, 200, 300, 400, 700, 520, 540, 6_000, 5_100])
    rows = without_overlap(start, end)
    depth = {place: n for n, row in enumerate(rows) for place in row.tolist()}
    assert [depth[n] for n in range(10)] == [0, 1, 2, 2, 2, 2, 3, 3, 0, 1]


def test_ranges_that_cross_move_only_what_they_touch():
    start = np.array([0, 10, 12, 1_000, 1_050, 1_120])
    end = np.array([100, 30, 14, 1_100, 1_150, 1_200])
    rows = without_overlap(start, end)
    depth = {place: n for n, row in enumerate(rows) for place in row.tolist()}
    assert [depth[n] for n in range(3)] == [0, 1, 2]
    assert max(depth[n] for n in (3, 4, 5)) == 1


def test_ranges_that_are_never_closed_do_not_pile_up_without_end(tmp_path):
    count = 400
    ranges = {"start_us": np.arange(count), "end_us": 1_000, "name": "open"}
    index = recording_index(build(tmp_path, ranges=ranges).trace)
    assert len(index.lanes) == 256
    (note,) = index.meta["notes"]
    assert "144 events are nested deeper than 256 levels" in note
    shown = Timeline(index, write(tmp_path / "w"), {})
    assert decoded(answer(shown, {"what": "layout"}))[0]["notes"] == [note]


# --- tiles ----------------------------------------------------------------------------------


@given(pauses, st.integers(-100, 50_000), st.integers(1, 100_000), st.integers(4, 60))
@settings(max_examples=60)
def test_the_busy_time_of_any_bin_is_the_exact_sum_of_its_intervals(
    folder, events, start, length, bins
):
    index = write(folder(), events)
    part = index.lanes[0].parts[0]
    edges = bin_edges(start, start + length, bins)
    covered = np.diff(index.covered(part, edges, index.before(part, edges)))
    for busy, low, high in zip(covered.tolist(), edges[:-1], edges[1:], strict=True):
        assert busy == sum(max(0, min(e, high) - max(s, low)) for s, e in events)


@given(pauses, st.integers(4, 60))
@settings(max_examples=60)
def test_the_longest_event_is_visible_at_every_zoom(folder, events, bins):
    shown = timeline(folder(), events)
    lengths = [e - s for s, e in events]
    longest = max(lengths)
    total = events[-1][1] + 1
    while bins > 1:
        drawn = shown.marks(0, 0, total, bins)
        seen = [lengths[e] for e in drawn.event.tolist()]
        assert max(seen) == longest
        bins //= 2


@given(pauses, st.integers(12, 60), st.data())
@settings(max_examples=60)
def test_no_event_is_lost_at_the_deepest_level(folder, events, bins, data):
    shown = timeline(folder(), events)
    number = data.draw(st.integers(0, len(events) - 1))
    start, end = events[number]
    drawn = shown.marks(0, start, end + 1, max(bins, 3 * len(events)))
    assert drawn.exact
    assert number in drawn.event.tolist()
    place = drawn.event.tolist().index(number)
    assert (drawn.start[place], drawn.end[place]) == (start, end)


@given(pauses, st.integers(4, 60))
@settings(max_examples=60)
def test_every_moment_with_an_event_is_drawn_at_every_zoom(folder, events, bins):
    shown = timeline(folder(), events)
    drawn = shown.marks(0, 0, events[-1][1] + 1, bins)
    for start, _ in events:  # one without length, too
        assert np.any((drawn.start <= start) & (start <= drawn.end))
    assert np.all(drawn.fill > 0)


def test_few_events_are_drawn_exactly(folder):
    drawn = timeline(folder(), [(0, 5), (10, 20), (30, 40)]).marks(0, 8, 35, 100)
    assert drawn.exact
    assert list(zip(drawn.start, drawn.end, strict=True)) == [(10, 20), (30, 40)]


def test_an_event_longer_than_a_bin_is_one_rectangle(folder):
    events = [(t, t + 50) for t in range(0, 400_000, 100)] + [(400_000, 900_000)]
    events += [(t, t + 50) for t in range(900_000, 10**6, 100)]
    drawn = timeline(folder(), events).marks(0, 0, 10**6, 100)
    widest = int(np.argmax(drawn.end - drawn.start))
    assert drawn.event[widest] == 4_000
    assert drawn.end[widest] - drawn.start[widest] > 470_000  # but the bins it shares


def test_bins_keep_their_place_while_the_view_moves():
    one, other = bin_edges(0, 1_000_000, 700), bin_edges(12_345, 1_012_345, 700)
    assert np.isin(other[other < one[-1]], one).all()


def test_times_beyond_what_a_browser_can_count_still_add_up(folder):
    far = 1 << 60
    events = [(far + 10 * t, far + 10 * t + 7) for t in range(2_000)]
    shown = timeline(folder(), *[[(0, far)]] * 40, events)  # the sums of all lanes overflow
    index, part = shown.recording, shown.recording.lanes[40].parts[0]
    moments = np.array([far, far + 20_000])
    assert np.diff(index.covered(part, moments, index.before(part, moments))).tolist() == [14_000]
    drawn = shown.marks(40, far, far + 20_000, 100)
    assert set((drawn.fill).tolist()) <= set(range(1, 256))
    assert shown.span(40 + 1_999) == (far + 19_990, far + 19_997)


# --- searching ------------------------------------------------------------------------------


@given(st.lists(pauses, min_size=1, max_size=3), st.sampled_from(["a", "b", "x", '"a"']), st.data())
@settings(max_examples=60)
def test_a_search_walks_through_all_matches_by_time(folder, lanes, text, data):
    names = ("aa", "b", "A", "a")
    shown = timeline(folder(), *lanes, names=names)
    hits = shown.hits(text)
    matching = {
        n for n, t in enumerate(names) if (t == "a" if text == '"a"' else text in t.lower())
    }
    expected = sorted(
        (int(shown.recording.start[e]), e)
        for e in range(len(shown.recording.start))
        if shown.recording.name[e] in matching
    )
    assert hits.count == len(expected)
    if not expected:
        assert hits.step(0, -1, 1).event == -1
        return
    if data.draw(st.booleans(), label="lane by lane"):
        hits.__dict__["by_time"] = None
    at = data.draw(st.integers(0, len(expected) - 1))
    following = hits.step(*expected[at], 1)
    assert following.event == expected[(at + 1) % len(expected)][1]
    assert following.place == (at + 1) % len(expected) + 1
    before = hits.step(*expected[at], -1)
    assert before.event == expected[at - 1][1]
    assert before.place == (at - 1) % len(expected) + 1
    edges = bin_edges(0, int(expected[-1][0]) + 1, 16)
    starts = [s for s, _ in expected]
    assert hits.ticks(edges).tolist() == np.histogram(starts, edges)[0].tolist()


def test_matches_are_marked_whether_drawn_exactly_or_in_bins(folder):
    events = [(t, t + 5) for t in range(0, 100_000, 10)]
    names = [f"n{i}" for i in range(len(events))]
    shown = timeline(folder(), events, names=names)
    exact = shown.marks(0, 49_990, 50_020, 100, shown.hits("n5000"))
    assert exact.hit.tolist() == [e == 5_000 for e in exact.event.tolist()]
    dense = shown.marks(0, 0, 100_000, 100, shown.hits("n5000"))
    assert (dense.end - dense.start)[dense.hit].tolist() == [1_024]
    assert dense.hit.sum() == 1


# --- the lanes of a recording ---------------------------------------------------------------


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A recording with something in every kind of lane."""
    folder = tmp_path_factory.mktemp("rich")
    facts = build(
        folder,
        kernels={
            "start_us": [10, 30, 32, 60],
            "duration_us": [10, 10, 4, 5],
            "stream": [7, 7, 7, 8],
            "correlation_id": [1, 2, 3, 4],
            "name": ["gemm", "gemm", "relu", "ncclDevKernel_AllReduce"],
        },
        copies={
            "start_us": [80, 90],
            "duration_us": 3,
            "kind": [1, 2],
            "correlation_id": [5, 6],
            "stream": 7,
        },
        api_calls={
            "start_us": [1, 3, 5, 7, 70, 75],
            "duration_us": 1,
            "correlation_id": [1, 2, 3, 4, 5, 6],
            "name": [*["cudaLaunchKernel"] * 4, "cudaMemcpyAsync", "cudaMemcpyAsync"],
        },
        ranges={
            "start_us": [0, 2, 0],
            "end_us": [100, 9, 50],
            "name": ["step", "forward", "other"],
            "domain": ["", "", "lib"],
        },
        marks={"time_us": [5], "name": ["here"]},
        operators={
            "start_us": [2, 4.5, 0],
            "end_us": [9, 6.5, 99],
            "name": ["aten::linear", "aten::relu", "train.py(3): main"],
            "kind": [0, 0, 1],
        },
        os_calls={"start_us": [20], "duration_us": 5, "thread": 12},
        thread_switches={
            "time_us": [0, 4, 6, 9],
            "process": 1,
            "thread": 12,
            "cpu": [3, 3, 4, 4],
            "is_in": [True, False, True, False],
        },
        gpu_metrics={
            "time_us": [0, 10, 20],
            "name": "SMs Active [Throughput %]",
            "value": [0.0, 50.0, 100.0],
        },
    )
    index = recording_index(facts.trace)
    return facts, index, Timeline(index, write(folder / "window"), {0: "GPU 0"})


def lanes_of(index, kind):
    return [x for x in index.lanes if index.groups[x.group].kind == kind]


def test_each_operation_stands_in_exactly_one_lane_that_is_no_mirror(rich):
    facts, index, _ = rich
    rows = [
        row
        for lane in index.lanes
        if lane.table == OPERATIONS and not lane.mirror
        for first, count, _ in lane.parts
        for row in index.row[first : first + count].tolist()
    ]
    assert sorted(rows) == list(range(len(facts.launches)))


def test_copies_by_direction_and_collectives_stand_in_a_lane_of_their_own_too(rich):
    _, index, _ = rich
    mirrors = {x.label: x.count for x in index.lanes if x.mirror}
    assert mirrors == {"copy HtoD": 1, "copy DtoH": 1, "communication": 1}


def test_kernels_of_a_stream_that_overlap_get_a_second_row(rich):
    _, index, _ = rich
    stream = [x for x in lanes_of(index, "device") if x.label == "stream 7"]
    below = index.lanes[index.lanes.index(stream[0]) + 1]
    assert (below.level, below.label, below.count) == (1, "", 1)


def test_a_thread_has_ranges_by_domain_and_depth_calls_system_calls_and_states(rich):
    _, index, _ = rich
    shown = [(x.label, x.level) for x in lanes_of(index, "thread")]
    assert ("NVTX", 0) in shown
    assert ("", 1) in shown
    assert ("NVTX lib", 0) in shown
    assert ("NVTX marks", 0) in shown
    assert ("CUDA API", 0) in shown
    assert ("OS runtime", 0) in shown
    assert ("on a core", 0) in shown
    assert ("operators", 0) in shown
    assert ("Python", 0) in shown


def test_a_thread_has_a_core_from_one_switch_to_the_next(rich):
    _, index, _ = rich
    lane = next(x for x in index.lanes if x.label == "on a core")
    first, count, _ = lane.parts[0]
    at = np.arange(first, first + count)
    assert list(zip(index.start[at], index.end(at), strict=True)) == [(0, 4_000), (6_000, 9_000)]
    assert [index.text(n) for n in index.name[at]] == ["on core 3", "on core 4"]


def test_a_metric_is_a_counter_with_its_unit_and_range(rich):
    _, index, _ = rich
    lane = next(x for x in index.lanes if x.kind == "counter")
    assert (lane.label, lane.unit, lane.low, lane.high) == ("SMs Active", "%", 0.0, 100.0)


def test_a_launch_and_its_call_know_each_other(rich):
    _, index, shown = rich
    for row in range(6):
        operation = shown.event_at(OPERATIONS, row)
        call = int(index.link[operation])
        assert shown.row_of(call) == ("api_calls", row)
        assert int(index.link[call]) == operation


def test_a_chain_leads_from_the_innermost_range_over_the_call_to_the_kernel(rich):
    _, _, shown = rich
    relu = shown.event_at(OPERATIONS, 2)
    chain = shown.chain(relu)
    assert [(c.role, shown.name_of(c.event)) for c in chain] == [
        ("NVTX range", "forward"),
        ("operator", "aten::relu"),
        ("API call", "cudaLaunchKernel"),
        ("operation", "relu"),
    ]
    assert shown.chain(chain[2].event) == chain
    copy = shown.event_at(OPERATIONS, 4)
    assert shown.name_of(shown.chain(copy)[0].event) == "step"


def test_threads_that_launch_come_first(rich):
    _, index, _ = rich
    titles = [g.title for g in index.groups if g.kind == "thread"]
    assert titles[0] == "thread 4243"
    assert len(titles) == 2


def test_of_ranges_that_begin_together_the_innermost_is_in_the_chain(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [30], "duration_us": 5, "correlation_id": 1},
        api_calls={"start_us": [5], "duration_us": 1, "correlation_id": 1},
        ranges={
            "start_us": [0, 5, 5, 5, 5],
            "end_us": [99, 50, 20, 5, 5],
            "name": ["outer", "middle", "inner", "empty", "empty"],
        },
    )
    shown = Timeline(recording_index(facts.trace), write(tmp_path / "w"), {0: "GPU 0"})
    chain = shown.chain(shown.event_at(OPERATIONS, 0))
    assert shown.name_of(chain[0].event) == "inner"


def test_a_search_from_a_mirrored_copy_goes_on_from_its_original(rich):
    _, _, shown = rich
    copy = shown.event_at(OPERATIONS, 4)
    lane = next(n for n, p in enumerate(shown.lanes) if p.lane.label == "copy HtoD")
    mirrored = shown.lanes[lane].lane.parts[0][0]
    moment = shown.span(mirrored)[0]
    for direction in (1, -1):
        from_copy = shown.step("copy", moment, copy, direction)
        assert shown.step("copy", moment, mirrored, direction) == from_copy
        assert from_copy.event != copy


def test_a_recording_of_marks_alone_is_as_long_as_they_are(tmp_path):
    index = recording_index(build(tmp_path, marks={"time_us": [500, 900], "name": "m"}).trace)
    assert index.meta["origin_ns"] == 500_000
    assert index.meta["duration_ns"] == 400_000


def test_a_thread_that_never_leaves_its_core_has_it_to_the_end(tmp_path):
    switches = {"time_us": [1, 5], "process": 1, "thread": [11, 12], "cpu": 0, "is_in": True}
    index = recording_index(build(tmp_path, thread_switches=switches).trace)
    spans = {(int(s), int(e)) for s, e in zip(index.start, index.end(np.arange(2)), strict=True)}
    assert spans == {(0, 4_000), (4_000, 4_000)}


@pytest.mark.parametrize(
    ("name", "values", "unit"),
    [
        ("SMs Active [Throughput %]", [0, 100], "%"),
        ("SMs Active", [0, 100], "%"),
        ("GPC Clock Frequency [MHz]", [1_410e6], "Hz"),
        ("GPC Clock Frequency [MHz]", [1_410], "MHz"),
        ("something else", [5_000], ""),
    ],
)
def test_the_unit_of_a_metric_fits_its_values(tmp_path, name, values, unit):
    times = np.arange(len(values))
    index = recording_index(
        build(tmp_path, gpu_metrics={"time_us": times, "name": name, "value": values}).trace
    )
    assert index.lanes[0].unit == unit


def test_a_counter_holds_its_value_until_the_next_sample(tmp_path):
    times = np.concatenate([np.arange(100), [900], 1_000 + np.arange(100)])
    metrics = {"time_us": times, "name": "m", "value": np.arange(len(times)).astype(float)}
    facts = build(tmp_path, gpu_metrics=metrics)
    shown = Timeline(recording_index(facts.trace), write(tmp_path / "w"), {})
    band = shown.samples(0, 0, 1_100_000, 50)
    assert not band.exact
    assert np.all(band.time[1:] == band.until[:-1])  # no moment without a value
    held = (band.time > 200_000) & (band.until < 800_000)
    assert set(band.low[held]) | set(band.high[held]) <= {99.0}
    exact = shown.samples(0, 0, 10**9, 500)
    assert exact.until[-1] <= shown.duration_ns


def test_two_makers_of_one_index_do_not_disturb_each_other(tmp_path):
    facts = build(tmp_path, kernels={"start_us": np.arange(5_000) * 10, "duration_us": 5})
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: store.add_recording_index(facts), range(8)))
    assert len(recording_index(facts.trace).start) == 5_000
    assert [f.name[0] for f in (facts.trace.folder / "timeline").iterdir()] != ["."]


def test_the_index_of_an_older_version_goes_when_there_is_a_new_one(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [10], "duration_us": 5})
    older = facts.trace.folder / "timeline" / "older"
    being_made = facts.trace.folder / "timeline" / ".being-made"
    for folder in (older, being_made):
        folder.mkdir(parents=True)
    recording_index(facts.trace)
    assert not older.exists()
    assert being_made.exists()


def test_an_index_that_cannot_be_read_now_is_not_thrown_away(tmp_path, monkeypatch):
    facts = build(tmp_path, kernels={"start_us": [10], "duration_us": 5})
    folder = recording_index(facts.trace).folder

    def too_many(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(timeline_index, "checksum", too_many)
    with pytest.raises(OSError, match="Too many"):
        recording_index(facts.trace)
    assert folder.exists()


def test_one_search_serves_all_who_ask_at_once(tmp_path, monkeypatch):
    shown = timeline(tmp_path, [(t, t + 5) for t in range(0, 10_000, 10)])
    made = []

    class Counted(view.Hits):
        def __init__(self, *given):
            made.append(1)
            super().__init__(*given)

    monkeypatch.setattr(view, "Hits", Counted)
    with ThreadPoolExecutor(8) as threads:
        counts = set(threads.map(lambda _: shown.hits("a").count, range(16)))
    assert len(made) == len(counts) == 1


def test_a_name_too_long_for_an_address_is_still_found_whole(tmp_path):
    name, other = "k" * 5_000, "k" * 100
    shown = timeline(tmp_path, [(0, 5), (10, 15)], names=(name, other))
    text = view.exactly(name, 2_000)
    assert len(text) == 2_000
    assert shown.hits(text).count == 1
    assert shown.hits(view.exactly(other, 2_000)).count == 1
    assert shown.hits("==").count == 0  # an operator, not a way to search


def test_a_damaged_index_is_made_again(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [10, 30], "duration_us": 10})
    index = recording_index(facts.trace)
    for name in ("start", "sums", "color"):
        damaged = bytearray((index.folder / name).read_bytes())
        damaged[-1] ^= 4
        (index.folder / name).write_bytes(damaged)
        with pytest.raises(IndexDamagedError):
            Index.open(index.folder)
        index = recording_index(facts.trace)
        assert index.start.tolist() == [0, 20_000]


@pytest.mark.parametrize("name", ["meta.json", *COLUMNS])
def test_an_index_that_is_not_whole_is_not_opened(tmp_path, name):
    index = write(tmp_path / "i", [(0, 5), (10, 20)])
    (index.folder / name).unlink()
    with pytest.raises(IndexDamagedError):
        Index.open(index.folder)


def test_ten_thousand_lanes_open_and_draw(tmp_path):
    shown = timeline(tmp_path, *[[(t, t + 5), (t + 10, t + 20)] for t in range(10_000)])
    assert len(shown.lanes) == 10_000
    head, _ = decoded(answer(shown, {"what": "layout"}))
    assert len(head["lanes"]) == 10_000
    tile = {"what": "tile", "start": "0", "end": "20000", "lanes": "9990-9999"}
    head, columns = decoded(answer(shown, tile))
    assert [x["id"] for x in head["lanes"]] == list(range(9_990, 10_000))
    assert len(columns["start"]) == 20


# --- the lanes of a window ------------------------------------------------------------------


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


# --- what the canvas gets -------------------------------------------------------------------


def decoded(data):
    """Read an answer as the browser does."""
    size = struct.unpack_from("<I", data)[0]
    head = json.loads(data[4 : 4 + size])
    at = 4 + size
    assert at % 8 == 0
    columns = {}
    for name, kind, count in head["columns"]:
        columns[name] = np.frombuffer(data, kind, count, at)
        at += -(-columns[name].nbytes // 8) * 8
    assert at == len(data)
    return head, columns


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


def test_a_counter_is_a_band_where_samples_are_dense(rich):
    _, _, shown = rich
    lane = next(n for n, p in enumerate(shown.lanes) if p.lane.kind == "counter")
    query = {"what": "tile", "start": "0", "end": "30000", "lanes": str(lane)}
    head, columns = decoded(answer(shown, query))
    assert head["counters"] == [{"id": lane, "first": 0, "count": 3, "exact": True}]
    assert columns["high"].tolist() == [0.0, 50.0, 100.0]
    band = shown.samples(lane, 0, 30_000, 2)
    assert not band.exact
    assert band.low.min() == 0
    assert band.high.max() == 100


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


def test_an_event_leads_to_its_chain_and_an_arrow(shown):
    operation = shown.event_at(OPERATIONS, 3)
    head, _ = decoded(answer(shown, {"what": "event", "event": str(operation)}))
    roles = {link["role"]: link["event"] for link in head["chain"]}
    assert head["arrows"] == [[roles["API call"], roles["operation"]]]
    assert roles["operation"] == operation


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
    ],
)
def test_a_question_that_makes_no_sense_is_one_line(shown, wrong):
    with pytest.raises(QueryError):
        answer(shown, wrong)


def test_no_question_can_ask_for_more_than_a_screen(tmp_path):
    shown = timeline(tmp_path, *[[(t, t + 5)] for t in range(600)])
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
    shown = timeline(tmp_path, events, names=HOSTILE)
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
