"""The sentence that matters: what costs most, where, and what is inside kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.facts.host_profile import host_sentence
from analyzers.facts.host_work import HostProfile
from analyzers.facts.spans import Iteration
from analyzers.facts.windows import FREE, covers_all_work, recorded_ns
from analyzers.finding import CAUSE_OF_ROW, Cause, Confidence, Finding, Row
from analyzers.kernels.top import kernels_sentence
from analyzers.kernels.verdict import (
    LOSSES_INSIDE,
    ROW_INSIDE,
    examined_by_counters,
    per_iteration,
    verdict_of_counters,
)
from analyzers.ledger.device import DeviceLedger
from analyzers.ledger.ledger import Ledger
from analyzers.losses.evidence import device_name
from analyzers.losses.ncu_command import MOST_OF_THE_TIME
from analyzers.losses.parallelism import why_unknown
from analyzers.losses.transfers import direction_text, transfer_losses
from analyzers.quality.absence import TRUNCATED
from analyzers.recorder import recorder_of
from analyzers.report import KernelShare, QualityNote, Verdict
from analyzers.verdict_words import command_below, steps_preamble
from analyzers.words import lower_first, share_text, size_text, split_sentence, time_text

HEALTHY_BELOW = 0.10  # of the time in use; a reader would not act on a smaller loss
NOTABLE_FROM = 0.05  # a loss from here on is named before anything is called healthy
RARELY_USED = 0.10  # of the recording; what matters then is what the program does without a GPU
LEAST_NAMED = 0.02  # of the window; what would win less is not worth a sentence
CHOICES = ("bandwidth.weight_reads", "compute.recomputation", "compute.double_precision")
"""Findings that decide no verdict."""
DAMAGES = ("json_truncated", "gzip_damaged", "zip_damaged")
"""What readers note about a file that was cut off, or is not what its checksum was made of."""
UNEVEN_FACTOR = 3  # a GPU that loses so many times what the others do is named

# What each cause needs to be answered from a timeline. Divergence, and bandwidth inside kernels,
# need hardware counters of Nsight Compute.
_NEEDS_CALLS = (Cause.LAUNCH, Cause.SYNC, Cause.HOST, Cause.MEMORY, Cause.DEPENDENCY)

_TITLES = {
    Cause.LAUNCH: "Launch-bound",
    Cause.SYNC: "Sync-bound",
    Cause.BANDWIDTH: "Bandwidth-bound",
    Cause.DIVERGENCE: "Divergence-bound",
    Cause.HOST: "Host-bound",
    Cause.COMMUNICATION: "Communication-bound",
    Cause.MEMORY: "Held up by memory management and set-up",
    Cause.DEPENDENCY: "Held up by dependencies",
    Cause.PARALLELISM: "Too little parallel work",
    Cause.COMPUTE: "Compute-bound on a slow unit",
}
_TITLES_OF_WORK = {
    Cause.BANDWIDTH: "Bandwidth-bound inside kernels",
    Cause.COMPUTE: "Kernels far below the peak",
    Cause.PARALLELISM: "Too little parallel work inside kernels",
    Cause.COMMUNICATION: "Communication-bound",
}
_LOSSES = {
    Cause.LAUNCH: "the GPU is idle while work is being launched",
    Cause.SYNC: "the GPU is idle because the host had been waiting for it",
    Cause.BANDWIDTH: "only copies and memsets run",
    Cause.DIVERGENCE: "lanes of running warps are idle",
    Cause.HOST: "the GPU is idle while the host is busy outside CUDA",
    Cause.COMMUNICATION: "only collectives run",
    Cause.MEMORY: "the GPU is idle while memory is allocated or modules and graphs are set up",
    Cause.DEPENDENCY: "submitted work waits for another stream, an event or the queue",
}
_NOUNS = {
    Cause.LAUNCH: "launching",
    Cause.SYNC: "synchronisation",
    Cause.BANDWIDTH: "exposed copies",
    Cause.DIVERGENCE: "divergence",
    Cause.HOST: "the host",
    Cause.COMMUNICATION: "exposed communication",
    Cause.MEMORY: "memory management and set-up",
    Cause.DEPENDENCY: "dependencies",
    Cause.PARALLELISM: "too little parallel work",
    Cause.COMPUTE: "arithmetic on slow units",
}

_PLURALS = (Cause.BANDWIDTH, Cause.MEMORY, Cause.DEPENDENCY)


def booked_by_cause(ledger: Ledger) -> dict[Cause, int]:
    """Return the nanoseconds that each cause costs, over all devices."""
    booked = dict.fromkeys(_NOUNS, 0)
    for row, cause in CAUSE_OF_ROW.items():
        booked[cause] += ledger.total_ns(row)
    booked[Cause.HOST] -= ledger.duration_ns - ledger.in_use_ns
    return booked


def examined_causes(facts: Facts, ledger: Ledger) -> tuple[tuple[Cause, ...], tuple[Cause, ...]]:
    """Return the causes that the recording could answer, and the others."""
    if facts.counters_only:
        inside = examined_by_counters(ledger)
        return tuple(c for c in _NOUNS if c in inside), tuple(c for c in _NOUNS if c not in inside)
    examined: list[Cause] = []
    if len(facts.launches):
        examined += [Cause.BANDWIDTH, Cause.COMMUNICATION]
        if len(facts.api):
            examined += _NEEDS_CALLS
        if not why_unknown(facts):
            examined.append(Cause.PARALLELISM)
        if ledger.examined is not None and ledger.examined.covered_share >= MOST_OF_THE_TIME:
            examined += examined_by_counters(ledger)
    return tuple(c for c in _NOUNS if c in examined), tuple(c for c in _NOUNS if c not in examined)


@dataclass(frozen=True, kw_only=True)
class VerdictBasis:
    """What a verdict is drawn from.

    Attributes:
        facts: The recording.
        ledger: The account of the window.
        quality: What is to be known about the capture.
        findings: Largest loss first.
        iterations: Repetitions that were found.
        top_kernels: The kernels with most time in the window.
        busy_time: What they did and how close to the limits, as a sentence; empty when unknown.
        knows_work: Whether the work of most of the kernel time is known.
        host_profile: What the host did, where nothing ran on a GPU.
    """

    facts: Facts
    ledger: Ledger
    quality: tuple[QualityNote, ...]
    findings: tuple[Finding, ...]
    iterations: tuple[Iteration, ...] = ()
    top_kernels: tuple[KernelShare, ...] = ()
    busy_time: str = ""
    knows_work: bool = False
    host_profile: HostProfile | None = None


def give_verdict(basis: VerdictBasis) -> Verdict:
    """Return the sentence that matters."""
    facts, ledger, findings = basis.facts, basis.ledger, basis.findings
    examined, not_examined = examined_causes(facts, ledger)
    blocker = next((n for n in basis.quality if n.level == "error"), None)
    if blocker:
        answer = Judgement("unknown", 0.0, _blocked(blocker, basis.host_profile))
    elif facts.counters_only:
        verdict = verdict_of_counters(facts, ledger, findings, examined, not_examined)
        return replace(verdict, sentence=_damage(facts) + verdict.sentence)
    else:
        answer = _answer(basis)
        before = _mostly_unused(basis)
        sentence = before + (lower_first(answer.sentence) if before else answer.sentence)
        answer = answer._replace(sentence=recorder_of(facts.trace).wording(sentence))
    if not (blocker and blocker.message.startswith(TRUNCATED)):
        answer = answer._replace(sentence=_damage(facts) + answer.sentence)
    return Verdict(**answer._asdict(), examined=examined, not_examined=not_examined)


def _damage(facts: Facts) -> str:
    """Say first that the file itself is damaged; empty when nothing shows that it is."""
    if any(note.code in DAMAGES for note in facts.trace.notes):
        return "Of a damaged file, as far as it could be read: "
    return ""


def _blocked(blocker: QualityNote, profile: HostProfile | None) -> str:
    """Say why there is no verdict about a GPU; what the host did is told all the same."""
    if profile is None:
        return f"Could not tell: {lower_first(blocker.message)}"
    first, rest = split_sentence(blocker.message)
    return f"{first} {host_sentence(profile)} {rest}"


def _mostly_unused(basis: VerdictBasis) -> str:
    """Say first that the GPU had work in a small part of what was recorded; empty otherwise."""
    window = basis.ledger.window
    share = window.duration_ns / max(recorded_ns(basis.facts, window), 1)
    if not covers_all_work(window) or share >= RARELY_USED or window.label == FREE:
        return ""  # a GPU that older work may have held was not unused
    if window.steps:
        return steps_preamble(share)
    return f"The GPU is used in {share_text(share, 1)} of the recording; within that, "


class Judgement(NamedTuple):
    """A verdict without what was examined for it; the fields are those of ``Verdict``."""

    cause: str
    share: float
    sentence: str


def _answer(basis: VerdictBasis) -> Judgement:
    """Return what costs most: a cause, too little explained, kernels, one GPU, or nothing much."""
    ledger = basis.ledger
    booked = booked_by_cause(ledger)
    cause = max(booked, key=lambda c: booked[c])
    ns, share = booked[cause], booked[cause] / max(ledger.in_use_ns, 1)
    unexplained = ledger.total_ns(Row.UNEXPLAINED)
    kernels = _inside_kernels(basis)
    worst = _largest_inside(ledger, basis.findings)
    is_dark = unexplained >= max(HEALTHY_BELOW * ledger.in_use_ns, ns)
    if is_dark and (worst is None or worst.lost_ns < unexplained):
        return _cannot_tell(basis, _what_costs(basis, cause, ns) if share >= HEALTHY_BELOW else "")
    if share >= HEALTHY_BELOW and not is_dark:
        sentences = [_what_costs(basis, cause, ns), _concentrated(cause, ns, ledger)]
        if worst is not None and worst.lost_ns > ns:
            sentences.append(f"There is more to gain inside kernels: {worst.title}.")
        return Judgement(cause.value, share, " ".join(s for s in (*sentences, kernels) if s))
    if worst is not None:
        return _of_kernels(basis, worst, unexplained)
    if (starved := _starved_device(ledger)) is not None:
        return _of_device(basis, starved, kernels)
    parts = (_small_losses(cause, ns, basis, not kernels), basis.busy_time, _wins(basis), kernels)
    return Judgement("healthy", share, " ".join(part for part in parts if part))


def _of_kernels(basis: VerdictBasis, worst: Finding, unexplained: int) -> Judgement:
    ledger = basis.ledger
    limit = share_text(HEALTHY_BELOW, 1)
    outside = f"outside kernels, no cause costs {limit} or more."
    if unexplained >= HEALTHY_BELOW * ledger.in_use_ns:
        outside = f"another {share_text(unexplained, ledger.in_use_ns)} could not be explained."
    share = _won_share(ledger, worst)
    if worst.confidence is Confidence.ESTIMATED:
        sentence = f"{_TITLES_OF_WORK[worst.cause]} (estimated): {worst.title}."
        wins = f"{_win_text(ledger, worst)}; {outside}"
        parts = (sentence, basis.busy_time, wins[:1].upper() + wins[1:])
        return Judgement(worst.cause.value, share, " ".join(part for part in parts if part))
    won = worst.lost_ns if worst.gain_ns < 0 else min(worst.gain_ns, worst.lost_ns)
    sentence = (
        f"{_TITLES[worst.cause]} inside kernels: {worst.title}. Up to "
        f"{time_text(won)}, {ledger.share(won)}, can be won back there; {outside}"
    )
    return Judgement(worst.cause.value, share, sentence)


def _won_share(ledger: Ledger, finding: Finding) -> float:
    """Return the part of the time that following a finding wins: what it costs, or the replay's."""
    costs = finding.lost_ns / max(ledger.in_use_ns, 1)
    if finding.confidence is not Confidence.ESTIMATED or finding.predicted_gain is None:
        return costs
    return min(costs, sum(finding.predicted_gain.share_range) / 2)


def _win_text(ledger: Ledger, finding: Finding) -> str:
    """Say what an estimated finding wins of the window: ``8-bit weights would win 9 to 14 %``."""
    gain = finding.predicted_gain
    in_use_ns = max(ledger.in_use_ns, 1)
    low, high = finding.low_ns / in_use_ns, finding.high_ns / in_use_ns
    if gain is not None:
        low, high = gain.share_range
    few, many = (f"{100 * end:.0f}" for end in (low, high))
    text = f"an estimated {many} %" if few == many else f"an estimated {few} to {many} %"
    text = f"up to an estimated {many} %" if low < LEAST_NAMED else text
    return f"{finding.culprit} would win {text} of {ledger.whole}"


def _wins(basis: VerdictBasis) -> str:
    """Say what the largest estimated finding would win; empty without one that wins anything."""
    estimated = [f for f in basis.findings if f.confidence is Confidence.ESTIMATED]
    best = max(estimated, key=lambda f: _won_share(basis.ledger, f), default=None)
    if best is None or _won_share(basis.ledger, best) < LEAST_NAMED:
        return ""
    text = _win_text(basis.ledger, best)
    return f"{text[:1].upper()}{text[1:]}."


def _small_losses(cause: Cause, ns: int, basis: VerdictBasis, saw_inside: bool) -> str:
    """Say that no cause costs a tenth; what costs half of that is named before anything else."""
    ledger = basis.ledger
    largest = share_text(ns, ledger.in_use_ns)
    limit = share_text(HEALTHY_BELOW, 1)
    if ns >= NOTABLE_FROM * ledger.in_use_ns:
        verb = "cost" if cause in _PLURALS else "costs"
        return (
            f"{_NOUNS[cause][:1].upper()}{_NOUNS[cause][1:]} {verb} {largest} of {ledger.whole}, "
            f"the largest loss on the timeline; no cause costs {limit} or more."
        )
    most = f"; the largest is {_NOUNS[cause]}, at {largest}" if ns else ""
    inside = examined_by_counters(ledger) and saw_inside
    estimated = " and, as estimated from shapes, inside kernels" if basis.knows_work else ""
    where = "on the timeline" + (" and inside kernels" if inside else estimated)
    return f"Healthy {where}: no cause costs {limit} or more of {ledger.whole}{most}."


# --- one GPU among several ------------------------------------------------------------------


def _devices_in_use(ledger: Ledger) -> list[DeviceLedger]:
    """Return the devices that were used for at least half of the window."""
    return [d for d in ledger.devices if 2 * d.in_use_ns >= d.duration_ns > 0]


def _costs(device: DeviceLedger) -> dict[Cause, int]:
    """Return the nanoseconds that each cause costs on one device."""
    costs = dict.fromkeys(_NOUNS, 0)
    for row, cause in CAUSE_OF_ROW.items():
        costs[cause] += device.rows.get(row, 0)
    costs[Cause.HOST] -= device.unused_ns
    return costs


def _starved_device(ledger: Ledger) -> tuple[DeviceLedger, Cause, int] | None:
    """Return the GPU that a cause costs most, if it is a tenth there and not on average."""
    devices = _devices_in_use(ledger)
    if len(devices) < 2:
        return None
    costs = [(d, *max(_costs(d).items(), key=lambda item: item[1])) for d in devices]
    device, cause, ns = max(costs, key=lambda c: c[2] / c[0].in_use_ns)
    return (device, cause, ns) if ns >= HEALTHY_BELOW * device.in_use_ns else None


def _of_device(
    basis: VerdictBasis, starved: tuple[DeviceLedger, Cause, int], kernels: str
) -> Judgement:
    device, cause, ns = starved
    share = ns / device.in_use_ns
    several = _devices_in_use(basis.ledger)
    alike = sum(max(_costs(d).values()) >= HEALTHY_BELOW * d.in_use_ns for d in several)
    limit = share_text(HEALTHY_BELOW, 1)
    rest = (
        f"No cause costs {limit} or more of any other GPU."
        if alike == 1
        else f"{alike} of {len(several)} GPUs lose {limit} or more to one cause; this one most."
    )
    idle = 1 - device.busy_ns / device.in_use_ns
    whole = f" It is idle for {share_text(idle, 1)} in all." if idle >= 1.1 * share else ""
    name = f"{_title_on(cause, device)} on {device_name(device, basis.ledger)}"
    sentence = (
        f"{name}: for {share_text(share, 1)} of the time it is in use, "
        f"{_LOSSES[cause]}{_culprit(basis, cause, ns)}.{whole} {rest} {kernels}"
    )
    return Judgement(cause.value, share, sentence.strip())


def _concentrated(cause: Cause, ns: int, ledger: Ledger) -> str:
    """Name the GPU that has most of a loss, if the others have much less of it."""
    devices = _devices_in_use(ledger)
    if len(devices) < 2:
        return ""
    most = max(devices, key=lambda d: _costs(d)[cause])
    cost = _costs(most)[cause]
    others = (ns - cost) / (len(devices) - 1)
    if 2 * cost < ns or cost < UNEVEN_FACTOR * others:
        return ""
    return f"{share_text(cost, ns)} of that is on {device_name(most, ledger)}."


# --- words ----------------------------------------------------------------------------------


def _culprit(basis: VerdictBasis, cause: Cause, ns: int) -> str:
    """Return what most of a cause's time came with, to end a sentence."""
    named = (
        f
        for f in basis.findings
        if f.cause is cause
        and f.confidence is not Confidence.ESTIMATED  # whose words are what its advice wins
        and 2 * f.lost_ns >= ns
    )
    return next((f", {f.culprit}" for f in named if f.culprit), "")


def _what_costs(basis: VerdictBasis, cause: Cause, ns: int) -> str:
    """Say what the cause of the verdict costs; inside kernels, also where and how often."""
    ledger, findings = basis.ledger, basis.findings
    row = ROW_INSIDE.get(cause)
    if row is None or 2 * ledger.total_ns(row) < ns:
        title = _TITLES[cause]
        if cause is Cause.BANDWIDTH:
            title = _transfer_title(basis.facts, ledger)
        if cause is Cause.MEMORY and 2 * ledger.total_ns(Row.SETUP) >= ns:
            title = "Held up by start-up"
        culprit = _culprit(basis, cause, ns)
        return f"{title}: for {ledger.share(ns)}, {_loss(cause, ledger)}{culprit}."
    inside_ns = ledger.total_ns(row)
    sentences = [f"{_TITLES[cause]}: {ledger.share(inside_ns)} {LOSSES_INSIDE[cause]}."]
    if ns > inside_ns:
        sentences.append(
            f"For another {share_text(ns - inside_ns, ledger.in_use_ns)}, only copies run."
        )
    first = next((f for f in findings if f.cause is cause and f.row is row), None)
    sentences += [f"{first.title}."] if first is not None else []
    each = per_iteration(ledger, basis.iterations, cause)
    return " ".join([*sentences, each] if each else sentences)


def _title_on(cause: Cause, device: DeviceLedger) -> str:
    """Say what holds up one GPU; copies there go by their own name, not by the cause's."""
    if cause is Cause.BANDWIDTH and 2 * device.rows.get(Row.TRANSFER, 0) >= _costs(device)[cause]:
        return "Transfer-bound"
    return _TITLES[cause]


def _transfer_title(facts: Facts, ledger: Ledger) -> str:
    """Say which way copies go, and how fast, where copies are what costs most."""
    loss = max(transfer_losses(facts, ledger).values(), key=lambda part: part.ns)
    if not loss.ns:
        return "Transfer-bound"
    main = loss.of_kind(loss.main_kind)
    return f"Transfer-bound ({direction_text(loss.main_kind)}, {size_text(main.bytes_per_s)}/s)"


def _cannot_tell(basis: VerdictBasis, explained: str) -> Judgement:
    ledger = basis.ledger
    why = next((n.message for n in basis.quality if n.code == "unexplained"), "")
    share = ledger.total_ns(Row.UNEXPLAINED) / max(ledger.in_use_ns, 1)
    sentence = (
        f"Could not tell: {lower_first(why)}" if why else "Could not tell why the GPU was idle."
    )
    return Judgement(
        "unknown", share, f"{sentence} What is known: {explained}" if explained else sentence
    )


def _loss(cause: Cause, ledger: Ledger) -> str:
    several = len(ledger.devices) > 1
    return (
        _LOSSES[cause].replace("the GPU is idle", "the GPUs are idle")
        if several
        else _LOSSES[cause]
    )


def _largest_inside(ledger: Ledger, findings: tuple[Finding, ...]) -> Finding | None:
    """Return the largest finding about kernels themselves, if it is worth a verdict."""
    inside = (f for f in findings if f.row is Row.KERNEL and _decides(f))
    largest = max(inside, key=lambda f: _won_share(ledger, f), default=None)
    if largest is None or _won_share(ledger, largest) < HEALTHY_BELOW:
        return None
    return largest


def _decides(finding: Finding) -> bool:
    """Tell whether a finding about kernels may be the verdict: a loss, and no question of choice.

    Other arithmetic, larger batches, smaller weights and less memory are choices, whose price only
    the user knows.
    """
    if finding.confidence is Confidence.ESTIMATED:
        return finding.id not in CHOICES
    return finding.cause is not Cause.COMPUTE


def _inside_kernels(basis: VerdictBasis) -> str:
    """Say how much of the time is inside kernels, where nobody has looked, and in which."""
    facts, ledger = basis.facts, basis.ledger
    examined = ledger.examined
    ns = ledger.kernel_ns if examined is None else examined.kernel_ns - examined.covered_ns
    kinds = set(facts.launches["kind"].to_numpy()[facts.inside(*ledger.window.span)].tolist())
    if not ns or not kinds & {KERNEL, GRAPH}:
        return ""
    share = share_text(ns, ledger.in_use_ns)
    if ns < HEALTHY_BELOW * ledger.in_use_ns:
        kernels = "kernels that" if ledger.inside is not None else "kernels, which"
        return f"{share} of the time is spent in {kernels} were not examined."
    if ledger.inside is not None:
        return (
            f"{share} of the time is spent in kernels that the counters do not cover (listed "
            "under capture quality)."
        )
    if KERNEL not in kinds:
        return (
            f"{share} of the time is spent in CUDA graphs that were recorded as a whole, so "
            "nothing is known about their kernels: record with "
            "`nsys profile --cuda-graph-trace=node`."
        )
    graphs = " and in whole CUDA graphs" if GRAPH in kinds else ""
    names = f", {kernels_sentence(basis.top_kernels)}" if basis.top_kernels else ""
    spent = f"{share} of the time is spent in kernels{graphs}{names}."
    if basis.busy_time and names:  # which has said already how much time kernels take
        by_kernel = names.removeprefix(", ").replace("of it in", "of the kernel time in", 1)
        spent = f"By kernel: {by_kernel}."
    return (
        f"{spent} What happens inside was not examined"
        f"{command_below(recorder_of(facts.trace).counters)}."
    )
