"""Sides of comparisons, in memory: as many iterations as a test wants, of kernel and host time."""

import numpy as np

from analyzers.compare.launch_times import no_launch_times
from analyzers.compare.samples import warm_up
from analyzers.compare.side import Kernels, Regions, Side, SideWork, SparseTable
from analyzers.facts.steps import ROLES
from analyzers.finding import Row
from analyzers.ledger.booking import ROW_CODE, ROWS

GEMM = ("gemm", (64, 1, 1, 256, 1, 1))
US = 1_000


def side(
    durations_us,
    *,
    name="run.sqlite",
    kernel_share=0.75,
    kernels=None,
    gpu="H100",
    loop="step",
    sha256="",
    keep_warm_up=True,
    **changes,
):
    """Return a side whose iterations take so long and follow each other at once.

    ``kernels`` gives, for each (name, shape), nanoseconds by iteration.
    """
    durations = np.rint(np.asarray(durations_us, dtype=float) * US).astype(np.int64)
    end = np.cumsum(durations)
    start = end - durations
    table = np.zeros((len(durations), len(ROWS)), np.int64)
    table[:, ROW_CODE[Row.KERNEL]] = (durations * kernel_share).astype(np.int64)
    table[:, ROW_CODE[Row.HOST]] = durations - table[:, ROW_CODE[Row.KERNEL]]
    kernels = kernels or {GEMM: table[:, ROW_CODE[Row.KERNEL]]}
    found = warm_up(durations) if not keep_warm_up else None
    values = {
        "source": {
            "name": name,
            "format": "nsys-sqlite",
            "tool_version": "2026.1",
            "schema_version": "3.24",
            "sha256": sha256 or name,
        },
        "gpus": (gpu,),
        "devices": (f"GPU 0 {gpu}",),
        "device": 0,
        "request": "",
        "window": "iterations",
        "loop": loop,
        "is_loop_found": False,
        "start_ns": start,
        "end_ns": end,
        "warm_up": found.dropped if found else 0,
        "warm_up_how": found.how if found else "",
        "typical": int(np.argmin(np.abs(durations - np.median(durations)))),
        "ledger_ns": table,
        "row_places": np.full((len(ROWS), 2), -1, np.int64),
        "counts": {"kernel launches": np.full(len(durations), 6.0)},
        "roles_ns": np.empty((0, len(ROLES)), np.int64),
        "kernels": kernels_of(kernels, len(durations)),
        "launch_times": no_launch_times(),
        "regions": no_regions(),
        "work": work_of({}, len(durations)),
        "operators": {},
        "ranges": {},
        "peak_bytes": {},
        "sm_clock_mhz": None,
        "operations": 6 * len(durations),
        "counters_only": False,
        "trace_id": f"id-{name}",
    }
    return Side(**{**values, **changes})


def kernels_of(by_kernel, iterations, sequence=None, *, work=None, resources=None, ranges=None):
    keys = list(by_kernel)
    ns = np.array([np.broadcast_to(by_kernel[k], iterations) for k in keys]).astype(np.int64)
    column, iteration = (a.ravel() for a in np.indices(ns.shape))
    launches = np.arange(len(keys)) if sequence is None else np.array(sequence)
    times = np.bincount(launches, minlength=len(keys))
    return Kernels(
        names=tuple(name for name, _ in keys),
        short_names=tuple(name for name, _ in keys),
        shapes=np.array([shape for _, shape in keys]),
        longest=np.full((len(keys), 2), -1, np.int64),
        sequence=launches,
        resources=np.full((len(keys), 2), -1) if resources is None else np.array(resources),
        sequence_ns=ns[:, 0][launches] // np.maximum(times, 1)[launches],
        sequence_range=np.zeros(len(launches), int) if ranges is None else np.array(ranges[1]),
        ranges=("",) if ranges is None else ranges[0],
        sequence_work=np.full(len(launches), -1) if work is None else np.array(work),
        by_iteration=SparseTable(
            iteration=iteration, column=column, ns=ns.ravel(), count=np.ones(ns.size, np.int64)
        ),
    )


def work_of(by_key, iterations, least_ns=None):
    """Return work from pairs of kernel time and calls, which may be one for each iteration."""
    keys = list(by_key)
    pairs = [[np.broadcast_to(v, iterations) for v in by_key[k]] for k in keys]
    ns = np.array([p[0] for p in pairs], dtype=np.int64).reshape(len(keys), iterations)
    count = np.array([p[1] for p in pairs], dtype=np.int64).reshape(len(keys), iterations)
    column, iteration = (a.ravel() for a in np.indices(ns.shape))
    return SideWork(
        keys=tuple(keys),
        longest=np.full((len(keys), 2), -1, np.int64),
        least_ns=np.zeros(len(keys)) if least_ns is None else np.array(least_ns),
        by_iteration=SparseTable(
            iteration=iteration, column=column, ns=ns.ravel(), count=count.ravel()
        ),
    )


def no_regions():
    none = np.empty(0, np.int64)
    return Regions(
        keys=(),
        longest=np.empty((0, 2), np.int64),
        by_iteration=SparseTable(iteration=none, column=none, ns=none, count=none),
    )


def noisy(rng, count, level=1_000.0, spread=0.03, noise="normal", correlation=0.0):
    """Return durations in µs around ``level``."""
    shocks = rng.standard_normal(count + 50)
    values = np.zeros(count + 50)
    for place in range(1, count + 50):
        values[place] = correlation * values[place - 1] + shocks[place]
    values = values[50:] * np.sqrt(1 - correlation**2)
    if noise == "heavy":
        values = np.sign(values) * np.abs(values) ** 3 / 2
    if noise == "skewed":
        values = np.exp(values) - 1.6
    return np.maximum(level * (1 + spread * values), level / 10)
