"""What collectives move, by the counts that a framework recorded with them.

Bytes are those of nccl-tests' bus bandwidth ("Performance reported by NCCL tests",
https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md): what each rank has to send
through its links at least, whatever the algorithm, so that their rate can be compared with that of
a link in one direction.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analyzers.facts.collectives import recorded_collectives
from analyzers.facts.facts import COMMUNICATION, UNKNOWN, Facts
from analyzers.intervals import Array
from analyzers.work.element_types import SIZES, type_code
from collectors.schema import NOT_RECORDED
from common.memo import memo

_COLUMNS = ("name_id", "type_id", "group_size", "ranks_id", "elements_in", "elements_out")

# By what PyTorch calls it (c10d's ``record_param_comms``), without underscores: the factor that
# nccl-tests has for n ranks, and how often the data go round. The larger of both counts is taken:
# one end of a gather or scatter holds the parts of all ranks.
_WHOLE, _PARTS, _TWICE = "whole", "parts", "twice"
_PATTERNS = (
    (re.compile(r"allreduce"), _TWICE),
    (re.compile(r"allgather|reducescatter|alltoall|gather|scatter"), _PARTS),
    (re.compile(r"broadcast|reduce|send|recv"), _WHOLE),
)
_NOTHING_MOVES = re.compile(r"barrier|wait|init|^start|^end")
_BETWEEN_TWO = re.compile(r"^(?:send|recv)")


def bus_factor(operation: str, ranks: Array) -> Array:
    """Return bytes through the links of each rank, as a part of a collective's bytes.

    Args:
        operation: What the framework calls it.
        ranks: How many take part.

    Returns:
        NaN where the operation is not known.
    """
    kind = _kind(operation)
    if not kind:
        return np.full(len(ranks), np.nan)
    parts = (ranks - 1) / np.maximum(ranks, 1)
    factors: dict[str, Array] = {_WHOLE: np.ones(len(ranks)), _PARTS: parts, _TWICE: 2 * parts}
    return factors[kind]


def _kind(operation: str) -> str:
    plain = operation.lower().replace("_", "")
    if _NOTHING_MOVES.search(plain):
        return ""
    return next((kind for pattern, kind in _PATTERNS if pattern.search(plain)), "")


@memo()
def collective_traffic(facts: Facts) -> pd.DataFrame:
    """Return what each communication kernel moves whose counts were recorded.

    Returns:
        Columns ``launch`` (row of ``Facts.launches``), ``operation``, ``ranks``, ``size_bytes``
        (of the whole collective), ``moved_bytes`` (through the links of each rank), ``steps``
        (that follow each other in a ring) and ``is_one_machine`` (all ranks are of the machine that
        the process saw).
    """
    rows = np.flatnonzero(facts.launches["kind"].to_numpy() == COMMUNICATION)
    if not facts.trace.count("collectives") or not len(rows):
        return pd.DataFrame(
            {
                **{name: np.empty(0, np.int64) for name in ("launch", "ranks", "steps")},
                **{name: np.empty(0) for name in ("size_bytes", "moved_bytes")},
                "operation": np.empty(0, object),
                "is_one_machine": np.empty(0, bool),
            }
        )
    table = recorded_collectives(facts, rows, _COLUMNS)
    in_group = ((table["name_id"] >= 0) & (table["group_size"] > 1)).to_numpy()
    table = table[in_group].reset_index(drop=True)
    operation = facts.trace.names(table["name_id"].to_numpy())
    ranks = table["group_size"].to_numpy().copy()
    elements = np.maximum(table["elements_in"].to_numpy(), table["elements_out"].to_numpy())
    size_bytes = elements * _element_sizes(facts, table["type_id"].to_numpy())
    factor, rounds = np.full(len(table), np.nan), np.ones(len(table), np.int64)
    for name in np.unique(operation.astype(str)):
        own = operation == name
        if _BETWEEN_TWO.search(name.lower()):
            ranks[own] = 2
        factor[own] = bus_factor(name, ranks[own])
        rounds[own] = 2 if _kind(name) == _TWICE else 1
    traffic = pd.DataFrame(
        {
            "launch": table["launch"].to_numpy(),
            "operation": operation,
            "ranks": ranks,
            "size_bytes": size_bytes,
            "moved_bytes": size_bytes * factor,
            "steps": rounds * (ranks - 1),
            "is_one_machine": _is_one_machine(facts, table),
        }
    )
    moving: pd.DataFrame = traffic[np.nan_to_num(traffic["moved_bytes"].to_numpy()) > 0]
    return moving.reset_index(drop=True)


def _element_sizes(facts: Facts, type_id: Array) -> Array:
    ids, code = np.unique(type_id, return_inverse=True)
    names = facts.trace.names(ids)
    types = [type_code(str(n)) if i >= 0 else -1 for i, n in zip(ids, names, strict=True)]
    sizes: Array = SIZES[np.array(types, dtype=np.int64)][code]
    return sizes


def _is_one_machine(facts: Facts, table: pd.DataFrame) -> Array:
    """Return which groups are of one machine, by the ranks in them and the devices that it has.

    Launchers give the processes of a machine consecutive ranks. Where the ranks were not recorded,
    a group is of one machine if the largest one has no more ranks than that has devices.
    """
    device = facts.launches["device"].to_numpy()[table["launch"].to_numpy()]
    visible = facts.devices["visible_devices"].to_numpy()[device]
    ids, code = np.unique(table["ranks_id"].to_numpy(), return_inverse=True)
    texts = [str(t) if i >= 0 else "" for i, t in zip(ids, facts.trace.names(ids), strict=True)]
    ends = [_ends(text) for text in texts]
    first, last = (np.array([e[n] for e in ends], dtype=np.int64)[code] for n in (0, 1))
    size = table["group_size"].to_numpy()
    of_ranks = first // np.maximum(visible, 1) == last // np.maximum(visible, 1)
    of_size = visible >= size.max(initial=0)
    result: Array = (
        (visible > 1) & (size <= visible) & np.where(first == UNKNOWN, of_size, of_ranks)
    )
    return result


def _ends(text: str) -> tuple[int, int]:
    """Return the lowest and the highest rank of ``[0, 1, …]``; ``NOT_RECORDED`` without any."""
    ranks = [int(n) for n in re.findall(r"\d+", text)]
    return (min(ranks), max(ranks)) if ranks else (NOT_RECORDED, NOT_RECORDED)
