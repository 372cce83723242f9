"""No prediction is faster than what must still run, one operation after the other."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from analyzers.facts.facts import KERNEL, build_facts
from analyzers.facts.windows import choose_window
from analyzers.whatif.moments import Moments
from analyzers.whatif.whatif import explore
from benchmarks.simulated import families
from benchmarks.simulated.cases import Maker
from collectors import open_trace
from tests.whatif_helpers import facts_of, whole

SAMPLES = sorted((Path(__file__).parents[1] / "traces" / "synthetic").glob("*.sqlite"))
SHORTENS_KERNELS = "kernel"  # how changes begin that make kernels themselves faster


def busiest_stream_ns(facts, window):
    """Sum the kernels of each stream that lie in the window, one by one; return the largest."""
    busy = Counter()
    for launch in facts.launches.itertuples():
        inside = launch.start_ns >= window.start_ns and launch.end_ns <= window.end_ns
        if launch.kind == KERNEL and inside:
            place = launch.process_index, launch.device, launch.stream
            busy[place] += launch.end_ns - launch.start_ns
    return max(busy.values(), default=0)


def assert_above_floor(facts, window):
    answer = explore(facts, window)
    floor = busiest_stream_ns(facts, window)
    for prediction in answer.predictions:
        if not prediction.change.startswith(SHORTENS_KERNELS):
            assert prediction.low_ns >= floor, prediction.change
        assert prediction.low_ns <= prediction.high_ns <= prediction.measured_ns
    return answer.predictions


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_no_prediction_of_a_sample_beats_its_busiest_stream(path, tmp_path):
    facts = build_facts(open_trace(path, tmp_path))
    assert_above_floor(facts, choose_window(facts, "", ()))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "family",
    ["sync_every_step", "launch_late_host", "host_input", "host_pauses", "memory_in_the_loop"],
)
def test_no_prediction_of_a_program_beats_its_busiest_stream(family, seed, tmp_path):
    facts = facts_of(tmp_path, getattr(families, family)(Maker(seed)).program)
    assert assert_above_floor(facts, whole(facts))


@pytest.mark.parametrize("times", [0.5, 1, 2])
def test_the_floor_is_that_of_the_changed_program(times, tmp_path):
    from analyzers.whatif.build import build_graph

    facts = facts_of(tmp_path, families.host_pauses(Maker(3)).program)
    window = whole(facts)
    graph = build_graph(facts, window.start_ns)
    operations = graph.operations
    slower = replace(operations, duration=(operations.duration * times).astype("int64"))
    changed = replace(graph, operations=slower)
    floor = Moments(graph, window).floor_ns(changed)
    assert floor == pytest.approx(times * Moments(graph, window).floor_ns(graph), rel=1e-3)
