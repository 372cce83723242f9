"""Where the time went: the ledger's bar, and the bar of what its kernel time was spent on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from analyzers.finding import KERNEL_ROWS
from analyzers.ledger.device import DeviceLedger
from analyzers.report import Report
from analyzers.words import share_text, time_text
from reports.busy_time import classes_are_telling, kernels_are_notable, summed_classes
from views.charts.ledger import ledger_figure, legend_entries
from views.charts.work import class_legend, classes_figure
from views.shared.devices import device_labels
from views.shared.style import draw_legend

SHOWN_DEVICES = 4  # further ones are folded: a node has eight
ALL_DEVICES = "all GPUs"
WITHOUT_BAR = {"displayModeBar": False}


def draw_ledger(report: Report) -> None:
    """Draw one line a device, the worst first, and beneath them what kernels were busy with."""
    devices = worst_first(report.devices)
    labels = busy_labels(devices)
    with st.container(gap="xxsmall", key="ledger_and_classes"):
        draw_legend(legend_entries(devices))
        _draw_bars(devices[:SHOWN_DEVICES], labels, "ledger")
        if _has_classes(report):
            _draw_classes(report, _classes_together(report), "classes")


def worst_first(devices: Sequence[DeviceLedger]) -> list[DeviceLedger]:
    """Return the devices, the one first that computed for the smallest part of the window."""

    def computing(device: DeviceLedger) -> float:
        kernel_ns = sum(device.rows.get(row, 0) for row in KERNEL_ROWS)
        return kernel_ns / max(device.duration_ns, 1)

    return sorted(devices, key=computing)


def busy_labels(devices: Sequence[DeviceLedger]) -> dict[int, str]:
    """Return what each device is called beside its bar: its number, and how long it was busy."""
    names = device_labels(devices, product=False)
    return {
        d.key: f"{names[d.key]}, {share_text(d.busy_ns, max(d.duration_ns, 1))} busy"
        for d in devices
    }


def _draw_bars(devices: Sequence[DeviceLedger], labels: Mapping[int, str], key: str) -> None:
    st.plotly_chart(
        ledger_figure(devices, labels),
        key=key,
        config=WITHOUT_BAR,
        alt="; ".join(
            f"{labels[d.key]}: "
            + ", ".join(f"{r.value} {time_text(ns)}" for r, ns in d.rows.items() if ns)
            for d in devices
        ),
    )


def _has_classes(report: Report) -> bool:
    return classes_are_telling(summed_classes(report)) and kernels_are_notable(report)


def _classes_together(report: Report) -> dict[str, list[dict[str, Any]]]:
    return {ALL_DEVICES: summed_classes(report)}


def _draw_classes(report: Report, bars: Mapping[str, list[dict[str, Any]]], key: str) -> None:
    """Draw what the kernel time is spent on, and how near to the roof."""
    classes = summed_classes(report)
    draw_legend([("", "Kernel time:"), *class_legend(classes), *_shading(classes)])
    st.plotly_chart(
        classes_figure(bars),
        key=key,
        config=WITHOUT_BAR,
        alt="; ".join(
            f"kernel time of {label}: "
            + ", ".join(f"{r['title']} {time_text(r['busy_ns'])}" for r in rows)
            for label, rows in bars.items()
        ),
    )


def _shading(classes: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Say what full, pale and hatched colours mean, where there are such."""
    words = []
    if any(row["roof_ns"] for row in classes):
        words.append("full colour: at the roof, pale: below it")
    if any(row["not_modelled_ns"] for row in classes):
        words.append("hatched: not modelled")
    return [("", ", ".join(words))] if words else []


def draw_devices(report: Report) -> None:
    """Fold away what each of several devices did, in numbers, and the bars that have no room."""
    devices = worst_first(report.devices)
    if len(devices) < 2:
        return
    bars_above = len(devices[:SHOWN_DEVICES])
    some = f"All {len(devices)} GPUs" if bars_above < len(devices) else "Each GPU"
    with st.expander(f"{some} in numbers, worst first"):
        if bars_above < len(devices):
            _draw_bars(devices, busy_labels(devices), "ledger_of_all")
        st.dataframe(_table(devices), hide_index=True, key="ledger_table", alt="Time of each GPU")
        if _has_classes(report):
            names = device_labels(devices, product=False)
            bars = {
                names[d.key]: [row for row in report.classes if row["device_key"] == d.key]
                for d in devices
            }
            bars = {name: rows for name, rows in bars.items() if rows}
            _draw_classes(report, bars, "classes_of_each")


def _table(devices: Sequence[DeviceLedger]) -> list[dict[str, str]]:
    names = device_labels(devices)
    rows = [row for row in devices[0].rows if any(d.rows.get(row, 0) for d in devices)]
    rows += [r for d in devices for r in d.rows if r not in rows and d.rows[r]]
    return [
        {
            "GPU": names[d.key],
            "in use": time_text(d.in_use_ns),
            **{
                row.value: share_text(d.rows.get(row, 0), max(d.duration_ns, 1), exact=True)
                for row in dict.fromkeys(rows)
            },
        }
        for d in devices
    ]
