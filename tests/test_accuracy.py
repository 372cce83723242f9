"""Programs of known trouble get the right verdict; ``python -m benchmarks.accuracy`` has more."""

import dataclasses
import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from analyzers import analyze
from benchmarks import accuracy, removed_rules
from benchmarks.simulated.cases import HEALTHY
from benchmarks.simulated.groups import FAMILIES
from benchmarks.simulated.program import Copy, Kernel, Program, Thread, Wait, Work
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.rules import Rules
from benchmarks.simulated.simulator import CAUSES, execute, true_losses
from benchmarks.simulated.torch_recorder import TorchRecorder
from collectors import open_trace

REAL = Path(__file__).parents[2] / "shared" / "real"


@pytest.fixture(scope="module")
def results():
    return accuracy.run(len(FAMILIES), workers=1)


def test_every_family_once_keeps_the_published_limits(results):
    assert accuracy.figures(results).misses() == []


def test_every_family_is_in_one_group(results):
    assert {r.group for r in results} == set(accuracy.GROUPS)


def test_no_finding_claims_more_than_its_row(results):
    assert not [r.family for r in results if r.over_row]


def test_a_wrong_verdict_would_be_seen(results):
    wrong = [r for r in results if r.expected == HEALTHY]
    turned = [dataclasses.replace(r, verdict="sync") for r in wrong]
    others = [r for r in results if r.expected != HEALTHY]
    assert accuracy.figures([*others, *turned]).misses()


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real recordings")
def test_labelled_real_recordings_get_their_verdict():
    lines, wrong = accuracy.real_lines(REAL, Path(accuracy.__file__).with_name("real_labels.json"))
    assert not wrong, "\n".join(lines)


def test_a_written_case_comes_with_its_truth(tmp_path, monkeypatch):
    out = tmp_path / "case.sqlite"
    monkeypatch.setattr("sys.argv", ["accuracy", "--case", "host_input", "3", "--out", str(out)])
    assert accuracy.main() == 0
    truth = json.loads((tmp_path / "case.sqlite.truth.json").read_text())
    assert truth["planted"] == "host" == max(truth["lost_ns"], key=truth["lost_ns"].get)
    # The truth is of the time from the first operation to the last.
    report = analyze(open_trace(out, tmp_path / "cache"), "all")
    assert sum(d.rows["host"] for d in report.devices) == pytest.approx(
        truth["lost_ns"]["host"], rel=0.02
    )


# --- the simulator itself -------------------------------------------------------------------


def thread(*operations):
    return Program([Thread(operations)])


def test_a_kernel_takes_its_time():
    assert execute(thread(Kernel(50_000))) == 50_000


def test_queued_kernels_follow_each_other_after_the_devices_pause():
    assert execute(thread(*[Kernel(50_000)] * 3)) == 3 * 50_000 + 2 * 1_000


def test_without_waits_the_host_is_ahead():
    program = thread(*[o for _ in range(5) for o in (Kernel(50_000), Wait(), Work(30_000))])
    assert execute(program, Rules().without("sync")) < execute(program)
    assert true_losses(program)["sync"] > 4 * 30_000


def test_what_does_not_happen_costs_nothing():
    losses = true_losses(thread(*[Kernel(50_000)] * 5))
    assert {c for c in CAUSES if losses[c]} == {"launch"}


def test_a_pageable_copy_holds_the_host_and_a_pinned_one_does_not():
    pinned = thread(Copy(24_000_000), *[Kernel(10_000)] * 3)
    pageable = thread(Copy(24_000_000, pageable=True), *[Kernel(10_000)] * 3)
    assert execute(pageable) >= execute(pinned)
    assert true_losses(pinned)["sync"] == 0


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_a_torch_trace_of_a_program_holds_the_same_operations(tmp_path, suffix):
    program = thread(Copy(1_000_000), *[o for _ in range(3) for o in (Kernel(50_000), Wait())])
    nsys, torch = Recorder(), TorchRecorder()
    for recorder in (nsys, torch):
        execute(program, recorder=recorder)
    path = torch.write(tmp_path / f"trace{suffix}")
    opened = gzip.open if suffix.endswith("gz") else open
    with opened(path, "rt") as file:
        events = json.load(file)["traceEvents"]
    kinds = Counter(e["cat"] for e in events if e["ph"] == "X")
    assert kinds == {"kernel": 3, "gpu_memcpy": 1, "cuda_runtime": 7}
    assert nsys.count("RUNTIME") == kinds["cuda_runtime"]
    assert sum(e["dur"] for e in events if e.get("cat") == "kernel" and "dur" in e) == 150


@pytest.mark.parametrize("family", ["launch_small_kernels", "host_input", "healthy_two_streams"])
def test_torch_traces_of_known_trouble_are_judged_right(family):
    result = accuracy.judge(family, 2, torch=True)
    assert result.is_right
    assert not result.defects


# --- the proof would notice -----------------------------------------------------------------


@pytest.mark.parametrize("mutation", removed_rules.MUTATIONS, ids=lambda m: m.name)
def test_taking_a_rule_away_is_noticed(mutation):
    with mutation.applied():
        results = [accuracy.judge(f, s) for f, s in mutation.shown_by]
    assert [r for r in results if not r.is_right or removed_rules.is_far_off(r)]


@pytest.mark.parametrize("mutation", removed_rules.MUTATIONS, ids=lambda m: m.name)
def test_with_the_rule_the_same_cases_are_right(mutation):
    for family, seed in mutation.shown_by:
        result = accuracy.judge(family, seed)
        assert result.is_right
        assert not removed_rules.is_far_off(result)
