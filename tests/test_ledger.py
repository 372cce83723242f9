"""The time ledger: it always closes, and each rule of booking on numbers one can check."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzers.facts.spans import Window
from analyzers.finding import BUSY_ROWS, Row
from analyzers.ledger.ledger import DETAILS, Detail, build_ledger
from collectors.schema import CopyKind, MemoryKind
from tests.traces_in_memory import account, build

NOT_READY = 600  # what a query returns until the device has come to the point asked about
PAGEABLE = {"source_kind": MemoryKind.PAGEABLE}


def booked(ledger, device=0):
    """Rows of one device that are not 0, in µs."""
    rows = ledger.devices[device].rows
    return {row.value: ns / 1_000 for row, ns in rows.items() if ns}


def details(ledger):
    """Details of the idle time, in µs."""
    segments = ledger.segments[ledger.segments["detail"] != Detail.NONE]
    lengths = (segments["end_ns"] - segments["start_ns"]) / 1_000
    return {Detail(d).name: ns for d, ns in lengths.groupby(segments["detail"]).sum().items()}


def launched(start_us, duration_us, **more):
    """Kernels numbered 1, 2, 3 … on one stream."""
    number = np.arange(1, len(start_us) + 1)
    return {"start_us": start_us, "duration_us": duration_us, "correlation_id": number, **more}


def calls(*rows, **more):
    """API calls as (name, begin µs, end µs, correlation id)."""
    name, start, end, number = zip(*rows, strict=True)
    return {"name": name, "start_us": start, "end_us": end, "correlation_id": number, **more}


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


def test_queued_work_that_starts_late_waited_for_something_on_the_device(tmp_path):
    # Pauses of 1 µs are ordinary here; one of 51 µs is 1 µs of pause and 50 µs of dependency.
    starts = np.arange(20) * 11 + 100
    starts[10:] += 50
    facts = build(
        tmp_path,
        kernels=launched(starts, 10),
        api_calls=calls(*(("cudaLaunchKernel", n, n + 1, n) for n in range(1, 21))),
    )
    assert booked(account(facts)) == {"kernel": 200, "launch": 19, "dependency": 50}


def test_without_enough_pauses_to_measure_ten_microseconds_are_ordinary(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([10, 40], 10),
        api_calls=calls(("cudaLaunchKernel", 0, 1, 1), ("cudaLaunchKernel", 1, 2, 2)),
    )
    assert booked(account(facts)) == {"kernel": 20, "launch": 10, "dependency": 10}


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


# --- processes, orphans, skew ---------------------------------------------------------------


def test_processes_with_equal_correlation_ids_are_not_mixed_up(tmp_path):
    # Both processes number their calls 1 and 2; process 2 launches its second kernel late.
    facts = build(
        tmp_path,
        kernels={
            "start_us": [0, 11, 0, 60],
            "duration_us": 10,
            "process": [1, 1, 2, 2],
            "correlation_id": [1, 2, 1, 2],
        },
        api_calls=calls(
            ("cudaLaunchKernel", -9, -7, 1),
            ("cudaLaunchKernel", -7, -5, 2),
            ("cudaLaunchKernel", -8, -6, 1),
            ("cudaLaunchKernel", 50, 55, 2),
            process=[1, 1, 2, 2],
            thread=[11, 11, 21, 21],
        ),
    )
    ledger = account(facts, 0, 70)
    first, second = sorted(ledger.devices, key=lambda d: d.rows[Row.HOST], reverse=True)
    assert booked(ledger, first.key) == {"kernel": 20, "launch": 1, "host": 49}
    assert booked(ledger, second.key) == {"kernel": 20, "launch": 50}


def test_an_orphan_is_unexplained_and_says_why(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 50], 10),
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1)),
    )
    ledger = account(facts)
    assert booked(ledger) == {"kernel": 20, "unexplained": 40}
    assert ledger.devices[0].unexplained == {DETAILS[Detail.NO_API_CALL]: 40_000}


@pytest.mark.parametrize("recorded", [{}, {"api_calls": {}}])
def test_without_any_api_call_every_gap_is_unexplained(tmp_path, recorded):
    ledger = account(build(tmp_path, kernels=launched([0, 50], 10), **recorded))
    assert booked(ledger) == {"kernel": 20, "unexplained": 40}
    assert ledger.devices[0].unexplained == {DETAILS[Detail.NO_API_RECORDED]: 40_000}


def test_a_migration_of_unified_memory_needs_no_call(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0], [10]),
        copies={"start_us": [30], "end_us": [40], "kind": CopyKind.MANAGED_HOST_TO_DEVICE},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1)),
    )
    assert account(facts).devices[0].unexplained == {DETAILS[Detail.MANAGED_MEMORY]: 20_000}


def test_a_kernel_that_begins_before_its_call_does_is_taken_to_begin_with_it(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 40], 10),
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaLaunchKernel", 41, 46, 2)),
    )
    assert booked(account(facts)) == {"kernel": 20, "launch": 30}


def test_the_window_cuts_the_account_and_does_not_change_it(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 115], [100, 10]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaDeviceSynchronize", 10, 103, 9),
            ("cudaLaunchKernel", 107, 112, 2),
        ),
    )
    assert booked(account(facts, 90, 110)) == {"kernel": 10, "sync": 10}
    assert booked(account(facts, 102, 108)) == {"sync": 6}


def test_time_after_the_last_operation_is_nobodys_launch(tmp_path):
    facts = build(tmp_path, kernels=launched([0], [10]))
    ledger = account(facts, 0, 25)
    assert booked(ledger) == {"kernel": 10, "host": 15}
    assert details(ledger) == {"NO_MORE_WORK": 15}


def test_a_device_without_work_in_the_window_has_a_full_account(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 500], 10, device=[0, 1]),
        devices={"process": [1, 1], "device": [0, 1]},
    )
    ledger = account(facts, 0, 100)
    assert booked(ledger, 0) == {"kernel": 10, "host": 90}
    assert sum(ledger.devices[1].rows.values()) == 100_000


def test_a_gpu_is_not_waiting_before_its_first_and_after_its_last_operation(tmp_path):
    # GPU 1 gets one kernel from 60 to 70; GPU 0 works from 0 to 100.
    facts = build(
        tmp_path,
        kernels=launched([0, 60], [100, 10], device=[0, 1]),
        api_calls=calls(("cudaLaunchKernel", -9, -5, 1), ("cudaLaunchKernel", 50, 55, 2)),
    )
    ledger = account(facts)
    assert booked(ledger, 1) == {"kernel": 10, "host": 90}
    assert details(ledger) == {"NOT_YET_USED": 60, "NO_MORE_WORK": 30}
    assert [d.unused_ns for d in ledger.devices] == [0, 90_000]
    assert ledger.in_use_ns == 110_000


def test_what_the_host_did_before_any_operation_is_nobodys_loss(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([1_000], [10]),
        api_calls=calls(("cudaLaunchKernel", 990, 995, 1)),
    )
    ledger = account(facts, 0)
    assert booked(ledger) == {"kernel": 10, "host": 990, "launch": 10}
    assert ledger.devices[0].unused_ns == 990_000


def test_a_copy_that_outlasts_itself_between_devices_needs_no_staging(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0], 10),
        copies={
            "start_us": [30],
            "end_us": [31],
            "kind": CopyKind.DEVICE_TO_DEVICE,
            "source_kind": -1,
            "destination_kind": -1,
            "correlation_id": 2,
        },
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaMemcpyAsync", 20, 35, 2)),
    )
    assert "sync" not in booked(account(facts))


def test_a_synchronous_copy_is_one_even_if_the_clocks_disagree_a_little(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0], 10),
        copies={"start_us": [30], "end_us": [62], "correlation_id": 2},
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaMemcpy", 15, 60, 2)),
    )
    assert booked(account(facts))["sync"] >= 15


def test_before_any_operation_a_gpu_waits_for_the_first(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([60], [10]),
        api_calls=calls(("cuModuleLoadData", 0, 40, 7), ("cudaLaunchKernel", 50, 55, 1)),
    )
    assert booked(account(facts, 0)) == {"kernel": 10, "launch": 20, "setup": 40}


@pytest.mark.parametrize(("names", "row"), [(["a", "a"], "launch"), (["a", "b"], "setup")])
@pytest.mark.parametrize("begins", [-1, 1], ids=["before the gap", "in the gap"])
def test_only_the_first_launch_of_a_kernel_can_be_loading_it(tmp_path, names, row, begins):
    # 5 ms in a launch call: a full queue, or the kernel's module being loaded.
    facts = build(
        tmp_path,
        kernels=launched([0, 5_010], 10, name=names),
        api_calls=calls(
            ("cudaLaunchKernel", -9, -5, 1), ("cudaLaunchKernel", 10 + begins, 5_009, 2)
        ),
    )
    rows = booked(account(facts))
    assert max(rows, key=rows.get) == row


def test_mapping_graphics_resources_is_no_graph_instantiation(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([0, 100], 10),
        api_calls=calls(
            ("cudaLaunchKernel", -9, -5, 1),
            ("cudaGraphicsMapResources", 12, 80, 7),
            ("cudaLaunchKernel", 90, 95, 2),
        ),
    )
    assert booked(account(facts)) == {"kernel": 20, "launch": 90}


# --- the account always closes --------------------------------------------------------------

FUNCTIONS = (
    "cudaLaunchKernel",
    "cudaMemcpyAsync",
    "cudaMemcpy",
    "cudaDeviceSynchronize",
    "cudaEventQuery",
    "cudaFree",
    "cudaMalloc",
    "cuModuleLoadData",
    "cudaGetDevice",
)
KERNELS = ("gemm", "ncclKernel_AllReduce")
SLOTS = 60  # times are whole multiples of a unit, so that borders meet often
UNITS = (1, 1_000, 7_000, 60_000)  # ns; below, at and above the ledger's thresholds


def columns_of(rows, names):
    return dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}


@st.composite
def recordings(draw):
    """Tables of a random recording, nothing about it being sensible."""
    unit = draw(st.sampled_from(UNITS))
    moment = st.integers(0, SLOTS).map(lambda n: n * unit)
    length = st.integers(0, 12).map(lambda n: n * unit)
    process, number = st.integers(1, 2), st.integers(-1, 9)
    place = (process, st.integers(0, 1), st.integers(1, 2), number)
    on_device = ("start_ns", "duration_ns", "process", "device", "stream", "correlation_id")
    kernel = st.tuples(moment, length, *place, st.sampled_from(KERNELS))
    copy = st.tuples(moment, length, *place, st.sampled_from([CopyKind(1), CopyKind(11)]))
    call = st.tuples(moment, length, process, number, st.sampled_from(FUNCTIONS), st.integers(1, 2))
    tables = {
        "kernels": columns_of(draw(st.lists(kernel, max_size=10)), (*on_device, "name")),
        "copies": columns_of(draw(st.lists(copy, max_size=4)), (*on_device, "kind")),
        "memsets": columns_of(draw(st.lists(st.tuples(moment, length, *place))), on_device),
    }
    api = columns_of(
        draw(st.lists(call, max_size=14)),
        ("start_ns", "duration_ns", "process", "correlation_id", "name", "thread"),
    )
    if api:
        # Threads belong to one process; a correlation id may still occur twice.
        api["thread"] = np.array(api["process"]) * 10 + np.array(api["thread"])
    if api or draw(st.booleans()):
        tables["api_calls"] = api
    overhead = st.tuples(moment, length, st.sampled_from([11, 12, 21]))
    tables["overheads"] = columns_of(
        draw(st.lists(overhead, max_size=3)), ("start_ns", "duration_ns", "thread")
    )
    tables["devices"] = {"process": [1, 1, 2, 2], "device": [0, 1, 0, 1]}
    if draw(st.booleans()):
        tables["devices"]["physical"] = [0, 1, 0, 1]  # both processes share the GPUs
    begin, end = sorted((draw(st.integers(-10, SLOTS + 20)), draw(st.integers(-10, SLOTS + 20))))
    window = Window(start_ns=begin * unit, end_ns=end * unit + draw(st.integers(1, 3)))
    return tables, window


def facts_and_ledger(tables, window=None):
    with tempfile.TemporaryDirectory() as folder:
        facts = build(Path(folder), **tables)
        return facts, build_ledger(facts, window) if window else account(facts)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recordings())
def test_the_rows_sum_to_the_window_and_the_segments_partition_it(recording):
    tables, window = recording
    facts, ledger = facts_and_ledger(tables, window)
    assert ledger.duration_ns == window.duration_ns * len(facts.devices)
    for device in ledger.devices:
        assert sum(device.rows.values()) == device.duration_ns == window.duration_ns
        assert sum(device.unexplained.values()) == device.rows[Row.UNEXPLAINED]
        mine = ledger.segments[ledger.segments["device"] == device.key]
        assert mine["start_ns"].iloc[0] == window.start_ns
        assert mine["end_ns"].iloc[-1] == window.end_ns
        assert (mine["start_ns"].to_numpy()[1:] == mine["end_ns"].to_numpy()[:-1]).all()
        assert (mine["start_ns"] < mine["end_ns"]).all()
        assert device.busy_ns == busy_ns(facts, device.key, window)
        assert device.busy_ns == sum(device.rows[r] for r in BUSY_ROWS)


def busy_ns(facts, key, window):
    rows = facts.launches[facts.launches["device"] == key]
    cuts = sorted({*rows["start_ns"], *rows["end_ns"], window.start_ns, window.end_ns})
    return sum(
        high - low
        for low, high in itertools.pairwise(cuts)
        if window.start_ns <= low < window.end_ns
        and ((rows["start_ns"] <= low) & (rows["end_ns"] >= high)).any()
    )


# --- every booking again, microsecond by microsecond ----------------------------------------

PAUSE_US = 10  # too few queued launches to measure the device's own pause
WORDS = {
    "cudaLaunchKernel": "launch",
    "cudaGetDevice": "other",
    "cudaDeviceSynchronize": "wait",
    "cudaEventQuery": "wait",  # not ready yet; alone it waits for nothing
    "cudaStreamQuery": "wait",  # ready
    "cudaFree": "free",
    "cudaMalloc": "memory",
    "cuModuleLoadData": "setup",
    "": "unnamed",
}
QUERIES = ("cudaEventQuery", "cudaStreamQuery")
RANK = ("outside", "dispatch", "other", "unnamed", "launch", "wait", "free", "memory", "setup")
ROW_OF = {
    "outside": "host",
    "dispatch": "launch",
    "other": "launch",
    "unnamed": "unexplained",
    "launch": "launch",
    "wait": "sync",
    "free": "memory",
    "memory": "memory",
    "setup": "setup",
}


@st.composite
def programs(draw):
    """One thread's calls in order, and kernels that some of them launch; whole µs."""
    now, rows, launches, free = 0, [], [], 0
    for number in range(1, draw(st.integers(2, 9))):
        now += draw(st.sampled_from([0, 1, 5, 30, 101]))
        name = draw(st.sampled_from(["cudaLaunchKernel", *WORDS]))
        end = now + draw(st.integers(1, 20))
        if name == "cudaLaunchKernel":
            begin = max(free, now + draw(st.integers(0, 30))) + draw(st.integers(0, 3))
            free = begin + draw(st.sampled_from([1, 10, 60]))
            launches.append((begin, free, number))
        rows.append((name, now, end, number))
        now = end
    launches = launches or [(5, 6, 99)]
    return rows, launches


def asks_on(a, b):
    """Whether query ``b`` belongs to the same loop as query ``a``."""
    return a[0] == "cudaEventQuery" and b[0] in QUERIES and b[1] - a[2] <= 100


def stretches(rows):
    """What each call is, and from when to when; a loop of queries is one wait."""
    kept = [row for row in rows if WORDS[row[0]] != "other"]  # these may stand between queries
    found = [("other", begin, end) for name, begin, end, _ in rows if WORDS[name] == "other"]
    for place, (name, begin, end, _) in enumerate(kept):
        word = WORDS[name]
        if name in QUERIES:
            first = last = place
            while first and asks_on(kept[first - 1], kept[first]):
                first -= 1
            while last + 1 < len(kept) and asks_on(kept[last], kept[last + 1]):
                last += 1
            word = "wait" if last > first else "other"
            begin, end = kept[first][1], kept[last][2]
        found.append((word, begin, end))
    return sorted(found, key=lambda f: f[1])


def owed_before(rows, moment):
    """How long the last wait before ``moment`` was, if nothing was launched since it."""
    owed = 0
    for word, begin, end in stretches(rows):
        if begin < moment and word in ("wait", "free"):
            owed = end - begin if end <= moment else 0
        elif begin < moment and word == "launch":
            owed = 0
    return owed


def thread_does(rows, moment):
    """What the thread does in the microsecond that begins at ``moment``."""
    here = [(word, begin) for word, begin, end in stretches(rows) if begin <= moment < end]
    if here:
        return max((w for w, _ in here), key=RANK.index), here[0][1]
    before = max((r[2] for r in rows if r[2] <= moment), default=-(10**6))
    after = min((r[1] for r in rows if r[1] > moment), default=10**6)
    return ("dispatch" if after - before <= 100 else "outside"), before


def blocked_since(rows, moment):
    """Begin of the blocking stretch around ``moment``."""
    while thread_does(rows, moment - 1)[0] in ("wait", "free"):
        moment -= 1
    return moment


def expected_gap(rows, begin, end, number):
    """Book the idle time from ``begin`` to ``end``, ended by call ``number``."""
    calls_by_number = {r[3]: r for r in rows}
    if number not in calls_by_number:
        return {"unexplained": end - begin}
    _, called, returned, _ = calls_by_number[number]
    called = min(called, end)
    returned = min(max(returned, called), end)
    late = max(end - PAUSE_US, returned, begin)  # from here on it is the device's own pause
    booked_us, saved = {}, 0
    for moment in range(begin, end):
        if moment < called:
            word, _ = thread_does(rows, moment)
            row = ROW_OF[word]
            if moment == begin and word in ("wait", "free"):
                saved += begin - blocked_since(rows, begin)
            elif moment == begin:
                saved += owed_before(rows, begin)
            saved += word == "wait"
        else:
            word = "launch" if moment < returned or moment >= late else "dependency"
            row = word
        if word != "wait" and saved and called > begin:
            saved, row = saved - 1, "sync"
        booked_us[row] = booked_us.get(row, 0) + 1
    return booked_us


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_each_microsecond_of_idle_time_is_booked_as_the_words_say(program):
    rows, launches = program
    begin, end, number = zip(*launches, strict=True)
    tables = {
        "kernels": {"start_us": begin, "end_us": end, "correlation_id": number},
        "api_calls": calls(
            *rows, status=[NOT_READY if r[0] == "cudaEventQuery" else 0 for r in rows]
        ),
    }
    _, ledger = facts_and_ledger(tables)
    expected = {"kernel": 0}
    for (_, idle_from, _), (start, _, which) in itertools.pairwise(launches):
        for row, us in expected_gap(rows, idle_from, start, which).items():
            expected[row] = expected.get(row, 0) + us
    expected["kernel"] = sum(e - b for b, e, _ in launches)
    assert booked(ledger) == {row: us for row, us in expected.items() if us}
