"""Events of a torch profiler trace that tests write, and the file that holds them."""

import gzip
import json

PID, TID = 700, 701


def event(category, name, ts, dur, *, pid=PID, tid=TID, **arguments):
    parts = {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur}
    return {**parts, "args": arguments}


def call(ts, correlation, name="cudaLaunchKernel", dur=4, category="cuda_runtime", **more):
    return event(category, name, ts, dur, correlation=correlation, **more)


def kernel(ts, correlation, dur=50, *, pid=0, tid=7, **arguments):
    shape = {"grid": [8, 2, 1], "block": [128, 1, 1], "device": 0, "stream": 7}
    shape |= {"correlation": correlation}
    return event("kernel", "gemm", ts, dur, pid=pid, tid=tid, **(shape | arguments))


def launches(count=3):
    numbers = range(1, count + 1)
    return [e for n in numbers for e in (call(100 * n, n), kernel(100 * n + 10, n))]


def text_of(events, **head):
    return json.dumps({"schemaVersion": 1, **head, "traceEvents": events}).encode()


def write(folder, content, name="trace.json"):
    """Write ``content``, events or bytes, and return the path; packed where the name says so."""
    path = folder / name
    raw = content if isinstance(content, bytes) else text_of(content)
    packed = name.endswith(".gz") and not isinstance(content, bytes)
    path.write_bytes(gzip.compress(raw) if packed else raw)
    return path


def notes(trace):
    return {n.code: n for n in trace.notes}
