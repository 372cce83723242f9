"""What each profiled launch makes of the GPU: how busy which part is, and how it was launched.

Names of metrics are Nsight Compute's (Kernel Profiling Guide); where a metric was renamed or is
collected under several names, the first that a launch has counts.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from analyzers.facts.counters import Counters
from analyzers.intervals import Array

THREADS_PER_WARP = 32

PEAK = ".avg.pct_of_peak_sustained_elapsed"
ACTIVE = ".avg.pct_of_peak_sustained_active"

COMPUTE = (f"sm__throughput{PEAK}", f"sm__instruction_throughput{PEAK}")
MEMORY = (
    f"gpu__compute_memory_throughput{PEAK}",
    f"gpu__compute_memory_access_throughput{PEAK}",
)
DRAM = (f"gpu__dram_throughput{PEAK}", f"dram__throughput{PEAK}")
L2 = (f"lts__throughput{PEAK}",)
# The stages of L1 that move data; taking instructions in is what the multiprocessor does.
L1_STAGES = tuple(
    f"l1tex__{stage}{PEAK}"
    for stage in (
        *("data_pipe_lsu_wavefronts", "data_bank_reads", "data_bank_writes"),
        *("m_xbar2l1tex_read_sectors", "m_l1tex2xbar_req_cycles_active"),
    )
)

ACTIVE_LANES = ("smsp__thread_inst_executed_per_inst_executed.ratio",)
LIVE_LANES = ("smsp__thread_inst_executed_pred_on_per_inst_executed.ratio",)
UNIFORM_PCT = ("smsp__sass_average_branch_targets_threads_uniform.pct",)
DIVERGENT = ("smsp__sass_branch_targets_threads_divergent.avg",)

SECTORS = ("memory_l2_theoretical_sectors_global",)
IDEAL_SECTORS = ("memory_l2_theoretical_sectors_global_ideal",)
EXCESSIVE_SECTORS = ("derived__memory_l2_theoretical_sectors_global_excessive",)

ACHIEVED_PCT = (f"sm__warps_active{ACTIVE}",)
THEORETICAL_PCT = ("sm__maximum_warps_per_active_cycle_pct",)
WAVES = ("launch__waves_per_multiprocessor",)
SM_COUNT = ("launch__sm_count", "device__attribute_multiprocessor_count")

LIMITS = ("registers", "shared_mem", "blocks", "warps", "barriers")


@dataclass(frozen=True, eq=False)
class Limits:
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
        told = _part(self.counters.metric(*MEMORY))
        stages = np.stack([self.dram, self.l2, self.l1])
        return np.where(np.isnan(told), stages.max(axis=0), told)

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
        known = ~np.isnan(stages).all(axis=0)
        return _part(np.where(known, np.nan_to_num(stages, nan=-1.0).max(axis=0), np.nan))

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
        told = np.where(np.min(axes, axis=0) > 0, np.prod(axes, axis=0), np.nan)
        return np.where(np.isnan(told), self.counters.metric("launch__block_size"), told)

    @functools.cached_property
    def blocks(self) -> Array:
        """Blocks of the grid."""
        axes = [self.counters.profiled[f"grid_{a}"].to_numpy().astype(float) for a in "xyz"]
        told = np.where(np.min(axes, axis=0) > 0, np.prod(axes, axis=0), np.nan)
        return np.where(np.isnan(told), self.counters.metric("launch__grid_size"), told)

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
            told = self.blocks / self.sm_count
        limits = [self.counters.metric(f"launch__occupancy_limit_{name}") for name in LIMITS]
        resident = np.fmin.reduce(limits)
        return np.where(np.isnan(told), self.waves * resident, told)

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
        known = ~np.isnan(values).all(axis=0)
        first = np.nan_to_num(values, nan=np.inf).argmin(axis=0)
        return np.where(known & ~(self.theoretical >= 1), words[first], "")

    @functools.cached_property
    def sectors(self) -> tuple[Array, Array]:
        """32-byte sectors that global accesses move through L2, and those that they need."""
        actual = self.counters.metric(*SECTORS)
        ideal = self.counters.metric(*IDEAL_SECTORS)
        excess = self.counters.metric(*EXCESSIVE_SECTORS)
        ideal = np.where(np.isnan(ideal), actual - excess, ideal)
        return actual, ideal


def _part(pct: Array) -> Array:
    return np.clip(pct / 100.0, 0.0, 1.0)
