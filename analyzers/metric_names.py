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
L1 = (f"l1tex__throughput{ACTIVE}",)
# The stages of L1 that move data; taking instructions in is what the multiprocessor does.
L1_STAGES = tuple(
    f"l1tex__{stage}{PEAK}"
    for stage in (
        *("data_pipe_lsu_wavefronts", "data_bank_reads", "data_bank_writes"),
        *("m_xbar2l1tex_read_sectors", "m_l1tex2xbar_req_cycles_active"),
    )
)
# What the throughput of the multiprocessors is made of (``breakdown:sm__throughput``), by what
# follows ``sm__`` and stands before the end of the name, and what a reader calls it.
PIPE_WORDS = {
    **dict.fromkeys(("inst_executed", "issue_active", "inst_issued"), "instruction issue"),
    **dict.fromkeys(("pipe_alu", "inst_executed_pipe_alu"), "integer and logic pipe (ALU)"),
    **dict.fromkeys(("pipe_fma", "pipe_fmaheavy", "inst_executed_pipe_fma"), "FMA pipe"),
    **dict.fromkeys(("pipe_fp64", "inst_executed_pipe_fp64", "pipe_shared"), "64-bit pipe"),
    **dict.fromkeys(("inst_executed_pipe_fp16", "pipe_fma_type_fp16"), "16-bit pipe"),
    **dict.fromkeys(("pipe_tensor", "inst_executed_pipe_tensor"), "tensor pipe"),
    **dict.fromkeys(
        ("inst_executed_pipe_xu", "pipe_xu"), "special-function and conversion pipe (XU)"
    ),
    "inst_executed_pipe_uniform": "uniform pipe",
    "inst_executed_pipe_adu": "address-divergence unit (ADU)",
    "inst_executed_pipe_cbu": "control-flow unit (CBU)",
    "inst_executed_pipe_cbu_pred_on_any": "control-flow unit (CBU)",
}
LOAD_STORE_WORDS = {
    "inst_executed_pipe_lsu": "load/store pipe (LSU)",
    "inst_executed_pipe_tex": "texture pipe",
    **dict.fromkeys(
        ("mio_inst_issued", "mio2rf_writeback_active", "mio_pq_read", "mio_pq_write"),
        "memory-instruction queue (MIO)",
    ),
}
# The same pipe, seen from L1: it takes an instruction in, and writes what it loaded back.
LOAD_STORE_STAGES = tuple(
    f"l1tex__{stage}{PEAK}"
    for stage in ("lsuin_requests", "lsu_writeback_active", "tex_writeback_active")
)
SCHEDULERS = 4  # of a multiprocessor, each of which issues an instruction per cycle
ISSUED_PER_CYCLE = (
    "sm__inst_issued.avg.per_cycle_elapsed",
    "sm__inst_executed.avg.per_cycle_elapsed",
)
ISSUE_PCT = (f"smsp__issue_active{ACTIVE}",)
ATOMIC_OPS = ("atom", "red")
L2_SECTORS = "lts__t_sectors_op_{}.sum"
ATOMIC_UNIT_MAX = "lts__d_atomic_input_cycles_active.max.pct_of_peak_sustained_elapsed"
L2_CLOCK = ("lts__cycles_elapsed.avg.per_second",)
DURATION = ("gpu__time_duration.sum", "gpu__time_duration.avg")
_STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
MEMORY_STALLS = tuple(
    _STALL.format(reason)
    for reason in ("long_scoreboard", "lg_throttle", "drain", "membar", "mio_throttle")
)
WARP_LATENCY = ("smsp__average_warp_latency_per_inst_issued.ratio",)
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

SHORTEST_KERNEL_NS = 2_000  # a kernel takes about this long however little it does
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
    LOAD_STORE = 6
    ATOMICS = 7
    SMALL_GRID = 8
    TAIL = 9
    IMBALANCE = 10
    FP64 = 11
    TENSOR = 12
    OCCUPANCY = 13
    LATENCY = 14


ROW_OF_PART = {
    Part.IDLE_LANES: Row.DIVERGENCE,
    **dict.fromkeys(
        (Part.UNCOALESCED, Part.BANK_CONFLICTS, Part.DRAM, Part.L2, Part.L1), Row.BANDWIDTH
    ),
    **dict.fromkeys((Part.LOAD_STORE, Part.ATOMICS), Row.BANDWIDTH),
}
"""The ledger row that a part splits off; the others stay inside the row ``kernel``."""
