"""The small language in which events of a timeline are asked for; ``docs/timeline.md`` defines it.

A text is a *query* when it holds a comparison with a time (``> 1ms``) or a known key
(``stream:7``); any other text is looked for in names as it stands, with its blanks, colons and
angle brackets, because names of kernels are full of those. What is wrong with a query is told in
one sentence, and ``FORMS`` says what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from analyzers.finding import CAUSE_OF_ROW, Row

MAX_QUERY = 200  # characters; a plain text, such as a whole kernel's name, may be longer
MAX_TERMS = 8  # each is one pass over a column
MAX_ECHO = 40  # characters of the reader's text in a sentence about it


OPERATION_KINDS = ("kernel", "copy", "memset", "graph", "collective")
HOST_KINDS = {
    "range": "ranges",
    "mark": "marks",
    "operator": "operators",
    "call": "api_calls",
    "os": "os_calls",
}
WINDOW_KINDS = {"ledger": "ledger", "finding": "findings", "iteration": "iterations"}
KINDS = (*OPERATION_KINDS, *HOST_KINDS, *WINDOW_KINDS)
CAUSES = tuple(dict.fromkeys(str(c) for c in (*Row, *CAUSE_OF_ROW.values())))
KEYS = ("name", "kind", "stream", "gpu", "thread", "cause")

FORMS = (
    ("kernel > 1ms", "kernels longer than that; also >=, < and <=, with ns, us, ms or s"),
    ("name:gemm stream:7", "both hold: the name contains gemm, and it ran on stream 7"),
    ("cause:sync", "stretches of the ledger: " + ", ".join(CAUSES)),
    ("kind:copy gpu:0", "kinds: " + ", ".join(KINDS)),
    ("thread:python -name:aten", "on threads called so; a minus leaves out"),
    ('"volta_sgemm_128x64_nn"', "exactly that name"),
)
"""Queries that are right, and what each asks for."""

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_KIND = "|".join(sorted(KINDS, key=len, reverse=True))
# "kernel>1ms" is "kernel > 1ms"; before what is no time a bracket is part of a name.
_NUMBER = r"\d+(?:\.\d*)?"
_TIME = rf"{_NUMBER}\s*(?:{'|'.join(_UNITS)})"
_GLUED = re.compile(
    rf"(?<![^\s-])({_KIND}|duration)\s*(?=(?:[<>]=?\s*{_TIME}|>=?\s*{_NUMBER})(?:\s|$))",
    re.IGNORECASE,
)
# In a query this is a comparison that went wrong: as a part of a name it would match next to all.
_NO_TIME = re.compile(rf"(?:{_KIND}|duration)?[<>]=?(?:\d[\w.]*)?", re.IGNORECASE)
_TOKEN = re.compile(
    r"""(?P<minus>-?)(?:
        (?P<sign>>=|<=|>|<)\s*(?P<number>\d+(?:\.\d*)?)\s*(?P<unit>[^\W\d_]*)
      | (?:(?P<key>[A-Za-z]+):(?!:))?"(?P<quoted>[^"]*)"
      | (?P<named>[A-Za-z]+):(?!:)(?P<value>\S*)
      | (?P<word>\S+)
    )(?=\s|$)""",
    re.VERBOSE,
)


class QuerySyntaxError(ValueError):
    """A query does not follow the language; the message is one sentence for the reader."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One condition.

    Attributes:
        key: One of ``KEYS``, or ``duration``.
        value: What it is compared with; of a duration its sign.
        exact: A name that was quoted, and must be the whole name.
        number_ns: Of a duration, in ns.
        negated: True when events for which it holds are left out.
    """

    key: str
    value: str
    exact: bool = False
    number_ns: int = 0
    negated: bool = False


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for: all terms together, of kinds, streams, GPUs, threads and causes any."""

    terms: tuple[Term, ...]

    def of(self, key: str, *, negated: bool = False) -> tuple[Term, ...]:
        """Return the terms about ``key``."""
        return tuple(t for t in self.terms if t.key == key and t.negated == negated)

    @property
    def is_about_window(self) -> bool:
        """True when it asks for what the analysis says, False for what was recorded."""
        kinds = {t.value for t in self.of("kind")}
        return bool(self.of("cause") or self.of("cause", negated=True) or kinds & {*WINDOW_KINDS})


def parsed(text: str) -> Query | None:
    """Return the query that a text is, None when it is a text to be looked for in names.

    Raises:
        QuerySyntaxError: It is a query, and wrong.
    """
    if len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        return None  # one whole name, whatever is in it
    tokens = _tokens(text)
    if not any(_is_condition(t) for t in tokens):
        return None
    if len(text) > MAX_QUERY:
        raise QuerySyntaxError(f"A query has {MAX_QUERY} characters at most.")
    if len(tokens) > MAX_TERMS:
        raise QuerySyntaxError(f"A query has {MAX_TERMS} conditions at most.")
    query = Query(terms=tuple(_term(t) for t in tokens))
    _check_together(query)
    return query


def likely_key(text: str) -> str:
    """Return the key that a plain text may have meant, such as stream for ``strem:7``; else ""."""
    for token in _tokens(text[:MAX_QUERY]):
        if token["named"]:
            near = difflib.get_close_matches(token["named"].lower(), KEYS, 1, cutoff=0.7)
            if near:
                return str(near[0])
    return ""


def _tokens(text: str) -> list[re.Match[str]]:
    text = _GLUED.sub(r"\1 ", text[: MAX_QUERY + 1])
    return list(_TOKEN.finditer(text.strip()))


def _is_condition(token: re.Match[str]) -> bool:
    key = (token["key"] or token["named"] or "").lower()
    return token["sign"] is not None or key in KEYS


def _term(token: re.Match[str]) -> Term:
    negated = bool(token["minus"])
    if token["sign"]:
        return _duration(token, negated)
    if token["quoted"] is not None:
        return _valued(token["key"] or "name", token["quoted"], negated, exact=True)
    if token["named"]:
        return _valued(token["named"], token["value"], negated)
    word: str = token["word"]
    if '"' in word:
        raise QuerySyntaxError(f"A quotation mark is missing in {_echo(word)}.")
    if _NO_TIME.fullmatch(word):
        raise QuerySyntaxError(
            f"{_echo(word)} needs a time, such as > 1ms; "
            "a name with that sign goes in quotation marks."
        )
    if word.lower() in KINDS:
        return Term(key="kind", value=word.lower(), negated=negated)
    if word.lower() == "duration" and not negated:
        return Term(key="duration", value="")
    return Term(key="name", value=word, negated=negated)


def _duration(token: re.Match[str], negated: bool) -> Term:
    unit, number = token["unit"].lower(), token["number"]
    if unit not in _UNITS:
        comparison = f"{token['sign']} {number}{token['unit']}"
        raise QuerySyntaxError(f"{_echo(comparison)} needs a unit of time: ns, us, ms or s.")
    whole, _, part = number.partition(".")
    if len(whole) > 18:
        raise QuerySyntaxError(f"{_echo(number)} is longer than any recording.")
    scale = _UNITS[unit]
    number_ns = int(whole) * scale + round(float(f"0.{part or 0}") * scale)
    return Term(key="duration", value=token["sign"], number_ns=number_ns, negated=negated)


def _valued(key: str, value: str, negated: bool, *, exact: bool = False) -> Term:
    key = key.lower()
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 1, cutoff=0.6)
        meant = f"did you mean {near[0]}:?" if near else f"there are {', '.join(KEYS)}."
        raise QuerySyntaxError(
            f"{_echo(key + ':')} is no key; {meant} A name with a colon goes in quotation marks."
        )
    if not value:
        raise QuerySyntaxError(f"{key}: needs a value right after the colon.")
    check = _CHECKS.get(key)
    return Term(
        key=key, value=check(value) if check else value, exact=exact and key == "name",
        negated=negated,
    )  # fmt: skip


def _one_of(choices: tuple[str, ...], what: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value.lower() in choices:
            return value.lower()
        near = difflib.get_close_matches(value.lower(), choices, 1, cutoff=0.6)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(choices)}."
        raise QuerySyntaxError(f"{_echo(value)} is no {what}; {meant}")

    return check


def _number_of(what: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise QuerySyntaxError(f"{what} is a number, such as 7; {_echo(value)} is none.")
        return str(int(value))

    return check


_CHECKS: dict[str, Callable[[str], str]] = {
    "kind": _one_of(KINDS, "kind"),
    "cause": _one_of(CAUSES, "cause"),
    "stream": _number_of("A stream"),
    "gpu": _number_of("A GPU"),
}


def _check_together(query: Query) -> None:
    """Refuse what can never hold together, instead of finding nothing."""
    for place, term in enumerate(query.terms):
        if term.key == "duration" and not term.value:
            after = query.terms[place + 1 : place + 2]
            if not after or after[0].key != "duration":
                raise QuerySyntaxError("duration is compared with a time, such as > 1ms.")
    if not query.is_about_window:
        return
    kinds = {t.value for t in query.of("kind")}
    if strangers := kinds - set(WINDOW_KINDS):
        raise QuerySyntaxError(
            f"{min(strangers)} is what was recorded, and cause:, ledger, finding and iteration are "
            "what the analysis says of it; ask for one of the two."
        )
    has_cause = query.of("cause") or query.of("cause", negated=True)
    if has_cause and kinds - {"ledger"}:
        raise QuerySyntaxError("cause: is about the ledger, not about findings or iterations.")
    if query.of("stream") or query.of("thread"):
        raise QuerySyntaxError(
            "The ledger is one for each GPU: ask with gpu:, not stream: or thread:."
        )


def _echo(text: str) -> str:
    """Return the reader's text for a sentence, printable and short."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return f"“{printable[:MAX_ECHO]}…”" if len(printable) > MAX_ECHO else f"“{printable}”"
