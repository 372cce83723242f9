"""What a simulated machine costs: latencies, bandwidths, places in a queue."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

LAUNCH_LATENCY_NS = 2_000  # from the queue to the device


DEVICE_GAP_NS = 1_000  # the device's own pause between two operations of a stream


WAKE_UP_NS = 3_000  # until a thread runs again that waited for the device


QUEUE_PLACES = 1_000  # a launch call blocks while so many operations of its stream wait


STAGING_BYTES_PER_NS = 10  # the host copies pageable memory into pinned buffers this fast


BUS_BYTES_PER_NS = 24


FAULT_NS = 25_000  # from a page that is not there to the begin of its migration


FAULT_BYTES = 262_144  # what the driver brings for one fault: the page, and what lies around it


PREFETCH_BYTES = 2_097_152  # what it brings at a time when it is asked in advance


START_NS = 1_000_000_000  # a program imports and allocates first


@dataclass(frozen=True)
class Rules:
    """What costs time. Each cause of the ledger is one rule, so that it can be taken away."""

    launch: bool = True  # calls, dispatching, latency and the device's pauses
    sync: bool = True  # waits block the host, and copies do as CUDA documents it
    bandwidth: bool = True  # copies and memsets take time
    host: bool = True  # input, locks, garbage collection
    communication: bool = True  # collectives take time
    memory: bool = True  # allocating and freeing, loading modules
    dependency: bool = True  # streams wait for events

    def without(self, cause: str) -> Rules:
        """Return the rules with one cause taken away."""
        return dataclasses.replace(self, **{cause: False})
