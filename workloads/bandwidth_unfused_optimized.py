"""A fused chain: the same activation in one kernel.

What it computes:
    GELU in its tanh form, ``x / 2 * (1 + tanh(c * (x + k * x**3)))``, of 67,108,864 elements.

What changed:
    One kernel keeps what lies between in registers: 2 passes over the array instead of 18,
    536,870,912 bytes a step instead of 4,831,838,208.

What whyslow should say:
    The kernel still does little but move memory, so with counters the verdict may stay bandwidth
    (at the limit of DRAM), for a fraction of the time.

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


PASSES = 2  # one input, one output


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")  # reads 1, writes 1


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
