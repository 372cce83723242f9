"""What is lost inside kernels: estimates from counters, each nanosecond claimed at most once.

Each estimate is a part of a launch's time, between a low and a high value. Those that split the
ledger (idle lanes, memory) are booked at the middle; the others, which are about how the launch
fills the GPU, claim their high value, what could be won back at most. They are served in the order
of ``Part``: what comes later gets only what is left of the launch, and the middle is that between
its low value and what is left of its high one.

How much a loss weighs depends on what the launch is bound by. With ``c`` and ``m`` the parts of
peak compute and memory throughput, a loss of instructions weighs between ``c`` (only the time in
which issuing was busy) and ``c / max(c, m)`` (all of it, unless memory is busier); a loss of bytes
between ``m`` and ``m / max(c, m)``. A kernel that is bound by the other one gains little. And no
loss is larger than what mending it can win: a launch never gets shorter than what the parts that
are not mended were busy for. So all that splits the ledger is at most ``1 - c * lanes / 32``, and
all waiting (few blocks, tail, imbalance, occupancy, latency) at most ``1 - max(c, m)``.

Memory at its roof does useful work, as far as its bytes are needed, and no counter tells how many
are. What moving fewer of them wins back lies between nothing, when each is needed, and what the
memory was busy beyond compute, ``d - c``, when none is; ``d`` is what would still be busy once
accesses are coalesced, for sectors in vain are not won back twice. The middle is booked.
"""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass

import numpy as np

from analyzers.counters.limits import ACTIVE, PEAK, THREADS_PER_WARP, Limits
from analyzers.facts.counters import Counters
from analyzers.finding import Row
from analyzers.intervals import Array

FEW_LANES = 24.0  # of 32; the level below which Nsight Compute, too, speaks of divergence
AT_ROOF = 0.80  # of the peak; from here on Nsight Compute calls a throughput high
BUSY = 0.60  # of the peak; below it on both sides, Nsight Compute calls a kernel latency-bound
MIN_CONFLICTS = 0.10  # of the accesses' wavefronts; fewer cost less than reading about them
MAX_TAIL_WAVES = 4  # full waves; after more, the last one costs less than a fifth
TAIL_OCCUPANCY = 0.80  # of what is possible; a tail that matters shows in achieved occupancy
MIN_IMBALANCE = 0.05
OCCUPANCY_GAP = 0.10  # of all warps, between possible and achieved
LOW_OCCUPANCY = 0.25  # below a quarter of the warps, waiting is rarely hidden
ENOUGH_OCCUPANCY = 0.50  # from half of them on, more warps rarely help
NEAR_SECTORS, FAR_SECTORS = 4.0, 16.0  # that a warp needs, when each thread reads 4 or 16 bytes
FP64_BUSY, FP32_BUSY = 0.15, 0.60  # of their peaks
FUSED_SHARE = 0.80  # of floating-point instructions, in a kernel that multiplies matrices
TENSOR_IDLE = 0.01  # of the tensor pipe's peak
TENSOR_GAIN = 0.5  # tensor cores take at least twice as many products per clock
FIRST_TENSOR_FP32, FIRST_TENSOR_FP16 = 8.0, 7.0  # compute capability

# Results per clock and multiprocessor, 32-bit over 64-bit (CUDA C++ Programming Guide, "Throughput
# of Native Arithmetic Instructions"); 64 where the GPU has only a few 64-bit units.
FP64_RATIO = {(6, 0): 2, (7, 0): 2, (8, 0): 2, (9, 0): 2, (10, 0): 2, (7, 5): 32, (6, 1): 32}
FEW_FP64_UNITS = 64

_PRODUCT = re.compile(r"gemm|matmul|mm_|conv|wgrad|dgrad|attention|linear|tiling", re.IGNORECASE)

_SHARED = "l1tex__data_{}_pipe_lsu_{}mem_shared"
CONFLICTS = tuple(
    f"l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_{op}.sum" for op in ("ld", "st")
)
WAVEFRONTS = tuple(f"l1tex__data_pipe_lsu_wavefronts_mem_shared_op_{op}.sum" for op in ("ld", "st"))
ALL_CONFLICTS = "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"
ALL_WAVEFRONTS = "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"
SHARED_PCT = (
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum.pct_of_peak_sustained_elapsed",
    f"l1tex__data_pipe_lsu_wavefronts_mem_shared{PEAK}",
    f"l1tex__data_pipe_lsu_wavefronts{PEAK}",
)
ACCESS = "l1tex__t_{}_pipe_lsu_mem_global_op_{}.sum"
PER_SECTOR = "smsp__sass_average_data_bytes_per_sector_mem_global_op_{}.ratio"
SECTOR_BYTES = 32.0
DRAM_BYTES = ("dram__bytes_read.sum", "dram__bytes_write.sum")

FP64_PIPE = (
    f"sm__pipe_fp64_cycles_active{PEAK}",
    f"sm__pipe_fp64_cycles_active{ACTIVE}",
    f"sm__inst_executed_pipe_fp64{ACTIVE}",
    f"sm__inst_executed_pipe_fp64{PEAK}",
)
FMA_PIPE = (
    f"sm__pipe_fma_cycles_active{PEAK}",
    f"sm__pipe_fma_cycles_active{ACTIVE}",
    f"sm__inst_executed_pipe_fma{ACTIVE}",
    f"sm__inst_executed_pipe_fma{PEAK}",
)
TENSOR_PIPE = (
    f"sm__pipe_tensor_cycles_active{PEAK}",
    f"sm__pipe_tensor_cycles_active{ACTIVE}",
    f"sm__inst_executed_pipe_tensor{ACTIVE}",
    f"sm__pipe_tensor_op_hmma_cycles_active{ACTIVE}",  # before compute capability 8.6
    f"sm__inst_executed_pipe_tensor_op_hmma{ACTIVE}",
)
TENSOR_INSTRUCTIONS = (
    "sm__inst_executed_pipe_tensor.sum",
    "smsp__inst_executed_pipe_tensor.sum",
    "smsp__inst_executed_pipe_tensor.sum.per_cycle_elapsed",
)
_PEAK_OPS = "sm__sass_thread_inst_executed_op_{}fma_pred_on.sum.peak_sustained"


class Part(enum.IntEnum):
    """What costs time inside a kernel, in the order in which it is served."""

    IDLE_LANES = 0
    UNCOALESCED = 1
    BANK_CONFLICTS = 2
    DRAM = 3
    L2 = 4
    L1 = 5
    SMALL_GRID = 6
    TAIL = 7
    IMBALANCE = 8
    FP64 = 9
    TENSOR = 10
    OCCUPANCY = 11
    LATENCY = 12


ROW_OF_PART = {
    Part.IDLE_LANES: Row.DIVERGENCE,
    **dict.fromkeys(
        (Part.UNCOALESCED, Part.BANK_CONFLICTS, Part.DRAM, Part.L2, Part.L1), Row.BANDWIDTH
    ),
}
"""The ledger row that a part splits off; the others stay inside the row ``kernel``."""


class _Group(enum.Enum):
    """Parts that win back the same time, so that their sum has a limit of its own."""

    LEDGER = enum.auto()
    WAITING = enum.auto()


_GROUP = {
    **dict.fromkeys(ROW_OF_PART, _Group.LEDGER),
    **dict.fromkeys(
        (Part.SMALL_GRID, Part.TAIL, Part.IMBALANCE, Part.OCCUPANCY, Part.LATENCY), _Group.WAITING
    ),
}

Range = tuple[Array, Array]
"""Low and high share of each launch's time; not-a-number where counters do not tell."""


@dataclass(frozen=True, eq=False)
class Inside:
    """The account of the time inside profiled launches.

    Attributes:
        limits: What counters say about each launch.
        ns: Time of each profiled launch that is accounted for.
        low_ns: Smallest loss, by part and launch.
        booked_ns: Loss that is claimed; over all parts never more than ``ns``.
        high_ns: Largest loss.
        told: Whether counters tell the loss at all.
    """

    limits: Limits
    ns: Array
    low_ns: Array
    booked_ns: Array
    high_ns: Array
    told: Array

    def told_share(self, *parts: Part) -> float:
        """Return the part of the time, 0 to 1, in launches that tell any of these parts."""
        told = self.told[list(parts)].any(axis=0)
        return float(self.ns[told].sum() / max(int(self.ns.sum()), 1))

    def row_ns(self, row: Row) -> Array:
        """Return what each launch books to ``row``; all rows together are its time."""
        split = {
            r: self.booked_ns[[p for p, of in ROW_OF_PART.items() if of is r]].sum(axis=0)
            for r in (Row.DIVERGENCE, Row.BANDWIDTH)
        }
        booked: Array = split.get(row, self.ns - sum(split.values()))
        return booked


def account(counters: Counters, ns: Array) -> Inside:
    """Return what is lost inside launches.

    Args:
        counters: The counters.
        ns: Time of each profiled launch that is to be accounted for.
    """
    limits = Limits(counters)
    shares = _shares(limits)
    size = (len(Part), len(counters))
    low, booked, high = (np.zeros(size, np.int64) for _ in range(3))
    told = np.zeros(size, dtype=bool)
    left = ns.astype(np.int64)
    room = {group: _part_of(ns, share) for group, share in _rooms(limits).items()}
    for part in Part:
        group = _GROUP.get(part)
        least, most = (_part_of(ns, share) for share in shares[part])
        told[part] = ~np.isnan(shares[part][1])
        at_most = np.minimum(most, np.minimum(left, room[group]) if group else left)
        low[part], high[part] = np.minimum(least, at_most), most
        booked[part] = (low[part] + at_most) // 2 if part in ROW_OF_PART else at_most
        left = left - booked[part]
        if group:
            room[group] = room[group] - booked[part]
    return Inside(limits, ns, low, booked, high, told)


def _part_of(ns: Array, share: Array) -> Array:
    """Return whole nanoseconds of a share of each launch; nothing where it is not known."""
    part: Array = (ns * np.nan_to_num(np.clip(share, 0.0, 1.0))).astype(np.int64)
    return part


def _rooms(limits: Limits) -> dict[_Group, Array]:
    """Return what the parts of a group win back together at most; unknown ones keep nothing busy.

    Memory that moves no bytes and full warps leave the instructions that do something useful.
    Waiting that is hidden leaves what the busiest side of the GPU was busy for.
    """
    compute, memory = np.nan_to_num(limits.compute), np.nan_to_num(limits.memory_at_least)
    lanes = np.nan_to_num(limits.lanes, nan=float(THREADS_PER_WARP))
    return {
        _Group.LEDGER: 1 - compute * np.minimum(lanes / THREADS_PER_WARP, 1.0),
        _Group.WAITING: 1 - np.maximum(compute, memory),
    }


def _shares(limits: Limits) -> dict[Part, Range]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        small, tail = _small_grid(limits), _tail(limits)
        # A small grid and a tail leave multiprocessors idle, too: that is counted there already.
        free = ~((small[1] > 0) | (tail[1] > 0))
        return {
            Part.IDLE_LANES: _idle_lanes(limits),
            Part.UNCOALESCED: _uncoalesced(limits),
            Part.BANK_CONFLICTS: _bank_conflicts(limits),
            **_roofs(limits),
            Part.SMALL_GRID: small,
            Part.TAIL: tail,
            Part.IMBALANCE: _where(free, _imbalance(limits)),
            Part.FP64: _fp64(limits),
            Part.TENSOR: _tensor(limits),
            Part.OCCUPANCY: _where(free, _occupancy(limits)),
            Part.LATENCY: _latency(limits),
        }


def _where(condition: Array, share: Range) -> Range:
    low, high = (np.where(condition | np.isnan(s), s, 0.0) for s in share)
    return low, high


def _weighed(loss: Array, own: Array, other: Array) -> Range:
    """Return a loss of instructions or bytes as a share of time.

    Args:
        loss: Part of the instructions or bytes that are in vain.
        own: How busy what they use is.
        other: How busy the other side is, compute or memory.
    """
    busiest = np.fmax(own, other)
    high = np.where(np.isnan(busiest) | (busiest <= 0), 1.0, own / busiest)
    return loss * np.nan_to_num(own), loss * np.where(np.isnan(high), 1.0, high)


def _capped(share: Range, *busy: Array) -> Range:
    """Return a share of time that leaves what other parts were busy for; unknown ones are free."""
    room = 1 - np.nan_to_num(np.stack(busy)).max(axis=0)
    return np.minimum(share[0], room), np.minimum(share[1], room)


def _idle_lanes(limits: Limits) -> Range:
    lanes = limits.lanes
    idle = np.where(lanes < FEW_LANES, 1 - lanes / THREADS_PER_WARP, lanes * 0)
    # Full warps move as many bytes, though in fewer instructions.
    return _capped(_weighed(idle, limits.compute, limits.memory_at_least), limits.dram, limits.l2)


def _uncoalesced(limits: Limits) -> Range:
    near, far = wasted_sectors(limits)
    least, most = _kept_dram_bytes(limits)
    l2 = np.where(np.isnan(limits.l2), limits.memory_at_least, limits.l2)
    low, _ = _weighed(near, l2, limits.compute)
    _, high = _weighed(far, limits.memory, limits.compute)
    low, _ = _capped((low, low), limits.compute, limits.dram * most)
    _, high = _capped((high, high), limits.compute, limits.dram * least)
    return low, high


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _kept_dram_bytes(limits: Limits) -> Range:
    """Return the least and largest part of device memory's bytes that coalescing leaves.

    Sectors that L2 serves twice were fetched from device memory once: coalescing saves there only
    what is fetched beyond the need, and no larger part than of the sectors.
    """
    far = np.nan_to_num(wasted_sectors(limits)[1])
    needed = SECTOR_BYTES * limits.sectors[1] / limits.counters.total(*DRAM_BYTES)
    known = np.clip(needed, 1 - far, 1.0)
    return np.where(np.isnan(known), 1 - far, known), np.where(np.isnan(known), 1.0, known)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def wasted_sectors(limits: Limits) -> Range:
    """Return the least and largest part of the sectors of global accesses that are in vain.

    Both are equal where the tool counted what each instruction needs; else they come from the
    bytes that a sector is used for, or from sectors per request, whose need depends on how many
    bytes a thread reads.
    """
    actual, ideal = limits.sectors
    exact = np.where(actual > 0, 1 - ideal / actual, np.where(actual == 0, 0.0, np.nan))
    counters = limits.counters
    sectors = [counters.metric(ACCESS.format("sectors", op)) for op in ("ld", "st")]
    requests = counters.total(*(ACCESS.format("requests", op) for op in ("ld", "st")))
    used = [counters.metric(PER_SECTOR.format(op)) / SECTOR_BYTES for op in ("ld", "st")]
    weights = np.nan_to_num(np.where(np.stack(used) > 0, np.stack(sectors), 0.0))
    mean_used = (np.nan_to_num(np.stack(used)) * weights).sum(axis=0) / weights.sum(axis=0)
    per_request = np.nansum(np.stack(sectors), axis=0) / requests
    near = far = np.where(np.isnan(exact) & (requests == 0), 0.0, exact)  # accesses nothing
    for least, most in (
        (1 - mean_used, 1 - mean_used),
        (1 - FAR_SECTORS / per_request, 1 - NEAR_SECTORS / per_request),
    ):
        unknown = np.isnan(near)
        near, far = np.where(unknown, least, near), np.where(unknown, most, far)
    return np.clip(near, 0, 1), np.clip(far, 0, 1)


def _bank_conflicts(limits: Limits) -> Range:
    ratio = conflict_ratio(limits)
    loss = np.where(ratio >= MIN_CONFLICTS, ratio, ratio * 0)
    busy = np.clip(limits.counters.metric(*SHARED_PCT) / 100, 0, 1)
    low = loss * np.where(np.isnan(busy), np.nan_to_num(limits.memory_at_least), busy)
    share = low, _weighed(loss, limits.memory, limits.compute)[1]
    return _capped(share, limits.compute, limits.dram, limits.l2)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def conflict_ratio(limits: Limits) -> Array:
    """Return the part of shared-memory wavefronts that only bank conflicts made necessary."""
    counters = limits.counters
    conflicts, wavefronts = counters.total(*CONFLICTS), counters.total(*WAVEFRONTS)
    alone = np.isnan(conflicts) | np.isnan(wavefronts)
    conflicts = np.where(alone, counters.metric(ALL_CONFLICTS), conflicts)
    wavefronts = np.where(alone, counters.metric(ALL_WAVEFRONTS), wavefronts)
    ratio = np.where(wavefronts > 0, conflicts / wavefronts, conflicts * 0)
    return np.clip(ratio, 0, 1)


def _roofs(limits: Limits) -> dict[Part, Range]:
    """Return the time at the limit of a memory: what only moving fewer bytes wins back.

    At least nothing, for each byte may be needed; at most what the memory would be busy beyond
    compute once accesses are coalesced.
    """
    levels = {Part.DRAM: limits.dram, Part.L2: limits.l2, Part.L1: limits.l1}
    stacked = np.stack([np.nan_to_num(level) for level in levels.values()])
    first = stacked.argmax(axis=0)
    kept = {
        Part.DRAM: _kept_dram_bytes(limits)[1],
        Part.L2: 1 - np.nan_to_num(wasted_sectors(limits)[0]),
        Part.L1: np.ones(len(limits.counters)),
    }
    roofs = {}
    for place, (part, level) in enumerate(levels.items()):
        at_roof = (level >= AT_ROOF) & (first == place)
        beyond = np.maximum(level * kept[part] - np.nan_to_num(limits.compute), 0)
        roofs[part] = (level * 0, np.where(at_roof, beyond, level * 0))
    return roofs


def _small_grid(limits: Limits) -> Range:
    per_sm = limits.blocks_per_sm
    high = np.where(per_sm < 1, 1 - per_sm, per_sm * 0)
    return high * 0, high


def _tail(limits: Limits) -> Range:
    waves = limits.waves
    whole = np.floor(waves)
    reached = limits.achieved / limits.theoretical
    is_tail = (whole >= 1) & (whole <= MAX_TAIL_WAVES) & (waves > whole)
    is_tail &= ~(reached >= TAIL_OCCUPANCY)  # also where occupancy is not known
    high = np.where(is_tail, 1 - waves / np.ceil(waves), waves * 0)
    return high * 0, high


def _imbalance(limits: Limits) -> Range:
    mean, longest = (limits.counters.metric(f"sm__cycles_active.{s}") for s in ("avg", "max"))
    elapsed = limits.counters.metric(
        "sm__cycles_elapsed.max", "sm__cycles_elapsed.avg", "gpc__cycles_elapsed.max"
    )
    high = (1 - mean / longest) * np.clip(longest / elapsed, 0, 1)
    high = np.where(high >= MIN_IMBALANCE, high, high * 0)
    return high * 0, high


def _fp64(limits: Limits) -> Range:
    fp64 = np.clip(limits.counters.metric(*FP64_PIPE) / 100, 0, 1)
    fp32 = np.nan_to_num(np.clip(limits.counters.metric(*FMA_PIPE) / 100, 0, 1))
    saved = 1 - 1 / fp64_ratio(limits)
    high = np.where((fp64 > FP64_BUSY) & (fp32 < FP32_BUSY), fp64 * saved, fp64 * 0)
    return _capped((high * 0, high), limits.memory_at_least)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def fp64_ratio(limits: Limits) -> Array:
    """Return how many times as fast 32-bit arithmetic is on the GPU of each launch."""
    counters = limits.counters
    measured = counters.metric(_PEAK_OPS.format("f")) / counters.metric(_PEAK_OPS.format("d"))
    major, minor = (
        counters.metric(f"device__attribute_compute_capability_{part}")
        for part in ("major", "minor")
    )
    known = zip(np.nan_to_num(major).astype(int), np.nan_to_num(minor).astype(int), strict=True)
    listed = np.array([float(FP64_RATIO.get(key, FEW_FP64_UNITS)) for key in known])
    ratio = np.where(np.isnan(measured), np.where(np.isnan(major), 2.0, listed), measured)
    return np.maximum(ratio, 1.0)


def _tensor(limits: Limits) -> Range:
    counters = limits.counters
    tensor = counters.metric(*TENSOR_PIPE) / 100
    executed = counters.metric(*TENSOR_INSTRUCTIONS)
    tensor = np.where(np.isnan(tensor), np.where(executed > 0, 1.0, executed), tensor)
    fma = np.clip(counters.metric(*FMA_PIPE) / 100, 0, 1)
    capability = counters.metric(
        "device__attribute_compute_capability_major"
    ) + 0.1 * np.nan_to_num(counters.metric("device__attribute_compute_capability_minor"))
    half = _fused_share(counters, "h") >= FUSED_SHARE
    single = _fused_share(counters, "f") >= FUSED_SHARE
    able = (half & (capability >= FIRST_TENSOR_FP16)) | (single & (capability >= FIRST_TENSOR_FP32))
    multiplies = np.array([bool(_PRODUCT.search(n)) for n in counters.profiled["name"]], dtype=bool)
    eligible = able & multiplies & (tensor < TENSOR_IDLE)
    high = np.where(eligible, fma * TENSOR_GAIN, fma * 0)
    return _capped((high * 0, np.where(np.isnan(tensor), np.nan, high)), limits.memory_at_least)


def _fused_share(counters: Counters, kind: str) -> Array:
    """Return the part of floating-point instructions that are fused multiply-adds."""
    name = "smsp__sass_thread_inst_executed_op_{}{}_pred_on.sum"
    ops = {}
    for op in ("fma", "add", "mul"):
        plain = name.format(kind, op)
        ops[op] = counters.metric(plain, f"{plain}.per_cycle_elapsed", f"sm{plain[4:]}")
    every = np.nan_to_num(np.stack(list(ops.values()))).sum(axis=0)
    return np.where(every > 0, np.nan_to_num(ops["fma"]) / every, 0.0)


def _occupancy(limits: Limits) -> Range:
    achieved, theoretical = limits.achieved, limits.theoretical
    gap = np.where(theoretical - achieved > OCCUPANCY_GAP, 1 - achieved / theoretical, 0.0)
    few = np.where(achieved < LOW_OCCUPANCY, 1 - achieved / ENOUGH_OCCUPANCY, 0.0)
    wanting = np.where(np.isnan(achieved), np.nan, np.fmax(gap, few))
    # More warps cannot win back more than what keeps the busiest part from its peak.
    busiest = np.nan_to_num(np.fmax(limits.compute, limits.memory_at_least))
    high = np.where(busiest < AT_ROOF, np.minimum(wanting, 1 - busiest), wanting * 0)
    return high * 0, high


def _latency(limits: Limits) -> Range:
    busiest = np.fmax(limits.compute, limits.memory)
    known = ~(np.isnan(limits.compute) | np.isnan(limits.memory))
    high = np.where(known & (busiest < BUSY), 1 - busiest / BUSY, busiest * 0)
    return high * 0, np.where(known, high, np.nan)


@functools.lru_cache(maxsize=4)
def account_of(counters: Counters) -> Inside:
    """Return the account of a recording that holds counters only: each launch counts once."""
    return account(counters, np.maximum(counters.profiled["duration_ns"].to_numpy(), 0))
