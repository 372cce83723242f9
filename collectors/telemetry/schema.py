"""The tables of a telemetry file: every column with its type and meaning.

The file describes itself: the table ``columns`` holds the same words. Times are on two clocks:
``realtime_ns`` counts from 1970 and says when; ``monotonic_ns`` is never set and says how far
apart. NULL is what was not asked at that moment, or could not be answered. Rows are in the order of
time.
"""

from __future__ import annotations

from typing import NamedTuple

SUFFIX = ".telemetry.sqlite"  # behind the whole name of the recording
SCHEMA = 1


class TelemetryColumn(NamedTuple):
    """One column: name, type, meaning. A name's ending is its unit."""

    name: str
    type: type
    meaning: str


_MOMENT = (
    TelemetryColumn("realtime_ns", int, "moment by CLOCK_REALTIME, ns since 1970 in UTC"),
    TelemetryColumn(
        "monotonic_ns", int, "the same moment by CLOCK_MONOTONIC, ns since an unknown begin"
    ),
)

TABLES: dict[str, tuple[TelemetryColumn, ...]] = {
    "session": (
        TelemetryColumn("schema", int, "version of these tables"),
        TelemetryColumn(
            "state", str, "starting, sampling, or stopped; a killed sampler never says stopped"
        ),
        TelemetryColumn("rate_hz", float, "samples a second that were asked for"),
        TelemetryColumn("started_realtime_ns", int, "begin by CLOCK_REALTIME"),
        TelemetryColumn("started_monotonic_ns", int, "begin by CLOCK_MONOTONIC"),
        TelemetryColumn("seen_realtime_ns", int, "last commit by CLOCK_REALTIME"),
        TelemetryColumn("seen_monotonic_ns", int, "last commit by CLOCK_MONOTONIC"),
        TelemetryColumn("sampler_pid", int, "process that samples"),
        TelemetryColumn("sampler_cpu_ns", int, "processor time that it has used"),
        TelemetryColumn("sampler_cpu_share", float, "part of one core that it uses while sampling"),
        TelemetryColumn("root_pid", int, "first process of the tree that is looked at"),
        TelemetryColumn("cores", int, "cores of the machine"),
    ),
    "gpus": (
        TelemetryColumn("gpu", int, "number of the physical GPU, as NVML counts"),
        TelemetryColumn("name", str, "product name"),
        TelemetryColumn("driver", str, "version of the driver"),
        TelemetryColumn("memory_bytes", int, "device memory"),
        TelemetryColumn("power_limit_w", float, "power it may draw"),
    ),
    "gpu_samples": (
        *_MOMENT,
        TelemetryColumn("gpu", int, "GPU, as in gpus"),
        TelemetryColumn(
            "utilization_pct", float, "time of the last period in which any kernel ran"
        ),
        TelemetryColumn(
            "memory_utilization_pct", float, "time in which device memory was read or written"
        ),
        TelemetryColumn("memory_used_bytes", int, "device memory in use, by all processes"),
        TelemetryColumn("power_w", float, "power drawn"),
        TelemetryColumn("temperature_c", float, "temperature of the chip"),
        TelemetryColumn("sm_clock_mhz", float, "clock of the multiprocessors"),
        TelemetryColumn("memory_clock_mhz", float, "clock of device memory"),
        TelemetryColumn(
            "throttle_bits", int, "why clocks are held down, as NVML numbers the reasons"
        ),
        TelemetryColumn("pcie_tx_bytes_per_s", float, "sent over PCIe, over 20 ms; once a second"),
        TelemetryColumn(
            "pcie_rx_bytes_per_s", float, "received over PCIe, over 20 ms; once a second"
        ),
        TelemetryColumn("process_memory_bytes", int, "device memory of the tree; once a second"),
    ),
    "host_samples": (
        *_MOMENT,
        TelemetryColumn("cpu_pct", float, "cores that were busy, of all"),
        TelemetryColumn("cores_pct", str, "busy time of each core, as a JSON list of percents"),
        TelemetryColumn("memory_used_bytes", int, "memory of the machine that is not available"),
    ),
    "process_samples": (
        *_MOMENT,
        TelemetryColumn("processes", int, "processes of the tree"),
        TelemetryColumn("threads", int, "their threads"),
        TelemetryColumn(
            "cpu_pct", float, "processor time of the tree in clock ticks of 10 ms; 100 is a core"
        ),
        TelemetryColumn(
            "rss_bytes", int, "memory resident, with what processes share counted for each"
        ),
        TelemetryColumn("read_bytes", int, "read from storage since each process began"),
        TelemetryColumn("written_bytes", int, "written to storage since each process began"),
        TelemetryColumn(
            "voluntary_switches", int, "cores given up since each began; once a second"
        ),
        TelemetryColumn(
            "involuntary_switches", int, "cores taken away since each began; once a second"
        ),
    ),
    "notes": (
        *_MOMENT,
        TelemetryColumn("code", str, "what it is about"),
        TelemetryColumn("message", str, "what could not be asked, said once"),
    ),
    "columns": (
        TelemetryColumn("table", str, "table"),
        TelemetryColumn("column", str, "column"),
        TelemetryColumn("meaning", str, "what it holds"),
    ),
}

# nvml.h: nvmlClocksEventReasons. An idle GPU, and one that was told to, is not held down.
THROTTLE_WORDS: dict[int, str] = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000010: "sync boost",
    0x0000000000000020: "software thermal slowdown",
    0x0000000000000040: "hardware thermal slowdown",
    0x0000000000000080: "power brake",
}


def throttle_words(bits: int) -> tuple[str, ...]:
    """Return why clocks are held down; reasons that slow nothing down are left out."""
    return tuple(word for bit, word in THROTTLE_WORDS.items() if bits & bit)
