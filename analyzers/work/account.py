"""The account of the busy time: every nanosecond in which kernels run, by class and by roof.

Each device's kernel time is divided among its launches, as regions divide it: kernels that run at
the same time share it. A launch's part is then *at the roof*, as long as its share of the least
time that its call's work and the device allow; *below the roof*, the rest; or *not modelled*. It is
a second account beneath the ledger's: it sums to the time in which kernels run, and adds no cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analyzers.counters.joining import kernel_shares
from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration, Window
from analyzers.intervals import Array
from analyzers.ledger.ledger import Ledger
from analyzers.work.calls import OperatorCalls, operator_calls
from analyzers.work.classes import CLASSES, CODES, MODEL_CLASSES
from analyzers.work.clocks import clocks_beside, recorded_clocks
from analyzers.work.element_types import NO_TYPE, TYPES
from analyzers.work.inputs import plain_list
from analyzers.work.roofs import DeviceRoof, least_seconds, roof_of
from common.memo import memo

MAX_ITERATIONS = 1_000  # whose utilisation is told; nobody reads more
COMPUTE, MEMORY, NONE = "compute", "memory", "none"
TIMES_NS = ("busy_ns", "roof_ns", "below_roof_ns", "not_modelled_ns")
"""Kernel time, and its three parts."""


@dataclass(frozen=True, eq=False)
class LaunchWork:
    """What each launch of a window did, and how long that takes at least.

    Attributes:
        calls: Whose work it is, for all kernel launches of the recording.
        launches: One row for each that books kernel time in the window: ``place`` (in
            ``calls.launches``), ``launch`` (row of ``Facts.launches``), ``device`` (key),
            ``class_code`` (place in ``CLASSES``), ``key`` (row of ``calls.keys``, -1 none),
            ``call`` (-1 none), ``busy_ns`` (its part of the kernel time), ``least_ns`` (its part
            of the least time of its call, NaN not modelled; may be more than it took), ``roof_ns``
            (as much of ``busy_ns`` as that), ``is_modelled``, ``is_compute`` (operations bind, not
            bytes), ``part`` (of its call that lies in the window, 0 to 1).
        roofs: Limits of each device, by its key.
    """

    calls: OperatorCalls
    launches: pd.DataFrame
    roofs: tuple[DeviceRoof, ...]


@dataclass(frozen=True, eq=False)
class WorkAccount:
    """The account of a window's kernel time.

    Attributes:
        classes: One row for each device and class that has any time: ``device`` (key), ``class``,
            ``launches``, ``busy_ns``, and its parts ``roof_ns``, ``below_roof_ns`` and
            ``not_modelled_ns``; ``compute_ns`` (part of ``roof_ns`` that operations bind),
            ``flop`` and ``bytes`` of what is modelled.
        rows: One row for each device, class, operator and inputs, or kernel without an operator;
            see ``work_rows``.
        kernels: What each kernel has of a row of ``rows``: ``row`` (its place), ``kernel`` (short
            name), ``launches``, the sums in ns, and ``start_ns`` and ``end_ns`` of its longest
            launch.
        roofs: Limits of each device, by its key.
    """

    classes: pd.DataFrame
    rows: pd.DataFrame
    kernels: pd.DataFrame
    roofs: tuple[DeviceRoof, ...] = field(default=())


NO_ACCOUNT = WorkAccount(classes=pd.DataFrame(), rows=pd.DataFrame(), kernels=pd.DataFrame())


def roofs_of(
    facts: Facts, window: Window, user_peaks: Mapping[str, float] | None = None
) -> tuple[DeviceRoof, ...]:
    """Return the limits of each device of a recording, by its key, at the clocks of a window."""
    clocks = {**clocks_beside(facts, user_peaks or {}), **recorded_clocks(facts, window)}
    columns = (facts.devices["name"], facts.devices["memory_bytes_per_s"])
    return tuple(
        replace(roof_of(str(name), int(rate), user_peaks), recorded_clock_hz=clocks.get(key, 0.0))
        for key, (name, rate) in enumerate(zip(*columns, strict=True))
    )


def ledger_work(facts: Facts, ledger: Ledger) -> LaunchWork:
    """Return what each launch of a ledger's window did."""
    return window_work(facts, ledger.window, ledger.device_peaks)


def window_work(
    facts: Facts, window: Window, user_peaks: Mapping[str, float] | None = None
) -> LaunchWork:
    """Return what ``work_of_launches`` returns, made once for all who ask about the window.

    The account asks, every rule about it, and the replay.
    """
    return _work_between(facts, *window.span, tuple(sorted((user_peaks or {}).items())))


@memo()
def _work_between(
    facts: Facts, start_ns: int, end_ns: int, user_peaks: tuple[tuple[str, float], ...]
) -> LaunchWork:
    return work_of_launches(facts, Window(start_ns=start_ns, end_ns=end_ns), dict(user_peaks))


def work_of_launches(
    facts: Facts, window: Window, user_peaks: Mapping[str, float] | None = None
) -> LaunchWork:
    """Return what each launch of a window did.

    Args:
        facts: The recording.
        window: The analysed time.
        user_peaks: Peaks that the user says, by type.
    """
    calls, roofs = operator_calls(facts), roofs_of(facts, window, user_peaks)
    launch, busy_ns = kernel_shares(facts, window)
    if not busy_ns.all():
        launch, busy_ns = launch[busy_ns > 0], busy_ns[busy_ns > 0]
    place = np.searchsorted(calls.launches, launch)
    device = facts.launches["device"].to_numpy()[launch].astype(np.int64)
    start = np.maximum(facts.launches["start_ns"].to_numpy()[launch], window.start_ns)
    end = np.minimum(facts.launches["end_ns"].to_numpy()[launch], window.end_ns)
    key = calls.key[place]
    part = (end - start) / np.maximum(_call_ns(calls, facts.duration_ns), 1)[place]
    counted_key = np.where(calls.is_modelled[place], key, -1)
    seconds, is_compute = _least_seconds(calls, roofs, device, counted_key)
    least_ns = seconds * 1e9 * part
    is_modelled = np.isfinite(least_ns)
    roof_ns = np.where(is_modelled, np.rint(np.nan_to_num(least_ns, posinf=0)), 0)
    frame = pd.DataFrame(
        {
            "place": place.astype(np.int32),
            "launch": launch.astype(np.int32),
            "device": device,
            "class_code": calls.class_code[place],
            "key": key,
            "call": calls.call[place],
            "busy_ns": busy_ns,
            "least_ns": least_ns,
            "roof_ns": np.minimum(roof_ns, busy_ns).astype(np.int64),
            "is_modelled": is_modelled,
            "is_compute": is_compute,
            "part": part,
        },
        copy=False,
    )
    return LaunchWork(calls, frame, roofs)


def _call_ns(calls: OperatorCalls, duration_ns: Array) -> Array:
    """Return, for each launch, how long all launches of its call took together."""
    ns = duration_ns[calls.launches]
    if not len(calls.call):
        return ns
    total = np.bincount(np.maximum(calls.call, 0), np.where(calls.call >= 0, ns, 0))
    result: Array = np.where(calls.call >= 0, total[np.maximum(calls.call, 0)], ns)
    return result


def _least_seconds(
    calls: OperatorCalls, roofs: tuple[DeviceRoof, ...], device: Array, key: Array
) -> tuple[Array, Array]:
    """Return the least time of each launch's whole call, NaN where none is known."""
    seconds, is_compute = np.full(len(key), np.nan), np.zeros(len(key), dtype=bool)
    columns = ("needed_flop", "bytes", "type", "on_matrix_units")
    flop, moved, types, on_units = (calls.keys[name].to_numpy() for name in columns)
    for number, roof in enumerate(roofs):
        rows = np.flatnonzero((device == number) & (key >= 0))
        if not len(rows):
            continue
        least, binds = least_seconds(roof, flop, moved, types.astype(int), on_units.astype(bool))
        seconds[rows], is_compute[rows] = least[key[rows]], binds[key[rows]]
    return seconds, is_compute


# --- sums -------------------------------------------------------------------------------------


def account_of_work(facts: Facts, work: LaunchWork) -> WorkAccount:
    """Return the account of what launches did."""
    rows, row_of_launch = work_rows(facts, work)
    kernels = _kernels_of_rows(facts, work, row_of_launch)
    return WorkAccount(classes=_classes(work), rows=rows, kernels=kernels, roofs=work.roofs)


def _summed(group: Array, count: int, values: Array) -> Array:
    """Return sums of whole numbers by group; they stay below 2^53."""
    return np.bincount(group, values, minlength=count)[:count]


def _sums(work: LaunchWork, group: Array, count: int) -> dict[str, Array]:
    frame, keys = work.launches, work.calls.keys
    busy, roof = frame["busy_ns"].to_numpy(), frame["roof_ns"].to_numpy()
    modelled = frame["is_modelled"].to_numpy()
    key = np.maximum(frame["key"].to_numpy(), 0)
    part = np.where(modelled, frame["part"].to_numpy(), 0.0)
    totals = {
        "launches": np.bincount(group, minlength=count),
        "busy_ns": _summed(group, count, busy),
        "roof_ns": _summed(group, count, roof),
        "below_roof_ns": _summed(group, count, np.where(modelled, busy - roof, 0)),
        "not_modelled_ns": _summed(group, count, np.where(modelled, 0, busy)),
        "compute_ns": _summed(group, count, np.where(frame["is_compute"], roof, 0)),
    }
    whole = {name: column.astype(np.int64) for name, column in totals.items()}
    for name in ("flop", "bytes"):
        each = np.nan_to_num(keys[name].to_numpy()) if len(keys) else np.zeros(1)
        whole[name] = _summed(group, count, part * each[np.minimum(key, len(each) - 1)])
    return whole


def _classes(work: LaunchWork) -> pd.DataFrame:
    frame = work.launches
    code = frame["device"].to_numpy() * len(CLASSES) + frame["class_code"].to_numpy()
    group, codes = pd.factorize(code, sort=True)
    device, one = np.divmod(codes, len(CLASSES))
    names = [CLASSES[c].value for c in one]
    table = pd.DataFrame({"device": device, "class": names, **_sums(work, group, len(codes))})
    order = np.lexsort((-table["busy_ns"].to_numpy(), table["device"].to_numpy()))
    return table.iloc[order].reset_index(drop=True)


def work_rows(facts: Facts, work: LaunchWork) -> tuple[pd.DataFrame, Array]:
    """Return the work by operator and inputs, the longest first, and each launch's row of it.

    Columns: ``device`` (key), ``class``, ``operator`` (empty for a kernel without one), ``shapes``,
    ``types`` (JSON lists as recorded), ``strides``, ``values``, ``kernel`` (short name of its
    longest launch), ``start_ns`` and ``end_ns`` of that launch, ``calls``, sums as in
    ``WorkAccount.classes``, ``least_ns`` (not cut to what it took), ``flop_each`` and
    ``bytes_each`` (of one call, NaN unknown), ``type`` (of what it computes in),
    ``on_matrix_units`` (whether those can do it), ``bound``, ``is_above_roof`` (faster than the
    roof: a cache served it, or another algorithm needs fewer operations).
    """
    frame, calls = work.launches, work.calls
    if not len(frame):
        return pd.DataFrame(), np.empty(0, np.int64)
    kernel, kernel_ids = pd.factorize(_name_ids(facts, frame))
    key = frame["key"].to_numpy()
    subject = np.where(key >= 0, key, len(calls.keys) + kernel)
    subjects = len(calls.keys) + len(kernel_ids)
    owner = frame["device"].to_numpy() * len(CLASSES) + frame["class_code"].to_numpy()
    group, codes = pd.factorize(owner * subjects + subject)
    owner_code, subject_code = np.divmod(codes, subjects)
    device, one = np.divmod(owner_code, len(CLASSES))
    table = {"device": device, "class": [CLASSES[c].value for c in one]}
    is_operator = subject_code < len(calls.keys)
    texts = calls.keys.reindex(np.where(is_operator, subject_code, -1))
    for name in ("operator", "shapes", "types", "strides", "values"):
        table[name] = texts[name].fillna("").to_numpy()
    for name in ("shapes", "types"):
        table[name] = np.array([plain_list(text) for text in table[name]], dtype=object)
    table |= _longest_launches(facts, frame, group, len(codes))
    table["calls"] = _calls_by_group(frame, group, len(codes))
    table |= _sums(work, group, len(codes))
    least = np.bincount(group, np.nan_to_num(frame["least_ns"]), minlength=len(codes))
    table["least_ns"] = np.rint(least).astype(np.int64)
    table["flop_each"], table["bytes_each"] = (texts[n].to_numpy(float) for n in ("flop", "bytes"))
    codes_of_types = texts["type"].fillna(NO_TYPE).to_numpy().astype(int)
    names = np.array([*(kind.name for kind in TYPES), ""], dtype=object)
    table["type"] = names[codes_of_types]
    table["on_matrix_units"] = texts["on_matrix_units"].eq(True).to_numpy()
    rows = pd.DataFrame(table)
    compute = 2 * rows["compute_ns"] > rows["roof_ns"]
    bound = np.where(compute, COMPUTE, MEMORY)
    rows["bound"] = np.where(rows["roof_ns"] + rows["below_roof_ns"] > 0, bound, NONE)
    rows["is_above_roof"] = rows["least_ns"] > rows["busy_ns"]
    order = np.lexsort((-rows["busy_ns"].to_numpy(), rows["device"].to_numpy()))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return rows.iloc[order].reset_index(drop=True), place[group]


def _name_ids(facts: Facts, frame: pd.DataFrame) -> Array:
    ids: Array = facts.launches["name_id"].to_numpy()[frame["launch"].to_numpy()]
    return ids


def _kernels_of_rows(facts: Facts, work: LaunchWork, row_of_launch: Array) -> pd.DataFrame:
    """Return what each kernel has of each row, the longest first."""
    frame = work.launches
    kernel, kernel_ids = pd.factorize(_name_ids(facts, frame))
    group, codes = pd.factorize(row_of_launch * max(len(kernel_ids), 1) + kernel)
    sums = _sums(work, group, len(codes))
    table = {
        "row": codes // max(len(kernel_ids), 1),
        **_longest_launches(facts, frame, group, len(codes)),
        **{name: sums[name] for name in ("launches", *TIMES_NS)},
    }
    rows = pd.DataFrame(table)
    order = np.lexsort((-rows["busy_ns"].to_numpy(), rows["row"].to_numpy()))
    return rows.iloc[order].reset_index(drop=True)


def _longest_launches(
    facts: Facts, frame: pd.DataFrame, group: Array, count: int
) -> dict[str, Array]:
    """Return ``kernel``, ``start_ns`` and ``end_ns`` of the longest launch of each group."""
    busy, most = frame["busy_ns"].to_numpy(), np.zeros(count, np.int64)
    np.maximum.at(most, group, busy)
    is_longest = busy == most[group]
    longest = np.zeros(count, np.int64)
    longest[group[is_longest]] = frame["launch"].to_numpy()[is_longest]
    columns = ("source_row", "name_id", "start_ns", "end_ns")
    source, name_id, start, end = (facts.launches[c].to_numpy()[longest] for c in columns)
    short = facts.trace.columns("kernels", ["short_name_id"])["short_name_id"]
    names = np.full(count, "", object)
    if len(short):
        names = facts.trace.names(short[np.where(name_id >= 0, source, 0)])
    return {"kernel": np.where(name_id >= 0, names, ""), "start_ns": start, "end_ns": end}


def _calls_by_group(frame: pd.DataFrame, group: Array, count: int) -> Array:
    """Return how many calls each group has; a kernel without a call counts as one."""
    call = frame["call"].to_numpy()
    alone = np.bincount(group[call < 0], minlength=count)
    pairs = pd.unique(call[call >= 0] * count + group[call >= 0])
    result: Array = alone + np.bincount(pairs % max(count, 1), minlength=count)
    return result


# --- utilisation of the device by the model ----------------------------------------------------


def utilisation(
    facts: Facts, work: LaunchWork, window: Window, iterations: Sequence[Iteration]
) -> dict[str, Any]:
    """Return the share of the device's peak that the model's operations used.

    Model operations are those of matrix products, convolutions, attention and mixtures of experts,
    as far as they are known; what a backward pass computes again of the forward pass is counted
    apart, and left out of the share. The peak is that of the type in which most of them are done.

    Returns:
        ``devices``: for each device with a known peak, ``device`` (key), ``type``,
        ``peak_flop_per_s``, ``model_flop``, ``recomputed_flop``, ``share`` (of peak times window)
        and ``iterations`` (the share of each of the first ``MAX_ITERATIONS``). Empty when nothing
        is known.
    """
    frame, keys = work.launches, work.calls.keys
    classes = [CODES[one] for one in MODEL_CLASSES]
    chosen = frame["is_modelled"] & frame["class_code"].isin(classes)
    frame = frame[chosen.to_numpy()]
    if not len(frame):
        return {}
    key = frame["key"].to_numpy()
    flop = np.nan_to_num(keys["needed_flop"].to_numpy(float)[key]) * frame["part"].to_numpy()
    kind = keys["type"].to_numpy()[key].astype(int)
    again = work.calls.is_recomputed[frame["place"].to_numpy()]
    start = facts.launches["start_ns"].to_numpy()[frame["launch"].to_numpy()]
    device = frame["device"].to_numpy()
    answers = []
    for number, roof in enumerate(work.roofs):
        of_device = device == number
        by_type = np.bincount(kind[of_device & (kind >= 0)], flop[of_device & (kind >= 0)])
        if not by_type.sum():
            continue
        name = TYPES[int(by_type.argmax())].name
        peak = roof.rated_peak(name, on_matrix_units=True)
        if not np.isfinite(peak):
            continue
        first = of_device & ~again
        each = _of_iterations(start[first], flop[first], iterations) / peak
        model = float(flop[first].sum())
        answers.append(
            {
                "device": number,
                "type": name,
                "peak_flop_per_s": peak,
                "model_flop": model,
                "recomputed_flop": float(flop[of_device & again].sum()),
                "share": model / (peak * max(window.duration_ns, 1) * 1e-9),
                "iterations": each.tolist(),
            }
        )
    return {"devices": answers} if answers else {}


def _of_iterations(start: Array, flop: Array, iterations: Sequence[Iteration]) -> Array:
    """Return operations a second of each iteration, by when launches begin."""
    chosen = iterations[:MAX_ITERATIONS]
    begins, ends = (np.array([getattr(i, n) for i in chosen]) for n in ("start_ns", "end_ns"))
    order = np.argsort(start, kind="stable")
    sums = np.append(0.0, np.cumsum(flop[order]))
    last, first = (np.searchsorted(start[order], moments) for moments in (ends, begins))
    result: Array = (sums[last] - sums[first]) / (np.maximum(ends - begins, 1) * 1e-9)
    return result
