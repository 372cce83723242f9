"""Both readers keep what lies at a limit of what can be true, and nothing beyond it."""

import numpy as np
import pytest

from collectors import open_trace
from collectors.nsys.times import MIN_SLACK_NS
from collectors.schema import CopyKind
from collectors.torch_profiler.events import NO_TIME, times, whole_number
from collectors.torch_profiler.rows import Bounds, device_number, stream_number
from tests.nsys_exports import change, codes, recording
from tests.torch_traces import call, kernel, notes, opener, x
from traces.nsys_writer import Recording

US, S = 1_000, 1_000_000_000
DAY = 86_400 * S

# Limits of CUDA, or well beyond them where they grow with the hardware.
SHAPE = {
    **{"grid_x": (1, 2**31 - 1), "grid_y": (1, 65_536), "grid_z": (1, 65_536)},
    **{f"block_{axis}": (1, 4_096) for axis in "xyz"},
}
RESOURCES = {
    "registers_per_thread": (0, 4_096),
    "static_shared_bytes": (0, 67_108_864),
    "dynamic_shared_bytes": (0, 67_108_864),
}
LARGEST_COPY = 4_398_046_511_104


def tries(limits):
    """Return for each column what is tried, and what is stored of it."""
    return {
        name: [(low, low), (high, high), (low - 1, -1), (high + 1, -1)]
        for name, (low, high) in limits.items()
    }


def test_shapes_of_launches_in_exports_of_nsys(tmp_path):
    names = {
        **{
            f"{part}_{axis}": f"{part}{axis.upper()}"
            for part in ("grid", "block")
            for axis in "xyz"
        },
        "registers_per_thread": "registersPerThread",
        "static_shared_bytes": "staticSharedMemory",
        "dynamic_shared_bytes": "dynamicSharedMemory",
    }
    made, expected = Recording(), []
    for column, pairs in tries({**SHAPE, **RESOURCES}).items():
        for given, stored in pairs:
            begin = 20 * US * len(expected)
            made.kernel("k", begin, begin + 10 * US, **{names[column]: given})
            expected.append((column, stored))
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    table = trace.frame("kernels")
    assert [table[column].iloc[row] for row, (column, _) in enumerate(expected)] == [
        stored for _, stored in expected
    ]
    assert codes(trace) == {"launch_geometry_invalid": 2 * len(names)}


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


def test_shapes_of_launches_in_torch_traces(opened):
    events, expected = [], []
    for column, pairs in tries(SHAPE).items():
        part, _, axis = column.partition("_")
        for given, stored in pairs:
            shape = [2, 2, 2]
            shape["xyz".index(axis)] = given
            events.append(kernel(20 * len(events), len(events) + 1, dur=10, **{part: shape}))
            expected.append((column, stored))
    trace = opened(events)
    table = trace.frame("kernels")
    assert [table[column].iloc[row] for row, (column, _) in enumerate(expected)] == [
        stored for _, stored in expected
    ]
    assert notes(trace)["launch_geometry_invalid"] == 2 * len(SHAPE)


def test_resources_of_launches_in_torch_traces(opened):
    fields = {"registers per thread": 4_096, "shared memory": 67_108_864}
    events, expected = [], []
    for field, high in fields.items():
        for given, stored in ((0, 0), (high, high), (-1, -1), (high + 1, -1)):
            events.append(kernel(20 * len(events), len(events) + 1, dur=10, **{field: given}))
            expected.append(stored)
    trace = opened(events)
    table = trace.frame("kernels")
    assert table["registers_per_thread"].tolist()[:4] == expected[:4]
    assert table["dynamic_shared_bytes"].tolist()[4:] == expected[4:]
    # Only the sum of both is recorded.
    assert table["static_shared_bytes"].tolist()[4:] == [0, 0, -1, -1]
    assert notes(trace)["number_out_of_range"] == 2  # -1 is what stands for nothing


def test_sizes_of_copies_up_to_four_terabytes(tmp_path, opened):
    sizes = (0, LARGEST_COPY, LARGEST_COPY + 1)
    made = Recording()
    for n, size in enumerate(sizes):
        made.copy(CopyKind.HOST_TO_DEVICE, size, 100 * n, 100 * n + 50)
        made.memset(size, 100 * n + 50, 100 * n + 90)
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    assert trace.frame("copies")["bytes"].tolist() == [0, LARGEST_COPY]
    assert trace.frame("memsets")["bytes"].tolist() == [0, LARGEST_COPY]
    events = [
        x("gpu_memcpy", "Memcpy HtoD", 10 * n, 5, pid=0, tid=7, bytes=size, device=0, stream=7)
        for n, size in enumerate(sizes)
    ]
    assert opened(events).frame("copies")["bytes"].tolist() == [0, LARGEST_COPY, -1]


@pytest.mark.parametrize(("given", "stored"), [(0, 0), (1_023, 1_023), (1_024, 5), (-1, 5)])
def test_numbers_of_devices_in_torch_traces(given, stored):
    assert device_number(given, 5) == stored
    assert device_number(given, "GPU") == (stored if stored == given else -1)


@pytest.mark.parametrize("given", [0, 1_023, 1_024])
def test_numbers_of_devices_in_exports_of_nsys(tmp_path, given):
    made = recording()
    made.kernel("other", 200 * US, 210 * US, deviceId=given, correlationId=500)
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    assert sorted(set(trace.frame("kernels")["device"])) == ([0, 1_023] if given == 1_023 else [0])
    assert ("kernel_device_unknown" in codes(trace)) == (given == 1_024)


def test_streams_are_numbers_at_the_end_of_a_word():
    assert stream_number(7, "stream 8") == 7
    assert stream_number(None, "stream 8 ") == 8
    assert stream_number("stream 19", None) == 19
    assert stream_number("nothing", "nothing") == -1
    assert stream_number("s" * 38 + "12", None) == 12
    assert stream_number("7" * 30, None) == int("7" * 18)


@pytest.mark.parametrize(("pid", "stored"), [(0, 0), (2**40 - 1, 2**40 - 1), (2**40, -1), (-1, -1)])
def test_numbers_of_processes(opened, pid, stored):
    trace = opened([call(0, 1, pid=pid), kernel(10, 1)])
    table = trace.frame("processes")
    host = trace.frame("api_calls")["process"].iloc[0]
    assert table["pid"][table["process"] == host].tolist() == [stored]


# --- times --------------------------------------------------------------------------------------


class Begun:
    """An event of which only the begin matters."""

    def __init__(self, us, ph="X"):
        self.ts, self.ph = str(us).encode(), ph


def bounds(*begins_us):
    limits = Bounds()
    limits.learn([Begun(us) for us in begins_us])
    return limits


def outside(limits, *moments_ns):
    return limits.outside(np.array(moments_ns, np.int64)).tolist()


def test_times_of_torch_traces_lie_within_a_day_of_the_first_events():
    limits = bounds(*range(1_000, 1_011))  # the middle is 1,001 to 1,009 µs
    low, high = 1_001 * US - DAY, 1_009 * US + DAY
    assert outside(limits, low, high, low - 1, high + 1) == [False, False, True, True]


def test_times_of_long_torch_traces_lie_within_a_hundred_times_their_length():
    hour = 3_600 * 10**6
    limits = bounds(*(n * hour for n in range(1, 12)))  # the middle is 2 to 10 hours
    low, high = 2 * hour * US - 800 * hour * US, 10 * hour * US + 800 * hour * US
    assert outside(limits, low, high, low - 1, high + 1) == [False, False, True, True]


def test_bounds_of_times_are_learnt_once_and_from_known_times():
    limits = Bounds()
    assert outside(limits, 2**61, -(2**61)) == [False, False]
    limits.learn([Begun(0), Begun('"x"'), Begun(7, ph="i")])  # nothing to learn from
    assert outside(limits, 2**61) == [False]
    limits.learn([Begun(1_000)])
    limits.learn([Begun(10**15)])
    assert outside(limits, 10**18, 1_000 * US + DAY) == [True, False]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (str(2**61 // 1_000), 2**61 // 1_000 * 1_000),
        (str(2**61 // 1_000 + 1), NO_TIME),
        (str(-(2**61) // 1_000), NO_TIME),
        (f'"{2**61 // 1_000}"', 2**61 // 1_000 * 1_000),
        (f'"{2**61 // 1_000 + 1}"', NO_TIME),
        ("1.0005", 1_000),
        ("1.0015", 1_002),
        ("0.4444", 444),
        ("true", NO_TIME),
    ],
)
def test_times_are_decimal_microseconds_up_to_the_year_2043(text, ns):
    assert times([text.encode()])[0].tolist() == [ns]


@pytest.mark.parametrize(
    ("given", "number"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**63, -(2**63)),
        (2**64 - 1, -1),
        (2**64, None),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, None),
        ("12", 12),
        ("1x", None),
        (12.9, 12),
        (2.0**64, None),
        (True, None),
        (None, None),
    ],
)
def test_whole_numbers_have_64_bits(given, number):
    assert whole_number(given) == number


@pytest.mark.parametrize(("stated_s", "slack_s"), [(1, 600), (700, 700)])
@pytest.mark.parametrize("beyond", [0, 1])
def test_exports_keep_what_lies_within_ten_minutes_or_their_length(
    tmp_path, stated_s, slack_s, beyond
):
    assert MIN_SLACK_NS == 600 * S
    made = recording(kernels=20)
    late = (stated_s + slack_s) * S + beyond
    made.kernel("late", late - 10, late, correlationId=900)
    early = -slack_s * S - beyond
    made.kernel("early", early, early + 10, correlationId=901)
    path = made.write(tmp_path / "a.sqlite")
    change(path, f"UPDATE ANALYSIS_DETAILS SET duration = {stated_s * S}")
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == (20 if beyond else 22)
    assert codes(trace) == ({"kernel_out_of_range": 2} if beyond else {})


@pytest.mark.parametrize("beyond", [0, 1])
def test_exports_that_state_no_length_keep_a_day_around_most_events(tmp_path, beyond):
    made = Recording()
    for n in range(40):
        made.kernel("k", 20 * US * n, 20 * US * n + 10 * US, correlationId=n + 1)
    path = made.write(tmp_path / "a.sqlite")
    change(path, "DROP TABLE ANALYSIS_DETAILS")
    moments = sorted(t for n in range(40) for t in (20 * US * n, 20 * US * n + 10 * US))
    low, high = (moments[round(share * 79)] for share in (0.1, 0.9))
    table = "CUPTI_ACTIVITY_KIND_KERNEL"
    change(
        path,
        f"UPDATE {table} SET start = {low - DAY - beyond} WHERE correlationId = 1",
        f"UPDATE {table} SET end = {high + DAY + beyond} WHERE correlationId = 40",
    )
    trace = open_trace(path, tmp_path / "cache")
    assert trace.count("kernels") == (38 if beyond else 40)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (0, 0),
        (3, 3),
        (2**31 - 1, 2**31 - 1),
        (2**31, -1),
        (-1, -1),
        (True, -1),
        ("3", -1),
        (1.5, -1),
    ],
)
def test_ranks_of_torch_traces_are_whole_numbers_of_31_bits(opened, given, stored):
    source = opened([call(0, 1), kernel(10, 1)], distributedInfo={"rank": given}).source
    assert (source.rank, source.world_size) == (stored, -1)
    source = opened([call(0, 1), kernel(10, 1)], distributedInfo={"world_size": given}).source
    assert (source.rank, source.world_size) == (-1, stored)


@pytest.mark.parametrize(
    ("head", "version"),
    [
        ({"cuda_runtime_version": 12040}, "CUDA 12.4"),
        ({"cuda_runtime_version": 11080, "hip_runtime_version": 60_300_000}, "CUDA 11.8"),
        ({"hip_runtime_version": 60_342_134}, "HIP 6.3"),
        ({"cuda_runtime_version": 2**31 - 1}, "CUDA 2147483.64"),
        ({"cuda_runtime_version": 2**31}, ""),
        ({"cuda_runtime_version": 0}, ""),
        ({}, ""),
    ],
)
def test_toolkits_of_torch_traces_are_told_by_their_numbers(opened, head, version):
    assert opened([call(0, 1), kernel(10, 1)], **head).source.tool_version == version


@pytest.mark.parametrize(
    ("given", "stored"), [(0, 0), (2**62 - 1, 2**62 - 1), (2**62, -1), (-1, -1), (True, -1)]
)
def test_begins_of_torch_traces_count_from_1970(opened, given, stored):
    source = opened([call(0, 1), kernel(10, 1)], baseTimeNanoseconds=given).source
    assert source.start_utc_ns == stored


SPANS = {
    "kernel": lambda made, b, e: made.kernel("k", b, e),
    "memcpy": lambda made, b, e: made.copy(CopyKind.HOST_TO_DEVICE, 10, b, e),
    "memset": lambda made, b, e: made.memset(10, b, e),
    "graph": lambda made, b, e: made.graph_launch(1, b, e),
    "api": lambda made, b, e: made.api("cudaMalloc_v3020", b, e),
    "sync": lambda made, b, e: made.sync("stream", b, e),
    "os_call": lambda made, b, e: made.os_call("poll", b, e),
    "overhead": lambda made, b, e: made.overhead("Flush", b, e),
}


@pytest.mark.parametrize("prefix", SPANS)
def test_rows_of_every_table_without_usable_times_are_left_out(tmp_path, prefix):
    made = recording()
    for begin, end in ((100 * US, 110 * US), (120 * US, 119 * US), (0, 0), (130 * US, 130 * US)):
        SPANS[prefix](made, begin, end)
    trace = open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache")
    told = codes(trace)
    assert told[f"{prefix}_negative_duration"] == 1
    assert told[f"{prefix}_no_time"] == 1
    assert all(r.used + r.excluded == r.rows for r in trace.row_counts)
    assert sum(r.excluded for r in trace.row_counts) == 2


@pytest.mark.parametrize(
    ("number", "noted"),
    [(2**63 - 1, 0), (2**63, 1), (2**64, 1), (-(2**63), 0), (-(2**63) - 1, 1), (-(2**64), 1)],
)
def test_numbers_of_streams_beyond_64_bits_are_counted(opened, number, noted):
    trace = opened([call(0, 1), kernel(20, 1, dur=10, stream=number)])
    assert notes(trace).get("place_out_of_range", 0) == noted
