"""What operations and threads are called on a timeline."""

from __future__ import annotations

from analyzers.facts.facts import COMMUNICATION, GRAPH, KERNEL, MEMSET
from collectors.schema import CopyKind
from collectors.trace import Trace

_COPY_WORDS = {
    CopyKind.HOST_TO_DEVICE: "copy HtoD",
    CopyKind.DEVICE_TO_HOST: "copy DtoH",
    CopyKind.DEVICE_TO_DEVICE: "copy DtoD",
    CopyKind.HOST_TO_HOST: "copy HtoH",
    CopyKind.PEER_TO_PEER: "copy peer to peer",
    CopyKind.MANAGED_HOST_TO_DEVICE: "managed memory HtoD",
    CopyKind.MANAGED_DEVICE_TO_HOST: "managed memory DtoH",
    CopyKind.MANAGED_DEVICE_TO_DEVICE: "managed memory DtoD",
}
NO_NAME = "(name not recorded)"
MEMSET_WORDS, GRAPH_WORDS = "memset", "CUDA graph"


def operation_words(kind: int, copy_kind: int, name: str) -> str:
    """Return what an operation is called: the kernel's name, or what was copied where."""
    if kind in (KERNEL, COMMUNICATION):
        return name or NO_NAME
    return {MEMSET: MEMSET_WORDS, GRAPH: GRAPH_WORDS}.get(kind) or copy_words(copy_kind)


def copy_words(kind: int) -> str:
    """Return what a copy is called: where it went."""
    return _COPY_WORDS.get(kind, "copy")  # type: ignore[call-overload, no-any-return]


def thread_labels(trace: Trace) -> dict[int, str]:
    """Return what to call each thread, by key."""
    threads = trace.frame("threads", ["thread", "tid", "name"])
    return {
        int(key): f"{name} {tid}" if name else f"thread {tid}"
        for key, tid, name in zip(threads["thread"], threads["tid"], threads["name"], strict=True)
    }


def thread_titles(trace: Trace) -> dict[int, str]:
    """Return what to call each thread; with its process when there are several."""
    labels = thread_labels(trace)
    processes = trace.frame("processes", ["process", "pid", "name"]).set_index("process")
    if len(processes) < 2:
        return labels
    threads = trace.columns("threads", ["thread", "process"])
    return {
        int(thread): f"{labels[int(thread)]} · process {processes['pid'].get(process, process)}"
        for thread, process in zip(threads["thread"], threads["process"], strict=True)
    }
