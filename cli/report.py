"""``whyslow report``: write a diagnosis or a comparison to HTML, Markdown or JSON files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analyzers.words import size_text
from cli.compare import NEW_OPTION, compare_sides
from cli.iterations import add_iterations
from cli.recordings import open_with_progress, stored_analysis
from cli.terminal import writing_to
from common.text import printable, short_path
from jobs.api import predict_compared
from library import cache
from reports.privacy import KINDS

if TYPE_CHECKING:
    from analyzers.compare.types import Comparison
    from analyzers.whatif.whatif import WhatIf
    from collectors.trace import Source, Trace
    from library.analyses import StoredAnalysis
    from reports.about import ReportOptions
    from reports.document import Document

FORMS = {"html": "FILE.html", "markdown": "FILE.md", "json": "FILE.json"}


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what is reported, how it is written and what it may tell."""
    command.usage = (
        "whyslow report RECORDING [options]\n"
        "       whyslow report BASE NEW [options]\n"
        "       whyslow report BASE [BASE ...] -- NEW [NEW ...] [options]"
    )
    command.add_argument("recordings", nargs="+", type=Path, metavar="RECORDING")
    command.add_argument(
        NEW_OPTION, nargs="+", type=Path, metavar="NEW", help="recordings after the change; or --"
    )
    command.add_argument(
        "--window",
        default="",
        metavar="WINDOW",
        help="as in diagnose; for two sides, as in compare",
    )
    add_iterations(command)
    command.add_argument(
        "--counters", type=Path, metavar="REPORT.ncu-rep", help="as in diagnose; not for two sides"
    )
    command.add_argument(
        "--device", default="", metavar="N", help="for two sides: the device to compare"
    )
    for form, metavar in FORMS.items():
        command.add_argument(
            f"--{form}", type=Path, metavar=metavar, help=f"write {form} to this file"
        )
    command.add_argument(
        "--force", action="store_true", help="replace files that are there already"
    )
    command.add_argument(
        "--base-url",
        default="",
        metavar="URL",
        help="address of the dashboard that links point to, such as http://127.0.0.1:8501",
    )
    command.add_argument(
        "--include-private",
        nargs="?",
        const=",".join(KINDS),
        default="",
        metavar="KINDS",
        help=f"keep private text: all, or some of {','.join(KINDS)}",
    )


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What the command line asks for.

    Attributes:
        targets: File by form.
        options: How the report is made.
    """

    targets: dict[str, Path]
    options: ReportOptions

    @property
    def first(self) -> Path:
        """The first file that is written."""
        return next(iter(self.targets.values()))

    def write(self, document: Document, sources: list[Source]) -> str:
        """Write the document, and return what was written in words.

        Raises:
            RefusedError: A target must not be replaced.
            OSError: A file cannot be written.
        """
        from reports.files import write

        written = write(document, self.targets, sources)
        return f"{', '.join(str(t) for t in self.targets.values())}: {size_text(written)}"

    def diagnose(self, trace: Trace, stored: StoredAnalysis, window: str, counters: str) -> str:
        """Write the report about one recording, and return what was written in words.

        Raises:
            TraceError: What was stored is damaged, or a target must not be replaced.
            OSError: A file cannot be written.
        """
        from reports.about import ReportedWindow
        from reports.diagnosis import diagnosis_report

        where = ReportedWindow(trace_id=trace.id, window=window, counters=counters)
        document = diagnosis_report(trace, stored, where, self.options)
        return self.write(document, [trace.source])

    def compare(
        self,
        base: list[Trace],
        new: list[Trace],
        comparison: Comparison,
        what_if: WhatIf | None = None,
    ) -> str:
        """Write the report about a comparison, and return what was written in words.

        Args:
            base: Recordings before the change.
            new: Recordings after it.
            comparison: The answer.
            what_if: Predictions from the baseline; None when there are none.

        Raises:
            RefusedError: A target must not be replaced.
            OSError: A file cannot be written.
        """
        from reports.comparison import Sides, comparison_report, named_sources

        sources = named_sources(base, new)
        document = comparison_report(
            comparison, Sides(sources=sources, what_if=what_if), self.options
        )
        return self.write(document, [source for _, source in sources])


def report_request(chosen: argparse.Namespace) -> ReportRequest:
    """Return what the command line asks for.

    Raises:
        RefusedError: It asks for nothing, or for something that there is not.
    """
    from collectors.errors import RefusedError
    from reports.about import ReportOptions
    from reports.privacy import privacy_of

    targets = {form: path for form in FORMS if (path := getattr(chosen, form))}
    if not targets:
        raise RefusedError("no file to write the report to. Add --html, --markdown or --json FILE")
    if chosen.counters and (len(chosen.recordings) > 1 or chosen.new):
        raise RefusedError("--counters: joined to one recording, not to a comparison. Leave it out")
    if len(set(targets.values())) < len(targets):
        raise RefusedError("two forms of the report cannot be the same file. Name another one")
    kinds = [k.strip() for k in chosen.include_private.split(",") if k.strip()]
    if strange := set(kinds) - set(KINDS):
        raise RefusedError(f"--include-private: {min(strange)[:40]} is none of {', '.join(KINDS)}")
    base_url = chosen.base_url
    if base_url and not base_url.startswith(("http://", "https://")):
        raise RefusedError("--base-url: not an address that begins with http:// or https://")
    options = ReportOptions(privacy=privacy_of(kinds), base_url=base_url)
    return ReportRequest(targets=targets, options=options)


def run(chosen: argparse.Namespace) -> None:
    """Write the report."""
    request = report_request(chosen)
    if not chosen.force:
        _check_new(request.targets.values())
    if len(chosen.recordings) > 1 or chosen.new:
        base, new, comparison = compare_sides(chosen)
        what_if = _baseline_predictions(base[0], comparison)
        with writing_to(request.first):
            what = request.compare(base, new, comparison, what_if)
    else:
        what = _write_diagnosis(chosen, request)
    print(printable(what))


def _check_new(targets: Iterable[Path]) -> None:
    """Refuse to replace a file that nobody said may go.

    Raises:
        RefusedError: There is a file, or anything else, of this name.
    """
    from collectors.errors import RefusedError

    for target in targets:
        if os.path.lexists(target):
            raise RefusedError(
                f"{short_path(str(target))}: exists already. Add --force to replace it, or choose "
                "another name"
            )


def _baseline_predictions(baseline: Trace, comparison: Comparison) -> WhatIf | None:
    """Return what a change of the baseline would win; None where nothing can stand beside it."""
    from analyzers.compare.types import ComparisonVerdict

    if comparison.verdict is ComparisonVerdict.NOT_COMPARABLE:
        return None
    recording = comparison.base.recordings[0]
    return predict_compared(baseline, recording.request, recording.warm_up)


def _write_diagnosis(chosen: argparse.Namespace, request: ReportRequest) -> str:
    from collectors.errors import DamagedError

    path, window = chosen.recordings[0], chosen.window
    counters = open_with_progress(chosen.counters).trace.id if chosen.counters else ""
    for is_last in (False, True):
        stored = stored_analysis(path, window, counters)
        trace = cache.named(cache.get(stored.trace_id), stored.name)
        try:
            with writing_to(request.first):
                return request.diagnose(trace, stored, window, counters)
        except DamagedError:  # noticed only while its tables are read: made anew, once
            if is_last:
                raise
            cache.remove(trace.id)
    raise AssertionError
