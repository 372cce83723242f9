"""Kernels that wait for pages of unified memory.

What it looks for:
    Migrations of managed memory to the GPU while a kernel runs that the program did not ask for:
    answers to page faults, and what the driver brings along with them. The short pauses between
    them count, in which the driver works on the next faults, and groups of faults where they were
    recorded. Where the same kernel also ran with its pages there, the difference counts instead.
    Pages that go back to the host make no kernel wait, unless they make room.

Why it is slow:
    Each fault stops the warps that touched the page until it has come over the link, in pieces of
    4 KiB to 1 MiB; answering a fault takes longer than moving the page.

What to try:
    Call ``cudaMemPrefetchAsync`` before the kernel, as soon as the host has written the data, or
    use explicit copies. ``cudaMemAdvise`` with ``cudaMemAdviseSetReadMostly`` keeps a copy on both
    sides of what nobody writes. Where the data does not fit into the GPU's memory, work on parts
    that do.

When it does not apply:
    When the pages were prefetched: a recording does not always say so, and then this rule gives
    no answer for a program that prefetches. Or when the kernel touches so little of the data
    that moving it in advance costs more.

Shown by:
    tests/scenarios.py, managed_memory
"""

from __future__ import annotations

from analyzers.facts.facts import Facts
from analyzers.finding import Cause, Clear, Confidence, Evidence, Finding, Outcome, Row, Skipped
from analyzers.ledger.ledger import Ledger
from analyzers.losses.host_memory import with_host_memory
from analyzers.losses.page_service import PageService, page_service, unclear_ns
from analyzers.losses.parallelism import largest_kernels, main_kernel
from analyzers.losses.transfers import copy_evidence
from analyzers.words import count_text, size_text, time_text

CAUSE = Cause.BANDWIDTH
NEEDS = ("copies", "kernels")
ROUND_TRIP_SHARE = 0.5  # of what comes; from here on the host is said to take it back each time
COST_OF_FAULTS = (
    "migrations and the short pauses between them, in which faults are answered; at least 18 µs of "
    "each pause"
)
COST_BESIDE_RESIDENT = "what launches took longer than others that found their pages on the GPU"


def check(facts: Facts, ledger: Ledger) -> Outcome:
    """Report kernel time during which pages were on their way to the GPU."""
    service = page_service(facts, ledger)
    if not ledger.is_notable(service.ns):
        return _unclear(facts, ledger)
    _, most = service.gain_ns
    return Finding(
        title=_title(facts, ledger, service),
        row=Row.KERNEL,
        lost_ns=service.ns,
        confidence=Confidence.INFERRED,
        advice=with_host_memory(facts, _advice(facts, service)),
        does_not_apply_when=(
            "the kernels touch only a small part of the data."
            if service.causes_are_known
            else "the migrations are prefetches, or kernels touch only a small part of the data."
        ),
        evidence=_evidence(facts, service),
        low_ns=service.least_ns,
        high_ns=service.ns,
        gain_ns=most if most < service.ns else -1,
        formula=COST_BESIDE_RESIDENT if service.is_measured else COST_OF_FAULTS,
    )


def _unclear(facts: Facts, ledger: Ledger) -> Outcome:
    """Say why nothing is known of migrations that may be the program's own, where they matter."""
    if not ledger.is_notable(unclear_ns(facts, ledger)):
        return Clear()
    return Skipped(
        "the program prefetches unified memory, and the recording does not say which "
        "migrations were prefetches and which were page faults; record with "
        "`nsys profile --cuda-um-gpu-page-faults=true`"
    )


def _title(facts: Facts, ledger: Ledger, service: PageService) -> str:
    name = main_kernel(facts, service.kernels)
    launches = service.kernels["launch"].to_numpy()
    took = time_text(int(facts.duration_ns[launches].sum()))
    what = f"{count_text(len(service.arrivals.operations), 'migration')} "
    what += f"({size_text(service.arrivals.size_bytes)}) came meanwhile"
    who = f"`{name}`" if name else "Kernels"
    sentence = (
        f"{who} {'waited' if service.is_measured else 'may have waited'} "
        f"for pages of unified memory for {time_text(service.ns)} of the {took} that "
        f"{count_text(len(launches), 'launch')} took, {ledger.share(service.ns)}: {what}"
    )
    if service.is_thrashing:
        sentence += (
            f", and {size_text(service.evicted_bytes)} had to leave for them: the data does not "
            "fit into the GPU's memory"
        )
    if service.is_measured:
        usual = time_text(service.resident_ns)
        sentence += f"; {'it takes' if name else 'the slowest takes'} {usual} with its pages there"
    return sentence


def _advice(facts: Facts, service: PageService) -> str:
    name = main_kernel(facts, service.kernels)
    kernel = f"`{name}` touches" if name else "the kernels touch"
    if service.is_thrashing:
        return (
            "Work through the data in parts that fit into the GPU's memory, and prefetch the next "
            "part while one is computed; leave what is read once on the host (cudaMemAdvise with "
            "cudaMemAdviseSetPreferredLocation for the CPU and cudaMemAdviseSetAccessedBy for the "
            "GPU). Prefetching everything only drives other pages out."
        )
    size = size_text(service.arrivals.size_bytes)
    rate = f"{size_text(service.bytes_per_ns * 1e9)}/s"
    advice = (
        f"Call cudaMemPrefetchAsync for the {size} that {kernel}, before the launch and as soon "
        f"as the host has written them: as whole copies they take {time_text(service.copy_ns)} at "
        f"{rate}, and kernels no longer stop for them."
        if service.copy_ns
        else f"Call cudaMemPrefetchAsync for the memory that {kernel}, before the first launch."
    )
    if service.program_prefetches:
        advice += (
            " The program prefetches already: these pages were not among what it asked for, or "
            "had left the GPU again."
        )
    back = service.taken_back_bytes
    if len(service.kernels) > 1 and back >= ROUND_TRIP_SHARE * service.arrivals.size_bytes > 0:
        advice += (
            f" The host takes {size_text(back)} back between launches: keep that work on the GPU, "
            "or let both sides have a copy of what nobody writes (cudaMemAdviseSetReadMostly)."
        )
    return advice


def _evidence(facts: Facts, service: PageService) -> tuple[Evidence, ...]:
    moved = [
        ("bytes migrated during kernels", service.arrivals.size_bytes),
        ("bytes that left for them", service.evicted_bytes),
        ("bytes that the host took back during kernels", service.returned_bytes),
    ]
    return (
        *(Evidence(name=n, value=v, unit="bytes") for n, v in moved if v),
        Evidence(
            name="time in which pages moved during kernels", value=service.moving_ns, unit="ns"
        ),
        *largest_kernels(facts, service.kernels, "pages awaited in"),
        *copy_evidence(service.arrivals, "time alongside a kernel")[:1],
    )
