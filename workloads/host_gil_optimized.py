"""Processes instead of threads: batches are prepared without the launching thread's interpreter.

What it computes:
    128 layers of 1,024 by 1,024 on each batch, scaled with 1,024 numbers that Python code makes.

What changed:
    The 8 workers are processes, each with an interpreter of its own: 0 turns of the Python loop a
    step run in the process that launches, instead of 200,000.

What whyslow should say:
    No host loss worth naming, given enough cores; the time is in kernels.

What a CPU cannot show:
    An idle GPU. The workers share their cores with the layers, so the twin gains less or nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
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


def _turns_beside(turns: int) -> int:  # noqa: ARG001 - all of them run elsewhere
    return 0


def _pool(workers: int) -> Executor:
    # A copy of a process that uses a GPU (fork) must not touch it; new ones know nothing of it.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let this worker end when the process that started it is gone, however that ended."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
