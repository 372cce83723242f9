"""Counters of the kernels of two synthetic programs, as Nsight Compute would have counted them.

Nothing here ran on a GPU: each kernel is ``GOOD`` but for what its program is about. Names and
launch configurations are those of the timelines in ``programs.py``, so that both can be read
together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from traces.machine import Kernel
from traces.ncu_writer import Launch, Value, write_report
from traces.nsys_writer import SYNTHETIC_H100
from traces.programs import DIVERGENT, STREAMING

_NUMBER = re.compile(r"([<,] ?)(\d+)(?=[,>])")  # ncu writes the type before a number
LAUNCHES = 3  # of each kernel, as the command that whyslow prints would profile
PEAK = ".avg.pct_of_peak_sustained_elapsed"

# A kernel that is bound by compute and has no trouble. Percent, ratios and counts are made up.
GOOD: dict[str, Value] = {
    f"sm__throughput{PEAK}": 90.0,
    f"gpu__compute_memory_throughput{PEAK}": 30.0,
    f"gpu__dram_throughput{PEAK}": 20.0,
    f"lts__throughput{PEAK}": 30.0,
    f"l1tex__data_pipe_lsu_wavefronts{PEAK}": 25.0,
    f"l1tex__lsuin_requests{PEAK}": 20.0,
    f"sm__inst_executed_pipe_lsu{PEAK}": 20.0,
    "l1tex__t_requests_pipe_lsu_mem_global_op_atom.sum": 0.0,
    "l1tex__t_requests_pipe_lsu_mem_global_op_red.sum": 0.0,
    "smsp__thread_inst_executed_per_inst_executed.ratio": 32.0,
    "smsp__thread_inst_executed_pred_on_per_inst_executed.ratio": 31.5,
    "smsp__sass_average_branch_targets_threads_uniform.pct": 100.0,
    "memory_l2_theoretical_sectors_global": 1_000,
    "memory_l2_theoretical_sectors_global_ideal": 1_000,
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum": 0.0,
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum": 0.0,
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum": 800.0,
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum": 200.0,
    "launch__waves_per_multiprocessor": 20.0,
    "launch__occupancy_limit_registers": 4.0,
    "launch__occupancy_limit_shared_mem": 6.0,
    "launch__occupancy_limit_blocks": 32.0,
    "launch__occupancy_limit_warps": 8.0,
    "sm__warps_active.avg.pct_of_peak_sustained_active": 48.0,
    "sm__maximum_warps_per_active_cycle_pct": 50.0,
    "sm__cycles_active.avg": 990_000.0,
    "sm__cycles_active.max": 1_000_000.0,
    "sm__cycles_elapsed.max": 1_000_000.0,
    f"sm__pipe_fp64_cycles_active{PEAK}": 0.0,
    f"sm__pipe_fma_cycles_active{PEAK}": 70.0,
    f"sm__pipe_tensor_cycles_active{PEAK}": 0.0,
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum": 600.0,
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum": 400.0,
    "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum": 0.0,
    "smsp__average_warp_latency_per_inst_issued.ratio": 10.0,
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": 2.0,
    "smsp__average_warps_issue_stalled_selected_per_issue_active.ratio": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A kernel that was profiled, and what is odd about it."""

    kernel: Kernel
    changes: Mapping[str, Value]
    shows: str


COUNTED = {
    "divergence": Counted(
        kernel=DIVERGENT,
        changes={
            "smsp__thread_inst_executed_per_inst_executed.ratio": 11.0,
            "smsp__thread_inst_executed_pred_on_per_inst_executed.ratio": 10.4,
            "smsp__sass_average_branch_targets_threads_uniform.pct": 61.0,
            f"sm__throughput{PEAK}": 72.0,
        },
        shows="counters of the kernel of `synthetic_divergence`: 10 of 32 lanes do anything",
    ),
    "uncoalesced": Counted(
        kernel=STREAMING,
        changes={
            f"sm__throughput{PEAK}": 12.0,
            f"gpu__compute_memory_throughput{PEAK}": 91.0,
            f"gpu__dram_throughput{PEAK}": 91.0,
            f"lts__throughput{PEAK}": 55.0,
            "memory_l2_theoretical_sectors_global_ideal": 250,
            "dram__bytes_read.sum": 21_000.0,
            "dram__bytes_write.sum": 11_000.0,
        },
        shows="counters of the kernel of `synthetic_dram`: three of four sectors are not used",
    ),
}


def write(name: str, folder: Path) -> Path:
    """Write the counters of program ``name`` into ``folder``."""
    counted = COUNTED[name]
    kernel = counted.kernel
    gpu: dict[str, Value] = {
        "device__attribute_display_name": SYNTHETIC_H100.name,
        "device__attribute_multiprocessor_count": SYNTHETIC_H100.sm_count,
        "device__attribute_compute_capability_major": SYNTHETIC_H100.compute[0],
        "device__attribute_compute_capability_minor": SYNTHETIC_H100.compute[1],
        "launch__registers_per_thread": kernel.registers,
    }
    launches = [
        Launch(
            name=_NUMBER.sub(r"\1(int)\2", kernel.name),
            grid=(kernel.blocks, 1, 1),
            block=(kernel.threads, 1, 1),
            metrics=GOOD
            | gpu
            | {"gpu__time_duration.sum": float(kernel.duration_ns)}
            | dict(counted.changes),
        )
        for _ in range(LAUNCHES)
    ]
    return write_report(folder / f"synthetic_counters_{name}.ncu-rep", launches)
