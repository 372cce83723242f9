"""Collectives of several ranks in one recording: what waits, what moves, for whom and why."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from analyzers import analyze
from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import build_facts
from analyzers.finding import Clear, Row
from analyzers.ledger.ledger import Detail
from analyzers.losses.lateness import Reason, lateness
from analyzers.losses.stragglers import NO_ONE, rank_waits
from analyzers.quality.ranks import rank_clocks, shared_gpus
from analyzers.rules import communication_exposed, communication_stragglers
from tests.traces_in_memory import account, build, forget, make_trace

REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
SEND = "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"


def kernels(*rows, **more):
    """Kernels as (process, name, begin µs, end µs), on GPUs of their own; streams may be given."""
    process, name, start, end = zip(*rows, strict=True)
    return {"process": process, "name": name, "start_us": start, "end_us": end, **more}


def late_twice(tmp_path, **more):
    """GPU of process 2 begins two collectives 30 and 50 µs after that of process 1."""
    rows = (
        *((1, "gemm", 0, 100), (1, REDUCE, 100, 150), (1, "gemm", 150, 250)),
        *((1, REDUCE, 250, 320), (2, "gemm", 0, 130), (2, REDUCE, 130, 150)),
        *((2, "gemm", 150, 300), (2, REDUCE, 300, 320)),
    )
    return build(tmp_path, kernels=kernels(*rows), **more)


def waiting_us(ledger):
    waiting = ledger.of(Row.COMMUNICATION, Detail.WAITING_FOR_RANK)
    return {key: ns / 1_000 for key, ns in waiting.groupby("device")["ns"].sum().items()}


def test_a_rank_waits_until_the_last_one_has_begun(tmp_path):
    ledger = account(late_twice(tmp_path))
    assert waiting_us(ledger) == {0: 80}
    assert [d.rows[Row.COMMUNICATION] for d in ledger.devices] == [120_000, 40_000]


def test_waiting_and_moving_are_the_row(tmp_path):
    facts = late_twice(tmp_path)
    ledger = account(facts)
    waits = communication_stragglers.check(facts, ledger)
    moves = communication_exposed.check(facts, ledger)
    assert (waits.lost_ns, moves.lost_ns) == (80_000, 80_000)
    assert waits.lost_ns + moves.lost_ns == ledger.total_ns(Row.COMMUNICATION)


def test_the_finding_names_the_late_gpu_how_late_and_why(tmp_path):
    facts = late_twice(tmp_path)
    finding = communication_stragglers.check(facts, account(facts))
    assert finding.title == (
        "GPU 0 of process 1 waited for GPU 0 of process 2 for 80 µs of the 120 µs in which only "
        "collectives ran on it, 12 % of the combined time of 2 GPUs: GPU 0 of process 2 came last "
        "to 2 collectives, by 40 µs (median), because its kernels run 80 µs longer than on GPU 0 "
        "of process 1, 80 µs of that in `gemm` (2 launches of 140 µs; on GPU 0 of process 1 2 of "
        "100 µs)"
    )
    assert "at most 40 µs shorter, because the others have to do that work" in finding.advice
    assert finding.culprit == "mostly waiting for GPU 0 of process 2, which computes longer"
    values = {e.name: (e.value, e.device) for e in finding.evidence}
    assert values["GPU 0 of process 1 waited"] == (80_000, 0)
    assert values["GPU 0 of process 2 waited"] == (0, 1)
    assert values["collectives that GPU 0 of process 2 began last"] == (2, -1)


def test_exposed_communication_counts_a_collective_of_two_ranks_once(tmp_path):
    facts = late_twice(tmp_path)
    finding = communication_exposed.check(facts, account(facts))
    assert "besides waiting for late ranks" in finding.title
    assert "in which 2 collectives ran" in finding.title
    assert finding.does_not_apply_when == "nothing is left to compute until the result is there."
    assert finding.advice == communication_exposed.ADVICE


def test_one_recorded_rank_says_nothing_about_others(tmp_path):
    facts = build(tmp_path, kernels=kernels((1, "gemm", 0, 100), (1, REDUCE, 100, 150)))
    ledger = account(facts)
    assert waiting_us(ledger) == {}
    assert isinstance(communication_stragglers.check(facts, ledger), Clear)
    exposed = communication_exposed.check(facts, ledger)
    assert exposed.does_not_apply_when.endswith("look at that rank's recording.")
    assert "record the other ranks, too" in exposed.advice


def test_waiting_that_a_kernel_hides_costs_nothing(tmp_path):
    rows = ((1, REDUCE, 0, 100), (1, "gemm", 10, 60), (2, "gemm", 0, 80), (2, REDUCE, 80, 100))
    facts = build(tmp_path, kernels=kernels(*rows, stream=[9, 7, 7, 9]))
    assert waiting_us(account(facts)) == {0: 30}


def test_nothing_waits_while_another_collective_moves(tmp_path):
    # GPU 0 waits on stream 9 from 0 to 80, and moves on stream 8 from 20 to 50.
    rows = (
        *((1, REDUCE, 0, 100), (2, "gemm", 0, 80), (2, REDUCE, 80, 100)),
        *((1, "ncclDevKernel_AllGather", 20, 50), (2, "ncclDevKernel_AllGather", 20, 50)),
    )
    facts = build(tmp_path, kernels=kernels(*rows, stream=[9, 7, 9, 8, 8]))
    ledger = account(facts)
    assert waiting_us(ledger) == {0: 50}
    assert ledger.devices[0].rows[Row.COMMUNICATION] == 100_000


def test_waiting_for_two_collectives_at_once_counts_once(tmp_path):
    rows = (
        *((1, REDUCE, 0, 100), (2, REDUCE, 80, 100)),
        *((1, "ncclDevKernel_AllGather", 20, 120), (2, "ncclDevKernel_AllGather", 90, 120)),
    )
    facts = build(tmp_path, kernels=kernels(*rows, stream=[9, 9, 8, 8]))
    ledger = account(facts, 0, 120)
    assert waiting_us(ledger) == {0: 80}
    assert rank_waits(facts, ledger).ns == 80_000


def test_groups_of_two_ranks_do_not_wait_for_each_other(tmp_path):
    # Processes 1 and 2, and 3 and 4; the second group is always 300 µs later.
    rows = []
    for step in range(4):
        begin = 1_000 * step
        for group, late in ((0, 40), (2, 20)):
            at = begin + 150 * group
            rows += [(group + 1, REDUCE, at, at + 100), (group + 2, REDUCE, at + late, at + 100)]
    facts = build(tmp_path, kernels=kernels(*rows))
    assert waiting_us(account(facts)) == {0: 160, 2: 80}
    assert collectives_of(facts).members["collective"].nunique() == 8


def test_a_rank_that_lost_a_record_is_matched_by_the_common_end(tmp_path):
    rows = [(1, REDUCE, 100 * n, 100 * n + 90) for n in range(6)]
    rows += [(2, REDUCE, 100 * n + 30, 100 * n + 90) for n in range(6) if n != 2]
    facts = build(tmp_path, kernels=kernels(*rows))
    assert waiting_us(account(facts)) == {0: 150}
    assert len(collectives_of(facts).members) == 10


def test_kernels_of_other_names_are_no_collective(tmp_path):
    rows = [(1, REDUCE, 0, 100), (2, "ncclDevKernel_AllGather_RING_LL", 60, 100)]
    assert waiting_us(account(build(tmp_path, kernels=kernels(*rows)))) == {}


def test_kernels_that_never_meet_are_no_collective(tmp_path):
    rows = [(1, REDUCE, 0, 100), (2, REDUCE, 103, 203)]
    assert waiting_us(account(build(tmp_path, kernels=kernels(*rows)))) == {}


@pytest.mark.parametrize(("apart_us", "matched"), [(50, 2), (51, 0)])
def test_ranks_of_one_group_end_together(tmp_path, apart_us, matched):
    rows = [(1, REDUCE, 0, 200), (2, REDUCE, 60, 200 + apart_us)]
    facts = build(tmp_path, kernels=kernels(*rows))
    assert len(collectives_of(facts).members) == matched


# --- what the framework recorded ------------------------------------------------------------


def described(tmp_path, starts, ends, process, **about):
    """All-reduces that a framework described, each on a stream of its process."""
    place = {"process": process, "start_us": starts, "end_us": ends, "stream": 20}
    number = np.arange(len(process))
    defaults = {"name": "allreduce", "group_id": 5, "group_size": 2, "ranks_id": 6, "sequence": -1}
    return build(
        tmp_path,
        kernels={**place, "name": REDUCE, "correlation_id": number},
        collectives={**place, "correlation_id": number, **defaults, **about},
    )


def test_sequence_numbers_match_what_lacks_a_part(tmp_path):
    # The second rank's first collective is not recorded; all are alike and end at odd times.
    facts = described(
        tmp_path,
        starts=[0, 100, 200, 140, 230],
        ends=[90, 190, 290, 190, 290],
        process=[1, 1, 1, 2, 2],
        sequence=[1, 2, 3, 2, 3],
    )
    assert waiting_us(account(facts)) == {0: 70}


def test_groups_of_other_ranks_are_kept_apart(tmp_path):
    facts = described(
        tmp_path,
        starts=[0, 20, 0, 40],
        ends=[100] * 4,
        process=[1, 2, 3, 4],
        ranks_id=[6, 6, 7, 7],
    )
    assert waiting_us(account(facts)) == {0: 20, 2: 40}


def test_ranks_that_are_not_recorded_are_told_of(tmp_path):
    facts = described(tmp_path, [0, 60], [100, 100], [1, 2], group_size=8)
    assert collectives_of(facts).missing_ranks == 6
    finding = communication_stragglers.check(facts, account(facts))
    assert finding.does_not_apply_when.startswith("6 ranks of the group, which this recording")


@pytest.mark.parametrize(("offset_us", "agrees"), [(50, True), (51, False), (5_000, False)])
def test_clocks_that_disagree_are_told_of_and_nothing_waits(tmp_path, offset_us, agrees):
    begins = np.array([0, 1_000, 2_000])
    facts = described(
        tmp_path,
        starts=[*begins, *(begins + offset_us)],
        ends=[*(begins + 400), *(begins + 400 + offset_us)],
        process=[1, 1, 1, 2, 2, 2],
    )
    ledger = account(facts)
    note = rank_clocks(facts, ledger, ())
    assert bool(waiting_us(ledger)) == agrees
    assert (note is None) == agrees
    if note is not None:
        assert (
            f"3 collectives of theirs end {offset_us if offset_us < 1_000 else 5} " in note.message
        )


def test_a_broadcast_may_end_earlier_on_its_root(tmp_path):
    facts = described(
        tmp_path, [0, 1_000, 90, 1_090], [200, 1_200, 290, 1_290], [1, 1, 2, 2], name="broadcast"
    )
    assert collectives_of(facts).clocks == ()
    assert waiting_us(account(facts)) == {0: 180}


def test_a_send_and_its_receive_are_one_transfer(tmp_path):
    facts = described(tmp_path, [0, 60], [100, 100], [1, 2], name=["recv", "send"])
    finding = communication_stragglers.check(facts, account(facts))
    assert "came last to 1 transfer, by 60 µs" in finding.title
    assert finding.advice.startswith("Give the stage on GPU 0 of process 2 less to do")


def test_sends_between_three_ranks_are_not_guessed_at(tmp_path):
    facts = described(
        tmp_path, [0, 60, 30], [100] * 3, [1, 2, 3], name=["recv", "send", "send"], group_size=3
    )
    assert not len(collectives_of(facts).members)


def test_an_exchange_of_three_ranks_is_a_collective(tmp_path):
    rows = [(1, SEND, 0, 100), (2, SEND, 60, 100), (3, SEND, 30, 100)]
    facts = build(tmp_path, kernels=kernels(*rows))
    assert waiting_us(account(facts)) == {0: 60, 2: 30}
    assert "1 collective, by" in communication_stragglers.check(facts, account(facts)).title


# --- who is late, and why -------------------------------------------------------------------


def in_turn(tmp_path, late_us):
    """Collectives of two ranks: a positive number is how late the second comes, else the first."""
    rows = []
    for n, late in enumerate(late_us):
        at = 1_000 * n
        rows += [
            (1, REDUCE, at + max(-late, 0), at + 500),
            (2, REDUCE, at + max(late, 0), at + 500),
        ]
    return build(tmp_path, kernels=kernels(*rows))


@pytest.mark.parametrize(
    ("late_us", "named"),
    [
        ([75, -25] * 23, 1),
        ([74, -26] * 23, NO_ONE),  # less than three quarters
        ([75, -25] * 22, NO_ONE),  # too few for that not to be chance
        ([90, -10], 1),  # nearly all of it
        ([89, -11], NO_ONE),
        ([50] * 27 + [-50] * 9, 1),  # 27 of 36 are 3 standard deviations above 18
        ([50] * 26 + [-50] * 9, NO_ONE),
    ],
)
def test_one_of_two_ranks_is_late_when_it_is_beyond_chance(tmp_path, late_us, named):
    facts = in_turn(tmp_path, late_us)
    assert rank_waits(facts, account(facts)).last_device == named


def test_ranks_that_are_late_in_turn_are_not_blamed(tmp_path):
    facts = in_turn(tmp_path, [200, -200, 200])
    finding = communication_stragglers.check(facts, account(facts))
    assert finding.title.endswith(
        "in 3 collectives: now one came last and now another, GPU 0 of process 2 in 2, GPU 0 of "
        "process 1 in 1"
    )
    assert finding.culprit == "mostly waiting for each other"
    assert "at most 300 µs shorter" in finding.advice


def test_mending_the_last_rank_helps_until_the_last_but_one(tmp_path):
    # 400 µs late is the third rank, 300 µs the second: 100 µs can be won on each of two GPUs.
    rows = [(1, REDUCE, 0, 500), (2, REDUCE, 300, 500), (3, REDUCE, 400, 500)]
    facts = build(tmp_path, kernels=kernels(*rows, (3, "tail", 500, 501)))
    finding = communication_stragglers.check(facts, account(facts))
    assert (finding.lost_ns, finding.gain_ns) == (500_000, 200_000)
    assert "at most 100 µs shorter; then another rank comes last" in finding.advice


def compared(tmp_path, *rows, **more):
    facts = build(tmp_path, kernels=kernels(*rows, **more))
    return lateness(facts, account(facts), 1, [0])


def test_the_same_launches_that_all_take_longer_are_a_slow_gpu(tmp_path):
    names = ("gemm", "norm", "softmax")
    rows = [(1, name, 100 * n, 100 * n + 40) for n, name in enumerate(names)]
    rows += [(2, name, 100 * n, 100 * n + 60) for n, name in enumerate(names)]
    assert compared(tmp_path, *rows).reason is Reason.SLOWER_GPU


def test_the_same_launches_of_one_kernel_that_take_longer_are_its_data(tmp_path):
    names = ("gemm", "norm", "softmax")
    rows = [(1, name, 100 * n, 100 * n + 40) for n, name in enumerate(names)]
    rows += [(2, name, 100 * n, 100 * n + 40 + 40 * (n == 0)) for n, name in enumerate(names)]
    why = compared(tmp_path, *rows)
    assert (why.reason, why.kernel.name) == (Reason.SLOWER_KERNELS, "gemm")


@pytest.mark.parametrize(
    ("blocks", "reason"), [(1_052, Reason.SLOWER_KERNELS), (1_060, Reason.MORE_KERNELS)]
)
def test_larger_grids_are_more_work(tmp_path, blocks, reason):
    rows = [(1, "gemm", 0, 40), (2, "gemm", 0, 80)]
    assert compared(tmp_path, *rows, grid_x=[1_000, blocks]).reason is reason


def test_more_launches_are_more_work(tmp_path):
    rows = [(1, "gemm", 0, 40), (2, "gemm", 0, 40), (2, "gemm", 50, 90)]
    assert compared(tmp_path, *rows).reason is Reason.MORE_KERNELS


# --- accounts -------------------------------------------------------------------------------


@st.composite
def steps(draw):
    """Begins and lengths of collectives of three ranks, on two streams each."""
    rows, at = [], 0
    for _ in range(draw(st.integers(1, 6))):
        late = [draw(st.integers(0, 400)) for _ in range(3)]
        end = at + max(late) + draw(st.integers(1, 300))
        stream = draw(st.sampled_from((8, 9)))
        rows += [(rank + 1, REDUCE, at + late[rank], end, stream) for rank in range(3)]
        at = draw(st.sampled_from((end, at + 1)))
    return rows


@hypothesis.given(steps())
@hypothesis.settings(max_examples=30, deadline=None)
def test_waiting_is_a_part_of_the_row_and_is_divided_whole(tmp_path_factory, rows):
    plain = [row[:4] for row in rows]
    trace = make_trace(
        tmp_path_factory.mktemp("ranks"), kernels=kernels(*plain, stream=[r[4] for r in rows])
    )
    report = analyze(trace)
    facts = build_facts(trace)
    ledger = account(facts)
    waits = rank_waits(facts, ledger)
    assert all(sum(d.rows.values()) == d.duration_ns for d in report.devices)
    assert waits.ns == sum(waiting_us(ledger).values()) * 1_000
    assert waits.ns <= ledger.total_ns(Row.COMMUNICATION)
    assert (waits.parts["gain_ns"] <= waits.parts["ns"]).all()
    forget(trace)


# --- processes that share a GPU -------------------------------------------------------------


def test_processes_that_share_a_gpu_are_named_with_their_parts(tmp_path):
    rows = ((1, "gemm", 0, 60), (2, "gemm", 60, 100))
    devices = {"process": [1, 2], "device": 0, "physical": [0, 0]}
    processes = {"process": [1, 2], "pid": [4_242, 4_243], "name": ["server", ""]}
    facts = build(tmp_path, kernels=kernels(*rows), devices=devices, processes=processes)
    note = shared_gpus(facts, account(facts), ())
    assert note.message == (
        "2 processes share GPU 0: of the time of its operations, process 4242 (server) with 60 %, "
        "process 4243 with 40 %. It counts as idle when none of them runs."
    )


def test_a_gpu_of_one_process_is_not_shared(tmp_path):
    facts = build(tmp_path, kernels=kernels((1, "gemm", 0, 60), (2, "gemm", 60, 100)))
    assert shared_gpus(facts, account(facts), ()) is None


def test_a_gpu_is_not_held_to_what_another_one_waits_for(tmp_path):
    # GPU 0 waits from 0 to 80 µs. GPU 1 moves something of its own meanwhile.
    rows = (
        *((1, REDUCE, 0, 100), (2, "ncclDevKernel_Broadcast", 0, 60), (2, "gemm", 60, 80)),
        (2, REDUCE, 80, 100),
    )
    facts = build(tmp_path, kernels=kernels(*rows, stream=[9, 8, 7, 9]))
    ledger = account(facts)
    assert waiting_us(ledger) == {0: 80}
    assert [d.rows[Row.COMMUNICATION] for d in ledger.devices] == [100_000, 80_000]
