"""The verdict names the GPU, the kernel and the size, and hears findings before it gives up."""

import dataclasses
from pathlib import Path

import pytest

from analyzers import analyze
from analyzers.kernels.top import kernels_sentence
from analyzers.report import KernelShare
from collectors import open_trace
from traces.nsys_writer import SYNTHETIC_H100, Recording

CASES = Path(__file__).parents[2] / "shared" / "cases"
US, MS = 1_000, 1_000_000
STEP = 10 * MS


def gpus(folder, *idle_ms, steps=20):
    """Return the report on one process that keeps several GPUs busy but for these ms of each step.

    Work is submitted just before it runs, by a thread of each GPU.
    """
    made = Recording(gpus=(SYNTHETIC_H100,) * len(idle_ms))
    number = 0
    for device, idle in enumerate(idle_ms):
        thread = made.thread(made.pid, 5000 + device, f"feeder {device}")
        for step in range(steps):
            number += 1
            begin = step * STEP + int(idle * MS)
            call = {"correlationId": number}
            made.api(
                "cudaLaunchKernel_v7000", begin - 6 * US, begin - 2 * US, globalTid=thread, **call
            )
            place = {"deviceId": device, "globalPid": made.pid}
            made.kernel("gemm(float*)", begin, (step + 1) * STEP, **place, **call)
    folder.mkdir(parents=True, exist_ok=True)
    return analyze(open_trace(made.write(folder / "a.sqlite"), folder / "cache"))


def test_one_starved_gpu_of_four_is_named_with_its_own_share(tmp_path):
    verdict = gpus(tmp_path, 0.01, 0.01, 0.01, 2.0).verdict
    assert verdict.cause == "host"
    assert verdict.sentence.startswith("Host-bound on GPU 3: for 19 % of the time it is in use, ")
    assert "No cause costs 10 % or more of any other GPU." in verdict.sentence
    assert verdict.share == pytest.approx(0.19, abs=0.005)


def test_two_of_four_that_lose_a_tenth_are_counted(tmp_path):
    sentence = gpus(tmp_path, 0.01, 0.01, 1.2, 1.5).verdict.sentence
    assert sentence.startswith("Host-bound on GPU 3: ")
    assert "2 of 4 GPUs lose 10 % or more to one cause; this one most." in sentence


def test_four_gpus_that_lose_little_are_healthy(tmp_path):
    assert gpus(tmp_path, 0.01, 0.01, 0.01, 0.02).verdict.cause == "healthy"


def test_a_loss_that_one_gpu_has_most_of_names_it(tmp_path):
    sentence = gpus(tmp_path, 0.01, 0.01, 0.01, 8.0).verdict.sentence
    assert sentence.startswith("Host-bound: for ")
    assert "99.9 % of that is on GPU 3." in sentence


@pytest.mark.parametrize(
    ("idle_ms", "cause", "begin"),
    [
        (0.4, "healthy", "Healthy on the timeline: no cause costs 10 % or more of the window"),
        (0.7, "healthy", "The host costs "),
        (1.5, "host", "Host-bound: for "),
    ],
)
def test_a_loss_of_a_twentieth_is_named_before_anything_is_called_healthy(
    tmp_path, idle_ms, cause, begin
):
    verdict = gpus(tmp_path, idle_ms).verdict
    assert verdict.cause == cause
    assert verdict.sentence.startswith(begin)
    assert ("ealthy" in verdict.sentence) == (idle_ms == 0.4)


def test_a_loss_by_copies_is_written_in_the_plural(tmp_path):
    made = Recording()
    for i in range(20):
        launch, copy = {"correlationId": 2 * i + 1}, {"correlationId": 2 * i + 2}
        begin = i * MS
        made.api("cudaMemcpyAsync_v3020", i * 10 * US, i * 10 * US + 3 * US, **copy)
        made.api("cudaLaunchKernel_v7000", i * 10 * US + 4 * US, i * 10 * US + 8 * US, **launch)
        made.copy(1, 1_000_000, begin, begin + 70 * US, **copy)
        made.kernel("gemm(float*)", begin + 71 * US, begin + MS - US, **launch)
    report = analyze(open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache"))
    assert report.verdict.sentence.startswith(
        "Exposed copies cost 7.0 % of the window, the largest"
    )


def test_kernels_that_nobody_examined_are_named_with_their_share(tmp_path):
    report = gpus(tmp_path, 0.01)
    named = (
        "By kernel: nearly all of the kernel time in `gemm`. What happens inside was not examined"
    )
    assert named in report.verdict.sentence
    (kernel,) = report.top_kernels
    assert (kernel.name, kernel.count, kernel.share) == ("gemm(float*)", 20, 1.0)
    assert kernel.total_ns == sum(d.busy_ns for d in report.devices)


def share(name, part):
    return KernelShare(name=name, count=1, total_ns=int(1e6 * part), share=part)


@pytest.mark.parametrize(
    ("kernels", "sentence"),
    [
        ([("f(int)", 0.6), ("g(int)", 0.4)], "60 % of it in `f`"),
        ([("f(int)", 0.4), ("g(int)", 0.3), ("h(int)", 0.3)], "40 % of it in `f`, 30 % in `g`"),
        (
            [("f(int)", 0.1), ("g(int)", 0.1), ("h(int)", 0.1), ("i(int)", 0.1)],
            "10 % of it in `f`, 10 % in `g`, 10 % in `h`",
        ),
        ([("f(int)", 0.3), ("f(long)", 0.3)], "30 % of it in `f(int)`, 30 % in `f(long)`"),
    ],
)
def test_kernels_are_named_until_half_of_the_time_is_told(kernels, sentence):
    assert kernels_sentence(tuple(share(*k) for k in kernels)) == sentence


def test_work_in_a_small_part_of_the_recording_is_said_first(tmp_path):
    made = Recording()
    made.api("cudaMalloc_v3020", -900 * MS, -899 * MS)
    for i in range(10):
        call = {"correlationId": 100 + i}
        made.api("cudaLaunchKernel_v7000", i * MS - 6 * US, i * MS - 2 * US, **call)
        made.kernel("gemm(float*)", i * MS, (i + 1) * MS - 10 * US, **call)
    report = analyze(open_trace(made.write(tmp_path / "a.sqlite"), tmp_path / "cache"))
    assert report.verdict.sentence.startswith(
        "The GPU is used in 1.1 % of the recording; within that, "
    )


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases")
def test_two_processes_on_the_only_gpu_share_it(tmp_path):
    report = analyze(open_trace(CASES / "B26_two_processes_share_gpu.sqlite", tmp_path))
    (device,) = report.devices
    assert device.busy_ns / device.duration_ns == pytest.approx(0.997, abs=0.001)
    assert report.verdict.cause == "healthy"


def test_every_number_of_a_report_with_top_kernels_survives_json(tmp_path):
    report = gpus(tmp_path, 0.01)
    assert type(report).from_dict(report.to_dict()) == report
    assert dataclasses.asdict(report.top_kernels[0])["count"] == 20
