"""The clock at which a GPU ran its kernels, where samples in the recording or beside it tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analyzers.facts.facts import GRAPH, KERNEL, Facts
from analyzers.facts.spans import Window
from analyzers.intervals import Array, union
from analyzers.work.roofs import CLOCK

MIN_SAMPLES = 5  # while kernels ran; fewer may be of a moment in which the clock still rose
MAX_HZ = 5e9
_CLOCK = re.compile(r"^(?:GPC|SM) Clock Frequency")  # "GPC Clock Frequency [MHz]", of newer ones
_MEGA = re.compile(r"MHz")


def recorded_clocks(facts: Facts, window: Window) -> dict[int, float]:
    """Return the median clock of each device while kernels ran on it in a window, in Hz.

    A device without samples, or with too few, is left out.
    """
    if not facts.trace.count("gpu_metrics"):
        return {}
    samples = _samples(facts, window)
    gpus = np.unique(samples["gpu"])
    clocks = {}
    for key, physical in enumerate(facts.devices["physical"].tolist()):
        number = physical
        if physical not in gpus and len(gpus) == len(facts.devices) == 1:
            number = int(gpus[0])  # the only GPU, whatever its number
        own = samples[(samples["gpu"] == number).to_numpy()]
        hz = own["hz"].to_numpy()[_while_kernels_run(facts, key, own["time_ns"].to_numpy())]
        if len(hz) >= MIN_SAMPLES:
            clocks[key] = float(np.median(hz))
    return clocks


def clocks_beside(facts: Facts, limits: Mapping[str, float]) -> dict[int, float]:
    """Return the clock of each device that was sampled beside the recording, in Hz.

    Args:
        facts: The recording.
        limits: What is said about the devices from outside, with clocks by physical number.
    """
    clocks = {
        int(name.removeprefix(CLOCK)): hz for name, hz in limits.items() if name.startswith(CLOCK)
    }
    physical = facts.devices["physical"].tolist()
    if len(physical) == len(clocks) == 1:
        return {0: next(iter(clocks.values()))}  # the only GPU, whatever its number
    return {key: clocks[number] for key, number in enumerate(physical) if number in clocks}


def _samples(facts: Facts, window: Window) -> pd.DataFrame:
    """Return ``gpu``, ``time_ns`` and ``hz`` of the samples of clocks in a window."""
    ids = np.unique(facts.trace.columns("gpu_metrics", ["name_id"])["name_id"])
    names = [str(name) for name in facts.trace.names(ids)]
    scale = {
        int(i): 1e6 if _MEGA.search(n) else 1.0
        for i, n in zip(ids, names, strict=True)
        if _CLOCK.search(n)
    }
    # Piece by piece: there are a dozen other metrics for one that is wanted.
    pieces = (batch.to_pandas() for batch in facts.trace.batches("gpu_metrics") if scale)
    chosen = [p[p["name_id"].isin(list(scale))] for p in pieces]
    if not chosen:
        return pd.DataFrame({"gpu": [], "time_ns": [], "hz": []})
    rows = pd.concat(chosen, ignore_index=True)
    hz = rows["value"].to_numpy(float) * rows["name_id"].map(scale).to_numpy(float)
    time = rows["time_ns"].to_numpy()
    good = (hz > 0) & (hz < MAX_HZ) & (time >= window.start_ns) & (time < window.end_ns)
    in_window: pd.DataFrame = rows.assign(hz=hz).loc[good]
    return in_window


def _while_kernels_run(facts: Facts, device: int, time_ns: Array) -> Array:
    """Return at which moments a kernel ran on a device."""
    launches = facts.launches
    is_kernel = np.isin(launches["kind"].to_numpy(), (KERNEL, GRAPH))
    own = is_kernel & (launches["device"] == device).to_numpy()
    busy = union(launches["start_ns"].to_numpy()[own], launches["end_ns"].to_numpy()[own])
    place = np.searchsorted(busy.start, time_ns, side="right") - 1
    inside: Array = place >= 0
    inside[inside] = time_ns[inside] < busy.end[place[inside]]
    return inside
