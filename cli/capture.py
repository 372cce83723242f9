"""``whyslow capture``: run a program under profilers and open what they record."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import types
from pathlib import Path
from typing import Any

from cli.terminal import exit_on_signal, progress_bar, progress_step
from common.platform import ending_signals
from jobs.api import open_recording

INTERRUPTED = 128 + signal.SIGINT
STOPPING = b"\nwhyslow: stopping the program to keep what was recorded (Ctrl-C again gives up)\n"


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what is run, with which tools, and how often."""
    command.usage = "%(prog)s [options] (WORKLOAD | PAIR | -- COMMAND …)"
    command.epilog = "`python -m workloads` lists the pairs; they need PyTorch."
    command.add_argument("workload", nargs="*", metavar="WORKLOAD", help="or -- COMMAND …")
    command.add_argument(
        "--with",
        dest="tools",
        default="nsys",
        metavar="TOOLS",
        help="nsys, torch, ncu, telemetry, several with commas, or all (default: nsys)",
    )
    command.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="how often each is run (1)"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="folder for the recordings")
    command.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="time limit of one run in seconds (600)",
    )
    for name, meaning in (
        ("steps", "how many steps a workload measures"),
        ("warmup", "how many warm-up steps a workload runs first"),
        ("seed", "random seed of a workload"),
    ):
        command.add_argument(f"--{name}", type=int, metavar="N", help=meaning)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where a workload runs")
    command.add_argument(
        "--python", default="", metavar="PATH", help="Python interpreter that runs a workload"
    )
    command.add_argument(
        "--whole-graphs", action="store_true", help="record CUDA graphs as one block each (nsys)"
    )
    command.add_argument(
        "--rate", type=float, default=0.0, metavar="HZ", help="telemetry samples per second (10)"
    )
    command.add_argument("--job", default="", help=argparse.SUPPRESS)


def run(chosen: argparse.Namespace) -> int:
    """Run the capture, say what it recorded, and return the exit status.

    The first Ctrl-C ends the program and keeps what was recorded; the second gives up.
    """
    from captures import capturing, outcomes
    from captures.store import State
    from reports.capture import capture_summary
    from reports.terminal import print_document

    for number in ending_signals():
        signal.signal(number, exit_on_signal)  # so that everything it started is ended
    stop = _FirstInterrupt()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a job in the background
        signal.signal(signal.SIGINT, stop.take)
    with progress_bar(" ".join(chosen.workload or chosen.command)) as draw:
        show = None if draw is None else lambda part, stage: draw(progress_step(part, stage))
        capture = capturing.carry_out(chosen, _open_for_capture, show, stop.is_taken)
    print_document(capture_summary(capture))
    outcomes.check(capture)
    return INTERRUPTED if capture.state is State.CANCELLED else 0


class _FirstInterrupt:
    """Takes note of the first Ctrl-C; the next one interrupts as usual."""

    def __init__(self) -> None:
        self._taken = False

    def is_taken(self) -> bool:
        """Tell whether there was one."""
        return self._taken

    def take(self, number: int, frame: types.FrameType | None) -> None:
        """Handle the signal."""
        if self._taken:
            signal.default_int_handler(number, frame)
        self._taken = True
        with contextlib.suppress(OSError):  # not through a stream that may be in use just now
            os.write(2, STOPPING)


def _open_for_capture(path: Path, window: str) -> Any:
    return open_recording(path, window=window)
