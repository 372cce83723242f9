"""The kernel time by module or range: forward, backward, layers that repeat, exact sums."""

import pytest

from analyzers.analysis import investigate
from analyzers.facts.facts import build_facts
from analyzers.finding import Row
from analyzers.work.account import work_of_launches
from analyzers.work.program_tree import MODULES, RANGES, program_trees
from jobs import api
from library import program_trees as kept_trees
from tests.test_work_account import ADD, GEMM, GPU, PRODUCT, SUM, launched, op
from tests.torch_traces import opener, trace_bytes, x
from tests.view_fakes import library

OTHER_THREAD = 702


@pytest.fixture
def opened(tmp_path):
    return opener(tmp_path)


def module(name, start, duration):
    return x("python_function", f"nn.Module: {name}", start, duration)


def layered(layers=2):
    """A model of layers with two products each, the second of which has a backward pass."""
    at, events, number = 0, [], 0
    events.append(module("Model_0", 0, 100 * layers))
    for layer in range(layers):
        at = 100 * layer
        events.append(module(f"Layer_{layer}", at, 90))
        for place in (0, 1):
            number += 1
            begin = at + 40 * place
            events.append(module(f"Linear_{2 * layer + place}", begin + 1, 30))
            numbered = {**PRODUCT, "Sequence number": number, "Fwd thread id": 0}
            events.append(op("aten::mm", begin + 2, 20, numbered))
            events += launched(number, begin + 3, 10_000 + 1_000 * number, 200 + layer, GEMM)
    behind = {**PRODUCT, "Sequence number": number, "Fwd thread id": 1}
    events.append(op("MmBackward0", 1_100, 20, behind, tid=OTHER_THREAD))
    events += launched(90, 1_103, 100_000, 500, GEMM, tid=OTHER_THREAD)
    events.append(op("aten::add", 1_200, 9, SUM))  # outside of any module
    events += launched(91, 1_201, 120_000, 50, ADD)
    return events


def trees_of(trace):
    facts = build_facts(trace)
    analysis = investigate(trace, "", facts)
    work = work_of_launches(facts, analysis.ledger.window)
    return {tree.kind: tree.nodes for tree in program_trees(facts, work)}, analysis


def outline(nodes):
    return [(n.depth, n.name, n.alike, n.busy_ns // 1_000) for n in nodes]


def test_modules_have_the_time_of_all_inside_them_and_of_their_backward_pass(opened):
    trees, analysis = trees_of(opened(layered(), deviceProperties=[GPU]))
    assert outline(trees[MODULES]) == [
        (0, "Model", 1, 1_302),
        (1, "Layer 2", 1, 902),  # with the 500 µs of the backward pass
        (2, "Linear 2", 1, 701),
        (2, "Linear 1", 1, 201),
        (1, "Layer 1", 1, 400),
        (2, "Linear 1", 1, 200),
        (2, "Linear 2", 1, 200),
        (0, "", 1, 50),
    ]
    outermost = [node for node in trees[MODULES] if node.depth == 0]
    assert sum(n.busy_ns for n in outermost) == analysis.report.devices[0].rows[Row.KERNEL]
    for node in trees[MODULES]:
        for part in node.parts:
            rest = part.roof_ns + part.below_roof_ns + part.not_modelled_ns
            assert rest == part.busy_ns
    longest = trees[MODULES][1]
    assert longest.end_ns - longest.start_ns == 500_000


@pytest.mark.parametrize(("layers", "names"), [(8, 8), (9, 1)])
def test_many_layers_that_differ_in_a_number_only_are_one_node(opened, layers, names):
    trees, _ = trees_of(opened(layered(layers), deviceProperties=[GPU]))
    inside = [node for node in trees[MODULES] if node.depth == 1]
    assert len(inside) == names
    assert {node.alike for node in inside} == ({1} if names > 1 else {layers})
    assert {node.name for node in trees[MODULES] if node.depth == 2} == {"Linear 1", "Linear 2"}


def test_ranges_know_the_work_of_threads_that_their_own_waits_for(opened):
    events = [x("user_annotation", f"step {n}", 1_000 * n, 900) for n in range(3)]
    events.append(x("user_annotation", "loss", 2_100, 700))
    events += launched(1, 10, 5_000, 100, GEMM)
    events += launched(2, 2_200, 6_000, 30, ADD, tid=OTHER_THREAD)
    trees, _ = trees_of(opened(events, deviceProperties=[GPU]))
    assert MODULES not in trees
    assert outline(trees[RANGES]) == [(0, "step", 2, 130), (1, "loss", 1, 30)]


def test_trees_are_made_by_a_child_once_and_again_when_damaged(tmp_path):
    path = tmp_path / "layers.json"
    path.write_bytes(trace_bytes(layered(), deviceProperties=[GPU]))
    with library(tmp_path / "data"):
        recording = api.open_recording(path)
        assert kept_trees.load(recording.stored) is None
        made = api.program_trees(recording.trace, recording.stored, "")
        assert made[0].kind == MODULES
        assert kept_trees.load(recording.stored) == made
        kept_trees.place_of(recording.stored).write_text("{}")
        assert kept_trees.load(recording.stored) is None
