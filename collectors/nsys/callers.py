"""Which function of the program made each CUDA call, from the backtraces of ``--cudabacktrace``."""

from __future__ import annotations

import re

import numpy as np

from collectors.nsys import tables
from collectors.nsys.ingest import NsysIngest
from collectors.nsys.places import process_of
from collectors.nsys.rows import NsysRows
from collectors.schema import NOT_RECORDED, Array
from collectors.sqlite_file import integers, text_of

CHAINS = "CUDA_CALLCHAINS"

# Modules that a program's author did not write: CUDA, the profiler, the loader, Python, PyTorch.
_FOREIGN_MODULE = re.compile(
    r"^(?:/usr)?/lib(?:64)?/|/(?:site|dist)-packages/"
    r"|(?:^|/)(?:lib(?:cu|nv|torch|c10|python|c-|c\.|stdc\+\+|pthread|gomp|ToolsInjection)[^/]*"
    r"|ld-[^/]*|python[\d.]*)$|^\["
)
# Addresses without a name, what headers of CUDA and its compiler add, and where programs begin.
_FOREIGN_FUNCTION = re.compile(
    r"^0x|^$|^_start$|^__libc_start|__device_stub__|^(?:static )?cudaError|^cuda[A-Z]\w*(?:\(|<|$)"
)


class CallersOfCalls:
    """The innermost function of the program on the backtrace of each call."""

    def __init__(self, ingest: NsysIngest) -> None:
        self._calls: dict[int, tuple[Array, Array]] = {}
        self._names = ingest.names
        if not ingest.file.has(CHAINS) or not ingest.file.has(tables.RUNTIME, "callchainId"):
            return
        function = _innermost(ingest)
        columns = ("globalTid", "correlationId", "callchainId")
        pieces = []
        for batch in ingest.file.batches(tables.RUNTIME, columns):
            thread, call, chain = (integers(c) for c in batch.values())
            own = np.isin(chain, list(function))
            pieces.append(np.stack((process_of(thread[own]), call[own], chain[own])))
        process, call, chain = np.concatenate(pieces, axis=1) if pieces else np.empty((3, 0))
        names = np.array([function[c] for c in chain.tolist()], dtype=np.int64)
        for key in np.unique(process).tolist():
            own = process == key
            order = np.argsort(call[own], kind="stable")
            self._calls[key] = call[own][order], names[own][order]

    def among(self, rows: NsysRows) -> Array:
        """Return the id of the function's name for each row of calls, -1 where none is known."""
        result = np.full(len(rows), NOT_RECORDED, dtype=np.int64)
        process = process_of(rows["globalTid"])
        for key, (calls, names) in self._calls.items():
            own = np.flatnonzero(process == key)
            number = rows["correlationId"][own]
            place = np.minimum(np.searchsorted(calls, number), len(calls) - 1)
            result[own] = np.where(calls[place] == number, names[place], NOT_RECORDED)
        return self._names.use(result)


def _innermost(ingest: NsysIngest) -> dict[int, int]:
    """Return the name of the innermost function of the program, by the number of the backtrace."""
    texts: dict[int, str] = {}
    sql = (
        "SELECT id, value FROM StringIds WHERE id IN (SELECT symbol FROM CUDA_CALLCHAINS "
        "UNION SELECT module FROM CUDA_CALLCHAINS)"
    )
    for number, value in ingest.file.rows(sql):
        if isinstance(number, int):
            texts[number] = text_of(value)
    best: dict[int, tuple[int, int]] = {}
    columns = ("id", "symbol", "module", "stackDepth")
    for rows in ingest.stream(CHAINS, columns, counted=False):
        frames = zip(*(rows[c].tolist() for c in columns), strict=True)
        for number, symbol, module, depth in frames:
            if _is_of_program(texts.get(symbol, ""), texts.get(module, "")) and (
                number not in best or depth < best[number][0]
            ):
                best[number] = depth, symbol
    return {number: symbol for number, (_, symbol) in best.items()}


def _is_of_program(function: str, module: str) -> bool:
    return not _FOREIGN_FUNCTION.search(function) and not _FOREIGN_MODULE.search(module)
