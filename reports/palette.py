"""The colour and the meaning of each ledger row, the same on every page and in every report."""

from __future__ import annotations

from analyzers.finding import Row

# Searched for by a program: as far apart as possible in OKLab, with full colour vision and with
# each of the three deficiencies, rows that often stand side by side furthest; of middle lightness,
# so that one palette serves a light and a dark page. ``tests/test_views.py`` holds the distances.
ROW_COLORS: dict[Row, str] = {
    Row.KERNEL: "#0EA4FF",
    Row.DIVERGENCE: "#7DC6EF",
    Row.BANDWIDTH: "#458096",
    Row.COMMUNICATION: "#9C60C9",
    Row.TRANSFER: "#289F68",
    Row.LAUNCH: "#E7A01F",
    Row.SYNC: "#D86B0D",
    Row.HOST: "#E8D153",
    Row.DEPENDENCY: "#C182B6",
    Row.MEMORY: "#99581B",
    Row.SETUP: "#CAA680",
    Row.PROFILER: "#B9BDBE",
    Row.UNEXPLAINED: "#666A68",
}

ROW_MEANINGS: dict[Row, str] = {
    Row.KERNEL: "a kernel runs",
    Row.DIVERGENCE: "a kernel runs, but some lanes of its warps are idle",
    Row.BANDWIDTH: "a kernel waits for memory",
    Row.COMMUNICATION: "only collectives run",
    Row.TRANSFER: "only copies or memsets run",
    Row.LAUNCH: "idle: the host is busy launching",
    Row.SYNC: "idle: the host waited for the device",
    Row.HOST: "idle: the host did something else",
    Row.DEPENDENCY: "idle: work was queued, but waited for a stream or an event",
    Row.MEMORY: "idle: the host allocates or frees memory",
    Row.SETUP: "idle: modules, contexts or graphs are set up",
    Row.PROFILER: "idle: overhead of the profiler",
    Row.UNEXPLAINED: "idle: the recording does not say why",
}

# How near to its roof work is: orange is far, blue is near, as in comparisons; apart for every kind
# of eye, and readable on a light and on a dark page.
EFFICIENCY_STEPS: tuple[tuple[float, str, str], ...] = (
    (0.25, "#C2571A", "below 25 % of its roof"),
    (0.50, "#E9A15F", "25 to 50 %"),
    (0.75, "#86B9DD", "50 to 75 %"),
    (float("inf"), "#1C6DB0", "75 % and more"),
)
CLASS_COLORS: dict[str, str] = {
    "matmul": "#2F7FD1",
    "attention": "#8A5BC4",
    "convolution": "#128F8B",
    "elementwise": "#E0A030",
    "normalisation": "#4FA35A",
    "layout": "#C25E2C",
    "reduction": "#B04A78",
    "optimizer": "#8C7A2E",
    "softmax": "#6FBF8F",
    "gather": "#7A93B8",
    "moe": "#5B4FBF",
    "quantise": "#A8743A",
    "sort": "#9C6B9E",
    "random": "#6E8B3D",
    "recurrent": "#3F8FA8",
    "fft": "#C98BB0",
    "sparse": "#5C7F6B",
    "collective": "#9C60C9",
    "memory": "#289F68",
    "graph": "#6B7C8F",
    "other": "#8D959E",
}
"""Of each class of work; those that often stand side by side are furthest apart."""

NOT_MODELLED_COLOR = "#8D959E"
NOT_MODELLED_WORDS = "not modelled"


def efficiency_color(busy_ns: int, roof_ns: int, not_modelled_ns: int) -> str:
    """Return the colour of work by its part at the roof; grey where most has no model."""
    modelled_ns = busy_ns - not_modelled_ns
    if 2 * modelled_ns < busy_ns or not modelled_ns:
        return NOT_MODELLED_COLOR
    share = roof_ns / modelled_ns
    return next(color for limit, color, _ in EFFICIENCY_STEPS if share < limit)


EVEN_LUMINANCE = 0.179
"""Where black and white ink have the same contrast, 4.58 to 1 (WCAG 2.2, relative luminance)."""


def ink_on(color: str) -> str:
    """Return black or white, whichever reads better on ``color`` (``#RRGGBB``)."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#FFFFFF" if luminance < EVEN_LUMINANCE else "#000000"
