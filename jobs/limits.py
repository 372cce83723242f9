"""What one recording may cost, and the exit statuses of a child that reached a limit."""

from __future__ import annotations

import os

import msgspec

from common import platform

GIB = 1 << 30
MAX_LIMIT = 1e9  # GB or seconds; more does not fit into what the system counts with
TIGHT, TIGHT_SHARE = "memory-is-tight", 0.85  # of the address space; the rest goes in one piece

# Exit statuses when not even the answer could be written.
OUT_OF_MEMORY, OUT_OF_SPACE, FILE_TOO_LARGE = 86, 87, 88

# Threads and libraries report a refused reservation in their own words.
_MEMORY_WORDS = (
    "bad_alloc",
    "MemoryError",
    "can't start new thread",
    "annot allocate memory",
    "failed to map segment",
)


def _limit(name: str, default: float) -> float:
    variable = f"WHYSLOW_LIMIT_{name}"
    try:
        value = float(os.environ.get(variable) or default)
    except ValueError:
        value = -1.0
    if not 0 < value <= MAX_LIMIT:
        from collectors.errors import EnvironmentFailedError

        raise EnvironmentFailedError(f"{variable}: not a number above 0, at most {MAX_LIMIT:g}")
    return value


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one recording may cost; each is set by the environment variable in brackets.

    Attributes:
        memory_gb: Address space (``WHYSLOW_LIMIT_MEMORY_GB``, 8). Libraries reserve two to three
            times what they use, so this allows about 3 GB; 8 million rows need 1.5 GB.
        cpu_s: Processor seconds over all threads (``WHYSLOW_LIMIT_CPU_S``, 7,200).
        file_gb: Size of any file that is written (``WHYSLOW_LIMIT_FILE_GB``, 64).
        wall_s: Seconds until an answer (``WHYSLOW_LIMIT_WALL_S``, 3,600); twice what nsys gets.
    """

    memory_gb: float = msgspec.field(default_factory=lambda: _limit("MEMORY_GB", 8.0))
    cpu_s: float = msgspec.field(default_factory=lambda: _limit("CPU_S", 7_200.0))
    file_gb: float = msgspec.field(default_factory=lambda: _limit("FILE_GB", 64.0))
    wall_s: float = msgspec.field(default_factory=lambda: _limit("WALL_S", 3_600.0))


def set_limits(limits: Limits) -> None:
    """Put this process under the limits; its wall time is watched by the parent."""
    platform.limit_memory(int(limits.memory_gb * GIB))
    platform.limit_processor_time(max(1, int(limits.cpu_s)))
    platform.limit_files(int(limits.file_gb * GIB))
    platform.leave_no_core()


def is_tight(limits: Limits) -> bool:
    """Tell whether so much address space is taken that memory is about to run out.

    Raises:
        OSError: That cannot be told now.
    """
    taken = platform.address_space()
    return taken is not None and taken > TIGHT_SHARE * limits.memory_gb * GIB


def names_memory(text: str) -> bool:
    """Tell whether a message or a log says that memory ran out, in the words of any library."""
    return any(word in text for word in _MEMORY_WORDS)
