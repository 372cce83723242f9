"""What PyTorch programs do out of habit is called by its name, with what to write instead."""

import pytest

from analyzers import analyze
from analyzers.losses.tensor_reads import KINDS, TensorReads, read_advice
from analyzers.recorder import _TORCH_ON_AMD as HIP
from tests.torch_traces import GPU, call, kernel, opener, x

STEP_US = 2_000
SINGLE = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
WORKERS = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"


@pytest.fixture
def answer(tmp_path):
    """Return a function that analyses events of an NVIDIA A100."""
    opened = opener(tmp_path)
    return lambda events: analyze(opened(events, deviceProperties=[GPU]))


def frame(name, ts, dur):
    return x("python_function", name, ts, dur)


def finding_of(report, rule):
    return next(f for f in report.findings if f.id == rule)


def ids(report):
    return [f.id for f in report.findings]


def work(ts, number, dur=800):
    """One operator that launches a kernel."""
    return [
        x("cpu_op", "aten::mm", ts, 10),
        call(ts + 2, number),
        kernel(ts + 8, number, dur=dur),
    ]


def read(ts, number, until, operators=("aten::item", "aten::_local_scalar_dense")):
    """A copy of four bytes and the wait for it, in operators around each other."""
    events = [x("cpu_op", name, ts + n, until - ts - 2 * n) for n, name in enumerate(operators)]
    events.append(call(ts + 5, number, "cudaMemcpyAsync"))
    copy = {"device": 0, "stream": 7, "correlation": number, "bytes": 4}
    name = "Memcpy DtoH (Device -> Pageable)"
    events.append(x("gpu_memcpy", name, until - 20, 2, pid=0, tid=7, **copy))
    events.append(call(ts + 12, number + 1, "cudaStreamSynchronize", dur=until - ts - 16))
    return events


def read_every_step(steps=20, **more):
    """A kernel of 800 µs, a read-back of it, and 400 µs until the next launch."""
    events = []
    for n in range(steps):
        begin = STEP_US * n
        events += work(begin, 10 * n + 1)
        events += read(begin + 100, 10 * n + 2, begin + 840, **more)
    return events


# --- reads of tensors -------------------------------------------------------------------------


def test_a_scalar_read_is_called_item_with_the_line_that_reads(answer):
    lines = [frame("train.py(10): main", 0, 20 * STEP_US)]
    for n in range(20):
        lines.append(frame("train.py(42): log", STEP_US * n + 90, 770))
        lines.append(frame("torch/_tensor.py(9): __float__", STEP_US * n + 95, 760))
    report = answer(lines + read_every_step())
    finding = finding_of(report, "sync.small_readbacks")
    assert (
        ", mostly by `.item()` (aten::_local_scalar_dense), called from log (train.py:42)"
        in finding.title
    )
    assert finding.advice == (
        "Accumulate the value on the GPU and call .item(), float() or print once in many steps."
    )
    shares = {e.name: e.value for e in finding.evidence}
    assert shares["19 waits by `.item()`"] == finding.lost_ns
    assert shares["called from log (train.py:42), 100 % of it"] == finding.lost_ns
    assert ", by `.item()` (aten::_local_scalar_dense), called from log" in report.verdict.sentence


@pytest.mark.parametrize(
    ("operators", "noun", "fix"),
    [
        (("aten::is_nonzero", "aten::item"), "an `if` on a tensor", "torch.where instead of `if`"),
        (("aten::index", "aten::nonzero"), "`nonzero` or a boolean mask", "masked_fill"),
        (("aten::masked_select",), "`nonzero` or a boolean mask", "torch.where"),
        (("aten::to", "aten::_to_copy", "aten::copy_"), "`.cpu()`", "non_blocking=True"),
    ],
)
def test_each_kind_of_read_has_its_own_fix(answer, operators, noun, fix):
    finding = finding_of(answer(read_every_step(operators=operators)), "sync.small_readbacks")
    assert f", mostly by {noun} ({operators[-1]})" in finding.title
    assert fix in finding.advice


def test_printing_a_tensor_is_known_by_the_functions_that_print(answer):
    prints = [
        frame("torch/_tensor_str.py(300): _str_intern", STEP_US * n + 95, 760) for n in range(20)
    ]
    finding = finding_of(answer(prints + read_every_step()), "sync.small_readbacks")
    assert ", mostly by printing a tensor (aten::_local_scalar_dense)" in finding.title
    assert finding.advice.startswith("Print tensors after the loop or once in many steps")


def test_two_kinds_of_reads_get_two_fixes(answer):
    events = []
    for n in range(20):
        begin = STEP_US * n
        events += work(begin, 10 * n + 1)
        operators = ("aten::index", "aten::nonzero") if n % 4 else ("aten::item",)
        events += read(begin + 100, 10 * n + 2, begin + 840, operators=operators)
    finding = finding_of(answer(events), "sync.small_readbacks")
    assert ", mostly by `nonzero` or a boolean mask (aten::nonzero)" in finding.title
    assert finding.advice.startswith("For `nonzero` or a boolean mask (7")
    assert "; for `.item()` (2" in finding.advice


def test_a_wait_without_operators_keeps_its_general_words(answer):
    finding = finding_of(
        answer([e for e in read_every_step() if e["cat"] != "cpu_op"]), "sync.small_readbacks"
    )
    assert finding.title.endswith("until the next work began")
    assert finding.advice.startswith("Keep the value on the GPU")


# --- the DataLoader ---------------------------------------------------------------------------


def loading(steps=20, name=SINGLE, fetch_us=900, busy_us=1_000):
    """Fetch a batch, then launch kernels that run until the next fetch begins."""
    events = []
    for n in range(steps):
        begin = (fetch_us + busy_us + 100) * n
        events.append(x("user_annotation", name, begin, fetch_us))
        events += work(begin + fetch_us + 50, n + 1, dur=busy_us)
    return events


def test_a_loader_in_the_training_process_is_told_to_use_workers(answer):
    report = answer(loading())
    finding = finding_of(report, "host.data_loader")
    assert ids(report)[0] == "host.data_loader"
    assert (
        "while the training process loaded its batches itself (DataLoader with num_workers=0): "
        "19 batches at 900 µs each" in finding.title
    )
    assert "DataLoader(num_workers=4, pin_memory=True" in finding.advice
    assert report.verdict.cause == "host"
    assert "loaded its batches itself (DataLoader with num_workers=0)" in report.verdict.sentence


def test_slow_workers_are_told_from_none(answer):
    finding = finding_of(answer(loading(name=WORKERS)), "host.data_loader")
    assert "while the training process waited for the workers of its DataLoader" in finding.title
    assert "raise num_workers" in finding.advice
    assert "prefetch_factor" in finding.advice
    assert "persistent_workers=True" in finding.advice


def test_the_dataset_that_takes_the_time_is_named_by_its_line(answer):
    lines = [frame("data.py(33): __getitem__", 2_000 * n + 10, 880) for n in range(20)]
    finding = finding_of(answer(lines + loading()), "host.data_loader")
    assert ", mostly in __getitem__ (data.py:33) (" in finding.title


def test_time_in_a_fetch_and_time_elsewhere_are_two_losses_that_sum(answer):
    events = []
    for n in range(20):
        begin = 3_000 * n
        events.append(x("user_annotation", SINGLE, begin, 900))
        events += work(begin + 1_700, n + 1, dur=1_200)  # 800 µs of the program's own
    report = answer(events)
    loader, other = (finding_of(report, f"host.{p}") for p in ("data_loader", "starvation"))
    host_ns = sum(d.rows["host"] for d in report.devices)
    assert loader.lost_ns + other.lost_ns == host_ns
    # In each of 19 gaps: 92 µs, the fetch of 900 µs, 802 µs; the first kernel has none before it.
    assert loader.lost_ns == 19 * 900_000


def test_a_fetch_that_costs_next_to_nothing_stays_with_the_rest(answer):
    events = []
    for n in range(20):
        begin = 3_000 * n
        events.append(x("user_annotation", WORKERS, begin, 20))
        events += work(begin + 1_700, n + 1, dur=1_200)
    report = answer(events)
    assert "host.data_loader" not in ids(report)
    assert finding_of(report, "host.starvation").lost_ns == report.devices[0].rows["host"]


# --- optimizers -------------------------------------------------------------------------------


def training(fills=0, updates=0, optimizer="SGD", steps=10, method_us=20):
    """Steps of a long kernel, then short launches of an optimizer that the GPU waits for."""
    events, ts, number = [], 0, 0
    for _ in range(steps):
        number += 1
        events += [call(ts, number), kernel(ts + 6, number, dur=500)]
        ts += 600
        for method, count in (("zero_grad", fills), ("step", updates)):
            begin = ts
            for _ in range(count):
                number += 1
                events += [x("cpu_op", "aten::fill_", ts, 10), call(ts + 2, number)]
                events.append(kernel(ts + 8, number, dur=2, name="FillFunctor"))
                ts += method_us
            if count:
                name = f"Optimizer.{method}#{optimizer}.{method}"
                events.append(x("user_annotation", name, begin, ts - begin))
    return events


def test_fills_of_zero_grad_are_counted_and_have_their_fix(answer):
    finding = finding_of(answer(training(fills=161)), "launch.zero_grad")
    assert finding.title.startswith(
        "zero_grad of SGD filled 161 tensors a step, one launch each: 1,610 launches in 10 steps, "
        "before which the GPU idled for "
    )
    # 18 µs before each fill; before the first of a step 8 µs, because the host did other things.
    assert finding.lost_ns == 10 * (160 * 18_000 + 8_000)
    assert "zero_grad(set_to_none=True)" in finding.advice
    assert "3.22 ms of kernels go with it" in finding.advice


@pytest.mark.parametrize(("fills", "named"), [(9, False), (10, True)])
def test_zero_grad_is_named_from_ten_fills_on(answer, fills, named):
    assert ("launch.zero_grad" in ids(answer(training(fills=fills)))) is named


@pytest.mark.parametrize(("updates", "named"), [(49, False), (50, True)])
def test_an_optimizer_is_named_from_fifty_launches_a_step_on(answer, updates, named):
    report = answer(training(updates=updates))
    assert ("launch.optimizer" in ids(report)) is named


@pytest.mark.parametrize(
    ("optimizer", "advice"),
    [
        ("AdamW", "torch.optim.AdamW(…, fused=True), or foreach=True"),
        ("RMSprop", "torch.optim.RMSprop(…, foreach=True)"),
        ("Shampoo", "torch._foreach operations or a fused optimizer"),
    ],
)
def test_an_optimizer_gets_the_form_that_it_has(answer, optimizer, advice):
    report = answer(training(updates=400, optimizer=optimizer))
    finding = finding_of(report, "launch.optimizer")
    assert finding.title.startswith(
        f"The optimizer {optimizer} made 400 launches a step, 4,000 in 10 steps: the GPU idled "
    )
    assert finding.lost_ns == 10 * (399 * 18_000 + 8_000)
    assert advice in finding.advice
    assert f"mostly in the optimizer {optimizer}" in report.verdict.sentence


def test_fills_and_updates_are_two_findings_that_share_nothing(answer):
    report = answer(training(fills=100, updates=200))
    fills, updates = (finding_of(report, f"launch.{p}") for p in ("zero_grad", "optimizer"))
    rest = sum(f.lost_ns for f in report.findings if f.id.startswith("launch."))
    assert fills.lost_ns + updates.lost_ns <= rest <= report.devices[0].rows["launch"]
    assert (fills.lost_ns, updates.lost_ns) == (
        10 * (99 * 18_000 + 8_000),
        10 * 200 * 18_000,
    )


def test_an_optimizer_that_the_gpu_never_waits_for_is_not_named(answer):
    events = training(updates=100, method_us=3)
    for event in events:
        if event["name"] == "void ns::gemm<float, 4>(int)":
            event["dur"] = 590
        elif event["name"] == "FillFunctor":
            event["dur"] = 3  # one ends where the next begins
    assert "launch.optimizer" not in ids(answer([e for e in events if e["cat"] != "cpu_op"]))


# --- GPUs of other makers ---------------------------------------------------------------------


def hip_events():
    """Events of a training on a GPU of AMD, and what its trace says beside them."""
    device = {**GPU, "name": "AMD Instinct MI300X", "numSms": 304}
    events = training(updates=20)
    for event in events:
        if event["cat"] == "cuda_runtime":
            event["name"] = event["name"].replace("cuda", "hip")
    return events, {"deviceProperties": [device], "hip_runtime_version": 60_443_480}


def test_a_recording_of_hip_is_answered_in_the_words_of_hip(tmp_path):
    events, head = hip_events()
    report = analyze(opener(tmp_path)(events, **head))
    texts = [
        report.verdict.sentence,
        *(n.message for n in report.quality),
        *(t for f in report.findings for t in (f.title, f.advice, f.does_not_apply_when)),
        *(s.reason for s in report.skipped),
    ]
    assert [f for f in report.findings if "HIP graph" in f.advice]
    assert any("compute units" in t for t in texts)
    words = ("CUDA", "cudaM", "multiprocessor", "ncu", "nsys", "TF32")
    assert not [t for t in texts for w in words if w in t]


def test_names_that_were_recorded_are_no_words():
    wording = HIP.wording
    assert wording("mostly before `CUDAFunctor_add`") == "mostly before `CUDAFunctor_add`"
    assert wording("launch it as one CUDA graph, torch.cuda.graph") == (
        "launch it as one HIP graph, torch.cuda.graph"
    )
    assert wording("38 blocks for 104 multiprocessors") == "38 blocks for 104 compute units"
    assert wording("softmax_warp_forward: few warps") == "softmax_warp_forward: few wavefronts"


@pytest.mark.parametrize(
    ("parts", "advice"),
    [
        ((90, 10), "{0}."),
        ((89, 11), "For {n0} (89 %): {f0}; for {n1} (11 %): {f1}."),
        ((80, 9), "For {n0} (80 %): {f0}."),
        ((9, 9), "otherwise"),
        ((10, 9), "For {n0} (10 %): {f0}."),
        ((), "otherwise"),
    ],
)
def test_advice_is_about_the_kinds_of_reads_that_matter(parts, advice):
    kinds = (KINDS[3], KINDS[0])
    reads = tuple(TensorReads(kind, ns, 1) for kind, ns in zip(kinds, parts, strict=False))
    words = {"n0": kinds[0].noun, "f0": kinds[0].fix, "n1": kinds[1].noun, "f1": kinds[1].fix}
    first = words["f0"][:1].upper() + words["f0"][1:]
    assert read_advice(reads, 100, "otherwise") == advice.format(first, **words)
