"""Kernels that replace each other are one row, by operator and shape, else by their place."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.compare.compare import compare
from analyzers.compare.kernel_changes import kernel_changes
from analyzers.compare.measure import measure
from analyzers.compare.side import WorkKey
from analyzers.compare.types import Certainty, KernelMatch
from analyzers.compare.work_changes import work_changes
from analyzers.facts.facts import build_facts
from analyzers.words import TIMES
from collectors import open_trace
from reports.comparison import comparison_summary
from reports.kernel_changes import kernel_title, match_text
from reports.terminal import terminal_text
from tests.compare_scenarios import kernels_of, side, work_of

ONE, TWO = (64, 1, 1, 256, 1, 1), (32, 1, 1, 128, 1, 1)
CONV = WorkKey("convolution", "aten::convolution", "[[32,64,56,56],[64,64,3,3]]", "[]")
OTHER_CONV = CONV._replace(shapes="[[32,128,28,28],[128,128,3,3]]")
COUNT = 9
SAMPLES = Path(__file__).parent.parent / "traces" / "synthetic"


def sides(base, new, sequences=(None, None), works=(None, None), keys=(CONV, OTHER_CONV), **more):
    """Return two runs of nine iterations, of kernels given as nanoseconds by (name, shape)."""
    made = []
    for number, (by_kernel, sequence, work) in enumerate(
        zip((base, new), sequences, works, strict=True)
    ):
        kernels = kernels_of(by_kernel, COUNT, sequence, work=work, **more)
        one = side([1_000.0] * COUNT, name=f"side {number}")
        by_key = dict.fromkeys(keys, (100, 1)) if work else {}
        made.append(dataclasses.replace(one, kernels=kernels, work=work_of(by_key, COUNT)))
    return made


def rows(base, new, **options):
    pair = sides(base, new, **options)
    return {kernel_title(k): k for k in kernel_changes([pair[0]], [pair[1]])}


def test_a_chain_that_one_kernel_replaces_between_the_same_neighbours_is_one_row():
    base = {("gemm", ONE): 500, ("add", ONE): 100, ("gelu", TWO): 60, ("norm", ONE): 40}
    new = {("gemm", ONE): 500, ("fused", (8, 1, 1, 512, 1, 1)): 90, ("norm", ONE): 40}
    found = rows(base, new, sequences=([0, 1, 2, 3], [0, 1, 2]))
    assert set(found) == {"gemm", "norm", "add + gelu → fused"}
    fused = found["add + gelu → fused"]
    assert fused.kind is KernelMatch.REPLACED
    assert (fused.time.base, fused.time.new) == (160, 90)
    assert (fused.base_launches, fused.new_launches) == (2, 1)
    assert [m.name for m in fused.base_members] == ["add", "gelu"]
    assert match_text(fused) == (
        "between gemm and norm: 2 kernels became 1; the longest: grid 64 → 8, block 256 → 512"
    )


@pytest.mark.parametrize(
    ("numbers", "where"),
    [
        ([1, 1, 1, 1], "in layer3, between"),
        ([0, 1, 2, 0], "in layer3 and 1 more, between"),
        ([1, 0, 0, 1], "between"),
    ],
)
def test_the_ranges_that_launched_what_was_replaced_are_named(numbers, where):
    base = {("gemm", ONE): 500, ("add", ONE): 100, ("gelu", TWO): 60, ("norm", ONE): 40}
    new = {("gemm", ONE): 500, ("fused", (8, 1, 1, 512, 1, 1)): 90, ("norm", ONE): 40}
    pair = sides(base, new)
    named = dataclasses.replace(
        pair[0].kernels, ranges=("", "layer3", "layer4"), sequence_range=np.array(numbers)
    )
    pair[0] = dataclasses.replace(pair[0], kernels=named)
    found = {kernel_title(k): k for k in kernel_changes([pair[0]], [pair[1]])}
    assert match_text(found["add + gelu → fused"]).startswith(f"{where} gemm and norm: ")


def test_a_recording_tells_in_which_range_kernels_were_replaced(tmp_path):
    pair = [
        measure(build_facts(open_trace(SAMPLES / f"synthetic_pair_{name}.sqlite", tmp_path)))
        for name in ("baseline", "optimized")
    ]
    row = next(k for k in kernel_changes([pair[0]], [pair[1]]) if k.kind is KernelMatch.REPLACED)
    assert match_text(row) == (
        "in forward, before Kernel2: 1 kernel became another; grid 264 → 2,112"
    )
    assert (row.base_launches, row.new_launches) == (60, 1)
    assert {m.registers for m in (*row.base_members, *row.new_members)} == {32}


def test_kernels_of_one_operator_with_the_same_shapes_replace_each_other_wherever_they_stand():
    base = {("winograd", ONE): 700, ("im2col", TWO): 80, ("norm", ONE): 40}
    new = {("norm", ONE): 40, ("implicit_gemm", TWO): 500}
    found = rows(base, new, sequences=([0, 1, 2], [0, 1]), works=([0, 0, -1], [-1, 0]))
    conv = found["winograd + im2col → implicit_gemm"]
    assert (conv.operator, conv.time.base, conv.time.new) == ("aten::convolution", 780, 500)
    where = "aten::convolution 32x64x56x56, 64x64x3x3: ".replace("x", TIMES)
    assert match_text(conv).startswith(f"{where}2 kernels became 1; the longest: ")


def test_another_shape_of_the_same_operator_is_not_the_same_work():
    base = {("winograd", ONE): 700, ("norm", ONE): 40}
    new = {("norm", ONE): 40, ("implicit_gemm", TWO): 500}
    found = rows(base, new, works=([0, -1], [-1, 1]))
    assert found["winograd"].kind is KernelMatch.GONE
    assert found["implicit_gemm"].kind is KernelMatch.NEW


def test_a_kernel_that_was_used_elsewhere_before_replaces_another_one_in_part():
    """The library picks for one convolution what it had already picked for another one."""
    base = {("winograd", ONE): 700, ("implicit_gemm", TWO): 500}
    new = {("implicit_gemm", TWO): 1_200}
    found = rows(base, new, sequences=([0, 1], [0, 0]), works=([0, 1], [0, 1]))
    assert set(found) == {"winograd → implicit_gemm", "implicit_gemm"}
    assert found["winograd → implicit_gemm"].time.new == 600
    assert found["implicit_gemm"].time.change == 100
    assert [m.launches for m in found["implicit_gemm"].new_members] == [1]


def test_a_kernel_that_only_replaces_another_one_is_no_kernel_of_its_own_there():
    base = {("winograd", ONE): 700, ("implicit_gemm", TWO): 500}
    new = {("implicit_gemm", TWO): 600, ("direct", ONE): 300}
    found = rows(base, new, works=([0, 1], [0, 1]))
    assert {(k.kind, k.name, k.new_name) for k in found.values()} == {
        (KernelMatch.REPLACED, "winograd", "implicit_gemm"),
        (KernelMatch.REPLACED, "implicit_gemm", "direct"),
    }


def test_kernels_that_took_no_time_are_divided_by_their_launches():
    base = {("gemm", ONE): 500, ("add", ONE): 0, ("norm", ONE): 40}
    new = {("gemm", ONE): 500, ("norm", ONE): 40, ("fused_a", TWO): 30, ("fused_b", TWO): 20}
    found = rows(base, new, sequences=([0, 1, 2, 1, 1, 1], [0, 2, 1, 3]))
    assert found["add → fused_b"].base_launches == 0.75
    assert sum(k.time.base for k in found.values()) == 540


def test_a_kernel_that_is_replaced_at_two_places_has_its_time_divided_between_them():
    base = {("gemm", ONE): 500, ("add", ONE): 100, ("norm", ONE): 40}
    new = {("gemm", ONE): 500, ("norm", ONE): 40, ("fused_a", TWO): 30, ("fused_b", TWO): 20}
    found = rows(base, new, sequences=([0, 1, 2, 1, 1, 1], [0, 2, 1, 3]))
    assert found["add → fused_a"].time.base == 25
    assert found["add → fused_b"].time.base == 75
    assert found["add → fused_b"].base_launches == 0.75  # of one a test's table counts


@pytest.mark.parametrize(("members", "is_one"), [(16, True), (17, False)])
def test_a_gap_that_holds_nearly_everything_says_nothing(members, is_one):
    base = {("first", ONE): 10} | {(f"k{n}", (n + 2, 1, 1, 32, 1, 1)): 10 for n in range(members)}
    new = {("first", ONE): 10, ("other", (999, 1, 1, 64, 1, 1)): 90}
    kinds = {k.kind for k in rows(base, new).values()}
    assert (KernelMatch.REPLACED in kinds) == is_one


def test_the_same_kernel_launched_otherwise_says_what_changed():
    resources = {"resources": [[32, 0], [16, 512]]}
    base, new = {("k", ONE): 100, ("l", ONE): 9}, {("k", TWO): 50, ("l", ONE): 9}
    pair = sides(base, new, **resources)
    after = [[48, 1_000], [16, 512]]
    changed = dataclasses.replace(
        pair[1],
        kernels=dataclasses.replace(pair[1].kernels, resources=np.array(after)),
    )
    found = {k.name: k for k in kernel_changes([pair[0]], [changed])}
    assert found["k"].kind is KernelMatch.RESHAPED
    assert match_text(found["k"]) == (
        "grid 64 → 32, block 256 → 128, registers 32 → 48, shared memory 0 B → 1 kB"
    )
    assert match_text(found["l"]) == "same launch configuration"


def test_registers_alone_may_be_what_changed():
    pair = sides({("k", ONE): 100}, {("k", ONE): 50}, resources=[[32, 0]])
    other = dataclasses.replace(pair[1].kernels, resources=np.array([[64, 0]]))
    (row,) = kernel_changes([pair[0]], [dataclasses.replace(pair[1], kernels=other)])
    assert match_text(row) == "same launch configuration; registers 32 → 64"


def test_several_runs_of_a_side_count_in_the_row_of_what_was_replaced():
    base = {("gemm", ONE): 500, ("add", ONE): 100}
    new = {("gemm", ONE): 500, ("fused", (8, 1, 1, 512, 1, 1)): 60}
    pairs = [sides(base, {**new, ("fused", (8, 1, 1, 512, 1, 1)): ns}) for ns in (60, 64)]
    found = kernel_changes([p[0] for p in pairs], [p[1] for p in pairs])
    row = next(k for k in found if k.kind is KernelMatch.REPLACED)
    assert (row.time.base, row.time.new) == (100, 62)


def test_what_was_replaced_is_the_same_work_and_no_less_of_it():
    keys = [WorkKey("elementwise", "", "", "", n) for n in ("gemm", "add", "fused")]
    base = {("gemm", ONE): 500, ("add", ONE): 100}
    new = {("gemm", ONE): 500, ("fused", (8, 1, 1, 512, 1, 1)): 40}
    pair = sides(base, new)
    works = [
        work_of({keys[0]: (500, 1), keys[1]: (100, 60)}, COUNT),
        work_of({keys[0]: (500, 1), keys[2]: (40, 1)}, COUNT),
    ]
    pair = [dataclasses.replace(s, work=w) for s, w in zip(pair, works, strict=True)]
    changes = work_changes([pair[0]], [pair[1]], kernel_changes([pair[0]], [pair[1]]))
    (changed,) = [c for c in changes if c.time.change]
    assert (changed.kernel, changed.new_kernel) == ("add", "fused")
    assert (changed.amount_ns, changed.speed_ns) == (0, -60)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_sum_to_the_kernel_time_of_both_sides_whatever_replaces_what(data):
    names = st.sampled_from(["gemm", "norm", "a", "b", "c", "d"])
    programs = [
        data.draw(st.lists(st.tuples(names, st.integers(-1, 1)), min_size=1, max_size=12))
        for _ in "ab"
    ]
    kernels, sequences, works = [], [], []
    for number, program in enumerate(programs):
        used = list(
            dict.fromkeys(
                name if name in ("gemm", "norm") else f"{name}{number}" for name, _ in program
            )
        )
        kernels.append({(name, ONE): 1_000 * (place + 1) for place, name in enumerate(used)})
        sequences.append(
            [
                used.index(name if name in ("gemm", "norm") else f"{name}{number}")
                for name, _ in program
            ]
        )
        works.append([work for _, work in program])
    pair = sides(*kernels, sequences=sequences, works=works)
    found = kernel_changes([pair[0]], [pair[1]])
    for of_side, quantity in zip(kernels, ("base", "new"), strict=True):
        assert sum(getattr(k.time, quantity) for k in found) == pytest.approx(
            sum(of_side.values()), abs=len(found)
        )
        launched = sum(getattr(k, f"{quantity}_launches") for k in found)
        assert launched == pytest.approx(len(of_side))


def test_the_summary_names_the_largest_changes_even_where_nothing_was_tested():
    pair = [
        side([time], name=name, loop="", kernels={("scan", ONE): ns, ("tiny", ONE): 40})
        for name, time, ns in (("base", 1_000.0, 600_000), ("new", 900.0, 500_000))
    ]
    answer = compare([pair[0]], [pair[1]])
    text = terminal_text(comparison_summary(answer))
    assert "Kernels, largest change first" in text
    assert Certainty.NOT_TESTED.value in text
    assert "tiny" not in text.partition("Kernels, largest")[2].partition("How it was")[0]
    rows = json.loads(answer.to_json())["kernels"]
    assert [(r["name"], r["certainty"]) for r in rows] == [
        ("scan", "not tested"),
        ("tiny", "no change"),
    ]
