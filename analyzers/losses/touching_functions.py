"""Host functions that touched unified memory, where page faults of the CPU were recorded."""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.trace_table import trace_table
from analyzers.ledger.ledger import Ledger
from analyzers.words import name_text

NAMED = 3


def touching_functions(facts: Facts, ledger: Ledger) -> list[tuple[str, int]]:
    """Return functions of the host by the pages that they touched in the window, most first.

    They are few, at most ``NAMED``; functions without a name are left out.
    """
    faults = trace_table(facts.trace, "page_faults", ["start_ns", "device", "count", "name_id"])
    start = faults["start_ns"].to_numpy()
    chosen = (faults["device"].to_numpy() < 0) & (faults["name_id"].to_numpy() >= 0)
    chosen &= (start >= ledger.window.start_ns) & (start < ledger.window.end_ns)
    counts = faults["count"][chosen].groupby(faults["name_id"][chosen]).sum().nlargest(2 * NAMED)
    names = facts.trace.names(counts.index.to_numpy(np.int64))
    named = zip(names, counts.tolist(), strict=True)
    return [(name_text(str(name)), int(count)) for name, count in named if str(name)][:NAMED]
