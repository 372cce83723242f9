"""Which test executes which line: recorded once, and followed when the text moves.

The whole suite runs once under `coverage.py`, which notes the test by the line; later, only test
files whose text changed run again. Lines of a source that changed are found again by their text.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

MEASURED = ("analyzers", "collectors", "reports")
_PLUGIN = "benchmarks.mutants.recording_plugin"
TABLE, TIMES = "lines.parquet", "tests.json"


@dataclass(frozen=True)
class CoverageMap:
    """What tests execute.

    Attributes:
        lines: A row for each test, file and line that it executes, with the columns ``test``,
            ``path`` and ``line``; line 0 stands for what runs when the file is imported.
        time_s: By test, how much processor time it took with its fixtures.
        texts: By file, its text when it was recorded.
        hashes: By test file, the hash of its text when it was recorded.
    """

    lines: pd.DataFrame
    time_s: dict[str, float]
    texts: dict[str, str]
    hashes: dict[str, str]

    def tests_of(self, path: str, lines: set[int], text: str) -> list[str]:
        """Return the tests that execute any of a file's lines, as the file reads now.

        Args:
            path: File, from the root of the checkout.
            lines: Lines of it, from 1.
            text: What is in it now.
        """
        old = self._lines_then(path, lines, text)
        of_file = self.lines[self.lines["path"] == path]
        hit = of_file["line"].isin(old)
        return sorted(of_file["test"][hit].unique())

    def _lines_then(self, path: str, lines: set[int], text: str) -> set[int]:
        then = self.texts.get(path, text)
        if then == text:
            return lines
        pairs = difflib.SequenceMatcher(
            None, then.splitlines(), text.splitlines(), autojunk=False
        ).get_opcodes()
        old = set()
        for _, a, a_end, b, b_end in pairs:
            same = a_end - a == b_end - b
            for line in lines:
                if b < line <= b_end:
                    # A line that is new is executed by what executes its surroundings.
                    old |= {line - b + a} if same else set(range(a - 1, a_end + 3))
        return old

    def save(self, store: Path) -> None:
        """Write the map into a folder."""
        store.mkdir(parents=True, exist_ok=True)
        self.lines.to_parquet(store / TABLE, compression="zstd")
        content = {"time_s": self.time_s, "texts": self.texts, "hashes": self.hashes}
        (store / TIMES).write_text(json.dumps(content))


def stored(store: Path) -> CoverageMap | None:
    """Return the map that a folder holds, if it does."""
    if not (store / TIMES).exists():
        return None
    content = json.loads((store / TIMES).read_text())
    return CoverageMap(lines=pd.read_parquet(store / TABLE), **content)


def hashes_of_tests(root: Path) -> dict[str, str]:
    """Return the hash of every test file's text."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "tests").glob("test_*.py"))
    }


def recorded(root: Path, test_files: list[str], workers: int, scratch: Path) -> CoverageMap:
    """Run tests and return what they execute.

    Args:
        root: Checkout, which the tests may litter.
        test_files: What to run, from the root of the checkout.
        workers: How many processes share the tests.
        scratch: Folder for files in between.

    Raises:
        RuntimeError: coverage.py recorded nothing.
    """
    # These are for whoever works on whyslow; the product does not know them.
    from coverage import CoverageData  # type: ignore[import-not-found,unused-ignore]

    settings, data_file = scratch / "coveragerc", scratch / "coverage"
    settings.write_text(f"[run]\nsource = {','.join(MEASURED)}\ndata_file = {data_file}\n")
    times = scratch / "times.json"
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "-p", _PLUGIN]
    command += ["-p", "pytest_cov", "-p", "no:cacheprovider", "--cov", f"--cov-config={settings}"]
    command += ["--cov-context=test", "--cov-report=", f"--times-to={times}", *test_files]
    subprocess.run(command, cwd=root, check=False)
    if not data_file.exists() or not times.exists():
        raise RuntimeError("coverage.py recorded nothing; is pytest-cov installed?")
    data = CoverageData(str(data_file))
    data.read()
    lines = _table(data, root)
    measured = {str(p) for p in lines["path"].unique()}
    return CoverageMap(
        lines=lines,
        time_s={
            test: seconds
            for part in sorted(scratch.glob(f"{times.name}*"))
            for test, seconds in json.loads(part.read_text()).items()
        },
        texts={path: (root / path).read_text(encoding="utf-8") for path in measured},
        hashes={p: h for p, h in hashes_of_tests(root).items() if p in test_files},
    )


def _table(data: object, root: Path) -> pd.DataFrame:
    """Return test, path and line from what coverage.py keeps by file and line."""
    parts = []
    for file in sorted(data.measured_files()):  # type: ignore[attr-defined]
        path = Path(file).relative_to(root).as_posix()
        lines_of: dict[str, list[int]] = defaultdict(list)
        for line, contexts in data.contexts_by_lineno(file).items():  # type: ignore[attr-defined]
            for test in {context.rpartition("|")[0] for context in contexts} - {""}:
                lines_of[test].append(line)
        for test, lines in lines_of.items():
            parts.append((test, path, np.array(lines, np.int32)))
    lengths = np.array([len(p[2]) for p in parts], np.int64)
    return pd.DataFrame(
        {
            "test": _repeated([p[0] for p in parts], lengths),
            "path": _repeated([p[1] for p in parts], lengths),
            "line": np.concatenate([p[2] for p in parts]) if parts else np.zeros(0, np.int32),
        }
    )


def _repeated(words: list[str], lengths: npt.NDArray[np.int64]) -> pd.Series:
    short = pd.Series(words, dtype="category")
    return short.repeat(lengths.tolist()).reset_index(drop=True)


def merged(old: CoverageMap, new: CoverageMap, root: Path) -> CoverageMap:
    """Return one map of two: what was recorded anew replaces what its files executed before."""
    kept_files = {p for p in old.hashes if p not in new.hashes and (root / p).exists()}
    file_of = {test: test.partition("::")[0] for test in old.time_s}
    is_kept = old.lines["test"].astype(str).map(file_of).isin(kept_files)
    kept = _moved(old.lines[is_kept], old, new.texts)
    lines = pd.concat([kept.astype(object), new.lines.astype(object)], ignore_index=True)
    return CoverageMap(
        lines=lines.astype({"test": "category", "path": "category", "line": "int32"}),
        time_s={t: s for t, s in old.time_s.items() if file_of[t] in kept_files} | new.time_s,
        texts=old.texts | new.texts,
        hashes={p: h for p, h in old.hashes.items() if p in kept_files} | new.hashes,
    )


def _moved(lines: pd.DataFrame, old: CoverageMap, texts: dict[str, str]) -> pd.DataFrame:
    """Return recorded lines where they stand in the files now, without those that are gone."""
    parts = []
    for path, rows in lines.groupby("path", observed=True):
        then, now = old.texts[str(path)], texts.get(str(path))
        if now is None or now == then:
            parts.append(rows)
            continue
        matcher = difflib.SequenceMatcher(None, then.splitlines(), now.splitlines(), autojunk=False)
        place: dict[int, int] = {}
        for _, a, a_end, b, b_end in matcher.get_opcodes():
            if a_end - a == b_end - b:
                place |= {a + i + 1: b + i + 1 for i in range(a_end - a)}
        moved = rows["line"].map(place)
        parts.append(rows.assign(line=moved)[moved.notna()])
    return pd.concat(parts, ignore_index=True) if parts else lines


def lines_of_names(text: str, names: set[str]) -> set[int]:
    """Return the lines of a file that mention any of some names, from 1."""
    if not names:
        return set()
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(names))) + r")\b")
    return {i for i, line in enumerate(text.splitlines(), 1) if pattern.search(line)}
