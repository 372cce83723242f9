"""The files of a report: HTML, Markdown and JSON of one document, each whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import write_file
from reports.document import Document
from reports.html import to_html
from reports.json import to_json
from reports.markdown import to_markdown

if TYPE_CHECKING:
    from collectors.trace import Source

FORMS = {"html": to_html, "markdown": to_markdown, "json": to_json}
"""How a document is written, by the name of the form."""


def write(document: Document, targets: Mapping[str, Path], sources: Iterable[Source]) -> int:
    """Write ``document`` in every form that has a target, and return the bytes written.

    Args:
        document: What to write.
        targets: File by form, as ``FORMS`` names them; each appears only when complete.
        sources: The recordings it is about; none of them is replaced.

    Raises:
        RefusedError: A target is a recording, or no plain file; see ``check_files``.
        OSError: A file cannot be written.
    """
    from library.output_files import check_files

    for source in sources:
        check_files(targets.values(), source)
    written = 0
    for form, target in targets.items():
        data = FORMS[form](document).encode("utf-8", "backslashreplace")
        write_file(target, data)
        written += len(data)
    return written
