"""What sentences of an answer keep to: no ids, no commands, whole words, the maker's own words."""

import re
from functools import cache
from pathlib import Path

import pytest

from analyzers import analyze
from analyzers.diagnose import all_rules, rule_id
from analyzers.words import MAX_NAME, distinct_short, lower_first, rule_words, shortened
from collectors import open_trace
from reports.commands import spoken
from reports.diagnosis import (
    TOOL_RULES,
    diagnosis_summary,
    first_step,
    short_gain,
    title_parts,
    verdict_parts,
)
from tests.real_traces import opened
from tests.test_torch_habits import hip_events
from tests.torch_traces import trace_bytes
from traces.generate import FOLDER

REAL = Path(__file__).parents[2] / "shared" / "real" / "torch_trace"
SAMPLES = [
    *(FOLDER / f"synthetic_{name}.sqlite" for name in ("sync", "launch", "communication")),
    *(FOLDER / f"synthetic_{name}.sqlite" for name in ("dependency", "dram")),
    FOLDER / "synthetic_counters_uncoalesced.ncu-rep",
    FOLDER.parent / "cpu_training.sqlite",
    FOLDER.parent / "cpu_training.json.gz",
]
AMD = [
    *REAL.glob("*mi210*"),
    *REAL.glob("*mi300*"),
    *REAL.glob("*sglang_decode*"),
    *REAL.glob("*vllm_decode_full*"),
]
COMMAND = re.compile(
    r"\b(?:nsys|ncu|rocprof\S*|vtune|nvidia-smi|rocm-smi|whyslow) (?:-\w|--\w|profile\b|diagnose\b)"
    r"|torch\.profiler\.profile\("
)
OF_NVIDIA = re.compile(
    r"\b(?:CUDA|NVTX|NVLink|NVIDIA|Nsight|nsys|ncu|nvidia-smi|cuBLAS|cuDNN|NCCL)\b(?!_)"
    r"|\b[Tt]ensor cores?\b|\bwarps?\b|\bmultiprocessors?\b"
)
RECORDED = re.compile(r"`[^`]*`|\S*\w+\.py:\d+\S*|--[\w-]+|\b(?:NCCL|CUDA)_\w+(?:=\w+)?")
"""What a recording, or a program's own option, is called is not ours to rename."""


@cache
def report_of(path):
    return analyze(opened(path))


@pytest.fixture(scope="module")
def on_amd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("amd")
    path = folder / "amd.json"
    events, head = hip_events()
    path.write_bytes(trace_bytes(events, **head))
    return analyze(open_trace(path, folder / "cache"))


def sentences(report):
    """Every sentence that a page or a report says, but what another tool said."""
    for section in diagnosis_summary(report, is_verbose=True).sections:
        if section.title != TOOL_RULES:
            yield from (
                b.text for b in section.blocks if getattr(b, "kind", "command") != "command"
            )
    for finding in report.findings:
        yield from (*title_parts(finding.title), short_gain(finding))
        yield spoken(first_step(finding.advice)).text
        yield from (e.name for e in finding.evidence)
    yield report.busy_sentence


def keep_promises(report):
    ids = {rule_id(rule) for rule in all_rules()}
    cut_names = {shortened(k.name): k.name for k in report.top_kernels}
    for text in sentences(report):
        assert not [name for name in ids if name in text], text
        assert not COMMAND.search(text), text
        for short, whole in cut_names.items():
            if short in text and short.endswith("…"):
                assert ends_with_a_word(short, whole), text
    heads = [title_parts(f.title)[0] for f in report.findings]
    heads.append(verdict_parts(report.verdict.sentence, report.findings)[0])
    for head in heads:
        assert head[0].isupper() or head[0] in "`0123456789" or "_" in head.split()[0], head
        assert head.count("(") == head.count(")"), head
        assert not head.endswith((",", ":", ";", " and", " of", " in")), head


def ends_with_a_word(short, whole):
    place = len(short) - 1
    return not (whole[place - 1].isalnum() and whole[place].isalnum())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_no_sentence_names_a_rule_s_id_or_holds_a_command_or_a_torn_word(path):
    keep_promises(report_of(path))


def test_a_program_on_amd_is_told_of_amd_s_tools_and_units(on_amd):
    keep_promises(on_amd)
    assert_of_amd(on_amd)
    assert any("HIP graph" in f.advice for f in on_amd.findings)


@pytest.mark.parametrize("path", AMD, ids=lambda p: p.name[:40])
def test_so_are_real_programs_on_amd(path):
    keep_promises(report_of(path))
    assert_of_amd(report_of(path))


def assert_of_amd(report):
    for text in sentences(report):
        ours = RECORDED.sub("", text.replace("nccl-tests or rccl-tests", ""))
        assert not OF_NVIDIA.search(ours), text


@pytest.mark.parametrize(
    ("text", "prose", "commands"),
    [
        ("Nothing to do.", "Nothing to do.", ()),
        ("it ran in `gemm`. So", "it ran in `gemm`. So", ()),
        (
            "was not collected; run `ncu -k 'regex:^(a|b)$' -o c PROGRAM`. More.",
            "was not collected; run the command below. More.",
            ("ncu -k 'regex:^(a|b)$' -o c PROGRAM",),
        ),
        (
            "Record with: `torch.profiler.profile(activities=[CPU])`",
            "Record with the call below.",
            ("torch.profiler.profile(activities=[CPU])",),
        ),
        ("To see, run: `nsys profile a`.", "To see, run the command below.", ("nsys profile a",)),
        ("To see: `nsys profile a`.", "To see: run the command below.", ("nsys profile a",)),
        ("So: `nsys profile a` tells.", "So: the command below tells.", ("nsys profile a",)),
        (
            "run `nsys profile a` and then `ncu -o b c`",
            "run the first command below and then the second command below.",
            ("nsys profile a", "ncu -o b c"),
        ),
    ],
)
def test_a_command_stands_below_its_sentence(text, prose, commands):
    parts = spoken(text)
    assert (parts.text, parts.commands) == (prose, commands)


@pytest.mark.parametrize(
    "name",
    ["elementwise_kernel<128, " + "at::native::Functor, " * 9, "a" * 200, "sm90_" + "tile_" * 40],
)
def test_a_long_name_is_cut_between_its_words(name):
    short = shortened(name)
    assert len(short) <= MAX_NAME
    assert ends_with_a_word(short, name) or name == "a" * 200
    assert shortened(name[:MAX_NAME]) == name[:MAX_NAME]


def test_kernels_of_one_name_are_told_apart_by_what_differs():
    types = "float, float, float, float, float"
    names = [f"k<{types}, Add>(int)", f"k<{types}, Mul>(int)", "void at::flash<int>(x)"]
    assert distinct_short(names) == ["k…Add>(int)", "k…Mul>(int)", "flash"]
    assert distinct_short(["f(int)", "f(long)"]) == ["f(int)", "f(long)"]


def test_words_for_the_middle_of_a_sentence():
    assert lower_first("Sync-bound: for") == "sync-bound: for"
    assert lower_first("GPU 3 idles") == "GPU 3 idles"
    assert rule_words("bandwidth.dram_roof") == "DRAM roof"


def test_a_title_is_a_claim_and_where():
    title = "3 waits in `a: b` cost 1 ms (2 %), mostly in `std::x`: 9 µs each"
    assert title_parts(title) == (
        "3 waits in `a: b` cost 1 ms (2 %)",
        "Mostly in `std::x`: 9 µs each",
    )
    assert title_parts("Nothing beyond") == ("Nothing beyond", "")


def test_an_advice_begins_with_one_step():
    long = "Load batches in worker processes and ahead of time: " + "DataLoader(a=1), " * 5
    assert first_step(long) == "Load batches in worker processes and ahead of time."
    assert first_step("Move less: keep it there. Else wait.") == "Move less: keep it there."
