"""Traces of what Nsight Compute wrote, and what is in them."""

from pathlib import Path

from collectors import open_trace

REAL = Path(__file__).parents[2] / "shared" / "real"
EXPORTED = sorted(p for p in (REAL / "expected" / "ncu").glob("*") if p.is_dir())
DURATION = "gpu__time_duration.sum"
LANES = "smsp__thread_inst_executed_per_inst_executed.ratio"
BYTES = "dram__bytes.sum"


def opened(path, tmp_path):
    return open_trace(path, tmp_path / "cache")


def metrics_of(trace):
    """Return the metrics of each launch by name: numbers, and texts where there is no number."""
    table = trace.frame("counters")
    names, texts = (trace.names(table[c].to_numpy()) for c in ("name_id", "text_id"))
    launches = [{} for _ in range(trace.count("profiled_kernels"))]
    for row, name, value, text in zip(table["profiled"], names, table["value"], texts, strict=True):
        launches[row][name] = text or value
    return launches


def notes(trace):
    return {n.code: n.count for n in trace.notes}
