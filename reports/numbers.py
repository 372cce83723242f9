"""Numbers of evidence in their units, and text of a recording on one line that hides nothing."""

from __future__ import annotations

from analyzers.words import size_text, time_text
from common.text import visible


def format_value(value: float, unit: str) -> str:
    """Return a number of a finding's evidence in its unit."""
    if unit == "ns":
        return time_text(value)
    if unit == "bytes":
        return size_text(value)
    if unit == "bytes_per_s":
        return f"{size_text(value)}/s"
    if unit == "pct":
        return f"{value:.1f} %"
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
    return number if unit in ("", "count") else f"{number} {visible(unit)}"


def pieces(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a sentence, and whether each stood in backticks.

    An unpaired backtick is only a character, and a blank between two is no code.
    """
    parts = text.split("`")
    if len(parts) % 2 == 0 or any(not part.strip() for part in parts[1::2]):
        return [(text, False)]
    return [(part, n % 2 == 1) for n, part in enumerate(parts) if part]
