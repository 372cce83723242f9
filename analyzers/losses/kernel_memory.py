"""Kernel time in which memory is what holds, split so that no two rules claim the same.

Pages of unified memory that are on their way come first, because nothing a kernel does helps
then; the limit of device memory second. Rules about parallel work get what these leave.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Row
from analyzers.intervals import Spans, empty, intersect, subtract, union
from analyzers.ledger.ledger import Ledger, spans_of
from analyzers.losses.page_service import claims_pages, page_service
from common.memo import memo

NOTABLE_KERNEL_SHARE = 0.05  # of the time in use; an estimate inside kernels must be worth a look
SATURATED_PCT = 80.0  # of the peak; where Nsight Compute, too, begins to speak of high throughput
MAX_PCT = 120.0  # a larger value is not in percent, and means something else
LONGEST_PERIODS = 2  # after a hole in the sampling, a sample speaks for no more than this

_TRAFFIC = re.compile(r"\b(?:DRAM|VRAM)\b.*\b(?:Read|Write)\b", re.IGNORECASE)


def is_notable(ledger: Ledger, lost_ns: int) -> bool:
    """Tell whether an estimated loss inside kernels is worth a finding."""
    return lost_ns > 0 and lost_ns >= NOTABLE_KERNEL_SHARE * ledger.in_use_ns


@memo()
def saturated(facts: Facts, ledger: Ledger) -> dict[int, Spans]:
    """Return the kernel time at the limit of device memory, by device; without unsampled ones."""
    samples = traffic(facts)
    kernel = spans_of(ledger, Row.KERNEL)
    result = {}
    for key in kernel:
        of_device = samples[samples["gpu"] == _number(samples, facts, key)]
        if len(of_device) < 2:
            continue
        result[key] = intersect(
            subtract(kernel[key], _examined(facts, ledger, key)), _at_limit(of_device)
        )
        if claims_pages(facts, ledger):
            result[key] = subtract(result[key], page_service(facts, ledger).spans[key])
    return result


def _examined(facts: Facts, ledger: Ledger, key: int) -> Spans:
    """Return when kernels run whose counters are known: those tell, and samples do not."""
    if ledger.examined is None:
        return empty()
    chosen = ledger.examined.joined.row >= 0
    chosen &= (facts.launches["device"] == key).to_numpy()
    return union(*(facts.launches[c].to_numpy()[chosen] for c in ("start_ns", "end_ns")))


def highest_pct(facts: Facts, ledger: Ledger) -> float:
    """Return the largest traffic that was sampled in the window on the devices of the ledger."""
    samples = traffic(facts)
    numbers = [_number(samples, facts, key) for key in range(len(facts.devices))]
    inside = samples["gpu"].isin(numbers)
    inside &= samples["time_ns"].between(*ledger.window.span)
    return float(samples["pct"][inside].max()) if inside.any() else 0.0


def held_by_memory(facts: Facts, ledger: Ledger, key: int) -> Spans:
    """Return the kernel time of a device that findings about memory claim."""
    claims = []
    if claims_pages(facts, ledger):
        claims.append(page_service(facts, ledger).spans[key])
    at_limit = saturated(facts, ledger)
    if key in at_limit and is_notable(ledger, sum(s.total for s in at_limit.values())):
        claims.append(at_limit[key])
    if not claims:
        return empty()
    return union(np.concatenate([c.start for c in claims]), np.concatenate([c.end for c in claims]))


@memo()
def traffic(facts: Facts) -> pd.DataFrame:
    """Return ``gpu``, ``time_ns`` and ``pct``: reading and writing together, by time.

    Empty when the recording does not sample it, or not in percent of the peak.
    """
    ids = np.unique(facts.trace.columns("gpu_metrics", ["name_id"])["name_id"])
    traffic_ids = [
        i for i, n in zip(ids, facts.trace.names(ids), strict=True) if _TRAFFIC.search(n)
    ]
    if not traffic_ids:
        return pd.DataFrame({"gpu": [], "time_ns": [], "pct": []}, dtype=np.int64)
    # Piece by piece: there are a dozen other metrics for every two that are wanted.
    pieces = (b.to_pandas() for b in facts.trace.batches("gpu_metrics"))
    rows = pd.concat([p[p["name_id"].isin(traffic_ids)] for p in pieces], ignore_index=True)
    rows = rows.rename(columns={"value": "pct"})
    if rows["pct"].max() > MAX_PCT:
        rows = rows.iloc[:0]
    sums: pd.DataFrame = rows.groupby(["gpu", "time_ns"])["pct"].sum().reset_index()
    return sums


def _number(samples: pd.DataFrame, facts: Facts, key: int) -> int:
    """Return the number that the samples of a device carry."""
    physical = int(facts.devices["physical"].iloc[key])
    gpus = samples["gpu"].unique()
    if physical not in gpus and len(gpus) == len(facts.devices) == 1:
        return int(gpus[0])  # the only GPU, whatever its number
    return physical


def _at_limit(samples: pd.DataFrame) -> Spans:
    """Return the time for which saturated samples of one device speak."""
    time = samples["time_ns"].to_numpy()
    period = np.diff(time)
    begin = time[1:] - np.minimum(period, LONGEST_PERIODS * int(np.median(period)))
    high = samples["pct"].to_numpy()[1:] >= SATURATED_PCT
    return union(begin[high], time[1:][high])
