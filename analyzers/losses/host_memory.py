"""GPUs that reach the host's memory without a copy, where advice about copies is another one.

No recording says so. The product's name does, or the compute capability, which integrated GPUs
have of their own: NVIDIA, CUDA GPUs; CUDA for Tegra, Memory Management; NVIDIA Grace Hopper
Superchip Architecture, Address Translation Services.
"""

from __future__ import annotations

import re

from analyzers.facts.facts import Facts

INTEGRATED = {(5, 3), (6, 2), (7, 2), (8, 7), (10, 1), (11, 0)}
"""Compute capabilities of Jetson: TX1 and Nano, TX2, Xavier, Orin, Thor (before CUDA 13, since)."""

_INTEGRATED_NAME = re.compile(r"\b(?:Tegra|Jetson|Xavier|Orin|Thor)\b", re.IGNORECASE)
_COHERENT_NAME = re.compile(r"\bG(?:H200|B200|B300|B10)\b")  # Grace beside Hopper or Blackwell

FOR_INTEGRATED = (
    "This GPU shares the host's memory, so that no copy is needed: let kernels use the host's "
    "buffer itself, from cudaHostAlloc (mapped) or cudaMallocManaged."
)
FOR_COHERENT = (
    "This GPU reads and writes the host's memory directly, pageable memory too: what a kernel "
    "touches only once need neither be copied, pinned nor prefetched."
)


def with_host_memory(facts: Facts, advice: str) -> str:
    """Return advice on copies or migrations, with what is different on a GPU of the recording."""
    names = [str(name) for name in facts.devices["name"]]
    majors, minors = facts.devices["compute_major"], facts.devices["compute_minor"]
    if any(_COHERENT_NAME.search(name) for name in names):
        return f"{advice} {FOR_COHERENT}"
    capabilities = {(int(a), int(b)) for a, b in zip(majors, minors, strict=True)}
    if capabilities & INTEGRATED or any(_INTEGRATED_NAME.search(name) for name in names):
        return f"{advice} {FOR_INTEGRATED}"
    return advice
