"""Calls that cost time once, because something is used for the first time in a process.

The first call that needs a device creates its context, whatever it is called: ``cudaFree(0)`` is
the usual way to ask for one, and ``cudaMalloc`` does as well. Libraries load their kernels when an
operator first needs them, inside calls that otherwise only take or give back memory. To allocate
once would change nothing about such a call.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.cuda_names import Call
from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.facts.surroundings import NamedSpans, operators_of
from analyzers.facts.trace_table import trace_columns
from analyzers.intervals import Array
from common.memo import memo

FIRST_USE_MIN_NS = 1_000_000  # a call that takes less has created nothing

# Taking or giving back memory of a device, and asking about it, takes micro- to a few
# milliseconds. Fifty is what creating a context or loading a library takes.
CREATION_MIN_NS = 50_000_000

_HOST_MEMORY = ("Host", "Managed")  # pinning gigabytes does take seconds


@memo()
def is_start_up(facts: Facts) -> Array:
    """Return whether each row of ``Facts.api`` took its time for something's first use.

    These are calls that take or free device memory, or only ask: before the process launched
    anything and of a millisecond or more; frees before the process took any memory; and those of
    50 ms or more that are the first of their name, or inside an operator's first execution.
    """
    call = facts.calls[facts.api["name"].to_numpy()]
    suited = np.isin(call, (Call.FREE, Call.ALLOCATE, Call.OTHER)) & ~_of_host_memory(facts)
    begin, end = facts.api["start_ns"].to_numpy(), facts.api["end_ns"].to_numpy()
    process = _process(facts)
    early = begin < _first_begin(facts, process, np.isin(call, (Call.LAUNCH, Call.COPY)))[process]
    empty = begin < _first_begin(facts, process, call == Call.ALLOCATE)[process]
    result: Array = suited & early & (end - begin >= FIRST_USE_MIN_NS) & (call != Call.OTHER)
    result |= (call == Call.FREE) & suited & early & empty
    long = suited & (end - begin >= CREATION_MIN_NS)
    if long.any():
        rows = np.flatnonzero(long)
        first = np.zeros(len(call), dtype=bool)
        first[_first_of_name(facts, process)] = True
        result[rows] |= first[rows] | _in_first_execution(facts, rows)
    return result


def _of_host_memory(facts: Facts) -> Array:
    of_name = [any(word in str(name) for word in _HOST_MEMORY) for name in facts.functions]
    host: Array = np.array(of_name, dtype=bool)[facts.api["name"].to_numpy()]
    return host


def _process(facts: Facts) -> Array:
    """Return a number of the process of each call, from 0."""
    table = trace_columns(facts.trace, "threads", ["thread_key", "process_key"])
    of = dict(zip(table["thread_key"].tolist(), table["process_key"].tolist(), strict=True))
    codes, _ = pd.factorize(np.array([of.get(t, UNKNOWN) for t in facts.thread_keys.tolist()]))
    process: Array = codes[facts.api["thread_index"].to_numpy()]
    return process


def _first_begin(facts: Facts, process: Array, chosen: Array) -> Array:
    """Return when each process made the first of the chosen calls; the largest time for none."""
    first = np.full(int(process.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, process[chosen], facts.api["start_ns"].to_numpy()[chosen])
    return first


def _first_of_name(facts: Facts, process: Array) -> Array:
    """Return the rows of the first call of each function in each process."""
    calls = pd.DataFrame({"caller": process, "name": facts.api["name"].to_numpy()})
    order = np.argsort(facts.api["start_ns"].to_numpy(), kind="stable")
    calls = calls.iloc[order]
    rows: Array = order[~calls.duplicated().to_numpy()]
    return rows


def _in_first_execution(facts: Facts, rows: Array) -> Array:
    """Return which calls are inside the first execution of the operator that made them."""
    operators = operators_of(facts)
    if not len(operators):
        return np.zeros(len(rows), dtype=bool)
    thread = facts.api["thread_index"].to_numpy()[rows]
    around = operators.around(thread, facts.api["start_ns"].to_numpy()[rows])
    first = _first_executions(operators)
    inside: Array = (around >= 0) & first[np.maximum(around, 0)]
    return inside


def _first_executions(operators: NamedSpans) -> Array:
    order = np.argsort(operators.spans.start, kind="stable")
    first = np.zeros(len(operators), dtype=bool)
    first[order[~pd.Series(operators.name[order]).duplicated().to_numpy()]] = True
    return first
