"""Counters joined to a timeline: what is matched, what is not, and how kernel time splits."""

import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cli.main as cli
from analyzers import analyze
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
from analyzers.counters.kernel_names import bare, normalised, same_kernels, without_parameters
from analyzers.facts.facts import build_facts
from analyzers.finding import KERNEL_ROWS, Cause, Row
from analyzers.intervals import shares_of_union, union
from analyzers.report import Report
from collectors import open_trace
from collectors.errors import RefusedError
from jobs import api
from library import cache
from tests.counter_scenarios import SHORT
from tests.traces_in_memory import PROCESS, account, build, forget, make_trace
from tests.view_fakes import draw, library, open_sample, words
from traces.counter_programs import GOOD

SYNTHETIC = Path(__file__).parents[1] / "traces" / "synthetic"
SHAPE = {"grid_x": 4_224, "grid_y": 1, "grid_z": 1, "block_x": 256, "block_y": 1, "block_z": 1}
DIVERGENT = {"active": 8.0, "live": 8.0, "uniform": 50.0, "compute": 100.0}
DIVERGENT |= {"memory": 0.0, "dram": 0.0, "l2": 0.0}
IDLE = 1 - 8 / 32  # what those lose, all of it bound by compute


def profiled(folder, *launches, gpu="", process=9):
    """Return a recording of counters; each launch is a dictionary of what is not as usual."""
    usual = {"name": "kernel", **SHAPE, "kind": 0, "process": process, "device": 0, "stream": 7}
    usual |= {"duration_ns": 10_000, "registers_per_thread": 32, "number": 0, "context": 1}
    usual |= {"static_shared_bytes": 0, "dynamic_shared_bytes": 0}
    rows = [usual | {k: v for k, v in launch.items() if k not in SHORT} for launch in launches]
    counters = [
        (i, name, float(value))
        for i, launch in enumerate(launches)
        for name, value in (GOOD | {SHORT[k]: launch[k] for k in launch if k in SHORT}).items()
    ]
    devices = sorted({(r["process"], r["device"]) for r in rows})
    return make_trace(
        folder,
        profiled_kernels={c: [r[c] for r in rows] for c in usual}
        | {"short_name": [r["name"] for r in rows]},
        counters={
            "profiled": [i for i, _, _ in counters],
            "name": [n for _, n, _ in counters],
            "value": [v for _, _, v in counters],
            "text_id": -1,
        },
        devices={
            "process": [p for p, _ in devices],
            "device": [d for _, d in devices],
            "name": gpu,
            "physical": list(range(len(devices))),
        },
    )


def joined_ledger(facts, counters, **window):
    from analyzers.ledger.ledger import build_ledger

    plain = account(facts, **window)
    return plain, build_ledger(facts, plain.window, join(facts, counters))


def reasons(joined):
    return [str(reason) for reason in joined.why]


# Names.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("void k<(int)4>(float *)", "void k<4>(float*)"),
        ("k<(unsigned long)3, (bool)1>(int)", "k<3ul, true>(int)"),
        ("a::<unnamed>::k(int)", "a::(anonymous namespace)::k(int)"),
        ("k<f<int> >(int)", "k<f<int>>(int)"),
        ("k<[lambda(int) (instance 2)]>(T1)", "void k<{lambda(int)#2}>(T1)"),
        ("k<(ns::Mode)-1>(int)", "k<-1>(int)"),
    ],
)
def test_tools_that_spell_one_name_differently_agree(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("k<4>(float *)", "k<8>(float *)"),
        ("k<f2>(int)", "k<f3>(int)"),
        ("k<true>(int)", "k<false>(int)"),
        ("a::k(int)", "b::k(int)"),
        ("k<unsigned int>(int)", "k<int>(int)"),
    ],
)
def test_names_that_mean_different_kernels_stay_apart(one, other):
    ours, theirs = same_kernels([one], [other])
    assert ours[0] != theirs[0]


def test_parameters_may_be_abbreviated_where_no_overload_could_be_meant():
    full = "void at::k<4, at::F<float>, std::array<char*, 3ul> >(int, at::F<float>)"
    short = "void at::k<(int)4, at::F<float>, std::array<char *, (unsigned long)3>>(int, T2)"
    ours, theirs = same_kernels([full], [short])
    assert ours[0] == theirs[0]
    ours, theirs = same_kernels(["k(float*)", "k(double*)"], ["k(T1)"])
    assert theirs[0] not in ours


def test_a_return_type_and_const_do_not_part_kernels():
    one = "enable_if<!T7, void>::type kernel<int, P<const half>, (int)1>(T13)"
    other = "std::enable_if<!(false), void>::type kernel<int, P<half const>, 1>(P<half>)"
    ours, theirs = same_kernels([one], [other])
    assert ours[0] == theirs[0]
    assert without_parameters(normalised(one)) == "kernel<int,P<half>,1>"


def test_a_function_without_its_namespace_stands_for_the_only_one_of_that_name():
    ours, theirs = same_kernels(["void ns::march<float>(float*)"], ["march"])
    assert ours[0] == theirs[0]
    ours, theirs = same_kernels(["void a::march<1>(int)", "void a::march<2>(int)"], ["march"])
    assert theirs[0] not in ours
    assert bare("ns::march<a::b>(float*)") == "march"


def test_a_kernel_without_a_name_is_no_kernel_of_the_other_side():
    ours, theirs = same_kernels([""], [""])
    assert ours[0] != theirs[0]


SIMILAR = ["k(int)", "k<1>(T1)", "k<2>(T1)", "a::k<1>(int)", "k", "f(int)", "f"]


@given(st.lists(st.sampled_from(SIMILAR)))
def test_no_name_of_one_side_is_matched_with_two_of_the_other(names):
    ours, theirs = sorted(set(names[::2])), sorted(set(names[1::2]))
    codes = same_kernels(ours, theirs)
    assert len(set(codes[0])) == len(ours)
    assert len(set(codes[1])) == len(theirs)


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


@settings(max_examples=60)
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


@settings(max_examples=60)
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


# The samples.


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Return a function that joins a sample of counters to a sample of a timeline."""
    root = tmp_path_factory.mktemp("cache")

    def get(timeline, counters, window=""):
        trace = open_trace(SYNTHETIC / f"synthetic_{timeline}.sqlite", root)
        return investigate(
            trace,
            window,
            counters=open_trace(SYNTHETIC / f"synthetic_counters_{counters}.ncu-rep", root),
        )

    return get


def test_divergence_is_named_with_its_time_in_the_window(sample):
    result = sample("divergence", "divergence")
    report = result.report
    kernel_ns = sum(result.facts.duration_ns)  # one stream, nothing overlaps
    lost = kernel_ns * (1 - 10.4 / 32) * (0.72 + 1.0) / 2
    assert report.verdict.cause == "divergence"
    assert report.devices[0].rows[Row.DIVERGENCE] == pytest.approx(lost, abs=1)
    assert report.findings[0].id == "divergence.idle_lanes"
    assert report.findings[0].lost_ns == report.devices[0].rows[Row.DIVERGENCE]
    assert report.verdict.share == pytest.approx(lost / report.window.duration_ns)
    assert Cause.DIVERGENCE in report.verdict.examined
    steps = len(report.iterations)
    each = lost / steps / 1e6
    assert f"Divergence in `collatz_steps` costs {each:.3g} ms of each" in report.verdict.sentence
    assert report.verdict.sentence.endswith(" step.")
    assert report.counters["covered_share"] == 1
    assert report.counters["duration_ratio"] == pytest.approx(1, abs=0.01)


def test_the_same_holds_for_one_iteration(sample):
    report = sample("divergence", "divergence", "iteration:3").report
    assert report.verdict.cause == "divergence"
    assert sum(report.devices[0].rows.values()) == report.window.duration_ns


def test_a_finding_inside_kernels_shows_a_launch_on_the_timeline(sample):
    result = sample("divergence", "divergence")
    places = [e for e in result.report.findings[0].evidence if e.start_ns >= 0]
    starts = result.facts.launches["start_ns"].tolist()
    assert places
    assert all(e.start_ns in starts for e in places)


def test_memory_is_named_where_it_holds_kernels_up(sample):
    report = sample("dram", "uncoalesced").report
    assert report.verdict.cause == "bandwidth"
    ids = [f.id for f in report.findings]
    assert ids[0] == "bandwidth.uncoalesced_access"
    assert "bandwidth.dram_saturation" not in ids, "counters tell more than samples"
    rows = report.devices[0].rows
    bandwidth, kernel_ns = rows[Row.BANDWIDTH], sum(rows[row] for row in KERNEL_ROWS)
    # Sectors in vain, and half of what device memory needs beyond compute without them.
    share = 0.75 * (0.55 + 1) / 2 + (0.91 / 4 - 0.12) / 2
    assert bandwidth == pytest.approx(share * kernel_ns, rel=1e-6)
    assert sum(f.lost_ns for f in report.findings if f.row is Row.BANDWIDTH) == bandwidth


def test_counters_of_another_program_join_nothing_and_say_so(sample):
    report = sample("divergence", "uncoalesced").report
    assert report.verdict.cause == "healthy"
    assert report.counters["covered_ns"] == 0
    assert report.devices[0].rows[Row.BANDWIDTH] == 0
    note = next(n for n in report.quality if n.code == "counters_fit_nothing")
    assert note.level == "warning"
    assert "vectorized_elementwise_kernel" in note.message
    skipped = {s.id: s.reason for s in report.skipped}
    assert "match no kernel in the window" in skipped["divergence.idle_lanes"]
    assert "`ncu " in skipped["divergence.idle_lanes"]


@pytest.mark.parametrize("timeline", [p.stem.partition("_")[2] for p in SYNTHETIC.glob("*.sqlite")])
def test_every_sample_stays_closed_and_survives_being_written(sample, timeline):
    for counters in ("divergence", "uncoalesced"):
        report = sample(timeline, counters).report
        assert report.failed == ()
        for device in report.devices:
            assert sum(device.rows.values()) == device.duration_ns
        text = json.dumps(report.to_dict(), allow_nan=False)
        assert Report.from_dict(json.loads(text)) == report


def test_what_clocks_do_is_said(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20], "duration_us": 10})
    slow = profiled(tmp_path / "c", {"duration_ns": 15_000})
    note = next(n for n in analyze(facts.trace, counters=slow).quality if "clock" in n.code)
    assert note.level == "warning"
    assert "1.50 times as long" in note.message
    assert "--clock-control none" in note.message


def test_without_counters_nothing_changes(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20], "duration_us": 10})
    assert analyze(facts.trace).counters == {}


def test_only_counters_are_joined_and_only_to_a_timeline(tmp_path):
    timeline = make_trace(tmp_path / "t", kernels={"start_us": [0], "duration_us": 10})
    counters = profiled(tmp_path / "c", {})
    with pytest.raises(RefusedError, match="holds no counters"):
        analyze(timeline, counters=timeline)
    with pytest.raises(RefusedError, match="no timeline"):
        analyze(counters, counters=counters)


def test_a_missing_metric_is_asked_for_in_the_launches_of_the_window(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 20, 40, 60], "duration_us": 10})
    lacking = profiled(tmp_path / "c", {"active": float("nan"), "live": float("nan")})
    report = analyze(facts.trace, "span:35000-90000", counters=lacking)
    reason = next(s.reason for s in report.skipped if s.id == "divergence.idle_lanes")
    command = shlex.split(reason.split("`")[1])
    assert command[command.index("--launch-skip") + 1] == "2"


def test_a_healthy_timeline_says_that_kernels_were_examined(tmp_path):
    facts = build(tmp_path, kernels={"start_us": [0, 10], "duration_us": 10})
    good = {"waves": 20.0, "compute": 90.0}
    verdict = analyze(facts.trace, counters=profiled(tmp_path / "c", good)).verdict
    assert verdict.sentence.startswith("Healthy on the timeline and inside kernels")
    assert Cause.DIVERGENCE in verdict.examined


def test_little_coverage_does_not_make_a_cause_examined(tmp_path):
    kernels = {"start_us": [0, 10], "duration_us": [1, 99], "name": ["a", "b"]}
    facts = build(tmp_path, kernels=kernels)
    verdict = analyze(facts.trace, counters=profiled(tmp_path / "c", {"name": "a"})).verdict
    assert Cause.DIVERGENCE in verdict.not_examined
    assert "in kernels that the counters do not cover" in verdict.sentence


def test_launches_of_several_processes_have_no_common_order(tmp_path):
    kernels = {"start_us": [0, 20], "duration_us": 10, "process": [PROCESS, PROCESS + 1]}
    facts = build_facts(make_trace(tmp_path, kernels=kernels))
    joined = join(facts, profiled(tmp_path / "c", {"live": 4.0}, {"live": 12.0}))
    values = joined.counters.metric(SHORT["live"])[joined.row]
    assert list(itertools.chain(values)) == [8.0, 8.0]


# Around the analysis.

TIMELINE = SYNTHETIC / "synthetic_divergence.sqlite"
COUNTERS = SYNTHETIC / "synthetic_counters_divergence.ncu-rep"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return a library that holds a timeline and its counters, and their ids."""
    data = tmp_path_factory.mktemp("data")
    ids = [open_sample(str(path), data).trace.id for path in (COUNTERS, TIMELINE)]
    return data, ids[1], ids[0]


def diagnosed(capsys, data, *arguments):
    status = cli.main(["diagnose", *map(str, arguments), "--data-dir", str(data)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_line_joins_counters(both, capsys):
    status, said, _ = diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS)
    assert status == 0
    assert said.startswith("Divergence-bound")
    assert "in `collatz_steps` costs" in said
    status, said, _ = diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS, "--json")
    report = json.loads(said)
    assert report["counters"]["name"] == COUNTERS.name
    assert sum(report["devices"][0]["ledger"].values()) == report["devices"][0]["duration_ns"]


def test_an_answer_with_counters_is_kept_apart_from_one_without(both, capsys):
    with_counters = diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS)[1]
    without = diagnosed(capsys, both[0], TIMELINE)[1]
    assert without.startswith("Healthy on the timeline")
    assert diagnosed(capsys, both[0], TIMELINE, "--counters", COUNTERS)[1] == with_counters


@pytest.mark.parametrize(
    ("path", "counters", "trouble"),
    [
        (TIMELINE, TIMELINE, "holds no counters to join"),
        (COUNTERS, COUNTERS, "no timeline to join"),
        (TIMELINE, "missing.ncu-rep", "missing.ncu-rep"),
    ],
)
def test_what_cannot_be_joined_is_refused_in_one_line(both, capsys, path, counters, trouble):
    status, said, error = diagnosed(capsys, both[0], path, "--counters", counters)
    assert (status, said) == (2, "")
    assert trouble in error
    assert error.count("\n") == 1


def test_the_overview_offers_counters_and_the_address_keeps_them(both):
    data, timeline, counters = both
    with library(data):
        app = draw(trace=timeline)
        assert "Healthy on the timeline" in words(app)
        app.selectbox(key="pick_counters").set_value(counters).run()
        assert "Divergence-bound" in words(app)
        assert app.query_params["counters"] == counters
        app.selectbox(key="pick_counters").set_value("").run()
        assert "counters" not in app.query_params
        assert "Healthy on the timeline" in words(app)
    assert not app.exception


@pytest.mark.parametrize("page", ["overview", "kernels"])
def test_pages_show_the_counters_that_the_address_names(both, page):
    data, timeline, counters = both
    with library(data):
        app = draw(page, trace=timeline, counters=counters)
    assert not app.exception
    assert not app.error
    assert app.selectbox(key="pick_counters").value == counters


def test_other_pages_open_with_counters_in_the_address(both):
    data, timeline, counters = both
    with library(data):
        app = draw("timeline", trace=timeline, counters=counters)
    assert not app.exception
    assert not app.error


def test_counters_that_are_gone_are_said_and_can_be_left(both):
    data, timeline, _ = both
    with library(data):
        app = draw(trace=timeline, counters="0123456789abcdef-5")
        assert "not in the library" in app.error[0].value.replace("\\", "")
        app.selectbox(key="pick_counters").set_value("").run()
    assert not app.error


def test_a_recording_of_counters_is_offered_none(both):
    data, _, counters = both
    with library(data):
        app = draw(trace=counters)
    assert [s.key for s in app.selectbox] == ["pick_recording", "pick_window"]


def test_the_key_of_an_analysis_covers_the_counters(both):
    data, timeline, counters = both
    with library(data):
        trace = cache.get(timeline)
        first = api.analyse(trace, "", counters)
        second = api.analyse(trace, "")
    assert first.folder != second.folder
    assert (first.report.verdict.cause, second.report.verdict.cause) == ("divergence", "healthy")
