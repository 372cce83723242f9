"""Speed-ups in words, and whether a measured one lies where it was predicted."""

from __future__ import annotations

from analyzers.words import TIMES

DASH = "\N{EN DASH}"
CLOSE = 0.02  # a measured speed-up this near to a predicted range is within rounding of it


def times_text(speedup: float, like: float | None = None) -> str:
    """Write how many times as fast something is: ``1.04``, ``2.1``, ``14``.

    Args:
        speedup: The number.
        like: Another number beside which it stands; both get as many digits as the smaller needs.
    """
    least = speedup if like is None else min(speedup, like)
    return f"{speedup:.{2 if least < 1.495 else 1 if least < 9.95 else 0}f}"


def range_text(low: float, high: float) -> str:
    """Write a range of speed-ups: ``1.9–2.3 ×``, or ``2.1 ×`` where both ends read the same."""
    ends = dict.fromkeys((times_text(low, high), times_text(high, low)))
    return f"{DASH.join(ends)} {TIMES}"


def ranges_meet(predicted: tuple[float, float], low: float, high: float) -> bool:
    """Tell whether a measured speed-up (with its interval) overlaps a predicted range."""
    least, most = predicted
    return low <= most * (1 + CLOSE) and high >= least * (1 - CLOSE)
