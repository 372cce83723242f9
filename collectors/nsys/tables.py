"""Names of the tables of an export, and of the tables of a trace that each becomes."""

from __future__ import annotations

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
MEMCPY = "CUPTI_ACTIVITY_KIND_MEMCPY"
MEMSET = "CUPTI_ACTIVITY_KIND_MEMSET"
GRAPH_TRACE = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"
SYNCHRONIZATION = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"

DESCRIBED_BY = ("TARGET_INFO_SYSTEM_ENV", "TARGET_INFO_SESSION_START_TIME", "TARGET_INFO_GPU")

BECOMES = {  # table of the export: tables of the trace
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("api_calls",),
    "CUPTI_ACTIVITY_KIND_KERNEL": ("kernels",),
    "CUPTI_ACTIVITY_KIND_MEMCPY": ("copies",),
    "CUPTI_ACTIVITY_KIND_MEMSET": ("memsets",),
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": ("graph_launches",),
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": ("syncs",),
    "CUPTI_ACTIVITY_KIND_OVERHEAD": ("overheads",),
    "CUDA_GRAPH_EVENTS": ("graph_nodes",),
    "CUDA_GRAPH_NODE_EVENTS": ("graph_nodes",),
    "CUDA_UM_GPU_PAGE_FAULT_EVENTS": ("page_faults",),
    "CUDA_UM_CPU_PAGE_FAULT_EVENTS": ("page_faults",),
    "NVTX_EVENTS": ("ranges", "marks"),
    "OSRT_API": ("os_calls",),
    "SCHED_EVENTS": ("thread_switches",),
    "COMPOSITE_EVENTS": ("cpu_samples",),
    "GPU_METRICS": ("gpu_metrics",),
    "PROFILER_OVERHEAD": ("overheads",),
    "DIAGNOSTIC_EVENT": ("diagnostics",),
}
STREAMED = tuple(BECOMES)

ON_DEVICE = tuple(f"CUPTI_ACTIVITY_KIND_{t}" for t in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"))
