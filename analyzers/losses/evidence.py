"""The launches and gaps that a finding shows, and the words for them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import COPY, GRAPH, Facts
from analyzers.finding import Evidence
from analyzers.intervals import Array
from analyzers.ledger.device import DeviceLedger
from analyzers.ledger.ledger import Ledger
from analyzers.words import name_text

EVIDENCE_GAPS = 3


def gpus(ledger: Ledger) -> str:
    """Return the noun for what a ledger accounts for."""
    return "GPU" if len(ledger.devices) <= 1 else "GPUs"


def device_name(device: DeviceLedger, ledger: Ledger) -> str:
    """Return what a sentence calls a GPU: its number, with the process where numbers repeat."""
    repeated = sum(d.device == device.device for d in ledger.devices) > 1
    return f"GPU {device.device}" + (f" of process {device.process}" if repeated else "")


def largest_launches(facts: Facts, rows: Array, ns: Array) -> tuple[Evidence, ...]:
    """Return the launches that count most as evidence.

    Args:
        facts: The recording.
        rows: Rows in ``Facts.launches``.
        ns: For how long each of them counts.
    """
    order = np.argsort(-ns, kind="stable")[:EVIDENCE_GAPS]
    longest = rows[order]
    return tuple(
        Evidence(
            name=name,
            value=float(value),
            unit="ns",
            start_ns=int(facts.launches["start_ns"].iloc[row]),
            end_ns=int(facts.launches["end_ns"].iloc[row]),
            device=int(facts.launches["device"].iloc[row]),
        )
        for row, value, name in zip(
            longest.tolist(), ns[order], launch_names(facts, longest), strict=True
        )
    )


def largest_gaps(facts: Facts, segments: pd.DataFrame, what: str) -> tuple[Evidence, ...]:
    """Return the longest stretches of ``segments`` as evidence, one per launch that ended them.

    Args:
        facts: The recording.
        segments: Part of a ledger, with ``ns``.
        what: Words for the stretch; the launch's name follows.
    """
    gaps = _by_gap(segments).nlargest(EVIDENCE_GAPS, "ns")
    launch = gaps["launch"].to_numpy()
    ended = launch >= 0
    names = np.full(len(gaps), "the end of the window", dtype=object)
    names[ended] = launch_names(facts, launch[ended])
    # The window to show reaches to the end of the operation that the gap was waiting for; what
    # follows a thread's last operation was waiting for none.
    last = facts.launches["end_ns"].to_numpy()[np.maximum(launch, 0)]
    is_tail = ended & (gaps["start_ns"].to_numpy() >= last)
    ends = np.where(ended & ~is_tail, last, gaps["end_ns"])
    words = np.where(is_tail, "idle after", what)
    return tuple(
        Evidence(
            name=f"{word} {name}",
            value=float(ns),
            unit="ns",
            start_ns=int(start),
            end_ns=int(end),
            device=int(device),
        )
        for word, name, ns, start, end, device in zip(
            words, names, gaps["ns"], gaps["start_ns"], ends, gaps["device"], strict=True
        )
    )


def _by_gap(segments: pd.DataFrame) -> pd.DataFrame:
    """Return one row per gap: ``device``, ``launch``, ``start_ns``, ``end_ns``, ``ns``."""
    if not len(segments):
        return segments
    launch, device = segments["launch"].to_numpy(), segments["device"].to_numpy()
    # A ledger goes through one device after the other, and through each in order of time.
    first = np.flatnonzero((launch[1:] != launch[:-1]) | (device[1:] != device[:-1])) + 1
    first = np.concatenate(([0], first))
    last = np.concatenate((first[1:], [len(launch)])) - 1
    return pd.DataFrame(
        {
            "device": device[first],
            "launch": launch[first],
            "start_ns": segments["start_ns"].to_numpy()[first],
            "end_ns": segments["end_ns"].to_numpy()[last],
            "ns": np.add.reduceat(segments["ns"].to_numpy(), first),
        }
    )


def launch_names(facts: Facts, rows: Array) -> list[str]:
    """Return a short name for each launch row."""
    kinds = {COPY: "a copy", GRAPH: "a CUDA graph"}
    names = facts.trace.names(facts.launches["name_id"].to_numpy()[rows])
    kind = facts.launches["kind"].to_numpy()[rows]
    return [
        name_text(str(name)) or kinds.get(int(k), "a memset")
        for name, k in zip(names, kind, strict=True)
    ]
