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
    COMPUTE,
    CONFLICTS,
    DIVERGENT,
    DRAM,
    EXCESSIVE_SECTORS,
    IDEAL_SECTORS,
    L1_STAGES,
    L2,
    LIVE_LANES,
    MEMORY,
    PER_SECTOR,
    SECTORS,
    SM_COUNT,
    THEORETICAL_PCT,
    THREADS_PER_WARP,
    UNIFORM_PCT,
    WAVEFRONTS,
    WAVES,
)

LIMITS = ("registers", "shared_mem", "blocks", "warps", "barriers")

NEAR_SECTORS, FAR_SECTORS = 4.0, 16.0  # that a warp needs, when each thread reads 4 or 16 bytes
# Results per clock and multiprocessor, 32-bit over 64-bit (CUDA C++ Programming Guide, "Throughput
# of Native Arithmetic Instructions"); 64 where the GPU has only a few 64-bit units.
FP64_RATIO = {(6, 0): 2, (7, 0): 2, (8, 0): 2, (9, 0): 2, (10, 0): 2, (7, 5): 32, (6, 1): 32}
FEW_FP64_UNITS = 64
SECTOR_BYTES = 32.0
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
    def active_lanes(self) -> Array:
        """Mean threads of a warp that an instruction is executed for."""
        return self._lanes(self.counters.metric(*ACTIVE_LANES), "smsp__thread_inst_executed.sum")

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
        return np.where(np.isnan(counted), self.counters.metric("launch__grid_size"), counted)

    @functools.cached_property
    def sm_count(self) -> Array:
        """Multiprocessors of the GPU."""
        return self.counters.metric(*SM_COUNT)

    @functools.cached_property
    def waves(self) -> Array:
        """How many times the blocks that fit on the GPU at once make up the grid."""
        return self.counters.metric(*WAVES)

    @functools.cached_property
    def blocks_per_sm(self) -> Array:
        """Blocks of the grid for each multiprocessor; from waves where their number is silent."""
        with np.errstate(divide="ignore", invalid="ignore"):
            counted = self.blocks / self.sm_count
        limits = [self.counters.metric(f"launch__occupancy_limit_{name}") for name in LIMITS]
        resident = np.fmin.reduce(limits)
        return np.where(np.isnan(counted), self.waves * resident, counted)

    @functools.cached_property
    def achieved(self) -> Array:
        """Warps that were resident, as a part of those that a multiprocessor can hold."""
        return _part(self.counters.metric(*ACHIEVED_PCT))

    @functools.cached_property
    def theoretical(self) -> Array:
        """Warps that could be resident, as a part of those that a multiprocessor can hold."""
        return _part(self.counters.metric(*THEORETICAL_PCT))

    @functools.cached_property
    def limiter(self) -> Array:
        """What limits the blocks on a multiprocessor first, in words.

        Empty when it is not known, and when every warp fits.
        """
        limits = [self.counters.metric(f"launch__occupancy_limit_{name}") for name in LIMITS]
        values = np.stack(limits)
        words = np.array(["registers", "shared memory", "blocks", "block size", "barriers"], object)
        any_limit = ~np.isnan(values).all(axis=0)
        first = np.nan_to_num(values, nan=np.inf).argmin(axis=0)
        return np.where(any_limit & ~(self.theoretical >= 1), words[first], "")

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


def _part(pct: Array) -> Array:
    return np.clip(pct / 100.0, 0.0, 1.0)
