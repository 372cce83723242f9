"""How fast kernels compute, and the roofs that memory and arithmetic units put over them.

A kernel that does F floating-point operations on B bytes cannot do more of them in a second than
``min(peak operations, F / B * peak bytes)``; F / B is its arithmetic intensity (Williams, Waterman,
Patterson: "Roofline", Communications of the ACM 52/4, 2009). What is counted as an operation and as
a byte, and what is a peak, follows the roofline sections of Nsight Compute:

* operations of a precision = additions + multiplications + 2 * fused multiply-adds, of threads that
  are not predicated off, either counted (``….sum``) or ``….sum.per_cycle_elapsed * cycles per
  second * duration``. An instruction in half precision works on a pair of numbers: 2, 2 and 4.
* operations of tensor cores = ``sm__ops_path_tensor_src_….sum``, integers left out. Versions that
  count only their instructions do not tell how large those are, so nothing is made of them.
* roof of a precision = ``sm__sass_thread_inst_executed_op_{h,f,d}fma_pred_on.sum.peak_sustained *
  operations of one * sm__cycles_elapsed.avg.per_second``: the clock is the measured one.
* bytes of a memory, and its roof = peak bytes per cycle * its measured cycles per second; by the
  first of ``MEASURES`` that was recorded.

Where the recording has no peak, arithmetic units come from a table of the CUDA C++ Programming
Guide and device memory from the GPU's stated bandwidth; each roof says which it is. What is in
neither is missing, and never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyzers.counters.by_kernel import ByKernel
from analyzers.counters.inside import Inside
from analyzers.counters.limits import LaunchLimits
from analyzers.facts.counters import Counters
from analyzers.intervals import Array
from analyzers.metric_names import L2_CLOCK, SM_COUNT

MEASURED = "measured"
"""A roof whose peak and clock are in the recording."""
GUIDE = "CUDA C++ Programming Guide, arithmetic throughput, at the measured clock"
GUIDE_AT_MOST = "CUDA C++ Programming Guide, arithmetic throughput, at the highest clock"
STATED = "the GPU's stated memory clock and bus width"

PRECISIONS = {"fp16": "h", "fp32": "f", "fp64": "d"}
TENSOR = "tensor"
LEVELS = ("dram", "l2", "l1")
NANO = 1e-9

_OP = "sass_thread_inst_executed_op_{}{}_pred_on.sum"
_RESULTS = {"h": 2, "f": 1, "d": 1}  # numbers that one instruction of a thread works on
_FLOP = {"add": 1, "mul": 1, "fma": 2}
SM_CLOCK = (
    *("smsp__cycles_elapsed.avg.per_second", "sm__cycles_elapsed.avg.per_second"),
    "gpc__cycles_elapsed.avg.per_second",
)
HIGHEST_CLOCK = "device__attribute_clock_rate"  # kHz
DRAM_CLOCK = ("dram__cycles_elapsed.avg.per_second",)
L1_CLOCK = ("l1tex__cycles_elapsed.avg.per_second", *SM_CLOCK)
_TENSOR_OPS = "sm__ops_path_tensor_src_"
_TENSOR_DENSE = "sm__ops_path_tensor_op_"
_INTEGERS = "int"
_TENSOR_INSTRUCTIONS = (
    *("sm__inst_executed_pipe_tensor.sum", "smsp__inst_executed_pipe_tensor.sum"),
    "smsp__inst_executed_pipe_tensor.sum.per_cycle_elapsed",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
)

# Results per clock and multiprocessor of fused multiply-adds, by compute capability (CUDA C++
# Programming Guide, "Throughput of Native Arithmetic Instructions"): 16-bit, 32-bit, 64-bit.
RESULTS_PER_CLOCK = {
    (6, 0): (128, 64, 32),
    (6, 1): (2, 128, 4),
    (7, 0): (128, 64, 32),
    (7, 5): (128, 64, 2),
    (8, 0): (256, 64, 32),
    (8, 6): (128, 128, 2),
    (8, 9): (128, 128, 2),
    (9, 0): (256, 128, 64),
}


@dataclass(frozen=True)
class Measure:
    """One way to count the bytes that a memory moves; pairs are a metric and its bytes each.

    Attributes:
        counts: Of a whole launch; several are added.
        rates: In a second.
        peak: In a cycle, at most.
        clock: Cycles per second.
    """

    counts: tuple[tuple[str, float], ...]
    rates: tuple[tuple[str, float], ...]
    peak: tuple[tuple[str, float], ...]
    clock: tuple[str, ...]


def _writeback(suffix: str) -> Measure:
    """Return what the L1 cache hands to threads: 128 bytes in each cycle it writes back."""
    cycles, derived = (
        f"{begin}{suffix}.sum"
        for begin in ("l1tex__lsu_writeback_active", "derived__l1tex__lsu_writeback_bytes")
    )
    return Measure(
        counts=(),
        rates=((f"{derived}.per_second", 1), (f"{cycles}.per_second", 128)),
        peak=((f"{derived}.peak_sustained", 1), (f"{cycles}.peak_sustained", 128)),
        clock=L1_CLOCK,
    )


# Newer versions measure caches by what they hand on to the multiprocessors, older ones by all that
# passes through them. Bytes and roof must be of the same kind.
MEASURES: dict[str, tuple[Measure, ...]] = {
    "dram": (
        Measure(
            (("dram__bytes.sum", 1),),
            (("dram__bytes.sum.per_second", 1),),
            (("dram__bytes.sum.peak_sustained", 1),),
            DRAM_CLOCK,
        ),
        Measure(
            (("dram__bytes_read.sum", 1), ("dram__bytes_write.sum", 1)),
            (),
            (("dram__bytes.sum.peak_sustained", 1),),
            DRAM_CLOCK,
        ),
    ),
    "l2": (
        Measure(
            (("lts__lts2xbar_cycles_active.sum", 32),),
            (
                ("derived__lts__lts2xbar_bytes.sum.per_second", 1),
                ("lts__lts2xbar_cycles_active.sum.per_second", 32),
            ),
            (
                ("derived__lts__lts2xbar_bytes.sum.peak_sustained", 1),
                ("lts__lts2xbar_cycles_active.sum.peak_sustained", 32),
            ),
            L2_CLOCK,
        ),
        Measure(
            (("lts__t_bytes.sum", 1),),
            (("lts__t_bytes.sum.per_second", 1),),
            (("lts__t_bytes.sum.peak_sustained", 1),),
            L2_CLOCK,
        ),
    ),
    "l1": (
        *(_writeback(suffix) for suffix in ("_mem_lgds", "_mem_lg", "")),
        Measure(
            (("l1tex__t_bytes.sum", 1),),
            (("l1tex__t_bytes.sum.per_second", 1),),
            (("l1tex__t_bytes.sum.peak_sustained", 1),),
            L1_CLOCK,
        ),
    ),
}

# Which section of Nsight Compute collects what a roofline lacks.
_SECTIONS = {
    "floating-point arithmetic": "SpeedOfLight_RooflineChart",
    "device-memory traffic": "SpeedOfLight_RooflineChart",
    "L2-cache traffic": "SpeedOfLight_HierarchicalSingleRooflineChart",
    "peak arithmetic throughput": "SpeedOfLight_RooflineChart",
    "peak device-memory bandwidth": "SpeedOfLight_RooflineChart",
    "peak L2-cache bandwidth": "SpeedOfLight_HierarchicalSingleRooflineChart",
    "half-precision arithmetic": "SpeedOfLight_HierarchicalHalfRooflineChart",
    "tensor-core work": "SpeedOfLight_HierarchicalTensorRooflineChart",
}


@dataclass(frozen=True, kw_only=True)
class Roof:
    """What something cannot exceed.

    Attributes:
        of: A level of memory or a precision.
        per_s: Bytes, or floating-point operations, in a second.
        source: ``MEASURED``, or where the number is from.
    """

    of: str
    per_s: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """The roofs of a GPU, and where its kernels are beneath them.

    Attributes:
        gpu: Its name; where several kinds were used, the one with most time.
        kernels: One row per kernel, in the order of ``ByKernel``: ``flop_per_s`` (all precisions
            that were counted), ``<precision>_flop_per_s``, ``<level>_bytes_per_s`` and
            ``<level>_flop_per_byte``, each over the launches in which it is known and weighed
            with time; ``tensor_uncounted``: tensor cores worked, nobody knows how much.
            Not-a-number where it was not counted.
        roofs: What is known of memories and units.
        missing: What the chart lacks, each with the section of Nsight Compute that collects it.
    """

    gpu: str
    kernels: pd.DataFrame
    roofs: tuple[Roof, ...]
    missing: Mapping[str, str]


def roofline(inside: Inside, groups: ByKernel) -> Roofline:
    """Return the roofline of profiled launches.

    Args:
        inside: The account of their time.
        groups: Their kernels.
    """
    counters = inside.limits.counters
    devices = counters.trace.frame("devices")
    seconds = _seconds(counters)
    flop = {p: _flop(counters, seconds, letter) for p, letter in PRECISIONS.items()}
    flop[TENSOR] = _tensor_flop(counters, seconds)
    moved = {level: _bytes(counters, seconds, level) for level in LEVELS}
    rates = {f"{p}_flop_per_s": _rate(values, seconds) for p, values in flop.items()}
    rates["flop_per_s"] = _rate(_all_that_was_counted(flop), seconds)
    rates |= {f"{level}_bytes_per_s": _rate(b, seconds) for level, (b, _) in moved.items()}
    kernels = pd.DataFrame({name: groups.mean(values) for name, values in rates.items()})
    for level in LEVELS:
        kernels[f"{level}_flop_per_byte"] = groups.ratio(
            rates["flop_per_s"], rates[f"{level}_bytes_per_s"]
        )
    uses = counters.metric(*_TENSOR_INSTRUCTIONS)
    kernels["tensor_uncounted"] = groups.sums((uses > 0) & np.isnan(flop[TENSOR])) > 0
    gpu = _main_gpu(counters, groups, devices)
    roofs = _roofs(counters, groups, gpu, devices, {k: m for k, (_, m) in moved.items()})
    return Roofline(
        gpu=str(gpu["name"]) if len(gpu) else "",
        kernels=kernels,
        roofs=roofs,
        missing=_missing(kernels, roofs),
    )


def _all_that_was_counted(flop: Mapping[str, Array]) -> Array:
    """Return the operations of all precisions; none of some and unknown others are unknown."""
    every = np.stack(list(flop.values()))
    total = np.nansum(every, axis=0)
    unknown = np.isnan(every).all(axis=0) | ((total == 0) & np.isnan(flop["fp32"]))
    return np.where(unknown, np.nan, total)


def _seconds(counters: Counters) -> Array:
    """Return how long each profiled launch itself took; not-a-number where that is unknown."""
    return LaunchLimits(counters).duration_ns * NANO


def _rate(amount: Array, seconds: Array) -> Array:
    rate: Array = amount / seconds
    return rate


def _flop(counters: Counters, seconds: Array, letter: str) -> Array:
    """Return the operations of one precision; unknown unless all three kinds were counted."""
    clock = counters.metric(*SM_CLOCK)
    total = np.zeros(len(counters))
    for op, flop in _FLOP.items():
        name = _OP.format(letter, op)
        counted = counters.metric(f"smsp__{name}", f"sm__{name}")
        per_cycle = counters.metric(
            f"smsp__{name}.per_cycle_elapsed", f"sm__{name}.per_cycle_elapsed"
        )
        counted = np.where(np.isnan(counted), per_cycle * clock * seconds, counted)
        total += counted * flop * _RESULTS[letter]
    return total


def _tensor_flop(counters: Counters, seconds: Array) -> Array:
    """Return the floating-point operations of tensor cores, over all kinds that were counted.

    A launch in which tensor cores did nothing did none of them, however little was counted.
    """
    per_second = counters.starting_with(_TENSOR_OPS, ".sum.per_second")
    kinds = {
        kind: counters.metric(f"{_TENSOR_OPS}{kind}.sum")
        for kind in {*counters.starting_with(_TENSOR_OPS, ".sum"), *per_second}
        if not kind.startswith(_INTEGERS)
    }
    for kind, values in kinds.items():
        rate = per_second.get(kind, np.full(len(counters), np.nan))
        kinds[kind] = np.where(np.isnan(values), rate * seconds, values)
    idle = counters.metric(*_TENSOR_INSTRUCTIONS) == 0
    nothing = np.where(idle, 0.0, np.nan)
    if not kinds:
        return nothing
    every = np.stack([*kinds.values(), nothing])
    return np.where(np.isnan(every).all(axis=0), np.nan, np.nansum(every, axis=0))


def _bytes(counters: Counters, seconds: Array, level: str) -> tuple[Array, Measure]:
    """Return the bytes that a memory moved, and by which measure.

    One measure counts for all launches: the first whose roof is known, too, else the first known.
    """
    amounts = [(_measured(counters, seconds, m), m) for m in MEASURES[level]]
    counted = [(b, m) for b, m in amounts if np.isfinite(b).any()]
    with_roof = [(b, m) for b, m in counted if np.isfinite(_peak(counters, m)).any()]
    return (with_roof or counted or amounts)[0]


def _measured(counters: Counters, seconds: Array, measure: Measure) -> Array:
    counts = [counters.metric(name) * size for name, size in measure.counts]
    counted = np.sum(counts, axis=0) if counts else np.full(len(counters), np.nan)
    for name, size in measure.rates:
        counted = np.where(np.isnan(counted), counters.metric(name) * size * seconds, counted)
    return counted


def _peak(counters: Counters, measure: Measure) -> Array:
    """Return the most bytes in a second by this measure, at the launch's own clock."""
    peak = np.full(len(counters), np.nan)
    for name, size in measure.peak:
        peak = np.where(np.isnan(peak), counters.metric(name) * size, peak)
    result: Array = peak * counters.metric(*measure.clock)
    return result


def _main_gpu(counters: Counters, groups: ByKernel, devices: pd.DataFrame) -> pd.Series:
    """Return the properties of the GPU, by name, on which most of the time was spent."""
    if not len(groups.rows) or not len(devices):
        return pd.Series(dtype=object)
    if _are_alike(devices):
        return devices.iloc[0]
    used = counters.profiled["device"].to_numpy()[groups.rows]
    time = pd.Series(groups.ns).groupby(used).sum()
    by_number = devices.drop_duplicates("device").set_index("device")
    names = by_number["name"].reindex(time.index).fillna("")
    name = time.groupby(names.to_numpy()).sum().idxmax()
    same_model = devices[(devices["name"] == name).to_numpy()]
    return same_model.iloc[0] if len(same_model) else devices.iloc[0]


def _are_alike(devices: pd.DataFrame) -> bool:
    """Tell whether all devices are of one model."""
    return len(set(devices["name"])) == 1


def _roofs(
    counters: Counters,
    groups: ByKernel,
    gpu: pd.Series,
    devices: pd.DataFrame,
    measures: Mapping[str, Measure],
) -> tuple[Roof, ...]:
    """Return the roofs, of the launches on this kind of GPU, each a mean over time."""
    if not len(gpu):
        return ()
    numbers = devices["device"].to_numpy()[(devices["name"] == gpu["name"]).to_numpy()]
    here = np.ones(len(counters), dtype=bool)
    if not _are_alike(devices):
        here = np.isin(counters.profiled["device"].to_numpy(), numbers)
    roofs = []
    for level in LEVELS:
        peak = _overall(groups, _peak(counters, measures[level]), here)
        if np.isfinite(peak):
            roofs.append(Roof(of=level, per_s=peak, source=MEASURED))
        elif level == "dram" and gpu.get("memory_bytes_per_s", -1) > 0:
            roofs.append(Roof(of=level, per_s=float(gpu["memory_bytes_per_s"]), source=STATED))
    for place, precision in enumerate(PRECISIONS):
        roof = _compute_roof(counters, groups, here, precision, place)
        roofs += [roof] if roof else []
    tensor = _overall(groups, _tensor_peak(counters), here)
    if np.isfinite(tensor):
        roofs.append(Roof(of=TENSOR, per_s=tensor, source=MEASURED))
    return tuple(roofs)


def _overall(groups: ByKernel, values: Array, chosen: Array) -> float:
    """Return the mean of a value over the time of the chosen launches; not-a-number if unknown."""
    chosen_values = np.where(chosen, values, np.nan)[groups.rows]
    finite = np.isfinite(chosen_values)
    return (
        float(np.average(chosen_values[finite], weights=groups.ns[finite]))
        if finite.any()
        else np.nan
    )


def _compute_roof(
    counters: Counters, groups: ByKernel, here: Array, precision: str, place: int
) -> Roof | None:
    letter = PRECISIONS[precision]
    name = f"{_OP.format(letter, 'fma')}.peak_sustained"
    peak = counters.metric(f"sm__{name}", f"smsp__{name}") * _FLOP["fma"] * _RESULTS[letter]
    clock = counters.metric(*SM_CLOCK)
    measured = _overall(groups, peak * clock, here)
    if np.isfinite(measured):
        return Roof(of=precision, per_s=measured, source=MEASURED)
    major, minor = (
        np.nan_to_num(counters.metric(f"device__attribute_compute_capability_{p}"))
        for p in ("major", "minor")
    )
    table = [
        RESULTS_PER_CLOCK.get((int(a), int(b)), (np.nan,) * 3)[place]
        for a, b in zip(major, minor, strict=True)
    ]
    in_a_cycle = np.array(table) * counters.metric(*SM_COUNT) * _FLOP["fma"]
    highest = counters.metric(HIGHEST_CLOCK) * 1_000
    for hertz, source in ((clock, GUIDE), (highest, GUIDE_AT_MOST)):
        roof = _overall(groups, in_a_cycle * hertz, here)
        if np.isfinite(roof):
            return Roof(of=precision, per_s=roof, source=source)
    return None


def _tensor_peak(counters: Counters) -> Array:
    """Return the peak of the kinds of tensor operations that a launch used, in a second.

    Where the recording tells the peak without sparsity, that one: few programs use it.
    """
    peaks = np.full(len(counters), np.nan)
    for kind, used in counters.starting_with(_TENSOR_OPS, ".sum").items():
        if kind.startswith(_INTEGERS):
            continue
        peak = counters.metric(f"{_TENSOR_OPS}{kind}.sum.peak_sustained")
        dense = [
            values
            for name, values in counters.starting_with(_TENSOR_DENSE, ".sum.peak_sustained").items()
            if name.endswith(f"_src_{kind}_sparsity_off")
        ]
        for values in (np.fmax.reduce(dense),) if dense else ():
            peak = np.where(np.isnan(values), peak, values)
        peaks = np.fmax(peaks, np.where(used > 0, peak, np.nan))
    return peaks * counters.metric(*SM_CLOCK)


def _missing(kernels: pd.DataFrame, roofs: tuple[Roof, ...]) -> dict[str, str]:
    with_roof = {roof.of for roof in roofs}
    unknown, uncounted = kernels.isna().any(), bool(kernels["tensor_uncounted"].any())
    lacks = {
        "floating-point arithmetic": unknown["flop_per_s"],
        "device-memory traffic": unknown["dram_bytes_per_s"],
        "L2-cache traffic": unknown["l2_bytes_per_s"],
        "peak arithmetic throughput": not with_roof & {*PRECISIONS, TENSOR},
        "peak device-memory bandwidth": "dram" not in with_roof,
        "peak L2-cache bandwidth": "l2" not in with_roof and not unknown["l2_bytes_per_s"],
        "half-precision arithmetic": unknown["fp16_flop_per_s"],
        "tensor-core work": uncounted,
    }
    return {what: _SECTIONS[what] for what, is_missing in lacks.items() if is_missing}
