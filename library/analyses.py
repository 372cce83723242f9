"""Analyses that were made once and are kept beside their trace, so that a second look is instant.

``<trace>/analysis/<key>`` holds ``report.json`` and one Parquet file for each table that pages
draw from. The key covers the window, the counters that were joined, and the text of the
analyzers: a rule that changed answers anew. Reading a report touches neither pandas nor Arrow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import replacing_folder
from common.platform import flush
from library import sampled_clocks
from library.cache import cache_root, fingerprint

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq

    from analyzers.analysis import Analysis
    from analyzers.facts.facts import Facts
    from analyzers.report import Report
    from collectors.errors import DamagedError
    from collectors.schema import Array
    from collectors.trace import Trace

MANIFEST = "manifest.json"
REPORT = "report.json"
ROW_GROUP_ROWS = 262_144
MAX_KEPT = 16  # windows kept for each trace; a page asks for a new one with every selection


@dataclass(frozen=True)
class StoredAnalysis:
    """One analysis on disk; tables are read when they are asked for.

    Attributes:
        folder: Where it lies.
        name: Name of the recording's file. One with the same content may have been analysed
            under another name; empty keeps that one.
    """

    folder: Path
    name: str = field(default="", compare=False)

    @property
    def trace_id(self) -> str:
        """Name of the trace that was analysed."""
        return self.folder.parent.parent.name

    @cached_property
    def report(self) -> Report:
        """Everything the analysis says."""
        from analyzers.report import Report

        try:
            return Report.from_dict(json.loads(self.report_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def report_text(self) -> str:
        """Return the report as the JSON text that was stored."""
        try:
            text = (self.folder / REPORT).read_text(encoding="utf-8")
            data = json.loads(text)
            if not self.name or data["source"]["name"] == self.name:
                return text
            data["source"]["name"] = self.name
            return json.dumps(data, indent=1)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def segments(self) -> pd.DataFrame:
        """Return the ledger, one row per stretch of a device's time; see ``Ledger.segments``."""
        return self._frame("segments")

    def kernels(self) -> pd.DataFrame:
        """Return one row per kernel name; see ``analyzers.kernels.table``."""
        return self._frame("kernels")

    def counted(self) -> pd.DataFrame:
        """Return what counters say about each kernel; see ``analyzers.kernels.counted``."""
        return self._frame("counted")

    def regions(self) -> pd.DataFrame:
        """Return the ledger by region of the program; see ``analyzers.ledger.regions``."""
        return self._frame("regions")

    def work(self) -> pd.DataFrame:
        """Return the kernel time by operator and inputs; see ``analyzers.work.account``."""
        return self._frame("work")

    def work_kernels(self) -> pd.DataFrame:
        """Return what each kernel has of each row of ``work``; see ``WorkAccount.kernels``."""
        return self._frame("work_kernels")

    def launches(self) -> pd.DataFrame:
        """Return one row per GPU operation, with everything that is known about it.

        Columns: ``device`` (key), ``process_key``, ``stream``, ``kind`` (as
        ``analyzers.facts.facts`` numbers them), ``start_ns``, ``end_ns``, ``queue_ns``,
        ``idle_before_ns``, ``range_row`` (row in ``ranges`` of the innermost NVTX range around its
        call), ``api_row`` (row in ``api_calls``) with ``api_start_ns``, ``api_end_ns``,
        ``thread_key``; the name, grid, block, registers and shared memory of kernels; ``bytes``,
        ``copy_kind``, ``source_kind`` and
        ``destination_kind`` of copies. What does not apply or is not recorded is -1.
        """
        from collectors.errors import TraceError
        from collectors.trace import Trace

        narrow = self._frame("launches")
        try:
            return _with_recorded(narrow, Trace.load(self.folder.parent.parent))
        except (TraceError, OSError) as error:
            raise self._damaged(error) from error

    def narrow_launches(self) -> pd.DataFrame:
        """Return what the analysis found out about each launch, and none of what was recorded."""
        return self._frame("launches")

    def launch(self, row: int) -> dict[str, int]:
        """Return one row of ``launches``, but ``range_row``, without reading the others.

        Raises:
            IndexError: There is no such row.
        """
        from collectors.trace import Trace

        narrow = self._row("launches", row)
        trace = Trace.load(self.folder.parent.parent)
        values = dict(narrow)
        for table, recorded_in, columns in _recorded(trace):
            source = narrow["api_row" if table == "api_calls" else "source_row"]
            if narrow["kind"] in _kinds_of(table) and source >= 0:
                recorded = trace.row(recorded_in, source, list(columns))
                values |= {columns[name]: value for name, value in recorded.items()}
        return {name: int(value) for name, value in values.items()}

    def segment(self, row: int) -> dict[str, int]:
        """Return one row of ``segments`` without reading the others.

        Raises:
            IndexError: There is no such row.
        """
        return {name: int(value) for name, value in self._row("segments", row).items()}

    def _frame(self, name: str) -> pd.DataFrame:
        with self._open(name) as file:
            frame: pd.DataFrame = file.read().to_pandas()
            return frame

    def _row(self, name: str, row: int) -> dict[str, int]:
        from collectors.trace import row_of

        with self._open(name) as file:
            if not 0 <= row < file.metadata.num_rows:
                raise IndexError(row)
            return row_of(file, row)

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[pq.ParquetFile]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from collectors.trace import footer_digest, is_damage

        path = self.folder / f"{name}.parquet"
        try:
            manifest = json.loads((self.folder / MANIFEST).read_bytes())
            if manifest["footers"][path.name] != footer_digest(path):
                raise pa.ArrowInvalid("the footer is damaged")
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield file
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            if isinstance(error, (OSError, MemoryError)) and not is_damage(error):
                raise
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DamagedError:
        from collectors.errors import DamagedError

        shutil.rmtree(self.folder, ignore_errors=True)  # so that the next look makes it again
        return DamagedError(
            f"{self.name or self.trace_id}: the stored analysis is damaged or gone "
            f"({type(error).__name__}); open the recording again"
        )


def at(trace_id: str, folder: str, name: str = "") -> StoredAnalysis:
    """Return the analysis in this folder under the trace, of the file called ``name``."""
    return StoredAnalysis(cache_root() / trace_id / "analysis" / folder, name)


def save(
    analysis: Analysis,
    trace: Trace,
    window: str,
    counters: str = "",
    write_beside: Callable[[Path], None] | None = None,
) -> StoredAnalysis:
    """Keep ``analysis`` of ``window`` beside ``trace``; an intact one that is there stays.

    Args:
        analysis: What to keep.
        trace: The recording.
        window: As ``analyzers.analyze`` takes it.
        counters: Id of the recording whose counters were joined; empty without.
        write_beside: Writes what else belongs to the analysis into its folder, meanwhile; the
            folder gets its final name when all is there.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    from analyzers.kernels.counted import counted_kernels
    from analyzers.kernels.table import kernel_table
    from analyzers.ledger.regions import region_matrix
    from analyzers.work.account import NO_ACCOUNT

    account = analysis.account or NO_ACCOUNT
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "kernels": partial(kernel_table, analysis.facts),
        "launches": partial(_narrow_launches, analysis.facts),
        "segments": lambda: analysis.ledger.segments,
        "counted": partial(counted_kernels, analysis.ledger.inside),
        "regions": partial(
            region_matrix, analysis.facts, analysis.ledger, analysis.report.iterations
        ),
        "work": lambda: account.rows,
        "work_kernels": lambda: account.kernels,
    }
    target = _folder(trace.folder, window, counters)
    with replacing_folder(target, _is_intact) as draft, ThreadPoolExecutor(1) as thread:
        beside = thread.submit(write_beside, draft) if write_beside is not None else None
        _write(draft, window, analysis.report, tables)
        if beside is not None:
            without_defects(beside)
    flush(target.parent)
    _forget_old(target)
    return StoredAnalysis(target, trace.source.name)


def without_defects(index: Future[None]) -> None:
    """Wait for an index; a defect of ours in it must not cost the answer, which needs no index.

    Raises:
        OSError: The disk is full or cannot be written.
        MemoryError: There was too little.
    """
    try:
        index.result()
    except (OSError, MemoryError):
        raise
    except Exception:  # made again, and then told, when somebody looks at the timeline
        traceback.print_exc()


def load(trace: Trace, window: str = "", counters: str = "") -> StoredAnalysis | None:
    """Return the stored analysis, or None when it has to be made; arguments as of ``save``."""
    return find(trace.folder, window, trace.source.name, counters)


def find(
    trace_folder: Path, window: str = "", name: str = "", counters: str = ""
) -> StoredAnalysis | None:
    """Return the intact analysis under ``trace_folder``, None when there is none."""
    folder = _folder(trace_folder, window, counters)
    return StoredAnalysis(folder, name) if _is_intact(folder) else None


def analyzer_version() -> str:
    """Return a fingerprint of everything that decides what an analysis says."""
    return fingerprint("analyzers", "collectors.schema", "collectors.trace", "library.analyses")


DEVICE_PEAK_VARIABLE = "WHYSLOW_DEVICE_PEAK"
"""What the user says about GPUs, as ``analyzers.work.roofs.parse_peaks`` reads it."""


def device_peak_text() -> str:
    """Return what the user says about GPUs, as written."""
    return os.environ.get(DEVICE_PEAK_VARIABLE, "")


def device_peaks(trace_folder: Path) -> dict[str, float]:
    """Return what is said about GPUs beside the recording: by the user, and by telemetry.

    What each can do in a second, by type, and their clocks; ``analyzers.work.roofs``.

    Args:
        trace_folder: Where the trace lies.

    Raises:
        RefusedError: It is not of the form that is expected.
    """
    from analyzers.work.roofs import CLOCK, parse_peaks
    from collectors.errors import RefusedError

    try:
        peaks = parse_peaks(device_peak_text())
    except ValueError as error:
        raise RefusedError(f"{DEVICE_PEAK_VARIABLE}: {error}") from error
    clocks = sampled_clocks.load(trace_folder)
    return {**peaks, **{f"{CLOCK}{gpu}": hz for gpu, hz in clocks.items()}}


def limits_text(trace_folder: Path) -> str:
    """Return what ``device_peaks`` rests on, as a part of the key of an answer."""
    clocks = sampled_clocks.load(trace_folder)
    return device_peak_text() + (json.dumps(clocks, sort_keys=True) if clocks else "")


def _folder(trace_folder: Path, window: str, counters: str = "") -> Path:
    question = f"{analyzer_version()}\0{window}" + (f"\0{counters}" if counters else "")
    if peaks := limits_text(trace_folder):
        question += f"\0\0{peaks}"
    key = hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()
    return trace_folder / "analysis" / key[:24]


_RECORDED = {
    "kernels": {
        c: c
        for c in (
            "name_id",
            "short_name_id",
            *("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z"),
            *("registers_per_thread", "static_shared_bytes", "dynamic_shared_bytes"),
            "graph_node",
        )
    },
    "copies": {
        "bytes": "bytes",
        "kind": "copy_kind",
        "source_kind": "source_kind",
        "destination_kind": "destination_kind",
        "graph_node": "graph_node",
    },
    "memsets": {"bytes": "bytes", "graph_node": "graph_node"},
    "graph_launches": {"graph": "graph"},
    "api_calls": {"start_ns": "api_start_ns", "end_ns": "api_end_ns", "thread": "thread_key"},
}
"""Columns that a launch takes over from the table it was recorded in, and their new names."""


def _narrow_launches(facts: Facts) -> pd.DataFrame:
    """Return what the analysis found out about each launch; the rest is in the trace's tables."""
    launches = facts.launches
    columns = ["device", "stream", "kind", "start_ns", "end_ns", "source_row", "api_row"]
    return launches[columns].assign(
        process_key=facts.process_keys[launches["process_index"].to_numpy()],
        queue_ns=facts.queue_ns,
        idle_before_ns=facts.idle_before_ns,
    )


def _with_recorded(narrow: pd.DataFrame, trace: Trace) -> pd.DataFrame:
    """Add to each launch what its own tables hold."""
    import numpy as np

    added: dict[str, Array] = {}
    for table, recorded_in, columns in _recorded(trace):
        if table == "api_calls":
            rows, sources = narrow["api_row"] >= 0, narrow["api_row"]
        else:
            rows, sources = narrow["kind"].isin(_kinds_of(table)), narrow["source_row"]
        chosen, source = rows.to_numpy(), sources.to_numpy()[rows.to_numpy()]
        for name, new_name in columns.items():  # one at a time: a table has up to 300 MB
            recorded = trace.columns(recorded_in, [name])[name]
            column = added.setdefault(new_name, np.full(len(narrow), -1, recorded.dtype))
            column[chosen] = recorded[source]
    added["range_row"] = _range_rows(trace, narrow, added)
    return narrow.drop(columns="source_row").assign(**added)


def _recorded(trace: Trace) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield each table of ``_RECORDED``, the one that holds its rows, and the columns it has."""
    from analyzers.facts.facts import holds_counters_only
    from collectors.schema import schema

    for table, columns in _RECORDED.items():
        recorded_in = table
        if table == "kernels" and holds_counters_only(trace):
            recorded_in = "profiled_kernels"
        there = schema(recorded_in).names
        yield table, recorded_in, {name: new for name, new in columns.items() if name in there}


def _kinds_of(table: str) -> tuple[int, ...]:
    """Return the kinds of launches that ``table`` knows something about."""
    from analyzers.facts import facts

    return {
        "kernels": (facts.KERNEL, facts.COMMUNICATION),
        "copies": (facts.COPY,),
        "memsets": (facts.MEMSET,),
        "graph_launches": (facts.GRAPH,),
        "api_calls": facts.KINDS,
    }[table]


def _range_rows(trace: Trace, narrow: pd.DataFrame, added: Mapping[str, Array]) -> Array:
    """Return the row in ``ranges`` of the innermost NVTX range around each launch's call."""
    import numpy as np

    from analyzers.facts.nesting import innermost

    result = np.full(len(narrow), -1, np.int64)
    called = np.flatnonzero((narrow["api_row"] >= 0).to_numpy())
    ranges = trace.columns("ranges", ["start_ns", "end_ns", "thread"])
    for thread in np.unique(ranges["thread"]):
        rows = np.flatnonzero(ranges["thread"] == thread)
        calls_of_thread = called[added["thread_key"][called] == thread]
        innermost_range = innermost(
            ranges["start_ns"][rows], ranges["end_ns"][rows], added["api_start_ns"][calls_of_thread]
        )
        result[calls_of_thread] = np.where(innermost_range >= 0, rows[innermost_range], -1)
    return result


def _write(
    folder: Path,
    window: str,
    report: Report,
    tables: Mapping[str, Callable[[], pd.DataFrame]],
) -> None:
    """Write the report, the tables, which are made meanwhile, and what proves both whole."""
    with ThreadPoolExecutor(len(tables)) as threads:
        paths = [folder / f"{name}.parquet" for name in tables]
        list(threads.map(_write_table, paths, tables.values()))
    text = report.to_json().encode()
    (folder / REPORT).write_bytes(text)
    from collectors.trace import footer_digest

    manifest: dict[str, Any] = {
        "window": window,
        "version": analyzer_version(),
        "report_sha256": hashlib.sha256(text).hexdigest(),
        "sizes": {f.name: f.stat().st_size for f in sorted(folder.iterdir()) if f.is_file()},
        "footers": {f.name: footer_digest(f) for f in sorted(folder.glob("*.parquet"))},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for path in (*(folder / name for name in (*manifest["sizes"], MANIFEST)), folder):
        flush(path)


def _write_table(path: Path, make_table: Callable[[], pd.DataFrame]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(make_table(), preserve_index=False)
    # Times and row numbers hardly repeat: a dictionary of them only costs time.
    wide = [f.name for f in table.schema if f.type in (pa.int32(), pa.int64())]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in table.schema.names if name not in wide],
        column_encoding=dict.fromkeys(wide, "BYTE_STREAM_SPLIT") or None,
        write_page_checksum=True,
        write_statistics=False,
        row_group_size=ROW_GROUP_ROWS,
    )


def _is_intact(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        report = (folder / REPORT).read_bytes()
        return (
            all((folder / n).stat().st_size == size for n, size in manifest["sizes"].items())
            and hashlib.sha256(report).hexdigest() == manifest["report_sha256"]
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _forget_old(newest: Path) -> None:
    """Delete all but the analyses that were made last, and that of the whole recording."""
    keep = {newest, _folder(newest.parent.parent, "")}
    others = [f for f in newest.parent.iterdir() if f not in keep and not f.name.startswith(".")]
    with contextlib.suppress(FileNotFoundError):  # another process deletes the same ones
        others.sort(key=lambda f: f.stat().st_mtime_ns, reverse=True)
    for folder in others[MAX_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
