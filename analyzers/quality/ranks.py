"""Several processes in one recording: those that share a GPU, ranks whose clocks disagree."""

from __future__ import annotations

from analyzers.facts.collectives import collectives_of
from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.facts.trace_table import trace_table
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import device_name
from analyzers.quality.note import quality_note
from analyzers.report import QualityNote
from analyzers.words import count_text, name_text, share_text, time_text

MOST_NAMED = 3


def shared_gpus(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Name the processes that run on one GPU: what one of them leaves idle another may use."""
    rows = facts.inside(*ledger.window.span)
    launches = facts.launches[["device", "process_index"]].iloc[rows]
    launches = launches.assign(ns=facts.duration_ns[rows])
    used = launches.groupby(["device", "process_index"])["ns"].sum().reset_index()
    shared = used[used["device"].duplicated(keep=False).to_numpy()]
    if not len(shared):
        return None
    key = int(shared["device"].iloc[0])
    own = shared[(shared["device"] == key).to_numpy()].sort_values("ns", ascending=False)
    whole = int(own["ns"].sum())
    parts = [
        f"{_process_name(facts, place)} with {share_text(ns, whole)}"
        for place, ns in zip(own["process_index"].tolist(), own["ns"].tolist(), strict=True)
    ]
    more = len(parts) - MOST_NAMED
    gpu = device_name(ledger.devices[key], ledger)
    several = shared["device"].nunique() - 1
    others = f", and {count_text(several, 'other GPU')} so" if several else ""
    return quality_note(
        "info",
        "shared_gpu",
        f"{len(parts)} processes share {gpu}"
        f"{others}"
        f": of the time of its operations, {', '.join(parts[:MOST_NAMED])}"
        f"{f' and {more} more' if more > 0 else ''}. It counts as idle when none of them runs.",
    )


def _process_name(facts: Facts, place: int) -> str:
    key = int(facts.process_keys[place])
    processes = trace_table(facts.trace, "processes", ["process_key", "pid", "name"])
    own = processes[(processes["process_key"] == key).to_numpy()]
    if not len(own):
        return f"process {key & 0xFFFFFF}"
    name = str(own["name"].iloc[0])
    return f"process {int(own['pid'].iloc[0])}{f' ({name_text(name)})' if name else ''}"


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
