"""Ranks of one recording whose clocks cannot both be right."""

from __future__ import annotations

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import device_name
from analyzers.quality.note import quality_note
from analyzers.report import QualityNote
from analyzers.words import count_text, time_text


def rank_clocks(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that nothing shows who waits for whom, because clocks of ranks disagree."""
    clocks = collectives_of(facts).clocks
    if not clocks:
        return None
    largest = max(clocks, key=lambda c: abs(c.offset_ns))
    device = facts.launches["device"].to_numpy()
    first, other = (device_name(ledger.devices[device[n]], ledger) for n in largest.launches)
    more = f", and {count_text(len(clocks) - 1, 'more GPU')}" if len(clocks) > 1 else ""
    return quality_note(
        "warning",
        "rank_clocks",
        f"The clocks of {first} and {other}{more} disagree: "
        f"{count_text(largest.count, 'collective')} of theirs end "
        f"{time_text(abs(largest.offset_ns))} apart, but ranks end a collective "
        "together. So nothing is said about who waits for whom, and what begins when on different "
        "GPUs must not be compared. Align the clocks before ranks are merged into one file.",
    )
