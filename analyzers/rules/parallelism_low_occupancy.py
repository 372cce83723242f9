"""Kernels of which too few warps fit on a multiprocessor to hide waiting.

What it looks for:
    Launches whose registers, shared memory or block size let fewer than a quarter of the
    multiprocessor's warps run, and whose grid is neither small nor a matter of its last wave:
    those two rules count their launches first.

Why it is slow:
    A warp that waits for memory is replaced by another that can go on. With few warps there is
    often none, and the multiprocessor waits too.

What to try:
    Relax what limits them: registers with ``__launch_bounds__`` or ``-maxrregcount`` (watch for
    spills), shared memory with smaller tiles, block size by a divisor of the warps that fit.

When it does not apply:
    When the kernel keeps several independent operations in flight in each thread, as matrix
    multiplications do: they have few warps by design, and names that say so are left out.
    Achieved occupancy and stalls are for Nsight Compute to tell.

The loss is an upper bound: alone time × (1 - occupancy / 50 %), because beyond half of the warps
more of them rarely help.

Shown by:
    tests/scenarios.py, ``low_occupancy``
"""

from __future__ import annotations

import re

from analyzers.facts.facts import Facts
from analyzers.facts.occupancy import launch_shapes
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.kernel_memory import is_notable
from analyzers.losses.parallelism import (
    LOW_OCCUPANCY_PCT,
    Parallelism,
    kernel_losses,
    largest_kernels,
    mean_weighted,
    mostly_in,
    occupancy_is_known,
    why_unknown,
)
from analyzers.recorder import recorder_of
from analyzers.words import count_text

CAUSE = Cause.PARALLELISM
ADVICE = {
    "registers": "Let the compiler use fewer registers (`__launch_bounds__`); watch for spills.",
    "shared memory": "Use smaller tiles in shared memory.",
    "block size": "Choose a block size that divides the warps a multiprocessor can hold.",
    "blocks": "Use larger blocks: the number of blocks, not of warps, is the limit.",
}


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernels that ran alone with a low theoretical occupancy."""
    if reason := why_unknown(facts):
        return Skipped(reason)
    if not occupancy_is_known(facts):
        return Skipped(
            "the recording lacks register counts or the GPU's limits; "
            f"{recorder_of(facts.trace).details}"
        )
    losses = kernel_losses(facts, ledger, Parallelism.LOW_OCCUPANCY)
    lost_ns = int(losses["lost_ns"].sum())
    if not is_notable(ledger, lost_ns):
        return Clear()
    table = launch_shapes(facts).table
    occupancy = mean_weighted(losses, table["occupancy_pct"].to_numpy())
    limiters = table["limiter"].to_numpy()[losses["shape"]]
    limiter = str(losses["lost_ns"].groupby(limiters).sum().idxmax())
    alone_ns = int(losses["alone_ns"].sum())
    return Finding(
        title=(
            f"{count_text(len(losses), 'launch')} can hold {occupancy:.0f} % of a "
            f"multiprocessor's warps (below {LOW_OCCUPANCY_PCT:.0f} % is low), limited by "
            f"{limiter}, for {ledger.share(alone_ns)}{mostly_in(facts, ledger, losses)}"
        ),
        row=Row.KERNEL,
        lost_ns=lost_ns,
        confidence=Confidence.INFERRED,
        advice=" ".join(ADVICE[resource] for resource in re.split(", | and ", limiter)),
        does_not_apply_when="each thread keeps several independent operations in flight.",
        evidence=(
            Evidence(name="launches affected", value=len(losses), unit="count"),
            Evidence(name="mean theoretical occupancy", value=occupancy, unit="pct"),
            *largest_kernels(facts, losses),
        ),
    )
