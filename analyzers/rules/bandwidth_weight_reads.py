"""Matrix multiplies of few rows, whose time is that of reading weights.

What it looks for:
    Matrix multiplies in 16 or 32 bits, four fifths of whose bytes are one matrix that all rows
    share, bound by memory and at half of its bandwidth or more: the decoding of a language model.

Why it is slow:
    It is not: these kernels are near the device's limit. But a token costs as much as reading all
    weights, and further rows would cost next to nothing until arithmetic binds.

What to try:
    A larger batch, for more tokens in the same time; weights in 8 or 4 bits, for less time;
    speculative decoding, for more rows of one request.

When it does not apply:
    When latency of one request is what counts and its quality must not change.

The estimate is that of 8-bit weights in place of 16-bit ones: at most, half of the weights' time is
saved; at least a quarter. It decides no verdict.

Shown by:
    tests/test_work_findings.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_work import WorkLoss, WorkPattern, estimate_of, work_losses
from analyzers.losses.products import NARROW_WEIGHTS, CacheReads, cache_reads
from analyzers.words import TIMES, count_text, share_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("kernels",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report products bound by the bytes of their weights, with what that limits."""
    loss = work_losses(facts, ledger).get(WorkPattern.WEIGHTS)
    if loss is None:
        return Clear()
    estimate = estimate_of(facts, ledger, loss)
    nodes = loss.nodes
    rows = int(np.bincount(nodes["rows"], nodes["weight_bytes"]).argmax())
    own = nodes[(nodes["rows"] == rows).to_numpy()]
    cache = cache_reads(loss.calls, rows)
    tokens_per_s, narrow_per_s = _tokens_per_s(loss, own, cache)
    limit = f"at most {tokens_per_s:,.0f} tokens a second, and " if tokens_per_s else ""
    passes = int(own["is_head"].sum())
    more = float(np.average(own["more_rows"], weights=own["weight_bytes"]))
    return Finding(
        title=(
            f"{count_text(len(nodes), 'matrix multiply')} of few rows, mostly {rows}, read "
            f"{size_text(float(nodes['weight_bytes'].sum()))} of weights at "
            f"{share_text(loss.roof_ns, loss.busy_ns)} of the memory bandwidth for "
            f"{time_text(loss.spent_ns)}, {ledger.share(loss.spent_ns)}: "
            f"{limit}about {rows * more:,.0f} rows would take no longer"
            f"{_cache_text(cache, passes, rows)}"
        ),
        row=Row.KERNEL,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=(
            "Raise the batch, which costs no time until arithmetic binds; or store weights in 8 or "
            "4 bits, which halves or quarters the bytes."
        ),
        does_not_apply_when="the latency of one request counts and its weights must not change.",
        evidence=(
            Evidence(name="tokens a second, at most", value=round(tokens_per_s), unit="count"),
            Evidence(
                name="tokens a second, at most, with 8-bit weights",
                value=round(narrow_per_s),
                unit="count",
            ),
            *(
                [Evidence(name="keys and values read, at least", value=cache.bytes, unit="bytes")]
                if cache.calls
                else []
            ),
            Evidence(name="least time by the bandwidth", value=loss.roof_ns, unit="ns"),
            *estimate.evidence,
        ),
        culprit="8-bit weights",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula=f"time {TIMES} weights' part of the bytes {TIMES} 0.5 at most, half of that at "
        "least",
    )


def _tokens_per_s(loss: WorkLoss, nodes: pd.DataFrame, cache: CacheReads) -> tuple[float, float]:
    """Return how many tokens the memory's bandwidth allows at these rows; 0 where unknown.

    All weights are read once for each time that a vocabulary is made; a recording without that does
    not tell how many layers the model has. Keys and values of as many sequences are read besides,
    as far as known.

    Returns:
        With the weights as they are, and in 8 bits.
    """
    passes = int(nodes["is_head"].sum())
    rows = nodes["node"].to_numpy()
    least_ns, moved = (loss.calls.nodes[name].to_numpy()[rows] for name in ("least_ns", "bytes"))
    narrower = 1 - NARROW_WEIGHTS * nodes["weight_bytes"].to_numpy() / np.maximum(moved, 1)
    tokens = int(nodes["rows"].iloc[0]) * passes
    whole, narrow = float(least_ns.sum()), float((least_ns * narrower).sum())
    wide_per_s, narrow_per_s = (tokens / ((ns + cache.least_ns) * 1e-9) for ns in (whole, narrow))
    return wide_per_s, narrow_per_s


def _cache_text(cache: CacheReads, passes: int, rows: int) -> str:
    """Say what attention of these rows reads besides; empty where its shapes are not known."""
    if not cache.calls:
        return ""
    each = ""
    if passes:
        each = f", {size_text(cache.bytes / passes / max(rows, 1))} for each token"
    return f"; attention reads {size_text(cache.bytes)} of keys and values besides{each}"
