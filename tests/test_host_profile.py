"""What the host did, where nothing ran on a GPU: times of its own, callers, threads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers import analyze
from analyzers.facts.host_profile import host_profile, host_sentence
from analyzers.facts.spans import Window
from analyzers.report import Report
from collectors.schema import OperatorKind
from reports.diagnosis import diagnosis_summary
from reports.terminal import terminal_text
from tests.traces_in_memory import THREAD, build, forget

OTHER = 12


def operators(*rows, kind=OperatorKind.FRAMEWORK):
    """Return the table of operators: (name, begin, end) in µs, or with the thread behind."""
    return {
        "name": [r[0] for r in rows],
        "start_us": [r[1] for r in rows],
        "duration_us": [r[2] - r[1] for r in rows],
        "thread": [r[3] if len(r) > 3 else THREAD for r in rows],
        "kind": [r[4] if len(r) > 4 else int(kind) for r in rows],
    }


def profile(tmp_path, *rows, **tables):
    return host_profile(build(tmp_path, operators=operators(*rows), **tables))


def test_what_is_inside_is_taken_off_once(tmp_path):
    told = profile(
        tmp_path, ("aten::linear", 0, 100), ("aten::addmm", 10, 70), ("aten::copy_", 20, 50)
    )
    own = {row.name: (row.self_ns, row.total_ns, row.count) for row in told.operators}
    assert own == {
        "aten::linear": (40_000, 100_000, 1),
        "aten::addmm": (30_000, 60_000, 1),
        "aten::copy_": (30_000, 30_000, 1),
    }
    assert told.busy_ns == told.span_ns == 100_000
    assert [row.share for row in told.operators] == [0.4, 0.3, 0.3]


def test_of_a_window_only_what_lies_in_it_counts(tmp_path):
    rows = (("outer", 0, 100), ("inner", 20, 60), ("later", 120, 200), ("last", 150, 160))
    facts = build(tmp_path, operators=operators(*rows))

    def own(start_us, end_us):
        part = host_profile(facts, Window(start_ns=start_us * 1_000, end_ns=end_us * 1_000))
        assert part.operator_count == len(part.operators)
        return {row.name: row.self_ns for row in part.operators}, part

    before, first = own(0, 40)
    assert before == {"outer": 20_000, "inner": 20_000}
    assert (first.span_ns, first.busy_ns) == (40_000, 40_000)
    after, _ = own(40, 200)
    whole = {row.name: row.self_ns for row in host_profile(facts).operators}
    assert {n: before.get(n, 0) + after.get(n, 0) for n in whole} == whole
    assert host_profile(facts, Window(start_ns=100_000, end_ns=120_000)) is None
    assert host_profile(facts, Window(start_ns=0, end_ns=0)).busy_ns == sum(whole.values())


def test_two_threads_count_both(tmp_path):
    told = profile(tmp_path, ("a", 0, 100), ("b", 50, 100, OTHER), ("b", 150, 200, OTHER))
    assert [(t.busy_ns, t.share) for t in told.threads] == [(100_000, 0.5), (100_000, 0.5)]
    assert {row.name: (row.self_ns, row.count) for row in told.operators} == {
        "a": (100_000, 1),
        "b": (100_000, 2),
    }
    assert "2 host threads spent 200 µs" in host_sentence(told)
    assert "the busiest was inside one for 50 % of the 200 µs" in host_sentence(told)


def test_marked_ranges_stand_beside_operators(tmp_path):
    ranges = {"start_us": [0], "duration_us": 100, "name": "step"}
    told = profile(tmp_path, ("aten::mm", 20, 90), ranges=ranges)
    assert [(row.name, row.self_ns) for row in told.operators] == [
        ("aten::mm", 70_000),
        ("step", 30_000),
    ]
    assert "70 % in `aten::mm` itself, 30 % in `step`; that is 100 %" in host_sentence(told)


@pytest.mark.parametrize(("inside", "caller"), [(50, "step (train.py:12)"), (49, "")])
def test_a_caller_of_half_the_time_is_named(tmp_path, inside, caller):
    python = int(OperatorKind.PYTHON)
    told = profile(
        tmp_path,
        ("train.py(12): step", 0, 60, THREAD, python),
        ("aten::mm", 0, inside),
        ("aten::mm", 100, 200 - inside),
    )
    (row,) = told.operators
    assert row.caller == caller


def test_the_user_s_own_function_says_more_than_a_library_s(tmp_path):
    python = int(OperatorKind.PYTHON)
    told = profile(
        tmp_path,
        ("train.py(12): step", 0, 100, THREAD, python),
        ("transformers/models/bert.py(90): forward", 1, 99, THREAD, python),
        ("aten::mm", 2, 98),
    )
    assert told.operators[0].caller == "step (train.py:12)"


def test_python_functions_take_no_time_from_operators(tmp_path):
    python = int(OperatorKind.PYTHON)
    told = profile(
        tmp_path, ("aten::linear", 0, 100), ("train.py(12): hook", 10, 90, THREAD, python)
    )
    assert [(row.name, row.self_ns) for row in told.operators] == [("aten::linear", 100_000)]


def test_with_gpu_work_or_without_names_there_is_no_profile(tmp_path):
    rows = operators(("aten::mm", 0, 100))
    kernels = {"start_us": [0], "duration_us": 10}
    assert host_profile(build(tmp_path / "gpu", operators=rows, kernels=kernels)) is None
    assert host_profile(build(tmp_path / "empty")) is None


def test_the_verdict_gives_the_host_s_answer_before_the_way_out(tmp_path):
    facts = build(tmp_path, operators=operators(("aten::mm", 0, 75), ("aten::add", 75, 100)))
    report = Report.from_dict(analyze(facts.trace).to_dict())
    sentence = report.verdict.sentence
    assert report.verdict.cause == "unknown"
    assert sentence.startswith("No GPU work was recorded: only 2 operators. 1 host thread")
    assert "75 % in `aten::mm` itself, 25 % in `aten::add`" in sentence
    assert sentence.index("host thread") < sentence.index("Record")
    text = terminal_text(diagnosis_summary(report))
    assert "What the host did" in text
    assert "Called from" not in text  # no stacks were recorded


SPANS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 60),
        st.integers(0, 30),
        st.sampled_from([THREAD, OTHER]),
    ),
    min_size=1,
    max_size=14,
)


@given(SPANS)
def test_times_of_their_own_sum_to_the_time_in_any(tmp_path_factory, spans):
    rows = [(name, begin, begin + length, thread) for name, begin, length, thread in spans]
    facts = build(tmp_path_factory.mktemp("host"), operators=operators(*rows))
    told = host_profile(facts)
    inside = {(t, moment) for _, begin, end, t in rows for moment in range(begin, end)}
    forget(facts.trace)
    if told is None:
        assert not inside
        return
    assert told.busy_ns == 1_000 * len(inside)
    assert sum(row.self_ns for row in told.operators) == told.busy_ns
    assert sum(thread.busy_ns for thread in told.threads) == told.busy_ns


@pytest.mark.parametrize(("domain", "named"), [("GIL Trace", "step"), ("MPI", "MPI_Recv")])
def test_holding_the_lock_of_python_is_no_work_but_a_library_s_call_is(tmp_path, domain, named):
    ranges = {
        "start_us": [0, 10],
        "duration_us": [100, 80],
        "name": ["step", "MPI_Recv"],
        "domain": ["mine", domain],
    }
    told = host_profile(build(tmp_path, ranges=ranges))
    assert told.operators[0].name == named
    assert told.busy_ns == 100_000
