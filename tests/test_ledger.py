"""The time ledger: it always closes, and each rule of booking on numbers one can check."""

import numpy as np
import pytest

from analyzers.finding import Row
from collectors.schema import CopyKind, MemoryKind
from tests.ledger_helpers import NOT_READY, PAGEABLE, booked, calls, details, launched
from tests.traces_in_memory import account, build

# --- while something runs -------------------------------------------------------------------


def test_kernels_count_before_collectives_before_copies(tmp_path):
    facts = build(
        tmp_path,
        kernels={
            "name": ["gemm", "ncclDevKernel_AllReduce_Sum_f32_RING_LL(args)"],
            "start_us": [0, 5],
            "end_us": [10, 20],
            "stream": [7, 8],
        },
        copies={"start_us": [15], "end_us": [40], "stream": 9},
    )
    assert booked(account(facts)) == {"kernel": 10, "communication": 10, "transfer": 20}


def test_a_whole_graph_counts_as_kernel_time(tmp_path):
    facts = build(tmp_path, graph_launches={"start_us": [0], "end_us": [30]})
    assert booked(account(facts)) == {"kernel": 30}


def test_concurrent_streams_are_counted_once(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 5], "duration_us": 10, "stream": [1, 2]})
    assert booked(account(facts)) == {"kernel": 15}


# --- a gap whose launch call had begun before it --------------------------------------------


def test_a_launch_call_that_spans_the_gap_is_launch_until_it_returns(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 30], 10),
        api_calls=calls(("cudaLaunchKernel", -9, -5, 1), ("cudaLaunchKernel", 5, 30, 2)),
    )
    assert booked(account(facts)) == {"kernel": 20, "launch": 20}
    assert details(account(facts)) == {"IN_LAUNCH_CALL": 20}


def test_a_deep_queue_books_the_device_pause_and_nothing_else(tmp_path):
    # 20 kernels queued long before; the device needs 1 µs between them.
    starts = np.arange(20) * 11 + 100
    facts = build(
        tmp_path,
        kernels=launched(starts, 10),
        api_calls=calls(*(("cudaLaunchKernel", n, n + 1, n) for n in range(1, 21))),
    )
    ledger = account(facts)
    assert booked(ledger) == {"kernel": 200, "launch": 19}
    assert details(ledger) == {"DEVICE_GAP": 19}
    assert ledger.device_gap_ns == (1_000,)


def test_without_enough_pauses_to_measure_ten_microseconds_are_ordinary(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([10, 40], 10),
        api_calls=calls(
            ("cudaLaunchKernel", 0, 1, 1),
            ("cudaStreamWaitEvent", 1, 1.5, 9),
            ("cudaLaunchKernel", 1.6, 2, 2),
        ),
    )
    assert booked(account(facts)) == {"kernel": 20, "launch": 10, "dependency": 10}


def test_a_constant_latency_of_an_idle_device_is_latency_and_no_dependency(tmp_path):
    # Each call is made when the device is idle, and the kernel begins 22 µs after its return.
    begins = np.arange(20) * 100
    facts = build(
        tmp_path,
        kernels=launched(begins + 24, 10),
        api_calls=calls(*(("cudaLaunchKernel", b, b + 2, n + 1) for n, b in enumerate(begins))),
    )
    rows = booked(account(facts))
    assert "dependency" not in rows
    assert "unexplained" not in rows
    assert rows["launch"] >= 19 * 24


# --- a gap in which the launch call began ---------------------------------------------------


def test_a_late_host_is_launch_while_it_dispatches_and_host_when_it_is_elsewhere(tmp_path):
    # Calls 20 µs apart are dispatching; a pause of 150 µs is something outside CUDA.
    facts = build(
        tmp_path,
        kernels=launched([0, 36, 200], [10, 10, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaLaunchKernel", 30, 35, 2),
            ("cudaLaunchKernel", 190, 195, 3),
        ),
    )
    ledger = account(facts)
    # Gap 10..36: 20 dispatching, 5 in the call, 1 latency. Gap 46..200: 144 outside, 5, 5.
    assert booked(ledger) == {"kernel": 30, "launch": 36, "host": 144}
    assert details(ledger) == {
        "DISPATCHING": 20,
        "IN_LAUNCH_CALL": 10,
        "LAUNCH_LATENCY": 6,
        "OUTSIDE_CUDA": 144,
    }


def test_a_pause_is_judged_by_its_whole_length_not_by_the_part_inside_the_gap(tmp_path):
    # The host was outside CUDA for 150 µs; only the last 50 µs of it fell into the gap.
    facts = build(
        tmp_path,
        kernels=launched([0, 160], [105, 10]),
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaLaunchKernel", 155, 160, 2)),
    )
    assert booked(account(facts)) == {"kernel": 115, "host": 50, "launch": 5}


def test_a_sync_on_a_busy_gpu_costs_nothing(tmp_path):
    # The host waits for 90 of the 100 µs; the next kernel was queued before that.
    facts = build(
        tmp_path,
        kernels=launched([0, 100], [100, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, -3, 1),
            ("cudaLaunchKernel", -3, -1, 2),
            ("cudaDeviceSynchronize", 0, 111, 9),
        ),
    )
    assert booked(account(facts)) == {"kernel": 110}


def test_a_wait_into_the_gap_and_the_refill_after_it_are_sync(tmp_path):
    # Blocked since 10; the GPU is dry at 100; the wait returns at 103; launching takes 12 µs
    # more, all of which would have been hidden during the 93 µs of waiting.
    facts = build(
        tmp_path,
        kernels=launched([0, 115], [100, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaDeviceSynchronize", 10, 103, 9),
            ("cudaLaunchKernel", 107, 112, 2),
        ),
    )
    ledger = account(facts)
    assert booked(ledger) == {"kernel": 110, "sync": 15}
    assert details(ledger) == {"IN_WAIT": 3, "REFILL": 12}
    assert set(ledger.of(Row.SYNC)["wait"]) == {1}


def test_a_short_wait_excuses_no_more_work_than_it_blocked(tmp_path):
    # Blocked for 4 µs (98 to 102), then 40 µs of dispatching: 4 of them count as refill.
    facts = build(
        tmp_path,
        kernels=launched([0, 150], [100, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaStreamSynchronize", 98, 102, 9),
            ("cudaLaunchKernel", 142, 147, 2),
        ),
    )
    ledger = account(facts)
    assert details(ledger) == {
        "IN_WAIT": 2,
        "REFILL": 4,
        "DISPATCHING": 36,
        "IN_LAUNCH_CALL": 5,
        "LAUNCH_LATENCY": 3,
    }
    assert booked(ledger) == {"kernel": 110, "sync": 6, "launch": 44}


def test_waits_of_threads_that_launch_nothing_cost_nothing(tmp_path):
    # Thread 12 waits all the time; thread 11 launches and is merely late.
    facts = build(
        tmp_path,
        kernels=launched([0, 50], 10),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaLaunchKernel", 40, 45, 2),
            ("cudaDeviceSynchronize", -10, 60, 9),
            thread=[11, 11, 12],
        ),
    )
    assert booked(account(facts)) == {"kernel": 20, "launch": 40}


def test_a_loop_of_event_queries_is_a_wait(tmp_path):
    # Queries from 5 to 30, with small pauses between them, then the launch.
    queries = [("cudaEventQuery", t, t + 1, 100 + t) for t in range(5, 30, 2)]
    facts = build(
        tmp_path,
        kernels=launched([0, 40], 10),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            *queries,
            ("cudaLaunchKernel", 32, 38, 2),
            status=[0, *[NOT_READY] * len(queries), 0],
        ),
    )
    assert details(account(facts)) == {"IN_WAIT": 20, "REFILL": 10}
    assert booked(account(facts)) == {"kernel": 20, "sync": 30}


def test_a_loop_that_asks_for_errors_between_its_queries_is_a_wait_all_the_same(tmp_path):
    queries = [
        call
        for t in range(5, 30, 2)
        for call in (("cudaStreamQuery", t, t + 1, 100 + t), ("cudaGetLastError", t + 1, t + 2, t))
    ]
    facts = build(
        tmp_path,
        kernels=launched([0, 40], 10),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            *queries,
            ("cudaLaunchKernel", 32, 38, 2),
            status=[0, *[NOT_READY, 0] * (len(queries) // 2), 0],
        ),
    )
    assert booked(account(facts)) == {"kernel": 20, "sync": 30}


@pytest.mark.parametrize(
    ("pause_us", "status"), [(20_000, 0), (20_000, NOT_READY), (50, 0)], ids=str
)
def test_queries_between_other_work_wait_for_nothing(tmp_path, pause_us, status):
    # Frameworks ask now and then whether a buffer is free again; what lies between is not a wait.
    asked = 12 + pause_us
    facts = build(
        tmp_path,
        kernels=launched([0, asked + 20], 10),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaEventQuery", 11, 12, 101),
            ("cudaEventQuery", asked, asked + 1, 102),
            ("cudaLaunchKernel", asked + 2, asked + 6, 2),
            status=[0, status, 0, 0],
        ),
    )
    assert "sync" not in booked(account(facts))


def test_a_wait_that_ended_just_before_the_gap_delays_the_next_launch_all_the_same(tmp_path):
    # The wait for stream 7 ends at 100; a memset on stream 9 keeps the device busy until 105.
    facts = build(
        tmp_path,
        kernels=launched([0, 190], [100, 10]),
        memsets={"start_us": [95], "end_us": [105], "stream": 9, "correlation_id": 3},
        api_calls=calls(
            ("cudaLaunchKernel", -9, -6, 1),
            ("cudaMemsetAsync", -5, -2, 3),
            ("cudaStreamSynchronize", 0, 100, 4),
            ("cudaLaunchKernel", 180, 186, 2),
        ),
    )
    assert booked(account(facts)) == {"kernel": 110, "transfer": 5, "sync": 85}


def test_a_wait_before_the_last_launch_is_paid_for(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 106, 190], [100, 4, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -9, -6, 1),
            ("cudaStreamSynchronize", 0, 100, 4),
            ("cudaLaunchKernel", 101, 104, 2),
            ("cudaLaunchKernel", 180, 186, 3),
        ),
    )
    assert booked(account(facts, 106)) == {"kernel": 14, "launch": 80}


def test_a_wait_that_itself_submits_is_named_as_the_wait(tmp_path):
    # Some waits submit an operation of their own; the time in them is the wait's.
    facts = build(
        tmp_path,
        kernels=launched([0], 10),
        memsets={"start_us": [40], "end_us": [45], "correlation_id": 2},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaDeviceSynchronize", 15, 50, 2)),
    )
    waits = account(facts).of(Row.SYNC)
    assert waits["wait"].tolist() == [1]


@pytest.mark.parametrize(
    ("function", "copy"),
    [
        ("cudaMemcpyAsync", {}),  # pinned: the call is merely slower than the copy
        ("cudaMemcpy", {"kind": CopyKind.DEVICE_TO_DEVICE, "source_kind": MemoryKind.DEVICE}),
        ("cudaGraphLaunch", {"graph_node": 1}),
    ],
)
def test_a_copy_that_keeps_nobody_waiting_is_no_wait(tmp_path, function, copy):
    early = function == "cudaMemcpy"  # between devices it returns before the copy begins
    facts = build(
        tmp_path,
        kernels=launched([0], 10),
        copies={"start_us": [30], "end_us": [31], "bytes": 4, "correlation_id": 2, **copy},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), (function, 20, 25 if early else 35, 2)),
    )
    assert "sync" not in booked(account(facts))


def test_staging_is_a_wait_even_if_the_call_returns_before_the_copy_ends(tmp_path):
    # cudaMemcpy of pageable memory: staged from 15 to 75, copied from 70 to 100.
    facts = build(
        tmp_path,
        kernels=launched([0], 10),
        copies={"start_us": [70], "end_us": [100], "correlation_id": 2, **PAGEABLE},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaMemcpy", 15, 75, 2)),
    )
    rows = booked(account(facts))
    assert rows == {"kernel": 10, "transfer": 30, "sync": 55, "launch": 5}


@pytest.mark.parametrize(("size", "row"), [(65_536, "launch"), (10_000_000, "sync")])
def test_only_large_pageable_copies_are_staged_by_an_asynchronous_call(tmp_path, size, row):
    facts = build(
        tmp_path,
        kernels=launched([0], 10),
        copies={"start_us": [70], "end_us": [100], "bytes": size, "correlation_id": 2, **PAGEABLE},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaMemcpyAsync", 15, 65, 2)),
    )
    assert booked(account(facts))[row] >= 50


@pytest.mark.parametrize("function", ["cudaMemcpy", "cudaMemcpyAsync"])
def test_a_copy_that_outlasts_itself_on_the_host_is_a_wait(tmp_path, function):
    # The copy call begins in the gap and returns after the copy: staging was waited for.
    facts = build(
        tmp_path,
        kernels=launched([0], [10]),
        copies={"start_us": [50], "end_us": [80], "correlation_id": 2, **PAGEABLE},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), (function, 12, 83, 2)),
    )
    ledger = account(facts)
    assert booked(ledger) == {"kernel": 10, "transfer": 30, "launch": 2, "sync": 38}


def test_an_asynchronous_copy_that_returns_early_is_no_wait(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0], [10]),
        copies={"start_us": [20], "end_us": [80], "correlation_id": 2},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaMemcpyAsync", 12, 16, 2)),
    )
    assert booked(account(facts)) == {"kernel": 10, "transfer": 60, "launch": 10}


def test_the_profiler_at_work_is_not_the_programs_fault(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 70], 10),
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaLaunchKernel", 60, 65, 2)),
        overheads={"start_us": [20, 30], "end_us": [30, 45], "name": ["Flush", "Buffer"]},
    )
    assert booked(account(facts)) == {"kernel": 20, "profiler": 25, "launch": 35}


def test_overhead_of_cuda_itself_is_not_the_profilers(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 70], 10),
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaLaunchKernel", 60, 65, 2)),
        overheads={"start_us": [20], "end_us": [45], "name": "Lazy Function Loading"},
    )
    assert booked(account(facts)) == {"kernel": 20, "launch": 60}


def test_allocating_is_memory_and_loading_a_module_is_setup(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 90], 10),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaMalloc", 15, 35, 8),
            ("cuModuleLoadData", 40, 70, 9),
            ("cudaLaunchKernel", 80, 85, 2),
        ),
    )
    # 5 + 5 + 10 dispatching, 5 in the call, 5 latency.
    assert booked(account(facts)) == {"kernel": 20, "memory": 20, "setup": 30, "launch": 30}


def test_only_what_comes_after_the_device_is_idle_is_the_cost_of_freeing(tmp_path):
    # cudaFree waits for the kernel until 100 (blocked 60 µs), then works until 130. Had the host
    # not been blocked, all of this and the launch after it would have been hidden.
    facts = build(
        tmp_path,
        kernels=launched([0, 145], [100, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaFree", 40, 130, 8),
            ("cudaLaunchKernel", 135, 140, 2),
        ),
    )
    assert booked(account(facts)) == {"kernel": 110, "sync": 45}


def test_freeing_on_an_idle_device_is_memory(tmp_path):
    # cudaFree begins at 110, after the device ran dry: nothing to wait for, 20 µs of work.
    facts = build(
        tmp_path,
        kernels=launched([0, 145], [100, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaFree", 110, 130, 8),
            ("cudaLaunchKernel", 135, 140, 2),
        ),
    )
    assert booked(account(facts))["memory"] == 20


def test_freeing_beyond_the_time_it_blocked_is_memory(tmp_path):
    # Blocked for 10 µs (90 to 100), then gives back for 30 µs: 10 hidden, 20 are its own cost.
    facts = build(
        tmp_path,
        kernels=launched([0, 145], [100, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaFree", 90, 130, 8),
            ("cudaLaunchKernel", 135, 140, 2),
        ),
    )
    ledger = account(facts)
    assert booked(ledger) == {"kernel": 110, "sync": 10, "memory": 20, "launch": 15}
