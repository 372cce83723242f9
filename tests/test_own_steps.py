"""Programs that ran without a GPU are compared by the steps that they timed themselves."""

import contextlib
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analyzers.compare.measure import measure
from analyzers.compare.own_steps import compare_own_steps
from analyzers.compare.types import ComparisonVerdict, Level
from analyzers.facts.facts import build_facts
from analyzers.words import TIMES
from cli.gate import gate
from jobs import api
from library import comparisons
from reports.comparison import comparison_summary
from reports.terminal import terminal_text
from tests.comparisons_in_memory import leave_out_forecast
from tests.real_traces import opened
from tests.view_fakes import draw, library, words
from views.comparison import session

CPU_TRACE = Path(__file__).parents[1] / "traces" / "cpu_training.sqlite"
MS = 1_000_000


@pytest.fixture(scope="module")
def cpu_run():
    return measure(build_facts(opened(CPU_TRACE)))


def steps(median_ms, count=200, seed=0):
    """Steps of about this time in ns, within 1 % and in no order."""
    noise = np.random.default_rng([seed, count]).uniform(0.99, 1.01, count)
    return np.rint(median_ms * MS * noise).astype(int).tolist()


def runs(cpu_run, *step_ns, result=1.0, name="base"):
    """Recordings of one side, each with these steps."""
    sides = []
    for number, timed in enumerate(step_ns):
        summary = {"pair": "p", "device": "cpu", "result": {"values": [result], "rtol": 1e-4}}
        summary |= {"step_ns": timed} if timed else {}
        side = cpu_run.with_sidecar(summary, {}, "id", f"{name} {number}")
        sides.append(replace(side, source={**side.source, "sha256": f"{name} {number}"}))
    return sides


@pytest.mark.parametrize(
    ("before_ms", "after_ms", "verdict", "gate_status"),
    [
        (10.0, 5.0, ComparisonVerdict.IMPROVED, 0),
        (5.0, 10.0, ComparisonVerdict.REGRESSED, 1),
        (10.0, 10.0, ComparisonVerdict.NO_DIFFERENCE, 0),
        (10.0, 9.6, ComparisonVerdict.INCONCLUSIVE, 0),  # runs may differ by as much
    ],
)
def test_a_pair_without_a_gpu_is_answered_by_its_own_steps(
    cpu_run, before_ms, after_ms, verdict, gate_status
):
    sides = runs(cpu_run, steps(before_ms)), runs(cpu_run, steps(after_ms, seed=1), name="new")
    answer = compare_own_steps(*sides)
    assert answer.verdict is verdict
    assert answer.base.median_ns == round(np.median(steps(before_ms)))
    assert answer.new.median_ns == round(np.median(steps(after_ms, seed=1)))
    assert answer.delta.change == answer.new.median_ns - answer.base.median_ns
    assert answer.waterfall == ()  # nothing tells where the time went
    assert gate(answer, 0.03).status == gate_status
    text = terminal_text(comparison_summary(answer))
    assert "a step, as the programs timed it themselves, took" in text
    assert "Neither side has GPU work, so the steps that the programs timed themselves" in text
    assert "whole windows" not in text
    assert answer.comparability[0].level is Level.WARNING


@pytest.mark.parametrize(("count", "words"), [(4, "Only 4 steps of one"), (200, "200 and 200")])
def test_a_few_steps_count_as_one_measurement(cpu_run, count, words):
    base, new = (runs(cpu_run, steps(ms, count), name=f"{ms}") for ms in (10.0, 5.0))
    answer = compare_own_steps(base, new)
    assert answer.verdict is ComparisonVerdict.IMPROVED
    assert words in answer.how[0]
    assert ("measured once" in answer.sentence) is (count == 4)


def test_steps_that_still_warm_up_are_no_reason_to_doubt_a_great_change(cpu_run):
    base = runs(cpu_run, [2_491_774, 2_549_620, 2_523_510, 2_681_105, 2_433_497, 2_397_765])
    new = runs(cpu_run, [100_409, 86_748, 77_105, 66_318, 74_641, 64_746], name="new")
    answer = compare_own_steps(base, new)
    assert answer.sentence.startswith("Improved, measured once: a step, as the programs timed it")
    assert f"33.05 {TIMES} faster" in answer.sentence


def test_repeated_runs_are_the_units(cpu_run):
    base = runs(cpu_run, *(steps(10 + n / 10, 3) for n in range(3)))
    new = runs(cpu_run, *(steps(8 + n / 10, 3) for n in range(3)), name="new")
    answer = compare_own_steps(base, new)
    assert answer.verdict is ComparisonVerdict.IMPROVED
    assert "Recordings are the units: 3 and 3" in answer.how[0]


def test_other_results_forbid_the_comparison_and_say_so_first(cpu_run):
    sides = runs(cpu_run, steps(10)), runs(cpu_run, steps(5), result=2.0, name="new")
    answer = compare_own_steps(*sides)
    assert answer.verdict is ComparisonVerdict.NOT_COMPARABLE
    assert answer.sentence.startswith("Not comparable: The two sides compute different results")
    assert compare_own_steps(*sides, anyway=True).verdict is ComparisonVerdict.IMPROVED


def test_without_timed_steps_or_with_gpu_work_it_is_no_matter_of_own_steps(cpu_run):
    timed, untimed = runs(cpu_run, steps(10)), runs(cpu_run, None, name="new")
    assert compare_own_steps(timed, untimed) is None
    busy = [replace(timed[0], operations=7)]
    assert compare_own_steps(busy, runs(cpu_run, steps(10), name="new")) is None


def test_the_page_shows_the_steps_that_lie_beside_recordings(tmp_path, monkeypatch):
    traces = []
    for number, median_ms in enumerate((10, 5)):
        place = Path(shutil.copy(CPU_TRACE, tmp_path / f"run{number}.sqlite"))
        place.chmod(0o600)
        with contextlib.closing(sqlite3.connect(place)) as file:
            file.execute(f"PRAGMA user_version = {number}")  # or both were one recording
        summary = {"schema": 1, "pair": "p", "device": "cpu", "step_ns": steps(median_ms)}
        place.with_name(place.name + comparisons.WORKLOAD).write_text(json.dumps(summary))
        with library(tmp_path / "data"):
            traces.append(api.open_recording(place).trace)
    with library(tmp_path / "data"):
        answer = comparisons.compare_recordings(traces[:1], traces[1:])
        monkeypatch.setattr(session, "_compare", lambda _: answer)
        leave_out_forecast(monkeypatch)
        app = draw("compare", base=traces[0].id, new=traces[1].id)
    assert not app.exception
    assert "Improved, measured in one run each: a step, as the programs timed it" in words(app)
