"""Beside the waterfall: the largest changes, each leading to its evidence, and what comes next."""

from __future__ import annotations

import streamlit as st

from analyzers.compare.types import Comparison
from analyzers.finding import Row
from reports.largest_changes import LargestChange, caution, largest_changes, next_step
from views.comparison.evidence import PickedChange
from views.comparison.picks import pick
from views.shared.markdown import md_escape, md_prose
from views.shared.units import visible

NAME_ROOM = 72


def draw_largest(comparison: Comparison) -> None:
    """Draw up to three changes above the noise, and the next step."""
    changes = largest_changes(comparison)
    st.subheader("Largest changes", anchor=False)
    if not changes:
        st.caption("No kernel and no range shows a change that is sure and large enough to matter.")
    for number, change in enumerate(changes):
        _draw_change(number, change)
    if words := caution(comparison):
        st.caption(md_escape(words))
    _draw_next(comparison)


def _draw_change(number: int, change: LargestChange) -> None:
    with st.container(key=f"largest_{number}", gap=None):
        if st.button(
            md_prose(visible(change.words, NAME_ROOM)),
            key=f"compare_largest_{number}",
            type="tertiary",
            help="Show both recordings where it costs most.",
        ):
            words = f"{visible(change.words, NAME_ROOM)}: {change.numbers}"
            pick("largest", None)  # a second click on the same one shows it again
            pick(
                "largest",
                PickedChange(words=words, base=change.base_place, new=change.new_place),
            )
        st.caption(md_escape(change.numbers))


def _draw_next(comparison: Comparison) -> None:
    sentence = next_step(comparison)
    if not sentence:
        return
    st.subheader("What next", anchor=False)
    st.caption(md_escape(sentence))
    recordings = [r for r in comparison.new.recordings if r.trace_id]
    if recordings:
        mostly_kernels = comparison.new.ledger_ns.get(Row.KERNEL.value, 0) * 2 > sum(
            comparison.new.ledger_ns.values()
        )
        st.page_link(
            "kernels.py" if mostly_kernels else "overview.py",
            label="Kernels of the new side" if mostly_kernels else "Why the new side is slow",
            query_params={"trace": recordings[0].trace_id},
        )
