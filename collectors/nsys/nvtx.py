"""Ranges and marks of NVTX, the annotations that a program makes of itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from collectors.nsys.ingest import NsysIngest
from collectors.nsys.places import process_of, process_of_one
from collectors.nsys.rows import NsysRows
from collectors.nsys.tally import NOTED, REPAIRED
from collectors.schema import NOT_RECORDED, Array, RangeKind
from collectors.sqlite_file import SqliteFile, text_of

PUSH_POP, START_END = 59, 60
MARK, CATEGORY, THREAD_NAME, DOMAIN, DOMAIN_END = 34, 33, 39, 75, 76
NAMES_OF_CUDA_OBJECTS = (97, 98, 99)  # of a device, a context, a stream


def read_nvtx(ingest: NsysIngest) -> None:
    """Read ranges and marks; call this last, because open ranges end with the last event."""
    columns = (
        *("start", "end", "eventType", "globalTid", "endGlobalTid"),
        *("textId", "domainId", "category", "color"),
    )
    if not ingest.file.has("NVTX_EVENTS"):
        return
    names, events, lives = _NvtxNames(ingest), 0, 0
    for rows in ingest.stream("NVTX_EVENTS", columns, texts=("text",)):
        lives += int(np.isin(rows["eventType"], (DOMAIN, DOMAIN_END)).sum())
        rows.count_described(
            np.isin(rows["eventType"], (CATEGORY, THREAD_NAME, DOMAIN, DOMAIN_END))
        )
        events += len(rows)
        _write_marks(ingest, rows.part(rows["eventType"] == MARK), names)
        _write_ranges(ingest, rows, names)
    if lives and not events:
        ingest.note("NVTX_EVENTS", ("nvtx_silent", NOTED, _NVTX_SILENT), lives)


# Seen with nvtx 0.2.12 to 0.2.17 under nsys 2022.4 and 2023.4, NVIDIA/NVTX issue 126.
_NVTX_SILENT = (
    "NVTX was there, but no range and no mark came. If the program opens ranges: the Python "
    "package nvtx from 0.2.12 on stays silent under nsys up to 2023.4; install nvtx<=0.2.11 or a "
    "newer nsys, and record again"
)


def _write_marks(ingest: NsysIngest, marks: NsysRows, names: _NvtxNames) -> None:
    marks.drop_bad_times("mark")
    marks.drop_threadless("mark")
    marks.write(
        "marks",
        time_ns=marks["start"],
        name_id=ingest.names.text_or_id(marks.text("text"), marks["textId"]),
        domain_id=names.domains(marks),
        **marks.on_thread(),
    )


def _write_ranges(ingest: NsysIngest, rows: NsysRows, names: _NvtxNames) -> None:
    rows.drop(
        np.isin(rows["eventType"], NAMES_OF_CUDA_OBJECTS),
        "nvtx_other_event",
        "NVTX rows that only name a device, context or stream",
    )
    rows.drop(
        ~np.isin(rows["eventType"], (PUSH_POP, START_END)),
        "nvtx_unknown_kind",
        "NVTX rows that do not say whether they are a range or a mark",
    )
    is_open = rows.close_open_ranges(ingest.capture_end_ns)
    rows.drop_bad_spans("nvtx")
    rows.drop_threadless("nvtx")
    message = "NVTX ranges that were never closed; they end with the capture"
    rows.note(rows.of(is_open), "nvtx_unclosed", REPAIRED, message)
    message = "NVTX ranges that cross others of their thread, which pushed ranges cannot"
    rows.note(_crossing(rows, rows.of(is_open)), "nvtx_crossing", NOTED, message)
    ended = rows["endGlobalTid"]
    rows.write(
        "ranges",
        end_thread=np.where(ended == rows["globalTid"], NOT_RECORDED, ended),
        name_id=ingest.names.text_or_id(rows.text("text"), rows["textId"]),
        domain_id=names.domains(rows),
        category_id=names.categories(rows),
        color=rows["color"],
        kind=np.where(rows["eventType"] == PUSH_POP, RangeKind.PUSH_POP, RangeKind.START_END),
        closed=~rows.of(is_open),
        **rows.span(),
        **rows.on_thread(),
    )


def _crossing(rows: NsysRows, is_open: Array) -> Array:
    """Return which pushed ranges of a piece end while one that began later is still open.

    On each stack of a thread and domain a range that ends leaves as many open as were open when it
    began, unless it ends out of turn.
    """
    crosses = np.zeros(len(rows), dtype=bool)
    start, end = rows["start"], rows["end"]
    usable = (rows["eventType"] == PUSH_POP) & ~is_open & (end > start)
    stack = pd.factorize(rows["globalTid"])[0] * (1 << 20) + pd.factorize(rows["domainId"])[0]
    places = np.flatnonzero(usable)
    places = places[np.argsort(stack[places], kind="stable")]
    borders = np.flatnonzero(np.diff(stack[places])) + 1
    for of_stack in np.split(places, borders):
        begins, ends = start[of_stack], end[of_stack]
        order = np.lexsort((-ends, begins))
        begins, ends = begins[order], ends[order]
        turn = np.empty(len(order), np.int64)
        turn[np.lexsort((-np.arange(len(order)), -begins, ends))] = np.arange(len(order))
        open_before = np.arange(len(order)) - np.searchsorted(np.sort(ends), begins, side="right")
        open_after = np.searchsorted(begins, ends, side="left") - turn - 1
        crosses[of_stack[order]] = open_before != open_after
    return crosses


class _NvtxNames:
    """Names of NVTX domains and categories, which each process numbers for itself."""

    def __init__(self, ingest: NsysIngest) -> None:
        self._domains: dict[tuple[int, int], int] = {}
        self._categories: dict[tuple[int, int, int], int] = {}
        text = _nvtx_text(ingest.file)
        category = "category" if ingest.file.has("NVTX_EVENTS", "category") else "NULL"
        if text is None or not ingest.file.has("NVTX_EVENTS", "domainId", "globalTid", "eventType"):
            return
        sql = (
            f"SELECT eventType, globalTid, domainId, {category}, {text} FROM NVTX_EVENTS AS n "
            f"WHERE eventType IN ({CATEGORY}, {DOMAIN})"
        )
        for kind, thread, domain, number, name in ingest.file.rows(sql):
            if not isinstance(thread, int) or not isinstance(domain, int) or name is None:
                continue
            process, name_id = process_of_one(thread), ingest.names.intern(text_of(name))
            if kind == DOMAIN:
                self._domains[process, domain] = name_id
            elif isinstance(number, int):
                self._categories[process, domain, number] = name_id

    def domains(self, rows: NsysRows) -> Array:
        """Return the name of each row's domain."""
        result = np.full(len(rows), NOT_RECORDED, dtype=np.int64)
        process, domain = process_of(rows["globalTid"]), rows["domainId"]
        for (a_process, a_domain), name_id in self._domains.items():
            result[(process == a_process) & (domain == a_domain)] = name_id
        return result

    def categories(self, rows: NsysRows) -> Array:
        """Return the name of each row's category."""
        result = np.full(len(rows), NOT_RECORDED, dtype=np.int64)
        process, domain = process_of(rows["globalTid"]), rows["domainId"]
        for (a_process, a_domain, number), name_id in self._categories.items():
            here = (process == a_process) & (domain == a_domain)
            result[here & (rows["category"] == number)] = name_id
        return result


def _nvtx_text(file: SqliteFile) -> str | None:
    by_id = "(SELECT value FROM StringIds WHERE id = n.textId)"
    parts = ["n.text"] if file.has("NVTX_EVENTS", "text") else []
    parts += [by_id] if file.has("NVTX_EVENTS", "textId") else []
    return f"coalesce({', '.join(parts)}, NULL)" if parts else None
