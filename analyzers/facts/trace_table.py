"""Tables of the trace under the column names of facts, where a key is not taken for an index.

The trace knows processes and threads by key and calls the columns ``process`` and ``thread``. Facts
count them: an index is the place of a key in ``Facts.process_keys`` or ``Facts.thread_keys``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analyzers.intervals import Array
from collectors.trace import Trace

KEYS = {"process": "process_key", "thread": "thread_key"}
"""What columns of the trace are called in facts."""

_NAME_IN_TRACE = {key: column for column, key in KEYS.items()}


def trace_table(trace: Trace, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return columns (all by default) of a table of the trace, named as facts name them."""
    names = None if columns is None else [_NAME_IN_TRACE.get(name, name) for name in columns]
    return trace.frame(table, names).rename(columns=KEYS)


def trace_columns(trace: Trace, table: str, columns: Sequence[str]) -> dict[str, Array]:
    """Return the same as arrays by column, which takes less time and memory than a frame."""
    recorded = trace.columns(table, [_NAME_IN_TRACE.get(name, name) for name in columns])
    return {KEYS.get(name, name): values for name, values in recorded.items()}
