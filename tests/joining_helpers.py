"""What tests of joined counters share: profiled launches, and their ledger."""

from analyzers.counters.joining import (
    join,
)
from tests.counter_scenarios import SHORT
from tests.traces_in_memory import account, make_trace
from traces.counter_programs import GOOD

SHAPE = {"grid_x": 4_224, "grid_y": 1, "grid_z": 1, "block_x": 256, "block_y": 1, "block_z": 1}
DIVERGENT = {"active": 8.0, "live": 8.0, "uniform": 50.0, "compute": 100.0}
DIVERGENT |= {"memory": 0.0, "dram": 0.0, "l2": 0.0}
IDLE = 1 - 8 / 32  # what those lose, all of it bound by compute


def profiled(folder, *launches, gpu="", process=9):
    """Return a recording of counters; each launch is a dictionary of what is not as usual."""
    usual = {"name": "kernel", **SHAPE, "kind": 0, "process": process, "device": 0, "stream": 7}
    usual |= {"duration_ns": 10_000, "registers_per_thread": 32, "number": 0, "context": 1}
    usual |= {"static_shared_bytes": 0, "dynamic_shared_bytes": 0}
    rows = [usual | {k: v for k, v in launch.items() if k not in SHORT} for launch in launches]
    counters = [
        (i, name, float(value))
        for i, launch in enumerate(launches)
        for name, value in (GOOD | {SHORT[k]: launch[k] for k in launch if k in SHORT}).items()
    ]
    devices = sorted({(r["process"], r["device"]) for r in rows})
    return make_trace(
        folder,
        profiled_kernels={c: [r[c] for r in rows] for c in usual}
        | {"short_name": [r["name"] for r in rows]},
        counters={
            "profiled": [i for i, _, _ in counters],
            "name": [n for _, n, _ in counters],
            "value": [v for _, _, v in counters],
            "text_id": -1,
        },
        devices={
            "process": [p for p, _ in devices],
            "device": [d for _, d in devices],
            "name": gpu,
            "physical": list(range(len(devices))),
        },
    )


def joined_ledger(facts, counters, **window):
    from analyzers.ledger.ledger import build_ledger

    plain = account(facts, **window)
    return plain, build_ledger(facts, plain.window, join(facts, counters))


def reasons(joined):
    return [str(reason) for reason in joined.why]
