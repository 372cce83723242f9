"""``whyslow export``: write a recording and its analysis to files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzers.words import count_text
from cli.terminal import progress_bar, progress_step, writing_to
from common.text import printable
from jobs.api import use_recording

if TYPE_CHECKING:
    from jobs.api import LibraryRecording


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the recording and the one form that it is written in."""
    command.add_argument("path", type=Path, metavar="PATH")
    kind = command.add_mutually_exclusive_group(required=True)
    kind.add_argument("--perfetto", type=Path, metavar="OUT.json.gz", help="Chrome trace JSON")
    kind.add_argument("--csv", type=Path, metavar="DIR", help="one CSV file per table")
    kind.add_argument("--parquet", type=Path, metavar="DIR", help="one Parquet file per table")


def run(chosen: argparse.Namespace) -> None:
    """Write the files."""
    target: Path = chosen.perfetto or chosen.csv or chosen.parquet
    with progress_bar(chosen.path.name) as show:
        what = use_recording(
            chosen.path,
            lambda recording: _write_files(recording, chosen, target, show),
            window=chosen.window,
            on_progress=show,
        )
    print(f"{printable(str(target))}: {what}")


def _write_files(
    recording: LibraryRecording, chosen: argparse.Namespace, target: Path, show: Any
) -> str:
    """Write the files that were asked for, and say how much that is."""
    options: dict[str, Any] = {"only_window": bool(chosen.window)}
    with writing_to(target):
        if chosen.perfetto:
            from exports import perfetto

            if show is not None:
                options["on_progress"] = lambda part: show(progress_step(part, "writing events"))
            count = perfetto.export(recording.trace, recording.stored, target, **options)
            return count_text(count, "event")
        from exports import tables

        if show is not None:
            options["on_progress"] = lambda table: show(progress_step(0.5, f"writing {table}"))
        write = tables.export_csv if chosen.csv else tables.export_parquet
        files = write(recording.trace, recording.stored, target, **options)
        return count_text(len(files), "file")
