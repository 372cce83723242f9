"""Collectives of large messages that move their data far below the speed of the link.

What it looks for:
    Collectives whose size, type and group a trace of PyTorch holds, all of whose ranks are in the
    recording, on GPUs of one machine whose link is known, or with ``--device-peak link=…``. From
    the moment at which the last rank has begun, they take more than twice as long as at 0.6 of the
    link's bandwidth (0.3 over PCIe), with latency.

Why it is slow:
    Data goes another way than it could: through the host's memory instead of NVLink, in too few
    channels, or over a link that trained down.

What to try:
    ``nvidia-smi topo -m`` and ``NCCL_DEBUG=INFO`` say which way it goes; ``all_reduce_perf`` of
    nccl-tests with this size says what the machine can do.

When it does not apply:
    When kernels beside the collective take the multiprocessors or the memory that it needs.

The bus bandwidth is that of nccl-tests. The loss is estimated, for the time in which nothing else
ran.

Shown by:
    tests/test_collective_links.py
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row
from analyzers.ledger.ledger import Ledger
from analyzers.losses.collective_links import (
    collective_count,
    link_text,
    main_operation,
    slow_links,
)
from analyzers.losses.culprits import of_operations
from analyzers.losses.evidence import largest_launches
from analyzers.recorder import recorder_of
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.COMMUNICATION
NEEDS = ("kernels",)

FIRST_STEPS = (
    "Find out which way the data goes: run `nvidia-smi topo -m`, and the program with "
    "NCCL_DEBUG=INFO (P2P, not SHM or NET, between GPUs of one machine), and compare with "
    "all_reduce_perf of nccl-tests."
)
FIRST_STEPS_OF_AMD = (
    "Find out which way the data goes: run `rocm-smi --showtopo`, and the program with "
    "NCCL_DEBUG=INFO (P2P, not SHM or NET, between GPUs of one machine), and compare with "
    "all_reduce_perf of rccl-tests."
)


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report collectives that move their data far below the link's speed."""
    loss = slow_links(facts, ledger)
    if loss is None:
        return Clear()
    speeds = loss.speeds
    rows = speeds.rows
    launch, lost = (loss.launches[name].to_numpy() for name in ("launch", "lost_ns"))
    culprits = of_operations(facts, ledger, launch, lost)
    count = count_text(collective_count(facts, launch), "collective")
    return Finding(
        title=(
            f"{count}, mostly {main_operation(speeds)}, moved their data at "
            f"{size_text(speeds.bus_bytes_per_s)}/s of bus bandwidth, "
            f"{link_text(speeds)}: {time_text(int(rows['moving_ns'].sum()))} after all ranks "
            f"had begun{culprits.words('in')}"
        ),
        row=Row.COMMUNICATION,
        lost_ns=loss.lost_ns,
        confidence=Confidence.ESTIMATED,
        advice=FIRST_STEPS if recorder_of(facts.trace).api == "CUDA" else FIRST_STEPS_OF_AMD,
        does_not_apply_when="kernels that run beside them take the multiprocessors that they need.",
        evidence=(
            Evidence(name="bus bandwidth, a second", value=speeds.bus_bytes_per_s, unit="bytes"),
            Evidence(name="link in one direction, a second", value=speeds.rate, unit="bytes"),
            Evidence(name="least time of the link", value=speeds.link_ns, unit="ns"),
            *culprits.evidence("in"),
            *largest_launches(facts, launch, lost),
        ),
        culprit="collectives at the usual speed of their link",
        low_ns=loss.range_ns[0],
        high_ns=loss.range_ns[1],
        formula="time alone - latency of the steps - bytes / (0.6 of the link, 0.3 of PCIe) at "
        "most; at least what is beyond twice that",
    )
