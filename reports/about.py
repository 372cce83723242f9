"""What every report says about itself: what it was made of, by what, and what was removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reports.document import Block, Cell, Document, DocumentTable, Place, Sentence, TableColumn
from reports.privacy import Privacy

if TYPE_CHECKING:
    from collectors.trace import Source

TOOLS = {"nsys": "Nsight Systems", "ncu": "Nsight Compute", "torch": "the torch profiler"}
NO_VERSION = "not installed"


@dataclass(frozen=True, kw_only=True)
class ReportedWindow:
    """The recording and the window that a report's places lie in.

    Attributes:
        trace_id: The recording in the library.
        window: As the command line takes it.
        counters: Id of the recording whose counters are joined; empty for none.
        recording: Which recording, in words; empty when there is only one.
    """

    trace_id: str
    window: str = ""
    counters: str = ""
    recording: str = ""

    def place(self, start_ns: int, end_ns: int, *, mark: bool = True) -> Place:
        """Return a stretch of it; without ``mark`` the timeline shows its whole window."""
        fields = {"trace": self.trace_id, "window": self.window, "counters": self.counters}
        if mark:
            fields["mark"] = f"{start_ns}-{end_ns}"
        query = tuple((key, value) for key, value in fields.items() if value)
        return Place(start_ns=start_ns, end_ns=end_ns, recording=self.recording, query=query)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How a report is to be made.

    Attributes:
        privacy: What to remove.
        base_url: Address of the dashboard that links lead to; empty for none.
        made_at: When it was made; None is now.
    """

    privacy: Privacy
    base_url: str = ""
    made_at: datetime | None = None


def about(sources: list[tuple[str, Source]], options: ReportOptions) -> tuple[Block, ...]:
    """Return what the report was made of, by what, and what was removed."""
    moment = (options.made_at or datetime.now(UTC)).astimezone(UTC)
    rows = [
        ("whyslow", program_version()),
        ("Made", f"{moment:%Y-%m-%d %H:%M} UTC"),
    ]
    for words, source in sources:
        size = f"{source.size_bytes:,} bytes" if source.size_bytes >= 0 else "not known"
        rows += [
            (words, source.name),
            (f"{words}: SHA-256", source.sha256 or "not known"),
            (f"{words}: size", size),
            (f"{words}: format", f"{source.format} {source.schema_version}".strip()),
            (f"{words}: recorded by", tool_words(source.format, source.tool_version)),
        ]
    table = DocumentTable(
        columns=(TableColumn(name="What"), TableColumn(name="Value")),
        rows=tuple((Cell(text=name), Cell(text=value)) for name, value in rows),
    )
    return table, Sentence(text=options.privacy.sentence, kind="note")


def tool_words(recorded_as: str, tool_version: str) -> str:
    """Return the tool that recorded a format, with its version."""
    tool = TOOLS.get(recorded_as.partition("-")[0], "a profiler")
    return f"{tool} {tool_version}".strip()


def program_version() -> str:
    """Return the version of whyslow that is installed."""
    # Slow to import, and only a whole report says it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("whyslow")
    except PackageNotFoundError:
        return NO_VERSION


def without_private(document: Document, privacy: Privacy, file_names: list[str]) -> Document:
    """Return ``document`` without what is private, and without what its own texts betray."""
    texts: list[str] = []

    def collect(text: str) -> str:
        texts.append(text)
        return text

    document.mapped(collect)
    return document.mapped(privacy.learned(texts, file_names).text)
