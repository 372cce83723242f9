"""Words for the inside of a launch: metrics of Nsight Compute, levels, and the parts of its time.

Names of metrics are Nsight Compute's (Kernel Profiling Guide); where a metric was renamed or is
collected under several names, the first that a launch has counts.
"""

from __future__ import annotations

import enum

from analyzers.finding import Row

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
_SHARED = "l1tex__data_{}_pipe_lsu_{}mem_shared"
CONFLICTS = tuple(
    f"l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_{op}.sum" for op in ("ld", "st")
)
WAVEFRONTS = tuple(f"l1tex__data_pipe_lsu_wavefronts_mem_shared_op_{op}.sum" for op in ("ld", "st"))
ALL_CONFLICTS = "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"
ALL_WAVEFRONTS = "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"
SHARED_PCT = (
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum.pct_of_peak_sustained_elapsed",
    f"l1tex__data_pipe_lsu_wavefronts_mem_shared{PEAK}",
    f"l1tex__data_pipe_lsu_wavefronts{PEAK}",
)
ACCESS = "l1tex__t_{}_pipe_lsu_mem_global_op_{}.sum"
PER_SECTOR = "smsp__sass_average_data_bytes_per_sector_mem_global_op_{}.ratio"
DRAM_BYTES = ("dram__bytes_read.sum", "dram__bytes_write.sum")
FP64_PIPE = (
    f"sm__pipe_fp64_cycles_active{PEAK}",
    f"sm__pipe_fp64_cycles_active{ACTIVE}",
    f"sm__inst_executed_pipe_fp64{ACTIVE}",
    f"sm__inst_executed_pipe_fp64{PEAK}",
)
FMA_PIPE = (
    f"sm__pipe_fma_cycles_active{PEAK}",
    f"sm__pipe_fma_cycles_active{ACTIVE}",
    f"sm__inst_executed_pipe_fma{ACTIVE}",
    f"sm__inst_executed_pipe_fma{PEAK}",
)
TENSOR_PIPE = (
    f"sm__pipe_tensor_cycles_active{PEAK}",
    f"sm__pipe_tensor_cycles_active{ACTIVE}",
    f"sm__inst_executed_pipe_tensor{ACTIVE}",
    f"sm__pipe_tensor_op_hmma_cycles_active{ACTIVE}",  # before compute capability 8.6
    f"sm__inst_executed_pipe_tensor_op_hmma{ACTIVE}",
)
TENSOR_INSTRUCTIONS = (
    "sm__inst_executed_pipe_tensor.sum",
    "smsp__inst_executed_pipe_tensor.sum",
    "smsp__inst_executed_pipe_tensor.sum.per_cycle_elapsed",
)

# Levels from which something is spoken of.
FEW_LANES = 24.0  # of 32; the level below which Nsight Compute, too, speaks of divergence
AT_ROOF = 0.80  # of the peak; from here on Nsight Compute calls a throughput high
BUSY = 0.60  # of the peak; below it on both sides, Nsight Compute calls a kernel latency-bound
OCCUPANCY_GAP = 0.10  # of all warps, between possible and achieved


class Part(enum.IntEnum):
    """What costs time inside a kernel, in the order in which it is served."""

    IDLE_LANES = 0
    UNCOALESCED = 1
    BANK_CONFLICTS = 2
    DRAM = 3
    L2 = 4
    L1 = 5
    SMALL_GRID = 6
    TAIL = 7
    IMBALANCE = 8
    FP64 = 9
    TENSOR = 10
    OCCUPANCY = 11
    LATENCY = 12


ROW_OF_PART = {
    Part.IDLE_LANES: Row.DIVERGENCE,
    **dict.fromkeys(
        (Part.UNCOALESCED, Part.BANK_CONFLICTS, Part.DRAM, Part.L2, Part.L1), Row.BANDWIDTH
    ),
}
"""The ledger row that a part splits off; the others stay inside the row ``kernel``."""
