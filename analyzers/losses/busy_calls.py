"""Operator calls of a window in the order of their streams, with what of their time can be claimed.

The estimates about the inside of kernels start here: a call is what an operator launched, with its
work and its roof. Time that other findings claim, that runs beside other kernels, or that counters
tell about is nobody's to claim again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.facts import KERNEL, Facts
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.fp32_products import fp32_products
from analyzers.losses.fp64_kernels import fp64_kernels
from analyzers.losses.parallelism import alone_ns, claimed_ns
from analyzers.work.account import LaunchWork, ledger_work
from analyzers.work.classes import CODES, WorkClass

CONVERTED = (WorkClass.MATMUL, WorkClass.CONVOLUTION)
"""Classes whose calls launch kernels that only bring an operand into another layout or type."""

# Of a launch's work; the whole table is large.
_COLUMNS = (
    *("place", "launch", "device", "class_code", "key", "call"),
    *("busy_ns", "least_ns", "is_compute", "part"),
)


@dataclass(frozen=True, eq=False)
class BusyCalls:
    """Calls of a window by device, stream and begin.

    Attributes:
        facts: The recording.
        ledger: Its account.
        work: What each launch did.
        launches: One row for each launch, in that order: ``launch`` (row of ``Facts.launches``),
            ``node`` (row of ``nodes``) and ``free_ns`` (what can be claimed).
        nodes: One row for each call, or launch without one, in that order; what a product or
            convolution launches to change layouts is a node of its own. ``device``, ``stream``,
            ``first`` (row of ``launches``), ``class_code``, ``is_conversion`` (such a change),
            ``key``, ``part`` (of the call in the window), ``busy_ns``, ``free_ns``, ``least_ns``
            (NaN unknown), ``is_compute``, ``is_modelled`` (its work is known, on whatever device),
            ``is_recomputed``; and for its part, 0 where unknown, ``flop`` and ``bytes``.
        operators: Name of the operator of each node; empty for a launch without one.
    """

    facts: Facts
    ledger: Ledger
    work: LaunchWork
    launches: pd.DataFrame
    nodes: pd.DataFrame
    operators: Array

    @property
    def stream(self) -> Array:
        """Return a number for the stream of each node; streams of two devices differ."""
        device, stream = (self.nodes[name].to_numpy(np.int64) for name in ("device", "stream"))
        result: Array = device * (1 << 32) + stream
        return result

    def of_class(self, *classes: WorkClass) -> Array:
        """Return which nodes are of one of these classes."""
        result: Array = np.isin(self.nodes["class_code"], [CODES[one] for one in classes])
        return result

    def of_keys(self, chosen: pd.Series[bool]) -> Array:
        """Return which nodes do what one of the chosen rows of ``work.calls.keys`` says."""
        key = self.nodes["key"].to_numpy()
        result: Array = np.append(chosen.to_numpy(bool), False)[key]  # the last: no key
        return result


def busy_calls(facts: Facts, ledger: Ledger) -> BusyCalls:
    """Return the calls of the ledger's window."""
    work = ledger_work(facts, ledger)
    frame = work.launches
    launch = frame["launch"].to_numpy()
    stream = facts.launches["stream"].to_numpy()[launch]
    order = np.lexsort((facts.launches["start_ns"].to_numpy()[launch], stream, frame["device"]))
    free = _free_ns(facts, ledger, frame)[order]
    frame = frame[list(_COLUMNS)].iloc[order].assign(free_ns=free)
    call, launch = frame["call"].to_numpy(), frame["launch"].to_numpy()
    owner = np.where(call >= 0, call, call.max(initial=0) + 1 + np.arange(len(call)))
    is_conversion = are_conversions(work, frame)
    node = pd.factorize(2 * owner + is_conversion)[0]
    launches = frame.assign(node=node, is_conversion=is_conversion).reset_index(drop=True)
    nodes = _nodes(work, launches)
    nodes = nodes.assign(stream=stream[order][nodes["first"]])
    key, names = nodes["key"].to_numpy(), work.calls.keys["operator"].to_numpy()
    operators = np.full(len(key), "", object)
    operators[key >= 0] = names[key[key >= 0]]
    few = launches[["launch", "node", "free_ns"]].copy()  # the others take much memory
    return BusyCalls(facts, ledger, work, few, nodes, operators)


def are_conversions(work: LaunchWork, launches: pd.DataFrame) -> Array:
    """Return which of these rows of ``work.launches`` only change the layout for their call."""
    of_kernel = work.calls.kernel_class_code[launches["place"].to_numpy()]
    result: Array = (of_kernel == CODES[WorkClass.LAYOUT]) & np.isin(
        launches["class_code"].to_numpy(), [CODES[one] for one in CONVERTED]
    )
    return result


def _free_ns(facts: Facts, ledger: Ledger, frame: pd.DataFrame) -> Array:
    """Return how much of each launch's time no finding claims yet."""
    launch = frame["launch"].to_numpy()
    free = np.minimum(frame["busy_ns"].to_numpy(), alone_ns(facts, ledger)[launch])
    free = free - claimed_ns(facts, ledger)[launch]
    for kernels in (fp32_products(facts, ledger), fp64_kernels(facts, ledger)):
        if kernels is not None:
            claimed = np.zeros(len(facts.launches), np.int64)
            claimed[kernels.launches["launch"].to_numpy()] = kernels.launches["high_ns"].to_numpy()
            free = free - claimed[launch]
    free = np.where(facts.launches["kind"].to_numpy()[launch] == KERNEL, free, 0)
    if ledger.examined is not None:  # counters tell about these
        free = np.where(ledger.examined.joined.row[launch] < 0, free, 0)
    return np.maximum(free, 0)


def _nodes(work: LaunchWork, launches: pd.DataFrame) -> pd.DataFrame:
    node = launches["node"].to_numpy()
    count = int(node.max(initial=-1)) + 1
    first = np.full(count, -1)
    first[node[::-1]] = np.arange(len(node))[::-1]
    head = launches.iloc[first]
    key = head["key"].to_numpy()
    names = ("device", "class_code", "is_conversion", "key")
    columns = {name: head[name].to_numpy() for name in names}
    sums = {
        name: np.bincount(node, launches[name], minlength=count)
        for name in ("busy_ns", "free_ns", "least_ns", "part")
    }
    place = head["place"].to_numpy()
    is_modelled = np.bincount(node, work.calls.is_modelled[launches["place"]], count) > 0
    amounts = {
        name: np.where(is_modelled, _of_keys(work, column, key) * sums["part"], 0.0)
        for name, column in (
            ("flop", "needed_flop"),
            ("bytes", "bytes"),
        )
    }
    return pd.DataFrame(
        {
            **columns,
            **sums,
            **amounts,
            "first": first,
            "is_compute": head["is_compute"].to_numpy(),
            "is_modelled": is_modelled,
            "is_recomputed": work.calls.is_recomputed[place],
        }
    )


def _of_keys(work: LaunchWork, column: str, key: Array) -> Array:
    values = work.calls.keys[column].to_numpy(np.float64)
    if not len(values):
        return np.zeros(len(key))
    result: Array = np.nan_to_num(np.where(key >= 0, values[key], 0.0))
    return result
