"""The host takes back what the GPU computed, page by page; prefetches belong to their calls."""

import numpy as np
import pytest

from analyzers import analyze
from analyzers.finding import Clear, Row
from analyzers.ledger.ledger import Detail
from analyzers.rules import bandwidth_managed_memory, host_page_reads, host_starvation
from collectors import open_trace
from collectors.schema import CopyKind, MemoryKind, MigrationCause
from tests import scenarios
from tests.ledger_helpers import booked, calls, details, launched
from tests.traces_in_memory import account, build

FAULT, EVICTION = MigrationCause.PAGE_FAULT, MigrationCause.EVICTION
BY_USER = MigrationCause.USER_PREFETCH
OUT, IN = CopyKind.MANAGED_DEVICE_TO_HOST, CopyKind.MANAGED_HOST_TO_DEVICE


def back(start_us, cause=FAULT, duration_us=10, kind=OUT, **more):
    """Pages of 64 KiB that go back to the host."""
    managed = {"source_kind": MemoryKind.MANAGED, "destination_kind": MemoryKind.MANAGED}
    one = {"kind": kind, "migration_cause": cause, "bytes": 65_536, "stream": 16, **managed}
    return {"start_us": start_us, "duration_us": duration_us, **one, **more}


def step(tmp_path, copies, *more_calls, **more):
    """A kernel of 100 µs, a wait, pages that go back, and another kernel at 500 µs."""
    return build(
        tmp_path,
        kernels=launched([0, 500], [100, 100]),
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaDeviceSynchronize", 1, 104, 7),
            *more_calls,
            ("cudaLaunchKernel", 490, 495, 2),
        ),
        copies=copies,
        **more,
    )


def test_a_gap_that_ends_with_a_page_taken_back_is_the_host_reading(tmp_path):
    ledger = account(step(tmp_path, back([150, 300])))
    # 100 to 104 inside the wait, 104 to 150 and 160 to 300 reading; 310 on until the next launch.
    assert details(ledger)["READING_PAGES"] == 186
    assert booked(ledger)["transfer"] == 20
    assert sum(booked(ledger).values()) == 600
    assert details(ledger)["IN_WAIT"] == 4
    assert booked(ledger).get("unexplained", 0) == 0


def test_what_the_thread_does_in_calls_until_it_reads_counts_for_those(tmp_path):
    facts = step(tmp_path, back([300]), ("cudaMalloc", 120, 180, 9))
    assert details(account(facts))["ALLOCATING"] == 60
    assert details(account(facts))["READING_PAGES"] == 300 - 104 - 60


@pytest.mark.parametrize("cause", [EVICTION, BY_USER])
def test_pages_that_nobody_on_the_host_touched_are_not_read(tmp_path, cause):
    ledger = account(step(tmp_path, back([150, 300], cause)))
    assert "READING_PAGES" not in details(ledger)


def test_without_api_calls_the_host_is_reading_all_the_same(tmp_path):
    facts = build(tmp_path, kernels=launched([0], [100]), copies=back([150]))
    assert details(account(facts)) == {"READING_PAGES": 50}


def test_each_gpu_has_the_thread_that_reads_its_pages(tmp_path):
    facts = build(
        tmp_path,
        kernels={
            "start_us": [0, 0, 600, 600],
            "duration_us": 100,
            "device": [0, 1, 0, 1],
            "process": [1, 2, 1, 2],
            "correlation_id": [1, 1, 3, 3],
        },
        api_calls=calls(
            ("cudaLaunchKernel", -5, 0, 1),
            ("cudaLaunchKernel", -4, 0, 1),
            ("cudaDeviceSynchronize", 1, 104, 2),
            ("cudaStreamSynchronize", 1, 104, 2),
            ("cudaLaunchKernel", 590, 595, 3),
            ("cudaLaunchKernel", 590, 595, 3),
            process=[1, 2] * 3,
            thread=[11, 21] * 3,
        ),
        copies=back([200, 400], device=[0, 1], process=[1, 2]),
        ranges={
            "start_us": [104, 104],
            "end_us": [300, 480],
            "process": [1, 2],
            "thread": [11, 21],
            "name": ["check", "print"],
        },
    )
    ledger = account(facts)
    reads = ledger.of(Row.HOST, Detail.READING_PAGES).groupby("device")["ns"].sum().to_dict()
    assert reads == {0: 96_000, 1: 296_000}
    finding = host_page_reads.check(facts, ledger)
    assert "mostly during print (296 µs)" in finding.title
    assert {e.name: e.value for e in finding.evidence}["in range check"] == 96_000


def test_the_call_and_the_bytes_are_named(tmp_path):
    finding = host_page_reads.check(*(lambda f: (f, account(f)))(step(tmp_path, back([150, 300]))))
    assert finding.title == (
        "The host was reading results page by page after cudaDeviceSynchronize: the GPU idled for "
        "186 µs, 31 % of the window, while 131 kB came back in 2 migrations"
    )
    assert finding.lost_ns == 186_000
    assert finding.culprit == "reading results page by page after cudaDeviceSynchronize"
    assert "cudaCpuDeviceId" in finding.advice
    assert "--cuda-um-cpu-page-faults=true" in finding.advice


@pytest.mark.parametrize(("kernel_us", "says"), [(2_435, True), (2_436, False)], ids=str)
def test_little_reading_is_not_worth_a_word(tmp_path, kernel_us, says):
    # 50 µs of reading beside a long kernel: 2 % of the time in use is the limit.
    facts = build(
        tmp_path,
        kernels=launched([0, 65], [5, kernel_us]),
        api_calls=calls(("cudaLaunchKernel", -5, 0, 1), ("cudaLaunchKernel", 55, 60, 2)),
        copies=back([55]),
    )
    outcome = host_page_reads.check(facts, account(facts))
    assert (outcome != Clear()) == says


def test_reading_is_not_counted_twice(tmp_path):
    facts = step(tmp_path, back([150, 300]))
    ledger = account(facts)
    findings = host_page_reads.check(facts, ledger), host_starvation.check(facts, ledger)
    # 310 to 490 is the host at work after the last page; the launch call begins then.
    assert [f.lost_ns for f in findings] == [186_000, 180_000]
    assert ledger.total_ns(Row.HOST) == 366_000


def test_the_function_that_reads_is_known_where_faults_of_the_cpu_were_recorded(tmp_path):
    trace = open_trace(scenarios.results_read_page_by_page(steps=6, pages=20), tmp_path)
    faults = trace.columns("page_faults", ["device", "name_id"])
    assert faults["device"].tolist() == [-1] * 120
    assert set(trace.names(faults["name_id"])) == {"check_result"}
    report = analyze(trace)
    finding = next(f for f in report.findings if f.id == "host.page_reads")
    assert ", in check_result: the GPU idled for 5.88 ms" in finding.title
    assert "page-faults" not in finding.advice
    assert report.verdict.cause == "host"
    assert "reading results page by page after cudaDeviceSynchronize" in report.verdict.sentence


# --- prefetches -----------------------------------------------------------------------------


def prefetched(tmp_path, cause=BY_USER):
    """Two pieces that a call asked for, a third on another process's account, a kernel after."""
    return build(
        tmp_path,
        kernels={"start_us": [100], "duration_us": 50, "correlation_id": 2},
        api_calls=calls(
            ("cudaMemPrefetchAsync", 0, 8, 1),
            ("cudaLaunchKernel", 10, 14, 2),
            ("cudaMemPrefetchAsync", 40, 44, 3),
        ),
        copies=back([5, 52], cause, 40, IN),
    )


def test_a_prefetch_belongs_to_the_call_that_asked(tmp_path):
    facts = prefetched(tmp_path)
    rows = facts.launches["api_row"].to_numpy()
    assert rows.tolist() == [0, 2, 1]
    assert "unexplained" not in booked(account(facts))


def test_only_what_the_program_asked_for_is_joined_to_its_calls(tmp_path):
    assert prefetched(tmp_path, FAULT).launches["api_row"].tolist() == [-1, -1, 1]


@pytest.mark.parametrize(
    ("cause", "kind", "words", "gain_ns"),
    [
        (BY_USER, IN, "; these are prefetches that no kernel hides", 50_000),
        (FAULT, OUT, "; these are pages that the host took back as it touched them", -1),
        (EVICTION, OUT, "; these are pages that left the GPU to make room", -1),
        (FAULT, IN, "", -1),
    ],
)
def test_why_pages_moved_while_no_kernel_ran_is_said(tmp_path, cause, kind, words, gain_ns):
    facts = build(
        tmp_path,
        kernels=launched([100], [50]),
        api_calls=calls(("cudaMemPrefetchAsync", 0, 8, 9), ("cudaLaunchKernel", 10, 14, 1)),
        copies=back([5, 52], cause, 40, kind),
    )
    finding = bandwidth_managed_memory.check(facts, account(facts))
    assert finding.title == (
        "2 migrations of unified memory moved 131 kB in 80 µs while no kernel ran: 55 % of the "
        f"window{words}"
    )
    assert finding.gain_ns == gain_ns


def test_most_of_the_time_decides_which_reason_is_named(tmp_path):
    facts = build(
        tmp_path,
        kernels=launched([200], [50]),
        copies=back([0, 100], [FAULT, EVICTION], [60, 40]),
    )
    finding = bandwidth_managed_memory.check(facts, account(facts))
    assert "; mostly pages that the host took back" in finding.title


def test_the_accounts_close_with_pages_both_ways(tmp_path):
    draw = np.random.default_rng(5)
    for number in range(10):
        start = np.sort(draw.integers(0, 900, 12))
        facts = step(
            tmp_path / str(number),
            back(
                start,
                draw.choice([FAULT, EVICTION, BY_USER, MigrationCause.UNKNOWN], 12),
                draw.integers(1, 40, 12),
                draw.choice([IN, OUT], 12),
            ),
        )
        ledger = account(facts)
        assert sum(ledger.devices[0].rows.values()) == ledger.window.duration_ns
