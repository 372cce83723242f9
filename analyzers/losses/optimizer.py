"""What a PyTorch optimizer launches in each step: its update, and the fills of ``zero_grad``.

PyTorch puts a range around both (``torch/optim/optimizer.py``): ``Optimizer.step#NAME.step`` and
``Optimizer.zero_grad#NAME.zero_grad``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzers.facts.facts import COPY, KERNEL, MEMSET, UNKNOWN, Facts
from analyzers.facts.surroundings import ranges_of
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from common.memo import memo

UPDATE, ZERO_GRAD = "step", "zero_grad"
MIN_LAUNCHES = {UPDATE: 50, ZERO_GRAD: 10}
"""From how many launches in each execution a fused or absent form is worth a sentence."""


@dataclass(frozen=True, eq=False)
class OptimizerLaunches:
    """What one method of a program's optimizers launched in a window.

    Attributes:
        name: The optimizer's class, such as ``AdamW``; the one with most launches.
        steps: Executions that launched anything.
        inside: Whether each row of ``Facts.launches`` is one of them.
        device_ns: How long they ran, summed.
    """

    name: str
    steps: int
    inside: Array
    device_ns: int

    @property
    def count(self) -> int:
        """All launches."""
        return int(np.count_nonzero(self.inside))

    @property
    def each_step(self) -> int:
        """Launches in one execution, on average; 0 without any."""
        return round(self.count / self.steps) if self.steps else 0


@memo(4)
def optimizer_launches(facts: Facts, ledger: Ledger, method: str) -> OptimizerLaunches:
    """Return what ``UPDATE`` or ``ZERO_GRAD`` launched in the window."""
    spans = ranges_of(facts).of_names(rf"^Optimizer\.{method}#")
    inside = np.zeros(len(facts.launches), dtype=bool)
    if not len(spans):
        return OptimizerLaunches("", 0, inside, 0)
    rows = facts.inside(*ledger.window.span)
    own = np.isin(facts.launches["kind"].to_numpy()[rows], (KERNEL, COPY, MEMSET))
    rows = rows[own & (facts.launches["api_row"].to_numpy()[rows] >= 0)]
    around = spans.around(facts.thread_index[rows], facts.api_start_ns[rows])
    if not (around >= 0).any():
        return OptimizerLaunches("", 0, inside, 0)
    rows, around = rows[around >= 0], around[around != UNKNOWN]
    inside[rows] = True
    texts, counts = np.unique(spans.name[around], return_counts=True)
    main = spans.texts[int(texts[counts.argmax()])]
    name = main.partition("#")[2].removesuffix(f".{method}")
    device_ns = int(facts.duration_ns[rows].sum())
    return OptimizerLaunches(name, len(np.unique(around)), inside, device_ns)
