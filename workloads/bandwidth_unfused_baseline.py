"""An unfused chain: an activation written as one operation after the other.

What it computes:
    GELU in its tanh form, ``x / 2 * (1 + tanh(c * (x + k * x**3)))``, of 67,108,864 elements.

Why it is slow:
    8 kernels run one after the other, and each reads its inputs from memory and writes its output
    back: 18 passes over the array, 4,831,838,208 bytes a step, for a handful of operations each.

What the twin changes:
    One kernel reads the array once and writes it once: 2 passes, 536,870,912 bytes. (PyTorch has
    this one ready; ``torch.compile`` makes such kernels of any chain.)

What whyslow should say:
    With counters of Nsight Compute: verdict bandwidth, kernels at the limit of DRAM. A timeline
    alone shows busy kernels, and whyslow says that it did not look inside.

What a CPU cannot show:
    DRAM counters. The passes over memory cost time there, too.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "bandwidth"
ALSO = ()
SEEN_BY = "counters"
LESSON = ("_gelu", "PASSES")
STEPS = {"cuda": 50, "cpu": 10}
COUNTED = "bytes moved a step"

CUBIC, INNER = 0.044715, 0.7978845608028654  # the published constants; sqrt(2 / pi)
FLOAT_BYTES = 4


class Size(NamedTuple):
    """How many elements."""

    elements: int


SIZES = {"cuda": Size(1 << 26), "cpu": Size(1 << 18)}


def count(size: Size) -> int:
    """Return how many bytes one step reads and writes."""
    return PASSES * size.elements * FLOAT_BYTES


PASSES = 18  # eight outputs, ten inputs: two of the operations have two arrays


def _gelu(x: torch.Tensor) -> torch.Tensor:
    cube = x.pow(3)  # reads 1, writes 1
    scaled = cube * CUBIC  # reads 1, writes 1
    inner = x + scaled  # reads 2, writes 1
    bent = torch.tanh(inner * INNER)  # two operations: reads 2, writes 2
    raised = bent + 1  # reads 1, writes 1
    product = raised * x  # reads 2, writes 1
    return product * 0.5  # reads 1, writes 1


class Program(harness.Program):
    """One step activates the same array again."""

    def __init__(self, run: harness.Run) -> None:
        shape = (run.size.elements,)
        self._x = torch.randn(shape, generator=run.generator(), device=run.device)
        self._y = torch.empty_like(self._x)

    def step(self, index: int) -> None:
        """Activate."""
        self._y = _gelu(self._x)

    def result(self) -> list[float]:
        """Return mean and spread of the activations, and the first few."""
        return [self._y.mean().item(), self._y.std().item(), *self._y[:8].tolist()]


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
