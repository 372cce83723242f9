"""The kernels that take most of the time of a window, by name."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import KERNEL, Facts
from analyzers.facts.spans import Window
from analyzers.losses.ncu_command import base_name
from analyzers.report import KernelShare
from analyzers.words import distinct_short, name_text, share_text, shortened

MOST_KERNELS = 5
NEARLY_ALL = 0.995
MOST_NAMED = 3
ENOUGH_SHARE = 0.5  # of kernel time: more names would say no more


def top_kernels(facts: Facts, window: Window) -> tuple[KernelShare, ...]:
    """Return the kernels with most time in the window, at most five, the largest first.

    A launch that reaches beyond the window counts with what lies in it. Time in which several run
    counts for each of them. Collectives have a row of their own in the ledger, and are left out.
    """
    rows = facts.inside(*window.span)
    rows = rows[facts.launches["kind"].to_numpy()[rows] == KERNEL]
    if not len(rows):
        return ()
    start = np.maximum(facts.launches["start_ns"].to_numpy()[rows], window.start_ns)
    end = np.minimum(facts.launches["end_ns"].to_numpy()[rows], window.end_ns)
    code, name_ids = pd.factorize(facts.launches["name_id"].to_numpy()[rows])
    ns = np.zeros(len(name_ids), np.int64)
    np.add.at(ns, code, end - start)
    counts = np.bincount(code)
    largest = np.argsort(-ns, kind="stable")[:MOST_KERNELS]
    names = facts.trace.names(name_ids[largest])
    whole = max(int(ns.sum()), 1)
    return tuple(
        KernelShare(
            name=str(name),
            count=int(counts[place]),
            total_ns=int(ns[place]),
            share=int(ns[place]) / whole,
        )
        for name, place in zip(names, largest.tolist(), strict=True)
    )


def kernels_sentence(top: tuple[KernelShare, ...]) -> str:
    """Name the kernels that hold half of the kernel time, or the first three, in a clause."""
    short = [short_name(k.name) for k in top]
    names = [
        name if short.count(name) == 1 else shortened(distinct)
        for name, distinct in zip(short, distinct_short([k.name for k in top]), strict=True)
    ]
    if top[0].share >= NEARLY_ALL:
        return f"nearly all of it in `{names[0]}`"
    parts: list[str] = []
    covered = 0.0
    for kernel, name in zip(top[:MOST_NAMED], names, strict=False):
        parts.append(f"{share_text(kernel.share, 1)} {'in' if parts else 'of it in'} `{name}`")
        covered += kernel.share
        if covered >= ENOUGH_SHARE:
            break
    return ", ".join(parts)


def short_name(kernel: str) -> str:
    """Return the function's name alone; a sentence has no room for types."""
    return name_text(base_name(kernel) or kernel)
