"""Profiled launches whose trouble is known, written as a report of Nsight Compute would be.

Each scenario changes a few counters of ``good``, a kernel that is bound by compute and has no
trouble: what is named is then what was changed.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from traces import counter_programs
from traces.counter_programs import PEAK
from traces.ncu_writer import Launch, Value, write_report

DURATION_NS = 1_000_000
SMS = 100  # multiprocessors of the GPU, so that shares can be reckoned in the head

GOOD: dict[str, Value] = counter_programs.GOOD | {
    "gpu__time_duration.sum": float(DURATION_NS),
    "launch__sm_count": SMS,
    "device__attribute_display_name": "SYNTHETIC (no GPU ran)",
    "device__attribute_multiprocessor_count": SMS,
    "device__attribute_compute_capability_major": 9,
    "device__attribute_compute_capability_minor": 0,
}


def launch(
    name: str = "good(float *)",
    *,
    without: tuple[str, ...] = (),
    grid: tuple[int, int, int] = (8_000, 1, 1),
    block: tuple[int, int, int] = (256, 1, 1),
    **changes: float,
) -> Launch:
    """Return a launch that is good but for ``changes``, by the short names of ``SHORT``."""
    metrics = GOOD | {SHORT[key]: value for key, value in changes.items()}
    kept = {n: v for n, v in metrics.items() if n not in without}
    return Launch(name=name, grid=grid, block=block, metrics=kept)


SHORT = {
    "duration": "gpu__time_duration.sum",
    "compute": f"sm__throughput{PEAK}",
    "memory": f"gpu__compute_memory_throughput{PEAK}",
    "dram": f"gpu__dram_throughput{PEAK}",
    "l2": f"lts__throughput{PEAK}",
    "l1": f"l1tex__data_pipe_lsu_wavefronts{PEAK}",
    "active": "smsp__thread_inst_executed_per_inst_executed.ratio",
    "live": "smsp__thread_inst_executed_pred_on_per_inst_executed.ratio",
    "uniform": "smsp__sass_average_branch_targets_threads_uniform.pct",
    "ideal_sectors": "memory_l2_theoretical_sectors_global_ideal",
    "conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "waves": "launch__waves_per_multiprocessor",
    "achieved": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "possible": "sm__maximum_warps_per_active_cycle_pct",
    "mean_cycles": "sm__cycles_active.avg",
    "fp64": f"sm__pipe_fp64_cycles_active{PEAK}",
    "fma": f"sm__pipe_fma_cycles_active{PEAK}",
    "fused": "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum",
    "added": "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum",
    "loads": f"sm__inst_executed_pipe_lsu{PEAK}",
    "loads_l1": f"l1tex__lsuin_requests{PEAK}",
    "issue": f"sm__issue_active{PEAK}",
    "l1_cache": "l1tex__throughput.avg.pct_of_peak_sustained_active",
    "load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "atomic_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_red.sum",
    "atomic_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_red.sum",
    "l2_clock": "lts__cycles_elapsed.avg.per_second",
    "atomic_unit": "lts__d_atomic_input_cycles_active.max.pct_of_peak_sustained_elapsed",
    "stalled": "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio",
}


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="whyslow-counters-")


def written(name: str, *launches: Launch) -> Path:
    """Return a report of these launches."""
    return write_report(Path(_folder().name) / f"{name}.ncu-rep", launches)


def good() -> Path:
    """Two kernels without trouble."""
    return written("good", launch(), launch("other(int)"))


def idle_lanes() -> Path:
    """Half of the lanes idle, because branches part them; bound by compute."""
    march = launch("void march_rays<float>(float *)", active=16, live=15.5, uniform=60)
    return written("idle_lanes", launch(), march)


def predicated() -> Path:
    """All lanes active, half of them predicated off."""
    return written("predicated", launch("masked(float *)", active=31, live=16))


def partial_warps() -> Path:
    """Blocks of 16 threads."""
    narrow = launch("narrow(float *)", active=16, live=15.8, uniform=100, block=(16, 1, 1))
    return written("partial_warps", narrow)


def early_exit() -> Path:
    """Few lanes, although branches are uniform and blocks full."""
    return written("early_exit", launch("sparse(float *)", active=10, live=10, uniform=99.9))


def idle_lanes_behind_memory() -> Path:
    """Half of the lanes idle in a kernel that device memory holds up."""
    bound = launch("gather(float *)", active=16, live=16, compute=10, memory=92, dram=92)
    return written("idle_lanes_behind_memory", bound)


def uncoalesced() -> Path:
    """Three quarters of the sectors are moved in vain, in a kernel bound by memory."""
    strided = launch("strided(float *)", compute=15, memory=70, l2=70, ideal_sectors=250)
    return written("uncoalesced", strided)


def bank_conflicts() -> Path:
    """Half of the wavefronts of shared memory are conflicts, and it is busy."""
    column = launch("transpose(float *)", compute=30, memory=75, l1=75, conflicts=500)
    return written("bank_conflicts", column)


def dram_bound() -> Path:
    """Device memory at its limit, each byte moved once."""
    return written("dram_bound", launch("add(float *)", compute=20, memory=92, dram=92, l2=40))


def l2_bound() -> Path:
    """The L2 cache at its limit."""
    return written("l2_bound", launch("stencil(float *)", compute=30, memory=88, l2=88))


def l1_bound() -> Path:
    """A data stage of L1 at its limit."""
    return written("l1_bound", launch("naive_gemm(float *)", compute=12, memory=97, l1=97))


def load_store_bound() -> Path:
    """A naive matrix product: the load/store pipe at 83 %, multiply-adds at 21 %."""
    loads = {
        "compute": 83,
        "memory": 83,
        "loads": 83,
        "loads_l1": 83,
        "l1": 42,
        "l2": 12,
    }
    return written("load_store_bound", launch("matmul(float *)", fma=21, issue=24, dram=3, **loads))


def atomics_on_one_address() -> Path:
    """Each of a million threads adds to one counter: 31,250 warps, a whole millisecond at 1 GHz."""
    waits = {"compute": 4, "memory": 9, "l2": 9, "l1": 2, "dram": 5, "stalled": 9.5, "fma": 1}
    requests = {"load_requests": 31_250, "store_requests": 0, "atomic_requests": 31_250}
    counted = {"atomic_sectors": 31_250, "l2_clock": 1e9}
    return written("atomics_one", launch("count(int *)", **waits, **requests, **counted))


def blocks_of_one_thread() -> Path:
    """One thread a block, and nobody counted lanes."""
    lanes = (SHORT["active"], SHORT["live"], SHORT["uniform"])
    block = launch("one(float *)", block=(1, 1, 1), without=lanes, compute=25, memory=62, l2=62)
    return written("blocks_of_one_thread", block)


def few_blocks() -> Path:
    """25 blocks on 100 multiprocessors."""
    small = launch("reduce(float *)", grid=(25, 1, 1), compute=20, memory=10, waves=0.05)
    return written("few_blocks", small)


def tail() -> Path:
    """Two and a quarter waves."""
    waves = launch("tiles(float *)", waves=2.25, achieved=36, compute=65, memory=40)
    return written("tail", waves)


def imbalance() -> Path:
    """The mean multiprocessor is busy for 60 % of the time of the busiest one."""
    uneven = launch("rows(float *)", mean_cycles=600_000, compute=65, memory=40)
    return written("imbalance", uneven)


def achieved_occupancy() -> Path:
    """A fifth of the warps where half would fit."""
    few = launch("uneven(float *)", achieved=20, possible=50, compute=65, memory=40)
    return written("achieved_occupancy", few)


def latency_bound() -> Path:
    """Neither side busy; warps wait for loads 80 % of the time."""
    return written("latency_bound", launch("chase(int *)", compute=20, memory=30, stalled=8))


def fp64() -> Path:
    """The 64-bit pipe at 90 %, on a GPU that has few of these units."""
    metrics = dict(
        launch("double_step(double *)", memory=5, dram=2, l2=5, l1=5, fp64=90, fma=5).metrics
    )
    metrics["device__attribute_compute_capability_minor"] = 6
    metrics["device__attribute_compute_capability_major"] = 8
    return written("fp64", Launch(name="double_step(double *)", metrics=metrics))


def idle_tensor_cores() -> Path:
    """A matrix product of fused multiply-adds on the ordinary units."""
    return written("idle_tensor_cores", launch("sgemm_128(float *)", fused=1_000, added=0, fma=88))
