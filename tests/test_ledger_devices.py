"""The ledger beside ordinary gaps: several processes and devices, orphans, clock skew, windows."""

import pytest

from analyzers.finding import Row
from analyzers.ledger.ledger import DETAILS, Detail
from collectors.schema import CopyKind
from tests.ledger_helpers import booked, calls, details, launched
from tests.traces_in_memory import account, build

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
