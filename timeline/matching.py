"""Which events of an index a query or a text asks for, over whole columns."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analyzers.finding import CAUSE_OF_ROW, Row
from collectors.schema import Array
from timeline.colors import COLOR_CODE, OPERATIONS
from timeline.index import Index
from timeline.labels import GRAPH_WORDS, MEMSET_WORDS
from timeline.lane import Group, Lane, track_labels
from timeline.query import HOST_KINDS, OPERATION_KINDS, WINDOW_KINDS, Query, Term

QUOTE, CUT = '"', "…"  # around a whole name; where one was cut
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def matching_text(index: Index, text: str) -> Array:
    """Return for each event whether its name contains ``text``, whatever the case.

    Between quotation marks it is the whole name, or its beginning where the text ends in "…".
    """
    return _named(index, matching_names(index.names, text))


def matching_query(index: Index, query: Query, title_of: Callable[[Group], str]) -> Array:
    """Return for each event whether a query asks for it.

    Args:
        index: That of the window if the query is about it, else that of the recording.
        query: What is asked for.
        title_of: What a group is called.
    """
    bits = np.zeros(len(index.start), bool)
    mirrors, parts = [], []
    for lane, label in zip(index.lanes, track_labels(index.lanes), strict=True):
        title = title_of(index.groups[lane.group])
        if lane.mirror:
            mirrors.append(lane)
        elif lane.kind != "counter" and _lane_matches(lane, label, title, query):
            for first, count, color in lane.parts:
                if lane.kind != "ledger" or _cause_matches(color, query):
                    bits[first : first + count] = True
                    parts.append((first, first + count))
    for term in query.terms:
        if not bits.any():
            return bits
        if term.key == "name":
            quote = QUOTE if term.exact else ""
            _keep(
                bits, _named(index, matching_names(index.names, quote + term.value + quote)), term
            )
        elif term.key == "duration" and term.value:
            for first, last in _runs(parts):
                here, lengths = bits[first:last], np.diff(index.sums[first : last + 1])
                _keep(here, _COMPARE[term.value](lengths, np.int64(term.number_ns)), term)
    _keep_kinds(bits, index, query)
    _match_mirrors(bits, index, mirrors)
    return bits


def matching_names(names: pa.LargeStringArray, text: str) -> Array:
    """Return for each name whether it contains ``text``; see ``matching_text``."""
    if len(text) < 3 or text[0] + text[-1] != 2 * QUOTE:
        holds = pc.match_substring(names, text, ignore_case=True)
    elif text[1:-1].endswith(CUT):
        holds = pc.starts_with(names, text[1:-1].removesuffix(CUT))
    else:
        holds = pc.equal(names, text[1:-1])
    hits: Array = holds.fill_null(False).to_numpy(zero_copy_only=False)
    return hits


def _named(index: Index, hits: Array) -> Array:
    bits: Array = hits[index.name] if hits.any() else np.zeros(len(index.start), bool)
    return bits


def _keep(bits: Array, holds: Array, term: Term) -> None:
    np.logical_and(bits, ~holds if term.negated else holds, out=bits)


def _runs(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return stretches of events, those that touch each other as one."""
    runs: list[tuple[int, int]] = []
    for first, last in sorted(parts):
        if runs and runs[-1][1] == first:
            first = runs.pop()[0]
        runs.append((first, last))
    return runs


def _lane_matches(lane: Lane, label: str, title: str, query: Query) -> bool:
    """Tell whether any event of a lane can match: its table, stream, GPU and thread do."""
    gpu = re.match(r"GPU (\d+)\b", title)
    is_thread = title if lane.table in HOST_KINDS.values() else None
    facts: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("stream", lambda value: lane.table == OPERATIONS and label == f"stream {value}"),
        ("gpu", lambda value: gpu is not None and gpu[1] == value),
        ("thread", lambda value: is_thread is not None and value.lower() in is_thread.lower()),
        ("kind", lambda value: _may_be(lane, value)),
    )
    for key, holds in facts:
        included = query.of(key)
        if included and not any(holds(t.value) for t in included):
            return False
        excluded = query.of(key, negated=True)
        whole = [t for t in excluded if key != "kind" or t.value not in OPERATION_KINDS]
        if any(holds(t.value) for t in whole):
            return False
    causes = query.of("cause") or query.of("cause", negated=True)
    return lane.kind == "ledger" if causes else True


def _may_be(lane: Lane, kind: str) -> bool:
    if kind in OPERATION_KINDS:
        return lane.table == OPERATIONS
    if kind in WINDOW_KINDS:
        return lane.kind == WINDOW_KINDS[kind]
    return lane.table == HOST_KINDS[kind]


def _cause_matches(color: int, query: Query) -> bool:
    """Tell whether a row of the ledger counts for one of the causes that are asked for."""
    row = next(r for r, code in COLOR_CODE.items() if code == color)
    words = {row.value, str(CAUSE_OF_ROW.get(row, row.value))}
    included = {t.value for t in query.of("cause")}
    excluded = {t.value for t in query.of("cause", negated=True)}
    return (not included or bool(words & included)) and not words & excluded


def _keep_kinds(bits: Array, index: Index, query: Query) -> None:
    """Leave of the operations those whose kind is asked for; colour and name tell it."""
    included = [t.value for t in query.of("kind")]
    excluded = [t.value for t in query.of("kind", negated=True) if t.value in OPERATION_KINDS]
    if not {*included, *excluded} & {*OPERATION_KINDS}:
        return
    own = {w: matching_names(index.names, f'"{w}"') for w in (MEMSET_WORDS, GRAPH_WORDS)}
    for lane in index.lanes:
        if lane.table != OPERATIONS or lane.mirror:
            continue
        for first, count, _ in lane.parts:
            here = slice(first, first + count)
            if included:
                kinds = [_of_kind(index, here, own, w) for w in included if w in OPERATION_KINDS]
                bits[here] &= np.logical_or.reduce(kinds)
            for kind in excluded:
                bits[here] &= ~_of_kind(index, here, own, kind)


def _of_kind(index: Index, here: slice, own: Mapping[str, Array], kind: str) -> Array:
    """Return which operations of a stretch are of a kind.

    Args:
        index: Where they are.
        here: The stretch.
        own: For each word of ours which names are it; a kernel may be called so, too.
        kind: One of ``OPERATION_KINDS``.
    """
    rows = {"collective": Row.COMMUNICATION, "copy": Row.TRANSFER, "memset": Row.TRANSFER}
    colored: Array = index.color[here] == COLOR_CODE[rows.get(kind, Row.KERNEL)]
    word = {"copy": MEMSET_WORDS, "memset": MEMSET_WORDS}.get(kind, GRAPH_WORDS)
    if kind == "collective":
        return colored
    if not own[word].any():
        return colored if kind in ("copy", "kernel") else np.zeros(len(colored), bool)
    is_word = own[word][index.name[here]]
    result: Array = colored & (is_word if kind in ("memset", "graph") else ~is_word)
    return result


def _match_mirrors(bits: Array, index: Index, mirrors: list[Lane]) -> None:
    """Let an operation that is shown a second time match there as it does in its stream."""
    own = [lane for lane in index.lanes if lane.table == OPERATIONS and not lane.mirror]
    parts = [part for lane in own for part in lane.parts if part[1]]
    if not mirrors or not parts:
        return
    size = 1 + max(int(index.row[first : first + count].max()) for first, count, _ in parts)
    rows = np.zeros(size, bool)
    for first, count, _ in parts:
        rows[index.row[first : first + count]] = bits[first : first + count]
    for lane in mirrors:
        for first, count, _ in lane.parts:
            bits[first : first + count] = rows[index.row[first : first + count]]
