"""The kernel time by class of work and by operator: how it is spent, and how far from the roof."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analyzers.report import Report
from analyzers.words import TIMES, count_text, name_text, share_text, size_text, time_text
from reports.document import Block, Cell, DocumentTable, Place, Sentence, TableColumn
from reports.ledger import share_cell
from reports.numbers import rate_text
from reports.top_kernels import kernels_hold_most

if TYPE_CHECKING:
    from reports.about import ReportedWindow

MAX_CLASSES = 8  # of a table; the others are one row
MAX_OPERATORS = 15
MAX_SUMMARY_CLASSES = 5
MIN_NAMED_SHARE = 0.05  # of kernel time; classes with less are not named in a sentence
NAMED_CLASSES = 3
MAX_TENSORS = 4  # shapes of a call that are written
NO_CLASS = "other"  # of kernels whose names tell nothing
SUMS = ("launches", "busy_ns", "roof_ns", "below_roof_ns", "not_modelled_ns", "compute_ns")
RECORD_SHAPES = {
    "torch": "torch.profiler.profile(record_shapes=True)",
    "nsys": "with torch.autograd.profiler.emit_nvtx(record_shapes=True): ...",
}


def summed_classes(report: Report, device: int = -1) -> list[dict[str, Any]]:
    """Return ``Report.classes`` of all devices together, the longest first.

    Args:
        report: The answer.
        device: Key of one device; -1 for all.
    """
    sums: dict[str, dict[str, Any]] = {}
    for row in report.classes:
        if device in (-1, row["device_key"]):
            total = sums.setdefault(row["class"], {**row, **dict.fromkeys(SUMS, 0)})
            for name in SUMS:
                total[name] += row[name]
    return sorted(sums.values(), key=lambda row: -row["busy_ns"])


def classes_are_telling(classes: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether classes say more than the names of kernels: most of the time has one."""
    return len(classes) > 0 and str(classes[0]["class"]) != NO_CLASS


def kernels_are_notable(report: Report) -> bool:
    """Tell whether kernels take enough of the time in use to be looked into."""
    in_use_ns = sum(d.in_use_ns for d in report.devices)
    busy_ns = sum(int(row["busy_ns"]) for row in report.classes)
    return busy_ns >= MIN_NAMED_SHARE * in_use_ns


def kernel_time_sentence(classes: Sequence[Mapping[str, Any]]) -> str:
    """Say what most of the kernel time is spent on, and how close to the hardware's limit.

    Args:
        classes: As ``summed_classes`` returns them.

    Returns:
        A sentence; empty where most of the time is of no known class.
    """
    if not classes_are_telling(classes):
        return ""
    whole = sum(row["busy_ns"] for row in classes)
    named = [row for row in classes if row["busy_ns"] >= MIN_NAMED_SHARE * whole]
    named = [row for row in named if row["class"] != NO_CLASS][:NAMED_CLASSES]
    parts = [_class_words(row, whole, first=n == 0) for n, row in enumerate(named)]
    joined = ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"{joined}."


def _class_words(row: Mapping[str, Any], whole: int, *, first: bool) -> str:
    share = share_text(row["busy_ns"], whole)
    words = f"{share} of the kernel time is spent in " if first else f"{share} in "
    limit = limit_words(row)
    return f"{words}{row['title']}" + (f" at {limit}" if limit else "")


def limit_words(row: Mapping[str, Any]) -> str:
    """Say how near to its limit the work of a class is; empty where most has no model."""
    modelled = row["roof_ns"] + row["below_roof_ns"]
    if 2 * modelled < row["busy_ns"] or not modelled:
        return ""
    limit = "the peak" if 2 * row["compute_ns"] > row["roof_ns"] else "the memory bandwidth"
    return f"{share_text(row['roof_ns'], modelled)} of {limit}"


def unknown_reason(report: Report) -> tuple[str, str]:
    """Say why most of the kernel time has no roof, and what to record or to give.

    Returns:
        A sentence, and code that helps; both empty where most of it has a roof.
    """
    whole = sum(row["busy_ns"] for row in report.classes)
    unknown = sum(row["not_modelled_ns"] for row in report.classes)
    if not whole or 2 * unknown <= whole:
        return "", ""
    tool = str(report.source["format"]).partition("-")[0]
    in_operators = sum(row["busy_ns"] for row in report.work if row["operator"])
    with_shapes = sum(row["busy_ns"] for row in report.work if row["shapes"])
    if 2 * in_operators < whole:
        if in_operators or any(row["operator"] for row in report.work):
            return (
                "Most kernels were launched outside of operators, as when graphs are "
                "replayed, so their shapes are not known and classes come from their names.",
                "",
            )
        return (
            "The recording has no operators, so classes come from the names of kernels, and how "
            "far they are from the hardware's limit is not known. A program that uses PyTorch "
            "records operators with shapes so:",
            RECORD_SHAPES.get(tool, RECORD_SHAPES["torch"]),
        )
    if 2 * with_shapes < whole:
        return (
            "The shapes of most operators were not recorded, so how far they are from the "
            "hardware's limit is not known. Record them:",
            RECORD_SHAPES.get(tool, RECORD_SHAPES["torch"]),
        )
    if not report.work_roofs:
        return (
            "The limits of this GPU are in no table here. Give them, for what your GPU has:",
            "whyslow diagnose --device-peak bf16=989e12,hbm=3.35e12 RECORDING",
        )
    return "There is no model of the work of most of these operators.", ""


def utilisation_sentences(report: Report) -> Iterator[str]:
    """Yield, for each device, how much of its peak the model used, and what was done twice."""
    several = len((report.mfu or {}).get("devices", ())) > 1
    for row in (report.mfu or {}).get("devices", ()):
        on = f" of GPU {row['device']}" if several else ""
        peak = f"{rate_text(row['peak_flop_per_s'], 'FLOP/s')} {row['type']}"
        text = f"Model FLOP utilisation{on}: {share_text(row['share'], 1)} of {peak}"
        shares = [share for share in row["iterations"] if share > 0]
        if len(shares) > 1:
            low, high = share_text(min(shares), 1), share_text(max(shares), 1)
            text += f", {low} to {high} by iteration" if low != high else f", {low} each iteration"
        if row["recomputed_flop"]:
            done_twice = share_text(row["recomputed_flop"], row["model_flop"])
            text += f"; recomputing activations takes {done_twice} as many operations again"
        yield f"{text}."


# --- operators and shapes in words --------------------------------------------------------------


def shapes_text(shapes: str | Sequence[Any], most: int = MAX_TENSORS) -> str:
    """Write the shapes of a call's inputs: ``4096×4096, 4096×1024``.

    Args:
        shapes: A list of dimensions for each input, or that as JSON.
        most: How many tensors are written; a list of tensors is counted.
    """
    if isinstance(shapes, str):
        try:
            shapes = json.loads(shapes) if shapes else []
        except ValueError:
            return ""
    words = [text for text in map(_shape_words, shapes) if text]
    more = f", {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _shape_words(shape: Any) -> str:
    if not isinstance(shape, list) or not shape:
        return ""
    if any(isinstance(part, list) for part in shape):
        count = sum(isinstance(part, list) and bool(part) for part in shape)
        return f"{count} tensors" if count > 1 else ""
    return TIMES.join(str(size) for size in shape)


def work_name(row: Mapping[str, Any]) -> str:
    """Return what a row of ``Report.work`` is called: its operator, else its kernel."""
    return str(row["operator"]) or name_text(str(row["kernel"]))


# --- tables --------------------------------------------------------------------------------------


def busy_time_summary(report: Report) -> Iterator[Block]:
    """Tell the kernel time by class, from the report alone, where kernels hold most of it."""
    classes = summed_classes(report)
    if not classes_are_telling(classes) or not kernels_hold_most(report):
        return
    if report.busy_sentence and report.busy_sentence not in report.verdict.sentence:
        yield Sentence(text=report.busy_sentence)
    yield _class_table(classes, None, MAX_SUMMARY_CLASSES)
    for sentence in utilisation_sentences(report):
        yield Sentence(text=sentence, kind="note")


def busy_time(report: Report, where: ReportedWindow) -> Iterator[Block]:
    """Tell the kernel time by class, and by operator and shape with its longest launch."""
    classes = summed_classes(report)
    if not classes_are_telling(classes):
        return
    whole = where.place(*report.window.span, mark=False)
    yield Sentence(text=kernel_time_sentence(classes), place=whole)
    yield _class_table(classes, whole, MAX_CLASSES)
    for sentence in utilisation_sentences(report):
        yield Sentence(text=sentence, place=whole, kind="note")
    reason, code = unknown_reason(report)
    if reason:
        yield Sentence(text=reason, kind="note")
    if code:
        yield Sentence(text=code, kind="command")
    if any(row["operator"] for row in report.work):
        yield _operator_table(report.work, where, whole)


def _class_table(
    classes: Sequence[Mapping[str, Any]], whole: Place | None, most: int
) -> DocumentTable:
    total = sum(row["busy_ns"] for row in classes)
    return DocumentTable(
        name="Kernel time by class of work",
        columns=(
            TableColumn(name="Share", unit="pct", is_number=True),
            *_TIME_COLUMNS,
            TableColumn(name="Class"),
        ),
        rows=tuple(
            (
                share_cell(row["busy_ns"], total, whole),
                *_time_cells(row, whole),
                Cell(text=str(row["title"])),
            )
            for row in _few(classes, most)
        ),
    )


def _few(classes: Sequence[Mapping[str, Any]], most: int) -> Iterable[Mapping[str, Any]]:
    yield from classes[:most]
    rest = classes[most:]
    if rest:
        sums = {name: sum(row[name] for row in rest) for name in SUMS}
        yield {"title": f"{len(rest)} other classes" if len(rest) > 1 else rest[0]["title"], **sums}


_TIME_COLUMNS = (
    TableColumn(name="Time", unit="ns", is_number=True),
    TableColumn(name="At the roof", unit="ns", is_number=True),
    TableColumn(name="Below the roof", unit="ns", is_number=True),
    TableColumn(name="Not modelled", unit="ns", is_number=True),
)


def _time_cells(row: Mapping[str, Any], place: Place | None) -> tuple[Cell, ...]:
    names = ("busy_ns", "roof_ns", "below_roof_ns", "not_modelled_ns")
    return tuple(
        Cell(text=time_text(row[name]) if row[name] else "", value=row[name], place=place)
        for name in names
    )


def _operator_table(
    work: Sequence[Mapping[str, Any]], where: ReportedWindow, whole: Place
) -> DocumentTable:
    ordered = sorted(work, key=lambda row: -row["busy_ns"])
    some = f"{MAX_OPERATORS} of " if len(ordered) > MAX_OPERATORS else ""
    return DocumentTable(
        name=f"{some}{count_text(len(ordered), 'operator')} with shapes, most time first; "
        "work of one call",
        columns=(
            TableColumn(name="Operator"),
            TableColumn(name="Shapes"),
            TableColumn(name="Launches", unit="count", is_number=True),
            TableColumn(name="Time", unit="ns", is_number=True),
            TableColumn(name="FLOP", unit="count", is_number=True),
            TableColumn(name="Bytes", unit="bytes", is_number=True),
            TableColumn(name="Of its roof", unit="pct", is_number=True),
            TableColumn(name="Below the roof", unit="ns", is_number=True),
        ),
        rows=tuple(_operator_cells(row, where, whole) for row in ordered[:MAX_OPERATORS]),
    )


def _operator_cells(
    row: Mapping[str, Any], where: ReportedWindow, whole: Place
) -> tuple[Cell, ...]:
    modelled = row["roof_ns"] + row["below_roof_ns"]
    flop, moved = row["flop"], row["bytes"]
    share = share_cell(row["roof_ns"], modelled, whole) if modelled else Cell(text="")
    below = Cell(text=time_text(row["below_roof_ns"]), value=row["below_roof_ns"], place=whole)
    return (
        Cell(text=work_name(row)),
        Cell(text=shapes_text(row["shapes"])),
        Cell(text=f"{row['launches']:,}", value=row["launches"], place=whole),
        Cell(
            text=time_text(row["busy_ns"]),
            value=row["busy_ns"],
            place=where.place(row["start_ns"], row["end_ns"]),
        ),
        Cell(text=rate_text(flop, "FLOP") if flop else "", value=flop),
        Cell(text="" if moved is None else size_text(moved), value=moved),
        share,
        below if modelled else Cell(text=""),
    )
