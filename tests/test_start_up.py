"""First uses are start-up: no advice to allocate once follows from them."""

import pytest

from analyzers.finding import Row
from benchmarks.simulated.program import Kernel, Manage, Program, Thread, Wait
from tests.traces_in_memory import account, build
from tests.whatif_helpers import about, explored


def booked(tmp_path, call, *, at=20, length=80_000, more=(), operators=None):
    """Book a call of ``length`` µs between two kernels, the second of which it delays.

    Args:
        tmp_path: Where to write.
        call: Name of the function.
        at: When it is made; the first kernel runs from 10 to 20 µs.
        length: How long it takes.
        more: Further calls as (name, begin, length), before the last launch.
        operators: The table.
    """
    last = at + length + 10
    calls = [("cudaLaunchKernel", 0, 5, 1), (call, at, length, 2), *((*m, 3) for m in more)]
    calls.append(("cudaLaunchKernel", last, 5, 4))
    facts = build(
        tmp_path,
        kernels={"start_us": [10, last + 10], "duration_us": 10, "correlation_id": [1, 4]},
        api_calls={
            "name": [c[0] for c in calls],
            "start_us": [c[1] for c in calls],
            "duration_us": [c[2] for c in calls],
            "correlation_id": [c[3] for c in calls],
        },
        **({"operators": operators} if operators else {}),
    )
    ledger = account(facts)
    return {row: ledger.total_ns(row) for row in (Row.SETUP, Row.MEMORY)}


@pytest.mark.parametrize("function", ["cudaFree", "cudaMalloc", "cudaGetDeviceCount"])
def test_a_first_call_of_fifty_milliseconds_creates_something(tmp_path, function):
    rows = booked(tmp_path, function)
    assert rows == {Row.SETUP: 80_000_000, Row.MEMORY: 0}


@pytest.mark.parametrize(("length", "row"), [(49_999, Row.MEMORY), (50_000, Row.SETUP)])
def test_a_shorter_one_takes_memory(tmp_path, length, row):
    assert booked(tmp_path, "cudaMalloc", length=length)[row] == length * 1_000


def test_a_long_call_that_is_not_the_first_takes_memory(tmp_path):
    rows = booked(tmp_path, "cudaMalloc", at=100, more=[("cudaMalloc", 22, 5)])
    assert rows[Row.MEMORY] == 80_000_000 + 5_000


def test_pinning_memory_for_long_is_no_start_up(tmp_path):
    assert booked(tmp_path, "cudaHostAlloc") == {Row.SETUP: 0, Row.MEMORY: 80_000_000}


def test_a_long_call_inside_the_first_execution_of_an_operator_loads_its_library(tmp_path):
    more = [("cudaMalloc", 22, 5)]
    operators = {"start_us": [90], "duration_us": 80_200, "name": "aten::conv2d"}
    rows = booked(tmp_path, "cudaMalloc", at=100, more=more, operators=operators)
    assert rows == {Row.SETUP: 80_000_000, Row.MEMORY: 5_000}


def test_the_same_in_a_later_execution_takes_memory(tmp_path):
    more = [("cudaMalloc", 22, 5)]
    operators = {"start_us": [1, 90], "duration_us": [5, 80_200], "name": "aten::conv2d"}
    rows = booked(tmp_path, "cudaMalloc", at=100, more=more, operators=operators)
    assert rows[Row.MEMORY] == 80_005_000


def test_allocating_once_wins_nothing_of_a_start_up(tmp_path):
    creating = Manage("cudaFree", 80_000_000)
    steps = [(Manage("cudaMalloc", 400_000), Kernel(50_000), Wait())] * 20
    program = Program([Thread((Kernel(50_000), creating, *(o for s in steps for o in s)))])
    told = about(explored(tmp_path, program), "memory")
    assert told.title == "allocating once instead of 20 calls in the loop"
    assert told.low_ns >= 0.99 * 80_000_000
    assert 20 * 400_000 < told.measured_ns - told.low_ns < 24 * 400_000
