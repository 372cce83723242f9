"""A seeded sample of the changes that could be made to what decides an answer."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.mutants.changes import Mutant, changes_of, is_python

# What turns a recording into an answer, and what goes over the texts of a report.
FOLDERS = ("analyzers", "collectors")
FILES = ("reports/privacy.py",)
# Programs that run others, and what protoc generated: no number of an answer is made there.
LEFT_OUT = (
    "collectors/capture/",
    "collectors/telemetry/sampler.py",
    "collectors/ncu/report_pb2.py",
)


def sources(root: Path) -> list[str]:
    """Return the files that are changed, from the root of the checkout."""
    paths = {p.relative_to(root).as_posix() for f in FOLDERS for p in (root / f).rglob("*.py")}
    return sorted(p for p in paths | set(FILES) if not p.startswith(LEFT_OUT))


def sample(root: Path, seed: int, count: int) -> list[Mutant]:
    """Return changes, drawn so that every line that can be changed is as likely as any other.

    Of a line the kind is drawn first, then the change: otherwise constants, of which each can be
    wrong in two ways, would be most of what is tried.

    Args:
        root: Checkout.
        seed: Two draws with one seed from the same sources are equal.
        count: How many.
    """
    return list(islice(_drawn(root, random.Random(seed)), count))


def _drawn(root: Path, rng: random.Random) -> Iterator[Mutant]:
    texts = {path: (root / path).read_bytes() for path in sources(root)}
    by_line: defaultdict[tuple[str, int], list[Mutant]] = defaultdict(list)
    for path, text in texts.items():
        for change in changes_of(path, text):
            by_line[path, change.line].append(change)
    places = sorted(by_line)
    rng.shuffle(places)
    for place in places:
        alternatives = by_line[place]
        while alternatives:
            kind = rng.choice(sorted({c.kind for c in alternatives}))
            change = rng.choice([c for c in alternatives if c.kind == kind])
            if is_python(change.applied(texts[place[0]])):
                yield change
                break
            alternatives.remove(change)
