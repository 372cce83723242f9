"""Every operator with a model is called once with its arguments in the order of its signature.

What is expected is worked out from the arguments' names, one element at a time, and never from
their places: an argument that stands elsewhere gives another number of operations or bytes.
Signatures: ``native_functions.yaml`` of PyTorch and the registrations of vLLM, SGLang, AITER,
TensorRT-LLM, apex, flash-attn and TransformerEngine.
"""

import itertools
import json

import numpy as np
import pytest

from analyzers.work.models import attention, convolution, matmul
from tests.work_signatures import BYTE, FULL, HALF, INT, called, signatures, size, work

# --- products -----------------------------------------------------------------------------------

M, K, N = 6, 32, 48

PRODUCTS = signatures("""
    aten::mm                     a b
    aten::bmm                    a b
    aten::addmm                  bias a b beta alpha
    aten::addmm_                 bias a b beta alpha
    aten::_addmm_activation      bias a b beta alpha use_gelu
    aten::baddbmm                bias a b beta alpha
    aten::baddbmm_               bias a b beta alpha
    aten::linear                 a turned bias
    aten::matmul                 a b
    vllm::rocm_unquantized_gemm  a turned bias
    vllm::rocm_unquantized_gemm_impl a turned bias
    aiter::gemm_a16w16           a turned bias
""")
QUANTISED = signatures("""
    aten::_scaled_mm                   a b scale_a scale_b bias scale_result dtype fast
    trtllm::cublas_scaled_mm           a b scale_a scale_b bias dtype userbuffers
    sgl_kernel::fp8_scaled_mm          a b scale_a scale_b dtype bias
    sgl_kernel::int8_scaled_mm         a b scale_a scale_b dtype bias
    sgl_kernel::fp8_blockwise_scaled_mm  a b scale_a scale_b dtype
    _C::cutlass_scaled_mm              out a b scale_a scale_b bias
    aten::_weight_int8pack_mm          a turned scale_b
    vllm::w8a8_block_fp8_matmul_func   a turned scale_a scale_b block dtype
    aiter::gemm_a8w8                   a turned scale_a scale_b bias dtype
    aiter::gemm_a8w8_CK                a turned scale_a scale_b bias dtype
    aiter::gemm_a8w8_ck                a turned scale_a scale_b out
    aiter::gemm_a8w8_bpreshuffle       a turned scale_a scale_b out
    aiter::gemm_a8w8_blockscale        a turned scale_a scale_b dtype
    aiter::gemm_a8w8_blockscale_ck     a turned scale_a scale_b out
    bitsandbytes::int8_linear_matmul   a turned
    vllm::gemm_with_dynamic_quant      a turned
""")
ONLY_SCALES_ADD = {"bitsandbytes::int8_linear_matmul", "vllm::gemm_with_dynamic_quant"}


@pytest.mark.parametrize("operator", PRODUCTS)
def test_products_of_matrices_by_the_order_of_their_arguments(operator):
    roles = {
        "a": ([M, K], HALF),
        "b": ([K, N], HALF),
        "turned": ([N, K], HALF),
        "bias": ([N], HALF),
    }
    names = PRODUCTS[operator].split()
    has_bias = "bias" in names
    read = [roles[name] for name in names if name in roles]
    flop = sum(2 for _ in itertools.product(range(M), range(N), range(K))) + has_bias * M * N
    moved = size(*read, ([M, N], HALF))
    assert work(operator, called(PRODUCTS[operator], roles)) == (flop, flop, moved, "fp16")


@pytest.mark.parametrize("operator", QUANTISED)
def test_scaled_products_by_the_order_of_their_arguments(operator):
    signature = QUANTISED[operator]
    roles = {
        "a": ([M, K], BYTE),
        "b": ([K, N], BYTE),
        "turned": ([N, K], BYTE),
        "scale_a": ([M, 1], FULL),
        "scale_b": ([3], FULL),
        "bias": ([N], HALF),
        "out": ([M, N], HALF),
        "dtype": "6",  # fp32
    }
    is_asked = "dtype" in signature and "turned" not in signature
    read = [roles[n] for n in ("a", "b", "turned", "scale_a", "scale_b") if n in signature.split()]
    is_biased = "bias" in signature and "turned" not in signature
    read += [roles["bias"]] if is_biased else []
    moved = size(*read, ([M, N], FULL if is_asked else HALF))
    flop = 2 * M * N * K
    assert work(operator, called(signature, roles)) == (flop, flop, moved, "fp8")


@pytest.mark.parametrize("operator", ["aiter::gemm_a4w4", "aiter::_gemm_a4w4_asm"])
def test_products_of_four_bits_hold_two_numbers_a_byte(operator):
    packed, scales = "unsigned char", (([M, 2], FULL), ([N, 2], FULL))
    arguments = [([M, K // 2], packed), ([N, K // 2], packed), *scales]
    moved = M * K // 2 + N * K // 2 + size(*scales) + 2 * M * N
    assert work(operator, arguments)[:3] == (2 * M * N * K, 2 * M * N * K, moved)


GROUPED = (
    *("aten::_grouped_mm", "aten::_scaled_grouped_mm", "primus_turbo::grouped_gemm"),
    *("primus_turbo::grouped_gemm_impl", "primus_turbo_cpp_extension::grouped_gemm"),
    "primus_turbo_cpp_extension::ck_grouped_gemm",
)


@pytest.mark.parametrize("operator", GROUPED)
def test_grouped_products_multiply_each_row_once(operator):
    arguments = [([10, K], HALF), ([3, K, N], HALF), ([3], INT)]
    moved = size(*arguments[:2], ([10, N], HALF))
    assert work(operator, arguments)[::2] == (2 * 10 * N * K, moved)
    if operator.startswith("primus"):  # with the matrices turned, if only that fits
        turned = [([10, K], HALF), ([3, N, K], HALF), ([3], INT)]
        assert work(operator, turned)[::2] == (2 * 10 * N * K, moved)


def test_a_grouped_product_of_flat_matrices_has_a_result_for_each_group():
    arguments = [([M, K], HALF), ([K, N], HALF), ([3], INT)]
    moved = size(*arguments[:2], ([3, M, N], HALF))
    assert work("aten::_grouped_mm", arguments)[::2] == (2 * M * N * K, moved)


@pytest.mark.parametrize(
    ("operator", "arguments", "flop", "written"),
    [
        ("aten::mv", [([M, K], HALF), ([K], HALF)], 2 * M * K, M),
        ("aten::addmv", [([M], HALF), ([M, K], HALF), ([K], HALF)], 2 * M * K + M, M),
        ("aten::addmv_", [([M], HALF), ([M, K], HALF), ([K], HALF)], 2 * M * K + M, M),
        ("aten::dot", [([K], HALF), ([K], HALF)], 2 * K, 1),
        ("aten::vdot", [([K], HALF), ([K], HALF)], 2 * K, 1),
    ],
)
def test_products_with_vectors(operator, arguments, flop, written):
    moved = size(*arguments) + 2 * written
    assert work(operator, arguments) == (flop, flop, moved, "fp16")


def test_four_bit_weights_are_sized_by_their_scales():
    packed, scales = ([N // 8, K // 64, 32, 4], INT), ([K // 16, N, 2], HALF)
    arguments = [([M, K], HALF), packed, "16", scales]
    moved = size(([M, K], HALF), scales, ([M, N], HALF)) + K * N // 2
    assert work("aten::_weight_int4pack_mm", arguments)[::2] == (2 * M * N * K, moved)


@pytest.mark.parametrize(("turn_a", "turn_b"), list(itertools.product("01", "01")))
@pytest.mark.parametrize("bias", [[N], [0]])
def test_products_of_the_transformer_engine_turn_either_side(turn_a, turn_b, bias):
    a = [N, K] if turn_a == "1" else [K, N]
    b = [K, M] if turn_b == "1" else [M, K]
    nothing, one = "0", ([1], FULL)
    arguments = [(a, HALF), one, nothing, nothing, turn_a, (b, HALF), one, nothing, nothing]
    arguments += [turn_b, ([M, N], FULL), one, nothing, one, (bias, HALF)]
    flop = 2 * M * N * K + (M * N if bias == [N] else 0)
    moved = size((a, HALF), (b, HALF), (bias, HALF), ([M, N], FULL))
    assert work("tex_ts::te_gemm_ts", arguments)[::2] == (flop, moved)


def test_every_product_is_tried():
    tried = {*PRODUCTS, *QUANTISED, *GROUPED, "aiter::gemm_a4w4", "aiter::_gemm_a4w4_asm"}
    tried |= {"aten::mv", "aten::addmv", "aten::addmv_", "aten::dot", "aten::vdot"}
    tried |= {"aten::_weight_int4pack_mm", "tex_ts::te_gemm_ts", "aten::_int_mm"}
    assert set(matmul.MODELS) == tried


# --- convolutions -------------------------------------------------------------------------------

CONVOLUTIONS = signatures("""
    aten::convolution            x w bias stride padding dilation no output_padding groups
    aten::_convolution           x w bias stride padding dilation no output_padding groups f f
    aten::convolution_overrideable x w bias stride padding dilation no output_padding groups
    aten::conv2d                 x w bias stride padding dilation groups
    aten::cudnn_convolution      x w padding stride dilation groups benchmark deterministic tf32
    aten::cudnn_convolution_relu x w bias stride padding dilation groups
    aten::cudnn_convolution_add_relu x w z alpha bias stride padding dilation groups
    aten::miopen_convolution     x w bias padding stride dilation groups benchmark deterministic
    aten::miopen_depthwise_convolution x w bias padding stride dilation groups f f
    aten::_conv_depthwise2d      x w kernel bias stride padding dilation
    aten::_slow_conv2d_forward   x w kernel bias stride padding
    aten::thnn_conv2d            x w kernel bias stride padding
    ConvBias_                    x w bias padding stride
    ConvBiasReLU_                x w bias padding stride
""")
TURNED = signatures("""
    aten::convolution            x w bias stride padding dilation yes output_padding groups
    aten::conv_transpose2d       x w bias stride padding output_padding groups dilation
    aten::cudnn_convolution_transpose x w padding output_padding stride dilation groups f f f
    aten::miopen_convolution_transpose x w bias padding output_padding stride dilation groups f f
""")
SETTINGS = {
    "stride": "[2, 3]",
    "padding": "[1, 2]",
    "dilation": "[2, 1]",
    "output_padding": "[1, 0]",
    "no": "False",
    "yes": "True",
    "groups": "2",
    "kernel": "[3, 2]",
}
STRIDE, PADDING, DILATION, EXTRA = (2, 3), (1, 2), (2, 1), (1, 0)
X, FILTER = [2, 8, 11, 13], [10, 4, 3, 2]
BACKWARD = signatures("""
    aten::convolution_backward   g x w sizes stride padding dilation no output_padding groups mask
    aten::convolution_backward_overrideable g x w stride padding dilation no output_padding groups
    aten::cudnn_convolution_backward  x g w padding stride dilation groups f f f mask
    aten::miopen_convolution_backward x g w padding stride dilation groups f f mask
    aten::thnn_conv2d_backward   g x w kernel stride padding mask
""")


def windows(length, reach, stride, padding, dilation):
    """Count the places at which a filter lies wholly inside what is padded."""
    last = length + padding - dilation * (reach - 1) - 1
    return sum(1 for start in range(-padding, last + 1) if (start + padding) % stride == 0)


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_convolutions_by_the_order_of_their_arguments(operator):
    names = CONVOLUTIONS[operator].split()
    roles = {"x": (X, HALF), "w": (FILTER, HALF), "bias": ([10], HALF), **SETTINGS}
    dilation = DILATION if "dilation" in names else (1, 1)
    out = [
        windows(length, reach, *settings)
        for length, reach, *settings in zip(
            X[2:], FILTER[2:], STRIDE, PADDING, dilation, strict=False
        )
    ]
    made = [X[0], FILTER[0], *out]
    flop = 2 * np.prod(made) * np.prod(FILTER[1:])
    read = [roles[name] for name in ("x", "w", "bias") if name in names]
    moved = size(*read, (made, HALF))
    arguments = called(CONVOLUTIONS[operator], roles)
    assert work(operator, arguments) == (flop, flop, moved, "fp16")


@pytest.mark.parametrize("operator", TURNED)
def test_transposed_convolutions_by_the_order_of_their_arguments(operator):
    x, w = [2, 10, 5, 7], [10, 4, 3, 2]
    roles = {"x": (x, HALF), "w": (w, HALF), "bias": ([4], HALF), **SETTINGS}
    settings = zip(x[2:], w[2:], STRIDE, PADDING, DILATION, EXTRA, strict=True)
    out = [
        1 + max(n * s + k * d for n in range(length) for k in range(reach)) - 2 * p + e
        for length, reach, s, p, d, e in settings
    ]
    flop = 2 * np.prod(x) * np.prod(w[1:])
    read = [roles[n] for n in ("x", "w", "bias") if n in TURNED[operator].split()]
    moved = size(*read, ([x[0], w[1], *out], HALF))
    arguments = called(TURNED[operator], roles)
    assert work(operator, arguments) == (flop, flop, moved, "fp16")


@pytest.mark.parametrize("operator", ["aten::conv1d", "aten::conv3d"])
def test_convolutions_of_other_dimensions(operator):
    count = int(operator[-2])
    x, w = [2, 8, *[9] * count], [10, 8, *[3] * count]
    settings = ["[2]", "[1]", "[1]", "1"]
    made = [2, 10, *[windows(9, 3, 2, 1, 1)] * count]
    flop = 2 * np.prod(made) * np.prod(w[1:])
    answer = work(operator, [(x, HALF), (w, HALF), "", *settings])
    assert answer[::2] == (flop, size((x, HALF), (w, HALF), (made, HALF)))
    turned = operator.replace("conv", "conv_transpose")
    made = [2, 8, *[(9 - 1) * 2 - 2 + 3] * count]
    answer = work(turned, [([2, 10, *x[2:]], HALF), (w, HALF), "", "[2]", "[1]", "[0]", "1", "[1]"])
    assert answer[0] == 2 * 2 * 10 * 9**count * 8 * 3**count
    assert answer[2] == size(([2, 10, *x[2:]], HALF), (w, HALF), (made, HALF))


def test_depthwise_convolutions_in_three_dimensions():
    arguments = [([1, 4, 5, 6, 7], HALF), ([4, 1, 3, 3, 3], HALF), "[3, 3, 3]", ([4], HALF)]
    arguments += ["[1, 1, 1]", "[1, 1, 1]", "[1, 1, 1]"]
    moved = size(arguments[0], arguments[1], arguments[3], arguments[0])
    flop = 2 * 4 * 5 * 6 * 7 * 27
    assert work("aten::conv_depthwise3d", arguments)[::2] == (flop, moved)


@pytest.mark.parametrize("operator", BACKWARD)
def test_gradients_of_convolutions_by_the_order_of_their_arguments(operator):
    g = [2, 10, 5, 6]
    roles = {"g": (g, HALF), "x": (X, HALF), "w": (FILTER, HALF), "sizes": "[10]", **SETTINGS}
    roles["mask"] = "[True, True, True]"
    each = 2 * np.prod(g) * np.prod(FILTER[1:])
    has_mask = operator == "aten::convolution_backward"
    moved = size((g, HALF), (X, HALF), (FILTER, HALF), (X, HALF), (FILTER, HALF))
    moved += 2 * 10 * has_mask
    arguments = called(BACKWARD[operator], roles)
    assert work(operator, arguments) == (2 * each, 2 * each, moved, "fp16")


@pytest.mark.parametrize(
    "operator",
    ["aten::convolution_backward", "aten::convolution_backward_overrideable"],
)
def test_gradients_of_transposed_convolutions_multiply_the_input(operator):
    signature = BACKWARD[operator].replace(" no ", " yes ")
    x, g, w = [2, 10, 5, 6], [2, 4, 9, 9], [10, 4, 3, 2]
    roles = {"g": (g, HALF), "x": (x, HALF), "w": (w, HALF), **SETTINGS, "mask": ""}
    each = 2 * np.prod(x) * np.prod(w[1:])
    assert work(operator, called(signature, roles))[:2] == (2 * each, 2 * each)


@pytest.mark.parametrize("library", ["cudnn", "miopen"])
def test_single_gradients_of_convolutions(library):
    g = [2, 10, 5, 6]
    flop = 2 * np.prod(g) * np.prod(FILTER[1:])
    name = f"aten::{library}_convolution_backward"
    answer = work(f"{name}_input", [json.dumps(X), (g, HALF), (FILTER, HALF)])
    assert answer[::2] == (flop, size((g, HALF), (FILTER, HALF), (X, HALF)))
    answer = work(f"{name}_weight", [json.dumps(FILTER), (g, HALF), (X, HALF)])
    assert answer[::2] == (flop, size((g, HALF), (X, HALF), (FILTER, HALF)))


def test_every_convolution_is_tried():
    tried = {*CONVOLUTIONS, *TURNED, *BACKWARD, "aten::conv_depthwise3d"}
    tried |= {f"aten::{n}{d}d" for n in ("conv", "conv_transpose") for d in (1, 3)}
    libraries = [f"aten::{n}_convolution_backward" for n in ("cudnn", "miopen")]
    tried |= {f"{n}_{of}" for n in libraries for of in ("input", "weight")}
    assert set(convolution.MODELS) == tried


# --- attention ----------------------------------------------------------------------------------

FORWARD_ATTENTION = signatures("""
    aten::scaled_dot_product_attention                     q k v bias p causal scale
    aten::_scaled_dot_product_flash_attention              q k v p causal debug
    aten::_scaled_dot_product_efficient_attention          q k v bias sums p causal
    aten::_scaled_dot_product_cudnn_attention              q k v bias sums p causal debug
    aten::_scaled_dot_product_fused_attention_overrideable q k v bias p causal debug
    aten::_cudnn_attention_forward      q k v bias lq lk mq mk sums p causal debug
    aten::_flash_attention_forward      Q K V lq lk mq mk p causal debug
    aten::_efficient_attention_forward  Q K V bias lq lk mq mk p causal
    FlashAttnFunc                       Q K V p scale causal window
    flash_attn::_flash_attn_forward     Q K V p scale causal left right
    aiter::_flash_attn_forward          Q K V p scale causal left right
    aiter::mha_fwd                      Q K V p scale causal left right
    aiter::fmha_v3_fwd                  Q K V p scale causal left right
    aiter::wrapper_fmha_v3_fwd          ctx Q K V p scale causal left
    flash_attn_3::fwd    Q K V f f f f f f f f f f f f f f f f f f f f f causal
""")
BACKWARD_ATTENTION = signatures("""
    aten::_scaled_dot_product_flash_attention_backward   g q k v o l lq lk mq mk p causal s s
    aten::_scaled_dot_product_efficient_attention_backward g q k v bias o l s s p mask causal
    aten::_scaled_dot_product_cudnn_attention_backward   g q k v o l s s bias lq lk mq mk p causal
    aten::_cudnn_attention_backward                      g q k v o l s s bias lq lk mq mk p causal
    aten::_flash_attention_backward      g Q K V o l lq lk mq mk p causal s s
    aten::_efficient_attention_backward  g Q K V bias o lq lk mq mk l p s s causal
    flash_attn::_flash_attn_backward     g Q K V o l dq dk dv p scale causal
    aiter::_flash_attn_backward          g Q K V o l dq dk dv db p scale causal
    aiter::mha_bwd                       g Q K V o l p scale causal
    aiter::fmha_v3_bwd                   g Q K V o l p scale causal
    aiter::wrapper_fmha_v3_bwd           ctx Q K V o l p scale g causal
""")
VARYING = {
    "aten::_flash_attention_forward": "Q K V lq lk mq mk p causal debug",
    "flash_attn::_flash_attn_varlen_forward": "Q K V lq lk mq mk p scale causal",
    "aten::_flash_attention_backward": "g Q K V o l lq lk mq mk p causal s s",
    "flash_attn::_flash_attn_varlen_backward": "g Q K V o l dq dk dv lq lk mq mk p scale causal",
}
Q_SHAPE, K_SHAPE, V_SHAPE, BIAS = [2, 8, 6, 32], [2, 4, 10, 32], [2, 4, 10, 24], [6, 10]


def attention_roles(*, causal):
    shapes = dict(zip("qkv", (Q_SHAPE, K_SHAPE, V_SHAPE), strict=True))
    roles = {name: (shape, HALF) for name, shape in shapes.items()}
    roles |= {n.upper(): ([s[0], s[2], s[1], s[3]], HALF) for n, s in shapes.items()}
    return roles | {"bias": (BIAS, FULL), "causal": str(causal), "ctx": ([1], FULL)}


def looked_at(causal):
    """Return pairs of query and key; a causal query sees itself half and all that is earlier."""
    queries, keys = Q_SHAPE[2], K_SHAPE[2]
    if not causal:
        return queries * keys
    return sum(keys - queries + n + 0.5 for n in range(queries))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("operator", FORWARD_ATTENTION)
def test_attention_by_the_order_of_its_arguments(operator, causal):
    signature, roles = FORWARD_ATTENTION[operator], attention_roles(causal=causal)
    read = [(shape, HALF) for shape in (Q_SHAPE, K_SHAPE, V_SHAPE)]
    read += [(BIAS, FULL)] if "bias" in signature else []
    flop = 2 * 2 * 8 * looked_at(causal) * (32 + 24)
    moved = size(*read, ([2, 8, 6, 24], HALF))
    assert work(operator, called(signature, roles)) == (flop, flop, moved, "fp16")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("operator", BACKWARD_ATTENTION)
def test_gradients_of_attention_by_the_order_of_its_arguments(operator, causal):
    signature, roles = BACKWARD_ATTENTION[operator], attention_roles(causal=causal)
    read = [(shape, HALF) for shape in (Q_SHAPE, K_SHAPE, V_SHAPE)]
    out = ([2, 8, 6, 24], HALF)
    moved = size(*read, *read, out, out)
    moved += size((BIAS, FULL)) if "bias" in signature else 0
    # Products of weights and scores for three gradients of width 32 and two of 24; and the sums
    # over the two heads that share keys.
    flop = 2 * 2 * 8 * looked_at(causal) * (3 * 32 + 2 * 24)
    flop += 2 * 10 * (32 + 24) * (0.5 if causal else 1)
    assert work(operator, called(signature, roles)) == (flop, flop, moved, "fp16")


@pytest.mark.parametrize("operator", VARYING)
def test_attention_over_sequences_of_different_lengths(operator):
    roles = {n: ([length, 8, 32], HALF) for n, length in (("Q", 50), ("K", 70), ("V", 70))}
    roles |= {"lq": ([5], INT), "lk": ([5], INT), "mq": "20", "mk": "40", "causal": "False"}
    pairs = 20 * 40 + 3 * 10 * 10  # the longest, and three that share what is left
    widths = 3 * 32 + 2 * 32 if "backward" in operator else 32 + 32
    assert work(operator, called(VARYING[operator], roles))[0] == 2 * 8 * pairs * widths


PAGED = signatures("""
    _C::paged_attention_v1  o q k v heads scale tables lengths page longest
    _C::paged_attention_v2  o sums most t q k v heads scale tables lengths page longest
""")


@pytest.mark.parametrize("operator", PAGED)
def test_decoding_over_pages_is_known_for_one_sequence(operator):
    cache = ([99, 4, 8, 16, 8], BYTE)
    roles = {"q": ([1, 32, 128], HALF), "k": cache, "v": cache, "heads": "4", "longest": "1000"}
    moved = size(([2, 32, 128], HALF), ([2, 1000, 4, 128], BYTE))
    answer = work(operator, called(PAGED[operator], roles))
    assert answer[::2] == (4 * 32 * 1000 * 128, moved)
    several = work(operator, called(PAGED[operator], roles | {"q": ([2, 32, 128], HALF)}))
    assert all(map(np.isnan, several[:3]))  # how long the others are is in device memory


def test_every_attention_is_tried():
    tried = {*FORWARD_ATTENTION, *BACKWARD_ATTENTION, *VARYING, *PAGED}
    assert set(attention.MODELS) == tried
