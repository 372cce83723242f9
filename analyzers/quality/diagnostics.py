"""What a recorder says of its own work: what it lost, and what kept it from seeing the GPU."""

from __future__ import annotations

import re
from typing import NamedTuple

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.ledger.ledger import Ledger
from analyzers.quality.note import quality_note
from analyzers.report import QualityNote

MAX_QUOTED = 170  # characters of a message; that on the driver has 160
_WARNING = 2  # severity from which on a message is more than a report of progress
_LOSS = re.compile(
    r"\b(?:lost|loss|dropped|overflow\w*|not all|incomplete|discarded|could not be recorded)\b",
    re.IGNORECASE,
)
_NO_LOSS = re.compile(r"\b(?:0|no) \w+(?: \w+)? (?:were|was) |\b\w+ \w+: 0\b", re.IGNORECASE)
_NEWER = "Record with a version of Nsight Systems that is as new as the driver."
_AGAIN = (
    "Stop other profilers of this GPU (DCGM, ncu, another nsys) and record again with a version of "
    "Nsight Systems that is as new as the driver."
)
_EXPLANATIONS = (  # the first that some message matches says most
    (r"driver version .* is not supported|driver .* not supported by this build", _NEWER),
    (r"CUPTI_ERROR|CUPTI .*(?:fail|error|could not)|fail\w* .*CUPTI", _AGAIN),
    (r"CUDA profiling might (?:have not been|not have been) started correctly", _AGAIN),
    (r"(?:CUDA )?injection .*(?:fail|could not|not initialized)|insufficient privilege", _AGAIN),
    (
        r"No CUDA events collected",
        "Check that the recorded process is the one that uses the GPU, not only its parent.",
    ),
)


class Explanation(NamedTuple):
    """Why a recorder saw no GPU work: its own words, and what to do."""

    quote: str
    remedy: str


def explanation(facts: Facts) -> Explanation | None:
    """Return the recorder's message that explains most why GPU work is missing; None without."""
    texts = _texts(facts, _WARNING)
    for pattern, remedy in _EXPLANATIONS:
        for text in texts:
            if re.search(pattern, text, re.IGNORECASE):
                return Explanation(_quoted(text), remedy)
    return None


def lost_events(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say what the recorder itself reported as lost, and why where it says so."""
    losses = [t for t in _texts(facts) if _LOSS.search(t) and not _NO_LOSS.search(t)]
    if not losses:
        return None
    why = explanation(facts)
    because = f", and “{why.quote}”" if why and why.quote != _quoted(losses[0]) else ""
    return quality_note(
        "warning",
        "recorder_reported_loss",
        f"The recorder reports missing events: “{_quoted(losses[0])}”{because}. Totals may be too "
        f"low. {why.remedy if because and why else 'Record a shorter stretch.'}",
    )


def _texts(facts: Facts, severity: int = 0) -> list[str]:
    """Return the messages of at least this severity, each once."""
    if not facts.trace.count("diagnostics"):
        return []
    rows = facts.trace.frame("diagnostics", ["text", "severity"])
    return list(dict.fromkeys(rows["text"][rows["severity"] >= severity]))


def _quoted(text: str) -> str:
    return " ".join(text.split())[:MAX_QUOTED].removesuffix(".")
