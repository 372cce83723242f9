"""Tries a change: a copy of the checkout gets it, and the tests that execute its line run there."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutants.changes import Mutant
from benchmarks.mutants.coverage_map import CoverageMap, lines_of_names

NOTICED, SURVIVED = "noticed", "survived"

# Tests run in portions, so that most changes end with the first: seconds of tests by portion.
PORTIONS_S = (6.0, 30.0)
SLOW_S = 1.0  # a slower test waits until all others have run
MOST_DEFINITIONS = 4  # of one another, from a changed one to one that a function uses
SLOWER = 4  # a test may take so many times what it took
# What nearly every test imports.
LIBRARIES = (
    *("numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "scipy.stats", "scipy.special"),
    *("numba", "msgspec.json", "hypothesis", "psutil", "google.protobuf.message", "jinja2"),
    *("rich.console", "pytest", "adbc_driver_sqlite.dbapi", "sqlite3"),
)

START_S = 20.0  # to import everything on a busy machine, and a test that compiles


@dataclass(frozen=True)
class Trial:
    """What became of a change.

    Attributes:
        outcome: ``noticed`` or ``survived``.
        by: The test that failed; "too long" where the tests did not end.
        tests: How many tests ran, or could have.
        seconds: How long it took.
    """

    outcome: str
    by: str
    tests: int
    seconds: float


class Laboratory:
    """A copy of the checkout, in which changes are tried one after another."""

    def __init__(
        self, root: Path, scratch: Path, coverage: CoverageMap, libraries: tuple[str, ...]
    ) -> None:
        self.copy = scratch / "checkout"
        self.coverage = coverage
        self._successes: Counter[tuple[str, str]] = Counter()
        self._passing: set[str] = set()  # without any change
        self._failing: set[str] = set()
        _copy_checkout(root, self.copy)
        temporary = scratch / "tmp"
        temporary.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        environment |= {
            "PYTHONPATH": str(self.copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(temporary),
            "NUMBA_CACHE_DIR": str(scratch / "numba"),
        }
        # Compiled with the hash of the source, a changed file is never taken for its former self.
        compiling = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode=checked-hash"]
        subprocess.run([*compiling, str(self.copy)], check=True, env=environment)
        server = Path(__file__).with_name("server.py").read_text(encoding="utf-8")
        self._server = subprocess.Popen(
            [sys.executable, "-c", server, *libraries],
            cwd=self.copy,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the server."""
        self._server.communicate()

    def text(self, path: str) -> bytes:
        """Return the text of a file, unchanged."""
        return (self.copy / path).read_bytes()

    def tests_of(self, change: Mutant) -> list[str]:
        """Return the tests that execute what a change touches, the most promising first."""
        text = self.text(change.path).decode()
        lines = set(range(change.line, change.end_line + 1))
        tests = self.coverage.tests_of(change.path, lines, text)
        if not tests:
            tests = self._tests_of_names(change, text, lines)
        return self._ordered(change.path, tests)

    def _tests_of_names(self, change: Mutant, text: str, lines: set[int]) -> list[str]:
        """Return the tests that use what is defined on lines that run while importing.

        What only other definitions of the file use is looked for under their names.
        """
        names = _names_defined(text, lines)
        for _ in range(MOST_DEFINITIONS):
            if not names:
                break
            if tests := self._tests_that_use(names, change.path):
                return sorted(tests)
            names = _names_defined(text, lines_of_names(text, names)) - names
        return []

    def _tests_that_use(self, names: set[str], defined_in: str) -> set[str]:
        """Return the tests that execute lines on which a file's names stand."""
        tests = set()
        for path in sorted({defined_in, *self.coverage.texts}):
            if not (self.copy / path).exists():
                continue
            other = self.text(path).decode()
            mentioned = lines_of_names(other, names)
            if mentioned and (path == defined_in or _imports(other, defined_in)):
                tests |= set(self.coverage.tests_of(path, mentioned, other))
        return tests

    def _ordered(self, path: str, tests: list[str]) -> list[str]:
        """Return tests that noticed something in the file first, then those named like it.

        Of each test file the fast ones come first, and none waits for the slow ones of another.
        """
        time_s = self.coverage.time_s
        spent: defaultdict[str, float] = defaultdict(float)
        ranked = []
        for test in sorted(tests, key=lambda t: time_s.get(t, 0.0)):
            file = test.partition("::")[0]
            spent[file] += time_s.get(test, 0.0)
            is_slow = time_s.get(test, 0.0) > SLOW_S
            rank = -self._successes[path, test], is_slow, -_likeness(path, file), spent[file], test
            ranked.append(rank)
        return [test for *_, test in sorted(ranked)]

    def tried(self, change: Mutant, longest_s: float) -> Trial:
        """Make a change, run its tests until one fails, and take it back.

        Args:
            change: What to try.
            longest_s: How many seconds of tests to run at most, measured without the change.
        """
        begun = time.monotonic()
        while True:
            tests = [test for test in self.tests_of(change) if test not in self._failing]
            by = self._noticed_by(change, tests, longest_s)
            if by not in tests or self._passes(by):
                break
        seconds = time.monotonic() - begun
        if not by:
            return Trial(SURVIVED, "", len(tests), seconds)
        self._successes[change.path, by] += 1
        return Trial(NOTICED, by, len(tests), seconds)

    def _noticed_by(self, change: Mutant, tests: list[str], longest_s: float) -> str:
        """Return the test that fails with a change, or why they all did; empty for none."""
        place = self.copy / change.path
        before = place.read_bytes()
        place.write_bytes(change.applied(before))
        try:
            for portion in self._portions(tests, longest_s):
                answer = self._server_answer(portion)
                if answer["outcome"] != "passed":
                    return str(answer["by"] or answer["outcome"])
        finally:
            place.write_bytes(before)
        return ""

    def _passes(self, test: str) -> bool:
        """Tell whether a test passes without any change; one that does not notices nothing."""
        if test not in self._passing:
            if self._server_answer([test])["outcome"] != "passed":
                self._failing.add(test)
                return False
            self._passing.add(test)
        return True

    def _portions(self, tests: list[str], longest_s: float) -> Iterator[list[str]]:
        limits = [*(s for s in PORTIONS_S if s < longest_s), longest_s]
        spent, portion = 0.0, list[str]()
        for test in tests:
            spent += self.coverage.time_s.get(test, 0.0)
            portion.append(test)
            if spent > limits[0]:
                yield portion
                portion = []
                while limits and spent > limits[0]:
                    limits.pop(0)
                if not limits:
                    return
        if portion:
            yield portion

    def _server_answer(self, tests: list[str]) -> dict[str, Any]:
        took = sum(self.coverage.time_s.get(test, 0.0) for test in tests)
        files = sorted({test.partition("::")[0] for test in tests})
        # By file, so that what the tests of a file share is made once.
        best = {
            f: place for place, f in reversed(list(enumerate(t.partition("::")[0] for t in tests)))
        }
        ordered = sorted(tests, key=lambda t: best[t.partition("::")[0]])
        job = {"files": files, "tests": ordered, "limit_s": START_S + SLOWER * took}
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        if answer["outcome"] == "broken":
            raise RuntimeError(f"the tests could not run: {answer['by']}")
        return answer


@contextmanager
def laboratory(
    root: Path, scratch: Path, coverage: CoverageMap, libraries: tuple[str, ...] = LIBRARIES
) -> Iterator[Laboratory]:
    """Set up a laboratory, and clean up.

    Args:
        root: Checkout to copy.
        scratch: Empty folder for the copy and what tests leave.
        coverage: Which tests execute which lines.
        libraries: What to import before the first trial.
    """
    place = Laboratory(root, scratch, coverage, libraries)
    try:
        yield place
    finally:
        place.close()


def _copy_checkout(root: Path, copy: Path) -> None:
    """Copy what git tracks or would track; recordings beside the checkout lie beside the copy."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=root, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
    shared = (root / ".." / "shared").resolve()
    if shared.is_dir():
        (copy.parent / "shared").symlink_to(shared)
    # Some tests ask git what belongs to the project.
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=copy, check=True, capture_output=True)


def _names_defined(text: str, lines: set[int]) -> set[str]:
    """Return the names that statements on some lines bind while the file is imported."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        is_there = isinstance(node, ast.stmt) and lines & set(
            range(node.lineno, (node.end_lineno or node.lineno) + 1)
        )
        if is_there and isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif is_there and isinstance(node, ast.FunctionDef) and node.lineno in lines:
            names.add(node.name)
    return names


def _likeness(path: str, test_file: str) -> int:
    """Return how many words the names of a file and of a test file share."""
    words, test_words = (
        {word.rstrip("s") for word in re.findall(r"[a-z]+", text.removesuffix(".py"))}
        for text in (path, test_file)
    )
    return len(words & test_words - {"test"})


def _imports(text: str, path: str) -> bool:
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return module in text or f"from {module.rpartition('.')[0]} import" in text
