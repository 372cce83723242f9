"""Lanes of running warps that do nothing, because threads of a warp take different paths.

What it looks for:
    Counters of Nsight Compute by which fewer than 24 of a warp's 32 lanes are active, or not
    predicated off, on average: ``smsp__thread_inst_executed_per_inst_executed.ratio`` and
    ``smsp__thread_inst_executed_pred_on_per_inst_executed.ratio``. Why they idle is checked
    against the block size, predication, and how uniform branches are. In a timeline it looks for
    nothing: neither Nsight Systems nor torch.profiler records which lanes were active, so this
    rule never guesses, and names the command that would tell.

Why it is slow:
    A warp's 32 threads share one instruction. Where they diverge, the paths run one after
    the other, and lanes that are not on the path do nothing.

What to try:
    Let neighbouring threads take the same path: sort or bucket the work by kind, replace short
    branches by selects, make loop counts equal within a warp.

When it does not apply:
    When the kernel waits for memory anyway: idle lanes then cost little, and the estimate is
    small. Full lanes are no goal in themselves, either: a kernel that computes both sides of a
    branch keeps them busy for nothing, so compare the times of both versions.

The loss is (1 - lanes / 32) × the launch's time × how much it is bound by compute, and never more
than what device memory and L2 leave free. Lanes that blocks of too few threads leave empty weigh
up to the whole time: they take up slots for warps, and every wait, like full ones. Where lanes
were not counted, the block size tells the most that can be active; that is computed, not measured.

Shown by:
    traces/synthetic/synthetic_divergence.sqlite, tests/counter_scenarios.py, ``idle_lanes``
"""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Evidence, Outcome, Skipped
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.inside_kernels import ProfiledLoss, finding, profiled_loss, why_unknown
from analyzers.metric_names import ACTIVE_LANES, FEW_LANES, LIVE_LANES, THREADS_PER_WARP, Part

CAUSE = Cause.DIVERGENCE
NEEDS = ("counters",)

METRICS = (*ACTIVE_LANES, *LIVE_LANES)
SECTIONS = ("WarpStateStats", "SourceCounters", "SpeedOfLight")
SAME = 0.5  # lanes; a difference within it says nothing
UNIFORM_PCT = 99.0  # branches that part so few warps are not what idles lanes

BRANCHES = "threads of a warp take different branches"
PREDICATED = "instructions are predicated off"
PARTIAL_WARPS = "blocks do not fill their warps"
EARLY_EXIT = "some threads exit early or have less work than others"
UNKNOWN = "of something that was not counted"
ADVICE = {
    BRANCHES: "Let neighbouring threads take the same path: sort or bucket the work by kind.",
    PREDICATED: "Move work out of short conditionals, so that fewer lanes compute for nothing.",
    PARTIAL_WARPS: "Launch blocks of a multiple of 32 threads, 128 or 256 to begin with, that do "
    "the work of several of these.",
    EARLY_EXIT: "Give every thread of a warp the same amount of work: compact what is left, or "
    "loop over it.",
    UNKNOWN: "Let neighbouring threads take the same path: sort or bucket the work by kind.",
}


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report launches with few active lanes, and why they are few."""
    if reason := why_unknown(facts, ledger, Part.IDLE_LANES, METRICS, SECTIONS):
        return Skipped(reason)
    loss = profiled_loss(facts, ledger, Part.IDLE_LANES)
    if loss is None:
        return Clear()
    limits = loss.inside.limits
    why = loss.most(reasons(loss))
    lanes = loss.mean(limits.lanes)
    blocks = _block_words(loss) if why == PARTIAL_WARPS else ""
    return finding(
        loss,
        ledger,
        f"keep {lanes:.1f} of a warp's {THREADS_PER_WARP} lanes busy (below "
        f"{FEW_LANES:.0f} is few), because {why}{blocks}",
        formula="time * (1 - lanes / 32) * weight, between c and c / max(c, m), and up to 1 for "
        "lanes that blocks leave empty; at most 1 - d; c: compute throughput, m: memory "
        "throughput, d: the larger of device memory and L2, each as a part of its peak",
        advice=ADVICE[why],
        does_not_apply_when=(
            "the kernel waits for memory anyway, or both sides of a branch would have to be "
            "computed instead; compare the times of both versions."
        ),
        evidence=(Evidence(name="lanes busy", value=lanes, unit="count"), *_evidence(loss)),
    )


def _block_words(loss: ProfiledLoss) -> str:
    """Say how many threads most of the loss is lost in blocks of, and whether that is computed."""
    limits = loss.inside.limits
    threads = int(float(loss.most(limits.block_threads)))
    size = f" (blocks of {threads:,} thread{'s' if threads > 1 else ''}"
    counted = loss.mean(limits.counters.metric(*ACTIVE_LANES))
    return f"{size}; computed, not measured)" if np.isnan(counted) else f"{size})"


def reasons(launches: ProfiledLoss) -> Array:
    """Return why lanes of each launch idle: what explains most of them."""
    limits = launches.inside.limits
    return np.select(
        [
            limits.filled_lanes < np.minimum(limits.active_lanes + SAME, FEW_LANES),
            (limits.active_lanes >= FEW_LANES) & (limits.live_lanes < FEW_LANES),
            limits.uniform_pct < UNIFORM_PCT,
            limits.uniform_pct >= UNIFORM_PCT,
        ],
        [PARTIAL_WARPS, PREDICATED, BRANCHES, EARLY_EXIT],
        UNKNOWN,
    ).astype(object)


def _evidence(loss: ProfiledLoss) -> tuple[Evidence, ...]:
    limits = loss.inside.limits
    candidates = (
        ("uniform branches", loss.mean(limits.uniform_pct)),
        ("compute throughput", 100 * loss.mean(limits.compute)),
        ("memory throughput", 100 * loss.mean(limits.memory)),
    )
    return tuple(Evidence(name=n, value=v, unit="pct") for n, v in candidates if not np.isnan(v))
