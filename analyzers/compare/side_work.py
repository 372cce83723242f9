"""What the kernels of each iteration do: kernel time by class, operator and inputs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.compare.side import (
    OPERATOR_BYTES,
    OPERATOR_FLOP,
    OTHERS,
    SideWork,
    SparseTable,
    WorkKey,
)
from analyzers.facts.facts import Facts
from analyzers.facts.spans import Window
from analyzers.intervals import Array, Spans, overlaps, shares_of_union
from analyzers.work.account import roofs_of
from analyzers.work.calls import OperatorCalls, operator_calls
from analyzers.work.classes import CLASSES, WorkClass
from analyzers.work.inputs import plain_list
from analyzers.work.roofs import least_seconds

MAX_KEYS = 2_000  # kinds of work that are compared one by one; the others are one


def work_by_iteration(
    facts: Facts, spans: Spans, device: int, typical: int
) -> tuple[SideWork, Array, dict[str, Array]]:
    """Return the kernel time of each iteration on a device, by what it is spent on.

    Launches that run at the same time share it, as in the account of the busy time, so that the
    sum is the row ``kernel`` of the iteration's ledger.

    Args:
        facts: The recording.
        spans: The iterations, in order, none overlapping another.
        device: Key.
        typical: Number of the iteration whose longest launches are kept.

    Returns:
        The times; for each of ``Facts.launches`` what it works on, its place in the keys, -1 for
        none; and for each iteration what modelled operators compute and move, by the names in
        ``WORK_AMOUNTS``, empty where no work is known.
    """
    calls = operator_calls(facts)
    place = np.flatnonzero(facts.launches["device"].to_numpy()[calls.launches] == device)
    launch = calls.launches[place]
    bounds = Spans(*(facts.launches[c].to_numpy()[launch] for c in ("start_ns", "end_ns")))
    query, iteration, start, end = overlaps(bounds, spans)
    ns = shares_of_union(start, end)
    least_of_keys = _least_ns(facts, calls, spans, device)
    code, keys, least = _subjects(facts, calls, place[query], least_of_keys)
    sums = np.bincount(code, ns, minlength=len(keys))
    order = np.argsort(-sums, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    code = rank[code]
    keys, least = [keys[number] for number in order], least[order]
    if len(keys) > MAX_KEYS:
        code = np.minimum(code, MAX_KEYS)
        keys = [*keys[:MAX_KEYS], WorkKey(WorkClass.OTHER.value, OTHERS, "", "")]
        least = np.append(least[:MAX_KEYS], 0.0)
    longest = np.full((len(keys), 2), -1, np.int64)
    in_typical = np.flatnonzero(iteration == typical)
    by_length = in_typical[np.argsort(ns[in_typical], kind="stable")]
    longest[code[by_length]] = np.column_stack((start, end))[by_length]
    table = _sums(iteration, code, ns, calls.call[place[query]], len(keys))
    amounts = _amounts(calls, place[query], iteration, len(spans.start))
    key_of_launch = np.full(len(facts.launches), -1, np.int32)
    key_of_launch[launch[query]] = code
    of_iterations = SideWork(keys=tuple(keys), longest=longest, least_ns=least, by_iteration=table)
    return of_iterations, key_of_launch, amounts


def _amounts(
    calls: OperatorCalls, place: Array, iteration: Array, iterations: int
) -> dict[str, Array]:
    """Return FLOP and least bytes of each iteration; a call counts where its first kernel runs."""
    pairs = pd.DataFrame(
        {"call": calls.call[place], "key": calls.key[place], "iteration": iteration}
    )
    pairs = pairs[calls.is_modelled[place] & (calls.call[place] >= 0) & (calls.key[place] >= 0)]
    pairs = pairs.drop_duplicates("call")
    if not len(pairs):
        return {}
    amounts = {}
    for name, column in ((OPERATOR_FLOP, "flop"), (OPERATOR_BYTES, "bytes")):
        of_call = np.nan_to_num(calls.keys[column].to_numpy(float)[pairs["key"]])
        amounts[name] = np.bincount(pairs["iteration"], of_call, minlength=iterations)
    return amounts


def _least_ns(facts: Facts, calls: OperatorCalls, spans: Spans, device: int) -> Array:
    """Return the least time that the device allows for a call of each key, 0 where not known."""
    if not len(calls.keys) or device < 0:
        return np.zeros(len(calls.keys))
    whole = Window(start_ns=int(spans.start.min()), end_ns=int(spans.end.max()))
    flop, moved, types, on_units = (
        calls.keys[name].to_numpy() for name in ("needed_flop", "bytes", "type", "on_matrix_units")
    )
    roof = roofs_of(facts, whole)[device]
    seconds, _ = least_seconds(roof, flop, moved, types.astype(int), on_units.astype(bool))
    return 1e9 * np.nan_to_num(seconds)


def _subjects(
    facts: Facts, calls: OperatorCalls, place: Array, least_of_keys: Array
) -> tuple[Array, list[WorkKey], Array]:
    """Return what each launch worked on: a number, what the numbers stand for, and least times."""
    key, one = calls.key[place], calls.class_code[place].astype(np.int64)
    name, ids = pd.factorize(facts.launches["name_id"].to_numpy()[calls.launches[place]])
    subjects = len(calls.keys) + len(ids)
    subject = np.where(key >= 0, key, len(calls.keys) + name)
    code, unique = pd.factorize(one * subjects + subject)
    texts = calls.keys[["operator", "shapes", "types"]].to_numpy()
    names = facts.trace.names(ids) if len(ids) else ids
    keys, least = [], []
    for number in unique.tolist():
        work_class, which = divmod(number, subjects)
        title = CLASSES[work_class].value
        if which < len(texts):
            operator, shapes, types = texts[which]
            keys.append(WorkKey(title, str(operator), plain_list(shapes), plain_list(types)))
            least.append(float(least_of_keys[which]))
        else:
            keys.append(WorkKey(title, "", "", "", str(names[which - len(texts)])))
            least.append(0.0)
    return _alike(code, keys, np.array(least))


def _alike(code: Array, keys: list[WorkKey], least: Array) -> tuple[Array, list[WorkKey], Array]:
    """Make one of keys that differ only in what is not compared, such as strides."""
    number: dict[WorkKey, int] = {}
    places = np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)
    one_each = np.zeros(len(number))
    np.maximum.at(one_each, places, least)
    return (places[code] if len(places) else code), list(number), one_each


def _sums(iteration: Array, code: Array, ns: Array, call: Array, keys: int) -> SparseTable:
    """Return kernel time and calls by iteration and key; a launch without a call counts as one."""
    cell, unique = pd.factorize(iteration.astype(np.int64) * max(keys, 1) + code)
    pairs = pd.DataFrame({"cell": cell[call >= 0], "call": call[call >= 0]}).drop_duplicates()
    count = np.bincount(cell[call < 0], minlength=len(unique))
    count = count + np.bincount(pairs["cell"].to_numpy(np.int64), minlength=len(unique))
    when, column = np.divmod(unique, max(keys, 1))
    return SparseTable(
        iteration=when.astype(np.int32),
        column=column.astype(np.int32),
        ns=np.bincount(cell, ns, minlength=len(unique)).astype(np.int64),
        count=count.astype(np.int64),
    )
