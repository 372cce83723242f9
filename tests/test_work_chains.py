"""Chains that one kernel could carry out: what it would not move, and what is no chain."""

import numpy as np
import pytest

from analyzers.work.chains import fusible_chains
from tests.test_work_account import ADD, GEMM, GPU, PRODUCT, facts_of, launched, op, work_of
from tests.torch_traces import opener, x

N = 4096 * 4096
HALVES = {"Input Dims": [[4096, 4096]], "Input type": ["c10::Half"]}
PAIR = {"Input Dims": [[4096, 4096]] * 2, "Input type": ["c10::Half"] * 2}
GELU, ADDED, SCALED = ("aten::gelu", HALVES), ("aten::add", PAIR), ("aten::mul", HALVES)
NORM = {"Input Dims": [[4096, 4096], [], [4096], [4096], [], []]}
NORM |= {"Input type": ["c10::Half", "ScalarList", "c10::Half", "c10::Half", "Scalar", "Scalar"]}
NORM |= {"Concrete Inputs": ["", "[4096]", "", "", "1e-05", ""]}
NORMED = ("aten::native_layer_norm", NORM)


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


def chains_of(opened, *calls, us=50, **where):
    """Return the chains of operators that run back to back, each in one kernel."""
    events = []
    for number, (name, inputs, *more) in enumerate(calls, 1):
        kernel = GEMM if name == "aten::mm" else ADD
        events.append(op(name, 20 * number, 10, inputs))
        stream = more[0] if more else 7
        events.append(
            launched(number, 20 * number + 2, 1_000 + us * number, us, kernel, stream=stream)
        )
    facts = facts_of(opened, *events, **where)
    return fusible_chains(facts, work_of(facts))


def test_what_lies_between_is_neither_written_nor_read(opened):
    chain = chains_of(opened, ADDED, GELU).iloc[0]
    assert (chain["operators"], chain["count"]) == (("aten::add", "aten::gelu"), 1)
    assert (chain["device"], chain["stream"], chain["busy_ns"]) == (0, 7, 100_000)
    assert chain["bytes"] == (3 + 2) * 2 * N
    # Read once less for sure; written once less only when nobody else needs it.
    assert (chain["spared_bytes_low"], chain["spared_bytes_high"]) == (2 * N, 4 * N)
    assert chain["after_high_ns"] == pytest.approx(50_000 + 25_000)
    assert chain["after_low_ns"] == pytest.approx(50_000 * 2 / 3 + 25_000)
    assert chain["least_ns"] == pytest.approx(5 * 2 * N / 3.35e12 * 1e9)
    assert chain["least_after_ns"] == pytest.approx(3 * 2 * N / 3.35e12 * 1e9)
    assert chain["launches"].tolist() == [[0, 1]]


def test_what_is_overwritten_is_needed_by_nobody_else(opened):
    chain = chains_of(opened, ADDED, ("aten::relu_", HALVES)).iloc[0]
    assert chain["spared_bytes_low"] == chain["spared_bytes_high"] == 4 * N


def test_a_member_in_the_middle_saves_both_sides(opened):
    chain = chains_of(opened, ADDED, GELU, SCALED).iloc[0]
    assert len(chain["operators"]) == 3
    assert (chain["spared_bytes_low"], chain["spared_bytes_high"]) == (4 * N, 8 * N)


def test_a_norm_reads_and_is_read(opened):
    chain = chains_of(opened, ADDED, NORMED, GELU).iloc[0]
    assert chain["operators"] == ("aten::add", "aten::native_layer_norm", "aten::gelu")


def test_chains_that_are_alike_are_one_row(opened):
    product = ("aten::mm", PRODUCT)
    table = chains_of(opened, ADDED, GELU, product, ADDED, GELU, product, SCALED, GELU)
    assert table["count"].tolist() == [2, 1]
    assert table["launches"].iloc[0].tolist() == [[0, 1], [3, 4]]
    assert table["busy_ns"].tolist() == [200_000, 100_000]


def test_streams_are_chains_of_their_own(opened):
    table = chains_of(opened, (*ADDED, 7), (*GELU, 8), (*SCALED, 7), (*SCALED, 8))
    assert sorted(zip(table["stream"], table["operators"], strict=True)) == [
        (7, ("aten::add", "aten::mul")),
        (8, ("aten::gelu", "aten::mul")),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ADDED, ("aten::gelu", {"Input Dims": [[4096, 4095]], "Input type": ["c10::Half"]})),
        (ADDED, ("aten::gelu", {"Input Dims": [[4096, 4096]], "Input type": ["float"]})),
        (("aten::add_", PAIR), ("aten::add_", PAIR)),  # gradient after gradient
        (("aten::zero_", HALVES), ADDED),
        (("aten::sum", {"Input Dims": [[4096, 4096], []], "Input type": ["c10::Half", ""]}), GELU),
        (ADDED, ("aten::mm", PRODUCT)),
        (("aten::lt", PAIR), GELU),  # truth values are not what is read
    ],
)
def test_no_link_is_claimed(opened, first, second):
    assert not len(chains_of(opened, first, second))


def test_a_copy_between_two_kernels_is_no_chain(opened):
    events = [op("aten::add", 0, 10, PAIR), launched(1, 2, 1_000, 50, ADD)]
    events += [op("aten::gelu", 40, 10, HALVES), launched(3, 42, 1_060, 50, ADD)]
    where = {"device": 0, "stream": 7, "correlation": 2, "bytes": 4}
    events += [x("cuda_runtime", "cudaMemcpyAsync", 30, 2, correlation=2)]
    copied = x("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 1_052, 2, pid=0, tid=7, **where)
    facts = facts_of(opened, *events)
    assert len(fusible_chains(facts, work_of(facts))) == 1
    facts = facts_of(opened, *events, copied)
    assert not len(fusible_chains(facts, work_of(facts)))


@pytest.mark.parametrize("around", ["Optimizer.step#Adam.step", "AccumulateGrad"])
def test_updates_of_tensors_one_after_the_other_are_no_chain(opened, around):
    kind = "user_annotation" if "#" in around else "cpu_op"
    name = around if "#" in around else f"torch::autograd::{around}"
    events = [op("aten::add", 0, 10, PAIR), launched(1, 2, 1_000, 50, ADD)]
    events += [op("aten::gelu", 40, 10, HALVES), launched(2, 42, 1_050, 50, ADD)]
    facts = facts_of(opened, *events, x(kind, name, 0, 60))
    assert not len(fusible_chains(facts, work_of(facts)))


def test_a_long_chain_is_cut(opened):
    table = chains_of(opened, *[SCALED] * 20)
    assert sorted(len(operators) for operators in table["operators"]) == [4, 16]


def test_a_device_without_a_known_roof_has_chains_all_the_same(opened, monkeypatch):
    monkeypatch.setitem(GPU, "name", "unheard of")
    chain = chains_of(opened, ADDED, GELU).iloc[0]
    assert (chain["busy_ns"], chain["spared_bytes_high"]) == (100_000, 4 * N)
    assert np.isnan(chain["least_ns"])
    assert np.isnan(chain["least_after_ns"])


def test_nothing_without_operators(opened):
    facts = facts_of(opened, launched(1, 2, 1_000, 50, ADD), launched(2, 12, 1_050, 50, ADD))
    assert not len(fusible_chains(facts, work_of(facts)))
