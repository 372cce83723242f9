"""``whyslow whatif``: predict what changes to a program would gain."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from analyzers.facts.window_request import parse_request
from cli.terminal import progress_bar
from jobs.api import predict, use_recording
from library.analyses import DEVICE_PEAK_VARIABLE


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
    with progress_bar(chosen.path.name) as show:
        what_if = use_recording(
            chosen.path,
            lambda recording: predict(
                recording.trace,
                recording.stored.report.window,
                speed_ups,
                show,
                is_whole=not parse_request(chosen.window).window,
            ),
            window=chosen.window,
            on_progress=show,
        )
    if chosen.json:
        sys.stdout.write(f"{json.dumps(what_if.to_dict(), indent=1)}\n")
        return
    from reports.terminal import print_document
    from reports.whatif import whatif_summary

    print_document(whatif_summary(what_if, chosen.path.name))
