"""Single changes to the code: which there are, how they are drawn, and how a trial ends."""

import json
import subprocess

import pandas as pd
import pytest

from benchmarks import mutations
from benchmarks.mutants.changes import changes_of
from benchmarks.mutants.coverage_map import CoverageMap, merged
from benchmarks.mutants.sample import sample, sources
from benchmarks.mutants.trial import NOTICED, SURVIVED, Trial, laboratory

SOURCE = '''\
"""Limits of 3 things."""
LIMIT = 3


def is_over(value: int, least: int = 0) -> bool:
    """Tell whether 3 is less."""
    if value < least and value:
        return False
    return value > LIMIT
'''


def after(source):
    return {(c.kind, c.after) for c in changes_of("m.py", source.encode())}


def test_changes_are_slips_of_the_hand():
    assert after(SOURCE) >= {
        ("constant", "LIMIT = 4"),
        ("comparison", "return value >= LIMIT"),
        ("comparison", "return value < LIMIT"),
        ("and, or", "if value < least or value:"),
        ("condition dropped", "if value:"),
        ("condition dropped", "if value < least:"),
        ("condition negated", "if not (value < least and value):"),
        ("early exit removed", "pass"),
        ("constant", "def is_over(value: int, least: int = 1) -> bool:"),
    }


def test_docstrings_and_annotations_are_left_alone():
    lines = SOURCE.splitlines()
    touched = {c.line for c in changes_of("m.py", SOURCE.encode())}
    assert {lines[line - 1].strip() for line in touched}.isdisjoint({lines[0], lines[5].strip()})


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("x = a + b", "x = a - b"),
        ("x = a + b", "x = a"),
        ("x = a & b", "x = a | b"),
        ("x = ~a", "x = (a)"),
        ("x = min(a, b)", "x = max(a, b)"),
        ("x = a.any()", "x = a.all()"),
        ("x = a[1:]", "x = a[:]"),
        ("x = a[0]", "x = a[-1]"),
        ("x = f(a, b)", "x = f(b, a)"),
        ("x += 1", "x -= 1"),
        ("x += 1", "pass"),
        ("x[0] = 1", "pass"),
        ("f(a)", "pass"),
        ("x = f'{100 * a:.0f} %'", "x = f'{100 / a:.0f} %'"),
        ("x = start_ns; end_ns", "x = end_ns; end_ns"),
        ('x = a["b_ns"] + a["c_ns"]', 'x = a["c_ns"] + a["c_ns"]'),
        ("x = 1_000", "x = 2000"),
        ("x = 0.5", "x = 1.0"),
    ],
)
def test_each_kind_of_slip_is_made(line, change):
    assert change in {text for _, text in after(line)}


@pytest.mark.soak
def test_a_seed_draws_the_same_changes_and_another_seed_others():
    first, again, other = (sample(mutations.ROOT, seed, 20) for seed in (1, 1, 2))
    assert [c.key for c in first] == [c.key for c in again]
    assert {c.key for c in first}.isdisjoint({c.key for c in other})
    assert {c.path for c in first} <= set(sources(mutations.ROOT))


def test_what_is_excused_has_a_reason():
    assert set(mutations.reviewed().values()) <= set(mutations.EXCUSES)


TEST = """\
from limits import is_over

def test_more_than_three_is_over():
    assert is_over(4)

def test_three_is_not():
    assert not is_over(3)
"""


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "root"
    (root / "tests").mkdir(parents=True)
    (root / "limits.py").write_text(SOURCE)
    (root / "tests" / "test_limits.py").write_text(TEST)
    (root / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def coverage_of(text, *more):
    names = ("test_more_than_three_is_over", "test_three_is_not", *more)
    tests = [f"tests/test_limits.py::{n}" for n in names]
    lines = [(test, "limits.py", line) for test in tests for line in (7, 9)]
    return CoverageMap(
        lines=pd.DataFrame(lines, columns=["test", "path", "line"]),
        time_s=dict.fromkeys(tests, 0.01),
        texts={"limits.py": text},
        hashes={"tests/test_limits.py": "1"},
    )


@pytest.mark.soak
def test_a_trial_ends_with_the_first_test_that_fails_and_leaves_the_checkout_alone(
    checkout, tmp_path
):
    changes = changes_of("limits.py", SOURCE.encode())
    chosen = {c.after: c for c in changes}
    # What fails without any change notices nothing.
    with (checkout / "tests" / "test_limits.py").open("a") as file:
        file.write("\ndef test_a_red_one():\n    assert is_over(0)\n")
    coverage = coverage_of(SOURCE, "test_a_red_one")
    with laboratory(checkout, tmp_path / "copy", coverage, ("pytest",)) as place:
        noticed = place.tried(chosen["return value >= LIMIT"], 60)
        through_its_name = place.tried(chosen["LIMIT = 2"], 60)
        survived = place.tried(chosen["if value < least or value:"], 60)
    assert noticed.outcome == NOTICED
    assert noticed.by == "tests/test_limits.py::test_three_is_not"
    assert through_its_name.outcome == NOTICED
    assert (survived.outcome, survived.by) == (
        NOTICED,
        "tests/test_limits.py::test_more_than_three_is_over",
    )
    assert (checkout / "limits.py").read_text() == SOURCE


def test_lines_are_found_again_where_the_text_moved():
    moved = "# one more line\n" + SOURCE
    coverage = coverage_of(SOURCE)
    assert len(coverage.tests_of("limits.py", {8}, moved)) == 2
    assert coverage.tests_of("limits.py", {2}, moved) == []


def test_what_is_recorded_anew_replaces_what_its_file_executed(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_limits.py").write_text("")
    old = coverage_of(SOURCE)
    new = CoverageMap(
        lines=pd.DataFrame(
            [("tests/test_limits.py::t", "limits.py", 2)], columns=["test", "path", "line"]
        ),
        time_s={"tests/test_limits.py::t": 1.0},
        texts={"limits.py": SOURCE},
        hashes={"tests/test_limits.py": "2"},
    )
    both = merged(old, new, tmp_path)
    assert both.tests_of("limits.py", {7, 9}, SOURCE) == []
    assert both.tests_of("limits.py", {2}, SOURCE) == ["tests/test_limits.py::t"]
    assert both.hashes == {"tests/test_limits.py": "2"}


def test_the_share_counts_what_matters(capsys):
    changes = changes_of("limits.py", SOURCE.encode())[:4]
    outcomes = [NOTICED, NOTICED, SURVIVED, SURVIVED]
    tried = {c.key: Trial(o, "", 1, 1.0) for c, o in zip(changes, outcomes, strict=True)}
    share = mutations.print_table(changes, tried, {changes[2].key: "equivalent"})
    assert share == pytest.approx(2 / 3)
    printed = capsys.readouterr().out
    assert changes[3].before in printed
    assert "66.7% of 3 changes that matter were noticed" in printed


def test_results_are_kept_and_survivors_can_be_tried_again(tmp_path):
    results = tmp_path / "seed_1.jsonl"
    rows = [
        {"key": [str(i), "", "", ""], "outcome": outcome, "by": "", "tests": 1, "seconds": 1.0}
        for i, outcome in enumerate([NOTICED, SURVIVED])
    ]
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mutations.without_survivors(results)
    assert json.loads(results.read_text())["outcome"] == NOTICED
    assert len(results.read_text().splitlines()) == 1
