"""Backward kernels are named by the line of the program whose forward pass they belong to."""

import numpy as np
import pandas as pd
import pytest

from analyzers.facts.backward import backward_operators
from analyzers.facts.facts import build_facts
from analyzers.losses.culprits import of_launches
from tests.torch_traces import GPU, TID, call, kernel, opener, x
from tests.traces_in_memory import account

AUTOGRAD = 900
STEPS, STEP_US = 4, 2_000
ATTENTION, MLP = "model.py(7): attention", "model.py(9): mlp"


def forward_operator(layer, step, tid=TID):
    """An operator that autograd records, after one of the same number that it does not."""
    at = STEP_US * step + 100 * layer
    marks = {"Sequence number": 2 * step + layer, "Fwd thread id": 0}
    events = [
        x("cpu_op", "aten::detach", at + 2, 4, tid=tid, **marks),
        x("cpu_op", "aten::addmm", at + 20, 40, tid=tid, **marks),
    ]
    correlation = 10 * step + layer + 1
    return [*events, call(at + 30, correlation, tid=tid), kernel(at + 40, correlation, dur=20)]


def backward_operator(layer, step):
    at = STEP_US * step + 1_000 - 300 * layer  # the last layer comes first
    marks = {"Sequence number": 2 * step + layer, "Fwd thread id": 1}
    name = "autograd::engine::evaluate_function: AddmmBackward0"
    events = [
        x("cpu_op", name, at, 80, tid=AUTOGRAD, **marks),
        x("cpu_op", "AddmmBackward0", at + 2, 70, tid=AUTOGRAD, **marks),
        x("cpu_op", "aten::mm", at + 4, 60, tid=AUTOGRAD),
    ]
    number = 10 * step + layer + 5
    return [*events, call(at + 50, number, tid=AUTOGRAD), kernel(at + 60, number, dur=20)]


def training(forward_tid=TID):
    """Steps of two layers; what autograd does not record of the second runs in the first one."""
    events = []
    for step in range(STEPS):
        at = STEP_US * step
        events += [x("python_function", ATTENTION, at, 108, tid=forward_tid)]
        events += [x("python_function", MLP, at + 110, 80, tid=forward_tid)]
        for layer in (0, 1):
            events += forward_operator(layer, step, forward_tid) + backward_operator(layer, step)
    return events


@pytest.fixture
def opened(tmp_path):
    open_trace = opener(tmp_path)
    return lambda events: build_facts(open_trace(events, deviceProperties=[GPU]))


def culprits_of(facts, place):
    """Return what the kernels came with that are in one place of each step, by their begin."""
    rows = np.arange(place, len(facts.launches), 4)
    losses = pd.DataFrame({"launch": rows, "ns": np.full(len(rows), 1_000)})
    return of_launches(facts, account(facts), losses)


def test_a_backward_kernel_is_named_by_the_line_of_its_forward_operator(opened):
    facts = opened(training())
    mlp, attention = culprits_of(facts, 2), culprits_of(facts, 3)
    assert attention.lines == [("the backward of attention (model.py:7)", STEPS * 1_000)]
    assert mlp.lines == [("the backward of mlp (model.py:9)", STEPS * 1_000)]
    assert mlp.origin == "mostly in aten::mm, the backward of mlp (model.py:9)"
    assert mlp.evidence()[1].name == "the backward of mlp (model.py:9), 100 % of it"


def test_a_forward_kernel_is_named_by_the_line_that_called_it(opened):
    assert culprits_of(opened(training()), 1).origin == (
        "mostly in aten::addmm, called from mlp (model.py:9)"
    )


def test_a_line_on_the_stack_of_the_backward_thread_comes_first(opened):
    """What a checkpoint computes again runs on autograd's thread, with Python below it."""
    recomputed = [
        x("python_function", ATTENTION, STEP_US * step + 720, 60, tid=AUTOGRAD)
        for step in range(STEPS)
    ]
    mlp = culprits_of(opened([*training(), *recomputed]), 2)
    assert mlp.lines == [("called from attention (model.py:7)", STEPS * 1_000)]


def test_a_number_that_two_threads_counted_names_neither(opened):
    other = [e for step in range(STEPS) for e in forward_operator(1, step, tid=TID + 1)]
    for event in other:
        event["args"] |= {"correlation": event["args"].get("correlation", 0) + 1_000}
    facts = opened([*training(), *[e for e in other if e["cat"] != "kernel"]])
    assert len(facts.launches) == 4 * STEPS
    assert culprits_of(facts, 2).lines == []
    assert culprits_of(facts, 3).lines == [("the backward of attention (model.py:7)", 4_000)]


def test_a_backward_operator_without_its_forward_one_names_nothing(opened):
    backward_only = [e for e in training() if e["args"].get("Fwd thread id") != 0]
    facts = opened(backward_only)
    assert not len(backward_operators(facts).spans)
    assert culprits_of(facts, 2).lines == []


def test_a_recording_without_numbers_has_no_backward_operators(opened):
    plain = [e for e in training() if e["cat"] != "cpu_op"]
    assert not len(backward_operators(opened(plain)).spans)


def with_modules():
    """The same steps, each layer called as a module of its own, whose numbers only count."""
    events = training()
    for step in range(STEPS):
        at = STEP_US * step
        events += [x("python_function", "nn.Module: Attention_3", at + 1, 106)]
        events += [x("python_function", f"nn.Module: Linear_{step}", at + 111, 78)]
    return events


def test_a_kernel_is_in_the_module_that_called_it_or_whose_forward_pass_it_follows(opened):
    facts = opened(with_modules())
    for place, module in ((0, "Attention"), (1, "Linear"), (2, "Linear"), (3, "Attention")):
        assert culprits_of(facts, place).modules == [(module, STEPS * 1_000)]
    mlp = culprits_of(facts, 2)
    assert (
        mlp.origin == "mostly in aten::mm, the backward of mlp (model.py:9), in the module Linear"
    )
    assert "in the module Linear, 100 % of it" in [e.name for e in mlp.evidence()]


def test_without_modules_on_the_stack_none_is_named(opened):
    assert culprits_of(opened(training()), 0).modules == []
