"""One kernel for all tensors: an optimizer that updates its parameters in one piece.

What it computes:
    Momentum and weight decay for 500 parameter tensors of 65,536 elements: four element-wise
    operations each.

What changed:
    All tensors lie behind one another in one. Each step launches 4 kernels instead of 2,000, and
    each has enough to do to hide the launch of the next.

What whyslow should say:
    No launch loss worth naming; the time is in kernels.

What a CPU cannot show:
    There is no queue and no idle device; what is left is the overhead of each call of PyTorch.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "launch"
ALSO = ()
SEEN_BY = "timeline"
LESSON = ("_tensors", "_tensor_count")
STEPS = {"cuda": 50, "cpu": 5}
COUNTED = "kernel launches a step"

KERNELS_PER_TENSOR = 4
MOMENTUM, LEARNING_RATE, DECAY = 0.9, 0.01, 0.001


class Size(NamedTuple):
    """How many parameter tensors, and how many elements each has."""

    tensors: int
    elements: int


SIZES = {"cuda": Size(500, 65_536), "cpu": Size(100, 64)}


def count(size: Size) -> int:
    """Return how many kernels one step launches."""
    return KERNELS_PER_TENSOR * _tensor_count(size)


def _tensor_count(size: Size) -> int:  # noqa: ARG001 - however many there are
    return 1


def _tensors(values: torch.Tensor, size: Size) -> tuple[torch.Tensor, ...]:  # noqa: ARG001
    return (values,)


class Program(harness.Program):
    """One step updates every parameter once."""

    def __init__(self, run: harness.Run) -> None:
        size: Size = run.size
        shape = (3, size.tensors * size.elements)
        state = torch.randn(shape, generator=run.generator(), device=run.device)
        self._all = state[0]
        self._parameters, self._velocities, self._gradients = (_tensors(s, size) for s in state)

    def step(self, index: int) -> None:
        """Launch ``KERNELS_PER_TENSOR`` kernels for each tensor."""
        for parameter, velocity, gradient in zip(
            self._parameters, self._velocities, self._gradients, strict=True
        ):
            velocity.mul_(MOMENTUM)
            velocity.add_(gradient)
            parameter.mul_(1 - LEARNING_RATE * DECAY)
            parameter.add_(velocity, alpha=-LEARNING_RATE)

    def result(self) -> list[float]:
        """Return mean and spread of the parameters, and the first few."""
        return [self._all.mean().item(), self._all.std().item(), *self._all[:8].tolist()]


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
