"""In real recordings the loop that an expert sees is found without its marks, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzers.facts.facts import build_facts
from analyzers.facts.loop_choice import chosen_iterations
from analyzers.facts.unmarked import find_launch_loop
from collectors import open_trace
from tests.loop_labels import (
    HOST,
    LOOPS,
    NO_LOOPS,
    NO_TIMELINE,
    REAL,
    ROOT,
    SAMPLES,
    labels_of,
    recordings,
)
from tests.real_traces import opened


def recording(part: str) -> Path:
    """Return the recording with this in its name; skip where the real recordings are not."""
    if not REAL.is_dir() and not part.startswith("cpu_training"):
        pytest.skip("the real recordings are not here")
    return next(file for file in recordings() if part in file.name)


@pytest.mark.parametrize("part", LOOPS, ids=str)
def test_the_loop_of_a_real_program_is_found(part: str) -> None:
    loop = find_launch_loop(build_facts(opened(recording(part))))
    assert loop is not None, LOOPS[part][2]
    assert (len(loop.iterations), loop.period.launches) == LOOPS[part][:2], LOOPS[part][2]


@pytest.mark.parametrize("part", NO_LOOPS, ids=str)
def test_no_loop_is_invented_in_a_real_program(part: str) -> None:
    loop = find_launch_loop(build_facts(opened(recording(part))))
    assert loop is None, NO_LOOPS[part]


@pytest.mark.parametrize("part", HOST, ids=str)
def test_without_a_gpu_what_the_host_repeats_is_found_and_nothing_else(part: str) -> None:
    count, how, reason = HOST[part]
    iterations, _, evidence = chosen_iterations(build_facts(opened(recording(part))), "")
    assert len(iterations) == count, reason
    assert (evidence.how if evidence else "") == how, reason


@pytest.mark.parametrize("name", SAMPLES)
def test_the_loop_of_a_sample_is_found_without_its_marks(name: str) -> None:
    sample = ROOT / "traces" / "synthetic" / f"synthetic_{name}.sqlite"
    loop = find_launch_loop(build_facts(opened(sample)))
    assert loop is not None
    assert (len(loop.iterations), loop.period.launches) == SAMPLES[name][:2], SAMPLES[name][2]


def test_every_recording_that_is_here_has_one_label() -> None:
    labels = {file.name: labels_of(file) for file in recordings()}
    assert {name: found for name, found in labels.items() if len(found) != 1} == {}
    assert all(reason for table in (NO_LOOPS, NO_TIMELINE) for reason in table.values())


def test_iterations_follow_each_other_without_a_hole(tmp_path: Path) -> None:
    sample = ROOT / "traces" / "synthetic" / "synthetic_host.sqlite"
    facts = build_facts(open_trace(sample, tmp_path))
    loop = find_launch_loop(facts)
    assert loop is not None
    for before, after in zip(loop.iterations, loop.iterations[1:], strict=False):
        assert before.end_ns == after.start_ns
    first = facts.launches["start_ns"].to_numpy()[loop.rows[loop.period.first[0]]]
    assert loop.iterations[0].start_ns == first
