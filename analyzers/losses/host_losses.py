"""The ledger's row ``host``, split into the patterns that the rules report.

Time in which the host reads what is in the GPU's memory, page by page, is one. Time in which a
thread was fetching its next batch belongs to the DataLoader, if there is enough of it; everything
else is the program's own. Segments are cut where a fetch begins and ends, so that
no nanosecond counts for both.
"""

from __future__ import annotations

import enum

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.surroundings import NamedSpans, ranges_of
from analyzers.finding import Row
from analyzers.intervals import Spans, gaps, overlaps, union
from analyzers.ledger.booking import UNUSED, Detail
from analyzers.ledger.ledger import Ledger
from common.memo import memo

SINGLE_PROCESS = r"_SingleProcessDataLoaderIter"
FETCH = r"^enumerate\(DataLoader\)#"
"""How PyTorch calls the range around fetching a batch (``torch/utils/data/dataloader.py``)."""


class HostPattern(enum.IntEnum):
    """What kept the host from submitting work."""

    OTHER = 0
    DATA_LOADER = 1
    READING_PAGES = 2


def host_losses(facts: Facts, ledger: Ledger, pattern: HostPattern) -> pd.DataFrame:
    """Return the part of the row ``host`` that follows ``pattern``, with ``ns``.

    Time in which nobody wanted anything of a device is left out.
    """
    if pattern == HostPattern.READING_PAGES:
        return ledger.of(Row.HOST, Detail.READING_PAGES)
    other, fetching = _split(facts, ledger)
    return fetching if pattern == HostPattern.DATA_LOADER else other


def fetches(facts: Facts) -> NamedSpans:
    """Return the ranges in which batches were fetched from a DataLoader."""
    return ranges_of(facts).of_names(FETCH)


@memo()
def _split(facts: Facts, ledger: Ledger) -> tuple[pd.DataFrame, pd.DataFrame]:
    segments = ledger.of(Row.HOST)
    elsewhere = (*UNUSED, Detail.READING_PAGES)
    segments = segments[~np.isin(segments["detail"], elsewhere)].reset_index(drop=True)
    fetching = fetches(facts)
    if not len(fetching):
        return segments, segments[:0]
    launch = segments["launch"].to_numpy()
    thread = np.where(launch >= 0, facts.thread_index[np.maximum(launch, 0)], -1)
    inside, outside = [], [segments[thread < 0]]
    for place in np.unique(thread[thread >= 0]).tolist():
        own, spans = segments[thread == place], fetching.on_thread(place).spans
        flat = union(spans.start, spans.end)
        low, high = int(own["start_ns"].min()), int(own["end_ns"].max())
        inside.append(_cut(own, flat))
        outside.append(_cut(own, gaps(flat, low, high)))
    batches = pd.concat(inside) if inside else segments[:0]
    if not ledger.is_notable(int(batches["ns"].sum())):
        return segments, segments[:0]
    return _in_order(pd.concat(outside)), _in_order(batches)


def _cut(segments: pd.DataFrame, parts: Spans) -> pd.DataFrame:
    """Return what of the segments lies in ``parts``, which are sorted and do not overlap."""
    every = Spans(segments["start_ns"].to_numpy(), segments["end_ns"].to_numpy())
    row, _, start, end = overlaps(every, parts)
    return segments.iloc[row].assign(start_ns=start, end_ns=end, ns=end - start)


def _in_order(segments: pd.DataFrame) -> pd.DataFrame:
    """Return them as a ledger has them: one device after the other, each in order of time."""
    return segments.sort_values(["device", "start_ns"], kind="stable", ignore_index=True)
