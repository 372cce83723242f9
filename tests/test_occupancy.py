"""Theoretical occupancy, on launches whose answer NVIDIA's occupancy calculator gives too."""

import numpy as np
import pandas as pd
import pytest

from analyzers.facts.occupancy import LIMITERS, launch_shapes, theoretical_occupancy
from tests.traces_in_memory import H100, build

A100 = H100 | {"sm_count": 108, "compute_major": 8, "max_shared_bytes_per_sm": 167_936}
V100 = H100 | {"sm_count": 80, "compute_major": 7, "max_shared_bytes_per_sm": 98_304}
RTX_3090 = H100 | {
    **{"compute_major": 8, "compute_minor": 6, "max_warps_per_sm": 48, "max_blocks_per_sm": 16},
    "max_shared_bytes_per_sm": 102_400,
}

TURING = H100 | {
    **{"compute_major": 7, "compute_minor": 5, "max_warps_per_sm": 32, "max_blocks_per_sm": 16},
    "max_shared_bytes_per_sm": 65_536,
}


def occupancy(threads, registers, shared_bytes, gpu=H100):
    columns = (np.array([v], np.int64) for v in (threads, registers, shared_bytes, 0))
    found = theoretical_occupancy(*columns, pd.DataFrame([gpu]))
    return float(found.pct[0]), LIMITERS[found.limiter[0]], int(found.blocks_per_sm[0])


@pytest.mark.parametrize(
    ("threads", "registers", "shared_bytes", "gpu", "expected"),
    [
        (256, 32, 0, H100, (100.0, "", 8)),
        # 38 registers of 32 lanes, rounded to 1,280 a warp: 51 warps, by fours 48, 6 blocks.
        (256, 38, 0, A100, (75.0, "registers", 6)),
        # 255 registers: 8,192 a warp, 8 warps, one block of 8.
        (256, 255, 0, H100, (12.5, "registers", 1)),
        (1024, 64, 0, H100, (50.0, "registers", 1)),
        # 32 blocks of one warp each.
        (32, 16, 0, H100, (50.0, "blocks", 32)),
        # Registers and warps both end at one block of 32 warps.
        (1024, 36, 0, RTX_3090, (32 / 48 * 100, "registers and block size", 1)),
        (128, 107, 0, RTX_3090, (100 / 3, "registers", 4)),
        # 11 blocks of 9 KiB, but 36 by registers and 16 by number.
        (32, 56, 8_192, RTX_3090, (1_100 / 48, "shared memory", 11)),
        # Blocks without shared memory of their own are not limited by it, whatever is kept.
        (32, 46, 0, H100, (50.0, "blocks", 32)),
        (1, 40, 0, TURING, (50.0, "blocks", 16)),
        # 25 KiB each: shared memory and warps both end at four blocks of 12 warps.
        (384, 16, 24_576, RTX_3090, (100.0, "", 4)),
        (352, 16, 24_576, RTX_3090, (44 / 48 * 100, "shared memory and block size", 4)),
        # 48 warps hold one block of 32.
        (1024, 32, 0, RTX_3090, (32 / 48 * 100, "block size", 1)),
        # 48 KiB and 1 KiB of the system's: 4 of 49 KiB fit into 228 KiB.
        (256, 32, 49_152, H100, (50.0, "shared memory", 4)),
        # Before compute capability 8 the system kept nothing: 2 of 48 KiB fit into 96 KiB.
        (256, 32, 49_152, V100, (25.0, "shared memory", 2)),
        # 33 threads are two warps: 32 blocks of two fill all 64.
        (33, 16, 0, H100, (100.0, "", 32)),
    ],
)
def test_occupancy_is_what_the_calculator_says(threads, registers, shared_bytes, gpu, expected):
    pct, limiter, blocks = occupancy(threads, registers, shared_bytes, gpu)
    assert (pytest.approx(pct), limiter, blocks) == expected


@pytest.mark.parametrize(
    "unknown",
    [
        {"max_warps_per_sm": -1},
        {"max_blocks_per_sm": -1},
        {"max_registers_per_sm": -1},
        {"max_shared_bytes_per_sm": -1},
        {"compute_major": -1},
        {"compute_major": 2},  # other allocation units, and no recording of it will be opened
    ],
)
def test_unknown_limits_make_the_answer_unknown(unknown):
    assert occupancy(256, 32, 0, H100 | unknown) == (-1.0, "", -1)


@pytest.mark.parametrize(("threads", "registers", "shared"), [(-1, 32, 0), (256, -1, 0), (0, 1, 0)])
def test_an_unknown_launch_makes_the_answer_unknown(threads, registers, shared):
    assert occupancy(threads, registers, shared) == (-1.0, "", -1)


def test_a_block_that_cannot_fit_but_ran_is_unknown_not_zero():
    assert occupancy(256, 32, 300_000) == (-1.0, "", -1)


def test_equal_launch_configurations_are_listed_once(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": range(6), "duration_us": 1, "grid_x": [132, 264] * 3, "grid_y": 2},
    )
    shapes = launch_shapes(facts)
    assert shapes.table["grid_blocks"].tolist() == [264, 528]
    assert shapes.code.tolist() == [0, 1] * 3


def test_waves_count_what_fits_on_the_whole_gpu(tmp_path):
    # 8 blocks of 256 threads on each of 132 multiprocessors: 1,056 in a wave.
    facts = build(
        tmp_path, kernels={"start_us": [0, 1], "duration_us": 1, "grid_x": [1_056, 1_584]}
    )
    table = launch_shapes(facts).table
    assert table["blocks_per_wave"].tolist() == [1_056, 1_056]
    assert table["waves"].tolist() == [1.0, 1.5]


def test_columns_too_wide_for_one_number_are_still_told_apart(tmp_path):
    big = 2**30
    facts = build(
        tmp_path,
        kernels={
            "start_us": range(4),
            "duration_us": 1,
            "grid_x": [1, big, 1, big],
            "grid_y": [1, 1, big, 1],
            "dynamic_shared_bytes": [0, 0, 0, big],
        },
    )
    assert len(launch_shapes(facts).table) == 4
    assert launch_shapes(facts).table["grid_blocks"].tolist() == [1, big, big, big]
