"""Measures what one recording brings to a comparison: a ``Side``, iteration by iteration.

Which stretches are iterations is decided first; every quantity is then summed over them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from analyzers.compare.launch_times import launch_times, no_launch_times
from analyzers.compare.recording_analysis import RecordingAnalysis, cut_ledger
from analyzers.compare.samples import periods, warm_up
from analyzers.compare.side import Side
from analyzers.compare.side_quantities import (
    iteration_counts,
    launches_in_iterations,
    operator_calls,
    peak_bytes,
    range_totals,
    roles_by_iteration,
    sampled_clock_mhz,
)
from analyzers.compare.side_tables import (
    iteration_accounts,
    kernels_by_iteration,
    ranges_of_launches,
    regions_by_iteration,
)
from analyzers.compare.side_work import work_by_iteration
from analyzers.compare.statistics import MIN_SAMPLES
from analyzers.facts.facts import (
    UNKNOWN,
    Facts,
    WindowError,
)
from analyzers.facts.loop_choice import chosen_iterations
from analyzers.facts.loops import plain_name, whole_steps
from analyzers.facts.spans import Iteration, Window
from analyzers.facts.totals import origin
from analyzers.facts.window_request import parse_request
from analyzers.facts.windows import choose_window, repetitions
from analyzers.intervals import Spans
from analyzers.ledger.ledger import Ledger, build_ledger
from analyzers.ledger.regions import stretches_by_region
from analyzers.quality.quality import check_quality


def measure(
    facts: Facts, request: str = "", device: int = -1, analysis: RecordingAnalysis | None = None
) -> Side:
    """Return what a recording brings to a comparison.

    Args:
        facts: The recording.
        request: ``""`` (the iterations that are found, else the whole window), ``nvtx:NAME`` (every
            range of that name), or one window as ``analyzers.analyze`` takes it; and what an
            iteration is, as ``analyzers.facts.window_request`` has it.
        device: Key of the device to compare; -1 for the one that is busy longest.
        analysis: That of the whole recording, if there is one; None to compute everything anew.

    Raises:
        WindowError: The recording has no such window or device.
    """
    window, choice = parse_request(request)
    spans, iterations, whole = _choose_iterations(facts, window, choice, device, analysis)
    ledger = cut_ledger(analysis, facts, whole) if analysis else None
    ledger = ledger or build_ledger(facts, whole)
    if analysis and not request:
        quality = analysis.quality
    else:
        quality = check_quality(facts, ledger, iterations)
    device = _device(ledger, device)
    durations = spans.end - spans.start
    settling = warm_up(durations) if iterations else None
    skipped = settling.dropped if settling else 0
    typical = skipped + int(np.argmin(np.abs(durations[skipped:] - np.median(durations[skipped:]))))
    in_use = launches_in_iterations(facts.launches, spans, device)
    table, places = iteration_accounts(ledger, spans, device, typical)
    kernels, launched = kernels_by_iteration(facts, in_use, typical)
    work, key_of_launch, amounts = work_by_iteration(facts, spans, device, typical)
    sequence = launched.row[launched.iteration == typical][: len(kernels.sequence)]
    by_region = stretches_by_region(facts, ledger, iterations)
    numbers, ranges = ranges_of_launches(by_region, sequence)
    kernels = dataclasses.replace(
        kernels,
        sequence_work=key_of_launch[sequence],
        sequence_range=numbers,
        ranges=ranges,
    )
    single_launches = no_launch_times()
    if len(durations) - skipped < MIN_SAMPLES and len(launched.row):
        kept = launched.of_iterations(skipped)
        single_launches = launch_times(facts, kernels, kept, ledger, device)
    return Side(
        source=_source_texts(facts),
        gpus=tuple(sorted({str(n) for n in facts.devices["name"] if n})),
        devices=device_names(ledger),
        device=device,
        request=request,
        window=whole.label,
        loop=plain_name(iterations[0].name) if iterations else "",
        is_loop_found=bool(iterations) and not iterations[0].is_marked and not choice,
        start_ns=spans.start,
        end_ns=spans.end,
        warm_up=skipped,
        warm_up_how=settling.how if settling else "",
        typical=typical,
        ledger_ns=table,
        row_places=places,
        counts=iteration_counts(facts, spans, in_use, device) | amounts,
        roles_ns=roles_by_iteration(facts, spans, iterations),
        kernels=kernels,
        launch_times=single_launches,
        regions=regions_by_iteration(by_region, spans, device, skipped=skipped, typical=typical),
        work=work,
        operators=operator_calls(facts, spans),
        ranges=range_totals(facts),
        peak_bytes=peak_bytes(facts, spans, device),
        sm_clock_mhz=sampled_clock_mhz(facts, spans),
        operations=len(facts.launches),
        counters_only=facts.counters_only,
        quality=tuple((n.level, n.code, n.message) for n in quality),
    )


def _source_texts(facts: Facts) -> dict[str, str]:
    """Return where the recording came from, as texts."""
    source = facts.trace.source
    numbers = {
        "rank": source.rank,
        "world_size": source.world_size,
        "start_utc_ns": source.start_utc_ns,
    }
    return {**origin(facts), **{k: str(n) if n >= 0 else "" for k, n in numbers.items()}}


def _choose_iterations(
    facts: Facts, request: str, choice: str, device: int, analysis: RecordingAnalysis | None
) -> tuple[Spans, tuple[Iteration, ...], Window]:
    """Return the stretches to compare, the iterations that they are (if any), and all of them.

    How they were chosen, in words, is the label of the window of all.
    """
    name = request.removeprefix("nvtx:") if request.startswith("nvtx:") else ""
    if name and not (name.rpartition("#")[0] and name.rpartition("#")[2].isdecimal()):
        repeated, note = repetitions(facts, name, _process_of(facts, device))
        spans, kept = periods(repeated, until_next=False)
        if len(kept) < len(repeated):
            note += f" {len(repeated) - len(kept):,} that overlap another one are left out."
        return spans, tuple(repeated[i] for i in kept), _around(facts, spans, note)
    iterations: tuple[Iteration, ...] = ()
    note = ""
    if not request or request.startswith("iteration"):
        if analysis and not choice:
            iterations, note = analysis.iterations, analysis.iterations_note
        else:
            iterations, note, _ = chosen_iterations(facts, choice)
    if not request and len(iterations) > 1:
        spans, kept = periods(iterations, until_next=True)
        return spans, tuple(iterations[i] for i in kept), _around(facts, spans, note)
    window = choose_window(facts, request, iterations)
    if window.end_ns <= window.start_ns:
        window = dataclasses.replace(window, start_ns=0, end_ns=1)
    elif not request:
        window = dataclasses.replace(window, label=f"{window.label}. {note}".strip())
    return Spans(np.array([window.start_ns]), np.array([window.end_ns])), (), window


def _around(facts: Facts, spans: Spans, label: str) -> Window:
    """Return the window of all iterations; their steps are those of the whole recording."""
    steps = whole_steps(facts)
    return Window(
        start_ns=int(spans.start.min()),
        end_ns=int(spans.end.max()),
        label=label,
        is_chosen=bool(steps),
        steps=steps,
    )


def _process_of(facts: Facts, device: int) -> int | None:
    """Return the process that alone uses the device (the busiest one for -1); None for several."""
    if not len(facts.devices):
        return None
    if not 0 <= device < len(facts.devices):
        used = facts.launches["device"].to_numpy()
        on = np.flatnonzero(used >= 0)
        device = int(np.bincount(used[on], facts.duration_ns[on], len(facts.devices)).argmax())
    process = int(facts.devices["process_key"].iloc[device])
    return None if process == UNKNOWN else process


def device_names(ledger: Ledger) -> tuple[str, ...]:
    """Return a name for each device of the ledger, to choose it by."""
    several = len({d.device for d in ledger.devices}) < len(ledger.devices)
    return tuple(
        f"GPU {d.device} {d.name}".rstrip() + (f", process {d.process}" if several else "")
        for d in ledger.devices
    )


def _device(ledger: Ledger, device: int) -> int:
    if device >= len(ledger.devices):
        raise WindowError(f"device {device}: the recording has {len(ledger.devices)}")
    if device >= 0 or not ledger.devices:
        return device
    return max(range(len(ledger.devices)), key=lambda key: ledger.devices[key].busy_ns)
