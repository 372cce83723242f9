"""Numbers and units as Nsight Compute prints them, turned into base units.

Units were spelled out once (``usecond``, ``cycle/nsecond``) and are short now (``us``, ``Ghz``).
Which of them scales a value is chosen per column and file, so nothing may rely on one. A printed
number has the decimal and thousands marks of its writer's language; a single cell cannot tell
``1.234`` from ``1,234``, but a file can.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

_PREFIXES = {"": 0, "n": -9, "u": -6, "µ": -6, "m": -3, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
_SECONDS = ("second", "sec", "s")
_COUNTED = ("byte", "bytes", "hz", "inst", "cycle", "sector", "warp", "block", "thread", "request")
_NS_EXPONENT = 9  # a time is in ns, a rate is per second
_ODD_WORD = re.compile(r"[KMGT][a-z]")  # a prefix before a word that is not known

_SPACES = dict.fromkeys(map(ord, " \t\u00a0\u202f\u2009'\u2019"))  # all of them separate thousands
_DIGITS = re.compile(r"[+-]?(?=[.,]*\d)[\d.,]++(?:[eE][+-]?\d{1,3})?")
_NOT_A_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity)(?:\(\w*\))?", re.IGNORECASE)
_LEADING = re.compile(r"^([+-]?[\d.,\u00a0\u202f']+)\s*[({\[;].*", re.DOTALL)
MAX_CELL = 400  # characters of a number; a list of instances behind it is cut off first
MAX_PERCENT = 1e6  # some shares are above 100, as of a limit that was left; none this far
MAX_VALUE = 1e24  # a day of the fastest GPU is below 1e23 operations

ABSENT = frozenset(("", "n/a", "(!) n/a", "na", "no data", "(!) no data", "-", "none"))
"""What a cell says, in lower case, when a metric was not collected; it is not zero."""


class NumberMarks(NamedTuple):
    """How a file writes numbers."""

    decimal: str = "."
    thousands: str = ","


def scale(unit: str) -> float | None:
    """Return what to multiply a value in ``unit`` with for base units; None if it is unknown.

    Base units are ns, Hz, bytes, bytes and cycles per second, percent, and whatever is counted.
    """
    top, slash, bottom = unit.strip().partition("/")
    above = _exponent(top, time=0 if slash else _NS_EXPONENT)
    below = _exponent(bottom, time=0)
    return None if above is None or below is None else 10.0 ** (above - below)


def _exponent(word: str, time: int) -> int | None:
    """Return the power of ten in one side of a unit; a time has ``time`` more."""
    for names, more in ((_SECONDS, time), (_COUNTED, 0)):
        for name in names:
            prefix = word[: -len(name)]
            if word[-len(name) :].lower() == name and prefix in _PREFIXES:
                return _PREFIXES[prefix] + more
    return None if _ODD_WORD.match(word) else 0


def marks(cells: Iterable[str]) -> NumberMarks:
    """Decide how a file writes numbers, from all its cells.

    A mark that comes twice separates thousands; one that is followed by anything but three
    digits, or stands behind a lone zero or four digits, is a decimal one; of two different marks,
    the last is. Without any such cell the file is read as English, the tool's own language.
    """
    votes = {".": 0, ",": 0}
    for cell in cells:
        mark = _decimal_mark(cell)
        if mark:
            votes[mark] += 1
    return NumberMarks(",", ".") if votes[","] > votes["."] else NumberMarks()


def _decimal_mark(cell: str) -> str:
    """Return the decimal mark that one cell proves, empty when it proves none."""
    text = _plain(cell).lstrip("+-")
    text = re.split(r"[eE]", text)[0]
    if not text or not set(text) <= set("0123456789.,"):
        return ""
    if "." in text and "," in text:
        return max(".,", key=text.rfind)
    mark = "." if "." in text else ","
    parts = text.split(mark)
    if len(parts) == 1:
        return ""
    if len(parts) > 2:
        return "," if mark == "." else "."
    whole, part = parts
    proves = len(part) != 3 or len(whole) > 3 or whole in ("", "0")
    return mark if proves else ""


def number(cell: str, how: NumberMarks) -> float | None:
    """Return the number in a cell: not-a-number if it says so, None if it holds none."""
    text = _plain(cell)
    if _NOT_A_NUMBER.fullmatch(text):
        return math.nan
    if not _DIGITS.fullmatch(text):
        return None
    text = text.replace(how.thousands, "").replace(how.decimal, ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else math.nan


def is_impossible(value: float, unit: str) -> bool:
    """Tell whether no launch has such a value; not-a-number is none, but not impossible.

    Args:
        value: As it is printed.
        unit: That it is printed in; what has none may be a setting, and those may be negative.
    """
    if unit == "%" and value > MAX_PERCENT:
        return True
    return abs(value) > MAX_VALUE or (bool(unit) and value < 0)


def _plain(cell: str) -> str:
    """Return a cell without spaces and without the list of instances that may follow."""
    text = cell.strip()
    if with_parts := _LEADING.match(text):
        text = with_parts[1]
    return text.translate(_SPACES) if len(text) <= MAX_CELL else ""
