"""The tables of a comparison: what changed, by how much, and what may be chance.

Only a change above the noise is coloured: blue where it became less, orange where it became more.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from analyzers.compare.types import (
    Comparison,
    Delta,
    KernelChange,
    KernelMatch,
    MetricChange,
    RegionChange,
    WorkChange,
)
from analyzers.ledger.regions import OUTSIDE
from analyzers.speedups import range_text
from analyzers.whatif.whatif import Prediction
from analyzers.words import name_text
from reports.busy_time import shapes_text
from reports.comparison_words import (
    LEVELS,
    certainty_text,
    change_interval,
    differences,
    p_text,
    question_name,
    ratio_text,
)
from reports.kernel_changes import kernel_title, match_text
from reports.numbers import signed_text
from reports.whatif import measured_texts
from reports.work_changes import change_reason, class_words
from views.charts.ledger import ROW_ORDER
from views.parts.regions import OUTSIDE_WORDS
from views.shared.units import format_value, visible

NAME_ROOM = 90
VALUE_ROOM = 60
MATCH_ROOM = 200
SHOWN_REGIONS = 20
LESS, MORE = (14, 120, 190), (216, 107, 13)  # blue and orange: apart for every kind of eye
GOOD, BAD = "rgba(40,159,104,0.30)", "rgba(216,107,13,0.30)"
STRONGEST = 0.62  # opacity of the largest change; text must stay readable
OTHER_KERNELS = (
    *(KernelMatch.NEW, KernelMatch.GONE),
    *(KernelMatch.REPLACED, KernelMatch.RENAMED),
)
QUIET = "color: rgba(128,136,146,0.95)"
REGION = "region"
_CHANGE = ("baseline", "new", "change", "in %", "95 % interval", "p, adjusted")


def comparability_table(comparison: Comparison) -> pd.DataFrame:
    """Return what was compared before any number, the worst first."""
    return pd.DataFrame(
        [
            {
                "what": d.what,
                "baseline": visible(d.base, VALUE_ROOM),
                "new": visible(d.new, VALUE_ROOM),
                "result": LEVELS[d.level],
            }
            for d in differences(comparison)
        ]
    )


def questions_table(comparison: Comparison) -> pd.DataFrame:
    """Return a line for each question: what changed, by how much, and how sure that is."""
    return pd.DataFrame(
        [
            {
                "what": visible(question_name(result), NAME_ROOM),
                **_changed(result.change),
                "how sure": result.certainty.value,
            }
            for result in comparison.sub_results
        ]
    ).drop(columns="p, adjusted", errors="ignore")


def kernels_table(kernels: Sequence[KernelChange], comparison: Comparison) -> Styler:
    """Return one row per kernel, with its match, launches and microseconds per iteration.

    The change comes first: a narrow screen shows no more than two columns.
    """
    frame = pd.DataFrame(
        [
            {
                "change": k.time.change / 1e3,
                "in %": ratio_text(k.time),
                "kernel": visible(kernel_title(k), NAME_ROOM),
                "match": visible(match_text(k), MATCH_ROOM),
                "launches": f"{_count(k.base_launches)} → {_count(k.new_launches)}",
                "baseline": k.time.base / 1e3,
                "new": k.time.new / 1e3,
                "95 % interval": change_interval(k.time),
                "how sure": certainty_text(k.time, comparison),
                "p, adjusted": p_text(k.time.p_adjusted),
            }
            for k in kernels
        ]
    )
    styled = _styled(frame, [_direction(k.time) for k in kernels])
    plain = dict.fromkeys(("baseline", "new"), _us_text)
    return styled.format({**plain, "change": lambda cell: _us_text(cell, signed=True)})


def work_change_table(changes: Sequence[WorkChange]) -> Styler:
    """Return one row per class, operator and shape: what it took, and why that changed."""
    frame = pd.DataFrame(
        [
            {
                "change": c.time.change / 1e3,
                "why": change_reason(c),
                "class": class_words(c),
                "operator": visible(c.operator or name_text(c.kernel), NAME_ROOM),
                "shapes": visible(shapes_text(c.shapes), NAME_ROOM),
                "calls": f"{_count(c.base_calls)} → {_count(c.new_calls)}",
                "baseline": c.time.base / 1e3,
                "new": c.time.new / 1e3,
                "from speed": c.speed_ns / 1e3,
                "from amount": c.amount_ns / 1e3,
                "95 % interval": change_interval(c.time),
            }
            for c in changes
        ]
    )
    styled = _styled(frame, [_direction(c.time) for c in changes])
    plain = dict.fromkeys(("baseline", "new"), _us_text)
    signed = dict.fromkeys(
        ("change", "from speed", "from amount"), lambda cell: _us_text(cell, signed=True)
    )
    return styled.format({**plain, **signed})


def metrics_table(metrics: Sequence[MetricChange]) -> Styler:
    """Return one row per quantity; green is better and orange worse, where there is a better."""
    frame = pd.DataFrame([{"quantity": visible(m.name), **_changed(m.value)} for m in metrics])
    colors = {"better": f"background-color: {GOOD}", "worse": f"background-color: {BAD}"}
    return _styled(frame, [colors.get(m.verdict, "") or _direction(m.value) for m in metrics])


def region_matrix(regions: Sequence[RegionChange]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the change by region and row in ns, and whether each is above the noise.

    The regions with the largest changes come first; what no cell was given for is 0.
    """
    order = [row.value for row in ROW_ORDER]
    frame = pd.DataFrame(
        {
            "name": [r.name for r in regions],
            "row": [r.row.value for r in regions],
            "change": [r.time.change for r in regions],
            "significant": [r.time.significant for r in regions],
        }
    )
    size = frame["change"].abs().groupby(frame["name"]).sum().sort_values(ascending=False)
    names = list(size.index[:SHOWN_REGIONS])
    rows = [row for row in order if row in set(frame["row"])]
    kept = frame[frame["name"].isin(names)]
    changes = kept.pivot_table(index="name", columns="row", values="change", aggfunc="sum")
    certain = kept.pivot_table(index="name", columns="row", values="significant", aggfunc="max")
    return (
        changes.reindex(index=names, columns=rows).fillna(0.0),
        certain.reindex(index=names, columns=rows).notna()
        & certain.reindex(index=names, columns=rows).eq(True),
    )


def region_table(changes: pd.DataFrame, certain: pd.DataFrame) -> Styler:
    """Return the matrix in milliseconds; each certain cell as strong as its change."""
    largest = max(float(changes.abs().to_numpy().max(initial=0.0)), 1.0)
    in_ms = (changes / 1e6).reset_index(drop=True)
    names = [OUTSIDE_WORDS if n == OUTSIDE else visible(str(n), NAME_ROOM) for n in changes.index]
    in_ms.insert(0, REGION, names)
    shades = pd.DataFrame("", index=in_ms.index, columns=in_ms.columns)
    for row in changes.columns:
        pairs = zip(changes[row], certain[row], strict=True)
        shades[row] = [_shade(change / largest, significant=sure) for change, sure in pairs]
    return in_ms.style.format(dict.fromkeys(changes.columns, _ms_text)).apply(
        lambda _: shades.to_numpy(), axis=None
    )


def predictions_table(predictions: Sequence[Prediction], comparison: Comparison) -> pd.DataFrame:
    """Return what was predicted from the baseline, most gain first, and what was measured."""
    measured = measured_texts(comparison, predictions)
    frame = pd.DataFrame(
        {
            "predicted": [range_text(*p.speedup) for p in predictions],
            "if": [visible(p.title[:1].upper() + p.title[1:], 2 * NAME_ROOM) for p in predictions],
        }
    )
    if any(measured):
        frame["measured"] = measured
    return frame


def changed_only(kernels: Sequence[KernelChange]) -> list[KernelChange]:
    """Return the kernels whose change is above the noise, and those that are other kernels now."""
    return [
        k
        for k in kernels
        if k.time.significant or k.time.significant_in_runs or k.kind in OTHER_KERNELS
    ]


def _changed(delta: Delta) -> dict[str, str]:
    cells = (
        format_value(delta.base, delta.unit),
        format_value(delta.new, delta.unit),
        signed_text(delta.change, delta.unit),
        ratio_text(delta),
        change_interval(delta),
        p_text(delta.p_adjusted),
    )
    return dict(zip(_CHANGE, cells, strict=True))


def _direction(delta: Delta) -> str:
    if not delta.significant or not delta.change:
        return ""
    red, green, blue = LESS if delta.change < 0 else MORE
    return f"background-color: rgba({red},{green},{blue},0.30)"


def _styled(frame: pd.DataFrame, colors: list[str]) -> Styler:
    shades = pd.DataFrame("", index=frame.index, columns=frame.columns)
    for column in shades.columns.intersection(["change", "in %"]):
        shades[column] = [color or QUIET for color in colors]
    return frame.style.apply(lambda _: shades.to_numpy(), axis=None)


def _shade(part: float, *, significant: bool) -> str:
    if not significant or not part:
        return QUIET
    red, green, blue = LESS if part < 0 else MORE
    opacity = 0.10 + (STRONGEST - 0.10) * abs(part) ** 0.5
    return f"background-color: rgba({red},{green},{blue},{opacity:.2f})"


def _ms_text(cell: object) -> str:
    value = float(str(cell))
    if not value:
        return "·"
    sign, size = "+" if value > 0 else "\N{MINUS SIGN}", abs(value)
    if size < 0.0005:
        return "~ 0"
    return f"{sign}{size:.3f}" if size < 1 else f"{sign}{float(f'{size:.3g}'):,g}"


def _us_text(cell: object, *, signed: bool = False) -> str:
    value = float(str(cell))
    sign = "" if not value else "\N{MINUS SIGN}" if value < 0 else "+" if signed else ""
    size = abs(value)
    return f"{sign}{size:,.2f}" if size < 100 else f"{sign}{size:,.0f}"


def _count(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
