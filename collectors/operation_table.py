"""Tables of a job's operations: Parquet with one row an operation, as StragglerAnalysis has them.

Columns: ``rank``, ``step``, ``optype``, ``start_ts`` and ``duration`` (seconds, on the step's
clock); where there are several stages or data-parallel ranks ``stage`` and ``dp_rank``; ``seq_id``
numbers operations of a kind (else their order does) and ``mc`` the model's chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from collectors.errors import RefusedError
from collectors.input_file import check_unchanged, look_at, shown_name
from common.text import visible

if TYPE_CHECKING:
    import pandas as pd

    from collectors.schema import Array

SUFFIX = ".parquet"
MAX_ROWS = 30_000_000  # of one job; 1,024 ranks of 20,000 operations are 20 million
MAX_SECONDS = 1e12  # a moment or a duration beyond it is no measurement
MAX_STEP_S = 86_400.0
MAX_NUMBER = 1 << 30
MAX_KINDS = 200
MAX_NAME = 100
_NEEDED = ("rank", "step", "optype", "start_ts", "duration")
_NUMBERS = {"rank": 0, "step": 0, "dp_rank": 0, "stage": 0, "seq_id": -1, "mc": -1}
"""Columns of whole numbers, and what is assumed where a table has none."""


@dataclass(frozen=True, eq=False)
class OperationTable:
    """What a table says.

    Attributes:
        table: One row an operation, sorted by step, rank and begin: ``step``, ``rank``,
            ``dp_rank``, ``stage``, ``kind`` (place in ``kinds``), ``start_ns``, ``end_ns``,
            ``sequence``, ``chunk``.
        kinds: Names of the kinds of operations.
        notes: What was left out or assumed.
    """

    table: pd.DataFrame
    kinds: tuple[str, ...]
    notes: tuple[str, ...]


def read_operations(path: Path) -> OperationTable:
    """Read a table of operations.

    Rows without a time or a number are left out and counted.

    Raises:
        RefusedError: It is no such table, too large, or has no usable row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    before, name = look_at(path), shown_name(path)
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            columns, count = file.schema_arrow.names, file.metadata.num_rows
            missing = [column for column in _NEEDED if column not in columns]
            if missing:
                raise RefusedError(
                    f"{name}: a Parquet file without the column {missing[0]}; a table of a job's "
                    f"operations has {', '.join(_NEEDED)}"
                )
            if not 0 < count <= MAX_ROWS:
                raise RefusedError(
                    f"{name}: {count:,} operations; 1 to {MAX_ROWS:,} can be read. Keep fewer steps"
                )
            present = [c for c in (*_NEEDED, *_NUMBERS) if c in columns]
            frame = file.read(columns=list(dict.fromkeys(present))).to_pandas()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise RefusedError(f"{name}: cannot be read as Parquet. Copy it again") from error
    check_unchanged(path, before)
    return _usable_rows(frame, name)


def _usable_rows(frame: pd.DataFrame, name: str) -> OperationTable:
    """Return the rows that can be used."""
    import pandas as pd

    numbers = pd.DataFrame(
        {
            column: pd.to_numeric(frame[column], errors="coerce") if column in frame else assumed
            for column, assumed in _NUMBERS.items()
        },
        index=frame.index,
    ).astype(float)
    times = frame[["start_ts", "duration"]].apply(pd.to_numeric, errors="coerce").astype(float)
    values, seconds = numbers.to_numpy(), times.to_numpy()
    is_good: Array = (np.abs(values) < MAX_NUMBER).all(axis=1)  # not what is no number either
    is_good &= (numbers[["rank", "stage", "dp_rank"]].to_numpy() >= 0).all(axis=1)
    is_good &= (np.abs(seconds) < MAX_SECONDS).all(axis=1) & (seconds[:, 1] >= 0)
    is_good &= frame["optype"].notna().to_numpy()
    if not is_good.any():
        raise RefusedError(f"{name}: no row has usable numbers and times. Export it again")
    kind, kinds = pd.factorize(frame.loc[is_good, "optype"].astype(str))
    if len(kinds) > MAX_KINDS:
        raise RefusedError(f"{name}: {len(kinds):,} kinds of operations; no job has so many")
    numbers, times = numbers[is_good].astype(np.int64), times[is_good]
    # From the step's begin, whatever the clock: nanoseconds since 1970 are too many for 64 bits
    # once ranks and steps lie one behind the other.
    begin = times["start_ts"].groupby(numbers["step"]).transform("min")
    times = times.assign(start_ts=times["start_ts"] - begin)
    is_near = (times["start_ts"] + times["duration"] < MAX_STEP_S).to_numpy()
    numbers, times, kind = numbers[is_near], times[is_near], kind[is_near]
    if not len(times):
        raise RefusedError(f"{name}: steps of more than a day. Give start_ts in seconds")
    start = np.rint(times["start_ts"].to_numpy() * 1e9).astype(np.int64)
    end = np.rint((times["start_ts"] + times["duration"]).to_numpy() * 1e9).astype(np.int64)
    table = pd.DataFrame(
        {
            **{c: numbers[c].to_numpy() for c in ("step", "rank", "dp_rank", "stage")},
            "kind": kind,
            "start_ns": start,
            "end_ns": end,
            "sequence": numbers["seq_id"].to_numpy(),
            "chunk": numbers["mc"].to_numpy(),
        }
    ).sort_values(["step", "rank", "start_ns"], kind="stable", ignore_index=True)
    notes = []
    if left_out := len(frame) - len(table):
        notes.append(f"{left_out:,} of {len(frame):,} rows have no usable number or time")
    if "seq_id" not in frame:
        table["sequence"] = table.groupby(["step", "rank", "kind"]).cumcount()
        notes.append("operations are matched by their order: the table does not number them")
    return OperationTable(
        table=table, kinds=tuple(visible(k, MAX_NAME) for k in kinds), notes=tuple(notes)
    )
