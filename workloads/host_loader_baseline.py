"""A loader in the loop: each batch is decoded when it is needed, while the GPU has nothing to do.

What it computes:
    128 layers of 1,024 by 1,024 on each batch, which is cut out of 8 MiB of compressed data.

Why it is slow:
    The thread that launches the kernels decodes first: 8,388,608 bytes a step, which takes a core
    longer than the GPU needs for the layers. All that time the GPU idles.

What the twin changes:
    Worker threads decode the next batches while the GPU works: 0 bytes a step are decoded by the
    thread that launches. (Decoding lets other threads run; where it does not, use processes:
    see host_gil.)

What whyslow should say:
    Verdict host: the GPU idled while the host was outside CUDA, in the range load.

What a CPU cannot show:
    An idle GPU. The workers share their cores with the layers, so the twin gains less or nothing.
"""

import sys
import zlib
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


def count(size: Size) -> int:
    """Return how many bytes the thread that launches decodes in one step."""
    return size.decoded_bytes


class Loader:
    """Decodes each batch when it is asked for."""

    def __init__(self, run: harness.Run, files: list[bytes]) -> None:
        self._files = files
        self._width = run.size.width

    def take(self, index: int) -> torch.Tensor:
        """Return the batch of a step."""
        return decode(self._files[index % STORED], self._width)

    def close(self) -> None:
        """Hold nothing."""


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
