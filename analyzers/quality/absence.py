"""Why a recording holds no GPU work, and what to record instead.

The advice never repeats what was done: where calls were recorded, CUDA was traced.
"""

from __future__ import annotations

import numpy as np

from analyzers.cuda_names import Call
from analyzers.facts.facts import Facts
from analyzers.facts.spans import Iteration
from analyzers.ledger.ledger import Ledger
from analyzers.quality.diagnostics import explanation
from analyzers.quality.note import EXCLUDED, GPU_WORK, quality_note
from analyzers.recorder import TORCH_FORMAT, recorder_of
from analyzers.report import QualityNote
from analyzers.words import count_text

CUT_OFF = "json_truncated"  # what the reader notes about a file that ends too early
TRUNCATED = "The file is truncated"
_GRAPH_COMMAND = "nsys profile --cuda-graph-trace=node -t cuda,nvtx,osrt -o report PROGRAM"


def no_gpu_work(facts: Facts, _ledger: Ledger, _: tuple[Iteration, ...]) -> QualityNote | None:
    """Forbid a verdict on a recording in which nothing ran on a GPU."""
    if len(facts.launches):
        return None
    kinds = _kinds_of_event(facts)
    what = f"only {', '.join(kinds)}" if kinds else "no events at all"
    if any(n.code == CUT_OFF for n in facts.trace.notes):
        # Devices come last in a trace of the torch profiler.
        return quality_note(
            "error",
            "no_gpu_work",
            f"{TRUNCATED}, and what is left of it holds no GPU work: {what}. Copy or "
            "export it again.",
        )
    return quality_note(
        "error", "no_gpu_work", f"No GPU work was recorded: {what}. {_reason(facts)}"
    )


def _kinds_of_event(facts: Facts) -> list[str]:
    """Return what the recording does hold, with its number."""
    trace, recorder = facts.trace, recorder_of(facts.trace)
    return [
        count_text(trace.count(table), noun)
        for table, noun in (
            ("api_calls", f"{recorder.api} API call"),
            ("ranges", recorder.ranges),
            ("operators", "operator"),
            ("os_calls", "operating-system call"),
            ("cpu_samples", "CPU sample"),
        )
        if trace.count(table)
    ]


def _reason(facts: Facts) -> str:
    """Return why there is none, as far as the recording tells, and the way out."""
    recorder = recorder_of(facts.trace)
    api = recorder.api
    if why := explanation(facts):
        return f"The recorder says: “{why.quote}”. {why.remedy}"
    if facts.trace.count("range_counters"):
        return (
            "The profiler read hardware counters (profiler_metrics), and then it records no "
            "kernels. Record a timeline without that setting."
        )
    if not facts.trace.count("api_calls"):
        return (
            f"{api} was not traced, or the program did not use it. Record with: `{recorder.again}`"
        )
    return _reason_beside_calls(facts)


def _reason_beside_calls(facts: Facts) -> str:
    """Return the same for a recording with API calls, so that the API was traced."""
    recorder = recorder_of(facts.trace)
    api = recorder.api
    if unreadable := _unreadable_operations(facts):
        return (
            f"{api} was traced, but none of {count_text(unreadable, 'GPU operation')} could be "
            f"read. {recorder.export}."
        )
    graphs, others = _launch_calls(facts)
    if graphs and not others:
        trace_nodes = f"Record with: `{_GRAPH_COMMAND}`; or switch" if api == "CUDA" else "Switch"
        return (
            f"{count_text(graphs, 'call')} launched {api} graphs, but the profiler did not trace "
            f"what the graphs replay. {trace_nodes} graphs off for the recording (enforce_eager in "
            "vLLM, --disable-cuda-graph in SGLang)."
        )
    if graphs or others:
        return (
            f"{api} was traced, and {count_text(graphs + others, 'call')} launched work, but the "
            f"profiler received nothing from the GPU. {_way_to_gpu_events(facts)}"
        )
    return (
        f"{api} was traced, but no call in the recording launches anything. Record a stretch in "
        "which the program uses the GPU."
    )


def _unreadable_operations(facts: Facts) -> int:
    notes = facts.trace.notes
    return sum(n.count for n in notes if n.effect == EXCLUDED and n.code.startswith(GPU_WORK))


def _launch_calls(facts: Facts) -> tuple[int, int]:
    """Return how many calls launch graphs, and how many launch kernels."""
    number = np.bincount(facts.api["name"].to_numpy(), minlength=len(facts.functions))
    functions = [str(name) for name in facts.functions]
    is_graph = np.array(["GraphLaunch" in name for name in functions], dtype=bool)
    is_launch = (facts.calls == Call.LAUNCH) & ~is_graph
    return int(number[is_graph].sum()), int(number[is_launch].sum())


def _way_to_gpu_events(facts: Facts) -> str:
    busy = "Another profiler may hold it (DCGM, ncu, nsys): stop that, and record again"
    if facts.trace.source.format == TORCH_FORMAT:
        return f"{busy}."
    return f"{busy} with a version of Nsight Systems that is as new as the driver."
