"""Several recordings diagnosed, a line each: those that are named, then those that arrive."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cli.failures import failure_of
from cli.terminal import progress_bar
from cli.watching import Arrivals
from jobs import api
from reports.diagnoses import DiagnosedFile, diagnoses
from reports.document import Document
from reports.terminal import print_document

AT_A_TIME = 2  # each may take the memory of a whole reader
LOOK_S = 1.0  # between two looks at a watched folder


def diagnose_several(chosen: argparse.Namespace, counters: str) -> int:
    """Print one line for each recording; return the worst of their exit statuses.

    Args:
        chosen: What the command line asks for.
        counters: Id of a recording of the library whose counters are joined; empty for none.

    Raises:
        RefusedError: The folder to watch is none.
    """
    arrivals = Arrivals(chosen.watch) if chosen.watch else None
    ask = partial(_diagnosed, window=chosen.window, counters=counters)
    with progress_bar("diagnose") as show, ThreadPoolExecutor(AT_A_TIME) as threads:
        files = list(threads.map(lambda path: ask(path, show), chosen.paths))
    if files:
        table = diagnoses(files, is_stream=arrivals is not None)
        _print_files(files, table, is_json=chosen.json)
    worst = max((file.status for file in files), default=0)
    if arrivals is None:
        return worst
    has_head = not files
    for path in _arriving(arrivals):
        with progress_bar(path.name) as show:
            file = ask(path, show)
        line = diagnoses([file], has_head=has_head, is_stream=True)
        _print_files([file], line, is_json=chosen.json)
        has_head, worst = False, max(worst, file.status)
    return worst


def _arriving(arrivals: Arrivals) -> Iterator[Path]:
    """Yield recordings as they arrive, until Ctrl-C between two of them."""
    while True:
        try:
            paths = arrivals.look()
            if not paths:
                time.sleep(LOOK_S)
        except KeyboardInterrupt:  # nothing is left undone
            return
        yield from paths


def _diagnosed(
    path: Path, show: api.OnProgress | None, window: str, counters: str
) -> DiagnosedFile:
    """Return the answer about one recording, or why there is none."""
    try:
        job = api.begin_opening(path, window=window, counters=counters, timeline=False)
        return DiagnosedFile(path=str(path), report=api.stored_analysis(job, show).report)
    except Exception as error:
        status, line = failure_of(error, path)
        return DiagnosedFile(
            path=str(path), status=status, trouble=line.removeprefix(f"{path.name}: ")
        )


def _print_files(files: list[DiagnosedFile], table: Document, *, is_json: bool) -> None:
    if is_json:
        sys.stdout.writelines(f"{json.dumps(file.to_dict())}\n" for file in files)
    else:
        print_document(table)
    sys.stdout.flush()
