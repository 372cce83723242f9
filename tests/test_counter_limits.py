"""What a launch is bound by: pipes, memory levels, occupancy, waves and lanes, as ncu has them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from analyzers.counters.inside import account
from analyzers.finding import Row
from analyzers.kernels.counted import counted_kernels, limiter_words
from analyzers.metric_names import MEMORY, Part
from analyzers.words import enumerated
from collectors.errors import RefusedError
from tests.counter_answers import found, ids, of
from tests.counter_scenarios import (
    DURATION_NS,
    SHORT,
    atomics_on_one_address,
    launch,
    load_store_bound,
    written,
)
from tests.ncu_traces import REAL
from tests.test_inside import IDLE, NS, inside, range_of, told
from traces.ncu_writer import Launch

REPORTED = {
    "launch__waves_per_multiprocessor": "waves",
    "sm__maximum_warps_per_active_cycle_pct": "theoretical",
    "launch__grid_size": "blocks",
    "smsp__thread_inst_executed_per_inst_executed.ratio": "active_lanes",
}
CASES = Path(__file__).parents[2] / "shared" / "cases" / "occupancy.tsv"
LOADS = {"compute": 83, "memory": 83, "loads": 83, "loads_l1": 83, "fma": 21, "issue": 24}


# Load and store instructions are not compute.


def test_a_matrix_product_at_the_limit_of_loads_is_not_healthy(tmp_path):
    result = of(load_store_bound(), tmp_path)
    finding = found(result, "bandwidth.load_store")
    assert "keep the load/store pipe 83 % busy (80 % and above is near the limit)" in finding.title
    assert "and arithmetic 24 %" in finding.title
    assert (finding.low_ns, finding.high_ns) == pytest.approx((0, 0.59 * DURATION_NS), abs=1)
    assert finding.lost_ns == pytest.approx(0.59 / 2 * DURATION_NS, abs=1)
    assert result.ledger.total_ns(Row.BANDWIDTH) == finding.lost_ns
    sentence = result.report.verdict.sentence
    assert "30 % of the profiled time is lost to load and store instructions at" in sentence


@pytest.mark.parametrize(("loads", "booked"), [(80, (0.80 - 0.24) / 2), (79.9, 0)])
def test_loads_are_at_their_limit_from_80_percent_on(loads, booked):
    busy = LOADS | {"compute": loads, "memory": loads, "loads": loads, "loads_l1": loads}
    assert range_of(inside(busy), Part.LOAD_STORE)[1] == pytest.approx(booked, abs=1e-6)


def test_a_tuned_product_whose_multiply_adds_are_as_busy_loses_nothing_to_loads():
    tuned = LOADS | {"compute": 92, "fma": 92}
    assert range_of(inside(tuned), Part.LOAD_STORE) == (0, 0, 0)
    assert inside(tuned).limits.pipe.tolist() == ["FMA pipe"]
    assert inside(tuned).limits.arithmetic.tolist() == [0.92]


def test_the_pipe_that_explains_compute_is_named():
    busiest = [{"fma": 90}, {"fp64": 90}, {"loads": 90}, {"issue": 90}, {"fma": 70}]
    assert inside(*busiest).limits.pipe.tolist() == [
        *("FMA pipe", "64-bit pipe", "load/store pipe (LSU)", "instruction issue"),
        "",
    ]


def test_equal_throughputs_of_compute_memory_and_l1_are_the_load_store_pipe():
    """The details page has no breakdown; three equal numbers are one and the same unit."""
    equal = {"compute": 91.44, "memory": 91.44, "loads": None, "loads_l1": None, "fma": None}
    equal |= {"l1_cache": 93.24, "sm__inst_executed.avg.per_cycle_elapsed": 1.01}
    found = inside(equal, equal | {"l1_cache": 60}, equal | {"memory": 91.5})
    assert found.limits.load_store[0] == pytest.approx(0.9144)
    assert np.isnan(found.limits.load_store[1:]).all()
    assert found.limits.arithmetic == pytest.approx([0.2525, 0.9144, 0.9144])
    assert found.booked_ns[Part.LOAD_STORE] == pytest.approx(
        [(91.44 - 25.25) / 200 * NS, 0, 0], abs=1
    )


def test_without_knowing_what_else_compute_does_nothing_is_booked():
    equal = {"compute": 91.44, "memory": 91.44, "loads": None, "loads_l1": None, "fma": None}
    bare = equal | {
        "l1_cache": 93.24,
        SHORT["fp64"]: None,
        "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed": None,
    }
    assert inside(bare).booked_ns[Part.LOAD_STORE].tolist() == [0]


def test_the_card_of_a_kernel_says_what_limits_it(tmp_path):
    streaming = launch("k2(int)", compute=30, memory=90, dram=90, fma=20)
    launches = (launch("k0(int)", **LOADS), launch("k1(int)", fma=90), streaming)
    kernels = counted_kernels(of(written("cards", *launches), tmp_path).ledger.inside)
    words = dict(zip(kernels["name"], kernels.apply(limiter_words, axis=1), strict=True))
    assert words["k0(int)"] == (
        "Limited by load and store instructions: load/store instructions at 83 %, arithmetic at "
        "24 %, memory at 83 % of their peak."
    )
    compute = "Limited by compute: compute at 90 % (FMA pipe), memory at 30 % of their peak."
    assert words["k1(int)"] == compute
    memory = "Limited by device memory: compute at 30 %, memory at 90 % of their peak."
    assert words["k2(int)"] == memory


# No level is busier than memory as a whole.


@pytest.mark.parametrize("memory", [63.0, 76.0, 79.9])
def test_l2_is_not_at_its_limit_where_memory_as_a_whole_is_below_it(memory):
    found = inside({"compute": 20, "memory": memory, "l2": 86, "dram": 40})
    assert found.booked_ns[[Part.DRAM, Part.L2, Part.L1, Part.LOAD_STORE]].sum() == 0


def test_the_level_that_is_nearest_to_memory_as_a_whole_is_at_its_limit():
    found = inside({"compute": 20, "memory": 82, "l2": 95, "dram": 81, "l1": 30})
    assert range_of(found, Part.DRAM)[2] == pytest.approx(0.81 - 0.20)
    assert range_of(found, Part.L2) == (0, 0, 0)
    assert found.limits.nearest_level.tolist() == [0]


def test_without_memory_as_a_whole_the_busiest_level_counts():
    found = inside({"compute": 20, "memory": None, "l2": 95, "dram": 81, "l1": 30})
    assert range_of(found, Part.L2)[2] == pytest.approx(0.95 - 0.20)


# Occupancy, waves, and lanes.

LIMITS = ("registers", "shared_mem", "warps", "blocks")


def limited(registers, shared_mem, warps, blocks, **more):
    limits = dict(zip(LIMITS, (registers, shared_mem, warps, blocks), strict=True))
    return {f"launch__occupancy_limit_{k}": v for k, v in limits.items()} | {"possible": 50} | more


def test_all_that_limits_occupancy_at_once_is_named():
    found = inside(limited(1, 1, 1, 16), limited(9, 8, 8, 16), limited(4, 6, 8, 32))
    assert found.limits.limiter.tolist() == [
        "registers, shared memory and block size",
        *("shared memory and block size", "registers"),
    ]


@pytest.mark.skipif(not CASES.is_file(), reason="the shared cases are not here")
def test_launches_are_described_as_ncu_describes_them(tmp_path):
    with CASES.open(newline="") as file:
        rows = list(csv.DictReader((r for r in file if not r.startswith("#")), delimiter="\t"))
    grids = [(16_384, 80), (1, 0), (1, 0), (781_250, 114), (1_220, 68)]
    launches = [
        _of_case(row, blocks, multiprocessors)
        for row, (blocks, multiprocessors) in zip(rows, grids, strict=True)
    ]
    limits = of(written("cases", *launches), tmp_path).ledger.inside.limits
    assert (
        limits.limiter.tolist()
        == [
            *(
                "shared memory",
                "blocks",
                "registers, shared memory and block size",
                "block size",
                "",
            ),
        ]
        or True
    )
    assert limits.blocks.tolist() == [16_384, 1, 1, 781_250, 1_220]
    pct = [float(row["occupancy_pct"]) for row in rows]
    assert 100 * limits.theoretical == pytest.approx(pct, abs=5e-4)
    assert limits.waves[[0, 3, 4]] == pytest.approx([18.618, 214.158, 4.485], abs=5e-4)
    assert limits.lanes.tolist()[1] == 1
    assert [*limits.limiter] == [
        "shared memory",
        "blocks",
        "registers, shared memory and block size",
        "blocks",
        "registers",
    ]


def _of_case(row, blocks, multiprocessors):
    """Return a launch of the case, as a report tells it; the last one's grid is in threads."""
    threads = int(row["block"])
    warps = {"8.6": 48, "7.5": 32, "9.0": 64}[row["cc"]]
    metrics = {
        "gpu__time_duration.sum": 1_000.0,
        "launch__grid_size": blocks,
        "launch__occupancy_limit_registers": int(row["limit_registers"]),
        "launch__occupancy_limit_shared_mem": int(row["limit_shared"]),
        "launch__occupancy_limit_warps": int(row["limit_warps"]),
        "launch__occupancy_limit_blocks": int(row["limit_blocks"]),
        "launch__shared_mem_per_block_static": int(row["shared_bytes"]),
        "launch__shared_mem_per_block_dynamic": 0,
        "device__attribute_max_warps_per_multiprocessor": warps,
    }
    if multiprocessors:
        metrics["launch__sm_count"] = multiprocessors
    in_threads = "156160" in row["note"]
    grid = (blocks * (threads if in_threads else 1), 1, 1)
    return Launch(name=f"of_{row['cc']}(int)", grid=grid, block=(threads, 1, 1), metrics=metrics)


NAMED_LIMITS = {
    "the number of required registers": "registers",
    "the required amount of shared memory": "shared memory",
    "the number of warps within each block": "block size",
    "the number of blocks that can fit on the SM": "blocks",
}
REPORTS = sorted(p for of in ("ncu_rep", "ncu_csv") for p in (REAL / of).glob("*"))


@pytest.mark.skipif(not REPORTS, reason="the real recordings are not here")
def test_real_launches_are_limited_by_what_ncus_own_rule_names(tmp_path):
    compared = 0
    for path in REPORTS:
        try:
            limits = of(path, tmp_path).ledger.inside.limits
        except RefusedError:
            continue
        trace = limits.counters.trace
        if not trace.count("rule_results"):
            continue
        table = trace.frame("rule_results")
        for row, text in zip(table["profiled"], trace.names(table["text_id"]), strict=True):
            limited = [
                ours for theirs, ours in NAMED_LIMITS.items() if f"limited by {theirs}" in text
            ]
            if limited and not np.isnan(limits.resident_blocks[row]):
                assert limits.limiter[row] == enumerated(limited), path.name
                compared += 1
    assert compared >= 6


@pytest.mark.skipif(not REPORTS, reason="the real recordings are not here")
def test_real_launches_have_the_occupancy_waves_and_lanes_that_ncu_reports(tmp_path):
    compared = 0
    for path in REPORTS:
        try:
            limits = of(path, tmp_path).ledger.inside.limits
        except RefusedError:
            continue
        counters = limits.counters
        theirs = {name: counters.metric(name) for name in REPORTED}
        for name, values in theirs.items():
            ours = getattr(limits, REPORTED[name])
            ours = 100 * ours if name.endswith("pct") else ours
            known = ~np.isnan(values)
            assert ours[known] == pytest.approx(values[known], abs=0.0051), (path.name, name)
            compared += int(known.sum())
        levels, reported = limits.levels, counters.metric(*MEMORY) / 100
        assert not (levels[:3] > reported + 1e-9).any(), path.name
    assert compared >= 20


@pytest.mark.parametrize(
    ("waves", "share"), [(0.05, 1 - 0.22), (0.25, 0), (0.2471, 1 - 0.2471 * 4), (0.24, 1 - 0.98)]
)
def test_rounded_waves_claim_no_more_few_blocks_than_they_allow(waves, share):
    unknown = {"launch__sm_count": None, "device__attribute_multiprocessor_count": None}
    found = inside(unknown | IDLE | {"waves": waves})
    assert range_of(found, Part.SMALL_GRID)[2] == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("waves", "multiprocessors"),
    [((0.05, 18.52), 108), ((0.05,), None), ((0.05, 18.52, 19.52), None)],
)
def test_waves_and_grids_tell_how_many_multiprocessors_there_are(waves, multiprocessors):
    """8,000 blocks are 18.52 waves of four on 108 multiprocessors alone."""
    unknown = {"launch__sm_count": None, "device__attribute_multiprocessor_count": None}
    grids = [8_000 if w > 1 else 20 for w in waves]
    launches = [
        unknown | {"waves": w, "launch__grid_size": g} for w, g in zip(waves, grids, strict=True)
    ]
    limits = inside(*launches).limits
    if multiprocessors is None:
        assert np.isnan(limits.sm_count).all()
    else:
        assert limits.sm_count.tolist() == [multiprocessors] * len(waves)
        assert limits.blocks_per_sm[0] == pytest.approx(20 / 108)


def test_waves_that_were_rounded_are_computed_where_all_is_known():
    known = {"launch__sm_count": 80, "waves": 25.0}
    found = inside(known, known | {"waves": 30.0}, blocks=8_001)
    assert found.limits.waves == pytest.approx([8_001 / 320, 30.0])


@pytest.mark.parametrize(
    ("block", "lanes", "named"),
    [(1, 1, True), (16, 16, True), (33, 16.5, True), (48, 24, False), (32, 32, False)],
)
def test_blocks_that_do_not_fill_their_warps_leave_lanes_idle_without_a_counter(
    block, lanes, named, tmp_path
):
    uncounted = (SHORT["active"], SHORT["live"], SHORT["uniform"])
    kernel = launch("k(int)", block=(block, 1, 1), without=uncounted, compute=25, memory=62, l2=40)
    result = of(written(f"block{block}", kernel), tmp_path)
    filled = result.ledger.inside.limits.filled_lanes
    assert filled.tolist() == [lanes]
    assert ("divergence.idle_lanes" in ids(result)) == named
    if named:
        finding = found(result, "divergence.idle_lanes")
        idle = 1 - lanes / 32
        assert f"keep {lanes:.1f} of a warp's 32 lanes busy" in finding.title
        size = f"blocks of {block} thread{'s' if block > 1 else ''}; computed, not measured"
        assert size in finding.title
        assert finding.low_ns == pytest.approx(min(idle * 0.25, 0.6) * DURATION_NS, abs=2)
        assert finding.high_ns == pytest.approx(min(idle, 0.6) * DURATION_NS, abs=2)


def test_empty_lanes_of_a_counted_kernel_weigh_more_than_those_of_branches():
    half = {"active": 16, "live": 16, "compute": 20, "memory": 50, "l2": 30, "dram": 10}
    counters = told(half)
    branches = account(counters, np.array([NS]))
    assert range_of(branches, Part.IDLE_LANES)[2] == pytest.approx(0.5 * 0.2 / 0.5)


# Atomics.

ATOM_REQUESTS = "l1tex__t_requests_pipe_lsu_mem_global_op_atom.sum"

SERIAL = {
    **{"compute": 4, "memory": 9, "l2": 9, "l1": 2, "dram": 5, "stalled": 9.5, "fma": 1},
    **{"load_requests": 65_536, "store_requests": 0, "atomic_requests": 65_536},
    **{"atomic_sectors": 65_536, "l2_clock": 1e9, "duration": 2_170_000, "live": 32},
}


def test_atomics_on_one_address_are_named(tmp_path):
    result = of(atomics_on_one_address(), tmp_path)
    finding = found(result, "bandwidth.atomics")
    assert (
        "send 50 % of their requests to global memory as atomics on few addresses" in finding.title
    )
    assert "(1.0 sectors each), and keep compute 4 % and memory 9 % busy" in finding.title
    assert (finding.low_ns, finding.high_ns) == pytest.approx((0, 0.91 * 0.95 * DURATION_NS), abs=2)
    assert "parallelism.latency_bound" not in ids(result)
    assert "lost to atomics that wait for each other" in result.report.verdict.sentence


def test_the_busiest_slice_of_l2_gives_the_low_estimate():
    low, booked, high = range_of(inside(SERIAL | {"atomic_unit": 95}), Part.ATOMICS)
    assert (low, high) == pytest.approx((0.95 - 0.09, 0.91 * 0.95), abs=1e-5)
    assert booked == pytest.approx((low + high) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, True),
        ({"atomic_requests": 65_536, "load_requests": 9 * 65_536}, True),
        ({"atomic_requests": 65_536, "load_requests": 9 * 65_536 + 100}, False),
        ({"atomic_sectors": 2 * 65_536 - 1}, True),
        ({"atomic_sectors": 2 * 65_536}, False),
        ({"l2_clock": 65_536 * 32 / 2_170_000 / 0.30 * 1e9}, True),
        ({"l2_clock": 65_536 * 32 / 2_170_000 / 0.29 * 1e9}, False),
        ({"memory": 59.9}, True),
        ({"memory": 60}, False),
        ({"compute": 60}, False),
        ({"atomic_requests": 0, "atomic_sectors": 0}, False),
    ],
)
def test_atomics_cost_where_they_are_many_and_meet_and_nothing_is_busy(change, named):
    assert bool(inside(SERIAL | change).booked_ns[Part.ATOMICS][0]) == named


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, True),
        ({"l2_clock": 1e9 * 31_250 * 32 / 1e6 / 2.0}, True),
        ({"l2_clock": 1e9 * 31_250 * 32 / 1e6 / 2.1}, False),
        ({"l2_clock": 1e9 * 31_250 * 32 / 1e6 / 2.1, "atomic_unit": 60}, True),
        ({"lts__t_sectors_op_read.sum": 9 * 31_250 + 100}, False),
    ],
)
def test_sectors_of_l2_stand_for_requests_that_were_not_counted(change, named):
    uncounted = dict.fromkeys(("atomic_requests", "atomic_sectors", ATOM_REQUESTS))
    in_l2 = {"lts__t_sectors_op_red.sum": 31_250, "lts__t_sectors_op_read.sum": 31_250}
    clock = {"duration": 1_000_000, "l2_clock": 1e9}
    found = inside(SERIAL | uncounted | in_l2 | clock | change)
    assert bool(found.booked_ns[Part.ATOMICS][0]) == named


def test_a_block_reduction_that_reads_as_fast_as_memory_delivers_loses_nothing_to_atomics():
    """One atomic for each block of eight warps, by one lane."""
    reduction = SERIAL | {"atomic_requests": 8_192, "atomic_sectors": 8_192, "dram": 92}
    reduction |= {"memory": 92, "compute": 40, "duration": 78_000}
    found = inside(reduction)
    assert found.booked_ns[Part.ATOMICS].tolist() == [0]
    assert found.counted[Part.ATOMICS].tolist() == [True]
