"""A loader that works ahead: workers decode the next batches while the GPU works on this one.

What it computes:
    128 layers of 1,024 by 1,024 on each batch, which is cut out of 8 MiB of compressed data.

What changed:
    The thread that launches the kernels decodes 0 bytes a step instead of 8,388,608: it takes what
    up to 12 workers, each on a core of its own, have made ready.

What whyslow should say:
    No host loss worth naming, given enough cores; the time is in kernels.

What a CPU cannot show:
    An idle GPU. The workers share their cores with the layers, so the twin gains less or nothing.
"""

import os
import sys
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "host"
ALSO = ()
SEEN_BY = "timeline"
LESSON = ("Loader", "count")
STEPS = {"cuda": 60, "cpu": 10}
COUNTED = "bytes decoded a step by the thread that launches"

STORED = 4  # files, used in turn
LEVELS = 16  # of 256: so that there is something to compress
MOST_WORKERS = 12


class Size(NamedTuple):
    """Layers, their width, and how many bytes are decoded for a batch."""

    layers: int
    width: int
    decoded_bytes: int


SIZES = {"cuda": Size(128, 1024, 1 << 23), "cpu": Size(4, 64, 1 << 18)}


def decode(stored: bytes, width: int) -> torch.Tensor:
    """Decompress a file and cut the batch out of it."""
    pixels = np.frombuffer(zlib.decompress(stored), dtype=np.uint8)
    return torch.from_numpy(pixels[: width * width].reshape(width, width).copy())


def count(size: Size) -> int:  # noqa: ARG001 - however much the workers decode
    """Return how many bytes the thread that launches decodes in one step."""
    return 0


class Loader:
    """Lets worker threads decode ahead."""

    def __init__(self, run: harness.Run, files: list[bytes]) -> None:
        self._files = files
        self._width = run.size.width
        self._steps = run.total_steps
        workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(workers)
        self._ahead = deque(self._begin(index) for index in range(min(workers, self._steps)))

    def take(self, index: int) -> torch.Tensor:
        """Return the batch of a step."""
        batch = self._ahead.popleft().result()
        following = index + len(self._ahead) + 1
        if following < self._steps:
            self._ahead.append(self._begin(following))
        return batch

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, index: int) -> Future[torch.Tensor]:
        return self._pool.submit(decode, self._files[index % STORED], self._width)


class Program(harness.Program):
    """One step takes a batch and applies the layers."""

    def __init__(self, run: harness.Run) -> None:
        size: Size = run.size
        random = np.random.default_rng(run.seed)
        files = [
            zlib.compress(
                random.integers(LEVELS, size=size.decoded_bytes, dtype=np.uint8).tobytes(), 1
            )
            for _ in range(STORED)
        ]
        self._run = run
        self._loader = Loader(run, files)
        shape = (size.width, size.width)
        weight = torch.randn(shape, generator=run.generator(), device=run.device)
        self._weight = weight / size.width**0.5
        self._means: list[torch.Tensor] = []

    def step(self, index: int) -> None:
        """Take the next batch and apply the layers."""
        with self._run.range("load"):
            batch = self._loader.take(index)
        with self._run.range("compute"):
            x = batch.to(self._run.device).float() / LEVELS
            for _ in range(self._run.size.layers):
                x = torch.tanh(x @ self._weight)
            self._means.append(x.square().mean())

    def result(self) -> list[float]:
        """Return the mean of each step's last layer."""
        return [float(mean) for mean in self._means]

    def close(self) -> None:
        """Let the loader go."""
        self._loader.close()


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
