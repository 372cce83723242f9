"""Hardware counters of profiled launches, by the exact names that Nsight Compute gives them.

One row is one profiled launch, in the order of the recording. A metric is one number per row, and
not-a-number where that launch has none. What a metric means, and what it costs, is for
``analyzers.counters.limits`` and ``analyzers.counters.inside`` to say; both work on these rows,
wherever the launches' time comes from.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.trace_table import trace_table
from analyzers.intervals import Array
from collectors.trace import Trace

COUNTER_TABLES = ("profiled_kernels", "counters")


@dataclass(frozen=True, eq=False)
class Counters:
    """The counters of a recording; columns are read when they are asked for.

    Attributes:
        trace: The recording.
    """

    trace: Trace

    def __len__(self) -> int:
        return self.trace.count("profiled_kernels")

    @functools.cached_property
    def profiled(self) -> pd.DataFrame:
        """One row per profiled launch, as ``profiled_kernels`` has them, and its ``name``."""
        frame = trace_table(self.trace, "profiled_kernels")
        return frame.assign(name=self.trace.names(frame["name_id"].to_numpy()))

    @functools.cached_property
    def _values(self) -> dict[str, tuple[Array, Array]]:
        """Rows and values of each metric that is a number."""
        table = self.trace.frame("counters")
        table = table[(table["text_id"] < 0).to_numpy()]
        names = self.trace.names(np.unique(table["name_id"]))
        groups = table.groupby("name_id", sort=True)
        return {
            str(name): (group["profiled"].to_numpy(), group["value"].to_numpy())
            for name, (_, group) in zip(names, groups, strict=True)
        }

    @property
    def names(self) -> frozenset[str]:
        """Exact names of all metrics that any launch has as a number."""
        return frozenset(self._values)

    def metric(self, *names: str) -> Array:
        """Return a metric of each launch: the first of ``names`` that the launch has."""
        return self._recorded(names)

    def _recorded(self, names: tuple[str, ...]) -> Array:
        result = np.full(self.trace.count("profiled_kernels"), np.nan)
        for name in reversed(names):
            rows, values = self._values.get(name, (np.empty(0, np.int64), np.empty(0)))
            finite = np.isfinite(values)
            result[rows[finite]] = values[finite]
        return result

    def total(self, *names: str) -> Array:
        """Return the sum of metrics of each launch; what it does not have counts as nothing.

        Not-a-number where it has none of them.
        """
        values = np.stack([self.metric(name) for name in names])
        missing = np.isnan(values).all(axis=0)
        return np.where(missing, np.nan, np.nansum(values, axis=0))

    def starting_with(self, prefix: str, suffix: str) -> dict[str, Array]:
        """Return every metric whose name has this begin and end, by what is between them."""
        return {
            name[len(prefix) : len(name) - len(suffix)]: self.metric(name)
            for name in self._values
            if name.startswith(prefix) and name.endswith(suffix)
        }
