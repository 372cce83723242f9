"""Predictions for an opened recording, and how they read on a terminal.

The compiled replay is kept in the data folder, so that only its first use pays for compiling.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from analyzers.words import time_text
from library.cache import data_dir

if TYPE_CHECKING:
    from analyzers.report import Iteration, Window
    from analyzers.whatif import Prediction, WhatIf
    from collectors.trace import Trace
    from library.analyses import Stored

_COMPILED = "compiled"
MAX_SPEED_UP = 1e6


class SpeedUpError(ValueError):
    """What was asked for is no speed-up; the message is one line."""


def predict(trace: Trace, window: Window, speed_ups: Sequence[tuple[str, float]] = ()) -> WhatIf:
    """Replay a recording and return what would change its time.

    Args:
        trace: The recording.
        window: The part to predict for, such as that of a stored report.
        speed_ups: Parts of kernel names, and how many times as fast those kernels become.
    """
    from analyzers.facts import build_facts

    _keep_compiled()
    from analyzers.whatif import explore

    return explore(build_facts(trace), window, speed_ups)


def predict_compared(
    trace: Trace, window: str, warm_up: int, analyse: Callable[[Trace, str], Stored]
) -> WhatIf:
    """Replay the part of a recording that a comparison measured.

    Args:
        trace: A recording of the baseline.
        window: As ``library.comparisons.compare_recordings`` takes it.
        warm_up: Iterations at the beginning that were left out.
        analyse: How to get the analysis of a window; ``worker.analyse``.
    """
    is_one = window and not (window.startswith("nvtx:") and "#" not in window)
    report = analyse(trace, window if is_one else "").report
    kept = () if is_one else report.iterations[warm_up:]
    return predict(trace, _all_of(kept) if kept else report.window)


def _all_of(iterations: Sequence[Iteration]) -> Window:
    from analyzers.report import Window

    begin, end = iterations[0].start_ns, iterations[-1].end_ns
    return Window(start_ns=begin, end_ns=end, label=f"{len(iterations)} iterations")


def _keep_compiled() -> None:
    """Tell numba where it may keep compiled code; without a place it compiles every time."""
    import numba

    folder = data_dir() / _COMPILED
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    status = folder.stat()
    # What lies there is run: it has to be ours alone.
    if status.st_uid == os.getuid() and not status.st_mode & 0o022 and os.access(folder, os.W_OK):
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]


def parse_speed_up(text: str) -> tuple[str, float]:
    """Return the kernel and the factor of ``gemm=2``.

    Raises:
        SpeedUpError: It reads otherwise.
    """
    name, _, times = text.rpartition("=")
    try:
        factor = float(times)
    except ValueError:
        factor = 0.0
    if not name.strip() or not 0 < factor <= MAX_SPEED_UP:
        raise SpeedUpError(f"{text[:80]!r} is no speed-up: write NAME=TIMES, such as gemm=2")
    return name.strip(), factor


def in_words(known: WhatIf, name: str) -> str:
    """Return predictions as text for a terminal; how far to trust them comes first."""
    told = known.replay
    lines = []
    if told.devices:
        lines.append(
            f"Replayed {told.operations:,} GPU operations and {told.calls:,} API calls: "
            f"{time_text(told.end_to_end_ns)}, measured {time_text(told.measured_ns)} "
            f"({told.error:+.1%})"
        )
        lines += [
            f"  GPU {d.key}: busy {time_text(d.replayed_busy_ns)} (measured "
            f"{time_text(d.measured_busy_ns)}), idle {time_text(d.replayed_idle_ns)} (measured "
            f"{time_text(d.measured_idle_ns)})"
            for d in told.devices
        ]
    if not told.is_trusted:
        return "\n".join([*lines, f"Nothing is predicted. {told.reason}", ""])
    winning = [p for p in known.predictions if p.wins]
    lines += ["", "What if, the largest gain first" if winning else "No change would win much"]
    for number, prediction in enumerate(winning, 1):
        lines += _prediction_lines(number, prediction)
    if len(winning) < len(known.predictions):
        lines += ["", "Would not make it notably faster"]
        lines += [f"  {p.title}" for p in known.predictions if not p.wins]
    if known.withheld:
        lines += ["", "Could not tell, or nothing to change"]
        lines += [f"  {w.change}: {w.reason}" for w in known.withheld]
    lines += ["", "The replay assumes", *(f"  {a}" for a in told.assumptions)]
    lines += ["", f"{name} · {told.window.label}, {time_text(told.measured_ns)}", ""]
    return "\n".join(lines)


def _prediction_lines(number: int, prediction: Prediction) -> Iterator[str]:
    low, high = time_text(prediction.low_ns), time_text(prediction.high_ns)
    yield f"  {number}. {prediction.sentence} ({low} to {high})"
    yield from (f"     Assumes: {a}" for a in prediction.assumptions)
