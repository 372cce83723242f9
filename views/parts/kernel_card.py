"""What is known about one kernel: what limits it, what it loses, what to try."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analyzers.kernels.counted import LOST, RULE_OF_PART, WORDS_OF_PART, limiter_words
from analyzers.metric_names import THREADS_PER_WARP, Part
from analyzers.report import Report
from analyzers.words import share_text, time_text
from reports.tool_rules import estimate_text
from views.charts.kernels import LEVEL_WORDS
from views.shared.markdown import md_prose
from views.shared.session import draw_prose
from views.shared.units import NOT_RECORDED_TEXT, rate_text, visible

MIN_SHOWN_SHARE = 0.02  # of the kernel's time
SHOWN_LOSSES = 4
NAME_ROOM = 60
COLUMNS = ("", "is", "of")
WORDS = 600  # characters of what a rule says


def draw_counted(kernel: pd.Series, report: Report) -> None:
    """Show what counters say about a kernel, a row of ``analyzers.kernels.counted``."""
    draw_prose(limiter_words(kernel))
    facts = counted_facts(kernel, report)
    if len(facts):
        st.dataframe(
            facts,
            hide_index=True,
            key="kernel_facts",
            column_config={"of": st.column_config.TextColumn("of", width=170)},
            alt="Counters of the kernel",
        )
    _draw_losses(kernel, report)


def draw_tool_rules(kernel: pd.Series, report: Report) -> None:
    """Show what Nsight Compute's own rules said about a kernel, beside what is said here."""
    rules = [rule for rule in report.tool_rules if rule.kernel == kernel["name"]]
    if not rules:
        return
    st.markdown("**Nsight Compute's own rules**")
    rows = [
        (rule.title, estimate_text(rule), rule.comparison, visible(rule.text, WORDS))
        for rule in rules
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["rule", "estimate", "here", "it says"]),
        hide_index=True,
        key="tool_rules",
        alt="What Nsight Compute's own rules said about the kernel",
    )


def covered_words(report: Report) -> str:
    """Say how much of the window's kernel time joined counters cover; empty without any."""
    joined = report.counters
    if not joined:
        return ""
    covered, kernel_ns = int(joined["covered_ns"]), int(joined["kernel_ns"])
    return (
        f"The counters in {visible(str(joined['name']), NAME_ROOM)} cover "
        f"{share_text(covered, kernel_ns)} of kernel time, {time_text(covered)} of "
        f"{time_text(kernel_ns)} ({report.window.label})."
    )


def basis_words(kernel: pd.Series, report: Report, device: int) -> str:
    """Say which time the counters of a kernel stand for.

    Args:
        kernel: A row of ``analyzers.kernels.counted``.
        report: The analysis of the window.
        device: Key of the device that the page shows, -1 for all.
    """
    used = sum(d.unused_ns < d.duration_ns for d in report.devices)
    where = ", on all GPUs" if device >= 0 and used > 1 else ""
    return (
        f"Its counters account for {time_text(int(kernel['ns']))} "
        f"({report.window.label}{where}); kernels that run at the same time share that time."
    )


def counted_facts(kernel: pd.Series, report: Report) -> pd.DataFrame:
    """Return what was counted, beside what is possible or needed; what was not is left out."""
    roofs = {str(r["of"]): float(r["per_s"]) for r in _roofs(report)}
    rows = [
        ("active lanes", _number(kernel["lanes"]), str(THREADS_PER_WARP)),
        (
            "sectors per request",
            _number(kernel["sectors_per_request"]),
            f"{_number(kernel['needed_per_request'])} needed",
        ),
        ("occupancy", _percent(kernel["achieved"]), _possible(kernel)),
        *((words, _percent(kernel[level]), "its peak") for level, words in LEVEL_WORDS.items()),
        *(
            (f"arithmetic, {precision}", _rate(kernel, precision), _roof(roofs, precision))
            for precision in ("fp16", "fp32", "fp64", "tensor")
            if kernel[f"{precision}_flop_per_s"] > 0
        ),
    ]
    return pd.DataFrame([row for row in rows if row[1]], columns=list(COLUMNS))


def _roofs(report: Report) -> list[dict[str, str]]:
    roofs: list[dict[str, str]] = report.totals.get("roofline", {}).get("roofs", [])
    return roofs


def _number(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else ""


def _percent(part: float) -> str:
    return share_text(part, 1) if np.isfinite(part) else ""


def _possible(kernel: pd.Series) -> str:
    possible = _percent(kernel["theoretical"])
    if not possible:
        return ""
    limiter = str(kernel["limiter"])
    return f"{possible} possible ({limiter})" if limiter else f"{possible} possible"


def _rate(kernel: pd.Series, precision: str) -> str:
    return rate_text(float(kernel[f"{precision}_flop_per_s"]), "FLOP/s")


def _roof(roofs: dict[str, float], precision: str) -> str:
    return rate_text(roofs[precision], "FLOP/s") if precision in roofs else NOT_RECORDED_TEXT


def _draw_losses(kernel: pd.Series, report: Report) -> None:
    """Show what the kernel loses, the most first, and what the findings say to try."""
    lost = {part: int(kernel[LOST.format(part.name.lower())]) for part in Part}
    total = int(kernel["ns"])
    worth = [p for p in Part if lost[p] >= max(MIN_SHOWN_SHARE * total, 1)]
    if not worth:
        st.caption("The counters show no loss worth your time in this kernel.")
        return
    advice = {finding.id: finding.advice for finding in report.findings}
    for part in sorted(worth, key=lambda p: -lost[p])[:SHOWN_LOSSES]:
        share = f"{share_text(lost[part], total)} of {time_text(total)}"
        loss = f"{time_text(lost[part])}, {share}, to {WORDS_OF_PART[part]}"
        st.markdown(f"**Up to {md_prose(loss)}.**")
        if tip := advice.get(RULE_OF_PART[part], ""):
            st.caption(md_prose(f"To try: {tip}"))


def draw_computed(kernel: pd.Series) -> None:
    """Show what the launch configuration says about a row of ``analyzers.kernels.table``."""
    facts = computed_facts(kernel)
    if not len(facts):
        st.caption(
            "Occupancy and waves could not be computed: the recording does not describe the "
            "launch or the GPU."
        )
        return
    st.markdown(":gray-badge[computed, not measured] from the launch configuration")
    st.dataframe(facts, hide_index=True, key="kernel_computed", alt="Computed for the kernel")
    if kernel["unfilled_why"]:
        share = float(kernel["unfilled_share"])
        lost = time_text(share * int(kernel["total_ns"]))
        draw_prose(
            f"It has {kernel['unfilled_why']}: up to {lost}, {share_text(share, 1)} of its time, "
            "could be won back."
        )


def computed_facts(kernel: pd.Series) -> pd.DataFrame:
    """Return occupancy and waves as the launch configuration gives them."""
    rows = []
    if kernel["occupancy_pct"] >= 0:
        limiter = str(kernel["limiter"])
        by = f"limited by {limiter}" if limiter else "nothing limits it"
        rows.append(("theoretical occupancy", f"{float(kernel['occupancy_pct']):.0f} %", by))
    waves = float(kernel["waves"])
    if waves >= 0:
        what = "the last one" if waves > 1 else "the GPU"
        rows.append(("waves", f"{waves:,.2f}", f"{what} is {share_text(waves % 1 or 1.0, 1)} full"))
    return pd.DataFrame(rows, columns=["", "is", "because"])
