"""Whether a trace was cut down after it was recorded, by the numbers that the recorder gave calls.

CUPTI numbers every call of the driver one after the other; the torch profiler writes those that
matter, a sixteenth at least in every recording at hand, most of them with the number. Samples of
a trace keep a few events and lose what explains the time between them.
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.facts.trace_table import trace_columns
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.quality.note import quality_note
from analyzers.recorder import TORCH_FORMAT
from analyzers.report import QualityNote
from collectors.schema import DEVICE_TABLES

FEW = 0.01  # of the numbers; no whole recording has fewer than 0.06
HARDLY_ANY = 0.001  # of them, from where on no time between events can be explained
LEAST_NUMBERS = 5_000
MOST_NUMBERS = 1 << 31
IN_ORDER = 0.9  # Spearman's correlation with time; without it, numbers count nothing


def cut_down(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that nearly all of the calls that the recorder counted are not in the file."""
    if facts.trace.source.format != TORCH_FORMAT or not len(facts.api):
        return None
    numbers, is_ordered = _call_numbers(facts)
    if not len(numbers) or not is_ordered:
        return None
    span = int(numbers.max() - numbers.min()) + 1
    if not LEAST_NUMBERS <= span < MOST_NUMBERS or len(numbers) >= FEW * span:
        return None
    return quality_note(
        "error" if len(numbers) < HARDLY_ANY * span else "warning",
        "cut_down",
        f"The file holds {len(numbers):,} of {span:,} calls that the recorder numbered from its "
        "first to its last: it was sampled or cut down after it was recorded, and time without "
        "GPU work in it need not be the program's. Open the file as the profiler wrote it.",
    )


def _call_numbers(facts: Facts) -> tuple[Array, bool]:
    """Return the numbers of the process with most calls, and whether they grow with time."""
    process, number, start = (
        np.concatenate(columns)
        for columns in zip(
            *(
                trace_columns(facts.trace, table, names).values()
                for names in [["process_key", "correlation_id", "start_ns"]]
                for table in ("api_calls", *DEVICE_TABLES)
                if facts.trace.count(table)
            ),
            strict=True,
        )
    )
    keys, counts = np.unique(process, return_counts=True)
    own = (process == keys[counts.argmax()]) & (number > 0)
    order = np.argsort(start[own], kind="stable")
    distinct, rank = np.unique(number[own][order], return_inverse=True)
    if len(distinct) < 2:
        return distinct, False
    is_ordered = np.corrcoef(rank, np.arange(len(rank)))[0, 1] >= IN_ORDER
    return distinct, bool(is_ordered)
