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


class Column(NamedTuple):
    """One column: name, type, meaning. A name's ending is its unit."""

    name: str
    type: type
    meaning: str


_MOMENT = (
    Column("realtime_ns", int, "moment by CLOCK_REALTIME, ns since 1970 in UTC"),
    Column("monotonic_ns", int, "the same moment by CLOCK_MONOTONIC, ns since an unknown begin"),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "session": (
        Column("schema", int, "version of these tables"),
        Column("state", str, "starting, sampling, or stopped; a killed sampler never says stopped"),
        Column("rate_hz", float, "samples a second that were asked for"),
        Column("started_realtime_ns", int, "begin by CLOCK_REALTIME"),
        Column("started_monotonic_ns", int, "begin by CLOCK_MONOTONIC"),
        Column("seen_realtime_ns", int, "last commit by CLOCK_REALTIME"),
        Column("seen_monotonic_ns", int, "last commit by CLOCK_MONOTONIC"),
        Column("sampler_pid", int, "process that samples"),
        Column("sampler_cpu_ns", int, "processor time that it has used"),
        Column("sampler_cpu_share", float, "part of one core that it uses while sampling"),
        Column("root_pid", int, "first process of the tree that is looked at"),
        Column("cores", int, "cores of the machine"),
    ),
    "gpus": (
        Column("gpu", int, "number of the physical GPU, as NVML counts"),
        Column("name", str, "product name"),
        Column("driver", str, "version of the driver"),
        Column("memory_bytes", int, "device memory"),
        Column("power_limit_w", float, "power it may draw"),
    ),
    "gpu_samples": (
        *_MOMENT,
        Column("gpu", int, "GPU, as in gpus"),
        Column("utilization_pct", float, "time of the last period in which any kernel ran"),
        Column("memory_utilization_pct", float, "time in which device memory was read or written"),
        Column("memory_used_bytes", int, "device memory in use, by all processes"),
        Column("power_w", float, "power drawn"),
        Column("temperature_c", float, "temperature of the chip"),
        Column("sm_clock_mhz", float, "clock of the multiprocessors"),
        Column("memory_clock_mhz", float, "clock of device memory"),
        Column("throttle_bits", int, "why clocks are held down, as NVML numbers the reasons"),
        Column("pcie_tx_bytes_per_s", float, "sent over PCIe, over 20 ms; once a second"),
        Column("pcie_rx_bytes_per_s", float, "received over PCIe, over 20 ms; once a second"),
        Column("process_memory_bytes", int, "device memory of the tree; once a second"),
    ),
    "host_samples": (
        *_MOMENT,
        Column("cpu_pct", float, "cores that were busy, of all"),
        Column("cores_pct", str, "busy time of each core, as a JSON list of percents"),
        Column("memory_used_bytes", int, "memory of the machine that is not available"),
    ),
    "process_samples": (
        *_MOMENT,
        Column("processes", int, "processes of the tree"),
        Column("threads", int, "their threads"),
        Column(
            "cpu_pct", float, "processor time of the tree in clock ticks of 10 ms; 100 is a core"
        ),
        Column("rss_bytes", int, "memory resident, with what processes share counted for each"),
        Column("read_bytes", int, "read from storage since each process began"),
        Column("written_bytes", int, "written to storage since each process began"),
        Column("voluntary_switches", int, "cores given up since each began; once a second"),
        Column("involuntary_switches", int, "cores taken away since each began; once a second"),
    ),
    "notes": (
        *_MOMENT,
        Column("code", str, "what it is about"),
        Column("message", str, "what could not be asked, said once"),
    ),
    "columns": (
        Column("table", str, "table"),
        Column("column", str, "column"),
        Column("meaning", str, "what it holds"),
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
