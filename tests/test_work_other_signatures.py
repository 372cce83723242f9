"""What moves and counts, choices, gathers, pools, lists and engines: each called by its signature.

What is expected is worked out from the arguments' names; see ``test_work_signatures.py``.
"""

import itertools
import json

import numpy as np
import pytest

from analyzers.work.element_types import CODE_OF
from analyzers.work.inputs import read_inputs
from analyzers.work.models import elementwise, engines, lists
from analyzers.work.models.registry import model_of
from tests.work_signatures import BYTE, FULL, HALF, INT, called, signatures, size, work

LONG = "long int"
X, COUNT = ([4, 6], HALF), 24


def moved_by(operator, arguments):
    flop, _, moved, _ = work(operator, arguments)
    return flop, moved


@pytest.mark.parametrize("result", ["sum", "prod", "nansum"])
@pytest.mark.parametrize(("kind", "item"), [(HALF, 2), ("int", 8), ("bool", 8), (FULL, 4)])
def test_sums_of_whole_numbers_are_64_bits_wide(result, kind, item):
    in_bytes = {HALF: 2, "int": 4, "bool": 1, FULL: 4}[kind]
    for axes, left in (("[0]", 6), ("[-1]", 4), ("[0, 1]", 1), ("", 1), ("1", 4), ("[7]", 24)):
        answer = moved_by(f"aten::{result}", [([4, 6], kind), axes, "False"])
        assert answer == (24, 24 * in_bytes + left * item), axes


@pytest.mark.parametrize(
    ("names", "item", "axes"),
    [
        ("mean nanmean amax amin logsumexp var std", 2, 1),
        ("norm linalg_vector_norm", 2, 2),
        ("all any", 1, 1),
        ("argmax argmin count_nonzero", 8, 1),
    ],
)
def test_reductions_write_one_for_each_that_is_left(names, item, axes):
    for name in names.split():
        arguments = [X, *["2"] * (axes - 1), "[0]", "False"]
        assert moved_by(f"aten::{name}", arguments) == (COUNT, 2 * COUNT + 6 * item), name


@pytest.mark.parametrize("name", ["aten::max", "aten::min"])
def test_the_largest_of_one_tensor_has_a_place_and_of_two_has_none(name):
    assert moved_by(name, [X, "1", "False"]) == (COUNT, 2 * COUNT + 4 * (2 + 8))
    assert moved_by(name, [X]) == (COUNT, 2 * COUNT + 2)
    assert moved_by(name, [X, ([6], HALF)]) == (COUNT, 2 * (COUNT + 6 + COUNT))


@pytest.mark.parametrize(
    ("operator", "arguments", "flop", "moved"),
    [
        ("aten::cumsum", [([4, 6], INT), "0"], COUNT, COUNT * (4 + 8)),
        ("aten::cumsum_", [X, "0"], COUNT, 2 * COUNT * 2),
        ("aten::cumprod", [X, "0"], COUNT, 2 * COUNT * 2),
        ("aten::sort", [X, "-1", "False"], None, COUNT * (2 + 2 + 8)),
        ("aten::argsort", [X, "-1", "False"], None, COUNT * (2 + 2 + 8)),
        ("aten::topk", [X, "2", "1", "True", "True"], None, 2 * COUNT + 8 * (2 + 8)),
        ("aten::topk", [X, "2", "0", "True", "True"], None, 2 * COUNT + 12 * (2 + 8)),
        ("aten::topk", [X, "2"], None, 2 * COUNT + 8 * (2 + 8)),
        # Rows of a table: no more are read than it has; as many are written as numbers came.
        ("aten::embedding", [([5, 6], HALF), ([3], LONG)], 0, 3 * 8 + 2 * (3 * 6 + 3 * 6)),
        ("aten::embedding", [([5, 6], HALF), ([7], LONG)], 0, 7 * 8 + 2 * (5 * 6 + 7 * 6)),
        ("aten::index_select", [X, "0", ([3], LONG)], 0, 3 * 8 + 2 * (18 + 18)),
        ("aten::index_select", [X, "1", ([9], LONG)], 0, 9 * 8 + 2 * (24 + 36)),
        ("aten::gather", [X, "0", ([2, 6], LONG)], 0, 12 * 8 + 2 * (12 + 12)),
        ("aten::gather", [X, "0", ([9, 6], LONG)], 0, 54 * 8 + 2 * (24 + 54)),
        (
            "aten::embedding_dense_backward",
            [([3, 6], HALF), ([3], LONG), "50", "-1", "False"],
            18,
            2 * 18 + 8 * 3 + 2 * 50 * 6,
        ),
        (
            "aten::embedding_backward",
            [([3, 6], HALF), ([3], LONG), "50", "-1", "False"],
            18,
            2 * 18 + 8 * 3 + 2 * 50 * 6,
        ),
        ("aten::native_dropout", [X, "0.1", "True"], COUNT, COUNT * (2 + 2 + 1)),
        ("aten::_fused_dropout", [X, "0.1"], COUNT, COUNT * (2 + 2 + 1)),
        ("aten::nll_loss_forward", [X, ([4], LONG), "", "1"], 4, 4 * 8 + (4 + 2) * 2),
        ("aten::nll_loss2d_forward", [X, ([4], LONG), "", "1"], 4, 4 * 8 + (4 + 2) * 2),
        (
            "aten::nll_loss_backward",
            [([1], FULL), X, ([4], LONG), "", "1"],
            4,
            4 + 4 * 8 + 2 * COUNT,
        ),
        (
            "aten::nll_loss2d_backward",
            [([1], FULL), X, ([4], LONG), "", "1"],
            4,
            4 + 4 * 8 + 2 * COUNT,
        ),
    ],
)
def test_choices_gathers_and_losses(operator, arguments, flop, moved):
    answer = moved_by(operator, arguments)
    assert answer[1] == moved
    assert np.isnan(answer[0]) if flop is None else answer[0] == flop


@pytest.mark.parametrize(
    "name", ["bernoulli", "exponential", "normal", "random", "uniform", "log_normal"]
)
def test_random_numbers_are_only_written(name):
    assert moved_by(f"aten::{name}_", [X, "0", "1"]) == (COUNT, 2 * COUNT)


IMAGE = ([2, 3, 11, 13], HALF)


def pooled(window, stride, padding):
    out = [
        sum(1 for at in range(-p, n + p - w + 1) if (at + p) % s == 0)
        for n, w, s, p in zip((11, 13), window, stride, padding, strict=True)
    ]
    return 2 * 3 * out[0] * out[1]


@pytest.mark.parametrize(
    ("operator", "item"),
    [("max_pool2d_with_indices", 10), ("max_pool2d", 10), ("avg_pool2d", 2)],
)
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [((3, 2), (2, 3), (1, 0)), ((3, 3), (), (0, 1))]
)
def test_pools_by_window_stride_and_padding(operator, item, window, stride, padding):
    values = [json.dumps(list(part)) for part in (window, stride, padding)]
    made = pooled(window, stride or window, padding)
    answer = moved_by(f"aten::{operator}", [IMAGE, *values])
    assert answer == (2 * 3 * 11 * 13, size(IMAGE) + made * item)


def test_pools_of_a_given_size_and_gradients_of_pools():
    elements = 2 * 3 * 11 * 13
    for name in ("_adaptive_avg_pool2d", "adaptive_avg_pool2d"):
        assert moved_by(f"aten::{name}", [IMAGE, "[2, 5]"]) == (elements, size(IMAGE) + 2 * 6 * 10)
    gradient, places = ([2, 3, 5, 6], HALF), ([2, 3, 5, 6], LONG)
    for name in ("avg_pool2d_backward", "_adaptive_avg_pool2d_backward"):
        assert moved_by(f"aten::{name}", [gradient, IMAGE]) == (180, size(gradient, IMAGE))
    arguments = [gradient, IMAGE, "[3]", "[2]", "[1]", "[1]", "False", places]
    answer = moved_by("aten::max_pool2d_with_indices_backward", arguments)
    assert answer == (180, size(gradient, IMAGE) + 8 * 180)


@pytest.mark.parametrize("ending", ["", "_"])
@pytest.mark.parametrize("name", sorted(elementwise._FORMS))
def test_element_wise_operators_by_operands_and_result(name, ending):
    form = elementwise._FORMS[name]
    shapes = [[4, 6], [6], [4, 1]][: form.operands]
    for kind, item in ((HALF, 2), (INT, 4)):
        made = {"same": item, "truth": 1, "real": 4 if kind == INT else item}[form.result]
        made = item if ending else made  # what is overwritten keeps its type
        answer = moved_by(f"aten::{name}{ending}", [(s, kind) for s in shapes])
        assert answer == (COUNT, sum(int(np.prod(s)) for s in shapes) * item + COUNT * made)


@pytest.mark.parametrize(
    ("operator", "arguments", "flop", "moved"),
    [
        ("aten::copy_", [X, ([6], FULL)], COUNT, 2 * COUNT + 4 * 6),
        ("aten::clone", [X], COUNT, 4 * COUNT),
        ("aten::contiguous", [X], COUNT, 4 * COUNT),
        ("aten::fill_", [X, "1"], 0, 2 * COUNT),
        ("aten::zero_", [X], 0, 2 * COUNT),
        ("aten::glu", [X, "-1"], 5 * 12, 2 * COUNT + 2 * 12),
        ("LigerSiLUMulFunction", [X, X], COUNT, 3 * 2 * COUNT),
        *(
            (f"{name}_and_mul", [([4, 3], HALF), X], 5 * 12, 2 * COUNT + 2 * 12)
            for name in ("sgl_kernel::silu", "sgl_kernel::gelu", "_C::silu", "_C::gelu")
        ),
        *(
            (f"aiter::{name}_and_mul", [([4, 3], HALF), X], 5 * 12, 2 * COUNT + 2 * 12)
            for name in ("silu", "gelu")
        ),
    ],
)
def test_copies_fills_and_gates(operator, arguments, flop, moved):
    assert moved_by(operator, arguments) == (flop, moved)


# --- lists --------------------------------------------------------------------------------------

LIST = [[10], [2, 5]]


def of_lists(operator, count):
    texts = [[json.dumps(p)] for p in ([LIST] * count, ["TensorList"] * count, [], [])]
    answer = model_of(operator)(read_inputs(*texts, np.array([CODE_OF["fp32"]])))
    return float(answer.flop[0]), float(answer.bytes[0])


def lists_by_kind():
    for name, ending in itertools.product(lists._ONE, ("", "_")):
        yield f"aten::_foreach_{name}{ending}", 1, 1, 2
    for name, ending in itertools.product(lists._TWO, ("", "_")):
        yield f"aten::_foreach_{name}{ending}", 2, 1, 3
    for name, ending in itertools.product(lists._THREE, ("", "_")):
        yield f"aten::_foreach_{name}{ending}", 3, 3, 4
    yield from ((f"aten::_foreach_lerp{e}", 2, 3, 3) for e in ("", "_"))
    yield "aten::_foreach_norm", 1, 2, 1
    yield "aten::_foreach_copy_", 2, 1, 2
    yield "aten::_foreach_zero_", 1, 0, 1
    yield "aten::_amp_foreach_non_finite_check_and_unscale_", 1, 1, 2
    # Parameters, gradients, two moments and the largest: all read, all but gradients written.
    yield from ((f"aten::_fused_{n}_", 5, 14, 9) for n in ("adam", "adamw"))
    yield from ((f"aten::_fused_{n}_", 3, 4, 5) for n in ("sgd", "adagrad"))


def test_lists_read_their_operands_and_write_their_results():
    tried = set()
    for operator, count, flop, passes in lists_by_kind():
        assert of_lists(operator, count) == (20 * flop, 4 * 20 * passes), operator
        tried.add(operator)
    assert tried == {*lists.LISTS, *lists.OPTIMIZERS}


# --- engines ------------------------------------------------------------------------------------

ENGINES = signatures("""
    _C::rotary_embedding                   positions q k 64 cache True
    sgl_kernel::rotary_embedding           positions q k 64 cache True
    _C_cache_ops::reshape_and_cache_flash  k v cache cache positions auto
    _C_cache_ops::reshape_and_cache        k v cache cache positions auto
""")


@pytest.mark.parametrize("operator", ENGINES)
def test_positions_and_caches_touch_what_is_new(operator):
    roles = {"q": ([5, 64], HALF), "k": ([5, 32], HALF), "v": ([5, 32], HALF)}
    roles |= {"positions": ([5], LONG), "cache": ([1_000, 32], HALF)}
    own = "qk" if "rotary" in operator else "kv"
    flop = 3 * 5 * (64 + 32) if "rotary" in operator else 0
    moved = 2 * size(*(roles[n] for n in own)) + 5 * 8
    assert moved_by(operator, called(ENGINES[operator], roles)) == (flop, moved)


@pytest.mark.parametrize("tokens", [2, 9])
@pytest.mark.parametrize("operator", sorted(engines.MIXTURES))
def test_mixtures_read_the_experts_that_were_chosen(operator, tokens):
    hidden, chosen = ([tokens, 16], HALF), ([tokens, 3], FULL)
    up, down = ([8, 24, 16], HALF), ([8, 16, 12], HALF)
    answer = work(operator, [hidden, up, down, chosen])
    if engines.MIXTURES[operator] is lists.all_once:
        assert answer[2] == size(hidden, up, down, chosen)
        return
    used = min(8, 3 * tokens)
    flop = 2 * tokens * 3 * (24 * 16 + 16 * 12)
    moved = 2 * size(hidden) + size(chosen) + 2 * used * (24 * 16 + 16 * 12)
    assert answer == (flop, flop, moved, "fp16")


@pytest.mark.parametrize("operator", sorted(engines.QUANTISERS))
def test_quantisers_move_all_that_is_passed(operator):
    arguments = [X, ([4, 6], BYTE), ([1], FULL)]
    assert work(operator, arguments)[2] == size(*arguments)


def test_every_operator_for_positions_and_caches_is_tried():
    assert {*ENGINES} == {*engines.OTHERS, *engines.CACHES}
