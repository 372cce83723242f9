"""Numbers in the units people read, and text of a recording made harmless for each place it goes.

Conversions from nanoseconds for columns and axes happen here, once; those for sentences in
``analyzers.words``.
"""

from __future__ import annotations

import itertools
import operator

import pandas as pd

from analyzers.words import MINUS
from collectors.schema import Array
from common.text import visible as visible
from reports.numbers import format_value as format_value
from reports.numbers import rate_text as rate_text

NOT_RECORDED_TEXT = "not recorded"

ROOM = 56  # characters of a name that the column shows
HEAD, BEFORE = 36, 12  # of a name whose difference comes later: its begin, what precedes that
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")


def moment_text(ns: int) -> str:
    """Return a moment to the nanosecond, in the unit that suits it."""
    sign = MINUS if ns < 0 else ""
    for unit_ns, unit, digits in ((10**9, "s", 9), (10**6, "ms", 6), (10**3, "µs", 3)):
        if abs(ns) >= unit_ns:
            # Integers only: a float cannot hold the nanoseconds of a long recording.
            whole, rest = divmod(abs(ns), unit_ns)
            fraction = f"{rest:0{digits}d}".rstrip("0")
            return f"{sign}{whole:,}{'.' if fraction else ''}{fraction} {unit}"
    return f"{sign}{abs(ns)} ns"


def ns_to_us(values_ns: pd.Series) -> Array:
    """Return microseconds."""
    result: Array = values_ns.to_numpy() / 1_000
    return result


def ns_to_ms(values_ns: pd.Series) -> Array:
    """Return milliseconds."""
    result: Array = values_ns.to_numpy() / 1_000_000
    return result


def distinct_names(names: list[str]) -> list[str]:
    """Return ``names``, each with its difference from the most similar one in its first part."""
    shared = dict.fromkeys(names, 0)
    for one, other in itertools.pairwise(sorted(shared)):
        length = sum(1 for _ in itertools.takewhile(bool, map(operator.eq, one, other)))
        shared[one], shared[other] = max(shared[one], length), max(shared[other], length)
    return [
        f"{name[:HEAD]}…{name[shared[name] - BEFORE :]}"
        if ROOM < shared[name] < len(name)
        else name
        for name in names
    ]


def plotly_escape(text: str) -> str:
    """Return ``text`` so that a chart shows exactly its characters; Plotly reads some HTML."""
    plain = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("$", "&#36;").replace("%{", "%&#123;")


def csv_text(text: str) -> str:
    """Return ``text`` for a spreadsheet cell; one that looks like a formula is quoted."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
