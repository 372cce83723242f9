"""Work that was queued and did not begin: what explains it, and what is said where nothing does."""

import numpy as np
import pytest

from tests.ledger_helpers import booked, calls, details, launched
from tests.traces_in_memory import account, build


def late_in_queue(folder, *more_calls, **tables):
    """Twenty kernels of 10 µs with pauses of 1 µs, submitted before; the eleventh is 50 µs late."""
    starts = np.arange(20) * 11 + 100
    starts[10:] += 50
    submitted = [("cudaLaunchKernel", n, n + 1, n) for n in range(1, 21)]
    kernels = launched(starts, 10, **tables)
    return build(folder, kernels=kernels, api_calls=calls(*submitted, *more_calls))


@pytest.mark.parametrize(
    "call", ["cuStreamWaitValue32", "cudaLaunchHostFunc", "cudaWaitExternalSemaphoresAsync"]
)
def test_queued_work_that_starts_late_waited_for_what_its_stream_was_told_to(tmp_path, call):
    # Pauses of 1 µs are ordinary here; one of 51 µs is 1 µs of pause and 50 µs of dependency.
    facts = late_in_queue(tmp_path, (call, 10.2, 10.8, 99))
    assert booked(account(facts)) == {"kernel": 200, "launch": 19, "dependency": 50}


def test_an_event_of_the_only_gpu_explains_no_pause_of_it(tmp_path):
    # While it idles, whatever could have released the event is done.
    facts = late_in_queue(tmp_path, ("cudaStreamWaitEvent", 10.2, 10.8, 99))
    ledger = account(facts)
    assert booked(ledger) == {"kernel": 200, "launch": 19, "unexplained": 50}
    assert details(ledger)["NO_WAIT_RECORDED"] == 50


@pytest.mark.parametrize("function", ["cudaLaunchHostFunc", "cudaIpcOpenEventHandle"])
def test_an_event_that_others_may_release_explains_a_pause(tmp_path, function):
    waits = [(function, 0.2, 0.4, 98), ("cudaStreamWaitEvent", 10.2, 10.8, 99)]
    assert booked(account(late_in_queue(tmp_path, *waits)))["dependency"] == 50


def test_an_event_explains_a_pause_where_another_gpu_may_release_it(tmp_path):
    wait = ("cudaStreamWaitEvent", 10.2, 10.8, 99)
    starts = np.arange(20) * 11 + 100
    starts[10:] += 50
    kernels = launched([*starts, 100], [10] * 20 + [500], device=[0] * 20 + [1])
    submitted = [("cudaLaunchKernel", n, n + 1, n) for n in range(1, 22)]
    facts = build(tmp_path, kernels=kernels, api_calls=calls(*submitted, wait))
    assert booked(account(facts))["dependency"] == 50


@pytest.mark.parametrize(
    ("late_us", "told", "why"),
    [
        (1_000, True, "BEFORE_RECORDING"),
        (1_000, False, "BEFORE_RECORDING"),
        (999, False, "SETTING_UP"),
    ],
)
def test_the_first_operation_of_a_stream_may_follow_what_was_not_recorded(
    tmp_path, late_us, told, why
):
    # Kernels of stream 7 end at 100; the one of stream 8 was queued before.
    wait = [("cudaStreamWaitEvent", 2.2, 2.8, 99)] if told else []
    facts = build(
        tmp_path,
        kernels=launched([20, 100 + late_us], [80, 10], stream=[7, 8], name=["a", "b"]),
        api_calls=calls(("cudaLaunchKernel", 0, 1, 1), *wait, ("cudaLaunchKernel", 3, 4, 2)),
    )
    assert why in details(account(facts))


@pytest.mark.parametrize("at_us", [9.2, 11.2], ids=["the launch before", "the launch after"])
def test_a_wait_that_another_launch_of_the_stream_met_explains_nothing(tmp_path, at_us):
    facts = late_in_queue(tmp_path, ("cudaStreamWaitEvent", at_us, at_us + 0.6, 99))
    ledger = account(facts)
    assert booked(ledger) == {"kernel": 200, "launch": 19, "unexplained": 50}
    assert details(ledger)["NO_WAIT_RECORDED"] == 50


def test_queued_work_that_starts_late_for_no_recorded_reason_is_unexplained(tmp_path):
    ledger = account(late_in_queue(tmp_path))
    assert booked(ledger) == {"kernel": 200, "launch": 19, "unexplained": 50}
    assert details(ledger)["NO_WAIT_RECORDED"] == 50


def test_queued_work_begins_late_where_its_kernel_is_loaded_first(tmp_path):
    names = ["a"] * 10 + ["b"] * 10
    assert booked(account(late_in_queue(tmp_path, name=names))) == {
        "kernel": 200,
        "launch": 19,
        "setup": 50,
    }


@pytest.mark.parametrize(("ends_us", "row"), [(260, "dependency"), (239, "unexplained")])
def test_work_of_another_gpu_that_ends_just_before_explains_a_late_begin(tmp_path, ends_us, row):
    # The eleventh kernel begins at 260 µs; another GPU is done then, or more than 20 µs earlier.
    starts = np.arange(20) * 11 + 100
    starts[10:] += 50
    kernels = launched([*starts, 100], [10] * 20 + [ends_us - 100], device=[0] * 20 + [1])
    submitted = [("cudaLaunchKernel", n, n + 1, n) for n in range(1, 22)]
    ledger = account(build(tmp_path, kernels=kernels, api_calls=calls(*submitted)))
    assert booked(ledger)[row] == 50
