"""What the account of the busy time shows to be lost, split so that no two rules claim the same.

Every call of an operator belongs to at most one pattern, the first that fits and is worth a
finding. All of it is estimated from shapes, data types and the device's roof, never measured; each
call has a least and a most that can be won, and what is claimed is the middle.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.ledger.ledger import Ledger
from analyzers.losses.busy_calls import BusyCalls, busy_calls
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.unfused import chains


class WorkPattern(StrEnum):
    """How busy time is lost, in the order in which calls are claimed; the ids of the rules."""

    CHAINS = "bandwidth.unfused_chains"


@dataclass(frozen=True, eq=False)
class WorkLoss:
    """What one pattern claims.

    Attributes:
        calls: The calls of the window.
        nodes: One row a call: ``node`` (row of ``calls.nodes``), ``low_ns``, ``high_ns``,
            ``is_absorbed``, and columns of the pattern.
        launches: One row a launch that loses anything: ``launch`` (row of ``Facts.launches``),
            ``low_ns``, ``lost_ns``, ``high_ns`` and ``is_absorbed`` (it would be part of another
            one, and not launched).
    """

    calls: BusyCalls
    nodes: pd.DataFrame
    launches: pd.DataFrame

    @property
    def lost_ns(self) -> int:
        """What is claimed: the middle of the range."""
        return int(self.launches["lost_ns"].sum())

    @property
    def range_ns(self) -> tuple[int, int]:
        """The least and the most that can be won."""
        return int(self.launches["low_ns"].sum()), int(self.launches["high_ns"].sum())

    @property
    def spent_ns(self) -> int:
        """How long the calls took, as far as nobody else claims it."""
        return int(self.calls.nodes["free_ns"].to_numpy()[self.nodes["node"]].sum())


@functools.lru_cache(maxsize=2)
def work_losses(facts: Facts, ledger: Ledger) -> dict[WorkPattern, WorkLoss]:
    """Return the patterns that are worth a finding."""
    if facts.counters_only or not ledger.kernel_ns:
        return {}
    calls = busy_calls(facts, ledger)
    claimed = np.zeros(len(calls.nodes), dtype=bool)
    losses = {}
    for pattern in WorkPattern:
        nodes = _PATTERNS[pattern](facts, calls)
        nodes = nodes[~claimed[nodes["node"].to_numpy()]].reset_index(drop=True)
        loss = WorkLoss(calls, nodes, _by_launch(calls, nodes))
        if is_notable(ledger, loss.lost_ns):
            claimed[nodes["node"].to_numpy()] = True
            losses[pattern] = loss
    return losses


_PATTERNS = {WorkPattern.CHAINS: chains}

CHANGES_IN_WORDS = {WorkPattern.CHAINS: "fusing these chains"}
"""What following the advice is called, as the beginning of a sentence."""


def _by_launch(calls: BusyCalls, nodes: pd.DataFrame) -> pd.DataFrame:
    """Divide what calls lose among their launches, as their time is divided."""
    free = calls.nodes["free_ns"].to_numpy()
    share = {name: np.zeros(len(free)) for name in ("low_ns", "high_ns")}
    for name, column in share.items():
        column[nodes["node"]] = nodes[name] / np.maximum(free[nodes["node"]], 1)
    absorbed = np.zeros(len(free), dtype=bool)
    absorbed[nodes["node"]] = nodes["is_absorbed"]
    node, own = calls.launches["node"].to_numpy(), calls.launches["free_ns"].to_numpy()
    low, high = ((own * share[name][node]).astype(np.int64) for name in ("low_ns", "high_ns"))
    frame = pd.DataFrame(
        {
            "launch": calls.launches["launch"].to_numpy(),
            "low_ns": low,
            "lost_ns": (low + high) // 2,
            "high_ns": high,
            "is_absorbed": absorbed[node],
        }
    )
    losing: pd.DataFrame = frame[high > 0].reset_index(drop=True)
    return losing
