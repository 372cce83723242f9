"""Numbers of evidence in their units, and text of a recording on one line that hides nothing."""

from __future__ import annotations

from analyzers.words import size_text, time_text


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


def visible(text: str, limit: int = 0) -> str:
    r"""Return ``text`` on one line with controls, bidi marks and zero-width characters shown.

    Args:
        text: Text of a recording.
        limit: Longest result; the middle is left out. 0 is no limit.
    """
    shown = (
        "".join(_shown(c) for c in text) if not text.isascii() or not text.isprintable() else text
    )
    if limit and len(shown) > limit:
        head = (limit - 1) * 2 // 3
        shown = f"{shown[:head]}…{shown[len(shown) - (limit - 1 - head) :]}"
    return shown


def pieces(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a sentence, and whether each stood in backticks.

    An unpaired backtick is only a character, and a blank between two is no code.
    """
    parts = text.split("`")
    if len(parts) % 2 == 0 or any(not part.strip() for part in parts[1::2]):
        return [(text, False)]
    return [(part, n % 2 == 1) for n, part in enumerate(parts) if part]


def _shown(char: str) -> str:
    if char == "\n":
        return "⏎"
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
