"""From a trace to the answer: facts, the time ledger, rules, the report.

Nothing heavy is imported until something is analysed: the command line writes numbers with
``analyzers.words`` and has no time to wait for pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyzers.report import Report
    from collectors.trace import Trace


def analyze(trace: Trace, window: str = "", counters: Trace | None = None) -> Report:
    """Say why the program in ``trace`` is slow.

    Args:
        trace: A recording.
        window: What to analyse; ``analyzers.facts.windows.choose_window`` lists the forms,
            ``analyzers.facts.window_request`` what may follow them.
        counters: A recording of Nsight Compute of the same program; what happens inside kernels
            is told where it fits their launches.

    Raises:
        WindowError: The recording has no such window.
        RefusedError: ``counters`` holds none, or ``trace`` holds nothing else.
    """
    from analyzers.analysis import investigate

    return investigate(trace, window, counters=counters).report
