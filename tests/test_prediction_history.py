"""Predictions outlive their traces, and come back beside what a later recording measured."""

import dataclasses
import json
import stat
import threading

import msgspec
import pytest

import cli.main as cli
from analyzers.compare.prediction_outcomes import OutcomeKind
from benchmarks.change_experiments import second_run
from benchmarks.program_changes import without_pauses
from benchmarks.simulated import families
from benchmarks.simulated.cases import Maker, one_thread
from benchmarks.simulated.program import Kernel, Range
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from library import prediction_history as history
from reports.predictions import latest_outcomes, score_sentence
from tests.comparisons_in_memory import comparison
from tests.test_prediction_outcomes import with_graphs
from tests.whatif_helpers import facts_of

PREDICTION = history.KeptPrediction(change="graph", title="capturing 9 launches", low=1.8, high=2.1)


def replaced(struct, **changes):
    return msgspec.structs.replace(struct, **changes)


def identity(executable="a.out", kernels=range(8), ranges=range(100, 104)):
    names = (executable,) if executable else ()
    return history.Identity(executables=names, kernels=tuple(kernels), names=(*kernels, *ranges))


def recording(number, predictions=(PREDICTION,), made=-1):
    return history.PredictedRecording(
        sha256=f"{number}" * 64,
        trace_id=f"trace-{number}",
        name=f"{number}.sqlite",
        made_utc_ns=made,
        opened_utc_ns=number,
        predictions=predictions,
    )


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (identity(), True),
        (identity(kernels=range(7, 90)), True),  # the same program with one kernel left
        (identity(kernels=range(8, 90)), False),  # another program of that name
        (identity("b.out"), False),
        (identity("", ranges=range(100, 116)), True),  # 12 of 24 names
        (identity("", ranges=range(100, 117)), False),
    ],
)
def test_a_program_is_known_by_what_ran_and_by_its_kernels(data_dir, other, is_same):
    history.add_recording(identity(), recording(1))
    history.add_recording(other, recording(2))
    assert (len(history.all_programs()) == 1) is is_same


@pytest.mark.parametrize(("ranges", "is_same"), [(116, True), (117, False)])
def test_programs_of_one_interpreter_are_told_apart_by_their_names(data_dir, ranges, is_same):
    history.add_recording(identity("python3.11"), recording(1))
    history.add_recording(identity("python3.11", ranges=range(100, ranges)), recording(2))
    assert (len(history.all_programs()) == 1) is is_same


def test_a_recording_that_is_opened_again_keeps_what_was_predicted_before(data_dir):
    host = replaced(PREDICTION, change="host")
    history.add_recording(identity(), recording(1, (host,)))
    again = replaced(PREDICTION, low=1.7)
    history.add_recording(identity(), recording(1, (again,)))
    (program,) = history.all_programs()
    assert program.recordings[0].predictions == (again, host)


def test_what_is_kept_is_private_bounded_and_holds_no_name_of_a_kernel(data_dir):
    for number in range(history.MAX_RECORDINGS + 2):
        history.add_recording(identity(), replaced(recording(1), sha256=f"{number:064}"))
    for number in range(history.MAX_PROGRAMS + 1):
        alone = identity(f"program{number}", kernels=[number + 1_000])
        history.add_recording(alone, replaced(recording(2), sha256=f"b{number}"))
    files = list(history.folder().glob("*.json"))
    assert len(files) == history.MAX_PROGRAMS
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(history.folder().stat().st_mode) == 0o700
    assert max(len(p.recordings) for p in history.all_programs()) <= history.MAX_RECORDINGS


def test_numbered_ranges_are_one_name(data_dir, tmp_path):
    def steps(first):
        return [o for n in range(12) for o in (Range(f"step {first + n}"), Kernel(9_000), Range())]

    known = [history.identity_of(facts_of(tmp_path, one_thread(steps(n)))) for n in (0, 500)]
    assert known[0].names == known[1].names
    assert len(known[0].names) == 2


def test_a_damaged_file_costs_what_it_held_and_nothing_else(data_dir):
    history.add_recording(identity(), recording(1))
    history.add_recording(identity("b.out", kernels=[99]), recording(2))
    first = min(history.folder().glob("*.json"))
    first.write_bytes(first.read_bytes()[:-9])
    assert len(history.all_programs()) == 1
    assert not first.exists()
    other = next(iter(history.folder().glob("*.json")))
    data = json.loads(other.read_text())
    other.write_text(json.dumps({**data, "answer": data["answer"].replace("1.8", "9.8")}))
    assert history.all_programs() == []


def test_processes_that_keep_at_the_same_time_lose_nothing(data_dir):
    def add(number):
        history.add_recording(identity(), recording(number))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (program,) = history.all_programs()
    assert [r.opened_utc_ns for r in program.recordings] == list(range(1, 9))


def test_each_recording_is_compared_with_the_next_one_that_was_made(data_dir):
    for number, made in ((1, 30), (2, 10), (3, 20)):
        history.add_recording(identity(), recording(number, made=made))
    (program,) = history.all_programs()
    pairs = [(b.name, n.name) for b, n in history.pairs_to_compare(program)]
    assert pairs == [("2.sqlite", "3.sqlite"), ("3.sqlite", "1.sqlite")]


def in_history(answer, number=1):
    """Return a comparison whose base is a recording of the history."""
    base = dataclasses.replace(answer.base.recordings[0], sha256=recording(number).sha256)
    return dataclasses.replace(answer, base=dataclasses.replace(answer.base, recordings=(base,)))


def test_a_comparison_brings_what_was_predicted_and_keeps_what_came_of_it(data_dir):
    history.add_recording(identity(), recording(1))
    told = history.with_outcomes(in_history(with_graphs()))
    assert [o.outcome for o in told.predictions] == [OutcomeKind.AS_PREDICTED]
    (program,) = history.all_programs()
    (kept,) = program.outcomes
    assert (kept.base_sha256, kept.new_name) == (recording(1).sha256, "optimized.sqlite")
    history.with_outcomes(in_history(with_graphs()))
    assert history.all_programs()[0].outcomes == (kept,)  # the same pair counts once
    assert history.with_outcomes(in_history(comparison(), number=2)).predictions == ()


def test_a_part_that_somebody_chose_tests_no_prediction(data_dir):
    history.add_recording(identity(), recording(1))
    answer = in_history(with_graphs())
    for request, is_tested in (("nvtx:forward#2", False), (";iterations=nvtx:step", True)):
        chosen = dataclasses.replace(answer.base.recordings[0], request=request)
        base = dataclasses.replace(answer.base, recordings=(chosen,))
        told = history.with_outcomes(dataclasses.replace(answer, base=base))
        assert bool(told.predictions) is is_tested


def test_a_later_comparison_without_the_change_takes_no_outcome_away(data_dir):
    history.add_recording(identity(), recording(1))
    history.with_outcomes(in_history(with_graphs()))
    other = in_history(comparison(names=("baseline.sqlite", "other.sqlite")))
    changed = dataclasses.replace(other.new.recordings[0], sha256="f" * 64)
    new = dataclasses.replace(other.new, recordings=(changed,))
    history.with_outcomes(dataclasses.replace(other, new=new))
    (program,) = history.all_programs()
    assert len(program.outcomes) == 2
    (latest,) = latest_outcomes(program)
    assert latest.outcome == OutcomeKind.AS_PREDICTED.value
    assert score_sentence([latest]) == (
        "Of 1 predicted change that was made alone, 1 won as much as predicted."
    )


def test_a_disk_that_cannot_be_written_costs_no_outcome(data_dir, monkeypatch):
    history.add_recording(identity(), recording(1))

    def full(*_, **__):
        raise OSError(28, "no space")

    monkeypatch.setattr(history.kept_answers, "save", full)
    answer = history.with_outcomes(in_history(with_graphs()))
    assert [o.outcome for o in answer.predictions] == [OutcomeKind.AS_PREDICTED]


def test_a_defect_costs_no_comparison(data_dir, monkeypatch):
    monkeypatch.setattr(history, "all_programs", lambda: 1 / 0)
    answer = in_history(with_graphs())
    assert history.with_outcomes(answer) is answer


def test_a_later_recording_shows_unasked_whether_whyslow_was_right(data_dir, tmp_path, capsys):
    program = families.host_pauses(Maker(1)).program
    changed = [
        dataclasses.replace(t, operations=second_run(without_pauses(t.operations), "later"))
        for t in program.threads
    ]
    paths = []
    for name, threads in (("monday", program.threads), ("tuesday", changed)):
        recorder = Recorder(devices=program.devices)
        execute(dataclasses.replace(program, threads=threads), recorder=recorder)
        paths.append(recorder.write(tmp_path / f"{name}.sqlite"))
    for path in paths:
        assert cli.main(["diagnose", str(path)]) == 0
    capsys.readouterr()
    assert cli.main(["predictions"]) == 0
    printed = capsys.readouterr().out
    assert "Of 1 predicted change that was made alone, 1 won as much as predicted." in printed
    assert "monday.sqlite → tuesday.sqlite: Never starving the GPU" in printed
    assert cli.main(["predictions", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["judged"], data["right"]) == (1, 1)
    assert cli.main(["compare", *map(str, paths)]) == 0
    assert "Predicted before: Never starving the GPU" in capsys.readouterr().out
