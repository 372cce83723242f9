"""Classes of kernels and operators, and what names tell about types and tiles."""

import gzip
import json

import pytest

from analyzers.facts.facts import build_facts
from analyzers.facts.windows import choose_window
from analyzers.work.account import work_of_launches
from analyzers.work.classes import (
    CLASSES,
    TITLES,
    WorkClass,
    collective_kind,
    kernel_class,
    kernel_tile,
    kernel_type,
    operator_class,
    patterns,
)
from collectors.errors import TraceError
from tests.real_traces import opened
from tests.work_reference import REAL

RECORDINGS = sorted((REAL / "torch_trace").glob("*.json.gz"))
MAX_OTHER = 0.05  # of kernel time
ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>"
COPY = "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::"


@pytest.mark.parametrize("table", ["operator_classes", "kernel_classes"])
def test_each_line_of_a_table_of_names_says_where_it_is_from(table):
    assert all(line.source for line in patterns(table))
    assert len({line.pattern.pattern for line in patterns(table)}) == len(patterns(table))


def test_every_class_has_a_title():
    assert set(TITLES) == set(WorkClass)


@pytest.mark.parametrize(
    ("kernel", "work_class"),
    [
        ("ampere_sgemm_128x64_nn", "matmul"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_execute", "matmul"),
        ("nvjet_hsh_192x192_64x4_1x2_h_bz_coopB_NNT", "matmul"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64>", "matmul"),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x192x64_MI16x16x1", "matmul"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", "matmul"),
        ("void gemv2T_kernel_val<int, int, float, float, float, 128>", "matmul"),
        ("_ZN5aiter37bf16gemm_fp32bf16_tn_64x64_splitk_cleanE", "matmul"),
        ("void marlin::Marlin<256, 1, 8, 8, 4, 8>", "matmul"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32", "convolution"),
        ("void cudnn::cnn::wgrad_alg0_engine<float, 128, 6, 7, 3>", "convolution"),
        ("igemm_bwd_gtcx3_nhwc_bf16_bx0_ex1_bt32x64x32", "convolution"),
        ("miopenSp3AsmConv_v30_3_1_gfx94x_bf16", "convolution"),
        ("void cudnn::ops::nchwToNhwcKernel<float, float, float>", "layout"),
        ("batched_transpose_16x32_half", "layout"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>", "attention"),
        ("void flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128>>", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(AttentionKernel::Params)", "attention"),
        ("void flashinfer::BatchDecodeWithPagedKVCacheKernel<>", "attention"),
        ("kernel_unified_attention_2d", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma", "attention"),
        ("void at::native::vectorized_layer_norm_kernel<c10::BFloat16, float>", "normalisation"),
        ("void vllm::rms_norm_kernel<c10::BFloat16>", "normalisation"),
        ("triton_red_fused_add_mean_mul_pow_rsqrt_0", "normalisation"),
        ("triton_per_fused_native_layer_norm_3", "normalisation"),
        ("void (anonymous namespace)::softmax_warp_forward<float, float>", "softmax"),
        ("triton_per_fused__softmax_2", "softmax"),
        (ELEMENTWISE, "elementwise"),
        ("void vllm::act_and_mul_kernel<c10::BFloat16>", "elementwise"),
        ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>", "elementwise"),
        ("triton_poi_fused_add_mul_silu_7", "elementwise"),
        ("loop_multiply_fusion_3", "elementwise"),
        ("input_reduce_fusion", "reduction"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", "reduction"),
        (f"{COPY}direct_copy_kernel_cuda(at::TensorIteratorBase&)", "layout"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<float>", "layout"),
        ("triton_poi_fused__to_copy_1", "layout"),
        ("void at::native::(anonymous namespace)::indexSelectLargeIndex<float>", "gather"),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>", "gather"),
        ("split_embedding_codegen_forward_unweighted_kernel<float>", "gather"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<>", "optimizer"),
        ("void cub::DeviceRadixSortOnesweepKernel<>", "sort"),
        ("void at::native::distribution_elementwise_grid_stride_kernel<float>", "random"),
        ("void vllm::dynamic_per_token_scaled_fp8_quant_kernel<>", "quantise"),
        ("fused_moe_kernel", "moe"),
        ("void vllm::moe::topkGatingSoftmax<8, 64>", "moe"),
        ("void regular_fft<4096u, EPT<16u>>", "fft"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "collective"),
        ("void cusparse::csrmm_alg2_kernel<>", "sparse"),
        ("void elemWiseRNNcell<float>", "recurrent"),
        ("my_physics_step", "other"),
    ],
)
def test_kernels_are_classed_by_their_names(kernel, work_class):
    assert kernel_class(kernel) == work_class


@pytest.mark.parametrize(
    ("operator", "work_class"),
    [
        ("aten::addmm", "matmul"),
        ("aten::_scaled_dot_product_efficient_attention_backward", "attention"),
        ("vllm::unified_attention_with_output", "attention"),
        ("aten::cudnn_batch_norm_backward", "normalisation"),
        ("aten::convolution_backward", "convolution"),
        ("aten::_log_softmax_backward_data", "softmax"),
        ("aten::gelu_backward", "elementwise"),
        ("aten::_foreach_copy_", "layout"),
        ("aten::_foreach_norm", "reduction"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::embedding_dense_backward", "gather"),
        ("_C::dynamic_per_token_scaled_fp8_quant", "quantise"),
        ("triton_poi_fused_add_0", "elementwise"),
        ("my::operator", None),
    ],
)
def test_operators_are_classed_by_their_names(operator, work_class):
    assert operator_class(operator) == work_class


@pytest.mark.parametrize(
    ("kernel", "kind", "tile"),
    [
        ("volta_sgemm_128x32_nt", "fp32", (128, 32)),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x64x64_x", "bf16", (128, 64, 64)),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_MT256x192x64_MI16x16x1", "bf16", (256, 192, 64)),
        ("igemm_fwd_gtcx2_nhwc_bf16_bx0_ex1_bt256x64x8_wt64x16x4", "bf16", (256, 64, 8)),
        ("void cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4", "tf32", (256, 64, 16)),
        ("cutlass_70_wmma_tensorop_f16_s161616gemm_f16_32x32_64x2_tn", "fp16", (32, 32, 64)),
        ("ampere_dgemm_64x64_nn", "fp64", (64, 64)),
        ("nvjet_hsh_192x192_64x4_1x2_h_bz", "fp16", (192, 192, 64)),
        (ELEMENTWISE, "fp32", ()),
        ("CatArrayBatchedCopy<at::native::OpaqueType<2u>, unsigned int, 3>", "bf16", ()),
        ("my_physics_step", "", ()),
    ],
)
def test_names_tell_types_and_tiles(kernel, kind, tile):
    assert (kernel_type(kernel), kernel_tile(kernel)) == (kind, tile)


def test_kinds_of_collectives():
    assert collective_kind("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)") == "allreduce"
    assert collective_kind("ncclKernel_ReduceScatter_RING_LL_Sum") == "reducescatter"
    assert collective_kind("ncclDevKernel_Generic(ncclDevKernelArgs)") == ""


def kernel_names(path):
    """Return the names of a recording's kernels, however it was damaged."""
    try:
        events = json.loads(gzip.decompress(path.read_bytes()))
    except ValueError:
        return set()
    events = events.get("traceEvents", []) if isinstance(events, dict) else events
    kernels = (e for e in events if isinstance(e, dict) and str(e.get("cat")).lower() == "kernel")
    return {str(e.get("name")) for e in kernels}


@pytest.mark.skipif(not RECORDINGS, reason="the real recordings are not at hand")
def test_names_of_real_kernels_are_known():
    names = set().union(*map(kernel_names, RECORDINGS))
    odd = sorted(n[:120] for n in names if kernel_class(n) is WorkClass.OTHER)
    assert len(names) > 500
    assert len(odd) <= 0.02 * len(names), odd


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.name[:40])
def test_nearly_all_kernel_time_of_real_recordings_has_a_class(path):
    try:
        facts = build_facts(opened(path))
    except TraceError:
        pytest.skip("not a recording")
    if not len(facts.launches):
        pytest.skip("no GPU work")
    work = work_of_launches(facts, choose_window(facts, "", ()))
    launches = work.launches
    is_other = launches["class_code"] == CLASSES.index(WorkClass.OTHER)
    names = facts.launches["name_id"].to_numpy()[launches["launch"][is_other]]
    odd = sorted({str(name)[:120] for name in facts.trace.names(names)}) if len(names) else []
    assert launches["busy_ns"][is_other].sum() <= MAX_OTHER * launches["busy_ns"].sum(), odd
