"""Counters joined to a timeline: what is matched, what is not, and how kernel time splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.analysis import investigate
from analyzers.counters.joining import (
    AMBIGUOUS,
    NOT_ON_TIMELINE,
    NOT_PROFILED,
    OTHER_CONFIGURATION,
    OTHER_GPU,
    WHOLE_GRAPH,
    join,
)
from analyzers.finding import KERNEL_ROWS, Row
from analyzers.intervals import shares_of_union, union
from tests.counter_scenarios import SHORT
from tests.joining_helpers import DIVERGENT, IDLE, joined_ledger, profiled, reasons
from tests.traces_in_memory import build, forget

# Launch configurations.


def test_every_launch_of_one_configuration_takes_the_median_counters(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20, 40, 60], "duration_us": 10})
    lanes = [{"live": live} for live in (4.0, 8.0, 30.0)]
    joined = join(facts, profiled(tmp_path / "c", *lanes))
    assert len(joined.counters) == 1
    assert joined.counters.metric(SHORT["live"]).tolist() == [8.0]
    assert joined.row.tolist() == [0, 0, 0, 0]


def test_as_many_launches_as_were_profiled_are_paired_in_order(tmp_path):
    # The second call's kernel runs first, on another stream: the order is that of the calls.
    facts = build(
        tmp_path,
        kernels={"start_us": [30, 10], "duration_us": 5, "correlation_id": [1, 2]},
        api_calls={"start_us": [0, 5], "duration_us": 1, "correlation_id": [1, 2]},
    )
    joined = join(facts, profiled(tmp_path / "c", {"live": 4.0}, {"live": 30.0}))
    lanes = joined.counters.metric(SHORT["live"])[joined.row]
    assert facts.launches["start_ns"].tolist() == [10_000, 30_000]
    assert lanes.tolist() == [30.0, 4.0]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"grid_x": 8}),
        ({}, {"block_x": 128}),
        ({"registers_per_thread": 40}, {}),
        ({"dynamic_shared_bytes": 4_096}, {}),
    ],
)
def test_a_launch_of_another_configuration_is_said_and_not_used(tmp_path, ours, theirs):
    facts = build(tmp_path, kernels={"start_us": [0], "duration_us": 10, **ours})
    joined = join(facts, profiled(tmp_path / "c", theirs))
    assert reasons(joined) == [OTHER_CONFIGURATION]
    assert joined.unused["reason"].tolist() == [OTHER_CONFIGURATION]
    assert joined.row.tolist() == [-1]


def test_what_one_side_did_not_record_contradicts_nothing(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0], "duration_us": 10})
    silent = {"registers_per_thread": -1, "static_shared_bytes": -1}
    assert reasons(join(facts, profiled(tmp_path / "c", silent))) == [""]


def test_one_sum_of_shared_memory_is_the_same_as_two_parts(tmp_path):
    kernels = {"start_us": [0], "duration_us": 10, "dynamic_shared_bytes": 16_384}
    facts = build(tmp_path, kernels=kernels)
    parts = {"static_shared_bytes": 8_190, "dynamic_shared_bytes": 8_190}  # of a printed page
    assert reasons(join(facts, profiled(tmp_path / "c", parts))) == [""]


def test_what_several_configurations_fit_is_ambiguous_and_not_used(tmp_path):
    kernels = {"start_us": [0, 20], "duration_us": 10, "registers_per_thread": [32, 64]}
    facts = build(tmp_path, kernels=kernels)
    joined = join(facts, profiled(tmp_path / "c", {"registers_per_thread": -1}))
    assert reasons(joined) == [AMBIGUOUS, AMBIGUOUS]
    assert joined.unused["reason"].tolist() == [AMBIGUOUS]


def test_without_a_grid_nothing_is_matched(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0], "duration_us": 10, "grid_x": -1})
    joined = join(facts, profiled(tmp_path / "c", {"grid_x": -1}))
    assert joined.row.tolist() == [-1]
    assert "not recorded" in reasons(joined)[0]


def test_counters_of_another_model_of_gpu_are_not_used(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0], "duration_us": 10})
    joined = join(facts, profiled(tmp_path / "c", {}, gpu="A100"))
    assert reasons(joined) == [OTHER_GPU]


def test_counters_of_a_range_belong_to_no_kernel(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0], "duration_us": 10})
    joined = join(facts, profiled(tmp_path / "c", {"kind": 1}))
    assert joined.row.tolist() == [-1]
    assert "for a range" in joined.unused["reason"].iloc[0]


def test_unmatched_kernels_of_both_sides_are_listed_with_their_time(tmp_path):
    facts = build(
        tmp_path, kernels={"start_us": [0, 20, 40], "duration_us": 10, "name": ["a", "b", "b"]}
    )
    counters = profiled(tmp_path / "c", {"name": "a"}, {"name": "z", "duration_ns": 7})
    report = investigate(facts.trace, counters=counters).report
    told = {(u["name"], u["side"]): (u["reason"], u["ns"]) for u in report.counters["unmatched"]}
    assert told == {
        ("b", "timeline"): (NOT_PROFILED, 20_000),
        ("z", "counters"): (NOT_ON_TIMELINE, 7),
    }
    assert report.counters["covered_ns"] == 10_000
    assert report.counters["covered_share"] == pytest.approx(1 / 3)
    note = next(n for n in report.quality if n.code == "counters_joined")
    assert "cover 33 % of the window's kernel time" in note.message
    assert "b 20 µs (not profiled)" in note.message
    assert "--kernel-name 'regex:^(b)$' --launch-count 3" in note.message


def test_graphs_recorded_as_a_whole_are_not_covered(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0], "duration_us": 10},
        graph_launches={"start_us": [20], "duration_us": 10},
    )
    assert reasons(join(facts, profiled(tmp_path / "c", {}))) == ["", WHOLE_GRAPH]


def test_launches_of_two_devices_are_told_apart(tmp_path):
    facts = build(
        tmp_path, kernels={"start_us": [0, 0, 20, 20], "duration_us": 10, "device": [0, 1, 0, 1]}
    )
    counters = profiled(tmp_path / "c", DIVERGENT)  # on the first device only
    plain, ledger = joined_ledger(facts, counters)
    lost = [d.rows[Row.DIVERGENCE] for d in ledger.devices]
    assert lost == [int(20_000 * IDLE)] * 2
    assert sum(lost) == ledger.total_ns(Row.DIVERGENCE)
    assert all(d.rows[Row.KERNEL] == 20_000 - lost[0] for d in ledger.devices)
    assert plain.total_ns(Row.KERNEL) == 40_000


def test_as_many_launches_on_other_devices_are_not_paired_in_order(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20], "duration_us": 10, "device": [0, 1]})
    both = profiled(tmp_path / "c", {"live": 4.0}, {"live": 12.0})
    joined = join(facts, both)
    assert joined.counters.metric(SHORT["live"]).tolist() == [8.0, 8.0]


@settings(max_examples=30)
@given(
    ours=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1, 2])), max_size=8),
    theirs=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2])), min_size=1, max_size=6
    ),
)
def test_launches_are_matched_exactly_where_name_and_configuration_were_profiled(
    ours, theirs, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("join")
    kernels = {
        "start_us": [20 * i for i in range(len(ours))],
        "duration_us": 10,
        "name": [n for n, _ in ours],
        "grid_x": [g for _, g in ours],
    }
    facts = build(folder, kernels=kernels if ours else {})
    counters = profiled(folder / "c", *({"name": n, "grid_x": g} for n, g in theirs))
    joined = join(facts, counters)
    assert [row >= 0 for row in joined.row] == [launch in theirs for launch in ours]
    for launch, row in zip(ours, joined.row, strict=True):
        if row < 0:
            continue
        sources = joined.counters.source[joined.counters.row == row]
        assert {theirs[s] for s in sources} == {launch}
        alike = [i for i, t in enumerate(theirs) if t == launch]
        if ours.count(launch) == len(alike):
            nth = [i for i, o in enumerate(ours) if o == launch].index(
                joined.row.tolist().index(row)
            )
            assert sources.tolist() == [alike[nth]]
        else:
            assert sources.tolist() == alike
    used = set(joined.counters.source.tolist())
    assert {theirs[i] for i in used} == set(ours) & set(theirs)
    assert joined.unused["launches"].sum() == len(theirs) - len(used)
    forget(facts.trace)


# The split of kernel time.

INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 25)), max_size=12)


@given(INTERVALS)
def test_shares_of_a_union_sum_to_it_and_none_is_longer_than_its_interval(intervals):
    start = np.array([s for s, _ in intervals], np.int64)
    end = start + np.array([d for _, d in intervals], np.int64)
    shares = shares_of_union(start, end)
    assert shares.sum() == union(start, end).total
    assert (shares >= 0).all()
    assert (shares <= end - start).all()
    for share, low, high in zip(shares, start, end, strict=True):
        running = [((start <= t) & (end > t)).sum() for t in range(low, high)]
        assert share == pytest.approx(sum(1 / n for n in running), abs=1.001)


def test_what_runs_alone_is_counted_to_the_nanosecond_however_late():
    start = np.array([0, 10, 10**17, 10**17 + 50], np.int64)
    end = start + np.array([20, 20, 50, 7], np.int64)
    assert shares_of_union(start, end).tolist() == [15, 15, 50, 7]


@settings(max_examples=30)
@given(
    launches=st.lists(
        st.tuples(
            st.integers(0, 60),
            st.integers(1, 40),
            st.sampled_from("abc"),
            st.sampled_from([0, 1]),
        ),
        min_size=1,
        max_size=10,
    ),
    window=st.tuples(st.integers(0, 40), st.integers(41, 120)),
    lanes=st.floats(1, 32),
    compute=st.floats(0, 100),
    dram=st.floats(0, 100),
)
def test_the_rows_sum_to_the_window_and_the_split_to_the_kernel_row(
    launches, window, lanes, compute, dram, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("split")
    kernels = {
        "start_ns": [s for s, _, _, _ in launches],
        "end_ns": [s + d for s, d, _, _ in launches],
        "name": [n for _, _, n, _ in launches],
        "device": [d for _, _, _, d in launches],
        "stream": list(range(len(launches))),
    }
    facts = build(folder, kernels=kernels)
    odd = {"live": lanes, "compute": compute, "dram": dram, "memory": dram}
    counters = profiled(folder / "c", {"name": "a", **odd}, {"name": "b"}, {"name": "b"})
    plain, ledger = joined_ledger(
        facts, counters, start_us=window[0] / 1_000, end_us=window[1] / 1_000
    )
    for before, after in zip(plain.devices, ledger.devices, strict=True):
        assert all(ns >= 0 for ns in after.rows.values())
        assert sum(after.rows.values()) == after.duration_ns
        assert sum(after.rows[r] for r in KERNEL_ROWS) == before.rows[Row.KERNEL]
        assert after.busy_ns == before.busy_ns
    assert ledger.examined.kernel_ns == plain.total_ns(Row.KERNEL)
    assert 0 <= ledger.examined.covered_ns <= ledger.examined.kernel_ns
    assert ledger.segments.equals(plain.segments)
    forget(facts.trace)


def test_streams_that_overlap_lose_their_time_once(tmp_path):
    kernels = {"start_us": [0, 0], "duration_us": 10, "stream": [7, 8], "name": ["a", "b"]}
    facts = build(tmp_path, kernels=kernels)
    _, ledger = joined_ledger(facts, profiled(tmp_path / "c", {"name": "a", **DIVERGENT}))
    assert ledger.total_ns(Row.DIVERGENCE) == int(5_000 * IDLE)
    assert ledger.examined.covered_ns == 5_000


def test_losses_are_those_of_the_window(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20], "duration_us": 10})
    counters = profiled(tmp_path / "c", DIVERGENT)
    _, ledger = joined_ledger(facts, counters, start_us=5, end_us=15)
    assert ledger.total_ns(Row.DIVERGENCE) == int(5_000 * IDLE)


def test_what_rules_claim_never_exceeds_a_row(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0, 20, 40], "duration_us": 15, "grid_x": 8, "name": ["a", "a", "b"]},
    )
    small = {"name": "a", "grid_x": 8, "live": 16.0}
    result = investigate(facts.trace, counters=profiled(tmp_path / "c", small))
    for row in Row:
        claimed = sum(f.lost_ns for f in result.report.findings if f.row is row)
        assert claimed <= result.ledger.total_ns(row)
    assert result.report.failed == ()
    computed = next(f for f in result.report.findings if f.id == "parallelism.small_grid")
    assert computed.evidence[0].value == 1, "launches with counters are asked by other rules"
