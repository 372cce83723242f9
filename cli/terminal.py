"""What a terminal shows while work goes on, and failures to write in words."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.text import short_path
from jobs.progress import Progress, one_line

BAR_CELLS = 30


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Any]:
    """Give something that draws the progress, or None when nobody is there to see it."""
    if not sys.stderr.isatty():
        yield None
        return
    label = one_line(name)[:40]

    def draw(progress: Progress) -> None:
        cells = round(progress.fraction * BAR_CELLS)
        bar = "█" * cells + "░" * (BAR_CELLS - cells)
        stage = one_line(progress.stage)[:40]
        sys.stderr.write(f"\r\x1b[K{label} {bar} {progress.fraction:4.0%} {stage}")
        sys.stderr.flush()

    try:
        yield draw
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def progress_step(fraction: float, stage: str) -> Progress:
    """Return progress of work that is done in this process."""
    return Progress(fraction=fraction, stage=stage)


@contextlib.contextmanager
def writing_to(target: Path) -> Iterator[None]:
    """Turn a failure to write into one that names ``target``."""
    from collectors.errors import EnvironmentFailedError

    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, TimeoutError):
            raise
        trouble = f"cannot be written ({os.strerror(error.errno)})"
        raise EnvironmentFailedError(
            f"{short_path(str(target))}: {trouble}. Choose another place"
        ) from error


def exit_on_signal(number: int, _frame: object) -> None:
    """Leave on a signal, so that everything that was started is ended."""
    raise SystemExit(128 + number)
