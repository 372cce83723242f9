"""What each profiled launch makes of the GPU: how busy which part is, and how it was launched."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from analyzers.facts.counters import Counters
from analyzers.intervals import Array
from analyzers.metric_names import (
    ACCESS,
    ACHIEVED_PCT,
    ACTIVE_LANES,
    ALL_CONFLICTS,
    ALL_WAVEFRONTS,
    ATOMIC_OPS,
    COMPUTE,
    CONFLICTS,
    DIVERGENT,
    DRAM,
    DURATION,
    EXCESSIVE_SECTORS,
    FEW_LANES,
    IDEAL_SECTORS,
    ISSUE_PCT,
    ISSUED_PER_CYCLE,
    L1,
    L1_STAGES,
    L2,
    L2_CLOCK,
    L2_SECTORS,
    LIVE_LANES,
    LOAD_STORE_STAGES,
    LOAD_STORE_WORDS,
    MEMORY,
    PEAK,
    PER_SECTOR,
    PIPE_WORDS,
    SCHEDULERS,
    SECTORS,
    SM_COUNT,
    THEORETICAL_PCT,
    THREADS_PER_WARP,
    UNIFORM_PCT,
    WAVEFRONTS,
    WAVES,
)
from analyzers.words import enumerated

LIMITS = ("registers", "shared_mem", "blocks", "warps", "barriers")
LIMIT_WORDS = ("registers", "shared memory", "blocks", "block size", "barriers")
SAME_THROUGHPUT = 0.0002  # of the peak; pages print two decimals of a percentage
TELLING_PIPES = ("instruction issue", "FMA pipe")  # idle tensor cores alone tell of no arithmetic
ROUNDED_WAVES = 0.005  # pages print two decimals

NEAR_SECTORS, FAR_SECTORS = 4.0, 16.0  # that a warp needs, when each thread reads 4 or 16 bytes
# Results per clock and multiprocessor, 32-bit over 64-bit (CUDA C++ Programming Guide, "Throughput
# of Native Arithmetic Instructions"); 64 where the GPU has only a few 64-bit units.
FP64_RATIO = {(6, 0): 2, (7, 0): 2, (8, 0): 2, (9, 0): 2, (10, 0): 2, (7, 5): 32, (6, 1): 32}
FEW_FP64_UNITS = 64
SECTOR_BYTES = 32.0
NS_PER_S = 1e9
_PEAK_OPS = "sm__sass_thread_inst_executed_op_{}fma_pred_on.sum.peak_sustained"


Range = tuple[Array, Array]
"""Low and high share of each launch's time; not-a-number where counters do not tell."""


@dataclass(frozen=True, eq=False)
class LaunchLimits:
    """What counters say about each profiled launch; not-a-number where they say nothing.

    Attributes:
        counters: The counters.
    """

    counters: Counters

    @functools.cached_property
    def compute(self) -> Array:
        """How busy the multiprocessors are, as a part of their peak, 0 to 1."""
        return _part(self.counters.metric(*COMPUTE))

    @functools.cached_property
    def _pipes(self) -> tuple[Array, Array]:
        """What the throughput of the multiprocessors is made of: values, and words for each row."""
        values, words = [], []
        for name, word in {**PIPE_WORDS, **LOAD_STORE_WORDS}.items():
            for ending in ("", "_cycles_active"):
                metric = f"sm__{name}{ending}{PEAK}"
                if metric in self.counters.names:
                    values.append(_part(self.counters.metric(metric)))
                    words.append(word)
        if not values:
            return np.full((1, len(self.counters)), np.nan), np.array([""], dtype=object)
        return np.stack(values), np.array(words, dtype=object)

    @functools.cached_property
    def pipe(self) -> Array:
        """Which part of the multiprocessors is the busiest, in words.

        Empty where none was counted that explains how busy they are.
        """
        values, words = self._pipes
        explains = _max(values) >= self.compute - SAME_THROUGHPUT
        return np.where(explains, words[_first_max(values)], "")

    @functools.cached_property
    def arithmetic(self) -> Array:
        """How busy arithmetic and the issue of instructions are, as a part of their peak.

        The same as ``compute`` where load/store instructions are not what compute is busy with, or
        where nothing else was counted.
        """
        values, words = self._pipes
        is_other = ~np.isin(words, list(LOAD_STORE_WORDS.values()))
        counted = np.fmax(_max(values[is_other]), self._issue)
        tells = np.fmax(_max(values[np.isin(words, TELLING_PIPES)]), self._issue)
        from_loads = (self.load_store >= self.compute - SAME_THROUGHPUT) & ~np.isnan(tells)
        return np.where(from_loads, np.fmin(counted, self.compute), self.compute)

    @property
    def _issue(self) -> Array:
        """The part of the cycles in which a scheduler issued an instruction."""
        per_cycle = self.counters.metric(*ISSUED_PER_CYCLE) / SCHEDULERS
        of_scheduler = self.counters.metric(*ISSUE_PCT) / 100
        return np.clip(np.where(np.isnan(per_cycle), of_scheduler, per_cycle), 0, 1)

    @functools.cached_property
    def load_store(self) -> Array:
        """How busy what takes in load and store instructions is, as a part of its peak.

        Compute, memory and L1 share it: where all three report the same throughput, it is that.
        """
        values, words = self._pipes
        of_pipes = _max(values[np.isin(words, list(LOAD_STORE_WORDS.values()))])
        of_l1 = _max(np.stack([_part(self.counters.metric(n)) for n in LOAD_STORE_STAGES]))
        reported = _part(self.counters.metric(*MEMORY))
        is_same = np.abs(self.compute - reported) <= SAME_THROUGHPUT
        is_same &= _part(self.counters.metric(*L1)) >= reported - SAME_THROUGHPUT
        counted = np.fmax(of_pipes, of_l1)
        return np.where(np.isnan(counted) & is_same & (reported < 1), reported, counted)

    @functools.cached_property
    def memory(self) -> Array:
        """How busy memory and caches are: the busiest of their stages, as a part of its peak.

        One stage that was counted does not tell how busy the others are.
        """
        counted = _part(self.counters.metric(*MEMORY))
        stages = np.stack([self.dram, self.l2, self.l1])
        return np.where(np.isnan(counted), stages.max(axis=0), counted)

    @functools.cached_property
    def memory_at_least(self) -> Array:
        """The same, where only some of the stages were counted: the busiest of those."""
        busiest: Array = np.fmax.reduce([self.memory, self.dram, self.l2, self.l1])
        return busiest

    @functools.cached_property
    def dram(self) -> Array:
        """How busy device memory is, as a part of its peak."""
        return _part(self.counters.metric(*DRAM))

    @functools.cached_property
    def l2(self) -> Array:
        """How busy the L2 cache is, as a part of its peak."""
        return _part(self.counters.metric(*L2))

    @functools.cached_property
    def l1(self) -> Array:
        """How busy the data stages of the L1 cache are: the busiest, as a part of its peak."""
        stages = np.stack([self.counters.metric(name) for name in L1_STAGES])
        any_stage = ~np.isnan(stages).all(axis=0)
        return _part(np.where(any_stage, np.nan_to_num(stages, nan=-1.0).max(axis=0), np.nan))

    @functools.cached_property
    def levels(self) -> Array:
        """Device memory, L2, L1 and load/store, none above the memory throughput that is reported.

        A level's own throughput counts work, too, that is not the kernel's memory accesses.
        Rows are the levels, in this order.
        """
        reported = _part(self.counters.metric(*MEMORY))
        at_most = np.where(np.isnan(reported), 1.0, reported)
        shared = np.fmax(at_most, np.nan_to_num(self.compute))
        return np.stack(
            [
                *(np.minimum(level, at_most) for level in (self.dram, self.l2, self.l1)),
                np.minimum(self.load_store, shared),
            ]
        )

    @functools.cached_property
    def nearest_level(self) -> Array:
        """Which row of ``levels`` the reported memory throughput is: the nearest one.

        Without it, the busiest. -1 where no level was counted.
        """
        own = np.stack([self.dram, self.l2, self.l1, self.load_store])
        reported = _part(self.counters.metric(*MEMORY))
        away = np.where(np.isnan(reported), -np.nan_to_num(own), np.abs(own - reported))
        first = np.where(np.isnan(own), np.inf, away).argmin(axis=0)
        return np.where(np.isnan(own).all(axis=0), -1, first)

    @functools.cached_property
    def active_lanes(self) -> Array:
        """Mean threads of a warp that an instruction is executed for.

        Where it was not counted and blocks fill few of them, what they fill: the most that it can
        be.
        """
        counted = self._lanes(self.counters.metric(*ACTIVE_LANES), "smsp__thread_inst_executed.sum")
        filled = self.filled_lanes
        unfilled = np.where(filled < FEW_LANES, filled, np.nan)
        return np.where(np.isnan(counted), unfilled, np.fmin(counted, filled))

    @functools.cached_property
    def filled_lanes(self) -> Array:
        """Mean threads of a block's warps, of 32, by its size alone."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.block_threads / np.ceil(self.block_threads / THREADS_PER_WARP)

    @functools.cached_property
    def live_lanes(self) -> Array:
        """Mean threads of a warp that an instruction has an effect for: not predicated off."""
        return self._lanes(
            self.counters.metric(*LIVE_LANES), "smsp__thread_inst_executed_pred_on.sum"
        )

    def _lanes(self, ratio: Array, threads: str) -> Array:
        executed = self.counters.metric("smsp__inst_executed.sum")
        with np.errstate(divide="ignore", invalid="ignore"):
            computed = self.counters.metric(threads) / executed
        lanes = np.where(np.isnan(ratio), computed, ratio)
        # A launch that executed nothing has no lanes to speak of.
        return np.where((lanes > 0) & (lanes <= THREADS_PER_WARP + 0.01), lanes, np.nan)

    @functools.cached_property
    def lanes(self) -> Array:
        """The smaller of both: lanes that do something useful, of 32."""
        return np.fmin(self.active_lanes, self.live_lanes)

    @functools.cached_property
    def uniform_pct(self) -> Array:
        """Branches that all threads of a warp take alike, in percent; 0 of 0 is not known."""
        uniform = self.counters.metric(*UNIFORM_PCT)
        divergent = self.counters.metric(*DIVERGENT)
        nothing = (uniform == 0) & ~(divergent > 0)
        return np.where(nothing, np.nan, uniform)

    @functools.cached_property
    def duration_ns(self) -> Array:
        """How long each launch itself ran under the profiler; not-a-number where unknown."""
        counted, profiled = self.counters.metric(*DURATION), self.counters.profiled
        if "duration_ns" in profiled:  # some recordings tell it by cycles and clock alone
            recorded = profiled["duration_ns"].to_numpy().astype(float)
            counted = np.where(np.isnan(counted), recorded, counted)
        return np.where(counted > 0, counted, np.nan)

    @functools.cached_property
    def block_threads(self) -> Array:
        """Threads of a block."""
        axes = [self.counters.profiled[f"block_{a}"].to_numpy().astype(float) for a in "xyz"]
        counted = np.where(np.min(axes, axis=0) > 0, np.prod(axes, axis=0), np.nan)
        return np.where(np.isnan(counted), self.counters.metric("launch__block_size"), counted)

    @functools.cached_property
    def blocks(self) -> Array:
        """Blocks of the grid."""
        axes = [self.counters.profiled[f"grid_{a}"].to_numpy().astype(float) for a in "xyz"]
        counted = np.where(np.min(axes, axis=0) > 0, np.prod(axes, axis=0), np.nan)
        size = self.counters.metric("launch__grid_size")  # in blocks; the axes may be in threads
        return np.where(size > 0, size, counted)

    @functools.cached_property
    def sm_count(self) -> Array:
        """Multiprocessors of the GPU.

        Where that was not collected, what grids and waves of the GPU's launches allow, if it is
        one number alone: waves are printed with two decimals.
        """
        counted = self.counters.metric(*SM_COUNT)
        if not np.isnan(counted).any():
            return counted
        waves = self.counters.metric(*WAVES)
        with np.errstate(divide="ignore", invalid="ignore"):
            least = self.blocks / self.resident_blocks / (waves + ROUNDED_WAVES)
            most = self.blocks / self.resident_blocks / (waves - ROUNDED_WAVES)
        least, most = (np.where(waves > ROUNDED_WAVES, v, np.nan) for v in (least, most))
        profiled = self.counters.profiled
        device = profiled["device"].to_numpy() if "device" in profiled else np.zeros(len(counted))
        for number in np.unique(device):
            here = device == number
            if np.isnan(least[here]).all():
                continue
            low, high = np.ceil(np.nanmax(least[here])), np.floor(np.nanmin(most[here]))
            if low == high:
                counted = np.where(here & np.isnan(counted), low, counted)
        return counted

    @functools.cached_property
    def waves(self) -> Array:
        """How many times the blocks that fit on the GPU at once make up the grid.

        Computed where the page rounded it, or where it was not collected.
        """
        waves = self.counters.metric(*WAVES)
        with np.errstate(divide="ignore", invalid="ignore"):
            computed = self.blocks / (self.sm_count * self.resident_blocks)
        is_close = np.isnan(waves) | (np.abs(computed - waves) <= ROUNDED_WAVES)
        return np.where(np.isfinite(computed) & is_close, computed, waves)

    @functools.cached_property
    def resident_blocks(self) -> Array:
        """Blocks that fit on one multiprocessor at a time."""
        limits = [self.counters.metric(f"launch__occupancy_limit_{name}") for name in LIMITS]
        resident: Array = np.fmin.reduce(limits)
        return resident

    @functools.cached_property
    def blocks_per_sm(self) -> Array:
        """Blocks of the grid for each multiprocessor; from waves where their number is silent.

        Waves may be rounded: then it is the most that they allow.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            counted = self.blocks / self.sm_count
        waves = self.counters.metric(*WAVES)
        is_rounded = np.abs(100 * waves - np.round(100 * waves)) < 1e-9
        at_most = np.where(is_rounded, waves + ROUNDED_WAVES, waves) * self.resident_blocks
        return np.where(np.isnan(counted), at_most, counted)

    @functools.cached_property
    def achieved(self) -> Array:
        """Warps that were resident, as a part of those that a multiprocessor can hold."""
        return _part(self.counters.metric(*ACHIEVED_PCT))

    @functools.cached_property
    def theoretical(self) -> Array:
        """Warps that could be resident, as a part of those that a multiprocessor can hold."""
        warps = np.ceil(self.block_threads / THREADS_PER_WARP)
        most = self.counters.metric("device__attribute_max_warps_per_multiprocessor")
        with np.errstate(divide="ignore", invalid="ignore"):
            computed = np.clip(self.resident_blocks * warps / most, 0, 1)
        counted = _part(self.counters.metric(*THEORETICAL_PCT))
        return np.where(np.isnan(counted), computed, counted)

    @functools.cached_property
    def limiter(self) -> Array:
        """What limits the blocks on a multiprocessor first, in words; all that tie.

        Shared memory limits no kernel that has none, whatever its limit says. Empty when it is not
        known, and when every warp fits.
        """
        limits = [self.counters.metric(f"launch__occupancy_limit_{name}") for name in LIMITS]
        values = np.nan_to_num(np.stack(limits), nan=np.inf)
        values[1] = np.where(self._has_no_shared, np.inf, values[1])
        is_first = (values == values.min(axis=0)) & np.isfinite(values)
        is_first &= ~(self.theoretical >= 1)
        return np.array(
            [enumerated([LIMIT_WORDS[i] for i in np.flatnonzero(c)]) for c in is_first.T]
        )

    @property
    def _has_no_shared(self) -> Array:
        """Tell of each launch whether its blocks use no shared memory of their own."""
        profiled, size = self.counters.profiled, len(self.counters)
        recorded = np.zeros(size)
        for kind in ("static", "dynamic"):
            column = f"{kind}_shared_bytes"
            values = profiled[column].to_numpy() if column in profiled else np.full(size, -1)
            recorded = np.where((recorded < 0) | (values < 0), -1, recorded + values)
        own: Array = recorded == 0
        return own

    @functools.cached_property
    def sectors(self) -> tuple[Array, Array]:
        """32-byte sectors that global accesses move through L2, and those that they need."""
        actual = self.counters.metric(*SECTORS)
        ideal = self.counters.metric(*IDEAL_SECTORS)
        excess = self.counters.metric(*EXCESSIVE_SECTORS)
        ideal = np.where(np.isnan(ideal), actual - excess, ideal)
        return actual, ideal

    @functools.cached_property
    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def wasted_sectors(self) -> Range:
        """The least and largest part of the sectors of global accesses that are in vain.

        Both are equal where the tool counted what each instruction needs; else they come from the
        bytes that a sector is used for, or from sectors per request, whose need depends on how many
        bytes a thread reads.
        """
        actual, ideal = self.sectors
        exact = np.where(actual > 0, 1 - ideal / actual, np.where(actual == 0, 0.0, np.nan))
        counters = self.counters
        sectors = [counters.metric(ACCESS.format("sectors", op)) for op in ("ld", "st")]
        requests = counters.total(*(ACCESS.format("requests", op) for op in ("ld", "st")))
        used = [counters.metric(PER_SECTOR.format(op)) / SECTOR_BYTES for op in ("ld", "st")]
        weights = np.nan_to_num(np.where(np.stack(used) > 0, np.stack(sectors), 0.0))
        mean_used = (np.nan_to_num(np.stack(used)) * weights).sum(axis=0) / weights.sum(axis=0)
        per_request = np.nansum(np.stack(sectors), axis=0) / requests
        near = far = np.where(np.isnan(exact) & (requests == 0), 0.0, exact)  # accesses nothing
        for least, most in (
            (1 - mean_used, 1 - mean_used),
            (1 - FAR_SECTORS / per_request, 1 - NEAR_SECTORS / per_request),
        ):
            unknown = np.isnan(near)
            near, far = np.where(unknown, least, near), np.where(unknown, most, far)
        return np.clip(near, 0, 1), np.clip(far, 0, 1)

    @functools.cached_property
    @np.errstate(divide="ignore", invalid="ignore")
    def atomic_requests(self) -> tuple[Array, Array, Array]:
        """Atomic requests of warps to global memory, their share of all, and sectors of each.

        Where requests were not counted, sectors that L2 was asked for stand for them, which are as
        many if lanes meet; sectors of each are not known then.
        """
        total = self.counters.total
        requests, sectors = (
            total(*(ACCESS.format(of, op) for op in ATOMIC_OPS)) for of in ("requests", "sectors")
        )
        others = total(*(ACCESS.format("requests", op) for op in ("ld", "st")))
        in_l2 = total(*(L2_SECTORS.format(op) for op in ATOMIC_OPS))
        others_in_l2 = total(*(L2_SECTORS.format(op) for op in ("read", "write")))
        unknown = np.isnan(requests)
        requests = np.where(unknown, in_l2, requests)
        others = np.where(unknown, others_in_l2, others)
        of_all = requests / (requests + np.nan_to_num(others))
        each = np.where(unknown, np.nan, sectors / requests)
        return requests, np.where(requests > 0, of_all, 0.0), each

    @functools.cached_property
    @np.errstate(divide="ignore", invalid="ignore")
    def serial_atomics(self) -> Array:
        """The part of a launch that its atomics take at one operation of a thread per clock.

        More than 1 where they cannot all have been at one address.
        """
        counters = self.counters
        lanes = np.nan_to_num(self.lanes, nan=float(THREADS_PER_WARP))
        cycles = counters.metric(*L2_CLOCK) * self.duration_ns / NS_PER_S
        elapsed = np.where(np.isnan(cycles), counters.metric("gpc__cycles_elapsed.max"), cycles)
        share: Array = self.atomic_requests[0] * lanes / elapsed
        return share

    @functools.cached_property
    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def conflict_ratio(self) -> Array:
        """The part of shared-memory wavefronts that only bank conflicts made necessary."""
        counters = self.counters
        conflicts, wavefronts = counters.total(*CONFLICTS), counters.total(*WAVEFRONTS)
        alone = np.isnan(conflicts) | np.isnan(wavefronts)
        conflicts = np.where(alone, counters.metric(ALL_CONFLICTS), conflicts)
        wavefronts = np.where(alone, counters.metric(ALL_WAVEFRONTS), wavefronts)
        ratio = np.where(wavefronts > 0, conflicts / wavefronts, conflicts * 0)
        return np.clip(ratio, 0, 1)

    @functools.cached_property
    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def fp64_ratio(self) -> Array:
        """How many times as fast 32-bit arithmetic is on the GPU of each launch."""
        counters = self.counters
        measured = counters.metric(_PEAK_OPS.format("f")) / counters.metric(_PEAK_OPS.format("d"))
        major, minor = (
            counters.metric(f"device__attribute_compute_capability_{part}")
            for part in ("major", "minor")
        )
        capabilities = zip(
            np.nan_to_num(major).astype(int), np.nan_to_num(minor).astype(int), strict=True
        )
        listed = np.array([float(FP64_RATIO.get(key, FEW_FP64_UNITS)) for key in capabilities])
        ratio = np.where(np.isnan(measured), np.where(np.isnan(major), 2.0, listed), measured)
        return np.maximum(ratio, 1.0)


def _max(values: Array) -> Array:
    """Return the largest of each column; not-a-number where none was counted."""
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    largest: Array = np.fmax.reduce(values)
    return largest


def _first_max(values: Array) -> Array:
    place: Array = np.nan_to_num(values, nan=-1.0).argmax(axis=0)
    return place


def _part(pct: Array) -> Array:
    return np.clip(pct / 100.0, 0.0, 1.0)
