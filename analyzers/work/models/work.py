"""What a work model answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analyzers.intervals import Array
from analyzers.work.element_types import CODE_OF, NO_TYPE
from analyzers.work.inputs import Inputs


@dataclass(frozen=True, eq=False)
class Work:
    """The work of one call, a row for each set of inputs; NaN where it is not known.

    Attributes:
        flop: Operations, as the published reference counts them.
        bytes: The least that must move between device memory and the multiprocessors.
        type: Place in ``TYPES`` of what is computed in; ``NO_TYPE`` where unknown.
        needed_flop: Operations that this call had to carry out, where those are fewer than
            ``flop``: a backward convolution of which one gradient was not asked for.
        on_matrix_units: Whether the device's matrix units can do it.
    """

    flop: Array
    bytes: Array
    type: Array
    needed_flop: Array | None = None
    on_matrix_units: bool = False

    @property
    def least_flop(self) -> Array:
        """Operations that the roof is drawn from."""
        return self.flop if self.needed_flop is None else self.needed_flop


Model = Callable[[Inputs], Work]


def matrix_work(flop: Array, moved: Array, kind: Array, needed: Array | None = None) -> Work:
    """Return the work of an operation that matrix units can do."""
    return Work(flop, moved, kind, needed, on_matrix_units=True)


def unknown_type(inputs: Inputs) -> Array:
    """Return no type for every row."""
    return np.full(len(inputs), NO_TYPE)


def typed(name: str, inputs: Inputs) -> Array:
    """Return one type for every row."""
    return np.full(len(inputs), CODE_OF[name])
