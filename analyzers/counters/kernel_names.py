"""Which kernels of two recordings are the same, whatever tool wrote their names.

Tools demangle differently: one writes ``<(int)4>`` where the other writes ``<4>`` or ``<4ul>``,
``(bool)1`` for ``true``, ``<unnamed>`` for ``(anonymous namespace)``, ``const float *`` for
``float const*``, and parameters as ``T2`` or in full. Only what is left after that tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from analyzers.intervals import Array

_ANONYMOUS = re.compile(
    r"\(anonymous namespace\)|<unnamed>|\{anonymous\}|_GLOBAL__N__\w+|\(anonymous\)"
)
_CAST = re.compile(r"\([A-Za-z_][\w: ]*\)(?=-?\d)")  # of a template argument, as in <(int)4>
_SUFFIX = re.compile(r"(?<![\w.])(\d+)(?:ull|ul|ll|u|l)(?!\w)", re.IGNORECASE)
_LAMBDA = re.compile(r"\[lambda(\([^\[\]]*\)) \(instance (\d+)\)\]")
_TRUTH = {"true": "1", "false": "0"}
_TRUTHS = re.compile(r"\b(?:true|false)\b")
_BEGIN = re.compile(r"^(?:(?:__global__|static|extern \"C\"|void)\s+)+")
_CONST = re.compile(r"\bconst\b")
_SPACES = re.compile(r"\s+(?!\w)|(?<!\w)\s+")  # all but those between two words
_BARE = re.compile(r"[\w$]+", re.ASCII)
_OPENING, _CLOSING = "(<[{", ")>]}"

Key = Callable[[str], str]


def normalised(name: str) -> str:
    """Return a demangled name as every tool would have written it; parameters stay."""
    text = _BEGIN.sub("", name.strip())
    text = _ANONYMOUS.sub("{anonymous}", text)
    while (shorter := _LAMBDA.sub(r"{lambda\1#\2}", text)) != text:
        text = shorter
    text = _SUFFIX.sub(r"\1", _CAST.sub("", text))
    text = _TRUTHS.sub(lambda match: _TRUTH[match[0]], text)
    return _SPACES.sub("", text)


def without_parameters(name: str) -> str:
    """Return a normalised name without parameters, return type and ``const``."""
    text = name
    if text.endswith(")"):
        text = text[: _begin_of_last(text)]
    return _SPACES.sub("", _CONST.sub("", text[_end_of_type(text) :])).strip()


def _begin_of_last(text: str) -> int:
    """Return where the bracket opens that the last character closes; 0 when it never does."""
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += (text[place] in ")]}") - (text[place] in "([{")
        if not depth:
            return place
    return 0


def _end_of_type(text: str) -> int:
    """Return where the function's name begins: behind the last space outside brackets."""
    depth, begin = 0, 0
    for place, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == " " and not depth:
            begin = place + 1
    return begin


def bare(name: str) -> str:
    """Return a normalised name without namespaces and template arguments, either."""
    text = without_parameters(name)
    head, depth = "", 0
    for character in text:
        depth += character in _OPENING
        head += character if not depth else ""
        depth -= character in _CLOSING
    return head.rpartition("::")[2]


def same_kernels(first: Sequence[str], second: Sequence[str]) -> tuple[Array, Array]:
    """Return a number for each name; equal numbers are the same kernel.

    Names that agree with parameters are the same. Others are, when they agree without, and when
    no other name of either recording could be meant: overloads that only parameters tell apart
    stay apart. A name that is nothing but a function's counts for a full one in the same way.
    A name that is empty is no kernel's.

    Args:
        first: Names of one recording, each once.
        second: Names of the other.
    """
    full = [[normalised(name) for name in names] for names in (first, second)]
    number: dict[str, int] = {}
    for name in (*full[0], *full[1]):
        number.setdefault(name, len(number))
    first_names, second_names = set(full[0]), set(full[1])
    for key, may_pair in ((without_parameters, _any), (bare, _one_is_bare)):
        for one, other in _only_ones(first_names, second_names, key):
            if one not in second_names and other not in first_names and may_pair(one, other):
                number[other] = number[one]
    codes = [np.array([number[name] for name in names], np.int64) for names in full]
    if "" in number:
        codes[1][codes[1] == number[""]] = len(number)
    return codes[0], codes[1]


def _any(_one: str, _other: str) -> bool:
    return True


def _one_is_bare(one: str, other: str) -> bool:
    return any(_BARE.fullmatch(name) is not None for name in (one, other))


def _only_ones(first: set[str], second: set[str], key: Key) -> list[tuple[str, str]]:
    """Return pairs of names with one key, where each side has a single name with it."""
    sides = []
    for names in (first, second):
        by_key: dict[str, list[str]] = {}
        for name in sorted(names):
            by_key.setdefault(key(name), []).append(name)
        sides.append({k: alike[0] for k, alike in by_key.items() if k and len(alike) == 1})
    return [(name, sides[1][k]) for k, name in sides[0].items() if k in sides[1]]
