"""What CUDA functions and kernels do to the host and the device, known by their names.

Names, not the recorded synchronisation type: that number changed its meaning three times between
2020 and 2025, and one of its values mixed a blocking call with one that blocks nothing.
"""

from __future__ import annotations

import enum
import re


class Call(enum.IntEnum):
    """What a host thread is doing inside an API call."""

    OTHER = 0  # queries and settings: part of submitting work
    LAUNCH = 1  # puts a kernel or a graph on a stream and returns
    ENQUEUE = 2  # puts a copy, a memset or an event on a stream and returns
    WAIT = 3  # returns when the device has come to some point
    POLL = 4  # asks whether it has; a loop of these is a wait
    COPY = 5  # copies and returns when that is done
    FREE = 6  # waits for the device, then gives memory back
    ALLOCATE = 7  # takes memory
    SET_UP = 8  # loads modules, creates contexts and streams, builds graphs
    UNNAMED = 9  # the recording has lost its name


# First match wins, so the exceptions stand before the rule.
_CALLS: tuple[tuple[Call, re.Pattern[str]], ...] = tuple(
    (call, re.compile(pattern))
    for call, pattern in (
        (Call.ENQUEUE, r"^(?:cuda|cu|hip)LaunchHostFunc"),  # runs on the host, has no kernel
        (Call.POLL, r"^(?:cuda|cu|hip)(?:Event|Stream)Query$"),
        (Call.WAIT, r"^(?:cuda|cu|hip)\w*Synchronize$"),
        (Call.LAUNCH, r"^(?:cuda|cu|hip)(?:Ext|Module|Graph)*Launch"),
        (Call.LAUNCH, r"^runFunction - job_prep_and_submit"),  # of MTIA
        (Call.ENQUEUE, r"^(?:cuda|cu|hip)Graphics(?:Map|Unmap)Resources"),
        (Call.SET_UP, r"^(?:cuda|cu|hip)Graph(?!ics)"),
        (Call.ALLOCATE, r"^(?:cuda|cu|hip)\w*(?:Malloc|MemAlloc|MemPool|HostAlloc|HostRegister)"),
        (Call.ALLOCATE, r"^(?:cuda|cu|hip)(?:MemCreate|MemMap|MemAddressReserve|MemSetAccess)"),
        (Call.ENQUEUE, r"^(?:cuda|cu|hip)(?:Free|MemFree)Async"),
        (Call.FREE, r"^(?:cuda|cu|hip)(?:\w*Free\w*|HostUnregister|MemHostUnregister|MemUnmap)$"),
        (Call.ENQUEUE, r"^(?:cuda|cu|hip)\w*(?:Memcpy|Memset|MemPrefetch)\w*Async"),
        (Call.ENQUEUE, r"^(?:cuda|cu|hip)\w*Memset"),
        (Call.ENQUEUE, r"^(?:cuda|cu|hip)(?:EventRecord|StreamWaitEvent|StreamAttach)"),
        (Call.COPY, r"^(?:cuda|cu|hip)\w*Memcpy"),
        (
            Call.SET_UP,
            r"^(?:cuda|cu|hip)(?:Module|Library|Link|Kernel)(?:Load|Unload|Create|Get|Add)",
        ),
        (Call.SET_UP, r"^(?:cuda|cu|hip)Stream(?:Begin|End)Capture"),
        (Call.SET_UP, r"^(?:cuda|cu|hip)(?:Ctx|Context|Stream|GreenCtx)(?:Create|Destroy)"),
        (Call.SET_UP, r"^(?:cuInit|hipInit|cuDevicePrimaryCtx\w+|cudaSetDevice|cudaDeviceReset)$"),
        (Call.SET_UP, r"^(?:cuda|cu)(?:FuncGetAttributes|DeviceEnablePeerAccess)"),
        # Intel: Unified Runtime (ur), SYCL's plugins (pi) and Level Zero (ze).
        (Call.WAIT, r"^(?:ur|pi)(?:QueueFinish|Events?Wait)$|^ze\w+Synchronize$"),
        (Call.POLL, r"^zeEventQueryStatus$|^zeFenceQueryStatus$"),
        (Call.LAUNCH, r"^(?:ur|pi)(?:ext)?EnqueueKernelLaunch|^zeCommandListAppendLaunch"),
        (Call.ENQUEUE, r"^(?:ur|pi)(?:ext)?(?:USM)?Enqueue|^zeCommandListAppend"),
        (Call.ALLOCATE, r"^(?:ur|pi)(?:ext)?USM\w*Alloc|^zeMemAlloc|^urMemBufferCreate"),
        (Call.SET_UP, r"^(?:ur|pi)Program(?:Create|Build|Compile|Link)|^zeModuleCreate"),
        (Call.SET_UP, r"^(?:ur|pi|ze)(?:Context|Queue|CommandQueue)(?:Create|Destroy|Release)"),
    )
)

_COMMUNICATION = re.compile(
    r"(?:^|\W)(?:nccl|rccl|msccl|nvshmem)"  # libraries of collectives
    r"|cross_device_reduce|(?:one|two)_shot_all_reduce|multimem_all_reduce",  # hand-written ones
    re.IGNORECASE,
)


def classify(function: str) -> Call:
    """Return what a thread does inside ``function`` (version suffix stripped)."""
    if not function or function.startswith("("):  # "(name 7 is missing)"
        return Call.UNNAMED
    return next((call for call, pattern in _CALLS if pattern.search(function)), Call.OTHER)


def is_communication(kernel: str) -> bool:
    """Tell whether a kernel exchanges data between devices."""
    return _COMMUNICATION.search(kernel) is not None
