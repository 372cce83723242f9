"""The verdict at its limits: a tenth, a twentieth, and one GPU of two, to the nanosecond."""

import pytest

from analyzers import analyze
from tests.traces_in_memory import make_trace

MS = 1_000_000


def one_pause(folder, pause_ns, total_ns=10 * MS):
    """A GPU that idles once because its host paused so long, in a window of so many ns."""
    first = 6 * MS
    begin = first + pause_ns
    trace = make_trace(
        folder,
        api_calls={"start_ns": [-5_000, begin], "end_ns": [0, begin + 5_000]}
        | {"correlation_id": [1, 2]},
        kernels={"start_ns": [0, begin + 5_000], "end_ns": [first, total_ns]}
        | {"correlation_id": [1, 2], "name": ["a", "b"]},
    )
    return analyze(trace).verdict


@pytest.mark.parametrize(
    ("pause_ns", "cause", "words"),
    [
        (MS - 1, "healthy", "costs 10 % of the window, the largest loss on the timeline"),
        (MS, "host", "Host-bound: for 10 % of the window"),
        (MS + 1, "host", "Host-bound: for 10 % of the window"),
        (2 * MS, "host", "Host-bound: for 20 % of the window"),
        (MS // 2 - 1, "healthy", "Healthy on the timeline: no cause costs 10 % or more"),
        (MS // 2, "healthy", "costs 5.0 % of the window, the largest loss on the timeline"),
    ],
)
def test_a_tenth_is_a_cause_and_a_twentieth_is_named(tmp_path, pause_ns, cause, words):
    verdict = one_pause(tmp_path, pause_ns)
    assert verdict.cause == cause
    assert words in verdict.sentence
    assert verdict.share == pytest.approx(pause_ns / (10 * MS))


def two_gpus(folder, busy_ns, other_ns):
    """GPU 0 works all 10 ms; GPU 1 works first, idles for its host, and works at the end."""
    end, first = 10 * MS, busy_ns // 2
    begin = end - (busy_ns - first)
    kernels = {
        "start_ns": [0, 0, begin, other_ns],
        "end_ns": [other_ns, first, end, end],
        "device": [0, 1, 1, 0],
        "correlation_id": [1, 2, 3, 4],
    }
    calls = {
        "start_ns": [-9_000, -9_000, begin - 5_000, -4_000],
        "end_ns": [-5_000, -5_000, begin, -1_000],
        "thread": [11, 12, 12, 11],
        "correlation_id": [1, 2, 3, 4],
    }
    return analyze(make_trace(folder, api_calls=calls, kernels=kernels)).verdict


@pytest.mark.parametrize(
    ("busy_ns", "cause", "words"),
    [
        (3 * MS, "host", "Host-bound: for 35 % of the combined time of 2 GPUs"),
        (3 * MS, "host", "100 % of that is on GPU 1."),
        (8_500_000, "host", "Host-bound on GPU 1: for 15 % of the time it is in use"),
        (8_500_000, "host", "No cause costs 10 % or more of any other GPU."),
        (9 * MS - 5_000, "host", "Host-bound on GPU 1: for 10 % of the time it is in use"),
        (9 * MS - 4_999, "healthy", "the largest is the host, at 5.0 %"),
    ],
)
def test_one_gpu_of_two_is_named_from_a_tenth_of_its_own_time_on(tmp_path, busy_ns, cause, words):
    verdict = two_gpus(tmp_path, busy_ns, 10 * MS - 1)
    assert verdict.cause == cause
    assert words in verdict.sentence


def held_up(folder, functions, pause_us):
    """Kernels of 1 ms; before each, a call of one of these functions holds the host."""
    calls, starts, at = [], [], 0
    for number, function in enumerate(functions, 1):
        calls.append((function, at, at + pause_us, 0))
        calls.append(("cudaLaunchKernel", at + pause_us, at + pause_us + 5, number))
        starts.append(at + pause_us + 6)
        at = starts[-1] + 1_000
    name, begin, end, ids = (list(column) for column in zip(*calls, strict=True))
    trace = make_trace(
        folder,
        kernels={"start_us": starts, "duration_us": 1_000, "correlation_id": ids[1::2]},
        api_calls={"name": name, "start_us": begin, "end_us": end, "correlation_id": ids},
    )
    return analyze(trace).verdict


@pytest.mark.parametrize(
    ("loads", "frees", "title"),
    [
        (8, 0, "Held up by start-up: for 24 % of the window"),
        (4, 4, "Held up by start-up: for 24 % of the window"),
        (3, 5, "Held up by memory management and set-up: for 24 % of the window"),
        (0, 8, "Held up by memory management and set-up: for 24 % of the window"),
    ],
)
def test_half_of_the_time_in_set_up_is_start_up(tmp_path, loads, frees, title):
    # What holds up the first kernel lies before the window.
    functions = ["cudaMalloc"] + ["cuModuleLoadData"] * loads + ["cudaFree"] * frees
    verdict = held_up(tmp_path, functions, 350)
    assert verdict.cause == "memory"
    assert verdict.sentence.startswith(title)
    assert verdict.share == pytest.approx(8 * 350 / (9 * 1_000 + 8 * 356))
    longest = "cuModuleLoadData" if loads > frees else "cudaFree"
    assert (
        loads == frees
        or f"mostly in {longest} ({350 * max(loads, frees) / 1_000:.2f} ms)" in verdict.sentence
    )
