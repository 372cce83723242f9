"""Comparisons of recordings that were opened: what each brings is measured once, and kept.

``<trace>/compare/<key>.npz`` holds one ``Side``: a few megabytes at most, whatever the recording's
size. Beside a recording may lie what its workload wrote about itself
(``<recording>.workload.json``) and what was sampled meanwhile (``<recording>.telemetry.sqlite``);
both are read anew each time, and their absence is no error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import sqlite3
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import write_file
from library import analyses, cache, prediction_history, sidecars

if TYPE_CHECKING:
    from analyzers.compare.recording_analysis import RecordingAnalysis
    from analyzers.compare.side import Side
    from analyzers.compare.types import Comparison
    from analyzers.facts.facts import Facts
    from collectors.trace import Trace

WORKLOAD = ".workload.json"
MAX_SUMMARY_BYTES = 16 << 20
SUMMARY_SCHEMA = 1
AT_A_TIME = 2  # recordings that are measured at the same time; each needs memory of its own
HELD_DOWN = 0x4 | 0x8 | 0x20 | 0x40 | 0x80  # NVML's reasons that slow a busy GPU down
BUSIEST = -1  # key of the device that is busy longest
MAX_NS, MAX_NUMBER = 1 << 62, 10**300
MAX_KEPT = 16  # sides of a trace: other windows, other devices

Measure = Callable[["Trace", str, int], "Side"]


def compare_recordings(  # noqa: PLR0913 - all but the recordings have defaults
    base: Sequence[Trace],
    new: Sequence[Trace],
    *,
    window: str = "",
    device: str = "",
    smallest: float | None = None,
    anyway: bool = False,
    measure: Measure | None = None,
) -> Comparison:
    """Compare recordings of the library.

    Args:
        base: Recordings before the change.
        new: Recordings after it.
        window: ``""`` for the iterations that are found, ``nvtx:NAME`` for every range of that
            name, or one window as ``analyzers.analyze`` takes it.
        device: Name or number of a device of the ledger; empty for the one that is busy longest.
        smallest: The smallest change that matters, as a share; None for what is usual.
        anyway: Whether two programs that look different are known to do the same work.
        measure: How to get what a recording brings; by default here and now. Give
            ``jobs.api.measure`` to have it done in a child process, under limits.

    Raises:
        WindowError: A recording has no such window or device.
        TraceError: A recording cannot be read back.
    """
    from analyzers.compare.compare import SMALLEST_SHARE, compare
    from analyzers.compare.own_steps import compare_own_steps
    from analyzers.facts.window_request import number_in

    take = measure or measure_side
    number = number_in(device)
    is_key = number is not None and number >= 0
    key = number if number is not None and is_key else BUSIEST
    traces = [*base, *new]
    sides = _measure_all(take, traces, window, [key] * len(traces))
    if not is_key:
        device_key = _key_of(device, sides[0])
        keys = [device_key if device_key < len(s.devices) else s.device for s in sides]
        again = [place for place, s in enumerate(sides) if s.device != keys[place]]
        measured = _measure_all(take, [traces[p] for p in again], window, [keys[p] for p in again])
        for place, side in zip(again, measured, strict=True):
            sides[place] = side
    sides = _without_other_loops(take, traces, window, sides, len(base))
    complete = [_with_sidecars(s, t) for s, t in zip(sides, traces, strict=True)]
    share = SMALLEST_SHARE if smallest is None else smallest
    both = complete[: len(base)], complete[len(base) :]
    by_steps = compare_own_steps(*both, smallest=share, anyway=anyway)
    answer = by_steps or compare(*both, smallest=share, anyway=anyway)
    return prediction_history.with_outcomes(answer)


def _measure_all(
    take: Measure, traces: Sequence[Trace], window: str, keys: Sequence[int]
) -> list[Side]:
    pairs = list(zip(traces, keys, strict=True))
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return list(threads.map(lambda pair: _measure_named(take, pair[0], window, pair[1]), pairs))


def _without_other_loops(
    take: Measure, traces: Sequence[Trace], window: str, sides: list[Side], base: int
) -> list[Side]:
    """Return sides whose iterations, where they were only found, are the same on both sides.

    Else those recordings are compared as a whole.
    """
    from analyzers.compare.same_work import repeat_the_same
    from analyzers.facts.window_request import NONE, request_text

    places = [place for place, side in enumerate(sides) if side.is_loop_found]
    if not places or repeat_the_same(sides[:base], sides[base:]):
        return sides
    whole = request_text(window, NONE)
    keys = [sides[place].device for place in places]
    measured = _measure_all(take, [traces[place] for place in places], whole, keys)
    by_place = dict(zip(places, measured, strict=True))
    return [by_place.get(place, side) for place, side in enumerate(sides)]


def _measure_named(take: Measure, trace: Trace, window: str, device: int) -> Side:
    from analyzers.facts.facts import WindowError

    try:
        return take(trace, window, device)
    except WindowError as error:  # of several recordings, the one that is meant must be named
        raise WindowError(f"{trace.source.name}: {error}"[:280]) from error


def _key_of(device: str, side: Side) -> int:
    """Return the key of the device of this name, or of the one that was chosen already.

    Raises:
        WindowError: There is none of that name.
    """
    from analyzers.facts.facts import WindowError

    if not device:
        return side.device
    if device not in side.devices:
        names = ", ".join(side.devices) or "none"
        raise WindowError(f"device {device[:80]!r}: {side.source['name']} has {names}"[:280])
    return side.devices.index(device)


# --- what a recording brings --------------------------------------------------------------


def measure_side(trace: Trace, window: str = "", device: int = BUSIEST) -> Side:
    """Return what a recording brings: as it was kept, or measured now and kept."""
    kept = load_side(trace, window, device)
    if kept is not None:
        return kept
    from analyzers.compare.measure import measure
    from analyzers.facts.facts import build_facts

    stored = load_analysis(trace)
    facts, analysis = stored if stored else (build_facts(trace), None)
    side = measure(facts, window, device, analysis)
    save_side(side, trace, window, device)
    return side


def load_analysis(trace: Trace) -> tuple[Facts, RecordingAnalysis] | None:
    """Return what the analysis of the whole recording left; None without one to rely on."""
    from analyzers.compare.recording_analysis import RecordingAnalysis
    from analyzers.facts.facts import holds_counters_only, restored_facts
    from collectors.errors import DamagedError

    stored = analyses.load(trace)
    if stored is None or holds_counters_only(trace):
        return None
    try:
        with ThreadPoolExecutor(1) as thread:  # both mostly unpack, so both cores work
            segments = thread.submit(stored.segments)
            facts = restored_facts(trace, stored.narrow_launches())
            report = stored.report
            analysis = RecordingAnalysis(
                window=report.window,
                devices=report.devices,
                segments=segments.result(),
                iterations=report.iterations,
                iterations_note=report.iterations_note,
                quality=report.quality,
            )
    except DamagedError:
        return None
    return facts, analysis


def side_path(trace: Trace, window: str, device: int) -> Path:
    """Return where a side is kept."""
    version = cache.fingerprint(
        "analyzers", "collectors.schema", "collectors.trace", "library.comparisons"
    )
    key = hashlib.sha256(f"{version}\0{window}\0{device}".encode("utf-8", "replace")).hexdigest()
    return trace.folder / "compare" / f"{key[:24]}.npz"


def load_side(trace: Trace, window: str = "", device: int = BUSIEST) -> Side | None:
    """Return the side that was kept, or None when it has to be measured."""
    path = side_path(trace, window, device)
    try:
        return _decoded(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        with contextlib.suppress(OSError):  # damaged: measured anew
            path.unlink()
        return None


def save_side(side: Side, trace: Trace, window: str, device: int) -> Path:
    """Keep a side beside its trace, and return where.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    path = side_path(trace, window, device)
    path.parent.mkdir(exist_ok=True)
    write_file(path, _encoded(side))
    _forget_old(path.parent)
    return path


def _forget_old(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process deletes the same ones
        sides = sorted(folder.glob("*.npz"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
        for path in sides[MAX_KEPT:]:
            path.unlink(missing_ok=True)


_ARRAYS = ("start_ns", "end_ns", "ledger_ns", "row_places", "roles_ns")
_OF_LAUNCHES = ("column", "ordinal", "start_ns", "ns", "cut", "ledger_before_ns")
_OF_KERNELS = (
    *("shapes", "longest", "resources"),
    *("sequence", "sequence_ns", "sequence_work", "sequence_range"),
)
_OF_SPARSE = ("iteration", "column", "ns", "count")


def _encoded(side: Side) -> bytes:
    import numpy as np

    arrays = {name: getattr(side, name) for name in _ARRAYS}
    arrays |= {f"count {name}": values for name, values in side.counts.items()}
    kernels, regions, work = side.kernels, side.regions, side.work
    arrays |= {f"kernels {n}": getattr(kernels, n) for n in _OF_KERNELS}
    arrays |= {"regions longest": regions.longest, "work longest": work.longest}
    arrays["work least"] = work.least_ns
    arrays |= {f"launches {n}": getattr(side.launch_times, n) for n in _OF_LAUNCHES}
    for label, table in (
        ("kernels", kernels.by_iteration),
        ("regions", regions.by_iteration),
        ("work", work.by_iteration),
    ):
        arrays |= {f"{label} by {n}": getattr(table, n) for n in _OF_SPARSE}
    words = {
        **{n: getattr(side, n) for n in _WORDS},
        "kernel_names": kernels.names,
        "kernel_short_names": kernels.short_names,
        "kernel_ranges": kernels.ranges,
        "regions": regions.keys,
        "work": work.keys,
        "operators": [[*key, calls] for key, calls in side.operators.items()],
        "ranges": [[name, *total] for name, total in side.ranges.items()],
    }
    text = np.frombuffer(json.dumps(words).encode(), dtype=np.uint8)
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, words=text, **arrays)
    return packed.getvalue()


_WORDS = (
    *(
        "source",
        "gpus",
        "devices",
        "device",
        "request",
        "window",
        "loop",
        "is_loop_found",
        "warm_up",
    ),
    *("warm_up_how", "typical", "peak_bytes", "sm_clock_mhz", "operations", "counters_only"),
    "quality",
)


def _decoded(path: Path) -> Side:
    import numpy as np

    from analyzers.compare.side import (
        Kernels,
        LaunchTimes,
        Regions,
        Side,
        SideWork,
        SparseTable,
        WorkKey,
    )

    # Read first: of a damaged file the library would keep the handle.
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    words = json.loads(arrays.pop("words").tobytes())

    def sparse(label: str) -> SparseTable:
        return SparseTable(**{n: arrays[f"{label} by {n}"] for n in _OF_SPARSE})

    plain = {n: words[n] for n in _WORDS}
    for name in ("gpus", "devices"):
        plain[name] = tuple(plain[name])
    plain["quality"] = tuple(tuple(note) for note in plain["quality"])
    return Side(
        **plain,
        **{name: arrays[name] for name in _ARRAYS},
        counts={n[6:]: values for n, values in arrays.items() if n.startswith("count ")},
        kernels=Kernels(
            names=tuple(words["kernel_names"]),
            short_names=tuple(words["kernel_short_names"]),
            ranges=tuple(words["kernel_ranges"]),
            **{n: arrays[f"kernels {n}"] for n in _OF_KERNELS},
            by_iteration=sparse("kernels"),
        ),
        launch_times=LaunchTimes(**{n: arrays[f"launches {n}"] for n in _OF_LAUNCHES}),
        regions=Regions(
            keys=tuple((a, b, c) for a, b, c in words["regions"]),
            longest=arrays["regions longest"],
            by_iteration=sparse("regions"),
        ),
        work=SideWork(
            keys=tuple(WorkKey(*key) for key in words["work"]),
            longest=arrays["work longest"],
            least_ns=arrays["work least"],
            by_iteration=sparse("work"),
        ),
        operators={(name, shape): calls for name, shape, calls in words["operators"]},
        ranges={name: (count, ns) for name, count, ns in words["ranges"]},
    )


# --- what lies beside a recording ---------------------------------------------------------


def _with_sidecars(side: Side, trace: Trace) -> Side:
    summary: dict[str, Any] = {}
    telemetry: dict[str, Any] = {}
    quality = side.quality
    # Files of the same content are one trace; the one that is meant is known by its name.
    paths = sorted(cache.paths_of(trace.id), key=lambda path: path.name != trace.source.name)
    for path in paths:
        try:
            summary = summary or read_summary(path.with_name(path.name + WORKLOAD))
        except ValueError as error:
            quality = (*quality, ("error", "sidecar", f"{path.name}{WORKLOAD}: {error}"))
        sampled = sidecars.telemetry_beside(path)
        telemetry = telemetry or (read_telemetry(sampled) if sampled else {})
    side = dataclasses.replace(side, quality=quality)
    return side.with_sidecar(summary, telemetry, trace.id, trace.source.name)


def read_summary(path: Path) -> dict[str, Any]:
    """Return what a workload wrote about itself; empty when there is no such file.

    Raises:
        ValueError: The file is there, and is no summary; the message is one line.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SUMMARY_BYTES + 1)
    except OSError:
        return {}
    if len(text) > MAX_SUMMARY_BYTES:
        raise ValueError("too large for a workload's summary; it is not used")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not a workload's summary (no JSON); it is not used") from None
    if not isinstance(data, dict) or data.get("schema") != SUMMARY_SCHEMA:
        raise ValueError("not a workload's summary of a known version; it is not used")
    return _plain(data)


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that are compared, each only if it is of the kind that it should be."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "workload": str,
        "pair": str,
        "device": str,
        "seed": int,
        "warmup": int,
        "steps": int,
        "environment": dict,
        "metrics": list,
    }
    plain = {key: data[key] for key, kind in kinds.items() if isinstance(data.get(key), kind)}
    if "metrics" in plain:
        plain["metrics"] = [
            m for m in plain["metrics"] if isinstance(m, dict) and _is_number(m.get("value"))
        ]
    steps = data.get("step_ns")
    if isinstance(steps, list) and all(isinstance(s, int) and 0 < s < MAX_NS for s in steps):
        plain["step_ns"] = steps
    result = data.get("result")
    if isinstance(result, dict) and _are_numbers(result.get("values")):
        tolerance = result.get("rtol")
        tolerance = float(tolerance or 0.0) if _is_number(tolerance) else 0.0
        plain["result"] = {"values": [float(v) for v in result["values"]], "rtol": tolerance}
    return plain


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(_is_number(v) for v in values)


def _is_number(value: Any) -> bool:
    if isinstance(value, int):  # one too large for a float is none
        return not isinstance(value, bool) and abs(value) < MAX_NUMBER
    return isinstance(value, float)


def read_telemetry(path: Path) -> dict[str, Any]:
    """Return driver, mean clock and how long the busy GPU was held back; empty without a file."""
    if not path.is_file():
        return {}
    quantities: dict[str, Any] = {}
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=1.0)) as database:
            driver = database.execute("SELECT driver FROM gpus ORDER BY gpu LIMIT 1").fetchone()
            clock, held, samples = database.execute(
                "SELECT avg(sm_clock_mhz), sum((throttle_bits & ?) != 0), count(throttle_bits) "
                "FROM gpu_samples WHERE utilization_pct > 0",
                (HELD_DOWN,),
            ).fetchone()
    except (sqlite3.Error, OSError, TypeError, ValueError):
        return {}
    if driver and isinstance(driver[0], str):
        quantities["driver"] = driver[0]
    if isinstance(clock, float) and math.isfinite(clock):
        quantities["sm_clock_mhz"] = clock
    if samples:
        quantities["throttled_share"] = held / samples
    return quantities
