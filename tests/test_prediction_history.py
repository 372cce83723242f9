"""Predictions outlive their traces, and come back beside what a later recording measured."""

import dataclasses
import json
import stat
import threading

import msgspec
import pytest

import cli.main as cli
from analyzers.compare.prediction_outcomes import OutcomeKind
from analyzers.whatif.whatif import explore
from benchmarks.change_experiments import second_run
from benchmarks.program_changes import without_pauses
from benchmarks.simulated import families
from benchmarks.simulated.cases import Maker, one_thread
from benchmarks.simulated.program import Kernel, Range
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from collectors.errors import RefusedError
from library import cache, comparisons
from library import prediction_history as history
from library.predicted_programs import (
    MAX_OUTCOMES,
    KeptOutcome,
    KeptPrediction,
    PredictedProgram,
    PredictedRecording,
    bounded,
    pair_of,
)
from reports.predictions import family_outcomes, history_data, latest_outcomes, score_sentence
from tests.comparisons_in_memory import comparison
from tests.test_prediction_outcomes import with_graphs
from tests.test_predictions_by_hand import back_to_back
from tests.whatif_helpers import facts_of, whole

PREDICTION = KeptPrediction(change="graph", title="capturing 9 launches", low=1.8, high=2.1)


def replaced(struct, **changes):
    return msgspec.structs.replace(struct, **changes)


def identity(executable="a.out", kernels=range(8), ranges=range(100, 104)):
    names = (executable,) if executable else ()
    return history.Identity(executables=names, kernels=tuple(kernels), names=(*kernels, *ranges))


def recording(number, predictions=(PREDICTION,), made=-1):
    return PredictedRecording(
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


def test_a_recording_forgotten_by_a_program_that_changed_takes_no_place_of_it(data_dir):
    for number in range(history.MAX_RECORDINGS + 1):
        kernels = range(number // 20, number // 20 + 2)
        known = replaced(recording(1), sha256=f"{number:064}", opened_utc_ns=number)
        history.add_recording(identity(kernels=kernels), known)
    history.add_recording(identity(kernels=[0]), replaced(recording(1), sha256=f"{0:064}"))
    lengths = sorted(len(p.recordings) for p in history.all_programs())
    assert lengths == [1, history.MAX_RECORDINGS]


def test_a_binary_with_many_ranges_is_known_by_its_kernels(data_dir):
    many = identity(kernels=range(10_000, 10_300), ranges=range(history.MAX_NAMES))
    history.add_recording(many, recording(1))
    history.add_recording(many, recording(2))
    history.add_recording(identity(kernels=[10_299], ranges=range(9)), recording(3))
    (program,) = history.all_programs()
    assert len(program.recordings) == 3
    # Files of an older version have kernels only among the names.
    old = replaced(program, kernels=(), names=(5, 10_000))
    assert history.is_of(identity(kernels=[10_000]), old)
    assert not history.is_of(identity(kernels=[10_001]), old)


def test_of_kernels_only_those_are_kept_that_the_user_asked_about(data_dir, tmp_path):
    facts = back_to_back(tmp_path, [100, 50, 30])
    for speed_ups, kept in (
        ([], []),
        ([("K", 2.0)], ["kernel:K:2"]),  # part of three names, which are not kept
        ([("K0", 4.0)], ["kernel:k0(int):4", "kernel:K:2"]),
    ):
        history.keep_what_if(facts, explore(facts, whole(facts), speed_ups), speed_ups)
        changes = [
            p.change
            for program in history.all_programs()
            for p in program.recordings[0].predictions
            if p.change.startswith("kernel:")
        ]
        assert changes == kept
    written = next(history.folder().glob("*.json")).read_text()
    assert "k1" not in written


def test_what_is_kept_is_private_and_bounded(data_dir):
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
    assert first.with_suffix(".damaged").exists()  # nothing can make it again
    other = next(iter(history.folder().glob("*.json")))
    data = json.loads(other.read_text())
    other.write_text(json.dumps({**data, "answer": data["answer"].replace("1.8", "9.8")}))
    assert history.all_programs() == []
    other.write_text("[" * 200_000)
    assert history.all_programs() == []


def test_what_cannot_be_read_now_is_neither_deleted_nor_written_over(data_dir, monkeypatch):
    history.add_recording(identity(), recording(1))
    (file,) = history.folder().glob("*.json")
    before = file.read_bytes()

    def broken(_):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(type(file), "read_bytes", broken)
        assert history.all_programs() == []
        with pytest.raises(OSError, match="cannot be read"):
            history.add_recording(identity(), recording(1))
    assert file.read_bytes() == before


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


def outcome(base, new, change="graph", result=OutcomeKind.AS_PREDICTED, high=2.1):
    return KeptOutcome(
        base_sha256=recording(base).sha256,
        new_sha256=recording(new).sha256,
        base_name=f"{base}.sqlite",
        new_name=f"{new}.sqlite",
        prediction=replaced(PREDICTION, change=change, high=high),
        outcome=result.value,
        evidence="",
        speedup=2.0,
        low=1.9,
        high=2.1,
    )


def test_a_pair_that_brought_nothing_is_not_compared_again_until_it_is_read_anew(data_dir):
    for number in (1, 2, 3):
        history.add_recording(identity(), recording(number))
    history.keep_attempt(recording(1), recording(2))
    history.keep_attempt(recording(1), recording(2))
    (program,) = history.all_programs()
    assert len(program.compared) == 1
    assert [b.name for b, _ in history.pairs_to_compare(program)] == ["2.sqlite"]
    history.add_recording(identity(), recording(2))
    assert len(history.pairs_to_compare(history.all_programs()[0])) == 2


def test_outcomes_of_all_recordings_fit_and_those_of_recordings_gone_go_first():
    assert MAX_OUTCOMES >= (history.MAX_RECORDINGS - 1) * history.MAX_PREDICTIONS
    recordings = [recording(n) for n in (1, 2, 3)]
    kept = [outcome(1, 2), outcome(8, 9), outcome(1, 3), outcome(8, 9, "host"), outcome(2, 3)]
    most = MAX_OUTCOMES - len(kept)
    newest = [outcome(2, 3, f"change {n}") for n in range(most + 3)]
    assert bounded([*kept, *newest[:most]], recordings) == (*kept, *newest[:most])
    one_more = bounded([*kept, *newest[: most + 1]], recordings)
    assert [*map(pair_of, one_more[:3])] == [*map(pair_of, (kept[0], kept[2], kept[4]))]
    by_hand = bounded([*kept, *newest], recordings)  # 1 and 3 are no neighbours
    assert by_hand == (kept[0], kept[4], *newest)


def test_each_call_compares_a_few_pairs_and_comes_to_an_end(data_dir, monkeypatch, capsys):
    for number in range(12):
        history.add_recording(
            identity(), replaced(recording(1), sha256=f"{number:064}", opened_utc_ns=number)
        )
    tried = []

    def refused(*sides, measure):
        tried.append(sides)
        raise RefusedError("nothing to compare") if len(tried) % 2 else RuntimeError("a defect")

    monkeypatch.setattr(comparisons, "compare_recordings", refused)
    monkeypatch.setattr(cache, "is_known", lambda _: True)
    monkeypatch.setattr(cache, "get", lambda _: None)
    monkeypatch.setattr(cache, "named", lambda trace, _: trace)
    for expected in (8, 11, 11):
        assert cli.main(["predictions"]) == 0
        assert len(tried) == expected
    monkeypatch.setattr(cache, "is_known", lambda _: False)
    history.add_recording(identity(), recording(5))
    assert cli.main(["predictions"]) == 0
    assert len(history.pairs_to_compare(history.all_programs()[0])) == 2  # once they are opened


def test_what_is_too_uncertain_is_neither_right_nor_wrong():
    unclear = outcome(1, 2, "host", OutcomeKind.UNCERTAIN)
    assert score_sentence([outcome(1, 2), outcome(2, 3, result=OutcomeKind.LESS), unclear]) == (
        "Of 2 predicted changes that were made alone, 1 won as much as predicted; "
        "1 more is too uncertain to tell."
    )
    assert score_sentence([unclear, unclear]) == (
        "No prediction can be judged yet: 2 predicted changes made alone are too uncertain to tell."
    )


def test_a_change_predicted_in_several_ways_counts_once_for_a_pair():
    most = outcome(1, 2, "kernels.roof", OutcomeKind.LESS, high=4.0)
    ways = [outcome(1, 2, "kernel:gemm:2"), most, outcome(1, 2, "kernels.roof:matmul")]
    untried = outcome(1, 2, "kernels.roof:attention", OutcomeKind.NOT_TRIED, high=9.0)
    again = outcome(2, 3, "kernel:gemm:2")
    other = outcome(1, 2, "graph")
    assert family_outcomes([untried, *ways, again, other]) == [most, again, other]
    program = PredictedProgram(
        key="k", name="a.out", executables=(), names=(), outcomes=(*ways, untried, again, other)
    )
    data = history_data([program])
    assert (data["judged"], data["right"], data["outcomes"]["less"]) == (3, 2, 1)
    assert len(data["programs"][0]["outcomes"]) == 6  # each prediction is still listed


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
