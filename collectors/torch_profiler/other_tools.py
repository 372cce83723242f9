"""JSON that other tools write: what each is, told by its keys and by what its events say."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

RECORD = "Write one with torch.profiler: profile(...).export_chrome_trace(FILE)"
_EXPORT = "Export it as SQLite: nsys export --type sqlite REPORT.nsys-rep"
_NSYS_KEY = re.compile(r"\w+Event")  # of one line: {"Type": 48, "CudaEvent": {...}}

_BY_KEYS = (  # names in the outermost object, all of which are there
    (("nodes", "samples"), "a profile of V8's CPU profiler"),
    (("nodes",), "an execution trace of PyTorch, which has no times on a device"),
    (("rocprofiler-sdk-tool",), "a recording of rocprof"),
    (("viztracer_metadata",), "a trace of VizTracer"),
    (("profiles", "shared"), "a profile for speedscope"),
    (("meta", "libs", "threads"), "a profile of the Firefox profiler"),
    (("resourceSpans",), "a trace of OpenTelemetry"),
)
_NSYS = "Record with: nsys profile -t cuda,nvtx,osrt -o report PROGRAM"
_BY_SIGNS = (  # names of processes, and categories
    (
        r"(?:CPU|CUDA) functions",
        "a trace of PyTorch's old profiler (torch.autograd.profiler), which records neither "
        f"launches nor devices. {RECORD}",
    ),
    (
        r"/device:\w+:\d+.*|/host:CPU.*",
        f"a trace of the TensorFlow or JAX profiler, which whyslow does not read. {_NSYS}",
    ),
    (
        r"(?:CPU )?(?:HIP|HSA) API|rocTX.*",
        f"a recording of rocprof, not a trace of the torch profiler. {RECORD}",
    ),
    (r"NEGOTIATE_\w+", f"a timeline of Horovod, which holds no kernels. {_NSYS}"),
    (
        r"toplevel|devtools\.timeline|v8|navigation",
        f"a trace of the Chrome browser, not of the torch profiler. {RECORD}",
    ),
)
_BY_DEVICE = (  # names of processes that stand for a device which is no GPU
    (
        r"Ascend Hardware|CANN",
        "a trace of an Ascend NPU; whyslow answers for GPUs of NVIDIA, AMD and Intel. Look at it "
        "with MindStudio Insight",
    ),
    (
        r"(?:Gaudi|Habana|HPU)\b.*",
        "a trace of a Gaudi accelerator; whyslow answers for GPUs of NVIDIA, AMD and Intel. Look "
        "at it with Perfetto",
    ),
)


def tool_by_keys(keys: Collection[str]) -> str:
    """Return what a file is by the names in its outermost object; empty when they do not tell."""
    return next((what for names, what in _BY_KEYS if set(names) <= set(keys)), "")


def trouble_by_signs(signs: Iterable[str], *, is_torch: bool) -> str:
    """Return what a file without GPU work is, and the way out; empty when nothing tells.

    Args:
        signs: Names of processes, and categories.
        is_torch: The file holds events of PyTorch, so that only another device tells.
    """
    texts = list(signs)
    for pattern, trouble in _BY_DEVICE if is_torch else (*_BY_DEVICE, *_BY_SIGNS):
        if any(re.fullmatch(pattern, text) for text in texts):
            return trouble
    return ""


def lines_trouble(keys: Collection[str]) -> str:
    """Return what is wrong with a file that holds one object a line."""
    if any(_NSYS_KEY.fullmatch(key) for key in keys) or keys == ["data"]:
        return f"an export of nsys as JSON, which whyslow does not read. {_EXPORT}"
    return f"lines of JSON, one value each, so no trace of the torch profiler. {RECORD}"
