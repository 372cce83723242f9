"""What is lost inside kernels: estimates from counters, each nanosecond claimed at most once.

Each estimate is a part of a launch's time, between a low and a high value. Those that split the
ledger (idle lanes, memory) are booked at the middle; the others, which are about how the launch
fills the GPU, claim their high value, what could be won back at most. They are served in the order
of ``Part``: what comes later gets only what is left of the launch, and the middle is that between
its low value and what is left of its high one.

How much a loss weighs depends on what the launch is bound by. With ``c`` and ``m`` the parts of
peak compute and memory throughput, a loss of instructions weighs between ``c`` (only the time in
which issuing was busy) and ``c / max(c, m)`` (all of it, unless memory is busier); a loss of bytes
between ``m`` and ``m / max(c, m)``, less at least for sectors in vain: what is left takes its
fixed time, and 85 % of the peak. A kernel that is bound by the other one gains little. And no
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
import re
from dataclasses import dataclass

import numpy as np

from analyzers.counters.atomics import atomics
from analyzers.counters.limits import SECTOR_BYTES, LaunchLimits, Range
from analyzers.facts.counters import Counters
from analyzers.finding import Row
from analyzers.intervals import Array
from analyzers.metric_names import (
    AT_ROOF,
    BUSY,
    DRAM_BYTES,
    FEW_LANES,
    FMA_PIPE,
    FP64_PIPE,
    OCCUPANCY_GAP,
    ROW_OF_PART,
    SHARED_PCT,
    SHORTEST_KERNEL_NS,
    TENSOR_INSTRUCTIONS,
    TENSOR_PIPE,
    THREADS_PER_WARP,
    Part,
)
from common.memo import memo

MIN_CONFLICTS = 0.10  # of the accesses' wavefronts; fewer cost less than reading about them
MAX_TAIL_WAVES = 4  # full waves; after more, the last one costs less than a fifth
TAIL_OCCUPANCY = 0.80  # of what is possible; a tail that matters shows in achieved occupancy
MIN_IMBALANCE = 0.05
LOW_OCCUPANCY = 0.25  # below a quarter of the warps, waiting is rarely hidden
ENOUGH_OCCUPANCY = 0.50  # from half of them on, more warps rarely help
FP64_BUSY, FP32_BUSY = 0.15, 0.60  # of their peaks
FUSED_SHARE = 0.80  # of floating-point instructions, in a kernel that multiplies matrices
TENSOR_IDLE = 0.01  # of the tensor pipe's peak
# An empty launch takes 2 to 3 µs in Nsight Compute, and one trip to device memory most of one.
FIXED_NS = 3_000

# Kernels that only move data reach 85 to 93 % of a memory's peak (BabelStream on V100 to H100). Two
# of four measured pairs won 7 and 15 % less than the least that counting sectors alone promised.
REACHED = 0.85

TENSOR_GAIN = 0.5  # tensor cores take at least twice as many products per clock
FIRST_TENSOR_FP32, FIRST_TENSOR_FP16 = 8.0, 7.0  # compute capability


_PRODUCT = re.compile(r"gemm|matmul|mm_|conv|wgrad|dgrad|attention|linear|tiling", re.IGNORECASE)


class _LossGroup(enum.Enum):
    """Parts that win back the same time, so that their sum has a limit of its own."""

    LEDGER = enum.auto()
    WAITING = enum.auto()


_GROUP = {
    **dict.fromkeys(ROW_OF_PART, _LossGroup.LEDGER),
    **dict.fromkeys(
        (Part.SMALL_GRID, Part.TAIL, Part.IMBALANCE, Part.OCCUPANCY, Part.LATENCY),
        _LossGroup.WAITING,
    ),
}


@dataclass(frozen=True, eq=False)
class Inside:
    """The account of the time inside profiled launches.

    Attributes:
        limits: What counters say about each launch.
        ns: Time of each profiled launch that is accounted for.
        low_ns: Smallest loss, by part and launch.
        booked_ns: Loss that is claimed; over all parts never more than ``ns``.
        high_ns: Largest loss.
        counted: Whether counters tell the loss at all.
    """

    limits: LaunchLimits
    ns: Array
    low_ns: Array
    booked_ns: Array
    high_ns: Array
    counted: Array

    def counted_share(self, *parts: Part) -> float:
        """Return the part of the time, 0 to 1, in launches that tell any of these parts."""
        counted = self.counted[list(parts)].any(axis=0)
        return float(self.ns[counted].sum() / max(int(self.ns.sum()), 1))

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
    limits = LaunchLimits(counters)
    shares = _shares(limits)
    size = (len(Part), len(counters))
    low, booked, high = (np.zeros(size, np.int64) for _ in range(3))
    counted = np.zeros(size, dtype=bool)
    left = ns.astype(np.int64)
    room = {group: _part_of(ns, share) for group, share in _rooms(limits).items()}
    whole = dict(room)
    for part in Part:
        group = _GROUP.get(part)
        least, most = (_part_of(ns, share) for share in shares[part])
        most = np.minimum(most, whole[group]) if group else most
        counted[part] = ~np.isnan(shares[part][1])
        at_most = np.minimum(most, np.minimum(left, room[group]) if group else left)
        low[part], high[part] = np.minimum(least, at_most), most
        booked[part] = (low[part] + at_most) // 2 if part in ROW_OF_PART else at_most
        left = left - booked[part]
        if group:
            room[group] = room[group] - booked[part]
    return Inside(limits, ns, low, booked, high, counted)


def _part_of(ns: Array, share: Array) -> Array:
    """Return whole nanoseconds of a share of each launch; nothing where it is not known."""
    part: Array = (ns * np.nan_to_num(np.clip(share, 0.0, 1.0))).astype(np.int64)
    return part


def _rooms(limits: LaunchLimits) -> dict[_LossGroup, Array]:
    """Return what the parts of a group win back together at most; unknown ones keep nothing busy.

    Memory that moves no bytes and full warps leave the instructions that do something useful.
    Waiting that is hidden leaves what the busiest side of the GPU was busy for. Neither makes a
    launch shorter than any launch is.
    """
    beyond = np.nan_to_num(1 - SHORTEST_KERNEL_NS / limits.duration_ns, nan=1.0).clip(0, 1)
    compute, memory = np.nan_to_num(limits.compute), np.nan_to_num(limits.memory_at_least)
    lanes = np.nan_to_num(limits.lanes, nan=float(THREADS_PER_WARP))
    arithmetic = np.nan_to_num(limits.arithmetic)
    return {
        _LossGroup.LEDGER: np.minimum(
            1 - arithmetic * np.minimum(lanes / THREADS_PER_WARP, 1.0), beyond
        ),
        _LossGroup.WAITING: np.minimum(1 - np.maximum(compute, memory), beyond),
    }


def _shares(limits: LaunchLimits) -> dict[Part, Range]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        small, tail = _small_grid(limits), _tail(limits)
        serial = atomics(limits)
        # A small grid and a tail leave multiprocessors idle, too: that is counted there already.
        free = ~((small[1] > 0) | (tail[1] > 0))
        waits_alone = ~(serial[1] > 0)  # warps that wait for atomics are counted there
        return {
            Part.IDLE_LANES: _idle_lanes(limits),
            Part.UNCOALESCED: _uncoalesced(limits),
            Part.BANK_CONFLICTS: _bank_conflicts(limits),
            **_roofs(limits),
            Part.ATOMICS: serial,
            Part.SMALL_GRID: small,
            Part.TAIL: tail,
            Part.IMBALANCE: _where(free, _imbalance(limits)),
            Part.FP64: _fp64(limits),
            Part.TENSOR: _tensor(limits),
            Part.OCCUPANCY: _where(free & waits_alone, _occupancy(limits)),
            Part.LATENCY: _where(waits_alone, _latency(limits)),
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


def _idle_lanes(limits: LaunchLimits) -> Range:
    lanes = limits.lanes
    idle = np.where(lanes < FEW_LANES, 1 - lanes / THREADS_PER_WARP, lanes * 0)
    low, high = _weighed(idle, limits.compute, limits.memory_at_least)
    # Lanes that no thread of the block is for idle in every unit and in every wait alike.
    empty = 1 - limits.filled_lanes / THREADS_PER_WARP
    high = np.where((empty > 0) & ~np.isnan(high), np.fmax(high, np.fmin(idle, empty)), high)
    # Full warps move as many bytes, though in fewer instructions.
    dram, l2, _, _ = limits.levels
    return _capped((low, high), dram, l2)


def _uncoalesced(limits: LaunchLimits) -> Range:
    near, far = limits.wasted_sectors
    least, most = _kept_dram_bytes(limits)
    dram, l2, _, _ = limits.levels
    l2 = np.where(np.isnan(l2), limits.memory_at_least, l2)
    low, _ = _weighed(near, l2, limits.compute)
    _, high = _weighed(far, limits.memory, limits.compute)
    low, _ = _capped((low, low), limits.compute, dram * most)
    _, high = _capped((high, high), limits.compute, dram * least)
    return _as_reached(low, limits), high


def _as_reached(share: Array, limits: LaunchLimits) -> Array:
    """Return a least share of time under which what is left runs no faster than such kernels do.

    Sectors in vain are saved, but what is left has to start, to fill and to drain the GPU once
    more, and reaches only a part of the peak that counters are percentages of.
    """
    duration = limits.duration_ns
    fixed = np.where(duration > 0, np.minimum(FIXED_NS / np.fmax(duration, 1), 1), 0.0)
    reached: Array = np.maximum(1 - fixed - (1 - fixed) * (1 - share) / REACHED, share * 0)
    return reached


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _kept_dram_bytes(limits: LaunchLimits) -> Range:
    """Return the least and largest part of device memory's bytes that coalescing leaves.

    Sectors that L2 serves twice were fetched from device memory once: coalescing saves there only
    what is fetched beyond the need, and no larger part than of the sectors.
    """
    far = np.nan_to_num(limits.wasted_sectors[1])
    needed = SECTOR_BYTES * limits.sectors[1] / limits.counters.total(*DRAM_BYTES)
    kept = np.clip(needed, 1 - far, 1.0)
    return np.where(np.isnan(kept), 1 - far, kept), np.where(np.isnan(kept), 1.0, kept)


def _bank_conflicts(limits: LaunchLimits) -> Range:
    ratio = limits.conflict_ratio
    loss = np.where(ratio >= MIN_CONFLICTS, ratio, ratio * 0)
    busy = np.clip(limits.counters.metric(*SHARED_PCT) / 100, 0, 1)
    low = loss * np.where(np.isnan(busy), np.nan_to_num(limits.memory_at_least), busy)
    share = low, _weighed(loss, limits.memory, limits.compute)[1]
    dram, l2, _, _ = limits.levels
    return _capped(share, limits.compute, dram, l2)


def _roofs(limits: LaunchLimits) -> dict[Part, Range]:
    """Return the time at the limit of a memory: what only moving fewer bytes wins back.

    At least nothing, for each byte may be needed; at most what the memory would be busy beyond
    compute once accesses are coalesced. It is booked to one level: the one that the reported
    memory throughput is nearest to. Load and store instructions are part of what compute is busy
    with: what counts is how busy they are beyond arithmetic.
    """
    parts = (Part.DRAM, Part.L2, Part.L1, Part.LOAD_STORE)
    kept = np.ones((len(parts), len(limits.counters)))
    kept[0] = _kept_dram_bytes(limits)[1]
    kept[1] = 1 - np.nan_to_num(limits.wasted_sectors[0])
    floors = (limits.compute, limits.compute, limits.compute, limits.arithmetic)
    roofs = {}
    for place, (part, level) in enumerate(zip(parts, limits.levels, strict=True)):
        at_roof = (level >= AT_ROOF) & (limits.nearest_level == place)
        # What else compute does is known wherever compute is; without it, loads may be needed.
        floor = floors[place] if part is Part.LOAD_STORE else np.nan_to_num(floors[place])
        beyond = np.maximum(level * kept[place] - floor, 0)
        roofs[part] = (level * 0, np.where(at_roof | np.isnan(beyond), beyond, level * 0))
    return roofs


def _small_grid(limits: LaunchLimits) -> Range:
    per_sm = limits.blocks_per_sm
    high = np.where(per_sm < 1, 1 - per_sm, per_sm * 0)
    return high * 0, high


def _tail(limits: LaunchLimits) -> Range:
    waves = limits.waves
    whole = np.floor(waves)
    reached = limits.achieved / limits.theoretical
    is_tail = (whole >= 1) & (whole <= MAX_TAIL_WAVES) & (waves > whole)
    is_tail &= ~(reached >= TAIL_OCCUPANCY)  # also where occupancy is not known
    high = np.where(is_tail, 1 - waves / np.ceil(waves), waves * 0)
    return high * 0, high


def _imbalance(limits: LaunchLimits) -> Range:
    mean, longest = (limits.counters.metric(f"sm__cycles_active.{s}") for s in ("avg", "max"))
    elapsed = limits.counters.metric(
        "sm__cycles_elapsed.max", "sm__cycles_elapsed.avg", "gpc__cycles_elapsed.max"
    )
    high = (1 - mean / longest) * np.clip(longest / elapsed, 0, 1)
    high = np.where(high >= MIN_IMBALANCE, high, high * 0)
    return high * 0, high


def _fp64(limits: LaunchLimits) -> Range:
    fp64 = np.clip(limits.counters.metric(*FP64_PIPE) / 100, 0, 1)
    fp32 = np.nan_to_num(np.clip(limits.counters.metric(*FMA_PIPE) / 100, 0, 1))
    saved = 1 - 1 / limits.fp64_ratio
    high = np.where((fp64 > FP64_BUSY) & (fp32 < FP32_BUSY), fp64 * saved, fp64 * 0)
    return _capped((high * 0, high), limits.memory_at_least)


def _tensor(limits: LaunchLimits) -> Range:
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


def _occupancy(limits: LaunchLimits) -> Range:
    achieved, theoretical = limits.achieved, limits.theoretical
    gap = np.where(theoretical - achieved > OCCUPANCY_GAP, 1 - achieved / theoretical, 0.0)
    few = np.where(achieved < LOW_OCCUPANCY, 1 - achieved / ENOUGH_OCCUPANCY, 0.0)
    wanting = np.where(np.isnan(achieved), np.nan, np.fmax(gap, few))
    # More warps cannot win back more than what keeps the busiest part from its peak.
    busiest = np.nan_to_num(np.fmax(limits.compute, limits.memory_at_least))
    high = np.where(busiest < AT_ROOF, np.minimum(wanting, 1 - busiest), wanting * 0)
    return high * 0, high


def _latency(limits: LaunchLimits) -> Range:
    busiest = np.fmax(limits.compute, limits.memory)
    both_counted = ~(np.isnan(limits.compute) | np.isnan(limits.memory))
    high = np.where(both_counted & (busiest < BUSY), 1 - busiest / BUSY, busiest * 0)
    return high * 0, np.where(both_counted, high, np.nan)


@memo(4)
def account_of(counters: Counters) -> Inside:
    """Return the account of a recording that holds counters only: each launch counts once."""
    return account(counters, np.maximum(counters.profiled["duration_ns"].to_numpy(), 0))
