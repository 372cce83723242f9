"""Exports of nsys that a test changes, and what becomes of them."""

import sqlite3

from traces.nsys_writer import Recording

US = 1_000


def recording(generation="3.13", kernels=3):
    """Kernels of 10 µs every 20 µs, each launched 5 µs before it begins."""
    made = Recording(generation=generation)
    for i in range(kernels):
        begin = 20 * US * i
        call = {"correlationId": 100 + i}
        made.api("cudaLaunchKernel_v7000", begin - 5 * US, begin - 2 * US, **call)
        made.kernel("void add<float>(float*)", begin, begin + 10 * US, **call)
    return made


def change(path, *statements):
    with sqlite3.connect(path) as file:
        for statement in statements:
            file.execute(statement)
    file.close()
    return path


def codes(trace):
    return {n.code: n.count for n in trace.notes}
