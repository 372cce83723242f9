"""How to record again, or more, with the tool that made a recording; for the end of sentences.

A note that tells the user of one profiler to run another is no way out.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from collectors.trace import Trace

TORCH_FORMAT = "torch-json"


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Words about one tool.

    Attributes:
        again: The command or call that records what whyslow wants to see.
        calls: How to get GPU operations and API calls, as the end of a sentence.
        details: How to get facts that old versions leave out, as the end of a sentence.
        metrics: How to get samples of the GPU's metrics, as the end of a sentence.
        less: How to record less, as a sentence.
        ranges: What the tool calls ranges that the program marks, in the singular.
        mark: How to mark iterations, in the imperative.
        export: How to make the file anew, in the imperative.
        api: Whose API calls it records.
        counters: The program that reads hardware counters of the same GPU.
        vocabulary: Regular expressions of CUDA's words, and what stands for them.
    """

    again: str
    calls: str
    details: str
    metrics: str
    less: str
    ranges: str
    mark: str
    export: str
    api: str = "CUDA"
    counters: str = "ncu"
    vocabulary: tuple[tuple[str, str], ...] = ()

    def wording(self, text: str) -> str:
        """Return a sentence about CUDA in the words of the GPU's own maker.

        Names that were recorded stay: only phrases are replaced that no function is called.
        """
        for expression, word in self.vocabulary:
            text = re.sub(expression, word, text)
        return text


_NSYS = Recorder(
    again="nsys profile -t cuda,nvtx,osrt -o report PROGRAM",
    calls="record with `nsys profile -t cuda`",
    details="record with a current version of `nsys profile -t cuda`",
    metrics="record with `nsys profile --gpu-metrics-devices=all`",
    less="Trace less, for example -t cuda,nvtx without --cudabacktrace.",
    ranges="NVTX range",
    mark="Mark iterations with NVTX",
    export="Export the report again",
)
_TORCH = Recorder(
    again="torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])",
    calls="record with torch.profiler and both ProfilerActivity.CPU and ProfilerActivity.CUDA",
    details="record with a current version of PyTorch",
    metrics=_NSYS.metrics,
    less="Trace less, for example without with_stack and profile_memory.",
    ranges="annotation",
    mark="Call the profiler's step() after each iteration",
    export="Export the trace again",
)
# HIP's names of functions differ from CUDA's in the first letters; PyTorch's keep "torch.cuda".
_OF_AMD = (
    (r"\bCUDA(?= (?:graph|API|call|stream|event|kernel|was|operation))", "HIP"),
    (r"\boutside CUDA\b", "outside HIP"),
    (r"\bcuda(?=[A-Z])", "hip"),
    (r"\bmultiprocessor", "compute unit"),
    (r"\bwarp(?=s?\b)", "wavefront"),
    (r"\bNCCL\b", "RCCL"),
    (
        "nvidia-smi -q -d CLOCK,PERFORMANCE,TEMPERATURE",
        "rocm-smi --showclocks --showperflevel --showtemp",
    ),
    (r"\bnvidia-smi\b", "rocm-smi"),
    (r"\bCUDA_VISIBLE_DEVICES\b", "HIP_VISIBLE_DEVICES"),
    (r"\bNVLink\b", "Infinity Fabric"),
    (r"\btensor core", "matrix core"),
)
_TORCH_ON_AMD = dataclasses.replace(
    _TORCH,
    details="the torch profiler does not record it on AMD GPUs",
    metrics="examine kernels with `rocprof-compute profile -n counters -- PROGRAM`",
    api="HIP",
    vocabulary=_OF_AMD,
    counters="rocprof-compute",
)


_TORCH_ON_INTEL = dataclasses.replace(
    _TORCH,
    again="torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.XPU])",
    calls="record with torch.profiler and both ProfilerActivity.CPU and ProfilerActivity.XPU",
    details="the torch profiler does not record it on Intel GPUs",
    metrics="examine kernels with `vtune -collect gpu-hotspots -- PROGRAM`",
    api="XPU",
    counters="VTune",
)


def recorder_of(trace: Trace) -> Recorder:
    """Return the words about the tool that made ``trace``."""
    if trace.source.format != TORCH_FORMAT:
        return _NSYS
    if trace.source.tool_version == "XPU":
        return _TORCH_ON_INTEL
    return _TORCH_ON_AMD if trace.source.tool_version.startswith("HIP") else _TORCH
