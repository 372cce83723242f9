"""What an iteration is can be said, and comparisons use what repeats on both sides."""

import numpy as np
import pytest

from analyzers import analyze
from analyzers.compare.measure import measure
from analyzers.compare.types import ComparisonVerdict
from analyzers.facts.facts import WindowError, build_facts
from analyzers.facts.loop_choice import chosen_iterations
from analyzers.facts.window_request import parse_request, request_text
from cli.options import parse
from library.comparisons import compare_recordings
from tests.traces_in_memory import make_trace

US = 1_000


def launches(folder, names, *, kernel_us=10, name="trace"):
    """Kernels of these names, one every 20 µs and longer by up to 2 % at random."""
    folder = folder / name
    folder.mkdir()
    noise = np.random.default_rng(len(names) + kernel_us).integers(
        0, kernel_us * 20 + 1, len(names)
    )
    return make_trace(
        folder,
        kernels={
            "start_us": [2 * kernel_us * n for n in range(len(names))],
            "duration_us": (kernel_us + noise / 1_000).tolist(),
            "name": list(names),
        },
    )


@pytest.fixture
def warm(tmp_path):
    """Two launches of warm-up, then three kernels in turn, twelve times."""
    return build_facts(launches(tmp_path, [*"wx", *"abc" * 12]))


@pytest.mark.parametrize(
    ("choice", "count", "first_us"),
    [
        ("", 12, 40),
        ("auto", 12, 40),
        ("kernel:b", 12, 60),
        ("period:3", 12, 40),
        ("period:6", 6, 40),
        ("none", 0, 0),
    ],
)
def test_what_an_iteration_is_can_be_said(warm, choice, count, first_us):
    iterations, note, evidence = chosen_iterations(warm, choice)
    assert len(iterations) == count
    assert note
    assert (evidence is not None) is bool(count)
    if iterations:
        assert iterations[0].start_ns == first_us * US


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ("kernel:z", "no such kernel; launched most often: 'a', 'b', 'c'"),
        ("kernel:w", "launched once; iterations need 3 launches"),
        ("period:5", "launches 5 apart are not the same 3 times in a row"),
        ("period:20", "launches 20 apart are not the same"),
        ("period:0", "no choice of iterations"),
        ("every:3", "no choice of iterations"),
        ("nvtx:step", "the recording has none"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused_with_what_would(warm, choice, why):
    with pytest.raises(WindowError, match=why):
        chosen_iterations(warm, choice)


def test_a_choice_and_a_window_are_one_request(tmp_path):
    assert parse_request("iteration:2;iterations=kernel:b") == ("iteration:2", "kernel:b")
    assert parse_request("nvtx:a#1") == ("nvtx:a#1", "")
    assert request_text("all", "auto") == "all"
    assert request_text("all;iterations=none", "period:3") == "all;iterations=period:3"
    command = ["diagnose", "x", "--window", "iteration:2", "--iterations", "kernel:b"]
    request = parse(command).window
    report = analyze(launches(tmp_path, [*"wx", *"abc" * 12]), request)
    assert (report.window.start_ns, report.window.end_ns) == (
        report.iterations[1].start_ns,
        report.iterations[1].end_ns,
    )
    assert report.iterations_note == ("12 iterations, each begun by a launch of b, as requested.")


def test_a_comparison_takes_the_choice_too(warm):
    side = measure(warm, ";iterations=period:6")
    assert (len(side.start_ns), side.is_loop_found) == (6, False)
    assert measure(warm).is_loop_found
    assert not measure(warm, ";iterations=none").loop


# --- what repeats on both sides ------------------------------------------------------------


def test_what_repeats_on_both_sides_is_compared(tmp_path):
    base = launches(tmp_path, "abc" * 20, name="base")
    new = launches(tmp_path, "abc" * 14, kernel_us=15, name="new")  # fewer, and each slower
    answer = compare_recordings([base], [new])
    assert answer.verdict is ComparisonVerdict.REGRESSED
    assert "a repetition of 3 kernel launches took" in answer.sentence
    assert [s.recordings[0].iterations for s in (answer.base, answer.new)] == [20, 14]
    loop = next(d for d in answer.comparability if d.what == "loop")
    assert "3 kernel launches on base, 3 on new, 100 % of them alike" in loop.sentence


@pytest.mark.parametrize(("layers", "is_used"), [(2, True), (4, False)])
def test_a_layer_is_not_compared_with_a_step_of_several(tmp_path, layers, is_used):
    base = launches(tmp_path, "sab" * 20, name="base")  # one layer of a and b in a step
    new = launches(tmp_path, f"s{'ab' * layers}" * 20, name="new")
    answer = compare_recordings([base], [new])
    assert all(bool(s.recordings[0].iterations) is is_used for s in (answer.base, answer.new))
    if not is_used:
        assert answer.verdict is ComparisonVerdict.INCONCLUSIVE
        assert "Not the same work" in answer.sentence
