"""Backtraces of ``nsys profile --cudabacktrace`` name the function that made a call."""

import sqlite3

import pytest

from analyzers import analyze
from benchmarks.simulated.cases import Maker
from benchmarks.simulated.families import sync_every_kernel
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.simulator import execute
from collectors import open_trace
from tests.torch_traces import names

FRAMES = (
    ("0x7fd990700588", "/opt/nvidia/nsight/libcupti.so.12"),
    ("cudaStreamSynchronize", "/usr/local/cuda/lib64/libcudart.so.12"),
    ("cudaError cudaMalloc<double>(double**, unsigned long)", "/home/me/solver"),
    ("Solver::advance(int)", "/home/me/cuda-apps/libsolver.so"),
    ("main", "/home/me/solver"),
    ("__libc_start_main", "/lib64/libc-2.31.so"),
)


@pytest.fixture
def traced(tmp_path):
    """Return a function that opens an export in which each wait has a backtrace of frames."""

    def build(frames):
        recorder = Recorder("3.13")
        execute(sync_every_kernel(Maker(1)).program, recorder=recorder)
        path = recorder.write(tmp_path / "a.sqlite")
        with sqlite3.connect(path) as export:
            columns = "id INTEGER, symbol INTEGER, module INTEGER, stackDepth INTEGER"
            export.execute("DROP TABLE IF EXISTS CUDA_CALLCHAINS")
            export.execute(f"CREATE TABLE CUDA_CALLCHAINS ({columns})")
            texts = sorted({t for frame in frames for t in frame})
            number = {text: 900_000 + n for n, text in enumerate(texts)}
            export.executemany(
                "INSERT INTO StringIds VALUES (?, ?)", ((n, t) for t, n in number.items())
            )
            chain = [(7, number[s], number[m], depth) for depth, (s, m) in enumerate(frames)]
            export.executemany("INSERT INTO CUDA_CALLCHAINS VALUES (?, ?, ?, ?)", chain)
            export.execute(
                "UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET callchainId = 7 WHERE nameId IN "
                "(SELECT id FROM StringIds WHERE value LIKE '%Synchronize%')"
            )
        return open_trace(path, tmp_path / "cache")

    return build


def test_the_innermost_function_of_the_program_is_named(traced):
    trace = traced(FRAMES)
    called = {n for n in names(trace, "api_calls", "caller_id") if n}
    assert "Solver::advance(int)" in called
    finding = next(f for f in analyze(trace).findings if f.id == "sync.host_waits")
    assert finding.title.endswith(", mostly called from advance")


def test_a_backtrace_of_libraries_alone_names_nobody(traced):
    finding = next(
        f for f in analyze(traced((*FRAMES[:2], FRAMES[-1]))).findings if f.id == "sync.host_waits"
    )
    assert "called from" not in finding.title
