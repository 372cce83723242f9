"""Whether two sides may be compared at all: what differs besides the change that is judged.

Each check answers with differences in words. One that blocks takes every number away: a faster GPU,
another program or another result is no optimization.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from analyzers.compare.side import GRAPH_NAME, OTHERS, Side
from analyzers.compare.types import Difference, Level
from analyzers.words import share_text

NOTABLE_CLOCK_SHARE = 0.03  # of the clock; more changes compute-bound kernels by as much
NOTABLE_THROTTLED_SHARE = 0.01  # of the telemetry samples
MIN_COMMON_KERNELS = 0.5  # of the kernel time; below, most of the work runs in other kernels
MIN_SAME_OPERATORS = 0.5  # of the calls are of operators that both have: the same program …
MAX_OTHER_SHAPES = 0.1  # … but at most these with inputs of a shape that both have
GUESSED = (
    "kernels",
    "shapes",
)  # what is told from appearances, so that whoever asks may know better
MAX_COUNT_RATIO = 1.5  # of iterations, before it is worth a warning
MAX_NAMED = 3
_NAMES = {"torch": "PyTorch", "cuda": "CUDA", "python": "Python", "platform": "operating system"}

Sides = Sequence[Side]
Check = Callable[[Sides, Sides], Iterator[Difference]]


def comparability(base: Sides, new: Sides, *, anyway: bool = False) -> tuple[Difference, ...]:
    """Return what was compared before any number, what blocks first.

    Args:
        base: Recordings before the change.
        new: Recordings after it.
        anyway: Whether two programs that look different are known to do the same work.
    """
    found = [difference for check in _CHECKS for difference in check(base, new)]
    if anyway:
        found = [_lifted(difference) for difference in found]
    order = (Level.BLOCKING, Level.WARNING, Level.INFO, Level.UNKNOWN, Level.SAME)
    return tuple(sorted(found, key=lambda d: order.index(d.level)))


def _lifted(difference: Difference) -> Difference:
    """Turn a block that rests on appearances into a warning."""
    if not difference.blocking or difference.what not in GUESSED:
        return difference
    sentence = f"{difference.sentence} They are compared all the same, as was asked."
    return dataclasses.replace(difference, level=Level.WARNING, sentence=sentence)


def _stated_difference(
    what: str, noun: str, values: Sequence[Sequence[str]], level: Level, why: str = ""
) -> Difference:
    """Compare what both sides state in words.

    Args:
        what: Short name.
        noun: What it is, to begin a sentence with.
        values: Of the base recordings and of the new ones; empty where not recorded.
        level: What a difference means.
        why: A sentence that follows.
    """
    stated = [sorted({v for v in side if v}) for side in values]
    texts = [", ".join(side) for side in stated]
    given: dict[str, Any] = {"what": what, "base": texts[0], "new": texts[1]}
    if not all(stated):
        silent = "either side" if not any(stated) else ("base" if not stated[0] else "new")
        sentence = f"{noun} could not be compared: not recorded on {silent}."
        return Difference(**given, level=Level.UNKNOWN, sentence=sentence)
    if stated[0] == stated[1] and len(stated[0]) == 1:
        sentence = f"{noun}: the same on both sides, {texts[0]}."
        return Difference(**given, level=Level.SAME, sentence=sentence)
    sentence = f"{noun} differs: {texts[0]} on base, {texts[1]} on new."
    return Difference(**given, level=level, sentence=f"{sentence} {why}".strip())


def _of_source(sides: Sides, key: str) -> list[str]:
    return [str(side.source.get(key) or "") for side in sides]


def _of_environment(sides: Sides, key: str) -> list[str]:
    values = ((side.summary.get("environment") or {}).get(key) for side in sides)
    return [str(v) if v is not None else "" for v in values]


def _of_telemetry(sides: Sides, key: str) -> list[float | None]:
    values = [side.telemetry.get(key) for side in sides]
    return [float(v) if isinstance(v, int | float) else None for v in values]


def _gpu_work(base: Sides, new: Sides) -> Iterator[Difference]:
    for name, sides in (("base", base), ("new", new)):
        idle = [side.source["name"] for side in sides if not side.operations]
        if idle:
            yield Difference(
                what="gpu work",
                base="" if name == "new" else "none",
                new="" if name == "base" else "none",
                level=Level.BLOCKING,
                sentence=f"{idle[0]} ({name}) has no GPU work, so there is nothing to compare.",
            )


def _hardware(base: Sides, new: Sides) -> Iterator[Difference]:
    gpus = [[", ".join(side.gpus) for side in sides] for sides in (base, new)]
    told = [
        [g or e for g, e in zip(g, _of_environment(s, "gpu"), strict=True)]
        for g, s in zip(gpus, (base, new), strict=True)
    ]
    why = "A faster GPU is no faster program."
    yield _stated_difference("gpu", "The GPU", told, Level.BLOCKING, why)
    counts = [[str(len(side.devices)) for side in sides] for sides in (base, new)]
    why = "Work may be divided differently; only one device is compared."
    yield _stated_difference("devices", "The number of devices", counts, Level.WARNING, why)
    drivers = [_driver(sides) for sides in (base, new)]
    yield _stated_difference("driver", "The driver", drivers, Level.WARNING)


def _driver(sides: Sides) -> list[str]:
    stated = _of_environment(sides, "driver")
    return [d or str(s.telemetry.get("driver") or "") for d, s in zip(stated, sides, strict=True)]


def _clocks(base: Sides, new: Sides) -> Iterator[Difference]:
    means = [_mean(_clock(side) for side in sides) for sides in (base, new)]
    texts = [f"{m:,.0f} MHz" if m is not None else "" for m in means]
    if means[0] is None or means[1] is None:
        yield _stated_difference(
            "clocks", "The GPU's clock", [[texts[0]], [texts[1]]], Level.UNKNOWN
        )
    else:
        change = means[1] / means[0] - 1 if means[0] else 0.0
        differs = abs(change) > NOTABLE_CLOCK_SHARE
        sentence = f"The GPU's clock was {texts[0]} on base and {texts[1]} on new ({change:+.1%})."
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
    shares = [_mean(_of_telemetry(sides, "throttled_share")) for sides in (base, new)]
    texts = [share_text(s, 1) if s is not None else "" for s in shares]
    if shares[0] is None or shares[1] is None:
        return _stated_difference(
            "throttling", "Throttling", [[texts[0]], [texts[1]]], Level.UNKNOWN
        )
    throttled = max(shares[0], shares[1]) > NOTABLE_THROTTLED_SHARE
    sentence = f"The GPU was held back by heat or power for {texts[0]} of base, {texts[1]} of new."
    level = Level.WARNING if throttled else Level.SAME
    return Difference(
        what="throttling", base=texts[0], new=texts[1], level=level, sentence=sentence
    )


def _mean(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _tools(base: Sides, new: Sides) -> Iterator[Difference]:
    formats = [_of_source(sides, "format") for sides in (base, new)]
    kinds = [[f.partition("-")[0] for f in sides] for sides in formats]
    why = "Each profiler slows a program down in its own way; record both with the same one."
    yield _stated_difference("tool", "The profiler", kinds, Level.BLOCKING, why)
    if {side.counters_only for side in (*base, *new)} == {True, False}:
        yield Difference(
            what="timeline",
            base="counters" if base[0].counters_only else "timeline",
            new="counters" if new[0].counters_only else "timeline",
            level=Level.BLOCKING,
            sentence="One side holds counters of single launches, the other a timeline.",
        )
    versions = [_of_source(sides, "tool_version") for sides in (base, new)]
    yield _stated_difference("tool version", "The profiler's version", versions, Level.INFO)
    schemas = [_of_source(sides, "schema_version") for sides in (base, new)]
    yield _stated_difference("schema", "The version of the file's layout", schemas, Level.INFO)
    for key, noun in _NAMES.items():
        stated = [_of_environment(sides, key) for sides in (base, new)]
        if any(any(s) for s in stated):
            yield _stated_difference(key, noun, stated, Level.INFO)


def _windows(base: Sides, new: Sides) -> Iterator[Difference]:
    loops = [sorted({side.loop for side in sides}) for sides in (base, new)]
    found = [bool(side.loop) for side in (*base, *new)]
    if any(found) and not all(found):
        missing = next(s for s in (*base, *new) if not s.loop)
        yield Difference(
            what="window",
            base=", ".join(loops[0]),
            new=", ".join(loops[1]),
            level=Level.BLOCKING,
            sentence=(
                "Iterations were found in some recordings only; in "
                f"{missing.source['name']} there are none. Name the range that is one iteration "
                "on both sides with --window nvtx:NAME."
            ),
        )
        return
    if all(found):
        why = "Make sure that both are one iteration of the same work."
        yield _stated_difference(
            "window", "The range that is an iteration", loops, Level.WARNING, why
        )
        counts = [[len(side.start_ns) for side in sides] for sides in (base, new)]
        yield _counts(counts)
        return
    yield Difference(
        what="window",
        base=base[0].window,
        new=new[0].window,
        level=Level.WARNING,
        sentence=(
            "No iterations were found on either side, so whole windows are compared: "
            "that is right only if both did the same work."
        ),
    )


def _counts(counts: list[list[int]]) -> Difference:
    texts = [", ".join(f"{c:,}" for c in side) for side in counts]
    given: dict[str, Any] = {"what": "iterations", "base": texts[0], "new": texts[1]}
    sizes = [float(np.mean(side)) for side in counts]
    if sizes[0] == sizes[1]:
        sentence = f"Iterations: {texts[0]} on both sides."
        if counts[0] != counts[1]:
            sentence = f"Iterations: {texts[0]} on base, {texts[1]} on new."
        return Difference(**given, level=Level.SAME, sentence=sentence)
    much = max(sizes) > MAX_COUNT_RATIO * min(sizes)
    return Difference(
        **given,
        level=Level.WARNING if much else Level.INFO,
        sentence=(
            f"The number of iterations differs: {texts[0]} on base, {texts[1]} on new; "
            "times are given per iteration."
        ),
    )


def _workload(base: Sides, new: Sides) -> Iterator[Difference]:
    stated = [[str(s.summary.get("pair") or "") for s in sides] for sides in (base, new)]
    if not any(any(s) for s in stated):
        return
    why = "They do different work."
    yield _stated_difference("workload", "The workload", stated, Level.BLOCKING, why)
    devices = [[str(s.summary.get("device") or "") for s in sides] for sides in (base, new)]
    yield _stated_difference("workload device", "The kind of device", devices, Level.BLOCKING)
    seeds = [[str(s.summary.get("seed", "")) for s in sides] for sides in (base, new)]
    yield _stated_difference("seed", "The seed", seeds, Level.WARNING)
    yield _results(base, new)


def _results(base: Sides, new: Sides) -> Difference:
    """Compare what the programs computed; a faster wrong result is worth nothing."""
    known = [
        [side.summary.get("result") or {} for side in sides if side.summary.get("result")]
        for sides in (base, new)
    ]
    if not known[0] or not known[1]:
        return _stated_difference("result", "The result", [[""], [""]], Level.UNKNOWN)
    first, apart = known[0][0], 0.0
    for other in (*known[0][1:], *known[1]):
        apart = max(apart, _apart(first, other))
    agrees = apart <= 1.0
    sentence = "Both sides compute the same result, within the workload's own tolerance."
    if not agrees:
        sentence = (
            "The two sides compute different results: they are further apart than the "
            "workload's own tolerance, so neither is an optimization of the other."
        )
    level = Level.SAME if agrees else Level.BLOCKING
    return Difference(what="result", base="", new="", level=level, sentence=sentence)


def _apart(first: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference between two results, in units of what is tolerated."""
    values = first.get("values") or [], other.get("values") or []
    if len(values[0]) != len(values[1]):
        return math.inf
    tolerance = max(float(first.get("rtol") or 0.0), float(other.get("rtol") or 0.0))
    worst = 0.0
    for a, b in zip(*values, strict=True):
        allowed = max(tolerance * max(abs(a), abs(b)), 1e-6)
        worst = max(worst, abs(a - b) / allowed) if math.isfinite(a - b) else math.inf
    return worst


def _ranks(base: Sides, new: Sides) -> Iterator[Difference]:
    """Tell processes of one distributed job from repeated runs."""
    ranks = [[side.source.get("rank") or "" for side in sides] for sides in (base, new)]
    known = [sorted({rank for rank in side if rank}, key=int) for side in ranks]
    if not all(known):
        return
    texts = [", ".join(side) for side in known]
    given: dict[str, Any] = {"what": "ranks", "base": texts[0], "new": texts[1]}
    if max(map(len, known)) > 1:
        label, several = next(
            (n, t) for n, t, k in zip(("base", "new"), texts, known, strict=True) if len(k) > 1
        )
        yield Difference(
            **given,
            level=Level.BLOCKING,
            sentence=(
                f"The recordings of {label} are of ranks {several} of a distributed job. Ranks are "
                "no repeated runs: compare the same rank of each run."
            ),
        )
        return
    why = "Ranks may have different work."
    yield _stated_difference("ranks", "The rank", ranks, Level.WARNING, why)


def _shapes(base: Sides, new: Sides) -> Iterator[Difference]:
    counted = [_operators(sides) for sides in (base, new)]
    if not counted[0] or not counted[1]:
        if counted[0] or counted[1] or any(s.source["format"] == "torch-json" for s in base):
            yield _stated_difference("shapes", "Input shapes", [[""], [""]], Level.UNKNOWN)
        return
    names = [{name for name, _ in side} for side in counted]
    same_names = _share(counted, lambda key: key[0] in names[0] & names[1])
    common = set(counted[0]) & set(counted[1])
    same = _share(counted, lambda key: key in common)
    texts = [share_text(s, 1) for s in same]
    given: dict[str, Any] = {"what": "shapes", "base": texts[0], "new": texts[1]}
    if min(same_names) >= MIN_SAME_OPERATORS and max(same) <= MAX_OTHER_SHAPES:
        example = _example(counted)
        yield Difference(
            **given,
            level=Level.BLOCKING,
            sentence=f"The same operators get inputs of other shapes{example}: another problem.",
        )
        return
    told = f"{texts[0]} of base's and {texts[1]} of new's operator calls have inputs of a shape"
    level = Level.SAME if min(same) >= 1 - MAX_OTHER_SHAPES else Level.WARNING
    example = "" if level is Level.SAME else _example(counted)
    yield Difference(**given, level=level, sentence=f"{told} that the other side has{example}.")


def _operators(sides: Sides) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = {}
    for side in sides:
        for (name, shape), calls in side.operators.items():
            key = name, "".join(shape.split())  # versions of torch write other blanks
            sums[key] = sums.get(key, 0.0) + calls / len(sides)
    return sums


def _share(
    counted: list[dict[tuple[str, str], float]], chosen: Callable[[tuple[str, str]], bool]
) -> list[float]:
    return [
        sum(calls for key, calls in side.items() if chosen(key)) / sum(side.values())
        for side in counted
    ]


def _example(counted: list[dict[tuple[str, str], float]]) -> str:
    """Name the operator with most calls that has no shape in common."""
    by_name: list[dict[str, dict[str, float]]] = [{}, {}]
    for side, grouped in zip(counted, by_name, strict=True):
        for (name, shape), calls in side.items():
            grouped.setdefault(name, {})[shape] = calls
    for name, shapes in by_name[0].items():
        others = by_name[1].get(name, {})
        if others and not set(shapes) & set(others):
            first = [max(s, key=lambda k: s[k])[:60] for s in (shapes, others)]
            return f" ({name[:60]}: {first[0]} on base, {first[1]} on new)"
    return ""


def _populations(base: Sides, new: Sides) -> Iterator[Difference]:
    times = [_kernel_times(sides) for sides in (base, new)]
    if not times[0] or not times[1]:
        return
    common = set(times[0]) & set(times[1])
    shares = [
        sum(ns for name, ns in side.items() if name in common) / max(sum(side.values()), 1)
        for side in times
    ]
    texts = [share_text(s, 1) for s in shares]
    given: dict[str, Any] = {"what": "kernels", "base": texts[0], "new": texts[1]}
    told = (
        f"Kernels that both sides have take {texts[0]} of base's kernel time, {texts[1]} of new's"
    )
    if common or _looks_the_same(base, new):
        level = Level.SAME if min(shares) >= MIN_COMMON_KERNELS else Level.WARNING
        more = "" if level is Level.SAME else "; most of the work runs in other kernels"
        yield Difference(**given, level=level, sentence=f"{told}{more}.")
        return
    yield Difference(
        **given,
        level=Level.BLOCKING,
        sentence=(
            "These look like different programs: they have no kernel and no operator in common, "
            "and no range but perhaps one around each iteration. If both do the same work, compare "
            "them with: whyslow compare --anyway."
        ),
    )


def _kernel_times(sides: Sides) -> dict[str, int]:
    sums: dict[str, int] = {}
    for side in sides:
        kernels = side.kernels
        ns = np.bincount(
            kernels.by_iteration.column, kernels.by_iteration.ns, minlength=len(kernels.names)
        )
        for name, spent in zip(kernels.names, ns.tolist(), strict=True):
            sums[name] = sums.get(name, 0) + int(spent)
    return sums


def _looks_the_same(base: Sides, new: Sides) -> bool:
    """Tell whether the sides share a workload, an operator, a range, or a kernel's short name.

    A range around each iteration says nothing: every program has a ``step``.
    """
    loops = {side.loop for side in (*base, *new)}
    names = []
    for sides in (base, new):
        mine = {side.summary.get("pair") for side in sides}
        mine |= {name for side in sides for name, _ in side.operators}
        mine |= {name for side in sides for _, name, _ in side.regions.keys} - loops
        mine |= {name for side in sides for name in side.kernels.short_names}
        names.append(mine - {"", None, OTHERS, GRAPH_NAME})
    return bool(names[0] & names[1])


def _captures(base: Sides, new: Sides) -> Iterator[Difference]:
    for label, sides in (("base", base), ("new", new)):
        for side in sides:
            for level, code, message in side.quality:
                if level != "error" or code == "no_gpu_work":
                    continue
                yield Difference(
                    what="capture",
                    base=code if label == "base" else "",
                    new=code if label == "new" else "",
                    level=Level.WARNING,
                    sentence=f"{side.source['name']} ({label}): {message}",
                )


def _twice(base: Sides, new: Sides) -> Iterator[Difference]:
    digests = [[side.source["sha256"] for side in sides] for sides in (base, new)]
    again = {d for d in digests[0] if d} & set(digests[1])
    repeated = [side for side in digests if len(set(side)) < len([d for d in side if d])]
    if again:
        yield Difference(
            what="recordings",
            base=", ".join(_of_source(base, "name")),
            new=", ".join(_of_source(new, "name")),
            level=Level.INFO,
            sentence="The same recording stands on both sides.",
        )
    if repeated:
        yield Difference(
            what="recordings",
            base="",
            new="",
            level=Level.BLOCKING,
            sentence="A recording is given twice on one side; it is no further measurement.",
        )


_CHECKS: tuple[Check, ...] = (
    _gpu_work,
    _hardware,
    _clocks,
    _tools,
    _windows,
    _workload,
    _ranks,
    _shapes,
    _populations,
    _captures,
    _twice,
)
