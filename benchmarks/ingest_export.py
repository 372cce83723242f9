"""A large export of Nsight Systems for measurements: two threads that train a small model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from traces.nsys_writer import Recording, short_name

Array = np.ndarray[Any, Any]

KERNELS = 2_000_000
API_CALLS = 4_000_000
NVTX_ROWS = 2_000_000
BATCH = 500  # launches between two waits of a thread, as in a training step of a small model

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"


class _RuntimeCall(NamedTuple):
    """A call that launches nothing: name, share of such calls, typical length."""

    name: str
    share: float
    length_ns: int


_OTHER_CALLS = (
    _RuntimeCall("cudaStreamIsCapturing_v10000", 0.30, 350),
    _RuntimeCall("cudaEventQuery_v3020", 0.14, 900),
    _RuntimeCall("cudaEventRecord_v3020", 0.22, 1_100),
    _RuntimeCall("cudaStreamWaitEvent_v3020", 0.10, 1_000),
    _RuntimeCall("cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags_v7000", 0.10, 700),
    _RuntimeCall("cuKernelGetFunction", 0.10, 250),
    _RuntimeCall("cudaMallocAsync_v11020", 0.02, 1_800),
    _RuntimeCall("cudaFreeAsync_v11020", 0.02, 1_500),
)
_LAUNCHES = ("cudaLaunchKernel_v7000", "cuLaunchKernelEx", "cudaLaunchKernelExC_v11060")
_KERNEL_NAMES = tuple(
    f"void at::native::{family}<{width}, at::native::{functor}<{kind}>, std::array<char*, 3ul>>"
    f"(int, at::native::{functor}<{kind}>, std::array<char*, 3ul>)"
    for family in ("vectorized_elementwise_kernel", "unrolled_elementwise_kernel", "reduce_kernel")
    for width in (2, 4)
    for functor in ("AddFunctor", "MulFunctor", "GeluCUDAKernelImpl", "CopyFunctor", "SumFunctor")
    for kind in ("float", "c10::BFloat16")
)
_OPERATORS = tuple(
    f"aten::{name}"
    for name in (
        *("add", "add_", "mul", "mul_", "addmm", "mm", "bmm", "linear", "gelu", "layer_norm"),
        *("native_layer_norm", "softmax", "_softmax", "dropout", "copy_", "to", "_to_copy", "sum"),
        *("mean", "div", "zero_", "fill_", "cat", "embedding", "index_select", "baddbmm", "where"),
    )
)


def make_export(
    path: Path, *, scale: float = 1.0, unique_texts: bool = False, seed: int = 20_261_120
) -> Path:
    """Write the export that is measured, and return ``path``.

    Args:
        path: File to write.
        scale: 1.0 for the full size.
        unique_texts: Number every second NVTX text, as PyTorch's ``emit_nvtx`` does.
        seed: Another number gives another run of the same program.
    """
    recording = Recording(generation="3.13")
    rng = np.random.default_rng(seed)
    threads = [recording.tid, recording.thread(recording.pid, 4300, "pt_autograd_0")]
    launches = int(KERNELS * scale) // len(threads)
    others = int(API_CALLS * scale) // len(threads) - launches
    ranges = int(NVTX_ROWS * scale) // len(threads)
    for number, thread in enumerate(threads):
        timeline = _SyntheticTimeline(
            rng, launches, others, start_ns=2_000_000_000 + number * 3_777
        )
        ids = 1 + number * 10_000_000 + np.arange(launches + others)
        _add_calls(recording, timeline, thread, ids)
        _add_kernels(recording, timeline, rng, ids, streams=(7 + 20 * number, 13 + 20 * number))
        _add_copies_and_waits(recording, timeline, ids)
        _add_ranges(recording, timeline, thread, ranges, unique_texts=unique_texts)
    return recording.write(path)


class _SyntheticTimeline:
    """Calls of one thread in program order, and when the GPU ran what they launched."""

    def __init__(
        self, rng: np.random.Generator, launches: int, others: int, *, start_ns: int
    ) -> None:
        count = launches + others
        self.wait_at = np.minimum(np.arange(2 * BATCH, count + 2 * BATCH, 2 * BATCH), count) - 1
        self.is_launch = np.zeros(count, dtype=bool)
        may_launch = np.delete(np.arange(count), self.wait_at)
        self.is_launch[rng.choice(may_launch, launches, replace=False)] = True
        self.kind = rng.choice(len(_OTHER_CALLS), count, p=[c.share for c in _OTHER_CALLS])
        typical = np.where(
            self.is_launch, 3_900, np.array([c.length_ns for c in _OTHER_CALLS])[self.kind]
        )
        lengths = np.maximum(120, typical * rng.lognormal(0.0, 0.25, count)).astype(np.int64)
        pauses = rng.exponential(1_500.0, count).astype(np.int64) + 60
        kernel_ns = np.maximum(1_100, rng.lognormal(7.7, 0.9, launches)).astype(np.int64)
        self.start, self.end = np.empty(count, np.int64), np.empty(count, np.int64)
        self.kernel_start = np.empty(launches, np.int64)
        self.kernel_end = np.empty(launches, np.int64)
        at, ran = start_ns, 0
        # Batches follow one another: the wait at the end of one decides when the next begins.
        for begin in range(0, count, 2 * BATCH):
            part = slice(begin, min(begin + 2 * BATCH, count))
            steps = lengths[part] + pauses[part]
            self.start[part] = at + np.cumsum(steps) - lengths[part]
            self.end[part] = at + np.cumsum(steps)
            arrived = self.end[part][self.is_launch[part]] + 1_900
            kernels = slice(ran, ran + len(arrived))
            self._run(kernels, arrived, kernel_ns[kernels])
            ran = kernels.stop
            at = self._wait(part.stop - 1, int(self.kernel_end[kernels].max(initial=0)))

    def _run(self, kernels: slice, arrived: Array, lengths: Array) -> None:
        # Each kernel starts when it has arrived and the one before it, plus 1.1 µs, is done.
        before = np.cumsum(lengths + 1_100) - (lengths + 1_100)
        self.kernel_start[kernels] = before + np.maximum.accumulate(arrived - before)
        self.kernel_end[kernels] = self.kernel_start[kernels] + lengths

    def _wait(self, last: int, gpu_done_ns: int) -> int:
        self.end[last] = max(int(self.end[last]), gpu_done_ns + 2_500)
        return int(self.end[last])


def _add_calls(recording: Recording, timeline: _SyntheticTimeline, thread: int, ids: Array) -> None:
    launch_names = np.array([recording.string(n) for n in _LAUNCHES])
    other_names = np.array([recording.string(c.name) for c in _OTHER_CALLS])
    drivers = np.array([int(not c.name.startswith("cuda")) for c in _OTHER_CALLS])
    which = (ids % 20 == 0).astype(np.int64) + 2 * (ids % 20 == 1)
    names = np.where(timeline.is_launch, launch_names[which], other_names[timeline.kind])
    classes = np.where(timeline.is_launch, (which == 1).astype(np.int64), drivers[timeline.kind])
    names[timeline.wait_at] = recording.string("cudaStreamSynchronize_v3020")
    classes[timeline.wait_at] = 0
    for name, rows in zip(
        ("cudaMemcpyAsync_v3020", "cudaMemsetAsync_v3020"), _marked(timeline), strict=True
    ):
        names[rows], classes[rows] = recording.string(name), 0
    spans = {"start": timeline.start, "end": timeline.end, "eventClass": classes}
    recording.bulk(RUNTIME, {**spans, "correlationId": ids, "nameId": names, "globalTid": thread})


def _marked(timeline: _SyntheticTimeline) -> tuple[Array, Array]:
    """Return the rows that are copies and memsets: every 200th and 400th of the rest."""
    free = ~timeline.is_launch
    free[timeline.wait_at] = False
    rows = np.flatnonzero(free)
    return rows[50::200], rows[150::400]


def _add_kernels(
    recording: Recording,
    timeline: _SyntheticTimeline,
    rng: np.random.Generator,
    ids: Array,
    streams: tuple[int, int],
) -> None:
    count = len(timeline.kernel_start)
    which = rng.integers(0, len(_KERNEL_NAMES), count)
    full = np.array([recording.string(n) for n in _KERNEL_NAMES])[which]
    short = np.array([recording.string(short_name(n)) for n in _KERNEL_NAMES])[which]
    recording.bulk(
        KERNEL,
        {
            "start": timeline.kernel_start,
            "end": timeline.kernel_end,
            "deviceId": 0,
            "contextId": 1,
            "streamId": np.where(which % 16 == 0, streams[1], streams[0]),
            "correlationId": ids[timeline.is_launch],
            "globalPid": recording.pid,
            "demangledName": full,
            "shortName": short,
            "mangledName": full,
            "gridX": rng.integers(1, 4_096, count),
            "blockX": 128 << (which % 3),
            "registersPerThread": 16 + 8 * (which % 12),
            "gridId": ids[timeline.is_launch],
        },
    )


def _add_copies_and_waits(recording: Recording, timeline: _SyntheticTimeline, ids: Array) -> None:
    copies, memsets = _marked(timeline)
    on_device = {"deviceId": 0, "contextId": 1, "globalPid": recording.pid}
    for table, rows, length, extra in (
        ("MEMCPY", copies, 2_200, {"bytes": 4_096, "copyKind": 1, "srcKind": 1, "dstKind": 2}),
        ("MEMSET", memsets, 1_300, {"bytes": 512}),
    ):
        start = timeline.end[rows] + 2_000
        spans = {"start": start, "end": start + length, "correlationId": ids[rows]}
        recording.bulk(
            f"CUPTI_ACTIVITY_KIND_{table}", {**spans, **on_device, **extra, "streamId": 7}
        )
    waits = timeline.wait_at
    spans = {"start": timeline.start[waits], "end": timeline.end[waits]}
    sync = {"correlationId": ids[waits], "syncType": 2, "streamId": 7}
    recording.bulk("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", {**spans, **sync, **on_device})


def _add_ranges(
    recording: Recording,
    timeline: _SyntheticTimeline,
    thread: int,
    count: int,
    *,
    unique_texts: bool,
) -> None:
    """Add ``count`` ranges: steps, layers of ten launches, and operators of one launch each."""
    on_thread = {"globalTid": thread, "domainId": 0}
    steps = {"start": timeline.start[:: 2 * BATCH] - 30, "end": timeline.end[timeline.wait_at] + 20}
    recording.bulk("NVTX_EVENTS", {**steps, **on_thread, "textId": recording.string("step")})
    launches = np.flatnonzero(timeline.is_launch)
    layers = launches[: len(launches) // 10 * 10].reshape(-1, 10)
    layers = layers[layers[:, 0] // (2 * BATCH) == layers[:, -1] // (2 * BATCH)]
    spans = {"start": timeline.start[layers[:, 0]] - 20, "end": timeline.end[layers[:, -1]] + 15}
    layer_ids = np.array([recording.string(f"layer{n}") for n in range(48)])
    named = {"textId": layer_ids[np.arange(len(layers)) % len(layer_ids)]}
    recording.bulk("NVTX_EVENTS", {**spans, **named, **on_thread})
    operators = launches[: count - len(timeline.wait_at) - len(layers)]
    # Half of the names are inline and half refer to StringIds, as different libraries do it.
    for rows, inline in ((operators[::2], True), (operators[1::2], False)):
        spans = {"start": timeline.start[rows] - 12, "end": timeline.end[rows] + 10}
        texts = [_OPERATORS[i % len(_OPERATORS)] for i in rows.tolist()]
        if inline and unique_texts:
            texts = [f"{t}, op_id = {i}" for t, i in zip(texts, rows.tolist(), strict=True)]
        names = {"text": texts} if inline else {"textId": [recording.string(t) for t in texts]}
        recording.bulk("NVTX_EVENTS", {**spans, **names, **on_thread})
