"""Which stretch is analysed, and what counts as an iteration."""

import numpy as np
import pytest

from analyzers import analyze
from analyzers.facts.facts import WindowError
from analyzers.facts.window_request import number_in
from analyzers.finding import Row
from collectors import open_trace
from library.comparisons import compare_recordings
from tests.traces_in_memory import make_trace
from traces.nsys_writer import Recording

US, MS = 1_000, 1_000_000


def loop(folder, steps=5, names=None, outer=None, deep=False):
    """A step every 100 µs on the host, each launching a kernel of 30 µs (150 µs when deep)."""
    starts = [100 * i for i in range(steps)]
    length = 150 if deep else 30
    begins = [160 * i + 20 for i in range(steps)] if deep else [s + 20 for s in starts]
    names = names or ["step"] * steps
    ranges = {
        "start_us": starts + ([-10] if outer else []),
        "duration_us": [90] * steps + ([100 * steps + 20] if outer else []),
        "name": names + ([outer] if outer else []),
    }
    return make_trace(
        folder,
        kernels={
            "start_us": begins,
            "duration_us": length,
            "correlation_id": list(range(1, steps + 1)),
        },
        api_calls={
            "start_us": [s + 10 for s in starts],
            "duration_us": 5,
            "correlation_id": list(range(1, steps + 1)),
        },
        ranges=ranges,
    )


def test_the_default_is_whole_steps(tmp_path):
    window = analyze(loop(tmp_path)).window
    assert (window.start_ns, window.end_ns) == (0, 490 * US)


def test_without_steps_the_default_is_first_to_last_gpu_operation(tmp_path):
    window = analyze(loop(tmp_path, names=["a", "b", "c", "d", "e"])).window
    assert (window.start_ns, window.end_ns) == (20 * US, 450 * US)


def test_a_repeated_range_is_the_iteration(tmp_path):
    report = analyze(loop(tmp_path))
    assert [i.start_ns for i in report.iterations] == [0, 100 * US, 200 * US, 300 * US, 400 * US]
    assert "5 iterations" in report.iterations_note


@pytest.mark.parametrize(
    "names", [[f"ProfilerStep#{i}" for i in range(5)], [f"iter {i}" for i in range(5)]]
)
def test_a_number_in_the_name_is_set_aside(tmp_path, names):
    assert len(analyze(loop(tmp_path, names=names)).iterations) == 5


def test_a_range_around_the_whole_loop_does_not_hide_it(tmp_path):
    assert len(analyze(loop(tmp_path, outer="main")).iterations) == 5


@pytest.mark.parametrize(
    "names",
    [["a", "b", "c", "d", "e"], [f"aten::mul, op_id = {i}" for i in range(5)]],
)
def test_iterations_are_never_invented(tmp_path, names):
    report = analyze(loop(tmp_path, names=names))
    assert report.iterations == ()
    assert report.iterations_note.startswith("No iterations")


def test_no_ranges_means_no_iterations(tmp_path):
    trace = make_trace(tmp_path, kernels={"start_us": [0, 50], "duration_us": 10})
    assert "no NVTX ranges" in analyze(trace).iterations_note


def test_a_loop_that_submits_little_is_not_the_iteration(tmp_path):
    trace = make_trace(
        tmp_path,
        kernels={"start_us": [0, 20, 40, 60], "duration_us": 10, "correlation_id": [1, 2, 3, 4]},
        api_calls={"start_us": [-9, 11, 31, 51], "duration_us": 2, "correlation_id": [1, 2, 3, 4]},
        ranges={"start_us": [100, 200, 300], "duration_us": 50, "name": "log"},
    )
    assert analyze(trace).iterations == ()


def test_an_iteration_s_window_is_where_its_work_ran(tmp_path):
    """The host is far ahead: the third step's kernel runs from 340 to 490 µs."""
    report = analyze(loop(tmp_path, deep=True), "iteration:3")
    assert (report.window.start_ns, report.window.end_ns) == (330 * US, 490 * US)
    assert report.devices[0].busy_ns == 150 * US


def test_an_nvtx_range_is_chosen_by_name_and_number(tmp_path):
    trace = loop(tmp_path)
    assert analyze(trace, "nvtx:step").window.start_ns == 0
    second = analyze(trace, "nvtx:step#2")
    assert (second.window.start_ns, second.window.end_ns) == (100 * US, 190 * US)
    assert second.devices[0].rows["kernel"] == 30 * US


def test_a_range_without_gpu_work_keeps_the_host_s_times(tmp_path):
    trace = loop(tmp_path, outer="main")
    made = make_trace(
        tmp_path / "b",
        kernels={"start_us": [0, 100], "duration_us": 10, "correlation_id": [1, 2]},
        api_calls={"start_us": [-5, 95], "duration_us": 2, "correlation_id": [1, 2]},
        ranges={"start_us": [20], "duration_us": 40, "name": "read input"},
    )
    window = analyze(made, "nvtx:read input").window
    assert (window.start_ns, window.end_ns) == (20 * US, 60 * US)
    assert trace.count("ranges") == 6


def test_a_span_is_taken_as_it_is(tmp_path):
    report = analyze(loop(tmp_path), "span:0-100000")
    assert report.devices[0].duration_ns == 100 * US
    assert sum(report.devices[0].rows.values()) == 100 * US


MANY = "9" * 5_000  # more digits than Python converts


@pytest.fixture(scope="module")
def five_steps(tmp_path_factory):
    return loop(tmp_path_factory.mktemp("five"))


@pytest.mark.parametrize(
    "request_text",
    [
        *("nvtx:nothing", "nvtx:step#9", "iteration:0", "iteration:99"),
        *("span:5-5", "span:x", "what"),
        *(f"iteration:{MANY}", f"nvtx:step#{MANY}", f"nvtx:{MANY}", f"span:0-{MANY}", MANY),
        *(f";iterations=period:{MANY}", f";iterations=kernel:{MANY}", "span:0-9223372036854775808"),
    ],
)
def test_a_window_that_is_not_there_is_said_in_one_line(five_steps, request_text):
    with pytest.raises(WindowError) as caught:
        analyze(five_steps, request_text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("-5", -5), ("007", 7), ("4611686018427387903", 2**62 - 1)),
        *(("4611686018427387904", None), ("-4611686018427387904", None), (MANY, None)),
        *(("", None), ("-", None), ("1.5", None), ("²", None), (" 1", None), ("1\n", None)),
    ],
)
def test_numbers_of_requests_are_bounded_where_they_enter(text, number):
    assert number_in(text) == number


@pytest.mark.parametrize("device", ["7", MANY, "no such GPU"])
def test_a_device_to_compare_that_is_not_there_is_refused(five_steps, device):
    with pytest.raises(WindowError):
        compare_recordings([five_steps], [five_steps], device=device)


@pytest.mark.parametrize(
    ("request_text", "way_out"),
    [
        ("iteration:99", "1 to 5"),
        ("nvtx:step#9", "1 to 5"),
        ("nvtx:nothing", "it has 'step'"),
    ],
)
def test_a_window_that_is_not_there_comes_with_those_that_are(tmp_path, request_text, way_out):
    with pytest.raises(WindowError, match=way_out):
        analyze(loop(tmp_path), request_text)


def test_a_number_that_belongs_to_a_range_s_name_finds_it(tmp_path):
    trace = loop(tmp_path, names=[f"ProfilerStep#{n}" for n in range(10, 15)])
    assert analyze(trace, "nvtx:ProfilerStep#12").window.start_ns == 200 * US


def test_what_runs_beside_the_loop_does_not_shrink_its_iterations(tmp_path):
    # A kernel on a stream of its own runs from before the loop until long after it.
    step = 1_000 * np.arange(10)
    report = analyze(
        make_trace(
            tmp_path,
            kernels={
                "start_us": [0, *(step + 200)],
                "duration_us": [20_000, *[700] * 10],
                "stream": [20, *[7] * 10],
                "correlation_id": np.arange(11),
            },
            api_calls={
                "start_us": [-20, *(step + 150)],
                "duration_us": 5,
                "correlation_id": np.arange(11),
            },
            ranges={"start_us": step + 100, "duration_us": 900, "name": "step"},
        )
    )
    assert [i.end_ns - i.start_ns for i in report.iterations] == [900_000] * 10


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_iterations_are_found_however_many_processes_run(tmp_path, ranks):
    step, rank = 1_000 * np.tile(np.arange(5), ranks), np.repeat(np.arange(ranks), 5)
    number = np.tile(np.arange(5), ranks)
    where = {"process": rank + 1, "thread": 10 * (rank + 1)}
    report = analyze(
        make_trace(
            tmp_path,
            kernels={
                "start_us": step + 20,
                "duration_us": 900,
                "process": rank + 1,
                "device": rank,
                "correlation_id": number,
            },
            api_calls={
                "start_us": step + 5,
                "duration_us": 5,
                "correlation_id": number,
                **where,
            },
            ranges={"start_us": step, "duration_us": 990, "name": "step", **where},
        )
    )
    assert len(report.iterations) == 5


@pytest.mark.parametrize("span", ["span:900000000000-900001000000", "span:-90000000--1000000"])
def test_a_span_in_which_nothing_was_recorded_is_refused(tmp_path, span):
    with pytest.raises(WindowError, match="nothing was recorded there"):
        analyze(loop(tmp_path), span)


def test_small_copies_beside_long_work_do_not_become_the_main_stream(tmp_path):
    # Each step: one kernel of 900 µs on stream 7, and three copies of 3 µs on stream 8.
    step = 1_000 * np.arange(6)
    copies = np.concatenate([step + 20, step + 30, step + 40])
    report = analyze(
        make_trace(
            tmp_path,
            kernels={"start_us": step + 50, "duration_us": 900, "correlation_id": np.arange(6)},
            copies={
                "start_us": copies,
                "duration_us": 3,
                "stream": 8,
                "correlation_id": 100 + np.arange(18),
            },
            api_calls={
                "name": ["cudaLaunchKernel"] * 6 + ["cudaMemcpyAsync"] * 18,
                "start_us": [*(step + 45), *(copies - 5)],
                "duration_us": 3,
                "correlation_id": [*range(6), *range(100, 118)],
            },
            ranges={"start_us": step, "duration_us": 60, "name": "step"},
        )
    )
    assert all(i.end_ns - i.start_ns >= 900_000 for i in report.iterations)


def test_the_operations_of_a_window_are_those_that_ran_in_it(tmp_path):
    trace = loop(tmp_path)
    whole, one = analyze(trace).operations, analyze(trace, "iteration:2").operations
    assert 0 < one["kernels"] < whole["kernels"] == trace.count("kernels")


@pytest.fixture(scope="module")
def late_step(tmp_path_factory):
    """A step of 382 ms: 210 ms of preprocessing, 150 ms of kernels, 14 ms of the host alone."""
    made = Recording()
    made.nvtx("ProfilerStep#6", 0, 382 * MS)
    made.nvtx("preprocess", 2 * MS, 210 * MS)
    made.nvtx("log", 368 * MS, 382 * MS)
    for i in range(100):
        begin = 218 * MS + i * 1_500 * US
        made.api("cudaLaunchKernel_v7000", begin - 6 * US, begin - 2 * US, correlationId=i + 1)
        made.kernel("gemm(float*)", begin, begin + 1_490 * US, correlationId=i + 1)
    folder = tmp_path_factory.mktemp("late")
    return open_trace(made.write(folder / "a.sqlite"), folder / "cache")


def test_idle_time_at_the_begin_and_end_of_a_chosen_step_is_the_host_s(late_step):
    report = analyze(late_step, window="nvtx:ProfilerStep#6")
    (device,) = report.devices
    assert (device.duration_ns, device.unused_ns) == (382 * MS, 0)
    between = 99 * 10 * US
    assert device.busy_ns == 149 * MS
    assert device.rows[Row.HOST] + device.rows[Row.LAUNCH] == 382 * MS - 149 * MS
    assert device.rows[Row.HOST] >= 218 * MS + 14 * MS - between
    assert report.verdict.cause == "host"
    assert "mostly during preprocess (208 ms)" in report.verdict.sentence


def test_a_step_is_the_window_that_nobody_chose(late_step):
    report = analyze(late_step)
    assert (report.window.start_ns, report.window.end_ns) == (0, 382 * MS)
    assert report.devices == analyze(late_step, "nvtx:ProfilerStep#6").devices
    assert report.verdict.cause == "host"


def test_nobody_asked_for_the_time_around_all_gpu_work(late_step):
    report = analyze(late_step, "all")
    assert report.window.start_ns == 218 * MS
    assert not report.window.is_chosen
    assert report.verdict.cause == "healthy"


def unmarked_loop(folder):
    """Three kernels of 10 µs in turn, twelve times, and no range around any of them."""
    return make_trace(
        folder,
        kernels={
            "start_us": [100 * i + offset for i in range(12) for offset in (0, 20, 40)],
            "duration_us": 10,
            "name": ["a", "b", "c"] * 12,
        },
    )


def test_iterations_that_are_not_marked_are_found_in_what_is_launched(tmp_path):
    report = analyze(unmarked_loop(tmp_path))
    assert len(report.iterations) == 12
    assert not any(i.is_marked for i in report.iterations)
    assert report.iterations_note == (
        "12 iterations, found in what the program launches: the same 3 launches again and again "
        "(100 % of the GPU's work; high confidence)."
    )


def test_an_iteration_that_is_not_marked_holds_the_pause_before_it(tmp_path):
    report = analyze(unmarked_loop(tmp_path), "iteration:3")
    assert (report.window.start_ns, report.window.end_ns) == (150 * US, 250 * US)
    assert report.devices[0].busy_ns == 30 * US


def test_what_marks_and_launches_do_not_tell_is_said(tmp_path):
    trace = make_trace(tmp_path, kernels={"start_us": [0, 50], "duration_us": 10})
    assert analyze(trace).iterations_note == (
        "No iterations: the recording has no NVTX ranges to mark them, and what is launched "
        "repeats no pattern."
    )
