"""Commands of Nsight Compute in reasons of rules that lack counters, and one for all of them."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence

_MISSING = "not collected; run `"  # as ``analyzers.losses.ncu_command.why_missing`` says it


def collected_by(reason: str) -> str:
    """Return the command of Nsight Compute in a reason for missing metrics; empty without one."""
    _, run, line = reason.partition(_MISSING)
    return line.rpartition("`")[0] if run else ""


def together(commands: Sequence[str]) -> str:
    """Return one command that collects what each of ``command``'s commands does.

    Kernels and launches are those of the first, which is like the others of one analysis.
    """
    lists = [shlex.split(line) for line in commands]
    pairs = [pair for words in lists for pair in itertools.pairwise(words)]
    sections = tuple(dict.fromkeys(value for option, value in pairs if option == "--section"))
    metrics = [m for option, value in pairs if option == "--metrics" for m in value.split(",")]
    first = lists[0]
    begin = len(first) - first[::-1].index("--section") + 1 if "--section" in first else len(first)
    rest = first[begin:]
    if rest[:1] == ["--metrics"]:
        rest = rest[2:]
    chosen = ["--metrics", ",".join(dict.fromkeys(metrics))] if metrics else []
    named = [word for section in sections for word in ("--section", section)]
    return shlex.join([*first[: first.index("--section")], *named, *chosen, *rest])
