"""What cannot be compared as it is says what can be asked instead."""

import dataclasses

import numpy as np
import pytest

from analyzers.compare.compare import compare
from analyzers.compare.side import GRAPH_NAME
from analyzers.compare.types import ComparisonVerdict
from tests.compare_scenarios import GEMM, side


@pytest.mark.parametrize(
    ("clocks", "sizes", "is_one_job"),
    [
        ((1_000, 1_000), ("", ""), True),
        ((1_000, 1_000 + 900_000), ("2", "2"), True),  # the last moment of the first
        ((1_000, 1_001 + 900_000), ("2", "2"), False),  # a later run
        (("", 1_000), ("2", "2"), True),
        (("", ""), ("2", "4"), False),
        (("", ""), ("", ""), False),
    ],
)
def test_ranks_of_one_job_are_no_change_and_offered_as_the_job(clocks, sizes, is_one_job):
    sides = []
    for rank, (clock, size) in enumerate(zip(clocks, sizes, strict=True)):
        source = {"rank": str(rank), "world_size": size, "start_utc_ns": str(clock)}
        plain = side([100.0 - rank] * 9, name=f"rank{rank}")
        sides.append(dataclasses.replace(plain, source={**plain.source, **source}))
    answer = compare(sides[:1], sides[1:])
    assert (answer.verdict is ComparisonVerdict.NOT_COMPARABLE) is is_one_job
    if is_one_job:
        assert "ranks 0 and 1 of one job" in answer.sentence
        assert "Open them as that job" in answer.sentence
    assert compare(sides[:1], sides[1:], anyway=True).delta is not None


@pytest.mark.parametrize(("kept_us", "is_said"), [(25, False), (24, True)])
def test_few_kernels_in_common_stand_in_the_first_sentence(kept_us, is_said):
    common, other = ("common", GEMM[1]), ("other", GEMM[1])
    base = side([100.0] * 9, kernels={common: 75_000})
    kernels = {common: kept_us * 1_000, other: (100 - kept_us) * 1_000}
    new = side([50.0] * 9, name="new", kernels=kernels)
    words = ", with 24 % of new's kernel time in kernels that both sides have: an iteration took"
    first = compare([base], [new]).sentence.split(". ")[0]
    assert (words in first) is is_said


def test_kernels_within_graphs_are_not_called_other_kernels():
    base = side([100.0] * 9, kernels={GEMM: 75_000}, loop="step")
    in_graph = {(GRAPH_NAME, GEMM[1]): 75_000, GEMM: 5_000}
    new = side([50.0] * 9, name="new", kernels=in_graph)
    assert "kernels that both sides have" not in compare([base], [new]).sentence


def test_a_range_of_both_sides_is_offered_with_the_command():
    ranges = {"epoch": (1, 900_000), "step": (9, 800_000), "load data": (9, 90_000)}
    base = side([100.0] * 9, ranges=ranges)
    new = side([50.0] * 9, name="my run.sqlite", loop="", ranges={**ranges, "step": (5, 700_000)})
    answer = compare([base], [new])
    assert answer.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert (
        "'step' (9 and 5 times); to compare one of it with another: whyslow compare run.sqlite "
        "'my run.sqlite' --iterations nvtx:step." in answer.sentence
    )
    alone = dataclasses.replace(new, ranges={"step": (1, 700_000)})
    assert "--iterations nvtx:NAME" in compare([base], [alone]).sentence


def test_a_range_is_offered_where_windows_of_other_work_are_compared():
    ranges = {"load data": (9, 90_000)}
    base = side([100.0], loop="", ranges=ranges, counts={"HtoD bytes": np.array([1.0])})
    new = side([50.0], name="new", loop="", ranges=ranges, kernels={GEMM: 1, ("b", GEMM[1]): 9})
    (window,) = [d for d in compare([base], [new]).comparability if d.what == "window"]
    assert window.sentence.endswith("compare run.sqlite new --iterations 'nvtx:load data'.")


@pytest.mark.parametrize(
    "changes",
    [
        {"gpu": "A100"},
        {"source": {**side([1.0]).source, "format": "torch-json", "name": "t", "sha256": "t"}},
        {"summary": {"pair": "other", "device": "cuda"}},
        {"summary": {"pair": "p", "device": "cpu"}},
        {"operators": {("conv", "[64]"): 5.0, ("relu", "[64]"): 5.0}},
        {"kernels": {("other", GEMM[1]): 1_000}, "operators": {}},
    ],
)
def test_whoever_knows_better_may_set_a_block_aside(changes):
    """The GPU, the profiler, the workload, its device, the shapes of inputs, the kernels."""
    summary = {"pair": "p", "device": "cuda"}
    operators = {("conv", "[32]"): 5.0, ("relu", "[32]"): 5.0} if "kernels" not in changes else {}
    pair = None if "kernels" in changes else summary
    base = side([100.0] * 9, summary=pair or {}, operators=operators)
    new = side(
        [50.0] * 9,
        **{"name": "new", "summary": pair or {}, "operators": operators, **changes},
    )
    refused = compare([base], [new])
    assert refused.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert "--anyway" in refused.sentence
    assert compare([base], [new], anyway=True).delta is not None
