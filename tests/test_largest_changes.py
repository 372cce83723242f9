"""The largest changes and the next step: what stands beside the waterfall and in a report."""

from dataclasses import replace

import pytest

from analyzers.compare.types import ComparisonVerdict, KernelMatch, RegionChange, SameWork
from analyzers.finding import Row
from reports.largest_changes import caution, largest_changes, next_step
from tests.comparisons_in_memory import MS, comparison, delta

MINUS = "\N{MINUS SIGN}"


def region(name, row, base, new, level="ranges", *, significant=True):
    time = delta(base, new, significant=significant)
    return RegionChange(level=level, name=name, row=row, time=time)


def test_the_largest_come_first_and_no_more_than_three():
    regions = [region(n, Row.HOST, 1.0 * MS, 0.1 * MS * k) for k, n in enumerate("abcd", 1)]
    found = largest_changes(replace(comparison(), kernels=(), regions=tuple(regions)))
    assert [c.words for c in found] == ["host in `a`", "host in `b`", "host in `c`"]
    assert found[0].numbers == f"1 ms → 100 µs ({MINUS}900 µs, {MINUS}90 %)"


def test_kernels_stand_for_their_row_and_are_not_counted_twice():
    regions = (region("a", Row.KERNEL, 3.0 * MS, MS), region("", Row.KERNEL, MS, MS))
    found = largest_changes(replace(comparison(), regions=regions))
    assert [c.words for c in found] == ["`fused_kernel`"]
    assert found[0].numbers == "0 ns → 300 µs (+300 µs)"


@pytest.mark.parametrize(("change", "count"), [(40_000, 1), (39_999, 0)])
def test_what_is_less_than_what_matters_is_no_large_change(change, count):
    regions = (region("a", Row.SYNC, 0, change), region("b", Row.SYNC, 0, 0))
    assert len(largest_changes(replace(comparison(), kernels=(), regions=regions))) == count


def test_what_may_be_chance_is_no_large_change():
    regions = (region("a", Row.SYNC, 0, MS, significant=False), region("b", Row.SYNC, 0, 0))
    assert largest_changes(replace(comparison(), kernels=(), regions=regions)) == []


def test_regions_are_named_at_the_coarsest_level_that_divides_the_program():
    regions = (
        region("all of it", Row.HOST, 2.0 * MS, MS),
        region("a", Row.HOST, 2.0 * MS, 1.5 * MS, "innermost ranges"),
        region("", Row.HOST, 2.0 * MS, 1.5 * MS, "innermost ranges"),
        region("aten::mm", Row.HOST, 2.0 * MS, MS, "operators"),
        region("aten::add", Row.HOST, 0, 0, "operators"),
    )
    found = largest_changes(replace(comparison(), kernels=(), regions=regions))
    assert [c.words for c in found] == ["host in `a`"]


def test_a_renamed_kernel_bears_both_names():
    answer = comparison()
    kernel = replace(
        answer.kernels[1], kind=KernelMatch.RENAMED, short_name="gemm", new_name="void gemm2<int>()"
    )
    (change,) = largest_changes(replace(answer, kernels=(kernel,), regions=()))
    assert "gemm → " in change.words
    assert "gemm2" in change.words


def test_an_operator_keeps_its_whole_name():
    regions = (
        region("aten::copy_", Row.SYNC, MS, 0, "operators"),
        region("x", Row.SYNC, 0, 0, "operators"),
    )
    (change,) = largest_changes(replace(comparison(), kernels=(), regions=regions))
    assert change.words == "sync in `aten::copy_`"


def test_the_next_step_is_the_largest_loss_of_the_new_side():
    assert next_step(comparison()) == (
        "The new side still spends 300 µs of 2 ms (15 %) in launch: idle: the host is busy "
        "launching."
    )


@pytest.mark.parametrize(("launch", "row"), [(100_000, "launch"), (99_999, "kernels")])
def test_below_a_twentieth_of_the_time_the_kernels_are_next(launch, row):
    answer = comparison()
    ledger = {"kernel": 1_900_000, "launch": launch}
    answer = replace(answer, new=replace(answer.new, ledger_ns=ledger))
    expected = {
        "launch": "The new side still spends 100 µs of 2 ms (5.0 %) in launch: ",
        "kernels": "The new side spends 95 % of its time in kernels: see what they do.",
    }
    assert next_step(answer).startswith(expected[row])


def test_after_a_regression_the_largest_change_is_next():
    answer = replace(comparison(), verdict=ComparisonVerdict.REGRESSED)
    assert next_step(answer).startswith("Begin with the largest change")


def test_what_cannot_be_compared_has_no_next_step():
    answer = comparison(ComparisonVerdict.NOT_COMPARABLE)
    assert next_step(answer) == ""
    assert largest_changes(answer) == []


@pytest.mark.parametrize(("is_judged", "words"), [(True, ""), (False, "these are not scaled")])
def test_changes_of_other_amounts_of_work_are_said_not_to_be_scaled(is_judged, words):
    time = delta(2.0 * MS, 2.0 * MS)
    same = SameWork(scale=2.0, name="the same work", time=time, is_judged=is_judged)
    said = caution(replace(comparison(), same_work=same))
    assert words in said
    assert bool(said) is not is_judged
    assert caution(comparison()) == ""
