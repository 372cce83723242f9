"""What was sampled or traced beside CUDA: system calls, threads, CPU samples, GPU metrics."""

from __future__ import annotations

import numpy as np

from collectors.nsys.ingest import NsysIngest
from collectors.schema import NOT_RECORDED, Array, RangeKind
from collectors.sqlite_file import text_of


def read_os_calls(ingest: NsysIngest) -> None:
    """Read calls of the operating system's runtime."""
    for rows in ingest.stream("OSRT_API", ("start", "end", "globalTid", "nameId")):
        rows.drop_bad_spans("os_call")
        rows.drop_threadless("os_call")
        rows.write(
            "os_calls",
            name_id=ingest.names.use(rows["nameId"]),
            **rows.span(),
            **rows.on_thread(),
        )


def read_library_calls(ingest: NsysIngest) -> None:
    """Read what host threads did in MPI, UCX, OpenACC and OpenMP as ranges of such a domain."""
    for table, domain in ingest.libraries.items():
        if not ingest.file.row_numbers(table):
            continue
        ingest.writer.declare("ranges")
        domain_id = ingest.names.intern(domain)
        for rows in ingest.stream(table, ("start", "end", "globalTid", "textId", "nameId")):
            rows.drop_bad_spans("library")
            rows.drop_threadless("library")
            name_id = np.where(rows["textId"] == NOT_RECORDED, rows["nameId"], rows["textId"])
            rows.write(
                "ranges",
                end_thread=np.full(len(rows), NOT_RECORDED, np.int64),
                name_id=ingest.names.use(name_id),
                domain_id=np.full(len(rows), domain_id, np.int64),
                kind=np.full(len(rows), RangeKind.PUSH_POP, np.int8),
                closed=np.ones(len(rows), dtype=bool),
                **rows.span(),
                **rows.on_thread(),
            )


def read_thread_switches(ingest: NsysIngest) -> None:
    """Read when threads were scheduled in and out."""
    for rows in ingest.stream("SCHED_EVENTS", ("start", "globalTid", "cpu", "isSchedIn")):
        rows.drop_bad_times("switch")
        rows.drop_threadless("switch")
        rows.write(
            "thread_switches",
            time_ns=rows["start"],
            cpu=rows.small("cpu"),
            is_in=rows["isSchedIn"] == 1,
            **rows.on_thread(),
        )


def read_cpu_samples(ingest: NsysIngest) -> None:
    """Read samples of where each thread ran, by their innermost frame."""
    ids, symbols = [], []
    for rows in ingest.stream("SAMPLING_CALLCHAINS", ("id", "symbol", "stackDepth"), counted=False):
        innermost = rows["stackDepth"] == 0
        ids.append(rows["id"][innermost])
        symbols.append(rows["symbol"][innermost])
    sample_ids = np.concatenate(ids) if ids else np.empty(0, np.int64)
    symbol = np.concatenate(symbols) if symbols else np.empty(0, np.int64)
    order = np.argsort(sample_ids, kind="stable")
    sample_ids, symbol = sample_ids[order], symbol[order]
    for rows in ingest.stream("COMPOSITE_EVENTS", ("id", "start", "globalTid", "cpu")):
        rows.drop_bad_times("sample")
        rows.drop_threadless("sample")
        rows.write(
            "cpu_samples",
            time_ns=rows["start"],
            cpu=rows.small("cpu"),
            symbol_id=ingest.names.use(_look_up(rows["id"], sample_ids, symbol)),
            **rows.on_thread(),
        )


def _look_up(ids: Array, sample_ids: Array, values: Array) -> Array:
    if not len(sample_ids):
        return np.full(len(ids), NOT_RECORDED, dtype=np.int64)
    place = np.minimum(np.searchsorted(sample_ids, ids), len(sample_ids) - 1)
    return np.where(sample_ids[place] == ids, values[place], NOT_RECORDED)


def read_gpu_metrics(ingest: NsysIngest) -> None:
    """Read samples of the metrics of whole GPUs."""
    # The number of a metric is documented as unstable, so metrics are known by name only.
    names: dict[tuple[int, int], int] = {}
    if ingest.file.has("TARGET_INFO_GPU_METRICS", "typeId", "metricId", "metricName"):
        sql = "SELECT typeId, metricId, metricName FROM TARGET_INFO_GPU_METRICS"
        for kind, metric, name in ingest.file.rows(sql):
            if isinstance(kind, int) and isinstance(metric, int):
                names[kind, metric] = ingest.names.intern(text_of(name))
    for rows in ingest.stream("GPU_METRICS", ("timestamp", "typeId", "metricId", "value")):
        rows.drop_bad_times("metric", column="timestamp")
        rows.drop_nulls("value", "metric_not_numeric", "samples whose value is not an integer")
        name_ids = np.full(len(rows), NOT_RECORDED, dtype=np.int64)
        for (kind, metric), name_id in names.items():
            name_ids[(rows["typeId"] == kind) & (rows["metricId"] == metric)] = name_id
        unknown = name_ids == NOT_RECORDED
        rows.drop(unknown, "metric_unknown", "samples of a metric that the export does not name")
        rows.write(
            "gpu_metrics",
            time_ns=rows["timestamp"],
            gpu=(rows["typeId"] & 0xFF).astype(np.int32),
            name_id=name_ids[~unknown],
            value=rows["value"].astype(np.float64),
        )


def read_overheads(ingest: NsysIngest) -> None:
    """Read times that the profiler itself took."""
    for table in ("PROFILER_OVERHEAD", "CUPTI_ACTIVITY_KIND_OVERHEAD"):
        for rows in ingest.stream(table, ("start", "end", "globalTid", "nameId")):
            rows.drop_bad_spans("overhead")
            rows.write(
                "overheads",
                name_id=ingest.names.use(rows["nameId"]),
                **rows.span(),
                **rows.on_thread(),
            )


def read_diagnostics(ingest: NsysIngest) -> None:
    """Read messages of the profiler about its own work."""
    for rows in ingest.stream("DIAGNOSTIC_EVENT", ("timestamp", "severity"), texts=("text",)):
        # What is said matters, not when: some messages carry the time of another clock.
        time_ns = rows.usable_times("timestamp")
        rows.write(
            "diagnostics",
            time_ns=time_ns,
            severity=rows.small("severity"),
            text=rows.decoded("text"),
        )
