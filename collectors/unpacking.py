"""How far a packed file may unfold, counted while it does: kilobytes can hold gigabytes."""

from __future__ import annotations

import os
from typing import NamedTuple

from collectors.errors import EnvironmentFailedError, RefusedError

RATIO_VARIABLE, MAX_RATIO = "WHYSLOW_LIMIT_GZIP_RATIO", 200.0  # honest recordings: 10 to 40
ALWAYS_ALLOWED_BYTES = 64 << 20  # of any file: a small trace of one kernel packs very well


class SizeSetting(NamedTuple):
    """The environment variable that says how many GB may come out, and its default."""

    variable: str
    gigabytes: float


class UnpackingLimit:
    """Counts what comes out of one packed file."""

    def __init__(self, name: str, packed_bytes: int, size: SizeSetting) -> None:
        """Read the settings.

        Args:
            name: What messages call the file.
            packed_bytes: How large it is, packed.
            size: How large it may become.

        Raises:
            EnvironmentFailedError: A setting is no number.
        """
        self._name, self._packed = name, packed_bytes
        self._ratio = _setting(RATIO_VARIABLE, MAX_RATIO)
        self._variable, self._gigabytes = size.variable, _setting(*size)
        self._out = 0

    def add(self, size: int) -> None:
        """Count bytes that came out.

        Raises:
            RefusedError: It is more than a recording of that size unpacks to.
        """
        self._out += size
        if self._out <= ALWAYS_ALLOWED_BYTES:
            return
        if self._out > self._ratio * self._packed:
            raise RefusedError(
                f"{self._name}: unpacks to more than {self._ratio:g} times its size "
                f"({RATIO_VARIABLE}), which no recording does. Record again"
            )
        if self._out > self._gigabytes * (1 << 30):
            raise RefusedError(
                f"{self._name}: unpacks to more than {self._gigabytes:g} GB ({self._variable}). "
                "Set a higher limit, or record fewer steps"
            )


def _setting(variable: str, default: float) -> float:
    try:
        value = float(os.environ.get(variable) or default)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1e9:
        raise EnvironmentFailedError(f"{variable}: not a number above 0, at most 1e+09")
    return value
