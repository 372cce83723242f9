"""The account of the time inside launches, worked out again for one launch in plain arithmetic.

Written from the docstrings and Nsight Compute's definitions, not from the code: a number at a time,
no arrays. Values are drawn at every threshold and on both sides of it.
"""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analyzers.metric_names import ROW_OF_PART, Part
from tests.test_inside import NAMES, NS, account, told
from traces.counter_programs import GOOD

NAN = float("nan")
PIPE = "sm__pipe_{}_cycles_active.avg.pct_of_peak_sustained_elapsed"
TENSOR, HALF_FUSED = PIPE.format("tensor"), "smsp__sass_thread_inst_executed_op_hfma_pred_on.sum"
HALF_ADDED = "smsp__sass_thread_inst_executed_op_hadd_pred_on.sum"
MULTIPLIED = "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum"
MAJOR, MINOR = (f"device__attribute_compute_capability_{part}" for part in ("major", "minor"))
SHARED_BUSY = "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed"
PEAK_SINGLE, PEAK_DOUBLE = (
    f"sm__sass_thread_inst_executed_op_{kind}fma_pred_on.sum.peak_sustained" for kind in "fd"
)
SPEED_OF_DOUBLES = {(6, 0): 2, (7, 0): 2, (8, 0): 2, (9, 0): 2, (10, 0): 2, (7, 5): 32, (6, 1): 32}


def known(value):
    return not math.isnan(value)


def or_nothing(value):
    return value if known(value) else 0.0


def largest(*values):
    return max((v for v in values if known(v)), default=NAN)


def clipped(value, low=0.0, high=1.0):
    return value if math.isnan(value) else min(max(value, low), high)


class OneLaunch:
    """What one launch's counters say, by the names that ``told`` takes."""

    def __init__(self, launch, blocks):
        self.values = GOOD | {NAMES.get(k, k): v for k, v in launch.items()}
        self.blocks = blocks
        self.compute, counted = self.pct("compute"), self.pct("memory")
        self.dram, self.l2, self.l1 = (self.pct(name) for name in ("dram", "l2", "l1"))
        self.reported, stages = counted, (self.dram, self.l2, self.l1)
        self.memory = counted if known(counted) else max(stages) if all(map(known, stages)) else NAN
        self.memory_at_least = largest(self.memory, *stages)
        self.load_store = largest(self.pct("loads"), self.pct("loads_l1"))
        self.levels = self.own_levels()
        lanes = [v for n in ("active", "live") if 0 < (v := self.number(n)) <= 32.01]
        self.lanes = min(lanes, default=NAN)
        self.achieved, self.possible = self.pct("achieved"), self.pct("possible")
        self.needed = self.number("ideal_sectors")
        self.moved = self.number("sectors")
        self.wasted = clipped(1 - self.needed / self.moved) if self.moved > 0 else 0.0

    def own_levels(self):
        """Return each level of memory, none above what is reported of memory as a whole."""
        at_most = self.reported if known(self.reported) else 1.0
        own = {Part.DRAM: self.dram, Part.L2: self.l2, Part.L1: self.l1}
        levels = {p: v if math.isnan(v) else min(v, at_most) for p, v in own.items()}
        with_compute = max(at_most, or_nothing(self.compute))
        loads = self.load_store
        levels[Part.LOAD_STORE] = loads if math.isnan(loads) else min(loads, with_compute)
        return levels

    def arithmetic(self):
        """Return compute without load and store instructions, where these are what it reports."""
        telling = (self.pct("fma"), self.pct("issue"))
        others = largest(*telling, self.pct("fp64"), self.pct(TENSOR))
        is_loads = self.load_store >= self.compute - 0.0002 and any(map(known, telling))
        return min(others, self.compute) if is_loads else self.compute

    def multiprocessors(self):
        """Return how many there are: as counted, or as grid and waves allow alone."""
        counted, waves = self.number("launch__sm_count"), self.number("waves")
        if known(counted):
            return counted
        each = self.blocks / 4  # four blocks are resident: registers allow no more
        least, most = math.ceil(each / (waves + 0.005)), math.floor(each / (waves - 0.005))
        return least if least == most else NAN

    def waves(self):
        waves, computed = self.number("waves"), self.blocks / (self.multiprocessors() * 4)
        return computed if abs(computed - waves) <= 0.005 else waves

    def number(self, name):
        value = self.values.get(NAMES.get(name, name))
        return NAN if value is None else float(value)

    def pct(self, name):
        return clipped(self.number(name) / 100)

    def conflicts(self):
        read, written = self.number("conflicts"), 0.0
        wavefronts = or_nothing(self.number("wavefronts")) + 200.0
        return clipped((or_nothing(read) + written) / wavefronts)

    def kept_bytes(self):
        """Return the least and the largest part of device memory's bytes that coalescing leaves."""
        fetched = [v for n in ("dram_read", "dram_write") if known(v := self.number(n))]
        if not fetched or not known(self.needed) or (sum(fetched) == 0 and self.needed == 0):
            return 1 - self.wasted, 1.0
        share = 32 * self.needed / sum(fetched) if sum(fetched) else math.inf
        return (clipped(share, 1 - self.wasted),) * 2

    def shares(self):
        shares = {
            Part.IDLE_LANES: self.idle_lanes(),
            Part.UNCOALESCED: self.uncoalesced(),
            Part.BANK_CONFLICTS: self.bank_conflicts(),
            **self.roofs(),
            Part.ATOMICS: (self.no_atomics(),) * 2,
            Part.SMALL_GRID: (0.0, self.small_grid()),
            Part.TAIL: (0.0, self.tail()),
            Part.IMBALANCE: (0.0, self.imbalance()),
            Part.FP64: (0.0, self.doubles()),
            Part.TENSOR: (0.0, self.tensor()),
            Part.OCCUPANCY: (0.0, self.occupancy()),
            Part.LATENCY: (0.0, self.latency()),
        }
        if or_nothing(self.small_grid()) > 0 or self.tail() > 0:  # both leave multiprocessors idle
            for part in (Part.IMBALANCE, Part.OCCUPANCY):
                shares[part] = tuple(0.0 if known(s) else s for s in shares[part])
        return shares

    def no_atomics(self):
        """Return what is lost to none at all, where it is known that nothing is busy with them."""
        return 0.0 if known(self.compute) and known(self.memory_at_least) else NAN

    def weighed(self, loss, own, other):
        busiest = largest(own, other)
        high = 1.0 if not known(busiest) or busiest <= 0 or not known(own) else own / busiest
        return loss * or_nothing(own), loss * high

    def capped(self, share, *busy):
        room = 1 - max(or_nothing(b) for b in busy)
        return tuple(s if math.isnan(s) else min(s, room) for s in share)

    def idle_lanes(self):
        idle = 1 - self.lanes / 32 if self.lanes < 24 else self.lanes * 0
        weighed = self.weighed(idle, self.compute, self.memory_at_least)
        return self.capped(weighed, self.levels[Part.DRAM], self.levels[Part.L2])

    def uncoalesced(self):
        least, most = self.kept_bytes()
        dram, l2 = self.levels[Part.DRAM], self.levels[Part.L2]
        cache = l2 if known(l2) else self.memory_at_least
        low, _ = self.weighed(self.wasted, cache, self.compute)
        _, high = self.weighed(self.wasted, self.memory, self.compute)
        (low,) = self.capped((low,), self.compute, dram * most)
        (high,) = self.capped((high,), self.compute, dram * least)
        fixed = 3_000 / NS  # of any launch; what else is left reaches 85 % of the peak
        reached = 1 - (fixed + (1 - fixed) * (1 - low) / 0.85)
        return low if math.isnan(low) else max(reached, 0.0), high

    def bank_conflicts(self):
        loss = self.conflicts() if self.conflicts() >= 0.10 else 0.0
        stated = [self.pct(SHARED_BUSY), self.pct("l1")]
        busy = next((s for s in stated if known(s)), or_nothing(self.memory_at_least))
        share = loss * busy, self.weighed(loss, self.memory, self.compute)[1]
        return self.capped(share, self.compute, self.levels[Part.DRAM], self.levels[Part.L2])

    def roofs(self):
        kept = {Part.DRAM: self.kept_bytes()[1], Part.L2: 1 - self.wasted}
        own = {Part.DRAM: self.dram, Part.L2: self.l2, Part.L1: self.l1}
        own[Part.LOAD_STORE] = self.load_store
        nearest = min(own, key=lambda part: (self.distance(own[part]), part))
        roofs = {}
        for part, level in self.levels.items():
            floor = self.arithmetic() if part is Part.LOAD_STORE else or_nothing(self.compute)
            beyond = level * kept.get(part, 1.0) - floor
            at_roof = part is nearest and level >= 0.80
            high = beyond if math.isnan(beyond) else max(beyond, 0) if at_roof else level * 0
            roofs[part] = (level * 0, high)
        return roofs

    def distance(self, level):
        if math.isnan(level):
            return math.inf
        return abs(level - self.reported) if known(self.reported) else -level

    def small_grid(self):
        per_multiprocessor = self.blocks / self.multiprocessors()
        if not known(per_multiprocessor):  # the waves of a page are rounded
            per_multiprocessor = 4 * (self.number("waves") + 0.005)
        return 1 - per_multiprocessor if per_multiprocessor < 1 else per_multiprocessor * 0

    def tail(self):
        waves, reached = self.waves(), NAN
        if known(self.possible) and known(self.achieved) and self.possible:
            reached = self.achieved / self.possible
        is_tail = 1 <= math.floor(waves) <= 4 and waves > math.floor(waves)
        return 1 - waves / math.ceil(waves) if is_tail and not reached >= 0.80 else 0.0

    def imbalance(self):
        mean, longest, elapsed = map(self.number, ("mean_cycles", "longest", "elapsed"))
        share = (1 - mean / longest) * clipped(longest / elapsed)
        return share if share >= 0.05 else share * 0

    def doubles(self):
        double, single = self.pct("fp64"), or_nothing(self.pct("fma"))
        ratio = self.number(PEAK_SINGLE) / self.number(PEAK_DOUBLE)
        if not known(ratio):
            capability = (self.number(MAJOR), or_nothing(self.number(MINOR)))
            ratio = SPEED_OF_DOUBLES.get(capability, 64) if known(capability[0]) else 2
        share = double * (1 - 1 / max(ratio, 1)) if double > 0.15 and single < 0.60 else double * 0
        return self.capped((share,), self.memory_at_least)[0]

    def fused(self, fused, *others):
        every = or_nothing(self.number(fused)) + sum(or_nothing(self.number(o)) for o in others)
        return or_nothing(self.number(fused)) / every if every else 0.0

    def tensor(self):
        busy = self.number(TENSOR) / 100
        capability = (or_nothing(self.number(MAJOR)), or_nothing(self.number(MINOR)))
        able = self.fused("fused", "added", MULTIPLIED) >= 0.80 and capability >= (8, 0)
        able |= self.fused(HALF_FUSED, HALF_ADDED) >= 0.80 and capability >= (7, 0)
        share = self.pct("fma") * 0.5 if able and busy < 0.01 else self.pct("fma") * 0
        return self.capped((share if known(busy) else NAN,), self.memory_at_least)[0]

    def occupancy(self):
        if not known(self.achieved):
            return NAN
        gap = 1 - self.achieved / self.possible if self.possible - self.achieved > 0.10 else 0.0
        few = 1 - self.achieved / 0.50 if self.achieved < 0.25 else 0.0
        busiest = or_nothing(largest(self.compute, self.memory_at_least))
        return min(max(gap, few), 1 - busiest) if busiest < 0.80 else 0.0

    def latency(self):
        if not known(self.compute) or not known(self.memory):
            return NAN
        busiest = max(self.compute, self.memory)
        return 1 - busiest / 0.60 if busiest < 0.60 else 0.0

    def rooms(self):
        lanes = min((self.lanes if known(self.lanes) else 32) / 32, 1)
        compute, memory = or_nothing(self.compute), or_nothing(self.memory_at_least)
        rooms = 1 - or_nothing(self.arithmetic()) * lanes, 1 - max(compute, memory)
        return tuple(min(room, 1 - 2_000 / NS) for room in rooms)  # no launch is below 2 µs

    def booked(self, ns):
        """Return low, booked and high ns of every part, served in order."""
        whole_split, whole_waiting = split, waiting = (
            *(int(ns * clipped(room)) for room in self.rooms()),
        )
        left, answers = ns, {}
        for part, share in self.shares().items():
            low, high = (int(ns * clipped(or_nothing(s))) for s in share)
            is_split, is_waiting = part in ROW_OF_PART, part not in (Part.FP64, Part.TENSOR)
            most = whole_split if is_split else whole_waiting if is_waiting else high
            high = min(high, most)
            at_most = min(high, left, split if is_split else waiting if is_waiting else left)
            low = min(low, at_most)
            booked = (low + at_most) // 2 if is_split else at_most
            left -= booked
            if is_split:
                split -= booked
            elif is_waiting:
                waiting -= booked
            answers[part] = (low, booked, high)
        return answers


def around(*thresholds, step=0.5):
    """Draw values at thresholds and on both sides of them."""
    return st.sampled_from([t + d for t in thresholds for d in (-step, 0, step)])


BUSY = st.one_of(around(1, 10, 15, 60, 79.5, 80, 90, 99.5), st.none())
LAUNCH = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("compute", "memory", "dram", "l2", "l1", SHARED_BUSY), BUSY),
        **dict.fromkeys(("loads", "loads_l1", "issue"), BUSY),
        **dict.fromkeys(("achieved", "possible"), around(1, 10, 20, 25, 35, 40, 50)),
        **dict.fromkeys(("active", "live"), around(1, 12, 24, 31.5)),
        **dict.fromkeys(("fp64", "fma", TENSOR), around(0.5, 1, 15, 60, 80, step=0.25)),
        "waves": around(1, 1.5, 2, 4, 4.5, 5, 6, step=0.25),
        "launch__sm_count": st.sampled_from([59, 60, 61, 100, 120]),
        "mean_cycles": st.sampled_from([600_000, 949_000, 950_000, 951_000]),
        "longest": st.sampled_from([900_000, 1_000_000, 1_000_001]),
        "elapsed": st.sampled_from([1_000_000, 2_000_000]),
        "ideal_sectors": st.sampled_from([0, 100, 250, 999, 1_000, 1_200]),
        **dict.fromkeys(("dram_read", "dram_write"), st.sampled_from([None, 0, 8_000, 64_000])),
        "conflicts": st.sampled_from([0, 99, 100, 101, 500, 2_000]),
        "wavefronts": st.sampled_from([300, 800]),
        **dict.fromkeys(("fused", HALF_FUSED), st.sampled_from([0, 799, 800, 1_601, 4_000])),
        **dict.fromkeys((HALF_ADDED, MULTIPLIED), st.sampled_from([0, 200])),
        MAJOR: st.sampled_from([6, 7, 8, 9, 12]),
        MINOR: st.sampled_from([0, 1, 5]),
        PEAK_SINGLE: st.sampled_from([64, 128]),
        PEAK_DOUBLE: st.sampled_from([2, 64, 128]),
    },
)


IDLE_TENSOR = {TENSOR: 0, "fma": 60, "memory": 10, "dram": 10, "l2": 10, "l1": 10, "compute": 60}
SINGLE = {**IDLE_TENSOR, "fused": 4_000, "added": 0, MULTIPLIED: 200, HALF_FUSED: 0}
HALVES = {**IDLE_TENSOR, "fused": 0, "added": 200, HALF_FUSED: 4_000, HALF_ADDED: 200}
UNEVEN = {"mean_cycles": 600_000, "longest": 1_000_000, "elapsed": 1_000_000, "waves": 1.0}


@settings(max_examples=150)
# A small grid and a tail leave multiprocessors idle by themselves; without either it is imbalance.
@example(launch={**UNEVEN, "launch__sm_count": 100}, blocks=60)
@example(launch={**UNEVEN, "launch__sm_count": 100}, blocks=90)
@example(launch={**UNEVEN, "launch__sm_count": 60, "waves": 0.375}, blocks=90)
@example(launch={**UNEVEN, "launch__sm_count": 60, "achieved": 20, "waves": 1.5}, blocks=360)
# Tensor cores take 32-bit products from compute capability 8.0 on, 16-bit ones from 7.0 on.
@example(launch={**SINGLE, MAJOR: 8, MINOR: 0}, blocks=8_000)
@example(launch={**SINGLE, MAJOR: 7, MINOR: 5}, blocks=8_000)
@example(launch={**HALVES, MAJOR: 7, MINOR: 0}, blocks=8_000)
@example(launch={**HALVES, MAJOR: 6, MINOR: 1}, blocks=8_000)
@given(launch=LAUNCH, blocks=st.sampled_from([25, 59, 60, 61, 90, 8_000]))
def test_every_part_of_a_launch_is_what_plain_arithmetic_says(launch, blocks):
    found = account(told(launch, blocks=blocks), _times(1))
    expected = OneLaunch(launch, blocks).booked(NS)
    for part, numbers in expected.items():
        booked = (found.low_ns[part][0], found.booked_ns[part][0], found.high_ns[part][0])
        # Whole nanoseconds of products whose order differs.
        assert booked == pytest.approx(numbers, abs=2), part


@settings(max_examples=60)
@given(launch=LAUNCH)
def test_a_part_is_counted_where_its_counters_are(launch):
    found = account(told(launch), _times(1))
    shares = OneLaunch(launch, 8_000).shares()
    assert {p: bool(found.counted[p][0]) for p in Part} == {p: known(shares[p][1]) for p in Part}


def _times(count):
    return np.full(count, NS, np.int64)
