"""Copies from pageable memory: each batch is copied when it is needed, and the GPU waits for it.

What it computes:
    The product of each batch (4,096 by 4,096 float32) with a weight, summed over all batches.

Why it is slow:
    The driver cannot read pageable memory directly: it copies every piece into a buffer of its own
    first, at a fraction of the bus's speed, and the call does not return before that. Each
    step copies 67,108,864 bytes, and no kernel runs meanwhile.

What the twin changes:
    The batches lie in pinned memory, and the next one is copied on a stream of its own while
    kernels work on this one: 0 bytes are copied while the kernels wait.

What whyslow should say:
    Verdict bandwidth: copies from pageable memory, beside which no kernel runs. As the host is
    held in the copy, sync is also right.

What a CPU cannot show:
    There is no bus and nothing to copy: both twins use the batch where it lies.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "bandwidth"
ALSO = ("sync",)
SEEN_BY = "timeline"
LESSON = ("Feed", "count")
STEPS = {"cuda": 30, "cpu": 10}
COUNTED = "bytes copied a step while kernels wait"

BATCHES = 4  # on the host, used in turn
FLOAT_BYTES = 4


class Size(NamedTuple):
    """How wide batches and weight are."""

    width: int


SIZES = {"cuda": Size(4096), "cpu": Size(64)}


def count(size: Size) -> int:
    """Return how many bytes one step copies to the GPU while no kernel runs."""
    return size.width**2 * FLOAT_BYTES


class Feed:
    """Brings batches to the GPU: each when it is asked for."""

    def __init__(self, run: harness.Run, batches: list[torch.Tensor]) -> None:
        self._device = run.device
        self._batches = batches

    def take(self, index: int) -> torch.Tensor:
        """Return the batch of a step, on the GPU."""
        return self._batches[index % BATCHES].to(self._device)

    def used(self, index: int) -> None:
        """Take note that the kernels that read the batch are launched."""


class Program(harness.Program):
    """One step takes a batch and adds its product with the weight."""

    def __init__(self, run: harness.Run) -> None:
        width = run.size.width
        random = torch.Generator().manual_seed(run.seed)
        batches = [torch.randn(width, width, generator=random) for _ in range(BATCHES)]
        weight = torch.randn(width, width, generator=random) / width
        self._run = run
        self._feed = Feed(run, batches)
        self._weight = weight.to(run.device)
        self._total = torch.zeros(width, width, device=run.device)

    def step(self, index: int) -> None:
        """Take the next batch and add its product."""
        with self._run.range("load"):
            batch = self._feed.take(index)
        with self._run.range("compute"):
            self._total.addmm_(batch, self._weight)
            self._feed.used(index)

    def result(self) -> list[float]:
        """Return mean and spread of the total, and its first few elements."""
        total = self._total
        return [total.mean().item(), total.std().item(), *total[0, :8].tolist()]


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
