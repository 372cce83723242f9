"""``whyslow diagnose``: say why a recording is slow, or several, or those that arrive."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cli.recordings import open_with_progress, stored_analysis
from library.analyses import DEVICE_PEAK_VARIABLE


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the recordings, the form of the answer and the counters to join."""
    command.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="a recording; of several, each gets one line of a table",
    )
    command.add_argument(
        "--watch",
        type=Path,
        metavar="FOLDER",
        help="go on with each recording that arrives in FOLDER, a line each, until Ctrl-C",
    )
    command.add_argument(
        "--verbose",
        action="store_true",
        help="of one recording: give every reason for what could not be told",
    )
    command.add_argument(
        "--json", action="store_true", help="print the answer as JSON; of several, one on each line"
    )
    command.add_argument(
        "--counters",
        type=Path,
        metavar="REPORT.ncu-rep",
        help="Nsight Compute counters of the same program, joined to the kernels of PATH",
    )
    command.add_argument(
        "--device-peak",
        metavar="bf16=989e12,hbm=3.35e12",
        help="operations and bytes a second of the GPU, where whyslow does not know it; "
        "link=50e9 for what connects it with others",
    )


def run(chosen: argparse.Namespace) -> int:
    """Print the diagnosis; return the worst exit status of all recordings."""
    if chosen.device_peak:
        os.environ[DEVICE_PEAK_VARIABLE] = chosen.device_peak  # jobs inherit it
    if not chosen.paths and not chosen.watch:
        from collectors.errors import RefusedError

        raise RefusedError(
            "diagnose: no recording to diagnose. Give one or more, or --watch FOLDER"
        )
    is_one = len(chosen.paths) == 1 and not chosen.watch
    if chosen.verbose and not is_one:
        from collectors.errors import RefusedError

        raise RefusedError(
            "diagnose: --verbose is for one recording. Give one path, or --json for all that is "
            "known of each"
        )
    counters = open_with_progress(chosen.counters).trace.id if chosen.counters else ""
    if not is_one:
        from cli.diagnoses import diagnose_several

        return diagnose_several(chosen, counters)
    chosen.path = chosen.paths[0]  # what a line of trouble is about
    stored = stored_analysis(chosen.path, chosen.window, counters)
    if chosen.json:
        sys.stdout.write(f"{stored.report_text()}\n")
        return 0
    from reports.diagnosis import diagnosis_summary
    from reports.terminal import print_document

    print_document(diagnosis_summary(stored.report, is_verbose=chosen.verbose))
    return 0
