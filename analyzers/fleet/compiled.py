"""The replay's loop, compiled: a job is replayed some hundred times.

Compiled code is kept on disk only where a folder for it was set (``numba.config.CACHE_DIR``)
before this module is imported; the folder beside the sources may not be writable.
"""

from __future__ import annotations

import numba


# Under mypy numba's decorator has no type, and its configuration no names.
@numba.njit(cache=bool(numba.config.CACHE_DIR), nogil=True)  # type: ignore[attr-defined]
def replay(order, previous, first_operation, first_peer, peers, durations, begins, ends):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, PLR0913, PLR0917
    """Fill in when each call begins and ends.

    Args:
        order: Calls, each after those before any that takes part in it.
        previous: The call of the same rank before each, -1 for none.
        first_operation: Place of each call's first operation, and one more for the end.
        first_peer: Place of each operation's first peer in ``peers``, and one more for the end.
        peers: Calls that take part in operations.
        durations: Of each operation, once all are there.
        begins: Begin of each call, filled in.
        ends: End of each call, filled in.
    """
    for i in range(len(order)):
        call = order[i]
        end = begins[call]
        for operation in range(first_operation[call], first_operation[call + 1]):
            begin = begins[call]
            for peer in range(first_peer[operation], first_peer[operation + 1]):
                before = previous[peers[peer]]
                if before >= 0 and ends[before] > begin:
                    begin = ends[before]
            end = max(end, begin + durations[operation])
        ends[call] = end
        if call + 1 < len(order) and previous[call + 1] == call:
            begins[call + 1] = end
