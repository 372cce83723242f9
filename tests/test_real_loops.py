"""In real recordings the loop that an expert sees is found without its marks, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzers.facts.facts import build_facts
from analyzers.facts.unmarked import find_launch_loop
from collectors import open_trace
from tests.real_traces import opened

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"

LOOPS = {
    "h100_2gpu_1s": (24, 78, "blocks of a transformer, each with copies of its weights"),
    "healthy_1pct": (200, 2, "two kernels in turn, by the generator"),
    "healthy_judged_1pct": (10, 2, "two kernels in turn, by the generator"),
    "perlmutter-cloverleaf": (10, 150, "steps of the hydrodynamics, whose sweeps alternate"),
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
    "sampled_rank-0": "no two stretches launch the same",
    "trace_compare__base": "18 launches of one step",
    "trace_compare__test": "17 launches of one step",
    "inference_rank_1": "four launches",
    "triton_example": "one launch",
    "gpu_only_trace": "layers of a convolutional network, each of another shape and order",
    "torch_compile_triton": "12 launches of one step",
    "rodinia_gaussian_baseline": "stages of one elimination, each on a smaller matrix",
    "rodinia_gaussian_optimized": "stages of one elimination, each on a smaller matrix",
}
SAMPLES = {
    "bandwidth": 20,
    "communication": 20,
    "host": 20,
    "pair_baseline": 40,
    "pair_optimized": 40,
}


def recording(part: str) -> Path:
    """Return the real recording with this in its name; skip where the recordings are not."""
    if not REAL.is_dir():
        pytest.skip("the real recordings are not here")
    folders = ("nsys_sqlite", "torch_trace", "pairs")
    return next(f for folder in folders for f in (REAL / folder).iterdir() if part in f.name)


@pytest.mark.parametrize("part", LOOPS, ids=str)
def test_the_loop_of_a_real_program_is_found(part: str) -> None:
    loop = find_launch_loop(build_facts(opened(recording(part))))
    assert loop is not None, LOOPS[part][2]
    assert (len(loop.iterations), loop.period.launches) == LOOPS[part][:2], LOOPS[part][2]


@pytest.mark.parametrize("part", NO_LOOPS, ids=str)
def test_no_loop_is_invented_in_a_real_program(part: str) -> None:
    loop = find_launch_loop(build_facts(opened(recording(part))))
    assert loop is None, NO_LOOPS[part]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_loop_of_a_sample_is_found_without_its_marks(name: str, tmp_path: Path) -> None:
    sample = ROOT / "traces" / "synthetic" / f"synthetic_{name}.sqlite"
    loop = find_launch_loop(build_facts(open_trace(sample, tmp_path)))
    assert loop is not None
    assert len(loop.iterations) == SAMPLES[name]


def test_iterations_follow_each_other_without_a_hole(tmp_path: Path) -> None:
    sample = ROOT / "traces" / "synthetic" / "synthetic_host.sqlite"
    facts = build_facts(open_trace(sample, tmp_path))
    loop = find_launch_loop(facts)
    assert loop is not None
    for before, after in zip(loop.iterations, loop.iterations[1:], strict=False):
        assert before.end_ns == after.start_ns
    first = facts.launches["start_ns"].to_numpy()[loop.rows[loop.period.first[0]]]
    assert loop.iterations[0].start_ns == first
