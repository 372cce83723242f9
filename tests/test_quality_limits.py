"""What is said of a capture, with its counts, at the exact shares from which it is said."""

import numpy as np
import pytest

from analyzers.facts.facts import Facts
from analyzers.quality import events
from collectors.schema import CopyKind
from tests.traces_in_memory import account, build

US = 1_000


def note(check, facts: Facts):
    """Return level and message of what a check says; None for nothing."""
    said = check(facts, account(facts), ())
    return said and (said.level, said.message)


def launched(folder, count, *, without_call=(), without_kernel=(), ids=None, **more):
    """Return facts of kernels of 5 µs, each launched 8 µs before it begins by a call of 3 µs."""
    numbers = np.arange(count)
    ids = numbers + 1 if ids is None else np.array(ids)
    ran = ~np.isin(numbers, without_kernel)
    called = ~np.isin(numbers, without_call)
    kernels = {"start_us": 10 * numbers[ran], "duration_us": 5, "correlation_id": ids[ran]}
    calls = {"start_us": 10 * numbers[called] - 8, "duration_us": 3}
    calls |= {"correlation_id": ids[called]}
    return build(
        folder,
        kernels=kernels | more.get("kernels", {}),
        api_calls=calls | more.get("api_calls", {}),
        **{name: table for name, table in more.items() if name not in ("kernels", "api_calls")},
    )


@pytest.mark.parametrize(("without", "words"), [(0, ""), (1, ""), (2, "2 of 200"), (3, "3 of 200")])
def test_kernels_without_calls_are_told_of_from_a_hundredth_on(tmp_path, without, words):
    facts = launched(tmp_path, 200, without_call=range(50, 50 + without))
    said = note(events.orphans, facts)
    assert (said[1].startswith(words) if words else said) == (True if words else None)
    if words:
        assert said[0] == "warning"
        assert " kernels have no launch call in the recording: they were submitted" in said[1]


@pytest.mark.parametrize(
    ("lost", "level"),
    [(1, None), (2, "warning"), (19, "warning"), (20, "error")],
)
def test_lost_kernels_are_told_of_from_a_hundredth_on_and_a_tenth_forbids(tmp_path, lost, level):
    facts = launched(tmp_path, 200, without_kernel=range(10, 10 + lost))
    said = note(events.lost_kernels, facts)
    assert (said and said[0]) == level
    assert note(events.unfinished_launches, facts) is None
    if level:
        assert said[1].startswith(f"{lost} of 200 launch calls have no kernel in the recording")


@pytest.mark.parametrize(
    ("lost", "level"),
    [(1, None), (2, "warning"), (19, "warning"), (20, "error")],
)
def test_launches_at_the_end_are_told_of_from_a_hundredth_on(tmp_path, lost, level):
    facts = launched(tmp_path, 200, without_kernel=range(200 - lost, 200))
    said = note(events.unfinished_launches, facts)
    assert (said and said[0]) == level
    assert note(events.lost_kernels, facts) is None
    if level:
        assert said[1].startswith(f"{lost} of 200 launch calls, the last ones, have no kernel")


def test_kernels_without_calls_may_be_those_of_the_last_launches(tmp_path):
    facts = launched(tmp_path, 200, without_kernel=range(190, 200), without_call=range(20, 27))
    said = note(events.unfinished_launches, facts)
    assert said[1].startswith("3 of 193 launch calls, the last ones,")


@pytest.mark.parametrize(("status", "is_lost"), [(0, True), (-1, True), (1, False)])
def test_launches_that_failed_have_no_kernel_to_lose(tmp_path, status, is_lost):
    column = np.zeros(100, np.int64)
    column[10:20] = status
    calls = {"status": column}
    facts = launched(tmp_path, 100, without_kernel=range(10, 20), api_calls=calls)
    assert (note(events.lost_kernels, facts) is not None) == is_lost


@pytest.mark.parametrize(
    ("unnamed", "level"), [(0, None), (1, "warning"), (9, "warning"), (10, "error")]
)
def test_calls_without_names_forbid_a_verdict_from_a_tenth_on(tmp_path, unnamed, level):
    names = [""] * unnamed + ["cudaLaunchKernel"] * (100 - unnamed)
    said = note(events.unnamed_calls, launched(tmp_path, 100, api_calls={"name": names}))
    assert (said and said[0]) == level
    if level:
        assert said[1].startswith(f"{unnamed} of 100 API calls have lost their names")


def graphs(folder, silent, status=0):
    """Twenty graph launches of two kernels each, of which the last ones ran nothing recorded."""
    ids = np.arange(1, 21)
    ran = np.repeat(ids[: 20 - silent], 2)
    begin = np.arange(len(ran)) * 10 + 100
    kernels = {"start_us": begin, "duration_us": 5, "correlation_id": ran}
    calls = {"start_us": 2 * ids, "duration_us": 1, "correlation_id": ids}
    return build(
        folder, kernels=kernels, api_calls={**calls, "name": "cudaGraphLaunch"} | {"status": status}
    )


@pytest.mark.parametrize(("silent", "is_told"), [(0, False), (1, False), (2, True), (7, True)])
def test_graphs_without_work_forbid_a_verdict_from_two_and_a_tenth_on(tmp_path, silent, is_told):
    said = note(events.untraced_graphs, graphs(tmp_path, silent))
    assert (said is not None) == is_told
    if is_told:
        assert said[0] == "error"
        assert said[1].startswith(f"{silent} of 20 CUDA graph launches have no work")


def test_graph_launches_that_failed_have_no_work(tmp_path):
    assert note(events.untraced_graphs, graphs(tmp_path, 7, status=1)) is None


@pytest.mark.parametrize(("shared", "words"), [(2, "2 of 200 kernels share"), (0, ""), (4, "4 of")])
def test_kernels_that_share_a_call_are_counted(tmp_path, shared, words):
    ids = np.arange(1, 201)
    ids[:shared] = 1
    numbers = np.arange(200)
    facts = build(
        tmp_path,
        kernels={"start_us": 10 * numbers, "duration_us": 5, "correlation_id": ids},
        api_calls={"start_us": 10 * numbers - 8, "duration_us": 3, "correlation_id": numbers + 1},
    )
    said = note(events.shared_calls, facts)
    assert (said[1].startswith(words) if words else said) == (True if words else None)


def test_one_cooperative_launch_may_start_a_kernel_on_each_gpu(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [10, 10, 30, 30], "duration_us": 5, "device": [0, 1] * 2}
        | {"correlation_id": [1, 1, 2, 2]},
        api_calls={"start_us": [0, 20], "duration_us": 3, "correlation_id": [1, 2]},
    )
    assert note(events.shared_calls, facts) is None


@pytest.mark.parametrize(
    ("count", "early", "words"),
    [
        (1_000, 0, ""),
        (1_000, 1, "1 of 1,000 GPU operations begins"),
        (1_000, 2, "2 of 1,000 GPU operations begin "),
        (1_001, 1, ""),
    ],
)
def test_operations_before_their_calls_are_told_of_from_a_thousandth_on(
    tmp_path, count, early, words
):
    numbers = np.arange(count)
    begin = 10 * numbers - 8
    begin[:early] = 10 * numbers[:early] + 2
    facts = build(
        tmp_path,
        kernels={"start_us": 10 * numbers, "duration_us": 5, "correlation_id": numbers + 1},
        api_calls={"start_us": begin, "duration_us": 3, "correlation_id": numbers + 1},
    )
    said = note(events.clock_skew, facts)
    assert (said[1].startswith(words) if words else said) == (True if words else None)


@pytest.mark.parametrize(("streams", "count"), [((7, 7, 7), 2), ((7, 8, 7), 1), ((7, 8, 9), 0)])
def test_overlaps_on_a_stream_are_counted_by_stream(tmp_path, streams, count):
    starts = [0, 6, 12]
    facts = build(
        tmp_path,
        kernels={"start_us": starts, "duration_us": [14, 8, 10], "stream": list(streams)},
    )
    said = note(events.overlap_on_stream, facts)
    assert (said is not None) == (count > 0)
    if count:
        noun = "kernel" if count == 1 else "kernels"
        assert said == ("info", said[1])
        assert said[1].startswith(f"{count} {noun} began before the previous one")


@pytest.mark.parametrize(("overhead_us", "share"), [(50, "5.0 %"), (49, ""), (100, "10 %")])
def test_the_profiler_s_own_time_is_told_of_from_a_twentieth_on(tmp_path, overhead_us, share):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 700], "end_us": [500, 1_000], "correlation_id": [1, 2]},
        api_calls={"start_us": [-8, 690], "duration_us": 3, "correlation_id": [1, 2]},
        overheads={"start_us": 500, "duration_us": overhead_us},
    )
    said = note(events.profiler_overhead, facts)
    assert (said is not None) == bool(share)
    if share:
        assert said[1].startswith(f"The profiler itself cost {share} of ")


def test_copies_are_no_kernels_that_lack_a_call(tmp_path):
    numbers = np.arange(50)
    facts = build(
        tmp_path,
        copies={"start_us": 10 * numbers, "duration_us": 5, "kind": CopyKind.DEVICE_TO_HOST},
        kernels={"start_us": [600, 700], "duration_us": 5, "correlation_id": [1, 2]},
        api_calls={"start_us": [590, 690], "duration_us": 3, "correlation_id": [1, 2]},
    )
    assert note(events.orphans, facts) is None
