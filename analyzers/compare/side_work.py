"""What the kernels of each iteration do: kernel time by class, operator and inputs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.compare.side import OTHERS, SideWork, SparseTable, WorkKey
from analyzers.facts.facts import Facts
from analyzers.intervals import Array, Spans, overlaps, shares_of_union
from analyzers.work.calls import OperatorCalls, operator_calls
from analyzers.work.classes import CLASSES, WorkClass
from analyzers.work.inputs import plain_list

MAX_KEYS = 2_000  # kinds of work that are compared one by one; the others are one


def work_by_iteration(
    facts: Facts, spans: Spans, device: int, typical: int
) -> tuple[SideWork, Array]:
    """Return the kernel time of each iteration on a device, by what it is spent on.

    Launches that run at the same time share it, as in the account of the busy time, so that the
    sum is the row ``kernel`` of the iteration's ledger.

    Args:
        facts: The recording.
        spans: The iterations, in order, none overlapping another.
        device: Key.
        typical: Number of the iteration whose longest launches are kept.

    Returns:
        The times, and for each of ``Facts.launches`` what it works on: its place in the keys, -1
        for none.
    """
    calls = operator_calls(facts)
    place = np.flatnonzero(facts.launches["device"].to_numpy()[calls.launches] == device)
    launch = calls.launches[place]
    bounds = Spans(*(facts.launches[c].to_numpy()[launch] for c in ("start_ns", "end_ns")))
    query, iteration, start, end = overlaps(bounds, spans)
    ns = shares_of_union(start, end)
    code, keys = _subjects(facts, calls, place[query])
    sums = np.bincount(code, ns, minlength=len(keys))
    order = np.argsort(-sums, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    code = rank[code]
    keys = [keys[number] for number in order]
    if len(keys) > MAX_KEYS:
        code = np.minimum(code, MAX_KEYS)
        keys = [*keys[:MAX_KEYS], WorkKey(WorkClass.OTHER.value, OTHERS, "", "")]
    longest = np.full((len(keys), 2), -1, np.int64)
    in_typical = np.flatnonzero(iteration == typical)
    by_length = in_typical[np.argsort(ns[in_typical], kind="stable")]
    longest[code[by_length]] = np.column_stack((start, end))[by_length]
    table = _sums(iteration, code, ns, calls.call[place[query]], len(keys))
    key_of_launch = np.full(len(facts.launches), -1, np.int32)
    key_of_launch[launch[query]] = code
    return SideWork(keys=tuple(keys), longest=longest, by_iteration=table), key_of_launch


def _subjects(facts: Facts, calls: OperatorCalls, place: Array) -> tuple[Array, list[WorkKey]]:
    """Return what each launch worked on: a number, and what the numbers stand for."""
    key, one = calls.key[place], calls.class_code[place].astype(np.int64)
    name, ids = pd.factorize(facts.launches["name_id"].to_numpy()[calls.launches[place]])
    subjects = len(calls.keys) + len(ids)
    subject = np.where(key >= 0, key, len(calls.keys) + name)
    code, unique = pd.factorize(one * subjects + subject)
    texts = calls.keys[["operator", "shapes", "types"]].to_numpy()
    names = facts.trace.names(ids) if len(ids) else ids
    keys = []
    for number in unique.tolist():
        work_class, which = divmod(number, subjects)
        title = CLASSES[work_class].value
        if which < len(texts):
            operator, shapes, types = texts[which]
            keys.append(WorkKey(title, str(operator), plain_list(shapes), plain_list(types)))
        else:
            keys.append(WorkKey(title, "", "", "", str(names[which - len(texts)])))
    return _alike(code, keys)


def _alike(code: Array, keys: list[WorkKey]) -> tuple[Array, list[WorkKey]]:
    """Make one of keys that differ only in what is not compared, such as strides."""
    number: dict[WorkKey, int] = {}
    places = np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)
    return (places[code] if len(places) else code), list(number)


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
