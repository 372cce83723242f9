"""Values of profiled launches, brought together for each kernel and weighed with time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from analyzers.counters.inside import Inside
from analyzers.intervals import Array


@dataclass(frozen=True, eq=False)
class ByKernel:
    """The kernels whose profiled launches stand for some time, and which launch is of which.

    Attributes:
        names: Full name of each kernel.
        rows: Profiled launches that stand for some time.
        code: Place in ``names`` of each of them.
        ns: Time that each of them stands for.
    """

    names: Array
    rows: Array
    code: Array
    ns: Array

    @classmethod
    def of(cls, inside: Inside) -> Self:
        """Return the kernels of an account of the time inside launches."""
        rows = np.flatnonzero(inside.ns > 0)
        texts = inside.limits.counters.profiled["name"].to_numpy()[rows]
        code, names = pd.factorize(texts)
        return cls(np.asarray(names, dtype=object), rows, code, inside.ns[rows])

    def sums(self, values: Array) -> Array:
        """Return the sum of a value that each profiled launch has, by kernel."""
        return np.bincount(self.code, values[self.rows], len(self.names))

    def total_ns(self, values: Array) -> Array:
        """Return the sum of whole nanoseconds, which floats could not hold exactly, by kernel."""
        result = np.zeros(len(self.names), np.int64)
        np.add.at(result, self.code, values[self.rows])
        return result

    def mean(self, values: Array) -> Array:
        """Return the mean of a value, weighed with time; launches without it do not count.

        Not-a-number for a kernel none of whose launches has it.
        """
        finite = np.isfinite(values[self.rows])
        weights = np.bincount(self.code, np.where(finite, self.ns, 0), len(self.names))
        products = np.where(finite, np.nan_to_num(values[self.rows]) * self.ns, 0.0)
        sums = np.bincount(self.code, products, len(self.names))
        return np.where(weights > 0, sums / np.maximum(weights, 1), np.nan)

    def ratio(self, above: Array, below: Array) -> Array:
        """Return the quotient of two rates, each weighed with time, of launches that have both."""
        both_finite = np.isfinite(above) & np.isfinite(below)
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient: Array = self.mean(np.where(both_finite, above, np.nan)) / self.mean(
                np.where(both_finite, below, np.nan)
            )
        return np.where(np.isfinite(quotient), quotient, np.nan)

    def most(self, words: Array) -> Array:
        """Return the word that stands for most of each kernel's time."""
        frame = pd.DataFrame({"code": self.code, "word": words[self.rows], "ns": self.ns})
        sums = frame.groupby(["code", "word"], sort=False)["ns"].sum().reset_index()
        first = sums.sort_values("ns", ascending=False, kind="stable").drop_duplicates("code")
        result = np.full(len(self.names), "", dtype=object)
        result[first["code"].to_numpy()] = first["word"].to_numpy()
        return result
