"""Whether two sides may be compared at all: what differs besides the change that is judged.

Each check answers with differences in words. One that blocks takes every number away: a faster GPU,
another program or another result is no optimization.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from analyzers.compare.differences import source_texts
from analyzers.compare.machines import clock_differences, hardware_differences, tool_differences
from analyzers.compare.programs import kernel_differences, shape_differences
from analyzers.compare.side import Sides
from analyzers.compare.types import OTHER_MACHINE, Difference, Level
from analyzers.compare.workloads import rank_differences, window_differences, workload_differences

NAMES_TO_LIFT = (
    # What is told from appearances, so that whoever asks may know better …
    *("kernels", "shapes", "loop"),
    # … and what may be the question itself: another machine, tool, workload or precision.
    *(OTHER_MACHINE, "tool", "workload", "workload device", "result", "ranks"),
)
WAY_OUT = " To compare them all the same: whyslow compare --anyway."
ANYWAY = "They are compared anyway, as requested."
Check = Callable[[Sides, Sides], Iterator[Difference]]


def comparability(base: Sides, new: Sides, *, anyway: bool = False) -> tuple[Difference, ...]:
    """Return what was compared before any number, what blocks first.

    Args:
        base: Recordings before the change.
        new: Recordings after it.
        anyway: Whether to compare what differs in more than the change that is judged.
    """
    differences = [difference for check in _CHECKS for difference in check(base, new)]
    if anyway:
        differences = [_lifted(difference) for difference in differences]
    order = (Level.BLOCKING, Level.WARNING, Level.INFO, Level.UNKNOWN, Level.SAME)
    return tuple(sorted(differences, key=lambda d: order.index(d.level)))


def can_be_lifted(difference: Difference) -> bool:
    """Tell whether a block is one that whoever asks may set aside."""
    return difference.blocking and difference.what in NAMES_TO_LIFT


def _lifted(difference: Difference) -> Difference:
    """Turn a block into a warning, unless no number could have a meaning."""
    if not can_be_lifted(difference):
        return difference
    sentence = f"{difference.sentence} {ANYWAY}"
    return dataclasses.replace(difference, level=Level.WARNING, sentence=sentence)


def _gpu_work(base: Sides, new: Sides) -> Iterator[Difference]:
    for name, sides in (("base", base), ("new", new)):
        idle = [side.source["name"] for side in sides if not side.operations]
        if idle:
            yield Difference(
                what="gpu work",
                base="" if name == "new" else "none",
                new="" if name == "base" else "none",
                level=Level.BLOCKING,
                sentence=f"{idle[0]} ({name}) has no GPU work, so there is nothing to compare.",
            )


def _captures(base: Sides, new: Sides) -> Iterator[Difference]:
    for label, sides in (("base", base), ("new", new)):
        for side in sides:
            for level, code, message in side.quality:
                if level != "error" or code == "no_gpu_work":
                    continue
                yield Difference(
                    what="capture",
                    base=code if label == "base" else "",
                    new=code if label == "new" else "",
                    level=Level.WARNING,
                    sentence=f"{side.source['name']} ({label}): {message}",
                )


def _twice(base: Sides, new: Sides) -> Iterator[Difference]:
    digests = [[side.source["sha256"] for side in sides] for sides in (base, new)]
    again = {d for d in digests[0] if d} & set(digests[1])
    repeated = [side for side in digests if len(set(side)) < len([d for d in side if d])]
    if again:
        yield Difference(
            what="recordings",
            base=", ".join(source_texts(base, "name")),
            new=", ".join(source_texts(new, "name")),
            level=Level.INFO,
            sentence="The same recording is on both sides.",
        )
    if repeated:
        yield Difference(
            what="recordings",
            base="",
            new="",
            level=Level.BLOCKING,
            sentence="A recording is given twice on one side; that is not another measurement.",
        )


_CHECKS: tuple[Check, ...] = (
    _gpu_work,
    hardware_differences,
    clock_differences,
    tool_differences,
    window_differences,
    workload_differences,
    rank_differences,
    shape_differences,
    kernel_differences,
    _captures,
    _twice,
)
