"""32-bit matrix products on GPUs with tensor cores: known by name, with a bounded gain."""

import pytest

from analyzers.finding import Clear, Finding, Row
from analyzers.losses.fp32_products import fp32_products, is_fp32_product, tensor_ratio
from analyzers.rules import compute_fp32_matmul
from tests.traces_in_memory import H100, account, build


@pytest.mark.parametrize(
    "name",
    [
        "volta_sgemm_128x64_nn",
        "ampere_sgemm_32x128_tn",
        "void cutlass::Kernel<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>(cutlass_80_simt::Params)",
        "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x128x8_stage3_ffma_kernel",
        "sm86_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nchw_tilesize64x64_ffma",
        "void implicit_convolve_sgemm<float, float, 1024, 6, 7, 3, 3, 5, 1, false>(int, int)",
        "void dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>(int, int)",
        "volta_scudnn_128x64_relu_interior_nn_v1",
        "sgemm_largek_lds64",
    ],
)
def test_names_of_ordinary_units(name):
    assert is_fp32_product(name)


@pytest.mark.parametrize(
    "name",
    [
        "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x16_stage4_tensor16x8x8",
        "sm80_xmma_gemm_tf32f32_f32f32_f32_tn_n",
        "cutlass_80_tensorop_s1688gemm_128x64_16x6_nn_align4",
        "ampere_fp16_s16816gemm_fp16_128x128_ldg8_f2f_stages_32x5_tn",
        "volta_fp16_s884cudnn_fp16_256x64_ldg8_relu_f2f_exp_interior_nhwc2nchw_tn_v1",
        "volta_fp16_sgemm_fp16_128x64_nn",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64",
        "void dgrad_engine<__half, 512, 6, 5, 3, 3, 3, false>(int)",
        "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16>(float)",
        "volta_dgemm_64x64_nn",
        "sgemm_naive(float*, float*)",
        "Cijk_Ailk_Bljk_SB_MT64x64x16",
        "vectorized_elementwise_kernel",
    ],
)
def test_other_names_say_nothing(name):
    assert not is_fp32_product(name)


@pytest.mark.parametrize(
    ("capability", "ratio"),
    [((6, 1), 1), ((7, 0), 8), ((7, 5), 4), ((8, 0), 8), ((8, 6), 2), ((9, 0), 7), ((12, 0), 2)],
)
def test_how_much_faster_tensor_cores_are(capability, ratio):
    assert tensor_ratio(*capability) == ratio


def outcome(tmp_path, names, durations_us, capability=(8, 0), rule=compute_fp32_matmul, **more):
    """Ask a rule about kernels of a stream that follow each other at once."""
    begins = [sum(durations_us[:n]) for n in range(len(durations_us))]
    device = {**H100, "compute_major": capability[0], "compute_minor": capability[1]}
    facts = build(
        tmp_path,
        kernels={"start_us": begins, "duration_us": durations_us, "name": names, **more},
        devices={"process": 1, "device": 0, **device},
    )
    return rule.check(facts, account(facts))


def test_half_of_the_time_is_estimated_between_nothing_and_what_the_units_allow(tmp_path):
    finding = outcome(tmp_path, ["ampere_sgemm_128x64_nn", "other"] * 5, [600, 400] * 5)
    assert finding.title == (
        "5 kernels of matrix products and convolutions computed with 32-bit numbers and without "
        "tensor cores for 3 ms, 60 % of the window, mostly in `ampere_sgemm_128x64_nn`; tensor "
        "cores multiply up to 8 times as fast on this GPU"
    )
    assert finding.row is Row.KERNEL
    assert (finding.low_ns, finding.lost_ns, finding.high_ns) == (0, 1_500_000, 2_625_000)
    assert 'set_float32_matmul_precision("high")' in finding.advice


@pytest.mark.parametrize(
    ("capability", "advice"),
    [((7, 0), "torch.float16"), ((8, 9), "torch.bfloat16"), ((9, 0), "TF32"), ((10, 0), "TF32")],
)
def test_the_advice_is_one_that_the_gpu_can_follow(tmp_path, capability, advice):
    assert advice in outcome(tmp_path, ["volta_sgemm_128x64_nn"], [600], capability).advice


def test_a_gpu_without_tensor_cores_has_none_idle(tmp_path):
    assert outcome(tmp_path, ["maxwell_sgemm_128x64_nn"], [600], (6, 1)) == Clear()


@pytest.mark.parametrize(("product_us", "said"), [(99, False), (100, True)])
def test_products_matter_from_a_tenth_of_the_time_on(tmp_path, product_us, said):
    names = ["ampere_sgemm_128x64_nn", "other"]
    answer = outcome(tmp_path, names, [product_us, 1_000 - product_us])
    assert isinstance(answer, Finding) is said


@pytest.mark.parametrize(("product_us", "said"), [(19, False), (20, True)])
def test_products_of_less_than_twenty_microseconds_do_not_count(tmp_path, product_us, said):
    assert isinstance(outcome(tmp_path, ["ampere_sgemm_128x64_nn"], [product_us]), Finding) is said


def test_time_that_too_few_blocks_waste_is_not_claimed_again(tmp_path):
    finding = outcome(tmp_path, ["ampere_sgemm_128x64_nn"], [1_000], grid_x=66)
    assert finding.lost_ns == 250_000  # half of the half that half of the multiprocessors leave


def test_a_window_without_kernels_has_no_products(tmp_path):
    facts = build(
        tmp_path,
        kernels={"start_us": [0], "duration_us": 100, "name": "sgemm"},
        copies={"start_us": [200, 300], "duration_us": 50},
    )
    assert fp32_products(facts, account(facts, 150, 400)) is None
