from __future__ import annotations

import gzip
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import analyzers
from analyzers.compare.compare import compare
from analyzers.compare.measure import measure
from analyzers.compare.types import ComparisonVerdict
from analyzers.facts.facts import build_facts
from benchmarks.ingest_export import KERNEL, RUNTIME, make_export
from collectors import open_trace
from tests import scenarios
from traces.counter_programs import COUNTED
from traces.generate import FOLDER, generate
from traces.nsys_layout import GENERATIONS, layout
from traces.nsys_writer import SYNTHETIC, Recording, short_name
from traces.programs import PAIR, PROGRAMS, WARM_UP_STEPS

TRACES = FOLDER.parent
TIMELINES = PROGRAMS | PAIR
SAMPLES = sorted(
    p for p in TRACES.rglob("*") if p.suffix in (".sqlite", ".nsys-rep", ".ncu-rep", ".gz", ".csv")
)
HEALTHY_TIMELINE = ("healthy", "divergence")
MAX_BYTES = 2_000_000
REAL_FOLDER = Path(__file__).parents[2] / "shared" / "real" / "nsys_sqlite"
REAL = {"2.9.1": "*saxpy*", "3.13": "*cloverleaf*", "3.25": "*h100_2gpu*"}
ADDED_BY_USERS = {("CUPTI_ACTIVITY_KIND_RUNTIME", "name"), ("CUPTI_ACTIVITY_KIND_MEMCPY", "name")}

# A program whose kernels are slow inside looks busy on the timeline; a rule may still tell.
INSIDE_KERNELS = {"parallelism": "parallelism", "dram": "bandwidth"}


def contents(path: Path) -> dict[str, list[tuple]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as file:
        tables = [n for (n,) in file.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {t: file.execute(f'SELECT * FROM "{t}"').fetchall() for t in sorted(tables)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return {p.name: p for p in generate(tmp_path_factory.mktemp("synthetic"))}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", TIMELINES)
def test_committed_sample_is_what_the_generator_makes(made, name):
    file = f"synthetic_{name}.sqlite"
    assert contents(FOLDER / file) == contents(made[file])


def test_generator_makes_no_more_and_no_less_than_is_committed(made):
    assert sorted(made) == sorted(p.name for p in FOLDER.iterdir())


def test_same_program_gives_the_same_bytes(tmp_path):
    first, second = (generate(tmp_path / folder) for folder in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_every_sample_has_a_row_and_every_row_a_sample():
    rows = re.findall(r"^\| `([^`]+)` \|", (TRACES / "README.md").read_text("utf-8"), re.M)
    assert sorted(rows) == sorted(str(p.relative_to(TRACES)) for p in SAMPLES)


def test_row_says_synthetic_for_generated_files_only():
    for line in (TRACES / "README.md").read_text("utf-8").splitlines():
        if line.startswith("| `"):
            assert (line.split("|")[2].strip() == SYNTHETIC) == ("`synthetic/" in line)


def test_row_tells_what_the_program_shows():
    text = (TRACES / "README.md").read_text("utf-8")
    for name, program in TIMELINES.items():
        row = next(line for line in text.splitlines() if f"`synthetic/synthetic_{name}." in line)
        assert row.endswith(f"| {program.shows} |")
        assert f"layout {program.generation})" in row


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_sample_is_small(path):
    assert path.stat().st_size < MAX_BYTES


@pytest.mark.parametrize("name", TIMELINES)
def test_synthetic_sample_says_so_wherever_a_reader_looks(name, root):
    trace = open_trace(FOLDER / f"synthetic_{name}.sqlite", root)
    devices, processes = trace.arrow("devices"), trace.arrow("processes")
    assert all(SYNTHETIC in n for n in devices.column("name").to_pylist())
    # The oldest layout has no names of processes.
    assert set(processes.column("name").to_pylist()) <= {f"synthetic_{name}", ""}
    assert not trace.source.tool_version or trace.source.tool_version.startswith(SYNTHETIC)


@pytest.mark.parametrize("name", COUNTED)
def test_committed_counters_are_what_the_generator_makes(made, name):
    file = f"synthetic_counters_{name}.ncu-rep"
    assert (FOLDER / file).read_bytes() == made[file].read_bytes()


@pytest.mark.parametrize(
    ("name", "cause"), [("divergence", "divergence"), ("uncoalesced", "bandwidth")]
)
def test_counters_say_that_they_are_synthetic_and_show_their_cause(name, cause, root):
    trace = open_trace(FOLDER / f"synthetic_counters_{name}.ncu-rep", root)
    assert all(SYNTHETIC in n for n in trace.frame("devices")["name"])
    assert trace.source.tool_version == SYNTHETIC
    assert analyzers.analyze(trace).verdict.cause == cause


def test_real_sample_holds_nothing_private():
    words = (b"/work/", b"TOKEN", b"SECRET", b"SSH_", b"AWS_", b"OLDPWD=", b"SSL_CERT")
    for path in TRACES.glob("cpu_training.*"):
        if path.suffix != ".py":
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
            found = [w for w in words if w in raw]
            assert not found, path.name


def test_real_torch_sample_has_the_steps_and_operators_of_its_program(root):
    trace = open_trace(TRACES / "cpu_training.json.gz", root)
    operators = trace.names(trace.columns("operators", ["name_id"])["name_id"]).tolist()
    ranges = trace.names(trace.columns("ranges", ["name_id"])["name_id"]).tolist()
    assert operators.count("aten::linear") == 3 * 12
    assert [r for r in ranges if r.startswith("ProfilerStep#")][:2] == [
        *("ProfilerStep#0", "ProfilerStep#1")
    ]
    assert trace.count("memory_events")
    assert not trace.notes


def test_real_sample_has_the_ranges_of_its_program(root):
    trace = open_trace(TRACES / "cpu_training.sqlite", root)
    ranges = trace.arrow("ranges").column("name_id").to_pylist()
    names = dict(
        zip(*(trace.arrow("strings").column(c).to_pylist() for c in ("id", "value")), strict=True)
    )
    assert sorted({names[r] for r in ranges}) == [
        *("backward", "data", "forward", "make_batch", "optimizer", "step")
    ]
    assert [names[r] for r in ranges].count("step") == 12


@pytest.mark.parametrize("generation", GENERATIONS)
def test_generations_differ_only_in_what_the_layout_says(generation, root):
    traces = [
        open_trace(scenarios.scenario("launch", 2, g), root) for g in (generation, GENERATIONS[-1])
    ]
    for table in ("kernels", "api_calls", "ranges"):
        columns = [
            c
            for c in ("start_ns", "end_ns", "correlation_id")
            if c in traces[0].arrow(table).column_names
        ]
        assert traces[0].arrow(table, columns).equals(traces[1].arrow(table, columns))


def test_layouts_grow_as_the_format_did():
    kernel = {g: [c.name for c in layout(g)["CUPTI_ACTIVITY_KIND_KERNEL"]] for g in GENERATIONS}
    assert [len(kernel[g]) for g in GENERATIONS] == [26, 27, 28, 40]
    assert not {"META_DATA_EXPORT", "EXPORT_META_DATA", "PROCESSES"} & set(layout("2020.5"))


@pytest.mark.parametrize(("generation", "file"), REAL.items())
def test_layout_is_that_of_a_real_export(generation, file):
    path = next(iter(REAL_FOLDER.glob(file)), None)
    if path is None:
        pytest.skip("the real recordings are not here")
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as real:
        for table, columns in layout(generation).items():
            found = [
                (
                    name,
                    declared + (" NOT NULL" if notnull else "") + (" PRIMARY KEY" if key else ""),
                )
                for _, name, declared, notnull, _, key in real.execute(
                    f"PRAGMA table_info({table})"
                )
                if (table, name) not in ADDED_BY_USERS
            ]
            if found:
                assert [(c.name, c.declaration) for c in columns] == found, table


def test_nsys_itself_reads_a_synthetic_sample(tmp_path):
    nsys = shutil.which("nsys")
    if nsys is None:
        pytest.skip("nsys is not installed")
    sample = shutil.copy(FOLDER / "synthetic_sync.sqlite", tmp_path)
    outputs = [
        subprocess.run(
            [nsys, "stats", "-q", "--report", report, "--format", "csv", sample],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        ).stdout
        for report in ("cudaapisum", "cuda_api_sum")  # before and since 2023
    ]
    rows = {line.rpartition(",")[2]: line.split(",") for out in outputs for line in out.split()}
    waits, launches = rows["cudaStreamSynchronize"], rows["cudaLaunchKernel"]
    assert (waits[2], launches[2]) == ("960", "960")


def test_unknown_generation_and_table_are_refused():
    with pytest.raises(ValueError, match=r"9\.9"):
        Recording(generation="9.9")
    with pytest.raises(KeyError, match="NO_SUCH_TABLE"):
        Recording().add("NO_SUCH_TABLE", start=1)
    with pytest.raises(KeyError, match="lenght"):
        Recording().add("NVTX_EVENTS", start=1, lenght=2)


def test_rows_are_in_order_of_time_as_in_a_real_export(tmp_path):
    recording = Recording()
    recording.nvtx("late", 30, 40)
    recording.bulk("NVTX_EVENTS", {"start": np.array([10, 20]), "end": np.array([11, 21])})
    rows = contents(recording.write(tmp_path / "ordered.sqlite"))["NVTX_EVENTS"]
    assert [row[:3] for row in rows] == [(10, 11, 59), (20, 21, 59), (30, 40, 59)]


@pytest.mark.parametrize(
    ("build", "kernels"),
    [
        (scenarios.tail_wave, 48),
        (scenarios.low_occupancy, 48),
        (scenarios.pinned_copies, 6),
        (scenarios.cuda_graph_nodes, 40),
        (scenarios.cuda_graph_whole, 0),
        (scenarios.managed_memory, 1),
        (scenarios.two_processes_with_equal_ids, 10),
        (scenarios.no_gpu_work, 0),
    ],
)
def test_scenario_opens_without_a_complaint(build, kernels, root):
    trace = open_trace(build(), root)
    assert trace.count("kernels") == kernels
    assert not [n for n in trace.notes if n.severity == "import_error"]


def test_benchmark_has_the_rows_that_it_promises(tmp_path):
    rows = contents(make_export(tmp_path / "benchmark.sqlite", scale=0.002))
    assert len(rows[KERNEL]) == 4_000
    assert len(rows[RUNTIME]) == 8_000
    assert len(rows["NVTX_EVENTS"]) == 4_000
    launched = {row[6] for row in rows[KERNEL]}  # the seventh column is the correlation id
    assert len(launched) == 4_000
    assert launched <= {row[4] for row in rows[RUNTIME]}


def test_tables_without_rows_exist_only_when_asked_for(tmp_path):
    lazy = contents(Recording().write(tmp_path / "lazy.sqlite"))
    full = contents(Recording(lazy=False).write(tmp_path / "full.sqlite"))
    assert "OSRT_API" not in lazy
    assert full["OSRT_API"] == []


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("void at::native::kernel<4, float>(int)", "kernel"),
        ("void at::native::(anonymous namespace)::norm<float>(int, float)", "norm"),
        (
            "ncclDevKernel_AllReduce_Sum_f32_RING_LL(args<(unsigned long)4096>)",
            "ncclDevKernel_AllReduce_Sum_f32_RING_LL",
        ),
        ("plain", "plain"),
    ],
)
def test_short_name_is_the_function_alone(full, short):
    assert short_name(full) == short


@pytest.mark.parametrize("name", sorted({*PROGRAMS} - {*HEALTHY_TIMELINE, *INSIDE_KERNELS}))
def test_verdict_on_a_sample_is_its_cause(name, root):
    report = analyzers.analyze(open_trace(FOLDER / f"synthetic_{name}.sqlite", root))
    assert report.verdict.cause == name, report.verdict.sentence


@pytest.mark.parametrize("name", HEALTHY_TIMELINE)
def test_timeline_of_slow_kernels_is_healthy_but_not_examined(name, root):
    report = analyzers.analyze(open_trace(FOLDER / f"synthetic_{name}.sqlite", root))
    assert report.verdict.cause == "healthy", report.verdict.sentence
    assert "divergence" in report.verdict.not_examined


@pytest.mark.parametrize(("name", "cause"), INSIDE_KERNELS.items())
def test_what_a_rule_sees_inside_kernels_is_the_verdict_on_a_busy_timeline(name, cause, root):
    report = analyzers.analyze(open_trace(FOLDER / f"synthetic_{name}.sqlite", root))
    assert report.verdict.cause == cause
    assert report.findings[0].title in report.verdict.sentence


@pytest.mark.parametrize("name", TIMELINES)
def test_ledger_of_a_sample_sums_to_its_window(name, root):
    report = analyzers.analyze(open_trace(FOLDER / f"synthetic_{name}.sqlite", root))
    for device in report.devices:
        assert sum(device.rows.values()) == device.duration_ns == report.window.duration_ns


@pytest.mark.parametrize("name", TIMELINES)
def test_iterations_of_a_sample_are_found(name, root):
    report = analyzers.analyze(open_trace(FOLDER / f"synthetic_{name}.sqlite", root))
    assert len(report.iterations) == TIMELINES[name].iterations


def test_pair_is_comparable_and_faster_in_the_rows_that_its_change_is_about(root):
    sides = [measure(build_facts(open_trace(FOLDER / f"synthetic_{n}.sqlite", root))) for n in PAIR]
    comparison = compare(sides[:1], sides[1:])
    assert comparison.verdict is ComparisonVerdict.IMPROVED, comparison.sentence
    assert [side.warm_up for side in sides] == [WARM_UP_STEPS, WARM_UP_STEPS]
    won = {row.row for row in comparison.waterfall if row.significant and row.change_ns < 0}
    assert {"transfer", "launch", "host"} <= won
    assert sum(row.change_ns for row in comparison.waterfall) == comparison.delta.change
