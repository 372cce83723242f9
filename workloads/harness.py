"""Run a workload: warm-up, measured steps, NVTX ranges, and a summary of what happened.

A workload is a module that holds, besides its docstring:

``CAUSE``, ``ALSO``
    What whyslow should name for the baseline, and by which other names that may go.
``SEEN_BY``
    ``timeline`` when a recording of nsys or the torch profiler shows the cause, ``counters`` when
    only Nsight Compute does.
``LESSON``
    The functions in which baseline and twin differ; all others are the same in both.
``STEPS``, ``SIZES``
    How many steps are measured, and how large they are, by kind of device.
``COUNTED``, ``count(size)``
    What there is too much of, in words, and how many of it one step has.
``Program``
    The work: ``Program(run)`` prepares, ``step(index)`` is one step, ``result()`` the numbers on
    which both twins must agree, ``close()`` ends threads and processes.

One file because a workload is to be read alone: whoever wonders how it is run opens one other file.

Nothing here waits for the GPU inside the measured steps: a wait in each step would plant the loss
that a workload about something else must not have. On CUDA an event is recorded after each step
and read when all is over.
"""

from __future__ import annotations

import abc
import argparse
import ast
import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

FOLDER = Path(__file__).parent
ROLES = ("baseline", "optimized")
SCHEMA = 1
WARMUP = 3  # steps; the first loads kernels, and fills caches and memory pools
RTOL = 1e-4  # float32 sums in another order
WINDOW = "nvtx:measure"  # what a diagnosis should look at: warm-up and set-up stay outside
ENVIRONMENT_FAILED = 3
TOOL_TIMEOUT_S = 10
NVTX_SILENT_FROM = (0, 2, 12)

_TOLD = ("CAUSE", "ALSO", "SEEN_BY", "LESSON")


class RefusedError(Exception):
    """What was asked for cannot be run here; the message is the one line that is shown."""


class Program(abc.ABC):
    """The work of one workload."""

    @abc.abstractmethod
    def step(self, index: int) -> None:
        """Do one step; ``index`` counts from 0, warm-up included."""

    @abc.abstractmethod
    def result(self) -> list[float]:
        """Return the numbers on which both twins must agree."""

    def close(self) -> None:  # noqa: B027 - most programs hold nothing
        """Let go of threads and processes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A baseline and its twin, as read from their text.

    Attributes:
        name: What both files' names begin with.
        title: The first sentence of the baseline's docstring.
        cause: What whyslow should name for the baseline.
        also: Other names of the same trouble that count as right.
        seen_by: ``timeline`` or ``counters``.
        lesson: The functions in which the twins differ.
        baseline: The slow program's file.
        optimized: Its twin's.
    """

    name: str
    title: str
    cause: str
    also: tuple[str, ...]
    seen_by: str
    lesson: tuple[str, ...]
    baseline: Path
    optimized: Path


def pairs(folder: Path = FOLDER) -> tuple[Pair, ...]:
    """Return the pairs in ``folder`` by name, without importing any of them.

    Raises:
        ValueError: If a baseline does not tell what the harness's docstring asks for.
        SyntaxError: If it is no Python.
    """
    complete = []
    for baseline in sorted(folder.glob("*_baseline.py")):
        name = baseline.stem.removesuffix("_baseline")
        optimized = baseline.with_name(f"{name}_optimized.py")
        if optimized.is_file():
            complete.append(_pair(name, baseline, optimized))
    return tuple(complete)


def _pair(name: str, baseline: Path, optimized: Path) -> Pair:
    tree = ast.parse(baseline.read_text(encoding="utf-8"))
    facts = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in _TOLD
    }
    if missing := [name for name in _TOLD if name not in facts]:
        raise ValueError(f"{baseline.name}: has no {missing[0]}")
    return Pair(
        name=name,
        title=(ast.get_docstring(tree) or name).splitlines()[0],
        cause=facts["CAUSE"],
        also=facts["ALSO"],
        seen_by=facts["SEEN_BY"],
        lesson=facts["LESSON"],
        baseline=baseline,
        optimized=optimized,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a workload.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        steps: Measured steps of each repetition; ``None`` for the workload's own number.
        warmup: Steps before them.
        repeat: How often the measured steps are repeated.
        seed: Where all random numbers begin.
        torch_trace: Where the torch profiler's trace goes, ``None`` for no profiler.
    """

    device: str = "auto"
    steps: int | None = None
    warmup: int = WARMUP
    repeat: int = 1
    seed: int = 0
    torch_trace: Path | None = None


class Run:
    """What a program is told about its run, and where it opens its ranges.

    Attributes:
        device: The torch device.
        size: The entry of the workload's ``SIZES`` for this device.
        seed: Where random numbers begin.
        total_steps: How many steps there will be, warm-up included.
        ranges: How often each range was opened so far.
    """

    def __init__(self, device: torch.device, size: Any, seed: int, total_steps: int) -> None:
        self.device = device
        self.size = size
        self.seed = seed
        self.total_steps = total_steps
        self.ranges: Counter[str] = Counter()
        self._push, self._pop = _nvtx_ranges(device.type)
        self._annotate: Callable[[str], contextlib.AbstractContextManager[Any]] | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the work runs on a GPU."""
        return self.device.type == "cuda"

    @contextlib.contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Open an NVTX range, and the same in the torch profiler when that records.

        From the main thread only: the torch profiler does not see what other threads open.
        """
        self.ranges[name] += 1
        self._push(name)
        try:
            with self.annotated(name):
                yield
        finally:
            self._pop()

    def annotated(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Return a range for the torch profiler alone; nothing while that does not record."""
        return self._annotate(name) if self._annotate else contextlib.nullcontext()

    def annotate_with(self, annotate: Callable[[str], Any]) -> None:
        """Let the torch profiler see the ranges from now on."""
        self._annotate = annotate

    def generator(self) -> torch.Generator:
        """Return a new source of random numbers on the device, beginning at the seed."""
        import torch

        return torch.Generator(self.device).manual_seed(self.seed)


def main(name: str, argv: Sequence[str] | None = None) -> int:
    """Run the workload in the module called ``name`` as a command.

    Returns:
        0, or 3 when this machine cannot run it.
    """
    workload = sys.modules[name]
    parser = _parser(workload)
    arguments = parser.parse_args(argv)
    options = Options(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Options)})
    try:
        summary = run(workload, options)
        text = json.dumps(summary, indent=1) + "\n"
        if arguments.summary:
            _write(arguments.summary, text)
    except (RefusedError, OSError) as error:
        print(f"{_stem(workload)}: {error}", file=sys.stderr)
        return ENVIRONMENT_FAILED
    print(_sentence(summary))
    return 0


def run(workload: ModuleType, options: Options) -> dict[str, Any]:
    """Run a workload and return its summary.

    Raises:
        RefusedError: If this machine cannot run it, or its result is no number.
    """
    import torch

    device = _device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)  # steps this small only wait for threads, the more on busy cores
    steps = options.steps or workload.STEPS[device.type]
    total = options.warmup + steps * options.repeat
    state = Run(device, workload.SIZES[device.type], options.seed, total)
    torch.manual_seed(options.seed)
    with _recorded(state, options.torch_trace):
        measured, result = _work(workload, state, options.warmup, steps, options.repeat)
    if not result or not all(map(math.isfinite, result)):
        raise RefusedError(f"its result is {result[:4]}, not finite numbers")
    return {
        "schema": SCHEMA,
        **_identity(workload),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if state.on_gpu else _cpu_name(),
        "seed": options.seed,
        "warmup": options.warmup,
        "steps": steps,
        "repeat": options.repeat,
        "step_ns": [ns for step_ns, _ in measured for ns in step_ns],
        "total_ns": [ns for _, ns in measured],
        "ranges": dict(state.ranges),
        "counted": {"name": workload.COUNTED, "value": workload.count(state.size)},
        "metrics": [_throughput(steps, [ns for _, ns in measured])],
        "result": {"values": result, "rtol": RTOL},
        "environment": environment(device),
    }


def _identity(workload: ModuleType) -> dict[str, Any]:
    """Return what the workload is and what whyslow should say of it."""
    stem = _stem(workload)
    pair, _, role = stem.rpartition("_")
    return {
        "workload": stem,
        "pair": pair,
        "role": role,
        "cause": workload.CAUSE,
        "also": list(workload.ALSO),
        "seen_by": workload.SEEN_BY,
        "window": WINDOW,
    }


def _throughput(steps: int, total_ns: list[int]) -> dict[str, Any]:
    """Return the metric of the median repetition."""
    value = steps / (statistics.median(total_ns) / 1e9)
    return {"name": "throughput", "value": value, "unit": "steps/s", "better": "higher"}


def agree(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Tell whether two summaries' results are the same, but for rounding."""
    a, b = first["result"], second["result"]
    rtol = max(a["rtol"], b["rtol"])
    return len(a["values"]) == len(b["values"]) and all(
        math.isclose(x, y, rel_tol=rtol, abs_tol=1e-6)
        for x, y in zip(a["values"], b["values"], strict=True)
    )


def _work(
    workload: ModuleType, state: Run, warmup: int, steps: int, repeat: int
) -> tuple[list[tuple[list[int], int]], list[float]]:
    """Return what each repetition took, by step and as a whole, and the result."""
    with state.range("setup"):
        try:
            program: Program = workload.Program(state)
        except ModuleNotFoundError as error:
            way_out = "pip install 'whyslow[workloads]'"
            raise RefusedError(f"needs {error.name}, which is not installed; {way_out}") from error
    try:
        with state.range("warmup"):
            for index in range(warmup):
                _step(state, program, index)
            _wait(state)
        measured = []
        for number in range(repeat):
            with state.range("measure"):
                measured.append(_measure(state, program, warmup + number * steps, steps))
        with state.range("result"):
            result = program.result()
    finally:
        program.close()
    return measured, result


def _step(state: Run, program: Program, index: int) -> None:
    # The name is that of the profiler's own step(), by which viewers find the iterations. Its
    # step() would count set-up and result as iterations too.
    with state.annotated(f"ProfilerStep#{index}"), state.range("step"):
        program.step(index)


def _measure(state: Run, program: Program, first: int, steps: int) -> tuple[list[int], int]:
    clock = _Clock(state, steps + 1)
    start = time.perf_counter_ns()
    clock.mark()
    for index in range(first, first + steps):
        _step(state, program, index)
        clock.mark()
    _wait(state)
    total_ns = time.perf_counter_ns() - start
    return clock.between_ns(), total_ns


def _wait(state: Run) -> None:
    if state.on_gpu:
        import torch

        torch.cuda.synchronize(state.device)


class _Clock:
    """Marks between steps: on a GPU, events that are read at the end; else the host's clock."""

    def __init__(self, state: Run, marks: int) -> None:
        self._events: list[Any] = []
        self._next = 0
        self._host_ns: list[int] = []
        if state.on_gpu:
            import torch

            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(marks)]

    def mark(self) -> None:
        if self._events:
            self._events[self._next].record()
            self._next += 1
        else:
            self._host_ns.append(time.perf_counter_ns())

    def between_ns(self) -> list[int]:
        """Return the time from each mark to the next; the GPU must be done."""
        if self._events:
            ms = (a.elapsed_time(b) for a, b in zip(self._events, self._events[1:], strict=False))
            return [round(1e6 * value) for value in ms]
        return [b - a for a, b in zip(self._host_ns, self._host_ns[1:], strict=False)]


@contextlib.contextmanager
def _recorded(state: Run, trace: Path | None) -> Iterator[None]:
    """Let the torch profiler record everything inside, and write ``trace``."""
    if trace is None:
        yield
        return
    from torch import profiler

    activities = [profiler.ProfilerActivity.CPU]
    if state.on_gpu:
        activities.append(profiler.ProfilerActivity.CUDA)
    with profiler.profile(activities=activities) as recording:
        state.annotate_with(profiler.record_function)
        yield
        _wait(state)
    recording.export_chrome_trace(str(trace))


def _device(choice: str) -> torch.device:
    """Return the device, or refuse with the reason."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise RefusedError("needs torch; pip install 'whyslow[workloads]'") from error

    has_gpu = torch.cuda.is_available()
    if choice == "cuda" and not has_gpu:
        raise RefusedError("no CUDA device that torch can use; run with --device cpu")
    return torch.device("cuda" if has_gpu and choice != "cpu" else "cpu")


def _nvtx_ranges(device: str) -> tuple[Callable[[str], Any], Callable[[], Any]]:
    """Return how to open and close an NVTX range; warn when no profiler will record it."""
    try:
        import nvtx
    except ModuleNotFoundError:
        if device == "cuda":
            from torch.cuda import nvtx as torch_nvtx

            return torch_nvtx.range_push, torch_nvtx.range_pop
        print("nvtx is not installed: Nsight tools will see no ranges", file=sys.stderr)
        return lambda _: None, lambda: None
    if trouble := nvtx_trouble(nvtx):
        print(trouble, file=sys.stderr)
    return nvtx.push_range, nvtx.pop_range


def nvtx_trouble(nvtx: Any) -> str:
    """Say whether an Nsight tool is listening and this nvtx does not talk to it, else "".

    From 0.2.12 on, nvtx asks whether a domain is wanted, in a way that Nsight Systems up to 2023.4
    does not understand, and then stays silent.
    """
    version = importlib.metadata.version("nvtx")
    number = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if "NVTX_INJECTION64_PATH" not in os.environ or number < NVTX_SILENT_FROM:
        return ""
    if type(nvtx.get_domain("whyslow")).__name__ != "DummyDomain":
        return ""
    return (
        f"nvtx {version} records nothing under this Nsight tool (NVIDIA/NVTX issue 126); "
        "pip install 'nvtx<=0.2.11'"
    )


@functools.cache  # the driver's tool takes its time, and several runs may share a process
def environment(device: torch.device) -> dict[str, Any]:
    """Return what the numbers depend on; ``None`` for what cannot be told.

    Clocks are those after the first run in this process. No names of host, user or folders:
    summaries are passed on.
    """
    import torch

    on_gpu = device.type == "cuda"
    driver = _nvidia_smi(device) if on_gpu else {}
    return {
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "driver": driver.get("driver_version"),
        "clocks": {k: v for k, v in driver.items() if k.startswith("clocks.")} or None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        **{name: _version(name) for name in ("nvtx", "numba", "numba-cuda", "numpy")},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "git_commit": _output(["git", "-C", str(FOLDER), "rev-parse", "HEAD"]) or None,
    }


def _nvidia_smi(device: torch.device) -> dict[str, str]:
    """Return driver and clocks as the driver's own tool tells them."""
    import torch

    fields = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    which = ["-i", f"GPU-{uuid}"] if uuid else []
    query = ["nvidia-smi", *which, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    values = [
        value.strip() for value in _output(query).splitlines()[:1] for value in value.split(",")
    ]
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def _output(command: list[str]) -> str:
    """Return what a command prints, "" when it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _stem(workload: ModuleType) -> str:
    return Path(str(workload.__file__)).stem


def _parser(workload: ModuleType) -> argparse.ArgumentParser:
    text = workload.__doc__ or ""
    parser = argparse.ArgumentParser(
        prog=_stem(workload),
        description=text.splitlines()[0],
        epilog="\n".join(text.splitlines()[1:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--steps", type=_positive, help="measured steps of each repetition")
    parser.add_argument("--warmup", type=_count, default=WARMUP, help="steps before them")
    parser.add_argument("--repeat", type=_positive, default=1, help="repetitions")
    parser.add_argument("--seed", type=_count, default=0)
    parser.add_argument(
        "--summary",
        type=Path,
        default=os.environ.get("WHYSLOW_SUMMARY") or None,
        help="where the summary goes, as JSON (default: WHYSLOW_SUMMARY)",
    )
    parser.add_argument(
        "--torch-trace",
        type=Path,
        metavar="FILE.json.gz",
        help="record with the torch profiler",
    )
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _positive(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _write(path: Path | str, text: str) -> None:
    """Write all or nothing: whoever watches the folder never reads half a summary."""
    path = Path(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _sentence(summary: dict[str, Any]) -> str:
    throughput = summary["metrics"][0]
    counted = summary["counted"]
    small = ": smaller than on a GPU, and without its waits" if summary["device"] == "cpu" else ""
    return (
        f"{summary['workload']}: {throughput['value']:,.1f} {throughput['unit']}, "
        f"{counted['value']:,} {counted['name']}, on {summary['device_name']}{small}"
    )
