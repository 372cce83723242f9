"""What the host did, as a report keeps it; importing this costs a reader of reports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HostOperator:
    """What the executions of one operator, or of one marked range, took.

    Attributes:
        name: Its name.
        count: How often it ran.
        self_ns: Time in it and in nothing inside it, summed over all threads.
        total_ns: Its summed length; where it calls itself, the inner ones count, too.
        share: ``self_ns`` as a part of that of all, 0 to 1.
        caller: The user's or a library's function that half or more of ``self_ns`` was called
            from; empty when none was recorded.
    """

    name: str
    count: int
    self_ns: int
    total_ns: int
    share: float
    caller: str = ""


@dataclass(frozen=True, kw_only=True)
class HostThread:
    """How long one thread was in operators or ranges.

    Attributes:
        name: What the recording calls it; its number where it has no name.
        busy_ns: Time in any of them.
        share: Part of ``HostProfile.span_ns``, 0 to 1.
    """

    name: str
    busy_ns: int
    share: float


@dataclass(frozen=True, kw_only=True)
class HostProfile:
    """What the host did.

    Attributes:
        span_ns: From the begin of the first operator or range to the end of the last.
        busy_ns: Time of all threads in any of them.
        threads: Busiest first, at most five.
        thread_count: How many threads have any.
        operators: Most time of their own first, at most ten.
        operator_count: How many names there are.
    """

    span_ns: int
    busy_ns: int
    threads: tuple[HostThread, ...]
    thread_count: int
    operators: tuple[HostOperator, ...]
    operator_count: int
