"""Coalesced memory access: particles stored field by field.

What it computes:
    ``x += v * dt`` for 16,777,216 particles of 8 fields (position, velocity, mass, charge) in
    float32.

What changed:
    Neighbouring threads read neighbouring numbers. A warp's access touches 4 sectors instead of
    32: 6,291,456 a step instead of 50,331,648.

What whyslow should say:
    No uncoalesced access. The kernel still does nothing but move memory, so with counters the
    verdict may stay bandwidth (at the limit of DRAM), for a fraction of the time.

What a CPU cannot show:
    Sectors and warps. Cache lines of 64 bytes make strided access slower there, too.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # to run as a file, too

from workloads import harness

CAUSE = "bandwidth"
ALSO = ()
SEEN_BY = "counters"
LESSON = ("_fields", "_stride")
STEPS = {"cuda": 50, "cpu": 10}
COUNTED = "sectors a step"

FIELDS = 8
X, VELOCITY = 0, 3  # places of the two fields in a record
ACCESSES = 3  # x and the velocity are read, x is written
WARP, SECTOR_BYTES, FLOAT_BYTES = 32, 32, 4
TIME_STEP = 1e-3


class Size(NamedTuple):
    """How many particles."""

    particles: int


SIZES = {"cuda": Size(1 << 24), "cpu": Size(1 << 16)}


def count(size: Size) -> int:
    """Return how many sectors the warps of one step ask for."""
    stride_bytes = FLOAT_BYTES * _stride()
    sectors = {lane * stride_bytes // SECTOR_BYTES for lane in range(WARP)}
    return size.particles // WARP * ACCESSES * len(sectors)


def _stride() -> int:
    return 1


def _fields(records: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return records.t().contiguous().unbind(0)


class Program(harness.Program):
    """One step moves every particle."""

    def __init__(self, run: harness.Run) -> None:
        shape = (run.size.particles, FIELDS)
        records = torch.randn(shape, generator=run.generator(), device=run.device)
        self.fields = _fields(records)

    def step(self, index: int) -> None:
        """Launch one kernel that reads two fields and writes one."""
        self.fields[X].add_(self.fields[VELOCITY], alpha=TIME_STEP)

    def result(self) -> list[float]:
        """Return mean and spread of the positions, and the first few."""
        x = self.fields[X].contiguous()
        return [x.double().mean().item(), x.double().std().item(), *x[:8].tolist()]


if __name__ == "__main__":
    sys.exit(harness.main(__name__))
