"""What the time of a finding came with: kernels, operators, ranges and lines of the program.

A rule knows at which moments of which threads its time was lost. What was around these moments is
named in its title when one of a kind holds half of the time, and stands in its evidence anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.facts.backward import backward_operators
from analyzers.facts.facts import COMMUNICATION, KERNEL, UNKNOWN, Facts
from analyzers.facts.loops import STEP, plain_name, whole_steps
from analyzers.facts.operators import operator_text
from analyzers.facts.python_frames import frame_text
from analyzers.facts.surroundings import NamedSpans, frames_of, operators_of, ranges_of
from analyzers.facts.trace_table import trace_columns
from analyzers.finding import Evidence
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.losses.ncu_command import base_name
from analyzers.recorder import recorder_of
from analyzers.words import name_text, share_text
from common.memo import memo

Named = list[tuple[str, int]]
"""Names and nanoseconds, the largest first."""

HALF = 0.5  # of a loss; from here on "mostly" is true
TITLE_SHARE = 0.1  # of a loss; what holds less does not explain it
NAMED = 2  # of each kind, in the evidence
WHOLE_WINDOW = 0.9  # of the window; a range around so much of it tells nothing about a part


@dataclass(frozen=True, kw_only=True)
class Culprits:
    """What a loss came with, each kind on its own.

    Attributes:
        lost_ns: The loss.
        kernels: What was to run, or ran.
        operators: Operators of the framework, the innermost.
        lines: Functions of the program and how they led there: ``called from step (train.py:42)``,
            or ``the backward of forward (model.py:7)`` where autograd called.
        modules: Classes of the innermost ``nn.Module`` called, or whose forward pass a backward one
            follows.
        ranges: What the program marked, the innermost.
        range_noun: What the recorder calls such a range.
    """

    lost_ns: int
    kernels: Named
    operators: Named
    lines: Named
    modules: Named
    ranges: Named
    range_noun: str

    def main(self, named: Named) -> str:
        """Return the first of a kind if it holds half of the loss, else nothing."""
        return named[0][0] if named and named[0][1] >= HALF * self.lost_ns else ""

    @property
    def origin(self) -> str:
        """Where it comes from: ``mostly in aten::item, called from step (train.py:42)``.

        Empty when nothing holds half of it. The kernel is not in it.
        """
        operator, line = self.main(self.operators), self.main(self.lines)
        text = f"mostly in {operator}" if operator else ""
        if line:
            text = f"{text}, {line}" if text else f"mostly {line}"
        if module := self.main(self.modules):
            text = f"{text}, in the module {module}" if text else f"mostly in the module {module}"
        mark = self.main(self.ranges)
        if mark:
            place = f"{self.range_noun} {mark}"
            text = f"{text}, inside the {place}" if text else f"mostly inside the {place}"
        return text

    def words(self, kernel: str = "before") -> str:
        """Return the end of a title, with a comma before.

        Where nothing holds half, the largest operator or range is named as a part.

        Args:
            kernel: How the kernel goes with the loss; empty leaves it out.
        """
        name = self.main(self.kernels) if kernel else ""
        parts = [f"mostly {kernel} `{name}`"] if name else []
        origin = self.origin.removeprefix("mostly ") if name else self.origin
        if not parts and not origin:
            return self._largest_part()
        return "".join(f", {part}" for part in (*parts, origin) if part)

    def _largest_part(self) -> str:
        named = ((self.operators, "in"), (self.ranges, f"inside the {self.range_noun}"))
        for (name, ns), how in ((n[0], how) for n, how in named if n):
            if ns >= TITLE_SHARE * self.lost_ns:
                return f", {share_text(ns, self.lost_ns)} of it {how} {name}"
        return ""

    def evidence(self, kernel: str = "before") -> tuple[Evidence, ...]:
        """Return the largest of each kind with their shares; ``kernel`` as in ``words``."""
        kinds = (
            (self.operators, "in "),
            (self.lines, ""),
            (self.modules, "in the module "),
            (self.ranges, f"inside the {self.range_noun} "),
            (self.kernels, f"{kernel} "),
        )
        return tuple(
            Evidence(name=f"{how}{name}, {share_text(ns, self.lost_ns)} of it", value=ns, unit="ns")
            for named, how in kinds
            for name, ns in named[:NAMED]
        )


def of_launches(facts: Facts, ledger: Ledger, segments: pd.DataFrame) -> Culprits:
    """Return what idle time came with, by the calls that submitted what ended it.

    Args:
        facts: The recording.
        ledger: Its account.
        segments: Part of it, with ``launch`` and ``ns``.
    """
    segments = segments[segments["launch"].to_numpy() >= 0]
    launch, ns = segments["launch"].to_numpy(), segments["ns"].to_numpy()
    kernels = np.isin(facts.launches["kind"].to_numpy()[launch], (KERNEL, COMMUNICATION))
    names = np.where(kernels, facts.launches["name_id"].to_numpy()[launch], UNKNOWN)
    called = {"thread_index": facts.thread_index[launch], "moment_ns": facts.api_start_ns[launch]}
    called["call"] = facts.launches["api_row"].to_numpy()[launch]
    return at_moments(facts, ledger, pd.DataFrame({**called, "ns": ns, "kernel": names}))


def of_waits(facts: Facts, ledger: Ledger, segments: pd.DataFrame) -> Culprits:
    """Return what idle time came with, by the calls that it is booked to; with ``wait``."""
    calls = segments["wait"].to_numpy()
    called = {
        "call": calls,
        "thread_index": facts.api["thread_index"].to_numpy()[calls],
        "moment_ns": facts.api["start_ns"].to_numpy()[calls],
    }
    return at_moments(facts, ledger, pd.DataFrame({**called, "ns": segments["ns"].to_numpy()}))


def of_host(facts: Facts, ledger: Ledger, segments: pd.DataFrame) -> Culprits:
    """Return what idle time came with, by what the threads did that ended it, as it began."""
    segments = segments[segments["launch"].to_numpy() >= 0]
    thread = facts.thread_index[segments["launch"].to_numpy()]
    begun = {"thread_index": thread, "moment_ns": segments["start_ns"].to_numpy()}
    return at_moments(facts, ledger, pd.DataFrame({**begun, "ns": segments["ns"].to_numpy()}))


def of_operations(facts: Facts, ledger: Ledger, rows: Array, ns: Array) -> Culprits:
    """Return what the time of operations came with, by the calls that submitted them.

    Args:
        facts: The recording.
        ledger: Its account.
        rows: Rows of ``Facts.launches``.
        ns: How much of each one's time counts.
    """
    return of_launches(facts, ledger, pd.DataFrame({"launch": rows, "ns": ns}))


def at_moments(facts: Facts, ledger: Ledger, losses: pd.DataFrame) -> Culprits:
    """Return what was around moments of threads, weighted with the time that was lost there.

    Args:
        facts: The recording.
        ledger: Its account.
        losses: Columns ``thread_index`` (place in ``Facts.thread_keys``, -1 for unknown),
            ``moment_ns``, ``ns``; and, if known, ``kernel`` (id of the name of what was to run, -1
            for none) and ``call`` (row of ``Facts.api``, -1 for none).
    """
    lost_ns = int(losses["ns"].sum())
    lines = [_lines(facts, frames, losses) for frames in line_candidates(facts, ledger)]
    if "call" in losses:
        lines.append(_callers(facts, losses))
    return Culprits(
        lost_ns=lost_ns,
        kernels=_kernels(facts, losses) if "kernel" in losses else [],
        operators=_sums(operators_of(facts), losses, operator_text),
        lines=telling(lines, lost_ns),
        modules=_modules(facts, losses),
        ranges=_sums(parts_of_steps(facts, ledger), losses, name_text),
        range_noun=recorder_of(facts.trace).ranges,
    )


@memo()
def parts_of_steps(facts: Facts, ledger: Ledger) -> NamedSpans:
    """Return the ranges that tell where in a step or a program something happened.

    Those around nearly all of the window, by name, and steps themselves tell nothing.
    """
    ranges = of_parts(ranges_of(facts), ledger)
    steps = {STEP, *(s.name for s in whole_steps(facts))}
    is_step = np.array([plain_name(text) in steps for text in ranges.texts], dtype=bool)
    return ranges.where(~is_step[ranges.name]) if len(ranges) else ranges


@memo()
def line_candidates(facts: Facts, ledger: Ledger) -> tuple[NamedSpans, ...]:
    """Return functions on Python's stacks in the order in which they are worth naming.

    The user's come first, then those of libraries, each without what is around all of the window,
    and at last the user's whatever they are around.
    """
    user, library, *_ = frames_of(facts)
    return of_parts(user, ledger), of_parts(library, ledger), user


def telling(candidates: Iterable[Named], lost_ns: int) -> Named:
    """Return the first that names half of a loss; the last if none does."""
    named: Named = []
    for named in candidates:
        if 2 * sum(ns for _, ns in named) >= lost_ns:
            break
    return named


def of_parts(spans: NamedSpans, ledger: Ledger) -> NamedSpans:
    """Return the intervals whose name is not around nearly all of the window."""
    if not len(spans):
        return spans
    start, window = spans.spans.start, ledger.window
    inside = np.minimum(spans.spans.end, window.end_ns) - np.maximum(start, window.start_ns)
    total = np.bincount(spans.name, np.maximum(inside, 0), len(spans.texts))
    return spans.where((total < WHOLE_WINDOW * window.duration_ns)[spans.name])


def _sums(spans: NamedSpans, losses: pd.DataFrame, shorten: Callable[[str], str]) -> Named:
    """Return the time by what was around, the largest first; time without it is left out."""
    if not len(spans) or not len(losses):
        return []
    names = spans.names_around(losses["thread_index"].to_numpy(), losses["moment_ns"].to_numpy())
    inside = names >= 0
    sums = np.bincount(names[inside], losses["ns"].to_numpy()[inside], len(spans.texts))
    order = np.argsort(-sums, kind="stable")
    return [(shorten(spans.texts[i]), int(sums[i])) for i in order.tolist() if sums[i] > 0]


def _modules(facts: Facts, losses: pd.DataFrame) -> Named:
    """Return the time by the class of the innermost module around the call, or its forward pass."""
    modules = frames_of(facts)[3]
    if not len(modules) or not len(losses):
        return []
    threads, moments = losses["thread_index"].to_numpy(), losses["moment_ns"].to_numpy()
    forward, begun = backward_operators(facts).forward_of(threads, moments)
    moved = (forward >= 0) & (modules.around(threads, moments) < 0)
    places = losses.assign(
        thread_index=np.where(moved, forward, threads), moment_ns=np.where(moved, begun, moments)
    )
    sums: dict[str, int] = {}
    for name, ns in _sums(modules, places, _module_class):
        sums[name] = sums.get(name, 0) + ns
    return sorted(sums.items(), key=lambda part: -part[1])


def _module_class(name: str) -> str:
    """Return ``Linear`` of ``nn.Module: Linear_3``."""
    return re.sub(r"_\d+$", "", name.partition(": ")[2])


def _lines(facts: Facts, frames: NamedSpans, losses: pd.DataFrame) -> Named:
    """Return the time by the function that called, or whose forward pass a backward one follows."""
    called = _sums(frames, losses, lambda name: f"called from {frame_text(name)}")
    if not len(frames) or not len(losses):
        return called
    threads, moments = losses["thread_index"].to_numpy(), losses["moment_ns"].to_numpy()
    forward, begun = backward_operators(facts).forward_of(threads, moments)
    moved = (forward >= 0) & (frames.around(threads, moments) < 0)
    of_forward = losses.assign(thread_index=forward, moment_ns=begun)[moved]
    back = _sums(frames, of_forward, lambda name: f"the backward of {frame_text(name)}")
    return sorted([*called, *back], key=lambda line: -line[1])


def _kernels(facts: Facts, losses: pd.DataFrame) -> Named:
    """Return the time by kernel, under short names."""
    losses = losses[(losses["kernel"] >= 0).to_numpy()]
    ids, codes = np.unique(losses["kernel"].to_numpy(), return_inverse=True)
    short = np.array([_short(str(t)) for t in facts.trace.names(ids)], dtype=object)
    sums = losses["ns"].groupby(short[codes]).sum().sort_values(ascending=False, kind="stable")
    return [(str(name), int(n)) for name, n in sums.items() if n > 0]


def _callers(facts: Facts, losses: pd.DataFrame) -> Named:
    """Return the time by the functions on the backtraces of calls."""
    losses = losses[(losses["call"] >= 0).to_numpy()]
    caller = trace_columns(facts.trace, "api_calls", ["caller_id"])["caller_id"]
    ids = caller[losses["call"].to_numpy()]
    sums = losses["ns"][ids >= 0].groupby(ids[ids >= 0]).sum().sort_values(ascending=False)
    names = facts.trace.names(sums.index.to_numpy(np.int64))
    named = zip(names, sums, strict=True)
    return [(f"called from {_short(str(name))}", int(ns)) for name, ns in named]


def _short(kernel: str) -> str:
    return name_text(base_name(kernel) or kernel)
