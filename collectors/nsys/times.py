"""When a recording took place: a row far outside was not recorded then, whatever it says.

One damaged time would otherwise become the end of the window and make everything else look idle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collectors.schema import NOT_RECORDED
from collectors.sqlite_file import SqliteFile

MAX_TIME_NS = 1 << 61  # the year 2043 on a clock that counts from 1970; sums stay within 64 bits
SAMPLES = 64  # rows looked at in each table: enough to tell where nearly all of them are
MIN_SLACK_NS = 600_000_000_000  # 10 minutes; NVTX was seen 11 s before a capture of 9 s began
UNSTATED_SLACK_NS = 86_400_000_000_000  # a day; exports before 2022 do not state their duration
UNSTATED_SLACK_FACTOR = 100

_TIMES = (("start", "end"), ("start", "start"), ("timestamp", "timestamp"))


@dataclass(frozen=True)
class CaptureWindow:
    """Where the times of a recording can lie.

    Attributes:
        low_ns: Nothing usable begins before.
        high_ns: Nothing usable ends after.
        duration_ns: Length of the capture as stated, -1 when that is absent or cannot be true.
    """

    low_ns: int
    high_ns: int
    duration_ns: int


def window_of(file: SqliteFile, tables: tuple[str, ...]) -> CaptureWindow:
    """Return when the events in ``tables`` can have happened."""
    sampled_ns = _sampled(file, tables)
    stated = _stated_ns(file)
    if stated > 0:
        slack = max(stated, MIN_SLACK_NS)
        inside = (sampled_ns >= -slack) & (sampled_ns <= stated + slack)
        # A duration that most events contradict is wrong, or the times count from 1970.
        if 2 * np.count_nonzero(inside) >= len(sampled_ns):
            return CaptureWindow(-slack, stated + slack, stated)
    if not len(sampled_ns):
        return CaptureWindow(-MAX_TIME_NS, MAX_TIME_NS, NOT_RECORDED)
    low, high = (int(x) for x in np.quantile(sampled_ns, (0.1, 0.9), method="nearest"))
    slack = max(UNSTATED_SLACK_FACTOR * (high - low), UNSTATED_SLACK_NS)
    low, high = max(low - slack, -MAX_TIME_NS), min(high + slack, MAX_TIME_NS)
    return CaptureWindow(low, high, NOT_RECORDED)


def _stated_ns(file: SqliteFile) -> int:
    if not file.has("ANALYSIS_DETAILS", "duration"):
        return NOT_RECORDED
    value = file.rows("SELECT max(duration) FROM ANALYSIS_DETAILS")[0][0]
    usable = isinstance(value, int) and 0 < value < MAX_TIME_NS
    return int(str(value)) if usable else NOT_RECORDED


def _sampled(
    file: SqliteFile, tables: tuple[str, ...]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return begins and ends of rows spread evenly over each table."""
    moments: list[int] = []
    for table in tables:
        columns = next((c for c in _TIMES if file.has(table, *c)), None)
        span = file.row_numbers(table) if columns else None
        if columns is None or span is None:
            continue
        sql = f'SELECT "{columns[0]}", "{columns[1]}" FROM "{table}" WHERE rowid >= ? LIMIT 1'
        step = max(1, (span[1] - span[0]) // (SAMPLES - 1))
        for number in range(span[0], span[1] + 1, step):
            for row in file.rows(sql, number):
                moments += [t for t in row if isinstance(t, int) and abs(t) < MAX_TIME_NS]
    return np.array(moments, dtype=np.int64)
