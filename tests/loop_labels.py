"""What an expert sees of repetition in each recording that is here, one reason a line.

A name is a part of the file's. ``LOOPS``, ``NO_LOOPS`` and ``SAMPLES`` are about what is launched,
without the program's marks; ``HOST`` about recordings in which nothing ran on a GPU.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
FOLDERS = ("nsys_sqlite", "torch_trace", "pairs", "nsys_cpu", "ncu_rep", "ncu_csv", "fleet/dlrm")

# Iterations, launches in one.
LOOPS = {
    "h100_2gpu_1s": (24, 78, "blocks of a transformer, each with copies of its weights"),
    "healthy_1pct": (200, 2, "two kernels in turn, by the generator"),
    "healthy_judged_1pct": (10, 2, "two kernels in turn, by the generator"),
    "perlmutter-cloverleaf": (10, 150, "steps of the hydrodynamics, whose sweeps alternate"),
    "saxpy-mpi-cuda": (5, 4, "five times three copies and the kernel"),
    "df_index_resolver": (5, 4458, "ProfilerStep, 5"),
    "nccl_data": (3, 1258, "ProfilerStep, 3"),
    "ns_resolution": (5, 1219, "ProfilerStep, 5"),
    "Falconsai": (12, 12, "layers of ViT-Base"),
    "Qwen1.5": (34, 49, "layers: 24 of one pass and 10 of the one before"),
    "bert-small": (4, 12, "layers, 4"),
    "sglang_Qwen3-8B": (36, 15, "layers of Qwen3-8B"),
    "vllm_decode_full": (24, 17, "layers of the decoder, one attention each"),
    "resnet_act_checkpoint": (3, 895, "ProfilerStep, 3"),
    "num_workers_0": (6, 1516, "ProfilerStep, 6"),
    "num_workers_4": (6, 1543, "ProfilerStep, 6"),
}
NO_LOOPS = {
    "critical_path__alexnet": "one pass forward and backward",
    "simple_add_trace": "four launches",
    "large_integer_trace": "one launch",
    "sampled_rank-0": "no two stretches launch the same",
    "trace_compare__base": "18 launches of one step",
    "trace_compare__test": "17 launches of one step",
    "inference_rank_1": "four launches",
    "triton_example": "one launch",
    "gpu_only_trace": "layers of a convolutional network, each of another shape and order",
    "torch_compile_triton": "12 launches of one step",
    "rodinia_gaussian_baseline": "stages of one elimination, each on a smaller matrix",
    "rodinia_gaussian_optimized": "stages of one elimination, each on a smaller matrix",
    "worker0_step_12": "one step of DLRM",
    "worker1_step_12": "one step of DLRM",
    "worker2_step_12": "one step of DLRM",
    "worker3_step_12": "one step of DLRM",
    "worker4_step_12": "one step of DLRM",
    "worker5_step_12": "one step of DLRM",
    "worker6_step_12": "one step of DLRM",
    "worker7_step_12": "one step of DLRM",
}
# Iterations without a GPU; how they are known.
HOST = {
    "EfficientCenterFormer__baseline": (304, "host", "304 inferences of six ranges each"),
    "EfficientCenterFormer__poolformer": (135, "ranges", "135 inferences, mostly in find_centers"),
    "cupti_profiler": (0, "", "one pass, each kernel of which is profiled"),
    "distributed_info_not_found": (0, "", "one ProfilerStep"),
    "rank_non_gpu": (0, "", "one ProfilerStep"),
    "DynamicViT": (0, "", "neither calls nor ranges"),
    "cpu_2022.sqlite": (0, "", "20 steps, which hold 3 % of the time"),
    "cpu_2023.sqlite": (0, "", "20 steps, which hold 3 % of the time"),
    "s23_sample.sqlite": (0, "", "20 steps, which hold 3 % of the time"),
    "s23_ann.sqlite": (0, "", "three rounds, of which the first, a warm-up, takes nearly all"),
    "s23_gil.sqlite": (0, "", "ranges only say who holds the lock of Python"),
    "s23_pysample.sqlite": (0, "", "neither calls nor ranges"),
    "cpu_training.sqlite": (12, "ranges", "12 steps, marked"),
    "cpu_training.json.gz": (13, "ranges", "ProfilerStep, 13"),
}
NO_TIMELINE = {
    ".ncu-rep": "counters, each launch by itself",
    ".csv": "counters, each launch by itself",
    ".nsys-rep": "the report of an export that is labelled, and needs nsys",
    "pipit__docs__examples__test": "no recording",
    "benchmark_simple_add_et": "an execution trace, without times",
    "memory_timeline": "no events",
    "908_results": "a recording of rocprof",
}
# Iterations without the marks, launches in one.
SAMPLES = {
    "bandwidth": (20, 30, "steps"),
    "communication": (20, 8, "steps"),
    "dependency": (60, 2, "two launches in turn: nothing but the marks tells a step of six pairs"),
    "divergence": (120, 1, "one kernel: nothing but the marks tells a step of eight"),
    "dram": (120, 1, "one kernel: nothing but the marks tells a step of eight"),
    "healthy": (19, 7, "steps; nobody knows where the last of the 20 ends"),
    "host": (20, 6, "steps"),
    "launch": (2000, 1, "one kernel: nothing but the marks tells a step of a hundred"),
    "memory": (30, 3, "steps"),
    "pair_baseline": (40, 72, "steps"),
    "pair_optimized": (40, 12, "steps"),
    "parallelism": (120, 1, "one kernel: nothing but the marks tells a step of eight"),
    "sync": (159, 7, "a quarter of a step, four times: nothing but the marks tells the step"),
}


def recordings() -> list[Path]:
    """Return every recording that is here: the samples, and the real ones where they are."""
    folders = [REAL / folder for folder in FOLDERS] if REAL.is_dir() else []
    real = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
    suffixes = (".sqlite", ".json.gz", ".nsys-rep", ".ncu-rep")
    kept = sorted((ROOT / "traces").rglob("*"))
    return [*real, *(file for file in kept if file.name.endswith(suffixes))]


def labels_of(file: Path) -> list[str]:
    """Return the labels whose name is a part of the file's, or its sample's."""
    if file.parent.name == "synthetic" and file.suffix == ".sqlite":
        name = file.stem.removeprefix("synthetic_")
        return [name] if name in SAMPLES else []
    skipped = [part for part in NO_TIMELINE if part in file.name]
    return skipped or [p for table in (LOOPS, NO_LOOPS, HOST) for p in table if p in file.name]
