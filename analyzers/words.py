"""Numbers in sentences: one way to write a time, a size, a share and a count."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable, Sequence

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_FLOP = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
MAX_NAME = 80  # characters of a kernel's name in a sentence
MIN_NAME = 40  # of those, what a cut between two words of it leaves at least
_WORD_ENDS = re.compile(r"[ ,:<>()\[\]_\-./|]+")  # where a name may be cut: between its words


def time_text(ns: float, digits: int = 3) -> str:
    """Write a time with ``digits`` significant digits: ``8.87 µs``, ``17.0 ms``."""
    return _scaled(ns, _TIMES, digits)


def size_text(size_bytes: float) -> str:
    """Write a size in decimal units, as link and memory bandwidths are given."""
    return _scaled(size_bytes, _SIZES, 3)


def flop_text(flop: float) -> str:
    """Return an amount of arithmetic: ``3.12 TFLOP``."""
    return f"{_scaled(flop, _FLOP, 3)}FLOP"


def share_text(part: float, whole: float, *, exact: bool = False) -> str:
    """Write ``part`` of ``whole`` in percent: ``97 %``, ``0.9 %``, ``< 0.1 %``.

    A part never reads as nothing or as all unless it is.

    Args:
        part: What to write.
        whole: All of it.
        exact: Always with a decimal place, for numbers below each other.
    """
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    whole_number = 9.95 <= percent < 99.5 or percent >= 100
    return f"{percent:.0f} %" if whole_number and not exact else f"{percent:.1f} %"


def signed_percent(share: float, digits: int | None = None) -> str:
    """Return a change in percent with its sign: ``−52 %``, ``+0.4 %``; 0 has none.

    Args:
        share: The change as a part of what was before.
        digits: After the decimal point; by default one below 10 %, else none.
    """
    percent = 100 * share
    if digits is None:
        digits = 1 if abs(percent) < 10 else 0
    percent = round(percent, digits)
    sign = "+" if percent > 0 else MINUS if percent < 0 else ""
    return f"{sign}{abs(percent):.{digits}f} %"


def split_sentence(text: str) -> tuple[str, str]:
    """Return the first sentence and the others."""
    first, stop, rest = text.partition(". ")
    return (f"{first}.", rest.strip()) if stop else (text, "")


def count_text(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 launch``, ``1,312 launches``, ``3 copies``."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and not noun.endswith("ay"):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's', 'sh')) else 's'}"


def enumerated(names: Sequence[str]) -> str:
    """Write names for a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


def function_first(name: str) -> str:
    """Return a demangled name without what stands before the function's own name."""
    plain = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    head = re.split(r"[<(]", plain, maxsplit=1)[0]
    return plain[head.rfind("::") + 2 :] if "::" in head else plain


def name_text(name: str) -> str:
    """Shorten a function name to what identifies it."""
    return shortened(function_first(name))


def distinct_short(names: Sequence[str]) -> list[str]:
    """Return each function's name alone, and where several would read the same what differs.

    A long ``kernel<4, Add>(int)`` beside ``kernel<4, Mul>(int)`` becomes ``kernel…Add>(int)``.
    """
    plain = [function_first(name) for name in names]
    bare = [re.split(r"[<(]", name, maxsplit=1)[0] or name for name in plain]
    result = []
    for short, full in zip(bare, plain, strict=True):
        twins = {p for b, p in zip(bare, plain, strict=True) if b == short and p != full}
        shared = max((_shared_length(full, twin) for twin in twins), default=0)
        ends = [m.end() for m in _WORD_ENDS.finditer(full[:shared])]
        begin = max([end for end in ends if end > len(short)], default=0)
        has_room = begin == 0 or len(full) <= MIN_NAME
        result.append(short if not twins else full if has_room else f"{short}…{full[begin:]}")
    return result


def _shared_length(one: str, other: str) -> int:
    """Return how many characters two names begin with in common."""
    return sum(1 for _ in itertools.takewhile(bool, map(operator.eq, one, other)))


def shortened(name: str) -> str:
    """Return a name as it is, cut between two of its words where a sentence has no room for it."""
    if len(name) <= MAX_NAME:
        return name
    room = name[:MAX_NAME]
    cuts = [m.start() for m in _WORD_ENDS.finditer(room) if MIN_NAME <= m.start() < MAX_NAME]
    return f"{room[: cuts[-1] if cuts else MAX_NAME - 1]}…"


def lower_first(sentence: str) -> str:
    """Return a sentence to go on after a colon; names and abbreviations stay: ``GPU``, ``L2``."""
    head = sentence[:2]
    is_word = len(head) == 2 and head[0].isupper() and head[1].islower()
    return head.lower() + sentence[2:] if is_word else sentence


def by_reason(skipped: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the rules that could not tell, by the reason they give; from (reason, rule)."""
    grouped: dict[str, list[str]] = {}
    for reason, rule in skipped:
        grouped.setdefault(reason, []).append(rule)
    return grouped


_ABBREVIATIONS = {"dram", "l1", "l2", "fp32", "fp64"}
_RULE_NAMES = {  # that say too little, or are those of one maker
    "idle_tensor_cores": "idle matrix units",
    "fp32_matmul": "32-bit matrix products",
    "load_store": "load and store rate",
}


def rule_words(rule: str) -> str:
    """Return a rule's name for a sentence: ``bandwidth.dram_roof`` becomes ``DRAM roof``."""
    name = rule.rpartition(".")[2]
    words = _RULE_NAMES.get(name, name).replace("_", " ").split()
    return " ".join(word.upper() if word in _ABBREVIATIONS else word for word in words)


def _scaled(value: float, units: tuple[tuple[float, str], ...], digits: int) -> str:
    if value < 0:
        return f"{MINUS}{_scaled(-value, units, digits)}"
    for size, unit in units:
        # What would be rounded to 1,000 of a unit is written as 1 of the next.
        if value >= size * (1 - 0.5 * 10**-digits):
            return f"{_significant(value / size, digits)} {unit}"
    return f"{_significant(value, digits)} {units[-1][1]}"


def _significant(value: float, digits: int) -> str:
    whole = len(str(int(abs(float(f"{value:.{digits}g}")))))
    if whole >= digits or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.{digits - whole}f}"
