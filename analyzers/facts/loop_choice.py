"""Which repetitions are iterations: those that are found, or those that somebody names."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts, WindowError
from analyzers.facts.host_loops import (
    find_host_loop,
    find_loop_without_gpu,
    graphs_hide_launches,
)
from analyzers.facts.loops import MIN_ITERATIONS, find_iterations
from analyzers.facts.periods import MIN_SIMILARITY, Period
from analyzers.facts.spans import Iteration, Iterations, LoopEvidence
from analyzers.facts.unmarked import (
    find_launch_loop,
    launch_alphabets,
    launch_iterations,
    launch_sequences,
)
from analyzers.facts.window_request import AUTO, FORMS, NONE, number_in
from analyzers.facts.windows import SHOWN_NAMES, repetitions
from analyzers.intervals import Array
from analyzers.words import count_text, name_text

Marked = tuple[tuple[Iteration, ...], str]
"""What ``find_iterations`` returns."""


def chosen_iterations(facts: Facts, choice: str, marked: Marked | None = None) -> Iterations:
    """Return the iterations that were asked for.

    Args:
        facts: The recording.
        choice: As in ``analyzers.facts.window_request``; empty for ``auto``.
        marked: What ``find_iterations`` returns for the recording, if the caller has that.

    Raises:
        WindowError: It is no choice, or the recording has no such range, kernel or period.
    """
    kind, _, rest = choice.partition(":")
    if choice in ("", AUTO):
        return iterations_of(facts, marked if marked is not None else find_iterations(facts))
    if choice == NONE:
        return Iterations((), "No iterations, as requested.")
    if kind == "nvtx" and rest:
        return Iterations(*repetitions(facts, rest), LoopEvidence(how="request"))
    if kind == "kernel" and rest:
        return _begun_by_kernel(facts, rest)
    if kind == "period" and (length := number_in(rest) or 0) > 0:
        return _every_launches(facts, length)
    raise WindowError(f"{choice[:80]!r} is no choice of iterations: use {FORMS}")


def iterations_of(facts: Facts, marked: Marked) -> Iterations:
    """Return the iterations that the program marks, else those that its launches or calls show.

    Args:
        facts: The recording.
        marked: What ``find_iterations`` returns for it.
    """
    iterations, note = marked
    if iterations:
        return Iterations(iterations, note, LoopEvidence(how="ranges"))
    if facts.counters_only:
        return Iterations(iterations, note)
    if not len(facts.launches):
        host = find_loop_without_gpu(facts)
        return (
            Iterations(host.iterations, host.note, host.evidence) if host else Iterations((), note)
        )
    loop = find_launch_loop(facts)
    if (loop is None or loop.period.launches == 1) and graphs_hide_launches(facts):
        host = find_host_loop(facts)  # one graph again and again may be several in each step
        if host is not None and (loop is None or len(host.iterations) < len(loop.iterations)):
            return Iterations(host.iterations, host.note, host.evidence)
    if loop is None:
        return Iterations((), f"{note.removesuffix('.')}, and what is launched repeats no pattern.")
    return Iterations(loop.iterations, loop.note, loop.evidence)


def _begun_by_kernel(facts: Facts, name: str) -> Iterations:
    """Return iterations that each begin with a launch of this kernel, on its busiest device."""
    is_named = _is_called(facts, name)
    if not is_named.any():
        raise WindowError(_no_such_kernel(facts, name))
    rows = max(launch_sequences(facts), key=lambda rows: int(np.count_nonzero(is_named[rows])))
    first = np.flatnonzero(is_named[rows])
    if len(first) < MIN_ITERATIONS:
        times = "once" if len(first) == 1 else f"{len(first)} times"
        raise WindowError(
            f"kernel:{name[:80]}: launched {times}; iterations need {MIN_ITERATIONS} launches"
        )
    length = int(np.median(np.diff(first)))  # nothing begins after the last one
    stop = np.append(first[1:], min(int(first[-1]) + length, len(rows)))
    note = f"{len(first):,} iterations, each begun by a launch of {name_text(name)}, as requested."
    return _requested(facts, rows, _period(facts, rows, first, stop), note)


def _is_called(facts: Facts, name: str) -> Array:
    """Return which launches are of a kernel of this full or short name."""
    ids = facts.launches["name_id"].to_numpy()
    codes, unique = pd.factorize(ids)
    matches = (facts.trace.names(unique) == name)[codes]
    short = facts.of_table("kernels", ["short_name_id"])["short_name_id"]
    codes, unique = pd.factorize(short.to_numpy())
    matches[short.index.to_numpy()] |= (facts.trace.names(unique) == name)[codes]
    matches &= ids >= 0
    result: Array = matches
    return result


def _no_such_kernel(facts: Facts, name: str) -> str:
    """Say that no kernel has this name, and which are launched most often."""
    short = facts.of_table("kernels", ["short_name_id"])["short_name_id"]
    most = short.value_counts().head(SHOWN_NAMES).index.to_numpy()
    names = ", ".join(repr(str(n)[:80]) for n in facts.trace.names(most)) or "none"
    return f"kernel:{name[:80]}: the recording has no such kernel; launched most often: {names}"


def _every_launches(facts: Facts, length: int) -> Iterations:
    """Return iterations of so many launches each, where launches that far apart are the same."""
    for rows in launch_sequences(facts):
        for alphabet in launch_alphabets(facts, rows):
            first = _where_repeated(alphabet, length)
            if len(first) >= MIN_ITERATIONS:
                period = _period(facts, rows, first, first + length)
                note = f"{len(first):,} iterations of {count_text(length, 'launch')}, as requested."
                return _requested(facts, rows, period, note)
    raise WindowError(
        f"period:{length}: launches {length:,} apart are not the same {MIN_ITERATIONS} times in a "
        "row"
    )


def _requested(facts: Facts, rows: Array, period: Period, note: str) -> Iterations:
    """Return iterations of launches that somebody asked for."""
    evidence = LoopEvidence(how="request", length=period.launches, covered=period.covered)
    return Iterations(launch_iterations(facts, rows, period), note, evidence)


def _where_repeated(alphabet: Array, length: int) -> Array:
    """Return where repetitions of ``length`` launches begin, one behind the other."""
    if len(alphabet) < MIN_ITERATIONS * length:
        return np.empty(0, np.int64)
    same = alphabet[:-length] == alphabet[length:]
    sums = np.concatenate(([0], np.cumsum(same)))
    alike = (sums[length:] - sums[:-length]) / length  # of each stretch to the one behind it
    begins = np.flatnonzero(alike >= MIN_SIMILARITY)
    if not len(begins):
        return np.empty(0, np.int64)
    # Of a whole period the stretch that is most like the one behind it: no warm-up is in it.
    best = int(begins[0]) + int(np.argmax(alike[begins[0] : begins[0] + length]))
    first = np.arange(best, len(alphabet) - length + 1, length)
    repeated = np.append(alike[first[:-1]] >= MIN_SIMILARITY, True)
    stop = np.flatnonzero(~repeated)
    result: Array = first[: int(stop[0]) + 1] if len(stop) else first
    return result


def _period(facts: Facts, rows: Array, first: Array, stop: Array) -> Period:
    duration = facts.duration_ns[rows]
    busy = np.concatenate(([0], np.cumsum(duration)))
    return Period(
        first=first,
        stop=stop,
        launches=int(np.median(stop - first)),
        similarity=1.0,
        covered=float((busy[stop] - busy[first]).sum() / max(int(busy[-1]), 1)),
        alphabet=0,
    )
