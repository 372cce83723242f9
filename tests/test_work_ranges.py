"""Work that ranges of NVTX tell: PyTorch's sizes, modules of engines, nodes of CUDA graphs."""

import json
import time

import numpy as np
import pytest

from analyzers.facts.facts import build_facts
from analyzers.facts.range_texts import range_name
from analyzers.facts.spans import Window
from analyzers.facts.surroundings import operators_of, ranges_of
from analyzers.work.answer import busy_sentence
from analyzers.work.clocks import recorded_clocks
from analyzers.work.range_texts import read_range_texts
from analyzers.work.roofs import parse_peaks
from collectors import open_trace
from tests.nsys_exports import change
from tests.test_work_account import account
from traces.nsys_writer import Recording

US = 1_000
MM = "aten::mm, seq = 12, op_id = {}, sizes = [[4096, 4096], [4096, 4096]], input_op_ids = [(4,0)]"
GELU = "aten::gelu, op_id = {}, sizes = [[4096, 4096], []]"
LAYER = (
    "{{'Module': 'model.layers.{}.mlp.down_proj', 'TrainableParams': {{'weight': [4096, 14336]}}, "
)
LAYER += "'Inputs': [[2048, 14336]]}}"
BF16_GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_cublas"
BF16_GELU = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl("
    "at::TensorIteratorBase&, at::native::GeluType)::{lambda(c10::BFloat16)#1}>"
)
CAST = (
    "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda("
    "at::TensorIteratorBase&)::{lambda(float)#1}, at::native::memory::LoadWithCast<1>>"
)


def recorded(*launches, generation="3.13"):
    """A recording of launches: the text of the range around each call, the kernel, and its µs."""
    made = Recording(generation=generation)
    for i, (text, kernel, us) in enumerate(launches):
        begin = 100 * US * i
        made.nvtx(text.replace("{}", str(i + 1)), begin, begin + 50 * US)
        made.api("cudaLaunchKernel_v7000", begin + US, begin + 2 * US, correlationId=100 + i)
        start = 10_000 * US + 1_000 * US * i
        made.kernel(kernel, start, start + us * US, correlationId=100 + i)
    return made


def facts_of(tmp_path, made, *statements):
    path = change(made.write(tmp_path / "made.sqlite"), *statements)
    return build_facts(open_trace(path, tmp_path / "cache"))


def rows_of(tmp_path, *launches):
    return account(facts_of(tmp_path, recorded(*launches))).rows


def test_sizes_that_pytorch_writes_are_inputs_of_operators(tmp_path):
    rows = rows_of(tmp_path, (MM, BF16_GEMM, 300), (GELU, BF16_GELU, 100), (MM, BF16_GEMM, 300))
    product, gelu = rows.set_index("operator").loc[["aten::mm", "aten::gelu"]].to_dict("records")
    # Texts with other numbers of operators are the same work.
    assert (product["calls"], product["launches"]) == (2, 2)
    assert json.loads(product["shapes"]) == [[4096, 4096], [4096, 4096]]
    assert (product["type"], product["flop_each"]) == ("bf16", 2 * 4096**3)
    assert product["bytes_each"] == 3 * 2 * 4096**2
    assert product["roof_ns"] == 2 * round(2 * 4096**3 / 989.4e12 * 1e9)
    assert (gelu["class"], gelu["bytes_each"]) == ("elementwise", 2 * 2 * 4096**2)
    assert (rows["not_modelled_ns"] == 0).all()


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        (GELU, "my_gelu"),  # no type
        ("aten::copy_, op_id = {}, sizes = [[4096, 4096], [4096, 4096], []]", CAST),
        ("aten::gelu, op_id = {}", BF16_GELU),  # no sizes
        (GELU.replace("4096]", "4" * 30 + "]"), BF16_GELU),
    ],
)
def test_what_the_texts_do_not_tell_is_not_modelled(tmp_path, text, kernel):
    row = rows_of(tmp_path, (text, kernel, 100)).iloc[0]
    assert row["operator"] == text.split(",")[0]
    assert row["not_modelled_ns"] == row["busy_ns"] == 100 * US


def test_a_norm_goes_over_as_much_as_its_weight_has(tmp_path):
    text = "aten::native_layer_norm, op_id = {}, sizes = [[64, 256], [], [256], [256], []]"
    row = rows_of(tmp_path, (text, "vectorized_layer_norm_kernel<c10::BFloat16, float>", 9)).iloc[0]
    assert row["bytes_each"] == 2 * (2 * 64 * 256 + 2 * 256) + 2 * 64 * 4


def test_an_operator_on_another_thread_is_not_around_the_launch(tmp_path):
    made = recorded((GELU, BF16_GELU, 100))
    other = made.thread(made.pid, 7, "other")
    made.nvtx(MM.format(9), 0, 50 * US, globalTid=other)
    assert account(facts_of(tmp_path, made)).rows["operator"].tolist() == ["aten::gelu"]


def test_a_module_of_an_engine_is_a_product_with_its_weight(tmp_path):
    text = LAYER.format(0)
    row = rows_of(tmp_path, (text, BF16_GEMM, 400), (LAYER.format(1), BF16_GEMM, 400)).iloc[0]
    assert (row["operator"], row["class"], row["calls"]) == ("module::linear", "matmul", 2)
    assert row["flop_each"] == 2 * 2048 * 14336 * 4096
    assert row["bytes_each"] == 2 * (2048 * 14336 + 4096 * 14336 + 2048 * 4096)
    assert ranges_of(facts_of(tmp_path, recorded((text, BF16_GEMM, 1)))).texts == (
        "model.layers.0.mlp.down_proj",
    )


def test_an_8_bit_module_reads_and_writes_16_bits(tmp_path):
    made = Recording()
    made.nvtx(LAYER.format(0), 0, 50 * US)
    names = ("per_token_group_quant_8bit_kernel", "sm90_fp8_gemm_1d2d_impl")
    for i, name in enumerate((*names, "flash_fwd_kernel")):
        made.api("cudaLaunchKernel_v7000", (2 * i + 1) * US, (2 * i + 2) * US, correlationId=i + 1)
        made.kernel(name, 100 * i * US, (100 * i + (20, 90, 50)[i]) * US, correlationId=i + 1)
    rows = account(facts_of(tmp_path, made)).rows
    module = rows[rows["operator"] == "module::linear"].iloc[0]
    assert (module["launches"], module["type"]) == (2, "fp8")
    assert module["bytes_each"] == 2 * (2048 * 14336 + 2048 * 4096) + 4096 * 14336
    # Attention inside is no part of the product.
    assert rows[rows["operator"] == ""]["class"].tolist() == ["attention"]


@pytest.mark.parametrize(
    ("text", "operator", "shapes"),
    [
        (
            "{'Module': 'norm', 'TrainableParams': {'weight': [64]}, 'Inputs': [[8, 64], [8, 64]]}",
            "module::norm",
            [[8, 64], [64], [8, 64]],
        ),
        (
            '{"Module": "embed_tokens", "TrainableParams": {"weight": [99, 64]}, "Inputs": [[8]]}',
            "module::embedding",
            [[8], [99, 64]],
        ),
        (
            "{'mod': 'torch', 'op': 'mm', 'args': [{'name': '', 'type': 'tensor', 'shape': (2, 3), "
            "'dtype': 'float16'}, {'name': '', 'type': 'tensor', 'shape': (3,), 'dtype': 'half'}]}",
            "aten::mm",
            [[2, 3], [3]],
        ),
        ("aten::cat, op_id = 3, sizes = [[2, 3], [4, 3], []]", "aten::cat", [[[2, 3], [4, 3]], []]),
        (
            "_C::silu_and_mul, op_id = 3, sizes = [[2, 3], [2, 6]]",
            "_C::silu_and_mul",
            [[2, 3], [2, 6]],
        ),
    ],
)
def test_texts_of_libraries_are_read(text, operator, shapes):
    _, (said,) = read_range_texts([text])
    assert (said.operator, json.loads(said.shapes)) == (operator, shapes)


@pytest.mark.parametrize(
    "text",
    [
        "{'Module': 'act', 'TrainableParams': {}, 'Inputs': [[8, 64]]}",
        "{'Module': 'moe', 'TrainableParams': {'w13': [8, 64, 64]}, 'Inputs': [[8, 64]]}",
        "{'Module': 'x', 'TrainableParams': {'weight': [[1], 64]}, 'Inputs': [['a', 64]]}",
        "{'Module': 5, 'Inputs': 3}",
        "{__import__('os').system('true')}",
        "step 12",
        "",
        "{" * 100_000,
        "{'Module': 'a', 'Inputs': " + "[" * 10_000 + "]" * 10_000 + "}",
        "aten::mm, sizes = " + "[" * 200_000,
        "aten::_foreach_add_, sizes = [[3], [3], [4], [4]]",
        "my range, op_id = 5, sizes = [[1]]",
    ],
)
def test_other_texts_tell_no_shapes_and_take_no_time(text):
    began = time.perf_counter()
    _, (said,) = read_range_texts([text])
    assert not said.shapes
    assert time.perf_counter() - began < 0.5


def test_texts_that_say_the_same_have_one_answer():
    texts = [MM.format(1), "step 1", MM.format(2), "aten::mm, op_id = 5", "aten::mm"]
    codes, answers = read_range_texts(texts)
    assert codes.tolist() == [0, 1, 0, 2, 2]
    assert [answer.operator for answer in answers] == ["aten::mm", "", "aten::mm"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (MM.format(1), ("aten::mm", True)),
        ("AddmmBackward0, seq = 12, op_id = 7", ("AddmmBackward0", True)),
        ("_C::rms_norm, op_id = 7", ("_C::rms_norm", True)),
        ("forward, op_id = 7", ("forward", False)),
        (LAYER.format(3), ("model.layers.3.mlp.down_proj", False)),
        ("{ForeignNode[out_masks]}", ("{ForeignNode[out_masks]}", False)),
        ("std::sort", ("std::sort", False)),
    ],
)
def test_a_reader_sees_names_without_numbers(text, name):
    assert range_name(text) == name


NODES = (
    "CREATE TABLE CUDA_GRAPH_NODE_EVENTS (start INT, end INT, nameId INT, eventClass INT, "
    "globalTid INT, graphNodeId INT, originalGraphNodeId INT)"
)


@pytest.mark.parametrize("cloned", [False, True])
def test_a_replayed_kernel_belongs_to_what_captured_its_node(tmp_path, cloned):
    made = Recording()
    made.nvtx(MM.format(1), 0, 50 * US)
    made.nvtx("replay", 5_000 * US, 9_000 * US)
    made.nvtx(GELU.format(2), 6_000 * US, 6_500 * US)  # is around the replay by chance
    node = 12 if cloned else 11
    for i in range(2):
        begin = (6_100 + 100 * i) * US
        made.api("cudaGraphLaunch_v10000", begin, begin + US, correlationId=5 + i)
        where = {"correlationId": 5 + i, "graphNodeId": node}
        made.kernel(BF16_GEMM, (7_000 + 1_000 * i) * US, (7_300 + 1_000 * i) * US, **where)
    created = [(10 * US, 11, 0), *([(60 * US, 12, 11)] if cloned else [])]
    rows = [f"({t}, {t + US}, NULL, 0, {made.tid}, {n}, {o})" for t, n, o in created]
    insert = "INSERT INTO CUDA_GRAPH_NODE_EVENTS VALUES " + ", ".join(rows)
    facts = facts_of(tmp_path, made, NODES, insert)
    row = account(facts).rows.iloc[0]
    assert (row["operator"], row["calls"], row["launches"]) == ("aten::mm", 2, 2)
    assert row["roof_ns"] == 2 * round(2 * 4096**3 / 989.4e12 * 1e9)
    assert operators_of(facts).texts == ("aten::mm", "aten::gelu")


def clocked(tmp_path, mhz, *, name="GPC Clock Frequency [MHz]", times=(10_050, 10_100, 10_250)):
    """A product of 300 µs, with samples of the clock at these µs, and lower ones while idle."""
    made = recorded((MM, BF16_GEMM, 300))
    moments = [us * US for us in (5_000, 6_000, *times, *(t + 1 for t in times))]
    values = np.array([[345], [345], *[[mhz]] * 2 * len(times)])
    made.metrics([name], moments, values)
    return facts_of(tmp_path, made)


@pytest.mark.parametrize(("mhz", "share"), [(915, 0.5), (1_830, 1), (1_980, 1_980 / 1_830), (9, 1)])
def test_the_roof_is_that_of_the_recorded_clock(tmp_path, mhz, share):
    facts = clocked(tmp_path, mhz)
    rows = account(facts).rows
    assert rows["roof_ns"].iloc[0] == min(round(2 * 4096**3 / (share * 989.4e12) * 1e9), 300 * US)


def test_a_clock_is_that_while_kernels_ran(tmp_path):
    window = Window(start_ns=0, end_ns=20_000 * US)
    assert recorded_clocks(clocked(tmp_path, 1_200), window) == {0: 1.2e9}
    hertz = clocked(tmp_path, 1_200_000_000, name="GPC Clock Frequency")
    assert recorded_clocks(hertz, window) == {0: 1.2e9}
    assert recorded_clocks(clocked(tmp_path, 1_200, times=(10_050, 10_100)), window) == {}
    assert recorded_clocks(clocked(tmp_path, 1_200, name="SYS Clock Frequency"), window) == {}


def test_the_sentence_says_the_clock(tmp_path):
    facts = clocked(tmp_path, 1_300)
    sentence = busy_sentence(account(facts), 300 * US)
    assert "peaks at the 1,300 MHz at which the GPU ran; its data sheet's are for 1,830" in sentence
    assert "MHz" not in busy_sentence(account(clocked(tmp_path, 1_800)), 300 * US)
    own = account(facts, peaks=parse_peaks("bf16=989.4e12"))
    assert "MHz" not in busy_sentence(own, 300 * US)
