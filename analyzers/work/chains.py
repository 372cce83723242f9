"""Chains of operations bound by memory, each of which reads what the one before it wrote.

One kernel in their place keeps what lies between them in registers: it is not read again, and, when
nobody else needs it, never written. Traces do not say which tensor is which, so that a link is
concluded: the two run one right after the other on a stream, and the second reads a tensor with as
many elements and of the type that the first one wrote. Where that often happens by chance, no link
is claimed: updates of optimizers, accumulation of gradients, the same in-place operation of one
tensor after the other, fills.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.surroundings import operators_of, ranges_of
from analyzers.intervals import Array
from analyzers.work.account import LaunchWork
from analyzers.work.classes import CODES, WorkClass, operator_class
from analyzers.work.element_types import CODE_OF, NO_TYPE
from analyzers.work.inputs import Inputs, read_inputs
from analyzers.work.models.elementwise import COMPARISONS, broadcast_elements

MAX_MEMBERS = 16  # of a chain; longer ones are cut, as compilers do
FUSIBLE = (
    *(WorkClass.ELEMENTWISE, WorkClass.NORMALISATION, WorkClass.SOFTMAX, WorkClass.REDUCTION),
    *(WorkClass.LAYOUT, WorkClass.RANDOM, WorkClass.QUANTISE),
)
"""Classes that one kernel can carry out together, element by element or row by row."""

# Engines write into their first argument: _C::rms_norm(out, input, weight, eps) of vLLM.
_WRITES_FIRST = r"(?:_C|sgl_kernel)::.*"
_ATEN = r"aten::.*"
# What they write is not what they read: lists, fills, and parts of tensors.
_NO_MEMBER = (
    r"aten::(?:_foreach_.*|_fused_.*|zero_|fill_|cat|_cat|stack|index.*|.*pool.*|nll_loss.*)"
)
# Read again after statistics over all rows are complete: nothing before them can be kept.
_READS_TWICE = r"aten::\w*(?:batch_norm|group_norm|instance_norm)\w*"
_IN_PLACE = r"aten::\w+[^_]_"
_SEPARATE = (r"^Optimizer\.", r"AccumulateGrad")  # around calls whose neighbours are other tensors

_SUMS = (
    *("busy_ns", "bytes", "spared_bytes_low", "spared_bytes_high", "least_ns", "least_after_ns"),
    *("after_low_ns", "after_high_ns"),
)
COLUMNS = ("device", "stream", "count", "operators", "keys", "calls", "launches", *_SUMS)


def fusible_chains(facts: Facts, work: LaunchWork) -> pd.DataFrame:
    """Return chains of operations that one kernel could carry out, those that save most first.

    One row stands for all chains of the same operators with the same inputs on one stream, with

    * ``device`` (key), ``stream``, ``count`` (of such chains);
    * ``operators`` (names, in order) and ``keys`` (rows of ``work.calls.keys``), tuples;
    * ``calls`` (rows of the trace's operators, ``count`` times members) and ``launches`` (rows of
      ``Facts.launches``, ``count`` times launches of a chain), arrays;
    * ``busy_ns`` (their part of the kernel time at present) and ``bytes`` (that they move);
    * ``spared_bytes_low``, ``spared_bytes_high``: bytes that one kernel would not move, when what
      lies between is written all the same for others (autograd, a residual), and when it is not;
    * ``least_ns``, ``least_after_ns``: what the roof allows now, and with most bytes spared, NaN
      for a device without a known roof;
    * ``after_low_ns``, ``after_high_ns``: the kernel time afterwards, when bytes move as fast as
      each operation moves them now.

    Times and bytes are sums over all ``count`` chains.
    """
    members, launches = _members(facts, work)
    if len(members) > 1:
        members = _in_chains(work, members)
    if len(members) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    return _table(work, members, launches)


def _members(facts: Facts, work: LaunchWork) -> tuple[pd.DataFrame, Array]:
    """Return the calls that may be part of a chain, stream by stream and in order; their launches.

    Columns: ``device``, ``stream``, ``call``, ``key``, ``first``, ``last`` (places on the stream of
    its launches), ``begin`` (of its launches among all), ``launches`` (how many), ``busy_ns``,
    ``least_ns``, ``part`` (of the call that lies in the window).
    """
    frame, keys = work.launches, work.calls.keys
    if not len(keys):
        return pd.DataFrame(), np.empty(0, np.int64)
    operator = keys["operator"].astype(str).str
    may = operator.fullmatch(_ATEN) | operator.fullmatch(_WRITES_FIRST)
    may &= ~operator.fullmatch(_NO_MEMBER) & np.isfinite(keys["bytes"].to_numpy(float))
    may &= ~keys["on_matrix_units"].to_numpy(bool)
    key = frame["key"].to_numpy()
    codes = [CODES[one] for one in FUSIBLE]
    chosen = (key >= 0) & may.to_numpy()[key] & frame["class_code"].isin(codes).to_numpy()
    chosen &= work.calls.is_modelled[frame["place"].to_numpy()] & ~frame["is_compute"].to_numpy()
    launch = frame["launch"].to_numpy()
    chosen[chosen] = ~_is_separate(facts, launch[chosen])
    place, stream = _places_on_streams(facts)
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(place[launch[rows]], kind="stable")]
    launch = launch[rows]
    table = frame.iloc[rows].assign(place=place[launch], stream=stream[launch])
    new = _differs(table["call"]) | _differs(table["device"]) | _differs(table["stream"])
    new |= np.diff(table["place"].to_numpy(), prepend=-2) != 1
    if not len(table):
        return pd.DataFrame(), launch
    begin = np.flatnonzero(new)
    end = np.append(begin[1:], len(table))
    firsts = {name: table[name].to_numpy()[begin] for name in ("device", "stream", "call", "key")}
    sums = {
        name: np.add.reduceat(table[name].to_numpy(), begin)
        for name in ("busy_ns", "least_ns", "part")
    }
    places = table["place"].to_numpy()
    members = pd.DataFrame(
        {
            **firsts,
            **sums,
            "first": places[begin],
            "last": places[end - 1],
            "begin": begin,
            "launches": end - begin,
        }
    )
    return members, launch


def _in_chains(work: LaunchWork, members: pd.DataFrame) -> pd.DataFrame:
    """Return the members of chains of two and more, each with what it reads of the one before."""
    is_linked, read_bytes, is_overwritten = _links(work, members)
    first = _first_members(is_linked)
    chain = np.cumsum(first) - 1
    table = members.assign(
        is_first=first,
        read_bytes=np.where(first, 0.0, read_bytes),
        is_overwritten=is_overwritten & ~first,
    )
    is_chain: Array = (np.bincount(chain) > 1)[chain]
    return table.loc[is_chain].reset_index(drop=True)


def _differs(column: pd.Series[Any]) -> Array:
    result: Array = column.ne(column.shift()).to_numpy()
    return result


def _is_separate(facts: Facts, launch: Array) -> Array:
    """Return which launches work on one tensor after the other, each for itself."""
    threads, moments = facts.thread_index[launch], facts.api_start_ns[launch]
    spans = (ranges_of(facts).of_names(_SEPARATE[0]), operators_of(facts).of_names(_SEPARATE[1]))
    around = [one.around(threads, moments) >= 0 for one in spans]
    result: Array = around[0] | around[1]
    return result


def _places_on_streams(facts: Facts) -> tuple[Array, Array]:
    """Return the place of each launch in the order of streams, and its stream.

    Streams of one device stand behind each other, with a gap of one between two of them.
    """
    frame = facts.launches
    columns = [frame[name].to_numpy() for name in ("process_index", "device", "stream")]
    order = np.lexsort((frame["start_ns"].to_numpy(), *columns))
    changes = np.zeros(len(order), dtype=bool)
    for column in columns:
        changes[1:] |= column[order][1:] != column[order][:-1]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) + np.cumsum(changes)
    return place, columns[2]


# --- links --------------------------------------------------------------------------------------


def _links(work: LaunchWork, members: pd.DataFrame) -> tuple[Array, Array, Array]:
    """Return whether each member reads what the one before it wrote, and how many bytes that is.

    The third column tells whether it overwrites that, so that nobody else can need it.
    """
    key = members["key"].to_numpy()
    used, code = np.unique(key, return_inverse=True)
    keys = work.calls.keys.iloc[used]
    shapes, types, strides, values = (
        keys[name].tolist() for name in ("shapes", "types", "strides", "values")
    )
    inputs = read_inputs(shapes, types, strides, values, keys["type"].to_numpy(int))
    operator = keys["operator"].astype(str)
    elements, kind = _outputs(inputs, operator, keys["type"].to_numpy(int))
    pairs, pair = np.unique(code[:-1] * len(used) + code[1:], return_inverse=True)
    producer, consumer = np.divmod(pairs, len(used))
    reads = _is_read(inputs, operator)
    fits = reads[consumer] & (inputs.elements[consumer] == elements[producer, None])
    read = np.stack([inputs.type(place) for place in range(inputs.width)], axis=1)[consumer]
    made = kind[producer, None]
    fits &= (read == made) | (read == NO_TYPE) | (made == NO_TYPE)
    size = np.stack([inputs.bytes(place) for place in range(inputs.width)], axis=1)[consumer]
    moved = np.where(fits, np.nan_to_num(size), 0).max(axis=1, initial=0)
    in_place = operator.str.fullmatch(_IN_PLACE).to_numpy(bool) & ~_is_copy(operator)
    twice = operator.str.fullmatch(_READS_TWICE).to_numpy(bool)
    repeats = (producer == consumer) & in_place[producer]
    is_link = (moved > 0) & ~twice[consumer] & ~repeats
    overwritten = in_place[consumer] & fits[:, 0] & (fits.sum(axis=1) == 1)
    adjacent = members["first"].to_numpy()[1:] == members["last"].to_numpy()[:-1] + 1
    linked = np.append(False, is_link[pair] & adjacent)
    return linked, np.append(0.0, moved[pair]), np.append(False, overwritten[pair])


def _is_copy(operator: pd.Series[Any]) -> Array:
    result: Array = (operator == "aten::copy_").to_numpy()
    return result


def _is_read(inputs: Inputs, operator: pd.Series[Any]) -> Array:
    """Return which inputs are read: what engines and copies write to is not."""
    reads = inputs.rank > 0
    writes_first = operator.str.fullmatch(_WRITES_FIRST).to_numpy(bool)
    writes_first = writes_first & ~operator.str.contains("fused_add").to_numpy(bool)
    reads[writes_first | _is_copy(operator), 0] = False
    return reads


def _outputs(inputs: Inputs, operator: pd.Series[Any], kind: Array) -> tuple[Array, Array]:
    """Return elements and type of what each operator writes, NaN elements where that is unknown."""
    first = inputs.numel(0)
    shape = broadcast_elements(inputs, range(inputs.width))
    in_place = operator.str.fullmatch(_IN_PLACE).to_numpy(bool)
    to_first = in_place | operator.str.fullmatch(_WRITES_FIRST).to_numpy(bool)
    is_simple = operator.str.fullmatch(r"aten::\w*(?:norm|softmax|dropout)\w*").to_numpy(bool)
    elements = np.where(to_first | is_simple, first, shape)
    classes = [operator_class(name) for name in operator]
    elements[[one is WorkClass.REDUCTION for one in classes]] = np.nan
    types = np.where(to_first | is_simple, inputs.type(0), kind)
    types = np.where(operator.isin(COMPARISONS), CODE_OF["bool"], types)
    return elements, types


def _first_members(is_linked: Array) -> Array:
    """Return which members begin a chain, so that none has more than ``MAX_MEMBERS``."""
    begin = np.where(is_linked, 0, np.arange(len(is_linked)))
    place = np.arange(len(is_linked)) - np.maximum.accumulate(begin)
    result: Array = place % MAX_MEMBERS == 0
    return result


# --- sums ---------------------------------------------------------------------------------------


def _table(work: LaunchWork, members: pd.DataFrame, launches: Array) -> pd.DataFrame:
    """Return one row for all chains that are alike."""
    members = members.assign(**_times_after(work, members))
    begin = np.flatnonzero(members["is_first"].to_numpy())
    length = np.diff(np.append(begin, len(members)))
    kind = _kinds(members, begin, length)
    order = np.argsort(kind, kind="stable")
    rows = []
    for same in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1):
        at = begin[same][:, None] + np.arange(length[same[0]])
        rows.append(_row(work, members, launches, at))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    gain = table["busy_ns"] - table["after_low_ns"]
    return table.iloc[np.argsort(-gain.to_numpy(), kind="stable")].reset_index(drop=True)


def _kinds(members: pd.DataFrame, begin: Array, length: Array) -> Array:
    """Return a number for each chain: the same for chains that are alike."""
    same = np.zeros(len(members), np.int64)
    for column in ("device", "stream", "key", "launches"):
        codes, values = pd.factorize(members[column])
        same = pd.factorize(same * max(len(values), 1) + codes)[0]
    kind: Array = length.copy()
    for place in range(int(length.max())):
        inside = place < length
        at = np.where(inside, same[np.minimum(begin + place, len(same) - 1)] + 1, 0)
        kind = pd.factorize(kind * (len(same) + 1) + at)[0]
    return kind


def _times_after(work: LaunchWork, members: pd.DataFrame) -> dict[str, Array]:
    """Return, for each member, bytes that it moves and those that one kernel would spare.

    A member saves the part of its time that spared bytes are of its own.
    """
    each = work.calls.keys["bytes"].to_numpy(float)[members["key"].to_numpy()]
    part = members["part"].to_numpy()
    read = members["read_bytes"].to_numpy()
    follows = ~np.append(members["is_first"].to_numpy()[1:], True)
    written = np.where(follows, np.append(read[1:], 0.0), 0.0)
    overwritten = np.append(members["is_overwritten"].to_numpy()[1:], False) & follows
    low = np.minimum(read + np.where(overwritten, written, 0.0), each) * part
    high = np.minimum(read + written, each) * part
    busy, moved = members["busy_ns"].to_numpy(), each * part
    rate = busy / np.maximum(moved, 1)
    return {
        "bytes": moved,
        "spared_bytes_low": low,
        "spared_bytes_high": high,
        "after_low_ns": busy - rate * high,
        "after_high_ns": busy - rate * low,
        "least_after_ns": members["least_ns"].to_numpy() * (1 - high / np.maximum(moved, 1)),
    }


def _row(work: LaunchWork, members: pd.DataFrame, launches: Array, at: Array) -> dict[str, object]:
    """Return the row of chains that are alike; ``at`` holds the places of their members."""
    alike = members.iloc[at[0]]
    keys = tuple(alike["key"].tolist())
    begin, size = members["begin"].to_numpy()[at], alike["launches"].to_numpy()
    places = [begin[:, [m]] + np.arange(size[m]) for m in range(len(size))]
    sums = {name: members[name].to_numpy()[at].sum() for name in _SUMS}
    return {
        "device": int(alike["device"].iloc[0]),
        "stream": int(alike["stream"].iloc[0]),
        "count": len(at),
        "operators": tuple(work.calls.keys["operator"].iloc[list(keys)]),
        "keys": keys,
        "calls": members["call"].to_numpy()[at],
        "launches": launches[np.concatenate(places, axis=1)],
        **sums,
    }
