"""``whyslow whatif``: predict what changes to a program would gain."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from analyzers.facts.window_request import parse_request
from cli.terminal import progress_bar
from jobs.api import predict, use_recording
from library.analyses import DEVICE_PEAK_VARIABLE

if TYPE_CHECKING:
    from analyzers.report import Report
    from analyzers.whatif.whatif import WhatIf
    from jobs.api import LibraryRecording


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the recording, the form of the answer and the kernels to speed up."""
    command.add_argument("path", type=Path, metavar="PATH")
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.add_argument(
        "--speed-up",
        action="append",
        default=[],
        metavar="KERNEL=TIMES",
        help="also predict with kernels whose name contains KERNEL TIMES as fast",
    )
    command.add_argument(
        "--device-peak",
        metavar="bf16=989e12,hbm=3.35e12",
        help="operations and bytes a second of the GPU, where whyslow does not know it; "
        "link=50e9 for what connects it with others",
    )


def run(chosen: argparse.Namespace) -> None:
    """Print the predictions."""
    from library import predictions

    if chosen.device_peak:
        os.environ[DEVICE_PEAK_VARIABLE] = chosen.device_peak  # jobs inherit it
    speed_ups = [predictions.parse_speed_up(text) for text in chosen.speed_up]

    def predicted(recording: LibraryRecording) -> tuple[WhatIf, Report]:
        is_whole = not parse_request(chosen.window).window
        report = recording.stored.report
        options = (recording.trace, report.window, speed_ups, show)
        return predict(*options, is_whole=is_whole), report

    with progress_bar(chosen.path.name) as show:
        what_if, report = use_recording(
            chosen.path, predicted, window=chosen.window, on_progress=show
        )
    _check_kernels(what_if, report)
    if chosen.json:
        sys.stdout.write(f"{json.dumps(what_if.to_dict(), indent=1)}\n")
        return
    from reports.terminal import print_document
    from reports.whatif import whatif_summary

    print_document(whatif_summary(what_if, chosen.path.name))


def _check_kernels(what_if: WhatIf, report: Report) -> None:
    """Refuse a speed-up of kernels that the window does not have, before anything is printed.

    Raises:
        SpeedUpError: No kernel has a name like this.
    """
    from analyzers.words import enumerated, name_text
    from library.prediction_history import KERNEL
    from library.predictions import SpeedUpError

    absent = [w for w in what_if.withheld if w.change.startswith(KERNEL)]
    if absent:
        longest = enumerated([repr(name_text(k.name)) for k in report.top_kernels[:3]])
        most = f"; most time is in {longest}" if longest else ""
        raise SpeedUpError(f"--speed-up: {absent[0].reason}{most}")
