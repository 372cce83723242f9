"""A host wait in every step: a loop that reads its loss with ``.item()`` each time.

What it computes:
    Two layers of 1,024 by 1,024, applied again and again, and the mean of the last one as a loss.

Why it is slow:
    ``.item()`` waits until the GPU is done: 1 host wait a step. Meanwhile nothing new is launched,
    so that after each step the GPU idles until the host has come back and launched again.

What the twin changes:
    The losses stay on the GPU, 0 host waits a step, and are read together when the loop is over.

What whyslow should say:
    Verdict sync: the GPU idled after host waits, or after small copies back to the host.

What a CPU cannot show:
    Nothing runs beside the host, so ``.item()`` waits for nothing and costs next to nothing.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "sync"
ALSO = ()
SEEN_BY = "timeline"
LESSON = ("_kept", "count")
STEPS = {"cuda": 200, "cpu": 20}
COUNTED = "host waits a step"

LAYERS = 2


class Size(NamedTuple):
    """How wide each layer is."""

    width: int


SIZES = {"cuda": Size(1024), "cpu": Size(64)}


def count(size: Size) -> int:  # noqa: ARG001 - the same for every size
    """Return how often one step waits for the GPU."""
    return 1


def _kept(loss: torch.Tensor) -> float | torch.Tensor:
    return loss.item()


class Program(harness.Program):
    """One step applies the layers and keeps the loss."""

    def __init__(self, run: harness.Run) -> None:
        width = run.size.width
        random = run.generator()
        shape = (width, width)
        self._run = run
        self._state = torch.randn(shape, generator=random, device=run.device)
        self._weight = torch.randn(shape, generator=random, device=run.device) / width**0.5
        self._losses: list[float | torch.Tensor] = []

    def step(self, index: int) -> None:
        """Go one step further from where the last one ended."""
        with self._run.range("forward"):
            for _ in range(LAYERS):
                self._state = torch.tanh(self._state @ self._weight)
            loss = self._state.square().mean()
        with self._run.range("log"):
            self._losses.append(_kept(loss))

    def result(self) -> list[float]:
        """Return the loss of every step."""
        return [float(loss) for loss in self._losses]


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
