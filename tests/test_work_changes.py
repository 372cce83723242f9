"""Kernel time of two sides by work: slower calls told from more calls, sums to the nanosecond."""

# ruff: noqa: RUF001 - sizes are written with the sign of multiplication

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.compare import work_changes as module
from analyzers.compare.measure import measure
from analyzers.compare.side import WorkKey
from analyzers.compare.work_changes import work_changes
from analyzers.facts.facts import build_facts
from analyzers.finding import Row
from analyzers.ledger.booking import ROW_CODE
from reports.work_changes import change_reason, work_sentence
from tests.compare_scenarios import side, work_of
from tests.test_work_account import ADD, GEMM, GPU, PRODUCT, SUM, launched, op
from tests.torch_traces import opener, x

MM = WorkKey("matmul", "aten::mm", "[[8,8],[8,8]]", '["float","float"]')
WIDE = WorkKey("matmul", "aten::mm", "[[8,16],[16,8]]", '["float","float"]')
ADDED = WorkKey("elementwise", "aten::add", "[[8,8],[8,8]]", '["float","float"]')


def sides_of(work, count=4):
    return [side([100] * count, work=work_of(work, count))]


@pytest.mark.parametrize(
    ("before", "now", "speed", "amount", "reason"),
    [
        ((1_000, 10), (1_500, 10), 500, 0, "same work, slower"),
        ((1_000, 10), (700, 10), -300, 0, "same work, faster"),
        ((1_000, 10), (1_200, 12), 0, 200, "more calls"),
        ((1_000, 10), (800, 8), 0, -200, "fewer calls"),
        ((1_000, 10), (1_800, 12), 600, 200, "same work, slower"),
        ((1_000, 10), (1_000, 10), 0, 0, "no change"),
    ],
)
def test_slower_work_is_told_from_more_work(before, now, speed, amount, reason):
    (change,) = work_changes(sides_of({MM: before}), sides_of({MM: now}))
    assert (change.speed_ns, change.amount_ns) == (speed, amount)
    assert change_reason(change) == reason


def test_a_change_that_was_tested_and_not_found_is_called_noise():
    (change,) = work_changes(sides_of({MM: (1_000, 10)}), sides_of({MM: (1_100, 10)}))
    tested = replace(change.time, p_adjusted=0.4)
    assert change_reason(replace(change, time=tested)) == "same work, within the noise"
    sure = replace(tested, significant=True)
    assert change_reason(replace(change, time=sure)) == "same work, slower"


def test_other_shapes_are_other_work():
    changes = work_changes(sides_of({MM: (1_000, 1)}), sides_of({WIDE: (3_000, 1)}))
    assert [c.amount_ns for c in changes] == [3_000, -1_000]
    assert [c.speed_ns for c in changes] == [0, 0]
    assert [change_reason(c) for c in changes] == ["only in the new side", "only in the baseline"]


def test_the_sentence_names_what_got_slower_and_what_is_more():
    base = sides_of({MM: (10_000, 10), ADDED: (2_000, 1)})
    new = sides_of({MM: (15_000, 10), ADDED: (6_000, 3)})
    text = work_sentence(work_changes(base, new), "per iteration")
    assert text == (
        "Kernel time per iteration: 12 µs before, 21 µs now. The same work is 5 µs slower, most "
        "of it `aten::mm 8×8, 8×8` (1 µs before, 1.50 µs now for each call); 4 µs more from more "
        "calls or other shapes, most of it `aten::add 8×8, 8×8` (calls: 1 before, 3 now)."
    )
    same = work_sentence(work_changes(base, base), "in the window")
    assert "neither the work nor its speed changed" in same
    assert work_sentence((), "in the window") == ""


@given(
    times=st.lists(
        st.tuples(*[st.tuples(st.integers(0, 10**6), st.integers(1, 9))] * 2), max_size=6
    ),
    limit=st.integers(1, 8),
)
@settings(max_examples=40, deadline=None)
def test_rows_sum_to_both_sides_and_parts_to_each_change(times, limit):
    keys = [WorkKey("matmul", f"op{n}", "", "") for n in range(len(times))]
    pairs = [dict(zip(keys, (t[n] for t in times), strict=True)) for n in (0, 1)]
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "MAX_ROWS", limit)
    changes = work_changes(*(sides_of(work, 3) for work in pairs))
    patch.undo()
    assert len(changes) <= limit
    for place, name in enumerate(("base", "new")):
        total = sum(t[place][0] for t in times)
        assert sum(getattr(c.time, name) for c in changes) == total
    for change in changes:
        assert change.speed_ns + change.amount_ns == change.time.change


def steps(product_us):
    """Return five steps of a product and a sum, which overlap by 10 µs."""
    events = []
    for step in range(5):
        at = 1_000 * step
        events.append(x("user_annotation", f"step {step}", at, 900))
        events += [op("aten::mm", at, 9, PRODUCT), op("aten::add", at + 10, 9, SUM)]
        events += launched(2 * step + 1, at + 1, at + 100, product_us, GEMM)
        events += launched(2 * step + 2, at + 11, at + 90 + product_us, 100, ADD, stream=8)
    return events


def test_two_recordings_sum_to_the_kernel_rows_of_their_iterations(tmp_path):
    sides = []
    for name, us in (("a.json", 200), ("b.json", 300)):
        trace = opener(tmp_path)(steps(us), name=name, deviceProperties=[GPU])
        sides.append(measure(build_facts(trace)))
    changes = work_changes(sides[:1], sides[1:])
    for one, name in zip(sides, ("base", "new"), strict=True):
        kernel = one.ledger_ns[one.kept, ROW_CODE[Row.KERNEL]]
        assert sum(getattr(c.time, name) for c in changes) == np.rint(kernel.mean())
        table, keys = one.regions.by_iteration, one.regions.keys
        for level in {key[0] for key in keys}:
            of_kernels = [key[0] == level and key[2] == "kernel" for key in keys]
            of_level = np.array(of_kernels)[table.column]
            assert table.ns[of_level].sum() == one.ledger_ns[:, ROW_CODE[Row.KERNEL]].sum()
        assert set(one.counts["operator FLOP"]) == {2 * 4_096**3 + 4_096**2}
        assert set(one.counts["operator traffic"]) == {3 * 4_096**2 * (2 + 4)}
    by_operator = {c.operator: c for c in changes}
    assert by_operator["aten::mm"].speed_ns == 100_000
    assert by_operator["aten::add"].time.change == 0
    assert by_operator["aten::mm"].base_place is not None
