"""Norms and softmax are called with their arguments in the order of their signatures.

What is expected is worked out from the arguments' names; see ``test_work_signatures.py``.
"""

import itertools

import pytest

from analyzers.work.models import normalisation
from tests.work_signatures import BYTE, FULL, HALF, called, signatures, size, work

ROWS, WIDTH = 6, 16
X_NORM, WEIGHT, ROW_STATISTICS = ([ROWS, WIDTH], HALF), ([WIDTH], HALF), ([ROWS], FULL)
IMAGE, CHANNELS = ([2, 3, 5, 4], HALF), ([3], FULL)
ELEMENTS, OF_IMAGE = ROWS * WIDTH, 2 * 3 * 5 * 4

ENGINE_NORMS = signatures("""
    _C::rms_norm                        out x weight eps
    _C::fused_add_rms_norm              x residual weight eps
    sgl_kernel::rmsnorm                 out x weight eps
    sgl_kernel::gemma_rmsnorm           out x weight eps
    sgl_kernel::fused_add_rmsnorm       x residual weight eps
    sgl_kernel::gemma_fused_add_rmsnorm x residual weight eps
    aiter::rms_norm                     x weight eps
    aiter::rmsnorm2d_fwd                x weight eps
    aiter::rmsnorm2d_fwd_               x weight eps
""")


@pytest.mark.parametrize("operator", ENGINE_NORMS)
def test_norms_of_engines_by_the_order_of_their_arguments(operator):
    out = ([ROWS, WIDTH], BYTE if "out" in ENGINE_NORMS[operator] else HALF)
    roles = {"x": X_NORM, "weight": WEIGHT, "residual": X_NORM, "out": out}
    moved = size(X_NORM, WEIGHT, out)
    moved += size(X_NORM, X_NORM) if "residual" in ENGINE_NORMS[operator] else 0
    flop = 4 * ELEMENTS + 2 * ROWS
    answer = work(operator, called(ENGINE_NORMS[operator], roles))
    assert answer == (flop, flop, moved, "fp16")


@pytest.mark.parametrize(
    ("operator", "arguments", "flop", "moved"),
    [
        (
            ("aten::layer_norm", "aten::native_layer_norm"),
            [X_NORM, f"[{WIDTH}]", WEIGHT, WEIGHT, "1e-5"],
            5 * ELEMENTS + 6 * WIDTH,
            size(X_NORM, X_NORM, WEIGHT, WEIGHT, ROW_STATISTICS, ROW_STATISTICS),
        ),
        (
            ("aten::rms_norm", "aten::_fused_rms_norm"),
            [X_NORM, f"[{WIDTH}]", WEIGHT, "1e-5"],
            ROWS * (2 * WIDTH + 2) + 2 * ELEMENTS,
            size(X_NORM, X_NORM, WEIGHT),
        ),
        (
            ("aten::group_norm",),
            [IMAGE, "3", CHANNELS, CHANNELS, "1e-5", "True"],
            5 * OF_IMAGE + 6 * 3,
            size(IMAGE, IMAGE, CHANNELS, CHANNELS),
        ),
        (
            ("aten::native_group_norm",),
            [IMAGE, CHANNELS, CHANNELS, "2", "3", "20", "3", "1e-5"],
            5 * OF_IMAGE + 6 * 3,
            size(IMAGE, IMAGE, CHANNELS, CHANNELS),
        ),
        (
            ("aten::cudnn_batch_norm_backward", "aten::miopen_batch_norm_backward"),
            [IMAGE, IMAGE, CHANNELS, "", "", CHANNELS, CHANNELS, "1e-5"],
            4 * OF_IMAGE + 3 * 3,
            size(IMAGE, IMAGE, IMAGE, *[CHANNELS] * 5),
        ),
        (
            ("aten::_softmax", "aten::softmax", "aten::_log_softmax", "aten::log_softmax"),
            [X_NORM, "-1", "False"],
            5 * ELEMENTS,
            size(X_NORM, X_NORM),
        ),
        (
            ("aten::_softmax", "aten::_log_softmax"),
            [X_NORM, "-1", "True"],
            5 * ELEMENTS,
            size(X_NORM, ([ROWS, WIDTH], FULL)),
        ),
        (
            ("aten::_softmax",),  # what is 32 bits wide is not widened
            [([ROWS, WIDTH], FULL), "-1", "True"],
            5 * ELEMENTS,
            size(([ROWS, WIDTH], FULL), ([ROWS, WIDTH], FULL)),
        ),
        (
            ("aten::_safe_softmax",),
            [X_NORM, "-1", ""],
            5 * ELEMENTS,
            size(X_NORM, X_NORM),
        ),
        (
            ("aten::_softmax_backward_data", "aten::_log_softmax_backward_data"),
            [X_NORM, X_NORM, "-1", "c10::Half"],
            4 * ELEMENTS,
            size(X_NORM, X_NORM, X_NORM),
        ),
    ],
)
def test_norms_and_softmax_by_the_order_of_their_arguments(operator, arguments, flop, moved):
    for name in operator:
        assert work(name, arguments)[::2] == (flop, moved), name


BATCH_NORMS = (
    *("aten::batch_norm", "aten::native_batch_norm", "aten::cudnn_batch_norm"),
    *("aten::miopen_batch_norm", "aten::_batch_norm_impl_index", "aten::instance_norm"),
    "aten::_native_batch_norm_legit",
)


@pytest.mark.parametrize("training", ["True", "False", ""])
@pytest.mark.parametrize("operator", BATCH_NORMS)
def test_batch_norms_write_their_statistics_in_training(operator, training):
    arguments = [IMAGE, *[CHANNELS] * 4, training, "0.1", "1e-5"]
    moved = size(IMAGE, IMAGE, *[CHANNELS] * 4)
    moved += size(*[CHANNELS] * 4) if training != "False" else 0
    assert work(operator, arguments)[::2] == (5 * OF_IMAGE + 6 * 3, moved)


MASKS = list(itertools.product((False, True), repeat=3))


@pytest.mark.parametrize("mask", MASKS)
def test_gradients_of_norms_move_what_was_asked_for(mask):
    of_x, of_weight, of_bias = mask
    flop = (9 if of_x else 6) * ELEMENTS
    moved = size(X_NORM, X_NORM, ROW_STATISTICS, ROW_STATISTICS)
    moved += of_x * size(X_NORM, WEIGHT) + (of_weight + of_bias) * size(WEIGHT)
    arguments = [X_NORM, X_NORM, f"[{WIDTH}]", ROW_STATISTICS, ROW_STATISTICS, WEIGHT, WEIGHT]
    answer = work("aten::native_layer_norm_backward", [*arguments, str(list(mask))])
    assert answer[::2] == (flop, moved)
    groups, statistics = ["2", "3", "20", "3", str(list(mask))], ([2, 3], FULL)
    moved = size(IMAGE, IMAGE, statistics, statistics)
    moved += of_x * size(IMAGE, CHANNELS) + (of_weight + of_bias) * size(CHANNELS)
    answer = work(
        "aten::native_group_norm_backward",
        [IMAGE, IMAGE, statistics, statistics, CHANNELS, *groups],
    )
    assert answer[::2] == ((9 if of_x else 6) * OF_IMAGE, moved)
    moved = size(IMAGE, IMAGE, *[CHANNELS] * 3)
    moved += of_x * size(IMAGE) + (of_weight + of_bias) * size(CHANNELS)
    arguments = [IMAGE, IMAGE, CHANNELS, "", "", CHANNELS, CHANNELS, "True", "1e-5"]
    answer = work("aten::native_batch_norm_backward", [*arguments, str(list(mask))])
    assert answer[::2] == (9 * OF_IMAGE, moved)
    arguments = [X_NORM, X_NORM, f"[{WIDTH}]", ROW_STATISTICS, WEIGHT, str(list(mask[:2]))]
    moved = size(X_NORM, X_NORM, ROW_STATISTICS, WEIGHT)
    moved += of_x * size(X_NORM) + of_weight * size(WEIGHT)
    answer = work("aten::_fused_rms_norm_backward", arguments)
    assert answer[::2] == (ELEMENTS * (2 + 6 * of_x + 2 * of_weight), moved)


def test_every_norm_is_tried():
    tried = {*ENGINE_NORMS, *BATCH_NORMS, "aten::rms_norm", "aten::_fused_rms_norm"}
    tried |= {"aten::layer_norm", "aten::native_layer_norm", "aten::group_norm"}
    tried |= {"aten::native_group_norm", "aten::_fused_rms_norm_backward"}
    tried |= {f"aten::{n}_batch_norm_backward" for n in ("native", "cudnn", "miopen")}
    tried |= {f"aten::native_{n}_norm_backward" for n in ("layer", "group")}
    assert set(normalisation.NORM_MODELS) == tried
