"""What a check of the capture is, and the shares that several checks judge by."""

from __future__ import annotations

from collections.abc import Callable

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.ledger.ledger import Ledger
from analyzers.report import QualityNote

MIN_ORPHAN_SHARE = 0.01  # below 1 % they change no number that a reader would act on
MAX_NAMED = 4  # devices or kernels in one sentence
MAX_UNEXPLAINED_SHARE = 0.10  # as much as a cause needs to become the verdict
EXCLUDED = "excluded"  # effect of a note of the reader about rows that it could not use
GPU_WORK = ("kernel_", "memcpy_", "memset_", "graph_")  # codes of those about GPU operations

Check = Callable[[Facts, Ledger, tuple[Iteration, ...]], QualityNote | None]


def quality_note(level: str, code: str, message: str) -> QualityNote:
    """Return a note about the capture."""
    return QualityNote(level=level, code=code, message=message)
