"""The lanes of a recording: what stands in which, and what belongs together."""

import numpy as np
import pytest

from tests.timeline_helpers import decoded, write_index
from tests.traces_in_memory import build
from timeline.colors import OPERATIONS
from timeline.store import recording_index
from timeline.view import Timeline
from views.server.tiles import answer


def test_ranges_that_are_never_closed_do_not_pile_up_without_end(tmp_path):
    count = 400
    ranges = {"start_us": np.arange(count), "end_us": 1_000, "name": "open"}
    index = recording_index(build(tmp_path, ranges=ranges).trace)
    assert len(index.lanes) == 256
    (note,) = index.meta["notes"]
    assert "144 events are nested deeper than 256 levels" in note
    shown = Timeline(index, write_index(tmp_path / "w"), {})
    assert decoded(answer(shown, {"what": "layout"}))[0]["notes"] == [note]


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
    return facts, index, Timeline(index, write_index(folder / "window"), {0: "GPU 0"})


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
    shown = Timeline(recording_index(facts.trace), write_index(tmp_path / "w"), {0: "GPU 0"})
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
    shown = Timeline(recording_index(facts.trace), write_index(tmp_path / "w"), {})
    band = shown.samples(0, 0, 1_100_000, 50)
    assert not band.exact
    assert np.all(band.time[1:] == band.until[:-1])  # no moment without a value
    held = (band.time > 200_000) & (band.until < 800_000)
    assert set(band.low[held]) | set(band.high[held]) <= {99.0}
    exact = shown.samples(0, 0, 10**9, 500)
    assert exact.until[-1] <= shown.duration_ns


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
