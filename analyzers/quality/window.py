"""Whether the window holds enough to judge: work, use, repetitions, and no start-up."""

from __future__ import annotations

import numpy as np

from analyzers.facts.facts import Facts
from analyzers.facts.loops import left_over, moved_by_driver
from analyzers.facts.spans import Iteration
from analyzers.facts.windows import (
    FREE,
    all_work,
    covers_all_work,
    held_up_by_older_work,
    recorded_ns,
)
from analyzers.finding import Row
from analyzers.intervals import Array, clip, union
from analyzers.ledger.booking import DETAILS, Detail
from analyzers.ledger.ledger import Ledger
from analyzers.quality.note import MAX_NAMED, MAX_UNEXPLAINED_SHARE, quality_note
from analyzers.recorder import recorder_of
from analyzers.report import QualityNote
from analyzers.words import count_text, share_text, time_text

NOTABLE_LEFT_OVER = 0.01  # of the window: from here on both figures are worth a warning
NOTABLE_DIFFERENCE = 0.01  # of the window; two lengths this far apart are both told
WARM_UP_FACTOR = 1.5  # of the median: a first iteration this slow is not like the others
NOTABLE_SETUP_SHARE = 0.02
SPARSE_SPAN_FACTOR = 3  # capture this many times longer than the window: say so
LONG_PAUSE_NS, MIN_PAUSES, ALIKE = 100_000, 4, 0.1  # alike: within a tenth of the middle one
NOTABLE_UNUSED_SHARE = 0.02  # of the window, in which a GPU had no work


def idle_window(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict on a window in which no GPU had anything to do."""
    if not len(facts.launches) or ledger.in_use_ns:
        return None
    return quality_note(
        "error",
        "nothing_wanted",
        "No GPU operation ran or was pending in this window. Choose a window inside the recorded "
        "GPU work.",
    )


def unused_devices(_facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say which devices the verdict leaves out, and for how long."""
    clauses = [
        f"GPU {d.device} had none for {share_text(d.unused_ns, d.duration_ns)} of it"
        for d in ledger.devices
        if d.unused_ns >= NOTABLE_UNUSED_SHARE * max(d.duration_ns, 1)
    ]
    if not clauses:
        return None
    first = ", ".join(clauses[:MAX_NAMED])
    more = f", and {len(clauses) - MAX_NAMED} more" if len(clauses) > MAX_NAMED else ""
    advice = (
        " Give each GPU its share of the work, or hide it with CUDA_VISIBLE_DEVICES."
        if len(ledger.devices) > 1
        else ""
    )
    return quality_note(
        "info",
        "unused_devices",
        f"Work did not fill the whole window: {first}{more}. The time before a "
        "GPU's first operation and after its last is booked to host (nothing was submitted to "
        f"that GPU) and left out of the verdict.{advice}",
    )


def one_operation(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict on a single operation, which nothing can be compared with."""
    inside = _launches_inside(facts, ledger)
    if inside != 1:
        return None
    return quality_note(
        "error",
        "one_operation",
        "The window holds a single GPU operation, so there is nothing on the timeline to compare. "
        "Record more of the program, or examine the kernel with ncu.",
    )


def _launches_inside(facts: Facts, ledger: Ledger) -> int:
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    inside = (end > ledger.window.start_ns) & (start < ledger.window.end_ns)
    return int(np.count_nonzero(inside))


def unexplained(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say how much idle time has no explanation, and what would give it one."""
    if not ledger.in_use_ns:
        return None
    lost = ledger.total_ns(Row.UNEXPLAINED)
    share = lost / ledger.in_use_ns
    if share < MAX_UNEXPLAINED_SHARE:
        return None
    reasons: dict[str, int] = {}
    for device in ledger.devices:
        for reason, ns in device.unexplained.items():
            reasons[reason] = reasons.get(reason, 0) + ns
    main = max(reasons, key=lambda r: reasons[r])
    if main == DETAILS[Detail.MANAGED_MEMORY]:
        advice = "The bandwidth findings show what the migrations cost."
    elif main == DETAILS[Detail.BEFORE_RECORDING]:
        advice = (
            "The GPU may have been busy with that. Let a step or more pass between the start of "
            "the recording and what is to be examined."
        )
    elif main == DETAILS[Detail.NO_WAIT_RECORDED]:
        advice = _about_queue(facts, ledger)
    else:
        advice = f"Record again with: `{recorder_of(facts.trace).again}`"
    return quality_note(
        "warning",
        "unexplained",
        f"{share_text(share, 1)} of {ledger.whole} is idle time that cannot be explained: "
        f"{main}. {advice}",
    )


def _about_queue(facts: Facts, ledger: Ledger) -> str:
    """Say what may hold a queue whose waits were not recorded, by how long the pauses are."""
    pauses = ledger.of(Row.UNEXPLAINED, Detail.NO_WAIT_RECORDED)["ns"].to_numpy()
    long = pauses[pauses >= LONG_PAUSE_NS]
    if len(long) >= MIN_PAUSES:
        slice_ns = float(np.median(long))
        alike = np.count_nonzero(np.abs(long - slice_ns) <= ALIKE * slice_ns)
        if 2 * alike >= len(long):
            return (
                f"{alike:,} of {len(long):,} long pauses last {time_text(slice_ns)}, as turns on a "
                "shared GPU do: does another process use this GPU? Check nvidia-smi."
            )
    if not any("Event" in str(name) or "StreamWait" in str(name) for name in facts.functions):
        return (
            "The recording holds no calls about events, so waits between streams may be missing "
            "from it; or another process uses this GPU (check nvidia-smi)."
        )
    return "Does another process use this GPU? Check nvidia-smi."


def queued_before(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say what the window leaves out: work that was queued before the recording began."""
    if ledger.window.label == FREE:
        return _held_up(facts, ledger)
    left = left_over(facts)
    if not left or not covers_all_work(ledger.window):
        return None
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    whole = int(max(end.max(), ledger.window.end_ns) - start.min())
    left_ns = whole - ledger.window.duration_ns
    busy = sum(union(*spans).total for spans in _by_device(facts, start, end))
    busy_in = sum(d.busy_ns for d in ledger.devices)
    inside = ledger.duration_ns
    level = "warning" if left_ns > NOTABLE_LEFT_OVER * whole else "info"
    return quality_note(
        level,
        "left_over",
        f"{left:,} of {len(facts.launches):,} GPU operations were submitted before the recording "
        "of the host began, so nothing shows why they ran when they did. The window starts "
        f"after them: {_busy_text(busy_in, inside)}. Including them: "
        f"{_busy_text(busy, whole * len(ledger.devices))}.",
    )


def _held_up(facts: Facts, ledger: Ledger) -> QualityNote:
    """Say what the window leaves out: the time in which older work held up what was submitted."""
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    whole = int(end.max() - start.min())
    busy = sum(union(*spans).total for spans in _by_device(facts, start, end))
    busy_in = sum(d.busy_ns for d in ledger.devices)
    waited = int(facts.idle_before_ns[held_up_by_older_work(facts)])
    return quality_note(
        "warning",
        "held_up",
        f"For {time_text(waited)}, what was submitted waited in the GPU's queue for work that it "
        "got before the recording began, which is not in it: the GPU was busy with that, or the "
        f"profiler was starting. The window begins after it: "
        f"{_busy_text(busy_in, ledger.duration_ns)}. Including it (--window all): "
        f"{_busy_text(busy, whole)}. Let a step or more pass between the start of the recording "
        "and what is to be examined.",
    )


def _busy_text(busy_ns: int, whole_ns: int) -> str:
    return (
        f"{time_text(whole_ns, 4)}, busy for {time_text(busy_ns, 4)} "
        f"({share_text(whole_ns - busy_ns, whole_ns, exact=True)} idle)"
    )


def _by_device(
    facts: Facts, start: Array, end: Array, chosen: Array | None = None
) -> list[tuple[Array, Array]]:
    device = facts.launches["device"].to_numpy()
    if chosen is not None:
        device, start, end = device[chosen], start[chosen], end[chosen]
    return [(start[device == k], end[device == k]) for k in range(len(facts.devices))]


def warm_up(facts: Facts, ledger: Ledger, iterations: tuple[Iteration, ...]) -> QualityNote | None:
    """Warn of start-up inside the window: a slow first iteration, or modules being loaded."""
    # The first iteration begins on the host, before the window's first GPU operation.
    low, high = ledger.window.start_ns, ledger.window.end_ns
    inside = [i for i in iterations if low <= (i.start_ns + i.end_ns) // 2 < high]
    if len(inside) > 2:
        length = np.array([i.end_ns - i.start_ns for i in inside])
        usual = float(np.median(length[1:]))
        if usual > 0 and length[0] > WARM_UP_FACTOR * usual:
            return quality_note(
                "warning",
                "warm_up",
                f"The first iteration took {length[0] / usual:.1f} times as long as the median of "
                "the others: warm-up is inside the window. Choose a later iteration as the window.",
            )
    share = ledger.total_ns(Row.SETUP) / max(ledger.in_use_ns, 1)
    if share < NOTABLE_SETUP_SHARE:
        return None
    advice = "Choose an iteration as the window" if iterations else recorder_of(facts.trace).mark
    return quality_note(
        "warning",
        "setup_inside",
        f"{share_text(share, 1)} of {ledger.whole} is start-up (modules, contexts, graph "
        f"instantiation), which a longer run would not repeat. {advice}.",
    )


def one_iteration(
    _facts: Facts, ledger: Ledger, iterations: tuple[Iteration, ...]
) -> QualityNote | None:
    """Say that the answer is about one iteration of several."""
    if not ledger.window.label.startswith("iteration"):
        return None
    return quality_note(
        "info",
        "one_iteration",
        f"The window is one of {len(iterations)} iterations; this answer does not say whether "
        "the others are like it.",
    )


def window_is_small_part(
    facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]
) -> QualityNote | None:
    """Say that GPU work fills a small part of the recording only."""
    if not len(facts.launches) or not covers_all_work(ledger.window):
        return None
    if ledger.window.label == FREE:
        return None  # what is around it is told already, and is no start-up
    longest = recorded_ns(facts, ledger.window)
    if longest < SPARSE_SPAN_FACTOR * max(ledger.window.duration_ns, 1):
        return None
    parts = f"{time_text(ledger.window.duration_ns)} of {time_text(longest)}"
    what, around = ("The steps are", "them") if ledger.window.steps else (
        "GPU work was recorded for", "it"
    )  # fmt: skip
    return quality_note(
        "info",
        "window_is_small_part",
        f"{what} {parts}; start-up and tear-down around {around} are not part of the window.",
    )


def steps_as_window(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say how the window of whole steps differs from that of all GPU work, where it does."""
    window = ledger.window
    if not window.steps:
        return None
    work = all_work(facts)
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    outside = (end <= window.start_ns) | (start >= window.end_ns)
    outside[: left_over(facts)] = False
    outside &= ~moved_by_driver(facts)
    differs = abs(work.duration_ns - window.duration_ns) > NOTABLE_DIFFERENCE * window.duration_ns
    if not outside.any() and not differs:
        return None
    devices = len(ledger.devices)
    judged = np.arange(len(start)) >= left_over(facts)
    busy = sum(
        clip(union(*spans), *work.span).total for spans in _by_device(facts, start, end, judged)
    )
    steps = count_text(sum(s.count for s in window.steps), "whole step")
    names = ", ".join(dict.fromkeys(s.name for s in window.steps))
    part = ""
    if outside.any():
        verb = "is" if np.count_nonzero(outside) == 1 else "are"
        count = count_text(int(np.count_nonzero(outside)), "GPU operation")
        part = f" {count} before and after them {verb} not part of it."
    return quality_note(
        "info",
        "whole_steps",
        f"The window is {steps} ({names}): "
        f"{_busy_text(sum(d.busy_ns for d in ledger.devices), ledger.duration_ns)}.{part} From the "
        f"first to the last GPU operation (--window all): "
        f"{_busy_text(busy, work.duration_ns * devices)}.",
    )


def page_out(facts: Facts, ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Say that pages of unified memory went home after the last operation of a GPU."""
    if not len(facts.launches) or not covers_all_work(ledger.window):
        return None
    start, end = facts.launches["start_ns"].to_numpy(), facts.launches["end_ns"].to_numpy()
    late = moved_by_driver(facts) & (end > ledger.window.end_ns)
    if not late.any():
        return None
    count = int(np.count_nonzero(late))
    begun = max(int(start[late].min()), ledger.window.end_ns)
    return quality_note(
        "info",
        "page_out",
        f"After the window, {count_text(count, 'migration')} of unified memory followed for "
        f"{time_text(int(end[late].max()) - begun)}: the host touches results page by page. No GPU "
        "waits for that, so it is not part of the window.",
    )
