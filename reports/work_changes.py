"""Kernel time of both sides by class and shape, in words: slower work told from more work."""

from __future__ import annotations

from collections.abc import Sequence

from analyzers.compare.types import WorkChange
from analyzers.words import count_text, name_text, time_text
from analyzers.work.classes import TITLES, WorkClass
from reports.busy_time import shapes_text

NOTABLE_SHARE = 0.01  # of the kernel time before; a smaller part is not worth a clause


def work_change_name(change: WorkChange) -> str:
    """Return what was done: operator and shapes, else the kernel's name."""
    name = change.operator or name_text(change.kernel)
    if change.new_kernel:
        name = f"{name} → {name_text(change.new_kernel)}"
    return f"{name} {shapes_text(change.shapes)}".strip()


def class_words(change: WorkChange) -> str:
    """Return the class of a change's work."""
    return TITLES[WorkClass(change.work_class)]


def change_reason(change: WorkChange) -> str:
    """Say why the kernel time of some work changed: its calls, their number, or both."""
    if not change.base_calls:
        return "only in the new side"
    if not change.new_calls:
        return "only in the baseline"
    same = "replaced" if change.new_kernel else "same work"
    if abs(change.amount_ns) >= abs(change.speed_ns):
        more = "more" if change.new_calls > change.base_calls else "fewer"
        return f"{more} calls" if change.amount_ns else "no change"
    if change.time.p_adjusted is not None and not (
        change.time.significant or change.time.significant_in_runs
    ):
        return f"{same}, within the noise"
    return f"{same}, slower" if change.speed_ns > 0 else f"{same}, faster"


def work_sentence(changes: Sequence[WorkChange], each: str) -> str:
    """Say how the kernel time changed: by work that got slower or faster, or by more or less work.

    Args:
        changes: All of them, so that their times sum.
        each: What the times are given for: ``per iteration``, ``in the window``.
    """
    base, new = (round(sum(getattr(c.time, side) for c in changes)) for side in ("base", "new"))
    if not base and not new:
        return ""
    speed, amount = (sum(getattr(c, n) for c in changes) for n in ("speed_ns", "amount_ns"))
    text = f"Kernel time {each}: {time_text(base)} before, {time_text(new)} now"
    clauses = [
        clause
        for clause in (_speed_clause(changes, speed, base), _amount_clause(changes, amount, base))
        if clause
    ]
    if not clauses:
        return f"{text}; neither the work nor its speed changed by more than 1 %."
    has_shapes = any(c.shapes for c in changes)
    basis = (
        ""
        if has_shapes
        else " Without recorded shapes, all launches of a kernel count as the same."
    )
    return f"{text}. {'; '.join(clauses)}.{basis}"


def _speed_clause(changes: Sequence[WorkChange], speed: int, base: int) -> str:
    if abs(speed) < NOTABLE_SHARE * max(base, 1):
        return ""
    most = max(changes, key=lambda c: c.speed_ns * (1 if speed > 0 else -1))
    words = "slower" if speed > 0 else "faster"
    before, now = (most.time.base / most.base_calls, most.time.new / most.new_calls)
    each = f"{time_text(before)} before, {time_text(now)} now for each call"
    if most.new_kernel:
        each = f"{time_text(most.time.base)} before, {time_text(most.time.new)} now"
    return (
        f"The same work is {time_text(abs(speed))} {words}, most of it "
        f"`{work_change_name(most)}` ({each})"
    )


def _amount_clause(changes: Sequence[WorkChange], amount: int, base: int) -> str:
    if abs(amount) < NOTABLE_SHARE * max(base, 1):
        return ""
    sign = 1 if amount > 0 else -1
    most = max(changes, key=lambda c: c.amount_ns * sign)
    before, now = (f"{n:,.1f}".removesuffix(".0") for n in (most.base_calls, most.new_calls))
    words = "more from more calls" if amount > 0 else "less from fewer calls"
    return (
        f"{time_text(abs(amount))} {words} or other shapes, most of it "
        f"`{work_change_name(most)}` (calls: {before} before, {now} now)"
    )


def hidden_words(changes: Sequence[WorkChange], most: int) -> str:
    """Say how many smaller changes a table leaves out; empty for none."""
    hidden = len(changes) - most
    return f" {count_text(hidden, 'smaller change')} not shown." if hidden > 0 else ""
