"""How counters of Nsight Compute were recorded, and which kernels they cover."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.counters.joining import ON_TIMELINE, PROFILED_SIDE
from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.ledger.ledger import Ledger
from analyzers.losses.ncu_command import base_name, to_cover
from analyzers.quality.note import MAX_NAMED, quality_note
from analyzers.recorder import recorder_of
from analyzers.report import QualityNote
from analyzers.words import count_text, name_text, share_text, time_text

NOTABLE_DURATION_DIFFERENCE = 0.10  # launches under ncu vary by less when clocks are left alone


def joined_counters(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say which kernel time the counters cover, and which kernels they do not fit."""
    examined = ledger.examined
    if examined is None or not examined.kernel_ns:
        return None
    unmatched = examined.unmatched(facts)
    alone = unmatched[unmatched["side"] == ON_TIMELINE]
    unused = _named(unmatched[unmatched["side"] == PROFILED_SIDE])
    name = examined.joined.source["name"]
    sentences = [f"Without counters: {_named(alone)}."] if len(alone) else []
    can_run = len(alone) and recorder_of(facts.trace).counters == "ncu"
    if run := to_cover(alone) if can_run else "":
        sentences.append(
            f"To examine these, run `{run}` on the same program and input as the timeline."
        )
    sentences += [f"Profiled, but not used: {unused}."] if unused else []
    if not examined.covered_ns:
        first = f"The counters in {name} match no kernel in the window, so they are not used."
        return quality_note("warning", "counters_fit_nothing", " ".join([first, *sentences]))
    covered = share_text(examined.covered_ns, examined.kernel_ns)
    first = (
        f"The counters in {name} cover {covered} of the window's kernel time, "
        f"{time_text(examined.covered_ns)} of {time_text(examined.kernel_ns)}."
    )
    return quality_note("info", "counters_joined", " ".join([first, *sentences]))


def _named(unmatched: pd.DataFrame) -> str:
    """Name kernels without a partner, each with its time and the reason."""
    clauses = [
        f"{name_text(base_name(str(name)) or str(name) or 'graphs')} {time_text(ns)} ({reason})"
        for name, ns, reason in unmatched[["name", "ns", "reason"]]
        .head(MAX_NAMED)
        .itertuples(index=False)
    ]
    more = f", and {len(unmatched) - MAX_NAMED} more" if len(unmatched) > MAX_NAMED else ""
    return ", ".join(clauses) + more


def clocks_of_counters(
    _facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    """Say whether kernels took as long under the profiler as on the timeline."""
    if ledger.examined is None or ledger.inside is None:
        return None
    ratio = ledger.examined.joined.duration_ratio
    if not np.isfinite(ratio):
        return None
    same = abs(ratio - 1) <= NOTABLE_DURATION_DIFFERENCE
    why = (
        ""
        if same
        else " ncu locks clocks to base unless it is run with --clock-control none, flushes "
        "caches before each launch, and runs every kernel on its own; record with "
        "--clock-control none --cache-control none to compare."
    )
    return quality_note(
        "info" if same else "warning",
        "counters_clock",
        f"Under ncu these launches took {ratio:.2f} times as long as on the timeline. Shares "
        f"of a launch that come from counters are applied to its time on the timeline.{why}",
    )


def no_duration(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict on counters whose launches have no durations."""
    if len(facts.launches):
        return None
    return quality_note(
        "error",
        "no_duration",
        f"{count_text(len(facts.counters), 'profiled launch')} without a duration, so nothing can "
        "be weighted by time. Collect it with: "
        "`ncu --section SpeedOfLight -o counters PROGRAM`",
    )


def no_timeline(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that counters know nothing of what happens between launches."""
    if not len(facts.launches):
        return None
    return quality_note(
        "info",
        "counters_only",
        f"Counters for {count_text(len(facts.launches), 'profiled launch')}, measured in "
        "isolation, with clocks locked to base unless ncu ran with --clock-control none. What "
        "happens between launches was not recorded. Record it with: "
        "`nsys profile -t cuda,nvtx,osrt -o report PROGRAM`",
    )
