"""Recordings whose cause is known, built from the programs behind the synthetic samples."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from traces.machine import DEVICE_TO_HOST, HOST_TO_DEVICE, Kernel, Machine
from traces.nsys_writer import Recording
from traces.programs import PROGRAMS, record

NAMES = tuple(PROGRAMS)
ITERATIONS = 6  # enough for iterations to be found, and for 10 % to be more than the edges


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="whyslow-scenarios-")


@cache
def scenario(name: str, iterations: int = ITERATIONS, generation: str = "") -> Path:
    """Return a recording of the program ``name``; written once per test run."""
    path = Path(_folder().name) / f"{name}_{iterations}_{generation or 'own'}.sqlite"
    return record(name, iterations=iterations, generation=generation).write(path)


def healthy() -> Path:
    """Long kernels, a deep queue."""
    return scenario("healthy")


def launch() -> Path:
    """Short kernels, each submitted after the last is done."""
    return scenario("launch")


def sync() -> Path:
    """A wait after every kernel."""
    return scenario("sync")


def bandwidth() -> Path:
    """Pageable copies that nothing overlaps."""
    return scenario("bandwidth")


def host() -> Path:
    """A main thread that waits for its data loader."""
    return scenario("host")


def communication() -> Path:
    """Collectives that nothing overlaps."""
    return scenario("communication")


def memory() -> Path:
    """Allocations in the loop."""
    return scenario("memory")


def dependency() -> Path:
    """Two GPUs that take turns."""
    return scenario("dependency")


def parallelism() -> Path:
    """Grids of 8 blocks."""
    return scenario("parallelism")


def dram() -> Path:
    """Kernels at the roof of device memory, with sampled metrics."""
    return scenario("dram")


def divergence() -> Path:
    """Divergent kernels, which a timeline cannot show."""
    return scenario("divergence")


def tail_wave() -> Path:
    """Kernels of 140 blocks, of which 132 fit at a time: the second wave is nearly empty."""
    return _long_kernels(Kernel(name="tail(float *)", duration_ns=400_000, **_FULL_BLOCK))


def low_occupancy() -> Path:
    """Kernels whose registers let 8 of 64 warps run on a multiprocessor."""
    kernel = Kernel(name="fat(float *)", duration_ns=400_000, threads=256, registers=255)
    return _long_kernels(kernel)


# 1,024 threads with 64 registers each use all registers of a multiprocessor.
_FULL_BLOCK = {"blocks": 140, "threads": 1024, "registers": 64}


def _long_kernels(kernel: Kernel) -> Path:
    recording = Recording()
    machine = Machine(recording)
    for _ in range(ITERATIONS):
        with machine.range("step"):
            for _ in range(8):
                machine.work(8_000)
                machine.launch(kernel)
    machine.synchronize_device()
    return recording.write(Path(_folder().name) / f"{kernel.name[:4]}.sqlite")


def pinned_copies() -> Path:
    """Return a recording that mostly copies, from pinned memory and with large blocks."""
    recording = Recording()
    machine = Machine(recording)
    for _ in range(ITERATIONS):
        with machine.range("step"):
            machine.copy(HOST_TO_DEVICE, 64 << 20, pageable=False)
            machine.work(8_000)
            machine.launch(Kernel(name="consume(float *)", duration_ns=100_000))
            machine.synchronize()
    return recording.write(Path(_folder().name) / "pinned_copies.sqlite")


def round_trips(steps: int = ITERATIONS) -> Path:
    """Return a recording in which 64 MiB go down before each kernel and up behind it."""
    recording = Recording()
    machine = Machine(recording)
    for _ in range(steps):
        with machine.range("step"):
            machine.copy(HOST_TO_DEVICE, 64 << 20, pageable=False)
            machine.launch(Kernel(name="relax(float *)", duration_ns=100_000))
            machine.copy(DEVICE_TO_HOST, 64 << 20, pageable=False)
            machine.synchronize()
    return recording.write(Path(_folder().name) / f"round_trips_{steps}.sqlite")


def device_gaps() -> Path:
    """Return kernels of 6 µs in a queue that is never empty: the GPU's own pauses remain."""
    kernel = Kernel(name="brief(float *)", duration_ns=6_000)
    recording = Recording()
    machine = Machine(recording)
    for _ in range(ITERATIONS):
        with machine.range("step"):
            for _ in range(100):
                machine.launch(kernel)
    machine.synchronize_device()
    return recording.write(Path(_folder().name) / "device_gaps.sqlite")


def cuda_graph_nodes(launches: int = 8, nodes: int = 5) -> Path:
    """Return a recording in which each graph launch put several kernels on the device.

    All kernels of one launch share its correlation id; each has the number of its node.
    """
    recording = Recording()
    for number in range(launches):
        begin = 1_000_000 + number * 200_000
        call = {"correlationId": number + 1}
        recording.api("cudaGraphLaunch_v10000", begin, begin + 9_000, **call)
        for node in range(nodes):
            start = begin + 11_000 + node * 21_000
            numbers = call | {"graphNodeId": node + 1}
            recording.kernel("node_kernel(float *)", start, start + 20_000, **numbers)
    return recording.write(Path(_folder().name) / f"graph_nodes_{launches}_{nodes}.sqlite")


def cuda_graph_whole(launches: int = 8) -> Path:
    """Return a recording in which each graph launch is one row and hides its kernels."""
    recording = Recording()
    for number in range(launches):
        begin = 1_000_000 + number * 200_000
        call = {"correlationId": number + 1}
        recording.api("cudaGraphLaunch_v10000", begin, begin + 9_000, **call)
        recording.graph_launch(3, begin + 11_000, begin + 116_000, **call)
    return recording.write(Path(_folder().name) / f"graph_whole_{launches}.sqlite")


def managed_memory(migrations: int = 50) -> Path:
    """Return one long kernel during which pages of managed memory move to the device."""
    recording = Recording()
    recording.api("cudaLaunchKernel_v7000", 1_000_000, 1_005_000, correlationId=1)
    length = migrations * 20_000
    recording.kernel("touch(float *, int)", 1_007_000, 1_007_000 + length, correlationId=1)
    recording.api("cudaDeviceSynchronize_v3020", 1_006_000, 1_010_000 + length, correlationId=2)
    for number in range(migrations):
        start = 1_007_000 + number * 20_000
        pages = {"srcKind": 4, "dstKind": 4, "streamId": 16, "migrationCause": 2}
        recording.copy(11, 65_536, start, start + 12_000, **pages)
    return recording.write(Path(_folder().name) / f"managed_{migrations}.sqlite")


def prefetched_memory(pieces: int = 40) -> Path:
    """Return a kernel whose pages the program prefetches just before, 2 MiB at a time."""
    recording = Recording()
    recording.api("cudaMemPrefetchAsync_v8000", 1_000_000, 1_100_000, correlationId=1)
    recording.api("cudaLaunchKernel_v7000", 1_101_000, 1_105_000, correlationId=2)
    start = 1_050_000
    for _ in range(pieces):
        pages = {"srcKind": 4, "dstKind": 4, "streamId": 16, "migrationCause": 1}
        recording.copy(11, 2_097_152, start, start + 85_000, **pages)
        start += 86_000
    recording.kernel("inc(int *, unsigned long)", start + 2_000, start + 400_000, correlationId=2)
    recording.api("cudaDeviceSynchronize_v3020", 1_106_000, start + 404_000, correlationId=3)
    return recording.write(Path(_folder().name) / f"prefetched_{pieces}.sqlite")


def results_read_page_by_page(steps: int = 6, pages: int = 20) -> Path:
    """Return steps of a kernel, a wait, and a host that takes results back as it touches them."""
    recording = Recording()
    function, module = recording.string("check_result"), recording.string("a.out")
    now = 1_000_000
    for number in range(1, 2 * steps, 2):
        recording.api("cudaLaunchKernel_v7000", now, now + 5_000, correlationId=number)
        recording.kernel(
            "inc(int *, unsigned long)", now + 7_000, now + 307_000, correlationId=number
        )
        waited = (now + 6_000, now + 310_000)
        recording.api("cudaDeviceSynchronize_v3020", *waited, correlationId=number + 1)
        now += 310_000
        for page in range(pages):
            touched = {"globalPid": recording.pid, "address": 4_096 * page, "module": module}
            recording.add(
                "CUDA_UM_CPU_PAGE_FAULT_EVENTS",
                start=now + 1_000,
                CpuInstruction=function,
                **touched,
            )
            back = {"srcKind": 4, "dstKind": 4, "streamId": 16, "migrationCause": 2}
            recording.copy(12, 65_536, now + 30_000, now + 40_000, **back)
            now += 60_000
    recording.api("cudaLaunchKernel_v7000", now, now + 5_000, correlationId=99)
    recording.kernel("last(int *)", now + 7_000, now + 107_000, correlationId=99)
    return recording.write(Path(_folder().name) / f"read_back_{steps}_{pages}.sqlite")


def two_processes_with_equal_ids() -> Path:
    """Return a recording of two processes that use the same correlation ids on two devices."""
    recording = Recording(pid=100)
    other = recording.process(200, "second")
    for device, process, late in ((0, recording.pid, 0), (1, other, 500_000)):
        thread = process | (process >> 24 & 0xFFFFFF)
        for number in range(1, 6):
            begin = 1_000_000 + late + number * 30_000
            recording.api(
                "cudaLaunchKernel_v7000",
                begin,
                begin + 4_000,
                correlationId=number,
                globalTid=thread,
            )
            recording.kernel(
                "work(int)",
                begin + 6_000,
                begin + 16_000,
                correlationId=number,
                globalPid=process,
                deviceId=device,
            )
    return recording.write(Path(_folder().name) / "two_processes.sqlite")


def no_gpu_work() -> Path:
    """Return a recording of NVTX ranges only."""
    recording = Recording()
    for number in range(5):
        recording.nvtx("step", 1_000_000 * number, 1_000_000 * number + 900_000)
    return recording.write(Path(_folder().name) / "no_gpu_work.sqlite")
