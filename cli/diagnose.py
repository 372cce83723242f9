"""``whyslow diagnose``: say why a recording is slow."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cli.recordings import open_with_progress, stored_analysis
from library.analyses import DEVICE_PEAK_VARIABLE


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the recording, the form of the answer and the counters to join."""
    command.add_argument("path", type=Path, metavar="PATH")
    command.add_argument(
        "--verbose", action="store_true", help="give every reason for what could not be told"
    )
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
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


def run(chosen: argparse.Namespace) -> None:
    """Print the diagnosis."""
    if chosen.device_peak:
        os.environ[DEVICE_PEAK_VARIABLE] = chosen.device_peak  # jobs inherit it
    counters = open_with_progress(chosen.counters).trace.id if chosen.counters else ""
    stored = stored_analysis(chosen.path, chosen.window, counters)
    if chosen.json:
        sys.stdout.write(f"{stored.report_text()}\n")
        return
    from reports.diagnosis import diagnosis_summary
    from reports.terminal import print_document

    print_document(diagnosis_summary(stored.report, is_verbose=chosen.verbose))
