"""Allocation in the loop: scratch memory that goes back to the driver after every step.

What it computes:
    The sum of eight multiples of an array of 16,777,216 float32, each in a scratch array.

Why it is slow:
    ``torch.cuda.empty_cache()`` takes from PyTorch's pool what the next step needs again. Each
    step makes 8 allocations (``cudaMalloc``) and as many ``cudaFree``, each of which waits for the
    GPU, so the GPU idles while the driver maps and unmaps memory.

What the twin changes:
    The scratch arrays are allocated once and used again: 0 allocations a step.

What whyslow should say:
    Verdict memory, for the allocations, or sync, as ``cudaFree`` waits for the GPU.

What a CPU cannot show:
    ``cudaFree`` and its wait. Fresh pages from the operating system cost time there, too.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "memory"
ALSO = ("sync",)
SEEN_BY = "timeline"
LESSON = ("Scratch", "count")
STEPS = {"cuda": 30, "cpu": 10}
COUNTED = "allocations a step"

ARRAYS = 8


class Size(NamedTuple):
    """How many elements each array has."""

    elements: int


SIZES = {"cuda": Size(1 << 24), "cpu": Size(1 << 16)}


def count(size: Size) -> int:  # noqa: ARG001 - however large they are
    """Return how many arrays one step allocates."""
    return ARRAYS


class Scratch:
    """Arrays for what lies between: new ones for every step."""

    def __init__(self, run: harness.Run, like: torch.Tensor) -> None:
        self._on_gpu = run.on_gpu
        self._like = like

    def take(self) -> list[torch.Tensor]:
        """Return the arrays for a step."""
        return [torch.empty_like(self._like) for _ in range(ARRAYS)]

    def give_back(self) -> None:
        """Take note that the step needs them no longer."""
        if self._on_gpu:
            torch.cuda.empty_cache()


class Program(harness.Program):
    """One step fills the scratch arrays and adds them up."""

    def __init__(self, run: harness.Run) -> None:
        shape = (run.size.elements,)
        self._x = torch.randn(shape, generator=run.generator(), device=run.device)
        self._total = torch.zeros_like(self._x)
        self._scratch = Scratch(run, self._x)

    def step(self, index: int) -> None:
        """Launch two kernels for each scratch array."""
        arrays = self._scratch.take()
        for number, array in enumerate(arrays, start=1):
            torch.mul(self._x, number, out=array)
            self._total.add_(array)
        del array, arrays
        self._scratch.give_back()

    def result(self) -> list[float]:
        """Return mean and spread of the total, and its first few elements."""
        return [self._total.mean().item(), self._total.std().item(), *self._total[:8].tolist()]


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
