"""Operators of inference engines: mixtures of experts, quantisation, rotary positions, caches."""

from __future__ import annotations

import numpy as np

from analyzers.work.inputs import Inputs
from analyzers.work.models.lists import all_once
from analyzers.work.models.work import Model, Work, matrix_work


def experts(hidden: int, first: int, second: int, chosen: int) -> Model:
    """Return the model of a mixture of experts: two products for each token and chosen expert.

    ``[T, H]`` goes through ``[E, 2 I, H]`` and ``[E, H, I]`` of K experts a token: ``2 · T · K ·
    (2 I · H + I · H)`` operations. No more experts are read than tokens chose. Orders of arguments:
    ``vllm/model_executor/layers/fused_moe/fused_moe.py``, ``aiter/fused_moe.py``.

    Args:
        hidden: Place of the tokens.
        first: Place of the matrices up.
        second: Place of the matrices down.
        chosen: Place of the weights, ``[T, K]``.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work of the experts that tokens chose."""
        tokens, picks = inputs.dim(chosen, 0), inputs.dim(chosen, 1)
        count = inputs.dim(first, 0)
        up, down = (inputs.numel(place) / count for place in (first, second))
        used = np.minimum(count, tokens * picks) / count
        moved = 2 * inputs.bytes(hidden) + inputs.bytes(chosen) + used * inputs.bytes(first, second)
        return matrix_work(2 * tokens * picks * (up + down), moved, inputs.type(first))

    return work


def rotary(query: int, key: int, positions: int) -> Model:
    """Return the model of rotary positions: queries and keys are read and overwritten.

    Three operations an element: four products and two sums for each pair.
    """

    def work(inputs: Inputs) -> Work:
        """Return the bytes of queries and keys, in and out."""
        moved = 2 * inputs.bytes(query, key) + inputs.bytes(positions)
        flop = 3 * (inputs.numel(query) + inputs.numel(key))
        return Work(flop, moved, inputs.type(query))

    return work


def cache_write(key: int, value: int, slots: int) -> Model:
    """Return the model of new keys and values that are written to their places in a cache."""

    def work(inputs: Inputs) -> Work:
        """Return the bytes that go into the cache."""
        moved = 2 * inputs.bytes(key, value) + inputs.bytes(slots)
        return Work(np.zeros(len(inputs)), moved, inputs.type(key))

    return work


MIXTURES: dict[str, Model] = {
    **dict.fromkeys(
        [
            *("vllm::inplace_fused_experts", "vllm::outplace_fused_experts"),
            *("sglang::inplace_fused_experts", "sglang::outplace_fused_experts"),
            *("aiter::fused_moe_", "aiter::fused_moe"),
        ],
        experts(0, 1, 2, 3),
    ),
    "_moe_C::topk_softmax": all_once,
    "_moe_C::moe_sum": all_once,
    "aiter::topk_softmax": all_once,
    "sgl_kernel::topk_softmax": all_once,
}
"""Mixtures of experts."""

QUANTISERS: dict[str, Model] = dict.fromkeys(
    [
        *("_C::static_scaled_fp8_quant", "_C::dynamic_scaled_fp8_quant"),
        *("_C::dynamic_per_token_scaled_fp8_quant", "_C::static_scaled_int8_quant"),
        *("_C::dynamic_scaled_int8_quant", "sgl_kernel::sgl_per_token_quant_fp8"),
        *("sgl_kernel::sgl_per_token_group_quant_fp8", "sgl_kernel::sgl_per_tensor_quant_fp8"),
        *("aiter::dynamic_per_token_scaled_quant", "aiter::static_per_tensor_quant"),
    ],
    all_once,
)
"""Operators that quantise; their results are among their arguments."""

OTHERS: dict[str, Model] = {
    # positions, query, key, … (vLLM ``csrc/pos_encoding_kernels.cu``)
    "_C::rotary_embedding": rotary(1, 2, 0),
    "sgl_kernel::rotary_embedding": rotary(1, 2, 0),
}
"""Rotary positions."""

CACHES: dict[str, Model] = {
    # key, value, cache of keys, cache of values, slots (vLLM ``csrc/cache_kernels.cu``)
    "_C_cache_ops::reshape_and_cache_flash": cache_write(0, 1, 4),
    "_C_cache_ops::reshape_and_cache": cache_write(0, 1, 4),
}
"""Writes to a cache of keys and values."""
