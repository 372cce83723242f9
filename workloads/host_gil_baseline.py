"""Threads that hold the interpreter: batches are prepared in Python beside the launching thread.

What it computes:
    128 layers of 1,024 by 1,024 on each batch, scaled with 1,024 numbers that Python code makes.

Why it is slow:
    Only one thread of a process runs Python at a time. 8 workers prepare batches with 200,000 turns
    of a Python loop each, and whenever the launching thread comes back from PyTorch it has to
    wait for its turn: 200,000 turns a step run in its own process, and the GPU idles meanwhile.

What the twin changes:
    The workers are processes with interpreters of their own: 0 turns a step in the process that
    launches.

What whyslow should say:
    Verdict host: the GPU idled while the host was outside CUDA. Where the thread waits between two
    calls for less than a tenth of a millisecond, that counts as launch.

What a CPU cannot show:
    An idle GPU. The workers share their cores with the layers, so the twin gains less or nothing.
"""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # worker processes import this file, and need no torch
    import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "host"
ALSO = ("launch",)
SEEN_BY = "timeline"
LESSON = ("_pool", "_end_with_parent", "_turns_beside")
STEPS = {"cuda": 60, "cpu": 10}
COUNTED = "turns of Python a step in the process that launches"


class Size(NamedTuple):
    """Layers, their width, turns of Python for a batch, and workers."""

    layers: int
    width: int
    turns: int
    workers: int


SIZES = {"cuda": Size(128, 1024, 200_000, 8), "cpu": Size(4, 64, 20_000, 2)}


def count(size: Size) -> int:
    """Return how many turns of Python one step takes from the process that launches."""
    return _turns_beside(size.turns)


def prepare(seed: int, turns: int, width: int) -> list[float]:
    """Return ``width`` numbers between 0 and 1, in ``turns`` turns of a Python loop."""
    state, made = seed, [0.0] * width
    for turn in range(turns):
        state = (1_103_515_245 * state + 12_345) & 0x7FFFFFFF
        made[turn % width] = state / 0x7FFFFFFF
    return made


def _turns_beside(turns: int) -> int:
    return turns


def _pool(workers: int) -> Executor:
    return ThreadPoolExecutor(workers)


class Program(harness.Program):
    """One step takes a batch's numbers and applies the layers."""

    def __init__(self, run: harness.Run) -> None:
        import torch

        size: Size = run.size
        self._run = run
        self._workers = _pool(size.workers)
        self._ahead = deque(self._begin(index) for index in range(size.workers))
        shape = (size.width, size.width)
        weight = torch.randn(shape, generator=run.generator(), device=run.device)
        self._weight = weight / size.width**0.5
        self._means: list[torch.Tensor] = []

    def step(self, index: int) -> None:
        """Take the next numbers and apply the layers."""
        import torch

        with self._run.range("load"):
            numbers = self._ahead.popleft().result()
            # Also past the last step: a short run must not end with workers that have no work.
            self._ahead.append(self._begin(index + len(self._ahead) + 1))
        with self._run.range("compute"):
            x = self._weight * self._moved(torch.tensor(numbers))
            for _ in range(self._run.size.layers):
                x = torch.tanh(x @ self._weight)
            self._means.append(x.square().mean())

    def _moved(self, numbers: torch.Tensor) -> torch.Tensor:
        # From pinned memory, or the host would wait here for the layers of the step before: a loss
        # of another kind, in both twins.
        if self._run.on_gpu:
            return numbers.pin_memory().to(self._run.device, non_blocking=True)
        return numbers

    def result(self) -> list[float]:
        """Return the mean of each step's last layer."""
        return [float(mean) for mean in self._means]

    def close(self) -> None:
        """End the workers."""
        self._workers.shutdown(cancel_futures=True)

    def _begin(self, index: int) -> Future[list[float]]:
        size: Size = self._run.size
        return self._workers.submit(prepare, self._run.seed + index, size.turns, size.width)


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
