"""Whether both sides ran on comparable machines, and were recorded by comparable tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from analyzers.compare.differences import (
    environment_texts,
    source_texts,
    stated_difference,
    telemetry_values,
)
from analyzers.compare.side import Side, Sides
from analyzers.compare.types import OTHER_DRIVER, Difference, Level
from analyzers.words import share_text, signed_percent

NOTABLE_CLOCK_SHARE = 0.03  # of the clock; more changes compute-bound kernels by as much
NOTABLE_THROTTLED_SHARE = 0.01  # of the telemetry samples
_NAMES = {
    "torch": "PyTorch",
    "cuda": "CUDA",
    "python": "Python",
    "platform": "The operating system",
}


def hardware_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Compare GPUs, their number and their driver."""
    gpus = [[", ".join(side.gpus) for side in sides] for sides in (base, new)]
    gpu_names = [
        [g or e for g, e in zip(g, environment_texts(s, "gpu"), strict=True)]
        for g, s in zip(gpus, (base, new), strict=True)
    ]
    why = "A faster GPU does not make a program faster."
    yield stated_difference("gpu", "The GPU", gpu_names, Level.BLOCKING, why)
    counts = [[str(len(side.devices)) for side in sides] for sides in (base, new)]
    why = "Work may be divided differently; only one device is compared."
    yield stated_difference("devices", "The number of devices", counts, Level.WARNING, why)
    drivers = [_driver(sides) for sides in (base, new)]
    yield stated_difference(OTHER_DRIVER, "The driver", drivers, Level.WARNING)


def _driver(sides: Sides) -> list[str]:
    drivers = environment_texts(sides, "driver")
    return [d or str(s.telemetry.get("driver") or "") for d, s in zip(drivers, sides, strict=True)]


def clock_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Compare the mean clocks of the GPUs, and how long they were throttled."""
    means = [_mean(_clock(side) for side in sides) for sides in (base, new)]
    texts = [f"{m:,.0f} MHz" if m is not None else "" for m in means]
    if means[0] is None or means[1] is None:
        yield stated_difference(
            "clocks", "The GPU's clock", [[texts[0]], [texts[1]]], Level.UNKNOWN
        )
    else:
        change = means[1] / means[0] - 1 if means[0] else 0.0
        differs = abs(change) > NOTABLE_CLOCK_SHARE
        went = f"{texts[0]} on base and {texts[1]} on new ({signed_percent(change, 1)})"
        sentence = f"The GPU's clock was {went}."
        if differs:
            sentence += " Compute-bound kernels change by as much; lock the clocks."
        level = Level.WARNING if differs else Level.SAME
        yield Difference(what="clocks", base=texts[0], new=texts[1], level=level, sentence=sentence)
    yield _throttling(base, new)


def _clock(side: Side) -> float | None:
    """Return the mean clock in MHz from the best source: sampled, beside it, just after it."""
    sampled = side.telemetry.get("sm_clock_mhz")
    if isinstance(sampled, int | float):
        return float(sampled)
    if side.sm_clock_mhz is not None:
        return side.sm_clock_mhz
    stated = (side.summary.get("environment") or {}).get("clocks") or {}
    words = str(stated.get("clocks.sm", "")).split() if isinstance(stated, dict) else []
    return float(words[0]) if words and words[0].isdecimal() else None


def _throttling(base: Sides, new: Sides) -> Difference:
    shares = [_mean(telemetry_values(sides, "throttled_share")) for sides in (base, new)]
    texts = [share_text(s, 1) if s is not None else "" for s in shares]
    if shares[0] is None or shares[1] is None:
        return stated_difference(
            "throttling", "Throttling", [[texts[0]], [texts[1]]], Level.UNKNOWN
        )
    throttled = max(shares[0], shares[1]) > NOTABLE_THROTTLED_SHARE
    sentence = f"The GPU was throttled by heat or power for {texts[0]} of base, {texts[1]} of new."
    level = Level.WARNING if throttled else Level.SAME
    return Difference(
        what="throttling", base=texts[0], new=texts[1], level=level, sentence=sentence
    )


def _mean(values: Any) -> float | None:
    recorded = [v for v in values if v is not None]
    return float(np.mean(recorded)) if recorded else None


def tool_differences(base: Sides, new: Sides) -> Iterator[Difference]:
    """Compare the profilers, their versions and the software that they recorded."""
    formats = [source_texts(sides, "format") for sides in (base, new)]
    kinds = [[f.partition("-")[0] for f in sides] for sides in formats]
    why = "Each profiler slows a program down in its own way; record both with the same one."
    yield stated_difference("tool", "The profiler", kinds, Level.BLOCKING, why)
    if {side.counters_only for side in (*base, *new)} == {True, False}:
        yield Difference(
            what="timeline",
            base="counters" if base[0].counters_only else "timeline",
            new="counters" if new[0].counters_only else "timeline",
            level=Level.BLOCKING,
            sentence="One side holds counters for individual launches, the other a timeline.",
        )
    versions = [source_texts(sides, "tool_version") for sides in (base, new)]
    yield stated_difference("tool version", "The profiler's version", versions, Level.INFO)
    schemas = [source_texts(sides, "schema_version") for sides in (base, new)]
    yield stated_difference("schema", "The version of the file format", schemas, Level.INFO)
    for key, noun in _NAMES.items():
        stated = [environment_texts(sides, key) for sides in (base, new)]
        if any(any(s) for s in stated):
            yield stated_difference(key, noun, stated, Level.INFO)
