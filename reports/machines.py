"""What lies below a program in words and tables: hardware, precision, libraries, the unknown."""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.compare.hardware import MachineChange
from analyzers.compare.types import Comparison
from analyzers.words import TIMES, enumerated, time_text
from analyzers.work.classes import TITLES, WorkClass
from reports.comparison_words import mean_text
from reports.document import Block, Cell, DocumentTable, Sentence, TableColumn
from reports.numbers import signed_text

MACHINES = "Different machines"
MAX_CLASSES = 8


def machine_title(machines: MachineChange) -> str:
    """Return what differs below the program, as a heading."""
    if machines.is_other_gpu:
        return MACHINES
    return f"Different {enumerated([one.name for one in machines.below])}"


def machine_blocks(comparison: Comparison) -> Iterator[Block]:
    """Yield what two machines differ by; nothing where they are the same."""
    machines = comparison.machines
    if machines is None:
        return
    yield Sentence(text=parts_sentence(machines, mean_text(comparison)))
    yield from (table for table in (class_table(machines), limit_table(machines)) if table.rows)


def parts_sentence(machines: MachineChange, each: str) -> str:
    """Return the parts of the change, which sum to it.

    Args:
        machines: Both machines.
        each: What times are given for: ``mean per iteration``.
    """
    parts = "; ".join(f"{words} {signed_text(ns)}" for words, ns in machines.parts)
    total = f"{signed_text(machines.change_ns)} {each} is the sum of: {parts}."
    if machines.below:
        verb = "also differs" if machines.is_other_gpu else "differs"
        total = f"What {verb} below the program: {_below_text(machines)}. {total}"
    if machines.knows_work or not machines.is_other_gpu:
        return total
    return (
        f"{total} How much of it is hardware is not known: that takes the "
        "shapes of operators on both sides (torch profiler with record_shapes=True), GPUs whose "
        "limits are known (--device-peak), and kernels that reach at least a tenth of these."
    )


def _below_text(machines: MachineChange) -> str:
    return ", ".join(str(one) for one in machines.below)


def class_table(machines: MachineChange) -> DocumentTable:
    """Return the kernel time by class of work, and the parts of each change."""
    parts = {
        "Hardware": [c.hardware_ns for c in machines.classes],
        "Precision": [c.precision_ns for c in machines.classes],
        "Other kernels": [c.other_kernels_ns for c in machines.classes],
        "Same kernels": [c.software_ns - c.other_kernels_ns for c in machines.classes],
        "Not known": [c.unattributed_ns for c in machines.classes],
    }
    always = ("Hardware", "Not known") if machines.is_other_gpu else ("Not known",)
    parts = {title: ns for title, ns in parts.items() if any(ns) or title in always}
    titles = ("Baseline", "New", "Change", *parts)
    return DocumentTable(
        columns=(
            TableColumn(name="Kernels"),
            *(TableColumn(name=title, unit="ns", is_number=True) for title in titles),
        ),
        rows=tuple(
            (
                Cell(text=TITLES[WorkClass(c.work_class)]),
                *(Cell(text=time_text(ns), value=ns) for ns in (c.base_ns, c.new_ns)),
                *(
                    Cell(text=signed_text(ns), value=ns)
                    for ns in (c.new_ns - c.base_ns, *(ns[place] for ns in parts.values()))
                ),
            )
            for place, c in enumerate(machines.classes[:MAX_CLASSES])
        ),
    )


def limit_table(machines: MachineChange) -> DocumentTable:
    """Return what the data sheets of both GPUs allow, and how many times as much it is."""
    return DocumentTable(
        columns=(
            TableColumn(name="Limit by data sheet"),
            TableColumn(name=machines.base),
            TableColumn(name=machines.new),
            TableColumn(name="New by baseline", is_number=True),
        ),
        rows=tuple(
            (
                Cell(text=limit.name),
                Cell(text=_rate_text(limit.name, limit.base)),
                Cell(text=_rate_text(limit.name, limit.new)),
                Cell(text=f"{limit.new / limit.base:.2f} {TIMES}", value=limit.new / limit.base),
            )
            for limit in machines.limits
        ),
    )


def _rate_text(name: str, rate: float) -> str:
    if name == "memory bandwidth":
        return f"{rate / 1e9:,.0f} GB/s"
    return f"{rate / 1e12:,.1f} TFLOP/s"
