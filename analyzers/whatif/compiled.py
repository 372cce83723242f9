"""The replay's loop, compiled: worth its second of compiling for large recordings only.

Compiled code is kept on disk only where a folder for it was set (``numba.config.CACHE_DIR``)
before this module is imported; the folder beside the sources may not be writable.
"""

from __future__ import annotations

import numba

from analyzers.whatif import loop

# Under mypy numba's decorator has no type, and its configuration no names.
replay = numba.njit(cache=bool(numba.config.CACHE_DIR), nogil=True)(loop.replay)  # type: ignore[attr-defined]
