"""The sentence that matters about a recording's kernels."""

from __future__ import annotations

import pandas as pd

from analyzers.kernels.counted import WORDS_OF_PART
from analyzers.losses.ncu_command import base_name
from analyzers.metric_names import Part
from analyzers.words import count_text, name_text, share_text, time_text

NOTABLE_SHARE = 0.02  # of kernel time; what could be won back and is less is not worth a sentence


def counted_sentence(counted: pd.DataFrame) -> str:
    """Say which kernel to work on, and why.

    Args:
        counted: As ``analyzers.kernels.counted`` has it; not empty.
    """
    total = int(counted["ns"].sum())
    worst = counted.iloc[int(counted["lost_ns"].to_numpy().argmax())]
    lost = int(worst["lost_ns"])
    if worst["part"] < 0 or lost < NOTABLE_SHARE * total:
        first = counted.iloc[0]
        return (
            f"{_name(first)} takes {share_text(first['ns'], total)} of the "
            "profiled time, and no kernel loses much of it."
        )
    return (
        f"{_name(worst)} takes {share_text(worst['ns'], total)} of the profiled "
        f"time; up to {time_text(lost)} of its {time_text(int(worst['ns']))} can be won back, "
        f"mostly from {WORDS_OF_PART[Part(worst['part'])]}."
    )


def timeline_sentence(kernels: pd.DataFrame) -> str:
    """Say which kernel takes most time, and what its launch configuration wastes.

    Args:
        kernels: As ``analyzers.kernels.table`` has it; not empty.
    """
    total = int(kernels["total_ns"].sum())
    first = kernels.iloc[int(kernels["total_ns"].to_numpy().argmax())]
    time = int(first["total_ns"])
    sentence = (
        f"{_name(first)} takes {share_text(time, total)} of the time of all launches: "
        f"{time_text(time)} in {count_text(int(first['count']), 'launch')}."
    )
    unfilled = kernels["unfilled_share"].to_numpy() * kernels["total_ns"].to_numpy()
    worst = kernels.iloc[int(unfilled.argmax())]
    if unfilled.max() < NOTABLE_SHARE * total:
        return sentence
    who = "it has" if worst["name"] == first["name"] else f"{_name(worst)} has"
    return (
        f"{sentence} Computed, not measured: {who} {worst['unfilled_why']}, which costs up to "
        f"{time_text(int(unfilled.max()))}."
    )


def _name(kernel: pd.Series) -> str:
    """Return the function's name alone; a headline has no room for types."""
    name = str(kernel["name"])
    return name_text(base_name(name) or name)
