"""What the page says while there is nothing to compare yet: how to get two sides, and a sample."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from collectors.errors import TraceError
from collectors.trace import Trace
from jobs.api import open_recording
from views.comparison.session import ComparisonSelection, write_address
from views.shared.jobs import checked_path
from views.shared.places import SAMPLES
from views.shared.server_paths import trouble
from views.shared.session import draw_error

SAMPLE_PAIR = (
    SAMPLES / "synthetic" / "synthetic_pair_baseline.sqlite",
    SAMPLES / "synthetic" / "synthetic_pair_optimized.sqlite",
)


def draw_too_few(recordings: Sequence[Trace]) -> None:
    """Say what a comparison needs, how to record it, and offer the sample pair."""
    st.header("Nothing to compare yet", anchor=False)
    count = "one is" if recordings else "none is"
    st.write(
        "A comparison needs two recordings with a timeline, one from before a change and "
        f"one from after it; {count} open."
    )
    draw_sample_pair()
    st.write("To record your own, mark each iteration, so that both are divided in the same way:")
    st.code('with nvtx.annotate("step"): ...', language="python")
    st.write("and record both in the same way, more than once each if you can:")
    st.code(
        "nsys profile -t cuda,nvtx,osrt -o baseline your_program\n"
        "nsys profile -t cuda,nvtx,osrt -o optimized your_changed_program",
        language=None,
    )
    st.page_link("open.py", label="Open recordings")


def draw_no_choice() -> None:
    """Say what to choose, while a side is empty."""
    st.header("What should be compared?", anchor=False)
    st.write(
        "Choose the recordings from before the change as the baseline and those from "
        "after it as new. Several recordings per side make the answer more certain: "
        "they show how much runs vary."
    )
    draw_sample_pair()


def draw_sample_pair() -> None:
    """Offer the pair that comes with whyslow; a click opens and compares it."""
    if not all(path.is_file() for path in SAMPLE_PAIR):
        return
    st.write("To try it at once: one training step before and after a change, generated.")
    if not st.button("Compare the sample pair", key="compare_sample_pair", type="primary"):
        return
    try:
        with st.spinner("Opening both recordings …"):
            base, new = (open_recording(checked_path(path)).trace.id for path in SAMPLE_PAIR)
    except (TraceError, OSError) as error:
        draw_error(trouble(error))
        return
    write_address(ComparisonSelection(base=(base,), new=(new,)))
    st.rerun()
