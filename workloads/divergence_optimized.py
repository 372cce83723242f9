"""Uniform branches: elements sorted so that the threads of a warp take the same branch.

What it computes:
    One of eight functions, 256 times over, for each of 1,048,576 elements; which one is part of
    the data.

What changed:
    The elements are sorted by kind before the first step. Each warp takes 1 branch with all its
    lanes instead of 8 with an eighth of them: 32,768 branches a step instead of 262,144.

What whyslow should say:
    No divergence worth naming, with counters of Nsight Compute.

What a CPU cannot show:
    Warps. numba-cuda's simulator runs the kernel, thread by thread: right, and slow in both twins.
"""

import math
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

Array = NDArray[Any]

CAUSE = "divergence"
ALSO = ()
SEEN_BY = "counters"
LESSON = ("_order",)
STEPS = {"cuda": 20, "cpu": 2}
COUNTED = "branches that warps take a step"

KINDS = 8
WARP = 32
HALF, ONE = np.float32(0.5), np.float32(1.0)  # literals would be doubles: slow for another reason

cuda: Any  # numba's module, once it is known whether there is a GPU


class Size(NamedTuple):
    """Elements, turns of the function for each, and threads of a block."""

    elements: int
    turns: int
    block: int


SIZES = {"cuda": Size(1 << 20, 256, 256), "cpu": Size(256, 2, 64)}


def count(size: Size) -> int:
    """Return how many branches the warps of one step take, one after the other."""
    kinds = _kinds(size)
    warps = np.sort(kinds[_order(kinds)].reshape(-1, WARP), axis=1)
    return int(len(warps) + np.count_nonzero(np.diff(warps, axis=1)))


def _kinds(size: Size) -> Array:
    return np.arange(size.elements, dtype=np.int32) % KINDS


def _order(kinds: Array) -> Array:
    """Return in which order the threads take the elements: sorted by kind."""
    return np.argsort(kinds, kind="stable")


def advance(kinds: Any, values: Any, turns: int) -> None:  # noqa: PLR0912 - branches are the point
    """Give one thread's element ``turns`` turns of the function of its kind."""
    i = cuda.grid(1)
    if i >= values.size:
        return
    kind, x = kinds[i], values[i]
    if kind == 0:
        for _ in range(turns):
            x = math.sin(x) + HALF
    elif kind == 1:
        for _ in range(turns):
            x = math.cos(x) * HALF
    elif kind == 2:
        for _ in range(turns):
            x = math.exp(-x * x)
    elif kind == 3:
        for _ in range(turns):
            x = math.sqrt(x * x + HALF)
    elif kind == 4:
        for _ in range(turns):
            x = math.log(x * x + HALF)
    elif kind == 5:
        for _ in range(turns):
            x = math.tanh(x) + HALF
    elif kind == 6:
        for _ in range(turns):
            x = math.atan(x) + HALF
    else:
        for _ in range(turns):
            x = x / (x * x + ONE) + HALF
    values[i] = x


def _compiler(on_gpu: bool) -> Any:
    """Return numba's module for CUDA, which is its simulator when there shall be no GPU."""
    if not on_gpu:
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # numba looks while it is imported
    from numba import cuda as module

    return module


class Program(harness.Program):
    """One step launches the kernel once."""

    def __init__(self, run: harness.Run) -> None:
        global cuda  # the simulator looks for it among the kernel's globals
        cuda = _compiler(run.on_gpu)
        self._kernel = cuda.jit(advance)
        size: Size = run.size
        self._size = size
        kinds = _kinds(size)
        self._order = _order(kinds)
        random = np.random.default_rng(run.seed)
        values = random.random(size.elements, dtype=np.float32)
        self._kinds = cuda.to_device(kinds[self._order])
        self._values = cuda.to_device(values[self._order])

    def step(self, index: int) -> None:
        """Give every element its function."""
        blocks = self._size.elements // self._size.block
        self._kernel[blocks, self._size.block](self._kinds, self._values, self._size.turns)

    def result(self) -> list[float]:
        """Return the mean of each kind, and the first few elements in the order of the data."""
        values = np.empty(self._size.elements, dtype=np.float32)
        values[self._order] = self._values.copy_to_host()
        means = (values[_kinds(self._size) == kind].mean(dtype=np.float64) for kind in range(KINDS))
        return [*map(float, means), *values[:8].tolist()]


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
