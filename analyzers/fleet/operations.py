"""The operations of a pipeline-parallel job: who computed or communicated when, step by step.

One row an operation: the forward or backward pass of a micro-batch on a rank, a message between
stages, a collective. Kinds have the names of Megatron-LM's timers, as public tables of such jobs
write them (ByteDance-Seed/StragglerAnalysis, whose definitions of slowdown are reproduced here).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np
import pandas as pd

from analyzers.intervals import Array


class Peers(Enum):
    """Who takes part in an operation; its value says so."""

    NOBODY = "computes alone"
    NEXT_STAGE = "sends to the stage that comes next in its direction"
    PREVIOUS_STAGE = "receives from the stage before it in its direction"
    DATA_PARALLEL = "all ranks of a stage"
    FIRST_AND_LAST_STAGE = "the first and the last stage of a data-parallel rank"
    ALL = "all ranks"


_PEERS = {
    "embedding-grads-all-reduce": Peers.FIRST_AND_LAST_STAGE,
    "layernorm-grads-all-reduce": Peers.NOBODY,  # among tensor-parallel ranks, of which one is kept
    "optimizer-clip-main-grad": Peers.ALL,  # the norm of all gradients
}
_PATTERNS = (
    (re.compile(r"-send$"), Peers.NEXT_STAGE),
    (re.compile(r"-recv$"), Peers.PREVIOUS_STAGE),
    (re.compile(r"all-?reduce|all-?gather|reduce-?scatter|broadcast"), Peers.DATA_PARALLEL),
)
_COMPUTES = re.compile(r"-compute$|^optimizer$|^gc$")
FORWARD, BACKWARD = "forward-compute", "backward-compute"


def peers_of(kind: str) -> Peers:
    """Return who takes part in operations of a kind."""
    if kind in _PEERS:
        return _PEERS[kind]
    return next((peers for pattern, peers in _PATTERNS if pattern.search(kind)), Peers.NOBODY)


def is_known(kind: str) -> bool:
    """Tell whether a kind's name says what its operations do."""
    return is_communication(kind) or bool(_COMPUTES.search(kind))


def is_communication(kind: str) -> bool:
    """Tell whether operations of a kind move data, so that they may wait for others."""
    return peers_of(kind) is not Peers.NOBODY or kind in _PEERS


@dataclass(frozen=True, eq=False)
class JobOperations:
    """All operations of a job.

    Attributes:
        table: One row an operation, by step, rank and begin: ``step``, ``rank``, ``dp_rank``,
            ``stage``, ``kind`` (place in ``kinds``), ``start_ns``, ``end_ns`` on the step's clock,
            which all ranks share, ``sequence`` (number among those of its kind), ``chunk`` (of the
            model, -1 for none).
        kinds: Names of the kinds.
    """

    table: pd.DataFrame
    kinds: tuple[str, ...]

    @cached_property
    def communicates(self) -> Array:
        """Whether each operation moves data."""
        of_kind = np.array([is_communication(kind) for kind in self.kinds], dtype=bool)
        result: Array = of_kind[self.table["kind"].to_numpy()]
        return result

    @cached_property
    def steps(self) -> Array:
        """Numbers of the steps, in order."""
        return np.unique(self.table["step"].to_numpy())

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """One row a rank: ``rank``, ``dp_rank``, ``stage``."""
        return (
            self.table[["rank", "dp_rank", "stage"]]
            .drop_duplicates("rank")
            .sort_values("rank", ignore_index=True)
        )

    @cached_property
    def group(self) -> Array:
        """Number of the communication that each operation is a part of; one of its own else.

        A message is named by its sender's stage: the one that receives is the next in the direction
        of the pass, which goes around where a model has several chunks a stage.
        """
        table = self.table
        stages = int(table["stage"].max()) + 1 if len(table) else 1
        stage = table["stage"].to_numpy()
        columns = {
            "step": table["step"].to_numpy(),
            "name": table["kind"].to_numpy(),
            "stage": stage,
            "dp_rank": table["dp_rank"].to_numpy(),
            "sequence": table["sequence"].to_numpy(),
            "chunk": table["chunk"].to_numpy(),
            "alone": np.full(len(table), -1),
        }
        columns = {name: values.astype(np.int64) for name, values in columns.items()}
        for code, kind in enumerate(self.kinds):
            own = table["kind"].to_numpy() == code
            peers = peers_of(kind)
            if peers in (Peers.NEXT_STAGE, Peers.PREVIOUS_STAGE):
                direction = _direction(kind)
                columns["name"][own] = -1 if direction > 0 else -2
                columns["chunk"][own] = -1
                if peers is Peers.PREVIOUS_STAGE:
                    columns["stage"][own] = (stage[own] - direction) % stages
            elif peers is Peers.NOBODY:
                columns["alone"][own] = np.flatnonzero(own)
            elif peers is Peers.DATA_PARALLEL:
                columns["dp_rank"][own] = -1
            else:
                columns["stage"][own] = -1
                if peers is Peers.ALL:
                    columns["dp_rank"][own] = -1
        codes = pd.DataFrame(columns).groupby(list(columns), sort=False).ngroup()
        result: Array = codes.to_numpy()
        return result

    @cached_property
    def arrival_ns(self) -> Array:
        """When the last member of each operation's communication began."""
        start = self.table["start_ns"].to_numpy()
        last = np.full(int(self.group.max()) + 1 if len(start) else 0, np.iinfo(np.int64).min)
        np.maximum.at(last, self.group, start)
        result: Array = last[self.group]
        return result

    @cached_property
    def transfer_ns(self) -> Array:
        """What each operation takes once all members are there; its own length where it computes.

        What ended before its last member began (a message that was buffered, a clock that is off)
        took no time.
        """
        start, end = (self.table[name].to_numpy() for name in ("start_ns", "end_ns"))
        moved = np.maximum(end - self.arrival_ns, 0)
        result: Array = np.where(self.communicates, moved, end - start)
        return result


def _direction(kind: str) -> int:
    """Return to which stage a pass goes: one up, or one down."""
    return -1 if kind.startswith("backward") else 1
