"""Streams as small numbers: what runs on one of them runs in order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyzers.intervals import Array


def stream_codes(launches: pd.DataFrame) -> Array:
    """Return a number from 0 for each combination of process, device and stream.

    Args:
        launches: Rows with ``process_index``, ``device`` and ``stream``.

    Returns:
        One for each row; 16 bits wide where that is enough, which are sorted much faster.
    """
    stream, streams = pd.factorize(launches["stream"].to_numpy())
    device = launches["device"].to_numpy().astype(np.int64)
    process = launches["process_index"].to_numpy().astype(np.int64)
    place = process * (device.max(initial=0) + 2) + device
    codes, unique = pd.factorize(place * max(len(streams), 1) + stream)
    narrow: Array = codes.astype(np.uint16) if len(unique) < 1 << 16 else codes
    return narrow
