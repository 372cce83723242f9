"""``whyslow compare``: say whether a program got faster, in words, in files and as a status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cli.iterations import add_iterations
from cli.recordings import opened_trace
from cli.terminal import progress_bar, writing_to
from jobs.api import measure

if TYPE_CHECKING:
    from analyzers.compare.types import Comparison
    from collectors.trace import Trace

ANSWERED, REGRESSED, INCONCLUSIVE = 0, 1, 4
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
        help="compare two programs that look different, because they do the same work",
    )
    command.add_argument(
        "--fail-on-regression",
        type=percent,
        default=None,
        metavar="PERCENT",
        help="exit 1 when an iteration takes this much longer, 4 when that cannot be determined",
    )
    command.add_argument(
        "--require-repeats",
        type=int,
        default=1,
        metavar="N",
        help="exit 4 unless each side has this many recordings (with --fail-on-regression)",
    )
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write a summary for a pull request"
    )
    command.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")


def percent(text: str) -> float:
    """Read ``3%`` or ``3`` as 0.03.

    Raises:
        argparse.ArgumentTypeError: It is no percentage of 0 or more.
    """
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage such as 3%")
    return value


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


class Gate(NamedTuple):
    """What the caller is told: an exit status, and why it is not 0."""

    status: int
    failure: str = ""
    inconclusive: str = ""


def gate(comparison: Comparison, allowed: float | None, repeats: int = 1) -> Gate:
    """Decide whether a change may pass.

    It fails when the lower end of the interval in general lies above ``allowed``: two runs of one
    program do not fail more often than stated. It passes when the upper end lies below it, with
    one recording a side the upper end within these two runs. Between them it is inconclusive: a
    gate that lets through what it cannot see is none.

    Args:
        comparison: The answer.
        allowed: Share of base's time; None when nobody asked for a gate: then the status is 0.
        repeats: Recordings that each side must have at least to fail or pass.
    """
    from analyzers.compare.types import ComparisonVerdict
    from analyzers.words import share_text

    verdict, delta = comparison.verdict, comparison.delta
    if allowed is None:
        failure = comparison.sentence if verdict is ComparisonVerdict.REGRESSED else ""
        open_answers = (ComparisonVerdict.INCONCLUSIVE, ComparisonVerdict.NOT_COMPARABLE)
        undecided = comparison.sentence if verdict in open_answers else ""
        return Gate(ANSWERED, failure, undecided)
    if delta is None or delta.low is None or delta.high is None:
        return Gate(INCONCLUSIVE, inconclusive=comparison.sentence)
    fewest = min(len(side.recordings) for side in (comparison.base, comparison.new))
    if fewest < repeats:
        why = f"{repeats} recordings of each side are required, {fewest} given."
        return Gate(INCONCLUSIVE, inconclusive=f"{why} {comparison.sentence}")
    limit_ns = allowed * delta.base
    if verdict is ComparisonVerdict.REGRESSED and delta.low > limit_ns:
        return Gate(REGRESSED, failure=comparison.sentence)
    highest = delta.high if delta.high_in_runs is None else delta.high_in_runs
    if highest <= limit_ns or verdict is ComparisonVerdict.IMPROVED:
        return Gate(ANSWERED)
    detectable = share_text(
        max(delta.detectable or 0.0, delta.high - delta.change) + limit_ns, delta.base
    )
    why = (
        f"A regression of more than {allowed:.1%} can neither be shown nor ruled out; one of "
        f"{detectable} would have been shown."
    )
    return Gate(INCONCLUSIVE, inconclusive=f"{why} {comparison.sentence}")


def write_files(comparison: Comparison, chosen: argparse.Namespace, answer: Gate) -> None:
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

        text = to_junit(comparison, failure=answer.failure, inconclusive=answer.inconclusive)
        chosen.junit.write_text(text, encoding="utf-8")


def run(chosen: argparse.Namespace) -> int:
    """Print the comparison; return what the gate answers."""
    *_, comparison = compare_sides(chosen, smallest=chosen.smallest, anyway=chosen.anyway)
    answer = gate(comparison, chosen.fail_on_regression, chosen.require_repeats)
    with writing_to(chosen.markdown or chosen.junit or Path("stdout")):
        write_files(comparison, chosen, answer)
    if chosen.json:
        sys.stdout.write(f"{comparison.to_json()}\n")
        return answer.status
    from reports.comparison import comparison_summary
    from reports.terminal import print_document

    print_document(comparison_summary(comparison))
    return answer.status


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
