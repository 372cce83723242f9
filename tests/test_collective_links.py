"""How fast collectives move their data: what a link allows, what latency binds, what only waits."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analyzers.finding import Clear, Confidence, Row
from analyzers.losses.collective_links import (
    CollectiveSpeeds,
    collective_speeds,
    link_text,
    main_operation,
    slow_links,
    small_messages,
)
from analyzers.rules import (
    communication_exposed,
    communication_slow_link,
    communication_small_messages,
    communication_stragglers,
)
from analyzers.work.links import link_of
from analyzers.work.roofs import parse_peaks, roof_of
from analyzers.work.traffic import bus_factor, collective_traffic
from tests.traces_in_memory import account, build

REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
H100, MI300X = "NVIDIA H100 80GB HBM3", "AMD Instinct MI300X"
LARGE = 32_000_000  # elements of 2 bytes: NVLink carries 64 MB between two ranks in 142.2 µs
EXPECTED_US = 8.4 + 2 * 3.4 + 64_000_000 / 270_000  # at 0.6 of 450 GB/s: 252.2 µs


def reduced(
    tmp_path,
    moving_us,
    *,
    late_us=0,
    elements=LARGE,
    ranks=2,
    gpu=H100,
    visible=8,
    count=4,
    ranks_text=None,
    **about,
):
    """All-reduces of several ranks, the last of which begins each one later than the others."""
    rows = [(n, rank) for n in range(count) for rank in range(ranks)]
    moving = np.broadcast_to(moving_us, count)  # one for all, or one for each
    base = np.cumsum([0, *(late_us + moving + 1)])
    start = [base[n] + (late_us if rank == ranks - 1 else 0) for n, rank in rows]
    place = {
        "process": [rank + 1 for _, rank in rows],
        "start_us": start,
        "end_us": [base[n] + late_us + moving[n] for n, _ in rows],
        "stream": 20,
        "correlation_id": np.arange(len(rows)),
    }
    described = {
        "type": "BFloat16",
        "group_id": 5,
        "group_size": ranks,
        "ranks": str(list(range(ranks))) if ranks_text is None else ranks_text,
        "sequence": [n for n, _ in rows],
        "elements_in": elements,
        "elements_out": elements,
    }
    return build(
        tmp_path,
        kernels={**place, "name": REDUCE},
        collectives={**place, **(described | about)},
        devices={"process": list(range(1, ranks + 1)), "name": gpu, "visible_devices": visible},
    )


# --- what moves -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "factor"),
    [
        *[("allreduce", 1.75), ("allreduce_coalesced", 1.75), ("_allgather_base", 0.875)],
        *[("allgather_into_tensor_coalesced", 0.875), ("_reduce_scatter_base", 0.875)],
        *[("reduce_scatter_tensor_coalesced", 0.875), ("all_to_allv", 0.875), ("gather", 0.875)],
        *[("broadcast", 1.0), ("reduce", 1.0), ("send", 1.0)],
    ],
)
def test_bytes_are_those_of_the_bus_bandwidth_of_nccl_tests(operation, factor):
    assert bus_factor(operation, np.array([8])).tolist() == [factor]


@pytest.mark.parametrize("operation", ["barrier", "allreduce_barrier", "wait", "init", "strange"])
def test_what_moves_nothing_has_no_bandwidth(operation):
    assert np.isnan(bus_factor(operation, np.array([8]))).all()


def test_the_larger_count_is_that_of_all_ranks(tmp_path):
    gathered = {"name": "_allgather_base", "elements_in": 1_000, "elements_out": 4_000}
    traffic = collective_traffic(reduced(tmp_path, 20, ranks=4, count=1, type="Float", **gathered))
    assert traffic["size_bytes"].tolist() == [16_000] * 4
    assert traffic["moved_bytes"].tolist() == [12_000] * 4


@pytest.mark.parametrize(
    ("ranks", "visible", "is_local"),
    [
        *[("[0, 1]", 8, True), ("[6, 7]", 8, True), ("[7, 8]", 8, False), ("[0, 8]", 8, False)],
        *[("[0, 1]", 1, False), ("[0, 1]", -1, False), ("", 2, True), ("", 1, False)],
    ],
)
def test_a_group_is_of_one_machine_if_its_ranks_follow_each_other(
    tmp_path, ranks, visible, is_local
):
    traffic = collective_traffic(reduced(tmp_path, 20, count=1, visible=visible, ranks_text=ranks))
    assert traffic["is_one_machine"].tolist() == [is_local] * 2


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "ranks", "visible", "rate", "least"),
    [
        *[(H100, 2, 8, 450e9, 450e9), (H100, 2, 2, 450e9, 150e9), (H100, 4, 4, 450e9, 450e9)],
        *[(MI300X, 2, 8, 64e9, 64e9), (MI300X, 8, 8, 448e9, 448e9)],
        *[("NVIDIA A10", 4, 4, 32e9, 32e9), ("NVIDIA A100 80GB PCIe", 2, 2, 32e9, 32e9)],
        *[
            ("Tesla V100-SXM2-16GB", 2, 8, 150e9, 25e9),
            ("NVIDIA V100-SXM3-32GB", 2, 16, 150e9, 150e9),
        ],
        ("NVIDIA A100-SXM4-80GB", 8, 8, 300e9, 300e9),
    ],
)
def test_the_rate_is_that_of_the_links_among_the_ranks(gpu, ranks, visible, rate, least):
    assert link_of(gpu).rate(ranks) == rate
    assert link_of(gpu).least_rate(ranks, visible) == least


def test_two_visible_devices_of_eight_do_not_exceed_the_link(tmp_path):
    """At 333 GB/s through a switch that a process sees two devices of: not 222 % of a pair's."""
    facts = reduced(tmp_path, 192, visible=2)
    speeds = collective_speeds(facts, account(facts))
    assert speeds.bus_bytes_per_s == pytest.approx(333e9, rel=0.01)
    assert link_text(speeds) == "74 % of NVLink's 450 GB/s in one direction"


def test_unknown_devices_have_a_link_when_the_user_says_so():
    peaks = parse_peaks("link=50e9")
    assert link_of("Unheard-of") is None
    assert link_of("Unheard-of", peaks).rate(16) == 50e9
    assert roof_of(H100, user_peaks=peaks) == roof_of(H100)  # no peak of the device itself


# --- slow links -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("moving_us", "is_slow"), [(504, False), (505, True)])
def test_a_link_is_slow_from_twice_the_expected_time_on(tmp_path, moving_us, is_slow):
    facts = reduced(tmp_path, moving_us)
    found = communication_slow_link.check(facts, account(facts))
    assert isinstance(found, Clear) is not is_slow


def test_the_range_is_what_is_beyond_the_expected_time_once_and_twice(tmp_path):
    facts = reduced(tmp_path, 2_000)
    finding = communication_slow_link.check(facts, account(facts))
    each = 2 * 4  # ranks, collectives
    assert finding.high_ns == pytest.approx(each * (2_000 - EXPECTED_US) * 1_000, abs=each)
    assert finding.low_ns == pytest.approx(each * (2_000 - 2 * EXPECTED_US) * 1_000, abs=each)
    assert finding.confidence is Confidence.ESTIMATED
    assert finding.title.startswith(
        "4 collectives, mostly allreduce of 64 MB, moved their data at 32 GB/s of bus "
        "bandwidth, 7.1 % of NVLink's 450 GB/s in one direction: 16 ms after all ranks had begun"
    )


def test_waiting_for_a_rank_is_no_slow_link(tmp_path):
    facts = reduced(tmp_path, 300, late_us=5_000)
    ledger = account(facts)
    assert slow_links(facts, ledger) is None
    assert collective_speeds(facts, ledger).rows["moving_ns"].tolist() == [300_000] * 8


def test_nothing_is_claimed_twice(tmp_path):
    facts = reduced(tmp_path, 2_000, late_us=500)
    ledger = account(facts)
    rules = (communication_slow_link, communication_exposed, communication_stragglers)
    found = [rule.check(facts, ledger) for rule in rules]
    assert sum(f.lost_ns for f in found) == ledger.total_ns(Row.COMMUNICATION)
    assert " besides waiting for late ranks and what links and latency cost" in found[1].title
    assert "nothing overlapped 100 % of the time in which" in found[1].title


@pytest.mark.parametrize(
    "unknown",
    [{"ranks_text": "[0, 8]"}, {"visible": 1}, {"gpu": "Unheard-of"}, {"elements_in": -1}],
)
def test_without_a_known_link_and_size_no_link_is_blamed(tmp_path, unknown):
    if "elements_in" in unknown:
        unknown = {"elements_in": -1, "elements_out": -1}
    facts = reduced(tmp_path, 20_000, **unknown)
    assert slow_links(facts, account(facts)) is None


def test_the_user_says_what_connects_machines(tmp_path):
    facts = reduced(tmp_path, 20_000, ranks_text="[0, 8]")
    ledger = replace(account(facts), device_peaks=parse_peaks("link=50e9"))
    finding = communication_slow_link.check(facts, ledger)
    assert "3.20 GB/s of bus bandwidth, 6.4 % of the link's 50 GB/s" in finding.title


def per_collective(*values):
    """The same for both ranks of each collective."""
    return np.repeat(np.array(values, dtype=object), 2)


def test_only_the_collectives_of_the_finding_tell_of_its_link(tmp_path):
    """Most bytes go to another machine, whose link nobody knows; those of the machine are slow."""
    facts = reduced(
        tmp_path,
        2_000,
        elements=np.repeat([4 * LARGE, LARGE, LARGE, LARGE], 2),
        group_id=np.repeat([6, 5, 5, 5], 2),
        ranks_text=per_collective("[0, 8]", "[0, 1]", "[0, 1]", "[0, 1]"),
    )
    ledger = account(facts)
    finding = communication_slow_link.check(facts, ledger)
    assert finding.title.startswith(
        "3 collectives, mostly allreduce of 64 MB, moved their data at 32 GB/s of bus bandwidth, "
        "7.1 % of NVLink's 450 GB/s in one direction: 12 ms"
    )
    exposed = communication_exposed.check(facts, ledger)
    assert finding.lost_ns + exposed.lost_ns == ledger.total_ns(Row.COMMUNICATION)


def test_the_rate_of_several_links_is_that_of_their_time(tmp_path):
    """64 and 192 MB at 64 GB/s between two, 448 among eight: (64 + 192) / (1 + 3/7) ms."""
    rows = pd.DataFrame(
        {"moved_bytes": [64e6, 192e6], "rate": [64e9, 448e9], "link": ["NVLink", "NVLink"]}
    )
    assert CollectiveSpeeds(rows).rate == pytest.approx(256e6 / (1e-3 + 3e-3 / 7))
    assert CollectiveSpeeds(rows).chosen(np.array([False, True])).rate == 448e9
    assert np.isnan(CollectiveSpeeds(rows).chosen(np.array([False, False])).rate)


def test_of_one_rank_nobody_knows_what_waits(tmp_path):
    """The other rank was not recorded; the link needs 142 µs for each of the four."""
    facts = reduced(tmp_path, 2_000, ranks=1, group_size=2, ranks_text="[0, 1]")
    ledger = account(facts)
    assert slow_links(facts, ledger) is None
    finding = communication_exposed.check(facts, ledger)
    assert "though the link needs 569 µs for their 256 MB (bus bandwidth 32 GB/s" in finding.title
    assert finding.advice.startswith("Record the other ranks first: the link carries what these")
    assert finding.culprit == "though the link needs 569 µs for what they move"


@pytest.mark.parametrize(("unknown_us", "is_said"), [(888, True), (900, False)])
def test_what_the_link_needs_is_said_where_nearly_all_sizes_are_known(
    tmp_path, unknown_us, is_said
):
    """Three of 2.67 ms move 64 MB each; of the coalesced one no size was recorded."""
    one = {"ranks": 1, "group_size": 2, "ranks_text": "[0, 1]"}
    lengths = np.array([2_667, 2_667, 2_667, unknown_us])
    sizes = [LARGE, LARGE, LARGE, -1]
    facts = reduced(tmp_path, lengths, **one, elements_in=sizes, elements_out=sizes)
    finding = communication_exposed.check(facts, account(facts))
    assert ("though the link needs" in finding.title) == is_said
    names = {evidence.name for evidence in finding.evidence}
    assert ("least time of the link" in names) == is_said


def test_of_one_rank_near_the_link_nothing_else_is_said(tmp_path):
    facts = reduced(tmp_path, 250, ranks=1, group_size=2, ranks_text="[0, 1]")
    finding = communication_exposed.check(facts, account(facts))
    assert "though the link" not in finding.title
    assert finding.advice.startswith(communication_exposed.ADVICE)


# --- small messages -------------------------------------------------------------------------------


@pytest.mark.parametrize(("moving_us", "is_small"), [(45, True), (46, False)])
def test_small_messages_are_bound_by_the_latency_of_their_steps(tmp_path, moving_us, is_small):
    facts = reduced(tmp_path, moving_us, elements=10_000)  # latency 15.2 µs
    ledger = account(facts)
    assert (small_messages(facts, ledger) is not None) == is_small
    assert slow_links(facts, ledger) is None


def test_small_messages_win_at_most_what_the_link_does_not_need(tmp_path):
    facts = reduced(tmp_path, 30, elements=500_000)  # 1 MB: 2.2 µs of the link
    finding = communication_small_messages.check(facts, account(facts))
    assert finding.low_ns == 0
    assert finding.high_ns == pytest.approx(8 * (30_000 - 2_222), abs=8)
    assert finding.title.startswith(
        "4 small collectives, mostly allreduce of 1 MB, took 30 µs each (median): "
        "240 µs alone, of which the link needs 17.8 µs"
    )


def test_a_message_in_between_is_neither_small_nor_large(tmp_path):
    facts = reduced(tmp_path, 300, elements=1_500_000)  # 11.1 µs of the link, 15.2 µs of latency
    ledger = account(facts)
    assert slow_links(facts, ledger) is small_messages(facts, ledger) is None


def test_the_main_operation_takes_most_time(tmp_path):
    sizes = np.repeat([1_000, LARGE, 1_000, 1_000], 2)
    facts = reduced(tmp_path, 300, elements=sizes)
    assert main_operation(collective_speeds(facts, account(facts))) == "allreduce of 2 kB"
