"""Recordings that begin while the GPU works, and traces that were cut down after they were made."""

import pytest

from analyzers.analysis import investigate
from analyzers.facts.windows import FREE, WHOLE, choose_window
from analyzers.quality.call_numbers import cut_down
from collectors.trace import Source
from tests.traces_in_memory import account, build, make_trace

TORCH, NSYS = (Source(name="a", format=kind) for kind in ("torch-json", "nsys-sqlite"))


def held_up(tmp_path, dark_us=5_000, *, stream=8, called_us=5, device=0):
    """A stray kernel, then work of another stream that waits in the queue for most of the time."""
    starts = [10, *(20 + dark_us + 30 * n for n in range(10))]
    calls = [0, called_us, *(starts[2:])]
    return make_trace(
        tmp_path,
        kernels={
            "start_us": starts,
            "duration_us": [10, *[25] * 10],
            "stream": [7, *[stream] * 10],
            "device": [0, *[device] * 10],
            "correlation_id": list(range(11)),
        },
        api_calls={
            "start_us": [c - 4 for c in calls],
            "duration_us": 2,
            "correlation_id": list(range(11)),
        },
    )


def window_of(trace, request=""):
    return investigate(trace, request).report.window


def test_what_older_work_held_up_is_judged_from_its_begin_on(tmp_path):
    trace = held_up(tmp_path)
    window = window_of(trace)
    assert (window.label, window.duration_ns) == (FREE, 295_000)
    assert window_of(trace, "all").duration_ns == 5_305_000


def test_the_note_has_both_figures_and_the_way_out(tmp_path):
    report = investigate(held_up(tmp_path)).report
    note = next(n for n in report.quality if n.code == "held_up")
    assert "295 µs, busy for 250 µs (15.3 % idle)" in note.message
    assert "Including it (--window all): 5.305 ms, busy for 260 µs (95.1 % idle)" in note.message
    assert not report.verdict.sentence.startswith("The GPU is used in")


@pytest.mark.parametrize(
    "unlike",
    [
        {"dark_us": 900},  # a millisecond may be anything
        {"stream": 7},  # its stream had recorded work before
        {"called_us": 5_015},  # it was not there yet
    ],
)
def test_other_pauses_stay_in_the_window(tmp_path, unlike):
    assert window_of(held_up(tmp_path, **unlike)).label == WHOLE


def test_of_two_gpus_nothing_is_left_out(tmp_path):
    trace = held_up(tmp_path, device=1)
    assert window_of(trace).label == WHOLE


def numbered(tmp_path, numbers, source=TORCH):
    starts = [10 * n for n in range(len(numbers))]
    facts = build(
        tmp_path,
        kernels={"start_us": starts, "duration_us": 5, "correlation_id": numbers},
        api_calls={
            "start_us": [s - 4 for s in starts],
            "duration_us": 2,
            "correlation_id": numbers,
        },
    )
    object.__setattr__(facts.trace, "source", source)
    return facts


@pytest.mark.parametrize(
    ("step", "level"), [(100, None), (102, "warning"), (990, "warning"), (1_020, "error")]
)
def test_calls_that_are_missing_between_numbers_tell_of_a_sample(tmp_path, step, level):
    """A hundred calls: one in ``step`` is there."""
    facts = numbered(tmp_path, [step * n + 1 for n in range(100)])
    note = cut_down(facts, account(facts), ())
    assert (note.level if note else None) == level


def test_the_note_counts_what_is_there(tmp_path):
    facts = numbered(tmp_path, [1_200 * n + 1 for n in range(100)])
    assert cut_down(facts, account(facts), ()).message.startswith(
        "The file holds 100 of 118,801 calls that the recorder numbered"
    )


def test_numbers_that_do_not_grow_with_time_tell_nothing(tmp_path):
    facts = numbered(tmp_path, [(7_919 * n) % 120_011 + 1 for n in range(100)])
    assert cut_down(facts, account(facts), ()) is None


def test_few_numbers_tell_nothing(tmp_path):
    facts = numbered(tmp_path, [1, 4_999])
    assert cut_down(facts, account(facts), ()) is None


def test_other_recorders_number_otherwise(tmp_path):
    facts = numbered(tmp_path, [1_200 * n + 1 for n in range(100)], NSYS)
    assert cut_down(facts, account(facts), ()) is None


def test_a_chosen_window_is_never_changed(tmp_path):
    trace = held_up(tmp_path)
    facts = investigate(trace).facts
    assert choose_window(facts, "span:0-5400000", ()).label == "selected span"
