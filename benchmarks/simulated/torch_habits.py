"""Habits of PyTorch programs that cost time, each with a program that only looks the same.

Ranges, operators and functions are called as PyTorch calls them. Nsight Systems records the ranges
alone, so that an expert names as much from its recordings as they hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.simulated.cases import HEALTHY, Case, Maker, loop, one_thread
from benchmarks.simulated.program import TO_HOST, Copy, Operation, Range, Wait, Work

FETCH = "enumerate(DataLoader)#{}DataLoaderIter.__next__"
ZERO_GRAD, UPDATE = "launch.zero_grad", "launch.optimizer"
DATA_LOADER, READ_BACK = "host.data_loader", "sync.small_readbacks"

OPERATOR_NS = 400  # what PyTorch needs from one operator to the one that it calls

READS = (
    ("`.item()`", ("aten::item", "aten::_local_scalar_dense")),
    ("an `if` on a tensor", ("aten::is_nonzero", "aten::item", "aten::_local_scalar_dense")),
    ("`nonzero` or a boolean mask", ("aten::index", "aten::nonzero")),
)
"""What a program does to read a value, and the operators that PyTorch records of it."""


def habit_loader_in_process(make: Maker) -> Case:
    """The training process loads each batch between two steps: num_workers is 0."""
    ns = make.between(50_000, 200_000)
    fetch = 6 * ns * make.between(1.1, 8)  # the GPU is done before the next batch is there
    name = FETCH.format("_SingleProcess")
    steps = [[*_inside(name, [Work(make.about(fetch))]), *make.launches(6, ns)] for _ in range(50)]
    has = ((DATA_LOADER, "loaded its batches itself (DataLoader with num_workers=0)"),)
    return Case(one_thread(_profiled(steps)), "host", has=has)


def habit_loader_with_slow_workers(make: Maker) -> Case:
    """Workers load batches, but too slowly."""
    ns = make.between(50_000, 200_000)
    fetch = 6 * ns * make.between(1.1, 8)  # the GPU is done before the next batch is there
    name = FETCH.format("_MultiProcessing")
    steps = [[*_inside(name, [Work(make.about(fetch))]), *make.launches(6, ns)] for _ in range(50)]
    has = ((DATA_LOADER, "waited for the workers of its DataLoader"),)
    return Case(one_thread(_profiled(steps)), "host", has=has)


def habit_loader_in_time(make: Maker) -> Case:
    """The training process loads small batches itself, while the GPU has enough queued."""
    ns, fetch = make.between(150_000, 400_000), make.between(100_000, 300_000)
    name = FETCH.format("_SingleProcess")
    steps = [[*_inside(name, [Work(make.about(fetch))]), *make.launches(10, ns)] for _ in range(50)]
    program = one_thread(_profiled([make.launches(10, ns), *steps]))
    return Case(program, HEALTHY, never=(DATA_LOADER,))


def habit_fills_of_gradients(make: Maker) -> Case:
    """``zero_grad`` fills each gradient, while the GPU has nothing else to do."""
    count, ns = make.random.randrange(60, 200), make.between(60_000, 150_000)
    fills = _operators(make, "aten::fill_", count, 1_500)
    name = "Optimizer.zero_grad#SGD.zero_grad"
    steps = [[*_inside(name, fills), *make.launches(6, ns), Wait()] for _ in range(12)]
    has = ((ZERO_GRAD, f"filled {count} tensors a step"),)
    return Case(one_thread(_profiled(steps)), "launch", also_right=("sync",), has=has)


def habit_gradients_to_none(make: Maker) -> Case:
    """``zero_grad`` drops gradients instead, and launches nothing."""
    ns = make.between(80_000, 300_000)
    nothing = _inside("Optimizer.zero_grad#SGD.zero_grad", [make.dispatch(20_000)])
    steps = [[*nothing, *make.launches(10, ns)] for _ in range(60)]
    return Case(one_thread(_profiled(steps)), HEALTHY, never=(ZERO_GRAD,))


def habit_unfused_optimizer(make: Maker) -> Case:
    """An optimizer updates one tensor after the other."""
    count, ns = make.random.randrange(100, 300), make.between(60_000, 150_000)
    updates = _operators(make, "aten::add_", count, 2_000)
    name = make.random.choice(["AdamW", "SGD", "RMSprop"])
    step = _inside(f"Optimizer.step#{name}.step", updates)
    steps = [[*make.launches(6, ns), *step] for _ in range(12)]
    has = ((UPDATE, f"The optimizer {name} made {count} launches a step"),)
    return Case(one_thread(_profiled(steps)), "launch", has=has)


def habit_optimizer_behind_the_gpu(make: Maker) -> Case:
    """An optimizer of as many launches, each of which the GPU needs longer for than the host."""
    updates = _operators(make, "aten::add_", 60, make.between(40_000, 90_000))
    step = _inside("Optimizer.step#AdamW.step", updates)
    steps = [[*make.launches(6, 100_000), *step] for _ in range(12)]
    return Case(one_thread(_profiled(steps)), HEALTHY, never=(UPDATE,))


def habit_scalar_read(make: Maker) -> Case:
    """A value that is read in every step: for a progress bar, a condition or a mask."""
    ns = make.between(20_000, 60_000)  # kernels outlast their launches: only the read drains
    noun, operators = make.random.choice(READS)
    step = [
        *make.launches(4, ns),
        Range("train.py(42): report", "python_function"),
        *_read(operators),
        Range(),
        Work(make.about(30_000), is_dispatch=True),
    ]
    return Case(
        one_thread(_profiled([step] * 120)),
        "sync",
        has=((READ_BACK, "of a few bytes"),),
        has_with_operators=(
            (READ_BACK, f", mostly by {noun} ({operators[-1]}), called from report (train.py:42)"),
        ),
    )


def habit_scalar_read_rarely(make: Maker) -> Case:
    """``loss.item()`` once in fifty steps."""
    ns = make.between(80_000, 300_000)
    steps = [make.launches(8, ns) for _ in range(100)]
    steps[49] = [*steps[49], *_read(READS[0][1])]
    return Case(one_thread(_profiled(steps)), HEALTHY, never=(READ_BACK,))


def _read(operators: Sequence[str]) -> list[Operation]:
    """A copy of four bytes and the wait for it, inside operators around each other."""
    operations: list[Operation] = [Copy(4, TO_HOST, pageable=True), Wait()]
    for name in reversed(operators):
        inside = [Work(OPERATOR_NS, is_dispatch=True), *operations]
        operations = _inside(name, inside, "cpu_op")
    return operations


def _operators(make: Maker, name: str, count: int, ns: float) -> list[Operation]:
    """Return operators that launch a kernel each, as fast as a host can."""
    each: list[list[Operation]] = [
        [make.dispatch(make.between(6_000, 12_000)), make.kernel(ns)] for _ in range(count)
    ]
    return [o for launch in each for o in _inside(name, launch, "cpu_op")]


def _inside(name: str, operations: Sequence[Operation], kind: str = "range") -> list[Operation]:
    return [Range(name, kind), *operations, Range()]


def _profiled(steps: Sequence[Sequence[Operation]]) -> list[Operation]:
    return loop(steps, "training step")
