"""Copies from pinned memory, ahead of time: the next batch is copied while this one is worked on.

What it computes:
    The product of each batch (4,096 by 4,096 float32) with a weight, summed over all batches.

What changed:
    The batches lie in pinned memory and are copied on a stream of their own into one of two
    buffers, while kernels read the other: 0 bytes a step are copied while the kernels wait,
    instead of 67,108,864. Events keep both sides from overtaking each other.

What whyslow should say:
    No transfer loss worth naming; the copies run beside kernels.

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


def count(size: Size) -> int:  # noqa: ARG001 - however large a batch is
    """Return how many bytes one step copies to the GPU while no kernel runs."""
    return 0


class Feed:
    """Brings batches to the GPU: the next while kernels work on this one."""

    def __init__(self, run: harness.Run, batches: list[torch.Tensor]) -> None:
        self._on_gpu = run.on_gpu
        self._batches = batches
        if self._on_gpu:
            self._batches = [batch.pin_memory() for batch in batches]
            self._buffers = [torch.empty_like(batches[0], device=run.device) for _ in range(2)]
            self._stream = torch.cuda.Stream()
            self._filled = [torch.cuda.Event() for _ in range(2)]
            self._read = [torch.cuda.Event() for _ in range(2)]
            self._fill(0)

    def take(self, index: int) -> torch.Tensor:
        """Return the batch of a step, on the GPU; begin to copy the next."""
        if not self._on_gpu:
            return self._batches[index % BATCHES]
        self._fill(index + 1)
        torch.cuda.current_stream().wait_event(self._filled[index % 2])
        return self._buffers[index % 2]

    def used(self, index: int) -> None:
        """Take note that the kernels that read the batch are launched."""
        if self._on_gpu:
            self._read[index % 2].record()

    def _fill(self, index: int) -> None:
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._read[index % 2])  # nothing to wait for at first
            self._buffers[index % 2].copy_(self._batches[index % BATCHES], non_blocking=True)
            self._filled[index % 2].record()


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
