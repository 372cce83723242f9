"""What the categories and names in torch profiler traces mean.

Kineto renamed its categories in 2021 and again for each kind of device it learned, so they are
compared in lower case and several of them stand for one thing.
"""

from __future__ import annotations

import re

from collectors.schema import CopyKind, MemoryKind

KERNEL, COPY, MEMSET, API = "kernels", "copies", "memsets", "API calls"
OPERATOR, PYTHON, ANNOTATION = "operators", "Python functions", "annotations"
SYNC, OVERHEAD, COUNTERS = "waits", "overheads", "counters"
INSTANT, MEMORY, ARROW, METADATA = "moments", "memory events", "arrows", "metadata"
SAID_TWICE, OTHER_PHASE, OTHER_CATEGORY = "descriptions", "other phases", "other categories"

_CATEGORIES = {
    KERNEL: ("kernel", "mtia_ccp_events"),
    COPY: ("gpu_memcpy", "memcpy"),
    MEMSET: ("gpu_memset", "memset"),
    API: (
        *("cuda_runtime", "cuda_driver", "runtime", "hip_runtime", "mtia_runtime"),
        *("xpu_runtime", "xpu_driver", "privateuse1_runtime", "privateuse1_driver"),
    ),
    OPERATOR: ("cpu_op", "operator"),
    PYTHON: ("python_function",),
    ANNOTATION: ("user_annotation",),
    SYNC: ("cuda_sync",),
    OVERHEAD: ("overhead",),
    COUNTERS: ("cuda_profiler_range",),
    # What these say is said by other events, too: a range on the host again on the device, the
    # work of a collective again as its kernel, the whole recording as one event.
    SAID_TWICE: ("gpu_user_annotation", "collective_comm", "trace", "cuda_event"),
}
_KIND_OF = {category: kind for kind, names in _CATEGORIES.items() for category in names}
_OTHER_RUNTIME = re.compile(r"\w+_(?:runtime|driver)")
_UNDERSTOOD = ("cuda_runtime", "cuda_driver", "runtime", "hip_runtime", "mtia_runtime")
_XPU = ("xpu_runtime", "xpu_driver")
_XPU_FUNCTION = re.compile(r"(?:ur|ze|pi)(?:ext)?[A-Z]")  # Unified Runtime, Level Zero, SYCL's own
_INSTANTS, _FLOWS = ("i", "I", "R"), ("s", "f", "t")
_ARROWS = ("ac2g", "async", "async_gpu")  # categories of flows from a call to its work
MEMORY_EVENT = "[memory]"  # name of a moment at which memory was taken or given back


def kind_of(phase: object, category: object) -> str:
    """Return what an event of this phase and category is."""
    word = category.lower() if isinstance(category, str) else ""
    if phase == "X":
        otherwise = API if _OTHER_RUNTIME.fullmatch(word) else OTHER_CATEGORY
        return _KIND_OF.get(word, otherwise)
    if phase in _INSTANTS:
        return INSTANT
    if phase in _FLOWS:
        return ARROW if word in _ARROWS else SAID_TWICE
    return METADATA if phase == "M" else OTHER_PHASE


def is_xpu(category: object) -> bool:
    """Tell whether events of this category are calls of Intel's runtime."""
    return isinstance(category, str) and category.lower() in _XPU


def is_understood(category: object, function: object) -> bool:
    """Tell whether it is known which calls of such a runtime wait, launch or allocate."""
    if is_xpu(category):
        return isinstance(function, str) and _XPU_FUNCTION.match(function) is not None
    return isinstance(category, str) and category.lower() in _UNDERSTOOD


_RANK = re.compile(r"\s*\[?([^\[\]]{0,40}[A-Za-z][^\[\]]{0,40}?)\]?[\s:]+(\d{1,12})\s*")


def rank_of(pid: object) -> tuple[str, int] | None:
    """Return the rank that a merged trace writes before a process, and the number behind it.

    Tools that merge the traces of a job write ``[TP01] 4242`` where Kineto writes ``4242``.
    """
    match = _RANK.fullmatch(pid) if isinstance(pid, str) else None
    return (match[1].strip(), int(match[2])) if match else None


# Annotations had no category of their own in 2021. These are the ones that PyTorch itself makes.
_ANNOTATION = re.compile(
    r"ProfilerStep#\d|enumerate\(DataLoader\)#|Optimizer\.(?:step|zero_grad)#|## "
)


def is_annotation(operator: str) -> bool:
    """Tell whether an event that is marked as an operator is an annotation."""
    return _ANNOTATION.match(operator) is not None


_VERSION_SUFFIX = re.compile(r"(?:_v\d+)?(?:_(?:ptsz|ptds))?$")


def function_name(call: object) -> str:
    """Return the name of an API function without what tells versions of its interface apart."""
    return _VERSION_SUFFIX.sub("", call) if isinstance(call, str) else ""


_DIRECTION = re.compile(r"\b([HDAP])to([HDAP])\b")
_DIRECTIONS = {
    "HtoD": CopyKind.HOST_TO_DEVICE,
    "DtoH": CopyKind.DEVICE_TO_HOST,
    "HtoA": CopyKind.HOST_TO_ARRAY,
    "AtoH": CopyKind.ARRAY_TO_HOST,
    "AtoA": CopyKind.ARRAY_TO_ARRAY,
    "AtoD": CopyKind.ARRAY_TO_DEVICE,
    "DtoA": CopyKind.DEVICE_TO_ARRAY,
    "DtoD": CopyKind.DEVICE_TO_DEVICE,
    "HtoH": CopyKind.HOST_TO_HOST,
    "PtoP": CopyKind.PEER_TO_PEER,
}
_ENDS = re.compile(r"\(([\w ]+?)\s*->\s*([\w ]+?)\)")
_MEMORY = {
    "pageable": MemoryKind.PAGEABLE,
    "pinned": MemoryKind.PINNED,
    "device": MemoryKind.DEVICE,
    "array": MemoryKind.ARRAY,
    "managed": MemoryKind.MANAGED,
    "device static": MemoryKind.DEVICE_STATIC,
    "managed static": MemoryKind.MANAGED_STATIC,
}
_ONE_END = re.compile(r"\(([\w ]+)\)")


def direction(name: str, kind: object) -> int:
    """Return the ``CopyKind`` of a copy, from its name or its argument ``kind``; -1 unknown."""
    name = name[:_MAX_COPY_NAME]
    match = _DIRECTION.search(name) or _DIRECTION.search(str(kind)[:_MAX_COPY_NAME])
    return int(_DIRECTIONS.get(match[0], -1)) if match else -1


def ends_of(name: str) -> tuple[int, int]:
    """Return the ``MemoryKind`` at both ends of a copy; -1 where the name does not tell."""
    match = _ENDS.search(name[:_MAX_COPY_NAME])
    return (_memory(match[1]), _memory(match[2])) if match else (-1, -1)


def memory_of(name: str) -> int:
    """Return the ``MemoryKind`` that a memset writes to; -1 where the name does not tell."""
    match = _ONE_END.search(name[:_MAX_COPY_NAME])
    return _memory(match[1]) if match else -1


def _memory(word: str) -> int:
    return int(_MEMORY.get(word.strip().lower(), -1))  # AMD says "Host": pinned or not


SYNC_TYPES = {"event sync": 1, "stream wait event": 2, "stream sync": 3, "context sync": 4}
"""Number that CUPTI gives to each kind of wait."""

MAX_NAME = 65_536  # characters of a kernel's name that are looked at; 5,000 were seen
_MAX_COPY_NAME = 200  # of a copy's; "Memcpy DtoD (Device -> Device)" has 30
_MANGLED = re.compile(r"_ZN?K?(?=\d)")
_LENGTH = re.compile(r"\d{1,6}")
_TEMPLATE = re.compile(r"<[^<>]*>")
_MAX_NESTING = 32  # of template arguments; deeper ones stay in the name


def short_name(kernel: str) -> str:
    """Return a kernel's name without return type, namespaces, template arguments, parameters."""
    kernel = kernel[:MAX_NAME]
    if mangled := _MANGLED.match(kernel):
        return _last_part(kernel, mangled.end()) or kernel
    text = _without_clones(kernel).replace("(anonymous namespace)::", "")
    for _ in range(_MAX_NESTING):
        fewer = _TEMPLATE.sub("", text)
        if fewer == text:
            break
        text = fewer
    words = text.partition("(")[0].split()
    return (words[-1].rpartition("::")[2] if words else "") or kernel


def _without_clones(kernel: str) -> str:
    """Return a name without what compilers write behind it: ``[clone .kd]``, ``.kd``."""
    while True:
        if kernel.endswith(".kd"):
            kernel = kernel.removesuffix(".kd")
        elif kernel.endswith("]") and " [clone " in kernel:
            head, _, inner = kernel.rpartition(" [clone ")
            if "]" in inner[:-1]:
                return kernel
            kernel = head
        else:
            return kernel


def _last_part(name: str, place: int) -> str:
    """Return the last plain part of a mangled name; empty when it is not understood."""
    last = ""
    while length := _LENGTH.match(name, place):
        place = length.end() + int(length[0])
        if place > len(name):
            return ""
        last = name[length.end() : place]
    return last
