"""``whyslow fleet``: say which rank of a job makes the others wait, and what that costs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cli.terminal import progress_bar
from jobs.api import answer_job


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the table of operations and the form of the answer."""
    command.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="Parquet with a row an operation: rank, step, optype, start_ts, duration; "
        "stage, dp_rank, seq_id and mc where there are any",
    )
    command.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(chosen: argparse.Namespace) -> None:
    """Print who makes the others wait."""
    with progress_bar(chosen.path.name) as show:
        answer = answer_job(chosen.path, show)
    if chosen.json:
        sys.stdout.write(f"{json.dumps(answer.to_dict(), indent=1, allow_nan=False)}\n")
        return
    from reports.fleet import job_summary
    from reports.terminal import print_document

    print_document(job_summary(answer))
