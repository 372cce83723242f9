"""Small programs that each lose time to one cause; run by ``traces.machine``, never by a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from traces.machine import (
    DEVICE_TO_HOST,
    HOST_TO_DEVICE,
    MAIN,
    Kernel,
    Machine,
    Stream,
)
from traces.nsys_writer import SYNTHETIC_H100, Recording

MIB = 1 << 20
WARM_UP_STEPS = 2  # of the pair
DISPATCH_NS = 8_000  # host time of an eager framework from one launch to the next

NOTICE = "SYNTHETIC recording written by whyslow's traces.generate; no GPU and no profiler ran"

GEMM = Kernel(
    name=(
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x5_nn_align8>"
        "(cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x5_nn_align8::Params)"
    ),
    duration_ns=420_000,
    blocks=2112,
    threads=128,
    registers=168,
    shared_bytes=49_152,
)
NORM = Kernel(
    name=(
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>"
        "(int, float, const float *, const float *, const float *, float *, float *, float *)"
    ),
    duration_ns=160_000,
    registers=40,
)
ADD = Kernel(
    name=(
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, "
        "std::array<char *, 3>>(int, at::native::CUDAFunctor_add<float>, std::array<char *, 3>)"
    ),
    duration_ns=3_000,
    blocks=264,
    threads=128,
)
ADAM = Kernel(
    name=(
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<4>, "
        "FusedAdamMathFunctor<float, 4>>(TensorListMetadata<4>, FusedAdamMathFunctor<float, 4>)"
    ),
    duration_ns=240_000,
    threads=512,
)
FUSED = Kernel(
    name="triton_poi_fused_add_gelu_0",
    duration_ns=46_000,
    blocks=2112,
    threads=128,
)
COLLECTIVE = Kernel(
    name="ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)",
    duration_ns=1_300_000,
    blocks=24,
    threads=544,
    registers=96,
)
DIVERGENT = Kernel(
    name="collatz_steps(const unsigned long *, unsigned int *, int)",
    duration_ns=520_000,
    sm_issue_pct=80,
)
NARROW = Kernel(
    name="scan_rows(const float *, float *, int, int)",
    duration_ns=480_000,
    blocks=8,
    sm_active_pct=6,
    sm_issue_pct=4,
    dram_read_pct=2,
    dram_write_pct=1,
)
STREAMING = Kernel(
    name=(
        "void at::native::vectorized_elementwise_kernel<4, at::native::MulFunctor<float>, "
        "std::array<char *, 3>>(int, at::native::MulFunctor<float>, std::array<char *, 3>)"
    ),
    duration_ns=350_000,
    blocks=262_144,
    sm_issue_pct=14,
    dram_read_pct=61,
    dram_write_pct=31,
)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program, and what a report about it should say.

    Attributes:
        run: Runs the given number of iterations.
        iterations: Of the committed sample.
        shows: One sentence for the reader of the samples' list.
        generation: Layout of the file.
        gpus: How many GPUs it uses.
        metrics: Sample the GPU's metrics as well.
    """

    run: Callable[[Machine, int], None]
    iterations: int
    shows: str
    generation: str = "3.13"
    gpus: int = 1
    metrics: bool = False


def record(name: str, *, iterations: int = 0, seed: int = 0, generation: str = "") -> Recording:
    """Run the program ``name`` and return its recording.

    Args:
        name: Key of ``PROGRAMS`` or of ``PAIR``.
        iterations: Repetitions of its loop; 0 for as many as the committed sample has.
        seed: Of the small variation in lengths.
        generation: Layout of the file, empty for the sample's.
    """
    program = (PROGRAMS | PAIR)[name]
    recording = Recording(
        generation=generation or program.generation,
        gpus=(SYNTHETIC_H100,) * program.gpus,
        program=f"synthetic_{name}",
    )
    machine = Machine(recording, seed)
    recording.diagnostic(NOTICE, machine.now_ns, severity=1)
    program.run(machine, iterations or program.iterations)
    machine.synchronize_device()
    if program.metrics:
        machine.sample_metrics()
    return recording


def _launch(machine: Machine, iterations: int) -> None:
    for _ in range(iterations):
        with machine.range("step"):
            for _ in range(100):
                machine.work(20_000)
                machine.launch(ADD)


def _sync(machine: Machine, iterations: int) -> None:
    short = Kernel(name=NORM.name, duration_ns=22_000, registers=NORM.registers)
    for _ in range(iterations):
        with machine.range("step"):
            for layer in range(24):
                machine.work(DISPATCH_NS)
                machine.launch(short)
                if layer % 6 == 5:
                    machine.read_scalar()
                else:
                    machine.synchronize()


def _bandwidth(machine: Machine, iterations: int) -> None:
    for _ in range(iterations):
        with machine.range("step"):
            with machine.range("data"):
                machine.copy(HOST_TO_DEVICE, 24 * MIB, pageable=True)
                for _ in range(24):
                    machine.work(1_000)
                    machine.copy(HOST_TO_DEVICE, 4_096, pageable=True)
            _queue(machine, (NORM, GEMM, GEMM, NORM))
            machine.copy(DEVICE_TO_HOST, 2 * MIB, pageable=True)


def _host(machine: Machine, iterations: int) -> None:
    loader = machine.recording.thread(machine.recording.pid, 4300, "data_loader")
    for _ in range(iterations):
        with machine.range("step"):
            with machine.range("data"):
                begin = machine.now_ns
                machine.os_call("pthread_cond_wait", 5_000_000)
                machine.work(150_000)
                end = machine.now_ns - 400_000
                machine.recording.os_call("read", begin + 200_000, end, globalTid=loader)
            with machine.range("train"):
                _queue(machine, (GEMM, NORM, GEMM, NORM, GEMM, ADAM))


def _communication(machine: Machine, iterations: int) -> None:
    collectives = Stream(20)
    for _ in range(iterations):
        with machine.range("step"):
            with machine.range("backward"):
                _queue(machine, (GEMM, NORM))
                first = machine.record_event()
                _queue(machine, (GEMM, NORM, GEMM))
                machine.wait_for_event(first, collectives)
                machine.launch(COLLECTIVE, collectives)
                last = machine.record_event()
                machine.wait_for_event(last, collectives)
                machine.launch(COLLECTIVE, collectives)
            with machine.range("optimizer"):
                machine.wait_for_event(machine.record_event(collectives), MAIN)
                _queue(machine, (ADAM,))
                machine.synchronize()


def _memory(machine: Machine, iterations: int) -> None:
    for _ in range(iterations):
        with machine.range("step"):
            for _ in range(6):
                machine.malloc(250_000)
                machine.work(2_000)
            _queue(machine, (NORM, NORM, ADAM))
            for _ in range(6):
                machine.free(15_000)
                machine.work(2_000)


def _dependency(machine: Machine, iterations: int) -> None:
    first, second = Stream(7, 0), Stream(15, 1)
    before = 0
    for _ in range(iterations):
        with machine.range("step"):
            for _ in range(4):
                _queue(machine, (GEMM,), first)
                machine.copy_to_peer(4 * MIB, first)
                machine.wait_for_event(machine.record_event(first), second)
                _queue(machine, (GEMM,), second)
                machine.wait_for_event(machine.record_event(second), first)
            # The host stays one step ahead of both GPUs, so neither ever waits for it.
            machine.synchronize_event(before)
            before = machine.record_event(first)


def _parallelism(machine: Machine, iterations: int) -> None:
    _run_ahead(machine, iterations, (NARROW,) * 8)


def _dram(machine: Machine, iterations: int) -> None:
    _run_ahead(machine, iterations, (STREAMING,) * 8)


def _divergence(machine: Machine, iterations: int) -> None:
    _run_ahead(machine, iterations, (DIVERGENT,) * 8)


def _healthy(machine: Machine, iterations: int) -> None:
    _run_ahead(machine, iterations, (GEMM, NORM, GEMM, NORM, GEMM, NORM, ADAM))


def _eager_training(machine: Machine, iterations: int) -> None:
    """Train as a first version does: load, copy, launch many small kernels, print the loss."""
    for number in range(iterations):
        with machine.range("step"):
            with machine.range("data"):
                machine.os_call("pthread_cond_wait", 2_600_000)
                machine.work(60_000)
                machine.copy(HOST_TO_DEVICE, 6 * MIB, pageable=True)
            with machine.range("forward"):
                _first_steps_compile(machine, number)
                for _ in range(60):
                    machine.work(14_000)
                    machine.launch(ADD)
                _queue(machine, (GEMM, NORM, GEMM, NORM))
                machine.read_scalar()
            with machine.range("backward"):
                _queue(machine, (GEMM, NORM, GEMM, NORM, GEMM))
            with machine.range("optimizer"):
                _queue(machine, (ADAM,))


def _tuned_training(machine: Machine, iterations: int) -> None:
    """Train with the next batch on its way, the small kernels fused, and the loss left alone."""
    copies = Stream(20)
    before = 0
    for number in range(iterations):
        with machine.range("step"):
            with machine.range("data"):
                machine.work(60_000)
                machine.copy(HOST_TO_DEVICE, 6 * MIB, pageable=False, stream=copies)
                arrived = machine.record_event(copies)
            with machine.range("forward"):
                _first_steps_compile(machine, number)
                machine.wait_for_event(arrived, MAIN)
                _queue(machine, (FUSED, GEMM, NORM, GEMM, NORM))
            with machine.range("backward"):
                _queue(machine, (GEMM, NORM, GEMM, NORM, GEMM))
            with machine.range("optimizer"):
                _queue(machine, (ADAM,))
            machine.synchronize_event(before)
            before = machine.record_event()


def _first_steps_compile(machine: Machine, number: int) -> None:
    if number < WARM_UP_STEPS:
        machine.work(9_000_000 // (number + 1))


def _run_ahead(machine: Machine, iterations: int, kernels: tuple[Kernel, ...]) -> None:
    """Keep the queue deep: the host waits only for the step before the one it has queued."""
    before = 0
    for _ in range(iterations):
        with machine.range("step"):
            _queue(machine, kernels)
            machine.synchronize_event(before)
            before = machine.record_event()


def _queue(machine: Machine, kernels: tuple[Kernel, ...], stream: Stream = MAIN) -> None:
    for kernel in kernels:
        machine.work(DISPATCH_NS)
        machine.launch(kernel, stream)


PROGRAMS: dict[str, Program] = {
    "launch": Program(
        run=_launch,
        iterations=20,
        shows="2,000 kernels of 3 µs, each submitted 20 µs after the last: the GPU waits for calls",
    ),
    "sync": Program(
        run=_sync,
        iterations=40,
        shows="a wait after every kernel, every sixth for a value of four bytes",
    ),
    "bandwidth": Program(
        run=_bandwidth,
        iterations=20,
        shows="24 MiB and 24 small blocks copied from pageable memory, never beside a kernel",
    ),
    "host": Program(
        run=_host,
        iterations=20,
        generation="2.9.1",
        shows="5 ms of waiting for a data-loading thread before 1.8 ms of kernels",
    ),
    "communication": Program(
        run=_communication,
        iterations=20,
        shows="an all-reduce after the backward pass that nothing overlaps",
    ),
    "memory": Program(
        run=_memory,
        iterations=30,
        generation="2020.5",
        shows="six cudaMalloc and six cudaFree in every step",
    ),
    "dependency": Program(
        run=_dependency,
        iterations=15,
        generation="3.25",
        gpus=2,
        shows="two GPUs that take turns: each waits for an event of the other",
    ),
    "parallelism": Program(
        run=_parallelism,
        iterations=15,
        metrics=True,
        shows="a busy timeline of kernels with 8 blocks on 132 multiprocessors",
    ),
    "dram": Program(
        run=_dram,
        iterations=15,
        metrics=True,
        shows="a busy timeline whose kernels keep device memory about 90 % busy",
    ),
    "divergence": Program(
        run=_divergence,
        iterations=15,
        shows="a busy timeline; that the kernel's lanes diverge only Nsight Compute could tell",
    ),
    "healthy": Program(
        run=_healthy,
        iterations=20,
        generation="3.25",
        shows="long kernels, a deep queue, less than 1 % idle",
    ),
}

# A program before and after a change, recorded alike, to compare with each other.
PAIR: dict[str, Program] = {
    "pair_baseline": Program(
        run=_eager_training,
        iterations=40,
        shows="a training step that waits for its batch, copies it from pageable memory, launches "
        "60 small kernels and reads the loss; compare it with `synthetic_pair_optimized.sqlite`",
    ),
    "pair_optimized": Program(
        run=_tuned_training,
        iterations=40,
        shows="the same step: the batch copied ahead, the small kernels fused, no loss read",
    ),
}
