"""Strided memory access: particles stored as records, of which a kernel needs two fields.

What it computes:
    ``x += v * dt`` for 16,777,216 particles of 8 fields (position, velocity, mass, charge) in
    float32.

Why it is slow:
    Neighbouring threads read neighbouring records, which are 32 bytes apart: one whole sector
    for each of the 4-byte fields. A warp's access touches 32 sectors where 4 would hold the
    data: 50,331,648 sectors a step, of which an eighth is used.

What the twin changes:
    Each field is an array of its own, so that a warp's access touches 4 sectors: 6,291,456 a step.

What whyslow should say:
    With counters of Nsight Compute: verdict bandwidth, uncoalesced access. A timeline alone shows
    busy kernels, and whyslow says that it did not look inside.

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
    return FIELDS


def _fields(records: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return records.unbind(1)


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
