"""How fast a large torch profiler trace is opened, beside ``json.load`` and a public analyser.

One run makes a trace of 500 MB (not timed), as Kineto writes them: training steps of two threads
with operators in each other, their shapes, Python functions, allocations, calls, arrows and
kernels, compressed. Then it measures, each in processes of its own:

* cold: the command ``whyslow diagnose --json`` with an empty cache, Python's start included;
* cached: the same once more;
* json.load: Python alone decodes the file;
* peer (``--peer PYTHON``): HolisticTraceAnalysis reads the file and gives its breakdown of time,
  under an interpreter that has it installed (``pip install traceinsight``).

``--decoders`` times libraries that could have been used instead, on the first part of the file.

Run ``python -m benchmarks.torch_ingest [--check] [--size-mb 500] [--keep DIR] [--peer PYTHON]``.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import importlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ingest import _diagnose
from benchmarks.memory_watch import MemoryWatch
from common.files import replacing

RUNS = 3  # of the cold opening; the best counts, because machines are noisy
MIN_FASTER = 5.0  # than the peer, to a verdict
MAX_MEMORY_SHARE = 1 / 3  # of the peer's
MAX_RSS_FACTOR, MAX_RSS_PLUS = 4, 400_000_000  # peak: so many times the compressed size, and this
DECODED_BYTES = 64 << 20
STEP_OPERATORS = 800
START_US = 1_428_625_731_896.0

_LOAD = "import gzip, json, sys; json.load(gzip.open(sys.argv[1]))"
_PEER = """
import sys
from hta.trace_analysis import TraceAnalysis
analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="")
print(analysis.get_temporal_breakdown(visualize=False).to_dict("records")[0])
"""
_HEAD = """{
  "schemaVersion": 1,
  "deviceProperties": [
    {"id": 0, "name": "SYNTHETIC H100 (generated, no GPU ran)", "totalGlobalMem": 85018279936,
     "computeMajor": 9, "computeMinor": 0, "maxThreadsPerBlock": 1024,
     "maxThreadsPerMultiprocessor": 2048, "regsPerBlock": 65536, "regsPerMultiprocessor": 65536,
     "warpSize": 32, "sharedMemPerBlock": 49152, "sharedMemPerMultiprocessor": 233472,
     "numSms": 132}
  ],
  "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 1},
  "displayTimeUnit": "ms",
  "baseTimeNanoseconds": 1751410836000000000,
  "traceEvents": [
"""
_TAIL = """  {
    "ph": "X", "cat": "Trace", "ts": %s, "dur": %s,
    "pid": "Spans", "tid": "PyTorch Profiler",
    "name": "PyTorch Profiler (0)",
    "args": {
      "Op count": 0
    }
  }
  ],
  "traceName": "generated.json"
}
"""
_OPERATORS = (
    ("aten::linear", "aten::addmm", "[[64, 559, 1024], [1024, 1024], [1024]]"),
    (
        "aten::layer_norm",
        "aten::native_layer_norm",
        "[[64, 559, 1024], [], [1024], [1024], [], []]",
    ),
    ("aten::gelu", "aten::gelu", "[[64, 559, 4096], []]"),
    ("aten::add", "aten::add", "[[64, 559, 1024], [64, 559, 1024], []]"),
    ("aten::softmax", "aten::_softmax", "[[64, 16, 559, 559], [], []]"),
    ("aten::to", "aten::_to_copy", "[[64, 559], [], [], [], [], [], []]"),
)
_KERNELS = tuple(
    f"void at::native::{family}<{width}, at::native::{functor}<{kind}>, std::array<char*, 3ul> >"
    f"(int, at::native::{functor}<{kind}>, std::array<char*, 3ul>)"
    for family in ("vectorized_elementwise_kernel", "unrolled_elementwise_kernel", "reduce_kernel")
    for width in (2, 4)
    for functor in ("AddFunctor", "MulFunctor", "GeluCUDAKernelImpl", "CopyFunctor")
    for kind in ("float", "c10::BFloat16")
)


def make_trace(path: Path, size_bytes: int) -> Path:
    """Write the trace that is measured: as many whole steps as make up ``size_bytes`` unpacked."""
    written = step = 0
    now = START_US
    rng = random.Random(20_261_121)
    with gzip.open(path, "wb", compresslevel=6) as file:
        written += file.write(_HEAD.encode())
        while written < size_bytes:
            text, now = _step(step, now, rng)
            written += file.write(text.encode())
            step += 1
        file.write((_TAIL % (START_US - 100, f"{now - START_US + 200:.3f}")).encode())
    return path


def _step(number: int, now: float, rng: random.Random) -> tuple[str, float]:
    """Return the events of one step, and when it ends."""
    begin, parts = now, []
    device = now + 20.0
    for place in range(STEP_OPERATORS):
        unique = number * STEP_OPERATORS + place + 1
        tid = 4242 if place < STEP_OPERATORS // 2 else 4343
        operators = _operators(unique, tid, now, rng)
        length = rng.uniform(1.5, 60.0)
        device = max(device + 1.1, now + 24.0)
        parts += [*operators, _kernel(unique, device, length, rng)]
        device += length
        now += rng.uniform(22.0, 45.0)
    now = max(now, device if number % 4 == 3 else now) + 40.0
    step = _event(
        "user_annotation",
        f"ProfilerStep#{number}",
        4242,
        (begin - 5, now - begin),
        f'"External id": {number}, "Record function id": 0, "Ev Idx": {number}',
    )
    return "".join([step, *parts]), now + 10.0


def _operators(unique: int, tid: int, now: float, rng: random.Random) -> Iterator[str]:
    outer, inner, shapes = _OPERATORS[unique % len(_OPERATORS)]
    inputs = f'"External id": {unique}, "Record function id": 0, "Sequence number": {unique}, '
    inputs += '"Fwd thread id": 0, "Concrete Inputs": ["", "", "", "1"], '
    inputs += f'"Input type": ["float", "float", "float", "Scalar"], "Input Dims": {shapes}, '
    inputs += f'"Ev Idx": {unique}'
    python = f'"Python parent id": {unique // 7}, "Python id": {unique}, "Ev Idx": {unique}'
    module = f"transformers/models/model.py({unique % 300}): forward"
    yield _event("python_function", module, tid, (now, 20.0), python)
    yield _event("cpu_op", outer, tid, (now + 0.7, 18.5), inputs)
    yield _event("cpu_op", inner, tid, (now + 1.9, 16.0), inputs)
    yield (
        '  {\n    "ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]",\n'
        f'    "pid": 4242, "tid": {tid},\n    "ts": {now + 3:.3f},\n'
        '    "args": {\n      "Total Reserved": 2629828608, "Total Allocated": 1516092416, '
        f'"Bytes": {512 * rng.randrange(1, 4_000)}, "Addr": {137880964834304 + 512 * unique}, '
        '"Device Id": 0, "Device Type": 1, "Ev Idx": 1\n    }\n  },\n'
    )
    call = f'"External id": {unique}, "cbid": 211, "correlation": {unique}'
    span = now + 6.2, rng.uniform(3.1, 6.0)
    yield _event("cuda_runtime", "cudaLaunchKernel", tid, span, call)
    yield _arrow("s", unique, 4242, tid, span[0])


def _kernel(unique: int, at: float, length: float, rng: random.Random) -> str:
    shape = f'"External id": {unique}, "queued": 0, "device": 0, "context": 1, "stream": 7, '
    shape += f'"correlation": {unique}, "registers per thread": 32, "shared memory": 0, '
    blocks = rng.randrange(1, 9_000)
    shape += f'"blocks per SM": {blocks / 132:.6f}, "warps per SM": {blocks / 33:.6f}, '
    shape += f'"grid": [{blocks}, 1, 1], "block": [128, 1, 1], "est. achieved occupancy %": 50'
    name = _KERNELS[rng.randrange(len(_KERNELS))]
    event = _event("kernel", name, 7, (at, length), shape, pid=0)
    return event + _arrow("f", unique, 0, 7, at)


def _event(
    category: str, name: str, tid: int, span: tuple[float, float], more: str, *, pid: int = 4242
) -> str:
    return (
        f'  {{\n    "ph": "X", "cat": "{category}", "name": "{name}", "pid": {pid}, "tid": {tid},\n'
        f'    "ts": {span[0]:.3f}, "dur": {span[1]:.3f},\n'
        f'    "args": {{\n      {more}\n    }}\n  }},\n'
    )


def _arrow(phase: str, number: int, pid: int, tid: int, at: float) -> str:
    binding = ', "bp": "e"' if phase == "f" else ""
    return (
        f'  {{\n    "ph": "{phase}", "id": {number}, "pid": {pid}, "tid": {tid}, "ts": {at:.3f},\n'
        f'    "cat": "ac2g", "name": "ac2g"{binding}\n  }},\n'
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one way to read the file took: seconds, and the peak of the largest process."""

    seconds: float
    rss_bytes: int

    def line(self, name: str) -> str:
        """Return it as a line of the table."""
        return f"{name:<28} {self.seconds:>8.2f} s {self.rss_bytes / 1e6:>9,.0f} MB"


@dataclass(frozen=True, kw_only=True)
class TorchFigures:
    """What was measured."""

    packed_bytes: int
    unpacked_bytes: int
    kernels: int
    verdict: str
    cold: Cost
    cached: Cost
    load: Cost
    peer: Cost | None

    def lines(self) -> list[str]:
        """Return the table."""
        allowed = MAX_RSS_FACTOR * self.packed_bytes + MAX_RSS_PLUS
        size = f"{self.unpacked_bytes / 1e6:,.0f} MB, {self.packed_bytes / 1e6:,.1f} MB compressed"
        lines = [
            f"trace                        {size}, {self.kernels:,} kernels",
            f"verdict                      {self.verdict}",
            self.cold.line("whyslow, first time"),
            self.cached.line("whyslow, second time"),
            self.load.line("json.load"),
            f"memory allowed               {allowed / 1e6:>21,.0f} MB",
        ]
        if self.peer is not None:
            faster = self.peer.seconds / self.cold.seconds
            share = self.cold.rss_bytes / self.peer.rss_bytes
            lines.append(self.peer.line("HolisticTraceAnalysis"))
            lines.append(
                f"faster than it               {faster:>8.1f} x, with {share:.0%} of its memory"
            )
        return lines

    def misses(self) -> list[str]:
        """Return which limits were not kept."""
        misses = []
        allowed = MAX_RSS_FACTOR * self.packed_bytes + MAX_RSS_PLUS
        if self.cold.rss_bytes > allowed:
            misses.append(f"peak {self.cold.rss_bytes / 1e6:,.0f} MB, allowed {allowed / 1e6:,.0f}")
        if self.peer is not None and self.peer.seconds < MIN_FASTER * self.cold.seconds:
            misses.append(f"not {MIN_FASTER:g} times as fast as HolisticTraceAnalysis")
        if self.peer is not None and self.cold.rss_bytes > MAX_MEMORY_SHARE * self.peer.rss_bytes:
            misses.append(
                f"more than {MAX_MEMORY_SHARE:.0%} of the memory of HolisticTraceAnalysis"
            )
        return misses


def measure(path: Path, cache: Path, peer: Path | None) -> TorchFigures:
    """Measure every way to read the file at ``path``; ``cache`` is for what whyslow stores."""
    cold = []
    for _ in range(RUNS):
        shutil.rmtree(cache, ignore_errors=True)
        cold.append(_diagnose(path, cache))
    cached = _diagnose(path, cache)
    best = min(cold, key=lambda a: a.seconds)
    with gzip.open(path) as file:
        unpacked = file.seek(0, 2)
    return TorchFigures(
        packed_bytes=path.stat().st_size,
        unpacked_bytes=unpacked,
        kernels=best.report["counts"]["kernels"],
        verdict=best.report["verdict"]["sentence"],
        cold=Cost(seconds=best.seconds, rss_bytes=max(a.largest_rss_bytes for a in cold)),
        cached=Cost(seconds=cached.seconds, rss_bytes=cached.largest_rss_bytes),
        load=run_alone([sys.executable, "-c", _LOAD, str(path)]),
        peer=run_alone([str(peer), "-c", _PEER, str(path)]) if peer is not None else None,
    )


def run_alone(command: list[str]) -> Cost:
    """Run a command and return what it took."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tempfile.gettempdir()
    ) as process:
        memory = MemoryWatch(process.pid)
        _, errors = process.communicate()
        seconds = time.perf_counter() - begin
        peaks = memory.stop()
    if process.returncode:
        raise SystemExit(
            f"{command[0]}: exit status {process.returncode}\n{errors.decode()[-2_000:]}"
        )
    return Cost(seconds=seconds, rss_bytes=max(peaks, default=0))


_UNTYPED: dict[str, Callable[[Any, bytes], object]] = {
    "msgspec": lambda module, text: module.json.decode(text),
    "orjson": lambda module, text: module.loads(text),
    "simdjson": lambda module, text: module.Parser().parse(text).as_dict(),
    "ijson": lambda module, text: list(module.items(text, "traceEvents.item")),
}


def compare_decoders(path: Path) -> list[str]:
    """Return how fast each library that is installed decodes the first part of the file."""
    with gzip.open(path) as file:
        head = file.read(DECODED_BYTES)
    text = head[: head.rindex(b"\n  },\n") + len(b"\n  }")] + b"]}"
    from collectors.torch_profiler.events import decode

    ways: dict[str, Callable[[], object]] = {
        "msgspec, typed": lambda: decode(text[text.index(b'"traceEvents": ') + 15 : -1]),
        "json": lambda: json.loads(text),
    }
    for name in ("msgspec", "orjson", "simdjson", "ijson"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        ways[name] = functools.partial(_UNTYPED[name], module, text)
    lines = []
    for name, way in ways.items():
        begin = time.perf_counter()
        made = way()
        seconds = time.perf_counter() - begin
        del made
        lines.append(f"{name:<28} {seconds:>8.2f} s {len(text) / 1e6 / seconds:>9,.0f} MB/s")
    return lines


def main() -> int:
    """Measure and print; 1 when ``--check`` was given and a limit was not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit is not kept")
    parser.add_argument("--size-mb", type=float, default=500.0, help="size of the trace, unpacked")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the trace in DIR, reuse it")
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="interpreter that has the peer")
    parser.add_argument("--decoders", action="store_true", help="time other libraries, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whyslow-benchmark-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"torch-{options.size_mb:g}.json.gz"
        if not path.exists():
            print(f"making {path} (not timed)", flush=True)
            with replacing(path) as draft:
                make_trace(draft, int(options.size_mb * 1e6))
        extra = compare_decoders(path) if options.decoders else []
        figures = measure(path, Path(temporary) / "data", options.peer)
    print("\n".join(extra + figures.lines()))
    misses = figures.misses() if options.check else []
    for miss in misses:
        print(f"not kept: {miss}")
    return int(bool(misses))


if __name__ == "__main__":
    sys.exit(main())
