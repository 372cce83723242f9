"""Collectives of messages so small that their steps take the time, not their bytes.

What it looks for:
    Collectives whose size, type and group a trace of PyTorch holds, on GPUs whose link is known,
    or with ``--device-peak link=…``, that the link carries in less than half of the latency of
    their steps, and that take no more than three times that latency: none of them waits long.

Why it is slow:
    Each takes as many steps as there are ranks, however little it moves; larger ones would take
    hardly longer.

What to try:
    Put several into one: larger buckets (``bucket_cap_mb`` of DistributedDataParallel), one
    ``all_reduce`` of a flat tensor, ``torch.distributed._coalescing_manager``.

When it does not apply:
    When each one's result is needed before the next can begin, as in tensor-parallel layers: there,
    one-shot kernels of inference engines, or CUDA graphs, shorten each.

The loss is estimated: at most all of the time in which nothing else ran but what the link needs,
at least nothing.

Shown by:
    tests/test_collective_links.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.collective_links import collective_count, main_operation, small_messages
from analyzers.losses.culprits import of_operations
from analyzers.losses.evidence import largest_launches
from analyzers.words import count_text, time_text

CAUSE = Cause.COMMUNICATION
NEEDS = ("kernels",)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report collectives that are bound by the latency of their steps."""
    loss = small_messages(facts, ledger)
    if loss is None:
        return Clear()
    rows = loss.speeds.rows
    launch, lost = (loss.launches[name].to_numpy() for name in ("launch", "lost_ns"))
    culprits = of_operations(facts, ledger, launch, lost)
    return Finding(
        title=(
            f"{count_text(collective_count(facts, launch), 'small collective')}, mostly "
            f"{main_operation(loss.speeds)}, took {time_text(float(rows['moving_ns'].median()))} "
            "each (median): "
            f"{time_text(int(rows['exposed_ns'].sum()))} alone, of which the link needs "
            f"{time_text(loss.speeds.link_ns)}{culprits.words('in')}"
        ),
        row=Row.COMMUNICATION,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=(
            "Put several into one: larger buckets, or one collective of a flat tensor; a larger "
            "one takes hardly longer."
        ),
        does_not_apply_when=(
            "each result is needed before the next collective can begin, as between "
            "tensor-parallel layers."
        ),
        evidence=(
            Evidence(
                name="latency of their steps",
                value=round(float(rows["latency_ns"].sum())),
                unit="ns",
            ),
            Evidence(name="least time of the link", value=loss.speeds.link_ns, unit="ns"),
            *culprits.evidence("in"),
            *largest_launches(facts, launch, lost),
        ),
        culprit="fewer, larger collectives",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time alone - bytes / link at most, nothing at least",
    )
