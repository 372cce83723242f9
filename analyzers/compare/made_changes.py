"""Whether a comparison shows that a change was made which had been predicted.

Each kind of change leaves a trace of its own: launches in graphs, waits that are gone, copies that
hide behind kernels. Only the trace counts, never that the program became faster. ``FELL`` is how
much less of something is needed: a change that was half made is not the one that was predicted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from analyzers.compare.types import Comparison, WorkChange
from analyzers.finding import BUSY_ROWS, KERNEL_ROWS, Row
from analyzers.words import share_text, signed_percent, size_text, time_text
from analyzers.work.classes import WorkClass

FELL = 0.5  # of what was before, at most, is left
KEPT = 0.8  # of what was before, at least: the same work is still done
LESS = 0.8  # of the time or operations before, at most, for kernels nearer to the roof or fused
NEAR_FACTOR = 1.15  # a kernel predicted at twice its speed became 1.74 to 2.3 times as fast
MAX_FOREIGN_SHARE = 0.2  # of the change may come from rows that a change does not touch
CHAINED = (
    WorkClass.ELEMENTWISE,
    WorkClass.NORMALISATION,
    WorkClass.SOFTMAX,
    WorkClass.REDUCTION,
    WorkClass.LAYOUT,
)  # what chains that are fused consist of
_TF32 = re.compile("tf32", re.IGNORECASE)
_NARROW = re.compile(r"[fh]16(?!\d)|bf16|half|hgemm|h884|h1688|h16816", re.IGNORECASE)
PRODUCTS = (WorkClass.MATMUL, WorkClass.CONVOLUTION, WorkClass.ATTENTION)


class ChangeEvidence(NamedTuple):
    """What a comparison shows of a change.

    Attributes:
        is_made: Whether it was made.
        text: The numbers that show it, or that it was not.
    """

    is_made: bool
    text: str


NOTHING_SHOWS = ChangeEvidence(False, "nothing that was recorded would show it")
Evidence = Callable[[Comparison, str], ChangeEvidence]


def evidence_of(comparison: Comparison, change: str) -> ChangeEvidence:
    """Tell whether a change was made between the two sides.

    Args:
        comparison: The two sides.
        change: Its name: ``graph``, ``sync``, ``kernel:gemm:2``, ``kernels.roof:matmul`` …
    """
    evidence = _EVIDENCE.get(change.partition(":")[0])
    return evidence(comparison, change) if evidence is not None else NOTHING_SHOWS


def foreign_change(comparison: Comparison, change: str) -> str:
    """Return the row that a change does not touch and that changed all the same, in words.

    Empty when all but ``MAX_FOREIGN_SHARE`` of the change of the time lies where it belongs.
    """
    rows = {row.row: row for row in comparison.waterfall}
    total = abs(sum(row.change_ns for row in comparison.waterfall))
    touched = _TOUCHED_ROWS.get(change.partition(":")[0], ())
    strange = [rows[row.value] for row in BUSY_ROWS if row not in touched and row.value in rows]
    if touched and set(touched) <= set(KERNEL_ROWS):
        idle = (Row.HOST, Row.SYNC, Row.MEMORY, Row.SETUP, Row.DEPENDENCY)
        strange += [rows[r.value] for r in idle if r.value in rows and rows[r.value].change_ns < 0]
    if sum(abs(row.change_ns) for row in strange) <= MAX_FOREIGN_SHARE * total:
        return ""
    worst = max(strange, key=lambda row: abs(row.change_ns))
    return (
        f"{worst.row} time changed as well, {time_text(worst.base_ns)} to {time_text(worst.new_ns)}"
    )


def _counts(comparison: Comparison, name: str) -> tuple[float, float] | None:
    """Return a quantity of both sides, None where it was recorded on neither."""
    change = next((m.value for m in comparison.metrics if m.name == name), None)
    return None if change is None else (change.base, change.new)


def _row(comparison: Comparison, row: Row) -> tuple[float, float]:
    own = next((r for r in comparison.waterfall if r.row == row.value), None)
    return (0.0, 0.0) if own is None else (float(own.base_ns), float(own.new_ns))


def _fewer(comparison: Comparison, name: str) -> ChangeEvidence:
    counts = _counts(comparison, name)
    if counts is None:
        return ChangeEvidence(False, f"{name} were not recorded")
    base, new = counts
    write = size_text if name.endswith("bytes") else _count_text
    return ChangeEvidence(base > 0 and new <= FELL * base, f"{name} {write(base)} to {write(new)}")


def _count_text(count: float) -> str:
    return f"{count:,.1f}".removesuffix(".0")


def _less_time(comparison: Comparison, row: Row) -> ChangeEvidence:
    base, new = _row(comparison, row)
    text = f"{row.value} time {time_text(base)} to {time_text(new)}"
    return ChangeEvidence(base > 0 and new <= FELL * base, text)


def _graph(comparison: Comparison, _: str) -> ChangeEvidence:
    """Graphs are launched that were not, or one call launches several kernels."""
    graphs = _counts(comparison, "graph launches")
    if graphs is not None and graphs[1] > graphs[0]:
        base, new = map(_count_text, graphs)
        return ChangeEvidence(True, f"graph launches {base} to {new}")
    calls, kernels = (_counts(comparison, name) for name in ("launch calls", "kernel launches"))
    if calls is None or kernels is None:
        return ChangeEvidence(False, "launch calls were not recorded")
    each = [n / max(k, 1.0) for n, k in zip(calls, kernels, strict=True)]
    base, new = map(_count_text, calls)
    return ChangeEvidence(
        each[0] > 0 and each[1] <= FELL * each[0],
        f"launch calls {base} to {new} for {_count_text(kernels[1])} kernels",
    )


def _overlapped(comparison: Comparison, _: str) -> ChangeEvidence:
    """The same bytes are copied, and a smaller part of the copying is exposed."""
    exposed = _row(comparison, Row.TRANSFER)
    moved, spent = (
        [sum(values) for values in zip(*_host_copies(comparison, what), strict=True)] or [0.0, 0.0]
        for what in ("bytes", "time")
    )
    text = f"transfer time that nothing hides {time_text(exposed[0])} to {time_text(exposed[1])}"
    if not moved[0] or not spent[0] or not exposed[0]:
        return ChangeEvidence(False, text)
    before, after = (e / max(s, 1.0) for e, s in zip(exposed, spent, strict=True))
    return ChangeEvidence(moved[1] >= KEPT * moved[0] and after <= FELL * before, text)


def _host_copies(comparison: Comparison, what: str) -> list[tuple[float, float]]:
    both = [_counts(comparison, f"{direction} {what}") for direction in ("HtoD", "DtoH")]
    return [counts for counts in both if counts is not None]


def _pinned(comparison: Comparison, _: str) -> ChangeEvidence:
    """The same bytes are copied, and few of them from memory that is not pinned."""
    evidence = _fewer(comparison, "pageable bytes")
    moved = [sum(v) for v in zip(*_host_copies(comparison, "bytes"), strict=True)] or [0.0, 0.0]
    return ChangeEvidence(evidence.is_made and moved[1] >= KEPT * moved[0], evidence.text)


def _resident(comparison: Comparison, _: str) -> ChangeEvidence:
    moved = [sum(v) for v in zip(*_host_copies(comparison, "bytes"), strict=True)] or [0.0, 0.0]
    text = f"bytes between host and GPU {size_text(moved[0])} to {size_text(moved[1])}"
    return ChangeEvidence(moved[0] > 0 and moved[1] <= FELL * moved[0], text)


def _kernel(comparison: Comparison, change: str) -> ChangeEvidence:
    """The named kernels take about as much less time as was predicted for."""
    name, _, factor = change.removeprefix("kernel:").rpartition(":")
    chosen = [k for k in comparison.kernels if name.casefold() in k.name.casefold()]
    base, new = (sum(getattr(k.time, side) for k in chosen) for side in ("base", "new"))
    text = f"these kernels {time_text(base)} to {time_text(new)}"
    if not base or not new:
        return ChangeEvidence(False, text)
    ratio = base / new / float(factor)
    return ChangeEvidence(1 / NEAR_FACTOR <= ratio <= NEAR_FACTOR, text)


def _roof(comparison: Comparison, change: str) -> ChangeEvidence:
    """Kernels of a class take less time for the same work."""
    chosen = change.partition(":")[2]
    same = [
        w
        for w in comparison.work
        if w.operator and w.base_calls and w.new_calls and (not chosen or w.work_class == chosen)
    ]
    base = sum(w.time.base for w in same)
    faster = -sum(w.speed_ns for w in same)
    text = f"the same operators' kernels {signed_percent(-faster / base)}" if base else (
        "no operator with its shapes is on both sides"
    )  # fmt: skip
    is_narrower = not any(w.types for w in same) and _narrow_kernels(comparison).is_made
    is_made = base > 0 and faster >= (1 - LESS) * base and not is_narrower
    return ChangeEvidence(is_made, text)


def _fused(comparison: Comparison, _: str) -> ChangeEvidence:
    """Operations that are bound by memory are launched less often."""
    rows = [w for w in comparison.work if w.work_class in CHAINED]
    base, new = sum(w.base_calls for w in rows), sum(w.new_calls for w in rows)
    text = f"memory-bound operations {_count_text(base)} to {_count_text(new)}"
    return ChangeEvidence(base > 0 and new <= LESS * base, text)


def _precision(comparison: Comparison, change: str) -> ChangeEvidence:
    """Products take narrower types than before."""
    if change.endswith(":tf32"):
        return _more_time(comparison, _TF32, "kernels in TF32")
    products = [w for w in comparison.work if w.work_class in PRODUCTS and w.types]
    if not products:
        return _narrow_kernels(comparison)
    base, new = (_wide_share(products, side) for side in ("base_calls", "new_calls"))
    text = f"products in 32 bits {share_text(base, 1)} to {share_text(new, 1)} of all"
    return ChangeEvidence(base > 0 and new <= FELL * base, text)


def _narrow_kernels(comparison: Comparison) -> ChangeEvidence:
    return _more_time(comparison, _NARROW, "kernels in 16 bits")


def _more_time(comparison: Comparison, pattern: re.Pattern[str], what: str) -> ChangeEvidence:
    """Tell whether kernels whose names say what they compute in took the place of others."""
    base = sum(
        k.time.base for k in comparison.kernels if k.base_launches and pattern.search(k.name)
    )
    new = sum(
        k.time.new for k in comparison.kernels if k.new_launches and pattern.search(k.new_name)
    )
    text = f"{what} {time_text(base)} to {time_text(new)}"
    return ChangeEvidence(new > 0 and base <= FELL * new, text)


def _wide_share(products: Iterable[WorkChange], side: str) -> float:
    """Return the part of a side's products whose inputs are 32-bit floats."""
    calls = [(getattr(w, side), '"float"' in w.types) for w in products]
    total = sum(count for count, _ in calls)
    return sum(count for count, is_wide in calls if is_wide) / total if total else 0.0


_EVIDENCE: dict[str, Evidence] = {
    "graph": _graph,
    "sync": lambda comparison, _: _fewer(comparison, "waits"),
    "memory": lambda comparison, _: _fewer(comparison, "allocation calls"),
    "host": lambda comparison, _: _less_time(comparison, Row.HOST),
    "communication": lambda comparison, _: _less_time(comparison, Row.COMMUNICATION),
    "copies.pinned": _pinned,
    "copies.overlapped": _overlapped,
    "copies.resident": _resident,
    "kernel": _kernel,
    "kernels.roof": _roof,
    "fusion": _fused,
    "bandwidth.unfused_chains": _fused,
    "precision": _precision,
    "prefetch": lambda comparison, _: _fewer(comparison, "migrations on demand"),
}
"""What shows that a change was made, by the beginning of its name."""

_TOUCHED_ROWS = {
    "communication": (Row.COMMUNICATION,),
    "copies.pinned": (Row.TRANSFER,),
    "copies.overlapped": (Row.TRANSFER,),
    "copies.resident": (Row.TRANSFER,),
    "kernel": KERNEL_ROWS,
    "kernels.roof": KERNEL_ROWS,
    "fusion": KERNEL_ROWS,
    "bandwidth.unfused_chains": KERNEL_ROWS,
    "precision": KERNEL_ROWS,
    "prefetch": (*KERNEL_ROWS, Row.TRANSFER),
}
"""Rows of busy time that a change is meant to change; idle time moves whatever is changed."""
