"""``whyslow compare``: say whether a program got faster, in words, in files and as a status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cli.gate import TIME, Gate, add_limits, decisions, limits_of, percent, status_of
from cli.iterations import add_iterations
from cli.recordings import opened_trace
from cli.terminal import progress_bar, writing_to
from common.text import printable
from jobs.api import measure

if TYPE_CHECKING:
    from analyzers.compare.types import Comparison
    from collectors.trace import Trace

SEPARATOR, NEW_OPTION = "--", "--new"


def with_separator(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which what divides base from new is an option, so that more may follow.

    ``compare A B -- C D --json`` reads better than ``--new``, but to a parser ``--`` ends options.
    """
    words = list(arguments)
    if words[:1] in (["compare"], ["report"]) and SEPARATOR in words:
        words[words.index(SEPARATOR)] = NEW_OPTION
    return words


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what ``compare`` takes."""
    command.usage = (
        "whyslow compare BASE [BASE ...] -- NEW [NEW ...] [options]\n"
        "       whyslow compare BASE NEW [options]"
    )
    command.add_argument("recordings", nargs="+", type=Path, metavar="BASE")
    command.add_argument(
        NEW_OPTION, nargs="+", type=Path, metavar="NEW", help="recordings after the change; or --"
    )
    command.add_argument(
        "--window",
        default="",
        metavar="WINDOW",
        help="what an iteration is: nvtx:NAME (every range of that name); by default the "
        "iterations that are found. Or one stretch: nvtx:NAME#n, iteration:n, span:START_NS-END_NS",
    )
    add_iterations(command)
    command.add_argument(
        "--device", default="", metavar="N", help="device to compare (default: the busiest)"
    )
    command.add_argument(
        "--smallest",
        type=percent,
        default=None,
        metavar="PERCENT",
        help="smallest change that matters (1%%)",
    )
    command.add_argument(
        "--anyway",
        action="store_true",
        help="compare although GPUs, tools, results or programs differ, because you know why",
    )
    add_limits(command)
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write a summary for a pull request"
    )
    command.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")


def sides(chosen: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Return the recordings before and after.

    Raises:
        RefusedError: It cannot be told which is which.
    """
    recordings: list[Path] = list(chosen.recordings)
    if chosen.new:
        return recordings, list(chosen.new)
    if len(recordings) == 2:
        return recordings[:1], recordings[1:]
    from collectors.errors import RefusedError

    raise RefusedError(
        "compare: give BASE NEW, or BASE [BASE ...] -- NEW [NEW ...]; "
        f"with {len(recordings)} recordings and no -- it is unclear which is which"
    )


def write_files(
    comparison: Comparison, chosen: argparse.Namespace, answers: dict[str, Gate]
) -> None:
    """Write the files that the command line names.

    Raises:
        OSError: A file cannot be written.
    """
    if chosen.markdown:
        from reports.comparison import comparison_summary
        from reports.markdown import to_markdown

        text = to_markdown(comparison_summary(comparison), level=3)
        chosen.markdown.write_text(text, encoding="utf-8")
    if chosen.junit:
        from reports.junit import to_junit

        text = to_junit(comparison, {n: (g.failure, g.inconclusive) for n, g in answers.items()})
        chosen.junit.write_text(text, encoding="utf-8")


def run(chosen: argparse.Namespace) -> int:
    """Print the comparison; return what the gate answers."""
    *_, comparison = compare_sides(chosen, smallest=chosen.smallest, anyway=chosen.anyway)
    answers = decisions(comparison, limits_of(chosen))
    with writing_to(chosen.markdown or chosen.junit or Path("stdout")):
        write_files(comparison, chosen, answers)
    if chosen.json:
        sys.stdout.write(f"{comparison.to_json()}\n")
        return status_of(answers)
    from reports.comparison import comparison_summary
    from reports.terminal import print_document

    print_document(comparison_summary(comparison))
    for name, answer in answers.items():
        if answer.status and name != TIME:
            print(printable(f"{name}: {answer.failure or answer.inconclusive}"))
    return status_of(answers)


def compare_sides(
    chosen: argparse.Namespace, *, smallest: float | None = None, anyway: bool = False
) -> tuple[list[Trace], list[Trace], Comparison]:
    """Compare recordings; two are opened at a time, as there are two sides."""
    from library import comparisons

    base, new = sides(chosen)
    with progress_bar("compare") as show, ThreadPoolExecutor(comparisons.AT_A_TIME) as threads:
        traces = list(threads.map(lambda path: opened_trace(path, show), [*base, *new]))
        both_sides = traces[: len(base)], traces[len(base) :]
        options = {"window": chosen.window, "device": chosen.device}
        options |= {"smallest": smallest, "anyway": anyway}
        return (
            *both_sides,
            comparisons.compare_recordings(*both_sides, **options, measure=measure),
        )
