"""When two threads count as working in turns: how much of the shorter one's time they share."""

import types

import numpy as np
import pytest

from analyzers.whatif.pauses import threads_take_turns
from tests.traces_in_memory import build


def take_turns(folder, threads, processes=None):
    """Tell it of threads, each a list of calls as begin and length in µs."""
    rows = [
        (begin, length, 11 + place)
        for place, calls in enumerate(threads)
        for begin, length in calls
    ]
    begin, length, thread = (list(column) for column in zip(*sorted(rows), strict=True))
    process = [(processes or [1] * len(threads))[t - 11] for t in thread]
    ids = list(range(1, len(rows) + 1))
    facts = build(
        folder,
        api_calls={"start_us": begin, "duration_us": length, "thread": thread}
        | {"process": process, "correlation_id": ids},
        kernels={"start_us": np.add(begin, length), "duration_us": 1, "correlation_id": ids}
        | {"process": process},
    )
    api = facts.api
    return threads_take_turns(
        facts,
        types.SimpleNamespace(
            begin=api["start_ns"].to_numpy(),
            end=api["end_ns"].to_numpy(),
            thread=api["thread_index"].to_numpy(),
            api_row=np.arange(len(api)),
        ),
    )


@pytest.mark.parametrize(("overlap", "answer"), [(0, True), (9, True), (10, True), (11, False)])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_twentieth_of_the_shorter_thread_s_time_may_be_shared(tmp_path, overlap, answer, swapped):
    long, short = [(0, 1_000)], [(1_000 - overlap, 200)]
    threads = [short, long] if swapped else [long, short]
    assert take_turns(tmp_path, threads) is answer


@pytest.mark.parametrize(("pause", "answer"), [(100, False), (101, True)])
def test_a_thread_is_at_work_in_pauses_that_are_ordinary(tmp_path, pause, answer):
    # The second thread works in the first one's pause only.
    assert take_turns(tmp_path, [[(0, 50), (50 + pause, 50)], [(60, 30)]]) is answer


def test_threads_of_two_processes_are_not_asked_to_take_turns(tmp_path):
    threads = [[(0, 1_000)], [(10, 1_000)]]
    assert take_turns(tmp_path / "one", threads) is False
    assert take_turns(tmp_path / "two", threads, [1, 2]) is True


@pytest.mark.parametrize(("count", "answer"), [(32, True), (33, False)])
def test_more_than_32_threads_are_not_compared(tmp_path, count, answer):
    assert take_turns(tmp_path, [[(1_000 * i, 10)] for i in range(count)]) is answer
