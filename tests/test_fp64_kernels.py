"""64-bit arithmetic, known by name, on GPUs that are slow at it; not on GPUs for science."""

import pytest

from analyzers.finding import Clear, Confidence, Row
from analyzers.losses.fp64_kernels import fp64_ratio, is_fp64
from analyzers.rules import compute_double_precision
from analyzers.work.classes import kernel_type
from tests import test_fp32_products

ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<double>>(int)"
GEMM = "volta_dgemm_64x64_nn"


@pytest.mark.parametrize(
    "name",
    [
        *(GEMM, "void cutlass::Kernel<cutlass_80_tensorop_d884gemm_64x64_16x4_nn_align1>()", ADD),
        "sm80_xmma_gemm_f64f64_f64f64_f64_nn_n_tilesize64x64x16",
        "stencil(double const*, double*, int)",
        "void magma_dgemm_kernel()",
        "void step<double2>(double2*)",
        "Cijk_Ailk_Bljk_DB_MT64x64x16",
    ],
)
def test_names_of_64_bit_arithmetic(name):
    assert is_fp64(name)


@pytest.mark.parametrize(
    "name",
    [
        "void at::native::pow_tensor_scalar_kernel_impl<float, double>(int)",
        *("scale(float*, double)", "void mix<__half, double>(int)", "ampere_sgemm_32x128_tn"),
        "void cast<c10::BFloat16, double>()",
        *("double_buffered_copy(int*)", "cgemm", "indoubled(int)", "sm80_xmma_gemm_f32f32_tn_n"),
        *("_bwd_dk_dv_db_kernel", "sgemm_db_kernel", "ATTENTION_DB_KERNEL"),
        "Cijk_Ailk_Bljk_SB_MT64x64x16_db_",
    ],
)
def test_other_names_say_nothing(name):
    assert not is_fp64(name)


@pytest.mark.parametrize(
    ("name", "kind"), [("Cijk_Ailk_Bljk_DB_MT64x64x16", "fp64"), ("_bwd_dk_dv_db_kernel", "")]
)
def test_a_gradient_of_bias_is_no_type_of_64_bits(name, kind):
    assert kernel_type(name) == kind


@pytest.mark.parametrize(
    ("capability", "ratio"),
    [
        *[((6, 0), 1), ((6, 1), 32), ((7, 0), 1), ((7, 5), 32), ((8, 0), 1), ((8, 6), 64)],
        *[((8, 9), 64), ((9, 0), 1), ((10, 0), 1), ((12, 0), 64), ((-1, -1), 1)],
    ],
)
def test_how_much_slower_64_bits_are(capability, ratio):
    assert fp64_ratio(*capability) == ratio


def outcome(tmp_path, names, durations_us, capability=(8, 9), **more):
    rule = compute_double_precision
    return test_fp32_products.outcome(tmp_path, names, durations_us, capability, rule, **more)


def test_products_and_others_save_different_parts_at_least(tmp_path):
    finding = outcome(tmp_path, [GEMM, ADD, "other"], [640, 160, 200])
    assert finding.title == (
        "2 kernels computed with 64-bit numbers for 800 µs, 80 % of the window, mostly in "
        "`volta_dgemm_64x64_nn`; 32-bit arithmetic is 64 times as fast on this GPU"
    )
    assert finding.row is Row.KERNEL
    assert finding.confidence is Confidence.ESTIMATED
    assert (finding.low_ns, finding.high_ns) == (320_000 + 40_000, 630_000 + 157_500)
    assert finding.lost_ns == (finding.low_ns + finding.high_ns) // 2
    assert {e.name: e.value for e in finding.evidence}["of it in matrix products"] == 640_000


@pytest.mark.parametrize("capability", [(7, 0), (8, 0), (9, 0), (10, 0), (-1, -1)])
def test_on_gpus_for_science_nothing_is_said(tmp_path, capability):
    assert isinstance(outcome(tmp_path, [GEMM], [640], capability), Clear)


@pytest.mark.parametrize(("share_us", "is_said"), [(67, False), (69, True)])
def test_what_wins_a_twentieth_is_said(tmp_path, share_us, is_said):
    """The middle of 0.5 and 63/64 of a product's time: 0.742."""
    answer = outcome(tmp_path, [GEMM, "other"], [share_us, 1_000 - share_us])
    assert isinstance(answer, Clear) is not is_said


@pytest.mark.parametrize(("product_us", "is_said"), [(19, False), (20, True)])
def test_kernels_of_less_than_twenty_microseconds_do_not_count(tmp_path, product_us, is_said):
    assert isinstance(outcome(tmp_path, [GEMM], [product_us]), Clear) is not is_said


def test_time_that_too_few_blocks_waste_is_not_claimed_again(tmp_path):
    finding = outcome(tmp_path, [GEMM], [1_000], grid_x=66)
    assert finding.low_ns == 250_000  # half of the half that half of the multiprocessors leave
