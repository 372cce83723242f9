"""Thousands of tiny kernels: an optimizer that updates its parameters one tensor at a time.

What it computes:
    Momentum and weight decay for 500 parameter tensors of 65,536 elements: four element-wise
    operations each.

Why it is slow:
    Each step launches 2,000 kernels. Each of them moves less than a megabyte, which takes a GPU
    less time than the host needs to launch the next, so the GPU runs dry after every one.

What the twin changes:
    The same elements lie behind one another in one tensor, so that 4 kernels a step update them
    all. (PyTorch's own optimizers do the like with ``foreach=True`` or ``fused=True``; where the
    operations cannot be fused, a CUDA graph saves the launches.)

What whyslow should say:
    Verdict launch: kernels shorter than the gap before them.

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


def _tensor_count(size: Size) -> int:
    return size.tensors


def _tensors(values: torch.Tensor, size: Size) -> tuple[torch.Tensor, ...]:
    return values.split(size.elements)


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
