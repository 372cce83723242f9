"""Every pair of ``workloads/``: what its text promises is true, and both twins do the same work."""

import argparse
import ast
import getpass
import importlib.metadata
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from analyzers.finding import Cause
from collectors import open_trace
from workloads import harness

ROOT = Path(__file__).parents[1]
PAIRS = {pair.name: pair for pair in harness.pairs()}
FILES = {path.stem: path for pair in PAIRS.values() for path in (pair.baseline, pair.optimized)}
HEADINGS = {
    "baseline": (
        "What it computes:",
        "Why it is slow:",
        "What the twin changes:",
        "What whyslow should say:",
        "What a CPU cannot show:",
    ),
    "optimized": (
        "What it computes:",
        "What changed:",
        "What whyslow should say:",
        "What a CPU cannot show:",
    ),
}
STEPS, WARMUP = 2, 1

PROBE = Path(__file__).with_name("workload_probe.py")


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """Return what one process that ran all workloads found out."""
    pytest.importorskip("torch", reason="the workloads need torch")
    folder = tmp_path_factory.mktemp("workloads")
    done = python(PROBE, folder, STEPS, WARMUP)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return SimpleNamespace(folder=folder, **found)


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def docstring(name):
    return ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8")))


def twin_of(name):
    pair, _, role = name.rpartition("_")
    return f"{pair}_{'optimized' if role == 'baseline' else 'baseline'}"


# What the files say


def test_every_file_of_the_folder_is_a_twin_or_the_harness():
    others = {"__init__", "__main__", "harness"}
    assert {p.stem for p in (ROOT / "workloads").glob("*.py")} == set(FILES) | others


def test_the_four_causes_of_the_product_and_the_host_have_a_pair():
    causes = {pair.cause for pair in PAIRS.values()}
    assert causes >= {"launch", "divergence", "bandwidth", "sync", "host"}
    assert causes | {a for p in PAIRS.values() for a in p.also} <= {c.value for c in Cause}


@pytest.mark.parametrize("name", FILES)
def test_the_docstring_tells_the_whole_story(name):
    text = docstring(name)
    lines = text.splitlines()
    assert lines[0].endswith("."), "the first line is a sentence"
    places = [lines.index(heading) for heading in HEADINGS[name.rpartition("_")[2]]]
    assert places == sorted(places)
    for place in places:
        assert lines[place + 1].strip(), f"nothing below {lines[place]}"


@pytest.mark.parametrize("name", FILES)
def test_a_workload_imports_only_what_a_gpu_machine_has(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module.split(".")[0]}
            if node.module == "workloads":
                assert [alias.name for alias in node.names] == ["harness"]
    ours = {"torch", "nvtx", "numba", "numpy", "workloads"}
    assert found - ours <= sys.stdlib_module_names


def definitions(path):
    """Return what a file defines by name, its methods as part of their class."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            found[ast.unparse(target)] = ast.dump(node)
    return found


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_twins_differ_where_the_lesson_is_and_nowhere_else(pair):
    slow, fast = definitions(pair.baseline), definitions(pair.optimized)
    different = {name for name in slow | fast if slow.get(name) != fast.get(name)}
    assert different == set(pair.lesson)


def test_pairs_are_listed_without_loading_torch():
    code = "import sys; from workloads.harness import pairs; print(len(pairs()), *sys.modules)"
    count, *modules = python("-c", code).stdout.split()
    assert int(count) == len(PAIRS)
    assert not {"torch", "numpy", "numba", "nvtx"} & set(modules)


def test_the_list_names_every_pair_with_its_cause():
    shown = python("-m", "workloads").stdout
    for pair in PAIRS.values():
        assert re.search(rf"^{pair.name} +{pair.cause} +{re.escape(pair.title)}$", shown, re.M)


def test_a_new_pair_is_found_by_being_there(tmp_path):
    text = '"""A title."""\nCAUSE = "launch"\nALSO = ("sync",)\nSEEN_BY = "timeline"\nLESSON = ()\n'
    (tmp_path / "new_baseline.py").write_text(text)
    (tmp_path / "alone_baseline.py").write_text(text)
    (tmp_path / "new_optimized.py").write_text(text)
    (pair,) = harness.pairs(tmp_path)
    assert (pair.name, pair.title, pair.also) == ("new", "A title.", ("sync",))


def test_a_pair_that_does_not_tell_its_cause_is_named(tmp_path):
    (tmp_path / "new_baseline.py").write_text('"""A title."""\nALSO = ()\n')
    (tmp_path / "new_optimized.py").write_text("")
    with pytest.raises(ValueError, match=r"new_baseline\.py: has no CAUSE"):
        harness.pairs(tmp_path)


# What the programs do


@pytest.mark.parametrize("name", FILES)
def test_the_docstring_counts_what_the_code_counts(name, probe):
    said = probe.counts[name]["said"]["cuda"]
    assert re.search(rf"(?<![\d,]){said:,}(?![\d,])", docstring(name)), f"{said:,} is not told"


def test_workers_stay_busy_until_a_short_run_ends(probe):
    """A trace of few steps must show the trouble, not only its first moment."""
    for ahead in probe.ahead.values():
        assert ahead["seen"] == [ahead["workers"]] * 2


# Warps and copies are not there to be counted; both pairs have tests of their own below.
ONLY_ON_A_GPU = ("bandwidth_pageable", "divergence")


@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith(ONLY_ON_A_GPU)])
def test_what_is_counted_is_what_happens(name, probe):
    counts = probe.counts[name]
    assert counts["said"]["cpu"] == counts["seen"]


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_there_is_more_of_it_in_the_baseline(pair, probe):
    for device in ("cpu", "cuda"):
        slow, fast = (probe.counts[f"{pair.name}_{r}"]["said"][device] for r in harness.ROLES)
        assert slow > fast


@pytest.mark.parametrize("pair", PAIRS)
def test_both_twins_have_the_same_result_and_the_same_ranges(pair, probe):
    slow, fast = (probe.summaries[f"{pair}_{role}"] for role in harness.ROLES)
    assert harness.agree(slow, fast)
    assert len(slow["result"]["values"]) >= 2
    assert slow["ranges"] == fast["ranges"]


@pytest.mark.parametrize("name", FILES)
def test_the_summary_tells_what_was_run(name, probe):
    summary = probe.summaries[name]
    pair, _, role = name.rpartition("_")
    expected = (1, name, pair, role, PAIRS[pair].cause, "cpu", 3, WARMUP, STEPS)
    keys = ("schema", "workload", "pair", "role", "cause", "device", "seed", "warmup", "steps")
    assert tuple(summary[key] for key in keys) == expected
    assert len(summary["step_ns"]) == STEPS * summary["repeat"]
    assert all(isinstance(ns, int) and ns > 0 for ns in summary["step_ns"])
    assert sum(summary["step_ns"]) <= sum(summary["total_ns"])
    (throughput,) = summary["metrics"]
    slowest, fastest = (STEPS / (f(summary["total_ns"]) / 1e9) for f in (max, min))
    assert slowest <= throughput["value"] * (1 + 1e-9)
    assert throughput["value"] <= fastest * (1 + 1e-9)
    assert (throughput["unit"], throughput["better"]) == ("steps/s", "higher")
    assert summary["ranges"]["step"] == WARMUP + 2 * STEPS
    assert summary["ranges"]["measure"] == 2
    assert summary["counted"]["value"] == probe.counts[name]["said"]["cpu"]


@pytest.mark.parametrize("name", FILES)
def test_the_torch_trace_has_exactly_the_ranges_of_the_summary(name, probe, tmp_path):
    trace = open_trace(probe.folder / f"{name}.json.gz", tmp_path)
    names = trace.names(trace.frame("ranges", ["name_id"])["name_id"].to_numpy())
    counted = {n: names.tolist().count(n) for n in probe.summaries[name]["ranges"]}
    assert counted == probe.summaries[name]["ranges"]
    steps = [n for n in names if n.startswith("ProfilerStep#")]
    assert len(steps) == WARMUP + 2 * STEPS


def test_a_summary_names_no_host_no_user_and_no_folder(probe):
    text = json.dumps(probe.summaries)
    secrets = {str(ROOT), str(Path.home()), socket.gethostname()} - {"/", ""}
    assert [s for s in secrets if s in text] == []
    assert f'"{getpass.getuser()}"' not in text


def test_the_environment_is_told_and_what_is_absent_is_null(probe):
    environment = probe.summaries["launch_baseline"]["environment"]
    assert environment["gpu"] is None
    assert environment["driver"] is None
    assert environment["clocks"] is None
    assert environment["torch"] == importlib.metadata.version("torch")
    assert environment["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert re.fullmatch(r"[0-9a-f]{40}", environment["git_commit"] or "0" * 40)


def test_measured_steps_are_never_waited_for_one_by_one(probe):
    steps = [f"step {n}" for n in (4, 5, 6)]
    expected = ["record", *(entry for step in steps for entry in (step, "record"))]
    assert probe.waits["asked"] == [*expected, "wait", "read", "read", "read"]
    assert probe.waits["step_ns"] == [2_000_000] * 3


def test_copied_batches_neither_overtake_nor_are_overtaken(probe):
    """The twin of bandwidth_pageable: what each stream waits for, and which batch arrives."""
    feed = probe.feed
    count = len(feed["taken"])
    assert feed["taken"] == [float(index % feed["batches"]) for index in range(count)]
    notes = feed["notes"]
    for index in range(count):
        buffer = index % 2
        begin = notes.index(["step", index])
        end = notes.index(["step", index + 1]) if index + 1 < count else len(notes)
        refill, other = feed["filled"][1 - buffer], feed["read"][1 - buffer]
        assert notes[begin + 1 : end] == [
            ["wait", "copy", other],  # the kernels that read the other buffer come first
            ["record", refill],
            ["wait", "compute", feed["filled"][buffer]],
            ["record", feed["read"][buffer]],
        ]


def test_a_warp_of_divergence_takes_eight_branches_and_its_twin_one(probe):
    for device, elements in (("cpu", 256), ("cuda", 1 << 20)):
        slow, fast = (probe.counts[f"divergence_{role}"]["said"][device] for role in harness.ROLES)
        warps = [{(32 * warp + lane) % 8 for lane in range(32)} for warp in range(elements // 32)]
        assert slow == sum(map(len, warps))
        assert fast == len(warps)


def test_the_divergent_kernel_computes_its_eight_functions(probe):
    """In numba-cuda's simulator, held to the functions written down once more."""
    import math

    import numpy as np

    functions = (
        lambda x: math.sin(x) + 0.5,
        lambda x: math.cos(x) * 0.5,
        lambda x: math.exp(-x * x),
        lambda x: math.sqrt(x * x + 0.5),
        lambda x: math.log(x * x + 0.5),
        lambda x: math.tanh(x) + 0.5,
        lambda x: math.atan(x) + 0.5,
        lambda x: x / (x * x + 1) + 0.5,
    )
    values = np.random.default_rng(3).random(256, dtype=np.float32).tolist()
    for _ in range((WARMUP + 2 * STEPS) * 2):  # each step has two turns
        values = [functions[i % 8](x) for i, x in enumerate(values)]
    means = [sum(values[kind::8]) / 32 for kind in range(8)]
    expected = pytest.approx([*means, *values[:8]], rel=1e-4)
    assert probe.summaries["divergence_baseline"]["result"]["values"] == expected


def test_the_divergent_kernel_compiles_for_a_gpu_in_single_precision():
    """As far as numba-cuda gets without a driver; doubles would be slow for another reason."""
    pytest.importorskip("numba_cuda", reason="the kernel needs numba-cuda")
    code = (
        "import workloads.divergence_baseline as pair\n"
        "from numba import cuda\n"
        "from numba.core import types\n"
        "from numba.cuda.compiler import compile_cuda\n"
        "pair.cuda = cuda\n"
        "arguments = types.int32[::1], types.float32[::1], types.int64\n"
        "done = compile_cuda(pair.advance, types.void, arguments, cc=(9, 0))\n"
        "print(done.library.get_llvm_str())\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    functions = set(re.findall(r"__nv_\w+", done.stdout))
    assert functions == {f"__nv_{f}f" for f in ("atan", "cos", "exp", "log", "sin", "sqrt", "tanh")}
    assert "double" not in done.stdout


# The command


@pytest.mark.parametrize(
    "how", [("-m", "workloads.launch_baseline"), ("workloads/launch_baseline.py",)]
)
def test_a_workload_runs_as_a_module_and_as_a_file(how, tmp_path):
    pytest.importorskip("torch", reason="the workloads need torch")
    summary = tmp_path / "summary.json"
    done = python(
        *how, "--device", "cpu", "--steps", "1", PYTHONPATH="", WHYSLOW_SUMMARY=str(summary)
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(summary.read_text(encoding="utf-8"))["workload"] == "launch_baseline"
    assert "400 kernel launches a step" in done.stdout
    assert "smaller than on a GPU" in done.stdout


def test_trouble_is_one_line():
    torch = pytest.importorskip("torch", reason="the workloads need torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = python("-m", "workloads.sync_baseline", "--device", "cuda")
    assert done.returncode == 3
    assert done.stderr == (
        "sync_baseline: no CUDA device that torch can use; run with --device cpu\n"
    )


def test_worker_processes_end_with_a_workload_that_is_killed():
    pytest.importorskip("torch", reason="the workloads need torch")
    command = [sys.executable, "-m", "workloads.host_gil_optimized", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--steps", "10000000"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        workers = []
        deadline = time.monotonic() + 60
        while len(workers) < 3 and time.monotonic() < deadline:  # two, and Python's own tracker
            time.sleep(0.1)
            workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 3
        time.sleep(0.5)  # let them begin to work
    finally:
        process.kill()
        process.wait()
    assert psutil.wait_procs(workers, timeout=20)[1] == []


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_a_number_of_steps_that_makes_no_sense_is_refused(text):
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        harness._positive(text)


def test_results_that_differ_in_more_than_rounding_do_not_agree():
    def summary(*values):
        return {"result": {"values": list(values), "rtol": 1e-4}}

    assert harness.agree(summary(1.0, 2.0), summary(1.00005, 2.0))
    assert not harness.agree(summary(1.0, 2.0), summary(1.001, 2.0))
    assert not harness.agree(summary(1.0), summary(1.0, 2.0))
    assert not harness.agree(summary(1.0), summary(float("nan")))


class DummyDomain:
    """What nvtx hands out when it believes that nobody listens."""


class Domain:
    """What it hands out else."""


@pytest.mark.parametrize(
    ("version", "domain", "listening", "told"),
    [
        ("0.2.13", DummyDomain, True, True),
        ("0.2.12", DummyDomain, True, True),
        ("0.2.13", Domain, True, False),
        ("0.2.13", DummyDomain, False, False),
        ("0.2.11", Domain, True, False),
    ],
)
def test_an_nvtx_that_stays_silent_is_told(monkeypatch, version, domain, listening, told):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    monkeypatch.delenv("NVTX_INJECTION64_PATH", raising=False)
    if listening:
        monkeypatch.setenv("NVTX_INJECTION64_PATH", "/nsys/library.so")
    nvtx = SimpleNamespace(get_domain=lambda _: domain())
    trouble = harness.nvtx_trouble(nvtx)
    assert bool(trouble) is told
    assert not told or (version in trouble and "nvtx<=0.2.11" in trouble)
