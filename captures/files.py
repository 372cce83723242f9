"""Names of what a capture writes, and the path on which workloads are imported."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = {"nsys": ".nsys-rep", "torch": ".json.gz", "ncu": ".ncu-rep", "telemetry": ""}
SUMMARY_SUFFIX = ".workload.json"


def free_path(folder: Path, stem: str, suffix: str) -> Path:
    """Return a name that nothing in ``folder`` begins with; recordings are never overwritten."""
    taken = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    name, number = stem, 1
    while any(t == f"{name}{suffix}" or t.startswith(f"{name}.") for t in taken):
        number += 1
        name = f"{stem}_{number}"
    return (folder / f"{name}{suffix}").absolute()


def before_own_path(folder: Path) -> str:
    """Return a ``PYTHONPATH`` on which ``folder`` precedes what is there already."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
