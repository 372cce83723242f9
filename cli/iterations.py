"""The option that names what an iteration is."""

from __future__ import annotations

import argparse

from analyzers.facts.window_request import request_text


def add_iterations(command: argparse.ArgumentParser) -> None:
    """Add the choice of what an iteration is."""
    command.add_argument(
        "--iterations",
        default="",
        metavar="WHICH",
        help="what an iteration is: auto, nvtx:NAME (every range of that name), kernel:NAME (begun "
        "by each launch of that kernel), period:N (every N launches) or none",
    )


def with_iterations(chosen: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with the choice of iterations as a part of the window."""
    if getattr(chosen, "iterations", ""):
        chosen.window = request_text(chosen.window, chosen.iterations)
    return chosen
