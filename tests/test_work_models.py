"""Work models: exact operations and bytes for the forms in which operators are called."""

import json

import numpy as np
import pytest

from analyzers.work.classes import operator_class
from analyzers.work.element_types import CODE_OF, NO_TYPE, TYPES, promoted, type_code
from analyzers.work.inputs import read_inputs, shape_text
from analyzers.work.models.registry import MODELS, model_of

HALF, FULL = "c10::BFloat16", "float"


def work(operator, shapes, types=HALF, values=(), strides=None, kernel_type=NO_TYPE):
    """Return operations, those needed, and bytes of one call."""
    names = [types] * len(shapes) if isinstance(types, str) else types
    texts = [[json.dumps(part)] for part in (shapes, names, strides or [], list(values))]
    inputs = read_inputs(*texts, np.array([kernel_type]))
    answer = model_of(operator)(inputs)
    return tuple(float(part[0]) for part in (answer.flop, answer.least_flop, answer.bytes))


@pytest.mark.parametrize(
    ("operator", "shapes", "types", "flop", "moved"),
    [
        ("aten::mm", [[2, 3], [3, 4]], HALF, 48, 2 * (6 + 12 + 8)),
        ("aten::addmm", [[4], [2, 3], [3, 4]], HALF, 48 + 8, 2 * (4 + 6 + 12 + 8)),
        ("aten::bmm", [[5, 2, 3], [5, 3, 4]], FULL, 5 * 48, 4 * 5 * (6 + 12 + 8)),
        (
            "aten::baddbmm",
            [[5, 2, 4], [5, 2, 3], [5, 3, 4]],
            FULL,
            5 * 56,
            4 * 5 * (8 + 6 + 12 + 8),
        ),
        ("aten::linear", [[7, 2, 3], [4, 3], [4]], HALF, 7 * 56, 2 * (42 + 12 + 4 + 56)),
        ("aten::linear", [[7, 2, 3], [4, 3], []], [HALF, HALF, ""], 7 * 48, 2 * (42 + 12 + 56)),
        ("aten::matmul", [[5, 1, 2, 3], [6, 3, 4]], FULL, 30 * 48, 4 * (30 + 72 + 240)),
        ("aten::matmul", [[2, 3], [3]], FULL, 12, 4 * (6 + 3 + 2)),
        ("aten::mv", [[2, 3], [3]], FULL, 12, 4 * (6 + 3 + 2)),
        ("aten::_int_mm", [[2, 3], [3, 4]], "signed char", 48, 6 + 12 + 4 * 8),
        (
            "aten::_grouped_mm",
            [[8, 3], [2, 3, 4], [2]],
            [HALF, HALF, "int"],
            192,
            2 * (24 + 24 + 32),
        ),
        ("vllm::rocm_unquantized_gemm", [[2, 3], [4, 3], [4]], HALF, 56, 2 * (6 + 12 + 4 + 8)),
        ("aiter::gemm_a4w4", [[2, 3], [4, 3]], "unsigned char", 2 * 2 * 4 * 6, 6 + 12 + 16),
    ],
)
def test_products_of_matrices(operator, shapes, types, flop, moved):
    assert work(operator, shapes, types) == (flop, flop, moved)


def test_scaled_products_read_their_scales_and_write_the_type_asked_for():
    shapes = [[16, 32], [32, 64], [], [], [], [], [], []]
    types = ["c10::Float8_e4m3fn", "c10::Float8_e4m3fn", FULL, FULL, "", "", "Scalar", "Scalar"]
    values = ["", "", "", "", "", "", "6", "False"]
    product = 2 * 16 * 64 * 32
    read = 16 * 32 + 32 * 64 + 8
    assert work("aten::_scaled_mm", shapes, types, values)[2] == read + 4 * 16 * 64
    assert work("aten::_scaled_mm", shapes, types)[::2] == (product, read + 2 * 16 * 64)


CONVOLUTION = [[2, 8, 10, 12], [16, 4, 3, 3], [16], [], [], [], [], [], []]


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "out"),
    [
        ("[1, 1]", "[1, 1]", "[1, 1]", 10 * 12),
        ("[2, 2]", "[1, 1]", "[1, 1]", 5 * 6),
        ("[2, 1]", "[0, 2]", "[1, 2]", 4 * 12),
        ("[3]", "[0]", "[1]", 3 * 4),
    ],
)
def test_convolutions_by_stride_padding_dilation_and_groups(stride, padding, dilation, out):
    values = ["", "", "", stride, padding, dilation, "False", "[0, 0]", "2"]
    written = 2 * 16 * out
    flop = 2 * written * 4 * 9
    moved = 2 * (2 * 8 * 120 + 16 * 4 * 9 + 16 + written)
    assert work("aten::convolution", CONVOLUTION, HALF, values) == (flop, flop, moved)


def test_a_transposed_convolution_multiplies_its_input():
    shapes = [[2, 16, 5, 6], [16, 8, 3, 3], [], [], [], [], [], [], []]
    types = [HALF, HALF, "", *["ScalarList"] * 3, "Scalar", "ScalarList", "Scalar"]
    values = ["", "", "", "[2, 2]", "[1, 1]", "[1, 1]", "True", "[1, 1]", "1"]
    flop, _, moved = work("aten::convolution", shapes, types, values)
    assert flop == 2 * (2 * 16 * 30) * 8 * 9
    assert moved == 2 * (2 * 16 * 30 + 16 * 8 * 9 + 2 * 8 * 10 * 12)


def test_convolutions_in_one_and_three_dimensions():
    values = ["", "", "", "[1]", "[1]", "[1]", "False", "[0]", "1"]
    assert work("aten::convolution", [[2, 4, 10], [8, 4, 3]], HALF, values)[0] == 2 * 160 * 12
    shapes = [[1, 2, 4, 5, 6], [3, 2, 3, 3, 3]]
    values = ["", "", "", "[1, 1, 1]", "[1, 1, 1]", "[1, 1, 1]", "False", "[0, 0, 0]", "1"]
    assert work("aten::convolution", shapes, HALF, values)[0] == 2 * 360 * 54


@pytest.mark.parametrize(
    ("mask", "needed", "moved"),
    [
        ("[True, True, False]", 2, 240 + 72 + 160 + 160 + 72),
        ("[False, True, False]", 1, 240 + 160 + 72),
        ("[True, False, True]", 1, 240 + 72 + 160 + 6),
    ],
)
def test_gradients_that_were_not_asked_for_are_not_needed(mask, needed, moved):
    shapes = [[2, 6, 20], [2, 4, 20], [6, 4, 3], *[[]] * 8]
    values = ["", "", "", "[0]", "[1]", "[1]", "[1]", "False", "[0]", "1", mask]
    each = 2 * 240 * 12
    assert work("aten::convolution_backward", shapes, HALF, values) == (
        2 * each,
        needed * each,
        2 * moved,
    )


def test_a_convolution_without_recorded_strides_is_not_modelled():
    flop, _, moved = work("aten::cudnn_convolution", CONVOLUTION, HALF)
    assert np.isnan([flop, moved]).all()


QUERIES, KEYS = [2, 8, 64, 32], [2, 4, 128, 32]


def test_attention_counts_both_products_and_reads_shared_keys_once():
    flop, _, moved = work("aten::_scaled_dot_product_flash_attention", [QUERIES, KEYS, KEYS])
    assert flop == 4 * 2 * 8 * 64 * 128 * 32
    assert moved == 2 * (2 * 2 * 8 * 64 * 32 + 2 * 2 * 4 * 128 * 32)


def test_causal_attention_is_half_of_it():
    shapes = [QUERIES, QUERIES, QUERIES, [], [], [], []]
    name = "aten::_scaled_dot_product_flash_attention"
    whole = work(name, shapes, values=["", "", "", "0.", "False", "False", "0.1"])
    half = work(name, shapes, values=["", "", "", "0.", "True", "False", "0.1"])
    assert (half[0], half[2]) == (whole[0] / 2, whole[2])


def test_one_new_token_sees_all_of_its_keys():
    shapes = [[2, 8, 1, 32], [2, 8, 100, 32], [2, 8, 100, 32]]
    values = ["", "", "", "0.", "True", "False", ""]
    flop = work("aten::_scaled_dot_product_flash_attention", shapes, values=values)[0]
    assert flop == pytest.approx(4 * 16 * 100 * 32, rel=0.01)


def test_attention_backward_is_five_products():
    shapes = [QUERIES, QUERIES, QUERIES, QUERIES]
    name = "aten::_scaled_dot_product_flash_attention_backward"
    forward = work("aten::_scaled_dot_product_flash_attention", shapes[1:])
    assert work(name, shapes)[0] == 2.5 * forward[0]
    assert work(name, shapes)[2] == 2 * forward[2]


def test_layouts_with_the_sequence_first_are_the_same_attention():
    turned = [[s[0], s[2], s[1], s[3]] for s in (QUERIES, KEYS, KEYS)]
    plain = work("aten::_scaled_dot_product_flash_attention", [QUERIES, KEYS, KEYS])
    assert work("flash_attn::_flash_attn_forward", turned) == plain
    assert work("aten::_flash_attention_forward", turned) == plain
    assert work("aiter::wrapper_fmha_v3_fwd", [[1], *turned]) == plain


def test_sequences_of_different_lengths_count_the_longest_and_equal_others():
    shapes = [[100, 8, 32], [100, 8, 32], [100, 8, 32], [4], [4], [], [], [], [], []]
    types = [HALF] * 3 + ["int"] * 2 + ["Scalar"] * 5
    values = ["", "", "", "", "", "60", "60", "0.", "0.1", "False"]
    flop = work("flash_attn::_flash_attn_varlen_forward", shapes, types, values)[0]
    assert flop == 4 * 8 * 32 * (60**2 + 2 * 20**2)


@pytest.mark.parametrize(
    ("operator", "shapes", "types", "flop", "moved"),
    [
        ("aten::add", [[4, 6], [6]], FULL, 24, 4 * (24 + 6 + 24)),
        ("aten::add", [[4, 1], [1, 6]], FULL, 24, 4 * (4 + 6 + 24)),
        ("aten::add_", [[4, 6], [6]], FULL, 24, 4 * (24 + 6 + 24)),
        ("aten::mul", [[8], [8]], [HALF, FULL], 8, 16 + 32 + 32),
        ("aten::mul", [[8], []], [HALF, "double"], 8, 16 + 8 + 16),  # a number has no dimensions
        ("aten::add", [[8], []], ["long int", "Scalar"], 8, 64 + 64),
        ("aten::div", [[8], [8]], ["int", "int"], 8, 32 + 32 + 32),  # gives fp32
        ("aten::eq", [[8], [8]], FULL, 8, 32 + 32 + 8),
        ("aten::where", [[8], [8], [8]], ["bool", FULL, FULL], 8, 8 + 32 + 32 + 32),
        ("aten::gelu", [[4, 6], []], [HALF, ""], 24, 2 * 48),
        ("aten::exp", [[8]], ["long int"], 8, 64 + 32),
        ("aten::copy_", [[4, 6], [6], []], [FULL, HALF, "Scalar"], 24, 4 * 24 + 2 * 6),
        ("aten::fill_", [[8], []], [FULL, "Scalar"], 0, 32),
        ("sgl_kernel::silu_and_mul", [[4, 6], [4, 12]], HALF, 5 * 24, 2 * (48 + 24)),
    ],
)
def test_elementwise_operators_broadcast_and_promote(operator, shapes, types, flop, moved):
    assert work(operator, shapes, types)[::2] == (flop, moved)


def test_an_expanded_input_is_read_at_its_own_size():
    strides = [[0, 1], [6, 1]]
    assert work("aten::add", [[4, 6], [4, 6]], FULL, strides=strides)[2] == 4 * (6 + 24 + 24)


@pytest.mark.parametrize(
    ("operator", "values", "types", "moved"),
    [
        ("aten::sum", ["", "[1]", "False", ""], FULL, 4 * (24 + 4)),
        ("aten::sum", ["", "[0, 1]", "False", ""], FULL, 4 * (24 + 1)),
        ("aten::sum", [], FULL, 4 * (24 + 1)),
        ("aten::sum", ["", "[-1]", "True", ""], "int", 4 * 24 + 8 * 4),
        ("aten::argmax", ["", "1", "False"], FULL, 4 * 24 + 8 * 4),
        ("aten::max", ["", "1", "False"], FULL, 4 * (24 + 4) + 8 * 4),
        ("aten::cumsum", ["", "0", ""], "int", 4 * 24 + 8 * 24),
        ("aten::topk", ["", "2", "-1", "True", "True"], FULL, 4 * 24 + 12 * 8),
    ],
)
def test_reductions_write_what_their_dimensions_leave(operator, values, types, moved):
    shapes = [[4, 6], *[[]] * 4]
    names = [types, "ScalarList", "Scalar", "Scalar", "Scalar"]
    assert work(operator, shapes, names, values)[2] == moved


def test_norms_and_softmax():
    layer = [[4, 6], [], [6], [6], []]
    types = [HALF, "ScalarList", HALF, HALF, "Scalar"]
    moved = 2 * (24 + 12 + 24) + 4 * 2 * 4
    values = ["", "[6]", "", "", "1e-5"]
    assert work("aten::native_layer_norm", layer, types, values)[::2] == (5 * 24 + 36, moved)
    batch = [[2, 3, 4], *[[3]] * 4, [], [], []]
    types = [HALF, *[FULL] * 4, *["Scalar"] * 3]
    training = work("aten::native_batch_norm", batch, types, ["", *[""] * 4, "True", "0.1", "1e-5"])
    frozen = work("aten::native_batch_norm", batch, types, ["", *[""] * 4, "False", "0.1", "1e-5"])
    assert training[2] - frozen[2] == 4 * (2 * 3 + 2 * 3)
    assert frozen[2] == 2 * 48 + 4 * 12
    assert work("aten::_softmax", [[4, 6], [], []], [HALF, "Scalar", "Scalar"])[2] == 2 * 48
    assert work("_C::fused_add_rms_norm", [[4, 6], [4, 6], [6]])[2] == 2 * (4 * 24 + 6)


def test_lists_take_their_type_from_the_kernel():
    shapes = [[[10], [2, 5]], [[10], [2, 5]], []]
    types = ["TensorList", "TensorList", "Scalar"]
    assert np.isnan(work("aten::_foreach_add_", shapes, types)[2])
    full = CODE_OF["fp32"]
    assert work("aten::_foreach_add_", shapes, types, kernel_type=full)[::2] == (20, 4 * 60)
    assert work("aten::_foreach_copy_", shapes, types, kernel_type=full)[2] == 4 * 40
    lists = [[[10], [10]]] * 4
    moved = work("aten::_fused_adamw_", lists, "TensorList", kernel_type=full)[2]
    assert moved == 4 * 20 * (4 + 3)


def test_experts_that_nobody_chose_are_not_read():
    few = [[2, 16], [64, 24, 16], [64, 16, 12], [2, 4], [2, 4]]
    types = [HALF] * 3 + [FULL, "int"]
    flop, _, moved = work("vllm::inplace_fused_experts", few, types)
    assert flop == 2 * 2 * 4 * (24 * 16 + 16 * 12)
    assert moved == 2 * 2 * 32 + 4 * 8 + 2 * 8 * (24 * 16 + 16 * 12)


def test_generated_kernels_move_their_arguments_once():
    shapes = [[8, 4], [4], [8, 4], []]
    assert work("triton_poi_fused_add_0", shapes, [HALF, HALF, FULL, "Scalar"])[2] == 72 + 128


def test_every_operator_with_a_model_has_a_class():
    assert [name for name in MODELS if operator_class(name) is None] == []


@pytest.mark.parametrize("types", [HALF, "", "TensorList", "odd"])
def test_every_model_bears_inputs_that_make_no_sense(types):
    odd = ([], [[]], [[0]], [[3]], [[[2], [3]]], [[2, 3, 4, 5]] * 3, [[1] * 12] * 20, [{}, 7])
    values = ("", "[1]", "[]", "nan", "[0, 0]", "True", "1e99", "-9")
    with np.errstate(all="ignore"):
        for operator in MODELS:
            for shapes in odd:
                assert len(work(operator, shapes, types, values)) == 3


def test_types_are_known_under_the_names_of_old_and_new_traces():
    names = ("float", "c10::Half", "struct c10::Half", "long int", "c10::Float8_e4m3fnuz", "bool")
    kinds = [TYPES[type_code(name)].name for name in names]
    assert kinds == ["fp32", "fp16", "fp16", "int64", "fp8", "bool"]
    assert type_code("Generator") == NO_TYPE


def test_both_halves_are_promoted_to_what_holds_both():
    codes = np.array([[CODE_OF["fp16"], CODE_OF["bf16"]]])
    assert promoted(codes, np.array([[1, 1]])).tolist() == [CODE_OF["fp32"]]


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ([[64, 559, 1024], [1024, 1024], []], "64x559x1024, 1024x1024"),
        ([[[10], [2, 5]], [7]], "2 tensors, 7"),
        ([[], []], ""),
        ("[[64, 559", ""),
    ],
)
def test_shapes_are_written_as_a_reader_does(shapes, text):
    assert shape_text(shapes if isinstance(shapes, str) else json.dumps(shapes)) == text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("c10::Float4_e2m1fn_x2", "fp4"),
        ("c10::Float8_e8m0fnu", "fp8"),
        ("c10::complex<float>", "complex64"),
    ],
)
def test_types_of_few_bits_and_of_two_parts_are_known(name, kind):
    assert TYPES[type_code(name)].name == kind
