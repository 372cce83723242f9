"""Times that cannot be true are left out or cut, and counted; what can be true stays as it is."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers import analyze
from analyzers.facts.impossible import CLOCK_MATCH_NS, without_impossible
from analyzers.finding import Row
from analyzers.quality.events import _could_change_verdict
from collectors import open_trace
from traces.nsys_writer import Recording

CASES = Path(__file__).parents[2] / "shared" / "cases"
US, MS, S = 1_000, 1_000_000, 1_000_000_000
KERNELS = 40


def launches_of(rows):
    """Return tables of launches and their calls; each row is (begin, end, call's begin, stream)."""
    rows = sorted(rows)
    start, end, called, stream = (np.array(c, np.int64) for c in zip(*rows, strict=True))
    api = pd.DataFrame({"start_ns": called, "end_ns": called + 5 * US})
    launches = pd.DataFrame(
        {
            "start_ns": start,
            "end_ns": end,
            "stream": stream,
            "device": np.int16(0),
            "process_index": np.int32(0),
            "kind": np.int8(0),
            "name_id": np.int64(4),
            "api_row": np.where(called >= 0, np.arange(len(rows)), -1),
        }
    )
    return launches, api, np.zeros(len(api), dtype=bool)


def steady(count=KERNELS):
    """Kernels of 1 ms, one after the other, each submitted ahead of its time."""
    return [(i * MS + 10 * US, (i + 1) * MS, i * 10 * US, 7) for i in range(count)]


@given(
    st.lists(
        st.tuples(st.integers(0, 50 * MS), st.integers(0, 5 * MS), st.integers(1, 3)),
        min_size=1,
        max_size=20,
    )
)
def test_operations_in_order_are_left_as_they_are(drawn):
    begins = {1: 0, 2: 0, 3: 0}
    rows = []
    for pause, length, stream in drawn:
        start = begins[stream] + pause
        rows.append((start, start + length, start - pause, stream))
        begins[stream] = start + length
    launches, api, graphs = launches_of(rows)
    possible, odd = without_impossible(launches, api, graphs)
    pd.testing.assert_frame_equal(possible, launches)
    assert (odd.left_out, odd.cut) == (0, 0)


@pytest.mark.parametrize(("early_ns", "left_out"), [(CLOCK_MATCH_NS, 0), (CLOCK_MATCH_NS + 1, 1)])
def test_an_operation_before_its_own_call_is_left_out_from_a_millisecond_on(early_ns, left_out):
    rows = [*steady(), (100 * MS, 101 * MS, 100 * MS + early_ns, 9)]
    possible, odd = without_impossible(*launches_of(rows))
    assert (odd.early, len(possible)) == (left_out, len(rows) - left_out)
    assert odd.early_ns == (early_ns if left_out else 0)


def test_when_a_quarter_is_too_early_it_is_the_clocks_and_nothing_is_left_out():
    rows = [(s, e, called + 2 * S, stream) for s, e, called, stream in steady()]
    possible, odd = without_impossible(*launches_of(rows))
    assert len(possible) == len(rows)
    assert odd.left_out == 0


@pytest.mark.parametrize(("overrun_ns", "cut"), [(CLOCK_MATCH_NS, 0), (CLOCK_MATCH_NS + 1, 1)])
def test_an_operation_that_outlives_its_successor_ends_where_that_begins(overrun_ns, cut):
    rows = steady()
    rows[5] = (*rows[5][:1], rows[6][0] + overrun_ns, *rows[5][2:])
    possible, odd = without_impossible(*launches_of(rows))
    assert odd.cut == cut
    expected = rows[6][0] if cut else rows[6][0] + overrun_ns
    assert int(possible["end_ns"][5]) == expected
    assert len(possible) == len(rows)


def test_operations_of_another_stream_or_of_a_graph_may_outlive_it():
    rows = steady()
    rows[5] = (rows[5][0], rows[5][1] + 20 * MS, rows[5][2], 8)
    launches, api, graphs = launches_of(rows)
    assert without_impossible(launches, api, graphs)[1].cut == 0
    rows[5] = (*rows[5][:3], 7)
    launches, api, graphs = launches_of(rows)
    assert without_impossible(launches, api, graphs)[1].cut == 1
    assert without_impossible(launches, api, ~graphs)[1].cut == 0


def test_an_hour_that_nothing_vouches_for_is_left_out_and_a_wait_of_an_hour_vouches():
    hour = (20 * MS, 3_600 * S, -1, 9)
    launches, api, graphs = launches_of([*steady(), hour])
    possible, odd = without_impossible(launches, api, graphs)
    assert (odd.far, len(possible)) == (1, KERNELS)
    assert odd.usual_ns == pytest.approx(MS, rel=0.02)
    waiting = pd.concat(
        [api, pd.DataFrame({"start_ns": [30 * MS], "end_ns": [3_600 * S + MS]})], ignore_index=True
    )
    possible, odd = without_impossible(launches, waiting, np.append(graphs, False))
    assert (odd.far, len(possible)) == (0, KERNELS + 1)


def recorded(folder, *extra):
    made = Recording()
    for i in range(KERNELS):
        call = {"correlationId": 100 + i}
        made.api("cudaLaunchKernel_v7000", i * 10 * US, i * 10 * US + 4 * US, **call)
        made.kernel("work(float*)", i * MS + 10 * US, (i + 1) * MS, **call)
    for number, (start, end, called) in enumerate(extra):
        call = {"correlationId": 900 + number}
        made.api("cudaLaunchKernel_v7000", called, called + 4 * US, **call)
        made.kernel("work(float*)", start, end, **call)
    return analyze(open_trace(made.write(folder / "a.sqlite"), folder / "cache"))


def note_of(report):
    (note,) = (n for n in report.quality if n.code == "impossible_times")
    return note


def test_one_early_kernel_changes_nothing_and_is_told(tmp_path):
    report = recorded(tmp_path, (-900 * MS, -899 * MS, 401 * US))
    assert report.verdict.cause == "healthy"
    assert report.window.duration_ns == KERNELS * MS - 10 * US
    assert note_of(report).level == "warning"
    assert note_of(report).message.startswith(
        "1 of 41 GPU operations was left out, because the recorded times cannot be true: 1 begins "
        "up to 900 ms before the call that submitted it."
    )


def test_what_was_left_out_forbids_a_verdict_that_it_could_change(tmp_path):
    early = [(-900 * MS + i * MS, -899 * MS + i * MS, 401 * US) for i in range(8)]
    report = recorded(tmp_path, *early)
    assert note_of(report).level == "error"
    assert report.verdict.cause == "unknown"
    assert "8 of 48 GPU operations were left out" in report.verdict.sentence
    assert "They could change the verdict." in report.verdict.sentence


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases")
@pytest.mark.parametrize(
    ("name", "cause", "window_ms", "level"),
    [
        ("C03_one_kernel_900ms_before_launch.sqlite", "healthy", 400, "warning"),
        ("C03b_one_kernel_an_hour_long.sqlite", "healthy", 400, "warning"),
        # Waits cost 201 ms and the host 198 ms: 8 ms that were left out could turn that round.
        ("B06_kernel_before_launch.sqlite", "unknown", 600, "error"),
        ("b10_overflow.json", "sync", 300, "warning"),
        ("b11_onemalformed.json", "sync", 300, "warning"),
    ],
)
def test_the_shared_cases_are_judged_by_what_can_be_true(tmp_path, name, cause, window_ms, level):
    report = analyze(open_trace(CASES / name, tmp_path))
    assert report.verdict.cause == cause
    assert "of the recording" not in report.verdict.sentence  # the GPU was used all the time
    assert report.window.duration_ns / MS == pytest.approx(window_ms, rel=0.01)
    assert note_of(report).level == level


@pytest.mark.parametrize(
    ("missing_ns", "first_ns", "second_ns", "changes"),
    [
        (3, 203, 200, False),
        (4, 203, 200, True),  # 199 would be less than the second
        (50, 150, 0, False),
        (51, 150, 0, True),  # 99 is no tenth of 1,000
        (99, 99, 0, False),  # healthy without them, and healthier with them
        (100, 0, 0, True),  # so much of the time was not seen
        (0, 200, 200, False),
    ],
)
def test_a_verdict_stands_that_missing_operations_cannot_turn(
    missing_ns, first_ns, second_ns, changes
):
    ledger = SimpleNamespace(
        in_use_ns=1_000,
        duration_ns=1_000,
        total_ns=lambda row: {Row.SYNC: first_ns, Row.HOST: second_ns}.get(row, 0),
    )
    assert _could_change_verdict(missing_ns, ledger) == changes
