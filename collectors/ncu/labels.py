"""Which metric a line of ``ncu --page details`` shows: the page has labels instead of names.

Collected from the sections that reports of ncu 2023.1 and 2025.3 carry with them, and those of
2022.3; the labels of 2020 and 2021 are those of the tool's documentation. A label that two
versions use for two metrics ("SM Busy", "Issue Slots Busy") is not here: the page does not tell
which of them it shows.
"""

from __future__ import annotations

_PER_SM = ".avg.pct_of_peak_sustained_active"
_PEAK = ".avg.pct_of_peak_sustained_elapsed"
_OPS = "smsp__sass_thread_inst_executed_op_"
_MAX_OPS = "sm__sass_thread_inst_executed_op_"

_SPEED_OF_LIGHT = {
    "Compute (SM) Throughput": f"sm__throughput{_PEAK}",
    "Compute (SM) [%]": f"sm__throughput{_PEAK}",
    "SM [%]": f"sm__throughput{_PEAK}",
    "SOL SM": f"sm__throughput{_PEAK}",
    "Memory Throughput": f"gpu__compute_memory_throughput{_PEAK}",
    "Memory [%]": f"gpu__compute_memory_throughput{_PEAK}",
    "SOL Memory": f"gpu__compute_memory_throughput{_PEAK}",
    "DRAM Throughput": f"gpu__dram_throughput{_PEAK}",
    "SOL DRAM": f"gpu__dram_throughput{_PEAK}",
    "SOL FB": f"gpu__dram_throughput{_PEAK}",
    "L1/TEX Cache Throughput": f"l1tex__throughput{_PER_SM}",
    "SOL L1/TEX Cache": f"l1tex__throughput{_PER_SM}",
    "SOL TEX": f"l1tex__throughput{_PER_SM}",
    "L2 Cache Throughput": f"lts__throughput{_PEAK}",
    "SOL L2 Cache": f"lts__throughput{_PEAK}",
    "SOL L2": f"lts__throughput{_PEAK}",
    "DRAM Frequency": "dram__cycles_elapsed.avg.per_second",
    "Memory Frequency": "dram__cycles_elapsed.avg.per_second",
    "SM Frequency": "gpc__cycles_elapsed.avg.per_second",
    "Duration": "gpu__time_duration.sum",
    "Elapsed Cycles": "gpc__cycles_elapsed.max",
    "SM Active Cycles": "sm__cycles_active.avg",
}
_MEMORY = {
    "Memory Throughput": "dram__bytes.sum.per_second",
    "Mem Busy": f"gpu__compute_memory_access_throughput{_PEAK}",
    "Max Bandwidth": f"gpu__compute_memory_request_throughput{_PEAK}",
    "Mem Pipes Busy": f"sm__memory_throughput{_PEAK}",
    "L1/TEX Hit Rate": "l1tex__t_sector_hit_rate.pct",
    "L2 Hit Rate": "lts__t_sector_hit_rate.pct",
    "L2 Compression Ratio": "lts__average_gcomp_output_sector_compression_achieved_rate.ratio",
    "L2 Compression Success Rate": "lts__average_gcomp_input_sector_success_rate.pct",
    "L2 Compression Input Sectors": "lts__gcomp_input_sectors.sum",
    "L2 Persisting Size": "launch__persisting_l2_cache_size",
    "Local Memory Spilling Requests": "derived__local_spilling_requests",
    "Local Memory Spilling Request Overhead": "derived__local_spilling_requests_pct",
}
_COMPUTE = {
    "Executed Ipc Active": "sm__inst_executed.avg.per_cycle_active",
    "Executed Ipc Elapsed": "sm__inst_executed.avg.per_cycle_elapsed",
    "Issued Ipc Active": "sm__inst_issued.avg.per_cycle_active",
}
_SCHEDULER = {
    "Active Warps Per Scheduler": "smsp__warps_active.avg.per_cycle_active",
    "Eligible Warps Per Scheduler": "smsp__warps_eligible.avg.per_cycle_active",
    "Issued Warp Per Scheduler": "smsp__issue_active.avg.per_cycle_active",
    "No Eligible": f"smsp__issue_inst0{_PER_SM}",
    "One or More Eligible": f"smsp__issue_active{_PER_SM}",
}
_WARPS = {
    "Avg. Active Threads Per Warp": "smsp__thread_inst_executed_per_inst_executed.ratio",
    "Avg. Not Predicated Off Threads Per Warp": (
        "smsp__thread_inst_executed_pred_on_per_inst_executed.ratio"
    ),
    "Warp Cycles Per Executed Instruction": "smsp__average_warps_active_per_inst_executed.ratio",
    "Warp Cycles Per Issued Instruction": "smsp__average_warp_latency_per_inst_issued.ratio",
}
_INSTRUCTIONS = {
    "Executed Instructions": "smsp__inst_executed.sum",
    "Issued Instructions": "smsp__inst_issued.sum",
    "Avg. Executed Instructions Per Scheduler": "smsp__inst_executed.avg",
    "Avg. Issued Instructions Per Scheduler": "smsp__inst_issued.avg",
}
_LAUNCH = {
    "# SMs": "launch__sm_count",
    "# TPCs": "launch__tpc_count",
    "Block Size": "launch__block_size",
    "Cluster Scheduling Policy": "launch__cluster_scheduling_policy",
    "Cluster Size": "launch__cluster_size",
    "Driver Shared Memory Per Block": "launch__shared_mem_per_block_driver",
    "Dynamic Shared Memory Per Block": "launch__shared_mem_per_block_dynamic",
    "Function Cache Configuration": "launch__func_cache_config",
    "Grid Size": "launch__grid_size",
    "Preferred Cluster Size": "launch__preferred_cluster_size",
    "Registers Per Thread": "launch__registers_per_thread",
    "Shared Memory Configuration Size": "launch__shared_mem_config_size",
    "Stack Size": "launch__stack_size",
    "Static Shared Memory Per Block": "launch__shared_mem_per_block_static",
    "Threads": "launch__thread_count",
    "Uses Green Context": "launch__uses_green_context",
    "Waves Per SM": "launch__waves_per_multiprocessor",
}
_OCCUPANCY = {
    "Achieved Active Warps Per SM": "sm__warps_active.avg.per_cycle_active",
    "Achieved Occupancy": f"sm__warps_active{_PER_SM}",
    "Block Limit Barriers": "launch__occupancy_limit_barriers",
    "Block Limit Registers": "launch__occupancy_limit_registers",
    "Block Limit SM": "launch__occupancy_limit_blocks",
    "Block Limit Shared Mem": "launch__occupancy_limit_shared_mem",
    "Block Limit Warps": "launch__occupancy_limit_warps",
    "Cluster Occupancy": "launch__occupancy_cluster_pct",
    "Max Active Clusters": "launch__cluster_max_active",
    "Max Cluster Size": "launch__cluster_max_potential_size",
    "Overall GPU Occupancy": "launch__occupancy_cluster_gpu_pct",
    "Theoretical Active Warps per SM": "sm__maximum_warps_avg_per_active_cycle",
    "Theoretical Occupancy": "sm__maximum_warps_per_active_cycle_pct",
}
_SOURCE = {
    "Avg. Divergent Branches": "smsp__sass_branch_targets_threads_divergent.avg",
    "Branch Efficiency": "smsp__sass_average_branch_targets_threads_uniform.pct",
    "Branch Instructions": "smsp__inst_executed_op_branch.sum",
    "Branch Instructions Ratio": "derived__smsp__inst_executed_op_branch_pct",
}
_UNITS = {"DRAM": "dram", "L1": "l1tex", "L2": "lts", "SM": "sm", "SMSP": "smsp"}
_DISTRIBUTION = {
    **{f"Average {u} Active Cycles": f"{name}__cycles_active.avg" for u, name in _UNITS.items()},
    **{f"Total {u} Elapsed Cycles": f"{name}__cycles_elapsed.sum" for u, name in _UNITS.items()},
}
_ROOFLINE = {
    "SM Frequency": "sm__cycles_elapsed.avg.per_second",
    "DRAM Frequency": "dram__cycles_elapsed.avg.per_second",
    "DRAM Bandwidth": "dram__bytes.sum.per_second",
    "Theoretical DRAM Bytes Accessible": "dram__bytes.sum.peak_sustained",
    **{
        f"Theoretical Predicated-On {op} Thread Instructions Executed": (
            f"{_MAX_OPS}{op.lower()}_pred_on.sum.peak_sustained"
        )
        for op in ("FFMA", "DFMA", "HFMA")
    },
    **{
        f"Predicated-On {op} Thread Instructions Executed Per Cycle": (
            f"{_OPS}{op.lower()}_pred_on.sum.per_cycle_elapsed"
        )
        for op in ("FADD", "FMUL", "FFMA", "DADD", "DMUL", "DFMA", "HADD", "HMUL", "HFMA")
    },
    **{
        f"Theoretical Predicated-On {op} Operations": f"derived__{_MAX_OPS}{op.lower()}_pred_on_x2"
        for op in ("FFMA", "DFMA")
    },
    **{
        f"Predicated-On {op} Operations Per Cycle": f"derived__{_OPS}{op.lower()}_pred_on_x2"
        for op in ("FFMA", "DFMA")
    },
}

_OWN_NAMES = "Command line profiler metrics"
_SECTIONS = {  # by a part of the section's title, which is shorter in older versions
    "Roofline": _ROOFLINE,
    "Speed Of Light": _SPEED_OF_LIGHT,
    "Memory Workload Analysis": _MEMORY,
    "Compute Workload Analysis": _COMPUTE,
    "Scheduler": _SCHEDULER,
    "Warp State": _WARPS,
    "Instruction Statistics": _INSTRUCTIONS,
    "Launch Statistics": _LAUNCH,
    "Occupancy": _OCCUPANCY,
    "Source Counters": _SOURCE,
    "Workload Distribution": _DISTRIBUTION,
}


def metric_of(section: str, label: str) -> str:
    """Return the metric that a label shows in a section, empty when that is not known.

    What was asked for with ``--metrics`` stands there under its own name.
    """
    if section == _OWN_NAMES or "__" in label or "." in label.strip(". ")[3:]:
        return label
    table = next((t for title, t in _SECTIONS.items() if title in section), {})
    return table.get(label, "")
