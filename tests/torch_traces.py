"""Traces of the torch profiler as a test writes them: every trap is a small file."""

import gzip
import json

from collectors import open_trace

PID, TID = 700, 701


def x(cat, name, ts, dur, *, pid=PID, tid=TID, **args):
    event = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur}
    return {**event, "args": args}


def call(ts, correlation, name="cudaLaunchKernel", dur=4, cat="cuda_runtime", **more):
    return x(cat, name, ts, dur, correlation=correlation, **more)


def kernel(
    ts, correlation, dur=50, name="void ns::gemm<float, 4>(int)", cat="kernel", pid=0, tid=7, **args
):
    shape = {"grid": [8, 2, 1], "block": [128, 1, 1], "registers per thread": 40}
    shape |= {"shared memory": 1024, "device": 0, "stream": 7, "correlation": correlation}
    return x(cat, name, ts, dur, pid=pid, tid=tid, **(shape | args))


def launches(count=3):
    return [e for n in range(1, count + 1) for e in (call(100 * n, n), kernel(100 * n + 10, n))]


GPU = {"id": 0, "name": "NVIDIA A100", "numSms": 108, "computeMajor": 8, "computeMinor": 0}
GPU |= {"warpSize": 32, "maxThreadsPerMultiprocessor": 2048, "regsPerMultiprocessor": 65536}
GPU |= {"sharedMemPerMultiprocessor": 167936, "totalGlobalMem": 1 << 35}


def opener(tmp_path):
    """Return what writes events as a trace into ``tmp_path`` and opens it."""

    def open_it(events, name="trace.json", **head):
        text = events if isinstance(events, (str, bytes)) else trace_text(events, head)
        raw = text if isinstance(text, bytes) else text.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return open_trace(path, tmp_path / "cache")

    return open_it


def trace_text(events, head):
    return json.dumps({"schemaVersion": 1, **head, "traceEvents": events}, indent=1)


def trace_bytes(events, **head):
    return trace_text(events, head).encode()


def notes(trace):
    return {n.code: n.count for n in trace.notes}


def note_by_code(trace):
    return {n.code: n for n in trace.notes}


def names(trace, table, column="name_id"):
    return trace.names(trace.columns(table, [column])[column]).tolist()


def balanced(trace):
    return all(c.used + c.excluded == c.rows for c in trace.row_counts)
