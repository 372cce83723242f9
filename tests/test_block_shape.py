"""Blocks that do not fill their warps are seen from the launch configuration alone."""

import pytest

from analyzers import analyze
from analyzers.finding import Cause
from collectors import open_trace
from traces.nsys_writer import Recording

US, MS = 1_000, 1_000_000
KERNELS, GRID = 20, 100_000


def blocks(folder, *shapes, grid=GRID):
    """Return the report on kernels of 1 ms, back to back, whose blocks take turns in shape."""
    made = Recording()
    for i in range(KERNELS):
        x, y = shapes[i % len(shapes)]
        call = {"correlationId": 100 + i}
        made.api("cudaLaunchKernel_v7000", i * 10 * US, i * 10 * US + 4 * US, **call)
        shape = {"blockX": x, "blockY": y, "blockZ": 1, "gridX": grid}
        made.kernel(f"histo{x}x{y}(int*)", (i + 1) * MS, (i + 2) * MS - US, **shape, **call)
    folder.mkdir(parents=True, exist_ok=True)
    return analyze(open_trace(made.write(folder / "a.sqlite"), folder / "cache"))


def finding_of(report):
    return next((f for f in report.findings if f.id == "divergence.block_shape"), None)


@pytest.mark.parametrize(
    ("shape", "threads", "idle"),
    [((1, 1), "1 thread", 31), ((4, 4), "16 threads", 16), ((33, 1), "33 threads", 31)],
)
def test_lanes_that_no_thread_uses_are_counted_and_named(tmp_path, shape, threads, idle):
    report = blocks(tmp_path, shape)
    finding = finding_of(report)
    assert finding.cause is Cause.DIVERGENCE
    kernel = f"histo{shape[0]}x{shape[1]}"
    assert finding.title.startswith(
        f"`{kernel}` ran in blocks of {threads}, which leaves {idle} of the 32 lanes of the"
    )
    assert "20 launches that ran alone for 20.0 ms" in finding.title
    assert report.verdict.cause == "divergence"
    assert kernel in report.verdict.sentence


@pytest.mark.parametrize("shape", [(32, 1), (16, 16), (8, 4), (128, 1), (1024, 1)])
def test_whole_warps_are_no_finding(tmp_path, shape):
    assert finding_of(blocks(tmp_path, shape)) is None


@pytest.mark.parametrize(("threads", "is_finding"), [(58, False), (57, True)])
def test_a_tenth_of_the_lanes_is_where_it_begins(tmp_path, threads, is_finding):
    assert (finding_of(blocks(tmp_path, (threads, 1))) is not None) == is_finding


def test_a_block_of_4_by_4_could_win_no_more_than_three_quarters(tmp_path):
    finding = finding_of(blocks(tmp_path, (4, 4)))
    alone = KERNELS * (MS - US)
    assert finding.lost_ns == pytest.approx(0.75 * alone, rel=0.01)


def test_only_the_launches_of_such_blocks_count(tmp_path):
    finding = finding_of(blocks(tmp_path, (4, 4), (256, 1)))
    assert "10 launches that ran alone for 9.99 ms" in finding.title
    assert finding.lost_ns == pytest.approx(0.75 * 10 * (MS - US), rel=0.01)


def test_two_shapes_of_blocks_are_one_finding_about_the_worse(tmp_path):
    finding = finding_of(blocks(tmp_path, (4, 4), (1, 1)))
    assert finding.title.startswith("`histo1x1` ran in blocks of 1 thread")
    assert "with other kernels of such blocks, 20 launches" in finding.title


def test_a_grid_that_leaves_more_of_the_gpu_idle_is_named_instead(tmp_path):
    report = blocks(tmp_path, (48, 1), grid=2)
    assert finding_of(report) is None
    assert report.findings[0].id == "parallelism.small_grid"
