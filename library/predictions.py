"""Predictions for an opened recording: made once, and kept beside it.

``<trace>/whatif/<key>.json`` holds one answer and its checksum. The compiled replay is kept in the
data folder, so that only its first use pays for compiling.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from analyzers.facts.spans import Window
from analyzers.facts.window_request import parse_request, request_text
from common.platform import is_private
from library import analyses, kept_answers, prediction_history
from library.cache import data_dir, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from analyzers.report import Report
    from analyzers.whatif.whatif import WhatIf
    from collectors.trace import Trace

_COMPILED = "compiled"
MAX_SPEED_UP = 1e6
MAX_KEPT = 16  # answers of a trace: other windows, other kernels


class SpeedUpError(ValueError):
    """What was asked for is no speed-up; the message is one line."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked about a recording.

    Attributes:
        window: The part to predict for, such as that of a stored report.
        speed_ups: Parts of kernel names, and how many times as fast those kernels become.
        is_whole: Whether that is what the recording is analysed by, and not a part that somebody
            chose: only then the answer is about the program, and later recordings test it.
    """

    window: Window
    speed_ups: tuple[tuple[str, float], ...] = ()
    is_whole: bool = True


def predicted(trace: Trace, question: Question) -> WhatIf:
    """Replay a recording and return what would change its time: as kept, or made now and kept.

    Raises:
        OSError: The disk is full or cannot be written.
        RefusedError: What the user says about the GPUs is not of the form that is expected.
    """
    if (kept := load(trace, question)) is not None:
        return kept
    from analyzers.facts.facts import build_facts

    keep_compiled()
    from analyzers.whatif.whatif import explore

    facts = build_facts(trace)
    answer = explore(
        facts,
        question.window,
        question.speed_ups,
        device_peaks=analyses.device_peaks(trace.folder),
    )
    save(answer, trace, question)
    if question.is_whole:
        prediction_history.keep_what_if(facts, answer, question.speed_ups)
    return answer


def place_of(trace: Trace, question: Question) -> Path:
    """Return where an answer is kept."""
    version = fingerprint(
        "analyzers", "collectors.schema", "collectors.trace", "library.predictions"
    )
    text = json.dumps(msgspec.to_builtins(question)) + analyses.limits_text(trace.folder)
    key = hashlib.sha256(f"{version}\0{text}".encode("utf-8", "replace")).hexdigest()
    return trace.folder / "whatif" / f"{key[:24]}.json"


def load(trace: Trace, question: Question) -> WhatIf | None:
    """Return the answer that was kept, or None when it has to be made."""
    from analyzers.whatif.whatif import WhatIf

    return kept_answers.load(place_of(trace, question), WhatIf.from_dict)


def save(answer: WhatIf, trace: Trace, question: Question) -> Path:
    """Keep an answer beside its trace, and return where.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    path = place_of(trace, question)
    kept_answers.save(path, answer.to_dict(), MAX_KEPT)
    return path


def compared_window(report: Report, window: str, warm_up: int) -> Window:
    """Return the part of a recording that a comparison measured, less its warm-up.

    Args:
        report: Of ``analysed_window(window)``.
        window: The request that the comparison measured it with.
        warm_up: Iterations at the beginning that were left out.
    """
    is_one_stretch = bool(parse_request(analysed_window(window)).window)
    kept = [] if is_one_stretch else report.iterations[warm_up:]
    if not kept:
        return report.window
    label = f"{len(kept)} iterations"
    return Window(start_ns=kept[0].start_ns, end_ns=kept[-1].end_ns, label=label)


def analysed_window(window: str) -> str:
    """Return the one window that a comparison's is; empty when it is every repetition."""
    stretch, choice = parse_request(window)
    is_every_range = stretch.startswith("nvtx:") and "#" not in stretch
    return request_text("" if is_every_range else stretch, choice)


def keep_compiled() -> None:
    """Tell numba where it may keep compiled code; without a place it compiles every time."""
    folder = data_dir() / _COMPILED
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    status = folder.stat()
    # What lies there is run: it has to be ours alone.
    if not is_private(status) or not os.access(folder, os.W_OK):
        return
    if (numba := sys.modules.get("numba")) is None:  # loading it takes longer than short replays
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    else:
        numba.config.CACHE_DIR = str(folder)


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
