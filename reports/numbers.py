"""Numbers in their units, with and without a sign, and the code that a sentence quotes."""

from __future__ import annotations

from collections.abc import Callable

from analyzers.words import MINUS, flop_text, size_text, time_text
from common.text import visible

_TEXTS: dict[str, Callable[[float], str]] = {
    "ns": time_text,
    "bytes": size_text,
    "FLOP": flop_text,
}


def format_value(value: float, unit: str) -> str:
    """Return a number in its unit: ``1.20 ms``, ``598 GB/s``, ``1,312``."""
    if value < 0:
        return f"{MINUS}{format_value(-value, unit)}"
    if unit in _TEXTS:
        return _TEXTS[unit](value)
    if unit == "bytes_per_s":
        return f"{size_text(value)}/s"
    if unit == "pct":
        return f"{value:.1f} %"
    is_whole = float(value).is_integer() or abs(value) >= 1_000
    number = f"{value:,.0f}" if is_whole else f"{value:,.3g}"
    return number if unit in ("", "count") else f"{number} {visible(unit)}"


def rate_text(per_s: float, unit: str) -> str:
    """Return a rate with a decimal prefix: ``4.98 TFLOP/s``, ``598 GB/s``."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(per_s) >= size * 0.9995:
            return f"{float(f'{per_s / size:.3g}'):,g} {prefix}{unit}"
    return f"{float(f'{per_s:.3g}'):,g} {unit}".strip()


def signed_text(value: float, unit: str = "ns") -> str:
    """Return a change with its sign: ``+1.20 ms``, ``−3``; 0 has none."""
    if not value:
        return format_value(0, unit)
    return f"{'+' if value > 0 else MINUS}{format_value(abs(value), unit)}"


def pieces(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a sentence, and whether each stood in backticks.

    An unpaired backtick is only a character, and a blank between two is no code.
    """
    parts = text.split("`")
    if len(parts) % 2 == 0 or any(not part.strip() for part in parts[1::2]):
        return [(text, False)]
    return [(part, n % 2 == 1) for n, part in enumerate(parts) if part]
