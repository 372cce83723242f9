"""How a capture opens what it recorded, and what it reads from it."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from collectors.trace import Trace

if TYPE_CHECKING:
    from library.analyses import StoredAnalysis


@dataclass(frozen=True, kw_only=True)
class AnalysedRecording:
    """A recording that was opened, with its analysis."""

    trace: Trace
    stored: StoredAnalysis


Opener = Callable[[Path, str], AnalysedRecording]
"""Opens a recording as the pages do, given a window, and raises the errors that they would show."""


def ncu_options(stored: StoredAnalysis) -> tuple[str, ...]:
    """Return the options of ncu for the kernels that take the time; empty when there are none."""
    from analyzers.losses.ncu_command import to_cover

    kernels = stored.kernels()
    if not len(kernels):
        return ()
    columns = kernels.rename(columns={"total_ns": "ns", "count": "launches"})
    words = shlex.split(to_cover(columns[["name", "ns", "launches"]]))
    return tuple(words[1 : words.index("-o")]) if words else ()


def range_sentence(trace: Trace, summary: Path) -> str:
    """Compare how often each range was recorded with how often the workload opened it."""
    try:
        counts: Mapping[str, int] = json.loads(summary.read_text(encoding="utf-8"))["ranges"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if trace.source.format.startswith("ncu"):
        return ""
    recorded = range_counts(trace)
    in_both = sum(min(recorded[name], count) for name, count in counts.items())
    sentence = (
        f"{in_both:,} of the {sum(counts.values()):,} ranges that the program opened were recorded"
    )
    wrong = [f"{n}: {recorded[n]:,} of {c:,}" for n, c in counts.items() if recorded[n] != c]
    return f"{sentence} ({', '.join(wrong[:4])})" if wrong else sentence


def range_counts(trace: Trace) -> Counter[str]:
    """Return how often each range, in a torch trace each annotation, was recorded."""
    import numpy as np

    counts: Counter[str] = Counter()
    if trace.has("ranges"):
        ids, numbers = np.unique(
            trace.columns("ranges", ["name_id"])["name_id"], return_counts=True
        )
        texts = map(str, trace.names(ids))
        for text, number in zip(texts, numbers.tolist(), strict=True):
            counts[text] += number
    return counts
