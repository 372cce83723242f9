"""The ledger by region of the program sums to the ledger, whatever was recorded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.analysis import investigate
from analyzers.facts.facts import build_facts
from analyzers.facts.spans import Iteration
from analyzers.finding import KERNEL_ROWS, Row
from analyzers.ledger import regions
from analyzers.ledger.booking import ROWS
from analyzers.ledger.ledger import build_ledger
from analyzers.ledger.regions import INNER_RANGES, OPERATORS, OUTSIDE, RANGES, region_matrix
from collectors import open_trace
from tests import counter_scenarios, scenarios
from tests.joining_helpers import DIVERGENT, IDLE, joined_ledger, profiled
from tests.traces_in_memory import account, build, forget

US = 1_000


def matrix(facts, *, iterations=()):
    ledger = account(facts)
    found = region_matrix(facts, ledger, iterations)
    assert_sums(found, ledger)
    return found


def assert_sums(found, ledger):
    for _, level in found.groupby("level"):
        for device in ledger.devices:
            mine = level[level["device"] == device.key].groupby("row")["ns"].sum()
            booked = {ROWS[code]: ns for code, ns in mine.items() if ns}
            assert booked == {row: ns for row, ns in device.rows.items() if ns}


def cells(found, level):
    rows = found[found["level"] == level]
    return {
        (name, ROWS[row].value): ns / US
        for name, row, ns in zip(rows["name"], rows["row"], rows["ns"], strict=True)
    }


def program(tmp_path, **more):
    """Two kernels, 0 to 10 and 30 to 50 µs, launched at 1 and at 25 µs before they run."""
    return build(
        tmp_path,
        kernels={"start_us": [100, 130], "duration_us": [10, 20], "correlation_id": [1, 2]},
        api_calls={
            "start_us": [90, 120],
            "duration_us": [5, 5],
            "correlation_id": [1, 2],
            "name": "cudaLaunchKernel",
        },
        **more,
    )


def test_each_stretch_belongs_to_the_range_around_the_call_that_ended_it(tmp_path):
    facts = program(
        tmp_path, ranges={"start_us": [80, 115], "duration_us": [20, 20], "name": ["load", "solve"]}
    )
    found = cells(matrix(facts), RANGES)
    assert found["load", "kernel"] == 10
    assert found["solve", "kernel"] == 20
    assert sum(us for (name, row), us in found.items() if name == "solve" and row != "kernel") == 20


def test_what_no_range_submitted_is_a_row(tmp_path):
    facts = program(tmp_path, ranges={"start_us": [115], "duration_us": [20], "name": ["solve"]})
    assert cells(matrix(facts), RANGES)[OUTSIDE, "kernel"] == 10


def two_at_once(tmp_path):
    """Two kernels, 100 to 110 and 105 to 125 µs, launched from one range each."""
    return build(
        tmp_path,
        kernels={
            "start_us": [100, 105],
            "duration_us": [10, 20],
            "stream": [1, 2],
            "correlation_id": [1, 2],
            "name": ["first", "second"],
        },
        api_calls={"start_us": [80, 90], "duration_us": [2, 2], "correlation_id": [1, 2]},
        ranges={"start_us": [79, 89], "duration_us": [5, 5], "name": ["a", "b"]},
    )


def test_kernels_that_run_at_the_same_time_share_it(tmp_path):
    found = cells(matrix(two_at_once(tmp_path)), RANGES)
    assert (found["a", "kernel"], found["b", "kernel"]) == (7.5, 17.5)


def test_what_a_launch_loses_inside_belongs_to_its_region(tmp_path):
    facts = two_at_once(tmp_path)
    counters = profiled(tmp_path / "c", DIVERGENT | {"name": "second"})
    _, ledger = joined_ledger(facts, counters)
    found = region_matrix(facts, ledger)
    assert_sums(found, ledger)
    told = cells(found, RANGES)
    assert told["a", "kernel"] == 7.5, "not profiled, so not divided"
    assert told["b", "divergence"] == pytest.approx(17.5 * IDLE, abs=0.001)
    assert told["b", "kernel"] == pytest.approx(17.5 * (1 - IDLE), abs=0.001)
    place = found[found["name"] == "b"].iloc[-1]
    assert (place["start_ns"], place["end_ns"]) == (105 * US, 125 * US)


@settings(max_examples=20)
@given(
    launches=st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 40), st.sampled_from("abc"), st.booleans()),
        min_size=1,
        max_size=8,
    ),
    window=st.tuples(st.integers(0, 40), st.integers(41, 120)),
    lanes=st.floats(1, 32),
    compute=st.floats(0, 100),
    dram=st.floats(0, 100),
)
def test_regions_sum_to_a_ledger_that_counters_split(
    launches, window, lanes, compute, dram, tmp_path_factory
):
    number = list(range(1, len(launches) + 1))
    begin = [200 * n for n in number]
    facts = build(
        tmp_path_factory.mktemp("split"),
        kernels={
            "start_ns": [5_000 + s for s, _, _, _ in launches],
            "end_ns": [5_000 + s + d for s, d, _, _ in launches],
            "name": [n for _, _, n, _ in launches],
            "device": [int(d) for _, _, _, d in launches],
            "stream": number,
            "correlation_id": number,
        },
        api_calls={
            "start_ns": begin,
            "end_ns": [b + 50 for b in begin],
            "correlation_id": number,
        },
        ranges={
            "start_ns": [b - 10 for b in begin],
            "end_ns": [b + 100 for b in begin],
            "name": [f"of {n % 3}" for n in number],
        },
    )
    odd = {"live": lanes, "compute": compute, "dram": dram, "memory": dram}
    folder = tmp_path_factory.mktemp("counters")
    counters = profiled(folder, {"name": "a", **odd}, {"name": "b", **odd}, {"name": "b"})
    span = {"start_us": (5_000 + window[0]) / US, "end_us": (5_000 + window[1]) / US}
    plain, ledger = joined_ledger(facts, counters, **span)
    split, whole = (region_matrix(facts, one) for one in (ledger, plain))
    assert_sums(split, ledger)
    assert_sums(whole, plain)
    assert (split["ns"] > 0).all()
    kernel = [ROWS.index(row) for row in KERNEL_ROWS]
    sums = [
        one[one["row"].isin(kernel)].groupby(["level", "name", "device"])["ns"].sum()
        for one in (split, whole)
    ]
    assert sums[0].equals(sums[1]), "counters move no time between regions"
    forget(facts.trace)


def test_ranges_just_inside_an_iteration_are_the_coarsest(tmp_path):
    nested = {
        "start_us": [70, 72, 74, 88],
        "duration_us": [80, 78, 76, 10],
        "name": ["program", "step 3", "forward", "layer"],
    }
    facts = program(tmp_path, ranges=nested)
    step = Iteration(name="step 3", start_ns=0, end_ns=1)
    found = matrix(facts, iterations=[step])
    assert {name for name, _ in cells(found, RANGES)} == {"forward"}
    assert {name for name, _ in cells(found, INNER_RANGES)} == {"forward", "layer"}
    found = matrix(facts)
    assert {name for name, _ in cells(found, RANGES)} == {"step 3"}


@pytest.mark.parametrize(("count", "names"), [(4, 4), (20, 1)])
def test_many_names_that_differ_in_a_number_are_one_region(tmp_path, count, names):
    at = 100 * np.arange(1, count + 1)
    number = np.arange(1, count + 1)
    facts = build(
        tmp_path,
        kernels={"start_us": at, "duration_us": 10, "correlation_id": number},
        api_calls={"start_us": at - 20, "duration_us": 5, "correlation_id": number},
        ranges={"start_us": at - 30, "duration_us": 20, "name": [f"batch {n}" for n in number]},
    )
    assert matrix(facts)["name"].nunique() == names


def test_work_of_a_thread_without_ranges_belongs_to_its_program_s(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [100], "duration_us": [10], "correlation_id": [1]},
        api_calls={"start_us": [90], "duration_us": [5], "correlation_id": [1], "thread": [12]},
        ranges={"start_us": [80], "duration_us": [40], "name": ["backward"], "thread": [11]},
        threads={"thread": [11, 12], "process": [1, 1]},
    )
    assert cells(matrix(facts), RANGES)["backward", "kernel"] == 10


def test_operators_are_a_level_of_their_own_and_python_is_none(tmp_path):
    facts = program(
        tmp_path,
        operators={
            "start_us": [85, 88, 80],
            "duration_us": [20, 10, 100],
            "name": ["aten::linear", "aten::addmm", "train.py"],
            "kind": [0, 0, 1],
        },
    )
    found = matrix(facts)
    assert set(found["level"]) == {OPERATORS}
    assert cells(found, OPERATORS)["aten::addmm", "kernel"] == 10
    assert cells(found, OPERATORS)[OUTSIDE, "kernel"] == 20


def test_the_place_of_a_cell_is_its_longest_stretch(tmp_path):
    facts = program(tmp_path, ranges={"start_us": [80], "duration_us": [90], "name": ["all"]})
    found = matrix(facts)
    kernel = found[found["row"] == ROWS.index(Row.KERNEL)].iloc[0]
    assert (kernel["start_ns"], kernel["end_ns"]) == (130 * US, 150 * US)


def test_without_ranges_and_operators_there_is_nothing_to_show(tmp_path):
    assert matrix(program(tmp_path)).empty
    facts = build_facts(open_trace(counter_scenarios.good(), tmp_path / "counters"))
    assert region_matrix(facts, investigate(facts.trace).ledger).empty


@pytest.mark.parametrize(
    "recording",
    [
        *(getattr(scenarios, name) for name in ("sync", "dependency", "communication", "memory")),
        scenarios.managed_memory,
        scenarios.cuda_graph_whole,
        scenarios.two_processes_with_equal_ids,
        scenarios.no_gpu_work,
    ],
)
def test_regions_sum_to_the_ledger_of_every_program(recording, tmp_path):
    analysis = investigate(open_trace(recording(), tmp_path))
    assert_sums(
        region_matrix(analysis.facts, analysis.ledger, analysis.report.iterations), analysis.ledger
    )


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_regions_sum_to_the_ledger_of_any_mess(tmp_path_factory, seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 40))
    start = random.integers(0, 2_000, count)
    number = np.arange(1, count + 1)
    facts = build(
        tmp_path_factory.mktemp("mess"),
        kernels={
            "start_us": start + 50,
            "duration_us": random.integers(0, 300, count),
            "stream": random.integers(1, 4, count),
            "correlation_id": number,
        },
        api_calls={
            "start_us": start,
            "duration_us": random.integers(0, 60, count),
            "correlation_id": np.where(random.random(count) < 0.8, number, -1),
        },
        ranges={
            "start_us": random.integers(0, 2_000, count),
            "duration_us": random.integers(0, 900, count),
            "name": random.choice(["a", "b", "c 1", "c 2"], count).tolist(),
        },
    )
    window = account(facts, 100, 1_500).window
    ledger = build_ledger(facts, window)
    assert_sums(region_matrix(facts, ledger), ledger)


def test_numbers_that_pytorch_adds_to_operators_are_left_out(tmp_path):
    names = ["aten::to, op_id = 17", "aten::to, seq = 4, op_id = 18"]
    facts = program(
        tmp_path, ranges={"start_us": [80, 115], "duration_us": [20, 20], "name": names}
    )
    assert set(matrix(facts)["name"]) == {"aten::to"}


def test_a_window_of_too_many_stretches_is_not_divided(tmp_path, monkeypatch):
    facts = build(
        tmp_path,
        kernels={"start_us": [10, 30], "duration_us": 10, "correlation_id": [1, 2]},
        api_calls={"start_us": [1, 25], "duration_us": 1, "correlation_id": [1, 2]},
        ranges={"start_us": [0], "end_us": [50]},
    )
    assert len(region_matrix(facts, account(facts)))
    monkeypatch.setattr(regions, "MAX_STRETCHES", 1)
    assert not len(region_matrix(facts, account(facts)))
