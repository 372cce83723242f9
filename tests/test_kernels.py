"""The table of kernels, against what pandas says slowly."""

import numpy as np
import pandas as pd

from analyzers.kernels.table import COLUMNS, kernel_table
from tests.traces_in_memory import build


def random_facts(folder):
    random = np.random.default_rng(7)
    rows = 500
    start = np.sort(random.integers(0, 100_000, rows))
    number = np.arange(1, rows + 1)
    return build(
        folder,
        kernels={
            "start_ns": start,
            "duration_ns": random.integers(1, 900, rows),
            "name": random.choice(["a<int>(int)", "b(float *)", "c"], rows).tolist(),
            "correlation_id": number,
        },
        api_calls={
            "start_ns": start - 900,
            "end_ns": start - random.integers(0, 800, rows),
            "correlation_id": np.where(number % 5, number, -1),
        },
    )


def test_counts_and_times_are_those_of_each_kernel(tmp_path):
    facts = random_facts(tmp_path)
    table = kernel_table(facts).set_index("name")
    names = facts.trace.names(facts.launches["name_id"].to_numpy())
    slow = pd.Series(facts.duration_ns).groupby(names).agg(["count", "sum", "min", "max", "median"])
    slow = slow.loc[table.index]
    assert table["count"].tolist() == slow["count"].tolist()
    assert table["total_ns"].tolist() == slow["sum"].tolist()
    assert table["min_ns"].tolist() == slow["min"].tolist()
    assert table["max_ns"].tolist() == slow["max"].tolist()
    assert table["median_ns"].tolist() == slow["median"].astype(int).tolist()
    assert table["total_ns"].is_monotonic_decreasing
    assert table["share"].sum() == 1.0


def test_queue_times_are_of_launches_whose_call_is_known(tmp_path):
    facts = random_facts(tmp_path)
    table = kernel_table(facts).set_index("name")
    names = facts.trace.names(facts.launches["name_id"].to_numpy())
    known = facts.queue_ns >= 0
    slow = pd.Series(facts.queue_ns[known]).groupby(names[known]).median()
    assert table["queue_median_ns"].to_dict() == slow.astype(int).to_dict()


def test_times_too_long_to_pack_beside_the_name_are_sorted_all_the_same(tmp_path):
    huge = 2**61
    facts = build(
        tmp_path,
        kernels={
            "start_ns": [0, 1, 2, 3],
            "duration_ns": [huge, 5, 7, 1],
            "name": ["a", "a", "b", "c"],
        },
        api_calls={"start_ns": [0], "duration_ns": huge},  # somebody waited for it that long
    )
    table = kernel_table(facts).set_index("name")
    assert table.loc["a", "max_ns"] == huge
    assert table.loc["a", "total_ns"] == huge + 5
    assert table.loc["b", "median_ns"] == 7


def test_without_calls_the_queue_time_is_unknown(tmp_path):
    table = kernel_table(build(tmp_path, kernels={"start_us": [0, 9], "duration_us": 5}))
    assert table["queue_median_ns"].tolist() == [-1]


def test_the_configuration_shown_is_the_one_with_most_time(tmp_path):
    facts = build(
        tmp_path,
        kernels={
            "start_us": [0, 10, 20],
            "duration_us": [1, 1, 8],
            "grid_x": [5, 5, 700],
            "registers_per_thread": [16, 16, 255],
        },
    )
    row = kernel_table(facts).iloc[0]
    assert (row["grid_blocks"], row["registers"], row["block_threads"]) == (700, 255, 256)
    assert (row["occupancy_pct"], row["limiter"]) == (12.5, "registers")


def test_a_kernel_of_several_devices_is_one_row_without_a_device(tmp_path):
    facts = build(
        tmp_path,
        kernels={
            "start_us": [0, 0, 20],
            "duration_us": 5,
            "device": [0, 1, 1],
            "name": ["both", "both", "one"],
        },
        devices={"process": [1, 1], "device": [0, 1], "physical": [0, 1]},
    )
    table = kernel_table(facts).set_index("name")
    assert table["count"].to_dict() == {"both": 2, "one": 1}
    assert table["device"].to_dict() == {"both": -1, "one": 1}


def test_names_are_full_and_short(tmp_path):
    facts = build(
        tmp_path, kernels={"start_us": [0], "duration_us": 5, "name": ["scale<float>(float *)"]}
    )
    row = kernel_table(facts).iloc[0]
    assert (row["name"], row["short_name"]) == ("scale<float>(float *)", "scale")


def test_without_kernels_the_table_is_empty_and_has_its_columns(tmp_path):
    table = kernel_table(build(tmp_path, copies={"start_us": [0], "duration_us": 5}))
    assert table.empty
    assert tuple(table.columns) == COLUMNS


def test_what_a_launch_leaves_unfilled_is_computed_as_the_rules_judge(tmp_path):
    grids = {"grid_x": [5, 5, 100_000], "name": ["few(int)", "ncclDevKernel_AllReduce(x)", "many"]}
    facts = build(
        tmp_path, kernels={"start_us": [0, 10, 20], "duration_us": 5, "block_x": 256, **grids}
    )
    table = kernel_table(facts).set_index("name")
    assert table.loc["few(int)", "unfilled_why"] == "fewer blocks than multiprocessors"
    assert 0.9 < table.loc["few(int)", "unfilled_share"] < 1
    assert table.loc[["ncclDevKernel_AllReduce(x)", "many"], "unfilled_share"].tolist() == [0, 0]


def test_a_matrix_product_has_few_warps_on_purpose(tmp_path):
    fat = {"registers_per_thread": 255, "block_x": 256, "grid_x": 100_000}
    names = ["cutlass_gemm(int)", "march(int)"]
    facts = build(tmp_path, kernels={"start_us": [0, 10], "duration_us": 5, "name": names, **fat})
    why = kernel_table(facts).set_index("name")["unfilled_why"]
    assert why.to_dict() == {"cutlass_gemm(int)": "", "march(int)": "few warps"}
