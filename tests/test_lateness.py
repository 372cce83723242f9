"""Why a rank comes late: kernels, copies or its host, with the numbers of the sentence."""

import numpy as np
import pytest

from analyzers.finding import Row
from analyzers.losses.lateness import Reason, lateness
from analyzers.rules import communication_stragglers
from tests.traces_in_memory import account, build

REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
US = 1_000


def recorded(folder, *, kernels, copies=()):
    """Kernels as (rank, name, begin, end in µs), copies as (rank, begin, end)."""
    rank, name, start, end = (list(c) for c in zip(*kernels, strict=True))
    columns = {"process": rank, "name": name, "start_us": start, "end_us": end}
    tables = {"kernels": columns}
    if copies:
        rank, start, end = (list(c) for c in zip(*copies, strict=True))
        tables["copies"] = {"process": rank, "start_us": start, "end_us": end, "stream": 9}
    return build(folder, **tables)


def three_ranks(late_kernels, *, copies=(), at=300):
    """Ranks 1 and 2 compute 100 and 140 µs before a collective; rank 3 does something else."""
    rows = [(1, "gemm", 0, 100), (2, "gemm", 0, 140)]
    rows += [(rank, REDUCE, begin, at + 50) for rank, begin in ((1, 100), (2, 140), (3, at))]
    return rows + [(3, *row) for row in late_kernels], copies


def test_kernels_are_compared_with_the_mean_of_the_others(tmp_path):
    kernels, _ = three_ranks([("gemm", 0, 200), ("norm", 200, 300)])
    facts = recorded(tmp_path, kernels=kernels)
    ledger = account(facts)
    why = lateness(facts, ledger, 2, [0, 1])
    # 300 µs of kernels, 120 on the others.
    assert (why.reason, why.excess_ns) == (Reason.MORE_KERNELS, 180 * US)
    kernel = why.kernel
    assert (kernel.name, kernel.excess_ns) == ("norm", 100 * US)
    assert (kernel.count, kernel.each_ns) == (1, 100 * US)
    assert kernel.other_count == 0
    finding = communication_stragglers.check(facts, ledger)
    assert "its kernels run 180 µs longer than on the others, 100 µs of that in `norm`" in (
        finding.title
    )
    assert "The other 2 GPUs waited for GPU 0 of process 3 for 360 µs" in finding.title


def test_a_rank_that_copies_before_it_comes_is_said_to(tmp_path):
    kernels, copies = three_ranks([("gemm", 0, 120)], copies=[(3, 120, 300)])
    facts = recorded(tmp_path, kernels=kernels, copies=copies)
    ledger = account(facts)
    why = lateness(facts, ledger, 2, [0, 1])
    assert (why.reason, why.row, why.excess_ns) == (Reason.COPIES, Row.TRANSFER, 180 * US)
    finding = communication_stragglers.check(facts, ledger)
    assert finding.title.endswith(
        ", because it spends 180 µs longer than on the others in copies alone"
    )
    assert finding.advice.startswith("Find out what GPU 0 of process 3 copies that the others do")
    assert finding.culprit == "mostly waiting for GPU 0 of process 3, which copies longer"
    evidence = {e.name: e.value for e in finding.evidence}
    assert evidence["row transfer longer than on the others"] == 180 * US
    assert evidence["collectives that GPU 0 of process 3 began last"] == 1


def test_a_rank_that_idles_before_it_comes_is_held_up_by_its_host(tmp_path):
    kernels, _ = three_ranks([("gemm", 0, 120)])
    rank, name, start, end = (list(c) for c in zip(*kernels, strict=True))
    ids = list(range(1, len(kernels) + 1))
    calls = {"process": rank, "thread": [10 * r for r in rank], "correlation_id": ids}
    begin = [max(s - 5, -5) if r == 3 else -5 for r, s in zip(rank, start, strict=True)]
    facts = build(
        tmp_path,
        kernels={"process": rank, "name": name, "start_us": start, "end_us": end}
        | {"correlation_id": ids},
        api_calls={**calls, "start_us": begin, "duration_us": 4},
    )
    ledger = account(facts)
    why = lateness(facts, ledger, 2, [0, 1])
    assert (why.reason, why.row) == (Reason.HOST, Row.HOST)
    finding = communication_stragglers.check(facts, ledger)
    assert ", because GPU 0 of process 3 idles 180 µs longer than the others, mostly while its" in (
        finding.title
    )
    assert finding.title.endswith("while its host is outside CUDA")


@pytest.mark.parametrize(
    ("slower", "last", "reason"),
    [
        # Three kinds of kernels; the share of the time that is as much slower decides.
        ((40, 40, 40), 100, Reason.SLOWER_GPU),
        ((40, 40, 0), 100, Reason.SLOWER_KERNELS),
        ((40, 40), 100, Reason.SLOWER_KERNELS),  # two kinds are too few to blame the GPU
        ((40, 40, 40, 0), 105, Reason.SLOWER_GPU),  # of 525 µs, 420 are four fifths
        ((40, 40, 40, 0), 106, Reason.SLOWER_KERNELS),
    ],
)
def test_all_kernels_have_to_be_slower_for_the_gpu_to_be(tmp_path, slower, last, reason):
    rows, at = [], 0
    for number, more in enumerate(slower):
        length = last if number == len(slower) - 1 else 100
        rows += [(1, f"k{number}", at, at + length), (2, f"k{number}", at, at + length + more)]
        at += 200
    facts = recorded(tmp_path, kernels=rows)
    why = lateness(facts, account(facts), 1, [0])
    assert (why.reason, why.excess_ns) == (reason, sum(slower) * US)


@pytest.mark.parametrize(
    ("launches", "reason"), [(21, Reason.SLOWER_KERNELS), (22, Reason.MORE_KERNELS)]
)
def test_a_twentieth_more_launches_are_the_same_work(tmp_path, launches, reason):
    rows = [(1, "gemm", 10 * n, 10 * n + 5) for n in range(20)]
    rows += [(2, "gemm", 10 * n, 10 * n + 9) for n in range(launches)]
    facts = recorded(tmp_path, kernels=rows)
    assert lateness(facts, account(facts), 1, [0]).reason is reason


@pytest.mark.parametrize(("kernel_us", "clear"), [(50, True), (34, True), (33, False)])
def test_a_third_of_what_grew_makes_a_reason(tmp_path, kernel_us, clear):
    # Beside kernels, rank 2 spends time in communication of its own that nobody shares.
    other = 100 - kernel_us
    rows = [(1, "gemm", 0, 100), (2, "gemm", 0, 100 + kernel_us)]
    rows += [(1, "end", 300, 301), (2, "end", 300, 301)]
    rows += [(2, "ncclDevKernel_Broadcast", 200, 200 + other)]
    facts = recorded(tmp_path, kernels=rows)
    why = lateness(facts, account(facts), 1, [0])
    assert (why.reason is not Reason.NOT_CLEAR) == clear
    assert why.excess_ns == (kernel_us * US if clear else 0)


def test_being_done_early_is_no_reason(tmp_path):
    rows = [(1, "gemm", 0, 400), (2, "gemm", 0, 100)]
    facts = recorded(tmp_path, kernels=rows)
    assert np.isclose(lateness(facts, account(facts), 1, [0]).excess_ns, 0)
    assert lateness(facts, account(facts), 1, [0]).reason is Reason.NOT_CLEAR
