"""Changes the code in one place at a time and tells which changes no test notices.

``python -m benchmarks.mutations --seed 1`` draws 200 single changes over the readers, the analysis
and the privacy of reports, makes each in a copy of the checkout, and runs the tests that execute
the changed line until one fails. What has no effect, or none that could mislead a reader, is named
with its reason in ``mutants/reviewed.json``, by the text of its line; nothing else is excused.

Two libraries were looked at first. mutmut 3 changes functions only, so no threshold, and chooses
tests by function; cosmic-ray changes the working tree and runs one command for each change. Neither
draws a seeded sample.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from benchmarks.mutants.changes import Mutant
from benchmarks.mutants.coverage_map import (
    CoverageMap,
    hashes_of_tests,
    merged,
    recorded,
    stored,
)
from benchmarks.mutants.sample import sample
from benchmarks.mutants.trial import NOTICED, SURVIVED, Trial, laboratory

ROOT = Path(__file__).parents[1]
REVIEWED = Path(__file__).parent / "mutants" / "reviewed.json"
STORE = ROOT / "build" / "mutations"

REACH = 0.95  # of the changes that matter
LONGEST_S = 60.0  # of tests for one change
EXCUSES = ("equivalent", "harmless")  # no effect at all; none that a reader could be misled by

Key = tuple[str, str, str, str]


def reviewed() -> dict[Key, str]:
    """Return, by change, why it does not matter: one of ``EXCUSES``.

    Raises:
        ValueError: an entry has no reason, or another excuse.
    """
    excuses = {}
    for entry in json.loads(REVIEWED.read_text(encoding="utf-8")):
        if entry["excuse"] not in EXCUSES or not entry["reason"].strip():
            raise ValueError(f"{REVIEWED.name}: {entry} needs an excuse and a reason")
        key = (entry["path"], entry["function"], entry["before"], entry["after"])
        excuses[key] = entry["excuse"]
    return excuses


def coverage_of(store: Path, workers: int, *, only_stored: bool) -> CoverageMap:
    """Return which tests execute which lines, recording the test files that changed."""
    coverage = stored(store)
    hashes = hashes_of_tests(ROOT)
    recorded_hashes = coverage.hashes if coverage else {}
    stale = sorted(path for path, text in hashes.items() if recorded_hashes.get(path) != text)
    if coverage and (only_stored or not stale):
        return coverage
    print(f"recording what {len(stale)} test files execute", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="whyslow-mutations-") as scratch:
        new = recorded(ROOT, stale, workers, Path(scratch))
    coverage = merged(coverage, new, ROOT) if coverage else new
    coverage.save(store)
    return coverage


def trials(
    changes: list[Mutant], coverage: CoverageMap, results: Path, longest_s: float
) -> dict[Key, Trial]:
    """Try changes, except those of which the result is known, and keep each result at once."""
    tried = _kept_results(results)
    missing = [change for change in changes if change.key not in tried]
    with (
        tempfile.TemporaryDirectory(prefix="whyslow-mutations-") as scratch,
        laboratory(ROOT, Path(scratch), coverage) as place,
        results.open("a", encoding="utf-8") as file,
    ):
        for number, change in enumerate(missing, 1):
            trial = place.tried(change, longest_s)
            tried[change.key] = trial
            file.write(json.dumps({"key": change.key, **asdict(trial)}) + "\n")
            file.flush()
            print(
                f"{number}/{len(missing)} {trial.outcome} in {trial.seconds:.1f} s: "
                f"{change.path}:{change.line} {trial.by}",
                file=sys.stderr,
            )
    return tried


def _kept_results(results: Path) -> dict[Key, Trial]:
    if not results.exists():
        return {}
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return {(*row.pop("key"),): Trial(**row) for row in rows}


def without_survivors(results: Path) -> None:
    """Forget the changes that survived, so that they are tried with the tests there are now."""
    if results.exists():
        lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["outcome"] == NOTICED]
        results.write_text("".join(kept), encoding="utf-8")


def outcome_of(change: Mutant, trial: Trial, excuses: dict[Key, str]) -> str:
    """Return ``noticed``, ``equivalent``, ``harmless`` or ``survived``."""
    return NOTICED if trial.outcome == NOTICED else excuses.get(change.key, SURVIVED)


def _room(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 or parts[0] == "reports" else parts[0]


def print_table(changes: list[Mutant], tried: dict[Key, Trial], excuses: dict[Key, str]) -> float:
    """Print what became of the changes, by folder; return the share noticed of what matters."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for change in changes:
        outcome = outcome_of(change, tried[change.key], excuses)
        counts[_room(change.path)][outcome] += 1
        counts["together"][outcome] += 1
        if outcome == SURVIVED:
            print(f"{change.path}:{change.line} in {change.function or 'the file'}: {change.kind}")
            print(f"    {change.before}\n    {change.after}")
    columns = (NOTICED, *EXCUSES, SURVIVED)
    print(f"{'':28}" + "".join(f"{column:>12}" for column in columns))
    for room in sorted(counts, key=lambda r: (r == "together", r)):
        print(f"{room:28}" + "".join(f"{counts[room][column]:12}" for column in columns))
    total = counts["together"]
    share = total[NOTICED] / max(total[NOTICED] + total[SURVIVED], 1)
    print(f"{share:.1%} of {total[NOTICED] + total[SURVIVED]} changes that matter were noticed")
    return share


def main() -> int:
    """Try a sample and print the table; with ``--check``, 1 when too few changes are noticed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.mutations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", default="", help="files whose path begins so")
    parser.add_argument(
        "--longest", type=float, default=LONGEST_S, help="seconds of tests a change"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that record coverage")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--no-recording", action="store_true", help="use the coverage there is")
    parser.add_argument("--again", action="store_true", help="try again what survived before")
    parser.add_argument("--check", action="store_true", help=f"fail below {REACH:.0%}")
    options = parser.parse_args()
    coverage = coverage_of(options.store, options.workers, only_stored=options.no_recording)
    results = options.store / f"seed_{options.seed}.jsonl"
    if options.again:
        without_survivors(results)
    changes = [
        change
        for change in sample(ROOT, options.seed, options.count)
        if change.path.startswith(options.only)
    ]
    tried = trials(changes, coverage, results, options.longest)
    share = print_table(changes, tried, reviewed())
    return int(options.check and share < REACH)


if __name__ == "__main__":
    sys.exit(main())
