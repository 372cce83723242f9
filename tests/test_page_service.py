"""Kernels that wait for pages of unified memory: what waiting costs, and what can be won back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.facts.windows import choose_window
from analyzers.finding import Clear, Finding, Row, Skipped
from analyzers.intervals import intersect
from analyzers.ledger.ledger import spans_of
from analyzers.losses.page_service import LONGEST_PAUSE_NS, page_service
from analyzers.losses.parallelism import main_kernel
from analyzers.rules import bandwidth_migrations_in_kernels as rule
from analyzers.whatif.whatif import explore
from collectors.schema import CopyKind, MemoryKind, MigrationCause
from tests.traces_in_memory import account, build, forget, make_trace

IN, OUT = CopyKind.MANAGED_HOST_TO_DEVICE, CopyKind.MANAGED_DEVICE_TO_HOST
FAULT, SPECULATIVE = MigrationCause.PAGE_FAULT, MigrationCause.SPECULATIVE_PREFETCH
EVICTION, BY_USER = MigrationCause.EVICTION, MigrationCause.USER_PREFETCH
MANAGED = {"source_kind": MemoryKind.MANAGED, "destination_kind": MemoryKind.MANAGED, "stream": 16}
CALL = {"start_us": [0], "duration_us": 1}


def pages(start_us, cause=FAULT, duration_us=10, kind=IN, size=200_000, **more):
    """Migrations of unified memory, one for each begin."""
    one = {"kind": kind, "migration_cause": cause, "bytes": size, **MANAGED}
    return {"start_us": start_us, "duration_us": duration_us, **one, **more}


def found(facts, start_us=None, end_us=None):
    return rule.check(facts, account(facts, start_us, end_us))


def service(facts, start_us=None, end_us=None):
    return page_service(facts, account(facts, start_us, end_us))


def one_kernel(tmp_path, copies, **more):
    """A kernel of 1 ms that begins at 10 µs."""
    kernel = {"start_us": [10], "duration_us": 1_000, "name": "inc"}
    return build(tmp_path, kernels=kernel, copies=copies, **more)


# --- which migrations count -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "calls", "ns"),
    [
        (FAULT, "cudaLaunchKernel", 20_000),
        (SPECULATIVE, "cudaLaunchKernel", 20_000),
        (MigrationCause.ACCESS_COUNTERS, "cudaLaunchKernel", 20_000),
        (MigrationCause.UNKNOWN, "cudaLaunchKernel", 20_000),
        (BY_USER, "cudaLaunchKernel", 0),
        (FAULT, "cudaMemPrefetchAsync", 20_000),
        (SPECULATIVE, "cudaMemPrefetchAsync", 0),
        (MigrationCause.UNKNOWN, "cudaMemPrefetchAsync", 0),
        (BY_USER, "cudaMemPrefetchAsync", 0),
    ],
)
def test_what_the_driver_brings_along_counts_unless_the_program_prefetches(
    tmp_path, cause, calls, ns
):
    far = pages([100, 500], cause)  # two of 10 µs, with a pause longer than answering a fault
    facts = one_kernel(tmp_path, far, api_calls={**CALL, "name": calls})
    assert service(facts).ns == ns


def test_what_is_called_speculative_is_not_the_programs_where_its_own_is_known(tmp_path):
    mixed = pages([100, 400, 800], [BY_USER, SPECULATIVE, FAULT])
    facts = one_kernel(tmp_path, mixed, api_calls={**CALL, "name": "cudaMemPrefetchAsync"})
    assert service(facts).ns == 20_000
    finding = found(facts)
    assert "The program prefetches already" in finding.advice


def test_one_process_that_prefetches_says_nothing_of_another(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 0], "duration_us": 1_000, "process": [1, 2], "device": [0, 1]},
        copies=pages([100, 300], SPECULATIVE, process=[1, 2], device=[0, 1]),
        api_calls={**CALL, "name": "cudaMemPrefetchAsync", "process": 2, "thread": 21},
    )
    part = service(facts)
    assert {key: spans.total for key, spans in part.spans.items()} == {0: 10_000, 1: 0}


def test_migrations_without_a_cause_are_left_open_in_a_program_that_prefetches(tmp_path):
    copies = pages([100], MigrationCause.UNKNOWN, 500)
    facts = one_kernel(tmp_path, copies, api_calls={**CALL, "name": "cudaMemPrefetchAsync"})
    answer = found(facts)
    assert isinstance(answer, Skipped)
    assert "--cuda-um-gpu-page-faults=true" in answer.reason


def test_recorded_faults_count_where_no_migration_has_a_cause(tmp_path):
    facts = one_kernel(
        tmp_path,
        pages([100], MigrationCause.UNKNOWN, 500),
        api_calls={**CALL, "name": "cudaMemPrefetchAsync"},
        page_faults={"start_us": [300], "duration_us": 60, "process": 1, "device": 0, "count": 9},
    )
    assert (service(facts).least_ns, service(facts).ns) == (0, 60_000)


def test_faults_of_the_host_make_no_kernel_wait(tmp_path):
    faults = {"start_us": [300], "duration_us": 60, "process": 1, "device": -1, "count": 1}
    facts = one_kernel(tmp_path, pages([100], BY_USER), page_faults=faults)
    assert found(facts) == Clear()


# --- pauses between them --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pause_us", "least_ns", "ns"),
    [
        (10, 29_000, 30_000),
        (20, 38_000, 40_000),
        (40, 38_000, 60_000),
        (100, 38_000, 120_000),
        (101, 20_000, 20_000),
    ],
    ids=str,
)
def test_a_short_pause_between_two_pages_counts_as_answering_a_fault(
    tmp_path, pause_us, least_ns, ns
):
    assert LONGEST_PAUSE_NS == 100_000
    part = service(one_kernel(tmp_path, pages([100, 110 + pause_us])))
    # At least 20 µs of a pause, less a tenth for the kernel's own work.
    assert (part.least_ns, part.ns) == (least_ns, ns)


def test_a_pause_between_the_pages_of_two_kernels_is_nobodys(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 100], "duration_us": 100, "name": ["a", "b"]},
        copies=pages([80, 110]),
    )
    assert service(facts).ns == 20_000


def test_a_pause_beside_a_long_migration_is_none(tmp_path):
    part = service(one_kernel(tmp_path, pages([100, 120, 400], duration_us=[200, 10, 10])))
    assert part.ns == 310_000  # 100 to 410: the pause begins where the long one ends


# --- the same kernel with its pages there ---------------------------------------------------


def repeated(tmp_path, second_us, grid_x=64):
    """A launch of 1 ms with three pages, and one without."""
    return build(
        tmp_path,
        kernels={
            "start_us": [0, 2_000],
            "duration_us": [1_000, second_us],
            "name": "inc",
            "grid_x": [64, grid_x],
        },
        copies=pages([5, 300, 980]),
    )


def test_a_launch_that_found_its_pages_tells_what_waiting_cost(tmp_path):
    facts = repeated(tmp_path, 100)
    part = service(facts, 0, 1_000)
    assert (part.least_ns, part.ns, part.resident_ns) == (900_000, 900_000, 100_000)
    finding = found(facts, 0, 1_000)
    assert finding.title == (
        "`inc` waited for pages of unified memory for 900 µs of the 1 ms that 1 launch took, "
        "90 % of the window: 3 migrations (600 kB) came meanwhile; it takes 100 µs with its "
        "pages there"
    )
    # 600 kB at 20 GB/s, and 100 µs of other work beside which they can be copied.
    assert (finding.lost_ns, finding.gain_ns) == (900_000, -1)
    assert part.gain_ns == (870_000, 900_000)


def test_a_launch_of_another_configuration_tells_nothing(tmp_path):
    part = service(repeated(tmp_path, 100, grid_x=65), 0, 1_000)
    assert (part.least_ns, part.ns, part.resident_ns) == (30_000, 30_000, -1)


def test_a_kernel_that_is_no_faster_without_its_pages_did_not_wait(tmp_path):
    assert found(repeated(tmp_path, 1_000), 0, 1_000) == Clear()


def test_what_is_longer_after_the_last_page_did_not_wait_for_pages(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 2_000], "duration_us": [1_000, 100], "name": "inc"},
        copies=pages([0, 190]),
    )
    assert service(facts, 0, 1_000).ns == 200_000


# --- what can be won back -------------------------------------------------------------------


def test_the_copy_remains(tmp_path):
    # 50 pages of 200 kB: 500 µs moving at 20 GB/s and 49 pauses of 10 µs, all but 10 µs of it.
    facts = one_kernel(tmp_path, pages(10 + 20 * np.arange(50)))
    part, finding = service(facts), found(facts)
    assert (part.least_ns, part.ns, part.copy_ns) == (941_000, 990_000, 500_000)
    # At best the link is a tenth faster; nothing else runs for more than 10 µs.
    assert (finding.low_ns, finding.lost_ns, finding.gain_ns) == (941_000, 990_000, 545_455)
    assert part.gain_ns == (441_000, 545_455)
    assert "as whole copies they take 500 µs at 20 GB/s" in finding.advice
    assert "10 MB that `inc` touches" in finding.advice


def test_the_copy_is_free_beside_other_work(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [10, 1_010], "duration_us": [1_000, 600], "name": ["inc", "other"]},
        copies=pages(10 + 20 * np.arange(50)),
    )
    assert service(facts).gain_ns == (441_000, 990_000)


def test_large_pieces_and_pinned_copies_tell_how_fast_the_link_is(tmp_path):
    # 400 kB in 10 µs are 40 GB/s; the small piece does not count.
    part = service(one_kernel(tmp_path, pages([100, 300], size=[400_000, 4_096])))
    assert part.bytes_per_ns == 40.0
    both = pages(
        [100, 2_000], [FAULT, -1], kind=[IN, CopyKind.HOST_TO_DEVICE], size=[400_000, 600_000]
    )
    both["source_kind"] = [MemoryKind.MANAGED, MemoryKind.PINNED]
    assert service(one_kernel(tmp_path / "pinned", both)).bytes_per_ns == 60.0


# Kernels that stream once through data that the host wrote, without and with a prefetch, as people
# published what `nsys stats` said: kernel time, sum and number of migrations to the GPU, their
# bytes, the largest one (4 KiB to 1 MiB each); then, prefetched, kernel time and sum of migrations.
# The first is addVectorsInto of NVIDIA's course on CUDA C/C++, at 6 GB/s; the second increments
# 128 MiB, at 24 GB/s.
PUBLISHED = {
    "vectors": (139_197_810, 68_810_237, 2_304, 402_653_184, (1_044_480, 172_927)),
    "increment": (26_993_179, 10_973_066, 2_323, 134_217_728, (917_504, 39_040)),
}
PREFETCHED = {"vectors": (1_697_611, 65_658_107), "increment": (426_560, 5_485_405)}


def streamed(name, begin_ns=10_000):
    """Migrations as published: some of the largest size, all others alike, and equal pauses."""
    kernel_ns, moved_ns, count, size, (largest, largest_ns) = PUBLISHED[name]
    many = count // 40
    sizes = np.full(count, (size - many * largest) // (count - many))
    duration = np.full(count, (moved_ns - many * largest_ns) // (count - many))
    sizes[:many], duration[:many] = largest, largest_ns
    pause = (kernel_ns - int(duration.sum())) // count
    start = begin_ns + np.cumsum(duration + pause) - duration - pause
    copies = {"start_ns": start, "end_ns": start + duration, "bytes": sizes}
    copies |= {"kind": IN, "migration_cause": FAULT, **MANAGED}
    return copies


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_prefetching_really_won_lies_in_the_range(tmp_path, name):
    kernel_ns, copies = PUBLISHED[name][0], streamed(name, 1_000)
    facts = build(
        tmp_path, kernels={"start_ns": [1_000], "end_ns": [1_000 + kernel_ns]}, copies=copies
    )
    least, most = service(facts).gain_ns
    won = kernel_ns - sum(PREFETCHED[name])
    assert least < won < most
    assert most < 1.1 * won


# --- both ways ------------------------------------------------------------------------------


@pytest.mark.parametrize(("evicted", "thrashes"), [(39_999, False), (40_000, True)], ids=str)
def test_pages_that_leave_for_others_mean_that_the_data_does_not_fit(tmp_path, evicted, thrashes):
    moves = pages([100, 300, 500], [FAULT, FAULT, EVICTION], 50, [IN, IN, OUT])
    moves["bytes"] = [200_000, 200_000, evicted]
    facts = one_kernel(tmp_path, moves)
    part, finding = service(facts), found(facts)
    assert part.ns == 150_000
    assert part.is_thrashing == thrashes
    assert ("does not fit into the GPU's memory" in finding.title) == thrashes
    assert ("Work through the data in parts" in finding.advice) == thrashes
    # 400 kB take 100 µs at 4 GB/s. Where pages leave, how many came twice is not recorded.
    assert part.gain_ns[0] == (0 if thrashes else 50_000)
    assert finding.lost_ns == 150_000


def test_pages_that_the_host_takes_back_between_launches_are_named(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 1_000], "duration_us": 500, "name": "inc"},
        copies=pages([10, 600, 1_010], FAULT, 300, [IN, OUT, IN], [200_000, 200_000, 200_000]),
    )
    assert "The host takes 200 kB back between launches" in found(facts).advice


def test_two_gpus_wait_each_for_its_own_pages(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 0], "duration_us": 1_000, "device": [0, 1], "name": ["a", "b"]},
        copies=pages([100, 120, 700], device=[0, 1, 1]),
    )
    part = service(facts)
    assert {key: spans.total for key, spans in part.spans.items()} == {0: 10_000, 1: 20_000}
    assert main_kernel(facts, part.kernels) == "b"
    assert found(facts) == Clear()  # 30 µs of 2 ms are too little to speak of


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.integers(1, 12), st.sampled_from([FAULT, BY_USER, EVICTION])
        ),
        max_size=8,
    ),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 12)), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=40)
def test_what_waits_lies_in_kernels_and_holds_what_waits_at_least(tmp_path_factory, moves, runs):
    starts = np.cumsum([gap + length for gap, length in runs]) * 20
    lengths = np.array([length for _, length in runs]) * 20
    copies = (
        pages(
            [20 * a for a, _, _ in moves],
            [c for _, _, c in moves],
            [5 * b for _, b, _ in moves],
            [OUT if c == EVICTION else IN for _, _, c in moves],
        )
        if moves
        else {}
    )
    folder = tmp_path_factory.mktemp("service")
    kernels = {"start_us": starts - lengths, "duration_us": lengths, "name": "k"}
    facts = build(folder, kernels=kernels, copies=copies)
    ledger = account(facts)
    part = page_service(facts, ledger)
    kernel = spans_of(ledger, Row.KERNEL)
    for key, spans in part.spans.items():
        assert intersect(spans, kernel[key]).total == spans.total
        assert intersect(part.least[key], spans).total == part.least[key].total
    least, most = part.gain_ns
    assert 0 <= least <= most <= part.ns <= ledger.total_ns(Row.KERNEL)
    assert part.kernels["lost_ns"].sum() >= part.ns
    answer = rule.check(facts, ledger)
    assert not isinstance(answer, Finding) or answer.lost_ns == part.ns
    assert not isinstance(answer, Finding) or answer.gain_ns in (-1, most)
    forget(facts.trace)


def test_a_recording_without_unified_memory_has_nothing_to_say(tmp_path):
    trace = make_trace(tmp_path, kernels={"start_us": [0], "duration_us": 10}, copies={})
    assert trace.count("copies") == 0
    facts = build(tmp_path / "b", kernels={"start_us": [0], "duration_us": 10}, copies={})
    assert found(facts) == Clear()


# --- what if the pages were prefetched ------------------------------------------------------


def prediction(facts):
    window = choose_window(facts, "", ())
    answer = explore(facts, window)
    return {p.change: p for p in answer.predictions}.get("prefetch"), answer


def launched(tmp_path, copies, kernel_us=1_000, **more):
    """A kernel with its call."""
    return build(
        tmp_path,
        kernels={"start_us": [10], "duration_us": kernel_us, "name": "inc", "correlation_id": 1},
        api_calls={
            "start_us": [0, 8],
            "end_us": [6, 15 + kernel_us],
            "name": ["cudaLaunchKernel", "cudaDeviceSynchronize"],
            "correlation_id": [1, 2],
        },
        copies=copies,
        **more,
    )


def test_a_prefetch_is_predicted_with_its_copy(tmp_path):
    # 500 µs of copies at 20 GB/s; 990 of 1,000 µs are migrations and the pauses between them.
    answer, everything = prediction(launched(tmp_path, pages(10 + 20 * np.arange(50))))
    assert everything.replay.is_trusted
    assert answer.title == "prefetching the pages of 1 launch (10 MB) just before"
    # 10 µs of the kernel's own and the copy a tenth faster; or 59 µs and the copy as its pieces.
    assert 0.97 * 464_545 < answer.low_ns <= 464_545
    assert 559_000 <= answer.high_ns < 1.03 * 559_000
    assert answer.cause == "bandwidth"


def test_moves_that_nobody_submitted_do_not_forbid_predictions(tmp_path):
    _, answer = prediction(launched(tmp_path, pages(10 + 20 * np.arange(50))))
    assert (answer.replay.operations, answer.replay.unlinked) == (1, 0)


@pytest.mark.parametrize(
    ("copies", "reason"),
    [
        (pages([100, 120], BY_USER), "no kernel of the window waited"),
        (
            pages([100, 300], [FAULT, EVICTION], 50, [IN, OUT]),
            "the data does not fit into its memory",
        ),
    ],
    ids=["prefetched already", "too large"],
)
def test_why_no_prefetch_is_predicted(tmp_path, copies, reason):
    answer, everything = prediction(launched(tmp_path, copies))
    assert answer is None
    assert reason in {w.change: w.reason for w in everything.withheld}["prefetch"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_predicted_time_holds_the_published_one(tmp_path, name):
    facts = launched(tmp_path, streamed(name), PUBLISHED[name][0] / 1_000)
    answer, _ = prediction(facts)
    assert answer.low_ns <= sum(PREFETCHED[name]) <= answer.high_ns


def test_what_waiting_cost_at_least_is_the_sum_of_all_gpus(tmp_path):
    # On each GPU a kernel takes 1 ms with faults, and 400 µs where its pages are there.
    facts = build(
        tmp_path,
        kernels={
            "start_us": [0, 2_000] * 2,
            "duration_us": [1_000, 400] * 2,
            "device": [0, 0, 1, 1],
            "name": "inc",
        },
        copies=pages([100, 300, 500, 700] * 2, device=[0] * 4 + [1] * 4, duration_us=150),
    )
    part = service(facts)
    each = {key: spans.total for key, spans in part.least.items()}
    assert each == {0: 600_000, 1: 600_000}
    assert part.least_ns == 1_200_000
