"""Operators over lists of tensors, optimizers among them: lists once in, what changes once out.

Types of lists are not recorded; the kernel's name tells them. Where it does not, nothing is known.
Operations of optimizers are those of their formulas: ``torch.optim.Adam``, ``torch.optim.SGD``.
"""

from __future__ import annotations

import numpy as np

from analyzers.work.inputs import Inputs
from analyzers.work.models.work import Model, Work

_ADAM_FLOP = 14  # decay 1, two moments 3 and 4, corrections 2, root, sum, quotient, product, step
_SGD_FLOP = 4  # momentum 2, step 2


def fused_step(read: tuple[int, ...], changed: tuple[int, ...], flop_each: int) -> Model:
    """Return the model of an optimizer's step in one kernel.

    Args:
        read: Places of the lists that are read.
        changed: Places of those that are written, too.
        flop_each: Operations for each parameter.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work of a step over all tensors."""
        moved = inputs.bytes(*read) + inputs.bytes(*changed)
        return Work(flop_each * inputs.numel(0), moved, inputs.type(0))

    return work


def each(operands: int, flop_each: int = 1, *, writes: bool = True, reads: bool = True) -> Model:
    """Return the model of one operation on every tensor of a list.

    Args:
        operands: Lists that are operands, the first of which has the size of the result.
        flop_each: Operations for each element.
        writes: As many elements come out; a norm gives only a few.
        reads: The first list is read; copies and fills only write it.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work over all tensors of the lists."""
        elements = inputs.numel(0)
        places = range(operands) if reads else range(1, operands)
        moved = inputs.bytes(*places) + (inputs.bytes(0) if writes else 0.0)
        return Work(flop_each * elements, moved, inputs.type(0))

    return work


_ONE = (
    *("abs", "sqrt", "rsqrt", "reciprocal", "neg", "exp", "log", "sign", "sigmoid", "tanh"),
    *("ceil", "floor", "round", "clamp_min", "clamp_max", "pow"),
)
_TWO = ("add", "sub", "mul", "div", "maximum", "minimum")
_THREE = ("addcdiv", "addcmul")
_BOTH_FORMS = ("", "_")

OPTIMIZERS: dict[str, Model] = {
    **dict.fromkeys(
        ["aten::_fused_adam_", "aten::_fused_adamw_"],
        fused_step((0, 1, 2, 3, 4), (0, 2, 3, 4), _ADAM_FLOP),
    ),
    "aten::_fused_sgd_": fused_step((0, 1, 2), (0, 2), _SGD_FLOP),
    "aten::_fused_adagrad_": fused_step((0, 1, 2), (0, 2), _SGD_FLOP),
    "aten::_amp_foreach_non_finite_check_and_unscale_": each(1),
}
"""Steps of optimizers that are one operator."""

LISTS: dict[str, Model] = {
    **{f"aten::_foreach_{n}{e}": each(1) for n in _ONE for e in _BOTH_FORMS},
    **{f"aten::_foreach_{n}{e}": each(2) for n in _TWO for e in _BOTH_FORMS},
    **{f"aten::_foreach_{n}{e}": each(3, 3) for n in _THREE for e in _BOTH_FORMS},
    **{f"aten::_foreach_lerp{e}": each(2, 3) for e in _BOTH_FORMS},
    "aten::_foreach_norm": each(1, 2, writes=False),
    "aten::_foreach_copy_": each(2, reads=False),
    "aten::_foreach_zero_": each(1, 0, reads=False),
}
"""Operations on every tensor of a list."""


def all_once(inputs: Inputs) -> Work:
    """Return what moves when every tensor that is passed is read or written once.

    So are the arguments of kernels that Triton generates, and of engines' operators whose results
    are among their arguments. What is computed is not known.
    """
    return Work(np.full(len(inputs), np.nan), inputs.all_bytes(), inputs.type(0))
