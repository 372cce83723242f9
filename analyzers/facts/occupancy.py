"""Theoretical occupancy: how many warps of a launch one multiprocessor could hold at a time.

The state of what limits it is public: the CUDA programming guide's table of technical
specifications per compute capability, and the occupancy calculator. In words: a multiprocessor
takes whole blocks until it runs out of block slots, warp slots, registers or shared memory.
Registers are handed out to warps in units; warps come in groups, one for each of the four
schedulers. Shared memory is handed out to blocks in units, of which the system keeps some since
compute capability 8.

The result assumes the largest split of the common memory in favour of shared memory, which the
driver chooses when a kernel needs it: an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analyzers.facts.facts import UNKNOWN, Facts
from analyzers.intervals import Array
from analyzers.words import enumerated
from collectors.schema import LAUNCH_SHAPE
from common.memo import memo

THREADS_PER_WARP = 32
REGISTER_UNIT = 256  # registers are handed out to a warp in multiples of it
WARP_UNIT = 4  # warps by registers are counted per scheduler, and there are four
MAX_REGISTERS_PER_BLOCK = 65_536  # some older multiprocessors have more, for several blocks
FIRST_KNOWN_MAJOR = 3  # before it, registers were handed out to blocks, by other units
RESERVING_MAJOR = 8  # from here on the system keeps shared memory, and the unit is smaller
SYSTEM_SHARED_BYTES = 1_024  # per block
SHARED_UNIT_BYTES, SHARED_UNIT_BYTES_BEFORE = 128, 256
PLENTY = 1 << 40  # blocks: a resource that is not used does not limit

RESOURCES = ("registers", "shared memory", "block size", "blocks")
LIMITERS = tuple(
    enumerated([word for bit, word in enumerate(RESOURCES) if mask >> bit & 1])
    for mask in range(1 << len(RESOURCES))
)
"""What limits occupancy, by a bit for each of ``RESOURCES``: several may end at the same number of
blocks. The first means nothing does, or that it is not known."""


class Occupancy(NamedTuple):
    """One value for each launch configuration.

    Attributes:
        pct: Warps that fit, in percent of the warps a multiprocessor can hold; -1 unknown.
        limiter: Place in ``LIMITERS``; 0 also when every warp slot is used.
        blocks_per_sm: Blocks that fit on one multiprocessor; -1 unknown.
    """

    pct: Array
    limiter: Array
    blocks_per_sm: Array


def theoretical_occupancy(
    threads: Array, registers: Array, shared_bytes: Array, device: Array, devices: pd.DataFrame
) -> Occupancy:
    """Return the occupancy of launch configurations.

    Args:
        threads: Threads of a block.
        registers: Registers of a thread.
        shared_bytes: Shared memory of a block, static and dynamic.
        device: Row in ``devices``.
        devices: The properties of each device, as ``Facts.devices`` has them.

    Returns:
        One value per configuration. Whatever is unknown makes the result unknown, and so does
        a block that does not fit at all: it ran, so the numbers cannot be right.
    """
    of = {c: devices[c].to_numpy()[device].astype(np.int64) for c in _LIMITS}
    warps = -(-threads // THREADS_PER_WARP)
    safe_warps = np.maximum(warps, 1)
    limits = np.stack(
        [
            _by_registers(registers, safe_warps, of["max_registers_per_sm"]),
            _by_shared(shared_bytes, of["compute_major"], of["max_shared_bytes_per_sm"]),
            of["max_warps_per_sm"] // safe_warps,
            of["max_blocks_per_sm"],
        ]
    )
    blocks = limits.min(axis=0)
    complete = (threads > 0) & (registers >= 0) & (shared_bytes >= 0) & (blocks > 0)
    complete &= of["compute_major"] >= FIRST_KNOWN_MAJOR
    for column in _LIMITS:
        complete &= of[column] > 0
    resident = blocks * safe_warps
    limited = complete & (resident < of["max_warps_per_sm"])
    bits = 1 << np.arange(len(RESOURCES))[:, None]
    mask = np.where(limits == blocks, bits, 0).sum(axis=0)
    return Occupancy(
        np.where(complete, 100.0 * resident / np.maximum(of["max_warps_per_sm"], 1), UNKNOWN),
        np.where(limited, mask, 0).astype(np.int8),
        np.where(complete, blocks, UNKNOWN),
    )


_LIMITS = (
    "compute_major",
    "max_warps_per_sm",
    "max_blocks_per_sm",
    "max_registers_per_sm",
    "max_shared_bytes_per_sm",
)


def _by_registers(registers: Array, warps: Array, max_registers: Array) -> Array:
    per_warp = np.maximum(_rounded_up(registers * THREADS_PER_WARP, REGISTER_UNIT), 1)
    file = np.clip(max_registers, 1, MAX_REGISTERS_PER_BLOCK)
    resident = file // per_warp // WARP_UNIT * WARP_UNIT
    blocks = resident // warps * (max_registers // file)
    return np.where(registers > 0, blocks, PLENTY)


def _by_shared(shared_bytes: Array, major: Array, max_shared: Array) -> Array:
    reserves = major >= RESERVING_MAJOR
    unit = np.where(reserves, SHARED_UNIT_BYTES, SHARED_UNIT_BYTES_BEFORE)
    kept = np.where(reserves, SYSTEM_SHARED_BYTES, 0)
    per_block = _rounded_up(np.maximum(shared_bytes, 0) + kept, unit)
    # What the system keeps limits no block that has none of its own: there is room for all slots.
    return np.where(shared_bytes > 0, max_shared // np.maximum(per_block, 1), PLENTY)


def _rounded_up(values: Array, unit: Array | int) -> Array:
    rounded: Array = -(-values // unit) * unit
    return rounded


@dataclass(frozen=True, eq=False)
class Shapes:
    """The launch configurations of a recording, each listed once.

    Attributes:
        rows: Rows in ``Facts.launches`` of every kernel, communication included; ascending.
        code: Row in ``table`` of each of them.
        table: ``device`` (key), ``grid_blocks``, ``block_threads``, ``registers``,
            ``shared_bytes``, ``occupancy_pct``, ``limiter`` (text), ``blocks_per_wave``: blocks
            that run at a time on the whole device, and ``waves``: how many times that many the
            grid has, as a fraction. -1 where the recording is silent.
    """

    rows: Array
    code: Array
    table: pd.DataFrame


@memo()
def launch_shapes(facts: Facts) -> Shapes:
    """Return the launch configuration of every kernel of the recording."""
    columns = facts.of_table("kernels", list(LAUNCH_SHAPE))
    rows = columns.index.to_numpy()
    raw = {c: columns[c].to_numpy() for c in LAUNCH_SHAPE}
    device = facts.launches["device"].to_numpy()[rows]
    code, unique = pd.factorize(combined([*raw.values(), device]))
    first = first_of_each(code, len(unique))
    table = _described({c: v[first].astype(np.int64) for c, v in raw.items()})
    table.insert(0, "device", device[first])
    return Shapes(rows, code.astype(np.int32), _with_occupancy(table, facts.devices))


def combined(columns: Sequence[Array]) -> Array:
    """Return numbers that are equal where all columns are: mixed-radix, so without a collision."""
    key, size = np.zeros(len(columns[0]), np.int64), 1
    for values in columns:
        low = int(values.min(initial=0))
        span = int(values.max(initial=0)) - low + 1
        if size * span > np.iinfo(np.int64).max:
            key, unique = pd.factorize(key)
            size = len(unique)
        if span > 1:
            key = key * span + (values.astype(np.int64) - low)
            size *= span
    return key


def first_of_each(code: Array, size: int) -> Array:
    """Return the first place at which each of the numbers 0 to ``size`` - 1 stands in ``code``."""
    first = np.zeros(size, np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]  # of several assignments the last one counts
    return first


def _described(raw: dict[str, Array]) -> pd.DataFrame:
    grid = [raw["grid_x"], raw["grid_y"], raw["grid_z"]]
    block = [raw["block_x"], raw["block_y"], raw["block_z"]]
    shared = [raw["static_shared_bytes"], raw["dynamic_shared_bytes"]]
    return pd.DataFrame(
        {
            "grid_blocks": _if_known(grid, grid[0] * grid[1] * grid[2]),
            "block_threads": _if_known(block, block[0] * block[1] * block[2]),
            "registers": raw["registers_per_thread"],
            "shared_bytes": _if_known(shared, shared[0] + shared[1]),
        }
    )


def _if_known(parts: list[Array], whole: Array) -> Array:
    return np.where(np.min(parts, axis=0) >= 0, whole, UNKNOWN)


def _with_occupancy(table: pd.DataFrame, devices: pd.DataFrame) -> pd.DataFrame:
    device = np.maximum(table["device"].to_numpy(), 0)
    occupancy = theoretical_occupancy(
        table["block_threads"].to_numpy(),
        table["registers"].to_numpy(),
        table["shared_bytes"].to_numpy(),
        device,
        devices,
    )
    sms = devices["sm_count"].to_numpy()[device].astype(np.int64)
    has_wave = (occupancy.blocks_per_sm > 0) & (sms > 0)
    per_wave = np.where(has_wave, occupancy.blocks_per_sm * sms, UNKNOWN)
    grid = table["grid_blocks"].to_numpy()
    waves = np.where(has_wave & (grid > 0), grid / np.maximum(per_wave, 1), UNKNOWN)
    return table.assign(
        occupancy_pct=occupancy.pct,
        limiter=np.array(LIMITERS, dtype=object)[occupancy.limiter],
        blocks_per_wave=per_wave,
        waves=waves,
    )
