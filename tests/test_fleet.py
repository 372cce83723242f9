"""A whole job: who makes the others wait, what that costs, and that every nanosecond is booked."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzers.fleet.answer import answer_of
from analyzers.fleet.job_ledger import ROWS, JobRow, TooLongJobError, job_ledger
from analyzers.fleet.operations import JobOperations
from analyzers.fleet.replay import StuckStepError
from analyzers.fleet.stragglers import EmptyJobError, stragglers
from cli.main import main
from collectors.errors import RefusedError
from collectors.operation_table import read_operations
from library import fleet

PUBLISHED = Path(__file__).parent.parent.parent / "shared" / "real" / "fleet"
MS = 1_000_000


def job(forward_ms, *, stages=2, dp=2, microbatches=4, steps=2, transfer_ms=1.0, gap_ms=0.0):
    """A job in which each stage runs all forward passes, then all backward ones.

    A forward pass takes ``forward_ms(rank, stage, microbatch)``, a backward pass twice as long. A
    rank carries out one operation after the other; a message passes when both sides are there.
    """
    rows = []
    for step in range(steps):
        free = {(s, d): 0.0 for s in range(stages) for d in range(dp)}

        def add(kind, stage, d, start, ms, number, step=step, free=free):
            rank = stage * dp + d
            rows.append((step, rank, d, stage, kind, start * MS, (start + ms) * MS, number))
            free[stage, d] = start + ms + gap_ms

        for name, order, times in (("forward", 1, 1), ("backward", -1, 2)):
            for d in range(dp):
                for m in range(microbatches):
                    for s in range(stages)[::order]:
                        add(f"{name}-compute", s, d, free[s, d],
                            times * forward_ms(s * dp + d, s, m), m)  # fmt: skip
                        if 0 <= s + order < stages:
                            begins = free[s, d], free[s + order, d]
                            end = max(begins) + transfer_ms
                            add(f"{name}-send", s, d, begins[0], end - begins[0], m)
                            add(f"{name}-recv", s + order, d, begins[1], end - begins[1], m)
        for s in range(stages):
            end = max(free[s, d] for d in range(dp)) + transfer_ms
            for d in range(dp):
                add("grads-reduce-scatter", s, d, free[s, d], end - free[s, d], 0)
    return operations(rows)


def operations(rows):
    names = ("step", "rank", "dp_rank", "stage", "kind", "start_ns", "end_ns", "sequence")
    table = pd.DataFrame(rows, columns=names)
    kind, kinds = pd.factorize(table["kind"])
    times = {c: np.rint(table[c]).astype(np.int64) for c in ("start_ns", "end_ns")}
    table = table.assign(kind=kind, chunk=0, **times)
    order = ["step", "rank", "start_ns"]
    return JobOperations(
        table.sort_values(order, kind="stable", ignore_index=True), tuple(map(str, kinds))
    )


# --- public jobs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ST", "AR"])
def test_published_slowdowns_of_real_jobs_are_reproduced(name, tmp_path, monkeypatch, capsys):
    path = PUBLISHED / f"straggler-{name}.parquet"
    if not path.is_file():
        pytest.skip("no public recordings beside the checkout")
    monkeypatch.setenv("WHYSLOW_DATA_DIR", str(tmp_path))
    assert main(["fleet", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    published = {
        kind: json.loads((PUBLISHED / f"straggler-{name}.{kind}.json").read_text())
        for kind in ("mw", "ms", "result")
    }
    what_if = answer["what_if"]
    assert what_if["slowdown"] == pytest.approx(published["result"]["blocking_slowdown"], rel=0.003)
    assert what_if["m_w"] == pytest.approx(published["mw"]["Mw"], abs=0.006)
    assert what_if["m_s"] == pytest.approx(published["ms"]["Ms"], abs=0.006)
    stages = {part["name"]: part["slowdown"] for part in what_if["stages"]}
    assert stages == pytest.approx(published["result"]["blocking_decompose_by_stage"], rel=0.003)
    assert sum(answer["ledger"].values()) == answer["window_ns"] * len(answer["ranks"])
    cause = {"ST": "The last stage of the pipeline (3) has more work", "AR": "Rank 0 (stage 0) is"}
    assert cause[name] in answer["sentence"]
    assert answer["schema"] == 1


# --- jobs whose answer is known by arithmetic ----------------------------------------------------


def test_equal_ranks_make_nobody_wait_for_long():
    answer = answer_of(job(lambda *_: 10.0), "job")
    assert answer.what_if.slowdown == pytest.approx(1.0)
    assert answer.sentence.startswith("No rank makes the others wait")
    assert answer.what_if.m_w is None or abs(answer.what_if.m_w) < 1.01


def test_a_slow_rank_is_named_with_what_it_does_and_what_it_costs():
    made = job(lambda rank, *_: 20.0 if rank == 3 else 10.0, stages=1, dp=4, microbatches=4)
    answer = answer_of(made, "job")
    # 4 micro-batches of 20 + 40 ms on the slow rank; all take the mean in the ideal step.
    assert answer.what_if.no_delay_ns == (240 + 1) * MS
    assert answer.what_if.ideal_ns == pytest.approx((150 + 1) * MS)
    assert answer.what_if.slowdown == pytest.approx(241 / 151)
    assert answer.what_if.worst_ranks == (3,)
    assert answer.what_if.m_w == pytest.approx(1.0)
    assert answer.what_if.m_s is None  # one stage
    assert "Rank 3 (stage 0) is slow and explains 100 % of the slowdown" in answer.sentence
    assert "backward-compute takes 40 ms on rank 3, 20 ms on the other ranks" in answer.sentence
    assert answer.culprits[0].rank == 3
    assert answer.culprits[0].row == JobRow.COMPUTE.value
    assert answer.culprits[0].ns == 2 * 3 * 120 * MS  # steps, ranks that wait, each for so long
    assert answer.culprits[0].steps == 2
    assert answer.ledger[JobRow.WAITING.value] == 2 * 3 * 120 * MS


def test_a_longer_last_stage_is_told_from_a_slow_rank():
    made = job(lambda _, stage, __: 20.0 if stage == 2 else 10.0, stages=3, dp=2, microbatches=6)
    answer = answer_of(made, "job")
    assert answer.what_if.m_s >= 0.5 > (answer.what_if.m_w or 0.0)
    assert "The last stage of the pipeline (2) has more work" in answer.sentence
    assert "backward-compute takes 40 ms there, 20 ms on the other stages" in answer.sentence


def test_micro_batches_of_other_lengths_are_nobodys_fault():
    made = job(lambda rank, _, m: 10.0 + 10 * ((rank + m) % 2), stages=1, dp=2, microbatches=6)
    answer = answer_of(made, "job")
    assert answer.what_if.pass_correlation == pytest.approx(1.0)
    assert answer.what_if.slowdown < 1.03  # every rank has as many long ones
    uneven = job(lambda rank, _, m: 10.0 + 20 * (m % 3 == rank), stages=3, dp=3, microbatches=6)
    assert "Micro-batches differ in length" in answer_of(uneven, "job").sentence


def test_launch_delay_is_a_row_of_its_own_and_no_slowdown():
    with_gaps = answer_of(job(lambda *_: 10.0, stages=1, gap_ms=2.0), "job")
    assert with_gaps.what_if.slowdown == pytest.approx(1.0)
    assert with_gaps.what_if.launch_slowdown == pytest.approx((8 * 2 + 121) / 121)
    assert with_gaps.ledger[JobRow.LAUNCH.value] == 2 * 2 * 8 * 2 * MS


def test_a_chain_of_waits_is_charged_to_its_first_cause():
    rows = [
        (0, 0, 0, 0, "forward-compute", 0, 30 * MS, 0),
        (0, 0, 0, 0, "forward-send", 30 * MS, 31 * MS, 0),
        (0, 1, 0, 1, "forward-recv", 0, 31 * MS, 0),
        (0, 1, 0, 1, "forward-compute", 31 * MS, 36 * MS, 0),
        (0, 1, 0, 1, "forward-send", 36 * MS, 37 * MS, 0),
        (0, 2, 0, 2, "forward-recv", 0, 37 * MS, 0),
    ]
    charged = job_ledger(operations(rows)).charged
    of_last = charged[charged["rank"] == 2]
    by_cause = {
        (late, ROWS[row]): ns
        for late, row, ns in of_last[["late_rank", "row", "ns"]].itertuples(index=False)
    }
    assert by_cause == {
        (0, JobRow.COMPUTE): 30 * MS,
        (1, JobRow.TRANSFER): 1 * MS,
        (1, JobRow.COMPUTE): 5 * MS,
    }


def late(rank, ms, *, stages=1, dp=4):
    """A job of equal ranks, of which one begins everything so much later."""
    made = job(lambda *_: 10.0, stages=stages, dp=dp, microbatches=1)
    table = made.table
    table.loc[table["rank"] == rank, "start_ns"] += ms * MS
    ends = (table["rank"] == rank) & ~made.communicates
    table.loc[ends, "end_ns"] += ms * MS
    table.loc[made.communicates, "end_ns"] += ms * MS
    return JobOperations(table, made.kinds)


def test_a_rank_whose_host_is_late_is_named_though_its_operations_are_not_slow():
    answer = answer_of(late(2, 50), "job")
    assert answer.what_if.slowdown == pytest.approx(1.0)
    assert answer.what_if.launch_slowdown == pytest.approx(81 / 31)
    assert answer.sentence == (
        "A step takes 81 ms, 2.61 × as long as without the pauses between operations (31 ms): for "  # noqa: RUF001
        "46 % of the time of all ranks they wait for rank 2, for 19 % while it runs no operation."
    )
    assert "rank 2" in answer.advice


def test_the_member_of_a_message_that_comes_last_is_named_for_both_ends():
    rows = [
        (0, 0, 0, 0, "forward-compute", 0, 10 * MS, 0),
        (0, 0, 0, 0, "forward-send", 10 * MS, 51 * MS, 0),
        (0, 1, 0, 1, "forward-recv", 50 * MS, 51 * MS, 0),
    ]
    of_kind = {row.kind: row for row in answer_of(operations(rows), "job").collectives}
    assert {kind: row.last_rank for kind, row in of_kind.items()} == {
        "forward-send": 1,
        "forward-recv": 1,
    }
    assert of_kind["forward-send"].wait_ns == 40 * MS


def test_a_lone_rank_of_a_stage_is_compared_with_other_stages_and_says_so():
    made = job(lambda _, stage, __: 30.0 if stage == 0 else 10.0, stages=3, dp=1, microbatches=4)
    sentence = answer_of(made, "job").sentence
    assert "60 ms on rank 0, 20 ms on ranks of other stages" in sentence


def test_what_is_lost_in_messages_only_blames_no_computation():
    rows = [(0, 0, 0, 0, "params-all-gather", 0, 50 * MS, 0)]
    rows += [(0, r, r, 0, "params-all-gather", 0, (1 + r) * MS, 0) for r in (1, 2)]
    sentence = answer_of(operations(rows), "job").sentence
    assert "Of that, the slowest rank, 0, explains 100 %" in sentence


def test_passes_that_take_no_time_leave_the_correlation_unknown_not_wrong():
    answer = answer_of(job(lambda rank, *_: 10.0 * (rank > 0), stages=1, dp=2), "job")
    json.dumps(answer.to_dict(), allow_nan=False)
    assert answer.what_if.pass_correlation is None


def test_kinds_that_nobody_knows_are_named():
    rows = [(0, r, r, 0, "p2p-wait", 0, 5 * MS, 0) for r in (0, 1)]
    assert "p2p-wait" in answer_of(operations(rows), "job").notes[0]


def test_more_moments_than_64_bits_count_are_refused():
    rows = [
        (s, r, r, 0, "gc", 0, 80_000 * 1_000_000_000, 0) for s in range(300) for r in range(300)
    ]
    with pytest.raises(TooLongJobError, match="90,000 times a rank and a step"):
        job_ledger(operations(rows))


def test_operations_that_wait_in_a_circle_are_refused():
    rows = [
        (0, 0, 0, 0, "forward-recv", 0, 9, 0),
        (0, 0, 0, 0, "backward-recv", 10, 19, 0),
        (0, 1, 0, 1, "backward-send", 5, 9, 0),
        (0, 1, 0, 1, "forward-send", 10, 19, 0),
    ]
    crossed = operations(rows)
    crossed.table["stage"] = [0, 0, 1, 1]
    with pytest.raises(StuckStepError, match="step 0"):
        stragglers(crossed)


def test_a_job_without_any_time_is_refused():
    with pytest.raises(EmptyJobError):
        stragglers(operations([(0, 0, 0, 0, "forward-compute", 5, 5, 0)]))


KINDS = (
    "forward-compute",
    "forward-send",
    "forward-recv",
    "all-reduce",
    "optimizer-clip-main-grad",
)
OPERATION = st.tuples(
    *(st.integers(0, 1), st.integers(0, 3), st.sampled_from(KINDS)),
    *(st.integers(0, 50), st.integers(0, 20), st.integers(0, 2)),
)


@settings(max_examples=100)
@given(st.lists(OPERATION, min_size=1, max_size=30))
def test_every_nanosecond_of_every_rank_is_booked_once(drawn):
    """Overlapping, missing and nonsensical operations included."""
    rows = [
        (step, rank, rank % 2, rank // 2, kind, start, start + ns, number)
        for step, rank, kind, start, ns, number in drawn
    ]
    made = operations(rows)
    ledger = job_ledger(made)
    own = sum(ledger.row_ns(row) for row in ROWS)
    assert own == ledger.total_ns
    assert ledger.charged["ns"].sum() == ledger.row_ns(JobRow.WAITING)
    assert (ledger.own_ns >= 0).all()


# --- the table that is read ----------------------------------------------------------------------


def written(path, **changes):
    columns = {
        "rank": [0, 1],
        "step": [3, 3],
        "optype": ["forward-compute", "forward-compute"],
        "start_ts": [0.0, 0.0],
        "duration": [0.5, 0.25],
        **changes,
    }
    pd.DataFrame({k: v for k, v in columns.items() if v is not None}).to_parquet(path)
    return path


def test_rows_that_cannot_be_used_are_counted(tmp_path):
    read = read_operations(
        written(tmp_path / "job.parquet", duration=[0.5, float("nan")], seq_id=[0, 1])
    )
    assert len(read.table) == 1
    assert read.table["end_ns"].tolist() == [500_000_000]
    assert read.notes == ("1 of 2 rows have no usable number or time",)


def test_times_since_1970_are_counted_from_the_begin_of_their_step(tmp_path):
    starts = [1.8e9, 1.8e9 + 0.25]
    read = read_operations(written(tmp_path / "job.parquet", start_ts=starts, seq_id=[0, 0]))
    assert read.table["start_ns"].tolist() == [0, 250_000_000]


def test_operations_that_are_not_numbered_are_matched_by_order(tmp_path):
    read = read_operations(written(tmp_path / "job.parquet", rank=[0, 0], start_ts=[1.0, 0.0]))
    assert read.table["sequence"].tolist() == [0, 1]
    assert "matched by their order" in read.notes[0]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optype": None}, "without the column optype"),
        ({"duration": [-1.0, float("inf")]}, "no row has usable numbers and times"),
        ({"rank": [1e300, -1]}, "no row has usable numbers and times"),
        ({"optype": [None, None]}, "no row has usable numbers and times"),
        ({"duration": [1e6, 1e6]}, "steps of more than a day"),
        ({"duration": [0.0, 0.0]}, "a step in which no operation takes any time"),
    ],
)
def test_what_is_no_table_of_operations_is_refused_in_one_line(
    changes, line, tmp_path, monkeypatch
):
    monkeypatch.setenv("WHYSLOW_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(RefusedError, match=line) as error:
        fleet.made(written(tmp_path / "job.parquet", **changes))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("job.parquet: ")


def test_other_files_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WHYSLOW_DATA_DIR", str(tmp_path / "data"))
    path = tmp_path / "junk.parquet"
    path.write_bytes(b"PAR1" + b"junk" * 100)
    assert main(["fleet", str(path)]) == 2
    assert capsys.readouterr().err == (
        "whyslow: junk.parquet: cannot be read as Parquet. Copy it again\n"
    )
