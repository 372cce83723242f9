"""Numbers in the units people read, and text of a recording made harmless for each place it goes.

Every conversion from nanoseconds and bytes happens here, once.
"""

from __future__ import annotations

import re

import pandas as pd

from collectors.trace import Array

_TIMES = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))  # as link bandwidths are given

NOT_RECORDED_TEXT = "not recorded"

# Punctuation to which Markdown or Streamlit's additions (:red[…], $…$) give a meaning.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~$:&^=@/\"'])")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")


def format_ns(value_ns: float, digits: int = 3) -> str:
    """Return a duration with ``digits`` significant digits, such as ``1.25 ms``."""
    for factor, unit in _TIMES:
        if abs(value_ns) >= factor * (1 - 0.5 * 10**-digits):
            return f"{_significant(value_ns / factor, digits)} {unit}"
    return f"{_significant(value_ns, digits)} ns"


def format_bytes(value_bytes: float) -> str:
    """Return a size with decimal prefixes, such as ``3.5 MB``."""
    for factor, unit in _SIZES:
        if abs(value_bytes) >= factor * 0.9995:
            return f"{_significant(value_bytes / factor, 3)} {unit}"
    return f"{value_bytes:,.0f} B"


def format_share(share: float) -> str:
    """Return a part of one as percent; a small one never reads as nothing."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{share * 100:.1f} %"


def format_value(value: float, unit: str) -> str:
    """Return a number of a finding's evidence in its unit."""
    if unit == "ns":
        return format_ns(value)
    if unit == "bytes":
        return format_bytes(value)
    if unit == "bytes_per_s":
        return f"{format_bytes(value)}/s"
    if unit == "pct":
        return f"{value:.1f} %"
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
    return number if unit in ("", "count") else f"{number} {visible(unit)}"


def ns_to_us(values_ns: pd.Series) -> Array:
    """Return microseconds."""
    result: Array = values_ns.to_numpy() / 1_000
    return result


def ns_to_ms(values_ns: pd.Series) -> Array:
    """Return milliseconds."""
    result: Array = values_ns.to_numpy() / 1_000_000
    return result


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


def function_first(name: str) -> str:
    """Return a demangled name without what stands before the function's own name."""
    plain = name.removeprefix("void ")
    head = re.split(r"[<(]", plain, maxsplit=1)[0]
    return plain[head.rfind("::") + 2 :] if "::" in head else plain


def md_escape(text: str) -> str:
    """Return ``text`` so that Markdown shows exactly its characters."""
    return _MARKDOWN.sub(r"\\\1", visible(text))


def md_prose(text: str) -> str:
    """Return a sentence of ours that may quote a recording; only `` `code` `` keeps its meaning."""
    parts = visible(text).split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick is only a character
        return md_escape(text)
    return "".join(
        (f"`{part}`" if part.strip() else part) if place % 2 else md_escape(part)
        for place, part in enumerate(parts)
    )


def plotly_escape(text: str) -> str:
    """Return ``text`` so that a chart shows exactly its characters; Plotly reads some HTML."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return shown.replace("$", "&#36;").replace("%{", "%&#123;")


def csv_text(text: str) -> str:
    """Return ``text`` for a spreadsheet cell; one that looks like a formula is quoted."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _significant(value: float, digits: int) -> str:
    whole = len(str(int(abs(value))))
    if whole >= digits:
        return f"{value:,.0f}"
    text = f"{value:.{digits - whole}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shown(char: str) -> str:
    if char == "\n":
        return "⏎"
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
