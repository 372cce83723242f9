"""The account of the busy time as the report has it: rows for JSON, and a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.ledger.device import DeviceLedger
from analyzers.ledger.ledger import Ledger
from analyzers.recorder import recorder_of
from analyzers.words import share_text
from analyzers.work.account import (
    NONE,
    TIMES_NS,
    WorkAccount,
    account_of_work,
    ledger_work,
    utilisation,
)
from analyzers.work.classes import TITLES, WorkClass, kernel_tile
from analyzers.work.inputs import input_list

MAX_ROWS = 500  # of a report; what is left is summed up by class, so that rows still sum
OTHERS = "(others)"
NAMED_CLASSES = 3  # in the sentence
NOTABLE_CLOCK_DIFFERENCE = 0.03  # of the data sheet's; GPUs step by less
NARROW_TILE = 32  # rows; 32 operations for a byte, where a V100 can do 139 and an H100 295
MOSTLY = 0.5  # of the products' time
NOTABLE_PRODUCTS = 0.3  # of the time in use; where products take less, their tiles do not matter
NOTABLE_SHARE = 0.05  # of the time in use; classes with less are not named


@dataclass(frozen=True, eq=False)
class WorkAnswer:
    """What the report says of the busy time.

    Attributes:
        work: ``work`` of the JSON: one row for each operator and inputs.
        classes: ``classes``: one for each class.
        mfu: ``mfu``: utilisation of each device by the model.
        roofs: ``work_roofs``: the limits of each device, as far as they are known.
        sentence: How the busy time is spent, and how close to the limits; empty without kernels.
        account: What all of it was made of; None without kernels.
        knows_work: Whether at least half of the time has a roof.
    """

    work: tuple[dict[str, Any], ...] = ()
    classes: tuple[dict[str, Any], ...] = ()
    mfu: dict[str, Any] | None = None
    roofs: tuple[dict[str, Any], ...] = ()
    sentence: str = ""
    account: WorkAccount | None = None
    knows_work: bool = False


def answer_of_work(
    facts: Facts,
    ledger: Ledger,
    iterations: Sequence[Iteration] = (),
) -> WorkAnswer:
    """Return what the report says; nothing for a recording without a timeline.

    Args:
        facts: The recording.
        ledger: Its account.
        iterations: Repetitions of the main loop.
    """
    if facts.counters_only or not ledger.kernel_ns:
        return WorkAnswer()
    work = ledger_work(facts, ledger)
    account = account_of_work(facts, work)
    by_key = {device.key: device for device in ledger.devices}
    mfu = utilisation(facts, work, ledger.window, iterations)
    for answer in mfu.get("devices", ()):
        answer |= _device_fields(by_key, answer["device"])
    return WorkAnswer(
        work=tuple(_work_rows(account, by_key)),
        classes=tuple(_class_rows(account, by_key)),
        mfu=mfu or None,
        roofs=tuple(_roofs(account, by_key)),
        sentence=recorder_of(facts.trace).wording(busy_sentence(account, ledger.in_use_ns)),
        account=account,
        knows_work=_knows_work(account.classes),
    )


def _roofs(account: WorkAccount, by_key: Mapping[int, DeviceLedger]) -> Iterator[dict[str, Any]]:
    """Yield the limits of each device: its memory, and its peaks in the types that work is in."""
    rows = account.rows
    for key, roof in enumerate(account.roofs):
        if key not in by_key or not roof.memory_bytes_per_s:
            continue
        here = rows[(rows["device"] == key).to_numpy() & (rows["bound"] != NONE).to_numpy()]
        kinds = set(zip(here["type"], here["on_matrix_units"], strict=True))
        peaks = [
            {"type": kind, "on_matrix_units": bool(on_units), "flop_per_s": peak}
            for kind, on_units in sorted(kinds)
            if kind and np.isfinite(peak := roof.peak(kind, on_matrix_units=bool(on_units)))
        ]
        yield {
            **_device_fields(by_key, key),
            "name": roof.device,
            "memory_bytes_per_s": roof.memory_bytes_per_s,
            "peaks": peaks,
            "source": roof.source,
            "clock_hz": roof.clock_hz or None,
            "recorded_clock_hz": roof.recorded_clock_hz or None,
        }


def _device_fields(by_key: Mapping[int, DeviceLedger], key: int) -> dict[str, int]:
    """Return which device a row is of: its number in the recording, and its key in the report."""
    return {"device": by_key[key].device, "device_key": key}


def _number(value: float) -> int | float | None:
    """Return a number for JSON: whole where it is, None where it is unknown."""
    if not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def _class_rows(account: WorkAccount, by_key: Mapping[int, DeviceLedger]) -> list[dict[str, Any]]:
    return [
        {
            **_device_fields(by_key, int(row["device"])),
            "class": row["class"],
            "title": TITLES[WorkClass(row["class"])],
            **{name: int(row[name]) for name in ("launches", *TIMES_NS, "compute_ns")},
            "flop": _number(row["flop"]),
            "bytes": _number(row["bytes"]),
        }
        for row in account.classes.to_dict("records")
    ]


def _work_rows(account: WorkAccount, by_key: Mapping[int, DeviceLedger]) -> list[dict[str, Any]]:
    table = account.rows
    first = table.iloc[:MAX_ROWS].to_dict("records")
    rows = [_work_row({str(k): v for k, v in row.items()}, by_key) for row in first]
    left = table.iloc[MAX_ROWS:]
    for (key, name), part in left.groupby(["device", "class"], sort=False) if len(left) else ():
        sums = {column: int(part[column].sum()) for column in ("calls", "launches", *TIMES_NS)}
        rows.append(
            {
                **_device_fields(by_key, int(str(key))),
                "class": name,
                "operator": OTHERS,
                **dict.fromkeys(("shapes", "types", "kernel", "type"), ""),
                **sums,
                **dict.fromkeys(("flop", "bytes")),
                "bound": NONE,
                "on_matrix_units": False,
                "is_above_roof": False,
                "start_ns": int(part["start_ns"].iloc[0]),
                "end_ns": int(part["end_ns"].iloc[0]),
            }
        )
    return rows


def _work_row(row: Mapping[str, Any], by_key: Mapping[int, DeviceLedger]) -> dict[str, Any]:
    return {
        **_device_fields(by_key, int(row["device"])),
        "class": row["class"],
        "operator": row["operator"],
        "shapes": input_list(row["shapes"]),
        "types": input_list(row["types"]),
        "kernel": row["kernel"],
        "type": row["type"],
        **{name: int(row[name]) for name in ("calls", "launches", *TIMES_NS)},
        "flop": _number(row["flop_each"]),
        "bytes": _number(row["bytes_each"]),
        "bound": row["bound"],
        "on_matrix_units": bool(row["on_matrix_units"]),
        "is_above_roof": bool(row["is_above_roof"]),
        "start_ns": int(row["start_ns"]),
        "end_ns": int(row["end_ns"]),
    }


# --- in words ---------------------------------------------------------------------------------


def busy_sentence(account: WorkAccount, in_use_ns: int) -> str:
    """Say what most of the time is spent on, and how close to the hardware's limit.

    Args:
        account: The account of the busy time.
        in_use_ns: The time that shares are parts of.
    """
    table = account.classes.groupby("class")[[*TIMES_NS, "compute_ns"]].sum()
    table = table.sort_values("busy_ns", ascending=False)
    named = table[table["busy_ns"] >= NOTABLE_SHARE * in_use_ns].iloc[:NAMED_CLASSES]
    if not len(named):
        return ""
    if table.index[0] == WorkClass.OTHER:
        return ""  # a program of its own: its kernels' names say more than classes
    named = named[named.index != WorkClass.OTHER]
    parts = [_class_text(str(name), row, in_use_ns) for name, row in named.iterrows()]
    text = ", ".join(parts).replace(" % in", " % of the time is spent in", 1)
    if _knows_work(table):
        return f"{text} (estimated from the shapes of operators{_clocks(account)})."
    why = _why(account)
    limit = f"; how far from the hardware's limit is not known: {why}" if why else ""
    return f"{text}{limit}.{_few_rows(account, in_use_ns)}"


def _clocks(account: WorkAccount) -> str:
    """Say for which clock peaks are, where a GPU ran at another one than its data sheet says."""
    differ = [r for r in account.roofs if abs(r.clock_share - 1) >= NOTABLE_CLOCK_DIFFERENCE]
    if not differ:
        return ""
    roof = min(differ, key=lambda r: r.clock_share)
    return (
        f", peaks at the {roof.recorded_clock_hz / 1e6:,.0f} MHz at which the GPU ran; its data "
        f"sheet's are for {roof.clock_hz / 1e6:,.0f} MHz"
    )


def _knows_work(classes: pd.DataFrame) -> bool:
    return bool(2 * classes["not_modelled_ns"].sum() <= classes["busy_ns"].sum() > 0)


def _class_text(name: str, row: pd.Series, in_use_ns: int) -> str:
    share = f"{share_text(int(row['busy_ns']), in_use_ns)} in {TITLES[WorkClass(name)]}"
    modelled = int(row["roof_ns"] + row["below_roof_ns"])
    if 2 * modelled < row["busy_ns"]:
        return share
    limit = "the peak" if 2 * row["compute_ns"] > row["roof_ns"] else "the memory bandwidth"
    return f"{share} at {share_text(int(row['roof_ns']), modelled)} of {limit}"


def _few_rows(account: WorkAccount, in_use_ns: int) -> str:
    """Say what narrow tiles tell of products in replays, whose shapes are not known; else empty.

    A library computes products of few rows in tiles that are hardly wider than these. Up to so many
    rows, a product of 16-bit numbers needs fewer operations for a byte than any GPU of the table
    can do.
    """
    rows = account.rows
    chosen = rows["class"].isin((WorkClass.MATMUL.value, WorkClass.MOE.value))
    chosen &= (rows["not_modelled_ns"] == rows["busy_ns"]) & (rows["operator"] == "")
    rows = rows[chosen.to_numpy()]
    if not len(rows):
        return ""
    tiles = [kernel_tile(str(name))[:2] for name in rows["kernel"]]
    sides = np.array([min(tile) if len(tile) > 1 else 0 for tile in tiles], dtype=np.int64)
    busy_ns = rows["busy_ns"].to_numpy()
    is_narrow = (sides > 0) & (sides <= NARROW_TILE)
    narrow_ns = int(busy_ns[is_narrow].sum())
    if narrow_ns < MOSTLY * busy_ns.sum() or narrow_ns < NOTABLE_PRODUCTS * in_use_ns:
        return ""
    few, many = int(sides[is_narrow].min()), int(sides[is_narrow].max())
    size = f"{few}" if few == many else f"{few} to {many}"
    return (
        f" {share_text(narrow_ns, in_use_ns)} of the time is in products whose tiles have {size} "
        "rows, which libraries choose for few tokens: their time is usually that of reading "
        "weights, so that a larger batch gives more tokens in nearly the same time, and narrower "
        "weights the same tokens in less."
    )


def _why(account: WorkAccount) -> str:
    """Say why most of the work has no roof, and what would give it one; empty without operators."""
    rows = account.rows
    busy_ns = rows["busy_ns"].to_numpy()
    has_operator = (rows["operator"] != "").to_numpy()
    has_shapes = (rows["shapes"] != "").to_numpy()
    if not has_operator.any():
        return ""
    if 2 * busy_ns[has_operator].sum() < busy_ns.sum():
        return (
            "most kernels were launched outside of operators, as when CUDA graphs are replayed; a "
            "step that is profiled without them (vLLM: enforce_eager=True, SGLang: "
            "--disable-cuda-graph) with record_shapes=True tells it"
        )
    if 2 * busy_ns[has_shapes].sum() < busy_ns.sum():
        return "the shapes of most operators were not recorded (record_shapes=True)"
    if not any(roof.memory_bytes_per_s for roof in account.roofs):
        return "this GPU is in no table here, and its peaks were not given"
    return "there is no model of the work of most operators"
