"""Two GPUs, streams, processes, domains: nothing of the one is taken for the other's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts.facts import WindowError
from analyzers.facts.loops import find_iterations
from analyzers.facts.occupancy import combined, first_of_each, launch_shapes
from analyzers.facts.windows import choose_window, repetitions
from tests.traces_in_memory import build, forget

US = 1_000


def steps(folder, names, domains, **more):
    """Ranges of 50 µs every 100 µs, each of which launches a kernel of 20 µs."""
    count = len(names)
    starts = [100 * i for i in range(count)]
    numbers = list(range(1, count + 1))
    return build(
        folder,
        ranges={"start_us": starts, "duration_us": 50, "name": names, "domain": domains},
        api_calls={"start_us": [s + 5 for s in starts], "duration_us": 5}
        | {"correlation_id": numbers},
        kernels={"start_us": [s + 20 for s in starts], "duration_us": 20}
        | {"correlation_id": numbers}
        | more,
    )


# Domains.


@pytest.mark.parametrize(
    ("request_text", "start_us"),
    [
        ("nvtx:one:step", 0),
        ("nvtx:one:step#1", 0),
        ("nvtx:two:step", 100),
        ("nvtx:two:other", 200),
        ("nvtx:one:step#2", 300),
        ("nvtx:step#2", 100),  # in any domain, by begin
        ("nvtx:step#3", 300),
    ],
)
def test_a_domain_and_a_name_choose_the_range_that_has_both(tmp_path, request_text, start_us):
    facts = steps(tmp_path, ["step", "step", "other", "step"], ["one", "two", "two", "one"])
    window = choose_window(facts, request_text, ())
    assert (window.start_ns, window.end_ns) == (start_us * US, (start_us + 50) * US)


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("nvtx:one:other", "nvtx:one:other: the recording has no such"),
        ("nvtx:three:step", "nvtx:three:step: the recording has no such"),
        ("nvtx:one:step#3", "nvtx:one:step#3: the recording has 2 of these; give 1 to 2"),
        ("nvtx:two:step#2", "nvtx:two:step#2: the recording has 1 of these; give 1 to 1"),
        ("nvtx:step#0", "nvtx:step#0: the recording has 3 of these; give 1 to 3"),
    ],
)
def test_a_name_of_another_domain_is_not_there(tmp_path, request_text, reason):
    facts = steps(tmp_path, ["step", "step", "other", "step"], ["one", "two", "two", "one"])
    with pytest.raises(WindowError) as error:
        choose_window(facts, request_text, ())
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(("count", "names"), [(5, "'n0', 'n1', 'n2', 'n3', 'n4'"), (6, "others")])
def test_of_missing_ranges_the_five_longest_are_named(tmp_path, count, names):
    facts = steps(tmp_path, [f"n{i}" for i in range(count)], "d")
    with pytest.raises(WindowError) as error:
        choose_window(facts, "nvtx:absent", ())
    assert ("and 1 others" in str(error.value)) is (count == 6)
    assert str(error.value).endswith(names)


@pytest.mark.parametrize(("domain", "count"), [("app", 4), ("MPI", 0), ("UCX", 0), ("OpenACC", 0)])
def test_calls_of_a_traced_library_are_no_iterations(tmp_path, domain, count):
    facts = steps(tmp_path, ["step"] * 4, domain)
    assert len(find_iterations(facts)[0]) == count


# How many ranges make a loop, and how much they submit.


@pytest.mark.parametrize(("count", "found"), [(2, 0), (3, 3), (4, 4)])
def test_three_equal_ranges_are_a_loop(tmp_path, count, found):
    facts = steps(tmp_path, [f"step {i}" for i in range(count)], "")
    assert len(find_iterations(facts)[0]) == found


@pytest.mark.parametrize(("beside", "found"), [(2, 3), (3, 3), (4, 0)])
def test_a_loop_submits_at_least_half_of_the_work(tmp_path, beside, found):
    starts = [0, 100, 200]
    calls = [s + 5 for s in starts] + [400 + 10 * i for i in range(beside)]
    numbers = list(range(1, len(calls) + 1))
    facts = build(
        tmp_path,
        ranges={"start_us": starts, "duration_us": 50, "name": "step"},
        api_calls={"start_us": calls, "duration_us": 2, "correlation_id": numbers},
        kernels={"start_us": [c + 3 for c in calls], "duration_us": 4, "correlation_id": numbers},
    )
    assert len(find_iterations(facts)[0]) == found


# Streams and processes.

LAUNCH = st.tuples(
    st.integers(0, 399),  # call, µs
    st.integers(1, 40),  # from the call to its kernel
    st.integers(1, 60),  # the kernel
    st.sampled_from([7, 13]),
    st.sampled_from([1, 2]),  # process
)


@settings(max_examples=60)
@given(launches=st.lists(LAUNCH, min_size=3, max_size=25, unique_by=lambda launch: launch[0]))
def test_a_range_s_window_is_where_the_work_of_its_main_stream_ran(tmp_path_factory, launches):
    folder = tmp_path_factory.mktemp("windows") / "trace"
    call, wait, length, stream, process = (np.array(c) for c in zip(*launches, strict=True))
    numbers = np.arange(1, len(launches) + 1)
    begins, ends = [0, 100, 200, 300], [80, 180, 280, 380]
    owner = [1, 2, 1, 2]
    facts = build(
        folder,
        ranges={"start_us": begins, "end_us": ends, "name": "step"}
        | {"process": owner, "thread": [11, 22, 11, 22]},
        api_calls={"start_us": call, "duration_us": 1, "correlation_id": numbers}
        | {"process": process, "thread": process * 11},
        kernels={"start_us": call + wait, "duration_us": length, "correlation_id": numbers}
        | {"process": process, "stream": stream, "device": 0},
    )
    found, how = repetitions(facts, "step")
    expected = {}
    for key in (1, 2):
        mine = [place for place in range(4) if owner[place] == key]
        own = [k for k in launches if k[4] == key]
        main = _main_streams(own, [(begins[p], ends[p]) for p in mine])
        if len(main) > 1:
            return  # either may stand for the other
        own = [k for k in own if k[3] in main]
        for place in mine:
            before = [c + w + n for c, w, n, *_ in own if c < begins[place]]
            inside = [c + w + n for c, w, n, *_ in own if begins[place] <= c < ends[place]]
            begin, end = begins[place], ends[place]
            if inside:
                begin, end = max([begin, *before]), max([end, *before, *inside])
            expected[place] = (begin * US, max(end * US, begin * US + 1))
    forget(facts.trace)
    assert [(i.start_ns, i.end_ns) for i in found] == [expected[place] for place in range(4)]
    assert how == "4 repetitions of the range 'step'." or how.startswith("4 repetitions of the ")


def _main_streams(launches, ranges):
    """Return the streams that most ranges use, of those the ones in use longest."""
    use = {}
    for call, _, length, stream, _ in launches:
        for place, (begin, end) in enumerate(ranges):
            if begin <= call < end:
                places, busy = use.get(stream, (set(), 0))
                use[stream] = (places | {place}, busy + length)
    ranked = {stream: (len(places), busy) for stream, (places, busy) in use.items()}
    return {stream for stream, rank in ranked.items() if rank == max(ranked.values())}


# Keys.


@settings(max_examples=200)
@given(
    rows=st.lists(
        st.tuples(*(st.integers(-1, 3) | st.integers(-1, 2**31 - 1) for _ in range(4))),
        min_size=1,
        max_size=20,
    )
)
def test_combined_columns_are_equal_where_all_columns_are(rows):
    keys = combined([np.array(column, np.int64) for column in zip(*rows, strict=True)])
    for one, key in zip(rows, keys, strict=True):
        for other, other_key in zip(rows, keys, strict=True):
            assert (key == other_key) is np.bool_(one == other)


@given(code=st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_the_first_of_each_number_is_where_it_stands_first(code):
    numbers = np.unique(code, return_inverse=True)[1]
    found = first_of_each(numbers, int(numbers.max()) + 1)
    assert found.tolist() == [numbers.tolist().index(n) for n in range(numbers.max() + 1)]


AXES = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z")
OTHERS = ("registers_per_thread", "static_shared_bytes", "dynamic_shared_bytes", "device")


@pytest.mark.parametrize("column", [*AXES, *OTHERS])
def test_launches_that_differ_in_one_number_only_are_two_configurations(tmp_path, column):
    launch = dict.fromkeys(AXES, 2) | {"registers_per_thread": 32, "device": 0}
    launch |= {"static_shared_bytes": 0, "dynamic_shared_bytes": 0}
    rows = {c: [v, v, v] for c, v in launch.items()} | {column: [launch[column], 1, launch[column]]}
    facts = build(tmp_path, kernels={"start_us": [0, 5, 10], "duration_us": 1} | rows)
    shapes = launch_shapes(facts)
    assert shapes.code.tolist() == [0, 1, 0]
    table = shapes.table
    assert table["grid_blocks"].tolist() == [8, 4 if column.startswith("grid") else 8]
    assert table["block_threads"].tolist() == [8, 4 if column.startswith("block") else 8]
    assert table["shared_bytes"].tolist() == [0, 1 if "shared" in column else 0]
    assert table["registers"].tolist() == [32, 1 if "registers" in column else 32]
    assert table["device"].tolist() == [0, 1 if column == "device" else 0]
