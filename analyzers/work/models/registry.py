"""Every work model by the operator's name."""

from __future__ import annotations

from analyzers.work.models import (
    attention,
    convolution,
    elementwise,
    engines,
    lists,
    matmul,
    modules,
    movement,
    normalisation,
)
from analyzers.work.models.work import Model

GENERATED = "triton_"
"""How the names of kernels begin that Inductor generates; traces record them as operators."""

MODELS: dict[str, Model] = {
    **elementwise.MODELS,
    **movement.REDUCTIONS,
    **movement.SORTS,
    **movement.GATHERS,
    **movement.LAYOUTS,
    **movement.RANDOM,
    **lists.OPTIMIZERS,
    **lists.LISTS,
    **normalisation.NORM_MODELS,
    **normalisation.SOFTMAX_MODELS,
    **engines.MIXTURES,
    **engines.QUANTISERS,
    **engines.OTHERS,
    **engines.CACHES,
    **convolution.MODELS,
    **attention.MODELS,
    **matmul.MODELS,
    **modules.MODELS,
}


CARRIED_OUT_BY = frozenset((*convolution.CARRIED_OUT_BY, *attention.CARRIED_OUT_BY))
"""Operators that do all the work of the one around them, whose name is the one that users know."""


def model_of(operator: str) -> Model | None:
    """Return the work model of an operator; None when it has none."""
    if operator.startswith(GENERATED):
        return lists.all_once
    return MODELS.get(operator)
