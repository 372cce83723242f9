"""Kernels of both sides in words: what they are called, how they were matched, how launched."""

from __future__ import annotations

import re
from collections.abc import Sequence

from analyzers.compare.types import KernelChange, KernelMatch, KernelMember
from analyzers.words import TIMES, count_text, name_text, size_text
from reports.busy_time import shapes_text

CHANGES = {
    KernelMatch.SAME: "same launch configuration",
    KernelMatch.RESHAPED: "different launch configuration",
    KernelMatch.RENAMED: "renamed",
    KernelMatch.REPLACED: "replaced",
    KernelMatch.NEW: "new",
    KernelMatch.GONE: "gone",
}
MAX_MEMBERS = 2  # kernels of a side that are named; the others are counted
MEMBER_ROOM = 44  # characters of each
_FLAT = re.compile(rf"( {TIMES} 1)+(?=, |$)")  # dimensions of a launch configuration that are 1


def kernel_title(kernel: KernelChange) -> str:
    """Return what a row is called: the kernel, or those of both sides."""
    sides = [_names(members) for members in (kernel.base_members, kernel.new_members)]
    if kernel.name == kernel.new_name and sides[0] == sides[1]:
        return kernel.short_name or name_text(kernel.name)
    if all(sides):
        return f"{_listed(sides[0])} → {_listed(sides[1])}"
    name = kernel.short_name or name_text(kernel.name)
    return name if kernel.name == kernel.new_name else f"{name} → {name_text(kernel.new_name)}"


def match_text(kernel: KernelChange) -> str:
    """Say how a kernel was found on the other side, what changed of its launch, and how often."""
    clauses = [_place_text(kernel), _launch_change(kernel)]
    if kernel.pairs:
        noun = "launches" if kernel.kind is not KernelMatch.REPLACED else "places"
        clauses.append(f"faster in {kernel.faster:,} of {kernel.pairs:,} {noun}")
    return "; ".join(clause for clause in clauses if clause)


def _names(members: Sequence[KernelMember]) -> list[str]:
    return list(dict.fromkeys(m.short_name or name_text(m.name) for m in members))


def _listed(names: Sequence[str]) -> str:
    few = [n if len(n) <= MEMBER_ROOM else f"{n[: MEMBER_ROOM - 1]}…" for n in names]
    more = f" + {len(names) - MAX_MEMBERS} more" if len(names) > MAX_MEMBERS else ""
    return " + ".join(few[:MAX_MEMBERS]) + more


def _place_text(kernel: KernelChange) -> str:
    """Say what replaces what and where, or in a word how a kernel was matched."""
    if kernel.kind is KernelMatch.RESHAPED and _launch_change(kernel):
        return ""
    if kernel.kind is not KernelMatch.REPLACED:
        return CHANGES[kernel.kind]
    before, after = (len(_names(m)) for m in (kernel.base_members, kernel.new_members))
    became = "another" if before == after == 1 else f"{after:,}"
    return f"{_where(kernel)}{count_text(before, 'kernel')} became {became}"


def _where(kernel: KernelChange) -> str:
    around = _in_ranges(kernel.ranges)
    if kernel.operator:
        return f"{around}{kernel.operator} {shapes_text(kernel.shapes)}".rstrip() + ": "
    before, after = kernel.neighbours or ("", "")
    names = [name_text(name)[:MEMBER_ROOM] for name in (before, after)]
    if before and after:
        return f"{around}between {names[0]} and {names[1]}: "
    words = f"after {names[0]}" if before else f"before {names[1]}" if after else ""
    return f"{around}{words}".rstrip(", ") + ": " if around or words else ""


def _in_ranges(ranges: Sequence[str]) -> str:
    """Say in which ranges of the program kernels were replaced: ``in layer3, ``; empty for none."""
    if not ranges:
        return ""
    more = f" and {len(ranges) - 1} more" if len(ranges) > 1 else ""
    return f"in {ranges[0][:MEMBER_ROOM]}{more}, "


def _launch_change(kernel: KernelChange) -> str:
    """Say what changed of how the longest kernel of each side is launched; empty for nothing."""
    if not kernel.base_members or not kernel.new_members:
        return _old_and_new_shape(kernel)
    base, new = kernel.base_members[0], kernel.new_members[0]
    shapes = [_FLAT.sub("", m.shape).partition(", ")[::2] for m in (base, new)]
    pairs = [
        ("grid", shapes[0][0], shapes[1][0]),
        ("block", shapes[0][1], shapes[1][1]),
        ("registers", _count(base.registers), _count(new.registers)),
        ("shared memory", _size(base.shared_bytes), _size(new.shared_bytes)),
    ]
    changes = [f"{what} {a} → {b}" for what, a, b in pairs if a and b and a != b]
    several = len(kernel.base_members) > 1 or len(kernel.new_members) > 1
    which = "the longest: " if several and changes else ""
    return which + ", ".join(changes)


def _old_and_new_shape(kernel: KernelChange) -> str:
    """Say the same of a comparison that tells no more than both shapes."""
    if kernel.shape == kernel.new_shape or not kernel.shape or not kernel.new_shape:
        return ""
    return f"{_FLAT.sub('', kernel.shape)} → {_FLAT.sub('', kernel.new_shape)}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _size(value: int | None) -> str:
    return "" if value is None else size_text(value)
