"""What the account of the busy time shows to be lost, each with what only looks like it."""

from unittest import mock

import pytest

from analyzers.analysis import investigate
from analyzers.finding import Confidence, Row
from analyzers.losses.busy_calls import busy_calls
from analyzers.losses.kernel_work import WorkPattern
from analyzers.losses.products import ProductShape, decode_queries, product_shape
from tests.test_work_account import ADD, GEMM, GPU, SUM, launched, op
from tests.torch_traces import opener, x

HALF = "c10::Half"
SOFTMAX = "void at::native::softmax_warp_forward<float>"
COPY = "void at::native::unrolled_elementwise_kernel<copy>"
TRANSPOSE = "void cudnn::ops::nchwToNhwcKernel<__half>"


@pytest.fixture
def reported(tmp_path):
    """Return a function that analyses steps of calls: operator, inputs, kernel, µs."""
    opened = opener(tmp_path)

    def report(calls, steps=12, more=(), device=GPU):
        events, number, begin = list(more), 0, 1_000.0
        for step in range(steps):
            for n, (name, inputs, kernels) in enumerate(calls):
                at = 8 * (step * len(calls) + n)
                events.append(op(name, at, 7, inputs))
                for kernel, duration in kernels:
                    number += 1
                    took = duration(step) if callable(duration) else duration
                    events += launched(number, at + 1 + number % 3, begin, took, kernel)
                    begin += took
        return investigate(opened(events, deviceProperties=[device])).report

    return report


def inputs(*shapes, types=(HALF,), values=None):
    kinds = [*types, *(types[-1:] * len(shapes))][: len(shapes)]
    described = {"Input Dims": [list(s) for s in shapes], "Input type": list(kinds)}
    return described | ({"Concrete Inputs": values} if values else {})


def finding_of(report, pattern):
    found = next((f for f in report.findings if f.id == pattern.value), None)
    if found is not None:
        assert found.confidence is Confidence.ESTIMATED
        assert 0 <= found.low_ns <= found.lost_ns <= found.high_ns
        assert found.formula
    return found


def ids(report):
    assert report.failed == ()
    return {f.id for f in report.findings}


def product(m, k, n, us, name="aten::mm", kernel=GEMM):
    return (name, inputs((m, k), (k, n)), [(kernel, us)])


FILLER = product(4096, 4096, 4096, 200)  # at 69 % of an H100's peak

# --- matrix multiplies ----------------------------------------------------------------------------


@pytest.mark.parametrize(("us", "found"), [(270, False), (290, True)])
def test_a_product_is_far_below_its_roof_from_twice_the_least_time_on(reported, us, found):
    report = reported([product(4096, 4096, 4096, us)])  # 138.9 µs at the peak
    finding = finding_of(report, WorkPattern.PRODUCTS)
    assert (finding is not None) == found
    if finding:
        assert finding.high_ns == pytest.approx(12 * (290_000 - 138_900 / 0.8), abs=2_000)
        assert finding.low_ns == 0
        assert "aten::mm of 4096x4096, 4096x4096 in fp16, at 48 % of the peak" in finding.title


def test_the_verdict_may_be_products_far_below_their_roof(reported):
    verdict = reported([product(4096, 4096, 4096, 400)]).verdict
    assert verdict.cause == "compute"
    assert verdict.sentence.startswith("Kernels far below the peak (estimated): 12 matrix mult")
    assert "would win up to an estimated 57 % of the window" in verdict.sentence


@pytest.mark.parametrize(
    ("shape", "kernel", "why"),
    [
        ((4096, 4096, 4097), GEMM, "4,097 is no multiple of 8"),
        ((4096, 4096, 4104), "gemm_128x128_64x3", "1,056 tiles of 128 by 128"),
        ((512, 65_536, 512), "gemm_128x128_64x3", "inner dimension of 65,536 that nobody splits"),
    ],
)
def test_the_shape_tells_why_a_product_is_slow(reported, shape, kernel, why):
    finding = finding_of(reported([product(*shape, 600, kernel=kernel)]), WorkPattern.PRODUCTS)
    if "1,056" in why:  # eight full waves: no reason is claimed
        assert "tiles" not in finding.title
    else:
        assert why in finding.title
    assert ("Pad that dimension" in finding.advice) == ("multiple" in why)


def test_short_products_are_bound_by_their_launch(reported):
    report = reported([product(512, 512, 512, 9.5)] * 4, steps=30)
    assert finding_of(report, WorkPattern.PRODUCTS) is None


@pytest.mark.parametrize(
    ("operator", "shapes", "shape"),
    [
        ("aten::mm", "[[2,3],[3,5]]", ProductShape(1, 2, 5, 3)),
        ("aten::linear", "[[4,2,3],[5,3],[5]]", ProductShape(1, 8, 5, 3)),
        ("aten::bmm", "[[7,2,3],[7,3,5]]", ProductShape(7, 2, 5, 3)),
        ("aten::addmm", "[[5],[2,3],[3,5],[],[]]", ProductShape(1, 2, 5, 3)),
        ("aten::mm", "", None),
        ("aten::relu", "[[2,3]]", None),
    ],
)
def test_inputs_tell_the_dimensions_of_a_product(operator, shapes, shape):
    assert product_shape(operator, shapes) == shape


# --- weights ------------------------------------------------------------------------------------


def test_few_rows_at_the_memory_roof_are_no_loss_but_have_a_limit(reported):
    # 134 and 671 MB of weights take 40.4 and 201.3 µs at 3.35 TB/s with what 32 rows add.
    decode = [product(32, 8192, 8192, 50), product(32, 8192, 40_960, 250)]
    report = reported(decode)
    finding = finding_of(report, WorkPattern.WEIGHTS)
    assert report.verdict.cause == "healthy"
    assert finding.title == (
        "24 matrix multiplies of few rows, mostly 32, read 9.66 GB of weights at 81 % of the "
        "memory bandwidth for 3.60 ms, 100 % of the window: at most 132,427 tokens a second, and "
        "about 297 rows would take no longer"
    )
    assert finding.high_ns == pytest.approx(12 * 300_000 * 0.5, rel=0.02)
    assert ids(report) == {"bandwidth.weight_reads"}


DECODE = [product(32, 8192, 8192, 50), product(32, 8192, 40_960, 250)]
ATTENTION = "aten::_scaled_dot_product_flash_attention"


def of_new_tokens(keys, us=30, queries=1, sequences=32):
    shape = (sequences, 8, queries, 128), *2 * [(sequences, 8, keys, 128)]
    return ATTENTION, inputs(*shape), [("flash_fwd_splitkv_kernel", us)]


def test_keys_and_values_of_the_cache_limit_tokens_besides_weights(reported):
    """Attention moves 134 MB a pass, which takes 40.1 µs at least."""
    finding = finding_of(reported([*DECODE, of_new_tokens(1024, us=50)]), WorkPattern.WEIGHTS)
    assert finding.title.endswith(
        "at most 113,593 tokens a second, and about 297 rows would take no longer; attention reads "
        "1.61 GB of keys and values besides, 4.19 MB for each token"
    )
    evidence = {e.name: e.value for e in finding.evidence}
    assert evidence["tokens a second, at most"] == 113_593
    assert evidence["tokens a second, at most, with 8-bit weights"] == 198_128


def test_the_cache_of_other_batch_sizes_is_not_set_against_these_tokens(reported):
    """Attention of 64 sequences would take 80 µs a pass of the limit of 32."""
    other = of_new_tokens(1024, us=100, sequences=64)
    finding = finding_of(reported([*DECODE, other]), WorkPattern.WEIGHTS)
    assert "at most 132,427 tokens a second" in finding.title  # as without attention
    assert "keys and values" not in finding.title
    both = finding_of(
        reported([*DECODE, of_new_tokens(1024, us=50), other], steps=12), WorkPattern.WEIGHTS
    )
    assert "1.61 GB of keys and values besides, 4.19 MB for each token" in both.title


@pytest.mark.parametrize(
    ("shapes", "queries"),
    [
        ("[[4,8,1,64],[4,8,99,64],[4,8,99,64]]", (4, 2048)),
        ("[[4,1,8,64],[4,99,8,64],[4,99,8,64]]", (4, 2048)),
        ("[[4,8,64],[396,8,64],[396,8,64],[5]]", (4, 2048)),
        ("[[4,8,2,64],[4,8,99,64],[4,8,99,64]]", None),
        *[("[[4,64],[4,64]]", None), ("", None)],
    ],
)
def test_queries_of_attention_tell_its_new_tokens(shapes, queries):
    assert decode_queries(shapes) == queries


def test_attention_of_a_prompt_is_no_read_of_the_cache(reported):
    prompt = of_new_tokens(4096, us=1_000, queries=4096)
    finding = finding_of(reported([*DECODE, prompt], steps=12), WorkPattern.WEIGHTS)
    assert finding is not None
    assert "keys and values" not in finding.title


def test_products_of_many_rows_are_not_bound_by_weights(reported):
    report = reported([product(2048, 8192, 8192, 350)])
    assert finding_of(report, WorkPattern.WEIGHTS) is None


# --- attention ------------------------------------------------------------------------------------

SCORES = (64, 1024, 1024)
PIECES = [
    ("aten::bmm", inputs((64, 1024, 64), (64, 64, 1024)), [(GEMM, 60)]),
    ("aten::_softmax", inputs(SCORES), [(SOFTMAX, 100)]),
    ("aten::bmm", inputs(SCORES, (64, 1024, 64)), [(GEMM, 60)]),
]


def test_a_softmax_between_two_products_is_attention_in_pieces(reported):
    finding = finding_of(reported(PIECES), WorkPattern.ATTENTION_IN_PIECES)
    assert (finding.low_ns, finding.high_ns) == (600_000, 1_200_000)
    assert "scaled_dot_product_attention" in finding.advice


def test_a_softmax_of_logits_is_no_attention(reported):
    calls = [FILLER, ("aten::_softmax", inputs((4096, 4096)), [(SOFTMAX, 100)]), FILLER]
    assert finding_of(reported(calls), WorkPattern.ATTENTION_IN_PIECES) is None


def attention(us):
    shape = (8, 16, 4096, 128)
    name = "aten::_scaled_dot_product_flash_attention"
    return [(name, inputs(shape, shape, shape), [("pytorch_flash::flash_fwd_kernel", us)])]


@pytest.mark.parametrize(("us", "found"), [(3_500, False), (3_900, True)])
def test_attention_is_far_below_the_peak_from_three_times_the_least_time_on(reported, us, found):
    report = reported(attention(us))  # 1,111 µs at 989 TFLOP/s
    assert (finding_of(report, WorkPattern.ATTENTION) is not None) == found


# --- conversions ----------------------------------------------------------------------------------

CAST = inputs((4096, 4096), (4096, 4096), types=(HALF, "float"))
SAME = inputs((4096, 4096), (4096, 4096))


@pytest.mark.parametrize(
    ("copied", "words", "advice"),
    [(CAST, "1.20 ms in casts", "bfloat16"), (SAME, "1.20 ms in layout changes", ".contiguous()")],
)
def test_copies_in_front_of_a_product_are_conversions(reported, copied, words, advice):
    report = reported([("aten::copy_", copied, [(COPY, 100)]), FILLER])
    finding = finding_of(report, WorkPattern.CONVERSIONS)
    assert words in finding.title.replace("1.2 ms", "1.20 ms")
    assert (finding.low_ns, finding.high_ns) == (0, 1_200_000)
    assert advice in finding.advice


def test_transposes_inside_a_convolution_ask_for_channels_last(reported):
    conv = inputs((64, 256, 56, 56), (256, 256, 3, 3), (), (), (), (), (), (), ())
    conv["Input type"] = [HALF, HALF, *[""] * 7]
    conv["Concrete Inputs"] = ["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "False", "[0, 0]", "1"]
    kernels = [(TRANSPOSE, 60), ("sm80_xmma_fprop_implicit_gemm_f16", 500), (TRANSPOSE, 60)]
    finding = finding_of(reported([("aten::convolution", conv, kernels)]), WorkPattern.CONVERSIONS)
    assert (finding.low_ns, finding.high_ns) == (720_000, 1_440_000)
    assert "channels_last" in finding.advice


def test_copies_elsewhere_are_no_conversions(reported):
    """A copy of its own, between a sort and a lookup, serves no product."""
    sort = ("aten::sort", inputs((4096, 4096)), [("RadixSort", 100)])
    report = reported([sort, ("aten::copy_", SAME, [(COPY, 100)]), sort])
    assert finding_of(report, WorkPattern.CONVERSIONS) is None


def test_copies_of_unknown_shapes_claim_nothing(reported):
    """The product beside them is known; what they copy is not."""
    report = reported([("aten::copy_", {}, [(COPY, 100)]), FILLER])
    assert finding_of(report, WorkPattern.CONVERSIONS) is None


def test_without_shapes_a_library_s_transposes_are_told_all_the_same(reported):
    kernels = [(TRANSPOSE, 60), ("sm80_xmma_fprop_implicit_gemm_f16", 500), (TRANSPOSE, 60)]
    finding = finding_of(reported([("aten::convolution", {}, kernels)]), WorkPattern.CONVERSIONS)
    assert (finding.low_ns, finding.high_ns) == (720_000, 1_440_000)


def test_calls_are_not_put_in_order_where_nothing_can_be_estimated(reported):
    with mock.patch("analyzers.losses.kernel_work.busy_calls") as ordered:
        reported([("aten::mm", {}, [(GEMM, 100)])])
        assert ordered.call_count == 0
        ordered.side_effect = busy_calls
        reported([FILLER])
        assert ordered.call_count == 1


# --- what is done again ---------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "found"), [(1.4, False), (1.6, True)])
def test_repetitions_are_slow_from_half_as_long_again_on(reported, times, found):
    call = ("aten::mm", inputs((4096, 4096), (4096, 4096)), [(GEMM, lambda step: slow[step])])
    slow = [200.0] * 15 + [200.0 * times] * 5
    finding = finding_of(reported([call], steps=20), WorkPattern.SLOW_REPEATS)
    assert (finding is not None) == found
    if finding:
        assert finding.high_ns == pytest.approx(5 * 120_000, abs=10)
        assert finding.title.startswith("5 calls took 1.6 times as long as the same work")


def test_other_shapes_are_no_slow_repetitions(reported):
    report = reported([FILLER] * 5 + [product(4096, 8192, 4096, 400)], steps=12)
    assert finding_of(report, WorkPattern.SLOW_REPEATS) is None


def test_operators_of_the_forward_pass_inside_backward_ones_are_recomputed(reported):
    backward = "autograd::engine::evaluate_function: CheckpointFunctionBackward"
    linear = ("aten::linear", inputs((4096, 4096), (4096, 4096)), [(GEMM, 200)])
    around = [op(backward, 8 * 2 * step + 7.5, 8.4) for step in range(12)]
    report = reported([FILLER, linear], more=around)
    finding = finding_of(report, WorkPattern.RECOMPUTED)
    assert (finding.low_ns, finding.high_ns) == (0, 2_400_000)
    assert report.verdict.cause == "healthy"
    assert finding_of(reported([FILLER, linear]), WorkPattern.RECOMPUTED) is None


# --- optimizers -----------------------------------------------------------------------------------


ADAM = ("lerp_", "mul_", "addcmul_", "sqrt", "div_", "add_", "addcdiv_")


@pytest.mark.parametrize(
    ("operators", "shares"),
    [
        ([f"_foreach_{name}" for name in ADAM], (1 - 7 / 18, 1 - 7 / 21)),
        (ADAM, (1 - 7 / 18, 1 - 7 / 21)),
        (["_fused_adamw_"], None),
        (["add_"], None),  # one operation for each tensor is no more than a fused update makes
    ],
)
def test_an_optimizer_that_is_not_fused_passes_over_its_tensors(reported, operators, shares):
    lists = {"Input Dims": [[[4096, 4096]] * 2, []], "Input type": ["TensorList", "Scalar"]}
    each = 140 / len(operators)
    update = [(f"aten::{name}", lists, [("multi_tensor_apply_kernel", each)]) for name in operators]
    length = 8 * (1 + len(update))
    steps = [
        x("user_annotation", "Optimizer.step#AdamW.step", length * n + 7.5, length - 7.6)
        for n in range(12)
    ]
    finding = finding_of(reported([FILLER, *update], more=steps), WorkPattern.OPTIMIZER)
    assert (finding is not None) == (shares is not None)
    if finding:
        assert finding.low_ns == pytest.approx(12 * 140_000 * shares[0], abs=100)
        assert finding.high_ns == pytest.approx(12 * 140_000 * shares[1], abs=100)
        assert finding.advice == "Construct it as torch.optim.AdamW(…, fused=True)."


# --- no alarm -------------------------------------------------------------------------------------


def test_what_cannot_be_fused_or_is_at_its_roof_raises_no_finding(reported):
    total = ("aten::add", SUM, [(ADD, 70)])
    report = reported([FILLER, total, FILLER])
    assert ids(report) == set()
    assert report.verdict.cause == "healthy"
    assert report.verdict.sentence.startswith(
        "Healthy on the timeline and, as estimated from shapes, inside kernels: no cause"
    )


def test_no_nanosecond_is_claimed_twice(reported):
    """Copies that are also part of a chain, products that are also slow repetitions."""
    shape = inputs((4096, 4096), (4096, 4096))
    product_ns = ("aten::mm", shape, [(GEMM, lambda step: 400.0 + 400 * (step > 8))])
    calls = [("aten::mul", shape, [(ADD, 200)]), ("aten::copy_", shape, [(COPY, 200)]), product_ns]
    report = reported(calls)
    claimed = [f for f in report.findings if f.row is Row.KERNEL]
    assert {f.id for f in claimed} == {"bandwidth.unfused_chains", "compute.products_below_roof"}
    assert sum(f.high_ns for f in claimed) <= report.devices[0].rows[Row.KERNEL]
