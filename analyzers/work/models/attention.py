"""Attention: two products of queries with keys and of weights with values, softmax left out.

Forward: ``2 · B · H · Nq · Nk · (d_qk + d_v)`` operations, half of that when causal; backward: five
products, since the forward one is computed again, and the sums over the heads that share keys.
Source: ``benchmarks/benchmark_flash_attention.py`` of Dao-AILab/flash-attention. Bytes: queries,
keys, values and output once; backward also their gradients. The logarithms of sums, four bytes a
query and head, are left out.

Of sequences of different lengths, only how many there are and the longest are recorded: the others
count as equally long, which is the least work that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzers.intervals import Array
from analyzers.work.inputs import Inputs
from analyzers.work.models.work import Model, Work, matrix_work

HEADS_FIRST, SEQUENCE_FIRST, NO_BATCH = (0, 1, 2, 3), (0, 2, 1, 3), (-1, 1, 0, 2)
"""Where batch, heads, sequence and width stand among the dimensions; -1: there is no batch."""

FORWARD_PRODUCTS = (1, 1)  # over the width of queries, and of values
BACKWARD_PRODUCTS = (3, 2)


@dataclass(frozen=True, kw_only=True)
class AttentionPlaces:
    """Where the arguments of an operator for attention stand.

    Attributes:
        query: Place of the queries; keys and values follow.
        layout: Order of dimensions.
        causal: Place of the flag, or of a number that is not zero.
        lengths: Places of the begins of the sequences of queries and keys.
        longest: Places of the longest of them.
        bias: Place of a matrix that is added to the products.
        backward: Whether gradients are computed.
    """

    query: int = 0
    layout: tuple[int, int, int, int] = HEADS_FIRST
    causal: int = -1
    lengths: tuple[int, int] = (-1, -1)
    longest: tuple[int, int] = (-1, -1)
    bias: int = -1
    backward: bool = False


@dataclass(frozen=True, eq=False)
class _Sizes:
    batch: Array
    heads: Array
    key_heads: Array
    queries: Array
    keys: Array
    width: Array
    value_width: Array


def _sizes(inputs: Inputs, places: AttentionPlaces) -> _Sizes:
    batch, heads, sequence, width = places.layout
    q, k, v = places.query, places.query + 1, places.query + 2
    return _Sizes(
        batch=inputs.dim(q, batch) if batch >= 0 else np.ones(len(inputs)),
        heads=inputs.dim(q, heads),
        key_heads=inputs.dim(k, heads),
        queries=inputs.dim(q, sequence),
        keys=inputs.dim(k, sequence),
        width=inputs.dim(q, width),
        value_width=inputs.dim(v, width),
    )


def _is_causal(inputs: Inputs, place: int) -> Array:
    if place < 0:
        return np.zeros(len(inputs), dtype=bool)
    flag = inputs.flag(place)
    number = np.nan_to_num(inputs.number(place))
    result: Array = np.where(np.isnan(flag), number != 0, flag == 1)
    return result


def pairs(queries: Array, keys: Array, causal: Array) -> Array:
    """Return how many pairs of a query and a key are looked at; of causal ones half.

    With more keys than queries, the last query sees all of them.
    """
    seen = np.where(keys >= queries, queries * (keys - queries / 2), keys * keys / 2)
    return np.where(causal, seen, queries * keys)


def _all_pairs(inputs: Inputs, places: AttentionPlaces, sizes: _Sizes, causal: Array) -> Array:
    """Return the pairs of all sequences of a batch element."""
    if places.layout is not NO_BATCH:
        return pairs(sizes.queries, sizes.keys, causal)
    counts = [inputs.dim(place, 0) - 1 for place in places.lengths]
    longest = [inputs.number(place) for place in places.longest]
    total = pairs(longest[0], longest[1], causal)
    others = [np.maximum(c - 1, 1) for c in counts]
    rest = [
        np.floor(np.maximum(all_of - most, 0) / n)
        for all_of, most, n in zip((sizes.queries, sizes.keys), longest, others, strict=True)
    ]
    result: Array = total + np.maximum(counts[0] - 1, 0) * pairs(rest[0], rest[1], causal)
    return result


def attention(places: AttentionPlaces) -> Model:
    """Return the model of attention whose arguments stand at these places."""

    def work(inputs: Inputs) -> Work:
        """Return the work of calls of it."""
        sizes = _sizes(inputs, places)
        causal = _is_causal(inputs, places.causal)
        looked_at = sizes.batch * sizes.heads * _all_pairs(inputs, places, sizes, causal)
        of_width, of_values = BACKWARD_PRODUCTS if places.backward else FORWARD_PRODUCTS
        flop = 2 * looked_at * (of_width * sizes.width + of_values * sizes.value_width)
        if places.backward:
            shared = np.floor(sizes.heads / sizes.key_heads) - 1
            sums = sizes.batch * sizes.keys * (sizes.width + sizes.value_width) * shared
            flop = flop + np.where(causal, sums / 2, sums)
        q, k, v = (places.query + n for n in range(3))
        item = inputs.item(q)
        out = sizes.batch * sizes.heads * sizes.queries * sizes.value_width * item
        moved = inputs.bytes(q, k, v, places.bias) + out
        if places.backward:  # the output's gradient is read, three gradients are written
            moved = moved + out + (inputs.numel(q) + inputs.numel(k) + inputs.numel(v)) * item
        return matrix_work(flop, moved, inputs.type(q))

    return work


def by_rank(plain: AttentionPlaces, varying: AttentionPlaces) -> Model:
    """Return a model that takes one of two, by whether the queries have a dimension for the batch.

    The same operators take sequences of one length in four dimensions, and of many in three.
    """
    of_one, of_many = attention(plain), attention(varying)

    def work(inputs: Inputs) -> Work:
        """Return the work of each call by the shape of its queries."""
        if not inputs.has(plain.query).any():
            return of_one(inputs)
        is_flat = inputs.rank[:, plain.query] == 3
        one, many = of_one(inputs), of_many(inputs)
        flop = np.where(is_flat, many.flop, one.flop)
        return matrix_work(flop, np.where(is_flat, many.bytes, one.bytes), one.type)

    return work


def _at(**places: Any) -> Model:
    return attention(AttentionPlaces(**places))


def paged_decode(query: int, key_heads: int, longest: int) -> Model:
    """Return the model of decoding over a cache of pages (vLLM ``csrc/attention/``).

    How long each sequence is lies in device memory, and only the longest is passed by value: the
    work is known for a batch of one, and for no other. Twice ``H · N · 2 D`` operations; the
    sequence's keys and values are read once.

    Args:
        query: Place of the queries ``[S, H, D]``; the caches of keys and values follow.
        key_heads: Place of the number of heads of the cache.
        longest: Place of the length of the longest sequence.
    """

    def work(inputs: Inputs) -> Work:
        """Return the work for one sequence."""
        is_alone = inputs.dim(query, 0) == 1
        keys = np.where(is_alone, inputs.number(longest), np.nan)
        heads, width = inputs.dim(query, 1), inputs.dim(query, 2)
        read = 2 * keys * inputs.number(key_heads) * width * inputs.item(query + 1)
        return matrix_work(
            4 * heads * keys * width, 2 * inputs.bytes(query) + read, inputs.type(query)
        )

    return work


_FLASH_ATTN = _at(layout=SEQUENCE_FIRST, causal=5)

MODELS: dict[str, Model] = {
    "aten::scaled_dot_product_attention": _at(causal=5, bias=3),
    "aten::_scaled_dot_product_flash_attention": _at(causal=4),
    "aten::_scaled_dot_product_efficient_attention": _at(causal=6, bias=3),
    "aten::_scaled_dot_product_cudnn_attention": _at(causal=6, bias=3),
    "aten::_scaled_dot_product_fused_attention_overrideable": _at(causal=5, bias=3),
    "aten::_flash_attention_forward": by_rank(
        AttentionPlaces(layout=SEQUENCE_FIRST, causal=8),
        AttentionPlaces(causal=8, layout=NO_BATCH, lengths=(3, 4), longest=(5, 6)),
    ),
    "aten::_efficient_attention_forward": _at(layout=SEQUENCE_FIRST, causal=9, bias=3),
    "aten::_cudnn_attention_forward": _at(causal=10, bias=3),
    "aten::_scaled_dot_product_flash_attention_backward": _at(query=1, causal=11, backward=True),
    "aten::_scaled_dot_product_efficient_attention_backward": _at(
        query=1, causal=11, bias=4, backward=True
    ),
    "aten::_scaled_dot_product_cudnn_attention_backward": _at(
        query=1, causal=14, bias=8, backward=True
    ),
    "aten::_flash_attention_backward": by_rank(
        AttentionPlaces(query=1, layout=SEQUENCE_FIRST, causal=11, backward=True),
        AttentionPlaces(
            query=1,
            layout=NO_BATCH,
            causal=11,
            lengths=(6, 7),
            longest=(8, 9),
            backward=True,
        ),
    ),
    "aten::_efficient_attention_backward": _at(
        query=1, layout=SEQUENCE_FIRST, causal=14, bias=4, backward=True
    ),
    "aten::_cudnn_attention_backward": _at(query=1, causal=14, bias=8, backward=True),
    "FlashAttnFunc": _FLASH_ATTN,
    "flash_attn::_flash_attn_forward": _FLASH_ATTN,
    "flash_attn::_flash_attn_backward": _at(
        query=1, layout=SEQUENCE_FIRST, causal=11, backward=True
    ),
    "flash_attn::_flash_attn_varlen_forward": _at(
        layout=NO_BATCH, causal=9, lengths=(3, 4), longest=(5, 6)
    ),
    "flash_attn::_flash_attn_varlen_backward": _at(
        query=1, layout=NO_BATCH, causal=15, lengths=(9, 10), longest=(11, 12), backward=True
    ),
    "flash_attn_3::fwd": _at(layout=SEQUENCE_FIRST, causal=24),
    "aiter::_flash_attn_forward": _FLASH_ATTN,
    "aiter::_flash_attn_backward": _at(query=1, layout=SEQUENCE_FIRST, causal=12, backward=True),
    "aiter::mha_fwd": _FLASH_ATTN,
    "aiter::fmha_v3_fwd": _FLASH_ATTN,
    "aiter::mha_bwd": _at(query=1, layout=SEQUENCE_FIRST, causal=8, backward=True),
    "aiter::fmha_v3_bwd": _at(query=1, layout=SEQUENCE_FIRST, causal=8, backward=True),
    "aiter::wrapper_fmha_v3_fwd": _at(query=1, layout=SEQUENCE_FIRST, causal=6),
    "_C::paged_attention_v1": paged_decode(1, key_heads=4, longest=9),
    "_C::paged_attention_v2": paged_decode(4, key_heads=7, longest=12),
    "aiter::wrapper_fmha_v3_bwd": _at(query=1, layout=SEQUENCE_FIRST, causal=9, backward=True),
}
"""Operators for attention. Of those of inference engines whose keys lie in a cache of pages only
two are among them: how much of the cache others read is not recorded."""

CARRIED_OUT_BY = (
    *("aten::_flash_attention_forward", "aten::_flash_attention_backward"),
    *("aten::_efficient_attention_forward", "aten::_efficient_attention_backward"),
    *("aten::_cudnn_attention_forward", "aten::_cudnn_attention_backward"),
)
"""Operators that carry out ``aten::_scaled_dot_product_…``, and are known by its name."""
