"""The time inside launches: what parts of it are lost, whatever counters say or keep silent."""

import types
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.counters.inside import account
from analyzers.facts.counters import Counters
from analyzers.finding import Row
from analyzers.metric_names import ROW_OF_PART, THREADS_PER_WARP, Part
from analyzers.rules import parallelism_latency_bound
from tests.counter_scenarios import SHORT
from traces.counter_programs import GOOD

NS = 1_000_000
WAITING = (Part.SMALL_GRID, Part.TAIL, Part.IMBALANCE, Part.OCCUPANCY, Part.LATENCY)
OTHERS = {
    "dram_read": "dram__bytes_read.sum",
    "dram_write": "dram__bytes_write.sum",
    "sectors": "memory_l2_theoretical_sectors_global",
    "wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "longest": "sm__cycles_active.max",
    "elapsed": "sm__cycles_elapsed.max",
}
NAMES = SHORT | OTHERS
PERCENTS = ("compute", "memory", "dram", "l2", "l1", "achieved", "possible", "fp64", "fma")


@dataclass(frozen=True, eq=False)
class Told(Counters):
    """Counters that a test tells, each launch by names of metrics."""

    launches: tuple[dict[str, float], ...] = ()
    blocks: int = 8_000
    duration_ns: int = NS

    def __len__(self):
        return len(self.launches)

    @property
    def profiled(self):
        size = len(self.launches)
        shape = {"grid_x": self.blocks, "block_x": 256}
        axes = {f"{of}_{a}": shape.get(f"{of}_{a}", 1) for of in ("grid", "block") for a in "xyz"}
        return pd.DataFrame(axes, index=range(size)).assign(
            name="gemm(float *)", duration_ns=self.duration_ns
        )

    @property
    def _values(self):
        names = {name for launch in self.launches for name in launch}
        return {
            name: (
                np.array([i for i, one in enumerate(self.launches) if name in one]),
                np.array([float(one[name]) for one in self.launches if name in one]),
            )
            for name in names
        }


def told(*launches, blocks=8_000):
    """Return counters of launches; each names what is not as usual, ``None`` for not counted."""
    rows = []
    for launch in launches:
        named = {NAMES.get(key, key): value for key, value in launch.items()}
        rows.append({k: v for k, v in (GOOD | named).items() if v is not None})
    size = len(rows)
    trace = types.SimpleNamespace(count=lambda _: size)
    return Told(trace=trace, launches=tuple(rows), blocks=blocks)


def inside(*launches, ns=NS, blocks=8_000):
    return account(told(*launches, blocks=blocks), np.full(len(launches), ns, np.int64))


IDLE = dict.fromkeys(("compute", "memory", "dram", "l2", "l1"), 1)
STREAMING = {"compute": 20, "memory": 92, "dram": 92, "l2": 40, "fma": 10}
STRIDED = {"compute": 12, "memory": 91, "dram": 91, "l2": 55, "ideal_sectors": 250}


def range_of(found, part):
    """Return low, booked and high share of the first launch."""
    return tuple(float(v[part][0]) / NS for v in (found.low_ns, found.booked_ns, found.high_ns))


# Memory at its roof.


def test_a_kernel_at_the_roof_may_need_each_byte_so_that_nothing_can_be_won():
    low, booked, high = range_of(inside(STREAMING), Part.DRAM)
    assert low == 0
    assert high == pytest.approx(0.92 - 0.20), "compute has to be done whatever is moved"
    assert booked == pytest.approx((0.92 - 0.20) / 2)


def test_a_kernel_whose_compute_is_as_busy_wins_nothing_by_moving_fewer_bytes():
    assert range_of(inside(STREAMING | {"compute": 95}), Part.DRAM) == (0, 0, 0)


def test_bytes_in_vain_are_not_won_back_from_the_roof_once_more():
    fetched = {"dram_read": 21_000, "dram_write": 11_000}  # 250 sectors of 32 bytes are needed
    found = inside(STRIDED | fetched)
    low, booked, high = range_of(found, Part.DRAM)
    assert (low, high) == pytest.approx((0, 0.91 / 4 - 0.12))
    assert booked == pytest.approx((0.91 / 4 - 0.12) / 2, abs=1e-5)
    uncoalesced = range_of(found, Part.UNCOALESCED)
    low = 1 - 0.003 - 0.997 * (1 - 0.75 * 0.55) / 0.85
    assert uncoalesced == pytest.approx((low, (low + 0.75) / 2, 0.75), abs=1e-5)
    assert found.row_ns(Row.KERNEL)[0] > 0.3 * NS


@pytest.mark.parametrize("dram_bytes", [None, 32_000, 10**9])
def test_no_two_estimates_about_memory_take_all_of_a_launch(dram_bytes):
    found = inside(STRIDED | {"dram_read": dram_bytes, "dram_write": None})
    assert found.row_ns(Row.BANDWIDTH)[0] <= (1 - 0.12) * NS
    assert found.row_ns(Row.KERNEL)[0] > 0.2 * NS


def test_coalescing_saves_no_larger_part_of_the_bytes_than_of_the_sectors():
    # Other traffic (spills, evictions) fills device memory: a tenth of the sectors is in vain.
    other = STRIDED | {"ideal_sectors": 900, "dram_read": 10**9, "dram_write": 0}
    assert range_of(inside(other), Part.DRAM)[2] == pytest.approx(0.91 * 0.9 - 0.12)


def test_sectors_in_vain_are_not_won_back_from_the_l2_cache_once_more():
    found = inside(STRIDED | {"dram": 20, "l2": 91})
    assert range_of(found, Part.L2)[2] == pytest.approx(0.91 * 0.25 - 0.12)


# Waiting.


def test_all_waiting_together_leaves_what_the_busiest_side_was_busy_for():
    idle = {"compute": 9, "memory": 20, "dram": 5, "l2": 20, "l1": 5, "achieved": 11}
    found = inside(idle | {"possible": 17, "fma": 5})
    waited = sum(found.booked_ns[p][0] for p in (Part.OCCUPANCY, Part.LATENCY))
    assert waited == pytest.approx((1 - 0.20) * NS, abs=1)


def test_more_blocks_win_no_more_than_the_memory_that_all_of_them_share_has_left():
    found = inside({"compute": 10, "memory": 70, "dram": 70, "l2": 30, "l1": 10}, blocks=25)
    assert found.booked_ns[Part.SMALL_GRID].tolist() == [0]  # how many there are is not told
    few = {"launch__sm_count": 100, "compute": 10, "memory": 70, "dram": 70}
    assert range_of(inside(few, blocks=25), Part.SMALL_GRID)[1] == pytest.approx(0.30)


def test_one_memory_that_is_idle_does_not_make_a_kernel_wait():
    # A public pair of pages about one kernel: one of them has device memory's 8 % alone, the other
    # memory at 62 %, of the L2 cache.
    one = {"compute": 41.5, "memory": None, "dram": 8.1, "l2": None, "l1": None}
    found = inside(one, one | {"memory": 61.8}, one | {"l2": 61.8, "l1": 49.2})
    assert found.booked_ns[Part.LATENCY].tolist() == [0, 0, 0]
    assert found.counted[Part.LATENCY].tolist() == [False, True, True]


@pytest.mark.parametrize(("possible", "limiter"), [(50, "registers"), (100, "")])
def test_nothing_limits_the_warps_where_all_of_them_fit(possible, limiter):
    assert inside({"possible": possible}).limits.limiter.tolist() == [limiter]


@pytest.mark.parametrize(
    ("duration", "most"), [(2_000, 0), (2_001, 1 - 2_000 / 2_001), (4_000, 0.5), (None, 0.75)]
)
def test_no_launch_gets_shorter_than_the_two_microseconds_that_any_takes(duration, most):
    few = {**IDLE, "launch__sm_count": 100, "duration": duration}
    found = inside(few | {"waves": 0.05}, blocks=25)
    booked = found.booked_ns[:, 0].sum() / NS
    assert booked <= max(most, 1e-9) + 1e-6 if duration else booked >= most
    assert range_of(found, Part.SMALL_GRID)[1:] == pytest.approx((min(most, 0.75),) * 2, abs=1e-5)


# Whatever was counted.

ANY = st.one_of(st.none(), st.just(float("nan")), st.sampled_from([0.0, 100.0]), st.floats(-5, 140))
COUNT = st.one_of(st.none(), st.just(0), st.integers(0, 10**15))
LANES = st.one_of(st.none(), st.floats(0, 40))
LAUNCH = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(PERCENTS, ANY),
        **dict.fromkeys((*OTHERS, "ideal_sectors", "conflicts", "mean_cycles", "fused"), COUNT),
        **dict.fromkeys(("active", "live"), LANES),
        "waves": st.one_of(st.none(), st.floats(0, 50)),
        "launch__sm_count": st.integers(0, 200),
        "device__attribute_compute_capability_major": st.sampled_from([6, 7, 8, 9, 12]),
    },
)


@settings(max_examples=80)
@given(
    launches=st.lists(LAUNCH, min_size=1, max_size=6),
    ns=st.one_of(st.just(0), st.integers(0, 100), st.integers(0, 10**15)),
    blocks=st.integers(0, 400),
)
def test_parts_are_never_negative_never_overlap_and_lie_in_their_range(launches, ns, blocks):
    found = inside(*launches, ns=ns, blocks=blocks)
    assert (found.low_ns >= 0).all()
    assert (found.low_ns <= found.booked_ns).all()
    assert (found.booked_ns <= found.high_ns).all()
    assert (found.high_ns <= ns).all()
    assert (found.booked_ns.sum(axis=0) <= ns).all()
    rows = [found.row_ns(row) for row in (Row.KERNEL, Row.DIVERGENCE, Row.BANDWIDTH)]
    assert all((ns_of_row >= 0).all() for ns_of_row in rows)
    assert (sum(rows) == ns).all()
    assert (found.booked_ns[~found.counted] == 0).all()


@settings(max_examples=50)
@given(launches=st.lists(LAUNCH, min_size=1, max_size=6))
def test_what_is_useful_stays(launches):
    found = inside(*launches)
    limits = found.limits
    compute, memory = np.nan_to_num(limits.compute), np.nan_to_num(limits.memory_at_least)
    arithmetic = np.nan_to_num(limits.arithmetic)
    lanes = np.nan_to_num(limits.lanes, nan=THREADS_PER_WARP) / THREADS_PER_WARP
    split = found.booked_ns[list(ROW_OF_PART)].sum(axis=0)
    assert (split <= (1 - arithmetic * np.minimum(lanes, 1)) * NS + 1).all()
    waited = found.booked_ns[list(WAITING)].sum(axis=0)
    assert (waited <= (1 - np.maximum(compute, memory)) * NS + 1).all()


@settings(max_examples=20)
@given(launch=LAUNCH, ns=st.lists(st.integers(0, 10**9), min_size=1, max_size=5))
def test_a_launch_is_judged_alone_whatever_stands_beside_it(launch, ns):
    times = np.array(ns, np.int64)
    together = account(told(*[launch] * len(ns)), times)
    for place, one in enumerate(ns):
        alone = account(told(launch), np.array([one], np.int64))
        assert (together.booked_ns[:, place] == alone.booked_ns[:, 0]).all()


# What is left of a launch whose accesses are coalesced.


def least_won_ns(duration_ns, **more):
    counters = replace(told(STRIDED | more), duration_ns=duration_ns)
    return int(account(counters, np.array([duration_ns])).low_ns[Part.UNCOALESCED][0])


@pytest.mark.parametrize(
    ("duration_ns", "sectors_alone_ns", "measured_ns"),
    [(58_700, 31_000, 28_800), (36_700, 22_000, 18_600)],
)
def test_two_measured_pairs_won_less_than_sectors_alone_promise(
    duration_ns, sectors_alone_ns, measured_ns
):
    """Durations are what a waste of three quarters makes of the claimed ranges."""
    share = sectors_alone_ns / duration_ns / 0.75
    low = least_won_ns(duration_ns, l2=100 * share, dram=10, memory=95)
    assert 0.8 * measured_ns < low < measured_ns < 0.75 * duration_ns


def test_a_launch_no_longer_than_starting_takes_wins_nothing_for_sure():
    assert least_won_ns(3_000, dram=10) == 0
    assert least_won_ns(300_000, dram=10) > 0


@pytest.mark.parametrize(
    ("stalls", "named"),
    [
        ({"long_scoreboard": 3.5, "barrier": 4.5, "wait": 2.0}, ("barrier", 0.45)),
        ({"long_scoreboard": 4.5, "barrier": 3.5}, ("long_scoreboard", 0.45)),
        ({"barrier": 3.0}, ("", None)),  # three tenths are not yet much
        ({"barrier": 3.01}, ("barrier", 0.301)),
        ({"selected": 8.0, "not_selected": 9.0}, ("", None)),  # warps that could go on
    ],
)
def test_the_largest_stall_above_three_tenths_is_named(stalls, named):
    prefix, suffix = parallelism_latency_bound.STALLED
    counters = told(
        {parallelism_latency_bound.LATENCY: 10.0}
        | {f"{prefix}{name}{suffix}": value for name, value in stalls.items()}
    )
    loss = types.SimpleNamespace(
        inside=types.SimpleNamespace(limits=types.SimpleNamespace(counters=counters)),
        mean=lambda values: float(np.mean(values)),
    )
    name, part = parallelism_latency_bound.main_stall(loss)
    assert name == named[0]
    assert part == pytest.approx(named[1]) if name else np.isnan(part)
