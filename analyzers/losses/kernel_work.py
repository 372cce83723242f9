"""What the account of the busy time shows to be lost, split so that no two rules claim the same.

Every call of an operator belongs to at most one pattern, the first that fits and is worth a
finding. All of it is estimated from shapes, data types and the device's roof, never measured; each
call has a least and a most that can be won, and what is claimed is the middle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Evidence
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.busy_calls import BusyCalls, are_conversions, busy_calls
from analyzers.losses.conversions import conversions
from analyzers.losses.culprits import of_operations
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.optimizer import UPDATE, optimizer_launches
from analyzers.losses.parallelism import largest_kernels
from analyzers.losses.products import attention_below_roof, products_below_roof, weight_reads
from analyzers.losses.repeats import recomputed, slow_repeats
from analyzers.losses.short_kernels import has_many_short_kernels, short_kernels
from analyzers.losses.unfused import (
    FUSED_PASSES,
    attention_in_pieces,
    chains,
    optimizer_passes,
)
from analyzers.words import share_text
from analyzers.work.account import ledger_work
from common.memo import memo


class WorkPattern(StrEnum):
    """How busy time is lost, in the order in which calls are claimed; the ids of the rules."""

    ATTENTION_IN_PIECES = "bandwidth.unfused_attention"
    CHAINS = "bandwidth.unfused_chains"
    OPTIMIZER = "bandwidth.optimizer_passes"
    CONVERSIONS = "bandwidth.conversions"
    PRODUCTS = "compute.products_below_roof"
    ATTENTION = "compute.attention_below_roof"
    SLOW_REPEATS = "compute.slow_repeats"
    WEIGHTS = "bandwidth.weight_reads"
    RECOMPUTED = "compute.recomputation"
    SHORT_KERNELS = "parallelism.short_kernels"


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
    def busy_ns(self) -> int:
        """How long the calls took."""
        return self._sum("busy_ns")

    @property
    def roof_ns(self) -> int:
        """How long they take at least, by their roofs."""
        return self._sum("least_ns")

    def time_ns(self, chosen: Array) -> int:
        """How long some of the calls took, as far as nobody else claims it."""
        return int(self.calls.nodes["free_ns"].to_numpy()[self.nodes["node"][chosen]].sum())

    def main_node(self, column: str) -> int:
        """Return a call of the kind that loses most; ``column`` has the kind of each."""
        sums = self.nodes["high_ns"].groupby(self.nodes[column]).sum()
        first = int((self.nodes[column] == sums.idxmax()).to_numpy().argmax())
        return int(self.nodes["node"].iloc[first])

    def share_of_roof(self, column: str, node: int) -> str:
        """Write how close the calls of one kind come to their roof, in percent."""
        kind = self.nodes[column][(self.nodes["node"] == node).to_numpy()].iloc[0]
        rows = self.nodes["node"][(self.nodes[column] == kind).to_numpy()]
        own = self.calls.nodes.iloc[rows]
        return share_text(float(own["least_ns"].sum()), float(own["busy_ns"].sum()))

    def _sum(self, column: str) -> int:
        return int(self.calls.nodes[column].to_numpy()[self.nodes["node"]].sum())

    @property
    def spent_ns(self) -> int:
        """How long the calls took, as far as nobody else claims it."""
        return self._sum("free_ns")


@dataclass(frozen=True)
class EstimateOrigin:
    """Where an estimated loss comes from.

    Attributes:
        origin: The line or range that most of it comes from, as ``, mostly called from step
            (train.py:42)``; empty when there is none.
        evidence: Lines, ranges and kernels with what they lose.
    """

    origin: str
    evidence: tuple[Evidence, ...]


def estimate_of(facts: Facts, ledger: Ledger, loss: WorkLoss) -> EstimateOrigin:
    """Return where a loss comes from; operators are left to the rule, which names its own."""
    columns = (loss.launches[name].to_numpy() for name in ("launch", "lost_ns"))
    culprits = replace(of_operations(facts, ledger, *columns), operators=[])
    kernels = largest_kernels(facts, loss.launches)
    origin = f", {culprits.origin}" if culprits.origin else ""
    return EstimateOrigin(origin, (*culprits.evidence(kernel=""), *kernels))


@memo()
def work_losses(facts: Facts, ledger: Ledger) -> dict[WorkPattern, WorkLoss]:
    """Return the patterns that are worth a finding."""
    if facts.counters_only or not ledger.kernel_ns or not _can_be_estimated(facts, ledger):
        return {}
    calls = busy_calls(facts, ledger)
    claimed = np.zeros(len(calls.nodes), dtype=bool)
    losses = {}
    for pattern in WorkPattern:
        nodes = _PATTERNS[pattern](calls)
        nodes = nodes[~claimed[nodes["node"].to_numpy()]].reset_index(drop=True)
        loss = WorkLoss(calls, nodes, _by_launch(calls, nodes))
        if is_notable(ledger, loss.lost_ns):
            claimed[nodes["node"].to_numpy()] = True
            losses[pattern] = loss
    return losses


def _can_be_estimated(facts: Facts, ledger: Ledger) -> bool:
    """Tell whether a recording says enough for any pattern; most of them need shapes."""
    work = ledger_work(facts, ledger)
    return (
        bool((work.calls.keys["shapes"] != "").any())
        or bool(work.calls.is_recomputed.any())
        or optimizer_launches(facts, ledger, UPDATE).name in FUSED_PASSES
        or bool(are_conversions(work, work.launches).any())
        or has_many_short_kernels(facts, ledger)
    )


_PATTERNS = {
    WorkPattern.ATTENTION_IN_PIECES: attention_in_pieces,
    WorkPattern.CHAINS: chains,
    WorkPattern.OPTIMIZER: optimizer_passes,
    WorkPattern.CONVERSIONS: conversions,
    WorkPattern.PRODUCTS: products_below_roof,
    WorkPattern.ATTENTION: attention_below_roof,
    WorkPattern.SLOW_REPEATS: slow_repeats,
    WorkPattern.WEIGHTS: weight_reads,
    WorkPattern.RECOMPUTED: recomputed,
    WorkPattern.SHORT_KERNELS: short_kernels,
}

CHANGES_IN_WORDS = {
    WorkPattern.ATTENTION_IN_PIECES: "computing attention in one kernel",
    WorkPattern.CHAINS: "fusing these chains",
    WorkPattern.OPTIMIZER: "fusing the optimizer's update",
    WorkPattern.CONVERSIONS: "leaving out these conversions",
    WorkPattern.PRODUCTS: "tuning these matrix multiplies",
    WorkPattern.ATTENTION: "a faster kernel for attention",
    WorkPattern.SLOW_REPEATS: "keeping these kernels at their usual time",
    WorkPattern.WEIGHTS: "8-bit weights",
    WorkPattern.RECOMPUTED: "keeping activations",
    WorkPattern.SHORT_KERNELS: "one kernel in place of each run of short ones",
}
"""What following the advice is called, as the beginning of a sentence."""


def _by_launch(calls: BusyCalls, nodes: pd.DataFrame) -> pd.DataFrame:
    """Divide what calls lose among their launches, as their time is divided."""
    free = calls.nodes["free_ns"].to_numpy()
    share = {name: np.zeros(len(free)) for name in ("low_ns", "high_ns")}
    for name, column in share.items():
        column[nodes["node"]] = nodes[name] / np.maximum(free[nodes["node"]], 1)
    absorbed = np.zeros(len(free), dtype=bool)
    absorbed[nodes["node"]] = nodes["is_absorbed"]
    launches = calls.launches.iloc[:0]
    if len(nodes):
        launches = calls.launches[(share["high_ns"] > 0)[calls.launches["node"]]]
    node, own = launches["node"].to_numpy(), launches["free_ns"].to_numpy()
    low, high = ((own * share[name][node]).astype(np.int64) for name in ("low_ns", "high_ns"))
    frame = pd.DataFrame(
        {
            "launch": launches["launch"].to_numpy(),
            "low_ns": low,
            "lost_ns": (low + high) // 2,
            "high_ns": high,
            "is_absorbed": absorbed[node],
        }
    )
    losing: pd.DataFrame = frame[high > 0].reset_index(drop=True)
    return losing
