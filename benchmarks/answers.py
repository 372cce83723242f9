"""Whether two checkouts of whyslow give the same answers: for changes that must not change any.

``python -m benchmarks.answers --record before.json --checkout ../old ../recordings traces`` asks
``diagnose``, ``whatif`` and ``compare`` for the JSON answer to every recording in these folders
(``compare`` for each one and its neighbour in the folder), and keeps what was printed and the exit
status. ``python -m benchmarks.answers --compare before.json after.json`` then tells the answers
apart: *equal* to the byte, *reworded* when nothing but the words of sentences differ, each shown
before and after for somebody to read, and *different*. With ``--check`` the exit status is 1
when an answer is different or missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = re.compile(r"\.(sqlite|json|json\.gz|ncu-rep|csv|nsys-rep)$")
TIMEOUT_S = 600
STANDS_FOR_FOLDER = "<data>"  # what is printed may name the temporary folder

Answers = dict[str, dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Record the answers of a checkout, or compare two records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="recordings to ask about")
    parser.add_argument("--record", type=Path, metavar="FILE", help="ask, and write the answers")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="which code answers")
    parser.add_argument("--jobs", type=int, default=2, help="questions at the same time")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--check", action="store_true", help="exit 1 when an answer differs")
    chosen = parser.parse_args(arguments)
    if chosen.record:
        answers = record(
            chosen.checkout.resolve(), chosen.folders or [ROOT / "traces"], chosen.jobs
        )
        chosen.record.write_text(json.dumps(answers, indent=1), encoding="utf-8")
        print(f"{len(answers)} answers written to {chosen.record}")
    if not chosen.compare:
        return 0
    before, after = (json.loads(file.read_text(encoding="utf-8")) for file in chosen.compare)
    verdicts = compare(before, after)
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())))
    return int(chosen.check and verdicts["equal"] + verdicts["reworded"] < len(before))


def record(checkout: Path, folders: Sequence[Path], jobs: int = 2) -> Answers:
    """Return what a checkout answers to every question about the recordings in ``folders``."""
    questions = [q for folder in folders for q in _questions(folder.resolve())]
    with tempfile.TemporaryDirectory() as data, ThreadPoolExecutor(jobs) as threads:
        answers = threads.map(lambda q: _answer(checkout, q, data), questions)
        return {
            " ".join(q[:1] + [Path(p).name for p in q[1:]]): a
            for q, a in zip(questions, answers, strict=True)
        }


def _questions(folder: Path) -> Iterator[list[str]]:
    """Yield the command lines for the recordings in one folder and those below it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and RECORDINGS.search(p.name))
    for file in files:
        yield ["diagnose", str(file)]
        yield ["whatif", str(file)]
    for base, new in itertools.pairwise(files):
        if base.parent == new.parent:
            yield ["compare", str(base), str(new)]


def _answer(checkout: Path, question: list[str], data: str) -> dict[str, Any]:
    """Run one command of ``checkout`` and return its exit status and what it printed."""
    ran = subprocess.run(
        [sys.executable, "-m", "cli", *question, "--json", "--data-dir", data],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    printed = {"answer": ran.stdout, "error": "" if ran.returncode == 0 else ran.stderr}
    texts = {name: text.replace(data, STANDS_FOR_FOLDER) for name, text in printed.items()}
    return {"status": ran.returncode, **texts}


def compare(before: Answers, after: Answers) -> Counter[str]:
    """Print every answer that is not equal to the byte; count the verdicts.

    Returns:
        How many questions are ``equal``, ``reworded``, ``different`` and ``missing``.
    """
    verdicts: Counter[str] = Counter()
    rewordings: dict[tuple[str, str], str] = {}
    for question, old in before.items():
        new = after.get(question)
        if new is None:
            verdict = "missing"
        elif new == old:
            verdict = "equal"
        else:
            changes = list(_changes(_decoded(old), _decoded(new)))
            is_reworded = changes and all(
                _is_sentence(a) and _is_sentence(b) for _, a, b in changes
            )
            verdict = "reworded" if is_reworded else "different"
            for place, a, b in changes:
                if is_reworded:
                    rewordings.setdefault((a, b), f"{question} {place}")
                else:
                    print(f"{verdict}: {question} {place}\n  - {a!s:.300}\n  + {b!s:.300}")
            if not changes:
                print(f"different: {question}: the same content, written otherwise")
        verdicts[verdict] += 1
    for (a, b), place in rewordings.items():
        print(f"reworded: {place}\n  - {a}\n  + {b}")
    return verdicts


def _decoded(answer: dict[str, Any]) -> Any:
    """Return an answer with its JSON decoded, where it is JSON."""
    try:
        return {**answer, "answer": json.loads(answer["answer"])}
    except ValueError:
        return answer


def _changes(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two JSON values differ, with what stands there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from _changes(old.get(key), new.get(key), f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _changes(a, b, f"{place}[{number}]")
    elif type(old) is not type(new) or old != new:
        yield place, old, new


def _is_sentence(value: Any) -> bool:
    """Tell whether a value is words for a reader rather than a name or an id."""
    return isinstance(value, str) and " " in value.strip()


if __name__ == "__main__":
    sys.exit(main())
