"""What the account of the busy time adds to opening a large trace of the torch profiler.

One run makes a trace of 200,000 kernels with operators and shapes (not timed), reads it, and
analyses it twice in turns: with the account and the findings drawn from it, and without both. What
counts is processor time, the least of each, so that what else the machine does counts least.

Run ``python -m benchmarks.work_account [--check] [--kernels 200000] [--runs 3]``.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from analyzers.analysis import investigate
from analyzers.work.answer import WorkAnswer
from benchmarks.torch_ingest import make_trace
from collectors import open_trace
from collectors.trace import Trace

MAX_SHARE = 0.10  # of opening without the account
BYTES_OF_KERNEL = 2_600  # of the file, with its operators and calls


@dataclass(frozen=True, kw_only=True)
class OpeningCost:
    """Seconds of the processor that opening takes.

    Attributes:
        kernels: Of the trace.
        reading: From the file to tables.
        with_account: From tables to the answer.
        without_account: The same without the account and what is drawn from it.
    """

    kernels: int
    reading: float
    with_account: float
    without_account: float

    @property
    def share(self) -> float:
        """What the account adds, as a part of opening without it."""
        added = self.with_account - self.without_account
        return added / (self.reading + self.without_account)


@contextlib.contextmanager
def without_account() -> Iterator[None]:
    """Let analyses leave out the account of the busy time, and what findings draw from it."""
    with (
        mock.patch("analyzers.analysis.window_work", lambda *_: None),
        mock.patch("analyzers.analysis.answer_of_work", lambda *_: WorkAnswer()),
        mock.patch("analyzers.losses.kernel_work._can_be_estimated", lambda *_: False),
    ):
        yield


def measured(kernels: int, runs: int) -> OpeningCost:
    """Return what opening a trace of so many kernels costs."""
    with tempfile.TemporaryDirectory(prefix="whyslow-work-") as folder:
        path = make_trace(Path(folder) / "trace.json.gz", kernels * BYTES_OF_KERNEL)
        begin = time.process_time()
        trace = open_trace(path, Path(folder) / "cache")
        reading = time.process_time() - begin
        _seconds(trace)  # loads what is loaded once
        plain, whole = [], []
        for _ in range(runs):
            with without_account():
                plain.append(_seconds(trace))
            whole.append(_seconds(trace))
        return OpeningCost(
            kernels=trace.count("kernels"),
            reading=reading,
            with_account=min(whole),
            without_account=min(plain),
        )


def _seconds(trace: Trace) -> float:
    begin = time.process_time()
    investigate(trace)
    return time.process_time() - begin


def main() -> None:
    """Measure, print, and check if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit is not kept")
    parser.add_argument("--kernels", type=int, default=200_000, help="of the trace")
    parser.add_argument("--runs", type=int, default=3, help="of each analysis; the fastest counts")
    chosen = parser.parse_args()
    cost = measured(chosen.kernels, chosen.runs)
    sys.stdout.write(
        f"{cost.kernels:,} kernels: reading {cost.reading:.2f} s, analysis "
        f"{cost.without_account:.2f} s, with the account {cost.with_account:.2f} s: "
        f"{100 * cost.share:+.1f} % of opening\n"
    )
    if chosen.check and cost.share > MAX_SHARE:
        sys.exit(f"the account adds {100 * cost.share:.1f} %, more than {100 * MAX_SHARE:.0f} %")


if __name__ == "__main__":
    main()
