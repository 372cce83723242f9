"""What tests of the ledger share: small recordings, and their bookings in microseconds."""

import numpy as np

from analyzers.ledger.ledger import Detail
from collectors.schema import MemoryKind

NOT_READY = 600  # what a query returns until the device has come to the point asked about
PAGEABLE = {"source_kind": MemoryKind.PAGEABLE}


def booked(ledger, device=0):
    """Rows of one device that are not 0, in µs."""
    rows = ledger.devices[device].rows
    return {row.value: ns / 1_000 for row, ns in rows.items() if ns}


def details(ledger):
    """Details of the idle time, in µs."""
    segments = ledger.segments[ledger.segments["detail"] != Detail.NONE]
    lengths = (segments["end_ns"] - segments["start_ns"]) / 1_000
    return {Detail(d).name: ns for d, ns in lengths.groupby(segments["detail"]).sum().items()}


def launched(start_us, duration_us, **more):
    """Kernels numbered 1, 2, 3 … on one stream."""
    number = np.arange(1, len(start_us) + 1)
    return {"start_us": start_us, "duration_us": duration_us, "correlation_id": number, **more}


def calls(*rows, **more):
    """API calls as (name, begin µs, end µs, correlation id)."""
    name, start, end, number = zip(*rows, strict=True)
    return {"name": name, "start_us": start, "end_us": end, "correlation_id": number, **more}
