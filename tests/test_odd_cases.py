"""The small odd inputs beside the checkout: each is answered as its README says is right."""

from pathlib import Path

import pytest

from analyzers import analyze
from collectors import open_trace
from collectors.errors import RefusedError
from tests.torch_traces import note_by_code

CASES = Path(__file__).parents[2] / "shared" / "cases"
CASES = CASES if CASES.is_dir() else Path("/work/shared/cases")

REFUSED = {
    "B20_lfs.sqlite": "git lfs pull",
    "b05_legacy_list.json": "torch.autograd.profiler",
    "b45_ascend_trace_view.json": "Ascend",
    "f_be_count.json": "none of its 10 events",
}
NOTED = {  # the code of a note, its severity, and how many it counts
    "B02_tables_suffix_V2.sqlite": ("table_renamed", "info", 1),
    "b01_ts0_half.json": ("kernel_no_time", "import_error", 60),
    "b27_doublegz.json.gz": ("gzip_twice", "info", 1),
    "f_geometry_string.json": ("number_as_text", "info", 16),
    "n16_repeated_header.csv": ("header_repeated", "info", 1),
    "n20_impossible_values.csv": ("metric_impossible", "import_error", 4),
    "s17_trailing_garbage.sqlite": ("sqlite_trailing", "info", 1),
    "s67_nvtx_crossing.sqlite": ("nvtx_crossing", "info", 50),
    "t24_numeric_strings.json": ("number_as_text", "info", 60),
    "t25_308_digits.json": ("kernel_bad_type", "import_error", 1),
    "t52_gzip_bad_crc.json.gz": ("gzip_damaged", "import_error", 1),
}
ANSWERED = {  # the cause, and words of the sentence
    "B02_tables_suffix_V2.sqlite": ("sync", "cudaDeviceSynchronize"),
    "C11_mpi_table.sqlite": ("host", "mostly during MPI_Allreduce"),
    "b01_ts0_half.json": ("unknown", "60 of 120 GPU operations could not be read"),
    "b15_graph_nokernel.json": ("unknown", "--cuda-graph-trace=node"),
    "b27_doublegz.json.gz": ("sync", ""),
    "b28_array_unclosed.json": ("sync", ""),
    "b46_xpu_real.json": ("sync", "urQueueFinish"),
    "b48_sglang_merge.json": ("sync", "2 GPUs"),
    "t25_308_digits.json": ("launch", ""),
}
SILENT = ("b28_array_unclosed.json", "b48_sglang_merge.json", "c04_nsys_utf16.sqlite")


def case(name):
    path = CASES / name
    if not path.is_file():
        pytest.skip("the odd inputs are not here")
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_recording_is_named(tmp_path, name):
    with pytest.raises(RefusedError, match=REFUSED[name]):
        open_trace(case(name), tmp_path)


@pytest.mark.parametrize("name", NOTED)
def test_what_is_odd_is_noted_and_counted(tmp_path, name):
    code, severity, count = NOTED[name]
    note = note_by_code(open_trace(case(name), tmp_path))[code]
    assert (note.severity, note.count) == (severity, count)


@pytest.mark.parametrize("name", ANSWERED)
def test_the_answer_is_the_right_one(tmp_path, name):
    cause, words = ANSWERED[name]
    verdict = analyze(open_trace(case(name), tmp_path)).verdict
    assert verdict.cause == cause
    assert words in verdict.sentence


@pytest.mark.parametrize("name", SILENT)
def test_what_is_allowed_is_read_silently(tmp_path, name):
    assert not note_by_code(open_trace(case(name), tmp_path))
