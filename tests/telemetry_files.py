"""Telemetry as a test writes it."""

import sqlite3

from collectors.telemetry import telemetry

SECOND = 1_000_000_000


def written(path, *, host=(), process=(), gpu=(), state="stopped"):
    """Make a telemetry file with rows that are given as dictionaries; moments in seconds."""
    telemetry._create(path, 10.0)
    with sqlite3.connect(path) as db:
        for table, rows in (
            ("host_samples", host),
            ("process_samples", process),
            ("gpu_samples", gpu),
        ):
            for row in rows:
                at = row.pop("at")
                row = {
                    "realtime_ns": at + row.pop("set", 0),
                    "monotonic_ns": at - 5 * SECOND,
                    **row,
                }
                names = ", ".join(row)
                db.execute(
                    f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})",
                    list(row.values()),
                )
        if gpu:
            db.execute("INSERT INTO gpus (gpu, name) VALUES (0, 'NVIDIA Test')")
        db.execute("UPDATE session SET state = ?", [state])
    db.close()
    return path
